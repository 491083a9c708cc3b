//! The log: what was synced after the last commit, file by file. The kernel plays it back when it mounts; here the same is
//! done in memory, and laid over the trees of the subvolumes.
//!
//! ```text
//! tree of log trees ─▶ a log tree for each subvolume ─▶ inodes, names, attributes, extents, checksums
//! ```
//! An item of a log replaces its like in the subvolume, with three exceptions. A directory's log says for which indices it
//! is complete: names there that it lacks were deleted. Two names of one directory cannot be equal: an older one that
//! is in the way is unlinked. And how many names an inode has is counted anew when all is done.
//!
//! The order of the steps follows the kernel's `fs/btrfs/tree-log.c` (`btrfs_recover_log_trees`), on which it depends what
//! wins. What contradicts itself ends the whole replay, as it ends the kernel's mount.

use super::dir::{self, extref_hash, has_name, name_hash, type_of, without};
use super::extent::{Body, Extent, REAL, part_of};
use super::inode::{self, RawInode, Ref, keep_refs, kind_of};
use super::key::{Key, kind, object};
use super::node::{Bytes, Item};
use super::pool::Pool;
use super::root::RootItem;
use super::tree::Tree;
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::fs::FileType;
use crate::num::wide;
use crate::ondisk::{get_le64, parse_struct};
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// What keeping an item takes beside its bytes: its key, a share of a map's node, two blocks of the heap.
const OVERHEAD: usize = 160;

/// The items of a subvolume's log.
type Log = BTreeMap<Key, Item>;

/// What the log makes of a file system.
pub(super) struct Replayed {
    /// The subvolumes that it changes.
    pub(super) trees: Vec<Tree>,
    /// Checksums of data, by the logical byte that the first is for.
    pub(super) csums: BTreeMap<u64, Vec<u8>>,
    /// Items in it.
    pub(super) items: usize,
}

/// Plays the log of a file system back.
///
/// # Errors
/// `Corrupt` when it contradicts itself or the trees; when it cannot be read; `Limit` when it is too long.
pub(super) fn replay(pool: &Pool, budget: &Budget) -> Result<Replayed> {
    let mut replayed = Replayed { trees: Vec::new(), csums: BTreeMap::new(), items: 0 };
    let Some(root) = pool.sb.log_root else { return Ok(replayed) };
    let roots = Tree::new(object::LOG_TREE, root);
    let mut logs = pool.items(&roots, Key::new(object::LOG_TREE, kind::ROOT, 0))?;
    while let Some(item) = logs.next_of(object::LOG_TREE, kind::ROOT)? {
        budget.step("log")?;
        let id = item.key.offset;
        // A subvolume that was deleted has no use for its log.
        let Some(tree) = pool.subvolume_tree(id)? else { continue };
        let log = Tree::new(object::LOG_TREE, RootItem::parse(id, &item.data)?.root);
        let mut kept = Log::new();
        let mut items = pool.items(&log, Key::new(0, 0, 0))?;
        while let Some(item) = items.next()? {
            budget.step("log")?;
            replayed.items = replayed.items.saturating_add(1);
            charge(budget, item.data.len())?;
            let data = item.data.to_vec();
            if item.key.is(object::CSUMS, kind::EXTENT_CSUM) {
                replayed.csums.insert(item.key.offset, data);
            } else {
                kept.insert(item.key, Item { data: data.into(), ..item });
            }
        }
        let tree = Tree::clone(&tree);
        let mut replay = Replay { pool, budget, log: &kept, tree, recount: BTreeSet::new() };
        replay.run()?;
        replayed.trees.push(replay.tree);
        for item in kept.values() {
            budget.release(item.data.len().saturating_add(OVERHEAD));
        }
    }
    Ok(replayed)
}

/// A log's items, without those of inodes that have no name any more: they were synced through a descriptor that was
/// still open, and go with their directory's entry.
fn replayable(log: &Log) -> impl Iterator<Item = &Item> {
    let mut is_dead = false;
    log.values().filter(move |item| {
        if item.key.kind == kind::INODE {
            is_dead = RawInode::of(&item.data).is_some_and(|raw| raw.nlink.get() == 0);
        }
        !is_dead
    })
}

/// Pays for an item of `len` bytes that is kept.
fn charge(budget: &Budget, len: usize) -> Result<()> {
    budget.charge("log", wide(len.saturating_add(OVERHEAD)))
}

/// The replay of one subvolume's log.
struct Replay<'a> {
    pool: &'a Pool,
    budget: &'a Budget,
    log: &'a Log,
    /// The subvolume, with what was replayed so far.
    tree: Tree,
    /// Inodes whose names are to be counted.
    recount: BTreeSet<u64>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// It was not to be done: something is there already, or is not there.
    Skipped,
}

impl Replay<'_> {
    fn bad(&self, number: u64, why: &str) -> Error {
        Error::corrupt(At::new("btrfs", "log of subvolume").index(self.tree.id))
            .because(format!("inode {number}: {why}"))
    }

    fn run(&mut self) -> Result<()> {
        for item in replayable(self.log).filter(|item| item.key.kind == kind::INODE) {
            self.inode(item)?;
        }
        for item in replayable(self.log).filter(|item| item.key.kind == kind::DIR_INDEX) {
            self.name(item)?;
        }
        for item in replayable(self.log) {
            match item.key.kind {
                kind::XATTR => self.put(item.key, item.data.clone())?,
                kind::INODE_REF | kind::INODE_EXTREF => self.names_of_inode(item)?,
                kind::EXTENT_DATA => self.extent(item)?,
                _ => {}
            }
        }
        self.count_names()
    }

    fn get(&self, key: Key) -> Result<Option<Bytes>> {
        self.budget.step("log")?;
        Ok(self.pool.item(&self.tree, key)?.map(|item| item.data))
    }

    fn put(&mut self, key: Key, data: impl Into<Bytes>) -> Result<()> {
        self.patch(key, Some(data.into()))
    }

    fn remove(&mut self, key: Key) -> Result<()> {
        self.patch(key, None)
    }

    fn patch(&mut self, key: Key, data: Option<Bytes>) -> Result<()> {
        self.budget.step("log")?;
        let size = |data: &Option<Bytes>| data.as_ref().map_or(0, |data| data.len());
        charge(self.budget, size(&data))?;
        if let Some(old) = self.tree.patches.insert(key, data) {
            self.budget.release(size(&old).saturating_add(OVERHEAD));
        }
        Ok(())
    }

    /// Puts the item, or removes it if nothing is left in it.
    fn put_or_remove(&mut self, key: Key, data: Vec<u8>) -> Result<()> {
        if data.is_empty() {
            return self.remove(key);
        }
        self.put(key, data)
    }

    /// The subvolume's items of an object and kind whose offsets are from `from` to `to`, both among them.
    fn all(&self, number: u64, kind: u8, from: u64, to: u64) -> Result<Vec<Item>> {
        let (from, to) = (Key::new(number, kind, from), Key::new(number, kind, to));
        let mut items = self.pool.items_within(&self.tree, from, to, self.budget)?;
        std::iter::from_fn(|| items.next().transpose()).collect()
    }

    fn raw(&self, number: u64) -> Result<Option<RawInode>> {
        let data = self.get(Key::new(number, kind::INODE, 0))?;
        data.map(|data| parse_struct(&data, inode::at(number))).transpose()
    }

    fn change(&mut self, number: u64, change: impl FnOnce(&mut RawInode)) -> Result<()> {
        let raw = self.raw(number)?;
        let mut raw = raw.ok_or_else(|| self.bad(number, "is not in the subvolume"))?;
        change(&mut raw);
        self.put(Key::new(number, kind::INODE, 0), raw.as_bytes().to_vec())
    }

    /// An inode: its item, and what its log says is gone.
    fn inode(&mut self, item: &Item) -> Result<()> {
        let number = item.key.object;
        let raw: RawInode = parse_struct(&item.data, inode::at(number))?;
        let kind = kind_of(raw.mode.get());
        self.forget_xattrs(number)?;
        if kind == Some(FileType::Dir) {
            self.forget_names(number, false)?;
        }
        self.put_inode(number, raw)?;
        if kind == Some(FileType::File) {
            let size = self.raw(number)?.map_or(0, |raw| raw.size.get());
            let from = size.checked_next_multiple_of(self.pool.sb.sector.into()).unwrap_or(u64::MAX);
            let dropped = self.drop_extents(number, from, u64::MAX)?;
            self.change(number, |raw| raw.add_bytes(0, dropped))?;
        }
        self.recount.insert(number);
        Ok(())
    }

    fn put_inode(&mut self, number: u64, mut raw: RawInode) -> Result<()> {
        let is_dir = |raw: &RawInode| kind_of(raw.mode.get()) == Some(FileType::Dir);
        let is_file = |raw: &RawInode| kind_of(raw.mode.get()) == Some(FileType::File);
        // What its extents take, and a directory's size, are counted while its items are replayed.
        let old = self.raw(number)?;
        raw.nbytes = old.as_ref().map_or(U64::new(0), |old| old.nbytes);
        if is_dir(&raw) {
            raw.size = old.as_ref().filter(|old| is_dir(old)).map_or(U64::new(0), |old| old.size);
        }
        if raw.generation.get() == 0 {
            if let Some(mut old) = old {
                // Only that it exists was logged.
                if is_file(&raw) && is_file(&old) && raw.size.get() != 0 {
                    old.size = raw.size;
                }
                return self.put(Key::new(number, kind::INODE, 0), old.as_bytes().to_vec());
            }
            raw.generation = U64::new(self.pool.sb.generation.saturating_add(1));
        }
        self.put(Key::new(number, kind::INODE, 0), raw.as_bytes().to_vec())
    }

    /// Takes away the attributes that are not in the log: it has all of an inode's.
    fn forget_xattrs(&mut self, number: u64) -> Result<()> {
        for item in self.all(number, kind::XATTR, 0, u64::MAX)? {
            let logged = self.log.get(&item.key).map(|item| item.data.clone());
            let logged = logged.as_deref().unwrap_or_default();
            let is_logged = |name: &[u8]| dir::entries(logged).flatten().any(|entry| entry.name == name);
            let left =
                without(&item.data, |entry| is_logged(entry.name)).map_err(|why| self.bad(number, &why))?;
            self.put_or_remove(item.key, left)?;
        }
        Ok(())
    }

    /// Takes away the names of a directory that are not in the log where the log is complete; or all of them.
    fn forget_names(&mut self, dir: u64, is_all: bool) -> Result<()> {
        if self.raw(dir)?.is_none() {
            return Ok(());
        }
        let first = Key::new(dir, kind::DIR_LOG_INDEX, 0);
        let last = Key::new(dir, kind::DIR_LOG_INDEX, u64::MAX);
        let ranges: Vec<(u64, u64)> = if is_all {
            vec![(0, u64::MAX)]
        } else {
            let ranges = self.log.range(first..=last);
            ranges.filter_map(|(key, item)| Some((key.offset, get_le64(&item.data, 0)?))).collect()
        };
        for (start, end) in ranges {
            for item in self.all(dir, kind::DIR_INDEX, start, end)? {
                let Some(Ok(entry)) = dir::entries(&item.data).next() else {
                    return Err(self.bad(dir, "a torn entry"));
                };
                let logged = self.log.get(&item.key).map(|item| item.data.clone()).filter(|_| !is_all);
                if logged.is_some_and(|data| has_name(&data, entry.name)) {
                    continue;
                }
                self.unlink_target(dir, entry.name, entry.target)?;
            }
        }
        Ok(())
    }

    /// Unlinks what a name leads to, and has its names counted.
    fn unlink_target(&mut self, dir: u64, name: &[u8], target: Key) -> Result<()> {
        let number = target.object;
        if target.kind != kind::INODE || self.raw(number)?.is_none() {
            return Err(self.bad(dir, "a name that leads nowhere is to be deleted"));
        }
        self.recount.insert(number);
        self.unlink(dir, number, name)
    }

    /// Takes a name of an inode away: both entries of the directory, and the inode's reference.
    fn unlink(&mut self, dir: u64, number: u64, name: &[u8]) -> Result<()> {
        let by_hash = Key::new(dir, kind::DIR_ITEM, name_hash(name));
        let item = self.get(by_hash)?.unwrap_or_else(|| Vec::new().into());
        if !has_name(&item, name) {
            return Err(self.bad(dir, "a name to be deleted is not there"));
        }
        let left = without(&item, |entry| entry.name != name).map_err(|why| self.bad(dir, &why))?;
        self.put_or_remove(by_hash, left)?;
        let (key, data, found) = self
            .reference(dir, number, name)?
            .ok_or_else(|| self.bad(number, "a name to be deleted is not among its own"))?;
        let left = keep_refs(&data, key.kind, |other| {
            other.index != found || other.name != name || other.dir.is_some_and(|at| at != dir)
        });
        self.put_or_remove(key, left)?;
        self.remove(Key::new(dir, kind::DIR_INDEX, found))?;
        let len = wide(name.len()).saturating_mul(2);
        self.change(dir, |raw| raw.size = U64::new(raw.size.get().saturating_sub(len)))
    }

    /// Where the subvolume has the reference of an inode to one of its names: the item, and the name's index.
    fn reference(&self, dir: u64, number: u64, name: &[u8]) -> Result<Option<(Key, Bytes, u64)>> {
        let plain = Key::new(number, kind::INODE_REF, dir);
        let extended = Key::new(number, kind::INODE_EXTREF, extref_hash(dir, name));
        for key in [plain, extended] {
            let Some(data) = self.get(key)? else { continue };
            let found = refs_of(&data, key.kind)
                .flatten()
                .find(|other| other.name == name && other.dir.is_none_or(|at| at == dir))
                .map(|other| other.index);
            if let Some(index) = found {
                return Ok(Some((key, data, index)));
            }
        }
        Ok(None)
    }

    /// Gives an inode a name. It is not done when the name or the index is taken.
    fn link(&mut self, dir: u64, number: u64, name: &[u8], index: u64, adds_ref: bool) -> Result<Outcome> {
        let (Some(raw), Some(_)) = (self.raw(number)?, self.raw(dir)?) else { return Ok(Outcome::Skipped) };
        let by_hash = Key::new(dir, kind::DIR_ITEM, name_hash(name));
        let by_index = Key::new(dir, kind::DIR_INDEX, index);
        let mut item = self.get(by_hash)?.map_or_else(Vec::new, |item| item.to_vec());
        if has_name(&item, name) || self.get(by_index)?.is_some() {
            return Ok(Outcome::Skipped);
        }
        let len = u16::try_from(name.len()).map_err(|_| self.bad(dir, "a name that is too long"))?;
        if adds_ref {
            let key = Key::new(number, kind::INODE_REF, dir);
            let mut refs = self.get(key)?.map_or_else(Vec::new, |refs| refs.to_vec());
            refs.extend(index.to_le_bytes());
            refs.extend(len.to_le_bytes());
            refs.extend(name);
            self.put(key, refs)?;
        }
        let mut entry = Key::new(number, kind::INODE, 0).bytes();
        entry.extend(self.pool.sb.generation.saturating_add(1).to_le_bytes());
        entry.extend([0, 0]);
        entry.extend(len.to_le_bytes());
        entry.push(type_of(raw.mode.get()));
        entry.extend(name);
        item.extend(&entry);
        self.put(by_hash, item)?;
        self.put(by_index, entry)?;
        let len = wide(name.len()).saturating_mul(2);
        self.change(dir, |raw| raw.size = U64::new(raw.size.get().saturating_add(len)))?;
        Ok(Outcome::Done)
    }

    /// A name of a directory's log.
    fn name(&mut self, item: &Item) -> Result<()> {
        let (dir, index) = (item.key.object, item.key.offset);
        if self.raw(dir)?.is_none() {
            return Err(self.bad(dir, "has names and is not in the subvolume"));
        }
        let Some(Ok(entry)) = dir::entries(&item.data).next() else {
            return Err(self.bad(dir, "a torn entry"));
        };
        let exists = self.get(entry.target)?.is_some();
        let mut equal = 0;
        for key in
            [Key::new(dir, kind::DIR_ITEM, name_hash(entry.name)), Key::new(dir, kind::DIR_INDEX, index)]
        {
            let Some(data) = self.get(key)? else { continue };
            let Some(there) = dir::entries(&data).flatten().find(|other| other.name == entry.name) else {
                continue;
            };
            if there.target == entry.target && there.kind == entry.kind {
                equal = i32::saturating_add(equal, 1);
            } else if exists {
                self.unlink_target(dir, entry.name, there.target)?;
            }
        }
        if equal == 2 || self.logs_reference(dir, entry.target.object, entry.name) {
            // It is there; or comes with the inode's own references.
            return Ok(());
        }
        let outcome = self.link(dir, entry.target.object, entry.name, index, true)?;
        /// `BTRFS_FT_DIR`.
        const DIR: u8 = 2;
        if outcome == Outcome::Done && entry.kind != DIR {
            self.recount.insert(entry.target.object);
        }
        Ok(())
    }

    /// Is the reference of an inode to this name in the log?
    fn logs_reference(&self, dir: u64, number: u64, name: &[u8]) -> bool {
        let plain = Key::new(number, kind::INODE_REF, dir);
        let extended = Key::new(number, kind::INODE_EXTREF, extref_hash(dir, name));
        [plain, extended].iter().any(|key| self.logs_reference_at(*key, dir, name))
    }

    fn logs_reference_at(&self, key: Key, dir: u64, name: &[u8]) -> bool {
        self.log.get(&key).is_some_and(|item| {
            refs_of(&item.data, key.kind)
                .flatten()
                .any(|other| other.name == name && other.dir.is_none_or(|at| at == dir))
        })
    }

    /// The names that an inode's log says it has.
    fn names_of_inode(&mut self, item: &Item) -> Result<()> {
        let number = item.key.object;
        if item.key.kind == kind::INODE_REF && self.raw(item.key.offset)?.is_none() {
            // Its directory was not logged and is not there.
            return Ok(());
        }
        if self.raw(number)?.is_none() {
            return Err(self.bad(number, "has names and is not in the subvolume"));
        }
        for found in refs_of(&item.data, item.key.kind) {
            let found = found.map_err(|why| self.bad(number, why))?;
            let dir = found.dir.unwrap_or(item.key.offset);
            if self.raw(dir)?.is_none() || self.is_in(dir, number, &found)? {
                continue;
            }
            if number == dir && self.get(Key::new(number, kind::INODE_REF, dir))?.is_some() {
                // The root directory's reference to itself stays as it is.
                return Ok(());
            }
            self.make_room(dir, number, &found)?;
            if self.link(dir, number, found.name, found.index, false)? == Outcome::Skipped {
                return Err(self.bad(number, "the place of one of its names is taken"));
            }
        }
        // Names that the subvolume has and the log has not.
        let old = self.get(item.key)?.unwrap_or_else(|| Vec::new().into());
        for found in refs_of(&old, item.key.kind) {
            let found = found.map_err(|why| self.bad(number, why))?;
            let dir = found.dir.unwrap_or(item.key.offset);
            if !self.logs_reference_at(item.key, dir, found.name) {
                self.unlink(dir, number, found.name)?;
            }
        }
        self.put(item.key, item.data.clone())
    }

    /// Has the directory this name, at this index, for this inode?
    fn is_in(&self, dir: u64, number: u64, found: &Ref<'_>) -> Result<bool> {
        for key in [
            Key::new(dir, kind::DIR_INDEX, found.index),
            Key::new(dir, kind::DIR_ITEM, name_hash(found.name)),
        ] {
            let Some(data) = self.get(key)? else { return Ok(false) };
            let there = dir::entries(&data).flatten().find(|entry| entry.name == found.name);
            if there.is_none_or(|there| there.target.object != number) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Unlinks what stands where an inode is to get a name.
    fn make_room(&mut self, dir: u64, number: u64, found: &Ref<'_>) -> Result<()> {
        // Other names of the inode in this directory that its log does not have.
        let plain = Key::new(number, kind::INODE_REF, dir);
        let extended = Key::new(number, kind::INODE_EXTREF, extref_hash(dir, found.name));
        for key in [plain, extended] {
            let Some(data) = self.get(key)? else { continue };
            for old in refs_of(&data, key.kind) {
                let old = old.map_err(|why| self.bad(number, why))?;
                if old.dir.is_some_and(|at| at != dir) || self.logs_reference_at(key, dir, old.name) {
                    continue;
                }
                self.unlink(dir, number, old.name)?;
            }
        }
        for key in [
            Key::new(dir, kind::DIR_INDEX, found.index),
            Key::new(dir, kind::DIR_ITEM, name_hash(found.name)),
        ] {
            let Some(data) = self.get(key)? else { continue };
            if let Some(there) = dir::entries(&data).flatten().find(|entry| entry.name == found.name) {
                self.unlink_target(dir, found.name, there.target)?;
            }
        }
        Ok(())
    }

    /// An extent of a file.
    fn extent(&mut self, item: &Item) -> Result<()> {
        let number = item.key.object;
        let new = Extent::parse(item, self.pool.sb.sector)
            .map_err(|trouble| self.bad(number, &format!("{trouble:?}")))?;
        let sector = u64::from(self.pool.sb.sector);
        let is_inline = matches!(new.body, Body::Inline { .. });
        let is_hole = matches!(new.body, Body::Real { at: 0, .. });
        let end = new.end();
        let end = if is_inline { end.checked_next_multiple_of(sector).unwrap_or(end) } else { end };
        if !is_inline && self.get(item.key)?.is_some_and(|old| old.get(..REAL) == item.data.get(..REAL)) {
            return Ok(());
        }
        let dropped = self.drop_extents(number, new.start, end)?;
        if !is_hole || !self.pool.sb.features.has_no_holes() {
            self.put(item.key, item.data.clone())?;
        }
        let added = if is_hole { 0 } else { new.len() };
        self.change(number, |raw| raw.add_bytes(added, dropped))
    }

    /// Takes a file's extents from `start` to `end` away, cutting those that reach out of it; the bytes that they took.
    fn drop_extents(&mut self, number: u64, start: u64, end: u64) -> Result<u64> {
        let mut dropped = 0_u64;
        let Some(last) = end.checked_sub(1) else { return Ok(0) };
        let first = Key::new(number, kind::EXTENT_DATA, start);
        let before = self.pool.floor_within(&self.tree, first, Some(self.budget))?;
        let before = before.filter(|item| item.key.is(number, kind::EXTENT_DATA));
        let from = before.map_or(start, |item| item.key.offset);
        for item in self.all(number, kind::EXTENT_DATA, from, last)? {
            let old = Extent::parse(&item, self.pool.sb.sector)
                .map_err(|trouble| self.bad(number, &format!("{trouble:?}")))?;
            let old_end = old.end();
            if old_end <= start {
                continue;
            }
            let (from, to) = (old.start.max(start), old_end.min(end));
            let Body::Real { at, skip, .. } = old.body else {
                if old.start < start || old_end > end {
                    return Err(self.bad(number, "an inline extent is to be cut"));
                }
                dropped = dropped.saturating_add(old.len());
                self.remove(item.key)?;
                continue;
            };
            if at != 0 {
                dropped = dropped.saturating_add(to.saturating_sub(from));
            }
            self.remove(item.key)?;
            if old.start < start {
                let len = start.saturating_sub(old.start);
                self.put(item.key, part_of(&item.data, skip, len))?;
            }
            if old_end > end {
                let skip = skip.saturating_add(end.saturating_sub(old.start));
                let data = part_of(&item.data, skip, old_end.saturating_sub(end));
                self.put(Key { offset: end, ..item.key }, data)?;
            }
        }
        Ok(dropped)
    }

    /// Counts the names of each inode that gained or lost one. A directory that has none left loses what is in it.
    fn count_names(&mut self) -> Result<()> {
        while let Some(number) = self.recount.pop_last() {
            let Some(raw) = self.raw(number)? else {
                return Err(self.bad(number, "is not in the subvolume"));
            };
            let mut count = 0_u32;
            for kind in [kind::INODE_REF, kind::INODE_EXTREF] {
                for item in self.all(number, kind, 0, u64::MAX)? {
                    let names = refs_of(&item.data, kind).flatten().count();
                    count = count.saturating_add(u32::try_from(names).unwrap_or(u32::MAX));
                }
            }
            if raw.nlink.get() != count {
                self.change(number, |raw| raw.nlink = U32::new(count))?;
            }
            if count == 0 && kind_of(raw.mode.get()) == Some(FileType::Dir) {
                self.forget_names(number, true)?;
            }
        }
        Ok(())
    }
}

impl RawInode {
    fn of(data: &[u8]) -> Option<Self> {
        parse_struct(data, inode::at(0)).ok()
    }

    fn add_bytes(&mut self, added: u64, dropped: u64) {
        self.nbytes = U64::new(self.nbytes.get().saturating_add(added).saturating_sub(dropped));
    }
}

/// The names in an INODE_REF or INODE_EXTREF.
fn refs_of(data: &[u8], kind: u8) -> impl Iterator<Item = Result<Ref<'_>, &'static str>> {
    inode::names(data, kind == kind::INODE_EXTREF)
}
