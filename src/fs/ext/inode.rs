//! The inode: 128 bytes of old, more where the superblock says so. Owner, mode, times, size, and sixty bytes that hold
//! a map of the file's blocks, a short symbolic link, a device number or a small file itself.
//!
//! Kernel documentation, `filesystems/ext4/inodes.rst`.

use super::Ext;
use super::features::Set;
use super::superblock::Superblock;
use crate::error::{At, Error, Result};
use crate::fs::meta::Bytes;
use crate::fs::{FileType, Ino, Stat, Time};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, parse_struct};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bits of `i_flags`.
pub(super) mod flag {
    pub(crate) const IMMUTABLE: u32 = 0x10;
    pub(crate) const ENCRYPT: u32 = 0x800;
    pub(crate) const INDEX: u32 = 0x1000;
    pub(crate) const HUGE_FILE: u32 = 0x4_0000;
    pub(crate) const EXTENTS: u32 = 0x8_0000;
    pub(crate) const EA_INODE: u32 = 0x20_0000;
    pub(crate) const INLINE_DATA: u32 = 0x1000_0000;
    pub(crate) const CASEFOLD: u32 = 0x4000_0000;
}

/// Bytes of `i_block`.
pub(super) const BLOCK_BYTES: usize = 60;
/// Where `i_block` starts in an inode, in bytes.
pub(super) const BLOCK_AT: usize = 0x28;
/// Where the part behind the first 128 bytes starts; its first field is its own length.
const EXTRA_AT: usize = 128;
/// The length of that part as this reader knows it, and as the kernel takes it where the inode says 0.
const EXTRA_KNOWN: u64 = 32;

/// The first 128 bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Raw {
    mode: U16,                // 0x00
    uid_lo: U16,              // 0x02
    size_lo: U32,             // 0x04 bytes
    atime: U32,               // 0x08 seconds since 1970, signed
    ctime: U32,               // 0x0c
    mtime: U32,               // 0x10
    dtime: U32,               // 0x14
    gid_lo: U16,              // 0x18
    links: U16,               // 0x1a
    blocks_lo: U32,           // 0x1c 512-byte units, or blocks with HUGE_FILE
    flags: U32,               // 0x20
    version: U32,             // 0x24
    block: [u8; BLOCK_BYTES], // 0x28
    generation: U32,          // 0x64
    acl_lo: U32,              // 0x68 block of extended attributes
    size_hi: U32,             // 0x6c
    fragment: U32,            // 0x70
    blocks_hi: U16,           // 0x74
    acl_hi: U16,              // 0x76
    uid_hi: U16,              // 0x78
    gid_hi: U16,              // 0x7a
    checksum_lo: U16,         // 0x7c
    unused: U16,              // 0x7e
}
const _: () = assert!(size_of::<Raw>() == 128);

/// An inode, decoded.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) ino: u64,
    /// The volume's byte where it lies.
    pub(super) byte: u64,
    pub(super) kind: FileType,
    pub(super) size: u64,
    pub(super) flags: u32,
    /// The block of extended attributes, 0 for none.
    pub(super) acl_block: u64,
    /// Where the attributes inside the inode start, if it may have any.
    pub(super) xattrs_at: Option<usize>,
    /// All of it, as stored.
    pub(super) raw: Bytes,
    mode: u16,
    links: u32,
    uid: u32,
    gid: u32,
    sectors: u64,
    atime: Time,
    mtime: Time,
    ctime: Time,
    btime: Option<Time>,
}

impl Inode {
    /// Decodes the inode in `raw`.
    ///
    /// # Errors
    /// `Corrupt` for an unused inode, an unknown type, a size that no map of blocks reaches, an extra part longer than the inode.
    pub(super) fn parse(ino: u64, byte: u64, raw: Bytes, sb: &Superblock) -> Result<Self> {
        let at = At::new("ext", "inode").index(ino).byte(byte);
        let bad = |why: String| Error::corrupt(at.clone()).because(why);
        let old: Raw = parse_struct(&raw, at.clone())?;
        let mode = old.mode.get();
        if mode == 0 || old.links.get() == 0 {
            return Err(bad("is not in use".to_owned()));
        }
        let kind = kind(mode).ok_or_else(|| bad(format!("a file of unknown type {:#o}", mode >> 12)))?;
        let flags = old.flags.get();
        let has_high_size =
            kind == FileType::File || (kind == FileType::Dir && sb.features.has(Set::LARGE_DIR));
        let size_hi = if has_high_size { u64::from(old.size_hi.get()) << 32 } else { 0 };
        let size = u64::from(old.size_lo.get()) | size_hi;
        // Blocks of a file are numbered in 32 bits, by either kind of map.
        if size > sb.block_size.saturating_mul(1 << 32) {
            return Err(bad(format!("a size of {size} bytes, more than a file can have")));
        }
        let stored_extra = get_le16(&raw, EXTRA_AT).map(u64::from);
        let room = sb.inode_size.saturating_sub(wide(EXTRA_AT));
        let (extra, xattrs_at) = match stored_extra {
            None => (0, None),
            Some(0) => (EXTRA_KNOWN, None),
            Some(extra) if extra > room || !extra.is_multiple_of(4) => {
                return Err(bad(format!("an extra part of {extra} bytes where {room} are left")));
            }
            Some(extra) => (extra, Some(EXTRA_AT.saturating_add(narrow(extra)))),
        };
        let known = EXTRA_AT.saturating_add(narrow(extra));
        let field = |at: usize| get_le32(&raw, at).filter(|_| at.saturating_add(4) <= known);
        let acl_hi = if sb.features.has(Set::BITS_64) { u64::from(old.acl_hi.get()) << 32 } else { 0 };
        Ok(Self {
            ino,
            byte,
            kind,
            size,
            flags,
            acl_block: u64::from(old.acl_lo.get()) | acl_hi,
            xattrs_at,
            mode: mode & 0o7777,
            links: u32::from(old.links.get()),
            uid: u32::from(old.uid_lo.get()) | u32::from(old.uid_hi.get()) << 16,
            gid: u32::from(old.gid_lo.get()) | u32::from(old.gid_hi.get()) << 16,
            sectors: sectors(&old, flags, sb),
            atime: time(old.atime, field(0x8c)),
            mtime: time(old.mtime, field(0x88)),
            ctime: time(old.ctime, field(0x84)),
            btime: field(0x90).map(|seconds| time(U32::new(seconds), field(0x94))),
            raw,
        })
    }

    pub(super) const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn at(&self) -> At {
        At::new("ext", "inode").index(self.ino).byte(self.byte)
    }

    /// The sixty bytes.
    pub(super) fn block(&self) -> &[u8] {
        self.raw.get(BLOCK_AT..BLOCK_AT.saturating_add(BLOCK_BYTES)).unwrap_or_default()
    }

    /// Is the target of this symbolic link in the sixty bytes? By the kernel's rule (`ext4_inode_is_fast_symlink`).
    pub(super) fn is_fast_symlink(&self, sb: &Superblock) -> bool {
        if self.kind != FileType::Symlink || self.has(flag::INLINE_DATA) {
            return false;
        }
        if sb.features.has(Set::EA_INODE) {
            return self.size > 0 && self.size < wide(BLOCK_BYTES);
        }
        let attributes = if self.acl_block == 0 { 0 } else { sb.cluster_sectors() };
        self.sectors == attributes
    }

    fn device(&self) -> (u32, u32) {
        let word = |at| get_le32(self.block(), at).unwrap_or(0);
        if word(0) != 0 {
            let old = word(0);
            return ((old >> 8) & 0xff, old & 0xff);
        }
        let new = word(4);
        ((new & 0xf_ff00) >> 8, (new & 0xff) | ((new >> 12) & 0xf_ff00))
    }

    /// What `stat` says.
    pub(super) fn stat(&self, sb: &Superblock) -> Stat {
        let is_device = matches!(self.kind, FileType::Char | FileType::Block);
        // Data in the inode takes no block, but tools such as tar take 0 blocks for a hole (ext4_file_getattr).
        let inside = if self.has(flag::INLINE_DATA) && self.kind == FileType::File {
            self.size.div_ceil(512)
        } else {
            0
        };
        Stat {
            ino: Ino(self.ino),
            kind: self.kind,
            size: self.size,
            blocks: self.sectors.saturating_add(inside),
            mode: self.mode,
            nlink: self.links,
            uid: self.uid,
            gid: self.gid,
            rdev: if is_device { self.device() } else { (0, 0) },
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            blksize: u32::try_from(sb.block_size).unwrap_or(u32::MAX),
        }
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

/// Allocated 512-byte units.
fn sectors(raw: &Raw, flags: u32, sb: &Superblock) -> u64 {
    let low = u64::from(raw.blocks_lo.get());
    if !sb.features.has(Set::HUGE_FILE) {
        return low;
    }
    let all = low | u64::from(raw.blocks_hi.get()) << 32;
    if flags & flag::HUGE_FILE == 0 { all } else { all.saturating_mul(sb.block_size >> 9) }
}

/// Seconds are signed; the extra word holds two more bits of them and thirty of nanoseconds ("Inode Timestamps").
fn time(seconds: U32, extra: Option<u32>) -> Time {
    let seconds = i64::from(seconds.get().cast_signed());
    let extra = extra.unwrap_or(0);
    let epoch = i64::from(extra & 3) << 32;
    Time { secs: seconds.saturating_add(epoch), nanos: (extra >> 2).min(999_999_999) }
}

impl Ext {
    /// Reads inode `ino`.
    ///
    /// # Errors
    /// `Corrupt` when there is no such inode or it makes no sense.
    pub(super) fn inode(&self, ino: u64) -> Result<Inode> {
        let byte = self.inode_offset(ino)?;
        if let Some(raw) = self.patches.raw(ino) {
            return Inode::parse(ino, byte, raw.clone(), &self.sb);
        }
        let raw = self.meta.near(byte, self.sb.inode_size)?;
        self.check_inode(ino, byte, &raw)?;
        Inode::parse(ino, byte, raw, &self.sb)
    }

    /// Reads inode `ino`, which a directory named.
    ///
    /// # Errors
    /// `Corrupt` also for an inode that is reserved for the file system itself, or that holds an attribute's value.
    pub(super) fn named_inode(&self, ino: Ino) -> Result<Inode> {
        if !self.sb.may_be_named(ino.0) {
            return Err(
                Error::corrupt(At::new("ext", "inode").index(ino.0)).because("no directory may name it")
            );
        }
        let inode = self.inode(ino.0)?;
        // Values are files; on a directory the flag means nothing, and e2fsck takes it away.
        if inode.has(flag::EA_INODE) && inode.kind != FileType::Dir && self.sb.features.has(Set::EA_INODE) {
            return Err(
                Error::corrupt(inode.at()).because("holds an attribute's value; no directory may name it")
            );
        }
        Ok(inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of "Inode Timestamps" in the kernel's documentation.
    #[test]
    fn times_before_1970_and_after_2038() {
        let at = |seconds: u32, extra: u32| time(U32::new(seconds), Some(extra)).secs;
        assert_eq!(at(0x8000_0000, 0), -0x8000_0000);
        assert_eq!(at(0x7fff_ffff, 0), 0x7fff_ffff);
        assert_eq!(at(0x8000_0000, 1), 0x8000_0000);
        assert_eq!(at(0x7fff_ffff, 3), 0x3_7fff_ffff);
    }

    #[test]
    fn nanoseconds_stay_below_a_second() {
        assert_eq!(time(U32::new(0), Some(999_999_999 << 2)).nanos, 999_999_999);
        assert_eq!(time(U32::new(0), Some(u32::MAX)).nanos, 999_999_999);
    }
}
