//! Blocks of remote objects kept on disk between runs (`--cache-dir`).
//!
//! ```text
//! DIR/blocks-1/                      ours alone: 0700, files 0600, opened without following a link
//!     3f…a9-0      64 blocks of the object 3f…a9, which is a hash of its URL, its validator and its length
//!     3f…a9-7        ├─ 0x0000  64 sums, SHA-256 of object, number and bytes; zeros where there is no block
//!     …              └─ 0x1000  the blocks, each at its place; the file has holes where they are missing
//! ```
//! Nothing in it is believed but by its sum, so neither a process that was killed while it wrote, nor two that write the
//! same, nor a damaged disk can put in a wrong byte: the block is simply absent. A file is opened for one operation and
//! closed again, so whoever makes room may remove any. When writing fails, a full disk for one, it is said once, and from
//! then on blocks are only read.

use super::remote::BLOCK;
use crate::error::{Error, ErrorKind, Result};
use crate::num::wide;
use crate::text::escape;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The directory of our own in the one that the user named. Another layout of the files gets another name.
const OWN: &str = "blocks-1";
/// Blocks of one file.
const GROUP: u64 = 64;
/// Bytes of a sum.
const SUM: u64 = 32;
/// Where the blocks of a file start: behind the sums, at a multiple of every page size that is in use.
const DATA: u64 = 4096;
const _: () = assert!(GROUP * SUM <= DATA);
/// A file used within this time counts as just used: its time stamp is left alone.
const JUST: Duration = Duration::from_secs(60);

/// The least that a limit can be: room for the blocks that are written between two looks at the whole.
pub const MIN_BYTES: u64 = 16 * BLOCK;
/// The limit where the user said nothing.
pub const DEFAULT_BYTES: u64 = 10 << 30;

/// Opens `path` for blocks, making what is missing of it; for [`DiskCache::new`], possibly of another process.
///
/// # Errors
/// `Host` when it cannot be made or opened, or when others may write into it.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    let shown = escape(path.as_os_str().as_bytes()).to_string();
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Host, format!("the cache directory {shown}")).caused_by(error)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(CWD, path, flags | OFlags::PATH, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    match rustix::fs::mkdirat(&dir, OWN, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno.into())),
    }
    let own = rustix::fs::openat(&dir, OWN, flags | OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    let stat = rustix::fs::fstat(&own).map_err(|errno| failed(errno.into()))?;
    let others = Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH);
    if stat.st_uid != rustix::process::geteuid().as_raw() || others {
        let error = Error::new(
            ErrorKind::Host,
            format!("the cache directory {shown}/{OWN} is not yours alone: others could put blocks into it"),
        );
        return Err(error.help("name a directory of your own: --cache-dir ~/.cache/imgmount"));
    }
    Ok(own)
}

/// The blocks kept in one directory, of every object.
pub struct DiskCache {
    dir: OwnedFd,
    /// Bytes that the files may take.
    most: u64,
    /// Bytes written since the files were last counted; at the start nobody knows, so at once.
    unseen: Mutex<u64>,
    /// Writing has failed.
    is_read_only: AtomicBool,
}

impl fmt::Debug for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskCache({} bytes)", self.most)
    }
}

/// A directory's device and inode.
type Inode = (u64, u64);

/// A file, as eviction sees it.
struct Entry {
    used: (i64, i64),
    bytes: u64,
    name: Vec<u8>,
}

impl DiskCache {
    /// The cache in a directory from [`open_dir`], which keeps at most `most` bytes. One for each directory and process,
    /// so that what is written is counted together.
    ///
    /// # Errors
    /// `Host` when the directory cannot be read.
    pub fn new(dir: BorrowedFd<'_>, most: u64) -> Result<Arc<Self>> {
        /// Those in use.
        static OPEN: Mutex<Vec<(Inode, Weak<DiskCache>)>> = Mutex::new(Vec::new());
        let failed = |errno: Errno| Error::new(ErrorKind::Host, "the cache directory").caused_by(errno);
        let stat = rustix::fs::fstat(dir).map_err(failed)?;
        let id = (stat.st_dev, stat.st_ino);
        let mut open = super::lock(&OPEN);
        open.retain(|(_, cache)| cache.strong_count() > 0);
        if let Some(cache) =
            open.iter().find(|(known, _)| *known == id).and_then(|(_, cache)| cache.upgrade())
        {
            return Ok(cache);
        }
        let dir = dir
            .try_clone_to_owned()
            .map_err(|error| Error::new(ErrorKind::Host, "the cache directory").caused_by(error))?;
        let most = most.max(MIN_BYTES);
        let cache =
            Arc::new(Self { dir, most, unseen: Mutex::new(most), is_read_only: AtomicBool::new(false) });
        open.push((id, Arc::downgrade(&cache)));
        Ok(cache)
    }

    /// The place of one object. `object` is what tells it from every other object and from every other version of it.
    #[must_use]
    pub fn shelf(self: &Arc<Self>, object: [u8; 32]) -> Shelf {
        Shelf { cache: Arc::clone(self), object }
    }

    fn open(&self, name: &str, flags: OFlags) -> rustix::io::Result<(File, Stat)> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        Ok((File::from(file), stat))
    }

    /// What may be written before the files are counted again. Two processes that each write so much more stay below
    /// the limit.
    fn slack(&self) -> u64 {
        (self.most / 16).max(BLOCK)
    }

    /// Counts what is about to be written, and makes room from time to time.
    fn make_room(&self, bytes: u64) {
        {
            let mut unseen = super::lock(&self.unseen);
            *unseen = unseen.saturating_add(bytes);
            if *unseen <= self.slack() {
                return;
            }
            // Whoever writes meanwhile counts towards the next look.
            *unseen = bytes;
        }
        let entries = match self.entries() {
            Ok(entries) => entries,
            Err(errno) => return self.give_up(errno),
        };
        let mut total = entries.iter().map(|entry| entry.bytes).fold(0, u64::saturating_add);
        if total <= self.most.saturating_sub(self.slack().saturating_mul(2)) {
            return;
        }
        for entry in entries {
            if total <= self.most.saturating_sub(self.most / 4) {
                break;
            }
            match rustix::fs::unlinkat(&self.dir, entry.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => total = total.saturating_sub(entry.bytes),
                Err(errno) => return self.give_up(errno),
            }
        }
    }

    /// Our files, those that were not used for longest first.
    fn entries(&self) -> rustix::io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if !is_ours(name.to_bytes()) {
                continue;
            }
            // Another process may have removed it meanwhile.
            let Ok(stat) = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
            let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
            entries.push(Entry { used: (stat.st_mtime, nanos), bytes, name: name.to_bytes().to_vec() });
        }
        entries.sort_unstable_by(|a, b| (a.used, &a.name).cmp(&(b.used, &b.name)));
        Ok(entries)
    }

    fn give_up(&self, why: impl fmt::Display) {
        if !self.is_read_only.swap(true, Ordering::Relaxed) {
            tracing::warn!("the cache directory takes no more blocks: {why}; going on without");
        }
    }
}

/// Is it the name of a file with blocks? Nothing else is ever removed.
fn is_ours(name: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    name.split_at_checked(64).is_some_and(|(object, rest)| {
        hex(object)
            && rest
                .split_first()
                .is_some_and(|(dash, group)| *dash == b'-' && !group.is_empty() && hex(group))
    })
}

/// The place of one object in a [`DiskCache`].
#[derive(Clone)]
pub struct Shelf {
    cache: Arc<DiskCache>,
    object: [u8; 32],
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shelf of {:?}", self.cache)
    }
}

/// Where a block is: its file, its sum in it, its bytes in it.
struct Spot {
    file: String,
    sum: u64,
    data: u64,
}

impl Shelf {
    fn spot(&self, number: u64) -> Spot {
        let (group, within) = (number / GROUP, number % GROUP);
        let object: String = self.object.iter().map(|byte| format!("{byte:02x}")).collect();
        Spot {
            file: format!("{object}-{group:x}"),
            sum: within.saturating_mul(SUM),
            data: DATA.saturating_add(within.saturating_mul(BLOCK)),
        }
    }

    /// The sum holds for this block of this object only.
    fn sum(&self, number: u64, bytes: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.object);
        hash.update(number.to_le_bytes());
        hash.update(wide(bytes.len()).to_le_bytes());
        hash.update(bytes);
        hash.finalize().into()
    }

    /// A block of `len` bytes, if it is there and whole.
    #[must_use]
    pub fn get(&self, number: u64, len: usize) -> Option<Vec<u8>> {
        let spot = self.spot(number);
        let (file, stat) = self.cache.open(&spot.file, OFlags::RDONLY).ok()?;
        let mut sum = [0; 32];
        file.read_exact_at(&mut sum, spot.sum).ok()?;
        if sum == [0; 32] {
            return None;
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, spot.data).ok()?;
        if self.sum(number, &bytes) != sum {
            tracing::debug!("a block in the cache directory is damaged or half-written; it is fetched again");
            return None;
        }
        touch(&file, &stat);
        Some(bytes)
    }

    /// Keeps a block. Where that is not possible, nothing is lost but time.
    pub fn put(&self, number: u64, bytes: &[u8]) {
        let cache = &self.cache;
        if cache.is_read_only.load(Ordering::Relaxed) || wide(bytes.len()) > BLOCK {
            return;
        }
        cache.make_room(wide(bytes.len()).saturating_add(DATA));
        let spot = self.spot(number);
        let written = cache
            .open(&spot.file, OFlags::RDWR | OFlags::CREATE)
            .map_err(std::io::Error::from)
            .and_then(|(file, _)| {
                file.write_all_at(bytes, spot.data)?;
                file.write_all_at(&self.sum(number, bytes), spot.sum)
            });
        if let Err(error) = written {
            cache.give_up(error);
        }
    }
}

/// Notes that a file was used, for eviction. Seldom: a second of accuracy is worth no system call a block.
fn touch(file: &File, stat: &Stat) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let used = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    if now.saturating_sub(used) > JUST {
        let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let _ = rustix::fs::futimens(file.as_fd(), &Timestamps { last_access: keep, last_modification: now });
    }
}
