//! The log: updates of metadata that were written down but perhaps not carried out when the machine stopped.
//!
//! A file with a log must not be read without it: the BAT would be old. Peers refuse such a file when it may not be
//! written, or read it as if there were no log. Here the log is replayed into memory: [`Replayed`] is the file with
//! the logged pages laid over it. Specification: \[MS-VHDX\] section 2.3.

use super::header::{Header, sums_up};
use crate::block::{BlockSource, Extent, check_range};
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le32, get_le64, read_table};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Everything in a log counts by 4 KiB.
const SECTOR: u64 = 4096;
/// The longest log that is replayed; Hyper-V and qemu write logs of 1 MiB.
const MAX_LOG: u64 = 64 << 20;

/// One entry of the log, its checksum verified.
#[derive(Debug)]
struct Entry {
    /// Where in the log it starts.
    offset: u64,
    length: u64,
    tail: u64,
    sequence: u64,
    flushed_len: u64,
    last_len: u64,
    bytes: Vec<u8>,
}

/// A run of updates that the log's owner meant to carry out together.
#[derive(Debug)]
struct Sequence {
    entries: Vec<Entry>,
}

/// The file with its log carried out in memory.
pub(super) struct Replayed {
    below: Arc<dyn BlockSource>,
    len: u64,
    /// Stretches that the log made zero: start and end, apart from each other.
    zeros: BTreeMap<u64, u64>,
    /// Pages of 4 KiB by their offset, laid over the zeros.
    pages: BTreeMap<u64, Box<[u8]>>,
    /// Entries that were replayed.
    pub(super) entries: usize,
}

impl fmt::Debug for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replayed({:?}, {} pages)", self.below, self.pages.len())
    }
}

fn at() -> At {
    At::new("vhdx", "log")
}

impl Replayed {
    /// Replays the log of a file whose header names one.
    ///
    /// # Errors
    /// `Corrupt` when no whole sequence is in it: then nobody can tell which state the file is in.
    pub(super) fn new(below: Arc<dyn BlockSource>, header: &Header, budget: &Budget) -> Result<Self> {
        let (start, length) = (header.log_offset.get(), u64::from(header.log_length.get()));
        if length == 0 || !length.is_multiple_of(SECTOR) || !start.is_multiple_of(1 << 20) || start == 0 {
            return Err(Error::corrupt(at().byte(start)).because(format!("a log of {length} bytes")));
        }
        let ring = read_table(&*below, start, length, MAX_LOG, at(), budget)?;
        let sequence = active(&ring, &header.log_guid, budget)?.ok_or_else(|| {
            Error::corrupt(at().byte(start)).because("the file needs its log, but no whole sequence is in it")
        })?;
        let last = sequence.entries.last();
        let flushed = last.map_or(0, |entry| entry.flushed_len);
        if flushed > below.len() {
            return Err(Error::corrupt(at()).because(format!(
                "the file was {flushed} bytes long when the log was written, now {}: it was cut off",
                below.len()
            )));
        }
        let len = below.len().max(last.map_or(0, |entry| entry.last_len));
        let mut replayed = Self {
            below,
            len,
            zeros: BTreeMap::new(),
            pages: BTreeMap::new(),
            entries: sequence.entries.len(),
        };
        for entry in &sequence.entries {
            replayed.apply(entry, budget)?;
        }
        Ok(replayed)
    }

    fn apply(&mut self, entry: &Entry, budget: &Budget) -> Result<()> {
        let place = at().byte(entry.offset);
        let wrong = |why: &str| Error::corrupt(place.clone()).because(why);
        let count = u64::from(get_le32(&entry.bytes, 24).unwrap_or(0));
        // Descriptors of 32 bytes follow the 64 of the header; data sectors start at the next 4 KiB.
        let descriptors = entry.bytes.get(64..).unwrap_or_default().chunks_exact(32).take(narrow(count));
        let after = count
            .checked_mul(32)
            .and_then(|n| n.checked_add(64)?.checked_next_multiple_of(SECTOR))
            .unwrap_or(u64::MAX);
        let mut sectors = entry.bytes.get(narrow(after)..).unwrap_or_default().chunks_exact(4096);
        for descriptor in descriptors {
            budget.step("log of a VHDX")?;
            let (Some(offset), Some(sequence)) = (get_le64(descriptor, 16), get_le64(descriptor, 24)) else {
                return Err(wrong("a short descriptor"));
            };
            if sequence != entry.sequence || !offset.is_multiple_of(SECTOR) {
                return Err(wrong("a descriptor of another entry"));
            }
            if descriptor.starts_with(b"zero") {
                let length = get_le64(descriptor, 8).unwrap_or(0);
                let end = offset
                    .checked_add(length)
                    .filter(|_| length.is_multiple_of(SECTOR))
                    .ok_or_else(|| wrong("a zero descriptor that does not fit"))?;
                self.zero(offset, end);
            } else if descriptor.starts_with(b"desc") {
                let sector = sectors.next().ok_or_else(|| wrong("a data sector is missing"))?;
                let page = page(descriptor, sector, entry.sequence);
                self.pages.insert(offset, page.ok_or_else(|| wrong("a torn data sector"))?);
            } else {
                return Err(wrong("an unknown descriptor"));
            }
        }
        Ok(())
    }
}

impl Replayed {
    /// Makes `start..end` zero. What the log wrote there before is gone; what it writes later lies over it.
    fn zero(&mut self, start: u64, end: u64) {
        while let Some(page) = self.pages.range(start..end.max(start)).next().map(|(page, _)| *page) {
            self.pages.remove(&page);
        }
        let (mut start, mut end) = (start, end);
        while let Some((from, to)) = self.zeros.range(..=end).next_back().map(|(from, to)| (*from, *to)) {
            if to < start {
                break;
            }
            self.zeros.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.zeros.insert(start, end);
    }

    /// The part of `buf`, which begins at `offset`, that `start..end` covers; and how far into that it begins.
    fn covered(buf: &mut [u8], offset: u64, start: u64, end: u64) -> Option<(&mut [u8], usize)> {
        let (from, to) = (offset.max(start), offset.saturating_add(wide(buf.len())).min(end));
        let part = buf.get_mut(narrow(from.checked_sub(offset)?)..narrow(to.checked_sub(offset)?))?;
        Some((part, narrow(from.saturating_sub(start))))
    }
}

/// Puts a page together: its first 8 and last 4 bytes stand in the descriptor, the rest in the data sector.
fn page(descriptor: &[u8], sector: &[u8], sequence: u64) -> Option<Box<[u8]>> {
    let (high, low) = (get_le32(sector, 4)?, get_le32(sector, 4092)?);
    if !sector.starts_with(b"data") || (u64::from(high) << 32 | u64::from(low)) != sequence {
        return None;
    }
    let page = [descriptor.get(8..16)?, sector.get(8..4092)?, descriptor.get(4..8)?].concat();
    Some(page.into_boxed_slice())
}

/// The bytes of a ring from `offset` on, across its end.
fn around(ring: &[u8], offset: u64, length: u64) -> Option<Vec<u8>> {
    let (start, length) = (narrow(offset), narrow(length));
    let first = ring.get(start..)?;
    let head = first.get(..length.min(first.len()))?;
    let rest = ring.get(..length.checked_sub(head.len())?)?;
    Some([head, rest].concat())
}

/// The entry at `offset` of the ring, if a sound one of this log stands there (section 2.3.1.1). Its length is paid for
/// before it is summed: a ring full of entries as long as itself would be work for minutes.
fn entry(ring: &[u8], offset: u64, log: &[u8; 16], budget: &Budget) -> Result<Option<Entry>> {
    let Some(length) = claimed(ring, offset, log) else { return Ok(None) };
    for _ in 0..length / SECTOR {
        budget.step("log of a VHDX")?;
    }
    Ok(sound(ring, offset, length))
}

/// The length that an entry of this log at `offset` claims, if one stands there.
fn claimed(ring: &[u8], offset: u64, log: &[u8; 16]) -> Option<u64> {
    let head = ring.get(narrow(offset)..)?.get(..64)?;
    let length = u64::from(get_le32(head, 8)?);
    let (tail, sequence) = (u64::from(get_le32(head, 12)?), get_le64(head, 16)?);
    let ours = head.starts_with(b"loge") && head.get(32..48)? == log && sequence > 0;
    let fits = length >= SECTOR
        && length.is_multiple_of(SECTOR)
        && length <= wide(ring.len())
        && tail.is_multiple_of(SECTOR)
        && tail < wide(ring.len());
    (ours && fits).then_some(length)
}

/// The entry of `length` bytes at `offset`, if its checksum is right.
fn sound(ring: &[u8], offset: u64, length: u64) -> Option<Entry> {
    let bytes = around(ring, offset, length)?;
    let (tail, sequence) = (get_le32(&bytes, 12)?.into(), get_le64(&bytes, 16)?);
    let (flushed_len, last_len) = (get_le64(&bytes, 48)?, get_le64(&bytes, 56)?);
    sums_up(&bytes).then_some(Entry { offset, length, tail, sequence, flushed_len, last_len, bytes })
}

/// The active sequence (section 2.3.2): of all runs of entries with consecutive numbers that reach back to the tail
/// of their last entry, the one whose last number is greatest.
fn active(ring: &[u8], log: &[u8; 16], budget: &Budget) -> Result<Option<Sequence>> {
    let size = wide(ring.len());
    let mut best: Option<Sequence> = None;
    // A run that starts within another one ends where that ends: so each entry is the first of a run at most once.
    let mut seen = BTreeSet::new();
    let mut start = 0;
    while start < size {
        budget.step("log of a VHDX")?;
        let mut run: Vec<Entry> = Vec::new();
        let (mut offset, mut covered) = (start, 0_u64);
        while !(run.is_empty() && seen.contains(&offset))
            && let Some(next) = entry(ring, offset, log, budget)?
        {
            let follows = run.last().is_none_or(|last| last.sequence.checked_add(1) == Some(next.sequence));
            covered = covered.saturating_add(next.length);
            if !follows || covered > size {
                break;
            }
            offset = offset.saturating_add(next.length).checked_rem(size).unwrap_or(0);
            seen.insert(next.offset);
            run.push(next);
        }
        // Only from its tail on is the run meant; the head says where that is.
        let tail = run.last().map(|head| head.tail);
        if let Some(first) = run.iter().position(|entry| Some(entry.offset) == tail) {
            run.drain(..first);
            let newer = |best: &Sequence| {
                best.entries.last().map(|entry| entry.sequence) < run.last().map(|entry| entry.sequence)
            };
            if best.as_ref().is_none_or(newer) {
                best = Some(Sequence { entries: run });
            }
        }
        start = start.saturating_add(SECTOR);
    }
    Ok(best)
}

impl BlockSource for Replayed {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        // The log may have made the file longer than it is: those bytes come from the log or are zero.
        let held = narrow(self.below.len().saturating_sub(offset)).min(buf.len());
        let (stored, grown) = buf.split_at_mut(held);
        grown.fill(0);
        if !stored.is_empty() {
            self.below.read_at(stored, offset)?;
        }
        let end = offset.saturating_add(wide(buf.len()));
        for (from, to) in self.zeros.range(..end).rev().take_while(|(_, to)| **to > offset) {
            if let Some((part, _)) = Self::covered(buf, offset, *from, *to) {
                part.fill(0);
            }
        }
        let first = offset.saturating_sub(SECTOR.saturating_sub(1));
        for (page, content) in self.pages.range(first..end) {
            let covered = Self::covered(buf, offset, *page, page.saturating_add(SECTOR));
            if let Some((part, skip)) = covered
                && let Some(content) = content.get(skip..).and_then(|rest| rest.get(..part.len()))
            {
                part.copy_from_slice(content);
            }
        }
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { len: self.len.saturating_sub(offset), zero: false, hole: false })
    }

    fn label(&self) -> String {
        self.below.label()
    }

    fn stored_size(&self) -> u64 {
        self.below.stored_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Ones;

    impl BlockSource for Ones {
        fn len(&self) -> u64 {
            16 * SECTOR
        }
        fn read_at(&self, buf: &mut [u8], _offset: u64) -> Result<()> {
            buf.fill(1);
            Ok(())
        }
    }

    /// The first byte of each of the 16 pages, read at once and one by one.
    fn pages(edit: impl FnOnce(&mut Replayed)) -> Vec<u8> {
        let (below, zeros, pages) = (Arc::new(Ones), BTreeMap::new(), BTreeMap::new());
        let mut replayed = Replayed { below, len: 16 * SECTOR, zeros, pages, entries: 0 };
        edit(&mut replayed);
        let mut all = vec![9; 16 * 4096];
        replayed.read_at(&mut all, 0).unwrap();
        for at in [0, 4095, 4096, 9000, 40_000] {
            let mut piece = vec![9; 9001];
            replayed.read_at(&mut piece, wide(at)).unwrap();
            assert!(piece == all[at..][..9001], "{at}");
        }
        all.chunks(4096).map(|page| page[0]).collect()
    }

    #[test]
    fn zeros_and_pages_lie_over_each_other_in_the_order_of_the_log() {
        let page = |value: u8| vec![value; 4096].into_boxed_slice();
        let found = pages(|log| {
            log.pages.insert(4 * SECTOR, page(5));
            log.zero(2 * SECTOR, 6 * SECTOR);
            log.pages.insert(3 * SECTOR, page(7));
            log.zero(8 * SECTOR, 9 * SECTOR);
            log.zero(5 * SECTOR, 8 * SECTOR);
            log.zero(12 * SECTOR, 12 * SECTOR);
        });
        assert_eq!(found, [1, 1, 0, 7, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]);
    }
}
