//! Inodes as fast commits leave them: what they say is not blocks but inodes, ranges and names, and is laid over what the
//! volume holds.

use super::Ext;
use super::inode::{BLOCK_AT, Inode, flag};
use super::map::{Place, Stretch};
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::fs::meta::Bytes;
use crate::fs::{FileType, Ino};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Extents of changed files that are kept in memory.
const MAX_EXTENTS: usize = 1 << 18;
/// Names that came and went, of all directories together: each takes up to 600 bytes.
const MAX_NAMES: usize = 1 << 17;
/// Bytes of changed inodes.
const MAX_RAW: usize = 32 << 20;
/// The place in a directory's listing where its added names start: behind every byte that it may have.
pub(super) const ADDED: u64 = 1 << 48;

/// Everything that fast commits change, by inode.
#[derive(Default)]
pub(super) struct Patches {
    inodes: HashMap<u64, Patch>,
    /// What they take, to be held against the bounds above.
    extents: usize,
    names: usize,
    raw_bytes: usize,
}

/// What they change of one inode.
#[derive(Default)]
struct Patch {
    raw: Option<Bytes>,
    /// All of its extents: first block, length, and where they start unless they are not written.
    map: Option<BTreeMap<u64, (u64, Option<u64>)>>,
    names: Option<Names>,
}

/// What they change of a directory.
#[derive(Default)]
pub(super) struct Names {
    /// It is new: it has no names but the added ones.
    is_new: bool,
    removed: HashSet<Vec<u8>>,
    /// In the order they came; `None` is one that went again.
    added: Vec<Option<Added>>,
    places: HashMap<Vec<u8>, usize>,
}

/// A name that was added.
pub(super) struct Added {
    pub(super) name: Vec<u8>,
    pub(super) ino: u64,
    pub(super) kind: Option<FileType>,
}

impl Names {
    /// Has it no names but the added ones?
    pub(super) const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Is a name of the directory on the volume still one?
    pub(super) fn keeps(&self, name: &[u8]) -> bool {
        !self.is_new && !self.removed.contains(name)
    }

    /// The names that were added, from a place in the listing on, each with the place behind it.
    pub(super) fn added(&self, from: u64) -> impl Iterator<Item = (&Added, u64)> {
        let skip = narrow(from.saturating_sub(ADDED));
        let all = self.added.iter().zip(ADDED.saturating_add(1)..).skip(skip);
        all.filter_map(|(added, next)| Some((added.as_ref()?, next)))
    }

    /// The inode of an added name.
    pub(super) fn find(&self, name: &[u8]) -> Option<u64> {
        self.added.get(*self.places.get(name)?)?.as_ref().map(|added| added.ino)
    }

    fn remove(&mut self, name: &[u8]) {
        if let Some(added) = self.places.remove(name).and_then(|at| self.added.get_mut(at)) {
            *added = None;
        } else {
            self.removed.insert(name.to_vec());
        }
    }

    fn add(&mut self, added: Added) {
        self.places.insert(added.name.clone(), self.added.len());
        self.added.push(Some(added));
    }
}

impl Patches {
    /// An inode as it is now.
    pub(super) fn raw(&self, ino: u64) -> Option<&Bytes> {
        self.inodes.get(&ino)?.raw.as_ref()
    }

    /// What has changed in a directory.
    pub(super) fn names(&self, ino: u64) -> Option<&Names> {
        self.inodes.get(&ino)?.names.as_ref()
    }

    /// The stretch of a changed file from a block on.
    pub(super) fn stretch(&self, ino: u64, logical: u64) -> Option<Stretch> {
        let map = self.inodes.get(&ino)?.map.as_ref()?;
        if let Some((first, (blocks, start))) = map.range(..=logical).next_back() {
            let skip = logical.saturating_sub(*first);
            if skip < *blocks {
                let place = start.map_or(Place::Unwritten, |start| Place::At(start.saturating_add(skip)));
                return Some(Stretch { blocks: blocks.saturating_sub(skip), place });
            }
        }
        let next = map.range(logical..).next().map_or(1 << 32, |(first, _)| *first);
        Some(Stretch { blocks: next.saturating_sub(logical).max(1), place: Place::Hole })
    }

    /// Is it still as little as memory should hold?
    fn check(&self) -> Result<()> {
        let bounds = [
            (self.extents, MAX_EXTENTS, "extents in files"),
            (self.names, MAX_NAMES, "names"),
            (self.raw_bytes, MAX_RAW, "bytes of inodes"),
        ];
        match bounds.into_iter().find(|(used, most, _)| used > most) {
            Some((_, most, what)) => {
                Err(Error::limit(format!("more than {most} {what} changed by fast commits")))
            }
            None => Ok(()),
        }
    }

    fn of(&mut self, ino: u64) -> &mut Patch {
        self.inodes.entry(ino).or_default()
    }
}

/// Takes a range of blocks out of a map.
fn cut(map: &mut BTreeMap<u64, (u64, Option<u64>)>, block: u64, blocks: u64) {
    let end = block.saturating_add(blocks);
    let first = map.range(..block).next_back().map_or(block, |(first, _)| *first);
    let hit: Vec<u64> = map.range(first..end).map(|(first, _)| *first).collect();
    for first in hit {
        let Some((len, start)) = map.get(&first).copied() else { continue };
        let stop = first.saturating_add(len);
        if stop <= block {
            continue;
        }
        map.remove(&first);
        if first < block {
            map.insert(first, (block.saturating_sub(first), start));
        }
        if stop > end {
            let skip = end.saturating_sub(first);
            map.insert(end, (stop.saturating_sub(end), start.map(|start| start.saturating_add(skip))));
        }
    }
}

/// Replaces bytes of an inode.
fn put(raw: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = raw.get_mut(at..at.saturating_add(bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

impl Ext {
    /// The bytes of an inode, in use or not.
    fn raw_inode(&self, ino: u64) -> Result<Vec<u8>> {
        if let Some(raw) = self.patches.raw(ino) {
            return Ok(raw.to_vec());
        }
        Ok(self.meta.near(self.inode_offset(ino)?, self.sb.inode_size)?.to_vec())
    }

    fn keep_inode(&mut self, ino: u64, raw: Vec<u8>) {
        let len = raw.len();
        if self.patches.of(ino).raw.replace(Bytes::from(raw)).is_none() {
            self.patches.raw_bytes = self.patches.raw_bytes.saturating_add(len);
        }
    }

    /// Changes the map of a file: a range lies elsewhere, or (`None`) nowhere.
    ///
    /// # Errors
    /// `Limit` for more extents than are kept in memory; when the map cannot be read.
    pub(super) fn patch_range(
        &mut self,
        ino: u64,
        block: u64,
        blocks: u64,
        place: Option<Option<u64>>,
        budget: &Budget,
    ) -> Result<()> {
        let inode = self.inode(ino)?;
        self.gather_map(&inode, budget)?;
        let patches = &mut self.patches;
        let Some(map) = patches.inodes.get_mut(&ino).and_then(|patch| patch.map.as_mut()) else {
            return Ok(());
        };
        let before = map.len();
        cut(map, block, blocks);
        if let Some(start) = place
            && blocks > 0
        {
            map.insert(block, (blocks, start));
        }
        patches.extents = patches.extents.saturating_add(map.len()).saturating_sub(before);
        patches.check()
    }

    /// Reads all of a file's map, so that it can be changed.
    fn gather_map(&mut self, inode: &Inode, budget: &Budget) -> Result<()> {
        if self.patches.inodes.get(&inode.ino).is_some_and(|patch| patch.map.is_some()) {
            return Ok(());
        }
        let mut map = BTreeMap::new();
        let mut at = 0_u64;
        while inode.has(flag::EXTENTS) && at < 1 << 32 {
            budget.step("extents of a file changed by fast commits")?;
            let stretch = self.map(inode, at, 1)?;
            match stretch.place {
                Place::At(start) => drop(map.insert(at, (stretch.blocks, Some(start)))),
                Place::Unwritten => drop(map.insert(at, (stretch.blocks, None))),
                Place::Hole => {}
            }
            if map.len() > MAX_EXTENTS {
                return Err(Error::limit(format!("a file of more than {MAX_EXTENTS} extents")).at(inode.at()));
            }
            at = at.saturating_add(stretch.blocks);
        }
        self.patches.extents = self.patches.extents.saturating_add(map.len());
        self.patches.of(inode.ino).map = Some(map);
        self.patches.check()
    }

    /// Replaces an inode, but for its map (`ext4_fc_replay_inode`).
    ///
    /// # Errors
    /// When there is no such inode, or its map cannot be read.
    pub(super) fn patch_inode(&mut self, ino: u64, new: &[u8], budget: &Budget) -> Result<()> {
        let mut raw = self.raw_inode(ino)?;
        put(&mut raw, 0, new.get(..BLOCK_AT).unwrap_or_default());
        put(&mut raw, 0x64, new.get(0x64..).unwrap_or_default());
        let flags = get_le32(&raw, 0x20).unwrap_or(0);
        if flags & flag::EXTENTS != 0 && get_le16(&raw, BLOCK_AT) != Some(0xf30a) {
            // A header of no entries, with room for four.
            put(&mut raw, BLOCK_AT, &[0x0a, 0xf3, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        } else if flags & flag::EXTENTS == 0 && flags & flag::INLINE_DATA != 0 {
            put(&mut raw, BLOCK_AT, new.get(BLOCK_AT..0x64).unwrap_or_default());
        }
        self.keep_inode(ino, raw);
        let Ok(inode) = self.inode(ino) else { return Ok(()) };
        if inode.has(flag::EXTENTS) && !inode.has(flag::INLINE_DATA) {
            self.gather_map(&inode, budget)?;
            self.count_blocks(ino);
        }
        self.patches.check()
    }

    /// Counts the blocks of a changed file anew, as the kernel does (`ext4_ext_replay_set_iblocks`): its data, and the
    /// nodes that as many extents need.
    fn count_blocks(&mut self, ino: u64) {
        let Some(map) = self.patches.inodes.get(&ino).and_then(|patch| patch.map.as_ref()) else { return };
        let per_node = (self.sb.block_size.saturating_sub(16) / 12).max(1);
        let nodes = if map.len() <= 4 { 0 } else { wide(map.len()).div_ceil(per_node) };
        let blocks: u64 = map.values().map(|(blocks, _)| *blocks).sum::<u64>().saturating_add(nodes);
        self.set_sectors(ino, blocks.saturating_mul(self.sb.block_size >> 9));
    }

    fn set_sectors(&mut self, ino: u64, sectors: u64) {
        let Ok(mut raw) = self.raw_inode(ino) else { return };
        let [a, b, c, d, e, f, ..] = sectors.to_le_bytes();
        put(&mut raw, 0x1c, &[a, b, c, d]);
        put(&mut raw, 0x74, &[e, f]);
        let flags = get_le32(&raw, 0x20).unwrap_or(0) & !flag::HUGE_FILE;
        put(&mut raw, 0x20, &flags.to_le_bytes());
        self.keep_inode(ino, raw);
    }

    fn set_links(&mut self, ino: u64, change: impl FnOnce(u16) -> u16) -> Result<u16> {
        let mut raw = self.raw_inode(ino)?;
        let links = change(get_le16(&raw, 0x1a).unwrap_or(0));
        put(&mut raw, 0x1a, &links.to_le_bytes());
        self.keep_inode(ino, raw);
        Ok(links)
    }

    /// Gives an inode a name more; one that is there already stays.
    ///
    /// # Errors
    /// When inode or directory cannot be read.
    pub(super) fn patch_link(&mut self, dir: u64, ino: u64, name: &[u8], budget: &Budget) -> Result<()> {
        let inode = self.inode(ino)?;
        if self.find_within(Ino(dir), name, budget)?.is_some() {
            return Ok(());
        }
        let kind = Some(inode.kind).filter(|_| self.features().has(super::Set::FILETYPE));
        let names = self.patches.of(dir).names.get_or_insert_default();
        names.add(Added { name: name.to_vec(), ino, kind });
        self.patches.names = self.patches.names.saturating_add(1);
        self.set_links(ino, |links| links.saturating_add(1))?;
        self.patches.check()
    }

    /// Gives a new inode its first name.
    ///
    /// # Errors
    /// As [`Ext::patch_link`].
    pub(super) fn patch_create(&mut self, dir: u64, ino: u64, name: &[u8], budget: &Budget) -> Result<()> {
        if self.inode(ino)?.kind == FileType::Dir {
            // Its block with "." and ".." is made when the journal is played back.
            let size = u32::try_from(self.sb.block_size).unwrap_or(u32::MAX);
            let mut raw = self.raw_inode(ino)?;
            put(&mut raw, 0x04, &size.to_le_bytes());
            self.keep_inode(ino, raw);
            self.patches.of(ino).names = Some(Names { is_new: true, ..Names::default() });
        }
        self.patch_link(dir, ino, name, budget)?;
        self.set_links(ino, |_| 1).map(drop)
    }

    /// Takes a name from an inode; the inode goes with its last one.
    ///
    /// # Errors
    /// As [`Ext::patch_link`].
    pub(super) fn patch_unlink(&mut self, dir: u64, ino: u64, name: &[u8], budget: &Budget) -> Result<()> {
        self.inode(ino)?;
        let Some(found) = self.find_within(Ino(dir), name, budget)? else { return Ok(()) };
        // The name may mean another inode by now: then it stays.
        if found.0 == ino {
            self.patches.of(dir).names.get_or_insert_default().remove(name);
            self.patches.names = self.patches.names.saturating_add(1);
        }
        let links = self.set_links(ino, |links| links.saturating_sub(1))?;
        if links == 0 {
            let patch = self.patches.of(ino);
            let gone = patch.map.replace(BTreeMap::new()).map_or(0, |map| map.len());
            patch.names = None;
            self.patches.extents = self.patches.extents.saturating_sub(gone);
        }
        self.patches.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> BTreeMap<u64, (u64, Option<u64>)> {
        BTreeMap::from([(0, (10, Some(100))), (20, (10, None)), (40, (5, Some(500)))])
    }

    #[test]
    fn a_range_is_cut_out_of_extents() {
        let mut left = map();
        cut(&mut left, 3, 2);
        assert_eq!(left.range(..20).collect::<Vec<_>>(), [(&0, &(3, Some(100))), (&5, &(5, Some(105)))]);
        let mut left = map();
        cut(&mut left, 5, 37);
        assert_eq!(left.into_iter().collect::<Vec<_>>(), [(0, (5, Some(100))), (42, (3, Some(502)))]);
        let mut left = map();
        cut(&mut left, 10, 10);
        assert_eq!(left, map());
        cut(&mut left, 0, u64::MAX);
        assert!(left.is_empty());
    }

    #[test]
    fn a_changed_map_answers_for_every_block() {
        let mut patches = Patches::default();
        patches.of(12).map = Some(map());
        let at = |logical| patches.stretch(12, logical).map(|stretch| (stretch.blocks, stretch.place));
        assert_eq!(at(0), Some((10, Place::At(100))));
        assert_eq!(at(9), Some((1, Place::At(109))));
        assert_eq!(at(10), Some((10, Place::Hole)));
        assert_eq!(at(25), Some((5, Place::Unwritten)));
        assert_eq!(at(45), Some(((1 << 32) - 45, Place::Hole)));
        assert!(patches.stretch(13, 0).is_none());
    }

    #[test]
    fn what_fast_commits_change_is_bounded() {
        assert!(Patches { names: MAX_NAMES, ..Patches::default() }.check().is_ok());
        for patches in [
            Patches { extents: MAX_EXTENTS + 1, ..Patches::default() },
            Patches { names: MAX_NAMES + 1, ..Patches::default() },
            Patches { raw_bytes: MAX_RAW + 1, ..Patches::default() },
        ] {
            assert_eq!(patches.check().unwrap_err().kind(), crate::error::ErrorKind::Limit);
        }
    }

    #[test]
    fn names_come_and_go() {
        let mut names = Names::default();
        let added = |name: &[u8], ino| Added { name: name.to_vec(), ino, kind: None };
        names.add(added(b"a", 12));
        names.add(added(b"b", 13));
        names.remove(b"a");
        names.remove(b"old");
        assert_eq!((names.find(b"a"), names.find(b"b")), (None, Some(13)));
        assert!(names.keeps(b"other") && !names.keeps(b"old"));
        names.add(added(b"a", 14));
        let listed: Vec<(u64, u64)> = names.added(0).map(|(added, next)| (added.ino, next - ADDED)).collect();
        assert_eq!(listed, [(13, 2), (14, 3)]);
        assert_eq!(names.added(ADDED + 2).count(), 1);
        assert_eq!(names.added(ADDED + 3).count(), 0);
    }
}
