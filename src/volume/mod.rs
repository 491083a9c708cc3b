//! Disks made of disks: partitions, and later logical volumes, arrays and locked containers.
//!
//! [`discover`] is a work-list run to a fixed point: each volume is offered to every manager; what a manager makes of
//! it is offered again. Nothing is activated on the host. A new manager is one file here and one line in [`MANAGERS`].

use crate::block::{BlockSource, Probe, ProbeBytes};
use crate::budget::Budget;
use crate::engine::{Mapper, Slice};
use crate::error::Result;
use crate::keys::Keys;
use crate::text::Text;
use std::fmt;
use std::sync::Arc;

registry! {
    /// Every manager, in the order in which they are asked.
    pub const MANAGERS: &[&Manager];
    pub mod gpt => MANAGER;
    pub mod mbr => MANAGER;
}

/// Volumes found in one image at most; a disk has at most 256 partitions by our limits, each may hold some.
const MAX_VOLUMES: usize = 512;

/// A stretch of a disk, or something made of such stretches.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name in paths, exports and reports: `p1`, `vg0/root`; `disk` for the whole disk.
    pub id: String,
    /// Its bytes.
    pub source: Arc<dyn BlockSource>,
    /// Its entry in a partition table, if it has one.
    pub partition: Option<Partition>,
    /// What is made of it, if it is a member or a container: the manager's name.
    pub claimed_by: Option<&'static str>,
}

/// An entry of a partition table.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its number, as the Linux kernel counts (logical partitions of an MBR start at 5).
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Length in bytes.
    pub size: u64,
    /// `0x83`, or a GPT type GUID in lower case.
    pub type_code: String,
    /// What that type is called, empty if we do not know it.
    pub type_name: &'static str,
    /// The GPT entry's own name.
    pub name: Text,
    /// MBR: status 0x80. GPT: attribute bit 2 (legacy BIOS bootable).
    pub bootable: bool,
    /// `PARTUUID` as Linux spells it: a GUID, or `DISKID-NN` for MBR.
    pub uuid: Option<String>,
}

/// What stands at the start of a disk.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// `mbr`, `gpt`, `none`.
    pub kind: TableKind,
    /// Bytes in a sector by which the table counts.
    pub sector_size: u32,
    /// MBR disk signature or GPT disk GUID.
    pub id: String,
    /// GPT: the MBR in front also has entries other than 0xEE.
    pub hybrid: bool,
    /// What the first 440 bytes say of themselves: `GRUB 2`, `Windows`, `none` (all zero), ...
    pub boot_code: &'static str,
}

/// The kind of a partition table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableKind {
    /// No table: a bare file system or nothing.
    #[default]
    None,
    /// A master boot record.
    Mbr,
    /// A GUID partition table.
    Gpt,
}

impl TableKind {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mbr => "mbr",
            Self::Gpt => "gpt",
        }
    }
}

/// A way to make volumes of volumes.
pub struct Manager {
    /// Its name in reports.
    pub name: &'static str,
    /// Is it looked for inside partitions too? A partition table is not: the kernel does not look there either.
    pub nests: bool,
    /// Does this volume belong to it? Sees the first and last bytes.
    pub claims: fn(&Probe<'_>) -> bool,
    /// Makes volumes of those it claimed.
    pub assemble: fn(&[Volume], &VolCx<'_>) -> Result<Assembly>,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manager({})", self.name)
    }
}

/// What assembling may use.
#[derive(Clone, Copy, Debug)]
pub struct VolCx<'a> {
    /// What it may cost.
    pub budget: &'a Budget,
    /// Turns layouts into sources.
    pub mapper: &'a Mapper,
    /// What opens locked volumes.
    pub keys: &'a Keys,
}

/// What a manager made.
#[derive(Debug, Default)]
pub struct Assembly {
    /// The new volumes.
    pub volumes: Vec<Volume>,
    /// The table, from a manager that reads one.
    pub table: Option<Table>,
    /// What is odd.
    pub warnings: Vec<String>,
}

/// Everything found on one disk.
#[derive(Debug, Default)]
pub struct Discovery {
    /// The disk's own table.
    pub table: Table,
    /// Every volume, in disk order, those claimed by a manager included. A bare disk is one volume, `disk`.
    pub volumes: Vec<Volume>,
    /// What could not be read or is odd, one line each.
    pub warnings: Vec<String>,
}

/// Finds every volume of a disk.
#[must_use]
pub fn discover(disk: &Arc<dyn BlockSource>, cx: &VolCx<'_>) -> Discovery {
    let mut found = Discovery::default();
    let whole = Volume { id: "disk".to_owned(), source: Arc::clone(disk), partition: None, claimed_by: None };
    let mut queue = std::collections::VecDeque::from([whole]);
    while let Some(mut volume) = queue.pop_front() {
        if found.volumes.len() >= MAX_VOLUMES {
            found.warnings.push(format!("more than {MAX_VOLUMES} volumes; the rest is not shown"));
            break;
        }
        let is_disk = volume.id == "disk";
        match assemble(&volume, cx) {
            Ok(Some((manager, assembly))) => {
                volume.claimed_by = Some(manager);
                found.warnings.extend(assembly.warnings);
                if let Some(table) = assembly.table.filter(|_| is_disk) {
                    found.table = table;
                }
                queue.extend(assembly.volumes);
            }
            Ok(None) => {}
            Err(error) => found.warnings.push(format!("{}: {}", volume.id, error.chain())),
        }
        if is_disk && found.table.boot_code.is_empty() {
            found.table.boot_code = first_code(&*volume.source);
        }
        // A partitioned disk is not a volume of its own; a bare one is.
        if !is_disk || volume.claimed_by.is_none() {
            found.volumes.push(volume);
        }
    }
    found
}

fn assemble(volume: &Volume, cx: &VolCx<'_>) -> Result<Option<(&'static str, Assembly)>> {
    let bytes = ProbeBytes::read(&*volume.source, "")?;
    let may = |manager: &&&Manager| volume.partition.is_none() || manager.nests;
    let Some(manager) = MANAGERS.iter().filter(may).find(|manager| (manager.claims)(&bytes.view())) else {
        return Ok(None);
    };
    (manager.assemble)(std::slice::from_ref(volume), cx).map(|assembly| Some((manager.name, assembly)))
}

/// What boots from a disk without a table, if its first sector can be read.
fn first_code(disk: &dyn BlockSource) -> &'static str {
    let mut code = [0; 440];
    if disk.read_at(&mut code, 0).is_ok() { mbr::boot_code(&code) } else { "none" }
}

/// Cuts a partition out of its disk. What reaches past the disk's end is cut off there, and what starts behind it is
/// left out, as the Linux kernel does (`block/partitions/core.c`); either way a warning says so.
fn carve(disk: &Volume, mut partition: Partition, made: &mut Assembly) {
    let (number, start, size) = (partition.number, partition.start, partition.size);
    let left = disk.source.len().saturating_sub(start);
    if size > left {
        let what = if left == 0 { "it is left out" } else { "it is cut off there" };
        made.warnings.push(format!(
            "{}: partition {number} (bytes {start} to {}) goes past the end of the disk at {}; {what}",
            disk.id,
            start.saturating_add(size),
            disk.source.len()
        ));
        partition.size = left;
    }
    match Slice::new(Arc::clone(&disk.source), start, partition.size) {
        Ok(source) if partition.size > 0 => made.volumes.push(Volume {
            id: format!("p{number}"),
            source: Arc::new(source),
            partition: Some(partition),
            claimed_by: None,
        }),
        _ => {}
    }
}
