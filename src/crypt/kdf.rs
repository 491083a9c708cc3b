//! Key derivation: from what a person knows to a key, made slow on purpose, and bounded here because the image says how slow.

use super::hash::Hash;
use crate::error::{Error, Result};
use crate::num::wide;
use argon2::{Algorithm, Argon2, Params, Version};
use std::fmt;
use zeroize::Zeroizing;

/// Most iterations of PBKDF2 for one key. `cryptsetup` measures two seconds, which are 4 to 12 million on processors of
/// today; five times that is about half a minute.
pub const MAX_ITERATIONS: u64 = 64 << 20;
/// Most iterations times hashes that a key is long: 512 bits are two of SHA-256 and four of SHA-1.
const MAX_ROUNDS: u64 = 128 << 20;
/// Most memory of Argon2, in KiB: what `cryptsetup` itself accepts (4 GiB). Its default is 1 GiB.
pub const MAX_MEMORY_KIB: u64 = 4 << 20;
/// Most memory that Argon2 fills in all its passes, in KiB: 64 GiB, half a minute or so. `cryptsetup` measures two
/// seconds, which are four to eight passes over 1 GiB.
pub const MAX_FILLED_KIB: u64 = 64 << 20;
/// Most lanes of Argon2; `cryptsetup` makes four at most.
pub const MAX_LANES: u64 = 64;
/// What a host that does not tell its free memory is taken to have, in KiB.
const UNKNOWN_MEMORY_KIB: u64 = MAX_MEMORY_KIB;

/// How a key is derived, as a header states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kdf {
    /// PBKDF2 with HMAC.
    Pbkdf2 {
        /// Of the HMAC.
        hash: Hash,
        /// How often.
        iterations: u64,
        /// As stored.
        salt: Vec<u8>,
    },
    /// Argon2, version 1.3.
    Argon2 {
        /// `argon2id`, otherwise `argon2i`.
        id: bool,
        /// Passes.
        time: u64,
        /// Memory in KiB.
        memory: u64,
        /// Lanes.
        cpus: u64,
        /// As stored.
        salt: Vec<u8>,
    },
}

impl Kdf {
    /// Derives `len` bytes from a secret.
    ///
    /// # Errors
    /// `Limit` when the header asks for more than is accepted, with what it asks for; `Corrupt` for what the function
    /// has no meaning for; `Host` when there is too little memory.
    pub fn derive(&self, secret: &[u8], len: usize) -> Result<Zeroizing<Vec<u8>>> {
        let mut key = Zeroizing::new(vec![0; len]);
        match self {
            Self::Pbkdf2 { hash, iterations, salt } => {
                let number = accepted("iterations of PBKDF2", *iterations, MAX_ITERATIONS)?;
                // RFC 8018, section 5.2: all iterations once for each hash's length of key.
                let blocks = wide(len.div_ceil(hash.size().max(1)));
                let rounds = iterations.saturating_mul(blocks);
                accepted("rounds of PBKDF2 for a key of this length", rounds, MAX_ROUNDS)?;
                hash.pbkdf2(secret, salt, number, &mut key);
            }
            Self::Argon2 { id, time, memory, cpus, salt } => {
                let kib = accepted("KiB of memory for Argon2", *memory, MAX_MEMORY_KIB)?;
                let lanes = accepted("lanes of Argon2", *cpus, MAX_LANES)?;
                let filled = memory.saturating_mul(*time);
                accepted("KiB of memory filled by Argon2 in all passes", filled, MAX_FILLED_KIB)?;
                let passes = accepted("passes of Argon2", *time, u64::from(u32::MAX))?;
                let free = free_memory().unwrap_or(UNKNOWN_MEMORY_KIB);
                if *memory > free {
                    let what = format!(
                        "its key is derived in {kib} KiB of memory, and this host has {free} KiB left"
                    );
                    return Err(Error::limit(what).help("unlock it on a host with more free memory"));
                }
                let odd = |error: argon2::Error| {
                    Error::new(
                        crate::error::ErrorKind::Corrupt,
                        format!("Argon2 with {passes} passes, {kib} KiB, {lanes} lanes: {error}"),
                    )
                };
                let algorithm = if *id { Algorithm::Argon2id } else { Algorithm::Argon2i };
                let params = Params::new(kib, passes, lanes, Some(len)).map_err(odd)?;
                Argon2::new(algorithm, Version::V0x13, params)
                    .hash_password_into(secret, salt, &mut key)
                    .map_err(odd)?;
            }
        }
        Ok(key)
    }
}

impl fmt::Display for Kdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pbkdf2 { hash, iterations, .. } => {
                write!(f, "pbkdf2 ({}, {iterations} iterations)", hash.name())
            }
            Self::Argon2 { id, time, memory, cpus, .. } => {
                let name = if *id { "argon2id" } else { "argon2i" };
                write!(f, "{name} ({time} passes, {memory} KiB, {cpus} lanes)")
            }
        }
    }
}

/// A number that the header asks for, if it is at least 1 and not more than accepted.
fn accepted(what: &str, asked: u64, most: u64) -> Result<u32> {
    if asked == 0 {
        return Err(Error::new(crate::error::ErrorKind::Corrupt, format!("the header asks for 0 {what}")));
    }
    u32::try_from(asked).ok().filter(|_| asked <= most).ok_or_else(|| {
        Error::limit(format!("the header asks for {asked} {what}, at most {most} are accepted"))
    })
}

/// The memory that this host can still give, in KiB, as Linux estimates it.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn argon2(time: u64, memory: u64, cpus: u64) -> Kdf {
        Kdf::Argon2 { id: true, time, memory, cpus, salt: b"somesalt".to_vec() }
    }

    /// Expected: `argon2 somesalt -id -t 2 -m 16 -p 1 -l 32` of the reference implementation (test.c, "hash_test" of
    /// version 0x13 with password "password").
    #[test]
    fn argon2id_is_that_of_the_reference() {
        let key = argon2(2, 1 << 16, 1).derive(b"password", 32).unwrap();
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
    }

    #[test]
    fn what_a_hostile_header_asks_for_is_named_and_refused() {
        let said = |kdf: Kdf| {
            let error = kdf.derive(b"x", 32).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
            error.to_string()
        };
        let pbkdf2 = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: u64::from(u32::MAX), salt: vec![0; 32] };
        assert!(said(pbkdf2).contains("4294967295 iterations"));
        let long = Kdf::Pbkdf2 { hash: Hash::Sha1, iterations: 60 << 20, salt: vec![0; 32] };
        assert!(long.derive(b"x", 768).unwrap_err().to_string().contains("rounds of PBKDF2"));
        assert!(said(argon2(1, 1 << 32, 1)).contains("4294967296 KiB of memory"));
        assert!(said(argon2(1 << 31, 1 << 20, 4)).contains("in all passes"));
        assert!(said(argon2(1, 1 << 20, 1 << 20)).contains("lanes"));
    }

    #[test]
    fn numbers_without_a_meaning_are_corrupt() {
        for kdf in [argon2(0, 64, 1), argon2(1, 0, 1), argon2(1, 8, 4)] {
            assert_eq!(kdf.derive(b"x", 32).unwrap_err().kind(), ErrorKind::Corrupt, "{kdf}");
        }
        let short_salt = Kdf::Argon2 { id: false, time: 1, memory: 64, cpus: 1, salt: Vec::new() };
        assert_eq!(short_salt.derive(b"x", 32).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
