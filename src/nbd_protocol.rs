//! The NBD protocol's numbers, for both ends of it: our server and our client. Nothing but constants.
//!
//! Specification: the NBD project, `doc/proto.md`.

/// In front of every option.
pub const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
/// In front of every answer to an option.
pub const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// In front of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// In front of a simple reply.
pub const SIMPLE_MAGIC: u32 = 0x6744_6698;
/// In front of every chunk of a structured reply.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Handshake flag: options may be refused without the connection's end.
pub const FIXED_NEWSTYLE: u16 = 1 << 0;
/// Handshake flag: no [`LEGACY_ZEROES`].
pub const NO_ZEROES: u16 = 1 << 1;
/// Zero bytes after the answer to [`option::EXPORT_NAME`], for a client that did not ask to be spared them.
pub const LEGACY_ZEROES: usize = 124;

/// The metadata context that tells data from holes and zeros.
pub const ALLOCATION: &[u8] = b"base:allocation";

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
}

/// Pieces of information that `INFO` and `GO` carry, "Option types".
#[expect(missing_docs, reason = "the specification's own names")]
pub mod info {
    pub const EXPORT: u16 = 0;
    pub const NAME: u16 = 1;
    pub const DESCRIPTION: u16 = 2;
    pub const BLOCK_SIZE: u16 = 3;
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
    /// Set in all that report an error.
    pub const IS_ERROR: u16 = 1 << 15;
    pub const ERROR: u16 = IS_ERROR | 1;
    pub const ERROR_OFFSET: u16 = IS_ERROR | 2;
}
