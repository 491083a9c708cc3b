//! Indirect blocks: the map of ext2 and ext3. Twelve block numbers in the inode, then a block of numbers, a block of
//! such blocks, and one level more. Number 0 is a hole of everything that would hang below it.
//!
//! Kernel documentation, `filesystems/ext4/blockmap.rst`.

use super::Ext;
use super::inode::Inode;
use super::map::{Place, Stretch};
use crate::error::{At, Error, Result};
use crate::num::narrow;
use crate::ondisk::get_le32;

/// Block numbers in the inode itself.
const DIRECT: u64 = 12;

/// The way to a file block: the slot in the inode, then one slot in each indirect block.
#[derive(Debug, PartialEq, Eq)]
struct Path {
    root: u64,
    slots: [u64; 3],
    levels: usize,
}

/// Which slots lead to `logical`, where a block holds `per` numbers.
fn path(logical: u64, per: u64) -> Option<Path> {
    if logical < DIRECT {
        return Some(Path { root: logical, slots: [0; 3], levels: 0 });
    }
    let mut rest = logical.saturating_sub(DIRECT);
    let (two, three) = (per.saturating_mul(per), per.saturating_mul(per).saturating_mul(per));
    if rest < per {
        return Some(Path { root: 12, slots: [rest, 0, 0], levels: 1 });
    }
    rest = rest.saturating_sub(per);
    if rest < two {
        return Some(Path {
            root: 13,
            slots: [rest.checked_div(per)?, rest.checked_rem(per)?, 0],
            levels: 2,
        });
    }
    rest = rest.saturating_sub(two);
    if rest < three {
        let below = rest.checked_rem(two)?;
        let slots = [rest.checked_div(two)?, below.checked_div(per)?, below.checked_rem(per)?];
        return Some(Path { root: 14, slots, levels: 3 });
    }
    None
}

/// The numbers in `table` from `slot` on that go on from each other, or are zero together.
fn run(table: &[u8], slot: u64, slots: u64) -> Option<(u32, u64)> {
    let number = |slot: u64| get_le32(table, narrow(slot.saturating_mul(4)));
    let first = number(slot)?;
    let mut blocks = 1_u64;
    while slot.saturating_add(blocks) < slots {
        let next = number(slot.saturating_add(blocks))?;
        let expected =
            if first == 0 { Some(0) } else { u32::try_from(u64::from(first).saturating_add(blocks)).ok() };
        if Some(next) != expected {
            break;
        }
        blocks = blocks.saturating_add(1);
    }
    Some((first, blocks))
}

/// The stretch of `inode` from file block `logical` on.
///
/// # Errors
/// `Corrupt` when a number on the way leads out of the file system.
pub(super) fn find(ext: &Ext, inode: &Inode, logical: u32) -> Result<Stretch> {
    let at = At::new("ext", "block map of inode").index(inode.ino).byte(inode.byte);
    let per = ext.sb.block_size / 4;
    let logical = u64::from(logical);
    let path = path(logical, per).ok_or_else(|| {
        Error::corrupt(at.clone()).because(format!("block {logical} is past the last it can have"))
    })?;
    let torn = || Error::corrupt(at.clone()).because("ends early");
    if path.levels == 0 {
        let (number, blocks) = run(inode.block(), path.root, DIRECT).ok_or_else(torn)?;
        return Ok(stretch(number, blocks));
    }
    let mut node = get_le32(inode.block(), narrow(path.root.saturating_mul(4))).ok_or_else(torn)?;
    let mut found = None;
    for (level, slot) in path.slots.iter().take(path.levels).enumerate() {
        // Below this node hang as many blocks as the levels under it can name.
        let under = path.levels.saturating_sub(level).saturating_sub(1);
        let each = (0..under).fold(1_u64, |each, _| each.saturating_mul(per));
        if node == 0 {
            let inside = path
                .slots
                .iter()
                .take(path.levels)
                .skip(level)
                .fold(0_u64, |inside, slot| inside.saturating_mul(per).saturating_add(*slot));
            let blocks = each.saturating_mul(per).saturating_sub(inside).max(1);
            return Ok(Stretch { blocks, place: Place::Hole });
        }
        let byte = ext.sb.block_offset(u64::from(node), 1).ok_or_else(|| {
            Error::corrupt(at.clone())
                .because(format!("an indirect block at block {node}, not in the file system"))
        })?;
        let table = ext.meta.block(byte, ext.sb.block_size)?;
        let (number, blocks) = run(&table, *slot, per).ok_or_else(torn)?;
        node = number;
        found = Some((number, blocks));
    }
    let (number, blocks) = found.ok_or_else(torn)?;
    Ok(stretch(number, blocks))
}

fn stretch(number: u32, blocks: u64) -> Stretch {
    let place = if number == 0 { Place::Hole } else { Place::At(u64::from(number)) };
    Stretch { blocks, place }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_each_level() {
        let at = |logical| path(logical, 256).map(|path| (path.root, path.slots, path.levels));
        assert_eq!(at(11), Some((11, [0, 0, 0], 0)));
        assert_eq!(at(12), Some((12, [0, 0, 0], 1)));
        assert_eq!(at(12 + 255), Some((12, [255, 0, 0], 1)));
        assert_eq!(at(12 + 256), Some((13, [0, 0, 0], 2)));
        assert_eq!(at(12 + 256 + 65536), Some((14, [0, 0, 0], 3)));
        assert_eq!(at(12 + 256 + 65536 + 256 * 256 * 256 - 1), Some((14, [255, 255, 255], 3)));
        assert_eq!(at(12 + 256 + 65536 + 256 * 256 * 256), None);
    }

    #[test]
    fn numbers_that_follow_each_other_are_one_stretch() {
        let table: Vec<u8> = [0_u32, 0, 7, 8, 9, 11].iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(run(&table, 0, 6), Some((0, 2)));
        assert_eq!(run(&table, 2, 6), Some((7, 3)));
        assert_eq!(run(&table, 5, 6), Some((11, 1)));
        assert_eq!(run(&table, 6, 7), None);
    }
}
