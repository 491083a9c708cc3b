//! Extended attributes: lists of names and values, shared by all inodes that have the same ones. A large value that
//! several lists have is stored once, and the others have its place.
//!
//! ```text
//! inode: number ─▶ table: place of a list, how many ─▶ list: prefix, name, value | place of a value
//! ```

use super::Squashfs;
use super::inode::Inode;
use super::metadata::Place;
use super::superblock::NONE;
use crate::error::{At, Error, Result};
use crate::fs::Xattr;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};

/// The bit of a prefix that says that the value lies elsewhere.
const OUT_OF_LINE: u16 = 0x100;
/// The longest value, in bytes (`XATTR_SIZE_MAX`).
const MAX_VALUE: u32 = 65536;
/// The longest name behind its prefix, in bytes (`XATTR_NAME_MAX`).
const MAX_NAME: u16 = 255;
/// Attributes of one inode; the kernel lists 64 KiB of names.
const MAX_COUNT: u32 = 16384;
/// Bytes of all values of one inode.
const MAX_BYTES: usize = 16 << 20;

/// The prefixes by their number.
const PREFIXES: &[&[u8]] = &[b"user.", b"trusted.", b"security."];

/// An inode's list of attributes.
pub(super) struct List {
    /// The volume's byte where the pieces with all lists begin.
    lists: u64,
    /// The place of this one.
    reference: u64,
    count: u32,
    /// Bytes of all its names and values.
    pub(super) size: u32,
}

fn bad(why: String) -> Error {
    Error::corrupt(At::new("squashfs", "xattr table")).because(why)
}

impl Squashfs {
    /// Where the attributes of an inode are, if it has any.
    ///
    /// # Errors
    /// `Corrupt` when the table cannot be read.
    pub(super) fn xattr_list(&self, inode: &Inode) -> Result<Option<List>> {
        let Some(index) = inode.xattrs.filter(|_| self.sb.xattr_table != NONE) else { return Ok(None) };
        // Where the lists begin, how many there are; the list of pieces of the table follows.
        let head = self.meta.near(self.sb.xattr_table, 16)?;
        let (lists, count) = (get_le64(&head, 0).unwrap_or(NONE), get_le32(&head, 8).unwrap_or(0));
        if index >= count {
            return Err(bad(format!("list {index} of {count}")));
        }
        let entry: [u8; 16] = self.table_entry(self.sb.xattr_table.saturating_add(16), u64::from(index))?;
        let word = |at| get_le32(&entry, at).unwrap_or(0);
        let reference = get_le64(&entry, 0).unwrap_or(NONE);
        Ok(Some(List { lists, reference, count: word(8), size: word(12) }))
    }

    /// Every attribute of an inode. Prefixes that the format does not name are left out, as the kernel does.
    ///
    /// # Errors
    /// `Corrupt` when they cannot be read.
    pub(super) fn all_xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let mut xattrs = Vec::new();
        let Some(List { lists, reference, count, .. }) = self.xattr_list(inode)? else { return Ok(xattrs) };
        if count > MAX_COUNT {
            return Err(bad(format!("{count} attributes of one inode, at most {MAX_COUNT} are accepted")));
        }
        let mut cursor = self.cursor(Place::of(lists, reference));
        let mut bytes = 0_usize;
        for _ in 0..count {
            let head: [u8; 4] = cursor.take()?;
            let (prefix, len) = (get_le16(&head, 0).unwrap_or(0), get_le16(&head, 2).unwrap_or(0));
            if len > MAX_NAME {
                return Err(bad(format!("a name of {len} bytes")));
            }
            let name = cursor.bytes(usize::from(len))?;
            let size = u32::from_le_bytes(cursor.take()?);
            let value = if prefix & OUT_OF_LINE == 0 {
                cursor.bytes(self.checked(size, &mut bytes)?)?
            } else {
                let elsewhere = Place::of(lists, u64::from_le_bytes(cursor.take()?));
                let mut elsewhere = self.cursor(elsewhere);
                let size = u32::from_le_bytes(elsewhere.take()?);
                elsewhere.bytes(self.checked(size, &mut bytes)?)?
            };
            if let Some(prefix) = PREFIXES.get(usize::from(prefix & !OUT_OF_LINE)) {
                xattrs.push(Xattr { name: [prefix, &name[..]].concat(), value });
            }
        }
        Ok(xattrs)
    }

    /// The length of a value, if it and all before it are of a size that an inode may have.
    fn checked(&self, size: u32, bytes: &mut usize) -> Result<usize> {
        let len = narrow(u64::from(size));
        *bytes = bytes.saturating_add(len);
        if size > MAX_VALUE || *bytes > MAX_BYTES {
            let what = format!("an attribute of {size} bytes, {} of one inode", wide(*bytes));
            return Err(bad(what));
        }
        Ok(len)
    }
}
