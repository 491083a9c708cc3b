//! The two-level cluster map of qcow2: an L1 table of L2 tables of cluster descriptors.
//!
//! Specification: qemu, `docs/interop/qcow2.txt`, section "Cluster mapping".

use super::super::pages::{Pages, count, entries_be64, held};
use super::header::Header;
use crate::block::BlockSource;
use crate::error::{At, Error, Result};
use std::sync::Arc;

/// Bits 9 to 55: the offset of an L2 table or a standard cluster.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63: the reference count is exactly one. Says nothing to a reader.
const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of a *standard* cluster descriptor of version 3. In a compressed one the same bit belongs to the offset.
const ZERO: u64 = 1;

/// Standard clusters that are looked at to lengthen a run. A reader of 4 KiB should not pay for more.
const MERGE: usize = 32;

/// Where one cluster lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    /// Nowhere in this image.
    Unallocated,
    /// Stated to read as zero.
    Zero,
    /// At this byte of the file.
    Standard(u64),
    /// Packed: byte of the file, and how many bytes at most.
    Compressed(u64, u64),
}

/// A run of clusters of one kind, and its length in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    pub(super) cluster: Cluster,
    pub(super) len: u64,
}

/// The tables of one image.
#[derive(Debug)]
pub(super) struct Tables {
    pages: Pages,
    version: u32,
    cluster_bits: u32,
    l1_offset: u64,
    l1_entries: u64,
}

impl Tables {
    pub(super) fn new(source: Arc<dyn BlockSource>, header: &Header) -> Self {
        Self {
            pages: Pages::new(source),
            version: header.version,
            cluster_bits: header.cluster_bits,
            l1_offset: header.l1_offset,
            l1_entries: header.l1_entries,
        }
    }

    fn cluster_mask(&self) -> u64 {
        (1_u64 << self.cluster_bits).wrapping_sub(1)
    }

    /// Entries of an L2 table, as a power of two: it fills a cluster with entries of 8 bytes.
    fn l2_bits(&self) -> u32 {
        self.cluster_bits.saturating_sub(3)
    }

    /// The run that starts at byte `offset` of the disk. A standard one starts at that byte, not at its cluster.
    pub(super) fn lookup(&self, offset: u64) -> Result<Mapping> {
        let in_cluster = offset & self.cluster_mask();
        let cluster = offset >> self.cluster_bits;
        let bytes = |clusters: u64| {
            clusters.checked_shl(self.cluster_bits).unwrap_or(u64::MAX).saturating_sub(in_cluster)
        };
        let l1_index = cluster >> self.l2_bits();
        let l2_index = cluster & (1_u64 << self.l2_bits()).wrapping_sub(1);
        let l2_left = (1_u64 << self.l2_bits()).saturating_sub(l2_index);
        let Some(l2_offset) = self.l2_table(l1_index)? else {
            let tables = self.empty_l2_tables(l1_index)?;
            let clusters = tables.saturating_sub(1).checked_shl(self.l2_bits()).unwrap_or(0);
            return Ok(Mapping {
                cluster: Cluster::Unallocated,
                len: bytes(clusters.saturating_add(l2_left)),
            });
        };
        let entry_at = l2_offset.saturating_add(l2_index.saturating_mul(8));
        let at = At::new("qcow2", "L2 table").index(l1_index).byte(entry_at);
        let window = self.pages.window(entry_at, &At::new("qcow2", "L2 table").index(l1_index))?;
        let mut entries = entries_be64(&window).take(crate::num::narrow(l2_left));
        let Some(first) = entries.next() else {
            return Err(Error::corrupt(at).because("the file ends within it"));
        };
        let first = self.descriptor(first, &at)?;
        Ok(match first {
            Cluster::Compressed(..) => Mapping { cluster: first, len: bytes(1) },
            Cluster::Unallocated | Cluster::Zero => {
                let same =
                    entries.take_while(|raw| self.descriptor(*raw, &at).is_ok_and(|c| c == first)).count();
                Mapping { cluster: first, len: bytes(count(same).saturating_add(1)) }
            }
            Cluster::Standard(host) => {
                let mut next = host;
                let same = entries.take(MERGE).take_while(|raw| {
                    next = next.saturating_add(1 << self.cluster_bits);
                    self.descriptor(*raw, &at).is_ok_and(|c| c == Cluster::Standard(next))
                });
                let len = bytes(count(same.count()).saturating_add(1));
                let host = host.saturating_add(in_cluster);
                Mapping {
                    cluster: Cluster::Standard(host),
                    len: held(len, host, self.pages.file_len(), &at)?,
                }
            }
        })
    }

    /// The byte of the L2 table that L1 entry `index` names.
    fn l2_table(&self, index: u64) -> Result<Option<u64>> {
        let at = At::new("qcow2", "L1 table").index(index);
        if index >= self.l1_entries {
            return Err(Error::corrupt(at).because(format!("the table has {} entries", self.l1_entries)));
        }
        let entry_at = self.l1_offset.saturating_add(index.saturating_mul(8));
        let raw = u64::from_be_bytes(self.pages.get(entry_at, &at)?);
        let at = at.byte(entry_at);
        if raw & !(OFFSET | COPIED) != 0 {
            return Err(Error::corrupt(at).because(format!("entry {raw:#018x} has reserved bits set")));
        }
        let offset = raw & OFFSET;
        if offset & self.cluster_mask() != 0 {
            return Err(
                Error::corrupt(at).because(format!("the L2 table at {offset:#x} is not cluster-aligned"))
            );
        }
        Ok((offset != 0).then_some(offset))
    }

    /// How many L1 entries from `index` on name no L2 table, as far as one page of the table tells.
    fn empty_l2_tables(&self, index: u64) -> Result<u64> {
        let at = self.l1_offset.saturating_add(index.saturating_mul(8));
        let window = self.pages.window(at, &At::new("qcow2", "L1 table").index(index))?;
        let empty = entries_be64(&window).take_while(|raw| *raw == 0).count();
        Ok(count(empty).min(self.l1_entries.saturating_sub(index)).max(1))
    }

    /// Reads one cluster descriptor.
    fn descriptor(&self, raw: u64, at: &At) -> Result<Cluster> {
        let corrupt = |why: &str| {
            Err(Error::corrupt(at.clone()).because(format!("cluster descriptor {raw:#018x} {why}")))
        };
        if raw & COMPRESSED != 0 {
            // "Compressed Clusters Descriptor": x = 62 - (cluster_bits - 8); below x the byte offset, above it how
            // many 512-byte sectors follow the one the offset lies in. The stream may end anywhere in the last one.
            let x = 70_u32.saturating_sub(self.cluster_bits);
            let offset = raw & (1_u64 << x).wrapping_sub(1);
            let sectors = (raw & !(COMPRESSED | COPIED)) >> x;
            let most = sectors.saturating_add(1).saturating_mul(512).saturating_sub(offset & 511);
            // The last sector of the file need not be whole.
            return Ok(Cluster::Compressed(offset, held(most, offset, self.pages.file_len(), at)?));
        }
        let zero = self.version >= 3 && raw & ZERO != 0;
        let reserved = if self.version >= 3 { !(OFFSET | COPIED | ZERO) } else { !(OFFSET | COPIED) };
        if raw & reserved != 0 {
            return corrupt("has reserved bits set");
        }
        let offset = raw & OFFSET;
        if offset & self.cluster_mask() != 0 {
            return corrupt("is not cluster-aligned");
        }
        match (zero, offset) {
            (true, _) => Ok(Cluster::Zero),
            (false, 0) if raw == 0 => Ok(Cluster::Unallocated),
            (false, 0) => corrupt("claims the header's cluster"),
            (false, _) => Ok(Cluster::Standard(offset)),
        }
    }
}
