//! Opens the whole tower: locator → source → image → volumes → file systems → guests. The only module that knows all of it.

use crate::block::{BlockSource, ProbeBytes};
use crate::budget::{Budget, Limits};
use crate::cache::Cache;
use crate::engine::Mapper;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::Tree;
use crate::fs::{Content, FileSystem, FsCx, Journal};
use crate::guest::{Device, Guest, OnDisk};
use crate::image::{OpenCx, Opened};
use crate::keys::Keys;
use crate::source::gate::{FileGate, Given};
use crate::source::{self, SourceCx};
use crate::text::escape;
use crate::volume::{Discovery, Machine, Table, VolCx, Volume};
use std::sync::Arc;

/// How to open.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--format`.
    pub format: Option<String>,
    /// `--layer`: which of the image's layers is the disk.
    pub layer: Option<String>,
    /// `--journal`: what to do with a journal that waits.
    pub journal: Journal,
    /// `--show-meta`: list the file systems' own files too.
    pub shows_meta: bool,
    /// `--os`: which of several systems is meant, by its number from 1 on, its volume or its name.
    pub os: Option<String>,
    /// `--volume`: the volume whose files alone are meant.
    pub volume: Option<String>,
    /// The process's block cache.
    pub cache: Arc<Cache>,
    /// What opens locked images and volumes.
    pub keys: Arc<Keys>,
    /// What the user said about sources.
    pub source: Arc<source::Options>,
}

impl Options {
    /// What opening a source needs of them.
    #[must_use]
    pub fn source_cx(&self) -> SourceCx {
        SourceCx { cache: Arc::clone(&self.cache), options: Arc::clone(&self.source) }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: None,
            layer: None,
            journal: Journal::default(),
            shows_meta: false,
            os: None,
            volume: None,
            cache: Arc::new(Cache::new(crate::cache::DEFAULT_BYTES)),
            keys: Arc::default(),
            source: Arc::default(),
        }
    }
}

/// An opened image with everything above it.
#[derive(Debug)]
pub struct Stack {
    /// What was opened, escaped and redacted.
    pub name: String,
    /// The file that was named, as it lies; `None` where only the disk in it was handed over.
    pub file: Option<Arc<dyn BlockSource>>,
    /// The container.
    pub image: Opened,
    /// Partitions and volumes of its disk; of a machine with several, of the first.
    pub discovery: Discovery,
    /// The machine's further disks: those of an OVA.
    pub others: Vec<Disk>,
    /// Volumes that are made of several disks.
    pub joined: Vec<Volume>,
    /// What stands on each volume, of any disk, that no manager claimed.
    pub contents: Vec<VolumeContent>,
    /// The same volumes, as the guest layer sees them.
    pub devices: Vec<Device>,
    /// The operating systems, the likeliest first; with `--os`, the chosen one alone.
    pub guests: Vec<Guest>,
    /// The volume that paths are meant in if none is named: `--volume`.
    pub only: Option<String>,
    /// Everything odd on the way up, one line each.
    pub warnings: Vec<String>,
}

/// A further disk of a machine: the second is `disk2`, its partitions are `disk2/p1`, ...
#[derive(Debug)]
pub struct Disk {
    /// `disk2` for the second, and in front of the ids of its volumes.
    pub id: String,
    /// Its place, counted from 0.
    pub number: u32,
    /// The opened disk.
    pub image: Opened,
    /// Its partitions and volumes.
    pub discovery: Discovery,
}

/// What stands on a volume.
#[derive(Debug)]
pub struct VolumeContent {
    /// The volume's id.
    pub volume: String,
    /// What it is, or why it could not be opened.
    pub content: Result<Content>,
}

/// The disk alone, for those who need no more.
///
/// # Errors
/// When the source or the image cannot be opened.
pub fn open_image(given: Arc<Given>, options: &Options) -> Result<Opened> {
    let source = source::open(&given, &options.source_cx())?;
    open_source(source, given, options)
}

/// As [`open_image`], of a source that is open already.
///
/// # Errors
/// When the image cannot be opened.
pub fn open_source(source: Arc<dyn BlockSource>, given: Arc<Given>, options: &Options) -> Result<Opened> {
    let (locator, member) = (given.locator.clone(), given.member.clone());
    let spool = given.spool(&options.source)?;
    let gate = FileGate::new(given, options.source_cx());
    let budget = Budget::new(Limits::OPEN);
    let mapper = Mapper::new(Arc::clone(&options.cache));
    let cx = OpenCx {
        gate: &gate,
        locator: &locator,
        budget: &budget,
        mapper: &mapper,
        keys: &options.keys,
        member: member.as_deref(),
        spool: spool.as_deref(),
        depth: 0,
        in_archive: false,
    };
    let image = crate::image::open(source, options.format.as_deref(), &cx);
    let chosen = image.and_then(|image| match &options.layer {
        Some(layer) => image.choose(layer),
        None => Ok(image),
    });
    chosen.map_err(|error| match error.kind() {
        ErrorKind::Source | ErrorKind::Changed | ErrorKind::Io => error,
        _ => error.context(&locator),
    })
}

/// The lower half of the tower: an opened disk, of which nobody knows yet what is on it.
#[derive(Debug)]
pub struct Ground {
    name: String,
    file: Arc<dyn BlockSource>,
    /// The container.
    pub image: Opened,
}

impl Ground {
    /// Opens source and image.
    ///
    /// # Errors
    /// When the source or the image cannot be opened.
    pub fn open(given: Arc<Given>, options: &Options) -> Result<Self> {
        let name = given.name();
        let file = source::open(&given, &options.source_cx())?;
        let image = open_source(Arc::clone(&file), given, options)?;
        Ok(Self { name, file, image })
    }

    /// The upper half. Trouble in it becomes a warning.
    ///
    /// # Errors
    /// `Usage` when what the options ask for is not there.
    pub fn build(self, options: &Options) -> Result<Stack> {
        Stack { file: Some(self.file), ..above(self.name, self.image, options) }.choose(options)
    }
}

/// The whole tower.
///
/// # Errors
/// When the source or the image cannot be opened. Trouble above the disk becomes a warning.
pub fn open(given: Arc<Given>, options: &Options) -> Result<Stack> {
    Ground::open(given, options)?.build(options)
}

/// Everything above an opened disk.
#[must_use]
pub fn above(name: String, image: Opened, options: &Options) -> Stack {
    let mut warnings = image.warnings.clone();
    let disks: Vec<_> =
        std::iter::once(&image).chain(&image.others).map(|one| Arc::clone(&one.disk)).collect();
    let mut machine = discover(&disks, options);
    let mut found = machine.disks.into_iter();
    let discovery = found.next().unwrap_or_default();
    warnings.extend(discovery.warnings.iter().cloned());
    let others: Vec<Disk> = (1..)
        .zip(&image.others)
        .zip(found)
        .map(|((number, image), discovery)| Disk::new(number, image.clone(), discovery))
        .collect();
    warnings.extend(others.iter().flat_map(|disk| disk.discovery.warnings.iter().cloned()));
    warnings.append(&mut machine.warnings);
    let joined = machine.joined;
    let mut contents = Vec::new();
    let mut devices = Vec::new();
    let of_disks = std::iter::once(&discovery).chain(others.iter().map(|disk| &disk.discovery));
    let all = of_disks.flat_map(|found| &found.volumes).chain(&joined);
    let all: Vec<&Volume> = all.filter(|volume| volume.claimed_by.is_none()).collect();
    let sources: Vec<Arc<dyn BlockSource>> = all.iter().map(|volume| Arc::clone(&volume.source)).collect();
    let budgets: Vec<Budget> = all.iter().map(|_| Budget::new(Limits::OPEN)).collect();
    let mapper = Mapper::new(Arc::clone(&options.cache));
    let none = Budget::new(Limits::OPEN);
    let cx = |at: usize| FsCx {
        budget: budgets.get(at).unwrap_or(&none),
        mapper: &mapper,
        journal: options.journal,
        is_one_of_copies: false,
        shows_meta: options.shows_meta,
    };
    for (volume, content) in all.iter().copied().zip(crate::fs::detect_all(&sources, &cx)) {
        if let Err(error) = &content {
            let line = format!("{}: {}", volume.id, error.chain());
            if !warnings.contains(&line) {
                warnings.push(line);
            }
        }
        devices.push(device(volume, content.as_ref().ok(), &mut warnings));
        contents.push(VolumeContent { volume: volume.id.clone(), content });
    }
    for (at, content) in contents.iter().enumerate() {
        if let Ok(Content::Member(first)) = content.content
            && let Some(whole) = contents.get(first)
            && let Some(device) = devices.get_mut(at)
        {
            device.shown_on = Some(whole.volume.clone());
        }
    }
    let tables = |disk: u32| match disk.checked_sub(1) {
        None => Some(&discovery.table),
        Some(further) => others.get(crate::num::narrow(u64::from(further))).map(|disk| &disk.discovery.table),
    };
    let every = std::iter::once(&discovery).chain(others.iter().map(|disk| &disk.discovery));
    let every: Vec<&Volume> = every.flat_map(|found| &found.volumes).chain(&joined).collect();
    for device in &mut devices {
        device.on_disk = on_disk(&device.volume, &every, &tables);
    }
    let mut guests = crate::guest::systems(&devices, &mut warnings);
    let firmware = firmware(&discovery, &devices);
    for guest in &mut guests {
        guest.firmware.clone_from(&firmware);
        guest.boot_code = discovery.table.boot_code;
    }
    warnings.extend(guests.iter().flat_map(|guest| guest.warnings.iter().cloned()));
    Stack {
        name,
        file: None,
        image,
        discovery,
        others,
        joined,
        contents,
        devices,
        guests,
        only: None,
        warnings,
    }
}

fn discover(disks: &[Arc<dyn BlockSource>], options: &Options) -> Machine {
    let budget = Budget::new(Limits::OPEN);
    let mapper = Mapper::new(Arc::clone(&options.cache));
    crate::volume::discover_all(disks, &VolCx { budget: &budget, mapper: &mapper, keys: &options.keys })
}

impl Disk {
    /// A further disk of the machine, `number` counted from 0.
    fn new(number: u32, image: Opened, mut discovery: Discovery) -> Self {
        let id = format!("disk{}", number.saturating_add(1));
        let own: Vec<String> = image.warnings.iter().map(|line| format!("{id}: {line}")).collect();
        discovery.warnings.splice(0..0, own);
        Self { id, number, image, discovery }
    }
}

/// What the guest layer needs to know of a volume.
fn device(volume: &Volume, content: Option<&Content>, warnings: &mut Vec<String>) -> Device {
    let partition = volume.partition.as_ref();
    let mut device = Device {
        volume: volume.id.clone(),
        disk: volume.disk.unwrap_or(0),
        is_disk: volume.is_disk(),
        // `sda1` is a partition of the disk, not one inside something that was made of it.
        part_number: partition.filter(|_| volume.made_of.is_empty()).map(|partition| partition.number),
        names: volume.names.clone(),
        made_of: volume.made_of.clone(),
        part_uuid: partition.and_then(|partition| partition.uuid.clone()),
        part_name: partition.map(|partition| partition.name.clone()).unwrap_or_default(),
        part_type: partition.map(|partition| partition.type_code.clone()),
        no_auto: partition.is_some_and(|partition| partition.no_auto),
        ..Device::default()
    };
    match content {
        Some(Content::Files(fs)) => {
            let facts = fs.facts();
            warnings.extend(facts.warnings.iter().map(|line| format!("{}: {line}", volume.id)));
            (device.kind, device.uuid, device.label) = (facts.kind, facts.uuid, facts.label);
            device.last_mounted = facts.last_mounted;
            device.system = Some(Arc::clone(fs));
            if let Err(error) = fs.subvolumes() {
                warnings.push(format!("{}: its subvolumes cannot be listed: {}", volume.id, error.chain()));
            }
        }
        // A volume that cannot even be probed keeps no identity; what failed is in the warnings already.
        content => {
            device.kind = if let Some(Content::Known(kind)) = content { kind } else { "" };
            if let Ok(bytes) = ProbeBytes::read(&*volume.source, "") {
                let known = crate::fs::identity::identity(device.kind, &bytes);
                (device.uuid, device.label, device.is_blank) = (known.uuid, known.label, known.is_blank);
            }
        }
    }
    device
}

/// Volumes between what a key opened and its partition; more have never been seen.
const MAX_OPENED: usize = 8;

/// The partition that a volume is, or out of which keys opened it.
fn on_disk<'a>(id: &str, all: &[&Volume], tables: &impl Fn(u32) -> Option<&'a Table>) -> Option<OnDisk> {
    let mut id = id;
    for _ in 0..MAX_OPENED {
        let volume = all.iter().find(|volume| volume.id == id)?;
        if let Some(partition) = volume.partition.as_ref().filter(|_| volume.made_of.is_empty()) {
            let disk_id = tables(volume.disk?)?.id.clone();
            return Some(OnDisk { disk_id, uuid: partition.uuid.clone(), start: partition.start });
        }
        let [whole] = volume.made_of.as_slice() else { return None };
        let container = all.iter().find(|volume| volume.id == *whole)?;
        if !matches!(container.claimed_by, Some("luks" | "bitlocker")) {
            return None;
        }
        id = &container.id;
    }
    None
}

/// GPT type of an EFI system partition, UEFI specification 2.10, table 5-7.
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// The ways in which the disk can be booted, as far as partition table and first sector tell.
fn firmware(discovery: &Discovery, devices: &[Device]) -> Vec<&'static str> {
    let mut found = Vec::new();
    if !matches!(discovery.table.boot_code, "" | "none") {
        found.push("bios");
    }
    let is_esp = |volume: &Volume| {
        let code = volume.partition.as_ref().map(|partition| partition.type_code.as_str());
        let is_fat = devices.iter().any(|device| device.volume == volume.id && device.kind == "vfat");
        matches!(code, Some(ESP | "0xef")) && is_fat
    };
    if discovery.volumes.iter().any(is_esp) {
        found.push("uefi");
    }
    found
}

impl Stack {
    /// The virtual disk; of a machine with several, the first.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn BlockSource> {
        &self.image.disk
    }

    /// Every file system that we read, with its volume.
    pub fn filesystems(&self) -> impl Iterator<Item = (&str, &Arc<dyn FileSystem>)> {
        self.contents.iter().filter_map(|content| match &content.content {
            Ok(Content::Files(fs)) => Some((content.volume.as_str(), fs)),
            _ => None,
        })
    }

    /// Facts of every file system, with its volume.
    #[must_use]
    pub fn facts(&self) -> Vec<(&str, crate::fs::FsFacts)> {
        self.filesystems().map(|(volume, fs)| (volume, fs.facts())).collect()
    }

    /// Every volume of every disk, those of the first disk first, those made of several last.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        let further = self.others.iter().flat_map(|disk| &disk.discovery.volumes);
        self.discovery.volumes.iter().chain(further).chain(&self.joined)
    }

    /// A volume by its id.
    #[must_use]
    pub fn volume(&self, id: &str) -> Option<&Volume> {
        self.volumes().find(|volume| volume.id == id)
    }

    /// The disk that a volume is on; of one made of several, the first.
    #[must_use]
    pub fn disk_of(&self, volume: &str) -> &Arc<dyn BlockSource> {
        let owns = |disk: &&Disk| disk.discovery.volumes.iter().any(|own| own.id == volume);
        self.others.iter().find(owns).map_or(self.disk(), |disk| &disk.image.disk)
    }

    /// Keeps to the system, or to the volume, that the user named.
    ///
    /// # Errors
    /// `NotFound` with what there is to choose from.
    pub fn choose(mut self, options: &Options) -> Result<Self> {
        if let Some(volume) = &options.volume {
            self.volume_tree(volume).map_err(|error| error.context(&self.name))?;
            self.only = Some(volume.clone());
        }
        if let Some(wanted) = &options.os {
            let at = self.guest_called(wanted).map_err(|error| error.context(&self.name))?;
            let (mut own, mut others) = (Vec::new(), Vec::new());
            for (number, guest) in self.guests.into_iter().enumerate() {
                if number == at { own.push(guest) } else { others.extend(guest.warnings) }
            }
            // What is odd about another system is not said of this one.
            let says = |line: &String| own.iter().any(|guest| guest.warnings.contains(line));
            self.warnings.retain(|line| says(line) || !others.contains(line));
            self.guests = own;
        }
        Ok(self)
    }

    fn guest_called(&self, wanted: &str) -> Result<usize> {
        let by_number = wanted.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        if let Some(at) = by_number.filter(|at| *at < self.guests.len()) {
            return Ok(at);
        }
        let is_called = |guest: &Guest| {
            let names =
                [guest.place(), guest.root.clone(), guest.distro().to_string(), guest.product().to_string()];
            names.iter().any(|name| name.eq_ignore_ascii_case(wanted))
        };
        let mut found = (0..).zip(&self.guests).filter(|(_, guest)| is_called(guest)).map(|(at, _)| at);
        let wanted = escape(wanted.as_bytes());
        let message = match (found.next(), found.next()) {
            (Some(at), None) => return Ok(at),
            (Some(_), Some(_)) => format!("'{wanted}' is the name of more than one operating system"),
            (None, _) => format!("no operating system '{wanted}'"),
        };
        let lines = (1..).zip(&self.guests).map(|(number, guest)| format!("{number}: {}", guest.title()));
        let all = lines.collect::<Vec<String>>().join("; ");
        Err(Error::new(ErrorKind::NotFound, message).help(if all.is_empty() {
            "no operating system was found in this image; imgmount info shows what was seen".to_owned()
        } else {
            format!("there are: {all}")
        }))
    }

    /// The tree that a path is meant in: the named volume's, else the likeliest guest's, else that of the only file
    /// system, as a mount without options shows it.
    ///
    /// # Errors
    /// `NotFound` with the names to choose from when it is not clear.
    pub fn tree(&self, volume: Option<&str>) -> Result<Arc<Tree>> {
        if let Some(id) = volume.or(self.only.as_deref()) {
            return self.volume_tree(id).map(Arc::new);
        }
        if let Some(guest) = self.guests.first() {
            return Ok(Arc::clone(&guest.tree));
        }
        let all: Vec<_> = self.filesystems().collect();
        match all.as_slice() {
            [(volume, fs)] => Ok(Arc::new(Tree::new(*volume, Arc::clone(fs)))),
            [] => Err(Error::new(ErrorKind::NotAnImage, "no file system was found in this image")
                .help("imgmount info shows what was seen")),
            several => {
                let names: Vec<&str> = several.iter().map(|(volume, _)| *volume).collect();
                let error =
                    Error::new(ErrorKind::NotFound, "no operating system was found to take paths from");
                Err(error.help(format!(
                    "name the volume, as in IMAGE:{}:/; there are: {}",
                    names.first().unwrap_or(&""),
                    names.join(", ")
                )))
            }
        }
    }

    /// The tree of one volume alone, from its very top: of a btrfs, every subvolume is in it.
    ///
    /// # Errors
    /// `NotFound` when there is no such volume or no file system on it; when its top cannot be read.
    pub fn volume_tree(&self, id: &str) -> Result<Tree> {
        let found = self.filesystems().find(|(volume, _)| *volume == id);
        let (volume, fs) = found.ok_or_else(|| {
            let all: Vec<&str> = self.filesystems().map(|(volume, _)| volume).collect();
            let error = Error::new(
                ErrorKind::NotFound,
                format!("no file system on a volume '{}'", escape(id.as_bytes())),
            );
            error.help(if all.is_empty() {
                "no file system was found in this image".to_owned()
            } else {
                format!("volumes with files: {}", all.join(", "))
            })
        })?;
        let top = fs.subvolumes()?.into_iter().find(|subvolume| subvolume.path.is_empty());
        Ok(match top.filter(|top| !top.is_default) {
            Some(top) => Tree::new(volume, fs.subvolume(top.id)?),
            None => Tree::new(volume, Arc::clone(fs)),
        })
    }
}
