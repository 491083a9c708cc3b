//! `imgmount IMAGE MOUNTPOINT`: the guest's files as a directory of the host.
//!
//! ```text
//!   this command ── starts itself again ──▶ supervisor ── hands over open files ──▶ worker
//!     waits, prints one line, ends            mounts, waits, unmounts                parses, answers
//! ```
//! In the foreground, with `-f` or `-- CMD`, this command is the supervisor.

use super::{Common, Exit, IN_BACKGROUND, out, plan, unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::host::events;
use crate::host::handoff::{Channel, WireKeys};
use crate::host::inherited::Inherited;
use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGINT;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

mod captive;
mod options;
mod show;
mod spoken;
mod supervise;
mod tell;
mod work;

pub(super) use spoken::{OPTIONS, is_helper, mount_code, translate};
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
    #[arg(short = 'f', long, env = "IMGMOUNT_FOREGROUND", value_parser = plan::yes_or_no(), help_heading = "Mount")]
    foreground: bool,
    /// Mount options: exec, allow_other, default_permissions, nonempty, and every long option as NAME or NAME=VALUE; those of fstab are accepted
    #[arg(short = 'o', value_name = "LIST", env = OPTIONS, help_heading = "Mount")]
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
    /// What a read of damaged or unreachable content gives
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value_t,
        env = "IMGMOUNT_ON_ERROR",
        help_heading = "Mount"
    )]
    on_error: options::OnError,
    /// Threads that answer [default: one for each processor, two at least]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), env = "IMGMOUNT_THREADS", help_heading = "Mount")]
    threads: Option<u16>,
    /// Time in which the mount must be ready
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = plan::duration, env = "IMGMOUNT_TIMEOUT", help_heading = "Mount")]
    timeout: Duration,
    /// Unmount when nobody has asked for anything for so long and nobody holds anything in it: 90s, 5m, 2h
    #[arg(long, value_name = "TIME", value_parser = plan::duration, env = "IMGMOUNT_IDLE_EXIT", help_heading = "Mount")]
    idle_exit: Option<Duration>,
    /// Unmount when the process ends that started this one
    #[arg(long, env = "IMGMOUNT_EXIT_WITH_PARENT", value_parser = plan::yes_or_no(), help_heading = "Mount")]
    exit_with_parent: bool,
    /// Make the mount point if it is not there
    #[arg(long, env = "IMGMOUNT_MKDIR", value_parser = plan::yes_or_no(), help_heading = "Mount")]
    mkdir: bool,
    /// Write the process id there
    #[arg(long, value_name = "FILE", env = "IMGMOUNT_PID_FILE", help_heading = "Mount")]
    pid_file: Option<PathBuf>,
    /// Write a line to this descriptor when ready
    #[arg(long, value_name = "N", env = "IMGMOUNT_READY_FD", help_heading = "Mount")]
    ready_fd: Option<u32>,
    /// Write the log of the background there
    #[arg(long, value_name = "FILE", env = "IMGMOUNT_LOG_FILE", help_heading = "Mount")]
    log_file: Option<PathBuf>,
    /// Be the helper of mount(8): go to the background whatever the environment says
    #[arg(long, hide = true)]
    helper: bool,
    /// Do everything but mount, as mount -f
    #[arg(long, hide = true)]
    fake: bool,
    /// Pass over unknown words of -o, as mount -s
    #[arg(long, hide = true)]
    sloppy: bool,
    /// Named by mount -N, which we cannot do
    #[arg(short = 'N', hide = true)]
    namespace: bool,
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

/// How mount(8) calls the end of its helper by the user's Ctrl-C.
const INTERRUPTED: i32 = 8;

impl Args {
    /// What `-o` says.
    fn flags(&self) -> Result<options::Flags> {
        if self.namespace {
            let error =
                Error::new(ErrorKind::Usage, "-N: a mount in another name space is not made from here");
            return Err(error.help("nsenter -m -t PID imgmount IMAGE MOUNTPOINT"));
        }
        options::Flags::parse(&self.options, self.sloppy)
    }
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
    // Before anything is opened: a wrong word is told at once.
    args.flags()?;
    if args.fake {
        return Ok(Exit::OK);
    }
    let parent = if args.exit_with_parent { Some(events::parent()?) } else { None };
    if !args.command.is_empty() {
        // What goes wrong before CMD runs must not look like CMD's own end.
        return supervise::supervise(args, common, parent, |_| true).or_else(|error| {
            if error.kind() == ErrorKind::Usage {
                return Err(error);
            }
            out::report(&error, common);
            Ok(supervise::NOT_SET_UP)
        });
    }
    let waited_for = !args.helper && (std::env::var_os("NOTIFY_SOCKET").is_some() || std::process::id() == 1);
    if args.foreground || waited_for {
        return supervise::supervise(args, common, parent, |ready| {
            ready.tell(common);
            true
        });
    }
    before(args, common, parent.as_ref())
}

/// The user's command: starts the supervisor in the background and waits until the mount answers.
fn before(args: &Args, common: &Common, parent: Option<&OwnedFd>) -> Result<Exit> {
    if args.helper {
        // mount(8) calls an interrupt 8. The supervisor sees that we are gone.
        let always = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let _ = signal_hook::flag::register_conditional_shutdown(SIGINT, INTERRUPTED, always);
    }
    let image = args.image.as_deref().unwrap_or_default();
    let ready = unlock::with_keys(image, common, |keys| attempt(args, &keys.as_ref().into(), parent))?;
    ready.tell(common);
    Ok(Exit::OK)
}

/// One attempt with these keys.
fn attempt(args: &Args, keys: &WireKeys, parent: Option<&OwnedFd>) -> Result<Ready> {
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
        .args(super::words(&super::command()).into_iter().skip(1))
        .env(IN_BACKGROUND, "1")
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    let parent: Vec<_> = parent.iter().map(AsFd::as_fd).collect();
    // It keeps the time itself.
    let ready = channel.send(keys, &parent).and_then(|()| channel.answer());
    if ready.is_err() {
        // It has something to clean up, and only its end says that this is done.
        drop(supervisor.wait());
    }
    serde_json::from_value(ready?)
        .map_err(|error| Error::new(ErrorKind::Internal, "the supervisor's answer").caused_by(error))
}

/// The supervisor in the background: in a session of its own, so that closing the terminal does not end it.
fn behind(args: &Args, common: &Common) -> Result<Exit> {
    let inherited = Inherited::look();
    let before = Channel::from_stdin()?;
    let Some((keys, descriptors)) = before.receive::<WireKeys>()? else { return Ok(Exit::OK) };
    let common = &Common { keys: Arc::new(keys.try_into()?), ..common.clone() };
    rustix::process::setsid()
        .map_err(|errno| Error::new(ErrorKind::Host, "cannot start a session").caused_by(errno))?;
    let mut told = false;
    let parent = descriptors.into_iter().next();
    let end = supervise::supervise(args, common, parent, |ready| {
        told = true;
        // Everything is open by now, of what the caller has open, too: --ready-fd, or an image in /dev/fd. Nor need it be
        // held where the command was started.
        inherited.close();
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
