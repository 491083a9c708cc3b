//! The base block: the first 4 KiB of a hive, and the first 512 bytes of a log as a copy of them.

use super::name;
use crate::error::{At, Error, ErrorKind, Result};
use crate::ondisk::parse_struct;
use crate::text::Text;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes before the first bin.
pub(super) const SIZE: u64 = 4096;
/// Bytes of it that say something, and that a log has a copy of.
pub(super) const SECTOR: usize = 512;
/// Bins have sizes that are multiples of this.
pub(super) const PAGE: u64 = 4096;
/// Windows maps a hive whole into 2 GiB.
pub(super) const MAX_BINS: u64 = 2 << 30;

/// "Base block".
#[derive(FromBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Raw {
    signature: [u8; 4],  // 0x000 "regf"
    primary: U32,        // 0x004 raised before the hive is written
    secondary: U32,      // 0x008 raised after it
    written: U64,        // 0x00c FILETIME
    major: U32,          // 0x014 1
    minor: U32,          // 0x018 3 to 6
    kind: U32,           // 0x01c 0 a hive; 1, 2 an old log; 6 a new log
    format: U32,         // 0x020 1, as it lies in memory
    root: U32,           // 0x024 bytes from the first bin
    bins: U32,           // 0x028 bytes
    cluster: U32,        // 0x02c sectors of 512 bytes in one of the disk
    name: [u8; 64],      // 0x030 UTF-16, the end of the path
    reserved: [u8; 396], // 0x070
    checksum: U32,       // 0x1fc of all words before it
}
const _: () = assert!(size_of::<Raw>() == SECTOR);

/// What kind of file a base block stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The hive itself.
    Primary,
    /// A log of marked pages, up to Windows 8.
    OldLog,
    /// A log of entries, from Windows 8.1 on.
    NewLog,
}

/// A base block, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) primary: u32,
    pub(super) secondary: u32,
    pub(super) written: u64,
    pub(super) minor: u32,
    pub(super) root: u32,
    /// Bytes in all bins.
    pub(super) bins: u64,
    pub(super) name: Text,
    /// Is its checksum right? If not, none of it can be trusted.
    pub(super) is_whole: bool,
    kind: u32,
    version: (u32, u32, u32),
}

impl Base {
    /// Takes the first sector of a file apart.
    ///
    /// # Errors
    /// `NotAnImage` when it is no hive and no log.
    pub(super) fn parse(sector: &[u8]) -> Result<Self> {
        let place = At::new("registry", "base block").byte(0);
        let raw: Raw = parse_struct(sector, place.clone())?;
        if &raw.signature != b"regf" {
            return Err(
                Error::new(ErrorKind::NotAnImage, "no registry hive: it does not begin with regf").at(place)
            );
        }
        Ok(Self {
            primary: raw.primary.get(),
            secondary: raw.secondary.get(),
            written: raw.written.get(),
            minor: raw.minor.get(),
            root: raw.root.get(),
            bins: u64::from(raw.bins.get()),
            name: name::wtf8(name::units(&raw.name).take_while(|unit| *unit != 0)),
            is_whole: checksum(sector) == raw.checksum.get(),
            kind: raw.kind.get(),
            version: (raw.major.get(), raw.minor.get(), raw.format.get()),
        })
    }

    /// Which kind of file it says it stands in.
    pub(super) const fn kind(&self) -> Option<Kind> {
        match self.kind {
            0 => Some(Kind::Primary),
            1 | 2 => Some(Kind::OldLog),
            6 => Some(Kind::NewLog),
            _ => None,
        }
    }

    /// Was writing what it heads begun and not ended?
    pub(super) const fn is_dirty(&self) -> bool {
        !self.is_whole || self.primary != self.secondary
    }

    /// The base block of a hive that was completed from the log that `log` heads.
    pub(super) fn completed(&self, log: &Self) -> Self {
        Self { name: self.name.clone(), kind: self.kind, ..log.clone() }
    }

    /// Do we read what it heads?
    ///
    /// # Errors
    /// `Unsupported` for another version; `Corrupt` for an impossible size.
    pub(super) fn check(&self) -> Result<()> {
        let place = At::new("registry", "base block").byte(0);
        let (major, minor, format) = self.version;
        // 1.0 and 1.1, of Windows NT 3.1, have other cells.
        if major != 1 || !(2..=6).contains(&minor) {
            return Err(Error::unsupported(format!("registry hive version {major}.{minor}")).at(place));
        }
        if format != 1 {
            return Err(Error::unsupported(format!("registry hive format {format}")).at(place));
        }
        if !is_bins(self.bins) {
            return Err(Error::corrupt(place).because(format!("{} bytes of bins", self.bins)));
        }
        Ok(())
    }
}

/// Can all bins together have this size?
pub(super) const fn is_bins(size: u64) -> bool {
    size >= PAGE && size <= MAX_BINS && size.is_multiple_of(PAGE)
}

/// All words before the checksum, with exclusive or; 0 and -1 are avoided.
fn checksum(sector: &[u8]) -> u32 {
    let words = sector.chunks_exact(4).take(127).filter_map(|word| word.first_chunk().copied());
    match words.fold(0, |sum, word| sum ^ u32::from_le_bytes(word)) {
        0 => 1,
        u32::MAX => u32::MAX.saturating_sub(1),
        sum => sum,
    }
}
