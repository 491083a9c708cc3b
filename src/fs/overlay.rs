//! A volume with some of its blocks replaced in memory: what it would hold after its journal had been played back.
//!
//! ```text
//! read ─▶ replaced block?  ─▶ bytes kept here, or bytes that lie elsewhere on the volume (in the journal)
//!      └▶ any other        ─▶ the volume
//! ```
//! The volume itself is never written. File systems make the overlay when they open and read everything through it.

use crate::block::{Below, BlockSource, Extent, Step, check_range};
use crate::error::{Error, Result};
use crate::num::{narrow, wide};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Bytes kept in memory at most. Journals that say where their blocks lie need none.
const MAX_KEPT: u64 = 64 << 20;
/// Blocks replaced at most: twice as many as the largest journal has that `mke2fs` makes by itself. While a journal is read,
/// each takes up to [`EACH`] bytes, in lists and maps that are half empty.
pub(super) const MAX_BLOCKS: usize = 1 << 19;
/// A copy in a list (24, twice while it grows) and in a map (48); the same block revoked, in a list (8, twice) and in a map
/// (17, twice while half empty and thrice while it grows).
const EACH: usize = 2 * 24 + 48 + 2 * 8 + 3 * 2 * 17;
// An eighth of a GiB for all of them leaves as much for whatever else opening takes.
const _: () = assert!(MAX_BLOCKS * EACH <= 128 << 20);

/// What a block is replaced by.
#[derive(Clone, Debug)]
enum Patch {
    /// These bytes.
    Kept(Box<[u8]>),
    /// The bytes at this place of the volume.
    Elsewhere(u64),
    /// As `Elsewhere`, but for the first four bytes, which are these.
    Headed(u64, [u8; 4]),
}

/// A volume under replaced blocks.
pub(super) struct Overlay {
    base: Arc<dyn BlockSource>,
    /// Bytes in a block.
    block: u64,
    patches: BTreeMap<u64, Patch>,
    kept: u64,
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Overlay({} blocks over {:?})", self.patches.len(), self.base)
    }
}

impl Overlay {
    /// Nothing replaced yet. `block` is the number of bytes in a block, a power of two.
    pub(super) fn new(base: Arc<dyn BlockSource>, block: u32) -> Self {
        Self { base, block: u64::from(block.max(1)), patches: BTreeMap::new(), kept: 0 }
    }

    /// The number of blocks that the volume has whole.
    pub(super) fn end(&self) -> u64 {
        self.base.len().checked_div(self.block).unwrap_or(0)
    }

    /// Blocks replaced so far.
    pub(super) fn replaced(&self) -> usize {
        self.patches.len()
    }

    /// Replaces block `number` by `bytes`, of which there must be a block.
    ///
    /// # Errors
    /// `OutOfRange` for a block outside the volume; `Limit` when more would be kept than memory should hold.
    pub(super) fn keep(&mut self, number: u64, bytes: Vec<u8>) -> Result<()> {
        self.check(number)?;
        if wide(bytes.len()) != self.block {
            return Err(Error::out_of_range(0, wide(bytes.len()), self.block));
        }
        self.kept = self.kept.saturating_add(self.block);
        if self.kept > MAX_KEPT {
            return Err(Error::limit(format!(
                "a journal that replaces more than {MAX_KEPT} bytes, which is all that is kept in memory"
            )));
        }
        self.put(number, Patch::Kept(bytes.into()))
    }

    /// Replaces block `number` by the block that lies at byte `at` of the volume, with other first bytes if `head` has any.
    ///
    /// # Errors
    /// `OutOfRange` when either is outside the volume; `Limit` for too many blocks.
    pub(super) fn divert(&mut self, number: u64, at: u64, head: Option<[u8; 4]>) -> Result<()> {
        self.check(number)?;
        check_range(at, narrow(self.block), self.base.len())?;
        self.put(number, head.map_or(Patch::Elsewhere(at), |head| Patch::Headed(at, head)))
    }

    /// Gives block `number` back to the volume.
    pub(super) fn forget(&mut self, number: u64) {
        if let Some(Patch::Kept(bytes)) = self.patches.remove(&number) {
            self.kept = self.kept.saturating_sub(wide(bytes.len()));
        }
    }

    /// Is any of these bytes replaced?
    pub(super) fn touches(&self, bytes: Range<u64>) -> bool {
        self.next(&bytes).is_some()
    }

    fn check(&self, number: u64) -> Result<()> {
        check_range(number.saturating_mul(self.block), narrow(self.block), self.base.len())
    }

    fn put(&mut self, number: u64, patch: Patch) -> Result<()> {
        if let Some(Patch::Kept(old)) = self.patches.insert(number, patch) {
            self.kept = self.kept.saturating_sub(wide(old.len()));
        }
        if self.patches.len() > MAX_BLOCKS {
            return Err(Error::limit(format!("a journal that replaces more than {MAX_BLOCKS} blocks")));
        }
        Ok(())
    }

    /// A byte as its block and the byte in that block.
    fn split(&self, offset: u64) -> (u64, u64) {
        (offset.checked_div(self.block).unwrap_or(0), offset.checked_rem(self.block).unwrap_or(0))
    }

    /// The first replaced block that holds a byte of `range`.
    fn next(&self, range: &Range<u64>) -> Option<(u64, &Patch)> {
        let (first, _) = self.split(range.start);
        let (number, patch) = self.patches.range(first..).next()?;
        (number.saturating_mul(self.block) < range.end).then_some((*number, patch))
    }

    fn read_patch(&self, patch: &Patch, buf: &mut [u8], skip: u64) -> Result<()> {
        let (at, head) = match patch {
            Patch::Kept(bytes) => {
                let part = bytes.get(narrow(skip)..).and_then(|rest| rest.get(..buf.len()));
                buf.copy_from_slice(part.unwrap_or_default());
                return Ok(());
            }
            Patch::Elsewhere(at) => (at, None),
            Patch::Headed(at, head) => (at, Some(head)),
        };
        self.base.read_at(buf, at.saturating_add(skip))?;
        for (place, byte) in (0_u64..).zip(head.into_iter().flatten()) {
            if let Some(target) = place.checked_sub(skip).and_then(|place| buf.get_mut(narrow(place))) {
                *target = *byte;
            }
        }
        Ok(())
    }
}

impl BlockSource for Overlay {
    fn len(&self) -> u64 {
        self.base.len()
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        while !buf.is_empty() {
            let range = offset..offset.saturating_add(wide(buf.len()));
            let Some((number, patch)) = self.next(&range) else { return self.base.read_at(buf, offset) };
            let start = number.saturating_mul(self.block);
            if start > offset {
                let (now, rest) = buf.split_at_mut(narrow(start.saturating_sub(offset)));
                self.base.read_at(now, offset)?;
                (buf, offset) = (rest, start);
                continue;
            }
            let skip = offset.saturating_sub(start);
            let len = narrow(self.block.saturating_sub(skip)).min(buf.len());
            let (now, rest) = buf.split_at_mut(len);
            self.read_patch(patch, now, skip)?;
            (buf, offset) = (rest, offset.saturating_add(wide(len)));
        }
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        self.extent_within(offset, self.len())
    }

    fn extent_within(&self, offset: u64, most: u64) -> Result<Extent> {
        let Some((number, _)) = self.next(&(offset..self.len())) else {
            return self.base.extent_within(offset, most);
        };
        let start = number.saturating_mul(self.block);
        if start > offset {
            let below = self.base.extent_within(offset, most)?;
            return Ok(Extent { len: below.len.min(start.saturating_sub(offset)), ..below });
        }
        let end = start.saturating_add(self.block).min(self.len());
        Ok(Extent { len: end.saturating_sub(offset), zero: false, hole: false })
    }

    fn advise(&self, ranges: &[Range<u64>]) {
        self.base.advise(ranges);
    }

    fn step(&self, offset: u64) -> Result<Step> {
        let below = |at| Below::Stored(Arc::clone(&self.base), at);
        let Some((number, patch)) = self.next(&(offset..self.len())) else {
            return Ok(Step { len: self.len().saturating_sub(offset), below: below(offset) });
        };
        let start = number.saturating_mul(self.block);
        if start > offset {
            return Ok(Step { len: start.saturating_sub(offset), below: below(offset) });
        }
        let skip = offset.saturating_sub(start);
        let below = match patch {
            Patch::Kept(_) => Below::Here,
            // The first four bytes lie nowhere.
            Patch::Headed(_, _) if skip < 4 => {
                return Ok(Step { len: 4_u64.saturating_sub(skip), below: Below::Here });
            }
            Patch::Elsewhere(at) | Patch::Headed(at, _) => below(at.saturating_add(skip)),
        };
        Ok(Step { len: self.block.saturating_sub(skip), below })
    }

    fn label(&self) -> String {
        self.base.label()
    }

    fn preferred_size(&self) -> u32 {
        self.base.preferred_size()
    }

    fn stored_size(&self) -> u64 {
        self.base.stored_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte `i` is `i / 16`.
    #[derive(Debug)]
    struct Sixteens;

    impl BlockSource for Sixteens {
        fn len(&self) -> u64 {
            128
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            check_range(offset, buf.len(), 128)?;
            for (byte, at) in buf.iter_mut().zip(offset..) {
                *byte = u8::try_from(at.div_euclid(16)).unwrap();
            }
            Ok(())
        }
    }

    fn overlay() -> Overlay {
        let mut overlay = Overlay::new(Arc::new(Sixteens), 16);
        overlay.keep(1, vec![0xaa; 16]).unwrap();
        overlay.divert(3, 96, None).unwrap();
        overlay.divert(4, 112, Some([1, 2, 3, 4])).unwrap();
        overlay
    }

    /// What block `number` reads as, by the definition.
    fn expected() -> Vec<u8> {
        let mut all: Vec<u8> = (0..8).flat_map(|block| [block; 16]).collect();
        all[16..32].fill(0xaa);
        all[48..64].fill(6);
        all[64..80].fill(7);
        all[64..68].copy_from_slice(&[1, 2, 3, 4]);
        all
    }

    #[test]
    fn every_piece_reads_as_replaced() {
        let (overlay, expected) = (overlay(), expected());
        for start in 0..128_usize {
            for end in start..=128 {
                let mut buf = vec![0xee; end.saturating_sub(start)];
                overlay.read_at(&mut buf, wide(start)).unwrap();
                assert_eq!(buf, expected[start..end], "{start}..{end}");
            }
        }
        assert!(overlay.read_at(&mut [0; 2], 127).is_err());
    }

    #[test]
    fn what_is_outside_the_volume_is_refused() {
        let mut overlay = overlay();
        assert!(overlay.keep(8, vec![0; 16]).is_err());
        assert!(overlay.divert(0, 113, None).is_err());
        assert!(overlay.divert(u64::MAX, 0, None).is_err());
        assert!(overlay.keep(0, vec![0; 15]).is_err());
    }

    #[test]
    fn a_forgotten_block_is_the_volumes_again() {
        let mut overlay = overlay();
        overlay.forget(1);
        let mut buf = [0; 16];
        overlay.read_at(&mut buf, 16).unwrap();
        assert_eq!((buf, overlay.replaced(), overlay.kept), ([1; 16], 2, 0));
    }

    #[test]
    fn extents_and_steps_cover_the_volume() {
        let overlay = overlay();
        let mut at = 0;
        while at < 128 {
            let extent = overlay.extent(at).unwrap();
            assert!(extent.len > 0 && !extent.zero);
            assert!(overlay.step(at).unwrap().len > 0);
            at = at.saturating_add(extent.len);
        }
        assert_eq!(at, 128);
    }
}
