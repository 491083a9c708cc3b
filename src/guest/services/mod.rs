//! The services that start at boot, as the guest's own init system would start them: systemd by links in `*.wants`, System
//! V by links in the directory of a runlevel, upstart by what a job says, OpenRC by links in `/etc/runlevels`.

use super::evidence::Evidence;
use super::file;
use crate::error::{Error, Result};
use crate::fs::FileType;
use crate::fs::tree::{Node, Tree};
use crate::text::{Text, escape};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

mod openrc;
mod systemd;
mod sysv;
mod upstart;

/// The most names of one directory that are looked at; a desktop has 800 units.
const MAX_NAMES: usize = 20_000;
/// Aliases that are followed from one name; there is never more than one.
const MAX_ALIASES: usize = 8;

/// What starts the services of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Init {
    /// systemd.
    Systemd,
    /// upstart, which also starts System V's scripts: Ubuntu before 15.04, RHEL 6.
    Upstart,
    /// OpenRC: Alpine, Gentoo.
    OpenRc,
    /// System V's `init` with `/etc/inittab`.
    SysV,
    /// None that we know; every kind of link counts.
    #[default]
    Unknown,
}

/// What starts at boot.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// What starts them.
    pub init: Init,
    /// Units that another unit wants, and services of older init systems under their bare names, each with the link or
    /// line that says so.
    pub enabled: BTreeMap<Text, Evidence>,
    /// Units that are masked, with the link to `/dev/null`.
    pub masked: BTreeMap<Text, Evidence>,
    /// Units of systemd that there are, by name; what is only another name for one, with that one's.
    units: BTreeMap<Text, Option<Text>>,
}

impl Services {
    /// What enables this service, unless it is masked: `sshd.service`, by any of the unit's names, or `sshd`, which may
    /// also be a script or job of an older init system.
    #[must_use]
    pub fn enabled(&self, name: &str) -> Option<&Evidence> {
        let bare = name.strip_suffix(".service").unwrap_or(name);
        let unit = self.unit(&Text::from(name));
        [unit, self.unit(&Text::from(format!("{bare}.service").as_str())), Text::from(bare)]
            .iter()
            .filter(|name| !self.masked.contains_key(*name))
            .find_map(|name| self.enabled.get(name))
    }

    /// Is there such a unit of systemd, under this name or as another name of one?
    #[must_use]
    pub fn has_unit(&self, name: &str) -> bool {
        let unit = self.unit(&Text::from(name));
        self.is_defined(&unit) && !self.masked.contains_key(&unit)
    }

    /// The unit that a name means.
    fn unit(&self, name: &Text) -> Text {
        let mut unit = name.clone();
        for _ in 0..MAX_ALIASES {
            match self.units.get(&unit) {
                Some(Some(other)) => unit = other.clone(),
                _ => break,
            }
        }
        unit
    }

    /// Is there a file of this unit, or of the template of which it is an instance?
    fn is_defined(&self, unit: &Text) -> bool {
        let name = unit.as_bytes();
        let at = name.iter().position(|byte| *byte == b'@');
        let dot = name.iter().rposition(|byte| *byte == b'.');
        let template = at
            .zip(dot)
            .and_then(|(at, dot)| Some([name.get(..at.saturating_add(1))?, name.get(dot..)?].concat()));
        self.units.contains_key(unit)
            || template.is_some_and(|name| self.units.contains_key(&Text::new(name)))
    }
}

/// Reads what starts at boot.
///
/// # Errors
/// When a directory on the way cannot be read.
pub fn read(tree: &Tree) -> Result<Services> {
    let init = init(tree)?;
    let mut found = Services { init, ..Services::default() };
    let unknown = init == Init::Unknown;
    if unknown || init == Init::Systemd {
        systemd::read(tree, &mut found)?;
    }
    if init != Init::OpenRc {
        sysv::read(tree, &mut found)?;
    }
    if unknown || init == Init::Upstart {
        upstart::read(tree, &mut found)?;
    }
    if unknown || init == Init::OpenRc {
        openrc::read(tree, &mut found)?;
    }
    Ok(found)
}

/// Which init system is the first process: what `/sbin/init` leads to, else what only one of them has.
fn init(tree: &Tree) -> Result<Init> {
    let program = tree.canonical(b"/sbin/init")?;
    if program.ends_with(b"/systemd") {
        return Ok(Init::Systemd);
    }
    // Each of these comes with the program that it configures, not with a single service.
    for (path, init) in [
        ("/sbin/initctl", Init::Upstart),
        ("/sbin/openrc", Init::OpenRc),
        ("/sbin/openrc-run", Init::OpenRc),
        ("/usr/bin/openrc-run", Init::OpenRc),
    ] {
        if file::exists(tree, path)? {
            return Ok(init);
        }
    }
    Ok(if sysv::default_runlevel(tree)?.is_some() { Init::SysV } else { Init::Unknown })
}

/// One name in a directory.
struct Entry {
    name: Vec<u8>,
    node: Node,
    kind: FileType,
}

/// The names of a directory, sorted; none when there is no such directory.
fn entries(tree: &Tree, path: &[u8]) -> Result<Vec<Entry>> {
    let inner = || -> Result<Vec<Entry>> {
        let Some(dir) = tree.find(path)? else { return Ok(Vec::new()) };
        if tree.stat(dir)?.kind != FileType::Dir {
            return Ok(Vec::new());
        }
        let (mut found, mut full) = (Vec::new(), false);
        tree.readdir(dir, 0, &mut |entry| {
            full = found.len() >= MAX_NAMES;
            if full {
                return ControlFlow::Break(());
            }
            if !matches!(entry.name, b"." | b"..") {
                found.push((entry.name.to_vec(), entry.node, entry.kind));
            }
            ControlFlow::Continue(())
        })?;
        if full {
            return Err(Error::limit(format!("a directory of more than {MAX_NAMES} names")));
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let entry = |(name, node, kind): (Vec<u8>, Node, Option<FileType>)| {
            let kind = kind.map_or_else(|| tree.stat(node).map(|stat| stat.kind), Ok)?;
            Ok(Entry { name, node, kind })
        };
        found.into_iter().map(entry).collect()
    };
    inner().map_err(|error| error.context(escape(path)))
}

/// `dir/name`.
fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    [dir, b"/", name].concat()
}

/// The place that enables a service.
fn starts(tree: &Tree, link: Node, path: &[u8]) -> Evidence {
    Evidence::new("starts at boot").on(tree.volume(link)).path(path)
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;

    #[test]
    fn the_first_process_decides_which_links_count() {
        // Ubuntu 16.04 keeps the jobs that upstart would have started.
        let job = ("/etc/init/ssh.conf", "start on runlevel [2345]\n");
        let read = |files: &[(&str, &str)]| read(&MemoryFs::tree(files)).unwrap();
        let systemd = read(&[job, ("/lib/systemd/systemd", "x"), ("/sbin/init", "-> /lib/systemd/systemd")]);
        assert_eq!((systemd.init, systemd.enabled("ssh").is_some()), (Init::Systemd, false));
        let upstart = read(&[job, ("/sbin/init", "x"), ("/sbin/initctl", "x")]);
        assert_eq!((upstart.init, upstart.enabled("ssh").is_some()), (Init::Upstart, true));
    }
}
