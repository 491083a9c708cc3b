//! Replies: what a request that failed is answered, and the buffer in which replies are put together.
//!
//! A reply's data is read straight behind the room that its header needs, so that header and data leave in one
//! `write` without being copied. How they look is [`crate::nbd_protocol::replies`].

use crate::error::Error;
use crate::nbd_protocol::Errno;
use crate::nbd_protocol::replies::LONGEST_HEADER;
use crate::text::escape;

/// Data of one chunk at most, in bytes: a buffer of this size still lies in the processor's cache when the
/// kernel copies it out, and larger ones were not faster.
pub(super) const CHUNK: usize = 256 << 10;

/// Room in front of the data for headers that have not been sent yet; keeps the data page-aligned.
const ROOM: usize = 4096;
/// Headers that may wait in that room; the rest is for the header of the data itself.
const WAITING: usize = ROOM - LONGEST_HEADER - LONGEST_HEADER;

/// Bytes of an error text; the specification allows 4096.
const MAX_TEXT: usize = 1024;

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
    pub(super) fn message(&self) -> String {
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

impl Buffer {
    /// Where headers and small chunks are put, to leave with the next data, or alone.
    pub(super) const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.waiting
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
