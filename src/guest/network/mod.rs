//! How a Linux sets up its network at boot: the configurations of interfaces that something reads, and what gives a card
//! an address without any. Each way to configure a network (a [`Backend`]) has its file here; one whose service does not
//! start reads nothing, and its files do not count.

use super::Guest;
use super::evidence::Evidence;
use super::fact::Fact;
use super::file;
use super::glob;
use super::services::Services;
use crate::error::Result;
use crate::fs::FileType;
use crate::fs::tree::Tree;
use crate::text::Text;

mod cloud;
mod ifcfg;
mod ifupdown;
mod ipv6;
mod keyfile;
mod manager;
mod naming;
mod netplan;
mod networkd;
mod rules;

pub use cloud::CloudNetwork;
pub use ipv6::Ipv6;
pub use naming::{Naming, Scheme};
pub use networkd::{LinkFile, LinkFiles};
pub use rules::{NetRule, NetRules, bindings};

/// A way to configure a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `/etc/network/interfaces` (ifupdown).
    Ifupdown,
    /// `/etc/sysconfig/network-scripts/ifcfg-*` (Red Hat).
    NetworkScripts,
    /// `/etc/sysconfig/network/ifcfg-*` (SUSE, wicked).
    Wicked,
    /// `/etc/netplan/*.yaml`.
    Netplan,
    /// `/etc/NetworkManager/system-connections`.
    NetworkManager,
    /// `/etc/systemd/network/*.network`.
    Networkd,
    /// dhcpcd on its own.
    Dhcpcd,
    /// connman.
    Connman,
}

impl Backend {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ifupdown => "ifupdown",
            Self::NetworkScripts => "network-scripts",
            Self::Wicked => "wicked",
            Self::Netplan => "netplan",
            Self::NetworkManager => "NetworkManager",
            Self::Networkd => "systemd-networkd",
            Self::Dhcpcd => "dhcpcd",
            Self::Connman => "connman",
        }
    }
}

/// How an interface gets addresses of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    #[default]
    None,
    /// From a DHCP server; IPv6: from the network in any way.
    Dhcp,
    /// They are written down.
    Static,
    /// In a way that is neither.
    Other,
}

/// What an interface is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A card, or a bridge or bond that has the card's address.
    #[default]
    Card,
    /// `lo`.
    Loopback,
    /// A tunnel, a VLAN, a container's end, a modem, Wi-Fi: not the card of a virtual machine.
    Aside,
}

/// An address that is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As written.
    pub text: Text,
    /// Where.
    pub evidence: Evidence,
}

impl Address {
    /// Is it one of IPv6?
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.text.as_bytes().contains(&b':')
    }
}

/// What ties a configuration to one machine's card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// As written: `HWADDR=52:54:00:12:34:56`.
    pub text: Text,
    /// Where.
    pub evidence: Evidence,
}

/// The configuration of one interface, or of all that fit.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Who reads it.
    pub backend: Backend,
    /// The names or patterns that it is for; none: any.
    pub names: Vec<Text>,
    /// What it is.
    pub kind: Kind,
    /// Is it brought up at boot?
    pub at_boot: bool,
    /// Is it a part of a bridge or bond, without an address of its own?
    pub is_port: bool,
    /// IPv4.
    pub v4: Method,
    /// IPv6.
    pub v6: Method,
    /// Those written down.
    pub addresses: Vec<Address>,
    /// Hardware addresses, and connections of cards, that it is bound to.
    pub bindings: Vec<Binding>,
    /// Name servers that are written down.
    pub name_servers: Vec<Text>,
    /// The zone of firewalld.
    pub zone: Option<Text>,
    /// The file, and the line that says how the address comes about.
    pub evidence: Evidence,
}

impl Interface {
    /// One of which nothing is said.
    #[must_use]
    pub fn new(backend: Backend, evidence: Evidence) -> Self {
        Self {
            backend,
            names: Vec::new(),
            kind: Kind::Card,
            at_boot: true,
            is_port: false,
            v4: Method::None,
            v6: Method::None,
            addresses: Vec::new(),
            bindings: Vec::new(),
            name_servers: Vec::new(),
            zone: None,
            evidence,
        }
    }

    /// Is it of a card that is set up at boot?
    #[must_use]
    pub fn counts(&self) -> bool {
        self.at_boot && self.kind == Kind::Card && !self.is_port
    }

    /// Is it bound to one card of the source machine, so that the target's is not meant?
    #[must_use]
    pub fn is_bound(&self) -> bool {
        !self.bindings.is_empty()
    }

    /// Is it for an interface of this name?
    #[must_use]
    pub fn fits(&self, name: &[u8]) -> bool {
        self.names.is_empty() || self.names.iter().any(|pattern| glob::matches(pattern.as_bytes(), name))
    }

    /// Its name, for people: the first, or `any card`.
    #[must_use]
    pub fn name(&self) -> String {
        self.names.first().map_or_else(|| "any card".to_owned(), ToString::to_string)
    }

    /// Did cloud-init write it? It writes it anew on each new machine.
    #[must_use]
    pub fn is_of_cloud_init(&self) -> bool {
        let path = self.evidence.path.as_ref().map(|path| path.as_bytes().to_vec()).unwrap_or_default();
        path.windows(10).any(|part| part == b"cloud-init")
    }

    /// Puts an address down.
    fn address(&mut self, text: &str, evidence: &Evidence) {
        let text = text.trim();
        if !text.is_empty() {
            self.addresses.push(Address { text: Text::from(text), evidence: evidence.clone() });
        }
    }

    /// Puts down what it is bound to.
    fn bind(&mut self, text: String, evidence: &Evidence) {
        self.bindings.push(Binding { text: Text::new(text), evidence: evidence.clone() });
    }

    /// What is left to say once all was read: where addresses are written down and nothing says how they come about.
    fn settle(&mut self) {
        if self.v4 == Method::None && self.addresses.iter().any(|address| !address.is_v6()) {
            self.v4 = Method::Static;
        }
        if self.v6 == Method::None && self.addresses.iter().any(Address::is_v6) {
            self.v6 = Method::Static;
        }
        if self.names.iter().all(|name| name.as_bytes() == b"lo") && !self.names.is_empty() {
            self.kind = Kind::Loopback;
        }
    }
}

/// The network of a guest, as it is set up at boot.
#[derive(Debug, Default)]
pub struct Network {
    /// The ways that are in use, with what starts each.
    pub backends: Vec<(Backend, Evidence)>,
    /// Configurations that one of them reads.
    pub interfaces: Vec<Interface>,
    /// What asks for an address on every card for which nothing else is said.
    pub automatic: Vec<(Backend, Evidence)>,
    /// Files that look like configurations and that nothing reads, with the reason.
    pub unused: Vec<Evidence>,
    /// What is there and not understood, one sentence each: what it does is not known.
    pub unclear: Vec<String>,
}

impl Network {
    /// Is this way in use?
    #[must_use]
    pub fn uses(&self, backend: Backend) -> bool {
        self.backends.iter().any(|(used, _)| *used == backend)
    }

    /// Configurations of cards that are set up at boot.
    pub fn cards(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(|interface| interface.counts())
    }

    /// Takes in what a back end read; if it is not in use, only that its files are there.
    fn add(&mut self, is_used: bool, why: &str, found: Vec<Interface>) {
        if is_used {
            self.interfaces.extend(found);
        } else {
            let unused = |interface: Interface| Evidence { what: why.to_owned(), ..interface.evidence };
            self.unused.extend(found.into_iter().filter(|one| one.kind == Kind::Card).map(unused));
        }
    }
}

/// Services by which a way is started: systemd's units, and scripts of the older kinds under their own names.
const STARTED_BY: &[(Backend, &[&str])] = &[
    (Backend::Ifupdown, &["networking.service", "networking", "network-interface"]),
    (Backend::NetworkScripts, &["network.service", "network"]),
    (Backend::Wicked, &["wicked.service", "wickedd.service", "wicked", "network.service", "network"]),
    (
        Backend::NetworkManager,
        &["NetworkManager.service", "network-manager.service", "NetworkManager", "network-manager"],
    ),
    (Backend::Networkd, &["systemd-networkd.service", "systemd-networkd.socket"]),
    (Backend::Dhcpcd, &["dhcpcd.service", "dhcpcd"]),
    (Backend::Connman, &["connman.service", "connmand", "connman"]),
];

/// Ways that are not read, by what they are configured with.
const UNREAD: &[(&str, &str)] = &[
    ("/etc/conf.d/net", "netifrc"),
    ("/etc/netctl/interfaces", "netctl"),
    ("/etc/config/network", "UCI"),
    ("/etc/rc.d/rc.inet1.conf", "Slackware's rc.inet1"),
    ("/etc/rc.conf.d/network", "rc.conf.d"),
];

impl Fact for Network {
    fn read(guest: &Guest) -> Result<Self> {
        let services = guest.services()?;
        read(guest.facts(), services)
    }
}

fn read(tree: &Tree, services: &Services) -> Result<Network> {
    let mut network = Network::default();
    for (backend, units) in STARTED_BY {
        // SUSE's and Red Hat's services have one name; the directory tells whose it is.
        let dir = match backend {
            Backend::NetworkScripts => ifcfg::RED_HAT,
            Backend::Wicked => ifcfg::SUSE,
            _ => "/",
        };
        // `/etc/sysconfig/network` is a file on Red Hat.
        let is_there = tree
            .find(dir.as_bytes())?
            .map_or(Ok(false), |node| tree.stat(node).map(|stat| stat.kind == FileType::Dir))?;
        let started = units.iter().find_map(|unit| services.enabled(unit)).cloned();
        if let Some(evidence) = started
            && is_there
        {
            network.backends.push((*backend, evidence));
        }
    }
    if !network.uses(Backend::Ifupdown)
        && let Some(evidence) = ifupdown::started_early(tree)?
    {
        network.backends.push((Backend::Ifupdown, evidence));
    }
    if let Some(evidence) = netplan::generator(tree)? {
        network.backends.push((Backend::Netplan, evidence));
    }
    let not_started =
        |backend: Backend| format!("{} does not start at boot, so nothing reads this", backend.name());
    for backend in [Backend::NetworkScripts, Backend::Wicked] {
        let by_manager = backend == Backend::NetworkScripts
            && network.uses(Backend::NetworkManager)
            && manager::reads_ifcfg(tree)?;
        let is_used = network.uses(backend) || by_manager;
        network.add(is_used, &not_started(backend), ifcfg::read(tree, backend)?);
    }
    let mut found = ifupdown::read(tree)?;
    network.unclear.append(&mut found.unclear);
    let is_used = network.uses(Backend::Ifupdown);
    network.add(is_used, &not_started(Backend::Ifupdown), found.interfaces);
    let is_used = network.uses(Backend::Netplan);
    network.add(is_used, "netplan is not installed, so nothing reads this", netplan::read(tree)?);
    let keys = keyfile::read(tree)?;
    let is_used = network.uses(Backend::NetworkManager);
    network.add(is_used, &not_started(Backend::NetworkManager), keys.interfaces);
    network.unused.extend(keys.ignored);
    // Its package brings files of its own on every Debian: not worth reading where nothing starts it.
    let is_used = network.uses(Backend::Networkd);
    let found = if is_used { networkd::read(tree)? } else { networkd::own(tree)? };
    network.add(is_used, &not_started(Backend::Networkd), found);
    if let Some((_, evidence)) =
        network.backends.iter().find(|(backend, _)| *backend == Backend::NetworkManager)
        && manager::is_automatic(tree)?
    {
        network.automatic.push((Backend::NetworkManager, evidence.clone()));
    }
    for (backend, evidence) in network.backends.clone() {
        if matches!(backend, Backend::Dhcpcd | Backend::Connman) {
            if backend == Backend::Dhcpcd && ifupdown::dhcpcd_is_static(tree)? {
                network.unclear.push("/etc/dhcpcd.conf has addresses of its own".to_owned());
            }
            network.automatic.push((backend, evidence));
        }
    }
    for (path, name) in UNREAD {
        if file::exists(tree, path)? {
            network.unclear.push(format!("the network is set up by {name} ({path}), which is not read"));
        }
    }
    Ok(network)
}

/// Does a hardware address stand for one card? Not one that is empty or a placeholder.
fn is_hardware_address(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_hexdigit).count();
    digits >= 12 && text.chars().all(|c| c.is_ascii_hexdigit() || c == ':' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::super::services;
    use super::*;

    pub(super) fn network(files: &[(&str, &str)]) -> Network {
        let tree = MemoryFs::tree(files);
        read(&tree, &services::read(&tree).unwrap()).unwrap()
    }

    const ETH0: (&str, &str) =
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=eth0\nBOOTPROTO=dhcp\nONBOOT=yes\n");

    #[test]
    fn files_of_a_service_that_does_not_start_do_not_count() {
        let off = network(&[ETH0]);
        assert!(off.interfaces.is_empty() && off.unused.len() == 1);
        let on = network(&[ETH0, ("/etc/rc3.d/S10network", "")]);
        assert_eq!(on.interfaces.len(), 1);
        assert!(on.uses(Backend::NetworkScripts) && !on.uses(Backend::Wicked));
    }

    /// Fedora 36 moved the plug-in that reads ifcfg files into a package of its own.
    #[test]
    fn the_network_service_of_red_hat_is_not_that_of_suse() {
        // As CentOS 6 has it.
        let network = network(&[
            ETH0,
            ("/etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=localhost.localdomain\n"),
            ("/etc/inittab", "id:3:initdefault:\n"),
            ("/etc/rc.d/init.d/network", "#!/bin/bash\n"),
            ("/etc/rc.d/rc3.d/S10network", "-> ../init.d/network"),
            ("/etc/rc3.d", "-> rc.d/rc3.d"),
            ("/etc/init.d", "-> rc.d/init.d"),
        ]);
        let used: Vec<Backend> = network.backends.iter().map(|(backend, _)| *backend).collect();
        assert_eq!(used, [Backend::NetworkScripts]);
    }

    #[test]
    fn networkmanager_reads_ifcfg_files_with_its_plugin_only() {
        let service = (
            "/etc/systemd/system/multi-user.target.wants/NetworkManager.service",
            "-> /usr/lib/systemd/system/NetworkManager.service",
        );
        let unit = ("/usr/lib/systemd/system/NetworkManager.service", "[Unit]\n");
        let plugin = ("/usr/lib64/NetworkManager/1.30.0-1.el8/libnm-settings-plugin-ifcfg-rh.so", "ELF");
        assert!(network(&[ETH0, service, unit]).interfaces.is_empty());
        let with = network(&[ETH0, service, unit, plugin]);
        assert_eq!(with.interfaces.len(), 1);
        assert_eq!(with.automatic.len(), 1);
    }

    #[test]
    fn a_way_that_is_not_read_is_said() {
        assert_eq!(network(&[("/etc/conf.d/net", "config_eth0=\"dhcp\"\n")]).unclear.len(), 1);
    }
}
