//! Directories. Small ones lie in the inode; larger ones have blocks of names, and an index of hashes behind them.
//!
//! ```text
//! directory    byte 0                        32 GiB                        64 GiB
//! in the inode header │ name │ name …                                              shortform
//! one block    names … │ index                                                     block
//! several      names │ names │ names …       │ leaf, or nodes and leaves │ …       data, index
//! ```
//! A place in the directory is the number of the eight bytes where a name starts, as the kernel's `d_off` counts; in the
//! inode, too, each name keeps the place that it would have in a block. So places stay good when a directory grows.
//!
//! "XFS Algorithms & Data Structures", "Directories".

use super::Xfs;
use super::da::Seen;
use super::features::Bit;
use super::inode::{Format, Inode};
use super::map::{Map, Place};
use crate::budget::{Budget, Limits};
use crate::error::{Error, Result};
use crate::fs::{DirEntry, FileType, Ino};
use data::Names;
use std::ops::ControlFlow;

mod data;
mod index;
mod shortform;

/// Where the index starts, in bytes of the directory.
const INDEX_AT: u64 = 32 << 30;

/// A name, wherever it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) ino: u64,
    pub(super) name: &'a [u8],
    pub(super) kind: Option<FileType>,
    /// Byte of its block, or the one it would have, where it starts.
    pub(super) at: u64,
}

/// What a listing does with each name and its place.
type Sink<'a> = dyn FnMut(Name<'_>, u64) -> ControlFlow<()> + 'a;

const fn file_type(kind: u8) -> Option<FileType> {
    Some(match kind {
        1 => FileType::File,
        2 => FileType::Dir,
        3 => FileType::Char,
        4 => FileType::Block,
        5 => FileType::Fifo,
        6 => FileType::Socket,
        7 => FileType::Symlink,
        _ => return None,
    })
}

/// A letter as directories that ignore case hash and compare it: ASCII, and the letters of Latin-1
/// (`xfs_ascii_ci_need_xfrm`).
const fn fold(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde => byte | 0x20,
        _ => byte,
    }
}

/// How a name that is looked for and one that stands there compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Not,
    /// But for upper and lower case.
    Folded,
    Exact,
}

impl Xfs {
    pub(super) const fn folds_case(&self) -> bool {
        self.sb.features.has(Bit::ASCII_CI)
    }

    fn compare(&self, wanted: &[u8], there: &[u8]) -> Match {
        if wanted == there {
            return Match::Exact;
        }
        let folded = |name: &[u8]| name.iter().copied().map(fold).collect::<Vec<u8>>();
        let is_same = self.folds_case() && wanted.len() == there.len() && folded(wanted) == folded(there);
        if is_same { Match::Folded } else { Match::Not }
    }

    fn directory(&self, dir: Ino) -> Result<Inode> {
        let inode = self.inode(dir)?;
        if inode.kind != FileType::Dir {
            let what = format!("inode {dir} is a {}, not a directory; its entries", inode.kind.name());
            return Err(Error::not_found(what));
        }
        Ok(inode)
    }

    /// Hands over every name of a directory whose place is `from` or later.
    ///
    /// # Errors
    /// `Corrupt` where the directory is damaged; the names before have been handed over.
    fn names(&self, inode: &Inode, from: u64, sink: &mut Sink<'_>) -> Result<()> {
        if inode.data.format == Format::Local {
            return self.names_in_inode(inode, from, sink);
        }
        let (size, block_size) = (self.sb.dir_block_size, self.sb.block_size);
        let step = size.checked_div(block_size).unwrap_or(1).max(1);
        let budget = Budget::new(Limits::LISTING);
        let mut seen = Seen::default();
        let mut map = Map::new(self, inode, &inode.data);
        let end = INDEX_AT.checked_div(block_size).unwrap_or(0);
        // Place to byte to block, down to the first of its directory block.
        let mut logical = from.saturating_mul(8).checked_div(size).unwrap_or(0).saturating_mul(step);
        while logical < end {
            budget.step("directory")?;
            let stretch = map.at(logical, step)?;
            if !matches!(stretch.place, Place::At(_)) {
                let next = logical.saturating_add(stretch.blocks.max(1));
                logical = next.checked_next_multiple_of(step).unwrap_or(end);
                continue;
            }
            if let Some(block) = self.mapped_block(&mut map, inode, logical, size)? {
                seen.meet(inode, block.byte)?;
                let base = logical.saturating_mul(block_size);
                for name in self.block_names(inode, &block)? {
                    let name = name.map_err(|error| error.at(data::place(inode, block.byte)))?;
                    let place = base.saturating_add(name.at) >> 3;
                    if place >= from && sink(name, place).is_break() {
                        return Ok(());
                    }
                }
            }
            logical = logical.saturating_add(step);
        }
        Ok(())
    }

    /// Lists a directory for [`crate::fs::FileSystem::readdir`].
    ///
    /// # Errors
    /// As [`Xfs::names`].
    pub(super) fn list(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let inode = self.directory(dir)?;
        self.names(&inode, from, &mut |name, place| {
            if matches!(name.name, b"." | b"..") {
                return ControlFlow::Continue(());
            }
            let next = place.saturating_add(1);
            sink(DirEntry { ino: Ino(name.ino), kind: name.kind, name: name.name, next })
        })
    }

    /// Looks a name up for [`crate::fs::FileSystem::lookup`]: by the directory's index, or, where that is damaged, by
    /// reading on until the name is found.
    ///
    /// # Errors
    /// `Corrupt` when the directory is damaged before the name was found.
    pub(super) fn find(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let inode = self.directory(dir)?;
        if inode.data.format != Format::Local
            && let Ok(found) = self.find_by_hash(&inode, name)
        {
            return Ok(found.map(Ino));
        }
        let mut best = (Match::Not, 0);
        self.names(&inode, 0, &mut |there, _| {
            let how = self.compare(name, there.name);
            if how == Match::Exact || (how == Match::Folded && best.0 == Match::Not) {
                best = (how, there.ino);
            }
            if how == Match::Exact { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok((best.0 != Match::Not).then_some(Ino(best.1)))
    }

    /// The names of a block, its seal checked.
    fn block_names<'a>(&self, inode: &Inode, block: &'a super::da::Placed) -> Result<Names<'a>> {
        let range = self.check_data(inode, block)?;
        Ok(Names::new(&block.bytes, range, self.sb.features.has_types()))
    }

    /// Bytes of the directory's data that one of its blocks has.
    fn dir_block(&self, inode: &Inode, byte: u64) -> Result<Option<super::da::Placed>> {
        let size = self.sb.dir_block_size;
        let start = byte.checked_div(size).unwrap_or(0).saturating_mul(size);
        let (logical, _) = self.split(start);
        self.fork_block(inode, &inode.data, logical, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_fold_as_in_latin_1() {
        assert_eq!((fold(b'A'), fold(b'z'), fold(b'@'), fold(b'[')), (b'a', b'z', b'@', b'['));
        assert_eq!((fold(0xc0), fold(0xd7), fold(0xde), fold(0xdf)), (0xe0, 0xd7, 0xfe, 0xdf));
    }
}
