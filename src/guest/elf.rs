//! The machine that a guest's programs are made for, from the ELF header of its shell.

use super::evidence::Evidence;
use crate::error::Result;
use crate::fs::FileType;
use crate::fs::tree::Tree;
use crate::ondisk::{get_be16, get_le16};
use crate::text::Text;

/// Programs that a system has one of.
const PROGRAMS: &[&str] =
    &["/bin/sh", "/bin/bash", "/sbin/init", "/usr/lib/systemd/systemd", "/bin/busybox", "/bin/ls"];

/// The machine, as `uname -m` spells it (32-bit x86 as `i386`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its name; `elf machine N` when we have none.
    pub name: Text,
    /// The program.
    pub evidence: Evidence,
}

/// Reads the machine of a guest; `None` when there is no program to read it from.
///
/// # Errors
/// When a program is there but cannot be read.
pub(super) fn read(tree: &Tree) -> Result<Option<Machine>> {
    for path in PROGRAMS {
        let Some(node) = tree.find(path.as_bytes())? else { continue };
        if tree.stat(node)?.kind != FileType::File {
            continue;
        }
        let mut head = [0; 64];
        let read = tree.read_at(node, &mut head, 0).map_err(|error| error.context(path))?;
        if let Some(name) = head.get(..read).and_then(machine) {
            let evidence =
                Evidence::new(format!("a program for {name}")).on(tree.volume(node)).path(path.as_bytes());
            return Ok(Some(Machine { name: Text::from(name.as_str()), evidence }));
        }
    }
    Ok(None)
}

/// `e_machine` (System V ABI, "ELF Header"): byte 4 is the class, byte 5 the order, byte 18 the machine.
pub(super) fn machine(head: &[u8]) -> Option<String> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let little = head.get(5) == Some(&1);
    let wide = head.get(4) == Some(&2);
    let number = if little { get_le16(head, 18)? } else { get_be16(head, 18)? };
    let name = match (number, little, wide) {
        (3, ..) => "i386",
        (62, _, true) => "x86_64",
        (62, _, false) => "x32",
        (183, ..) => "aarch64",
        (40, ..) => "arm",
        (21, true, _) => "ppc64le",
        (21, false, _) => "ppc64",
        (20, ..) => "ppc",
        (22, _, true) => "s390x",
        (22, _, false) => "s390",
        (243, _, true) => "riscv64",
        (243, _, false) => "riscv32",
        (258, ..) => "loongarch64",
        (50, ..) => "ia64",
        (8, true, false) => "mipsel",
        (8, false, false) => "mips",
        (8, true, true) => "mips64el",
        (8, false, true) => "mips64",
        (2, ..) => "sparc",
        (43, ..) => "sparc64",
        _ => return Some(format!("elf machine {number}")),
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_and_order_belong_to_the_name() {
        let head = |class: u8, order: u8, machine: [u8; 2]| {
            [&b"\x7fELF"[..], &[class, order, 1], &[0; 11], &machine].concat()
        };
        assert_eq!(machine(&head(2, 1, [62, 0])).as_deref(), Some("x86_64"));
        assert_eq!(machine(&head(2, 2, [0, 21])).as_deref(), Some("ppc64"));
        assert_eq!(machine(b"#!/bin/sh"), None);
    }
}
