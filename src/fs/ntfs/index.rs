//! Indexes: sorted keys in a tree of blocks, its root in the record. Directories are indexes of names; `$Secure`, `$ObjId`,
//! `$Reparse` and `$Quota` have others ("view indexes").
//!
//! ```text
//! $INDEX_ROOT        0 type of the keys  4 collation  8 bytes in a block  | header at 10 | entries
//! $INDEX_ALLOCATION  blocks: `INDX`, fix-up, 10 own VCN | header at 18 | entries
//! $BITMAP            which blocks are in use
//! header             0 first entry at  4 end of entries  8 allocated  c has blocks below?
//! entry              0 file reference, or where data lie and how many  8 length  a key length  c flags  10 key ... VCN below
//! ```
//! Facts: linux-ntfs project, "NTFS documentation", "Index root", "Index record", "Index entry".

use super::file::File;
use super::volume::Volume;
use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::ops::ControlFlow;

/// The name of a directory's index.
pub(super) const NAMES: &str = "$I30";

/// An entry of an index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'b> {
    /// All of it.
    pub(super) bytes: &'b [u8],
    /// Its key.
    pub(super) key: &'b [u8],
    /// Where to go on after it.
    pub(super) next: u64,
}

impl Volume {
    /// Hands over every entry of an index from `from` on: 0, or the `next` of one seen before. Not in the order of keys.
    ///
    /// # Errors
    /// When the index is damaged; entries before the damage have been handed over.
    pub(super) fn each(
        &self,
        _file: &File,
        _index: &str,
        _from: u64,
        _sink: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Err(Error::unsupported("an index"))
    }

    /// Hands over the entries that are equal to what is looked for, in the order of keys; `order` compares a key with it.
    ///
    /// # Errors
    /// When the index is damaged where they stand.
    pub(super) fn seek(
        &self,
        _file: &File,
        _index: &str,
        _order: &dyn Fn(&[u8]) -> Ordering,
        _sink: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Err(Error::unsupported("an index"))
    }
}
