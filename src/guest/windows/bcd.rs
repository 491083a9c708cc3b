//! A boot store: the menu of Windows' boot manager, and which partition each of its entries starts a system from.
//!
//! ```text
//!   BCD, a registry hive (Vista and later)          boot.ini, a text (2000, XP, 2003)
//!   Objects\{9dea862c-…}   the boot manager         [boot loader]       default=ARC path
//!     Elements\23000003      the default entry      [operating systems] ARC path="name"
//!   Objects\{…}            an entry
//!     Elements\11000001      device of the loader   multi(0)disk(0)rdisk(D)partition(N)\WINDOWS
//!     Elements\12000002      path of the loader         D  disk, from 0
//!     Elements\12000004      what the menu calls it     N  partition, from 1
//!     Elements\21000001      device of the system
//!     Elements\22000002      its directory there
//! ```
//! The names of elements and the layout of a device follow Microsoft's "BCD WMI provider" pages and what stores made by
//! Windows 10 and by setup media hold.

use super::place::Place;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::guest::file;
use crate::guest::registry::{self, Hive, Key, Value};
use crate::ondisk::{get_le32, get_le64};
use crate::text::{Text, escape};

/// The boot manager's object.
const MANAGER: &str = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}";
/// `Type` in the description of an object that starts a Windows: an application, of the boot manager, an OS loader.
const OS_LOADER: u64 = 0x1020_0003;
/// Objects of one store that are looked at; a store of a machine of many years has some fifty.
const MAX_OBJECTS: usize = 256;
/// The longest boot.ini that is read; the real ones have a few hundred bytes.
const MAX_INI: u64 = 64 << 10;

/// A store that was found.
#[derive(Clone, Debug)]
pub(super) struct Store {
    /// The volume it lies on.
    pub(super) volume: String,
    /// Its path there.
    pub(super) path: Text,
    /// The firmware that starts it: `bios`, `uefi`.
    pub(super) firmware: &'static str,
    /// What it starts.
    pub(super) entries: Vec<Entry>,
    /// Which of them without being asked, if it says so.
    pub(super) default: Option<usize>,
}

/// One line of the menu that starts a Windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// What the menu calls it.
    pub(super) name: Text,
    /// Where the system is.
    pub(super) device: Target,
    /// Its directory there, as a path: `/Windows`.
    pub(super) directory: Vec<u8>,
    /// The loader, as a path.
    pub(super) loader: Vec<u8>,
}

/// Where an entry's system is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The partition that the store lies on.
    Here,
    /// A partition.
    Partition(Place),
    /// A partition by its number, and the disk's: both as firmware counts.
    Numbered {
        /// From 0.
        disk: u32,
        /// From 1.
        partition: u32,
    },
    /// Whichever partition has the system's directory: so it is written for an image that is meant for many machines
    /// (`sysprep /generalize`).
    Located,
    /// A file that is unpacked into memory (recovery, setup), or a kind that we do not know.
    Elsewhere,
}

impl Store {
    /// The entry that is started without being asked: the default one, or the only one.
    pub(super) fn default_entry(&self) -> Option<&Entry> {
        match (self.default, self.entries.as_slice()) {
            (Some(at), all) => all.get(at),
            (None, [one]) => Some(one),
            _ => None,
        }
    }
}

/// The stores on one volume; one that cannot be read is an error in their row.
pub(super) fn stores(volume: &str, tree: &Tree) -> Vec<Result<Store>> {
    let mut found = Vec::new();
    for (path, firmware) in
        [("/Boot/BCD", "bios"), ("/EFI/Microsoft/Boot/BCD", "uefi"), ("/boot.ini", "bios")]
    {
        let read = || -> Result<Option<Store>> {
            if !file::exists(tree, path)? {
                return Ok(None);
            }
            let (entries, default) = if path.ends_with(".ini") {
                let text = file::read(tree, path, MAX_INI)?.ok_or_else(|| Error::not_found("boot.ini"))?;
                ini(&text.bytes)
            } else {
                let hive = registry::load(tree, path.as_bytes())?.ok_or_else(|| Error::not_found("BCD"))?;
                bcd(&hive).map_err(|error| error.context(path))?
            };
            Ok(Some(Store { volume: volume.to_owned(), path: Text::from(path), firmware, entries, default }))
        };
        found.extend(read().map_err(|error| error.context(volume)).transpose());
    }
    found
}

/// The entries of a BCD, and which is the default one.
fn bcd(hive: &Hive) -> Result<(Vec<Entry>, Option<usize>)> {
    let manager = hive.key(&format!("Objects\\{MANAGER}"))?;
    let default = manager.map(|key| text(&key, "23000003")).transpose()?.flatten();
    let Some(objects) = hive.key("Objects")? else { return Err(Error::not_found("the key Objects")) };
    let (mut entries, mut first) = (Vec::new(), None);
    let budget = Budget::request();
    for object in objects.subkeys().take(MAX_OBJECTS) {
        budget.steps("objects of a boot store", 1)?;
        // One damaged object costs only itself.
        let Ok(object) = object else { continue };
        let Ok(Some(entry)) = entry(&object) else { continue };
        let name = object.name().to_string();
        if default.as_ref().is_some_and(|default| default.to_string().eq_ignore_ascii_case(&name)) {
            first = Some(entries.len());
        }
        entries.push(entry);
    }
    Ok((entries, first))
}

fn entry(object: &Key) -> Result<Option<Entry>> {
    let Some(description) = object.subkey("Description")? else { return Ok(None) };
    let kind = description.value("Type")?.map(|value| value.number()).transpose()?;
    if kind != Some(OS_LOADER) {
        return Ok(None);
    }
    // A loader that finds its system on its own device has no second one written down.
    let system = match device(object, "21000001")? {
        Some(system) => Some(system),
        None => device(object, "11000001")?,
    };
    let path = |name: &str| Ok(text(object, name)?.map(|path| slashes(path.as_bytes())).unwrap_or_default());
    Ok(Some(Entry {
        name: text(object, "12000004")?.unwrap_or_default(),
        device: system.map_or(Target::Elsewhere, |system| target(&system)),
        directory: path("22000002")?,
        loader: path("12000002")?,
    }))
}

/// An element of an object, by its number.
fn element(object: &Key, number: &str) -> Result<Option<Value>> {
    let Some(elements) = object.subkey("Elements")? else { return Ok(None) };
    let Some(key) = elements.subkey(number)? else { return Ok(None) };
    key.value("Element")
}

fn device(object: &Key, number: &str) -> Result<Option<Vec<u8>>> {
    element(object, number)?.map(|value| value.data()).transpose()
}

fn text(object: &Key, number: &str) -> Result<Option<Text>> {
    element(object, number)?.map(|value| value.text()).transpose()
}

/// A device as an element holds it:
///
/// ```text
///   0x00  GUID   object with more about it
///   0x10  u32    kind: 0 file or memory, 5 where the store is, 6 partition, 8 to be looked for
///   0x18  u32    bytes from 0x10 on
///   0x20         GPT: GUID of the partition; MBR: its first byte, u64
///   0x34  u32    0 GPT, 1 MBR
///   0x38         GPT: GUID of the disk; MBR: its signature, u32
/// ```
fn target(bytes: &[u8]) -> Target {
    let partition = || {
        Some(match get_le32(bytes, 0x34)? {
            0 => Place::Guid(bytes.get(0x20..0x30)?.try_into().ok()?),
            1 => Place::Mbr { signature: get_le32(bytes, 0x38)?, start: get_le64(bytes, 0x20)? },
            _ => return None,
        })
    };
    match get_le32(bytes, 0x10) {
        Some(6) => partition().map_or(Target::Elsewhere, Target::Partition),
        Some(5) => Target::Here,
        Some(8) => Target::Located,
        _ => Target::Elsewhere,
    }
}

/// The entries of a boot.ini, and which is the default one.
fn ini(bytes: &[u8]) -> (Vec<Entry>, Option<usize>) {
    let (mut section, mut wanted, mut entries): (Vec<u8>, _, Vec<(Vec<u8>, Entry)>) =
        (Vec::new(), None, Vec::new());
    for line in bytes.split(|byte| matches!(byte, b'\n' | b'\r' | 0x1a)) {
        let line = line.trim_ascii();
        if let Some(name) = line.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
            section = name.to_ascii_lowercase();
            continue;
        }
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else { continue };
        let (key, value) = line.split_at(equals);
        let (key, value) = (key.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii());
        if section == b"boot loader" && key.eq_ignore_ascii_case(b"default") {
            wanted = Some(value.to_ascii_lowercase());
        }
        if section == b"operating systems"
            && let Some((device, directory)) = arc(key)
        {
            let name = value.split(|byte| *byte == b'"').nth(1).unwrap_or(value);
            let entry = Entry { name: Text::from(name), device, directory, loader: b"/ntldr".to_vec() };
            entries.push((key.to_ascii_lowercase(), entry));
        }
    }
    let default = wanted.and_then(|wanted| entries.iter().position(|(key, _)| *key == wanted));
    (entries.into_iter().map(|(_, entry)| entry).collect(), default)
}

/// An ARC path: `multi(0)disk(0)rdisk(0)partition(1)\WINDOWS`. Of `scsi(…)` it is `disk(…)` that counts.
fn arc(path: &[u8]) -> Option<(Target, Vec<u8>)> {
    let backslash = path.iter().position(|byte| *byte == b'\\')?;
    let (device, directory) = path.split_at(backslash);
    let device = std::str::from_utf8(device).ok()?.to_ascii_lowercase();
    let number = |name: &str| {
        let rest = device.split(')').find_map(|part| part.strip_prefix(name)?.strip_prefix('('))?;
        rest.parse::<u32>().ok()
    };
    let disk = if device.starts_with("scsi") { number("disk")? } else { number("rdisk")? };
    Some((Target::Numbered { disk, partition: number("partition")? }, slashes(directory)))
}

/// A path with the slashes of ours, without one at its end.
pub(super) fn slashes(path: &[u8]) -> Vec<u8> {
    let path: Vec<u8> = path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
    path.strip_suffix(b"/").map_or_else(|| path.clone(), <[u8]>::to_vec)
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.is_empty() {
            write!(f, "{}", escape(&self.loader))
        } else {
            write!(f, "'{}'", self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device of 0x58 bytes: kind, style, and what stands at 0x20 and 0x38.
    fn device(kind: u8, style: u8, partition: &[u8], disk: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 0x58];
        (bytes[0x10], bytes[0x18], bytes[0x34]) = (kind, 0x48, style);
        bytes[0x20..][..partition.len()].copy_from_slice(partition);
        bytes[0x38..][..disk.len()].copy_from_slice(disk);
        bytes
    }

    #[test]
    fn a_device_is_a_partition_of_either_table_or_where_the_store_is() {
        let mbr = device(6, 1, &0x650_0000_u64.to_le_bytes(), &[0x78, 0x56, 0x34, 0x12]);
        let place = Place::Mbr { signature: 0x1234_5678, start: 0x650_0000 };
        assert_eq!(target(&mbr), Target::Partition(place));
        assert_eq!(
            target(&device(6, 0, b"0123456789abcdef", b"")),
            Target::Partition(Place::Guid(*b"0123456789abcdef"))
        );
        assert_eq!(target(&device(5, 0, b"", b"")), Target::Here);
        assert_eq!(target(&device(8, 0, b"", b"")), Target::Located);
        assert_eq!(target(&device(0, 0, b"", b"")), Target::Elsewhere);
        assert_eq!(target(&mbr[..0x38]), Target::Elsewhere);
        assert_eq!(target(b""), Target::Elsewhere);
    }

    #[test]
    fn a_boot_ini_names_partitions_by_number() {
        let text = b"[boot loader]\r\ntimeout=30\r\ndefault=multi(0)disk(0)rdisk(0)partition(2)\\WINDOWS\r\n\
            [operating systems]\r\nmulti(0)disk(0)rdisk(0)partition(1)\\WINNT=\"Windows 2000\" /fastdetect\r\n\
            multi(0)disk(0)rdisk(0)partition(2)\\WINDOWS=\"Windows XP\" /noexecute=optin\r\nC:\\=\"DOS\"\r\n";
        let (entries, default) = ini(text);
        assert_eq!((entries.len(), default), (2, Some(1)));
        assert_eq!(entries[1].name, Text::from("Windows XP"));
        assert_eq!(entries[1].device, Target::Numbered { disk: 0, partition: 2 });
        assert_eq!(entries[1].directory, b"/WINDOWS");
    }

    #[test]
    fn lines_that_are_no_entries_are_left_out() {
        assert_eq!(ini(b"[operating systems]\nmulti(0)\\x=\"y\"\n=\n[").0, []);
        assert_eq!(
            arc(b"scsi(0)disk(1)rdisk(0)partition(3)\\W").unwrap().0,
            Target::Numbered { disk: 1, partition: 3 }
        );
    }
}
