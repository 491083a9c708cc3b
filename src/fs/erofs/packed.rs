//! Reading packed files: the extents that a read touches, their packed bytes in as few reads as possible, unpacked.

use super::Erofs;
use super::extent::{Extent, Packing, Place};
use super::inode::Inode;
use crate::block::{self, Run};
use crate::error::{At, Error, Result};
use crate::fs::codec;
use crate::num::{narrow, wide};
use std::ops::Range;

/// Bytes of neighbouring packed units read at once.
const MAX_READ: u64 = 4 << 20;
/// Extents of one read: one for each cluster of 64 MiB. A list could have one for each byte.
const MAX_EXTENTS: usize = 16384;

/// Compression algorithms by their number.
const ALGORITHMS: &[(u8, &str)] = &[(0, "lz4"), (1, "lzma"), (2, "deflate"), (3, "zstd")];

/// Packed units that were read at once, and what of the volume they are.
#[derive(Default)]
struct Fetched {
    range: Range<u64>,
    bytes: Vec<u8>,
}

/// Is the unit of `next` behind that of `extent`?
fn goes_on(extent: &Extent, next: &Extent) -> bool {
    match (extent.place, next.place) {
        (Place::Unit { start, stored, .. }, Place::Unit { start: next, .. }) => {
            next == start.saturating_add(stored)
        }
        _ => false,
    }
}

/// An interlaced unit's parts: where the bytes before the end of their block stand, how many, and where the rest does.
fn turned(first: u64, len: u64, stored: u64, block: u64) -> (u64, u64) {
    let skip = first & block.saturating_sub(1);
    let right = block.saturating_sub(skip);
    (stored.saturating_sub(right), right.min(len))
}

impl Erofs {
    /// Fills `buf` with the bytes of a packed file from `offset` on; the caller has compared with its size.
    ///
    /// # Errors
    /// `Corrupt` when the index or a unit is damaged; `Unsupported` for an algorithm without a name.
    pub(super) fn read_packed(&self, inode: &Inode, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        let extents = self.extents(inode)?;
        let end = offset.saturating_add(wide(buf.len()));
        let mut wanted: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < end {
            let extent = extents.at(at)?;
            at = extent.end();
            wanted.push(extent);
            if wanted.len() > MAX_EXTENTS {
                return Err(Error::limit(format!("erofs: more than {MAX_EXTENTS} extents in one read")));
            }
        }
        let mut fetched = Fetched::default();
        for (number, extent) in wanted.iter().enumerate() {
            let skip = offset.saturating_sub(extent.start);
            let len = extent.len.saturating_sub(skip).min(wide(buf.len()));
            let (now, rest) = buf.split_at_mut(narrow(len));
            match extent.place {
                Place::Hole => now.fill(0),
                Place::Fragment(fragment) => self.read_fragment(inode, now, fragment.saturating_add(skip))?,
                Place::Unit { .. } => {
                    let behind = wanted.get(number..).unwrap_or_default();
                    let joined =
                        behind.windows(2).take_while(|pair| matches!(pair, [a, b] if goes_on(a, b))).count();
                    let until = behind.get(joined).map_or(0, unit_end);
                    self.read_unit(inode, extent, until, &mut fetched, now, skip)?;
                }
            }
            buf = rest;
            offset = offset.saturating_add(len);
        }
        Ok(())
    }

    /// The inode that holds fragments, for one that has a part of it.
    fn fragments(&self, inode: &Inode) -> Result<Inode> {
        let nid = self.sb.packed_nid().filter(|nid| *nid != inode.nid);
        let nid =
            nid.ok_or_else(|| Error::corrupt(inode.at()).because("a fragment, and no inode that holds it"))?;
        let packed = self.inode(nid)?;
        if self.stretch(&packed, 0, 1).is_ok_and(|stretch| stretch.is_none()) {
            let head = self.index_head(&packed)?;
            if head.whole_fragment.is_some() || head.has(super::lcluster::advise::FRAGMENT) {
                return Err(Error::corrupt(packed.at()).because("holds fragments, and has one itself"));
            }
        }
        Ok(packed)
    }

    fn read_fragment(&self, inode: &Inode, buf: &mut [u8], at: u64) -> Result<()> {
        self.read(&self.fragments(inode)?, buf, at)
    }

    /// Bytes of a unit from `skip` on. What is packed is read together with its neighbours up to `until`.
    fn read_unit(
        &self,
        inode: &Inode,
        extent: &Extent,
        until: u64,
        fetched: &mut Fetched,
        buf: &mut [u8],
        skip: u64,
    ) -> Result<()> {
        let Place::Unit { start, stored, packing, is_partial } = extent.place else { return Ok(()) };
        self.sb.on_this_device(0, start)?;
        match packing {
            Packing::Plain => self.meta.volume().read_at(buf, start.saturating_add(skip)),
            Packing::Interlaced => {
                let (right, count) = turned(extent.start, extent.len, stored, self.sb.block_size());
                let first = narrow(count.saturating_sub(skip)).min(buf.len());
                let (now, rest) = buf.split_at_mut(first);
                if !now.is_empty() {
                    let byte = start.saturating_add(right).saturating_add(skip);
                    self.meta.volume().read_at(now, byte)?;
                }
                if !rest.is_empty() {
                    let byte = start.saturating_add(skip.saturating_add(wide(first)).saturating_sub(count));
                    self.meta.volume().read_at(rest, byte)?;
                }
                Ok(())
            }
            Packing::By(algorithm) => {
                // Of one place there may be several units of different length: the shorter ones are its beginning.
                let at = || At::new("erofs", "packed unit").byte(start);
                let mut load = || {
                    let packed = self.fetch(start, stored, until, fetched)?;
                    self.unpack(algorithm, packed, narrow(extent.len), is_partial)
                        .map_err(|error| error.at(at()))
                };
                let key = start << 2 | u64::from(algorithm & 3);
                let mut plain = self.units.get(key, &mut load)?;
                if wide(plain.len()) < extent.len {
                    plain = std::sync::Arc::new(load()?);
                }
                let part = plain.get(narrow(skip)..).and_then(|rest| rest.get(..buf.len()));
                let part = part.ok_or_else(|| {
                    Error::corrupt(at()).because(format!(
                        "unpacks to {} bytes, inode {} wants {}",
                        plain.len(),
                        inode.nid,
                        extent.len
                    ))
                })?;
                buf.copy_from_slice(part);
                Ok(())
            }
        }
    }

    /// A packed unit, from what was read with one before it, or read now together with those behind it.
    fn fetch<'a>(&self, start: u64, stored: u64, until: u64, fetched: &'a mut Fetched) -> Result<&'a [u8]> {
        let end = start.saturating_add(stored);
        if start < fetched.range.start || end > fetched.range.end {
            let until = until.min(start.saturating_add(MAX_READ)).min(self.meta.volume().len()).max(end);
            // At most MAX_READ; a unit has at most 1 MiB.
            let mut bytes = vec![0; narrow(until.saturating_sub(start))];
            self.meta.volume().read_at(&mut bytes, start)?;
            *fetched = Fetched { range: start..until, bytes };
        }
        let skip = narrow(start.saturating_sub(fetched.range.start));
        Ok(fetched.bytes.get(skip..).and_then(|rest| rest.get(..narrow(stored))).unwrap_or_default())
    }

    /// Unpacks `len` bytes.
    fn unpack(&self, algorithm: u8, packed: &[u8], len: usize, is_partial: bool) -> Result<Vec<u8>> {
        let has_padding = algorithm != 0 || self.sb.has_zero_padding();
        let packed = if has_padding {
            let block = packed.len().min(narrow(self.sb.block_size()));
            let zeros = packed.iter().take(block).take_while(|byte| **byte == 0).count();
            packed.get(zeros..).unwrap_or_default()
        } else {
            packed
        };
        let plain = match algorithm {
            0 if has_padding && !is_partial => codec::lz4(packed, len)?,
            // Before there was padding in front, there were bytes behind.
            0 => codec::lz4_part(packed, len)?,
            1 => codec::micro_lzma_part(packed, len)?,
            2 => codec::deflate_part(packed, len)?,
            3 => codec::zstd_part(packed, len)?,
            other => return Err(Error::unsupported(format!("erofs compression algorithm {other}"))),
        };
        if plain.len() != len {
            let name =
                ALGORITHMS.iter().find(|(number, _)| *number == algorithm).map_or("", |(_, name)| *name);
            let why = format!("{} unpacks to {} of {len} bytes", name, plain.len());
            return Err(Error::new(crate::error::ErrorKind::Corrupt, why));
        }
        Ok(plain)
    }

    /// Where the byte at `offset` of a packed file lies.
    ///
    /// # Errors
    /// `Corrupt` when the index is damaged.
    pub(super) fn packed_run(&self, inode: &Inode, offset: u64) -> Result<Run> {
        let extent = self.extents(inode)?.at(offset)?;
        let skip = offset.saturating_sub(extent.start);
        let len = extent.len.saturating_sub(skip);
        let (len, place) = match extent.place {
            Place::Hole => (len, block::Place::Hole),
            Place::Fragment(fragment) => {
                let run = self.run(&self.fragments(inode)?, fragment.saturating_add(skip))?;
                return Ok(Run { len: run.len.min(len), place: run.place });
            }
            Place::Unit { start, packing: Packing::Plain, .. } => {
                (len, block::Place::Stored { file: 0, offset: start.saturating_add(skip) })
            }
            Place::Unit { start, stored, packing: Packing::Interlaced, .. } => {
                let (right, count) = turned(extent.start, extent.len, stored, self.sb.block_size());
                let (len, at) = match count.checked_sub(skip).filter(|left| *left > 0) {
                    Some(left) => (left, right.saturating_add(skip)),
                    None => (len, skip.saturating_sub(count)),
                };
                (len, block::Place::Stored { file: 0, offset: start.saturating_add(at) })
            }
            Place::Unit { start, stored, .. } => {
                (len, block::Place::Packed { file: 0, offset: start, stored, unit: start, skip })
            }
        };
        Ok(Run { len: len.max(1), place })
    }
}

/// The volume's byte behind an extent's unit.
const fn unit_end(extent: &Extent) -> u64 {
    match extent.place {
        Place::Unit { start, stored, .. } => start.saturating_add(stored),
        _ => 0,
    }
}
