//! btrfs, read from its own structures and nothing else, on one device or several.
//!
//! ```text
//! superblock ─ features, sum     what the file system is; its checksums
//! device ─ raid56                the devices that are there; a second try at what the first copy does not give
//! chunk                          logical byte → device and byte
//! node ─ cache, key              a block of a tree; kept for a while
//! tree                           finding items, and going on from there
//! pool                           all of the above, once for all subvolumes
//! root                           subvolumes: which there are, and where they hang
//! log                            what was synced after the last commit, laid over the trees in memory
//! inode, dir, xattr              files and their names
//! extent ─ data, compress        files' bytes: where they lie, compared with their checksums, unpacked
//! ```
//! A [`Btrfs`] shows one subvolume, and what hangs in it, as a mount with `subvolid=` does.

use super::{
    DirEntry, FileSystem, FileType, FsCx, FsFacts, FsKind, Ino, SetMember, Stat, State, Subvolume, Xattr,
};
use crate::block::{self, BlockSource, Probe, Run};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::text::Text;
use extent::{Body, Extent, Found, INLINE_AT};
use inode::Inode;
use key::object;
use pool::Pool;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use tree::Tree;

mod cache;
mod chunk;
mod compress;
mod data;
mod device;
mod dir;
mod extent;
mod features;
mod inode;
mod key;
mod log;
mod node;
mod pool;
mod raid56;
mod root;
mod sum;
mod superblock;
mod tree;
mod xattr;

/// btrfs.
pub const KIND: FsKind = FsKind { name: "btrfs", claims, set: Some(set), open };

/// The longest target of a symbolic link: a page, which a link is kept inline in.
const MAX_LINK: u64 = 4096;
/// How an [`Ino`] says which inode of which tree it is; the tree that is shown is 0. Few numbers do not fit the first way,
/// which stays below 2^48.
///
/// ```text
/// bit 63: 0   tree, bits 32 to 47     empty, bit 31     inode, bits 0 to 30
/// bit 63: 1   tree, bits 40 to 62     empty, bit 39     inode, bits 0 to 38
/// ```
/// `empty` stands for the directory that the kernel shows in this one, where a subvolume is not there.
const WAYS: [Way; 2] =
    [Way { mark: 0, tree_at: 32, tree_bits: 16 }, Way { mark: 1 << 63, tree_at: 40, tree_bits: 23 }];

/// One of them.
#[derive(Clone, Copy)]
struct Way {
    mark: u64,
    tree_at: u32,
    tree_bits: u32,
}

impl Way {
    /// The bit that says `empty`, right below the tree.
    const fn empty(self) -> u64 {
        1 << self.tree_at.saturating_sub(1)
    }

    fn pack(self, tree: u64, number: u64, is_empty: bool) -> Option<Ino> {
        let fits = tree >> self.tree_bits == 0 && number < self.empty();
        let empty = if is_empty { self.empty() } else { 0 };
        fits.then_some(Ino(self.mark | tree << self.tree_at | empty | number))
    }

    /// Tree, inode, and whether the empty directory in it is meant.
    const fn unpack(self, ino: Ino) -> (u64, u64, bool) {
        let plain = ino.0 ^ self.mark;
        let number = plain & !(u64::MAX << self.tree_at.saturating_sub(1));
        (plain >> self.tree_at, number, plain & self.empty() != 0)
    }
}

fn claims(probe: &Probe<'_>) -> bool {
    let [first, ..] = superblock::PLACES;
    probe.has(narrow(first).saturating_add(superblock::MAGIC_AT), superblock::MAGIC)
}

fn set(probe: &Probe<'_>) -> Option<SetMember> {
    let [first, ..] = superblock::PLACES;
    superblock::set_of(probe.head.get(narrow(first)..)?.get(..superblock::SIZE)?)
}

fn open(devices: &[Arc<dyn BlockSource>], cx: &FsCx<'_>) -> Result<Arc<dyn FileSystem>> {
    Ok(Arc::new(Btrfs::open(devices, cx)?))
}

/// A subvolume of a btrfs file system.
pub struct Btrfs {
    pool: Arc<Pool>,
    /// The tree that is shown.
    tree: Arc<Tree>,
}

impl fmt::Debug for Btrfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Btrfs(subvolume {} of {:?})", self.tree.id, self.pool)
    }
}

/// What an [`Ino`] stands for.
enum Target {
    /// An inode of a tree.
    Inode(Arc<Tree>, u64),
    /// The empty directory in this directory of a tree.
    EmptyIn(Arc<Tree>, u64),
}

impl Btrfs {
    /// Opens the default subvolume of the file system on these devices.
    ///
    /// # Errors
    /// `Corrupt` when what everything depends on makes no sense; `Unsupported` with the name of a feature; `Ambiguous` when
    /// a device was given twice.
    pub fn open(devices: &[Arc<dyn BlockSource>], cx: &FsCx<'_>) -> Result<Self> {
        let pool = Arc::new(Pool::open(devices, cx)?);
        let id = pool.default_subvolume()?;
        Self::show(pool, id)
    }

    fn show(pool: Arc<Pool>, id: u64) -> Result<Self> {
        let tree = pool.subvolume_tree(id)?;
        let tree = tree.ok_or_else(|| Error::not_found(format!("subvolume {id}")))?;
        pool.inode_of(&tree, object::FIRST_FREE, FileType::Dir)?;
        Ok(Self { pool, tree })
    }

    /// The number of an inode of a tree, or of the empty directory in it.
    ///
    /// # Errors
    /// `Unsupported` for numbers that half a trillion files, or eight million subvolumes, do not reach.
    fn ino(&self, tree: u64, number: u64, is_empty: bool) -> Result<Ino> {
        let high = if tree == self.tree.id { 0 } else { tree };
        WAYS.iter()
            .find_map(|way| way.pack(high, number, is_empty))
            .ok_or_else(|| Error::unsupported(format!("inode {number} of tree {tree}")).at(inode::at(number)))
    }

    fn target(&self, ino: Ino) -> Result<Target> {
        let [first, second] = WAYS;
        let way = if ino.0 >> 63 == 0 { first } else { second };
        let (high, number, is_empty) = way.unpack(ino);
        let tree = match high {
            0 => Arc::clone(&self.tree),
            id => self.pool.subvolume_tree(id)?.ok_or_else(|| {
                Error::corrupt(At::new("btrfs", "subvolume").index(id)).because("is not there")
            })?,
        };
        Ok(if is_empty { Target::EmptyIn(tree, number) } else { Target::Inode(tree, number) })
    }

    /// An inode of this type, with its tree.
    fn one(&self, ino: Ino, kind: FileType) -> Result<(Arc<Tree>, Inode)> {
        match self.target(ino)? {
            Target::Inode(tree, number) => {
                let inode = self.pool.inode_of(&tree, number, kind)?;
                Ok((tree, inode))
            }
            Target::EmptyIn(tree, number) => {
                // It is a directory: whoever asks for another type learns that.
                let inode = self.pool.inode_of(&tree, number, kind)?;
                Ok((tree, inode))
            }
        }
    }

    /// Where the bytes of an extent from `into` on lie.
    fn place(&self, extent: &Extent, into: u64) -> Result<block::Place> {
        let locate = |at: u64| {
            let place = self.pool.chunks.locate(at)?;
            let (file, offset) = self.pool.devices.first(&place).ok_or_else(|| {
                let at = At::new("btrfs", "logical address").byte(at);
                Error::corrupt(at).because("has no copy on a device that is there")
            })?;
            Ok::<_, Error>((file, offset, place.len))
        };
        Ok(match &extent.body {
            Body::Inline { at: None, .. } => block::Place::Zero,
            Body::Inline { item, at: Some(at) } => {
                let (file, offset, _) = locate(at.saturating_add(wide(INLINE_AT)))?;
                if extent.packing.is_none() {
                    block::Place::Stored { file, offset: offset.saturating_add(into) }
                } else {
                    let stored = wide(item.len().saturating_sub(INLINE_AT));
                    block::Place::Packed { file, offset, stored, unit: *at, skip: into }
                }
            }
            Body::Real { at: 0, .. } => block::Place::Hole,
            Body::Real { is_unwritten: true, .. } => block::Place::Zero,
            Body::Real { at, stored, skip, .. } => {
                let skip = skip.saturating_add(into);
                if extent.packing.is_none() {
                    let (file, offset, _) = locate(at.saturating_add(skip))?;
                    block::Place::Stored { file, offset }
                } else {
                    let (file, offset, _) = locate(*at)?;
                    block::Place::Packed { file, offset, stored: *stored, unit: *at, skip }
                }
            }
        })
    }
}

impl FileSystem for Btrfs {
    fn root(&self) -> Ino {
        Ino(object::FIRST_FREE)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        match self.target(dir)? {
            Target::Inode(tree, number) => self.find(&tree, number, name),
            Target::EmptyIn(..) => Ok(None),
        }
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let sector = self.pool.sb.sector;
        match self.target(ino)? {
            Target::Inode(tree, number) => Ok(self.pool.inode(&tree, number)?.stat(sector)),
            Target::EmptyIn(tree, number) => {
                let dir = self.pool.inode(&tree, number)?.stat(sector);
                Ok(Stat {
                    ino: Ino(object::EMPTY_DIR),
                    kind: FileType::Dir,
                    size: 0,
                    blocks: 0,
                    mode: 0o755,
                    nlink: 1,
                    ..dir
                })
            }
        }
    }

    fn readdir(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        match self.target(dir)? {
            Target::Inode(tree, number) => self.list(&tree, number, from, sink),
            Target::EmptyIn(..) => Ok(()),
        }
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        let (tree, inode) = self.one(ino, FileType::File)?;
        let len = narrow(inode.size.saturating_sub(offset)).min(buf.len());
        let buf = buf.get_mut(..len).unwrap_or_default();
        self.pool.read_file(&tree, &inode, buf, offset)?;
        Ok(len)
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        let (tree, inode) = self.one(ino, FileType::Symlink)?;
        let bad = |why: String| Error::corrupt(inode::at(inode.number)).because(why);
        if inode.size == 0 || inode.size > MAX_LINK {
            return Err(bad(format!("a symbolic link of {} bytes", inode.size)));
        }
        // At most MAX_LINK, compared above.
        let mut target = vec![0; narrow(inode.size)];
        self.pool.read_file(&tree, &inode, &mut target, 0)?;
        if target.contains(&0) {
            return Err(bad("a symbolic link whose target is not its length".to_owned()));
        }
        Ok(target)
    }

    fn xattrs(&self, ino: Ino) -> Result<Vec<Xattr>> {
        match self.target(ino)? {
            Target::Inode(tree, number) => self.pool.xattrs(&tree, number),
            Target::EmptyIn(..) => Ok(Vec::new()),
        }
    }

    fn is_immutable(&self, ino: Ino) -> Result<Option<bool>> {
        match self.target(ino)? {
            Target::Inode(tree, number) => Ok(Some(self.pool.inode(&tree, number)?.is_immutable())),
            Target::EmptyIn(..) => Ok(None),
        }
    }

    fn run_at(&self, ino: Ino, offset: u64) -> Result<Run> {
        let (tree, inode) = self.one(ino, FileType::File)?;
        let left = inode.size.saturating_sub(offset);
        if left == 0 {
            return Err(Error::out_of_range(offset, 1, inode.size));
        }
        match self.pool.extent_at(&tree, &inode, offset)? {
            Found::Hole(len) => Ok(Run { len: len.min(left), place: block::Place::Hole }),
            Found::Extent(extent) => {
                let into = offset.saturating_sub(extent.start);
                let place = self.place(&extent, into)?;
                let mut len = extent.end().saturating_sub(offset).min(left);
                if let (block::Place::Stored { .. }, Body::Real { at, skip, .. }) = (place, &extent.body) {
                    // Up to where the next stripe begins.
                    let here = at.saturating_add(*skip).saturating_add(into);
                    len = len.min(self.pool.chunks.locate(here)?.len);
                }
                Ok(Run { len, place })
            }
        }
    }

    fn facts(&self) -> FsFacts {
        let sb = &self.pool.sb;
        let state = if sb.has_errors() {
            State::Errors
        } else if sb.log_root.is_some() {
            State::Dirty
        } else {
            State::Clean
        };
        FsFacts {
            kind: "btrfs",
            label: Text::from(sb.label.as_slice()),
            uuid: Some(sb.uuid()),
            block_size: sb.sector,
            size: sb.total_bytes,
            free: Some(sb.total_bytes.saturating_sub(sb.bytes_used)),
            reserved: 0,
            inodes: 0,
            free_inodes: 0,
            state,
            features: sb.features.names(),
            last_mounted: Text::default(),
            warnings: self.pool.warnings.clone(),
        }
    }

    fn subvolumes(&self) -> Result<Vec<Subvolume>> {
        self.pool.all_subvolumes()
    }

    fn subvolume(&self, id: u64) -> Result<Arc<dyn FileSystem>> {
        Ok(Arc::new(Self::show(Arc::clone(&self.pool), id)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_say_which_inode_of_which_tree() {
        let [first, second] = WAYS;
        let most = (1 << 31) - 1;
        for (way, tree, number, is_empty) in [
            (first, 0, 256, false),
            (first, 65_535, most, true),
            (second, 65_536, 256, true),
            (second, 0, 1 << 31, false),
            (second, (1 << 23) - 1, (1 << 39) - 1, true),
        ] {
            let ino = way.pack(tree, number, is_empty).unwrap();
            assert_eq!(way.unpack(ino), (tree, number, is_empty));
            assert_eq!(ino.0 >> 48 == 0, way.mark == 0);
        }
        assert!(first.pack(65_536, 1, false).is_none() && first.pack(0, 1 << 31, false).is_none());
        assert_eq!(first.pack(0, 256, false), Some(Ino(256)));
    }
}
