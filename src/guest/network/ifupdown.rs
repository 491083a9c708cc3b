//! `/etc/network/interfaces` (interfaces(5) of ifupdown; also read by Alpine's busybox), with the files that it names.

use super::{Backend, Interface, Kind, Method, is_hardware_address};
use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use crate::guest::glob;
use crate::text::{Text, escape};
use std::collections::BTreeSet;

const FILE: &str = "/etc/network/interfaces";
/// Files that include each other; nobody nests more than two.
const MAX_DEPTH: usize = 8;
/// Files in all.
const MAX_FILES: usize = 256;
/// Lines in all.
const MAX_LINES: usize = 50_000;

/// What the files say.
#[derive(Default)]
pub(super) struct Found {
    pub(super) interfaces: Vec<Interface>,
    /// What is not followed.
    pub(super) unclear: Vec<String>,
    /// Interfaces that are started at boot, or when a card appears.
    started: BTreeSet<Vec<u8>>,
    files: usize,
    lines: usize,
}

/// Reads the file and those that it names.
pub(super) fn read(tree: &Tree) -> Result<Found> {
    let mut found = Found::default();
    if let Some(file) = file::read(tree, FILE, MAX_CONFIG)? {
        found.take(tree, &file, 0)?;
    }
    let started = std::mem::take(&mut found.started);
    for interface in &mut found.interfaces {
        let fits = |pattern: &Vec<u8>| {
            let pattern = pattern.strip_prefix(b"/").unwrap_or(pattern);
            interface
                .names
                .iter()
                .any(|name| glob::matches(pattern, name.as_bytes()) || name.as_bytes() == pattern)
        };
        // An alias such as eth0:1 comes up with its card where it is named; else it is not started.
        interface.at_boot = started.iter().any(fits);
        interface.settle();
    }
    Ok(found)
}

impl Found {
    fn take(&mut self, tree: &Tree, file: &GuestFile, depth: usize) -> Result<()> {
        self.files = self.files.saturating_add(1);
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            return Err(Error::limit(format!(
                "{FILE}: more than {MAX_FILES} files, or nested deeper than {MAX_DEPTH}"
            )));
        }
        let mut open = None;
        for (number, text) in joined(file) {
            self.lines = self.lines.saturating_add(1);
            if self.lines > MAX_LINES {
                return Err(Error::limit(format!("{FILE}: more than {MAX_LINES} lines")));
            }
            let words: Vec<&[u8]> =
                text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
            let Some((first, rest)) = words.split_first() else { continue };
            match *first {
                b"auto" => self.started.extend(rest.iter().map(|name| name.to_vec())),
                verb if verb.starts_with(b"allow-") => {
                    self.started.extend(rest.iter().map(|name| name.to_vec()));
                }
                b"iface" => {
                    let evidence = file.evidence("configures an interface").line(number, &text);
                    open = Some(self.iface(rest, evidence));
                    continue;
                }
                b"mapping" => {
                    let names: Vec<String> = rest.iter().map(|name| escape(name).to_string()).collect();
                    self.unclear.push(format!("{FILE} maps {} by a script", names.join(", ")));
                }
                b"source" => self.source(tree, rest, depth)?,
                b"source-directory" => self.source_directory(tree, rest, depth)?,
                b"no-auto-down" | b"no-scripts" | b"template" | b"rename" => {}
                _ => {
                    if let Some(interface) = open.and_then(|at: usize| self.interfaces.get_mut(at)) {
                        option(interface, first, rest, &file.evidence("sets an address").line(number, &text));
                    }
                    continue;
                }
            }
            open = None;
        }
        Ok(())
    }

    /// `iface NAME inet dhcp`: the place of the interface among those of its name. `inet` and `inet6` are two stanzas.
    fn iface(&mut self, words: &[&[u8]], evidence: Evidence) -> usize {
        let mut words = words.iter();
        let name = words.next().copied().unwrap_or_default();
        let rest: Vec<&[u8]> = words.copied().collect();
        let is_v6 = rest.contains(&&b"inet6"[..]);
        let has = |method: &[u8]| rest.contains(&method);
        let method = match () {
            () if has(b"dhcp") || has(b"bootp") => Method::Dhcp,
            () if has(b"auto") && is_v6 => Method::Dhcp,
            () if has(b"static") => Method::Static,
            () if has(b"ppp") || has(b"wvdial") || has(b"tunnel") || has(b"v4tunnel") || has(b"6to4") => {
                Method::Other
            }
            () => Method::None,
        };
        let mut interface = Interface::new(Backend::Ifupdown, evidence);
        interface.names.push(Text::from(name));
        if is_v6 {
            interface.v6 = method;
        } else {
            interface.v4 = method;
        }
        if has(b"loopback") {
            interface.kind = Kind::Loopback;
        } else if method == Method::Other
            || [&b"wlan"[..], b"ppp", b"tun", b"tap", b"dummy", b"wg"]
                .iter()
                .any(|kind| name.starts_with(kind))
        {
            interface.kind = Kind::Aside;
        }
        self.interfaces.push(interface);
        self.interfaces.len().saturating_sub(1)
    }

    /// `source PATTERN`: relative to the directory of the first file.
    fn source(&mut self, tree: &Tree, words: &[&[u8]], depth: usize) -> Result<()> {
        for word in words {
            let path = absolute(word);
            if path.contains(&b'$') {
                self.unclear.push(format!("{FILE} includes {}, which is not followed", escape(&path)));
                continue;
            }
            for path in glob::expand(tree, &path)? {
                self.included(tree, &path, depth)?;
            }
        }
        Ok(())
    }

    /// `source-directory DIR`: names of letters, digits, `-` and `_` only.
    fn source_directory(&mut self, tree: &Tree, words: &[&[u8]], depth: usize) -> Result<()> {
        for word in words {
            let dir = absolute(word);
            for name in file::names(tree, &dir)? {
                if name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)) {
                    self.included(tree, &[&dir, &b"/"[..], &name].concat(), depth)?;
                }
            }
        }
        Ok(())
    }

    fn included(&mut self, tree: &Tree, path: &[u8], depth: usize) -> Result<()> {
        let Some(node) = tree.find(path)? else { return Ok(()) };
        if tree.stat(node)?.kind == crate::fs::FileType::Dir {
            return Ok(());
        }
        match file::read(tree, path, MAX_CONFIG)? {
            Some(file) => self.take(tree, &file, depth.saturating_add(1)),
            None => Ok(()),
        }
    }
}

fn absolute(word: &[u8]) -> Vec<u8> {
    if word.starts_with(b"/") { word.to_vec() } else { [b"/etc/network/", word].concat() }
}

fn option(interface: &mut Interface, key: &[u8], rest: &[&[u8]], evidence: &Evidence) {
    let text =
        || rest.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ");
    match key {
        b"address" => interface.address(&text(), evidence),
        b"hwaddress" => {
            let value = text();
            let address = value.trim_start_matches("ether").trim();
            if is_hardware_address(address) {
                interface.bind(format!("hwaddress {address}"), evidence);
            }
        }
        b"dns-nameservers" | b"dns-nameserver" => {
            interface.name_servers.extend(rest.iter().map(|word| Text::from(*word)));
        }
        b"vlan-raw-device" | b"vlan_raw_device" => interface.kind = Kind::Aside,
        b"bond-master" => interface.is_port = true,
        _ => {}
    }
}

/// Lines without comments; one that ends with a backslash goes on with the next. A comment is a whole line.
fn joined(file: &GuestFile) -> Vec<(u64, Vec<u8>)> {
    let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut goes_on = false;
    for (number, text) in file.lines() {
        let start = text.trim_ascii_start();
        if !goes_on && (start.starts_with(b"#") || start.is_empty()) {
            continue;
        }
        let (text, more) = match text.strip_suffix(b"\\") {
            Some(text) => (text, true),
            None => (text, false),
        };
        match found.last_mut().filter(|_| goes_on) {
            Some((_, whole)) => whole.extend_from_slice(text),
            None => found.push((number, text.to_vec())),
        }
        goes_on = more;
    }
    found
}

/// What starts it before the multi-user runlevels, where System V's scripts of the network stand.
pub(super) fn started_early(tree: &Tree) -> Result<Option<Evidence>> {
    for dir in ["/etc/rcS.d", "/etc/runlevels/boot", "/etc/runlevels/default"] {
        for name in file::names(tree, dir)? {
            let script = name.strip_prefix(b"S").and_then(|name| name.get(2..));
            if name == b"networking" || script == Some(b"networking") {
                let path = [dir.as_bytes(), b"/", &name].concat();
                return Ok(Some(Evidence::new("starts at boot").path(&path)));
            }
        }
    }
    Ok(None)
}

/// Has dhcpcd an address of its own to set?
pub(super) fn dhcpcd_is_static(tree: &Tree) -> Result<bool> {
    let file = file::read(tree, "/etc/dhcpcd.conf", MAX_CONFIG)?;
    let is_static = |text: &[u8]| text.trim_ascii().starts_with(b"static ip_address");
    Ok(file.is_some_and(|file| file.lines().any(|(_, text)| is_static(text))))
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    fn interfaces(files: &[(&str, &str)]) -> Found {
        read(&MemoryFs::tree(files)).unwrap()
    }

    /// The syntax of augeas' `test_interfaces.aug`: continued lines, blank lines within a stanza, files that are named.
    #[test]
    fn odd_syntax_is_read() {
        let text = "source /etc/network/interfaces.d/*.conf\n\nauto lo eth0 #foo\nallow-hotplug eth1\n\niface lo inet \\\n loopback\n\n\
             iface eth0 inet static\n\naddress 192.168.1.1\n     netmask 255.255.255.0\n#        up flush-mail\n    down Mambo #5\n\n\
             iface eth1 inet dhcp\niface eth9 inet dhcp\n";
        let found = interfaces(&[
            (FILE, text),
            ("/etc/network/interfaces.d/a.conf", "auto ens3\niface ens3 inet6 auto\n"),
            ("/etc/network/interfaces.d/a.conf~", "auto ens4\niface ens4 inet dhcp\n"),
        ]);
        let of = |name: &str| found.interfaces.iter().find(|one| one.fits(name.as_bytes())).unwrap();
        assert_eq!(of("lo").kind, Kind::Loopback);
        assert_eq!((of("eth0").v4, of("eth0").at_boot), (Method::Static, true));
        assert_eq!(of("eth0").addresses[0].evidence.line, Some(11));
        assert_eq!((of("eth1").v4, of("eth1").at_boot), (Method::Dhcp, true));
        assert!(!of("eth9").at_boot);
        assert_eq!(of("ens3").v6, Method::Dhcp);
        assert!(found.interfaces.iter().all(|one| !one.fits(b"ens4")));
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let tree = MemoryFs::tree(&[(FILE, "source /etc/network/interfaces\n")]);
        assert!(read(&tree).is_err());
    }

    #[test]
    fn a_mapping_is_not_followed_and_said() {
        assert_eq!(interfaces(&[(FILE, "mapping eth0\n script /x\n")]).unclear.len(), 1);
    }

    #[test]
    fn a_directory_takes_plain_names_only() {
        let found = interfaces(&[
            (FILE, "source-directory interfaces.d\n"),
            ("/etc/network/interfaces.d/eth0", "auto eth0\niface eth0 inet dhcp\n"),
            (
                "/etc/network/interfaces.d/eth0.dpkg-old",
                "auto eth0\niface eth0 inet static\naddress 10.0.0.1\n",
            ),
        ]);
        assert_eq!(found.interfaces.len(), 1);
    }
}
