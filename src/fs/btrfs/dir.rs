//! Directories: each name stands twice, once under its hash, to be found, and once under its index, to be listed in the
//! order in which the names were made.
//!
//! ```text
//! (dir DIR_ITEM  hash)   location, type, name; several, if their hashes are equal
//! (dir DIR_INDEX index)  location, type, name
//! ```
//! btrfs on-disk format, "DIR_ITEM", "DIR_INDEX". Attributes have the same form.

use super::Btrfs;
use super::inode::kind_of;
use super::key::{Key, kind, object};
use super::tree::Tree;
use crate::checksum::crc32c_on;
use crate::error::{At, Error, Result};
use crate::fs::{DirEntry, FileType, Ino};
use crate::ondisk::get_le16;
use std::ops::ControlFlow;

/// Bytes of an entry before its name.
const HEADER: usize = 30;
/// `type`: the name is encrypted. No kernel of Linux has written it yet.
const ENCRYPTED: u8 = 0x80;

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// The key of what it names.
    pub(super) target: Key,
    /// `BTRFS_FT_*`.
    pub(super) kind: u8,
    pub(super) name: &'a [u8],
    /// The value of an attribute.
    pub(super) data: &'a [u8],
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// An inode of the same tree.
    Inode(u64),
    /// The root directory of another tree.
    Subvolume(u64),
}

impl Entry<'_> {
    /// Bytes of it, as stored.
    pub(super) const fn size(&self) -> usize {
        HEADER.saturating_add(self.name.len()).saturating_add(self.data.len())
    }

    /// What it leads to.
    ///
    /// # Errors
    /// Why it leads nowhere.
    pub(super) fn location(&self) -> Result<Location, String> {
        match self.target.kind {
            kind::INODE => Ok(Location::Inode(self.target.object)),
            kind::ROOT => Ok(Location::Subvolume(self.target.object)),
            _ => Err(format!("a name leads to {}, which is no file", self.target)),
        }
    }

    fn file_type(&self) -> Option<FileType> {
        match self.kind & !ENCRYPTED {
            1 => Some(FileType::File),
            2 => Some(FileType::Dir),
            3 => Some(FileType::Char),
            4 => Some(FileType::Block),
            5 => Some(FileType::Fifo),
            6 => Some(FileType::Socket),
            7 => Some(FileType::Symlink),
            _ => None,
        }
    }
}

/// The entries of an item.
pub(super) fn entries(data: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, String>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = (|| {
            let target = Key::parse(rest, 0)?;
            let (data_len, name_len) = (usize::from(get_le16(rest, 25)?), usize::from(get_le16(rest, 27)?));
            let kind = *rest.get(29)?;
            let (name, after) = rest.get(HEADER..)?.split_at_checked(name_len)?;
            let (data, after) = after.split_at_checked(data_len)?;
            rest = after;
            Some(Entry { target, kind, name, data })
        })();
        if entry.is_none() {
            rest = &[];
        }
        Some(entry.ok_or_else(|| "a torn entry".to_owned()))
    })
}

/// Does an item have this name?
pub(super) fn has_name(item: &[u8], name: &[u8]) -> bool {
    entries(item).flatten().any(|entry| entry.name == name)
}

/// The entries of an item that are to stay.
pub(super) fn without(item: &[u8], stays: impl Fn(&Entry<'_>) -> bool) -> Result<Vec<u8>, String> {
    let mut left = Vec::new();
    let mut rest = item;
    for entry in entries(item) {
        let entry = entry?;
        let (now, after) = rest.split_at_checked(entry.size()).unwrap_or((rest, &[]));
        if stays(&entry) {
            left.extend_from_slice(now);
        }
        rest = after;
    }
    Ok(left)
}

/// The type in a directory's entry: `BTRFS_FT_*`.
pub(super) const fn type_of(mode: u32) -> u8 {
    match kind_of(mode) {
        Some(FileType::File) => 1,
        Some(FileType::Dir) => 2,
        Some(FileType::Char) => 3,
        Some(FileType::Block) => 4,
        Some(FileType::Fifo) => 5,
        Some(FileType::Socket) => 6,
        Some(FileType::Symlink) => 7,
        None => 0,
    }
}

/// The hash that a name or attribute is found by.
pub(super) fn name_hash(name: &[u8]) -> u64 {
    crc32c_on(!1, name).into()
}

/// The hash that a further name of an inode is found by.
pub(super) fn extref_hash(dir: u64, name: &[u8]) -> u64 {
    let [a, b, c, d, ..] = dir.to_le_bytes();
    crc32c_on(u32::from_le_bytes([a, b, c, d]), name).into()
}

/// Damage in directory `dir`.
pub(super) fn bad(dir: u64, why: &str) -> Error {
    Error::corrupt(At::new("btrfs", "directory").index(dir)).because(why)
}

impl Btrfs {
    /// What a name of directory `dir` leads to, as a number of ours.
    fn follow(&self, tree: &Tree, dir: u64, name: &[u8], location: Location) -> Result<Ino> {
        match location {
            Location::Inode(number) => self.ino(tree.id, number, false),
            Location::Subvolume(id) if self.pool.hangs(tree.id, dir, name, id)? => {
                self.ino(id, object::FIRST_FREE, false)
            }
            Location::Subvolume(_) => self.ino(tree.id, dir, true),
        }
    }

    pub(super) fn find(&self, tree: &Tree, dir: u64, name: &[u8]) -> Result<Option<Ino>> {
        self.pool.inode_of(tree, dir, FileType::Dir)?;
        let found = self.pool.find_name(tree, dir, name)?;
        found.map(|location| self.follow(tree, dir, name, location)).transpose()
    }

    pub(super) fn list(
        &self,
        tree: &Tree,
        dir: u64,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.pool.inode_of(tree, dir, FileType::Dir)?;
        let mut items = self.pool.items(tree, Key::new(dir, kind::DIR_INDEX, from))?;
        while let Some(item) = items.next_of(dir, kind::DIR_INDEX)? {
            // One index has one name.
            let Some(entry) = entries(&item.data).next() else { continue };
            let entry = entry.map_err(|why| bad(dir, &format!("index {}: {why}", item.key.offset)))?;
            let location = entry.location().map_err(|why| bad(dir, &why))?;
            let ino = self.follow(tree, dir, entry.name, location)?;
            let Some(next) = item.key.offset.checked_add(1) else { break };
            let entry = DirEntry { ino, kind: entry.file_type(), name: entry.name, next };
            if sink(entry).is_break() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_name_is_the_kernels() {
        // `btrfs inspect-internal dump-tree` of any file system: (6 DIR_ITEM 2378154706) is "default".
        assert_eq!(name_hash(b"default"), 2_378_154_706);
    }

    #[test]
    fn a_torn_entry_is_seen_once() {
        let mut item = Key::new(257, kind::INODE, 0).bytes();
        item.extend([0; 8]);
        item.extend([0, 0, 3, 0, 1]);
        item.extend(b"abc");
        let whole = item.repeat(2);
        let names: Vec<&[u8]> = entries(&whole).map(|entry| entry.unwrap().name).collect();
        assert_eq!(names, [b"abc", b"abc"]);
        let torn: Vec<bool> = entries(&whole[..whole.len() - 1]).map(|entry| entry.is_ok()).collect();
        assert_eq!(torn, [true, false]);
    }
}
