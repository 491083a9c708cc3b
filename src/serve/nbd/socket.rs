//! A socket after the handshake: blocking, of either family, encrypted or not.

use super::encrypted::Encrypted;
use rustix::net::Shutdown;
use rustix::net::sockopt;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Bytes the kernel may hold for a client on a unix socket: four of nbdcopy's requests, so that reading the next
/// one overlaps with sending. Without privilege the kernel grants what `net.core.wmem_max` allows.
const SEND_BUFFER: usize = 1 << 20;

/// A connected, blocking socket.
#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// One of the others, with TLS on it.
    Tls(Box<Encrypted>),
}

impl Socket {
    /// Makes it blocking, and gives up on a client that takes nothing for `stall`.
    pub(super) fn prepare(&mut self, stall: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => {
                let stream = &*stream;
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(stall))?;
                // A smaller buffer is slower and nothing worse.
                let _ = sockopt::set_socket_send_buffer_size_force(stream, SEND_BUFFER)
                    .or_else(|_| sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER));
            }
            Self::Tcp(stream) => {
                let stream = &*stream;
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(stall))?;
                stream.set_nodelay(true)?;
                // A peer whose host vanished is noticed by the kernel, in its own time.
                sockopt::set_socket_keepalive(stream, true)?;
            }
            Self::Tls(socket) => socket.prepare(stall)?,
        }
        Ok(())
    }

    pub(super) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Unix(stream) => (&mut &*stream).read(buf),
                Self::Tcp(stream) => (&mut &*stream).read(buf),
                Self::Tls(socket) => socket.read(buf),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    pub(super) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(stream) => (&mut &*stream).write_all(bytes),
            Self::Tcp(stream) => (&mut &*stream).write_all(bytes),
            Self::Tls(socket) => socket.write_all(bytes),
        }
    }

    /// Ends both directions: whoever is blocked in a read or write of it wakes up.
    pub(super) fn hang_up(&self) {
        // It fails only where the peer was faster.
        let _ = rustix::net::shutdown(self.as_fd(), Shutdown::Both);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(socket) => socket.socket().as_fd(),
        }
    }
}
