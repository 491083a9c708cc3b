//! The tables that a checkpoint dumps: attributes that were open, pages that were changed and not written, transactions
//! that had not ended.
//!
//! ```text
//! table  0x00 bytes an entry, 0x02 entries   0x18 entries; other records name one by its byte in the table
//! entry  0x00 ffff_ffff where it is in use
//! open   0x04 bytes of an index block   0x08 type   0x10 file
//! page   0x04 attribute   0x0c clusters   0x10 first of them   0x18 LSN of the oldest change   0x20 where they lie
//! transaction  0x04 state   0x08 first LSN   0x18 LSN to undo next
//! ```
//! Layouts of version 1 of these tables, which 64-bit Windows writes, as in the kernel's ntfs3.

use super::operation::{Operation, code, name};
use super::page::Pages;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::num::wide;
use crate::ondisk::{get_le16, get_le32, get_le64};
use std::collections::BTreeMap;

/// Bytes before the entries.
const HEAD: usize = 0x18;
/// What an entry in use begins with.
const IN_USE: u32 = 0xffff_ffff;
/// Bytes of an entry of the table of open attributes.
pub(super) const OPEN_ENTRY: usize = 0x28;
/// State of a transaction that has neither been committed nor prepared.
const ACTIVE: u8 = 1;
/// Bytes of a page of memory, the unit of changes.
const PAGE: u64 = 4096;
/// Changed pages that are remembered, of about 100 bytes, and their clusters, of 8.
const MAX_DIRTY: usize = 200_000;
const MAX_CLUSTERS: usize = 1 << 20;
/// Clusters that are compared for one step of the budget.
const STEP: usize = 64;

/// An attribute that was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// Its type.
    pub(super) kind: u32,
    /// Its file's record.
    pub(super) file: u64,
    /// Bytes of a block, of an index.
    pub(super) block: u64,
}

/// A page that had been changed and not written.
#[derive(Clone, Debug)]
pub(super) struct Dirty {
    /// LSN of the oldest change.
    pub(super) oldest: u64,
    /// Where its clusters lie; 0 for those that were given up since.
    pub(super) clusters: Vec<u64>,
}

/// A transaction that has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transaction {
    /// Nobody committed it.
    pub(super) is_active: bool,
    /// LSN of what must be undone next; 0 for nothing.
    pub(super) undo_next: u64,
}

/// What was open, changed or unfinished at some LSN.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) open: BTreeMap<u16, Open>,
    /// By attribute and first cluster.
    dirty: BTreeMap<(u16, u64), Dirty>,
    pub(super) transactions: BTreeMap<u32, Transaction>,
    /// Clusters of a page.
    per_page: u64,
    /// Clusters of all changed pages.
    clusters: usize,
}

impl Open {
    /// An entry of the table.
    pub(super) fn parse(entry: &[u8]) -> Option<Self> {
        Some(Self {
            kind: get_le32(entry, 0x08)?,
            file: get_le64(entry, 0x10)? & 0xffff_ffff_ffff,
            block: u64::from(get_le32(entry, 0x04)?),
        })
    }
}

/// Entries in use, with their place in the table.
fn entries(table: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let size = usize::from(get_le16(table, 0).unwrap_or(0)).max(1);
    let count = usize::from(get_le16(table, 2).unwrap_or(0));
    table
        .get(HEAD..)
        .unwrap_or_default()
        .chunks_exact(size)
        .take(count)
        .zip((HEAD..).step_by(size))
        .map(|(entry, at)| (at, entry))
        .filter(|(_, entry)| get_le32(entry, 0) == Some(IN_USE))
}

impl Tables {
    /// Those of a checkpoint.
    ///
    /// # Errors
    /// `Corrupt` when a table is none; what the log reports.
    pub(super) fn load(pages: &mut Pages<'_>, checkpoint: &Checkpoint, cluster: u64) -> Result<Self> {
        let mut tables = Self { per_page: PAGE.checked_div(cluster).unwrap_or(1).max(1), ..Self::default() };
        let of = |pages: &mut Pages<'_>, lsn: u64, what: u16| -> Result<Vec<u8>> {
            if lsn == 0 {
                return Ok(Vec::new());
            }
            let record = pages.need(lsn)?;
            let operation = Operation::of(&record)?;
            let data = operation.redone();
            if operation.redo() != what || data.bytes.len() != data.len {
                return Err(operation.bad(format!("is no whole {}", name(what))));
            }
            Ok(data.bytes.to_vec())
        };
        let open = of(pages, checkpoint.open, code::DUMP_OPEN)?;
        for (at, entry) in entries(&open) {
            if let (Ok(at), Some(attribute)) = (u16::try_from(at), Open::parse(entry)) {
                tables.open.insert(at, attribute);
            }
        }
        let dirty = of(pages, checkpoint.dirty, code::DUMP_DIRTY)?;
        if let Some(size) = get_le16(&dirty, 0) {
            tables.per_page = u64::from(size.saturating_sub(0x20) / 8).max(1);
        }
        for (_, entry) in entries(&dirty) {
            let word = |at| get_le64(entry, at).unwrap_or(0);
            let count = usize::try_from(get_le32(entry, 0x0c).unwrap_or(0)).unwrap_or(usize::MAX);
            let attribute = get_le32(entry, 4).and_then(|attribute| u16::try_from(attribute).ok());
            let list = entry.get(0x20..).unwrap_or_default();
            let clusters: Vec<u64> =
                list.chunks_exact(8).take(count).map(|lcn| get_le64(lcn, 0).unwrap_or(0)).collect();
            tables.clusters = tables.clusters.saturating_add(clusters.len());
            if let Some(attribute) = attribute {
                tables.dirty.insert((attribute, word(0x10)), Dirty { oldest: word(0x18), clusters });
            }
        }
        let transactions = of(pages, checkpoint.transactions, code::DUMP_TRANSACTIONS)?;
        for (at, entry) in entries(&transactions) {
            let is_active = entry.get(4).is_some_and(|state| *state == ACTIVE);
            let undo_next = get_le64(entry, 0x18).unwrap_or(0);
            if let Ok(at) = u32::try_from(at) {
                tables.transactions.insert(at, Transaction { is_active, undo_next });
            }
        }
        Ok(tables)
    }

    /// The changed page that holds a cluster of an attribute, and which of its clusters that is.
    pub(super) fn page(&self, attribute: u16, cluster: u64) -> Option<(&Dirty, usize)> {
        let ((found, first), page) = self.dirty.range(..=(attribute, cluster)).next_back()?;
        let index = usize::try_from(cluster.checked_sub(*first)?).ok()?;
        (*found == attribute && index < page.clusters.len()).then_some((page, index))
    }

    /// The oldest change of a page.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.dirty.values().map(|page| page.oldest).filter(|lsn| *lsn != 0).min()
    }

    /// Notes that an operation changed a page.
    ///
    /// # Errors
    /// `Corrupt` when its clusters are more than those of a page; `Limit` for too many pages.
    pub(super) fn change(&mut self, operation: &Operation<'_>) -> Result<()> {
        let (attribute, cluster) = (operation.attribute(), operation.cluster());
        let key = match self.page(attribute, cluster) {
            Some((_, index)) => (attribute, cluster.saturating_sub(wide(index))),
            None => {
                let first = cluster.saturating_sub(cluster.checked_rem(self.per_page).unwrap_or(0));
                let count = usize::try_from(self.per_page).unwrap_or(usize::MAX);
                self.clusters = self.clusters.saturating_add(count);
                if self.dirty.len() >= MAX_DIRTY || self.clusters > MAX_CLUSTERS {
                    return Err(Error::limit(format!(
                        "a log that changes more than {MAX_DIRTY} pages, or {MAX_CLUSTERS} clusters"
                    )));
                }
                let page = Dirty { oldest: operation.lsn(), clusters: vec![0; count] };
                self.dirty.insert((attribute, first), page);
                (attribute, first)
            }
        };
        let Some(page) = self.dirty.get_mut(&key) else { return Ok(()) };
        let index = usize::try_from(cluster.saturating_sub(key.1)).unwrap_or(usize::MAX);
        for (step, lcn) in operation.clusters().enumerate() {
            let Some(place) = page.clusters.get_mut(index.saturating_add(step)) else {
                return Err(operation.bad(format!(
                    "changes {} clusters from the {index}th of a page of {}",
                    operation.listed(),
                    page.clusters.len()
                )));
            };
            *place = lcn;
        }
        Ok(())
    }

    /// Forgets changes of clusters that were given up: they may belong to another file by now.
    ///
    /// # Errors
    /// `Limit` when that takes too long.
    pub(super) fn give_up(&mut self, operation: &Operation<'_>, budget: &Budget) -> Result<()> {
        let ranges = operation.redone().bytes.chunks_exact(16);
        let work = ranges.len().saturating_mul(self.dirty.len().saturating_add(self.clusters));
        budget.steps("ntfs: clusters given up in the log", wide(work.checked_div(STEP).unwrap_or(0)))?;
        for range in ranges {
            let (start, len) = (get_le64(range, 0).unwrap_or(0), get_le64(range, 8).unwrap_or(0));
            let range = start..start.saturating_add(len);
            for place in self.dirty.values_mut().flat_map(|page| &mut page.clusters) {
                if range.contains(place) {
                    *place = 0;
                }
            }
        }
        Ok(())
    }
}

/// A checkpoint: from where to look, and where its tables stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checkpoint {
    /// Version of the tables.
    pub(super) version: u32,
    /// Records after this one are not in the tables.
    pub(super) start: u64,
    open: u64,
    dirty: u64,
    transactions: u64,
}

impl Checkpoint {
    /// What the record of a checkpoint says.
    pub(super) fn parse(lsn: u64, body: &[u8]) -> Self {
        let word = |at| get_le64(body, at).unwrap_or(0);
        // A table of no bytes was not dumped, whatever LSN stands for it.
        let table = |at, len| if get_le32(body, len).unwrap_or(0) == 0 { 0 } else { word(at) };
        let start = word(0x08);
        Self {
            version: get_le32(body, 0).unwrap_or(0),
            start: if start == 0 { lsn } else { start },
            open: table(0x10, 0x30),
            dirty: table(0x20, 0x38),
            transactions: table(0x28, 0x3c),
        }
    }
}
