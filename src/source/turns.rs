//! Files that take turns at being open: a split image may have thousands of segments, and a process often has no more
//! than 1024 descriptors.
//!
//! The gate admits a file once, and what it was then is noted. Only some of those that take turns are open at a time; the
//! others are opened again, by the same rules, when they are read, and must then be the file that they were.

use super::file::{FileSource, Identity};
use crate::block::{BlockSource, Extent};
use crate::error::{Error, ErrorKind, Result};
use lru::LruCache;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

/// How many are open at a time; as many again while readers still hold those that lost their turn.
const OPEN: NonZeroUsize = NonZeroUsize::new(32).expect("32 is not 0");

/// Those that are open. Shared by all files of one image.
pub(super) struct Turns(Mutex<LruCache<usize, Arc<FileSource>>>);

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turns")
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(OPEN)))
    }
}

/// Opens a file once more.
type Reopen = Box<dyn Fn() -> Result<FileSource> + Send + Sync>;

/// A file that is open when it is its turn.
pub(super) struct Turned {
    turns: Arc<Turns>,
    /// Its own among those that share `turns`.
    number: usize,
    label: String,
    len: u64,
    stored: u64,
    identity: Option<Identity>,
    reopen: Reopen,
}

impl fmt::Debug for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turned({})", self.label)
    }
}

impl Turned {
    /// Notes what `file` is, and has it take turns.
    pub(super) fn new(turns: &Arc<Turns>, number: usize, file: &FileSource, reopen: Reopen) -> Self {
        let (label, len, stored) = (file.label(), file.len(), file.stored_size());
        Self { turns: Arc::clone(turns), number, label, len, stored, identity: file.identity(), reopen }
    }

    /// The file, open.
    fn open(&self) -> Result<Arc<FileSource>> {
        let lock = || self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lock().get(&self.number).map(Arc::clone);
        if let Some(file) = kept {
            return Ok(file);
        }
        let file = Arc::new((self.reopen)()?);
        if file.identity() != self.identity || file.len() != self.len {
            let gone = format!("{}: is another file than it was when the image was opened", self.label);
            return Err(Error::new(ErrorKind::Changed, gone));
        }
        lock().put(self.number, Arc::clone(&file));
        Ok(file)
    }
}

impl BlockSource for Turned {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.open()?.read_at(buf, offset)
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        self.open()?.extent(offset)
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn stored_size(&self) -> u64 {
        self.stored
    }
}
