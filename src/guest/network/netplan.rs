//! netplan (netplan(5)): YAML files, merged in the order of their names, of which it writes the configuration of
//! systemd-networkd or NetworkManager at each boot.

use super::{Backend, Interface, Kind, Method, is_hardware_address};
use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::file::{self, MAX_CONFIG};
use crate::guest::syntax::yaml::{self, Node};
use crate::text::Text;
use std::collections::BTreeMap;

/// `/run` is empty before the boot.
const DIRS: [&str; 2] = ["/usr/lib/netplan", "/etc/netplan"];
/// Files that are merged.
const MAX_FILES: usize = 256;
/// Interfaces in all.
const MAX_INTERFACES: usize = 1024;
/// What reads the files at boot.
const GENERATORS: &[&str] = &[
    "/usr/lib/systemd/system-generators/netplan",
    "/lib/systemd/system-generators/netplan",
    "/usr/sbin/netplan",
];

/// What makes netplan's files count.
pub(super) fn generator(tree: &Tree) -> Result<Option<Evidence>> {
    for path in GENERATORS {
        if let Some(node) = file::entry(tree, path)? {
            return Ok(Some(Evidence::new("runs at boot").on(tree.volume(node)).path(path.as_bytes())));
        }
    }
    Ok(None)
}

/// Every interface of the merged files.
pub(super) fn read(tree: &Tree) -> Result<Vec<Interface>> {
    // A file in /etc hides one of the same name in /usr/lib.
    let mut files: BTreeMap<Vec<u8>, &str> = BTreeMap::new();
    for dir in DIRS {
        for name in file::names(tree, dir)? {
            if name.ends_with(b".yaml") {
                files.insert(name, dir);
            }
        }
    }
    if files.len() > MAX_FILES {
        return Err(Error::limit(format!("/etc/netplan: more than {MAX_FILES} files")));
    }
    let mut merged: Option<Node> = None;
    for (name, dir) in &files {
        let Some(file) = file::read(tree, [dir.as_bytes(), b"/", name].concat(), MAX_CONFIG)? else {
            continue;
        };
        let node = yaml::parse(&file)?;
        match &mut merged {
            Some(merged) => merged.merge(node),
            None => merged = Some(node),
        }
    }
    Ok(merged.as_ref().and_then(|node| node.get("network")).map(interfaces).unwrap_or_default())
}

fn interfaces(network: &Node) -> Vec<Interface> {
    let mut found = Vec::new();
    let mut ports: Vec<&str> = Vec::new();
    for (kind, group) in network.entries() {
        for (id, node) in group.entries().iter().take(MAX_INTERFACES) {
            let kind = match kind.as_str() {
                "ethernets" | "bridges" | "bonds" => Kind::Card,
                "vlans" | "wifis" | "tunnels" | "modems" | "dummy-devices" | "vrfs" | "virtual-ethernets" => {
                    Kind::Aside
                }
                _ => continue,
            };
            ports.extend(
                node.get("interfaces").map(Node::items).unwrap_or_default().iter().filter_map(Node::word),
            );
            found.push((id.as_str(), interface(id, node, kind)));
        }
    }
    for (id, interface) in &mut found {
        interface.is_port = ports.contains(id);
    }
    found.into_iter().map(|(_, interface)| interface).collect()
}

fn interface(id: &str, node: &Node, kind: Kind) -> Interface {
    let mut interface = Interface::new(Backend::Netplan, said(node, "configures an interface"));
    interface.kind = kind;
    let matched = node.get("match");
    match matched {
        // The id is a name for people then; set-name is what the interface will be called.
        Some(matched) => {
            let name = matched.get("name");
            let names = name.map(Node::items).filter(|items| !items.is_empty());
            let names = names.map(|items| items.iter().filter_map(Node::word).collect::<Vec<_>>());
            let names = names.unwrap_or_else(|| name.and_then(Node::word).into_iter().collect());
            interface.names.extend(names.into_iter().map(Text::from));
        }
        None => interface.names.push(Text::from(id)),
    }
    let bound = matched.and_then(|matched| matched.get("macaddress"));
    for (key, node) in [("match: macaddress", bound), ("macaddress", node.get("macaddress"))] {
        if let Some((node, word)) =
            node.and_then(|node| Some((node, node.word()?))).filter(|(_, word)| is_hardware_address(word))
        {
            interface.bind(format!("{key}: {word}"), &said(node, "is bound to a card"));
        }
    }
    for item in node.get("addresses").map(Node::items).unwrap_or_default() {
        // An address, or an address with its label: `- 10.0.0.2/24: {label: x}`.
        let text = item.word().or_else(|| item.entries().first().map(|(key, _)| key.as_str()));
        interface.address(text.unwrap_or_default(), &said(item, "sets an address"));
    }
    let servers = node.get("nameservers").and_then(|node| node.get("addresses")).map(Node::items);
    interface.name_servers.extend(servers.unwrap_or_default().iter().filter_map(Node::word).map(Text::from));
    for (key, v6) in [("dhcp4", false), ("dhcp6", true)] {
        if let Some(node) = node.get(key).filter(|node| node.is_yes()) {
            let method = if v6 { &mut interface.v6 } else { &mut interface.v4 };
            *method = Method::Dhcp;
            if !v6 {
                interface.evidence = said(node, "asks for an address");
            }
        }
    }
    interface.at_boot = node.get("activation-mode").is_none();
    let dhcp = interface.v4;
    interface.settle();
    if dhcp != Method::Dhcp
        && let Some(first) = interface.addresses.iter().find(|address| !address.is_v6())
    {
        interface.evidence = first.evidence.clone();
    }
    interface
}

fn said(node: &Node, what: &str) -> Evidence {
    Evidence { what: what.to_owned(), ..node.evidence.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    /// The installer's file, over it cloud-init's; what both say is laid on top of each other in the order of names.
    #[test]
    fn files_are_merged_in_order() {
        let found = read(&MemoryFs::tree(&[
            ("/etc/netplan/00-installer-config.yaml", "network:\n  ethernets:\n    ens160:\n      addresses: [10.0.0.2/24]\n      dhcp4: no\n  version: 2\n"),
            ("/etc/netplan/99-dhcp.yaml", "network:\n  ethernets:\n    ens160: {dhcp4: true}\n    any:\n      match: {name: 'en*'}\n      dhcp4: yes\n"),
        ]))
        .unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].v4, found[0].addresses.len()), (Method::Dhcp, 1));
        assert!(found[1].fits(b"enp1s0") && !found[1].fits(b"eth0"));
    }

    #[test]
    fn a_card_by_its_hardware_address_is_bound() {
        let text = "network:\n    version: 2\n    ethernets:\n        ens3:\n            match:\n                macaddress: 52:54:00:12:34:56\n            set-name: ens3\n            addresses:\n            - 10.0.0.2/24\n            - 2001:db8::2/64\n";
        let found = read(&MemoryFs::tree(&[("/etc/netplan/50-cloud-init.yaml", text)])).unwrap();
        assert_eq!((found[0].v4, found[0].v6), (Method::Static, Method::Static));
        assert_eq!(found[0].bindings[0].evidence.line, Some(6));
        assert!(found[0].is_of_cloud_init() && found[0].evidence.line == Some(9));
    }

    #[test]
    fn a_bridge_has_the_address_of_its_card() {
        let text = "network:\n  ethernets:\n    eth0: {dhcp4: false}\n  bridges:\n    br0:\n      interfaces: [eth0]\n      dhcp4: true\n";
        let found = read(&MemoryFs::tree(&[("/etc/netplan/a.yaml", text)])).unwrap();
        assert!(found[0].is_port && found[1].counts() && found[1].v4 == Method::Dhcp);
    }
}
