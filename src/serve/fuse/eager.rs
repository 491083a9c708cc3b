//! Whether a listing is to carry the attributes of every file in it.
//!
//! For each entry with attributes the kernel makes an inode, and we look one up, on a remote image perhaps over the network.
//! `find` by name, a shell's completion and `ls` want none of it; `ls -l`, `tar` and `du` want all of them, and without
//! them the kernel asks file by file, which costs more still.
//!
//! So it is seen which of the two goes on: a file that is looked up by name speaks for attributes, every entry that was told with
//! some speaks a little against them, for nobody needs to ask while they are there. A walk that wants them pays
//! for a directory now and then file by file; one that does not, for a few dozen directories at most after another that did.
//!
//! A walk that wants no attributes still asks for each directory, to go into it. So directories that are looked up by name are
//! counted beside the files, and where a walk is seen, directories that hold little else are told with attributes, too.
//!
//! The kernel keeps every listing. Where it kept one without attributes and they are wanted later, it asks file by file; not
//! to keep it would cost every later walk the whole of it. What is done about it is told in [`super::kept`].
//!
//! ```text
//!   READDIRPLUS at 0 ─▶ on:  names with attributes
//!                    └▶ off: `.` and `..` alone; for what follows the kernel sends READDIR (fuse(4), READDIRPLUS_AUTO)
//! ```

use std::sync::atomic::{AtomicI64, Ordering};

/// One file asked for pays for so many in listings.
const PAYS_FOR: i64 = 32;
/// What is remembered at most, either way: some thousands of entries.
const MOST: i64 = 4096;
/// What must be outweighed before anything counts, where a path of a few names proves nothing.
const DOUBT: i64 = 256;

/// What speaks for attributes, in files of a listing.
#[derive(Debug, Default)]
pub(super) struct Eager(AtomicI64);

impl Eager {
    /// One that takes more than the names of one path to believe it.
    pub(super) const fn doubtful() -> Self {
        Self(AtomicI64::new(-DOUBT))
    }

    fn add(&self, entries: i64) {
        let next = |old: i64| Some(old.saturating_add(entries).clamp(-MOST, MOST));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// A file, or a directory, was asked for by its name.
    pub(super) fn asked(&self) {
        self.add(PAYS_FOR);
    }

    /// So many entries were told with attributes.
    pub(super) fn told(&self, entries: u32) {
        if entries > 0 {
            self.add(0_i64.saturating_sub(entries.into()));
        }
    }

    /// Should the next listing carry attributes?
    pub(super) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_that_asks_gets_attributes_until_it_no_longer_asks() {
        let eager = Eager::default();
        assert!(!eager.is_on(), "nobody has asked");
        for _ in 0..100 {
            eager.asked();
        }
        assert!(eager.is_on());
        eager.told(3000);
        assert!(eager.is_on());
        eager.told(2000);
        assert!(!eager.is_on(), "nobody has asked for a long time");
        eager.asked();
        eager.told(10_000);
        assert!(!eager.is_on());
        for _ in 0..200 {
            eager.asked();
        }
        assert!(eager.is_on(), "what was long ago is forgotten");
    }
}
