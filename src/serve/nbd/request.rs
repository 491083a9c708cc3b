//! Requests: taking them off the socket, many with one system call.

use super::export::MAX_REQUEST;
use super::socket::Socket;
use crate::nbd_protocol::{REQUEST_MAGIC, request as kinds};
use crate::num::{narrow, wide};
use std::io;

/// Bytes read from the socket at once: room for 585 requests.
const INBOX: usize = 16 << 10;
/// Bytes of a request without its payload.
const HEADER: usize = 28;

/// Flags of requests, "Command flags".
pub(super) mod flag {
    /// Do not fragment the reply.
    pub(in super::super) const DF: u16 = 1 << 2;
    /// One extent is enough.
    pub(in super::super) const REQ_ONE: u16 = 1 << 3;
}

/// One request, as sent: nothing in it has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) flags: u16,
    pub(super) kind: u16,
    pub(super) cookie: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
}

impl Request {
    /// `None` where the magic number is wrong: client and server are out of step.
    fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (flags, rest) = rest.split_first_chunk::<2>()?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let (cookie, rest) = rest.split_first_chunk::<8>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (length, _) = rest.split_first_chunk::<4>()?;
        (u32::from_be_bytes(*magic) == REQUEST_MAGIC).then(|| Self {
            flags: u16::from_be_bytes(*flags),
            kind: u16::from_be_bytes(*kind),
            cookie: u64::from_be_bytes(*cookie),
            offset: u64::from_be_bytes(*offset),
            length: u32::from_be_bytes(*length),
        })
    }
}

/// What came from the client and was not looked at yet.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; INBOX].into(), start: 0, end: 0 }
    }

    fn held(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Is there a whole request without asking the socket?
    pub(super) fn has_request(&self) -> bool {
        self.held().len() >= HEADER
    }

    /// The next request, waited for. `None`: the client left, properly or not, or is out of step.
    ///
    /// # Errors
    /// What the socket reports.
    pub(super) fn next(&mut self, socket: &Socket) -> io::Result<Option<Request>> {
        while !self.has_request() {
            if self.fill(socket)? == 0 {
                return Ok(None);
            }
        }
        let Some(request) = self.held().first_chunk().and_then(Request::parse) else { return Ok(None) };
        self.start = self.start.saturating_add(HEADER);
        if request.kind == kinds::WRITE {
            // The data of a write follows it at once. It is refused, but has to be read over to stay in step.
            if request.length > MAX_REQUEST || !self.skip(request.length.into(), socket)? {
                return Ok(None);
            }
        }
        Ok(Some(request).filter(|request| request.kind != kinds::DISC))
    }

    /// Reads once more from the socket, behind what is held.
    fn fill(&mut self, socket: &Socket) -> io::Result<usize> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end = self.end.saturating_sub(self.start);
        self.start = 0;
        let read = socket.read(self.bytes.get_mut(self.end..).unwrap_or_default())?;
        self.end = self.end.saturating_add(read);
        Ok(read)
    }

    /// Reads over `len` bytes. `false`: the client left before.
    fn skip(&mut self, mut len: u64, socket: &Socket) -> io::Result<bool> {
        loop {
            let now = wide(self.held().len()).min(len);
            self.start = self.start.saturating_add(narrow(now));
            len = len.saturating_sub(now);
            if len == 0 {
                return Ok(true);
            }
            if self.fill(socket)? == 0 {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    fn request(kind: u16, length: u32) -> Vec<u8> {
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(7_u64.to_be_bytes());
        bytes.extend(512_u64.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes
    }

    #[test]
    fn the_data_of_a_write_is_read_over_wherever_it_is_split() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let sender = std::thread::spawn(move || {
            client.write_all(&request(kinds::WRITE, 100_000)).unwrap();
            client.write_all(&vec![0x25; 100_000]).unwrap();
            client.write_all(&request(kinds::READ, 4096)).unwrap();
        });
        let (mut inbox, socket) = (Inbox::new(), Socket::Unix(server));
        assert_eq!(inbox.next(&socket).unwrap().unwrap().kind, kinds::WRITE);
        assert_eq!(inbox.next(&socket).unwrap().unwrap().kind, kinds::READ);
        sender.join().unwrap();
        assert_eq!(inbox.next(&socket).unwrap(), None);
    }

    #[test]
    fn a_wrong_magic_number_ends_the_session() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(&[0; HEADER]).unwrap();
        assert_eq!(Inbox::new().next(&Socket::Unix(server)).unwrap(), None);
    }
}
