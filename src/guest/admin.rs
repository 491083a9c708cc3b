//! The commands of a Linux with which its administrator installs, removes, starts and stops something: each distribution has
//! its own.

use super::file;
use super::{Fact, Guest};
use crate::error::Result;
use crate::text::Text;

/// The commands of one guest.
#[derive(Clone, Copy, Debug)]
pub struct Admin {
    tool: Tool,
    has_systemd: bool,
}

/// What installs packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Apt,
    Yum,
    Dnf,
    Zypper,
    Apk,
    Pacman,
    /// A manager without a name.
    Unknown,
}

/// Distributions of SUSE, by `ID` or `ID_LIKE`.
const SUSE: &[&str] = &["suse", "opensuse", "sles", "sled", "opensuse-leap", "opensuse-tumbleweed"];

impl Fact for Admin {
    fn read(guest: &Guest) -> Result<Self> {
        guest.fstab()?;
        let tree = guest.facts();
        let mut has_systemd = false;
        for path in ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"] {
            has_systemd = has_systemd || file::exists(tree, path)?;
        }
        let manager = guest.packages().ok().and_then(|packages| packages.manager);
        let os = guest.os().ok();
        let id = os.map(|os| os.id.clone()).unwrap_or_default();
        let like = os.map(|os| os.like.clone()).unwrap_or_default();
        let version = os.map(|os| os.version.clone()).unwrap_or_default();
        Ok(Self { tool: Tool::of(manager, &id, &like, &version), has_systemd })
    }
}

impl Tool {
    fn of(manager: Option<&str>, id: &Text, like: &[Text], version: &Text) -> Self {
        let is_one = |names: &[&str]| {
            names
                .iter()
                .any(|name| std::iter::once(id).chain(like).any(|text| text.as_bytes() == name.as_bytes()))
        };
        match manager {
            Some("dpkg") => Self::Apt,
            Some("apk") => Self::Apk,
            Some("pacman") => Self::Pacman,
            None if is_one(&["debian", "ubuntu"]) => Self::Apt,
            None if is_one(&["alpine"]) => Self::Apk,
            None if is_one(&["arch"]) => Self::Pacman,
            _ if is_one(SUSE) => Self::Zypper,
            _ if is_one(&["rhel", "centos", "fedora"]) => {
                let major = version.as_utf8().and_then(|text| text.split('.').next()?.parse::<u32>().ok());
                if major.is_some_and(|major| major < 8) { Self::Yum } else { Self::Dnf }
            }
            Some("rpm") => Self::Yum,
            _ => Self::Unknown,
        }
    }
}

impl Admin {
    /// Installs a package; the command in words where it is not known.
    #[must_use]
    pub fn install(self, package: &str) -> String {
        match self.tool {
            Tool::Apt => format!("apt-get install {package}"),
            Tool::Yum => format!("yum install {package}"),
            Tool::Dnf => format!("dnf install {package}"),
            Tool::Zypper => format!("zypper install {package}"),
            Tool::Apk => format!("apk add {package}"),
            Tool::Pacman => format!("pacman -S {package}"),
            Tool::Unknown => format!("install {package}"),
        }
    }

    /// Removes a package with its configuration.
    #[must_use]
    pub fn remove(self, package: &str) -> String {
        match self.tool {
            Tool::Apt => format!("apt-get purge {package}"),
            Tool::Yum => format!("yum remove {package}"),
            Tool::Dnf => format!("dnf remove {package}"),
            Tool::Zypper => format!("zypper remove {package}"),
            Tool::Apk => format!("apk del {package}"),
            Tool::Pacman => format!("pacman -Rn {package}"),
            Tool::Unknown => format!("remove {package}"),
        }
    }

    /// Makes services start at boot.
    #[must_use]
    pub fn enable(self, services: &[&str]) -> String {
        if self.has_systemd {
            return format!("systemctl enable {}", services.join(" "));
        }
        let one = |service: &&str| match self.tool {
            Tool::Apt => format!("update-rc.d {service} defaults"),
            Tool::Apk => format!("rc-update add {service}"),
            _ => format!("chkconfig {service} on"),
        };
        services.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// Keeps services from starting at boot.
    #[must_use]
    pub fn disable(self, services: &[&str]) -> String {
        if self.has_systemd {
            return format!("systemctl disable {}", services.join(" "));
        }
        let one = |service: &&str| match self.tool {
            Tool::Apt => format!("update-rc.d {service} disable"),
            Tool::Apk => format!("rc-update del {service}"),
            _ => format!("chkconfig {service} off"),
        };
        services.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// The service of OpenSSH's server.
    #[must_use]
    pub const fn ssh_service(self) -> &'static str {
        if matches!(self.tool, Tool::Apt) { "ssh" } else { "sshd" }
    }

    /// The package of OpenSSH's server.
    #[must_use]
    pub const fn ssh_package(self) -> &'static str {
        if matches!(self.tool, Tool::Pacman) { "openssh" } else { "openssh-server" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distribution_has_its_tool() {
        let of = |manager, id: &str, like: &str, version: &str| {
            Tool::of(manager, &Text::from(id), &[Text::from(like)], &Text::from(version))
        };
        assert_eq!(of(Some("dpkg"), "ubuntu", "debian", "22.04"), Tool::Apt);
        assert_eq!(of(Some("rpm"), "centos", "rhel", "7"), Tool::Yum);
        assert_eq!(of(Some("rpm"), "rocky", "rhel", "9.3"), Tool::Dnf);
        assert_eq!(of(Some("rpm"), "sles", "suse", "15.5"), Tool::Zypper);
        assert_eq!(of(None, "alpine", "", "3.19"), Tool::Apk);
        assert_eq!(of(None, "", "", ""), Tool::Unknown);
    }
}
