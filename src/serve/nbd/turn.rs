//! A turn: the right of one thread to send to one client, so that replies do not mix.
//!
//! Many threads may serve a client, and a client may stop taking its replies. So that this costs others nothing, at most
//! one thread waits for a client for long, and it does so outside of the pool: it has stepped out of it. Helpers that
//! find that a turn takes long are put off, and leave their request to whoever has the turn. The session's own thread waits: it has
//! nobody else to serve.

use super::pool::Busy;
use super::socket::Socket;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A client that takes longer than this for what is sent in one piece is waited for outside of the pool.
const PATIENCE: Duration = Duration::from_millis(50);

/// The turns at one client.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: bool,
    /// The one who has the turn keeps it for long, as a rule because the client keeps him waiting.
    long: bool,
    /// Threads that wait for their turn.
    waiting: usize,
}

/// A turn that was taken. Dropping it lets the next thread send.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next turn. `None`: a helper is not to wait for this client.
    pub(super) fn take(&self, busy: &Busy<'_>) -> Option<Turn<'_>> {
        let mut state = self.lock();
        let mut out = None;
        while state.taken {
            if state.long && busy.is_helper() {
                return None;
            }
            if state.long && out.is_none() {
                out = Some(busy.step_out());
            }
            state.waiting = state.waiting.saturating_add(1);
            state = self.free.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting = state.waiting.saturating_sub(1);
        }
        state.taken = true;
        Some(Turn(self))
    }

    /// Has anyone the turn? Who has it looks into the session's queue after it.
    pub(super) fn are_taken(&self) -> bool {
        self.lock().taken
    }
}

impl Turn<'_> {
    /// Sends all of it. A client that takes nothing for `stall` is given up.
    ///
    /// # Errors
    /// What the socket reports; `TimedOut`.
    pub(super) fn send(
        &self,
        socket: &Socket,
        mut bytes: &[u8],
        stall: Duration,
        busy: &Busy<'_>,
    ) -> io::Result<()> {
        let (mut since, mut out) = (None, None);
        loop {
            let (taken, all_left) = socket.send_at_once(bytes)?;
            bytes = bytes.get(taken..).unwrap_or_default();
            if all_left && bytes.is_empty() {
                return Ok(());
            }
            if all_left {
                continue;
            }
            let start = *since.get_or_insert_with(Instant::now);
            let patience = PATIENCE.saturating_sub(start.elapsed());
            if out.is_none() && (patience.is_zero() || !socket.wait_for_room(patience)?) {
                self.takes_long();
                out = Some(busy.step_out());
            }
            if out.is_some() && !socket.wait_for_room(stall)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Helpers are not to wait for the end of it.
    pub(super) fn takes_long(&self) {
        self.0.lock().long = true;
        self.0.free.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.taken = false;
        state.long = false;
        if state.waiting > 0 {
            self.0.free.notify_one();
        }
    }
}
