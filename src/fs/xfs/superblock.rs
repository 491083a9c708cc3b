//! The superblock: the first sector of every allocation group. The first group's counts; the others are copies from the
//! day the file system was made or grown.
//!
//! ```text
//! volume    │ group 0            │ group 1            │ …        each of sb_agblocks blocks
//! group     │ superblock │ AGF │ AGI │ AGFL │ blocks …           a sector each
//! inode     group │ block in the group │ place in the block       bits of its number
//! ```
//! "XFS Algorithms & Data Structures", "Superblocks"; newer fields as in the kernel's `xfs_format.h`.

use super::features::{Bit, Features};
use crate::block::BlockSource;
use crate::checksum::crc32c;
use crate::error::{At, Error, Result};
use crate::num::narrow;
use crate::ondisk::{get_be32, get_le32, parse_struct};
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Its magic number.
pub(super) const MAGIC: [u8; 4] = *b"XFSB";
/// The largest sector, and so the most of it that is read.
pub(super) const MAX_SECTOR: u64 = 32 << 10;
/// No inode.
const NO_INODE: u64 = u64::MAX;
/// Where the checksum stands, in bytes; little-endian, the only such field.
const CRC_AT: usize = 0xe0;
/// The fewest blocks of a group (`XFS_MIN_AG_BLOCKS`).
const MIN_AG_BLOCKS: u64 = 64;

/// As stored.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug)]
#[repr(C)]
struct Raw {
    magic: [u8; 4],        // 0x000 "XFSB"
    block_size: U32,       // 0x004 bytes
    blocks: U64,           // 0x008 of the data section
    rt_blocks: U64,        // 0x010 of the realtime section
    rt_extents: U64,       // 0x018
    uuid: [u8; 16],        // 0x020
    log_start: U64,        // 0x030 block; 0: the log is on a device of its own
    root: U64,             // 0x038 inode
    rt_bitmap: U64,        // 0x040 inode
    rt_summary: U64,       // 0x048 inode
    rt_extent_size: U32,   // 0x050 blocks
    ag_blocks: U32,        // 0x054 blocks of a group; the last may have fewer
    ag_count: U32,         // 0x058
    rt_bitmap_blocks: U32, // 0x05c
    log_blocks: U32,       // 0x060
    version: U16,          // 0x064 version and feature bits
    sector_size: U16,      // 0x066 bytes
    inode_size: U16,       // 0x068 bytes
    inodes_per_block: U16, // 0x06a
    name: [u8; 12],        // 0x06c label, NUL-padded
    block_log: u8,         // 0x078 of block_size
    sector_log: u8,        // 0x079
    inode_log: u8,         // 0x07a
    inopb_log: u8,         // 0x07b of inodes_per_block
    ag_block_log: u8,      // 0x07c of ag_blocks, rounded up
    rt_extents_log: u8,    // 0x07d
    in_progress: u8,       // 0x07e mkfs has not finished
    inode_percent: u8,     // 0x07f
    inodes: U64,           // 0x080 allocated
    free_inodes: U64,      // 0x088 of those
    free_blocks: U64,      // 0x090
    free_rt_extents: U64,  // 0x098
    user_quota: U64,       // 0x0a0 inode
    group_quota: U64,      // 0x0a8 inode
    quota_flags: U16,      // 0x0b0
    flags: u8,             // 0x0b2
    shared: u8,            // 0x0b3
    inode_alignment: U32,  // 0x0b4 blocks
    stripe_unit: U32,      // 0x0b8 blocks
    stripe_width: U32,     // 0x0bc blocks
    dir_block_log: u8,     // 0x0c0 of blocks in a directory block
    log_sector_log: u8,    // 0x0c1
    log_sector_size: U16,  // 0x0c2
    log_stripe_unit: U32,  // 0x0c4 bytes
    features2: U32,        // 0x0c8
    bad_features2: U32,    // 0x0cc where kernels with another alignment put them
    compat: U32,           // 0x0d0 from here on version 5
    ro_compat: U32,        // 0x0d4
    incompat: U32,         // 0x0d8
    log_incompat: U32,     // 0x0dc
    crc: [u8; 4],          // 0x0e0 CRC-32C of the sector, little-endian
    sparse_align: U32,     // 0x0e4 blocks
    project_quota: U64,    // 0x0e8 inode
    lsn: U64,              // 0x0f0 place in the log of the last write
    meta_uuid: [u8; 16],   // 0x0f8 that metadata carries, with META_UUID
    meta_dir: U64,         // 0x108 inode of the tree of metadata, with METADIR
}
const _: () = assert!(size_of::<Raw>() == 0x110);

/// What the reader needs of it, checked.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    raw: Raw,
    pub(super) features: Features,
    /// Bytes: 512 to 65536.
    pub(super) block_size: u64,
    pub(super) block_log: u32,
    /// Blocks of the data section.
    pub(super) blocks: u64,
    pub(super) ag_blocks: u64,
    pub(super) ag_count: u64,
    /// Bits of a block number inside its group.
    pub(super) ag_block_log: u32,
    /// Bytes: 256 to 2048, at most a block.
    pub(super) inode_size: u64,
    inopb_log: u32,
    /// Bytes of a directory block: 512 to 65536.
    pub(super) dir_block_size: u64,
    pub(super) root: u64,
    /// What metadata carries.
    pub(super) meta_uuid: [u8; 16],
}

/// Where the log lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogPlace {
    /// First byte on the volume.
    pub(super) byte: u64,
    /// Length in bytes.
    pub(super) len: u64,
}

impl Superblock {
    /// Checks the superblock in `bytes`, a whole sector at least.
    ///
    /// # Errors
    /// `Corrupt` for a magic, size or count out of bounds or a wrong checksum; `Unsupported` for a feature, by its name.
    pub(super) fn parse(bytes: &[u8], byte: u64) -> Result<Self> {
        let sb = Self::parse_unsealed(bytes, byte)?;
        if sb.features.is_v5() {
            let bad = |why: String| Error::corrupt(At::new("xfs", "superblock").byte(byte)).because(why);
            let sector = bytes.get(..narrow(sb.sector_size()));
            check_crc(sector.ok_or_else(|| bad("ends before its sector".to_owned()))?).map_err(bad)?;
        }
        Ok(sb)
    }

    /// As [`Superblock::parse`], but for the checksum: the log's copy carries the one of the write before.
    ///
    /// # Errors
    /// The same.
    fn parse_unsealed(bytes: &[u8], byte: u64) -> Result<Self> {
        let at = At::new("xfs", "superblock").byte(byte);
        let raw: Raw = parse_struct(bytes, at.clone())?;
        let bad = |why: String| Error::corrupt(at.clone()).because(why);
        if raw.magic != MAGIC {
            return Err(bad("no magic number XFSB".to_owned()));
        }
        let version = raw.version.get();
        let is_v5 = version & 0xf == 5;
        let sector_size = u64::from(raw.sector_size.get());
        check_log("sector size", sector_size, raw.sector_log, 512..=MAX_SECTOR).map_err(bad)?;
        let has_more = is_v5 || version & 0x8000 != 0;
        let more = if has_more { raw.features2.get() | raw.bad_features2.get() } else { 0 };
        let words = [raw.ro_compat.get(), raw.incompat.get(), raw.log_incompat.get()];
        let [ro_compat, incompat, log_incompat] = if is_v5 { words } else { [0; 3] };
        let features = Features { version, more, ro_compat, incompat, log_incompat };
        if let Some(refused) = features.refused() {
            let error = Error::unsupported(refused).at(at);
            let repair = "let xfs_repair look at a copy of the volume";
            return Err(if features.has(Bit::NEEDSREPAIR) { error.help(repair) } else { error });
        }
        let block_size = u64::from(raw.block_size.get());
        check_log("block size", block_size, raw.block_log, 512..=65536).map_err(bad)?;
        let inode_size = u64::from(raw.inode_size.get());
        check_log("inode size", inode_size, raw.inode_log, 256..=2048.min(block_size)).map_err(bad)?;
        let inopb_log = raw.block_log.saturating_sub(raw.inode_log);
        if raw.inopb_log != inopb_log {
            return Err(bad(format!("1 << {} inodes in a block, not 1 << {inopb_log}", raw.inopb_log)));
        }
        let (ag_blocks, ag_count) = (u64::from(raw.ag_blocks.get()), u64::from(raw.ag_count.get()));
        let ag_block_log = ag_blocks.next_power_of_two().trailing_zeros();
        if ag_blocks < MIN_AG_BLOCKS || ag_block_log != u32::from(raw.ag_block_log) || ag_count == 0 {
            return Err(bad(format!("{ag_count} groups of {ag_blocks} blocks, 1 << {}", raw.ag_block_log)));
        }
        let blocks = raw.blocks.get();
        let most = ag_blocks.saturating_mul(ag_count);
        let least = ag_blocks.saturating_mul(ag_count.saturating_sub(1)).saturating_add(MIN_AG_BLOCKS);
        if blocks > most || blocks < least || blocks.checked_mul(block_size).is_none() {
            return Err(bad(format!("{blocks} blocks in {ag_count} groups of {ag_blocks}")));
        }
        let dir_log = u32::from(raw.block_log).saturating_add(u32::from(raw.dir_block_log));
        if dir_log > 16 {
            return Err(bad(format!("directory blocks of 1 << {dir_log} bytes")));
        }
        let meta_uuid = if features.has(Bit::META_UUID) { raw.meta_uuid } else { raw.uuid };
        Ok(Self {
            features,
            block_size,
            block_log: u32::from(raw.block_log),
            blocks,
            ag_blocks,
            ag_count,
            ag_block_log,
            inode_size,
            inopb_log: u32::from(inopb_log),
            dir_block_size: 1 << dir_log,
            root: raw.root.get(),
            meta_uuid,
            raw,
        })
    }

    /// Reads the superblock at `byte`.
    ///
    /// # Errors
    /// As [`Superblock::parse`]; what the volume reports.
    pub(super) fn load(volume: &dyn BlockSource, byte: u64) -> Result<Self> {
        // At most MAX_SECTOR.
        let mut bytes = vec![0; narrow(volume.len().saturating_sub(byte).min(MAX_SECTOR))];
        volume.read_at(&mut bytes, byte)?;
        Self::parse(&bytes, byte)
    }

    /// This superblock as the log changed it: `bytes` are its first sector with the change. The file system may have
    /// grown; nothing else of its shape may be another. (`xlog_recover_do_primary_sb_buffer`)
    ///
    /// # Errors
    /// As [`Superblock::parse`], but for the checksum; `Corrupt` for fewer groups or another shape.
    pub(super) fn changed_by_log(&self, bytes: &[u8]) -> Result<Self> {
        let new = Self::parse_unsealed(bytes, 0)?;
        let shape =
            |sb: &Self| (sb.block_size, sb.ag_blocks, sb.inode_size, sb.dir_block_size, sb.features.is_v5());
        if shape(&new) != shape(self) || new.ag_count < self.ag_count || new.meta_uuid != self.meta_uuid {
            return Err(Error::corrupt(At::new("xfs", "superblock in the log")).because(format!(
                "{} groups of {} blocks of {} bytes, where {} of {} of {} were",
                new.ag_count, new.ag_blocks, new.block_size, self.ag_count, self.ag_blocks, self.block_size
            )));
        }
        Ok(new)
    }

    /// Is mkfs said to be still at work? Copies in the other groups keep saying so.
    pub(super) const fn is_in_progress(&self) -> bool {
        self.raw.in_progress != 0
    }

    /// Does it know the root directory? Some copies never learned it.
    pub(super) fn knows_root(&self) -> bool {
        self.root != NO_INODE && self.inode_byte(self.root).is_some()
    }

    /// The volume's byte where `count` blocks from block number `block` on start, if they are in one group.
    pub(super) fn block_byte(&self, block: u64, count: u64) -> Option<u64> {
        let group = block.checked_shr(self.ag_block_log)?;
        let inside = block & self.low(self.ag_block_log);
        if inside.checked_add(count)? > self.ag_blocks || group >= self.ag_count {
            return None;
        }
        let linear = group.checked_mul(self.ag_blocks)?.checked_add(inside)?;
        (linear.checked_add(count)? <= self.blocks).then(|| linear.checked_mul(self.block_size))?
    }

    /// The volume's byte where the inode of this number would lie.
    pub(super) fn inode_byte(&self, ino: u64) -> Option<u64> {
        let block = ino.checked_shr(self.inopb_log)?;
        let inside = (ino & self.low(self.inopb_log)).checked_mul(self.inode_size)?;
        self.block_byte(block, 1)?.checked_add(inside)
    }

    /// The number of the inode that lies `index` inodes after block `block` of a group.
    pub(super) const fn inode_number(&self, group: u64, block: u64, index: u64) -> u64 {
        let bits = self.ag_block_log.saturating_add(self.inopb_log);
        (group.wrapping_shl(bits) | block.wrapping_shl(self.inopb_log)).wrapping_add(index)
    }

    const fn low(&self, bits: u32) -> u64 {
        1_u64.wrapping_shl(bits).wrapping_sub(1)
    }

    /// The log, where it lies on this volume.
    ///
    /// # Errors
    /// `Corrupt` when it would reach past its group.
    pub(super) fn log(&self) -> Result<Option<LogPlace>> {
        let (start, blocks) = (self.raw.log_start.get(), u64::from(self.raw.log_blocks.get()));
        if start == 0 {
            return Ok(None);
        }
        let byte = self.block_byte(start, blocks).filter(|_| blocks != 0).ok_or_else(|| {
            Error::corrupt(At::new("xfs", "log"))
                .because(format!("{blocks} blocks from block {start} on are not in one group"))
        })?;
        Ok(Some(LogPlace { byte, len: blocks.saturating_mul(self.block_size) }))
    }

    /// Is this inode one that no directory names: quota, realtime bitmap and summary?
    pub(super) fn is_own_inode(&self, ino: u64) -> bool {
        let raw = &self.raw;
        let mut own = [raw.rt_bitmap, raw.rt_summary, raw.user_quota, raw.group_quota].to_vec();
        if self.features.is_v5() {
            own.push(raw.project_quota);
        }
        if self.features.has(Bit::METADIR) {
            own = vec![raw.meta_dir];
        }
        ino != 0 && own.iter().any(|number| number.get() == ino)
    }

    /// Is there a realtime section?
    pub(super) fn has_realtime(&self) -> bool {
        self.raw.rt_blocks.get() != 0
    }

    /// Bytes of a sector.
    pub(super) fn sector_size(&self) -> u64 {
        u64::from(self.raw.sector_size.get())
    }

    /// The data section's size in bytes.
    pub(super) const fn size(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size)
    }

    /// Free blocks, allocated inodes and free inodes by its own count, which is right after a clean unmount only.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let (inodes, free) = (self.raw.inodes.get(), self.raw.free_inodes.get());
        (self.raw.free_blocks.get().min(self.blocks), inodes, free.min(inodes))
    }

    /// Its label, up to the first NUL.
    pub(super) fn label(&self) -> &[u8] {
        self.raw.name.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The UUID that people see.
    pub(super) const fn uuid(&self) -> &[u8; 16] {
        &self.raw.uuid
    }
}

/// Fails unless `size` is `1 << log` and in bounds.
fn check_log(what: &str, size: u64, log: u8, bounds: std::ops::RangeInclusive<u64>) -> Result<(), String> {
    if bounds.contains(&size) && 1_u64.checked_shl(u32::from(log)) == Some(size) {
        return Ok(());
    }
    Err(format!("a {what} of {size} bytes, or 1 << {log}"))
}

fn check_crc(sector: &[u8]) -> Result<(), String> {
    let (head, rest) = sector.split_at_checked(CRC_AT).unwrap_or_default();
    let tail = rest.get(4..).unwrap_or_default();
    let (stored, own) = (get_le32(rest, 0).unwrap_or(0), crc32c(&[head, &[0; 4], tail]));
    if stored == own {
        Ok(())
    } else {
        Err(format!("its checksum is {stored:#010x}, the sector's {own:#010x}"))
    }
}

/// Does something that starts with these bytes look like XFS whose first sector alone was lost: are the headers of free
/// space and of inodes of group 0 where they belong? Answers with the sector size.
pub(super) fn headers_of_group_0(head: &[u8]) -> Option<u64> {
    [512, 1024, 2048, 4096].into_iter().find(|sector: &u64| {
        let at = |n: usize| head.get(narrow(*sector).saturating_mul(n)..).unwrap_or_default();
        // Magic, version 1, group 0.
        let is = |header: &[u8], magic: &[u8]| {
            header.starts_with(magic) && get_be32(header, 4) == Some(1) && get_be32(header, 8) == Some(0)
        };
        is(at(1), b"XAGF") && is(at(2), b"XAGI")
    })
}

/// A copy of the superblock in another group, for a volume whose first one is damaged. The length of group 0 stands in
/// its header of free space, in blocks; the block size is the one at which a sound superblock of that geometry is found.
pub(super) fn find_copy(volume: &dyn BlockSource) -> Option<Superblock> {
    // The headers lie in the first three sectors.
    let mut head = vec![0; narrow(volume.len().min(3 * 4096))];
    volume.read_at(&mut head, 0).ok()?;
    let sector = headers_of_group_0(&head)?;
    let ag_blocks = u64::from(get_be32(&head, narrow(sector).checked_add(12)?)?);
    for log in 9..=16_u32 {
        let step = ag_blocks.checked_shl(log)?;
        let Ok(first) = Superblock::load(volume, step) else { continue };
        if first.block_log != log || first.ag_blocks != ag_blocks {
            continue;
        }
        // mkfs tells the root's number to the copies in the middle and in the last group.
        let groups = [1, first.ag_count / 2, first.ag_count.saturating_sub(1)];
        let copies =
            groups.iter().filter_map(|group| Superblock::load(volume, group.checked_mul(step)?).ok());
        return copies.filter(|copy| copy.uuid() == first.uuid()).find(Superblock::knows_root);
    }
    None
}
