//! A hive: one file of the registry, with its logs laid over it.

use super::base::{self, Base, Kind};
use super::bins::Bins;
use super::file::Bytes;
use super::key::Key;
use super::log;
use crate::budget::{Budget, Limits};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::narrow;
use crate::text::Text;
use std::fmt;
use std::sync::Arc;

/// The logs that lie beside a hive. Of `SYSTEM.LOG`, `.LOG1` and `.LOG2` any may be missing.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// `.LOG`: the only one up to Windows Server 2003, mostly empty since.
    pub log: Option<Arc<dyn Bytes>>,
    /// `.LOG1`.
    pub log1: Option<Arc<dyn Bytes>>,
    /// `.LOG2`.
    pub log2: Option<Arc<dyn Bytes>>,
}

/// A log whose pages were laid over a hive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// How its name ends: `.LOG1`.
    pub log: &'static str,
    /// Writes of the hive that it completes. An old log has one.
    pub entries: u64,
    /// Pages that it replaces, whatever their size.
    pub pages: u64,
}

/// An open hive. Cheap to clone.
#[derive(Clone)]
pub struct Hive(Arc<Inner>);

struct Inner {
    bins: Bins,
    base: Base,
    is_dirty: bool,
    replayed: Vec<Replayed>,
    warnings: Vec<String>,
}

impl fmt::Debug for Hive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hive({}, {:?})", self.0.base.name, self.0.bins)
    }
}

impl Hive {
    /// Opens a hive. If writing it was not ended, what its logs have of it is laid over it; if it was, they are not read.
    ///
    /// # Errors
    /// When it is no hive, one of a version that is not read, or cannot be read. Bad logs are [`Hive::warnings`].
    pub fn open(primary: Arc<dyn Bytes>, logs: &Logs) -> Result<Self> {
        Self::open_with(primary, logs, Vec::new())
    }

    /// As [`Hive::open`]; `missed` says which logs could not even be found out about.
    pub(super) fn open_with(primary: Arc<dyn Bytes>, logs: &Logs, missed: Vec<String>) -> Result<Self> {
        let mut base = Base::load(primary.as_ref())?;
        if base.is_whole && base.kind() != Some(Kind::Primary) {
            return Err(Error::new(ErrorKind::NotAnImage, "a log of a registry hive, not the hive")
                .at(At::new("registry", "base block").byte(0)));
        }
        let is_dirty = base.is_dirty();
        let mut warnings = Vec::new();
        let mut laid = log::Laid::default();
        if is_dirty {
            warnings = missed;
            let budget = Budget::new(Limits::OPEN);
            laid = log::replay(primary.as_ref(), &mut base, logs, &budget, &mut warnings);
            if laid.replayed.is_empty() {
                let why =
                    if base.is_whole { "it was not written to the end" } else { "its base block is damaged" };
                warnings.push(format!("{why}, and no log completes it: it may lack what was written last"));
            }
        }
        base.check()?;
        let bins = Bins::new(primary, laid.logs, laid.patches, base.bins);
        Ok(Self(Arc::new(Inner { bins, base, is_dirty, replayed: laid.replayed, warnings })))
    }

    /// The end of the path that it had, as `\SystemRoot\System32\Config\SYSTEM`; Windows keeps no more than 32 characters.
    #[must_use]
    pub fn name(&self) -> &Text {
        &self.0.base.name
    }

    /// Its format: 3 to 6, for 1.3 to 1.6.
    #[must_use]
    pub fn minor_version(&self) -> u32 {
        self.0.base.minor
    }

    /// When it was written last, in units of 100 ns since 1601. Not kept up from Windows 8.1 on.
    #[must_use]
    pub fn last_written(&self) -> u64 {
        self.0.base.written
    }

    /// Was writing it not ended? The norm on a disk that was copied from a running machine.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.0.is_dirty
    }

    /// The logs that were laid over it, in their order.
    #[must_use]
    pub fn replayed(&self) -> &[Replayed] {
        &self.0.replayed
    }

    /// What a reader should know who trusts its content.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// The key at its top.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn root(&self) -> Result<Key> {
        Key::load(self, self.0.base.root, None)
    }

    /// The key at a path from the root on, without its name: `ControlSet001\Services\viostor`. Upper and lower case are
    /// the same. `None` when there is no such key.
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn key(&self, path: &str) -> Result<Option<Key>> {
        let mut key = self.root()?;
        for part in path.split('\\').filter(|part| !part.is_empty()) {
            let Some(next) = key.subkey(part)? else { return Ok(None) };
            key = next;
        }
        Ok(Some(key))
    }

    pub(super) fn bins(&self) -> &Bins {
        &self.0.bins
    }

    /// The most cells of at least `size` bytes that there is room for. What counts more is damaged.
    pub(super) fn room(&self, size: u64) -> u64 {
        self.0.bins.len().checked_div(size).unwrap_or(0)
    }
}

impl Base {
    /// Reads it from the start of a file.
    ///
    /// # Errors
    /// As [`Base::parse`].
    pub(super) fn load(file: &dyn Bytes) -> Result<Self> {
        let mut sector = [0; base::SECTOR];
        let len = narrow(file.len()).min(base::SECTOR);
        if let Some(start) = sector.get_mut(..len) {
            file.read_at(start, 0)?;
        }
        Self::parse(sector.get(..len).unwrap_or_default())
    }
}
