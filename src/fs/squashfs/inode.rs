//! Inodes: sixteen bytes that all kinds have in common, and behind them what the kind needs. Each kind has a basic form,
//! and an extended one for what is rare: many links, attributes, sizes over 4 GiB, an index of a directory.
//!
//! An inode is found by its reference, its place in the table of inodes; that is what a directory holds, and what
//! [`Ino`] is here. The number that `stat` shows is stored beside.

use super::Squashfs;
use super::metadata::Place;
use super::superblock::NONE;
use crate::error::{At, Error, Result};
use crate::fs::{FileType, Ino, Stat, Time};
use crate::ondisk::{get_le16, get_le32, get_le64};

/// An index or number that says: there is none.
const NO_INDEX: u32 = u32::MAX;
/// The longest inode before what has a variable length: an extended regular file.
const MAX_FIXED: usize = 56;
/// The longest target of a symbolic link, in bytes (`PATH_MAX`; the kernel shows no longer one).
const MAX_TARGET: u32 = 4096;
/// What kernel and `mksquashfs` add to the length of a directory's listing, for `.` and `..`.
pub(super) const DOTS: u64 = 3;

/// The end of a file that is shorter than a block and lies in a fragment, beside the ends of others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    /// The fragment's number.
    pub(super) fragment: u32,
    /// The tail's byte in the unpacked fragment.
    pub(super) skip: u32,
}

/// Where a directory's listing is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    /// Its first byte.
    pub(super) start: Place,
    /// Its length in bytes.
    pub(super) len: u64,
    /// Entries of the index that stands behind the inode.
    pub(super) indexes: u16,
}

/// Where a file's blocks are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// The volume's byte of the first one; the others follow it.
    pub(super) start: u64,
    pub(super) tail: Option<Tail>,
}

/// What the kind needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    Dir(Listing),
    File(Blocks),
    Symlink,
    Device(u32),
    Other,
}

/// An inode, decoded.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) ino: Ino,
    pub(super) kind: FileType,
    pub(super) size: u64,
    pub(super) body: Body,
    /// What follows it in the table: a file's list of blocks, a link's target, a directory's index.
    pub(super) behind: Place,
    /// The number of its list of attributes.
    pub(super) xattrs: Option<u32>,
    number: u32,
    mode: u16,
    nlink: u32,
    uid: u16,
    gid: u16,
    mtime: u32,
    sparse: u64,
}

impl Inode {
    pub(super) fn at(&self) -> At {
        At::new("squashfs", "inode").index(u64::from(self.number))
    }
}

impl Squashfs {
    /// Reads the inode at a reference.
    ///
    /// # Errors
    /// `Corrupt` when there is none or it makes no sense.
    pub(super) fn inode(&self, ino: Ino) -> Result<Inode> {
        let place = Place::of(self.sb.inode_table, ino.0);
        let at = At::new("squashfs", "inode").byte(place.piece);
        if place.piece >= self.sb.directory_table {
            return Err(Error::corrupt(at)
                .because(format!("reference {:#x} leads out of the table of inodes", ino.0)));
        }
        let mut raw = [0; MAX_FIXED];
        let mut cursor = self.cursor(place);
        let mut have = 16;
        cursor.fill(raw.get_mut(..have).unwrap_or_default())?;
        let kind = get_le16(&raw, 0).unwrap_or(0);
        let len = match kind {
            1 | 2 => 32,
            3 | 4 | 5 | 10 | 13 | 14 => 24,
            6 | 7 => 20,
            8 => 40,
            9 => MAX_FIXED,
            11 | 12 => 28,
            _ => return Err(Error::corrupt(at).because(format!("a file of unknown type {kind}"))),
        };
        cursor.fill(raw.get_mut(have..len).unwrap_or_default())?;
        have = len;
        let raw = raw.get(..have).unwrap_or_default();
        let half = |byte| get_le16(raw, byte).unwrap_or(0);
        let word = |byte| get_le32(raw, byte).unwrap_or(0);
        let long = |byte| get_le64(raw, byte).unwrap_or(0);
        let tail = |fragment, skip| Some(Tail { fragment, skip }).filter(|tail| tail.fragment != NO_INDEX);
        let listing = |piece, skip, size: u64, indexes| {
            let start = Place {
                piece: self.sb.directory_table.saturating_add(u64::from(piece)),
                skip: u64::from(skip),
            };
            Body::Dir(Listing { start, len: size.saturating_sub(DOTS), indexes })
        };
        let mut inode = Inode {
            ino,
            kind: FileType::File,
            size: 0,
            body: Body::Other,
            behind: cursor.place(),
            xattrs: None,
            number: word(12),
            mode: half(2) & 0o7777,
            nlink: word(16),
            uid: half(4),
            gid: half(6),
            mtime: word(8),
            sparse: 0,
        };
        let xattrs = |index| Some(index).filter(|index| *index != NO_INDEX);
        match kind {
            1 => {
                inode.kind = FileType::Dir;
                (inode.size, inode.nlink) = (u64::from(half(24)), word(20));
                inode.body = listing(word(16), half(26), inode.size, 0);
            }
            8 => {
                inode.kind = FileType::Dir;
                inode.size = u64::from(word(20));
                inode.body = listing(word(24), half(34), inode.size, half(32));
                inode.xattrs = xattrs(word(36));
            }
            2 => {
                (inode.size, inode.nlink) = (u64::from(word(28)), 1);
                inode.body =
                    Body::File(Blocks { start: u64::from(word(16)), tail: tail(word(20), word(24)) });
            }
            9 => {
                (inode.size, inode.nlink, inode.sparse) = (long(24), word(40), long(32));
                inode.body = Body::File(Blocks { start: long(16), tail: tail(word(44), word(48)) });
                inode.xattrs = xattrs(word(52));
            }
            3 | 10 => {
                inode.kind = FileType::Symlink;
                inode.size = u64::from(word(20));
                inode.body = Body::Symlink;
                if word(20) == 0 || word(20) > MAX_TARGET {
                    return Err(
                        Error::corrupt(inode.at()).because(format!("a symbolic link of {} bytes", word(20)))
                    );
                }
                if kind == 10 {
                    let mut behind = cursor;
                    behind.skip(inode.size)?;
                    inode.xattrs = xattrs(u32::from_le_bytes(behind.take()?));
                }
            }
            4 | 5 | 11 | 12 => {
                inode.kind = if kind % 7 == 4 { FileType::Block } else { FileType::Char };
                inode.body = Body::Device(word(20));
                inode.xattrs = xattrs(get_le32(raw, 24).unwrap_or(NO_INDEX));
            }
            _ => {
                inode.kind = if kind % 7 == 6 { FileType::Fifo } else { FileType::Socket };
                inode.xattrs = xattrs(get_le32(raw, 20).unwrap_or(NO_INDEX));
            }
        }
        Ok(inode)
    }

    /// An owner by its number in the table.
    ///
    /// # Errors
    /// `Corrupt` when there is no such number.
    fn id(&self, index: u16) -> Result<u32> {
        if index >= self.sb.ids || self.sb.id_table == NONE {
            return Err(Error::corrupt(At::new("squashfs", "id table"))
                .because(format!("owner {index} of {}", self.sb.ids)));
        }
        self.table_entry(self.sb.id_table, u64::from(index)).map(u32::from_le_bytes)
    }

    /// What `stat` says.
    ///
    /// # Errors
    /// `Corrupt` when its owners are not there.
    pub(super) fn stat_of(&self, inode: &Inode) -> Result<Stat> {
        let rdev = match inode.body {
            // As the kernel encodes a new device number: 12 bits of major, 20 of minor around them.
            Body::Device(rdev) => ((rdev & 0xf_ff00) >> 8, (rdev & 0xff) | ((rdev >> 12) & 0xf_ff00)),
            _ => (0, 0),
        };
        let stored = if inode.kind == FileType::File { inode.size.saturating_sub(inode.sparse) } else { 0 };
        // The kernel counts attributes too. A damaged table of theirs is no reason not to show the rest.
        let attributes = self.xattr_list(inode).ok().flatten().map_or(0, |list| list.size);
        let blocks = stored.div_ceil(512).saturating_add(u64::from(attributes).div_ceil(512));
        let time = Time { secs: i64::from(inode.mtime), nanos: 0 };
        Ok(Stat {
            ino: Ino(u64::from(inode.number)),
            kind: inode.kind,
            size: inode.size,
            blocks,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: self.id(inode.uid)?,
            gid: self.id(inode.gid)?,
            rdev,
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
            blksize: self.sb.block_size,
        })
    }

    /// A symbolic link's target.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be read.
    pub(super) fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        // At most MAX_TARGET: compared when the inode was read.
        let target = self.cursor(inode.behind).bytes(crate::num::narrow(inode.size))?;
        if target.contains(&0) {
            return Err(Error::corrupt(inode.at()).because("a symbolic link with a NUL in its target"));
        }
        Ok(target)
    }
}
