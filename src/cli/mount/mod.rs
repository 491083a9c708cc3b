//! `imgmount IMAGE MOUNTPOINT`: the guest's files as a directory of the host.
//!
//! ```text
//!   this command ── starts itself again ──▶ supervisor ── hands over open files ──▶ worker
//!     waits, prints one line, ends            mounts, waits, unmounts                parses, answers
//! ```
//! In the foreground, with `-f` or `-- CMD`, this command is the supervisor.

use super::{Common, Exit, IN_BACKGROUND, out, plan, unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::host::handoff::{Channel, WireKeys};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

mod options;
mod show;
mod supervise;
mod work;

pub(super) use work::work;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: a path or URL
    #[arg(required = true, value_name = "IMAGE")]
    image: Option<OsString>,
    /// An existing empty directory; without it, one is made for the time of CMD
    #[arg(required_unless_present = "command", value_name = "MOUNTPOINT")]
    mountpoint: Option<PathBuf>,
    /// What to show: the guest's root, everything, or disks only
    #[arg(long, value_enum, default_value_t, env = "IMGMOUNT_VIEW", help_heading = "Mount")]
    view: show::What,
    /// Stay in the foreground
    #[arg(short = 'f', long, help_heading = "Mount")]
    foreground: bool,
    /// Mount options: exec, allow_other, nonempty; those of fstab are accepted
    #[arg(short = 'o', value_name = "LIST", value_delimiter = ',', help_heading = "Mount")]
    options: Vec<String>,
    /// Whose the files seem to be: guest, me, or UID:GID
    #[arg(long, value_name = "WHO", default_value = "guest", value_parser = options::owner, env = "IMGMOUNT_OWNER", help_heading = "Mount")]
    owner: options::Who,
    /// How symbolic links are shown: so that they stay in the mount, or as stored
    #[arg(long, value_enum, default_value_t, env = "IMGMOUNT_SYMLINKS", help_heading = "Mount")]
    symlinks: options::Links,
    /// Which extended attributes are shown; safe leaves out those that this host's kernel would act on
    #[arg(long, value_enum, default_value_t, env = "IMGMOUNT_XATTRS", help_heading = "Mount")]
    xattrs: options::Attributes,
    /// Threads that answer [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), env = "IMGMOUNT_THREADS", help_heading = "Mount")]
    threads: Option<u16>,
    /// Time in which the mount must be ready
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = plan::duration, env = "IMGMOUNT_TIMEOUT", help_heading = "Mount")]
    timeout: Duration,
    /// Make the mount point if it is not there
    #[arg(long, help_heading = "Mount")]
    mkdir: bool,
    /// Write the process id there
    #[arg(long, value_name = "FILE", help_heading = "Mount")]
    pid_file: Option<PathBuf>,
    /// Write a line to this descriptor when ready
    #[arg(long, value_name = "N", help_heading = "Mount")]
    ready_fd: Option<u32>,
    /// Write the log of the background there
    #[arg(long, value_name = "FILE", help_heading = "Mount")]
    log_file: Option<PathBuf>,
    /// Run this in the mount, then unmount; exit with its status. It finds $IMGMOUNT_ROOT
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What the user hears when the mount is ready.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    line: String,
    notes: Vec<String>,
    facts: serde_json::Value,
}

impl Ready {
    fn tell(&self, common: &Common) {
        for note in &self.notes {
            out::say(common, &format!("imgmount: {note}"));
        }
        out::say(common, &self.line);
        if common.json {
            out::json(&self.facts);
        }
    }
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    if std::env::var_os(IN_BACKGROUND).is_some() {
        return behind(args, common);
    }
    if !args.command.is_empty() {
        // What goes wrong before CMD runs must not look like CMD's own end.
        return supervise::supervise(args, common, |_| true).or_else(|error| {
            if error.kind() == ErrorKind::Usage {
                return Err(error);
            }
            out::report(&error, common);
            Ok(supervise::NOT_SET_UP)
        });
    }
    let waited_for = std::env::var_os("NOTIFY_SOCKET").is_some() || std::process::id() == 1;
    if args.foreground || waited_for {
        return supervise::supervise(args, common, |ready| {
            ready.tell(common);
            true
        });
    }
    before(args, common)
}

/// The user's command: starts the supervisor in the background and waits until the mount answers.
fn before(args: &Args, common: &Common) -> Result<Exit> {
    let image = args.image.as_deref().unwrap_or_default();
    let ready = unlock::with_keys(image, common, |keys| attempt(args, &keys.as_ref().into()))?;
    ready.tell(common);
    Ok(Exit::OK)
}

/// One attempt with these keys.
fn attempt(args: &Args, keys: &WireKeys) -> Result<Ready> {
    let failed =
        |error: std::io::Error| Error::new(ErrorKind::Host, "cannot go to the background").caused_by(error);
    let log = match &args.log_file {
        None => Stdio::null(),
        Some(path) => {
            let file = std::fs::File::options().append(true).create(true).open(path);
            let shown = || crate::locator::Locator::Path(path.clone()).to_string();
            Stdio::from(file.map_err(|error| Error::new(ErrorKind::Host, shown()).caused_by(error))?)
        }
    };
    let (channel, theirs) = Channel::pair()?;
    let mut supervisor = Command::new("/proc/self/exe")
        .arg0("imgmount")
        .args(std::env::args_os().skip(1))
        .env(IN_BACKGROUND, "1")
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    // It keeps the time itself.
    let ready = channel.send(keys, &[]).and_then(|()| channel.answer());
    if ready.is_err() {
        // It has something to clean up, and only its end says that this is done.
        drop(supervisor.wait());
    }
    serde_json::from_value(ready?)
        .map_err(|error| Error::new(ErrorKind::Internal, "the supervisor's answer").caused_by(error))
}

/// The supervisor in the background: in a session of its own, so that closing the terminal does not end it.
fn behind(args: &Args, common: &Common) -> Result<Exit> {
    let before = Channel::from_stdin()?;
    let Some((keys, _)) = before.receive::<WireKeys>()? else { return Ok(Exit::OK) };
    let common = &Common { keys: Arc::new(keys.try_into()?), ..common.clone() };
    rustix::process::setsid()
        .map_err(|errno| Error::new(ErrorKind::Host, "cannot start a session").caused_by(errno))?;
    let mut told = false;
    let end = supervise::supervise(args, common, |ready| {
        told = true;
        // Everything is open by now; where the command was started need not be held.
        drop(std::env::set_current_dir("/"));
        // A command that was interrupted while it waited wants no mount.
        serde_json::to_value(ready).is_ok_and(|ready| before.ready(ready).is_ok())
    });
    if end.is_ok() && !told {
        let error = Error::new(ErrorKind::Host, "ended by a signal before the mount was ready");
        before.failed(&error)?;
        return Ok(Exit::of(&error));
    }
    end.or_else(|error| {
        if told {
            return Err(error);
        }
        before.failed(&error)?;
        Ok(Exit::of(&error))
    })
}
