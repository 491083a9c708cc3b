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

/// Where things lie in a descriptor (kernel documentation, `filesystems/ext4/group_descr.rst`).
const INODE_TABLE_LO: usize = 0x08;
const INODE_TABLE_HI: usize = 0x28;

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
        let byte = self.descriptor_offset(group)?;
        let at = At::new("ext", "group descriptor").index(group).byte(byte);
        let descriptor = self.meta.near(byte, sb.descriptor_size)?;
        let high = if sb.descriptor_size >= 64 { le32(&descriptor, INODE_TABLE_HI, &at)? } else { 0 };
        let table = u64::from(le32(&descriptor, INODE_TABLE_LO, &at)?) | u64::from(high) << 32;
        let skip = index.saturating_mul(sb.inode_size);
        let last = skip.saturating_add(sb.inode_size).div_ceil(sb.block_size);
        let table = sb.block_offset(table, last).ok_or_else(|| {
            Error::corrupt(at).because(format!("its inode table at block {table} is not in the file system"))
        })?;
        Ok(table.saturating_add(skip))
    }

    /// The volume's byte where the descriptor of `group` lies.
    fn descriptor_offset(&self, group: u64) -> Result<u64> {
        let sb = &self.sb;
        let at = At::new("ext", "group descriptor").index(group);
        let wrong = || Error::corrupt(at.clone()).because("lies outside the file system");
        let per_block = sb.block_size.checked_div(sb.descriptor_size).ok_or_else(wrong)?;
        let nth = group.checked_div(per_block).filter(|_| group < sb.groups).ok_or_else(wrong)?;
        let skip = group.checked_rem(per_block).ok_or_else(wrong)?.saturating_mul(sb.descriptor_size);
        let block = if sb.features.has(Set::META_BG) && nth >= sb.first_meta_group() {
            let first = nth.saturating_mul(per_block);
            let start = first.checked_mul(sb.blocks_per_group()).ok_or_else(wrong)?;
            // With clusters and blocks of 1 KiB, group 0 starts at block 0 and its superblock lies at block 1.
            let shifted = nth == 0 && sb.own_block() == 1 && sb.first_data_block() == 0;
            let behind = u64::from(self.has_superblock(first)).saturating_add(u64::from(shifted));
            sb.first_data_block().saturating_add(start).saturating_add(behind)
        } else {
            sb.own_block().saturating_add(1).saturating_add(nth)
        };
        sb.block_offset(block, 1).map(|byte| byte.saturating_add(skip)).ok_or_else(wrong)
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
