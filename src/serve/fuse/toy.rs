//! A file system for tests, made of paths: hostile ones included that no real tool would make.

use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::Tree;
use crate::fs::{DirEntry, FileSystem, FileType, FsFacts, Ino, Stat, Time};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

#[derive(Debug)]
enum Content {
    Dir(BTreeMap<Vec<u8>, Ino>),
    Link(Vec<u8>),
    /// Reading its target is an error.
    BadLink,
    Bytes(Vec<u8>),
    /// Reading it is an error.
    Bad,
    /// Reading it finds that a device is not there.
    Lost,
    /// Reading it is a bug.
    Bug,
}

#[derive(Debug)]
pub(super) struct Toy {
    nodes: Vec<Content>,
}

impl Toy {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Content::Dir(BTreeMap::new())] }
    }

    fn number(at: usize) -> Ino {
        Ino(crate::num::wide(at).saturating_add(2))
    }

    fn node(&self, ino: Ino) -> Result<&Content> {
        let at = crate::num::narrow(ino.0.wrapping_sub(2));
        self.nodes.get(at).ok_or_else(|| Error::new(ErrorKind::Corrupt, "no such inode"))
    }

    fn dir(&mut self, path: &str) -> Ino {
        let mut here = Ino(2);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            here = match self.lookup(here, name.as_bytes()).unwrap() {
                Some(next) => next,
                None => self.add(here, name, Content::Dir(BTreeMap::new())),
            };
        }
        here
    }

    fn name(&mut self, dir: Ino, name: &str, ino: Ino) {
        let Some(Content::Dir(entries)) = self.nodes.get_mut(crate::num::narrow(dir.0.wrapping_sub(2)))
        else {
            panic!("not a directory")
        };
        entries.insert(name.as_bytes().to_vec(), ino);
    }

    fn add(&mut self, dir: Ino, name: &str, content: Content) -> Ino {
        let ino = Self::number(self.nodes.len());
        self.nodes.push(content);
        self.name(dir, name, ino);
        ino
    }

    fn put(mut self, path: &str, content: Content) -> Self {
        let (dir, name) = path.rsplit_once('/').unwrap();
        let dir = self.dir(dir);
        self.add(dir, name, content);
        self
    }

    pub(super) fn with_dir(mut self, path: &str) -> Self {
        self.dir(path);
        self
    }

    pub(super) fn with_file(self, path: &str, bytes: &[u8]) -> Self {
        self.put(path, Content::Bytes(bytes.to_vec()))
    }

    pub(super) fn with_link(self, path: &str, target: &str) -> Self {
        self.put(path, Content::Link(target.as_bytes().to_vec()))
    }

    pub(super) fn with_bad_link(self, path: &str) -> Self {
        self.put(path, Content::BadLink)
    }

    pub(super) fn with_bad_file(self, path: &str) -> Self {
        self.put(path, Content::Bad)
    }

    pub(super) fn with_lost_file(self, path: &str) -> Self {
        self.put(path, Content::Lost)
    }

    pub(super) fn with_bug(self, path: &str) -> Self {
        self.put(path, Content::Bug)
    }

    /// A second name for what is there, directories included.
    pub(super) fn with_hard_link(mut self, path: &str, to: &str) -> Self {
        let (dir, name) = path.rsplit_once('/').unwrap();
        let dir = self.dir(dir);
        let mut ino = Ino(2);
        for part in to.split('/').filter(|part| !part.is_empty()) {
            ino = self.lookup(ino, part.as_bytes()).unwrap().unwrap();
        }
        self.name(dir, name, ino);
        self
    }

    /// A name that leads to no inode.
    pub(super) fn with_dangling_name(mut self, path: &str) -> Self {
        let (dir, name) = path.rsplit_once('/').unwrap();
        let dir = self.dir(dir);
        self.name(dir, name, Ino(9999));
        self
    }

    pub(super) fn tree(self) -> Arc<Tree> {
        Arc::new(Tree::new("toy", Arc::new(self)))
    }
}

impl FileSystem for Toy {
    fn root(&self) -> Ino {
        Ino(2)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        match self.node(dir)? {
            Content::Dir(entries) => Ok(entries.get(name).copied()),
            _ => Ok(None),
        }
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let (kind, size) = match self.node(ino)? {
            Content::Dir(_) => (FileType::Dir, 0),
            Content::Link(target) => (FileType::Symlink, target.len()),
            Content::BadLink => (FileType::Symlink, 2),
            Content::Bytes(bytes) => (FileType::File, bytes.len()),
            Content::Bad | Content::Lost | Content::Bug => (FileType::File, 4096),
        };
        let time = Time { secs: 1_000_000_000, nanos: 123_456_789 };
        Ok(Stat {
            ino,
            kind,
            size: crate::num::wide(size),
            blocks: 8,
            mode: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: (0, 0),
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
            blksize: 4096,
        })
    }

    fn readdir(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let Content::Dir(entries) = self.node(dir)? else { return Err(Error::not_found("directory")) };
        for ((name, ino), next) in entries.iter().zip(1_u64..).skip(crate::num::narrow(from)) {
            if sink(DirEntry { ino: *ino, kind: None, name, next }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        match self.node(ino)? {
            Content::Bytes(bytes) => {
                let rest = bytes.get(crate::num::narrow(offset)..).unwrap_or_default();
                let len = rest.len().min(buf.len());
                buf[..len].copy_from_slice(&rest[..len]);
                Ok(len)
            }
            Content::Lost => Err(Error::not_found("device 2")),
            Content::Bug => panic!("a bug, on purpose"),
            _ => Err(Error::new(ErrorKind::Io, "cannot be read, on purpose")),
        }
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        match self.node(ino)? {
            Content::Link(target) => Ok(target.clone()),
            Content::BadLink => Err(Error::new(ErrorKind::Io, "cannot be read, on purpose")),
            _ => Err(Error::not_found("link")),
        }
    }

    fn facts(&self) -> FsFacts {
        FsFacts { kind: "toy", size: 1 << 30, free: Some(1 << 29), block_size: 4096, ..FsFacts::default() }
    }
}
