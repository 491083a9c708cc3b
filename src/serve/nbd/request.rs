//! Requests: taking them off the socket, many with one system call.

use super::context::Context;
use super::export::MAX_REQUEST;
use super::socket::Socket;
use crate::nbd_protocol::requests::{Request, StatusPayload};
use crate::nbd_protocol::{Style, request as kinds};
use crate::num::{narrow, wide};
use std::io;

/// Bytes read from the socket at once: room for more than 500 requests.
const INBOX: usize = 16 << 10;

/// Longest payload that is looked at: every context there is, once. A longer one names some twice, or ones unknown.
const MAX_CONTEXTS: usize = StatusPayload::HEADER + Context::ALL.len() * StatusPayload::CONTEXT;

/// What a client asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) request: Request,
    /// What came behind the header of a block status request, if it makes sense; all other payload is read over.
    pub(super) choice: Option<StatusPayload>,
    /// How much of the data has left already, in chunks: who takes the request up goes on there.
    pub(super) sent: u64,
}

/// What came from the client and was not looked at yet.
#[derive(Debug)]
pub(super) struct Inbox {
    style: Style,
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(super) fn new(style: Style) -> Self {
        Self { style, bytes: vec![0; INBOX].into(), start: 0, end: 0 }
    }

    fn held(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Is there a request, with all that belongs to it, without asking the socket?
    pub(super) fn has_request(&self) -> bool {
        let Some((header, rest)) = self.held().split_at_checked(self.style.request_header()) else {
            return false;
        };
        // What is no request needs no more bytes to be told from one.
        let request = Request::parse(self.style, header);
        request.is_none_or(|request| request.payload(self.style) <= wide(rest.len()))
    }

    /// The next request, waited for. `None`: the client left, properly or not, or is out of step.
    ///
    /// # Errors
    /// What the socket reports.
    pub(super) fn next(&mut self, socket: &Socket) -> io::Result<Option<Asked>> {
        if !self.hold(self.style.request_header(), socket)? {
            return Ok(None);
        }
        let Some(request) = Request::parse(self.style, self.held()) else { return Ok(None) };
        self.start = self.start.saturating_add(self.style.request_header());
        let payload = request.payload(self.style);
        if payload > u64::from(MAX_REQUEST) || request.kind == kinds::DISC {
            return Ok(None);
        }
        let mut choice = None;
        if request.kind == kinds::BLOCK_STATUS && (1..=wide(MAX_CONTEXTS)).contains(&payload) {
            if !self.hold(narrow(payload), socket)? {
                return Ok(None);
            }
            choice = self.held().get(..narrow(payload)).and_then(StatusPayload::parse);
        }
        // What nobody looks at is read over all the same, to stay in step.
        Ok(self.skip(payload, socket)?.then_some(Asked { request, choice, sent: 0 }))
    }

    /// Waits until so many bytes (fewer than fit) are held. `false`: the client left before.
    fn hold(&mut self, len: usize, socket: &Socket) -> io::Result<bool> {
        while self.held().len() < len {
            if self.fill(socket)? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
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
    use crate::nbd_protocol::REQUEST_MAGIC;
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
        let (mut inbox, socket) = (Inbox::new(Style::Structured), Socket::Unix(server));
        assert_eq!(inbox.next(&socket).unwrap().unwrap().request.kind, kinds::WRITE);
        assert_eq!(inbox.next(&socket).unwrap().unwrap().request.kind, kinds::READ);
        sender.join().unwrap();
        assert_eq!(inbox.next(&socket).unwrap(), None);
    }

    #[test]
    fn a_write_is_no_request_before_its_data_is_there() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(&[request(kinds::READ, 4096), request(kinds::WRITE, 4096)].concat()).unwrap();
        let (mut inbox, socket) = (Inbox::new(Style::Structured), Socket::Unix(server));
        assert_eq!(inbox.next(&socket).unwrap().unwrap().request.kind, kinds::READ);
        assert!(!inbox.has_request());
    }

    #[test]
    fn a_wrong_magic_number_ends_the_session() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(&[0; 28]).unwrap();
        assert_eq!(Inbox::new(Style::Simple).next(&Socket::Unix(server)).unwrap(), None);
    }
}
