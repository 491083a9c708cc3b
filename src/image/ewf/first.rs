//! The first version: `.E01`, `.s01`. A section begins with a descriptor that says where the next one is.
//!
//! Specification: libewf, "Expert Witness Compression Format (EWF)".

use super::{About, Frontier, How, Method, Stored, Table, Tail, check_segment, facts, sizes};
use crate::block::BlockSource;
use crate::budget::Budget;
use crate::checksum::adler32;
use crate::error::{At, Error, ErrorKind, Result};
use crate::image::unpack;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le32, le32, parse_struct, read_struct, read_table};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of every segment.
pub(super) const SIGNATURE: &[u8; 8] = b"EVF\x09\x0d\x0a\xff\0";

/// Sections looked at in front of the first chunks; real images have about five.
const MAX_FRONT: u32 = 64;
/// Longest text of a header, packed or not. Real ones have a few hundred bytes, notes included.
const MAX_HEADER: u64 = 256 << 10;
/// Bytes of the last segment in which sections are looked for by their looks.
const TAIL: u64 = 128 << 10;
/// What an offset of 31 bits reaches.
const REACH: u64 = 1 << 31;
/// Entries of a table that has to be read through, because its offsets may have more than 31 bits.
const MAX_LONG: u64 = 1 << 20;

/// "File header".
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct FileHeader {
    signature: [u8; 8], // 0
    start: u8,          // 8 always 1
    number: U16,        // 9 of the segment, from 1
    end: U16,           // 11 always 0
}
const _: () = assert!(size_of::<FileHeader>() == 13);

/// "Section descriptor".
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Descriptor {
    name: [u8; 16],    // 0 padded by zeros
    next: U64,         // 16 byte in the segment
    size: U64,         // 24 of the section, with this descriptor; 0 in the oldest images
    padding: [u8; 40], // 32
    checksum: U32,     // 72 Adler-32 of the 72 bytes before
}
const DESCRIPTOR: u64 = 76;
const _: () = assert!(size_of::<Descriptor>() == 76);

/// "Table header".
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct TableHeader {
    count: U32,    // 0 entries
    padding: U32,  // 4
    base: U64,     // 8 what entries count from; zeros before EnCase 6
    reserved: U32, // 16
    checksum: U32, // 20 Adler-32 of the 20 bytes before
}
const TABLE_HEADER: u64 = 24;
const _: () = assert!(size_of::<TableHeader>() == 24);

/// A section, and where it starts and ends.
struct Section {
    name: [u8; 16],
    start: u64,
    /// Where the next one starts; of the last, where it starts itself.
    next: u64,
}

impl Section {
    /// Reads and checks the descriptor at `start`.
    fn load(source: &dyn BlockSource, start: u64) -> Result<Self> {
        let at = || At::new("ewf", "section").byte(start);
        let raw: Descriptor = read_struct(source, start, At::new("ewf", "section"))?;
        let section = Self::check(raw.as_bytes(), start)
            .ok_or_else(|| Error::corrupt(at()).because("its descriptor does not fit its checksum"))?;
        let size = raw.size.get();
        if section.ends() {
            return Ok(section);
        }
        if section.next < start.saturating_add(DESCRIPTOR) {
            let next = section.next;
            return Err(Error::corrupt(at()).because(format!("the next one is said to start at {next:#x}")));
        }
        // Readers that go by the one see another image than those that go by the other.
        if size != 0 && start.checked_add(size) != Some(section.next) {
            let next = section.next;
            return Err(Error::corrupt(at())
                .because(format!("its {size} bytes do not end where the next one starts, at {next:#x}")));
        }
        Ok(section)
    }

    /// A section, if the bytes are those of a descriptor.
    fn check(bytes: &[u8], start: u64) -> Option<Self> {
        let raw: Descriptor = parse_struct(bytes, At::new("ewf", "section")).ok()?;
        let sum = adler32(bytes.get(..72)?);
        (raw.checksum.get() == sum).then(|| Self { name: raw.name, start, next: raw.next.get() })
    }

    fn is(&self, name: &str) -> bool {
        self.name.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Is it the last of its segment?
    fn ends(&self) -> bool {
        self.is("done") || self.is("next")
    }

    fn data(&self) -> u64 {
        self.start.saturating_add(DESCRIPTOR)
    }

    fn len(&self) -> u64 {
        self.next.saturating_sub(self.data())
    }

    fn read(&self, source: &dyn BlockSource, most: u64, budget: &Budget) -> Result<Vec<u8>> {
        read_table(source, self.data(), self.len(), most, At::new("ewf", "section").byte(self.start), budget)
    }
}

/// X-Ways Forensics and EnCase state encryption in a section of its own.
fn refuse_encrypted(section: &Section) -> Result<()> {
    if section.is("x_encryption") || section.is("encryption") {
        let error =
            Error::new(ErrorKind::Encrypted, "the evidence file is encrypted (X-Ways Forensics, AES)");
        return Err(error.help("decrypt it with the tool that wrote it; no key can be given here"));
    }
    Ok(())
}

/// What the sections in front of the first chunks say, and the segment's number.
pub(super) fn about(source: &dyn BlockSource, budget: &Budget) -> Result<(About, u64)> {
    let number = number(source)?;
    let mut texts = (Vec::new(), Vec::new());
    let mut volume = None;
    let mut offset = wide(size_of::<FileHeader>());
    for _ in 0..MAX_FRONT {
        budget.step("ewf sections")?;
        let section = Section::load(source, offset)?;
        refuse_encrypted(&section)?;
        if section.is("header2") && texts.0.is_empty() {
            texts.0 = text(source, &section, budget)?;
        } else if section.is("header") && texts.1.is_empty() {
            texts.1 = text(source, &section, budget)?;
        } else if section.is("volume") || section.is("disk") || (section.is("data") && volume.is_none()) {
            volume = Some(Volume::load(source, &section, budget)?);
        } else if section.is("sectors") || section.is("table") || section.ends() {
            break;
        }
        offset = section.next;
    }
    let Some(volume) = volume else {
        if number != 1 {
            return Ok((About::none(), number));
        }
        return Err(Error::corrupt(At::new("ewf", "section"))
            .because("no 'volume' section says how large the disk is"));
    };
    let at = At::new("ewf", "volume section");
    let (size, chunk) = sizes(volume.sectors, volume.sector, volume.in_chunk, &at)?;
    let header = if texts.0.is_empty() { &texts.1 } else { &texts.0 };
    let mut facts = facts::from_header(header);
    facts.extend(volume.facts());
    Ok((About { size, chunk, method: Method::Zlib, set: volume.set, facts }, number))
}

fn number(source: &dyn BlockSource) -> Result<u64> {
    let raw: FileHeader = read_struct(source, 0, At::new("ewf", "file header"))?;
    if raw.signature != *SIGNATURE {
        return Err(
            Error::corrupt(At::new("ewf", "file header").byte(0)).because("the signature 'EVF' is missing")
        );
    }
    Ok(raw.number.get().into())
}

/// The text of a header, unpacked. One that cannot be unpacked is left out: the disk does not depend on it.
fn text(source: &dyn BlockSource, section: &Section, budget: &Budget) -> Result<Vec<u8>> {
    let stored = section.read(source, MAX_HEADER, budget)?;
    let at = At::new("ewf", "header").byte(section.start);
    Ok(unpack::inflate(&stored, MAX_HEADER, true, &at).unwrap_or_default())
}

/// What the "volume section" says; of its two lengths, 94 and 1052 bytes, the first part means the same.
struct Volume {
    sectors: u64,
    sector: u64,
    in_chunk: u64,
    set: [u8; 16],
    media: Option<u8>,
    compression: Option<u8>,
}

impl Volume {
    fn load(source: &dyn BlockSource, section: &Section, budget: &Budget) -> Result<Self> {
        let bytes = section.read(source, 64 << 10, budget)?;
        let at = At::new("ewf", "volume section").byte(section.start);
        let is_long = bytes.len() >= 1052;
        // Both end in the Adler-32 of what is before; Logicube's "data" has 0.
        let end = if is_long { 1048 } else { 90 };
        let stated = le32(&bytes, end, &at)?;
        if stated != 0 && stated != adler32(bytes.get(..end).unwrap_or_default()) {
            return Err(Error::corrupt(at).because("does not fit its checksum"));
        }
        let low = u64::from(le32(&bytes, 16, &at)?);
        let high = if is_long { u64::from(le32(&bytes, 20, &at)?) } else { 0 };
        Ok(Self {
            sectors: low | (high << 32),
            sector: le32(&bytes, 12, &at)?.into(),
            in_chunk: le32(&bytes, 8, &at)?.into(),
            set: bytes
                .get(64..80)
                .filter(|_| is_long)
                .and_then(|set| set.first_chunk().copied())
                .unwrap_or_default(),
            media: bytes.first().copied().filter(|_| is_long),
            compression: bytes.get(52).copied().filter(|_| is_long),
        })
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let media = self.media.map(|media| match media {
            0 => "removable".to_owned(),
            1 => "fixed".to_owned(),
            3 => "optical".to_owned(),
            14 => "logical evidence".to_owned(),
            16 => "memory".to_owned(),
            other => format!("{other:#04x}"),
        });
        let compression = self.compression.map(|level| match level {
            0 => "none".to_owned(),
            1 => "fast".to_owned(),
            2 => "best".to_owned(),
            other => format!("level {other}"),
        });
        let mut facts = vec![("bytes per sector", self.sector.to_string())];
        facts.extend(media.map(|media| ("media type", media)));
        facts.extend(compression.map(|level| ("compression", level)));
        facts
    }
}

/// Refuses a later segment that is not what its name says.
pub(super) fn belongs(source: &dyn BlockSource, set: [u8; 16], expected: u64) -> Result<()> {
    let number = number(source)?;
    let section = Section::load(source, wide(size_of::<FileHeader>()))?;
    let mut own = [0; 16];
    if section.is("data") && section.len() >= 1052 {
        source.read_at(&mut own, section.data().saturating_add(64))?;
    }
    check_segment(number, expected, own, set)
}

/// What stands at the end of the last segment. The list can only be followed from its start, so sections are looked for by
/// their looks, and taken if each ends where the next one begins, up to the segment's end. (What else looks like one may
/// belong to an evidence file on the disk.)
pub(super) fn tail(source: &dyn BlockSource, budget: &Budget) -> Result<Tail> {
    let from = source.len().saturating_sub(TAIL);
    let bytes = read_table(source, from, source.len().min(TAIL), TAIL, At::new("ewf", "segment"), budget)?;
    let looks = bytes.windows(narrow(DESCRIPTOR)).enumerate().filter(|(_, window)| is_named(window));
    let all: Vec<Section> =
        looks.filter_map(|(at, window)| Section::check(window, from.saturating_add(wide(at)))).collect();
    let mut tail = Tail::default();
    let mut digest = (None, None);
    let Some(last) = all.last().filter(|last| last.ends() && last.data() == source.len()) else {
        return Ok(tail);
    };
    (tail.is_last, tail.has_next) = (last.is("done"), last.is("next"));
    let mut next = last.start;
    for section in all.iter().rev().skip(1) {
        if section.next != next {
            continue;
        }
        next = section.start;
        refuse_encrypted(section)?;
        let data = bytes.get(narrow(section.data().saturating_sub(from))..).unwrap_or_default();
        if section.is("hash") {
            tail.md5 =
                checked(data, 32, "hash", &mut tail.warnings).and_then(|data| Tail::sum(data.get(..16)?));
        } else if section.is("digest") {
            let data = checked(data, 76, "digest", &mut tail.warnings);
            let part = |range| data.and_then(|data: &[u8]| Tail::sum(data.get(range)?));
            digest = (part(0..16), part(16..36));
        } else if section.is("error2") {
            tail.errors = errors(data, &mut tail.warnings);
        }
    }
    if digest.0.is_some() && tail.md5.is_some() && digest.0 != tail.md5 {
        tail.warnings.push(
            "its sections 'hash' and 'digest' state different MD5 sums; that of 'hash' is used".to_owned(),
        );
    }
    tail.md5 = tail.md5.or(digest.0);
    tail.sha1 = digest.1;
    Ok(tail)
}

/// Does it begin as a descriptor does: a short word, and zeros up to 16 bytes?
fn is_named(bytes: &[u8]) -> bool {
    let Some(name) = bytes.first_chunk::<16>() else { return false };
    let word =
        name.iter().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || **byte == b'_');
    let len = word.count();
    (4..16).contains(&len) && name.iter().skip(len).all(|byte| *byte == 0)
}

/// The first `len` bytes, if the Adler-32 behind them fits.
fn checked<'a>(data: &'a [u8], len: usize, name: &str, warnings: &mut Vec<String>) -> Option<&'a [u8]> {
    let part = data.get(..len)?;
    if get_le32(data, len) == Some(adler32(part)) {
        return Some(part);
    }
    warnings.push(format!("section '{name}' is damaged: it does not fit its checksum, and is left out"));
    None
}

/// The entries of an "error2 section".
fn errors(data: &[u8], warnings: &mut Vec<String>) -> Vec<(u64, u64)> {
    let Some(header) = checked(data, 516, "error2", warnings) else { return Vec::new() };
    let count = get_le32(header, 0).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let entries = data.get(520..).unwrap_or_default().chunks_exact(8).take(count);
    let pair = |entry: &[u8]| Some((u64::from(get_le32(entry, 0)?), u64::from(get_le32(entry, 4)?)));
    entries.filter_map(pair).filter(|(_, count)| *count > 0).collect()
}

/// Follows the sections of a segment to its next table, or to its end.
pub(super) fn walk(
    source: &dyn BlockSource,
    from: Frontier,
    budget: &Budget,
) -> Result<(Vec<Table>, Frontier)> {
    let mut at = from;
    if at.offset == 0 {
        at = Frontier { offset: wide(size_of::<FileHeader>()), data: (0, 0), mirror: false, ..at };
    }
    loop {
        budget.step("ewf sections")?;
        let section = Section::load(source, at.offset)?;
        refuse_encrypted(&section)?;
        if section.ends() {
            let next =
                Frontier { segment: at.segment.saturating_add(1), chunks: at.chunks, ..Frontier::default() };
            return Ok((Vec::new(), next));
        }
        at.offset = section.next;
        if section.is("sectors") {
            at.data = (section.data(), section.next);
        } else if section.is("table") || (section.is("table2") && at.mirror) {
            let is_first = section.is("table");
            match table(source, &section, &at, budget) {
                Ok(Some(table)) => {
                    at.mirror = false;
                    at.chunks = at.chunks.saturating_add(table.count);
                    return Ok((vec![table], at));
                }
                Ok(None) => at.mirror = false,
                Err(error) if is_first && error.kind() == ErrorKind::Corrupt => at.mirror = true,
                Err(error) => return Err(error),
            }
        } else if at.mirror && !section.is("table2") {
            return Err(Error::corrupt(At::new("ewf", "table section").byte(section.start))
                .because("the table before it is damaged, and has no mirror"));
        }
    }
}

fn table(
    source: &dyn BlockSource,
    section: &Section,
    at: &Frontier,
    budget: &Budget,
) -> Result<Option<Table>> {
    let place = || At::new("ewf", "table section").byte(section.start);
    let corrupt = |why: String| Error::corrupt(place()).because(why);
    let header: TableHeader = read_struct(source, section.data(), place())?;
    if header.checksum.get() != adler32(header.as_bytes().get(..20).unwrap_or_default()) {
        return Err(corrupt("its header does not fit its checksum".to_owned()));
    }
    let count = u64::from(header.count.get());
    let entries = section.data().saturating_add(TABLE_HEADER);
    let ends = entries.saturating_add(count.saturating_mul(4));
    if ends > section.next || ends > source.len() {
        return Err(corrupt(format!("its {count} entries end at {ends:#x}, it ends at {:#x}", section.next)));
    }
    if count == 0 {
        return Ok(None);
    }
    // In the oldest images and in SMART's, chunks lie behind the entries of their table.
    let base = header.base.get();
    let first = read_table(source, entries, 4, 4, place(), budget)?;
    let first = base.saturating_add(u64::from(le32(&first, 0, &place())?) % REACH);
    let end = if (at.data.0..at.data.1).contains(&first) { at.data.1 } else { section.next };
    let mut table = Table { first: at.chunks, count, segment: at.segment, entries, base, end, long: count };
    if end.saturating_sub(base) > REACH {
        if count > MAX_LONG {
            return Err(
                Error::limit(format!("ewf: a table of {count} entries over more than 2 GiB")).at(place())
            );
        }
        let bytes = read_table(
            source,
            entries,
            count.saturating_mul(4),
            MAX_LONG.saturating_mul(4),
            place(),
            budget,
        )?;
        table.long = long(&bytes);
        budget.release(bytes.len());
    }
    Ok(Some(table))
}

/// The first entry that uses its highest bit for its offset: where offsets of 31 bits would go back. EnCase 6.7 wrote
/// such tables, and did not pack those chunks.
fn long(entries: &[u8]) -> u64 {
    let offset = |entry: &[u8]| get_le32(entry, 0).map_or(0, |entry| u64::from(entry) % REACH);
    let mut last = 0;
    for (index, entry) in entries.chunks_exact(4).enumerate() {
        let offset = offset(entry);
        if offset < last {
            return wide(index);
        }
        last = offset;
    }
    wide(entries.len() / 4)
}

/// Where a chunk lies: its entry, and that of the next chunk in the same table.
pub(super) fn stored(
    table: &Table,
    index: u64,
    entry: [u8; 4],
    next: Option<[u8; 4]>,
    chunk: u64,
) -> Result<Stored> {
    let offset = |index: u64, entry: [u8; 4]| {
        let raw = u64::from(u32::from_le_bytes(entry));
        table.base.checked_add(if index >= table.long { raw } else { raw % REACH })
    };
    let corrupt = |why: String| Error::corrupt(At::new("ewf", "table entry")).because(why);
    let beyond = || corrupt("an offset past 2^64".to_owned());
    let start = offset(index, entry).ok_or_else(beyond)?;
    let end = match next {
        Some(next) => offset(index.saturating_add(1), next).ok_or_else(beyond)?,
        None => table.end,
    };
    let len = end.checked_sub(start).filter(|len| *len > 0);
    let len = len.ok_or_else(|| corrupt(format!("a chunk from {start:#x} to {end:#x}")))?;
    let is_packed = index < table.long && u64::from(u32::from_le_bytes(entry)) >= REACH;
    if is_packed {
        // A packed stream says itself where it ends; it is a little longer than the chunk at most.
        let most = chunk.saturating_add(chunk / 8).saturating_add(4096);
        return Ok(Stored { offset: start, len: len.min(most), how: How::Packed });
    }
    Ok(Stored { offset: start, len: len.min(chunk.saturating_add(4)), how: How::Summed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(base: u64, end: u64, long: u64) -> Table {
        Table { first: 0, count: 3, segment: 0, entries: 100, base, end, long }
    }

    #[test]
    fn an_entry_ends_where_the_next_begins_and_the_last_with_its_section() {
        let at = |index, entry: u32, next: Option<u32>| {
            stored(&table(1000, 5000, 3), index, entry.to_le_bytes(), next.map(u32::to_le_bytes), 32768)
                .unwrap()
        };
        assert_eq!(
            at(0, 0x8000_0000, Some(0x8000_0064)),
            Stored { offset: 1000, len: 100, how: How::Packed }
        );
        assert_eq!(at(2, 3000, None), Stored { offset: 4000, len: 1000, how: How::Summed });
    }

    #[test]
    fn offsets_that_go_back_are_corrupt() {
        let back = stored(&table(0, 5000, 3), 0, 300_u32.to_le_bytes(), Some(200_u32.to_le_bytes()), 32768);
        assert_eq!(back.unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn offsets_past_two_gigabytes_use_the_whole_entry() {
        let entries = [0x8000_0000_u32, 0x7fff_fff0, 0x8000_7ff4];
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        assert_eq!(long(&bytes), 2);
        let table = table(76, 76 + (3 << 30), 2);
        let last = stored(&table, 2, entries[2].to_le_bytes(), None, 32768).unwrap();
        assert_eq!(last, Stored { offset: 76 + 0x8000_7ff4, len: 32772, how: How::Summed });
    }
}
