//! What the default boot entry loads before there is a disk: each of its initramfs files, read to its end.

use super::{Listing, Packed, look};
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::guest::fact::Fact;
use crate::guest::{BootFile, Guest, INITRAMFS};
use crate::text::escape;
use std::collections::BTreeSet;

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

impl Fact for DefaultInitramfs {
    fn read(guest: &Guest) -> Result<Self> {
        let boot = guest
            .boot()?
            .ok_or_else(|| Error::unsupported("no boot menu of a kind that is read was found"))?;
        let entry = boot.default_entry().filter(|entry| !entry.kernel.is_empty());
        let entry = entry.ok_or_else(|| {
            Error::unsupported(format!("the default boot entry is not known: {}", boot.why))
        })?;
        let mut files = Vec::new();
        for named in &entry.initrds {
            let Some(file) = guest.boot_file(named)? else { continue };
            let listing = look(guest.facts(), file.node, &BTreeSet::new(), &Budget::new(INITRAMFS))
                .map_err(|error| error.context(escape(&file.path)))?;
            files.push(Loaded { file, listing });
        }
        Ok(Self { files })
    }
}
