//! What a guest boots: the entries of its boot loader, and which of them is the default. The loader's script is never
//! run; a default that only running it would tell is said to be unresolved.

use super::evidence::Evidence;
use super::file;
use crate::error::Result;
use crate::fs::tree::{Part, Tree};
use crate::text::Text;

mod bls;
mod grub;
mod legacy;
mod shell;
mod syslinux;
mod systemd_boot;

pub(super) use bls::compare as version_order;

/// The entries of a boot loader.
#[derive(Clone, Debug, Default)]
pub struct BootConfig {
    /// The loader whose menu it is: `GRUB 2`.
    pub loader: &'static str,
    /// In the order of the menu.
    pub entries: Vec<Entry>,
    /// Which one boots if nobody chooses: an index into `entries`.
    pub default: Option<usize>,
    /// How the default was found, or why it was not.
    pub why: String,
    /// The configuration file.
    pub evidence: Option<Evidence>,
}

/// One entry of a menu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// As shown.
    pub title: Text,
    /// Its identity, where the loader gives one.
    pub id: Vec<u8>,
    /// Its number in the menu and those of the submenus around it: `1>2`.
    pub number: String,
    /// The kernel's path as written, without a device in front.
    pub kernel: Vec<u8>,
    /// The kernel's arguments.
    pub args: Vec<Vec<u8>>,
    /// The initramfs files as written, without a device in front.
    pub initrds: Vec<Vec<u8>>,
    /// The hypervisor that is started under the kernel, if one is: `/xen.gz`.
    pub hypervisor: Option<Vec<u8>>,
    /// Where the kernel's line stands.
    pub evidence: Evidence,
}

impl Entry {
    /// The value of the last argument `key=value`.
    #[must_use]
    pub fn arg(&self, key: &str) -> Option<&[u8]> {
        let value = |arg: &'_ Vec<u8>| arg.strip_prefix(key.as_bytes())?.strip_prefix(b"=").map(<[u8]>::len);
        let found = self.args.iter().rev().find(|arg| value(arg).is_some())?;
        found.get(key.len().saturating_add(1)..)
    }

    /// Is this word among the kernel's arguments?
    #[must_use]
    pub fn has_arg(&self, word: &str) -> bool {
        self.args.iter().any(|arg| arg == word.as_bytes())
    }
}

impl BootConfig {
    /// The entry that boots if nobody chooses.
    #[must_use]
    pub fn default_entry(&self) -> Option<&Entry> {
        self.default.and_then(|at| self.entries.get(at))
    }
}

/// Reads a menu of one kind.
type Reader = fn(&Tree) -> Result<Option<BootConfig>>;

/// Reads a guest's boot loader configuration; `None` when there is none that we know. Systems keep the menus of loaders
/// that they once had, so the one of the loader in the disk's first sector, if that is known, is looked for first.
///
/// # Errors
/// When it is there but cannot be read.
pub fn read(tree: &Tree, boot_code: &str) -> Result<Option<BootConfig>> {
    let usual: &[Reader] = &[grub::read, legacy::read, syslinux::read, systemd_boot::read];
    let own: Option<Reader> = match boot_code {
        "GRUB legacy" => Some(legacy::read),
        "syslinux" => Some(syslinux::read),
        _ => None,
    };
    for reader in own.iter().chain(usual) {
        if let Some(found) = reader(tree)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The path in the guest's tree of a file that a boot loader names: its paths start at the file system that holds it,
/// which is mounted at `/boot` or is the root; those on a btrfs with the path of the subvolume (`/@rootfs/boot/…`).
///
/// # Errors
/// When a directory on the way cannot be read.
pub fn locate(tree: &Tree, named: &[u8]) -> Result<Option<Vec<u8>>> {
    let named = if named.starts_with(b"/") { named.to_vec() } else { [b"/", named].concat() };
    let mut tries = Vec::new();
    if tree.mounts().iter().any(|mount| mount.path == b"/boot") {
        tries.push([b"/boot", named.as_slice()].concat());
    }
    tries.push(named.clone());
    tries.push([b"/boot", named.as_slice()].concat());
    for mount in tree.mounts() {
        if let Part::Subvolume(subvolume) = &mount.part
            && let Some(inside) = named.get(1..).and_then(|path| path.strip_prefix(subvolume.as_slice()))
            && inside.starts_with(b"/")
        {
            let place = mount.path.strip_suffix(b"/").unwrap_or(&mount.path);
            tries.push([place, inside].concat());
        }
    }
    for path in tries {
        if file::exists(tree, &path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// A path without the device in front: `($root)/vmlinuz`, `(hd0,msdos1)/vmlinuz`.
fn without_device(path: &[u8]) -> Vec<u8> {
    let rest = path.strip_prefix(b"(").and_then(|rest| {
        let close = rest.iter().position(|byte| *byte == b')')?;
        rest.get(close.saturating_add(1)..)
    });
    rest.unwrap_or(path).to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;
    use crate::fs::FileSystem as _;
    use std::sync::Arc;

    #[test]
    fn a_path_on_btrfs_starts_with_the_subvolume() {
        let fs = Arc::new(MemoryFs::new(&[("/boot/vmlinuz-6.1", b"x"), ("/rootfs/boot/other", b"x")]));
        let root = fs.root();
        // The installers of Debian, Fedora and openSUSE name it so.
        for (subvolume, named) in [
            ("@rootfs", "/@rootfs/boot/vmlinuz-6.1"),
            ("root", "/root/boot/vmlinuz-6.1"),
            ("@/.snapshots/1/snapshot", "/@/.snapshots/1/snapshot/boot/vmlinuz-6.1"),
        ] {
            let part = Part::Subvolume(subvolume.into());
            let tree = Tree::of("p1", Arc::<MemoryFs>::clone(&fs), root, part);
            assert_eq!(locate(&tree, named.as_bytes()).unwrap().as_deref(), Some(&b"/boot/vmlinuz-6.1"[..]));
            assert_eq!(locate(&tree, b"/@other/boot/vmlinuz-6.1").unwrap(), None);
        }
    }
}
