//! The bins of a hive as they would be after its logs had been played back: the file, and pages of the logs in front of
//! it. Read through a small cache, because the cells of a key lie near each other.

use super::base;
use super::file::Bytes;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::num::{narrow, wide};
use lru::LruCache;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes read at once.
const PIECE: u64 = 32 << 10;
/// Pieces kept: 4 MiB.
const KEPT: NonZeroUsize = NonZeroUsize::new(128).expect("it is not zero");

/// What a page of a log takes in memory: where it belongs, twice as much in a map that is half empty; and once more while
/// its entry is read.
const EACH: u64 = 128;

/// Bytes of a log in place of those of the hive.
#[derive(Clone, Copy, Debug)]
struct Patch {
    len: u64,
    /// Which log.
    log: usize,
    /// Where in it.
    from: u64,
}

/// Which bytes of the bins lie in a log.
#[derive(Clone, Debug, Default)]
pub(super) struct Patches(BTreeMap<u64, Patch>);

impl Patches {
    /// Pays for `count` of them.
    ///
    /// # Errors
    /// `Limit` for more than memory should hold.
    pub(super) fn pay(count: u64, budget: &Budget) -> Result<()> {
        budget.steps("registry log pages", count)?;
        budget.charge("registry log pages", count.saturating_mul(EACH))
    }

    /// Bytes `offset..offset + len` are those at `from` in the log; what was there before is covered.
    pub(super) fn put(&mut self, offset: u64, len: u64, log: usize, from: u64) {
        let end = offset.saturating_add(len);
        // One that begins before it may reach into it, and even past it.
        if let Some((start, before)) =
            self.0.range(..offset).next_back().map(|(start, patch)| (*start, *patch))
        {
            let reach = start.saturating_add(before.len);
            if reach > offset {
                self.0.insert(start, Patch { len: offset.saturating_sub(start), ..before });
            }
            if reach > end {
                self.0.insert(end, before.tail(end.saturating_sub(start)));
            }
        }
        while let Some((start, inside)) =
            self.0.range(offset..end).next().map(|(start, patch)| (*start, *patch))
        {
            self.0.remove(&start);
            if start.saturating_add(inside.len) > end {
                self.0.insert(end, inside.tail(end.saturating_sub(start)));
            }
        }
        self.0.insert(offset, Patch { len, log, from });
    }

    /// Those that have bytes of `offset..end`.
    fn over(&self, offset: u64, end: u64) -> impl Iterator<Item = (u64, Patch)> {
        let first = self
            .0
            .range((Bound::Unbounded, Bound::Included(offset)))
            .next_back()
            .map_or(offset, |(start, _)| *start);
        let reaches = move |(start, patch): &(u64, Patch)| start.saturating_add(patch.len) > offset;
        self.0.range(first..end.max(first)).map(|(start, patch)| (*start, *patch)).filter(reaches)
    }
}

impl Patch {
    /// What is left of it without its first bytes.
    const fn tail(self, skip: u64) -> Self {
        Self { len: self.len.saturating_sub(skip), from: self.from.saturating_add(skip), ..self }
    }
}

/// The bins of one hive.
pub(super) struct Bins {
    primary: Arc<dyn Bytes>,
    logs: Vec<Arc<dyn Bytes>>,
    patches: Patches,
    /// Bytes in all of them.
    len: u64,
    kept: Mutex<LruCache<u64, Arc<Vec<u8>>>>,
}

impl fmt::Debug for Bins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bins({} bytes, {} of them in the file)", self.len, self.in_file())
    }
}

impl Bins {
    pub(super) fn new(
        primary: Arc<dyn Bytes>,
        logs: Vec<Arc<dyn Bytes>>,
        patches: Patches,
        len: u64,
    ) -> Self {
        Self { primary, logs, patches, len, kept: Mutex::new(LruCache::new(KEPT)) }
    }

    /// Bytes in all of them.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buf` from `offset` on. What is in no file ([`Bins::lack`]) is zeros.
    ///
    /// # Errors
    /// Past the last bin, or where it cannot be read.
    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let (mut offset, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let piece = self.piece(offset.checked_div(PIECE).unwrap_or(0))?;
            let inside = piece.get(narrow(offset % PIECE)..).unwrap_or_default();
            let (now, later) = rest.split_at_mut(inside.len().min(rest.len()));
            let Some(from) = inside.get(..now.len()).filter(|from| !from.is_empty()) else {
                return Err(Error::out_of_range(offset, 1, self.len));
            };
            now.copy_from_slice(from);
            offset = offset.saturating_add(wide(now.len()));
            rest = later;
        }
        Ok(())
    }

    /// Why some of these bytes are in no file and no log; `None` if all are.
    pub(super) fn lack(&self, offset: u64, len: u64) -> Option<String> {
        let Some(end) = offset.checked_add(len).filter(|end| *end <= self.len) else {
            return Some(format!(
                "{len} bytes, but the bins end at {:#x}",
                self.len.saturating_add(base::SIZE)
            ));
        };
        let mut have = self.in_file();
        if end > have {
            for (start, patch) in self.patches.over(offset.max(have), end) {
                if start > have.max(offset) {
                    break;
                }
                have = start.saturating_add(patch.len);
            }
        }
        (end > have).then(|| format!("{len} bytes, but the file ends before them"))
    }

    /// Bytes of the bins that the hive's own file has.
    fn in_file(&self) -> u64 {
        self.primary.len().saturating_sub(base::SIZE)
    }

    /// A piece by its number, shorter at the end of the bins.
    fn piece(&self, number: u64) -> Result<Arc<Vec<u8>>> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = lock().get(&number) {
            return Ok(Arc::clone(piece));
        }
        let start = number.saturating_mul(PIECE);
        let end = start.saturating_add(PIECE).min(self.len);
        let mut piece = vec![0; narrow(end.saturating_sub(start))];
        let own = narrow(self.in_file().saturating_sub(start)).min(piece.len());
        if let Some(own) = piece.get_mut(..own).filter(|own| !own.is_empty()) {
            self.primary.read_at(own, start.saturating_add(base::SIZE))?;
        }
        for (at, patch) in self.patches.over(start, end) {
            let from = at.max(start);
            let until = at.saturating_add(patch.len).min(end);
            let range = narrow(from.saturating_sub(start))..narrow(until.saturating_sub(start));
            if let (Some(log), Some(part)) = (self.logs.get(patch.log), piece.get_mut(range)) {
                log.read_at(part, patch.tail(from.saturating_sub(at)).from)?;
            }
        }
        let piece = Arc::new(piece);
        lock().put(number, Arc::clone(&piece));
        Ok(piece)
    }
}
