//! The search for volumes: a work-list run to a fixed point over all disks of a machine together.
//!
//! ```text
//! disks ─▶ list ─▶ claimed by nobody: it holds data
//!           ▲  ├─▶ gpt, mbr, luks, ...: makes volumes of this one alone ──────▶ list
//!           │  └─▶ md, lvm2: set aside; when the list is empty, made into sets ─▶ list
//! ```
//! A set that lacks a member waits for as long as anything else makes progress: the member may be inside what is made
//! next (a PV in an encrypted LV). When nothing does, it is made of what is there.

use super::{Assembly, Discovery, MANAGERS, Makes, Manager, VolCx, Volume, mbr};
use crate::block::{BlockSource, ProbeBytes};
use crate::error::Result;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Volumes found in one machine at most; a disk has at most 256 partitions by our limits, each may hold some.
const MAX_VOLUMES: usize = 1024;
/// Managers on top of each other: twice the deepest stack that installers make (partition, md, LUKS, LVM).
const MAX_DEPTH: u8 = 8;

/// Everything found on the disks of a machine.
#[derive(Debug, Default)]
pub struct Machine {
    /// What was found on each disk, in their order.
    pub disks: Vec<Discovery>,
    /// Volumes that are made of several disks.
    pub joined: Vec<Volume>,
    /// What is odd about sets of volumes, one line each.
    pub warnings: Vec<String>,
}

/// Finds every volume of a disk alone.
#[must_use]
pub fn discover(disk: &Arc<dyn BlockSource>, cx: &VolCx<'_>) -> Discovery {
    let mut machine = discover_all(std::slice::from_ref(disk), cx);
    let mut found = machine.disks.pop().unwrap_or_default();
    found.warnings.append(&mut machine.warnings);
    found
}

/// Finds every volume of a machine with these disks.
#[must_use]
pub fn discover_all(disks: &[Arc<dyn BlockSource>], cx: &VolCx<'_>) -> Machine {
    let mut search = Search::new(*cx);
    for (number, disk) in (0..).zip(disks) {
        search.machine.disks.push(Discovery::default());
        search.list.push_back(Volume::whole(number, Arc::clone(disk)));
    }
    search.run();
    search.finish()
}

/// The search, under way.
struct Search<'a> {
    cx: VolCx<'a>,
    /// To be looked at.
    list: VecDeque<Volume>,
    /// Looked at.
    seen: Vec<Volume>,
    /// Members set aside: which manager's, and where in `seen`.
    aside: Vec<(&'static Manager, usize)>,
    ids: HashSet<String>,
    machine: Machine,
}

impl<'a> Search<'a> {
    fn new(cx: VolCx<'a>) -> Self {
        Self {
            cx,
            list: VecDeque::new(),
            seen: Vec::new(),
            aside: Vec::new(),
            ids: HashSet::new(),
            machine: Machine::default(),
        }
    }

    fn run(&mut self) {
        loop {
            while let Some(volume) = self.list.pop_front() {
                if self.seen.len() >= MAX_VOLUMES {
                    let line = format!("more than {MAX_VOLUMES} volumes; the rest is not shown");
                    self.machine.warnings.push(line);
                    return;
                }
                self.look(volume);
            }
            if !self.gather(true) && !self.gather(false) {
                return;
            }
        }
    }

    /// Looks at one volume, and makes others of it or sets it aside.
    fn look(&mut self, mut volume: Volume) {
        self.rename(&mut volume);
        if volume.depth > MAX_DEPTH {
            let line = format!(
                "{}: more than {MAX_DEPTH} volumes inside each other; it is not looked into",
                volume.id
            );
            self.machine.warnings.push(line);
            self.seen.push(volume);
            return;
        }
        if volume.claimed_by.is_some() {
            self.seen.push(volume);
            return;
        }
        match claimant(&volume, &self.cx) {
            Ok(Some(manager)) => match manager.makes {
                Makes::OfMany(_) => self.aside.push((manager, self.seen.len())),
                Makes::OfOne(assemble) => match assemble(&volume, &self.cx) {
                    Ok(assembly) => self.made(manager, &mut volume, assembly),
                    Err(error) => self.warn(&volume, format!("{}: {}", volume.id, error.chain())),
                },
            },
            Ok(None) => {}
            Err(error) => self.warn(&volume, format!("{}: {}", volume.id, error.chain())),
        }
        if volume.is_disk()
            && volume.claimed_by.is_some()
            && let Some(maker) = foreign_array(&*volume.source)
        {
            let line = format!(
                "{}: a member of an array by {maker}, which is not put together: what is shown is this member alone",
                volume.id
            );
            self.warn(&volume, line);
        }
        if volume.is_disk()
            && let Some(found) = self.disk(&volume)
            && found.table.boot_code.is_empty()
        {
            found.table.boot_code = first_code(&*volume.source);
        }
        self.seen.push(volume);
    }

    /// Takes over what was made of one volume alone.
    fn made(&mut self, manager: &'static Manager, volume: &mut Volume, assembly: Assembly) {
        for line in assembly.warnings {
            self.warn(volume, line);
        }
        if !assembly.volumes.is_empty() || assembly.table.is_some() {
            volume.claimed_by = Some(manager.name);
        }
        if let Some(table) = assembly.table.filter(|_| volume.is_disk())
            && let Some(found) = self.disk(volume)
        {
            found.table = table;
        }
        self.list.extend(assembly.volumes);
    }

    /// Makes sets of what was set aside. Was any made?
    fn gather(&mut self, may_wait: bool) -> bool {
        for manager in MANAGERS {
            let Makes::OfMany(assemble) = manager.makes else { continue };
            let of = |(owner, at): &(&Manager, usize)| (owner.name == manager.name).then_some(*at);
            let members: Vec<usize> = self.aside.iter().filter_map(of).collect();
            if members.is_empty() {
                continue;
            }
            let given: Vec<Volume> = members.iter().filter_map(|at| self.seen.get(*at)).cloned().collect();
            let assembly = match assemble(&given, &self.cx, may_wait) {
                Ok(assembly) => assembly,
                Err(error) => Assembly { warnings: vec![error.chain()], ..Assembly::default() },
            };
            if !may_wait || !assembly.taken.is_empty() {
                self.machine.warnings.extend(assembly.warnings);
            }
            let taken: HashSet<usize> =
                assembly.taken.iter().filter_map(|at| members.get(*at)).copied().collect();
            for at in &taken {
                if let Some(volume) = self.seen.get_mut(*at) {
                    volume.claimed_by = Some(manager.name);
                }
            }
            // What was offered for the last time is not offered again.
            self.aside.retain(|(owner, at)| owner.name != manager.name || (may_wait && !taken.contains(at)));
            if !assembly.volumes.is_empty() {
                self.list.extend(assembly.volumes);
                return true;
            }
        }
        false
    }

    /// Tells two volumes of one name apart.
    fn rename(&mut self, volume: &mut Volume) {
        let id = volume.id.clone();
        let mut number = 1_u32;
        while !self.ids.insert(volume.id.clone()) {
            number = number.saturating_add(1);
            volume.id = format!("{id}~{number}");
        }
        if volume.id != id {
            volume.names.clear();
            self.machine.warnings.push(format!("a second {id}: it is shown as {}", volume.id));
        }
    }

    fn disk(&mut self, volume: &Volume) -> Option<&mut Discovery> {
        self.machine.disks.get_mut(crate::num::narrow(u64::from(volume.disk?)))
    }

    /// A line for the disk that the volume is on.
    fn warn(&mut self, volume: &Volume, line: String) {
        match self.disk(volume) {
            Some(found) => found.warnings.push(line),
            None => self.machine.warnings.push(line),
        }
    }

    /// Every volume at its place.
    fn finish(mut self) -> Machine {
        for volume in std::mem::take(&mut self.seen) {
            // A partitioned disk is not a volume of its own; one without a table is.
            if volume.is_disk() && volume.claimed_by.is_some_and(|name| TABLES.contains(&name)) {
                continue;
            }
            match self.disk(&volume) {
                Some(found) => found.volumes.push(volume),
                None => self.machine.joined.push(volume),
            }
        }
        self.machine
    }
}

/// The managers that read a table of partitions.
const TABLES: &[&str] = &["gpt", "mbr", "slices"];

/// Whose is it?
fn claimant(volume: &Volume, cx: &VolCx<'_>) -> Result<Option<&'static Manager>> {
    let bytes = ProbeBytes::read(&*volume.source, "")?;
    for manager in MANAGERS {
        if volume.partition.is_some() && !manager.nests {
            continue;
        }
        let sought = |seeks: fn(&Volume, &VolCx<'_>) -> Result<bool>| seeks(volume, cx);
        if (manager.claims)(&bytes.view()) || manager.seeks.map_or(Ok(false), sought)? {
            return Ok(Some(manager));
        }
    }
    Ok(None)
}

/// What boots from a disk without a table, if its first sector can be read.
fn first_code(disk: &dyn BlockSource) -> &'static str {
    let mut code = [0; 440];
    if disk.read_at(&mut code, 0).is_ok() { mbr::boot_code(&code) } else { "none" }
}

/// Whose array the disk is a member of, by metadata at its end that we do not read.
fn foreign_array(disk: &dyn BlockSource) -> Option<&'static str> {
    let mut tail = [0; 1024];
    disk.read_at(&mut tail, disk.len().checked_sub(1024)?).ok()?;
    if tail.starts_with(b"Intel Raid ISM Cfg Sig. ") {
        return Some("Intel Matrix Storage (isw_raid_member)");
    }
    // Common RAID Disk Data Format Specification 2.0, "Anchor DDF Header".
    let is_ddf = tail.get(512..).is_some_and(|anchor| anchor.starts_with(b"\xde\x11\xde\x11"));
    is_ddf.then_some("a DDF controller (ddf_raid_member)")
}
