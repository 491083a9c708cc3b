//! A door: one listener, from which clients are let in no faster than they can be told apart.
//!
//! A mute connection costs its sender less than it costs us. Past an honest rate the rest waits in the kernel's queue,
//! where it costs those who are served nothing; and the door wakes up for many at once, not for each.

use super::{Client, Listener};
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Clients let in at once, before the door is shut for the rest of a [`SPELL`].
const BURST: u32 = 100;
/// See [`BURST`]: 2000 a second. The kernel's queue has 4096 places, so that who comes last waits for two seconds.
const SPELL: Duration = Duration::from_millis(50);
/// Pause after an `accept` that failed: long enough for descriptors to come back.
const FAILED: Duration = Duration::from_millis(10);

/// What a door reports.
pub(super) enum Arrival {
    /// Somebody has come in.
    Client(Client),
    /// Somebody is kept out, because descriptors or memory have run out.
    Kept,
}

/// How many may still come in before the next pause.
struct Pace {
    left: u32,
    spell_ends: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { left: 0, spell_ends: Instant::now() }
    }

    /// Waits, once enough have come, for the end of the spell in which they came.
    async fn keep(&mut self) {
        if self.left == 0 {
            tokio::time::sleep_until(self.spell_ends).await;
        }
        if self.left == 0 || self.spell_ends <= Instant::now() {
            let end = Instant::now().checked_add(SPELL);
            *self = Self { left: BURST, spell_ends: end.unwrap_or(self.spell_ends) };
        }
    }

    const fn one_came(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

/// A listener of either family.
enum Door {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

impl Door {
    fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Self::Unix(tokio::net::UnixListener::from_std(listener)?)
            }
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Self::Tcp(tokio::net::TcpListener::from_std(listener)?)
            }
        })
    }

    async fn accept(&self) -> io::Result<Client> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Client::Unix(stream)),
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Client::Tcp(stream)),
        }
    }
}

/// Lets clients in for as long as the set lives.
pub(super) fn open(
    listener: Listener,
    arrivals: mpsc::Sender<Arrival>,
    doors: &mut JoinSet<()>,
) -> io::Result<()> {
    let door = Door::new(listener)?;
    doors.spawn(async move {
        let mut pace = Pace::new();
        let mut failing = false;
        loop {
            pace.keep().await;
            let arrival = match door.accept().await {
                Ok(client) => {
                    failing = false;
                    pace.one_came();
                    Arrival::Client(client)
                }
                Err(error) => {
                    // Said once, however often it is tried.
                    if !failing {
                        tracing::warn!("nbd: accept: {error}");
                    }
                    failing = true;
                    tokio::time::sleep(FAILED).await;
                    Arrival::Kept
                }
            };
            // The receiver lives as long as the doors do.
            drop(arrivals.send(arrival).await);
        }
    });
    Ok(())
}
