//! A guest's tree: its root with everything else at the places that its `fstab` gives them.
//!
//! ```text
//!   the root's own part of its volume                    a subvolume, a deployment of ostree
//!   ◀─ what ostree binds into it                         /sysroot, /var, /boot
//!   ◀─ mount units and fstab, outer places first         devices, subvolumes, bind mounts
//!   ◀─ partitions that say by their type where they go   only where nothing of the above does (gpt_auto)
//! ```

use super::fstab::{Line, Wanted};
use super::missing::Missing;
use super::names::{Found, Names};
use super::roots::Place;
use super::spec::Spec;
use super::{Device, gpt_auto};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileSystem;
use crate::fs::tree::{Part, Tree};
use crate::text::escape;
use std::sync::Arc;

/// Lines that are mounted; the longest real `fstab` seen has some forty.
const MAX_LINES: usize = 256;

/// A tree for people, the same tree for facts, and what did not work out.
#[derive(Debug)]
pub(super) struct Assembled {
    /// What is mounted and shown: a volume that is missing leaves its mount point as it is.
    pub(super) tree: Tree,
    /// For facts: below the mount point of a missing volume every look-up fails, so that what was not seen is never
    /// taken for absent.
    pub(super) facts: Tree,
    /// One line for each volume that is not where `fstab` wants it.
    pub(super) warnings: Vec<String>,
}

/// What stands at a mount point.
type Mounted = (String, Arc<dyn FileSystem>, Part);

pub(super) fn assemble(
    root: &Device,
    place: &Place,
    devices: &[Device],
    lines: &[Line],
    names: &Names,
) -> Assembled {
    let tree = || Tree::of(&root.volume, Arc::clone(&place.fs), place.root, place.part.clone());
    let mut done = Assembled { tree: tree(), facts: tree(), warnings: Vec::new() };
    done.deployment(root, place, devices);
    let mut given: Vec<Asked<'_>> = Vec::new();
    for line in lines.iter().filter(|line| is_mounted(line)) {
        let asked = Asked::new(line, &done.tree);
        match given.iter().find(|other| places(&other.dir) == places(&asked.dir)) {
            Some(first) => {
                let (dir, first) = (escape(&line.dir), first.line.place());
                done.warnings.push(format!("{}: {dir} has been given a volume by {first}", line.place()));
            }
            None if given.len() >= MAX_LINES => {
                done.warnings
                    .push(format!("{}: more than {MAX_LINES} mounts; the rest is left out", line.place()));
                break;
            }
            None => given.push(asked),
        }
    }
    for asked in in_order(&given) {
        let line = asked.line;
        if let Err(why) = done.line(asked, &given, devices, names) {
            let dir = escape(&line.dir);
            let nofail = if line.is_needed_at_boot() { "" } else { " (not needed at boot)" };
            let place = line.place();
            done.warnings.push(format!("{place}: {dir} is {}: {why}{nofail}", escape(&line.spec)));
            done.missing(&asked.dir, format!("{dir} is on another volume: {why} ({place})"));
        }
    }
    for (dir, device, fs) in gpt_auto::mounts(&done.tree, root, devices) {
        let is_given = given.iter().any(|asked| places(&asked.dir) == places(dir));
        if !is_given && !done.tree.mounts().iter().any(|mount| mount.path == dir) {
            done.mount(dir, (device.volume.clone(), fs, Part::Whole), &device.volume);
        }
    }
    done
}

impl Assembled {
    /// What ostree's initramfs binds together.
    fn deployment(&mut self, root: &Device, place: &Place, devices: &[Device]) {
        let Some(deployment) = &place.deployment else { return };
        let physical = (root.volume.clone(), Arc::clone(&place.fs), Part::Whole);
        self.mount(b"/sysroot", physical, "ostree");
        self.bind(&[b"/sysroot", deployment.var.as_slice()].concat(), b"/var", false, "ostree");
        let other = deployment.boot.as_ref().filter(|boot| **boot != root.volume);
        let boot = other.and_then(|boot| devices.iter().find(|device| device.volume == *boot));
        match boot.and_then(|boot| Some((boot, boot.system.as_ref()?))) {
            Some((boot, fs)) => {
                self.mount(b"/boot", (boot.volume.clone(), Arc::clone(fs), Part::Whole), "ostree");
            }
            None if deployment.boot.is_some() => self.bind(b"/sysroot/boot", b"/boot", false, "ostree"),
            None => self.warnings.push(format!(
                "no boot entry names the deployment {}; it is the newest",
                escape(&deployment.path)
            )),
        }
    }

    /// Mounts what a line means.
    fn line(
        &mut self,
        asked: &Asked<'_>,
        all: &[Asked<'_>],
        devices: &[Device],
        names: &Names,
    ) -> std::result::Result<(), String> {
        let line = asked.line;
        let place = line.place();
        if let Some(deep) = line.binds() {
            self.bind(&line.spec, &asked.dir, deep, &place);
            return Ok(());
        }
        if line.is_layered() {
            let kind = escape(&line.kind);
            return Err(format!("a file system of type {kind} shows other files than are stored here"));
        }
        let spec = line.spec();
        let device = match names.resolve(&spec, devices) {
            Found::Device(device) => device,
            found => {
                let why = match found {
                    Found::Unsure(why) => why,
                    _ => "no such device in this image".to_owned(),
                };
                // ext remembers where it was mounted last; that is as good as a name, if nobody else lays claim to it.
                let Some(device) = last_mounted(&asked.dir, all, devices, names) else { return Err(why) };
                let dir = escape(&line.dir);
                self.warnings.push(format!(
                    "{place}: {dir} is {}: {why}; {} was mounted there last, and is shown",
                    escape(&line.spec),
                    device.volume
                ));
                device
            }
        };
        let device = device.whole(devices);
        let Some(fs) = &device.system else {
            return Err(format!("{} on {} is not read", device.what(), device.volume));
        };
        let by_position = matches!(spec, Spec::Kernel { .. } | Spec::Hardware { .. });
        if !fits(&line.kind, device.kind) && by_position {
            return Err(format!("{} holds {}, not {}", device.volume, device.what(), escape(&line.kind)));
        }
        if names.is_guess(&spec) {
            let (dir, spec) = (escape(&line.dir), escape(&line.spec));
            self.warnings
                .push(format!("{place}: {dir} is {spec}: taken for {}, there being one disk", device.volume));
        }
        self.said_twice(line, &spec, device, devices, names);
        let (fs, part) = match line.subvolume() {
            None => (Arc::clone(fs), Part::Whole),
            Some(wanted) => {
                subvolume(fs, &wanted).map_err(|error| format!("{}: {}", device.volume, error.chain()))?
            }
        };
        self.mount(&asked.dir, (device.volume.clone(), fs, part), &place);
        Ok(())
    }

    /// A name that several devices have is said: copies of a volume on one machine.
    fn said_twice(&mut self, line: &Line, spec: &Spec, taken: &Device, devices: &[Device], names: &Names) {
        let others: Vec<&str> = names
            .matches(spec, devices)
            .into_iter()
            .filter(|device| device.system.is_some() && device.volume != taken.volume)
            .map(|device| device.volume.as_str())
            .collect();
        if !others.is_empty() {
            let (place, dir, spec) = (line.place(), escape(&line.dir), escape(&line.spec));
            let others = others.join(", ");
            self.warnings.push(format!(
                "{place}: {dir} is {spec}: {} is taken, but so is called {others}",
                taken.volume
            ));
        }
    }

    fn mount(&mut self, dir: &[u8], (volume, fs, part): Mounted, place: &str) {
        if let Err(error) = self.tree.mount(dir, &volume, Arc::clone(&fs), part.clone()) {
            self.warnings.push(format!("{place}: {}", error.chain()));
        }
        drop(self.facts.mount(dir, volume, fs, part));
    }

    fn bind(&mut self, from: &[u8], dir: &[u8], deep: bool, place: &str) {
        if let Err(error) = self.tree.bind(from, dir, deep) {
            self.warnings.push(format!("{place}: {} on {}: {}", escape(from), escape(dir), error.chain()));
        }
        match self.facts.bind(from, dir, deep) {
            // Nothing there is the same as nothing bound.
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.missing(dir, format!("{} cannot be bound: {}", escape(dir), error.chain())),
        }
    }

    /// Makes every look-up below a directory fail.
    fn missing(&mut self, dir: &[u8], why: String) {
        let error = Error::new(ErrorKind::Unsupported, why);
        drop(self.facts.mount(dir, "", Arc::new(Missing(error)), Part::Whole));
    }
}

/// A subvolume as a tree of its own.
///
/// # Errors
/// `NotFound` when there is none of that path or number; when it cannot be read.
pub(super) fn subvolume(fs: &Arc<dyn FileSystem>, wanted: &Wanted) -> Result<(Arc<dyn FileSystem>, Part)> {
    let all = fs.subvolumes()?;
    let found = match wanted {
        Wanted::Path(path) => all.into_iter().find(|subvolume| subvolume.path == *path),
        Wanted::Id(id) => all.into_iter().find(|subvolume| subvolume.id == *id),
    };
    let found = found.ok_or_else(|| match wanted {
        Wanted::Path(path) => Error::not_found(format!("subvolume {}", escape(path))),
        Wanted::Id(id) => Error::not_found(format!("subvolume {id}")),
    })?;
    Ok((fs.subvolume(found.id)?, Part::Subvolume(found.path)))
}

/// A device that no other line means and whose file system was last mounted on `dir`, if there is one only.
fn last_mounted<'a>(
    dir: &[u8],
    all: &[Asked<'_>],
    devices: &'a [Device],
    names: &Names,
) -> Option<&'a Device> {
    let is_meant = |device: &Device| {
        all.iter().any(|asked| {
            matches!(names.resolve(&asked.line.spec(), devices), Found::Device(meant) if meant.volume == device.volume)
        })
    };
    let was_there = |device: &&Device| {
        !device.last_mounted.is_empty() && places(device.last_mounted.as_bytes()) == places(dir)
    };
    let mut found = devices.iter().filter(was_there).filter(|device| !is_meant(device));
    found.next().filter(|_| found.next().is_none())
}

/// Would the kernel take this type for that content?
fn fits(named: &[u8], kind: &str) -> bool {
    const FAMILIES: &[&[&str]] =
        &[&["ext2", "ext3", "ext4"], &["vfat", "msdos", "fat"], &["ntfs", "ntfs-3g", "ntfs3", "fuseblk"]];
    let same =
        |family: &&&[&str]| family.contains(&kind) && family.iter().any(|other| named == other.as_bytes());
    // `none` and `ignore` are no types; `auto` is any, and several may be listed.
    matches!(named, b"auto" | b"none" | b"")
        || kind.is_empty()
        || named.split(|byte| *byte == b',').any(|named| named == kind.as_bytes())
        || FAMILIES.iter().any(|family| same(&family))
}

/// The names of a path.
fn places(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect()
}

/// Does it stand where the running system shows what is not stored?
fn is_the_kernels(path: &[u8]) -> bool {
    path.starts_with(b"/") && matches!(places(path).first(), Some(&(b"dev" | b"proc" | b"sys" | b"run")))
}

fn is_mounted(line: &Line) -> bool {
    (line.is_local() || line.is_layered() || line.binds().is_some())
        && !line.is_swap()
        && line.dir.starts_with(b"/")
        && !places(&line.dir).is_empty()
        && !is_the_kernels(&line.dir)
        && !(line.binds().is_some() && is_the_kernels(&line.spec))
}

/// A line, and the places it means: the root's own links followed, as `systemd-fstab-generator` follows them before
/// anything else is mounted.
struct Asked<'a> {
    line: &'a Line,
    dir: Vec<u8>,
    /// Of a bind mount, what it shows.
    from: Vec<u8>,
}

impl<'a> Asked<'a> {
    fn new(line: &'a Line, root: &Tree) -> Self {
        // What cannot be followed is said when it is mounted.
        let place = |path: &[u8]| root.canonical(path).unwrap_or_else(|_| path.to_vec());
        let from = line.binds().map_or_else(Vec::new, |_| place(&line.spec));
        Self { line, dir: place(&line.dir), from }
    }
}

/// The lines so that each comes after those that it stands inside of, and after those that a bind mount takes from.
/// Binds in a circle come as they stand.
fn in_order<'a, 'b>(lines: &'b [Asked<'a>]) -> Vec<&'b Asked<'a>> {
    let dirs: Vec<Vec<&[u8]>> = lines.iter().map(|asked| places(&asked.dir)).collect();
    let needs = |asked: &Asked<'_>, dir: &[&[u8]], other: &[&[u8]]| {
        let takes = |deep: bool| {
            let from = places(&asked.from);
            from.starts_with(other) || (deep && other.starts_with(&from))
        };
        dir.starts_with(other) || asked.line.binds().is_some_and(takes)
    };
    let mut waiting: Vec<(usize, Vec<usize>)> = lines
        .iter()
        .zip(&dirs)
        .enumerate()
        .map(|(at, (line, dir))| {
            let others = dirs.iter().enumerate();
            let before = others.filter(|(other, their)| *other != at && needs(line, dir, their));
            (at, before.map(|(other, _)| other).collect())
        })
        .collect();
    waiting.sort_by_key(|(at, _)| dirs.get(*at).map_or(0, Vec::len));
    let mut order = Vec::new();
    let mut done = vec![false; lines.len()];
    while !waiting.is_empty() {
        let is_done = |other: &usize| done.get(*other).is_none_or(|done| *done);
        let ready = waiting.iter().position(|(_, before)| before.iter().all(is_done));
        let (at, _) = waiting.remove(ready.unwrap_or(0));
        if let (Some(done), Some(line)) = (done.get_mut(at), lines.get(at)) {
            *done = true;
            order.push(line);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::super::memory::{MemoryFs, Pool, PoolTree};
    use super::super::{Guest, roots};
    use super::*;
    use crate::text::Text;

    /// A partition with a file system in memory; its UUID is its volume's id.
    fn part(number: u32, fs: impl FileSystem + 'static) -> Device {
        Device {
            volume: format!("p{number}"),
            part_number: Some(number),
            uuid: Some(format!("p{number}")),
            kind: if fs.facts().kind == "btrfs" { "btrfs" } else { "ext4" },
            system: Some(Arc::new(fs)),
            ..Device::default()
        }
    }

    fn files(files: &[(&str, &str)]) -> MemoryFs {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        MemoryFs::new(&files)
    }

    /// A root with this `fstab`, directories to mount on, and a link to one of them.
    fn root(fstab: &str) -> MemoryFs {
        files(&[
            ("/etc/fstab", fstab),
            ("/etc/os-release", "ID=debian\n"),
            ("/bin/sh", ""),
            ("/home/", ""),
            ("/data/", ""),
            ("/boot/old", "root's own"),
            ("/srv", "-> data/inner"),
        ])
    }

    /// The only system of these partitions after a root with `fstab`, which is p1.
    fn guest(fstab: &str, others: Vec<Device>) -> Guest {
        let mut devices = vec![part(1, root(fstab))];
        devices.extend(others);
        let mut guests = roots(&devices);
        assert_eq!(guests.len(), 1);
        guests.remove(0)
    }

    fn read(guest: &Guest, path: &str) -> Option<String> {
        let node = guest.tree.find(path.as_bytes()).unwrap()?;
        Some(String::from_utf8(guest.tree.read_all(node, 100).unwrap()).unwrap())
    }

    fn mounts(guest: &Guest) -> Vec<String> {
        let show = |mount: &crate::fs::tree::Mount| format!("{} {}", escape(&mount.path), mount.volume);
        guest.tree.mounts().iter().skip(1).map(show).collect()
    }

    fn pool() -> Pool {
        let trees: &[PoolTree<'_>] = &[
            (5, "", false, &[("/@home/me", "by the top"), ("/@data/", "")]),
            (256, "@home", false, &[("/me", "home")]),
            (257, "@data", false, &[("/inner/x", "data")]),
        ];
        Pool::new(5, trees)
    }

    #[test]
    fn a_line_of_btrfs_means_the_default_subvolume_or_the_one_it_names() {
        let fstab = "UUID=p2 /home btrfs subvol=@home\nUUID=p2 /data btrfs subvolid=257\nUUID=p2 /boot btrfs defaults\n";
        let guest = guest(fstab, vec![part(2, pool())]);
        assert_eq!(read(&guest, "/home/me").as_deref(), Some("home"));
        assert_eq!(read(&guest, "/data/inner/x").as_deref(), Some("data"));
        assert_eq!(read(&guest, "/boot/@home/me").as_deref(), Some("by the top"));
        assert_eq!(guest.tree.mounts()[1].part, Part::Subvolume(b"@home".to_vec()));
        assert!(guest.warnings.is_empty(), "{:?}", guest.warnings);
    }

    #[test]
    fn a_subvolume_that_is_not_there_is_said_and_hides_nothing_else() {
        let guest = guest("UUID=p2 /boot btrfs subvol=@boot\n", vec![part(2, pool())]);
        let said =
            "/etc/fstab line 1: /boot is UUID=p2: p2: subvolume @boot: no such file, directory or volume";
        assert_eq!(guest.warnings, [said]);
        assert_eq!(read(&guest, "/boot/old").as_deref(), Some("root's own"));
        assert!(guest.has("/boot/old").is_err());
    }

    #[test]
    fn a_bind_mount_shows_a_directory_at_a_second_place() {
        let fstab = "/data/inner /home none bind\nUUID=p2 /data ext4\nUUID=p3 /data/inner/deep ext4\n";
        let others = || {
            vec![part(2, files(&[("/inner/deep/", ""), ("/inner/x", "x")])), part(3, files(&[("/y", "y")]))]
        };
        let plain = guest(fstab, others());
        assert_eq!(read(&plain, "/home/x").as_deref(), Some("x"));
        assert_eq!(read(&plain, "/home/deep/y"), None);
        let home = plain.tree.mounts().iter().find(|mount| mount.path == b"/home").unwrap();
        assert_eq!(home.part, Part::Bind(b"/data/inner".to_vec()));
        let deep = guest(&fstab.replace("bind", "rbind"), others());
        assert_eq!(read(&deep, "/home/deep/y").as_deref(), Some("y"));
        assert_eq!(mounts(&deep), ["/data p2", "/data/inner/deep p3", "/home p2", "/home/deep p3"]);
    }

    #[test]
    fn a_file_can_be_bound_over_a_file_but_not_over_a_directory() {
        let guest = guest("/etc/os-release /boot/old none bind\n/bin/sh /data none bind\n", Vec::new());
        assert_eq!(read(&guest, "/boot/old").as_deref(), Some("ID=debian\n"));
        assert_eq!(
            guest.warnings,
            ["/etc/fstab line 2: /bin/sh on /data: mount point /data: no such file, directory or volume"]
        );
    }

    #[test]
    fn binds_of_everything_into_itself_end() {
        let mut fstab = String::new();
        for _ in 0..40 {
            fstab.push_str("/ /data none rbind\n/ /home none rbind\n");
        }
        let guest = guest(&fstab, Vec::new());
        assert_eq!(mounts(&guest), ["/data p1", "/home p1", "/home/data p1"]);
    }

    #[test]
    fn mounts_that_double_with_every_line_are_cut_off() {
        let dirs: Vec<String> = (0..40).map(|n| format!("/d{n}/")).collect();
        let fstab: String = (0..40).map(|n| format!("/ /d{n} none rbind\n")).collect();
        let mut all: Vec<(&str, &str)> = dirs.iter().map(|dir| (dir.as_str(), "")).collect();
        all.extend([("/etc/fstab", fstab.as_str()), ("/etc/os-release", "ID=debian\n"), ("/bin/sh", "")]);
        let guests = roots(&[part(1, files(&all))]);
        assert_eq!(guests[0].tree.mounts().len(), 1024);
        assert!(guests[0].warnings.iter().any(|line| line.contains("more than 1024 mounts")));
    }

    #[test]
    fn a_mount_point_may_be_a_link() {
        let fstab = "UUID=p3 /srv ext4\nUUID=p2 /data ext4\n";
        let others = vec![part(2, files(&[("/inner/", "")])), part(3, files(&[("/x", "x")]))];
        let guest = guest(fstab, others);
        // The link leads into what is mounted by the other line, so that comes first.
        assert_eq!(mounts(&guest), ["/data p2", "/data/inner p3"]);
        assert_eq!(read(&guest, "/srv/x").as_deref(), Some("x"));
        assert!(guest.warnings.is_empty(), "{:?}", guest.warnings);
    }

    #[test]
    fn two_lines_may_mean_one_place_through_a_link() {
        let others = vec![part(2, files(&[("/x", "2")])), part(3, files(&[("/x", "3")]))];
        let guest = guest("UUID=p2 /srv ext4\nUUID=p3 /data/inner ext4\n", others);
        assert_eq!(read(&guest, "/data/inner/x").as_deref(), Some("2"));
        assert_eq!(
            guest.warnings,
            ["/etc/fstab line 2: /data/inner has been given a volume by /etc/fstab line 1"]
        );
    }

    #[test]
    fn a_volume_behind_the_network_is_shown_if_it_is_here() {
        let fstab = "UUID=p2 /data ext4 defaults,_netdev,nofail\nUUID=p9 /home ext4 _netdev\n";
        let guest = guest(fstab, vec![part(2, files(&[("/x", "x")]))]);
        assert_eq!(read(&guest, "/data/x").as_deref(), Some("x"));
        let said = "/etc/fstab line 2: /home is UUID=p9: no such device in this image (not needed at boot)";
        assert_eq!(guest.warnings, [said]);
        assert!(guest.has("/home/x").is_err());
    }

    #[test]
    fn only_the_kernels_own_places_are_left_out() {
        let fstab = "UUID=p2 /media/disk ext4\n/sysroot/a /data none bind\n/runtime /home none bind\n\
            /run/x /boot none bind\nUUID=p2 /dev/shm ext4\n";
        let root = files(&[
            ("/etc/fstab", fstab),
            ("/etc/os-release", "ID=debian\n"),
            ("/bin/sh", ""),
            ("/media/disk/", ""),
            ("/sysroot/a/x", "a"),
            ("/runtime/x", "runtime"),
            ("/run/x/", ""),
            ("/boot/", ""),
            ("/data/", ""),
            ("/home/", ""),
        ]);
        let guest = roots(&[part(1, root), part(2, files(&[("/x", "disk")]))]).remove(0);
        assert_eq!(mounts(&guest), ["/data p1", "/home p1", "/media/disk p2"]);
        assert!(guest.warnings.is_empty(), "{:?}", guest.warnings);
    }

    /// Every name of a directory, read one entry at a time, each time from where the last one said.
    fn names(guest: &Guest, path: &str) -> Vec<String> {
        let dir = guest.tree.find(path.as_bytes()).unwrap().unwrap();
        let (mut names, mut from) = (Vec::new(), 0);
        loop {
            let mut next = None;
            guest
                .tree
                .readdir(dir, from, &mut |entry| {
                    next = Some(entry.next);
                    names.push(escape(entry.name).to_string());
                    std::ops::ControlFlow::Break(())
                })
                .unwrap();
            match next {
                Some(next) => from = next,
                None => return names,
            }
        }
    }

    #[test]
    fn a_mount_point_that_is_missing_is_made() {
        let fstab =
            "UUID=p2 /data/a/b ext4\nUUID=p3 /data/a/c ext4\nUUID=p2 /new ext4\nUUID=p9 /gone/x ext4\n";
        let others = vec![part(2, files(&[("/x", "2")])), part(3, files(&[("/x", "3")]))];
        let guest = guest(fstab, others);
        assert_eq!(mounts(&guest), ["/new p2", "/data/a/b p2", "/data/a/c p3"]);
        assert_eq!(names(&guest, "/"), ["bin", "boot", "data", "etc", "home", "srv", "new"]);
        assert_eq!(names(&guest, "/data"), ["a"]);
        assert_eq!(names(&guest, "/data/a"), ["b", "c"]);
        assert_eq!(names(&guest, "/data/a/b"), ["x"]);
        assert_eq!(read(&guest, "/data/a/c/../b/x").as_deref(), Some("2"));
        assert_eq!(read(&guest, "/new/x").as_deref(), Some("2"));
        let made = guest.tree.find(b"/data/a").unwrap().unwrap();
        let stat = guest.tree.stat(made).unwrap();
        assert_eq!((stat.kind, stat.mode), (crate::fs::FileType::Dir, 0o755));
        // What is not in the image stays unknown; nothing is shown in its place.
        assert_eq!(guest.warnings.len(), 1, "{:?}", guest.warnings);
        assert_eq!(guest.tree.find(b"/gone").unwrap(), None);
        assert!(guest.has("/gone/x/y").is_err());
    }

    #[test]
    fn a_mount_point_is_not_made_through_a_file_or_out_of_the_blue() {
        let fstab = "UUID=p2 /bin/sh/x ext4\nUUID=p2 /none/../x ext4\n/bin/sh /none none bind\n/none /home none bind\n";
        let guest = guest(fstab, vec![part(2, files(&[("/x", "2")]))]);
        assert!(mounts(&guest).is_empty(), "{:?}", mounts(&guest));
        assert_eq!(guest.warnings.len(), 4, "{:?}", guest.warnings);
    }

    #[test]
    fn everything_below_a_root_is_walked_with_what_was_made() {
        let guest = guest("UUID=p2 /data/a/b ext4\n", vec![part(2, files(&[("/x", "2")]))]);
        let mut seen = Vec::new();
        let top = guest.tree.root();
        guest
            .tree
            .walk(b"/", top, &mut |visit| {
                seen.push(escape(visit.path).to_string());
                Ok(crate::fs::tree::Enter::Yes)
            })
            .unwrap();
        for path in ["/data", "/data/a", "/data/a/b", "/data/a/b/x"] {
            assert_eq!(seen.iter().filter(|one| *one == path).count(), 1, "{path} in {seen:?}");
        }
    }

    #[test]
    fn of_two_lines_for_one_place_the_first_counts() {
        let others = vec![part(2, files(&[("/x", "2")])), part(3, files(&[("/x", "3")]))];
        let guest = guest("UUID=p2 /data ext4\nUUID=p3 /data/ ext4\n", others);
        assert_eq!(read(&guest, "/data/x").as_deref(), Some("2"));
        assert_eq!(
            guest.warnings,
            ["/etc/fstab line 2: /data/ has been given a volume by /etc/fstab line 1"]
        );
    }

    #[test]
    fn a_second_root_that_differs_is_said() {
        let same = guest("UUID=p1 / ext4\nUUID=p1 / ext4 ro\n", Vec::new());
        assert!(same.warnings.is_empty(), "{:?}", same.warnings);
        let other = guest("UUID=p1 / ext4\nLABEL=x / ext4\n", Vec::new());
        assert_eq!(
            other.warnings,
            ["/etc/fstab line 2: a second /, LABEL=x; /etc/fstab line 1 names another"]
        );
    }

    #[test]
    fn where_a_name_leads_nowhere_the_last_mount_point_helps() {
        let here = Device { last_mounted: Text::from("/data"), ..part(2, files(&[("/x", "x")])) };
        let guest = guest("/dev/sdc1 /data ext4\n", vec![here.clone()]);
        assert_eq!(read(&guest, "/data/x").as_deref(), Some("x"));
        assert!(
            guest.warnings[0].ends_with("p2 was mounted there last, and is shown"),
            "{:?}",
            guest.warnings
        );
        let meant = self::guest("/dev/sdc1 /data ext4\nUUID=p2 /home ext4\n", vec![here]);
        assert_eq!(mounts(&meant), ["/home p2"]);
    }

    #[test]
    fn a_position_that_holds_something_else_is_not_believed() {
        let swap = Device { kind: "xfs", ..part(2, files(&[])) };
        let guest = guest("/dev/sda2 /data ext4\n", vec![swap]);
        assert_eq!(guest.warnings, ["/etc/fstab line 1: /data is /dev/sda2: p2 holds xfs, not ext4"]);
    }

    #[test]
    fn one_uuid_on_two_volumes_is_said() {
        let twin = Device { uuid: Some("p2".to_owned()), ..part(3, files(&[("/x", "3")])) };
        let guest = guest("UUID=p2 /data ext4\n", vec![part(2, files(&[("/x", "2")])), twin]);
        assert_eq!(read(&guest, "/data/x").as_deref(), Some("2"));
        let said = "/etc/fstab line 1: /data is UUID=p2: p2 is taken, but so is called p3";
        assert_eq!(guest.warnings, [said]);
    }

    #[test]
    fn a_further_device_of_a_file_system_means_the_whole() {
        let mut member = part(3, files(&[]));
        (member.system, member.shown_on) = (None, Some("p2".to_owned()));
        let guest = guest("/dev/sda3 /data auto\n", vec![part(2, files(&[("/x", "x")])), member]);
        assert_eq!(read(&guest, "/data/x").as_deref(), Some("x"));
    }

    #[test]
    fn a_layer_that_hides_what_is_stored_is_said() {
        let guest = guest("overlay /home overlay lowerdir=/data,upperdir=/x\n", Vec::new());
        assert!(guest.warnings[0].contains("of type overlay"), "{:?}", guest.warnings);
        assert!(guest.has("/home/x").is_err());
    }

    #[test]
    fn a_mount_unit_counts_as_a_line() {
        let dir = "/etc/systemd/system";
        let unit = "[Mount]\nWhat=/dev/disk/by-uuid/p2\nWhere=/data\n";
        let devices = [
            part(
                1,
                files(&[
                    ("/etc/os-release", "ID=debian\n"),
                    ("/bin/sh", ""),
                    ("/data/", ""),
                    (&format!("{dir}/data.mount"), unit),
                    (&format!("{dir}/local-fs.target.wants/data.mount"), "-> ../data.mount"),
                ]),
            ),
            part(2, files(&[("/x", "x")])),
        ];
        assert_eq!(read(&roots(&devices)[0], "/data/x").as_deref(), Some("x"));
    }

    #[test]
    fn a_partition_says_by_its_type_where_it_goes_when_nothing_else_does() {
        const HOME: &str = "933ac7e1-2eb4-4f13-b844-0e14e2aef915";
        let generator = "/usr/lib/systemd/system-generators/systemd-gpt-auto-generator";
        let system = |fstab: &str, more: &str| {
            let root = files(&[
                ("/etc/fstab", fstab),
                ("/etc/os-release", "ID=debian\n"),
                ("/bin/sh", ""),
                ("/data/", ""),
                (generator, ""),
                (more, ""),
            ]);
            let home = Device { part_type: Some(HOME.to_owned()), ..part(2, files(&[("/me", "")])) };
            mounts(&roots(&[part(1, root), home])[0])
        };
        assert_eq!(system("", "/home/"), ["/home p2"]);
        assert_eq!(system("UUID=p2 /data ext4\n/dev/sdb1 /home ext4\n", "/home/"), ["/data p2"]);
        assert!(system("", "/home/full").is_empty());
    }

    #[test]
    fn labels_are_bytes() {
        let labelled = Device { label: Text::from("my disk"), ..part(2, files(&[("/x", "x")])) };
        let guest = guest("LABEL=\"my\\040disk\" /data ext4\n", vec![labelled]);
        assert_eq!(read(&guest, "/data/x").as_deref(), Some("x"));
    }
}
