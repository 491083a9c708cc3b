//! The supervisor of a mount: opens the image, starts the worker, mounts, waits, unmounts. It parses nothing.

use super::options::{Flags, OnError, Who};
use super::tell::say_ready;
use super::work::{self, Found, Order};
use super::{Args, Ready, captive};
use crate::cli::{Common, Exit, IN_BACKGROUND, plan, unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::host::events::{Event, Events};
use crate::host::handoff::Worker;
use crate::host::mount::{self, Unmounted, Wish};
use crate::host::mounts::Known;
use crate::host::pid_file::PidFile;
use crate::host::{namespace, notify};
use crate::keys::Keys;
use crate::text::escape;
use rustix::process::Signal;
use serde_json::json;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `-- CMD` could not be set up: the code of env(1) and its like.
pub(super) const NOT_SET_UP: Exit = Exit(125);
/// Before a busy mount is taken out of sight instead of unmounted.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before a worker that does not end is ended.
const FAREWELL: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn host(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Host, message)
}

pub(super) fn show(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).to_string()
}

/// Mounts, calls `tell` when the mount answers, and stays until it is gone: by a signal, from outside, with `parent`.
/// `tell` says whether anybody still wants it.
pub(super) fn supervise(
    args: &Args,
    common: &Common,
    parent: Option<OwnedFd>,
    tell: impl FnOnce(&Ready) -> bool,
) -> Result<Exit> {
    let flags = args.flags()?;
    let user = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    if !args.command.is_empty() && !mount::is_privileged() && !mount::has_helper() {
        // Before the first thread: a process of several cannot change its user name space.
        namespace::enter()?;
    }
    let mut events = Events::new(&[SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD, SIGUSR1], parent)?;
    let mut notes = Vec::new();
    let point = Point::prepare(args, flags, &mut |note| notes.push(note))?;
    let mut ended_by = None;
    // A command that waits for us in the foreground, and is gone, wants no mount.
    let waiting = std::env::var_os(IN_BACKGROUND).and_then(|_| rustix::process::getppid());
    let mut is_over = || {
        while let (None, Some(event)) = (&ended_by, events.pending()) {
            ended_by = Some(event).filter(is_end);
        }
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
        return Ok(interrupted(args, ended_by.as_ref()));
    };
    let found: Found = serde_json::from_value(found)
        .map_err(|error| Error::new(ErrorKind::Internal, "the worker's answer").caused_by(error))?;
    let wish = Wish {
        point: &point.path,
        name: &found.image,
        exec: flags.exec,
        allow_other: flags.allow_other,
        default_permissions: flags.default_permissions,
    };
    let device = mount::mount(&wish)?;
    let mut mounted = Mounted { point: &point.path, known: None, worker: &mut worker, is_there: true };
    mounted.known = Known::at(&point.path)?;
    mounted.worker.channel().send(&"mounted", &[device.as_fd()])?;
    // Only the worker's end must keep the connection open: when it dies, nobody waits for its answers.
    drop(device);
    if mounted.worker.ready(Some(args.timeout), &mut is_over)?.is_none() {
        mounted.end(&mut events)?;
        return Ok(interrupted(args, ended_by.as_ref()));
    }
    mount::answers(&point.path, None, args.timeout).map_err(|errno| {
        host(format!("{}: the mount does not answer", show(&point.path))).caused_by(errno)
    })?;
    let wide = mounted.known.as_ref().is_some_and(|known| mount::widen_read_ahead(known.entry()));
    tracing::info!("read-ahead: {}", if wide { "4096 KiB" } else { "the kernel's own" });

    let _pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    if let Some(number) = args.ready_fd {
        say_ready(number)?;
    }
    notes.extend(found.notes.iter().cloned());
    notes.extend(found.warnings.iter().map(|warning| format!("warning: {warning}")));
    let ready =
        Ready { line: line(args, &found, &point.path), facts: facts(args, &found, &point.path)?, notes };
    if !tell(&ready) {
        mounted.end(&mut events)?;
        return Ok(Exit::OK);
    }
    notify::ready(&ready.line);
    let end = if args.command.is_empty() {
        wait(&mut events, &mut mounted)?
    } else {
        captive::run(&args.command, &mut mounted, &mut events)?
    };
    notify::stopping();
    mounted.end(&mut events)?;
    Ok(end)
}

/// Is this a reason to unmount?
fn is_end(event: &Event) -> bool {
    matches!(event, Event::Signal(SIGTERM | SIGINT | SIGHUP | SIGQUIT) | Event::ParentEnded)
}

/// The end by a signal before anything was ready: clean, but a command that never ran has not succeeded.
fn interrupted(args: &Args, event: Option<&Event>) -> Exit {
    if args.command.is_empty() {
        return Exit::OK;
    }
    let signal = match event {
        Some(Event::Signal(signal)) => Some(*signal),
        _ => None,
    };
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
        image: plan::whole_name(&given),
        point: point.as_os_str().as_bytes().to_vec(),
        options: in_words(args)?,
        on_error: args.on_error,
        idle: args.idle_exit,
        supervisor: std::process::id(),
    };
    let order = serde_json::to_value(order).map_err(|error| {
        Error::new(ErrorKind::Internal, "the job cannot be written down").caused_by(error)
    })?;
    Worker::start("mount", order, &[&given], keys, &[])
}

/// How it is mounted, in the words of `-o`.
fn in_words(args: &Args) -> Result<String> {
    let flags = args.flags()?;
    let mut words = vec!["ro,nosuid,nodev".to_owned()];
    let set = [
        (!flags.exec, "noexec"),
        (flags.allow_other, "allow_other"),
        (flags.default_permissions, "default_permissions"),
        (args.exit_with_parent, "exit-with-parent"),
    ];
    words.extend(set.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word.to_owned()));
    let owner = match args.owner {
        Who::Guest => "guest".to_owned(),
        Who::Me => "me".to_owned(),
        Who::Ids(uid, gid) => format!("{uid}:{gid}"),
    };
    words.push(format!("owner={owner}"));
    words.push(named("symlinks", &args.symlinks));
    words.push(named("xattrs", &args.xattrs));
    words.push(named("on-error", &args.on_error));
    words.extend(args.idle_exit.map(|idle| format!("idle-exit={}ms", idle.as_millis())));
    Ok(words.join(","))
}

/// `name=value` of an option whose value is one of a few words.
fn named(name: &str, value: &impl clap::ValueEnum) -> String {
    let value = value.to_possible_value().map(|value| value.get_name().to_owned());
    format!("{name}={}", value.unwrap_or_default())
}

fn line(args: &Args, found: &Found, point: &Path) -> String {
    let (image, point) = (name_of(&found.image), show(point));
    let zeros = match args.on_error {
        OnError::Zero => "; what cannot be read is shown as zeros",
        OnError::Eio => "",
    };
    format!("mounted {image} ({}{zeros}) on {point}; unmount: imgmount unmount {point}", found.what)
}

fn name_of(image: &str) -> &str {
    image.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(image)
}

fn facts(args: &Args, found: &Found, point: &Path) -> Result<serde_json::Value> {
    Ok(json!({
        "schema": "imgmount.mounted/1",
        "image": found.image,
        "mountpoint": show(point),
        "what": found.what,
        "view": found.view,
        "options": in_words(args)?,
        "supervisor": std::process::id(),
        "warnings": found.warnings,
    }))
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
pub(super) struct Mounted<'a> {
    pub(super) point: &'a Path,
    /// `None` where somebody took it away at once.
    known: Option<Known>,
    pub(super) worker: &'a mut Worker,
    is_there: bool,
}

impl Mounted<'_> {
    /// Unmounts what we mounted, and nothing that others mounted in its place or upon it.
    fn unmount(&self, lazy: bool) -> Result<Unmounted> {
        self.known.as_ref().map_or(Ok(Unmounted::NotThere), |known| mount::unmount_this(known, lazy))
    }

    /// Unmounts: politely, then out of sight; and waits until the worker has ended. Who asks once more wants it now.
    fn end(&mut self, events: &mut Events) -> Result<()> {
        let mut is_urgent = || std::iter::from_fn(|| events.pending()).any(|event| is_end(&event));
        let mut in_haste = false;
        if self.is_there {
            let start = Instant::now();
            while self.unmount(false)? == Unmounted::Busy {
                in_haste = in_haste || is_urgent();
                if in_haste || start.elapsed() > PATIENCE {
                    self.unmount(true)?;
                    break;
                }
                std::thread::sleep(PAUSE);
            }
            self.is_there = false;
        }
        let start = Instant::now();
        while !in_haste && start.elapsed() < FAREWELL {
            if !matches!(self.worker.try_wait(), Ok(None)) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
            in_haste = is_urgent();
        }
        self.worker.kill();
        Ok(())
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.is_there {
            drop(self.unmount(true));
            self.is_there = false;
        }
        self.worker.kill();
    }
}

/// Waits for a signal, for the parent's or the worker's end, or for the time when nobody needs the mount.
fn wait(events: &mut Events, mounted: &mut Mounted<'_>) -> Result<Exit> {
    // The first look is without a signal: whoever waited for the worker may have taken it.
    let mut event = Event::Signal(SIGCHLD);
    loop {
        match &event {
            event if is_end(event) => return Ok(Exit::OK),
            Event::Signal(SIGUSR1) => mounted.worker.signal(Signal::USR1),
            // Whoever holds something makes it busy; whoever comes at this very moment finds an empty directory. The
            // worker ends by itself, and not before the last who sees the mount elsewhere: bound to another place, or in
            // another name space.
            Event::Said(word) if word == work::IDLE && mounted.is_there => {
                mounted.is_there = mounted.unmount(false)? == Unmounted::Busy;
            }
            Event::Signal(SIGCHLD) => {
                if let Some(end) = worker_end(mounted)? {
                    return Ok(end);
                }
            }
            _ => {}
        }
        event = events.wait(mounted.worker.channel());
    }
}

/// If the worker has ended: what that means.
pub(super) fn worker_end(mounted: &mut Mounted<'_>) -> Result<Option<Exit>> {
    let Some(status) = mounted.worker.try_wait()? else { return Ok(None) };
    mounted.is_there = false;
    // If it is still there nobody answers any more. Whoever waits gets an error now, and the mount point is free again.
    drop(mounted.known.as_ref().map(mount::unmount_dead));
    if status.success() {
        // Unmounted from outside, or its connection was aborted in /sys/fs/fuse.
        return Ok(Some(Exit::OK));
    }
    let what = format!("the process that reads the image ended: {status}");
    Err(Error::new(ErrorKind::Internal, what))
}
