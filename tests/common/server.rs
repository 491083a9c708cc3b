//! `imgmount serve` as users start it: the real program on a socket of its own, ended with the test.

use super::process::{Reaped, children, signal, wait_for};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Reaped,
    pub socket: PathBuf,
}

impl Server {
    /// Starts a command that serves on `socket`, and waits until clients are greeted there.
    pub fn start(command: &mut Command, socket: &Path) -> Self {
        let process = Reaped(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let server = Self { process, socket: socket.to_owned() };
        server.wait();
        server
    }

    /// The same for one that says on standard error where it listens, too; its first line.
    pub fn start_and_listen(command: &mut Command, socket: &Path) -> (Self, String) {
        let mut process = Reaped(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        let said = process.0.stderr.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut line).unwrap();
        let server = Self { process, socket: socket.to_owned() };
        server.wait();
        (server, line)
    }

    /// The socket is there before the process that serves is.
    fn wait(&self) {
        wait_for("the server did not come up", || greeted(&self.socket).is_some());
    }

    /// The process that was started.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// The process that serves.
    pub fn worker(&self) -> u32 {
        let children = children(self.id());
        assert_eq!(children.len(), 1, "{children:?}");
        children[0]
    }

    pub fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    /// A client in the transmission phase.
    pub fn client(&self) -> UnixStream {
        client(&self.socket)
    }

    pub fn signal(&self, kind: Signal) {
        signal(self.id(), kind);
    }

    /// Ends by SIGTERM, or has been told to; its status.
    pub fn end(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.process.0.wait().unwrap().code()
    }

    /// Killed, and gone.
    pub fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }
}

/// A client that has been greeted.
pub fn greeted(socket: &Path) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    stream.read_exact(&mut [0; 18]).ok()?;
    Some(stream)
}

/// A client that has chosen the default export in the old way, `NBD_OPT_EXPORT_NAME` (doc/proto.md): replies are simple.
pub fn client(socket: &Path) -> UnixStream {
    let mut stream = greeted(socket).unwrap();
    stream.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\0").unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    stream
}

/// Waits until the other side hangs up; what it has sent before may still be taken.
pub fn hung_up(stream: &UnixStream) {
    let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
    let events = poll(&mut [PollFd::new(stream, PollFlags::empty())], Some(&patience)).unwrap();
    assert_eq!(events, 1, "nobody hangs up");
}
