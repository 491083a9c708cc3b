//! Symbolic links: the target in the inode, or in blocks of its own, each with a header in version 5.
//!
//! "XFS Algorithms & Data Structures", "Symbolic Links".

use super::Xfs;
use super::inode::{Format, Inode};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};

/// The longest target (`XFS_SYMLINK_MAXLEN`).
const MAX_LINK: u64 = 1024;
/// Header of each block in version 5, in bytes.
const HEADER: u64 = 56;

impl Xfs {
    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `Corrupt` when it is longer than links are, a block is missing or not what it should be.
    pub(super) fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        let bad = |why: String| Error::corrupt(inode.at()).because(why);
        if inode.size > MAX_LINK {
            return Err(bad(format!("a symbolic link of {} bytes", inode.size)));
        }
        let target = if inode.data.format == Format::Local {
            inode.area(&inode.data).get(..narrow(inode.size)).unwrap_or_default().to_vec()
        } else if self.sb.features.is_v5() {
            self.remote_target(inode)?
        } else {
            // At most MAX_LINK, compared above.
            let mut target = vec![0; narrow(inode.size)];
            self.read_written(inode, &inode.data, &mut target, 0)?;
            target
        };
        if target.is_empty() || target.contains(&0) {
            return Err(bad("a symbolic link whose target is not its length".to_owned()));
        }
        Ok(target)
    }

    fn remote_target(&self, inode: &Inode) -> Result<Vec<u8>> {
        let size = self.sb.block_size;
        // A link fits into three blocks of the smallest size; its extents may be one, and one seal covers each extent.
        let mut target = Vec::with_capacity(narrow(inode.size));
        let mut logical = 0;
        while wide(target.len()) < inode.size {
            let left = inode.size.saturating_sub(wide(target.len()));
            let blocks = left.div_ceil(size.saturating_sub(HEADER));
            let mut map = super::map::Map::new(self, inode, &inode.data);
            let together = map.at(logical, blocks)?.blocks.min(blocks);
            let whole = together.saturating_mul(size);
            let part = self.fork_block(inode, &inode.data, logical, whole)?;
            let part = part.ok_or_else(|| {
                Error::corrupt(inode.at()).because(format!("block {logical} of a symbolic link is missing"))
            })?;
            let at = At::new("xfs", "symbolic link of inode").index(inode.ino).byte(part.byte);
            let len = left.min(whole.saturating_sub(HEADER));
            target.extend_from_slice(self.remote_part(
                *b"XSLM",
                inode,
                &part,
                wide(target.len()),
                len,
                &at,
            )?);
            logical = logical.saturating_add(together);
        }
        Ok(target)
    }
}
