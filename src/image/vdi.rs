//! VDI: VirtualBox's disk image. A header, one table of block numbers, and the blocks in the order they were first written.
//!
//! ```text
//! 0x000  text 64 │ signature │ version │ header (type, offsets, sizes, UUIDs)
//! table  u32 for each block of the disk: its number among the stored blocks, FREE or ZERO
//! data   block 0, block 1, ...  each block_size + block_extra bytes
//! ```
//! A differencing image holds the blocks that differ from its parent, and knows that by its UUID alone: VirtualBox keeps
//! the paths in the machine's own file. So the parent is looked for among the `*.vdi` beside the image and in the
//! directories of `--allow-parent`. It also remembers the parent's modification UUID, which every write session renews:
//! a parent with another one was written to since, and the two no longer fit together.
//!
//! Source of the layout: VirtualBox `VDICore.h`, structures `VDIPREHEADER` and `VDIHEADER1PLUS`.

use super::pages::{Pages, count, entries_le32, held};
use super::{Confidence, Format, OpenCx, Opened, parent};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, Result};
use crate::num::narrow;
use crate::ondisk::{guid, parse_struct, read_struct};
use std::num::NonZeroU64;
use std::sync::Arc;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format.
pub const FORMAT: Format = Format {
    name: "vdi",
    aliases: &["virtualbox"],
    about: "VirtualBox disk image: dynamic, static, differencing",
    probe,
    open,
};

const SIGNATURE: u32 = 0xbeda_107f;
/// Block numbers from here on are marks: `FREE` is unallocated, `ZERO` reads as zero.
const FREE: u32 = 0xffff_ffff;
const ZERO: u32 = 0xffff_fffe;
const DIFFERENCING: u32 = 4;

/// Preheader and header of version 1.1.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Header {
    text: [u8; 64],            // 0x000 "<<< Oracle VM VirtualBox Disk Image >>>"
    signature: U32,            // 0x040
    version: U32,              // 0x044 0x00010001
    header_size: U32,          // 0x048
    kind: U32,                 // 0x04c 1 dynamic, 2 static, 3 undo, 4 differencing
    flags: U32,                // 0x050
    comment: [u8; 256],        // 0x054
    table_offset: U32,         // 0x154 bytes
    data_offset: U32,          // 0x158 bytes
    geometry: [U32; 4],        // 0x15c cylinders, heads, sectors, bytes in a sector
    unused: U32,               // 0x16c
    disk_size: U64,            // 0x170 bytes
    block_size: U32,           // 0x178 bytes
    block_extra: U32,          // 0x17c bytes in front of each stored block
    blocks: U32,               // 0x180 entries of the table
    allocated: U32,            // 0x184
    uuid: [u8; 16],            // 0x188
    modified: [u8; 16],        // 0x198
    parent: [u8; 16],          // 0x1a8 UUID of the image below
    parent_modified: [u8; 16], // 0x1b8
}
const _: () = assert!(size_of::<Header>() == 0x1c8);

impl Header {
    /// Checks a header.
    ///
    /// # Errors
    /// `Unsupported` for another version and for undo images; `Corrupt` for sizes that do not fit.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let at = || At::new("vdi", "header").byte(0);
        let header: Self = parse_struct(bytes, at())?;
        if header.signature.get() != SIGNATURE {
            return Err(Error::corrupt(at()).because("the signature 0xbeda107f is missing"));
        }
        if header.version.get() != 0x0001_0001 {
            let (major, minor) = (header.version.get() >> 16, header.version.get() & 0xffff);
            let error = Error::unsupported(format!("version {major}.{minor} of VDI")).at(at());
            return Err(error.help("VBoxManage clonemedium OLD NEW makes one of version 1.1"));
        }
        match header.kind.get() {
            1 | 2 | DIFFERENCING => {}
            3 => return Err(Error::unsupported("an undo image").at(at())),
            other => return Err(Error::unsupported(format!("image type {other}")).at(at())),
        }
        let size = header.block_size.get();
        if !size.is_power_of_two() || !(512..=256 << 20).contains(&size) {
            return Err(Error::corrupt(at()).because(format!("a block size of {size} bytes")));
        }
        if (header.kind.get() == DIFFERENCING) != (header.parent != [0; 16]) {
            let (kind, parent) = (header.kind.get(), guid(&header.parent));
            return Err(
                Error::corrupt(at()).because(format!("is of type {kind}, but its parent is {parent}"))
            );
        }
        let needed = header.disk_size.get().div_ceil(u64::from(size));
        if needed > u64::from(header.blocks.get()) {
            let has = header.blocks.get();
            return Err(
                Error::corrupt(at()).because(format!("the disk needs {needed} blocks, the table has {has}"))
            );
        }
        Ok(header)
    }
}

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    probe.has(0x40, &SIGNATURE.to_le_bytes()).then_some(Confidence::Signature)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let header = load(&*source)?;
    let (table, len) =
        (u64::from(header.table_offset.get()), u64::from(header.blocks.get()).saturating_mul(4));
    if table.saturating_add(len) > source.len() || !table.is_multiple_of(4) {
        return Err(Error::corrupt(At::new("vdi", "block map").byte(table)).because(format!(
            "{len} bytes, but the file ends at {:#x}: it was cut off, or its header is wrong",
            source.len()
        )));
    }
    let below = match header.kind.get() {
        DIFFERENCING => Some(open_parent(&header, cx)?),
        _ => None,
    };
    let kind = match header.kind.get() {
        2 => "static",
        DIFFERENCING => "differencing",
        _ => "dynamic",
    };
    let block = header.block_size.get();
    let layout = Vdi {
        size: header.disk_size.get(),
        block: NonZeroU64::new(block.into()).expect("parse refuses a block size of zero"),
        stride: u64::from(block).saturating_add(header.block_extra.get().into()),
        extra: header.block_extra.get().into(),
        data: header.data_offset.get().into(),
        table,
        blocks: header.blocks.get().into(),
        pages: Pages::new(Arc::clone(&source)),
        files: [source],
        parent: below.as_ref().map(|below| Arc::clone(&below.disk)),
    };
    let mut opened = Opened::single(cx.mapper.map(layout), FORMAT.name, cx);
    opened.subformat = Some(kind.to_owned());
    opened.facts = vec![
        ("block size", block.to_string()),
        ("allocated blocks", format!("{} of {}", header.allocated.get(), header.blocks.get())),
        ("uuid", guid(&header.uuid)),
    ];
    if let Some(below) = below {
        opened.facts.push(("parent uuid", guid(&header.parent)));
        parent::lay_over(&mut opened, below);
    }
    Ok(opened)
}

fn load(source: &dyn BlockSource) -> Result<Header> {
    let raw: Header = read_struct(source, 0, At::new("vdi", "header"))?;
    Header::parse(raw.as_bytes())
}

/// Looks for the image with the parent's UUID, and makes sure that it was not written to since.
fn open_parent(header: &Header, cx: &OpenCx<'_>) -> Result<Opened> {
    let wanted = format!("parent {}", guid(&header.parent));
    let is_it = |source: &Arc<dyn BlockSource>| load(&**source).is_ok_and(|it| it.uuid == header.parent);
    let found = cx.gate.search(cx.locator, ".vdi", &wanted, &is_it)?;
    let modified = load(&*found.source)?.modified;
    if header.parent_modified != [0; 16] && header.parent_modified != modified {
        let error = Error::corrupt(At::new("vdi", "header").byte(0x1b8)).because(format!(
            "remembers the modification {} of its parent '{}', whose last is {}: that was written to after this image was made from it",
            guid(&header.parent_modified),
            found.locator,
            guid(&modified)
        ));
        return Err(error.help("take the parent from the same copy or backup as this image"));
    }
    parent::load(found, FORMAT.name, cx)
}

/// The map of an open image.
#[derive(Debug)]
struct Vdi {
    size: u64,
    block: NonZeroU64,
    /// From one stored block to the next.
    stride: u64,
    extra: u64,
    data: u64,
    /// Byte and number of the block map's entries.
    table: u64,
    blocks: u64,
    pages: Pages,
    files: [Arc<dyn BlockSource>; 1],
    parent: Option<Arc<dyn BlockSource>>,
}

impl Layout for Vdi {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let (block, inside) = (offset / self.block, offset % self.block);
        let entry_at = self.table.saturating_add(block.saturating_mul(4));
        let at = At::new("vdi", "block map").index(block);
        let window = self.pages.window(entry_at, &at)?;
        let at = at.byte(entry_at);
        let mut entries = entries_le32(&window).take(narrow(self.blocks.saturating_sub(block)));
        let Some(first) = entries.next() else {
            return Err(Error::corrupt(at).because("lies behind the table"));
        };
        let bytes = |blocks: u64| blocks.saturating_mul(self.block.get()).saturating_sub(inside);
        let place = match first {
            FREE if self.parent.is_some() => Place::Parent,
            FREE => Place::Hole,
            ZERO => Place::Zero,
            number => {
                let start = u64::from(number).checked_mul(self.stride);
                let start = start.and_then(|o| o.checked_add(self.data)?.checked_add(self.extra));
                let far = || Error::corrupt(at.clone()).because(format!("points to stored block {number}"));
                let host = start.ok_or_else(far)?.saturating_add(inside);
                // The last block is stored no longer than the disk is; a file that ends before was cut off.
                let wanted = bytes(1).min(self.size.saturating_sub(offset));
                let len = held(wanted, host, self.pages.file_len(), &at)?;
                return Ok(Run { len, place: Place::Stored { file: 0, offset: host } });
            }
        };
        let same = count(entries.take_while(|raw| *raw == first).count());
        Ok(Run { len: bytes(same.saturating_add(1)), place })
    }

    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        self.parent.as_ref()
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(self.block.get()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    fn header(edit: impl FnOnce(&mut Header)) -> Vec<u8> {
        let mut header = Header::new_zeroed();
        header.signature = SIGNATURE.into();
        header.version = 0x0001_0001.into();
        header.kind = 1.into();
        header.block_size = (1 << 20).into();
        header.disk_size = (3 << 20).into();
        header.blocks = 3.into();
        edit(&mut header);
        header.as_bytes().to_vec()
    }

    #[test]
    fn an_undo_image_and_an_old_version_are_refused_by_name() {
        let error = Header::parse(&header(|h| h.kind = 3.into())).unwrap_err();
        assert_eq!(error.to_string(), "vdi: header at byte 0x0: an undo image is not supported");
        let error = Header::parse(&header(|h| h.version = 1.into())).unwrap_err();
        assert_eq!(error.to_string(), "vdi: header at byte 0x0: version 0.1 of VDI is not supported");
    }

    #[test]
    fn a_type_that_contradicts_the_parent_is_corrupt() {
        assert!(Header::parse(&header(|h| h.kind = 4.into())).is_err());
        assert!(Header::parse(&header(|h| h.parent = [7; 16])).is_err());
        assert!(Header::parse(&header(|h| (h.kind, h.parent) = (4.into(), [7; 16]))).is_ok());
    }

    #[test]
    fn a_table_shorter_than_the_disk_is_corrupt() {
        assert_eq!(
            Header::parse(&header(|h| h.blocks = 2.into())).unwrap_err().kind(),
            crate::error::ErrorKind::Corrupt
        );
    }

    #[test]
    fn a_block_size_of_zero_is_corrupt() {
        assert_eq!(
            Header::parse(&header(|h| h.block_size = 0.into())).unwrap_err().kind(),
            crate::error::ErrorKind::Corrupt
        );
    }
}
