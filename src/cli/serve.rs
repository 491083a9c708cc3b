//! `imgmount serve`: the disk and its partitions over NBD.
//!
//! Two processes: this one opens the images, binds the sockets, waits and cleans up; the worker ([`work`]) parses the
//! images and talks to the clients, with nothing but what it was handed.

use super::{Common, Exit, IN_BACKGROUND, out, plan, unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::Content;
use crate::host::handoff::{Channel, Task, WireKeys, Worker};
use crate::image::Opened;
use crate::serve::nbd::{Export, Listener, Server, Stop};
use crate::source::gate::Given;
use crate::stack::{self, Stack};
use crate::text::escape;
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use std::ffi::OsString;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time the worker has to end after it was told to.
const FAREWELL: Duration = Duration::from_secs(8);
/// Threads that wait for a remote source, of which each read is a round trip.
const REMOTE_THREADS: usize = 32;

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
    /// Serve while this shell command runs; it finds $uri and $unixsocket; exit with its status
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
    /// Go to the background when ready
    #[arg(long)]
    fork: bool,
    /// Write the process id there
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Time a client has to say what it wants
    #[arg(long, value_name = "TIME", value_parser = plan::duration, default_value = "10s")]
    handshake_limit: Duration,
    /// Accepted, for those used to qemu-nbd: we always read only
    #[arg(short = 'r', long = "read-only", help_heading = "Compatibility")]
    read_only: bool,
    /// Accepted, for those used to qemu-nbd: we always go on after a client has left
    #[arg(short = 't', long, help_heading = "Compatibility")]
    persistent: bool,
    /// Accepted, for those used to qemu-nbd: we always serve up to 100 clients
    #[arg(short = 'e', long, value_name = "N", help_heading = "Compatibility")]
    shared: Option<u32>,
}

/// What the worker is told besides images and sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    common: Common,
    /// How each image's exports are called; one image's have no name in front.
    names: Vec<String>,
    alias: Option<String>,
    once: bool,
    idle_exit: Option<Duration>,
    handshake: Duration,
}

/// Where we listen.
#[derive(Debug, Default)]
struct Doors {
    listeners: Vec<OwnedFd>,
    /// The socket's path, if it is ours to remove.
    path: Option<OwnPath>,
    /// A directory made for it, to be removed with it.
    dir: Option<PathBuf>,
    uris: Vec<String>,
}

/// A file that we made, recognised even if another one has taken its name since.
#[derive(Debug)]
struct OwnPath {
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

impl OwnPath {
    fn new(path: PathBuf) -> Self {
        let inode = std::fs::symlink_metadata(&path).ok().map(|meta| (meta.dev(), meta.ino()));
        Self { path, inode }
    }
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        let now = std::fs::symlink_metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()));
        if now.is_some() && now == self.inode {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.path = None;
        if let Some(dir) = self.dir.take() {
            drop(std::fs::remove_dir(dir));
        }
    }
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let mut common = common.clone();
    common.format = args.short_format.clone().or(common.format);
    if args.list {
        return list(args, &common);
    }
    if args.fork {
        return fork(args, &common);
    }
    supervise(args, &common, |line| out::say(&common, line))
}

/// `--list`: parses here, as every verb does that ends by itself.
fn list(args: &Args, common: &Common) -> Result<Exit> {
    let names = names(args);
    let mut exports = Vec::new();
    for (image, name) in args.images.iter().zip(&names) {
        exports.extend(exports_of(&plan::open(image, common)?, name));
    }
    if common.json {
        let exports = exports.iter().map(|export| {
            serde_json::json!({ "name": export.name, "size": export.source.len(), "about": export.about })
        });
        let exports: Vec<_> = exports.collect();
        out::json(&serde_json::json!({ "schema": "imgmount.serve/1", "exports": exports }));
    } else {
        for export in &exports {
            out::data(&format!("{}\t{}\t{}\n", export.name, export.source.len(), export.about));
        }
    }
    Ok(Exit::OK)
}

/// `--fork`: the same command once more, in a session of its own; this one ends when that one is ready.
fn fork(args: &Args, common: &Common) -> Result<Exit> {
    let failed = |error| Error::new(ErrorKind::Host, "cannot go to the background").caused_by(error);
    if std::env::var_os(IN_BACKGROUND).is_some() {
        let parent = Channel::from_stdin()?;
        let Some((keys, _)) = parent.receive::<WireKeys>()? else { return Ok(Exit::OK) };
        let common = &Common { keys: Arc::new(keys.try_into()?), ..common.clone() };
        rustix::process::setsid().map_err(failed)?;
        let mut told = false;
        let ready = |line: &str| {
            told = true;
            drop(parent.ready(line.into()));
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
    let line = unlock::with_keys_of(&images(args), common, |keys| {
        let (channel, theirs) = Channel::pair()?;
        let null = || std::process::Stdio::null();
        Command::new("/proc/self/exe")
            .args(std::env::args_os().skip(1))
            .env(IN_BACKGROUND, "1")
            .stdin(theirs)
            .stdout(null())
            .stderr(null())
            .spawn()
            .map_err(|error| Error::new(ErrorKind::Host, "cannot go to the background").caused_by(error))?;
        channel.send(&WireKeys::from(&**keys), &[])?;
        channel.answer()
    })?;
    out::say(common, line.as_str().unwrap_or_default());
    Ok(Exit::OK)
}

/// The supervisor.
fn supervise(args: &Args, common: &Common, say_ready: impl FnOnce(&str)) -> Result<Exit> {
    let signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD]);
    let mut signals = signals
        .map_err(|error| Error::new(ErrorKind::Host, "signals cannot be received").caused_by(error))?;
    let given = args.images.iter().map(|image| plan::given(image, common)).collect::<Result<Vec<_>>>()?;
    let names = names(args);
    let mut doors = Doors::open(args, &names)?;
    let order = Order {
        common: common.clone(),
        names,
        alias: args.export_name.clone(),
        once: args.once,
        idle_exit: args.idle_exit,
        handshake: args.handshake_limit,
    };
    let order = serde_json::to_value(order).map_err(|error| {
        Error::new(ErrorKind::Internal, "the job cannot be written down").caused_by(error)
    })?;
    let given: Vec<&Given> = given.iter().map(|given| &**given).collect();
    let descriptors: Vec<BorrowedFd<'_>> = doors.listeners.iter().map(|listener| listener.as_fd()).collect();
    let mut ended_by = None;
    let (mut worker, facts) = unlock::with_keys_of(&images(args), common, |keys| {
        let worker = Worker::start("serve", order.clone(), &given, keys, &descriptors)?;
        let facts = worker.ready(None, || {
            ended_by = ended_by.or_else(|| signals.pending().find(|signal| *signal != SIGCHLD));
            ended_by.is_some()
        })?;
        Ok((worker, facts))
    })?;
    drop(descriptors);
    doors.listeners.clear();
    let Some(facts) = facts else {
        // A clean end; but a command that never ran has not succeeded.
        return Ok(ended_by
            .filter(|_| args.run.is_some())
            .map_or(Exit::OK, |signal| exit_code(Some(signal.saturating_add(128)))));
    };

    let _pid_file = args.pid_file.as_deref().map(write_pid_file).transpose()?;
    let mut command = args.run.as_ref().map(|command| captive(command, &doors)).transpose()?;
    if command.is_none() && !doors.uris.is_empty() {
        say_ready(&ready_line(args, &doors, &facts));
    }
    let end = wait(&mut signals, &mut worker, command.as_mut());
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
            Some(code) => Ok(Exit(u8::try_from(code).unwrap_or(70))),
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

/// Starts the command of `--run`.
fn captive(command: &OsString, doors: &Doors) -> Result<Child> {
    let socket = doors.path.as_ref().map(|own| own.path.clone()).unwrap_or_default();
    let uri = doors.uris.first().cloned().unwrap_or_default();
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).env("uri", uri).env("unixsocket", socket);
    shell.spawn().map_err(|error| Error::new(ErrorKind::Host, "cannot run /bin/sh").caused_by(error))
}

fn write_pid_file(path: &Path) -> Result<OwnPath> {
    std::fs::write(path, format!("{}\n", std::process::id()))
        .map_err(|error| Error::new(ErrorKind::Host, shown(path)).caused_by(error))?;
    Ok(OwnPath::new(path.to_owned()))
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).to_string()
}

fn ready_line(args: &Args, doors: &Doors, facts: &serde_json::Value) -> String {
    let exports: Vec<&str> =
        facts.as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
    let uri = doors.uris.first().map(String::as_str).unwrap_or_default();
    let uris: Vec<String> = doors.uris.iter().map(|uri| format!("'{uri}'")).collect();
    format!(
        "serving {} ({}) on {}; look: nbdinfo --list '{uri}'; end: kill {}",
        images(args),
        exports.join(", "),
        uris.join(" and "),
        std::process::id()
    )
}

/// The images' names for people.
fn images(args: &Args) -> String {
    let names = args.images.iter().map(|image| plan::shown(image));
    names.collect::<Vec<_>>().join(", ")
}

/// The word for each image in the names of its exports: none for the only one, else its file's name without extension.
fn names(args: &Args) -> Vec<String> {
    if args.images.len() == 1 {
        return vec![String::new()];
    }
    args.images.iter().map(word).collect()
}

/// A file's name without extension, as far as it is fit for a URI and a path.
fn word(image: &OsString) -> String {
    let name = crate::locator::Locator::parse(image).file_name();
    let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
    let fit = |c: char| if c.is_alphanumeric() || "-_.+".contains(c) { c } else { '_' };
    let word: String = stem.chars().map(fit).collect();
    if word.trim_matches('.').is_empty() { "image".to_owned() } else { word }
}

impl Doors {
    fn open(args: &Args, names: &[String]) -> Result<Self> {
        let mut passed = listenfd::ListenFd::from_env();
        let mut doors = Self::default();
        if passed.len() > 0 {
            if args.socket.is_some() || !args.tcp.is_empty() || args.run.is_some() {
                let what = "sockets were passed in (LISTEN_FDS); --socket, --tcp and --run make others";
                return Err(Error::new(ErrorKind::Usage, what).help("give one or the other"));
            }
            for index in 0..passed.len() {
                doors.listeners.push(take_passed(&mut passed, index)?);
            }
            return Ok(doors);
        }
        for address in &args.tcp {
            doors.open_tcp(address, args.insecure)?;
        }
        if let Some(path) = &args.socket {
            doors.open_unix(path)?;
        } else if args.run.is_some() && args.tcp.is_empty() {
            let dir = private_dir()?;
            doors.dir = Some(dir.clone());
            doors.open_unix(&dir.join("nbd.sock"))?;
        } else if args.tcp.is_empty() {
            let dir = runtime_dir()?;
            let first = names.iter().find(|name| !name.is_empty()).cloned();
            let name = first.or_else(|| args.images.first().map(word)).unwrap_or_default();
            doors.open_unix(&dir.join(format!("{name}.sock")))?;
        }
        Ok(doors)
    }

    fn open_tcp(&mut self, address: &str, insecure: bool) -> Result<()> {
        let usage = |error| {
            let error = Error::new(ErrorKind::Usage, format!("--tcp {}", escape(address.as_bytes())))
                .caused_by(error);
            error.help("write an address and a port, as in 127.0.0.1:10809")
        };
        let addresses: Vec<_> = address.to_socket_addrs().map_err(usage)?.collect();
        if !insecure && addresses.iter().any(|address| !address.ip().is_loopback()) {
            let what = format!("--tcp {address}: others could read the image from there");
            let help = "use a loopback address and an SSH tunnel, or accept it with --insecure";
            return Err(Error::new(ErrorKind::Usage, what).help(help));
        }
        let host =
            |error| Error::new(ErrorKind::Host, format!("cannot listen on {address}")).caused_by(error);
        let listener = TcpListener::bind(&*addresses).map_err(host)?;
        self.uris.push(format!("nbd://{}", listener.local_addr().map_err(host)?));
        self.listeners.push(listener.into());
        Ok(())
    }

    fn open_unix(&mut self, path: &Path) -> Result<()> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let host = |error| {
            Error::new(ErrorKind::Host, format!("cannot listen on {}", shown(&path))).caused_by(error)
        };
        let listener = match UnixListener::bind(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                clear_stale(&path)?;
                UnixListener::bind(&path).map_err(host)?
            }
            other => other.map_err(host)?,
        };
        self.uris.push(format!("nbd+unix:///?socket={}", percent_encode(path.as_os_str().as_bytes())));
        self.listeners.push(listener.into());
        self.path = Some(OwnPath::new(path));
        Ok(())
    }
}

/// Removes a socket that nobody listens on any more; anything else in its place is left alone.
fn clear_stale(path: &Path) -> Result<()> {
    let taken = |why: &str| Error::new(ErrorKind::Host, format!("{}: {why}", shown(path)));
    let meta =
        std::fs::symlink_metadata(path).map_err(|error| taken("cannot be looked at").caused_by(error))?;
    if !meta.file_type().is_socket() {
        return Err(taken("exists, and is not a socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| taken("cannot be replaced").caused_by(error))
        }
        Err(error) => Err(taken("is in use").caused_by(error)),
        Ok(_) => Err(taken("somebody listens there already").help("choose another path with --socket")),
    }
}

fn take_passed(passed: &mut listenfd::ListenFd, index: usize) -> Result<OwnedFd> {
    if let Ok(Some(listener)) = passed.take_unix_listener(index) {
        return Ok(listener.into());
    }
    match passed.take_tcp_listener(index) {
        Ok(Some(listener)) => Ok(listener.into()),
        Ok(None) => Err(Error::new(ErrorKind::Usage, "LISTEN_FDS promises more sockets than there are")),
        Err(error) => {
            Err(Error::new(ErrorKind::Usage, "a socket passed in (LISTEN_FDS) cannot be used")
                .caused_by(error))
        }
    }
}

/// Where sockets of this user lie: `$XDG_RUNTIME_DIR/imgmount`, for root without one `/run/imgmount`.
fn runtime_dir() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| rustix::process::geteuid().is_root().then(|| PathBuf::from("/run")));
    let none = || {
        let error = Error::new(ErrorKind::Host, "no place for a socket: XDG_RUNTIME_DIR is not set");
        error.help("say where: --socket PATH")
    };
    let dir = base.ok_or_else(none)?.join("imgmount");
    let mut make = std::fs::DirBuilder::new();
    make.mode(0o700).recursive(true);
    make.create(&dir).map_err(|error| {
        let error = Error::new(ErrorKind::Host, shown(&dir)).caused_by(error);
        error.help("say where the socket shall be: --socket PATH")
    })?;
    Ok(dir)
}

/// A new directory that nobody else may enter, for a captive server's socket.
fn private_dir() -> Result<PathBuf> {
    let host = |error| Error::new(ErrorKind::Host, "cannot make a directory for the socket").caused_by(error);
    let base = std::env::temp_dir();
    for attempt in 0..100_u32 {
        let dir = base.join(format!("imgmount-{}-{attempt}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(host(error)),
        }
    }
    Err(host(std::io::ErrorKind::AlreadyExists.into()))
}

/// A path as the query of a URI.
fn percent_encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

/// The worker's part: parse, then serve on the sockets it was handed.
pub(super) fn work(task: Task) -> Result<Exit> {
    // Ctrl-C in the terminal is for the supervisor, which then ends the command first.
    let _ = rustix::process::setpgid(None, None);
    let order: Order = serde_json::from_value(task.args)
        .map_err(|error| Error::new(ErrorKind::Internal, "the job cannot be read").caused_by(error))?;
    let options = stack::Options { keys: Arc::new(task.keys), ..plan::options(&order.common) };
    let mut exports = Vec::new();
    let mut remote = false;
    for (given, name) in task.images.into_iter().zip(&order.names) {
        remote |= given.file.is_none();
        exports.extend(exports_of(&stack::open(Arc::new(given), &options)?, name));
    }
    if let (Some(alias), Some(disk)) = (order.alias, exports.first().cloned())
        && exports.iter().all(|export| export.name != alias)
    {
        exports.push(Export { name: alias, ..disk });
    }
    let mut options = crate::serve::nbd::Options {
        handshake: order.handshake,
        once: order.once,
        idle_exit: order.idle_exit,
        signals: true,
        ..Default::default()
    };
    if remote {
        options.threads = REMOTE_THREADS;
    }
    let names: Vec<String> =
        exports.iter().map(|export| export.name.clone()).filter(|name| !name.is_empty()).collect();
    let server = Server::new(exports, options)?;
    let listeners = task.descriptors.into_iter().map(listener).collect::<Result<_>>()?;
    let stop = Stop::default();
    let (supervisor, its_end) = (task.channel.try_clone()?, stop.clone());
    std::thread::spawn(move || {
        supervisor.wait_for_end();
        its_end.stop();
    });
    task.channel.ready(names.into())?;
    server.run(listeners, &stop)?;
    Ok(Exit::OK)
}

fn listener(descriptor: OwnedFd) -> Result<Listener> {
    let unknown = |error| Error::new(ErrorKind::Internal, "not a socket to listen on").caused_by(error);
    let family = rustix::net::sockopt::socket_domain(&descriptor).map_err(unknown)?;
    Ok(if family == rustix::net::AddressFamily::UNIX {
        Listener::Unix(descriptor.into())
    } else {
        Listener::Tcp(descriptor.into())
    })
}

/// The exports of one image: the disk, its volumes, the layers below it. `name` is empty for the only image.
fn exports_of(stack: &Stack, name: &str) -> Vec<Export> {
    let named = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}/{part}") };
    let disk = |name: String, image: &Opened| Export {
        name,
        about: format!("disk, {}", format_of(image)),
        source: Arc::clone(&image.disk),
    };
    // The default export comes first.
    let mut exports = vec![disk(name.to_owned(), &stack.image), disk(named("disk"), &stack.image)];
    exports.extend(stack.others.iter().map(|other| disk(named(&other.id), &other.image)));
    let is_disk = |id: &str| id == "disk" || stack.others.iter().any(|other| other.id == id);
    for volume in stack.volumes().filter(|volume| !is_disk(&volume.id)) {
        let mut about = match &volume.partition {
            Some(partition) => format!("partition {}", partition.number),
            None => format!("volume {}", volume.id),
        };
        let content = stack.contents.iter().find(|content| content.volume == volume.id);
        match content.map(|content| &content.content) {
            Some(Ok(Content::Files(fs))) => {
                let facts = fs.facts();
                about.push_str(", ");
                about.push_str(facts.kind);
                if !facts.label.is_empty() {
                    about.push_str(&format!(" '{}'", facts.label));
                }
            }
            Some(Ok(Content::Known(kind))) => about.push_str(&format!(", {kind}")),
            _ => {}
        }
        exports.push(Export { name: named(&volume.id), about, source: Arc::clone(&volume.source) });
    }
    for layer in stack.image.layers.iter().skip(1) {
        let file = if layer.snapshot.is_some() { None } else { layer.name.rsplit('/').next() };
        let name = named(&format!("layer:{}", file.unwrap_or(&layer.name)));
        // Two layers of one name: the upper one has it.
        if exports.iter().all(|export| export.name != name) {
            let about = format!("layer, {}", layer.format);
            exports.push(Export { name, about, source: Arc::clone(&layer.disk) });
        }
    }
    exports
}

fn format_of(image: &Opened) -> String {
    match &image.subformat {
        Some(subformat) => format!("{} {subformat}", image.format),
        None => image.format.to_owned(),
    }
}
