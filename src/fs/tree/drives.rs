//! Names at a tree's root that no listing shows: the drives of a Windows system, by which its links reach them.
//!
//! ```text
//!   C:          ─▶ .     a link to the tree's own root
//!   D:          ─▶       the root of another volume
//!   d:          ─▶ D:    however it is written
//!   Volume{…}   ─▶ D:    a link to the drive of that volume
//! ```
//! Each directory is reached under one name only, the others are links to it: whoever shows the tree elsewhere need not
//! know of a directory with two names.

use super::Node;
use crate::error::{Error, Result};
use crate::fs::{DirEntry, FileSystem, FileType, FsFacts, Ino, Stat};
use crate::num::{narrow, wide};
use std::ops::ControlFlow;
use std::sync::Arc;

/// [`Node::fs`] of the links: no tree has as many mounts.
pub(super) const LINKS: usize = usize::MAX - 1;
/// Names at most. Windows has 26 letters; each volume may have a name by its GUID besides.
const MAX_NAMES: usize = 256;

/// One such name.
#[derive(Debug)]
struct Name {
    name: Vec<u8>,
    /// The mount that it is the name of; a link has none.
    mount: Option<usize>,
}

/// The drives of one tree.
#[derive(Debug)]
pub(super) struct Drives {
    names: Vec<Name>,
    /// Where the link of each name leads: that of a mount to its one true name.
    links: Arc<dyn FileSystem>,
}

impl Default for Drives {
    fn default() -> Self {
        Self { names: Vec::new(), links: Arc::new(Links(Vec::new())) }
    }
}

impl Drives {
    pub(super) const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The file system of the links.
    pub(super) fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.links
    }

    /// One more name: of a mount, or of a link to `target`. A name that is taken stays with who has it.
    ///
    /// # Errors
    /// `Limit` when there are too many.
    pub(super) fn add(&mut self, name: &[u8], mount: Option<usize>, target: &[u8]) -> Result<()> {
        if self.at(name).is_some() {
            return Ok(());
        }
        if self.names.len() >= MAX_NAMES {
            return Err(Error::limit(format!("more than {MAX_NAMES} names of drives")));
        }
        self.names.push(Name { name: name.to_vec(), mount });
        let targets = (0..).zip(&self.names).map(|(at, one)| {
            match (one.mount, at == self.names.len().saturating_sub(1)) {
                (Some(_), _) => one.name.clone(),
                (None, true) => target.to_vec(),
                (None, false) => self.links.readlink(Ino(wide(at))).unwrap_or_default(),
            }
        });
        self.links = Arc::new(Links(targets.collect()));
        Ok(())
    }

    fn at(&self, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|one| one.name.eq_ignore_ascii_case(name))
    }

    /// The mount of this very name, or the link by which it is reached.
    pub(super) fn lookup(&self, name: &[u8]) -> Option<std::result::Result<usize, Node>> {
        let at = self.at(name)?;
        let found = self.names.get(at)?;
        Some(match found.mount {
            Some(mount) if found.name == name => Ok(mount),
            _ => Err(Node { fs: LINKS, ino: Ino(wide(at)) }),
        })
    }

    /// Is it the name of a drive, whether we have that drive or not?
    pub(super) fn is_drive(name: &[u8]) -> bool {
        matches!(name, [letter, b':'] if letter.is_ascii_alphabetic())
            || name.get(..7).is_some_and(|head| head.eq_ignore_ascii_case(b"volume{")) && name.ends_with(b"}")
    }
}

/// A file system of nothing but links, by number.
#[derive(Debug)]
struct Links(Vec<Vec<u8>>);

impl FileSystem for Links {
    fn root(&self) -> Ino {
        Ino(0)
    }

    fn lookup(&self, _dir: Ino, _name: &[u8]) -> Result<Option<Ino>> {
        Ok(None)
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let size = wide(self.readlink(ino)?.len());
        Ok(Stat { kind: FileType::Symlink, mode: 0o777, nlink: 1, size, ..Stat::empty_dir(ino) })
    }

    fn readdir(
        &self,
        _dir: Ino,
        _from: u64,
        _sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Ok(())
    }

    fn read_at(&self, _ino: Ino, _buf: &mut [u8], _offset: u64) -> Result<usize> {
        Err(Error::unsupported("reading a link"))
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        self.0.get(narrow(ino.0)).cloned().ok_or_else(|| Error::not_found("drive"))
    }

    fn facts(&self) -> FsFacts {
        FsFacts::default()
    }
}
