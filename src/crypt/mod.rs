//! Encryption: what is locked becomes readable with a key, and stays unreadable without one.
//!
//! ```text
//! key ─▶ kdf (PBKDF2, Argon2) ─▶ key of a slot ─▶ its area, merged (AF) ─▶ volume key ─▶ fits the digest?
//!                                                                              │
//!              stored sectors ─▶ Decrypted, with the cipher under that key ◀───┘ ─▶ the plain disk
//! ```
//! A header is read by [`luks`] and [`bitlocker`]; the sectors by [`Decrypted`]. Nothing here asks for a key or opens a file.

use crate::error::{Error, ErrorKind, Result};

pub mod bitlocker;
pub mod cipher;
mod diffuser;
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

/// Runs slow work on a thread of its own: the processor time that opening an image may take is not meant for it.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("unlock".to_owned()).spawn_scoped(scope, work);
        let thread =
            thread.map_err(|error| Error::new(ErrorKind::Host, "cannot start a thread").caused_by(error))?;
        thread.join().map_err(|_| Error::new(ErrorKind::Internal, "deriving a key failed"))
    })
}
