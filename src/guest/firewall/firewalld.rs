//! firewalld (firewalld.zone(5)): the default zone, and the zones that interfaces are put into.

use super::Passage;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use crate::guest::syntax::variables::Variables;

/// The zone where no file says another.
const DEFAULT: &str = "public";
/// What a zone of that name has if it has no file, in all versions: all but these let ssh in.
const WITHOUT_SSH: &[&str] = &["block", "drop"];
/// Services of a zone that are looked up.
const MAX_SERVICES: usize = 256;

/// The default zone.
#[derive(Debug, Default)]
pub(super) struct Zones {
    name: String,
    /// `ACCEPT`, `DROP`, `%%REJECT%%`, or `default`, which refuses.
    target: String,
    /// TCP ports, first to last.
    ports: Vec<(u16, u16)>,
    /// Services whose ports are not known.
    unknown: Vec<String>,
    /// Rules that say more than a port.
    has_rich: bool,
    pub(super) evidence: Vec<Evidence>,
}

/// Reads the default zone.
pub(super) fn read(tree: &Tree) -> Result<Zones> {
    let config = Variables::read(tree, "/etc/firewalld/firewalld.conf")?.unwrap_or_default();
    let name = match config.value("DefaultZone") {
        "" => DEFAULT.to_owned(),
        name => name.to_owned(),
    };
    if name.contains('/') {
        return Err(Error::new(ErrorKind::Unsupported, "firewalld's DefaultZone is no name of a zone"));
    }
    let mut zones = Zones { name: name.clone(), ..Zones::default() };
    zones.evidence.extend(config.get("DefaultZone").map(|line| line.evidence.clone()));
    let Some(file) = find(tree, "zones", &name)? else {
        if !WITHOUT_SSH.contains(&name.as_str()) {
            zones.unknown.push(format!("zone {name} has no file"));
        }
        return Ok(zones);
    };
    zones.evidence.push(file.evidence(format!("zone {name}")));
    let text = String::from_utf8_lossy(&file.bytes).into_owned();
    let document = xml(&file, &text)?;
    let root = document.root_element();
    zones.target = root.attribute("target").unwrap_or("default").to_owned();
    for node in root.children().filter(roxmltree::Node::is_element).take(MAX_SERVICES) {
        match node.tag_name().name() {
            "port" => zones.ports.extend(port(&node)),
            "rule" => zones.has_rich = true,
            "service" => {
                let service = node.attribute("name").unwrap_or_default();
                match find(tree, "services", service)? {
                    Some(file) => {
                        let text = String::from_utf8_lossy(&file.bytes).into_owned();
                        let document = xml(&file, &text)?;
                        let nodes =
                            document.root_element().children().filter(|node| node.has_tag_name("port"));
                        zones.ports.extend(nodes.take(MAX_SERVICES).filter_map(|node| port(&node)));
                    }
                    None if service == "ssh" => zones.ports.push((22, 22)),
                    None => zones
                        .unknown
                        .push(format!("service {} has no file", crate::text::escape(service.as_bytes()))),
                }
            }
            _ => {}
        }
    }
    Ok(zones)
}

fn find(tree: &Tree, kind: &str, name: &str) -> Result<Option<GuestFile>> {
    if name.contains('/') {
        return Ok(None);
    }
    let paths =
        [format!("/etc/firewalld/{kind}/{name}.xml"), format!("/usr/lib/firewalld/{kind}/{name}.xml")];
    for path in paths {
        if let Some(file) = file::read(tree, &path, MAX_CONFIG)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

fn xml<'a>(file: &GuestFile, text: &'a str) -> Result<roxmltree::Document<'a>> {
    roxmltree::Document::parse(text).map_err(|error| {
        let path = crate::text::escape(&file.path);
        Error::new(ErrorKind::Unsupported, format!("{path} is no XML: {error}"))
    })
}

/// `<port port="5000-5010" protocol="tcp"/>`.
fn port(node: &roxmltree::Node<'_, '_>) -> Option<(u16, u16)> {
    if node.attribute("protocol") != Some("tcp") {
        return None;
    }
    let text = node.attribute("port")?;
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    Some((from.parse().ok()?, to.parse().ok()?))
}

impl Zones {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn passage(&self, port: u16) -> Passage {
        let is_open =
            self.target == "ACCEPT" || self.ports.iter().any(|(from, to)| (*from..=*to).contains(&port));
        if self.has_rich {
            return Passage::Unknown(format!("zone {} of firewalld has rich rules", self.name));
        }
        match self.unknown.first() {
            _ if is_open => Passage::Open,
            Some(why) => Passage::Unknown(format!("firewalld: {why}")),
            None => Passage::Blocked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    const PUBLIC: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<zone>\n  <short>Public</short>\n  <service name=\"ssh\"/>\n  <service name=\"dhcpv6-client\"/>\n</zone>\n";
    const DHCP: (&str, &str) = (
        "/usr/lib/firewalld/services/dhcpv6-client.xml",
        "<service><port protocol=\"udp\" port=\"546\"/></service>",
    );

    fn zones(files: &[(&str, &str)]) -> Zones {
        read(&MemoryFs::tree(files)).unwrap()
    }

    /// The zone and services are those that firewalld 1.3 brings.
    #[test]
    fn services_of_the_default_zone_are_open() {
        let vendor = ("/usr/lib/firewalld/zones/public.xml", PUBLIC);
        let open = zones(&[vendor, DHCP]);
        assert_eq!((open.passage(22), open.passage(3389)), (Passage::Open, Passage::Blocked));
        // A service of the administrator's own has another port than the vendor's.
        let moved =
            ("/etc/firewalld/services/ssh.xml", "<service><port protocol=\"tcp\" port=\"2222\"/></service>");
        assert_eq!(zones(&[vendor, DHCP, moved]).passage(22), Passage::Blocked);
        let own = ("/etc/firewalld/zones/public.xml", "<zone><port port=\"20-25\" protocol=\"tcp\"/></zone>");
        assert_eq!(zones(&[vendor, own]).passage(22), Passage::Open);
    }

    #[test]
    fn what_is_not_known_is_said() {
        let conf = ("/etc/firewalld/firewalld.conf", "# x\nDefaultZone=drop\n");
        assert_eq!(zones(&[conf]).passage(22), Passage::Blocked);
        assert!(matches!(zones(&[]).passage(22), Passage::Unknown(_)));
        let rich = ("/etc/firewalld/zones/public.xml", "<zone><rule><drop/></rule></zone>");
        assert!(matches!(zones(&[rich]).passage(22), Passage::Unknown(_)));
    }
}
