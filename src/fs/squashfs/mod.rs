//! squashfs 4.0, read from its own structures.
//!
//! ```text
//! superblock                 where the tables are; how everything is packed
//! metadata                   streams of packed pieces of 8 KiB, which all tables are
//! inode ─ xattr              owner, mode, time, size; attributes
//! dir                        names; finding one by the index
//! file                       the blocks of a file and the fragment that its end is in
//! ```
//! Nothing is read before it is wanted. What was unpacked is kept in the process's cache, by its place on the volume.

use super::marks::Marks;
use super::meta::Meta;
use super::{DirEntry, FileSystem, FileType, FsCx, FsFacts, FsKind, Ino, Stat, State, Xattr};
use crate::block::{BlockSource, Probe, Run};
use crate::engine::Units;
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::narrow;
use crate::ondisk::read_table;
use crate::text::Text;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use superblock::Superblock;

mod dir;
mod file;
mod inode;
mod metadata;
mod superblock;
mod xattr;

/// squashfs.
pub const KIND: FsKind = FsKind { name: "squashfs", claims, set: None, open };

fn claims(probe: &Probe<'_>) -> bool {
    let major = probe.bytes::<2>(superblock::MAJOR_AT);
    let is = |magic, major| probe.has(0, magic) && (1..=4).contains(&major);
    major.is_some_and(|major| {
        is(superblock::MAGIC, u16::from_le_bytes(major))
            || is(superblock::MAGIC_BIG, u16::from_be_bytes(major))
    })
}

fn open(devices: &[Arc<dyn BlockSource>], cx: &FsCx<'_>) -> Result<Arc<dyn FileSystem>> {
    Ok(Arc::new(Squashfs::open(super::only(devices)?, cx)?))
}

/// A squashfs file system.
pub struct Squashfs {
    sb: Superblock,
    meta: Meta,
    /// Unpacked metadata, blocks and fragments, by the volume's byte where the packed form starts.
    pieces: Units,
    blocks: Units,
    fragments: Units,
    marks: Marks<file::Mark>,
}

impl fmt::Debug for Squashfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Squashfs({}, {:?})", self.sb.compression.name(), self.meta)
    }
}

impl Squashfs {
    /// Opens the file system on a volume.
    ///
    /// # Errors
    /// `Corrupt` when the superblock makes no sense; `Unsupported` for another version than 4.0.
    pub fn open(volume: Arc<dyn BlockSource>, cx: &FsCx<'_>) -> Result<Self> {
        let at = At::new("squashfs", "superblock");
        let bytes = read_table(&*volume, 0, superblock::SIZE, superblock::SIZE, at, cx.budget)?;
        let sb = Superblock::parse(&bytes)?;
        Ok(Self {
            sb,
            meta: Meta::new(volume),
            pieces: cx.mapper.units(),
            blocks: cx.mapper.units(),
            fragments: cx.mapper.units(),
            marks: Marks::new(),
        })
    }
}

impl FileSystem for Squashfs {
    fn root(&self) -> Ino {
        Ino(self.sb.root)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        self.find(dir, name)
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        self.stat_of(&self.inode(ino)?)
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
        let (inode, blocks) = self.file(ino)?;
        let len = narrow(inode.size.saturating_sub(offset)).min(buf.len());
        self.read(&inode, blocks, buf.get_mut(..len).unwrap_or_default(), offset)?;
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

    fn run_at(&self, ino: Ino, offset: u64) -> Result<Run> {
        let (inode, blocks) = self.file(ino)?;
        if offset >= inode.size {
            return Err(Error::out_of_range(offset, 1, inode.size));
        }
        self.run(&inode, blocks, offset)
    }

    fn facts(&self) -> FsFacts {
        let volume = self.meta.volume().len();
        let used = self.sb.bytes_used;
        let cut = format!("the file system has {used} bytes, its volume only {volume}: its end is missing");
        FsFacts {
            kind: "squashfs",
            label: Text::default(),
            uuid: None,
            block_size: self.sb.block_size,
            size: used,
            free: Some(0),
            reserved: 0,
            inodes: u64::from(self.sb.inodes),
            free_inodes: 0,
            state: State::Clean,
            features: self.sb.features(),
            last_mounted: Text::default(),
            warnings: if used > volume { vec![cut] } else { Vec::new() },
        }
    }
}
