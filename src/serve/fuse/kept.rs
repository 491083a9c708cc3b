//! Listings without attributes that the kernel keeps, and the walk that wants the attributes all the same.
//!
//! Where the kernel keeps such a listing, and attributes are wanted later, it asks file by file: `LOOKUP` for each. Who asks
//! so for nearly every file of one directory after the other is taken to go on, and the kernel is told to drop the
//! listings of the others. It then asks for them anew, and gets them with attributes (see [`super::eager`]).
//!
//! ```text
//!   READDIR ─▶ noted ─▶ nearly all looked up, in several directories ─▶ the others: FUSE_NOTIFY_INVAL_INODE
//! ```
//! The kernel may wait for our answers while it drops something, so it is told from a thread of its own, and no lock is held.

use fuser::{INodeNo, Notifier};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Directories noted at most. Where there are more, those noted so far keep their listings.
const MOST: usize = 1 << 16;
/// A listing anew costs about three requests: with fewer names it does not pay.
const WORTH: u32 = 4;
/// A walk has gone through so many directories without a break, and so many names in them. Less may be a person's `ls -l`
/// here and there.
const WALKED: (u32, u32) = (4, 128);

/// A directory whose listing is kept bare.
#[derive(Clone, Copy, Debug, Default)]
struct Bare {
    /// Names in it, but for directories.
    names: u32,
    /// How many of them were looked up since.
    asked: u32,
}

#[derive(Debug, Default)]
struct State {
    bare: HashMap<u64, Bare>,
    /// Directories gone through one after the other, and the names in them.
    walked: (u32, u32),
}

/// The bare listings that the kernel keeps.
#[derive(Debug, Default)]
pub(super) struct Kept {
    state: Mutex<State>,
    /// The way to the kernel, once there is one.
    pub(super) kernel: OnceLock<Notifier>,
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A listing begins; what was noted of it is out of date.
    pub(super) fn begin(&self, dir: u64) {
        self.state().bare.remove(&dir);
    }

    /// A part of a listing was told without attributes: so many names, but for directories.
    pub(super) fn told(&self, dir: u64, names: u32) {
        let mut state = self.state();
        // Whoever lists without attributes is no such walk, or it is over.
        state.walked = (0, 0);
        if state.bare.len() >= MOST {
            state.bare.clear();
        }
        let bare = state.bare.entry(dir).or_default();
        bare.names = bare.names.saturating_add(names);
    }

    /// A file was looked up by its name. Where that makes a walk, the directories whose listings should go.
    pub(super) fn asked(&self, dir: u64) -> Option<Vec<u64>> {
        let mut state = self.state();
        let bare = state.bare.get_mut(&dir)?;
        bare.asked = bare.asked.saturating_add(1);
        let Bare { names, asked } = *bare;
        if asked.saturating_mul(4) < names.saturating_mul(3) {
            return None;
        }
        // The kernel knows its names by now.
        state.bare.remove(&dir);
        let (dirs, all) = state.walked;
        state.walked = (dirs.saturating_add(1), all.saturating_add(names));
        if state.walked.0 < WALKED.0 || state.walked.1 < WALKED.1 {
            return None;
        }
        state.walked = (0, 0);
        let others = std::mem::take(&mut state.bare);
        Some(others.into_iter().filter(|(_, bare)| bare.names >= WORTH).map(|(dir, _)| dir).collect())
    }

    /// Has the kernel drop these listings, soon.
    pub(super) fn drop_all(&self, dirs: Vec<u64>) {
        let Some(kernel) = self.kernel.get().cloned().filter(|_| !dirs.is_empty()) else { return };
        // Without a thread for it they stay, which is slower and not wrong.
        let thread = std::thread::Builder::new().name("listings".to_owned());
        let _ = thread.spawn(move || {
            for dir in dirs {
                // From its first byte to its end. A directory that the kernel has forgotten is no error.
                if kernel.inval_inode(INodeNo(dir), 0, 0).is_err() {
                    break;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories 0 to 9 with 40 names each, and one with 3.
    fn kept() -> Kept {
        let kept = Kept::default();
        for dir in 0..10 {
            kept.begin(dir);
            kept.told(dir, 25);
            kept.told(dir, 15);
        }
        kept.told(10, 3);
        kept
    }

    #[test]
    fn a_walk_through_four_directories_drops_the_listings_of_the_others() {
        let kept = kept();
        for dir in 0..3 {
            assert!((0..40).all(|_| kept.asked(dir).is_none()));
        }
        assert!((0..29).all(|_| kept.asked(3).is_none()));
        let mut dropped = kept.asked(3).unwrap();
        dropped.sort_unstable();
        assert_eq!(dropped, [4, 5, 6, 7, 8, 9], "not the small one, and not where it has been");
        assert!((0..40).all(|_| kept.asked(4).is_none()), "once");
    }

    #[test]
    fn a_few_names_here_and_there_are_no_walk() {
        let kept = kept();
        for dir in 0..10 {
            assert!((0..20).all(|_| kept.asked(dir).is_none()));
        }
    }

    #[test]
    fn a_listing_without_attributes_breaks_a_walk() {
        let kept = kept();
        for dir in 0..8 {
            assert!((0..40).all(|_| kept.asked(dir).is_none()));
            kept.told(11, 1);
        }
    }
}
