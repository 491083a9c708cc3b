//! xz: a wrapper of streams, each of blocks with an index behind them. Read in place by its index.
//!
//! ```text
//! file:    stream, zeros (padding), stream, ...          read from its end towards its start
//! stream:  header 12 │ block, block, ... │ index │ footer 12, which says how long the index is
//! block:   header (filters) │ LZMA2 data │ zeros to a multiple of 4 │ sum of the plain bytes
//! index:   number of blocks │ for each: its length without padding, and its plain length │ CRC-32
//! ```
//! `xz -T` writes blocks of three times the dictionary (24 MiB by default), and `--block-size` what it is told; those are
//! units. What one thread of an older xz wrote is a single block: small it is one unit, large it cannot be read in place,
//! because the state of LZMA is all of its dictionary.
//!
//! Source of the layout: "The .xz File Format", version 1.2.1; sections are cited.

use super::wrapper::{Codec, MAX_STORED, MAX_UNIT, Parts, Plain, Units, Wrapper, exactly, in_order, inside};
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Probe};
use crate::checksum::crc64;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{read_struct, read_table};
use lzma_rust2::filter::{bcj::BcjReader, delta::DeltaReader};
use lzma_rust2::{Lzma2Reader, XzReader};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::sync::Arc;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format.
pub const FORMAT: Format = Format {
    name: "xz",
    aliases: &[],
    about: "an xz file around any of these: read in place if it was written in blocks (xz -T0 does)",
    probe,
    open,
};

const WRAPPER: Wrapper = Wrapper {
    name: FORMAT.name,
    suffixes: &["xz"],
    with: "xz -dk",
    stream: |packed| Box::new(XzReader::new_mem_limit(packed, true, MAX_MEMORY)),
};

const MAGIC: &[u8; 6] = b"\xfd7zXZ\0";
/// The index of a stream, at most: a million blocks of 24 MiB.
const MAX_INDEX: u64 = 16 << 20;
/// Streams of a file.
const MAX_STREAMS: usize = 1 << 16;
/// Memory of a decoder in KiB, for streams that are unpacked in order: `xz -9` needs 65 MiB, the largest dictionary 1.5 GiB.
const MAX_MEMORY: u32 = 256 << 10;
/// The largest block header (section 3.1.1).
const MAX_HEADER: usize = 1024;

/// Stream header, section 2.1.1.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct StreamHeader {
    magic: [u8; 6], // 0x00 fd "7zXZ" 00
    flags: [u8; 2], // 0x06 zero; the check's number
    crc: U32,       // 0x08 of the flags
}
const _: () = assert!(size_of::<StreamHeader>() == 12);

/// Stream footer, section 2.1.2.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct StreamFooter {
    crc: U32,           // 0x00 of the next two
    backward_size: U32, // 0x04 length of the index, in 4 bytes, less one
    flags: [u8; 2],     // 0x08 as in the header
    magic: [u8; 2],     // 0x0a "YZ"
}
const _: () = assert!(size_of::<StreamFooter>() == 12);

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    (probe.has(0, MAGIC) && !super::has_trailer(probe)).then_some(Confidence::Signature)
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}

/// What a stream's blocks are summed with, section 2.1.1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    None,
    Crc32,
    Crc64,
    Sha256,
}

impl Check {
    fn parse(flags: [u8; 2], at: &At) -> Result<Self> {
        match flags {
            [0, 0] => Ok(Self::None),
            [0, 1] => Ok(Self::Crc32),
            [0, 4] => Ok(Self::Crc64),
            [0, 10] => Ok(Self::Sha256),
            [0, other] if other < 16 => {
                Err(Error::unsupported(format!("the xz check {other:#x}")).at(at.clone()))
            }
            [a, b] => Err(Error::unsupported(format!("xz stream flags {a:#04x} {b:#04x}")).at(at.clone())),
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Crc32 => 4,
            Self::Crc64 => 8,
            Self::Sha256 => 32,
        }
    }

    fn of(self, plain: &[u8]) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Crc32 => crc32(plain).to_le_bytes().to_vec(),
            Self::Crc64 => crc64(plain).to_le_bytes().to_vec(),
            Self::Sha256 => Sha256::digest(plain).to_vec(),
        }
    }
}

/// A number of section 1.2: seven bits a byte, the lowest first, at most nine bytes.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            // A number is written as short as it can be.
            return (*byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

/// One stream, as its index tells.
#[derive(Debug)]
struct Stream {
    start: u64,
    check: Check,
    /// Length without padding and plain length of each block.
    blocks: Vec<(u64, u64)>,
}

impl Stream {
    /// The stream that ends at byte `end`.
    ///
    /// # Errors
    /// `Corrupt` where header, index and footer contradict each other; `Unsupported` for a check we do not know.
    fn load(source: &dyn BlockSource, end: u64, cx: &OpenCx<'_>) -> Result<Self> {
        let footer_at = end.checked_sub(12);
        let at = At::new("xz", "stream footer").byte(footer_at.unwrap_or(0));
        let Some(footer_at) = footer_at else {
            return Err(Error::corrupt(at).because("the file is too short for one"));
        };
        let footer: StreamFooter = read_struct(source, footer_at, At::new("xz", "stream footer"))?;
        if footer.magic != *b"YZ" {
            return Err(
                Error::corrupt(at).because("there is none: the file was cut off, or something follows it")
            );
        }
        if crc32(footer.as_bytes().get(4..10).unwrap_or_default()) != footer.crc.get() {
            return Err(Error::corrupt(at).because("its CRC-32 is wrong"));
        }
        let check = Check::parse(footer.flags, &at)?;
        let index_len = u64::from(footer.backward_size.get()).saturating_add(1).saturating_mul(4);
        let Some(index_at) = footer_at.checked_sub(index_len) else {
            return Err(
                Error::corrupt(at).because(format!("names an index of {index_len} bytes before the file"))
            );
        };
        let place = At::new("xz", "index").byte(index_at);
        let index = read_table(source, index_at, index_len, MAX_INDEX, At::new("xz", "index"), cx.budget)?;
        let blocks = index_of(&index, &place, cx)?;
        cx.budget.release(index.len());
        let packed =
            blocks.iter().try_fold(0_u64, |sum, (len, _)| sum.checked_add(len.checked_next_multiple_of(4)?));
        let start = packed.and_then(|packed| index_at.checked_sub(packed)?.checked_sub(12));
        let Some(start) = start else {
            return Err(Error::corrupt(place).because("its blocks are longer than what lies before it"));
        };
        let at = At::new("xz", "stream header").byte(start);
        let header: StreamHeader = read_struct(source, start, At::new("xz", "stream header"))?;
        if header.magic != *MAGIC || header.flags != footer.flags || crc32(&header.flags) != header.crc.get()
        {
            return Err(Error::corrupt(at).because("is not that of the footer behind it"));
        }
        Ok(Self { start, check, blocks })
    }
}

/// Section 4.
fn index_of(bytes: &[u8], at: &At, cx: &OpenCx<'_>) -> Result<Vec<(u64, u64)>> {
    let corrupt = |why: &str| Error::corrupt(at.clone()).because(why);
    let Some((body, stated)) = bytes.split_last_chunk::<4>() else { return Err(corrupt("too short")) };
    if crc32(body) != u32::from_le_bytes(*stated) {
        return Err(corrupt("its CRC-32 is wrong"));
    }
    let Some((0, mut rest)) = body.split_first().map(|(first, rest)| (*first, rest)) else {
        return Err(corrupt("does not begin with a zero"));
    };
    let count = number(&mut rest).ok_or_else(|| corrupt("no number of blocks"))?;
    // A record takes two bytes at least.
    if count > wide(rest.len() / 2) {
        return Err(corrupt("more blocks than it has room for"));
    }
    let mut blocks = Vec::with_capacity(narrow(count));
    for _ in 0..count {
        cx.budget.step("xz blocks")?;
        match (number(&mut rest), number(&mut rest)) {
            (Some(len), Some(plain)) if len >= 5 => blocks.push((len, plain)),
            _ => return Err(corrupt("a damaged record")),
        }
    }
    if rest.len() > 3 || rest.iter().any(|byte| *byte != 0) {
        return Err(corrupt("something follows its last record"));
    }
    Ok(blocks)
}

/// All streams, the first first.
fn streams(source: &dyn BlockSource, cx: &OpenCx<'_>) -> Result<Vec<Stream>> {
    let mut found: Vec<Stream> = Vec::new();
    let mut end = source.len();
    loop {
        // Zeros in fours behind a stream, section 2.2.
        while let Some(at) = end.checked_sub(4).filter(|_| end.is_multiple_of(4)) {
            let mut four = [0; 4];
            source.read_at(&mut four, at)?;
            if four != [0; 4] {
                break;
            }
            cx.budget.step("xz padding")?;
            end = at;
        }
        let stream = Stream::load(source, end, cx)?;
        end = stream.start;
        found.push(stream);
        if end == 0 {
            found.reverse();
            return Ok(found);
        }
        if found.len() >= MAX_STREAMS {
            return Err(Error::limit(format!("more than {MAX_STREAMS} xz streams")));
        }
    }
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let streams = streams(&*source, cx)?;
    let (mut units, mut checks) = (Units::default(), Vec::new());
    let (mut plain_len, mut largest) = (Some(0_u64), 0);
    for stream in &streams {
        checks.push((units.count(), stream.check));
        let mut at = stream.start.saturating_add(12);
        for (len, plain) in &stream.blocks {
            let stored = len.next_multiple_of(4);
            units.push(at, stored, *plain, false)?;
            at = at.saturating_add(stored);
            largest = largest.max(*plain).max(if stored > MAX_STORED { u64::MAX } else { 0 });
            plain_len = plain_len.and_then(|sum| sum.checked_add(*plain));
        }
    }
    let plain = if largest > MAX_UNIT {
        let count = units.count();
        let why = format!(
            "it is of {count} {}, the largest of more than {} MiB",
            if count == 1 { "block" } else { "blocks" },
            MAX_UNIT >> 20
        );
        in_order(&WRAPPER, source, plain_len, &why, cx)?
    } else {
        let how = format!("xz, read in place ({} blocks in {} streams)", units.count(), streams.len());
        let bytes = cx.mapper.map(Parts::new(source, units, Blocks { checks }));
        Plain { bytes, how, warnings: Vec::new() }
    };
    inside(&WRAPPER, plain, cx)
}

/// Unpacks blocks.
#[derive(Debug)]
struct Blocks {
    /// The first unit of each stream, and its check.
    checks: Vec<(usize, Check)>,
}

impl Codec for Blocks {
    fn unpack(&self, stored: &[u8], unit: usize, len: u64) -> Result<Vec<u8>> {
        let at = At::new("xz", "block").index(wide(unit));
        let corrupt = |why: &str| Error::corrupt(at.clone()).because(why);
        let stream = self.checks.partition_point(|(first, _)| *first <= unit).saturating_sub(1);
        let check = self.checks.get(stream).map_or(Check::None, |(_, check)| *check);
        let header = Header::parse(stored, &at)?;
        if header.plain.is_some_and(|plain| plain != len) {
            return Err(corrupt("its header has another plain length than the index"));
        }
        let (packed, stated) = stored.split_at(stored.len().saturating_sub(check.len()));
        let packed = packed.get(header.len..).ok_or_else(|| corrupt("shorter than its header"))?;
        let plain = exactly(header.chain(packed, len, &at)?, len, &at)?;
        if check.of(&plain) != stated {
            return Err(corrupt(&format!("its {check:?} sum is wrong"))
                .help("the file was damaged on its way: compare its checksum with the original's"));
        }
        Ok(plain)
    }
}

/// A filter of a block, section 5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    Delta(usize),
    /// Branches of machine code made absolute: the filter's number, and the offset that counting starts from.
    Branches(u64, usize),
    Lzma2(u32),
}

/// A block's header, section 3.1.
#[derive(Debug)]
struct Header {
    len: usize,
    plain: Option<u64>,
    filters: Vec<Filter>,
}

impl Header {
    /// # Errors
    /// `Corrupt` when it contradicts itself; `Unsupported` for filters we do not have.
    fn parse(block: &[u8], at: &At) -> Result<Self> {
        let corrupt = |why: &str| Error::corrupt(at.clone()).because(why);
        let size =
            block.first().copied().filter(|size| *size != 0).ok_or_else(|| corrupt("no block is here"))?;
        let len = usize::from(size).saturating_add(1).saturating_mul(4).min(MAX_HEADER);
        let whole = block.get(..len).and_then(<[u8]>::split_last_chunk::<4>);
        let Some((body, stated)) = whole else { return Err(corrupt("shorter than its header")) };
        if crc32(body) != u32::from_le_bytes(*stated) {
            return Err(corrupt("its header's CRC-32 is wrong"));
        }
        let Some((flags, mut rest)) = body.get(1..).and_then(<[u8]>::split_first) else {
            return Err(corrupt("its header is too short"));
        };
        if flags & 0x3c != 0 {
            return Err(Error::unsupported(format!("an xz block with flags {flags:#04x}")).at(at.clone()));
        }
        let damaged = || corrupt("its header is damaged");
        if flags & 0x40 != 0 {
            number(&mut rest).ok_or_else(damaged)?;
        }
        let plain = if flags & 0x80 == 0 { None } else { Some(number(&mut rest).ok_or_else(damaged)?) };
        let mut filters = Vec::new();
        for _ in 0..=(flags & 3) {
            let id = number(&mut rest).ok_or_else(damaged)?;
            let size = number(&mut rest).ok_or_else(damaged)?;
            let (properties, after) = rest.split_at_checked(narrow(size)).ok_or_else(damaged)?;
            rest = after;
            filters.push(filter(id, properties, at)?);
        }
        let lzma2 = |filter: &Filter| matches!(filter, Filter::Lzma2(_));
        let (last, before) = filters.split_last().ok_or_else(damaged)?;
        if !lzma2(last) || before.iter().any(lzma2) {
            return Err(corrupt("LZMA2 is not its last filter"));
        }
        Ok(Self { len, plain, filters })
    }

    /// The plain bytes of `packed`, which are `len`.
    fn chain<'a>(&self, packed: &'a [u8], len: u64, at: &At) -> Result<Box<dyn Read + 'a>> {
        let mut stream: Box<dyn Read + 'a> = Box::new(packed);
        for filter in self.filters.iter().rev() {
            stream = match *filter {
                // A dictionary larger than all that is unpacked is never filled.
                Filter::Lzma2(dictionary) => {
                    let most = u32::try_from(len.next_power_of_two()).unwrap_or(u32::MAX);
                    Box::new(Lzma2Reader::new(stream, dictionary.min(most).max(4096), None))
                }
                Filter::Delta(distance) => Box::new(DeltaReader::new(stream, distance)),
                Filter::Branches(4, start) => Box::new(BcjReader::new_x86(stream, start)),
                Filter::Branches(5, start) => Box::new(BcjReader::new_ppc(stream, start)),
                Filter::Branches(6, start) => Box::new(BcjReader::new_ia64(stream, start)),
                Filter::Branches(7, start) => Box::new(BcjReader::new_arm(stream, start)),
                Filter::Branches(8, start) => Box::new(BcjReader::new_arm_thumb(stream, start)),
                Filter::Branches(9, start) => Box::new(BcjReader::new_sparc(stream, start)),
                Filter::Branches(10, start) => Box::new(BcjReader::new_arm64(stream, start)),
                Filter::Branches(11, start) => Box::new(BcjReader::new_riscv(stream, start)),
                Filter::Branches(other, _) => return Err(unknown(other, at)),
            };
        }
        Ok(stream)
    }
}

fn unknown(id: u64, at: &At) -> Error {
    Error::unsupported(format!("the xz filter {id:#x}")).at(at.clone())
}

fn filter(id: u64, properties: &[u8], at: &At) -> Result<Filter> {
    let damaged =
        || Error::corrupt(at.clone()).because(format!("the properties of its filter {id:#x} are damaged"));
    match (id, properties) {
        (3, [distance]) => Ok(Filter::Delta(usize::from(*distance).saturating_add(1))),
        (4..=11, []) => Ok(Filter::Branches(id, 0)),
        (4..=11, [a, b, c, d]) => {
            // Counting starts at a whole instruction (section 5.3.2, table of alignments).
            let alignment = match id {
                5 | 7 | 9 | 10 => 4,
                6 => 16,
                8 | 11 => 2,
                _ => 1,
            };
            let start = narrow(u32::from_le_bytes([*a, *b, *c, *d]).into());
            if start.is_multiple_of(alignment) { Ok(Filter::Branches(id, start)) } else { Err(damaged()) }
        }
        // Section 5.3.1: two or three times a power of two, and 40 for 4 GiB less one byte.
        (0x21, [40]) => Ok(Filter::Lzma2(u32::MAX)),
        (0x21, [bits]) if *bits < 40 => {
            let two_or_three = 2 | u32::from(bits & 1);
            two_or_three
                .checked_shl(u32::from(bits / 2).saturating_add(11))
                .map(Filter::Lzma2)
                .ok_or_else(damaged)
        }
        (3..=11 | 0x21, _) => Err(damaged()),
        _ => Err(unknown(id, at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_can_be_and_end_after_nine_bytes() {
        let of = |mut bytes: &[u8]| number(&mut bytes);
        assert_eq!((of(&[0]), of(&[0x7f]), of(&[0x80, 1])), (Some(0), Some(127), Some(128)));
        assert_eq!(of(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), Some(u64::MAX >> 1));
        assert_eq!((of(&[0x80, 0]), of(&[0x80]), of(&[0xff; 10])), (None, None, None));
    }

    #[test]
    fn a_dictionary_is_two_or_three_times_a_power_of_two() {
        let at = At::new("xz", "block");
        assert_eq!(filter(0x21, &[0], &at).unwrap(), Filter::Lzma2(4096));
        assert_eq!(filter(0x21, &[22], &at).unwrap(), Filter::Lzma2(8 << 20));
        assert_eq!(filter(0x21, &[39], &at).unwrap(), Filter::Lzma2(3 << 30));
        assert!(filter(0x21, &[41], &at).is_err());
    }

    #[test]
    fn a_filter_we_do_not_have_is_named() {
        let error = filter(0x7f, &[], &At::new("xz", "block")).unwrap_err();
        assert_eq!(error.to_string(), "xz: block: the xz filter 0x7f is not supported");
    }
}
