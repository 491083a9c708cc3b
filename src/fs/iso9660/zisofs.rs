//! zisofs: files compressed block by block, which the kernel unpacks as it reads.
//!
//! ```text
//! header 16 bytes │ n + 1 offsets of 32 bits │ block 0, zlib │ block 1, zlib │ ...
//! ```
//! Linux `fs/isofs/compress.c`; libisofs, `doc/zisofs_format.txt`. Its second version (`PZ`), which the kernel does not
//! know, is refused by name.

use crate::error::{At, Error, Result};
use crate::fs::codec::zlib;
use crate::num::{narrow, wide};
use crate::ondisk::get_le32;

/// Exponents of the sizes of blocks that there are: 32 to 128 KiB by the format, from 4 KiB in the kernel.
const SHIFTS: std::ops::RangeInclusive<u8> = 12..=17;

/// What `ZF` says: how a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    algorithm: [u8; 2],
    /// In units of four bytes.
    header: u8,
    /// Exponent of a block's size.
    shift: u8,
    /// Bytes unpacked.
    pub(super) size: u64,
}

/// One block: its number, and where its bytes lie in the packed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) number: u64,
    /// Where it starts in the unpacked file.
    pub(super) at: u64,
    /// Its length unpacked.
    pub(super) len: u64,
    /// Where its pair of offsets stands in the packed file.
    pub(super) pointer: u64,
}

impl Packed {
    /// The entry behind its head.
    pub(super) fn parse(body: &[u8]) -> Self {
        let byte = |at: usize| body.get(at).copied().unwrap_or(0);
        Self {
            algorithm: [byte(0), byte(1)],
            header: byte(2),
            shift: byte(3),
            size: get_le32(body, 4).unwrap_or(0).into(),
        }
    }

    /// Is it packed in a way that is read?
    ///
    /// # Errors
    /// `Unsupported` with the algorithm's name.
    pub(super) fn check(self) -> Result<()> {
        match self.algorithm {
            [b'p', b'z'] if SHIFTS.contains(&self.shift) => Ok(()),
            [b'p', b'z'] => Err(Error::unsupported(format!("zisofs with blocks of 2^{} bytes", self.shift))),
            [b'P', b'Z'] => Err(Error::unsupported("zisofs2 (PZ)")),
            [a, b] => Err(Error::unsupported(format!("the compression {a:#04x}{b:02x} of ZF"))),
        }
    }

    /// The block with byte `offset` of the unpacked file.
    pub(super) fn block(self, offset: u64) -> Block {
        let number = offset >> self.shift;
        let at = number << self.shift;
        let header = u64::from(self.header).saturating_mul(4);
        Block {
            number,
            at,
            len: (1 << self.shift).min(self.size.saturating_sub(at)),
            pointer: header.saturating_add(number.saturating_mul(4)),
        }
    }
}

/// Unpacks a block of `len` bytes; one without bytes is zeros.
///
/// # Errors
/// `Corrupt` when the stream is damaged or has another length.
pub(super) fn unpack(stored: &[u8], len: u64) -> Result<Vec<u8>> {
    if stored.is_empty() {
        return Ok(vec![0; narrow(len)]);
    }
    let plain = zlib(stored, narrow(len))?;
    if wide(plain.len()) != len {
        let at = At::new("iso9660", "zisofs block");
        return Err(
            Error::corrupt(at).because(format!("unpacks to {} bytes, {len} are expected", plain.len()))
        );
    }
    Ok(plain)
}
