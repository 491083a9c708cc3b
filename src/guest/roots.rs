//! Where on a volume the root of a system may stand, and which of those found there is the one that boots.
//!
//! Most file systems have one such place, their root directory. A btrfs has one in each subvolume: `@`, `root`, the
//! default one; its snapshots look like systems too, but are earlier states of one. ostree keeps several deployments.

use super::fstab::{Wanted, subvolume};
use super::ostree::{self, Deployment};
use super::role::{self, Purpose, Role};
use super::spec::{Found, Spec};
use super::{Device, Guest};
use crate::error::Result;
use crate::fs::tree::{Part, Tree};
use crate::fs::{FileSystem, Ino, Subvolume};
use std::cmp::Reverse;
use std::sync::Arc;

/// Subvolumes of one file system that are looked into. A root lies near the top; what comes in thousands are snapshots.
const MAX_SUBVOLUMES: usize = 64;

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
fn places(volume: &str, fs: &Arc<dyn FileSystem>, devices: &[Device]) -> Result<Vec<Place>> {
    let mut subvolumes = fs.subvolumes()?;
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
        if let Some(deployment) = ostree::booted(volume, &place.fs, devices)? {
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
    let mut first = None;
    for place in places(volume, fs, &[])? {
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

/// The systems on all devices, the one that most speaks for first.
pub(super) fn find(devices: &[Device]) -> Vec<Guest> {
    let mut all = Vec::new();
    for device in devices {
        let Some(fs) = &device.system else { continue };
        let mut found = Vec::new();
        // One that cannot be read is no root; `role_of` says so to who asks for it.
        for place in places(&device.volume, fs, devices).unwrap_or_default() {
            if let Ok(role) = role::role_in(&place.tree(&device.volume), &device.volume)
                && role.purpose == Purpose::Root
            {
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
    let mut all: Vec<Candidate> = all.into_iter().flat_map(|(_, _, found)| of_one_volume(found)).collect();
    all.sort_by_key(|one| Reverse((one.names_itself, one.score)));
    all.into_iter().map(|one| one.guest).collect()
}

/// The systems of one file system without the earlier states of the one that boots.
fn of_one_volume(mut found: Vec<Candidate>) -> Vec<Candidate> {
    found.sort_by_key(|one| {
        Reverse((one.names_itself, one.place.is_default, !one.place.is_saved, !one.place.is_snapshot, one.score))
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
    let is_here = |spec: &Spec| {
        matches!(guest.find_device(spec, devices), Found::Device(found) if found.whole(devices).volume == device.volume)
    };
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
