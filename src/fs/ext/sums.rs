//! Checksums of metadata: CRC-32C from a seed that is the file system's, and with most structures the inode's, so that a
//! block that belongs elsewhere does not pass.
//!
//! ```text
//! seed ─┬─ group descriptor
//!       ├─ block of attributes
//!       └─ inode's seed (number, generation) ─┬─ inode
//!                                             ├─ node of its extent tree
//!                                             └─ block of its directory
//! ```
//! What does not pass is refused, as the kernel does. The volume does not change: what has passed is remembered, and not
//! summed up again.
//!
//! Kernel documentation, `filesystems/ext4/checksums.rst`; `fs/ext4/{inode,extents,namei,xattr,super}.c`.

use super::Ext;
use super::features::Set;
use super::inode::Inode;
use crate::checksum::{crc16_on, crc32c_on};
use crate::error::{At, Error, Result};
use crate::ondisk::{get_le16, get_le32};
use std::sync::atomic::{AtomicU64, Ordering};

/// Places that are remembered, as many as blocks of metadata fit in the cache several times over.
const REMEMBERED: usize = 8192;

/// Where an inode's checksum lies: the low half, and the high one in inodes with an extra part that reaches there.
const INODE_LOW: usize = 0x7c;
const INODE_HIGH: usize = 0x82;
/// Where a group descriptor's checksum lies.
const GROUP: usize = 0x1e;
/// Where the checksum of a block of attributes lies.
const ATTRIBUTES: usize = 0x10;
/// Bytes of the record that ends a directory block and holds its checksum.
const TAIL: usize = 12;

/// What has passed.
pub(super) struct Passed(Vec<AtomicU64>);

impl Passed {
    pub(super) fn new() -> Self {
        Self((0..REMEMBERED).map(|_| AtomicU64::new(u64::MAX)).collect())
    }

    /// Has the structure at this byte passed, as one of this inode?
    fn knows(&self, key: u64) -> bool {
        self.slot(key).is_some_and(|slot| slot.load(Ordering::Relaxed) == key)
    }

    fn remember(&self, key: u64) {
        if let Some(slot) = self.slot(key) {
            slot.store(key, Ordering::Relaxed);
        }
    }

    fn slot(&self, key: u64) -> Option<&AtomicU64> {
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.0.get(crate::num::narrow(spread) % REMEMBERED)
    }
}

/// Byte and inode in one number. Volumes have less than 2^56 bytes, structures lie at multiples of 16.
const fn key(byte: u64, ino: u64) -> u64 {
    (byte >> 4) ^ ino.rotate_left(40)
}

fn zeros(crc: u32, count: usize) -> u32 {
    crc32c_on(crc, [0; 4].get(..count).unwrap_or_default())
}

fn part(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to).unwrap_or_default()
}

/// The checksum of inode `ino`, and the one it carries.
fn inode(seed: u32, ino: u64, raw: &[u8]) -> (u32, u32) {
    let crc = crc32c_on(inode_seed(seed, ino, raw), part(raw, 0, INODE_LOW));
    let crc = crc32c_on(zeros(crc, 2), part(raw, INODE_LOW.saturating_add(2), 128.min(raw.len())));
    let low = u32::from(get_le16(raw, INODE_LOW).unwrap_or(0));
    let extra = get_le16(raw, 128).unwrap_or(0);
    if raw.len() <= 128 {
        return (crc & 0xffff, low);
    }
    let crc = crc32c_on(crc, part(raw, 128, INODE_HIGH));
    if extra < 4 {
        return (crc32c_on(crc, part(raw, INODE_HIGH, raw.len())) & 0xffff, low);
    }
    let crc = crc32c_on(zeros(crc, 2), part(raw, INODE_HIGH.saturating_add(2), raw.len()));
    (crc, low | u32::from(get_le16(raw, INODE_HIGH).unwrap_or(0)) << 16)
}

/// What the checksums of an inode's own blocks start from.
fn inode_seed(seed: u32, ino: u64, raw: &[u8]) -> u32 {
    let number = u32::try_from(ino).unwrap_or(0).to_le_bytes();
    crc32c_on(crc32c_on(seed, &number), part(raw, 0x64, 0x68))
}

/// What kind of block of a directory it is, by its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Names, and a tail with the checksum.
    Leaf,
    /// A node of the index whose table starts at this byte.
    Node(usize),
}

fn shape(block: &[u8], is_first: bool, has_index: bool) -> Shape {
    let len = |at: usize| get_le16(block, at).map(usize::from);
    let all = |stored: Option<usize>| match stored {
        // In blocks of 64 KiB the sixteen bits do not reach.
        Some(0 | 65535) => block.len() >= 65536,
        Some(stored) => stored == block.len(),
        None => false,
    };
    if !is_first && get_le32(block, 0) == Some(0) && all(len(4)) {
        Shape::Node(8)
    } else if is_first && has_index {
        Shape::Node(32)
    } else {
        Shape::Leaf
    }
}

/// The checksum of a block of a directory, and the one it carries; `None` where it has no room for one.
fn directory(seed: u32, block: &[u8], shape: Shape) -> Option<(u32, u32)> {
    match shape {
        Shape::Leaf => {
            let at = block.len().checked_sub(TAIL)?;
            let tail = block.get(at..)?;
            let is_tail = get_le32(tail, 0)? == 0 && tail.get(4..8)? == [12, 0, 0, 0xde];
            is_tail.then_some((crc32c_on(seed, part(block, 0, at)), get_le32(tail, 8)?))
        }
        Shape::Node(at) => {
            let (limit, count) = (get_le16(block, at)?, get_le16(block, at.checked_add(2)?)?);
            let behind = |entries: u16| at.saturating_add(usize::from(entries).saturating_mul(8));
            let tail = block.get(behind(limit)..)?;
            let crc = crc32c_on(crc32c_on(seed, block.get(..behind(count))?), tail.get(..4)?);
            Some((zeros(crc, 4), get_le32(tail, 4)?))
        }
    }
}

impl Ext {
    /// The seed, if metadata has checksums.
    fn seed(&self) -> Option<u32> {
        self.features().has(Set::METADATA_CSUM).then(|| self.sb.checksum_seed())
    }

    fn wrong(at: At, (made, stored): (u32, u32)) -> Error {
        Error::corrupt(at).because(format!("its checksum is {stored:#x}, its bytes have {made:#x}"))
    }

    /// Does inode `ino`, which lies at this byte, have the checksum that it says?
    ///
    /// # Errors
    /// `Corrupt` when not.
    pub(super) fn check_inode(&self, ino: u64, byte: u64, raw: &[u8]) -> Result<()> {
        let Some(seed) = self.seed().filter(|_| self.sb.is_linux()) else { return Ok(()) };
        let key = key(byte, ino);
        if self.passed.knows(key) {
            return Ok(());
        }
        let sums = inode(seed, ino, raw);
        if sums.0 != sums.1 {
            return Err(Self::wrong(At::new("ext", "inode").index(ino).byte(byte), sums));
        }
        self.passed.remember(key);
        Ok(())
    }

    /// Does a node of an inode's extent tree have the checksum that it says? It stands behind the room for entries.
    ///
    /// # Errors
    /// `Corrupt` when not.
    pub(super) fn check_extents(&self, inode: &Inode, node: &[u8], at: &At, byte: u64) -> Result<()> {
        let Some(seed) = self.seed() else { return Ok(()) };
        let key = key(byte, inode.ino);
        if self.passed.knows(key) {
            return Ok(());
        }
        let room = get_le16(node, 4).map_or(0, usize::from);
        let end = room.saturating_add(1).saturating_mul(12);
        let stored = get_le32(node, end)
            .ok_or_else(|| Error::corrupt(at.clone()).because(format!("room for {room} entries")))?;
        let made = crc32c_on(inode_seed(seed, inode.ino, &inode.raw), part(node, 0, end));
        if made != stored {
            return Err(Self::wrong(at.clone(), (made, stored)));
        }
        self.passed.remember(key);
        Ok(())
    }

    /// Does a block of a directory have the checksum that it says?
    ///
    /// # Errors
    /// `Corrupt` when not.
    pub(super) fn check_directory(&self, inode: &Inode, logical: u64, block: &[u8], byte: u64) -> Result<()> {
        let Some(seed) = self.seed() else { return Ok(()) };
        let key = key(byte, inode.ino);
        if self.passed.knows(key) {
            return Ok(());
        }
        let at = || At::new("ext", "directory of inode").index(inode.ino).byte(byte);
        let shape = shape(block, logical == 0, inode.has(super::inode::flag::INDEX));
        let sums = directory(inode_seed(seed, inode.ino, &inode.raw), block, shape);
        let sums = sums.ok_or_else(|| Error::corrupt(at()).because("a block without its checksum"))?;
        if sums.0 != sums.1 {
            return Err(Self::wrong(at(), sums));
        }
        self.passed.remember(key);
        Ok(())
    }

    /// Does a block of attributes have the checksum that it says? Its place is part of it.
    ///
    /// # Errors
    /// `Corrupt` when not.
    pub(super) fn check_attributes(&self, number: u64, block: &[u8], at: &At) -> Result<()> {
        let Some(seed) = self.seed() else { return Ok(()) };
        let crc = crc32c_on(crc32c_on(seed, &number.to_le_bytes()), part(block, 0, ATTRIBUTES));
        let made = crc32c_on(zeros(crc, 4), part(block, ATTRIBUTES.saturating_add(4), block.len()));
        let stored = get_le32(block, ATTRIBUTES).unwrap_or(0);
        if made == stored { Ok(()) } else { Err(Self::wrong(at.clone(), (made, stored))) }
    }

    /// The checksum of an attribute's value in an inode of its own.
    pub(super) fn value_sum(&self, value: &[u8]) -> u32 {
        crc32c_on(self.sb.checksum_seed(), value)
    }

    /// Does the descriptor of a group have the checksum that it says?
    pub(super) fn group_holds(&self, group: u64, descriptor: &[u8], byte: u64) -> bool {
        let key = key(byte, group);
        if self.passed.knows(key) {
            return true;
        }
        let number = u32::try_from(group).unwrap_or(0).to_le_bytes();
        let (before, behind) =
            (part(descriptor, 0, GROUP), part(descriptor, GROUP.saturating_add(2), descriptor.len()));
        let made = if let Some(seed) = self.seed() {
            let crc = zeros(crc32c_on(crc32c_on(seed, &number), before), 2);
            crc32c_on(crc, behind) & 0xffff
        } else if self.features().has(Set::GROUP_CSUM) {
            let crc = crc16_on(crc16_on(crc16_on(!0, self.sb.uuid_bytes()), &number), before);
            u32::from(crc16_on(crc, behind))
        } else {
            return true;
        };
        let holds = get_le16(descriptor, GROUP).map(u32::from) == Some(made);
        if holds {
            self.passed.remember(key);
        }
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_directory_are_told_by_their_shape() {
        let mut block = vec![0; 1024];
        block[..8].copy_from_slice(&[0, 0, 0, 0, 0, 4, 0, 0]);
        assert_eq!(shape(&block, false, true), Shape::Node(8));
        assert_eq!(shape(&block, true, true), Shape::Node(32));
        assert_eq!(shape(&block, true, false), Shape::Leaf);
        block[0] = 12;
        assert_eq!(shape(&block, false, true), Shape::Leaf);
    }

    #[test]
    fn what_has_passed_is_known_for_its_inode_alone() {
        let passed = Passed::new();
        passed.remember(key(4096, 12));
        assert!(passed.knows(key(4096, 12)));
        assert!(!passed.knows(key(4096, 13)) && !passed.knows(key(8192, 12)));
    }

    #[test]
    fn a_table_that_leaves_the_block_has_no_checksum() {
        let mut block = vec![0; 64];
        block[8] = 200;
        assert_eq!(directory(0, &block, Shape::Node(8)), None);
        assert_eq!(directory(0, &block, Shape::Leaf), None);
        assert_eq!(directory(0, &[], Shape::Leaf), None);
    }
}
