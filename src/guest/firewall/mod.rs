//! Firewalls of a Linux that start at boot, and whether a new connection to a port gets past each. What its rules say is
//! followed as far as it can be; where one depends on more than the port, the answer is not known.

use super::Guest;
use super::evidence::Evidence;
use super::fact::Fact;
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::services::Services;

mod firewalld;
mod iptables;
mod nftables;
mod suse;
mod ufw;

/// Does a new TCP connection to a port from anywhere get past?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Yes.
    Open,
    /// No.
    Blocked,
    /// It cannot be said, and why.
    Unknown(String),
}

/// One firewall that starts at boot.
#[derive(Debug)]
pub struct Firewall {
    /// Its name: `firewalld`, `ufw`.
    pub name: &'static str,
    /// The service that starts it.
    pub service: &'static str,
    /// What starts it.
    pub starts: Evidence,
    /// The file that its rules stand in.
    pub evidence: Vec<Evidence>,
    rules: Rules,
}

/// What one firewall lets through.
#[derive(Debug)]
enum Rules {
    Firewalld(firewalld::Zones),
    Iptables(iptables::Table),
    Nftables(nftables::Script),
    Ufw(ufw::Ufw),
    Suse(suse::Suse),
    /// Not read; its name says enough.
    Unread,
}

impl Firewall {
    /// Does a new TCP connection to this port from anywhere get past it?
    #[must_use]
    pub fn passage(&self, port: u16) -> Passage {
        match &self.rules {
            Rules::Firewalld(zones) => zones.passage(port),
            Rules::Iptables(table) => table.passage("INPUT", port),
            Rules::Nftables(script) => script.passage(),
            Rules::Ufw(ufw) => ufw.passage(port),
            Rules::Suse(suse) => suse.passage(port),
            Rules::Unread => Passage::Unknown(format!("the rules of {} are not read", self.name)),
        }
    }

    /// The zone of firewalld that is judged: interfaces may be put into others.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        if let Rules::Firewalld(zones) = &self.rules { Some(zones.name()) } else { None }
    }

    /// Does it filter anything? One whose rules let all pass does not.
    #[must_use]
    pub fn filters(&self) -> bool {
        match &self.rules {
            Rules::Iptables(table) => table.filters(),
            Rules::Nftables(script) => script.filters(),
            _ => true,
        }
    }
}

/// The firewalls of a guest that start at boot: `guest.fact::<Firewalls>()`.
#[derive(Debug, Default)]
pub struct Firewalls {
    /// Each that starts.
    pub active: Vec<Firewall>,
}

/// What may start a firewall, by the names of its services.
const KNOWN: &[(&str, &[&str])] = &[
    ("firewalld", &["firewalld.service", "firewalld"]),
    ("ufw", &["ufw.service", "ufw"]),
    ("iptables", &["iptables.service", "iptables", "netfilter-persistent.service", "netfilter-persistent"]),
    ("nftables", &["nftables.service", "nftables"]),
    ("SuSEfirewall2", &["SuSEfirewall2.service", "SuSEfirewall2_setup", "SuSEfirewall2_init"]),
    ("shorewall", &["shorewall.service", "shorewall"]),
    ("APF", &["apf.service", "apf"]),
    ("CSF", &["csf.service", "csf"]),
    ("ferm", &["ferm.service", "ferm"]),
];

impl Fact for Firewalls {
    fn read(guest: &Guest) -> Result<Self> {
        read(guest.facts(), guest.services()?)
    }
}

fn read(tree: &Tree, services: &Services) -> Result<Firewalls> {
    let mut found = Firewalls::default();
    for (name, units) in KNOWN {
        let started = units.iter().find_map(|unit| Some((*unit, services.enabled(unit)?.clone())));
        let Some((service, starts)) = started else { continue };
        let (rules, evidence) = match *name {
            "firewalld" => {
                let zones = firewalld::read(tree)?;
                let evidence = zones.evidence.clone();
                (Rules::Firewalld(zones), evidence)
            }
            "ufw" => {
                // The service is always enabled; its own file says whether it does anything.
                let Some(ufw) = ufw::read(tree)? else { continue };
                let evidence = vec![ufw.evidence.clone()];
                (Rules::Ufw(ufw), evidence)
            }
            "iptables" => match iptables::read(tree)? {
                Some((table, evidence)) => (Rules::Iptables(table), vec![evidence]),
                // Without a file of rules there is nothing to load.
                None => continue,
            },
            "nftables" => match nftables::read(tree)? {
                Some(script) => {
                    let evidence = script.evidence.clone();
                    (Rules::Nftables(script), evidence)
                }
                None => continue,
            },
            "SuSEfirewall2" => match suse::read(tree)? {
                Some(suse) => {
                    let evidence = vec![suse.evidence.clone()];
                    (Rules::Suse(suse), evidence)
                }
                None => (Rules::Unread, Vec::new()),
            },
            _ => (Rules::Unread, Vec::new()),
        };
        found.active.push(Firewall { name, service, starts, evidence, rules });
    }
    Ok(found)
}
