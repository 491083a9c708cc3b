//! Keyfiles of NetworkManager (nm-settings-keyfile(5)), in `/etc` and, as the vendor's, in `/usr/lib`. One that others than
//! root may write to or read is ignored by it.

use super::{Backend, Interface, Kind, Method, is_hardware_address};
use crate::error::Result;
use crate::fs::FileType;
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use crate::guest::syntax::ini;
use crate::text::Text;

const ETC: &str = "/etc/NetworkManager/system-connections";
const USR: &str = "/usr/lib/NetworkManager/system-connections";
/// Connections that are looked at.
const MAX_FILES: usize = 1024;

/// What the directories hold.
#[derive(Default)]
pub(super) struct Found {
    pub(super) interfaces: Vec<Interface>,
    /// Files that NetworkManager refuses, with the reason.
    pub(super) ignored: Vec<Evidence>,
}

/// Every connection.
pub(super) fn read(tree: &Tree) -> Result<Found> {
    let mut found = Found::default();
    let own = file::names(tree, ETC)?;
    for dir in [ETC, USR] {
        for name in file::names(tree, dir)? {
            let is_hidden = dir == USR && (own.contains(&name) || !name.ends_with(b".nmconnection"));
            let is_copy = name.starts_with(b".")
                || name.ends_with(b"~")
                || name.ends_with(b".rpmsave")
                || name.ends_with(b".rpmnew");
            if is_hidden || is_copy || found.interfaces.len() >= MAX_FILES {
                continue;
            }
            let path = [dir.as_bytes(), b"/", &name].concat();
            let Some(node) = tree.find(&path)? else { continue };
            let stat = tree.stat(node)?;
            if stat.kind != FileType::File {
                continue;
            }
            let Some(file) = file::read(tree, &path, MAX_CONFIG)? else { continue };
            if dir == ETC && (stat.uid != 0 || stat.mode & 0o077 != 0) {
                let why = format!(
                    "NetworkManager ignores it: owner {}, mode {:04o}; it must be root's and 0600",
                    stat.uid, stat.mode
                );
                found.ignored.push(file.evidence(why));
                continue;
            }
            found.interfaces.extend(connection(&file));
        }
    }
    Ok(found)
}

/// The connection of a file; `None` for one that is for no interface of this machine, such as a VPN.
fn connection(file: &GuestFile) -> Option<Interface> {
    let entries = ini::parse(file);
    let mut interface = Interface::new(Backend::NetworkManager, file.evidence("configures an interface"));
    let value =
        |section: &str, key: &str| ini::last(&entries, section, key).map(|entry| entry.value.as_str());
    match value("connection", "type").unwrap_or("ethernet") {
        "ethernet" | "802-3-ethernet" | "bridge" | "bond" | "team" => {}
        "loopback" => interface.kind = Kind::Loopback,
        "vpn" => return None,
        _ => interface.kind = Kind::Aside,
    }
    interface.at_boot = value("connection", "autoconnect") != Some("false");
    let port = ["master", "controller", "slave-type", "port-type"];
    interface.is_port =
        port.iter().any(|key| value("connection", key).is_some_and(|value| !value.is_empty()));
    for entry in &entries {
        let words = || entry.value.split([';', ',', ' ']).map(str::trim).filter(|word| !word.is_empty());
        match (entry.section.as_str(), entry.key.as_str()) {
            ("connection", "interface-name") => interface.names.push(Text::from(entry.value.as_str())),
            ("connection", "zone") if !entry.value.is_empty() => {
                interface.zone = Some(Text::from(entry.value.as_str()));
            }
            ("match", "interface-name") => {
                interface
                    .names
                    .extend(words().filter(|word| !word.starts_with(['!', '&', '|'])).map(Text::from));
            }
            ("match", "path") => interface.bind(format!("path={}", entry.value), &entry.evidence),
            ("ethernet" | "802-3-ethernet", "mac-address" | "cloned-mac-address")
                if is_hardware_address(&entry.value) =>
            {
                interface.bind(format!("{}={}", entry.key, entry.value), &entry.evidence);
            }
            ("ipv4" | "ipv6", key) if key.starts_with("address") && key != "address-data" => {
                // addresses=10.0.0.2/24;…, address1=10.0.0.2/24,10.0.0.1 with the gateway behind.
                let mut parts = entry.value.split(';').filter_map(|part| part.split(',').next());
                if key == "addresses" {
                    parts.by_ref().for_each(|part| interface.address(part, &entry.evidence));
                } else if let Some(first) = parts.next() {
                    interface.address(first, &entry.evidence);
                }
            }
            ("ipv4" | "ipv6", "dns") => interface.name_servers.extend(words().map(Text::from)),
            ("ipv4", "method") => {
                interface.v4 = method(&entry.value);
                interface.evidence = entry.evidence.clone();
            }
            ("ipv6", "method") => interface.v6 = method(&entry.value),
            _ => {}
        }
    }
    let (v4, v6) = (interface.v4, interface.v6);
    interface.settle();
    // Addresses beside DHCP are added to what the server gives; what is disabled has none.
    (interface.v4, interface.v6) = (v4, v6);
    let is_off = |method: Option<&str>| matches!(method, Some("disabled" | "ignore" | "link-local"));
    let (off4, off6) = (is_off(value("ipv4", "method")), is_off(value("ipv6", "method")));
    interface.addresses.retain(|address| if address.is_v6() { !off6 } else { !off4 });
    Some(interface)
}

fn method(value: &str) -> Method {
    match value {
        "auto" | "dhcp" => Method::Dhcp,
        "manual" => Method::Static,
        "disabled" | "ignore" | "link-local" => Method::None,
        _ => Method::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Interface> {
        connection(&GuestFile { path: b"/x".to_vec(), volume: String::new(), bytes: text.into() })
    }

    #[test]
    fn methods_and_addresses_are_read() {
        let fixed = of("[connection]\nid=a\ntype=ethernet\ninterface-name=ens192\nautoconnect=true\n[ethernet]\nmac-address=00:50:56:AA:BB:CC\n\
             [ipv4]\nmethod=manual\naddress1=10.0.0.2/24,10.0.0.1\ndns=10.0.0.1;\n[ipv6]\nmethod=ignore\naddress1=2001:db8::1/64\n").unwrap();
        assert_eq!((fixed.v4, fixed.v6), (Method::Static, Method::None));
        assert_eq!(fixed.addresses.len(), 1);
        assert_eq!(fixed.addresses[0].text, Text::from("10.0.0.2/24"));
        assert!(fixed.is_bound() && fixed.fits(b"ens192") && !fixed.fits(b"eth0"));
    }

    /// The connection of augeas' `test_networkmanager.aug` is one of Wi-Fi.
    #[test]
    fn wireless_is_not_the_card_of_a_virtual_machine() {
        let wifi = of("[connection]\nid=wifoobar\ntype=802-11-wireless\n[ipv4]\nmethod=auto\n").unwrap();
        assert_eq!((wifi.kind, wifi.v4), (Kind::Aside, Method::Dhcp));
        assert!(of("[connection]\ntype=vpn\n").is_none());
    }
}
