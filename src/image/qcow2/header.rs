//! The qcow2 header: its fixed fields, its extensions, and which features it claims.
//!
//! Specification: qemu, `docs/interop/qcow2.txt`, sections "Header", "Header extensions", "Feature name table".

use super::super::clusters::L1;
use crate::error::{At, Error, Result};
use crate::num::{narrow, round_up, wide};
use crate::ondisk::{be32, be64, get_be32, get_be64, parse_struct};
use crate::text::escape;
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of the head that are read for header and extensions. qemu's extensions take about 400.
pub(super) const HEAD: u64 = 64 << 10;

/// Longest backing file name, specification: "must not be longer than 1023 bytes".
pub(super) const MAX_BACKING_NAME: u32 = 1023;

/// The fields of every version.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Raw {
    magic: [u8; 4],               // 0x00 "QFI\xfb"
    version: U32,                 // 0x04 2 or 3
    backing_file_offset: U64,     // 0x08 byte, 0 = none
    backing_file_size: U32,       // 0x10 bytes of the name
    cluster_bits: U32,            // 0x14 9..=21
    size: U64,                    // 0x18 virtual size in bytes
    crypt_method: U32,            // 0x20 0 none, 1 AES, 2 LUKS
    l1_size: U32,                 // 0x24 entries
    l1_table_offset: U64,         // 0x28 byte, cluster-aligned
    refcount_table_offset: U64,   // 0x30 byte
    refcount_table_clusters: U32, // 0x38 clusters
    nb_snapshots: U32,            // 0x3c
    snapshots_offset: U64,        // 0x40 byte, cluster-aligned
}
const _: () = assert!(size_of::<Raw>() == 72);

/// What a compressed cluster is packed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Raw deflate; named zlib by the specification.
    Zlib,
    /// zstd frames.
    Zstd,
}

/// How the bytes of the clusters are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    /// Not at all.
    None,
    /// crypt_method 1: AES-CBC with the passphrase as the key.
    Aes,
    /// crypt_method 2: LUKS, whose header lies at this byte of the file and has this length.
    Luks((u64, u64)),
}

/// Incompatible features: whoever does not know a set bit must not open the image.
pub(super) const DIRTY: u64 = 1 << 0;
pub(super) const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Compatible features: whoever does not know a set bit may ignore it.
pub(super) const LAZY_REFCOUNTS: u64 = 1 << 0;

/// Autoclear features: as compatible ones, for a reader.
pub(super) const BITMAPS: u64 = 1 << 0;
const RAW_DATA_FILE: u64 = 1 << 1;

/// A checked header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) size: u64,
    pub(super) l1: L1,
    pub(super) incompatible: u64,
    pub(super) compatible: u64,
    pub(super) autoclear: u64,
    pub(super) refcount_bits: u64,
    pub(super) compression: Compression,
    pub(super) encryption: Encryption,
    pub(super) snapshots: u32,
    pub(super) snapshots_offset: u64,
    /// Byte and length of the backing file's name.
    pub(super) backing: Option<(u64, u32)>,
    pub(super) extensions: Extensions,
}

/// The header extensions that we look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Extensions {
    pub(super) backing_format: Option<Vec<u8>>,
    pub(super) bitmaps: Option<u32>,
    pub(super) data_file: Option<Vec<u8>>,
    /// Byte and length of the LUKS header ("Full disk encryption header pointer").
    luks: Option<(u64, u64)>,
    /// Kind (0 incompatible, 1 compatible, 2 autoclear), bit and name of features.
    names: Vec<(u8, u8, Vec<u8>)>,
}

fn corrupt(byte: u64, why: impl Into<String>) -> Error {
    Error::corrupt(At::new("qcow2", "header").byte(byte)).because(why)
}

impl Header {
    /// Reads the header at the start of `head`, the first [`HEAD`] bytes of a file.
    ///
    /// # Errors
    /// `Corrupt` for fields outside what the specification allows; `Unsupported` for another version, an unknown or
    /// unread feature; `Limit` for an L1 table over 32 MiB.
    pub(super) fn parse(head: &[u8]) -> Result<Self> {
        let at = At::new("qcow2", "header");
        let raw: Raw = parse_struct(head, at.clone())?;
        let version = raw.version.get();
        match version {
            2 | 3 => {}
            1 => {
                return Err(Error::unsupported("qcow version 1 as qcow2")
                    .help("it has a reader of its own: --format qcow"));
            }
            other => return Err(Error::unsupported(format!("qcow2 version {other}"))),
        }
        let cluster_bits = raw.cluster_bits.get();
        if !(9..=21).contains(&cluster_bits) {
            return Err(corrupt(0x14, format!("cluster_bits is {cluster_bits}, must be 9 to 21")));
        }
        let (incompatible, refcount_order, header_length) = if version == 2 {
            (0, 4, 72)
        } else {
            (be64(head, 72, &at)?, be32(head, 96, &at)?, be32(head, 100, &at)?)
        };
        let (compatible, autoclear) =
            if version == 2 { (0, 0) } else { (be64(head, 80, &at)?, be64(head, 88, &at)?) };
        let cluster = 1_u64 << cluster_bits;
        if version == 3 && (header_length < 104 || u64::from(header_length) > cluster) {
            return Err(corrupt(
                0x64,
                format!("header_length is {header_length}, must be 104 to the cluster size {cluster}"),
            ));
        }
        let backing = match raw.backing_file_offset.get() {
            0 => None,
            offset => Some((offset, raw.backing_file_size.get())),
        };
        // The extensions lie between the header and the backing file's name, or the end of the first cluster.
        let end = backing.map_or(cluster, |(offset, _)| offset.min(cluster)).min(wide(head.len()));
        let extensions = Extensions::parse(head, u64::from(header_length), end)?;
        check_features(incompatible, autoclear, &extensions)?;
        if incompatible & EXTENDED_L2 != 0 && cluster_bits < 14 {
            return Err(corrupt(
                0x14,
                format!("cluster_bits is {cluster_bits}, extended L2 entries need at least 14"),
            ));
        }
        let encryption = match raw.crypt_method.get() {
            0 => Encryption::None,
            1 => Encryption::Aes,
            2 => Encryption::Luks(extensions.luks.ok_or_else(|| {
                corrupt(0x20, "the disk is encrypted with LUKS, but no extension says where its header lies")
            })?),
            other => return Err(Error::unsupported(format!("crypt_method {other}"))),
        };
        if refcount_order > 6 {
            return Err(corrupt(0x60, format!("refcount_order is {refcount_order}, at most 6 is allowed")));
        }
        let kind = if header_length > 104 { head.get(104).copied().unwrap_or(0) } else { 0 };
        let compression = match (kind, incompatible & COMPRESSION_TYPE != 0) {
            (0, false) => Compression::Zlib,
            (1, true) => Compression::Zstd,
            (0 | 1, bit) => {
                return Err(corrupt(
                    0x68,
                    format!("compression_type is {kind}, but its incompatible bit is {}", u8::from(bit)),
                ));
            }
            (other, _) => return Err(Error::unsupported(format!("compression_type {other}"))),
        };
        if let Some((_, len)) = backing.filter(|(_, len)| *len > MAX_BACKING_NAME) {
            return Err(corrupt(
                0x10,
                format!("the backing file's name has {len} bytes, at most {MAX_BACKING_NAME} are allowed"),
            ));
        }
        let header = Self {
            version,
            cluster_bits,
            size: raw.size.get(),
            l1: L1 { offset: raw.l1_table_offset.get(), entries: raw.l1_size.get().into() },
            incompatible,
            compatible,
            autoclear,
            refcount_bits: 1 << refcount_order,
            compression,
            encryption,
            snapshots: raw.nb_snapshots.get(),
            snapshots_offset: raw.snapshots_offset.get(),
            backing: backing.filter(|(_, len)| *len > 0),
            extensions,
        };
        header.check_l1(header.l1, header.size, at)?;
        Ok(header)
    }

    /// Bytes of a cluster.
    pub(super) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bits of the index into an L2 table: it fills a cluster with entries of 8 bytes, or 16 ("Extended L2 Entries").
    pub(super) fn l2_bits(&self) -> u32 {
        self.cluster_bits.saturating_sub(if self.has_extended_l2() { 4 } else { 3 })
    }

    /// Do bitmaps of subclusters follow the descriptors?
    pub(super) const fn has_extended_l2(&self) -> bool {
        self.incompatible & EXTENDED_L2 != 0
    }

    /// Do the clusters lie in a file of their own?
    pub(super) const fn has_data_file(&self) -> bool {
        self.incompatible & DATA_FILE != 0
    }

    /// Is that file the disk as it is?
    pub(super) const fn has_raw_data_file(&self) -> bool {
        self.autoclear & RAW_DATA_FILE != 0
    }

    /// Checks an L1 table of a disk of `size` bytes: the image's own or a snapshot's.
    ///
    /// # Errors
    /// `Corrupt` at `at` when it is not aligned or too short; `Limit` over 32 MiB.
    pub(super) fn check_l1(&self, l1: L1, size: u64, at: At) -> Result<L1> {
        /// As qemu (`QCOW_MAX_L1_SIZE`); at 64 KiB clusters it is enough for 2 PiB.
        const MAX_L1: u64 = 32 << 20;
        let L1 { offset, entries } = l1;
        if entries.saturating_mul(8) > MAX_L1 {
            return Err(
                Error::limit(format!("an L1 table of {entries} entries, over {} MiB", MAX_L1 >> 20)).at(at)
            );
        }
        if offset & self.cluster().saturating_sub(1) != 0 {
            return Err(
                Error::corrupt(at).because(format!("the L1 table at {offset:#x} is not cluster-aligned"))
            );
        }
        let needed = size.div_ceil(1_u64 << self.cluster_bits.saturating_add(self.l2_bits()));
        if entries < needed {
            return Err(Error::corrupt(at).because(format!(
                "the L1 table has {entries} entries, a disk of {size} bytes needs {needed}"
            )));
        }
        Ok(l1)
    }

    /// Compatible and autoclear features that nobody knows: a reader may ignore them, and a person may want to know.
    pub(super) fn ignored_features(&self) -> Vec<String> {
        let known = [
            (1_u8, "compatible", self.compatible & !LAZY_REFCOUNTS),
            (2, "autoclear", self.autoclear & !(BITMAPS | RAW_DATA_FILE)),
        ];
        let named = known.into_iter().flat_map(|(kind, word, bits)| {
            let set = (0..64_u8).filter(move |bit| bits >> bit & 1 == 1);
            set.map(move |bit| format!("{word} bit {bit}{}", self.extensions.feature_name(kind, bit)))
        });
        named.collect()
    }
}

/// Refuses what the specification says must not be opened without being understood, by its own name.
fn check_features(incompatible: u64, autoclear: u64, extensions: &Extensions) -> Result<()> {
    let unknown = incompatible & !(DIRTY | CORRUPT | DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2);
    if unknown != 0 {
        let bit = u8::try_from(unknown.trailing_zeros()).unwrap_or(u8::MAX);
        let name = extensions.feature_name(0, bit);
        return Err(Error::unsupported(format!("incompatible feature bit {bit}{name}"))
            .at(At::new("qcow2", "header").byte(0x48)));
    }
    if autoclear & RAW_DATA_FILE != 0 && incompatible & DATA_FILE == 0 {
        return Err(corrupt(0x58, "says that its external data file is raw, but has no external data file"));
    }
    Ok(())
}

impl Extensions {
    /// The name that the image gives a feature, in brackets.
    fn feature_name(&self, kind: u8, bit: u8) -> String {
        let name = self.names.iter().find(|(k, b, _)| (*k, *b) == (kind, bit));
        name.map_or_else(|| " (without a name)".to_owned(), |(.., name)| format!(" ('{}')", escape(name)))
    }

    fn parse(head: &[u8], start: u64, end: u64) -> Result<Self> {
        let mut found = Self::default();
        let mut at = start;
        // Each round moves on by at least the 8 bytes of an extension's own header.
        while at.saturating_add(8) <= end {
            let (Some(kind), Some(len)) =
                (get_be32(head, narrow(at)), get_be32(head, narrow(at.saturating_add(4))))
            else {
                break;
            };
            let data_at = at.saturating_add(8);
            let data_end = data_at.saturating_add(u64::from(len));
            if kind == 0 {
                break;
            }
            let data =
                head.get(narrow(data_at)..narrow(data_end)).filter(|_| data_end <= end).ok_or_else(|| {
                    Error::corrupt(At::new("qcow2", "header extension").byte(at)).because(format!(
                        "type {kind:#x} has {len} bytes and runs past the header area's end {end:#x}"
                    ))
                })?;
            match kind {
                0xe279_2aca => found.backing_format = Some(data.to_vec()),
                0x6803_f857 => found.names = feature_names(data),
                0x4441_5441 => found.data_file = Some(data.to_vec()),
                0x0537_be77 => found.luks = get_be64(data, 0).zip(get_be64(data, 8)),
                0x2385_2875 => found.bitmaps = get_be32(data, 0),
                // Unknown extensions may be ignored (specification, "Header extensions").
                _ => {}
            }
            at = round_up(data_end, 8).unwrap_or(u64::MAX);
        }
        Ok(found)
    }
}

/// Entries of 48 bytes: kind, bit, name padded with NUL.
fn feature_names(table: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
    let entries = table.chunks_exact(48).filter_map(|entry| match entry {
        [kind, bit, name @ ..] => {
            Some((*kind, *bit, name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()))
        }
        _ => None,
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// A sound version-3 header of a 1 MiB disk with 64 KiB clusters, and one byte to spoil.
    fn sound() -> Vec<u8> {
        let mut head = vec![0; 4096];
        let mut put = |at: usize, bytes: &[u8]| head[at..][..bytes.len()].copy_from_slice(bytes);
        put(0, b"QFI\xfb");
        put(4, &3_u32.to_be_bytes());
        put(20, &16_u32.to_be_bytes());
        put(24, &(1_u64 << 20).to_be_bytes());
        put(36, &1_u32.to_be_bytes());
        put(40, &0x3_0000_u64.to_be_bytes());
        put(96, &4_u32.to_be_bytes());
        put(100, &112_u32.to_be_bytes());
        head
    }

    fn with(at: usize, bytes: &[u8]) -> Result<Header> {
        let mut head = sound();
        head[at..][..bytes.len()].copy_from_slice(bytes);
        Header::parse(&head)
    }

    #[test]
    fn a_sound_header_is_taken() {
        assert_eq!(Header::parse(&sound()).unwrap().size, 1 << 20);
    }

    #[test]
    fn an_unknown_incompatible_bit_is_refused_by_its_name() {
        let mut head = sound();
        head[79] = 0x20;
        head[112..120].copy_from_slice(&[0x68, 0x03, 0xf8, 0x57, 0, 0, 0, 48]);
        head[120..122].copy_from_slice(&[0, 5]);
        head[122..127].copy_from_slice(b"wor\x1bm");
        let error = Header::parse(&head).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("bit 5 ('wor\\x1bm')"), "{error}");
    }

    #[test]
    fn cluster_bits_outside_9_to_21_are_corrupt() {
        assert_eq!(with(20, &8_u32.to_be_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(with(20, &22_u32.to_be_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_l1_table_over_32_mib_is_refused() {
        assert_eq!(with(36, &0x40_0001_u32.to_be_bytes()).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn an_l1_table_too_short_for_the_disk_is_corrupt() {
        assert_eq!(with(24, &(1_u64 << 40).to_be_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_crypt_method_is_known_or_refused_and_luks_has_its_header() {
        assert_eq!(with(32, &1_u32.to_be_bytes()).unwrap().encryption, Encryption::Aes);
        assert_eq!(with(32, &2_u32.to_be_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(with(32, &3_u32.to_be_bytes()).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn zstd_without_its_incompatible_bit_is_corrupt() {
        assert_eq!(with(104, &[1]).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_extension_past_the_header_area_is_corrupt() {
        let error = with(112, &[0xe2, 0x79, 0x2a, 0xca, 0xff, 0xff, 0xff, 0xff]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn ten_bytes_are_no_header() {
        assert_eq!(Header::parse(&sound()[..10]).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
