//! Where bytes come from. A new kind of source is one file here and one line in [`SCHEMES`].

use crate::block::BlockSource;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::locator::Spooler;
use std::fmt;
use std::sync::Arc;

pub mod gate;
pub mod memory;
pub mod spool;

registry! {
    /// Every kind of source.
    pub const SCHEMES: &[&Scheme];
    pub mod file => SCHEME;
    pub mod http => SCHEME;
}

/// A kind of source.
pub struct Scheme {
    /// Its names in front of `://`; a path has `file`.
    pub names: &'static [&'static str],
    /// Opens one.
    pub open: fn(&gate::Given, &SourceCx) -> Result<Arc<dyn BlockSource>>,
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheme({:?})", self.names)
    }
}

/// What the user said about sources.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where what comes only in order is poured: a download without ranges, a stream without blocks.
    pub spool: Option<Arc<dyn Spooler>>,
}

/// What sources need besides their locator.
#[derive(Clone, Debug)]
pub struct SourceCx {
    /// The process's block cache, for remote blocks.
    pub cache: Arc<Cache>,
    /// What the user said about sources.
    pub options: Arc<Options>,
}

/// Opens the source that `given` names.
///
/// # Errors
/// `Source` when it cannot be reached; `Usage` for a scheme we do not have.
pub fn open(given: &gate::Given, cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    let scheme = given.locator.scheme();
    let found = SCHEMES.iter().find(|candidate| candidate.names.contains(&scheme.as_str()));
    let Some(found) = found else {
        let known: Vec<&str> =
            SCHEMES.iter().flat_map(|s| s.names).filter(|name| **name != "file").copied().collect();
        let error = Error::new(crate::error::ErrorKind::Usage, format!("no source speaks '{scheme}://'"));
        return Err(error.context(&given.locator).help(format!("a path, or one of: {}", known.join(", "))));
    };
    (found.open)(given, cx)
}
