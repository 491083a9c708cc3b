//! Entries: of what BitLocker's metadata consist, one behind the other and one in the other.
//!
//! ```text
//! 0 size │ 2 role │ 4 kind │ 6 version │ 8 data, in which other entries may lie
//! ```
//! "BitLocker Drive Encryption (BDE) format specification" of libbde, "FVE metadata entry".

use super::{KeyBytes, ccm};
use crate::error::{At, Error, Result};
use crate::ondisk::get_le16;
use zeroize::Zeroizing;

/// Bytes in front of an entry's data.
const HEADER: usize = 8;
/// Bytes in front of the key in what a sealed entry holds: the header of an entry, and the method.
const KEY_HEADER: usize = HEADER + 4;

/// What a whole entry is for.
pub(super) mod role {
    /// A protector: the volume master key, sealed under a key of somebody's.
    pub(in super::super) const PROTECTOR: u16 = 2;
    /// The key of the sectors, sealed under the volume master key.
    pub(in super::super) const VOLUME_KEY: u16 = 3;
    /// In a key file: the key for a protector.
    pub(in super::super) const STARTUP_KEY: u16 = 6;
    /// Computer, volume and date.
    pub(in super::super) const DESCRIPTION: u16 = 7;
    /// Where the first sectors lie.
    pub(in super::super) const FRONT: u16 = 15;
}

/// What an entry's data are.
pub(super) mod kind {
    pub(in super::super) const KEY: u16 = 1;
    pub(in super::super) const TEXT: u16 = 2;
    pub(in super::super) const STRETCH: u16 = 3;
    pub(in super::super) const SEALED: u16 = 5;
    pub(in super::super) const PROTECTOR: u16 = 8;
    pub(in super::super) const EXTERNAL: u16 = 9;
    pub(in super::super) const PLACE: u16 = 15;
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) role: u16,
    pub(super) kind: u16,
    pub(super) data: &'a [u8],
}

/// The entries in `bytes`, up to one of no size, or the end.
///
/// # Errors
/// `Corrupt` for one that is longer than what is left.
pub(super) fn entries(bytes: &[u8]) -> Result<Vec<Entry<'_>>> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while let (Some(size @ 1..), Some(role), Some(kind)) =
        (get_le16(rest, 0), get_le16(rest, 2), get_le16(rest, 4))
    {
        let (entry, behind) = rest
            .split_at_checked(usize::from(size))
            .ok_or_else(|| bad(format!("an entry of {size} bytes, of which {} are there", rest.len())))?;
        let data = entry.get(HEADER..).ok_or_else(|| bad(format!("an entry of {size} bytes")))?;
        found.push(Entry { role, kind, data });
        rest = behind;
    }
    Ok(found)
}

/// A key that is sealed under another: with AES-CCM, so that the wrong one is told from the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    nonce: [u8; 12],
    tag: [u8; 16],
    data: Vec<u8>,
}

impl Sealed {
    /// Reads an entry of [`kind::SEALED`].
    pub(super) fn parse(data: &[u8]) -> Result<Self> {
        let parts = data.split_first_chunk::<12>();
        let parts = parts.and_then(|(nonce, rest)| Some((nonce, rest.split_first_chunk::<16>()?)));
        let (nonce, (tag, data)) =
            parts.ok_or_else(|| bad(format!("a sealed key of {} bytes", data.len())))?;
        Ok(Self { nonce: *nonce, tag: *tag, data: data.to_vec() })
    }

    /// What is sealed, if `key` is the right one.
    pub(super) fn open(&self, key: &[u8]) -> Option<KeyBytes> {
        ccm::open(key, &self.nonce, &self.tag, &self.data)
    }

    /// The key in what is sealed, without its header.
    pub(super) fn key(&self, key: &[u8]) -> Option<KeyBytes> {
        let opened = self.open(key)?;
        let fits = get_le16(&opened, 0).is_some_and(|size| usize::from(size) == opened.len());
        let bytes = opened.get(KEY_HEADER..).filter(|_| fits)?;
        Some(Zeroizing::new(bytes.to_vec()))
    }
}

/// What is wrong with the metadata.
pub(super) fn bad(why: impl Into<String>) -> Error {
    Error::corrupt(At::new("bitlocker", "metadata")).because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_where_their_sizes_say() {
        let bytes = [9, 0, 2, 0, 8, 0, 1, 0, 0xaa, 8, 0, 7, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let found = entries(&bytes).unwrap();
        let (first, second) = (
            Entry { role: role::PROTECTOR, kind: kind::PROTECTOR, data: &[0xaa] },
            Entry { role: role::DESCRIPTION, kind: kind::TEXT, data: &[] },
        );
        assert_eq!(found, [first, second]);
    }

    #[test]
    fn an_entry_that_is_longer_than_what_is_left_is_an_error() {
        assert!(entries(&[10, 0, 2, 0, 8, 0, 1, 0, 0xaa]).unwrap_err().to_string().contains("10 bytes"));
        assert!(entries(&[7, 0, 2, 0, 8, 0, 1, 0]).unwrap_err().to_string().contains("7 bytes"));
    }
}
