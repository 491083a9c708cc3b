//! The new format: many small writes of the hive, one after the other, each with its number and its sums.
//!
//! ```text
//! base block (512) │ "HvLE", size, number, size of the bins, sums │ where each page belongs │ pages │ next entry ..
//! ```

use super::super::base::{self, Base};
use super::super::bins::Patches;
use super::super::hive::Replayed;
use super::marvin::Marvin;
use super::{Laid, Log};
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le32, parse_struct};
use std::sync::Arc;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Entries begin at multiples of this, the first behind the base block.
const UNIT: u64 = 512;
/// Bytes summed at once.
const CHUNK: u64 = 256 << 10;

/// "Log entry".
#[derive(FromBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    signature: [u8; 4], // 0x00 "HvLE"
    size: U32,          // 0x04 bytes, of all of it
    flags: U32,         // 0x08
    sequence: U32,      // 0x0c
    bins: U32,          // 0x10 bytes in all bins after it
    pages: U32,         // 0x14 how many
    body_sum: U64,      // 0x18 of what follows this header
    head_sum: U64,      // 0x20 of the 32 bytes before it
}
const HEAD: u64 = 40;
const _: () = assert!(size_of::<Raw>() == 40);
/// Bytes of the header that its sum is of.
const SUMMED: usize = 32;

/// A sound entry.
struct Entry {
    /// Where in the log it begins.
    at: u64,
    size: u64,
    sequence: u32,
    bins: u64,
    pages: u64,
}

/// Does `a` come before `b`? Numbers wrap around.
fn is_before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) <= u32::MAX / 2
}

/// Lays the entries of the logs in front of the hive, in the order of their numbers.
pub(super) fn lay(
    logs: &[&Log],
    base: &mut Base,
    laid: &mut Laid,
    budget: &Budget,
    warnings: &mut Vec<String>,
) {
    let mut logs = logs.to_vec();
    if let [first, second] = logs.as_slice()
        && is_before(second.base.primary, first.base.primary)
    {
        logs.reverse();
    }
    if base.is_whole {
        let is_stale = |log: &&Log| is_before(log.base.primary, base.secondary);
        for log in logs.iter().filter(|log| is_stale(log)) {
            warnings.push(format!("{} is not used: the hive has what it has", log.name));
        }
        logs.retain(|log| !is_stale(log));
    } else {
        // Windows takes the later one alone.
        logs.drain(..logs.len().saturating_sub(1));
    }
    let mut last: Option<u32> = None;
    for log in logs {
        if let Some(last) = last
            && last.wrapping_add(1) != log.base.primary
        {
            warnings.push(format!(
                "{} is not used: it begins with number {}, and {last} was the last one",
                log.name, log.base.primary
            ));
            break;
        }
        let Some(reached) = lay_one(log, base, laid, budget, warnings) else { break };
        last = Some(reached);
    }
}

/// Lays the entries of one log; the number of the last one.
fn lay_one(
    log: &Log,
    base: &mut Base,
    laid: &mut Laid,
    budget: &Budget,
    warnings: &mut Vec<String>,
) -> Option<u32> {
    let mut replayed = Replayed { log: log.name, entries: 0, pages: 0 };
    let which = laid.logs.len();
    let (mut at, mut sequence, mut last) = (UNIT, log.base.primary, None);
    let mut stop = |sequence: u32, error: &Error| {
        let before = sequence.wrapping_sub(1);
        warnings.push(format!("{} is used up to number {before}: {}", log.name, error.chain()));
    };
    loop {
        // What does not follow is what is left of entries that were written before.
        let entry = match load(log, at, sequence, budget) {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(error) => {
                stop(sequence, &error);
                break;
            }
        };
        if let Err(error) = lay_pages(log, &entry, which, laid, budget) {
            stop(sequence, &error);
            break;
        }
        if last.is_none() {
            *base = base.completed(&log.base);
        }
        base.bins = entry.bins;
        (base.primary, base.secondary) = (entry.sequence, entry.sequence);
        replayed.entries = replayed.entries.saturating_add(1);
        replayed.pages = replayed.pages.saturating_add(entry.pages);
        last = Some(entry.sequence);
        at = at.saturating_add(entry.size);
        sequence = sequence.wrapping_add(1);
    }
    laid.logs.push(Arc::clone(&log.file));
    if replayed.entries > 0 {
        laid.replayed.push(replayed);
    }
    last
}

/// The entry of a number at `at`; `None` when none that is sound begins there.
///
/// # Errors
/// When the log cannot be read, or too much was.
fn load(log: &Log, at: u64, sequence: u32, budget: &Budget) -> Result<Option<Entry>> {
    if at.saturating_add(HEAD) > log.file.len() {
        return Ok(None);
    }
    let mut head = [0; size_of::<Raw>()];
    log.file.read_at(&mut head, at)?;
    let raw: Raw = parse_struct(&head, At::new("registry", "log entry").byte(at))?;
    let (size, bins, pages) =
        (u64::from(raw.size.get()), u64::from(raw.bins.get()), u64::from(raw.pages.get()));
    let end = at.saturating_add(size);
    let is_sound = &raw.signature == b"HvLE"
        && raw.sequence.get() == sequence
        && size >= UNIT
        && size.is_multiple_of(UNIT)
        && end <= log.file.len()
        && pages > 0
        && HEAD.saturating_add(pages.saturating_mul(8)) <= size
        && base::is_bins(bins)
        && sum(head.get(..SUMMED).unwrap_or_default()) == raw.head_sum.get()
        && body_sum(log, at.saturating_add(HEAD), end, budget)? == raw.body_sum.get();
    Ok(is_sound.then_some(Entry { at, size, sequence, bins, pages }))
}

fn sum(bytes: &[u8]) -> u64 {
    let mut sum = Marvin::new();
    sum.update(bytes);
    sum.finish()
}

fn body_sum(log: &Log, mut at: u64, end: u64, budget: &Budget) -> Result<u64> {
    let mut sum = Marvin::new();
    let mut chunk = vec![0; narrow(CHUNK.min(end.saturating_sub(at)))];
    while at < end {
        budget.steps("registry log entry", 1)?;
        let len = narrow(end.saturating_sub(at)).min(chunk.len());
        let Some(bytes) = chunk.get_mut(..len) else { break };
        log.file.read_at(bytes, at)?;
        sum.update(bytes);
        at = at.saturating_add(wide(len));
    }
    Ok(sum.finish())
}

/// Lays every page of an entry, or none.
fn lay_pages(log: &Log, entry: &Entry, which: usize, laid: &mut Laid, budget: &Budget) -> Result<()> {
    Patches::pay(entry.pages, budget)?;
    let references = entry.at.saturating_add(HEAD);
    let end = entry.at.saturating_add(entry.size);
    let mut bytes = budget.buffer("registry log pages", entry.pages.saturating_mul(8), entry.size)?;
    log.file.read_at(&mut bytes, references)?;
    let mut from = references.saturating_add(wide(bytes.len()));
    let mut pages = Vec::with_capacity(bytes.len() / 8);
    for (index, reference) in (0..).zip(bytes.chunks_exact(8)) {
        let number = |at| get_le32(reference, at).map(u64::from).unwrap_or(0);
        let (offset, len) = (number(0), number(4));
        let fits = len > 0
            && offset.saturating_add(len) <= entry.bins
            && from.saturating_add(len) <= end
            && (offset | len).is_multiple_of(UNIT);
        if !fits {
            return Err(Error::corrupt(At::new("registry", "log page").index(index).byte(from))
                .because(format!("{len:#x} bytes for {offset:#x}, in bins of {:#x}", entry.bins)));
        }
        pages.push((offset, len, from));
        from = from.saturating_add(len);
    }
    budget.release(bytes.len());
    for (offset, len, from) in pages {
        laid.patches.put(offset, len, which, from);
    }
    Ok(())
}
