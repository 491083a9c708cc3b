//! `-- CMD`: a command that runs in the mount, whose end is the mount's.

use super::supervise::{Mounted, NOT_SET_UP, host, worker_end};
use crate::cli::Exit;
use crate::cli::out;
use crate::error::Result;
use crate::host::events::{Event, Events};
use crate::text::escape;
use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};

/// `-- CMD` could not be run, found: the codes of env(1) and its like.
const NOT_RUN: Exit = Exit(126);
const NOT_FOUND: Exit = Exit(127);

/// Runs a command in the mount. What ends us ends the command, the second time for certain; its status is then ours. A
/// worker that fails is told at once, and no command has succeeded without it.
pub(super) fn run(command: &[OsString], mounted: &mut Mounted<'_>, events: &mut Events) -> Result<Exit> {
    let [program, args @ ..] = command else { return Ok(NOT_FOUND) };
    let point = mounted.point;
    let spawned = Command::new(program).args(args).current_dir(point).env("IMGMOUNT_ROOT", point).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let line = escape(program.as_bytes()).to_string();
            out::complain(
                &host(line)
                    .caused_by(error)
                    .help("CMD is looked for in $PATH of this host, not in the image"),
            );
            return Ok(if missing { NOT_FOUND } else { NOT_RUN });
        }
    };
    let mut was_told = false;
    let mut worker = None;
    // The first look is without a signal: whoever waited for the worker may have taken it.
    let mut event = Event::Signal(SIGCHLD);
    loop {
        match event {
            Event::Signal(SIGTERM | SIGHUP) | Event::ParentEnded => {
                send(&child, if was_told { Signal::KILL } else { Signal::TERM });
                was_told = true;
            }
            // The terminal has sent these to the command, too.
            Event::Signal(SIGINT | SIGQUIT) => {}
            Event::Signal(SIGUSR1) => mounted.worker.signal(Signal::USR1),
            Event::Signal(SIGCHLD) => {
                let status = child.try_wait().ok().flatten();
                if worker.is_none() {
                    worker = worker_end(mounted).unwrap_or_else(|error| {
                        out::complain(&error);
                        Some(Exit::of(&error))
                    });
                }
                if let Some(status) = status {
                    return Ok(if status.success() { worker.unwrap_or(Exit::OK) } else { exit_of(status) });
                }
            }
            Event::Signal(_) | Event::Said(_) => {}
        }
        event = events.wait(mounted.worker.channel());
    }
}

fn send(child: &Child, signal: Signal) {
    let _ = rustix::process::kill_process(Pid::from_child(child), signal);
}

fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    Exit(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_SET_UP.0))
}
