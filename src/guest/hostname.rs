//! The name that a Linux gives itself at boot, if one is fixed.

use super::file::{self, MAX_CONFIG};
use super::{Evidence, Fact, Guest};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::text::Text;

/// The name, and where it stands.
#[derive(Clone, Debug)]
pub struct FixedName {
    /// The name.
    pub name: Text,
    /// Its line.
    pub evidence: Evidence,
}

/// The name, if one is fixed.
#[derive(Clone, Debug, Default)]
pub struct Hostname(pub Option<FixedName>);

impl Fact for Hostname {
    fn read(guest: &Guest) -> Result<Self> {
        guest.fstab()?;
        read(guest.facts()).map(Self)
    }
}

/// `/etc/hostname` (hostname(5)), `/etc/HOSTNAME` of older SUSE: the first line that is no comment. Before systemd Red Hat
/// had `HOSTNAME=` in `/etc/sysconfig/network`, and Gentoo and Alpine's older releases `hostname=` in `/etc/conf.d/hostname`.
fn read(tree: &Tree) -> Result<Option<FixedName>> {
    for path in ["/etc/hostname", "/etc/HOSTNAME"] {
        let Some(file) = file::read(tree, path, MAX_CONFIG)? else { continue };
        let line = file.lines().find(|(_, line)| {
            let line = line.trim_ascii();
            !line.is_empty() && !line.starts_with(b"#")
        });
        if let Some((number, line)) = line {
            let evidence = file.evidence("host name").line(number, line);
            return Ok(Some(FixedName { name: Text::from(line.trim_ascii()), evidence }));
        }
    }
    for (path, key) in [("/etc/sysconfig/network", &b"HOSTNAME="[..]), ("/etc/conf.d/hostname", b"hostname=")]
    {
        let Some(file) = file::read(tree, path, MAX_CONFIG)? else { continue };
        // The shell that reads it takes the last.
        let set = file
            .lines()
            .filter_map(|(number, line)| Some((number, line, line.trim_ascii().strip_prefix(key)?)));
        if let Some((number, line, value)) = set.last() {
            let name: Vec<u8> = value.iter().copied().filter(|byte| !b"\"'".contains(byte)).collect();
            if !name.trim_ascii().is_empty() {
                let evidence = file.evidence("host name").line(number, line);
                return Ok(Some(FixedName { name: Text::from(name.trim_ascii()), evidence }));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;

    fn name(files: &[(&str, &str)]) -> Option<String> {
        read(&MemoryFs::tree(files)).unwrap().map(|fixed| fixed.name.to_string())
    }

    #[test]
    fn each_distribution_has_its_place() {
        assert_eq!(name(&[("/etc/hostname", "# x\n\nweb01 \n")]).unwrap(), "web01");
        assert_eq!(
            name(&[("/etc/sysconfig/network", "HOSTNAME=a\nNETWORKING=yes\nHOSTNAME=\"b.c\"\n")]).unwrap(),
            "b.c"
        );
        assert_eq!(name(&[("/etc/hostname", ""), ("/etc/sysconfig/network", "NETWORKING=yes\n")]), None);
    }
}
