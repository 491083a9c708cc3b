//! The commands with which a person would change what is installed, in the guest's own package manager.

use crate::guest::Guest;
use crate::guest::version;
use std::cmp::Ordering;

/// Installs packages.
#[must_use]
pub fn install(guest: &Guest, names: &str) -> String {
    match manager(guest) {
        "pacman" => format!("pacman -S {names}"),
        "apk" => format!("apk add {names}"),
        program => format!("{program} install {names}"),
    }
}

/// Removes packages.
#[must_use]
pub fn remove(guest: &Guest, names: &str) -> String {
    match manager(guest) {
        "pacman" => format!("pacman -R {names}"),
        "apk" => format!("apk del {names}"),
        "apt-get" => format!("apt-get purge {names}"),
        program => format!("{program} remove {names}"),
    }
}

/// The program of this guest that installs packages.
fn manager(guest: &Guest) -> &'static str {
    let is = |names: &[&str]| {
        guest.os().is_ok_and(|os| {
            std::iter::once(&os.id)
                .chain(&os.like)
                .any(|id| names.iter().any(|name| id.as_bytes() == name.as_bytes()))
        })
    };
    let named = guest.packages().ok().and_then(|packages| packages.manager);
    match named {
        Some("pacman") => "pacman",
        Some("apk") => "apk",
        Some("dpkg") => "apt-get",
        _ if is(&["debian", "ubuntu"]) => "apt-get",
        _ if is(&["sles", "suse", "opensuse", "opensuse-leap"]) => "zypper",
        _ if is(&["alpine"]) => "apk",
        _ if is(&["arch"]) => "pacman",
        _ => {
            // dnf came with version 8 of RHEL and what follows it; Amazon Linux counts on its own.
            let version = guest.version().to_string();
            let is_old = version::compare(&version, "8") == Some(Ordering::Less);
            if is_old && is(&["rhel", "centos"]) { "yum" } else { "dnf" }
        }
    }
}
