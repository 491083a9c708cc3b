//! The old format: one write of the hive, whole.
//!
//! ```text
//! base block (512) │ "DIRT", a bit for each 512 bytes of the bins │ padding to 512 │ the pages whose bit is set
//! ```

use super::super::base::{self, Base};
use super::super::bins::Patches;
use super::super::hive::Replayed;
use super::{Laid, Log};
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use std::sync::Arc;

/// Bytes that a bit stands for.
const PAGE: u64 = 512;
/// Where the bits begin, behind their signature.
const BITS_AT: u64 = PAGE + 4;

/// Lays the pages of the log written last in front of the hive, if it was written no earlier than the hive.
pub(super) fn lay(
    logs: &[&Log],
    base: &mut Base,
    laid: &mut Laid,
    budget: &Budget,
    warnings: &mut Vec<String>,
) {
    // Of two that were written at the same time the first counts.
    let Some(log) = logs.iter().rev().max_by_key(|log| log.base.written) else { return };
    if log.base.written < base.written {
        warnings.push(format!("{} is not used: it was written before the hive", log.name));
        return;
    }
    match pages(log, laid, budget) {
        Ok(pages) => {
            *base = base.completed(&log.base);
            laid.logs.push(Arc::clone(&log.file));
            laid.replayed.push(Replayed { log: log.name, entries: 1, pages });
        }
        Err(error) => warnings.push(format!("{} is not used: {}", log.name, error.chain())),
    }
}

/// Lays every page of a log, or none; how many there are.
fn pages(log: &Log, laid: &mut Laid, budget: &Budget) -> Result<u64> {
    let corrupt = |why: String| Error::corrupt(At::new("registry", "dirty vector").byte(PAGE)).because(why);
    // A byte of bits is a page of bins.
    let len = log.base.bins / base::PAGE;
    let first = BITS_AT.saturating_add(len).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    if first > log.file.len() {
        return Err(corrupt(format!("bits for {:#x} bytes of bins, but the log ends before", log.base.bins)));
    }
    let mut signature = [0; 4];
    log.file.read_at(&mut signature, PAGE)?;
    if &signature != b"DIRT" {
        return Err(corrupt("it does not begin with DIRT".to_owned()));
    }
    let mut bits = budget.buffer("registry log bits", len, base::MAX_BINS / base::PAGE)?;
    log.file.read_at(&mut bits, BITS_AT)?;
    let count: u64 = bits.iter().map(|byte| u64::from(byte.count_ones())).sum();
    if first.saturating_add(count.saturating_mul(PAGE)) > log.file.len() {
        return Err(corrupt(format!("{count} pages, but the log ends before the last of them")));
    }
    Patches::pay(count, budget)?;
    let which = laid.logs.len();
    let mut from = first;
    for (index, byte) in (0_u64..).zip(&bits) {
        // Windows marks eight at once, since XP.
        let mut at = index.saturating_mul(base::PAGE);
        if *byte == u8::MAX {
            laid.patches.put(at, base::PAGE, which, from);
            from = from.saturating_add(base::PAGE);
            continue;
        }
        for bit in 0..8 {
            if byte >> bit & 1 == 1 {
                laid.patches.put(at, PAGE, which, from);
                from = from.saturating_add(PAGE);
            }
            at = at.saturating_add(PAGE);
        }
    }
    Ok(count)
}
