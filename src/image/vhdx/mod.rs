//! VHDX: Hyper-V's disk since Windows Server 2012. Blocks in a BAT, every structure with a checksum, and a log.
//!
//! ```text
//! header.rs  headers, regions, metadata: what the disk is
//! log.rs     the log, replayed in memory
//! here       the BAT: where each block lies; sector bitmaps of differencing disks
//! ```
//! Specification: \[MS-VHDX\] "Virtual Hard Disk v2 (VHDX) File Format".

mod header;
mod log;

use self::header::{Header, Metadata, Region, Regions};
use super::pages::{BitOrder, Pages, held};
use super::{Confidence, Format, OpenCx, Opened, parent};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, Result};
use crate::ondisk::guid;
use std::num::NonZeroU64;
use std::sync::Arc;

/// The format.
pub const FORMAT: Format = Format {
    name: "vhdx",
    aliases: &[],
    about: "Hyper-V's disk: fixed, dynamic, differencing; its log is replayed in memory",
    probe,
    open,
};

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    probe.has(0, b"vhdxfile").then_some(Confidence::Signature)
}

fn open(file: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let header = Header::load(&*file, cx.budget)?;
    let mut facts = Vec::new();
    let mut warnings = Vec::new();
    let mut source = Arc::clone(&file);
    if header.log_guid != [0; 16] {
        let replayed = log::Replayed::new(file, &header, cx.budget)?;
        facts.push(("log", format!("{} entries replayed in memory", replayed.entries)));
        warnings.push(
            "the image was not closed cleanly; its log was replayed in memory, the file is as it was"
                .to_owned(),
        );
        source = Arc::new(replayed);
    }
    let regions = Regions::load(&*source, cx.budget)?;
    let metadata = Metadata::load(&*source, regions.metadata, cx.budget)?;
    let below = if metadata.has_parent { Some(open_parent(&metadata, cx)?) } else { None };
    let kind = match (metadata.has_parent, metadata.is_fixed) {
        (true, _) => "differencing",
        (false, true) => "fixed",
        (false, false) => "dynamic",
    };
    facts.extend([
        ("block size", metadata.block_size.to_string()),
        ("logical sector size", metadata.sector.to_string()),
        ("physical sector size", metadata.physical_sector.to_string()),
        ("virtual disk id", metadata.id.clone()),
    ]);
    let parent_disk = below.as_ref().map(|below| Arc::clone(&below.disk));
    let layout = Vhdx::new(source, regions.bat, &metadata, parent_disk)?;
    let mut opened = Opened::single(cx.mapper.map(layout), FORMAT.name, cx);
    opened.subformat = Some(kind.to_owned());
    opened.facts = facts;
    opened.warnings = warnings;
    if let Some(below) = below {
        parent::lay_over(&mut opened, below);
    }
    Ok(opened)
}

/// Opens what the parent locator names, and makes sure that it is the parent: its data write GUID is remembered here.
fn open_parent(metadata: &Metadata, cx: &OpenCx<'_>) -> Result<Opened> {
    let at = || At::new("vhdx", "parent locator");
    let value =
        |key: &str| metadata.parent.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    // The order of section 2.6.2.6.3.
    let paths = ["relative_path", "volume_path", "absolute_win32_path"].iter().filter_map(|key| value(key));
    let paths: Vec<Vec<u8>> = paths.map(|path| path.as_bytes().to_vec()).collect();
    if paths.is_empty() {
        return Err(Error::corrupt(at()).because("names no path"));
    }
    let found = parent::find(&paths, cx)?;
    let theirs = guid(&Header::load(&*found.source, cx.budget)?.data_write_guid);
    let linkage = [value("parent_linkage"), value("parent_linkage2")];
    let same = |ours: &str| ours.trim_matches(['{', '}']).eq_ignore_ascii_case(&theirs);
    if !linkage.into_iter().flatten().any(same) {
        return Err(Error::corrupt(at())
            .because(format!(
                "the parent '{}' was written to after this image was made from it, or is another disk: its data write GUID is {theirs}",
                found.locator
            ))
            .help("take the parent from the same copy or backup as this image"));
    }
    parent::load(found, FORMAT.name, cx)
}

/// States of a payload block, section 2.5.1.1.
const NOT_PRESENT: u64 = 0;
const UNDEFINED: u64 = 1;
const ZERO: u64 = 2;
const UNMAPPED: u64 = 3;
/// The same in drafts of the specification up to 0.95; qemu reads it so, too.
const UNMAPPED_095: u64 = 5;
const FULLY_PRESENT: u64 = 6;
const PARTIALLY_PRESENT: u64 = 7;

/// Sectors that one sector bitmap block of 1 MiB describes, section 2.5.
const SECTORS_PER_BITMAP: u64 = 1 << 23;

/// The map of an open image.
#[derive(Debug)]
struct Vhdx {
    size: u64,
    block: NonZeroU64,
    sector: NonZeroU64,
    /// Payload blocks between two sector bitmap entries of the BAT.
    chunk: NonZeroU64,
    bat: u64,
    tables: Pages,
    parent: Option<Arc<dyn BlockSource>>,
    files: [Arc<dyn BlockSource>; 1],
}

impl Vhdx {
    fn new(
        source: Arc<dyn BlockSource>,
        bat: Region,
        metadata: &Metadata,
        parent: Option<Arc<dyn BlockSource>>,
    ) -> Result<Self> {
        let at = || At::new("vhdx", "BAT").byte(bat.offset);
        let zero = || Error::corrupt(At::new("vhdx", "metadata")).because("a size of zero");
        let block = NonZeroU64::new(metadata.block_size.into()).ok_or_else(zero)?;
        let sector = NonZeroU64::new(metadata.sector.into()).ok_or_else(zero)?;
        let chunk =
            NonZeroU64::new(SECTORS_PER_BITMAP.saturating_mul(sector.get()) / block).ok_or_else(zero)?;
        let blocks = metadata.size.div_ceil(block.get());
        let last = blocks.saturating_sub(1);
        // With a bitmap entry behind each whole chunk; a disk with a parent has one behind the last chunk, too.
        let entries = if parent.is_some() {
            blocks.div_ceil(chunk.get()).saturating_mul(chunk.get().saturating_add(1))
        } else {
            blocks.saturating_add(last / chunk)
        };
        if entries.saturating_mul(8) > bat.length {
            return Err(Error::corrupt(at())
                .because(format!("{entries} entries are needed, {} bytes are there", bat.length)));
        }
        if !bat.offset.is_multiple_of(1 << 20) {
            return Err(Error::corrupt(at()).because("does not start at a whole mebibyte"));
        }
        let tables = Pages::new(Arc::clone(&source));
        Ok(Self {
            size: metadata.size,
            block,
            sector,
            chunk,
            bat: bat.offset,
            tables,
            parent,
            files: [source],
        })
    }

    /// An entry of the BAT: its state, and the byte where it points.
    fn entry(&self, index: u64) -> Result<(u64, u64)> {
        let at = At::new("vhdx", "BAT").index(index);
        let offset = index
            .checked_mul(8)
            .and_then(|o| o.checked_add(self.bat))
            .ok_or_else(|| Error::corrupt(at.clone()).because("too large"))?;
        let entry = u64::from_le_bytes(self.tables.get::<8>(offset, &at)?);
        Ok((entry & 7, entry >> 20 << 20))
    }

    /// A block that is partly here and partly in the parent: its sector bitmap says which.
    fn partial(&self, block: u64, inside: u64, data: u64) -> Result<Run> {
        let chunk = block / self.chunk;
        let at = At::new("vhdx", "sector bitmap").index(chunk);
        let index = chunk.saturating_add(1).saturating_mul(self.chunk.get()).saturating_add(chunk);
        let (state, bitmap) = self.entry(index)?;
        if state != FULLY_PRESENT {
            return Err(Error::corrupt(at)
                .because(format!("its state is {state}, but a block of it is partially present")));
        }
        let per_block = self.block.get() / self.sector;
        let first = (block % self.chunk).saturating_mul(per_block).saturating_add(inside / self.sector);
        let left = per_block.saturating_sub(inside / self.sector);
        let (here, sectors) = self.tables.same_bits(bitmap, first, left, BitOrder::LowFirst, &at)?;
        let len = sectors.saturating_mul(self.sector.get()).saturating_sub(inside % self.sector);
        if here {
            self.stored(block, len, data.saturating_add(inside))
        } else {
            Ok(Run { len, place: Place::Parent })
        }
    }

    /// A run that the file holds, as far as it does. The first mebibyte is that of the headers.
    fn stored(&self, block: u64, len: u64, offset: u64) -> Result<Run> {
        if offset < 1 << 20 {
            let at = At::new("vhdx", "BAT").index(block);
            return Err(Error::corrupt(at).because(format!("points to byte {offset:#x}, among the headers")));
        }
        let len = held(len, offset, self.tables.file_len(), &At::new("vhdx", "BAT").index(block))?;
        Ok(Run { len, place: Place::Stored { file: 0, offset } })
    }
}

impl Layout for Vhdx {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let (block, inside) = (offset / self.block, offset % self.block);
        let (state, data) = self.entry(block.saturating_add(block / self.chunk))?;
        let place = match state {
            NOT_PRESENT if self.parent.is_some() => Place::Parent,
            NOT_PRESENT | UNDEFINED => Place::Hole,
            // Unmapped content may be anything by the specification; zeros is what Windows and qemu give.
            ZERO | UNMAPPED | UNMAPPED_095 => Place::Zero,
            FULLY_PRESENT => {
                let len = self.block.get().saturating_sub(inside).min(self.size.saturating_sub(offset));
                return self.stored(block, len, data.saturating_add(inside));
            }
            PARTIALLY_PRESENT if self.parent.is_some() => return self.partial(block, inside, data),
            other => {
                let at = At::new("vhdx", "BAT").index(block);
                return Err(Error::corrupt(at).because(format!("the block's state is {other}")));
            }
        };
        Ok(Run { len: self.block.get().saturating_sub(inside), place })
    }

    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        self.parent.as_ref()
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(self.block.get()).unwrap_or(u32::MAX)
    }
}
