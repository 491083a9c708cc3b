//! The services that start at boot: systemd's links in `*.wants` and `*.requires`, and the older ways.

use super::evidence::Evidence;
use super::file;
use crate::error::Result;
use crate::fs::FileType;
use crate::fs::tree::Tree;
use crate::text::Text;
use std::collections::BTreeMap;

/// Where units lie; `/run` is made at boot and tells nothing.
const UNIT_DIRS: &[&str] = &["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// What starts at boot.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// Units that another unit wants, with the link that says so.
    pub enabled: BTreeMap<Text, Evidence>,
    /// Units that are masked, with the link to `/dev/null`.
    pub masked: BTreeMap<Text, Evidence>,
}

impl Services {
    /// The link that enables this unit, unless it is masked.
    #[must_use]
    pub fn enabled(&self, unit: &str) -> Option<&Evidence> {
        let unit = Text::from(unit);
        if self.masked.contains_key(&unit) { None } else { self.enabled.get(&unit) }
    }
}

/// Reads what starts at boot.
///
/// # Errors
/// When a directory on the way cannot be read.
pub fn read(tree: &Tree) -> Result<Services> {
    let mut found = Services::default();
    for dir in UNIT_DIRS {
        for name in file::names(tree, dir)? {
            let path = [dir.as_bytes(), b"/", &name].concat();
            if name.ends_with(b".wants") || name.ends_with(b".requires") {
                for unit in file::names(tree, &path)? {
                    let link = [path.as_slice(), b"/", &unit].concat();
                    // A link that a removed package left behind leads nowhere and starts nothing.
                    if !file::exists(tree, &link)? {
                        continue;
                    }
                    let evidence = Evidence::new("starts at boot").on(volume(tree, &path)?).path(&link);
                    found.enabled.entry(Text::new(unit)).or_insert(evidence);
                }
            } else if dir == &"/etc/systemd/system" && is_masked(tree, &path)? {
                let evidence = Evidence::new("masked").on(volume(tree, dir.as_bytes())?).path(&path);
                found.masked.insert(Text::new(name), evidence);
            }
        }
    }
    // System V: S links of the multi-user runlevels. Shown under the script's own name.
    for runlevel in ["2", "3", "4", "5"] {
        for dir in [format!("/etc/rc{runlevel}.d"), format!("/etc/rc.d/rc{runlevel}.d")] {
            for name in file::names(tree, &dir)? {
                let Some(script) = name.strip_prefix(b"S").and_then(|name| name.get(2..)) else { continue };
                let evidence = Evidence::new("starts at boot").on(volume(tree, dir.as_bytes())?);
                let evidence = evidence.path(&[dir.as_bytes(), b"/", &name].concat());
                found.enabled.entry(Text::from(script)).or_insert(evidence);
            }
        }
    }
    // Upstart: a job file is enabled by being there.
    for name in file::names(tree, "/etc/init")? {
        if let Some(job) = name.strip_suffix(b".conf") {
            let evidence = Evidence::new("starts at boot").on(volume(tree, b"/etc/init")?);
            let evidence = evidence.path(&[b"/etc/init/", name.as_slice()].concat());
            found.enabled.entry(Text::from(job)).or_insert(evidence);
        }
    }
    Ok(found)
}

fn volume(tree: &Tree, path: &[u8]) -> Result<String> {
    Ok(tree.find(path)?.map(|node| tree.volume(node).to_owned()).unwrap_or_default())
}

/// A link to `/dev/null`, or an empty file (systemd.unit(5)).
fn is_masked(tree: &Tree, path: &[u8]) -> Result<bool> {
    let Some(node) = file::entry(tree, path)? else { return Ok(false) };
    let stat = tree.stat(node)?;
    Ok(match stat.kind {
        FileType::Symlink => tree.readlink(node)? == b"/dev/null",
        FileType::File => stat.size == 0,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;

    #[test]
    fn a_wanted_unit_is_enabled_unless_masked() {
        let tree = MemoryFs::tree(&[
            ("/etc/systemd/system/multi-user.target.wants/a.service", "-> /lib/systemd/system/a.service"),
            ("/etc/systemd/system/multi-user.target.wants/b.service", "-> /lib/systemd/system/b.service"),
            ("/etc/systemd/system/b.service", "-> /dev/null"),
            ("/lib/systemd/system/a.service", "[Unit]"),
            ("/lib/systemd/system/b.service", "[Unit]"),
            (
                "/etc/systemd/system/multi-user.target.wants/gone.service",
                "-> /lib/systemd/system/gone.service",
            ),
        ]);
        let services = read(&tree).unwrap();
        assert!(services.enabled("a.service").is_some() && services.enabled("b.service").is_none());
        assert!(services.enabled("gone.service").is_none());
    }

    #[test]
    fn a_system_v_script_is_known_by_its_name() {
        let services = read(&MemoryFs::tree(&[("/etc/rc3.d/S12sshd", "")])).unwrap();
        assert!(services.enabled("sshd").is_some());
    }
}
