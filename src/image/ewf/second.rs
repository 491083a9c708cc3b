//! The second version: `.Ex01`. A section ends with a descriptor that says where the one before ends.
//!
//! Specification: libewf, "Expert Witness Compression Format version 2 (EWF2)".

use super::{
    About, Frontier, How, MAX_TABLES, Method, Stored, Table, Tail, bunzip2, check_segment, facts, sizes,
};
use crate::block::BlockSource;
use crate::budget::Budget;
use crate::checksum::adler32;
use crate::error::{At, Error, ErrorKind, Result};
use crate::image::unpack;
use crate::num::wide;
use crate::ondisk::{get_le32, get_le64, parse_struct, read_struct, read_table};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of every segment.
pub(super) const SIGNATURE: &[u8; 8] = b"EVF2\x0d\x0a\x81\0";

/// Bytes of a segment in which its first two sections are looked for.
const FRONT: u64 = 64 << 10;
/// Longest text of one of them, unpacked.
const MAX_TEXT: u64 = 256 << 10;
/// Sections looked at behind the last table.
const MAX_BEHIND: u32 = 32;
/// Longest list of sectors that could not be read.
const MAX_ERRORS: u64 = 4 << 20;

// Types of sections.
const DEVICE: u32 = 1;
const CASE: u32 = 2;
const TABLE: u32 = 4;
const ERRORS: u32 = 5;
const MD5: u32 = 8;
const SHA1: u32 = 9;
const KEYS: u32 = 0x0b;
const NEXT: u32 = 0x0d;
const DONE: u32 = 0x0f;

/// The data of a section is encrypted.
const ENCRYPTED: u32 = 2;

/// "File header".
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct FileHeader {
    signature: [u8; 8], // 0
    major: u8,          // 8 2
    minor: u8,          // 9 1
    method: U16,        // 10 0 none, 1 deflate, 2 bzip2
    number: U32,        // 12 of the segment, from 1
    set: [u8; 16],      // 16 the set it belongs to
}
const FILE_HEADER: u64 = 32;
const _: () = assert!(size_of::<FileHeader>() == 32);

/// "Section descriptor".
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Descriptor {
    kind: U32,          // 0
    flags: U32,         // 4
    previous: U64,      // 8 byte in the segment of the descriptor before; 0 in the first
    len: U64,           // 16 bytes of data in front of this, with their padding
    own_len: U32,       // 24 64
    padding: U32,       // 28 bytes
    hash: [u8; 16],     // 32 MD5 of the data
    reserved: [u8; 12], // 48
    checksum: U32,      // 60 Adler-32 of the 60 bytes before
}
const DESCRIPTOR: u64 = 64;
const _: () = assert!(size_of::<Descriptor>() == 64);

struct Section {
    kind: u32,
    /// Byte where the descriptor starts, which is where the data ends.
    at: u64,
    previous: u64,
    len: u64,
}

impl Section {
    /// A section, if the bytes are those of a descriptor.
    ///
    /// # Errors
    /// `Encrypted`.
    fn check(bytes: &[u8], at: u64) -> Result<Option<Self>> {
        let Ok(raw) = parse_struct::<Descriptor>(bytes, At::new("ewf", "section")) else { return Ok(None) };
        let sum = bytes.get(..60).map(adler32);
        if sum != Some(raw.checksum.get()) || u64::from(raw.own_len.get()) != DESCRIPTOR {
            return Ok(None);
        }
        if raw.flags.get() & ENCRYPTED != 0 || raw.kind.get() == KEYS {
            let error = Error::new(ErrorKind::Encrypted, "the evidence file is encrypted (Ex01)");
            return Err(error.help("decrypt it with the tool that wrote it; no key can be given here"));
        }
        Ok(Some(Self { kind: raw.kind.get(), at, previous: raw.previous.get(), len: raw.len.get() }))
    }

    fn load(source: &dyn BlockSource, at: u64) -> Result<Self> {
        let raw: Descriptor = read_struct(source, at, At::new("ewf", "section"))?;
        let corrupt = |why: &str| Error::corrupt(At::new("ewf", "section").byte(at)).because(why);
        let section = Self::check(raw.as_bytes(), at)?
            .ok_or_else(|| corrupt("its descriptor does not fit its checksum (the segment was cut off?)"))?;
        if section.data().is_none() || (section.previous != 0 && section.previous >= at) {
            return Err(corrupt("it reaches back further than the segment goes"));
        }
        Ok(section)
    }

    /// Where the data starts.
    fn data(&self) -> Option<u64> {
        self.at.checked_sub(self.len).filter(|start| *start >= FILE_HEADER)
    }
}

fn header(source: &dyn BlockSource) -> Result<FileHeader> {
    let raw: FileHeader = read_struct(source, 0, At::new("ewf", "file header"))?;
    let at = || At::new("ewf", "file header").byte(0);
    if raw.signature != *SIGNATURE {
        return Err(Error::corrupt(at()).because("the signature 'EVF2' is missing"));
    }
    if raw.major != 2 {
        return Err(Error::unsupported(format!("version {}.{} of EWF", raw.major, raw.minor)).at(at()));
    }
    Ok(raw)
}

/// What the first two sections say, and the segment's number.
pub(super) fn about(source: &dyn BlockSource, budget: &Budget) -> Result<(About, u64)> {
    let header = header(source)?;
    let at = || At::new("ewf", "file header").byte(0);
    let method = match header.method.get() {
        0 | 1 => Method::Zlib,
        2 => Method::Bzip2,
        other => return Err(Error::unsupported(format!("compression method {other} of EWF2")).at(at())),
    };
    let bytes = read_table(source, 0, source.len().min(FRONT), FRONT, at(), budget)?;
    let mut texts = [Vec::new(), Vec::new()];
    // Where the data of the section that is looked for starts: its descriptor is the next one with just that length.
    let mut start = FILE_HEADER;
    for at in (FILE_HEADER..source.len().min(FRONT)).step_by(16) {
        let Some(rest) = bytes.get(crate::num::narrow(at)..) else { break };
        let Some(section) = Section::check(rest.get(..64).unwrap_or_default(), at)? else { continue };
        if section.data() != Some(start) {
            continue;
        }
        let data = bytes.get(crate::num::narrow(start)..crate::num::narrow(at)).unwrap_or_default();
        match section.kind {
            DEVICE => texts[0] = text(data, method)?,
            CASE => texts[1] = text(data, method)?,
            _ => {}
        }
        start = at.saturating_add(DESCRIPTOR);
        if !texts.iter().any(Vec::is_empty) {
            break;
        }
    }
    let pairs = [facts::pairs(&texts[0]), facts::pairs(&texts[1])].concat();
    let number = |tag: &str| {
        let value = pairs
            .iter()
            .find(|(known, _)| known == tag)
            .and_then(|(_, value)| value.trim().parse::<u64>().ok());
        value.ok_or_else(|| {
            Error::corrupt(At::new("ewf", "case data"))
                .because(format!("'{tag}' is not stated in the first sections"))
        })
    };
    let segment = u64::from(header.number.get());
    if segment != 1 {
        return Ok((About::none(), segment));
    }
    let place = At::new("ewf", "device information");
    let (size, chunk) = sizes(number("ts")?, number("bp")?, number("sb")?, &place)?;
    let mut facts = facts::from_second(&texts[1]);
    facts.extend(facts::from_second(&texts[0]));
    facts.push(("bytes per sector", number("bp")?.to_string()));
    let methods = ["none", "deflate", "bzip2"];
    facts.extend(
        methods.get(usize::from(header.method.get())).map(|name| ("compression", (*name).to_owned())),
    );
    Ok((About { size, chunk, method, set: header.set, facts }, segment))
}

fn text(data: &[u8], method: Method) -> Result<Vec<u8>> {
    let at = At::new("ewf", "case data");
    match method {
        _ if data.starts_with(&[0xff, 0xfe]) => Ok(data.to_vec()),
        Method::Zlib => unpack::inflate(data, MAX_TEXT, true, &at),
        Method::Bzip2 => bunzip2(data, MAX_TEXT, &at),
    }
}

/// Refuses a later segment that is not what its name says.
pub(super) fn belongs(source: &dyn BlockSource, set: [u8; 16], expected: u64) -> Result<()> {
    let header = header(source)?;
    check_segment(header.number.get().into(), expected, header.set, set)
}

/// Where the last descriptor of a segment starts.
fn end(source: &dyn BlockSource) -> Result<u64> {
    source.len().checked_sub(DESCRIPTOR).filter(|at| *at >= FILE_HEADER).ok_or_else(|| {
        Error::corrupt(At::new("ewf", "section")).because("the segment ends before its first section")
    })
}

/// What stands behind the last table of the last segment.
pub(super) fn tail(source: &dyn BlockSource, budget: &Budget) -> Result<Tail> {
    let mut tail = Tail::default();
    let mut at = end(source)?;
    for _ in 0..MAX_BEHIND {
        budget.step("ewf sections")?;
        let section = match Section::load(source, at) {
            Ok(section) => section,
            // A copy that was cut off: what is left of it may be read nevertheless.
            Err(error) if error.kind() == ErrorKind::Corrupt && !tail.is_last && !tail.has_next => {
                return Ok(tail);
            }
            Err(error) => return Err(error),
        };
        let last = section.at.saturating_add(DESCRIPTOR) == source.len();
        tail.is_last |= last && section.kind == DONE;
        tail.has_next |= last && section.kind == NEXT;
        match section.kind {
            TABLE => break,
            MD5 => tail.md5 = sum(source, &section, 16, &mut tail.warnings)?,
            SHA1 => tail.sha1 = sum(source, &section, 20, &mut tail.warnings)?,
            ERRORS => tail.errors = errors(source, &section, budget)?,
            _ => {}
        }
        if section.previous == 0 {
            break;
        }
        at = section.previous;
    }
    Ok(tail)
}

/// A sum of `len` bytes, with its checksum behind it.
fn sum(
    source: &dyn BlockSource,
    section: &Section,
    len: usize,
    warnings: &mut Vec<String>,
) -> Result<Option<String>> {
    let mut bytes = [0; 24];
    let Some(data) = section.data().filter(|_| section.len >= wide(len).saturating_add(4)) else {
        return Ok(None);
    };
    let bytes = bytes.get_mut(..len.saturating_add(4)).unwrap_or_default();
    source.read_at(bytes, data)?;
    let (value, _) = bytes.split_at(len);
    if get_le32(bytes, len) != Some(adler32(value)) {
        warnings.push("a stored sum is damaged: it does not fit its checksum, and is left out".to_owned());
        return Ok(None);
    }
    Ok(Tail::sum(value))
}

/// The entries of an "error table".
fn errors(source: &dyn BlockSource, section: &Section, budget: &Budget) -> Result<Vec<(u64, u64)>> {
    let at = At::new("ewf", "error table").byte(section.at);
    let start = section.data().unwrap_or(section.at);
    let bytes = read_table(source, start, section.len, MAX_ERRORS, at, budget)?;
    let count = get_le32(&bytes, 0).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let entries = bytes.get(32..).unwrap_or_default().chunks_exact(16).take(count);
    let pair = |entry: &[u8]| Some((get_le64(entry, 0)?, u64::from(get_le32(entry, 8)?)));
    Ok(entries.filter_map(pair).filter(|(_, count)| *count > 0).collect())
}

/// All tables of a segment, which can only be followed from its end.
pub(super) fn walk(
    source: &dyn BlockSource,
    from: Frontier,
    budget: &Budget,
) -> Result<(Vec<Table>, Frontier)> {
    let mut tables = Vec::new();
    let mut at = end(source)?;
    loop {
        budget.step("ewf sections")?;
        let section = Section::load(source, at)?;
        if section.kind == TABLE {
            tables.extend(table(source, &section, from.segment)?);
        }
        if tables.len() > MAX_TABLES {
            return Err(Error::limit(format!("ewf: more than {MAX_TABLES} tables")));
        }
        if section.previous == 0 {
            break;
        }
        at = section.previous;
    }
    tables.reverse();
    let mut chunks = from.chunks;
    for table in &tables {
        if table.first != chunks {
            return Err(Error::corrupt(At::new("ewf", "sector table").byte(table.entries))
                .because(format!("starts with chunk {}, those before end with {chunks}", table.first)));
        }
        chunks = chunks.saturating_add(table.count);
    }
    Ok((tables, Frontier { segment: from.segment.saturating_add(1), chunks, ..Frontier::default() }))
}

/// "Sector table".
fn table(source: &dyn BlockSource, section: &Section, segment: usize) -> Result<Option<Table>> {
    let place = At::new("ewf", "sector table").byte(section.at);
    let corrupt = |why: String| Error::corrupt(place.clone()).because(why);
    let start = section.data().unwrap_or(section.at);
    let mut header = [0; 32];
    if section.len < 32 {
        return Err(corrupt(format!("{} bytes", section.len)));
    }
    source.read_at(&mut header, start)?;
    if get_le32(&header, 16) != header.get(..16).map(adler32) {
        return Err(corrupt("its header does not fit its checksum".to_owned()));
    }
    let (first, count) = (get_le64(&header, 0).unwrap_or(0), u64::from(get_le32(&header, 8).unwrap_or(0)));
    let entries = start.saturating_add(32);
    if entries.saturating_add(count.saturating_mul(16)) > section.at {
        return Err(corrupt(format!("{count} entries in {} bytes", section.len)));
    }
    let table = Table { first, count, segment, entries, base: 0, end: section.at, long: count };
    Ok((count > 0).then_some(table))
}

/// Where a chunk lies, by its entry.
pub(super) fn stored(entry: [u8; 16]) -> Result<Stored> {
    const PACKED: u32 = 1;
    const SUMMED: u32 = 2;
    const PATTERN: u32 = 4;
    let (place, rest) = entry.split_first_chunk::<8>().expect("16 bytes begin with 8");
    let (len, flags) = (get_le32(rest, 0).unwrap_or(0), get_le32(rest, 4).unwrap_or(0));
    let known = flags & !(PACKED | SUMMED | PATTERN);
    if known != 0 {
        return Err(Error::unsupported(format!("chunk data flags {flags:#x}")));
    }
    if flags & (PACKED | PATTERN) == PACKED | PATTERN {
        return Ok(Stored { offset: 0, len: 0, how: How::Pattern(*place) });
    }
    let how = if flags & PACKED != 0 {
        How::Packed
    } else if flags & SUMMED != 0 {
        How::Summed
    } else {
        How::Bare
    };
    Ok(Stored { offset: u64::from_le_bytes(*place), len: len.into(), how })
}
