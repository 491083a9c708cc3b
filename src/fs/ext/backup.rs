//! Copies of the superblock, for when the first one is damaged.
//!
//! ```text
//! group 0      superblock │ descriptors …
//! group 1      superblock │ descriptors …        and in groups 3, 5, 7, 9, 25, 27, …: powers of 3, 5 and 7
//! ```
//! With sparse_super2 there are two copies at most, and the superblock says in which groups. Where groups start depends on
//! the block size, which a damaged superblock does not tell: each is tried, with groups as large as one block of bitmap
//! makes them. A copy counts if it says itself that it lies where it was found, and its checksum is right.

use super::superblock::{OFFSET, Superblock};
use crate::block::{BlockSource, Probe};
use crate::error::{Error, Result};
use crate::num::wide;
use crate::ondisk::get_le32;

/// Groups that are looked at; the last one in addition, where sparse_super2 puts its second copy.
const GROUPS: [u64; 8] = [1, 3, 5, 7, 9, 25, 27, 49];
/// 1 KiB to 64 KiB, as powers of two over 1 KiB.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 0..=6;

/// The superblock of a volume: the first, or a copy of it with a line that says so.
///
/// # Errors
/// What is wrong with the first one, if no copy is any better.
pub(super) fn superblock(volume: &dyn BlockSource) -> Result<(Superblock, Option<String>)> {
    let first = load(volume, OFFSET).and_then(|sb| {
        let wrong = || Error::corrupt(Superblock::at(OFFSET)).because("its checksum is wrong");
        if sb.checksum_holds() { Ok(sb) } else { Err(wrong()) }
    });
    let error = match first {
        Ok(sb) => return Ok((sb, None)),
        Err(error) if error.kind() != crate::error::ErrorKind::Corrupt => return Err(error),
        Err(error) => error,
    };
    let Some((sb, byte)) = find(volume) else {
        // A wrong checksum alone, and nothing to compare with: shown, and said.
        let first = load(volume, OFFSET)?;
        return Ok((first, Some(format!("{error}; no backup of it was found, and it is used as it is"))));
    };
    let group = sb.copy_of_group();
    Ok((sb, Some(format!("{error}; its backup in group {group}, at byte {byte:#x}, is used instead"))))
}

/// The superblock at this byte.
///
/// # Errors
/// `Corrupt` when it makes no sense; what the volume reports.
pub(super) fn load(volume: &dyn BlockSource, byte: u64) -> Result<Superblock> {
    let mut bytes = vec![0; 1024];
    if byte.saturating_add(wide(bytes.len())) > volume.len() {
        return Err(Error::corrupt(Superblock::at(byte)).because("the volume ends before it"));
    }
    volume.read_at(&mut bytes, byte)?;
    Superblock::parse(&bytes, byte)
}

/// The first sound copy, and the byte where it lies.
fn find(volume: &dyn BlockSource) -> Option<(Superblock, u64)> {
    for log in BLOCK_SIZES {
        let block = 1024_u64.checked_shl(log)?;
        let per_group = block.saturating_mul(8);
        let first = u64::from(log == 0);
        let groups = (volume.len().checked_div(block)?).saturating_sub(first).div_ceil(per_group);
        for group in GROUPS.into_iter().chain([groups.saturating_sub(1)]).filter(|group| *group > 0) {
            let byte = group.saturating_mul(per_group).saturating_add(first).saturating_mul(block);
            if byte.saturating_add(1024) > volume.len() {
                continue;
            }
            if let Ok(sb) = load(volume, byte)
                && sb.block_size == block
                && sb.copy_of_group() == group
                && sb.blocks_per_group() == per_group
                && sb.first_data_block() == first
                && sb.checksum_holds()
            {
                return Some((sb, byte));
            }
        }
    }
    None
}

/// Does a volume without any signature look like one of ours whose superblock has gone? Where the descriptors of its first groups would be, do
/// at least three of them follow each other as `mke2fs` lays groups out?
pub(in crate::fs) fn has_lost_its_superblock(probe: &Probe<'_>) -> bool {
    [(2048, 1024), (2048, 2048), (4096, 4096)].into_iter().any(|(table, block): (usize, u64)| {
        [32, 64].into_iter().any(|size| {
            let word = |group: usize, at: usize| {
                let from = table.checked_add(group.checked_mul(size)?)?.checked_add(at)?;
                get_le32(probe.head, from).map(u64::from)
            };
            let blocks = probe.len.checked_div(block).unwrap_or(0);
            // Bitmap of blocks, bitmap of inodes, inode table: each different and in the volume.
            let places = |group: usize| {
                let all = [word(group, 0)?, word(group, 4)?, word(group, 8)?];
                let [a, b, c] = all;
                (all.iter().all(|at| *at > 1 && *at < blocks) && a != b && b != c && a != c).then_some(all)
            };
            let (Some(zero), Some(one), Some(two)) = (places(0), places(1), places(2)) else { return false };
            // Bitmaps side by side (flex_bg), or each group with its own at the same place in it.
            let step = |from: [u64; 3], to: [u64; 3]| {
                from.into_iter().zip(to).map(|(from, to)| to.checked_sub(from)).collect::<Option<Vec<u64>>>()
            };
            let (Some(first), Some(second)) = (step(zero, one), step(one, two)) else { return false };
            let flexible = |steps: &[u64]| steps.first() == Some(&1) && steps.get(1) == Some(&1);
            // Group 2 has no copy of the superblock, and may have its bitmaps as much nearer to its start.
            let per_group = block.saturating_mul(8);
            let fixed = |steps: &[u64]| {
                let near = |step: &u64| step.abs_diff(per_group) < per_group / 2;
                steps.iter().all(|step| near(step) && Some(step) == steps.first())
            };
            (flexible(&first) && flexible(&second) && first == second)
                || (fixed(&first) && fixed(&second) && first.first() == Some(&per_group))
        })
    })
}
