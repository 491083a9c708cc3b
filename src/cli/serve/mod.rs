//! `imgmount serve`: the disk and its partitions over NBD.
//!
//! Two processes: this one opens the images, binds the sockets, waits and cleans up; the worker ([`work()`]) parses the
//! images and talks to the clients, with nothing but what it was handed.

use super::{Common, Exit, IN_BACKGROUND, out, plan, unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::host::handoff::{Channel, WireKeys};
use crate::host::inherited::Inherited;
use crate::host::notify;
use crate::text::defuse;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use supervise::supervise;

mod doors;
mod exports;
mod supervise;
mod tls;
mod uri;
mod work;

pub(super) use uri::socket_parameter;
pub(super) use work::work;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exports: '' and 'disk' are the whole disk, p1... the partitions; disk2, disk2/p1... \
                        those of an OVA's second disk; with several images \
                        NAME, NAME/p1... Example: imgmount serve disk.vmdk --run 'nbdinfo --list $uri'"
)]
pub(super) struct Args {
    /// Images: paths or URLs
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<OsString>,
    /// Listen on this unix socket [default: $XDG_RUNTIME_DIR/imgmount/NAME.sock]
    #[arg(short = 'k', long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen on this address
    #[arg(long, value_name = "ADDR:PORT")]
    tcp: Vec<String>,
    /// Allow --tcp on an address that others can reach: nobody is asked who they are
    #[arg(long)]
    insecure: bool,
    /// Serve while this shell command runs; it finds $uri ($uris of several images) and $unixsocket; exit with its status
    #[arg(long, value_name = "CMD", conflicts_with_all = ["fork", "once", "idle_exit"])]
    run: Option<OsString>,
    /// Print what would be served: name, size in bytes, what it is
    #[arg(long)]
    list: bool,
    /// End when the first clients have left
    #[arg(long)]
    once: bool,
    /// End when nobody was connected for so long: 90s, 5m, 2h
    #[arg(long, value_name = "TIME", value_parser = plan::duration)]
    idle_exit: Option<Duration>,
    /// Serve the (first) disk under this name, too
    #[arg(short = 'x', long, value_name = "NAME")]
    export_name: Option<String>,
    /// The image's format; as --format
    #[arg(short = 'f', value_name = "FMT")]
    short_format: Option<String>,
    /// Clients that are served at a time; one more is told so. A client that opens several connections counts as several; 0 is 100
    #[arg(short = 'e', long, value_name = "N", default_value_t = CLIENTS, value_parser = clap::value_parser!(u32).range(..=10_000))]
    shared: u32,
    /// Give up when the images are not open after so long [default: never]
    #[arg(long, value_name = "TIME", value_parser = plan::duration)]
    timeout: Option<Duration>,
    /// Answer there with what was read and served, for Prometheus, over HTTP
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<String>,
    /// Write to this file what else goes to stderr; append
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Go to the background when ready; under a service manager that waits for a word ($NOTIFY_SOCKET), stay
    #[arg(long)]
    fork: bool,
    /// Write the process id there
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Time a client has to say what it wants
    #[arg(long, value_name = "TIME", value_parser = plan::duration, default_value = "10s")]
    handshake_limit: Duration,
    #[command(flatten)]
    tls: tls::Args,
    /// Accepted, for those used to qemu-nbd: we always read only
    #[arg(short = 'r', long = "read-only", help_heading = "Compatibility")]
    read_only: bool,
    /// Accepted, for those used to qemu-nbd: we always go on after a client has left
    #[arg(short = 't', long, help_heading = "Compatibility")]
    persistent: bool,
}

/// Clients that are served at a time unless the user says otherwise.
const CLIENTS: u32 = 100;

impl Args {
    fn clients(&self) -> usize {
        // qemu-nbd's 0 is "as many as come".
        let clients = if self.shared == 0 { CLIENTS } else { self.shared };
        usize::try_from(clients).unwrap_or(usize::MAX)
    }
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let mut common = common.clone();
    common.format = args.short_format.clone().or(common.format);
    if args.list {
        return list(args, &common);
    }
    if args.fork && !notify::is_wanted() {
        return fork(args, &common);
    }
    if let Some(path) = &args.log_file {
        rustix::stdio::dup2_stderr(open_log(path)?).map_err(|errno| {
            Error::new(ErrorKind::Host, "stderr cannot be turned to the log file").caused_by(errno)
        })?;
    }
    supervise(args, &common, |line| {
        out::say(&common, line);
        true
    })
}

/// `--list`: parses here, as every verb does that ends by itself.
fn list(args: &Args, common: &Common) -> Result<Exit> {
    let names = exports::names(args);
    let mut exports = Vec::new();
    for (image, name) in args.images.iter().zip(&names) {
        exports.extend(exports::of(&plan::open(image, common)?, name));
    }
    exports::also(&mut exports, args.export_name.clone())?;
    if common.json {
        let exports = exports.iter().map(|export| {
            serde_json::json!({ "name": export.name, "size": export.source.len(), "about": export.about })
        });
        let exports: Vec<_> = exports.collect();
        out::json(&serde_json::json!({ "schema": "imgmount.serve/1", "exports": exports }));
    } else {
        for export in &exports {
            out::data(&format!(
                "{}\t{}\t{}\n",
                defuse(&export.name),
                export.source.len(),
                defuse(&export.about)
            ));
        }
    }
    Ok(Exit::OK)
}

fn open_log(path: &Path) -> Result<File> {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|error| Error::new(ErrorKind::Host, doors::shown(path)).caused_by(error))
}

/// `--fork`: the same command once more, in a session of its own; this one ends when that one is ready.
fn fork(args: &Args, common: &Common) -> Result<Exit> {
    let failed =
        |error: std::io::Error| Error::new(ErrorKind::Host, "cannot go to the background").caused_by(error);
    if std::env::var_os(IN_BACKGROUND).is_some() {
        let inherited = Inherited::look();
        let parent = Channel::from_stdin()?;
        let Some((keys, _)) = parent.receive::<WireKeys>()? else { return Ok(Exit::OK) };
        let common = &Common { keys: Arc::new(keys.try_into()?), ..common.clone() };
        rustix::process::setsid().map_err(|errno| failed(errno.into()))?;
        let mut told = false;
        let ready = |line: &str| {
            // Every image is open by now, those in /dev/fd, too.
            inherited.close();
            told = parent.ready(line.into()).is_ok();
            told
        };
        let end = supervise(args, common, ready);
        if end.is_ok() && !told {
            let error = Error::new(ErrorKind::Host, "ended by a signal before it was ready");
            drop(parent.failed(&error));
            return Ok(Exit::of(&error));
        }
        return end.or_else(|error| {
            // Once the parent has gone there is nobody to tell.
            drop(parent.failed(&error));
            Ok(Exit::of(&error))
        });
    }
    if std::env::var_os("LISTEN_FDS").is_some() {
        let error = Error::new(ErrorKind::Usage, "--fork together with sockets that were passed in");
        return Err(error.help("leave out --fork: whoever passes sockets also waits for the server"));
    }
    let log = args.log_file.as_deref().map(open_log).transpose()?;
    let log = || log.as_ref().map_or(Ok(std::process::Stdio::null()), |log| Ok(log.try_clone()?.into()));
    let line = unlock::with_keys_of(&images(args), common, |keys| {
        let (channel, theirs) = Channel::pair()?;
        let null = || std::process::Stdio::null();
        Command::new("/proc/self/exe")
            .args(std::env::args_os().skip(1))
            .env(IN_BACKGROUND, "1")
            .stdin(theirs)
            .stdout(null())
            .stderr(log().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        channel.send(&WireKeys::from(&**keys), &[])?;
        channel.answer()
    })?;
    out::say(common, line.as_str().unwrap_or_default());
    Ok(Exit::OK)
}

/// The images' names for people.
fn images(args: &Args) -> String {
    let names = args.images.iter().map(|image| plan::shown(image));
    names.collect::<Vec<_>>().join(", ")
}
