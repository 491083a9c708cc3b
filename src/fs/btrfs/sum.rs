//! The four checksums that a file system can have: one of them over the superblock, every node and every block of data.
//!
//! btrfs on-disk format, "Checksums": `csum_type` of the superblock. Each has 32 bytes of room where it stands alone, and
//! in the tree of checksums as many bytes as it has.

use crate::checksum::{crc32c, xxh64};
use crate::error::{Error, Result};
use blake2::Blake2b;
use blake2::digest::consts::U32;
use sha2::{Digest, Sha256};

/// A kind of checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    /// CRC-32C, 4 bytes.
    Crc32c,
    /// XXH64, 8 bytes.
    Xxhash,
    /// SHA-256, 32 bytes.
    Sha256,
    /// BLAKE2b with 256 bits, 32 bytes.
    Blake2,
}

impl Sum {
    /// The one that `csum_type` names.
    ///
    /// # Errors
    /// `Unsupported` for another.
    pub(super) fn of_type(number: u16) -> Result<Self> {
        Ok(match number {
            0 => Self::Crc32c,
            1 => Self::Xxhash,
            2 => Self::Sha256,
            3 => Self::Blake2,
            other => return Err(Error::unsupported(format!("checksum type {other}"))),
        })
    }

    /// Its name in `dump-super`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Crc32c => "crc32c",
            Self::Xxhash => "xxhash64",
            Self::Sha256 => "sha256",
            Self::Blake2 => "blake2",
        }
    }

    /// Bytes of it.
    pub(super) const fn len(self) -> usize {
        match self {
            Self::Crc32c => 4,
            Self::Xxhash => 8,
            Self::Sha256 | Self::Blake2 => 32,
        }
    }

    /// Is `stored`, of which the first bytes count, the checksum of `bytes`?
    pub(super) fn matches(self, bytes: &[u8], stored: &[u8]) -> bool {
        match self {
            Self::Crc32c => stored.starts_with(&crc32c(&[bytes]).to_le_bytes()),
            Self::Xxhash => stored.starts_with(&xxh64(bytes).to_le_bytes()),
            Self::Sha256 => stored.starts_with(&Sha256::digest(bytes)),
            Self::Blake2 => stored.starts_with(&Blake2b::<U32>::digest(bytes)),
        }
    }
}
