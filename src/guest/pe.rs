//! Programs for UEFI and Windows: the machine they are for, and their sections. A unified kernel image is such a program
//! with a kernel, its arguments and its initramfs as sections (UAPI.5).

use crate::error::{Error, Result};
use crate::fs::tree::{Node, Tree};
use crate::ondisk::{get_le16, get_le32};

/// What is read of a file: where the header begins stands at 0x3c, and it begins soon.
pub const HEAD: usize = 4096;
/// Sections that are looked at; a unified kernel image has about ten.
const MAX_SECTIONS: usize = 96;
/// Size of a section's header.
const SECTION: usize = 40;

/// The headers of a program ("PE Format", Microsoft).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The machine, as `uname -m` spells it (32-bit x86 as `i386`); `pe machine N` when we have no name.
    pub machine: String,
    /// Its sections.
    pub sections: Vec<Section>,
}

/// A section of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, filled with zero bytes.
    pub name: [u8; 8],
    /// Where its data stands in the file.
    pub offset: u64,
    /// The length of its data in bytes.
    pub size: u64,
}

impl Program {
    /// Reads the headers at the start of a file; `None` when it is no program.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(tree: &Tree, node: Node) -> Result<Option<Self>> {
        let mut head = vec![0; HEAD];
        let read = tree.read_at(node, &mut head, 0)?;
        head.truncate(read);
        Ok(Self::parse(&head))
    }

    /// From the first bytes of a file. Sections past them are left out.
    #[must_use]
    pub fn parse(head: &[u8]) -> Option<Self> {
        if !head.starts_with(b"MZ") {
            return None;
        }
        // Behind the four bytes of the signature: 0 machine, 2 number of sections, 16 size of the optional header.
        let at = usize::try_from(get_le32(head, 0x3c)?).ok()?;
        if !head.get(at..)?.starts_with(b"PE\0\0") {
            return None;
        }
        let coff = at.checked_add(4)?;
        let machine = machine_name(get_le16(head, coff)?);
        let count = usize::from(get_le16(head, coff.checked_add(2)?).unwrap_or(0)).min(MAX_SECTIONS);
        let optional = usize::from(get_le16(head, coff.checked_add(16)?).unwrap_or(0));
        let first = coff.checked_add(20)?.checked_add(optional)?;
        let headers = head.get(first..).unwrap_or_default().chunks_exact(SECTION).take(count);
        Some(Self { machine, sections: headers.filter_map(Section::parse).collect() })
    }

    /// The section of this name.
    #[must_use]
    pub fn section(&self, name: &[u8]) -> Option<Section> {
        self.sections.iter().find(|section| section.is_called(name)).copied()
    }
}

impl Section {
    /// 0 name, 8 virtual size, 16 size of raw data, 20 pointer to raw data. The data is the shorter of both sizes: raw
    /// data is filled up to the file's alignment.
    fn parse(header: &[u8]) -> Option<Self> {
        let (unpacked, raw) = (get_le32(header, 8)?, get_le32(header, 16)?);
        let size = if unpacked == 0 { raw } else { raw.min(unpacked) };
        let offset = u64::from(get_le32(header, 20)?);
        Some(Self { name: *header.first_chunk()?, offset, size: u64::from(size) })
    }

    fn is_called(&self, name: &[u8]) -> bool {
        self.name.strip_prefix(name).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
    }
}

/// A section of a file, if it is a program and has one of this name.
///
/// # Errors
/// When it cannot be read; when the section's data is longer than the file.
pub fn section(tree: &Tree, node: Node, name: &[u8]) -> Result<Option<Section>> {
    let Some(section) = Program::read(tree, node)?.and_then(|program| program.section(name)) else {
        return Ok(None);
    };
    let (end, len) = (section.offset.saturating_add(section.size), tree.stat(node)?.size);
    if end > len {
        let at = crate::error::At::new("pe", "section").byte(section.offset);
        return Err(Error::corrupt(at).because(format!("ends at byte {end}, and the file has {len}")));
    }
    Ok(Some(section))
}

/// "Machine Types".
fn machine_name(number: u16) -> String {
    let name = match number {
        0x14c => "i386",
        0x8664 => "x86_64",
        0xaa64 => "aarch64",
        0x1c0 | 0x1c2 | 0x1c4 => "arm",
        0x5032 => "riscv32",
        0x5064 => "riscv64",
        0x6264 => "loongarch64",
        0x200 => "ia64",
        0x184 | 0x284 => "alpha",
        0x1f0 => "ppc",
        0x162..=0x169 => "mips",
        _ => return format!("pe machine {number:#x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(machine: [u8; 2]) -> Vec<u8> {
        let mut bytes = vec![0; 0x100];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x40;
        bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
        bytes[0x44..0x46].copy_from_slice(&machine);
        bytes
    }

    #[test]
    fn the_machine_stands_behind_the_signature() {
        let machine = |machine| Program::parse(&head(machine)).unwrap().machine;
        assert_eq!(
            (machine([0x64, 0x86]), machine([0x64, 0xaa]), machine([0x4c, 0x01])),
            ("x86_64".into(), "aarch64".into(), "i386".into())
        );
        assert_eq!(Program::parse(&head([0x4c, 0x01])[..0x44]), None);
        assert_eq!(Program::parse(b"MZ"), None);
    }

    #[test]
    fn sections_are_found_by_their_whole_name() {
        let mut bytes = head([0x64, 0x86]);
        (bytes[0x46], bytes[0x54]) = (1, 8);
        // Headers begin behind the optional one: 0x40 + 4 + 20 + 8.
        bytes[0x60..0x68].copy_from_slice(b".initrd\0");
        bytes[0x68..0x6c].copy_from_slice(&300_u32.to_le_bytes());
        bytes[0x70..0x74].copy_from_slice(&512_u32.to_le_bytes());
        bytes[0x74..0x78].copy_from_slice(&4096_u32.to_le_bytes());
        let program = Program::parse(&bytes).unwrap();
        let section = program.section(b".initrd").unwrap();
        assert_eq!((section.offset, section.size), (4096, 300));
        assert_eq!(program.section(b".init"), None);
    }
}
