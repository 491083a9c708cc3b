//! The key: what every item of every tree is found by. An object, a kind of item, and a number whose meaning the kind says.
//!
//! btrfs on-disk format, "Key": 17 bytes, ordered by object, kind, offset.

use crate::ondisk::get_le64;
use std::fmt;

/// Kinds of items: the kernel's `BTRFS_*_KEY`.
pub(super) mod kind {
    pub(crate) const INODE: u8 = 1;
    pub(crate) const INODE_REF: u8 = 12;
    pub(crate) const INODE_EXTREF: u8 = 13;
    pub(crate) const XATTR: u8 = 24;
    pub(crate) const DIR_LOG_INDEX: u8 = 72;
    pub(crate) const DIR_ITEM: u8 = 84;
    pub(crate) const DIR_INDEX: u8 = 96;
    pub(crate) const EXTENT_DATA: u8 = 108;
    pub(crate) const EXTENT_CSUM: u8 = 128;
    pub(crate) const ROOT: u8 = 132;
    pub(crate) const ROOT_BACKREF: u8 = 144;
    pub(crate) const ROOT_REF: u8 = 156;
    pub(crate) const DEVICE: u8 = 216;
    pub(crate) const CHUNK: u8 = 228;
}

/// Objects with a meaning of their own: the kernel's `BTRFS_*_OBJECTID`.
pub(super) mod object {
    pub(crate) const ROOT_TREE: u64 = 1;
    pub(crate) const CHUNK_TREE: u64 = 3;
    /// The subvolume that every file system has.
    pub(crate) const FS_TREE: u64 = 5;
    pub(crate) const CSUM_TREE: u64 = 7;
    /// In the tree of chunks: the devices.
    pub(crate) const DEVICES: u64 = 1;
    /// What the kernel shows in place of a subvolume that is not where its name stands.
    pub(crate) const EMPTY_DIR: u64 = 2;
    /// The first that files and subvolumes have; the root directory of each.
    pub(crate) const FIRST_FREE: u64 = 256;
    pub(crate) const LAST_FREE: u64 = 0_u64.wrapping_sub(256);
    pub(crate) const LOG_TREE: u64 = 0_u64.wrapping_sub(6);
    pub(crate) const CSUMS: u64 = 0_u64.wrapping_sub(10);

    /// Is it the number of a subvolume's tree?
    pub(crate) const fn is_subvolume(id: u64) -> bool {
        id == FS_TREE || (id >= FIRST_FREE && id <= LAST_FREE)
    }
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) object: u64,
    pub(super) kind: u8,
    pub(super) offset: u64,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.object, self.kind, self.offset)
    }
}

impl Key {
    /// Bytes of a key.
    pub(super) const SIZE: usize = 17;
    /// The last there can be.
    pub(super) const LAST: Self = Self::new(u64::MAX, u8::MAX, u64::MAX);

    pub(super) const fn new(object: u64, kind: u8, offset: u64) -> Self {
        Self { object, kind, offset }
    }

    /// The key at byte `at`.
    pub(super) fn parse(bytes: &[u8], at: usize) -> Option<Self> {
        let bytes = bytes.get(at..)?.get(..Self::SIZE)?;
        Some(Self { object: get_le64(bytes, 0)?, kind: *bytes.get(8)?, offset: get_le64(bytes, 9)? })
    }

    /// As stored.
    pub(super) fn bytes(self) -> Vec<u8> {
        [self.object.to_le_bytes().as_slice(), &[self.kind], &self.offset.to_le_bytes()].concat()
    }

    /// The one right after it.
    pub(super) const fn after(self) -> Option<Self> {
        match (self.offset.checked_add(1), self.kind.checked_add(1), self.object.checked_add(1)) {
            (Some(offset), ..) => Some(Self { offset, ..self }),
            (None, Some(kind), _) => Some(Self { kind, offset: 0, ..self }),
            (None, None, Some(object)) => Some(Self { object, kind: 0, offset: 0 }),
            (None, None, None) => None,
        }
    }

    /// The one right before it.
    pub(super) const fn before(self) -> Option<Self> {
        match (self.offset.checked_sub(1), self.kind.checked_sub(1), self.object.checked_sub(1)) {
            (Some(offset), ..) => Some(Self { offset, ..self }),
            (None, Some(kind), _) => Some(Self { kind, offset: u64::MAX, ..self }),
            (None, None, Some(object)) => Some(Self { object, kind: u8::MAX, offset: u64::MAX }),
            (None, None, None) => None,
        }
    }

    /// Is it of this object and kind?
    pub(super) const fn is(self, object: u64, kind: u8) -> bool {
        self.object == object && self.kind == kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_each_other() {
        let key = Key::new(7, 3, u64::MAX);
        assert_eq!(key.after(), Some(Key::new(7, 4, 0)));
        assert_eq!(Key::new(7, 4, 0).before(), Some(key));
        assert_eq!(Key::new(u64::MAX, 255, u64::MAX).after(), None);
        assert_eq!(Key::parse(&key.bytes(), 0), Some(key));
    }
}
