//! The ntfs crate: another reader of NTFS, by MFT record and index. Names are shown in UTF-8.

use super::{FileReader, Other, PATIENCE, Reader, Reads, Seen, Subject, theirs, volume, volumes_with};
use crate::block::BlockSource;
use crate::confined::Confined;
use crate::error::{Error, Result};
use crate::fs::{FileType, Time};
use crate::num::{narrow, wide};
use crate::stack::Stack;
use ntfs::structured_values::NtfsFileNamespace;
use ntfs::{Ntfs, NtfsFile, NtfsReadSeek as _, NtfsTime};
use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// The reader.
pub(super) const READER: Reader =
    Reader { name: "ntfs", about: "files of NTFS", reads: Reads::Files, subjects, open };

/// MFT record of the root directory.
const ROOT: u64 = 5;
/// Its attribute flag for a reparse point: a link or junction, whose target it does not tell.
const REPARSE_POINT: u32 = 0x400;
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

impl FileReader for Files {
    fn look(&self, path: &[u8]) -> Result<Seen> {
        let path = path.to_vec();
        self.0.run_within(PATIENCE, move |state| {
            let State { ntfs, volume, records } = state;
            let file = file(ntfs, volume, records, &path)?;
            let info = file.info().map_err(theirs)?;
            let kind = match (file.is_directory(), info.file_attributes().bits() & REPARSE_POINT != 0) {
                (_, true) => FileType::Symlink,
                (true, _) => FileType::Dir,
                _ => FileType::File,
            };
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
            let index = file.directory_index(volume).map_err(theirs)?;
            let mut entries = index.entries();
            let mut names = Vec::new();
            let mut found = Vec::new();
            while let Some(entry) = entries.next(volume) {
                let entry = entry.map_err(theirs)?;
                let Some(key) = entry.key() else { continue };
                let key = key.map_err(theirs)?;
                let record = entry.file_reference().file_record_number();
                let name = key.name().to_string_lossy().into_bytes();
                // The short name of a file that has a long one, the root itself, and the metadata files.
                if key.namespace() == NtfsFileNamespace::Dos || name == b"." || record < 16 {
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
