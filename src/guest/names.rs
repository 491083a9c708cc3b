//! Which volume a name means to a guest: by what stands on the volumes, and by what the guest's own files say of names.

use super::Device;
use super::crypttab;
use super::file::{self, GuestFile, MAX_CONFIG};
use super::spec::Spec;
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::text::escape;

/// Entries of `mdadm.conf` that are used; a machine has a handful.
const MAX_ENTRIES: usize = 1024;

/// What a name means in one image.
#[derive(Clone, Debug)]
pub enum Found<'a> {
    /// This device.
    Device(&'a Device),
    /// Nothing in this image.
    Absent,
    /// It cannot be said, and why.
    Unsure(String),
}

/// What a guest's own files say about the names of its devices.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The volume of the root.
    root: String,
    /// The disk that the root is on, and how the guest calls it where it names its root by that.
    own: Option<(Spec, u32)>,
    /// `/etc/crypttab`: names below `/dev/mapper`, and what is opened under them.
    crypttab: Vec<(Vec<u8>, Spec)>,
    /// `mdadm.conf`: arrays with the UUIDs of what they are made of.
    arrays: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Names {
    /// Reads a guest's files. `named` is how it calls its root's device itself, if it does.
    ///
    /// # Errors
    /// When one of them is there but cannot be read.
    pub(super) fn read(tree: &Tree, root: &Device, named: Option<&Spec>) -> Result<Self> {
        let own = named.and_then(|spec| {
            let (disk, partition) = match spec {
                Spec::Kernel { disk, partition } => (Spec::Kernel { disk: *disk, partition: 0 }, partition),
                Spec::Hardware { disk, partition } => {
                    (Spec::Hardware { disk: disk.clone(), partition: 0 }, partition)
                }
                _ => return None,
            };
            let fits = root.is_of_the_disk() && root.part_number.unwrap_or(0) == *partition;
            fits.then_some((disk, root.disk))
        });
        let file = |path: &str| file::read(tree, path, MAX_CONFIG);
        let mdadm = file::read_first(tree, &["/etc/mdadm/mdadm.conf", "/etc/mdadm.conf"], MAX_CONFIG)?;
        Ok(Self {
            root: root.volume.clone(),
            own,
            crypttab: file("/etc/crypttab")?.map(|file| opened(&file)).unwrap_or_default(),
            arrays: mdadm.map(|file| arrays(&file)).unwrap_or_default(),
        })
    }

    /// Looks a device up. What has no identity that we can read may be the one that is meant.
    #[must_use]
    pub fn resolve<'a>(&self, spec: &Spec, devices: &'a [Device]) -> Found<'a> {
        self.resolve_within(spec, devices, 2)
    }

    /// `depth`: an entry of `crypttab` may name another.
    fn resolve_within<'a>(&self, spec: &Spec, devices: &'a [Device], depth: u32) -> Found<'a> {
        if let Some(device) = self.matches(spec, devices).into_iter().next() {
            return Found::Device(device);
        }
        let find = |matches: &dyn Fn(&Device) -> bool| devices.iter().find(|device| matches(device));
        match spec {
            Spec::Uuid(_) | Spec::Label(_) => match find(&|device| device.may_hide_an_identity()) {
                Some(device) => Found::Unsure(format!(
                    "{} holds {}, whose identity could not be read",
                    device.volume,
                    device.what()
                )),
                None => Found::Absent,
            },
            Spec::Hardware { disk, .. } => {
                Found::Unsure(format!("{} names a connection of the old machine", escape(disk)))
            }
            Spec::Named(name) => {
                if let Some(found) = self.crypt(name, devices, depth) {
                    return found;
                }
                match find(&|device| device.is_made_of() || device.may_hide_an_identity()) {
                    Some(device) => Found::Unsure(format!(
                        "{} may be on {}, which holds {}",
                        escape(name),
                        device.volume,
                        device.what()
                    )),
                    None => Found::Absent,
                }
            }
            _ => Found::Absent,
        }
    }

    /// Every device that a name fits, the likeliest first: those with files, then those on the root's own disk.
    #[must_use]
    pub fn matches<'a>(&self, spec: &Spec, devices: &'a [Device]) -> Vec<&'a Device> {
        let same =
            |text: &str, id: &Option<String>| id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(text));
        let all = |matches: &dyn Fn(&Device) -> bool| -> Vec<&'a Device> {
            devices.iter().filter(|device| matches(device)).collect()
        };
        let part = |disk: Option<u32>, partition: u32| {
            all(&|device| {
                Some(device.disk) == disk
                    && device.part_number.unwrap_or(0) == partition
                    && device.is_of_the_disk()
            })
        };
        let mut found = match spec {
            Spec::Uuid(uuid) => all(&|device| same(uuid, &device.uuid)),
            Spec::Label(label) => all(&|device| !label.is_empty() && device.label.as_bytes() == label),
            // The kernel's own PARTUUID=…/PARTNROFF=1 counts from that partition.
            Spec::PartUuid(uuid) => match uuid.split_once("/partnroff=") {
                None => all(&|device| same(uuid, &device.part_uuid)),
                Some((uuid, offset)) => {
                    let first = devices.iter().find(|device| same(uuid, &device.part_uuid));
                    let number = first.and_then(|first| {
                        first.part_number?.checked_add_signed(offset.parse().ok()?).filter(|n| *n > 0)
                    });
                    number.map(|number| part(first.map(|first| first.disk), number)).unwrap_or_default()
                }
            },
            Spec::PartLabel(name) => all(&|device| !name.is_empty() && device.part_name.as_bytes() == name),
            Spec::Kernel { disk, partition } => part(self.disk(*disk), *partition),
            Spec::Hardware { partition, .. } => part(self.hardware_disk(spec, devices), *partition),
            Spec::Named(name) => {
                let names = self.aliases(name);
                all(&|device| {
                    let volume = [b"/dev/", device.volume.as_bytes()].concat();
                    names.iter().any(|name| {
                        device.names.iter().any(|own| own.as_bytes() == name)
                            || (!device.is_of_the_disk() && *name == volume)
                    })
                })
            }
            Spec::Root => all(&|device| device.volume == self.root),
            Spec::NoDevice => Vec::new(),
        };
        let home = devices.iter().find(|device| device.volume == self.root).map(|device| device.disk);
        found.sort_by_key(|device| (device.system.is_none(), Some(device.disk) != home));
        found
    }

    /// Is the device found by the number of its partition only, though nothing says that it is on that disk?
    #[must_use]
    pub fn is_guess(&self, spec: &Spec) -> bool {
        matches!(spec, Spec::Hardware { .. }) && !self.is_own(spec)
    }

    fn is_own(&self, spec: &Spec) -> bool {
        let Some((own, _)) = &self.own else { return false };
        match (own, spec) {
            (Spec::Hardware { disk: own, .. }, Spec::Hardware { disk, .. }) => own == disk,
            (Spec::Kernel { disk: own, .. }, Spec::Kernel { disk, .. }) => own == disk,
            _ => false,
        }
    }

    /// The disk that the guest's kernel counted as this one. Where its root shows that the count has changed, the name of
    /// that disk moves with it, and nothing is left for the name that it took.
    fn disk(&self, named: u32) -> Option<u32> {
        match self.own {
            Some((Spec::Kernel { disk, .. }, at)) if named == disk => Some(at),
            Some((Spec::Kernel { .. }, at)) if named == at => None,
            _ => Some(named),
        }
    }

    /// A disk by its hardware: the root's, if the root is named so, else the only one.
    fn hardware_disk(&self, spec: &Spec, devices: &[Device]) -> Option<u32> {
        if let Some((_, disk)) = self.own.as_ref().filter(|_| self.is_own(spec)) {
            return Some(*disk);
        }
        let is_other = matches!(self.own, Some((Spec::Hardware { .. }, _)));
        let one = devices.iter().all(|device| device.disk == 0) && !is_other;
        one.then_some(0)
    }

    /// Other names of the same thing, itself first.
    fn aliases(&self, name: &[u8]) -> Vec<Vec<u8>> {
        let mut names = vec![name.to_vec()];
        if let Some(own) = name.strip_prefix(b"/dev/disk/by-id/dm-name-") {
            names.push([b"/dev/mapper/", own].concat());
        }
        if let Some(own) = name.strip_prefix(b"/dev/disk/by-id/md-name-") {
            names.push([b"/dev/md/", own].concat());
        }
        for name in names.clone() {
            if let Some((vg, lv)) = name.strip_prefix(b"/dev/mapper/").and_then(volume_of) {
                names.push([b"/dev/", vg.as_slice(), b"/", &lv].concat());
            } else if let Some(array) = name.strip_prefix(b"/dev/md/") {
                let own = array.iter().position(|byte| *byte == b':').and_then(|at| array.get(at..));
                let own = own.and_then(|own| own.strip_prefix(b":")).unwrap_or(array);
                names.push([b"/dev/md/", own].concat());
                if own.iter().all(u8::is_ascii_digit) {
                    names.push([b"/dev/md", own].concat());
                }
            } else if let Some(number) = name.strip_prefix(b"/dev/md") {
                names.push([b"/dev/md/", number].concat());
            }
        }
        for (array, uuid) in &self.arrays {
            if names.contains(array) {
                names.push([b"/dev/disk/by-id/md-uuid-", uuid.as_slice()].concat());
            }
        }
        names
    }

    /// What a name of `crypttab` leads to.
    fn crypt<'a>(&self, name: &[u8], devices: &'a [Device], depth: u32) -> Option<Found<'a>> {
        let own =
            name.strip_prefix(b"/dev/mapper/").or_else(|| name.strip_prefix(b"/dev/disk/by-id/dm-name-"))?;
        let (_, spec) = self.crypttab.iter().find(|(name, _)| name == own)?;
        // A container that was opened is no device any more; what was opened says what it is made of, and whose UUID it had.
        let containers: Vec<String> = match spec {
            Spec::Kernel { disk, partition } => {
                self.disk(*disk).map(|disk| part_id(disk, *partition)).into_iter().collect()
            }
            Spec::Named(name) => {
                let names = self.aliases(name);
                names
                    .iter()
                    .filter_map(|name| Some(str::from_utf8(name.strip_prefix(b"/dev/")?).ok()?.to_owned()))
                    .collect()
            }
            _ => Vec::new(),
        };
        let inside = |device: &Device| {
            let is_opened = device.names.iter().any(|name| name.contains("dm-uuid-CRYPT"));
            if is_opened && device.made_of.iter().any(|id| containers.contains(id)) {
                return true;
            }
            let uuid = match spec {
                Spec::Uuid(uuid) => uuid.clone(),
                _ => return false,
            };
            let plain = uuid.replace('-', "");
            device.names.iter().map(|name| name.to_ascii_lowercase()).any(|name| {
                name.starts_with("/dev/mapper/") && name.contains(&uuid)
                    || name.contains("dm-uuid-crypt") && name.contains(&plain)
            })
        };
        if let Some(device) = devices.iter().find(|device| inside(device)) {
            return Some(Found::Device(device));
        }
        let depth = depth.checked_sub(1)?;
        Some(match self.resolve_within(spec, devices, depth) {
            Found::Device(device) if device.is_made_of() => {
                Found::Unsure(format!("/etc/crypttab opens it from {}, which is locked", device.volume))
            }
            Found::Device(device) => Found::Unsure(format!("/etc/crypttab opens it from {}", device.volume)),
            other => other,
        })
    }
}

/// The id of the volume on a partition: `p2`, `disk2/p1`; of a whole disk, `disk`.
fn part_id(disk: u32, partition: u32) -> String {
    let of = format!("disk{}", disk.saturating_add(1));
    match (disk, partition) {
        (0, 0) => "disk".to_owned(),
        (0, number) => format!("p{number}"),
        (_, 0) => of,
        (_, number) => format!("{of}/p{number}"),
    }
}

/// The volume group and logical volume of a device-mapper name: a dash between them, a dash in a name doubled.
fn volume_of(name: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut parts = vec![Vec::new()];
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'-' {
            parts.last_mut()?.push(byte);
        } else if let Some(tail) = rest.strip_prefix(b"-") {
            parts.last_mut()?.push(b'-');
            rest = tail;
        } else {
            parts.push(Vec::new());
        }
    }
    let mut parts = parts.into_iter().filter(|part| !part.is_empty());
    let (vg, lv, more) = (parts.next()?, parts.next()?, parts.next());
    more.is_none().then_some((vg, lv))
}

/// What `crypttab` opens under which name.
fn opened(file: &GuestFile) -> Vec<(Vec<u8>, Spec)> {
    crypttab::parse(file).into_iter().map(|line| (line.name.clone(), line.spec())).collect()
}

/// `ARRAY DEVICE … UUID=…` (mdadm.conf(5)); a line that begins with a blank goes on with the one before.
fn arrays(file: &GuestFile) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut device: Option<Vec<u8>> = None;
    for (_, text) in file.lines() {
        let text = text.split(|byte| *byte == b'#').next().unwrap_or_default();
        let goes_on = text.first().is_some_and(u8::is_ascii_whitespace);
        let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).peekable();
        if !goes_on && words.peek().is_some() {
            let is_array = words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"ARRAY"));
            let path = |name: &[u8]| {
                if name.starts_with(b"/") { name.to_vec() } else { [b"/dev/md/", name].concat() }
            };
            device = if is_array { words.next().map(path) } else { None };
        }
        for word in words {
            let uuid = word.get(..5).filter(|tag| tag.eq_ignore_ascii_case(b"UUID=")).and(word.get(5..));
            if let (Some(device), Some(uuid)) = (&device, uuid.filter(|_| found.len() < MAX_ENTRIES)) {
                found.push((device.clone(), uuid.to_ascii_lowercase()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;
    use crate::text::Text;
    use std::sync::Arc;

    /// A volume that stands on no partition: `vg/lv`, an array.
    fn made(volume: &str, names: &[&str]) -> Device {
        Device {
            volume: volume.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            kind: "ext4",
            system: Some(Arc::new(MemoryFs::new(&[]))),
            ..Device::default()
        }
    }

    fn part(disk: u32, number: u32) -> Device {
        let id = format!("{}p{number}", if disk == 0 { "" } else { "disk2/" });
        Device { disk, part_number: Some(number), ..made(&id, &[]) }
    }

    fn names(files: &[(&str, &str)], root: &Device, named: &str) -> Names {
        Names::read(&MemoryFs::tree(files), root, Some(&Spec::parse(named.as_bytes()))).unwrap()
    }

    /// The volume that a name leads to.
    fn volume<'a>(names: &Names, spec: &str, devices: &'a [Device]) -> Option<&'a str> {
        match names.resolve(&Spec::parse(spec.as_bytes()), devices) {
            Found::Device(device) => Some(&device.volume),
            _ => None,
        }
    }

    #[test]
    fn a_logical_volume_has_two_names() {
        let devices = [made("vg-0/lv", &[]), made("vg/root", &["/dev/vg/root", "/dev/mapper/vg-root"])];
        let of = |spec| volume(&Names::default(), spec, &devices);
        assert_eq!(of("/dev/mapper/vg--0-lv"), Some("vg-0/lv"));
        assert_eq!(of("/dev/vg-0/lv"), Some("vg-0/lv"));
        assert_eq!(of("/dev/mapper/vg-root"), Some("vg/root"));
        assert_eq!(of("/dev/disk/by-id/dm-name-vg-root"), Some("vg/root"));
        assert_eq!(of("/dev/mapper/vg-other"), None);
    }

    #[test]
    fn an_array_is_found_by_its_number_its_name_and_its_uuid() {
        let uuid = "/dev/disk/by-id/md-uuid-3a8ffd1e:70dd0ca7:1ecb94bd:3b0b1b5e";
        let devices = [made("md0", &["/dev/md/0", uuid]), made("md1", &["/dev/md/data"])];
        let mdadm = "# x\nDEVICE partitions\nARRAY /dev/md7 metadata=1.2\n  UUID=3A8FFD1E:70dd0ca7:1ecb94bd:3b0b1b5e\n";
        let names = names(&[("/etc/mdadm/mdadm.conf", mdadm)], &devices[0], "/dev/md0");
        assert_eq!(volume(&names, "/dev/md0", &devices), Some("md0"));
        assert_eq!(volume(&names, "/dev/md7", &devices), Some("md0"));
        assert_eq!(volume(&names, uuid, &devices), Some("md0"));
        assert_eq!(volume(&names, "/dev/md/host:data", &devices), Some("md1"));
    }

    #[test]
    fn a_name_of_crypttab_is_what_was_opened_from_its_device() {
        let uuid = "5c9f0e6e-1111-2222-3333-444455556666";
        let locked = Device {
            kind: "crypto_LUKS",
            system: None,
            uuid: Some("aaaaaaaa-0000-0000-0000-000000000000".to_owned()),
            ..part(0, 3)
        };
        let devices = [part(0, 1), locked, made("luks-p2", &[&format!("/dev/mapper/luks-{uuid}")])];
        let table =
            format!("root UUID={uuid} none luks\nhome UUID=aaaaaaaa-0000-0000-0000-000000000000 none\n");
        let names = names(&[("/etc/crypttab", &table)], &devices[0], "");
        assert_eq!(volume(&names, "/dev/mapper/root", &devices), Some("luks-p2"));
        let Found::Unsure(why) = names.resolve(&Spec::parse(b"/dev/mapper/home"), &devices) else {
            panic!("found")
        };
        assert_eq!(why, "/etc/crypttab opens it from p3, which is locked");
    }

    #[test]
    fn what_was_opened_says_what_it_was_opened_from() {
        let opened = |volume: &str, of: &str| Device {
            made_of: vec![of.to_owned()],
            ..made(volume, &["/dev/disk/by-id/dm-uuid-CRYPT-LUKS2-0-x"])
        };
        let devices = [part(0, 1), opened("luks-a", "p2"), opened("luks-b", "vg/root")];
        let table = "a /dev/vda2 none luks\nb /dev/mapper/vg-root none luks\n";
        let names = names(&[("/etc/crypttab", table)], &devices[0], "");
        assert_eq!(volume(&names, "/dev/mapper/a", &devices), Some("luks-a"));
        assert_eq!(volume(&names, "/dev/mapper/b", &devices), Some("luks-b"));
    }

    #[test]
    fn the_roots_own_name_tells_which_disk_has_moved() {
        let devices = [part(0, 1), part(0, 2)];
        let names = names(&[], &devices[1], "/dev/sdb2");
        assert_eq!(volume(&names, "/dev/sdb1", &devices), Some("p1"));
        assert_eq!(volume(&names, "/dev/sda1", &devices), None);
    }

    #[test]
    fn hardware_is_known_by_the_root_and_otherwise_the_only_disk() {
        let devices = [part(0, 1), part(0, 2), part(1, 1)];
        let by_id = "/dev/disk/by-id/scsi-1ATA_X-part";
        let own = names(&[], &devices[1], &format!("{by_id}2"));
        assert_eq!(volume(&own, &format!("{by_id}1"), &devices), Some("p1"));
        assert_eq!(volume(&own, "/dev/disk/by-id/scsi-OTHER-part1", &devices), None);
        assert_eq!(volume(&Names::default(), &format!("{by_id}1"), &devices), None);
        assert_eq!(volume(&Names::default(), &format!("{by_id}1"), &devices[..2]), Some("p1"));
        assert!(Names::default().is_guess(&Spec::parse(format!("{by_id}1").as_bytes())));
    }

    #[test]
    fn a_partition_may_be_counted_from_another() {
        let first = Device { part_uuid: Some("1b2e3d4c-01".to_owned()), ..part(0, 1) };
        let devices = [first, part(0, 2)];
        assert_eq!(volume(&Names::default(), "PARTUUID=1b2e3d4c-01/PARTNROFF=1", &devices), Some("p2"));
    }

    #[test]
    fn of_two_with_one_uuid_the_one_on_the_roots_disk_is_first() {
        let uuid = |device: Device| Device { uuid: Some("u".to_owned()), label: Text::from("l"), ..device };
        let devices = [uuid(part(0, 1)), uuid(part(1, 1)), part(1, 2)];
        let names = names(&[], &devices[2], "");
        assert_eq!(volume(&names, "UUID=u", &devices), Some("disk2/p1"));
        assert_eq!(names.matches(&Spec::parse(b"LABEL=l"), &devices).len(), 2);
    }
}
