//! `.network` files of systemd-networkd (systemd.network(5)), and `.link` files of udev (systemd.link(5)), which name
//! interfaces whether networkd runs or not.

use super::{Backend, Interface, Kind, Method, is_hardware_address};
use crate::error::Result;
use crate::fs::FileType;
use crate::fs::tree::Tree;
use crate::guest::Guest;
use crate::guest::evidence::Evidence;
use crate::guest::fact::Fact;
use crate::guest::file::{self, MAX_CONFIG};
use crate::guest::syntax::ini::{self, Entry};
use crate::text::Text;
use std::collections::BTreeMap;

/// In the order in which a file hides those of the same name behind it.
const DIRS: [&str; 4] = [
    "/etc/systemd/network",
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
    "/lib/systemd/network",
];
/// Those that the system's owner wrote, not a package.
const OWN: [&str; 1] = ["/etc/systemd/network"];
/// Files that are looked at.
const MAX_FILES: usize = 512;
/// Names of interfaces of containers and virtual machines that run inside the guest; systemd brings files for them.
const INNER: &[&str] = &["ve-", "vb-", "vz-", "vt-", "vx-", "host0", "mv-", "ipvlan", "docker", "wl", "ww"];

/// A file's name, the file, and what it says.
type Named = (Vec<u8>, Evidence, Vec<Entry>);

/// The files of a kind in some directories, by name, each with its drop-ins behind; one that is masked is in it without entries.
fn files(tree: &Tree, dirs: &[&str], end: &str) -> Result<Vec<Named>> {
    let mut paths: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for dir in dirs {
        for name in file::names(tree, dir)? {
            if name.ends_with(end.as_bytes()) && paths.len() < MAX_FILES {
                let path = [dir.as_bytes(), b"/", &name].concat();
                paths.entry(name).or_insert(path);
            }
        }
    }
    let mut found = Vec::new();
    for (name, path) in paths {
        let Some(entry) = file::entry(tree, &path)? else { continue };
        if tree.stat(entry)?.kind == FileType::Symlink && tree.readlink(entry)? == b"/dev/null" {
            found.push((
                name,
                Evidence::new("switched off by a link to /dev/null").on(tree.volume(entry)).path(&path),
                Vec::new(),
            ));
            continue;
        }
        let Some(file) = file::read(tree, &path, MAX_CONFIG)? else { continue };
        let mut entries = ini::parse(&file);
        let (evidence, mut base) = (file.evidence("configures an interface"), entries.len());
        for dir in DIRS {
            let dir = [dir.as_bytes(), b"/", &name, b".d"].concat();
            for drop_in in
                file::names(tree, &dir)?.iter().filter(|name| name.ends_with(b".conf")).take(MAX_FILES)
            {
                if let Some(file) = file::read(tree, [&dir, &b"/"[..], drop_in].concat(), MAX_CONFIG)? {
                    // Sections are counted on, so that those of two files stay apart.
                    let more = ini::parse(&file)
                        .into_iter()
                        .map(|entry| Entry { number: entry.number.saturating_add(base), ..entry });
                    entries.extend(more);
                    base = base.saturating_add(entries.len());
                }
            }
        }
        found.push((name, evidence, entries));
    }
    Ok(found)
}

/// Every `.network` file that may be for the card of a virtual machine.
pub(super) fn read(tree: &Tree) -> Result<Vec<Interface>> {
    interfaces(tree, &DIRS)
}

/// Those of them that the system's owner wrote.
pub(super) fn own(tree: &Tree) -> Result<Vec<Interface>> {
    interfaces(tree, &OWN)
}

fn interfaces(tree: &Tree, dirs: &[&str]) -> Result<Vec<Interface>> {
    let found = files(tree, dirs, ".network")?;
    Ok(found.into_iter().filter_map(|(_, evidence, entries)| network(evidence, &entries)).collect())
}

fn network(evidence: Evidence, entries: &[Entry]) -> Option<Interface> {
    let mut interface = Interface::new(Backend::Networkd, evidence);
    // Without a [Match] section of sense the file is for nothing (systemd.network(5)).
    if !entries.iter().any(|entry| entry.section == "match" && !entry.value.is_empty()) {
        return None;
    }
    for entry in entries {
        let words = || entry.value.split_whitespace();
        match (entry.section.as_str(), entry.key.as_str()) {
            ("match", "name") => {
                interface.names.extend(words().filter(|word| !word.starts_with('!')).map(Text::from));
            }
            ("match", "macaddress" | "permanentmacaddress") => {
                interface.bind(format!("{}={}", entry.key, entry.value), &entry.evidence);
            }
            ("match", "path") if !entry.value.contains('*') => {
                interface.bind(format!("path={}", entry.value), &entry.evidence);
            }
            ("match", "kind") if !entry.value.starts_with('!') => interface.kind = Kind::Aside,
            ("match", "type") if words().all(|word| word != "ether" && !word.starts_with('!')) => {
                interface.kind = if entry.value == "loopback" { Kind::Loopback } else { Kind::Aside };
            }
            ("match", "driver") if words().all(|word| word == "tun" || word == "veth") => {
                interface.kind = Kind::Aside;
            }
            ("match", "virtualization") if matches!(entry.value.as_str(), "container" | "no" | "false") => {
                return None;
            }
            (
                "match",
                "kernelcommandline" | "credential" | "host" | "architecture" | "kernelversion" | "ssid"
                | "wlaninterfacetype",
            ) => {
                interface.kind = Kind::Aside;
            }
            ("match", "virtualization") => {}
            ("network", "dhcp") => {
                let (v4, v6) = match entry.value.to_ascii_lowercase().as_str() {
                    "yes" | "true" | "both" | "on" | "1" | "y" | "t" => (true, true),
                    "ipv4" | "v4" => (true, false),
                    "ipv6" | "v6" => (false, true),
                    _ => (false, false),
                };
                interface.v4 = if v4 { Method::Dhcp } else { Method::None };
                interface.v6 = if v6 { Method::Dhcp } else { Method::None };
                interface.evidence = entry.evidence.clone();
            }
            ("network" | "address", "address") => interface.address(&entry.value, &entry.evidence),
            ("network", "dns") => interface.name_servers.extend(words().map(Text::from)),
            ("network", "bridge" | "bond" | "vrf") => interface.is_port = true,
            ("link", "macaddress") if is_hardware_address(&entry.value) => {
                interface.bind(format!("MACAddress={}", entry.value), &entry.evidence);
            }
            ("link", "unmanaged") if entry.value.eq_ignore_ascii_case("yes") => return None,
            ("link", "activationpolicy") if entry.value != "up" && entry.value != "always-up" => {
                interface.at_boot = false;
            }
            _ => {}
        }
    }
    let is_inner = |name: &Text| INNER.iter().any(|start| name.as_bytes().starts_with(start.as_bytes()));
    if !interface.names.is_empty() && interface.names.iter().all(is_inner) {
        interface.kind = Kind::Aside;
    }
    let dhcp = interface.v4;
    interface.settle();
    if dhcp != Method::Dhcp
        && let Some(first) = interface.addresses.first()
    {
        interface.evidence = first.evidence.clone();
    }
    Some(interface)
}

/// One `.link` file.
#[derive(Clone, Debug)]
pub struct LinkFile {
    /// Its name, without the directory.
    pub name: Vec<u8>,
    /// What of the card it matches, if that is one card only: its hardware address or connection.
    pub bound: Option<String>,
    /// The name that it gives.
    pub gives: Option<Text>,
    /// `NamePolicy=`, if it is set.
    pub policy: Option<String>,
    /// Is it masked?
    pub is_masked: bool,
    /// The file, and the line of the match.
    pub evidence: Evidence,
}

/// The `.link` files of a guest that count.
#[derive(Clone, Debug, Default)]
pub struct LinkFiles {
    /// By name, as udev tries them.
    pub files: Vec<LinkFile>,
}

impl Fact for LinkFiles {
    fn read(guest: &Guest) -> Result<Self> {
        guest.fstab()?;
        Ok(Self { files: links(guest.facts())? })
    }
}

pub(super) fn links(tree: &Tree) -> Result<Vec<LinkFile>> {
    let link = |(name, evidence, entries): Named| {
        let bound = entries.iter().find(|entry| {
            let is_card = matches!(entry.key.as_str(), "macaddress" | "permanentmacaddress" | "path");
            entry.section == "match" && is_card && !entry.value.is_empty() && !entry.value.contains('*')
        });
        LinkFile {
            is_masked: entries.is_empty(),
            bound: bound.map(|entry| format!("{}={}", entry.key, entry.value)),
            gives: ini::last(&entries, "link", "name").map(|entry| Text::from(entry.value.as_str())),
            policy: ini::last(&entries, "link", "namepolicy").map(|entry| entry.value.clone()),
            evidence: bound.map(|entry| entry.evidence.clone()).unwrap_or(evidence),
            name,
        }
    };
    Ok(files(tree, &DIRS, ".link")?.into_iter().map(link).collect())
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    fn networks(files: &[(&str, &str)]) -> Vec<Interface> {
        read(&MemoryFs::tree(files)).unwrap()
    }

    #[test]
    fn dhcp_and_addresses_of_two_sections() {
        let found = networks(&[
            ("/etc/systemd/network/10-a.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n"),
            (
                "/etc/systemd/network/20-b.network",
                "[Match]\nMACAddress=52:54:00:12:34:56\n[Network]\nDNS=10.0.0.1\n[Address]\nAddress=10.0.0.2/24\n[Address]\nAddress=2001:db8::2/64\n",
            ),
        ]);
        assert_eq!((found[0].v4, found[0].v6), (Method::Dhcp, Method::Dhcp));
        assert_eq!((found[1].v4, found[1].v6, found[1].addresses.len()), (Method::Static, Method::Static, 2));
        assert!(found[1].is_bound());
    }

    /// Files that systemd 252 brings for containers and virtual machines inside the guest, shortened.
    #[test]
    fn the_vendors_files_are_for_no_card_of_the_guest() {
        let found = networks(&[
            (
                "/usr/lib/systemd/network/80-container-host0.network",
                "[Match]\nKind=veth\nName=host0\nVirtualization=container\n[Network]\nDHCP=yes\n",
            ),
            (
                "/usr/lib/systemd/network/80-container-ve.network",
                "[Match]\nName=ve-*\nDriver=veth\n[Network]\nAddress=0.0.0.0/28\n",
            ),
            (
                "/usr/lib/systemd/network/80-vm-vt.network",
                "[Match]\nName=vt-*\nDriver=tun\n[Network]\nAddress=0.0.0.0/28\n",
            ),
        ]);
        assert!(found.iter().all(|interface| !interface.counts()), "{found:?}");
    }

    #[test]
    fn a_file_in_etc_hides_the_vendors_and_drop_ins_add() {
        let vendor =
            ("/usr/lib/systemd/network/zz-default.network", "[Match]\nName=*\n[Network]\nDHCP=yes\n");
        assert_eq!(networks(&[vendor]).len(), 1);
        assert!(networks(&[vendor, ("/etc/systemd/network/zz-default.network", "-> /dev/null")]).is_empty());
        let drop_in =
            ("/etc/systemd/network/zz-default.network.d/a.conf", "[Network]\nDHCP=no\nAddress=10.0.0.2/24\n");
        assert_eq!(networks(&[vendor, drop_in])[0].v4, Method::Static);
    }

    #[test]
    fn links_are_bound_or_masked() {
        let found = links(&MemoryFs::tree(&[
            (
                "/etc/systemd/network/10-lan.link",
                "[Match]\nMACAddress=52:54:00:12:34:56\n[Link]\nName=lan0\n",
            ),
            ("/etc/systemd/network/99-default.link", "-> /dev/null"),
            (
                "/usr/lib/systemd/network/99-default.link",
                "[Match]\nOriginalName=*\n[Link]\nNamePolicy=keep kernel database onboard slot path\n",
            ),
        ]))
        .unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].bound.is_some() && found[0].gives == Some(Text::from("lan0")) && found[1].is_masked);
    }
}
