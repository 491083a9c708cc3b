//! The index of a large directory: a tree of name hashes whose leaves are ordinary directory blocks.
//!
//! ```text
//! block 0     "." ".." (reaching to the block's end) │ hash version, depth │ entry │ entry │ …
//! node block  one empty record over all of it        │ entry │ entry │ …
//! entry       hash from which on, block; the first entry's hash is its table's limit and count
//! ```
//! Used for looking up a name only. Whatever looks wrong makes the answer "do not know", and the directory is read from
//! its start instead.
//!
//! Kernel documentation, `filesystems/ext4/directory.rst`, "Hash Tree Directories"; the hashes as in `fs/ext4/hash.c`
//! and in e2fsprogs' `dx_hash` command, which the tests compare with.

use super::Ext;
use super::features::Set;
use super::inode::{Inode, flag};
use super::superblock::HashParameters;
use crate::error::Result;
use crate::fs::Ino;
use crate::ondisk::{get_le16, get_le32};

/// Leaves that may hold names of one and the same hash; past that the index is not believed and the directory is read
/// from its start. Two names in one hash are rare already.
const MAX_SAME_HASH: u32 = 64;

/// Where the index starts in block 0, and its fields, in bytes.
const ROOT_INFO: usize = 24;
const ROOT_VERSION: usize = 28;
const ROOT_INFO_LEN: usize = 29;
const ROOT_LEVELS: usize = 30;
const ROOT_FLAGS: usize = 31;
/// Where the entries of a node start, in bytes.
const NODE_ENTRIES: usize = 8;
/// Levels between root and leaves: two more with large_dir (kernel `ext4_dir_htree_level`).
const MAX_LEVELS: u8 = 3;

/// How names are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Legacy,
    HalfMd4,
    Tea,
}

impl Version {
    /// By its number; those from 3 on say that characters have no sign.
    const fn of(number: u8, parameters: HashParameters) -> Option<(Self, Option<bool>)> {
        match number {
            0 => Some((Self::Legacy, parameters.signed)),
            1 => Some((Self::HalfMd4, parameters.signed)),
            2 => Some((Self::Tea, parameters.signed)),
            3 => Some((Self::Legacy, Some(false))),
            4 => Some((Self::HalfMd4, Some(false))),
            5 => Some((Self::Tea, Some(false))),
            _ => None,
        }
    }
}

/// A node on the way down: its entries and the one that was taken.
struct Level {
    entries: Vec<(u32, u32)>,
    taken: usize,
}

impl Ext {
    /// Looks `name` up in the index of a directory. `None`: it has none that can be trusted.
    pub(super) fn find_by_hash(&self, inode: &Inode, name: &[u8]) -> Option<Option<Ino>> {
        let indexed = inode.has(flag::INDEX) && self.features().has(Set::DIR_INDEX);
        if !indexed || inode.has(flag::INLINE_DATA) || inode.has(flag::CASEFOLD) || inode.has(flag::ENCRYPT) {
            return None;
        }
        self.search(inode, name).ok().flatten()
    }

    /// The two hashes of a name in a directory; zeros where they cannot be told.
    pub(super) fn directory_hash(&self, dir: &Inode, name: &[u8]) -> (u32, u32) {
        let parameters = self.sb.hash_parameters();
        let own = || self.directory_block(dir, 0).ok()?.get(ROOT_VERSION).copied();
        let number = if dir.has(flag::INDEX) { own() } else { Some(parameters.version) };
        let version = number.and_then(|number| Version::of(number, parameters));
        version.map_or((0, 0), |(version, signed)| hash(version, signed.unwrap_or(true), parameters, name))
    }

    /// `Ok(None)`: the index is not sound.
    fn search(&self, inode: &Inode, name: &[u8]) -> Result<Option<Option<Ino>>> {
        let root = self.directory_block(inode, 0)?;
        let byte = |at: usize| root.get(at).copied().unwrap_or(0);
        let parameters = self.sb.hash_parameters();
        let known = Version::of(byte(ROOT_VERSION), parameters);
        let levels = byte(ROOT_LEVELS);
        let sound = get_le32(&root, ROOT_INFO) == Some(0)
            && byte(ROOT_INFO_LEN) == 8
            && byte(ROOT_FLAGS) & 1 == 0
            && levels <= MAX_LEVELS;
        // Where it was never written down whether characters have a sign, only ASCII names hash alike either way.
        let Some((version, signed)) =
            known.filter(|(_, signed)| sound && (signed.is_some() || name.is_ascii()))
        else {
            return Ok(None);
        };
        let (target, _) = hash(version, signed.unwrap_or(true), parameters, name);
        let mut path: Vec<Level> = Vec::new();
        let mut entries = entries(&root, ROOT_INFO.saturating_add(8));
        for level in 0..=levels {
            let Some(table) = entries.take() else { return Ok(None) };
            let taken = table.iter().rposition(|(from, _)| *from <= target).unwrap_or(0);
            let Some((_, block)) = table.get(taken).copied() else { return Ok(None) };
            path.push(Level { entries: table, taken });
            if level < levels {
                let node = self.directory_block(inode, u64::from(block))?;
                entries = self::entries(&node, NODE_ENTRIES);
            }
        }
        for _ in 0..MAX_SAME_HASH {
            let Some(block) = path.last().and_then(|level| level.entries.get(level.taken)) else {
                return Ok(None);
            };
            if let Some(found) = self.find_in_block(inode, u64::from(block.1), name)? {
                return Ok(Some(Some(found)));
            }
            // Names of one hash may fill more than one leaf: the next one then starts with this very hash.
            match self.next_leaf(inode, &mut path, target)? {
                Some(true) => {}
                Some(false) => return Ok(Some(None)),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Moves to the next leaf. `Some(false)`: it cannot hold the target. `None`: the index is not sound.
    fn next_leaf(&self, inode: &Inode, path: &mut [Level], target: u32) -> Result<Option<bool>> {
        let has_next = |level: &Level| level.taken.saturating_add(1) < level.entries.len();
        let Some(turn) = path.iter().rposition(has_next) else { return Ok(Some(false)) };
        let mut block = None;
        if let Some(level) = path.get_mut(turn) {
            level.taken = level.taken.saturating_add(1);
            block = level.entries.get(level.taken).copied();
        }
        let Some((from, mut block)) = block else { return Ok(None) };
        if from & !1 != target {
            return Ok(Some(false));
        }
        for level in path.iter_mut().skip(turn.saturating_add(1)) {
            let node = self.directory_block(inode, u64::from(block))?;
            let Some(entries) = entries(&node, NODE_ENTRIES) else { return Ok(None) };
            let Some((_, first)) = entries.first().copied() else { return Ok(None) };
            *level = Level { entries, taken: 0 };
            block = first;
        }
        Ok(Some(true))
    }
}

/// The table of hashes and blocks at `at`; the first hash is 0. `None` unless its count fits and the hashes ascend.
fn entries(block: &[u8], at: usize) -> Option<Vec<(u32, u32)>> {
    let (limit, count) = (get_le16(block, at)?, get_le16(block, at.checked_add(2)?)?);
    let room = block.len().saturating_sub(at) / 8;
    if count == 0 || count > limit || usize::from(limit) > room {
        return None;
    }
    let table = block.get(at..)?.chunks_exact(8).take(usize::from(count));
    let mut entries: Vec<(u32, u32)> = table
        .map(|entry| Some((get_le32(entry, 0)?, get_le32(entry, 4)? & 0x0fff_ffff)))
        .collect::<Option<_>>()?;
    entries.first_mut()?.0 = 0;
    entries.is_sorted_by_key(|(hash, _)| *hash).then_some(entries)
}

/// A name's hash, its lowest bit cleared: the index uses that for "continued". And a second one, for telling names of
/// the same hash apart.
fn hash(version: Version, signed: bool, parameters: HashParameters, name: &[u8]) -> (u32, u32) {
    let seed = if parameters.seed == [0; 4] {
        [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476]
    } else {
        parameters.seed
    };
    let (major, minor) = match version {
        Version::Legacy => (legacy(name, signed), 0),
        Version::HalfMd4 => {
            let mix = |state, (part, pad)| half_md4(state, words(part, pad, signed));
            let [_, major, minor, _] = chunks(name, 32).fold(seed, mix);
            (major, minor)
        }
        Version::Tea => {
            let mix = |state, (part, pad)| tea(state, words(part, pad, signed));
            let [major, minor, ..] = chunks(name, 16).fold(seed, mix);
            (major, minor)
        }
    };
    // The last value means "end of directory" to readers of the kernel's kind.
    let major = if major & !1 == 0xffff_fffe { 0xffff_fffc } else { major & !1 };
    (major, minor)
}

/// A byte as the C code that defined these hashes took it: as a `signed char`, or not.
fn character(byte: u8, signed: bool) -> u32 {
    if signed { i32::from(byte.cast_signed()).cast_unsigned() } else { u32::from(byte) }
}

/// The name in pieces of `size` bytes, each with its padding word: four times the length of what is left.
fn chunks(name: &[u8], size: usize) -> impl Iterator<Item = (&[u8], u32)> {
    name.chunks(size).enumerate().map(move |(nth, part)| {
        let left = name.len().saturating_sub(nth.saturating_mul(size));
        let byte = u32::try_from(left & 0xff).unwrap_or(0);
        // `len | len << 8` in C lets a length over 255 spill; names have at most 255 bytes.
        (part, byte.wrapping_mul(0x0101_0101))
    })
}

/// Packs a piece into big-endian words, filled up with `pad`.
fn words(part: &[u8], pad: u32, signed: bool) -> [u32; 8] {
    let mut words = [pad; 8];
    for (word, four) in words.iter_mut().zip(part.chunks(4)) {
        *word = four.iter().fold(pad, |word, byte| character(*byte, signed).wrapping_add(word << 8));
    }
    words
}

/// Three rounds of MD4 over eight words (RFC 1320, with half of each round).
fn half_md4(state: [u32; 4], x: [u32; 8]) -> [u32; 4] {
    const SQRT_2: u32 = 0x5a82_7999;
    const SQRT_3: u32 = 0x6ed9_eba1;
    type Mix = fn(u32, u32, u32) -> u32;
    const ROUNDS: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (|x, y, z| z ^ (x & (y ^ z)), 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (|x, y, z| (x & y).wrapping_add((x ^ y) & z), SQRT_2, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (|x, y, z| x ^ y ^ z, SQRT_3, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = state;
    for (mix, constant, order, shifts) in ROUNDS {
        for (word, shift) in order.iter().zip(shifts.iter().cycle()) {
            let word = x.get(*word).copied().unwrap_or(0);
            let turned =
                a.wrapping_add(mix(b, c, d)).wrapping_add(word).wrapping_add(constant).rotate_left(*shift);
            (a, b, c, d) = (d, turned, b, c);
        }
    }
    let [s0, s1, s2, s3] = state;
    [s0.wrapping_add(a), s1.wrapping_add(b), s2.wrapping_add(c), s3.wrapping_add(d)]
}

/// Sixteen rounds of the Tiny Encryption Algorithm over four words.
fn tea(state: [u32; 4], words: [u32; 8]) -> [u32; 4] {
    let [mut x, mut y, s2, s3] = state;
    let [a, b, c, d, ..] = words;
    let mut sum = 0_u32;
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        x = x.wrapping_add((y << 4).wrapping_add(a) ^ y.wrapping_add(sum) ^ (y >> 5).wrapping_add(b));
        y = y.wrapping_add((x << 4).wrapping_add(c) ^ x.wrapping_add(sum) ^ (x >> 5).wrapping_add(d));
    }
    let [s0, s1, ..] = state;
    [s0.wrapping_add(x), s1.wrapping_add(y), s2, s3]
}

/// The first hash there was.
fn legacy(name: &[u8], signed: bool) -> u32 {
    let (mut last, mut before) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
    for byte in name {
        let mut hash = before.wrapping_add(last ^ character(*byte, signed).wrapping_mul(7_152_373));
        if hash & 0x8000_0000 != 0 {
            hash = hash.wrapping_sub(0x7fff_ffff);
        }
        (before, last) = (last, hash);
    }
    last << 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_SEED: HashParameters = HashParameters { seed: [0; 4], signed: Some(true), version: 1 };

    #[test]
    fn a_table_that_lies_about_its_count_is_not_trusted() {
        let mut block = vec![0; 64];
        block[8..12].copy_from_slice(&[7, 0, 8, 0]);
        assert_eq!(entries(&block, 8), None);
        block[8..12].copy_from_slice(&[200, 0, 1, 0]);
        assert_eq!(entries(&block, 8), None);
        block[8..12].copy_from_slice(&[7, 0, 1, 0]);
        assert_eq!(entries(&block, 8), Some(vec![(0, 0)]));
    }

    /// From `debugfs -R "dx_hash -h VERSION NAME"` of e2fsprogs 1.47.0; the last column with
    /// `-s 01234567-89ab-cdef-0123-456789abcdef`, half_md4.
    #[test]
    fn hashes_are_those_of_e2fsprogs() {
        let seeded = HashParameters {
            seed: [0x6745_2301, 0xefcd_ab89, 0x6745_2301, 0xefcd_ab89],
            signed: Some(true),
            version: 1,
        };
        let table: &[(&str, usize, [u32; 4])] = &[
            ("a", 1, [0xe74b_53e2, 0xd5fa_7d7a, 0x6d0e_a4c0, 0x35dc_0cc4]),
            ("hello", 1, [0x3225_2546, 0x1746_da32, 0x6f5b_b1a8, 0xa26e_4a80]),
            ("file-000123", 1, [0x4b49_d8a0, 0x8dfb_f1d0, 0xc7b7_8c3a, 0x4017_bdd0]),
            ("x", 31, [0xa365_191c, 0x4157_98c2, 0x8538_4aa4, 0x05bd_533c]),
            ("y", 32, [0x7158_6034, 0x8036_bd46, 0xc4e9_4f42, 0x3e29_de84]),
            ("z", 33, [0x7851_e27c, 0xb8a2_7f84, 0x54d3_1c78, 0x3cd3_8f30]),
            ("n", 255, [0x88e1_750a, 0xc0f8_fde8, 0x0415_6e7c, 0x3df4_c112]),
            ("0123456789abcdef", 1, [0x415c_16fe, 0x8cb5_02b6, 0x5a07_88b2, 0x26e7_43f8]),
            ("0123456789abcdef0", 1, [0x4d58_3fb0, 0x0e50_885a, 0x2460_62c0, 0x457a_d888]),
        ];
        for (unit, times, expected) in table {
            let name = unit.repeat(*times).into_bytes();
            let ours = [
                hash(Version::Legacy, true, NO_SEED, &name).0,
                hash(Version::HalfMd4, true, NO_SEED, &name).0,
                hash(Version::Tea, true, NO_SEED, &name).0,
                hash(Version::HalfMd4, true, seeded, &name).0,
            ];
            assert_eq!(ours, *expected, "{unit} {times} times");
        }
    }
}
