//! The machine that a Windows system is made for, from the header of its kernel.

use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::guest::Evidence;
use crate::guest::elf::Machine;
use crate::ondisk::{get_le16, get_le32};
use crate::text::{Text, escape};

/// Programs of a system; those of `SysWOW64` are of 32 bits on a 64-bit one and say nothing.
const PROGRAMS: &[&str] = &["ntoskrnl.exe", "ntkrnlpa.exe", "cmd.exe", "winload.exe"];
/// What is read of one: where the header begins stands at 0x3c, and it begins soon.
const HEAD: usize = 4096;

/// Reads the machine; `None` when no such program is there.
///
/// # Errors
/// When one is there but cannot be read, or is no program.
pub(super) fn read(tree: &Tree, directory: &[u8]) -> Result<Option<Machine>> {
    for name in PROGRAMS {
        let path = [directory, b"/System32/", name.as_bytes()].concat();
        let Some(node) = tree.find(&path)? else { continue };
        let mut head = vec![0; HEAD];
        let read = tree.read_at(node, &mut head, 0).map_err(|error| error.context(escape(&path)))?;
        head.truncate(read);
        let name = machine(&head)
            .ok_or_else(|| Error::unsupported("a program without a PE header").context(escape(&path)))?;
        let evidence = Evidence::new(format!("a program for {name}")).on(tree.volume(node)).path(&path);
        return Ok(Some(Machine { name: Text::from(name.as_str()), evidence }));
    }
    Ok(None)
}

/// "PE Format", sections "MS-DOS Stub" and "Machine Types": the offset of the signature stands at 0x3c, the machine behind
/// the four bytes of the signature.
fn machine(head: &[u8]) -> Option<String> {
    if !head.starts_with(b"MZ") {
        return None;
    }
    let at = usize::try_from(get_le32(head, 0x3c)?).ok()?;
    if !head.get(at..)?.starts_with(b"PE\0\0") {
        return None;
    }
    let number = get_le16(head, at.checked_add(4)?)?;
    let name = match number {
        0x14c => "i386",
        0x8664 => "x86_64",
        0xaa64 => "aarch64",
        0x1c0 | 0x1c2 | 0x1c4 => "arm",
        0x200 => "ia64",
        0x184 | 0x284 => "alpha",
        0x1f0 => "ppc",
        0x162..=0x169 => "mips",
        _ => return Some(format!("pe machine {number:#x}")),
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_stands_behind_the_signature() {
        let head = |machine: [u8; 2]| {
            let mut bytes = vec![0; 0x100];
            bytes[..2].copy_from_slice(b"MZ");
            bytes[0x3c] = 0x80;
            bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
            bytes[0x84..0x86].copy_from_slice(&machine);
            bytes
        };
        assert_eq!(machine(&head([0x64, 0x86])).as_deref(), Some("x86_64"));
        assert_eq!(machine(&head([0x64, 0xaa])).as_deref(), Some("aarch64"));
        assert_eq!(machine(&head([0x4c, 0x01])[..0x84]), None);
        assert_eq!(machine(b"MZ"), None);
    }
}
