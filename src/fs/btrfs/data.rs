//! Data, and the checksums that each of its blocks has: reading both, and taking another copy where they do not agree.
//!
//! The tree of checksums holds those of consecutive blocks in one item: (EXTENT_CSUM, logical byte of the first).

use super::key::{Key, kind, object};
use super::pool::Pool;
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::num::{narrow, round_up, wide};

/// A read that does not begin and end with blocks goes through a buffer of our own up to this size, to stay one read.
const BOUNCE: u64 = 256 << 10;
/// Bytes read at once: their checksums take 128 KiB at most.
const AT_ONCE: usize = 16 << 20;

impl Pool {
    /// Fills `buf` from logical byte `at` on; every block that is touched is compared with its checksum.
    ///
    /// # Errors
    /// `Corrupt` with the address of a block that is wrong on every copy; what the devices report.
    pub(super) fn read_data(
        &self,
        at: u64,
        buf: &mut [u8],
        is_unsummed: bool,
        budget: &Budget,
    ) -> Result<()> {
        if is_unsummed {
            return self.devices.read(&self.chunks, at, buf, self.sb.sector, budget, &|_, _| None);
        }
        let sector = u64::from(self.sb.sector);
        let skip = at.rem_euclid(sector);
        let len = wide(buf.len());
        if skip == 0 && len.is_multiple_of(sector) {
            let mut here = at;
            for part in buf.chunks_mut(AT_ONCE) {
                self.read_blocks(here, part, budget)?;
                here = here.saturating_add(wide(part.len()));
            }
            return Ok(());
        }
        let start = at.saturating_sub(skip);
        let whole = skip.checked_add(len).and_then(|len| round_up(len, sector)).unwrap_or(u64::MAX);
        if whole <= BOUNCE {
            let mut bytes = vec![0; narrow(whole)];
            self.read_blocks(start, &mut bytes, budget)?;
            let part = bytes.get(narrow(skip)..).and_then(|rest| rest.get(..buf.len()));
            buf.copy_from_slice(part.unwrap_or_default());
            return Ok(());
        }
        // The blocks at the ends alone, what is between straight into place.
        let head = if skip == 0 { 0 } else { narrow(sector.saturating_sub(skip)) };
        let tail = narrow(len.saturating_sub(wide(head)).rem_euclid(sector));
        let (head, rest) = buf.split_at_mut(head.min(buf.len()));
        let (middle, tail) = rest.split_at_mut(rest.len().saturating_sub(tail));
        let middle_at = at.saturating_add(wide(head.len()));
        let tail_at = middle_at.saturating_add(wide(middle.len()));
        for (part, at) in [(head, at), (middle, middle_at), (tail, tail_at)] {
            if !part.is_empty() {
                self.read_data(at, part, false, budget)?;
            }
        }
        Ok(())
    }

    /// Whole blocks.
    fn read_blocks(&self, at: u64, buf: &mut [u8], budget: &Budget) -> Result<()> {
        let (sector, sum) = (narrow(self.sb.sector.into()), self.sb.sum);
        let sums = self.sums(at, buf.len().div_ceil(sector.max(1)))?;
        self.devices.read(&self.chunks, at, buf, self.sb.sector, budget, &|here, bytes| {
            let first = narrow(here.saturating_sub(at)).checked_div(sector)?;
            for (n, block) in bytes.chunks(sector).enumerate() {
                let from = first.saturating_add(n).saturating_mul(sum.len());
                let stored = sums.get(from..)?.get(..sum.len())?;
                if !sum.matches(block, stored) {
                    let why = if stored.iter().all(|byte| *byte == 0) {
                        "the block has no checksum".to_owned()
                    } else {
                        format!("the block's {} checksum does not match", sum.name())
                    };
                    return Some((n.saturating_mul(sector), block.len(), why));
                }
            }
            None
        })
    }

    /// The checksums of `count` blocks from logical byte `at` on, one behind the other; zeros for a block without one,
    /// which no block has by right.
    fn sums(&self, at: u64, count: usize) -> Result<Vec<u8>> {
        let tree = self.csums.as_ref().map_err(Clone::clone)?;
        let size = self.sb.sum.len();
        // At most AT_ONCE / 4096 blocks, of 32 bytes each.
        let mut sums = vec![0; count.saturating_mul(size)];
        let sector = u64::from(self.sb.sector);
        let end = at.saturating_add(wide(count).saturating_mul(sector));
        let key = |offset| Key::new(object::CSUMS, kind::EXTENT_CSUM, offset);
        let before = self.floor(tree, key(at))?.filter(|item| item.key.is(object::CSUMS, kind::EXTENT_CSUM));
        let mut put = |first: u64, stored: &[u8]| -> Option<()> {
            // Where the two overlap, in blocks from `at` on and in blocks of the item.
            let (skip, from) = match first.checked_sub(at) {
                Some(behind) => (behind.checked_div(sector)?, 0),
                None => (0, at.saturating_sub(first).checked_div(sector)?),
            };
            let target = sums.get_mut(narrow(skip).saturating_mul(size)..)?;
            let source = stored.get(narrow(from).saturating_mul(size)..)?;
            let len = target.len().min(source.len());
            target.get_mut(..len)?.copy_from_slice(source.get(..len)?);
            Some(())
        };
        let mut items = self.items(tree, before.map_or(key(at), |item| item.key))?;
        while let Some(item) = items.next_of(object::CSUMS, kind::EXTENT_CSUM)? {
            if item.key.offset >= end {
                break;
            }
            // As the kernel has it. So there are no more items than blocks.
            let is_aligned = item.key.offset.is_multiple_of(sector);
            if item.data.is_empty() || !item.data.len().is_multiple_of(size) || !is_aligned {
                let place = At::new("btrfs", "checksums of logical address").byte(item.key.offset);
                return Err(Error::corrupt(place).because(format!("has {} bytes", item.data.len())));
            }
            put(item.key.offset, &item.data);
        }
        let before = self.log_csums.range(..=at).next_back();
        let after = self.log_csums.range(at.saturating_add(1)..end.max(at.saturating_add(1)));
        for (first, stored) in before.into_iter().chain(after) {
            put(*first, stored);
        }
        Ok(sums)
    }
}
