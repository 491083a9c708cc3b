//! The index of a packed file: for each of its logical clusters (mostly one block), where in it a packed unit begins,
//! or how far away the one is that covers it.
//!
//! ```text
//! HEAD, PLAIN   a unit begins at byte N of this cluster; its packed form is at block B
//! NONHEAD       distance to the HEAD before, distance to the HEAD behind;
//!               the first one behind a HEAD may say instead how many blocks the packed form has
//! ```
//! The full form has eight bytes for each cluster. The compact one packs two clusters in 8 bytes or sixteen in 32: a few
//! bits each, and the block of the first unit of the pack, from which the others' blocks are counted.

use super::Erofs;
use super::inode::{Inode, Layout};
use crate::error::{Error, Result};
use crate::fs::meta::Bytes;
use crate::num::narrow;
use crate::ondisk::{get_le16, get_le32, get_le64};

/// Bits of `h_advise`.
pub(super) mod advise {
    /// Compact form: packs of sixteen clusters, where they fit. Full form: no clusters, but a list of extents.
    pub(crate) const PACKS_OF_16: u16 = 1;
    pub(crate) const EXTENTS: u16 = 1;
    /// Units of HEAD1, and those of HEAD2 and PLAIN, may have several blocks.
    pub(crate) const BIG_1: u16 = 2;
    pub(crate) const BIG_2: u16 = 4;
    /// The last unit follows the index.
    pub(crate) const INLINE: u16 = 8;
    /// Bytes of a plain unit stand where they stand in their cluster, those that do not fit in front of them.
    pub(crate) const INTERLACED: u16 = 0x10;
    /// The end of the file lies in the inode that holds fragments.
    pub(crate) const FRAGMENT: u16 = 0x20;
}

/// Bytes of the head of an index.
const HEAD: u64 = 8;
/// The bit of the head's last byte that says that the whole file is a fragment.
const WHOLE_FRAGMENT: u64 = 1 << 63;
/// In the first NONHEAD: this is not a distance, but a number of blocks.
const BLOCK_COUNT: u32 = 1 << 11;
/// Of a HEAD in the full form: other units have more of the same packed bytes.
const PARTIAL: u16 = 1 << 15;

/// What an index says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) advise: u16,
    /// The algorithms of HEAD1 and HEAD2.
    pub(super) algorithms: [u8; 2],
    /// Bytes of a logical cluster, as a power of two.
    pub(super) log: u32,
    /// Bytes of the unit that follows the index.
    pub(super) inline_len: u16,
    /// The byte of the fragment, its lower half.
    pub(super) fragment: u64,
    /// The whole file is a fragment, at this byte.
    pub(super) whole_fragment: Option<u64>,
    /// Extents in the list, where there is one.
    pub(super) extents: u64,
    /// The volume's byte behind the head.
    pub(super) end: u64,
}

impl Head {
    pub(super) const fn has(&self, bit: u16) -> bool {
        self.advise & bit != 0
    }
}

/// What a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Head1,
    Head2,
    /// With the distance to the head before, the one to the head behind (0 for: look at the next), and perhaps the
    /// number of blocks.
    NonHead {
        before: u32,
        behind: u32,
        blocks: Option<u32>,
    },
}

/// A cluster, decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cluster {
    pub(super) number: u64,
    pub(super) kind: Kind,
    /// Where in it the unit begins, and its block. 0 without a head.
    pub(super) skip: u64,
    pub(super) block: u64,
    pub(super) is_partial: bool,
    /// The volume's byte behind this cluster's index or pack.
    pub(super) end: u64,
}

fn kind(bits: u32, other: Kind) -> Kind {
    match bits & 3 {
        0 => Kind::Plain,
        1 => Kind::Head1,
        3 => Kind::Head2,
        _ => other,
    }
}

impl Erofs {
    /// The head of a packed file's index.
    ///
    /// # Errors
    /// `Corrupt` when it contradicts itself.
    pub(super) fn index_head(&self, inode: &Inode) -> Result<Head> {
        let start = inode.behind().next_multiple_of(8);
        let raw = self.meta.near(start, HEAD)?;
        let all = get_le64(&raw, 0).unwrap_or(0);
        let half = |at| get_le16(&raw, at).unwrap_or(0);
        let advise = half(4);
        let byte = |at: usize| raw.get(at).copied().unwrap_or(0);
        let low = u64::from(get_le32(&raw, 0).unwrap_or(0));
        let head = Head {
            advise,
            algorithms: [byte(6) & 15, byte(6) >> 4],
            log: self.sb.block_log.saturating_add(u32::from(byte(7) & 15)),
            inline_len: half(2),
            fragment: low,
            whole_fragment: (all & WHOLE_FRAGMENT != 0).then_some(all & !WHOLE_FRAGMENT),
            extents: low | u64::from(half(6)) << 32,
            end: start.saturating_add(HEAD),
        };
        let is_one_sided = head.has(advise::BIG_1) != head.has(advise::BIG_2);
        if head.whole_fragment.is_none() && inode.layout == Layout::Compact && is_one_sided {
            return Err(
                Error::corrupt(inode.at()).because("a compact index with large units of one kind only")
            );
        }
        Ok(head)
    }

    /// Cluster `number` of a packed file.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged.
    pub(super) fn cluster(&self, inode: &Inode, head: &Head, number: u64) -> Result<Cluster> {
        let cluster = match inode.layout {
            Layout::Full => self.full(inode, head, number),
            _ => self.compact(inode, head, number),
        }?;
        let is_head = !matches!(cluster.kind, Kind::NonHead { .. });
        if is_head && cluster.skip >= 1_u64 << head.log {
            return Err(Error::corrupt(inode.at())
                .because(format!("in cluster {number} a unit begins at byte {}", cluster.skip)));
        }
        Ok(cluster)
    }

    fn full(&self, inode: &Inode, head: &Head, number: u64) -> Result<Cluster> {
        // Eight bytes are left free behind the head.
        let at = head.end.saturating_add(8).saturating_add(number.saturating_mul(8));
        let raw = self.meta.near(at, 8)?;
        let half = |at| get_le16(&raw, at).unwrap_or(0);
        let flags = half(0);
        let before = u32::from(half(4));
        let blocks = (before & BLOCK_COUNT != 0).then_some(before & !BLOCK_COUNT);
        if blocks.is_some() && flags & 3 == 2 && !head.has(advise::BIG_1 | advise::BIG_2) {
            return Err(Error::corrupt(inode.at()).because(format!("a count of blocks in cluster {number}")));
        }
        let before = if blocks.is_some() { 1 } else { before };
        let other = Kind::NonHead { before, behind: u32::from(half(6)), blocks };
        Ok(Cluster {
            number,
            kind: kind(u32::from(flags), other),
            skip: u64::from(half(2)),
            block: u64::from(get_le32(&raw, 4).unwrap_or(0)),
            is_partial: flags & PARTIAL != 0,
            end: at.saturating_add(8),
        })
    }

    fn compact(&self, inode: &Inode, head: &Head, number: u64) -> Result<Cluster> {
        let total = inode.size.div_ceil(self.sb.block_size());
        if number >= total || head.log > 14 {
            return Err(Error::corrupt(inode.at()).because(format!("cluster {number} of {total}")));
        }
        // Packs of two up to a multiple of 32 bytes, packs of sixteen, packs of two.
        let first = (32_u64.saturating_sub(head.end % 32) / 4) & 7;
        let of_16 = if head.has(advise::PACKS_OF_16) && first < total {
            total.saturating_sub(first) & !15
        } else {
            0
        };
        let behind = number.checked_sub(first);
        // Bytes of the pack and of each cluster in it, as powers of two.
        let (at, pack_log, each_log) = match behind {
            Some(behind) if behind < of_16 => {
                let at =
                    head.end.saturating_add(first.saturating_mul(4)).saturating_add(behind.saturating_mul(2));
                (at, 5, 1)
            }
            Some(behind) => {
                let twos = first.saturating_add(behind).saturating_sub(of_16).saturating_mul(4);
                (head.end.saturating_add(of_16.saturating_mul(2)).saturating_add(twos), 3, 2)
            }
            None => (head.end.saturating_add(number.saturating_mul(4)), 3, 2),
        };
        if each_log == 1 && head.log > 12 {
            return Err(
                Error::corrupt(inode.at()).because("packs of sixteen clusters that are too large for them")
            );
        }
        let pack_len = 1_u64 << pack_log;
        let skip = at & pack_len.saturating_sub(1);
        let start = at.saturating_sub(skip);
        let pack = Pack {
            raw: self.meta.near(start, pack_len)?,
            count: i64::try_from(pack_len >> each_log).unwrap_or(0),
            low_bits: head.log.max(12),
            is_big: head.has(advise::BIG_1),
        };
        let place = i64::try_from(skip >> each_log).unwrap_or(0);
        let (kind, skip, block) = pack.get(place).map_err(|why| Error::corrupt(inode.at()).because(why))?;
        Ok(Cluster { number, kind, skip, block, is_partial: false, end: start.saturating_add(pack_len) })
    }
}

/// Clusters of the compact form that share a block number.
struct Pack {
    raw: Bytes,
    /// How many: 2 or 16.
    count: i64,
    /// Bits of a place or distance; two of the kind follow.
    low_bits: u32,
    is_big: bool,
}

impl Pack {
    /// Place or distance, and kind, of one of them.
    fn bits(&self, place: i64) -> (u32, u32) {
        // What the block number at the end leaves, for each of them: 16 or 14 bits.
        let each = if self.count == 2 { 16 } else { 14 };
        let bit = u64::try_from(place).unwrap_or(0).saturating_mul(each);
        let value = get_le32(&self.raw, narrow(bit / 8)).unwrap_or(0) >> (bit % 8);
        (value & (1_u32 << self.low_bits).saturating_sub(1), (value >> self.low_bits) & 3)
    }

    /// Kind, place and block of one of them.
    fn get(&self, place: i64) -> Result<(Kind, u64, u64), &'static str> {
        let (low, bits) = self.bits(place);
        if bits != 2 {
            let other = Kind::NonHead { before: 0, behind: 0, blocks: None };
            return Ok((kind(bits, other), u64::from(low), self.block(place)?));
        }
        let blocks = (low & BLOCK_COUNT != 0).then_some(low & !BLOCK_COUNT);
        let before = if blocks.is_some() {
            if !self.is_big {
                return Err("a count of blocks where all units have one");
            }
            1
        } else if place.saturating_add(1) != self.count {
            low
        } else {
            // The last one of a pack has the distance behind; the one before it is counted from.
            match self.bits(place.saturating_sub(1)) {
                (low, 2) if low & BLOCK_COUNT != 0 => 2,
                (low, 2) => low.saturating_add(1),
                _ => 1,
            }
        };
        Ok((Kind::NonHead { before, behind: self.behind(place), blocks }, 0, 0))
    }

    /// How far the next head is from one without.
    fn behind(&self, place: i64) -> u32 {
        let mut distance = 0_u32;
        let mut last = 0;
        for place in place..self.count {
            let (low, bits) = self.bits(place);
            if bits != 2 {
                return distance;
            }
            distance = distance.saturating_add(1);
            last = low;
        }
        if last & BLOCK_COUNT == 0 { distance.saturating_add(last).saturating_sub(1) } else { distance }
    }

    /// The block of a head: all blocks of the heads before it in the pack, from the pack's own number on.
    fn block(&self, mut place: i64) -> Result<u64, &'static str> {
        let mut blocks = u64::from(!self.is_big);
        while place > 0 {
            place = place.saturating_sub(1);
            let (low, bits) = self.bits(place);
            if bits != 2 {
                blocks = blocks.saturating_add(1);
            } else if !self.is_big {
                place = place.saturating_sub(i64::from(low));
                blocks = blocks.saturating_add(u64::from(place >= 0));
            } else if low & BLOCK_COUNT != 0 {
                place = place.saturating_sub(1);
                blocks = blocks.saturating_add(u64::from(low & !BLOCK_COUNT));
            } else if low <= 1 {
                return Err("a unit of several blocks whose number is not there");
            } else {
                place = place.saturating_sub(i64::from(low)).saturating_add(2);
            }
        }
        let base = get_le32(&self.raw, self.raw.len().saturating_sub(4)).unwrap_or(0);
        Ok(u64::from(base).saturating_add(blocks))
    }
}
