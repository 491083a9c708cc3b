//! How a guest finds name servers: `/etc/resolv.conf`, and who writes it anew at boot.

use super::Guest;
use super::evidence::Evidence;
use super::fact::Fact;
use super::file::{self, MAX_CONFIG};
use super::network::{Backend, CloudNetwork, Method, Network};
use super::services::Services;
use crate::error::Result;
use crate::fs::FileType;
use crate::text::Text;

const FILE: &str = "/etc/resolv.conf";
/// Name servers that are looked at; the C library takes three.
const MAX_SERVERS: usize = 64;
/// Services that answer on the guest's own address.
const LOCAL: &[&str] = &[
    "systemd-resolved.service",
    "dnsmasq.service",
    "dnsmasq",
    "unbound.service",
    "unbound",
    "named.service",
    "named",
    "bind9.service",
    "bind9",
    "nscd.service",
    "dnscrypt-proxy.service",
    "stubby.service",
    "resolvconf.service",
];

/// How names are resolved: `guest.fact::<Resolver>()`.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    /// The name servers that are written down, with their lines.
    pub servers: Vec<(Text, Evidence)>,
    /// Where the file leads, if it is a link.
    pub link: Option<(Text, Evidence)>,
    /// Is the file there, as a file?
    pub is_file: bool,
    /// What answers within the guest, if it starts at boot.
    pub local: Option<Evidence>,
    /// Who writes the file anew, by the answer of a DHCP server.
    pub written_by: Option<&'static str>,
    /// It cannot be changed: the inode has the immutable flag.
    pub is_immutable: bool,
}

impl Fact for Resolver {
    fn read(guest: &Guest) -> Result<Self> {
        let services = guest.services()?;
        let tree = guest.facts();
        let mut found = Self { local: local(services), ..Self::default() };
        if let Some(node) = file::entry(tree, FILE)? {
            let stat = tree.stat(node)?;
            let evidence = Evidence::new("names servers").on(tree.volume(node)).path(FILE.as_bytes());
            if stat.kind == FileType::Symlink {
                found.link = Some((Text::new(tree.readlink(node)?), evidence));
            } else {
                found.is_immutable = tree.is_immutable(node)?.unwrap_or(false);
            }
        }
        // A link into /run leads nowhere in an image.
        if let Some(file) = file::read(tree, FILE, MAX_CONFIG)? {
            found.is_file = true;
            for (number, line) in file.lines() {
                let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
                if words.next() == Some(b"nameserver")
                    && let Some(server) = words.next()
                    && found.servers.len() < MAX_SERVERS
                {
                    found
                        .servers
                        .push((Text::from(server), file.evidence("a name server").line(number, line)));
                }
            }
        }
        if !found.is_immutable {
            found.written_by = writer(guest, found.link.is_some())?;
        }
        Ok(found)
    }
}

fn local(services: &Services) -> Option<Evidence> {
    LOCAL.iter().find_map(|unit| services.enabled(unit)).cloned()
}

/// Who replaces the file: scripts of DHCP clients, NetworkManager unless the file is a link of somebody else's.
fn writer(guest: &Guest, is_link: bool) -> Result<Option<&'static str>> {
    let network = guest.fact::<Network>()?;
    let asks = |backend: Backend| {
        network
            .cards()
            .any(|one| one.backend == backend && (one.v4 == Method::Dhcp || !one.name_servers.is_empty()))
    };
    for backend in [Backend::Ifupdown, Backend::NetworkScripts, Backend::Wicked] {
        if asks(backend) {
            return Ok(Some(backend.name()));
        }
    }
    if network.uses(Backend::NetworkManager) && !is_link {
        return Ok(Some(Backend::NetworkManager.name()));
    }
    if let Some((backend, _)) =
        network.automatic.iter().find(|(backend, _)| *backend != Backend::NetworkManager)
    {
        return Ok(Some(backend.name()));
    }
    // What it writes is for a client of the guest that is not networkd, which leaves the file alone.
    let by_cloud = guest.fact::<CloudNetwork>()?.writes.is_some();
    let has_client = network.uses(Backend::Ifupdown)
        || network.uses(Backend::NetworkScripts)
        || network.uses(Backend::Wicked);
    Ok((by_cloud && has_client).then_some("cloud-init"))
}
