//! The packages installed in a guest, as its own package manager would list them.

use super::evidence::Evidence;
use super::file::GuestFile;
use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::text::Text;

mod apk;
mod command;
mod dpkg;
mod pacman;
mod rpm;

pub use command::{install, remove};

/// Packages at most; a full Fedora has 60 000 to choose from.
const MAX_PACKAGES: usize = 100_000;
/// Bytes of all that is kept of them; 3000 packages take some 300 KiB.
const MAX_TEXT: usize = 64 << 20;
/// Bytes of lists of files that are read to find the owner of one; a desktop's have 30 MiB.
const MAX_LISTS: u64 = 512 << 20;

/// What is installed.
#[derive(Clone, Debug, Default)]
pub struct Packages {
    /// The manager whose database was read, if there is one: `dpkg`.
    pub manager: Option<&'static str>,
    /// Every installed package, in the database's order.
    pub installed: Vec<Package>,
    /// Packages whose installation or removal was begun and not ended, as far as the manager notes that.
    pub unfinished: Vec<Package>,
    /// Bytes kept of all of them.
    text: usize,
}

/// One package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: Text,
    /// Its version, whole: `1:2.3-4`.
    pub version: Text,
    /// Its architecture.
    pub arch: Text,
    /// Who made it: rpm's vendor, the maintainer or packager elsewhere. Empty when it does not say.
    pub maker: Text,
    /// Where the database says that it is installed.
    pub evidence: Evidence,
}

/// The package that a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The package.
    pub package: Package,
    /// The sum that the file had when it was brought, in hexadecimal digits, where the database keeps one.
    pub digest: Option<String>,
}

impl Packages {
    /// Of a manager, with nothing in it yet.
    fn of(manager: &'static str) -> Self {
        Self { manager: Some(manager), ..Self::default() }
    }

    /// Adds one.
    ///
    /// # Errors
    /// `Limit` when there are more than any system has.
    fn add(&mut self, package: Package, is_finished: bool) -> Result<()> {
        let parts = [&package.name, &package.version, &package.arch, &package.maker];
        let text = parts.iter().fold(self.text, |all, part| all.saturating_add(part.as_bytes().len()));
        let list = if is_finished { &mut self.installed } else { &mut self.unfinished };
        if list.len() >= MAX_PACKAGES || text > MAX_TEXT {
            return Err(Error::limit(format!(
                "more than {MAX_PACKAGES} packages, or {MAX_TEXT} bytes of their names"
            )));
        }
        self.text = text;
        list.push(package);
        Ok(())
    }

    /// A package by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.installed.iter().find(|package| package.name.as_bytes() == name.as_bytes())
    }

    /// The package that brought a file, of those whose names are `wanted`. The whole list is slow to ask: each package's
    /// own list of files is read.
    ///
    /// # Errors
    /// When the lists of files cannot be read.
    pub fn owner(&self, tree: &Tree, path: &[u8], wanted: &dyn Fn(&Text) -> bool) -> Result<Option<Owner>> {
        match self.manager {
            Some("dpkg") => dpkg::owner(tree, self, path, wanted),
            Some("rpm") => rpm::owner(tree, path, wanted),
            Some("apk") => apk::owner(tree, path, wanted),
            Some("pacman") => pacman::owner(tree, self, path, wanted),
            _ => Ok(None),
        }
    }
}

/// One manager's reader; `None` when its database is not there.
type Reader = fn(&Tree) -> Result<Option<Packages>>;

/// In this order: a Debian may have an empty database of rpm, for the tools.
const READERS: &[Reader] = &[dpkg::read, rpm::read, apk::read, pacman::read];

/// Reads a guest's package database; empty, without a manager, when it has none. Of several the first that lists
/// anything is the system's own.
///
/// # Errors
/// When it is there but cannot be read.
pub fn read(tree: &Tree) -> Result<Packages> {
    let mut empty = None;
    for read in READERS {
        match read(tree)? {
            Some(packages) if !packages.installed.is_empty() => return Ok(packages),
            packages => empty = empty.or(packages),
        }
    }
    Ok(empty.unwrap_or_default())
}

/// Takes what one list of files has from what may be read of all.
fn spend(left: &mut u64, list: &GuestFile) -> Result<()> {
    let rest = left.checked_sub(crate::num::wide(list.bytes.len()));
    *left = rest.ok_or_else(|| Error::limit(format!("more than {MAX_LISTS} bytes of lists of files")))?;
    Ok(())
}
