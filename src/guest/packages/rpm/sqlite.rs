//! SQLite as far as rpm's database needs it: the rows of one table, in the order of their numbers, without SQL ("Database
//! File Format", <https://www.sqlite.org/fileformat2.html>). The sections cited are those of that document.

use super::LAYER;
use super::blob::Blob;
use super::store::Store;
use super::wal::Wal;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_be16, get_be32};

pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";
/// Section 1.3, "The Database Header".
const HEADER: usize = 100;
/// Levels of a b-tree; SQLite itself stops at 20.
const MAX_DEPTH: u32 = 20;
/// Kinds of b-tree pages of a table: section 1.6.
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;
/// The longest schema entry that is read.
const MAX_SCHEMA: u64 = 64 << 10;
/// The table of headers: its rows are a number and a blob.
const TABLE: &[u8] = b"Packages";

/// An open database.
pub(super) struct Database<'a> {
    store: &'a Store<'a>,
    wal: Option<(&'a Store<'a>, Wal)>,
    page_size: u32,
    /// Bytes of a page that are not reserved at its end.
    usable: u32,
}

/// A page of a b-tree.
struct Page {
    number: u32,
    bytes: Vec<u8>,
    /// Where the b-tree's header stands: behind the database's on page 1.
    start: usize,
}

impl Page {
    fn corrupt(&self, why: impl Into<String>) -> Error {
        Error::corrupt(At::new(LAYER, "SQLite page").index(u64::from(self.number))).because(why)
    }

    fn kind(&self) -> u8 {
        self.bytes.get(self.start).copied().unwrap_or(0)
    }

    fn field(&self, at: usize) -> Option<usize> {
        get_be16(&self.bytes, self.start.checked_add(at)?).map(usize::from)
    }

    /// From each cell on, the rest of the page.
    fn cells(&self) -> Result<Vec<&[u8]>> {
        let header = if self.kind() == INTERIOR { 12 } else { 8_usize };
        let cell = |index: usize| {
            let at = self.field(index.checked_mul(2)?.checked_add(header)?)?;
            self.bytes.get(at..).filter(|cell| !cell.is_empty())
        };
        let cells = (0..self.field(3).unwrap_or(0)).map(cell).collect::<Option<Vec<_>>>();
        cells.ok_or_else(|| self.corrupt("a cell lies outside"))
    }
}

/// What a row of a table has.
struct Row<'a> {
    /// All of its columns as one record.
    payload: Blob<'a>,
}

/// Section 1.6, "A variable-length integer": the number and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for index in 0..8 {
        let byte = *bytes.get(index)?;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, index.checked_add(1)?));
        }
    }
    Some((value << 8 | u64::from(*bytes.get(8)?), 9))
}

/// Bytes that a value takes, by its type: section 2.1, "Record Format".
fn value_len(kind: u64) -> u64 {
    match kind {
        0 | 8..=11 => 0,
        1..=4 => kind,
        5 => 6,
        6 | 7 => 8,
        _ => kind.saturating_sub(12).div_euclid(2),
    }
}

impl<'a> Database<'a> {
    /// Reads the header, and the log of what was not yet copied into the file.
    ///
    /// # Errors
    /// When they cannot be read, or the file is no database that we understand.
    pub(super) fn load(store: &'a Store<'a>, log: Option<&'a Store<'a>>) -> Result<Self> {
        let at = || At::new(LAYER, "SQLite header").byte(0);
        let header = store.read(0, HEADER, "SQLite header")?;
        if !header.starts_with(MAGIC) {
            return Err(Error::corrupt(at()).because("it does not begin with 'SQLite format 3'"));
        }
        let page_size = match get_be16(&header, 16) {
            Some(1) => 65_536,
            size => size.map_or(0, u32::from),
        };
        let reserved = header.get(20).copied().unwrap_or(0);
        let usable = page_size.saturating_sub(u32::from(reserved));
        if !page_size.is_power_of_two() || page_size < 512 || usable < 480 {
            let why = format!("pages of {page_size} bytes, {reserved} of them reserved");
            return Err(Error::corrupt(at()).because(why));
        }
        let read_version = header.get(19).copied().unwrap_or(0);
        if !matches!(read_version, 1 | 2) {
            return Err(Error::unsupported(format!("SQLite read version {read_version}")).at(at()));
        }
        // Text encodings 2 and 3 are UTF-16; rpm never asks for them.
        if !matches!(get_be32(&header, 56), Some(0 | 1)) {
            return Err(Error::unsupported("SQLite with text in UTF-16").at(at()));
        }
        let wal = log.map(|log| Wal::load(log, page_size).map(|wal| (log, wal))).transpose()?;
        Ok(Self { store, wal, page_size, usable })
    }

    fn read(&self, number: u32) -> Result<Vec<u8>> {
        let size = narrow(self.page_size.into());
        if let Some((log, wal)) = &self.wal {
            if let Some(offset) = wal.page(number) {
                return log.read(offset, size, "WAL frame");
            }
            if wal.page_count.is_some_and(|count| number > count) {
                let at = At::new(LAYER, "SQLite page").index(u64::from(number));
                return Err(Error::corrupt(at).because("the database is shorter"));
            }
        }
        let before = number.checked_sub(1).ok_or_else(|| {
            Error::corrupt(At::new(LAYER, "SQLite page").index(0)).because("pages are counted from 1")
        })?;
        self.store.read(u64::from(before).saturating_mul(u64::from(self.page_size)), size, "SQLite page")
    }

    fn page(&self, number: u32) -> Result<Page> {
        let start = if number == 1 { HEADER } else { 0 };
        let page = Page { number, bytes: self.read(number)?, start };
        match page.kind() {
            INTERIOR | LEAF => Ok(page),
            kind => Err(page.corrupt(format!("kind {kind} in the b-tree of a table"))),
        }
    }

    /// Every row of the table whose b-tree begins at a page.
    fn rows(&self, root: u32, depth: u32, sink: &mut dyn FnMut(Row<'_>) -> Result<()>) -> Result<()> {
        let page = self.page(root)?;
        if depth > MAX_DEPTH {
            return Err(page.corrupt(format!("more than {MAX_DEPTH} levels")));
        }
        let cells = page.cells()?;
        if page.kind() == LEAF {
            return cells.into_iter().try_for_each(|cell| sink(self.row(&page, cell)?));
        }
        let deeper = depth.saturating_add(1);
        for cell in cells {
            let child = get_be32(cell, 0).ok_or_else(|| page.corrupt("a cell is cut off"))?;
            self.rows(child, deeper, sink)?;
        }
        let last = page.start.checked_add(8).and_then(|at| get_be32(&page.bytes, at));
        self.rows(last.ok_or_else(|| page.corrupt("it is too short"))?, deeper, sink)
    }

    /// Section 1.6: a leaf's cell is the payload's length, the row's number and as much of the payload as is kept here.
    fn row(&self, page: &Page, cell: &[u8]) -> Result<Row<'_>> {
        let cut = || page.corrupt("a cell is cut off");
        let (len, first) = varint(cell).ok_or_else(cut)?;
        let cell = cell.get(first..).ok_or_else(cut)?;
        let (_, second) = varint(cell).ok_or_else(cut)?;
        let cell = cell.get(second..).ok_or_else(cut)?;
        let local = narrow(self.local(len));
        let here = cell.get(..local).ok_or_else(cut)?.to_vec();
        let mut next = if wide(local) < len { get_be32(cell, local).ok_or_else(cut)? } else { 0 };
        let more = move || {
            if next == 0 {
                return Ok(None);
            }
            // Section 1.7: the number of the next page, then content.
            let bytes = self.read(next)?;
            next = get_be32(&bytes, 0).unwrap_or(0);
            Ok(bytes.get(4..narrow(self.usable.into())).map(<[u8]>::to_vec))
        };
        Ok(Row { payload: Blob::new(len, here, Box::new(more)) })
    }

    /// How much of a payload lies in the cell itself: P, U, X, M and K of section 1.6.
    fn local(&self, len: u64) -> u64 {
        let usable = u64::from(self.usable);
        let most = usable.saturating_sub(35);
        if len <= most {
            return len;
        }
        let least = usable.saturating_sub(12).saturating_mul(32).div_euclid(255).saturating_sub(23);
        // `usable` is at least 480.
        let rest = len.saturating_sub(least).checked_rem(usable.saturating_sub(4)).unwrap_or(0);
        let local = least.saturating_add(rest);
        if local <= most { local } else { least }
    }

    /// Shows every header.
    ///
    /// # Errors
    /// When the database cannot be read or is damaged; what `sink` fails with.
    pub(super) fn each(&self, sink: &mut dyn FnMut(&mut Blob<'_>) -> Result<()>) -> Result<()> {
        let mut root = None;
        self.rows(1, 0, &mut |mut row| {
            let columns = columns(&mut row.payload)?;
            let mut text = |index: usize| -> Result<Vec<u8>> {
                let (at, len) = columns.get(index).copied().unwrap_or_default();
                let end = at.saturating_add(len);
                if end > MAX_SCHEMA {
                    return Ok(Vec::new());
                }
                Ok(row.payload.first(end)?.get(narrow(at)..).unwrap_or_default().to_vec())
            };
            // type, name, tbl_name, rootpage: section 2.6, "Storage Of The SQL Database Schema".
            if text(0)? == b"table" && text(1)? == TABLE {
                let number = text(3)?.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
                root = u32::try_from(number).ok();
            }
            Ok(())
        })?;
        let Some(root) = root else {
            let why = "there is no table of packages";
            return Err(Error::corrupt(At::new(LAYER, "SQLite schema")).because(why));
        };
        self.rows(root, 0, &mut |mut row| {
            let columns = columns(&mut row.payload)?;
            // hnum, blob; the first is the row's own number and takes no bytes.
            let Some(&(start, len)) = columns.get(1) else {
                let why = "a row of the packages has no blob";
                return Err(Error::corrupt(At::new(LAYER, "SQLite record")).because(why));
            };
            let payload = &mut row.payload;
            let mut given = start;
            let more = move || {
                payload.first(given.saturating_add(1))?;
                let piece = payload.fetched().get(narrow(given)..).unwrap_or_default().to_vec();
                given = given.saturating_add(wide(piece.len()));
                Ok(Some(piece))
            };
            sink(&mut Blob::new(len, Vec::new(), Box::new(more)))
        })
    }
}

/// Where each column of a record lies in it, and its length.
fn columns(record: &mut Blob<'_>) -> Result<Vec<(u64, u64)>> {
    let cut = || Error::corrupt(At::new(LAYER, "SQLite record")).because("its header is cut off");
    let (size, mut at) = varint(record.at_most(9)?).ok_or_else(cut)?;
    if size > MAX_SCHEMA {
        return Err(cut());
    }
    let header = record.first(size)?;
    let mut found = Vec::new();
    let mut start = size;
    while at < header.len() {
        let (kind, len) = header.get(at..).and_then(varint).ok_or_else(cut)?;
        let bytes = value_len(kind);
        found.push((start, bytes));
        start = start.saturating_add(bytes);
        at = at.saturating_add(len);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_nine_bytes_uses_all_of_the_last() {
        // SQLite's own: 0x7f, 0x81 0x00 = 128, nine bytes of 0xff = -1.
        assert_eq!(varint(&[0x7f]), Some((127, 1)));
        assert_eq!(varint(&[0x81, 0x00, 9]), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9]), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0x81]), None);
    }
}
