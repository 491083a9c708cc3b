//! What a block of metadata of version 5 says of itself: its checksum, where it lies, whose it is and of which file
//! system. Version 4 has nothing of the kind.
//!
//! "XFS Algorithms & Data Structures", "Self Describing Metadata".

use super::Xfs;
use crate::checksum::crc32c;
use crate::error::{At, Error, Result};
use crate::num::wide;
use crate::ondisk::{get_be64, get_le32};

/// Where those fields stand in one kind of block, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seal {
    /// CRC-32C of the block with zeros here, little-endian.
    crc: usize,
    /// Where the block lies, in 512-byte units of the volume.
    place: usize,
    /// Where in the log its last change stands.
    pub(super) lsn: usize,
    /// UUID of the file system's metadata.
    pub(super) uuid: usize,
    /// Inode that it belongs to.
    owner: usize,
}

impl Seal {
    /// Nodes of a map of blocks (`xfs_btree_block`, long form).
    pub(super) const BMAP: Self = Self { crc: 64, place: 24, lsn: 32, uuid: 40, owner: 56 };
    /// Data of directories (`xfs_dir3_blk_hdr`).
    pub(super) const DIR: Self = Self { crc: 4, place: 8, lsn: 16, uuid: 24, owner: 40 };
    /// Nodes and leaves of directories and attributes (`xfs_da3_blkinfo`).
    pub(super) const DA: Self = Self { crc: 12, place: 16, lsn: 24, uuid: 32, owner: 48 };
    /// Symbolic links and values of attributes (`xfs_dsymlink_hdr`, `xfs_attr3_rmt_hdr`).
    pub(super) const REMOTE: Self = Self { crc: 12, place: 40, lsn: 48, uuid: 16, owner: 32 };
}

/// Is the little-endian CRC-32C at `at` the one of these bytes with zeros in its place?
pub(super) fn is_crc_right(bytes: &[u8], at: usize) -> bool {
    let Some((head, rest)) = bytes.split_at_checked(at) else { return false };
    get_le32(rest, 0) == Some(crc32c(&[head, &[0; 4], rest.get(4..).unwrap_or_default()]))
}

impl Xfs {
    /// Checks what a block that starts at byte `byte` of the volume says of itself. Does nothing for version 4.
    ///
    /// # Errors
    /// `Corrupt` when it is not what it should be.
    pub(super) fn check_seal(
        &self,
        seal: Seal,
        bytes: &[u8],
        byte: u64,
        owner: Option<u64>,
        at: &At,
    ) -> Result<()> {
        if !self.sb.features.is_v5() {
            return Ok(());
        }
        let bad = |why: String| Err(Error::corrupt(at.clone()).because(why));
        // Changed by the log: the checksum is computed anew when such a block is written, and it never was.
        let changed = self.is_replayed(byte, wide(bytes.len()));
        if !changed && !is_crc_right(bytes, seal.crc) {
            return bad("its checksum is wrong".to_owned());
        }
        let number = |at| get_be64(bytes, at).unwrap_or(0);
        if bytes.get(seal.uuid..).is_none_or(|rest| !rest.starts_with(&self.sb.meta_uuid)) {
            return bad("belongs to another file system, by its UUID".to_owned());
        }
        if number(seal.place) != byte >> 9 {
            return bad(format!("says that it lies at sector {}", number(seal.place)));
        }
        match owner {
            Some(owner) if number(seal.owner) != owner => {
                bad(format!("belongs to inode {}", number(seal.owner)))
            }
            _ => Ok(()),
        }
    }
}
