//! Where further parts of the reader join in.

use super::attribute::Attribute;
use super::file::File;
use super::volume::Volume;
use crate::block::Run;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{FileType, State, Xattr};

/// What a file is beside what its record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nature {
    /// What it is, where it is no plain file or directory: by its reparse point or Interix mark.
    pub(super) kind: Option<FileType>,
    /// Its size, where that is not the data's: a symbolic link's target's.
    pub(super) size: Option<u64>,
    /// Permission bits, where somebody gave them.
    pub(super) mode: Option<u16>,
    /// Owner, where somebody gave one.
    pub(super) uid: Option<u32>,
    /// Group, where somebody gave one.
    pub(super) gid: Option<u32>,
    /// Numbers of a device.
    pub(super) rdev: (u32, u32),
}

/// (ntfsx) What a file is by its reparse point, Interix mark and WSL attributes. `attributes` are those of
/// `$STANDARD_INFORMATION`. Called for each `stat`: reads nothing where these do not ask for it.
pub(super) fn nature(_volume: &Volume, _file: &File, _attributes: u32) -> Result<Nature> {
    Ok(Nature::default())
}

/// (ntfsx) The target of a symbolic link.
pub(super) fn target(_volume: &Volume, _file: &File) -> Result<Vec<u8>> {
    Err(Error::unsupported("a reparse point"))
}

/// (ntfsx) Extended attributes that are listed.
pub(super) fn xattrs(_volume: &Volume, _file: &File) -> Result<Vec<Xattr>> {
    Ok(Vec::new())
}

/// (ntfsx) One extended attribute.
pub(super) fn xattr(_volume: &Volume, _file: &File, _name: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(None)
}

/// (ntfsx, logfile) The volume's health, what else its facts should name, and what is odd.
pub(super) fn state(_volume: &Volume) -> (State, Vec<String>, Vec<String>) {
    (State::Clean, Vec::new(), Vec::new())
}

/// (ntfsx) Why an encrypted file cannot be read.
pub(super) fn encrypted(file: &File) -> Error {
    Error::new(ErrorKind::Encrypted, "is encrypted by EFS, with a key that its owner has").at(file.at())
}

/// (packed, ntfsx) Called before the unnamed `$DATA` of a file with a reparse point is read. `None`: read as it is stored.
/// Else what was read: WOF; or an error for content that is elsewhere.
pub(super) fn read_reparsed(
    _volume: &Volume,
    _file: &File,
    _buf: &mut [u8],
    _offset: u64,
) -> Result<Option<usize>> {
    Ok(None)
}

/// (packed, ntfsx) As [`read_reparsed`], for the map.
pub(super) fn reparsed_run(_volume: &Volume, _file: &File, _offset: u64) -> Result<Option<Run>> {
    Ok(None)
}

/// (packed) Fills `buf`, which ends at the value's end at the latest, from an attribute with the compressed flag.
pub(super) fn read_compressed(
    _volume: &Volume,
    _file: &File,
    _attribute: &Attribute,
    _buf: &mut [u8],
    _offset: u64,
) -> Result<()> {
    Err(Error::unsupported("LZNT1"))
}

/// (packed) Where the byte at `offset` of such a value lies.
pub(super) fn packed_run(
    _volume: &Volume,
    _file: &File,
    _attribute: &Attribute,
    _offset: u64,
) -> Result<Run> {
    Err(Error::unsupported("the map of an LZNT1 file"))
}
