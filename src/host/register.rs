//! The register of running servers: a socket for each in the runtime directory, that answers whoever connects with what
//! the server is and does.
//!
//! ```text
//! supervisor: Entry ── binds PID.control ──▶ worker: answer() ── one JSON document to each ──▶ list, stats: look()
//! ```
//! A file could outlive its server and lie; a socket that nobody listens on refuses. Whose it is, and which process made
//! it, the kernel says. Nothing is read from those who connect.

use super::runtime;
use crate::error::{Error, ErrorKind, Result};
use rustix::net::sockopt::socket_peercred;
use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// What the names of the sockets end with.
const ENDING: &str = ".control";
/// Bytes of an answer that are read, at most.
const MAX_ANSWER: u64 = 256 << 10;
/// Time for an answer, of all servers together, and for a client to take it.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Servers that are looked at.
const MAX_SERVERS: usize = 1000;
/// Pause after an `accept` that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server's place in the register, for as long as it lives.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl Entry {
    /// Registers this process. `None` where no place is for it: then it is in no list, and serves all the same.
    #[must_use]
    pub fn new() -> Option<Self> {
        match Self::try_new() {
            Ok(entry) => Some(entry),
            Err(error) => {
                tracing::debug!("not in the register: {}", error.chain());
                None
            }
        }
    }

    fn try_new() -> Result<Self> {
        let host = |error| Error::new(ErrorKind::Host, "no control socket").caused_by(error);
        let dir = runtime::dir()?;
        sweep(&dir);
        let path = dir.join(format!("{}{ENDING}", std::process::id()));
        // A process of ours with this number lived before, or lives in another container.
        if connect(&path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            std::fs::remove_file(&path).map_err(host)?;
        }
        let listener = UnixListener::bind(&path).map_err(host)?;
        let entry = Self { path, listener: Some(listener) };
        std::fs::set_permissions(&entry.path, std::fs::Permissions::from_mode(0o600)).map_err(host)?;
        Ok(entry)
    }

    /// The socket, for the worker.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// Closes our end: only the worker answers, and its end is the end of the answers.
    pub fn handed_over(&mut self) {
        self.listener = None;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

/// Answers everyone who connects and is this user or root, one after the other, for ever.
pub fn answer(listener: &UnixListener, say: impl Fn() -> Value) {
    let own = rustix::process::geteuid();
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let may_know =
                    socket_peercred(&stream).is_ok_and(|peer| peer.uid == own || peer.uid.is_root());
                if may_know && stream.set_write_timeout(Some(ANSWER_TIME)).is_ok() {
                    // Who leaves before the answer does not want it.
                    drop(stream.write_all(say().to_string().as_bytes()));
                }
            }
            Err(error) => {
                tracing::warn!("control socket: {error}");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// A running server.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The supervisor's process id, from the kernel.
    pub pid: u32,
    /// Whose it is.
    pub user: u32,
    /// What it says of itself; `None` if it does not answer.
    pub says: Option<Value>,
}

/// The running servers of this user; for root everybody's. Sockets of dead ones are removed on the way.
#[must_use]
pub fn look() -> Vec<Found> {
    let (tell, told) = mpsc::channel();
    let mut asked = 0_usize;
    for (dir, owner) in runtime::all() {
        for path in sockets(&dir) {
            let Ok(stream) = connect(&path).inspect_err(|error| clear(&path, error)) else { continue };
            let Ok(peer) = socket_peercred(&stream) else { continue };
            if peer.uid.as_raw() != owner || asked >= MAX_SERVERS {
                continue;
            }
            let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or(0);
            let tell = tell.clone();
            asked = asked.saturating_add(1);
            std::thread::spawn(move || tell.send(Found { pid, user: owner, says: listen(stream) }));
        }
    }
    drop(tell);
    let mut found: Vec<Found> = told.iter().collect();
    found.sort_by_key(|found| found.pid);
    found
}

fn sockets(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.ends_with(ENDING))
            && entry.file_type().is_ok_and(|kind| kind.is_socket())
    });
    ours.map(|entry| entry.path()).collect()
}

/// Connects, and never waits: a full queue is an error, too.
fn connect(path: &Path) -> io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Removes what servers left that were killed, so that one which is started again and again does not fill the directory.
fn sweep(dir: &Path) {
    for path in sockets(dir) {
        let pid = path.file_stem().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            drop(connect(&path).inspect_err(|error| clear(&path, error)));
        }
    }
}

/// Removes what a server left that was killed. Root leaves that to the others themselves.
fn clear(path: &Path, error: &io::Error) {
    let is_own = runtime::place().is_some_and(|dir| path.starts_with(dir));
    if is_own && error.kind() == io::ErrorKind::ConnectionRefused {
        drop(std::fs::remove_file(path));
    }
}

fn listen(stream: UnixStream) -> Option<Value> {
    let deadline = std::time::Instant::now().checked_add(ANSWER_TIME)?;
    let mut answer = Vec::new();
    let mut part = vec![0; 64 << 10];
    let mut stream = stream.take(MAX_ANSWER);
    loop {
        let left = deadline.checked_duration_since(std::time::Instant::now())?;
        stream.get_ref().set_read_timeout(Some(left.max(Duration::from_millis(1)))).ok()?;
        match stream.read(&mut part) {
            Ok(0) => return serde_json::from_slice(&answer).ok(),
            Ok(read) => answer.extend_from_slice(part.get(..read)?),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
