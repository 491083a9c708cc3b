//! Finding a name by its hash: the index of a directory of one block, one leaf, or leaves below nodes.
//!
//! ```text
//! leaf   next, previous │ magic │ (seal) │ count │ of those unused │ hash 4, place 4 │ hash, place │ …
//! ```
//! Entries stand in the order of hashes; a place is a number of eight bytes in the directory, 0 for an unused entry.
//! "XFS Algorithms & Data Structures", "Leaf Directories" and "Node Directories".

use super::super::Xfs;
use super::super::da::{Placed, hash};
use super::super::inode::Inode;
use super::data::Names;
use super::{INDEX_AT, Match, fold};
use crate::error::{Error, Result};
use crate::num::narrow;
use crate::ondisk::get_be32;
use std::ops::Range;

/// Magic numbers of leaves: the only one, and one of several, in version 4 and 5.
const LEAVES: [u16; 4] = [0xd2f1, 0xd2ff, 0x3df1, 0x3dff];
/// Names of one and the same hash that are compared; past that the directory is read from its start, which costs less.
const MAX_SAME_HASH: u32 = 4096;

impl Xfs {
    /// Looks a name up by its hash.
    ///
    /// # Errors
    /// `Corrupt` when the index is damaged or leads to what is no name; `Limit` for too many names of one hash.
    pub(super) fn find_by_hash(&self, inode: &Inode, name: &[u8]) -> Result<Option<u64>> {
        let mut search = Search {
            xfs: self,
            inode,
            name,
            wanted: self.name_hash(name),
            block: None,
            best: None,
            last: 0,
            left: MAX_SAME_HASH,
        };
        let first = self.dir_block(inode, 0)?;
        let first =
            first.ok_or_else(|| Error::corrupt(inode.at()).because("a directory without its first block"))?;
        if let Some(entries) = self.single_index(&first) {
            self.check_data(inode, &first)?;
            search.look(entries)?;
            return Ok(search.best.map(|(_, ino)| ino));
        }
        let is_v5 = self.sb.features.is_v5();
        let (root, _) = self.split(INDEX_AT);
        let size = self.sb.dir_block_size;
        let mut leaf = self.da_leaf(inode, &inode.data, root, Some(search.wanted), size)?;
        // Ends: each further leaf starts with the wanted hash, and of that only so many are looked at.
        loop {
            if !LEAVES.contains(&leaf.magic()) {
                return Err(self
                    .da_error(inode, &leaf)
                    .because(format!("no leaf, by its magic number {:#x}", leaf.magic())));
            }
            let table = leaf.bytes.get(if is_v5 { 64 } else { 16 }..).unwrap_or_default();
            let used = leaf.count(is_v5).saturating_mul(8);
            let entries = table.get(..used);
            let entries =
                entries.ok_or_else(|| self.da_error(inode, &leaf).because("more entries than fit"))?;
            let goes_on = search.look(entries)?;
            let next = leaf.next();
            if !goes_on || next == 0 || search.is_done() {
                return Ok(search.best.map(|(_, ino)| ino));
            }
            leaf = self.da_block(inode, &inode.data, next, size)?;
        }
    }

    fn name_hash(&self, name: &[u8]) -> u32 {
        if self.folds_case() { hash(name, fold) } else { hash(name, |byte| byte) }
    }
}

/// One look-up under way.
struct Search<'a> {
    xfs: &'a Xfs,
    inode: &'a Inode,
    name: &'a [u8],
    wanted: u32,
    /// The block of names last read, by its number.
    block: Option<(u64, Placed, Range<usize>)>,
    /// The best match so far, and its inode.
    best: Option<(Match, u64)>,
    /// The greatest hash met, where leaves follow each other.
    last: u32,
    left: u32,
}

impl Search<'_> {
    fn is_done(&self) -> bool {
        self.best.is_some_and(|(how, _)| how == Match::Exact)
    }

    /// Compares the names that the entries of the wanted hash lead to. Answers whether the next leaf may have more.
    fn look(&mut self, entries: &[u8]) -> Result<bool> {
        let (all, _) = entries.as_chunks::<8>();
        let hash = |entry: &[u8; 8]| get_be32(entry, 0).unwrap_or(0);
        // The kernel goes on to the next leaf only where the last hash is the wanted one.
        let Some((low, high)) = all.first().map(hash).zip(all.last().map(hash)) else { return Ok(false) };
        if low < self.last || high < low {
            let why = format!("an index of hashes {low:#x} to {high:#x} behind {:#x}", self.last);
            return Err(Error::corrupt(self.inode.at()).because(why));
        }
        self.last = high;
        let first = all.partition_point(|entry| hash(entry) < self.wanted);
        for entry in all.get(first..).unwrap_or_default() {
            if hash(entry) != self.wanted {
                return Ok(false);
            }
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                Error::limit(format!("more than {MAX_SAME_HASH} names of one hash")).at(self.inode.at())
            })?;
            let place = get_be32(entry, 4).map_or(0, u64::from);
            if place != 0 {
                self.compare(place.saturating_mul(8))?;
                if self.is_done() {
                    return Ok(false);
                }
            }
        }
        Ok(high == self.wanted)
    }

    /// Compares the name at byte `at` of the directory.
    fn compare(&mut self, at: u64) -> Result<()> {
        let size = self.xfs.sb.dir_block_size;
        let (number, inside) = (at.checked_div(size).unwrap_or(0), at.checked_rem(size).unwrap_or(0));
        if self.block.as_ref().is_none_or(|(held, ..)| *held != number) {
            let block = self.xfs.dir_block(self.inode, at)?;
            let block = block.ok_or_else(|| self.astray(at))?;
            let range = self.xfs.check_data(self.inode, &block)?;
            self.block = Some((number, block, range));
        }
        let (_, block, range) = self.block.as_ref().expect("set above");
        let names = Names::new(&block.bytes, range.clone(), self.xfs.sb.features.has_types());
        let there = names.one(narrow(inside)).ok_or_else(|| self.astray(at))?;
        let how = self.xfs.compare(self.name, there.name);
        let is_better = how == Match::Exact || (how == Match::Folded && self.best.is_none());
        if is_better {
            self.best = Some((how, there.ino));
        }
        Ok(())
    }

    fn astray(&self, at: u64) -> Error {
        Error::corrupt(self.inode.at()).because(format!("its index leads to byte {at}, where no name stands"))
    }
}
