//! Pages: an image's tables (L1 and L2, grain directories and tables, a BAT), read a page at a time.
//!
//! A table may be gigabytes long in a crafted image and is megabytes long in a large honest one, so no driver loads
//! one whole. The pages read last are kept, within a bound per image; a look-up copies a reference and holds no lock
//! while it reads.

use crate::block::BlockSource;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use lru::LruCache;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Locks among which the pages are spread, so that readers of different places seldom meet.
const SHARDS: u64 = 8;

/// Bytes of a page of tables: of a qcow2 with 64 KiB clusters or a VMDK with 64 KiB grains it covers 32 MiB of disk.
pub(super) const TABLE_PAGE: u64 = 4096;

/// Table pages kept: 4 MiB an image, which covers 32 GiB of scattered reads at the usual cluster size.
pub(super) const TABLE_PAGES: usize = 1024;

/// The tables of one file. See the module.
pub(super) struct Pages {
    source: Arc<dyn BlockSource>,
    page: u64,
    shards: Vec<Mutex<LruCache<u64, Arc<[u8]>>>>,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({:?})", self.source)
    }
}

/// Which bit of a byte stands for the first of its eight sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BitOrder {
    /// The most significant one (VHD).
    HighFirst,
    /// The least significant one (VHDX).
    LowFirst,
}

/// The bytes from some offset to the end of its page.
#[derive(Debug)]
pub(super) struct Window {
    page: Arc<[u8]>,
    from: usize,
}

impl Deref for Window {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.page.get(self.from..).unwrap_or_default()
    }
}

impl Pages {
    /// For the tables of `source`.
    pub(super) fn new(source: Arc<dyn BlockSource>) -> Self {
        Self::with(source, TABLE_PAGE, TABLE_PAGES)
    }

    /// With pages of `page` bytes, of which about `kept` are kept.
    pub(super) fn with(source: Arc<dyn BlockSource>, page: u64, kept: usize) -> Self {
        let each = NonZeroUsize::new(kept / 8).unwrap_or(NonZeroUsize::MIN);
        let shards = (0..SHARDS).map(|_| Mutex::new(LruCache::new(each))).collect();
        Self { source, page: page.max(1), shards }
    }

    /// The length of the file.
    pub(super) fn file_len(&self) -> u64 {
        self.source.len()
    }

    /// The `N` bytes at `offset`, which lie in one page: `N` divides the page, and the table starts at a multiple of `N`.
    ///
    /// # Errors
    /// `Corrupt` at `at` when the file ends before; what reading reports.
    pub(super) fn get<const N: usize>(&self, offset: u64, at: &At) -> Result<[u8; N]> {
        let window = self.window(offset, at)?;
        window.first_chunk::<N>().copied().ok_or_else(|| self.past_end(offset, at))
    }

    /// The bytes from `offset` to the end of its page; never empty.
    ///
    /// # Errors
    /// As [`Pages::get`].
    pub(super) fn window(&self, offset: u64, at: &At) -> Result<Window> {
        let number = offset.checked_div(self.page).unwrap_or(0);
        let start = number.saturating_mul(self.page);
        let from = narrow(offset.saturating_sub(start));
        if offset >= self.file_len() {
            return Err(self.past_end(offset, at));
        }
        let shard =
            self.shards.get(narrow(number % SHARDS)).expect("the remainder is below the number of shards");
        let kept = shard.lock().unwrap_or_else(PoisonError::into_inner).get(&number).map(Arc::clone);
        if let Some(page) = kept {
            return Ok(Window { page, from });
        }
        let mut bytes = vec![0; narrow(self.page.min(self.file_len().saturating_sub(start)))];
        self.source.read_at(&mut bytes, start)?;
        let page: Arc<[u8]> = bytes.into();
        shard.lock().unwrap_or_else(PoisonError::into_inner).put(number, Arc::clone(&page));
        Ok(Window { page, from })
    }

    /// Bit `first` of the bitmap at byte `offset`, and how many bits from it on are the same: at most `most`, and only as
    /// far as one page tells.
    ///
    /// # Errors
    /// As [`Pages::get`].
    pub(super) fn same_bits(
        &self,
        offset: u64,
        first: u64,
        most: u64,
        order: BitOrder,
        at: &At,
    ) -> Result<(bool, u64)> {
        let window = self.window(offset.saturating_add(first / 8), at)?;
        let mut skip = first % 8;
        let head = window.first().copied().unwrap_or(0);
        let is_set = match order {
            BitOrder::HighFirst => head << skip & 0x80 != 0,
            BitOrder::LowFirst => head >> skip & 1 != 0,
        };
        let mut same = 0_u64;
        for byte in window.iter() {
            let other = if is_set { !byte } else { *byte };
            let run = match order {
                BitOrder::HighFirst => (other << skip).leading_zeros(),
                BitOrder::LowFirst => (other >> skip).trailing_zeros(),
            };
            let left = 8_u64.saturating_sub(skip);
            let run = u64::from(run).min(left);
            same = same.saturating_add(run);
            if run < left || same >= most {
                break;
            }
            skip = 0;
        }
        Ok((is_set, same.min(most).max(1)))
    }

    fn past_end(&self, offset: u64, at: &At) -> Error {
        Error::corrupt(at.clone().byte(offset)).because(format!(
            "lies past the end of the file ({:#x} bytes); the file was cut off or the table is wrong",
            self.file_len()
        ))
    }
}

/// How many of `len` bytes of guest data at `host_offset` the file holds; at least one.
///
/// # Errors
/// `Corrupt` at `at` when the file ends at or before `host_offset`: bytes that are missing are an error, never zeros.
pub(super) fn held(len: u64, host_offset: u64, file_len: u64, at: &At) -> Result<u64> {
    match file_len.checked_sub(host_offset) {
        Some(left) if left > 0 => Ok(len.min(left)),
        _ => Err(Error::corrupt(at.clone()).because(format!(
            "points to byte {host_offset:#x}, but the file ends at {file_len:#x}: it was cut off, or the table is wrong"
        ))
        .help("compare the file's size and checksum with the original's and copy it again")),
    }
}

/// The little-endian 32-bit entries of a window.
pub(super) fn entries_le32(window: &[u8]) -> impl Iterator<Item = u32> + '_ {
    window.chunks_exact(4).map(|bytes| bytes.first_chunk().copied().map_or(0, u32::from_le_bytes))
}

/// The big-endian 32-bit entries of a window.
pub(super) fn entries_be32(window: &[u8]) -> impl Iterator<Item = u32> + '_ {
    window.chunks_exact(4).map(|bytes| bytes.first_chunk().copied().map_or(0, u32::from_be_bytes))
}

/// Entries of one table, counted as the length of a run.
pub(super) fn count(entries: usize) -> u64 {
    wide(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::check_range;

    #[derive(Debug)]
    struct Bytes(Vec<u8>);

    impl BlockSource for Bytes {
        fn len(&self) -> u64 {
            wide(self.0.len())
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            check_range(offset, buf.len(), self.len())?;
            buf.copy_from_slice(&self.0[narrow(offset)..][..buf.len()]);
            Ok(())
        }
    }

    #[test]
    fn an_entry_past_the_end_is_corrupt_and_the_last_one_is_not() {
        let pages = Pages::with(Arc::new(Bytes((0..24).collect())), 16, 8);
        let at = At::new("x", "table");
        assert_eq!(pages.get::<8>(16, &at).unwrap(), [16, 17, 18, 19, 20, 21, 22, 23]);
        assert!(pages.get::<8>(24, &at).is_err());
        assert!(pages.get::<8>(u64::MAX, &at).is_err());
    }

    #[test]
    fn bits_are_counted_across_bytes_in_either_order() {
        let pages = Pages::with(Arc::new(Bytes(vec![0b0011_1111, 0xff, 0b1000_0001, 0])), 16, 8);
        let at = At::new("x", "bitmap");
        let run = |first, most, order| pages.same_bits(0, first, most, order, &at).unwrap();
        assert_eq!(run(0, 100, BitOrder::HighFirst), (false, 2));
        assert_eq!(run(2, 100, BitOrder::HighFirst), (true, 15));
        assert_eq!(run(2, 10, BitOrder::HighFirst), (true, 10));
        assert_eq!(run(0, 100, BitOrder::LowFirst), (true, 6));
        assert_eq!(run(6, 100, BitOrder::LowFirst), (false, 2));
        assert_eq!(run(8, 100, BitOrder::LowFirst), (true, 9));
        assert_eq!(run(24, 100, BitOrder::LowFirst), (false, 8));
    }
}
