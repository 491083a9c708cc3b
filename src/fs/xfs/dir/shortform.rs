//! A directory that fits into its inode.
//!
//! ```text
//! header   count 1 │ of those with 8-byte inode numbers 1 │ parent 4 or 8
//! name     length 1 │ place 2 │ name │ type 1 (with FTYPE) │ inode 4 or 8
//! ```
//! Numbers have eight bytes as soon as one of them needs more than four.
//! "XFS Algorithms & Data Structures", "Shortform Directories".

use super::super::Xfs;
use super::super::inode::Inode;
use super::{Name, Sink, file_type};
use crate::error::{Error, Result};
use crate::num::narrow;
use crate::ondisk::{get_be16, get_be32, get_be64};

impl Xfs {
    /// Hands over the names in the inode whose place is `from` or later.
    ///
    /// # Errors
    /// `Corrupt` when a name goes past the directory's end.
    pub(super) fn names_in_inode(&self, inode: &Inode, from: u64, sink: &mut Sink<'_>) -> Result<()> {
        let area = inode.area(&inode.data);
        let bytes = area.get(..narrow(inode.size)).unwrap_or(area);
        let names = names(bytes, self.sb.features.has_types());
        for (number, name) in names.enumerate() {
            let name = name.ok_or_else(|| {
                Error::corrupt(inode.at())
                    .because(format!("name {number} goes past the end of the directory"))
            })?;
            let place = name.at >> 3;
            if place >= from && sink(name, place).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The names of a shortform directory. `None` is one that goes past its end, and the last item.
fn names(bytes: &[u8], has_types: bool) -> impl Iterator<Item = Option<Name<'_>>> {
    let (count, wide) = match bytes {
        [count, wide, ..] => (*count, *wide != 0),
        _ => (1, false),
    };
    let number = if wide { 8 } else { 4 };
    let mut at = 2_usize.saturating_add(number);
    let mut is_torn = false;
    (0..count).map_while(move |_| {
        if is_torn {
            return None;
        }
        let name = one(bytes.get(at..).unwrap_or_default(), wide, has_types);
        is_torn = name.is_none();
        at = name.map_or(at, |(_, len)| at.saturating_add(len));
        Some(name.map(|(name, _)| name))
    })
}

/// The name at the start of `rest`, and its length there.
fn one(rest: &[u8], wide: bool, has_types: bool) -> Option<(Name<'_>, usize)> {
    let len = usize::from(*rest.first()?);
    let at = get_be16(rest, 1)?;
    let behind = len.checked_add(3)?;
    let name = rest.get(3..behind).filter(|name| !name.is_empty())?;
    let (kind, number_at) =
        if has_types { (file_type(*rest.get(behind)?), behind.checked_add(1)?) } else { (None, behind) };
    let (ino, end) = if wide {
        (get_be64(rest, number_at)?, number_at.checked_add(8)?)
    } else {
        (u64::from(get_be32(rest, number_at)?), number_at.checked_add(4)?)
    };
    Some((Name { ino, name, kind, at: u64::from(at) }, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_numbers_with_types_and_wide_ones_without() {
        let bytes = *b"\x02\x00\0\0\0\x80\x01\x00\x60a\x01\0\0\0\x83\x02\x00\x70bc\x02\0\0\0\x84";
        let all: Vec<Name<'_>> = names(&bytes, true).map(Option::unwrap).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].name, all[1].ino, all[1].at), (&b"bc"[..], 0x84, 0x70));
        let bytes = *b"\x01\x01\0\0\0\0\0\0\0\x80\x01\x00\x60a\0\0\0\x01\0\0\0\x83";
        let all: Vec<Option<Name<'_>>> = names(&bytes, false).collect();
        assert_eq!((all.len(), all[0].unwrap().ino, all[0].unwrap().kind), (1, 0x1_0000_0083, None));
    }

    #[test]
    fn a_name_past_the_end_is_the_last() {
        let bytes = *b"\x05\x00\0\0\0\x80\x01\x00\x60a\x01\0\0\0\x83\xff\x00\x70bc";
        let all: Vec<bool> = names(&bytes, true).map(|name| name.is_some()).collect();
        assert_eq!(all, [true, false]);
        assert_eq!(names(&[], true).collect::<Vec<_>>(), [None]);
    }
}
