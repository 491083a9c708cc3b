//! The worker of a mount: parses the image it was handed, makes the view, and answers the kernel.

use super::options::{Attributes, Links, Who};
use super::show::{self, What};
use crate::cli::{Common, Exit, plan};
use crate::error::{Error, ErrorKind, Result};
use crate::host::handoff::Task;
use crate::serve::fuse::{self, Troubles};
use crate::stack::{self, Options};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

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
    /// Where, escaped: for `.imgmount/status`.
    pub(super) point: String,
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
    let options = Options { keys: Arc::new(std::mem::take(&mut task.keys)), ..plan::options(&order.common) };
    let stack = Arc::new(stack::open(given, &options)?);
    let troubles = Arc::new(Troubles::default());
    let status = |view| status(&order, view);
    let shown = show::view(&stack, order.view, status, &troubles);
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
    let supervisor = task.channel.try_clone()?;
    std::thread::spawn(move || {
        supervisor.wait_for_end();
        std::process::exit(0);
    });
    let options = fuse::Options {
        owner: order.owner.for_user(order.user),
        own: order.user,
        symlinks: order.symlinks.into(),
        xattrs: order.xattrs.into(),
        threads: order.threads.map_or_else(|| fuse::Options::default().threads, usize::from),
    };
    fuse::serve(Arc::new(shown.view), device, options, troubles, || drop(task.channel.ready(Value::Null)))?;
    Ok(Exit::OK)
}

/// What `imgmount unmount` reads: whom to wait for.
fn status(order: &Order, view: What) -> String {
    let status = json!({
        "schema": "imgmount.status/1",
        "image": order.image,
        "mountpoint": order.point,
        "view": view,
        "supervisor": order.supervisor,
        "worker": std::process::id(),
        "since": jiff::Timestamp::now().to_string(),
    });
    format!("{status:#}\n")
}
