//! Pages of the log, and the records in them.
//!
//! ```text
//! restart, restart │ copies of the last pages │ pages, each at home; behind the last, the first again
//!
//! RCRD, fix-ups   0x08 newest LSN in it   0x10 flags   0x14 pages written together, which of them   0x20 newest that ends
//! record          0x00 LSN   0x10 the one to undo next   0x18 length   0x20 type   0x24 transaction   0x28 flags
//! ```
//! A page that is not full yet is written to the copies; the newer of copy and home counts. In version 1 a copy has its
//! home's byte at 0x08, in version 2 at 0x3c. Facts: linux-ntfs project, "$LogFile"; layout of version 2 as in the
//! kernel's ntfs3.

use super::Log;
use super::restart::{Area, RECORD_HEADER};
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::fs::ntfs::record::fix_up;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that are moved for one step of the budget.
pub(super) const STEP: u64 = 512;
/// Bytes of the log read at once.
const CHUNK: u64 = 64 << 10;
/// The longest record: a table of everything that is open or changed, dumped by a checkpoint.
const MAX_RECORD: u64 = 8 << 20;
/// Pages behind the end that are looked at for newer records.
const BEYOND: u64 = 64;
/// Flag of a page: a record ends in it.
const RECORD_ENDS: u32 = 1;

/// Types of records.
pub(super) const CLIENT_RECORD: u32 = 1;
pub(super) const CHECKPOINT: u32 = 2;

/// A page, its true words put back.
#[derive(Debug)]
struct Page {
    /// The newest LSN that it knows of.
    newest: u64,
    /// Which of the pages that were written together it is, from 1.
    position: u64,
    bytes: Vec<u8>,
}

/// A record of the log.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) lsn: u64,
    /// The record of its transaction to undo after it.
    pub(super) undo_next: u64,
    /// [`CLIENT_RECORD`] or [`CHECKPOINT`].
    pub(super) kind: u32,
    pub(super) transaction: u32,
    /// What its client logged.
    pub(super) body: Vec<u8>,
    /// The LSN of the record behind it, once there is one.
    pub(super) next: u64,
}

/// The log by its records.
pub(super) struct Pages<'l> {
    log: &'l Log<'l>,
    pub(super) area: &'l Area,
    pub(super) budget: &'l Budget,
    /// Copies of last pages, by their home.
    tails: BTreeMap<u64, Arc<Page>>,
    /// What was read last: from where, the bytes.
    chunk: (u64, Vec<u8>),
    /// The page that was asked for last.
    last: Option<(u64, Option<Arc<Page>>)>,
}

fn at(lsn: u64, byte: u64) -> At {
    At::new("ntfs", "record of $LogFile").index(lsn).byte(byte)
}

impl<'l> Pages<'l> {
    /// Reads the copies of the last pages.
    ///
    /// # Errors
    /// What the log's file reports.
    pub(super) fn new(log: &'l Log<'l>, area: &'l Area, budget: &'l Budget) -> Result<Self> {
        let mut pages =
            Self { log, area, budget, tails: BTreeMap::new(), chunk: (0, Vec::new()), last: None };
        let mut byte = area.page.saturating_mul(2);
        while byte < area.first() {
            if let Some((home, page)) = pages.read(byte)?.and_then(|bytes| pages.copy(bytes)) {
                let known = pages.tails.get(&home).map_or(0, |other| other.newest);
                if page.newest > known {
                    pages.tails.insert(home, Arc::new(page));
                }
            }
            byte = byte.saturating_add(area.page);
        }
        Ok(pages)
    }

    /// A page as it is stored, if there is a sound one.
    fn read(&mut self, byte: u64) -> Result<Option<Vec<u8>>> {
        let (size, end) = (narrow(self.area.page), byte.saturating_add(self.area.page));
        if end > self.area.size {
            return Ok(None);
        }
        let (start, chunk) = &self.chunk;
        if byte < *start || end > start.saturating_add(wide(chunk.len())) {
            self.budget.steps("ntfs: pages of the log", CHUNK / STEP)?;
            let mut bytes =
                vec![0; narrow(CHUNK.max(self.area.page).min(self.area.size.saturating_sub(byte)))];
            self.log.read(&mut bytes, byte)?;
            self.chunk = (byte, bytes);
        }
        let (start, chunk) = &self.chunk;
        let skip = narrow(byte.saturating_sub(*start));
        let mut bytes = chunk.get(skip..).and_then(|rest| rest.get(..size)).unwrap_or_default().to_vec();
        let is_sound = fix_up(&mut bytes, b"RCRD", &At::new("ntfs", "page of $LogFile").byte(byte)).is_ok();
        Ok(is_sound.then_some(bytes))
    }

    /// A copy of a last page, and its home.
    fn copy(&self, bytes: Vec<u8>) -> Option<(u64, Page)> {
        let is_old = self.area.version.0 < 2;
        let home = u64::from(get_le32(&bytes, if is_old { 0x08 } else { 0x3c })?);
        let is_home =
            home >= self.area.first() && home.is_multiple_of(self.area.page) && home < self.area.size;
        is_home.then(|| (home, Page::of(bytes, !is_old)))
    }

    /// The newest sound page whose home is at `byte`.
    fn page(&mut self, byte: u64) -> Result<Option<Arc<Page>>> {
        if let Some((known, page)) = &self.last
            && *known == byte
        {
            return Ok(page.clone());
        }
        let home = self.read(byte)?.map(|bytes| Arc::new(Page::of(bytes, true)));
        let copy = self.tails.get(&byte).cloned();
        let page = match (home, copy) {
            (Some(home), Some(copy)) => Some(if copy.newest > home.newest { copy } else { home }),
            (home, copy) => home.or(copy),
        };
        self.last = Some((byte, page.clone()));
        Ok(page)
    }

    /// The record of an LSN; `None` when the log ends before it, or in the midst of it.
    ///
    /// # Errors
    /// `Corrupt` when something else stands in its place.
    pub(super) fn record(&mut self, lsn: u64) -> Result<Option<Record>> {
        self.budget.step("ntfs: records of the log")?;
        let area = self.area;
        let byte = area.byte_of(lsn);
        let within = byte.checked_rem(area.page).unwrap_or(0);
        let mut home = byte.saturating_sub(within);
        let place = || at(lsn, byte);
        if home < area.first() || within < area.data || within.saturating_add(wide(RECORD_HEADER)) > area.page
        {
            return Err(Error::corrupt(place()).because("no record can stand there"));
        }
        let Some(page) = self.page(home)?.filter(|page| page.newest >= lsn) else { return Ok(None) };
        let rest = page.bytes.get(narrow(within)..).unwrap_or_default();
        let found = get_le64(rest, 0).unwrap_or(0);
        if found != lsn {
            return Err(Error::corrupt(place()).because(format!("that of LSN {found:#x} stands there")));
        }
        let len = get_le32(rest, 0x18).unwrap_or(0);
        let mut left = narrow(u64::from(len));
        if u64::from(len) > MAX_RECORD.min(area.size) {
            return Err(Error::corrupt(place()).because(format!("a length of {len} bytes")));
        }
        self.budget.steps("ntfs: records of the log", u64::from(len) / STEP)?;
        let mut record = Record {
            lsn,
            undo_next: get_le64(rest, 0x10).unwrap_or(0),
            kind: get_le32(rest, 0x20).unwrap_or(0),
            transaction: get_le32(rest, 0x24).unwrap_or(0),
            body: Vec::new(),
            next: 0,
        };
        let mut is_next_lap = false;
        let mut piece = rest.get(RECORD_HEADER..).unwrap_or_default();
        let mut end = within.saturating_add(wide(RECORD_HEADER));
        let mut further;
        loop {
            let part = piece.get(..left.min(piece.len())).unwrap_or_default();
            record.body.extend_from_slice(part);
            left = left.saturating_sub(part.len());
            end = end.saturating_add(wide(part.len()));
            if left == 0 {
                break;
            }
            home = home.saturating_add(area.page);
            if home >= area.size {
                (home, is_next_lap) = (area.first(), true);
            }
            let Some(page) = self.page(home)?.filter(|page| page.newest >= lsn) else { return Ok(None) };
            further = page;
            piece = further.bytes.get(narrow(area.data)..).unwrap_or_default();
            end = area.data;
        }
        let mut next = end.checked_next_multiple_of(8).unwrap_or(end);
        if next.saturating_add(wide(RECORD_HEADER)) > area.page {
            next = area.data;
            home = home.saturating_add(area.page);
            if home >= area.size {
                (home, is_next_lap) = (area.first(), true);
            }
        }
        record.next = area.lsn_at(home.saturating_add(next), lsn, is_next_lap);
        Ok(Some(record))
    }

    /// The record of an LSN that must be there.
    ///
    /// # Errors
    /// As [`Pages::record`]; `Corrupt` when the log ends before it.
    pub(super) fn need(&mut self, lsn: u64) -> Result<Record> {
        let byte = self.area.byte_of(lsn);
        self.record(lsn)?.ok_or_else(|| Error::corrupt(at(lsn, byte)).because("the log ends before its end"))
    }

    /// Makes sure that the log ends where the record `lsn` would stand: that no newer one stands in a page behind, but for
    /// pages that were to be written together with the missing one.
    ///
    /// # Errors
    /// `Corrupt` when one does: pages before it are damaged.
    pub(super) fn ends_before(&mut self, lsn: u64) -> Result<()> {
        let byte = self.area.byte_of(lsn);
        let mut home = byte.saturating_sub(byte.checked_rem(self.area.page).unwrap_or(0));
        for distance in 1..=BEYOND {
            home = home.saturating_add(self.area.page);
            if home >= self.area.size {
                home = self.area.first();
            }
            if let Some(page) = self.page(home)?
                && page.newest >= lsn
                && page.position <= distance
            {
                return Err(Error::corrupt(at(lsn, byte)).because(format!(
                    "is missing, but LSN {:#x} in the page at byte {home:#x} is there",
                    page.newest
                )));
            }
        }
        Ok(())
    }
}

impl Page {
    fn of(bytes: Vec<u8>, has_newest: bool) -> Self {
        let word = |at| get_le64(&bytes, at).unwrap_or(0);
        let newest = if has_newest { word(0x08) } else { 0 };
        let ends = get_le32(&bytes, 0x10).unwrap_or(0) & RECORD_ENDS != 0;
        Self {
            newest: if ends { newest.max(word(0x20)) } else { newest },
            position: u64::from(get_le16(&bytes, 0x16).unwrap_or(0)),
            bytes,
        }
    }
}
