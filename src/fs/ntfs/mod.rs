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
//! logfile                     changes that wait to be written home, played back in memory
//! node ─ stat ─ name          what `stat` says; times; 16-bit units as WTF-8
//! nature                      what a file is beside that: reparse (points), interix, ea (owner and mode of Linux)
//! xattr ─ security            what else is known of a file; descriptors
//! state ─ efs                 the volume's health; whose an encrypted file is
//! ```
//! An inode is a record's number. A named stream is one of its own: its ordinal among the file's named streams stands in
//! bits 48 to 63, from 1.

use super::unicode::units_le;
use super::{DirEntry, FileSystem, FsCx, FsFacts, FsKind, Ino, Stat, Xattr};
use crate::block::{BlockSource, Probe, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::text::Text;
use attribute::{Attribute, kind};
use file::File;
use node::Node;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use volume::Volume;

pub(crate) use name::encode as wtf8;

mod attribute;
mod boot;
mod compressed;
mod dir;
mod ea;
mod efs;
mod file;
#[cfg(test)]
mod fuzz;
mod huffman;
mod index;
mod interix;
mod logfile;
mod lznt1;
mod lzx;
mod mft;
mod name;
mod nature;
mod node;
mod packed;
mod plain;
mod record;
mod reparse;
mod runs;
mod security;
mod stat;
mod state;
mod upcase;
mod volume;
mod wof;
mod xattr;
mod xpress;

/// NTFS.
pub const KIND: FsKind = FsKind { name: "ntfs", claims, set: None, open };

/// Bits of an inode number that are the record's.
const RECORD_BITS: u32 = 48;
/// The longest bitmap that is counted, in bytes: of 2 TiB in clusters of 4 KiB; and how much of it is read at once.
const COUNTED: u64 = 64 << 20;
const COUNTED_AT_ONCE: u64 = 1 << 20;

fn claims(probe: &Probe<'_>) -> bool {
    probe.has(3, boot::NAME)
}

/// Is there nothing but the copy of a boot sector, in the last sector?
pub(super) fn has_lost_its_boot_sector(probe: &Probe<'_>) -> bool {
    boot::Boot::is_at_the_end(probe)
}

fn open(devices: &[Arc<dyn BlockSource>], cx: &FsCx<'_>) -> Result<Arc<dyn FileSystem>> {
    Ok(Arc::new(Ntfs::open(&super::only(devices)?, cx)?))
}

/// An NTFS file system.
#[derive(Debug)]
pub struct Ntfs {
    volume: Volume,
    /// Free clusters, counted when they are asked for first.
    counted: OnceLock<Option<u64>>,
}

impl Ntfs {
    /// Opens the file system on a volume.
    ///
    /// # Errors
    /// `Corrupt` when neither the boot sector nor its copy, or neither the MFT nor its mirror is sound.
    pub fn open(volume: &Arc<dyn BlockSource>, cx: &FsCx<'_>) -> Result<Self> {
        Ok(Self { volume: Volume::open(volume, cx)?, counted: OnceLock::new() })
    }

    fn node(&self, ino: Ino) -> Result<Node> {
        let number = ino.0 & (1_u64 << RECORD_BITS).saturating_sub(1);
        let stream = usize::try_from(ino.0 >> RECORD_BITS).unwrap_or(usize::MAX).checked_sub(1);
        Ok(Node { file: self.volume.file(number)?, stream })
    }

    /// How Windows' overlay filter has packed what is read of a file; `None` where its `$DATA` holds it.
    fn packer(&self, node: &Node) -> Result<Option<u32>> {
        if node.stream.is_some() { Ok(None) } else { reparse::packer(&self.volume, &node.file) }
    }

    /// A stream of a file, as `file:stream` and `file:stream:$DATA` name it.
    fn stream(&self, file: &File, name: &[u16]) -> Result<Option<Ino>> {
        let upcase = self.volume.upcase();
        let is_same = |a: &[u16], b: &[u16]| upcase.compare(a.iter().copied(), b.iter().copied()).is_eq();
        let data: Vec<u16> = ":$DATA".encode_utf16().collect();
        let name = match name.len().checked_sub(data.len()).and_then(|at| name.split_at_checked(at)) {
            Some((name, end)) if is_same(end, &data) => name,
            _ => name,
        };
        if name.is_empty() {
            return Ok(Some(Ino(file.number)));
        }
        let find = |is: &dyn Fn(&Attribute) -> bool| Ok::<_, Error>(file.streams()?.position(is));
        let found = find(&|stream| stream.name == name)?;
        let found =
            found.map_or_else(|| find(&|stream| is_same(&stream.name, name)), |found| Ok(Some(found)))?;
        let number = found.and_then(|ordinal| u16::try_from(ordinal.checked_add(1)?).ok());
        Ok(number.map(|number| Ino(u64::from(number) << RECORD_BITS | file.number)))
    }

    /// Free clusters, by the bitmap; `None` when it cannot be read or is too long to be counted.
    fn count_free(&self) -> Option<u64> {
        let file = self.volume.file(mft::BITMAP).ok()?;
        let data = file.find(kind::DATA, &[]).ok()??;
        let clusters = self.volume.boot.clusters();
        let len = clusters.div_ceil(8);
        if data.size() < len || len > COUNTED {
            return None;
        }
        let (mut used, mut at) = (0_u64, 0);
        let mut bytes = vec![0; narrow(len.min(COUNTED_AT_ONCE))];
        while at < len {
            let part = bytes.get_mut(..narrow(len.saturating_sub(at).min(COUNTED_AT_ONCE)))?;
            self.volume.read_attribute(&file, data, part, at).ok()?;
            at = at.saturating_add(wide(part.len()));
            if at == len
                && let (Some(last), rest @ 1..) = (part.last_mut(), clusters % 8)
            {
                // Bits behind the last cluster mean nothing.
                *last &= 0xff_u8 >> 8_u64.saturating_sub(rest);
            }
            used = part.iter().fold(used, |sum, byte| sum.saturating_add(byte.count_ones().into()));
        }
        clusters.checked_sub(used)
    }

    fn warnings(&self) -> Vec<String> {
        let volume = &self.volume;
        let mut warnings = Vec::new();
        let mut warn = |is: bool, what: &str| {
            if is {
                warnings.push(what.to_owned());
            }
        };
        warn(volume.boot.by_backup, "the boot sector is damaged; its copy at the end of the volume was read");
        warn(volume.mft.by_mirror, "the record of the MFT is damaged; its copy in the mirror was read");
        warn(
            volume.upcase().is_made_up,
            "the table of capitals ($UpCase) cannot be read; names are compared by Unicode's",
        );
        if let Some(first) = volume.mft.lost(&volume.boot) {
            warnings.push(format!("the MFT is damaged: files from record {first} on cannot be found"));
        }
        let (size, there) = (volume.boot.size(), volume.meta.volume().len());
        if size > there {
            warnings.push(format!(
                "the file system has {size} bytes, its volume only {there}: its end is missing"
            ));
        }
        warnings
    }
}

impl FileSystem for Ntfs {
    fn root(&self) -> Ino {
        Ino(mft::ROOT)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let dir = self.node(dir)?.file;
        let Some(units) = name::decode(name) else { return Ok(None) };
        if let Some(reference) = self.volume.child(dir.number, &units)? {
            // Its record may be another file's by now.
            return Ok(Some(Ino(self.volume.referred(reference)?.number)));
        }
        let Some(colon) = units.iter().position(|unit| *unit == u16::from(b':')) else { return Ok(None) };
        let (name, stream) = units.split_at(colon);
        let stream = stream.get(1..).unwrap_or_default();
        if name.is_empty() {
            return self.stream(&dir, stream);
        }
        match self.volume.child(dir.number, name)? {
            Some(reference) => self.stream(&*self.volume.referred(reference)?, stream),
            None => Ok(None),
        }
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let node = self.node(ino)?;
        node.stat(&self.volume, ino)
    }

    fn readdir(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.volume.list(&self.node(dir)?.file, from, sink)
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        let node = self.node(ino)?;
        if let Some(algorithm) = self.packer(&node)? {
            return wof::read(&self.volume, &node.file, algorithm, buf, offset);
        }
        let Some(data) = node.content()? else { return Ok(0) };
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

    fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        let node = self.node(ino)?;
        if node.stream.is_some() { Ok(Vec::new()) } else { xattr::names(&self.volume, &node.file) }
    }

    fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let node = self.node(ino)?;
        if node.stream.is_some() { Ok(None) } else { xattr::get(&self.volume, &node.file, name) }
    }

    fn run_at(&self, ino: Ino, offset: u64) -> Result<Run> {
        let node = self.node(ino)?;
        if let Some(algorithm) = self.packer(&node)? {
            return wof::run(&self.volume, &node.file, algorithm, offset);
        }
        match node.content()? {
            Some(data) => self.volume.run_of(&node.file, data, offset),
            None => Err(Error::out_of_range(offset, 1, 0)),
        }
    }

    fn facts(&self) -> FsFacts {
        let boot = &self.volume.boot;
        let health = state::of(&self.volume);
        let mut warnings = self.warnings();
        warnings.extend(health.warnings);
        let own = self.volume.file(mft::VOLUME).ok();
        let value = |kind| own.as_ref()?.resident(kind).ok()?;
        let label = value(kind::VOLUME_NAME).map(|name| name::encode(units_le(name)));
        let version =
            value(kind::VOLUME_INFORMATION).and_then(|info| info.get(8..10)?.first_chunk().copied());
        let mut features: Vec<String> =
            version.map(|[major, minor]: [u8; 2]| format!("{major}.{minor}")).into_iter().collect();
        features.extend(health.features);
        FsFacts {
            kind: "ntfs",
            label: Text::new(label.unwrap_or_default()),
            uuid: Some(format!("{:016X}", boot.serial)),
            block_size: boot.sector,
            size: boot.size(),
            reserved: 0,
            inodes: self.volume.mft.records(boot),
            state: health.state,
            features,
            warnings,
            ..FsFacts::default()
        }
    }

    fn free(&self) -> Option<u64> {
        let counted = *self.counted.get_or_init(|| self.count_free());
        counted?.checked_mul(self.volume.boot.cluster())
    }

    fn ignores_case(&self) -> bool {
        true
    }
}
