//! Block groups: where each group's descriptor lies, and in it where its inode table starts.
//!
//! ```text
//! usual     superblock │ descriptors of all groups │ …
//! meta_bg   descriptors of each run of (block size / descriptor size) groups lie at the start of that run
//! ```

use super::Ext;
use super::features::Set;
use crate::error::{At, Error, Result};
use crate::ondisk::le32;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where things lie in a descriptor (kernel documentation, `filesystems/ext4/group_descr.rst`).
const INODE_TABLE_LO: usize = 0x08;
const INODE_TABLE_HI: usize = 0x28;

/// Damaged descriptors that are remembered; the others are looked up each time.
const MAX_DAMAGED: usize = 4096;

/// Groups whose descriptor is damaged, and where their inode table starts nevertheless.
#[derive(Default)]
pub(super) struct Damaged(BTreeMap<u64, u64>);

fn lock(damaged: &Mutex<Damaged>) -> MutexGuard<'_, Damaged> {
    damaged.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ext {
    /// The volume's byte where inode `ino` lies.
    ///
    /// # Errors
    /// `Corrupt` for a number that no group has, or a table outside the file system.
    pub(super) fn inode_offset(&self, ino: u64) -> Result<u64> {
        let sb = &self.sb;
        let at = At::new("ext", "inode").index(ino);
        let wrong = || Error::corrupt(at.clone()).because(format!("inodes go from 1 to {}", sb.inodes));
        let number = ino.checked_sub(1).filter(|_| ino <= sb.inodes).ok_or_else(wrong)?;
        let group = number.checked_div(sb.inodes_per_group).ok_or_else(wrong)?;
        let index = number.checked_rem(sb.inodes_per_group).ok_or_else(wrong)?;
        let skip = index.saturating_mul(sb.inode_size);
        let last = skip.saturating_add(sb.inode_size).div_ceil(sb.block_size);
        let table = self.table_of_group(group)?;
        let table = sb.block_offset(table, last).ok_or_else(|| {
            Error::corrupt(At::new("ext", "group descriptor").index(group))
                .because(format!("its inode table at block {table} is not in the file system"))
        })?;
        Ok(table.saturating_add(skip))
    }

    /// The block where the inode table of `group` starts: by its descriptor, or by a backup of one that is damaged.
    fn table_of_group(&self, group: u64) -> Result<u64> {
        let byte = self.descriptor_offset(group)?;
        let own = self.descriptor(group, byte);
        if let Ok((table, true)) = own {
            return Ok(table);
        }
        if let Some(table) = lock(&self.damaged).0.get(&group) {
            return Ok(*table);
        }
        let backups =
            self.backup_offsets(group).into_iter().filter_map(|byte| self.descriptor(group, byte).ok());
        // The copies are as old as the file system, but no inode table ever moves.
        let backup = backups.into_iter().find(|(_, holds)| *holds).map(|(table, _)| table);
        let table = match (backup, own) {
            (Some(table), _) => table,
            (None, Ok((table, _))) => table,
            (None, Err(error)) => return Err(error),
        };
        let mut damaged = lock(&self.damaged);
        if damaged.0.len() < MAX_DAMAGED {
            damaged.0.insert(group, table);
        }
        Ok(table)
    }

    /// The inode table that the descriptor of `group` at this byte names, and whether the descriptor's checksum is right.
    ///
    /// # Errors
    /// `Corrupt` for a table outside the file system.
    fn descriptor(&self, group: u64, byte: u64) -> Result<(u64, bool)> {
        let sb = &self.sb;
        let at = At::new("ext", "group descriptor").index(group).byte(byte);
        let descriptor = self.meta.near(byte, sb.descriptor_size)?;
        let high = if sb.descriptor_size >= 64 { le32(&descriptor, INODE_TABLE_HI, &at)? } else { 0 };
        let table = u64::from(le32(&descriptor, INODE_TABLE_LO, &at)?) | u64::from(high) << 32;
        let blocks = sb.inodes_per_group.saturating_mul(sb.inode_size).div_ceil(sb.block_size);
        if sb.block_offset(table, blocks).is_none() {
            return Err(Error::corrupt(at)
                .because(format!("its inode table at block {table} is not in the file system")));
        }
        Ok((table, self.group_holds(group, &descriptor, byte)))
    }

    /// What is to be said of damaged descriptors met so far.
    pub(super) fn damaged_groups(&self) -> Option<String> {
        let damaged = lock(&self.damaged);
        let (first, _) = damaged.0.first_key_value()?;
        Some(format!(
            "{} group descriptors are damaged, the first that of group {first}; their backups are used where they are sound",
            damaged.0.len()
        ))
    }

    /// The volume's byte where the descriptor of `group` lies.
    fn descriptor_offset(&self, group: u64) -> Result<u64> {
        let sb = &self.sb;
        let wrong = || {
            Error::corrupt(At::new("ext", "group descriptor").index(group))
                .because("lies outside the file system")
        };
        let (nth, skip) = self.split_descriptor(group).ok_or_else(wrong)?;
        let block = match self.meta_group(nth) {
            Some(first) => {
                let start = first.checked_mul(sb.blocks_per_group()).ok_or_else(wrong)?;
                // With clusters and blocks of 1 KiB, group 0 starts at block 0 and its superblock lies at block 1.
                let shifted = nth == 0 && sb.own_block() == 1 && sb.first_data_block() == 0;
                let behind = u64::from(self.has_superblock(first)).saturating_add(u64::from(shifted));
                sb.first_data_block().saturating_add(start).saturating_add(behind)
            }
            None => self.first_descriptors.saturating_add(nth),
        };
        sb.block_offset(block, 1).map(|byte| byte.saturating_add(skip)).ok_or_else(wrong)
    }

    /// Where copies of the descriptor of `group` lie, in the order to try them.
    fn backup_offsets(&self, group: u64) -> Vec<u64> {
        let sb = &self.sb;
        let Some((nth, skip)) = self.split_descriptor(group) else { return Vec::new() };
        let start = |group: u64| {
            let start = group.checked_mul(sb.blocks_per_group())?.checked_add(sb.first_data_block());
            start.filter(|_| group < sb.groups)
        };
        let behind = |group: u64| u64::from(self.has_superblock(group));
        let blocks: Vec<u64> = if let Some(first) = self.meta_group(nth) {
            let per_block = sb.block_size.checked_div(sb.descriptor_size).unwrap_or(1);
            [1, per_block.saturating_sub(1)]
                .into_iter()
                .map(|further| first.saturating_add(further))
                .filter_map(|group| start(group)?.checked_add(behind(group)))
                .collect()
        } else {
            let [one, two] = sb.backup_groups();
            [1, 3, 5, 7, one, two]
                .into_iter()
                .filter(|group| *group > 0 && self.has_superblock(*group))
                .filter_map(|group| start(group)?.checked_add(1)?.checked_add(nth))
                .collect()
        };
        blocks.into_iter().filter_map(|block| sb.block_offset(block, 1)?.checked_add(skip)).collect()
    }

    /// Which block of descriptors a group's is in, and where in it.
    fn split_descriptor(&self, group: u64) -> Option<(u64, u64)> {
        let sb = &self.sb;
        let per_block = sb.block_size.checked_div(sb.descriptor_size)?;
        let nth = group.checked_div(per_block).filter(|_| group < sb.groups)?;
        Some((nth, group.checked_rem(per_block)?.saturating_mul(sb.descriptor_size)))
    }

    /// The first group of those whose descriptors are in block `nth`, if that block lies among them.
    fn meta_group(&self, nth: u64) -> Option<u64> {
        let sb = &self.sb;
        let per_block = sb.block_size.checked_div(sb.descriptor_size)?;
        (sb.features.has(Set::META_BG) && nth >= sb.first_meta_group()).then(|| nth.saturating_mul(per_block))
    }

    /// Does the group start with a copy of the superblock?
    fn has_superblock(&self, group: u64) -> bool {
        if group == 0 {
            return true;
        }
        if self.sb.features.has(Set::SPARSE_SUPER2) {
            return self.sb.backup_groups().contains(&group);
        }
        if group == 1 || !self.sb.features.has(Set::SPARSE_SUPER) {
            return true;
        }
        [3, 5, 7].iter().any(|base| is_power(group, *base))
    }
}

fn is_power(mut number: u64, base: u64) -> bool {
    while number > 1 {
        match (number.checked_div(base), number.checked_rem(base)) {
            (Some(quotient), Some(0)) => number = quotient,
            _ => return false,
        }
    }
    number == 1
}

#[cfg(test)]
mod tests {
    use super::is_power;

    #[test]
    fn powers_are_told_from_other_numbers() {
        assert!(is_power(1, 3) && is_power(27, 3) && is_power(49, 7) && is_power(625, 5));
        assert!(!is_power(0, 3) && !is_power(6, 3) && !is_power(21, 7));
    }
}
