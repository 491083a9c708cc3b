//! Encryption: what is locked becomes readable with a key, and stays unreadable without one.
//!
//! ```text
//! key ─▶ kdf (PBKDF2, Argon2) ─▶ key of a slot ─▶ its area, merged (AF) ─▶ volume key ─▶ fits the digest?
//!                                                                              │
//!              stored sectors ─▶ Decrypted, with the cipher under that key ◀───┘ ─▶ the plain disk
//! ```
//! A header is read by [`luks`]; the sectors by [`Decrypted`]. Nothing here asks for a key or opens a file.

use crate::error::{Error, ErrorKind};

pub mod cipher;
pub mod hash;
pub mod kdf;
pub mod luks;
mod source;

pub use source::{Decrypted, Region};

/// What is locked by `method`, and no key was given.
#[must_use]
pub fn locked(method: &str) -> Error {
    Error::new(ErrorKind::Encrypted, format!("is locked ({method}), and no key was given"))
        .help("give its key: --key disk:file:FILE or --key disk:env:VARIABLE; on a terminal it is asked for")
}

/// What is locked by `method`, and no key that was given opens it.
#[must_use]
pub fn misfit(method: &str) -> Error {
    Error::new(ErrorKind::Encrypted, format!("is locked ({method}), and no key given fits"))
        .help("a key file is taken as it is, and once more without a newline at its end; --key disk:file:FILE, --key disk:env:VARIABLE")
}
