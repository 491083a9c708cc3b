//! The logs of a hive. Windows writes into a log what it is about to write into the hive, so that a hive whose writing
//! was cut off can be completed. Two formats, old ([`dirt`], up to Windows 8) and new ([`entry`], from 8.1 on); in both a
//! log begins with a copy of the hive's base block. We complete the hive in memory: pages of the logs lie in front of it.
//!
//! Which logs count, and in which order, is Windows' own choice: "Multiple transaction log files".

mod dirt;
mod entry;
mod marvin;

use super::base::{self, Base, Kind};
use super::bins::Patches;
use super::file::Bytes;
use super::hive::{Logs, Replayed};
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use std::sync::Arc;

/// What logs put in front of a hive.
#[derive(Debug, Default)]
pub(super) struct Laid {
    pub(super) logs: Vec<Arc<dyn Bytes>>,
    pub(super) patches: Patches,
    pub(super) replayed: Vec<Replayed>,
}

/// A log with a sound base block.
struct Log {
    /// How its name ends.
    name: &'static str,
    file: Arc<dyn Bytes>,
    base: Base,
    kind: Kind,
}

impl Log {
    /// # Errors
    /// When it is no sound log.
    fn open(name: &'static str, file: &Arc<dyn Bytes>) -> Result<Self> {
        let base = Base::load(file.as_ref())?;
        let place = || At::new("registry", "base block").byte(0);
        if base.is_dirty() {
            return Err(Error::corrupt(place()).because("the log itself was not written to the end"));
        }
        base.check()?;
        let kind = base.kind().filter(|kind| *kind != Kind::Primary);
        let kind =
            kind.ok_or_else(|| Error::corrupt(place()).because("it is that of a hive, not of a log"))?;
        Ok(Self { name, file: Arc::clone(file), base, kind })
    }
}

/// Completes a dirty hive; `base` becomes what it would be after that. Logs that are not sound are warnings.
pub(super) fn replay(
    primary: &dyn Bytes,
    base: &mut Base,
    logs: &Logs,
    budget: &Budget,
    warnings: &mut Vec<String>,
) -> Laid {
    if !base.is_whole {
        // What it says of itself cannot be trusted: the first bin has the time, the file the size.
        base.written = first_bin_written(primary).unwrap_or(0);
        let size = primary.len().saturating_sub(base::SIZE);
        base.bins = size.saturating_sub(size % base::PAGE);
    }
    let mut open = |name, file: &Option<Arc<dyn Bytes>>| {
        // An empty log is the rule: two of the three are not used.
        let file = file.as_ref().filter(|file| !file.is_empty())?;
        Log::open(name, file)
            .map_err(|error| warnings.push(format!("{name} is not used: {}", error.chain())))
            .ok()
    };
    let single = open(".LOG", &logs.log);
    let pair: Vec<Log> =
        [open(".LOG1", &logs.log1), open(".LOG2", &logs.log2)].into_iter().flatten().collect();
    let mut laid = Laid::default();
    // The new format before the old one, the pair before the single one.
    for kind in [Kind::NewLog, Kind::OldLog] {
        for logs in [pair.iter().collect::<Vec<_>>(), single.iter().collect()] {
            let logs: Vec<&Log> = logs.into_iter().filter(|log| log.kind == kind).collect();
            if logs.is_empty() {
                continue;
            }
            match kind {
                Kind::NewLog => entry::lay(&logs, base, &mut laid, budget, warnings),
                _ => dirt::lay(&logs, base, &mut laid, budget, warnings),
            }
            return laid;
        }
    }
    laid
}

/// "Hive bin": the first one keeps the time of the base block, too.
fn first_bin_written(primary: &dyn Bytes) -> Option<u64> {
    let mut head = [0; 32];
    primary.read_at(&mut head, base::SIZE).ok()?;
    if !head.starts_with(b"hbin") {
        return None;
    }
    crate::ondisk::get_le64(&head, 20)
}
