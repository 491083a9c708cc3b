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

use self::footer::{DIFFERENCING, FIXED, Rule, at_end, at_start, find_footer};
use self::header::DynamicHeader;
use super::pages::{BitOrder, Pages, count, entries_be32, held};
use super::{Confidence, Format, OpenCx, Opened, parent};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, Result};
use crate::num::narrow;
use crate::ondisk::uuid;
use crate::text::escape;
use std::sync::Arc;

mod footer;
mod header;

/// The format.
pub const FORMAT: Format = Format {
    name: "vhd",
    aliases: &["vpc"],
    about: "Virtual PC's and Hyper-V's disk: fixed, dynamic, differencing",
    probe,
    open,
};

const SECTOR: u64 = 512;

/// A block that is not allocated.
const UNALLOCATED: u32 = u32::MAX;

/// Largest disk, as Hyper-V and qemu have it: 2040 GiB.
const MAX_SIZE: u64 = 2040 << 30;

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    // A fixed disk begins with the guest's own bytes; one that begins with a footer is dynamic or differencing.
    let head = at_start(probe.head).is_some_and(|footer| footer.kind.get() != FIXED);
    (head || at_end(probe.tail).is_some()).then_some(Confidence::Signature)
}

/// Does it end as a fixed disk, whatever the disk in it begins with?
pub(super) fn is_fixed(probe: &Probe<'_>) -> bool {
    at_end(probe.tail).is_some_and(|(footer, _)| footer.kind.get() == FIXED && footer.sound())
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
