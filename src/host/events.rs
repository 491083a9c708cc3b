//! What a supervisor waits for: signals, its worker, and the end of whoever started it.

use super::handoff::Channel;
use crate::error::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::PidfdFlags;
use serde_json::Value;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// How long a look goes on that waits for nothing.
const NOT_AT_ALL: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A signal came.
    Signal(i32),
    /// The worker said something unasked.
    Said(Value),
    /// The process that we are to end with has ended.
    ParentEnded,
}

/// The one place where a supervisor waits.
#[derive(Debug)]
pub struct Events {
    signals: SignalDelivery<UnixStream, SignalOnly>,
    parent: Option<OwnedFd>,
    waiting: VecDeque<Event>,
    /// The worker's side of its connection is closed; its end is told by SIGCHLD.
    is_silent: bool,
}

impl Events {
    /// Receives these signals from now on; and the end of `parent`, from [`parent`].
    ///
    /// # Errors
    /// `Host` when signals cannot be received.
    pub fn new(signals: &[i32], parent: Option<OwnedFd>) -> Result<Self> {
        let failed = |error| Error::new(ErrorKind::Host, "signals cannot be received").caused_by(error);
        let (read, write) = UnixStream::pair().map_err(failed)?;
        let signals = SignalDelivery::with_pipe(read, write, SignalOnly, signals).map_err(failed)?;
        Ok(Self { signals, parent, waiting: VecDeque::new(), is_silent: false })
    }

    /// The next event that has happened already.
    pub fn pending(&mut self) -> Option<Event> {
        self.look(None, Some(&NOT_AT_ALL));
        self.waiting.pop_front()
    }

    /// Waits for the next event.
    pub fn wait(&mut self, worker: &Channel) -> Event {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            self.look(Some(worker), None);
        }
    }

    fn look(&mut self, worker: Option<&Channel>, patience: Option<&Timespec>) {
        let worker = worker.filter(|_| !self.is_silent);
        let mut fds = vec![PollFd::new(self.signals.get_read(), PollFlags::IN)];
        let at_parent = self.parent.as_ref().map(|parent| {
            fds.push(PollFd::new(parent, PollFlags::IN));
            fds.len().saturating_sub(1)
        });
        let at_worker = worker.map(|worker| {
            fds.push(PollFd::new(worker, PollFlags::IN));
            fds.len().saturating_sub(1)
        });
        // A signal that interrupts it is found below.
        let _ = poll(&mut fds, patience);
        let is_up =
            |at: Option<usize>| at.and_then(|at| fds.get(at)).is_some_and(|fd| !fd.revents().is_empty());
        let (parent_ended, said) = (is_up(at_parent), is_up(at_worker));
        drop(fds);
        self.waiting.extend(self.signals.pending().map(Event::Signal));
        if parent_ended {
            self.parent = None;
            self.waiting.push_back(Event::ParentEnded);
        }
        if said && let Some(worker) = worker {
            match worker.receive::<Value>() {
                Ok(Some((value, _))) => self.waiting.push_back(Event::Said(value)),
                _ => self.is_silent = true,
            }
        }
    }
}

/// The process that started this one, held so that its end is seen and its number cannot come to mean another.
///
/// # Errors
/// `Host` when it has ended already, or when the kernel is older than 5.3.
pub fn parent() -> Result<OwnedFd> {
    let gone = || Error::new(ErrorKind::Host, "whoever started this has ended already");
    let pid = rustix::process::getppid().ok_or_else(gone)?;
    let parent = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| {
        Error::new(ErrorKind::Host, "the end of another process cannot be seen").caused_by(errno)
    })?;
    // Only if it still is our parent, it was when it was looked for.
    if rustix::process::getppid() == Some(pid) { Ok(parent) } else { Err(gone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_a_word_and_an_end_are_told() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let held = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let mut events = Events::new(&[signal_hook::consts::SIGUSR2], Some(held)).unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::from(theirs);
        assert_eq!(events.pending(), None);
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR2).unwrap();
        assert_eq!(events.wait(&ours), Event::Signal(signal_hook::consts::SIGUSR2));
        theirs.send(&"idle", &[]).unwrap();
        assert_eq!(events.wait(&ours), Event::Said(Value::from("idle")));
        drop(theirs);
        child.kill().unwrap();
        assert_eq!(events.wait(&ours), Event::ParentEnded);
        child.wait().unwrap();
    }

    #[test]
    fn the_test_harness_is_alive() {
        assert!(parent().is_ok());
    }
}
