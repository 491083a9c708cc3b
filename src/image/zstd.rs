//! zstd: a wrapper of frames, each unpacked without the others. Read in place if none of them is large.
//!
//! ```text
//! file:   frame, frame, ... │ skippable frames anywhere │ in the seekable format, a seek table as the last of them
//! frame:  magic │ header (window, perhaps the plain length) │ block, block, ... │ perhaps a sum (XXH64)
//! block:  3 bytes: last?, kind, length │ its bytes
//! ```
//! Frames are found by the seek table, or by hopping from block header to block header, which unpacks nothing. `pzstd` and
//! the seekable format write many frames; `zstd` and `zstd -T` write one, which has no way in but its start.
//!
//! Source of the layout: RFC 8878; "Zstandard Seekable Format", version 0.1.0 (zstd, `contrib/seekable_format`).

use super::wrapper::{
    Codec, InOrder, MAX_STORED, MAX_UNIT, Parts, Plain, Units, Wrapper, exactly, in_order, inside, may_pass,
    on_time, pass_budget,
};
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Probe};
use crate::budget::Budget;
use crate::checksum::xxh64;
use crate::engine::Slice;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::read_table;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// The format.
pub const FORMAT: Format = Format {
    name: "zstd",
    aliases: &["zst"],
    about: "a zstd file around any of these: read in place if it is of many frames (pzstd, the seekable format)",
    probe,
    open,
};

const WRAPPER: Wrapper = Wrapper {
    name: FORMAT.name,
    suffixes: &["zst", "zstd"],
    with: "zstd -dk",
    stream: |packed| Box::new(Frames::new(packed)),
};

const MAGIC: u32 = 0xfd2f_b528;
/// Skippable frames: sixteen magic numbers (RFC 8878, 3.1.2).
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;
/// The skippable frame that holds a seek table, and the number its footer ends with.
const TABLE_MAGIC: u32 = 0x184d_2a5e;
const FOOTER_MAGIC: u32 = 0x8f92_eab1;
/// The largest window taken, that of `zstd --long` (2^27); more is by wish of both sides only.
const MAX_WINDOW: u64 = 1 << 27;
/// The most that a block unpacks to (RFC 8878, 3.1.1.2.4).
const MAX_BLOCK: u64 = 128 << 10;
/// Bytes of a seek table: two million frames.
const MAX_TABLE: u64 = 24 << 20;
/// Plain bytes unpacked at a time by who reads in order.
const STEP: usize = 256 << 10;

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    let word = |at| probe.bytes::<4>(at).map(u32::from_le_bytes);
    let first = word(0)?;
    // pzstd puts a skippable frame in front of each of its own.
    let behind = || word(4).and_then(|len| word(usize::try_from(len).ok()?.checked_add(8)?));
    let found = first == MAGIC || SKIPPABLE.contains(&first) && behind() == Some(MAGIC);
    (found && !super::has_trailer(probe)).then_some(Confidence::Signature)
}

/// A frame's header, RFC 8878, 3.1.1.1.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    len: u64,
    plain: Option<u64>,
    summed: bool,
}

impl Header {
    /// The longest one: magic, descriptor, window, dictionary, plain length.
    const MOST: u64 = 4 + 1 + 1 + 4 + 8;

    /// # Errors
    /// `Corrupt` for a damaged one; `Unsupported` when it needs a dictionary; `Limit` for a large window.
    fn parse(bytes: &[u8], at: &At) -> Result<Self> {
        let damaged = || Error::corrupt(at.clone()).because("its header is cut off or damaged");
        let (descriptor, mut rest) = bytes.get(4..).and_then(<[u8]>::split_first).ok_or_else(damaged)?;
        let mut take = |len: usize| -> Result<u64> {
            let (field, after) = rest.split_at_checked(len).ok_or_else(damaged)?;
            rest = after;
            Ok(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        };
        if descriptor & 8 != 0 {
            return Err(
                Error::unsupported(format!("a zstd frame descriptor {descriptor:#04x}")).at(at.clone())
            );
        }
        let single = descriptor & 0x20 != 0;
        let window = if single { None } else { Some(take(1)?) };
        let dictionary = take(match descriptor & 3 {
            3 => 4,
            len => usize::from(len),
        })?;
        if dictionary != 0 {
            let what = format!("a zstd frame that needs the dictionary {dictionary}");
            return Err(Error::unsupported(what).at(at.clone()));
        }
        let plain = match (descriptor >> 6, single) {
            (0, false) => None,
            (0, true) => Some(take(1)?),
            (1, _) => Some(take(2)?.saturating_add(256)),
            (2, _) => Some(take(4)?),
            _ => Some(take(8)?),
        };
        // 3.1.1.1.2: a power of two and eighths of it. A single segment's window is all of it.
        let window = window.map_or(plain.unwrap_or(0), |byte| {
            let base = 1_u64
                .checked_shl(u32::try_from(byte >> 3).unwrap_or(0).saturating_add(10))
                .unwrap_or(u64::MAX);
            base.saturating_add((base / 8).saturating_mul(byte & 7))
        });
        if window > MAX_WINDOW {
            return Err(Error::limit(format!(
                "a zstd window of {window} bytes, at most {MAX_WINDOW} are accepted"
            ))
            .at(at.clone()));
        }
        let len = wide(bytes.len().saturating_sub(rest.len()));
        Ok(Self { len, plain, summed: descriptor & 4 != 0 })
    }
}

/// A frame as hopping over it tells.
#[derive(Debug)]
struct Frame {
    offset: u64,
    stored: u64,
    /// What its header says, if it does.
    plain: Option<u64>,
    /// What its blocks unpack to at the most.
    most: u64,
}

fn at_frame(number: usize, offset: u64) -> At {
    At::new("zstd", "frame").index(wide(number)).byte(offset)
}

/// The little-endian number of `len` bytes at `at`.
fn word(source: &dyn BlockSource, at: u64, len: usize, place: &At) -> Result<u64> {
    let mut bytes = [0; 8];
    let part = bytes.get_mut(..len).unwrap_or_default();
    if at.checked_add(wide(len)).is_none_or(|end| end > source.len()) {
        return Err(Error::corrupt(place.clone()).because("the file ends within it: it was cut off"));
    }
    source.read_at(part, at)?;
    Ok(u64::from_le_bytes(bytes))
}

/// All frames with content, found by hopping from block to block.
fn frames(source: &dyn BlockSource, cx: &OpenCx<'_>) -> Result<Vec<Frame>> {
    let mut found = Vec::new();
    let mut at = 0_u64;
    while at < source.len() {
        cx.budget.step("zstd frames")?;
        let place = at_frame(found.len(), at);
        let magic = u32::try_from(word(source, at, 4, &place)?).unwrap_or(0);
        if SKIPPABLE.contains(&magic) {
            let len = word(source, at.saturating_add(4), 4, &place)?;
            at = at.saturating_add(8).saturating_add(len);
            continue;
        }
        if magic != MAGIC {
            return Err(Error::corrupt(place).because("does not begin with the magic of a frame"));
        }
        let frame = hop(source, at, &place, cx)?;
        at = at.saturating_add(frame.stored);
        found.push(frame);
    }
    if at > source.len() {
        let at = At::new("zstd", "skippable frame");
        return Err(Error::corrupt(at).because("goes on behind the end of the file: it was cut off"));
    }
    Ok(found)
}

fn hop(source: &dyn BlockSource, offset: u64, place: &At, cx: &OpenCx<'_>) -> Result<Frame> {
    let mut bytes = [0; 18];
    let len = narrow(Header::MOST.min(source.len().saturating_sub(offset)));
    let part = bytes.get_mut(..len).unwrap_or_default();
    source.read_at(part, offset)?;
    let header = Header::parse(part, place)?;
    let (mut at, mut most) = (offset.saturating_add(header.len), 0_u64);
    loop {
        cx.budget.step("zstd blocks")?;
        let block = word(source, at, 3, place)?;
        let size = block >> 3;
        // 3.1.1.2: raw, one byte repeated, packed, reserved.
        let (stored, plain) = match (block >> 1) & 3 {
            0 => (size, size),
            1 => (1, size),
            2 => (size, MAX_BLOCK),
            _ => return Err(Error::corrupt(place.clone()).because("a block of the reserved kind")),
        };
        at = at.saturating_add(3).saturating_add(stored);
        most = most.saturating_add(plain);
        if block & 1 == 1 {
            break;
        }
    }
    let end = if header.summed { at.saturating_add(4) } else { at };
    if end > source.len() {
        return Err(Error::corrupt(place.clone()).because("the file ends within it: it was cut off"));
    }
    Ok(Frame { offset, stored: end.saturating_sub(offset), plain: header.plain, most })
}

/// The frames that a seek table lists, with their sums; `None` if there is none that fits the file.
fn table(source: &dyn BlockSource, cx: &OpenCx<'_>) -> Result<Option<(Vec<Frame>, Vec<u32>)>> {
    let Some(footer_at) = source.len().checked_sub(9) else { return Ok(None) };
    let mut footer = [0; 9];
    source.read_at(&mut footer, footer_at)?;
    let [a, b, c, d, descriptor, e, f, g, h] = footer;
    // Two unused and five reserved bits; those must be zero.
    if u32::from_le_bytes([e, f, g, h]) != FOOTER_MAGIC || descriptor & 0x7c != 0 {
        return Ok(None);
    }
    let summed = descriptor & 0x80 != 0;
    let entry = if summed { 12 } else { 8 };
    let len = u64::from(u32::from_le_bytes([a, b, c, d])).saturating_mul(entry);
    let Some(start) = footer_at.checked_sub(len).and_then(|at| at.checked_sub(8)) else { return Ok(None) };
    let at = At::new("zstd", "seek table").byte(start);
    let stated = len.saturating_add(9);
    if word(source, start, 4, &at)? != u64::from(TABLE_MAGIC)
        || word(source, start.saturating_add(4), 4, &at)? != stated
    {
        return Ok(None);
    }
    let bytes = read_table(
        source,
        start.saturating_add(8),
        len,
        MAX_TABLE,
        At::new("zstd", "seek table"),
        cx.budget,
    )?;
    let (mut found, mut sums, mut offset) = (Vec::new(), Vec::new(), 0_u64);
    for entry in bytes.chunks_exact(narrow(entry)) {
        cx.budget.step("zstd frames")?;
        let field = |n: usize| entry.as_chunks::<4>().0.get(n).map_or(0, |four| u32::from_le_bytes(*four));
        let (stored, plain) = (u64::from(field(0)), u64::from(field(1)));
        if plain > 0 {
            found.push(Frame { offset, stored, plain: Some(plain), most: plain });
            if summed {
                sums.push(field(2));
            }
        }
        offset = offset.saturating_add(stored);
    }
    cx.budget.release(bytes.len());
    Ok((offset == start).then_some((found, sums)))
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    inside(&WRAPPER, plain(source, cx)?, cx)
}

fn plain(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Plain> {
    let seekable = table(&*source, cx)?;
    let by_table = seekable.is_some();
    let (frames, sums) = match seekable {
        Some(found) => found,
        None if may_pass(&*source, cx) => (frames(&*source, cx)?, Vec::new()),
        // Of a remote file the first header may tell the length of all, if it has one frame; the decoder sees to it.
        None => {
            let why = "it has no seek table, and its frames are found only by going through all of it";
            return in_order(&WRAPPER, source, None, why, cx);
        }
    };
    let fits = |frame: &Frame| frame.plain.unwrap_or(frame.most) <= MAX_UNIT && frame.stored <= MAX_STORED;
    if !frames.iter().all(fits) {
        let len = frames.iter().try_fold(0_u64, |sum, frame| sum.checked_add(frame.plain?));
        let why = match frames.len() {
            1 => format!("it is a single frame of more than {} MiB", MAX_UNIT >> 20),
            many => format!("of its {many} frames the largest is of more than {} MiB", MAX_UNIT >> 20),
        };
        return in_order(&WRAPPER, source, len, &why, cx);
    }
    let budget = pass_budget(&*source);
    let mut units = Units::default();
    for (number, frame) in frames.iter().enumerate() {
        let plain = match frame.plain {
            Some(plain) => plain,
            None => measure(&source, number, frame, &budget)?,
        };
        units.push(frame.offset, frame.stored, plain, false)?;
    }
    let by = if by_table { "by its seek table" } else { "in place" };
    let how =
        format!("zstd, read {by} ({} {})", frames.len(), if frames.len() == 1 { "frame" } else { "frames" });
    let bytes = cx.mapper.map(Parts::new(source, units, OneFrame { sums }));
    Ok(Plain { bytes, how, warnings: Vec::new() })
}

/// Unpacks a frame that does not say its plain length, to learn it.
fn measure(source: &Arc<dyn BlockSource>, number: usize, frame: &Frame, budget: &Budget) -> Result<u64> {
    let part: Arc<dyn BlockSource> = Arc::new(Slice::new(Arc::clone(source), frame.offset, frame.stored)?);
    let mut stream = Frames::new(InOrder::buffered(&part));
    let (mut buf, mut len) = (vec![0; STEP], 0_u64);
    loop {
        on_time(budget, WRAPPER.name)?;
        let read = stream.read(&mut buf);
        match read.map_err(|error| super::wrapper::damage(error, &at_frame(number, frame.offset)))? {
            0 => return Ok(len),
            got => len = len.saturating_add(wide(got)),
        }
    }
}

/// Unpacks frames.
#[derive(Debug)]
struct OneFrame {
    /// The sums of the seek table, one a frame, if it has them.
    sums: Vec<u32>,
}

impl Codec for OneFrame {
    fn unpack(&self, stored: &[u8], number: usize, len: u64) -> Result<Vec<u8>> {
        let at = At::new("zstd", "frame").index(wide(number));
        let plain = exactly(Frames::new(stored), len, &at)?;
        match self.sums.get(number) {
            // The table has the low half (seekable format, "Checksum").
            Some(stated) if u64::from(*stated) != xxh64(&plain) & 0xffff_ffff => {
                Err(Error::corrupt(at).because("its sum is not that of the seek table"))
            }
            _ => Ok(plain),
        }
    }
}

/// The frames of a stream, one behind the other, sums checked.
struct Frames<R> {
    input: BufReader<R>,
    decoder: DCtx<'static>,
    /// A frame has been begun and not ended.
    inside: bool,
    number: u64,
}

impl<R: Read> Frames<R> {
    fn new(input: R) -> Self {
        let mut decoder = DCtx::create();
        // The library's own default, but for 32-bit hosts; more than this is refused before any memory is taken.
        let set = decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW.ilog2()));
        debug_assert!(set.is_ok());
        Self { input: BufReader::with_capacity(STEP, input), decoder, inside: false, number: 0 }
    }

    fn place(&self) -> At {
        At::new("zstd", "frame").index(self.number.saturating_sub(1))
    }

    /// What the decoder met.
    fn told(&self, code: usize) -> Error {
        let name = zstd_safe::get_error_name(code);
        Error::corrupt(self.place())
            .because(format!("damaged ({name})"))
            .help("the file was damaged on its way: compare its checksum with the original's")
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let packed = self.input.fill_buf()?;
            if packed.is_empty() && !self.inside {
                return Ok(0);
            }
            let at_end = packed.is_empty();
            let mut input = InBuffer::around(packed);
            let mut output = OutBuffer::around(&mut *buf);
            let done = self.decoder.decompress_stream(&mut output, &mut input);
            let (taken, made) = (input.pos(), output.pos());
            let left = done.map_err(|code| self.told(code).into_io())?;
            self.input.consume(taken);
            self.number = self.number.saturating_add(u64::from(!self.inside));
            // The library says how much it still wants, 0 when a frame has ended and all of it was handed out.
            self.inside = left != 0;
            if made > 0 {
                return Ok(made);
            }
            if at_end && self.inside {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn header(bytes: &[u8]) -> Result<Header> {
        let bytes = [MAGIC.to_le_bytes().as_slice(), bytes, &[0; 16]].concat();
        Header::parse(&bytes, &At::new("zstd", "frame"))
    }

    /// The fields of RFC 8878, 3.1.1.1, each width once.
    #[test]
    fn a_header_has_its_length_by_its_flags() {
        let is = |len, plain, summed| Header { len, plain, summed };
        assert_eq!(header(&[0x00, 0x58]).unwrap(), is(6, None, false));
        assert_eq!(header(&[0x24, 200]).unwrap(), is(6, Some(200), true));
        assert_eq!(header(&[0x60, 0, 1]).unwrap(), is(7, Some(512), false));
        assert_eq!(header(&[0x80, 0x58, 0, 0, 1, 0]).unwrap(), is(10, Some(65536), false));
        assert_eq!(header(&[0xc0, 0x58, 0, 0, 0, 0, 1, 0, 0, 0]).unwrap(), is(14, Some(1 << 32), false));
    }

    #[test]
    fn dictionaries_and_large_windows_are_refused_by_their_number() {
        let error = header(&[0x01, 0x58, 77]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("dictionary 77"), "{error}");
        assert_eq!(header(&[0x00, 18 << 3]).unwrap_err().kind(), ErrorKind::Limit);
        assert!(header(&[0x00, 17 << 3]).is_ok());
    }
}
