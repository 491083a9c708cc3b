//! rpm's database: one header a package, in one of three containers. SQLite since Fedora 33 and RHEL 9, NDB in SUSE since
//! 15.4, Berkeley DB everywhere before. Only what is asked for is read of each header.

use super::{Owner, Package, Packages};
use crate::error::{At, Error, Result};
use crate::fs::tree::Tree;
use crate::text::{Text, escape};
use blob::Blob;
use header::{Header, tag};
use sqlite::Database;
use store::Store;

mod bdb;
mod blob;
mod header;
mod ndb;
mod sqlite;
mod store;
mod wal;

/// The layer's name in errors.
const LAYER: &str = "rpm database";

/// Where a database can lie. Usually all but one are links to that one.
const DIRS: &[&str] = &["/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm"];

/// What a database can be called, newest kind first: `rpmdb --rebuilddb` removes the file of the kind it came from, an
/// upgrade of the whole system may leave it.
const FILES: &[&str] = &["rpmdb.sqlite", "Packages.db", "Packages"];

/// Reads the list; `None` when there is no database.
pub(super) fn read(tree: &Tree) -> Result<Option<Packages>> {
    let mut found = Packages::of("rpm");
    let is_there = each(tree, &mut |store, blob| {
        let mut header = Header::load(blob)?;
        found.add(package(store, &mut header)?, true)
    })?;
    Ok(is_there.then_some(found))
}

/// The package that brought a file, of those that `wanted` names.
pub(super) fn owner(tree: &Tree, path: &[u8], wanted: &dyn Fn(&Text) -> bool) -> Result<Option<Owner>> {
    let mut found = None;
    each(tree, &mut |store, blob| {
        if found.is_some() {
            return Ok(());
        }
        let mut header = Header::load(blob)?;
        if !header.string(tag::NAME)?.is_some_and(|name| wanted(&name)) {
            return Ok(());
        }
        if let Some(index) = file_index(&mut header, path)? {
            let digests = header.strings(tag::FILE_DIGESTS)?;
            let digest = digests.get(index).map(|digest| String::from_utf8_lossy(digest).into_owned());
            let digest = digest.filter(|digest| !digest.is_empty());
            found = Some(Owner { package: package(store, &mut header)?, digest });
        }
        Ok(())
    })?;
    Ok(found)
}

/// Shows every header of the database; `false` when there is none.
fn each(tree: &Tree, sink: &mut dyn FnMut(&Store<'_>, &mut Blob<'_>) -> Result<()>) -> Result<bool> {
    for dir in DIRS {
        for file in FILES {
            let path = format!("{dir}/{file}");
            let named = |error: Error| error.context(escape(path.as_bytes()));
            let Some(store) = Store::open(tree, &path).map_err(named)? else { continue };
            container(tree, &path, &store, &mut |blob| sink(&store, blob)).map_err(named)?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn container(
    tree: &Tree,
    path: &str,
    store: &Store<'_>,
    sink: &mut dyn FnMut(&mut Blob<'_>) -> Result<()>,
) -> Result<()> {
    let start = store.read(0, crate::num::narrow(store.size().min(512)), "start")?;
    if start.starts_with(ndb::MAGIC) {
        return ndb::each(store, sink);
    }
    if start.starts_with(sqlite::MAGIC) {
        refuse_hot_journal(tree, path)?;
        let log = Store::open(tree, &format!("{path}-wal"))?;
        return Database::load(store, log.as_ref())?.each(sink);
    }
    if bdb::is_hash(&start) {
        return bdb::each(store, sink);
    }
    Err(Error::unsupported("it is of no kind of database that rpm has"))
}

/// A rollback journal that was not taken back: the database has half of a transaction in it ("Database File Format",
/// section 3).
fn refuse_hot_journal(tree: &Tree, path: &str) -> Result<()> {
    const MAGIC: &[u8] = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7";
    let Some(journal) = Store::open(tree, &format!("{path}-journal"))? else { return Ok(()) };
    let start = journal.read(0, crate::num::narrow(journal.size().min(8)), "journal")?;
    if start == MAGIC {
        let why = "half of a transaction is in the database, and its journal would take that back";
        return Err(Error::corrupt(At::new(LAYER, "journal"))
            .because(why)
            .help("run rpm -qa once in the guest"));
    }
    Ok(())
}

fn package(store: &Store<'_>, header: &mut Header<'_, '_>) -> Result<Package> {
    let mut text = |tag| header.string(tag).map(Option::unwrap_or_default);
    let (name, version, release) = (text(tag::NAME)?, text(tag::VERSION)?, text(tag::RELEASE)?);
    let (arch, maker) = (text(tag::ARCH)?, text(tag::VENDOR)?);
    let epoch = header.number(tag::EPOCH)?.map(|epoch| format!("{epoch}:")).unwrap_or_default();
    let version = [epoch.as_bytes(), version.as_bytes(), b"-", release.as_bytes()].concat();
    Ok(Package {
        name,
        version: Text::new(version),
        arch,
        maker,
        evidence: store.evidence("installed package"),
    })
}

/// Which file of a package a path is.
fn file_index(header: &mut Header<'_, '_>, path: &[u8]) -> Result<Option<usize>> {
    let slash = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at.saturating_add(1));
    let (dir, base) = path.split_at_checked(slash).unwrap_or((b"", path));
    let bases = header.strings(tag::BASE_NAMES)?;
    let same: Vec<usize> =
        (0..).zip(bases).filter(|(_, name)| *name == base).map(|(index, _)| index).collect();
    if !same.is_empty() {
        let dirs: Vec<bool> = header.strings(tag::DIR_NAMES)?.into_iter().map(|name| name == dir).collect();
        let indexes = header.numbers(tag::DIR_INDEXES, None)?.unwrap_or_default();
        let is_here = |file: &usize| {
            let dir = indexes.get(*file).and_then(|dir| usize::try_from(*dir).ok());
            dir.and_then(|dir| dirs.get(dir)).copied().unwrap_or(false)
        };
        if let Some(file) = same.into_iter().find(is_here) {
            return Ok(Some(file));
        }
    }
    Ok(header.strings(tag::OLD_FILE_NAMES)?.into_iter().position(|name| name == path))
}
