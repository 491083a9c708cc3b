//! erofs, read from its own structures.
//!
//! ```text
//! superblock                  features; where inodes and shared attributes are counted from; further devices
//! inode ─ xattr               owner, mode, time, size; attributes
//! dir                         names; finding one by halving
//! map                         where data lie that are not packed
//! extent ─ lcluster           what of a packed file is one unit, and where that lies
//! packed                      unpacking it
//! ```
//! Nothing is read before it is wanted. Units that were unpacked are kept in the process's cache.

use super::marks::Marks;
use super::meta::Meta;
use super::{DirEntry, FileSystem, FileType, FsCx, FsFacts, FsKind, Ino, Stat, State, Xattr};
use crate::block::{self, BlockSource, Probe, Run};
use crate::engine::Units;
use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::ondisk::uuid;
use crate::text::Text;
use inode::Inode;
use map::Place;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use superblock::Superblock;

mod dir;
mod extent;
mod inode;
mod lcluster;
mod map;
mod packed;
mod superblock;
mod xattr;

/// erofs.
pub const KIND: FsKind = FsKind { name: "erofs", claims, set: None, open };

/// The longest target of a symbolic link, in bytes (`PATH_MAX`).
const MAX_LINK: u64 = 4096;
/// Bytes joined to one run for a map. Whoever wants more asks again.
const MAX_RUN: u64 = 128 << 20;

fn claims(probe: &Probe<'_>) -> bool {
    let at = usize::try_from(superblock::OFFSET).unwrap_or(usize::MAX);
    let block_log = probe.bytes::<1>(at.saturating_add(12));
    probe.has(at, superblock::MAGIC) && block_log.is_some_and(|[log]| (9..=16).contains(&log))
}

fn open(devices: &[Arc<dyn BlockSource>], cx: &FsCx<'_>) -> Result<Arc<dyn FileSystem>> {
    Ok(Arc::new(Erofs::open(super::only(devices)?, cx)?))
}

/// An erofs file system.
pub struct Erofs {
    sb: Superblock,
    meta: Meta,
    units: Units,
    /// Of files with a list of lengths: the place of every so-manieth cluster.
    marks: Marks<u64>,
}

impl fmt::Debug for Erofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Erofs({:?})", self.meta)
    }
}

impl Erofs {
    /// Opens the file system on a volume.
    ///
    /// # Errors
    /// `Corrupt` when the superblock makes no sense; `Unsupported` with the name of a feature.
    pub fn open(volume: Arc<dyn BlockSource>, cx: &FsCx<'_>) -> Result<Self> {
        let sb = Superblock::load(&*volume, cx.budget)?;
        Ok(Self { sb, meta: Meta::new(volume), units: cx.mapper.units(), marks: Marks::new() })
    }

    /// An inode whose content may be read as a file.
    fn file(&self, ino: Ino) -> Result<Inode> {
        let inode = self.inode(ino.0)?;
        if inode.kind != FileType::File {
            let what = format!("inode {ino} is a {}, not a regular file", inode.kind.name());
            return Err(Error::new(ErrorKind::Denied, what));
        }
        Ok(inode)
    }

    /// Fills `buf` with the bytes of a file from `offset` on.
    ///
    /// # Errors
    /// `Corrupt` when the file ends before or its map is damaged; what the volume reports.
    fn read(&self, inode: &Inode, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        if offset.checked_add(wide(buf.len())).is_none_or(|end| end > inode.size) {
            return Err(
                Error::corrupt(inode.at()).because(format!("has {} bytes, {offset} is wanted", inode.size))
            );
        }
        while !buf.is_empty() {
            let Some(stretch) = self.stretch(inode, offset, wide(buf.len()))? else {
                return self.read_packed(inode, buf, offset);
            };
            let (now, rest) = buf.split_at_mut(narrow(stretch.len.min(wide(buf.len()))));
            match stretch.place {
                Place::At(byte) => self.meta.volume().read_at(now, byte)?,
                Place::Hole => now.fill(0),
            }
            offset = offset.saturating_add(wide(now.len()));
            buf = rest;
        }
        Ok(())
    }

    /// Where the byte at `offset` of a file lies.
    ///
    /// # Errors
    /// As [`Erofs::read`].
    fn run(&self, inode: &Inode, offset: u64) -> Result<Run> {
        let left = inode.size.saturating_sub(offset);
        if left == 0 {
            return Err(Error::out_of_range(offset, 1, inode.size));
        }
        let Some(stretch) = self.stretch(inode, offset, left.min(MAX_RUN))? else {
            return self.packed_run(inode, offset);
        };
        let place = match stretch.place {
            Place::At(byte) => block::Place::Stored { file: 0, offset: byte },
            Place::Hole => block::Place::Hole,
        };
        Ok(Run { len: stretch.len.min(left), place })
    }
}

impl FileSystem for Erofs {
    fn root(&self) -> Ino {
        Ino(self.sb.root)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        self.find(dir, name)
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        Ok(self.stat_of(&self.inode(ino.0)?))
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
        if len > 0 {
            self.read(&inode, buf.get_mut(..len).unwrap_or_default(), offset)?;
        }
        Ok(len)
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        let inode = self.inode(ino.0)?;
        if inode.kind != FileType::Symlink {
            let what = format!("inode {ino} is a {}, not a symbolic link", inode.kind.name());
            return Err(Error::new(ErrorKind::Denied, what));
        }
        if inode.size == 0 || inode.size > MAX_LINK {
            return Err(
                Error::corrupt(inode.at()).because(format!("a symbolic link of {} bytes", inode.size))
            );
        }
        // At most MAX_LINK, compared above.
        let mut target = vec![0; narrow(inode.size)];
        self.read(&inode, &mut target, 0)?;
        if target.contains(&0) {
            return Err(Error::corrupt(inode.at()).because("a symbolic link with a NUL in its target"));
        }
        Ok(target)
    }

    fn xattrs(&self, ino: Ino) -> Result<Vec<Xattr>> {
        self.all_xattrs(&self.inode(ino.0)?)
    }

    fn run_at(&self, ino: Ino, offset: u64) -> Result<Run> {
        self.run(&self.file(ino)?, offset)
    }

    fn facts(&self) -> FsFacts {
        let sb = &self.sb;
        let volume = self.meta.volume().len();
        let size = sb.byte_of(sb.blocks);
        let mut warnings = Vec::new();
        if size > volume {
            warnings.push(format!(
                "the file system has {size} bytes, its volume only {volume}: its end is missing"
            ));
        }
        if sb.device_count() > 0 {
            warnings.push(format!("data on its {} further devices cannot be read", sb.device_count()));
        }
        let end = sb.label.iter().position(|byte| *byte == 0).unwrap_or(sb.label.len());
        FsFacts {
            kind: "erofs",
            label: Text::from(sb.label.get(..end).unwrap_or_default()),
            uuid: Some(sb.uuid).filter(|id| *id != [0; 16]).map(|id| uuid(&id)),
            block_size: u32::try_from(sb.block_size()).unwrap_or(u32::MAX),
            size,
            free: Some(0),
            reserved: 0,
            inodes: sb.inodes,
            free_inodes: 0,
            state: State::Clean,
            features: sb.features(),
            last_mounted: Text::default(),
            warnings,
        }
    }
}
