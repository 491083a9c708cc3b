//! Extended attributes: entries behind the inode, and numbers of entries in an area that inodes share.
//!
//! ```text
//! behind the inode: │ filter, how many shared │ number, number, ... │ entry, entry, ... │
//! entry:            │ length of the name, prefix, length of the value │ name │ value │ up to a multiple of four
//! ```
//! A prefix is one of the usual ones, or, with its highest bit, one of a table of longer ones.

use super::Erofs;
use super::inode::{Inode, XATTR_HEAD};
use crate::error::{Error, Result};
use crate::fs::Xattr;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32};

/// The bit of a prefix that says that it is a long one.
const LONG_PREFIX: u8 = 0x80;
/// Bytes of an entry's head.
const HEAD: u64 = 4;

/// The prefixes that the kernel lists, by their number.
const PREFIXES: &[(u8, &[u8])] = &[
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

fn prefix(number: u8) -> Option<&'static [u8]> {
    PREFIXES.iter().find(|(known, _)| *known == number).map(|(_, prefix)| *prefix)
}

impl Erofs {
    /// Every attribute of an inode. Prefixes that have no name are left out, as the kernel does.
    ///
    /// # Errors
    /// `Corrupt` when they cannot be read.
    pub(super) fn all_xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let mut xattrs = Vec::new();
        if inode.xattrs_len == 0 {
            return Ok(xattrs);
        }
        let bad = |why: String| Error::corrupt(inode.at()).because(why);
        let body = self.meta.near(inode.xattrs_at, inode.xattrs_len)?;
        let shared = u64::from(body.get(4).copied().unwrap_or(0));
        let mut at = XATTR_HEAD.saturating_add(shared.saturating_mul(4));
        if at > inode.xattrs_len {
            return Err(bad(format!("{shared} shared attributes in {} bytes", inode.xattrs_len)));
        }
        for number in 0..shared {
            let id =
                get_le32(&body, narrow(XATTR_HEAD.saturating_add(number.saturating_mul(4)))).unwrap_or(0);
            let place = self.sb.byte_of(self.sb.xattr_block).saturating_add(u64::from(id).saturating_mul(4));
            let head = self.meta.near(place, HEAD)?;
            let entry = self.meta.near(place, entry_len(&head))?;
            self.push(&entry, &mut xattrs)?;
        }
        while inode.xattrs_len.saturating_sub(at) >= HEAD {
            let rest = body.get(narrow(at)..).unwrap_or_default();
            let len = entry_len(rest);
            let entry = rest.get(..narrow(len));
            let entry =
                entry.ok_or_else(|| bad(format!("an attribute of {len} bytes, {} are left", rest.len())))?;
            self.push(entry, &mut xattrs)?;
            at = at.saturating_add(len.next_multiple_of(4));
        }
        Ok(xattrs)
    }

    /// Decodes an entry, all of whose bytes are there.
    fn push(&self, entry: &[u8], xattrs: &mut Vec<Xattr>) -> Result<()> {
        let [name_len, number, ..] = *entry else { return Ok(()) };
        let rest = entry.get(narrow(HEAD)..).unwrap_or_default();
        let (name, value) = rest.split_at_checked(usize::from(name_len)).unwrap_or_default();
        let (number, infix) = if number & LONG_PREFIX == 0 {
            (number, Vec::new())
        } else {
            let Some(prefix) = self.long_prefix(number & !LONG_PREFIX)? else { return Ok(()) };
            let Some((number, infix)) = prefix.split_first() else { return Ok(()) };
            (*number, infix.to_vec())
        };
        if let Some(prefix) = prefix(number) {
            xattrs.push(Xattr { name: [prefix, &infix, name].concat(), value: value.to_vec() });
        }
        Ok(())
    }

    /// A long prefix: the number of a usual one, and what follows that.
    ///
    /// # Errors
    /// `Corrupt` when the table cannot be read.
    fn long_prefix(&self, number: u8) -> Result<Option<Vec<u8>>> {
        if number >= self.sb.prefixes {
            return Ok(None);
        }
        let packed = match self.sb.packed_nid().filter(|_| !self.sb.has_plain_prefixes()) {
            Some(nid) => Some(self.inode(nid)?),
            None => None,
        };
        let read = |at: u64, len: usize| -> Result<Vec<u8>> {
            match &packed {
                None => Ok(self.meta.near(at, wide(len))?.to_vec()),
                Some(inode) => {
                    // At most 64 KiB: a length is sixteen bits.
                    let mut bytes = vec![0; len];
                    self.read(inode, &mut bytes, at)?;
                    Ok(bytes)
                }
            }
        };
        let mut at = self.sb.prefix_start;
        for before in 0..=number {
            let len = usize::from(get_le16(&read(at, 2)?, 0).unwrap_or(0));
            if before == number {
                return read(at.saturating_add(2), len).map(Some);
            }
            at = at.saturating_add(2).saturating_add(wide(len)).next_multiple_of(4);
        }
        Ok(None)
    }
}

/// The length of an entry with its name and value, from its head.
fn entry_len(head: &[u8]) -> u64 {
    let name = u64::from(head.first().copied().unwrap_or(0));
    let value = u64::from(get_le16(head, 2).unwrap_or(0));
    HEAD.saturating_add(name).saturating_add(value)
}
