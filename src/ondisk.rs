//! Reading on-disk structures: whole, bounded, and by explicit byte order.

use crate::block::BlockSource;
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::num::wide;
use zerocopy::{FromBytes, IntoBytes};

/// Reads one structure at `offset`.
///
/// # Errors
/// `Corrupt` at `at` when the source ends before the structure does; what the source reports.
pub fn read_struct<T: FromBytes + IntoBytes>(source: &dyn BlockSource, offset: u64, at: At) -> Result<T> {
    let mut value = T::new_zeroed();
    if offset.checked_add(wide(size_of::<T>())).is_none_or(|end| end > source.len()) {
        return Err(Error::corrupt(at.byte(offset))
            .because(format!("the file ends at {:#x}, before it", source.len())));
    }
    source.read_at(value.as_mut_bytes(), offset)?;
    Ok(value)
}

/// Reads the structure at the start of `bytes`.
///
/// # Errors
/// `Corrupt` at `at` when there are too few bytes.
pub fn parse_struct<T: FromBytes>(bytes: &[u8], at: At) -> Result<T> {
    T::read_from_prefix(bytes).map(|(value, _)| value).map_err(|_| {
        Error::corrupt(at).because(format!("{} bytes where {} are needed", bytes.len(), size_of::<T>()))
    })
}

/// Reads `len` bytes at `offset` into a buffer paid from `budget`; `cap` is the most the format allows.
///
/// # Errors
/// `Limit` over `cap`; `Corrupt` at `at` when the source ends before; what the source reports.
pub fn read_table(
    source: &dyn BlockSource,
    offset: u64,
    len: u64,
    cap: u64,
    at: At,
    budget: &Budget,
) -> Result<Vec<u8>> {
    if offset.checked_add(len).is_none_or(|end| end > source.len()) {
        return Err(Error::corrupt(at.byte(offset))
            .because(format!("{len} bytes, but the file ends at {:#x}", source.len())));
    }
    let mut bytes = budget.buffer("table", len, cap).map_err(|error| error.at(at))?;
    source.read_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// The number at `at` in `bytes`, little-endian, or 0 past the end of a structure whose size was checked.
macro_rules! readers {
    ($($name:ident $get:ident $type:ty, $from:ident, $doc:literal;)*) => {$(
        #[doc = $doc]
        #[must_use]
        pub fn $get(bytes: &[u8], at: usize) -> Option<$type> {
            bytes.get(at..)?.first_chunk().copied().map(<$type>::$from)
        }

        #[doc = $doc]
        ///
        /// # Errors
        /// `Corrupt` when `bytes` ends before it; the caller adds the place.
        pub fn $name(bytes: &[u8], at: usize, place: &At) -> Result<$type> {
            $get(bytes, at).ok_or_else(|| Error::corrupt(place.clone()).because(format!("ends before its byte {at}")))
        }
    )*};
}

readers! {
    le16 get_le16 u16, from_le_bytes, "The little-endian 16-bit number at byte `at`.";
    le32 get_le32 u32, from_le_bytes, "The little-endian 32-bit number at byte `at`.";
    le64 get_le64 u64, from_le_bytes, "The little-endian 64-bit number at byte `at`.";
    be16 get_be16 u16, from_be_bytes, "The big-endian 16-bit number at byte `at`.";
    be32 get_be32 u32, from_be_bytes, "The big-endian 32-bit number at byte `at`.";
    be64 get_be64 u64, from_be_bytes, "The big-endian 64-bit number at byte `at`.";
}

/// A GUID as Microsoft stores it (first three fields little-endian), in its usual spelling.
#[must_use]
pub fn guid(bytes: &[u8; 16]) -> String {
    let [a0, a1, a2, a3, b0, b1, c0, c1, d @ ..] = *bytes;
    let (a, b, c) =
        (u32::from_le_bytes([a0, a1, a2, a3]), u16::from_le_bytes([b0, b1]), u16::from_le_bytes([c0, c1]));
    let [d0, d1, rest @ ..] = d;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{a:08x}-{b:04x}-{c:04x}-{d0:02x}{d1:02x}-{rest}")
}

/// A UUID in network byte order (RFC 9562), in its usual spelling.
#[must_use]
pub fn uuid(bytes: &[u8; 16]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).map(<[String]>::concat).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 16))
}

/// UTF-16 text up to its first NUL; lone surrogates become U+FFFD.
#[must_use]
pub fn utf16(bytes: &[u8], big_endian: bool) -> String {
    let units = bytes.chunks_exact(2).map(|pair| {
        let pair = [pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0)];
        if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
    });
    char::decode_utf16(units.take_while(|unit| *unit != 0)).map(|c| c.unwrap_or('\u{fffd}')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_mixed_endian() {
        let esp =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(guid(&esp), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }
}
