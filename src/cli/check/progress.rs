//! How far a check of many images is: on a terminal one line that is written over, else a line for every tenth.

use super::super::Common;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Before that nobody is impatient.
const QUIET: Duration = Duration::from_millis(300);
/// Between two lines on a terminal.
const PAUSE: Duration = Duration::from_millis(100);
/// Fewer images need no line for every tenth.
const MANY: usize = 20;

/// How far it is.
#[derive(Debug)]
pub(super) struct Progress {
    all: usize,
    done: usize,
    tenth: usize,
    began: Instant,
    said: Instant,
    is_terminal: bool,
    is_shown: bool,
    is_quiet: bool,
}

impl Progress {
    pub(super) fn new(all: usize, common: &Common) -> Self {
        let now = Instant::now();
        let is_quiet = common.quiet || all < 2;
        let is_terminal = std::io::stderr().is_terminal();
        Self { all, done: 0, tenth: 0, began: now, said: now, is_terminal, is_shown: false, is_quiet }
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.done = self.done.saturating_add(1);
        let tenth = self.done.saturating_mul(10).checked_div(self.all).unwrap_or(0);
        let is_next = tenth > self.tenth;
        self.tenth = tenth;
        if self.is_quiet || self.began.elapsed() < QUIET {
            return;
        }
        let line = format!("checked {} of {} images ({} %)", self.done, self.all, self.percent());
        if self.is_terminal && self.said.elapsed() >= PAUSE {
            self.said = Instant::now();
            self.is_shown = true;
            drop(write!(std::io::stderr(), "\r{line}\x1b[K"));
        } else if !self.is_terminal && is_next && self.all >= MANY {
            drop(writeln!(std::io::stderr(), "{line}"));
        }
    }

    fn percent(&self) -> usize {
        self.done.saturating_mul(100).checked_div(self.all).unwrap_or(100)
    }

    /// Makes room for a line of something else.
    pub(super) fn clear(&mut self) {
        if self.is_shown {
            self.is_shown = false;
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }
}
