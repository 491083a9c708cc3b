//! Metadata blocks, kept for a while: a small cache in front of the volume, so that a walk over a hundred thousand
//! files takes few reads. File data never enters it. Every file system reads its structures through one.
//!
//! Inode tables, directories and descriptors are read in pieces of 64 KiB ([`Meta::near`]), because their neighbours are
//! wanted next; blocks whose neighbours are file data alone ([`Meta::block`]).

use crate::block::{BlockSource, check_range};
use crate::error::Result;
use crate::num::narrow;
use lru::LruCache;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes read at once where neighbours are wanted. Blocks, inodes and descriptors have sizes that are powers of two
/// up to this. Most lie at multiples of them, so none of these straddles two pieces; what does, such as a directory block
/// of XFS that is larger than a block of the file system, is read alone.
const PIECE: u64 = 64 << 10;
const SHARDS: u64 = 8;
/// Bytes kept by each shard: 4 MiB in all.
const SHARD_BYTES: usize = 512 << 10;

struct Shard {
    kept: LruCache<Range<u64>, Arc<Vec<u8>>>,
    bytes: usize,
}

/// A volume's metadata.
pub(super) struct Meta {
    volume: Arc<dyn BlockSource>,
    shards: Vec<Mutex<Shard>>,
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meta({:?})", self.volume)
    }
}

/// Bytes of the volume, shared with the cache.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    all: Arc<Vec<u8>>,
    part: Range<usize>,
}

impl From<Vec<u8>> for Bytes {
    /// Bytes that were made here, not read.
    fn from(all: Vec<u8>) -> Self {
        let part = 0..all.len();
        Self { all: Arc::new(all), part }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.all.get(self.part.clone()).unwrap_or_default()
    }
}

impl Bytes {
    /// A part of them; `None` where it is not inside.
    pub(super) fn slice(&self, part: Range<usize>) -> Option<Self> {
        self.get(part.clone())?;
        let start = self.part.start.checked_add(part.start)?;
        Some(Self { all: Arc::clone(&self.all), part: start..start.checked_add(part.len())? })
    }
}

impl Meta {
    pub(super) fn new(volume: Arc<dyn BlockSource>) -> Self {
        let shard = || Mutex::new(Shard { kept: LruCache::unbounded(), bytes: 0 });
        Self { volume, shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// The volume below.
    pub(super) const fn volume(&self) -> &Arc<dyn BlockSource> {
        &self.volume
    }

    /// These bytes, alone.
    ///
    /// # Errors
    /// `OutOfRange` past the volume's end; what it reports.
    pub(super) fn block(&self, offset: u64, len: u64) -> Result<Bytes> {
        check_range(offset, narrow(len), self.volume.len())?;
        let all = self.get(offset..offset.saturating_add(len))?;
        let part = 0..all.len();
        Ok(Bytes { all, part })
    }

    /// These bytes, read together with their neighbours.
    ///
    /// # Errors
    /// `OutOfRange` past the volume's end; what it reports.
    pub(super) fn near(&self, offset: u64, len: u64) -> Result<Bytes> {
        check_range(offset, narrow(len), self.volume.len())?;
        let skip = offset % PIECE;
        let start = offset.saturating_sub(skip);
        let end = start.saturating_add(PIECE).min(self.volume.len());
        if offset.saturating_add(len) > end {
            return self.block(offset, len);
        }
        match self.get(start..end) {
            Ok(all) => Ok(Bytes { all, part: narrow(skip)..narrow(skip.saturating_add(len)) }),
            // A neighbour that cannot be read must not spoil this one.
            Err(_) => self.block(offset, len),
        }
    }

    fn get(&self, range: Range<u64>) -> Result<Arc<Vec<u8>>> {
        let mut hasher = DefaultHasher::new();
        range.start.hash(&mut hasher);
        let shard = self.shards.get(narrow(hasher.finish() % SHARDS)).expect("the remainder is below SHARDS");
        if let Some(bytes) = lock(shard).kept.get(&range) {
            return Ok(Arc::clone(bytes));
        }
        // Of what `block` and `near` are asked for the largest are an inode's attributes in erofs, 256 KiB: sixteen bits
        // count words of four bytes. Else a block or a piece, 64 KiB.
        let mut bytes = vec![0; narrow(range.end.saturating_sub(range.start))];
        self.volume.read_at(&mut bytes, range.start)?;
        let bytes = Arc::new(bytes);
        let mut shard = lock(shard);
        if shard.kept.put(range, Arc::clone(&bytes)).is_none() {
            shard.bytes = shard.bytes.saturating_add(bytes.len());
        }
        while shard.bytes > SHARD_BYTES {
            let Some((_, oldest)) = shard.kept.pop_lru() else { break };
            shard.bytes = shard.bytes.saturating_sub(oldest.len());
        }
        Ok(bytes)
    }

    /// Bytes kept now.
    #[cfg(test)]
    fn held(&self) -> u64 {
        self.shards.iter().map(|shard| crate::num::wide(lock(shard).bytes)).sum()
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Nothing panics while a shard is locked; were it to, a miscounted byte is all that could be wrong.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Zeros;

    #[test]
    fn memory_stays_bounded_over_a_large_volume() {
        let meta = Meta::new(Arc::new(Zeros(1 << 40)));
        for piece in 0..1000 {
            assert_eq!(meta.near(piece << 20, 4096).unwrap().len(), 4096);
            assert_eq!(meta.block((piece << 20) + (512 << 10), 65536).unwrap().len(), 65536);
        }
        assert!(meta.held() <= 4 << 20 && meta.held() > 1 << 20, "{}", meta.held());
    }

    #[test]
    fn the_last_piece_of_a_volume_may_be_short() {
        let meta = Meta::new(Arc::new(Zeros(70_000)));
        assert_eq!(meta.near(65_536, 1024).unwrap().len(), 1024);
        assert!(meta.near(69_632, 1024).is_err());
    }
}
