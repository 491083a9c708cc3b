//! Names: 16-bit units on the disk, WTF-8 outside. Half of a surrogate pair without its other half, which Windows allows,
//! becomes the three bytes that UTF-8 would have for it, so that every name is another one and can be asked for again.

/// Units as WTF-8.
pub(crate) fn encode(units: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut out = Vec::new();
    for c in char::decode_utf16(units) {
        match c {
            Ok(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(half) => out.extend_from_slice(&three(half.unpaired_surrogate())),
        }
    }
    out
}

/// A unit from 0x800 on in the form of three bytes.
fn three(unit: u16) -> [u8; 3] {
    let [high, low] = unit.to_be_bytes();
    [0xe0 | (high >> 4), 0x80 | ((high & 15) << 2) | (low >> 6), 0x80 | (low & 0x3f)]
}

/// WTF-8 as units; `None` for bytes that are none and so are no file's name.
pub(super) fn decode(name: &[u8]) -> Option<Vec<u16>> {
    if let Ok(text) = str::from_utf8(name) {
        return Some(text.encode_utf16().collect());
    }
    let mut units = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let good = match str::from_utf8(rest) {
            Ok(_) => rest.len(),
            Err(error) => error.valid_up_to(),
        };
        let (text, behind) = rest.split_at_checked(good)?;
        units.extend(str::from_utf8(text).ok()?.encode_utf16());
        rest = behind;
        if rest.is_empty() {
            break;
        }
        let [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, behind @ ..] = rest else { return None };
        units.push(0xd000 | (u16::from(second & 0x3f) << 6) | u16::from(third & 0x3f));
        rest = behind;
    }
    Some(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_come_back() {
        let units = [0x61, 0xd83d, 0xde00, 0xd800, 0x62, 0xdfff];
        let name = encode(units);
        assert_eq!(name, b"a\xf0\x9f\x98\x80\xed\xa0\x80b\xed\xbf\xbf");
        assert_eq!(decode(&name), Some(units.to_vec()));
        assert_eq!(decode(b"a\xff"), None);
        assert_eq!(decode(b"\xed\xa0"), None);
    }
}
