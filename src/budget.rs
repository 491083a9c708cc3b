//! What one piece of work may cost: bytes of memory, steps, nesting and time.
//!
//! Every parser that follows pointers of an image takes a [`Budget`] and spends from it. A hostile image then
//! ends in `ErrorKind::Limit` with the bound's name instead of in a hang or a full memory.

use crate::error::{Error, Result};
use crate::num::wide;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// How much longer than [`Limits::time`] the clock on the wall may run.
pub const PATIENCE: u32 = 12;

/// What a [`Kept`] may hold, bytes.
const KEPT: u64 = 64 << 20;

/// The bounds a [`Budget`] starts from.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory that structures of the image may ask for, in bytes.
    pub bytes: u64,
    /// Structures visited: entries, records, links followed.
    pub steps: u64,
    /// Nesting: extended partitions, extent trees, symlinks in symlinks.
    pub depth: u32,
    /// Processor time of the thread that opened the budget. Waiting for a slow source is no fault of the image, and may
    /// take [`PATIENCE`] times as long.
    pub time: Duration,
}

impl Limits {
    /// For opening one layer of an image. Five seconds is the promise made in `man imgmount`.
    pub const OPEN: Self =
        Self { bytes: 128 << 20, steps: 4_000_000, depth: 64, time: Duration::from_secs(5) };
    /// For one read or look-up.
    pub const REQUEST: Self =
        Self { bytes: 64 << 20, steps: 1_000_000, depth: 64, time: Duration::from_secs(1) };
    /// For a whole directory or table in one call. There may be millions of names, and what the caller does with each
    /// counts, too; so the clock is longer, and steps do not bind.
    pub const LISTING: Self = Self { steps: u64::MAX, time: Duration::from_secs(5), ..Self::REQUEST };
    /// For a walk that a user asked for and waits on: steps and depth bind, the clock does not.
    pub const WALK: Self =
        Self { bytes: 512 << 20, steps: u64::MAX, depth: 4096, time: Duration::from_secs(1 << 32) };
}

/// What is left of the bounds. Shared by reference; spending needs no lock.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    bytes: AtomicU64,
    steps: AtomicU64,
    /// Who opened it, and the processor time that thread had used by then.
    opened: (ThreadId, Duration),
    end: Instant,
    kept: Kept,
}

/// Memory that what was opened keeps for later reads, all of its parts together: it is filled when the budget has long
/// been closed. What was taken is not given back, so that it bounds the work of filling it too.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<AtomicU64>);

impl Kept {
    /// Takes `len` bytes for `what`.
    ///
    /// # Errors
    /// `Limit` when they are not there any more.
    pub fn take(&self, what: &'static str, len: u64) -> Result<()> {
        if self.0.fetch_add(len, Ordering::Relaxed).saturating_add(len) > KEPT {
            // Taken back, so that the count cannot wrap.
            self.0.fetch_sub(len, Ordering::Relaxed);
            return Err(Error::limit(format!("{what}: more than {KEPT} bytes in all")));
        }
        Ok(())
    }
}

/// The processor time that this thread has used.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

impl Budget {
    /// A full budget.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            limits,
            bytes: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            opened: (std::thread::current().id(), processor_time()),
            end: now.checked_add(limits.time.saturating_mul(PATIENCE)).unwrap_or(now),
            kept: Kept::default(),
        }
    }

    /// A full budget for one request.
    #[must_use]
    pub fn request() -> Self {
        Self::new(Limits::REQUEST)
    }

    /// Spends one step of `what`. Looks at the clock every 256 steps.
    ///
    /// # Errors
    /// `Limit` when the steps or the time are used up.
    pub fn step(&self, what: &'static str) -> Result<()> {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        if step >= self.limits.steps {
            return Err(Error::limit(format!("{what}: more than {} steps", self.limits.steps)));
        }
        if step.is_multiple_of(256) && self.is_late() {
            return Err(Error::limit(format!("{what}: took longer than {:?}", self.limits.time)));
        }
        Ok(())
    }

    /// Spends several steps at once, and looks at the clock.
    ///
    /// # Errors
    /// As [`Budget::step`].
    pub fn steps(&self, what: &'static str, count: u64) -> Result<()> {
        if self.steps.fetch_add(count, Ordering::Relaxed).saturating_add(count) > self.limits.steps {
            return Err(Error::limit(format!("{what}: more than {} steps", self.limits.steps)));
        }
        if self.is_late() {
            return Err(Error::limit(format!("{what}: took longer than {:?}", self.limits.time)));
        }
        Ok(())
    }

    /// Is the time used up?
    #[must_use]
    pub fn is_late(&self) -> bool {
        let (thread, before) = self.opened;
        let worked = std::thread::current().id() == thread
            && processor_time().saturating_sub(before) > self.limits.time;
        worked || Instant::now() > self.end
    }

    /// A zeroed buffer of `len` bytes for `what`, of which the format allows at most `cap`.
    ///
    /// # Errors
    /// `Limit` when `len` exceeds `cap` or the memory that is left.
    pub fn buffer(&self, what: &'static str, len: u64, cap: u64) -> Result<Vec<u8>> {
        if len > cap {
            return Err(Error::limit(format!("{what}: {len} bytes, at most {cap} are accepted")));
        }
        self.charge(what, len)?;
        let len = usize::try_from(len)
            .map_err(|_| Error::limit(format!("{what}: {len} bytes do not fit in memory")))?;
        Ok(vec![0; len])
    }

    /// Spends `len` bytes of memory that is taken elsewhere.
    ///
    /// # Errors
    /// `Limit` when less is left.
    pub fn charge(&self, what: &'static str, len: u64) -> Result<()> {
        let before = self.bytes.fetch_add(len, Ordering::Relaxed);
        if before.saturating_add(len) > self.limits.bytes {
            return Err(Error::limit(format!(
                "{what}: the structures of this image want more than {} bytes of memory",
                self.limits.bytes
            )));
        }
        Ok(())
    }

    /// Gives memory back that a [`Budget::buffer`] or [`Budget::charge`] of this length no longer holds.
    pub fn release(&self, len: usize) {
        self.bytes.fetch_sub(wide(len).min(self.bytes.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// What may be kept when this budget is closed: one allowance for all that is opened with it.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.kept.clone()
    }

    /// Goes one level deeper; the guard comes back up when it is dropped.
    ///
    /// # Errors
    /// `Limit` when `depth` levels are open already.
    pub fn descend<'a>(&self, what: &'static str, depth: &'a Depth) -> Result<Descent<'a>> {
        let level = depth.0.get();
        if level >= self.limits.depth {
            return Err(Error::limit(format!("{what}: nested deeper than {}", self.limits.depth)));
        }
        depth.0.set(level.saturating_add(1));
        Ok(Descent(depth))
    }
}

/// How deep one walk stands. Not shared between threads, as a walk is not.
#[derive(Debug, Default)]
pub struct Depth(Cell<u32>);

/// One level of depth, held.
#[derive(Debug)]
pub struct Descent<'a>(&'a Depth);

impl Drop for Descent<'_> {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_over_its_cap_is_refused_before_it_is_made() {
        let budget = Budget::request();
        assert!(budget.buffer("table", 1 << 60, 1 << 20).is_err());
    }

    #[test]
    fn steps_run_out() {
        let budget = Budget::new(Limits { steps: 2, ..Limits::REQUEST });
        assert!(budget.step("x").is_ok() && budget.step("x").is_ok() && budget.step("x").is_err());
    }

    #[test]
    fn work_runs_out_of_time_and_waiting_does_not() {
        let waits = Budget::new(Limits { time: Duration::from_millis(30), ..Limits::REQUEST });
        std::thread::sleep(Duration::from_millis(60));
        assert!(waits.step("x").is_ok());
        let works = Budget::new(Limits { time: Duration::from_millis(30), ..Limits::WALK });
        let start = Instant::now();
        while works.step("x").is_ok() {
            assert!(start.elapsed() < Duration::from_secs(20), "it never ran out");
        }
    }

    #[test]
    fn depth_comes_back() {
        let (budget, depth) = (Budget::new(Limits { depth: 1, ..Limits::REQUEST }), Depth::default());
        {
            let _level = budget.descend("x", &depth).unwrap();
            assert!(budget.descend("x", &depth).is_err());
        }
        assert!(budget.descend("x", &depth).is_ok());
    }
}
