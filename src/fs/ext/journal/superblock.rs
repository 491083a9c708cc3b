//! The journal's superblock: its first block. All numbers of a journal are big-endian.
//!
//! Kernel documentation, `filesystems/ext4/journal.rst`; checked as `journal_get_superblock` in `fs/jbd2/journal.c` does.

use crate::checksum::crc32c_on;
use crate::error::{At, Error, Result};
use crate::ondisk::parse_struct;
use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What every block of a journal starts with that is no copy.
pub(super) const MAGIC: u32 = 0xc03b_3998;
/// Block types: the two versions of a superblock. Version 1 has no features.
const VERSION_1: u32 = 3;
const VERSION_2: u32 = 4;

/// `s_feature_compat`: commit blocks have a CRC-32 of their transaction.
const CHECKSUM: u32 = 0x1;
/// `s_feature_incompat`, in the order of their bits: revoke, 64bit, async_commit, csum_v2, csum_v3, fast_commit.
const REVOKE: u32 = 0x1;
const BITS_64: u32 = 0x2;
const ASYNC_COMMIT: u32 = 0x4;
const CSUM_V2: u32 = 0x8;
const CSUM_V3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;
/// The fewest blocks of a log (`JBD2_MIN_JOURNAL_BLOCKS`), and how many a fast commit area has where none are named.
const MIN_BLOCKS: u32 = 1024;
const FAST_BLOCKS: u32 = 256;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug)]
#[repr(C)]
struct Raw {
    magic: U32,          // 0x00 MAGIC
    kind: U32,           // 0x04 VERSION_1 or VERSION_2
    unused_1: U32,       // 0x08 sequence number of this block
    block_size: U32,     // 0x0c bytes
    blocks: U32,         // 0x10 of the journal, this one included
    first: U32,          // 0x14 block of the log
    sequence: U32,       // 0x18 of the first transaction to play back
    start: U32,          // 0x1c block where it starts; 0: nothing to play back
    errno: U32,          // 0x20
    compat: U32,         // 0x24
    incompat: U32,       // 0x28
    ro_compat: U32,      // 0x2c
    uuid: [u8; 16],      // 0x30
    users: U32,          // 0x40
    unused_2: [u8; 12],  // 0x44
    checksum_type: u8,   // 0x50 4: CRC-32C
    unused_3: [u8; 3],   // 0x51
    fast_blocks: U32,    // 0x54 of the fast commit area, 0: FAST_BLOCKS
    unused_4: [u8; 164], // 0x58
    checksum: U32,       // 0xfc
    user_ids: [u8; 768], // 0x100
}
const _: () = assert!(size_of::<Raw>() == 1024);

/// How the blocks that describe others are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sums {
    /// Not at all.
    None,
    /// CRC-32 of a whole transaction, in its commit block.
    Transaction,
    /// CRC-32C in each block, from this seed; and of each copy, sixteen bits (v2) or all (v3) of it.
    Blocks { seed: u32, is_v3: bool },
}

/// What playing back needs of it.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    /// The first block of the log, and the one past its last.
    pub(super) first: u32,
    pub(super) end: u32,
    /// Where the log starts, 0 if there is nothing to play back.
    pub(super) start: u32,
    /// The number of the first transaction.
    pub(super) sequence: u32,
    pub(super) sums: Sums,
    /// Block numbers have 64 bits.
    pub(super) is_wide: bool,
    /// Commit blocks may reach the disk before what they commit.
    pub(super) is_async: bool,
    /// Fast commits lie between these blocks.
    pub(super) fast: Option<(u32, u32)>,
}

impl Superblock {
    /// Checks the superblock in `bytes`, of a journal that has `room` blocks of `block_size` bytes.
    ///
    /// # Errors
    /// `Corrupt` where the kernel would not take it; `Unsupported` for a feature that it would not know.
    pub(super) fn parse(bytes: &[u8], block_size: u64, room: u64, at: &At) -> Result<Self> {
        let raw: Raw = parse_struct(bytes, at.clone())?;
        let bad = |why: String| Error::corrupt(at.clone()).because(why);
        let kind = raw.kind.get();
        if raw.magic.get() != MAGIC || !matches!(kind, VERSION_1 | VERSION_2) {
            return Err(bad(format!("magic number {:#x}, type {kind}", raw.magic.get())));
        }
        if u64::from(raw.block_size.get()) != block_size {
            return Err(bad(format!("blocks of {} bytes", raw.block_size.get())));
        }
        let (blocks, first) = (raw.blocks.get(), raw.first.get());
        if u64::from(blocks) > room {
            return Err(bad(format!("{blocks} blocks in a file of {room}")));
        }
        let (compat, incompat) =
            if kind == VERSION_2 { (raw.compat.get(), raw.incompat.get()) } else { (0, 0) };
        let known = REVOKE | BITS_64 | ASYNC_COMMIT | CSUM_V2 | CSUM_V3 | FAST_COMMIT;
        if incompat & !known != 0 {
            return Err(
                Error::unsupported(format!("the journal features {:#x}", incompat & !known)).at(at.clone())
            );
        }
        let has = |bit: u32| incompat & bit != 0;
        let sums = match (compat & CHECKSUM != 0, has(CSUM_V2), has(CSUM_V3)) {
            (false, false, false) => Sums::None,
            (true, false, false) => Sums::Transaction,
            (false, true, false) | (false, false, true) => {
                Sums::Blocks { seed: crc32c_on(!0, &raw.uuid), is_v3: has(CSUM_V3) }
            }
            _ => return Err(bad("several kinds of checksums".to_owned())),
        };
        if matches!(sums, Sums::Blocks { .. }) {
            let mut covered = raw.clone();
            covered.checksum = U32::new(0);
            if raw.checksum_type != 4 || crc32c_on(!0, covered.as_bytes()) != raw.checksum.get() {
                return Err(bad("its checksum is wrong".to_owned()));
            }
        }
        let (mut end, mut fast) = (blocks, None);
        if has(FAST_COMMIT) {
            let wanted = if raw.fast_blocks.get() == 0 { FAST_BLOCKS } else { raw.fast_blocks.get() };
            if let Some(rest) = blocks.checked_sub(wanted).filter(|rest| *rest >= MIN_BLOCKS) {
                end = rest;
            }
            fast = end.checked_add(1).map(|first| (first, blocks)).filter(|(first, end)| first < end);
        }
        if first == 0 || first >= end {
            return Err(bad(format!("a log from block {first} to before block {end}")));
        }
        let start = raw.start.get();
        if start != 0 && !(first..end).contains(&start) {
            return Err(bad(format!("a log from block {first} to before {end} that starts at {start}")));
        }
        Ok(Self {
            first,
            end,
            start,
            sequence: raw.sequence.get(),
            sums,
            is_wide: has(BITS_64),
            is_async: has(ASYNC_COMMIT),
            fast,
        })
    }
}
