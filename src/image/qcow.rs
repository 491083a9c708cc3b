//! qcow: version 1 of qemu's copy-on-write image, from before qcow2.
//!
//! ```text
//! header ─ backing file name
//!    └─ L1 table ─▶ L2 table ─▶ cluster: stored │ deflate │ none → backing file, or a hole
//! ```
//! Nobody wrote a specification; this follows qemu, `block/qcow.c`: `QCowHeader`, `qcow_open`, `get_cluster_offset`,
//! `decompress_buffer`. All numbers are big-endian. An image does not say the format of its backing file.

use super::backing::{self, Stated};
use super::ciphered::OldKey;
use super::clusters::{Cluster, ClusterMap, Disk, Entries, L1, inflate_cluster};
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Probe};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::wide;
use crate::ondisk::{parse_struct, read_table};
use crate::text::escape;
use std::sync::Arc;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The format.
pub const FORMAT: Format = Format {
    name: "qcow",
    aliases: &["qcow1"],
    about: "qemu's first copy-on-write image (version 1): deflate clusters, backing files, encryption",
    probe,
    open,
};

/// Longest backing file name that qemu takes.
const MAX_BACKING_NAME: u32 = 1023;
/// Bit 63 of an L2 entry.
const COMPRESSED: u64 = 1 << 63;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Header {
    magic: [u8; 4],           // 0x00 "QFI\xfb"
    version: U32,             // 0x04 1
    backing_file_offset: U64, // 0x08 byte, 0 = none
    backing_file_size: U32,   // 0x10 bytes of the name
    mtime: U32,               // 0x14 of the backing file, seconds; nobody looks at it
    size: U64,                // 0x18 virtual size in bytes
    cluster_bits: u8,         // 0x20 9..=16
    l2_bits: u8,              // 0x21 entries of an L2 table, as a power of two: 6..=13
    padding: U16,             // 0x22
    crypt_method: U32,        // 0x24 0 none, 1 AES
    l1_table_offset: U64,     // 0x28 byte; behind the name, at a multiple of 8
}
const _: () = assert!(size_of::<Header>() == 48);

impl Header {
    /// Checks a header.
    ///
    /// # Errors
    /// `NotAnImage` without the signature; `Unsupported` for another version or encryption; `Corrupt` for
    /// fields outside what qemu takes.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let corrupt =
            |byte: u64, why: String| Err(Error::corrupt(At::new("qcow", "header").byte(byte)).because(why));
        if !bytes.starts_with(b"QFI\xfb") {
            let why = "is not a qcow image: it does not begin with 'QFI\\xfb'";
            return Err(Error::new(ErrorKind::NotAnImage, why));
        }
        let header: Self = parse_struct(bytes, At::new("qcow", "header"))?;
        if header.version.get() != 1 {
            return Err(Error::unsupported(format!("version {} as qcow version 1", header.version))
                .help("later versions are called qcow2: --format qcow2"));
        }
        if header.crypt_method.get() > 1 {
            return Err(Error::unsupported(format!("crypt_method {}", header.crypt_method)));
        }
        if !(9..=16).contains(&header.cluster_bits) {
            return corrupt(0x20, format!("cluster_bits is {}, must be 9 to 16", header.cluster_bits));
        }
        if !(6..=13).contains(&header.l2_bits) {
            return corrupt(0x21, format!("l2_bits is {}, must be 6 to 13", header.l2_bits));
        }
        if header.backing_file_offset.get() != 0 && header.backing_file_size.get() > MAX_BACKING_NAME {
            let len = header.backing_file_size.get();
            return corrupt(
                0x10,
                format!("the backing file's name has {len} bytes, at most {MAX_BACKING_NAME} are allowed"),
            );
        }
        if !header.l1_table_offset.get().is_multiple_of(8) {
            let at = header.l1_table_offset.get();
            return corrupt(0x28, format!("the L1 table at {at:#x} is not at a multiple of 8"));
        }
        Ok(header)
    }

    /// The L1 table. Its length is stated nowhere: it has an entry for each L2 table that the disk needs.
    fn l1(&self) -> L1 {
        let bits = u32::from(self.cluster_bits).saturating_add(self.l2_bits.into());
        L1 { offset: self.l1_table_offset.get(), entries: self.size.get().div_ceil(1 << bits) }
    }
}

/// How entries are written.
#[derive(Debug)]
struct Offsets {
    cluster_bits: u32,
}

impl Entries for Offsets {
    const FORMAT: &'static str = "qcow";

    fn number(bytes: [u8; 8]) -> u64 {
        u64::from_be_bytes(bytes)
    }

    fn l2_table(&self, raw: u64) -> Result<Option<u64>, String> {
        if !raw.is_multiple_of(8) {
            return Err(format!("the L2 table at {raw:#x} is not at a multiple of 8"));
        }
        Ok((raw != 0).then_some(raw))
    }

    fn cluster(&self, raw: u64, _: u64, _: u64) -> Result<Cluster, String> {
        if raw & COMPRESSED != 0 {
            // Below the flag the length in as many bits as a cluster has bytes; below that the offset.
            let x = 63_u32.saturating_sub(self.cluster_bits);
            return Ok(Cluster::Packed {
                offset: raw & (1_u64 << x).wrapping_sub(1),
                most: (raw & !COMPRESSED) >> x,
            });
        }
        if !raw.is_multiple_of(512) {
            return Err(format!("the cluster at {raw:#x} is not at a multiple of 512"));
        }
        Ok(if raw == 0 { Cluster::NONE } else { Cluster::at(raw) })
    }

    fn unpack(stored: &[u8], number: u64, size: u64) -> Result<Vec<u8>> {
        inflate_cluster(stored, size, At::new("qcow", "compressed cluster").index(number))
    }
}

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    probe.has(0, b"QFI\xfb\0\0\0\x01").then_some(Confidence::Signature)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let len = wide(size_of::<Header>());
    let head = read_table(&*source, 0, source.len().min(len), len, At::new("qcow", "header"), cx.budget)?;
    let header = Header::parse(&head)?;
    let l1 = header.l1().within(source.len(), At::new("qcow", "L1 table"))?;
    let bits = (header.cluster_bits.into(), header.l2_bits.into());
    let (name_at, name_len) = (header.backing_file_offset.get(), header.backing_file_size.get());
    let mut facts = vec![("version", "1".to_owned())];
    let mut warnings = Vec::new();
    let key = if header.crypt_method.get() == 1 { Some(OldKey::given(cx.keys)?) } else { None };
    if key.is_some() {
        facts.push(("encryption", OldKey::METHOD.to_owned()));
        warnings.push(OldKey::WARNING.to_owned());
    }
    let mut parent = None;
    if name_at != 0 && name_len != 0 {
        let at = At::new("qcow", "backing file name");
        let name = read_table(&*source, name_at, name_len.into(), MAX_BACKING_NAME.into(), at, cx.budget)?;
        facts.push(("backing file", escape(&name).to_string()));
        let opened = backing::open(&name, Stated::Nowhere, cx)?;
        warnings.push(format!(
            "a qcow image cannot say the format of its backing file; it is taken for {}",
            opened.format
        ));
        parent = Some(opened);
    }
    let map = ClusterMap::new(Arc::clone(&source), bits, parent.is_some(), Offsets { cluster_bits: bits.0 });
    facts.insert(1, ("cluster size", map.cluster().to_string()));
    let below = parent.as_ref().map(|parent| Arc::clone(&parent.disk));
    let layout = Disk { size: header.size.get(), l1, map, files: [source], parent: below };
    let disk = match &key {
        Some(key) => key.open(layout, cx.mapper)?,
        None => cx.mapper.map(layout),
    };
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
        let mut head = vec![0; 48];
        head[..8].copy_from_slice(b"QFI\xfb\0\0\0\x01");
        head[24..32].copy_from_slice(&(1_u64 << 20).to_be_bytes());
        head[32..34].copy_from_slice(&[12, 9]);
        head[40..48].copy_from_slice(&48_u64.to_be_bytes());
        head[at..][..bytes.len()].copy_from_slice(bytes);
        Header::parse(&head)
    }

    fn kind(at: usize, bytes: &[u8]) -> ErrorKind {
        with(at, bytes).unwrap_err().kind()
    }

    #[test]
    fn the_l1_table_has_an_entry_for_each_l2_table_that_the_disk_needs() {
        assert_eq!(with(0, b"").unwrap().l1(), L1 { offset: 48, entries: 1 });
        assert_eq!(with(24, &((2_u64 << 20) + 1).to_be_bytes()).unwrap().l1().entries, 2);
        assert_eq!(with(24, &u64::MAX.to_be_bytes()).unwrap().l1().entries, 1 << 43);
    }

    #[test]
    fn fields_outside_what_qemu_takes_are_refused() {
        assert_eq!((kind(32, &[8]), kind(32, &[17])), (ErrorKind::Corrupt, ErrorKind::Corrupt));
        assert_eq!((kind(33, &[5]), kind(33, &[14])), (ErrorKind::Corrupt, ErrorKind::Corrupt));
        assert_eq!(kind(40, &49_u64.to_be_bytes()), ErrorKind::Corrupt);
        assert_eq!(kind(7, &[2]), ErrorKind::Unsupported);
        assert_eq!(kind(39, &[2]), ErrorKind::Unsupported);
    }

    #[test]
    fn a_compressed_entry_is_a_length_and_an_offset() {
        let entry = COMPRESSED | 0x123 << 51 | 0x4567;
        let cluster = Offsets { cluster_bits: 12 }.cluster(entry, 0, 0).unwrap();
        assert_eq!(cluster, Cluster::Packed { offset: 0x4567, most: 0x123 });
    }
}
