//! VHD: Virtual PC's disk, fixed, dynamic or differencing, known by its footer.
//!
//! ```text
//! fixed:         data … footer
//! dynamic:       copy of the footer ─▶ dynamic header ─▶ BAT ─▶ blocks (sector bitmap, data) … footer
//! differencing:  the same; the dynamic header names a parent, which has the sectors whose bit is clear
//! ```
//! Specification: Microsoft, "Virtual Hard Disk Image Format Specification", 2006.
//!
//! Of a dynamic disk the sector bitmaps are not consulted. A clear bit means "never written since the block was made", and
//! a new block is made of zeros, so the stored bytes are right whether the bit is set or not; qemu, libvhdi and dissect
//! read them the same way, and every dynamic sample at hand, of Hyper-V and of qemu, has all bits set. Only in a
//! differencing disk does a bit choose between the parent and this file.
//!
//! The parent is known by the unique id in its footer. The time that the child remembers of it is that of its file's last
//! change, which a copy does not keep, and many writers leave it 0: a warning is given only where the parent was made
//! later than that, so that it cannot be the file that was meant then.

use super::pages::{BitOrder, Pages, count, entries_be32, held};
use super::{Confidence, Format, OpenCx, Opened, parent};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::narrow;
use crate::ondisk::{read_struct, read_table, utf16, uuid};
use crate::text::escape;
use std::sync::Arc;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format.
pub const FORMAT: Format = Format {
    name: "vhd",
    aliases: &["vpc"],
    about: "Virtual PC's and Hyper-V's disk: fixed, dynamic, differencing",
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

/// Where a name of the parent stands, as one platform writes it.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Locator {
    code: [u8; 4], // 0x00 "W2ru", "W2ku", "MacX", …; 0 = none
    space: U32,    // 0x04 room for it, in sectors or bytes
    length: U32,   // 0x08 bytes
    reserved: U32, // 0x0c
    offset: U64,   // 0x10 byte in the file
}
const _: () = assert!(size_of::<Locator>() == 24);

/// Longest name that is read: Windows has paths of 32767 UTF-16 units.
const MAX_NAME: u64 = 64 << 10;

/// Dynamic disk header. Of a differencing disk the fields of the parent count, too.
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
    parent_time: U32,       // 0x38 seconds since 2000
    reserved: U32,          // 0x3c
    parent_name: [u8; 512], // 0x40 UTF-16, big-endian
    locators: [Locator; 8], // 0x240
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
    if footer.kind.get() == FIXED {
        if size > data_len {
            warnings.push(format!("is cut off: {size} bytes are described, {data_len} are there"));
        }
        let disk = cx.mapper.map(Fixed { size, data_len, files: [source] });
        let subformat = Some("fixed".to_owned());
        return Ok(Opened { subformat, facts, warnings, ..Opened::single(disk, FORMAT.name, cx) });
    }
    let header = DynamicHeader::load(&*source, &footer, &mut warnings)?;
    let (below, subformat) = match footer.kind.get() {
        DIFFERENCING => {
            facts.push(("parent unique id", uuid(&header.parent_id)));
            (Some(open_parent(&*source, &header, &mut warnings, cx)?), "differencing")
        }
        _ => (None, "dynamic"),
    };
    facts.push(("block size", header.block_size.to_string()));
    let disk = Dynamic::new(source, &header, size, below.as_ref().map(|below| Arc::clone(&below.disk)))?;
    let subformat = Some(subformat.to_owned());
    let disk = cx.mapper.map(disk);
    let mut opened = Opened { subformat, facts, warnings, ..Opened::single(disk, FORMAT.name, cx) };
    if let Some(below) = below {
        parent::lay_over(&mut opened, below);
    }
    Ok(opened)
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

impl DynamicHeader {
    fn load(source: &dyn BlockSource, footer: &Footer, warnings: &mut Vec<String>) -> Result<Self> {
        let start = footer.data_offset.get();
        let header: Self = read_struct(source, start, At::new("vhd", "dynamic disk header"))?;
        if header.cookie != *b"cxsparse" {
            return Err(Error::corrupt(At::new("vhd", "dynamic disk header").byte(start))
                .because("does not begin with 'cxsparse'"));
        }
        if header.version.get() != 0x0001_0000 {
            return Err(Error::unsupported(format!("VHD dynamic header version {:#x}", header.version)));
        }
        // libvhdi and dissect read such a disk, too, and images of other tools exist that never had it right.
        if checksum(header.as_bytes(), header.checksum) != header.checksum.get() {
            warnings.push(
                "the dynamic disk header's checksum is wrong; its fields agree with the file and are used"
                    .to_owned(),
            );
        }
        Ok(header)
    }

    /// Every name of the parent: relative, absolute, that of a Mac, and the one in the header.
    fn parent_names(&self, source: &dyn BlockSource, cx: &OpenCx<'_>) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for code in [b"W2ru", b"W2ku", b"MacX"] {
            for locator in self.locators.iter().filter(|locator| locator.code == *code) {
                let at = At::new("vhd", "parent locator");
                let (offset, length) = (locator.offset.get(), locator.length.get().into());
                let name = read_table(source, offset, length, MAX_NAME, at, cx.budget)?;
                names.push(if code == b"MacX" { mac_path(&name) } else { utf16(&name, false).into_bytes() });
            }
        }
        names.push(utf16(&self.parent_name, true).into_bytes());
        names.retain(|name| !name.is_empty());
        Ok(names)
    }
}

/// The path in a URL like `file://localhost/Users/me/My%20disk.vhd`.
fn mac_path(url: &[u8]) -> Vec<u8> {
    let url = url.split(|byte| *byte == 0).next().unwrap_or_default();
    let path = url.strip_prefix(b"file://").map_or(url, |rest| {
        rest.iter().position(|byte| *byte == b'/').and_then(|slash| rest.get(slash..)).unwrap_or_default()
    });
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    plain
}

/// Opens the parent that the header names, and makes sure by its unique id that it is the one.
fn open_parent(
    source: &dyn BlockSource,
    header: &DynamicHeader,
    warnings: &mut Vec<String>,
    cx: &OpenCx<'_>,
) -> Result<Opened> {
    let found = parent::find(&header.parent_names(source, cx)?, cx)?;
    let (theirs, _) = find_footer(&*found.source, &mut Vec::new())
        .map_err(|error| error.context(format!("parent '{}'", found.locator)))?;
    if theirs.id != header.parent_id {
        return Err(Error::corrupt(At::new("vhd", "dynamic disk header")).because(format!(
            "its parent has the unique id {}, but '{}' has {}: it is another disk",
            uuid(&header.parent_id),
            found.locator,
            uuid(&theirs.id)
        )));
    }
    let remembered = header.parent_time.get();
    if remembered != 0 && remembered < theirs.timestamp.get() {
        warnings.push(format!(
            "its parent '{}' was made {} seconds after the time that is remembered of it; it has the right unique id and is used",
            found.locator,
            theirs.timestamp.get().saturating_sub(remembered)
        ));
    }
    parent::load(found, FORMAT.name, cx)
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

/// A dynamic or differencing disk.
#[derive(Debug)]
struct Dynamic {
    size: u64,
    block: u64,
    bitmap: u64,
    bat: u64,
    entries: u64,
    pages: Pages,
    files: [Arc<dyn BlockSource>; 1],
    parent: Option<Arc<dyn BlockSource>>,
}

impl Dynamic {
    fn new(
        source: Arc<dyn BlockSource>,
        header: &DynamicHeader,
        size: u64,
        parent: Option<Arc<dyn BlockSource>>,
    ) -> Result<Self> {
        let corrupt = |why: String| Err(Error::corrupt(At::new("vhd", "dynamic disk header")).because(why));
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
            parent,
        })
    }

    /// A piece of a block that both this file and the parent may have: its sector bitmap says which.
    fn partial(&self, number: u64, skip: u64, start: u64) -> Result<Run> {
        let at = At::new("vhd", "sector bitmap").index(number);
        let (sector, inside) = (skip / SECTOR, skip % SECTOR);
        let left = (self.block / SECTOR).saturating_sub(sector);
        let (is_here, sectors) = self.pages.same_bits(start, sector, left, BitOrder::HighFirst, &at)?;
        let len = sectors.saturating_mul(SECTOR).saturating_sub(inside);
        if !is_here {
            return Ok(Run { len, place: Place::Parent });
        }
        let host = start.saturating_add(self.bitmap).saturating_add(skip);
        let len = held(len, host, self.pages.file_len(), &At::new("vhd", "BAT entry").index(number))?;
        Ok(Run { len, place: Place::Stored { file: 0, offset: host } })
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
            let place = if self.parent.is_some() { Place::Parent } else { Place::Hole };
            return Ok(Run { len: bytes(more.saturating_add(1)), place });
        }
        let start = u64::from(sector).saturating_mul(SECTOR);
        if start < SECTOR {
            return Err(Error::corrupt(at).because("names sector 0, where the footer's copy lies"));
        }
        if self.parent.is_some() {
            return self.partial(number, skip, start);
        }
        let host = start.saturating_add(self.bitmap).saturating_add(skip);
        let len = held(bytes(1), host, self.pages.file_len(), &at)?;
        Ok(Run { len, place: Place::Stored { file: 0, offset: host } })
    }

    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        self.parent.as_ref()
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

    #[test]
    fn the_path_of_a_mac_is_taken_out_of_its_url() {
        assert_eq!(mac_path(b"file://localhost/Users/me/My%20disk.vhd\0\0"), b"/Users/me/My disk.vhd");
        assert_eq!(mac_path(b"base%.vhd"), b"base%.vhd");
    }
}
