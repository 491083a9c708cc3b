//! Extended attributes: items of the same form as directory entries, whose names and values are stored as the kernel hands
//! them out, access control lists among them.

use super::dir::entries;
use super::inode;
use super::key::{Key, kind};
use super::pool::Pool;
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::fs::Xattr;

/// Bytes of names and values of one inode; its kernel hands out 64 KiB of names.
const MAX_BYTES: usize = 8 << 20;

impl Pool {
    /// Every attribute of an inode.
    ///
    /// # Errors
    /// `Corrupt` when one is torn; `Limit` for too many.
    pub(super) fn xattrs(&self, tree: &Tree, number: u64) -> Result<Vec<Xattr>> {
        let mut all = Vec::new();
        let mut bytes = 0_usize;
        let mut items = self.items(tree, Key::new(number, kind::XATTR, 0))?;
        while let Some(item) = items.next_of(number, kind::XATTR)? {
            bytes = bytes.saturating_add(item.data.len());
            if bytes > MAX_BYTES {
                return Err(Error::limit(format!("attributes of more than {MAX_BYTES} bytes together"))
                    .at(inode::at(number)));
            }
            for entry in entries(&item.data) {
                let entry = entry
                    .map_err(|why| Error::corrupt(inode::at(number)).because(format!("attributes: {why}")))?;
                all.push(Xattr { name: entry.name.to_vec(), value: entry.data.to_vec() });
            }
        }
        Ok(all)
    }
}
