//! The NBD server as a library, in the test's own process: where a test sets limits or brings a disk that no file is.

use imgmount::error::Result;
use imgmount::serve::nbd::{Export, Listener, Options, Server, Stop};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A server on a socket of its own. Ended when it is dropped, and then it must have ended well.
#[derive(Debug)]
pub struct Served {
    pub socket: PathBuf,
    stop: Stop,
    thread: Option<JoinHandle<Result<()>>>,
    _dir: tempfile::TempDir,
}

impl Served {
    pub fn start(exports: Vec<Export>, options: Options) -> Self {
        Self::run(Arc::new(Server::new(exports, options).unwrap()))
    }

    /// The same of a server that the test keeps.
    pub fn run(server: Arc<Server>) -> Self {
        let dir = super::tempdir();
        let socket = dir.path().join("s");
        let listener = Listener::Unix(UnixListener::bind(&socket).unwrap());
        let stop = Stop::default();
        let told = stop.clone();
        let thread = std::thread::spawn(move || server.run(vec![listener], &told));
        Self { socket, stop, thread: Some(thread), _dir: dir }
    }

    /// Has it ended by itself?
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().unwrap().is_finished()
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.stop();
        let Some(thread) = self.thread.take() else { return };
        let ended = thread.join();
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}
