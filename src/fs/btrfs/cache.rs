//! Nodes, kept for a while. They are read together with their neighbours, because the nodes of a tree lie beside each
//! other more often than not; each is looked at once, when it is first asked for.

use super::chunk::{Chunks, STRIPE_LEN};
use super::device::Devices;
use super::node::{Bytes, Node, fault, missed};
use super::sum::Sum;
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::num::narrow;
use lru::LruCache;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: u64 = 8;
/// Bytes kept by each shard: 16 MiB in all.
const SHARD_BYTES: usize = 2 << 20;

/// Which bytes a [`Piece`] holds. A stretch may be one node long: what was not looked at must not be taken for what was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    /// The stretch that begins at this logical byte, as the first copy has it. Its nodes are looked at when asked for.
    Stretch(u64),
    /// The node at this logical byte, looked at, of whichever copy was sound.
    Alone(u64),
}

/// A stretch of the address space: a node, or several.
#[derive(Debug)]
struct Piece {
    bytes: Arc<Vec<u8>>,
    /// One bit for each node in it that was looked at and is sound.
    sound: AtomicU64,
}

struct Shard {
    kept: LruCache<Which, Arc<Piece>>,
    bytes: usize,
}

/// The nodes of a file system.
pub(super) struct Nodes {
    shards: Vec<Mutex<Shard>>,
    size: u32,
    sum: Sum,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nodes of {} bytes", self.size)
    }
}

impl Nodes {
    /// Of nodes with so many bytes, a power of two up to 64 KiB.
    pub(super) fn new(size: u32, sum: Sum) -> Self {
        let shard = || Mutex::new(Shard { kept: LruCache::unbounded(), bytes: 0 });
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), size, sum }
    }

    /// The node at logical byte `at`, of which commit `generation` wrote the version that is wanted: a copy may have
    /// missed it.
    ///
    /// # Errors
    /// `Corrupt` with the address when no copy of it is sound; what the devices report.
    pub(super) fn get(&self, devices: &Devices, chunks: &Chunks, at: u64, generation: u64) -> Result<Node> {
        let size = u64::from(self.size);
        // Where its stretch of 64 KiB begins; it ends with the stripe, so it lies on one device.
        let place = chunks.locate(at)?;
        let skip = place.into.rem_euclid(STRIPE_LEN);
        let start = at.saturating_sub(skip);
        let len = skip.saturating_add(place.len).min(STRIPE_LEN);
        // In a sound file system no node straddles two stretches. One that does is read alone.
        if skip.is_multiple_of(size)
            && skip.saturating_add(size) <= len
            && let Some(node) = self.near(devices, chunks, at, start, len)
            && node.generation() == generation
        {
            return Ok(node);
        }
        if place.len < size {
            let at = At::new("btrfs", "logical address").byte(at);
            return Err(Error::corrupt(at).because("a node that goes past the end of its chunk or stripe"));
        }
        let key = Which::Alone(at);
        // Another parent may have asked for another version.
        let piece = match self.kept(key).filter(|piece| missed(&piece.bytes, generation).is_none()) {
            Some(piece) => piece,
            None => {
                let mut bytes = vec![0; narrow(size)];
                devices.read(chunks, at, &mut bytes, self.size, &Budget::request(), &|_, bytes| {
                    let why = fault(bytes, at, self.sum).or_else(|| missed(bytes, generation))?;
                    Some((0, bytes.len(), why))
                })?;
                self.keep(key, bytes)
            }
        };
        Ok(Node::new(at, Bytes::part(&piece.bytes, 0..piece.bytes.len())))
    }

    /// The node, read with its neighbours; `None` when that cannot be done or the copy that was read is not sound.
    fn near(&self, devices: &Devices, chunks: &Chunks, at: u64, start: u64, len: u64) -> Option<Node> {
        let key = Which::Stretch(start);
        let piece = match self.kept(key) {
            Some(piece) => piece,
            None => {
                let mut bytes = vec![0; narrow(len)];
                devices.read(chunks, start, &mut bytes, self.size, &Budget::request(), &|_, _| None).ok()?;
                self.keep(key, bytes)
            }
        };
        let skip = at.saturating_sub(start);
        let part = narrow(skip)..narrow(skip.saturating_add(self.size.into()));
        // 16 nodes of 4 KiB at most.
        let bit = 1_u64.checked_shl(u32::try_from(skip.div_euclid(self.size.into())).ok()?)?;
        if piece.sound.load(Ordering::Relaxed) & bit == 0 {
            if fault(piece.bytes.get(part.clone())?, at, self.sum).is_some() {
                return None;
            }
            piece.sound.fetch_or(bit, Ordering::Relaxed);
        }
        Some(Node::new(at, Bytes::part(&piece.bytes, part)))
    }

    fn shard(&self, key: Which) -> MutexGuard<'_, Shard> {
        let (Which::Stretch(at) | Which::Alone(at)) = key;
        let shard = self.shards.get(narrow((at >> 16) % SHARDS)).expect("the remainder is below SHARDS");
        // Nothing panics while a shard is locked; were it to, a miscounted byte is all that could be wrong.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, key: Which) -> Option<Arc<Piece>> {
        self.shard(key).kept.get(&key).map(Arc::clone)
    }

    fn keep(&self, key: Which, bytes: Vec<u8>) -> Arc<Piece> {
        let piece = Arc::new(Piece { bytes: Arc::new(bytes), sound: AtomicU64::new(0) });
        let mut shard = self.shard(key);
        let before = shard.kept.put(key, Arc::clone(&piece)).map_or(0, |before| before.bytes.len());
        shard.bytes = shard.bytes.saturating_add(piece.bytes.len()).saturating_sub(before);
        while shard.bytes > SHARD_BYTES {
            let Some((_, oldest)) = shard.kept.pop_lru() else { break };
            shard.bytes = shard.bytes.saturating_sub(oldest.bytes.len());
        }
        piece
    }
}
