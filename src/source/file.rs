//! A file or block device of this host: opened read-only, read with `pread`, never mapped, watched for change.

use super::gate::Given;
use super::{Scheme, SourceCx};
use crate::block::{BlockSource, Extent, check_range};
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::num::wide;
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
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

/// What else the file system notes of a file. The time of the last change of any kind cannot be set by anybody: whoever
/// writes and puts the time of the last write back is found out by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    changed: (i64, i64),
    mode: u32,
    user: u32,
    group: u32,
    /// Of any width that a machine has it in.
    links: i128,
}

/// An open file.
pub struct FileSource {
    file: File,
    label: String,
    len: u64,
    blocks: u64,
    /// `None` for a block device: its node's times say nothing about its content.
    identity: Option<Identity>,
    /// With its name.
    inode: Mutex<(Inode, Option<PathBuf>)>,
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

fn inode(stat: &rustix::fs::Stat) -> Inode {
    Inode {
        changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        mode: stat.st_mode,
        user: stat.st_uid,
        group: stat.st_gid,
        links: stat.st_nlink.into(),
    }
}

/// The name that an open file has now.
fn name(file: &File) -> Option<PathBuf> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let name = rustix::fs::readlinkat(rustix::fs::CWD, path, Vec::new()).ok()?;
    Some(PathBuf::from(OsString::from_vec(name.into_bytes())))
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
            inode: Mutex::new((inode(&stat), name(&file))),
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

    /// Has nothing been done to the file, or something that shows and leaves its bytes alone: another name, link, owner, mode?
    fn is_explained(&self, stat: &rustix::fs::Stat) -> bool {
        let now = inode(stat);
        let mut known = self.inode.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0.changed == now.changed {
            return true;
        }
        let changed = known.0.changed;
        let has_other_attributes = Inode { changed, ..now } != known.0;
        let name = name(&self.file);
        let is_explained = has_other_attributes || name != known.1;
        if is_explained {
            *known = (now, name);
        }
        is_explained
    }

    /// Is it still the file we opened? Asked after every read: a byte is handed out only if the answer is yes.
    fn check_unchanged(&self) -> Result<()> {
        let Some(before) = self.identity else { return Ok(()) };
        if !self.changed.load(Ordering::Relaxed) {
            match rustix::fs::fstat(&self.file) {
                Ok(stat) if identity(&stat) == before && self.is_explained(&stat) => return Ok(()),
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

    /// Times of files go by the kernel's tick.
    fn tick() {
        std::thread::sleep(std::time::Duration::from_millis(30));
    }

    #[test]
    fn a_write_is_found_out_though_its_time_is_put_back() {
        let (file, source) = source(&[7; 8192]);
        let modified = file.as_file().metadata().unwrap().modified().unwrap();
        source.read_at(&mut [0; 10], 0).unwrap();
        tick();
        file.as_file().write_all_at(&[8; 10], 4096).unwrap();
        file.as_file().set_modified(modified).unwrap();
        assert_eq!(file.as_file().metadata().unwrap().modified().unwrap(), modified);
        assert_eq!(source.read_at(&mut [0; 10], 0).unwrap_err().kind(), ErrorKind::Changed);
    }

    #[test]
    fn another_name_link_or_mode_is_no_change_of_its_bytes() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a"), [7; 8192]).unwrap();
        let source = FileSource::new(open_path(&at("a"), "x").unwrap(), "x".to_owned()).unwrap();
        let reads = || source.read_at(&mut [0; 10], 0).is_ok();
        tick();
        std::fs::rename(at("a"), at("b")).unwrap();
        assert!(reads());
        tick();
        std::fs::hard_link(at("b"), at("c")).unwrap();
        assert!(reads());
        tick();
        std::fs::set_permissions(at("b"), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(reads());
        tick();
        std::fs::remove_file(at("b")).unwrap();
        assert!(reads());
        tick();
        std::fs::write(at("c"), [7; 8192]).unwrap();
        assert!(!reads());
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
