//! The log, `$LogFile`: where changes of metadata are written before they are written home. What was not written home when
//! an image was taken is played back in memory here, as Windows does on the disk when it mounts.
//!
//! ```text
//! restart      whether somebody has the volume open; how the log is laid out
//! page         its pages, and the records in them
//! operation    what a record says was done, and what undoes it
//! table        what was open, changed and unfinished when a checkpoint was made
//! replay       changes made again, unfinished ones taken back
//! change       one of them, in a record of the MFT or a block of an index
//! ```
//! The content of files is not logged, but for what was changed of values that fit in a record.

use super::boot::Boot;
use crate::block::BlockSource;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::fs::overlay::Overlay;
use crate::fs::{Journal, State};
use page::Pages;
use restart::{Area, Start};
use std::fmt;
use std::sync::Arc;

mod change;
mod operation;
mod page;
mod replay;
mod restart;
mod table;

/// Versions of the log's format that are played back.
const VERSIONS: [(u16, u16); 2] = [(1, 1), (2, 0)];

/// The log's bytes.
pub(super) struct Log<'l> {
    /// How many there are.
    pub(super) len: u64,
    /// Reads some of them.
    pub(super) read: &'l dyn Fn(&mut [u8], u64) -> Result<()>,
}

impl fmt::Debug for Log<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({} bytes)", self.len)
    }
}

impl Log<'_> {
    fn read(&self, buf: &mut [u8], at: u64) -> Result<()> {
        (self.read)(buf, at)
    }
}

/// What became of the log.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The volume with the log's changes, if there are any and they were made.
    pub(super) replayed: Option<Overlay>,
    /// Dirty when nobody closed the log.
    pub(super) state: State,
    /// What is odd.
    pub(super) warnings: Vec<String>,
}

fn not_played(why: &str) -> String {
    format!(
        "the log was not played back{why}: what was written last may be missing, or be shown in an older state"
    )
}

impl Outcome {
    /// Looks at the log of a volume, and plays it back if it must be and may.
    pub(super) fn of(
        log: &Log<'_>,
        volume: &Arc<dyn BlockSource>,
        boot: &Boot,
        budget: &Budget,
        journal: Journal,
    ) -> Self {
        let said = |warning| Self { state: State::Dirty, warnings: vec![warning], replayed: None };
        let area = match Start::load(log) {
            Ok(Start::Empty | Start::Void) => return Self::default(),
            Ok(Start::Area(area)) => area,
            Err(error) => return Self::unread(&error),
        };
        let Some(checkpoint) = area.open_at() else { return Self::default() };
        if journal == Journal::Ignore {
            return said(not_played(""));
        }
        if !VERSIONS.contains(&area.version) {
            return said(not_played(&format!(" (its version is {}.{})", area.version.0, area.version.1)));
        }
        Self::play(log, &area, checkpoint, volume, boot, budget).unwrap_or_else(|error| Self::unread(&error))
    }

    /// Of a log that cannot be read.
    pub(super) fn unread(error: &Error) -> Self {
        let warning = format!("{}: {error}", not_played(""));
        Self { state: State::Dirty, warnings: vec![warning], replayed: None }
    }

    fn play(
        log: &Log<'_>,
        area: &Area,
        checkpoint: u64,
        volume: &Arc<dyn BlockSource>,
        boot: &Boot,
        budget: &Budget,
    ) -> Result<Self> {
        let mut pages = Pages::new(log, area, budget)?;
        let played = replay::play(volume, boot, &mut pages, checkpoint)?;
        let mut warnings = Vec::new();
        warnings.push(if played.overlay.replaced() == 0 {
            "was not unmounted: nothing waited in the log".to_owned()
        } else {
            let undone = match played.undone {
                0 => String::new(),
                undone => format!(", {undone} of them taken back"),
            };
            format!(
                "was not unmounted: the log was played back in memory, {} changes{undone}",
                played.changes.saturating_add(played.undone)
            )
        });
        if played.damaged > 0 {
            warnings.push(format!(
                "{} damaged records or blocks that the log changes were left as they are",
                played.damaged
            ));
        }
        let replayed = (played.overlay.replaced() > 0).then_some(played.overlay);
        Ok(Self { replayed, state: State::Dirty, warnings })
    }
}
