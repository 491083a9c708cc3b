//! The pool: threads that help sessions whose clients ask for more than one thing at a time.
//!
//! A session's own thread always serves its own queue, so a session never depends on the pool. A client that takes no
//! replies costs the others nothing: at most one thread waits for it ([`super::turn`]), does not count as busy
//! meanwhile, and is replaced if it is a helper. So there are always as many helpers as the pool is wide that do not wait
//! for a client, and at most one more for each client.

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
    /// Helpers there are.
    helpers: usize,
    /// Those of them that wait for a client.
    away: usize,
    closed: bool,
}

/// Counts a thread as serving while it lives.
#[derive(Debug)]
pub(super) struct Busy<'a> {
    pool: &'a Arc<Pool>,
    helper: bool,
}

/// While it lives, a thread that is serving waits for a client, and does not count.
#[derive(Debug)]
pub(super) struct Out<'a>(&'a Busy<'a>);

impl Busy<'_> {
    /// Is it one of the pool's, which others need, too?
    pub(super) const fn is_helper(&self) -> bool {
        self.helper
    }

    /// The thread is going to wait for its client. Another one takes the place of a helper.
    pub(super) fn step_out(&self) -> Out<'_> {
        self.pool.busy.fetch_sub(1, Ordering::Relaxed);
        if self.helper {
            let mut state = self.pool.lock();
            state.away = state.away.saturating_add(1);
            if let Err(error) = self.pool.fill(&mut state) {
                tracing::debug!("nbd: no thread for another helper: {error}");
            }
        }
        Out(self)
    }
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        let Busy { pool, helper } = self.0;
        pool.busy.fetch_add(1, Ordering::Relaxed);
        if *helper {
            let mut state = pool.lock();
            state.away = state.away.saturating_sub(1);
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.pool.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// Starts `width` helpers; more threads than that never serve at once because of the pool.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(width: usize) -> std::io::Result<Arc<Self>> {
        let state = Mutex::new(State::default());
        let pool = Arc::new(Self { state, bell: Condvar::new(), busy: AtomicUsize::new(0), width });
        pool.fill(&mut pool.lock())?;
        Ok(pool)
    }

    /// Starts helpers until so many as the pool is wide are not away.
    fn fill(self: &Arc<Self>, state: &mut State) -> std::io::Result<()> {
        while !state.closed && state.helpers < self.width.saturating_add(state.away) {
            let pool = Arc::clone(self);
            std::thread::Builder::new().name("nbd-helper".to_owned()).spawn(move || pool.help())?;
            state.helpers = state.helpers.saturating_add(1);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session's own thread is serving.
    pub(super) fn busy(self: &Arc<Self>) -> Busy<'_> {
        self.serving(false)
    }

    fn serving(self: &Arc<Self>, helper: bool) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy { pool: self, helper }
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

    fn help(self: &Arc<Self>) {
        let mut buffer = Buffer::default();
        while let Some(session) = self.next() {
            let busy = self.serving(true);
            session.serve_queue(&mut buffer, &busy);
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
            // One who was away is back: there is one too many.
            if state.helpers > self.width.saturating_add(state.away) {
                state.helpers = state.helpers.saturating_sub(1);
                break None;
            }
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.idle = state.idle.saturating_sub(1);
        offer
    }
}
