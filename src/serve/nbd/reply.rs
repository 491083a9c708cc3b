//! Replies: how an answer to a request looks on the wire, and the buffer in which it is put together.
//!
//! A reply's data is read straight behind the room that its header needs, so that header and data leave in one
//! `write` without being copied. `doc/proto.md` of the NBD project, "Simple reply message", "Structured reply chunk".

use crate::error::Error;
use crate::nbd_protocol::{CHUNK_MAGIC, SIMPLE_MAGIC, chunk};
use crate::num::wide;
use crate::text::escape;

/// Data of one chunk at most, in bytes: a buffer of this size still lies in the processor's cache when the
/// kernel copies it out, and larger ones were not faster.
pub(super) const CHUNK: usize = 256 << 10;

/// Room in front of the data for headers that have not been sent yet; keeps the data page-aligned.
const ROOM: usize = 4096;
/// Headers that may wait in that room; the rest is for the header of the data itself.
const WAITING: usize = ROOM - 64;

/// Bytes of an error text; the specification allows 4096.
const MAX_TEXT: usize = 1024;

/// Errors of the protocol, "Error values".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errno {
    Perm,
    Io,
    Inval,
}

impl Errno {
    const fn code(self) -> u32 {
        match self {
            Self::Perm => 1,
            Self::Io => 5,
            Self::Inval => 22,
        }
    }
}

/// Why a request failed, for the client's program and for people.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) errno: Errno,
    pub(super) text: String,
    /// Where, if a part of a read failed.
    pub(super) offset: Option<u64>,
}

impl Failure {
    pub(super) fn new(errno: Errno, text: &str) -> Self {
        Self { errno, text: text.to_owned(), offset: None }
    }

    /// A read at `offset` that failed.
    pub(super) fn read(error: &Error, offset: u64) -> Self {
        // The request's own range was checked before: whatever is out of range here is the image's fault.
        Self { errno: Errno::Io, text: error.chain(), offset: Some(offset) }
    }

    /// The text as the protocol carries it: UTF-8 that obeys no terminal, cut between characters.
    fn message(&self) -> String {
        let mut text = String::new();
        for c in escape(self.text.as_bytes()).to_string().chars() {
            if text.len().saturating_add(c.len_utf8()) > MAX_TEXT {
                break;
            }
            text.push(c);
        }
        text
    }
}

/// The buffer of one serving thread.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// [`ROOM`], then data. Allocated by the first read.
    bytes: Vec<u8>,
    /// Headers and small chunks that leave with the next data, or alone.
    waiting: Vec<u8>,
}

fn header(out: &mut Vec<u8>, flags: u16, kind: u16, cookie: u64, len: u64) {
    out.extend(CHUNK_MAGIC.to_be_bytes());
    out.extend(flags.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(cookie.to_be_bytes());
    // The longest chunk is one unfragmented read of 32 MiB.
    out.extend(u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}

const fn flags(last: bool) -> u16 {
    if last { chunk::DONE } else { 0 }
}

impl Buffer {
    /// The header of a simple reply without error. A read's data follows.
    pub(super) fn simple(&mut self, cookie: u64) {
        self.waiting.extend(SIMPLE_MAGIC.to_be_bytes());
        self.waiting.extend(0_u32.to_be_bytes());
        self.waiting.extend(cookie.to_be_bytes());
    }

    /// The whole simple reply to a request that failed.
    pub(super) fn simple_error(&mut self, cookie: u64, failure: &Failure) {
        self.waiting.extend(SIMPLE_MAGIC.to_be_bytes());
        self.waiting.extend(failure.errno.code().to_be_bytes());
        self.waiting.extend(cookie.to_be_bytes());
    }

    /// A chunk that says: done, nothing more to tell.
    pub(super) fn none(&mut self, cookie: u64) {
        header(&mut self.waiting, chunk::DONE, chunk::NONE, cookie, 0);
    }

    /// The header of `len` bytes of data.
    pub(super) fn data_header(&mut self, cookie: u64, last: bool, offset: u64, len: u64) {
        header(&mut self.waiting, flags(last), chunk::OFFSET_DATA, cookie, len.saturating_add(8));
        self.waiting.extend(offset.to_be_bytes());
    }

    /// A chunk that says: these bytes are zero.
    pub(super) fn hole(&mut self, cookie: u64, last: bool, offset: u64, len: u32) {
        header(&mut self.waiting, flags(last), chunk::OFFSET_HOLE, cookie, 12);
        self.waiting.extend(offset.to_be_bytes());
        self.waiting.extend(len.to_be_bytes());
    }

    /// A chunk that says what failed, and ends the reply.
    pub(super) fn error(&mut self, cookie: u64, failure: &Failure) {
        let text = failure.message();
        let (kind, tail) =
            if failure.offset.is_some() { (chunk::ERROR_OFFSET, 14) } else { (chunk::ERROR, 6) };
        header(&mut self.waiting, chunk::DONE, kind, cookie, wide(text.len()).saturating_add(tail));
        self.waiting.extend(failure.errno.code().to_be_bytes());
        self.waiting.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
        self.waiting.extend(text.as_bytes());
        if let Some(offset) = failure.offset {
            self.waiting.extend(offset.to_be_bytes());
        }
    }

    /// A chunk with the status of consecutive extents: length and flags of each. Ends the reply.
    pub(super) fn status(&mut self, cookie: u64, context: u32, extents: &[(u32, u32)]) {
        let len = wide(extents.len()).saturating_mul(8).saturating_add(4);
        header(&mut self.waiting, chunk::DONE, chunk::BLOCK_STATUS, cookie, len);
        self.waiting.extend(context.to_be_bytes());
        for (len, flags) in extents {
            self.waiting.extend(len.to_be_bytes());
            self.waiting.extend(flags.to_be_bytes());
        }
    }

    /// Where `len` bytes of data (at most [`CHUNK`]) are to be read to.
    pub(super) fn data(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes.resize(ROOM.saturating_add(CHUNK), 0);
        }
        let data = self.bytes.get_mut(ROOM..).and_then(|data| data.get_mut(..len));
        data.expect("no more than a chunk is ever asked for")
    }

    /// Everything that waits, followed by the first `len` bytes of data, in one piece. Nothing waits afterwards.
    pub(super) fn with_data(&mut self, len: usize) -> &[u8] {
        let start = ROOM.saturating_sub(self.waiting.len());
        if let Some(room) = self.bytes.get_mut(start..ROOM) {
            room.copy_from_slice(&self.waiting);
        }
        self.waiting.clear();
        self.bytes.get(start..ROOM.saturating_add(len)).expect("the data was read into this buffer")
    }

    /// Does what waits have to leave before another header fits in?
    pub(super) const fn is_crowded(&self) -> bool {
        self.waiting.len() > WAITING
    }

    /// What waits.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.waiting
    }

    /// Forgets what waits: it has been sent.
    pub(super) fn sent(&mut self) {
        self.waiting.clear();
        // One long list of extents does not stay for the life of the connection.
        self.waiting.shrink_to(ROOM);
    }
}
