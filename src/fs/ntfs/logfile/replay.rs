//! Playing the log back, in memory: every change since the oldest that may not have been written home, in order; then what
//! unfinished transactions changed, backwards.
//!
//! Each record of the MFT and each block of an index says which change of it was the last; older ones are passed over.
//! Other values have no such mark, and are written again from their oldest change on, in order, which ends in the same
//! bytes. Pages that no table names were written home.

use super::change;
use super::operation::{Data, Operation, Target, code, name, target};
use super::page::{CHECKPOINT, CLIENT_RECORD, Pages, STEP};
use super::table::{Checkpoint, Dirty, OPEN_ENTRY, Open, Tables, Transaction};
use crate::block::BlockSource;
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::fs::ntfs::attribute::kind;
use crate::fs::ntfs::boot::{Boot, MAX_INDEX_BLOCK};
use crate::fs::ntfs::mft;
use crate::fs::ntfs::record::fix_up;
use crate::fs::overlay::Overlay;
use crate::num::{narrow, wide};
use std::collections::HashSet;
use std::sync::Arc;

/// Unit in which the overlay keeps bytes.
const UNIT: u64 = 512;
/// Records of the log that are read, in each direction.
const MAX_RECORDS: u64 = 400_000;
/// Bytes of one change.
const MAX_CHANGE: u64 = MAX_INDEX_BLOCK;

/// What playing back came to.
pub(super) struct Played {
    pub(super) overlay: Overlay,
    /// Changes that were made; those found on the volume already are not counted.
    pub(super) changes: u64,
    /// Changes of unfinished transactions that were taken back.
    pub(super) undone: u64,
    /// Records and blocks that are damaged on the volume, and were left so.
    pub(super) damaged: usize,
}

/// The volume as far as the log has been played back.
struct Replay<'b> {
    boot: &'b Boot,
    budget: &'b Budget,
    overlay: Overlay,
    tables: Tables,
    changes: u64,
    undone: u64,
    damaged: HashSet<u64>,
}

/// In which direction an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forth,
    Back,
}

/// Plays back what stands behind the checkpoint.
///
/// # Errors
/// `Unsupported` for tables of another version or an operation whose effect is not known; `Corrupt` when the log is
/// damaged, or does not fit the volume.
pub(super) fn play(
    volume: &Arc<dyn BlockSource>,
    boot: &Boot,
    pages: &mut Pages<'_>,
    checkpoint: u64,
) -> Result<Played> {
    let record = pages.need(checkpoint)?;
    let checkpoint = Checkpoint::parse(checkpoint, &record.body);
    if record.kind != CHECKPOINT {
        return Err(Error::corrupt(At::new("ntfs", "checkpoint of $LogFile").index(record.lsn))
            .because("is no checkpoint"));
    }
    if checkpoint.version != 1 {
        return Err(Error::unsupported(format!(
            "tables of version {}, as 32-bit Windows writes them",
            checkpoint.version
        )));
    }
    let mut replay = Replay {
        boot,
        budget: pages.budget,
        overlay: Overlay::new(Arc::clone(volume), 512),
        tables: Tables::load(pages, &checkpoint, boot.cluster())?,
        changes: 0,
        undone: 0,
        damaged: HashSet::new(),
    };
    let end = replay.analyse(pages, checkpoint.start)?;
    if let Some(oldest) = replay.tables.oldest() {
        replay.redo(pages, oldest, end)?;
    }
    replay.undo(pages)?;
    let Replay { overlay, changes, undone, damaged, .. } = replay;
    Ok(Played { overlay, changes, undone, damaged: damaged.len() })
}

impl Replay<'_> {
    /// Brings the tables to where they stood at the end of the log, and says where that is.
    fn analyse(&mut self, pages: &mut Pages<'_>, start: u64) -> Result<u64> {
        let mut lsn = pages.need(start)?.next;
        for _ in 0..MAX_RECORDS {
            let Some(record) = pages.record(lsn)? else {
                pages.ends_before(lsn)?;
                if pages.area.newest >= lsn {
                    return Err(Error::corrupt(At::new("ntfs", "record of $LogFile").index(lsn)).because(
                        format!("is missing, but the restart page knows of LSN {:#x}", pages.area.newest),
                    ));
                }
                return Ok(lsn);
            };
            if record.kind == CLIENT_RECORD {
                self.note(&Operation::of(&record)?, record.transaction, record.undo_next)?;
            }
            if record.next <= lsn {
                return Err(Error::corrupt(At::new("ntfs", "record of $LogFile").index(lsn))
                    .because("the one behind it is older"));
            }
            lsn = record.next;
        }
        Err(Error::limit(format!("a log with more than {MAX_RECORDS} records since its checkpoint")))
    }

    /// Notes what an operation opens, changes, begins or ends.
    fn note(&mut self, operation: &Operation<'_>, transaction: u32, undo_next: u64) -> Result<()> {
        let is_compensation = operation.undo() == code::COMPENSATION;
        let state = self
            .tables
            .transactions
            .entry(transaction)
            .or_insert(Transaction { is_active: true, undo_next: 0 });
        state.undo_next = if is_compensation { undo_next } else { operation.lsn() };
        match operation.redo() {
            code::FORGET => {
                self.tables.transactions.remove(&transaction);
            }
            code::END_TOP_LEVEL => state.undo_next = undo_next,
            code::PREPARE | code::COMMIT => state.is_active = false,
            code::DELETE_DIRTY_CLUSTERS => self.tables.give_up(operation, self.budget)?,
            code::OPEN_ATTRIBUTE => {
                let entry = operation.redone().bytes;
                let open = Open::parse(entry).filter(|_| entry.len() >= OPEN_ENTRY);
                let open = open.ok_or_else(|| operation.bad("opens nothing"))?;
                self.tables.open.insert(operation.attribute(), open);
            }
            other => match target(other) {
                Some(Target::Nothing) => {}
                Some(_) => self.tables.change(operation)?,
                None => return Err(unknown(other)),
            },
        }
        Ok(())
    }

    /// Makes the changes from `lsn` to `end` that have not been written home.
    fn redo(&mut self, pages: &mut Pages<'_>, mut lsn: u64, end: u64) -> Result<()> {
        for _ in 0..MAX_RECORDS {
            if lsn >= end {
                return Ok(());
            }
            let record = pages.need(lsn)?;
            if record.kind == CLIENT_RECORD {
                let operation = Operation::of(&record)?;
                if let Some((page, index)) = self.tables.page(operation.attribute(), operation.cluster())
                    && operation.listed() > 0
                    && lsn >= page.oldest
                {
                    let clusters = clusters(page, index, operation.listed());
                    self.act(&operation, &clusters, Way::Forth)?;
                }
            }
            if record.next <= lsn {
                return Err(operation_order(lsn));
            }
            lsn = record.next;
        }
        Err(Error::limit(format!("a log with more than {MAX_RECORDS} records to play back")))
    }

    /// Takes back what transactions changed that nobody finished.
    fn undo(&mut self, pages: &mut Pages<'_>) -> Result<()> {
        let unfinished: Vec<u64> = self
            .tables
            .transactions
            .values()
            .filter(|transaction| transaction.is_active)
            .map(|transaction| transaction.undo_next)
            .collect();
        let mut left = MAX_RECORDS;
        for mut lsn in unfinished {
            while lsn != 0 {
                left = left.checked_sub(1).ok_or_else(|| {
                    Error::limit(format!("unfinished transactions of more than {MAX_RECORDS} records"))
                })?;
                let record = pages.need(lsn)?;
                let operation = Operation::of(&record)?;
                if operation.listed() > 0 {
                    let clusters = match self.tables.page(operation.attribute(), operation.cluster()) {
                        Some((page, index)) => clusters(page, index, operation.listed()),
                        None => operation.clusters().collect(),
                    };
                    self.act(&operation, &clusters, Way::Back)?;
                }
                if record.undo_next >= lsn {
                    return Err(operation_order(lsn));
                }
                lsn = record.undo_next;
            }
        }
        Ok(())
    }

    /// Does an operation, or undoes it. `clusters` says where those lie that it lists; 0 for one that was given up.
    fn act(&mut self, operation: &Operation<'_>, clusters: &[u64], way: Way) -> Result<()> {
        let (what, data) = match way {
            Way::Forth => (operation.redo(), operation.redone()),
            Way::Back => (operation.undo(), operation.undone()),
        };
        let target = target(what).ok_or_else(|| unknown(what))?;
        if target == Target::Nothing {
            return Ok(());
        }
        let open = self.tables.open.get(&operation.attribute()).copied();
        let open = open.ok_or_else(|| {
            operation.bad(format!("is about attribute {:#x}, which is not open", operation.attribute()))
        })?;
        let is_mft = open.kind == kind::DATA && open.file == mft::MFT;
        let is_index = open.kind == kind::INDEX_ALLOCATION;
        let place = Place { clusters, cluster: self.boot.cluster(), start: operation.in_cluster() };
        match target {
            Target::Record if is_mft => {
                self.structure(operation, &place, b"FILE", self.boot.record, (what, data, way))
            }
            Target::Block | Target::Bytes if is_index => {
                let size = if open.block == 0 { self.boot.index_block } else { open.block };
                self.structure(operation, &place, b"INDX", size, (what, data, way))
            }
            Target::Bytes | Target::Bits if !is_mft && !is_index => self.value(operation, &place, what, data),
            _ => Err(operation.bad(format!(
                "is a {} of attribute {:#x} of record {}",
                name(what),
                open.kind,
                open.file
            ))),
        }
    }

    /// Changes a record of the MFT or a block of an index.
    fn structure(
        &mut self,
        operation: &Operation<'_>,
        place: &Place<'_>,
        magic: &[u8; 4],
        size: u64,
        (what, data, way): (u16, Data<'_>, Way),
    ) -> Result<()> {
        if !size.is_power_of_two() || !(UNIT..=MAX_CHANGE).contains(&size) {
            return Err(operation.bad(format!("is about a block of {size} bytes")));
        }
        self.budget.steps("ntfs: changes of the log", size / STEP)?;
        let Some(pieces) = place.pieces(0, size) else { return Ok(()) };
        let Some(home) = pieces.first().map(|(at, _)| *at) else { return Ok(()) };
        let mut bytes = self.read(&pieces, size)?;
        let at = At::new("ntfs", "block of the volume").byte(home);
        let is_sound = fix_up(&mut bytes, magic, &at).is_ok();
        let (offset, inner) = (operation.offset(), operation.inner());
        let is_new = matches!(what, code::INITIALIZE_RECORD | code::UPDATE_NONRESIDENT)
            && offset.saturating_add(inner) == 0
            && data.bytes.starts_with(magic);
        if is_sound && way == Way::Forth && change::lsn(&bytes) >= operation.lsn() {
            return Ok(());
        }
        if !is_sound && !is_new {
            // What the log does not write anew stays damaged, and is found so when it is read.
            self.damaged.insert(home);
            return Ok(());
        }
        let done = if magic == b"FILE" {
            change::in_record(&mut bytes, what, (offset, inner), data, operation.resizes())
        } else {
            change::in_block(&mut bytes, what, offset.saturating_add(inner), data)
        };
        done.and_then(|()| match way {
            Way::Forth => change::set_lsn(&mut bytes, operation.lsn()),
            Way::Back => Ok(()),
        })
        .and_then(|()| change::seal(&mut bytes))
        .map_err(|why| operation.bad(format!("{}: {why}", name(what))).at(at_of(operation, home)))?;
        self.damaged.remove(&home);
        self.count(way);
        self.write(&pieces, &bytes)
    }

    /// Changes bytes or bits of a value in clusters.
    fn value(
        &mut self,
        operation: &Operation<'_>,
        place: &Place<'_>,
        what: u16,
        data: Data<'_>,
    ) -> Result<()> {
        let start = wide(operation.offset().saturating_add(operation.inner()));
        let bad = |why: &str| operation.bad(format!("{}: {why}", name(what)));
        let bits = match what {
            code::UPDATE_NONRESIDENT => None,
            _ => Some(change::Bits::parse(data).map_err(bad)?),
        };
        let (skip, len) = bits.as_ref().map_or((0, wide(data.len)), change::Bits::bytes);
        let skip = start.saturating_add(skip);
        if skip.saturating_add(len) > place.len() || len > MAX_CHANGE {
            return Err(bad("writes behind the end of its clusters"));
        }
        // Bits are set one by one.
        let effort = if bits.is_some() { 16 } else { 1 };
        self.budget.steps("ntfs: changes of the log", (len / STEP).saturating_mul(effort))?;
        // Of clusters that were given up in part, what is left is not worth telling apart: nothing reads it.
        let Some(pieces) = place.pieces(skip, len) else { return Ok(()) };
        let mut bytes = self.read(&pieces, len)?;
        match bits {
            Some(bits) => bits.put(&mut bytes, what == code::SET_BITS),
            None => change::raw(&mut bytes, data).map_err(bad)?,
        }
        self.count(Way::Forth);
        self.write(&pieces, &bytes)
    }

    const fn count(&mut self, way: Way) {
        match way {
            Way::Forth => self.changes = self.changes.saturating_add(1),
            Way::Back => self.undone = self.undone.saturating_add(1),
        }
    }

    fn read(&self, pieces: &[(u64, u64)], len: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; narrow(len)];
        let mut rest = bytes.as_mut_slice();
        for (at, len) in pieces {
            let Some((piece, further)) = rest.split_at_mut_checked(narrow(*len)) else { break };
            self.overlay.read_at(piece, *at)?;
            rest = further;
        }
        Ok(bytes)
    }

    fn write(&mut self, pieces: &[(u64, u64)], mut bytes: &[u8]) -> Result<()> {
        for (at, len) in pieces {
            let Some((mut piece, further)) = bytes.split_at_checked(narrow(*len)) else { break };
            let mut at = *at;
            while !piece.is_empty() {
                let start = at.checked_rem(UNIT).unwrap_or(0);
                let (now, next) = piece.split_at(narrow(UNIT.saturating_sub(start)).min(piece.len()));
                let number = at.checked_div(UNIT).unwrap_or(0);
                let mut unit = vec![0; narrow(UNIT)];
                if now.len() < unit.len() {
                    self.overlay.read_at(&mut unit, number.saturating_mul(UNIT))?;
                }
                if let Some(target) = unit.get_mut(narrow(start)..).and_then(|rest| rest.get_mut(..now.len()))
                {
                    target.copy_from_slice(now);
                }
                self.overlay.keep(number, unit)?;
                at = at.saturating_add(wide(now.len()));
                piece = next;
            }
            bytes = further;
        }
        Ok(())
    }
}

fn at_of(operation: &Operation<'_>, home: u64) -> At {
    At::new("ntfs", "record of $LogFile").index(operation.lsn()).byte(home)
}

fn unknown(operation: u16) -> Error {
    Error::unsupported(format!("{} ({operation:#x}) in the log", name(operation)))
}

fn operation_order(lsn: u64) -> Error {
    Error::corrupt(At::new("ntfs", "record of $LogFile").index(lsn))
        .because("the order of records turns back")
}

/// The clusters of a page from `index` on.
fn clusters(page: &Dirty, index: usize, count: usize) -> Vec<u64> {
    page.clusters.get(index..).unwrap_or_default().iter().take(count).copied().collect()
}

/// Where the target of an operation lies: from a byte of the first cluster on.
struct Place<'c> {
    clusters: &'c [u64],
    cluster: u64,
    start: u64,
}

impl Place<'_> {
    /// Bytes from the target's start to the end of the last cluster.
    fn len(&self) -> u64 {
        wide(self.clusters.len()).saturating_mul(self.cluster).saturating_sub(self.start)
    }

    /// Where `len` bytes from byte `skip` on lie: place and length of each piece. `None` when a cluster of them was given up.
    fn pieces(&self, skip: u64, len: u64) -> Option<Vec<(u64, u64)>> {
        let mut pieces = Vec::new();
        let mut at = self.start.checked_add(skip)?;
        let end = at.checked_add(len)?;
        while at < end {
            let index = usize::try_from(at.checked_div(self.cluster)?).ok()?;
            let within = at.checked_rem(self.cluster)?;
            let lcn = self.clusters.get(index).copied().filter(|lcn| *lcn != 0)?;
            let part = self.cluster.saturating_sub(within).min(end.saturating_sub(at));
            pieces.push((lcn.checked_mul(self.cluster)?.checked_add(within)?, part));
            at = at.saturating_add(part);
        }
        Some(pieces)
    }
}
