//! A node of a tree: a leaf with items, or an inner node with pointers to nodes.
//!
//! ```text
//! header (101 bytes) │ key, offset, size │ key, offset, size │ …  free  … │ data │ data     a leaf
//! header (101 bytes) │ key, address, generation │ key, address, generation │ …             an inner node
//! ```
//! A node is looked at once, when it comes from the disk: its checksum, its own address, and that its keys ascend and its
//! items lie inside it. After that its parts are found without a further doubt.
//!
//! btrfs on-disk format, "Header", "Leaf nodes", "Internal nodes".

use super::key::Key;
use super::sum::Sum;
use super::superblock::MAX_LEVEL;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le32, get_le64};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Bytes of the header, of a leaf's record of an item, of an inner node's pointer.
const HEADER: usize = 101;
const ITEM: usize = 25;
const POINTER: usize = 33;

/// Bytes shared with the cache, or kept in memory for a log.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    all: Arc<Vec<u8>>,
    part: Range<usize>,
}

impl Bytes {
    pub(super) fn part(all: &Arc<Vec<u8>>, part: Range<usize>) -> Self {
        Self { all: Arc::clone(all), part }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let part = 0..bytes.len();
        Self { all: Arc::new(bytes), part }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.all.get(self.part.clone()).unwrap_or_default()
    }
}

/// What an inner node says of the node below.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pointer {
    /// Its first key.
    pub(super) key: Key,
    /// Its logical byte.
    pub(super) at: u64,
    /// The commit that wrote it.
    pub(super) generation: u64,
}

/// An item of a leaf.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) key: Key,
    pub(super) data: Bytes,
    /// The logical byte where its data lies; `None` for what a log put there.
    pub(super) at: Option<u64>,
}

/// A node whose form is sound.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its logical byte.
    pub(super) at: u64,
    bytes: Bytes,
}

/// Is the node that was read for logical byte `at` sound? If not, why.
pub(super) fn fault(bytes: &[u8], at: u64, sum: Sum) -> Option<String> {
    let Some((head, rest)) = bytes.split_at_checked(32) else { return Some("is too short".to_owned()) };
    if !sum.matches(rest, head) {
        return Some(format!("its {} checksum does not match", sum.name()));
    }
    if get_le64(bytes, 48) != Some(at) {
        return Some(format!("says that it lies at {:#x}", get_le64(bytes, 48).unwrap_or(0)));
    }
    let level = bytes.get(100).copied().unwrap_or(u8::MAX);
    if level >= MAX_LEVEL {
        return Some(format!("is of level {level}"));
    }
    let (count, record) = (count(bytes), if level == 0 { ITEM } else { POINTER });
    let records = HEADER.saturating_add(count.saturating_mul(record));
    if records > bytes.len() || (level > 0 && count == 0) {
        return Some(format!("has {count} entries"));
    }
    let mut last = None;
    for n in 0..count {
        let at = HEADER.saturating_add(n.saturating_mul(record));
        let key = Key::parse(bytes, at);
        if key <= last {
            return Some(format!("entry {n} does not come after the one before it"));
        }
        last = key;
        if level == 0 {
            let field = |by: usize| get_le32(bytes, at.saturating_add(by)).map_or(u64::MAX, u64::from);
            let start = wide(HEADER).saturating_add(field(17));
            if start < wide(records) || start.saturating_add(field(21)) > wide(bytes.len()) {
                return Some(format!("the data of entry {n} lies outside"));
            }
        }
    }
    None
}

/// Is it another version of the node than the one that commit `generation` wrote? Then how.
pub(super) fn missed(bytes: &[u8], generation: u64) -> Option<String> {
    let found = get_le64(bytes, 80)?;
    (found != generation).then(|| format!("is of commit {found}, {generation} was expected"))
}

fn count(bytes: &[u8]) -> usize {
    get_le32(bytes, 96).map_or(0, |count| narrow(count.into()))
}

impl Node {
    /// The node in `bytes`, in which [`fault`] found none.
    pub(super) const fn new(at: u64, bytes: Bytes) -> Self {
        Self { at, bytes }
    }

    pub(super) fn level(&self) -> u8 {
        self.bytes.get(100).copied().unwrap_or(0)
    }

    pub(super) fn generation(&self) -> u64 {
        get_le64(&self.bytes, 80).unwrap_or(0)
    }

    /// The tree that it was written for.
    pub(super) fn owner(&self) -> u64 {
        get_le64(&self.bytes, 88).unwrap_or(0)
    }

    /// The UUID of the file system that it was written for.
    pub(super) fn fsid(&self) -> &[u8] {
        self.bytes.get(32..48).unwrap_or_default()
    }

    /// Entries in it.
    pub(super) fn len(&self) -> usize {
        count(&self.bytes)
    }

    fn record(&self, n: usize) -> Option<usize> {
        let size = if self.level() == 0 { ITEM } else { POINTER };
        (n < self.len()).then(|| HEADER.saturating_add(n.saturating_mul(size)))
    }

    /// The key of entry `n`.
    pub(super) fn key(&self, n: usize) -> Option<Key> {
        Key::parse(&self.bytes, self.record(n)?)
    }

    /// Pointer `n` of an inner node.
    pub(super) fn pointer(&self, n: usize) -> Option<Pointer> {
        let at = self.record(n)?;
        Some(Pointer {
            key: Key::parse(&self.bytes, at)?,
            at: get_le64(&self.bytes, at.saturating_add(17))?,
            generation: get_le64(&self.bytes, at.saturating_add(25))?,
        })
    }

    /// Item `n` of a leaf.
    pub(super) fn item(&self, n: usize) -> Option<Item> {
        let at = self.record(n)?;
        let field = |by: usize| get_le32(&self.bytes, at.saturating_add(by)).map(|v| narrow(v.into()));
        let (start, len) = (HEADER.saturating_add(field(17)?), field(21)?);
        let from = self.bytes.part.start.saturating_add(start);
        Some(Item {
            key: Key::parse(&self.bytes, at)?,
            data: Bytes::part(&self.bytes.all, from..from.saturating_add(len)),
            at: Some(self.at.saturating_add(wide(start))),
        })
    }

    /// How many of its keys are below `key`.
    pub(super) fn below(&self, key: Key) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle).is_some_and(|found| found < key) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of the test's own")]
mod tests {
    use super::*;
    use crate::checksum::crc32c;

    /// A leaf of 512 bytes at logical byte 4096 with these keys, each with its number as data.
    fn leaf(keys: &[Key]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[48..56].copy_from_slice(&4096_u64.to_le_bytes());
        bytes[96] = u8::try_from(keys.len()).unwrap();
        for (n, key) in keys.iter().enumerate() {
            let (at, data) = (HEADER + n * ITEM, 500 - n);
            bytes[at..at + 17].copy_from_slice(&key.bytes());
            bytes[at + 17..at + 21].copy_from_slice(&u32::try_from(data - HEADER).unwrap().to_le_bytes());
            bytes[at + 21] = 1;
            bytes[data] = u8::try_from(n).unwrap();
        }
        stamp(&mut bytes);
        bytes
    }

    fn stamp(bytes: &mut [u8]) {
        let sum = crc32c(&[&bytes[32..]]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
    }

    #[test]
    fn items_are_found_by_their_keys() {
        let keys = [Key::new(1, 2, 3), Key::new(1, 2, 9), Key::new(4, 0, 0)];
        let bytes = leaf(&keys);
        assert_eq!(fault(&bytes, 4096, Sum::Crc32c), None);
        let node = Node::new(4096, bytes.into());
        assert_eq!((node.len(), node.below(Key::new(1, 2, 4)), node.below(Key::new(9, 0, 0))), (3, 1, 3));
        let item = node.item(1).unwrap();
        assert_eq!((item.key, &*item.data, item.at), (keys[1], [1_u8].as_slice(), Some(4096 + 499)));
        assert!(node.item(3).is_none());
    }

    #[test]
    fn what_is_unsound_is_seen() {
        let keys = [Key::new(1, 2, 3), Key::new(1, 2, 9)];
        let broken = |change: &dyn Fn(&mut Vec<u8>), stamped: bool| {
            let mut bytes = leaf(&keys);
            change(&mut bytes);
            if stamped {
                stamp(&mut bytes);
            }
            fault(&bytes, 4096, Sum::Crc32c).unwrap()
        };
        assert!(broken(&|b| b[400] = 1, false).contains("checksum"));
        assert!(broken(&|b| b[48] = 1, true).contains("lies at"));
        assert!(broken(&|b| b[96] = 200, true).contains("entries"));
        assert!(broken(&|b| b[100] = 8, true).contains("level"));
        assert!(broken(&|b| b[HEADER] = 9, true).contains("entry 1 does not come after"));
        assert!(broken(&|b| b[HEADER + 18] = 0xff, true).contains("outside"));
        assert!(broken(&|b| b[HEADER + 21] = 0xff, true).contains("outside"));
    }
}
