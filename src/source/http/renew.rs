//! Fresh links for an object whose signed link has expired: printed by the user's own command (`--url-command`).
//!
//! ```text
//! 403 ─▶ has another reader got a fresh link meanwhile? ── yes ─▶ try that
//!                    └ no ─▶ sh -c CMD, one at a time, at most once in a while ─▶ its first line is the link
//! ```
//! The object behind the fresh link must be the same by length and validator, or it has changed. The link is a secret like
//! every other, and the command is the user's, never the image's.

use crate::error::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest line that is taken for a link.
const MAX_LINE: usize = 64 << 10;
/// How often a command is looked at that has said everything and does not end.
const PAUSE: Duration = Duration::from_millis(10);

/// How the command ran last time.
pub(super) struct Run {
    pub(super) ended: Instant,
    pub(super) failed: Option<Error>,
}

/// The command, and when it may run again.
pub(super) struct Renewal {
    command: String,
    /// The object's URL without login and query: `$IMGMOUNT_OBJECT`.
    object: String,
    /// For one run.
    time: Duration,
    /// Between two runs.
    pub(super) interval: Duration,
    last: Mutex<Option<Run>>,
}

impl Renewal {
    pub(super) fn new(command: String, object: String, time: Duration, interval: Duration) -> Self {
        Self { command, object, time, interval, last: Mutex::default() }
    }

    /// The right to run it. Whoever else wants to waits until it is given back.
    pub(super) fn turn(&self) -> MutexGuard<'_, Option<Run>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the command; what it printed.
    ///
    /// # Errors
    /// `Source` when it cannot be run, fails, says nothing or takes too long.
    pub(super) fn run(&self) -> Result<String> {
        let failed =
            |what: String| Error::new(ErrorKind::Source, format!("{}: --url-command {what}", self.object));
        tracing::debug!("{}: the link has expired; running --url-command", self.object);
        let spawned = Command::new("sh")
            .args(["-c", &self.command])
            .env("IMGMOUNT_OBJECT", &self.object)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A group of its own, so that it can be ended with all that it started.
            .process_group(0)
            .spawn();
        let mut child = spawned.map_err(|error| failed("cannot be run".to_owned()).caused_by(error))?;
        let said = self.listen(&mut child);
        if said.is_none()
            && let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let ended = child.wait();
        let Some(said) = said else {
            return Err(failed(format!("has not answered within {:?}", self.time)));
        };
        match ended {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(failed(format!("failed: {status}"))),
            Err(error) => return Err(failed("cannot be waited for".to_owned()).caused_by(error)),
        }
        let line = String::from_utf8_lossy(&said);
        match line.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
            Some(line) => Ok(line.to_owned()),
            None => Err(failed("printed no link".to_owned())),
        }
    }

    /// All that the command says until it ends, or `None` when the time is over.
    fn listen(&self, child: &mut Child) -> Option<Vec<u8>> {
        let until = super::tries::after(Instant::now(), self.time);
        let mut said = Vec::new();
        if let Some(mut pipe) = child.stdout.take() {
            loop {
                let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok()?;
                match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(_) => return None,
                }
                let mut part = [0; 4096];
                match pipe.read(&mut part) {
                    Ok(0) => break,
                    Ok(got) => {
                        let room = MAX_LINE.saturating_sub(said.len());
                        said.extend(part.iter().take(got.min(room)));
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => return None,
                }
            }
        }
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a command that answers, on the slowest machine.
    const LONG: Duration = Duration::from_secs(20);
    /// For one that does not.
    const SHORT: Duration = Duration::from_millis(500);

    fn run(command: &str, time: Duration) -> Result<String> {
        let object = "https://h/d.img".to_owned();
        Renewal::new(command.to_owned(), object, time, Duration::ZERO).run()
    }

    #[test]
    fn the_first_line_is_the_link() {
        assert_eq!(run("echo ' http://a/b?c '; echo x", LONG).unwrap(), "http://a/b?c");
        assert_eq!(run("echo \"$IMGMOUNT_OBJECT?sig=1\"", LONG).unwrap(), "https://h/d.img?sig=1");
    }

    #[test]
    fn a_command_that_fails_says_nothing_or_takes_too_long_is_named() {
        for (command, time, text) in [
            ("echo http://a/secret; exit 3", LONG, "failed: exit status: 3"),
            ("true", LONG, "printed no link"),
            ("sleep 60", SHORT, "has not answered within 500ms"),
            ("exec >&-; sleep 60", SHORT, "has not answered within 500ms"),
            ("sleep 60 & echo http://a/b", SHORT, "has not answered within 500ms"),
        ] {
            let start = Instant::now();
            let error = run(command, time).unwrap_err();
            assert!(error.to_string().contains(text), "{command}: {error}");
            assert!(!error.chain().contains("secret"), "{error}");
            assert!(start.elapsed() < Duration::from_secs(20), "{command}");
        }
    }
}
