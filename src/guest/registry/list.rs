//! The list of a key's subkeys: one leaf, or an index root with many leaves. A leaf has, beside the cell of each subkey,
//! a hint of its name, so that a search reads few of them.
//!
//! ```text
//! li   cell, cell, ..            Index leaf, and every leaf below an index root of Windows 2000
//! lf   cell + 4 characters, ..   Fast leaf, from Windows NT 4 on
//! lh   cell + hash, ..           Hash leaf, from Windows XP on
//! ri   cell of a leaf, ..        Index root, from some 500 or 1000 subkeys on
//! ```

use super::cell::Cell;
use super::hive::Hive;
use super::{at, name};
use crate::error::{Error, Result};
use crate::num::wide;
use crate::ondisk::get_le32;
use std::vec::IntoIter;

/// The smallest cell that a key fits in: no hive has room for more.
const KEY_CELL: u64 = 80;

/// What a leaf says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    Nothing,
    /// Its first characters, if they are below 256.
    Start([u8; 4]),
    /// That of its upper case.
    Hash(u32),
}

/// A subkey, as its list has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// The cell of its key node.
    pub(super) offset: u32,
    hint: Hint,
}

impl Entry {
    /// Can it be the one of this name? Windows goes by the hints alone, and we do where letters of the name have no
    /// other case than in ASCII.
    pub(super) fn may_be(&self, name: &str) -> bool {
        if !name.is_ascii() {
            return true;
        }
        match self.hint {
            Hint::Nothing => true,
            Hint::Start([0, ..]) => true,
            Hint::Start(start) => {
                let mut padded = [0; 4];
                padded.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
                padded.eq_ignore_ascii_case(&start)
            }
            Hint::Hash(hash) => hash == name::hash(name.as_bytes()),
        }
    }
}

/// The entries of all leaves of a list. An unreadable leaf is an error in their place.
#[derive(Debug)]
pub(super) struct Leaves {
    hive: Hive,
    /// The cell of the whole list.
    offset: u32,
    /// Cells of leaves to come; first the list itself.
    leaves: IntoIter<u32>,
    is_top: bool,
    entries: IntoIter<Entry>,
    /// How many the key says there are.
    count: u32,
    /// How many were listed.
    listed: u32,
    /// Was one of the leaves damaged, so that the numbers need not agree?
    is_damaged: bool,
    is_over: bool,
}

impl Leaves {
    /// The list in a cell, for a key that says that it has `count` subkeys.
    pub(super) fn new(hive: &Hive, offset: u32, count: u32) -> Self {
        let leaves = if count == 0 { Vec::new() } else { vec![offset] };
        Self {
            hive: hive.clone(),
            offset,
            leaves: leaves.into_iter(),
            is_top: true,
            entries: Vec::new().into_iter(),
            count,
            listed: 0,
            is_damaged: false,
            is_over: false,
        }
    }

    fn corrupt(&self, why: impl Into<String>) -> Error {
        Error::corrupt(at("list of subkeys", self.offset)).because(why)
    }

    /// Ends it; `true` if it had not ended before.
    pub(super) fn stop(&mut self) -> bool {
        !std::mem::replace(&mut self.is_over, true)
    }

    /// Reads a leaf, or an index root in place of the first.
    fn leaf(&mut self, offset: u32) -> Result<()> {
        let bins = self.hive.bins();
        let cell = Cell::at(bins, offset, "list of subkeys")?;
        let [s0, s1, c0, c1] = cell.bytes(bins, 0)?;
        let count = u16::from_le_bytes([c0, c1]);
        let is_top = std::mem::replace(&mut self.is_top, false);
        let width: u16 = match &[s0, s1] {
            b"li" => 4,
            b"ri" if is_top => 4,
            b"lf" | b"lh" => 8,
            b"ri" => return Err(cell.corrupt("an index root inside an index root")),
            _ => return Err(cell.corrupt("it begins with none of li, lf, lh, ri")),
        };
        let mut bytes = vec![0; usize::from(count).saturating_mul(usize::from(width))];
        if wide(bytes.len()) > cell.len {
            return Err(cell.corrupt(format!("{count} entries in {} bytes", cell.len)));
        }
        cell.read(bins, &mut bytes, 4)?;
        let entries = bytes.chunks_exact(usize::from(width));
        let offset_of = |entry: &[u8]| get_le32(entry, 0).unwrap_or(super::cell::NIL);
        if &[s0, s1] == b"ri" {
            self.leaves = entries.map(offset_of).collect::<Vec<_>>().into_iter();
            return Ok(());
        }
        let hint = |entry: &[u8]| match (s1, entry.get(4..).and_then(|hint| hint.first_chunk().copied())) {
            (b'f', Some(start)) => Hint::Start(start),
            (b'h', Some(hash)) => Hint::Hash(u32::from_le_bytes(hash)),
            _ => Hint::Nothing,
        };
        let entries = entries.map(|entry| Entry { offset: offset_of(entry), hint: hint(entry) });
        self.entries = entries.collect::<Vec<_>>().into_iter();
        Ok(())
    }
}

impl Iterator for Leaves {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            if let Some(entry) = self.entries.next() {
                self.listed = self.listed.saturating_add(1);
                if u64::from(self.listed) > self.hive.room(KEY_CELL) {
                    self.is_over = true;
                    return Some(Err(self.corrupt("more subkeys than the hive has room for")));
                }
                return Some(Ok(entry));
            }
            let Some(offset) = self.leaves.next() else {
                self.is_over = true;
                let agrees = self.is_damaged || self.listed == self.count;
                let why = || format!("the key has {} subkeys, and {} are listed", self.count, self.listed);
                return (!agrees).then(|| Err(self.corrupt(why())));
            };
            if let Err(error) = self.leaf(offset) {
                self.is_damaged = true;
                return Some(Err(error));
            }
        }
        None
    }
}
