//! Inodes: 32 bytes, or 64 where those are too few; then the inode's attributes, and behind those what its layout needs:
//! the end of the file itself, a list of chunks, or an index of packed blocks.
//!
//! An inode's number is its place: 32-byte slots counted from a block that the superblock names.

use super::Erofs;
use crate::error::{At, Error, Result};
use crate::fs::{FileType, Ino, Stat, Time};
use crate::ondisk::{get_le16, get_le32, get_le64};

/// Bits of `i_format`: a long inode; the layout in the three above it; a file that is short of a link count, or a
/// directory without `.`.
const LONG: u16 = 1;
const LAYOUT_SHIFT: u16 = 1;
const ONE_LINK: u16 = 0x10;
const KNOWN_FORMAT: u16 = 0x1f;
/// A block number of all ones in 32 and 48 bits: nothing is stored.
pub(super) const NO_BLOCK_32: u64 = 0xffff_ffff;
pub(super) const NO_BLOCK_48: u64 = 0xffff_ffff_ffff;
/// Bytes of the head of an inode's attributes.
pub(super) const XATTR_HEAD: u64 = 12;

/// How an inode's data are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One behind the other from a block on; `None`: a hole.
    Plain(Option<u64>),
    /// So too, but for the part of the last block, which follows the inode.
    Inline(u64),
    /// Packed, with an index of eight bytes for each block.
    Full,
    /// Packed, with an index of two or four bytes for each block.
    Compact,
    /// In chunks, whose places follow the inode; the format of that list.
    Chunks(u16),
}

/// An inode, decoded.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) nid: u64,
    /// The volume's byte where it lies.
    pub(super) byte: u64,
    pub(super) kind: FileType,
    pub(super) size: u64,
    pub(super) layout: Layout,
    /// Where its attributes are, and their length.
    pub(super) xattrs_at: u64,
    pub(super) xattrs_len: u64,
    mode: u16,
    nlink: u32,
    uid: u32,
    gid: u32,
    rdev: u32,
    mtime: Time,
    sectors: u64,
}

impl Inode {
    pub(super) fn at(&self) -> At {
        At::new("erofs", "inode").index(self.nid).byte(self.byte)
    }

    /// The volume's byte behind the inode and its attributes.
    pub(super) const fn behind(&self) -> u64 {
        self.xattrs_at.saturating_add(self.xattrs_len)
    }
}

fn kind(mode: u16) -> Option<FileType> {
    Some(match mode >> 12 {
        0o1 => FileType::Fifo,
        0o2 => FileType::Char,
        0o4 => FileType::Dir,
        0o6 => FileType::Block,
        0o10 => FileType::File,
        0o12 => FileType::Symlink,
        0o14 => FileType::Socket,
        _ => return None,
    })
}

impl Erofs {
    /// Reads inode `nid`.
    ///
    /// # Errors
    /// `Corrupt` when there is none or it makes no sense; `Unsupported` for a layout that has no name yet.
    pub(super) fn inode(&self, nid: u64) -> Result<Inode> {
        let byte = self.sb.inode_byte(nid);
        let at = || At::new("erofs", "inode").index(nid).byte(byte);
        let bad = |why: String| Error::corrupt(at()).because(why);
        let mut raw = self.meta.near(byte, 32).map_err(|error| error.at(at()))?;
        let format = get_le16(&raw, 0).unwrap_or(0);
        if format & !KNOWN_FORMAT != 0 {
            return Err(Error::unsupported(format!("an erofs inode of format {format:#x}")).at(at()));
        }
        let is_long = format & LONG != 0;
        let len = if is_long { 64 } else { 32 };
        if is_long {
            raw = self.meta.near(byte, len)?;
        }
        let half = |at| get_le16(&raw, at).unwrap_or(0);
        let word = |at| get_le32(&raw, at).unwrap_or(0);
        let long = |at| get_le64(&raw, at).unwrap_or(0);
        let mode = half(4);
        let kind = kind(mode).ok_or_else(|| bad(format!("a file of unknown type {:#o}", mode >> 12)))?;
        // The same sixteen bits are links, or the upper half of a block number.
        let one_link = kind != FileType::Dir && format & ONE_LINK != 0;
        let has_high = is_long || one_link;
        let high = if has_high { u64::from(half(6)) << 32 } else { 0 };
        let none = if has_high { NO_BLOCK_48 } else { NO_BLOCK_32 };
        let size = if is_long { long(8) } else { u64::from(word(8)) };
        if size > u64::MAX >> 1 {
            return Err(bad(format!("a size of {size} bytes")));
        }
        let block = u64::from(word(16)) | high;
        let layout = match format >> LAYOUT_SHIFT & 7 {
            0 => Layout::Plain(Some(block).filter(|block| *block != none)),
            1 => Layout::Full,
            2 => Layout::Inline(block),
            3 => Layout::Compact,
            4 => Layout::Chunks(half(16)),
            other => return Err(Error::unsupported(format!("an erofs data layout {other}")).at(at())),
        };
        let sectors = match layout {
            Layout::Full | Layout::Compact => block,
            _ => size.div_ceil(self.sb.block_size()),
        };
        let xattrs = u64::from(half(2));
        let mtime = if is_long {
            Time { secs: long(32).cast_signed(), nanos: word(40) }
        } else {
            let secs = self.sb.epoch.wrapping_add(u64::from(word(12))).cast_signed();
            Time { secs, nanos: self.sb.fixed_nanos }
        };
        let nlink = if one_link {
            1
        } else if is_long {
            word(44)
        } else {
            u32::from(half(6))
        };
        Ok(Inode {
            nid,
            byte,
            kind,
            size,
            layout,
            xattrs_at: byte.saturating_add(len),
            xattrs_len: if xattrs == 0 {
                0
            } else {
                XATTR_HEAD.saturating_add(xattrs.saturating_sub(1).saturating_mul(4))
            },
            mode: mode & 0o7777,
            nlink,
            uid: if is_long { word(24) } else { u32::from(half(24)) },
            gid: if is_long { word(28) } else { u32::from(half(26)) },
            rdev: word(16),
            mtime: Time { nanos: mtime.nanos.min(999_999_999), ..mtime },
            sectors: sectors.saturating_mul(self.sb.block_size() / 512),
        })
    }

    /// What `stat` says.
    pub(super) fn stat_of(&self, inode: &Inode) -> Stat {
        let rdev = match inode.kind {
            // As the kernel encodes a new device number: 12 bits of major, 20 of minor around them.
            FileType::Char | FileType::Block => {
                ((inode.rdev & 0xf_ff00) >> 8, (inode.rdev & 0xff) | ((inode.rdev >> 12) & 0xf_ff00))
            }
            _ => (0, 0),
        };
        Stat {
            ino: Ino(inode.nid),
            kind: inode.kind,
            size: inode.size,
            blocks: inode.sectors,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev,
            atime: inode.mtime,
            mtime: inode.mtime,
            ctime: inode.mtime,
            btime: None,
            blksize: u32::try_from(self.sb.block_size()).unwrap_or(u32::MAX),
        }
    }

    /// The bytes of a file or directory from `offset` on, through the cache of metadata: `len` of them, which lie in one
    /// block.
    ///
    /// # Errors
    /// `Corrupt` when they cannot be read.
    pub(super) fn small_part(&self, inode: &Inode, offset: u64, len: u64) -> Result<Vec<u8>> {
        if let Some(stretch) = self.stretch(inode, offset, len)?
            && let super::map::Place::At(byte) = stretch.place
            && stretch.len >= len
        {
            return Ok(self.meta.near(byte, len).map_err(|error| error.at(inode.at()))?.to_vec());
        }
        // At most a block.
        let mut bytes = vec![0; crate::num::narrow(len.min(self.sb.block_size()))];
        self.read(inode, &mut bytes, offset)?;
        Ok(bytes)
    }
}
