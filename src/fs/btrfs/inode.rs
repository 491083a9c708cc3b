//! The inode item: 160 bytes with owner, mode, times and size; and the items beside it that say which names it has.
//!
//! btrfs on-disk format, "INODE_ITEM", "INODE_REF", "INODE_EXTREF".

use super::key::{Key, kind};
use super::pool::Pool;
use super::tree::Tree;
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::{FileType, Ino, Stat, Time};
use crate::ondisk::{get_le16, get_le64, parse_struct};
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `flags`: nobody may change it.
const IMMUTABLE: u64 = 1 << 6;
/// `flags`: the file's data has no checksums.
const NO_DATA_SUM: u64 = 1;

/// A time, as stored.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug)]
#[repr(C)]
pub(super) struct RawTime {
    secs: I64,  // 0x0 since 1970
    nanos: U32, // 0x8
}

impl RawTime {
    fn get(&self) -> Time {
        Time { secs: self.secs.get(), nanos: self.nanos.get().min(999_999_999) }
    }
}

/// As stored.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug)]
#[repr(C)]
pub(super) struct RawInode {
    pub(super) generation: U64, // 0x00 the commit that made it; 0 in a log: only that it exists
    transid: U64,               // 0x08 the commit that last changed it
    pub(super) size: U64,       // 0x10 bytes
    pub(super) nbytes: U64,     // 0x18 bytes that its extents take
    block_group: U64,           // 0x20
    pub(super) nlink: U32,      // 0x28
    uid: U32,                   // 0x2c
    gid: U32,                   // 0x30
    pub(super) mode: U32,       // 0x34
    rdev: U64,                  // 0x38 major << 20 | minor
    flags: U64,                 // 0x40
    sequence: U64,              // 0x48
    reserved: [U64; 4],         // 0x50
    atime: RawTime,             // 0x70
    ctime: RawTime,             // 0x7c
    mtime: RawTime,             // 0x88
    otime: RawTime,             // 0x94 when it was made
}
const _: () = assert!(size_of::<RawInode>() == 160);

/// An inode, decoded.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) number: u64,
    pub(super) kind: FileType,
    pub(super) size: u64,
    raw: RawInode,
}

/// The type that a mode says.
pub(super) const fn kind_of(mode: u32) -> Option<FileType> {
    Some(match mode & 0o170_000 {
        0o010_000 => FileType::Fifo,
        0o020_000 => FileType::Char,
        0o040_000 => FileType::Dir,
        0o060_000 => FileType::Block,
        0o100_000 => FileType::File,
        0o120_000 => FileType::Symlink,
        0o140_000 => FileType::Socket,
        _ => return None,
    })
}

/// Where inode `number` of tree `tree` is damaged.
pub(super) const fn at(number: u64) -> At {
    At::new("btrfs", "inode").index(number)
}

impl Inode {
    fn parse(number: u64, data: &[u8]) -> Result<Self> {
        let raw: RawInode = parse_struct(data, at(number))?;
        let kind = kind_of(raw.mode.get()).ok_or_else(|| {
            Error::corrupt(at(number)).because(format!("has no type (mode {:o})", raw.mode.get()))
        })?;
        Ok(Self { number, kind, size: raw.size.get(), raw })
    }

    /// Has its data no checksums?
    pub(super) const fn is_unsummed(&self) -> bool {
        self.raw.flags.get() & NO_DATA_SUM != 0
    }

    /// May nobody change it?
    pub(super) const fn is_immutable(&self) -> bool {
        self.raw.flags.get() & IMMUTABLE != 0
    }

    /// What the kernel says of it, in a file system with blocks of `sector` bytes.
    pub(super) fn stat(&self, sector: u32) -> Stat {
        let raw = &self.raw;
        let taken = raw.nbytes.get().checked_next_multiple_of(sector.into()).unwrap_or(raw.nbytes.get());
        let rdev = raw.rdev.get();
        let minor = u32::try_from(rdev & 0xf_ffff).unwrap_or(0);
        let is_device = matches!(self.kind, FileType::Char | FileType::Block);
        let rdev = if is_device { (u32::try_from(rdev >> 20 & 0xfff).unwrap_or(0), minor) } else { (0, 0) };
        Stat {
            ino: Ino(self.number),
            kind: self.kind,
            size: self.size,
            blocks: taken.div_euclid(512),
            mode: u16::try_from(raw.mode.get() & 0o7777).unwrap_or(0),
            nlink: raw.nlink.get(),
            uid: raw.uid.get(),
            gid: raw.gid.get(),
            rdev,
            atime: raw.atime.get(),
            mtime: raw.mtime.get(),
            ctime: raw.ctime.get(),
            btime: Some(raw.otime.get()),
            blksize: sector,
        }
    }
}

impl Pool {
    /// An inode of a tree.
    ///
    /// # Errors
    /// `Corrupt` when there is none or it makes no sense.
    pub(super) fn inode(&self, tree: &Tree, number: u64) -> Result<Inode> {
        let item = self.item(tree, Key::new(number, kind::INODE, 0))?;
        let item = item.ok_or_else(|| {
            Error::corrupt(at(number))
                .because(format!("is not in tree {}, where something names it", tree.id))
        })?;
        Inode::parse(number, &item.data)
    }

    /// An inode that must be of this type.
    ///
    /// # Errors
    /// `Denied` when it is not.
    pub(super) fn inode_of(&self, tree: &Tree, number: u64, kind: FileType) -> Result<Inode> {
        let inode = self.inode(tree, number)?;
        if inode.kind != kind {
            let what = format!("inode {number} is a {}, not a {}", inode.kind.name(), kind.name());
            return Err(Error::new(ErrorKind::Denied, what));
        }
        Ok(inode)
    }
}

/// One name of an inode, in a directory that the item's key or the entry itself says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ref<'a> {
    /// The directory, where the entry says it: in an INODE_EXTREF.
    pub(super) dir: Option<u64>,
    /// The name's place in the directory's order.
    pub(super) index: u64,
    pub(super) name: &'a [u8],
}

/// The names in an INODE_REF, or with `has_dir` in an INODE_EXTREF.
pub(super) fn names(mut rest: &[u8], has_dir: bool) -> impl Iterator<Item = Result<Ref<'_>, &'static str>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let skip = if has_dir { 8 } else { 0 };
        let entry = (|| {
            let dir = if has_dir { Some(get_le64(rest, 0)?) } else { None };
            let index = get_le64(rest, skip)?;
            let len = usize::from(get_le16(rest, skip.saturating_add(8))?);
            let (name, after) = rest.get(skip.saturating_add(10)..)?.split_at_checked(len)?;
            rest = after;
            Some(Ref { dir, index, name })
        })();
        if entry.is_none() {
            rest = &[];
        }
        Some(entry.ok_or("a torn reference to its name"))
    })
}

/// The names of such an item that are to stay, as stored.
pub(super) fn keep_refs(data: &[u8], kind: u8, stays: impl Fn(&Ref<'_>) -> bool) -> Vec<u8> {
    let mut left = Vec::new();
    for found in names(data, kind == kind::INODE_EXTREF).flatten().filter(|found| stays(found)) {
        left.extend(found.dir.map_or_else(Vec::new, |dir| dir.to_le_bytes().to_vec()));
        left.extend(found.index.to_le_bytes());
        left.extend(u16::try_from(found.name.len()).unwrap_or(u16::MAX).to_le_bytes());
        left.extend(found.name);
    }
    left
}
