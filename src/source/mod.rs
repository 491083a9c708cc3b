//! Where bytes come from. A new kind of source is one file here and one line in [`SCHEMES`].

use crate::block::BlockSource;
use crate::cache::Cache;
use crate::cache::disk::DiskCache;
use crate::error::{Error, ErrorKind, Result};
use crate::locator::{Locator, Spooler};
use std::fmt;
use std::os::fd::AsFd as _;
use std::sync::Arc;

pub mod dial;
pub mod gate;
pub mod memory;
pub mod spool;
mod turns;

registry! {
    /// Every kind of source.
    pub const SCHEMES: &[&Scheme];
    pub mod file => SCHEME;
    pub mod ftp => SCHEME;
    pub mod http => SCHEME;
    pub mod nbd => SCHEME;
    pub mod s3 => SCHEME;
}

/// A kind of source.
pub struct Scheme {
    /// Its names in front of `://`; a path has `file`.
    pub names: &'static [&'static str],
    /// Another last component of the URL's path names what lies beside it: the other files of a split image.
    pub siblings: bool,
    /// Opens one; `NotFound` when the server says that there is none.
    pub open: fn(&gate::Given, &SourceCx) -> Result<Arc<dyn BlockSource>>,
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheme({:?})", self.names)
    }
}

/// What the user said about sources.
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests to one remote object at a time.
    pub connections: usize,
    /// Bytes to read ahead at most; `None` for what the line bears.
    pub readahead: Option<u64>,
    /// A command that prints a fresh link when one has expired.
    pub url_command: Option<String>,
    /// What the cache directory may take.
    pub cache_dir_size: u64,
    /// Where what comes only in order is poured: a download without ranges, a stream without blocks.
    pub spool: Option<Arc<dyn Spooler>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: crate::cache::remote::CONNECTIONS,
            readahead: None,
            url_command: None,
            cache_dir_size: crate::cache::disk::DEFAULT_BYTES,
            spool: None,
        }
    }
}

/// What sources need besides their locator.
#[derive(Clone, Debug, Default)]
pub struct SourceCx {
    /// The process's block cache, for remote blocks.
    pub cache: Arc<Cache>,
    /// What the user said about sources.
    pub options: Arc<Options>,
}

impl SourceCx {
    /// Where blocks of remote sources are kept between runs, if the user wants that.
    ///
    /// # Errors
    /// `Host` when the directory cannot be used.
    fn disk_cache(&self, given: &gate::Given) -> Result<Option<Arc<DiskCache>>> {
        let dir = given.cache_dir.as_ref();
        dir.map(|dir| DiskCache::new(dir.dir.as_fd(), self.options.cache_dir_size)).transpose()
    }
}

/// May the other files of an image that is split lie beside this one, by their names?
fn has_siblings(locator: &Locator) -> bool {
    let scheme = locator.scheme();
    SCHEMES.iter().any(|known| known.siblings && known.names.contains(&scheme.as_str()))
}

/// Opens the source that `given` names.
///
/// # Errors
/// `Source` when it cannot be reached; `Usage` for a scheme we do not have.
pub fn open(given: &gate::Given, cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    open_part(given, cx).map_err(|error| match error.kind() {
        // Of an image that is not there, its source cannot be reached.
        ErrorKind::NotFound => error.with_kind(ErrorKind::Source),
        _ => error,
    })
}

/// The same, of a file that may be missing: then the kind is `NotFound`.
fn open_part(given: &gate::Given, cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    let scheme = given.locator.scheme();
    let found = SCHEMES.iter().find(|candidate| candidate.names.contains(&scheme.as_str()));
    let Some(found) = found else {
        let known: Vec<&str> =
            SCHEMES.iter().flat_map(|s| s.names).filter(|name| **name != "file").copied().collect();
        let error = Error::new(ErrorKind::Usage, format!("no source speaks '{scheme}://'"));
        return Err(error.context(&given.locator).help(format!("a path, or one of: {}", known.join(", "))));
    };
    (found.open)(given, cx)
}
