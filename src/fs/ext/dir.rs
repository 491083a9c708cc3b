//! Directories: records of an inode number and a name, one behind the other in each block.
//!
//! A directory with an index (see [`super::htree`]) is the same to whoever reads it from the start: index blocks are
//! disguised as empty records. That is how names are listed here: block after block, so that a place in the directory,
//! the byte where the next record starts, stays good for ever.
//!
//! Kernel documentation, `filesystems/ext4/directory.rst`.

use super::Ext;
use super::features::Set;
use super::inode::{Inode, flag};
use super::map::Place;
use super::patch::{ADDED, Names};
use crate::budget::{Budget, Limits};
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::{DirEntry, FileType, Ino};
use crate::num::wide;
use crate::ondisk::{get_le16, get_le32};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Inode, record length, name length, type: the part of a record in front of the name, in bytes.
const HEAD: usize = 8;
/// The shortest record: a name of one byte, rounded up to a multiple of four.
const SHORTEST: usize = 12;

/// A record with a name in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) ino: u64,
    pub(super) name: &'a [u8],
    pub(super) kind: Option<FileType>,
    /// Where the record starts in its block.
    pub(super) at: usize,
    /// Where the next one starts.
    pub(super) next: usize,
}

/// The records of one block, or of one of the two parts of an inline directory. Damage is the last item.
#[derive(Debug)]
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    has_types: bool,
}

impl<'a> Records<'a> {
    pub(super) const fn new(bytes: &'a [u8], has_types: bool) -> Self {
        Self { bytes, at: 0, has_types }
    }

    fn damage(&mut self, why: String) -> Option<Result<Record<'a>>> {
        let at = At::new("ext", "directory record").byte(wide(self.at));
        self.at = self.bytes.len();
        Some(Err(Error::corrupt(at).because(why)))
    }
}

/// A record's length: in blocks of 64 KiB the sixteen bits do not reach (`ext4_rec_len_from_disk`).
fn record_len(stored: u16, block: usize) -> usize {
    let stored = usize::from(stored);
    if block < 65536 {
        stored
    } else if stored == 65535 || stored == 0 {
        block
    } else {
        (stored & 0xfffc) | ((stored & 3) << 16)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let left = self.bytes.len().saturating_sub(self.at);
            if left == 0 {
                return None;
            }
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let (Some(ino), Some(stored), Some(&[name_len, kind])) =
                (get_le32(rest, 0), get_le16(rest, 4), rest.get(6..).and_then(<[u8]>::first_chunk))
            else {
                return self.damage(format!("{left} bytes are left, too few for a record"));
            };
            let len = record_len(stored, self.bytes.len());
            let needed = HEAD.saturating_add(usize::from(name_len));
            if len < SHORTEST || !len.is_multiple_of(4) || len < needed || len > left {
                return self.damage(format!("a record of {len} bytes with {needed} in use, {left} are left"));
            }
            let at = self.at;
            self.at = at.saturating_add(len);
            if ino != 0 && name_len != 0 {
                return Some(Ok(Record {
                    ino: u64::from(ino),
                    name: rest.get(HEAD..needed).unwrap_or_default(),
                    kind: if self.has_types { file_type(kind) } else { None },
                    at,
                    next: self.at,
                }));
            }
        }
    }
}

const fn file_type(kind: u8) -> Option<FileType> {
    Some(match kind {
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

/// Directories with a damaged block that are remembered. Where there are more, a listing ends at the damage.
const MAX_BROKEN: usize = 1024;

/// Directories with a damaged block, and what is wrong with it.
pub(super) type Broken = BTreeMap<u64, Error>;

fn lock(broken: &Mutex<Broken>) -> MutexGuard<'_, Broken> {
    broken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one request may cost. A directory may have any number of blocks, so that time alone binds.
fn unhurried() -> Budget {
    Budget::new(Limits { steps: u64::MAX, ..Limits::LISTING })
}

/// What a listing does with each record, and where in the directory it stands.
type Sink<'a> = dyn FnMut(Record<'_>, u64) -> ControlFlow<()> + 'a;

impl Ext {
    fn has_types(&self) -> bool {
        self.features().has(Set::FILETYPE)
    }

    /// The inode of a directory.
    pub(super) fn directory(&self, dir: Ino) -> Result<Inode> {
        let inode = self.named_inode(dir)?;
        if inode.kind != FileType::Dir {
            return Err(Error::not_found(format!(
                "inode {dir} is a {}, not a directory; its entries",
                inode.kind.name()
            )));
        }
        Ok(inode)
    }

    /// Hands over every record of `dir` that starts at byte `from` or later.
    ///
    /// # Errors
    /// `Corrupt` where the directory is damaged; the records of its sound blocks have been handed over.
    fn records(&self, inode: &Inode, from: u64, budget: &Budget, sink: &mut Sink<'_>) -> Result<()> {
        if inode.has(flag::INLINE_DATA) {
            return self.inline_records(inode, from, sink);
        }
        let size = self.sb.block_size;
        // A hole in a directory is nothing to the kernel either; blocks that are there cannot be more than all blocks.
        let mut left = self.sb.blocks.min(self.meta.volume().len().checked_div(size).unwrap_or(0));
        let mut logical = from.checked_div(size).unwrap_or(0);
        let end = inode.size.checked_div(size).unwrap_or(0);
        let mut damage = None;
        while logical < end {
            budget.step("directory")?;
            let stretch = self.map(inode, logical, 1)?;
            let Place::At(start) = stretch.place else {
                logical = logical.saturating_add(stretch.blocks);
                continue;
            };
            for n in 0..stretch.blocks.min(end.saturating_sub(logical)) {
                budget.step("directory")?;
                left = left.checked_sub(1).ok_or_else(|| {
                    Error::corrupt(inode.at()).because("a directory of more blocks than the file system has")
                })?;
                let byte = start.saturating_add(n).saturating_mul(size);
                let logical = logical.saturating_add(n);
                let base = logical.saturating_mul(size);
                let read = self.meta.near(byte, size).and_then(|bytes| {
                    self.check_directory(inode, logical, &bytes, byte)?;
                    self.block_records(inode, &bytes, byte, base, from, sink)
                });
                match read {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return Ok(()),
                    // The names in the other blocks are as good as before.
                    Err(error) if self.remember(inode.ino, &error) => drop(damage.get_or_insert(error)),
                    Err(error) => return Err(error),
                }
            }
            logical = logical.saturating_add(stretch.blocks);
        }
        damage.map_or(Ok(()), Err)
    }

    /// The records of one block that starts at byte `base` of the directory.
    fn block_records(
        &self,
        inode: &Inode,
        bytes: &[u8],
        byte: u64,
        base: u64,
        from: u64,
        sink: &mut Sink<'_>,
    ) -> Result<ControlFlow<()>> {
        for record in Records::new(bytes, self.has_types()) {
            let record = record.map_err(|error| {
                let at = At::new("ext", "directory of inode").index(inode.ino).byte(byte);
                let inside = error.place().cloned().unwrap_or_else(|| inode.at());
                Error::corrupt(at).because(format!("{inside} of this block")).because(message(&error))
            })?;
            if base.saturating_add(wide(record.at)) < from {
                continue;
            }
            if sink(record, base.saturating_add(wide(record.next))).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The records of a directory inside its inode: the parent's number, records up to byte 60, and then those in the
    /// attribute that holds the rest.
    fn inline_records(&self, inode: &Inode, from: u64, sink: &mut Sink<'_>) -> Result<()> {
        let data = self.inline_data(inode)?;
        let first = data.get(4..super::inode::BLOCK_BYTES.min(data.len())).unwrap_or_default();
        if self.block_records(inode, first, inode.byte, 4, from, sink)?.is_break() {
            return Ok(());
        }
        let rest = data.get(super::inode::BLOCK_BYTES..).unwrap_or_default();
        let base = wide(super::inode::BLOCK_BYTES);
        self.block_records(inode, rest, inode.byte, base, from, sink).map(drop)
    }

    /// Lists a directory for [`crate::fs::FileSystem::readdir`].
    ///
    /// # Errors
    /// As [`Ext::records`].
    pub(super) fn list(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let inode = self.directory(dir)?;
        let changes = self.patches.names(inode.ino);
        let mut is_done = false;
        let mut damage = None;
        if from < ADDED && !changes.is_some_and(Names::is_new) {
            let listed = self.records(&inode, from, &unhurried(), &mut |record, next| {
                let is_gone = changes.is_some_and(|changes| !changes.keeps(record.name));
                if is_gone || matches!(record.name, b"." | b"..") {
                    return ControlFlow::Continue(());
                }
                let name = self.shown_name(&inode, record.name);
                let next = sink(DirEntry { ino: Ino(record.ino), kind: record.kind, name: &name, next });
                is_done = next.is_break();
                next
            });
            damage = listed.err();
        }
        // Whoever lists page by page met the damage on an earlier page, and hears of it at the end.
        let damage = damage.or_else(|| lock(&self.broken).get(&inode.ino).cloned().filter(|_| from > 0));
        for (added, next) in changes.iter().flat_map(|changes| changes.added(from)) {
            let name = self.shown_name(&inode, &added.name);
            is_done = is_done
                || sink(DirEntry { ino: Ino(added.ino), kind: added.kind, name: &name, next }).is_break();
            if is_done {
                break;
            }
        }
        damage.filter(|_| !is_done).map_or(Ok(()), Err)
    }

    /// Remembers that a directory has a damaged block. Not so, if too many have, or if it may be read the next time.
    fn remember(&self, ino: u64, error: &Error) -> bool {
        if error.kind() != ErrorKind::Corrupt {
            return false;
        }
        let mut broken = lock(&self.broken);
        if broken.len() >= MAX_BROKEN && !broken.contains_key(&ino) {
            return false;
        }
        broken.entry(ino).or_insert_with(|| error.clone());
        true
    }

    /// Looks a name up for [`crate::fs::FileSystem::lookup`]: by the directory's index if it has a sound one, else by
    /// reading on until the name is found.
    ///
    /// # Errors
    /// `Corrupt` when the directory is damaged before the name was found.
    pub(super) fn find(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        self.find_within(dir, name, &unhurried())
    }

    /// As [`Ext::find`], for someone who looks for many names and pays for all.
    ///
    /// # Errors
    /// `Limit` also when that is more than the budget has.
    pub(super) fn find_within(&self, dir: Ino, name: &[u8], budget: &Budget) -> Result<Option<Ino>> {
        let inode = self.directory(dir)?;
        if let Some(changes) = self.patches.names(inode.ino) {
            if let Some(ino) = changes.find(name) {
                return Ok(Some(Ino(ino)));
            }
            if !changes.keeps(name) {
                return Ok(None);
            }
        }
        if let Some(answer) = self.find_by_hash(&inode, name) {
            return Ok(answer);
        }
        let mut found = None;
        self.records(&inode, 0, budget, &mut |record, _| {
            if *self.shown_name(&inode, record.name) == *name {
                found = Some(Ino(record.ino));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Looks for a name in one block of a directory.
    ///
    /// # Errors
    /// `Corrupt` when the block is damaged, or is not there.
    pub(super) fn find_in_block(&self, inode: &Inode, logical: u64, name: &[u8]) -> Result<Option<Ino>> {
        let bytes = self.directory_block(inode, logical)?;
        for record in Records::new(&bytes, self.has_types()) {
            let record = record?;
            if record.name == name {
                return Ok(Some(Ino(record.ino)));
            }
        }
        Ok(None)
    }

    /// One block of a directory.
    ///
    /// # Errors
    /// `Corrupt` when it is a hole or lies past the end.
    pub(super) fn directory_block(&self, inode: &Inode, logical: u64) -> Result<crate::fs::meta::Bytes> {
        let end = inode.size.checked_div(self.sb.block_size).unwrap_or(0);
        let place = if logical < end { self.map(inode, logical, 1)?.place } else { Place::Hole };
        match place {
            Place::At(block) => {
                let byte = block.saturating_mul(self.sb.block_size);
                let bytes = self.meta.near(byte, self.sb.block_size)?;
                self.check_directory(inode, logical, &bytes, byte)?;
                Ok(bytes)
            }
            _ => Err(Error::corrupt(inode.at())
                .because(format!("its index names block {logical}, which is not there"))),
        }
    }
}

/// What an error says without its place.
fn message(error: &Error) -> String {
    let whole = error.to_string();
    error.place().and_then(|at| whole.strip_prefix(&format!("{at}: "))).unwrap_or(&whole).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ino: u32, len: u16, name: &[u8], kind: u8) -> Vec<u8> {
        let mut bytes = ino.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend([u8::try_from(name.len()).unwrap(), kind]);
        bytes.extend(name);
        bytes.resize(usize::from(len), 0);
        bytes
    }

    fn names(bytes: &[u8]) -> (Vec<String>, bool) {
        let mut names = Vec::new();
        for record in Records::new(bytes, true) {
            match record {
                Ok(record) => names.push(String::from_utf8(record.name.to_vec()).unwrap()),
                Err(_) => return (names, true),
            }
        }
        (names, false)
    }

    #[test]
    fn deleted_records_and_the_checksum_tail_are_skipped() {
        let bytes = [
            record(12, 12, b"a", 1),
            record(0, 16, b"deleted", 1),
            record(13, 24, b"b", 2),
            record(0, 12, b"", 0xde),
        ]
        .concat();
        assert_eq!(names(&bytes), (vec!["a".to_owned(), "b".to_owned()], false));
    }

    #[test]
    fn names_before_the_damage_are_given() {
        for len in [0, 4, 8, 10, 200, u16::MAX] {
            let mut bytes = [record(12, 12, b"a", 1), record(13, 12, b"b", 1)].concat();
            bytes[16..18].copy_from_slice(&len.to_le_bytes());
            assert_eq!(names(&bytes), (vec!["a".to_owned()], true), "{len}");
        }
    }

    #[test]
    fn a_name_longer_than_its_record_is_damage() {
        let mut bytes = record(12, 12, b"abcd", 1);
        bytes[6] = 5;
        assert_eq!(names(&bytes), (Vec::new(), true));
    }

    #[test]
    fn record_lengths_in_blocks_of_64_kib() {
        assert_eq!(record_len(12, 65536), 12);
        assert_eq!(record_len(0, 65536), 65536);
        assert_eq!(record_len(65535, 65536), 65536);
        assert_eq!(record_len(65532, 65536), 65532);
        assert_eq!(record_len(0, 4096), 0);
    }
}
