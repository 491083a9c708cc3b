//! What volumes are built of: pieces one behind the other, and a piece that is not there.

use crate::block::{BlockSource, Layout, Place, Run, check_range};
use crate::engine::Mapper;
use crate::error::{Error, Result};
use std::sync::Arc;

/// Sources one behind the other: the segments of a logical volume, the members of a linear array. One is itself.
pub(super) fn concat(pieces: Vec<Arc<dyn BlockSource>>, mapper: &Mapper) -> Arc<dyn BlockSource> {
    match <[_; 1]>::try_from(pieces) {
        Ok([only]) => only,
        Err(pieces) => {
            let mut end = 0_u64;
            let starts = pieces.iter().map(|piece| {
                let next = end.saturating_add(piece.len());
                std::mem::replace(&mut end, next)
            });
            let starts = starts.collect();
            mapper.map(Concat { pieces, starts, size: end })
        }
    }
}

/// See [`concat`].
#[derive(Debug)]
struct Concat {
    pieces: Vec<Arc<dyn BlockSource>>,
    /// Where each begins.
    starts: Vec<u64>,
    size: u64,
}

impl Layout for Concat {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.pieces
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let file = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.starts.get(file).copied().unwrap_or(0);
        let size = self.pieces.get(file).map_or(0, |piece| piece.len());
        let skip = offset.saturating_sub(start);
        Ok(Run { len: size.saturating_sub(skip), place: Place::Stored { file, offset: skip } })
    }

    fn unit_size(&self) -> u32 {
        self.pieces.first().map_or(4096, |piece| piece.preferred_size())
    }
}

/// A stretch whose bytes cannot be had, and why: every read fails with the reason.
#[derive(Debug)]
pub(super) struct Absent {
    len: u64,
    error: Error,
}

impl Absent {
    pub(super) fn source(len: u64, error: Error) -> Arc<dyn BlockSource> {
        Arc::new(Self { len, error })
    }
}

impl BlockSource for Absent {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        if buf.is_empty() { Ok(()) } else { Err(self.error.clone()) }
    }

    fn extent(&self, _offset: u64) -> Result<crate::block::Extent> {
        Err(self.error.clone())
    }

    fn step(&self, _offset: u64) -> Result<crate::block::Step> {
        Err(self.error.clone())
    }
}

/// Zeros, as `/dev/zero` or device-mapper's `zero` gives them.
#[derive(Debug)]
pub(super) struct Zeros(pub(super) u64);

impl BlockSource for Zeros {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.0)?;
        buf.fill(0);
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<crate::block::Extent> {
        Ok(crate::block::Extent { len: self.0.saturating_sub(offset), zero: true, hole: true })
    }

    fn step(&self, offset: u64) -> Result<crate::block::Step> {
        check_range(offset, 1, self.0)?;
        Ok(crate::block::Step { len: self.0.saturating_sub(offset), below: crate::block::Below::Zero })
    }
}

/// Cuts `len` bytes out of a source from `start` on; all of it is itself.
pub(super) fn slice(source: &Arc<dyn BlockSource>, start: u64, len: u64) -> Result<Arc<dyn BlockSource>> {
    if start == 0 && len == source.len() {
        return Ok(Arc::clone(source));
    }
    Ok(Arc::new(crate::engine::Slice::new(Arc::clone(source), start, len)?))
}
