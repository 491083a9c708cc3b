//! The NBD protocol's vocabulary, for both ends of it: our server and our client. Bytes in, values out; no I/O here.
//!
//! | module | section of the specification |
//! |---|---|
//! | this one | "Values": the numbers |
//! | [`options`] | "Option types": what options carry, and how they are answered |
//! | [`requests`] | "Request message", "Compact" and "Extended" |
//! | [`replies`] | "Simple reply message", "Structured" and "Extended reply chunk message" |
//!
//! Specification: the NBD project, `doc/proto.md`; for extended headers its branch `extension-ext-header`, which qemu and
//! libnbd implement.

pub mod options;
pub mod replies;
pub mod requests;

/// In front of every option.
pub const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
/// In front of every answer to an option.
pub const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// In front of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// In front of every request once extended headers were agreed on.
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// In front of a simple reply.
pub const SIMPLE_MAGIC: u32 = 0x6744_6698;
/// In front of every chunk of a structured reply.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;
/// In front of every chunk of a reply once extended headers were agreed on.
pub const EXTENDED_CHUNK_MAGIC: u32 = 0x6e8a_278c;

/// Handshake flag: options may be refused without the connection's end.
pub const FIXED_NEWSTYLE: u16 = 1 << 0;
/// Handshake flag: no [`LEGACY_ZEROES`].
pub const NO_ZEROES: u16 = 1 << 1;
/// Zero bytes after the answer to [`option::EXPORT_NAME`], for a client that did not ask to be spared them.
pub const LEGACY_ZEROES: usize = 124;

/// The metadata context that tells data from holes and zeros.
pub const ALLOCATION: &[u8] = b"base:allocation";
/// qemu's metadata context that tells in which layer bytes lie: 0 in none, 1 in the image itself, 2 in the one below it.
pub const ALLOCATION_DEPTH: &[u8] = b"qemu:allocation-depth";

/// How requests and replies look, as the options have settled it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Compact requests, simple replies.
    #[default]
    Simple,
    /// Compact requests; replies in chunks.
    Structured,
    /// Requests and chunks with headers of 32 bytes and lengths of 64 bits.
    Extended,
}

impl Style {
    /// Do replies come in chunks?
    #[must_use]
    pub const fn has_chunks(self) -> bool {
        matches!(self, Self::Structured | Self::Extended)
    }

    /// Bytes of a request's header.
    #[must_use]
    pub const fn request_header(self) -> usize {
        match self {
            Self::Simple | Self::Structured => requests::COMPACT,
            Self::Extended => requests::EXTENDED,
        }
    }
}

/// Options a client sends, "Option types".
#[expect(missing_docs, reason = "the specification's own names")]
pub mod option {
    pub const EXPORT_NAME: u32 = 1;
    pub const ABORT: u32 = 2;
    pub const LIST: u32 = 3;
    pub const STARTTLS: u32 = 5;
    pub const INFO: u32 = 6;
    pub const GO: u32 = 7;
    pub const STRUCTURED_REPLY: u32 = 8;
    pub const LIST_META_CONTEXT: u32 = 9;
    pub const SET_META_CONTEXT: u32 = 10;
    pub const EXTENDED_HEADERS: u32 = 11;
}

/// Kinds of answers to options, "Option reply types".
#[expect(missing_docs, reason = "the specification's own names")]
pub mod rep {
    pub const ACK: u32 = 1;
    pub const SERVER: u32 = 2;
    pub const INFO: u32 = 3;
    pub const META_CONTEXT: u32 = 4;
    pub const ERROR: u32 = 1 << 31;
    pub const ERR_UNSUP: u32 = ERROR | 1;
    pub const ERR_POLICY: u32 = ERROR | 2;
    pub const ERR_INVALID: u32 = ERROR | 3;
    pub const ERR_TLS_REQD: u32 = ERROR | 5;
    pub const ERR_UNKNOWN: u32 = ERROR | 6;
    pub const ERR_SHUTDOWN: u32 = ERROR | 7;
    pub const ERR_BLOCK_SIZE_REQD: u32 = ERROR | 8;
    pub const ERR_TOO_BIG: u32 = ERROR | 9;
    pub const ERR_EXT_HEADER_REQD: u32 = ERROR | 10;
}

/// Pieces of information that `INFO` and `GO` carry, "Option types".
#[expect(missing_docs, reason = "the specification's own names")]
pub mod info {
    pub const EXPORT: u16 = 0;
    pub const NAME: u16 = 1;
    pub const DESCRIPTION: u16 = 2;
    pub const BLOCK_SIZE: u16 = 3;
}

/// What a client may do, "Transmission flags".
#[expect(missing_docs, reason = "the specification's own names")]
pub mod transmission_flag {
    pub const HAS_FLAGS: u16 = 1 << 0;
    pub const READ_ONLY: u16 = 1 << 1;
    pub const SEND_DF: u16 = 1 << 7;
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    pub const SEND_CACHE: u16 = 1 << 10;
    pub const BLOCK_STATUS_PAYLOAD: u16 = 1 << 12;
}

/// Flags of requests, "Command flags".
#[expect(missing_docs, reason = "the specification's own names")]
pub mod command_flag {
    pub const FUA: u16 = 1 << 0;
    pub const NO_HOLE: u16 = 1 << 1;
    pub const DF: u16 = 1 << 2;
    pub const REQ_ONE: u16 = 1 << 3;
    pub const FAST_ZERO: u16 = 1 << 4;
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// The flags of [`ALLOCATION`], "`base:` metadata context".
#[expect(missing_docs, reason = "the specification's own names")]
pub mod state {
    pub const HOLE: u32 = 1 << 0;
    pub const ZERO: u32 = 1 << 1;
}

/// Why a request failed, "Error values".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// The export is read-only.
    Perm,
    /// It could not be read.
    Io,
    /// The request makes no sense.
    Inval,
}

impl Errno {
    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Perm => 1,
            Self::Io => 5,
            Self::Inval => 22,
        }
    }
}

/// Kinds of requests, "Request types".
#[expect(missing_docs, reason = "the specification's own names")]
pub mod request {
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISC: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const CACHE: u16 = 5;
    pub const WRITE_ZEROES: u16 = 6;
    pub const BLOCK_STATUS: u16 = 7;
}

/// Kinds of chunks of a structured reply, "Structured reply types".
#[expect(missing_docs, reason = "the specification's own names")]
pub mod chunk {
    /// The flag of an answer's last one.
    pub const DONE: u16 = 1;
    pub const NONE: u16 = 0;
    pub const OFFSET_DATA: u16 = 1;
    pub const OFFSET_HOLE: u16 = 2;
    pub const BLOCK_STATUS: u16 = 5;
    pub const BLOCK_STATUS_EXT: u16 = 6;
    /// Set in all that report an error.
    pub const IS_ERROR: u16 = 1 << 15;
    pub const ERROR: u16 = IS_ERROR | 1;
    pub const ERROR_OFFSET: u16 = IS_ERROR | 2;
}
