//! GRUB's first stages: the sector that the BIOS starts, and the core image that this sector points to.
//!
//! ```text
//! boot.img       0x5c first sector of the core image, 8 bytes     0x64 drive; 0xff = the one that was booted
//! diskboot.img   the core's first sector; a list of runs that ends at 0x200 and grows downwards, 12 bytes each:
//!                first sector 8, sectors 2, segment 2; a run of no sectors ends it
//! then           0x08 packed size, 0x14 bytes before the packed part (GRUB 2.00 and later)
//! ```
//! (GNU GRUB 2.06, `include/grub/i386/pc/boot.h`, `kernel.h`, `offsets.h`; GRUB legacy 0.97, `stage1/stage1.h`: 0x40
//! drive, 0x44 first sector, 4 bytes; its runs have 8 bytes each: 4, 2, 2.)

use super::End;
use super::sector::{SECTOR, contains, first_blank, read};
use crate::block::BlockSource;
use crate::check::{Evidence, words};
use crate::error::Result;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};

/// Sectors of a core image that are read at most; one with every module has some 5000.
const MAX_CORE: u64 = 8192;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// GRUB 2, 1.96 and later.
    Two,
    /// GRUB 0.97.
    Legacy,
}

/// Consecutive sectors of a core image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    sectors: u64,
}

impl Generation {
    const fn name(self) -> &'static str {
        match self {
            Self::Two => "GRUB 2",
            Self::Legacy => "GRUB legacy",
        }
    }

    /// Where the first sector says that the rest is.
    fn first(self, boot: &[u8]) -> Option<u64> {
        match (self, boot.get(1)) {
            (Self::Legacy, _) => get_le32(boot, 0x44).map(u64::from),
            (Self::Two, Some(0x63)) => get_le64(boot, 0x5c),
            // Version 1.96 has a shorter block in front.
            (Self::Two, Some(0x48 | 0x4c)) => get_le64(boot, 0x44),
            (Self::Two, _) => None,
        }
    }

    /// The drive that it insists on, counted as a BIOS does.
    fn drive(self, boot: &[u8]) -> Option<u8> {
        let at = match (self, boot.get(1)) {
            (Self::Legacy, _) => 0x40,
            (Self::Two, Some(0x63)) => 0x64,
            (Self::Two, _) => return None,
        };
        boot.get(at).copied().filter(|drive| *drive != 0xff)
    }

    /// The runs that the core's first sector lists, the first one first.
    fn runs(self, sector: &[u8]) -> Vec<Run> {
        let size = match self {
            Self::Two => 12,
            Self::Legacy => 8,
        };
        let mut runs = Vec::new();
        let mut entries = sector.rchunks_exact(size);
        while let Some(entry) = entries.next().filter(|_| runs.len() < 40) {
            let (first, sectors) = match self {
                Self::Two => (get_le64(entry, 0), get_le16(entry, 8)),
                Self::Legacy => (get_le32(entry, 0).map(u64::from), get_le16(entry, 4)),
            };
            let (Some(first), Some(sectors @ 1..)) = (first, sectors) else { break };
            runs.push(Run { first, sectors: u64::from(sectors) });
        }
        runs
    }
}

/// Follows GRUB's first sector, `boot`, to its core image and through it.
///
/// # Errors
/// What the disk reports.
pub(super) fn follow(
    disk: &dyn BlockSource,
    generation: Generation,
    boot: &[u8],
    steps: &mut Vec<Evidence>,
) -> Result<End> {
    let grub = generation.name();
    if let Some(drive @ 0x81..) = generation.drive(boot) {
        return Ok(End::broken(words!(
            "{grub} in the first sector loads the rest from BIOS drive {drive:#x}, which is not the disk that is booted.",
            "首扇区的 {grub} 要从 BIOS 磁盘 {drive:#x} 加载其余部分，而该磁盘不是启动磁盘。"
        )));
    }
    let Some(first) = generation.first(boot) else {
        return Ok(End::unknown(format!("the layout of this {grub} sector is not known")));
    };
    let place = format!("the core image of {grub} starts at sector {first}");
    steps.push(Evidence::new(place).byte(first.saturating_mul(SECTOR)));
    let Some(head) = read(disk, first, 1)? else {
        let sectors = disk.len() / SECTOR;
        return Ok(End::broken(words!(
            "{grub} loads its core image from sector {first}, but the disk ends after {sectors} sectors.",
            "{grub} 从扇区 {first} 加载其核心映像，但磁盘只有 {sectors} 个扇区。"
        )));
    };
    if !contains(&head, b"Geom\0Read\0 Error") {
        return Ok(End::broken(elsewhere(grub, first, &head)));
    }
    let runs = generation.runs(&head);
    let (mut core, mut left) = (Vec::new(), MAX_CORE);
    for run in &runs {
        let Run { first, sectors } = *run;
        let count = sectors.min(left);
        left = left.saturating_sub(count);
        let Some(bytes) = read(disk, first, count)? else {
            let end = disk.len() / SECTOR;
            return Ok(End::broken(words!(
                "The core image of {grub} continues at sector {first} with {sectors} sectors, but the disk ends after {end} sectors.",
                "{grub} 的核心映像延续到扇区 {first} 起的 {sectors} 个扇区，但磁盘只有 {end} 个扇区。"
            )));
        };
        core.extend(bytes);
    }
    if first_blank(core.get(..narrow(SECTOR)).unwrap_or(&[0])).is_some() {
        return Ok(End::broken(words!(
            "The core image of {grub} at sector {first} loads nothing: what follows its first sector is not there.",
            "{grub} 位于扇区 {first} 的核心映像没有加载任何内容：其首扇区之后的部分不存在。"
        )));
    }
    if let Some(wanted) = packed_end(generation, &core).filter(|wanted| *wanted > wide(core.len())) {
        let has = core.len();
        return Ok(End::broken(words!(
            "The core image of {grub} is cut short: it needs {wanted} bytes, and {has} are loaded.",
            "{grub} 的核心映像不完整：需要 {wanted} 字节，只加载 {has} 字节。"
        )));
    }
    // What is packed has no sector of zeros; what fills up behind it may have.
    let packed = packed_end(generation, &core).and_then(|end| core.get(..narrow(end)));
    if let Some(blank) = packed.and_then(first_blank) {
        let sector = nth_sector(&runs, blank);
        return Ok(End::broken(words!(
            "The core image of {grub} is damaged: its sector {sector} is all zero.",
            "{grub} 的核心映像已损坏：扇区 {sector} 全为零。"
        )));
    }
    let sectors = wide(core.len()) / SECTOR;
    let start = runs.first().map_or(first, |run| run.first);
    let what = format!("{sectors} sectors of the core image follow from sector {start} on");
    steps.push(Evidence::new(what).byte(start.saturating_mul(SECTOR)));
    Ok(End::Loader(grub))
}

/// The sector of the disk that is the core image's `nth`, counted from 0.
fn nth_sector(runs: &[Run], nth: u64) -> u64 {
    let mut before = 0_u64;
    for run in runs {
        match nth.checked_sub(before) {
            Some(inside) if inside < run.sectors => return run.first.saturating_add(inside),
            _ => before = before.saturating_add(run.sectors),
        }
    }
    0
}

/// Where the packed part of a core image of GRUB 2.00 and later ends. Such an image starts with a long jump.
fn packed_end(generation: Generation, core: &[u8]) -> Option<u64> {
    if generation != Generation::Two || core.first() != Some(&0xea) || core.get(3..8) != Some(&[0; 5]) {
        return None;
    }
    let (packed, before) = (get_le32(core, 0x08)?, get_le32(core, 0x14)?);
    Some(u64::from(packed).saturating_add(u64::from(before)))
}

/// What stands where the core image should.
fn elsewhere(grub: &str, first: u64, found: &[u8]) -> crate::check::Words {
    if found.iter().all(|byte| *byte == 0) {
        words!(
            "{grub} loads its core image from sector {first}, which is all zero.",
            "{grub} 从扇区 {first} 加载其核心映像，但该扇区全为零。"
        )
    } else if found.starts_with(b"EFI PART") {
        words!(
            "{grub} loads its core image from sector {first}, where the header of the GPT is: the disk was converted after {grub} was installed, and has no BIOS boot partition for it.",
            "{grub} 从扇区 {first} 加载其核心映像，但该处是 GPT 表头：磁盘在安装 {grub} 之后被转换为 GPT，且没有供其使用的 BIOS 引导分区。"
        )
    } else {
        words!(
            "{grub} loads its core image from sector {first}, where something else is.",
            "{grub} 从扇区 {first} 加载其核心映像，但该处不是核心映像。"
        )
    }
}
