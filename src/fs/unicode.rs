//! Names in UTF-16, as FAT, exFAT and Joliet keep them, turned into the UTF-8 that Linux shows (`utf16s_to_utf8s` of
//! `fs/nls/nls_base.c`): half of a surrogate pair without its other half is left out.

/// The units of a name up to its first NUL, as UTF-8.
pub(super) fn utf8(units: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let units = units.into_iter().take_while(|unit| *unit != 0);
    let name: String = char::decode_utf16(units).filter_map(Result::ok).collect();
    name.into_bytes()
}

/// The big-endian units of `bytes`.
pub(super) fn units_be(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).filter_map(|pair| pair.first_chunk().copied()).map(u16::from_be_bytes)
}

/// The little-endian units of `bytes`.
pub(super) fn units_le(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).filter_map(|pair| pair.first_chunk().copied()).map(u16::from_le_bytes)
}

/// Are the names equal but for upper and lower case?
pub(super) fn same_letters(a: &[u8], b: &[u8]) -> bool {
    match (str::from_utf8(a), str::from_utf8(b)) {
        (Ok(a), Ok(b)) => a.chars().flat_map(char::to_lowercase).eq(b.chars().flat_map(char::to_lowercase)),
        _ => a.eq_ignore_ascii_case(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_joined_and_halves_left_out() {
        let units = [0x61, 0xd83d, 0xde00, 0xd800, 0x62, 0xdc00, 0, 0x63];
        assert_eq!(utf8(units), "a😀b".as_bytes());
    }

    #[test]
    fn case_is_that_of_unicode() {
        assert!(same_letters("ÄRGER.Txt".as_bytes(), "ärger.tXT".as_bytes()));
        assert!(!same_letters("Ä".as_bytes(), b"A"));
        assert!(same_letters(b"A\xff", b"a\xff"));
    }
}
