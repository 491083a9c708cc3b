//! The GUID partition table: UEFI specification 2.10, section 5.3. A header with its own checksum at the second
//! sector, an array of entries with theirs, and a copy of both at the disk's end.
//!
//! ```text
//! LBA 0 protective MBR │ LBA 1 header │ LBA 2.. entries │ partitions … │ copy of the entries │ last LBA: copy of the header
//! ```
//! The sector size is not written anywhere: the header is looked for at byte 512 and at byte 4096.

use super::mbr::{Front, boot_code, front};
use super::{Assembly, Makes, Manager, Partition, Table, TableKind, VolCx, Volume, carve};
use crate::block::{BlockSource, Probe};
use crate::checksum::crc32;
use crate::error::{At, Error, Result};
use crate::num::narrow;
use crate::ondisk::{guid, parse_struct, read_table, utf16};
use crate::text::Text;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The manager.
pub const MANAGER: Manager =
    Manager { name: "gpt", nests: false, claims, seeks: None, makes: Makes::OfOne(assemble) };

const MAGIC: &[u8; 8] = b"EFI PART";
/// Sector sizes that disks have.
const SECTOR_SIZES: [u32; 2] = [512, 4096];
/// Entries in a table. The specification has no bound, partitioning tools write 128; 16,384 is a hundred times that.
const MAX_ENTRIES: u32 = 16_384;
/// Partitions that are shown, as the kernel does (`DISK_MAX_PARTS`).
const MAX_PARTITIONS: usize = 256;
/// Bytes in an entry: 128 by the specification, or that times a power of two.
const ENTRY_SIZES: std::ops::RangeInclusive<u32> = 128..=4096;
/// The most bytes an array of entries may have, from the two bounds above.
const MAX_TABLE: u64 = 16_384 * 4096;
/// Attribute bit 2: legacy BIOS bootable (section 5.3.3, table 5-8).
const LEGACY_BOOTABLE: u64 = 1 << 2;
/// Attribute bit 63 of the types that systemd mounts by: not to be mounted unasked.
const NO_AUTO: u64 = 1 << 63;

/// The header, table 5-5.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug)]
#[repr(C)]
struct Header {
    magic: [u8; 8],     // 0x00 "EFI PART"
    revision: U32,      // 0x08 0x00010000
    size: U32,          // 0x0c bytes of the header that its checksum covers, 92 to the sector size
    crc: U32,           // 0x10 CRC-32 of the header with this field zero
    reserved: U32,      // 0x14
    my_lba: U64,        // 0x18 where this header is
    alternate_lba: U64, // 0x20 where the other is
    first_usable: U64,  // 0x28 LBA
    last_usable: U64,   // 0x30 LBA, inclusive
    disk: [u8; 16],     // 0x38 disk GUID
    entries_lba: U64,   // 0x48 where the entries start
    entries: U32,       // 0x50 how many
    entry_size: U32,    // 0x54 bytes
    entries_crc: U32,   // 0x58 CRC-32 of all entries
}
const _: () = assert!(size_of::<Header>() == 92);

/// An entry, table 5-7.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug)]
#[repr(C)]
struct Entry {
    kind: [u8; 16],  // 0x00 type GUID; zero = unused
    id: [u8; 16],    // 0x10 the partition's own GUID
    first: U64,      // 0x20 LBA
    last: U64,       // 0x28 LBA, inclusive
    attributes: U64, // 0x30
    name: [u8; 72],  // 0x38 UTF-16LE
}
const _: () = assert!(size_of::<Entry>() == 128);

/// A header and its entries, both with the right checksum.
#[derive(Debug)]
struct Gpt {
    sector: u32,
    header: Header,
    entries: Vec<u8>,
}

fn claims(probe: &Probe<'_>) -> bool {
    match front(probe.head) {
        Front::Protective { .. } => true,
        Front::Empty => SECTOR_SIZES.iter().any(|sector| probe.has(narrow(u64::from(*sector)), MAGIC)),
        Front::Other => false,
    }
}

/// Does a GPT header stand where one would be looked for?
pub(super) fn has_header(source: &dyn BlockSource) -> Result<bool> {
    for sector in SECTOR_SIZES.map(u64::from) {
        let mut magic = [0; 8];
        if sector.saturating_add(8) <= source.len() {
            source.read_at(&mut magic, sector)?;
        }
        if magic == *MAGIC {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Header {
    /// Takes a header from its sector.
    ///
    /// # Errors
    /// `Corrupt` for a wrong magic, size or checksum, or when it says that it belongs elsewhere.
    fn parse(sector: &[u8], lba: u64, at: &At) -> Result<Self> {
        let bad = |why: String| Err(Error::corrupt(at.clone()).because(why));
        let header: Self = parse_struct(sector, at.clone())?;
        if header.magic != *MAGIC {
            return bad("no signature 'EFI PART'".to_owned());
        }
        let size = header.size.get();
        let Some(covered) = sector.get(..narrow(u64::from(size))).filter(|_| size >= 92) else {
            return bad(format!("a header of {size} bytes"));
        };
        let mut covered = covered.to_vec();
        if let Some(field) = covered.get_mut(0x10..0x14) {
            field.fill(0);
        }
        let (stored, computed) = (header.crc.get(), crc32(&covered));
        if stored != computed {
            return bad(format!("its checksum is {computed:#010x}, it says {stored:#010x}"));
        }
        if header.my_lba.get() != lba {
            return bad(format!("says that it belongs to sector {}, not {lba}", header.my_lba.get()));
        }
        let (entries, size) = (header.entries.get(), header.entry_size.get());
        if entries > MAX_ENTRIES || !ENTRY_SIZES.contains(&size) {
            let error = Error::limit(format!(
                "{entries} entries of {size} bytes; up to {MAX_ENTRIES} of 128 to 4096 bytes are accepted"
            ));
            return Err(error.at(at.clone()));
        }
        Ok(header)
    }
}

impl Gpt {
    /// Reads the header at `lba` and its entries.
    fn load(source: &dyn BlockSource, sector: u32, lba: u64, cx: &VolCx<'_>) -> Result<Self> {
        let bytes = |lba: u64| lba.saturating_mul(u64::from(sector));
        let at = At::new("gpt", "header").byte(bytes(lba));
        let head = read_table(source, bytes(lba), u64::from(sector), 4096, at.clone(), cx.budget)?;
        let header = Header::parse(&head, lba, &at)?;
        let at = At::new("gpt", "entries").byte(bytes(header.entries_lba.get()));
        let len = u64::from(header.entries.get()).saturating_mul(u64::from(header.entry_size.get()));
        let start = bytes(header.entries_lba.get());
        let entries = read_table(source, start, len, MAX_TABLE, at.clone(), cx.budget)?;
        let (stored, computed) = (header.entries_crc.get(), crc32(&entries));
        if stored != computed {
            return Err(Error::corrupt(at)
                .because(format!("their checksum is {computed:#010x}, the header says {stored:#010x}")));
        }
        Ok(Self { sector, header, entries })
    }

    /// The table of a disk: the first copy that is whole, and what is to be said about the other.
    fn find(source: &dyn BlockSource, cx: &VolCx<'_>, warnings: &mut Vec<String>) -> Result<Self> {
        let mut first_error: Option<Error> = None;
        for sector in SECTOR_SIZES {
            match Self::load(source, sector, 1, cx) {
                Ok(gpt) => {
                    gpt.check_backup(source, cx, warnings);
                    return Ok(gpt);
                }
                Err(error) => {
                    // The one at the place where a header was found says more than "no signature" at the other.
                    let found = has_magic(source, u64::from(sector));
                    if first_error.is_none() || found {
                        first_error = Some(error);
                    }
                }
            }
        }
        let why = first_error.map_or_else(String::new, |error| error.chain());
        for sector in SECTOR_SIZES {
            let last = source.len().checked_div(u64::from(sector)).and_then(|sectors| sectors.checked_sub(1));
            if let Some(Ok(gpt)) = last.map(|lba| Self::load(source, sector, lba, cx)) {
                warnings.push(format!(
                    "the first GPT is damaged ({why}); its copy at the end of the disk is used"
                ));
                return Ok(gpt);
            }
        }
        Err(Error::corrupt(At::new("gpt", "protective MBR"))
            .because(format!("neither the GPT nor its copy at the end of the disk can be read ({why})")))
    }

    fn check_backup(&self, source: &dyn BlockSource, cx: &VolCx<'_>, warnings: &mut Vec<String>) {
        let alternate = self.header.alternate_lba.get();
        let sectors = alternate.saturating_add(1);
        if sectors.saturating_mul(u64::from(self.sector)) > source.len() {
            warnings.push(format!(
                "the GPT is of a disk of {} bytes, this one has {}: its end is missing",
                sectors.saturating_mul(u64::from(self.sector)),
                source.len()
            ));
        } else if let Err(error) = Self::load(source, self.sector, alternate, cx) {
            warnings
                .push(format!("the copy of the GPT at the end of the disk is damaged: {}", error.chain()));
        }
    }

    fn partitions(&self, disk: &Volume, made: &mut Assembly) {
        let sector = u64::from(self.sector);
        let size = narrow(u64::from(self.header.entry_size.get())).max(128);
        for (number, bytes) in (1_u32..).zip(self.entries.chunks_exact(size)) {
            let Ok(entry) = parse_struct::<Entry>(bytes, At::new("gpt", "entry")) else { continue };
            if entry.kind == [0; 16] {
                continue;
            }
            if made.volumes.len() >= MAX_PARTITIONS {
                made.warnings.push(format!(
                    "{}: more than {MAX_PARTITIONS} partitions; the rest is not shown",
                    disk.id
                ));
                break;
            }
            let (first, last) = (entry.first.get(), entry.last.get());
            let range = last.checked_sub(first).and_then(|more| more.checked_add(1));
            let bytes =
                range.and_then(|count| Some((first.checked_mul(sector)?, count.checked_mul(sector)?)));
            let Some((start, size)) = bytes else {
                made.warnings.push(format!(
                    "{}: partition {number} goes from sector {first} to {last}; it is left out",
                    disk.id
                ));
                continue;
            };
            let type_code = guid(&entry.kind);
            let partition = Partition {
                number,
                start,
                size,
                type_name: type_name(&type_code),
                type_code,
                name: Text::from(utf16(&entry.name, false).as_str()),
                bootable: entry.attributes.get() & LEGACY_BOOTABLE != 0,
                no_auto: entry.attributes.get() & NO_AUTO != 0,
                uuid: Some(guid(&entry.id)),
            };
            carve(disk, partition, made);
        }
    }
}

fn has_magic(source: &dyn BlockSource, at: u64) -> bool {
    let mut magic = [0; 8];
    source.read_at(&mut magic, at).is_ok() && magic == *MAGIC
}

fn assemble(disk: &Volume, cx: &VolCx<'_>) -> Result<Assembly> {
    let mut made = Assembly::default();
    let mut head = vec![0; narrow(disk.source.len().min(512))];
    disk.source.read_at(&mut head, 0)?;
    let mut warnings = Vec::new();
    let gpt = Gpt::find(&*disk.source, cx, &mut warnings)?;
    if front(&head) == Front::Empty {
        warnings.push("the GPT has no protective MBR: the Linux kernel would see no partitions".to_owned());
    }
    made.warnings.extend(warnings.into_iter().map(|warning| format!("{}: {warning}", disk.id)));
    gpt.partitions(disk, &mut made);
    made.table = Some(Table {
        kind: TableKind::Gpt,
        sector_size: gpt.sector,
        id: guid(&gpt.header.disk),
        hybrid: front(&head) == (Front::Protective { hybrid: true }),
        boot_code: boot_code(head.get(..440).unwrap_or_default()),
    });
    Ok(made)
}

/// Names of type GUIDs: UEFI 2.10 table 5-8, Microsoft's `PARTITION_INFORMATION_GPT`, and the UAPI Group's
/// "Discoverable Partitions Specification".
const TYPES: &[(&str, &str)] = &[
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system"),
    ("21686148-6449-6e6f-744e-656564454649", "BIOS boot"),
    ("024dee41-33e7-11d3-9d69-0008c781f39f", "MBR partition scheme"),
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux file system"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"),
    ("a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID"),
    ("ca7d7ccb-63ed-4c53-861c-1742536059cc", "Linux LUKS"),
    ("8da63339-0007-60c0-c436-083ac8230908", "Linux reserved"),
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root (x86-64)"),
    ("44479540-f297-41b2-9af7-d131d5f0458a", "Linux root (x86)"),
    ("b921b045-1df0-41c3-af44-4c6f280d3fae", "Linux root (ARM64)"),
    ("69dad710-2ce4-4e3c-b16c-21a1d49abed3", "Linux root (ARM)"),
    ("72ec70a6-cf74-40e6-bd49-4bda08e8f224", "Linux root (RISC-V 64)"),
    ("77055800-792c-4f94-b39a-98c91b762bb6", "Linux root (LoongArch 64)"),
    ("8484680c-9521-48c6-9c11-b0720656f69e", "Linux /usr (x86-64)"),
    ("b0e01050-ee5f-4390-949a-9101b17104e9", "Linux /usr (ARM64)"),
    ("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "Linux root verity (x86-64)"),
    ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux /home"),
    ("3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "Linux /srv"),
    ("4d21b016-b534-45c2-a9fb-5c16e091fd2d", "Linux /var"),
    ("7ec6f557-3bc5-4aca-b293-16ef5df639d1", "Linux /var/tmp"),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "Linux extended boot"),
    ("e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved"),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data"),
    ("de94bba4-06d1-4d40-a16a-bfd50179d6ac", "Windows recovery"),
    ("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "Windows LDM metadata"),
    ("af9b60a0-1431-4f62-bc68-3311714a69ad", "Windows LDM data"),
    ("e75caf8f-f680-4cee-afa3-b001e56efc2d", "Windows Storage Spaces"),
    ("e7addcb4-dc34-4539-9a76-ebbd07be6f7e", "Windows Storage Spaces"),
    ("558d43c5-a1ac-43c0-aac8-d1472b2923d1", "Windows Storage Replica"),
    ("db97dba9-0840-4bae-97f0-ffb9a327c7e1", "Windows cluster metadata"),
    ("cadebbf1-4400-4de8-b103-12117dcf3ccf", "Microsoft shadow copy"),
    ("9e1a2d38-c612-4316-aa26-8b49521e5a8b", "PReP boot"),
    ("48465300-0000-11aa-aa11-00306543ecac", "Apple HFS+"),
    ("7c3457ef-0000-11aa-aa11-00306543ecac", "Apple APFS"),
    ("83bd6b9d-7f41-11dc-be0b-001560b84f0f", "FreeBSD boot"),
    ("516e7cb4-6ecf-11d6-8ff8-00022d09712b", "FreeBSD"),
    ("516e7cb5-6ecf-11d6-8ff8-00022d09712b", "FreeBSD swap"),
    ("516e7cb6-6ecf-11d6-8ff8-00022d09712b", "FreeBSD UFS"),
    ("516e7cba-6ecf-11d6-8ff8-00022d09712b", "FreeBSD ZFS"),
    ("aa31e02a-400f-11db-9590-000c2911d1b8", "VMware VMFS"),
    ("9d275380-40ad-11db-bf97-000c2911d1b8", "VMware core dump"),
    ("fe3a2a5d-4f32-41a7-b725-accc3285a309", "ChromeOS kernel"),
    ("3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec", "ChromeOS root"),
    ("2e0a753d-9e48-43b0-8337-b15192cb1b5e", "ChromeOS reserved"),
];

fn type_name(guid: &str) -> &'static str {
    TYPES.iter().find(|(code, _)| *code == guid).map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value that the CRC catalogue gives for "123456789".
    #[test]
    fn crc32_matches_its_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn type_guids_are_lower_case_and_unique() {
        let mut seen = std::collections::HashSet::new();
        for (guid, _) in TYPES {
            assert_eq!(guid.len(), 36, "{guid}");
            assert!(seen.insert(guid) && guid.chars().all(|c| !c.is_ascii_uppercase()), "{guid}");
        }
    }

    #[test]
    fn a_header_of_two_to_the_32_entries_is_refused() {
        let mut sector = vec![0; 512];
        sector[..8].copy_from_slice(MAGIC);
        sector[0x0c] = 92;
        sector[0x18] = 1;
        sector[0x50..0x54].fill(0xff);
        sector[0x54] = 128;
        let crc = crc32(&sector[..92]);
        sector[0x10..0x14].copy_from_slice(&crc.to_le_bytes());
        let error = Header::parse(&sector, 1, &At::new("gpt", "header")).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Limit);
    }

    #[test]
    fn a_header_with_a_wrong_checksum_is_corrupt() {
        let mut sector = vec![0; 512];
        sector[..8].copy_from_slice(MAGIC);
        sector[0x0c] = 92;
        let error = Header::parse(&sector, 1, &At::new("gpt", "header")).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Corrupt);
    }
}
