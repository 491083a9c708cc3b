//! VDI: VirtualBox's disk image. A header, one table of block numbers, and the blocks in the order they were first written.
//!
//! ```text
//! 0x000  text 64 │ signature │ version │ header (type, offsets, sizes, UUIDs)
//! table  u32 for each block of the disk: its number among the stored blocks, FREE or ZERO
//! data   block 0, block 1, ...  each block_size + block_extra bytes
//! ```
//! Source of the layout: VirtualBox `VDICore.h`, structures `VDIPREHEADER` and `VDIHEADER1PLUS`.

use super::pages::held;
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, Result};
use crate::num::narrow;
use crate::ondisk::{get_le32, parse_struct, read_struct, read_table};
use std::num::NonZeroU64;
use std::sync::Arc;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format.
pub const FORMAT: Format = Format {
    name: "vdi",
    aliases: &["virtualbox"],
    about: "VirtualBox disk image: dynamic and static",
    probe,
    open,
};

const SIGNATURE: u32 = 0xbeda_107f;
/// Block numbers from here on are marks: `FREE` is unallocated, `ZERO` reads as zero.
const FREE: u32 = 0xffff_ffff;
const ZERO: u32 = 0xffff_fffe;
/// The table for the largest disk that qemu accepts (`VDI_BLOCKS_IN_IMAGE_MAX`): 0x3fffffff blocks would be 4 GiB; a
/// 64 TiB disk in blocks of 1 MiB needs 256 MiB. More than this is refused.
const MAX_TABLE: u64 = 64 << 20;

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
    /// `Unsupported` for another version and for undo and differencing images; `Corrupt` for sizes that do not fit.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let at = || At::new("vdi", "header").byte(0);
        let header: Self = parse_struct(bytes, at())?;
        if header.signature.get() != SIGNATURE {
            return Err(Error::corrupt(at()).because("the signature 0xbeda107f is missing"));
        }
        if header.version.get() != 0x0001_0001 {
            let (major, minor) = (header.version.get() >> 16, header.version.get() & 0xffff);
            return Err(Error::unsupported(format!("version {major}.{minor} of VDI")).at(at()));
        }
        match header.kind.get() {
            1 | 2 => {}
            3 => return Err(Error::unsupported("an undo image").at(at())),
            4 => return Err(Error::unsupported("a differencing image").at(at())),
            other => return Err(Error::unsupported(format!("image type {other}")).at(at())),
        }
        let size = header.block_size.get();
        if !size.is_power_of_two() || !(512..=256 << 20).contains(&size) {
            return Err(Error::corrupt(at()).because(format!("a block size of {size} bytes")));
        }
        if header.parent != [0; 16] {
            return Err(Error::unsupported("an image with a parent").at(at()));
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
    let raw: Header = read_struct(&*source, 0, At::new("vdi", "header"))?;
    let header = Header::parse(raw.as_bytes())?;
    let at = At::new("vdi", "block map");
    let table = read_table(
        &*source,
        header.table_offset.get().into(),
        u64::from(header.blocks.get()).saturating_mul(4),
        MAX_TABLE,
        at,
        cx.budget,
    )?;
    let kind = if header.kind.get() == 2 { "static" } else { "dynamic" };
    let block = header.block_size.get();
    let whole = NonZeroU64::new(block.into()).expect("parse refuses a block size of zero");
    let layout = Vdi {
        size: header.disk_size.get(),
        block: whole,
        stride: u64::from(block).saturating_add(header.block_extra.get().into()),
        extra: header.block_extra.get().into(),
        data: header.data_offset.get().into(),
        table,
        files: [source],
    };
    let mut opened = Opened::single(cx.mapper.map(layout), FORMAT.name, cx);
    opened.subformat = Some(kind.to_owned());
    opened.facts = vec![
        ("block size", block.to_string()),
        ("allocated blocks", format!("{} of {}", header.allocated.get(), header.blocks.get())),
        ("uuid", crate::ondisk::guid(&header.uuid)),
    ];
    Ok(opened)
}

/// The map of an open image.
struct Vdi {
    size: u64,
    block: NonZeroU64,
    /// From one stored block to the next.
    stride: u64,
    extra: u64,
    data: u64,
    /// The block map as stored: little-endian, four bytes an entry.
    table: Vec<u8>,
    files: [Arc<dyn BlockSource>; 1],
}

impl std::fmt::Debug for Vdi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vdi({} bytes)", self.size)
    }
}

impl Vdi {
    /// Where a block lies.
    fn place(&self, block: u64) -> Result<Place> {
        let at = At::new("vdi", "block map").index(block);
        let entry = narrow(block).checked_mul(4).and_then(|at| get_le32(&self.table, at));
        let number = match entry {
            Some(FREE) => return Ok(Place::Hole),
            Some(ZERO) => return Ok(Place::Zero),
            Some(number) => u64::from(number),
            None => return Err(Error::corrupt(at).because("lies behind the table")),
        };
        let offset =
            number.checked_mul(self.stride).and_then(|o| o.checked_add(self.data)?.checked_add(self.extra));
        let end = self.files[0].len();
        match offset {
            Some(offset) => Ok(Place::Stored { file: 0, offset }),
            None => Err(Error::corrupt(at)
                .because(format!("points to stored block {number}, the file ends at {end:#x}"))),
        }
    }
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
        let mut place = self.place(block)?;
        let left = self.size.saturating_sub(offset);
        let mut len = self.block.get().saturating_sub(inside);
        if let Place::Stored { offset, .. } = &mut place {
            *offset = offset.saturating_add(inside);
            // The last block is stored no longer than the disk is; a file that ends before was cut off.
            let wanted = len.min(left);
            len = held(wanted, *offset, self.files[0].len(), &At::new("vdi", "block map").index(block))?;
        }
        Ok(Run { len, place })
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
    fn a_differencing_image_is_refused_by_name() {
        let error = Header::parse(&header(|h| h.kind = 4.into())).unwrap_err();
        assert_eq!(error.to_string(), "vdi: header at byte 0x0: a differencing image is not supported");
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
