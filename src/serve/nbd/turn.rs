//! A turn: the right of one thread to send to one client, so that replies do not mix.
//!
//! Many threads may serve a client, and a client may stop taking its replies. So that this costs others nothing, at most
//! one thread waits for a client for long, and it does so outside of the pool: it has stepped out of it. Helpers that
//! find that a turn takes long are put off, and leave their request to whoever has the turn. The session's own thread waits: it has
//! nobody else to serve.
//!
//! Between the first byte of a message and its end nothing else may be sent, and if there is no end, nothing ever again: the
//! client would take the next reply's bytes for the rest of this one.

use super::pool::Busy;
use super::socket::Socket;
use std::cell::Cell;
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

/// A turn that was taken. Dropping it lets the next thread send; in the middle of a message it hangs up before.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    socket: &'a Socket,
    /// A part of a message may have left, and the rest of it has not.
    torn: Cell<bool>,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next turn. `None`: a helper is not to wait for this client.
    pub(super) fn take<'a>(&'a self, socket: &'a Socket, busy: &Busy<'_>) -> Option<Turn<'a>> {
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
        Some(Turn { turns: self, socket, torn: Cell::new(false) })
    }

    /// Has anyone the turn? Who has it looks into the session's queue after it.
    pub(super) fn are_taken(&self) -> bool {
        self.lock().taken
    }
}

impl Turn<'_> {
    /// Sends all of it, a message or a part of one. A client that takes nothing for `stall` is given up.
    ///
    /// # Errors
    /// What the socket reports; `TimedOut`.
    pub(super) fn send(&self, mut bytes: &[u8], stall: Duration, busy: &Busy<'_>) -> io::Result<()> {
        self.torn.set(true);
        let (mut since, mut out) = (None, None);
        loop {
            let (taken, all_left) = self.socket.send_at_once(bytes)?;
            bytes = bytes.get(taken..).unwrap_or_default();
            if all_left && bytes.is_empty() {
                return Ok(());
            }
            if all_left {
                continue;
            }
            let start = *since.get_or_insert_with(Instant::now);
            let patience = PATIENCE.saturating_sub(start.elapsed());
            if out.is_none() && (patience.is_zero() || !self.socket.wait_for_room(patience)?) {
                self.takes_long();
                out = Some(busy.step_out());
            }
            if out.is_some() && !self.socket.wait_for_room(stall)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// All of the message has been sent.
    pub(super) fn end(self) {
        self.torn.set(false);
    }

    /// Helpers are not to wait for the end of it.
    pub(super) fn takes_long(&self) {
        self.turns.lock().long = true;
        self.turns.free.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.torn.get() {
            // Before anybody else has the turn: after it would be too late.
            self.socket.hang_up();
        }
        let mut state = self.turns.lock();
        state.taken = false;
        state.long = false;
        if state.waiting > 0 {
            self.turns.free.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::Pool;
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const STALL: Duration = Duration::from_secs(60);

    /// What a client gets when `first` has the turn and another thread, with a message of its own, waits for it.
    fn received(first: impl FnOnce(Turn<'_>, &Busy<'_>)) -> Vec<u8> {
        let (mut client, server) = UnixStream::pair().unwrap();
        let (socket, turns, pool) = (Socket::Unix(server), Turns::default(), Pool::start(1).unwrap());
        let busy = pool.busy();
        let turn = turns.take(&socket, &busy).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let busy = pool.busy();
                let turn = turns.take(&socket, &busy).unwrap();
                if turn.send(b"another", STALL, &busy).is_ok() {
                    turn.end();
                }
            });
            while turns.lock().waiting == 0 {
                std::thread::yield_now();
            }
            first(turn, &busy);
        });
        pool.close();
        drop(socket);
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        received
    }

    #[test]
    fn a_message_that_is_cut_off_is_not_completed_with_the_next_ones_bytes() {
        let cut_off = received(|turn, busy| turn.send(b"half of o", STALL, busy).unwrap());
        assert_eq!(cut_off, b"half of o");
        let in_a_panic = received(|turn, busy| {
            let panics = move || {
                turn.send(b"half of o", STALL, busy).unwrap();
                // Unlike a panic it writes nothing to the test's output.
                std::panic::resume_unwind(Box::new("in the middle"));
            };
            catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
        });
        assert_eq!(in_a_panic, b"half of o");
    }

    #[test]
    fn the_next_message_follows_one_that_is_whole() {
        let both = received(|turn, busy| {
            turn.send(b"o", STALL, busy).unwrap();
            turn.send(b"ne, ", STALL, busy).unwrap();
            turn.end();
        });
        assert_eq!(both, b"one, another");
        assert_eq!(received(|turn, _| drop(turn)), b"another");
    }
}
