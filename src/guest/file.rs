//! Files of a guest as its parsers want them: whole and small, or streamed. Absent and unreadable are never the same.

use super::evidence::Evidence;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileType;
use crate::fs::tree::{Follow, Node, Tree};
use crate::num::wide;
use crate::text::escape;
use std::io;
use std::ops::ControlFlow;

/// The longest configuration file that is read; the largest seen is a `grub.cfg` of some 100 KiB.
pub const MAX_CONFIG: u64 = 4 << 20;
/// The most names of one directory that are looked at.
const MAX_NAMES: usize = 100_000;
/// Bytes that [`Input`] fetches first; twice as many each time, since who goes on wants more, up to the larger. Far away
/// each fetch costs a round trip.
const CHUNKS: [usize; 2] = [1 << 20, 4 << 20];

/// A small file, read whole.
#[derive(Clone, Debug)]
pub struct GuestFile {
    /// Its path in the guest's tree.
    pub path: Vec<u8>,
    /// The volume it lies on.
    pub volume: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl GuestFile {
    /// Its lines, numbered from 1, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let lines = self.bytes.split(|byte| *byte == b'\n');
        (1_u64..).zip(lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// The file itself as evidence.
    #[must_use]
    pub fn evidence(&self, what: impl Into<String>) -> Evidence {
        Evidence::new(what).on(&self.volume).path(&self.path)
    }
}

/// Reads a regular file of at most `cap` bytes; `None` when there is none.
///
/// # Errors
/// When it is there but cannot be read, is no regular file, or is longer than `cap`.
pub fn read(tree: &Tree, path: impl AsRef<[u8]>, cap: u64) -> Result<Option<GuestFile>> {
    let path = path.as_ref();
    let inner = || -> Result<Option<GuestFile>> {
        let Some(node) = tree.find(path)? else { return Ok(None) };
        let kind = tree.stat(node)?.kind;
        if kind != FileType::File {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("is a {} where a file is expected", kind.name()),
            ));
        }
        let bytes = tree.read_all(node, cap)?;
        Ok(Some(GuestFile { path: path.to_vec(), volume: tree.volume(node).to_owned(), bytes }))
    };
    inner().map_err(|error| error.context(escape(path)))
}

/// The first of several files that is there.
///
/// # Errors
/// As [`read`], of the first that is there.
pub fn read_first(tree: &Tree, paths: &[&str], cap: u64) -> Result<Option<GuestFile>> {
    for path in paths {
        if let Some(file) = read(tree, path, cap)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Is there anything at this path? Links are followed, a dangling one is nothing.
///
/// # Errors
/// When that cannot be said.
pub fn exists(tree: &Tree, path: impl AsRef<[u8]>) -> Result<bool> {
    let path = path.as_ref();
    tree.find(path).map(|node| node.is_some()).map_err(|error| error.context(escape(path)))
}

/// What stands at this path, a link at its end not followed.
///
/// # Errors
/// When that cannot be said.
pub fn entry(tree: &Tree, path: impl AsRef<[u8]>) -> Result<Option<Node>> {
    let path = path.as_ref();
    match tree.resolve(path, Follow::No) {
        Ok(node) => Ok(Some(node)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.context(escape(path))),
    }
}

/// The sorted names of a directory; none when there is no such directory.
///
/// # Errors
/// When it is there but cannot be read.
pub fn names(tree: &Tree, path: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>> {
    let path = path.as_ref();
    let inner = || -> Result<Vec<Vec<u8>>> {
        let Some(node) = tree.find(path)? else { return Ok(Vec::new()) };
        if tree.stat(node)?.kind != FileType::Dir {
            return Ok(Vec::new());
        }
        let (mut names, mut full) = (Vec::new(), false);
        tree.readdir(node, 0, &mut |entry| {
            full = names.len() >= MAX_NAMES;
            if full {
                return ControlFlow::Break(());
            }
            names.push(entry.name.to_vec());
            ControlFlow::Continue(())
        })?;
        if full {
            return Err(Error::limit(format!("a directory of more than {MAX_NAMES} names")));
        }
        names.sort_unstable();
        Ok(names)
    };
    inner().map_err(|error| error.context(escape(path)))
}

/// A file as a stream: what is ahead can be looked at before it is taken.
#[derive(Debug)]
pub struct Input<'a> {
    tree: &'a Tree,
    node: Node,
    /// Where the next chunk starts.
    next: u64,
    /// Where the part that is read ends.
    end: u64,
    buffer: Vec<u8>,
    taken: usize,
    /// Bytes to fetch next time.
    chunk: usize,
    /// What a read failed with; `std::io` cannot carry it.
    failed: Option<Error>,
}

impl<'a> Input<'a> {
    /// From the first byte of a file on.
    #[must_use]
    pub fn new(tree: &'a Tree, node: Node) -> Self {
        Self::within(tree, node, 0, u64::MAX)
    }

    /// Of a part of a file alone.
    #[must_use]
    pub fn within(tree: &'a Tree, node: Node, start: u64, len: u64) -> Self {
        let end = start.saturating_add(len);
        Self { tree, node, next: start, end, buffer: Vec::new(), taken: 0, chunk: CHUNKS[0], failed: None }
    }

    /// Up to `want` bytes ahead; fewer only at the end of the file.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn peek(&mut self, want: usize) -> Result<&[u8]> {
        while self.rest().len() < want && self.fetch()? {}
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        Ok(rest.get(..want).unwrap_or(rest))
    }

    /// Where the next byte lies in the file.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next.saturating_sub(wide(self.rest().len()))
    }

    /// Puts back what a decoder took and did not use.
    pub fn put_back(&mut self, unused: &[u8]) {
        // What was taken last still stands in the buffer, unless the decoder read past a chunk.
        let mut bytes = unused.to_vec();
        bytes.extend_from_slice(self.rest());
        (self.buffer, self.taken) = (bytes, 0);
    }

    /// The error that made a read through `std::io` fail, once.
    pub fn take_error(&mut self) -> Option<Error> {
        self.failed.take()
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    /// One more chunk; `false` at the end of the file.
    fn fetch(&mut self) -> Result<bool> {
        let left = usize::try_from(self.end.saturating_sub(self.next)).unwrap_or(usize::MAX);
        let mut chunk = vec![0; self.chunk.min(left)];
        self.chunk = self.chunk.saturating_mul(2).min(CHUNKS[1]);
        let read = self.tree.read_at(self.node, &mut chunk, self.next)?;
        chunk.truncate(read);
        self.next = self.next.saturating_add(wide(read));
        self.buffer.drain(..self.taken.min(self.buffer.len()));
        self.taken = 0;
        self.buffer.extend_from_slice(&chunk);
        Ok(read > 0)
    }
}

impl io::BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest().is_empty()
            && let Err(error) = self.fetch()
        {
            let text = error.chain();
            self.failed = Some(error);
            return Err(io::Error::other(text));
        }
        Ok(self.rest())
    }

    fn consume(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count).min(self.buffer.len());
    }
}

impl io::Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let ahead = io::BufRead::fill_buf(self)?;
        let count = ahead.len().min(buf.len());
        let (Some(from), Some(to)) = (ahead.get(..count), buf.get_mut(..count)) else { return Ok(0) };
        to.copy_from_slice(from);
        io::BufRead::consume(self, count);
        Ok(count)
    }
}
