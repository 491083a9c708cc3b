//! A block of names.
//!
//! ```text
//! header 16 or 64 │ inode 8 │ length 1 │ name │ type 1 (with FTYPE) │ … │ own place 2 │ next …
//!                 │ ff ff │ length 2 │ nothing … │ own place 2 │ …
//!                 (in a directory of one block, behind the names)  │ hash, place … │ count 4 │ unused 4
//! ```
//! Each record is a multiple of eight bytes long.
//! "XFS Algorithms & Data Structures", "Block Directories" and "Leaf Directories".

use super::super::Xfs;
use super::super::da::Placed;
use super::super::inode::Inode;
use super::super::seal::Seal;
use super::{Name, file_type};
use crate::error::{At, Error, Result};
use crate::num::wide;
use crate::ondisk::{get_be16, get_be32, get_be64};
use std::ops::Range;

/// Inode number and length of the name: the part of a record in front of the name.
const HEAD: usize = 9;
/// The tag of a record without a name.
const FREE: u16 = 0xffff;

/// Names the block of an error.
pub(super) fn place(inode: &Inode, byte: u64) -> At {
    At::new("xfs", "directory block of inode").index(inode.ino).byte(byte)
}

/// The records of a block that have a name. Damage is the last item.
#[derive(Debug)]
pub(super) struct Names<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    has_types: bool,
}

impl<'a> Names<'a> {
    /// Those in `range` of a block.
    pub(super) fn new(bytes: &'a [u8], range: Range<usize>, has_types: bool) -> Self {
        Self { bytes, at: range.start, end: range.end.min(bytes.len()), has_types }
    }

    /// The record at byte `at`: a name and its length, or a length without a name.
    fn record(&self, at: usize) -> Result<(Option<Name<'a>>, usize), String> {
        let rest = self.bytes.get(at..self.end).unwrap_or_default();
        let fits = |len: usize| {
            let tag = len.checked_sub(2).and_then(|tag| get_be16(rest, tag)).map(usize::from);
            len.is_multiple_of(8) && len <= rest.len() && tag == Some(at)
        };
        if get_be16(rest, 0) == Some(FREE) {
            let len = get_be16(rest, 2).map_or(0, usize::from);
            return if len > 0 && fits(len) {
                Ok((None, len))
            } else {
                Err(format!("{len} free bytes at byte {at}"))
            };
        }
        let (ino, name_len) =
            (get_be64(rest, 0).unwrap_or(0), rest.get(8).map_or(0, |len| usize::from(*len)));
        let behind = HEAD.saturating_add(name_len);
        let len = behind.saturating_add(usize::from(self.has_types)).saturating_add(2).next_multiple_of(8);
        let name = rest.get(HEAD..behind).filter(|name| !name.is_empty() && fits(len));
        let name =
            name.ok_or_else(|| format!("a record of {len} bytes at byte {at}, {} are left", rest.len()))?;
        let kind = if self.has_types { rest.get(behind).copied().and_then(file_type) } else { None };
        Ok((Some(Name { ino, name, kind, at: wide(at) }), len))
    }

    /// The name of the record that starts at byte `at`.
    pub(super) fn one(&self, at: usize) -> Option<Name<'a>> {
        self.record(at).ok()?.0
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = Result<Name<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.end {
            match self.record(self.at) {
                Ok((name, len)) => {
                    self.at = self.at.saturating_add(len);
                    if let Some(name) = name {
                        return Some(Ok(name));
                    }
                }
                Err(why) => {
                    self.at = self.end;
                    return Some(Err(Error::corrupt(At::new("xfs", "directory block")).because(why)));
                }
            }
        }
        None
    }
}

/// Is this the only block of its directory, by its magic number? `None`: it is no block of names.
fn is_single(bytes: &[u8], is_v5: bool) -> Option<bool> {
    let magic = bytes.first_chunk::<4>()?;
    match (magic, is_v5) {
        (b"XDB3", true) | (b"XD2B", false) => Some(true),
        (b"XDD3", true) | (b"XD2D", false) => Some(false),
        _ => None,
    }
}

impl Xfs {
    /// Checks a block of names and answers with the bytes where these stand.
    ///
    /// # Errors
    /// `Corrupt` for another magic number, a seal that does not fit, an index longer than the block.
    pub(super) fn check_data(&self, inode: &Inode, block: &Placed) -> Result<Range<usize>> {
        let at = place(inode, block.byte);
        let is_v5 = self.sb.features.is_v5();
        let single = is_single(&block.bytes, is_v5).ok_or_else(|| {
            Error::corrupt(at.clone()).because("has not the magic number of a block of names")
        })?;
        self.check_seal(Seal::DIR, &block.bytes, block.byte, Some(inode.ino), &at)?;
        let start = if is_v5 { 64 } else { 16 };
        let end = if single { index_start(&block.bytes) } else { Some(block.bytes.len()) };
        let end = end.filter(|end| *end >= start);
        let end = end.ok_or_else(|| Error::corrupt(at).because("its index is longer than the block"))?;
        Ok(start..end)
    }

    /// The index of a directory of one block: entries of hash and place. `None`: there are more blocks.
    pub(super) fn single_index<'a>(&self, block: &'a Placed) -> Option<&'a [u8]> {
        is_single(&block.bytes, self.sb.features.is_v5()).filter(|single| *single)?;
        let end = block.bytes.len().checked_sub(8)?;
        block.bytes.get(index_start(&block.bytes)?..end)
    }
}

/// Where the index of a directory of one block starts.
fn index_start(bytes: &[u8]) -> Option<usize> {
    let tail = bytes.len().checked_sub(8)?;
    let count = usize::try_from(get_be32(bytes, tail)?).ok()?;
    tail.checked_sub(count.checked_mul(8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of 16, a name, 16 free bytes, a name.
    fn block() -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes.extend_from_slice(b"\0\0\0\0\0\0\0\x81\x03abc\x01\0\0\x10");
        bytes.extend_from_slice(b"\xff\xff\0\x10\0\0\0\0\0\0\0\0\0\0\0\x20");
        bytes.extend_from_slice(b"\0\0\0\0\0\0\0\x82\x04wxyz\x02\0\x30");
        bytes
    }

    #[test]
    fn names_and_free_places() {
        let bytes = block();
        let all: Vec<(u64, u64)> = Names::new(&bytes, 16..64, true)
            .map(|name| name.map(|name| (name.ino, name.at)).unwrap())
            .collect();
        assert_eq!(all, [(0x81, 16), (0x82, 48)]);
    }

    #[test]
    fn a_record_that_does_not_fit_ends_the_block() {
        for (at, byte) in [(24, 200), (31, 0x11), (35, 0), (34, 0xff), (56, 255)] {
            let mut bytes = block();
            bytes[at] = byte;
            let all: Vec<bool> = Names::new(&bytes, 16..64, true).map(|name| name.is_ok()).collect();
            assert_eq!(all.last(), Some(&false), "{at}");
        }
    }
}
