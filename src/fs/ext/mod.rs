//! ext2, ext3 and ext4, read from their own structures and nothing else.
//!
//! ```text
//! superblock ─ features      what the file system is, and what this reader must know to read it; backup: its copies
//! journal ─ patch            what was about to be written, played back in memory
//! sums                       the checksums of all these
//! group                      inode number → where its inode lies
//! inode ─ xattr              owner, mode, times; attributes; small files
//! map ─ extent | indirect    file block → volume block
//! dir ─ htree, fscrypt       names; finding one by its hash; showing encrypted ones
//! ```
//! Each file reads one structure of the disk and can be fed alone: `parse` functions take bytes. File data is read
//! straight from the volume, one read for each run of blocks.

use super::meta::Meta;
use super::overlay::Overlay;
use super::{DirEntry, FileSystem, FileType, FsCx, FsFacts, FsKind, Ino, Journal, Stat, State, Xattr};
use crate::block::{self, Below, BlockSource, Probe, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::ondisk::uuid;
use crate::text::Text;
use dir::Broken;
use features::{Features, Set};
use group::Damaged;
use inode::{BLOCK_AT, BLOCK_BYTES, Inode, flag};
use journal::Played;
use map::Place;
use patch::Patches;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use sums::Passed;
use superblock::Superblock;

pub(super) use backup::has_lost_its_superblock;

mod backup;
mod dir;
mod extent;
mod features;
mod fscrypt;
mod group;
mod htree;
mod indirect;
mod inode;
mod journal;
mod map;
mod patch;
mod sums;
mod superblock;
mod xattr;

/// The ext family.
pub const KIND: FsKind = FsKind { name: "ext", claims, set: None, open };

/// What is said where the journal waits.
const NOT_REPLAYED: &str =
    "the journal was not replayed: files changed shortly before the image was taken may show an older state";

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
    /// The block where descriptors start, those of meta_bg aside.
    first_descriptors: u64,
    /// Metadata whose checksum is right.
    passed: Passed,
    damaged: Mutex<Damaged>,
    broken: Mutex<Broken>,
    /// The volume with the journal's blocks over it, if they were played back.
    overlay: Option<Arc<Overlay>>,
    /// What fast commits changed.
    patches: Patches,
    /// Was it in use when the image was taken?
    is_dirty: bool,
    /// What is to be said of opening it.
    notes: Vec<String>,
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
    /// `Corrupt` when the superblock makes no sense, nor any copy of it; `Unsupported` with the name of a feature.
    pub fn open(volume: Arc<dyn BlockSource>, cx: &FsCx<'_>) -> Result<Self> {
        let (sb, note) = backup::superblock(&*volume)?;
        let is_copy = note.is_some();
        let mut ext = Self::new(sb, volume);
        ext.notes.extend(note);
        // A copy of the superblock is not kept up to date: then the journal itself says whether it waits.
        let waits = ext.features().has(Set::NEEDS_RECOVERY) || is_copy;
        if !waits {
            return Ok(ext);
        }
        ext.is_dirty = ext.features().has(Set::NEEDS_RECOVERY);
        if cx.journal == Journal::Ignore {
            if ext.is_dirty {
                ext.notes.push(NOT_REPLAYED.to_owned());
            }
            return Ok(ext);
        }
        let (overlay, notes, fast) = match journal::play(&ext, cx.budget) {
            Played::Nothing => return Ok(ext),
            Played::Not(note) => {
                if ext.is_dirty {
                    ext.notes.push(note);
                }
                return Ok(ext);
            }
            Played::Back(overlay, notes, fast) => (overlay, notes, fast),
        };
        ext.is_dirty = true;
        let overlay = Arc::new(overlay);
        let volume: Arc<dyn BlockSource> = Arc::<Overlay>::clone(&overlay);
        // The journal may hold a newer superblock. A backup is older than that, too, but better than what it stands for.
        let newer = backup::load(&*volume, superblock::OFFSET);
        let newer = if is_copy {
            Ok(newer.ok().filter(|sb| ext.is_newer(sb)).unwrap_or_else(|| ext.sb.clone()))
        } else {
            newer
        };
        match newer {
            Ok(sb) => {
                let before = std::mem::take(&mut ext.notes);
                ext = Self::new(sb, volume);
                ext.overlay = Some(overlay);
                ext.is_dirty = true;
                let failed = fast.apply(&mut ext, cx.budget);
                ext.notes.extend(before.into_iter().chain(notes).chain(failed));
            }
            Err(error) => ext.notes.push(format!("{NOT_REPLAYED} ({error})")),
        }
        Ok(ext)
    }

    fn new(sb: Superblock, volume: Arc<dyn BlockSource>) -> Self {
        Self {
            first_descriptors: sb.own_block().saturating_add(1),
            sb,
            meta: Meta::new(volume),
            passed: Passed::new(),
            damaged: Mutex::default(),
            broken: Mutex::default(),
            overlay: None,
            patches: Patches::default(),
            is_dirty: false,
            notes: Vec::new(),
        }
    }

    /// Is this, found where the damaged superblock was, a sound one of the same file system?
    fn is_newer(&self, sb: &Superblock) -> bool {
        sb.checksum_holds() && sb.block_size == self.sb.block_size && sb.uuid_bytes() == self.sb.uuid_bytes()
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

    /// The run of bytes that lie at this byte of the volume, or in the journal instead.
    fn stored(&self, offset: u64, len: u64) -> Result<Run> {
        let file = 0;
        let Some(overlay) = &self.overlay else {
            return Ok(Run { len, place: block::Place::Stored { file, offset } });
        };
        let step = overlay.step(offset)?;
        let len = len.min(step.len);
        match step.below {
            Below::Stored(_, offset) => Ok(Run { len, place: block::Place::Stored { file, offset } }),
            _ => Err(Error::unsupported("the place of bytes that are only in memory")),
        }
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
        let mut warnings = self.notes.clone();
        let mut warn = |is: bool, what: &str| {
            if is {
                warnings.push(what.to_owned());
            }
        };
        let is_explained = self.features().has(Set::NEEDS_RECOVERY) && !self.notes.is_empty();
        warn(
            !is_explained && self.state() == State::Dirty,
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
        warnings.extend(self.damaged_groups());
        let volume = self.meta.volume().len();
        if self.sb.size() > volume {
            warnings.push(format!(
                "the file system has {} bytes, its volume only {volume}: its end is missing",
                self.sb.size()
            ));
        }
        warnings
    }

    /// Its health: as it was on the volume.
    fn state(&self) -> State {
        if self.is_dirty { State::Dirty } else { self.sb.state() }
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

    fn is_immutable(&self, ino: Ino) -> Result<Option<bool>> {
        Ok(Some(self.named_inode(ino)?.has(flag::IMMUTABLE)))
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
            if self.patches.raw(inode.ino).is_some() {
                return Err(Error::unsupported(
                    "the place of a file inside its inode, as a fast commit left it",
                ));
            }
            return self.stored(inode.byte.saturating_add(at), len.min(left).max(1));
        }
        let size = self.sb.block_size;
        let (logical, skip) = self.split(offset);
        let stretch = self.map(&inode, logical, left.div_ceil(size).min(MAX_RUN_BLOCKS))?;
        let len = stretch.blocks.saturating_mul(size).saturating_sub(skip).min(left);
        let place = match stretch.place {
            Place::At(block) => return self.stored(block.saturating_mul(size).saturating_add(skip), len),
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
            free: Some(sb.free_blocks().saturating_mul(sb.block_size)),
            reserved: sb.reserved_blocks().saturating_mul(sb.block_size),
            inodes: sb.inodes,
            free_inodes: sb.free_inodes(),
            state: self.state(),
            features: self.features().names(),
            last_mounted: Text::from(sb.last_mounted()),
            warnings: self.warnings(),
        }
    }
}

/// Blocks joined to one run for a map: a whole block group of 4 KiB blocks. Whoever wants more asks again.
const MAX_RUN_BLOCKS: u64 = 32768;
