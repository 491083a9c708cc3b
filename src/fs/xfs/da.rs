//! Blocks of directories and attributes, and the tree of name hashes that both have: nodes above, leaves of either kind
//! below.
//!
//! ```text
//! block   next, previous │ magic │ (version 5: seal) │ count │ …
//! node    level │ greatest hash of a child, its block │ …
//! ```
//! "XFS Algorithms & Data Structures", "Directories", "Node Directories", and "Extended Attributes".

use super::Xfs;
use super::inode::{Fork, Inode};
use super::map::{Map, Place};
use super::seal::Seal;
use crate::error::{At, Error, Result};
use crate::fs::meta::Bytes;
use crate::num::narrow;
use crate::ondisk::{get_be16, get_be32};
use std::collections::HashSet;
use std::ops::Deref;

/// Levels of nodes (`XFS_DA_NODE_MAXDEPTH`): each is one less than the one above, so a loop ends.
const MAX_LEVELS: u16 = 5;
/// Magic numbers of nodes, in version 4 and 5.
const NODE: [u16; 2] = [0xfebe, 0x3ebe];

/// A block of a fork: as it lies on the volume, or put together from pieces that do not follow each other there.
#[derive(Clone, Debug)]
pub(super) enum Block {
    Whole(Bytes),
    Pieces(Vec<u8>),
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Pieces(bytes) => bytes,
        }
    }
}

/// A block and the volume's byte where it starts.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) bytes: Block,
    pub(super) byte: u64,
}

impl Placed {
    /// The magic number of a node or leaf.
    pub(super) fn magic(&self) -> u16 {
        get_be16(&self.bytes, 8).unwrap_or(0)
    }

    /// The next block of its level, 0 for none.
    pub(super) fn next(&self) -> u64 {
        get_be32(&self.bytes, 0).map_or(0, u64::from)
    }

    /// Entries it has.
    pub(super) fn count(&self, is_v5: bool) -> usize {
        get_be16(&self.bytes, if is_v5 { 56 } else { 12 }).map_or(0, usize::from)
    }

    pub(super) fn is_node(&self) -> bool {
        NODE.contains(&self.magic())
    }
}

/// Blocks remembered; of a longer walk, those that came first.
const MAX_SEEN: usize = 1 << 18;

/// The blocks that a walk has met, by where they lie. A sound fork has each once: what comes again is a circle, or one
/// block that stands for many.
#[derive(Debug, Default)]
pub(super) struct Seen(HashSet<u64>);

impl Seen {
    /// Takes note of a block.
    ///
    /// # Errors
    /// `Corrupt` for one that was met before.
    pub(super) fn meet(&mut self, inode: &Inode, byte: u64) -> Result<()> {
        let is_new = if self.0.len() < MAX_SEEN { self.0.insert(byte) } else { !self.0.contains(&byte) };
        if is_new {
            return Ok(());
        }
        Err(Error::corrupt(inode.at()).because(format!("it has the block at byte {byte} twice")))
    }
}

impl Xfs {
    /// The `len` bytes from block `logical` of a fork on; `None` when nothing is stored there.
    ///
    /// # Errors
    /// `Corrupt` when the map is damaged or a part is missing; what the volume reports.
    pub(super) fn fork_block(
        &self,
        inode: &Inode,
        fork: &Fork,
        logical: u64,
        len: u64,
    ) -> Result<Option<Placed>> {
        let mut map = Map::new(self, inode, fork);
        self.mapped_block(&mut map, inode, logical, len)
    }

    /// As [`Xfs::fork_block`], by a map that is at hand.
    ///
    /// # Errors
    /// The same.
    pub(super) fn mapped_block(
        &self,
        map: &mut Map<'_>,
        inode: &Inode,
        logical: u64,
        len: u64,
    ) -> Result<Option<Placed>> {
        let blocks = len.checked_div(self.sb.block_size).unwrap_or(1).max(1);
        let first = map.at(logical, blocks)?;
        let Place::At(byte) = first.place else { return Ok(None) };
        if first.blocks >= blocks {
            let bytes = Block::Whole(self.meta.near(byte, len)?);
            return Ok(Some(Placed { bytes, byte }));
        }
        // At most 64 KiB: no block of a directory is longer.
        let mut bytes = Vec::with_capacity(narrow(len));
        for n in 0..blocks {
            let piece = map.at(logical.saturating_add(n), 1)?;
            let Place::At(byte) = piece.place else {
                let why = format!("block {} of a block of {blocks} is missing", n.saturating_add(logical));
                return Err(Error::corrupt(inode.at()).because(why));
            };
            bytes.extend_from_slice(&self.meta.near(byte, self.sb.block_size)?);
        }
        Ok(Some(Placed { bytes: Block::Pieces(bytes), byte }))
    }

    /// Follows nodes from the block `root` on down to the leaf where `hash` would stand, or to the first leaf. Answers
    /// with the leaf, its seal checked.
    ///
    /// # Errors
    /// `Corrupt` when a block on the way is missing or not what it should be.
    pub(super) fn da_leaf(
        &self,
        inode: &Inode,
        fork: &Fork,
        root: u64,
        hash: Option<u32>,
        len: u64,
    ) -> Result<Placed> {
        let is_v5 = self.sb.features.is_v5();
        let mut logical = root;
        let mut above: Option<u16> = None;
        loop {
            let block = self.da_block(inode, fork, logical, len)?;
            if !block.is_node() {
                // Leaves hang below nodes of level 1 alone.
                if above.is_some_and(|level| level != 1) {
                    return Err(self.da_error(inode, &block).because("a leaf where a node should be"));
                }
                return Ok(block);
            }
            let level = get_be16(&block.bytes, if is_v5 { 58 } else { 14 }).unwrap_or(0);
            let expected = above.is_none_or(|above| above.checked_sub(1) == Some(level));
            if level == 0 || level > MAX_LEVELS || !expected {
                return Err(self.da_error(inode, &block).because(format!("a node of level {level}")));
            }
            let table = block.bytes.get(if is_v5 { 64 } else { 16 }..).unwrap_or_default();
            let used = block.count(is_v5).saturating_mul(8);
            let entries = table.get(..used).filter(|entries| !entries.is_empty());
            let entries = entries.ok_or_else(|| {
                self.da_error(inode, &block).because(format!("{} entries in a node", used / 8))
            })?;
            let mut all = entries.chunks_exact(8);
            // Past the last hash nothing stands; the last child is as good as any to find that.
            let chosen = all.find(|entry| hash.is_none_or(|hash| get_be32(entry, 0) >= Some(hash)));
            let chosen = chosen.or_else(|| entries.chunks_exact(8).next_back());
            logical = chosen.and_then(|entry| get_be32(entry, 4)).map_or(0, u64::from);
            above = Some(level);
        }
    }

    /// A node or leaf, its seal checked.
    ///
    /// # Errors
    /// `Corrupt` when it is missing or not what it should be.
    pub(super) fn da_block(&self, inode: &Inode, fork: &Fork, logical: u64, len: u64) -> Result<Placed> {
        let block = self.fork_block(inode, fork, logical, len)?;
        let block = block.ok_or_else(|| {
            let why = format!("its block {logical} should hold an index and is not there");
            Error::corrupt(inode.at()).because(why)
        })?;
        let at = At::new("xfs", "index block of inode").index(inode.ino).byte(block.byte);
        self.check_seal(Seal::DA, &block.bytes, block.byte, Some(inode.ino), &at)?;
        Ok(block)
    }

    pub(super) fn da_error(&self, inode: &Inode, block: &Placed) -> Error {
        Error::corrupt(At::new("xfs", "index block of inode").index(inode.ino).byte(block.byte))
    }
}

/// The hash of a name, over bytes as `fold` makes them (`xfs_da_hashname`).
pub(super) fn hash(name: &[u8], fold: impl Fn(u8) -> u8) -> u32 {
    name.iter().fold(0_u32, |hash, byte| u32::from(fold(*byte)) ^ hash.rotate_left(7))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `xfs_db -c 'hash NAME'` of xfsprogs 6.1.0.
    #[test]
    fn hashes_are_those_of_xfs_db() {
        let plain = |name: &str| hash(name.as_bytes(), |byte| byte);
        assert_eq!(plain("a"), 0x61);
        assert_eq!(plain("hello"), 0x8cbb_3669);
        assert_eq!(plain("SGI_ACL_FILE"), 0x275b_19c4);
        assert_eq!(plain("file-000123"), 0xeac6_f504);
    }
}
