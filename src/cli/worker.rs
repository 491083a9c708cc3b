//! The process that parses: receives a job and open descriptors from the supervisor, and does the door's work.
//! It ends when the supervisor does.

use super::{Common, Exit, out};
use crate::error::{Error, ErrorKind, Result};
use crate::host::handoff::{Channel, Task};
use crate::host::inherited::Inherited;
use clap::Parser;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Arguments: none, everything comes over standard input.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// The command line of a worker: nothing but what the environment says.
#[derive(Debug, Parser)]
#[command(name = "imgmount")]
struct Bare {
    #[command(flatten)]
    common: Common,
}

/// Is this process to be a worker? Asked before anything else: to put the whole command together, every verb with its
/// options, takes longer than to open an image.
pub(super) fn is_asked_for() -> bool {
    let mut words = std::env::args_os().skip(1);
    words.next().is_some_and(|word| word == "internal-worker") && words.next().is_none()
}

/// A worker's life, from its first moment on.
pub(super) fn main() -> Exit {
    // All that it is to have comes over standard input.
    Inherited::look().close();
    match Bare::try_parse_from(["imgmount"]) {
        Ok(Bare { common }) => {
            out::init(&common);
            super::ended(run(&Args {}, &common), &common)
        }
        Err(error) => {
            drop(error.print());
            Exit(2)
        }
    }
}

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
    let panicked = |_| Err(Error::new(ErrorKind::Internal, "the process that reads the image panicked"));
    catch_unwind(AssertUnwindSafe(|| work(task))).unwrap_or_else(panicked).or_else(|error| {
        // The supervisor has it to report; without one, we have.
        if channel.failed(&error).is_err() {
            out::report(&error, common);
        }
        Ok(Exit::of(&error))
    })
}
