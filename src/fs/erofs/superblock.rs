//! The superblock: 128 bytes or more at byte 1024 of the volume, and the table of further devices.
//!
//! Kernel documentation, `filesystems/erofs.rst`; `fs/erofs/erofs_fs.h`.

use crate::block::BlockSource;
use crate::budget::Budget;
use crate::checksum::crc32c;
use crate::error::{At, Error, Result};
use crate::num::wide;
use crate::ondisk::{parse_struct, read_table};
use crate::text::escape;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where it starts, in bytes.
pub(super) const OFFSET: u64 = 1024;
/// Its first four bytes.
pub(super) const MAGIC: &[u8] = b"\xe2\xe1\xf5\xe0";
/// Bytes of an inode's slot; inodes are numbered by them.
pub(super) const SLOT: u64 = 32;

/// Bits of `feature_compat`.
const SB_CHECKSUM: u32 = 1;
const PLAIN_XATTR_PREFIXES: u32 = 0x10;
/// Bits of `feature_incompat`. Some bits have two meanings that came with the same kernel.
mod incompat {
    pub(super) const ZERO_PADDING: u32 = 1;
    pub(super) const DEVICE_TABLE: u32 = 8;
    pub(super) const FRAGMENTS: u32 = 0x20;
    pub(super) const BITS_48: u32 = 0x80;
    pub(super) const METABOX: u32 = 0x100;
}

/// Names of the features as `dump.erofs` spells them.
const COMPAT: &[(u32, &str)] = &[
    (SB_CHECKSUM, "sb_csum"),
    (2, "mtime"),
    (4, "xattr_filter"),
    (8, "shared_ea_in_metabox"),
    (PLAIN_XATTR_PREFIXES, "plain_xattr_pfx"),
    (0x20, "ishare_xattrs"),
];
const INCOMPAT: &[(u32, &str)] = &[
    (incompat::ZERO_PADDING, "lz4_0padding"),
    (2, "compr_cfgs"),
    (2, "big_pcluster"),
    (4, "chunked_file"),
    (incompat::DEVICE_TABLE, "device_table"),
    (0x10, "ztailpacking"),
    (incompat::FRAGMENTS, "fragments"),
    (incompat::FRAGMENTS, "dedupe"),
    (0x40, "xattr_prefixes"),
    (incompat::BITS_48, "48bit"),
    (incompat::METABOX, "metabox"),
];

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Raw {
    magic: U32,             // 0x00 0xe0f5e1e2
    checksum: U32,          // 0x04 crc32c, not inverted at the end, to the end of the block
    compat: U32,            // 0x08
    block_log: u8,          // 0x0c
    slots: u8,              // 0x0d further 16-byte slots of this structure
    root_or_blocks_hi: U16, // 0x0e root inode, or upper bits of blocks with 48BIT
    inodes: U64,            // 0x10
    epoch: U64,             // 0x18 seconds since 1970 that short inodes count from
    fixed_nanos: U32,       // 0x20 nanoseconds of all short inodes
    blocks: U32,            // 0x24
    meta_block: U32,        // 0x28 block that inodes are numbered from
    xattr_block: U32,       // 0x2c block that shared attributes are numbered from
    uuid: [u8; 16],         // 0x30
    label: [u8; 16],        // 0x40
    incompat: U32,          // 0x50
    algorithms: U16,        // 0x54 bits of compression algorithms, or the distance of LZ4
    devices: U16,           // 0x56 further devices
    device_table: U16,      // 0x58 in units of 128 bytes
    dir_block_log: u8,      // 0x5a beyond block_log
    prefixes: u8,           // 0x5b long prefixes of attribute names
    prefix_start: U32,      // 0x5c in units of 4 bytes
    packed_nid: U64,        // 0x60 inode that holds fragments
    filter: u8,             // 0x68
    share_prefix: u8,       // 0x69
    reserved: [u8; 2],      // 0x6a
    build_time: U32,        // 0x6c seconds after the epoch
    root: U64,              // 0x70 root inode with 48BIT
    reserved_2: U64,        // 0x78
}
const _: () = assert!(size_of::<Raw>() == 128);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct RawDevice {
    tag: [u8; 64],      // 0x00
    blocks: U32,        // 0x40
    start: U32,         // 0x44 block at which the first device's numbers go on with this device
    blocks_hi: U16,     // 0x48
    start_hi: U16,      // 0x4a
    reserved: [u8; 52], // 0x4c
}
const _: () = assert!(size_of::<RawDevice>() == 128);

/// A further device.
#[derive(Debug)]
struct Device {
    name: String,
    start: u64,
    blocks: u64,
}

/// The superblock, decoded.
#[derive(Debug)]
pub(super) struct Superblock {
    pub(super) block_log: u32,
    pub(super) root: u64,
    pub(super) inodes: u64,
    pub(super) blocks: u64,
    pub(super) epoch: u64,
    pub(super) fixed_nanos: u32,
    pub(super) xattr_block: u64,
    pub(super) prefixes: u8,
    pub(super) prefix_start: u64,
    pub(super) uuid: [u8; 16],
    pub(super) label: [u8; 16],
    meta_block: u64,
    packed_nid: u64,
    compat: u32,
    incompat: u32,
    devices: Vec<Device>,
}

impl Superblock {
    /// Reads it, and the table of devices.
    ///
    /// # Errors
    /// `Corrupt` when it contradicts itself or its checksum; `Unsupported` with the name of a feature.
    pub(super) fn load(volume: &dyn BlockSource, budget: &Budget) -> Result<Self> {
        let at = || At::new("erofs", "superblock").byte(OFFSET);
        let bad = |why: String| Err(Error::corrupt(at()).because(why));
        let bytes = read_table(volume, OFFSET, 128, 128, at(), budget)?;
        let raw: Raw = parse_struct(&bytes, at())?;
        let block_log = u32::from(raw.block_log);
        if !(9..=16).contains(&block_log) {
            return bad(format!("blocks of two to the power of {block_log} bytes"));
        }
        if raw.compat.get() & SB_CHECKSUM != 0 {
            let block = 1_u64 << block_log;
            let len = if block > OFFSET { block.saturating_sub(OFFSET) } else { block };
            let all = read_table(volume, OFFSET, len, 64 << 10, at(), budget)?;
            let sum = !crc32c(&[all.get(..4).unwrap_or_default(), &[0; 4], all.get(8..).unwrap_or_default()]);
            if sum != raw.checksum.get() {
                return bad(format!("checksum {sum:#010x}, it states {:#010x}", raw.checksum.get()));
            }
        }
        let incompat = raw.incompat.get();
        let known = INCOMPAT.iter().fold(0, |bits, (bit, _)| bits | bit) & !incompat::METABOX;
        if incompat & !known != 0 {
            let name = INCOMPAT.iter().find(|(bit, _)| incompat & !known & bit != 0);
            let name = name
                .map_or_else(|| format!("number {:#x}", incompat & !known), |(_, name)| (*name).to_owned());
            return Err(Error::unsupported(format!("the erofs feature {name}")).at(at()));
        }
        if raw.dir_block_log != 0 {
            return Err(Error::unsupported("an erofs with directory blocks of another size").at(at()));
        }
        let wide_numbers = incompat & incompat::BITS_48 != 0;
        let low_root = raw.root_or_blocks_hi.get();
        let (root, blocks_hi) = if wide_numbers && raw.root.get() != 0 {
            (raw.root.get(), u64::from(low_root) << 32)
        } else {
            (u64::from(low_root), 0)
        };
        Ok(Self {
            block_log,
            root,
            inodes: raw.inodes.get(),
            blocks: u64::from(raw.blocks.get()) | blocks_hi,
            epoch: raw.epoch.get(),
            fixed_nanos: raw.fixed_nanos.get(),
            xattr_block: u64::from(raw.xattr_block.get()),
            prefixes: raw.prefixes,
            prefix_start: u64::from(raw.prefix_start.get()).saturating_mul(4),
            uuid: raw.uuid,
            label: raw.label,
            meta_block: u64::from(raw.meta_block.get()),
            packed_nid: raw.packed_nid.get(),
            compat: raw.compat.get(),
            incompat,
            devices: devices(volume, &raw, wide_numbers, budget)?,
        })
    }

    pub(super) const fn block_size(&self) -> u64 {
        1 << self.block_log
    }

    /// The volume's byte where a block starts.
    pub(super) const fn byte_of(&self, block: u64) -> u64 {
        block.saturating_mul(self.block_size())
    }

    /// The volume's byte where inode `nid` starts.
    pub(super) const fn inode_byte(&self, nid: u64) -> u64 {
        self.byte_of(self.meta_block).saturating_add(nid.saturating_mul(SLOT))
    }

    /// The inode that holds fragments, if there is one.
    pub(super) fn packed_nid(&self) -> Option<u64> {
        Some(self.packed_nid).filter(|nid| *nid != 0 && self.incompat & incompat::FRAGMENTS != 0)
    }

    /// Do long prefixes of names lie on the volume itself, and not in the inode that holds fragments?
    pub(super) fn has_plain_prefixes(&self) -> bool {
        self.compat & PLAIN_XATTR_PREFIXES != 0 || self.packed_nid().is_none()
    }

    /// Are packed blocks filled up with zeros in front?
    pub(super) const fn has_zero_padding(&self) -> bool {
        self.incompat & incompat::ZERO_PADDING != 0
    }

    /// Fails if a place is on a device that is not there: by its number, or by a block behind this one's.
    ///
    /// # Errors
    /// `NotFound`, with the device's name.
    pub(super) fn on_this_device(&self, device: u64, byte: u64) -> Result<()> {
        let block = byte >> self.block_log;
        let mask = wide(self.devices.len()).saturating_add(1).next_power_of_two().saturating_sub(1);
        let number = device & mask;
        let behind = |device: &Device| {
            device.start != 0 && block.checked_sub(device.start).is_some_and(|n| n < device.blocks)
        };
        let missing = match number {
            0 => self.devices.iter().zip(1_u64..).find(|(device, _)| behind(device)),
            _ => {
                self.devices.get(crate::num::narrow(number.saturating_sub(1))).map(|device| (device, number))
            }
        };
        match missing {
            Some((device, number)) => {
                Err(Error::unsupported(format!("erofs data on device {number} '{}'", device.name)))
            }
            None if number != 0 => Err(Error::corrupt(At::new("erofs", "device table"))
                .because(format!("data on device {number}, there are {}", self.devices.len()))),
            None => Ok(()),
        }
    }

    /// Names of all features.
    pub(super) fn features(&self) -> Vec<String> {
        let of = |names: &'static [(u32, &'static str)], bits: u32| {
            names.iter().filter(move |(bit, _)| bits & bit != 0).map(|(_, name)| (*name).to_owned())
        };
        of(COMPAT, self.compat).chain(of(INCOMPAT, self.incompat)).collect()
    }

    /// How many devices are missing.
    pub(super) fn device_count(&self) -> usize {
        self.devices.len()
    }
}

fn devices(volume: &dyn BlockSource, raw: &Raw, wide_numbers: bool, budget: &Budget) -> Result<Vec<Device>> {
    if raw.incompat.get() & incompat::DEVICE_TABLE == 0 {
        return Ok(Vec::new());
    }
    let size = wide(size_of::<RawDevice>());
    let at = At::new("erofs", "device table");
    let start = u64::from(raw.device_table.get()).saturating_mul(size);
    let len = u64::from(raw.devices.get()).saturating_mul(size);
    // Sixteen bits of count: 8 MiB.
    let bytes = read_table(volume, start, len, 8 << 20, at.clone(), budget)?;
    let mut devices = Vec::new();
    for bytes in bytes.chunks_exact(size_of::<RawDevice>()) {
        let device: RawDevice = parse_struct(bytes, at.clone())?;
        let high = |high: U16| if wide_numbers { u64::from(high.get()) << 32 } else { 0 };
        let end = device.tag.iter().position(|byte| *byte == 0).unwrap_or(device.tag.len());
        devices.push(Device {
            name: escape(device.tag.get(..end).unwrap_or_default()).to_string(),
            start: u64::from(device.start.get()) | high(device.start_hi),
            blocks: u64::from(device.blocks.get()) | high(device.blocks_hi),
        });
    }
    budget.release(bytes.len());
    Ok(devices)
}
