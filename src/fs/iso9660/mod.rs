//! ISO 9660, with Rock Ridge, Joliet and zisofs, as Linux mounts it.
//!
//! ```text
//! volume                    descriptors: the primary tree, the Joliet tree, the boot catalog
//! record ─ rock, zisofs     one record a file; what POSIX wants behind its name; compressed files
//! ```
//! Of several trees the kernel shows the one with Rock Ridge, else Joliet, else the plain one in lower case; so do we.
//! There are no inodes: a file's number is the byte of the volume where its record lies, a directory's the byte where its
//! content starts, which is its own record. Of a disc with several sessions a file shows the first, as the kernel does
//! without a drive to ask.

use super::meta::{Bytes, Meta};
use super::unicode::same_letters;
use super::{DirEntry, FileSystem, FileType, FsCx, FsFacts, FsKind, Ino, Stat, Time, runs};
use crate::block::{BlockSource, Place, Probe, Run};
use crate::budget::{Budget, Limits};
use crate::engine::Units;
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::ondisk::get_le32;
use crate::text::Text;
use record::{Record, left_in_sector, records, sector_end};
use rock::Rock;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use volume::{MAGIC, Volume};

mod record;
mod rock;
mod volume;
mod zisofs;

/// ISO 9660.
pub const KIND: FsKind = FsKind { name: "iso9660", claims, set: None, open };

/// Bytes of a sector.
const SECTOR: u64 = 2048;
/// Parts of one file, as in the kernel.
const MAX_PARTS: u64 = 100;
/// The longest directory, in bytes: room for half a million names.
const MAX_DIR: u64 = 64 << 20;
/// The longest packed block: 128 KiB, and what zlib adds to what cannot be packed.
const MAX_PACKED: u64 = 160 << 10;

fn claims(probe: &Probe<'_>) -> bool {
    // Descriptors and nothing behind them are the head of a disc that was cut off.
    probe.len > 18 * SECTOR
        && (probe.has(0x8000, b"\x01CD001\x01")
            || (probe.has(0x8000, b"\0CD001\x01") && probe.has(0x8801, MAGIC)))
}

fn open(devices: &[Arc<dyn BlockSource>], cx: &FsCx<'_>) -> Result<Arc<dyn FileSystem>> {
    Ok(Arc::new(Iso::open(super::only(devices)?, cx)?))
}

/// Which tree is shown, and how its names are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tree {
    Plain,
    Joliet(u8),
    /// So many bytes in front of its entries are another's.
    Rock(u8),
}

/// An ISO 9660 file system.
pub struct Iso {
    volume: Volume,
    tree: Tree,
    /// Block of the root directory.
    root: u64,
    meta: Meta,
    units: Units,
}

impl fmt::Debug for Iso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iso({:?}, {:?})", self.tree, self.meta)
    }
}

/// A file: its record, and what Rock Ridge adds to it.
struct Node {
    record: Vec<u8>,
    rock: Rock,
    kind: FileType,
}

impl Node {
    fn record(&self) -> Record<'_> {
        Record::parse(&self.record).expect("only what was parsed is kept")
    }
}

/// One part of a file's content.
struct Part {
    start: u64,
    size: u64,
}

impl Iso {
    /// Opens the file system on a volume.
    ///
    /// # Errors
    /// `Corrupt` when its descriptors or its root make no sense.
    pub fn open(volume: Arc<dyn BlockSource>, cx: &FsCx<'_>) -> Result<Self> {
        let meta = Meta::new(volume);
        let volume = Volume::load(&meta)?;
        let root = volume.root.start;
        let mut iso = Self { volume, tree: Tree::Plain, root, meta, units: cx.mapper.units() };
        iso.choose();
        Ok(iso)
    }

    /// Chooses the tree by the first record of the primary root.
    fn choose(&mut self) {
        let joliet = self.volume.joliet.as_ref().map(|joliet| (joliet.level, joliet.root.start));
        let rock = self.rock_of_root();
        match (rock, joliet) {
            // Named by its own entry, and with something in it.
            (Some((skip, true)), _) if joliet.is_none() || !self.is_empty(self.root) => {
                self.tree = Tree::Rock(skip);
            }
            (_, Some((level, start))) => {
                (self.tree, self.root) = (Tree::Joliet(level), start);
            }
            (Some((skip, _)), None) => self.tree = Tree::Rock(skip),
            (None, None) => {}
        }
    }

    /// Does the primary root have Rock Ridge: how much to skip, and whether it is named?
    fn rock_of_root(&self) -> Option<(u8, bool)> {
        let sector = self.meta.near(self.byte_of(self.root), SECTOR).ok()?;
        let record = Record::parse(&sector).ok()?;
        // On discs with XA attributes those come first.
        [0, 14].into_iter().find_map(|skip| {
            let rock = self.rock(record.system_use().get(skip..)?).ok()?;
            rock.skip.map(|skip| (skip, rock.is_named))
        })
    }

    fn is_empty(&self, start: u64) -> bool {
        let mut names = 0;
        let count = |_: &Record<'_>, _: u64, _: u64| {
            names = 1;
            Ok(ControlFlow::Break(()))
        };
        let size = self.meta.near(self.byte_of(start), SECTOR).ok();
        let size = size.and_then(|sector| Record::parse(&sector).ok().map(|record| record.size()));
        self.each_record(start, size.unwrap_or(0), 0, count).is_ok() && names == 0
    }

    const fn byte_of(&self, block: u64) -> u64 {
        block.saturating_mul(self.volume.block)
    }

    /// Hands over the records of a directory from byte `from` on, but for its own and its parent's: where each lies on
    /// the volume, and where in the directory the next one starts.
    fn each_record(
        &self,
        start: u64,
        size: u64,
        from: u64,
        mut sink: impl FnMut(&Record<'_>, u64, u64) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let base = self.byte_of(start);
        let at = |byte: u64| At::new("iso9660", "directory record").byte(byte);
        if size > MAX_DIR {
            return Err(Error::limit(format!("a directory of {size} bytes, at most {MAX_DIR} are accepted")));
        }
        let mut place = from;
        while place < size {
            let begin = place.saturating_sub(place % SECTOR);
            let len = SECTOR.min(size.saturating_sub(begin));
            let sector = self.meta.near(base.saturating_add(begin), len)?;
            for found in records(&sector, narrow(place.saturating_sub(begin))) {
                let found = found.map_err(|error| error.at(at(base.saturating_add(begin))))?;
                let byte = base.saturating_add(begin).saturating_add(wide(found.at));
                let next = begin.saturating_add(wide(found.next));
                if !found.record.is_dots() && sink(&found.record, byte, next)?.is_break() {
                    return Ok(());
                }
            }
            place = sector_end(begin);
        }
        Ok(())
    }

    /// The entries behind a record's name.
    fn rock_in(&self, record: &Record<'_>) -> Result<Rock> {
        match self.tree {
            Tree::Rock(skip) => self.rock(record.system_use().get(usize::from(skip)..).unwrap_or_default()),
            Tree::Plain | Tree::Joliet(_) => Ok(Rock::default()),
        }
    }

    /// What a number stands for.
    ///
    /// # Errors
    /// `Corrupt` when no record is there.
    fn node(&self, ino: Ino) -> Result<Node> {
        let at = At::new("iso9660", "directory record").byte(ino.0);
        let bytes = self.meta.near(ino.0, left_in_sector(ino.0)).map_err(|error| error.at(at.clone()))?;
        let record = Record::parse(&bytes).map_err(|error| error.at(at))?;
        let rock = self.rock_in(&record)?;
        Ok(Node {
            kind: kind(&record, &rock),
            record: bytes.get(..record.len()).unwrap_or_default().to_vec(),
            rock,
        })
    }

    fn directory(&self, ino: Ino) -> Result<Node> {
        let node = self.node(ino)?;
        if node.kind != FileType::Dir {
            let what = node.kind.name();
            return Err(Error::not_found(format!("inode {ino} is a {what}, not a directory; its entries")));
        }
        Ok(node)
    }

    /// Hands over every name of a directory.
    fn names(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let node = self.directory(dir)?;
        let budget = Budget::new(Limits::LISTING);
        // A file of several parts has a record for each, and the number of the first.
        let mut first = None;
        self.each_record(node.record().start(), node.record().size(), from, |record, byte, next| {
            budget.step("directory")?;
            let ino = *first.get_or_insert(byte);
            if record.goes_on() {
                return Ok(ControlFlow::Continue(()));
            }
            first = None;
            let rock = self.rock_in(record)?;
            if record.is_associated() || rock.is_moved {
                return Ok(ControlFlow::Continue(()));
            }
            let (ino, kind) = match rock.child {
                Some(block) => (self.byte_of(block), FileType::Dir),
                None if record.is_dir() => (self.byte_of(record.start()), FileType::Dir),
                None => (ino, kind(record, &rock)),
            };
            let name = match self.tree {
                Tree::Joliet(_) => record.joliet_name(),
                _ if !rock.name.is_empty() => rock.name,
                _ => record.plain_name(),
            };
            Ok(sink(DirEntry { ino: Ino(ino), kind: Some(kind), name: &name, next }))
        })
    }

    /// The parts of a file, from its first record on.
    fn parts(&self, ino: Ino, node: &Node) -> Result<Vec<Part>> {
        let part = |record: &Record<'_>| Part { start: self.byte_of(record.start()), size: record.size() };
        let mut record = node.record();
        let mut parts = vec![part(&record)];
        let mut byte = ino.0;
        let mut kept: Bytes;
        while record.goes_on() {
            let at = || At::new("iso9660", "directory record").byte(ino.0);
            if wide(parts.len()) >= MAX_PARTS {
                return Err(Error::corrupt(at()).because(format!("a file of more than {MAX_PARTS} parts")));
            }
            byte = byte.saturating_add(wide(record.len()));
            kept = self.meta.near(byte, left_in_sector(byte))?;
            if kept.first().is_none_or(|len| *len == 0) {
                byte = sector_end(byte);
                kept = self.meta.near(byte, SECTOR)?;
            }
            record = Record::parse(&kept).map_err(|error| error.at(at().byte(byte)))?;
            parts.push(part(&record));
        }
        Ok(parts)
    }

    /// The run at `offset` of the bytes as they are stored.
    fn stored(parts: &[Part], mut offset: u64) -> Result<Run> {
        for part in parts {
            if let Some(len) = part.size.checked_sub(offset).filter(|len| *len > 0) {
                let place = Place::Stored { file: 0, offset: part.start.saturating_add(offset) };
                return Ok(Run { len, place });
            }
            offset = offset.saturating_sub(part.size);
        }
        Err(Error::out_of_range(offset, 1, 0))
    }

    /// A regular file, with its parts.
    fn file(&self, ino: Ino) -> Result<(Node, Vec<Part>)> {
        let node = self.node(ino)?;
        if node.kind != FileType::File {
            let what = format!("inode {ino} is a {}, not a regular file", node.kind.name());
            return Err(Error::new(ErrorKind::Denied, what));
        }
        if node.record().is_interleaved() {
            return Err(Error::unsupported("a file in interleaved mode"));
        }
        let parts = self.parts(ino, &node)?;
        Ok((node, parts))
    }

    /// Where a block of a compressed file lies: in one run of the packed file.
    fn packed_run(&self, ino: Ino, parts: &[Part], block: zisofs::Block) -> Result<(u64, u64)> {
        let at = || At::new("iso9660", "zisofs block").index(block.number).byte(ino.0);
        let mut pair = [0; 8];
        runs::read(&**self.meta.volume(), &mut pair, block.pointer, |offset, _| Self::stored(parts, offset))
            .map_err(|error| error.at(at()))?;
        let [start, end] = [0, 4].map(|at| u64::from(get_le32(&pair, at).unwrap_or(0)));
        let len = end.checked_sub(start).filter(|len| *len <= MAX_PACKED);
        let bad = || Error::corrupt(at()).because(format!("lies at {start}..{end} of the packed file"));
        Ok((start, len.ok_or_else(bad)?))
    }

    /// A block of a compressed file, unpacked.
    fn unpacked(&self, ino: Ino, parts: &[Part], block: zisofs::Block) -> Result<Arc<Vec<u8>>> {
        // A record has at least 34 bytes, a file of 4 GiB at most 2^20 blocks of 4 KiB.
        let unit = (ino.0 / 2) << 20 | block.number;
        self.units.get(unit, || {
            let (start, len) = self.packed_run(ino, parts, block)?;
            let mut stored = vec![0; narrow(len)];
            runs::read(&**self.meta.volume(), &mut stored, start, |offset, _| Self::stored(parts, offset))?;
            zisofs::unpack(&stored, block.len)
                .map_err(|error| error.at(At::new("iso9660", "zisofs block").index(block.number).byte(ino.0)))
        })
    }
}

/// What a record is: Rock Ridge knows more than files and directories.
fn kind(record: &Record<'_>, rock: &Rock) -> FileType {
    match rock.posix {
        _ if record.is_dir() => FileType::Dir,
        Some(posix) => posix.kind(),
        None => FileType::File,
    }
}

impl FileSystem for Iso {
    fn root(&self) -> Ino {
        Ino(self.byte_of(self.root))
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let (mut exact, mut similar) = (None, None);
        let ignores_case = self.ignores_case();
        self.names(dir, 0, &mut |entry| {
            if entry.name == name {
                exact = Some(entry.ino);
                return ControlFlow::Break(());
            }
            if ignores_case && similar.is_none() && same_letters(entry.name, name) {
                similar = Some(entry.ino);
            }
            ControlFlow::Continue(())
        })?;
        Ok(exact.or(similar))
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let node = self.node(ino)?;
        let record = node.record();
        let size = match (node.kind, node.rock.packed) {
            (FileType::Symlink, _) => wide(node.rock.target.len()),
            (FileType::File, Some(packed)) if packed.check().is_ok() => packed.size,
            (FileType::File, _) => {
                self.parts(ino, &node)?.iter().fold(0, |sum: u64, part| sum.saturating_add(part.size))
            }
            _ => record.size(),
        };
        let posix = node.rock.posix.unwrap_or(rock::Posix { mode: 0o555, links: 1, uid: 0, gid: 0 });
        let or_date = |time: Option<Time>| time.unwrap_or(record.time());
        Ok(Stat {
            ino,
            kind: node.kind,
            size,
            blocks: size.div_ceil(512),
            mode: u16::try_from(posix.mode & 0o7777).unwrap_or(0),
            nlink: posix.links,
            uid: posix.uid,
            gid: posix.gid,
            rdev: node.rock.device.unwrap_or((0, 0)),
            atime: or_date(node.rock.accessed),
            mtime: or_date(node.rock.modified),
            ctime: or_date(node.rock.changed.or(node.rock.created)),
            btime: node.rock.created,
            blksize: u32::try_from(self.volume.block).unwrap_or(u32::MAX),
        })
    }

    fn readdir(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.names(dir, from, sink)
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        let (node, parts) = self.file(ino)?;
        let Some(packed) = node.rock.packed else {
            let size = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.size));
            let len = narrow(size.saturating_sub(offset)).min(buf.len());
            let buf = buf.get_mut(..len).unwrap_or_default();
            runs::read(&**self.meta.volume(), buf, offset, |offset, _| Self::stored(&parts, offset))?;
            return Ok(len);
        };
        packed.check()?;
        let len = narrow(packed.size.saturating_sub(offset)).min(buf.len());
        let mut rest = buf.get_mut(..len).unwrap_or_default();
        let mut offset = offset;
        while !rest.is_empty() {
            let block = packed.block(offset);
            let bytes = self.unpacked(ino, &parts, block)?;
            let bytes = bytes.get(narrow(offset.saturating_sub(block.at))..).unwrap_or_default();
            let (now, after) = rest.split_at_mut(bytes.len().min(rest.len()));
            now.copy_from_slice(bytes.get(..now.len()).unwrap_or_default());
            if now.is_empty() {
                return Err(Error::new(ErrorKind::Internal, "a block of no bytes"));
            }
            offset = offset.saturating_add(wide(now.len()));
            rest = after;
        }
        Ok(len)
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        let node = self.node(ino)?;
        match node.kind {
            FileType::Symlink if node.rock.target.is_empty() => {
                let at = At::new("iso9660", "directory record").byte(ino.0);
                Err(Error::corrupt(at).because("a symbolic link without a target"))
            }
            FileType::Symlink => Ok(node.rock.target),
            kind => {
                let what = format!("inode {ino} is a {}, not a symbolic link", kind.name());
                Err(Error::new(ErrorKind::Denied, what))
            }
        }
    }

    fn run_at(&self, ino: Ino, offset: u64) -> Result<Run> {
        let (node, parts) = self.file(ino)?;
        let Some(packed) = node.rock.packed else {
            let size = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.size));
            return Self::stored(&parts, offset).map_err(|_| Error::out_of_range(offset, 1, size));
        };
        packed.check()?;
        if offset >= packed.size {
            return Err(Error::out_of_range(offset, 1, packed.size));
        }
        let block = packed.block(offset);
        let skip = offset.saturating_sub(block.at);
        let len = block.len.saturating_sub(skip);
        let (start, stored) = self.packed_run(ino, &parts, block)?;
        if stored == 0 {
            return Ok(Run { len, place: Place::Zero });
        }
        let Place::Stored { offset, .. } = Self::stored(&parts, start)?.place else {
            return Err(Error::new(ErrorKind::Internal, "a part of a file that is not stored"));
        };
        Ok(Run { len, place: Place::Packed { file: 0, offset, stored, unit: block.number, skip } })
    }

    fn facts(&self) -> FsFacts {
        let mut features: Vec<String> = Vec::new();
        if matches!(self.tree, Tree::Rock(_)) {
            features.push("Rock Ridge".to_owned());
        }
        if let Some(joliet) = &self.volume.joliet {
            features.push(format!("Joliet {}", joliet.level));
        }
        features.extend(self.volume.boot.iter().map(|&boot| boot.to_owned()));
        let mut warnings = Vec::new();
        let volume = self.meta.volume().len();
        if self.volume.size > volume {
            warnings.push(format!(
                "the file system has {} bytes, its volume only {volume}: its end is missing",
                self.volume.size
            ));
        }
        FsFacts {
            kind: "iso9660",
            label: Text::new(self.volume.label()),
            uuid: self.volume.uuid.clone(),
            block_size: u32::try_from(self.volume.block).unwrap_or(u32::MAX),
            size: self.volume.size,
            features,
            warnings,
            ..FsFacts::default()
        }
    }

    fn ignores_case(&self) -> bool {
        matches!(self.tree, Tree::Joliet(_))
    }
}
