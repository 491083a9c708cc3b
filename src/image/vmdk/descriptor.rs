//! The VMDK descriptor: the text that says what kind of disk it is and which extents it is made of.
//!
//! Specification: VMware, "Virtual Disk Format 5.0", section "The Descriptor File".

use crate::error::{At, Error, Result};
use crate::num::wide;
use crate::text::escape;

/// Longest descriptor that is read. VMware's have a few KiB; qemu stops at 1 MiB too.
pub(super) const MAX_DESCRIPTOR: u64 = 1 << 20;

/// Most extents of one disk: 4096 of 2 GB make 8 TB.
const MAX_EXTENTS: usize = 4096;

/// `CID` of a parent that is not there.
pub(super) const NO_PARENT: u32 = 0xffff_ffff;

/// What an extent line says about access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// `RW` or `RDONLY`: the same to us.
    Readable,
    /// `NOACCESS`.
    None,
}

/// One line of the extent description: `RW 4192256 SPARSE "disk-s001.vmdk"`.
#[derive(Clone, Debug)]
pub(super) struct ExtentLine {
    pub(super) access: Access,
    /// Its part of the disk, in sectors.
    pub(super) sectors: u64,
    /// `FLAT`, `SPARSE`, `ZERO`, …, in capitals.
    pub(super) kind: String,
    pub(super) name: Vec<u8>,
    /// Where a flat extent starts in its file, in sectors.
    pub(super) offset: u64,
}

/// A descriptor, taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Descriptor {
    pub(super) create_type: Vec<u8>,
    pub(super) cid: Option<u32>,
    pub(super) parent_cid: Option<u32>,
    pub(super) parent_hint: Option<Vec<u8>>,
    pub(super) adapter: Option<Vec<u8>>,
    pub(super) hardware_version: Option<Vec<u8>>,
    pub(super) encrypted: bool,
    pub(super) extents: Vec<ExtentLine>,
}

/// Is this the beginning of a descriptor file? VMware's begin with the comment, qemu also takes others' without it.
pub(super) fn is_descriptor(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let mut lines = head.get(..4096.min(head.len())).unwrap_or_default().split(|byte| *byte == b'\n');
    let first = lines.find(|line| !line.trim_ascii().is_empty()).unwrap_or_default().trim_ascii();
    let magic = b"# disk descriptorfile";
    first.get(..magic.len()).is_some_and(|start| start.eq_ignore_ascii_case(magic))
}

/// `key = value` with or without blanks and quotes.
fn key_value(line: &[u8]) -> Option<(String, &[u8])> {
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = line.split_at(equals);
    let value = value.get(1..)?.trim_ascii();
    let value = value.strip_prefix(b"\"").map_or(value, |value| value.strip_suffix(b"\"").unwrap_or(value));
    Some((String::from_utf8_lossy(key.trim_ascii()).to_ascii_lowercase(), value))
}

fn hex(value: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(value).ok()?, 16).ok()
}

impl Descriptor {
    /// Reads the text up to its first NUL, line by line.
    ///
    /// # Errors
    /// `Corrupt` with the line for an extent that cannot be read; `Limit` for too many.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut found = Self::default();
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let word = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
            let access = match word.to_ascii_uppercase().as_slice() {
                b"RW" | b"RDONLY" => Some(Access::Readable),
                b"NOACCESS" => Some(Access::None),
                _ => None,
            };
            if let Some(access) = access {
                if found.extents.len() >= MAX_EXTENTS {
                    return Err(Error::limit(format!("vmdk: more than {MAX_EXTENTS} extents")));
                }
                let rest = line.get(word.len()..).unwrap_or_default();
                let extent = extent(access, rest).ok_or_else(|| {
                    Error::corrupt(At::new("vmdk", "descriptor line").index(wide(number).saturating_add(1)))
                        .because(format!("'{}' is no extent", escape(line)))
                })?;
                found.extents.push(extent);
            } else if let Some((key, value)) = key_value(line) {
                found.set(&key, value);
            }
        }
        Ok(found)
    }

    fn set(&mut self, key: &str, value: &[u8]) {
        match key {
            "createtype" => self.create_type = value.to_vec(),
            "cid" => self.cid = hex(value),
            "parentcid" => self.parent_cid = hex(value),
            "parentfilenamehint" => self.parent_hint = Some(value.to_vec()),
            "ddb.adaptertype" => self.adapter = Some(value.to_vec()),
            "ddb.virtualhwversion" => self.hardware_version = Some(value.to_vec()),
            _ if key.starts_with("encryption.") => self.encrypted = true,
            _ => {}
        }
    }
}

/// What follows the access word: `sectors TYPE "name" offset`.
fn extent(access: Access, rest: &[u8]) -> Option<ExtentLine> {
    let word = |text: &'_ [u8]| -> Option<(Vec<u8>, usize)> {
        let start = text.iter().position(|byte| !byte.is_ascii_whitespace())?;
        let len = text.get(start..)?.iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
        let end = start.checked_add(len)?;
        Some((text.get(start..end)?.to_vec(), end))
    };
    let number = |bytes: &[u8]| -> Option<u64> { std::str::from_utf8(bytes).ok()?.parse().ok() };
    let (sectors, end) = word(rest)?;
    let rest = rest.get(end..)?;
    let (kind, end) = word(rest)?;
    let rest = rest.get(end..)?.trim_ascii();
    let kind = String::from_utf8(kind).ok()?.to_ascii_uppercase();
    let mut line = ExtentLine { access, sectors: number(&sectors)?, kind, name: Vec::new(), offset: 0 };
    if rest.is_empty() {
        return (line.kind == "ZERO").then_some(line);
    }
    // A name may hold blanks and quotes of its own: it ends at the last quote of the line.
    let name = rest.strip_prefix(b"\"")?;
    let close = name.iter().rposition(|byte| *byte == b'"')?;
    line.name = name.get(..close)?.to_vec();
    let after = name.get(close.checked_add(1)?..)?;
    if let Some((offset, _)) = word(after) {
        line.offset = number(&offset)?;
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dos_line_ends_blanks_and_quotes_are_read() {
        let text = b"# Disk DescriptorFile\r\nversion=1\r\nCID = fffffffe\r\nparentCID=ffffffff\r\ncreateType=\"twoGbMaxExtentFlat\"\r\nRW  2048 FLAT \"a \"b\".vmdk\" 16\r\nRDONLY 8 ZERO\r\n";
        let found = Descriptor::parse(text).unwrap();
        assert!(is_descriptor(text));
        assert_eq!((found.cid, found.parent_cid), (Some(0xffff_fffe), Some(NO_PARENT)));
        assert_eq!(found.create_type, b"twoGbMaxExtentFlat");
        assert_eq!(found.extents[0].name, b"a \"b\".vmdk");
        assert_eq!((found.extents[0].sectors, found.extents[0].offset), (2048, 16));
        assert_eq!(found.extents[1].kind, "ZERO");
    }

    #[test]
    fn an_extent_line_without_a_number_is_corrupt_and_named() {
        let error = Descriptor::parse(b"\n\nRW lots FLAT \"x\" 0\n").unwrap_err();
        assert!(error.to_string().contains("descriptor line 3"), "{error}");
    }

    #[test]
    fn a_number_past_64_bits_is_corrupt() {
        assert!(Descriptor::parse(b"RW 99999999999999999999 ZERO\n").is_err());
    }

    #[test]
    fn what_follows_a_nul_is_not_read() {
        assert!(Descriptor::parse(b"CID=1\n\0RW x").unwrap().extents.is_empty());
    }
}
