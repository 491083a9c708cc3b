//! Which of the systems in an image its boot stores start, and where a store and the image do not fit together.

use super::bcd::{Entry, Store, Target};
use super::place::{Found, Place};
use crate::guest::{Device, Evidence};
use crate::text::{Text, escape};

/// An entry of a boot store, as far as it is about a partition.
#[derive(Clone, Debug)]
pub struct BootEntry {
    /// The firmware that starts the store's boot manager: `bios`, `uefi`.
    pub firmware: &'static str,
    /// What the menu calls it.
    pub name: Text,
    /// The volume that its system is on, if that is in this image.
    pub volume: Option<String>,
    /// The system's directory there, as a path.
    pub directory: Vec<u8>,
    /// Is it started without being asked?
    pub is_default: bool,
    /// The store.
    pub evidence: Evidence,
}

/// What the stores of an image start.
#[derive(Debug, Default)]
pub(super) struct Boots {
    pub(super) entries: Vec<BootEntry>,
    /// What does not fit, one line each.
    pub(super) warnings: Vec<String>,
}

impl Boots {
    pub(super) fn of(stores: &[Store], devices: &[Device]) -> Self {
        let mut boots = Self::default();
        for store in stores {
            let default = store.default_entry();
            for entry in &store.entries {
                let is_default = default == Some(entry);
                let volume = boots.started(store, entry, is_default, devices);
                // What is unpacked into memory is no system of the disk.
                if entry.device == Target::Elsewhere {
                    continue;
                }
                boots.entries.push(BootEntry {
                    firmware: store.firmware,
                    name: entry.name.clone(),
                    volume,
                    directory: entry.directory.clone(),
                    is_default,
                    evidence: Evidence::new(format!("the entry {entry}"))
                        .on(&store.volume)
                        .path(store.path.as_bytes()),
                });
            }
        }
        boots
    }

    /// The volume that an entry starts its system from; of the default one, why it cannot.
    fn started(
        &mut self,
        store: &Store,
        entry: &Entry,
        is_default: bool,
        devices: &[Device],
    ) -> Option<String> {
        let mut said = |what: String| {
            if is_default {
                let (volume, path) = (&store.volume, &store.path);
                self.warnings
                    .push(format!("{volume}:{path}: its default entry, {entry}, starts from {what}"));
            }
        };
        let found = match &entry.device {
            Target::Here => devices.iter().find(|device| device.volume == store.volume),
            Target::Elsewhere => return None,
            Target::Numbered { disk, partition } => {
                let found = numbered(devices, *disk, *partition);
                if found.is_none() {
                    said(format!("partition {partition} of disk {disk}, which is not in this image"));
                }
                found
            }
            Target::Partition(place) => match place.find(devices) {
                Found::Device(device) => Some(device),
                Found::Resigned(device) => {
                    said(format!(
                        "{place}; that is where {} is, but its disk has {}",
                        device.volume,
                        signature(device)
                    ));
                    Some(device)
                }
                Found::Absent => {
                    let what = match place {
                        Place::Mbr { .. } => "where this image has no partition",
                        Place::Guid(_) => "which is not in this image",
                    };
                    said(format!("{place}, {what}"));
                    None
                }
            },
        };
        found.map(|device| device.volume.clone())
    }

    /// Does a default entry start the system in this directory of this volume?
    pub(super) fn starts(&self, volume: &str, directory: &[u8]) -> bool {
        self.entries.iter().any(|entry| entry.is_default && entry.is_of(volume, directory))
    }

    /// Default entries that start from a volume of this image where no system is.
    pub(super) fn dead(&self, systems: &[(String, Vec<u8>)], devices: &[Device]) -> Vec<String> {
        let is_read =
            |volume: &str| devices.iter().any(|device| device.volume == volume && device.system.is_some());
        let is_known =
            |entry: &&BootEntry| systems.iter().any(|(volume, directory)| entry.is_of(volume, directory));
        let dead = self.entries.iter().filter(|entry| entry.is_default && !is_known(entry));
        dead.filter_map(|entry| {
            let volume = entry.volume.as_deref()?;
            let path = entry.evidence.path.as_ref().map(ToString::to_string).unwrap_or_default();
            let store = format!("{}:{path}", entry.evidence.volume.as_deref().unwrap_or_default());
            let why = if is_read(volume) { "where no Windows is" } else { "which is not read" };
            Some(format!(
                "{store}: {} starts {} of {volume}, {why}",
                entry.evidence.what,
                escape(&entry.directory)
            ))
        })
        .collect()
    }
}

impl BootEntry {
    /// Is it the system in this directory of this volume?
    pub(super) fn is_of(&self, volume: &str, directory: &[u8]) -> bool {
        self.volume.as_deref() == Some(volume) && self.directory.eq_ignore_ascii_case(directory)
    }
}

/// A partition as an ARC path counts them: those in use, the primary ones first.
fn numbered(devices: &[Device], disk: u32, partition: u32) -> Option<&Device> {
    let on_it = |device: &&Device| device.disk == disk && device.part_number.is_some();
    let mut found: Vec<&Device> = devices.iter().filter(on_it).collect();
    found.sort_by_key(|device| device.part_number);
    found.get(usize::try_from(partition.checked_sub(1)?).ok()?).copied()
}

fn signature(device: &Device) -> String {
    device
        .on_disk
        .as_ref()
        .map_or_else(|| "no signature".to_owned(), |disk| format!("signature {}", disk.disk_id))
}
