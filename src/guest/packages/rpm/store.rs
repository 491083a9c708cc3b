//! A store: the file of a database, read at offsets and never more of it in all than a sound database asks for, so that
//! pages which a crafted one uses again and again end the work.

use super::LAYER;
use crate::error::{At, Error, Result};
use crate::fs::FileType;
use crate::fs::tree::{Node, Tree};
use crate::guest::evidence::Evidence;
use crate::num::wide;
use crate::text::escape;
use std::cell::Cell;

/// Bytes read of one database at most, however large its file says that it is. The largest seen has 400 MiB.
const MAX_READ: u64 = 4 << 30;
/// What may be read above twice the file's size: pages are read whole, the first one more than once.
const SPARE: u64 = 1 << 20;

/// An open database file.
#[derive(Debug)]
pub(super) struct Store<'a> {
    tree: &'a Tree,
    node: Node,
    path: Vec<u8>,
    size: u64,
    left: Cell<u64>,
}

impl<'a> Store<'a> {
    /// The regular file at a path; `None` when nothing is there.
    ///
    /// # Errors
    /// When it cannot be looked at, or is no regular file.
    pub(super) fn open(tree: &'a Tree, path: &str) -> Result<Option<Self>> {
        let Some(node) = tree.find(path.as_bytes())? else { return Ok(None) };
        let stat = tree.stat(node)?;
        if stat.kind != FileType::File {
            let what = format!("{path} is a {} where a file is expected", stat.kind.name());
            return Err(Error::unsupported(what));
        }
        let left = stat.size.saturating_mul(2).saturating_add(SPARE).min(MAX_READ);
        let path = path.as_bytes().to_vec();
        Ok(Some(Self { tree, node, path, size: stat.size, left: Cell::new(left) }))
    }

    /// Its length in bytes.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// `len` bytes from `offset` on.
    ///
    /// # Errors
    /// `Corrupt` when the file ends before them, `Limit` when more was asked than a sound database needs.
    pub(super) fn read(&self, offset: u64, len: usize, structure: &'static str) -> Result<Vec<u8>> {
        let at = || At::new(LAYER, structure).byte(offset);
        if offset.checked_add(wide(len)).is_none_or(|end| end > self.size) {
            let why = format!("{len} bytes, but {} ends at {:#x}", escape(&self.path), self.size);
            return Err(Error::corrupt(at()).because(why));
        }
        let Some(left) = self.left.get().checked_sub(wide(len)) else {
            let what = format!("{}: its structures lie over one another", escape(&self.path));
            return Err(Error::limit(what).at(at()));
        };
        self.left.set(left);
        let mut bytes = vec![0; len];
        let read = self.tree.read_at(self.node, &mut bytes, offset)?;
        if read != len {
            return Err(Error::corrupt(at()).because(format!("only {read} of {len} bytes are there")));
        }
        Ok(bytes)
    }

    /// The file as evidence.
    pub(super) fn evidence(&self, what: &str) -> Evidence {
        Evidence::new(what).on(self.tree.volume(self.node)).path(&self.path)
    }
}
