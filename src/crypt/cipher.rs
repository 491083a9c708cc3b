//! The ciphers of disks: AES over sectors, each with an initialization vector made of its number.
//!
//! ```text
//! aes-xts-plain64     cipher, mode, vector: the words of dm-crypt, which headers use
//! ```
//! Vectors count sectors of 512 bytes, also where a cipher's sector is larger, unless [`Spec::large_sectors`] says otherwise.

use super::diffuser::Diffuser;
use super::hash::Hash;
use crate::error::{Error, Result};
use crate::num::{narrow, wide};
use crate::text::escape;
use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes128, Aes192, Aes256, Block};
use std::fmt;

/// What vectors count by.
pub const SECTOR: u64 = 512;
/// Sectors whose vectors are made together, so that the processor ciphers several at once.
const GROUP: usize = 16;
/// Blocks of 16 bytes deciphered together: a sector of 512 bytes.
const BATCH: usize = 32;
const BLOCK: usize = 16;

/// How sectors are chained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Ecb,
    Cbc,
    Xts,
}

/// How a sector's number becomes its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Iv {
    /// There is none.
    None,
    /// The low 32 bits, little-endian.
    Plain,
    /// 64 bits, little-endian.
    Plain64,
    /// As plain64, then encrypted under the hash of the key.
    Essiv(Hash),
    /// The sector's first byte, 64 bits, little-endian, then encrypted under the key itself.
    Eboiv,
    /// As eboiv; and behind the cipher, BitLocker's diffuser under a key of its own.
    Elephant,
}

/// A cipher's specification, `aes-xts-plain64`, of a kind that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    mode: Mode,
    iv: Iv,
    /// Vectors count the cipher's own sectors.
    large: bool,
}

impl Spec {
    /// The legacy encryption of qcow and qcow2: `aes-cbc-plain64`.
    pub const QCOW: Self = Self { mode: Mode::Cbc, iv: Iv::Plain64, large: false };

    /// Vectors count sectors of the cipher's own size, as dm-crypt does with `iv_large_sectors`.
    #[must_use]
    pub const fn large_sectors(self) -> Self {
        Self { large: true, ..self }
    }

    /// Reads a specification.
    ///
    /// # Errors
    /// `Unsupported` with the word that is not known: another cipher, mode or vector.
    pub fn parse(text: &str) -> Result<Self> {
        let unknown = |what: &str, word: &str| {
            Error::unsupported(format!(
                "the {what} '{}' of '{}'",
                escape(word.as_bytes()),
                escape(text.as_bytes())
            ))
        };
        let mut words = text.splitn(3, '-');
        let (cipher, mode, iv) = (words.next().unwrap_or_default(), words.next(), words.next());
        if cipher != "aes" {
            return Err(unknown("cipher", cipher));
        }
        let mode = match mode {
            Some("ecb") => Mode::Ecb,
            Some("cbc") => Mode::Cbc,
            Some("xts") => Mode::Xts,
            other => return Err(unknown("cipher mode", other.unwrap_or_default())),
        };
        let iv = match iv {
            None if mode == Mode::Ecb => Iv::None,
            Some("plain") => Iv::Plain,
            Some("plain64") => Iv::Plain64,
            Some("eboiv") if mode == Mode::Cbc => Iv::Eboiv,
            Some("elephant") if mode == Mode::Cbc => Iv::Elephant,
            other => match other.and_then(|other| other.strip_prefix("essiv:")) {
                Some(hash) => Iv::Essiv(Hash::parse(hash)?),
                None => return Err(unknown("initialization vector", other.unwrap_or_default())),
            },
        };
        Ok(Self { mode, iv: if mode == Mode::Ecb { Iv::None } else { iv }, large: false })
    }

    /// The cipher under a key.
    ///
    /// # Errors
    /// `Unsupported` when AES has no such key length.
    pub fn with_key(&self, key: &[u8]) -> Result<Cipher> {
        let no_such =
            || Error::unsupported(format!("a key of {} bits for {self}", key.len().saturating_mul(8)));
        let of = |key: &[u8]| Aes::new(key).ok_or_else(no_such);
        let mut diffuser = None;
        let (data, vectors) = match (self.mode, self.iv) {
            // The first half is for the data, the second for the tweak (IEEE 1619, section 5.1).
            (Mode::Xts, iv) => {
                let (data, tweak) = key.split_at_checked(key.len().div_euclid(2)).ok_or_else(no_such)?;
                if let Iv::Essiv(_) = iv {
                    return Err(Error::unsupported(format!("{self}")));
                }
                if data.len() != tweak.len() {
                    return Err(no_such());
                }
                (of(data)?, Some(of(tweak)?))
            }
            (_, Iv::Essiv(hash)) => {
                let salt = hash.digest(&[key]);
                let salt = Aes::new(&salt).ok_or_else(|| {
                    Error::unsupported(format!(
                        "{self}: a {} bit hash as a key",
                        hash.size().saturating_mul(8)
                    ))
                })?;
                (of(key)?, Some(salt))
            }
            (_, Iv::Eboiv) => (of(key)?, Some(of(key)?)),
            // The first half is for the data and its vectors, the second for the diffuser.
            (_, Iv::Elephant) => {
                let (data, sector) = key.split_at_checked(key.len().div_euclid(2)).ok_or_else(no_such)?;
                diffuser = Some(Diffuser::new(of(sector)?));
                (of(data)?, Some(of(data)?))
            }
            _ => (of(key)?, None),
        };
        Ok(Cipher { spec: *self, data, vectors, diffuser })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Ecb => "ecb",
            Mode::Cbc => "cbc",
            Mode::Xts => "xts",
        };
        write!(f, "aes-{mode}")?;
        match self.iv {
            Iv::None => Ok(()),
            Iv::Plain => f.write_str("-plain"),
            Iv::Plain64 => f.write_str("-plain64"),
            Iv::Essiv(hash) => write!(f, "-essiv:{}", hash.name()),
            Iv::Eboiv => f.write_str("-eboiv"),
            Iv::Elephant => f.write_str("-elephant"),
        }
    }
}

/// AES with any of its keys.
pub(super) enum Aes {
    K128(Box<Aes128>),
    K192(Box<Aes192>),
    K256(Box<Aes256>),
}

impl Aes {
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        Some(match key.len() {
            16 => Self::K128(Box::new(Aes128::new_from_slice(key).ok()?)),
            24 => Self::K192(Box::new(Aes192::new_from_slice(key).ok()?)),
            32 => Self::K256(Box::new(Aes256::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    pub(super) fn encrypt(&self, blocks: &mut [Block]) {
        match self {
            Self::K128(aes) => aes.encrypt_blocks(blocks),
            Self::K192(aes) => aes.encrypt_blocks(blocks),
            Self::K256(aes) => aes.encrypt_blocks(blocks),
        }
    }

    fn decrypt(&self, blocks: &mut [Block]) {
        match self {
            Self::K128(aes) => aes.decrypt_blocks(blocks),
            Self::K192(aes) => aes.decrypt_blocks(blocks),
            Self::K256(aes) => aes.decrypt_blocks(blocks),
        }
    }
}

/// A cipher with its key, which is forgotten when it is dropped.
pub struct Cipher {
    spec: Spec,
    data: Aes,
    /// Under the key that makes vectors: XTS's tweak, ESSIV's salt.
    vectors: Option<Aes>,
    diffuser: Option<Diffuser>,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher({})", self.spec)
    }
}

impl Cipher {
    /// Deciphers whole sectors of `sector` bytes in place, the first of which has the vector of number `first`. What is
    /// left behind the last whole block stays as it is.
    pub fn decrypt(&self, area: &mut [u8], sector: usize, first: u64) {
        let sector = sector.max(BLOCK);
        let step = wide(sector).div_euclid(SECTOR).max(1);
        let unit = if self.spec.large { step } else { 1 };
        let mut number = first;
        for group in area.chunks_mut(sector.saturating_mul(GROUP)) {
            let mut vectors = [Block::default(); GROUP];
            let begin = number;
            for vector in &mut vectors {
                vector.0 = self.plain_vector(number, unit);
                number = number.wrapping_add(step);
            }
            if let Some(aes) = &self.vectors {
                aes.encrypt(&mut vectors);
            }
            for (bytes, vector) in group.chunks_mut(sector).zip(vectors) {
                match self.spec.mode {
                    Mode::Ecb => self.ecb(bytes),
                    Mode::Cbc => self.cbc(bytes, vector),
                    Mode::Xts => self.xts(bytes, vector),
                }
            }
            if let Some(diffuser) = &self.diffuser {
                let firsts =
                    (0_u64..).map(|at| begin.wrapping_add(step.wrapping_mul(at)).wrapping_mul(SECTOR));
                group.chunks_mut(sector).zip(firsts).for_each(|(bytes, first)| diffuser.undo(bytes, first));
            }
        }
    }

    fn plain_vector(&self, number: u64, unit: u64) -> [u8; BLOCK] {
        let wide = u128::from(number.checked_div(unit).unwrap_or(number));
        match self.spec.iv {
            Iv::None => [0; BLOCK],
            Iv::Plain => (wide & u128::from(u32::MAX)).to_le_bytes(),
            Iv::Plain64 | Iv::Essiv(_) => wide.to_le_bytes(),
            Iv::Eboiv | Iv::Elephant => u128::from(number.wrapping_mul(SECTOR)).to_le_bytes(),
        }
    }

    fn ecb(&self, sector: &mut [u8]) {
        for bytes in sector.chunks_mut(BLOCK * BATCH) {
            let (mut blocks, len) = load(bytes);
            self.data.decrypt(blocks.get_mut(..len).unwrap_or_default());
            store(&blocks, bytes);
        }
    }

    fn cbc(&self, sector: &mut [u8], vector: Block) {
        let mut before = vector;
        for bytes in sector.chunks_mut(BLOCK * BATCH) {
            let (mut blocks, len) = load(bytes);
            let stored = blocks;
            self.data.decrypt(blocks.get_mut(..len).unwrap_or_default());
            for (block, chained) in blocks.iter_mut().zip(std::iter::once(&before).chain(&stored)) {
                block.0 = xor(block.0, chained.0);
            }
            store(&blocks, bytes);
            if let Some(last) = len.checked_sub(1).and_then(|last| stored.get(last)) {
                before = *last;
            }
        }
    }

    fn xts(&self, sector: &mut [u8], tweak: Block) {
        let mut tweak = u128::from_le_bytes(tweak.0);
        for bytes in sector.chunks_mut(BLOCK * BATCH) {
            let (mut blocks, len) = load(bytes);
            let mut tweaks = [[0; BLOCK]; BATCH];
            for one in &mut tweaks {
                *one = tweak.to_le_bytes();
                // Times x in GF(2^128) modulo x^128 + x^7 + x^2 + x + 1 (IEEE 1619, section 5.2).
                tweak = (tweak << 1) ^ (0_u128.wrapping_sub(tweak >> 127) & 0x87);
            }
            blocks.iter_mut().zip(&tweaks).for_each(|(block, tweak)| block.0 = xor(block.0, *tweak));
            self.data.decrypt(blocks.get_mut(..len).unwrap_or_default());
            blocks.iter_mut().zip(&tweaks).for_each(|(block, tweak)| block.0 = xor(block.0, *tweak));
            store(&blocks, bytes);
        }
    }
}

pub(super) fn xor(a: [u8; BLOCK], b: [u8; BLOCK]) -> [u8; BLOCK] {
    (u128::from_ne_bytes(a) ^ u128::from_ne_bytes(b)).to_ne_bytes()
}

/// The whole blocks of `bytes`, and how many they are.
fn load(bytes: &[u8]) -> ([Block; BATCH], usize) {
    let mut blocks = [Block::default(); BATCH];
    let (whole, _) = bytes.as_chunks::<BLOCK>();
    blocks.iter_mut().zip(whole).for_each(|(block, bytes)| block.0 = *bytes);
    (blocks, whole.len().min(BATCH))
}

/// Puts them back.
fn store(blocks: &[Block; BATCH], bytes: &mut [u8]) {
    let (whole, _) = bytes.as_chunks_mut::<BLOCK>();
    whole.iter_mut().zip(blocks).for_each(|(bytes, block)| *bytes = block.0);
}

/// How many whole sectors of `sector` bytes lie in `len` bytes, in bytes.
#[must_use]
pub fn whole_sectors(len: u64, sector: u32) -> u64 {
    len.saturating_sub(len.checked_rem(u64::from(sector)).unwrap_or(0))
}

/// A sector's length as one in memory.
#[must_use]
pub(super) fn in_memory(sector: u32) -> usize {
    narrow(u64::from(sector))
}
