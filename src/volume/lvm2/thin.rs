//! Thin volumes: a pool's metadata say, chunk by chunk, where in the pool's data each volume's bytes lie.
//!
//! ```text
//! block 0  superblock ──▶ mapping tree: volume number ──▶ tree: chunk of the volume ──▶ chunk of the data, time
//! ```
//! Trees of 4 KiB nodes, each with its own checksum. Linux 6.18, `drivers/md/dm-thin-metadata.c` and
//! `drivers/md/persistent-data/dm-btree-internal.h`. A chunk without an entry reads as zero, or as the external origin.

use crate::block::{BlockSource, Layout, Place, Run};
use crate::checksum::crc32c;
use crate::engine::{Mapper, Units};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le32, get_le64};
use std::fmt;
use std::sync::Arc;

/// Bytes in a block of the metadata (`THIN_METADATA_BLOCK_SIZE`).
const BLOCK: u64 = 4096;
/// `THIN_SUPERBLOCK_MAGIC`.
const MAGIC: u64 = 27_022_010;
/// What checksums are combined with, so that a block of one kind is not taken for another's.
const SUPERBLOCK_SALT: u32 = 160_774;
const NODE_SALT: u32 = 121_107;
/// Levels of a tree: of 126 entries a node, ten would map more than 2^64 chunks.
const MAX_LEVELS: u32 = 12;
/// A node's header, and an entry's key with its value.
const HEADER: usize = 32;
/// Bytes in a chunk of the data: 64 KiB to 1 GiB.
const CHUNKS: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Entries looked at to make one run longer.
const MERGE: usize = 256;

fn bad(block: u64, why: impl Into<String>) -> Error {
    let at = At::new("thin pool", "metadata block").index(block).byte(block.saturating_mul(BLOCK));
    Error::corrupt(at).because(why)
}

/// A pool: its metadata and its data.
pub(super) struct Pool {
    meta: Arc<dyn BlockSource>,
    data: Arc<dyn BlockSource>,
    nodes: Units,
    /// The tree of all volumes.
    root: u64,
    /// Bytes.
    chunk: u64,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({:?})", self.data)
    }
}

/// Checks a block's checksum: of all behind it.
fn verify(bytes: &[u8], salt: u32) -> Result<(), (u32, u32)> {
    let computed = !crc32c(&[bytes.get(4..).unwrap_or_default()]) ^ salt;
    let stored = get_le32(bytes, 0).unwrap_or(0);
    if stored == computed { Ok(()) } else { Err((stored, computed)) }
}

/// A node of a tree.
struct Node {
    bytes: Arc<Vec<u8>>,
    is_leaf: bool,
    count: usize,
    values: usize,
}

impl Node {
    fn parse(bytes: Arc<Vec<u8>>, block: u64) -> Result<Self> {
        let flags = get_le32(&bytes, 4).unwrap_or(0);
        let (count, most) = (get_le32(&bytes, 16).unwrap_or(0), get_le32(&bytes, 20).unwrap_or(0));
        let size = get_le32(&bytes, 24).unwrap_or(0);
        let values = narrow(u64::from(most)).saturating_mul(8).saturating_add(HEADER);
        let end = narrow(u64::from(most)).saturating_mul(8).saturating_add(values);
        if get_le64(&bytes, 8) != Some(block) || size != 8 || count > most || end > bytes.len() {
            return Err(bad(
                block,
                format!(
                    "a node of {count} in {most} entries of {size} bytes, which says where it belongs wrongly or does not fit"
                ),
            ));
        }
        if !matches!(flags & 3, 1 | 2) {
            return Err(bad(block, "a node that is neither inner nor leaf"));
        }
        Ok(Self { bytes, is_leaf: flags & 2 != 0, count: narrow(u64::from(count)), values })
    }

    fn key(&self, at: usize) -> Option<u64> {
        (at < self.count).then(|| get_le64(&self.bytes, at.saturating_mul(8).saturating_add(HEADER)))?
    }

    fn value(&self, at: usize) -> Option<u64> {
        (at < self.count).then(|| get_le64(&self.bytes, at.saturating_mul(8).saturating_add(self.values)))?
    }

    /// The first entry behind `key`, by halving.
    fn behind(&self, key: u64) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle).is_some_and(|other| other <= key) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Where a key was looked for in a tree.
struct Found {
    leaf: Node,
    /// The entry of that key, if it has one.
    entry: Option<usize>,
    /// The first key behind it, as far as the way down tells; none if there is no other.
    next: Option<u64>,
}

impl Pool {
    /// Opens a pool whose chunks have as many bytes as its group says.
    ///
    /// # Errors
    /// `Corrupt` when the superblock's checksum is wrong or its numbers make no sense.
    pub(super) fn open(
        meta: Arc<dyn BlockSource>,
        data: Arc<dyn BlockSource>,
        chunk: u64,
        mapper: &Mapper,
    ) -> Result<Self> {
        let mut bytes = vec![0; narrow(BLOCK)];
        meta.read_at(&mut bytes, 0)?;
        if get_le64(&bytes, 32) != Some(MAGIC) {
            return Err(bad(0, "no superblock: the pool was never activated"));
        }
        verify(&bytes, SUPERBLOCK_SALT).map_err(|(stored, computed)| {
            bad(0, format!("its checksum is {computed:#010x}, it says {stored:#010x}"))
        })?;
        let version = get_le32(&bytes, 40).unwrap_or(0);
        if !matches!(version, 1 | 2) {
            return Err(Error::unsupported(format!("thin pool metadata of version {version}")));
        }
        let incompatible = get_le32(&bytes, 360).unwrap_or(0);
        if incompatible != 0 {
            return Err(Error::unsupported(format!(
                "thin pool metadata with incompatible features {incompatible:#x}"
            )));
        }
        let own = u64::from(get_le32(&bytes, 336).unwrap_or(0)).saturating_mul(512);
        if own != chunk || !CHUNKS.contains(&chunk) {
            return Err(bad(0, format!("chunks of {own} bytes, the volume group says {chunk}")));
        }
        let root = get_le64(&bytes, 320).unwrap_or(0);
        Ok(Self { meta, data, nodes: mapper.units(), root, chunk })
    }

    fn node(&self, block: u64) -> Result<Node> {
        let bytes = self.nodes.get(block, || {
            let mut bytes = vec![0; narrow(BLOCK)];
            let start = block.checked_mul(BLOCK).ok_or_else(|| bad(block, "no such block"))?;
            self.meta.read_at(&mut bytes, start)?;
            verify(&bytes, NODE_SALT).map_err(|(stored, computed)| {
                bad(block, format!("its checksum is {computed:#010x}, it says {stored:#010x}"))
            })?;
            Ok(bytes)
        })?;
        Node::parse(bytes, block)
    }

    /// Goes down a tree to where `key` would be.
    fn find(&self, root: u64, key: u64) -> Result<Found> {
        let mut block = root;
        let mut next = None;
        for _ in 0..MAX_LEVELS {
            let node = self.node(block)?;
            let behind = node.behind(key);
            next = node.key(behind).or(next);
            if node.is_leaf {
                let entry = behind.checked_sub(1).filter(|at| node.key(*at) == Some(key));
                return Ok(Found { leaf: node, entry, next });
            }
            // What lies before the first key is before the first child too.
            match node.value(behind.saturating_sub(1)) {
                Some(child) => block = child,
                None => return Err(bad(block, "an inner node without entries")),
            }
        }
        Err(bad(root, format!("a tree deeper than {MAX_LEVELS} levels")))
    }

    /// The volume of a number, as a source of `size` bytes.
    ///
    /// # Errors
    /// `Corrupt` when the pool does not know it.
    pub(super) fn volume(
        self: Arc<Self>,
        number: u64,
        size: u64,
        origin: Option<Arc<dyn BlockSource>>,
        mapper: &Mapper,
    ) -> Result<Arc<dyn BlockSource>> {
        let found = self.find(self.root, number)?;
        let root = found.entry.and_then(|at| found.leaf.value(at));
        // A volume that was made and never written has an entry too: an empty tree.
        let root = root.ok_or_else(|| bad(self.root, format!("the pool has no volume {number}")))?;
        let files = [Arc::clone(&self.data)];
        Ok(mapper.map(Thin { pool: self, files, root, size, origin }))
    }
}

#[derive(Debug)]
struct Thin {
    pool: Arc<Pool>,
    files: [Arc<dyn BlockSource>; 1],
    root: u64,
    size: u64,
    origin: Option<Arc<dyn BlockSource>>,
}

impl Layout for Thin {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let chunk = self.pool.chunk;
        let (number, skip) = (offset.checked_div(chunk).unwrap_or(0), offset.checked_rem(chunk).unwrap_or(0));
        let found = self.pool.find(self.root, number)?;
        let Some(first) = found.entry else {
            let until =
                found.next.filter(|next| *next > number).map_or(self.size, |next| next.saturating_mul(chunk));
            let place = if self.origin.is_some() { Place::Parent } else { Place::Hole };
            return Ok(Run { len: until.min(self.size).saturating_sub(offset), place });
        };
        // The upper 40 bits are the chunk of the data, the lower 24 the time it was written.
        let place = |at: usize| found.leaf.value(at).map(|value| value >> 24);
        let start = place(first).ok_or_else(|| bad(self.root, "an entry without a value"))?;
        let follows = (first..).zip(0_u64..).take(MERGE).take_while(|(at, more)| {
            found.leaf.key(*at) == number.checked_add(*more) && place(*at) == start.checked_add(*more)
        });
        let len = wide(follows.count()).max(1).saturating_mul(chunk).saturating_sub(skip);
        let [data] = &self.files;
        let begin = start.saturating_mul(chunk).saturating_add(skip);
        if begin >= data.len() {
            return Err(bad(
                self.root,
                format!("chunk {number} lies in chunk {start}, which is not in the pool's data"),
            ));
        }
        Ok(Run { len, place: Place::Stored { file: 0, offset: begin } })
    }

    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        self.origin.as_ref()
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(self.pool.chunk).unwrap_or(u32::MAX)
    }
}
