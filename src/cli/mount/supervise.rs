//! The supervisor of a mount: opens the image, starts the worker, mounts, waits, unmounts. It parses nothing.

use super::options::Flags;
use super::work::{Found, Order};
use super::{Args, Ready};
use crate::cli::{Common, Exit, IN_BACKGROUND, plan, unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::host::handoff::Worker;
use crate::host::mount::{self, Unmounted, Wish};
use crate::host::{mounts, namespace};
use crate::keys::Keys;
use crate::locator::Locator;
use crate::source::gate::Given;
use crate::text::escape;
use serde_json::json;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// `-- CMD` could not be set up, run, found: the codes of env(1) and its like.
pub(super) const NOT_SET_UP: Exit = Exit(125);
const NOT_RUN: Exit = Exit(126);
const NOT_FOUND: Exit = Exit(127);
/// Before a busy mount is taken out of sight instead of unmounted.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before a worker that does not end is ended.
const FAREWELL: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

fn host(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Host, message)
}

fn show(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).to_string()
}

/// Mounts, calls `tell` when the mount answers, and stays until it is gone. `tell` says whether anybody still wants it.
pub(super) fn supervise(args: &Args, common: &Common, tell: impl FnOnce(&Ready) -> bool) -> Result<Exit> {
    let flags = Flags::parse(&args.options)?;
    let user = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    if !args.command.is_empty() && !mount::is_privileged() && mount::helper().is_none() {
        // Before the first thread: a process of several cannot change its user name space.
        namespace::enter()?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD])
        .map_err(|error| host("signals cannot be received").caused_by(error))?;
    let mut notes = Vec::new();
    let point = Point::prepare(args, flags, &mut |note| notes.push(note))?;
    let mut ended_by = None;
    // A command that waits for us in the foreground, and is gone, wants no mount.
    let waiting = std::env::var_os(IN_BACKGROUND).and_then(|_| rustix::process::getppid());
    let mut is_over = || {
        ended_by = ended_by.or_else(|| signals.pending().find(|signal| *signal != SIGCHLD));
        let is_gone = waiting.is_some() && rustix::process::getppid() != waiting;
        ended_by.is_some() || is_gone
    };
    let image = args.image.as_deref().unwrap_or_default();
    let (mut worker, found) = unlock::with_keys(image, common, |keys| {
        let worker = start(args, common, keys, user, &point.path)?;
        let found = worker.ready(Some(args.timeout), &mut is_over)?;
        Ok((worker, found))
    })?;
    let Some(found) = found else {
        return Ok(interrupted(args, ended_by));
    };
    let found: Found = serde_json::from_value(found)
        .map_err(|error| Error::new(ErrorKind::Internal, "the worker's answer").caused_by(error))?;
    let wish =
        Wish { point: &point.path, name: &found.image, exec: flags.exec, allow_other: flags.allow_other };
    let device = mount::mount(&wish)?;
    let mut mounted = Mounted { point: &point.path, worker: &mut worker, is_there: true };
    mounted.worker.channel().send(&"mounted", &[device.as_fd()])?;
    // Only the worker's end must keep the connection open: when it dies, nobody waits for its answers.
    drop(device);
    if mounted.worker.ready(Some(args.timeout), &mut is_over)?.is_none() {
        mounted.end()?;
        return Ok(interrupted(args, ended_by));
    }
    mount::answers(&point.path, args.timeout).map_err(|errno| {
        host(format!("{}: the mount does not answer", show(&point.path))).caused_by(errno)
    })?;
    let wide = mounts::at(&point.path)?.is_some_and(|entry| mount::widen_read_ahead(&entry));
    tracing::info!("read-ahead: {}", if wide { "1024 KiB" } else { "the kernel's own" });

    let _pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    if let Some(number) = args.ready_fd {
        say_ready(number)?;
    }
    notes.extend(found.notes.iter().cloned());
    notes.extend(found.warnings.iter().map(|warning| format!("warning: {warning}")));
    let ready = Ready { line: line(&found, &point.path), facts: facts(&found, &point.path), notes };
    if !tell(&ready) {
        mounted.end()?;
        return Ok(Exit::OK);
    }
    notify("READY=1");
    let end = if args.command.is_empty() {
        wait(&mut signals, &mut mounted)?
    } else {
        captive(&args.command, &mut signals, &mounted)?
    };
    notify("STOPPING=1");
    mounted.end()?;
    Ok(end)
}

/// The end by a signal before anything was ready: clean, but a command that never ran has not succeeded.
fn interrupted(args: &Args, signal: Option<i32>) -> Exit {
    if args.command.is_empty() {
        return Exit::OK;
    }
    let code = signal.map(|signal| signal.saturating_add(128)).and_then(|code| u8::try_from(code).ok());
    code.map_or(NOT_SET_UP, Exit)
}

fn start(args: &Args, common: &Common, keys: &Keys, user: (u32, u32), point: &Path) -> Result<Worker> {
    let missing = || Error::new(ErrorKind::Usage, "no image was given");
    let image = args.image.as_ref().ok_or_else(missing)?;
    let given = plan::given(image, common)?;
    let order = Order {
        common: common.clone(),
        view: args.view,
        owner: args.owner,
        symlinks: args.symlinks,
        xattrs: args.xattrs,
        threads: args.threads,
        user,
        image: whole_name(&given),
        point: show(point),
        supervisor: std::process::id(),
    };
    let order = serde_json::to_value(order).map_err(|error| {
        Error::new(ErrorKind::Internal, "the job cannot be written down").caused_by(error)
    })?;
    Worker::start("mount", order, &[&given], keys, &[])
}

/// The image's name as others see it, who look at the mount from elsewhere.
fn whole_name(given: &Given) -> String {
    let locator = absolute(given.locator.clone());
    given.member.as_ref().map_or_else(|| locator.to_string(), |member| locator.member(member).to_string())
}

fn absolute(locator: Locator) -> Locator {
    match locator.as_path().map(std::path::absolute) {
        Some(Ok(path)) => Locator::Path(path),
        _ => locator,
    }
}

fn line(found: &Found, point: &Path) -> String {
    let (image, point) = (name_of(&found.image), show(point));
    format!("mounted {image} ({}) on {point}; unmount: imgmount unmount {point}", found.what)
}

fn name_of(image: &str) -> &str {
    image.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(image)
}

fn facts(found: &Found, point: &Path) -> serde_json::Value {
    json!({
        "schema": "imgmount.mounted/1",
        "image": found.image,
        "mountpoint": show(point),
        "what": found.what,
        "view": found.view,
        "supervisor": std::process::id(),
        "warnings": found.warnings,
    })
}

/// Where to mount; a directory made for the time of a command goes with it.
struct Point {
    path: PathBuf,
    made: bool,
}

impl Point {
    fn prepare(args: &Args, flags: Flags, say: &mut dyn FnMut(String)) -> Result<Self> {
        if let Some(point) = &args.mountpoint {
            let path = mount::prepare(point, args.mkdir, flags.nonempty, say)?;
            return Ok(Self { path, made: false });
        }
        let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        for attempt in 0..100_u32 {
            let path = base.join(format!("imgmount-{}-{attempt}", std::process::id()));
            let made =
                std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path);
            match made {
                Ok(()) => return Ok(Self { path: mount::absolute(&path), made: true }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(host(show(&path)).caused_by(error)),
            }
        }
        Err(host(format!("{}: no name is free for a mount point", show(&base))))
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        if self.made {
            drop(std::fs::remove_dir(&self.path));
        }
    }
}

/// A mount and who answers for it. However we leave, neither stays behind.
struct Mounted<'a> {
    point: &'a Path,
    worker: &'a mut Worker,
    is_there: bool,
}

impl Mounted<'_> {
    /// Unmounts: politely, then out of sight; and waits until the worker has ended.
    fn end(&mut self) -> Result<()> {
        if self.is_there {
            let start = Instant::now();
            while matches!(mount::unmount(self.point, false)?, Unmounted::Busy) {
                if start.elapsed() > PATIENCE {
                    mount::unmount(self.point, true)?;
                    break;
                }
                std::thread::sleep(PAUSE);
            }
            self.is_there = false;
        }
        self.dismiss();
        Ok(())
    }

    fn dismiss(&mut self) {
        let start = Instant::now();
        while start.elapsed() < FAREWELL {
            if !matches!(self.worker.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        self.worker.kill();
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.is_there {
            drop(mount::unmount(self.point, true));
            self.is_there = false;
        }
        self.worker.kill();
    }
}

/// Waits for a signal or for the worker's end.
fn wait(signals: &mut Signals, mounted: &mut Mounted<'_>) -> Result<Exit> {
    // The first look is without a signal: whoever waited for the worker may have taken it.
    for signal in std::iter::once(SIGCHLD).chain(signals.forever()) {
        if signal != SIGCHLD {
            return Ok(Exit::OK);
        }
        let Some(status) = mounted.worker.try_wait()? else { continue };
        if status.success() {
            // Unmounted from outside; what is mounted there now, if anything, is not ours.
            mounted.is_there = false;
            return Ok(Exit::OK);
        }
        // Nobody answers any more. Whoever waits gets an error now, and the mount point is free again.
        drop(mount::unmount(mounted.point, true));
        mounted.is_there = false;
        return Err(Error::new(
            ErrorKind::Internal,
            format!("the process that reads the image ended: {status}"),
        ));
    }
    Ok(Exit::OK)
}

/// Runs a command in the mount. What ends us ends the command, whose status is then ours.
fn captive(command: &[OsString], signals: &mut Signals, mounted: &Mounted<'_>) -> Result<Exit> {
    let [program, args @ ..] = command else { return Ok(NOT_FOUND) };
    let spawned = Command::new(program)
        .args(args)
        .current_dir(mounted.point)
        .env("IMGMOUNT_ROOT", mounted.point)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let line = escape(program.as_bytes()).to_string();
            crate::cli::out::complain(&host(line).caused_by(error));
            return Ok(if missing { NOT_FOUND } else { NOT_RUN });
        }
    };
    for signal in signals.forever() {
        match signal {
            SIGTERM | SIGHUP => send(&child, rustix::process::Signal::TERM),
            // The terminal has sent these to the command, too.
            SIGINT | SIGQUIT => {}
            _ => {
                if let Ok(Some(status)) = child.try_wait() {
                    return Ok(exit_of(status));
                }
            }
        }
    }
    Ok(NOT_SET_UP)
}

fn send(child: &Child, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    Exit(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_SET_UP.0))
}

/// A file with our process id, for as long as we run.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<Self> {
        let failed = |error| host(show(path)).caused_by(error);
        let path = std::path::absolute(path).map_err(failed)?;
        std::fs::write(&path, format!("{}\n", std::process::id())).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Tells whoever started us through a descriptor of theirs, by its number.
fn say_ready(number: u32) -> Result<()> {
    let path = format!("/proc/self/fd/{number}");
    let written =
        std::fs::File::options().write(true).open(&path).and_then(|mut file| file.write_all(b"ready\n"));
    written.map_err(|error| host(format!("--ready-fd {number}")).caused_by(error))
}

/// Tells the service manager, sd_notify(3).
fn notify(state: &str) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&name),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!("NOTIFY_SOCKET: {error}");
    }
}
