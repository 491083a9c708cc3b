//! What an inode number stands for: a file, or one of its named streams.

use super::attribute::{Attribute, kind};
use super::file::{File, FileName, namespace};
use super::nature::{self, Nature};
use super::stat::{Standard, time};
use super::volume::Volume;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{FileType, Ino, Stat};
use crate::num::wide;
use std::sync::Arc;

/// A file, or one of its named streams.
pub(super) struct Node {
    /// The file.
    pub(super) file: Arc<File>,
    /// The ordinal of the stream.
    pub(super) stream: Option<usize>,
}

impl Node {
    /// Its data; `None` where the file has none without a name.
    fn data(&self) -> Result<Option<&Attribute>> {
        let Some(ordinal) = self.stream else { return self.file.find(kind::DATA, &[]) };
        let stream = self.file.streams()?.nth(ordinal);
        let gone = || Error::not_found(format!("stream {ordinal} of MFT record {}", self.file.number));
        stream.map(Some).ok_or_else(gone)
    }

    /// As [`Node::data`], of what may be read as a file.
    ///
    /// # Errors
    /// `Denied` for a directory.
    pub(super) fn content(&self) -> Result<Option<&Attribute>> {
        if self.stream.is_none() && self.file.is_dir() {
            let what = format!("inode {} is a directory, not a regular file", self.file.number);
            return Err(Error::new(ErrorKind::Denied, what));
        }
        self.data()
    }

    /// What `stat` says.
    ///
    /// # Errors
    /// `Corrupt` when the file's own attributes cannot be read.
    pub(super) fn stat(&self, volume: &Volume, ino: Ino) -> Result<Stat> {
        let file = &*self.file;
        let standard = Standard::of(file)?;
        let nature = match self.stream {
            None => nature::of(volume, file, standard.attributes)?,
            Some(_) => Nature::default(),
        };
        let kind = match (self.stream, nature.kind) {
            (Some(_), _) => FileType::File,
            (None, Some(kind)) => kind,
            (None, None) if file.is_dir() => FileType::Dir,
            (None, None) => FileType::File,
        };
        let value = match kind {
            FileType::Dir => {
                file.attributes.iter().find(|attribute| attribute.kind == kind::INDEX_ALLOCATION)
            }
            _ if self.stream.is_none() && file.is_dir() => None,
            _ => self.data()?,
        };
        let size = value.map_or(0, Attribute::size);
        Ok(Stat {
            ino,
            kind,
            size: nature.size.unwrap_or(size),
            blocks: nature.content.or(value).map_or(0, blocks),
            mode: nature.mode.unwrap_or(0o755),
            nlink: if kind == FileType::Dir { 1 } else { links(file) },
            uid: nature.uid.unwrap_or(0),
            gid: nature.gid.unwrap_or(0),
            rdev: nature.rdev,
            atime: time(standard.accessed),
            mtime: time(standard.modified),
            ctime: time(standard.changed),
            btime: Some(time(standard.created)),
            blksize: u32::try_from(volume.boot.cluster()).unwrap_or(u32::MAX),
        })
    }
}

/// Blocks of 512 bytes that a value takes. Data in the record take no cluster, but tools such as tar take 0 blocks for a hole.
fn blocks(value: &Attribute) -> u64 {
    match value.resident() {
        Some(bytes) => wide(bytes.len()).div_ceil(512),
        None => value.stored().div_ceil(512),
    }
}

/// Names that lead to a file, a short one beside a long one not counted.
fn links(file: &File) -> u32 {
    let is_counted = |attribute: &&Attribute| {
        let name = attribute.resident().filter(|_| attribute.kind == kind::FILE_NAME);
        name.is_some_and(|name| name.get(FileName::NAMESPACE).is_some_and(|space| *space != namespace::DOS))
    };
    u32::try_from(file.attributes.iter().filter(is_counted).count()).unwrap_or(u32::MAX).max(1)
}
