//! The qcow2 header: its fixed fields, its extensions, and which features it claims.
//!
//! Specification: qemu, `docs/interop/qcow2.txt`, sections "Header", "Header extensions", "Feature name table".

use crate::error::{At, Error, ErrorKind, Result};
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
    /// crypt_method 1: AES-256-CBC with the passphrase as the key.
    Aes,
    /// crypt_method 2: LUKS, whose header lies at this byte of the file and has this length, if the extension says so.
    Luks(Option<(u64, u64)>),
}

/// Incompatible features: whoever does not know a set bit must not open the image.
pub(super) const DIRTY: u64 = 1 << 0;
pub(super) const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// A checked header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) size: u64,
    pub(super) l1_entries: u64,
    pub(super) l1_offset: u64,
    pub(super) incompatible: u64,
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
    data_file: Option<Vec<u8>>,
    /// Byte and length of the LUKS header ("Full disk encryption header pointer").
    luks: Option<(u64, u64)>,
    /// Name of incompatible feature bits.
    names: Vec<(u8, Vec<u8>)>,
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
            1 => return Err(Error::unsupported("qcow version 1").help(CONVERT)),
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
        check_features(incompatible, &extensions)?;
        let encryption = match raw.crypt_method.get() {
            0 => Encryption::None,
            1 => Encryption::Aes,
            2 => Encryption::Luks(extensions.luks),
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
            l1_entries: u64::from(raw.l1_size.get()),
            l1_offset: raw.l1_table_offset.get(),
            incompatible,
            refcount_bits: 1 << refcount_order,
            compression,
            encryption,
            snapshots: raw.nb_snapshots.get(),
            snapshots_offset: raw.snapshots_offset.get(),
            backing: backing.filter(|(_, len)| *len > 0),
            extensions,
        };
        header.check_l1()?;
        Ok(header)
    }

    /// Refuses encrypted clusters.
    ///
    /// # Errors
    /// `Encrypted` with the method.
    pub(super) fn refuse_encryption(&self) -> Result<()> {
        match self.encryption {
            Encryption::None => Ok(()),
            Encryption::Aes => Err(encrypted("AES")),
            Encryption::Luks(_) => Err(encrypted("LUKS")),
        }
    }

    /// Bytes of a cluster.
    pub(super) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn check_l1(&self) -> Result<()> {
        /// As qemu (`QCOW_MAX_L1_SIZE`); at 64 KiB clusters it is enough for 2 PiB.
        const MAX_L1: u64 = 32 << 20;
        let entries = self.l1_entries;
        if entries.saturating_mul(8) > MAX_L1 {
            return Err(Error::limit(format!("an L1 table of {entries} entries, over {} MiB", MAX_L1 >> 20))
                .at(At::new("qcow2", "header").byte(0x24)));
        }
        if self.l1_offset & self.cluster().saturating_sub(1) != 0 {
            return Err(corrupt(
                0x28,
                format!("the L1 table at {:#x} is not cluster-aligned", self.l1_offset),
            ));
        }
        // An L2 table fills a cluster with 8-byte entries, each for one cluster.
        let per_l1 = 1_u64 << self.cluster_bits.saturating_mul(2).saturating_sub(3);
        let needed = self.size.div_ceil(per_l1);
        if entries < needed {
            return Err(corrupt(
                0x24,
                format!("the L1 table has {entries} entries, a disk of {} bytes needs {needed}", self.size),
            ));
        }
        Ok(())
    }
}

const CONVERT: &str = "qemu-img convert -O qcow2 OLD NEW makes an image that can be read";

fn encrypted(method: &str) -> Error {
    Error::new(ErrorKind::Encrypted, format!("the disk is encrypted ({method}), and no key can be given yet"))
        .help("qemu-img convert with the key makes a plain image")
}

/// Refuses what the specification says must not be opened without being understood, by its own name.
fn check_features(bits: u64, extensions: &Extensions) -> Result<()> {
    let unknown = bits & !(DIRTY | CORRUPT | DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2);
    if unknown != 0 {
        let bit = unknown.trailing_zeros();
        let name = extensions.names.iter().find(|(known, _)| u32::from(*known) == bit);
        let name =
            name.map_or_else(|| "without a name".to_owned(), |(_, name)| format!("'{}'", escape(name)));
        return Err(Error::unsupported(format!("incompatible feature bit {bit} ({name})"))
            .at(At::new("qcow2", "header").byte(0x48)));
    }
    if bits & DATA_FILE != 0 {
        let name = extensions.data_file.as_ref();
        let name = name.map(|name| format!(" '{}'", escape(name))).unwrap_or_default();
        return Err(Error::unsupported(format!("an external data file{name}")).help(CONVERT));
    }
    if bits & EXTENDED_L2 != 0 {
        return Err(Error::unsupported("extended L2 entries (subclusters)").help(CONVERT));
    }
    Ok(())
}

impl Extensions {
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

/// Entries of 48 bytes: kind (0 = incompatible), bit, name padded with NUL.
fn feature_names(table: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let entries = table.chunks_exact(48).filter_map(|entry| match entry {
        [0, bit, name @ ..] => {
            Some((*bit, name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()))
        }
        _ => None,
    });
    entries.collect()
}

/// The identifying data of a snapshot, for `info`: id and name.
pub(super) fn snapshot(entry: &[u8]) -> Option<(u64, String)> {
    // Snapshot table entry: l1 offset 8, l1 size 4, id length 2, name length 2, seconds 4, nanoseconds 4,
    // clock 8, state size 4, extra length 4, extra, id, name; padded to 8.
    let id_len = usize::from(crate::ondisk::get_be16(entry, 12)?);
    let name_len = usize::from(crate::ondisk::get_be16(entry, 14)?);
    let extra = usize::try_from(get_be32(entry, 36)?).ok()?;
    let id_at = 40_usize.checked_add(extra)?;
    let name_at = id_at.checked_add(id_len)?;
    let end = name_at.checked_add(name_len)?;
    get_be64(entry, 0)?;
    let (id, name) = (entry.get(id_at..name_at)?, entry.get(name_at..end)?);
    Some((round_up(wide(end), 8)?, format!("{} '{}'", escape(id), escape(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn encryption_is_refused_by_its_name() {
        for (method, name) in [(1_u32, "AES"), (2, "LUKS")] {
            let error = with(32, &method.to_be_bytes()).unwrap().refuse_encryption().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encrypted);
            assert!(error.to_string().contains(name));
        }
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
