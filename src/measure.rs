//! How large a disk would be as a QCOW2 file, found without converting it: some clouds judge an image by that size.
//!
//! The formula is that of `qemu-img measure -O qcow2` (QEMU `block/qcow2.c`, `qcow2_measure`): metadata for the whole
//! virtual size, plus the clusters that hold data. What counts as data is the question: an extent that is stored may
//! still hold nothing but zeros, which `qemu-img convert` leaves out. So the answer is a [`Range`], and reading every
//! stored byte (`full_scan`) makes its ends meet.

use crate::block::BlockSource;
use crate::budget::{Budget, Limits};
use crate::error::{Error, Result};
use crate::num::{narrow, wide};

/// Cluster size of a new qcow2 image in bytes, QEMU's default.
const CLUSTER: u64 = 65536;
/// Entries of 8 bytes in one cluster of an L1, L2 or refcount table.
const ENTRIES: u64 = CLUSTER / 8;
/// Refcounts of 16 bits, the default, in one cluster.
const REFCOUNTS: u64 = CLUSTER / 2;
/// Bytes read at once by a full scan; a multiple of the cluster size.
const CHUNK: u64 = 4 << 20;

/// The smallest and the largest size in bytes that are possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// If whatever was not read turned out to be zero.
    pub min: u64,
    /// If all of it is data. Equal to the "required size" of `qemu-img measure`.
    pub max: u64,
}

/// The size of `disk` as a QCOW2 file. With `full_scan` every stored byte is read, and both ends are the same.
///
/// # Errors
/// What the disk reports; `Limit` for a size no qcow2 can have.
pub fn qcow2_size(disk: &dyn BlockSource, full_scan: bool) -> Result<Range> {
    let size = disk.len();
    let metadata = metadata(size).ok_or_else(|| Error::limit(format!("a disk of {size} bytes")))?;
    let mut data = 0_u64;
    let mut offset = 0;
    let budget = Budget::new(Limits::OPEN);
    while offset < size {
        // A map of thousand millions of pieces can be named in a mebibyte. What is not looked at counts as data.
        if !full_scan && budget.is_late() {
            let rest = size.div_ceil(CLUSTER).saturating_sub(offset / CLUSTER);
            data = data.saturating_add(rest);
            break;
        }
        let extent = disk.extent(offset)?;
        let end = offset.saturating_add(extent.len.max(1)).min(size);
        if extent.zero {
            offset = end;
            continue;
        }
        // Clusters count as wholes: start at this one's beginning, go on after the last one's end.
        let (first, last) = (offset / CLUSTER, end.div_ceil(CLUSTER));
        data = data.saturating_add(if full_scan {
            nonzero_clusters(disk, first, last)?
        } else {
            last.saturating_sub(first)
        });
        offset = last.saturating_mul(CLUSTER);
    }
    let max = metadata.saturating_add(data.saturating_mul(CLUSTER));
    Ok(Range { min: if full_scan { max } else { metadata }, max })
}

/// How many of the clusters `first..last` hold a byte that is not zero.
fn nonzero_clusters(disk: &dyn BlockSource, first: u64, last: u64) -> Result<u64> {
    let end = last.saturating_mul(CLUSTER).min(disk.len());
    let mut at = first.saturating_mul(CLUSTER);
    let mut buf = vec![0; narrow(CHUNK.min(end.saturating_sub(at)))];
    let mut found = 0_u64;
    while at < end {
        let len = narrow(CHUNK.min(end.saturating_sub(at)));
        let Some(part) = buf.get_mut(..len) else { break };
        disk.read_at(part, at)?;
        let nonzero = part.chunks(narrow(CLUSTER)).filter(|cluster| !is_zero(cluster)).count();
        found = found.saturating_add(wide(nonzero));
        at = at.saturating_add(wide(len));
    }
    Ok(found)
}

/// Is every byte zero? Compares in words that the compiler turns into wide instructions.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}

/// Header, L1, L2 and refcounts of a fully allocated image.
fn metadata(size: u64) -> Option<u64> {
    let data = size.checked_next_multiple_of(CLUSTER)?;
    let l2_entries = (data / CLUSTER).checked_next_multiple_of(ENTRIES)?;
    let l2 = l2_entries.checked_mul(8)?;
    let l1 = l2_entries.div_euclid(ENTRIES).checked_next_multiple_of(ENTRIES)?.checked_mul(8)?;
    let meta = CLUSTER.checked_add(l2)?.checked_add(l1)?;
    meta.checked_add(refcounts(meta.checked_add(data)? / CLUSTER)?.checked_mul(CLUSTER)?)
}

/// Clusters of refcount table and blocks for so many others. They count themselves, so it is a fixed point.
fn refcounts(clusters: u64) -> Option<u64> {
    let mut own = 0_u64;
    loop {
        let blocks = clusters.checked_add(own)?.div_ceil(REFCOUNTS);
        let next = blocks.checked_add(blocks.div_ceil(ENTRIES))?;
        if next == own {
            return Some(own);
        }
        own = next;
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test's own numbers")]
mod tests {
    use super::*;
    use crate::block::Extent;

    /// A disk whose extents are given: length and whether it is zero.
    #[derive(Debug)]
    struct Disk(Vec<(u64, bool)>);

    impl BlockSource for Disk {
        fn len(&self) -> u64 {
            self.0.iter().map(|(len, _)| len).sum()
        }

        fn read_at(&self, buf: &mut [u8], _offset: u64) -> Result<()> {
            buf.fill(0);
            Ok(())
        }

        fn extent(&self, offset: u64) -> Result<Extent> {
            let mut at = 0;
            for (len, zero) in &self.0 {
                at += len;
                if offset < at {
                    return Ok(Extent { len: at - offset, zero: *zero, hole: *zero });
                }
            }
            Err(Error::out_of_range(offset, 1, at))
        }
    }

    /// `qemu-img measure -O qcow2 --size N` (QEMU 10.0.2): "required size" and "fully allocated size".
    #[test]
    fn sizes_are_those_of_qemu_img_measure() {
        let empty = |size| qcow2_size(&Disk(vec![(size, true)]), false).unwrap().max;
        let full = |size| qcow2_size(&Disk(vec![(size, false)]), false).unwrap().max;
        assert_eq!((empty(1 << 20), full(1 << 20)), (327_680, 1_376_256));
        assert_eq!((empty(10 << 30), full(10 << 30)), (1_900_544, 10_739_318_784));
        assert_eq!((empty(5 << 40), full(5 << 40)), (839_188_480, 5_498_397_327_360));
    }

    #[test]
    fn a_cluster_is_counted_once_however_many_extents_touch_it() {
        let disk = Disk(vec![(4096, false), (4096, true), (4096, false), (1 << 20, true)]);
        let none = metadata(disk.len()).unwrap();
        assert_eq!(qcow2_size(&disk, false).unwrap(), Range { min: none, max: none + CLUSTER });
    }

    #[test]
    fn a_full_scan_leaves_out_stored_zeros() {
        let disk = Disk(vec![(1 << 20, false)]);
        let none = metadata(disk.len()).unwrap();
        assert_eq!(qcow2_size(&disk, true).unwrap(), Range { min: none, max: none });
    }
}
