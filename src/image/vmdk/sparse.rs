//! The sparse extent of VMDK: a header, a grain directory of grain tables, and grains, plain or compressed.
//!
//! ```text
//! header ─▶ grain directory ─▶ grain table ─▶ grain
//! footer ┘ (streamOptimized: at the end)       or marker (sector of the disk, length) + zlib stream
//! ```
//! Specification: VMware, "Virtual Disk Format 5.0", sections "Hosted Sparse Extents", "Stream-Optimized Compressed
//! Sparse Extents".

use super::super::pages::{Pages, TABLE_PAGE, TABLE_PAGES, count, entries_le32, held};
use super::super::unpack;
use crate::block::{BlockSource, Place, Run};
use crate::error::{At, Error, Result};
use crate::num::narrow;
use crate::ondisk::read_struct;
use std::sync::Arc;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a sector, the unit of every offset in this format.
pub(super) const SECTOR: u64 = 512;

/// Grain directory "at the end": the real header is the footer.
const GD_AT_END: u64 = u64::MAX;

const REDUNDANT: u32 = 1 << 1;
const ZEROED_GRAIN: u32 = 1 << 2;
const MARKERS: u32 = 1 << 17;
const NEWLINE_TEST: u32 = 1;

/// Longest grain that is unpacked. VMware's have 64 KiB.
const MAX_PACKED_GRAIN: u64 = 16 << 20;

/// Longest plain grain, as qemu: 1 GiB.
pub(super) const MAX_GRAIN: u64 = 1 << 30;

/// Standard grains that are looked at to lengthen a run.
const MERGE: usize = 32;

/// Sparse extent header; the footer has the same shape.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone)]
#[repr(C)]
struct Header {
    magic: [u8; 4],          // 0x00 "KDMV"
    version: U32,            // 0x04 1, 2 or 3
    flags: U32,              // 0x08
    capacity: U64,           // 0x0c sectors of the disk
    grain_size: U64,         // 0x14 sectors, a power of two
    descriptor_offset: U64,  // 0x1c sector, 0 = none
    descriptor_size: U64,    // 0x24 sectors
    gtes_per_gt: U32,        // 0x2c entries of a grain table, 512
    rgd_offset: U64,         // 0x30 sector of the redundant grain directory
    gd_offset: U64,          // 0x38 sector of the grain directory, all ones = see the footer
    overhead: U64,           // 0x40 sectors before the first grain
    unclean: u8,             // 0x48
    newlines: [u8; 4],       // 0x49 "\n \r\n", spoilt by a transfer as text
    compress_algorithm: U16, // 0x4d 0 none, 1 deflate
    pad: [u8; 433],          // 0x4f
}
const _: () = assert!(size_of::<Header>() == 512);

/// Are the markers of compressed grains read? They lie all over the file, and only who unpacks a grain needs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Markers {
    Read,
    Skip,
}

/// An open sparse extent.
#[derive(Debug)]
pub(super) struct Sparse {
    /// Index of its file in the disk's list.
    file: usize,
    /// Bytes it describes.
    pub(super) size: u64,
    /// Bytes of a grain.
    pub(super) grain: u64,
    compressed: bool,
    zeroed_grains: bool,
    entries: u64,
    gd: u64,
    /// The redundant grain directory, if there is one.
    rgd: Option<u64>,
    directory_len: u64,
    tables: Pages,
    markers: Pages,
    /// Byte and length of the embedded descriptor.
    pub(super) descriptor: Option<(u64, u64)>,
    pub(super) version: u32,
    pub(super) warnings: Vec<String>,
}

fn corrupt(byte: u64, why: impl Into<String>) -> Error {
    Error::corrupt(At::new("vmdk", "sparse extent header").byte(byte)).because(why)
}

fn sectors(count: u64, what: &str, byte: u64) -> Result<u64> {
    count.checked_mul(SECTOR).ok_or_else(|| corrupt(byte, format!("{what} of {count:#x} sectors")))
}

/// Is this the beginning of a hosted sparse extent?
pub(super) fn is_sparse(head: &[u8]) -> bool {
    head.starts_with(b"KDMV")
}

impl Sparse {
    /// Reads the header and, if it says so, the footer, of `source`, which is file number `file` of its disk.
    ///
    /// # Errors
    /// `Corrupt` for fields that contradict each other or the file's length; `Unsupported` for other versions and
    /// other compression; `Limit` for grains over 16 MiB packed or 1 GiB plain.
    pub(super) fn load(source: Arc<dyn BlockSource>, file: usize) -> Result<Self> {
        let first: Header = read_struct(&*source, 0, At::new("vmdk", "sparse extent header"))?;
        check_head(&first)?;
        let header = if first.gd_offset.get() == GD_AT_END { footer(&*source)? } else { first.clone() };
        let mut warnings = Vec::new();
        let grain = sectors(header.grain_size.get(), "grain", 0x14)?;
        if !grain.is_power_of_two() {
            return Err(corrupt(
                0x14,
                format!("a grain of {} sectors is not a power of two", header.grain_size),
            ));
        }
        let compressed = match header.compress_algorithm.get() {
            0 => false,
            1 => true,
            other => return Err(Error::unsupported(format!("VMDK compression algorithm {other}"))),
        };
        if compressed && header.flags.get() & MARKERS == 0 {
            return Err(Error::unsupported("a VMDK with compressed grains but without markers"));
        }
        let most = if compressed { MAX_PACKED_GRAIN } else { MAX_GRAIN };
        if grain > most {
            return Err(Error::limit(format!("a VMDK grain of {grain} bytes, at most {most} are accepted")));
        }
        let entries = u64::from(header.gtes_per_gt.get());
        if !(1..=512).contains(&entries) {
            return Err(corrupt(0x2c, format!("{entries} entries in a grain table, must be 1 to 512")));
        }
        let size = sectors(header.capacity.get(), "capacity", 0x0c)?;
        let per_table = grain.saturating_mul(entries);
        let directory_len = size.div_ceil(per_table).saturating_mul(4);
        let redundant = (header.flags.get() & REDUNDANT != 0 && header.rgd_offset.get() != 0)
            .then(|| sectors(header.rgd_offset.get(), "redundant grain directory", 0x30))
            .transpose()?;
        let fits = |at: u64| at.checked_add(directory_len).is_some_and(|end| end <= source.len());
        let gd = sectors(header.gd_offset.get(), "grain directory", 0x38)?;
        let (gd, rgd) = match redundant {
            Some(redundant) if !fits(gd) && fits(redundant) => {
                warnings.push(
                    "the grain directory lies past the end of the file; its redundant copy is used"
                        .to_owned(),
                );
                (redundant, None)
            }
            other => (gd, other.filter(|other| fits(*other))),
        };
        if !fits(gd) {
            return Err(Error::corrupt(At::new("vmdk", "grain directory").byte(gd)).because(format!(
                "{directory_len} bytes, but the file ends at {:#x}: it was cut off, or its header is wrong",
                source.len()
            )).help("compare the file's size and checksum with the original's and copy it again"));
        }
        if header.unclean != 0 {
            warnings.push("the image was not closed cleanly by its writer".to_owned());
        }
        // The n-th file of a disk keeps the n-th part, so that thousands of extents keep little more than a few.
        let nth = file.saturating_add(1);
        // The descriptor is the head's in either case.
        let at = sectors(first.descriptor_offset.get(), "descriptor", 0x1c)?;
        let len = sectors(first.descriptor_size.get(), "descriptor", 0x24)?;
        Ok(Self {
            file,
            size,
            grain,
            compressed,
            zeroed_grains: header.flags.get() & ZEROED_GRAIN != 0,
            entries,
            gd,
            rgd,
            directory_len,
            tables: Pages::with(Arc::clone(&source), TABLE_PAGE, TABLE_PAGES.checked_div(nth).unwrap_or(0)),
            // A marker has 12 bytes at the start of a sector, so a page of 16 holds just one.
            markers: Pages::with(source, 16, 8192_usize.checked_div(nth).unwrap_or(0)),
            descriptor: (at != 0 && len != 0).then_some((at, len)),
            version: header.version.get(),
            warnings,
        })
    }

    /// The run that starts at byte `offset` of the extent. `base` is where the extent starts on the disk.
    pub(super) fn run_at(&self, offset: u64, base: u64, markers: Markers) -> Result<Run> {
        let number = offset.checked_div(self.grain).unwrap_or(0);
        let skip = offset & self.grain.saturating_sub(1);
        let bytes = |grains: u64| grains.saturating_mul(self.grain).saturating_sub(skip);
        let table = number.checked_div(self.entries).unwrap_or(0);
        let index = number.saturating_sub(table.saturating_mul(self.entries));
        let left = self.entries.saturating_sub(index);
        let Some(table_at) = self.grain_table(table)? else {
            let more = self.empty_tables(table)?.saturating_sub(1).saturating_mul(self.entries);
            return Ok(Run { len: bytes(left.saturating_add(more)), place: Place::Hole });
        };
        let entry_at = table_at.saturating_add(index.saturating_mul(4));
        let at = At::new("vmdk", "grain table").index(table).byte(entry_at);
        let window = self.tables.window(entry_at, &At::new("vmdk", "grain table").index(table))?;
        let mut entries = entries_le32(&window).take(narrow(left));
        let Some(first) = entries.next() else {
            return Err(Error::corrupt(at).because("the file ends within it"));
        };
        let same = |entries: &mut dyn Iterator<Item = u32>| {
            bytes(count(entries.take_while(|raw| *raw == first).count()).saturating_add(1))
        };
        match first {
            0 => Ok(Run { len: same(&mut entries), place: Place::Hole }),
            1 if self.zeroed_grains => Ok(Run { len: same(&mut entries), place: Place::Zero }),
            1 => Err(Error::corrupt(at).because("says 'zeroed grain', but the header does not allow such")),
            sector if self.compressed && markers == Markers::Skip => {
                let end = self.tables.file_len();
                held(1, u64::from(sector).saturating_mul(SECTOR), end, &at)?;
                let following = entries
                    .take_while(|raw| *raw > 1 && u64::from(*raw).saturating_mul(SECTOR) < end)
                    .count();
                let place = Place::Packed { file: self.file, offset: 0, stored: 0, unit: 0, skip };
                Ok(Run { len: bytes(count(following).saturating_add(1)), place })
            }
            sector if self.compressed => self.packed(number, u64::from(sector), skip, base, &at),
            sector => {
                let host = u64::from(sector).saturating_mul(SECTOR).saturating_add(skip);
                let step = self.grain.checked_div(SECTOR).unwrap_or(0);
                let mut next = u64::from(sector);
                let following = entries.take(MERGE).take_while(|raw| {
                    next = next.saturating_add(step);
                    u64::from(*raw) == next
                });
                let len = bytes(count(following.count()).saturating_add(1));
                let len = held(len, host, self.tables.file_len(), &at)?;
                Ok(Run { len, place: Place::Stored { file: self.file, offset: host } })
            }
        }
    }

    /// The byte of grain table `table`, from the grain directory or, where that names a place outside the file, from
    /// its redundant copy.
    fn grain_table(&self, table: u64) -> Result<Option<u64>> {
        let at = At::new("vmdk", "grain directory").index(table);
        let at_entry = table.saturating_mul(4);
        if at_entry >= self.directory_len {
            return Err(Error::corrupt(at).because("lies past the directory's end"));
        }
        let read = |directory: u64| -> Result<u64> {
            let raw = u32::from_le_bytes(self.tables.get(directory.saturating_add(at_entry), &at)?);
            Ok(u64::from(raw).saturating_mul(SECTOR))
        };
        let fits =
            |start: u64| start.saturating_add(self.entries.saturating_mul(4)) <= self.tables.file_len();
        let primary = read(self.gd)?;
        if primary == 0 || fits(primary) {
            return Ok((primary != 0).then_some(primary));
        }
        match self.rgd.map(read).transpose()? {
            Some(copy) if copy != 0 && fits(copy) => Ok(Some(copy)),
            // The last table of a file may be cut short by its end; entries that are there are good.
            _ => held(1, primary, self.tables.file_len(), &at).map(|_| Some(primary)),
        }
    }

    /// How many directory entries from `table` on name no grain table, as far as one page tells.
    fn empty_tables(&self, table: u64) -> Result<u64> {
        let at = self.gd.saturating_add(table.saturating_mul(4));
        let window = self.tables.window(at, &At::new("vmdk", "grain directory").index(table))?;
        let left = self.directory_len.div_ceil(4).saturating_sub(table);
        Ok(count(entries_le32(&window).take_while(|raw| *raw == 0).count()).min(left).max(1))
    }

    /// A compressed grain: its marker says which sector of the disk it is for, and how long its stream is.
    fn packed(&self, number: u64, sector: u64, skip: u64, base: u64, at: &At) -> Result<Run> {
        let start = sector.saturating_mul(SECTOR);
        held(1, start, self.tables.file_len(), at)?;
        let at = At::new("vmdk", "grain marker").index(number).byte(start);
        let window = self.markers.window(start, &at)?;
        let (Some(lba), Some(stored)) = (
            window.first_chunk().copied().map(u64::from_le_bytes),
            window.get(8..).and_then(<[u8]>::first_chunk).copied().map(u32::from_le_bytes),
        ) else {
            return Err(Error::corrupt(at).because("the file ends within it"));
        };
        let stored = u64::from(stored);
        let expected = number.saturating_mul(self.grain.checked_div(SECTOR).unwrap_or(0));
        if lba != expected {
            return Err(Error::corrupt(at).because(format!(
                "is for sector {lba:#x} of the disk, the grain table wants sector {expected:#x}"
            )));
        }
        if stored == 0 || stored > self.grain.saturating_mul(2) {
            return Err(Error::corrupt(at)
                .because(format!("a stream of {stored} bytes for a grain of {}", self.grain)));
        }
        let offset = start.saturating_add(12);
        let end = offset.saturating_add(stored);
        if end > self.tables.file_len() {
            return Err(Error::corrupt(at).because(format!(
                "its stream ends at {end:#x}, but the file ends at {:#x}: it was cut off",
                self.tables.file_len()
            )));
        }
        // A unit's key must be the disk's own, for all its extents: the byte of the disk at which the grain starts.
        let unit = base.saturating_add(number.saturating_mul(self.grain));
        let place = Place::Packed { file: self.file, offset, stored, unit, skip };
        Ok(Run { len: self.grain.saturating_sub(skip), place })
    }

    /// Unpacks the grain that starts at byte `offset` of the extent.
    pub(super) fn unpack(&self, stored: &[u8], offset: u64) -> Result<Vec<u8>> {
        let at = At::new("vmdk", "compressed grain").index(offset.checked_div(self.grain).unwrap_or(0));
        let plain = unpack::inflate(stored, self.grain, true, &at)?;
        // The last grain may be packed only as far as the disk goes.
        let least = self.grain.min(self.size.saturating_sub(offset));
        if count(plain.len()) < least {
            return Err(Error::corrupt(at).because(format!("unpacks to {} of {least} bytes", plain.len())));
        }
        Ok(plain)
    }

    /// For `info`: plain or compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.compressed
    }
}

fn check_head(header: &Header) -> Result<()> {
    if !is_sparse(&header.magic) {
        return Err(corrupt(0, "does not begin with 'KDMV'"));
    }
    if !(1..=3).contains(&header.version.get()) {
        return Err(Error::unsupported(format!("VMDK sparse extent version {}", header.version)));
    }
    if header.flags.get() & NEWLINE_TEST != 0 && header.newlines != *b"\n \r\n" && header.newlines != [0; 4] {
        return Err(corrupt(0x49, "its line ends were changed: the file was transferred as text")
            .help("transfer it again in binary mode"));
    }
    Ok(())
}

/// The footer: a copy of the header with the grain directory's true place, in the last sector but one.
fn footer(source: &dyn BlockSource) -> Result<Header> {
    let start = source.len().saturating_sub(2 * SECTOR);
    let cut = |why: &str| {
        Error::corrupt(At::new("vmdk", "footer").byte(start))
            .because(format!("{why}: the file was cut off (truncated upload or download?)"))
            .help("compare the file's size and checksum with the original's and copy it again")
    };
    if source.len() < 4 * SECTOR || !source.len().is_multiple_of(SECTOR) {
        return Err(cut("a streamOptimized image ends with a footer, and this one does not end at a sector"));
    }
    let marker: [u8; 512] =
        read_struct(source, start.saturating_sub(SECTOR), At::new("vmdk", "footer marker"))?;
    let header: Header = read_struct(source, start, At::new("vmdk", "footer"))?;
    // Marker: number of sectors u64, size u32 = 0, type u32 = 3.
    let is_marker = marker.get(8..16) == Some(&[0, 0, 0, 0, 3, 0, 0, 0]);
    if !is_sparse(&header.magic) || !is_marker {
        return Err(cut("a streamOptimized image ends with a footer, and this one does not"));
    }
    check_head(&header)?;
    if header.gd_offset.get() == GD_AT_END {
        return Err(corrupt(start, "the footer too says that the grain directory is named by the footer"));
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ondisk::parse_struct;

    #[test]
    fn a_header_of_zeros_is_no_sparse_extent() {
        let header: Header = parse_struct(&[0; 512], At::new("vmdk", "x")).unwrap();
        assert!(check_head(&header).is_err());
    }

    #[test]
    fn line_ends_changed_by_a_text_transfer_are_named() {
        let mut header: Header = parse_struct(&[0; 512], At::new("vmdk", "x")).unwrap();
        header.magic = *b"KDMV";
        header.version = U32::new(1);
        header.flags = U32::new(1);
        header.newlines = *b"\n \n\n";
        assert!(check_head(&header).unwrap_err().to_string().contains("as text"));
    }
}
