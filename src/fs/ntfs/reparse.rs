//! A reparse point says that a file is more than its name and data: a link, a mount point, a file of Linux, a file whose
//! content is kept packed or somewhere else. Its tag says whose it is, what follows is the owner's.
//!
//! ```text
//! tag 4 │ data length 2 │ reserved 2 │ GUID 16, where the tag is not one of Microsoft's │ data
//! ```
//! [MS-FSCC] 2.1.2 Reparse Point Data Structures.

use super::attribute::{Attribute, Body, kind};
use super::file::File;
use super::name::encode;
use super::stat::{Standard, attribute};
use super::volume::Volume;
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::FileType;
use crate::fs::unicode::units_le;
use crate::ondisk::{get_le32, get_le64, le16, le32};

/// The longest reparse point (`MAXIMUM_REPARSE_DATA_BUFFER_SIZE`).
pub(super) const MAX_LEN: u64 = 16 << 10;

const HEADER: usize = 8;
/// Of the owner of a tag that is not Microsoft's.
const GUID: usize = 16;
/// Set in tags of Microsoft's own.
const IS_MICROSOFT: u32 = 0x8000_0000;

/// Tags whose data we understand.
pub(super) mod tag {
    /// A directory that is another, or another volume.
    pub(in super::super) const MOUNT_POINT: u32 = 0xa000_0003;
    /// A symbolic link of Windows.
    pub(in super::super) const SYMLINK: u32 = 0xa000_000c;
    /// A special file made by Windows' NFS server.
    pub(in super::super) const NFS: u32 = 0x8000_0014;
    /// A file that is kept packed, or in a WIM.
    pub(in super::super) const WOF: u32 = 0x8000_0017;
    /// A symbolic link of Linux under Windows.
    pub(in super::super) const LX_SYMLINK: u32 = 0xa000_001d;
    /// A socket.
    pub(in super::super) const AF_UNIX: u32 = 0x8000_0023;
    /// A FIFO of Linux under Windows.
    pub(in super::super) const LX_FIFO: u32 = 0x8000_0024;
    /// A character device of Linux under Windows.
    pub(in super::super) const LX_CHR: u32 = 0x8000_0025;
    /// A block device of Linux under Windows.
    pub(in super::super) const LX_BLK: u32 = 0x8000_0026;
}

/// Every tag that has a name, [MS-FSCC] 2.1.2.1. Those of cloud files are 0x9000001a to 0x9000f01a: see [`name`].
const NAMES: &[(u32, &str)] = &[
    (0x0000_0000, "RESERVED_ZERO"),
    (0x0000_0001, "RESERVED_ONE"),
    (0x0000_0002, "RESERVED_TWO"),
    (tag::MOUNT_POINT, "MOUNT_POINT"),
    (0xc000_0004, "HSM"),
    (0x8000_0005, "DRIVE_EXTENDER"),
    (0x8000_0006, "HSM2"),
    (0x8000_0007, "SIS"),
    (0x8000_0008, "WIM"),
    (0x8000_0009, "CSV"),
    (0x8000_000a, "DFS"),
    (0x8000_000b, "FILTER_MANAGER"),
    (tag::SYMLINK, "SYMLINK"),
    (0xa000_0010, "IIS_CACHE"),
    (0x8000_0012, "DFSR"),
    (0x8000_0013, "DEDUP"),
    (0xc000_0014, "APPXSTRM"),
    (tag::NFS, "NFS"),
    (0x8000_0015, "FILE_PLACEHOLDER"),
    (0x8000_0016, "DFM"),
    (tag::WOF, "WOF"),
    (0x8000_0018, "WCI"),
    (0x9000_1018, "WCI_1"),
    (0xa000_0019, "GLOBAL_REPARSE"),
    (0x8000_001b, "APPEXECLINK"),
    (0x9000_001c, "PROJFS"),
    (tag::LX_SYMLINK, "LX_SYMLINK"),
    (0x8000_001e, "STORAGE_SYNC"),
    (0xa000_001f, "WCI_TOMBSTONE"),
    (0x8000_0020, "UNHANDLED"),
    (0x8000_0021, "ONEDRIVE"),
    (0xa000_0022, "PROJFS_TOMBSTONE"),
    (tag::AF_UNIX, "AF_UNIX"),
    (tag::LX_FIFO, "LX_FIFO"),
    (tag::LX_CHR, "LX_CHR"),
    (tag::LX_BLK, "LX_BLK"),
    (0x9000_0027, "STORAGE_SYNC_FOLDER"),
    (0xa000_0027, "WCI_LINK"),
    (0xa000_1027, "WCI_LINK_1"),
    (0xa000_0028, "DATALESS_CIM"),
];

/// Tags of files that have nothing of their content: a deduplicated file's lies in the chunk store, one of single-instance
/// storage in the common store, one of a WIM in that.
const ALWAYS_ELSEWHERE: &[u32] = &[0x8000_0005, 0x8000_0007, 0x8000_0008, 0x8000_0013];

/// A tag's name as Windows' headers spell it, or its number.
pub(super) fn name(tag: u32) -> String {
    let known =
        NAMES.iter().find(|(number, _)| *number == tag).map(|(_, name)| format!("IO_REPARSE_TAG_{name}"));
    known.unwrap_or_else(|| match tag & 0xf000 {
        0 if tag == 0x9000_001a => "IO_REPARSE_TAG_CLOUD".to_owned(),
        nth if tag & !0xf000 == 0x9000_001a => format!("IO_REPARSE_TAG_CLOUD_{:X}", nth >> 12),
        _ => format!("reparse tag {tag:#010x}"),
    })
}

/// Where a file's reparse point is, for errors.
pub(super) const fn at(file: &File) -> At {
    At::new("ntfs", "reparse point of MFT record").index(file.number)
}

/// The content of a file's `$REPARSE_POINT`, if its attributes say that it has one.
///
/// # Errors
/// When it cannot be read; `Limit` when it is longer than any is.
pub(super) fn load(volume: &Volume, file: &File) -> Result<Option<Vec<u8>>> {
    if Standard::of(file)?.attributes & attribute::REPARSE_POINT == 0 {
        return Ok(None);
    }
    match file.find(kind::REPARSE_POINT, &[])? {
        Some(value) => volume.read_whole(file, value, MAX_LEN).map(Some),
        None => Ok(None),
    }
}

/// Refuses a file whose content somebody else keeps, before what stands in its place is read. Says which algorithm of the
/// Windows Overlay Filter its content is packed with, if one.
///
/// # Errors
/// `Unsupported` with the name of its tag.
pub(super) fn packer(volume: &Volume, file: &File) -> Result<Option<u32>> {
    let Some(bytes) = load(volume, file)? else { return Ok(None) };
    let reparse = Reparse::parse(&bytes, &at(file))?;
    let what = match reparse.meaning(&at(file))? {
        Meaning::Link(_) | Meaning::Special(..) => return Ok(None),
        Meaning::Wof(Wof::File(algorithm)) => return Ok(Some(algorithm)),
        Meaning::Wof(Wof::Wim) => "a WIM (IO_REPARSE_TAG_WOF, provider WIM)".to_owned(),
        Meaning::Other => {
            let is_recalled = Standard::of(file)?.attributes & attribute::RECALLED != 0;
            let data = file.find(kind::DATA, &[])?;
            let is_here = data.is_none_or(|data| data.size() == 0)
                || !(ALWAYS_ELSEWHERE.contains(&reparse.tag) || is_recalled || data.is_some_and(has_holes));
            if is_here {
                return Ok(None);
            }
            format!("the keeper of {}", name(reparse.tag))
        }
    };
    Err(Error::new(ErrorKind::Unsupported, format!("its content is not in the file, but with {what}"))
        .at(at(file)))
}

/// Holes of a file that somebody else keeps are what he has.
fn has_holes(data: &Attribute) -> bool {
    matches!(&data.body, Body::NonResident(body) if body.stored.is_some_and(|stored| stored < body.allocated))
}

/// A reparse point, split into its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reparse<'a> {
    pub(super) tag: u32,
    data: &'a [u8],
}

/// What a reparse point makes of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A symbolic link.
    Link(Target),
    /// A device, FIFO or socket. Numbers of devices stand in the file's extended attributes where they are not given here.
    Special(FileType, Option<(u32, u32)>),
    /// A file whose content is a stream of its own, packed.
    Wof(Wof),
    /// Nothing that changes what kind of file it is.
    Other,
}

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// As Linux writes paths. Absolute ones start with the drive's name: `/C:/a`.
    Path(Vec<u8>),
    /// From the root of the volume that the link is on, without a slash at its front.
    FromRoot(Vec<u8>),
}

/// Who keeps the content of a file of the Windows Overlay Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wof {
    /// The file's own stream `WofCompressedData`, packed with this algorithm: 0 is XPRESS4K, 1 LZX, 2 XPRESS8K, 3 XPRESS16K.
    File(u32),
    /// A WIM beside it.
    Wim,
}

impl<'a> Reparse<'a> {
    /// Splits the content of a `$REPARSE_POINT` attribute.
    ///
    /// # Errors
    /// `Corrupt` when it is shorter than it says.
    pub(super) fn parse(bytes: &'a [u8], at: &At) -> Result<Self> {
        let (tag, len) = (le32(bytes, 0, at)?, usize::from(le16(bytes, 4, at)?));
        let header = if tag & IS_MICROSOFT == 0 { HEADER.saturating_add(GUID) } else { HEADER };
        let data = bytes.get(header..).and_then(|rest| rest.get(..len));
        let short = || {
            let have = bytes.len().saturating_sub(header);
            Error::corrupt(at.clone()).because(format!("{len} bytes of data where {have} are left"))
        };
        Ok(Self { tag, data: data.ok_or_else(short)? })
    }

    /// What it makes of its file.
    ///
    /// # Errors
    /// `Corrupt` when its data are not what its tag promises; `Unsupported` for a version of them that we do not know.
    pub(super) fn meaning(&self, at: &At) -> Result<Meaning> {
        let special = |kind| Ok(Meaning::Special(kind, None));
        match self.tag {
            tag::MOUNT_POINT => Ok(Meaning::Link(Target::Path(absolute(&self.substitute_name(8, at)?)))),
            tag::SYMLINK => {
                let name = self.substitute_name(12, at)?;
                let is_relative = le32(self.data, 8, at)? & 1 != 0;
                Ok(Meaning::Link(if is_relative { relative(&name) } else { Target::Path(absolute(&name)) }))
            }
            tag::LX_SYMLINK => self.linux_link(at),
            tag::NFS => self.nfs(at),
            tag::AF_UNIX => special(FileType::Socket),
            tag::LX_FIFO => special(FileType::Fifo),
            tag::LX_CHR => special(FileType::Char),
            tag::LX_BLK => special(FileType::Block),
            tag::WOF => self.wof(at).map(Meaning::Wof),
            _ => Ok(Meaning::Other),
        }
    }

    /// The name that Windows goes on with, 2.1.2.4 and 2.1.2.5; the other one is for people. Names begin at `names`.
    fn substitute_name(&self, names: usize, at: &At) -> Result<Vec<u16>> {
        let (from, len) = (usize::from(le16(self.data, 0, at)?), usize::from(le16(self.data, 2, at)?));
        let bytes = self.data.get(names..).and_then(|rest| rest.get(from..)).and_then(|rest| rest.get(..len));
        let bytes = bytes.ok_or_else(|| {
            Error::corrupt(at.clone()).because(format!(
                "a name of {len} bytes at {from}, past the end of its {} bytes",
                self.data.len()
            ))
        })?;
        // Some programs count the NUL behind the name.
        let name: Vec<u16> = units_le(bytes).take_while(|unit| *unit != 0).collect();
        if name.is_empty() {
            return Err(Error::corrupt(at.clone()).because("a link without a target"));
        }
        Ok(name)
    }

    /// 2.1.2.7: a version, which is 2, and the target in UTF-8.
    fn linux_link(&self, at: &At) -> Result<Meaning> {
        let version = le32(self.data, 0, at)?;
        if version != 2 {
            return Err(Error::unsupported(format!("a Linux link of version {version}")).at(at.clone()));
        }
        let target = self.data.get(4..).unwrap_or_default();
        let target: Vec<u8> = target.iter().copied().take_while(|byte| *byte != 0).collect();
        if target.is_empty() {
            return Err(Error::corrupt(at.clone()).because("a link without a target"));
        }
        Ok(Meaning::Link(Target::Path(target)))
    }

    /// 2.1.2.6: a word that says what it is, then the target in UTF-16 or the device's numbers.
    fn nfs(&self, at: &At) -> Result<Meaning> {
        let word = get_le64(self.data, 0).map(u64::to_le_bytes);
        let numbers = get_le32(self.data, 8).zip(get_le32(self.data, 12));
        match word.as_ref().map(|word| word.as_slice()) {
            Some(b"LNK\x01\0\0\0\0") => {
                let target = units_le(self.data.get(8..).unwrap_or_default());
                let target = encode(target.take_while(|unit| *unit != 0));
                let empty = || Error::corrupt(at.clone()).because("a link without a target");
                Ok(Meaning::Link(Target::Path(Some(target).filter(|t| !t.is_empty()).ok_or_else(empty)?)))
            }
            Some(b"CHR\0\0\0\0\0") => Ok(Meaning::Special(FileType::Char, numbers)),
            Some(b"BLK\0\0\0\0\0") => Ok(Meaning::Special(FileType::Block, numbers)),
            Some(b"FIFO\0\0\0\0") => Ok(Meaning::Special(FileType::Fifo, None)),
            Some(b"SOCK\0\0\0\0") => Ok(Meaning::Special(FileType::Socket, None)),
            _ => Err(Error::corrupt(at.clone()).because("a special file of NFS of no known type")),
        }
    }

    /// `WOF_EXTERNAL_INFO` and `FILE_PROVIDER_EXTERNAL_INFO` of `wofapi.h`.
    fn wof(&self, at: &At) -> Result<Wof> {
        let unsupported = |what: String| Error::unsupported(what).at(at.clone());
        match (le32(self.data, 0, at)?, le32(self.data, 4, at)?) {
            (1, 1) => Ok(Wof::Wim),
            (1, 2) => match (le32(self.data, 8, at)?, le32(self.data, 12, at)?) {
                (1, algorithm @ 0..=3) => Ok(Wof::File(algorithm)),
                (1, other) => Err(unsupported(format!("Windows Overlay Filter algorithm {other}"))),
                (version, _) => {
                    Err(unsupported(format!("Windows Overlay Filter file provider version {version}")))
                }
            },
            (1, provider) => Err(unsupported(format!("Windows Overlay Filter provider {provider}"))),
            (version, _) => Err(unsupported(format!("Windows Overlay Filter version {version}"))),
        }
    }
}

const BACKSLASH: u16 = 0x5c;

/// Backslashes become slashes.
fn slashes(path: &[u16]) -> Vec<u8> {
    encode(path.iter().map(|unit| if *unit == BACKSLASH { u16::from(b'/') } else { *unit }))
}

/// What follows `start` in a path, letters in any case.
fn after<'a>(path: &'a [u16], start: &str) -> Option<&'a [u16]> {
    let (head, rest) = path.split_at_checked(start.len())?;
    let same =
        |(unit, letter): (&u16, u8)| u8::try_from(*unit).is_ok_and(|c| c.eq_ignore_ascii_case(&letter));
    head.iter().zip(start.bytes()).all(same).then_some(rest)
}

/// The letter of a path that starts with a drive, which it is everything behind the colon of.
fn drive(path: &[u16]) -> Option<(char, &[u16])> {
    let (letter, rest) = path.split_first()?;
    let letter = char::from(u8::try_from(*letter).ok().filter(u8::is_ascii_alphabetic)?).to_ascii_uppercase();
    let rest = after(rest, ":")?;
    (rest.is_empty() || rest.starts_with(&[BACKSLASH])).then_some((letter, rest))
}

/// A full path of Windows as one of Linux: `\??\C:\a` is `/C:/a`, `\??\Volume{..}\a` is `/Volume{..}/a` with the GUID in small
/// letters, `\??\UNC\server\share` and `\\server\share` are `//server/share`.
fn absolute(path: &[u16]) -> Vec<u8> {
    let rest = after(path, r"\??\").or_else(|| after(path, r"\\?\")).unwrap_or(path);
    if let Some((letter, rest)) = drive(rest) {
        return [format!("/{letter}:").as_bytes(), &slashes(rest)].concat();
    }
    if let Some(rest) = after(rest, "Volume{") {
        let end = rest.iter().position(|unit| *unit == BACKSLASH).unwrap_or(rest.len());
        let (guid, rest) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        // The volume itself, which Windows writes with a backslash.
        let rest = if rest == [BACKSLASH] { &[] } else { rest };
        return [b"/Volume{".as_slice(), &slashes(guid).to_ascii_lowercase(), &slashes(rest)].concat();
    }
    if let Some(rest) = after(rest, r"UNC\").or_else(|| after(rest, r"\\")) {
        return [b"//".as_slice(), &slashes(rest)].concat();
    }
    let slash: &[u8] = if rest.starts_with(&[BACKSLASH]) { b"" } else { b"/" };
    [slash, &slashes(rest)].concat()
}

/// A target that is marked as relative: to the link's directory, or to the root of its volume where it starts with a backslash.
fn relative(path: &[u16]) -> Target {
    if drive(path).is_some() || after(path, r"\\").is_some() || after(path, r"\??\").is_some() {
        return Target::Path(absolute(path));
    }
    match after(path, r"\") {
        Some(rest) => Target::FromRoot(slashes(rest)),
        None => Target::Path(slashes(path)),
    }
}

impl Target {
    /// Does its text depend on where the link is?
    pub(super) const fn is_from_root(&self) -> bool {
        matches!(self, Self::FromRoot(_))
    }

    /// The text of the link, in a directory that lies so many levels below the root of the volume.
    pub(super) fn text(self, depth: usize) -> Vec<u8> {
        match self {
            Self::Path(path) => path,
            Self::FromRoot(path) if depth == 0 && path.is_empty() => b".".to_vec(),
            Self::FromRoot(path) => [b"../".repeat(depth), path].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> At {
        At::new("ntfs", "reparse point").index(64)
    }

    /// A reparse point as Windows writes it.
    fn point(tag: u32, data: &[u8]) -> Vec<u8> {
        let len = u16::try_from(data.len()).unwrap();
        [tag.to_le_bytes().as_slice(), &len.to_le_bytes(), &[0; 2], data].concat()
    }

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    /// A symbolic link's data: the substitute name behind the name for people.
    fn symlink(target: &str, flags: u32) -> Vec<u8> {
        let (name, shown) = (utf16(target), utf16("shown"));
        let numbers =
            [shown.len(), name.len(), 0, shown.len()].map(|n| u16::try_from(n).unwrap().to_le_bytes());
        point(tag::SYMLINK, &[numbers.as_flattened(), &flags.to_le_bytes(), &shown, &name].concat())
    }

    fn junction(target: &str) -> Vec<u8> {
        let name = utf16(target);
        let len = u16::try_from(name.len()).unwrap();
        let numbers = [0, len, len.saturating_add(2), 0].map(u16::to_le_bytes);
        point(tag::MOUNT_POINT, &[numbers.as_flattened(), &name, &[0; 4]].concat())
    }

    fn meaning(bytes: &[u8]) -> Result<Meaning> {
        Reparse::parse(bytes, &at())?.meaning(&at())
    }

    fn text(bytes: &[u8], depth: usize) -> String {
        let Meaning::Link(target) = meaning(bytes).unwrap() else { panic!("no link") };
        String::from_utf8(target.text(depth)).unwrap()
    }

    #[test]
    fn absolute_targets_name_their_drive() {
        assert_eq!(text(&junction(r"\??\C:\Users\All Users"), 0), "/C:/Users/All Users");
        assert_eq!(text(&junction(r"\??\d:\"), 0), "/D:/");
        assert_eq!(text(&symlink(r"\??\c:\a\b", 0), 3), "/C:/a/b");
        let volume = r"\??\Volume{3D6B2C6F-0000-0000-0000-100000000000}\";
        assert_eq!(text(&junction(volume), 0), "/Volume{3d6b2c6f-0000-0000-0000-100000000000}");
        let inside = format!("{volume}Ab");
        assert_eq!(text(&junction(&inside), 0), "/Volume{3d6b2c6f-0000-0000-0000-100000000000}/Ab");
        assert_eq!(text(&symlink(r"\??\UNC\server\share\x", 0), 0), "//server/share/x");
        assert_eq!(text(&symlink(r"\\server\share", 0), 0), "//server/share");
        assert_eq!(text(&symlink(r"\Device\HarddiskVolume2\x", 0), 0), "/Device/HarddiskVolume2/x");
    }

    #[test]
    fn relative_targets_stay_relative() {
        assert_eq!(text(&symlink(r"..\other\file.txt", 1), 2), "../other/file.txt");
        assert_eq!(text(&symlink("name", 1), 0), "name");
        assert_eq!(text(&symlink(r"\Windows\x", 1), 2), "../../Windows/x");
        assert_eq!(text(&symlink(r"\x", 1), 0), "x");
        assert_eq!(text(&symlink(r"\", 1), 0), ".");
    }

    #[test]
    fn a_name_past_the_end_is_corrupt() {
        let whole = symlink(r"..\other", 1);
        for len in 0..whole.len() {
            assert!(meaning(&whole[..len]).is_err(), "{len} bytes");
        }
        let mut past = whole.clone();
        past[8] = 200;
        assert!(meaning(&past).unwrap_err().to_string().contains("past the end"));
        let mut empty = whole;
        empty[10] = 0;
        assert!(meaning(&empty).unwrap_err().to_string().contains("without a target"));
    }

    #[test]
    fn files_of_linux_are_what_they_are() {
        assert_eq!(text(&point(tag::LX_SYMLINK, b"\x02\0\0\0/etc/\xc3\xa4"), 0), "/etc/ä");
        assert!(meaning(&point(tag::LX_SYMLINK, b"\x01\0\0\0x")).is_err());
        assert!(meaning(&point(tag::LX_SYMLINK, b"\x02\0\0\0")).is_err());
        assert_eq!(meaning(&point(tag::LX_FIFO, &[])).unwrap(), Meaning::Special(FileType::Fifo, None));
        let device = [b"CHR\0\0\0\0\0".as_slice(), &[5, 0, 0, 0, 1, 0, 0, 0]].concat();
        assert_eq!(
            meaning(&point(tag::NFS, &device)).unwrap(),
            Meaning::Special(FileType::Char, Some((5, 1)))
        );
        let link = [b"LNK\x01\0\0\0\0".as_slice(), &utf16("../a")].concat();
        assert_eq!(text(&point(tag::NFS, &link), 0), "../a");
    }

    #[test]
    fn a_target_ends_at_its_nul() {
        let nfs = |target: &str| point(tag::NFS, &[b"LNK\x01\0\0\0\0".as_slice(), &utf16(target)].concat());
        assert_eq!(text(&nfs("..\0x"), 0), "..");
        assert_eq!(text(&symlink("a\0x", 1), 0), "a");
        assert_eq!(text(&point(tag::LX_SYMLINK, b"\x02\0\0\0..\0x"), 0), "..");
        assert!(meaning(&nfs("\0x")).is_err());
    }

    #[test]
    fn packed_files_name_their_algorithm() {
        let numbers = |numbers: [u32; 4]| point(tag::WOF, numbers.map(u32::to_le_bytes).as_flattened());
        assert_eq!(meaning(&numbers([1, 2, 1, 3])).unwrap(), Meaning::Wof(Wof::File(3)));
        assert_eq!(meaning(&numbers([1, 1, 2, 0])).unwrap(), Meaning::Wof(Wof::Wim));
        for odd in [[2, 2, 1, 0], [1, 3, 1, 0], [1, 2, 2, 0], [1, 2, 1, 4]] {
            assert!(meaning(&numbers(odd)).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn tags_of_others_carry_a_guid() {
        let bytes = [0x1234_u32.to_le_bytes().as_slice(), &[3, 0, 0, 0], &[7; 16], b"abc"].concat();
        assert_eq!(Reparse::parse(&bytes, &at()).unwrap().data, b"abc");
        assert!(Reparse::parse(&bytes[..26], &at()).is_err());
        assert_eq!(meaning(&bytes).unwrap(), Meaning::Other);
    }

    #[test]
    fn tags_have_names() {
        assert_eq!(name(0x8000_0013), "IO_REPARSE_TAG_DEDUP");
        assert_eq!(name(0x9000_001a), "IO_REPARSE_TAG_CLOUD");
        assert_eq!(name(0x9000_a01a), "IO_REPARSE_TAG_CLOUD_A");
        assert_eq!(name(0x1234), "reparse tag 0x00001234");
    }
}
