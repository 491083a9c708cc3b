//! What could not be read: the list behind `.imgmount/errors`.
//!
//! A failed request is answered with EIO at once and noted by inode. The path, which costs a walk over the tree, is looked
//! for when somebody reads the list.

use super::inodes::File;
use crate::counters::COUNTERS;
use crate::error::Error;
use crate::fs::tree::{Enter, Node, Tree};
use crate::text::escape;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Different troubles kept; more are only counted.
const KEPT: usize = 1000;
/// How long the reader of the list waits for paths.
const PATHS_TIME: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Entry {
    file: File,
    doing: &'static str,
    reason: String,
    times: u64,
    path: Option<String>,
    /// A walk has looked for the path, and there is no second one.
    searched: bool,
}

/// The troubles of one mount.
#[derive(Debug, Default)]
pub struct Troubles {
    entries: Mutex<Vec<Entry>>,
}

impl Troubles {
    /// Notes a failed request.
    pub(super) fn note(&self, file: File, doing: &'static str, error: &Error) {
        COUNTERS.errors.add(1);
        let reason = error.chain();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let same = entries
            .iter_mut()
            .find(|entry| entry.file == file && entry.doing == doing && entry.reason == reason);
        if let Some(entry) = same {
            entry.times = entry.times.saturating_add(1);
            return;
        }
        tracing::warn!("{doing} {file:?}: {reason}");
        if entries.len() < KEPT {
            entries.push(Entry { file, doing, reason, times: 1, path: None, searched: false });
        }
    }

    /// The list for people: one line each, `path (volume): what: reason`.
    #[must_use]
    pub fn text(&self, trees: &[Arc<Tree>]) -> String {
        for (at, tree) in trees.iter().enumerate() {
            self.find_paths(at, tree);
        }
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for entry in entries.iter() {
            let place = place(entry, trees);
            let times = if entry.times > 1 { format!(" ({} times)", entry.times) } else { String::new() };
            let _ = writeln!(text, "{place}: {}: {}{times}", entry.doing, entry.reason);
        }
        text
    }

    /// Fills in the paths of entries of one tree, as far as a short walk finds them. Nobody who notes a trouble waits for it.
    fn find_paths(&self, at: usize, tree: &Tree) {
        let mut wanted: HashMap<Node, String> = HashMap::new();
        for entry in self.entries.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            if let File::Guest(of, node) = entry.file
                && of == at
                && !std::mem::replace(&mut entry.searched, true)
            {
                wanted.insert(node, String::new());
            }
        }
        if wanted.is_empty() {
            return;
        }
        search(tree, &mut wanted);
        for entry in self.entries.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            if let File::Guest(of, node) = entry.file
                && of == at
                && let Some(path) = wanted.get(&node).filter(|path| !path.is_empty())
            {
                entry.path = Some(path.clone());
            }
        }
    }
}

fn place(entry: &Entry, trees: &[Arc<Tree>]) -> String {
    match entry.file {
        File::Own(_) => "the disk".to_owned(),
        File::Guest(tree, node) => {
            let volume = trees.get(tree).map_or("", |tree| tree.volume(node));
            match &entry.path {
                Some(path) => format!("{path} ({volume})"),
                None => format!("{volume} inode {}", node.ino),
            }
        }
    }
}

/// Writes the path of each wanted node beside it, as far as a short walk finds them.
fn search(tree: &Tree, wanted: &mut HashMap<Node, String>) {
    let start = Instant::now();
    let mut missing = wanted.len();
    if let Some(path) = wanted.get_mut(&tree.root()) {
        "/".clone_into(path);
        missing = missing.saturating_sub(1);
    }
    // The end of the walk is told by an error, which is no trouble here.
    let _ = tree.walk_kinds(b"/", tree.root(), &mut |visit| {
        if let Some(path) = wanted.get_mut(&visit.node).filter(|path| path.is_empty()) {
            *path = escape(visit.path).to_string();
            missing = missing.saturating_sub(1);
        }
        if missing == 0 || start.elapsed() > PATHS_TIME {
            return Err(Error::limit("enough"));
        }
        Ok(Enter::Yes)
    });
}
