//! XFS, versions 4 and 5, read from its own structures and nothing else.
//!
//! ```text
//! superblock ─ features      what the file system is; group, block and inode numbers → bytes of the volume
//! seal                       what a block of version 5 says of itself: checksum, place, owner
//! inode                      owner, mode, times; two forks
//! map                        a fork's block → volume block
//! da ─ dir/, attr            trees of name hashes; names; attributes
//! symlink                    targets
//! log/                       changes that were written to the log alone, played back in memory
//! ```
//! Each file reads one structure of the disk and can be fed alone: `parse` functions take bytes. File data is read
//! straight from the volume, one read for each extent.
//!
//! "XFS Algorithms & Data Structures", 3rd edition, is the specification; where it is silent, the kernel's `fs/xfs`.

use super::meta::Meta;
use super::overlay::Overlay;
use super::{DirEntry, FileSystem, FileType, FsCx, FsFacts, FsKind, Ino, Stat, State, Xattr};
use crate::block::{self, BlockSource, Probe, Run, check_range};
use crate::error::{Error, ErrorKind, Result};
use crate::num::narrow;
use crate::ondisk::uuid;
use crate::text::Text;
use inode::Inode;
use map::{Map, Place};
use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use superblock::Superblock;

mod attr;
mod da;
mod dir;
mod features;
mod inode;
mod log;
mod map;
mod seal;
mod superblock;
mod symlink;

/// XFS.
pub const KIND: FsKind = FsKind { name: "xfs", claims, set: None, open };

/// Blocks joined to one run for a map. Whoever wants more asks again.
const MAX_RUN_BLOCKS: u64 = 1 << 21;

fn claims(probe: &Probe<'_>) -> bool {
    probe.has(0, &superblock::MAGIC) || superblock::headers_of_group_0(probe.head).is_some()
}

fn open(devices: &[Arc<dyn BlockSource>], cx: &FsCx<'_>) -> Result<Arc<dyn FileSystem>> {
    Ok(Arc::new(Xfs::open(super::only(devices)?, cx)?))
}

/// An XFS file system.
pub struct Xfs {
    sb: Superblock,
    meta: Meta,
    /// The volume as the log leaves it, where it changes any of it.
    replayed: Option<Arc<Overlay>>,
    /// Inodes whose trees of extents the log gave to them from another inode.
    owners_changed: HashSet<u64>,
    state: State,
    /// Free blocks, allocated and free inodes.
    counts: (u64, u64, u64),
    warnings: Vec<String>,
}

impl fmt::Debug for Xfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Xfs({:?})", self.meta)
    }
}

impl Xfs {
    /// Opens the file system on a volume.
    ///
    /// # Errors
    /// `Corrupt` when no superblock makes sense; `Unsupported` with the name of a feature.
    pub fn open(volume: Arc<dyn BlockSource>, cx: &FsCx<'_>) -> Result<Self> {
        let mut warnings = Vec::new();
        let sb = match Superblock::load(&*volume, 0) {
            Ok(sb) => sb,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let Some(copy) = superblock::find_copy(&*volume) else { return Err(error) };
                warnings.push(format!("the first superblock is damaged, a copy of it is used: {error}"));
                copy
            }
            Err(error) => return Err(error),
        };
        if warnings.is_empty() && sb.is_in_progress() {
            return Err(Error::new(ErrorKind::Corrupt, "xfs: superblock: mkfs has not finished"));
        }
        let log = log::Outcome::of(&volume, &sb, cx);
        warnings.extend(log.warnings);
        let volume_len = volume.len();
        let (volume, sb, replayed): (Arc<dyn BlockSource>, _, _) = match log.replayed {
            // The log may have grown the file system.
            Some((overlay, sb)) => {
                let overlay = Arc::new(overlay);
                let volume: Arc<dyn BlockSource> = Arc::<Overlay>::clone(&overlay);
                (volume, sb, Some(overlay))
            }
            None => (volume, sb, None),
        };
        if !sb.knows_root() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("xfs: superblock: inode {} for the root", sb.root),
            ));
        }
        if sb.has_realtime() {
            warnings.push("has a realtime section: files whose data lies there cannot be read".to_owned());
        }
        if sb.size() > volume_len {
            warnings.push(format!(
                "the file system has {} bytes, its volume only {volume_len}: its end is missing",
                sb.size()
            ));
        }
        let counts = log.counts.unwrap_or_else(|| sb.counts());
        let owners_changed = log.owners_changed;
        Ok(Self { sb, meta: Meta::new(volume), replayed, owners_changed, state: log.state, counts, warnings })
    }

    /// Did the log change any of these bytes?
    fn is_replayed(&self, byte: u64, len: u64) -> bool {
        self.replayed.as_ref().is_some_and(|overlay| overlay.touches(byte..byte.saturating_add(len)))
    }

    /// An inode whose content may be read as a file.
    fn file(&self, ino: Ino) -> Result<Inode> {
        let inode = self.inode(ino)?;
        if inode.kind != FileType::File {
            let what = format!("inode {ino} is a {}, not a regular file", inode.kind.name());
            return Err(Error::new(ErrorKind::Denied, what));
        }
        inode.refuse_realtime()?;
        Ok(inode)
    }
}

impl FileSystem for Xfs {
    fn root(&self) -> Ino {
        Ino(self.sb.root)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        self.find(dir, name)
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        Ok(self.inode(ino)?.stat(&self.sb))
    }

    fn readdir(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.list(dir, from, sink)
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        let inode = self.file(ino)?;
        let len = narrow(inode.size.saturating_sub(offset)).min(buf.len());
        let buf = buf.get_mut(..len).unwrap_or_default();
        self.read_mapped(&inode, &inode.data, buf, offset)?;
        Ok(len)
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        if inode.kind != FileType::Symlink {
            let what = format!("inode {ino} is a {}, not a symbolic link", inode.kind.name());
            return Err(Error::new(ErrorKind::Denied, what));
        }
        self.target(&inode)
    }

    fn xattrs(&self, ino: Ino) -> Result<Vec<Xattr>> {
        self.all_xattrs(&self.inode(ino)?)
    }

    fn is_immutable(&self, ino: Ino) -> Result<Option<bool>> {
        Ok(Some(self.inode(ino)?.is_immutable))
    }

    fn run_at(&self, ino: Ino, offset: u64) -> Result<Run> {
        let inode = self.file(ino)?;
        let left = inode.size.saturating_sub(offset);
        if left == 0 {
            return Err(Error::out_of_range(offset, 1, inode.size));
        }
        let size = self.sb.block_size;
        let (logical, skip) = self.split(offset);
        let want = skip.saturating_add(left).div_ceil(size).min(MAX_RUN_BLOCKS);
        let stretch = Map::new(self, &inode, &inode.data).at(logical, want)?;
        let len = stretch.blocks.saturating_mul(size).saturating_sub(skip).min(left);
        let place = match stretch.place {
            Place::At(byte) => {
                let byte = byte.saturating_add(skip);
                check_range(byte, 1, self.meta.volume().len())?;
                block::Place::Stored { file: 0, offset: byte }
            }
            Place::Unwritten => block::Place::Zero,
            Place::Hole => block::Place::Hole,
        };
        Ok(Run { len, place })
    }

    fn facts(&self) -> FsFacts {
        let sb = &self.sb;
        let (free, inodes, free_inodes) = self.counts;
        FsFacts {
            kind: "xfs",
            label: Text::from(sb.label()),
            uuid: Some(uuid(sb.uuid())),
            block_size: u32::try_from(sb.block_size).unwrap_or(u32::MAX),
            size: sb.size(),
            free: Some(free.saturating_mul(sb.block_size)),
            reserved: 0,
            inodes,
            free_inodes,
            state: self.state,
            features: sb.features.names(),
            last_mounted: Text::default(),
            warnings: self.warnings.clone(),
        }
    }

    fn ignores_case(&self) -> bool {
        self.folds_case()
    }
}
