//! Where on a volume the root of a system may stand, and which of those found there is the one that boots.
//!
//! Most file systems have one such place, their root directory. A btrfs has one in each subvolume: `@`, `root`, the
//! default one; its snapshots look like systems too, but are earlier states of one. ostree keeps several deployments.

use super::fstab::{Wanted, subvolume};
use super::names::Found;
use super::ostree::{self, Deployment, Entries};
use super::role::{self, Purpose, Role};
use super::spec::Spec;
use super::{Device, Guest, windows};
use crate::error::Result;
use crate::fs::tree::{Part, Tree};
use crate::fs::{FileSystem, Ino, Subvolume};
use std::cmp::Reverse;
use std::sync::Arc;

/// Subvolumes of one file system that are looked into. A root lies near the top; what comes in thousands are snapshots.
const MAX_SUBVOLUMES: usize = 64;

/// Systems of one machine that are looked into, earlier states included.
const MAX_SYSTEMS: usize = 128;

/// A place where a root may stand.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) root: Ino,
    pub(super) part: Part,
    /// The subvolume that a mount without options shows.
    is_default: bool,
    /// An earlier state of another subvolume, by its path.
    is_saved: bool,
    /// A copy of another subvolume, by its own word.
    is_snapshot: bool,
    pub(super) deployment: Option<Deployment>,
}

impl Place {
    fn of(fs: Arc<dyn FileSystem>, part: Part) -> Self {
        let root = fs.root();
        Self { fs, root, part, is_default: true, is_saved: false, is_snapshot: false, deployment: None }
    }

    pub(super) fn tree(&self, volume: &str) -> Tree {
        Tree::of(volume, Arc::clone(&self.fs), self.root, self.part.clone())
    }

    /// Do these options of btrfs mean this place?
    fn is(&self, wanted: &Wanted, all: &[Subvolume]) -> bool {
        let Part::Subvolume(path) = &self.part else { return false };
        match wanted {
            Wanted::Path(named) => named == path,
            Wanted::Id(id) => all.iter().any(|subvolume| subvolume.id == *id && subvolume.path == *path),
        }
    }
}

/// The places of a file system, those where a root is likeliest first.
fn places(volume: &str, fs: &Arc<dyn FileSystem>, entries: &Entries<'_>) -> Result<Vec<Place>> {
    // Where they cannot be listed, there is still what a plain mount shows.
    let mut subvolumes = fs.subvolumes().unwrap_or_default();
    let mut places = Vec::new();
    subvolumes.sort_by_key(|one| (!one.is_default, is_saved(&one.path), one.path.len()));
    for one in subvolumes.iter().take(MAX_SUBVOLUMES) {
        // A subvolume whose root is damaged is no root of a system; the others may be.
        let Ok(tree) = fs.subvolume(one.id) else { continue };
        places.push(Place {
            is_default: one.is_default,
            is_saved: is_saved(&one.path),
            is_snapshot: one.parent.is_some(),
            ..Place::of(tree, Part::Subvolume(one.path.clone()))
        });
    }
    if places.is_empty() {
        places.push(Place::of(Arc::clone(fs), Part::Whole));
    }
    for place in &mut places {
        if let Some(deployment) = ostree::booted(volume, &place.fs, entries)? {
            place.root = deployment.node.ino;
            place.part = Part::Bind(deployment.path.clone());
            place.deployment = Some(deployment);
        }
    }
    Ok(places)
}

/// Is this where snapper or timeshift keep earlier states: `.snapshots/7/snapshot`, `timeshift-btrfs/snapshots/…/@`?
fn is_saved(path: &[u8]) -> bool {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let is_numbered = matches!(parts.as_slice(), [.., number, b"snapshot"] if is_number(number));
    is_numbered || parts.iter().any(|part| matches!(*part, b".snapshots" | b"timeshift-btrfs"))
}

/// What the volume is for: a root, if there is one at any of its places.
pub(super) fn role_of(volume: &str, fs: &Arc<dyn FileSystem>) -> Result<Role> {
    fs.subvolumes()?;
    let mut first = None;
    for place in places(volume, fs, &Entries::of(&[]))? {
        let role = role::role_in(&place.tree(volume), volume)?;
        if role.purpose == Purpose::Root {
            return Ok(role);
        }
        first.get_or_insert(role);
    }
    first.map_or_else(|| role::role_in(&Tree::new(volume, Arc::clone(fs)), volume), Ok)
}

/// A system that was found, with what speaks for it.
struct Candidate {
    guest: Guest,
    place: Place,
    score: u32,
    /// Its boot loader, or else its `fstab`, says that this very place is the root.
    names_itself: bool,
}

/// The systems on all devices, the one that most speaks for first. What is odd and of none of them is in `warnings`.
pub(super) fn find(devices: &[Device], warnings: &mut Vec<String>) -> Vec<Guest> {
    let entries = Entries::of(devices);
    let mut all = Vec::new();
    let mut left = MAX_SYSTEMS;
    for device in devices {
        let Some(fs) = &device.system else { continue };
        let mut found = Vec::new();
        // One that cannot be read is no root; `role_of` says so to who asks for it.
        for place in places(&device.volume, fs, &entries).unwrap_or_default() {
            if let Ok(role) = role::role_in(&place.tree(&device.volume), &device.volume)
                && role.purpose == Purpose::Root
                && left > 0
            {
                left = left.saturating_sub(1);
                let guest = Guest::new(device, &place, devices);
                found.push(Candidate { guest, place, score: role.score, names_itself: false });
            }
        }
        all.push((device, fs, found));
    }
    // One system needs no comparing, and its boot loader is not read before somebody asks for it.
    if all.iter().map(|(_, _, found)| found.len()).sum::<usize>() > 1 {
        for (device, fs, found) in &mut all {
            for one in found {
                one.names_itself = names_itself(&one.guest, &one.place, device, fs, devices);
            }
        }
    }
    let linux = all.into_iter().flat_map(|(_, _, found)| of_one_volume(found));
    let linux = linux.map(|one| (one.guest, one.names_itself, one.score));
    let windows =
        windows::find(devices, warnings).into_iter().map(|one| (one.guest, one.is_started, one.score));
    let mut all: Vec<(Guest, bool, u32)> = linux.chain(windows).collect();
    all.sort_by_key(|(_, names_itself, score)| Reverse((*names_itself, *score)));
    all.into_iter().map(|(guest, _, _)| guest).collect()
}

/// The systems of one file system without the earlier states of the one that boots.
fn of_one_volume(mut found: Vec<Candidate>) -> Vec<Candidate> {
    found.sort_by_key(|one| {
        Reverse((
            one.names_itself,
            one.place.is_default,
            !one.place.is_saved,
            !one.place.is_snapshot,
            one.score,
        ))
    });
    let mut kept: Vec<Candidate> = Vec::new();
    for one in found {
        let is_earlier = kept.first().is_some_and(|booted| {
            let same = booted.guest.distro() == one.guest.distro();
            let alike = same && booted.guest.product() == one.guest.product();
            (one.place.is_saved && same) || (one.place.is_snapshot && alike)
        });
        if !is_earlier {
            kept.push(one);
        }
    }
    kept
}

/// Does what the system says of its own root fit the place where it was found? The kernel's arguments come first: it is
/// they that mount the root.
fn names_itself(
    guest: &Guest,
    place: &Place,
    device: &Device,
    fs: &Arc<dyn FileSystem>,
    devices: &[Device],
) -> bool {
    let is_here = |spec: &Spec| matches!(guest.find_device(spec, devices), Found::Device(found) if found.whole(devices).volume == device.volume);
    let subvolumes = fs.subvolumes().unwrap_or_default();
    let fits = |wanted: Option<Wanted>| match wanted {
        Some(wanted) => place.is(&wanted, &subvolumes),
        None => place.is_default,
    };
    let entry = guest.boot().ok().flatten().and_then(|boot| boot.default_entry());
    if let Some(entry) = entry
        && let Some(root) = entry.arg("root")
        && is_here(&Spec::parse(root))
    {
        let flags = entry.arg("rootflags").unwrap_or_default();
        let value = |option: &str| {
            let words = flags.split(|byte| *byte == b',');
            words.filter_map(|word| word.strip_prefix(option.as_bytes())?.strip_prefix(b"=")).next_back()
        };
        return fits(subvolume(value));
    }
    let line = guest.fstab().ok().and_then(|fstab| fstab.root());
    line.is_some_and(|line| is_here(&line.spec()) && fits(line.subvolume()))
}

#[cfg(test)]
mod tests {
    use super::super::memory::{MemoryFs, Pool, PoolTree};
    use super::*;
    use crate::text::Text;

    fn find(devices: &[Device]) -> Vec<Guest> {
        super::find(devices, &mut Vec::new())
    }

    fn part(number: u32, fs: impl FileSystem + 'static) -> Device {
        Device {
            volume: format!("p{number}"),
            part_number: Some(number),
            uuid: Some(format!("p{number}")),
            kind: "btrfs",
            system: Some(Arc::new(fs)),
            ..Device::default()
        }
    }

    fn files(files: &[(&str, &str)]) -> MemoryFs {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        MemoryFs::new(&files)
    }

    const RELEASE: (&str, &str) = ("/etc/os-release", "ID=debian\nPRETTY_NAME=Debian\n");
    const SHELL: (&str, &str) = ("/bin/sh", "");
    const SYSTEM: &[(&str, &str)] = &[RELEASE, SHELL];

    fn subvolumes(guests: &[Guest]) -> Vec<Text> {
        guests.iter().map(|guest| guest.subvolume().unwrap_or_default()).collect()
    }

    #[test]
    fn a_root_is_found_in_a_subvolume_that_is_not_the_default() {
        let trees: &[PoolTree<'_>] = &[
            (5, "", false, &[("/@/bin/sh", ""), ("/@home/", "")]),
            (256, "@", false, SYSTEM),
            (257, "@home", false, &[("/me", "")]),
        ];
        let pool = Pool::new(5, trees);
        let devices = [part(1, pool)];
        let guests = find(&devices);
        assert_eq!(subvolumes(&guests), [Text::from("@")]);
        let fs = devices[0].system.as_ref().unwrap();
        assert_eq!(role_of("p1", fs).unwrap().purpose, Purpose::Root);
    }

    #[test]
    fn snapshots_of_a_system_are_not_systems() {
        let other: &[(&str, &str)] = &[("/etc/os-release", "ID=arch\n"), SHELL];
        let trees: &[PoolTree<'_>] = &[
            (5, "", false, &[]),
            (256, "@", false, SYSTEM),
            (257, "@/.snapshots/1/snapshot", true, SYSTEM),
            (258, "timeshift-btrfs/snapshots/2026-01-01/@", true, SYSTEM),
            (259, "@old", true, SYSTEM),
            (260, "arch", false, other),
        ];
        let guests = find(&[part(1, Pool::new(5, trees))]);
        assert_eq!(subvolumes(&guests), [Text::from("@"), Text::from("arch")]);
    }

    #[test]
    fn of_snapper_the_default_one_is_booted() {
        let trees: &[PoolTree<'_>] = &[
            (5, "", false, &[]),
            (256, "@", false, &[("/.snapshots/1/info.xml", "")]),
            (257, "@/.snapshots/1/snapshot", false, SYSTEM),
            (258, "@/.snapshots/2/snapshot", true, SYSTEM),
        ];
        let guests = find(&[part(1, Pool::new(258, trees))]);
        assert_eq!(subvolumes(&guests), [Text::from("@/.snapshots/2/snapshot")]);
    }

    #[test]
    fn the_boot_loaders_subvolume_wins_over_the_default_one() {
        let menu = "menuentry 'x' {\n linux /@new/boot/vmlinuz root=UUID=p1 ro rootflags=compress=zstd,subvol=@new\n}\n";
        let system: &[(&str, &str)] = &[RELEASE, SHELL, ("/boot/grub/grub.cfg", menu)];
        let trees: &[PoolTree<'_>] = &[(256, "@old", false, system), (257, "@new", true, system)];
        let guests = find(&[part(1, Pool::new(256, trees))]);
        assert_eq!(guests[0].subvolume(), Some(Text::from("@new")));
    }

    #[test]
    fn the_system_whose_own_words_fit_comes_first() {
        let fuller: &[(&str, &str)] =
            &[RELEASE, SHELL, ("/etc/fstab", "UUID=p2 / ext4\n"), ("/etc/hosts", ""), ("/etc/passwd", "")];
        let own: &[(&str, &str)] = &[RELEASE, SHELL, ("/etc/fstab", "UUID=p2 / ext4\n")];
        let guests = find(&[part(1, files(fuller)), part(2, files(own))]);
        assert_eq!(guests.iter().map(|guest| guest.root.as_str()).collect::<Vec<_>>(), ["p2", "p1"]);
    }

    /// As `ostree admin deploy` lays it out, with two deployments.
    fn deployed(entries: &[(&str, &str)]) -> MemoryFs {
        let base = "/ostree/deploy/fedora";
        let mut all: Vec<(String, String)> = vec![
            (format!("{base}/var/lib/x"), "var".to_owned()),
            ("/ostree/boot.1/fedora/aaa/0".to_owned(), "-> ../../../deploy/fedora/deploy/aaa.0".to_owned()),
            ("/ostree/boot.1/fedora/bbb/0".to_owned(), "-> ../../../deploy/fedora/deploy/bbb.0".to_owned()),
            ("/boot/".to_owned(), String::new()),
        ];
        for name in ["aaa", "bbb"] {
            let deployment = format!("{base}/deploy/{name}.0");
            all.push((format!("{deployment}.origin"), String::new()));
            for (path, text) in [
                ("/etc/os-release", "-> ../usr/lib/os-release"),
                ("/usr/lib/os-release", "ID=fedora\n"),
                ("/usr/bin/sh", name),
                ("/bin", "-> usr/bin"),
                ("/home", "-> var/home"),
                ("/ostree", "-> sysroot/ostree"),
                ("/sysroot/", ""),
                ("/var/", ""),
                ("/boot/", ""),
            ] {
                all.push((format!("{deployment}{path}"), text.to_owned()));
            }
        }
        all.extend(entries.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())));
        let all: Vec<(&str, &str)> = all.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        files(&all)
    }

    fn text(guest: &Guest, path: &str) -> String {
        let node = guest.tree.find(path.as_bytes()).unwrap().unwrap();
        String::from_utf8(guest.tree.read_all(node, 100).unwrap()).unwrap()
    }

    const OLD: &str = "version 1\noptions root=UUID=p1 ostree=/ostree/boot.1/fedora/bbb/0\n";
    const NEW: &str = "version 2\noptions root=UUID=p1 ostree=/ostree/boot.1/fedora/aaa/0\n";

    #[test]
    fn the_newest_boot_entry_names_the_deployment() {
        let entries =
            [("/boot/loader/entries/ostree-1.conf", OLD), ("/boot/loader/entries/ostree-2.conf", NEW)];
        let guests = find(&[part(1, deployed(&entries))]);
        assert_eq!(guests.len(), 1);
        assert_eq!(text(&guests[0], "/usr/bin/sh"), "aaa");
        assert_eq!(text(&guests[0], "/var/lib/x"), "var");
        assert_eq!(text(&guests[0], "/ostree/deploy/fedora/deploy/bbb.0/bin/sh"), "bbb");
        assert_eq!(text(&guests[0], "/boot/loader/entries/ostree-1.conf"), OLD);
        assert!(guests[0].warnings.is_empty(), "{:?}", guests[0].warnings);
    }

    #[test]
    fn a_boot_partition_of_its_own_names_the_deployment_and_is_mounted() {
        let boot = files(&[("/loader/entries/ostree-2.conf", OLD)]);
        let guests = find(&[part(2, boot), part(1, deployed(&[]))]);
        assert_eq!(text(&guests[0], "/usr/bin/sh"), "bbb");
        assert_eq!(text(&guests[0], "/boot/loader/entries/ostree-2.conf"), OLD);
    }

    #[test]
    fn a_deployment_that_no_entry_names_is_said() {
        let guests = find(&[part(1, deployed(&[]))]);
        assert_eq!(guests.len(), 1);
        assert!(guests[0].warnings[0].starts_with("no boot entry names"), "{:?}", guests[0].warnings);
    }

    #[test]
    fn a_container_needs_no_fstab_and_no_hosts() {
        assert_eq!(find(&[part(1, files(SYSTEM))]).len(), 1);
    }
}
