//! Which addresses a redirect may lead to. A server out there must not make us speak to this host, to its neighbours on
//! the link, or to a cloud's metadata service; a user who names such an address first may go there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// What this host is called in `/etc/hosts`, by RFC 6761 (section 6.3), Debian and Red Hat.
const OWN_NAMES: [&str; 7] = [
    "localhost",
    "localhost4",
    "localhost6",
    "localhost.localdomain",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
];
/// What the metadata services of Google, Amazon and Tencent are called where they can be reached.
const METADATA_NAMES: [&str; 6] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
];

/// How near a host is as far as its name says so: all there is to judge by where a proxy looks it up, and blind to a name
/// that somebody has made for an address near us. `None` for what different programs read as different hosts, such as
/// `127.1` or `0177.0.0.1`: nobody who means well writes those.
pub(super) fn nearness_by_name(host: &str) -> Option<Nearness> {
    let host = host.to_ascii_lowercase();
    // With the dot it is the same name, only that no search list is tried (RFC 1034, section 3.1).
    let name = host.strip_suffix('.').unwrap_or(&host);
    if let Ok(address) = name.parse() {
        return Some(nearness(address));
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    // What WHATWG's URL Standard (section 3.5, "ends in a number checker") and inet_aton take for an IPv4 address.
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_number || name.split('.').any(str::is_empty) {
        return None;
    }
    Some(match name {
        _ if OWN_NAMES.contains(&name) || name.ends_with(".localhost") => Nearness::Loopback,
        _ if METADATA_NAMES.contains(&name) => Nearness::Link,
        _ => Nearness::Far,
    })
}

/// How near the server is that the user named: decided when it is first looked up.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    /// Its name.
    host: Arc<str>,
    first: Arc<Mutex<Option<Nearness>>>,
}

impl Reach {
    /// Of the server called `host`.
    pub(super) fn of(host: &str) -> Self {
        Self { host: Arc::from(host), first: Arc::default() }
    }

    fn first(&self) -> MutexGuard<'_, Option<Nearness>> {
        // A word is replaced as a whole: nothing half-done can be seen in it.
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server was found at places as near as these, the likeliest first.
    ///
    /// A name is as far as the farthest address it ever stood for. Whoever answers for a name can put one of ours
    /// before his own, or give ours first and his own later: it is still he who is asked then, and sends us on.
    pub(super) fn found(&self, places: impl IntoIterator<Item = Nearness>) {
        let mut first = self.first();
        for place in places {
            if first.is_none() || place == Nearness::Far {
                *first = Some(place);
            }
        }
    }

    /// May a server at `nearness` be spoken to?
    pub(super) fn allows(&self, nearness: Nearness) -> bool {
        nearness == Nearness::Far || Some(nearness) == *self.first()
    }

    /// May a redirect lead to `host`, as far as its name says so? The server's own name was the user's choice.
    pub(super) fn allows_name(&self, host: &str) -> bool {
        *host == *self.host || nearness_by_name(host).is_some_and(|nearness| self.allows(nearness))
    }

    /// Of the addresses of `host`, which is the server's name or one that it sends us to, those that may be spoken to.
    fn sift<'a>(&self, host: &str, addresses: &'a [SocketAddr]) -> impl Iterator<Item = &'a SocketAddr> {
        if *host == *self.host {
            self.found(addresses.iter().map(|address| nearness(address.ip())));
        }
        addresses.iter().filter(|address| self.allows(nearness(address.ip())))
    }
}

/// How near the servers are that the user named, by their names. One for all files of an image and for all links to them,
/// so that whoever answers for a name has no second chance to be near.
#[derive(Clone, Debug, Default)]
pub struct Reaches(Arc<Mutex<HashMap<String, Reach>>>);

impl Reaches {
    /// Of the server called `host`.
    pub(super) fn of(&self, host: &str) -> Reach {
        // What is in it is only ever added to.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(host.to_owned()).or_insert_with(|| Reach::of(host)).clone()
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
pub(super) enum OutOfReach {
    /// A redirect leads here.
    Redirect(String),
    /// The server that the user named was elsewhere, and now has this address.
    Moved(IpAddr),
}

impl std::fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Redirect(host) => {
                write!(f, "redirected, but {host} is not an address that a server elsewhere may send us to")
            }
            Self::Moved(address) => {
                write!(f, "its server was elsewhere, and now its name stands for {address} alone")
            }
        }
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
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let mut allowed = self.resolver.empty();
        for address in self.reach.sift(host, &found) {
            allowed.push(*address);
        }
        match found.first() {
            Some(first) if allowed.is_empty() => {
                let refused = match first.ip() {
                    address if *host == *self.reach.host => OutOfReach::Moved(address),
                    address => OutOfReach::Redirect(address.to_string()),
                };
                Err(ureq::Error::Other(Box::new(refused)))
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
            assert_ne!(nearness_by_name(near), Some(Nearness::Far), "{near}");
        }
        for far in
            ["8.8.8.8", "10.0.0.1", "192.168.1.1", "2001:db8::1", "::ffff:8.8.8.8", "localhost.example"]
        {
            assert_eq!(nearness_by_name(far), Some(Nearness::Far), "{far}");
        }
    }

    #[test]
    fn names_of_what_is_near_are_known_behind_a_proxy() {
        for (name, nearness) in [
            ("localhost.", Nearness::Loopback),
            ("LocalHost", Nearness::Loopback),
            ("x.localhost.", Nearness::Loopback),
            ("localhost.localdomain", Nearness::Loopback),
            ("ip6-localhost", Nearness::Loopback),
            ("127.0.0.1.", Nearness::Loopback),
            ("169.254.169.254.", Nearness::Link),
            ("metadata", Nearness::Link),
            ("metadata.google.internal", Nearness::Link),
            ("metadata.google.internal.", Nearness::Link),
        ] {
            assert_eq!(nearness_by_name(name), Some(nearness), "{name}");
        }
        for far in
            ["h.example.", "192.168.1.1.", "metadata.example", "0xcafe.example", "1.example", "x1", "1e3"]
        {
            assert_eq!(nearness_by_name(far), Some(Nearness::Far), "{far}");
        }
    }

    #[test]
    fn numbers_that_are_read_in_several_ways_are_no_redirects_goal() {
        let odd = [
            "2852039166",
            "2852039166.",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "0127.0.0.1",
            "0x7f000001",
            "0x7f.1",
            "127.0.0.0X1",
            "1.0x",
            "1.2.3.4.5",
            "999.1.1.1",
            "h.09",
            "",
            ".",
            "localhost..",
            "127.0.0.1..",
            "x..localhost",
        ];
        for host in odd {
            assert_eq!(nearness_by_name(host), None, "{host}");
            let reach = Reach::of("h");
            reach.found([Nearness::Loopback]);
            assert!(!reach.allows_name(host), "{host}");
            // If the user wrote it, it leads to where it leads.
            assert!(Reach::of(host).allows_name(host), "{host}");
        }
    }

    /// Which of `addresses` may be spoken to when `host` stands for them.
    fn sifted(reach: &Reach, host: &str, addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 80)).collect();
        reach.sift(host, &addresses).map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn the_first_server_decides_who_may_be_near() {
        let out_there = Reach::of("h");
        assert_eq!(sifted(&out_there, "h", &["192.0.2.1"]), ["192.0.2.1"]);
        assert!(out_there.allows(Nearness::Far) && !out_there.allows(Nearness::Loopback));
        let here = Reach::of("h");
        assert_eq!(sifted(&here, "h", &["127.0.0.1"]), ["127.0.0.1"]);
        assert!(
            here.allows(Nearness::Loopback) && here.allows(Nearness::Far) && !here.allows(Nearness::Link)
        );
        // Before it is found, nobody is near.
        assert!(!Reach::of("h").allows(Nearness::Loopback));
    }

    #[test]
    fn an_address_of_ours_before_the_servers_own_opens_nothing() {
        for (near, kind) in [("127.0.0.1", Nearness::Loopback), ("169.254.169.254", Nearness::Link)] {
            for answer in [[near, "192.0.2.1"], ["192.0.2.1", near]] {
                let reach = Reach::of("evil.test");
                assert_eq!(sifted(&reach, "evil.test", &answer), ["192.0.2.1"], "{answer:?}");
                assert!(!reach.allows(kind), "{answer:?}");
                assert!(sifted(&reach, "other.test", &[near]).is_empty(), "{answer:?}");
            }
        }
    }

    #[test]
    fn a_name_that_was_ours_and_then_is_the_servers_opens_nothing() {
        let reach = Reach::of("evil.test");
        assert_eq!(sifted(&reach, "evil.test", &["127.0.0.1"]), ["127.0.0.1"]);
        assert_eq!(sifted(&reach, "evil.test", &["192.0.2.1"]), ["192.0.2.1"]);
        assert!(!reach.allows(Nearness::Loopback));
        assert!(sifted(&reach, "evil.test", &["127.0.0.1"]).is_empty());
    }

    #[test]
    fn a_name_is_judged_once_for_all_files_of_an_image() {
        let reaches = Reaches::default();
        assert_eq!(sifted(&reaches.of("evil.test"), "evil.test", &["192.0.2.1"]), ["192.0.2.1"]);
        let part = reaches.of("evil.test");
        assert!(sifted(&part, "evil.test", &["127.0.0.1"]).is_empty());
        // A fresh link may lead to another server, which the user trusts for itself.
        assert_eq!(sifted(&reaches.of("localhost"), "localhost", &["127.0.0.1"]), ["127.0.0.1"]);
        assert!(!part.allows(Nearness::Loopback));
    }

    #[test]
    fn where_a_redirect_leads_says_nothing_of_the_first_server() {
        let reach = Reach::of("localhost");
        assert_eq!(sifted(&reach, "localhost", &["127.0.0.1"]), ["127.0.0.1"]);
        assert_eq!(sifted(&reach, "mirror.test", &["127.0.0.1", "192.0.2.1"]), ["127.0.0.1", "192.0.2.1"]);
        assert!(reach.allows(Nearness::Loopback));
    }

    #[test]
    fn every_address_of_this_host_that_the_user_named_is_kept() {
        let both = ["::1", "127.0.0.1"];
        assert_eq!(sifted(&Reach::of("localhost"), "localhost", &both), both);
        // As on a private network.
        let private = ["10.0.0.7", "192.168.1.7"];
        let reach = Reach::of("nas.lan");
        assert_eq!(sifted(&reach, "nas.lan", &private), private);
        assert!(!reach.allows(Nearness::Loopback) && !reach.allows(Nearness::Link));
    }
}
