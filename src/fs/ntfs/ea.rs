//! Extended attributes of OS/2, which Linux under Windows keeps owner, mode and device numbers in.
//!
//! ```text
//! to the next 4 │ flags 1 │ name length 1 │ value length 2 │ name │ NUL │ value │ padding to 4
//! ```
//! [MS-FSCC] 2.4.16 FileFullEaInformation; names of Linux: "File Permissions for WSL" of Microsoft.

use crate::error::{At, Error, Result};
use crate::ondisk::{get_le16, get_le32};

/// All of them together: `$EA_INFORMATION` counts them in 16 bits.
pub(super) const MAX_LEN: u64 = 64 << 10;

const HEADER: usize = 8;

/// One extended attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ea<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
}

/// The list in an `$EA` attribute. Its last entry says 0 as its length, or leads to the end of the list.
///
/// # Errors
/// `Corrupt` when an entry goes past the end or does not lead on.
pub(super) fn parse<'a>(list: &'a [u8], at: &At) -> Result<Vec<Ea<'a>>> {
    let mut found = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let index = found.len();
        let bad = |why: &str| Error::corrupt(at.clone()).because(format!("entry {index}: {why}"));
        let torn = || bad("goes past the end");
        let next = get_le32(rest, 0).ok_or_else(torn)?;
        let name_len = usize::from(rest.get(5).copied().ok_or_else(torn)?);
        let value_len = usize::from(get_le16(rest, 6).ok_or_else(torn)?);
        let (name, tail) =
            rest.get(HEADER..).and_then(|tail| tail.split_at_checked(name_len)).ok_or_else(torn)?;
        let value = tail.get(1..).and_then(|tail| tail.get(..value_len)).ok_or_else(torn)?;
        found.push(Ea { name, value });
        if next == 0 {
            break;
        }
        let own = HEADER.saturating_add(name_len).saturating_add(1).saturating_add(value_len);
        let next = usize::try_from(next).ok().filter(|next| *next >= own);
        rest = rest.get(next.ok_or_else(|| bad("leads into itself"))?..).unwrap_or_default();
    }
    Ok(found)
}

/// What Linux under Windows keeps of a file, each part where it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Linux {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// With the bits of the type.
    pub(super) mode: Option<u32>,
    /// Major and minor number.
    pub(super) device: Option<(u32, u32)>,
}

impl Linux {
    /// What a list says of it.
    ///
    /// # Errors
    /// As [`parse`].
    pub(super) fn of(list: &[u8], at: &At) -> Result<Self> {
        let mut linux = Self::default();
        for Ea { name, value } in parse(list, at)? {
            let number = |at: usize, len: usize| get_le32(value, at).filter(|_| value.len() == len);
            match name {
                b"$LXUID" => linux.uid = number(0, 4),
                b"$LXGID" => linux.gid = number(0, 4),
                b"$LXMOD" => linux.mode = number(0, 4),
                b"$LXDEV" => linux.device = number(0, 8).zip(number(4, 8)),
                _ => {}
            }
        }
        Ok(linux)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> At {
        At::new("ntfs", "$EA").index(64)
    }

    fn entry(name: &[u8], value: &[u8], is_last: bool) -> Vec<u8> {
        let lens = [u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap(), 0];
        let mut bytes = [[0; 5].as_slice(), &lens, name, &[0], value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let next = if is_last { 0 } else { u32::try_from(bytes.len()).unwrap() };
        bytes[..4].copy_from_slice(&next.to_le_bytes());
        bytes
    }

    #[test]
    fn linux_finds_its_own() {
        let list = [
            entry(b"$LXUID", &1000_u32.to_le_bytes(), false),
            entry(b"OTHER", b"x", false),
            entry(b"$LXMOD", &0o100_640_u32.to_le_bytes(), false),
            entry(b"$LXGID", &[1], false),
            entry(b"$LXDEV", &[8, 0, 0, 0, 1, 0, 0, 0], true),
        ]
        .concat();
        let expected = Linux { uid: Some(1000), gid: None, mode: Some(0o100_640), device: Some((8, 1)) };
        assert_eq!(Linux::of(&list, &at()).unwrap(), expected);
    }

    #[test]
    fn the_last_entry_may_lead_to_the_end() {
        let list = [entry(b"A", b"1", false), entry(b"B", b"22", false)].concat();
        let found = parse(&list, &at()).unwrap();
        assert_eq!(found, [Ea { name: b"A", value: b"1" }, Ea { name: b"B", value: b"22" }]);
    }

    #[test]
    fn torn_and_looping_lists_are_corrupt() {
        let list = entry(b"NAME", b"value", true);
        for len in 1..8 + 4 + 1 + 5 {
            assert!(parse(&list[..len], &at()).is_err(), "{len} bytes");
        }
        let mut looping = entry(b"NAME", b"value", true);
        looping[0] = 4;
        assert!(parse(&looping, &at()).unwrap_err().to_string().contains("leads into itself"));
    }
}
