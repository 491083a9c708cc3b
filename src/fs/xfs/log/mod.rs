//! The log: where changes of metadata are written before they are written home. What was not written home when an image
//! was taken is played back in memory here, as the kernel does on the disk when it mounts.
//!
//! ```text
//! ring          the log as a circle of 512-byte blocks; where it ends (head)
//! record        what one write to it carries; its checksum
//! span          from where to where it must be played back (tail to head)
//! transaction   records cut into transactions, and these into items
//! replay        items applied: buffers, inodes, new inodes
//! intent        changes that were begun and wait to be finished
//! ```
//! "XFS Algorithms & Data Structures", "Journaling Log"; the rules of recovery as in the kernel's `xfs_log_recover.c`,
//! `xfs_buf_item_recover.c` and `xfs_inode_item_recover.c`.

use super::superblock::Superblock;
use crate::block::BlockSource;
use crate::error::{Error, Result};
use crate::fs::overlay::Overlay;
use crate::fs::{FsCx, Journal, State};
use crate::num::narrow;
use crate::ondisk::get_be32;
use replay::Replay;
use ring::Ring;
use span::Span;
use std::collections::HashSet;
use std::sync::Arc;
use transaction::Assembler;

mod intent;
mod item;
mod record;
mod replay;
mod ring;
mod span;
mod transaction;

/// Groups whose headers are read to count what is free after the log was played back. Of more, the superblock's own,
/// older counts are shown.
const MAX_COUNTED_GROUPS: u64 = 256;

/// What became of the log.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The volume with the log's changes, and its superblock then, if there are any and they were made.
    pub(super) replayed: Option<(Overlay, Superblock)>,
    pub(super) state: State,
    pub(super) warnings: Vec<String>,
    /// Free blocks, allocated and free inodes, where the superblock does not know.
    pub(super) counts: Option<(u64, u64, u64)>,
    /// Inodes that were given the tree of extents of another.
    pub(super) owners_changed: HashSet<u64>,
}

impl Outcome {
    /// Looks at the log of a file system and plays it back if it must be and may.
    pub(super) fn of(volume: &Arc<dyn BlockSource>, sb: &Superblock, cx: &FsCx<'_>) -> Self {
        let said = |state, warning: String| Self { state, warnings: vec![warning], ..Self::default() };
        let place = match sb.log() {
            Ok(Some(place)) => place,
            Ok(None) => {
                let warning = "its log lies on another device: if it was not unmounted, files changed shortly before \
                               the image was taken may show an older state";
                return said(State::Clean, warning.to_owned());
            }
            Err(error) => return said(State::Dirty, unread(&error)),
        };
        let ring = Ring::new(volume, place, sb);
        let span = match Span::find(&ring, cx.budget) {
            Ok(Some(span)) => span,
            Ok(None) => return Self::default(),
            Err(error) => return said(State::Dirty, unread(&error)),
        };
        let refused = sb.features.log_refused();
        if cx.journal == Journal::Ignore || refused.is_some() {
            let why = refused.map_or(String::new(), |refused| format!(" ({refused})"));
            return said(
                State::Dirty,
                format!(
                    "the log was not played back{why}: files changed shortly before the image was taken may show an \
                     older state"
                ),
            );
        }
        match play(volume, sb, &ring, span, cx) {
            Ok(outcome) => outcome,
            Err(error) => said(State::Dirty, unread(&error)),
        }
    }
}

fn unread(error: &Error) -> String {
    format!(
        "the log cannot be played back: files changed shortly before the image was taken may show an older state: {error}"
    )
}

/// Plays back what stands between tail and head: once to learn which buffers were given up, once to apply.
fn play(
    volume: &Arc<dyn BlockSource>,
    sb: &Superblock,
    ring: &Ring<'_>,
    span: Span,
    cx: &FsCx<'_>,
) -> Result<Outcome> {
    let (span, cancelled) = span.verify(ring, cx.budget)?;
    let mut replay = Replay::new(Arc::clone(volume), sb.clone(), cancelled);
    let mut assembler = Assembler::default();
    let mut transactions = 0_u64;
    let bad = span.scan(ring, cx.budget, &mut |header, data| {
        assembler.take(header, data, &mut |transaction| {
            transactions = transactions.saturating_add(1);
            replay.apply(&transaction)
        })
    })?;
    if let Some(bad) = bad {
        return Err(bad);
    }
    let (overlay, sb, owners_changed, unfinished) = replay.finish();
    let mut warnings = vec![format!(
        "was not unmounted: the log was played back in memory, {transactions} transactions that change {} sectors",
        overlay.replaced()
    )];
    warnings.extend(unfinished);
    let counts = count(&overlay, &sb);
    Ok(Outcome { replayed: Some((overlay, sb)), state: State::Dirty, warnings, counts, owners_changed })
}

/// Free blocks, inodes and free inodes as the headers of all groups count them (`xfs_initialize_perag_data`).
fn count(volume: &dyn BlockSource, sb: &Superblock) -> Option<(u64, u64, u64)> {
    if sb.ag_count > MAX_COUNTED_GROUPS {
        return None;
    }
    let sector = sb.sector_size();
    let mut sums = (0_u64, 0_u64, 0_u64);
    for group in 0..sb.ag_count {
        let byte = group.checked_mul(sb.ag_blocks)?.checked_mul(sb.block_size)?.checked_add(sector)?;
        // At most two sectors of 32 KiB.
        let mut headers = vec![0; narrow(sector).checked_mul(2)?];
        volume.read_at(&mut headers, byte).ok()?;
        let (space, inodes) = headers.split_at_checked(narrow(sector))?;
        if !space.starts_with(b"XAGF") || !inodes.starts_with(b"XAGI") {
            return None;
        }
        let number = |header: &[u8], at: usize| get_be32(header, at).map_or(0, u64::from);
        // Free in trees, on the list of blocks for these trees, and those trees themselves.
        let free = [52, 48, 60].iter().map(|at| number(space, *at)).sum::<u64>();
        sums.0 = sums.0.saturating_add(free);
        sums.1 = sums.1.saturating_add(number(inodes, 16));
        sums.2 = sums.2.saturating_add(number(inodes, 28));
    }
    Some(sums)
}
