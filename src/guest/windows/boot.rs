//! Which of the systems in an image its boot stores start, and where a store and the image do not fit together.

use super::bcd::{Entry, Store, Target};
use super::place::{Found, Place};
use crate::error::Error;
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
    /// The program that loads the system, as a path on its volume; empty where the store names none.
    pub loader: Vec<u8>,
    /// Is it started without being asked?
    pub is_default: bool,
    /// The store.
    pub evidence: Evidence,
}

/// A boot store that was read.
#[derive(Clone, Debug)]
pub struct StoreSeen {
    /// The firmware that starts its boot manager: `bios`, `uefi`.
    pub firmware: &'static str,
    /// The volume that it lies on.
    pub volume: String,
    /// Its path there.
    pub path: Text,
}

impl StoreSeen {
    /// The store as evidence.
    #[must_use]
    pub fn seen(&self, what: impl Into<String>) -> Evidence {
        Evidence::new(what).on(&self.volume).path(self.path.as_bytes())
    }
}

/// What starts the Windows systems of an image.
#[derive(Debug, Default)]
pub struct Starters {
    /// The stores.
    pub stores: Vec<StoreSeen>,
    /// Why others could not be read.
    pub unread: Vec<Error>,
    /// Where their default entries and the image do not fit together, one line each.
    pub faults: Vec<String>,
}

impl Starters {
    pub(super) fn new(stores: &[Store], unread: Vec<Error>, boots: &Boots) -> Self {
        let seen = |store: &Store| StoreSeen {
            firmware: store.firmware,
            volume: store.volume.clone(),
            path: store.path.clone(),
        };
        Self { stores: stores.iter().map(seen).collect(), unread, faults: boots.warnings.clone() }
    }
}

/// What the stores of an image start.
#[derive(Debug, Default)]
pub(super) struct Boots {
    pub(super) entries: Vec<BootEntry>,
    /// What does not fit, one line each.
    pub(super) warnings: Vec<String>,
}

impl Boots {
    /// Of all stores; `systems` are the installations, by volume and directory.
    pub(super) fn of(stores: &[Store], devices: &[Device], systems: &[(String, Vec<u8>)]) -> Self {
        let mut boots = Self::default();
        for store in stores {
            let default = store.default_entry();
            let own = devices.iter().find(|device| device.volume == store.volume);
            let disk = own.map_or(0, |device| device.disk);
            for entry in &store.entries {
                let is_default = default == Some(entry);
                let volume = match entry.device {
                    Target::Located => located(entry, systems),
                    _ => boots.started(store, entry, is_default, (devices, disk)),
                };
                // What is unpacked into memory is no system of the disk.
                if entry.device == Target::Elsewhere {
                    continue;
                }
                boots.entries.push(BootEntry {
                    firmware: store.firmware,
                    name: entry.name.clone(),
                    volume,
                    directory: entry.directory.clone(),
                    loader: entry.loader.clone(),
                    is_default,
                    evidence: Evidence::new(format!("the entry {entry}"))
                        .on(&store.volume)
                        .path(store.path.as_bytes()),
                });
            }
        }
        boots
    }

    /// The volume that an entry starts its system from; of the default one, why it cannot. `disk` is that of the store.
    fn started(
        &mut self,
        store: &Store,
        entry: &Entry,
        is_default: bool,
        (devices, disk): (&[Device], u32),
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
            Target::Located | Target::Elsewhere => return None,
            Target::Numbered { disk, partition } => {
                let found = numbered(devices, *disk, *partition);
                if found.is_none() {
                    said(format!("partition {partition} of disk {disk}, which is not in this image"));
                }
                found
            }
            Target::Partition(place) => match place.find(devices, disk) {
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

/// The volume with the directory that an entry looks for, if only one has it.
fn located(entry: &Entry, systems: &[(String, Vec<u8>)]) -> Option<String> {
    let mut found = systems.iter().filter(|(_, directory)| entry.directory.eq_ignore_ascii_case(directory));
    let (volume, _) = found.next()?;
    found.next().is_none().then(|| volume.clone())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::OnDisk;

    /// Partition 2 of the disk with signature 12345678, from byte 4096 on.
    fn devices() -> Vec<Device> {
        let on_disk = OnDisk { disk_id: "12345678".to_owned(), uuid: None, start: 4096 };
        let second = Device {
            volume: "p2".to_owned(),
            part_number: Some(2),
            on_disk: Some(on_disk),
            ..Device::default()
        };
        vec![Device { volume: "p1".to_owned(), part_number: Some(1), ..Device::default() }, second]
    }

    /// What a store on p1 with one entry starts, if the only Windows is in /Windows of p2.
    fn boots(device: Target, directory: &str) -> Boots {
        let entry = Entry {
            name: Text::from("Windows"),
            device,
            directory: directory.as_bytes().to_vec(),
            loader: Vec::new(),
        };
        let store = Store {
            volume: "p1".to_owned(),
            path: Text::from("/Boot/BCD"),
            firmware: "bios",
            entries: vec![entry],
            default: None,
        };
        Boots::of(&[store], &devices(), &[("p2".to_owned(), b"/Windows".to_vec())])
    }

    #[test]
    fn an_entry_starts_the_system_on_its_partition() {
        let place = |signature| Target::Partition(Place::Mbr { signature, start: 4096 });
        for device in [place(0x1234_5678), Target::Numbered { disk: 0, partition: 2 }, Target::Located] {
            let boots = boots(device, "/WINDOWS");
            assert!(boots.starts("p2", b"/Windows") && boots.warnings.is_empty(), "{boots:?}");
        }
        let clone = boots(place(0xbad), "/Windows");
        assert!(clone.starts("p2", b"/Windows"));
        let said = "p1:/Boot/BCD: its default entry, 'Windows', starts from byte 4096 of the disk with signature \
            00000bad; that is where p2 is, but its disk has signature 12345678";
        assert_eq!(clone.warnings, [said]);
    }

    #[test]
    fn an_entry_that_leads_nowhere_is_said() {
        let absent = boots(Target::Partition(Place::Mbr { signature: 0x1234_5678, start: 8192 }), "/Windows");
        assert!(absent.warnings[0].ends_with("where this image has no partition"), "{absent:?}");
        let numbered = boots(Target::Numbered { disk: 1, partition: 2 }, "/Windows");
        assert!(numbered.warnings[0].contains("partition 2 of disk 1"), "{numbered:?}");
        let here = boots(Target::Here, "/Windows");
        assert!(here.warnings.is_empty());
        let said = here.dead(&[("p2".to_owned(), b"/Windows".to_vec())], &devices());
        assert_eq!(said, ["p1:/Boot/BCD: the entry 'Windows' starts /Windows of p1, which is not read"]);
    }

    #[test]
    fn what_is_unpacked_into_memory_is_no_system() {
        assert!(boots(Target::Elsewhere, "/Windows").entries.is_empty());
    }
}
