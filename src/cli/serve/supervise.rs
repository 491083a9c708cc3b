//! The supervisor of a server: opens the images, binds the sockets, starts the worker, waits, cleans up. It parses
//! nothing.

use super::doors::Doors;
use super::work::Order;
use super::{Args, exports, images};
use crate::cli::{Common, Exit, IN_BACKGROUND, metrics, plan, unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::host::handoff::Worker;
use crate::host::pid_file::PidFile;
use crate::host::{notify, register};
use crate::source::gate::Given;
use crate::text::defuse;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time the worker has to end after it was told to.
const FAREWELL: Duration = Duration::from_secs(8);

/// The supervisor. `say_ready` says whether anybody still wants it.
pub(super) fn supervise(args: &Args, common: &Common, say_ready: impl FnOnce(&str) -> bool) -> Result<Exit> {
    // A command that waits for us in the foreground, and is gone, wants no server.
    let waiting = std::env::var_os(IN_BACKGROUND).and_then(|_| rustix::process::getppid());
    let signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD]);
    let mut signals = signals
        .map_err(|error| Error::new(ErrorKind::Host, "signals cannot be received").caused_by(error))?;
    let given = args.images.iter().map(|image| plan::given(image, common)).collect::<Result<Vec<_>>>()?;
    let names = exports::names(args);
    let tls = args.tls.plan()?;
    let mut doors = Doors::open(args, &names, tls.as_ref())?;
    let mut entry = register::Entry::new();
    let metrics = args.metrics.as_deref().map(metrics::listen).transpose()?;
    let numbers = metrics.as_ref().map(metrics::url);
    let metrics: Option<OwnedFd> = metrics.map(OwnedFd::from);
    let order = Order {
        common: common.clone(),
        names: names.clone(),
        alias: args.export_name.clone(),
        once: args.once,
        idle_exit: args.idle_exit,
        handshake: args.handshake_limit,
        tls: tls.as_ref().map(|plan| plan.order().clone()),
        clients: args.clients(),
        metrics: metrics.is_some(),
        about: entry.as_ref().map(|_| about(&given, &doors)),
    };
    let order = serde_json::to_value(order).map_err(|error| {
        Error::new(ErrorKind::Internal, "the job cannot be written down").caused_by(error)
    })?;
    let given: Vec<&Given> = given.iter().map(|given| &**given).collect();
    let certificates = tls.iter().flat_map(|plan| plan.descriptors());
    let control = entry.as_ref().and_then(register::Entry::as_fd);
    let listeners = doors.listeners.iter().chain(metrics.as_ref()).map(|listener| listener.as_fd());
    // In the order in which the worker takes them.
    let descriptors: Vec<BorrowedFd<'_>> = certificates.chain(listeners).chain(control).collect();
    let mut ended_by = None;
    let (mut worker, facts) = unlock::with_keys_of(&images(args), common, |keys| {
        let worker = Worker::start("serve", order.clone(), &given, keys, &descriptors)?;
        let facts = worker.ready(args.timeout, || {
            ended_by = ended_by.or_else(|| signals.pending().find(|signal| *signal != SIGCHLD));
            ended_by.is_some() || waiting.is_some() && rustix::process::getppid() != waiting
        })?;
        Ok((worker, facts))
    })?;
    drop(descriptors);
    doors.listeners.clear();
    drop(metrics);
    entry.iter_mut().for_each(register::Entry::handed_over);
    let Some(facts) = facts else {
        // A clean end; but a command that never ran has not succeeded.
        return Ok(ended_by
            .filter(|_| args.run.is_some())
            .map_or(Exit::OK, |signal| exit_code(Some(signal.saturating_add(128)))));
    };

    let _pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    let mut command = args.run.as_ref().map(|command| captive(command, &doors, &names)).transpose()?;
    let mut line = ready_line(args, &doors, &facts);
    numbers.iter().for_each(|url| line.push_str(&format!("; numbers: {url}")));
    notify::ready(&line);
    // Whoever passed sockets knows where they are.
    if command.is_none() && !doors.passed && !say_ready(&line) {
        dismiss(&mut worker);
        return Ok(Exit::OK);
    }
    let end = wait(&mut signals, &mut worker, command.as_mut());
    notify::stopping();
    dismiss(&mut worker);
    end
}

/// Waits for the end of the captive command, whose status is then ours; without one, for the worker's end or a signal.
fn wait(
    signals: &mut signal_hook::iterator::Signals,
    worker: &mut Worker,
    mut command: Option<&mut Child>,
) -> Result<Exit> {
    let mut failed = None;
    let mut ended = false;
    // The first look is without a signal: whoever waited for the worker may have taken it.
    for signal in std::iter::once(SIGCHLD).chain(signals.forever()) {
        if signal != SIGCHLD {
            // What ends us ends the command.
            let Some(command) = command.as_deref() else { return Ok(Exit::OK) };
            terminate(command.id());
            continue;
        }
        if let Some(command) = command.as_deref_mut()
            && let Ok(Some(status)) = command.try_wait()
        {
            return failed.unwrap_or_else(|| Ok(exit_of(status)));
        }
        if ended {
            continue;
        }
        let Some(status) = worker.try_wait()? else { continue };
        ended = true;
        let end = match status.code() {
            Some(0) => Ok(Exit::OK),
            Some(_) => Err(last_word(worker, status)),
            None => Err(Error::new(ErrorKind::Internal, format!("the serving process ended: {status}"))),
        };
        let Some(command) = command.as_deref() else { return end };
        if !status.success() {
            // Nobody answers the command any more.
            terminate(command.id());
            failed = Some(end);
        }
    }
    Ok(Exit::OK)
}

/// What the worker said last: it ended with an error, and nobody has listened since it was ready.
fn last_word(worker: &Worker, status: ExitStatus) -> Error {
    match worker.channel().answer_within(Duration::ZERO) {
        Err(error) => error,
        Ok(_) => Error::new(ErrorKind::Internal, format!("the serving process ended: {status}")),
    }
}

fn terminate(process: u32) {
    if let Some(pid) = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    exit_code(status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128))))
}

fn exit_code(code: Option<i32>) -> Exit {
    Exit(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125))
}

/// Tells the worker to end, and sees to it.
fn dismiss(worker: &mut Worker) {
    if matches!(worker.try_wait(), Ok(None)) {
        terminate(worker.pid());
    }
    let start = Instant::now();
    while start.elapsed() < FAREWELL {
        if !matches!(worker.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    worker.kill();
}

/// Starts the command of `--run`. It finds the images' whole disks, which `names` lead to: the first, and all of them.
fn captive(command: &OsString, doors: &Doors, names: &[String]) -> Result<Child> {
    let socket = doors.path.as_ref().map(|own| own.path.clone()).unwrap_or_default();
    let uri = |name: &String| doors.uris.first().map(|uri| uri.of(name)).unwrap_or_default();
    let uris: Vec<String> = names.iter().map(uri).collect();
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).env("unixsocket", socket);
    shell.env("uri", uris.first().map(String::as_str).unwrap_or_default()).env("uris", uris.join(" "));
    shell.spawn().map_err(|error| Error::new(ErrorKind::Host, "cannot run /bin/sh").caused_by(error))
}

fn ready_line(args: &Args, doors: &Doors, facts: &serde_json::Value) -> String {
    let exports: Vec<&str> =
        facts.as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
    let uri = doors.uris.first().map(ToString::to_string).unwrap_or_default();
    let uris: Vec<String> = doors.uris.iter().map(|uri| format!("'{uri}'")).collect();
    let line = format!(
        "serving {} ({}) on {}; look: nbdinfo --list '{uri}'; end: kill {}",
        images(args),
        exports.join(", "),
        uris.join(" and "),
        std::process::id()
    );
    // Exports may be called as an image wants.
    defuse(&line)
}

/// What the register tells of this server, besides what the worker adds.
fn about(given: &[Arc<Given>], doors: &Doors) -> serde_json::Value {
    let images: Vec<String> = given.iter().map(|given| plan::whole_name(given)).collect();
    serde_json::json!({
        "schema": "imgmount.status/1",
        "images": images,
        "uris": doors.uris.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "supervisor": std::process::id(),
        "since": jiff::Timestamp::now().to_string(),
    })
}
