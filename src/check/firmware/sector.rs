//! A sector of 512 bytes, by which a BIOS counts whatever the disk's own sectors are.

use crate::block::BlockSource;
use crate::error::Result;
use crate::num::{narrow, wide};

/// Its size in bytes.
pub(super) const SECTOR: u64 = 512;

/// Reads `count` sectors from sector `first` on; `None` when the disk ends before them.
///
/// # Errors
/// What the disk reports.
pub(super) fn read(disk: &dyn BlockSource, first: u64, count: u64) -> Result<Option<Vec<u8>>> {
    let bytes = |sectors: u64| sectors.checked_mul(SECTOR);
    let end = first.checked_add(count).and_then(bytes);
    let (Some(start), Some(len)) = (bytes(first), bytes(count)) else { return Ok(None) };
    if end.is_none_or(|end| end > disk.len()) {
        return Ok(None);
    }
    let mut sectors = vec![0; narrow(len)];
    disk.read_at(&mut sectors, start)?;
    Ok(Some(sectors))
}

/// The first sector of zeros, counted from the start of `sectors`.
pub(super) fn first_blank(sectors: &[u8]) -> Option<u64> {
    let blank = |sector: &[u8]| sector.iter().all(|byte| *byte == 0);
    sectors.chunks(narrow(SECTOR)).position(blank).map(wide)
}

/// Does it hold this text?
pub(super) fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Does it end as a boot sector does?
pub(super) fn is_boot_sector(sector: &[u8]) -> bool {
    sector.get(510..512) == Some(&[0x55, 0xaa])
}
