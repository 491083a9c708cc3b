//! Where the blocks of a fork lie: a list of extents in the inode, or a tree of blocks with such lists in its leaves.
//!
//! ```text
//! extent 128 bits   unwritten 1 │ file block 54 │ volume block 52 │ blocks 21
//! root in an inode  level, count │ first file block of each child … │ block of each child …
//! node, leaf        "BMAP" or "BMA3", level, count, siblings, seal │ keys … │ children …     or extents …
//! ```
//! "XFS Algorithms & Data Structures", "Data Extents".

use super::Xfs;
use super::inode::{Fork, Format, Inode};
use super::seal::Seal;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_be16, get_be64};

/// The most levels a tree has (`XFS_BM_MAXLEVELS`): each is one less than the one above, so a loop ends.
const MAX_LEVELS: u16 = 16;
/// One past the last block of a file: numbers have 54 bits.
const END: u64 = 1 << 54;
/// Bytes of an extent, and of a key with its child.
const RECORD: usize = 16;
/// Bytes of a node's header in version 4 and 5, and of the root's in an inode.
const HEADER_V4: usize = 24;
const HEADER_V5: usize = 72;
const ROOT_HEADER: usize = 4;

/// Consecutive blocks of a file with one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// How many; at least 1.
    pub(super) blocks: u64,
    pub(super) place: Place,
}

/// Where a stretch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From this byte of the volume on.
    At(u64),
    /// Allocated, never written: reads as zero.
    Unwritten,
    /// Not allocated: reads as zero.
    Hole,
}

/// An extent, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// First block in the file.
    logical: u64,
    /// First block on the volume, group and block in it.
    block: u64,
    len: u64,
    unwritten: bool,
}

impl Extent {
    fn parse(record: &[u8]) -> Self {
        let (high, low) = (get_be64(record, 0).unwrap_or(0), get_be64(record, 8).unwrap_or(0));
        Self {
            unwritten: high >> 63 != 0,
            logical: (high >> 9) & (END - 1),
            block: (high & 0x1ff) << 43 | low >> 21,
            len: low & 0x1f_ffff,
        }
    }

    const fn end(&self) -> u64 {
        self.logical.saturating_add(self.len)
    }
}

/// The extents of a list, and the blocks of the file that it answers for.
#[derive(Debug)]
pub(super) struct List {
    extents: Vec<Extent>,
    from: u64,
    until: u64,
}

impl List {
    /// Decodes a list that answers for file blocks `from..until`.
    ///
    /// # Errors
    /// `Corrupt` for an empty extent, one out of order, one outside `from..until`.
    fn parse(records: &[u8], from: u64, until: u64, at: &At) -> Result<Self> {
        let mut end = from;
        let mut extents = Vec::with_capacity(records.len() / RECORD);
        for (number, record) in records.chunks_exact(RECORD).enumerate() {
            let extent = Extent::parse(record);
            if extent.len == 0 || extent.logical < end || extent.end() > until {
                return Err(Error::corrupt(at.clone()).because(format!(
                    "extent {number} covers {} blocks from {} on, in {end} to {until}",
                    extent.len, extent.logical
                )));
            }
            end = extent.end();
            extents.push(extent);
        }
        Ok(Self { extents, from, until })
    }

    const fn covers(&self, logical: u64) -> bool {
        self.from <= logical && logical < self.until
    }

    /// The extent that holds the block, or the one after it.
    fn find(&self, logical: u64) -> Option<&Extent> {
        let first = self.extents.partition_point(|extent| extent.end() <= logical);
        self.extents.get(first)
    }
}

/// The key-and-child part of a root or a node.
struct Children<'a> {
    keys: &'a [u8],
    blocks: &'a [u8],
}

impl<'a> Children<'a> {
    /// `count` of them in a table with room for as many as fit in it: all keys first, then all children.
    fn new(table: &'a [u8], count: u16) -> Option<Self> {
        let (room, used) = (table.len() / RECORD, usize::from(count).checked_mul(8)?);
        let (keys, blocks) = table.split_at_checked(room.checked_mul(8)?)?;
        (count > 0).then_some(())?;
        Some(Self { keys: keys.get(..used)?, blocks: blocks.get(..used)? })
    }

    /// The child that answers for `logical`, and for what.
    ///
    /// # Errors
    /// What is wrong with the keys.
    fn choose(&self, logical: u64, from: u64, until: u64) -> Result<(u64, u64, u64), String> {
        let key = |n: usize| get_be64(self.keys, n.saturating_mul(8));
        let mut chosen = 0;
        let mut next = until;
        let mut last = None;
        for (number, key) in (0..self.keys.len() / 8).filter_map(key).enumerate() {
            if last.is_some_and(|last| key <= last) || key < from || key >= until {
                return Err(format!("key {number} is {key}, in {from} to {until}"));
            }
            last = Some(key);
            // The first child answers for what lies before its key, too: there is nothing.
            if number > 0 && key > logical {
                next = key;
                break;
            }
            chosen = number;
        }
        let start = if chosen == 0 { from } else { key(chosen).unwrap_or(from) };
        let block = get_be64(self.blocks, chosen.saturating_mul(8)).unwrap_or(u64::MAX);
        Ok((block, start, next))
    }
}

/// A fork of an inode with the list last used, so that reading on needs no descent.
#[derive(Debug)]
pub(super) struct Map<'a> {
    xfs: &'a Xfs,
    inode: &'a Inode,
    fork: &'a Fork,
    last: Option<List>,
}

impl<'a> Map<'a> {
    pub(super) const fn new(xfs: &'a Xfs, inode: &'a Inode, fork: &'a Fork) -> Self {
        Self { xfs, inode, fork, last: None }
    }

    /// The stretch from the fork's block `logical` on. It goes on over extents that follow each other on the volume, up
    /// to `want` blocks.
    ///
    /// # Errors
    /// `Corrupt` when the map contradicts itself or leaves the file system.
    pub(super) fn at(&mut self, logical: u64, want: u64) -> Result<Stretch> {
        let mut all = self.one(logical)?;
        while all.blocks < want {
            // What lies behind is not this caller's yet: its error comes when it is asked for.
            let Ok(next) = self.one(logical.saturating_add(all.blocks)) else { break };
            let goes_on = match all.place {
                Place::At(byte) => {
                    next.place
                        == Place::At(byte.saturating_add(all.blocks.saturating_mul(self.xfs.sb.block_size)))
                }
                _ => next.place == all.place,
            };
            if !goes_on {
                break;
            }
            all.blocks = all.blocks.saturating_add(next.blocks);
        }
        Ok(all)
    }

    fn one(&mut self, logical: u64) -> Result<Stretch> {
        if logical >= END {
            return Ok(Stretch { blocks: u64::MAX.saturating_sub(logical), place: Place::Hole });
        }
        if self.last.as_ref().is_none_or(|list| !list.covers(logical)) {
            self.last = Some(self.list(logical)?);
        }
        let list = self.last.as_ref().expect("set above");
        let hole = |until: u64| Stretch { blocks: until.saturating_sub(logical).max(1), place: Place::Hole };
        let Some(extent) = list.find(logical) else { return Ok(hole(list.until)) };
        if extent.logical > logical {
            return Ok(hole(extent.logical));
        }
        let skip = logical.saturating_sub(extent.logical);
        let byte = self.xfs.sb.block_byte(extent.block, extent.len).ok_or_else(|| {
            Error::corrupt(self.place()).because(format!(
                "its {} blocks from {} on lie at block {}, not in one group of the file system",
                extent.len, extent.logical, extent.block
            ))
        })?;
        let place = if extent.unwritten {
            Place::Unwritten
        } else {
            Place::At(byte.saturating_add(skip.saturating_mul(self.xfs.sb.block_size)))
        };
        Ok(Stretch { blocks: extent.len.saturating_sub(skip), place })
    }

    fn place(&self) -> At {
        At::new("xfs", "extents of inode").index(self.inode.ino).byte(self.inode.byte)
    }

    /// The list that answers for `logical`.
    fn list(&self, logical: u64) -> Result<List> {
        let (at, area) = (self.place(), self.inode.area(self.fork));
        let bad = |at: &At, why: String| Error::corrupt(at.clone()).because(why);
        match self.fork.format {
            Format::Extents => {
                let used = narrow(self.fork.extents).saturating_mul(RECORD);
                return List::parse(area.get(..used).unwrap_or_default(), 0, END, &at);
            }
            Format::Btree => {}
            Format::Device | Format::Local => {
                return Err(bad(&at, "has no map: its content is in the inode".to_owned()));
            }
        }
        let (level, count) = (get_be16(area, 0).unwrap_or(0), get_be16(area, 2).unwrap_or(0));
        if level == 0 || level > MAX_LEVELS {
            return Err(bad(&at, format!("a tree of {level} levels")));
        }
        let children = Children::new(area.get(ROOT_HEADER..).unwrap_or_default(), count);
        let children = children.ok_or_else(|| bad(&at, format!("{count} children in its root")))?;
        let mut below = children.choose(logical, 0, END).map_err(|why| bad(&at, why))?;
        for level in (0..level).rev() {
            let (block, from, until) = below;
            let byte = self.xfs.sb.block_byte(block, 1);
            let byte =
                byte.ok_or_else(|| bad(&at, format!("a node at block {block}, not in the file system")))?;
            let at = At::new("xfs", "extent tree of inode").index(self.inode.ino).byte(byte);
            let node = self.xfs.meta.block(byte, self.xfs.sb.block_size)?;
            let (table, count) = self.check_node(&node, byte, level, &at)?;
            if level == 0 {
                let records = table.get(..usize::from(count).saturating_mul(RECORD));
                let records = records.ok_or_else(|| bad(&at, format!("{count} extents in a leaf")))?;
                return List::parse(records, from, until, &at);
            }
            let children = Children::new(table, count);
            let children = children.ok_or_else(|| bad(&at, format!("{count} children in a node")))?;
            below = children.choose(logical, from, until).map_err(|why| bad(&at, why))?;
        }
        Err(bad(&at, "a tree without leaves".to_owned()))
    }

    /// Checks a node, and answers with its table and how many entries of that are used.
    fn check_node<'b>(&self, node: &'b [u8], byte: u64, level: u16, at: &At) -> Result<(&'b [u8], u16)> {
        let bad = |why: String| Err(Error::corrupt(at.clone()).because(why));
        let is_v5 = self.xfs.sb.features.is_v5();
        let (magic, header): (&[u8], usize) = if is_v5 { (b"BMA3", HEADER_V5) } else { (b"BMAP", HEADER_V4) };
        if !node.starts_with(magic) {
            return bad("has not the magic number of a node".to_owned());
        }
        // The log may have moved a whole tree from one inode to another; its blocks then still name the first.
        let owner = (!self.xfs.owners_changed.contains(&self.inode.ino)).then_some(self.inode.ino);
        self.xfs.check_seal(Seal::BMAP, node, byte, owner, at)?;
        let found = get_be16(node, 4).unwrap_or(0);
        if found != level {
            return bad(format!("is of level {found}, not {level}"));
        }
        Ok((node.get(header..).unwrap_or_default(), get_be16(node, 6).unwrap_or(0)))
    }
}

impl Xfs {
    /// Fills `buf` with the bytes of a fork from `offset` on; the caller has compared with its size.
    ///
    /// # Errors
    /// `Corrupt` when the map is damaged; what the volume reports.
    pub(super) fn read_mapped(&self, inode: &Inode, fork: &Fork, buf: &mut [u8], offset: u64) -> Result<()> {
        self.read_stretches(inode, fork, buf, offset, &mut |now| {
            now.fill(0);
            Ok(())
        })
    }

    /// As [`Xfs::read_mapped`], for what the file system itself keeps in a fork and always writes.
    ///
    /// # Errors
    /// The same; `Corrupt` where nothing was written.
    pub(super) fn read_written(&self, inode: &Inode, fork: &Fork, buf: &mut [u8], offset: u64) -> Result<()> {
        self.read_stretches(inode, fork, buf, offset, &mut |now| {
            let why = format!("{} bytes from byte {offset} of a fork on were not all written", now.len());
            Err(Error::corrupt(inode.at()).because(why))
        })
    }

    /// Fills `buf`, and has `gap` fill what was never written.
    fn read_stretches(
        &self,
        inode: &Inode,
        fork: &Fork,
        mut buf: &mut [u8],
        mut offset: u64,
        gap: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let mut map = Map::new(self, inode, fork);
        let size = self.sb.block_size;
        while !buf.is_empty() {
            let (logical, skip) = self.split(offset);
            let want = skip.saturating_add(wide(buf.len())).div_ceil(size);
            let stretch = map.at(logical, want)?;
            let len = stretch.blocks.saturating_mul(size).saturating_sub(skip).min(wide(buf.len()));
            let (now, rest) = buf.split_at_mut(narrow(len));
            match stretch.place {
                Place::At(byte) => self.meta.volume().read_at(now, byte.saturating_add(skip))?,
                Place::Unwritten | Place::Hole => gap(now)?,
            }
            buf = rest;
            offset = offset.saturating_add(len);
        }
        Ok(())
    }

    /// A byte of a fork as its block and the byte in that block.
    pub(super) const fn split(&self, offset: u64) -> (u64, u64) {
        (offset >> self.sb.block_log, offset & self.sb.block_size.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(unwritten: bool, logical: u64, block: u64, len: u64) -> [u8; 16] {
        let all = u128::from(unwritten) << 127
            | u128::from(logical) << 73
            | u128::from(block) << 21
            | u128::from(len);
        all.to_be_bytes()
    }

    fn at() -> At {
        At::new("xfs", "extents")
    }

    #[test]
    fn an_extent_has_54_52_and_21_bits() {
        let widest =
            Extent { unwritten: true, logical: (1 << 54) - 1, block: (1 << 52) - 1, len: (1 << 21) - 1 };
        assert_eq!(Extent::parse(&[0xff; 16]), widest);
        let some = Extent { unwritten: false, logical: 5, block: 1 << 45 | 9, len: 77 };
        assert_eq!(Extent::parse(&record(false, 5, 1 << 45 | 9, 77)), some);
    }

    #[test]
    fn disorder_is_corrupt() {
        let list = |extents: &[[u8; 16]]| List::parse(&extents.concat(), 10, 100, &at());
        assert!(list(&[record(false, 10, 1, 5), record(true, 15, 9, 85)]).is_ok());
        assert!(list(&[record(false, 10, 1, 5), record(false, 14, 9, 2)]).is_err());
        assert!(list(&[record(false, 10, 1, 0)]).is_err());
        assert!(list(&[record(false, 9, 1, 2)]).is_err());
        assert!(list(&[record(false, 99, 1, 2)]).is_err());
    }

    #[test]
    fn the_child_with_the_last_key_before_is_chosen() {
        let table: Vec<u8> =
            [3_u64, 10, 20, 0, 71, 72, 73, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
        let children = Children::new(&table, 3).unwrap();
        assert_eq!(children.choose(0, 0, 100), Ok((71, 0, 10)));
        assert_eq!(children.choose(10, 0, 100), Ok((72, 10, 20)));
        assert_eq!(children.choose(99, 0, 100), Ok((73, 20, 100)));
        assert!(children.choose(5, 5, 100).is_err() && children.choose(15, 0, 20).is_err());
        assert!(Children::new(&table, 5).is_none() && Children::new(&table, 0).is_none());
    }
}
