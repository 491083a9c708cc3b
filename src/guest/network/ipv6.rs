//! Is IPv6 switched off for the whole guest: by the kernel's argument, sysctl.d(5) or modprobe.d(5)?

use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::Guest;
use crate::guest::evidence::Evidence;
use crate::guest::fact::Fact;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use std::collections::BTreeMap;

/// Directories of a kind, in the order in which a file hides those of the same name behind it.
const SYSCTL: &[&str] = &["/etc/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
const MODPROBE: &[&str] = &["/etc/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"];
/// Files of a kind that are read.
const MAX_FILES: usize = 512;

/// What switches IPv6 off: `guest.fact::<Ipv6>()`.
#[derive(Clone, Debug, Default)]
pub struct Ipv6 {
    /// The line that does.
    pub off: Option<Evidence>,
}

impl Fact for Ipv6 {
    fn read(guest: &Guest) -> Result<Self> {
        guest.fstab()?;
        if let Some(off) = guest.kernel_argument(|arg| arg == b"ipv6.disable=1")? {
            return Ok(Self { off: Some(off) });
        }
        let tree = guest.facts();
        let off = match modprobe(tree)? {
            Some(off) => Some(off),
            None => sysctl(tree)?,
        };
        Ok(Self { off })
    }
}

/// The files of several directories by name, the first of a name only.
fn files(tree: &Tree, dirs: &[&str]) -> Result<Vec<GuestFile>> {
    let mut paths: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for dir in dirs {
        for name in file::names(tree, dir)? {
            if name.ends_with(b".conf") && paths.len() < MAX_FILES {
                let path = [dir.as_bytes(), b"/", &name].concat();
                paths.entry(name).or_insert(path);
            }
        }
    }
    let mut found = Vec::new();
    for path in paths.values() {
        let Some(node) = tree.find(path)? else { continue };
        if tree.stat(node)?.kind == crate::fs::FileType::File {
            found.extend(file::read(tree, path, MAX_CONFIG)?);
        }
    }
    Ok(found)
}

/// The last line that sets it counts; `/etc/sysctl.conf` is read behind all others.
fn sysctl(tree: &Tree) -> Result<Option<Evidence>> {
    let mut files = files(tree, SYSCTL)?;
    files.extend(file::read(tree, "/etc/sysctl.conf", MAX_CONFIG)?);
    let mut found = None;
    for file in &files {
        for (number, line) in file.lines() {
            let text = String::from_utf8_lossy(line);
            let Some((key, value)) = text.trim().trim_start_matches('-').split_once('=') else { continue };
            if key.trim().replace('/', ".") == "net.ipv6.conf.all.disable_ipv6" {
                let off = file.evidence("switches IPv6 off").line(number, line);
                found = (value.trim() == "1").then_some(off);
            }
        }
    }
    Ok(found)
}

fn modprobe(tree: &Tree) -> Result<Option<Evidence>> {
    let mut files = files(tree, MODPROBE)?;
    files.extend(file::read(tree, "/etc/modprobe.conf", MAX_CONFIG)?);
    for file in &files {
        for (number, line) in file.lines() {
            let text = String::from_utf8_lossy(line);
            let words: Vec<&str> = text.split_whitespace().collect();
            let is_off = match words.as_slice() {
                ["options", "ipv6", rest @ ..] => rest.contains(&"disable=1"),
                ["install", "ipv6", program, ..] => program.ends_with("/true") || program.ends_with("/false"),
                ["alias", "net-pf-10" | "ipv6", "off"] => true,
                _ => false,
            };
            if is_off {
                return Ok(Some(file.evidence("switches IPv6 off").line(number, line)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    #[test]
    fn the_last_value_counts() {
        let off = ("/etc/sysctl.d/10-a.conf", "net.ipv6.conf.all.disable_ipv6 = 1\n");
        assert!(sysctl(&MemoryFs::tree(&[off])).unwrap().is_some());
        let on = ("/etc/sysctl.conf", "net/ipv6/conf/all/disable_ipv6=0\n");
        assert!(sysctl(&MemoryFs::tree(&[off, on])).unwrap().is_none());
    }

    #[test]
    fn a_module_that_is_not_loaded_is_off() {
        let of =
            |text: &str| modprobe(&MemoryFs::tree(&[("/etc/modprobe.d/a.conf", text)])).unwrap().is_some();
        assert!(
            of("options ipv6 disable=1\n") && of("install ipv6 /bin/true\n") && of("alias net-pf-10 off\n")
        );
        assert!(!of("options ipv6 disable=0\n") && !of("# options ipv6 disable=1\n"));
    }
}
