//! Makes a source of each volume of a disk group.
//!
//! ```text
//! partitions ─ in order ─▶ column ─ spanned: one; striped, RAID-5: several ─▶ component ─ one, or a mirror ─▶ volume
//! ```
//! What a mirror or a RAID-5 does not have, or has out of date, is left out; the others stand in where they can.

use super::Member;
use super::database::Database;
use super::record::{Arrangement, Component, Disk, Partition, Volume};
use crate::block::BlockSource;
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::volume::VolCx;
use crate::volume::pieces::{concat, slice};
use crate::volume::raid::{Array, Leg, MAX_LEGS, Shape, Zones, striped};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Source = Arc<dyn BlockSource>;

/// Sizes and places of the database are in these, whatever the disk's sectors are.
const SECTOR: u64 = 512;
/// Parts of a volume that are left out, each of which has a line of its own.
const MAX_NAMED: usize = 8;

/// Builds the volumes of one group.
pub(super) struct Builder<'a> {
    /// Disks that are here, by their GUID.
    there: &'a BTreeMap<String, Member>,
    cx: &'a VolCx<'a>,
    disks: &'a BTreeMap<u64, Disk>,
    /// The number of the change that an up-to-date disk is at.
    change: u64,
    components: BTreeMap<u64, Vec<&'a Component>>,
    partitions: BTreeMap<u64, Vec<&'a Partition>>,
}

/// A volume that was built.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) source: Result<Source>,
    /// `simple`, `spanned`, `striped`, `mirrored`, `raid5`.
    pub(super) kind: &'static str,
    /// Where its pieces begin: the disk's GUID, and the byte there.
    pub(super) uses: BTreeSet<(String, u64)>,
    pub(super) warnings: Vec<String>,
}

/// A volume being built.
struct Work {
    uses: BTreeSet<(String, u64)>,
    /// What is left out, and why.
    out: Vec<String>,
}

fn bad(why: impl Into<String>) -> Error {
    Error::corrupt(At::new("ldm", "volume")).because(why)
}

/// What a mirror or a RAID-5 can do without.
fn absent(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::NotFound, why)
}

/// Sectors in bytes.
fn bytes(sectors: u64) -> Result<u64> {
    sectors.checked_mul(SECTOR).ok_or_else(|| bad(format!("{sectors} sectors are more than any disk has")))
}

/// May a part in that state be read?
fn is_active(state: &str) -> bool {
    matches!(state, "ACTIVE" | "CLEAN")
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        database: &'a Database,
        there: &'a BTreeMap<String, Member>,
        cx: &'a VolCx<'a>,
    ) -> Self {
        let mut components: BTreeMap<u64, Vec<&Component>> = BTreeMap::new();
        for component in database.components.values() {
            components.entry(component.volume).or_default().push(component);
        }
        let mut partitions: BTreeMap<u64, Vec<&Partition>> = BTreeMap::new();
        for partition in database.partitions.values() {
            partitions.entry(partition.component).or_default().push(partition);
        }
        Self { there, cx, disks: &database.disks, change: database.change, components, partitions }
    }

    pub(super) fn volume(&self, volume: &Volume) -> Built {
        let components = self.components.get(&volume.id).map(Vec::as_slice).unwrap_or_default();
        let partitions = |component: &Component| self.partitions.get(&component.id).map_or(0, Vec::len);
        let kind = match components {
            [only] => match only.arrangement {
                Arrangement::Striped => "striped",
                Arrangement::Raid5 => "raid5",
                Arrangement::Spanned if partitions(only) > 1 => "spanned",
                Arrangement::Spanned => "simple",
            },
            _ => "mirrored",
        };
        let mut work = Work { uses: BTreeSet::new(), out: Vec::new() };
        let source = self.open(volume, components, &mut work);
        let more = work.out.len().saturating_sub(MAX_NAMED);
        let mut warnings = work.out;
        warnings.truncate(MAX_NAMED);
        if more > 0 {
            warnings.push(format!("{more} parts more are left out"));
        }
        Built { source, kind, uses: work.uses, warnings }
    }

    fn open(&self, volume: &Volume, components: &[&Component], work: &mut Work) -> Result<Source> {
        if wide(components.len()) != volume.components {
            return Err(bad(format!(
                "{} of its {} components are in the database",
                components.len(),
                volume.components
            )));
        }
        let size = bytes(volume.size)?;
        let is_whole = |source: Source| {
            let len = source.len();
            slice(&source, 0, size).map_err(|_| bad(format!("its parts hold {len} bytes, {size} are needed")))
        };
        if let [only] = components {
            return self.component(only, volume, true, work).and_then(is_whole);
        }
        let mut legs: Vec<Leg> = Vec::new();
        for component in components.iter().take(narrow(u64::from(MAX_LEGS))) {
            let built = match () {
                () if component.is_stale => Err(absent("it is out of date or has failed")),
                () if !is_active(&component.state) => {
                    Err(absent(format!("its state is {}", component.state)))
                }
                () => self.component(component, volume, false, work).and_then(is_whole),
            };
            if let Err(error) = &built {
                work.out.push(format!("{} is left out: {}", component.name, error.chain()));
            }
            legs.push(built.ok());
        }
        if !is_active(&volume.state) && legs.iter().flatten().count() > 1 {
            work.out.push(format!(
                "its state is {}: what was not written since may differ in each of its copies",
                volume.state
            ));
        }
        Array { shape: Shape::Mirror, legs, leg_len: size, chunk: 0 }.open("ldm", self.cx.mapper)
    }

    /// What a component holds. Is it the `only` one, then its parts are read even if they are out of date: no other was
    /// written in the meantime.
    fn component(
        &self,
        component: &Component,
        volume: &Volume,
        only: bool,
        work: &mut Work,
    ) -> Result<Source> {
        let partitions = self.partitions.get(&component.id).map(Vec::as_slice).unwrap_or_default();
        if wide(partitions.len()) != component.partitions || partitions.is_empty() {
            return Err(bad(format!(
                "{} of the {} partitions of {} are in the database",
                partitions.len(),
                component.partitions,
                component.name
            )));
        }
        let mut columns: BTreeMap<u64, Vec<&Partition>> = BTreeMap::new();
        for partition in partitions {
            let column = if component.arrangement == Arrangement::Spanned { 0 } else { partition.column };
            columns.entry(column).or_default().push(partition);
        }
        if component.arrangement != Arrangement::Spanned {
            let count = wide(columns.len());
            if count != component.columns || count > u64::from(MAX_LEGS) {
                return Err(bad(format!(
                    "{count} of the {} columns of {} are in the database",
                    component.columns, component.name
                )));
            }
        }
        let is_raid5 = component.arrangement == Arrangement::Raid5;
        let mut legs = Vec::new();
        let mut shortest = u64::MAX;
        for mut column in columns.into_values() {
            column.sort_by_key(|partition| partition.offset);
            let mut end = 0_u64;
            for partition in &column {
                if partition.offset != end {
                    return Err(bad(format!(
                        "{} is said to begin at sector {}, the one before it ends at {end}",
                        partition.name, partition.offset
                    )));
                }
                end = end.saturating_add(partition.size);
            }
            shortest = shortest.min(bytes(end)?);
            match (self.column(&column, only && !is_raid5, work), is_raid5) {
                (Ok(leg), _) => legs.push(Some(leg)),
                (Err(error), true) if error.kind() == ErrorKind::NotFound => {
                    let name = column.first().map_or("", |partition| &partition.name);
                    work.out.push(format!("{name} is left out: {}", error.chain()));
                    legs.push(None);
                }
                (Err(error), _) => return Err(error),
            }
        }
        let chunk = bytes(component.chunk)?;
        if is_raid5 {
            if legs.iter().any(Option::is_none) && !is_active(&volume.state) {
                return Err(Error::unsupported(format!(
                    "a degraded RAID-5 volume in state {}",
                    volume.state
                ))
                .help("its parity may not fit its data, so that what the missing part held cannot be told"));
            }
            // Windows deals its chunks out as md's left-symmetric layout does.
            return Array { shape: Shape::Single(2), legs, leg_len: shortest, chunk }
                .open("ldm", self.cx.mapper);
        }
        // Each one was there.
        let legs: Vec<Source> = legs.into_iter().flatten().collect();
        if component.arrangement == Arrangement::Spanned {
            return Ok(concat(legs, self.cx.mapper));
        }
        let legs: Result<Vec<Source>> = legs.iter().map(|leg| slice(leg, 0, shortest)).collect();
        striped(legs?, chunk, Zones::Original, "ldm", self.cx.mapper)
    }

    /// The partitions of a column, one behind the other.
    fn column(&self, partitions: &[&Partition], may_be_old: bool, work: &mut Work) -> Result<Source> {
        let mut pieces = Vec::new();
        for partition in partitions {
            self.cx.budget.step("partitions of dynamic disks")?;
            pieces.push(self.partition(partition, may_be_old, work)?);
        }
        Ok(concat(pieces, self.cx.mapper))
    }

    fn partition(&self, partition: &Partition, may_be_old: bool, work: &mut Work) -> Result<Source> {
        let disk = self.disks.get(&partition.disk).ok_or_else(|| {
            bad(format!(
                "{} lies on disk number {}, which the database has not",
                partition.name, partition.disk
            ))
        })?;
        let Some(member) = self.there.get(&disk.guid) else {
            let why = format!(
                "disk {} (GUID {}), where {} lies, is not here",
                disk.name, disk.guid, partition.name
            );
            return Err(absent(why).help("give the images of all disks of the disk group together"));
        };
        let old = if partition.is_stale {
            Some("it was detached, or not yet rebuilt".to_owned())
        } else if member.database.heard < self.change {
            Some(format!(
                "disk {} was not there when the group was last changed (its database is at change {}, the group at {})",
                disk.name, member.database.heard, self.change
            ))
        } else {
            None
        };
        if let Some(why) = old {
            if !may_be_old {
                return Err(absent(why));
            }
            work.out.push(format!("{}: {why}", partition.name));
        }
        let public = member.header.public;
        let (from, len) = (bytes(partition.start)?, bytes(partition.size)?);
        let place = from.checked_add(len).filter(|end| *end <= public.len);
        let start = place.and_then(|_| public.start.checked_add(from)).ok_or_else(|| {
            bad(format!("{} does not lie inside the public region of disk {}", partition.name, disk.name))
        })?;
        work.uses.insert((disk.guid.clone(), start));
        slice(&member.source, start, len).map_err(|_| {
            bad(format!(
                "bytes {start} to {} of disk {}, which ends at {}: it was cut off",
                start.saturating_add(len),
                disk.name,
                member.source.len()
            ))
        })
    }
}
