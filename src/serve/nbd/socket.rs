//! A socket after the handshake: blocking, of either family, encrypted or not.

use super::encrypted::Encrypted;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, sockopt};
use std::io::{self, Read as _};
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
    /// Makes it blocking for who reads, and fast.
    pub(super) fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => {
                stream.set_nonblocking(false)?;
                // A smaller buffer is slower and nothing worse.
                let _ = sockopt::set_socket_send_buffer_size_force(stream, SEND_BUFFER)
                    .or_else(|_| sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER));
            }
            Self::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                // A peer whose host vanished is noticed by the kernel, in its own time.
                sockopt::set_socket_keepalive(stream, true)?;
            }
            Self::Tls(socket) => socket.socket().prepare()?,
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

    /// Takes what there is room for, and tells how much that was and whether all that was ever taken has left. If not,
    /// there was no room for more, and the caller goes on with the rest, empty or not, when there is.
    pub(super) fn send_at_once(&self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        if let Self::Tls(socket) = self {
            return socket.send_at_once(bytes);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::io::retry_on_intr(|| send(self, bytes, flags)) {
            Ok(sent) => Ok((sent, sent == bytes.len())),
            Err(Errno::AGAIN) => Ok((0, false)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until there is room to send. `false`: there was none for so long.
    pub(super) fn wait_for_room(&self, time: Duration) -> io::Result<bool> {
        let time = Timespec::try_from(time).ok();
        match poll(&mut [PollFd::new(self, PollFlags::OUT)], time.as_ref()) {
            Ok(0) => Ok(false),
            Ok(_) | Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(errno.into()),
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
