//! Disks made of disks: partitions, logical volumes, arrays, encrypted volumes.
//!
//! | id | what it is |
//! |---|---|
//! | `p1`, `disk2/p1` | a partition of the first disk, of the second |
//! | `md0`, `md/home` | an array: its number, or the name in its superblock without the host's |
//! | `vg0/root` | a logical volume |
//! | `ldm/Volume1` | a volume on dynamic disks of Windows |
//! | `luks-UUID` | what a key has opened: the name of `/dev/mapper` that `systemd-cryptsetup` and installers use |
//! | `bitlk-GUID` | the same of BitLocker |
//! | `md0/p1`, `vg0/root/p1` | a partition inside one of these |
//! | `a`, `b` | slices of a whole disk with a BSD label, which Linux does not number |
//!
//! Two of one name are kept apart: the second is `vg0~2/root`. How they are found is told in [`discover()`]; nothing is
//! activated on the host. A new manager is one file here and one line in [`MANAGERS`].

use crate::block::{BlockSource, Probe};
use crate::budget::Budget;
use crate::engine::{Mapper, Slice};
use crate::error::Result;
use crate::keys::Keys;
use crate::text::Text;
use std::fmt;
use std::sync::Arc;

mod discover;
mod pieces;
mod raid;

pub use discover::{Machine, discover, discover_all};

registry! {
    /// Every manager, in the order in which they are asked: members of an array or a group before partition tables, for
    /// a member whose metadata lie at its end looks like a disk with a table.
    pub const MANAGERS: &[&Manager];
    pub mod ldm => MANAGER;
    pub mod md => MANAGER;
    pub mod lvm2 => MANAGER;
    pub mod luks => MANAGER;
    pub mod bitlocker => MANAGER;
    pub mod gpt => MANAGER;
    pub mod mbr => MANAGER;
    pub mod slices => MANAGER;
}

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
    /// The disk on which all of its bytes lie, counted from 0; `None` if it is made of several.
    pub disk: Option<u32>,
    /// How many managers stand between it and a disk.
    pub depth: u8,
    /// Ids of what it is made of; empty for a disk and a partition of one.
    pub made_of: Vec<String>,
    /// Names that a running Linux gives it, as paths, besides those of partitions.
    pub names: Vec<String>,
    /// The whole that a partition was cut out of: what one stands for may lie outside of it.
    pub cut_from: Option<Arc<dyn BlockSource>>,
    /// What Windows says of a volume on dynamic disks.
    pub dynamic: Option<ldm::Dynamic>,
}

impl Volume {
    /// A whole disk, counted from 0.
    fn whole(number: u32, source: Arc<dyn BlockSource>) -> Self {
        let id = match number {
            0 => "disk".to_owned(),
            _ => format!("disk{}", number.saturating_add(1)),
        };
        Self {
            id,
            source,
            partition: None,
            claimed_by: None,
            disk: Some(number),
            depth: 0,
            made_of: Vec::new(),
            names: Vec::new(),
            cut_from: None,
            dynamic: None,
        }
    }

    /// Something made of `members`.
    fn of(members: &[&Self], id: String, source: Arc<dyn BlockSource>, names: Vec<String>) -> Self {
        let disk = members.first().and_then(|first| first.disk);
        let made_of: Vec<String> = members.iter().map(|member| member.id.clone()).collect();
        Self {
            id,
            source,
            partition: None,
            claimed_by: None,
            disk: disk.filter(|_| members.iter().all(|member| member.disk == disk)),
            depth: members.iter().map(|member| member.depth).max().unwrap_or(0).saturating_add(1),
            made_of,
            names,
            cut_from: None,
            dynamic: None,
        }
    }

    /// Is it a disk of the machine?
    #[must_use]
    pub const fn is_disk(&self) -> bool {
        self.depth == 0
    }
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
    /// GPT: attribute bit 63, by which nobody is to mount it unasked (Discoverable Partitions Specification).
    pub no_auto: bool,
    /// `PARTUUID` as Linux spells it: a GUID, or `DISKID-NN` for MBR.
    pub uuid: Option<String>,
}

/// What stands at the start of a disk.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// `mbr`, `gpt`, `sun`, `bsd`, `none`.
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
    /// The label of a Sun sparc.
    Sun,
    /// A BSD disklabel on the whole disk.
    Bsd,
}

impl TableKind {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mbr => "mbr",
            Self::Gpt => "gpt",
            Self::Sun => "sun",
            Self::Bsd => "bsd",
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
    /// Does this one, whose mark lies elsewhere? Asked after [`Manager::claims`] said no.
    pub seeks: Option<fn(&Volume, &VolCx<'_>) -> Result<bool>>,
    /// Makes volumes of those it claimed.
    pub makes: Makes,
}

/// What a manager makes volumes of.
#[derive(Clone, Copy, Debug)]
pub enum Makes {
    /// Of each one that it claims, by itself.
    OfOne(fn(&Volume, &VolCx<'_>) -> Result<Assembly>),
    /// Of several, from all disks. It is asked when nothing else is left to look into; told that more members may still
    /// turn up, it leaves a set alone that lacks one.
    OfMany(fn(&[Volume], &VolCx<'_>, bool) -> Result<Assembly>),
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
    /// Of a manager that gathers: which of the members it was given now belong to something.
    pub taken: Vec<usize>,
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
    /// Every volume all of whose bytes lie on it, in disk order, those claimed by a manager included. A disk without a
    /// table is one volume, `disk`.
    pub volumes: Vec<Volume>,
    /// What could not be read or is odd, one line each.
    pub warnings: Vec<String>,
}

/// Types of a partition that is a member of a storage pool (`winioctl.h`: `PARTITION_SPACES`, `PARTITION_SPACES_DATA`, and
/// the same with `_GUID`). Pools are not read; what looks like a file system in one is a piece of another.
const STORAGE_POOL: &[&str] =
    &["0xe7", "0xd7", "e75caf8f-f680-4cee-afa3-b001e56efc2d", "e7addcb4-dc34-4539-9a76-ebbd07be6f7e"];

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
    let Ok(source) = Slice::new(Arc::clone(&disk.source), start, partition.size) else { return };
    if partition.size == 0 {
        return;
    }
    let id = if disk.id == "disk" { format!("p{number}") } else { format!("{}/p{number}", disk.id) };
    let names = disk.names.iter().map(|name| partition_name(name, number)).collect();
    let volume = Volume::of(&[disk], id, Arc::new(source), names);
    let made_of = if disk.is_disk() { Vec::new() } else { volume.made_of.clone() };
    let cut_from = Some(Arc::clone(&disk.source));
    let claimed_by = STORAGE_POOL.contains(&partition.type_code.as_str()).then_some("storage_spaces");
    if claimed_by.is_some() {
        made.warnings.push(format!(
            "{}: a member of a Windows storage pool (Storage Spaces), which is not put together: its volumes are not shown",
            volume.id
        ));
    }
    made.volumes.push(Volume { partition: Some(partition), made_of, cut_from, claimed_by, ..volume });
}

/// What a partition is called in `/dev`: `md0` has `md0p1`, `vg0-root` has `vg0-root1`, and links by id have `-part1`.
fn partition_name(disk: &str, number: u32) -> String {
    if disk.starts_with("/dev/disk/") {
        format!("{disk}-part{number}")
    } else if disk.ends_with(|c: char| c.is_ascii_digit()) {
        format!("{disk}p{number}")
    } else {
        format!("{disk}{number}")
    }
}
