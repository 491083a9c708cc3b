//! What all subvolumes of a file system share: its devices and chunks, its nodes, the tree of trees, the checksums.

use super::cache::Nodes;
use super::chunk::Chunks;
use super::device::Devices;
use super::key::{Key, kind, object};
use super::log;
use super::root::RootItem;
use super::superblock::Superblock;
use super::tree::Tree;
use crate::block::BlockSource;
use crate::engine::Units;
use crate::error::{At, Error, Result};
use crate::fs::{FsCx, Journal};
use crate::ondisk::parse_struct;
use lru::LruCache;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

/// Trees of subvolumes whose roots are remembered.
const TREES: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Devices of a file system: the kernel makes no chunk on more (`BTRFS_MAX_DEVICES` with nodes of 64 KiB).
const MAX_DEVICES: usize = 2048;

/// A file system, without the choice of a subvolume.
pub(super) struct Pool {
    pub(super) sb: Superblock,
    pub(super) devices: Devices,
    pub(super) chunks: Chunks,
    pub(super) nodes: Nodes,
    /// What nodes may say that they belong to: this file system, or one that it grew out of. Empty while unknown.
    pub(super) fsids: Vec<[u8; 16]>,
    /// The tree of trees.
    pub(super) roots: Tree,
    /// The tree of the checksums of data. Without it, only the data cannot be read.
    pub(super) csums: Result<Tree>,
    /// Checksums of data that the log brings: by the logical byte that the first is for.
    pub(super) log_csums: BTreeMap<u64, Vec<u8>>,
    /// Subvolumes with their logs laid over them.
    pub(super) replayed: HashMap<u64, Arc<Tree>>,
    trees: Mutex<LruCache<u64, Arc<Tree>>>,
    /// Unpacked extents, in the process's cache.
    pub(super) units: Units,
    pub(super) warnings: Vec<String>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({}, {} devices)", self.sb.uuid(), self.sb.num_devices)
    }
}

impl Pool {
    /// Opens the file system on these devices.
    ///
    /// # Errors
    /// `Corrupt` when what everything depends on makes no sense; `Unsupported` with the name of a feature; `Ambiguous` when
    /// a device was given twice.
    pub(super) fn open(given: &[Arc<dyn BlockSource>], cx: &FsCx<'_>) -> Result<Self> {
        let mut warnings = Vec::new();
        let mut devices = Vec::new();
        for device in given {
            let (sb, said) = Superblock::load(&**device)?;
            warnings.extend(said);
            devices.push((Arc::clone(device), sb));
        }
        let (devices, sb, said) = Devices::new(devices)?;
        warnings.extend(said);
        if cx.is_one_of_copies {
            warnings.push(format!(
                "the file system exists twice: another volume says to be the same device of {}, a snapshot or a copy; each is shown as it is",
                sb.uuid()
            ));
        }
        if let Some(names) = sb.features.refused() {
            let at = At::new("btrfs", "superblock");
            return Err(Error::unsupported(format!("incompatible feature {names}")).at(at));
        }
        let mut chunks = Chunks::default();
        chunks.add_array(&sb.chunks, sb.sector)?;
        let mut pool = Self {
            nodes: Nodes::new(sb.node, sb.sum),
            roots: Tree::new(object::ROOT_TREE, sb.root),
            csums: Err(Error::corrupt(At::new("btrfs", "tree of checksums"))),
            sb,
            devices,
            chunks,
            fsids: Vec::new(),
            log_csums: BTreeMap::new(),
            replayed: HashMap::new(),
            trees: Mutex::new(LruCache::new(TREES)),
            units: cx.mapper.units(),
            warnings,
        };
        pool.load_chunks(cx)?;
        pool.csums = pool.load_tree(object::CSUM_TREE);
        pool.check_health();
        if pool.sb.log_root.is_some() {
            pool.meet_log(cx);
        }
        Ok(pool)
    }

    /// Reads the tree of chunks: every chunk, and every device that there should be.
    fn load_chunks(&mut self, cx: &FsCx<'_>) -> Result<()> {
        let tree = Tree::new(object::CHUNK_TREE, self.sb.chunk_root);
        let mut chunks = self.chunks.clone();
        let mut expected = Vec::new();
        {
            let mut items = self.items(&tree, Key::new(0, 0, 0))?;
            while let Some(item) = items.next()? {
                cx.budget.step("tree of chunks")?;
                if item.key.kind == kind::CHUNK {
                    chunks.add(item.key.offset, &item.data, self.sb.sector)?;
                } else if item.key.is(object::DEVICES, kind::DEVICE) {
                    let at = At::new("btrfs", "item of device").index(item.key.offset);
                    if expected.len() == MAX_DEVICES {
                        return Err(Error::limit(format!(
                            "a file system on more than {MAX_DEVICES} devices"
                        )));
                    }
                    expected.push(parse_struct::<super::superblock::DeviceItem>(&item.data, at)?);
                }
            }
        }
        self.chunks = chunks;
        self.fsids.push(self.sb.metadata_uuid);
        for device in expected {
            // A device that the file system grew out of carries the UUID of the one it was.
            if !self.fsids.contains(&device.fsid) && device.fsid != self.sb.fsid {
                self.fsids.push(device.fsid);
            }
            self.devices.expect(device.id.get(), device.uuid);
        }
        self.warnings.extend(self.devices.warnings());
        Ok(())
    }

    /// What people should know before they trust it.
    fn check_health(&mut self) {
        let mut warn = |is: bool, what: &str| {
            if is {
                self.warnings.push(what.to_owned());
            }
        };
        warn(
            self.sb.has_errors(),
            "the kernel recorded errors on this file system; 'btrfs check' should look at a copy",
        );
        warn(self.sb.is_dump(), "made by btrfs-image: what lies in the files was left out");
        warn(
            self.sb.is_changing(),
            "a change of its UUID did not come to its end: 'btrfstune' should finish it",
        );
        if let Err(error) = &self.csums {
            self.warnings.push(format!("the tree of checksums cannot be read, nor can files be: {error}"));
        }
    }

    /// Plays the log back in memory, or says why not.
    fn meet_log(&mut self, cx: &FsCx<'_>) {
        const COMMITTED: &str = "what was synced after the last commit is not shown";
        if cx.journal == Journal::Ignore {
            self.warnings.push(format!("the log was not replayed: {COMMITTED}"));
            return;
        }
        if self.sb.features.unknown_compat_ro() {
            self.warnings.push(format!(
                "the log was not replayed, for the file system has features that are not known: {COMMITTED}"
            ));
            return;
        }
        match log::replay(self, cx.budget) {
            Ok(replayed) => {
                self.warnings.push(format!(
                    "was in use when the image was taken: {} of its log replayed in memory",
                    match replayed.items {
                        1 => "one item".to_owned(),
                        many => format!("{many} items"),
                    }
                ));
                self.log_csums = replayed.csums;
                for tree in replayed.trees {
                    self.replayed.insert(tree.id, Arc::new(tree));
                }
            }
            Err(error) => {
                self.warnings.push(format!("the log could not be replayed ({error}): {COMMITTED}"));
            }
        }
    }

    /// The item of the tree of trees that describes tree `id`: its newest.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn root_item(&self, id: u64) -> Result<Option<RootItem>> {
        let found = self.floor(&self.roots, Key::new(id, kind::ROOT, u64::MAX))?;
        found
            .filter(|item| item.key.is(id, kind::ROOT))
            .map(|item| RootItem::parse(id, &item.data))
            .transpose()
    }

    fn load_tree(&self, id: u64) -> Result<Tree> {
        let item = self.root_item(id)?;
        let missing =
            || Error::corrupt(At::new("btrfs", "tree").index(id)).because("is not in the tree of trees");
        Ok(Tree::new(id, item.ok_or_else(missing)?.root))
    }

    /// The tree of a subvolume, as a mount would show it; `None` when there is none or it was deleted.
    ///
    /// # Errors
    /// When what describes it cannot be read.
    pub(super) fn subvolume_tree(&self, id: u64) -> Result<Option<Arc<Tree>>> {
        if let Some(tree) = self.replayed.get(&id) {
            return Ok(Some(Arc::clone(tree)));
        }
        if let Some(tree) = self.lock().get(&id) {
            return Ok(Some(Arc::clone(tree)));
        }
        if !object::is_subvolume(id) {
            return Ok(None);
        }
        let Some(item) = self.root_item(id)?.filter(|item| item.refs > 0) else { return Ok(None) };
        let tree = Arc::new(Tree::new(id, item.root));
        self.lock().put(id, Arc::clone(&tree));
        Ok(Some(tree))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<u64, Arc<Tree>>> {
        // Nothing panics while it is locked.
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
