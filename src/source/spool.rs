//! A spool: a stream that comes only from its beginning to its end, poured into a temporary file so that it can be read at
//! any offset, already while it arrives.
//!
//! ```text
//! stream ──▶ [one thread] ──▶ ██████████ file without a name ░░░░░░░░░ ── readers
//!                             0        filled                len
//!                             read at once     wait until it is filled, or hear why it never will be
//! ```
//! The file has no name from the start (`O_TMPFILE`), so nothing is left behind however we end. Blocks of zeros are not
//! written: an unpacked disk takes the room of its data. The last bytes are handed out only after the stream has said
//! that it ended well, because that is when it checks its sums.

use super::file::Found;
use crate::block::{BlockSource, Extent, check_range};
use crate::error::{Error, ErrorKind, Result};
use crate::locator::Spooler;
use crate::num::wide;
use rustix::fs::{Mode, OFlags, SeekFrom};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is poured at a time; a reader waits for at most this much more than it needs.
const CHUNK: usize = 256 << 10;
/// Zeros in whole blocks of this size are left out: what file systems allocate by.
const BLOCK: usize = 4096;
/// After so many bytes written the room left is looked at again.
const LOOK: u64 = 16 << 20;
/// Room left to others: this much, or a twentieth of the file system where that is less.
const RESERVE: u64 = 1 << 30;

/// A directory for spools, open, and how much they may take in it.
#[derive(Debug)]
pub struct SpoolDir {
    dir: OwnedFd,
    shown: String,
    most: u64,
    /// Written by all spools of this directory, holes not counted.
    written: Arc<AtomicU64>,
}

fn shown(path: &Path) -> String {
    crate::text::escape(path.as_os_str().as_bytes()).to_string()
}

impl SpoolDir {
    /// Opens `path`; its spools write at most `most` bytes together (`u64::MAX` leaves it at the room there is).
    ///
    /// # Errors
    /// `Host` when it cannot be opened.
    pub fn open(path: &Path, most: u64) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            Error::new(ErrorKind::Host, format!("the spool directory {}", shown(path)))
                .caused_by(std::io::Error::from(errno))
        })?;
        Ok(Self::new(dir, path, most))
    }

    /// The same, of a directory that is open already.
    #[must_use]
    pub fn new(dir: OwnedFd, path: &Path, most: u64) -> Self {
        Self { dir, shown: shown(path), most, written: Arc::default() }
    }

    /// A file of ours alone, without a name.
    fn file(&self) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let made = rustix::fs::openat(self.dir.as_fd(), ".", flags | OFlags::TMPFILE, mode).or_else(|_| {
            // Not every file system has files without names: then one that loses its name at once.
            static COUNT: AtomicU64 = AtomicU64::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!(".imgmount-spool-{}-{number}", std::process::id());
            let new = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let fd = rustix::fs::openat(self.dir.as_fd(), OsStr::new(&name), new, mode)?;
            rustix::fs::unlinkat(self.dir.as_fd(), OsStr::new(&name), rustix::fs::AtFlags::empty())?;
            Ok(fd)
        });
        made.map(File::from).map_err(|errno: rustix::io::Errno| {
            Error::new(ErrorKind::Host, format!("{}: no temporary file can be made", self.shown))
                .caused_by(std::io::Error::from(errno))
                .help("name another directory: --spool=DIR")
        })
    }
}

impl Spooler for SpoolDir {
    fn pour(
        &self,
        label: &str,
        len: Option<u64>,
        stream: Box<dyn Read + Send>,
    ) -> Result<Arc<dyn BlockSource>> {
        let file = self.file()?;
        if let Some(len) = len {
            file.set_len(len).map_err(|error| full(&self.shown, error))?;
        }
        let shared = Arc::new(Shared {
            file,
            label: label.to_owned(),
            dir: self.shown.clone(),
            most: self.most,
            written: Arc::clone(&self.written),
            taken: AtomicU64::new(0),
            filled: AtomicU64::new(0),
            dropped: AtomicBool::new(false),
            end: Mutex::new(None),
            bell: Condvar::new(),
        });
        let pouring = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("spool".to_owned());
        let spawned = thread.spawn(move || pouring.run(stream, len));
        spawned.map_err(|error| Error::new(ErrorKind::Host, "no thread for the spool").caused_by(error))?;
        let mut spool = Spool { shared, len: 0, found: Found::default() };
        spool.len = match len {
            Some(len) => len,
            None => spool.shared.wait_for_the_end()?,
        };
        Ok(Arc::new(spool))
    }
}

/// A stream that can be read at any offset. See the module's picture.
pub struct Spool {
    shared: Arc<Shared>,
    len: u64,
    found: Found,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spool({}, {} bytes)", self.shared.label, self.len)
    }
}

/// What the pouring thread and the readers share.
struct Shared {
    file: File,
    label: String,
    dir: String,
    most: u64,
    /// By all spools of the directory.
    written: Arc<AtomicU64>,
    /// By this one.
    taken: AtomicU64,
    /// Bytes from the start that can be read.
    filled: AtomicU64,
    /// Nobody reads any more.
    dropped: AtomicBool,
    /// How it ended: with so many bytes, or why.
    end: Mutex<Option<Result<u64>>>,
    bell: Condvar,
}

/// An error of the host's own file.
fn full(dir: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Host, format!("{dir}: writing the spool"))
        .caused_by(error)
        .help("name a directory with more room: --spool=DIR")
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Result<u64>>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pouring thread.
    fn run(&self, stream: Box<dyn Read + Send>, len: Option<u64>) {
        let poured = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.pour(stream, len)));
        let end = poured.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, format!("{}: the thread that unpacks it failed", self.label)))
        });
        if let Ok(total) = &end {
            self.filled.store(*total, Ordering::Release);
        }
        *self.lock() = Some(end);
        self.bell.notify_all();
    }

    /// Everything up to the stream's end; the number of bytes.
    fn pour(&self, mut stream: Box<dyn Read + Send>, len: Option<u64>) -> Result<u64> {
        let mut chunk = vec![0; CHUNK];
        let (mut at, mut looked) = (0_u64, 0_u64);
        let stop = || Error::new(ErrorKind::Io, format!("{}: is no longer needed", self.label));
        self.room()?;
        loop {
            if self.dropped.load(Ordering::Relaxed) {
                return Err(stop());
            }
            let got = fill(&mut *stream, &mut chunk).map_err(|error| {
                Error::of_reader(format!("{}: reading it from start to end", self.label), error)
            })?;
            let bytes = chunk.get(..got).unwrap_or_default();
            let next = at.saturating_add(wide(got));
            if len.is_some_and(|len| next > len) {
                let len = len.unwrap_or_default();
                let message = format!("{}: goes on after the {len} bytes it announced", self.label);
                return Err(Error::new(ErrorKind::Io, message));
            }
            self.write(bytes, at)?;
            at = next;
            if got < CHUNK {
                break;
            }
            // The chunk that may be the last is handed out only when the stream has ended well.
            if len != Some(at) {
                let guard = self.lock();
                self.filled.store(at, Ordering::Release);
                drop(guard);
                self.bell.notify_all();
            }
            let taken = self.taken.load(Ordering::Relaxed);
            if taken.saturating_sub(looked) >= LOOK {
                looked = taken;
                self.room()?;
            }
        }
        match len {
            Some(len) if at < len => {
                let message = format!("{}: ends after {at} of the {len} bytes it announced", self.label);
                return Err(Error::new(ErrorKind::Io, message));
            }
            Some(_) => {}
            None => self.file.set_len(at).map_err(|error| full(&self.dir, error))?,
        }
        Ok(at)
    }

    /// Writes what is not zero.
    fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        let mut at = at;
        for run in stretches(bytes) {
            if let Some(data) = run.data {
                self.file.write_all_at(data, at).map_err(|error| full(&self.dir, error))?;
                self.taken.fetch_add(wide(run.len), Ordering::Relaxed);
                let all = self.written.fetch_add(wide(run.len), Ordering::Relaxed);
                if all.saturating_add(wide(run.len)) > self.most {
                    let message = format!("the spool would take more than its {} bytes", self.most);
                    return Err(Error::limit(message));
                }
            }
            at = at.saturating_add(wide(run.len));
        }
        Ok(())
    }

    /// Is there room for more, with some left to others?
    fn room(&self) -> Result<()> {
        let Ok(stat) = rustix::fs::fstatvfs(&self.file) else { return Ok(()) };
        let unit = stat.f_frsize.max(1);
        let (free, size) = (stat.f_bavail.saturating_mul(unit), stat.f_blocks.saturating_mul(unit));
        let reserve = RESERVE.min(size / 20);
        if free > reserve.saturating_add(LOOK) {
            return Ok(());
        }
        let message =
            format!("{}: the spool filled it: {free} bytes are free, {reserve} are left to others", self.dir);
        Err(Error::new(ErrorKind::Host, message).help("name a directory with more room: --spool=DIR"))
    }

    /// The number of bytes, once the stream has ended.
    fn wait_for_the_end(&self) -> Result<u64> {
        let mut end = self.lock();
        loop {
            if let Some(end) = end.as_ref() {
                return end.clone();
            }
            end = self.bell.wait(end).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns when everything before `to` can be read.
    fn wait_for(&self, to: u64) -> Result<()> {
        if self.filled.load(Ordering::Acquire) >= to {
            return Ok(());
        }
        let mut end = self.lock();
        while self.filled.load(Ordering::Acquire) < to {
            if let Some(Err(why)) = end.as_ref() {
                return Err(why.clone());
            }
            end = self.bell.wait(end).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// As much of `chunk` as there is before the stream ends.
fn fill(stream: &mut dyn Read, chunk: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0_usize;
    while let Some(rest) = chunk.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(got) => filled = filled.saturating_add(got),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A stretch of a chunk: bytes to write, or blocks of zeros.
struct Stretch<'a> {
    len: usize,
    data: Option<&'a [u8]>,
}

/// Neighbouring blocks of one nature together.
fn stretches(bytes: &[u8]) -> impl Iterator<Item = Stretch<'_>> {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let is_zero = |block: &[u8]| ZEROS.get(..block.len()) == Some(block);
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let first = is_zero(rest.chunks(BLOCK).next()?);
        let len = rest.chunks(BLOCK).take_while(|block| is_zero(block) == first).map(<[u8]>::len).sum();
        let (now, later) = rest.split_at_checked(len)?;
        rest = later;
        Some(Stretch { len, data: (!first).then_some(now) })
    })
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.dropped.store(true, Ordering::Relaxed);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.written.fetch_sub(*self.taken.get_mut(), Ordering::Relaxed);
    }
}

impl BlockSource for Spool {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        self.shared.wait_for(offset.saturating_add(wide(buf.len())))?;
        let read = self.shared.file.read_exact_at(buf, offset);
        read.map_err(|error| Error::io(format!("{}: reading its spool", self.shared.label), error))
    }

    /// Holes of the part that is there; what has not arrived is called data.
    fn extent(&self, offset: u64) -> Result<Extent> {
        check_range(offset, 1, self.len)?;
        let filled = self.shared.filled.load(Ordering::Acquire);
        let until = |end: u64, zero| Extent { len: end.saturating_sub(offset).max(1), zero, hole: zero };
        if offset >= filled {
            return Ok(until(self.len, false));
        }
        if let Some((end, hole)) = self.found.at(offset) {
            return Ok(until(end, hole));
        }
        Ok(match rustix::fs::seek(&self.shared.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => until(data.min(filled), true),
            Ok(_) => {
                let hole = rustix::fs::seek(&self.shared.file, SeekFrom::Hole(offset)).unwrap_or(self.len);
                if hole < filled {
                    // What has arrived stays as it is.
                    self.found.note(offset..hole, false);
                }
                until(if hole >= filled { self.len } else { hole }, false)
            }
            Err(rustix::io::Errno::NXIO) => until(filled, true),
            Err(_) => until(self.len, false),
        })
    }

    fn label(&self) -> String {
        self.shared.label.clone()
    }

    fn preferred_size(&self) -> u32 {
        64 << 10
    }

    fn stored_size(&self) -> u64 {
        rustix::fs::fstat(&self.shared.file)
            .ok()
            .and_then(|stat| u64::try_from(stat.st_blocks).ok())
            .map_or(self.len, |blocks| blocks.saturating_mul(512))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn dir(most: u64) -> SpoolDir {
        SpoolDir::open(&std::env::temp_dir(), most).unwrap()
    }

    /// A stream that gives what it is told through a channel, and ends with it.
    struct Told(mpsc::Receiver<std::io::Result<Vec<u8>>>, Vec<u8>);

    impl Read for Told {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            if self.1.is_empty() {
                match self.0.recv() {
                    Ok(bytes) => self.1 = bytes?,
                    Err(_) => return Ok(0),
                }
            }
            let len = self.1.len().min(buf.len());
            buf[..len].copy_from_slice(&self.1[..len]);
            self.1.drain(..len);
            Ok(len)
        }
    }

    fn told() -> (mpsc::Sender<std::io::Result<Vec<u8>>>, Box<Told>) {
        let (tell, told) = mpsc::channel();
        (tell, Box::new(Told(told, Vec::new())))
    }

    fn read(spool: &dyn BlockSource, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0xee; len];
        spool.read_at(&mut buf, offset).map(|()| buf)
    }

    #[test]
    fn what_has_arrived_is_read_while_the_rest_is_waited_for() {
        let (tell, stream) = told();
        let spool = dir(u64::MAX).pour("x", Some(1 << 20), stream).unwrap();
        tell.send(Ok(vec![7; CHUNK])).unwrap();
        assert_eq!(read(&*spool, 5, 3).unwrap(), [7; 3]);
        std::thread::scope(|scope| {
            let late = scope.spawn(|| read(&*spool, (1 << 20) - 2, 2));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!late.is_finished());
            tell.send(Ok(vec![9; (1 << 20) - CHUNK])).unwrap();
            drop(tell);
            assert_eq!(late.join().unwrap().unwrap(), [9; 2]);
        });
    }

    #[test]
    fn an_error_is_told_to_everyone_behind_it_and_to_nobody_before() {
        let (tell, stream) = told();
        let spool = dir(u64::MAX).pour("x", Some(1 << 20), stream).unwrap();
        tell.send(Ok(vec![7; CHUNK])).unwrap();
        tell.send(Err(Error::new(ErrorKind::Corrupt, "wrong sum").into_io())).unwrap();
        for _ in 0..2 {
            let error = read(&*spool, 1 << 19, 1).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Corrupt, "wrong sum"));
        }
        assert_eq!(read(&*spool, 0, 1).unwrap(), [7]);
    }

    #[test]
    fn the_last_bytes_wait_for_a_good_end() {
        let (tell, stream) = told();
        let len = wide(2 * CHUNK);
        let spool = dir(u64::MAX).pour("x", Some(len), stream).unwrap();
        tell.send(Ok(vec![7; 2 * CHUNK])).unwrap();
        tell.send(Err(Error::new(ErrorKind::Corrupt, "wrong sum").into_io())).unwrap();
        assert_eq!(read(&*spool, 0, CHUNK).unwrap(), vec![7; CHUNK]);
        assert_eq!(read(&*spool, len - 1, 1).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_stream_that_is_shorter_or_longer_than_announced_is_an_error() {
        for len in [99, 101] {
            let spool = dir(u64::MAX).pour("x", Some(len), Box::new(&[1; 100][..])).unwrap();
            assert_eq!(read(&*spool, 98, 1).unwrap_err().kind(), ErrorKind::Io, "{len}");
        }
    }

    #[test]
    fn without_a_length_it_is_known_at_the_end() {
        let spool = dir(u64::MAX).pour("x", None, Box::new(&[3; 300_000][..])).unwrap();
        assert_eq!((spool.len(), read(&*spool, 299_999, 1).unwrap()), (300_000, vec![3]));
    }

    #[test]
    fn zeros_take_no_room() {
        let mut bytes = vec![0; 40 << 20];
        bytes[20 << 20] = 1;
        let spool = dir(8192).pour("x", None, Box::new(std::io::Cursor::new(bytes.clone()))).unwrap();
        assert!(spool.stored_size() < 1 << 20, "{}", spool.stored_size());
        assert!(read(&*spool, 0, 40 << 20).unwrap() == bytes);
        assert!(spool.extent(0).unwrap().zero && !spool.extent(20 << 20).unwrap().zero);
    }

    #[test]
    fn more_than_the_limit_is_refused() {
        let error = dir(1 << 20).pour("x", None, Box::new(&[1; 2 << 20][..])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }

    #[test]
    fn a_spool_that_is_dropped_ends_its_stream() {
        struct Endless(mpsc::Sender<()>);
        impl Read for Endless {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                buf.fill(0);
                Ok(buf.len())
            }
        }
        impl Drop for Endless {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let (ended, end) = mpsc::channel();
        drop(dir(u64::MAX).pour("x", Some(1 << 40), Box::new(Endless(ended))).unwrap());
        assert!(end.recv_timeout(Duration::from_secs(20)).is_ok());
    }
}
