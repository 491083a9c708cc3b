//! Encryption: what is locked becomes readable with a key, and stays unreadable without one.
//!
//! ```text
//! key ─▶ kdf (PBKDF2, Argon2) ─▶ key of a slot ─▶ its area, merged (AF) ─▶ volume key ─▶ fits the digest?
//!                                                                              │
//!              stored sectors ─▶ Decrypted, with the cipher under that key ◀───┘ ─▶ the plain disk
//! ```
//! A header is read by [`luks`]; the sectors by [`Decrypted`]. Nothing here asks for a key or opens a file.

pub mod cipher;
pub mod hash;
pub mod kdf;
pub mod luks;
mod source;

pub use source::{Decrypted, Region};
