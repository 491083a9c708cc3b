//! The worker of a mount: parses the image it was handed, makes the view, and answers the kernel.

use super::options::{Attributes, Links, OnError, Who};
use super::show::{self, Texts, What};
use crate::cli::{Common, Exit, plan};
use crate::error::{Error, ErrorKind, Result};
use crate::host::handoff::{Channel, Task};
use crate::host::mount;
use crate::host::mounts::Known;
use crate::serve::fuse::{self, Troubles};
use crate::stack::{self, Options};
use crate::text::escape;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use signal_hook::consts::SIGUSR1;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the worker says when nobody has asked for anything for a while.
pub(super) const IDLE: &str = "idle";

/// What the worker is told besides the image.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) common: Common,
    pub(super) view: What,
    pub(super) owner: Who,
    pub(super) symlinks: Links,
    pub(super) xattrs: Attributes,
    pub(super) threads: Option<u16>,
    /// User and group who mount.
    pub(super) user: (u32, u32),
    /// The image's absolute name, escaped and redacted.
    pub(super) image: String,
    /// Where, as the bytes of an absolute path.
    pub(super) point: Vec<u8>,
    /// How it was mounted, in the words of `-o`: for `.imgmount/status`.
    pub(super) options: String,
    pub(super) on_error: OnError,
    /// Say so when nobody has asked for anything for so long.
    pub(super) idle: Option<Duration>,
    /// The supervisor's process id, for the same.
    pub(super) supervisor: u32,
}

/// What the worker found, told before anything is mounted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    /// As the order named it.
    pub(super) image: String,
    /// `Debian 12, 2 file systems`.
    pub(super) what: String,
    pub(super) view: What,
    pub(super) notes: Vec<String>,
    pub(super) warnings: Vec<String>,
}

fn internal(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "a message between the two processes").caused_by(error)
}

/// Does the work. The order of talk: found → the open `/dev/fuse` → begun.
pub(in crate::cli) fn work(mut task: Task) -> Result<Exit> {
    // Ctrl-C in the terminal is for the supervisor, which then unmounts.
    let _ = rustix::process::setpgid(None, None);
    let order: Order = serde_json::from_value(std::mem::take(&mut task.args)).map_err(internal)?;
    let missing = || Error::new(ErrorKind::Internal, "no image was handed over");
    let given = Arc::new(task.images.pop().ok_or_else(missing)?);
    tell_stats_when_asked()?;
    let options = Options { keys: Arc::new(std::mem::take(&mut task.keys)), ..plan::options(&order.common) };
    let stack = Arc::new(stack::open(given, &options)?);
    let troubles = Arc::new(Troubles::default());
    let shown = show::view(&stack, order.view, |view| Texts {
        image: order.image.clone(),
        status: status(&order, view),
        troubles: Arc::clone(&troubles),
    });
    let found = Found {
        image: order.image.clone(),
        what: show::describe(&stack),
        view: shown.what,
        notes: shown.notes,
        warnings: stack.warnings.clone(),
    };
    task.channel.ready(serde_json::to_value(found).map_err(internal)?)?;

    let Some((_, descriptors)) = task.channel.receive::<Value>()? else {
        // The supervisor gave up, and has said why.
        return Ok(Exit::OK);
    };
    let no_device = || Error::new(ErrorKind::Internal, "no /dev/fuse was handed over");
    let device = descriptors.into_iter().next().ok_or_else(no_device)?;
    let point = PathBuf::from(OsString::from_vec(order.point.clone()));
    leave_with_the_supervisor(task.channel.try_clone()?, &point)?;
    if let Some(idle) = order.idle {
        tell_when_idle(task.channel.try_clone()?, idle);
    }
    let options = fuse::Options {
        owner: order.owner.for_user(order.user),
        own: order.user,
        symlinks: order.symlinks.into(),
        xattrs: order.xattrs.into(),
        threads: order.threads.map_or_else(|| fuse::Options::default().threads, usize::from),
        zeros: order.on_error == OnError::Zero,
    };
    fuse::serve(Arc::new(shown.view), device, options, troubles, || drop(task.channel.ready(Value::Null)))?;
    Ok(Exit::OK)
}

/// Ends this process when the supervisor's end of the connection closes. A supervisor that was killed could not unmount,
/// and a mount that nobody answers for would stay: so we do, as long as it is ours that stands there.
fn leave_with_the_supervisor(supervisor: Channel, point: &Path) -> Result<()> {
    let mounted = Known::at(point)?;
    std::thread::spawn(move || {
        supervisor.wait_for_end();
        if let Some(mounted) = mounted {
            // In this order, so that holders get an error and the place is free.
            drop(mount::unmount_this(&mounted, true));
        }
        std::process::exit(0);
    });
    Ok(())
}

/// Tells the supervisor, again and again, while nobody asks for anything. It knows whether somebody holds something.
fn tell_when_idle(supervisor: Channel, idle: Duration) {
    let step =
        idle.checked_div(10).unwrap_or_default().clamp(Duration::from_millis(20), Duration::from_secs(10));
    std::thread::spawn(move || {
        let (mut seen, mut since) = (fuse::asked(), Instant::now());
        loop {
            std::thread::sleep(step);
            let now = fuse::asked();
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() >= idle && supervisor.send(&IDLE, &[]).is_err() {
                return;
            }
        }
    });
}

/// SIGUSR1 prints one line of numbers, to the terminal or the log.
fn tell_stats_when_asked() -> Result<()> {
    let failed = |error| Error::new(ErrorKind::Host, "signals cannot be received").caused_by(error);
    let mut signals = signal_hook::iterator::Signals::new([SIGUSR1]).map_err(failed)?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            drop(writeln!(std::io::stderr(), "{}", show::stats_line()));
        }
    });
    Ok(())
}

/// What `imgmount unmount` reads: whom to wait for.
fn status(order: &Order, view: What) -> String {
    let status = json!({
        "schema": "imgmount.status/1",
        "image": order.image,
        "mountpoint": escape(&order.point).to_string(),
        "view": view,
        "options": order.options,
        "supervisor": order.supervisor,
        "worker": std::process::id(),
        "since": jiff::Timestamp::now().to_string(),
    });
    format!("{status:#}\n")
}
