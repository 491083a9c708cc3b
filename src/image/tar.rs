//! Tar: files one behind the other, each behind a header of 512 bytes. An archive of disk images is opened in place.
//!
//! ```text
//! header │ content, filled up to 512 │ header │ content │ ... │ two blocks of zeros
//!        └ before a header that needs them: 'x' longer fields (pax), 'L' a longer name (GNU)
//! ```
//! Only headers are read, each where the one before says that the next must be: an archive of a terabyte over a slow line
//! costs as many reads as it has members. Specification: POSIX.1-2024, pax, "ustar Interchange Format" and "pax
//! Interchange Format"; GNU tar manual, "Basic Tar Format", for base-256 numbers and long names.
//!
//! An archive with an OVF in it is a machine ([`super::ova`]); in any other one, members are disks by their names.

use super::{Confidence, Format, OpenCx, Opened, StoredSum};
use crate::block::{BlockSource, Probe};
use crate::budget::Budget;
use crate::engine::Slice;
use crate::error::{At, Error, ErrorKind, Result};
use crate::locator::{Found, Gate, Locator, Reference};
use crate::num::{narrow, wide};
use crate::ondisk::{parse_struct, read_struct, read_table};
use crate::text::escape;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format.
pub const FORMAT: Format = Format {
    name: "tar",
    aliases: &[],
    about: "tar archive of disk images, opened in place: all of them, or ARCHIVE//MEMBER",
    probe,
    open,
};

const BLOCK: u64 = 512;
/// Members of one archive; a machine has a few dozen, and each may cost a request to a server.
const MAX_MEMBERS: usize = 65_536;
/// Bytes of pax records or of a long name in front of one member; libarchive accepts as many of the former.
const MAX_EXTENDED: u64 = 1 << 20;
/// Bytes of a member's name: Linux's `PATH_MAX`.
const MAX_NAME: u64 = 4096;
/// Disks opened together; a machine has fewer.
pub(super) const MAX_DISKS: usize = 64;
/// Names of members shown where one is not there.
const SHOWN: usize = 24;
/// How files are called that are disk images, or the first of several that are one.
const DISKS: &[&str] = &[
    "vmdk", "vhd", "vhdx", "avhd", "avhdx", "vdi", "qcow2", "qcow", "qed", "hds", "hdd", "raw", "img", "dd",
    "e01", "ex01", "001", "000", "aa", "dmg", "zvhd", "zvhd2",
];
/// How such a file's name may go on if it is packed.
const PACKED: &[&str] = &[".gz", ".xz", ".zst", ".bz2"];

/// Is this what a disk image is called, packed or not?
pub(super) fn is_disk_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let plain = PACKED.iter().find_map(|end| lower.strip_suffix(end)).unwrap_or(&lower);
    plain.rsplit_once('.').is_some_and(|(stem, end)| !stem.is_empty() && DISKS.contains(&end))
}

/// A header, POSIX.1-2024, pax, "ustar Interchange Format".
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Header {
    name: [u8; 100],      // 0x000 ends at a NUL, or fills the field
    mode: [u8; 8],        // 0x064
    uid: [u8; 8],         // 0x06c
    gid: [u8; 8],         // 0x074
    size: [u8; 12],       // 0x07c octal digits; GNU: top bit set, then a big-endian number
    mtime: [u8; 12],      // 0x088
    checksum: [u8; 8],    // 0x094 sum of the header's bytes, these eight taken as blanks
    kind: u8,             // 0x09c typeflag
    link_name: [u8; 100], // 0x09d
    magic: [u8; 6],       // 0x101 "ustar\0", GNU "ustar "
    version: [u8; 2],     // 0x107 "00", GNU " \0"
    owner: [u8; 32],      // 0x109
    group: [u8; 32],      // 0x129
    major: [u8; 8],       // 0x149
    minor: [u8; 8],       // 0x151
    prefix: [u8; 155],    // 0x159 the name's directories; not in GNU's headers, which have other fields there
    rest: [u8; 12],       // 0x1f4
}
const _: () = assert!(size_of::<Header>() == 512);

/// In a GNU header of type `S`: does a block of more sparse ranges follow, and the same in such a block.
const GNU_EXTENDED: usize = 482;
const GNU_MORE: usize = 504;

impl Header {
    /// Checks a header.
    ///
    /// # Errors
    /// `Corrupt` when its checksum is wrong.
    fn parse(bytes: &[u8], at: At) -> Result<Self> {
        let header: Self = parse_struct(bytes, at.clone())?;
        let stated = octal(&header.checksum);
        if stated.is_none() || !header.sums().contains(&stated.unwrap_or_default()) {
            return Err(
                Error::corrupt(at).because("its checksum is wrong: this is no header of a tar archive")
            );
        }
        Ok(header)
    }

    /// The sum of its bytes, and what old programs with signed bytes take for it.
    fn sums(&self) -> [u64; 2] {
        let bytes = self.as_bytes().iter().enumerate();
        let filled = bytes.map(|(at, byte)| if (0x94..0x9c).contains(&at) { b' ' } else { *byte });
        let (mut sum, mut signed) = (0_u64, 0_i64);
        for byte in filled {
            sum = sum.saturating_add(u64::from(byte));
            signed = signed.saturating_add(i64::from(byte.cast_signed()));
        }
        [sum, u64::try_from(signed).unwrap_or(sum)]
    }

    fn size(&self, at: &At) -> Result<u64> {
        number(&self.size).ok_or_else(|| {
            Error::corrupt(at.clone()).because(format!("the size '{}' is no number", escape(&self.size)))
        })
    }

    /// Directories and name.
    fn full_name(&self) -> Vec<u8> {
        let (name, prefix) = (until_nul(&self.name), until_nul(&self.prefix));
        if prefix.is_empty() || &self.magic != b"ustar\0" {
            name.to_vec()
        } else {
            [prefix, b"/", name].concat()
        }
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits between blanks and NULs; nothing at all is 0.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = until_nul(field).trim_ascii();
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        number.checked_mul(8)?.checked_add(digit.into())
    })
}

/// A size: octal, or with the top bit set a big-endian number (GNU, star). A negative one is none.
fn number(field: &[u8; 12]) -> Option<u64> {
    let [first, rest @ ..] = field;
    match first {
        0x80 => {
            rest.iter().try_fold(0_u64, |number, byte| number.checked_mul(256)?.checked_add((*byte).into()))
        }
        0x81..=0xff => None,
        _ => octal(field),
    }
}

/// What a member is, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file whose content stands in the archive as it is.
    File,
    /// A file without its holes, which is not read.
    Sparse,
    /// A directory, link or device: this word.
    Other(&'static str),
}

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// As stored, without `./` in front.
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// Its content's first byte in the archive.
    start: u64,
    /// Its content's length.
    size: u64,
}

impl Member {
    pub(super) fn shown(&self) -> String {
        escape(&self.name).to_string()
    }
}

/// An archive's members.
pub(super) struct Archive {
    source: Arc<dyn BlockSource>,
    locator: Locator,
    pub(super) members: Vec<Member>,
    /// Why there may be more members than were found: damage, or the archive's end came early.
    pub(super) trouble: Option<Error>,
    pub(super) warnings: Vec<String>,
    /// Where in `members` each name is; `None` of one that is there twice.
    names: HashMap<Vec<u8>, Option<usize>>,
    /// Members that others named, by their place in `members`.
    used: Mutex<Vec<usize>>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Archive({} members)", self.members.len())
    }
}

/// What stands in front of a member and is meant for it.
#[derive(Debug, Default)]
struct Ahead {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Archive {
    /// Finds every member. Damage on the way ends the walk and is kept: what lies before it can be used.
    ///
    /// # Errors
    /// When not even the first member is there.
    pub(super) fn load(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Self> {
        let mut archive = Self {
            source,
            locator: cx.locator.clone(),
            members: Vec::new(),
            trouble: None,
            warnings: Vec::new(),
            names: HashMap::new(),
            used: Mutex::default(),
        };
        if let Err(error) = archive.walk(cx.budget) {
            if archive.members.is_empty() || error.kind() == ErrorKind::Limit {
                return Err(error);
            }
            archive.trouble = Some(error);
        }
        Ok(archive)
    }

    fn walk(&mut self, budget: &Budget) -> Result<()> {
        let len = self.source.len();
        let (mut offset, mut ahead, mut number) = (0_u64, Ahead::default(), 0_u64);
        loop {
            budget.step("tar members")?;
            let at = At::new("tar", "header").index(number).byte(offset);
            if offset >= len {
                self.warnings
                    .push("the archive has no mark at its end; it may have been cut off there".to_owned());
                return Ok(());
            }
            if len.saturating_sub(offset) < BLOCK {
                return Err(cut(at, &format!("the archive ends at {len:#x}, in the middle of it")));
            }
            let mut block = [0; 512];
            self.source.read_at(&mut block, offset)?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            let header = Header::parse(&block, at.clone())?;
            let stated = header.size(&at)?;
            let content = offset.saturating_add(BLOCK);
            number = number.saturating_add(1);
            if matches!(header.kind, b'x' | b'X' | b'g' | b'L' | b'K') {
                if stated > len.saturating_sub(content) {
                    return Err(cut(at, &format!("{stated} bytes, the archive ends at {len:#x}")));
                }
                self.extended(&header, content, stated, &mut ahead, budget)?;
                offset = past(content, stated, &at)?;
                continue;
            }
            let member = self.member(&header, &block, content, stated, std::mem::take(&mut ahead), budget)?;
            let end = past(member.start, member.size, &at)?;
            let has = len.saturating_sub(member.start);
            if member.size > has {
                let shown = member.shown();
                let size = member.size;
                // Its header is sound, so it is known by name; whoever asks for it hears why it cannot be had.
                self.push(member, budget)?;
                return Err(cut(
                    at,
                    &format!("'{shown}' has {size} bytes, of which the archive holds {has}"),
                ));
            }
            self.push(member, budget)?;
            offset = end;
        }
    }

    fn push(&mut self, member: Member, budget: &Budget) -> Result<()> {
        if self.members.len() >= MAX_MEMBERS {
            return Err(Error::limit(format!("tar: more than {MAX_MEMBERS} members")));
        }
        // Paid for, though it is in memory already.
        drop(budget.buffer("tar: a member's name", wide(member.name.len()), MAX_NAME)?);
        let at = self.members.len();
        self.names.entry(member.name.clone()).and_modify(|place| *place = None).or_insert(Some(at));
        self.members.push(member);
        Ok(())
    }

    /// Takes in what an extended header says of the next member.
    fn extended(
        &self,
        header: &Header,
        content: u64,
        size: u64,
        ahead: &mut Ahead,
        budget: &Budget,
    ) -> Result<()> {
        if header.kind == b'K' {
            return Ok(());
        }
        let at = At::new("tar", "extended header");
        let bytes = read_table(&*self.source, content, size, MAX_EXTENDED, at.clone(), budget)?;
        if header.kind == b'L' {
            ahead.name = Some(until_nul(&bytes).to_vec());
            return Ok(());
        }
        let records = pax(&bytes, &at.byte(content))?;
        budget.release(bytes.len());
        for (key, value) in records {
            match key {
                b"path" | b"size" if header.kind == b'g' => {
                    let key = escape(key);
                    return Err(Error::unsupported(format!(
                        "a global pax header that sets '{key}' of all members"
                    )));
                }
                b"path" => ahead.name = Some(value.to_vec()),
                b"GNU.sparse.name" => (ahead.name, ahead.sparse) = (Some(value.to_vec()), true),
                b"size" => {
                    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    ahead.size = Some(number.ok_or_else(|| {
                        let at = At::new("tar", "pax header").byte(content);
                        Error::corrupt(at).because(format!("the size '{}' is no number", escape(value)))
                    })?);
                }
                _ => ahead.sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Ok(())
    }

    fn member(
        &self,
        header: &Header,
        block: &[u8],
        content: u64,
        stated: u64,
        ahead: Ahead,
        budget: &Budget,
    ) -> Result<Member> {
        let name = ahead.name.unwrap_or_else(|| header.full_name());
        let mut plain = name.as_slice();
        while let Some(rest) = plain.strip_prefix(b"./") {
            plain = rest;
        }
        let (mut start, mut size) = (content, ahead.size.unwrap_or(stated));
        let kind = match header.kind {
            // Version 7 had no type for directories.
            b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Other("a directory"),
            b'0' | 0 | b'7' if ahead.sparse => Kind::Sparse,
            b'0' | 0 | b'7' => Kind::File,
            b'S' => {
                // GNU's old form: maps of further ranges stand between header and content, and are not counted.
                let mut more = block.get(GNU_EXTENDED).is_some_and(|flag| *flag != 0);
                while more {
                    budget.step("tar sparse map")?;
                    let map: [u8; 512] = read_struct(&*self.source, start, At::new("tar", "sparse map"))?;
                    more = map.get(GNU_MORE).is_some_and(|flag| *flag != 0);
                    start = start.saturating_add(BLOCK);
                }
                Kind::Sparse
            }
            b'1' => Kind::Other("a hard link"),
            b'2' => Kind::Other("a symbolic link"),
            b'3' => Kind::Other("a character device"),
            b'4' => Kind::Other("a block device"),
            b'5' => Kind::Other("a directory"),
            b'6' => Kind::Other("a FIFO"),
            b'M' => return Err(Error::unsupported("a tar archive of several volumes (GNU multi-volume)")),
            _ => Kind::Other("of a type of its own"),
        };
        // "If typeflag is 1 to 6, no content follows", whatever the size says (POSIX, as above).
        if matches!(header.kind, b'1'..=b'6') {
            size = 0;
        }
        Ok(Member { name: plain.to_vec(), kind, start, size })
    }

    /// The place of the only member of this name.
    fn position(&self, name: &[u8]) -> Result<Option<usize>> {
        match self.names.get(name) {
            None => Ok(None),
            Some(Some(at)) => Ok(Some(*at)),
            Some(None) => {
                let shown = escape(name);
                Err(Error::new(ErrorKind::Ambiguous, format!("holds two members called '{shown}'"))
                    .help("tar itself would keep the last one: unpack the archive, and open what is meant"))
            }
        }
    }

    /// A member's bytes.
    ///
    /// # Errors
    /// `Unsupported` for what has none of its own; `Corrupt` when the archive ends before it does.
    pub(super) fn content(&self, member: &Member) -> Result<Arc<dyn BlockSource>> {
        match member.kind {
            Kind::File => {}
            Kind::Sparse => {
                let error = Error::unsupported("a sparse member of a tar archive");
                return Err(error.help("unpack the archive (tar xf), or make it without 'tar --sparse'"));
            }
            Kind::Other(what) => {
                return Err(Error::new(ErrorKind::NotAnImage, format!("is {what}, not a file"))
                    .help("unpack the archive (tar xf), and open the file that is meant"));
            }
        }
        match Slice::new(Arc::clone(&self.source), member.start, member.size) {
            Ok(slice) => Ok(Arc::new(slice)),
            Err(past) => Err(self.trouble.clone().unwrap_or(past)),
        }
    }

    /// The directory in the archive of the member at `from`, with a `/` behind it.
    fn directory(&self, from: &Locator) -> String {
        let text = |locator: &Locator| match locator {
            Locator::Path(path) => path.to_string_lossy().into_owned(),
            Locator::Url(url) => url.split(['?', '#']).next().unwrap_or_default().to_owned(),
        };
        let (whole, archive) = (text(from), text(&self.locator.member("")));
        let inside = whole.strip_prefix(&archive).unwrap_or_default();
        inside.rsplit_once('/').map_or_else(String::new, |(dir, _)| format!("{dir}/"))
    }

    /// Where a member lies, for people and probers.
    pub(super) fn locator(&self, member: &Member) -> Locator {
        self.locator.member(&member.shown())
    }

    /// Opens the member of this name; `None` when there is none, and no reason to think that it was cut off.
    ///
    /// # Errors
    /// As [`Archive::content`]; what ended the walk, when the member may lie behind it.
    pub(super) fn find(&self, name: &[u8]) -> Result<Option<Found>> {
        match self.position(name)?.and_then(|at| self.members.get(at)) {
            Some(member) => Ok(Some(Found { source: self.content(member)?, locator: self.locator(member) })),
            None => self.trouble.clone().map_or(Ok(None), Err),
        }
    }

    /// The member that a user names: as it is stored, or as it is shown.
    ///
    /// # Errors
    /// `NotFound` with the list of members.
    pub(super) fn wanted(&self, name: &str) -> Result<&Member> {
        let at = match self.position(name.as_bytes())? {
            Some(at) => Some(at),
            None => self.members.iter().position(|member| member.shown() == name),
        };
        at.and_then(|at| self.members.get(at)).ok_or_else(|| {
            let files = self.members.iter().filter(|member| member.kind == Kind::File).map(Member::shown);
            unknown(name, &files.collect::<Vec<_>>())
        })
    }
}

/// No member of this name: the names there are.
pub(super) fn unknown(name: &str, members: &[String]) -> Error {
    let error = Error::new(ErrorKind::NotFound, format!("no member '{}'", escape(name.as_bytes())));
    let shown: Vec<&str> = members.iter().take(SHOWN).map(String::as_str).collect();
    let more = members.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    error.help(format!("members: {}{more}", shown.join(", ")))
}

fn cut(at: At, why: &str) -> Error {
    Error::corrupt(at).because(format!("{why}: it was cut off (truncated upload or download?)"))
}

/// Where the next header is.
fn past(start: u64, size: u64, at: &At) -> Result<u64> {
    let end = size.checked_next_multiple_of(BLOCK).and_then(|size| start.checked_add(size));
    end.ok_or_else(|| Error::corrupt(at.clone()).because(format!("a size of {size} bytes")))
}

/// The records of a pax header: `LENGTH KEY=VALUE\n`.
fn pax<'a>(bytes: &'a [u8], at: &At) -> Result<Vec<(&'a [u8], &'a [u8])>> {
    let wrong = || Error::corrupt(at.clone()).because("a pax record is not 'LENGTH KEY=VALUE'");
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let digits = rest.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let len = rest.get(..digits).and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok());
        let record = len.and_then(|len| rest.get(digits.checked_add(1)?..len)).ok_or_else(wrong)?;
        let text = record.strip_suffix(b"\n").ok_or_else(wrong)?;
        let equals = text.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        let (key, value) = text.split_at(equals);
        records.push((key, value.get(1..).unwrap_or_default()));
        rest = rest.get(len.unwrap_or(rest.len())..).unwrap_or_default();
    }
    Ok(records)
}

/// The archive is the gate of what lies in it: a member may name other members, and nothing else.
impl Gate for Archive {
    fn open(&self, from: &Locator, named: &[u8], why: Reference) -> Result<Found> {
        let shown = escape(named);
        let mut place = self.position(named)?;
        if why == Reference::Segment {
            // Segments lie in the directory of the first, wherever that is.
            let path = [self.directory(from).as_bytes(), named].concat();
            place = self.position(&path)?;
            // It is looked for, not named: that there is none is no fault.
            if place.is_none() {
                let missing = || Error::new(ErrorKind::NotAnImage, format!("{why} '{shown}' is missing"));
                return Err(self.trouble.clone().unwrap_or_else(missing));
            }
        }
        let Some((at, member)) = place.and_then(|at| Some((at, self.members.get(at)?))) else {
            let error = Error::new(
                ErrorKind::ExternalRef,
                format!("names the {why} '{shown}', which is not in the archive"),
            );
            return Err(self.trouble.clone().unwrap_or(error).help(
                "an image in an archive may not open files outside of it; unpack the archive, and give --allow-parent DIR",
            ));
        };
        let source = self.content(member).map_err(|error| error.context(format!("{why} '{shown}'")))?;
        let found = Found { source, locator: self.locator(member) };
        self.used.lock().unwrap_or_else(PoisonError::into_inner).push(at);
        Ok(found)
    }
}

/// Is the first real member that the head shows an OVF? `None` if this is no tar archive.
pub(super) fn first_is_ovf(probe: &Probe<'_>) -> Option<bool> {
    let (mut offset, mut first) = (0_usize, true);
    loop {
        let block = probe.head.get(offset..offset.checked_add(narrow(BLOCK))?);
        let Some(block) = block else { return (!first).then_some(false) };
        let header = Header::parse(block, At::new("tar", "header"));
        let header = header.ok().filter(|header| header.magic.starts_with(b"ustar"));
        let Some(header) = header else { return (!first).then_some(false) };
        if !matches!(header.kind, b'x' | b'g' | b'L' | b'K') {
            return Some(is_ovf_name(&header.full_name()));
        }
        let content = number(&header.size).and_then(|size| size.checked_next_multiple_of(BLOCK));
        let Some(next) =
            content.and_then(|size| offset.checked_add(narrow(size))?.checked_add(narrow(BLOCK)))
        else {
            return Some(false);
        };
        (offset, first) = (next, false);
    }
}

/// Is this what an OVF is called?
pub(super) fn is_ovf_name(name: &[u8]) -> bool {
    name.to_ascii_lowercase().ends_with(b".ovf")
}

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    (first_is_ovf(probe) == Some(false)).then_some(Confidence::Signature)
}

/// Refuses an archive in an archive, before any of its members is opened: each could hold as many again.
///
/// # Errors
/// `Unsupported`.
pub(super) fn outermost(cx: &OpenCx<'_>) -> Result<()> {
    if !cx.in_archive {
        return Ok(());
    }
    Err(Error::unsupported("an archive inside an archive")
        .help("take the inner one out (tar xf), and open it"))
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    outermost(cx)?;
    let archive = Archive::load(source, cx)?;
    if archive.members.iter().any(|member| member.kind == Kind::File && is_ovf_name(&member.name)) {
        return super::ova::open_archive(&archive, cx);
    }
    if let Some(name) = cx.member {
        return open_member(&archive, archive.wanted(name)?, None, cx);
    }
    if let Some(trouble) = archive.trouble {
        return Err(trouble);
    }
    let named = |member: &&Member| member.kind != Kind::Other("a directory") && is_disk_name(&member.shown());
    let disks: Vec<&Member> = archive.members.iter().filter(named).collect();
    if disks.len() > MAX_DISKS {
        return Err(Error::limit(format!("holds {} disk images, more than {MAX_DISKS}", disks.len()))
            .help("open one of them: ARCHIVE//MEMBER"));
    }
    let mut opened = Vec::new();
    for (number, member) in disks.into_iter().enumerate() {
        let keys = cx.keys.of_disk(&disk_id(number));
        let disk = open_member(&archive, member, None, &OpenCx { keys: &keys, ..*cx });
        opened.push((member, disk));
    }
    // The extents of a VMDK, the segments of an E01: parts of others are no disks of their own.
    let used = archive.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_part = |member: &Member| {
        used.iter().filter_map(|at| archive.members.get(*at)).any(|other| std::ptr::eq(other, member))
    };
    let mut all = Vec::new();
    for (_, disk) in opened.into_iter().filter(|(member, _)| !is_part(member)) {
        all.push(disk?);
    }
    let facts = vec![("members", archive.members.len().to_string())];
    together(FORMAT.name, facts, archive.warnings.clone(), all).ok_or_else(|| {
        let files = archive.members.iter().filter(|member| member.kind == Kind::File).map(Member::shown);
        let files: Vec<String> = files.collect();
        let help = unknown("", &files).help_text().unwrap_or_default().to_owned();
        Error::new(ErrorKind::NotAnImage, "is a tar archive without a disk image, as far as names tell")
            .help(format!("name the one that is meant: ARCHIVE//MEMBER; {help}"))
    })
}

/// Opens a member as a disk, in the format that is stated or found out.
pub(super) fn open_member(
    archive: &Archive,
    member: &Member,
    format: Option<&str>,
    cx: &OpenCx<'_>,
) -> Result<Opened> {
    let shown = member.shown();
    let found = archive.content(member).map(|source| Found { source, locator: archive.locator(member) });
    let disk = found.and_then(|found| disk_in(found, &shown, format, archive, cx));
    disk.map_err(|error| error.context(format!("'{shown}'")))
}

/// Opens a disk that lies in an archive or beside a description; `name` is what it is called there, safe to show.
pub(super) fn disk_in(
    found: Found,
    name: &str,
    format: Option<&str>,
    gate: &dyn Gate,
    cx: &OpenCx<'_>,
) -> Result<Opened> {
    let below = cx.below(&found.locator);
    let mut disk = super::open(found.source, format, &OpenCx { gate, in_archive: true, ..below })?;
    disk.member = Some(name.to_owned());
    // A wrapper calls it as it would be called unpacked, beside the archive.
    if let Some(layer) = disk.layers.first_mut() {
        layer.name = found.locator.to_string();
    }
    for sum in &mut disk.sums {
        sum.of = if sum.of == "disk" { name.to_owned() } else { format!("{name}//{}", sum.of) };
    }
    Ok(disk)
}

/// What the disks of a machine are called in keys, and in front of the ids of their volumes.
pub(super) fn disk_id(number: usize) -> String {
    if number == 0 { "disk".to_owned() } else { format!("disk{}", number.saturating_add(1)) }
}

/// The disks of an archive as one image: the first, and the others with it. `None` if there are none.
pub(super) fn together(
    format: &'static str,
    mut facts: Vec<(&'static str, String)>,
    mut warnings: Vec<String>,
    disks: Vec<Opened>,
) -> Option<Opened> {
    let names: Vec<String> = disks.iter().filter_map(|disk| disk.member.clone()).collect();
    let mut disks = disks.into_iter();
    let mut first = disks.next()?;
    facts.push(("disks", names.join(", ")));
    facts.append(&mut first.facts);
    warnings.append(&mut first.warnings);
    let variant = first.subformat.take().map(|variant| format!(" {variant}")).unwrap_or_default();
    first.subformat = Some(format!("{}{variant}", first.format));
    (first.format, first.facts, first.warnings) = (format, facts, warnings);
    first.others = disks.collect();
    let sums: Vec<StoredSum> =
        first.others.iter_mut().flat_map(|disk| std::mem::take(&mut disk.sums)).collect();
    first.sums.extend(sums);
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_octal_or_base_256() {
        assert_eq!(number(b"00000001750\0"), Some(1000));
        assert_eq!(number(b"       1750 "), Some(1000));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\x07"), Some((2 << 32) + 7));
        assert_eq!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b"0000009000\0\0"), None);
    }

    #[test]
    fn pax_records_state_their_own_length() {
        let at = At::new("tar", "pax header");
        let records = pax(b"13 path=a\nbc\n14 size=12345\n", &at).unwrap();
        assert_eq!(records, [(&b"path"[..], &b"a\nbc"[..]), (b"size", b"12345")]);
        for bad in [&b"11 path=a\nbc"[..], b"99 path=a\n", b"path=a\n", b"3 a\n", b"1 ", b"0 a=b\n"] {
            assert!(pax(bad, &at).is_err(), "{}", escape(bad));
        }
    }

    #[test]
    fn disks_are_known_by_their_names() {
        assert!(["a.vmdk", "b/c.RAW", "x.qcow2.gz", "d.E01"].iter().all(|name| is_disk_name(name)));
        assert!(!["a.ovf", ".img", "vmdk", "a.txt.gz", "a.gz"].iter().any(|name| is_disk_name(name)));
    }
}
