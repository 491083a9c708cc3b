//! Where the data of a file lie that are not packed: from a block on, behind the inode, or in chunks.

use super::Erofs;
use super::inode::{Inode, Layout, NO_BLOCK_32, NO_BLOCK_48};
use crate::error::{Error, Result};
use crate::ondisk::{get_le16, get_le32};

/// Bits of the format of a list of chunks: the size of a chunk, beyond a block's; eight bytes for each and not four;
/// 48 bits of block.
const CHUNK_LOG: u16 = 0x1f;
const CHUNK_INDEXES: u16 = 0x20;
const CHUNK_48: u16 = 0x40;
const CHUNK_KNOWN: u16 = 0x7f;

/// Consecutive bytes of a file with one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// How many; at least 1.
    pub(super) len: u64,
    pub(super) place: Place,
}

/// Where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From this byte of the volume on.
    At(u64),
    /// Nowhere: they read as zero.
    Hole,
}

impl Place {
    /// Does `next` go on where this ends after `len` bytes?
    fn goes_on(self, len: u64, next: Self) -> bool {
        match self {
            Self::At(start) => next == Self::At(start.saturating_add(len)),
            Self::Hole => next == Self::Hole,
        }
    }
}

impl Erofs {
    /// The stretch from byte `offset` on, which is before the file's end; `None` if the file is packed. It goes on over
    /// several chunks up to `want` bytes.
    ///
    /// # Errors
    /// `Corrupt` when the map contradicts itself; `Unsupported` for what lies on another device.
    pub(super) fn stretch(&self, inode: &Inode, offset: u64, want: u64) -> Result<Option<Stretch>> {
        let one = |offset| match inode.layout {
            Layout::Plain(start) => Ok(Some(self.plain(inode, start, offset))),
            Layout::Inline(start) => self.inline(inode, start, offset).map(Some),
            Layout::Chunks(format) => self.chunk(inode, format, offset).map(Some),
            Layout::Full | Layout::Compact => Ok(None),
        };
        let Some(mut all) = one(offset)? else { return Ok(None) };
        while all.len < want && offset.saturating_add(all.len) < inode.size {
            // What lies behind is not this caller's yet: its error comes when it is asked for.
            let Ok(Some(next)) = one(offset.saturating_add(all.len)) else { break };
            if !all.place.goes_on(all.len, next.place) {
                break;
            }
            all.len = all.len.saturating_add(next.len);
        }
        if let Place::At(byte) = all.place {
            self.sb.on_this_device(0, byte)?;
        }
        Ok(Some(all))
    }

    fn plain(&self, inode: &Inode, start: Option<u64>, offset: u64) -> Stretch {
        let place =
            start.map_or(Place::Hole, |start| Place::At(self.sb.byte_of(start).saturating_add(offset)));
        Stretch { len: inode.size.saturating_sub(offset), place }
    }

    fn inline(&self, inode: &Inode, start: u64, offset: u64) -> Result<Stretch> {
        let block = self.sb.block_size();
        let blocks = inode.size.div_ceil(block);
        let tail = blocks.saturating_sub(1).saturating_mul(block);
        if offset < tail {
            let place = Place::At(self.sb.byte_of(start).saturating_add(offset));
            return Ok(Stretch { len: tail.saturating_sub(offset), place });
        }
        let skip = inode.behind() & block.saturating_sub(1);
        let len = inode.size.saturating_sub(tail);
        if skip.saturating_add(len) > block {
            return Err(Error::corrupt(inode.at())
                .because(format!("{len} bytes behind the inode go on in the next block")));
        }
        let place = Place::At(inode.behind().saturating_add(offset.saturating_sub(tail)));
        Ok(Stretch { len: inode.size.saturating_sub(offset), place })
    }

    fn chunk(&self, inode: &Inode, format: u16, offset: u64) -> Result<Stretch> {
        if format & !CHUNK_KNOWN != 0 {
            return Err(Error::unsupported(format!("an erofs chunk format {format:#x}")).at(inode.at()));
        }
        let log = self.sb.block_log.saturating_add(u32::from(format & CHUNK_LOG));
        let number = offset.checked_shr(log).unwrap_or(0);
        let start = number.checked_shl(log).unwrap_or(0);
        let skip = offset.saturating_sub(start);
        let len = 1_u64
            .checked_shl(log)
            .unwrap_or(u64::MAX)
            .min(inode.size.saturating_sub(start))
            .saturating_sub(skip);
        let unit = if format & CHUNK_INDEXES != 0 { 8 } else { 4 };
        let list = inode.behind().next_multiple_of(unit);
        let entry = self.meta.near(list.saturating_add(number.saturating_mul(unit)), unit)?;
        let (block, device, none) = if unit == 4 {
            (u64::from(get_le32(&entry, 0).unwrap_or(0)), 0, NO_BLOCK_32)
        } else {
            let none = if format & CHUNK_48 != 0 { NO_BLOCK_48 } else { NO_BLOCK_32 };
            let high = u64::from(get_le16(&entry, 0).unwrap_or(0)) << 32;
            let block = (u64::from(get_le32(&entry, 4).unwrap_or(0)) | high) & none;
            (block, u64::from(get_le16(&entry, 2).unwrap_or(0)), none)
        };
        if block == none {
            return Ok(Stretch { len, place: Place::Hole });
        }
        let byte = self.sb.byte_of(block).saturating_add(skip);
        self.sb.on_this_device(device, byte)?;
        Ok(Stretch { len, place: Place::At(byte) })
    }
}
