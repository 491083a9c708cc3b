//! The drives of a Windows system: which volume has which letter, and which name by GUID.
//!
//! ```text
//!   HKLM\SYSTEM\MountedDevices
//!     \DosDevices\D:           the drive D:
//!     \??\Volume{GUID}         the volume, by the name that mounted folders (junctions) use
//!         either one           a partition, see `place`; or the path of a device that can be unplugged
//! ```

use super::place::{Found, Place};
use crate::error::Result;
use crate::guest::registry::Hive;
use crate::guest::{Device, Evidence};

/// Values of `MountedDevices` that are looked at. Every memory stick that was ever plugged in leaves some.
const MAX_VALUES: usize = 10_000;

/// A letter, and what has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// `C`.
    pub letter: char,
    /// The volume.
    pub volume: String,
    /// Where that is written; without it the letter is what Windows would most likely give.
    pub evidence: Option<Evidence>,
}

/// What `MountedDevices` says, held against the devices that are there.
#[derive(Debug, Default)]
pub(super) struct Drives {
    /// By letter.
    pub(super) drives: Vec<Drive>,
    /// Names by GUID, `Volume{…}` in lower case, with their volumes.
    pub(super) names: Vec<(String, String)>,
    /// What does not fit, one line each.
    pub(super) warnings: Vec<String>,
}

/// A value's name.
enum Name {
    Letter(char),
    Volume(String),
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        if let Some(rest) = name.strip_prefix("\\??\\Volume{") {
            let guid = rest.strip_suffix('}').filter(|guid| guid.len() == 36 && guid.is_ascii())?;
            return Some(Self::Volume(format!("Volume{{{}}}", guid.to_ascii_lowercase())));
        }
        let (head, letter) = name.split_at_checked("\\DosDevices\\".len())?;
        let [letter, b':'] = letter.as_bytes() else { return None };
        let is_one = head.eq_ignore_ascii_case("\\DosDevices\\") && letter.is_ascii_alphabetic();
        is_one.then(|| Self::Letter(char::from(letter.to_ascii_uppercase())))
    }
}

/// The signature that the system's own disk had when the registry was written, and the one it has: a clone gets another.
/// Known by the system's own partition, which must be where it was; and none of the values fits the disk as it is now.
fn old_signature(values: &[(Name, Place)], own: &Device, devices: &[Device]) -> Option<(u32, u32)> {
    let disk = own.on_disk.as_ref()?;
    let now = u32::from_str_radix(&disk.disk_id, 16).ok()?;
    let mut old = None;
    for (_, place) in values {
        let Place::Mbr { signature, start } = place else { continue };
        if *signature == now {
            return None;
        }
        if *start == disk.start && matches!(place.find(devices, own.disk), Found::Resigned(_)) {
            old.get_or_insert(*signature);
        }
    }
    Some((old?, now))
}

impl Drives {
    /// Reads the key for the system on the device `own`. `seen` is where: the hive as evidence.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(hive: &Hive, own: &Device, devices: &[Device], seen: &Evidence) -> Result<Self> {
        let mut found = Self::default();
        let Some(key) = hive.key("MountedDevices")? else { return Ok(found) };
        // One damaged value costs only itself.
        let values = key.values().take(MAX_VALUES).flatten().filter_map(|value| {
            let name = value.name().as_utf8().and_then(Name::parse)?;
            Some((name, Place::of_mounted(&value.data().ok()?)?))
        });
        let values: Vec<(Name, Place)> = values.collect();
        let old = old_signature(&values, own, devices);
        let (mut absent, mut resigned) = (Vec::new(), Vec::new());
        for (name, place) in values {
            let now = old.as_ref().and_then(|(old, new)| place.resigned(*old, *new));
            let Found::Device(device) = now.as_ref().unwrap_or(&place).find(devices, own.disk) else {
                if let Name::Letter(letter) = name {
                    absent.push(format!("{letter}: ({place})"));
                }
                continue;
            };
            let letter = match name {
                Name::Volume(name) => {
                    found.names.push((name, device.volume.clone()));
                    continue;
                }
                Name::Letter(letter) => letter,
            };
            if now.is_some() {
                resigned.push(format!("{letter}: ({place})"));
            }
            if device.system.is_none() {
                let (volume, what) = (&device.volume, device.what());
                found.warnings.push(format!("drive {letter}: is {volume}, where {what} is not read"));
            }
            let what = format!("MountedDevices: \\DosDevices\\{letter}: is {place}");
            let evidence = Some(Evidence { what, ..seen.clone() });
            found.drives.push(Drive { letter, volume: device.volume.clone(), evidence });
        }
        for (drives, what) in [
            (absent, "drives on disks that are not in this image"),
            (
                resigned,
                "drives on a disk whose signature is another now, as that of a clone; taken by their place on it",
            ),
        ] {
            if !drives.is_empty() {
                found.warnings.push(format!("{what}: {}", drives.join(", ")));
            }
        }
        found.drives.sort_by_key(|drive| drive.letter);
        found.drives.dedup_by_key(|drive| drive.letter);
        found.names.sort();
        found.names.dedup_by(|one, other| one.0 == other.0);
        Ok(found)
    }

    /// The letter of a volume.
    pub(super) fn letter(&self, volume: &str) -> Option<char> {
        self.drives.iter().find(|drive| drive.volume == volume).map(|drive| drive.letter)
    }

    /// Sees that the system's own volume has a letter: the one that the system itself says, else `C`, unless another
    /// volume has it.
    pub(super) fn need(&mut self, volume: &str, said: Option<(char, Evidence)>) {
        if self.letter(volume).is_some() {
            return;
        }
        let (letter, evidence) = said.map_or(('C', None), |(letter, evidence)| (letter, Some(evidence)));
        if let Some(other) = self.drives.iter().find(|drive| drive.letter == letter) {
            self.warnings.push(format!(
                "the letter of the system's own volume {volume} is not known: {letter}: is {}",
                other.volume
            ));
            return;
        }
        if evidence.is_none() {
            self.warnings.push(format!(
                "the letter of the system's own volume {volume} is not written in the registry; taken for C:"
            ));
        }
        self.drives.push(Drive { letter, volume: volume.to_owned(), evidence });
        self.drives.sort_by_key(|drive| drive.letter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_and_guids_and_the_rest_is_nothing() {
        assert!(matches!(Name::parse("\\DosDevices\\d:"), Some(Name::Letter('D'))));
        let name = "\\??\\Volume{629458E4-0000-0000-0000-010000000000}";
        let expected = "Volume{629458e4-0000-0000-0000-010000000000}";
        assert!(matches!(Name::parse(name), Some(Name::Volume(name)) if name == expected));
        for other in [
            "#{5aae7822-77cb-11e9-bcf1-784f439fa657}",
            "\\DosDevices\\",
            "\\DosDevices\\1:",
            "\\DosDevices\\CD:",
            "",
        ] {
            assert!(Name::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn the_system_is_c_unless_something_else_is() {
        let mut drives = Drives::default();
        drives.need("p2", None);
        assert_eq!(drives.letter("p2"), Some('C'));
        assert_eq!(drives.warnings.len(), 1);
        drives.need("p3", None);
        assert_eq!(drives.letter("p3"), None);
        drives.need("p3", Some(('E', Evidence::new("SystemRoot"))));
        assert_eq!(drives.letter("p3"), Some('E'));
    }
}
