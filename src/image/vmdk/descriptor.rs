//! The VMDK descriptor: the text that says what kind of disk it is and which extents it is made of.
//!
//! Specification: VMware, "Virtual Disk Format 5.0", section "The Descriptor File".

use crate::error::{At, Error, Result};
use crate::num::wide;
use crate::text::escape;
use std::collections::BTreeMap;

/// Longest descriptor that is read. VMware's have a few KiB; qemu stops at 1 MiB too.
pub(super) const MAX_DESCRIPTOR: u64 = 1 << 20;

/// Most extents of one disk: 4096 of 2 GB make 8 TB.
const MAX_EXTENTS: usize = 4096;

/// `CID` of a parent that is not there.
const NO_PARENT: u32 = 0xffff_ffff;

/// One line of the extent description: `RW 4192256 SPARSE "disk-s001.vmdk"`.
#[derive(Clone, Debug)]
pub(super) struct ExtentLine {
    /// `RW`, `RDONLY` or `NOACCESS`, in capitals; a word that the specification does not have is kept for the refusal.
    pub(super) access: String,
    /// Its part of the disk, in sectors.
    pub(super) sectors: u64,
    /// `FLAT`, `SPARSE`, `ZERO`, …, in capitals.
    pub(super) kind: String,
    pub(super) name: Vec<u8>,
    /// Where a flat extent starts in its file, in sectors.
    pub(super) offset: u64,
}

/// Keys that are shown as facts of the disk, and what `info` calls them.
const FACTS: &[(&str, &str)] = &[
    ("ddb.adaptertype", "adapter type"),
    ("ddb.virtualhwversion", "hardware version"),
    ("ddb.thinprovisioned", "thin provisioned"),
    ("ddb.uuid", "disk uuid"),
    ("ddb.longcontentid", "long content id"),
    ("ddb.toolsversion", "tools version"),
    ("changetrackpath", "change tracking file"),
];

/// A descriptor, taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Descriptor {
    pub(super) create_type: Vec<u8>,
    pub(super) cid: Option<u32>,
    parent_cid: Option<u32>,
    parent_hint: Option<Vec<u8>>,
    pub(super) encrypted: bool,
    /// `isNativeSnapshot`: the storage array holds the difference, not these files.
    pub(super) is_native_snapshot: bool,
    pub(super) extents: Vec<ExtentLine>,
    encoding: Vec<u8>,
    /// Values of [`FACTS`] and of `ddb.geometry.*`, by key.
    shown: BTreeMap<String, Vec<u8>>,
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
    let digits = std::str::from_utf8(value).ok()?.to_ascii_lowercase();
    u32::from_str_radix(digits.strip_prefix("0x").unwrap_or(&digits), 16).ok()
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
            // `key = "value"` has its sign in front of any quote; an extent's name may hold one behind it.
            let before_quote = line.split(|byte| *byte == b'"').next().unwrap_or_default();
            if before_quote.contains(&b'=') {
                if let Some((key, value)) = key_value(line) {
                    found.set(&key, value);
                }
            } else if let Some(extent) = extent_line(line) {
                if found.extents.len() >= MAX_EXTENTS {
                    return Err(Error::limit(format!("vmdk: more than {MAX_EXTENTS} extents")));
                }
                found.extents.push(extent.ok_or_else(|| {
                    Error::corrupt(At::new("vmdk", "descriptor line").index(wide(number).saturating_add(1)))
                        .because(format!("'{}' is no extent", escape(line)))
                })?);
            }
        }
        found.decode();
        Ok(found)
    }

    fn set(&mut self, key: &str, value: &[u8]) {
        match key {
            "createtype" => self.create_type = value.to_vec(),
            "cid" => self.cid = hex(value),
            "parentcid" => self.parent_cid = hex(value),
            "parentfilenamehint" => self.parent_hint = Some(value.to_vec()),
            "encoding" => self.encoding = value.to_ascii_lowercase(),
            "isnativesnapshot" => self.is_native_snapshot = value.eq_ignore_ascii_case(b"yes"),
            _ if key.starts_with("encryption.") => self.encrypted = true,
            _ if key.starts_with("ddb.geometry.") || FACTS.iter().any(|(known, _)| *known == key) => {
                self.shown.insert(key.to_owned(), value.to_vec());
            }
            _ => {}
        }
    }

    /// File names in a code page of Windows as they are called here, where names are UTF-8.
    fn decode(&mut self) {
        if self.encoding != b"windows-1252" && self.encoding != b"iso-8859-1" {
            return;
        }
        let names = self.extents.iter_mut().map(|line| &mut line.name).chain(&mut self.parent_hint);
        for name in names.filter(|name| std::str::from_utf8(name).is_err()) {
            *name = windows_1252(name).into_bytes();
        }
    }

    /// The CID that the parent must have and the name it may have, if this is a delta disk.
    ///
    /// # Errors
    /// `Corrupt` when the descriptor contradicts itself.
    pub(super) fn parent(&self) -> Result<Option<(u32, &[u8])>> {
        let hint = self.parent_hint.as_deref().filter(|hint| !hint.is_empty());
        let wrong = |why: String| Err(Error::corrupt(At::new("vmdk", "descriptor")).because(why));
        match (self.parent_cid.unwrap_or(NO_PARENT), hint) {
            (NO_PARENT, None) => Ok(None),
            (NO_PARENT, Some(hint)) => {
                wrong(format!("names the parent '{}', but no parentCID", escape(hint)))
            }
            (cid, None) => wrong(format!("has the parentCID {cid:08x}, but names no parent")),
            (cid, Some(hint)) => Ok(Some((cid, hint))),
        }
    }

    /// What `info` prints of it.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![("create type", escape(&self.create_type).to_string())];
        facts.extend(self.cid.map(|cid| ("CID", format!("{cid:08x}"))));
        if let Ok(Some((cid, hint))) = self.parent() {
            facts.push(("parent CID", format!("{cid:08x}")));
            facts.push(("parent", escape(hint).to_string()));
        }
        for (key, name) in FACTS {
            let value = self.shown.get(*key).map(|value| escape(value).to_string());
            let value = value.map(|value| match (*name, value.as_str()) {
                ("thin provisioned", "1") => "yes".to_owned(),
                ("thin provisioned", "0") => "no".to_owned(),
                _ => value,
            });
            facts.extend(value.map(|value| (*name, value)));
        }
        let geometry: Vec<String> = ["cylinders", "heads", "sectors"]
            .iter()
            .filter_map(|part| self.shown.get(&format!("ddb.geometry.{part}")))
            .map(|value| escape(value).to_string())
            .collect();
        if geometry.len() == 3 {
            facts.push(("geometry", geometry.join("/")));
        }
        facts
    }
}

/// Text in Windows code page 1252, which is ISO 8859-1 but for 0x80 to 0x9f; what is undefined there stays as it is.
fn windows_1252(bytes: &[u8]) -> String {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
        '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    let high = |byte: u8| byte.checked_sub(0x80).and_then(|at| HIGH.get(usize::from(at)).copied());
    bytes.iter().map(|byte| high(*byte).unwrap_or(char::from(*byte))).collect()
}

/// A line that describes an extent: a word and a number, or one of the words of the specification. `Some(None)` if it
/// must be one and cannot be read.
fn extent_line(line: &[u8]) -> Option<Option<ExtentLine>> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let first = words.next()?;
    let access = String::from_utf8(first.to_ascii_uppercase()).ok()?;
    let is_counted = words.next().is_some_and(|word| word.iter().all(u8::is_ascii_digit));
    let is_access = matches!(access.as_str(), "RW" | "RDONLY" | "NOACCESS");
    let is_word = access.bytes().all(|byte| byte.is_ascii_uppercase());
    let rest = line.get(first.len()..).unwrap_or_default();
    (is_access || (is_word && is_counted)).then(|| extent(access, rest))
}

/// What follows the access word: `sectors TYPE "name" offset`.
fn extent(access: String, rest: &[u8]) -> Option<ExtentLine> {
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
        assert_eq!((found.cid, found.parent().unwrap()), (Some(0xffff_fffe), None));
        assert_eq!(found.create_type, b"twoGbMaxExtentFlat");
        assert_eq!(found.extents[0].name, b"a \"b\".vmdk");
        assert_eq!((found.extents[0].sectors, found.extents[0].offset), (2048, 16));
        assert_eq!(found.extents[1].kind, "ZERO");
    }

    #[test]
    fn an_access_that_is_not_in_the_specification_is_kept_for_the_refusal() {
        let found =
            Descriptor::parse(b"CONCURRENT\t8   FLAT   \"a=b.vmdk\"   0\n\tRDONLY  8\tFLAT \"c\"\n").unwrap();
        assert_eq!((found.extents[0].access.as_str(), found.extents[0].sectors), ("CONCURRENT", 8));
        assert_eq!(found.extents[0].name, b"a=b.vmdk");
        assert_eq!(found.extents[1].access, "RDONLY");
    }

    #[test]
    fn a_code_page_of_windows_becomes_utf8() {
        let text = b"encoding=\"windows-1252\"\nparentCID=1\nparentFileNameHint=\"b\xe4se \x80.vmdk\"\nRW 8 FLAT \"\xfc.vmdk\" 0\n";
        let found = Descriptor::parse(text).unwrap();
        assert_eq!(found.parent().unwrap(), Some((1, "bäse €.vmdk".as_bytes())));
        assert_eq!(found.extents[0].name, "ü.vmdk".as_bytes());
        let utf8 = Descriptor::parse("encoding=\"UTF-8\"\nRW 8 FLAT \"ü.vmdk\" 0\n".as_bytes()).unwrap();
        assert_eq!(utf8.extents[0].name, "ü.vmdk".as_bytes());
    }

    #[test]
    fn a_parent_that_is_only_half_named_is_corrupt() {
        assert!(Descriptor::parse(b"CID=1\nparentCID=ffffffff\n").unwrap().parent().unwrap().is_none());
        assert!(
            Descriptor::parse(b"parentCID=ffffffff\nparentFileNameHint=\"\"\n")
                .unwrap()
                .parent()
                .unwrap()
                .is_none()
        );
        assert!(Descriptor::parse(b"parentCID=12345678\n").unwrap().parent().is_err());
        assert!(
            Descriptor::parse(b"parentFileNameHint=\"x\"\nparentCID=ffffffff\n").unwrap().parent().is_err()
        );
    }

    #[test]
    fn what_the_disk_data_base_says_becomes_facts() {
        let text = b"CID=0xA\nddb.thinProvisioned = \"1\"\nddb.geometry.cylinders = \"5\"\nddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\nddb.virtualHWVersion=\"13\"\n";
        let facts = Descriptor::parse(text).unwrap().facts();
        let expected = [
            ("create type", ""),
            ("CID", "0000000a"),
            ("hardware version", "13"),
            ("thin provisioned", "yes"),
            ("geometry", "5/16/63"),
        ];
        assert_eq!(facts, expected.map(|(name, value)| (name, value.to_owned())));
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
