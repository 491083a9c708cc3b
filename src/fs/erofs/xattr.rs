//! Extended attributes: entries behind the inode, and numbers of entries in an area that inodes share.
//!
//! ```text
//! behind the inode: │ filter, how many shared │ number, number, ... │ entry, entry, ... │
//! entry:            │ length of the name, prefix, length of the value │ name │ value │ up to a multiple of four
//! ```
//! A prefix is one of the usual ones, or, with its highest bit, one of a table of longer ones.

use super::Erofs;
use super::inode::{Inode, XATTR_HEAD};
use crate::error::{At, Error, Result};
use crate::fs::Xattr;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32};

/// The bit of a prefix that says that it is a long one.
const LONG_PREFIX: u8 = 0x80;
/// The longest part of a name that a long prefix stands for, and the number in front of it (`EROFS_NAME_LEN`, 1).
const MAX_PREFIX: usize = 256;
/// Bytes of an entry's head.
const HEAD: u64 = 4;

/// The long prefixes: of each the number of a usual one, and what follows that.
type LongPrefixes = Vec<Vec<u8>>;

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
        let mut long = None;
        for number in 0..shared {
            let id =
                get_le32(&body, narrow(XATTR_HEAD.saturating_add(number.saturating_mul(4)))).unwrap_or(0);
            let place = self.sb.byte_of(self.sb.xattr_block).saturating_add(u64::from(id).saturating_mul(4));
            let head = self.meta.near(place, HEAD)?;
            let entry = self.meta.near(place, entry_len(&head))?;
            self.push(&entry, &mut long, &mut xattrs)?;
        }
        while inode.xattrs_len.saturating_sub(at) >= HEAD {
            let rest = body.get(narrow(at)..).unwrap_or_default();
            let len = entry_len(rest);
            let entry = rest.get(..narrow(len));
            let entry =
                entry.ok_or_else(|| bad(format!("an attribute of {len} bytes, {} are left", rest.len())))?;
            self.push(entry, &mut long, &mut xattrs)?;
            at = at.saturating_add(len.next_multiple_of(4));
        }
        Ok(xattrs)
    }

    /// Decodes an entry, all of whose bytes are there. Long prefixes are read once, for the first entry that has one.
    fn push(&self, entry: &[u8], long: &mut Option<LongPrefixes>, xattrs: &mut Vec<Xattr>) -> Result<()> {
        let [name_len, number, ..] = *entry else { return Ok(()) };
        let rest = entry.get(narrow(HEAD)..).unwrap_or_default();
        let (name, value) = rest.split_at_checked(usize::from(name_len)).unwrap_or_default();
        let mut infix: &[u8] = &[];
        let mut usual = number;
        if number & LONG_PREFIX != 0 {
            if long.is_none() {
                *long = Some(self.long_prefixes()?);
            }
            let known = long.as_ref().and_then(|long| long.get(usize::from(number & !LONG_PREFIX)));
            let Some((first, rest)) = known.and_then(|prefix| prefix.split_first()) else { return Ok(()) };
            (usual, infix) = (*first, rest);
        }
        if let Some(prefix) = prefix(usual) {
            xattrs.push(Xattr { name: [prefix, infix, name].concat(), value: value.to_vec() });
        }
        Ok(())
    }

    /// The table of long prefixes.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be read, or one of them is longer than a name.
    fn long_prefixes(&self) -> Result<LongPrefixes> {
        let packed = match self.sb.packed_nid().filter(|_| !self.sb.has_plain_prefixes()) {
            Some(nid) => Some(self.inode(nid)?),
            None => None,
        };
        let read = |at: u64, len: usize| -> Result<Vec<u8>> {
            match &packed {
                None => Ok(self.meta.near(at, wide(len))?.to_vec()),
                Some(inode) => {
                    // At most MAX_PREFIX.
                    let mut bytes = vec![0; len];
                    self.read(inode, &mut bytes, at)?;
                    Ok(bytes)
                }
            }
        };
        let mut prefixes = Vec::new();
        let mut at = self.sb.prefix_start;
        for number in 0..self.sb.prefixes {
            let len = usize::from(get_le16(&read(at, 2)?, 0).unwrap_or(0));
            if len == 0 || len > MAX_PREFIX {
                let place = At::new("erofs", "long attribute prefix").index(number.into()).byte(at);
                return Err(Error::corrupt(place).because(format!("it has {len} bytes")));
            }
            prefixes.push(read(at.saturating_add(2), len)?);
            at = at.saturating_add(2).saturating_add(wide(len)).next_multiple_of(4);
        }
        Ok(prefixes)
    }
}

/// The length of an entry with its name and value, from its head.
fn entry_len(head: &[u8]) -> u64 {
    let name = u64::from(head.first().copied().unwrap_or(0));
    let value = u64::from(get_le16(head, 2).unwrap_or(0));
    HEAD.saturating_add(name).saturating_add(value)
}
