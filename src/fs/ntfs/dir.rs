//! Directories: indexes of names. A file with a long name may have a short one beside it, for DOS: that is found and not
//! listed.

use super::file::namespace;
use super::index::Entry;
use super::record::Reference;
use super::stat::{Standard, attribute};
use super::volume::Volume;
use super::{file::File, mft, name};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::unicode::units_le;
use crate::fs::{DirEntry, FileType, Ino};
use crate::ondisk::get_le32;
use std::ops::ControlFlow;

/// The name of a directory's index.
const NAMES: &str = "$I30";

/// A name in a directory: a `$FILE_NAME` that has not been copied.
#[derive(Clone, Copy)]
struct Key<'b>(&'b [u8]);

impl Key<'_> {
    fn units(&self) -> impl Iterator<Item = u16> {
        let len = usize::from(self.0.get(0x40).copied().unwrap_or(0)).saturating_mul(2);
        units_le(self.0.get(0x42..).and_then(|rest| rest.get(..len)).unwrap_or_default())
    }

    fn namespace(&self) -> u8 {
        self.0.get(0x41).copied().unwrap_or(namespace::POSIX)
    }

    /// What the file is, if its attributes leave no doubt: system files may be Interix's links and devices.
    fn kind(&self) -> Option<FileType> {
        let bits = get_le32(self.0, 0x38)?;
        if bits & (attribute::REPARSE_POINT | attribute::SYSTEM) != 0 {
            return None;
        }
        Some(if bits & attribute::DIRECTORY == 0 { FileType::File } else { FileType::Dir })
    }
}

/// Is this one of the file system's own files?
fn is_meta(number: u64, first: Option<u16>) -> bool {
    number < mft::FIRST_USER && number != mft::ROOT && first == Some(u16::from(b'$'))
}

fn must_be_dir(file: &File) -> Result<()> {
    if file.is_dir() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Denied, format!("inode {} is not a directory", file.number)))
}

impl Volume {
    /// The file called `name` in a directory: by exactly this name if there is one, else by one that differs in case,
    /// unless the directory was told to tell case apart.
    ///
    /// # Errors
    /// When the directory is damaged where the name would stand.
    pub(super) fn child(&self, dir: u64, name: &[u16]) -> Result<Option<Reference>> {
        let dir = &*self.file(dir)?;
        must_be_dir(dir)?;
        let upcase = self.upcase();
        let order = |key: &[u8]| upcase.compare(Key(key).units(), name.iter().copied());
        let tells_case_apart = Standard::of(dir).is_ok_and(|standard| standard.is_case_sensitive());
        let (mut exact, mut similar): (Option<Reference>, Option<(bool, Reference)>) = (None, None);
        self.seek(dir, NAMES, &order, &mut |entry| {
            let key = Key(entry.key);
            if key.units().eq(name.iter().copied()) {
                exact = Some(entry.reference());
                return ControlFlow::Break(());
            }
            let is_short = key.namespace() == namespace::DOS;
            if !tells_case_apart && similar.is_none_or(|(was_short, _)| was_short && !is_short) {
                similar = Some((is_short, entry.reference()));
            }
            ControlFlow::Continue(())
        })?;
        Ok(exact.or(similar.map(|(_, reference)| reference)))
    }

    /// Streams a directory's names.
    ///
    /// # Errors
    /// When the directory is damaged; what is sound has been handed over.
    pub(super) fn list(
        &self,
        dir: &File,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        must_be_dir(dir)?;
        if dir.number == mft::EXTEND && !self.shows_meta {
            return Ok(());
        }
        self.each(dir, NAMES, from, &mut |entry: Entry<'_>| {
            let key = Key(entry.key);
            let number = entry.reference().number();
            let is_hidden = is_meta(number, key.units().next()) && !self.shows_meta;
            let is_self = number == mft::ROOT && key.units().eq([u16::from(b'.')]);
            if key.namespace() == namespace::DOS || is_hidden || is_self {
                return ControlFlow::Continue(());
            }
            let name = name::encode(key.units());
            sink(DirEntry { ino: Ino(number), kind: key.kind(), name: &name, next: entry.next })
        })
    }
}
