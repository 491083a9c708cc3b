//! The superblock: 96 bytes at the start of the volume that say where the tables are and how everything is packed.
//!
//! Kernel documentation, `filesystems/squashfs.rst`; `fs/squashfs/squashfs_fs.h`.

use crate::error::{At, Error, Result};
use crate::fs::{codec, lzo};
use crate::ondisk::parse_struct;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Its length in bytes.
pub(super) const SIZE: u64 = 96;
/// The magic of both byte orders; only the first is of version 4.
pub(super) const MAGIC: &[u8] = b"hsqs";
pub(super) const MAGIC_BIG: &[u8] = b"sqsh";
/// Where the major version stands, 16 bits.
pub(super) const MAJOR_AT: usize = 28;
/// The place of a table that is not there.
pub(super) const NONE: u64 = u64::MAX;

/// Bits of the flags with the option of `mksquashfs` that sets them.
const FLAGS: &[(u16, &str)] = &[
    (0x001, "noI"),
    (0x002, "noD"),
    (0x008, "noF"),
    (0x010, "no-fragments"),
    (0x020, "always-use-fragments"),
    (0x040, "duplicates"),
    (0x080, "exports"),
    (0x100, "noX"),
    (0x200, "no-xattrs"),
    (0x400, "compressor-options"),
    (0x800, "noId"),
];

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Raw {
    magic: [u8; 4],       // 0x00 "hsqs"
    inodes: U32,          // 0x04
    mkfs_time: U32,       // 0x08 seconds since 1970
    block_size: U32,      // 0x0c bytes, 4 KiB to 1 MiB
    fragments: U32,       // 0x10 entries of the fragment table
    compression: U16,     // 0x14 see Compression
    block_log: U16,       // 0x16
    flags: U16,           // 0x18 see FLAGS
    ids: U16,             // 0x1a entries of the id table
    major: U16,           // 0x1c 4
    minor: U16,           // 0x1e 0
    root: U64,            // 0x20 inode reference
    bytes_used: U64,      // 0x28
    id_table: U64,        // 0x30 bytes of the volume, as all that follow
    xattr_table: U64,     // 0x38
    inode_table: U64,     // 0x40
    directory_table: U64, // 0x48
    fragment_table: U64,  // 0x50
    export_table: U64,    // 0x58
}
const _: () = assert!(size_of::<Raw>() == 96);

/// How blocks are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Lzma,
    Lzo,
    Xz,
    Lz4,
    Zstd,
}

impl Compression {
    fn of(id: u16) -> Option<Self> {
        [Self::Gzip, Self::Lzma, Self::Lzo, Self::Xz, Self::Lz4, Self::Zstd]
            .into_iter()
            .zip(1..)
            .find_map(|(kind, number)| (number == id).then_some(kind))
    }

    /// The name that `mksquashfs -comp` takes.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Lzma => "lzma",
            Self::Lzo => "lzo",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// A block of at most `most` bytes from its packed form. All of a compressor's options but its number show in the
    /// streams themselves.
    ///
    /// # Errors
    /// `Corrupt`, without a place.
    pub(super) fn unpack(self, packed: &[u8], most: usize) -> Result<Vec<u8>> {
        match self {
            Self::Gzip => codec::zlib(packed, most),
            Self::Lzma => codec::lzma(packed, most),
            Self::Lzo => lzo::decompress(packed, most),
            Self::Xz => codec::xz(packed, most),
            Self::Lz4 => codec::lz4(packed, most),
            Self::Zstd => codec::zstd(packed, most),
        }
    }
}

/// The superblock, decoded.
#[derive(Debug)]
pub(super) struct Superblock {
    pub(super) inodes: u32,
    pub(super) block_size: u32,
    pub(super) fragments: u32,
    pub(super) compression: Compression,
    pub(super) ids: u16,
    pub(super) root: u64,
    pub(super) bytes_used: u64,
    pub(super) id_table: u64,
    pub(super) xattr_table: u64,
    pub(super) inode_table: u64,
    pub(super) directory_table: u64,
    pub(super) fragment_table: u64,
    flags: u16,
}

impl Superblock {
    /// Decodes it.
    ///
    /// # Errors
    /// `Unsupported` for another version, byte order or compressor, `Corrupt` when it contradicts itself.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let at = || At::new("squashfs", "superblock").byte(0);
        let raw: Raw = parse_struct(bytes, at())?;
        if raw.magic == MAGIC_BIG {
            let (major, minor) = (raw.major.get().swap_bytes(), raw.minor.get().swap_bytes());
            return Err(Error::unsupported(format!("big-endian squashfs {major}.{minor}")).at(at()));
        }
        let (major, minor) = (raw.major.get(), raw.minor.get());
        if major < 4 {
            return Err(Error::unsupported(format!("squashfs {major}.{minor}")).at(at()));
        }
        let bad = |why: String| Err(Error::corrupt(at()).because(why));
        if raw.magic != MAGIC || (major, minor) != (4, 0) {
            return bad(format!("version {major}.{minor}, 4.0 is the last one"));
        }
        let (size, log) = (raw.block_size.get(), raw.block_log.get());
        if !(12..=20).contains(&log) || 1_u32.checked_shl(u32::from(log)) != Some(size) {
            return bad(format!("blocks of {size} bytes, two to the power of {log}"));
        }
        let id = raw.compression.get();
        let Some(compression) = Compression::of(id) else {
            return Err(Error::unsupported(format!("squashfs compression number {id}")).at(at()));
        };
        let (inodes, directories) = (raw.inode_table.get(), raw.directory_table.get());
        if inodes < SIZE || directories < inodes || directories > raw.bytes_used.get() {
            return bad(format!("its inodes at {inodes:#x} and its directories at {directories:#x}"));
        }
        Ok(Self {
            inodes: raw.inodes.get(),
            block_size: size,
            fragments: raw.fragments.get(),
            compression,
            ids: raw.ids.get(),
            root: raw.root.get(),
            bytes_used: raw.bytes_used.get(),
            id_table: raw.id_table.get(),
            xattr_table: raw.xattr_table.get(),
            inode_table: inodes,
            directory_table: directories,
            fragment_table: raw.fragment_table.get(),
            flags: raw.flags.get(),
        })
    }

    /// The compressor and the options that it was made with.
    pub(super) fn features(&self) -> Vec<String> {
        let set = FLAGS.iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, name)| *name);
        [self.compression.name()].into_iter().chain(set).map(str::to_owned).collect()
    }
}
