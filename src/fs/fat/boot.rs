//! The boot sector: where the tables, the root directory and the clusters lie, and which of the three FATs it is.
//!
//! "Microsoft Extensible Firmware Initiative FAT32 File System Specification" 1.03, "Boot Sector and BPB". What decides
//! between FAT12 and FAT16 is the number of clusters; that it is FAT32 is taken from the field for the length of a FAT, as
//! the kernel does (`fat_fill_super`), for there are FAT32 of fewer clusters than the specification has.

use crate::error::{At, Error, Result};
use crate::fs::chain::{FIRST, Width};
use crate::ondisk::{get_le16, get_le32};

/// The most clusters of a FAT12, and of a FAT16.
const MOST: (u64, u64) = (0xff4, 0xfff4);
/// The most of a FAT32: numbers have 28 bits, the last ones are taken.
const MOST_32: u64 = 0x0fff_fff6;
/// Bytes of an entry of a directory.
pub(super) const SLOT: u64 = 32;

/// What a boot sector says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    /// Bytes.
    pub(super) sector: u64,
    /// Bytes.
    pub(super) cluster: u64,
    pub(super) width: Width,
    /// Byte of the volume where the first FAT starts: the one that the kernel reads.
    pub(super) fat: u64,
    /// Where the root directory lies.
    pub(super) root: Root,
    /// Byte where cluster 2 starts.
    pub(super) data: u64,
    /// The number behind the last cluster's.
    pub(super) end: u32,
    /// Bytes, as far as the boot sector says.
    pub(super) size: u64,
    /// Byte of the FSInfo sector, where there is one.
    pub(super) info: Option<u64>,
    /// The volume's number.
    pub(super) serial: Option<u32>,
    /// The kernel's mark that it is mounted.
    pub(super) is_in_use: bool,
    /// The flags say that one FAT alone is kept up to date, and that it is not the first.
    pub(super) other_fat: bool,
}

/// Where the root directory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// In front of the clusters: first byte and length.
    Fixed(u64, u64),
    /// In clusters, from this one on.
    Chain(u32),
}

impl Boot {
    /// Reads the first 512 bytes of a volume.
    ///
    /// # Errors
    /// `Corrupt` when this is no boot sector of a FAT.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |why: String| Error::corrupt(At::new("vfat", "boot sector").byte(0)).because(why);
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let le16 = |at: usize| u64::from(get_le16(bytes, at).unwrap_or(0));
        let le32 = |at: usize| u64::from(get_le32(bytes, at).unwrap_or(0));
        let (sector, per_cluster, reserved, fats) = (le16(11), byte(13), le16(14), u64::from(byte(16)));
        if le16(510) != 0xaa55 {
            return Err(bad(format!("signature {:#06x}, 0xaa55 is expected", le16(510))));
        }
        if !sector.is_power_of_two() || !(512..=4096).contains(&sector) {
            return Err(bad(format!("{sector} bytes in a sector")));
        }
        if !per_cluster.is_power_of_two() {
            return Err(bad(format!("{per_cluster} sectors in a cluster")));
        }
        if reserved == 0 || fats == 0 || fats > 16 {
            return Err(bad(format!("{reserved} reserved sectors and {fats} FATs")));
        }
        if byte(21) != 0xf0 && byte(21) < 0xf8 {
            return Err(bad(format!("media {:#x}", byte(21))));
        }
        let is_32 = le16(22) == 0;
        let fat_sectors = if is_32 { le32(36) } else { le16(22) };
        let sectors = if le16(19) == 0 { le32(32) } else { le16(19) };
        let root_sectors = le16(17).saturating_mul(SLOT).div_ceil(sector);
        let tables = fat_sectors.saturating_mul(fats);
        let front = reserved.saturating_add(tables).saturating_add(root_sectors);
        if fat_sectors == 0 || sectors <= front {
            return Err(bad(format!("{sectors} sectors, {front} of them in front of the clusters")));
        }
        if is_32 == (root_sectors > 0) {
            return Err(bad(format!("{} entries in the root directory", le16(17))));
        }
        let clusters = sectors.saturating_sub(front) >> per_cluster.trailing_zeros();
        let (width, most) = match (is_32, clusters > MOST.0) {
            (true, _) => (Width::TwentyEight, MOST_32),
            (false, true) => (Width::Sixteen, MOST.1),
            (false, false) => (Width::Twelve, MOST.0),
        };
        if clusters == 0 || clusters > most {
            return Err(bad(format!("{clusters} clusters, at most {most} can be numbered")));
        }
        let fat_bytes = fat_sectors.saturating_mul(sector);
        let entries = match width {
            Width::Twelve => fat_bytes.saturating_mul(2) / 3,
            Width::Sixteen => fat_bytes / 2,
            Width::TwentyEight | Width::ThirtyTwo => fat_bytes / 4,
        };
        let end = clusters.saturating_add(FIRST.into()).min(entries);
        // Bit 7 of the flags: the FATs are not copies of each other, bits 0 to 3 say which counts. The kernel has no eye
        // for these flags and reads the first; so do we, and say it.
        let flags = if is_32 { le16(40) } else { 0 };
        let number = if flags & 0x80 == 0 { 0 } else { flags & 0xf };
        let bytes_of = |sectors: u64| sectors.saturating_mul(sector);
        let fixed = reserved.saturating_add(tables);
        let root = if is_32 {
            Root::Chain(get_le32(bytes, 44).unwrap_or(0))
        } else {
            Root::Fixed(bytes_of(fixed), le16(17).saturating_mul(SLOT))
        };
        // The extended fields stand 28 bytes further back in FAT32.
        let extended = if is_32 { 64 } else { 36_usize };
        let field = |skip: usize| extended.saturating_add(skip);
        Ok(Self {
            sector,
            cluster: bytes_of(per_cluster.into()),
            width,
            fat: bytes_of(reserved),
            root,
            data: bytes_of(front),
            end: u32::try_from(end).unwrap_or(u32::MAX),
            size: bytes_of(sectors),
            info: Some(bytes_of(le16(48))).filter(|at| is_32 && *at != 0 && le16(48) < reserved),
            serial: get_le32(bytes, field(3)).filter(|_| matches!(byte(field(2)), 0x28 | 0x29)),
            is_in_use: byte(field(1)) & 1 != 0,
            other_fat: number != 0,
        })
    }

    /// The volume's number as `blkid` spells it.
    pub(super) fn uuid(&self) -> Option<String> {
        let [a, b, c, d] = self.serial?.to_be_bytes();
        Some(format!("{a:02X}{b:02X}-{c:02X}{d:02X}"))
    }
}

/// What else begins with fields like these: OS/2 puts them in front of its own file systems.
const FOREIGN: [(usize, &[u8]); 6] = [
    (54, b"JFS     "),
    (54, b"HPFS    "),
    (3, b"NTFS    "),
    (3, b"EXFAT   "),
    (3, b"ReFS\0\0\0\0"),
    (3, b"-FVE-FS-"),
];

/// Is it the boot sector of a FAT, and of nothing else?
pub(super) fn is_fat(head: &[u8]) -> bool {
    // A jump over the fields; those that have no code at all have zeros.
    let jumps = matches!(head.first(), Some(0xeb | 0xe9 | 0));
    let is_foreign =
        FOREIGN.iter().any(|(at, magic)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    let media_agrees = || {
        // The first entry of the first FAT repeats the medium's byte, and the rest of it is ones. Strange tools write
        // strange bytes there, so the word in the boot sector does as well.
        let named = [(82, b"FAT32   "), (54, b"FAT16   "), (54, b"FAT12   "), (54, b"FAT     ")];
        let is_named =
            named.iter().any(|(at, word)| head.get(*at..).is_some_and(|rest| rest.starts_with(*word)));
        let reserved = usize::from(get_le16(head, 14).unwrap_or(0));
        let sector = usize::from(get_le16(head, 11).unwrap_or(0));
        let first = reserved.checked_mul(sector).and_then(|at| get_le16(head, at));
        let medium = u16::from(head.get(21).copied().unwrap_or(0));
        is_named || first.is_some_and(|first| first == medium | 0xff00)
    };
    jumps && !is_foreign && Boot::parse(head).is_ok() && media_agrees()
}
