//! The master boot record: four partitions in the first sector, and chains of extended boot records (EBR) for more.
//!
//! There is no one specification; what counts is what the Linux kernel makes of it (`block/partitions/msdos.c`, 6.18),
//! so partitions, their numbers and their ends are those a kernel would show for the same disk.
//!
//! ```text
//! sector 0   boot code 440 │ disk signature 4 │ 0 0 │ entry 1..4, 16 bytes each │ 55 AA
//! EBR        same shape: entry 1 = a logical partition (start counts from this EBR),
//!            entry 2 = the next EBR (start counts from the extended partition)
//! ```

use super::{Assembly, Makes, Manager, Partition, Table, TableKind, VolCx, Volume, carve};
use crate::block::Probe;
use crate::error::{At, Result};
use crate::ondisk::{parse_struct, read_struct};
use crate::text::Text;
use std::collections::HashSet;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The manager.
pub const MANAGER: Manager =
    Manager { name: "mbr", nests: false, claims, seeks: None, makes: Makes::OfOne(assemble) };

/// An MBR counts in sectors of 512 bytes: the image does not say what the disk it came from had.
const SECTOR: u64 = 512;
/// Numbers end at 255, as in the kernel (`DISK_MAX_PARTS`).
pub(super) const MAX_NUMBER: u32 = 255;
/// Links followed without finding a partition, as in the kernel.
const MAX_EMPTY_LINKS: u32 = 100;
/// The entry of a protective MBR, UEFI specification 2.10, table 5-4.
const PROTECTIVE: u8 = 0xee;

/// A partition entry of an MBR or EBR.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Entry {
    status: u8,         // 0x0 0x80 = active, 0x00 = not; anything else is no partition table
    first_chs: [u8; 3], // 0x1 not used
    kind: u8,           // 0x4 type; 0 = unused
    last_chs: [u8; 3],  // 0x5 not used
    start: U32,         // 0x8 sectors
    sectors: U32,       // 0xc sectors; 0 = unused
}
const _: () = assert!(size_of::<Entry>() == 16);

/// The first sector of a disk, or an EBR.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct BootRecord {
    code: [u8; 440],     // 0x000
    signature: U32,      // 0x1b8 disk signature ("NT signature"), first half of PARTUUID
    reserved: U16,       // 0x1bc 0x5a5a = copy-protected
    entries: [Entry; 4], // 0x1be
    magic: [u8; 2],      // 0x1fe 55 AA
}
const _: () = assert!(size_of::<BootRecord>() == 512);

impl Entry {
    const fn is_used(&self) -> bool {
        self.sectors.get() != 0
    }

    const fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn start(&self) -> u64 {
        u64::from(self.start.get()).saturating_mul(SECTOR)
    }

    fn size(&self) -> u64 {
        u64::from(self.sectors.get()).saturating_mul(SECTOR)
    }
}

impl BootRecord {
    fn parse(head: &[u8]) -> Option<Self> {
        let record: Self = parse_struct(head, At::new("mbr", "boot record")).ok()?;
        (record.magic == [0x55, 0xaa]).then_some(record)
    }

    /// Could the sixteen bytes at each entry be entries at all?
    fn has_entries(&self) -> bool {
        self.entries.iter().all(|entry| matches!(entry.status, 0x00 | 0x80))
    }

    fn is_empty(&self) -> bool {
        !self.entries.iter().any(Entry::is_used)
    }

    fn is_protective(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind == PROTECTIVE)
    }

    /// Entries that a boot sector could hardly have by chance: inside the disk, behind the first sector, apart.
    fn is_sane(&self, disk: u64) -> bool {
        let mut used: Vec<(u64, u64)> = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.is_used()) {
            let (start, end) = (entry.start(), entry.start().saturating_add(entry.size()));
            let apart = used.iter().all(|(from, to)| end <= *from || start >= *to);
            if entry.kind == 0 || start == 0 || end > disk || !apart {
                return false;
            }
            used.push((start, end));
        }
        !used.is_empty()
    }
}

/// What the first sector of a disk says about GPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// A protective MBR; `hybrid` if it has other partitions too.
    Protective {
        /// It has entries other than 0xEE.
        hybrid: bool,
    },
    /// No partition in it, nor a file system's boot sector.
    Empty,
    /// An MBR in its own right, or a boot sector.
    Other,
}

/// Looks at the first sector for [`super::gpt`].
pub(super) fn front(head: &[u8]) -> Front {
    let Some(record) = BootRecord::parse(head) else {
        return if is_boot_sector(head) { Front::Other } else { Front::Empty };
    };
    if record.is_protective() {
        let hybrid = record.entries.iter().any(|entry| entry.kind != PROTECTIVE && entry.kind != 0);
        return Front::Protective { hybrid };
    }
    if record.is_empty() && !is_boot_sector(head) { Front::Empty } else { Front::Other }
}

/// Is this the boot sector of a FAT, NTFS, exFAT or BitLocker volume? It ends in 55 AA just like an MBR.
fn is_boot_sector(head: &[u8]) -> bool {
    let has = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let byte = |at: usize| head.get(at).copied().unwrap_or(0);
    let word = |at: usize| u16::from_le_bytes([byte(at), byte(at.saturating_add(1))]);
    let jumps = matches!((byte(0), byte(2)), (0xeb, 0x90)) || byte(0) == 0xe9;
    let named = has(3, b"NTFS    ") || has(3, b"EXFAT   ") || has(3, b"-FVE-FS-");
    // BIOS parameter block, "FAT: General Overview of On-Disk Format" 1.03, page 9.
    let (sector, cluster, reserved, fats, media) = (word(11), byte(13), word(14), byte(16), byte(21));
    let parameters = matches!(sector, 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && reserved != 0
        && matches!(fats, 1 | 2)
        && (media == 0xf0 || media >= 0xf8);
    jumps && (named || parameters)
}

/// Is this a disk with partitions, by entries that nothing else would have?
pub(super) fn has_partitions(probe: &Probe<'_>) -> bool {
    let record = BootRecord::parse(probe.head);
    record.is_some_and(|record| record.has_entries() && record.is_sane(probe.len))
}

fn claims(probe: &Probe<'_>) -> bool {
    let Some(record) = BootRecord::parse(probe.head) else { return false };
    if record.is_protective() || !record.has_entries() {
        return false;
    }
    if is_boot_sector(probe.head) {
        return record.is_sane(probe.len);
    }
    // A freshly labelled disk has no partition yet, but a signature; a bare ext file system may carry 55 AA and neither.
    let is_ext = probe.has(1024 + 0x38, &[0x53, 0xef]);
    !record.is_empty() || (record.signature.get() != 0 && !is_ext)
}

fn assemble(disk: &Volume, cx: &VolCx<'_>) -> Result<Assembly> {
    let mut made = Assembly::default();
    let record: BootRecord = read_struct(&*disk.source, 0, At::new("mbr", "boot record"))?;
    let mut reader = Reader { disk, signature: record.signature.get(), cx, made: &mut made };
    for (number, entry) in (1..).zip(&record.entries).filter(|(_, entry)| entry.is_used()) {
        if !entry.is_extended() {
            reader.add(number, entry, entry.start());
        }
    }
    let mut next = 5;
    for entry in record.entries.iter().filter(|entry| entry.is_used() && entry.is_extended()) {
        reader.chain(entry, &mut next)?;
    }
    // Slices inside primary partitions take the numbers behind the logical ones, as the kernel gives them.
    for (number, entry) in (1..).zip(&record.entries).filter(|(_, entry)| entry.is_used()) {
        if super::slices::inside(disk, entry.kind, entry.start(), entry.size(), &mut next, &mut made)? {
            let is_outer =
                |volume: &&mut Volume| volume.partition.as_ref().is_some_and(|part| part.number == number);
            if let Some(outer) = made.volumes.iter_mut().find(is_outer) {
                outer.claimed_by = Some("slices");
            }
        }
    }
    if super::gpt::has_header(&*disk.source)? {
        made.warnings.push(format!(
            "{}: a GPT stands behind this MBR, but the MBR has no entry 0xEE for it: the MBR counts",
            disk.id
        ));
    }
    made.table = Some(Table {
        kind: TableKind::Mbr,
        sector_size: 512,
        id: format!("{:08x}", record.signature.get()),
        hybrid: false,
        boot_code: boot_code(&record.code),
    });
    Ok(made)
}

/// Reads one disk's chain.
struct Reader<'a> {
    disk: &'a Volume,
    signature: u32,
    cx: &'a VolCx<'a>,
    made: &'a mut Assembly,
}

impl Reader<'_> {
    fn add(&mut self, number: u32, entry: &Entry, start: u64) {
        let partition = Partition {
            number,
            start,
            size: entry.size(),
            type_code: format!("0x{:02x}", entry.kind),
            type_name: type_name(entry.kind),
            name: Text::default(),
            bootable: entry.status == 0x80,
            no_auto: false,
            uuid: Some(format!("{:08x}-{number:02x}", self.signature)),
        };
        carve(self.disk, partition, self.made);
    }

    fn warn(&mut self, what: &str) {
        self.made.warnings.push(format!("{}: {what}", self.disk.id));
    }

    /// Follows the EBRs of one extended partition.
    fn chain(&mut self, extended: &Entry, next: &mut u32) -> Result<()> {
        let (first, all) = (extended.start(), extended.size());
        let (mut here, mut here_size) = (first, all);
        let mut seen = HashSet::new();
        let mut empty_links = 0_u32;
        loop {
            self.cx.budget.step("extended partitions")?;
            if !seen.insert(here) {
                self.warn(&format!(
                    "the chain of extended partitions comes back to byte {here:#x}; it ends there"
                ));
                return Ok(());
            }
            empty_links = empty_links.saturating_add(1);
            if empty_links > MAX_EMPTY_LINKS {
                self.warn(
                    "more than 100 extended partitions without a logical one; the rest is not followed",
                );
                return Ok(());
            }
            if here.saturating_add(SECTOR) > self.disk.source.len() {
                self.warn(&format!("an extended partition at byte {here:#x} lies past the end of the disk"));
                return Ok(());
            }
            let at = At::new("mbr", "extended boot record");
            let record: BootRecord = read_struct(&*self.disk.source, here, at)?;
            if record.magic != [0x55, 0xaa] {
                self.warn(&format!("the extended boot record at byte {here:#x} lacks its signature 55 AA"));
                return Ok(());
            }
            for (slot, entry) in record.entries.iter().enumerate() {
                if !entry.is_used() || entry.is_extended() {
                    continue;
                }
                let start = here.saturating_add(entry.start());
                let end = start.saturating_add(entry.size());
                // The third and fourth entry hold garbage as often as partitions; OS/2 used all four.
                let inside = entry.start().saturating_add(entry.size()) <= here_size
                    && start >= first
                    && end <= first.saturating_add(all);
                if slot >= 2 && !inside {
                    continue;
                }
                if *next > MAX_NUMBER {
                    self.warn(&format!("more partitions than number {MAX_NUMBER}; the rest is not shown"));
                    return Ok(());
                }
                self.add(*next, entry, start);
                *next = next.saturating_add(1);
                empty_links = 0;
            }
            let Some(link) = record.entries.iter().find(|entry| entry.is_used() && entry.is_extended())
            else {
                return Ok(());
            };
            here = first.saturating_add(link.start());
            here_size = link.size();
        }
    }
}

/// What the boot code of a disk's first sector calls itself.
pub(super) fn boot_code(code: &[u8]) -> &'static str {
    let has = |at: usize, magic: &[u8]| code.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let contains = |text: &[u8]| code.windows(text.len()).any(|window| window == text);
    if code.iter().all(|byte| *byte == 0) {
        return "none";
    }
    if contains(b"GRUB \0Geom\0") {
        // Both stages say "GRUB"; the first jumps over a shorter block, and keeps its version, 3.2, at 0x3e.
        return if has(0, &[0xeb, 0x48]) && has(0x3e, &[3, 2]) { "GRUB legacy" } else { "GRUB 2" };
    }
    if has(6, b"LILO") {
        return "LILO";
    }
    if contains(b"Operating system load error.") || contains(b"Missing OS\r\n") || contains(b"isolinux.bin") {
        return "syslinux";
    }
    // `xor ax,ax; mov ss,ax; mov sp,7c00h`, then as Windows 2000 to XP or as Vista and later go on; the texts are
    // translated in localized versions, the code is not.
    let start = [0x33, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c];
    if has(0, &start) && (has(7, &[0xfb, 0x50]) || has(7, &[0x8e, 0xc0])) {
        return "Windows";
    }
    if contains(b"Invalid partition table") && contains(b"Error loading operating system") {
        return "Windows";
    }
    // GNU Parted's own: `cli; mov ax,1000h; mov ss,ax; mov sp,0b000h`.
    if has(0, &[0xfa, 0xb8, 0x00, 0x10, 0x8e, 0xd0, 0xbc, 0x00, 0xb0]) {
        return "parted";
    }
    // Debian's install-mbr: `cld; xor ax,ax; mov ss,ax; xor sp,sp`.
    if has(0, &[0xfc, 0x31, 0xc0, 0x8e, 0xd0, 0x31, 0xe4]) && contains(b"MBR ") {
        return "install-mbr";
    }
    "unknown"
}

/// Names of partition types, as `fdisk` lists them; those found in practice.
const TYPES: &[(u8, &str)] = &[
    (0x01, "FAT12"),
    (0x04, "FAT16"),
    (0x06, "FAT16"),
    (0x07, "NTFS or exFAT"),
    (0x0b, "FAT32"),
    (0x0c, "FAT32"),
    (0x0e, "FAT16"),
    (0x11, "hidden FAT12"),
    (0x12, "OEM configuration"),
    (0x14, "hidden FAT16"),
    (0x16, "hidden FAT16"),
    (0x17, "hidden NTFS"),
    (0x1b, "hidden FAT32"),
    (0x1c, "hidden FAT32"),
    (0x1e, "hidden FAT16"),
    (0x27, "Windows recovery"),
    (0x41, "PReP boot"),
    (0x42, "Windows dynamic disk"),
    (0x82, "Linux swap"),
    (0x83, "Linux"),
    (0x84, "hibernation"),
    (0x8e, "Linux LVM"),
    (0xa0, "OEM diagnostics"),
    (0xa5, "FreeBSD"),
    (0xa6, "OpenBSD"),
    (0xa9, "NetBSD"),
    (0xaf, "HFS or HFS+"),
    (0xbe, "Solaris boot"),
    (0xbf, "Solaris"),
    (0xd7, "Windows Storage Spaces"),
    (0xda, "data without a file system"),
    (0xde, "Dell utility"),
    (0xe7, "Windows Storage Spaces"),
    (0xee, "GPT protective"),
    (0xef, "EFI system"),
    (0xfb, "VMware VMFS"),
    (0xfc, "VMware core dump"),
    (0xfd, "Linux RAID"),
];

fn type_name(kind: u8) -> &'static str {
    TYPES.iter().find(|(code, _)| *code == kind).map_or("", |(_, name)| name)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests count bytes by hand")]
mod tests {
    use super::*;

    fn sector(edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[510..].copy_from_slice(&[0x55, 0xaa]);
        edit(&mut bytes);
        bytes
    }

    fn entry(bytes: &mut [u8], slot: usize, status: u8, kind: u8, start: u32, sectors: u32) {
        let at = 446 + slot * 16;
        bytes[at] = status;
        bytes[at + 4] = kind;
        bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    }

    fn claimed(head: &[u8], len: u64) -> bool {
        claims(&Probe { head, tail: &[], len, name: "" })
    }

    /// The first bytes of a FAT16 volume as `mkfs.vfat` 4.2 writes them.
    const FAT: [u8; 24] = [
        0xeb, 0x3c, 0x90, b'm', b'k', b'f', b's', b'.', b'f', b'a', b't', 0, 2, 4, 4, 0, 2, 0, 2, 0, 0x50,
        0xf8, 20, 0,
    ];

    #[test]
    fn a_fat_boot_sector_is_not_a_partition_table() {
        let bytes = sector(|b| b[..24].copy_from_slice(&FAT));
        assert!(!claimed(&bytes, 1 << 20));
        assert_eq!(front(&bytes), Front::Other);
    }

    #[test]
    fn a_fat_boot_sector_with_a_sound_table_is_one() {
        let bytes = sector(|b| {
            b[..24].copy_from_slice(&FAT);
            entry(b, 0, 0x80, 0x0c, 64, 100);
        });
        assert!(claimed(&bytes, 1 << 20));
    }

    #[test]
    fn boot_code_where_the_status_bytes_would_be_is_not_a_table() {
        assert!(!claimed(&sector(|b| entry(b, 1, 0x74, 0x83, 1, 1)), 1 << 20));
    }

    #[test]
    fn a_protective_record_belongs_to_gpt() {
        let bytes = sector(|b| entry(b, 0, 0, 0xee, 1, 0xffff_ffff));
        assert!(!claimed(&bytes, 1 << 20));
        assert_eq!(front(&bytes), Front::Protective { hybrid: false });
    }

    #[test]
    fn other_entries_beside_the_protective_one_make_it_hybrid() {
        let bytes = sector(|b| {
            entry(b, 0, 0x80, 0x83, 2048, 100);
            entry(b, 1, 0, 0xee, 1, 100);
        });
        assert_eq!(front(&bytes), Front::Protective { hybrid: true });
    }

    #[test]
    fn an_empty_record_is_a_table_only_with_a_disk_signature() {
        assert!(!claimed(&sector(|_| ()), 1 << 20));
        assert!(claimed(&sector(|b| b[0x1b8] = 1), 1 << 20));
    }

    #[test]
    fn boot_code_of_zeros_is_none() {
        assert_eq!(boot_code(&[0; 440]), "none");
    }

    /// GRUB 2.06 (Debian 12, grub-pc-bin), `boot.img`: the jump and the text at 0x180.
    #[test]
    fn grub_2_is_told_from_grub_legacy() {
        let mut code = [0; 440];
        code[..3].copy_from_slice(&[0xeb, 0x63, 0x90]);
        code[0x180..0x180 + 32].copy_from_slice(b"GRUB \0Geom\0Hard Disk\0Read\0 Error");
        assert_eq!(boot_code(&code), "GRUB 2");
        code[..2].copy_from_slice(&[0xeb, 0x48]);
        code[0x3e..0x40].copy_from_slice(&[3, 2]);
        assert_eq!(boot_code(&code), "GRUB legacy");
    }

    /// The first bytes on a disk that Windows 10 partitioned, and of syslinux 6.04's `mbr.bin` with its text.
    #[test]
    fn windows_is_told_from_syslinux() {
        let mut code = [0; 440];
        code[..12].copy_from_slice(&[0x33, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0x8e, 0xc0, 0x8e, 0xd8, 0xbe]);
        assert_eq!(boot_code(&code), "Windows");
        code[..8].copy_from_slice(&[0x33, 0xc0, 0xfa, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc]);
        code[0x100..0x100 + 28].copy_from_slice(b"Operating system load error.");
        assert_eq!(boot_code(&code), "syslinux");
    }

    #[test]
    fn code_we_do_not_know_is_unknown() {
        assert_eq!(boot_code(&[0x90; 440]), "unknown");
    }
}
