//! The `init` of an initrd that mkinitrd made for nash (RHEL 5 and older): a script in which each module that is loaded
//! has its line. A module that is in the archive and not in the script is never loaded.

use crate::guest::kernel::module_name;
use std::collections::BTreeSet;

/// The modules that the script loads; `None` when it is no such script.
pub(super) fn insmod(script: &[u8]) -> Option<BTreeSet<String>> {
    let mut lines = script.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    if !first.starts_with(b"#!") || !first.windows(4).any(|part| part == b"nash") {
        return None;
    }
    let module = |line: &[u8]| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let command = words.next()?;
        if !matches!(command, b"insmod" | b"modprobe") {
            return None;
        }
        words.find_map(module_name)
    };
    Some(lines.filter_map(module).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_script_of_nash_says_what_is_loaded() {
        // Shaped as mkinitrd 5.1.19 of RHEL 5 writes it.
        let script = b"#!/bin/nash\nmount -t proc /proc /proc\necho \"Loading virtio.ko module\"\ninsmod /lib/virtio.ko \ninsmod /lib/virtio_blk.ko\n";
        let loaded: Vec<String> = insmod(script).unwrap().into_iter().collect();
        assert_eq!(loaded, ["virtio", "virtio_blk"]);
        assert_eq!(insmod(b"#!/bin/sh\ninsmod /lib/virtio.ko\n"), None);
        assert_eq!(insmod(b"\x7fELF"), None);
    }
}
