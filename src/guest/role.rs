//! What a file system is for: the root of a system, a boot partition, an installer, or data. Decided by what is in it,
//! never by where it stands.

use super::evidence::Evidence;
use super::file;
use crate::error::Result;
use crate::fs::FileSystem;
use crate::fs::tree::Tree;
use std::sync::Arc;

/// What a file system is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The root of a Linux system.
    Root,
    /// A volume with a Windows system.
    Windows,
    /// Kernels and a boot loader without a system.
    Boot,
    /// A live system or an installer.
    Installer,
    /// What repairs a Windows that does not start: its recovery environment alone.
    Recovery,
    /// `/usr` alone, `/var` alone: a part of a system.
    Part,
    /// Files, but nothing of a system.
    Data,
    /// Nothing but what `mkfs` makes.
    Empty,
}

/// A purpose with what speaks for it.
#[derive(Clone, Debug)]
pub struct Role {
    /// The purpose.
    pub purpose: Purpose,
    /// How much speaks for it; the higher of two roots is listed first.
    pub score: u32,
    /// What was seen.
    pub evidence: Vec<Evidence>,
}

/// Paths that speak for a root, with their weight.
const ROOT: &[(&str, u32)] = &[
    ("/etc/fstab", 3),
    ("/etc/os-release", 3),
    ("/usr/lib/os-release", 3),
    ("/etc/redhat-release", 2),
    ("/etc/debian_version", 2),
    ("/etc/SuSE-release", 2),
    ("/etc/alpine-release", 2),
    ("/etc/NIXOS", 3),
    ("/etc/hosts", 1),
    ("/etc/passwd", 1),
    ("/sbin/init", 2),
    ("/usr/sbin/init", 2),
    ("/usr/lib/systemd/systemd", 2),
    ("/lib/systemd/systemd", 2),
    ("/lib/modules", 1),
    ("/usr/lib/modules", 1),
];

const INSTALLER: &[&str] = &[
    "/casper",
    "/LiveOS",
    "/live/filesystem.squashfs",
    "/isolinux",
    "/.disk/info",
    "/images/install.img",
    "/install.amd",
];

/// Finds out what a file system is for. One that holds several trees is a root if one of them is.
///
/// # Errors
/// When it cannot be read.
pub fn role(volume: &str, fs: &Arc<dyn FileSystem>) -> Result<Role> {
    super::roots::role_of(volume, fs)
}

/// The same of one tree.
pub(super) fn role_in(tree: &Tree, volume: &str) -> Result<Role> {
    // Links are not followed: an absolute one may lead to a file system that is not mounted yet.
    let has = |path: &str| Ok(file::entry(tree, path)?.is_some());
    let seen = |path: &str| Evidence::new("is there").on(volume).path(path.as_bytes());
    let top = file::names(tree, "/")?;
    let names = || top.iter().filter(|name| name.as_slice() != b"lost+found");

    let (mut score, mut evidence, mut names_itself) = (0_u32, Vec::new(), false);
    for (path, weight) in ROOT {
        if has(path)? {
            score = score.saturating_add(*weight);
            names_itself |= path.starts_with("/etc/") || *path == "/usr/lib/os-release";
            evidence.push(seen(path));
        }
    }
    let has_programs = has("/bin")? || has("/sbin")? || has("/usr/bin")?;
    if has("/etc")? && names_itself && has_programs && score >= 3 {
        return Ok(Role { purpose: Purpose::Root, score, evidence });
    }
    if let Some(role) = super::windows::role(tree, volume)? {
        return Ok(role);
    }
    for path in INSTALLER {
        if has(path)? {
            return Ok(Role { purpose: Purpose::Installer, score: 1, evidence: vec![seen(path)] });
        }
    }
    let kernel = names().find(|name| super::kernel::release_of(name).is_some());
    for path in ["/grub/grub.cfg", "/grub2/grub.cfg", "/grub/menu.lst", "/loader/entries", "/EFI", "/efi"] {
        if has(path)? {
            return Ok(Role { purpose: Purpose::Boot, score: 2, evidence: vec![seen(path)] });
        }
    }
    if let Some(kernel) = kernel {
        let path = [b"/", kernel.as_slice()].concat();
        let evidence = vec![Evidence::new("a kernel").on(volume).path(&path)];
        return Ok(Role { purpose: Purpose::Boot, score: 1, evidence });
    }
    let is_part =
        (has("/bin")? && has("/lib")? && has("/share")?) || (has("/log")? && has("/lib")? && has("/cache")?);
    if is_part {
        return Ok(Role { purpose: Purpose::Part, score: 1, evidence: Vec::new() });
    }
    let purpose = if names().next().is_none() { Purpose::Empty } else { Purpose::Data };
    let shown: Vec<String> = names().take(5).map(|name| crate::text::escape(name).to_string()).collect();
    let what =
        if shown.is_empty() { "nothing in it".to_owned() } else { format!("holds {}", shown.join(", ")) };
    Ok(Role { purpose, score: 0, evidence: vec![Evidence::new(what).on(volume).path(b"/")] })
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;

    fn purpose(files: &[(&str, &str)]) -> Purpose {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        let fs: Arc<dyn FileSystem> = Arc::new(MemoryFs::new(&files));
        role("p1", &fs).unwrap().purpose
    }

    #[test]
    fn a_system_is_known_by_several_things() {
        assert_eq!(purpose(&[("/etc/os-release", ""), ("/bin/sh", "")]), Purpose::Root);
        assert_eq!(purpose(&[("/etc/fstab", ""), ("/bin", "-> usr/bin")]), Purpose::Root);
    }

    #[test]
    fn a_backup_of_etc_is_data() {
        assert_eq!(purpose(&[("/etc/hosts", ""), ("/photos/1.jpg", "")]), Purpose::Data);
        assert_eq!(purpose(&[("/backup/etc/fstab", ""), ("/backup/bin/sh", "")]), Purpose::Data);
    }

    #[test]
    fn kernels_without_a_system_are_a_boot_partition() {
        assert_eq!(purpose(&[("/vmlinuz-6.1", "x"), ("/initrd.img-6.1", "x")]), Purpose::Boot);
        assert_eq!(purpose(&[("/grub/grub.cfg", "x")]), Purpose::Boot);
    }

    #[test]
    fn lost_and_found_alone_is_empty() {
        assert_eq!(purpose(&[("/lost+found/", "")]), Purpose::Empty);
    }

    #[test]
    fn a_live_system_is_an_installer() {
        assert_eq!(purpose(&[("/casper/filesystem.squashfs", ""), ("/EFI/x", "")]), Purpose::Installer);
    }
}
