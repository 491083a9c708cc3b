//! The process that parses: receives a job and open descriptors from the supervisor, and does the door's work.
//! It ends when the supervisor does.

use super::{Common, Exit, out};
use crate::error::{Error, ErrorKind, Result};
use crate::host::handoff::{Channel, Task};

/// Arguments: none, everything comes over standard input.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Does a door's work with what it was handed. Calls `task.channel.ready(...)` once it has begun.
type Work = fn(Task) -> Result<Exit>;

/// Every door that has a worker.
const DOORS: &[(&str, Work)] = &[("mount", super::mount::work), ("serve", super::serve::work)];

pub(super) fn run(_args: &Args, common: &Common) -> Result<Exit> {
    let task = Task::receive(Channel::from_stdin()?)?;
    let Some((_, work)) = DOORS.iter().find(|(door, _)| *door == task.door) else {
        return Err(Error::new(ErrorKind::Internal, format!("no door is called '{}'", task.door)));
    };
    let channel = task.channel.try_clone()?;
    work(task).or_else(|error| {
        // Before it was ready the supervisor reports the error; after that, or without a supervisor, we do.
        if channel.failed(&error).is_err() {
            out::report(&error, common);
        }
        Ok(Exit::of(&error))
    })
}
