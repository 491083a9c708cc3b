//! Subvolumes: trees that the tree of trees lists, each with a root directory of its own, and the names by which they hang
//! in each other.
//!
//! btrfs on-disk format, "ROOT_ITEM", "ROOT_REF", "ROOT_BACKREF".

use super::dir::{self, Location};
use super::inode;
use super::key::{Key, kind, object};
use super::pool::Pool;
use super::superblock::{MAX_LEVEL, RootPointer};
use super::tree::Tree;
use crate::budget::{Budget, Limits};
use crate::error::{At, Error, Result};
use crate::fs::Subvolume;
use crate::ondisk::{get_le16, get_le32, get_le64, uuid};

/// `flags`: it cannot be written.
const READ_ONLY: u64 = 1;
/// Directories and subvolumes above each other.
const MAX_DEPTH: usize = 1024;
/// Bytes of a path.
const MAX_PATH: usize = 64 << 10;

/// What the tree of trees says of a tree.
#[derive(Clone, Debug)]
pub(super) struct RootItem {
    pub(super) root: RootPointer,
    /// 0 once it was deleted.
    pub(super) refs: u32,
    flags: u64,
    /// Of the subvolume it was made from.
    parent: Option<[u8; 16]>,
}

impl RootItem {
    /// Decodes the item of tree `id`.
    ///
    /// # Errors
    /// `Corrupt` when it is too short or its root makes no sense.
    pub(super) fn parse(id: u64, data: &[u8]) -> Result<Self> {
        let at = || At::new("btrfs", "item of tree").index(id);
        let short = || Error::corrupt(at()).because(format!("has {} bytes", data.len()));
        let long = |by| get_le64(data, by).ok_or_else(short);
        // Offsets: generation 160, bytenr 176, flags 208, refs 216, level 238, generation_v2 239, parent_uuid 263.
        let root =
            RootPointer { at: long(176)?, level: *data.get(238).ok_or_else(short)?, generation: long(160)? };
        if root.level >= MAX_LEVEL {
            return Err(Error::corrupt(at()).because(format!("its root is of level {}", root.level)));
        }
        // What an old kernel wrote ends before the UUIDs, or has left them as they were.
        let has_uuids = get_le64(data, 239) == Some(root.generation);
        let parent = data.get(263..).and_then(|rest| rest.first_chunk::<16>()).copied();
        Ok(Self {
            root,
            refs: get_le32(data, 216).ok_or_else(short)?,
            flags: long(208)?,
            parent: parent.filter(|id| has_uuids && *id != [0; 16]),
        })
    }
}

/// Where a subvolume hangs: its parent, a directory of that, and its name there.
struct Hook {
    parent: u64,
    dir: u64,
    name: Vec<u8>,
}

impl Hook {
    /// Decodes a ROOT_REF or ROOT_BACKREF: directory, sequence, length of the name, name.
    fn parse(parent: u64, data: &[u8]) -> Option<Self> {
        let len = usize::from(get_le16(data, 16)?);
        let name = data.get(18..)?.get(..len)?.to_vec();
        Some(Self { parent, dir: get_le64(data, 0)?, name })
    }
}

impl Pool {
    /// The subvolume that a mount without options shows.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub(super) fn default_subvolume(&self) -> Result<u64> {
        let found = self.find_name(&self.roots, self.sb.root_dir, b"default")?;
        Ok(match found {
            Some(Location::Subvolume(id)) => id,
            _ => object::FS_TREE,
        })
    }

    /// Does the subvolume `child` hang in directory `dir` of `parent` under this name? If not, the name is a left-over:
    /// of a snapshot, in which the subvolumes of what it was made from are not.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(super) fn hangs(&self, parent: u64, dir: u64, name: &[u8], child: u64) -> Result<bool> {
        let item = self.item(&self.roots, Key::new(parent, kind::ROOT_REF, child))?;
        let hook = item.and_then(|item| Hook::parse(parent, &item.data));
        Ok(hook.is_some_and(|hook| hook.dir == dir && hook.name == name)
            && self.subvolume_tree(child)?.is_some())
    }

    /// Every subvolume that hangs somewhere, and the one on top.
    ///
    /// # Errors
    /// When their list cannot be read.
    pub(super) fn all_subvolumes(&self) -> Result<Vec<Subvolume>> {
        let budget = Budget::new(Limits { steps: 200_000, ..Limits::REQUEST });
        let default = self.default_subvolume()?;
        let mut all = Vec::new();
        let mut from = Some(Key::new(object::FS_TREE, kind::ROOT, 0));
        while let Some(key) = from {
            budget.step("list of subvolumes")?;
            let Some(item) = self.items(&self.roots, key)?.next()? else { break };
            let id = item.key.object;
            if id > object::LAST_FREE {
                break;
            }
            if !object::is_subvolume(id) || item.key.kind > kind::ROOT {
                from = Key::new(id, u8::MAX, u64::MAX).after();
                continue;
            }
            if item.key.kind < kind::ROOT {
                from = Some(Key::new(id, kind::ROOT, 0));
                continue;
            }
            from = Key::new(id, kind::ROOT, u64::MAX).after();
            let Some(root) = self.root_item(id)?.filter(|root| root.refs > 0) else { continue };
            // One whose place is damaged can still be mounted by its number, but has no path to be listed under.
            let Some(path) = self.path_of(id, &budget).unwrap_or(None) else { continue };
            all.push(Subvolume {
                id,
                path,
                is_default: id == default,
                is_read_only: root.flags & READ_ONLY != 0,
                parent: root.parent.map(|id| uuid(&id)),
            });
        }
        Ok(all)
    }

    /// Where a subvolume hangs.
    fn hook(&self, id: u64) -> Result<Option<Hook>> {
        let item = self.items(&self.roots, Key::new(id, kind::ROOT_BACKREF, 0))?.next()?;
        let item = item.filter(|item| item.key.is(id, kind::ROOT_BACKREF));
        Ok(item.and_then(|item| Hook::parse(item.key.offset, &item.data)))
    }

    /// The path of a subvolume from the top; `None` when it hangs nowhere.
    fn path_of(&self, mut id: u64, budget: &Budget) -> Result<Option<Vec<u8>>> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut len = 0_usize;
        let mut push = |names: &mut Vec<Vec<u8>>, name: Vec<u8>| {
            len = len.saturating_add(name.len()).saturating_add(1);
            names.push(name);
            if names.len() > MAX_DEPTH || len > MAX_PATH {
                return Err(Error::limit(format!("a subvolume more than {MAX_DEPTH} directories deep")));
            }
            Ok(())
        };
        while id != object::FS_TREE {
            budget.step("path of a subvolume")?;
            let Some(hook) = self.hook(id)? else { return Ok(None) };
            push(&mut names, hook.name)?;
            let Some(tree) = self.subvolume_tree(hook.parent)? else { return Ok(None) };
            let mut dir = hook.dir;
            while dir != object::FIRST_FREE {
                budget.step("path of a subvolume")?;
                let Some((parent, name)) = self.name_of(&tree, dir)? else { return Ok(None) };
                push(&mut names, name)?;
                dir = parent;
            }
            id = hook.parent;
        }
        names.reverse();
        Ok(Some(names.join(&b'/')))
    }

    /// The directory that an inode is in, and its name there: the first of its names.
    fn name_of(&self, tree: &Tree, inode: u64) -> Result<Option<(u64, Vec<u8>)>> {
        let item = self.items(tree, Key::new(inode, kind::INODE_REF, 0))?.next()?;
        let item = item.filter(|item| item.key.is(inode, kind::INODE_REF));
        Ok(item.and_then(|item| {
            let name = inode::names(&item.data, false).next()?.ok()?.name.to_vec();
            Some((item.key.offset, name))
        }))
    }

    /// Finds a name in a directory of a tree by its hash.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn find_name(&self, tree: &Tree, dir: u64, name: &[u8]) -> Result<Option<Location>> {
        let Some(item) = self.item(tree, Key::new(dir, kind::DIR_ITEM, dir::name_hash(name)))? else {
            return Ok(None);
        };
        for entry in dir::entries(&item.data) {
            let entry = entry.map_err(|why| dir::bad(dir, &why))?;
            if entry.name == name {
                return entry.location().map(Some).map_err(|why| dir::bad(dir, &why));
            }
        }
        Ok(None)
    }
}
