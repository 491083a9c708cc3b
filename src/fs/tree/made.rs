//! Directories that no file system of a tree holds, but that booting would make: the mount points in `fstab` that are
//! missing, with what is missing above them (`mkdir -p`, as systemd does before it mounts).

use super::Node;
use crate::error::{Error, Result};
use crate::fs::{DirEntry, FileSystem, FsFacts, Ino, Stat};
use crate::num::wide;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// [`Node::fs`] of what was made: no tree has as many mounts.
pub(super) const MADE: usize = usize::MAX;
/// Directories made in one tree at most; each mount needs one, and those above it.
const MAX_MADE: usize = 4096;
/// Where the cookies of made names begin. Of a directory's own names, none comes so far: the kernel's cookies are
/// numbers of 63 bits too, and the last of them mean the end.
const FIRST_COOKIE: u64 = (1 << 63) - (1 << 16);

/// What was made, by the directory in which it stands.
#[derive(Debug)]
pub(super) struct Made {
    names: HashMap<Node, Vec<(Vec<u8>, Node)>>,
    count: usize,
    fs: Arc<dyn FileSystem>,
}

impl Default for Made {
    fn default() -> Self {
        Self { names: HashMap::new(), count: 0, fs: Arc::new(Empty) }
    }
}

impl Made {
    /// The file system of the made directories themselves.
    pub(super) fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    /// One more directory in `dir`, where nothing is called so.
    ///
    /// # Errors
    /// `Limit` when there are too many.
    pub(super) fn make(&mut self, dir: Node, name: &[u8]) -> Result<Node> {
        if self.count >= MAX_MADE {
            return Err(Error::limit(format!("more than {MAX_MADE} mount points that are missing")));
        }
        self.count = self.count.saturating_add(1);
        let node = Node { fs: MADE, ino: Ino(wide(self.count)) };
        self.names.entry(dir).or_default().push((name.to_vec(), node));
        Ok(node)
    }

    /// What was made in `dir` under this name.
    pub(super) fn lookup(&self, dir: Node, name: &[u8]) -> Option<Node> {
        let names = self.names.get(&dir)?;
        names.iter().find(|(own, _)| own == name).map(|(_, node)| *node)
    }

    /// The names made in `dir` from a cookie on, each with the cookie behind it. `None` when there are none at all.
    pub(super) fn list(&self, dir: Node, from: u64) -> Option<impl Iterator<Item = (u64, &[u8], Node)>> {
        let skip = crate::num::narrow(from.saturating_sub(FIRST_COOKIE));
        let cookies = FIRST_COOKIE.saturating_add(1)..;
        let all = cookies.zip(self.names.get(&dir)?).skip(skip);
        Some(all.map(|(next, (name, node))| (next, name.as_slice(), *node)))
    }

    /// Does a cookie stand among the made names, behind all that the directory holds itself?
    pub(super) fn is_own(from: u64) -> bool {
        from > FIRST_COOKIE
    }
}

/// Directories without an entry, under every number.
#[derive(Debug)]
struct Empty;

impl FileSystem for Empty {
    fn root(&self) -> Ino {
        Ino(0)
    }

    fn lookup(&self, _dir: Ino, _name: &[u8]) -> Result<Option<Ino>> {
        Ok(None)
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        Ok(Stat::empty_dir(ino))
    }

    fn readdir(
        &self,
        _dir: Ino,
        _from: u64,
        _sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Ok(())
    }

    fn read_at(&self, _ino: Ino, _buf: &mut [u8], _offset: u64) -> Result<usize> {
        Err(Error::unsupported("reading a directory"))
    }

    fn readlink(&self, _ino: Ino) -> Result<Vec<u8>> {
        Err(Error::unsupported("reading a directory"))
    }

    fn facts(&self) -> FsFacts {
        FsFacts::default()
    }
}
