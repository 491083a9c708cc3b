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

/// The upper case of a character, as Windows maps single units: one to one and back, as Unicode 5.1 had it. (Compared
/// with the table of Windows 10, as RtlUpcaseUnicodeChar uses it.)
fn upper(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    // Greek letters with an iota below have a title case of one unit and an upper case of two.
    let title = match c {
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => 8,
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => 9,
        _ => 0,
    };
    if title > 0 {
        return char::from_u32(u32::from(c).saturating_add(title)).unwrap_or(c);
    }
    only(c.to_uppercase())
        .filter(|upper| only(upper.to_lowercase()) == Some(c) && !is_later(*upper))
        .unwrap_or(c)
}

/// The character, if it is one.
fn only(mut chars: impl Iterator<Item = char>) -> Option<char> {
    chars.next().filter(|_| chars.next().is_none())
}

/// Is it a capital letter that came with a later Unicode, or needs two units?
fn is_later(upper: char) -> bool {
    matches!(upper,
        '\u{37f}' | '\u{524}'..='\u{52f}' | '\u{10c7}' | '\u{10cd}' | '\u{13a0}'..='\u{13f5}'
        | '\u{1c89}'..='\u{1cbf}' | '\u{2c2f}' | '\u{2c70}' | '\u{2c7e}' | '\u{2c7f}' | '\u{2ceb}'..='\u{2cf2}'
        | '\u{a660}' | '\u{a698}' | '\u{a69a}' | '\u{a78d}'..='\u{a7ff}' | '\u{10000}'..)
}

/// The hash of an ASCII name in a hash leaf ("Hash leaf", note).
pub(super) fn hash(ascii: &[u8]) -> u32 {
    ascii
        .iter()
        .fold(0, |hash: u32, byte| hash.wrapping_mul(37).wrapping_add(u32::from(byte.to_ascii_uppercase())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_that_of_windows() {
        // Of RtlUpcaseUnicodeChar in Windows 10.
        let pairs = [
            ('z', 'Z'),
            ('ü', 'Ü'),
            ('ÿ', 'Ÿ'),
            ('ж', 'Ж'),
            ('\u{1f80}', '\u{1f88}'),
            ('\u{1fb3}', '\u{1fbc}'),
            ('ｚ', 'Ｚ'),
        ];
        for (lower, capital) in pairs {
            assert_eq!(upper(lower), capital);
        }
        for same in ['µ', 'ß', 'ı', 'ſ', 'ς', 'ǅ', 'ა', '\u{ab70}', 'ꙡ', '\u{10428}'] {
            assert_eq!(upper(same), same, "{same}");
        }
    }

    #[test]
    fn different_halves_of_pairs_are_different_names() {
        let (high, low) = (wtf8([0x41, 0xd83d]), wtf8([0x41, 0xde00]));
        assert_eq!(high.as_bytes(), b"A\xed\xa0\xbd");
        assert_eq!(low.as_bytes(), b"A\xed\xb8\x80");
        assert!(!is_same(high.as_bytes(), low.as_bytes()) && is_same(high.as_bytes(), b"a\xed\xa0\xbd"));
    }
}
