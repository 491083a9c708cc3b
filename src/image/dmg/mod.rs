//! dmg: Apple's disk image (UDIF), whose blocks are packed in one of six ways.
//!
//! ```text
//! blocks … │ property list: for each partition a table, base64 in XML, of where its blocks lie │ trailer "koly", 512 bytes
//! ```
//! A `.dmg` without the trailer is a raw disk. Encrypted images are known by their signatures and refused.
//!
//! Apple has not published the format. Followed: qemu's `block/dmg.c`, libmodi's "Mac OS disk image types", and images made
//! by `hdiutil`.

use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{parse_struct, read_struct, read_table};
use blocks::{Block, Kind, SECTOR};
use std::sync::Arc;
use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

mod blocks;
mod codec;
mod lzfse;

/// The format.
pub const FORMAT: Format = Format {
    name: "dmg",
    aliases: &["udif"],
    about: "Apple's disk image (UDIF): raw, zlib, bzip2, LZFSE, LZMA and ADC blocks",
    probe,
    open,
};

/// The property list with all tables: at 40 bytes a block of usually 256 KiB, a disk of some 150 GiB.
const MAX_XML: u64 = 32 << 20;
/// Encrypted images: the second version begins so, the first ends so.
const ENCRYPTED: (&[u8], &[u8]) = (b"encrcdsa", b"cdsaencr");

/// The trailer.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Trailer {
    signature: [u8; 4],   // 0x000 "koly"
    version: U32,         // 0x004 4
    size: U32,            // 0x008 512
    flags: U32,           // 0x00c
    running: U64,         // 0x010
    data_offset: U64,     // 0x018 bytes; what offsets of blocks count from
    data_len: U64,        // 0x020
    resource_offset: U64, // 0x028 the resource fork, that older images have in the list's stead
    resource_len: U64,    // 0x030
    segment: U32,         // 0x038
    segments: U32,        // 0x03c
    segment_id: [u8; 16], // 0x040
    data_sum: [u8; 136],  // 0x050
    xml_offset: U64,      // 0x0d8 bytes
    xml_len: U64,         // 0x0e0
    reserved: [u8; 120],  // 0x0e8
    sum: [u8; 136],       // 0x160
    variant: U32,         // 0x1e8
    sectors: U64,         // 0x1ec size of the disk
    end: [u8; 12],        // 0x1f4
}
const TRAILER: u64 = 512;
const _: () = assert!(size_of::<Trailer>() == 512);

fn has_trailer(tail: &[u8]) -> bool {
    let trailer = tail.len().checked_sub(512).and_then(|at| tail.get(at..));
    trailer.is_some_and(|trailer| trailer.starts_with(b"koly") && trailer.get(8..12) == Some(&[0, 0, 2, 0]))
}

fn is_encrypted(head: &[u8], tail: &[u8]) -> bool {
    head.starts_with(ENCRYPTED.0) || tail.ends_with(ENCRYPTED.1)
}

/// Does it end as one, whatever it begins with?
pub(super) fn is_dmg(probe: &Probe<'_>) -> bool {
    has_trailer(probe.tail)
}

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    (is_dmg(probe) || is_encrypted(probe.head, probe.tail)).then_some(Confidence::Signature)
}

impl Trailer {
    /// Checks a trailer.
    ///
    /// # Errors
    /// `Unsupported` for another version, segments, and a block table in a resource fork.
    fn parse(bytes: &[u8], at: &At) -> Result<Self> {
        let trailer: Self = parse_struct(bytes, at.clone())?;
        if !has_trailer(bytes) {
            return Err(Error::new(
                ErrorKind::NotAnImage,
                "is no dmg: the trailer 'koly' is missing at its end",
            )
            .help("a .dmg without a trailer is a raw disk: --format raw"));
        }
        if trailer.version.get() != 4 {
            return Err(Error::unsupported(format!("version {} of UDIF", trailer.version)).at(at.clone()));
        }
        if trailer.segments.get() > 1 {
            let (segment, segments) = (trailer.segment, trailer.segments);
            return Err(Error::unsupported(format!("segment {segment} of {segments} of a segmented UDIF")));
        }
        if trailer.xml_len.get() == 0 {
            return Err(Error::unsupported("a UDIF with its block table in a resource fork").at(at.clone()));
        }
        Ok(trailer)
    }
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let mut ends = ([0; 8], [0; 8]);
    if source.len() >= 8 {
        source.read_at(&mut ends.0, 0)?;
        source.read_at(&mut ends.1, source.len().saturating_sub(8))?;
    }
    if is_encrypted(&ends.0, &ends.1) {
        let error = Error::new(ErrorKind::Encrypted, "the dmg is encrypted (AES), and no key can be given");
        return Err(error.help("'hdiutil convert' on a Mac writes it without encryption"));
    }
    let Some(start) = source.len().checked_sub(TRAILER) else {
        return Err(Error::new(ErrorKind::NotAnImage, "is no dmg: it is shorter than a trailer"));
    };
    let at = At::new("dmg", "trailer").byte(start);
    let raw: Trailer = read_struct(&*source, start, at.clone())?;
    let trailer = Trailer::parse(raw.as_bytes(), &at)?;
    let place = At::new("dmg", "property list");
    let (xml_at, xml_len) = (trailer.xml_offset.get(), trailer.xml_len.get());
    let xml = read_table(&*source, xml_at, xml_len, MAX_XML, place, cx.budget)?;
    let (blocks, partitions) = blocks::parse(&xml, trailer.data_offset.get(), cx.budget)?;
    cx.budget.release(xml.len());
    let last = blocks.last().map_or(0, |block| block.start.saturating_add(block.sectors));
    let mut warnings = Vec::new();
    let sectors = match trailer.sectors.get() {
        0 => last,
        stated => stated,
    };
    if sectors != last {
        warnings.push(format!(
            "the trailer says {sectors} sectors, the tables end at {last}; the trailer is followed, and what no table lists \
             cannot be read"
        ));
    }
    let size = sectors.checked_mul(SECTOR).filter(|size| *size > 0);
    let size = size.ok_or_else(|| Error::corrupt(at).because(format!("a disk of {sectors} sectors")))?;
    let kinds = [Kind::Raw, Kind::Zlib, Kind::Bzip2, Kind::Lzfse, Kind::Lzma, Kind::Adc];
    let used: Vec<&str> = kinds
        .iter()
        .filter(|kind| blocks.iter().any(|block| block.kind == **kind))
        .map(|kind| kind.name())
        .collect();
    let largest = blocks.iter().filter(|block| block.kind.is_packed()).map(|block| block.sectors).max();
    let unit = u32::try_from(largest.unwrap_or(8).saturating_mul(SECTOR)).unwrap_or(u32::MAX);
    let facts = vec![
        ("compression", used.join(", ")),
        ("blocks", blocks.len().to_string()),
        ("partitions", partitions.to_string()),
    ];
    let disk = cx.mapper.map(Dmg { size, unit, blocks, files: [source] });
    Ok(Opened {
        subformat: Some("UDIF".to_owned()),
        facts,
        warnings,
        ..Opened::single(disk, FORMAT.name, cx)
    })
}

/// The map of an open image.
struct Dmg {
    size: u64,
    unit: u32,
    /// In the order of the disk.
    blocks: Vec<Block>,
    files: [Arc<dyn BlockSource>; 1],
}

impl std::fmt::Debug for Dmg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dmg({} bytes, {} blocks)", self.size, self.blocks.len())
    }
}

impl Layout for Dmg {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let sector = offset / SECTOR;
        let after = self.blocks.partition_point(|block| block.start <= sector);
        let found = after.checked_sub(1).and_then(|index| Some((wide(index), self.blocks.get(index)?)));
        let found = found.filter(|(_, block)| sector.saturating_sub(block.start) < block.sectors);
        let Some((unit, block)) = found else {
            return Err(Error::corrupt(At::new("dmg", "sector").index(sector)).because("is in no table"));
        };
        let skip = offset.saturating_sub(block.start.saturating_mul(SECTOR));
        let len = block.sectors.saturating_mul(SECTOR).saturating_sub(skip);
        let at = || At::new("dmg", "block").index(unit);
        let end = self.files[0].len();
        let place = match block.kind {
            Kind::Zero => Place::Zero,
            Kind::Ignore => Place::Hole,
            Kind::Raw => {
                let host = block.offset.saturating_add(skip);
                let held = super::pages::held(len, host, end, &at())?;
                return Ok(Run { len: held, place: Place::Stored { file: 0, offset: host } });
            }
            _ => {
                if block.offset.checked_add(block.stored).is_none_or(|last| last > end) {
                    return Err(Error::corrupt(at()).because(format!(
                        "{} bytes at {:#x}, but the file ends at {end:#x}: it was cut off, or the table is wrong",
                        block.stored, block.offset
                    )));
                }
                Place::Packed { file: 0, offset: block.offset, stored: block.stored, unit, skip }
            }
        };
        Ok(Run { len, place })
    }

    fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
        let at = At::new("dmg", "block").index(unit);
        let block = usize::try_from(unit).ok().and_then(|index| self.blocks.get(index));
        let block = block.ok_or_else(|| Error::corrupt(at.clone()).because("is in no table"))?;
        codec::unpack(block.kind, stored, block.sectors.saturating_mul(SECTOR), &at)
    }

    fn unpacked_len(&self, unit: u64) -> u64 {
        self.blocks.get(narrow(unit)).map_or(0, |block| block.sectors.saturating_mul(SECTOR))
    }

    fn unit_size(&self) -> u32 {
        self.unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    fn trailer(edit: impl FnOnce(&mut Trailer)) -> Result<Trailer> {
        let mut trailer = Trailer::new_zeroed();
        trailer.signature = *b"koly";
        trailer.version = 4.into();
        trailer.size = 512.into();
        trailer.xml_len = 1.into();
        edit(&mut trailer);
        Trailer::parse(trailer.as_bytes(), &At::new("dmg", "trailer"))
    }

    #[test]
    fn what_is_not_read_is_refused_by_its_name() {
        assert!(trailer(|_| ()).is_ok());
        let said = |edit: fn(&mut Trailer)| trailer(edit).unwrap_err().to_string();
        assert!(said(|trailer| trailer.segments = 2.into()).contains("segmented UDIF"));
        assert!(said(|trailer| trailer.xml_len = 0.into()).contains("resource fork"));
        assert!(said(|trailer| trailer.version = 5.into()).contains("version 5 of UDIF"));
        assert!(said(|trailer| trailer.size = 0.into()).contains("trailer 'koly' is missing"));
    }
}
