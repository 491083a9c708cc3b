//! The tries at one request: how long to wait between them, and when to give up.

use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{Duration, Instant};

/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Fresh links for one request, none of which worked.
const MAX_RENEWALS: u32 = 8;

/// `start + time`, also where that is beyond the clock.
pub(super) fn after(start: Instant, time: Duration) -> Instant {
    start.checked_add(time).unwrap_or(start)
}

/// The tries at one range.
pub(super) struct Tries {
    pause: Duration,
    until: Instant,
    made: u32,
    renewed: u32,
}

impl Tries {
    pub(super) fn new(pause: Duration, start: Instant, patience: Duration) -> Self {
        Self { pause, until: after(start, patience), made: 1, renewed: 0 }
    }

    /// Waits before the next try; `false` when there is no time left for one.
    pub(super) fn pause(&mut self, label: &str, why: &str, asked: Option<Duration>) -> bool {
        // Between half and all of the pause, so that many readers do not come back at the same moment.
        let random = std::hash::RandomState::new().build_hasher().finish() % 512;
        let factor = u32::try_from(random).unwrap_or(0).saturating_add(512);
        let jittered = self.pause.saturating_mul(factor).checked_div(1024).unwrap_or_default();
        let wait = asked.map_or(jittered, |asked| asked.max(jittered));
        if self.until.saturating_duration_since(Instant::now()) <= wait {
            return false;
        }
        tracing::debug!("{label}: {why}; again in {wait:?}");
        COUNTERS.retries.add(1);
        std::thread::sleep(wait);
        self.pause = self.pause.saturating_mul(2).min(MAX_PAUSE);
        self.made = self.made.saturating_add(1);
        true
    }

    /// Counts a fresh link, with which the next try is made at once.
    ///
    /// # Errors
    /// `Io` when there were too many, so that nobody is asked without end.
    pub(super) fn renewed(&mut self, label: &str) -> Result<()> {
        self.renewed = self.renewed.saturating_add(1);
        if self.renewed <= MAX_RENEWALS {
            return Ok(());
        }
        COUNTERS.errors.add(1);
        Err(Error::new(ErrorKind::Io, format!("{label}: refused, also with {MAX_RENEWALS} fresh links")))
    }

    /// For the end of a message.
    pub(super) fn count(&self) -> String {
        if self.made > 1 { format!(" (tried {} times)", self.made) } else { String::new() }
    }
}
