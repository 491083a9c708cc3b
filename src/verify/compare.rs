//! Compares what two readers say, byte by byte and file by file.

use super::{DiskReader, Event, FileReader, Finding, Seen, Sums, Verdict};
use crate::block::BlockSource;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::{Enter, Node, Tree};
use crate::fs::{FileType, Stat, Time};
use crate::num::{narrow, wide};
use base64::Engine as _;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Bytes compared at once.
const CHUNK: u64 = 4 << 20;
/// Granularity in which differing ranges are told.
const GRAIN: usize = 512;
/// Findings told of one subject; the others are counted.
const MAX_FINDINGS: u64 = 1000;
/// How often the parent hears of us.
const BEAT: Duration = Duration::from_millis(500);
/// Directories in each other that are looked into where the other reader alone knows the way.
const MAX_DEPTH: usize = 512;

/// Collects findings and passes them on.
pub(super) struct Log<'a> {
    send: &'a mut dyn FnMut(Event),
    sums: Sums,
    told: u64,
    beat: Instant,
    /// Tell what agrees, too.
    all: bool,
}

impl<'a> Log<'a> {
    pub(super) fn new(all: bool, send: &'a mut dyn FnMut(Event)) -> Self {
        Self { send, sums: Sums::default(), told: 0, beat: Instant::now(), all }
    }

    fn tell(&mut self, finding: Finding) {
        if finding.verdict == Verdict::Agree && !self.all {
            return self.beat();
        }
        if finding.verdict != Verdict::Agree {
            self.told = self.told.saturating_add(1);
            if self.told > MAX_FINDINGS {
                self.sums.more = self.sums.more.saturating_add(1);
                return self.beat();
            }
        }
        (self.send)(Event::Found(finding));
    }

    fn beat(&mut self) {
        if self.beat.elapsed() >= BEAT {
            self.beat = Instant::now();
            (self.send)(Event::Beat);
        }
    }

    pub(super) fn end(self) {
        (self.send)(Event::End(self.sums));
    }
}

/// Has the other reader panicked or hung? Then there is nobody left to ask.
fn broke_down(error: &Error) -> bool {
    error.kind() == ErrorKind::Internal
}

fn about(path: Option<&[u8]>, verdict: Verdict, range: Option<(u64, u64)>, reason: String) -> Finding {
    let text = path.map(String::from_utf8_lossy);
    let exact = path.filter(|path| std::str::from_utf8(path).is_err());
    Finding {
        verdict,
        path: text.map(std::borrow::Cow::into_owned),
        path_bytes: exact.map(|path| base64::engine::general_purpose::STANDARD.encode(path)),
        start: range.map(|(start, _)| start),
        length: range.map(|(_, length)| length),
        reason,
    }
}

/// Ranges of one verdict, joined while they follow each other.
struct Ranges<'p> {
    path: Option<&'p [u8]>,
    open: Option<(Verdict, u64, u64, String)>,
    bad: bool,
}

impl<'p> Ranges<'p> {
    const fn new(path: Option<&'p [u8]>) -> Self {
        Self { path, open: None, bad: false }
    }

    fn add(&mut self, log: &mut Log<'_>, verdict: Verdict, start: u64, length: u64, reason: String) {
        self.bad = true;
        if let Some((known, from, so_far, why)) = &mut self.open
            && *known == verdict
            && from.saturating_add(*so_far) == start
            && *why == reason
        {
            *so_far = so_far.saturating_add(length);
            return;
        }
        self.close(log);
        self.open = Some((verdict, start, length, reason));
    }

    fn close(&mut self, log: &mut Log<'_>) {
        if let Some((verdict, start, length, reason)) = self.open.take() {
            log.tell(about(self.path, verdict, Some((start, length)), reason));
        }
    }

    /// Compares one chunk that both, one or neither could read.
    fn chunk(
        &mut self,
        log: &mut Log<'_>,
        at: u64,
        len: u64,
        ours: Result<Vec<u8>>,
        theirs: Result<Vec<u8>>,
    ) -> Result<()> {
        match (ours, theirs) {
            (_, Err(error)) if broke_down(&error) => {
                self.close(log);
                return Err(error);
            }
            (Ok(_), Err(error)) => self.add(log, Verdict::OtherCannot, at, len, error.chain()),
            (Err(error), Ok(_)) => self.add(log, Verdict::WeCannot, at, len, error.chain()),
            (Err(ours), Err(theirs)) => {
                let reason = format!("neither can: {}; the other: {}", ours.chain(), theirs.chain());
                self.add(log, Verdict::OtherCannot, at, len, reason);
            }
            (Ok(ours), Ok(theirs)) => {
                log.sums.bytes = log.sums.bytes.saturating_add(len);
                if ours != theirs {
                    self.differences(log, at, &ours, &theirs);
                }
            }
        }
        log.beat();
        Ok(())
    }

    fn differences(&mut self, log: &mut Log<'_>, at: u64, ours: &[u8], theirs: &[u8]) {
        let mut offset = at;
        for (a, b) in ours.chunks(GRAIN).zip(theirs.chunks(GRAIN)) {
            let len = wide(a.len().max(b.len()));
            if a != b {
                self.add(log, Verdict::Differ, offset, len, String::new());
            }
            offset = offset.saturating_add(len);
        }
        if ours.len() != theirs.len() {
            let reason = format!("{} bytes here, {} there", ours.len(), theirs.len());
            self.add(log, Verdict::Differ, at, wide(ours.len().max(theirs.len())), reason);
        }
    }
}

/// Compares a whole disk.
///
/// # Errors
/// `Internal` when the other reader broke down.
pub(super) fn disk(ours: &dyn BlockSource, other: &dyn DiskReader, log: &mut Log<'_>) -> Result<()> {
    if ours.len() != other.size() {
        let reason = format!("{} bytes here, {} there", ours.len(), other.size());
        log.tell(about(None, Verdict::Differ, None, reason));
    }
    let size = ours.len().min(other.size());
    let mut ranges = Ranges::new(None);
    let mut at = 0;
    while at < size {
        let len = CHUNK.min(size.saturating_sub(at));
        let mut buf = vec![0; narrow(len)];
        let mine = ours.read_at(&mut buf, at).map(|()| buf);
        let theirs = other.read(at, narrow(len));
        ranges.chunk(log, at, len, mine, theirs)?;
        at = at.saturating_add(len);
    }
    ranges.close(log);
    if !ranges.bad && log.all {
        log.tell(about(None, Verdict::Agree, Some((0, size)), String::new()));
    }
    Ok(())
}

/// Compares every file of a volume.
///
/// # Errors
/// `Internal` when the other reader broke down.
pub(super) fn files(tree: &Tree, other: &dyn FileReader, log: &mut Log<'_>) -> Result<()> {
    one(tree, tree.root(), b"/", &tree.stat(tree.root()), other, log)?;
    tree.walk(b"/", tree.root(), &mut |visit| {
        if visit.is_dir_error {
            let reason = visit.found.err().map(|error| error.chain()).unwrap_or_default();
            log.tell(about(Some(visit.path), Verdict::WeCannot, None, reason));
        } else {
            one(tree, visit.node, visit.path, &visit.found, other, log)?;
        }
        Ok(Enter::Yes)
    })
}

fn one(
    tree: &Tree,
    node: Node,
    path: &[u8],
    stat: &Result<Stat>,
    other: &dyn FileReader,
    log: &mut Log<'_>,
) -> Result<()> {
    log.sums.files = log.sums.files.saturating_add(1);
    let mut tell = |verdict, reason| log.tell(about(Some(path), verdict, None, reason));
    let (stat, seen) = match (stat, other.look(path)) {
        (_, Err(error)) if broke_down(&error) => return Err(error),
        (Ok(_), Err(error)) => {
            tell(Verdict::OtherCannot, error.chain());
            return Ok(());
        }
        (Err(error), Ok(_)) => {
            tell(Verdict::WeCannot, error.chain());
            return Ok(());
        }
        (Err(ours), Err(theirs)) => {
            tell(
                Verdict::OtherCannot,
                format!("neither can: {}; the other: {}", ours.chain(), theirs.chain()),
            );
            return Ok(());
        }
        (Ok(stat), Ok(seen)) => (stat, seen),
    };
    let differences = facts(tree, node, stat, &seen);
    let mut good = differences.is_empty();
    for reason in differences {
        tell(Verdict::Differ, reason);
    }
    match (stat.kind, seen.kind) {
        (FileType::File, FileType::File) => good &= content(tree, node, path, stat, &seen, other, log)?,
        (FileType::Dir, FileType::Dir) => good &= names(tree, node, path, other, log)?,
        _ => {}
    }
    if good {
        log.tell(about(Some(path), Verdict::Agree, None, String::new()));
    }
    Ok(())
}

/// What the inode says, in both readings.
fn facts(tree: &Tree, node: Node, stat: &Stat, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, ours: String, theirs: Option<String>| {
        if let Some(theirs) = theirs.filter(|theirs| *theirs != ours) {
            found.push(format!("{what}: {ours} here, {theirs} there"));
        }
    };
    let time = |time: Time| format!("{}.{:09}", time.secs, time.nanos);
    compare("type", stat.kind.name().to_owned(), Some(seen.kind.name().to_owned()));
    // The size of a directory or device is its file system's own affair.
    if matches!(stat.kind, FileType::File | FileType::Symlink) {
        compare("size", stat.size.to_string(), seen.size.map(|size| size.to_string()));
    }
    compare("mode", format!("{:04o}", stat.mode), seen.mode.map(|mode| format!("{mode:04o}")));
    compare(
        "owner",
        format!("{}:{}", stat.uid, stat.gid),
        seen.owner.map(|(uid, gid)| format!("{uid}:{gid}")),
    );
    compare("mtime", time(stat.mtime), seen.mtime.map(time));
    if stat.kind == FileType::Symlink {
        let shown = |target: &[u8]| crate::text::escape(target).to_string();
        let ours = tree.readlink(node).map_or_else(|error| error.chain(), |target| shown(&target));
        compare("target", ours, seen.target.as_deref().map(shown));
    }
    found
}

fn content(
    tree: &Tree,
    node: Node,
    path: &[u8],
    stat: &Stat,
    seen: &Seen,
    other: &dyn FileReader,
    log: &mut Log<'_>,
) -> Result<bool> {
    let size = stat.size.min(seen.size.unwrap_or(stat.size));
    let mut ranges = Ranges::new(Some(path));
    let mut at = 0;
    while at < size {
        let len = CHUNK.min(size.saturating_sub(at));
        let mut buf = vec![0; narrow(len)];
        let mine = tree.read_at(node, &mut buf, at).map(|read| {
            buf.truncate(read);
            buf
        });
        let theirs = other.read(path, at, narrow(len));
        ranges.chunk(log, at, len, mine, theirs)?;
        at = at.saturating_add(len);
    }
    ranges.close(log);
    Ok(!ranges.bad)
}

/// The names of a directory, in both readings.
fn names(tree: &Tree, dir: Node, path: &[u8], other: &dyn FileReader, log: &mut Log<'_>) -> Result<bool> {
    let mut ours = BTreeSet::new();
    let mut mine = tree.readdir(dir, 0, &mut |entry| {
        ours.insert(entry.name.to_vec());
        ControlFlow::Continue(())
    });
    let theirs: BTreeSet<Vec<u8>> = match other.names(path) {
        Err(error) if broke_down(&error) => return Err(error),
        Err(error) => {
            log.tell(about(Some(path), Verdict::OtherCannot, None, error.chain()));
            return Ok(false);
        }
        Ok(names) => names.into_iter().collect(),
    };
    if let Err(error) = std::mem::replace(&mut mine, Ok(())) {
        log.tell(about(Some(path), Verdict::WeCannot, None, error.chain()));
        return Ok(false);
    }
    for name in ours.symmetric_difference(&theirs) {
        let mut child = path.to_vec();
        if !child.ends_with(b"/") {
            child.push(b'/');
        }
        child.extend_from_slice(name);
        let who = if ours.contains(name) { "only we list it" } else { "only the other lists it" };
        log.tell(about(Some(&child), Verdict::Differ, None, who.to_owned()));
    }
    Ok(ours == theirs)
}

/// Walks what only the other reader can read: what it can open, and what not.
///
/// # Errors
/// `Internal` when it broke down.
pub(super) fn alone(other: &dyn FileReader, log: &mut Log<'_>) -> Result<()> {
    let mut todo = vec![(b"/".to_vec(), 0_usize)];
    while let Some((dir, depth)) = todo.pop() {
        let names = match other.names(&dir) {
            Err(error) if broke_down(&error) => return Err(error),
            Err(error) => {
                log.tell(about(Some(&dir), Verdict::OtherCannot, None, error.chain()));
                continue;
            }
            Ok(names) => names,
        };
        for name in names {
            let mut path = dir.clone();
            if !path.ends_with(b"/") {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            log.sums.files = log.sums.files.saturating_add(1);
            log.beat();
            match other.look(&path) {
                Err(error) if broke_down(&error) => return Err(error),
                Err(error) => log.tell(about(Some(&path), Verdict::OtherCannot, None, error.chain())),
                Ok(seen) if seen.kind == FileType::Dir && depth < MAX_DEPTH => {
                    todo.push((path, depth.saturating_add(1)));
                }
                Ok(_) => {
                    if log.all {
                        log.tell(about(Some(&path), Verdict::OtherOnly, None, String::new()));
                    }
                }
            }
        }
    }
    let reason = "we have no reader for this file system yet; the other lists it".to_owned();
    log.tell(about(None, Verdict::OtherOnly, None, reason));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::memory::Memory;

    /// Says what it is told to say.
    struct Bytes(Vec<u8>, Option<std::ops::Range<u64>>);

    impl DiskReader for Bytes {
        fn size(&self) -> u64 {
            wide(self.0.len())
        }

        fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
            if self.1.as_ref().is_some_and(|bad| bad.contains(&offset)) {
                return Err(Error::new(ErrorKind::Unsupported, "no"));
            }
            Ok(self.0[narrow(offset)..][..len].to_vec())
        }
    }

    fn findings(ours: &[u8], theirs: &Bytes) -> Vec<(Verdict, Option<u64>, Option<u64>)> {
        let mut found = Vec::new();
        let mut send = |event| {
            if let Event::Found(finding) = event {
                found.push((finding.verdict, finding.start, finding.length));
            }
        };
        disk(&Memory::new(ours, "ours"), theirs, &mut Log::new(false, &mut send)).unwrap();
        found
    }

    #[test]
    fn equal_disks_agree() {
        assert_eq!(findings(&[7; 5000], &Bytes(vec![7; 5000], None)), []);
    }

    #[test]
    fn a_differing_stretch_is_told_once_with_its_place() {
        let mut theirs = vec![7; 5000];
        theirs[1024..2100].fill(8);
        assert_eq!(findings(&[7; 5000], &Bytes(theirs, None)), [(Verdict::Differ, Some(1024), Some(1536))]);
    }

    #[test]
    fn what_the_other_cannot_read_is_no_difference() {
        let size = narrow(CHUNK).saturating_mul(3);
        let theirs = Bytes(vec![7; size], Some(CHUNK..CHUNK.saturating_mul(2)));
        assert_eq!(findings(&vec![7; size], &theirs), [(Verdict::OtherCannot, Some(CHUNK), Some(CHUNK))]);
    }

    #[test]
    fn another_size_is_a_difference() {
        assert_eq!(findings(&[7; 5000], &Bytes(vec![7; 4000], None)), [(Verdict::Differ, None, None)]);
    }
}
