//! The journal: what was about to be written when the image was taken. It is played back in memory, so that the tree is the
//! one that the kernel shows after mounting; the volume stays as it is.
//!
//! ```text
//! log          the file that holds the journal
//! superblock   its first block: where the log starts, how it is protected
//! scan         the log's transactions: the newest copy of each block
//! fast         fast commits: what changed since the last transaction, by inode
//! ```
//! Each block that has a copy is read from where the copy lies, in the journal: what is kept in memory is its number alone.

use super::Ext;
use super::features::Set;
use super::patch::Patches;
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::overlay::Overlay;
use crate::ondisk::uuid;
use fast::Note;
use log::Log;
use std::sync::Arc;
use superblock::Superblock;

mod fast;
mod log;
mod scan;
mod superblock;

/// What came of it.
pub(super) enum Played {
    /// There was nothing to play back.
    Nothing,
    /// The volume as it is after playing back, what is to be said of that, and what has to be done then.
    Back(Overlay, Vec<String>, FastCommits),
    /// It cannot be: what is to be said.
    Not(String),
}

/// Plays the journal back. `ext` is the file system as it lies on the volume.
pub(super) fn play(ext: &Ext, budget: &Budget) -> Played {
    if !ext.features().has(Set::HAS_JOURNAL) {
        return Played::Nothing;
    }
    if let Some(device) = ext.sb.journal_device().filter(|_| ext.sb.journal_inode() == 0) {
        return Played::Not(format!(
            "the journal is on another device, with UUID {}, and was not replayed: files changed shortly before the image was taken may show an older state",
            uuid(device)
        ));
    }
    match try_play(ext, budget) {
        Ok(played) => played,
        Err(error) => Played::Not(format!(
            "the journal is damaged and was not replayed: files changed shortly before the image was taken may show an older state ({error})"
        )),
    }
}

fn try_play(ext: &Ext, budget: &Budget) -> Result<Played> {
    let log = Log::open(ext)?;
    let first = log.block(0)?;
    let sb = Superblock::parse(&first, log.block_size(), log.blocks, &log.at(0))?;
    if sb.start == 0 {
        return Ok(Played::Nothing);
    }
    let scanned = scan::scan(&log, &sb, budget)?;
    let volume = Arc::clone(ext.meta.volume());
    let mut overlay = Overlay::new(volume, u32::try_from(log.block_size()).unwrap_or(u32::MAX));
    let blocks = scanned.copies.len();
    let end = overlay.end();
    for (home, copy) in scanned.copies {
        budget.step("journal")?;
        // What the volume has lost with its end stays lost. The file system's own end is no bound: where it was made
        // larger while it was in use, the journal holds both the new blocks and the superblock that counts them.
        if home < end {
            let head = copy.is_escaped.then_some(superblock::MAGIC.to_be_bytes());
            overlay.divert(home, log.place(copy.log.into())?, head)?;
        }
    }
    // They go on from the log's end; behind a damaged one they have nothing to stand on.
    let area = sb.fast.filter(|_| scanned.damage.is_none());
    let fast = area.map(|area| fast::read(&log, area, scanned.next, ext.sb.inode_size, budget)).transpose();
    let (fast, failure) = match fast {
        Ok(None) => (Vec::new(), None),
        Ok(Some((notes, false))) => (notes, None),
        Ok(Some((_, true))) => (Vec::new(), Some("they are damaged: their first tail is wrong".to_owned())),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let more = match fast.len() {
        0 => String::new(),
        fast => format!(", and {fast} fast commit records"),
    };
    let mut notes = vec![format!(
        "was in use: its journal was replayed in memory, {} transactions, {blocks} blocks{more}",
        scanned.transactions
    )];
    if let Some(why) = failure {
        notes.push(not_replayed(&why));
    }
    if log.is_copy {
        notes.push(
            "the journal's inode is damaged; the copy of its map in the superblock was used".to_owned(),
        );
    }
    if let Some(damage) = scanned.damage {
        notes.push(format!(
            "the journal is damaged, and was replayed up to there: files changed shortly before the image was taken may show an older state ({damage})"
        ));
    }
    Ok(Played::Back(overlay, notes, FastCommits(fast)))
}

/// What is said of fast commits that are left out.
fn not_replayed(why: &str) -> String {
    format!(
        "the fast commits of the journal were not replayed: files changed shortly before the image was taken may show an older state ({why})"
    )
}

/// What is left to do once the log has been played back.
pub(super) struct FastCommits(Vec<Note>);

impl FastCommits {
    /// Does it, on the file system as the log leaves it. What came of it, if not everything could be done.
    pub(super) fn apply(self, ext: &mut Ext, budget: &Budget) -> Option<String> {
        let (mut failed, mut first) = (0_u64, None);
        for note in self.0 {
            // One may cost as much as many steps, so that the clock is looked at for each.
            let time = if budget.is_late() { Err(Error::limit("no time is left")) } else { Ok(()) };
            let done = time.and_then(|()| budget.step("fast commits")).and_then(|()| match note {
                Note::Range { ino, block, blocks, start } => {
                    ext.patch_range(ino, block, blocks, Some(start), budget)
                }
                Note::Hole { ino, block, blocks } => ext.patch_range(ino, block, blocks, None, budget),
                Note::Create(name) => ext.patch_create(name.dir, name.ino, &name.name, budget),
                Note::Link(name) => ext.patch_link(name.dir, name.ino, &name.name, budget),
                Note::Unlink(name) => ext.patch_unlink(name.dir, name.ino, &name.name, budget),
                Note::Inode { ino, raw } => ext.patch_inode(ino, &raw, budget),
            });
            if let Err(error) = done {
                if error.kind() == ErrorKind::Limit {
                    // The rest would cost as much again, and half of them is no state that there ever was.
                    ext.patches = Patches::default();
                    return Some(not_replayed(&error.to_string()));
                }
                failed = failed.saturating_add(1);
                first.get_or_insert(error);
            }
        }
        let first = first?;
        Some(format!("{failed} fast commit records of the journal could not be replayed; the first: {first}"))
    }
}
