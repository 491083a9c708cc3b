//! Foreign files: what people hand us that is not a disk image, or is one we do not read, and what to do instead.
//!
//! Asked only when no format claims a file and it would be taken for raw. A raw disk has no signature of its own, so
//! every row here is a signature that no boot sector, file system or partition table begins with.

use crate::block::Probe;
use crate::error::{Error, ErrorKind};
use crate::text::escape;

/// What to do with such a file.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Packed: unpack it with this command.
    Unpack(&'static str),
    /// A disk image in a format that is not read yet.
    Image,
    /// Encrypted as a whole, by a tool that alone can undo it.
    Locked,
    /// Something else altogether: what is meant, perhaps.
    Other(&'static str),
}

/// A signature.
struct Row {
    at: usize,
    magic: &'static [u8],
    what: &'static str,
    way: Way,
}

const fn row(at: usize, magic: &'static [u8], what: &'static str, way: Way) -> Row {
    Row { at, magic, what, way }
}

const DISK: Way = Way::Other("name the disk image itself");
const ROWS: &[Row] = &[
    row(0, &[0x04, 0x22, 0x4d, 0x18], "an lz4 file", Way::Unpack("lz4 -dk")),
    row(0, b"LZIP", "an lzip file", Way::Unpack("lzip -dk")),
    row(0, b"PK\x03\x04", "a zip archive", Way::Unpack("unzip")),
    row(0, b"PK\x05\x06", "an empty zip archive", DISK),
    row(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", Way::Unpack("7z x")),
    row(0, b"Rar!\x1a\x07", "a rar archive", Way::Unpack("unrar x")),
    row(0, b"MSWIM\0\0\0", "a WIM archive (Windows setup image)", Way::Other("wimapply unpacks it")),
    row(0, b"070701", "a cpio archive (an initramfs?)", Way::Unpack("cpio -i <")),
    row(0, b"070707", "a cpio archive", Way::Unpack("cpio -i <")),
    row(0, b"!<arch>\n", "an ar archive (a .deb package or a library)", DISK),
    row(0, &[0xed, 0xab, 0xee, 0xdb], "an rpm package", DISK),
    row(0, b"\x7fELF", "an ELF program", DISK),
    row(0, b"%PDF-", "a PDF document", DISK),
    row(0, b"\x89PNG\r\n\x1a\n", "a PNG picture", DISK),
    row(0, &[0xff, 0xd8, 0xff], "a JPEG picture", DISK),
    row(0, b"SQLite format 3\0", "an SQLite database", DISK),
    row(0, b"LVF\x09\x0d\x0a\xff\0", "an L01 (EWF) logical evidence file", Way::Image),
    row(0, b"ADCRYPT\0", "an evidence file encrypted by FTK Imager (AD encryption)", Way::Locked),
    row(0, b"AFF10\r\n\0", "an AFF evidence file", Way::Image),
    row(0, b"Bochs Virtual HD Image", "a Bochs disk image", Way::Image),
    row(0, b"#!/bin/sh\n#V2.0 Format\n", "a cloop disk image", Way::Image),
    row(0, b"shdw", "an Apple ASIF disk image", Way::Image),
];

/// Why a file that no format claims is not a raw disk either; `None` if it may well be one.
pub(super) fn refuse(probe: &Probe<'_>) -> Option<Error> {
    let shown = escape(probe.name.as_bytes()).to_string();
    let raw = "if its bytes are a disk's nevertheless: --format raw";
    let (what, way) = name(probe)?;
    Some(match way {
        Way::Unpack(with) => Error::new(ErrorKind::NotAnImage, format!("is {what}, not a disk image"))
            .help(format!("unpack it and open what is inside: {with} {shown}")),
        Way::Image => Error::unsupported(what)
            .help("'qemu-img convert -O qcow2 OLD NEW' makes one that can be read, if qemu knows the format"),
        Way::Locked => Error::new(ErrorKind::Encrypted, format!("is {what}, and no key can be given"))
            .help("decrypt it with the tool that wrote it"),
        Way::Other(instead) => Error::new(ErrorKind::NotAnImage, format!("is {what}, not a disk image"))
            .help(format!("{instead}; {raw}")),
    })
}

fn name(probe: &Probe<'_>) -> Option<(&'static str, Way)> {
    if let Some(row) = ROWS.iter().find(|row| probe.has(row.at, row.magic)) {
        return Some((row.what, row.way));
    }
    if probe.has(0, b"MZ") {
        // "MZ" are also the first bytes of a kernel with an EFI stub: only the header it points to proves a program.
        let pe = probe.bytes::<4>(0x3c).map(u32::from_le_bytes).and_then(|at| usize::try_from(at).ok());
        return pe
            .is_some_and(|at| probe.has(at, b"PE\0\0"))
            .then_some(("a Windows program (or an EFI one)", DISK));
    }
    text(probe)
}

/// Text throughout what is seen of it. A disk may begin with some, but hardly ends with it too.
fn text(probe: &Probe<'_>) -> Option<(&'static str, Way)> {
    let plain = |bytes: &[u8]| {
        let control = |byte: &u8| *byte < 0x20 && !matches!(*byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
        // Both ends of what is seen may cut a character in two.
        let utf8 = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum::<usize>() <= 6;
        !bytes.iter().any(control) && utf8
    };
    if probe.head.is_empty() || !plain(probe.head) || !plain(probe.tail) {
        return None;
    }
    let start = probe.head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(probe.head).trim_ascii_start();
    let lower = start.get(..512.min(start.len())).unwrap_or_default().to_ascii_lowercase();
    Some(if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") {
        ("an HTML page (the answer of a download that failed?)", Way::Other("download the image again"))
    } else if lower.starts_with(b"<?xml") {
        ("an XML document", DISK)
    } else if lower.starts_with(b"{") || lower.starts_with(b"[") {
        ("a JSON document", DISK)
    } else {
        ("a text file", DISK)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(head: &[u8]) -> Option<String> {
        let tail = &head[head.len().saturating_sub(4096)..];
        let len = crate::num::wide(head.len());
        refuse(&Probe { head, tail, len, name: "x" }).map(|error| error.to_string())
    }

    #[test]
    fn disks_are_not_misnamed() {
        let mut mbr = vec![0; 4096];
        mbr[..4].copy_from_slice(&[0xeb, 0x63, 0x90, 0x10]);
        mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(said(&mbr), None);
        assert_eq!(said(&[0; 4096]), None);
        assert_eq!(said(&[0; 10]), None);
        assert_eq!(said(b""), None);
        let mut bzip_by_chance = vec![0; 512];
        bzip_by_chance[..3].copy_from_slice(b"BZh");
        assert_eq!(said(&bzip_by_chance), None);
    }

    #[test]
    fn text_is_text_only_if_all_of_it_is() {
        assert!(said(b"hello\n").unwrap().contains("a text file"));
        assert!(said("gr\u{fc}\u{df}e\n".as_bytes()).unwrap().contains("a text file"));
        assert_eq!(said(b"hello\0\0\0"), None);
    }
}
