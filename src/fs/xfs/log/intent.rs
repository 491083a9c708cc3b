//! Intents: changes that take several transactions say first what they are going to do, and later that it is done. The
//! kernel finishes at mount what was begun. Freed extents, reverse mappings and counts of sharing change no file; a map of
//! a file, an attribute, or two files that change places do, and are told to whoever reads.

use super::transaction::Item;
use crate::ondisk::get_le64;
use std::collections::BTreeMap;

/// Types of intents that change what files hold, their names, and where the inodes stand in them. Each type plus one
/// means: done.
const TELLING: [(u16, &str, &[usize]); 3] =
    [(0x1244, "BUI", &[16]), (0x1246, "ATTRI", &[16]), (0x1248, "XMI", &[16, 24])];
/// Unfinished intents that are named one by one.
const MAX_TOLD: usize = 20;

/// Intents that were begun and, so far, not finished.
#[derive(Debug, Default)]
pub(super) struct Intents(BTreeMap<(u16, u64), (&'static str, Vec<u64>)>);

impl Intents {
    /// Takes note of an item, if it is an intent or the end of one.
    pub(super) fn take(&mut self, item: &Item) {
        let format = item.region(0);
        let Some(id) = get_le64(format, 8) else { return };
        for (kind, name, places) in TELLING {
            if item.kind() == kind {
                let inodes = places.iter().filter_map(|at| get_le64(format, *at)).collect();
                self.0.insert((kind, id), (name, inodes));
            } else if item.kind() == kind.saturating_add(1) {
                self.0.remove(&(kind, id));
            }
        }
    }

    /// Intents noted.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A sentence for each that was not finished.
    pub(super) fn warnings(&self) -> Vec<String> {
        let told = self.0.values().take(MAX_TOLD).map(|(name, inodes)| {
            let inodes: Vec<String> = inodes.iter().map(u64::to_string).collect();
            format!(
                "a change of inode {} was begun and not finished ({name}); the kernel would finish it, here it shows as \
                 it stands",
                inodes.join(" and ")
            )
        });
        let mut all: Vec<String> = told.collect();
        if let Some(more @ 1..) = self.0.len().checked_sub(MAX_TOLD) {
            all.push(format!("{more} more changes were begun and not finished"));
        }
        all
    }
}
