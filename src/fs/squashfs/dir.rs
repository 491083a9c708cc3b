//! Directories: a listing in the table of directories, sorted by name, in groups of up to 256 names whose inodes lie in
//! one piece of the table of inodes.
//!
//! ```text
//! │ names - 1, piece of the inodes, first number │ byte in the piece, type, name │ byte in the piece, type, name │ ...
//! ```
//! A long directory has an index behind its inode: for each 8 KiB of the listing, the first name and where it stands.
//! A place in a listing, the cookie, is the byte of a group's head and the number of the name in it.

use super::Squashfs;
use super::inode::{Body, Inode, Listing};
use super::metadata::{Cursor, PIECE, Place};
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::{DirEntry, FileType, Ino};
use crate::ondisk::{get_le16, get_le32};
use std::ops::ControlFlow;

/// Names in a group at the most; the kernel refuses more.
const MAX_NAMES: u32 = 256;
/// Bytes of a name at the most.
const MAX_NAME: usize = 256;
/// Bits of the number of a name in its group, of a cookie. It may be [`MAX_NAMES`] + 1.
const NUMBER_BITS: u32 = 9;

fn damaged(place: Place, why: String) -> Error {
    Error::corrupt(At::new("squashfs", "directory").byte(place.piece)).because(why)
}

/// The type in a directory: that of the basic inode.
fn kind(number: u16) -> Option<FileType> {
    Some(match number {
        1 => FileType::Dir,
        2 => FileType::File,
        3 => FileType::Symlink,
        4 => FileType::Block,
        5 => FileType::Char,
        6 => FileType::Fifo,
        7 => FileType::Socket,
        _ => return None,
    })
}

impl Squashfs {
    /// The listing of a directory.
    ///
    /// # Errors
    /// `Denied` when it is none.
    fn listing(&self, inode: &Inode) -> Result<Listing> {
        match inode.body {
            Body::Dir(listing) => Ok(listing),
            _ => {
                let what = format!("inode {} is a {}, not a directory", inode.ino, inode.kind.name());
                Err(Error::new(ErrorKind::Denied, what))
            }
        }
    }

    pub(super) fn list(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let listing = self.listing(&self.inode(dir)?)?;
        let at = from >> NUMBER_BITS;
        if at >= listing.len {
            return Ok(());
        }
        let mut cursor = self.cursor(listing.start);
        cursor.skip(at)?;
        walk(cursor, at, from & ((1 << NUMBER_BITS) - 1), listing.len, sink)
    }

    pub(super) fn find(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let inode = self.inode(dir)?;
        let listing = self.listing(&inode)?;
        if name.len() > MAX_NAME {
            return Ok(None);
        }
        let (place, at) = self.indexed(&inode, listing, name)?;
        let mut found = None;
        walk(self.cursor(place), at, 0, listing.len, &mut |entry| {
            if entry.name == name {
                found = Some(entry.ino);
            }
            // As the kernel: names are sorted, and it looks at the first byte alone.
            if found.is_some() || entry.name.first() > name.first() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Where to begin to look for a name: at the last entry of the index that is not behind it.
    fn indexed(&self, inode: &Inode, listing: Listing, name: &[u8]) -> Result<(Place, u64)> {
        let mut best = (listing.start, 0);
        let mut cursor = self.cursor(inode.behind);
        for _ in 0..listing.indexes {
            // Byte of the listing, piece of the table, length of the name less one.
            let head: [u8; 12] = cursor.take()?;
            let word = |at| get_le32(&head, at).unwrap_or(0);
            let len = crate::num::narrow(u64::from(word(8)).saturating_add(1));
            if len > MAX_NAME {
                return Err(damaged(cursor.place(), format!("an index with a name of {len} bytes")));
            }
            if cursor.bytes(len)?.as_slice() > name {
                break;
            }
            let at = u64::from(word(0));
            let piece = self.sb.directory_table.saturating_add(u64::from(word(4)));
            best = (Place { piece, skip: at.saturating_add(listing.start.skip) % PIECE }, at);
        }
        Ok(best)
    }
}

/// Hands over the names of a listing of `len` bytes, from the group at byte `at` on, without its first `skip` names.
fn walk(
    mut cursor: Cursor<'_>,
    mut at: u64,
    mut skip: u64,
    len: u64,
    sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let mut name = [0; MAX_NAME];
    while at < len {
        let group = at;
        let head: [u8; 12] = cursor.take()?;
        let names = get_le32(&head, 0).unwrap_or(0).saturating_add(1);
        let piece = u64::from(get_le32(&head, 4).unwrap_or(0));
        if names > MAX_NAMES {
            return Err(damaged(
                cursor.place(),
                format!("a group of {names} names, at most {MAX_NAMES} are allowed"),
            ));
        }
        at = at.saturating_add(12);
        for number in 1..=u64::from(names) {
            let entry: [u8; 8] = cursor.take()?;
            let half = |at| get_le16(&entry, at).unwrap_or(0);
            let size = usize::from(half(6)).saturating_add(1);
            let Some(name) = name.get_mut(..size) else {
                return Err(damaged(cursor.place(), format!("a name of {size} bytes")));
            };
            let Some(kind) = kind(half(4)) else {
                return Err(damaged(cursor.place(), format!("a name of unknown type {}", half(4))));
            };
            cursor.fill(name)?;
            at = at.saturating_add(8).saturating_add(crate::num::wide(size));
            if at > len {
                return Err(damaged(cursor.place(), format!("its names go on behind its {len} bytes")));
            }
            if number <= skip {
                continue;
            }
            let next =
                if number == u64::from(names) { at << NUMBER_BITS } else { group << NUMBER_BITS | number };
            let ino = Ino(piece << 16 | u64::from(half(0)));
            if sink(DirEntry { ino, kind: Some(kind), name, next }).is_break() {
                return Ok(());
            }
        }
        skip = 0;
    }
    Ok(())
}
