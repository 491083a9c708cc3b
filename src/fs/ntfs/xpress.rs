//! XPRESS, the variant with Huffman codes, as WOF packs chunks of 4, 8 and 16 KiB with it.
//!
//! ```text
//!   256 bytes   how long the code of each of 512 symbols is, four bits each, the even symbol in the lower four
//!   bits        a symbol below 256 is that byte. Above, 1DDDDLLLL is a copy: from 2^D + D bits before, L + 3 bytes;
//!               where L is 15, a byte between the units has what is to be added, and if that is 255,
//!               two bytes behind it have the whole
//! ```
//!
//! [MS-XCA] 2.2.

use super::huffman::{Bits, Code};
use super::plain::{Plain, damaged};
use crate::error::Result;

const NAME: &str = "XPRESS";
/// Bytes of code lengths.
const HEAD: usize = 256;
/// The table's size: most codes have at most eleven bits.
const ENTRIES: usize = 1 << 11;
/// The most bits of a symbol and a distance.
const TOKEN: u32 = 30;

/// Unpacks a chunk of `len` bytes, at most 64 KiB: behind that, a stream has a new code.
///
/// # Errors
/// `Corrupt` when the stream is damaged or shorter; the caller adds the place.
pub(super) fn unpack(packed: &[u8], len: usize) -> Result<Vec<u8>> {
    let (head, rest) =
        packed.split_at_checked(HEAD).ok_or_else(|| damaged(NAME, "it ends in its code lengths"))?;
    let mut lens = [0; 2 * HEAD];
    for (pair, byte) in lens.chunks_exact_mut(2).zip(head) {
        pair.copy_from_slice(&[byte & 15, byte >> 4]);
    }
    let mut code = Code::<ENTRIES>::new();
    code.set(NAME, &lens)?;
    let mut bits = Bits::new(NAME, rest);
    let mut plain = Plain::new(NAME, len);
    while plain.room() > 0 {
        bits.need(TOKEN);
        let symbol = code.next(&mut bits).ok_or_else(|| damaged(NAME, "its code has no symbols"))?;
        match u8::try_from(symbol) {
            Ok(byte) => plain.literal(byte)?,
            Err(_) => copy(symbol & 255, &mut bits, &mut plain)?,
        }
    }
    bits.check()?;
    Ok(plain.into_bytes())
}

#[inline]
fn copy(symbol: usize, bits: &mut Bits<'_>, plain: &mut Plain) -> Result<()> {
    let mut count = symbol & 15;
    if count == 15 {
        count = long_count(bits)?;
        bits.need(TOKEN);
    }
    let width = u32::try_from(symbol >> 4).unwrap_or_default();
    let distance = 1_u32.wrapping_shl(width) | bits.take(width);
    plain.copy(usize::try_from(distance).unwrap_or_default(), count.saturating_add(3), 0)
}

/// Fifteen and a byte, or two bytes when that is 255.
#[inline(never)]
fn long_count(bits: &mut Bits<'_>) -> Result<usize> {
    let [byte] = bits.bytes_between()?;
    if byte < 255 {
        return Ok(usize::from(byte).saturating_add(15));
    }
    let count = usize::from(u16::from_le_bytes(bits.bytes_between()?));
    if count < 15 {
        return Err(damaged(NAME, "a long copy that is none"));
    }
    Ok(count)
}
