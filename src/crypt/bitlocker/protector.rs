//! Protectors: the ways to the volume master key. Each holds it once more, sealed under a key that somebody has: a password,
//! a recovery password, a key file, a TPM; or that lies beside it in the clear, while protection is suspended.
//!
//! "BitLocker Drive Encryption (BDE) format specification" of libbde, "FVE Volume Master Key (VMK)".

use super::KeyBytes;
use super::entry::{Sealed, bad, entries, kind};
use crate::error::Result;
use crate::ondisk::{get_le16, guid};
use sha2::{Digest as _, Sha256};
use std::fmt;
use zerocopy::little_endian::U64;
use zerocopy::{Immutable, IntoBytes};
use zeroize::Zeroizing;

/// Rounds that make a password's key.
const ROUNDS: u64 = 0x10_0000;
/// Bytes in front of a protector's entries.
const HEADER: usize = 28;

/// Who has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Everybody: it lies in the clear.
    Clear,
    /// A key file.
    Startup,
    /// 48 digits.
    Recovery,
    Password,
    /// What this program cannot ask, by its number.
    Other(u16),
}

/// One way.
#[derive(Clone, Debug)]
pub(super) struct Protector {
    pub(super) id: [u8; 16],
    pub(super) kind: Kind,
    salt: Option<[u8; 16]>,
    /// In the clear.
    key: Option<KeyBytes>,
    /// The volume master key.
    master: Option<Sealed>,
}

impl Protector {
    /// Reads the data of an entry.
    pub(super) fn parse(data: &[u8]) -> Result<Self> {
        let id = data.first_chunk().copied();
        let (Some(id), Some(number), Some(inner)) = (id, get_le16(data, 26), data.get(HEADER..)) else {
            return Err(bad(format!("a protector of {} bytes", data.len())));
        };
        let kind = match number {
            0x0000 => Kind::Clear,
            0x0200 => Kind::Startup,
            0x0800 => Kind::Recovery,
            0x2000 => Kind::Password,
            other => Kind::Other(other),
        };
        let mut found = Self { id, kind, salt: None, key: None, master: None };
        for entry in entries(inner)? {
            match entry.kind {
                // Behind the method, 4 bytes.
                kind::KEY => found.key = entry.data.get(4..).map(|key| Zeroizing::new(key.to_vec())),
                kind::STRETCH => {
                    found.salt = entry.data.get(4..).and_then(|data| data.first_chunk().copied());
                }
                // A startup key's second one is for what stores that key, and comes first in no volume seen.
                kind::SEALED if found.master.is_none() => found.master = Some(Sealed::parse(entry.data)?),
                _ => {}
            }
        }
        Ok(found)
    }

    /// The volume master key under the key in the clear.
    pub(super) fn open_clear(&self) -> Option<KeyBytes> {
        self.open(self.key.as_deref()?)
    }

    /// The volume master key under `key`.
    pub(super) fn open(&self, key: &[u8]) -> Option<KeyBytes> {
        self.master.as_ref()?.key(key)
    }

    /// The volume master key under what becomes of the hash of a password. This takes about a second.
    pub(super) fn open_stretched(&self, hash: [u8; 32]) -> Option<KeyBytes> {
        self.open(&*stretch(hash, self.salt?))
    }
}

impl fmt::Display for Protector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Clear => f.write_str("clear key"),
            Kind::Startup => write!(f, "key file {}.BEK", guid(&self.id).to_uppercase()),
            Kind::Recovery => write!(f, "recovery password {}", guid(&self.id).to_uppercase()),
            Kind::Password => f.write_str("password"),
            Kind::Other(0x0100) => f.write_str("TPM"),
            Kind::Other(0x0500) => f.write_str("TPM with PIN"),
            Kind::Other(0x1000) => f.write_str("smart card"),
            Kind::Other(number) => write!(f, "protector of kind {number:#06x}"),
        }
    }
}

/// What is hashed over and over.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Chain {
    last: [u8; 32],
    first: [u8; 32],
    salt: [u8; 16],
    count: U64,
}

/// The key of a password whose hash is `first`.
fn stretch(first: [u8; 32], salt: [u8; 16]) -> Zeroizing<[u8; 32]> {
    let mut chain = Chain { last: [0; 32], first, salt, count: U64::ZERO };
    for count in 0..ROUNDS {
        chain.count = U64::new(count);
        chain.last = Sha256::digest(chain.as_bytes()).into();
    }
    Zeroizing::new(chain.last)
}
