//! What stands in for a file system that a guest mounts and the image lacks, so that nothing below it is taken for absent.

use crate::error::{Error, Result};
use crate::fs::{DirEntry, FileSystem, FileType, FsFacts, Ino, Stat, Time};
use std::ops::ControlFlow;

/// A file system that is not there: it has a root, and everything else fails with the reason.
#[derive(Debug)]
pub(super) struct Missing(pub(super) Error);

impl FileSystem for Missing {
    fn root(&self) -> Ino {
        Ino(0)
    }

    fn lookup(&self, _dir: Ino, _name: &[u8]) -> Result<Option<Ino>> {
        Err(self.0.clone())
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let time = Time::default();
        Ok(Stat {
            ino,
            kind: FileType::Dir,
            size: 0,
            blocks: 0,
            mode: 0o755,
            nlink: 2,
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
        _dir: Ino,
        _from: u64,
        _sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Err(self.0.clone())
    }

    fn read_at(&self, _ino: Ino, _buf: &mut [u8], _offset: u64) -> Result<usize> {
        Err(self.0.clone())
    }

    fn readlink(&self, _ino: Ino) -> Result<Vec<u8>> {
        Err(self.0.clone())
    }

    fn facts(&self) -> FsFacts {
        FsFacts::default()
    }
}
