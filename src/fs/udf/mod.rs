//! UDF 1.02 to 2.60, as Linux mounts it.
//!
//! ```text
//! volume                    anchors, volume descriptors, the root
//! partition                 block of a partition → byte of the volume, through tables where there are any
//! icb                       file entries, and where content lies
//! dir                       names; targets of links
//! tag                       what every descriptor begins with, and the fields they share
//! ```
//! A file's number is the place of its entry: the number of a partition map, and of a block there. Named streams are
//! not shown. Of a disc that is ISO 9660 as well this is the fuller half; the other is read where this one is damaged.

use super::meta::Meta;
use super::{DirEntry, FileSystem, FileType, FsCx, FsFacts, FsKind, Ino, Stat, State};
use crate::block::{BlockSource, Probe, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::text::Text;
use icb::{Extents, Node};
use lru::LruCache;
use partition::Partition;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use tag::Address;
use volume::Names;

mod dir;
mod icb;
mod partition;
mod tag;
mod volume;

/// UDF.
pub const KIND: FsKind = FsKind { name: "udf", claims, set: None, open };

/// Files whose extents are remembered.
const KNOWN: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not zero");
/// Where the descriptors begin that say what a disc is.
const RECOGNITION: usize = 0x8000;
/// What they may say.
const RECOGNISED: [&[u8]; 7] = [b"BEA01", b"BOOT2", b"CD001", b"CDW02", b"NSR02", b"NSR03", b"TEA01"];

/// Is there a descriptor of UDF among those at the start, one every `step` bytes?
fn is_recognised(probe: &Probe<'_>, step: usize) -> bool {
    let ids = (RECOGNITION..probe.head.len()).step_by(step).map(|at| probe.bytes::<6>(at));
    let mut known = ids.map_while(|id| id.filter(|[_, id @ ..]| RECOGNISED.contains(&id.as_slice())));
    known.any(|[_, id @ ..]| id.starts_with(b"NSR0"))
}

/// The sizes of blocks that there may be: descriptors are 2048 bytes apart, or as far as blocks are long. A volume that
/// was made anew with another size may still have the old one's anchor.
fn block_sizes(probe: &Probe<'_>) -> &'static [u64] {
    match (is_recognised(probe, 2048), is_recognised(probe, 4096)) {
        (true, true) => &[512, 1024, 2048, 4096],
        (true, false) => &[512, 1024, 2048],
        (false, true) => &[4096],
        (false, false) => &[],
    }
}

fn claims(probe: &Probe<'_>) -> bool {
    !block_sizes(probe).is_empty()
}

fn open(devices: &[Arc<dyn BlockSource>], cx: &FsCx<'_>) -> Result<Arc<dyn FileSystem>> {
    let volume = super::only(devices)?;
    Udf::open(Arc::clone(&volume)).map(|udf| -> Arc<dyn FileSystem> { Arc::new(udf) }).or_else(|error| {
        super::iso9660::Iso::open(volume, cx)
            .map(|iso| -> Arc<dyn FileSystem> { Arc::new(iso) })
            .map_err(|_| error)
    })
}

fn refused(what: String) -> Error {
    Error::unsupported(what)
}

fn known() -> Mutex<LruCache<Ino, Extents>> {
    Mutex::new(LruCache::new(KNOWN))
}

/// A UDF file system.
pub struct Udf {
    /// Bytes of a block.
    block: u64,
    partitions: Vec<Partition>,
    root: Address,
    names: Names,
    by_reserve: bool,
    meta: Meta,
    known: Mutex<LruCache<Ino, Extents>>,
}

impl fmt::Debug for Udf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Udf({:?})", self.meta)
    }
}

fn ino(address: Address) -> Ino {
    Ino(u64::from(address.partition) << 32 | u64::from(address.block))
}

impl Udf {
    fn node(&self, ino: Ino) -> Result<Node> {
        let partition = u16::try_from(ino.0 >> 32);
        let block = u32::try_from(ino.0 & 0xffff_ffff);
        match (block, partition) {
            (Ok(block), Ok(partition)) => self.node_at(Address { block, partition }),
            _ => Err(Error::not_found(format!("inode {ino}"))),
        }
    }

    /// A file's extents, remembered for a while.
    fn extents_of(&self, ino: Ino, node: &Node) -> Result<Extents> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(extents) = lock().get(&ino) {
            return Ok(extents.clone());
        }
        let extents = self.extents(node)?;
        lock().put(ino, extents.clone());
        Ok(extents)
    }

    fn of_kind(&self, ino: Ino, wanted: FileType) -> Result<Node> {
        let node = self.node(ino)?;
        let kind = node.kind()?;
        if kind == wanted {
            return Ok(node);
        }
        let what = format!("inode {ino} is a {}, not a {}", kind.name(), wanted.name());
        Err(if wanted == FileType::Dir {
            Error::not_found(what)
        } else {
            Error::new(ErrorKind::Denied, what)
        })
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |is: bool, what: &str| {
            if is {
                warnings.push(what.to_owned());
            }
        };
        warn(self.by_reserve, "the volume descriptors are damaged; their reserve was read");
        warn(self.names.state == State::Dirty, "was not unmounted: the image was taken while it was in use");
        let mirrored = |partition: &Partition| matches!(partition, Partition::Metadata { main: None, .. });
        warn(self.partitions.iter().any(mirrored), "the metadata file is damaged; its mirror was read");
        warnings
    }
}

impl FileSystem for Udf {
    fn root(&self) -> Ino {
        ino(self.root)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let node = self.of_kind(dir, FileType::Dir)?;
        let mut found = None;
        self.names(&node, &self.extents_of(dir, &node)?, 0, &mut |named| {
            if named.name != name {
                return ControlFlow::Continue(());
            }
            found = Some(ino(named.address));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let node = self.node(ino)?;
        let kind = node.kind()?;
        let is_dir = kind == FileType::Dir;
        let size = if kind == FileType::Symlink { wide(self.target(&node)?.len()) } else { node.size };
        let device = matches!(kind, FileType::Char | FileType::Block);
        let rdev = if device { node.device() } else { Some((0, 0)) };
        // Nobody's, as the kernel has it for what names no owner.
        let owner = |id: u32| if id == u32::MAX { 65_534 } else { id };
        Ok(Stat {
            ino,
            kind,
            size,
            blocks: node.recorded.saturating_mul(self.block / 512),
            mode: if kind == FileType::Symlink { 0o777 } else { node.mode() },
            nlink: u32::from(node.links.max(1)).saturating_add(is_dir.into()),
            uid: owner(node.uid),
            gid: owner(node.gid),
            rdev: rdev.ok_or_else(|| Error::corrupt(node.at()).because("a device without its number"))?,
            atime: node.accessed,
            mtime: node.modified,
            ctime: node.changed,
            btime: node.created,
            blksize: u32::try_from(self.block).unwrap_or(u32::MAX),
        })
    }

    fn readdir(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let node = self.of_kind(dir, FileType::Dir)?;
        self.names(&node, &self.extents_of(dir, &node)?, from, &mut |named| {
            sink(DirEntry {
                ino: ino(named.address),
                // What is no directory may be anything.
                kind: named.is_dir.then_some(FileType::Dir),
                name: &named.name,
                next: named.next,
            })
        })
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        let node = self.of_kind(ino, FileType::File)?;
        let len = narrow(node.size.saturating_sub(offset)).min(buf.len());
        let extents = self.extents_of(ino, &node)?;
        self.read_file(&node, &extents, buf.get_mut(..len).unwrap_or_default(), offset)?;
        Ok(len)
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        self.target(&self.of_kind(ino, FileType::Symlink)?)
    }

    fn run_at(&self, ino: Ino, offset: u64) -> Result<Run> {
        let node = self.of_kind(ino, FileType::File)?;
        if offset >= node.size {
            return Err(Error::out_of_range(offset, 1, node.size));
        }
        self.run(&node, &self.extents_of(ino, &node)?, offset)
    }

    fn facts(&self) -> FsFacts {
        let [major, minor] = self.names.revision;
        FsFacts {
            kind: "udf",
            label: Text::from(self.names.label.as_str()),
            uuid: self.names.uuid.clone(),
            block_size: u32::try_from(self.block).unwrap_or(u32::MAX),
            size: self.names.size,
            free: self.names.free,
            reserved: 0,
            inodes: self.names.files,
            state: self.names.state,
            features: vec![format!("{major:x}.{minor:02x}")],
            warnings: self.warnings(),
            ..FsFacts::default()
        }
    }
}
