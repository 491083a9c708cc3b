//! What the default boot entry loads before there is a disk: each of its initramfs files, read to its end.

use super::{Listing, Packed, look};
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::Node;
use crate::guest::fact::Fact;
use crate::guest::{BootFile, Guest, INITRAMFS};
use crate::text::escape;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The files of the default entry that are there, in its order: `guest.fact::<DefaultInitramfs>()`.
#[derive(Debug)]
pub struct DefaultInitramfs {
    /// Each with what is in it. A damaged one says so by the end of its listing.
    pub files: Vec<Loaded>,
}

/// One file that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub file: BootFile,
    /// What is in it.
    pub listing: Listing,
}

impl DefaultInitramfs {
    /// udev's rules in it that name network interfaces by their addresses, each with the file that it is packed in.
    pub fn net_rules(&self) -> impl Iterator<Item = (&BootFile, &Packed)> {
        self.files
            .iter()
            .flat_map(|loaded| loaded.listing.net_rules.iter().map(|rules| (&loaded.file, rules)))
    }
}

/// What reading the initramfs files of a guest has cost: one that is beyond the bounds is not unpacked again, and all
/// that beyond them fail together use up the time once.
#[derive(Debug, Default)]
pub struct Bounds {
    beyond: Mutex<Vec<(Node, Error)>>,
}

/// Files that one entry loads; with microcode, keys and the like there are a handful.
const MAX_FILES: usize = 32;
/// Files beyond the bounds after which no further one is unpacked.
const MAX_BEYOND: usize = 2;

impl Bounds {
    /// As [`look`], within what is left.
    ///
    /// # Errors
    /// As [`look`].
    pub fn look(&self, guest: &Guest, file: &BootFile, wanted: &BTreeSet<String>) -> Result<Listing> {
        let beyond = || self.beyond.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let known = beyond();
            let own = known.iter().find(|(node, _)| *node == file.node);
            if let Some((_, error)) = own.or_else(|| known.get(MAX_BEYOND.saturating_sub(1))) {
                return Err(error.clone());
            }
        }
        let found = look(guest.facts(), file.node, wanted, &Budget::new(INITRAMFS));
        if let Err(error) = &found
            && error.kind() == ErrorKind::Limit
        {
            beyond().push((file.node, error.clone()));
        }
        found
    }
}

impl Fact for Bounds {
    fn read(_: &Guest) -> Result<Self> {
        Ok(Self::default())
    }
}

impl Fact for DefaultInitramfs {
    fn read(guest: &Guest) -> Result<Self> {
        let boot = guest
            .boot()?
            .ok_or_else(|| Error::unsupported("no boot menu of a kind that is read was found"))?;
        let entry = boot.default_entry().filter(|entry| !entry.kernel.is_empty());
        let entry = entry.ok_or_else(|| {
            Error::unsupported(format!("the default boot entry is not known: {}", boot.why))
        })?;
        let mut files: Vec<Loaded> = Vec::new();
        if entry.initrds.len() > MAX_FILES {
            return Err(Error::limit(format!(
                "the default boot entry loads more than {MAX_FILES} initramfs files"
            )));
        }
        for named in &entry.initrds {
            let Some(file) = guest.boot_file(named)? else { continue };
            let bounds = guest.fact::<Bounds>()?;
            let listing = bounds
                .look(guest, &file, &BTreeSet::new())
                .map_err(|error| error.context(escape(&file.path)))?;
            files.push(Loaded { file, listing });
        }
        Ok(Self { files })
    }
}
