//! Replies: how an answer to a request looks on the wire, in each style. "Simple reply message", "Structured reply chunk
//! message", "Extended reply chunk message".

use super::{CHUNK_MAGIC, EXTENDED_CHUNK_MAGIC, Errno, SIMPLE_MAGIC, Style, chunk};
use crate::num::wide;

/// Longest header that any reply has in front of its data, with the offset that belongs to the data.
pub const LONGEST_HEADER: usize = 40;

/// What all headers of one reply repeat.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// How they look.
    pub style: Style,
    /// Of the request.
    pub cookie: u64,
    /// Of the request; extended headers carry it.
    pub offset: u64,
}

/// Consecutive bytes of one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// How many.
    pub len: u64,
    /// What the context says of them.
    pub flags: u32,
}

/// A length that fits by what requests may ask for.
fn short(len: u64) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes()
}

impl Head {
    /// The header of a simple reply.
    fn simple(self, out: &mut Vec<u8>, errno: u32) {
        out.extend(SIMPLE_MAGIC.to_be_bytes());
        out.extend(errno.to_be_bytes());
        out.extend(self.cookie.to_be_bytes());
    }

    /// The header of a chunk with `len` bytes behind it.
    fn chunk(self, out: &mut Vec<u8>, last: bool, kind: u16, len: u64) {
        let extended = self.style == Style::Extended;
        out.extend(if extended { EXTENDED_CHUNK_MAGIC } else { CHUNK_MAGIC }.to_be_bytes());
        out.extend(if last { chunk::DONE } else { 0 }.to_be_bytes());
        out.extend(kind.to_be_bytes());
        out.extend(self.cookie.to_be_bytes());
        if extended {
            out.extend(self.offset.to_be_bytes());
            out.extend(len.to_be_bytes());
        } else {
            out.extend(short(len));
        }
    }

    /// Done, nothing more to tell.
    pub fn done(self, out: &mut Vec<u8>) {
        match self.style {
            Style::Simple => self.simple(out, 0),
            Style::Structured | Style::Extended => self.chunk(out, true, chunk::NONE, 0),
        }
    }

    /// What comes before `len` bytes of data that lie at `offset`. A simple reply has all data in one piece.
    pub fn data(self, out: &mut Vec<u8>, last: bool, offset: u64, len: u64) {
        if self.style == Style::Simple {
            return self.simple(out, 0);
        }
        self.chunk(out, last, chunk::OFFSET_DATA, len.saturating_add(8));
        out.extend(offset.to_be_bytes());
    }

    /// A chunk that says: these bytes are zero.
    pub fn hole(self, out: &mut Vec<u8>, last: bool, offset: u64, len: u64) {
        self.chunk(out, last, chunk::OFFSET_HOLE, 12);
        out.extend(offset.to_be_bytes());
        out.extend(short(len));
    }

    /// What failed, and where if a part of a read did. Ends the reply. A simple reply has room for the number only.
    pub fn error(self, out: &mut Vec<u8>, errno: Errno, text: &str, offset: Option<u64>) {
        if self.style == Style::Simple {
            return self.simple(out, errno.code());
        }
        let (kind, tail) = if offset.is_some() { (chunk::ERROR_OFFSET, 14) } else { (chunk::ERROR, 6) };
        self.chunk(out, true, kind, wide(text.len()).saturating_add(tail));
        out.extend(errno.code().to_be_bytes());
        out.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
        out.extend(text.as_bytes());
        if let Some(offset) = offset {
            out.extend(offset.to_be_bytes());
        }
    }

    /// What one metadata context says of consecutive bytes.
    pub fn status(self, out: &mut Vec<u8>, last: bool, context: u32, extents: &[Status]) {
        let count = wide(extents.len());
        if self.style == Style::Extended {
            self.chunk(out, last, chunk::BLOCK_STATUS_EXT, count.saturating_mul(16).saturating_add(8));
            out.extend(context.to_be_bytes());
            out.extend(short(count));
            for extent in extents {
                out.extend(extent.len.to_be_bytes());
                out.extend(u64::from(extent.flags).to_be_bytes());
            }
        } else {
            self.chunk(out, last, chunk::BLOCK_STATUS, count.saturating_mul(8).saturating_add(4));
            out.extend(context.to_be_bytes());
            for extent in extents {
                // A compact request asks for less than 4 GiB.
                out.extend(short(extent.len));
                out.extend(extent.flags.to_be_bytes());
            }
        }
    }
}
