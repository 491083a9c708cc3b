//! What stands in for a file system that a guest mounts and the image lacks, so that nothing below it is taken for absent.

use crate::error::{Error, Result};
use crate::fs::{DirEntry, FileSystem, FsFacts, Ino, Stat};
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
        Ok(Stat::empty_dir(ino))
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
