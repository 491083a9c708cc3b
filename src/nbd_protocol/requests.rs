//! Requests: the header that a client sends in front of each, compact or extended. "Request message".

use super::{EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC, Style, command_flag, options::Fields, request};

/// Bytes of a compact request's header.
pub const COMPACT: usize = 28;
/// Bytes of an extended request's header.
pub const EXTENDED: usize = 32;

/// One request, as sent: nothing in it has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// [`command_flag`].
    pub flags: u16,
    /// [`request`].
    pub kind: u16,
    /// What the client recognises the reply by.
    pub cookie: u64,
    /// The first byte meant.
    pub offset: u64,
    /// Of the range meant ("effect length"), or of the data behind the header: see [`Request::payload`].
    pub length: u64,
}

impl Request {
    /// `None` where the magic number is wrong: client and server are out of step.
    #[must_use]
    pub fn parse(style: Style, bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let magic = fields.u32()?;
        let (flags, kind) = (fields.u16()?, fields.u16()?);
        let (cookie, offset) = (fields.u64()?, fields.u64()?);
        let (expected, length) = match style {
            Style::Simple | Style::Structured => (REQUEST_MAGIC, u64::from(fields.u32()?)),
            Style::Extended => (EXTENDED_REQUEST_MAGIC, fields.u64()?),
        };
        (magic == expected).then_some(Self { flags, kind, cookie, offset, length })
    }

    /// Bytes of data that follow the header. A write has them even from a client that forgets to say so.
    #[must_use]
    pub const fn payload(&self, style: Style) -> u64 {
        let said = matches!(style, Style::Extended) && self.flags & command_flag::PAYLOAD_LEN != 0;
        if said || self.kind == request::WRITE { self.length } else { 0 }
    }
}

/// What a block status request may carry: the range that is meant, and the contexts that are wanted of it.
#[derive(Debug, PartialEq, Eq)]
pub struct StatusPayload {
    /// "Effect length".
    pub length: u64,
    /// The numbers of contexts.
    pub contexts: Vec<u32>,
}

impl StatusPayload {
    /// Bytes in front of the contexts.
    pub const HEADER: usize = 8;
    /// Bytes of each context.
    pub const CONTEXT: usize = 4;

    /// `None` unless it is a length and whole numbers.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let length = fields.u64()?;
        let mut contexts = Vec::new();
        while fields.end().is_none() {
            contexts.push(fields.u32()?);
        }
        Some(Self { length, contexts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_the_other_style_is_none() {
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend([0; EXTENDED - 4]);
        assert!(Request::parse(Style::Structured, &bytes).is_some());
        assert_eq!(Request::parse(Style::Extended, &bytes), None);
    }

    #[test]
    fn half_a_context_is_no_payload() {
        assert!(StatusPayload::parse(&[0; 12]).is_some());
        assert_eq!(StatusPayload::parse(&[0; 14]), None);
        assert_eq!(StatusPayload::parse(&[0; 7]), None);
    }
}
