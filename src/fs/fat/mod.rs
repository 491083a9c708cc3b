//! FAT12, FAT16 and FAT32 with long names, as Linux mounts them (`vfat`): the EFI system partition of every guest.
//!
//! ```text
//! boot                      boot sector: which FAT it is, where what lies
//! super::chain              the table itself: cluster → next cluster
//! dir ─ name                slots of 32 bytes; long and short names
//! ```
//! There are no inodes. A file's number is the place of its slot on the volume, in units of 32 bytes; the root has 1, where
//! no slot can be. Owner and mode are what the kernel makes up: root, 0755, without write permission for read-only files.

use super::chain::{Table, Width};
use super::meta::Meta;
use super::unicode::same_letters;
use super::{DirEntry, FileSystem, FileType, FsCx, FsFacts, FsKind, Ino, Stat, State, Time, runs};
use crate::block::{BlockSource, Place, Probe, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::num::narrow;
use crate::ondisk::get_le32;
use crate::text::Text;
use boot::Boot;
use dir::{Entry, attribute};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

mod boot;
mod dir;
mod name;

pub(super) use dir::{days, time};

/// FAT.
pub const KIND: FsKind = FsKind { name: "vfat", claims, set: None, open };

/// The root directory's number, as the kernel has it.
const ROOT: u64 = 1;
/// Clusters joined to one run for a map. Whoever wants more asks again.
const MAX_RUN: u64 = 65_536;
/// The longest table that is counted for free clusters where nobody wrote their number down, in clusters.
const COUNTED: u64 = 1 << 22;

fn claims(probe: &Probe<'_>) -> bool {
    boot::is_fat(probe.head)
}

fn open(devices: &[Arc<dyn BlockSource>], _cx: &FsCx<'_>) -> Result<Arc<dyn FileSystem>> {
    Ok(Arc::new(Fat::open(super::only(devices)?)?))
}

/// What a number stands for.
#[derive(Clone, Debug)]
enum Node {
    Root,
    Entry(Entry),
}

impl Node {
    const fn kind(&self) -> FileType {
        match self {
            Self::Root => FileType::Dir,
            Self::Entry(entry) => entry.kind(),
        }
    }
}

/// A FAT file system.
pub struct Fat {
    boot: Boot,
    table: Table,
    meta: Meta,
    /// Free clusters, counted when they are asked for first.
    counted: OnceLock<Option<u64>>,
}

impl fmt::Debug for Fat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fat({}, {:?})", self.version(), self.meta)
    }
}

impl Fat {
    /// Opens the file system on a volume.
    ///
    /// # Errors
    /// `Corrupt` when the boot sector makes no sense.
    pub fn open(volume: Arc<dyn BlockSource>) -> Result<Self> {
        let meta = Meta::new(volume);
        let boot = Boot::parse(&meta.near(0, 512)?)?;
        let table = Table::new("vfat", boot.fat, boot.width, boot.end);
        Ok(Self { boot, table, meta, counted: OnceLock::new() })
    }

    const fn version(&self) -> &'static str {
        match self.boot.width {
            Width::Twelve => "FAT12",
            Width::Sixteen => "FAT16",
            Width::TwentyEight | Width::ThirtyTwo => "FAT32",
        }
    }

    /// Where a cluster starts on the volume.
    ///
    /// # Errors
    /// `Corrupt` when there is no such cluster.
    fn cluster_at(&self, cluster: u32) -> Result<u64> {
        match cluster.checked_sub(super::chain::FIRST).filter(|_| self.table.holds(cluster)) {
            Some(n) => Ok(self.boot.data.saturating_add(u64::from(n).saturating_mul(self.boot.cluster))),
            None => {
                let at = crate::error::At::new("vfat", "cluster").index(cluster.into());
                Err(Error::corrupt(at).because(format!("the last cluster is {}", self.boot.end)))
            }
        }
    }

    fn directory(&self, ino: Ino) -> Result<Node> {
        let node = self.node(ino)?;
        match node.kind() {
            FileType::Dir => Ok(node),
            _ => Err(Error::not_found(format!("inode {ino} is a file, not a directory; its entries"))),
        }
    }

    fn file(&self, ino: Ino) -> Result<Entry> {
        match self.node(ino)? {
            Node::Entry(entry) if entry.kind() == FileType::File => Ok(entry),
            _ => {
                Err(Error::new(ErrorKind::Denied, format!("inode {ino} is a directory, not a regular file")))
            }
        }
    }

    /// The run at `offset`, which lies in the file; `want` bytes of it are of use.
    fn run(&self, file: &Entry, offset: u64, want: u64) -> Result<Run> {
        let cluster = self.boot.cluster;
        let (skip, inside) =
            (offset.checked_div(cluster).unwrap_or(0), offset.checked_rem(cluster).unwrap_or(0));
        let left = file.size().saturating_sub(offset).min(want);
        let clusters = inside.saturating_add(left).div_ceil(cluster).min(MAX_RUN);
        let found = self.table.run(&self.meta, file.first(self.boot.width), skip, clusters)?;
        let len = found.count.saturating_mul(cluster).saturating_sub(inside).min(left);
        let offset = self.cluster_at(found.first)?.saturating_add(inside);
        Ok(Run { len, place: Place::Stored { file: 0, offset } })
    }

    /// Free clusters as FAT32 has them written down.
    fn noted_free(&self) -> Option<u64> {
        let bytes = self.meta.near(self.boot.info?, 512).ok()?;
        if !bytes.starts_with(b"RRaA") || get_le32(&bytes, 484) != Some(0x6141_7272) {
            return None;
        }
        let free = u64::from(get_le32(&bytes, 488)?);
        Some(free).filter(|free| *free <= self.table.clusters())
    }

    /// Free clusters, counted. `None` when the table is too long for that, or cannot be read.
    fn count_free(&self) -> Option<u64> {
        if self.table.clusters() > COUNTED {
            return None;
        }
        let mut reader = self.table.reader(&self.meta);
        let mut free = 0_u64;
        for cluster in super::chain::FIRST..self.boot.end {
            if reader.value(cluster).ok()? == 0 {
                free = free.saturating_add(1);
            }
        }
        Some(free)
    }

    /// Two bits of the table's second entry: unmounted, and without errors. FAT12 has no room for them.
    fn state(&self) -> State {
        let (clean, sound) = match self.boot.width {
            Width::Twelve => (0, 0),
            Width::Sixteen => (0x8000, 0x4000),
            Width::TwentyEight | Width::ThirtyTwo => (0x0800_0000, 0x0400_0000),
        };
        let marks = self.table.reader(&self.meta).value(1).unwrap_or(u32::MAX);
        if marks & sound != sound {
            State::Errors
        } else if self.boot.is_in_use || marks & clean != clean {
            State::Dirty
        } else {
            State::Clean
        }
    }

    fn warnings(&self, state: State) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |is: bool, what: String| {
            if is {
                warnings.push(what);
            }
        };
        warn(state == State::Dirty, "was not unmounted: the image was taken while it was in use".to_owned());
        warn(state == State::Errors, "read errors were recorded on this file system".to_owned());
        warn(
            self.boot.other_fat,
            "another FAT than the first is marked as the one in use: the first is read, as Linux does"
                .to_owned(),
        );
        let volume = self.meta.volume().len();
        warn(
            self.boot.size > volume,
            format!(
                "the file system has {} bytes, its volume only {volume}: its end is missing",
                self.boot.size
            ),
        );
        warnings
    }
}

impl FileSystem for Fat {
    fn root(&self) -> Ino {
        Ino(ROOT)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        // The kernel takes no notice of dots at the end.
        let dots = name.iter().rev().take_while(|byte| **byte == b'.').count();
        let name = name.get(..name.len().saturating_sub(dots)).unwrap_or_default();
        let (mut exact, mut similar) = (None, None);
        self.files(&self.directory(dir)?, 0, &mut |file| {
            if file.name == name {
                exact = Some(file.ino);
                return ControlFlow::Break(());
            }
            let is_alias = || file.alias.is_some_and(|alias| same_letters(alias, name));
            if similar.is_none() && (same_letters(file.name, name) || is_alias()) {
                similar = Some(file.ino);
            }
            ControlFlow::Continue(())
        })?;
        Ok(exact.or(similar))
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let node = self.node(ino)?;
        let zero = Time::default();
        let (size, nlink, mode, [mtime, atime, btime]) = match &node {
            Node::Root => {
                (self.dir_size(&node)?, self.subdirectories(&node)?.saturating_add(2), 0o755, [zero; 3])
            }
            Node::Entry(entry) => {
                let is_dir = entry.kind() == FileType::Dir;
                let size = if is_dir { self.dir_size(&node)? } else { entry.size() };
                let nlink = if is_dir { self.subdirectories(&node)? } else { 1 };
                let mode = if entry.has(attribute::READ_ONLY) && !is_dir { 0o555 } else { 0o755 };
                (size, nlink, mode, [entry.modified(), entry.accessed(), entry.created()])
            }
        };
        Ok(Stat {
            ino,
            kind: node.kind(),
            size,
            blocks: size.div_ceil(self.boot.cluster).saturating_mul(self.boot.cluster) / 512,
            mode,
            nlink,
            uid: 0,
            gid: 0,
            rdev: (0, 0),
            atime,
            mtime,
            ctime: mtime,
            btime: Some(btime).filter(|_| matches!(node, Node::Entry(_))),
            blksize: u32::try_from(self.boot.cluster).unwrap_or(u32::MAX),
        })
    }

    fn readdir(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.files(&self.directory(dir)?, from, &mut |file| {
            sink(DirEntry { ino: file.ino, kind: Some(file.entry.kind()), name: file.name, next: file.next })
        })
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        let file = self.file(ino)?;
        let len = narrow(file.size().saturating_sub(offset)).min(buf.len());
        let buf = buf.get_mut(..len).unwrap_or_default();
        runs::read(&**self.meta.volume(), buf, offset, |offset, want| self.run(&file, offset, want))?;
        Ok(len)
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Denied, format!("inode {ino} is no symbolic link; FAT has none")))
    }

    fn run_at(&self, ino: Ino, offset: u64) -> Result<Run> {
        let file = self.file(ino)?;
        if offset >= file.size() {
            return Err(Error::out_of_range(offset, 1, file.size()));
        }
        self.run(&file, offset, u64::MAX)
    }

    fn facts(&self) -> FsFacts {
        let state = self.state();
        FsFacts {
            kind: "vfat",
            label: Text::new(self.label().unwrap_or_default()),
            uuid: self.boot.uuid(),
            block_size: u32::try_from(self.boot.sector).unwrap_or(u32::MAX),
            size: self.boot.size,
            free: self.noted_free().map(|free| free.saturating_mul(self.boot.cluster)),
            state,
            features: vec![self.version().to_owned()],
            warnings: self.warnings(state),
            ..FsFacts::default()
        }
    }

    fn free(&self) -> Option<u64> {
        let counted = || *self.counted.get_or_init(|| self.count_free());
        Some(self.noted_free().or_else(counted)?.saturating_mul(self.boot.cluster))
    }

    fn ignores_case(&self) -> bool {
        true
    }
}
