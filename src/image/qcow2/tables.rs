//! The entries of qcow2's tables: which bits of them mean what, and which must not be set.
//!
//! Specification: qemu, `docs/interop/qcow2.txt`, sections "Cluster mapping" and "Extended L2 Entries".

use super::super::clusters::{Cluster, Entries};
use super::header::Header;

/// Bits 9 to 55: the offset of an L2 table or a standard cluster.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63: the reference count is exactly one. It says nothing to a reader, but for the cluster at offset 0 of a data file.
const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of a *standard* cluster descriptor of version 3. In a compressed one the same bit belongs to the offset.
const ZERO: u64 = 1;

/// How an image of these features writes its entries.
#[derive(Debug)]
pub(super) struct Descriptors {
    version: u32,
    cluster_bits: u32,
    /// "Extended L2 Entries": a bitmap of subclusters follows each descriptor.
    extended: bool,
    /// "External data file": clusters lie there at the offset that they have on the disk.
    data_file: bool,
}

impl Descriptors {
    pub(super) fn new(header: &Header) -> Self {
        Self {
            version: header.version,
            cluster_bits: header.cluster_bits,
            extended: header.has_extended_l2(),
            data_file: header.has_data_file(),
        }
    }

    fn aligned(&self, offset: u64) -> bool {
        offset.trailing_zeros() >= self.cluster_bits
    }
}

impl Entries for Descriptors {
    const FORMAT: &'static str = "qcow2";

    fn number(bytes: [u8; 8]) -> u64 {
        u64::from_be_bytes(bytes)
    }

    fn l2_table(&self, raw: u64) -> Result<Option<u64>, String> {
        if raw & !(OFFSET | COPIED) != 0 {
            return Err(format!("entry {raw:#018x} has reserved bits set"));
        }
        let offset = raw & OFFSET;
        if !self.aligned(offset) {
            return Err(format!("the L2 table at {offset:#x} is not cluster-aligned"));
        }
        Ok((offset != 0).then_some(offset))
    }

    fn cluster(&self, raw: u64, bitmap: u64, number: u64) -> Result<Cluster, String> {
        let wrong = |why: &str| Err(format!("cluster descriptor {raw:#018x} {why}"));
        if raw & COMPRESSED != 0 {
            if self.data_file {
                return wrong(
                    "is compressed, which no cluster of an image with an external data file may be",
                );
            }
            if self.extended && bitmap != 0 {
                return wrong("is compressed and has subclusters");
            }
            // "Compressed Clusters Descriptor": x = 62 - (cluster_bits - 8); below x the byte offset, above it how
            // many 512-byte sectors follow the one the offset lies in. The stream may end anywhere in the last one,
            // and the last sector of the file need not be whole.
            let x = 70_u32.saturating_sub(self.cluster_bits);
            let offset = raw & (1_u64 << x).wrapping_sub(1);
            let sectors = (raw & !(COMPRESSED | COPIED)) >> x;
            let most = sectors.saturating_add(1).saturating_mul(512).saturating_sub(offset & 511);
            return Ok(Cluster::Packed { offset, most });
        }
        let flag = if self.version >= 3 && !self.extended { ZERO } else { 0 };
        if raw & !(OFFSET | COPIED | flag) != 0 {
            return wrong("has reserved bits set");
        }
        let host = raw & OFFSET;
        if !self.aligned(host) {
            return wrong("is not cluster-aligned");
        }
        let at_zero = host == 0 && raw & COPIED != 0;
        if at_zero && !self.data_file {
            return wrong("claims the header's cluster");
        }
        let is_somewhere = host != 0 || at_zero;
        if self.data_file && is_somewhere && host >> self.cluster_bits != number {
            return wrong(&format!("is not where the external data file has cluster {number}"));
        }
        let (stored, zero) = if self.extended {
            halves(bitmap)
        } else if raw & flag != 0 {
            (0, u32::MAX)
        } else {
            (if is_somewhere { u32::MAX } else { 0 }, 0)
        };
        if stored & zero != 0 {
            return wrong(&format!("has subclusters both allocated and zero ({bitmap:#018x})"));
        }
        if stored != 0 && !is_somewhere {
            return wrong(&format!("has allocated subclusters ({bitmap:#018x}), but no offset"));
        }
        Ok(Cluster::Plain { host, stored, zero })
    }
}

/// "Subcluster Allocation Bitmap": bits 0 to 31 allocated, bits 32 to 63 zero.
fn halves(bitmap: u64) -> (u32, u32) {
    let [z0, z1, z2, z3, a0, a1, a2, a3] = bitmap.to_be_bytes();
    (u32::from_be_bytes([a0, a1, a2, a3]), u32::from_be_bytes([z0, z1, z2, z3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Descriptors =
        Descriptors { version: 3, cluster_bits: 16, extended: false, data_file: false };
    const EXTENDED: Descriptors = Descriptors { extended: true, ..PLAIN };
    const DATA_FILE: Descriptors = Descriptors { data_file: true, ..PLAIN };

    fn wrong(entries: &Descriptors, raw: u64, bitmap: u64) -> String {
        entries.cluster(raw, bitmap, 0).unwrap_err()
    }

    #[test]
    fn each_half_of_a_bitmap_is_for_the_subclusters_in_order() {
        let cluster = EXTENDED.cluster(COPIED | 0x5_0000, 0x8000_0000_0000_0003, 0).unwrap();
        assert_eq!(cluster, Cluster::Plain { host: 0x5_0000, stored: 3, zero: 0x8000_0000 });
    }

    #[test]
    fn a_subcluster_cannot_be_allocated_and_zero() {
        assert!(
            wrong(&EXTENDED, COPIED | 0x5_0000, 0x0000_0001_0000_0001).contains("both allocated and zero")
        );
    }

    #[test]
    fn an_allocated_subcluster_needs_an_offset_and_a_zero_one_does_not() {
        assert!(wrong(&EXTENDED, 0, 1).contains("no offset"));
        assert_eq!(EXTENDED.cluster(0, 1 << 32, 0), Ok(Cluster::Plain { host: 0, stored: 0, zero: 1 }));
    }

    #[test]
    fn bit_0_is_the_zero_flag_only_of_a_standard_descriptor_of_version_3() {
        assert_eq!(PLAIN.cluster(ZERO, 0, 0), Ok(Cluster::ZERO));
        assert!(wrong(&EXTENDED, ZERO, 0).contains("reserved"));
        assert!(wrong(&Descriptors { version: 2, ..PLAIN }, ZERO, 0).contains("reserved"));
        let packed = PLAIN.cluster(COMPRESSED | 0x5_0001, 0, 0);
        assert_eq!(packed, Ok(Cluster::Packed { offset: 0x5_0001, most: 511 }));
    }

    #[test]
    fn a_compressed_cluster_has_no_subclusters() {
        assert!(wrong(&EXTENDED, COMPRESSED | 0x5_0000, 1).contains("subclusters"));
    }

    #[test]
    fn a_data_file_has_each_cluster_where_the_disk_has_it_also_the_first() {
        assert_eq!(DATA_FILE.cluster(COPIED, 0, 0), Ok(Cluster::at(0)));
        assert_eq!(DATA_FILE.cluster(0, 0, 0), Ok(Cluster::NONE));
        assert_eq!(DATA_FILE.cluster(COPIED | 0x2_0000, 0, 2), Ok(Cluster::at(0x2_0000)));
        assert!(wrong(&DATA_FILE, COPIED | 0x2_0000, 0).contains("not where"));
        assert!(wrong(&DATA_FILE, COMPRESSED | 0x2_0000, 0).contains("compressed"));
    }
}
