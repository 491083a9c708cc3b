//! Where a file's blocks lie: one question, answered by an extent tree or by indirect blocks.

use super::Ext;
use super::inode::{Inode, flag};
use super::{extent, indirect};
use crate::error::{Error, Result};

/// Consecutive blocks of a file with one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// How many; at least 1.
    pub(super) blocks: u64,
    pub(super) place: Place,
}

/// Where a stretch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From this block of the volume on.
    At(u64),
    /// Allocated, never written: reads as zero.
    Unwritten,
    /// Not allocated: reads as zero.
    Hole,
}

impl Place {
    /// Does `next` go on where this ends after `blocks` blocks?
    fn goes_on(self, blocks: u64, next: Self) -> bool {
        match self {
            Self::At(start) => next == Self::At(start.saturating_add(blocks)),
            _ => self == next,
        }
    }
}

impl Ext {
    /// The stretch from the file's block `logical` on. It ends early where extents do; it goes on over several of them
    /// up to `want` blocks.
    ///
    /// # Errors
    /// `Corrupt` when the map contradicts itself or leaves the file system.
    pub(super) fn map(&self, inode: &Inode, logical: u64, want: u64) -> Result<Stretch> {
        let mut all = self.map_one(inode, logical)?;
        while all.blocks < want {
            let next = self.map_one(inode, logical.saturating_add(all.blocks));
            // What lies behind is not this caller's yet: its error comes when it is asked for.
            let Ok(next) = next else { break };
            if !all.place.goes_on(all.blocks, next.place) {
                break;
            }
            all.blocks = all.blocks.saturating_add(next.blocks);
        }
        Ok(all)
    }

    fn map_one(&self, inode: &Inode, logical: u64) -> Result<Stretch> {
        let Ok(logical) = u32::try_from(logical) else {
            return Err(
                Error::corrupt(inode.at()).because(format!("has a block {logical}; numbers have 32 bits"))
            );
        };
        let stretch = if let Some(stretch) = self.patches.stretch(inode.ino, logical.into()) {
            Ok(stretch)
        } else if inode.has(flag::EXTENTS) {
            extent::find(self, inode, logical)
        } else {
            indirect::find(self, inode, logical)
        }?;
        if let Place::At(start) = stretch.place
            && self.sb.block_offset(start, stretch.blocks).is_none()
        {
            return Err(Error::corrupt(inode.at()).because(format!(
                "its block {logical} lies at block {start}, past the {} of the file system",
                self.sb.blocks
            )));
        }
        Ok(stretch)
    }
}
