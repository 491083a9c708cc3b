//! What a file is beside what its record says: a link, a device or a file of Linux by its reparse point or Interix mark, with
//! the owner and mode that Linux under Windows gave it.

use super::attribute::{Attribute, kind};
use super::ea::{self, Linux};
use super::file::{File, namespace};
use super::interix::{self, BySize, Interix};
use super::reparse::{self, Meaning, Reparse, Wof, tag};
use super::stat::attribute;
use super::volume::Volume;
use super::{mft, wof};
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::FileType;
use crate::num::wide;

/// Directories above a link that are counted, and records of the MFT that may be read for that.
const MAX_DEPTH: usize = 1024;
const MAX_RECORDS: usize = 8192;

/// What is not as the record says. What is `None` is.
#[derive(Clone, Debug, Default)]
pub(super) struct Nature<'f> {
    /// What it is, where it is no plain file or directory.
    pub(super) kind: Option<FileType>,
    /// Its size, where that is not the data's: a symbolic link's target's.
    pub(super) size: Option<u64>,
    /// The stream that has its content, where that is not the data.
    pub(super) content: Option<&'f Attribute>,
    /// Permission bits, where somebody gave them.
    pub(super) mode: Option<u16>,
    /// Owner, where somebody gave one.
    pub(super) uid: Option<u32>,
    /// Group, where somebody gave one.
    pub(super) gid: Option<u32>,
    /// Numbers of a device.
    pub(super) rdev: (u32, u32),
}

/// What a file with these attributes of `$STANDARD_INFORMATION` is. Reads nothing where neither they nor the record ask for
/// it.
///
/// # Errors
/// When its reparse point cannot be read: what it is is then not known.
pub(super) fn of<'f>(volume: &Volume, file: &'f File, attributes: u32) -> Result<Nature<'f>> {
    let mut nature = Nature::default();
    // What somebody else wrote into the list and is damaged does not hide the file.
    let linux = list(volume, file).and_then(|(list, at)| Linux::of(&list, &at).ok()).unwrap_or_default();
    nature.uid = linux.uid;
    nature.gid = linux.gid;
    nature.mode = linux.mode.and_then(|mode| u16::try_from(mode & 0o7777).ok());
    if attributes & attribute::REPARSE_POINT != 0 {
        by_reparse_point(volume, file, linux, &mut nature)?;
    } else if attributes & attribute::SYSTEM != 0 && !file.is_dir() && file.number >= mft::FIRST_USER {
        match by_interix(volume, file, attributes) {
            Some(Interix::Special(kind, numbers)) => (nature.kind, nature.rdev) = (Some(kind), numbers),
            Some(Interix::Link(target)) => {
                (nature.kind, nature.size) = (Some(FileType::Symlink), Some(wide(target.len())));
            }
            None => {}
        }
    }
    if nature.kind == Some(FileType::Symlink) {
        nature.mode = nature.mode.or(Some(0o777));
    }
    Ok(nature)
}

/// The file's extended attributes, if it has any that can be read.
fn list(volume: &Volume, file: &File) -> Option<(Vec<u8>, At)> {
    let list = file.attributes.iter().find(|attribute| attribute.is(kind::EA, &[]))?;
    let at = At::new("ntfs", "$EA of MFT record").index(file.number);
    Some((volume.read_whole(file, list, ea::MAX_LEN).ok()?, at))
}

fn by_reparse_point<'f>(
    volume: &Volume,
    file: &'f File,
    linux: Linux,
    nature: &mut Nature<'f>,
) -> Result<()> {
    let Some(bytes) = reparse::load(volume, file)? else { return Ok(()) };
    let Ok(reparse) = Reparse::parse(&bytes, &reparse::at(file)) else { return Ok(()) };
    match reparse.meaning(&reparse::at(file)) {
        Ok(Meaning::Link(target)) => {
            let len = directories_above(volume, file, &target).map_or(0, |depth| target.text(depth).len());
            (nature.kind, nature.size) = (Some(FileType::Symlink), Some(wide(len)));
        }
        Ok(Meaning::Special(kind, numbers)) => {
            (nature.kind, nature.size) = (Some(kind), Some(0));
            nature.rdev = numbers.or(linux.device).unwrap_or_default();
        }
        // A link that leads nowhere: reading it says why.
        Err(_) if matches!(reparse.tag, tag::SYMLINK | tag::MOUNT_POINT | tag::LX_SYMLINK) => {
            (nature.kind, nature.size) = (Some(FileType::Symlink), Some(0));
        }
        Ok(Meaning::Wof(Wof::File(_))) => nature.content = wof::stream(file).ok().flatten(),
        Ok(Meaning::Wof(Wof::Wim) | Meaning::Other) | Err(_) => {}
    }
    Ok(())
}

fn by_interix(volume: &Volume, file: &File, attributes: u32) -> Option<Interix> {
    let data = file.find(kind::DATA, &[]).ok()??;
    match interix::of_size(data.size(), attributes & attribute::HIDDEN != 0) {
        BySize::Special(kind) => Some(Interix::Special(kind, (0, 0))),
        BySize::File => None,
        // What cannot be read is a file whose reading fails.
        BySize::AskContent => {
            let mut magic = [0; 4];
            volume.read_attribute(file, data, &mut magic, 0).ok()?;
            let whole = (&magic == interix::START).then(|| volume.read_whole(file, data, data.size()));
            interix::of_content(&whole?.ok()?)
        }
    }
}

/// How many directories lie above a link, where its target asks for that.
fn directories_above(volume: &Volume, file: &File, target: &reparse::Target) -> Result<usize> {
    let mut depth = 0_usize;
    if !target.is_from_root() {
        return Ok(depth);
    }
    let parent_of = |file: &File| {
        let name = file.names()?.find(|name| name.namespace != namespace::DOS);
        name.map(|name| name.parent).ok_or_else(|| Error::corrupt(file.at()).because("has no name"))
    };
    let mut parent = parent_of(file)?;
    let mut records = 0_usize;
    while parent.number() != mft::ROOT {
        depth = depth.saturating_add(1);
        if depth > MAX_DEPTH || records > MAX_RECORDS {
            let what =
                format!("more than {MAX_DEPTH} directories above a link, or {MAX_RECORDS} records of them");
            return Err(Error::limit(what).at(file.at()));
        }
        let above = volume.referred(parent)?;
        records = records.saturating_add(above.records);
        parent = parent_of(&above)?;
    }
    Ok(depth)
}

/// The target of a symbolic link.
///
/// # Errors
/// `Corrupt` when it leads nowhere; `Unsupported` when the file is none.
pub(super) fn target(volume: &Volume, file: &File, attributes: u32) -> Result<Vec<u8>> {
    if let Some(bytes) = reparse::load(volume, file)? {
        let at = reparse::at(file);
        let reparse = Reparse::parse(&bytes, &at)?;
        if let Meaning::Link(target) = reparse.meaning(&at)? {
            let depth = directories_above(volume, file, &target)?;
            return Ok(target.text(depth));
        }
        let what = format!("{}, not a symbolic link", reparse::name(reparse.tag));
        return Err(Error::new(ErrorKind::Unsupported, what).at(at));
    }
    if attributes & attribute::SYSTEM != 0
        && let Some(Interix::Link(target)) = by_interix(volume, file, attributes)
    {
        return Ok(target);
    }
    Err(Error::new(ErrorKind::Unsupported, "not a symbolic link").at(file.at()))
}
