//! The superblock: 4096 bytes at 64 KiB of each device, with copies at 64 MiB and 256 GiB. It says which file system the
//! device belongs to, which of its devices it is, and where the tree of trees and the tree of chunks begin.
//!
//! btrfs on-disk format, "Superblock"; field names follow the kernel's `struct btrfs_super_block`.

use super::features::Features;
use super::sum::Sum;
use crate::block::BlockSource;
use crate::error::{At, Error, Result};
use crate::fs::SetMember;
use crate::num::wide;
use crate::ondisk::{parse_struct, uuid};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the copies lie, in bytes of the device.
pub(super) const PLACES: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
/// Bytes of it.
pub(super) const SIZE: usize = 4096;
/// Where its magic number lies in it, in bytes.
pub(super) const MAGIC_AT: usize = 64;
/// Its magic number.
pub(super) const MAGIC: &[u8; 8] = b"_BHRfS_M";
/// The most levels that a tree has.
pub(super) const MAX_LEVEL: u8 = 8;
/// Bytes of a block, and of a node, at least and at most.
const LEAST_BLOCK: u32 = 4096;
const MOST_BLOCK: u32 = 64 << 10;

/// `flags`: the kernel found errors.
const FLAG_ERROR: u64 = 1 << 2;
/// `flags`: `btrfs-image` made this, without the files' content.
const FLAG_METADUMP: u64 = 1 << 33 | 1 << 34;
/// `flags`: `btrfstune` is giving the file system another identity, and did not end.
const FLAG_CHANGING_FSID: u64 = 1 << 35 | 1 << 36;

/// What the superblock says of the device that it stands on: `struct btrfs_dev_item`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug)]
#[repr(C)]
pub(super) struct DeviceItem {
    pub(super) id: U64,          // 0x00 number in the file system, from 1
    pub(super) total_bytes: U64, // 0x08
    pub(super) bytes_used: U64,  // 0x10
    io_align: U32,               // 0x18 bytes
    io_width: U32,               // 0x1c bytes
    sector_size: U32,            // 0x20 bytes
    kind: U64,                   // 0x24
    generation: U64,             // 0x2c
    start_offset: U64,           // 0x34 bytes
    group: U32,                  // 0x3c
    seek_speed: u8,              // 0x40
    bandwidth: u8,               // 0x41
    pub(super) uuid: [u8; 16],   // 0x42 of the device
    pub(super) fsid: [u8; 16],   // 0x52 of the file system it was made for
}
const _: () = assert!(size_of::<DeviceItem>() == 98);

/// As stored.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug)]
#[repr(C)]
struct Raw {
    csum: [u8; 32],             // 0x000 of everything behind it
    fsid: [u8; 16],             // 0x020 the UUID that people see
    bytenr: U64,                // 0x030 where this copy lies, bytes
    flags: U64,                 // 0x038 bits: FLAG_ERROR and others
    magic: [u8; 8],             // 0x040 "_BHRfS_M"
    generation: U64,            // 0x048 number of the last commit
    root: U64,                  // 0x050 logical byte of the tree of trees
    chunk_root: U64,            // 0x058 logical byte of the tree of chunks
    log_root: U64,              // 0x060 logical byte of the tree of log trees, or 0
    log_root_transid: U64,      // 0x068 not used
    total_bytes: U64,           // 0x070
    bytes_used: U64,            // 0x078
    root_dir_objectid: U64,     // 0x080 directory in the tree of trees: 6
    num_devices: U64,           // 0x088
    sectorsize: U32,            // 0x090 bytes in a block of data
    nodesize: U32,              // 0x094 bytes in a node of a tree
    leafsize: U32,              // 0x098 not used
    stripesize: U32,            // 0x09c bytes
    sys_chunk_array_size: U32,  // 0x0a0 bytes used of the array below
    chunk_root_generation: U64, // 0x0a4
    compat_flags: U64,          // 0x0ac feature bits
    compat_ro_flags: U64,       // 0x0b4 feature bits
    incompat_flags: U64,        // 0x0bc feature bits
    csum_type: U16,             // 0x0c4
    root_level: u8,             // 0x0c6
    chunk_root_level: u8,       // 0x0c7
    log_root_level: u8,         // 0x0c8
    device: DeviceItem,         // 0x0c9 of this device
    label: [u8; 256],           // 0x12b NUL-terminated
    cache_generation: U64,      // 0x22b
    uuid_tree_generation: U64,  // 0x233
    metadata_uuid: [u8; 16],    // 0x23b what nodes carry, with METADATA_UUID
    reserved: [u8; 224],        // 0x24b
    chunks: [u8; 2048],         // 0x32b sys_chunk_array: keys and chunk items
    backups: [u8; 672],         // 0xb2b super_roots: four times 168 bytes
    padding: [u8; 565],         // 0xdcb
}
const _: () = assert!(size_of::<Raw>() == SIZE);

/// Where a tree begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct RootPointer {
    /// Logical byte of its root.
    pub(super) at: u64,
    /// Its root's level.
    pub(super) level: u8,
    /// The commit that wrote its root.
    pub(super) generation: u64,
}

/// A superblock, decoded.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    /// The UUID that people see.
    pub(super) fsid: [u8; 16],
    /// The UUID that nodes carry.
    pub(super) metadata_uuid: [u8; 16],
    pub(super) generation: u64,
    pub(super) root: RootPointer,
    pub(super) chunk_root: RootPointer,
    /// The tree of log trees, if there is a log.
    pub(super) log_root: Option<RootPointer>,
    pub(super) total_bytes: u64,
    pub(super) bytes_used: u64,
    pub(super) root_dir: u64,
    pub(super) num_devices: u64,
    /// Bytes in a block of data.
    pub(super) sector: u32,
    /// Bytes in a node of a tree.
    pub(super) node: u32,
    pub(super) features: Features,
    pub(super) sum: Sum,
    pub(super) device: DeviceItem,
    pub(super) label: Vec<u8>,
    /// Keys and items of the chunks that the chunk tree itself lies in.
    pub(super) chunks: Vec<u8>,
    flags: u64,
}

impl Superblock {
    /// Decodes the copy that was read at `place`.
    ///
    /// # Errors
    /// `Corrupt` when its checksum or a field that everything else depends on is wrong; `Unsupported` for a checksum we
    /// do not know.
    pub(super) fn parse(bytes: &[u8], place: u64) -> Result<Self> {
        let at = || At::new("btrfs", "superblock").byte(place);
        let bad = |why: String| Error::corrupt(at()).because(why);
        let raw: Raw = parse_struct(bytes, at())?;
        if raw.magic != *MAGIC {
            return Err(bad("its magic number is not _BHRfS_M".to_owned()));
        }
        let sum = Sum::of_type(raw.csum_type.get()).map_err(|error| error.at(at()))?;
        if !sum.matches(bytes.get(32..SIZE).unwrap_or_default(), &raw.csum) {
            return Err(bad(format!("its {} checksum does not match", sum.name())));
        }
        if raw.bytenr.get() != place {
            return Err(bad(format!("says that it lies at byte {:#x}", raw.bytenr.get())));
        }
        let features = Features {
            compat: raw.compat_flags.get(),
            compat_ro: raw.compat_ro_flags.get(),
            incompat: raw.incompat_flags.get(),
        };
        let (sector, node) = (raw.sectorsize.get(), raw.nodesize.get());
        for (what, size) in [("sectors", sector), ("nodes", node)] {
            if !size.is_power_of_two() || !(LEAST_BLOCK..=MOST_BLOCK).contains(&size) {
                return Err(bad(format!("{what} of {size} bytes")));
            }
        }
        if node < sector {
            return Err(bad(format!("nodes of {node} bytes, smaller than its sectors of {sector}")));
        }
        let pointer = |what: &str, at: U64, level: u8, generation: U64| {
            if level >= MAX_LEVEL || !at.get().is_multiple_of(LEAST_BLOCK.into()) {
                return Err(bad(format!("{what} at byte {:#x}, level {level}", at.get())));
            }
            Ok(RootPointer { at: at.get(), level, generation: generation.get() })
        };
        // What the log's own root was written by: the commit that never came.
        let log_generation = U64::new(raw.generation.get().saturating_add(1));
        let log_root = (raw.log_root.get() != 0)
            .then(|| pointer("the root of the log", raw.log_root, raw.log_root_level, log_generation))
            .transpose()?;
        let used = usize::try_from(raw.sys_chunk_array_size.get()).unwrap_or(usize::MAX);
        let chunks = raw
            .chunks
            .get(..used)
            .ok_or_else(|| bad(format!("an array of chunks of {used} bytes in {}", raw.chunks.len())))?;
        let metadata_uuid = if features.has_metadata_uuid() { raw.metadata_uuid } else { raw.fsid };
        let end = raw.label.iter().position(|byte| *byte == 0).unwrap_or(raw.label.len());
        Ok(Self {
            fsid: raw.fsid,
            metadata_uuid,
            generation: raw.generation.get(),
            root: pointer("the root of the tree of trees", raw.root, raw.root_level, raw.generation)?,
            chunk_root: pointer(
                "the root of the tree of chunks",
                raw.chunk_root,
                raw.chunk_root_level,
                raw.chunk_root_generation,
            )?,
            log_root,
            total_bytes: raw.total_bytes.get(),
            bytes_used: raw.bytes_used.get(),
            root_dir: raw.root_dir_objectid.get(),
            num_devices: raw.num_devices.get(),
            sector,
            node,
            features,
            sum,
            device: raw.device.clone(),
            label: raw.label.get(..end).unwrap_or_default().to_vec(),
            chunks: chunks.to_vec(),
            flags: raw.flags.get(),
        })
    }

    /// The newest sound copy on a device.
    ///
    /// # Errors
    /// What is wrong with the first copy, when no copy is sound; `Unsupported` for what the first one has and we do not
    /// read.
    pub(super) fn load(device: &dyn BlockSource) -> Result<(Self, Vec<String>)> {
        let read = |place: u64| {
            let mut bytes = vec![0; SIZE];
            device.read_at(&mut bytes, place)?;
            Self::parse(&bytes, place)
        };
        let [first_at, others @ ..] = PLACES;
        let first = read(first_at);
        let mut warnings = Vec::new();
        let mut best: Option<Self> = None;
        for place in others {
            if place.saturating_add(wide(SIZE)) > device.len() {
                continue;
            }
            // A copy that an older file system left at this place is none of this one.
            let is_ours = |copy: &Self| {
                first
                    .as_ref()
                    .map_or(true, |first| copy.fsid == first.fsid && copy.device.uuid == first.device.uuid)
            };
            if let Some(copy) = read(place).ok().filter(is_ours)
                && best.as_ref().is_none_or(|best| copy.generation > best.generation)
            {
                best = Some(copy);
            }
        }
        match (first, best) {
            (Ok(first), Some(best)) if best.generation > first.generation => {
                warnings
                    .push("the first superblock is older than its copies, one of which was taken".to_owned());
                Ok((best, warnings))
            }
            (Ok(first), _) => Ok((first, warnings)),
            (Err(error), Some(best)) => {
                warnings.push(format!("the first superblock is damaged, a copy was taken: {error}"));
                Ok((best, warnings))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The UUID as people write it.
    pub(super) fn uuid(&self) -> String {
        uuid(&self.fsid)
    }

    /// Did the kernel record errors?
    pub(super) const fn has_errors(&self) -> bool {
        self.flags & FLAG_ERROR != 0
    }

    /// Was it made by `btrfs-image`, without the files' content?
    pub(super) const fn is_dump(&self) -> bool {
        self.flags & FLAG_METADUMP != 0
    }

    /// Did a change of its identity not come to its end?
    pub(super) const fn is_changing(&self) -> bool {
        self.flags & FLAG_CHANGING_FSID != 0
    }
}

/// Which device of which file system it is, from the bytes of its superblock. The identity that the devices of one share
/// is the UUID that people see and the one that nodes carry. Both count: after `btrfstune -m` a copy has the second one
/// only in common with what it was copied from.
pub(super) fn set_of(bytes: &[u8]) -> Option<SetMember> {
    let raw: Raw = parse_struct(bytes, At::new("btrfs", "superblock")).ok()?;
    let features = Features { incompat: raw.incompat_flags.get(), ..Features::default() };
    let mut set = raw.fsid;
    if features.has_metadata_uuid() {
        set.iter_mut().zip(raw.metadata_uuid).for_each(|(byte, other)| *byte = byte.rotate_left(1) ^ other);
    }
    Some(SetMember { set, device: raw.device.id.get(), commit: raw.generation.get() })
}
