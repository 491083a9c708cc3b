//! The ntfs crate: another reader of NTFS, by MFT record and index.
//!
//! Version 0.4 reads some files wrongly without a word: those that are compressed, packed by Windows or encrypted, data in
//! several records, and what lies behind the initialized length. Their attributes tell which they are, so that here the
//! crate is made to say that it cannot read them. A record that straddles two runs of the MFT it refuses by itself.

use super::{FileReader, Other, PATIENCE, Reader, Reads, Seen, Subject, theirs, volume, volumes_with};
use crate::block::BlockSource;
use crate::confined::Confined;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::ntfs::wtf8;
use crate::fs::{FileType, Time};
use crate::num::{narrow, wide};
use crate::stack::Stack;
use ntfs::structured_values::{NtfsAttributeList, NtfsFileAttributeFlags, NtfsFileNamespace};
use ntfs::{
    Ntfs, NtfsAttribute, NtfsAttributeFlags, NtfsAttributeType, NtfsFile, NtfsReadSeek as _, NtfsTime,
};
use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// The reader.
pub(super) const READER: Reader =
    Reader { name: "ntfs", about: "files of NTFS", reads: Reads::Files, subjects, open };

/// MFT record of the root directory.
const ROOT: u64 = 5;
/// Records before the first one of a file of the user's own.
const FIRST_USER: u64 = 24;
/// Where a header of an attribute in clusters has the initialized length.
const INITIALIZED: u64 = 0x38;
/// Tags of reparse points that are no files, and what they are; and that of a packed file (MS-FSCC 2.1.2.1).
const KINDS: &[(u32, FileType)] = &[
    (0xa000_0003, FileType::Symlink),
    (0xa000_000c, FileType::Symlink),
    (0xa000_001d, FileType::Symlink),
    (0x8000_0023, FileType::Socket),
    (0x8000_0024, FileType::Fifo),
    (0x8000_0025, FileType::Char),
    (0x8000_0026, FileType::Block),
];
const WOF: u32 = 0x8000_0017;
/// 100-nanosecond steps between 1601, where NTFS begins to count, and 1970.
const UNIX_EPOCH: i128 = 116_444_736_000_000_000;

fn subjects(stack: &Stack) -> Vec<String> {
    volumes_with(stack, |kind| kind == "ntfs")
}

/// The volume, as it wants to read it.
struct Volume {
    source: Arc<dyn BlockSource>,
    at: u64,
}

impl Read for Volume {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = wide(buf.len()).min(self.source.len().saturating_sub(self.at));
        let Some(part) = buf.get_mut(..narrow(len)) else { return Ok(0) };
        self.source.read_at(part, self.at).map_err(|error| io::Error::other(error.chain()))?;
        self.at = self.at.saturating_add(len);
        Ok(part.len())
    }
}

impl Seek for Volume {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.source.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

struct State {
    ntfs: Ntfs,
    volume: Volume,
    /// Record numbers of paths that a directory listing has shown.
    records: HashMap<Vec<u8>, u64>,
}

struct Files(Confined<State>);

fn open(subject: &Subject<'_>) -> Result<Other> {
    let mut volume = Volume { source: volume(subject)?, at: 0 };
    let reader = Confined::new("ntfs", move || {
        let ntfs = Ntfs::new(&mut volume).map_err(theirs)?;
        Ok(State { ntfs, volume, records: HashMap::from([(b"/".to_vec(), ROOT)]) })
    })?;
    Ok(Other::Files(Box::new(Files(reader))))
}

/// The file at a path whose directory has been listed.
fn file<'n>(
    ntfs: &'n Ntfs,
    volume: &mut Volume,
    records: &HashMap<Vec<u8>, u64>,
    path: &[u8],
) -> Result<NtfsFile<'n>> {
    let record = records.get(path).ok_or_else(|| Error::not_found("path"))?;
    ntfs.file(volume, *record).map_err(theirs)
}

fn unix_time(time: NtfsTime) -> Option<Time> {
    let steps = i128::from(time.nt_timestamp()).checked_sub(UNIX_EPOCH)?;
    let nanos = steps.checked_mul(100)?;
    let secs = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    Some(Time { secs, nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()? })
}

/// What the crate would get wrong.
fn cannot(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, what)
}

/// Does an attribute of that type and name lie in several records? The crate takes the parts for attributes of their own.
fn is_split(file: &NtfsFile<'_>, volume: &mut Volume, kind: NtfsAttributeType, name: &str) -> Result<bool> {
    for attribute in file.attributes_raw() {
        let attribute = attribute.map_err(theirs)?;
        if !matches!(attribute.ty(), Ok(NtfsAttributeType::AttributeList)) {
            continue;
        }
        let list = attribute.structured_value::<_, NtfsAttributeList<'_, '_>>(volume).map_err(theirs)?;
        let mut entries = list.entries();
        let mut parts = 0_usize;
        while let Some(entry) = entries.next(volume) {
            let entry = entry.map_err(theirs)?;
            let is_it = entry.ty().is_ok_and(|ty| ty == kind) && entry.name().to_string_lossy() == name;
            parts = parts.saturating_add(usize::from(is_it));
        }
        return Ok(parts > 1);
    }
    Ok(false)
}

/// The tag of a file's reparse point.
fn reparse_tag(file: &NtfsFile<'_>, volume: &mut Volume) -> Result<Option<u32>> {
    let mut attributes = file.attributes();
    while let Some(item) = attributes.next(volume) {
        let item = item.map_err(theirs)?;
        let attribute = item.to_attribute().map_err(theirs)?;
        if matches!(attribute.ty(), Ok(NtfsAttributeType::ReparsePoint)) {
            let mut tag = [0; 4];
            attribute.value(volume).map_err(theirs)?.read_exact(volume, &mut tag).map_err(theirs)?;
            return Ok(Some(u32::from_le_bytes(tag)));
        }
    }
    Ok(None)
}

/// Why the crate would give other bytes than the file has, from so many bytes on.
fn fault(
    file: &NtfsFile<'_>,
    data: &NtfsAttribute<'_, '_>,
    volume: &mut Volume,
) -> Result<Option<(u64, &'static str)>> {
    if reparse_tag(file, volume)? == Some(WOF) {
        return Ok(Some((0, "the file is packed (WOF), which it does not know of")));
    }
    if data.is_resident() {
        return Ok(None);
    }
    if data.flags().contains(NtfsAttributeFlags::COMPRESSED) {
        return Ok(Some((0, "the file is compressed (LZNT1), which it does not unpack")));
    }
    if data.flags().contains(NtfsAttributeFlags::ENCRYPTED) {
        return Ok(Some((0, "the file is encrypted (EFS), which it does not say")));
    }
    // At the end of a sector two bytes stand elsewhere in the record: those of lengths above 2^48.
    let place = data.position().value().map(std::num::NonZeroU64::get);
    let mut initialized = [0; 8];
    if let Some(place) = place.and_then(|place| place.checked_add(INITIALIZED)) {
        volume.source.read_at(&mut initialized[..6], place)?;
        let initialized = u64::from_le_bytes(initialized);
        if initialized < data.value_length() {
            return Ok(Some((
                initialized,
                "it does not know that a file reads as zeros behind its initialized length",
            )));
        }
    }
    Ok(None)
}

/// What a file without a reparse point but with the system attribute is to Interix, by its size and first bytes.
fn interix(data: &[u8], size: u64, is_hidden: bool) -> FileType {
    match (size, data) {
        (0, _) if !is_hidden => FileType::Fifo,
        (1, _) if !is_hidden => FileType::Socket,
        (_, [b'I', b'n', b't', b'x', b'L', b'N', b'K', 1, ..]) => FileType::Symlink,
        (24, [b'I', b'n', b't', b'x', b'C', b'H', b'R', 0, ..]) => FileType::Char,
        (24, [b'I', b'n', b't', b'x', b'B', b'L', b'K', 0, ..]) => FileType::Block,
        _ => FileType::File,
    }
}

/// What a file is, as we show it.
fn kind(file: &NtfsFile<'_>, attributes: NtfsFileAttributeFlags, volume: &mut Volume) -> Result<FileType> {
    if attributes.contains(NtfsFileAttributeFlags::REPARSE_POINT) {
        let tag = reparse_tag(file, volume)?;
        if let Some((_, kind)) = KINDS.iter().find(|(known, _)| Some(*known) == tag) {
            return Ok(*kind);
        }
    }
    if file.is_directory() {
        return Ok(FileType::Dir);
    }
    if attributes.contains(NtfsFileAttributeFlags::SYSTEM)
        && let Some(item) = file.data(volume, "")
    {
        let item = item.map_err(theirs)?;
        let data = item.to_attribute().map_err(theirs)?;
        let mut start = [0; 8];
        let mut value = data.value(volume).map_err(theirs)?;
        let read = value.read(volume, &mut start).map_err(theirs)?;
        let is_hidden = attributes.contains(NtfsFileAttributeFlags::HIDDEN);
        return Ok(interix(start.get(..read).unwrap_or_default(), data.value_length(), is_hidden));
    }
    Ok(FileType::File)
}

impl FileReader for Files {
    fn look(&self, path: &[u8]) -> Result<Seen> {
        let path = path.to_vec();
        self.0.run_within(PATIENCE, move |state| {
            let State { ntfs, volume, records } = state;
            let file = file(ntfs, volume, records, &path)?;
            if is_split(&file, volume, NtfsAttributeType::Data, "")? {
                return Err(cannot("the file's data are told in several records, which it does not join"));
            }
            let info = file.info().map_err(theirs)?;
            let kind = kind(&file, info.file_attributes(), volume)?;
            let size = match file.data(volume, "") {
                Some(item) if kind == FileType::File => {
                    Some(item.and_then(|item| Ok(item.to_attribute()?.value_length())).map_err(theirs)?)
                }
                _ => None,
            };
            Ok(Seen {
                kind,
                size,
                mode: None,
                owner: None,
                mtime: unix_time(info.modification_time()),
                target: None,
            })
        })
    }

    fn names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>> {
        let dir = dir.to_vec();
        self.0.run_within(PATIENCE, move |state| {
            let State { ntfs, volume, records } = state;
            let file = file(ntfs, volume, records, &dir)?;
            if is_split(&file, volume, NtfsAttributeType::IndexAllocation, "$I30")? {
                return Err(cannot(
                    "the directory's index is told in several records, which it does not join",
                ));
            }
            let index = file.directory_index(volume).map_err(theirs)?;
            let mut entries = index.entries();
            let mut names = Vec::new();
            let mut found = Vec::new();
            while let Some(entry) = entries.next(volume) {
                let entry = entry.map_err(theirs)?;
                let Some(key) = entry.key() else { continue };
                let key = key.map_err(theirs)?;
                let record = entry.file_reference().file_record_number();
                let name = wtf8(key.name().0.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)));
                // The short name of a file that has a long one, the root itself, and the metadata files.
                let is_meta = record < FIRST_USER && name.starts_with(b"$");
                if key.namespace() == NtfsFileNamespace::Dos || name == b"." || is_meta {
                    continue;
                }
                let mut path = dir.clone();
                if !path.ends_with(b"/") {
                    path.push(b'/');
                }
                path.extend_from_slice(&name);
                found.push((path, record));
                names.push(name);
            }
            records.extend(found);
            Ok(names)
        })
    }

    fn read(&self, path: &[u8], offset: u64, len: usize) -> Result<Vec<u8>> {
        let path = path.to_vec();
        self.0.run_within(PATIENCE, move |state| {
            let State { ntfs, volume, records } = state;
            let file = file(ntfs, volume, records, &path)?;
            let Some(item) = file.data(volume, "") else { return Ok(Vec::new()) };
            let item = item.map_err(theirs)?;
            let attribute = item.to_attribute().map_err(theirs)?;
            if let Some((from, why)) = fault(&file, &attribute, volume)?
                && offset.saturating_add(wide(len)) > from
            {
                return Err(cannot(why));
            }
            let mut value = attribute.value(volume).map_err(theirs)?;
            value.seek(volume, SeekFrom::Start(offset)).map_err(theirs)?;
            let mut bytes = vec![0; len];
            let mut done = 0_usize;
            while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
                match value.read(volume, rest).map_err(theirs)? {
                    0 => break,
                    read => done = done.saturating_add(read),
                }
            }
            bytes.truncate(done);
            Ok(bytes)
        })
    }
}
