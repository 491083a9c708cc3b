//! The inode: a core of 100 bytes, 176 in version 5, and behind it the literal area that two forks share: one for data,
//! one for attributes.
//!
//! ```text
//! core │ data fork                   │ attribute fork
//!      ^ 100 or 176                  ^ + di_forkoff * 8            ^ sb_inodesize
//! ```
//! "XFS Algorithms & Data Structures", "On-disk Inode".

use super::Xfs;
use super::seal::is_crc_right;
use super::superblock::Superblock;
use crate::error::{At, Error, Result};
use crate::fs::meta::Bytes;
use crate::fs::{FileType, Ino, Stat, Time};
use crate::num::{narrow, wide};
use crate::ondisk::{get_be32, get_be64, parse_struct};
use std::ops::Range;
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `di_flags`: the data lies on the realtime device.
const REALTIME: u16 = 1;
/// `di_flags`: nobody may change it.
const IMMUTABLE: u16 = 1 << 3;
/// `di_flags2`: times count nanoseconds from -2^31 seconds on.
const BIGTIME: u64 = 8;
/// `di_flags2`: extents are counted in 64 and 32 bits.
const NREXT64: u64 = 0x10;
/// `di_flags2`: the file belongs to the file system itself.
const METADATA: u64 = 0x20;
/// Bytes of the core of version 3 inodes, and of the older ones.
pub(super) const CORE_V3: usize = 176;
pub(super) const CORE_V2: usize = 100;
/// Where the checksum of a version 3 inode stands.
const CRC_AT: usize = 100;
/// The page that `st_blksize` never falls below.
const PAGE: u64 = 4096;

/// The core, and of version 3 the part behind it.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Raw {
    magic: [u8; 2],         // 0x00 "IN"
    mode: U16,              // 0x02
    version: u8,            // 0x04 1, 2 or 3
    format: u8,             // 0x05 of the data fork
    old_links: U16,         // 0x06 of version 1
    uid: U32,               // 0x08
    gid: U32,               // 0x0c
    links: U32,             // 0x10
    project: [u8; 4],       // 0x14
    big_extents: U64,       // 0x18 with NREXT64; padding and flush counter without
    atime: U64,             // 0x20
    mtime: U64,             // 0x28
    ctime: U64,             // 0x30
    size: U64,              // 0x38 bytes
    blocks: U64,            // 0x40 file system blocks, those of the maps included
    extent_size: U32,       // 0x48
    extents: U32,           // 0x4c of the data fork; with NREXT64 of the attribute fork
    attribute_extents: U16, // 0x50 without NREXT64
    fork_offset: u8,        // 0x52 of the attribute fork, 8 bytes each; 0: there is none
    attribute_format: u8,   // 0x53
    dmapi: [u8; 6],         // 0x54
    flags: U16,             // 0x5a
    generation: U32,        // 0x5c
    next_unlinked: U32,     // 0x60
}
const _: () = assert!(size_of::<Raw>() == CORE_V2);

/// How a fork keeps what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A device number.
    Device,
    /// The content itself.
    Local,
    /// A list of extents.
    Extents,
    /// The root of a tree of extents.
    Btree,
}

impl Format {
    const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Device),
            1 => Some(Self::Local),
            2 => Some(Self::Extents),
            3 => Some(Self::Btree),
            _ => None,
        }
    }
}

/// One of the two forks.
#[derive(Clone, Debug)]
pub(super) struct Fork {
    pub(super) format: Format,
    /// Extents it is said to have.
    pub(super) extents: u64,
    /// Its bytes in the inode.
    pub(super) area: Range<usize>,
}

/// An inode, decoded.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) ino: u64,
    /// The volume's byte where it lies.
    pub(super) byte: u64,
    pub(super) kind: FileType,
    pub(super) size: u64,
    pub(super) data: Fork,
    pub(super) attributes: Option<Fork>,
    /// Blocks of its file and maps.
    pub(super) blocks: u64,
    /// All of it, as stored.
    pub(super) raw: Bytes,
    is_realtime: bool,
    /// Nobody may change it.
    pub(super) is_immutable: bool,
    mode: u16,
    links: u32,
    uid: u32,
    gid: u32,
    atime: Time,
    mtime: Time,
    ctime: Time,
    btime: Option<Time>,
}

impl Inode {
    /// Decodes the inode in `raw`. Its checksum is compared unless the log changed it.
    ///
    /// # Errors
    /// `Corrupt` for what is no inode or a free one, another inode, an unknown type, forks that do not fit.
    fn parse(ino: u64, byte: u64, raw: Bytes, sb: &Superblock, is_replayed: bool) -> Result<Self> {
        let at = At::new("xfs", "inode").index(ino).byte(byte);
        let bad = |why: String| Error::corrupt(at.clone()).because(why);
        let core: Raw = parse_struct(&raw, at.clone())?;
        if core.magic != *b"IN" {
            return Err(bad("no magic number IN: there is no inode of this number".to_owned()));
        }
        let is_v3 = sb.features.is_v5();
        if is_v3 != (core.version == 3) || !(1..=3).contains(&core.version) {
            return Err(bad(format!("version {} of an inode", core.version)));
        }
        let word = |at: usize| get_be64(&raw, at).unwrap_or(0);
        if is_v3 {
            if !is_replayed && !is_crc_right(&raw, CRC_AT) {
                return Err(bad("its checksum is wrong".to_owned()));
            }
            if word(152) != ino || raw.get(160..176) != Some(&sb.meta_uuid) {
                return Err(bad(format!("is inode {} of some file system", word(152))));
            }
        }
        let mode = core.mode.get();
        if mode == 0 {
            return Err(bad("is not in use".to_owned()));
        }
        let kind = kind(mode).ok_or_else(|| bad(format!("a file of unknown type {:#o}", mode >> 12)))?;
        let flags2 = if is_v3 { word(120) } else { 0 };
        if flags2 & METADATA != 0 {
            return Err(bad("belongs to the file system itself; no directory may name it".to_owned()));
        }
        let size = core.size.get();
        if size >> 63 != 0 || (size == 0 && matches!(kind, FileType::Dir | FileType::Symlink)) {
            return Err(bad(format!("a {} of {size} bytes", kind.name())));
        }
        let (extents, attribute_extents) = if flags2 & NREXT64 == 0 {
            (u64::from(core.extents.get()), u64::from(core.attribute_extents.get()))
        } else {
            (core.big_extents.get(), u64::from(core.extents.get()))
        };
        let start = if is_v3 { CORE_V3 } else { CORE_V2 };
        let middle = match core.fork_offset {
            0 => raw.len(),
            offset => start.saturating_add(usize::from(offset).saturating_mul(8)),
        };
        if middle > raw.len() || (middle == raw.len() && core.fork_offset != 0) {
            return Err(bad(format!("its attributes start {middle} bytes into it")));
        }
        let fork = |format: u8, extents: u64, area: Range<usize>, what: &str| -> Result<Fork> {
            let format =
                Format::of(format).ok_or_else(|| bad(format!("a {what} fork of format {format}")))?;
            if format == Format::Extents && extents.saturating_mul(16) > wide(area.len()) {
                return Err(bad(format!("{extents} extents in a {what} fork of {} bytes", area.len())));
            }
            Ok(Fork { format, extents, area })
        };
        let data = fork(core.format, extents, start..middle, "data")?;
        if !suits(kind, data.format) || (data.format == Format::Local && size > wide(data.area.len())) {
            return Err(bad(format!("a {} of {size} bytes with a {:?} fork", kind.name(), data.format)));
        }
        let attributes = if core.fork_offset == 0 {
            None
        } else {
            Some(fork(core.attribute_format, attribute_extents, middle..raw.len(), "attribute")?)
        };
        let time =
            |stored: U64| if flags2 & BIGTIME == 0 { old_time(stored.get()) } else { big_time(stored.get()) };
        Ok(Self {
            ino,
            byte,
            kind,
            size,
            data,
            attributes,
            blocks: core.blocks.get(),
            is_realtime: core.flags.get() & REALTIME != 0,
            is_immutable: core.flags.get() & IMMUTABLE != 0,
            mode: mode & 0o7777,
            links: if core.version == 1 { u32::from(core.old_links.get()) } else { core.links.get() },
            uid: core.uid.get(),
            gid: core.gid.get(),
            atime: time(core.atime),
            mtime: time(core.mtime),
            ctime: time(core.ctime),
            btime: is_v3.then(|| time(U64::new(word(144)))),
            raw,
        })
    }

    pub(super) fn at(&self) -> At {
        At::new("xfs", "inode").index(self.ino).byte(self.byte)
    }

    /// The bytes of a fork.
    pub(super) fn area(&self, fork: &Fork) -> &[u8] {
        self.raw.get(fork.area.clone()).unwrap_or_default()
    }

    /// Fails for a file whose data lies on the realtime device.
    ///
    /// # Errors
    /// `Unsupported`.
    pub(super) fn refuse_realtime(&self) -> Result<()> {
        if self.is_realtime && self.kind == FileType::File && self.data.format != Format::Local {
            return Err(Error::unsupported("a file whose data lies on the realtime device").at(self.at()));
        }
        Ok(())
    }

    /// As System V wrote device numbers: 14 bits and 18.
    fn device(&self) -> (u32, u32) {
        let word = get_be32(self.area(&self.data), 0).unwrap_or(0);
        ((word >> 18) & 0x3fff, word & 0x3_ffff)
    }

    /// What `stat` says.
    pub(super) fn stat(&self, sb: &Superblock) -> Stat {
        let is_device = matches!(self.kind, FileType::Char | FileType::Block);
        Stat {
            ino: Ino(self.ino),
            kind: self.kind,
            size: self.size,
            blocks: self.blocks.saturating_mul(sb.block_size >> 9),
            mode: self.mode,
            nlink: self.links,
            uid: self.uid,
            gid: self.gid,
            rdev: if is_device { self.device() } else { (0, 0) },
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            blksize: u32::try_from(sb.block_size.max(PAGE)).unwrap_or(u32::MAX),
        }
    }
}

/// Does this kind of file keep what it has in such a data fork? (`xfs_dinode_verify_fork`)
const fn suits(kind: FileType, format: Format) -> bool {
    match kind {
        FileType::File => matches!(format, Format::Extents | Format::Btree),
        FileType::Dir | FileType::Symlink => !matches!(format, Format::Device),
        FileType::Char | FileType::Block | FileType::Fifo | FileType::Socket => {
            matches!(format, Format::Device)
        }
    }
}

const fn kind(mode: u16) -> Option<FileType> {
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

/// Seconds, signed, and nanoseconds, in 32 bits each.
fn old_time(stored: u64) -> Time {
    let [s0, s1, s2, s3, nanos @ ..] = stored.to_be_bytes();
    let secs = i64::from(i32::from_be_bytes([s0, s1, s2, s3]));
    Time { secs, nanos: u32::from_be_bytes(nanos).min(999_999_999) }
}

/// Nanoseconds since the earliest second of 32 bits.
fn big_time(stored: u64) -> Time {
    let (secs, nanos) = (stored / 1_000_000_000, stored % 1_000_000_000);
    let secs = i64::try_from(secs).unwrap_or(i64::MAX).saturating_sub(1 << 31);
    Time { secs, nanos: u32::try_from(nanos).unwrap_or(0) }
}

impl Xfs {
    /// Reads inode `ino`, which a directory named.
    ///
    /// # Errors
    /// `Corrupt` when there is no such inode, it makes no sense, or it is the file system's own.
    pub(super) fn inode(&self, ino: Ino) -> Result<Inode> {
        let Ino(ino) = ino;
        let bad = |why: &str| Error::corrupt(At::new("xfs", "inode").index(ino)).because(why);
        if self.sb.is_own_inode(ino) {
            return Err(bad("belongs to the file system itself; no directory may name it"));
        }
        let byte = self.sb.inode_byte(ino).ok_or_else(|| bad("its place is not in the file system"))?;
        let raw = self.meta.near(byte, self.sb.inode_size)?;
        debug_assert!(raw.len() == narrow(self.sb.inode_size), "a whole inode was asked for");
        Inode::parse(ino, byte, raw, &self.sb, self.is_replayed(byte, self.sb.inode_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `date -d @SECONDS` and `xfs_db -c 'inode N' -c 'p v3.crtime'` of files with these times.
    #[test]
    fn times_of_both_kinds() {
        assert_eq!(old_time(0x8000_0000_0000_0001), Time { secs: -(1 << 31), nanos: 1 });
        assert_eq!(old_time(0x7fff_ffff_3b9a_c9ff), Time { secs: (1 << 31) - 1, nanos: 999_999_999 });
        assert_eq!(big_time(0), Time { secs: -(1 << 31), nanos: 0 });
        assert_eq!(big_time((1 << 31) * 1_000_000_000 + 7), Time { secs: 0, nanos: 7 });
        // The last second that the kernel gives such a file (XFS_BIGTIME_TIME_MAX).
        assert_eq!(big_time(18_446_744_073_000_000_000).secs, 16_299_260_425);
    }
}
