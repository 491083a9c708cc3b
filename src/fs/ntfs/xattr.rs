//! Extended attributes as Linux shows them: a file's named streams as `user.*`, and what NTFS keeps of it beside, under the
//! names and in the forms that ntfs-3g gave them. Those are had by name only: every file has most of them, and nobody
//! copies them.

use super::attribute::{Attribute, kind};
use super::file::{File, namespace};
use super::name::encode;
use super::reparse::{self, Meaning, Reparse, Wof};
use super::stat::{Standard, attribute};
use super::volume::Volume;
use super::{ea, mft, security};
use crate::error::{Error, Result};
use crate::fs::Xattr;
use crate::ondisk::get_le64;

/// The longest value that Linux hands out (`XATTR_SIZE_MAX`).
const MAX_VALUE: u64 = 64 << 10;
/// The values of one file that are read together. A file may have ten thousand streams.
const MAX_LISTED: u64 = 16 << 20;
/// Before the names of streams that ntfs-3g keeps attributes other than `user.*` in.
const FOREIGN: &[u8] = b"ntfs-3g.";
const USER: &[u8] = b"user.";
/// The stream of a packed file that has its content.
const PACKED: &[u8] = b"WofCompressedData";
/// An object identifier with nothing else.
const GUID: u64 = 16;
/// One with all that may be known of where it came from.
const FULL_OBJECT_ID: u64 = 64;
/// Letters of a short name, with the dot.
const MAX_SHORT: usize = 12;

/// The streams of a file that are listed, with the names that they are listed by.
fn listed<'f>(volume: &Volume, file: &'f File) -> Result<Vec<(Vec<u8>, &'f Attribute)>> {
    let mut all = Vec::new();
    // The file system's own files have streams that are no attributes.
    if file.number < mft::FIRST_USER && file.number != mft::ROOT {
        return Ok(all);
    }
    let is_packed = reparse::load(volume, file)?.is_some_and(|bytes| {
        let meaning =
            Reparse::parse(&bytes, &reparse::at(file)).and_then(|it| it.meaning(&reparse::at(file)));
        matches!(meaning, Ok(Meaning::Wof(Wof::File(_))))
    });
    for stream in file.streams()?.filter(|stream| stream.size() <= MAX_VALUE) {
        let name = encode(stream.name.iter().copied());
        if (name.len() > FOREIGN.len() && name.starts_with(FOREIGN)) || (is_packed && name == PACKED) {
            continue;
        }
        all.push(([USER, &name].concat(), stream));
    }
    Ok(all)
}

/// The names of the streams of a file that are listed. None of them is read.
///
/// # Errors
/// When the file is damaged, so that some may be missing.
pub(super) fn names(volume: &Volume, file: &File) -> Result<Vec<Vec<u8>>> {
    Ok(listed(volume, file)?.into_iter().map(|(name, _)| name).collect())
}

/// The streams of a file that are listed.
///
/// # Errors
/// When one cannot be read; `Limit` when they are too long together.
pub(super) fn list(volume: &Volume, file: &File) -> Result<Vec<Xattr>> {
    let streams = listed(volume, file)?;
    let all = streams.iter().fold(0_u64, |sum, (_, stream)| sum.saturating_add(stream.size()));
    if all > MAX_LISTED {
        let why = format!("streams that have more than {MAX_LISTED} bytes together");
        return Err(Error::limit(why).at(file.at()).help("read each by its name"));
    }
    let value = |(name, stream)| Ok(Xattr { name, value: volume.read_whole(file, stream, MAX_VALUE)? });
    streams.into_iter().map(value).collect()
}

/// One extended attribute.
///
/// # Errors
/// When it cannot be read; `Limit` when it is longer than Linux hands out.
pub(super) fn get(volume: &Volume, file: &File, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let own = name.strip_prefix(b"system.ntfs_").map(|own| str::from_utf8(own).unwrap_or_default());
    let standard = || Standard::of(file);
    let value = |kind: u32, cap: u64| {
        file.find(kind, &[])?.map(|attribute| volume.read_whole(file, attribute, cap)).transpose()
    };
    Ok(match own {
        Some("acl") => security::descriptor(volume, file)?,
        Some("attrib") => Some(attributes(file)?.to_le_bytes().to_vec()),
        Some("attrib_be") => Some(attributes(file)?.to_be_bytes().to_vec()),
        Some("times") => Some(standard()?.times().map(u64::to_le_bytes).concat()),
        Some("times_be") => Some(standard()?.times().map(u64::to_be_bytes).concat()),
        Some("crtime") => Some(standard()?.created.to_le_bytes().to_vec()),
        Some("crtime_be") => Some(standard()?.created.to_be_bytes().to_vec()),
        Some("reparse_data") => reparse::load(volume, file)?,
        Some("ea") => value(kind::EA, ea::MAX_LEN)?,
        Some("object_id") => match value(kind::OBJECT_ID, FULL_OBJECT_ID)? {
            Some(id) => Some(object_id(volume, file, id)?),
            None => None,
        },
        Some("dos_name") => short_name(volume, file)?,
        _ => match name.strip_prefix(USER) {
            Some(name) => stream(volume, file, name)?,
            None => stream(volume, file, &[FOREIGN, name].concat())?,
        },
    })
}

fn stream(volume: &Volume, file: &File, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let is_it = |stream: &&Attribute| encode(stream.name.iter().copied()) == name;
    file.streams()?.find(is_it).map(|stream| volume.read_whole(file, stream, MAX_VALUE)).transpose()
}

/// The attributes as programs of Windows see them: whether it is a directory stands elsewhere.
fn attributes(file: &File) -> Result<u32> {
    let stored = Standard::of(file)?.attributes & !attribute::IS_DIR;
    let shown = if file.is_dir() { stored | attribute::IS_DIR } else { stored };
    Ok(if shown == 0 { attribute::NORMAL } else { shown })
}

/// An object identifier with the volume and object that it was made on and for, which the index of all of them adds.
fn object_id(volume: &Volume, file: &File, id: Vec<u8>) -> Result<Vec<u8>> {
    if crate::num::wide(id.len()) != GUID {
        return Ok(id);
    }
    let Some(index) = volume.child(mft::EXTEND, &"$ObjId".encode_utf16().collect::<Vec<u16>>())? else {
        return Ok(id);
    };
    // Windows sorts them as four numbers.
    let words = |bytes: &[u8]| [0, 4, 8, 12].map(|at| crate::ondisk::get_le32(bytes, at).unwrap_or(0));
    let entry = volume.view(&*volume.referred(index)?, "$O", &|key| words(key).cmp(&words(&id)))?;
    let entry = entry.unwrap_or_default();
    let is_of_it = get_le64(&entry, 0)
        .is_some_and(|reference| super::record::Reference(reference).number() == file.number);
    Ok(match entry.get(8..56) {
        Some(rest) if is_of_it => [&id, rest].concat(),
        _ => id,
    })
}

/// The name that DOS sees, in the directory of the file's first name.
fn short_name(volume: &Volume, file: &File) -> Result<Option<Vec<u8>>> {
    let Some(first) = file.names()?.next() else { return Ok(None) };
    let is_short = |namespace| matches!(namespace, namespace::DOS | namespace::BOTH);
    let short = file
        .names()?
        .filter(|name| is_short(name.namespace) && name.parent.number() == first.parent.number())
        .last();
    let upcase = volume.upcase();
    Ok(short.map(|name| encode(name.units.iter().take(MAX_SHORT).map(|unit| upcase.capital(*unit)))))
}
