//! What a guest says about itself: which volume is its root, what it is called, what it boots.

use crate::fs::tree::Tree;
use crate::fs::{FileSystem, FsFacts};
use std::sync::Arc;

/// A file system on a volume, as the guest layer sees it.
#[derive(Clone, Debug)]
pub struct Mounted {
    /// The volume's id.
    pub volume: String,
    /// `PARTUUID`, if the volume is a partition.
    pub part_uuid: Option<String>,
    /// The file system.
    pub fs: Arc<dyn FileSystem>,
    /// What it says about itself.
    pub facts: FsFacts,
}

/// One operating system in an image.
#[derive(Debug)]
pub struct Guest {
    /// Its tree: the root with the other volumes at their `fstab` places.
    pub tree: Arc<Tree>,
    /// The volume of its root.
    pub root: String,
    /// What did not work out while assembling, one line each.
    pub warnings: Vec<String>,
}

/// Finds the operating systems among the file systems, by evidence.
#[must_use]
pub fn roots(_mounted: &[Mounted]) -> Vec<Guest> {
    Vec::new()
}
