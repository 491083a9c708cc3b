//! The database of a disk group, of which every disk of the group has a copy: a header (`VMDB`) and slots of 128 bytes
//! (`VBLK`), in each of which lies a record or a fragment of one.
//!
//! ```text
//! VMDB 512 bytes │ VBLK │ VBLK │ …        a record in several slots has one group number, its fragments 0, 1, …
//! ```
//! A change is written in steps: the new records are added, then it is *committed* by the header's status, then the old
//! ones go. Read is what Windows would read after a loss of power: before the commit the old records, behind it the new.
//! Layouts as in Linux 6.18, `block/partitions/ldm.h`; the steps as in `DiskAccessLibrary` (`VolumeManagerDatabase.cs`).

use super::header::Header;
use super::record::{Component, Disk, Partition, Record, Status, Volume};
use crate::block::BlockSource;
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::num::narrow;
use crate::ondisk::{get_be16, get_be32, parse_struct, read_table};
use std::collections::BTreeMap;
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The longest database: Windows makes them of 740 KiB, in a region of 1 MiB.
const MAX_LEN: u64 = 8 << 20;
/// Sizes that a slot may have; Windows writes 128.
const SLOTS: std::ops::RangeInclusive<usize> = 64..=4096;
/// Bytes of a slot in front of what it holds.
const SLOT_HEAD: usize = 16;
/// The most fragments of a record. Linux stops at 4; the longest record, a volume with all its texts, needs 11.
const MAX_FRAGMENTS: u16 = 16;
/// Faults of a database that are said one by one.
const MAX_FAULTS: usize = 8;

/// The header. Its counts are those of volumes, components, partitions and disks.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Vmdb {
    magic: [u8; 4],       // 0x00 "VMDB"
    last: U32,            // 0x04 slots, those the header would take included
    slot: U32,            // 0x08 bytes of a slot
    first: U32,           // 0x0c bytes from here to the first slot
    status: U16,          // 0x10 see `Change`
    major: U16,           // 0x12 4
    minor: U16,           // 0x14 10
    group_name: [u8; 31], // 0x16
    group: [u8; 64],      // 0x35 GUID as text
    committed: U64,       // 0x75 number of the change that the records are at
    pending: U64,         // 0x7d number of the change that is under way
    counts: [U32; 4],     // 0x85 when committed
    zeros: [U32; 3],      // 0x95
    coming: [U32; 4],     // 0xa1 with the change under way
    more: [U32; 3],       // 0xb1
    changed: U64,         // 0xbd when, as FILETIME
}
const _: () = assert!(size_of::<Vmdb>() == 0xc5);

/// A database.
#[derive(Clone, Debug, Default)]
pub(super) struct Database {
    /// The number of the change it is at.
    pub(super) change: u64,
    /// That of the last change it has heard of: a disk on which that is older was not there.
    pub(super) heard: u64,
    pub(super) group_name: String,
    pub(super) volumes: BTreeMap<u64, Volume>,
    pub(super) components: BTreeMap<u64, Component>,
    pub(super) partitions: BTreeMap<u64, Partition>,
    pub(super) disks: BTreeMap<u64, Disk>,
    /// What is odd in it.
    pub(super) faults: Vec<String>,
}

impl Database {
    /// Reads a disk's copy.
    ///
    /// # Errors
    /// `Corrupt` when its place or header make no sense; `Limit` for one that is too long; what the source reports.
    pub(super) fn load(disk: &dyn BlockSource, header: &Header, budget: &Budget) -> Result<Self> {
        let place = header.database(disk)?;
        let at = At::new("ldm", "database").byte(place.start);
        let bytes = read_table(disk, place.start, place.len, MAX_LEN, at.clone(), budget)?;
        let database = Self::parse(&bytes, &at);
        budget.release(bytes.len());
        database
    }

    /// Reads a database. A record that cannot be read is one of its faults.
    ///
    /// # Errors
    /// `Corrupt` for a header that is none or makes no sense.
    fn parse(bytes: &[u8], at: &At) -> Result<Self> {
        let head: Vmdb = parse_struct(bytes, at.clone())?;
        let bad = |why: String| Err(Error::corrupt(at.clone()).because(why));
        if head.magic != *b"VMDB" {
            return bad("no signature 'VMDB'".to_owned());
        }
        if head.major.get() != 4 {
            let version = format!("LDM database version {}.{}", head.major.get(), head.minor.get());
            return Err(Error::unsupported(version).at(at.clone()));
        }
        let slot = narrow(u64::from(head.slot.get()));
        let first = narrow(u64::from(head.first.get()));
        let slots = bytes.get(first..).filter(|_| SLOTS.contains(&slot) && first >= size_of::<Vmdb>());
        let Some(slots) = slots else {
            return bad(format!("slots of {slot} bytes from byte {first} on"));
        };
        let name = head.group_name.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut database = Self { group_name: crate::text::escape(name).to_string(), ..Self::default() };
        // 1: nothing under way, 2: a change is, 3: it is committed.
        let is_committed = head.status.get() == 3;
        match head.status.get() {
            1 => {}
            2 => database.faults.push(
                "a change was under way that was never committed; it is left out, as Windows would"
                    .to_owned(),
            ),
            3 => database.faults.push(
                "a change was committed, but not carried out to its end; it counts, as with Windows"
                    .to_owned(),
            ),
            other => database.faults.push(format!("its status is {other}")),
        }
        database.change = if is_committed { head.pending.get() } else { head.committed.get() };
        database.heard = head.pending.get().max(database.change);
        // The header counts as the slots that it would take.
        let before = head.first.get().checked_div(head.slot.get()).unwrap_or(0);
        let count = u64::from(head.last.get().saturating_sub(before));
        database.collect(slots.chunks_exact(slot).take(narrow(count)), is_committed);
        let expected = if is_committed { head.coming } else { head.counts };
        database.count(expected.map(U32::get));
        Ok(database)
    }

    /// Takes the records out of the slots.
    fn collect<'a>(&mut self, slots: impl Iterator<Item = &'a [u8]>, is_committed: bool) {
        let mut groups: BTreeMap<u32, Fragments<'a>> = BTreeMap::new();
        for (number, slot) in (0_u64..).zip(slots) {
            if !slot.starts_with(b"VBLK") {
                self.fault(format!("slot {number} has no signature 'VBLK'"));
                continue;
            }
            let (Some(group), Some(fragment), Some(count)) =
                (get_be32(slot, 8), get_be16(slot, 12), get_be16(slot, 14))
            else {
                continue;
            };
            let Some(content) = slot.get(SLOT_HEAD..).filter(|_| group != 0 && count != 0) else { continue };
            if count == 1 {
                self.record(content, is_committed, place(number));
            } else if count > MAX_FRAGMENTS || fragment >= count {
                self.fault(format!("slot {number} holds fragment {fragment} of {count}"));
            } else {
                let fragments = groups.entry(group).or_insert_with(|| Fragments {
                    number,
                    count,
                    found: BTreeMap::new(),
                });
                if fragments.count != count || fragments.found.insert(fragment, content).is_some() {
                    self.fault(format!("slot {number} does not fit the other fragments of its record"));
                }
            }
        }
        for fragments in groups.values() {
            let number = fragments.number;
            if fragments.found.len() != usize::from(fragments.count) {
                let (found, count) = (fragments.found.len(), fragments.count);
                self.fault(format!("of the record in slot {number}, {found} of {count} fragments are there"));
                continue;
            }
            let content: Vec<u8> = fragments.found.values().copied().flatten().copied().collect();
            self.record(&content, is_committed, place(number));
        }
    }

    fn record(&mut self, content: &[u8], is_committed: bool, at: At) {
        let (status, record) = match Record::parse(content, at) {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => return self.fault(error.chain()),
        };
        if status == (if is_committed { Status::Leaving } else { Status::Coming }) {
            return;
        }
        let is_new = match record {
            Record::Volume(volume) => self.volumes.insert(volume.id, volume).is_none(),
            Record::Component(component) => self.components.insert(component.id, component).is_none(),
            Record::Partition(partition) => self.partitions.insert(partition.id, partition).is_none(),
            Record::Disk(disk) => self.disks.insert(disk.id, disk).is_none(),
            Record::Group(name) => {
                self.group_name = name;
                true
            }
        };
        if !is_new {
            self.fault("two records have one number".to_owned());
        }
    }

    /// Compares what was found with what the header says.
    fn count(&mut self, expected: [u32; 4]) {
        let found = [
            (self.volumes.len(), "volumes"),
            (self.components.len(), "components"),
            (self.partitions.len(), "partitions"),
            (self.disks.len(), "disks"),
        ];
        for ((found, what), expected) in found.into_iter().zip(expected) {
            if crate::num::wide(found) != u64::from(expected) {
                self.fault(format!("{found} {what} were found, its header says {expected}"));
            }
        }
    }

    fn fault(&mut self, what: String) {
        match self.faults.len() {
            ..MAX_FAULTS => self.faults.push(what),
            MAX_FAULTS => self.faults.push("and more".to_owned()),
            _ => {}
        }
    }
}

/// How errors call a slot.
fn place(number: u64) -> At {
    At::new("ldm", "database slot").index(number)
}

/// A record in several slots.
struct Fragments<'a> {
    /// Of the first slot seen.
    number: u64,
    count: u16,
    found: BTreeMap<u16, &'a [u8]>,
}
