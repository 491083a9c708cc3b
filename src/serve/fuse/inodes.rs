//! The numbers by which the kernel and we speak of files.
//!
//! ```text
//!   1                      the root of the view
//!   0x0000 | inode         a file of the first file system of the tree at the top: the guest's own number
//!   0x0001… | inode        files of the other file systems, in the order of trees and their mounts
//!   0x7ffe | counter       what fits no rule: see [`Inodes::number`]
//!   0x7fff | index         the view's own nodes
//! ```
//! The number says where a file is found, so most files need no entry in a table. Directories and symbolic links do, for
//! as long as the kernel holds them: a link is shown relative to its place, and a place is a chain of parents.

use super::view::{Target, View};
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::Ino;
use crate::fs::tree::{Node, Tree};
use crate::num::wide;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The root's number in the FUSE protocol.
pub(super) const ROOT: u64 = 1;
const INO_BITS: u32 = 48;
const SPACE_COUNTED: u64 = 0x7ffe;
const SPACE_OWN: u64 = 0x7fff;
/// Directories above each other. The kernel knows no such bound but `PATH_MAX` / 2.
const MAX_DEPTH: usize = 4096;

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum File {
    /// A node of the view's table.
    Own(usize),
    /// A file of one of its trees.
    Guest(usize, Node),
}

/// How a file of a guest is known to the kernel.
#[derive(Clone, Copy, Debug)]
enum Role {
    Dir,
    Link,
    Other,
}

/// A directory or link that the kernel holds.
#[derive(Debug)]
struct Known {
    parent: u64,
    /// How often the kernel was told of it without forgetting.
    count: u64,
    /// Set for the numbers of [`SPACE_COUNTED`]: the file, and the directory of a link.
    key: Option<(File, u64)>,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<u64, Known>,
    counted: HashMap<(File, u64), u64>,
    next: u64,
}

/// The numbers of one mount.
#[derive(Debug)]
pub(super) struct Inodes {
    root: File,
    trees: Vec<Arc<Tree>>,
    /// Tree and mount of each space, and back: the first space of each tree.
    spaces: Vec<(usize, usize)>,
    first: Vec<usize>,
    table: Mutex<Table>,
}

fn join(space: u64, low: u64) -> Option<u64> {
    (low >> INO_BITS == 0).then_some((space << INO_BITS) | low)
}

impl Inodes {
    pub(super) fn new(view: &View) -> Self {
        let trees = view.trees().to_vec();
        let (mut spaces, mut first) = (Vec::new(), vec![0; trees.len()]);
        // What is seen at the top comes first, so that its numbers are the guest's own.
        let is_below = |tree: &usize| view.root() != Target::Tree(*tree);
        let mut order: Vec<usize> = (0..trees.len()).collect();
        order.sort_by_key(is_below);
        for tree in order {
            if let Some(first) = first.get_mut(tree) {
                *first = spaces.len();
            }
            let mounts = trees.get(tree).map_or(0, |tree| tree.mounts().len());
            spaces.extend((0..mounts).map(|mount| (tree, mount)));
        }
        let root = match view.root() {
            Target::Own(at) => File::Own(at),
            Target::Tree(tree) => File::Guest(tree, root_of(&trees, tree)),
        };
        Self { root, trees, spaces, first, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the target of a view's name stands for.
    pub(super) fn target(&self, target: Target) -> File {
        match target {
            Target::Own(at) => File::Own(at),
            Target::Tree(tree) => File::Guest(tree, root_of(&self.trees, tree)),
        }
    }

    /// The number that follows from the file alone, if there is one.
    pub(super) fn plain(&self, file: File) -> Option<u64> {
        if file == self.root {
            return Some(ROOT);
        }
        let number = match file {
            File::Own(at) => join(SPACE_OWN, wide(at))?,
            File::Guest(tree, node) => {
                let space = wide(self.first.get(tree)?.checked_add(node.fs)?);
                if space >= SPACE_COUNTED {
                    return None;
                }
                join(space, node.ino.0)?
            }
        };
        // 0 means "nothing" and 1 the root: an inode of that number in the first space needs another.
        (number > ROOT).then_some(number)
    }

    /// What a number stands for.
    ///
    /// # Errors
    /// `NotFound` for a number that we did not hand out.
    pub(super) fn file(&self, number: u64) -> Result<File> {
        if number == ROOT {
            return Ok(self.root);
        }
        let (space, low) = (number >> INO_BITS, number & ((1 << INO_BITS) - 1));
        let found = match space {
            SPACE_OWN => usize::try_from(low).ok().map(File::Own),
            SPACE_COUNTED => {
                self.table().known.get(&number).and_then(|known| known.key).map(|(file, _)| file)
            }
            _ => usize::try_from(space)
                .ok()
                .and_then(|space| self.spaces.get(space))
                .map(|(tree, fs)| File::Guest(*tree, Node { fs: *fs, ino: Ino(low) })),
        };
        found.ok_or_else(|| Error::not_found(format!("inode {number:#x}")))
    }

    /// A directory of a guest, about to be told to the kernel once more.
    ///
    /// # Errors
    /// `Corrupt` when it stands in two places, which no file system allows: the depth of one of them would let a link
    /// climb out of the mount.
    pub(super) fn directory(&self, file: File, parent: u64) -> Result<u64> {
        self.number(file, parent, Role::Dir)
    }

    /// A symbolic link. Hard links to it in different directories are different files to the kernel, since what they
    /// show differs.
    ///
    /// # Errors
    /// Never for a link that fits in memory.
    pub(super) fn link(&self, file: File, parent: u64) -> Result<u64> {
        self.number(file, parent, Role::Link)
    }

    /// Any other file.
    ///
    /// # Errors
    /// Never for a number that fits in memory.
    pub(super) fn other(&self, file: File) -> Result<u64> {
        match self.plain(file) {
            Some(number) => Ok(number),
            None => self.number(file, 0, Role::Other),
        }
    }

    fn number(&self, file: File, parent: u64, role: Role) -> Result<u64> {
        let plain = self.plain(file);
        if plain == Some(ROOT) {
            return Ok(ROOT);
        }
        let mut table = self.table();
        let Table { known, counted, next } = &mut *table;
        let mut key = None;
        let mut number = match plain {
            Some(number) => number,
            None => counted_number(counted, next, *key.insert((file, 0)))?,
        };
        if known.get(&number).is_some_and(|known| known.parent != parent) {
            match role {
                Role::Dir => {
                    let at = At::new("tree", "directory").index(number & ((1 << INO_BITS) - 1));
                    return Err(Error::corrupt(at).because("is linked from two directories"));
                }
                Role::Link => number = counted_number(counted, next, *key.insert((file, parent)))?,
                Role::Other => {}
            }
        }
        let entry = known.entry(number).or_insert(Known { parent, count: 0, key });
        entry.count = entry.count.saturating_add(1);
        Ok(number)
    }

    /// The kernel has forgotten a number `times` times.
    pub(super) fn forget(&self, number: u64, times: u64) {
        let mut table = self.table();
        let Some(known) = table.known.get_mut(&number) else { return };
        known.count = known.count.saturating_sub(times);
        if known.count > 0 {
            return;
        }
        if let Some(Known { key: Some(key), .. }) = table.known.remove(&number) {
            table.counted.remove(&key);
        }
    }

    /// The directory that a directory or link was last found in; its own number for the root.
    pub(super) fn parent(&self, number: u64) -> Option<u64> {
        if number == ROOT {
            return Some(ROOT);
        }
        self.table().known.get(&number).map(|known| known.parent)
    }

    /// The directories from a tree's root down to `directory`.
    ///
    /// # Errors
    /// `NotFound` when the kernel does not hold it.
    pub(super) fn chain(&self, directory: u64) -> Result<Vec<Node>> {
        let mut chain = Vec::new();
        let mut number = directory;
        while chain.len() < MAX_DEPTH {
            let File::Guest(tree, node) = self.file(number)? else { break };
            chain.push(node);
            if node == root_of(&self.trees, tree) {
                chain.reverse();
                return Ok(chain);
            }
            number = self.parent(number).ok_or_else(|| Error::not_found(format!("inode {number:#x}")))?;
        }
        Err(Error::limit(format!("more than {MAX_DEPTH} directories above each other")))
    }

    /// Numbers in the table, for the test that nothing is kept for ever.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let table = self.table();
        table.known.len().max(table.counted.len())
    }
}

/// The number out of the counter for a key: the one it has, or the next.
fn counted_number(counted: &mut HashMap<(File, u64), u64>, next: &mut u64, key: (File, u64)) -> Result<u64> {
    if let Some(number) = counted.get(&key) {
        return Ok(*number);
    }
    *next = next.saturating_add(1);
    let number =
        join(SPACE_COUNTED, *next).ok_or_else(|| Error::new(ErrorKind::Limit, "no inode number is left"))?;
    counted.insert(key, number);
    Ok(number)
}

/// The root of a tree; of no tree, a node that does not exist.
fn root_of(trees: &[Arc<Tree>], tree: usize) -> Node {
    trees.get(tree).map_or(Node { fs: usize::MAX, ino: Ino(0) }, |tree| tree.root())
}
