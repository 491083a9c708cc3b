//! Systems that ostree deploys: several trees below one root, of which the boot loader picks one.
//!
//! ```text
//!   /ostree/deploy/OS/deploy/CHECKSUM.0/   a whole system: the guest's / when it is booted
//!   /ostree/deploy/OS/var/                 its /var, shared by all deployments
//!   /boot/loader/entries/*.conf            options … ostree=/ostree/boot.1/OS/…/0, a link to one of them
//!   /                                      seen by the booted system as /sysroot
//! ```

use super::Device;
use super::boot::version_order;
use super::file::{self, MAX_CONFIG};
use crate::error::Result;
use crate::fs::tree::{Node, Tree};
use crate::fs::{FileSystem, FileType};
use std::cell::OnceCell;
use std::cmp::Ordering;
use std::sync::Arc;

const DEPLOY: &str = "/ostree/deploy";
/// Deployments of one system that are looked at; ostree keeps two or three.
const MAX_DEPLOYMENTS: usize = 64;
/// Boot entries that are looked at, of one directory and in all.
const MAX_ENTRIES: usize = 64;

/// One deployment.
#[derive(Clone, Debug)]
pub(super) struct Deployment {
    /// Its path from the physical root.
    pub(super) path: Vec<u8>,
    /// Its directory there.
    pub(super) node: Node,
    /// The `/var` of its system, from the physical root.
    pub(super) var: Vec<u8>,
    /// The volume whose boot entry names it.
    pub(super) boot: Option<String>,
}

/// The deployment that boots from a file system, if it holds any: the one that the newest boot entry names, else the
/// newest directory.
///
/// # Errors
/// When a directory on the way cannot be read.
pub(super) fn booted(
    volume: &str,
    fs: &Arc<dyn FileSystem>,
    entries: &Entries<'_>,
) -> Result<Option<Deployment>> {
    let tree = Tree::new(volume, Arc::clone(fs));
    let all = deployments(&tree)?;
    if all.is_empty() {
        return Ok(None);
    }
    for entry in entries.all() {
        let Ok(Some(node)) = tree.find(&entry.path) else { continue };
        if let Some(found) = all.iter().find(|deployment| deployment.node == node) {
            return Ok(Some(Deployment { boot: Some(entry.volume.clone()), ..found.clone() }));
        }
    }
    let newest = |deployment: &Deployment| tree.stat(deployment.node).map(|stat| stat.mtime).ok();
    Ok(all.into_iter().max_by(|a, b| newest(a).cmp(&newest(b)).then(Ordering::Greater)))
}

/// Every deployment, in the order of their names.
fn deployments(tree: &Tree) -> Result<Vec<Deployment>> {
    let mut found = Vec::new();
    for os in file::names(tree, DEPLOY)? {
        let base = [DEPLOY.as_bytes(), b"/", &os].concat();
        for name in file::names(tree, [base.as_slice(), b"/deploy"].concat())? {
            let path = [base.as_slice(), b"/deploy/", &name].concat();
            let Some(node) = file::entry(tree, &path)? else { continue };
            // Beside each there is a file NAME.origin.
            if tree.stat(node)?.kind == FileType::Dir && found.len() < MAX_DEPLOYMENTS {
                found.push(Deployment { path, node, var: [base.as_slice(), b"/var"].concat(), boot: None });
            }
        }
    }
    Ok(found)
}

/// The boot entries of a machine that name deployments, read when first needed.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    devices: &'a [Device],
    found: OnceCell<Vec<Entry>>,
}

impl<'a> Entries<'a> {
    pub(super) const fn of(devices: &'a [Device]) -> Self {
        Self { devices, found: OnceCell::new() }
    }

    /// The newest first.
    fn all(&self) -> &[Entry] {
        self.found.get_or_init(|| {
            let mut entries = Vec::new();
            for device in self.devices {
                if let Some(fs) = &device.system {
                    // What cannot be read names no deployment; another boot volume may.
                    entries.extend(named(&device.volume, fs).unwrap_or_default());
                }
            }
            entries.sort_by(|a: &Entry, b| version_order(&b.version, &a.version));
            entries.truncate(MAX_ENTRIES);
            entries
        })
    }
}

/// A boot entry that names a deployment.
#[derive(Debug)]
struct Entry {
    version: Vec<u8>,
    path: Vec<u8>,
    volume: String,
}

/// Boot entries on one file system, be it the root or what is mounted on `/boot`.
fn named(volume: &str, fs: &Arc<dyn FileSystem>) -> Result<Vec<Entry>> {
    let tree = Tree::new(volume, Arc::clone(fs));
    let mut found = Vec::new();
    for dir in ["/loader/entries", "/boot/loader/entries"] {
        let names = file::names(&tree, dir)?.into_iter().filter(|name| name.ends_with(b".conf"));
        for name in names.take(MAX_ENTRIES) {
            let path = [dir.as_bytes(), b"/", &name].concat();
            let Some(file) = file::read(&tree, &path, MAX_CONFIG)? else { continue };
            let (mut version, mut target) = (Vec::new(), None);
            for (_, text) in file.lines() {
                let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
                match words.next() {
                    Some(b"version") => version = words.next().unwrap_or_default().to_vec(),
                    Some(b"options") => {
                        let value = |word: &[u8]| word.strip_prefix(b"ostree=").map(<[u8]>::to_vec);
                        target = words.find_map(value).or(target);
                    }
                    _ => {}
                }
            }
            let volume = volume.to_owned();
            found.extend(target.map(|path| Entry { version, path, volume }));
        }
    }
    Ok(found)
}
