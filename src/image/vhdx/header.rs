//! The structures in the first mebibyte: headers, region tables; and the metadata that describe the disk.
//!
//! ```text
//!   0 KiB file type identifier    64 KiB header 1     128 KiB header 2
//! 192 KiB region table 1         256 KiB region table 2
//! ```
//! Specification: \[MS-VHDX\] "Virtual Hard Disk v2 (VHDX) File Format", sections 2.2 to 2.6.

use crate::block::BlockSource;
use crate::budget::Budget;
use crate::checksum::crc32c;
use crate::error::{At, Error, Result};
use crate::ondisk::{get_le16, get_le32, get_le64, guid, parse_struct, read_table};
use std::collections::HashMap;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
const TABLE: u64 = 64 << 10;
/// Entries of a region table or metadata table, sections 2.2.3.1 and 2.6.1.1.
const MAX_ENTRIES: u32 = 2047;

const BAT: &str = "2dc27766-f623-4200-9d64-115e9bfd4a08";
const METADATA: &str = "8b7ca206-4790-4b9a-b8fe-575f050f886e";
const FILE_PARAMETERS: &str = "caa16737-fa36-4d43-b3b6-33f0aa44e76b";
const DISK_SIZE: &str = "2fa54224-cd1b-4876-b211-5dbed83bf4b8";
const DISK_ID: &str = "beca12ab-b2e6-4523-93ef-c309e000c746";
const LOGICAL_SECTOR: &str = "8141bf1d-a96f-4709-ba47-f233a8faab5f";
const PHYSICAL_SECTOR: &str = "cda348c7-445d-4471-9cc9-e9885251c556";
const PARENT_LOCATOR: &str = "a8d35f2d-b30b-454d-abf7-d3d84834ab0c";

/// A header, section 2.2.2.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone)]
#[repr(C)]
pub(super) struct Header {
    signature: [u8; 4],                   // 0x00 "head"
    checksum: U32,                        // 0x04 CRC-32C of 4096 bytes with this field zero
    sequence: U64,                        // 0x08 the greater of two counts
    file_write_guid: [u8; 16],            // 0x10
    pub(super) data_write_guid: [u8; 16], // 0x20 what a child remembers of its parent
    pub(super) log_guid: [u8; 16],        // 0x30 zero: nothing to replay
    log_version: U16,                     // 0x40 0
    version: U16,                         // 0x42 1
    pub(super) log_length: U32,           // 0x44 bytes, multiple of 1 MiB
    pub(super) log_offset: U64,           // 0x48 bytes, multiple of 1 MiB
}
const _: () = assert!(size_of::<Header>() == 0x50);

/// Is the CRC-32C at bytes 4..8 of `bytes` right?
pub(super) fn sums_up(bytes: &[u8]) -> bool {
    match (bytes.get(..4), get_le32(bytes, 4), bytes.get(8..)) {
        (Some(before), Some(stored), Some(after)) => crc32c(&[before, &[0; 4], after]) == stored,
        _ => false,
    }
}

impl Header {
    /// The current header: of the sound ones that with the greater sequence number.
    ///
    /// # Errors
    /// `Corrupt` when neither is sound; `Unsupported` for another version.
    pub(super) fn load(source: &dyn BlockSource, budget: &Budget) -> Result<Self> {
        let at = || At::new("vhdx", "header");
        let mut current: Option<Self> = None;
        for offset in HEADERS {
            let Ok(bytes) = read_table(source, offset, 4096, 4096, at(), budget) else { continue };
            let header: Self = parse_struct(&bytes, at())?;
            let newer = current.as_ref().is_none_or(|other| header.sequence.get() > other.sequence.get());
            if &header.signature == b"head" && sums_up(&bytes) && newer {
                current = Some(header);
            }
        }
        let header = current.ok_or_else(|| {
            Error::corrupt(at().byte(64 << 10)).because("neither header has the right checksum")
        })?;
        match (header.version.get(), header.log_version.get()) {
            (1, 0) => Ok(header),
            (version, log) => {
                Err(Error::unsupported(format!("version {version}, log version {log} of VHDX")).at(at()))
            }
        }
    }
}

/// A stretch of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The two regions that every file has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regions {
    pub(super) bat: Region,
    pub(super) metadata: Region,
}

impl Regions {
    /// The regions by the first sound table.
    ///
    /// # Errors
    /// `Corrupt` when neither table is sound or one of the two is missing; `Unsupported` for an unknown required region.
    pub(super) fn load(source: &dyn BlockSource, budget: &Budget) -> Result<Self> {
        let at = || At::new("vhdx", "region table");
        for offset in REGION_TABLES {
            let Ok(bytes) = read_table(source, offset, TABLE, TABLE, at(), budget) else { continue };
            if bytes.starts_with(b"regi") && sums_up(&bytes) {
                return Self::parse(&bytes);
            }
        }
        Err(Error::corrupt(at().byte(192 << 10)).because("neither copy has the right checksum"))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let at = At::new("vhdx", "region table");
        let mut found = HashMap::new();
        for entry in entries(bytes, 16, get_le32(bytes, 8), &at)? {
            let id = entry.first_chunk().map(guid).unwrap_or_default();
            let region = Region {
                offset: get_le64(entry, 16).unwrap_or(0),
                length: get_le32(entry, 24).unwrap_or(0).into(),
            };
            let required = get_le32(entry, 28).is_some_and(|flags| flags & 1 == 1);
            if required && id != BAT && id != METADATA {
                return Err(Error::unsupported(format!("the required region {id}")).at(at.clone()));
            }
            found.insert(id, region);
        }
        let get = |id: &str, name: &str| {
            found
                .get(id)
                .copied()
                .ok_or_else(|| Error::corrupt(at.clone()).because(format!("no {name} region")))
        };
        Ok(Self { bat: get(BAT, "BAT")?, metadata: get(METADATA, "metadata")? })
    }
}

/// The 32-byte entries of a table whose first stands at `from`.
fn entries<'a>(
    bytes: &'a [u8],
    from: usize,
    count: Option<u32>,
    at: &At,
) -> Result<impl Iterator<Item = &'a [u8]>> {
    let count = count.unwrap_or(0);
    if count > MAX_ENTRIES {
        return Err(Error::corrupt(at.clone())
            .because(format!("{count} entries, at most {MAX_ENTRIES} are possible")));
    }
    let count = usize::try_from(count).unwrap_or(0);
    Ok(bytes.get(from..).unwrap_or_default().chunks_exact(32).take(count))
}

/// What the metadata say of the disk.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    pub(super) block_size: u32,
    pub(super) is_fixed: bool,
    pub(super) has_parent: bool,
    pub(super) size: u64,
    pub(super) sector: u32,
    pub(super) physical_sector: u32,
    pub(super) id: String,
    /// Keys and values of the parent locator.
    pub(super) parent: Vec<(String, String)>,
}

impl Metadata {
    /// Reads the metadata region.
    ///
    /// # Errors
    /// `Corrupt` for values that the specification excludes; `Unsupported` for an unknown required item.
    pub(super) fn load(source: &dyn BlockSource, region: Region, budget: &Budget) -> Result<Self> {
        let at = || At::new("vhdx", "metadata");
        let table = read_table(source, region.offset, TABLE, TABLE, at(), budget)?;
        if !table.starts_with(b"metadata") {
            return Err(
                Error::corrupt(at().byte(region.offset)).because("the signature 'metadata' is missing")
            );
        }
        let mut items = HashMap::new();
        for entry in entries(&table, 32, get_le16(&table, 10).map(u32::from), &at())? {
            let id = entry.first_chunk().map(guid).unwrap_or_default();
            let (offset, length) = (get_le32(entry, 16).unwrap_or(0), get_le32(entry, 20).unwrap_or(0));
            let flags = get_le32(entry, 24).unwrap_or(0);
            let known =
                [FILE_PARAMETERS, DISK_SIZE, DISK_ID, LOGICAL_SECTOR, PHYSICAL_SECTOR, PARENT_LOCATOR]
                    .contains(&id.as_str());
            if !known && flags & 4 != 0 {
                return Err(Error::unsupported(format!("the required metadata item {id}")).at(at()));
            }
            if known && length > 0 {
                let start = region.offset.saturating_add(offset.into());
                items.insert(id, read_table(source, start, length.into(), 1 << 20, at(), budget)?);
            }
        }
        let item = |id: &str, name: &str| {
            items
                .get(id)
                .map(Vec::as_slice)
                .ok_or_else(|| Error::corrupt(at()).because(format!("no item '{name}'")))
        };
        let short = || Error::corrupt(at()).because("an item is too short");
        let parameters = item(FILE_PARAMETERS, "file parameters")?;
        let flags = get_le32(parameters, 4).ok_or_else(short)?;
        let metadata = Self {
            block_size: get_le32(parameters, 0).ok_or_else(short)?,
            is_fixed: flags & 1 != 0,
            has_parent: flags & 2 != 0,
            size: get_le64(item(DISK_SIZE, "virtual disk size")?, 0).ok_or_else(short)?,
            sector: get_le32(item(LOGICAL_SECTOR, "logical sector size")?, 0).ok_or_else(short)?,
            physical_sector: items.get(PHYSICAL_SECTOR).and_then(|bytes| get_le32(bytes, 0)).unwrap_or(512),
            id: items.get(DISK_ID).and_then(|bytes| bytes.first_chunk()).map(guid).unwrap_or_default(),
            parent: items
                .get(PARENT_LOCATOR)
                .map(|bytes| parent_locator(bytes))
                .transpose()?
                .unwrap_or_default(),
        };
        metadata.check()?;
        Ok(metadata)
    }

    /// Section 2.6.2: a block is a power of two from 1 to 256 MiB, a sector 512 or 4096 bytes, a disk at most 64 TiB.
    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::corrupt(At::new("vhdx", "metadata")).because(what));
        if !self.block_size.is_power_of_two() || !(1 << 20..=256 << 20).contains(&self.block_size) {
            return wrong(format!("a block size of {} bytes", self.block_size));
        }
        if !matches!(self.sector, 512 | 4096) {
            return wrong(format!("a logical sector size of {} bytes", self.sector));
        }
        if self.size > 64 << 40 || !self.size.is_multiple_of(self.sector.into()) {
            return wrong(format!("a virtual disk size of {} bytes", self.size));
        }
        Ok(())
    }
}

/// Keys and values of a parent locator, section 2.6.2.6.
fn parent_locator(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    const VHDX_PARENT: &str = "b04aefb7-d19e-4a81-b789-25b8e9445913";
    let at = At::new("vhdx", "parent locator");
    let kind = bytes.first_chunk().map(guid).unwrap_or_default();
    if kind != VHDX_PARENT {
        return Err(Error::unsupported(format!("the parent locator type {kind}")).at(at));
    }
    let count = usize::from(get_le16(bytes, 18).unwrap_or(0));
    let text = |offset: Option<u32>, length: Option<u16>| {
        let start = usize::try_from(offset?).ok()?;
        let part = bytes.get(start..)?.get(..usize::from(length?))?;
        Some(crate::ondisk::utf16(part, false))
    };
    let table = bytes.get(20..).unwrap_or_default().chunks_exact(12).take(count);
    let pairs = table.map(|entry| {
        let key = text(get_le32(entry, 0), get_le16(entry, 8));
        let value = text(get_le32(entry, 4), get_le16(entry, 10));
        key.zip(value).ok_or_else(|| Error::corrupt(at.clone()).because("an entry points past its end"))
    });
    pairs.collect()
}
