//! NTFS, versions 1.2 to 3.1, as Windows shows it.
//!
//! ```text
//! boot ─ mft ─ record         where the MFT lies; one record for each file, each checked for being whole
//! attribute ─ runs            what a record says: types, values in it or in clusters
//! file                        a record with its extensions; reading values
//! volume                      what all parts share, and what is kept in memory
//! index ─ upcase ─ dir        trees of keys; which letters are the same; names
//! compressed ─ lznt1          values packed 16 clusters at a time
//! wof ─ xpress ─ lzx          files that Windows packed chunk by chunk: CompactOS
//! packed ─ plain ─ huffman    reading pieces of which some are packed; what all three packers share
//! stat ─ name                 times and attributes; 16-bit units as WTF-8
//! nature                      what a file is beside that: reparse (points), interix, ea (owner and mode of Linux)
//! xattr ─ security ─ view     what else is known of a file; descriptors; indexes of other keys than names
//! state ─ efs                 the volume's health; whose an encrypted file is
//! ```
//! An inode is a record's number. A named stream is one of its own: its ordinal among the file's named streams stands in
//! bits 48 to 63, from 1.

use super::{DirEntry, FileSystem, FileType, FsCx, FsFacts, FsKind, Ino, Stat, Xattr};
use crate::block::{BlockSource, Probe, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::text::Text;
use attribute::{Attribute, kind};
use file::File;
use nature::Nature;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use volume::Volume;

mod attribute;
mod boot;
mod compressed;
mod dir;
mod ea;
mod efs;
mod file;
#[cfg(test)]
mod fuzz;
mod hooks;
mod huffman;
mod index;
mod interix;
mod lznt1;
mod lzx;
mod mft;
mod name;
mod nature;
mod packed;
mod plain;
mod record;
mod reparse;
mod runs;
mod security;
mod stat;
mod state;
mod upcase;
mod view;
mod volume;
mod wof;
mod xattr;
mod xpress;

/// NTFS.
pub const KIND: FsKind = FsKind { name: "ntfs", claims, set: None, open };

/// Bits of an inode number that are the record's.
const RECORD_BITS: u32 = 48;

fn claims(probe: &Probe<'_>) -> bool {
    probe.has(3, boot::NAME)
}

/// Is there nothing but the copy of a boot sector, in the last sector?
pub(super) fn has_lost_its_boot_sector(probe: &Probe<'_>) -> bool {
    boot::Boot::is_at_the_end(probe)
}

fn open(devices: &[Arc<dyn BlockSource>], cx: &FsCx<'_>) -> Result<Arc<dyn FileSystem>> {
    Ok(Arc::new(Ntfs::open(super::only(devices)?, cx)?))
}

/// An NTFS file system.
#[derive(Debug)]
pub struct Ntfs {
    volume: Volume,
    /// Free clusters, counted when they are asked for first.
    counted: OnceLock<Option<u64>>,
}

/// What an inode number stands for.
struct Node {
    file: Arc<File>,
    /// The ordinal of a named stream.
    stream: Option<usize>,
}

impl Node {
    /// The stream that is read as a file's content; `None` where the file has no unnamed one.
    fn data(&self) -> Result<Option<&Attribute>> {
        match self.stream {
            None => self.file.find(kind::DATA, &[]),
            Some(ordinal) => {
                let stream = self.file.streams()?.nth(ordinal);
                stream
                    .map(Some)
                    .ok_or_else(|| Error::not_found(format!("stream {ordinal} of {}", self.file.at())))
            }
        }
    }
}

impl Ntfs {
    /// Opens the file system on a volume.
    ///
    /// # Errors
    /// `Corrupt` when neither the boot sector nor its copy, or neither the MFT nor its mirror is sound.
    pub fn open(volume: Arc<dyn BlockSource>, cx: &FsCx<'_>) -> Result<Self> {
        Ok(Self { volume: Volume::open(volume, cx)?, counted: OnceLock::new() })
    }

    fn node(&self, ino: Ino) -> Result<Node> {
        let number = ino.0 & (1_u64 << RECORD_BITS).saturating_sub(1);
        let stream = usize::try_from(ino.0 >> RECORD_BITS).unwrap_or(usize::MAX).checked_sub(1);
        Ok(Node { file: self.volume.file(number)?, stream })
    }
}

impl FileSystem for Ntfs {
    fn root(&self) -> Ino {
        Ino(mft::ROOT)
    }

    fn lookup(&self, _dir: Ino, _name: &[u8]) -> Result<Option<Ino>> {
        Err(Error::unsupported("NTFS directories"))
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let node = self.node(ino)?;
        let standard = stat::Standard::of(&node.file)?;
        let nature = match node.stream {
            None => nature::of(&self.volume, &node.file, standard.attributes)?,
            Some(_) => Nature { kind: Some(FileType::File), ..Nature::default() },
        };
        let kind = if node.file.is_dir() { FileType::Dir } else { FileType::File };
        let kind = nature.kind.unwrap_or(kind);
        let data = if kind == FileType::Dir { None } else { node.data()? };
        let stored = data.map_or(0, Attribute::stored);
        Ok(Stat {
            ino,
            kind,
            size: nature.size.unwrap_or(data.map_or(0, Attribute::size)),
            blocks: stored.div_ceil(512),
            mode: nature.mode.unwrap_or(0o755),
            nlink: 1,
            uid: nature.uid.unwrap_or(0),
            gid: nature.gid.unwrap_or(0),
            rdev: nature.rdev,
            atime: stat::time(standard.accessed),
            mtime: stat::time(standard.modified),
            ctime: stat::time(standard.changed),
            btime: Some(stat::time(standard.created)),
            blksize: u32::try_from(self.volume.boot.cluster()).unwrap_or(u32::MAX),
        })
    }

    fn readdir(
        &self,
        _dir: Ino,
        _from: u64,
        _sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Err(Error::unsupported("NTFS directories"))
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        let node = self.node(ino)?;
        if node.stream.is_none()
            && let Some(len) = hooks::read_reparsed(&self.volume, &node.file, buf, offset)?
        {
            return Ok(len);
        }
        let Some(data) = node.data()? else { return Ok(0) };
        self.volume.read_attribute(&node.file, data, buf, offset)
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        let node = self.node(ino)?;
        if node.stream.is_some() {
            return Err(
                Error::new(ErrorKind::Unsupported, "a stream, not a symbolic link").at(node.file.at())
            );
        }
        nature::target(&self.volume, &node.file, stat::Standard::of(&node.file)?.attributes)
    }

    fn xattrs(&self, ino: Ino) -> Result<Vec<Xattr>> {
        let node = self.node(ino)?;
        if node.stream.is_some() { Ok(Vec::new()) } else { xattr::list(&self.volume, &node.file) }
    }

    fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let node = self.node(ino)?;
        if node.stream.is_some() { Ok(None) } else { xattr::get(&self.volume, &node.file, name) }
    }

    fn run_at(&self, ino: Ino, offset: u64) -> Result<Run> {
        let node = self.node(ino)?;
        if node.stream.is_none()
            && let Some(run) = hooks::reparsed_run(&self.volume, &node.file, offset)?
        {
            return Ok(run);
        }
        match node.data()? {
            Some(data) => self.volume.run_of(&node.file, data, offset),
            None => Err(Error::out_of_range(offset, 1, 0)),
        }
    }

    fn facts(&self) -> FsFacts {
        let boot = &self.volume.boot;
        let (state, features, warnings) = hooks::state(&self.volume);
        FsFacts {
            kind: "ntfs",
            label: Text::default(),
            uuid: Some(format!("{:016X}", boot.serial)),
            block_size: boot.sector,
            size: boot.size(),
            state,
            features,
            warnings,
            ..FsFacts::default()
        }
    }

    fn ignores_case(&self) -> bool {
        true
    }
}
