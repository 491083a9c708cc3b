//! What a guest says about itself: which volume is its root, what it is called, what it boots.
//!
//! [`roots`] finds the systems among the devices of a disk and mounts the rest into each by its `fstab`. Every other
//! fact is read when it is first asked for, once, and carries its [`Evidence`]. A fact that could not be read is an
//! error; only what was looked for and is not there is absent.

use crate::budget::Limits;
use crate::error::{Error, Result};
use crate::fs::tree::{Node, Part, Tree};
use crate::fs::{FileSystem, FileType};
use crate::text::Text;
use boot::BootConfig;
use cloud_init::CloudInit;
use elf::Machine;
use fstab::Fstab;
use kernel::{Drivers, Kernel};
use names::{Found, Names};
use os_release::OsRelease;
use packages::Packages;
use roots::Place;
use services::Services;
use spec::Spec;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use windows::{Product, Windows};

pub mod accounts;
pub mod admin;
mod assemble;
pub mod boot;
pub mod cloud_init;
pub mod crypttab;
pub mod elf;
pub mod evidence;
pub mod fact;
pub mod file;
pub mod firewall;
pub mod fstab;
pub mod glob;
mod gpt_auto;
pub mod hostname;
pub mod initramfs;
pub mod kernel;
pub mod kernel_image;
#[cfg(test)]
mod memory;
mod missing;
pub mod names;
pub mod network;
pub mod os_release;
mod ostree;
pub mod packages;
pub mod pe;
pub mod program;
pub mod registry;
pub mod resolver;
pub mod role;
mod roots;
pub mod selinux;
pub mod services;
pub mod spec;
pub mod sshd;
pub mod syntax;
pub mod units;
pub mod version;
pub mod windows;

pub use evidence::Evidence;
pub use fact::Fact;

/// A partition, as Windows knows it again: by its disk's signature and its place, or by its GUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// Signature of the MBR in eight digits, or GUID of the GPT.
    pub disk_id: String,
    /// The partition's GUID in a GPT; in an MBR, what Linux makes of signature and number.
    pub uuid: Option<String>,
    /// Its first byte on the disk.
    pub start: u64,
}

/// One volume of a disk, as the guest layer sees it.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// The volume's id.
    pub volume: String,
    /// Which disk of the machine it is on, counted from 0 as the kernel counts.
    pub disk: u32,
    /// Is it that whole disk?
    pub is_disk: bool,
    /// Its number in the partition table.
    pub part_number: Option<u32>,
    /// `PARTUUID`.
    pub part_uuid: Option<String>,
    /// `PARTLABEL`.
    pub part_name: Text,
    /// The partition that it is, or out of which a key opened it.
    pub on_disk: Option<OnDisk>,
    /// Its type: a GPT type GUID in lower case, or `0x83`.
    pub part_type: Option<String>,
    /// Its table says that nobody is to mount it unasked.
    pub no_auto: bool,
    /// What stands on it, as `blkid` calls it: `ext4`, `swap`. Empty if nothing is known.
    pub kind: &'static str,
    /// The file system's UUID, as `blkid` spells it.
    pub uuid: Option<String>,
    /// The file system's label.
    pub label: Text,
    /// Its file system, if we read it.
    pub system: Option<Arc<dyn FileSystem>>,
    /// Where its file system says that it was mounted last.
    pub last_mounted: Text,
    /// The volume on which its file system is shown, if it is a further device of one of several.
    pub shown_on: Option<String>,
    /// It is all zero where a signature would stand.
    pub is_blank: bool,
    /// Further names that a running Linux gives it, as paths: `/dev/vg0/root`, `/dev/mapper/vg0-root`, `/dev/md0`,
    /// `/dev/disk/by-id/dm-uuid-LVM-...`. Empty for a partition of a disk.
    pub names: Vec<String>,
    /// Ids of the volumes that it is made of: an LV of its PVs, an array of its members, a partition inside an LV of that
    /// LV. Empty for a disk and a partition of one.
    pub made_of: Vec<String>,
}

impl Device {
    /// Is it the disk itself or one of its partitions, not something made of them?
    #[must_use]
    pub fn is_of_the_disk(&self) -> bool {
        self.part_number.is_some() || self.is_disk
    }

    /// Could it be the device that an unknown UUID or label means?
    #[must_use]
    pub fn may_hide_an_identity(&self) -> bool {
        self.system.is_none() && self.uuid.is_none() && !self.is_blank
    }

    /// Are other volumes made of it, that we do not see?
    #[must_use]
    pub fn is_made_of(&self) -> bool {
        matches!(self.kind, "LVM2_member" | "crypto_LUKS" | "linux_raid_member" | "BitLocker")
    }

    /// The device on which its file system is shown; itself, unless that has several.
    #[must_use]
    pub fn whole<'a>(&'a self, devices: &'a [Self]) -> &'a Self {
        let shown = |id: &String| devices.iter().find(|device| device.volume == *id);
        self.shown_on.as_ref().and_then(shown).unwrap_or(self)
    }

    /// What it holds, in words.
    #[must_use]
    pub fn what(&self) -> &str {
        if self.kind.is_empty() { "something unknown" } else { self.kind }
    }
}

/// One operating system in an image.
#[derive(Debug)]
pub struct Guest {
    /// Its tree: the root with the other volumes at their `fstab` places.
    pub tree: Arc<Tree>,
    /// The volume of its root.
    pub root: String,
    /// `linux`, `windows`.
    pub kind: &'static str,
    /// How it can be booted: `bios`, `uefi`. Set by who sees the whole disk.
    pub firmware: Vec<&'static str>,
    /// What the code in its disk's first sector calls itself: `GRUB 2`. Set by who sees the whole disk.
    pub boot_code: &'static str,
    /// What did not work out while assembling, one line each.
    pub warnings: Vec<String>,
    /// As `tree`, but what lies on a volume that is missing is an error.
    facts: Tree,
    windows: Option<Windows>,
    known: fact::Facts,
    fstab: Result<Fstab>,
    names: Names,
    os: OnceLock<Result<OsRelease>>,
    machine: OnceLock<Result<Option<Machine>>>,
    kernels: OnceLock<Result<Vec<Kernel>>>,
    boot: OnceLock<Result<Option<BootConfig>>>,
    packages: OnceLock<Result<Packages>>,
    services: OnceLock<Result<Services>>,
    cloud_init: OnceLock<Result<CloudInit>>,
}

/// Finds the operating systems among the devices of a disk, by evidence; the one that most speaks for first. What is odd
/// and of none of them is added to `warnings`: a boot store that starts a system which is not there.
#[must_use]
pub fn systems(devices: &[Device], warnings: &mut Vec<String>) -> Vec<Guest> {
    roots::find(devices, warnings)
}

/// As [`systems`], of which no more is asked.
#[cfg(test)]
fn roots(devices: &[Device]) -> Vec<Guest> {
    systems(devices, &mut Vec::new())
}

/// What walking an initramfs may cost. Unpacking 300 MiB takes seconds.
const INITRAMFS: Limits = Limits { time: Duration::from_secs(10), steps: 64_000_000, ..Limits::WALK };

impl Guest {
    fn new(device: &Device, place: &Place, devices: &[Device]) -> Self {
        let own = place.tree(&device.volume);
        let mut warnings = Vec::new();
        let mut or_none = |error: Error| warnings.push(error.chain());
        let fstab = fstab::read(&own);
        let named = fstab.as_ref().ok().and_then(Fstab::root).map(fstab::Line::spec);
        let names = Names::read(&own, device, named.as_ref()).unwrap_or_else(|error| {
            or_none(error);
            Names::default()
        });
        let units = units::read(&own).unwrap_or_else(|error| {
            or_none(error);
            Vec::new()
        });
        let units = units.into_iter().filter_map(Result::ok).map(|unit| unit.line);
        let mut lines: Vec<_> = units.filter(|line| !line.is_swap()).collect();
        match &fstab {
            Ok(fstab) => {
                lines.extend(fstab.lines.iter().cloned());
                warnings.extend(fstab.second_root());
            }
            Err(error) => or_none(error.clone()),
        }
        let done = assemble::assemble(device, place, devices, &lines, &names);
        warnings.extend(done.warnings);
        Self {
            tree: Arc::new(done.tree),
            root: device.volume.clone(),
            kind: "linux",
            firmware: Vec::new(),
            boot_code: "",
            warnings,
            facts: done.facts,
            windows: None,
            known: fact::Facts::default(),
            fstab,
            names,
            os: OnceLock::new(),
            machine: OnceLock::new(),
            kernels: OnceLock::new(),
            boot: OnceLock::new(),
            packages: OnceLock::new(),
            services: OnceLock::new(),
            cloud_init: OnceLock::new(),
        }
    }

    /// A Windows. What only a Linux has is not absent there, it is no question: asking for it is an error.
    fn of_windows(
        device: &Device,
        tree: Arc<Tree>,
        facts: Tree,
        windows: Windows,
        warnings: Vec<String>,
    ) -> Self {
        let none = || Error::unsupported("this is a Windows system; it has no such thing as a Linux has");
        Self {
            tree,
            root: device.volume.clone(),
            kind: "windows",
            firmware: Vec::new(),
            boot_code: "",
            warnings,
            facts,
            windows: Some(windows),
            known: fact::Facts::default(),
            // Every other fact of a Linux asks for this one first.
            fstab: Err(none()),
            names: Names::default(),
            os: OnceLock::from(Err(none())),
            machine: OnceLock::new(),
            kernels: OnceLock::new(),
            boot: OnceLock::new(),
            packages: OnceLock::new(),
            services: OnceLock::new(),
            cloud_init: OnceLock::new(),
        }
    }

    /// What only a Windows has; `None` for any other system.
    #[must_use]
    pub const fn windows(&self) -> Option<&Windows> {
        self.windows.as_ref()
    }

    /// What a Windows calls itself.
    ///
    /// # Errors
    /// When it could not be read; when this is no Windows.
    pub fn windows_product(&self) -> Result<&Product> {
        let none = || Error::unsupported("this is no Windows system");
        self.windows.as_ref().ok_or_else(none)?.product(&self.facts)
    }

    fn read_machine(&self) -> Result<Option<Machine>> {
        match &self.windows {
            Some(windows) => windows.machine(&self.facts),
            None => elf::read(&self.facts),
        }
    }

    /// The lines of its `fstab`. Without them nobody knows which volumes are missing from the tree, so every fact whose
    /// absence would mean something asks for them first.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn fstab(&self) -> Result<&Fstab> {
        share(&self.fstab)
    }

    /// The device that a name means to this guest, of those of the whole machine.
    #[must_use]
    pub fn find_device<'a>(&self, spec: &Spec, devices: &'a [Device]) -> Found<'a> {
        self.names.resolve(spec, devices)
    }

    /// The subvolume of its root, if it stands in one: `@`.
    #[must_use]
    pub fn subvolume(&self) -> Option<Text> {
        match self.tree.mounts().first().map(|mount| &mount.part) {
            Some(Part::Subvolume(path)) if !path.is_empty() => Some(Text::from(path.as_slice())),
            _ => None,
        }
    }

    /// Where its root is, in one word: `p2`, `p2/@home` for the subvolume `@home`, `p2/Windows` for a Windows.
    #[must_use]
    pub fn place(&self) -> String {
        if let Some(windows) = &self.windows {
            return format!("{}{}", self.root, crate::text::escape(&windows.directory));
        }
        let subvolume = self.subvolume().map(|path| format!("/{path}")).unwrap_or_default();
        format!("{}{subvolume}", self.root)
    }

    /// What it is and where, for a list: `Debian GNU/Linux 12 (bookworm) on p2`.
    #[must_use]
    pub fn title(&self) -> String {
        let part = match &self.windows {
            Some(windows) if !windows.directory.eq_ignore_ascii_case(b"/Windows") => {
                format!(", in {}", crate::text::escape(&windows.directory))
            }
            _ => self.subvolume().map(|path| format!(", subvolume {path}")).unwrap_or_default(),
        };
        format!("{} on {}{part}", self.name(), self.root)
    }

    /// What it is, for people: what it calls itself, or at least `Linux`, `Windows`.
    #[must_use]
    pub fn name(&self) -> String {
        let product = self.product();
        match (product.is_empty(), &self.windows) {
            (false, _) => product.to_string(),
            (true, Some(_)) => "Windows".to_owned(),
            (true, None) => "Linux".to_owned(),
        }
    }

    /// A fact, read when it is first asked for.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn fact<F: Fact>(&self) -> Result<Arc<F>> {
        self.known.get(|| F::read(self))
    }

    /// The tree to read facts from: as [`Guest::tree`], but what lies on a volume that is missing is an error.
    #[must_use]
    pub const fn facts(&self) -> &Tree {
        &self.facts
    }

    /// What it calls itself.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn os(&self) -> Result<&OsRelease> {
        share(self.os.get_or_init(|| os_release::read(&self.facts)))
    }

    /// The machine that its programs are for; `None` when no program was found.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn machine(&self) -> Result<Option<&Machine>> {
        share(self.machine.get_or_init(|| self.read_machine())).map(Option::as_ref)
    }

    /// Its kernels.
    ///
    /// # Errors
    /// When they could not be read.
    pub fn kernels(&self) -> Result<&[Kernel]> {
        self.fstab()?;
        share(self.kernels.get_or_init(|| kernel::read(&self.facts))).map(Vec::as_slice)
    }

    /// What the kernel of this release can drive.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn drivers(&self, release: &[u8]) -> Result<Arc<Drivers>> {
        self.fact::<kernel::EveryDriver>()?.of(&self.facts, release)
    }

    /// The release of a kernel's image: the one in its name if the guest has modules of that release, else the one in
    /// its header (`/boot/vmlinuz-linux` of Arch and `vmlinuz-virt` of Alpine tell nothing by their names), else whatever
    /// its name says.
    ///
    /// # Errors
    /// When the image cannot be read.
    pub fn release(&self, file: &BootFile) -> Result<Option<Vec<u8>>> {
        let named = kernel::release_of(&file.name).map(<[u8]>::to_vec);
        if let Some(release) = &named
            && file::exists(&self.facts, [&b"/lib/modules/"[..], release].concat())?
        {
            return Ok(named);
        }
        Ok(kernel::release_inside(&self.facts, file.node)?.or(named))
    }

    /// What a kernel's file is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn kernel_image(&self, file: &BootFile) -> Result<kernel_image::KernelImage> {
        let image = kernel_image::KernelImage::read(&self.facts, file.node);
        image.map_err(|error| error.context(crate::text::escape(&file.path)))
    }

    /// Its boot loader's configuration; `None` when there is none that we know.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn boot(&self) -> Result<Option<&BootConfig>> {
        self.fstab()?;
        share(self.boot.get_or_init(|| boot::read(&self.facts, self.boot_code))).map(Option::as_ref)
    }

    /// The line of the boot menu that gives the kernel an argument, if the entry that boots does; the default not being
    /// known, if all entries do.
    ///
    /// # Errors
    /// When the menu cannot be read; when the default is not known and the entries differ.
    pub fn kernel_argument(&self, is_it: impl Fn(&[u8]) -> bool) -> Result<Option<Evidence>> {
        let Some(boot) = self.boot()? else { return Ok(None) };
        let has = |entry: &boot::Entry| entry.args.iter().any(|arg| is_it(arg));
        let said = |entry: &boot::Entry| Some(entry.evidence.clone());
        if let Some(entry) = boot.default_entry() {
            return Ok(if has(entry) { said(entry) } else { None });
        }
        match boot.entries.iter().find(|entry| has(entry)) {
            None => Ok(None),
            Some(entry) if boot.entries.iter().all(has) => Ok(said(entry)),
            Some(_) => {
                Err(Error::unsupported(format!("which boot entry is the default is not known: {}", boot.why)))
            }
        }
    }

    /// Its packages.
    ///
    /// # Errors
    /// When they could not be read.
    pub fn packages(&self) -> Result<&Packages> {
        self.fstab()?;
        share(self.packages.get_or_init(|| packages::read(&self.facts)))
    }

    /// What starts at boot.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn services(&self) -> Result<&Services> {
        self.fstab()?;
        share(self.services.get_or_init(|| services::read(&self.facts)))
    }

    /// What is known about cloud-init.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn cloud_init(&self) -> Result<&CloudInit> {
        self.fstab()?;
        share(self.cloud_init.get_or_init(|| {
            let packages = self.packages().cloned();
            let (services, boot) = (self.services().cloned(), self.boot().map(|boot| boot.cloned()));
            cloud_init::read(&self.facts, &packages, &services, &boot)
        }))
    }

    /// The file that a boot loader names, and its path in the tree; `None` when it is not there.
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn boot_file(&self, named: &[u8]) -> Result<Option<BootFile>> {
        let Some(path) = boot::locate(&self.facts, named)? else { return Ok(None) };
        let Some(node) = self.facts.find(&path)? else { return Ok(None) };
        // `/vmlinuz -> boot/vmlinuz-6.1`: the release is in the name of what the link leads to.
        let mut name = path.clone();
        if let Some(link) = file::entry(&self.facts, &path)?
            && self.facts.stat(link)?.kind == FileType::Symlink
        {
            name = self.facts.readlink(link)?;
        }
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let (volume, size) = (self.facts.volume(node).to_owned(), self.facts.stat(node)?.size);
        Ok(Some(BootFile { path, name, volume, size, node }))
    }

    /// What is in an initramfs, as far as it must be read to see every module of `wanted`.
    ///
    /// # Errors
    /// When it cannot be read, unpacked or understood.
    pub fn initramfs(&self, file: &BootFile, wanted: &BTreeSet<String>) -> Result<initramfs::Listing> {
        // What was read to its end for another question is not read again.
        let whole = self.known.known::<initramfs::DefaultInitramfs>();
        let is_it = |loaded: &&initramfs::Loaded| loaded.file.node == file.node;
        if let Some(loaded) = whole.as_ref().and_then(|whole| whole.files.iter().find(is_it))
            && matches!(loaded.listing.end, initramfs::End::Whole)
        {
            return Ok(loaded.listing.clone());
        }
        let named = |error: Error| error.context(crate::text::escape(&file.path));
        let listing = self.fact::<initramfs::Bounds>()?.look(self, file, wanted).map_err(named)?;
        match listing.end {
            initramfs::End::Damaged(error) => Err(named(error)),
            initramfs::End::Whole | initramfs::End::CutShort => Ok(listing),
        }
    }

    /// Is there anything at this path?
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn has(&self, path: &str) -> Result<bool> {
        file::exists(&self.facts, path)
    }

    /// `ID` of `os-release`: `debian`; `windows`. Empty when it is not known; [`Guest::os`] says why.
    #[must_use]
    pub fn distro(&self) -> Text {
        if self.windows.is_some() {
            return Text::from("windows");
        }
        self.os().map(|os| os.id.clone()).unwrap_or_default()
    }

    /// `VERSION_ID`: `12`; of a Windows `10.0.19045.3803`. Empty when it is not known.
    #[must_use]
    pub fn version(&self) -> Text {
        if self.windows.is_some() {
            return self.windows_product().map(Product::full_version).unwrap_or_default();
        }
        self.os().map(|os| os.version.clone()).unwrap_or_default()
    }

    /// `Debian GNU/Linux 12 (bookworm)`, `Windows 10 Pro 22H2`. Empty when it is not known.
    #[must_use]
    pub fn product(&self) -> Text {
        if self.windows.is_some() {
            return self.windows_product().map(Product::title).unwrap_or_default();
        }
        self.os().map(|os| os.pretty.clone()).unwrap_or_default()
    }

    /// `x86_64`. Empty when it is not known.
    #[must_use]
    pub fn arch(&self) -> Text {
        self.machine().ok().flatten().map(|machine| machine.name.clone()).unwrap_or_default()
    }
}

/// A file that a boot loader names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    /// Its path in the guest's tree.
    pub path: Vec<u8>,
    /// Its own name, after a link at the path's end.
    pub name: Vec<u8>,
    /// The volume it lies on.
    pub volume: String,
    /// Its length in bytes.
    pub size: u64,
    node: Node,
}

impl BootFile {
    /// The file as evidence.
    #[must_use]
    pub fn evidence(&self, what: impl Into<String>) -> Evidence {
        Evidence::new(what).on(&self.volume).path(&self.path)
    }
}

/// A stored fact, or its error once more.
fn share<T>(fact: &Result<T>) -> Result<&T> {
    fact.as_ref().map_err(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::memory::MemoryFs;
    use super::*;

    fn device(volume: &str, number: u32, uuid: &str, files: &[(&str, &str)]) -> Device {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        Device {
            volume: volume.to_owned(),
            part_number: Some(number),
            uuid: Some(uuid.to_owned()),
            kind: "ext4",
            system: Some(Arc::new(MemoryFs::new(&files))),
            ..Device::default()
        }
    }

    fn root(fstab: &str) -> Device {
        device(
            "p2",
            2,
            "r-r",
            &[
                ("/etc/fstab", fstab),
                ("/etc/os-release", "ID=debian\n"),
                ("/bin/sh", ""),
                ("/boot/", ""),
                ("/data/", ""),
            ],
        )
    }

    #[test]
    fn the_root_is_found_by_evidence_and_boot_mounted_by_fstab() {
        let boot = device("p1", 1, "b-b", &[("/vmlinuz-6.1", "x"), ("/grub/grub.cfg", "")]);
        let guests = roots(&[boot, root("UUID=R-R / ext4\nUUID=b-b /boot ext4\n")]);
        assert_eq!(guests.len(), 1);
        assert_eq!(guests[0].root, "p2");
        assert_eq!(guests[0].tree.mounts()[1].path, b"/boot");
        assert_eq!(guests[0].kernels().unwrap()[0].release, Text::from("6.1"));
        assert!(guests[0].warnings.is_empty(), "{:?}", guests[0].warnings);
    }

    #[test]
    fn a_kernel_name_means_the_partition_of_that_number() {
        let boot = device("p1", 1, "b-b", &[("/vmlinuz-6.1", "x")]);
        let guests = roots(&[boot, root("/dev/sda2 / ext4\n/dev/sda1 /boot ext4\n/dev/sdb1 /data ext4\n")]);
        assert_eq!(guests[0].tree.mounts().len(), 2);
        assert_eq!(
            guests[0].warnings,
            ["/etc/fstab line 3: /data is /dev/sdb1: no such device in this image"]
        );
    }

    #[test]
    fn a_flavour_in_a_kernels_name_is_no_release() {
        // Alpine before 3.18: vmlinuz-virt beside config-virt, the release in the header and in /lib/modules.
        let mut image = vec![b' '; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x310].copy_from_slice(b"5.15.53-0-virt (");
        let device = Device {
            system: Some(Arc::new(MemoryFs::new(&[
                ("/etc/os-release", b"ID=alpine\n"),
                ("/etc/fstab", b""),
                ("/bin/sh", b""),
                ("/boot/config-virt", b"CONFIG_VIRTIO_BLK=m\n"),
                ("/boot/vmlinuz-virt", &image),
                ("/lib/modules/5.15.53-0-virt/modules.dep", b""),
            ]))),
            ..device("p1", 1, "a-a", &[])
        };
        let guest = &roots(&[device])[0];
        let file = guest.boot_file(b"/boot/vmlinuz-virt").unwrap().unwrap();
        assert_eq!(guest.release(&file).unwrap().as_deref(), Some(&b"5.15.53-0-virt"[..]));
    }

    #[test]
    fn what_lies_on_a_missing_volume_is_unknown_not_absent() {
        let guests = roots(&[root("UUID=b-b /boot ext4\n")]);
        assert!(guests[0].kernels().is_err());
        assert!(guests[0].tree.find(b"/boot").unwrap().is_some());
        assert!(file::names(&guests[0].tree, "/boot").unwrap().is_empty());
    }

    #[test]
    fn of_two_systems_the_fuller_comes_first() {
        let small = device("p1", 1, "a-a", &[("/etc/fstab", ""), ("/bin/sh", "")]);
        let guests = roots(&[small, root("")]);
        assert_eq!(guests.iter().map(|guest| guest.root.as_str()).collect::<Vec<_>>(), ["p2", "p1"]);
    }
}
