//! Extents of a packed file: consecutive bytes that are one unit. Found by the index of clusters, or in a list.
//!
//! The shortest list has a length for each cluster and one place, the first: the others are sums. The sum for every
//! 2048th cluster is kept for the files read last, and the last one for as long as a request lasts.

use super::Erofs;
use super::inode::Inode;
use super::lcluster::{Cluster, Head, Kind, advise};
use crate::budget::{Budget, Limits};
use crate::error::{Error, Result};
use crate::fs::Ino;
use crate::ondisk::{get_le32, get_le64};
use std::cell::Cell;

/// Bytes of a packed unit at the most (`Z_EROFS_PCLUSTER_MAX_SIZE`), and of an unpacked one (`.._MAX_DSIZE`).
const MAX_STORED: u64 = 1 << 20;
const MAX_PLAIN: u64 = 12 << 20;
/// Clusters looked at for one extent: as many as the longest one can have, and a few.
const MAX_STEPS: u64 = (MAX_PLAIN >> 9) + 16;
/// Steps of one request: clusters looked at, and stretches of a list.
const MAX_WORK: u64 = 1 << 18;
/// Clusters of a list of lengths between two marks, and marks that one look-up may add up to: 256 MiB of a list.
const STRIDE: u64 = 2048;
const MAX_STRIDES: u64 = 32768;
/// Bits of the length of an extent of a list: others have more of the same packed bytes; the algorithm, plus one.
const LIST_PARTIAL: u32 = 1 << 27;
const LIST_ALGORITHM_SHIFT: u32 = 28;
const LIST_LEN: u32 = 0x1f_ffff;

/// How an extent is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// As it is.
    Plain,
    /// As it is, but turned: see [`advise::INTERLACED`].
    Interlaced,
    /// By the algorithm of this number.
    By(u8),
}

/// Where an extent lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On the volume: its byte, how many, how packed, and whether those hold more than this extent.
    Unit { start: u64, stored: u64, packing: Packing, is_partial: bool },
    /// In the inode that holds fragments, from this byte on.
    Fragment(u64),
    /// Nowhere: it reads as zero.
    Hole,
}

/// An extent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// The file's byte where it begins.
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) place: Place,
}

impl Extent {
    pub(super) const fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// The last unit of a file, where that is a special one: the cluster it begins in, and its place.
#[derive(Clone, Copy, Debug)]
struct Tail {
    cluster: u64,
    place: Place,
}

/// A packed file whose extents are looked up.
#[derive(Debug)]
pub(super) struct Extents<'a> {
    fs: &'a Erofs,
    inode: &'a Inode,
    head: Head,
    tail: Option<Tail>,
    budget: Budget,
    /// In a list of lengths: the cluster looked up last, and its place.
    last: Cell<Option<(u64, u64)>>,
}

/// Where the length of a cluster stands, in a list of lengths that starts at `list`.
const fn length_at(list: u64, number: u64) -> u64 {
    list.saturating_add(8).saturating_add(number.saturating_mul(4))
}

impl Erofs {
    /// The extents of a packed file.
    ///
    /// # Errors
    /// `Corrupt` when the head of its index is damaged.
    pub(super) fn extents<'a>(&'a self, inode: &'a Inode) -> Result<Extents<'a>> {
        let budget = Budget::new(Limits { steps: MAX_WORK, ..Limits::REQUEST });
        let head = self.index_head(inode)?;
        let mut extents = Extents { fs: self, inode, head, tail: None, budget, last: Cell::new(None) };
        if inode.size > 0 {
            extents.tail = extents.find_tail()?;
        }
        Ok(extents)
    }
}

impl Extents<'_> {
    fn bad(&self, why: impl Into<String>) -> Error {
        Error::corrupt(self.inode.at()).because(why)
    }

    fn has_list(&self) -> bool {
        self.inode.layout == super::inode::Layout::Full && self.head.has(advise::EXTENTS)
    }

    /// The extent that byte `offset` is in, which is before the file's end.
    ///
    /// # Errors
    /// `Corrupt` when the index is damaged; `Unsupported` for what no kernel reads either.
    pub(super) fn at(&self, offset: u64) -> Result<Extent> {
        if let Some(fragment) = self.head.whole_fragment {
            return Ok(Extent { start: 0, len: self.inode.size, place: Place::Fragment(fragment) });
        }
        let extent = if self.has_list() { self.listed(offset) } else { self.indexed(offset) }?;
        if extent.start > offset || extent.end() <= offset {
            return Err(self.bad(format!("byte {offset} is in no unit")));
        }
        if let Place::Unit { stored, packing, .. } = extent.place {
            let len = extent.len;
            if stored > MAX_STORED || len > MAX_PLAIN {
                return Err(self.bad(format!("a unit of {stored} bytes that unpacks to {len}")));
            }
            if !matches!(packing, Packing::By(_)) && len > stored {
                return Err(self.bad(format!("a plain unit of {stored} bytes for {len}")));
            }
        }
        Ok(extent)
    }

    fn cluster(&self, number: u64) -> Result<Cluster> {
        self.budget.step("erofs index")?;
        self.fs.cluster(self.inode, &self.head, number)
    }

    /// The cluster in which the unit of byte `offset` begins, and the one that byte is in.
    fn head_of(&self, offset: u64) -> Result<(Cluster, Cluster)> {
        let here = self.cluster(offset >> self.head.log)?;
        let skip = offset & (1_u64 << self.head.log).saturating_sub(1);
        let mut cluster = here;
        for _ in 0..MAX_STEPS {
            let back = match cluster.kind {
                Kind::NonHead { before, .. } => u64::from(before),
                _ if cluster.number == here.number && skip < cluster.skip => 1,
                _ => return Ok((cluster, here)),
            };
            let number = cluster.number.checked_sub(back).filter(|_| back > 0);
            let number = number
                .ok_or_else(|| self.bad(format!("cluster {} is {back} behind its head", cluster.number)))?;
            cluster = self.cluster(number)?;
        }
        Err(self.bad(format!("the head of cluster {} is too far away", here.number)))
    }

    /// The file's byte behind the unit that begins in `head` and covers cluster `from`.
    fn end_of(&self, head: Cluster, from: Cluster) -> Result<u64> {
        let mut next = head.number.saturating_add(1).max(from.number);
        for _ in 0..MAX_STEPS {
            let start = next.checked_shl(self.head.log).unwrap_or(u64::MAX);
            if start >= self.inode.size {
                return Ok(self.inode.size);
            }
            let cluster = self.cluster(next)?;
            match cluster.kind {
                Kind::NonHead { behind, .. } => next = next.saturating_add(u64::from(behind).max(1)),
                _ => return Ok(start.saturating_add(cluster.skip).min(self.inode.size)),
            }
        }
        Err(self.bad(format!("the unit of cluster {} has no end", head.number)))
    }

    /// Blocks of the packed form of the unit that begins in `head`.
    fn blocks(&self, head: Cluster) -> Result<u64> {
        let is_big = self.head.has(if head.kind == Kind::Head1 { advise::BIG_1 } else { advise::BIG_2 });
        let next = head.number.saturating_add(1);
        if !is_big || next.checked_shl(self.head.log).is_none_or(|start| start >= self.inode.size) {
            return Ok(1);
        }
        match self.cluster(next)?.kind {
            Kind::NonHead { blocks: Some(blocks), .. } if blocks > 0 => Ok(u64::from(blocks)),
            Kind::NonHead { .. } => {
                Err(self.bad(format!("the blocks of cluster {} are not counted", head.number)))
            }
            _ => Ok(1),
        }
    }

    fn packing(&self, kind: Kind) -> Packing {
        let [first, second] = self.head.algorithms;
        match kind {
            Kind::Head1 => Packing::By(first),
            Kind::Head2 => Packing::By(second),
            _ if self.head.has(advise::INTERLACED) => Packing::Interlaced,
            _ => Packing::Plain,
        }
    }

    /// The tail, if this file has one that lies behind the index or in a fragment.
    fn find_tail(&self) -> Result<Option<Tail>> {
        let has_fragment = self.head.has(advise::FRAGMENT);
        let has_inline = !has_fragment && self.head.has(advise::INLINE) && self.head.inline_len > 0;
        if self.head.whole_fragment.is_some() || self.has_list() || !(has_fragment || has_inline) {
            return Ok(None);
        }
        let (head, last) = self.head_of(self.inode.size.saturating_sub(1))?;
        let place = if has_fragment {
            // The full form has the upper half of the byte where a block would be.
            let is_full = self.inode.layout == super::inode::Layout::Full;
            let high = if is_full { head.block << 32 } else { 0 };
            Place::Fragment(self.head.fragment | high)
        } else {
            let stored = u64::from(self.head.inline_len);
            let block = self.fs.sb.block_size();
            if (last.end & block.saturating_sub(1)).saturating_add(stored) > block {
                return Err(self.bad(format!("{stored} bytes behind the index go on in the next block")));
            }
            Place::Unit {
                start: last.end,
                stored,
                packing: self.packing(head.kind),
                is_partial: head.is_partial,
            }
        };
        Ok(Some(Tail { cluster: head.number, place }))
    }

    fn indexed(&self, offset: u64) -> Result<Extent> {
        // A fragment that begins in the first cluster is the whole file.
        if let Some(Tail { cluster: 0, place: place @ Place::Fragment(_) }) = self.tail {
            return Ok(Extent { start: 0, len: self.inode.size, place });
        }
        let (head, here) = self.head_of(offset)?;
        let start = (head.number << self.head.log).saturating_add(head.skip);
        let len =
            self.end_of(head, if here.number == head.number { head } else { here })?.saturating_sub(start);
        let place = match self.tail {
            Some(tail) if tail.cluster == head.number => tail.place,
            _ => Place::Unit {
                start: self.fs.sb.byte_of(head.block),
                stored: self.fs.sb.byte_of(self.blocks(head)?),
                packing: self.packing(head.kind),
                is_partial: head.is_partial,
            },
        };
        Ok(Extent { start, len, place })
    }

    /// The place of a cluster, by a list of lengths: one unit lies behind the other, from a byte on that stands in front
    /// of the list.
    fn added_up(&self, list: u64, number: u64) -> Result<u64> {
        let known = self.last.get().filter(|(cluster, _)| *cluster <= number);
        let mark = self.fs.marks.before(Ino(self.inode.nid), number / STRIDE);
        let mark = mark.map(|(mark, place)| (mark.saturating_mul(STRIDE), place));
        let (mut at, mut place) = match known.max(mark) {
            Some(from) => from,
            None => (0, get_le64(&self.fs.meta.near(list, 8)?, 0).unwrap_or(0)),
        };
        if number.saturating_sub(at) / STRIDE > MAX_STRIDES {
            return Err(Error::limit(format!(
                "erofs extents: lengths from cluster {at} to {number} to add up"
            )));
        }
        while at < number {
            self.budget.step("erofs extents")?;
            let end = at.saturating_add(1).next_multiple_of(STRIDE).min(number);
            let lengths = self.fs.meta.near(length_at(list, at), end.saturating_sub(at).saturating_mul(4))?;
            for length in lengths.as_chunks::<4>().0 {
                place = place.saturating_add(u64::from(u32::from_le_bytes(*length) & LIST_LEN));
            }
            at = end;
            if at.is_multiple_of(STRIDE) {
                self.fs.marks.keep(Ino(self.inode.nid), at / STRIDE, place);
            }
        }
        self.last.set(Some((number, place)));
        Ok(place)
    }

    /// An extent by the list that takes the place of an index: a length for each cluster, or lengths, places and the
    /// file's bytes of extents of any size.
    fn listed(&self, offset: u64) -> Result<Extent> {
        self.budget.step("erofs extents")?;
        let record = 4_u64 << (self.head.advise >> 1 & 3);
        let list = self.head.end.next_multiple_of(record);
        let word = |bytes: &[u8], at| get_le32(bytes, at).unwrap_or(0);
        let cluster = 1_u64 << self.head.log;
        let (start, end, len, place, is_last);
        match record {
            4 => {
                let number = offset >> self.head.log;
                start = number << self.head.log;
                place = self.added_up(list, number)?;
                len = word(&self.fs.meta.near(length_at(list, number), 4)?, 0);
                end = start.saturating_add(cluster).min(self.inode.size);
                is_last = end == self.inode.size;
            }
            8 => {
                let number = offset >> self.head.log;
                let raw = self.fs.meta.near(list.saturating_add(number.saturating_mul(8)), 8)?;
                start = number << self.head.log;
                (len, place) = (word(&raw, 0), u64::from(word(&raw, 4)));
                end = start.saturating_add(cluster).min(self.inode.size);
                is_last = end == self.inode.size;
            }
            _ => {
                let read = |number: u64| {
                    self.fs.meta.near(list.saturating_add(number.saturating_mul(record)), record)
                };
                let first = |raw: &[u8]| {
                    let high = if record > 16 { u64::from(word(raw, 16)) << 32 } else { 0 };
                    u64::from(word(raw, 12)) | high
                };
                let (mut low, mut high) = (0, self.head.extents);
                while low < high {
                    let middle = low.midpoint(high);
                    if first(&read(middle)?) > offset {
                        high = middle;
                    } else {
                        low = middle.saturating_add(1);
                    }
                }
                let number =
                    low.checked_sub(1).ok_or_else(|| self.bad(format!("no extent has byte {offset}")))?;
                let raw = read(number)?;
                start = first(&raw);
                (len, place) = (word(&raw, 0), get_le64(&raw, 4).unwrap_or(0));
                is_last = low >= self.head.extents;
                end = if is_last { self.inode.size } else { first(&read(low)?).min(self.inode.size) };
            }
        }
        let stored = u64::from(len & LIST_LEN);
        let packing = match u8::try_from(len >> LIST_ALGORITHM_SHIFT).unwrap_or(0).checked_sub(1) {
            Some(algorithm) => Packing::By(algorithm),
            None => {
                let aligned = (place | stored) & self.fs.sb.block_size().saturating_sub(1) == 0;
                if aligned && self.head.has(advise::INTERLACED) {
                    Packing::Interlaced
                } else {
                    Packing::Plain
                }
            }
        };
        let place = if is_last && self.head.has(advise::FRAGMENT) {
            // The lower half is where the length would be.
            let high = if record > 4 { place << 32 } else { 0 };
            Place::Fragment(u64::from(len) | high)
        } else if stored == 0 {
            Place::Hole
        } else {
            Place::Unit { start: place, stored, packing, is_partial: len & LIST_PARTIAL != 0 }
        };
        Ok(Extent { start, len: end.saturating_sub(start), place })
    }
}
