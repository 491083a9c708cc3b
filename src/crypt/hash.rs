//! The hash functions that a header may name, and what is made of them.

use crate::error::{Error, Result};
use crate::text::escape;
use ripemd::Ripemd160;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// RIPEMD-160, of old headers.
    Ripemd160,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256, what is used today.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Every function with the name that headers use.
const NAMES: &[(&str, Hash)] = &[
    ("ripemd160", Hash::Ripemd160),
    ("sha1", Hash::Sha1),
    ("sha224", Hash::Sha224),
    ("sha256", Hash::Sha256),
    ("sha384", Hash::Sha384),
    ("sha512", Hash::Sha512),
];

/// Evaluates an expression with `$D` for the type of a [`Hash`].
macro_rules! with {
    ($hash:expr, $D:ident => $body:expr) => {
        match $hash {
            Hash::Ripemd160 => {
                type $D = Ripemd160;
                $body
            }
            Hash::Sha1 => {
                type $D = Sha1;
                $body
            }
            Hash::Sha224 => {
                type $D = Sha224;
                $body
            }
            Hash::Sha256 => {
                type $D = Sha256;
                $body
            }
            Hash::Sha384 => {
                type $D = Sha384;
                $body
            }
            Hash::Sha512 => {
                type $D = Sha512;
                $body
            }
        }
    };
}

impl Hash {
    /// The function of a name, in any case: `sha256`.
    ///
    /// # Errors
    /// `Unsupported` with the name.
    pub fn parse(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        let found = NAMES.iter().find(|(known, _)| *known == lower).map(|(_, hash)| *hash);
        found.ok_or_else(|| Error::unsupported(format!("the hash '{}'", escape(name.as_bytes()))))
    }

    /// Its name in headers.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, hash)| *hash == self).map_or("", |(name, _)| name)
    }

    /// Bytes of a digest.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Ripemd160 | Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `parts`, one behind the other.
    #[must_use]
    pub fn digest(self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        with!(self, D => {
            let mut hasher = D::new();
            parts.iter().for_each(|part| hasher.update(part));
            Zeroizing::new(hasher.finalize().to_vec())
        })
    }

    /// PBKDF2 with HMAC of this function (RFC 8018, section 5.2), filling `key`. The caller has bounded `iterations`.
    pub fn pbkdf2(self, secret: &[u8], salt: &[u8], iterations: u32, key: &mut [u8]) {
        with!(self, D => pbkdf2::pbkdf2_hmac::<D>(secret, salt, iterations, key));
    }

    /// Merges what the anti-forensic splitter spread over `stripes.len() / len` stripes (LUKS1 specification, section
    /// 2.4): each stripe is taken in and diffused, the last one only taken in.
    #[must_use]
    pub fn merge(self, stripes: &[u8], len: usize) -> Zeroizing<Vec<u8>> {
        let mut key = Zeroizing::new(vec![0; len]);
        let mut chunks = stripes.chunks_exact(len.max(1)).peekable();
        while let Some(stripe) = chunks.next() {
            key.iter_mut().zip(stripe).for_each(|(byte, part)| *byte ^= part);
            if chunks.peek().is_some() {
                self.diffuse(&mut key);
            }
        }
        key
    }

    /// Each piece of a digest's length becomes the digest of its number and itself.
    fn diffuse(self, block: &mut [u8]) {
        for (number, piece) in (0_u32..).zip(block.chunks_mut(self.size())) {
            let digest = self.digest(&[&number.to_be_bytes(), piece]);
            piece.iter_mut().zip(digest.iter()).for_each(|(byte, new)| *byte = *new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Expected values: RFC 6070, vector 2, for SHA-1; `openssl kdf -keylen 20 -kdfopt digest:X -kdfopt pass:password
    /// -kdfopt salt:salt -kdfopt iter:2 PBKDF2` for the others.
    #[test]
    fn pbkdf2_is_that_of_openssl() {
        let key = |name: &str| {
            let mut key = [0; 20];
            Hash::parse(name).unwrap().pbkdf2(b"password", b"salt", 2, &mut key);
            hex(&key)
        };
        assert_eq!(key("sha1"), "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957");
        assert_eq!(key("SHA256"), "ae4d0c95af6b46d32d0adff928f06dd02a303f8e");
        assert_eq!(key("sha512"), "e1d9c16aa681708a45f5c7c4e215ceb66e011a2e");
        assert_eq!(key("ripemd160"), "768dcc27b7bfdef794a1ff9d935090fcf598555e");
    }

    #[test]
    fn an_unknown_hash_is_refused_by_its_name() {
        assert!(Hash::parse("whirl\x1bpool").unwrap_err().to_string().contains("'whirl\\x1bpool'"));
    }

    #[test]
    fn a_single_stripe_is_the_key_itself() {
        assert_eq!(*Hash::Sha1.merge(&[7; 32], 32), vec![7; 32]);
    }
}
