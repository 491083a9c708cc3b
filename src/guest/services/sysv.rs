//! System V: a service starts by a link `S` with two digits in the directory of the runlevel that is booted. systemd makes
//! a unit of each such script of which it has no unit of its own (systemd-sysv-generator(8)).

use super::{Init, Services, entries, join, starts};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::file::{self, MAX_CONFIG};
use crate::text::Text;
use std::collections::BTreeSet;

/// Directories above those of the runlevels: Debian's, Red Hat's, SUSE's. One is often a link to another.
const DIRS: [&str; 3] = ["/etc", "/etc/rc.d", "/etc/init.d"];

pub(super) fn read(tree: &Tree, found: &mut Services) -> Result<()> {
    let default = if found.init == Init::Systemd { None } else { default_runlevel(tree)? };
    // `S` and `boot` are gone through before the runlevel, by every one that is booted.
    let mut levels = vec!["rcS.d".to_owned(), "boot.d".to_owned()];
    match default {
        Some(level) => levels.push(format!("rc{level}.d")),
        None => levels.extend([2, 3, 4, 5].map(|level| format!("rc{level}.d"))),
    }
    let mut seen = BTreeSet::new();
    for level in levels {
        for dir in DIRS {
            let dir = format!("{dir}/{level}").into_bytes();
            if !seen.insert(tree.canonical(&dir)?) {
                continue;
            }
            for entry in entries(tree, &dir)? {
                let [b'S', tens, ones, script @ ..] = entry.name.as_slice() else { continue };
                if !tens.is_ascii_digit() || !ones.is_ascii_digit() || script.is_empty() {
                    continue;
                }
                let unit = [script.strip_suffix(b".sh").unwrap_or(script), b".service"].concat();
                let (name, link) = (Text::from(script), join(&dir, &entry.name));
                let is_unit = found.units.contains_key(&Text::new(unit));
                if is_unit || found.enabled.contains_key(&name) || !file::exists(tree, &link)? {
                    continue;
                }
                found.enabled.insert(name, starts(tree, entry.node, &link));
            }
        }
    }
    Ok(())
}

/// The runlevel in the line `id:3:initdefault:` of inittab(5); `None` when there is no such line.
///
/// # Errors
/// When the file is there but cannot be read.
pub(super) fn default_runlevel(tree: &Tree) -> Result<Option<char>> {
    let Some(file) = file::read(tree, "/etc/inittab", MAX_CONFIG)? else { return Ok(None) };
    let level = |line: &[u8]| {
        let mut fields = line.trim_ascii().split(|byte| *byte == b':');
        let (id, level, action) = (fields.next()?, fields.next()?, fields.next()?);
        let level = level.first().copied().filter(u8::is_ascii_digit)?;
        (!id.starts_with(b"#") && action == b"initdefault").then_some(char::from(level))
    };
    Ok(file.lines().find_map(|(_, line)| level(line)))
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::super::{Init, read};

    #[test]
    fn a_script_is_known_by_its_name() {
        let services =
            read(&MemoryFs::tree(&[("/etc/rc3.d/S12sshd", ""), ("/etc/rc3.d/K12ntpd", "")])).unwrap();
        assert!(services.enabled("sshd").is_some() && services.enabled("sshd.service").is_some());
        assert!(services.enabled("ntpd").is_none());
    }

    #[test]
    fn only_the_runlevel_that_is_booted_counts() {
        let files = [
            ("/etc/inittab", "#id:5:initdefault:\nid:3:initdefault:\n"),
            ("/etc/rc.d/rc3.d/S12sshd", ""),
            ("/etc/rc.d/rc5.d/S12xdm", ""),
            ("/etc/init.d/boot.d/S01udev", ""),
        ];
        let services = read(&MemoryFs::tree(&files)).unwrap();
        assert_eq!(services.init, Init::SysV);
        assert!(services.enabled("sshd").is_some() && services.enabled("udev").is_some());
        assert!(services.enabled("xdm").is_none());
    }

    #[test]
    fn a_unit_takes_the_place_of_a_script() {
        let files = [
            ("/sbin/init", "-> /usr/lib/systemd/systemd"),
            ("/usr/lib/systemd/systemd", "x"),
            ("/usr/lib/systemd/system/ssh.service", "[Unit]"),
            ("/etc/rc3.d/S01ssh", ""),
            ("/etc/rc3.d/S01old", ""),
            ("/etc/rc3.d/S01gone", "-> ../init.d/gone"),
        ];
        let services = read(&MemoryFs::tree(&files)).unwrap();
        assert!(services.enabled("ssh.service").is_none());
        assert!(services.enabled("old.service").is_some());
        assert!(services.enabled("gone").is_none());
    }
}
