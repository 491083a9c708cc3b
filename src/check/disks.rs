//! The disk and the file systems that rules about the disk mean. A machine may have several disks: the one that the system
//! starts from is imported as the system disk, so limits of that disk are held against it and no other.

use super::{Outcome, Subject};
use crate::fs::FileSystem;
use crate::fs::tree::Part;
use crate::image::Opened;
use crate::text::Text;
use crate::volume::{Discovery, Volume};
use std::sync::Arc;

/// Volumes between a volume and its disk that are looked through; deeper ones are not made.
const MAX_DEPTH: usize = 16;

/// One disk of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk<'a> {
    /// `disk`, `disk2`, ...
    pub(super) id: &'a str,
    /// Counted from 0.
    pub(super) number: u32,
    /// The container.
    pub(super) image: &'a Opened,
    /// Its table and volumes.
    pub(super) discovery: &'a Discovery,
}

/// A file system that the system mounts.
#[derive(Clone, Debug)]
pub(super) struct Mounted<'a> {
    /// Its volume.
    pub(super) volume: &'a str,
    /// Where the system has it: `/`, `/boot`.
    pub(super) path: Text,
    /// The file system.
    pub(super) fs: &'a Arc<dyn FileSystem>,
}

impl<'a> Subject<'a> {
    /// The disk that the root of the system is on; the first where that is not known, or where it is on several.
    pub(super) fn system_disk(&self) -> Disk<'a> {
        let first =
            Disk { id: "disk", number: 0, image: &self.stack.image, discovery: &self.stack.discovery };
        let root = self.stack.guests.first().and_then(|guest| self.stack.volume(&guest.root));
        let number = root.and_then(|volume| volume.disk).unwrap_or(0);
        let further = self.stack.others.iter().find(|disk| disk.number == number);
        further.map_or(first, |disk| Disk {
            id: &disk.id,
            number: disk.number,
            image: &disk.image,
            discovery: &disk.discovery,
        })
    }

    /// The file systems that the only system mounts, the root first, each volume once.
    ///
    /// # Errors
    /// As [`Subject::guest`].
    pub(super) fn mounted(&self) -> Result<Vec<Mounted<'a>>, Outcome> {
        let guest = self.guest()?;
        let mut found: Vec<Mounted<'a>> = Vec::new();
        for mount in guest.tree.mounts() {
            let is_known = found.iter().any(|known| known.volume == mount.volume);
            if !is_known && !matches!(mount.part, Part::Bind(_)) && self.stack.volume(&mount.volume).is_some()
            {
                let path = Text::from(mount.path.as_slice());
                found.push(Mounted { volume: &mount.volume, path, fs: &mount.fs });
            }
        }
        Ok(found)
    }

    /// The volume and everything that it is made of, down to partitions and disks.
    pub(super) fn below(&self, id: &str) -> Vec<&'a Volume> {
        let mut found: Vec<&'a Volume> = self.stack.volume(id).into_iter().collect();
        let mut layer: Vec<&'a Volume> = found.clone();
        for _ in 0..MAX_DEPTH {
            let ids = layer.iter().flat_map(|volume| &volume.made_of);
            layer = ids
                .filter(|id| !found.iter().any(|known| known.id == **id))
                .filter_map(|id| self.stack.volume(id))
                .collect();
            if layer.is_empty() {
                break;
            }
            found.extend(layer.iter().copied());
        }
        found
    }
}
