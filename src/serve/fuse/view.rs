//! A view: what a mount shows, as a small table of nodes made once, before the first request.
//!
//! ```text
//!   root ─▶ tree 0: the guest's /          hidden: .imgmount ─▶ Dir
//!                                             disk.raw      ─▶ Disk
//!                                             partitions/   ─▶ Dir ─▶ 1.raw ─▶ Disk
//!                                             filesystems/  ─▶ Dir ─▶ 1-ext4-boot ─▶ tree 1
//!                                             stats         ─▶ Text
//! ```
//! A guest's files are no nodes here: a [`Tree`] answers for them by inode.

use super::late::Late;
use crate::block::BlockSource;
use crate::error::Result;
use crate::fs::tree::Tree;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Extents looked at to count a disk's allocated blocks, and the time for it: `ls` must not wait for a walk over a
/// terabyte of tables. What lies behind counts as allocated.
const COUNT_EXTENTS: usize = 65_536;
/// See [`COUNT_EXTENTS`].
const COUNT_TIME: Duration = Duration::from_millis(50);

/// What a name of a view's own directory leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node of the view's table.
    Own(usize),
    /// The root of one of its trees.
    Tree(usize),
}

/// A node of the view's table.
#[derive(Debug)]
pub(super) enum Own {
    Dir(Vec<(Vec<u8>, Target)>),
    Disk(Disk),
    Text(Text),
    Late(Arc<Late>),
}

/// What a mount shows. Made by [`View::new`] and the `add_` methods, then never changed.
#[derive(Debug)]
pub struct View {
    own: Vec<Own>,
    trees: Vec<Arc<Tree>>,
    root: Target,
    hidden: Option<(Vec<u8>, usize)>,
    /// When the view was made: the time stamp of everything that is not the guest's.
    pub(super) made: SystemTime,
}

impl Default for View {
    fn default() -> Self {
        Self::new()
    }
}

impl View {
    /// An empty view: a root directory of its own, without a name in it.
    #[must_use]
    pub fn new() -> Self {
        Self {
            own: vec![Own::Dir(Vec::new())],
            trees: Vec::new(),
            root: Target::Own(0),
            hidden: None,
            made: SystemTime::now(),
        }
    }

    /// The root directory of a new view.
    #[must_use]
    pub const fn top(&self) -> usize {
        0
    }

    fn add(&mut self, dir: usize, name: &str, own: Own) -> usize {
        let at = self.own.len();
        self.own.push(own);
        self.name(dir, name, Target::Own(at));
        at
    }

    /// Adds a name to one of the view's own directories.
    fn name(&mut self, dir: usize, name: &str, target: Target) {
        if let Some(Own::Dir(entries)) = self.own.get_mut(dir) {
            entries.push((name.as_bytes().to_vec(), target));
        }
    }

    /// Adds a directory below another, and says its number.
    pub fn add_dir(&mut self, dir: usize, name: &str) -> usize {
        self.add(dir, name, Own::Dir(Vec::new()))
    }

    /// Adds a directory to the top that no listing shows, and says its number.
    pub fn add_hidden(&mut self, name: &str) -> usize {
        let at = self.own.len();
        self.own.push(Own::Dir(Vec::new()));
        self.hidden = Some((name.as_bytes().to_vec(), at));
        at
    }

    /// Adds a file with the bytes of a source.
    pub fn add_disk(&mut self, dir: usize, name: &str, source: Arc<dyn BlockSource>) {
        self.add(dir, name, Own::Disk(Disk { source, blocks: OnceLock::new() }));
    }

    /// Adds a file whose text is written anew whenever someone looks.
    pub fn add_text(&mut self, dir: usize, name: &str, write: impl Fn() -> String + Send + Sync + 'static) {
        self.add(dir, name, Own::Text(Text { write: Box::new(write), now: Mutex::default() }));
    }

    /// Adds a file that takes its time to make. The same one may stand in several places.
    pub fn add_late(&mut self, dir: usize, name: &str, late: &Arc<Late>) {
        self.add(dir, name, Own::Late(Arc::clone(late)));
    }

    /// Adds a file whose text never changes.
    pub fn add_fixed(&mut self, dir: usize, name: &str, text: String) {
        self.add_text(dir, name, move || text.clone());
    }

    /// Adds the root of a tree under a name.
    pub fn add_tree(&mut self, dir: usize, name: &str, tree: Arc<Tree>) {
        let target = Target::Tree(self.trees.len());
        self.trees.push(tree);
        self.name(dir, name, target);
    }

    /// Shows a tree at the top instead of the view's own root, which stays reachable under `name` without being listed.
    pub fn cover(&mut self, tree: Arc<Tree>, name: &str) {
        self.root = Target::Tree(self.trees.len());
        self.trees.push(tree);
        self.hidden = Some((name.as_bytes().to_vec(), self.top()));
    }

    /// Every tree, the one at the top included.
    #[must_use]
    pub fn trees(&self) -> &[Arc<Tree>] {
        &self.trees
    }

    pub(super) const fn root(&self) -> Target {
        self.root
    }

    pub(super) fn own(&self, at: usize) -> Option<&Own> {
        self.own.get(at)
    }

    /// The name in the root that no listing shows.
    pub(super) fn hidden_name(&self) -> Option<&[u8]> {
        self.hidden.as_ref().map(|(name, _)| name.as_slice())
    }

    /// The directory of the view that `name` in the root leads to, though no listing shows it.
    pub(super) fn hidden(&self, name: &[u8]) -> Option<usize> {
        self.hidden.as_ref().filter(|(hidden, _)| hidden == name).map(|(_, at)| *at)
    }
}

/// A source as a file.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) source: Arc<dyn BlockSource>,
    blocks: OnceLock<u64>,
}

impl Disk {
    /// Allocated blocks of 512 bytes, never more than the size: less tells `cp` that holes are worth looking for.
    pub(super) fn blocks(&self) -> u64 {
        *self.blocks.get_or_init(|| self.count().div_ceil(512))
    }

    fn count(&self) -> u64 {
        let (len, mut offset, mut data) = (self.source.len(), 0_u64, 0_u64);
        let start = Instant::now();
        for _ in 0..COUNT_EXTENTS {
            if offset >= len || start.elapsed() > COUNT_TIME {
                break;
            }
            let Ok(extent) = self.source.extent(offset) else { break };
            data = data.saturating_add(if extent.zero { 0 } else { extent.len });
            offset = offset.saturating_add(extent.len.max(1));
        }
        data.saturating_add(len.saturating_sub(offset)).min(len)
    }

    /// The next byte at or after `offset` that is data (or, with `hole`, that is none), below `len`.
    pub(super) fn seek(&self, offset: u64, hole: bool) -> Result<Option<u64>> {
        let len = self.source.len();
        seek(offset, len, hole, |at| self.source.extent(at).map(|extent| (extent.len, extent.zero)))
    }
}

/// Runs looked at to answer one `lseek`. Where they do not suffice the rest counts as data, which is always right.
const SEEK_RUNS: usize = 1 << 20;

/// `SEEK_DATA` and `SEEK_HOLE` over anything that can say "so many bytes from here are a hole, or are not".
/// `None` is ENXIO: past the end, or no data any more.
pub(super) fn seek(
    offset: u64,
    len: u64,
    hole: bool,
    run_at: impl Fn(u64) -> Result<(u64, bool)>,
) -> Result<Option<u64>> {
    if offset >= len {
        return Ok(None);
    }
    let mut at = offset;
    for _ in 0..SEEK_RUNS {
        if at >= len {
            // Behind the last byte there is a hole, as lseek(2) has it, and no data.
            return Ok(hole.then_some(len));
        }
        let (run, is_hole) = run_at(at)?;
        if is_hole == hole {
            return Ok(Some(at));
        }
        at = at.saturating_add(run.max(1));
    }
    Ok(Some(if hole { len } else { at.min(len) }))
}

/// Writes a generated file.
type Write = Box<dyn Fn() -> String + Send + Sync>;

/// A generated file. Its content is fixed when its attributes are asked for, so that size and bytes agree.
pub(super) struct Text {
    write: Write,
    now: Mutex<Arc<str>>,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text")
    }
}

impl Text {
    /// Writes it anew; its length.
    pub(super) fn renew(&self) -> Arc<str> {
        let text: Arc<str> = (self.write)().into();
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&text);
        text
    }

    /// As last written.
    pub(super) fn current(&self) -> Arc<str> {
        Arc::clone(&self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0..4 data, 4..8 hole, 8..10 data.
    fn runs(at: u64) -> Result<(u64, bool)> {
        let (end, hole) = match at {
            0..4 => (4_u64, false),
            4..8 => (8, true),
            _ => (10, false),
        };
        Ok((end.saturating_sub(at), hole))
    }

    #[test]
    fn data_and_holes_are_found_as_lseek_says() {
        let data = |offset| seek(offset, 10, false, runs).unwrap();
        let hole = |offset| seek(offset, 10, true, runs).unwrap();
        assert_eq!((data(0), data(3), data(4), data(9)), (Some(0), Some(3), Some(8), Some(9)));
        assert_eq!((hole(0), hole(4), hole(7), hole(8)), (Some(4), Some(4), Some(7), Some(10)));
    }

    #[test]
    fn at_and_past_the_end_there_is_nothing() {
        assert_eq!(seek(10, 10, false, runs).unwrap(), None);
        assert_eq!(seek(11, 10, true, runs).unwrap(), None);
        assert_eq!(seek(5, 8, false, runs).unwrap(), None);
        assert_eq!(seek(0, 0, true, runs).unwrap(), None);
    }
}
