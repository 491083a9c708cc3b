//! VHD: Virtual PC's disk, fixed or dynamic, known by its footer.
//!
//! ```text
//! fixed:    data … footer
//! dynamic:  copy of the footer ─▶ dynamic header ─▶ BAT ─▶ blocks (sector bitmap, data) … footer
//! ```
//! Specification: Microsoft, "Virtual Hard Disk Image Format Specification", 2006.
//!
//! Sector bitmaps are not consulted. In a dynamic disk a clear bit means "never written since the block was made", and
//! a new block is made of zeros, so the stored bytes are right whether the bit is set or not; qemu, libvhdi and dissect
//! read them the same way, and every dynamic sample at hand, of Hyper-V and of qemu, has all bits set. Only in a
//! differencing disk does a bit choose (the parent or this file); those are refused.

use super::pages::{Pages, count, entries_be32, held};
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::narrow;
use crate::ondisk::{read_struct, utf16, uuid};
use crate::text::escape;
use std::sync::Arc;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format.
pub const FORMAT: Format = Format {
    name: "vhd",
    aliases: &["vpc"],
    about: "Virtual PC's and Hyper-V's disk: fixed and dynamic",
    probe,
    open,
};

const SECTOR: u64 = 512;
const COOKIE: &[u8; 8] = b"conectix";

/// A block that is not allocated.
const UNALLOCATED: u32 = u32::MAX;

const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;

/// Largest disk, as Hyper-V and qemu have it: 2040 GiB.
const MAX_SIZE: u64 = 2040 << 30;

/// The most sectors that cylinders, heads and sectors can name.
const CHS_MAX: u64 = 65535 * 16 * 255;

/// Hard disk footer. All numbers big-endian.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone)]
#[repr(C)]
struct Footer {
    cookie: [u8; 8],       // 0x00 "conectix"
    features: U32,         // 0x08
    version: U32,          // 0x0c 0x00010000
    data_offset: U64,      // 0x10 byte of the dynamic header, all ones for a fixed disk
    timestamp: U32,        // 0x18 seconds since 2000
    creator: [u8; 4],      // 0x1c "vpc ", "win ", "qemu", …
    creator_version: U32,  // 0x20
    creator_host: [u8; 4], // 0x24
    original_size: U64,    // 0x28 bytes
    current_size: U64,     // 0x30 bytes
    cylinders: U16,        // 0x38
    heads: u8,             // 0x3a
    sectors: u8,           // 0x3b per track
    kind: U32,             // 0x3c 2 fixed, 3 dynamic, 4 differencing
    checksum: U32,         // 0x40 one's complement of the sum of all other bytes
    id: [u8; 16],          // 0x44
    saved_state: u8,       // 0x54
    reserved: [u8; 427],   // 0x55
}
const _: () = assert!(size_of::<Footer>() == 512);

/// Dynamic disk header.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct DynamicHeader {
    cookie: [u8; 8],        // 0x00 "cxsparse"
    data_offset: U64,       // 0x08 all ones
    table_offset: U64,      // 0x10 byte of the BAT
    version: U32,           // 0x18 0x00010000
    max_entries: U32,       // 0x1c entries of the BAT
    block_size: U32,        // 0x20 bytes of data in a block
    checksum: U32,          // 0x24 as in the footer
    parent_id: [u8; 16],    // 0x28
    parent_time: U32,       // 0x38
    reserved: U32,          // 0x3c
    parent_name: [u8; 512], // 0x40 UTF-16, big-endian
    locators: [u8; 192],    // 0x240 eight parent locators
    reserved2: [u8; 256],   // 0x300
}
const _: () = assert!(size_of::<DynamicHeader>() == 1024);

/// The one's complement of the sum of all bytes but the checksum's own.
fn checksum(bytes: &[u8], own: U32) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).fold(0_u32, u32::wrapping_add);
    !sum(bytes).wrapping_sub(sum(own.as_bytes()))
}

impl Footer {
    /// Has it the fixed fields of a footer? The checksum is another question.
    fn plausible(&self) -> bool {
        self.cookie == *COOKIE
            && self.version.get() == 0x0001_0000
            && matches!(self.kind.get(), FIXED | DYNAMIC | DIFFERENCING)
    }

    fn sound(&self) -> bool {
        self.plausible() && checksum(self.as_bytes(), self.checksum) == self.checksum.get()
    }

    /// The size by geometry and by the field, in bytes; and which of them the creator's rule takes.
    fn sizes(&self) -> (u64, u64, Rule) {
        let sectors = u64::from(self.cylinders.get())
            .saturating_mul(u64::from(self.heads))
            .saturating_mul(u64::from(self.sectors));
        // Virtual PC (and qemu in its place) goes by the geometry; these go by the size. A geometry at its maximum
        // says nothing. The list is qemu's (block/vpc.c), which watched them.
        let by_size = matches!(&self.creator, b"win " | b"qem2" | b"d2v " | b"CTXS")
            || self.creator.starts_with(b"tap")
            || self.creator.starts_with(b"wa");
        let rule = if by_size || sectors == CHS_MAX { Rule::CurrentSize } else { Rule::Geometry };
        // qemu counts whole sectors.
        let current = self.current_size.get() & !(SECTOR.wrapping_sub(1));
        (sectors.saturating_mul(SECTOR), current, rule)
    }
}

/// Which of the two sizes a footer carries is the disk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Geometry,
    CurrentSize,
}

/// The footer at the end of a file. Before Virtual PC 2004 it had 511 bytes (specification, "Hard Disk Footer Format").
fn at_end(tail: &[u8]) -> Option<(Footer, u64)> {
    let whole = tail.len().checked_sub(512).and_then(|at| tail.get(at..));
    let found = whole.and_then(|bytes| Footer::read_from_bytes(bytes).ok()).filter(Footer::plausible);
    found.map(|footer| (footer, 512)).or_else(|| {
        let short = tail.len().checked_sub(511).and_then(|at| tail.get(at..))?;
        let mut bytes = [0; 512];
        bytes.get_mut(..511)?.copy_from_slice(short);
        Footer::read_from_bytes(&bytes).ok().filter(Footer::plausible).map(|footer| (footer, 511))
    })
}

fn at_start(head: &[u8]) -> Option<Footer> {
    Footer::read_from_prefix(head).ok().map(|(footer, _)| footer).filter(Footer::plausible)
}

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    // A fixed disk begins with the guest's own bytes; one that begins with a footer is dynamic or differencing.
    let head = at_start(probe.head).is_some_and(|footer| footer.kind.get() != FIXED);
    (head || at_end(probe.tail).is_some()).then_some(Confidence::Signature)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let mut warnings = Vec::new();
    let (footer, footer_len) = find_footer(&*source, &mut warnings)?;
    let (geometry, current, rule) = footer.sizes();
    let (mut size, other) = match rule {
        Rule::Geometry => (geometry, current),
        Rule::CurrentSize => (current, geometry),
    };
    let data_len = source.len().saturating_sub(footer_len);
    if footer.kind.get() == FIXED && size > data_len && other <= data_len {
        warnings.push(format!("of its two sizes, {size} bytes do not fit in the file; the other is taken"));
        size = other;
    }
    if size > MAX_SIZE {
        return Err(Error::limit(format!("a VHD of {size} bytes; the format ends at {MAX_SIZE}")));
    }
    let mut facts = vec![
        ("creator", escape(&footer.creator).to_string()),
        ("unique id", uuid(&footer.id)),
        ("size by geometry", geometry.to_string()),
        ("size by footer", current.to_string()),
    ];
    // A geometry cannot name every size, so a smaller one is ordinary where the field counts; the other way round
    // two readers see two disks.
    if geometry != current && size == geometry {
        warnings.push(format!(
            "two sizes: {geometry} bytes by its geometry, {current} by its footer; by its creator '{}' the geometry counts, as in qemu; Hyper-V takes the other",
            escape(&footer.creator)
        ));
    }
    if footer.saved_state != 0 {
        warnings.push("a saved state belongs to this disk: the guest was not shut down".to_owned());
    }
    let (disk, subformat) = match footer.kind.get() {
        FIXED => {
            if size > data_len {
                warnings.push(format!("is cut off: {size} bytes are described, {data_len} are there"));
            }
            (cx.mapper.map(Fixed { size, data_len, files: [source] }), "fixed")
        }
        DYNAMIC => {
            (cx.mapper.map(Dynamic::load(source, &footer, size, &mut facts, &mut warnings)?), "dynamic")
        }
        _ => return Err(differencing(&*source, &footer)),
    };
    Ok(Opened {
        subformat: Some(subformat.to_owned()),
        facts,
        warnings,
        ..Opened::single(disk, FORMAT.name, cx)
    })
}

/// The footer to go by, and its length: the one at the end if its sum is right, else the copy at the start, else
/// whichever there is, with a warning.
fn find_footer(source: &dyn BlockSource, warnings: &mut Vec<String>) -> Result<(Footer, u64)> {
    let mut tail = vec![0; narrow(source.len().min(512))];
    source.read_at(&mut tail, source.len().saturating_sub(512))?;
    let mut head = vec![0; narrow(source.len().min(512))];
    source.read_at(&mut head, 0)?;
    let start = at_start(&head).filter(|footer| footer.kind.get() != FIXED);
    match (at_end(&tail), start) {
        (Some((end, len)), _) if end.sound() => Ok((end, len)),
        (end, Some(start)) if start.sound() => {
            warnings.push(match end {
                Some(_) => {
                    "the footer's checksum is wrong; its copy at the start of the file is used".to_owned()
                }
                None => "there is no footer at the end (cut off?); its copy at the start of the file is used"
                    .to_owned(),
            });
            Ok((start, 512))
        }
        (Some((end, len)), _) => {
            warnings.push(
                "the footer's checksum is wrong, and no sound copy is there; it is used nevertheless"
                    .to_owned(),
            );
            Ok((end, len))
        }
        (None, Some(start)) => {
            warnings.push("there is no footer at the end (cut off?), and the copy's checksum is wrong; it is used nevertheless".to_owned());
            Ok((start, 512))
        }
        (None, None) => Err(Error::new(ErrorKind::NotAnImage, "is not a VHD: it has no 'conectix' footer")),
    }
}

fn differencing(source: &dyn BlockSource, footer: &Footer) -> Error {
    let header: Result<DynamicHeader> =
        read_struct(source, footer.data_offset.get(), At::new("vhd", "dynamic disk header"));
    let parent = header.map(|header| utf16(&header.parent_name, true)).unwrap_or_default();
    Error::unsupported(format!("a differencing VHD (its parent is '{}')", escape(parent.as_bytes())))
        .help("merge it into its parent first (Hyper-V: Merge-VHD)")
}

/// A fixed disk: the file less its footer.
#[derive(Debug)]
struct Fixed {
    size: u64,
    data_len: u64,
    files: [Arc<dyn BlockSource>; 1],
}

impl Layout for Fixed {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let left = self.size.saturating_sub(offset);
        let len = held(left, offset, self.data_len, &At::new("vhd", "disk").byte(offset))?;
        Ok(Run { len, place: Place::Stored { file: 0, offset } })
    }
}

/// A dynamic disk.
#[derive(Debug)]
struct Dynamic {
    size: u64,
    block: u64,
    bitmap: u64,
    bat: u64,
    entries: u64,
    pages: Pages,
    files: [Arc<dyn BlockSource>; 1],
}

impl Dynamic {
    fn load(
        source: Arc<dyn BlockSource>,
        footer: &Footer,
        size: u64,
        facts: &mut Vec<(&'static str, String)>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let start = footer.data_offset.get();
        let at = At::new("vhd", "dynamic disk header").byte(start);
        let header: DynamicHeader = read_struct(&*source, start, At::new("vhd", "dynamic disk header"))?;
        let corrupt = |why: String| Err(Error::corrupt(at.clone()).because(why));
        if header.cookie != *b"cxsparse" {
            return corrupt("does not begin with 'cxsparse'".to_owned());
        }
        if header.version.get() != 0x0001_0000 {
            return Err(Error::unsupported(format!("VHD dynamic header version {:#x}", header.version)));
        }
        if checksum(header.as_bytes(), header.checksum) != header.checksum.get() {
            warnings.push(
                "the dynamic disk header's checksum is wrong; its fields agree with the file and are used"
                    .to_owned(),
            );
        }
        let block = u64::from(header.block_size.get());
        if !block.is_power_of_two() || block < SECTOR {
            return corrupt(format!(
                "a block of {block} bytes; it must be a power of two of at least {SECTOR}"
            ));
        }
        let bat = header.table_offset.get();
        let entries = u64::from(header.max_entries.get());
        let needed = size.div_ceil(block);
        if entries < needed {
            return corrupt(format!("the BAT has {entries} entries, a disk of {size} bytes needs {needed}"));
        }
        if !bat.is_multiple_of(SECTOR) || bat.saturating_add(needed.saturating_mul(4)) > source.len() {
            return corrupt(format!(
                "the BAT of {needed} entries at {bat:#x} does not lie on a sector inside the file, which ends at {:#x}",
                source.len()
            ));
        }
        facts.push(("block size", block.to_string()));
        // One bit a sector, in whole sectors.
        let bitmap = block.div_ceil(SECTOR * 8).next_multiple_of(SECTOR);
        Ok(Self {
            size,
            block,
            bitmap,
            bat,
            entries,
            pages: Pages::new(Arc::clone(&source)),
            files: [source],
        })
    }
}

impl Layout for Dynamic {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let number = offset.checked_div(self.block).unwrap_or(0);
        let skip = offset & self.block.saturating_sub(1);
        let bytes = |blocks: u64| blocks.saturating_mul(self.block).saturating_sub(skip);
        let entry_at = self.bat.saturating_add(number.saturating_mul(4));
        let at = At::new("vhd", "BAT entry").index(number);
        let window = self.pages.window(entry_at, &at)?;
        let at = at.byte(entry_at);
        let mut entries = entries_be32(&window).take(narrow(self.entries.saturating_sub(number)));
        let Some(sector) = entries.next() else {
            return Err(Error::corrupt(at).because("the file ends within it"));
        };
        if sector == UNALLOCATED {
            let more = count(entries.take_while(|raw| *raw == UNALLOCATED).count());
            return Ok(Run { len: bytes(more.saturating_add(1)), place: Place::Hole });
        }
        let start = u64::from(sector).saturating_mul(SECTOR);
        if start < SECTOR {
            return Err(Error::corrupt(at).because("names sector 0, where the footer's copy lies"));
        }
        let host = start.saturating_add(self.bitmap).saturating_add(skip);
        let len = held(bytes(1), host, self.pages.file_len(), &at)?;
        Ok(Run { len, place: Place::Stored { file: 0, offset: host } })
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(self.block).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    fn footer(creator: &[u8; 4], chs: (u16, u8, u8), current: u64) -> Footer {
        let mut footer = Footer::new_zeroed();
        footer.cookie = *COOKIE;
        footer.version = U32::new(0x0001_0000);
        footer.kind = U32::new(FIXED);
        footer.creator = *creator;
        (footer.cylinders, footer.heads, footer.sectors) = (U16::new(chs.0), chs.1, chs.2);
        footer.current_size = U64::new(current);
        footer.checksum = U32::new(checksum(footer.as_bytes(), footer.checksum));
        footer
    }

    #[test]
    fn the_creator_decides_which_size_counts() {
        assert_eq!(footer(b"vpc ", (10, 4, 17), 400_000).sizes(), (348_160, 399_872, Rule::Geometry));
        assert_eq!(footer(b"win ", (10, 4, 17), 400_000).sizes().2, Rule::CurrentSize);
        assert_eq!(footer(b"wa\0\0", (10, 4, 17), 400_000).sizes().2, Rule::CurrentSize);
    }

    #[test]
    fn a_geometry_at_its_maximum_says_nothing() {
        assert_eq!(footer(b"vpc ", (65535, 16, 255), 1 << 40).sizes().2, Rule::CurrentSize);
    }

    #[test]
    fn a_changed_byte_breaks_the_checksum() {
        let mut footer = footer(b"win ", (1, 1, 1), 512);
        assert!(footer.sound());
        footer.heads = 2;
        assert!(footer.plausible() && !footer.sound());
    }

    #[test]
    fn a_footer_of_511_bytes_is_found() {
        let footer = footer(b"vpc ", (1, 1, 1), 512);
        let tail = &footer.as_bytes()[..511];
        assert_eq!(at_end(tail).unwrap().1, 511);
    }
}
