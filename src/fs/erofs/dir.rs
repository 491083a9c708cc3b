//! Directories: blocks of records of twelve bytes, sorted by name, and behind them the names.
//!
//! ```text
//! │ inode, place of name, type │ inode, place of name, type │ ... │ name, name, ...            │
//!   ^ the place of the first name tells how many records there are        last one: to a NUL or the end
//! ```
//! Names are sorted over all blocks, so one is found by halving. A place in a directory is the byte of a record.

use super::Erofs;
use super::inode::Inode;
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::{DirEntry, FileType, Ino};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le64};
use std::cmp::Ordering;
use std::ops::ControlFlow;

/// Bytes of a record.
const RECORD: usize = 12;
/// Bytes of a name at the most.
const MAX_NAME: usize = 255;

fn kind(number: u8) -> Option<FileType> {
    Some(match number {
        1 => FileType::File,
        2 => FileType::Dir,
        3 => FileType::Char,
        4 => FileType::Block,
        5 => FileType::Fifo,
        6 => FileType::Socket,
        7 => FileType::Symlink,
        _ => return None,
    })
}

/// The records of one block.
struct Records {
    bytes: Vec<u8>,
    count: usize,
    at: At,
}

/// A record with its name.
struct Record<'a> {
    ino: Ino,
    kind: Option<FileType>,
    name: &'a [u8],
}

impl Records {
    fn parse(bytes: Vec<u8>, at: At) -> Result<Self> {
        let first = usize::from(get_le16(&bytes, 8).unwrap_or(0));
        if first < RECORD || first >= bytes.len() || !first.is_multiple_of(RECORD) {
            return Err(
                Error::corrupt(at).because(format!("its first name at byte {first} of {}", bytes.len()))
            );
        }
        Ok(Self { count: first / RECORD, bytes, at })
    }

    fn name_at(&self, number: usize) -> Option<usize> {
        let at = number.checked_mul(RECORD)?.checked_add(8)?;
        get_le16(&self.bytes, at).map(usize::from)
    }

    /// Record `number`, which is below `count`.
    fn get(&self, number: usize) -> Result<Record<'_>> {
        let bad = |why: String| Error::corrupt(self.at.clone()).because(why);
        let raw = self.bytes.get(number.saturating_mul(RECORD)..).unwrap_or_default();
        let start = self.name_at(number).unwrap_or(0);
        let is_last = number.saturating_add(1) == self.count;
        let end =
            if is_last { self.bytes.len() } else { self.name_at(number.saturating_add(1)).unwrap_or(0) };
        let name =
            self.bytes.get(start..end).ok_or_else(|| bad(format!("a name at bytes {start} to {end}")))?;
        let len =
            if is_last { name.iter().position(|byte| *byte == 0).unwrap_or(name.len()) } else { name.len() };
        let name = name.get(..len).unwrap_or_default();
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(bad(format!("a name of {} bytes", name.len())));
        }
        let kind = raw.get(10).and_then(|number| kind(*number));
        Ok(Record { ino: Ino(get_le64(raw, 0).unwrap_or(0)), kind, name })
    }
}

impl Erofs {
    fn dir(&self, ino: Ino) -> Result<Inode> {
        let inode = self.inode(ino.0)?;
        if inode.kind != FileType::Dir {
            let what = format!("inode {ino} is a {}, not a directory", inode.kind.name());
            return Err(Error::new(ErrorKind::Denied, what));
        }
        Ok(inode)
    }

    /// The records of a directory's block.
    fn records(&self, inode: &Inode, block: u64) -> Result<Records> {
        let start = block.saturating_mul(self.sb.block_size());
        let len = inode.size.saturating_sub(start).min(self.sb.block_size());
        let at = At::new("erofs", "directory block").index(block).byte(inode.byte);
        Records::parse(self.small_part(inode, start, len)?, at)
    }

    pub(super) fn list(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let inode = self.dir(dir)?;
        let size = self.sb.block_size();
        let mut at = from;
        while at < inode.size {
            let block = at >> self.sb.block_log;
            let start = block.saturating_mul(size);
            let records = self.records(&inode, block)?;
            let first = narrow(at.saturating_sub(start)).div_ceil(RECORD);
            for number in first..records.count {
                let record = records.get(number)?;
                let next = number.saturating_add(1);
                let next = if next == records.count {
                    start.saturating_add(size)
                } else {
                    start.saturating_add(wide(next.saturating_mul(RECORD)))
                };
                if record.name == b"." || record.name == b".." {
                    continue;
                }
                let entry = DirEntry { ino: record.ino, kind: record.kind, name: record.name, next };
                if sink(entry).is_break() {
                    return Ok(());
                }
            }
            at = start.saturating_add(size);
        }
        Ok(())
    }

    pub(super) fn find(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let inode = self.dir(dir)?;
        let (mut low, mut high) = (0, inode.size.div_ceil(self.sb.block_size()));
        // The last block whose first name is not behind the one that is looked for.
        while low < high {
            let middle = low.midpoint(high);
            let records = self.records(&inode, middle)?;
            match records.get(0)?.name.cmp(name) {
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(Some(records.get(0)?.ino)),
                Ordering::Less => low = middle.saturating_add(1),
            }
        }
        let Some(block) = low.checked_sub(1) else { return Ok(None) };
        let records = self.records(&inode, block)?;
        let (mut low, mut high) = (0, records.count);
        while low < high {
            let middle = low.midpoint(high);
            let record = records.get(middle)?;
            match record.name.cmp(name) {
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(Some(record.ino)),
                Ordering::Less => low = middle.saturating_add(1),
            }
        }
        Ok(None)
    }
}
