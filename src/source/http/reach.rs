//! Which addresses a redirect may lead to. A server out there must not make us speak to this host, to its neighbours on
//! the link, or to a cloud's metadata service; a user who names such an address first may go there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How near an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nearness {
    /// Anywhere else. Private networks count as that: mirrors live there.
    Far,
    /// This host.
    Loopback,
    /// The link, and the metadata services of clouds.
    Link,
}

/// Metadata services that are not link-local: Alibaba Cloud, Oracle Cloud (classic), Azure's wire server.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
/// AWS's over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// How near `address` is.
pub(super) fn nearness(address: IpAddr) -> Nearness {
    match address {
        IpAddr::V4(v4) if v4.is_loopback() || v4.octets().first() == Some(&0) => Nearness::Loopback,
        IpAddr::V4(v4) if v4.is_link_local() || METADATA_V4.contains(&v4) => Nearness::Link,
        IpAddr::V4(_) => Nearness::Far,
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unspecified() => Nearness::Loopback,
        IpAddr::V6(v6) if v6.is_unicast_link_local() || v6 == METADATA_V6 => Nearness::Link,
        IpAddr::V6(v6) => match v6.segments() {
            // An IPv4 address in disguise: mapped, compatible (RFC 4291, 2.5.5), translated (RFC 6052, 2.1).
            [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
                let [.., a, b, c, d] = v6.octets();
                nearness(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            }
            _ => Nearness::Far,
        },
    }
}

/// How near a host is as far as its name says so: an address, or `localhost` (RFC 6761, 6.3).
pub(super) fn nearness_by_name(host: &str) -> Nearness {
    match host.parse() {
        Ok(address) => nearness(address),
        Err(_) if host == "localhost" || host.ends_with(".localhost") => Nearness::Loopback,
        Err(_) => Nearness::Far,
    }
}

/// How near the server is that the user named: decided when it is first looked up, then kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach(Arc<OnceLock<Nearness>>);

impl Reach {
    /// May a server at `nearness` be spoken to?
    pub(super) fn allows(&self, nearness: Nearness) -> bool {
        let first = self.0.get_or_init(|| nearness);
        nearness == Nearness::Far || nearness == *first
    }
}

/// Looks names up, and gives out the allowed addresses only.
#[derive(Debug)]
pub(super) struct GuardedResolver {
    pub(super) reach: Reach,
    pub(super) resolver: DefaultResolver,
}

/// Why a server was not spoken to.
#[derive(Debug)]
pub(super) struct OutOfReach(pub(super) String);

impl std::fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not an address that a server elsewhere may send us to", self.0)
    }
}

impl std::error::Error for OutOfReach {}

impl Resolver for GuardedResolver {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.resolver.resolve(uri, config, timeout)?;
        if config.proxy().is_some_and(|proxy| proxy.uri() == uri) {
            return Ok(found);
        }
        let mut allowed = self.resolver.empty();
        for address in found.iter().filter(|address| self.reach.allows(nearness(address.ip()))) {
            allowed.push(*address);
        }
        match found.first() {
            Some(first) if allowed.is_empty() => {
                Err(ureq::Error::Other(Box::new(OutOfReach(first.ip().to_string()))))
            }
            _ => Ok(allowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_addresses_are_known_in_every_disguise() {
        for near in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "169.254.0.23",
            "100.100.100.200",
            "168.63.129.16",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "localhost",
            "x.localhost",
        ] {
            assert_ne!(nearness_by_name(near), Nearness::Far, "{near}");
        }
        for far in
            ["8.8.8.8", "10.0.0.1", "192.168.1.1", "2001:db8::1", "::ffff:8.8.8.8", "localhost.example"]
        {
            assert_eq!(nearness_by_name(far), Nearness::Far, "{far}");
        }
    }

    #[test]
    fn the_first_server_decides_who_may_be_near() {
        let out_there = Reach::default();
        assert!(out_there.allows(Nearness::Far) && !out_there.allows(Nearness::Loopback));
        let here = Reach::default();
        assert!(
            here.allows(Nearness::Loopback) && here.allows(Nearness::Far) && !here.allows(Nearness::Link)
        );
    }
}
