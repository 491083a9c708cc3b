//! The pool: threads that help sessions whose clients ask for more than one thing at a time.
//!
//! A session's own thread always serves its own queue, so a session never depends on the pool: helpers that are stuck
//! with a slow client cost the others parallelism, never progress.

use super::reply::Buffer;
use super::session::Session;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The helpers of one server.
#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    bell: Condvar,
    /// Threads that serve at this moment, sessions' own ones included.
    busy: AtomicUsize,
    width: usize,
}

#[derive(Debug, Default)]
struct State {
    offers: VecDeque<Arc<Session>>,
    idle: usize,
    closed: bool,
}

/// Counts a thread as serving while it lives.
#[derive(Debug)]
pub(super) struct Busy<'a>(&'a Pool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// Starts `width` helpers; more threads than that never serve at once because of the pool.
    pub(super) fn start(width: usize) -> std::io::Result<Arc<Self>> {
        let state = Mutex::new(State::default());
        let pool = Arc::new(Self { state, bell: Condvar::new(), busy: AtomicUsize::new(0), width });
        for _ in 0..width {
            let pool = Arc::clone(&pool);
            std::thread::Builder::new().name("nbd-helper".to_owned()).spawn(move || pool.help())?;
        }
        Ok(pool)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn busy(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    /// Asks up to `wanted` idle helpers to serve this session's queue.
    pub(super) fn offer(&self, session: &Arc<Session>, wanted: usize) {
        let room = self.width.saturating_sub(self.busy.load(Ordering::Relaxed));
        if wanted == 0 || room == 0 {
            return;
        }
        let mut state = self.lock();
        let free = state.idle.saturating_sub(state.offers.len());
        for _ in 0..wanted.min(room).min(free) {
            state.offers.push_back(Arc::clone(session));
            self.bell.notify_one();
        }
    }

    /// Lets the helpers go. They finish what they are at.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.offers.clear();
        self.bell.notify_all();
    }

    fn help(&self) {
        let mut buffer = Buffer::default();
        while let Some(session) = self.next() {
            let busy = self.busy();
            session.serve_queue(&mut buffer);
            drop(busy);
        }
    }

    fn next(&self) -> Option<Arc<Session>> {
        let mut state = self.lock();
        state.idle = state.idle.saturating_add(1);
        let offer = loop {
            if state.closed {
                break None;
            }
            if let Some(session) = state.offers.pop_front() {
                break Some(session);
            }
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.idle = state.idle.saturating_sub(1);
        offer
    }
}
