//! Windows guests: where a Windows is installed, which drives it has, what it calls itself, and what starts it.
//!
//! ```text
//!   every volume ── boot stores (BCD, boot.ini)                            bcd
//!                └─ directories with SYSTEM, SOFTWARE and the kernel       install
//!   each of these is a guest:
//!     SYSTEM\MountedDevices ── letters ── the tree with C: D: Volume{…}    drives, place
//!     boot stores ── is this the one that is started?                      boot
//!     SOFTWARE, SYSTEM ── product, build, computer; ntoskrnl.exe ── arch   product, pe
//! ```

mod bcd;
mod boot;
pub mod cloudbase;
pub mod drivers;
mod drives;
pub mod firewall;
mod install;
pub mod keys;
pub mod license;
pub mod network;
pub mod paths;
mod pe;
mod place;
pub mod power;
mod product;
pub mod programs;
pub mod services;
pub mod setup;
pub mod updates;

pub use boot::{BootEntry, Starters, StoreSeen};
pub use drives::Drive;
pub(super) use install::role;
pub use product::{Computer, Product};

use super::elf::Machine;
use super::registry::{self, Hive};
use super::{Device, Evidence, Guest, share};
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::fs::tree::Tree;
use crate::text::escape;
use bcd::Store;
use boot::Boots;
use drives::Drives;
use install::Installation;
use std::sync::{Arc, OnceLock};

/// What there is to know about one Windows.
#[derive(Debug)]
pub struct Windows {
    /// Its directory, as it is spelled on its volume: `/Windows`.
    pub directory: Vec<u8>,
    /// Its drives, by letter.
    pub drives: Vec<Drive>,
    /// The boot entries that start it.
    pub entries: Vec<BootEntry>,
    /// The boot stores of the image.
    pub starters: Arc<Starters>,
    /// The system that an upgrade put aside: `/Windows.old`.
    pub earlier: Option<Vec<u8>>,
    /// The tree of each drive, the others reachable from it by their letters.
    pub trees: Vec<(char, Arc<Tree>)>,
    volume: String,
    system: Result<Arc<Hive>>,
    software: OnceLock<Result<Arc<Hive>>>,
    drivers: OnceLock<Result<Option<Hive>>>,
    product: OnceLock<Result<Product>>,
    computer: OnceLock<Result<Computer>>,
}

/// A Windows that was found, with what speaks for it.
pub(super) struct Candidate {
    pub(super) guest: Guest,
    pub(super) score: u32,
    /// A boot store starts it without being asked.
    pub(super) is_started: bool,
}

/// Systems of one machine that are looked into.
const MAX_SYSTEMS: usize = 32;
/// Directories that boot stores name beside the usual ones; more than one was never seen.
const MAX_NAMED: usize = 16;

/// The Windows systems on all devices. What boot stores say of systems that are not there is in `warnings`, if no other
/// system is there to say it.
pub(super) fn find(devices: &[Device], warnings: &mut Vec<String>) -> Vec<Candidate> {
    let (mut stores, mut bad, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for (device, fs) in readable(devices) {
        for store in bcd::stores(&device.volume, &Tree::new(&device.volume, Arc::clone(fs))) {
            match store {
                Ok(store) => stores.push(store),
                Err(error) => {
                    bad.push(error.chain());
                    unread.push(error);
                }
            }
        }
    }
    let (mut systems, named) = (Vec::new(), named(&stores));
    for (device, fs) in readable(devices) {
        let tree = Tree::new(&device.volume, Arc::clone(fs));
        // A volume that cannot be read has none; `role` says so to who asks for it.
        let found = install::installations(&device.volume, &tree, &named).unwrap_or_default();
        systems.extend(found.into_iter().map(|one| (device, fs, one)));
    }
    if let Some(more) = systems.len().checked_sub(MAX_SYSTEMS).filter(|more| *more > 0) {
        bad.push(format!("{more} Windows systems more than the {MAX_SYSTEMS} that are looked into"));
        systems.truncate(MAX_SYSTEMS);
    }
    let all: Vec<_> =
        systems.iter().map(|(device, _, one)| (device.volume.clone(), one.directory.clone())).collect();
    let mut boots = Boots::of(&stores, devices, &all);
    boots.warnings.extend(boots.dead(&all, devices));
    // A store that cannot be read may be the one that starts it.
    if stores.is_empty() && bad.is_empty() && !systems.is_empty() {
        bad.push(
            "no boot configuration of Windows (Boot/BCD, EFI/Microsoft/Boot/BCD, boot.ini) is in this image"
                .to_owned(),
        );
    }
    let starters = Arc::new(Starters::new(&stores, unread, &boots));
    let mut found: Vec<Candidate> = systems
        .into_iter()
        .map(|(device, fs, one)| open((device, fs), one, devices, (&boots, &starters)))
        .collect();
    found.sort_by_key(|one| std::cmp::Reverse(one.is_started));
    // What is odd about the stores is said once, with the system that comes first.
    let said = found.first_mut().map_or(warnings, |first| &mut first.guest.warnings);
    said.extend(bad);
    said.append(&mut boots.warnings);
    found
}

/// The directories that boot stores start systems from, each once, whichever way it is written.
fn named(stores: &[Store]) -> Vec<Vec<u8>> {
    let mut named: Vec<Vec<u8>> = Vec::new();
    for entry in stores.iter().flat_map(|store| &store.entries) {
        if named.len() >= MAX_NAMED {
            break;
        }
        let is_new = |known: &Vec<u8>| !known.eq_ignore_ascii_case(&entry.directory);
        if !entry.directory.is_empty() && named.iter().all(is_new) {
            named.push(entry.directory.clone());
        }
    }
    named
}

/// Windows lives on file systems that do not tell upper from lower case.
fn readable(devices: &[Device]) -> impl Iterator<Item = (&Device, &Arc<dyn FileSystem>)> {
    let systems = devices.iter().filter_map(|device| Some((device, device.system.as_ref()?)));
    systems.filter(|(_, fs)| fs.ignores_case())
}

fn open(
    (device, fs): (&Device, &Arc<dyn FileSystem>),
    one: Installation,
    devices: &[Device],
    (boots, starters): (&Boots, &Arc<Starters>),
) -> Candidate {
    let own = Tree::new(&device.volume, Arc::clone(fs));
    let mut warnings = Vec::new();
    let system = hive(&own, &one.directory, "SYSTEM").map(Arc::new);
    let seen = at(&device.volume, &one.directory, "SYSTEM");
    let read = system.as_ref().map_err(Clone::clone).and_then(|hive| {
        warnings.extend(hive.warnings().iter().map(|line| format!("{}: SYSTEM: {line}", device.volume)));
        Drives::read(hive, device, devices, &seen)
    });
    let mut drives = read.unwrap_or_else(|error| {
        warnings.push(format!("{}: the drives' letters cannot be read: {}", device.volume, error.chain()));
        Drives::default()
    });
    if drives.letter(&device.volume).is_none() {
        drives.need(&device.volume, letter_said(&own, &device.volume, &one.directory));
    }
    let tree = |volume: &str, fs: &Arc<dyn FileSystem>| drive_tree(volume, fs, &drives, devices);
    let root = Arc::new(tree(&device.volume, fs));
    let trees = drives.drives.iter().filter_map(|drive| {
        if drive.volume == device.volume {
            return Some((drive.letter, Arc::clone(&root)));
        }
        let fs = devices.iter().find(|device| device.volume == drive.volume)?.system.as_ref()?;
        Some((drive.letter, Arc::new(tree(&drive.volume, fs))))
    });
    let trees = trees.collect();
    let facts = tree(&device.volume, fs);
    let is_here = |entry: &&BootEntry| entry.is_of(&device.volume, &one.directory);
    let entries: Vec<BootEntry> = boots.entries.iter().filter(is_here).cloned().collect();
    let is_started = boots.starts(&device.volume, &one.directory);
    warnings.append(&mut drives.warnings);
    if entries.is_empty() && !boots.entries.is_empty() {
        let (volume, directory) = (&device.volume, escape(&one.directory));
        warnings.push(format!("no entry of a boot store starts the Windows in {directory} of {volume}"));
    }
    let earlier = install::earlier(&device.volume, &own).unwrap_or_else(|error| {
        warnings.push(error.chain());
        None
    });
    let score = u32::try_from(one.evidence.len()).unwrap_or(u32::MAX);
    let windows = Windows {
        directory: one.directory,
        drives: drives.drives,
        entries,
        starters: Arc::clone(starters),
        earlier,
        trees,
        volume: device.volume.clone(),
        system,
        software: OnceLock::new(),
        drivers: OnceLock::new(),
        product: OnceLock::new(),
        computer: OnceLock::new(),
    };
    Candidate { guest: Guest::of_windows(device, root, facts, windows, warnings), score, is_started }
}

/// A volume's tree, in which every other drive has its letter.
fn drive_tree(volume: &str, fs: &Arc<dyn FileSystem>, drives: &Drives, devices: &[Device]) -> Tree {
    let mut tree = Tree::new(volume, Arc::clone(fs));
    let mut mounted: Vec<(&str, String)> = vec![(volume, ".".to_owned())];
    let letters = drives.drives.iter().map(|drive| (format!("{}:", drive.letter), drive.volume.as_str()));
    for (name, volume) in
        letters.chain(drives.names.iter().map(|(name, volume)| (name.clone(), volume.as_str())))
    {
        let added = match mounted.iter().find(|(known, _)| *known == volume) {
            Some((_, first)) => tree.add_drive_link(&name, first),
            None => {
                let device = devices.iter().find(|device| device.volume == volume);
                let Some(fs) = device.and_then(|device| device.system.as_ref()) else { continue };
                mounted.push((volume, name.clone()));
                tree.add_drive(&name, volume, Arc::clone(fs))
            }
        };
        // The tree is full: a registry with thousands of names of volumes. Those with letters came first.
        if added.is_err() {
            break;
        }
    }
    tree
}

fn hive(tree: &Tree, directory: &[u8], name: &str) -> Result<Hive> {
    let path = [directory, b"/System32/config/", name.as_bytes()].concat();
    registry::load(tree, &path)?.ok_or_else(|| Error::not_found(escape(&path)))
}

/// A hive as evidence.
fn at(volume: &str, directory: &[u8], name: &str) -> Evidence {
    Evidence::new(name).on(volume).path(&[directory, b"/System32/config/", name.as_bytes()].concat())
}

/// The letter that the system calls its own volume by, for where MountedDevices has none: SystemRoot is `C:\Windows`.
fn letter_said(tree: &Tree, volume: &str, directory: &[u8]) -> Option<(char, Evidence)> {
    let software = hive(tree, directory, "SOFTWARE").ok()?;
    let key = software.key(product::CURRENT_VERSION).ok()??;
    let root = product::text(&key, "SystemRoot").ok()?;
    let [letter, b':', b'\\', ..] = root.as_bytes() else { return None };
    let what = format!("{}: SystemRoot is {root}", product::CURRENT_VERSION);
    let seen = Evidence { what, ..at(volume, directory, "SOFTWARE") };
    letter.is_ascii_alphabetic().then(|| (char::from(letter.to_ascii_uppercase()), seen))
}

impl Windows {
    /// The hive SYSTEM.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn system(&self) -> Result<&Arc<Hive>> {
        share(&self.system)
    }

    /// The hive SOFTWARE; `tree` is the guest's.
    ///
    /// # Errors
    /// When it could not be read.
    pub(super) fn software(&self, tree: &Tree) -> Result<&Arc<Hive>> {
        share(self.software.get_or_init(|| hive(tree, &self.directory, "SOFTWARE").map(Arc::new)))
    }

    pub(super) fn product(&self, tree: &Tree) -> Result<&Product> {
        share(self.product.get_or_init(|| {
            let seen = at(&self.volume, &self.directory, "SOFTWARE");
            Product::read(self.software(tree)?, &seen)
        }))
    }

    /// What the machine was called in which it ran.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn computer(&self) -> Result<&Computer> {
        share(
            self.computer
                .get_or_init(|| Computer::read(self.system()?, &at(&self.volume, &self.directory, "SYSTEM"))),
        )
    }

    pub(super) fn machine(&self, tree: &Tree) -> Result<Option<Machine>> {
        pe::read(tree, &self.directory)
    }

    /// The tree of a drive, by its letter in either case.
    #[must_use]
    pub fn drive(&self, letter: char) -> Option<&Arc<Tree>> {
        self.trees.iter().find(|(own, _)| own.eq_ignore_ascii_case(&letter)).map(|(_, tree)| tree)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;
    use crate::fs::FileType;
    use crate::fs::tree::Follow;

    const NAME: &str = "Volume{629458e4-0000-0000-0000-010000000000}";

    fn part(number: u32, files: &[(&str, &str)]) -> Device {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        Device {
            volume: format!("p{number}"),
            part_number: Some(number),
            system: Some(Arc::new(MemoryFs::caseless(&files))),
            ..Device::default()
        }
    }

    /// C: is p1, D: is p2 and has a name too, p3 has only one.
    fn devices() -> [Device; 3] {
        [
            part(
                1,
                &[
                    ("/Users/me/letter", "C"),
                    ("/Documents and Settings", "-> /C:/Users"),
                    ("/Users/me/data", &format!("-> /{NAME}/")),
                    ("/Users/me/same", "-> /d:/SHELF/book"),
                ],
            ),
            part(
                2,
                &[("/shelf/book", "D"), ("/back", "-> /c:/users/me/letter"), ("/rooted", "-> /shelf/book")],
            ),
            part(3, &[("/alone", "3")]),
        ]
    }

    fn drives() -> Drives {
        let drive = |letter, volume: &str| Drive { letter, volume: volume.to_owned(), evidence: None };
        Drives {
            drives: vec![drive('C', "p1"), drive('D', "p2")],
            names: vec![(NAME.to_owned(), "p2".to_owned()), ("Volume{3}".to_owned(), "p3".to_owned())],
            warnings: Vec::new(),
        }
    }

    fn tree(number: usize) -> Tree {
        let devices = devices();
        let device = &devices[number];
        drive_tree(&device.volume, device.system.as_ref().unwrap(), &drives(), &devices)
    }

    fn read(tree: &Tree, path: &str) -> Option<String> {
        let node = tree.find(path.as_bytes()).unwrap()?;
        Some(String::from_utf8(tree.read_all(node, 100).unwrap()).unwrap())
    }

    #[test]
    fn directories_that_boot_stores_name_are_looked_for_once_and_not_without_end() {
        let entry = |directory: &str| bcd::Entry {
            name: crate::text::Text::default(),
            device: bcd::Target::Here,
            directory: directory.as_bytes().to_vec(),
            loader: Vec::new(),
        };
        let store = |directories: &[&str]| Store {
            volume: "p1".to_owned(),
            path: crate::text::Text::default(),
            firmware: "bios",
            entries: directories.iter().map(|directory| entry(directory)).collect(),
            default: None,
        };
        let two = [store(&["/Windows", "/Odd", ""]), store(&["/WINDOWS", "/odd"])];
        assert_eq!(named(&two), [b"/Windows".to_vec(), b"/Odd".to_vec()]);
        let many: Vec<String> = (0..1000).map(|number| format!("/W{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(named(&[store(&many), store(&many)]).len(), MAX_NAMED);
    }

    #[test]
    fn what_a_boot_store_starts_in_vain_is_said_without_any_system() {
        let text = "[boot loader]\r\ndefault=multi(0)disk(0)rdisk(0)partition(3)\\WINDOWS\r\n\
            [operating systems]\r\nmulti(0)disk(0)rdisk(0)partition(3)\\WINDOWS=\"Windows XP\"\r\n";
        let mut warnings = Vec::new();
        assert!(find(&[part(1, &[("/boot.ini", text)])], &mut warnings).is_empty());
        let expected = "p1:/boot.ini: its default entry, 'Windows XP', starts from partition 3 of disk 0, which is not in this image";
        assert_eq!(warnings, [expected]);
        warnings.clear();
        assert!(find(&[part(1, &[("/data", "")])], &mut warnings).is_empty());
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn every_drive_is_reached_by_its_letter_from_every_other() {
        let (c, d) = (tree(0), tree(1));
        for path in [
            "/C:/Users/me/letter",
            "/c:/USERS/me/letter",
            "/Documents and Settings/me/letter",
            "/C:/C:/Users/me/letter",
        ] {
            assert_eq!(read(&c, path).as_deref(), Some("C"), "{path}");
        }
        for path in ["/D:/shelf/book", "/d:/shelf/book", "/Users/me/data/shelf/book", "/Users/me/same"] {
            assert_eq!(read(&c, path).as_deref(), Some("D"), "{path}");
        }
        assert_eq!(read(&c, "/Volume{3}/alone").as_deref(), Some("3"));
        assert_eq!(read(&c, "/D:/back").as_deref(), Some("C"));
        assert_eq!(read(&d, "/back").as_deref(), Some("C"));
        assert_eq!(read(&d, "/D:/shelf/book").as_deref(), Some("D"));
        assert_eq!(read(&c, "/E:/x"), None);
    }

    #[test]
    fn a_path_from_the_root_of_a_drive_stays_on_it() {
        assert_eq!(read(&tree(0), "/D:/rooted").as_deref(), Some("D"));
        assert_eq!(read(&tree(1), "/rooted").as_deref(), Some("D"));
    }

    #[test]
    fn above_a_drive_is_the_root_and_drives_are_in_no_listing() {
        let tree = tree(0);
        assert_eq!(read(&tree, "/D:/../Users/me/letter").as_deref(), Some("C"));
        let names = super::super::file::names(&tree, "/").unwrap();
        assert_eq!(names, [&b"Documents and Settings"[..], b"Users"]);
        assert_eq!(read(&tree, "/Users/D:/shelf/book"), None);
    }

    #[test]
    fn a_directory_has_one_name_and_the_others_are_links_to_it() {
        let tree = tree(0);
        let kind = |path: &str| tree.stat(tree.resolve(path.as_bytes(), Follow::No).unwrap()).unwrap().kind;
        let link = |path: &str| tree.readlink(tree.resolve(path.as_bytes(), Follow::No).unwrap()).unwrap();
        assert_eq!((kind("/D:"), kind("/Volume{3}")), (FileType::Dir, FileType::Dir));
        assert_eq!((link("/C:"), link("/c:")), (b".".to_vec(), b".".to_vec()));
        assert_eq!(
            (link("/d:"), link(&format!("/{NAME}")), link("/VOLUME{3}")),
            (b"D:".to_vec(), b"D:".to_vec(), b"Volume{3}".to_vec())
        );
    }
}
