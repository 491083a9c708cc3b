//! The container's own files: which they are, and whether every byte that its map names is in them. Nothing but the map is
//! read, which a size as QCOW2 needs too.

use super::{Fact, Subject};
use crate::block::{Below, BlockSource};
use crate::budget::{Budget, Limits};
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Pieces of a disk in several files that are looked at to find those files.
const MAX_STEPS: u32 = 1 << 20;
/// Storeys between a disk and its file: encryption, an archive, a layer.
const MAX_STOREYS: usize = 16;

/// Is every byte that the map names there?
#[derive(Debug)]
pub(super) enum Whole {
    /// Yes.
    Yes,
    /// A byte of the disk lies where there is no file, or the map itself does.
    Cut {
        /// The first such byte of the disk.
        byte: u64,
        /// What the map said.
        error: Error,
    },
}

impl Fact for Whole {
    fn read(subject: &Subject<'_>) -> Result<Self> {
        let disk = &subject.system_disk().image.disk;
        let budget = Budget::new(Limits::OPEN);
        let mut offset = 0;
        while offset < disk.len() {
            if budget.is_late() {
                let error = Error::limit(format!(
                    "the map is long: it was followed to byte {offset} of {}",
                    disk.len()
                ));
                return Err(error.help("qemu-img check looks through all of it"));
            }
            match disk.extent(offset) {
                Ok(extent) => offset = offset.saturating_add(extent.len.max(1)),
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::OutOfRange) => {
                    return Ok(Self::Cut { byte: offset, error });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self::Yes)
    }
}

/// The files that are uploaded, as they lie.
#[derive(Debug)]
pub(super) struct Files {
    /// Name, safe to show, and length; the one that was named first.
    pub(super) all: Vec<(String, u64)>,
}

impl Fact for Files {
    fn read(subject: &Subject<'_>) -> Result<Self> {
        let none = || Error::new(ErrorKind::Unsupported, "the file that the image lies in is not known");
        let own = subject.stack.file.as_ref().ok_or_else(none)?;
        let mut all = vec![(subject.stack.name.clone(), own.len())];
        let image = &subject.stack.image;
        let has_more = image
            .facts
            .iter()
            .any(|(name, _)| matches!(*name, "extents" | "data file" | "segments" | "parts"));
        if has_more {
            for file in ground(&image.disk)? {
                if !Arc::ptr_eq(&file, own) && file.label() != own.label() {
                    all.push((file.label(), file.len()));
                }
            }
        }
        Ok(Self { all })
    }
}

impl Files {
    /// Bytes of all of them.
    pub(super) fn len(&self) -> u64 {
        self.all.iter().map(|(_, len)| *len).fold(0, u64::saturating_add)
    }
}

/// The files below a disk, but not those of its parents.
fn ground(disk: &Arc<dyn BlockSource>) -> Result<Vec<Arc<dyn BlockSource>>> {
    let mut found: Vec<Arc<dyn BlockSource>> = Vec::new();
    let mut offset = 0;
    for _ in 0..MAX_STEPS {
        if offset >= disk.len() {
            return Ok(found);
        }
        let step = disk.step(offset)?;
        if let Some(file) = file_of(step.below)?
            && !found.iter().any(|known| Arc::ptr_eq(known, &file))
        {
            found.push(file);
        }
        offset = offset.saturating_add(step.len.max(1));
    }
    Err(Error::limit(format!("the map is long: it was followed to byte {offset} of {}", disk.len())))
}

fn file_of(mut below: Below) -> Result<Option<Arc<dyn BlockSource>>> {
    let mut file = None;
    for _ in 0..MAX_STOREYS {
        let (Below::Stored(next, at) | Below::Encrypted(next, at) | Below::Packed(next, at, _)) = below
        else {
            break;
        };
        below = if at < next.len() { next.step(at)?.below } else { Below::Here };
        file = Some(next);
    }
    Ok(file)
}
