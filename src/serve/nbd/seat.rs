//! A seat: the right of one client to be served. There are so many, and they come back by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// All seats of a server.
#[derive(Clone, Debug)]
pub(super) struct Seats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    taken: AtomicUsize,
    ever: AtomicUsize,
    all: usize,
    left: Notify,
}

/// One taken seat. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat(Arc<Inner>);

impl Seats {
    pub(super) fn new(all: usize) -> Self {
        let (taken, ever) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Inner { taken, ever, all, left: Notify::new() }))
    }

    /// A seat, unless all are taken.
    pub(super) fn take(&self) -> Option<Seat> {
        let one_more = |taken: usize| taken.checked_add(1).filter(|taken| *taken <= self.0.all);
        self.0.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        self.0.ever.fetch_add(1, Ordering::AcqRel);
        Some(Seat(Arc::clone(&self.0)))
    }

    /// As many as there are, taken or not.
    pub(super) fn all(&self) -> usize {
        self.0.all
    }

    pub(super) fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Acquire)
    }

    /// Was anyone ever served?
    pub(super) fn used(&self) -> bool {
        self.0.ever.load(Ordering::Acquire) > 0
    }

    /// Waits until somebody leaves. One who left before the call, unseen, counts.
    pub(super) async fn someone_left(&self) {
        self.0.left.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_that_is_left_can_be_taken_again() {
        let seats = Seats::new(1);
        let first = seats.take().unwrap();
        assert!(seats.take().is_none());
        drop(first);
        assert!(seats.take().is_some());
    }
}
