//! Trees of items, ordered by key: finding an item and going on from there.
//!
//! ```text
//! root (level 2) ─▶ inner nodes (level 1) ─▶ leaves (level 0) with items
//! ```
//! A tree can have items laid over it: what its log adds, changes and takes away. Whoever reads it sees the sum.

use super::key::{Key, object};
use super::node::{Bytes, Item, Node};
use super::pool::Pool;
use super::superblock::RootPointer;
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use std::collections::BTreeMap;

/// Items laid over a tree; `None` takes one away.
pub(super) type Patches = BTreeMap<Key, Option<Bytes>>;

/// A tree.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) id: u64,
    pub(super) root: RootPointer,
    pub(super) patches: Patches,
}

impl Tree {
    pub(super) const fn new(id: u64, root: RootPointer) -> Self {
        Self { id, root, patches: BTreeMap::new() }
    }
}

fn step(budget: Option<&Budget>) -> Result<()> {
    budget.map_or(Ok(()), |budget| budget.step("items of a tree"))
}

/// A node on the way down, and the entry of it that was taken.
#[derive(Debug)]
struct Level {
    node: Node,
    slot: usize,
}

/// Which entry of a node to go down by.
#[derive(Clone, Copy, Debug)]
enum By {
    /// The last one whose key is not above this one; in a leaf, the first that is not below it.
    Key(Key),
    First,
    Last,
}

/// A place in a tree's nodes.
#[derive(Debug)]
struct Walk<'a> {
    pool: &'a Pool,
    tree: &'a Tree,
    /// From the root down to a leaf; empty behind the last item.
    path: Vec<Level>,
}

impl<'a> Walk<'a> {
    fn new(pool: &'a Pool, tree: &'a Tree, key: Key) -> Result<Self> {
        let mut walk = Self { pool, tree, path: Vec::new() };
        let root = pool.node(tree, tree.root, None)?;
        walk.descend(root, By::Key(key))?;
        Ok(walk)
    }

    /// Goes down to a leaf. Levels fall by one each, so this ends.
    fn descend(&mut self, mut node: Node, by: By) -> Result<()> {
        loop {
            let below = |key| node.below(key);
            let is_leaf = node.level() == 0;
            let slot = match by {
                By::First => 0,
                By::Last => node.len().saturating_sub(1),
                By::Key(key) if is_leaf => below(key),
                By::Key(key) => {
                    let below = below(key);
                    if node.key(below) == Some(key) { below } else { below.saturating_sub(1) }
                }
            };
            let pointer = node.pointer(slot).filter(|_| !is_leaf);
            let level = node.level();
            self.path.push(Level { node, slot });
            let Some(pointer) = pointer else { return Ok(()) };
            let root = RootPointer {
                at: pointer.at,
                level: level.saturating_sub(1),
                generation: pointer.generation,
            };
            node = self.pool.node(self.tree, root, Some(pointer.key))?;
        }
    }

    /// The item at this place, after going to the next leaf if this one has no more.
    fn item(&mut self) -> Result<Option<Item>> {
        loop {
            let Some(leaf) = self.path.last() else { return Ok(None) };
            if let Some(item) = leaf.node.item(leaf.slot) {
                return Ok(Some(item));
            }
            let last = leaf.node.len().checked_sub(1).and_then(|n| leaf.node.key(n));
            self.turn(true)?;
            let first = self.path.last().and_then(|leaf| leaf.node.key(0));
            if let (Some(last), Some(first)) = (last, first)
                && first <= last
            {
                let at = self.path.last().map_or(0, |leaf| leaf.node.at);
                return Err(Error::corrupt(At::new("btrfs", "node of tree").index(self.tree.id).byte(at))
                    .because(format!("begins with {first}, the one before it ends with {last}")));
            }
        }
    }

    fn forward(&mut self) {
        if let Some(leaf) = self.path.last_mut() {
            leaf.slot = leaf.slot.saturating_add(1);
        }
    }

    /// Goes one item back; `false` before the first.
    fn back(&mut self) -> Result<bool> {
        if let Some(leaf) = self.path.last_mut()
            && let Some(slot) = leaf.slot.checked_sub(1)
        {
            leaf.slot = slot;
            return Ok(true);
        }
        self.turn(false)?;
        Ok(!self.path.is_empty())
    }

    /// Goes to the neighbouring leaf.
    fn turn(&mut self, forward: bool) -> Result<()> {
        self.path.pop();
        while let Some(level) = self.path.last_mut() {
            let slot = if forward { level.slot.checked_add(1) } else { level.slot.checked_sub(1) };
            let next = slot.and_then(|slot| Some((slot, level.node.pointer(slot)?)));
            if let Some((slot, pointer)) = next {
                level.slot = slot;
                let root = RootPointer {
                    at: pointer.at,
                    level: level.node.level().saturating_sub(1),
                    generation: pointer.generation,
                };
                let node = self.pool.node(self.tree, root, Some(pointer.key))?;
                return self.descend(node, if forward { By::First } else { By::Last });
            }
            self.path.pop();
        }
        Ok(())
    }
}

/// The items of a tree from a key on.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    walk: Walk<'a>,
    /// No item below this key is wanted any more; `None` at the end of all keys.
    from: Option<Key>,
    /// Nor one above this.
    to: Key,
    budget: Option<&'a Budget>,
}

impl Cursor<'_> {
    /// The next item.
    ///
    /// # Errors
    /// When a node on the way cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<Item>> {
        loop {
            let Some(from) = self.from.filter(|from| *from <= self.to) else { return Ok(None) };
            step(self.budget)?;
            let mut below = self.walk.item()?;
            while below.as_ref().is_some_and(|item| item.key < from) {
                self.walk.forward();
                below = self.walk.item()?;
            }
            below = below.filter(|item| item.key <= self.to);
            let patch = self.walk.tree.patches.range(from..=self.to).next();
            match (below, patch) {
                (None, None) => return Ok(None),
                (Some(item), patch) if patch.is_none_or(|(key, _)| item.key < *key) => {
                    self.walk.forward();
                    self.from = item.key.after();
                    return Ok(Some(item));
                }
                (_, Some((key, data))) => {
                    self.from = key.after();
                    if let Some(data) = data {
                        return Ok(Some(Item { key: *key, data: data.clone(), at: None }));
                    }
                }
                (Some(_), None) => return Ok(None),
            }
        }
    }

    /// The next item, if it is of this object and kind.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub(super) fn next_of(&mut self, object: u64, kind: u8) -> Result<Option<Item>> {
        Ok(self.next()?.filter(|item| item.key.is(object, kind)))
    }
}

impl Pool {
    /// A node of `tree`, by what points to it.
    ///
    /// # Errors
    /// `Corrupt` when it is not the one meant; when it cannot be read.
    pub(super) fn node(&self, tree: &Tree, root: RootPointer, first: Option<Key>) -> Result<Node> {
        let node = self.nodes.get(&self.devices, &self.chunks, root.at, root.generation)?;
        let bad = |why: String| {
            Err(Error::corrupt(At::new("btrfs", "node of tree").index(tree.id).byte(root.at)).because(why))
        };
        if node.level() != root.level {
            return bad(format!("is of level {}, {} was expected", node.level(), root.level));
        }
        let (owner, id) = (node.owner(), tree.id);
        let shares = |id| object::is_subvolume(id);
        if owner != id && !(shares(owner) && shares(id)) {
            return bad(format!("belongs to tree {owner}"));
        }
        if !self.fsids.is_empty() && !self.fsids.iter().any(|id| id.as_slice() == node.fsid()) {
            return bad("belongs to another file system".to_owned());
        }
        if let Some(first) = first
            && node.key(0) != Some(first)
        {
            return bad(format!("does not begin with {first}"));
        }
        Ok(node)
    }

    /// The items of `tree` from `key` on.
    ///
    /// # Errors
    /// When a node on the way down cannot be read.
    pub(super) fn items<'a>(&'a self, tree: &'a Tree, key: Key) -> Result<Cursor<'a>> {
        Ok(Cursor { walk: Walk::new(self, tree, key)?, from: Some(key), to: Key::LAST, budget: None })
    }

    /// The items of `tree` from `from` to `to`, both among them. What is passed on the way, taken away or not, costs a
    /// step each.
    ///
    /// # Errors
    /// When a node on the way down cannot be read.
    pub(super) fn items_within<'a>(
        &'a self,
        tree: &'a Tree,
        from: Key,
        to: Key,
        budget: &'a Budget,
    ) -> Result<Cursor<'a>> {
        Ok(Cursor { walk: Walk::new(self, tree, from)?, from: Some(from), to, budget: Some(budget) })
    }

    /// The item of this key.
    ///
    /// # Errors
    /// When a node on the way cannot be read.
    pub(super) fn item(&self, tree: &Tree, key: Key) -> Result<Option<Item>> {
        if let Some(data) = tree.patches.get(&key) {
            return Ok(data.clone().map(|data| Item { key, data, at: None }));
        }
        Ok(Walk::new(self, tree, key)?.item()?.filter(|item| item.key == key))
    }

    /// The last item whose key is not above `key`.
    ///
    /// # Errors
    /// When a node on the way cannot be read.
    pub(super) fn floor(&self, tree: &Tree, key: Key) -> Result<Option<Item>> {
        self.floor_within(tree, key, None)
    }

    /// The same; what is passed on the way that was taken away costs a step each.
    ///
    /// # Errors
    /// `Limit` when there are none left; when a node on the way cannot be read.
    pub(super) fn floor_within(
        &self,
        tree: &Tree,
        mut key: Key,
        budget: Option<&Budget>,
    ) -> Result<Option<Item>> {
        let mut walk = Walk::new(self, tree, key)?;
        // Where the walk stands is at or after `key`; what is wanted is at or before it.
        let mut below = walk.path.last().and_then(|leaf| leaf.node.item(leaf.slot));
        if below.as_ref().is_none_or(|item| item.key != key) {
            below =
                if walk.back()? { walk.path.last().and_then(|leaf| leaf.node.item(leaf.slot)) } else { None };
        }
        loop {
            step(budget)?;
            let patch = tree.patches.range(..=key).next_back();
            match (&below, patch) {
                (Some(item), Some((at, _))) if item.key > *at => return Ok(below),
                (_, None) => return Ok(below),
                (_, Some((at, Some(data)))) => {
                    return Ok(Some(Item { key: *at, data: data.clone(), at: None }));
                }
                (_, Some((at, None))) => {
                    if below.as_ref().is_some_and(|item| item.key == *at) {
                        below = if walk.back()? {
                            walk.path.last().and_then(|leaf| leaf.node.item(leaf.slot))
                        } else {
                            None
                        };
                    }
                    let Some(before) = at.before() else { return Ok(None) };
                    key = before;
                }
            }
        }
    }
}
