//! Partitions that say by their GPT type where they are mounted, as `systemd-gpt-auto-generator` has it (Discoverable
//! Partitions Specification, uapi-group.org). It mounts on empty directories only, and only from the root's own disk.

use super::{Device, file};
use crate::fs::tree::{Node, Tree};
use crate::fs::{FileSystem, FileType};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::sync::Arc;

const HOME: &str = "933ac7e1-2eb4-4f13-b844-0e14e2aef915";
const SRV: &str = "3b8f8425-20e0-4f3b-907f-1a25a76f98e8";
const VAR: &str = "4d21b016-b534-45c2-a9fb-5c16e091fd2d";
const BOOT: &str = "bc13c2ff-59e6-4262-a352-b275fd6f7172";
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const GENERATORS: &[&str] = &[
    "/usr/lib/systemd/system-generators/systemd-gpt-auto-generator",
    "/lib/systemd/system-generators/systemd-gpt-auto-generator",
];

/// What the generator would mount: the place, the device, its file system.
pub(super) fn mounts<'a>(
    tree: &Tree,
    root: &Device,
    devices: &'a [Device],
) -> Vec<(&'static [u8], &'a Device, Arc<dyn FileSystem>)> {
    // What cannot be looked at is not mounted on.
    if !GENERATORS.iter().any(|path| file::exists(tree, path).unwrap_or(false)) {
        return Vec::new();
    }
    let of_type = |wanted: &str| {
        devices.iter().find(|device| {
            device.disk == root.disk
                && device.part_type.as_deref() == Some(wanted)
                && !device.no_auto
                && device.volume != root.volume
        })
    };
    let mut found = Vec::new();
    let mut add = |dir: &'static [u8], device: Option<&'a Device>| {
        if let Some((device, fs)) = device.and_then(|device| Some((device, device.system.as_ref()?)))
            && is_empty_dir(tree, dir)
        {
            found.push((dir, device, Arc::clone(fs)));
        }
    };
    add(b"/home", of_type(HOME));
    add(b"/srv", of_type(SRV));
    // A machine's own /var is known by its UUID: two installations may share a disk.
    add(b"/var", of_type(VAR).filter(|device| device.part_uuid == var_of(tree)));
    // The boot partitions are looked for only by a machine that systemd's own loader has started.
    let boot = of_type(BOOT);
    let esp = of_type(ESP);
    if esp.and_then(|esp| esp.system.as_ref()).is_some_and(has_systemd_boot) {
        add(b"/boot", boot);
        let has_efi = file::exists(tree, "/efi").unwrap_or(false);
        add(if has_efi || boot.is_some() { b"/efi" } else { b"/boot" }, esp);
    }
    found
}

fn is_empty_dir(tree: &Tree, dir: &[u8]) -> bool {
    let is_dir = |node: Node| tree.stat(node).is_ok_and(|stat| stat.kind == FileType::Dir);
    tree.find(dir).ok().flatten().is_some_and(is_dir)
        && file::names(tree, dir).is_ok_and(|names| names.is_empty())
}

fn has_systemd_boot(esp: &Arc<dyn FileSystem>) -> bool {
    let tree = Tree::new("", Arc::clone(esp));
    ["/EFI/systemd", "/loader/loader.conf"].iter().any(|path| file::exists(&tree, path).unwrap_or(false))
}

/// The UUID of this machine's /var: the type's, keyed with the machine's id (HMAC-SHA256), made a UUID of version 4.
fn var_of(tree: &Tree) -> Option<String> {
    let id = file::read(tree, "/etc/machine-id", 4096).ok()??;
    let id = hex(std::str::from_utf8(id.bytes.trim_ascii()).ok()?)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&id).ok()?;
    mac.update(&hex(&VAR.replace('-', ""))?);
    let mut text = String::new();
    for (at, mut byte) in mac.finalize().into_bytes().into_iter().take(16).enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        byte = match at {
            6 => (byte & 0x0f) | 0x40,
            8 => (byte & 0x3f) | 0x80,
            _ => byte,
        };
        text.push_str(&format!("{byte:02x}"));
    }
    Some(text)
}

/// 32 hexadecimal digits.
fn hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
