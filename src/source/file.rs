//! A file or block device of this host: opened read-only, read with `pread`, never mapped, watched for change.

use super::gate::Given;
use super::{Scheme, SourceCx};
use crate::block::{BlockSource, Extent, check_range};
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::num::wide;
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Paths.
pub const SCHEME: Scheme = Scheme { names: &["file"], siblings: false, open };

fn open(given: &Given, _cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    let file = given.open_file()?;
    Ok(Arc::new(FileSource::new(file, given.locator.to_string())?))
}

/// Opens a path for [`FileSource`]: read-only, and without waiting on a FIFO or gaining a terminal.
///
/// # Errors
/// `Source` with the reason.
pub fn open_path(path: &Path, label: &str) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
        let error = Error::new(ErrorKind::Source, std::io::Error::from(errno).to_string()).context(label);
        match errno {
            rustix::io::Errno::NOENT => Error::new(ErrorKind::Source, format!("{label}: no such file")),
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => {
                error.help("the file must be readable by the user who runs imgmount")
            }
            _ => error,
        }
    })?;
    Ok(File::from(fd))
}

/// What must stay the same for the bytes to stay the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// An open file.
pub struct FileSource {
    file: File,
    label: String,
    len: u64,
    blocks: u64,
    /// `None` for a block device: its node's times say nothing about its content.
    identity: Option<Identity>,
    changed: AtomicBool,
    found: Found,
}

/// The run of data, or the hole, that was found last. A file system may look through all of a run to tell where it ends,
/// as tmpfs does; whoever asks cluster by cluster would have it do so each time.
#[derive(Debug, Default)]
pub(super) struct Found(Mutex<(Range<u64>, bool)>);

impl Found {
    /// Where the run that `offset` is in ends, and whether it is a hole.
    pub(super) fn at(&self, offset: u64) -> Option<(u64, bool)> {
        let (run, hole) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        run.contains(&offset).then_some((run.end, *hole))
    }

    pub(super) fn note(&self, run: Range<u64>, hole: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (run, hole);
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSource({})", self.label)
    }
}

fn identity(stat: &rustix::fs::Stat) -> Identity {
    Identity {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
    }
}

impl FileSource {
    /// Takes an open file. `label` is shown to people.
    ///
    /// # Errors
    /// `NotAnImage` for a directory, a socket, a terminal; `Source` when it cannot be examined.
    pub fn new(file: File, label: String) -> Result<Self> {
        let failed = |errno: rustix::io::Errno| Error::new(ErrorKind::Source, label.clone()).caused_by(errno);
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        let refuse =
            |what: &str| Err(Error::new(ErrorKind::NotAnImage, format!("{label}: {what}, not a disk image")));
        let (len, identity) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => (u64::try_from(stat.st_size).unwrap_or(0), Some(identity(&stat))),
            FileType::BlockDevice => (rustix::fs::seek(&file, SeekFrom::End(0)).map_err(failed)?, None),
            FileType::Directory => return refuse("is a directory"),
            FileType::Fifo => return refuse("is a FIFO"),
            FileType::Socket => return refuse("is a socket"),
            FileType::CharacterDevice => return refuse("is a character device"),
            _ => return refuse("is a special file"),
        };
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        Ok(Self {
            file,
            label,
            len,
            blocks,
            identity,
            changed: AtomicBool::new(false),
            found: Found::default(),
        })
    }

    /// What it was when it was opened; `None` for a block device.
    pub(super) const fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Is it still the file we opened? Asked after every read: a byte is handed out only if the answer is yes.
    fn check_unchanged(&self) -> Result<()> {
        let Some(before) = self.identity else { return Ok(()) };
        if !self.changed.load(Ordering::Relaxed) {
            match rustix::fs::fstat(&self.file) {
                Ok(stat) if identity(&stat) == before => return Ok(()),
                _ => self.changed.store(true, Ordering::Relaxed),
            }
        }
        COUNTERS.errors.add(1);
        let error =
            Error::new(ErrorKind::Changed, format!("{}: the file changed while it was open", self.label));
        Err(error.help("copy the image, or wait until nothing writes to it, and open it again"))
    }
}

impl BlockSource for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        COUNTERS.source_reads.add(1);
        let read = self.file.read_exact_at(buf, offset);
        self.check_unchanged()?;
        read.map_err(|error| {
            COUNTERS.errors.add(1);
            Error::io(format!("{}: reading {} bytes at {offset:#x}", self.label, buf.len()), error)
        })?;
        COUNTERS.source_bytes.add(wide(buf.len()));
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        check_range(offset, 1, self.len)?;
        let until = |end: u64, zero| Extent {
            len: end.min(self.len).saturating_sub(offset).max(1),
            zero,
            hole: zero,
        };
        if self.identity.is_none() {
            return Ok(until(self.len, false));
        }
        let (end, hole) = self.found.at(offset).unwrap_or_else(|| {
            let found = match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
                Ok(data) if data > offset => (data, true),
                Ok(_) => (rustix::fs::seek(&self.file, SeekFrom::Hole(offset)).unwrap_or(self.len), false),
                Err(rustix::io::Errno::NXIO) => (self.len, true),
                Err(_) => (self.len, false),
            };
            self.found.note(offset..found.0, found.1);
            found
        });
        // Asked afterwards: a file that was cut short in between would answer "hole".
        self.check_unchanged()?;
        Ok(until(end, hole))
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn stored_size(&self) -> u64 {
        if self.identity.is_some() { self.blocks.saturating_mul(512) } else { self.len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn source(content: &[u8]) -> (tempfile::NamedTempFile, FileSource) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let opened = open_path(file.path(), "x").unwrap();
        (file, FileSource::new(opened, "x".to_owned()).unwrap())
    }

    #[test]
    fn what_was_found_last_changes_no_answer() {
        let (mut file, source) = source(b"");
        for at in [1_u64 << 20, 3 << 20] {
            file.as_file().write_all_at(&[1; 65536], at).unwrap();
        }
        file.as_file().set_len(5 << 20).unwrap();
        file.flush().unwrap();
        let opened = || FileSource::new(open_path(file.path(), "x").unwrap(), "x".to_owned()).unwrap();
        drop(source);
        let asked_often = opened();
        let forth = (0..80).map(|n: u64| n * 65536 + 7);
        for offset in forth.clone().chain(forth.rev()) {
            assert_eq!(asked_often.extent(offset).unwrap(), opened().extent(offset).unwrap(), "at {offset}");
        }
    }

    #[test]
    fn a_read_past_the_end_is_an_error_and_not_a_short_read() {
        let (_file, source) = source(b"0123456789");
        assert_eq!(source.read_at(&mut [0; 4], 8).unwrap_err().kind(), ErrorKind::OutOfRange);
    }

    #[test]
    fn a_truncated_file_is_changed_for_ever() {
        let (file, source) = source(&[7; 8192]);
        file.as_file().set_len(100).unwrap();
        assert_eq!(source.read_at(&mut [0; 10], 0).unwrap_err().kind(), ErrorKind::Changed);
        file.as_file().set_len(8192).unwrap();
        assert_eq!(source.read_at(&mut [0; 10], 0).unwrap_err().kind(), ErrorKind::Changed);
    }

    #[test]
    fn a_directory_is_named_as_one() {
        let opened = open_path(Path::new("/"), "/").unwrap();
        let error = FileSource::new(opened, "/".to_owned()).unwrap_err();
        assert_eq!(error.to_string(), "/: is a directory, not a disk image");
    }

    #[test]
    fn holes_are_found_without_reading() {
        let (file, source) = source(b"");
        file.as_file().set_len(1 << 20).unwrap();
        drop(source);
        let source = FileSource::new(open_path(file.path(), "x").unwrap(), "x".to_owned()).unwrap();
        assert_eq!(source.extent(0).unwrap(), Extent { len: 1 << 20, zero: true, hole: true });
    }
}
