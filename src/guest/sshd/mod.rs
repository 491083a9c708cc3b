//! The SSH server of a Linux: whether there is one, whether it starts, and how it is set up.

use super::file::{self, Input};
use super::{Evidence, Fact, Guest};
use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::text::Text;

pub mod config;
pub mod defaults;

pub use config::{Config, Setting};
use defaults::Version;

/// Where OpenSSH's server is.
const OPENSSH: &[&str] = &["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"];
/// Where the small server for small systems is.
const DROPBEAR: &[&str] = &["/usr/sbin/dropbear", "/usr/bin/dropbear"];
/// Names under which either starts, in every distribution and init system.
const SERVICES: &[&str] = &[
    "ssh.service",
    "sshd.service",
    "ssh.socket",
    "sshd.socket",
    "ssh",
    "sshd",
    "dropbear.service",
    "dropbear.socket",
    "dropbear",
];
/// Packages of the server, the one with the version first.
const PACKAGES: &[&str] = &["openssh-server", "openssh", "openssh-ssh-server"];
/// Bytes of the server that are searched for its version; it has about one million.
const MAX_SERVER: u64 = 8 << 20;
/// What Debian's units look for and do not start beside.
const NOT_TO_BE_RUN: &str = "/etc/ssh/sshd_not_to_be_run";
/// Units that make host keys where there are none.
const KEY_MAKERS: &[&str] =
    &["sshd-keygen.service", "ssh-keygen.service", "regenerate_ssh_host_keys.service", "sshdgenkeys.service"];

/// The server.
#[derive(Clone, Debug, Default)]
pub struct SshServer {
    /// Its program, if there is one.
    pub program: Option<Evidence>,
    /// What starts it at boot.
    pub starts: Option<Evidence>,
    /// What keeps it from running.
    pub blocked: Option<Evidence>,
    /// On a system whose units do not make host keys: are there none?
    pub lacks_host_keys: bool,
}

impl Fact for SshServer {
    fn read(guest: &Guest) -> Result<Self> {
        guest.fstab()?;
        let tree = guest.facts();
        let mut found = Self::default();
        for path in OPENSSH.iter().chain(DROPBEAR) {
            if let Some(node) = tree.find(path.as_bytes())? {
                found.program = Some(Evidence::new("SSH server").on(tree.volume(node)).path(path.as_bytes()));
                break;
            }
        }
        if found.program.is_none() {
            return Ok(found);
        }
        let services = guest.services()?;
        found.starts = SERVICES.iter().find_map(|name| services.enabled(name)).cloned();
        if let Some(node) = tree.find(NOT_TO_BE_RUN.as_bytes())? {
            let evidence = Evidence::new("keeps the SSH server from running");
            found.blocked = Some(evidence.on(tree.volume(node)).path(NOT_TO_BE_RUN.as_bytes()));
        }
        found.lacks_host_keys = lacks_host_keys(tree)?;
        Ok(found)
    }
}

/// On Debian and its kin the package makes the keys when it is installed, and nothing makes them later, before OpenSSH
/// 10; the units and scripts of the others make what is missing.
fn lacks_host_keys(tree: &Tree) -> Result<bool> {
    if !file::exists(tree, "/etc/debian_version")? || !file::exists(tree, "/etc/ssh")? {
        return Ok(false);
    }
    for unit in KEY_MAKERS {
        for dir in ["/etc/systemd/system/", "/lib/systemd/system/"] {
            if file::exists(tree, [dir, unit].concat())? {
                return Ok(false);
            }
        }
    }
    let names = file::names(tree, "/etc/ssh")?;
    Ok(!names.iter().any(|name| name.starts_with(b"ssh_host_") && name.ends_with(b"_key")))
}

impl Fact for Config {
    fn read(guest: &Guest) -> Result<Self> {
        guest.fstab()?;
        config::read(guest.facts())
    }
}

/// The version of OpenSSH's server; `None` where there is no such server.
#[derive(Clone, Copy, Debug)]
pub struct SshVersion(pub Option<Version>);

impl Fact for SshVersion {
    fn read(guest: &Guest) -> Result<Self> {
        let of_package = guest.packages().ok().and_then(|packages| {
            let package = PACKAGES.iter().find_map(|name| packages.get(name))?;
            defaults::version(package.version.as_bytes())
        });
        match of_package {
            Some(version) => Ok(Self(Some(version))),
            None => of_program(guest.facts()).map(Self),
        }
    }
}

/// As the server itself says: `OpenSSH_9.2p1`.
fn of_program(tree: &Tree) -> Result<Option<Version>> {
    const BANNER: &[u8] = b"OpenSSH_";
    /// What a version takes behind it.
    const LONGEST: usize = 16;
    for path in OPENSSH {
        let Some(node) = tree.find(path.as_bytes())? else { continue };
        let mut input = Input::new(tree, node);
        while input.position() < MAX_SERVER {
            let ahead = input.peek(64 << 10)?;
            if ahead.len() < BANNER.len() {
                break;
            }
            let version = |at: usize| {
                let from = at.checked_add(BANNER.len())?;
                let text = ahead.get(from..)?;
                defaults::version(text.get(..LONGEST).unwrap_or(text))
            };
            let mut starts = ahead.windows(BANNER.len()).enumerate().filter(|(_, bytes)| *bytes == BANNER);
            if let Some(version) = starts.find_map(|(at, _)| version(at)) {
                return Ok(Some(version));
            }
            // A banner may go on in the next piece.
            let done = ahead.len().saturating_sub(BANNER.len().saturating_add(LONGEST)).max(1);
            std::io::BufRead::consume(&mut input, done);
        }
    }
    Ok(None)
}

/// The value that counts for a keyword, and why.
#[derive(Clone, Debug)]
pub struct Effective {
    /// In lower case, by its newer spelling.
    pub value: String,
    /// The line that sets it; without one it is the server's default.
    pub evidence: Option<Evidence>,
}

/// The value that counts for a keyword.
///
/// # Errors
/// When the configuration cannot be read, or nothing sets it and its default is not known.
pub fn effective(guest: &Guest, key: &str) -> Result<Effective> {
    let key = key.to_ascii_lowercase();
    let config = guest.fact::<Config>()?;
    if let Some(setting) = config.first(&key) {
        return Ok(Effective { value: setting.value(), evidence: Some(setting.evidence.clone()) });
    }
    let os = guest.os()?;
    let vendor = defaults::vendor(&os.id, &os.like, &os.version);
    let version = if defaults::depends_on_version(&key) { guest.fact::<SshVersion>()?.0 } else { None };
    match defaults::of(&key, version, vendor) {
        Some(value) => Ok(Effective { value: value.to_owned(), evidence: None }),
        None => Err(Error::unsupported(format!("sshd's default of {}", Text::from(key.as_str())))),
    }
}

/// A value as [`Effective::value`] spells it.
#[must_use]
pub fn canonical(value: &str) -> String {
    config::canonical(value)
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;

    #[test]
    fn the_server_itself_knows_its_version() {
        let server =
            format!("{}OpenSSH_%s{}OpenSSH_8.4p1 x", "-".repeat((64 << 10) - 10), "-".repeat(70_000));
        let tree = MemoryFs::tree(&[("/usr/sbin/sshd", &server)]);
        assert_eq!(of_program(&tree).unwrap(), Some((8, 4)));
        assert_eq!(of_program(&MemoryFs::tree(&[("/usr/sbin/sshd", "OpenSSH_")])).unwrap(), None);
    }

    #[test]
    fn host_keys_are_missed_where_nothing_makes_them() {
        let debian = ("/etc/debian_version", "12\n");
        let lacks = |files: &[(&str, &str)]| lacks_host_keys(&MemoryFs::tree(files)).unwrap();
        assert!(lacks(&[debian, ("/etc/ssh/sshd_config", "")]));
        assert!(!lacks(&[debian, ("/etc/ssh/ssh_host_ed25519_key", "x")]));
        assert!(!lacks(&[debian, ("/etc/ssh/x", ""), ("/lib/systemd/system/sshd-keygen.service", "[Unit]")]));
        assert!(!lacks(&[("/etc/ssh/sshd_config", "")]));
    }
}
