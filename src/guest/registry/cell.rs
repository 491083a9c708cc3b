//! A cell: the unit in which a hive keeps everything. Four bytes say how long it is, negative when it is in use; what
//! is in it, says whoever points at it.

use super::at;
use super::bins::Bins;
use crate::error::{Error, Result};
use crate::num::wide;

/// An offset that points nowhere.
pub(super) const NIL: u32 = u32::MAX;
/// Bytes of the size before the data.
const SIZE: u64 = 4;

/// A cell that is in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    /// What it is, for messages.
    what: &'static str,
    /// Where it begins, from the first bin.
    offset: u32,
    /// Bytes of data in it.
    pub(super) len: u64,
}

impl Cell {
    /// The cell at an offset that something points to as its `what`.
    ///
    /// # Errors
    /// `Corrupt` when no cell that is in use can begin there.
    pub(super) fn at(bins: &Bins, offset: u32, what: &'static str) -> Result<Self> {
        let corrupt = |why: String| Error::corrupt(at(what, offset)).because(why);
        if offset == NIL {
            return Err(Error::corrupt(crate::error::At::new("registry", what)).because("it is not there"));
        }
        if !offset.is_multiple_of(8) {
            return Err(corrupt("cells begin at multiples of 8".to_owned()));
        }
        let mut size = [0; 4];
        if let Some(why) = bins.lack(offset.into(), SIZE) {
            return Err(corrupt(why));
        }
        bins.read_at(&mut size, u64::from(offset)).map_err(|error| error.context(at(what, offset)))?;
        let size = i32::from_le_bytes(size);
        if size >= 0 {
            return Err(corrupt(format!("cell size {size}: it is not in use")));
        }
        let size = u64::from(size.unsigned_abs());
        if size < 8 || !size.is_multiple_of(8) || u64::from(offset).saturating_add(size) > bins.len() {
            return Err(corrupt(format!("a cell of {size} bytes, in bins of {}", bins.len())));
        }
        Ok(Self { what, offset, len: size.saturating_sub(SIZE) })
    }

    /// Fills `buf` from byte `from` of the data on.
    ///
    /// # Errors
    /// `Corrupt` when the cell ends before; what the hive's file reports.
    pub(super) fn read(self, bins: &Bins, buf: &mut [u8], from: u64) -> Result<()> {
        let len = wide(buf.len());
        if from.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(self.corrupt(format!("{len} bytes from its byte {from} on, it has {}", self.len)));
        }
        let start = u64::from(self.offset).saturating_add(SIZE).saturating_add(from);
        if let Some(why) = bins.lack(start, len) {
            return Err(self.corrupt(why));
        }
        bins.read_at(buf, start).map_err(|error| error.context(at(self.what, self.offset)))
    }

    /// `N` bytes of the data from byte `from` on.
    ///
    /// # Errors
    /// As [`Cell::read`].
    pub(super) fn bytes<const N: usize>(self, bins: &Bins, from: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(bins, &mut bytes, from)?;
        Ok(bytes)
    }

    /// `len` bytes of the data from byte `from` on, for a `len` of 16 bits.
    ///
    /// # Errors
    /// As [`Cell::read`].
    pub(super) fn short(self, bins: &Bins, from: u64, len: u16) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::from(len)];
        self.read(bins, &mut bytes, from)?;
        Ok(bytes)
    }

    /// The cell contradicts what points at it.
    pub(super) fn corrupt(self, why: impl Into<String>) -> Error {
        Error::corrupt(at(self.what, self.offset)).because(why)
    }
}
