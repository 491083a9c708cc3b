//! What items of a transaction describe themselves as, in the order of a little-endian machine.
//!
//! ```text
//! buffer   type 2 │ regions 2 │ flags 2 │ length 2 │ place 8 │ words of the map 4 │ map: a bit for each 128 bytes
//! inode    type 2 │ regions 2 │ fields 4 │ attribute bytes 2, data bytes 2 │ (pad 4) │ number 8 │ device 16 │
//!          buffer: place 8, length 4 │ inode in it 4
//! chunk    type 2 │ regions 2 │ big-endian: group 4 │ block 4 │ inodes 4 │ inode size 4 │ blocks 4 │ generation 4
//! ```
//! Places and lengths are in 512-byte units. "XFS Algorithms & Data Structures", "Log Items".

use super::transaction::{Item, Transaction};
use crate::error::{At, Error, Result};
use crate::ondisk::{get_be32, get_le16, get_le32, get_le64};
use std::collections::BTreeMap;

/// Kinds of items that change something here.
pub(super) const INODE: u16 = 0x123b;
pub(super) const BUFFER: u16 = 0x123c;
pub(super) const CHUNK: u16 = 0x123f;

/// Bits of a buffer's flags.
pub(super) mod buffer_flag {
    /// Of inodes: only their places in lists of unlinked ones are in it.
    pub(crate) const INODES: u16 = 0x01;
    /// Given up: what was written of it before must not be played back.
    pub(crate) const CANCEL: u16 = 0x02;
    /// Quota of users, projects, groups.
    pub(crate) const QUOTA: u16 = 0x1c;
}

/// Bits of an inode's fields.
pub(super) mod field {
    pub(crate) const DATA: u32 = 0x02;
    pub(crate) const EXTENTS: u32 = 0x04;
    pub(crate) const ROOT: u32 = 0x08;
    pub(crate) const DEVICE: u32 = 0x10;
    pub(crate) const ATTRIBUTE_DATA: u32 = 0x40;
    pub(crate) const ATTRIBUTE_EXTENTS: u32 = 0x80;
    pub(crate) const ATTRIBUTE_ROOT: u32 = 0x100;
    /// The blocks of the tree name another inode and must name this one.
    pub(crate) const OWNER: u32 = 0x200;
    pub(crate) const ATTRIBUTE_OWNER: u32 = 0x400;
}

/// The longest buffer, in 512-byte units: a block of 64 KiB, or a cluster of inodes as long.
const MAX_BUFFER: u16 = 128;

fn bad(what: &'static str, why: &str) -> Error {
    Error::corrupt(At::new("xfs", what)).because(why)
}

/// A buffer that was changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer<'a> {
    pub(super) flags: u16,
    /// Length and place in 512-byte units.
    pub(super) len: u16,
    pub(super) place: u64,
    map: &'a [u8],
    item: &'a Item,
}

impl<'a> Buffer<'a> {
    /// Decodes a buffer's item.
    ///
    /// # Errors
    /// `Corrupt` when it is cut off or describes no buffer.
    pub(super) fn parse(item: &'a Item) -> Result<Self> {
        let format = item.region(0);
        let (flags, len, place) = (get_le16(format, 4), get_le16(format, 6), get_le64(format, 8));
        let words = get_le32(format, 16).and_then(|words| usize::try_from(words).ok());
        let map = words.and_then(|words| format.get(20..)?.get(..words.checked_mul(4)?));
        match (flags, len, place, map) {
            (Some(flags), Some(len), Some(place), Some(map)) if len <= MAX_BUFFER && place >> 48 == 0 => {
                Ok(Self { flags, len, place, map, item })
            }
            _ => Err(bad("log buffer item", "is cut off or too long")),
        }
    }

    /// Copies what was changed into the buffer.
    ///
    /// # Errors
    /// `Corrupt` when a region does not fit.
    pub(super) fn copy_into(&self, bytes: &mut [u8]) -> Result<()> {
        let bit =
            |n: usize| self.map.get(n / 8).is_some_and(|byte| byte & 1_u8.wrapping_shl(low_bits(n)) != 0);
        let bits = self.map.len().saturating_mul(8);
        let mut n = 0;
        let mut number = 1;
        while n < bits {
            if !bit(n) {
                n = n.saturating_add(1);
                continue;
            }
            let together = (n..bits).take_while(|n| bit(*n)).count();
            let region = self.item.region(number);
            // What was changed in one piece may stand in two regions.
            let chunks = together.min(region.len() / 128);
            let (from, len) = (n.saturating_mul(128), chunks.saturating_mul(128));
            let (to, what) = (bytes.get_mut(from..from.saturating_add(len)), region.get(..len));
            let (Some(to), Some(what), 1..) = (to, what, chunks) else {
                return Err(bad("log buffer item", "a region does not fit its map"));
            };
            to.copy_from_slice(what);
            n = n.saturating_add(chunks);
            number = number.saturating_add(1);
        }
        Ok(())
    }
}

/// `n % 8`, as a number of bits.
const fn low_bits(n: usize) -> u32 {
    match n & 7 {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 3,
        4 => 4,
        5 => 5,
        6 => 6,
        _ => 7,
    }
}

/// An inode that was changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct InodeChange {
    pub(super) fields: u32,
    pub(super) ino: u64,
    pub(super) device: u32,
    /// Place and length of its buffer in 512-byte units.
    pub(super) place: u64,
    pub(super) len: u32,
    /// The volume's byte where it lies.
    pub(super) byte: u64,
}

impl InodeChange {
    /// Decodes an inode's item; 32-bit kernels left out the padding.
    ///
    /// # Errors
    /// `Corrupt` for another length, or an inode outside its buffer.
    pub(super) fn parse(item: &Item, inode_size: u64) -> Result<Self> {
        let format = item.region(0);
        let shift = match format.len() {
            56 => 16,
            52 => 12,
            _ => return Err(bad("log inode item", "has another length than 52 or 56 bytes")),
        };
        let word = |at: usize| get_le64(format, at.saturating_add(shift)).unwrap_or(0);
        let half = |at: usize| get_le32(format, at.saturating_add(shift)).unwrap_or(0);
        let (place, len, inside) = (word(24), half(32), u64::from(half(36)));
        let room = u64::from(len).saturating_mul(512);
        let fits = inside.is_multiple_of(inode_size) && inside.saturating_add(inode_size) <= room;
        if !fits || place >> 48 != 0 {
            return Err(bad("log inode item", "does not lie in its buffer"));
        }
        let byte = place.saturating_mul(512).saturating_add(inside);
        let fields = get_le32(format, 4).unwrap_or(0);
        Ok(Self { fields, ino: word(0), device: half(8), place, len, byte })
    }
}

/// A chunk of new inodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) group: u64,
    /// First block in the group, and how many.
    pub(super) block: u64,
    pub(super) blocks: u64,
    pub(super) inode_size: u64,
    pub(super) generation: u32,
}

impl Chunk {
    /// Decodes a chunk's item.
    ///
    /// # Errors
    /// `Corrupt` when it is cut off.
    pub(super) fn parse(item: &Item) -> Result<Self> {
        let format = item.region(0);
        let word = |at| get_be32(format, at).map(u64::from);
        let words = (word(4), word(8), word(16), word(20), get_be32(format, 24));
        let (Some(group), Some(block), Some(inode_size), Some(blocks), Some(generation)) = words else {
            return Err(bad("log inode create item", "is cut off"));
        };
        Ok(Self { group, block, blocks, inode_size, generation })
    }
}

/// Buffers, inodes, chunks and intents of which a note is kept while the log is played back, all together. Each takes
/// about 150 bytes at most.
const MAX_NOTED: usize = 1 << 18;

/// Fails when there are more notes than memory should hold.
///
/// # Errors
/// `Limit`.
pub(super) fn check_noted(notes: usize) -> Result<()> {
    if notes > MAX_NOTED {
        return Err(Error::limit(format!(
            "log: more than {MAX_NOTED} buffers, inodes and intents to keep in mind"
        )));
    }
    Ok(())
}

/// Buffers that are given up later in the log, by place and length, and how often.
#[derive(Debug, Default)]
pub(super) struct Cancelled(BTreeMap<(u64, u32), u32>);

impl Cancelled {
    /// Notes the buffers that a transaction gives up.
    ///
    /// # Errors
    /// `Corrupt` for an item that is cut off; `Limit` for more buffers than memory should hold.
    pub(super) fn learn(&mut self, transaction: &Transaction) -> Result<()> {
        for item in transaction.items.iter().filter(|item| item.kind() == BUFFER) {
            let buffer = Buffer::parse(item)?;
            if buffer.flags & buffer_flag::CANCEL != 0 {
                let times = self.0.entry((buffer.place, u32::from(buffer.len))).or_default();
                *times = times.saturating_add(1);
            }
        }
        check_noted(self.len())
    }

    /// Buffers noted.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Will this buffer still be given up?
    pub(super) fn has(&self, place: u64, len: u32) -> bool {
        self.0.contains_key(&(place, len))
    }

    /// Will any buffer that starts in these 512-byte units still be given up?
    pub(super) fn has_any(&self, place: u64, units: u64) -> bool {
        self.0.range((place, 0)..(place.saturating_add(units), 0)).next().is_some()
    }

    /// It is given up here.
    pub(super) fn pass(&mut self, place: u64, len: u32) {
        if let Some(times) = self.0.get_mut(&(place, len)) {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.0.remove(&(place, len));
            }
        }
    }
}
