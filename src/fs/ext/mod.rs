//! ext2, ext3 and ext4, read from their own structures and nothing else.
//!
//! ```text
//! superblock ─ features      what the file system is, and what this reader must know to read it
//! group                      inode number → where its inode lies
//! inode ─ xattr              owner, mode, times; attributes; small files
//! map ─ extent | indirect    file block → volume block
//! dir ─ htree, fscrypt       names; finding one by its hash; showing encrypted ones
//! ```
//! Each file reads one structure of the disk and can be fed alone: `parse` functions take bytes. File data is read
//! straight from the volume, one read for each run of blocks. A journal that waits is not replayed; it is said.

use super::meta::Meta;
use super::{DirEntry, FileSystem, FileType, FsCx, FsFacts, FsKind, Ino, Stat, State, Xattr};
use crate::block::{self, BlockSource, Probe, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{read_table, uuid};
use crate::text::Text;
use features::{Features, Set};
use inode::{BLOCK_AT, BLOCK_BYTES, Inode, flag};
use map::Place;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use superblock::Superblock;

mod dir;
mod extent;
mod features;
mod fscrypt;
mod group;
mod htree;
mod indirect;
mod inode;
mod map;
mod superblock;
mod xattr;

/// The ext family.
pub const KIND: FsKind = FsKind { name: "ext", claims, set: None, open };

/// The root directory's inode.
const ROOT: u64 = 2;
/// The longest target of a symbolic link: one block, of 64 KiB at most.
const MAX_LINK: u64 = 64 << 10;

fn claims(probe: &Probe<'_>) -> bool {
    // Two bytes of magic are few; the block size beside them is out of bounds in most things that are not ext.
    let block_size = probe.bytes::<4>(0x418).map(u32::from_le_bytes);
    probe.has(0x438, &superblock::MAGIC) && block_size.is_some_and(|log| log <= 6)
}

fn open(devices: &[Arc<dyn BlockSource>], cx: &FsCx<'_>) -> Result<Arc<dyn FileSystem>> {
    Ok(Arc::new(Ext::open(super::only(devices)?, cx)?))
}

/// An ext2, ext3 or ext4 file system.
pub struct Ext {
    sb: Superblock,
    meta: Meta,
}

impl fmt::Debug for Ext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ext({}, {:?})", self.sb.kind(), self.meta)
    }
}

impl Ext {
    /// Opens the file system on a volume.
    ///
    /// # Errors
    /// `Corrupt` when the superblock makes no sense; `Unsupported` with the name of a feature.
    pub fn open(volume: Arc<dyn BlockSource>, cx: &FsCx<'_>) -> Result<Self> {
        let at = At::new("ext", "superblock");
        let bytes = read_table(&*volume, superblock::OFFSET, 1024, 1024, at, cx.budget)?;
        let sb = Superblock::parse(&bytes)?;
        Ok(Self { sb, meta: Meta::new(volume) })
    }

    const fn features(&self) -> Features {
        self.sb.features
    }

    /// Fills `buf` with the file's bytes from `offset` on; the caller has compared with the file's size.
    ///
    /// # Errors
    /// `Corrupt` when the map is damaged; what the volume reports.
    fn read_mapped(&self, inode: &Inode, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        let size = self.sb.block_size;
        while !buf.is_empty() {
            let (logical, skip) = self.split(offset);
            let want = skip.saturating_add(wide(buf.len())).div_ceil(size);
            let stretch = self.map(inode, logical, want)?;
            let len = stretch.blocks.saturating_mul(size).saturating_sub(skip).min(wide(buf.len()));
            let (now, rest) = buf.split_at_mut(narrow(len));
            match stretch.place {
                Place::At(block) => {
                    let byte = block.saturating_mul(size).saturating_add(skip);
                    self.meta.volume().read_at(now, byte)?;
                }
                Place::Unwritten | Place::Hole => now.fill(0),
            }
            buf = rest;
            offset = offset.saturating_add(len);
        }
        Ok(())
    }

    /// A byte of a file as its block and the byte in that block.
    fn split(&self, offset: u64) -> (u64, u64) {
        let size = self.sb.block_size;
        (offset.checked_div(size).unwrap_or(0), offset.checked_rem(size).unwrap_or(0))
    }

    /// The content of a file or directory that lies in its inode: sixty bytes, and an attribute for the rest.
    ///
    /// # Errors
    /// `Corrupt` when there is less than the file's size.
    fn inline_data(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut data = inode.block().to_vec();
        if let Some(rest) = self.inline_rest(inode)? {
            let end = rest.at.saturating_add(rest.len);
            data.extend_from_slice(inode.raw.get(rest.at..end).unwrap_or_default());
        }
        if wide(data.len()) < inode.size {
            return Err(Error::corrupt(inode.at()).because(format!(
                "{} bytes of inline data in a file of {}",
                data.len(),
                inode.size
            )));
        }
        data.truncate(narrow(inode.size));
        Ok(data)
    }

    /// An inode whose content may be read as a file.
    fn file(&self, ino: Ino) -> Result<Inode> {
        let inode = self.named_inode(ino)?;
        if inode.kind != FileType::File {
            let what = format!("inode {ino} is a {}, not a regular file", inode.kind.name());
            return Err(Error::new(ErrorKind::Denied, what));
        }
        self.refuse_encrypted(&inode)?;
        Ok(inode)
    }

    fn refuse_encrypted(&self, inode: &Inode) -> Result<()> {
        if inode.has(flag::ENCRYPT) {
            let error = Error::new(
                ErrorKind::Encrypted,
                "encrypted by the file system (fscrypt); the key is not in the image",
            );
            return Err(error.at(inode.at()));
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |is: bool, what: &str| {
            if is {
                warnings.push(what.to_owned());
            }
        };
        let journal = self.features().has(Set::NEEDS_RECOVERY);
        warn(
            journal,
            "the journal was not replayed: files changed shortly before the image was taken may show an older state",
        );
        warn(
            !journal && self.sb.state() == State::Dirty,
            "was not unmounted: the image was taken while it was in use",
        );
        warn(
            self.sb.has_errors(),
            "the kernel recorded errors on this file system; e2fsck should look at a copy",
        );
        warn(
            self.features().has(Set::CASEFOLD),
            "has directories that ignore case (casefold); names are taken exactly as written",
        );
        let volume = self.meta.volume().len();
        if self.sb.size() > volume {
            warnings.push(format!(
                "the file system has {} bytes, its volume only {volume}: its end is missing",
                self.sb.size()
            ));
        }
        warnings
    }
}

impl FileSystem for Ext {
    fn root(&self) -> Ino {
        Ino(ROOT)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        self.find(dir, name)
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        Ok(self.named_inode(ino)?.stat(&self.sb))
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
        if inode.has(flag::INLINE_DATA) {
            let data = self.inline_data(&inode)?;
            let part = data.get(narrow(offset)..).and_then(|rest| rest.get(..len)).unwrap_or_default();
            buf.copy_from_slice(part);
        } else {
            self.read_mapped(&inode, buf, offset)?;
        }
        Ok(len)
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        let inode = self.named_inode(ino)?;
        if inode.kind != FileType::Symlink {
            let what = format!("inode {ino} is a {}, not a symbolic link", inode.kind.name());
            return Err(Error::new(ErrorKind::Denied, what));
        }
        self.refuse_encrypted(&inode)?;
        let bad = |why: String| Error::corrupt(inode.at()).because(why);
        let target = if inode.has(flag::INLINE_DATA) {
            self.inline_data(&inode)?
        } else if inode.is_fast_symlink(&self.sb) {
            let target = inode.block().get(..narrow(inode.size)).filter(|target| target.len() < BLOCK_BYTES);
            target.ok_or_else(|| bad(format!("a short symbolic link of {} bytes", inode.size)))?.to_vec()
        } else {
            if inode.size > MAX_LINK.min(self.sb.block_size) {
                return Err(bad(format!("a symbolic link of {} bytes", inode.size)));
            }
            // At most MAX_LINK, compared above.
            let mut target = vec![0; narrow(inode.size)];
            self.read_mapped(&inode, &mut target, 0)?;
            target
        };
        if target.is_empty() || target.contains(&0) {
            return Err(bad("a symbolic link whose target is not its length".to_owned()));
        }
        Ok(target)
    }

    fn xattrs(&self, ino: Ino) -> Result<Vec<Xattr>> {
        self.all_xattrs(&self.named_inode(ino)?)
    }

    fn run_at(&self, ino: Ino, offset: u64) -> Result<Run> {
        let inode = self.file(ino)?;
        let left = inode.size.saturating_sub(offset);
        if left == 0 {
            return Err(Error::out_of_range(offset, 1, inode.size));
        }
        if inode.has(flag::INLINE_DATA) {
            let inside = wide(BLOCK_BYTES).saturating_sub(offset);
            let (len, at) = if inside > 0 {
                (inside, wide(BLOCK_AT).saturating_add(offset))
            } else {
                let rest = self.inline_rest(&inode)?.ok_or_else(|| {
                    Error::corrupt(inode.at())
                        .because("inline data without the attribute that holds its rest")
                })?;
                let skip = offset.saturating_sub(wide(BLOCK_BYTES));
                (wide(rest.len).saturating_sub(skip), wide(rest.at).saturating_add(skip))
            };
            let place = block::Place::Stored { file: 0, offset: inode.byte.saturating_add(at) };
            return Ok(Run { len: len.min(left).max(1), place });
        }
        let size = self.sb.block_size;
        let (logical, skip) = self.split(offset);
        let stretch = self.map(&inode, logical, left.div_ceil(size).min(MAX_RUN_BLOCKS))?;
        let len = stretch.blocks.saturating_mul(size).saturating_sub(skip).min(left);
        let place = match stretch.place {
            Place::At(block) => {
                block::Place::Stored { file: 0, offset: block.saturating_mul(size).saturating_add(skip) }
            }
            Place::Unwritten => block::Place::Zero,
            Place::Hole => block::Place::Hole,
        };
        Ok(Run { len, place })
    }

    fn facts(&self) -> FsFacts {
        let sb = &self.sb;
        FsFacts {
            kind: sb.kind(),
            label: Text::from(sb.label()),
            uuid: sb.uuid().map(uuid),
            block_size: u32::try_from(sb.block_size).unwrap_or(u32::MAX),
            size: sb.size(),
            free: sb.free_blocks().saturating_mul(sb.block_size),
            inodes: sb.inodes,
            free_inodes: sb.free_inodes(),
            state: sb.state(),
            features: self.features().names(),
            last_mounted: Text::from(sb.last_mounted()),
            warnings: self.warnings(),
        }
    }
}

/// Blocks joined to one run for a map: a whole block group of 4 KiB blocks. Whoever wants more asks again.
const MAX_RUN_BLOCKS: u64 = 32768;
