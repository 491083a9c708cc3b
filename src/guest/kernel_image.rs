//! What a kernel's file is by its first bytes: the form in which a boot loader takes it, the machine it is for, and how long
//! it says that it is.

use super::elf;
use super::pe::{self, Program};
use crate::error::Result;
use crate::fs::tree::{Node, Tree};
use crate::ondisk::{get_le16, get_le32};

/// What is read of a file.
const HEAD: usize = 4096;
/// Flags of a bzImage (Linux x86 boot protocol, "xloadflags"): the kernel can be entered with 64 bits.
const KERNEL_64: u16 = 1;
/// The protocol that has those flags.
const HAS_FLAGS: u16 = 0x020c;

/// A kernel's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelImage {
    /// The form.
    pub form: Form,
    /// The machine, as `uname -m` spells it; `None` when the file does not say.
    pub machine: Option<String>,
    /// The bytes that the header says the file has.
    pub wants: Option<u64>,
    /// The bytes that it has.
    pub len: u64,
}

/// The form of a kernel's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For x86, with a set-up part.
    BzImage,
    /// Unpacked, for a 64-bit ARM or a RISC-V.
    Image,
    /// Packed inside a program for UEFI.
    Zboot,
    /// A program for UEFI.
    Efi,
    /// An ELF program: `vmlinux`.
    Elf,
    /// Packed with gzip, whatever is in it.
    Gzip,
    /// Nothing of these.
    Unknown,
}

impl Form {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BzImage => "bzImage",
            Self::Image => "Image",
            Self::Zboot => "EFI zboot",
            Self::Efi => "EFI program",
            Self::Elf => "ELF",
            Self::Gzip => "gzip",
            Self::Unknown => "unknown",
        }
    }
}

impl KernelImage {
    /// Reads the start of a kernel's file; of a unified kernel image, that of the kernel inside.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(tree: &Tree, node: Node) -> Result<Self> {
        let (start, len) = match pe::section(tree, node, b".linux")? {
            Some(section) => (section.offset, section.size),
            None => (0, tree.stat(node)?.size),
        };
        let mut head = vec![0; HEAD];
        let read = tree.read_at(node, &mut head, start)?;
        head.truncate(read);
        Ok(Self::parse(&head, len))
    }

    /// From the first bytes of a file of `len`.
    #[must_use]
    pub fn parse(head: &[u8], len: u64) -> Self {
        let of = |form, machine: Option<&str>| Self {
            form,
            machine: machine.map(str::to_owned),
            wants: None,
            len,
        };
        let has = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
        if has(0x202, b"HdrS") {
            return Self { wants: x86_size(head), ..of(Form::BzImage, x86_machine(head)) };
        }
        if has(0x38, b"ARM\x64") {
            return of(Form::Image, Some("aarch64"));
        }
        if has(0x38, b"RSC\x05") {
            return of(Form::Image, Some("riscv64"));
        }
        if let Some(program) = Program::parse(head) {
            // Linux 6.1, `drivers/firmware/efi/libstub/zboot-header.S`.
            let form = if has(4, b"zimg") { Form::Zboot } else { Form::Efi };
            return of(form, Some(&program.machine));
        }
        if let Some(machine) = elf::machine(head) {
            return of(Form::Elf, Some(&machine));
        }
        of(if has(0, &[0x1f, 0x8b]) { Form::Gzip } else { Form::Unknown }, None)
    }
}

/// 0x206: the protocol. 0x236: flags.
fn x86_machine(head: &[u8]) -> Option<&'static str> {
    let flags = get_le16(head, 0x236)
        .filter(|_| get_le16(head, 0x206).is_some_and(|version| version >= HAS_FLAGS))?;
    Some(if flags & KERNEL_64 == 0 { "i386" } else { "x86_64" })
}

/// 0x1f1: sectors of the set-up part besides the first, 0 means 4. 0x1f4: the rest, in 16 bytes.
fn x86_size(head: &[u8]) -> Option<u64> {
    let setup = match head.get(0x1f1)? {
        0 => 4,
        sectors => u64::from(*sectors),
    };
    let rest = u64::from(get_le32(head, 0x1f4)?);
    Some(setup.saturating_add(1).saturating_mul(512).saturating_add(rest.saturating_mul(16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bzimage_says_its_machine_and_its_length() {
        let mut head = vec![0; 0x240];
        head[0x1f1] = 39;
        head[0x1f4..0x1f8].copy_from_slice(&0x1000_u32.to_le_bytes());
        head[0x202..0x206].copy_from_slice(b"HdrS");
        head[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
        head[0x236] = 0x3f;
        let image = KernelImage::parse(&head, 100);
        assert_eq!(
            (image.form, image.machine.as_deref(), image.wants),
            (Form::BzImage, Some("x86_64"), Some(86016))
        );
        head[0x236] = 0;
        assert_eq!(KernelImage::parse(&head, 100).machine.as_deref(), Some("i386"));
        head[0x206] = 0x0a;
        assert_eq!(KernelImage::parse(&head, 100).machine, None);
    }

    #[test]
    fn other_machines_have_other_forms() {
        let mut image = vec![0; 0x40];
        image[0x38..0x3c].copy_from_slice(b"ARM\x64");
        assert_eq!(KernelImage::parse(&image, 64).machine.as_deref(), Some("aarch64"));
        assert_eq!(KernelImage::parse(&[0x1f, 0x8b, 8], 3).form, Form::Gzip);
        assert_eq!(KernelImage::parse(b"kernel", 6).form, Form::Unknown);
    }
}
