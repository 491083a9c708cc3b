//! The superblock: 1024 bytes at byte 1024 of the volume, which say how everything else is laid out.
//!
//! Field names and offsets follow the kernel's documentation, `filesystems/ext4/super.rst`.

use super::features::{Features, INCOMPAT_READ, Set};
use super::inode::BLOCK_BYTES;
use crate::checksum::crc32c_on;
use crate::error::{At, Error, Result};
use crate::fs::State;
use crate::ondisk::{get_le32, parse_struct};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where it is, in bytes.
pub(super) const OFFSET: u64 = 1024;
/// Its magic number, at 0x38.
pub(super) const MAGIC: [u8; 2] = [0x53, 0xef];

/// Where its checksum is, in bytes: behind all that it covers.
const CHECKSUM_AT: usize = 0x3fc;

/// `s_state`: cleanly unmounted.
const STATE_VALID: u16 = 1;
/// `s_state`: the kernel found errors.
const STATE_ERROR: u16 = 2;
/// `s_flags`: names are hashed as unsigned characters.
const FLAG_UNSIGNED_HASH: u32 = 2;
/// `s_flags`: names are hashed as signed characters.
const FLAG_SIGNED_HASH: u32 = 1;

/// As stored.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug)]
#[repr(C)]
pub(super) struct Raw {
    inodes: U32,              // 0x000 count
    blocks_lo: U32,           // 0x004 count
    reserved_blocks_lo: U32,  // 0x008 count
    free_blocks_lo: U32,      // 0x00c count
    free_inodes: U32,         // 0x010 count
    first_data_block: U32,    // 0x014 block of group 0: 1 where blocks have 1 KiB, else 0
    log_block_size: U32,      // 0x018 block size = 1024 << this
    log_cluster_size: U32,    // 0x01c the same for clusters (bigalloc)
    blocks_per_group: U32,    // 0x020 count
    clusters_per_group: U32,  // 0x024 count
    inodes_per_group: U32,    // 0x028 count
    mount_time: U32,          // 0x02c seconds since 1970
    write_time: U32,          // 0x030 seconds since 1970
    mounts: U16,              // 0x034 since the last check
    max_mounts: U16,          // 0x036
    magic: [u8; 2],           // 0x038 53 EF
    state: U16,               // 0x03a bits: STATE_VALID, STATE_ERROR
    on_error: U16,            // 0x03c
    minor_revision: U16,      // 0x03e
    check_time: U32,          // 0x040
    check_interval: U32,      // 0x044
    creator: U32,             // 0x048 operating system
    revision: U32,            // 0x04c 0: fields from 0x054 on are not valid
    reserved_uid: U16,        // 0x050
    reserved_gid: U16,        // 0x052
    first_inode: U32,         // 0x054 first that is not reserved
    inode_size: U16,          // 0x058 bytes
    group: U16,               // 0x05a of this copy
    compat: U32,              // 0x05c feature bits
    incompat: U32,            // 0x060 feature bits
    ro_compat: U32,           // 0x064 feature bits
    uuid: [u8; 16],           // 0x068 network order
    label: [u8; 16],          // 0x078 NUL-padded
    last_mounted: [u8; 64],   // 0x088 path, NUL-padded
    unused_1: [u8; 8],        // 0x0c8 compression, preallocation
    journal_uuid: [u8; 16],   // 0x0d0 of an external journal
    journal_inode: U32,       // 0x0e0
    journal_device: U32,      // 0x0e4
    last_orphan: U32,         // 0x0e8 inode
    hash_seed: [U32; 4],      // 0x0ec of directory hashes
    default_hash: u8,         // 0x0fc
    journal_backup: u8,       // 0x0fd
    descriptor_size: U16,     // 0x0fe bytes, with 64bit
    mount_options: U32,       // 0x100
    first_meta_group: U32,    // 0x104 first block of descriptors laid out as meta_bg
    made: U32,                // 0x108 seconds since 1970
    journal_copy: [u8; 68],   // 0x10c of the journal inode: its sixty bytes, size high, size low
    blocks_hi: U32,           // 0x150 with 64bit
    reserved_blocks_hi: U32,  // 0x154
    free_blocks_hi: U32,      // 0x158 with 64bit
    min_extra_size: U16,      // 0x15c
    want_extra_size: U16,     // 0x15e
    flags: U32,               // 0x160 bits: FLAG_SIGNED_HASH, FLAG_UNSIGNED_HASH
    unused_3: [u8; 17],       // 0x164 RAID, multi-mount protection, flex_bg
    checksum_type: u8,        // 0x175 1: CRC-32C
    unused_8: [u8; 30],       // 0x176 snapshots
    errors: U32,              // 0x194 how often the kernel found one
    unused_4: [u8; 168],      // 0x198 the first and the last of them
    user_quota_inode: U32,    // 0x240
    group_quota_inode: U32,   // 0x244
    overhead_blocks: U32,     // 0x248
    backup_groups: [U32; 2],  // 0x24c groups with a copy of this (sparse_super2)
    unused_5: [u8; 20],       // 0x254 encryption
    lost_found_inode: U32,    // 0x268
    project_quota_inode: U32, // 0x26c
    checksum_seed: U32,       // 0x270
    unused_6: [u8; 8],        // 0x274
    encoding: U16,            // 0x27c of names (casefold)
    encoding_flags: U16,      // 0x27e
    orphan_file_inode: U32,   // 0x280
    unused_7: [u8; 376],      // 0x284
    checksum: U32,            // 0x3fc CRC-32C
}
const _: () = assert!(size_of::<Raw>() == 1024);

/// How names of a directory index are hashed, as the superblock says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct HashParameters {
    /// All zero: the default of MD4.
    pub(super) seed: [u32; 4],
    /// Characters are signed; `None` when the superblock does not say, as very old ones do not.
    pub(super) signed: Option<bool>,
    /// The version for directories that do not name theirs.
    pub(super) version: u8,
}

/// What the reader needs of it, checked.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    raw: Raw,
    pub(super) features: Features,
    /// Bytes: 1024 to 65536.
    pub(super) block_size: u64,
    /// Blocks of the file system.
    pub(super) blocks: u64,
    /// Block groups.
    pub(super) groups: u64,
    pub(super) inodes: u64,
    pub(super) inodes_per_group: u64,
    /// Bytes: 128 to the block size, a power of two.
    pub(super) inode_size: u64,
    /// Bytes: 32, or 64 to 1024 with 64bit.
    pub(super) descriptor_size: u64,
    /// First inode that a directory may name, the root aside.
    pub(super) first_inode: u64,
}

impl Superblock {
    /// The place of a superblock, for errors.
    pub(super) const fn at(byte: u64) -> At {
        At::new("ext", "superblock").byte(byte)
    }

    /// Checks the superblock in `bytes`, which lies at this byte of the volume.
    ///
    /// # Errors
    /// `Corrupt` for a magic, size or count out of bounds; `Unsupported` for an incompatible feature, by its e2fsprogs name.
    pub(super) fn parse(bytes: &[u8], byte: u64) -> Result<Self> {
        let at = Self::at(byte);
        let raw: Raw = parse_struct(bytes, at.clone())?;
        let bad = |why: String| Error::corrupt(at.clone()).because(why);
        if raw.magic != MAGIC {
            return Err(bad("no magic number 0xef53".to_owned()));
        }
        let old = raw.revision.get() == 0;
        let features = if old {
            Features::default()
        } else {
            Features {
                compat: raw.compat.get(),
                incompat: raw.incompat.get(),
                ro_compat: raw.ro_compat.get(),
            }
        };
        if let Some(refused) = features.refused(INCOMPAT_READ) {
            return Err(Error::unsupported(format!("the ext4 feature {refused}")).at(at));
        }
        let log = raw.log_block_size.get();
        let block_size = 1024_u64.checked_shl(log).filter(|_| log <= 6);
        let block_size = block_size.ok_or_else(|| bad(format!("a block size of 1024 << {log}")))?;
        let inode_size = if old { 128 } else { u64::from(raw.inode_size.get()) };
        if !inode_size.is_power_of_two() || inode_size < 128 || inode_size > block_size {
            return Err(bad(format!("an inode size of {inode_size} bytes")));
        }
        let wide_blocks = features.has(Set::BITS_64);
        let descriptor_size = if wide_blocks { u64::from(raw.descriptor_size.get()) } else { 32 };
        if wide_blocks && !(descriptor_size.is_power_of_two() && (64..=1024).contains(&descriptor_size)) {
            return Err(bad(format!("group descriptors of {descriptor_size} bytes")));
        }
        let high = |part: U32| if wide_blocks { u64::from(part.get()) << 32 } else { 0 };
        let blocks = u64::from(raw.blocks_lo.get()) | high(raw.blocks_hi);
        let inodes_per_group = u64::from(raw.inodes_per_group.get());
        let per_group = u64::from(raw.blocks_per_group.get());
        let first = u64::from(raw.first_data_block.get());
        if inodes_per_group == 0 || inodes_per_group > block_size.saturating_mul(8) {
            return Err(bad(format!("{inodes_per_group} inodes per group")));
        }
        let groups =
            blocks.checked_sub(first).filter(|_| per_group != 0 && blocks.checked_mul(block_size).is_some());
        let groups = groups.map(|blocks| blocks.div_ceil(per_group)).filter(|groups| *groups > 0);
        let groups =
            groups.ok_or_else(|| bad(format!("{blocks} blocks from {first} on, {per_group} per group")))?;
        let inodes = u64::from(raw.inodes.get()).min(groups.saturating_mul(inodes_per_group));
        let first_inode = if old { 11 } else { u64::from(raw.first_inode.get()).max(11) };
        Ok(Self {
            raw,
            features,
            block_size,
            blocks,
            groups,
            inodes,
            inodes_per_group,
            inode_size,
            descriptor_size,
            first_inode,
        })
    }

    /// Is its checksum right, or has it none?
    pub(super) fn checksum_holds(&self) -> bool {
        let covered = self.raw.as_bytes().get(..CHECKSUM_AT).unwrap_or_default();
        !self.features.has(Set::METADATA_CSUM)
            || (self.raw.checksum_type == 1 && crc32c_on(!0, covered) == self.raw.checksum.get())
    }

    /// What checksums of metadata start from.
    pub(super) fn checksum_seed(&self) -> u32 {
        if self.features.has(Set::CSUM_SEED) {
            self.raw.checksum_seed.get()
        } else {
            crc32c_on(!0, &self.raw.uuid)
        }
    }

    /// The UUID's bytes as the checksums of group descriptors take them.
    pub(super) const fn uuid_bytes(&self) -> &[u8; 16] {
        &self.raw.uuid
    }

    /// Was it written by Linux? Others give the fields that only Linux has other meanings.
    pub(super) fn is_linux(&self) -> bool {
        self.raw.creator.get() == 0
    }

    /// The block group that this copy says it lies in.
    pub(super) fn copy_of_group(&self) -> u64 {
        u64::from(self.raw.group.get())
    }

    /// The journal's inode, 0 for none.
    pub(super) fn journal_inode(&self) -> u64 {
        u64::from(self.raw.journal_inode.get())
    }

    /// The UUID of the device that holds the journal, if it is not in an inode.
    pub(super) fn journal_device(&self) -> Option<&[u8; 16]> {
        Some(&self.raw.journal_uuid).filter(|uuid| **uuid != [0; 16])
    }

    /// The copy of the journal inode's sixty bytes, and its size; `None` unless it was filled in.
    pub(super) fn journal_copy(&self) -> Option<(&[u8], u64)> {
        let copy = &self.raw.journal_copy;
        let (map, size) = (copy.get(..BLOCK_BYTES)?, get_le32(copy, 64)?);
        let high = get_le32(copy, 60)?;
        (self.raw.journal_backup == 1).then_some((map, u64::from(high) << 32 | u64::from(size)))
    }

    /// The file system's size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size)
    }

    /// Free blocks by its own count.
    pub(super) fn free_blocks(&self) -> u64 {
        let high =
            if self.features.has(Set::BITS_64) { u64::from(self.raw.free_blocks_hi.get()) << 32 } else { 0 };
        (u64::from(self.raw.free_blocks_lo.get()) | high).min(self.blocks)
    }

    /// Blocks that only root may fill.
    pub(super) fn reserved_blocks(&self) -> u64 {
        let high = if self.features.has(Set::BITS_64) {
            u64::from(self.raw.reserved_blocks_hi.get()) << 32
        } else {
            0
        };
        (u64::from(self.raw.reserved_blocks_lo.get()) | high).min(self.blocks)
    }

    /// Free inodes by its own count.
    pub(super) fn free_inodes(&self) -> u64 {
        u64::from(self.raw.free_inodes.get()).min(self.inodes)
    }

    /// The block of the first superblock.
    pub(super) fn own_block(&self) -> u64 {
        u64::from(self.block_size == 1024)
    }

    /// The first block of group 0.
    pub(super) fn first_data_block(&self) -> u64 {
        u64::from(self.raw.first_data_block.get())
    }

    /// Blocks of each group but the last.
    pub(super) fn blocks_per_group(&self) -> u64 {
        u64::from(self.raw.blocks_per_group.get())
    }

    /// The first block of descriptors that lies in its own group (meta_bg).
    pub(super) fn first_meta_group(&self) -> u64 {
        u64::from(self.raw.first_meta_group.get())
    }

    /// Groups with a copy of the superblock, with sparse_super2.
    pub(super) fn backup_groups(&self) -> [u64; 2] {
        self.raw.backup_groups.map(|group| u64::from(group.get()))
    }

    /// Blocks of a cluster, in 512-byte units: what `i_blocks` counts for one block of attributes.
    pub(super) fn cluster_sectors(&self) -> u64 {
        let log = self.raw.log_cluster_size.get();
        let bytes =
            if self.features.has(Set::BIGALLOC) && log <= 20 { 1024_u64 << log } else { self.block_size };
        bytes >> 9
    }

    /// How directory names are hashed.
    pub(super) fn hash_parameters(&self) -> HashParameters {
        let flags = self.raw.flags.get();
        let signed = match (flags & FLAG_SIGNED_HASH != 0, flags & FLAG_UNSIGNED_HASH != 0) {
            (_, true) => Some(false),
            (true, false) => Some(true),
            (false, false) => None,
        };
        HashParameters { seed: self.raw.hash_seed.map(U32::get), signed, version: self.raw.default_hash }
    }

    /// Does a directory entry of this number make sense to the kernel?
    pub(super) fn may_be_named(&self, ino: u64) -> bool {
        let hidden = [
            (self.features.has(Set::QUOTA), self.raw.user_quota_inode),
            (self.features.has(Set::QUOTA), self.raw.group_quota_inode),
            (self.features.has(Set::PROJECT), self.raw.project_quota_inode),
            (self.features.has(Set::ORPHAN_FILE), self.raw.orphan_file_inode),
        ];
        let is_hidden = hidden.iter().any(|(has, number)| *has && u64::from(number.get()) == ino);
        ino == 2 || (ino >= self.first_inode && ino <= self.inodes && !is_hidden)
    }

    /// Its health, by its own word.
    pub(super) fn state(&self) -> State {
        let state = self.raw.state.get();
        if self.features.has(Set::NEEDS_RECOVERY) || (state & (STATE_VALID | STATE_ERROR) == 0) {
            State::Dirty
        } else if self.has_errors() {
            State::Errors
        } else {
            State::Clean
        }
    }

    /// Did the kernel find errors on it?
    pub(super) fn has_errors(&self) -> bool {
        self.raw.state.get() & STATE_ERROR != 0
    }

    /// `ext2`, `ext3` or `ext4`, as `blkid` decides: what the older driver would not mount is the newer.
    pub(super) fn kind(&self) -> &'static str {
        if self.features.needs_ext4() {
            "ext4"
        } else if self.features.has(Set::HAS_JOURNAL) {
            "ext3"
        } else {
            "ext2"
        }
    }

    /// The UUID's bytes, unless they are all zero.
    pub(super) fn uuid(&self) -> Option<&[u8; 16]> {
        Some(&self.raw.uuid).filter(|uuid| **uuid != [0; 16])
    }

    /// The volume label's bytes.
    pub(super) fn label(&self) -> &[u8] {
        until_nul(&self.raw.label)
    }

    /// The path where it was last mounted.
    pub(super) fn last_mounted(&self) -> &[u8] {
        until_nul(&self.raw.last_mounted)
    }

    /// The volume's bytes of `blocks` blocks from `block` on, if the file system has them.
    pub(super) fn block_offset(&self, block: u64, blocks: u64) -> Option<u64> {
        let end = block.checked_add(blocks)?;
        if block == 0 || end > self.blocks { None } else { block.checked_mul(self.block_size) }
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests count bytes by hand")]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// What `mke2fs 1.47.0 -t ext4 -b 4096` writes for 64 MiB, the fields that are looked at.
    fn sound() -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0x00, 16384);
        put(0x04, 16384);
        put(0x18, 2);
        put(0x20, 32768);
        put(0x28, 16384);
        put(0x4c, 1);
        put(0x54, 11);
        put(0x5c, 0x3c);
        put(0x60, 0x2c2);
        put(0x64, 0x46b);
        bytes[0x38..0x3a].copy_from_slice(&MAGIC);
        bytes[0x3a] = 1;
        bytes[0x58..0x5a].copy_from_slice(&256_u16.to_le_bytes());
        bytes[0xfe] = 64;
        bytes
    }

    #[test]
    fn a_sound_superblock_is_accepted() {
        let sb = Superblock::parse(&sound(), OFFSET).unwrap();
        assert_eq!((sb.block_size, sb.groups, sb.inode_size, sb.kind()), (4096, 1, 256, "ext4"));
        assert_eq!(sb.state(), State::Clean);
    }

    #[test]
    fn an_unknown_incompatible_feature_is_refused_by_name() {
        let mut bytes = sound();
        bytes[0x61] |= 0x10;
        let error = Superblock::parse(&bytes, OFFSET).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("dirdata"), "{error}");
    }

    #[test]
    fn sizes_out_of_bounds_are_corrupt() {
        for (at, value) in
            [(0x18, 7_u32), (0x20, 0), (0x28, 0), (0x58, 100), (0x58, 8192), (0xfe, 65), (0x04, 0)]
        {
            let mut bytes = sound();
            bytes[at..at + 2].copy_from_slice(&value.to_le_bytes()[..2]);
            assert_eq!(
                Superblock::parse(&bytes, OFFSET).unwrap_err().kind(),
                ErrorKind::Corrupt,
                "{at:#x} = {value}"
            );
        }
    }

    #[test]
    fn too_few_bytes_are_corrupt() {
        assert_eq!(Superblock::parse(&sound()[..1023], OFFSET).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
