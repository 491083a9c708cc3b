//! Names of keys and values: UTF-16, or one byte a character where all of them are below 256 ("compressed"). Shown as
//! UTF-8, half a surrogate pair as the three bytes that its number would have (WTF-8), so that different names differ.

use crate::text::Text;

/// A name of one byte a character: the first 256 of Unicode.
pub(super) fn latin1(bytes: &[u8]) -> Text {
    let name: String = bytes.iter().copied().map(char::from).collect();
    Text::new(name)
}

/// The little-endian units of `bytes`; an odd byte at the end is none.
pub(super) fn units(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).filter_map(|pair| pair.first_chunk().copied()).map(u16::from_le_bytes)
}

/// UTF-16 as WTF-8.
pub(super) fn wtf8(units: impl IntoIterator<Item = u16>) -> Text {
    let mut bytes = Vec::new();
    for c in char::decode_utf16(units) {
        match c {
            Ok(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(half) => {
                let [high, low] = half.unpaired_surrogate().to_be_bytes();
                // 1110xxxx 10xxxxxx 10xxxxxx
                bytes.extend([0xe0 | high >> 4, 0x80 | (high & 0xf) << 2 | low >> 6, 0x80 | low & 0x3f]);
            }
        }
    }
    Text::new(bytes)
}

/// Are two names one to Windows? It compares them unit by unit in upper case.
pub(super) fn is_same(a: &[u8], b: &[u8]) -> bool {
    folded(a).eq(folded(b))
}

/// What a name is compared by.
fn folded(name: &[u8]) -> impl Iterator<Item = u32> {
    name.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(|c| u32::from(upper(c)));
        // Halves of pairs are their own upper case; so are bytes that no name has.
        valid.chain(chunk.invalid().iter().map(|byte| 0x11_0000 | u32::from(*byte)))
    })
}

/// The upper case of a character, as Windows maps single units.
fn upper(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) if u32::from(c) < 0x1_0000 && u32::from(one) < 0x1_0000 && !one.is_ascii() => one,
        _ => c,
    }
}

/// The hash of an ASCII name in a hash leaf ("Hash leaf", note).
pub(super) fn hash(ascii: &[u8]) -> u32 {
    ascii
        .iter()
        .fold(0, |hash: u32, byte| hash.wrapping_mul(37).wrapping_add(u32::from(byte.to_ascii_uppercase())))
}
