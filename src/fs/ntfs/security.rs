//! Security descriptors: who owns a file and who may do what to it. Since NTFS 3.0 equal ones are kept once, in the stream
//! `$SDS` of `$Secure`, and files name theirs by a number that the index `$SII` of the same file leads from.
//!
//! ```text
//! $STANDARD_INFORMATION ── id ──> $SII ── offset, length ──> $SDS: hash 4 │ id 4 │ offset 8 │ length 4 │ descriptor
//!                                                              ... and the same once more, 256 KiB further on
//! ```
//! The descriptor's own form: [MS-DTYP] 2.4.6. Where it is kept: linux-ntfs project, "NTFS documentation", "$Secure".

use super::attribute::kind;
use super::file::File;
use super::mft;
use super::stat::Standard;
use super::volume::Volume;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};

/// `$SDS`'s header of a descriptor.
const HEADER: usize = 20;
/// How much further the copy of a descriptor lies: [`BLOCK`] bytes of descriptors, then the same once more.
const BLOCK: u64 = 256 << 10;
/// The longest descriptor; Windows allows 64 KiB, and none crosses the end of a block.
const MAX_LEN: u64 = BLOCK;

/// The security descriptor of a file, in its self-relative form. `None` where nobody gave it one.
///
/// # Errors
/// `Corrupt` when its number leads nowhere, or both copies of what it leads to are damaged.
pub(super) fn descriptor(volume: &Volume, file: &File) -> Result<Option<Vec<u8>>> {
    let id = Standard::of(file)?.security;
    // Windows 2000 and later still write the attribute for some of the file system's own files.
    let own = file.find(kind::SECURITY_DESCRIPTOR, &[])?;
    let bytes = match (id, own) {
        (0, None) => return Ok(None),
        (0, Some(own)) => volume.read_whole(file, own, MAX_LEN)?,
        (id, own) => match (shared(volume, id), own) {
            (Ok(bytes), _) => bytes,
            (Err(_), Some(own)) => volume.read_whole(file, own, MAX_LEN)?,
            (Err(error), None) => return Err(error),
        },
    };
    let at = At::new("ntfs", "security descriptor of MFT record").index(file.number);
    trim(&bytes, &at).map(|descriptor| Some(descriptor.to_vec()))
}

/// The descriptor with this number in `$Secure`.
fn shared(volume: &Volume, id: u32) -> Result<Vec<u8>> {
    let at = At::new("ntfs", "security descriptor").index(id.into());
    let secure = volume.file(mft::SECURE)?;
    let entry = volume.view(&secure, "$SII", &|key| get_le32(key, 0).unwrap_or(0).cmp(&id))?;
    let entry = entry.ok_or_else(|| Error::corrupt(at.clone()).because("is not in `$Secure`"))?;
    let entry = Entry::parse(&entry, &at)?;
    let name: Vec<u16> = "$SDS".encode_utf16().collect();
    let stream = secure.need(kind::DATA, &name, "$SDS")?;
    let mut bytes = vec![0; narrow(entry.len())];
    for offset in [entry.offset, entry.offset.saturating_add(BLOCK)] {
        let read = volume.read_attribute(&secure, stream, &mut bytes, offset);
        if let Some(found) = read.ok().and_then(|len| entry.descriptor(bytes.get(..len)?)) {
            return Ok(found.to_vec());
        }
    }
    Err(Error::corrupt(at)
        .because(format!("neither copy of it in `$Secure`, at {:#x}, is sound", entry.offset)))
}

/// A descriptor's place in `$SDS`: the data of an entry of `$SII`, and the header before the descriptor itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    hash: u32,
    id: u32,
    offset: u64,
    /// In bytes, with the header.
    len: u32,
}

impl Entry {
    /// Reads one.
    ///
    /// # Errors
    /// `Corrupt` when its length cannot be.
    fn parse(bytes: &[u8], at: &At) -> Result<Self> {
        let torn = || Error::corrupt(at.clone()).because("the place of a security descriptor is torn");
        let entry = Self {
            hash: get_le32(bytes, 0).ok_or_else(torn)?,
            id: get_le32(bytes, 4).ok_or_else(torn)?,
            offset: get_le64(bytes, 8).ok_or_else(torn)?,
            len: get_le32(bytes, 16).ok_or_else(torn)?,
        };
        if u64::from(entry.len) <= wide(HEADER) || u64::from(entry.len) > MAX_LEN {
            return Err(
                Error::corrupt(at.clone()).because(format!("a security descriptor of {} bytes", entry.len))
            );
        }
        Ok(entry)
    }

    /// Bytes in `$SDS`, with the header.
    fn len(&self) -> u64 {
        self.len.into()
    }

    /// The descriptor in what was read at this place; `None` when that is not what was written.
    fn descriptor<'a>(&self, read: &'a [u8]) -> Option<&'a [u8]> {
        let (head, descriptor) = read.get(..narrow(self.len()))?.split_at_checked(HEADER)?;
        let head = Self::parse(head, &At::new("ntfs", "$SDS")).ok()?;
        (head == *self && hash(descriptor) == self.hash).then_some(descriptor)
    }
}

/// The hash of a descriptor, over its whole words.
fn hash(descriptor: &[u8]) -> u32 {
    let words = descriptor.chunks_exact(4).filter_map(|four| get_le32(four, 0));
    words.fold(0_u32, |hash, word| word.wrapping_add(hash.rotate_left(3)))
}

/// A descriptor without what may be left over behind its last part.
///
/// # Errors
/// `Corrupt` when a part of it lies past its end.
fn trim<'a>(descriptor: &'a [u8], at: &At) -> Result<&'a [u8]> {
    let past = || Error::corrupt(at.clone()).because("a part of the security descriptor lies past its end");
    let mut end = 20_usize;
    for (field, is_list) in [(4, false), (8, false), (12, true), (16, true)] {
        let start = narrow(get_le32(descriptor, field).ok_or_else(past)?.into());
        if start == 0 {
            continue;
        }
        let part = descriptor.get(start..).ok_or_else(past)?;
        let size = if is_list {
            get_le16(part, 2).map(usize::from)
        } else {
            part.get(1).map(|count| usize::from(*count).saturating_mul(4).saturating_add(8))
        };
        end = end.max(start.saturating_add(size.ok_or_else(past)?));
    }
    descriptor.get(..end).ok_or_else(past)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> At {
        At::new("ntfs", "$SDS")
    }

    /// Owner and group `S-1-5-32-544`, no lists, as `mkntfs` writes it; then four bytes that belong to nothing.
    fn descriptor() -> Vec<u8> {
        let sid = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0];
        let head = [1, 0, 0, 0x80, 20, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        [head.as_slice(), &sid, &sid, &[0xaa; 4]].concat()
    }

    #[test]
    fn a_descriptor_ends_with_its_last_part() {
        let bytes = descriptor();
        assert_eq!(trim(&bytes, &at()).unwrap(), &bytes[..52]);
        for len in 0..52 {
            assert!(trim(&bytes[..len], &at()).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn what_has_another_hash_is_not_what_was_written() {
        let descriptor = descriptor();
        // hash = word + rotated left by 3, as the driver of the Linux kernel does it.
        let mut hash = 0_u32;
        for four in descriptor.chunks(4) {
            hash = u32::from_le_bytes(four.try_into().unwrap()).wrapping_add(hash.rotate_left(3));
        }
        let len = u32::try_from(20 + descriptor.len()).unwrap();
        let head =
            [hash.to_le_bytes(), 256_u32.to_le_bytes(), [0x80, 0, 0, 0], [0; 4], len.to_le_bytes()].concat();
        let mut stored = [head.clone(), descriptor.clone()].concat();
        let entry = Entry::parse(&head, &at()).unwrap();
        assert_eq!((entry.offset, entry.len()), (0x80, u64::from(len)));
        assert_eq!(entry.descriptor(&stored), Some(descriptor.as_slice()));
        stored[30] ^= 1;
        assert_eq!(entry.descriptor(&stored), None);
    }

    #[test]
    fn lengths_that_cannot_be_are_corrupt() {
        let entry = |len: u32| Entry::parse(&[[0; 16].as_slice(), &len.to_le_bytes()].concat(), &at());
        assert!(entry(20).is_err() && entry((256 << 10) + 1).is_err() && entry(21).is_ok());
    }
}
