//! systemd: a unit starts because another one wants, requires or upholds it, which a link in that one's directory says
//! (systemd.unit(5)). A preset is only what a package would choose, and starts nothing.

use super::{Entry, Services, entries, join, starts};
use crate::error::{Error, Result};
use crate::fs::FileType;
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::file;
use crate::text::Text;
use std::collections::BTreeSet;

/// Where units are, in the order in which they are looked for ("Unit File Load Path"); `/run` is made at boot and tells
/// nothing. The first is the administrator's own.
const DIRS: [&[u8]; 4] = [
    b"/etc/systemd/system",
    b"/usr/local/lib/systemd/system",
    b"/usr/lib/systemd/system",
    b"/lib/systemd/system",
];

/// Links to units that are looked at; a desktop has 150.
const MAX_LINKS: usize = 20_000;

/// Ends of directories of links.
const WANTS: [&[u8]; 3] = [b".wants", b".requires", b".upholds"];

/// What is not reached by a usual boot (systemd.special(7)): what these want does not start.
const NOT_AT_BOOT: &[&[u8]] = &[
    b"rescue.target",
    b"emergency.target",
    b"shutdown.target",
    b"reboot.target",
    b"soft-reboot.target",
    b"poweroff.target",
    b"halt.target",
    b"kexec.target",
    b"exit.target",
    b"final.target",
    b"umount.target",
    b"sleep.target",
    b"suspend.target",
    b"hibernate.target",
    b"hybrid-sleep.target",
    b"suspend-then-hibernate.target",
    b"systemd-suspend.service",
    b"systemd-hibernate.service",
    b"system-update.target",
    b"system-update-pre.target",
    b"factory-reset.target",
    b"ctrl-alt-del.target",
    b"kbrequest.target",
];

pub(super) fn read(tree: &Tree, found: &mut Services) -> Result<()> {
    let mut wanted = Vec::new();
    let mut seen = BTreeSet::new();
    for dir in DIRS {
        // On a system whose `/lib` is a link, the last two are one.
        if !seen.insert(tree.canonical(dir)?) {
            continue;
        }
        for entry in entries(tree, dir)? {
            let path = join(dir, &entry.name);
            match WANTS.iter().find_map(|end| entry.name.strip_suffix(*end)) {
                Some(by) if is_at_boot(by) => {
                    for unit in entries(tree, &path)? {
                        wanted.push((join(&path, &unit.name), unit.node, Text::new(unit.name)));
                    }
                    if wanted.len() > MAX_LINKS {
                        return Err(Error::limit(format!("more than {MAX_LINKS} links to units")));
                    }
                }
                Some(_) => {}
                None => define(tree, dir, &path, entry, found)?,
            }
        }
    }
    for (link, node, name) in wanted {
        let unit = found.unit(&name);
        // A link that a removed package left behind starts nothing.
        if found.enabled.contains_key(&unit) || !(found.is_defined(&unit) || file::exists(tree, &link)?) {
            continue;
        }
        found.enabled.insert(unit, starts(tree, node, &link));
    }
    Ok(())
}

fn is_at_boot(target: &[u8]) -> bool {
    !NOT_AT_BOOT.contains(&target) && !target.starts_with(b"initrd")
}

/// Adds a unit's file, unless a directory that comes first has one of its name.
fn define(tree: &Tree, dir: &[u8], path: &[u8], entry: Entry, found: &mut Services) -> Result<()> {
    let name = Text::new(entry.name);
    if entry.kind == FileType::Dir || found.units.contains_key(&name) {
        return Ok(());
    }
    let mut other = None;
    let is_masked = match entry.kind {
        FileType::Symlink => {
            let target = tree.readlink(entry.node)?;
            let file = target.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            other = Some(Text::from(file)).filter(|file| *file != name && !file.is_empty());
            target == b"/dev/null"
        }
        // An empty file masks, too; only administrators make such.
        FileType::File if dir == DIRS[0] => tree.stat(entry.node)?.size == 0,
        _ => false,
    };
    if is_masked {
        let evidence = Evidence::new("masked").on(tree.volume(entry.node)).path(path);
        found.masked.insert(name.clone(), evidence);
        other = None;
    }
    found.units.insert(name, other);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::super::read;

    const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

    fn is_enabled(files: &[(&str, &str)], unit: &str) -> bool {
        read(&MemoryFs::tree(files)).unwrap().enabled(unit).is_some()
    }

    #[test]
    fn a_wanted_unit_is_enabled_unless_masked() {
        let files = [
            (&*format!("{WANTS}/a.service"), "-> /lib/systemd/system/a.service"),
            (&*format!("{WANTS}/b.service"), "-> /lib/systemd/system/b.service"),
            (&*format!("{WANTS}/gone.service"), "-> /lib/systemd/system/gone.service"),
            ("/etc/systemd/system/b.service", "-> /dev/null"),
            ("/lib/systemd/system/a.service", "[Unit]"),
            ("/lib/systemd/system/b.service", "[Unit]"),
            ("/lib/systemd/system/c.service", "[Unit]"),
        ];
        assert!(is_enabled(&files, "a.service") && is_enabled(&files, "a"));
        for unit in ["b.service", "gone.service", "c.service"] {
            assert!(!is_enabled(&files, unit), "{unit}");
        }
    }

    #[test]
    fn every_name_of_a_unit_is_its_own() {
        // As Debian has it: the unit is ssh.service, and sshd.service another name for it.
        let files = [
            ("/usr/lib/systemd/system/ssh.service", "[Unit]"),
            ("/etc/systemd/system/sshd.service", "-> /lib/systemd/system/ssh.service"),
            (&*format!("{WANTS}/ssh.service"), "-> /lib/systemd/system/ssh.service"),
        ];
        assert!(is_enabled(&files, "sshd.service") && is_enabled(&files, "ssh.service"));
        // Masking the unit masks all of its names.
        let masked = [&files[..], &[("/etc/systemd/system/ssh.service", "-> /dev/null")]].concat();
        assert!(!is_enabled(&masked, "sshd.service") && !is_enabled(&masked, "ssh"));
    }

    #[test]
    fn an_instance_needs_its_template() {
        let link = format!("{WANTS}/x@1.service");
        let wanted = (&*link, "-> /lib/systemd/system/x@.service");
        assert!(is_enabled(&[wanted, ("/usr/lib/systemd/system/x@.service", "[Unit]")], "x@1.service"));
        assert!(!is_enabled(&[wanted], "x@1.service"));
    }

    #[test]
    fn only_what_a_usual_boot_reaches_starts() {
        let unit = ("/usr/lib/systemd/system/x.service", "[Unit]");
        let by = |by: &str| {
            let link = format!("/usr/lib/systemd/system/{by}/x.service");
            is_enabled(&[unit, (&link, "-> ../x.service")], "x.service")
        };
        assert!(by("sysinit.target.wants") && by("dev-virtio.device.wants") && by("a.service.upholds"));
        assert!(!by("initrd.target.wants") && !by("rescue.target.wants") && !by("reboot.target.requires"));
    }

    #[test]
    fn a_preset_starts_nothing() {
        let files = [
            ("/usr/lib/systemd/system/x.service", "[Unit]"),
            ("/usr/lib/systemd/system-preset/90-default.preset", "enable x.service\n"),
        ];
        assert!(!is_enabled(&files, "x.service"));
    }
}
