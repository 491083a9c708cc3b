//! The packages installed in a guest, as its own package manager would list them.

use super::evidence::Evidence;
use super::file;
use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::text::Text;

mod dpkg;

/// What is installed.
#[derive(Clone, Debug, Default)]
pub struct Packages {
    /// The manager whose database was read, if there is one: `dpkg`.
    pub manager: Option<&'static str>,
    /// Every installed package, in the database's order.
    pub installed: Vec<Package>,
}

/// One package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: Text,
    /// Its version.
    pub version: Text,
    /// Its architecture.
    pub arch: Text,
    /// Where the database says that it is installed.
    pub evidence: Evidence,
}

impl Packages {
    /// A package by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.installed.iter().find(|package| package.name.as_bytes() == name.as_bytes())
    }
}

/// Databases of other managers: a directory or file that has one, and its name.
const UNREAD: &[(&str, &str)] = &[
    ("/var/lib/rpm/rpmdb.sqlite", "rpm"),
    ("/usr/lib/sysimage/rpm/rpmdb.sqlite", "rpm"),
    ("/var/lib/rpm/Packages.db", "rpm"),
    ("/usr/lib/sysimage/rpm/Packages.db", "rpm"),
    ("/var/lib/rpm/Packages", "rpm"),
    ("/lib/apk/db/installed", "apk"),
    ("/var/lib/pacman/local", "pacman"),
];

/// Reads a guest's package database; empty, without a manager, when it has none.
///
/// # Errors
/// When it is there but cannot be read, or is of a kind that is not read.
pub fn read(tree: &Tree) -> Result<Packages> {
    if let Some(packages) = dpkg::read(tree)? {
        return Ok(packages);
    }
    for (path, manager) in UNREAD {
        if file::exists(tree, path)? {
            return Err(Error::unsupported(format!("{path}: the package database of {manager}")));
        }
    }
    Ok(Packages::default())
}
