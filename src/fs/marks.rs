//! Marks in lists whose entries must be added up: a file's list has the length of each unit, and the place of a unit is the
//! sum of all lengths before it. The sum is kept for every so-manieth entry of the files read last, so that a read far
//! behind does not add up the whole list again.

use super::Ino;
use crate::num::{narrow, wide};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

/// Files whose marks are kept.
const FILES: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");
/// Marks of one file, so that all together take 24 MiB at the most. What lies behind the last one is added up each time.
const MAX_MARKS: usize = 16384;

/// The marks of the files read last.
#[derive(Debug)]
pub(super) struct Marks<M>(Mutex<LruCache<Ino, Vec<M>>>);

impl<M: Copy> Marks<M> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(FILES)))
    }

    /// The last mark at or before mark `wanted`, with its number. Mark 0 is the list's start, and not kept.
    pub(super) fn before(&self, ino: Ino, wanted: u64) -> Option<(u64, M)> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = kept.get(&ino)?;
        let number = wanted.min(wide(marks.len()));
        Some((number, *marks.get(narrow(number.checked_sub(1)?))?))
    }

    /// Keeps mark `number`, if it is the next one.
    pub(super) fn keep(&self, ino: Ino, number: u64, mark: M) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = kept.get_or_insert_mut(ino, Vec::new);
        if wide(marks.len()).saturating_add(1) == number && marks.len() < MAX_MARKS {
            marks.push(mark);
        }
    }
}
