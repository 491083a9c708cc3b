//! QED: the QEMU enhanced disk, a copy-on-write image without reference counts.
//!
//! ```text
//! header ─ backing file name
//!    └─ L1 table ─▶ L2 table ─▶ cluster: stored │ zero │ none → backing file, or a hole
//! ```
//! Both kinds of tables have the same size, a number of clusters. All numbers are little-endian.
//! Specification: qemu, `docs/interop/qed_spec.txt`.

use super::backing::{self, Stated};
use super::clusters::{Cluster, ClusterMap, Disk, Entries, L1};
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Probe};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::wide;
use crate::ondisk::{parse_struct, read_table};
use crate::text::escape;
use std::sync::Arc;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The format.
pub const FORMAT: Format = Format {
    name: "qed",
    aliases: &[],
    about: "QEMU enhanced disk: zero clusters, backing files",
    probe,
    open,
};

/// Bits of `features`: whoever does not know a set bit must not open the image.
const BACKING_FILE: u64 = 1 << 0;
const NEED_CHECK: u64 = 1 << 1;
const BACKING_FORMAT_NO_PROBE: u64 = 1 << 2;

/// Longest backing file name that is taken: Linux's longest path. The specification only wants it within the header's
/// clusters.
const MAX_BACKING_NAME: u64 = 4096;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Header {
    magic: [u8; 4],               // 0x00 "QED\0"
    cluster_size: U32,            // 0x04 bytes, power of two, 4 KiB to 64 MiB
    table_size: U32,              // 0x08 clusters, power of two, 1 to 16
    header_size: U32,             // 0x0c clusters
    features: U64,                // 0x10
    compat_features: U64,         // 0x18 unknown bits may be ignored
    autoclear_features: U64,      // 0x20 unknown bits may be ignored by a reader
    l1_table_offset: U64,         // 0x28 byte, cluster-aligned
    image_size: U64,              // 0x30 virtual size in bytes, multiple of 512
    backing_filename_offset: U32, // 0x38 byte
    backing_filename_size: U32,   // 0x3c bytes
}
const _: () = assert!(size_of::<Header>() == 64);

impl Header {
    /// Checks a header.
    ///
    /// # Errors
    /// `NotAnImage` without the signature; `Unsupported` for an unknown feature; `Corrupt` for fields outside the
    /// specification.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let corrupt =
            |byte: u64, why: String| Err(Error::corrupt(At::new("qed", "header").byte(byte)).because(why));
        if !bytes.starts_with(b"QED\0") {
            return Err(Error::new(
                ErrorKind::NotAnImage,
                "is not a QED image: it does not begin with 'QED\\0'",
            ));
        }
        let header: Self = parse_struct(bytes, At::new("qed", "header"))?;
        let unknown = header.features.get() & !(BACKING_FILE | NEED_CHECK | BACKING_FORMAT_NO_PROBE);
        if unknown != 0 {
            return Err(Error::unsupported(format!("features bit {}", unknown.trailing_zeros()))
                .at(At::new("qed", "header").byte(0x10)));
        }
        let (cluster, table) = (header.cluster_size.get(), header.table_size.get());
        if !cluster.is_power_of_two() || !(1 << 12..=1 << 26).contains(&cluster) {
            return corrupt(
                4,
                format!("cluster_size is {cluster}, must be a power of two, 4096 to 67108864"),
            );
        }
        if !table.is_power_of_two() || table > 16 {
            return corrupt(8, format!("table_size is {table}, must be a power of two, 1 to 16"));
        }
        let offset = header.l1_table_offset.get();
        if !offset.is_multiple_of(cluster.into()) || offset < header.head() {
            return corrupt(
                0x28,
                format!("the L1 table at {offset:#x} is not cluster-aligned or in the header"),
            );
        }
        let size = header.image_size.get();
        if !size.is_multiple_of(512) {
            return corrupt(0x30, format!("image_size is {size}, must be a multiple of 512"));
        }
        let bits = header.table_bits().saturating_mul(2).saturating_add(header.cluster_bits());
        if bits < 64 && size > 1 << bits {
            return corrupt(0x30, format!("image_size is {size}, the tables reach to {:#x}", 1_u64 << bits));
        }
        if header.features.get() & BACKING_FILE != 0 {
            let (offset, len) = (header.backing_filename_offset.get(), header.backing_filename_size.get());
            if u64::from(offset).saturating_add(len.into()) > header.head() {
                return corrupt(
                    0x38,
                    format!("the backing file's name ({len} bytes at {offset:#x}) is not within the header"),
                );
            }
        }
        Ok(header)
    }

    /// Bytes of the header with all that belongs to it.
    fn head(&self) -> u64 {
        u64::from(self.header_size.get()).saturating_mul(self.cluster_size.get().into())
    }

    fn cluster_bits(&self) -> u32 {
        self.cluster_size.get().trailing_zeros()
    }

    /// Entries of a table, as a power of two.
    fn table_bits(&self) -> u32 {
        self.cluster_bits().saturating_add(self.table_size.get().trailing_zeros()).saturating_sub(3)
    }
}

/// How entries are written.
#[derive(Debug)]
struct Offsets {
    cluster_bits: u32,
    /// Bytes of the header, where no table and no cluster lies.
    head: u64,
}

impl Offsets {
    fn check(&self, offset: u64, what: &str) -> Result<u64, String> {
        if offset.trailing_zeros() < self.cluster_bits {
            return Err(format!("the {what} at {offset:#x} is not cluster-aligned"));
        }
        if offset < self.head {
            return Err(format!("the {what} at {offset:#x} lies in the header"));
        }
        Ok(offset)
    }
}

impl Entries for Offsets {
    const FORMAT: &'static str = "qed";

    fn number(bytes: [u8; 8]) -> u64 {
        u64::from_le_bytes(bytes)
    }

    fn l2_table(&self, raw: u64) -> Result<Option<u64>, String> {
        if raw == 0 { Ok(None) } else { self.check(raw, "L2 table").map(Some) }
    }

    fn cluster(&self, raw: u64, _: u64, _: u64) -> Result<Cluster, String> {
        Ok(match raw {
            0 => Cluster::NONE,
            1 => Cluster::ZERO,
            offset => Cluster::at(self.check(offset, "cluster")?),
        })
    }
}

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    probe.has(0, b"QED\0").then_some(Confidence::Signature)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let len = wide(size_of::<Header>());
    let head = read_table(&*source, 0, source.len().min(len), len, At::new("qed", "header"), cx.budget)?;
    let header = Header::parse(&head)?;
    let l1 = L1 { offset: header.l1_table_offset.get(), entries: 1 << header.table_bits() };
    let l1 = l1.within(source.len(), At::new("qed", "L1 table"))?;
    let features = header.features.get();
    let mut facts = vec![
        ("cluster size", header.cluster_size.to_string()),
        ("table size", header.table_size.to_string()),
    ];
    let mut warnings = Vec::new();
    if features & NEED_CHECK != 0 {
        facts.push(("need check", "yes".to_owned()));
        warnings.push("the image is marked NEED_CHECK: its writer did not close it; clusters are read as its tables say, 'qemu-img check' looks for damage".to_owned());
    }
    let mut parent = None;
    if features & BACKING_FILE != 0 {
        let at = At::new("qed", "backing file name");
        let (offset, len) = (header.backing_filename_offset.get(), header.backing_filename_size.get());
        let name = read_table(&*source, offset.into(), len.into(), MAX_BACKING_NAME, at, cx.budget)?;
        facts.push(("backing file", escape(&name).to_string()));
        let raw = features & BACKING_FORMAT_NO_PROBE != 0;
        let opened = backing::open(&name, if raw { Stated::As(b"raw") } else { Stated::Nowhere }, cx)?;
        if raw {
            facts.push(("backing format", "raw".to_owned()));
        } else {
            warnings.push(format!(
                "a QED image cannot say the format of a backing file that is not raw; it is taken for {}",
                opened.format
            ));
        }
        parent = Some(opened);
    }
    let offsets = Offsets { cluster_bits: header.cluster_bits(), head: header.head() };
    let bits = (header.cluster_bits(), header.table_bits());
    let map = ClusterMap::new(Arc::clone(&source), bits, parent.is_some(), offsets);
    let below = parent.as_ref().map(|parent| Arc::clone(&parent.disk));
    let disk = cx.mapper.map(Disk { size: header.image_size.get(), l1, map, files: [source], parent: below });
    let mut opened = Opened { facts, warnings, ..Opened::single(disk, FORMAT.name, cx) };
    if let Some(parent) = parent {
        backing::put_below(&mut opened, parent);
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sound header of a 1 MiB disk with 4 KiB clusters, and some bytes to spoil.
    fn with(at: usize, bytes: &[u8]) -> Result<Header> {
        let mut head = vec![0; 64];
        head[..4].copy_from_slice(b"QED\0");
        head[4..16].copy_from_slice(&[0, 16, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        head[40..48].copy_from_slice(&4096_u64.to_le_bytes());
        head[48..56].copy_from_slice(&(1_u64 << 20).to_le_bytes());
        head[at..][..bytes.len()].copy_from_slice(bytes);
        Header::parse(&head)
    }

    fn said(at: usize, bytes: &[u8]) -> (ErrorKind, String) {
        let error = with(at, bytes).unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn a_sound_header_is_taken() {
        assert_eq!(with(0, b"").unwrap().table_bits(), 9);
        assert_eq!(with(8, &[16]).unwrap().table_bits(), 13);
    }

    #[test]
    fn unknown_features_are_refused_and_unknown_compatible_ones_are_not() {
        let (kind, text) = said(0x10, &[0x08]);
        assert!(kind == ErrorKind::Unsupported && text.contains("features bit 3"), "{text}");
        assert!(with(0x18, &[0xff; 16]).is_ok());
    }

    #[test]
    fn sizes_outside_the_specification_are_corrupt() {
        let sizes: [(usize, &[u8]); 6] =
            [(4, &[0, 8]), (4, &[0, 0, 0, 8]), (4, &[1, 16]), (8, &[3]), (8, &[32]), (0x30, &[1])];
        assert!(sizes.iter().all(|(at, bytes)| said(*at, bytes).0 == ErrorKind::Corrupt));
    }

    #[test]
    fn a_disk_larger_than_its_tables_reach_is_corrupt() {
        // 512 tables of 512 clusters of 4 KiB.
        assert!(with(0x30, &(1_u64 << 30).to_le_bytes()).is_ok());
        assert_eq!(said(0x30, &((1_u64 << 30) + 512).to_le_bytes()).0, ErrorKind::Corrupt);
    }

    #[test]
    fn a_name_outside_the_header_is_corrupt() {
        let mut fields = vec![1];
        fields.resize(0x30, 0);
        fields[0x18..0x28]
            .copy_from_slice(&[[0, 16, 0, 0, 0, 0, 0, 0], (1_u64 << 20).to_le_bytes()].concat());
        fields[0x28..].copy_from_slice(&[0xf0, 0x0f, 0, 0, 0x11, 0, 0, 0]);
        assert_eq!(said(0x10, &fields).0, ErrorKind::Corrupt);
        fields[0x2c] = 0x10;
        assert!(with(0x10, &fields).is_ok());
    }

    #[test]
    fn no_cluster_lies_in_the_header_or_between_two() {
        let offsets = Offsets { cluster_bits: 12, head: 4096 };
        assert_eq!(
            (offsets.cluster(0, 0, 0), offsets.cluster(1, 0, 0)),
            (Ok(Cluster::NONE), Ok(Cluster::ZERO))
        );
        assert_eq!(offsets.cluster(8192, 0, 0), Ok(Cluster::at(8192)));
        assert!(offsets.cluster(8193, 0, 0).is_err() && offsets.cluster(2, 0, 0).is_err());
        assert!(offsets.l2_table(8704).is_err() && Offsets { head: 8192, ..offsets }.l2_table(4096).is_err());
    }
}
