//! `ifcfg-*` files: of Red Hat's network-scripts (also read by NetworkManager's ifcfg-rh plug-in), and of SUSE's wicked.
//! Keys after `sysconfig.txt` of initscripts and ifcfg(5) of wicked.

use super::{Backend, Interface, Kind, Method, is_hardware_address};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::file::{self, MAX_CONFIG};
use crate::guest::syntax::variables::Variables;
use crate::text::Text;

/// Where Red Hat's are.
pub(super) const RED_HAT: &str = "/etc/sysconfig/network-scripts";
/// Where SUSE's are.
pub(super) const SUSE: &str = "/etc/sysconfig/network";
/// Interfaces that are looked at.
const MAX_FILES: usize = 1024;
/// Ends of names of copies that editors and rpm leave behind, which the scripts pass over.
const COPIES: &[&str] =
    &["~", ".bak", ".orig", ".rej", ".rpmnew", ".rpmorig", ".rpmsave", ".rpmold", ".template"];

/// Every interface.
pub(super) fn read(tree: &Tree, backend: Backend) -> Result<Vec<Interface>> {
    let dir = if backend == Backend::Wicked { SUSE } else { RED_HAT };
    let mut found = Vec::new();
    for name in file::names(tree, dir)? {
        let Some(of) = name.strip_prefix(b"ifcfg-") else { continue };
        if of.is_empty()
            || COPIES.iter().any(|end| name.ends_with(end.as_bytes()))
            || found.len() >= MAX_FILES
        {
            continue;
        }
        let path = [dir.as_bytes(), b"/", &name].concat();
        let Some(file) = file::read(tree, path, MAX_CONFIG)? else { continue };
        let variables = Variables::parse(&file);
        let evidence = file.evidence("configures an interface");
        let of = String::from_utf8_lossy(of).into_owned();
        found.push(match backend {
            Backend::Wicked => suse(&variables, &of, evidence),
            _ => red_hat(&variables, &of, evidence),
        });
    }
    Ok(found)
}

fn is_yes(value: &str) -> bool {
    ["yes", "true", "t", "y", "1", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

fn is_no(value: &str) -> bool {
    ["no", "false", "f", "n", "0", "off"].iter().any(|no| value.eq_ignore_ascii_case(no))
}

/// What both kinds have in common: addresses, and what is bound to the hardware.
fn common(interface: &mut Interface, variables: &Variables, hardware: &[&str], setting: &str) {
    for variable in variables.iter() {
        let name = variable.name.as_str();
        let is_address = |key: &str| {
            name.strip_prefix(key).is_some_and(|rest| {
                rest.trim_start_matches('_').chars().all(|c| c.is_ascii_alphanumeric())
                    && !rest.contains("PREFIX")
            })
        };
        if is_address("IPADDR") || name == "IPV6ADDR" {
            interface.address(&variable.value, &variable.evidence);
        }
        if name == "IPV6ADDR_SECONDARIES" {
            for address in variable.value.split_whitespace() {
                interface.address(address, &variable.evidence);
            }
        }
        if (hardware.contains(&name) || name == setting) && is_hardware_address(&variable.value) {
            interface.bind(format!("{name}={}", variable.value), &variable.evidence);
        }
        if name.starts_with("DNS") && !variable.value.is_empty() {
            interface.name_servers.push(Text::from(variable.value.as_str()));
        }
    }
}

fn red_hat(variables: &Variables, of: &str, evidence: Evidence) -> Interface {
    let mut interface = Interface::new(Backend::NetworkScripts, evidence);
    let device = variables.value("DEVICE");
    let hardware = variables.value("HWADDR");
    // Without DEVICE the hardware address says which card it is; network-scripts take the file's name.
    if !device.is_empty() || !is_hardware_address(hardware) {
        interface.names.push(Text::from(if device.is_empty() { of } else { device }));
    }
    interface.at_boot = !is_no(variables.value("ONBOOT"));
    let kind = variables.value("TYPE").to_ascii_lowercase();
    if matches!(
        kind.as_str(),
        "wireless" | "gre" | "ipip" | "sit" | "tun" | "tap" | "modem" | "xdsl" | "wireguard" | "dummy"
    ) || is_yes(variables.value("VLAN"))
        || device.starts_with("ppp")
    {
        interface.kind = Kind::Aside;
    }
    interface.is_port =
        ["BRIDGE", "MASTER", "TEAM_MASTER", "OVS_BRIDGE"].iter().any(|key| !variables.value(key).is_empty());
    common(&mut interface, variables, &["HWADDR"], "MACADDR");
    interface.v4 = match variables.value("BOOTPROTO").to_ascii_lowercase().as_str() {
        "dhcp" | "bootp" | "ibft" => Method::Dhcp,
        "shared" | "autoip" => Method::Other,
        _ => Method::None,
    };
    if interface.v4 == Method::Dhcp {
        // initscripts and NetworkManager both ask a server then; an address that was left behind is not used.
        interface.addresses.retain(super::Address::is_v6);
    }
    if is_no(variables.value("IPV6INIT")) {
        interface.addresses.retain(|address| !address.is_v6());
    } else if is_yes(variables.value("DHCPV6C")) || is_yes(variables.value("IPV6_AUTOCONF")) {
        interface.v6 = Method::Dhcp;
    }
    interface.zone = variables
        .get("ZONE")
        .filter(|zone| !zone.value.is_empty())
        .map(|zone| Text::from(zone.value.as_str()));
    let line =
        variables.get("BOOTPROTO").or_else(|| variables.get("IPADDR")).or_else(|| variables.get("IPADDR0"));
    if let Some(line) = line {
        interface.evidence = line.evidence.clone();
    }
    interface.settle();
    interface
}

fn suse(variables: &Variables, of: &str, evidence: Evidence) -> Interface {
    let mut interface = Interface::new(Backend::Wicked, evidence);
    // SUSE 10 named the files by the card: eth-id-00:16:3e:…, eth-bus-pci-….
    match of.split_once("-id-").or_else(|| of.split_once("-bus-")) {
        Some((_, card)) => {
            let evidence = interface.evidence.clone();
            interface.bind(card.to_owned(), &evidence);
        }
        None => interface.names.push(Text::from(of)),
    }
    interface.at_boot =
        !matches!(variables.value("STARTMODE").to_ascii_lowercase().as_str(), "off" | "manual" | "");
    let is_aside = ["ETHERDEVICE", "TUNNEL", "WIRELESS_ESSID", "PPPMODE"]
        .iter()
        .any(|key| !variables.value(key).is_empty());
    if is_aside || ["wlan", "tun", "tap", "ppp", "dummy", "vlan"].iter().any(|kind| of.starts_with(kind)) {
        interface.kind = Kind::Aside;
    }
    common(&mut interface, variables, &[], "LLADDR");
    let how = variables.value("BOOTPROTO").to_ascii_lowercase();
    let asks = |family: &str| how.split('+').any(|word| word == "dhcp" || word == family);
    if asks("dhcp4") {
        interface.v4 = Method::Dhcp;
        interface.addresses.retain(super::Address::is_v6);
    }
    if asks("dhcp6") {
        interface.v6 = Method::Dhcp;
    }
    if how == "autoip" {
        interface.v4 = Method::Other;
    }
    let line = variables.get("BOOTPROTO").or_else(|| variables.get("IPADDR"));
    if let Some(line) = line {
        interface.evidence = line.evidence.clone();
    }
    interface.zone = variables
        .get("ZONE")
        .filter(|zone| !zone.value.is_empty())
        .map(|zone| Text::from(zone.value.as_str()));
    interface.settle();
    interface
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::file::GuestFile;

    fn variables(text: &str) -> Variables {
        Variables::parse(&GuestFile { path: b"/x".to_vec(), volume: String::new(), bytes: text.into() })
    }

    fn red_hat_of(text: &str) -> Interface {
        red_hat(&variables(text), "eth0", Evidence::default())
    }

    #[test]
    fn dhcp_static_and_neither() {
        assert_eq!(red_hat_of("DEVICE=eth0\nBOOTPROTO=dhcp\nIPADDR=10.0.0.1\n").v4, Method::Dhcp);
        let fixed =
            red_hat_of("DEVICE=eth0\nBOOTPROTO=none\nIPADDR=\"10.0.0.1\"\nPREFIX=24\nIPADDR1=10.0.0.2\n");
        assert_eq!((fixed.v4, fixed.addresses.len()), (Method::Static, 2));
        assert_eq!(red_hat_of("DEVICE=eth0\nBOOTPROTO=static\n").v4, Method::None);
    }

    /// Files of augeas: a port of a bridge, a bridge, a card that is not started.
    #[test]
    fn ports_have_no_address_of_their_own() {
        let port =
            red_hat_of("DEVICE=eth0\n#BOOTPROTO=dhcp\nHWADDR=00:15:17:81:5B:0E\nONBOOT=yes\nBRIDGE=br0\n");
        assert!(port.is_port && port.is_bound());
        assert!(!red_hat_of("DEVICE=wlan0\nBOOTPROTO=dhcp\nONBOOT=no\n").at_boot);
        assert!(red_hat_of("DEVICE=eth0\nHWADDR=XX:YY:ZZ:81:5B:0E\n").bindings.is_empty());
        assert_eq!(red_hat_of("DEVICE=lo\nIPADDR=127.0.0.1\n").kind, Kind::Loopback);
    }

    #[test]
    fn an_ipv6_address_is_one_of_ipv6() {
        let fixed = red_hat_of("BOOTPROTO=dhcp\nIPV6INIT=yes\nIPV6ADDR=2001:db8::2/64\n");
        assert_eq!((fixed.v4, fixed.v6), (Method::Dhcp, Method::Static));
        assert_eq!(red_hat_of("BOOTPROTO=dhcp\nIPV6INIT=no\nIPV6ADDR=2001:db8::2/64\n").v6, Method::None);
    }

    #[test]
    fn suse_says_when_an_interface_starts() {
        let of = |text: &str, name: &str| suse(&variables(text), name, Evidence::default());
        assert_eq!(of("BOOTPROTO='dhcp4'\nSTARTMODE='auto'\n", "eth0").v4, Method::Dhcp);
        assert!(!of("BOOTPROTO='dhcp'\nSTARTMODE='off'\n", "eth0").at_boot);
        assert_eq!(
            of("BOOTPROTO='static'\nIPADDR='10.0.0.1/24'\nSTARTMODE='auto'\n", "eth0").v4,
            Method::Static
        );
        assert!(of("BOOTPROTO='dhcp'\nSTARTMODE='auto'\n", "eth-id-00:16:3e:00:00:01").is_bound());
    }
}
