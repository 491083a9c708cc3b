//! An encrypted socket: a connection after its TLS handshake, blocking, read by one thread and written by several.
//!
//! Nobody waits for the peer with the lock in hand. The reader takes bytes off the socket first and decrypts them
//! under the lock; a writer encrypts under it, sends what the kernel takes at once, and waits for room without it.
//! Records leave in the order in which they were encrypted because both happen under the same lock.

use super::socket::Socket;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use rustls::ServerConnection;
use std::io::{self, IoSlice, Read as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes taken off the socket at once: a record of full length (RFC 8446, 5.2) and its header.
const INCOMING: usize = (16 << 10) + 256 + 5;
/// Bytes that are encrypted before they are sent: they stay in the processor's cache on their way.
const PIECE: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Encrypted {
    socket: Socket,
    connection: Mutex<ServerConnection>,
    /// Held by the one thread that reads.
    incoming: Mutex<Incoming>,
}

/// What came off the socket and was not decrypted yet.
#[derive(Debug)]
struct Incoming {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

/// Sends what the kernel takes at once.
struct AtOnce<'a>(BorrowedFd<'a>);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent =
            rustix::io::retry_on_intr(|| sendmsg(self.0, slices, &mut SendAncillaryBuffer::default(), flags));
        Ok(sent?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends what waits. `false`: the kernel takes no more of it for now.
fn send(connection: &mut ServerConnection, socket: &Socket) -> io::Result<bool> {
    while connection.wants_write() {
        match connection.write_tls(&mut AtOnce(socket.as_fd())) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

impl Encrypted {
    /// Goes on where the handshake ended: what came after it is in `connection` already.
    pub(super) fn new(socket: Socket, mut connection: ServerConnection) -> Self {
        connection.set_buffer_limit(Some(PIECE));
        let incoming = Incoming { bytes: vec![0; INCOMING].into(), start: 0, end: 0 };
        Self { socket, connection: Mutex::new(connection), incoming: Mutex::new(incoming) }
    }

    /// As [`Socket::read`]: 0 where the client has ended the connection, properly or not.
    pub(super) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut incoming = lock(&self.incoming);
        loop {
            match self.decrypt(&mut incoming, buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            incoming.start = 0;
            incoming.end = self.socket.read(&mut incoming.bytes)?;
            if incoming.end == 0 {
                return Ok(0);
            }
        }
    }

    /// Decrypts what came in until there is something to return. `WouldBlock` when all of it is used up.
    fn decrypt(&self, incoming: &mut Incoming, buf: &mut [u8]) -> io::Result<usize> {
        let mut connection = lock(&self.connection);
        loop {
            match connection.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            let mut held = incoming.bytes.get(incoming.start..incoming.end).unwrap_or_default();
            if held.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let taken = connection.read_tls(&mut held)?;
            incoming.start = incoming.start.saturating_add(taken);
            let processed = connection.process_new_packets();
            // TLS's own answers: to new keys, to a wish that is refused, or why this is the end. What there is no room
            // for leaves with the next reply.
            send(&mut connection, &self.socket)?;
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// As [`Socket::send_at_once`]. The caller sees to it that nothing of another thread comes in between.
    pub(super) fn send_at_once(&self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        let mut connection = lock(&self.connection);
        let taken = connection.writer().write(bytes)?;
        Ok((taken, send(&mut connection, &self.socket)?))
    }

    /// The socket that carries it.
    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }
}

impl Drop for Encrypted {
    /// Tells the client that this is the end and nothing was cut off, unless it was hung up on.
    fn drop(&mut self) {
        let connection = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Replies that a stalled client did not take are lost with it.
        connection.send_close_notify();
        let _ = send(connection, &self.socket);
    }
}
