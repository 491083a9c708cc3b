//! What makes a disk dynamic: a header (`PRIVHEAD`) that names the disk and its group and says where data and database lie,
//! and a table of contents (`TOCBLOCK`) of the region that holds the database.
//!
//! ```text
//! MBR   0 │ 6 PRIVHEAD │ 63 .. public region: data │ private region, the last MiB
//! GPT   0 │ LDM metadata partition: private region │ other partitions │ LDM data partition: public region
//!
//! private region, in sectors   1, 2 TOCBLOCK │ 17 database │ 1856 PRIVHEAD │ 2045, 2046 TOCBLOCK │ 2047 PRIVHEAD
//! ```
//! Microsoft has published none of this. Places as in Linux 6.18, `block/partitions/ldm.h`; names, sums and numbers of
//! updates as in `DiskAccessLibrary` (`PrivateHeader.cs`, `TOCBlock.cs`). Disks of Windows Server 2003 and 2008 fit them.
//! Everything is big-endian, and counts in sectors of the disk.

use crate::block::BlockSource;
use crate::error::{At, Error, Result};
use crate::ondisk::parse_struct;
use crate::text::escape;
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Sector sizes that disks have.
const SECTORS: [u64; 2] = [512, 4096];
/// The sector of an MBR disk with the first header (`OFF_PRIV1`).
const FIRST: u64 = 6;
/// Sectors of a private region as Windows makes it (`LDM_DB_SIZE`), and where in it the other headers are (`OFF_PRIV2`,
/// `OFF_PRIV3`).
const REGION: u64 = 2048;
const OTHERS: [u64; 2] = [2047, 1856];
/// Where in the private region tables of contents may be (`OFF_TOCB1` to `OFF_TOCB4`).
const TABLES: [u64; 4] = [1, 2, 2045, 2046];
/// Flags of a region in the table: not there, to be deleted, disabled.
const UNUSED: u16 = 0x01 | 0x04 | 0x08;

/// The header, one sector.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct PrivHead {
    magic: [u8; 8],       // 0x000 "PRIVHEAD"
    sum: U32,             // 0x008 of all bytes but these four
    major: U16,           // 0x00c 2
    minor: U16,           // 0x00e 11: up to Windows Server 2003; 12: later
    changed: U64,         // 0x010 when, as FILETIME
    update: U64,          // 0x018 number of the update
    places: [U64; 2],     // 0x020 of the headers, in the private region
    disk: [u8; 64],       // 0x030 GUID as text
    host: [u8; 64],       // 0x070 GUID as text
    group: [u8; 64],      // 0x0b0 GUID as text
    group_name: [u8; 31], // 0x0f0
    sector: U32,          // 0x10f bytes
    flags: U32,           // 0x113
    slices: [U16; 2],     // 0x117
    public_start: U64,    // 0x11b
    public_len: U64,      // 0x123
    private_start: U64,   // 0x12b
    private_len: U64,     // 0x133
    tables: [U64; 2],     // 0x13b of contents, in the private region
    rest: [u8; 181],      // 0x14b sizes of database and log, the MBR's signature
}
const _: () = assert!(size_of::<PrivHead>() == 512);

/// The table of contents, one sector.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct TocBlock {
    magic: [u8; 8],        // 0x00 "TOCBLOCK"
    sum: U32,              // 0x08 of all bytes but these four
    update: U64,           // 0x0c number of the update
    zeros: [u8; 16],       // 0x14
    regions: [Region; 14], // 0x24
}
const _: () = assert!(size_of::<TocBlock>() == 512);

/// A part of the private region.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Region {
    name: [u8; 8],  // 0x00 "config": the database; "log"
    flags: U16,     // 0x08
    start: U64,     // 0x0a sectors from the start of the private region
    len: U64,       // 0x12 sectors
    kind: U16,      // 0x1a 6
    copy: U16,      // 0x1c 1
    zeros: [u8; 4], // 0x1e
}
const _: () = assert!(size_of::<Region>() == 34);

/// A stretch of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// What a disk says of itself.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// The disk's GUID, and that of its group.
    pub(super) disk: String,
    pub(super) group: String,
    /// Where the volumes' pieces lie.
    pub(super) public: Stretch,
    private: Stretch,
    sector: u64,
    tables: [u64; 2],
    update: u64,
}

/// Does the sum of all bytes but those of the sum itself fit?
fn adds_up(sector: &[u8], sum: u32) -> bool {
    let own = sum.to_be_bytes();
    let add = |bytes: &[u8]| bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    add(sector).wrapping_sub(add(&own)) == sum
}

/// A GUID that is kept as text.
pub(super) fn guid_text(text: &[u8]) -> Option<String> {
    let text = text.split(|byte| *byte == 0).next()?;
    let fits = |(at, byte): (usize, &u8)| {
        if matches!(at, 8 | 13 | 18 | 23) { *byte == b'-' } else { byte.is_ascii_hexdigit() }
    };
    (text.len() == 36 && text.iter().enumerate().all(fits))
        .then(|| escape(&text.to_ascii_lowercase()).to_string())
}

impl Header {
    /// Reads a header from its sector; `None` where there is none.
    ///
    /// # Errors
    /// `Corrupt` for a wrong sum, a GUID that is none, and places that make no sense.
    fn parse(bytes: &[u8], at: At) -> Result<Option<Self>> {
        let head: PrivHead = parse_struct(bytes, at.clone())?;
        if head.magic != *b"PRIVHEAD" {
            return Ok(None);
        }
        let bad = |why: &str| Error::corrupt(at.clone()).because(why);
        if !bytes.get(..512).is_some_and(|sector| adds_up(sector, head.sum.get())) {
            return Err(bad("its checksum does not fit"));
        }
        if head.major.get() != 2 {
            let version = format!("LDM header version {}.{}", head.major.get(), head.minor.get());
            return Err(Error::unsupported(version).at(at));
        }
        let sector = u64::from(head.sector.get());
        if !(512..=4096).contains(&sector) || !sector.is_power_of_two() {
            return Err(bad("its sectors have a size that no disk has"));
        }
        let stretch = |start: U64, len: U64| {
            let (start, len) = (start.get().checked_mul(sector)?, len.get().checked_mul(sector)?);
            start.checked_add(len).map(|_| Stretch { start, len })
        };
        let (Some(public), Some(private)) =
            (stretch(head.public_start, head.public_len), stretch(head.private_start, head.private_len))
        else {
            return Err(bad("its regions lie behind the end of any disk"));
        };
        let (disk, group) = (guid_text(&head.disk), guid_text(&head.group));
        Ok(Some(Self {
            disk: disk.ok_or_else(|| bad("it has no GUID of a disk"))?,
            group: group.ok_or_else(|| bad("it has no GUID of a disk group"))?,
            public,
            private,
            sector,
            tables: head.tables.map(U64::get),
            update: head.update.get(),
        }))
    }

    /// The newest header of a disk: at its start and end, or, if there is such a partition, in the one for metadata.
    /// `None` if there is not even a damaged one.
    ///
    /// # Errors
    /// What is wrong with the first header, if no other one is whole; what the source reports.
    pub(super) fn find(disk: &dyn BlockSource, metadata: Option<Stretch>) -> Result<Option<Self>> {
        let mut places = Vec::new();
        for sector in SECTORS {
            let from_end = metadata.map_or(disk.len(), |part| part.start.saturating_add(part.len));
            let at = |number: u64| number.saturating_mul(sector);
            let start = from_end.checked_sub(at(REGION));
            if metadata.is_none() {
                places.push(at(FIRST));
            }
            places.extend(OTHERS.iter().filter_map(|other| start?.checked_add(at(*other))));
            // A private region of another size still ends with a header.
            places.extend(from_end.checked_sub(sector));
        }
        let mut best: Option<Self> = None;
        let mut first_error = None;
        for place in places {
            let mut bytes = [0; 512];
            if place.checked_add(512).is_none_or(|end| end > disk.len()) {
                continue;
            }
            disk.read_at(&mut bytes, place)?;
            match Self::parse(&bytes, At::new("ldm", "header").byte(place)) {
                Ok(found) => {
                    let update = best.as_ref().map(|best| best.update);
                    best = found.filter(|found| update.is_none_or(|update| found.update > update)).or(best);
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match (best, first_error) {
            (None, Some(error)) => Err(error),
            (best, _) => Ok(best),
        }
    }

    /// Where the database lies: what the newest table of contents says.
    ///
    /// # Errors
    /// `Corrupt` if no table is whole, or none has a database; what the source reports.
    pub(super) fn database(&self, disk: &dyn BlockSource) -> Result<Stretch> {
        let mut best: Option<(u64, Stretch)> = None;
        let mut why = "there is none";
        for number in self.tables.into_iter().chain(TABLES) {
            let place = number.checked_mul(self.sector).and_then(|at| at.checked_add(self.private.start));
            let Some(place) =
                place.filter(|place| place.checked_add(512).is_some_and(|end| end <= disk.len()))
            else {
                continue;
            };
            let mut bytes = [0; 512];
            disk.read_at(&mut bytes, place)?;
            let table: TocBlock = parse_struct(&bytes, At::new("ldm", "table of contents").byte(place))?;
            if table.magic != *b"TOCBLOCK" {
                continue;
            }
            if !adds_up(&bytes, table.sum.get()) {
                why = "its checksum does not fit";
                continue;
            }
            let Some(stretch) = self.config(&table) else {
                why = "it has no database inside the private region";
                continue;
            };
            if best.is_none_or(|(update, _)| table.update.get() > update) {
                best = Some((table.update.get(), stretch));
            }
        }
        let at = At::new("ldm", "table of contents").byte(self.private.start);
        best.map(|(_, stretch)| stretch).ok_or_else(|| Error::corrupt(at).because(why))
    }

    /// The database's part of the private region, in bytes of the disk.
    fn config(&self, table: &TocBlock) -> Option<Stretch> {
        let is_it =
            |region: &&Region| region.name.starts_with(b"config\0") && region.flags.get() & UNUSED == 0;
        let region = table.regions.iter().find(is_it)?;
        let start = region.start.get().checked_mul(self.sector)?;
        let len = region.len.get().checked_mul(self.sector)?;
        if start.checked_add(len)? > self.private.len {
            return None;
        }
        Some(Stretch { start: self.private.start.checked_add(start)?, len })
    }
}
