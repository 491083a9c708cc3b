//! EWF: the Expert Witness Compression Format of EnCase, FTK Imager, SMART and others (`.E01`, `.Ex01`, `.s01`), in which
//! forensic copies of disks are kept.
//!
//! ```text
//! x.E01  header │ volume │ sectors: chunk chunk chunk … │ table │ table2 │ … │ next
//! x.E02  data   │          sectors: chunk chunk …       │ table │ table2 │ hash │ digest │ done
//!        └ a list of sections; a chunk is 32 KiB of disk, packed by zlib or followed by its checksum
//! ```
//! Sections are a list that has to be followed, so tables are found when a chunk behind them is first read: opening looks
//! at both ends of the set only. Every chunk carries a checksum, which is compared before a byte is handed out. Further
//! segments are opened through the gate.
//!
//! Specification: libewf, "Expert Witness Compression Format (EWF)" (`first.rs`) and "… version 2 (EWF2)" (`second.rs`).

use super::pages::Pages;
use super::segments::{Joined, Series, behind, shown};
use super::{Confidence, Format, OpenCx, Opened, StoredSum, unpack};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::budget::Budget;
use crate::checksum::adler32;
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::ondisk::get_le32;
use std::io::Read as _;
use std::num::NonZeroU64;
use std::sync::{Arc, PoisonError, RwLock};

mod facts;
mod first;
mod second;

/// The format.
pub const FORMAT: Format = Format {
    name: "ewf",
    aliases: &["e01", "ex01", "s01", "encase"],
    about: "forensic copies: E01, Ex01 and S01 in one or many segments; their stored sums are checked by hash --verify",
    probe,
    open,
};

/// The largest chunk: EnCase writes up to 512 KiB, libewf up to 16 MiB.
const MAX_CHUNK: u64 = 32 << 20;
/// Tables of one image, 64 bytes each in memory. At 16375 chunks of 32 KiB a table that is 256 TiB.
const MAX_TABLES: usize = 1 << 19;

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    (probe.has(0, first::SIGNATURE) || probe.has(0, second::SIGNATURE)).then_some(Confidence::Signature)
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

/// How a compressed chunk is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Zlib,
    Bzip2,
}

/// What opening learns of an image, whichever version it is.
#[derive(Debug)]
struct About {
    /// Of the disk, in bytes.
    size: u64,
    /// Bytes of disk in a chunk.
    chunk: NonZeroU64,
    method: Method,
    /// The set that the segments belong to; zeros where none is stated.
    set: [u8; 16],
    facts: Vec<(&'static str, String)>,
}

impl About {
    /// Of a later segment, which says less: it is refused by its number.
    const fn none() -> Self {
        Self { size: 0, chunk: NonZeroU64::MIN, method: Method::Zlib, set: [0; 16], facts: Vec::new() }
    }
}

/// What stands at the end of the last segment.
#[derive(Debug, Default)]
struct Tail {
    /// A mark says that nothing follows.
    is_last: bool,
    /// A mark says that another segment follows.
    has_next: bool,
    md5: Option<String>,
    sha1: Option<String>,
    /// First sector and number of sectors of what could not be read from the original.
    errors: Vec<(u64, u64)>,
    warnings: Vec<String>,
}

impl Tail {
    /// Takes a sum unless it is all zeros, as writers leave those that they did not make.
    fn sum(bytes: &[u8]) -> Option<String> {
        bytes.iter().any(|byte| *byte != 0).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A table of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Table {
    /// The number of its first chunk.
    first: u64,
    /// How many it has; at least one.
    count: u64,
    /// In which segment it lies, and the chunks with it.
    segment: usize,
    /// Byte in the segment where its entries start.
    entries: u64,
    /// What entries count from, in bytes of the segment.
    base: u64,
    /// Where the section ends in which the chunks lie.
    end: u64,
    /// The first entry whose highest bit belongs to its offset; `count` if there is none.
    long: u64,
}

/// How far the sections have been followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Frontier {
    segment: usize,
    /// The next section; 0 at the start of a segment.
    offset: u64,
    /// Start and end of the last section of chunks.
    data: (u64, u64),
    /// The last table was damaged, so its mirror counts.
    mirror: bool,
    /// Chunks in the tables so far.
    chunks: u64,
}

/// Tables found so far.
#[derive(Debug, Default)]
struct Known {
    tables: Vec<Table>,
    frontier: Frontier,
}

/// Where the bytes of a chunk lie, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    offset: u64,
    len: u64,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Packed,
    /// As it is, with an Adler-32 behind it.
    Summed,
    /// As it is, without a checksum.
    Bare,
    /// Eight bytes over and over.
    Pattern([u8; 8]),
}

/// An open image.
struct Ewf {
    version: Version,
    size: u64,
    chunk: NonZeroU64,
    method: Method,
    files: Vec<Arc<dyn BlockSource>>,
    /// All segments as one, for their tables, and where each starts in it.
    pages: Pages,
    starts: Vec<u64>,
    known: RwLock<Known>,
    /// The segment that ought to follow.
    missing: Option<String>,
}

impl std::fmt::Debug for Ewf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ewf({:?}, {} bytes, {} segments)", self.version, self.size, self.files.len())
    }
}

impl Ewf {
    /// The table that lists `chunk`, found by following the sections as far as needed.
    ///
    /// Readers that come to the same unknown stretch all follow it; what the first finds is kept.
    fn table(&self, chunk: u64) -> Result<Table> {
        let budget = Budget::request();
        loop {
            let frontier = {
                let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
                let after = known.tables.partition_point(|table| table.first <= chunk);
                let found = after.checked_sub(1).and_then(|index| known.tables.get(index));
                if let Some(table) = found.filter(|table| chunk.saturating_sub(table.first) < table.count) {
                    return Ok(*table);
                }
                known.frontier
            };
            let Some(segment) = self.files.get(frontier.segment) else {
                return Err(self.not_listed(chunk, frontier.chunks));
            };
            let (tables, next) = match self.version {
                Version::First => first::walk(&**segment, frontier, &budget)?,
                Version::Second => second::walk(&**segment, frontier, &budget)?,
            };
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.frontier == frontier {
                if known.tables.len().saturating_add(tables.len()) > MAX_TABLES {
                    return Err(Error::limit(format!("ewf: more than {MAX_TABLES} tables")));
                }
                known.tables.extend(tables);
                known.frontier = next;
            }
        }
    }

    fn not_listed(&self, chunk: u64, listed: u64) -> Error {
        let error = Error::corrupt(At::new("ewf", "chunk").index(chunk));
        match &self.missing {
            Some(name) => error
                .because(format!("lies in a segment that is missing: '{name}'"))
                .help("put all segments into one directory"),
            None => error.because(format!("is in no table; those that are there list {listed} chunks")),
        }
    }

    /// An entry of a table.
    fn entry<const N: usize>(&self, table: &Table, index: u64) -> Result<[u8; N]> {
        let offset = table.entries.saturating_add(index.saturating_mul(wide(N)));
        let start = self.starts.get(table.segment).copied().unwrap_or(0);
        let at = At::new("ewf", "table entry").index(table.first.saturating_add(index));
        // Tables start anywhere, so an entry may lie across two pages.
        let mut entry = [0; N];
        let window = self.pages.window(start.saturating_add(offset), &at)?;
        let here = window.len().min(N);
        for (to, from) in entry.iter_mut().zip(window.iter()) {
            *to = *from;
        }
        if here < N {
            let rest = self.pages.window(start.saturating_add(offset).saturating_add(wide(here)), &at)?;
            for (to, from) in entry.iter_mut().skip(here).zip(rest.iter()) {
                *to = *from;
            }
        }
        Ok(entry)
    }

    fn stored(&self, chunk: u64) -> Result<(usize, Stored)> {
        let table = self.table(chunk)?;
        let index = chunk.saturating_sub(table.first);
        let at = || At::new("ewf", "table entry").index(chunk);
        let stored = match self.version {
            Version::First => {
                let next = index.saturating_add(1);
                let next = if next < table.count { Some(self.entry(&table, next)?) } else { None };
                first::stored(&table, index, self.entry(&table, index)?, next, self.chunk.get())
            }
            Version::Second => second::stored(self.entry(&table, index)?),
        };
        let stored = stored.map_err(|error| error.at(at()))?;
        let end = self.files.get(table.segment).map_or(0, |file| file.len());
        if stored.offset.checked_add(stored.len).is_none_or(|last| last > end) {
            return Err(Error::corrupt(at()).because(format!(
                "points to {} bytes at {:#x}, but the segment ends at {end:#x}: it was cut off, or the table is wrong",
                stored.len, stored.offset
            )));
        }
        Ok((table.segment, stored))
    }

    /// How many bytes of disk a chunk has.
    fn wanted(&self, chunk: u64) -> u64 {
        self.size.saturating_sub(chunk.saturating_mul(self.chunk.get())).min(self.chunk.get())
    }
}

impl Layout for Ewf {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let (unit, skip) = (offset / self.chunk, offset % self.chunk);
        let (file, stored) = self.stored(unit)?;
        let place = match stored.how {
            How::Pattern([0, 0, 0, 0, 0, 0, 0, 0]) => Place::Zero,
            _ => Place::Packed { file, offset: stored.offset, stored: stored.len, unit, skip },
        };
        Ok(Run { len: self.wanted(unit).saturating_sub(skip), place })
    }

    fn outline_at(&self, offset: u64) -> Result<Run> {
        if self.version == Version::Second {
            return self.run_at(offset);
        }
        // The first version has no chunk that is known to be zero: no table needs to be looked at.
        let (unit, skip) = (offset / self.chunk, offset % self.chunk);
        let place = Place::Packed { file: 0, offset: 0, stored: 0, unit, skip };
        Ok(Run { len: self.size.saturating_sub(offset), place })
    }

    fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
        let at = At::new("ewf", "chunk").index(unit);
        let (wanted, whole) = (self.wanted(unit), self.chunk.get());
        match self.stored(unit)?.1.how {
            How::Packed => {
                let plain = match self.method {
                    Method::Zlib if stored.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) => {
                        return Err(
                            Error::unsupported("a chunk packed by zstd (X-Ways Forensics 20.9)").at(at)
                        );
                    }
                    Method::Zlib => unpack::inflate(stored, whole, true, &at)?,
                    Method::Bzip2 => bunzip2(stored, whole, &at)?,
                };
                if wide(plain.len()) < wanted {
                    return Err(
                        Error::corrupt(at).because(format!("unpacks to {} of {wanted} bytes", plain.len()))
                    );
                }
                Ok(plain)
            }
            How::Summed => summed(stored, wanted, whole, at),
            How::Bare => stored.get(..narrow(wanted)).map(<[u8]>::to_vec).ok_or_else(|| {
                Error::corrupt(at).because(format!("{} bytes where {wanted} are needed", stored.len()))
            }),
            How::Pattern(bytes) => Ok(bytes.iter().copied().cycle().take(narrow(whole)).collect()),
        }
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(self.chunk.get()).unwrap_or(u32::MAX)
    }
}

/// A chunk as it is, if the checksum behind it fits. The last one may be stored whole or as long as the disk goes on.
fn summed(stored: &[u8], wanted: u64, whole: u64, at: At) -> Result<Vec<u8>> {
    let fits = |len: usize| {
        let plain = stored.get(..len)?;
        (get_le32(stored, len)? == adler32(plain)).then(|| plain.to_vec())
    };
    let longest = stored.len().saturating_sub(4).min(narrow(whole));
    if wide(longest) < wanted {
        let short = format!("{} bytes where {wanted} and a checksum are needed", stored.len());
        return Err(Error::corrupt(at).because(short));
    }
    fits(longest).or_else(|| fits(narrow(wanted))).ok_or_else(|| {
        Error::corrupt(at)
            .because("its bytes do not fit its checksum")
            .help("the copy is damaged: fetch it again")
    })
}

fn bunzip2(stored: &[u8], most: u64, at: &At) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    bzip2::read::BzDecoder::new(stored)
        .take(most)
        .read_to_end(&mut plain)
        .map_err(|error| Error::corrupt(at.clone()).because(format!("damaged bzip2 stream ({error})")))?;
    Ok(plain)
}

/// Refuses a segment of another number or another set.
fn check_segment(number: u64, expected: u64, set: [u8; 16], expected_set: [u8; 16]) -> Result<()> {
    let at = || At::new("ewf", "file header").byte(0);
    if number != expected {
        return Err(Error::corrupt(at())
            .because(format!("is segment {number}, its name is that of segment {expected}")));
    }
    if set != [0; 16] && expected_set != [0; 16] && set != expected_set {
        return Err(Error::corrupt(at()).because("belongs to another set of segments than the first one"));
    }
    Ok(())
}

/// The sizes that both versions state, checked.
fn sizes(sectors: u64, sector: u64, in_chunk: u64, at: &At) -> Result<(u64, NonZeroU64)> {
    let corrupt = |why: String| Error::corrupt(at.clone()).because(why);
    let chunk = sector.checked_mul(in_chunk).filter(|chunk| *chunk <= MAX_CHUNK).and_then(NonZeroU64::new);
    let chunk = chunk.ok_or_else(|| {
        corrupt(format!("chunks of {in_chunk} sectors of {sector} bytes, at most {MAX_CHUNK}"))
    })?;
    let size = sectors.checked_mul(sector).filter(|size| *size > 0);
    let size = size.ok_or_else(|| corrupt(format!("a disk of {sectors} sectors of {sector} bytes")))?;
    Ok((size, chunk))
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let mut signature = [0; 8];
    let len = narrow(source.len().min(8));
    source.read_at(signature.get_mut(..len).unwrap_or_default(), 0)?;
    let version = match &signature {
        first::SIGNATURE => Version::First,
        second::SIGNATURE => Version::Second,
        _ => {
            let error = "is no EWF: it begins neither with 'EVF' nor with 'EVF2' and their line ends";
            return Err(Error::new(ErrorKind::NotAnImage, error));
        }
    };
    let (about, number) = match version {
        Version::First => first::about(&*source, cx.budget)?,
        Version::Second => second::about(&*source, cx.budget)?,
    };
    if number != 1 {
        let error =
            Error::new(ErrorKind::NotAnImage, format!("is segment {number} of an EWF, not the first"));
        return Err(error.help("open the first: .E01, .Ex01 or .s01"));
    }
    let series = Series::of_ewf(&cx.locator.file_name());
    let files = match &series {
        Some(series) => behind(Arc::clone(&source), series, 0, cx)?.0,
        None => vec![source],
    };
    for (index, file) in files.iter().enumerate().skip(1) {
        let number = wide(index).saturating_add(1);
        let same = match version {
            Version::First => first::belongs(&**file, about.set, number),
            Version::Second => second::belongs(&**file, about.set, number),
        };
        same.map_err(|error| error.context(file.label()))?;
    }
    let last = files.last().expect("the first is there");
    let tail = match version {
        Version::First => first::tail(&**last, cx.budget)?,
        Version::Second => second::tail(&**last, cx.budget)?,
    };
    opened(version, about, tail, files, series.as_ref(), cx)
}

fn opened(
    version: Version,
    about: About,
    tail: Tail,
    files: Vec<Arc<dyn BlockSource>>,
    series: Option<&Series>,
    cx: &OpenCx<'_>,
) -> Result<Opened> {
    let count = files.len();
    let mut warnings = tail.warnings;
    let mut missing = None;
    if tail.has_next {
        let next = series.and_then(|series| series.name(wide(count)));
        let next = next.map_or_else(|| format!("number {}", count.saturating_add(1)), |name| shown(&name));
        warnings.push(format!("segment '{next}' is missing: reading what it holds will fail"));
        missing = Some(next);
    } else if !tail.is_last {
        warnings.push(
            "the last segment does not end as one: it was cut off, or its writer did not finish; reading what is missing \
             will fail"
                .to_owned(),
        );
    }
    if let Some(line) = errors(&tail.errors) {
        warnings.push(line);
    }
    let mut starts = Vec::new();
    let mut start = 0_u64;
    for file in &files {
        starts.push(start);
        start = start.saturating_add(file.len());
    }
    let pages = Pages::new(cx.mapper.map(Joined::new(files.clone())?));
    let (size, chunk, method) = (about.size, about.chunk, about.method);
    let known = RwLock::default();
    let layout = Ewf { version, size, chunk, method, files, pages, starts, known, missing };
    let disk = cx.mapper.map(layout);
    let mut opened = Opened::single(Arc::clone(&disk), FORMAT.name, cx);
    opened.subformat = Some(if version == Version::First { "EWF" } else { "EWF2" }.to_owned());
    opened.facts = about.facts;
    opened.facts.insert(0, ("segments", count.to_string()));
    opened.facts.insert(1, ("chunk size", chunk.to_string()));
    for (algorithm, stated) in [("md5", tail.md5), ("sha1", tail.sha1)] {
        let Some(stated) = stated else { continue };
        opened.facts.push((if algorithm == "md5" { "stored MD5" } else { "stored SHA-1" }, stated.clone()));
        opened.sums.push(StoredSum { of: "disk".to_owned(), algorithm, stated, bytes: Arc::clone(&disk) });
    }
    opened.warnings = warnings;
    Ok(opened)
}

/// The line about sectors that the acquisition could not read.
fn errors(ranges: &[(u64, u64)]) -> Option<String> {
    /// Ranges that are spelled out.
    const SHOWN: usize = 4;
    if ranges.is_empty() {
        return None;
    }
    let sectors = ranges.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    let range = |(first, count): &(u64, u64)| match count {
        1 => first.to_string(),
        _ => format!("{first} to {}", first.saturating_add(*count).saturating_sub(1)),
    };
    let mut list: Vec<String> = ranges.iter().take(SHOWN).map(range).collect();
    if ranges.len() > SHOWN {
        list.push("...".to_owned());
    }
    Some(format!(
        "{sectors} sectors could not be read from the original when it was copied, and are zero here: {}",
        list.join(", ")
    ))
}
