//! The sparse extents of ESX hosts: COWD (`vmfsSparse`) and seSparse. Both are a directory of tables of 4096 grains; they
//! differ in their headers and in how an entry is written.
//!
//! | | COWD | seSparse |
//! |---|---|---|
//! | entry of a directory | u32: sector of the table | u64: 0x1 in the topmost 4 bits, number of the table in the lower 32 |
//! | entry of a table | u32: sector of the grain, 0 = unallocated | u64: a kind in the topmost 4 bits, and the number of the grain |
//! | grain | as the header says, usually 512 bytes | 4 KiB |
//!
//! Specification of COWD: VMware, "Virtual Disk Format 5.0", section "ESX Server Sparse Extents". VMware has published none
//! of seSparse; the layout is that of qemu's `block/vmdk.c`, which was made by watching ESXi 6.5 and later, and what that
//! has not seen is refused here too.

use super::super::pages::{Pages, TABLE_PAGE, TABLE_PAGES, count, held};
use super::sparse::{MAX_GRAIN, SECTOR};
use crate::block::{BlockSource, Place, Run};
use crate::error::{At, Error, Result};
use crate::num::narrow;
use crate::ondisk::read_struct;
use std::num::NonZeroU64;
use std::sync::Arc;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of a COWD extent.
pub(super) const COWD: &[u8] = b"COWD";
/// First bytes of a seSparse extent: 0xcafebabe, in 64 bits.
pub(super) const SESPARSE: &[u8] = &[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0];

/// Entries of a table of either kind.
const ENTRIES: u64 = 4096;

/// "COWDisk_Header".
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct CowdHeader {
    magic: [u8; 4],            // 0x000 "COWD"
    version: U32,              // 0x004 1
    flags: U32,                // 0x008 3
    capacity: U32,             // 0x00c sectors of the disk
    grain_size: U32,           // 0x010 sectors
    gd_offset: U32,            // 0x014 sector of the grain directory, 4
    gd_entries: U32,           // 0x018
    free_sector: U32,          // 0x01c the next one to be allocated
    root_or_child: [u8; 1028], // 0x020 geometry of a root disk, or name of a parent; the descriptor has both
    generation: U32,           // 0x424
    name: [u8; 60],            // 0x428
    description: [u8; 512],    // 0x464
    saved_generation: U32,     // 0x664
    reserved: [u8; 8],         // 0x668
    unclean: U32,              // 0x670
    padding: [u8; 396],        // 0x674
}
const _: () = assert!(size_of::<CowdHeader>() == 2048);

/// The part of a seSparse header that never changes. All offsets and sizes in sectors.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct SeHeader {
    magic: U64,               // 0x00 0xcafebabe
    version: U64,             // 0x08 0x00000002_00000001
    capacity: U64,            // 0x10 sectors of the disk
    grain_size: U64,          // 0x18 8
    table_size: U64,          // 0x20 64
    flags: U64,               // 0x28 0
    reserved: [U64; 4],       // 0x30 0
    volatile: [U64; 2],       // 0x50 offset and size of the volatile header
    journal_header: [U64; 2], // 0x60
    journal: [U64; 2],        // 0x70
    directory: [U64; 2],      // 0x80
    tables: [U64; 2],         // 0x90
    free_bitmap: [U64; 2],    // 0xa0
    backmap: [U64; 2],        // 0xb0
    grains: [U64; 2],         // 0xc0
    padding: [u8; 304],       // 0xd0
}
const _: () = assert!(size_of::<SeHeader>() == 512);

/// The part of a seSparse header that changes while it is written.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct SeVolatile {
    magic: U64,          // 0x00 0xcafecafe
    free_table: U64,     // 0x08
    next_sequence: U64,  // 0x10
    replay_journal: U64, // 0x18 not 0: the journal holds what is not carried out yet
    padding: [u8; 480],  // 0x20
}
const _: () = assert!(size_of::<SeVolatile>() == 512);

/// How entries are written.
#[derive(Clone, Copy, Debug)]
enum Dialect {
    Cowd,
    /// With the bytes where tables and grains begin.
    SeSparse {
        tables: u64,
        grains: u64,
    },
}

/// What an entry of a table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    Unallocated,
    Zero,
    /// At this byte of the file.
    At(u64),
}

/// An open extent.
#[derive(Debug)]
pub(super) struct Esx {
    /// Index of its file in the disk's list.
    file: usize,
    /// Bytes it describes.
    pub(super) size: u64,
    /// Bytes of a grain.
    pub(super) grain: NonZeroU64,
    dialect: Dialect,
    /// Byte and number of the directory's entries.
    directory: (u64, u64),
    pages: Pages,
    pub(super) warnings: Vec<String>,
}

fn sectors(count: u64, at: &At) -> Result<u64> {
    count
        .checked_mul(SECTOR)
        .ok_or_else(|| Error::corrupt(at.clone()).because(format!("{count:#x} sectors exceed 2^64 bytes")))
}

impl Esx {
    /// Reads the header of `source`, which is file number `file` of its disk.
    ///
    /// # Errors
    /// `Corrupt` for fields that contradict each other or the file's length; `Unsupported` for another version, for
    /// fields of seSparse that nobody has described, and for a journal that waits to be carried out.
    pub(super) fn load(source: Arc<dyn BlockSource>, file: usize) -> Result<Self> {
        let mut magic = [0; 8];
        let len = narrow(source.len().min(8));
        source.read_at(magic.get_mut(..len).unwrap_or_default(), 0)?;
        let extent =
            if magic == SESPARSE { Self::load_se(source, file)? } else { Self::load_cowd(source, file)? };
        extent.check()
    }

    fn load_cowd(source: Arc<dyn BlockSource>, file: usize) -> Result<Self> {
        let at = At::new("vmdk", "COWD header").byte(0);
        let header: CowdHeader = read_struct(&*source, 0, at.clone())?;
        if header.magic != *COWD {
            return Err(Error::corrupt(at).because("does not begin with 'COWD'"));
        }
        if header.version.get() != 1 {
            return Err(Error::unsupported(format!("version {} of vmfsSparse (COWD)", header.version)));
        }
        let grain = sectors(header.grain_size.get().into(), &at)?;
        let grain =
            NonZeroU64::new(grain).ok_or_else(|| Error::corrupt(at).because("a grain of 0 sectors"))?;
        let unclean =
            (header.unclean.get() != 0).then(|| "the extent was not closed cleanly by its writer".to_owned());
        Ok(Self {
            file,
            size: u64::from(header.capacity.get()).saturating_mul(SECTOR),
            grain,
            dialect: Dialect::Cowd,
            directory: (
                u64::from(header.gd_offset.get()).saturating_mul(SECTOR),
                header.gd_entries.get().into(),
            ),
            pages: pages(source, file),
            warnings: unclean.into_iter().collect(),
        })
    }

    fn load_se(source: Arc<dyn BlockSource>, file: usize) -> Result<Self> {
        let at = At::new("vmdk", "seSparse header").byte(0);
        let header: SeHeader = read_struct(&*source, 0, at.clone())?;
        let unknown = |what: String| Err(Error::unsupported(format!("seSparse with {what}")).at(at.clone()));
        if header.version.get() != 0x0000_0002_0000_0001 {
            return unknown(format!("version {:#x}", header.version));
        }
        if header.grain_size.get() != 8 || header.table_size.get() != 64 {
            return unknown(format!(
                "a grain of {} and a table of {} sectors (8 and 64 are)",
                header.grain_size, header.table_size
            ));
        }
        if header.flags.get() != 0 || header.reserved.iter().any(|field| field.get() != 0) {
            return unknown(format!("flags {:#x} or reserved fields", header.flags));
        }
        let [volatile, _] = header.volatile;
        let volatile_at = sectors(volatile.get(), &at)?;
        let place = At::new("vmdk", "seSparse volatile header");
        let volatile: SeVolatile = read_struct(&*source, volatile_at, place.clone())?;
        if volatile.magic.get() != 0xcafe_cafe {
            return Err(Error::corrupt(place.byte(volatile_at)).because("does not begin with 0xcafecafe"));
        }
        if volatile.replay_journal.get() != 0 {
            let error = unknown("a journal that is not carried out yet".to_owned());
            return error.map_err(|error| {
                error.help("attach the disk to a virtual machine of the ESXi host once, or consolidate its snapshots there")
            });
        }
        let [directory, directory_len] = header.directory;
        let ([tables, _], [grains, _]) = (header.tables, header.grains);
        let dialect =
            Dialect::SeSparse { tables: sectors(tables.get(), &at)?, grains: sectors(grains.get(), &at)? };
        Ok(Self {
            file,
            size: sectors(header.capacity.get(), &at)?,
            grain: NonZeroU64::new(8 * SECTOR).expect("a constant"),
            dialect,
            directory: (sectors(directory.get(), &at)?, sectors(directory_len.get(), &at)? / 8),
            pages: pages(source, file),
            warnings: Vec::new(),
        })
    }

    /// The directory must reach to the end of the disk and lie in the file.
    fn check(self) -> Result<Self> {
        let at = At::new("vmdk", "grain directory").byte(self.directory.0);
        if self.grain.get() > MAX_GRAIN {
            return Err(Error::limit(format!(
                "a VMDK grain of {} bytes, at most {MAX_GRAIN} are accepted",
                self.grain
            )));
        }
        let needed = self.size.div_ceil(self.grain.get().saturating_mul(ENTRIES));
        if needed > self.directory.1 {
            return Err(Error::corrupt(at).because(format!(
                "has {} entries, the disk of {} bytes needs {needed}",
                self.directory.1, self.size
            )));
        }
        let end = needed.checked_mul(self.width()).and_then(|len| len.checked_add(self.directory.0));
        if end.is_none_or(|end| end > self.pages.file_len()) {
            return Err(Error::corrupt(at)
                .because(format!(
                    "{needed} entries, but the file ends at {:#x}: it was cut off, or its header is wrong",
                    self.pages.file_len()
                ))
                .help("compare the file's size and checksum with the original's and copy it again"));
        }
        Ok(self)
    }

    /// Bytes of an entry.
    const fn width(&self) -> u64 {
        match self.dialect {
            Dialect::Cowd => 4,
            Dialect::SeSparse { .. } => 8,
        }
    }

    /// The entries in a window. Every table starts at a sector, so none straddles two pages.
    fn entries<'a>(&self, window: &'a [u8]) -> impl Iterator<Item = u64> + 'a {
        let little_endian = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        window.chunks_exact(narrow(self.width())).map(little_endian)
    }

    /// The byte of the table that an entry of the directory names.
    fn table(&self, raw: u64, at: &At) -> Result<Option<u64>> {
        match self.dialect {
            _ if raw == 0 => Ok(None),
            Dialect::Cowd => Ok(Some(raw.saturating_mul(SECTOR))),
            // The upper half is compared whole, as in qemu: a 64 TiB disk has no more than 2^22 tables.
            Dialect::SeSparse { tables, .. } if raw >> 32 == 0x1000_0000 => {
                let table = (raw & 0xffff_ffff).saturating_mul(ENTRIES * 8);
                Ok(Some(tables.saturating_add(table)))
            }
            Dialect::SeSparse { .. } => {
                Err(Error::corrupt(at.clone()).because(format!("{raw:#018x} names no table")))
            }
        }
    }

    fn decode(&self, raw: u64, at: &At) -> Result<Grain> {
        let Dialect::SeSparse { grains, .. } = self.dialect else {
            let start = raw.saturating_mul(SECTOR);
            return Ok(if raw == 0 { Grain::Unallocated } else { Grain::At(start) });
        };
        match raw >> 60 {
            0 if raw == 0 => Ok(Grain::Unallocated),
            // Unmapped by the guest's SCSI UNMAP, and zeroed by it: both read as zero, whatever the parent holds.
            1 | 2 => Ok(Grain::Zero),
            // The 60 bits of the grain's number are written with their lowest 12 on top.
            3 => {
                let number = (raw >> 48 & 0xfff) | (raw & 0xffff_ffff_ffff) << 12;
                let start = number.checked_mul(self.grain.get()).and_then(|start| start.checked_add(grains));
                let far = || Error::corrupt(at.clone()).because(format!("names grain {number:#x}"));
                Ok(Grain::At(start.ok_or_else(far)?))
            }
            _ => Err(Error::corrupt(at.clone()).because(format!("{raw:#018x} is no entry of seSparse"))),
        }
    }

    /// The run that starts at byte `offset` of the extent.
    pub(super) fn run_at(&self, offset: u64) -> Result<Run> {
        let (number, skip) = (offset / self.grain, offset % self.grain);
        let (table, index) = (number / ENTRIES, number % ENTRIES);
        let left = ENTRIES.saturating_sub(index);
        let bytes = |grains: u64| grains.saturating_mul(self.grain.get()).saturating_sub(skip);
        let at = At::new("vmdk", "grain directory").index(table);
        if table >= self.directory.1 {
            return Err(Error::corrupt(at).because("lies past the directory's end"));
        }
        let entry_at = self.directory.0.saturating_add(table.saturating_mul(self.width()));
        let window = self.pages.window(entry_at, &at)?;
        let mut directory = self.entries(&window).take(narrow(self.directory.1.saturating_sub(table)));
        let first = directory.next().unwrap_or(0);
        let Some(table_at) = self.table(first, &at.byte(entry_at))? else {
            let more = count(directory.take_while(|raw| *raw == 0).count()).saturating_mul(ENTRIES);
            return Ok(Run { len: bytes(left.saturating_add(more)), place: Place::Hole });
        };
        let at = At::new("vmdk", "grain table").index(table);
        let entry_at = table_at.saturating_add(index.saturating_mul(self.width()));
        let window = self.pages.window(entry_at, &at)?;
        let at = at.byte(entry_at);
        let mut entries = self.entries(&window).take(narrow(left));
        let Some(first) = entries.next() else {
            return Err(Error::corrupt(at).because("the file ends within it"));
        };
        let first = self.decode(first, &at)?;
        let mut next = first;
        let following = entries.take_while(|raw| {
            if let Grain::At(start) = &mut next {
                *start = start.saturating_add(self.grain.get());
            }
            self.decode(*raw, &at).is_ok_and(|grain| grain == next)
        });
        let len = bytes(count(following.count()).saturating_add(1));
        Ok(match first {
            Grain::Unallocated => Run { len, place: Place::Hole },
            Grain::Zero => Run { len, place: Place::Zero },
            Grain::At(start) => {
                let host = start.saturating_add(skip);
                let len = held(len, host, self.pages.file_len(), &at)?;
                Run { len, place: Place::Stored { file: self.file, offset: host } }
            }
        })
    }
}

/// The n-th file of a disk keeps the n-th part, so that thousands of extents keep little more than a few.
fn pages(source: Arc<dyn BlockSource>, file: usize) -> Pages {
    let kept = TABLE_PAGES.checked_div(file.saturating_add(1)).unwrap_or(0);
    Pages::with(source, TABLE_PAGE, kept)
}
