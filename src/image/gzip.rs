//! gzip: a wrapper of members, each a header, a deflate stream and a sum. Read in place.
//!
//! ```text
//! member: header (name, comment, extra field) │ deflate stream │ CRC-32 │ length mod 2^32
//! file:   member, member, ...  then perhaps zeros (a tape's padding) or what gzip ignores as garbage
//! ```
//! Nothing in the file says where a plain byte lies, nor how many there are: the length at the end is that of the last
//! member, modulo 2^32. So the file is gone through once, its sums are checked, and [`checkpoint`]s are kept. Only
//! `bgzip`'s files need no such pass: each of their members is at most 64 KiB long and says so in its header (BGZF, SAM
//! specification, section 4.1).
//!
//! Source of the layout: RFC 1952.
//!
//! [`checkpoint`]: super::checkpoint

use super::checkpoint::{Checkpoints, Finder, Inflater, Stop, enter};
use super::wrapper::{
    Codec, InOrder, Parts, Plain, Units, Wrapper, exactly, in_order, inside, may_pass, on_time, pass_budget,
    too_dear, without_suffix,
};
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Probe};
use crate::error::{At, Error, Result};
use crate::locator::Found;
use crate::num::{narrow, wide};
use flate2::Crc;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

/// The format.
pub const FORMAT: Format = Format {
    name: "gzip",
    aliases: &["gz"],
    about: "a gzip file around any of these: read in place after one pass over it, bgzip's without",
    probe,
    open,
};

const WRAPPER: Wrapper = Wrapper {
    name: FORMAT.name,
    suffixes: &["gz", "gzip", "bgz"],
    with: "gzip -dk",
    stream: |packed| Box::new(Members::new(BufReader::with_capacity(256 << 10, packed), false)),
};

const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Compression method 8 is deflate; there is no other (section 2.3.1).
const DEFLATE: u8 = 8;
/// Flags of a header (section 2.3.1).
const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;
/// The longest name or comment: paths end at 4096 bytes, and nobody writes novels into a comment.
const MAX_TEXT: usize = 64 << 10;
/// A member of bgzip: its header as it always is, the longest plain text, and the plain bytes put together into a unit.
const BGZF_HEADER: usize = 18;
const BGZF_MAX: u64 = 64 << 10;
const BGZF_UNIT: u64 = 1 << 20;

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    let [a, b, method, flags] = probe.bytes::<4>(0)?;
    let found = [a, b] == MAGIC && method == DEFLATE && flags & RESERVED == 0;
    (found && !super::has_trailer(probe)).then_some(Confidence::Signature)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    inside(&WRAPPER, plain(source, cx)?, cx)
}

/// What a gzip file holds, for those who were told that it is one; and how it is read, with warnings.
///
/// # Errors
/// When it is none, is damaged, or costs too much.
pub(super) fn unpacked(packed: Found, cx: &OpenCx<'_>) -> Result<(Found, (String, Vec<String>))> {
    let plain = plain(packed.source, &cx.below(&packed.locator))?;
    let locator = without_suffix(&packed.locator, WRAPPER.suffixes);
    Ok((Found { source: plain.bytes, locator }, (plain.how, plain.warnings)))
}

/// The plain bytes.
fn plain(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Plain> {
    if !may_pass(&*source, cx) {
        let why = "where its bytes lie is known only after going through all of it";
        return Err(too_dear(WRAPPER.name, WRAPPER.with, &*source, None, why, cx));
    }
    if let Some(units) = bgzf(&*source, cx)? {
        let how = format!("gzip, read in place (bgzip, {} parts)", units.count());
        let bytes = cx.mapper.map(Parts::new(source, units, Bgzf));
        return Ok(Plain { bytes, how, warnings: Vec::new() });
    }
    let (found, members, warnings) = index(&source)?;
    let Some(found) = found else {
        return in_order(&WRAPPER, source, None, "its deflate stream has blocks of more than 64 MiB", cx);
    };
    let mut units = Units::default();
    for (number, point) in found.points.iter().enumerate() {
        let (stored, plain) = found.span(number);
        units.push(stored.start, stored.end.saturating_sub(stored.start), plain, point.zero)?;
    }
    let len = source.len();
    let how = format!(
        "gzip ({members} {}), read in place by an index of {} checkpoints; reading all {} bytes once made it",
        if members == 1 { "member" } else { "members" },
        found.points.len(),
        len
    );
    let bytes = cx.mapper.map(Parts::new(source, units, Indexed(found)));
    Ok(Plain { bytes, how, warnings })
}

/// Goes through all of the file: its checkpoints (`None` if some lie too far apart), the number of members, warnings.
fn index(source: &Arc<dyn BlockSource>) -> Result<(Option<Checkpoints>, u64, Vec<String>)> {
    let budget = pass_budget(&**source);
    let mut members = Members::new(InOrder::buffered(source), true);
    let mut finder = Finder::new(0);
    tracing::info!("gzip: reading all {} bytes once to find their places", source.len());
    loop {
        on_time(&budget, WRAPPER.name)?;
        let event = members.next()?;
        finder.saw(members.plain());
        match event {
            Event::More => {}
            Event::Block if finder.is_due() => finder.cut(members.bit(), Some(&members.inflater.window()))?,
            Event::Member if finder.is_due() => finder.cut(members.bit(), None)?,
            Event::Block | Event::Member => {}
            Event::End => break,
        }
    }
    let garbage = members.garbage.then(|| {
        format!("what follows the last gzip member at byte {:#x} is not gzip and was left out", members.at)
    });
    Ok((finder.finish(members.at), members.number, garbage.into_iter().collect()))
}

/// The parts of a file that bgzip wrote; `None` if it is another's.
fn bgzf(source: &dyn BlockSource, cx: &OpenCx<'_>) -> Result<Option<Units>> {
    let mut units = Units::default();
    let mut at = 0_u64;
    // The unit that is being put together: where it starts, and its plain bytes.
    let (mut start, mut plain) = (0_u64, 0_u64);
    let Some(mut header) = piece::<BGZF_HEADER>(source, 0)? else { return Ok(None) };
    loop {
        cx.budget.step("gzip members")?;
        let Some(len) = bgzf_len(&header) else { return Ok(None) };
        let next = at.saturating_add(len);
        // The member's last four bytes are its plain length; behind them stands the next header.
        let Some(size) = piece::<4>(source, next.saturating_sub(4))? else { return Ok(None) };
        let size = u64::from(u32::from_le_bytes(size));
        if size > BGZF_MAX {
            return Ok(None);
        }
        if plain.saturating_add(size) > BGZF_UNIT {
            units.push(start, at.saturating_sub(start), plain, false)?;
            (start, plain) = (at, 0);
        }
        plain = plain.saturating_add(size);
        at = next;
        if at == source.len() {
            units.push(start, at.saturating_sub(start), plain, false)?;
            return Ok(Some(units));
        }
        match piece(source, at)? {
            Some(next) => header = next,
            None => return Ok(None),
        }
    }
}

/// The length of the member that such a header begins, as its only extra field `BC` says.
fn bgzf_len(header: &[u8; BGZF_HEADER]) -> Option<u64> {
    let [0x1f, 0x8b, DEFLATE, FEXTRA, _, _, _, _, _, _, 6, 0, b'B', b'C', 2, 0, low, high] = *header else {
        return None;
    };
    let len = u64::from(u16::from_le_bytes([low, high])).saturating_add(1);
    // Header, an empty stream and the trailer take 28 bytes.
    (len >= 28).then_some(len)
}

/// The `N` bytes at `at`; `None` past the end.
fn piece<const N: usize>(source: &dyn BlockSource, at: u64) -> Result<Option<[u8; N]>> {
    if at.checked_add(wide(N)).is_none_or(|end| end > source.len()) {
        return Ok(None);
    }
    let mut bytes = [0; N];
    source.read_at(&mut bytes, at).map(|()| Some(bytes))
}

/// Whole members.
#[derive(Debug)]
struct Bgzf;

impl Codec for Bgzf {
    fn unpack(&self, stored: &[u8], number: usize, len: u64) -> Result<Vec<u8>> {
        exactly(Members::new(stored, false), len, &At::new("gzip", "part").index(wide(number)))
    }
}

/// From a checkpoint to the next.
#[derive(Debug)]
struct Indexed(Checkpoints);

impl Codec for Indexed {
    fn unpack(&self, stored: &[u8], number: usize, len: u64) -> Result<Vec<u8>> {
        let at = At::new("gzip", "part").index(wide(number));
        let Some(point) = self.0.points.get(number) else { return Err(Error::corrupt(at)) };
        let mut members = match point.window()? {
            None => Members::new(stored, false),
            Some(window) => {
                let (inflater, rest) = enter(point, &window, stored);
                Members { inflater, state: State::Body, sum: None, ..Members::new(rest, false) }
            }
        };
        let mut plain = Vec::with_capacity(narrow(len));
        while wide(plain.len()) < len {
            let event = members.next()?;
            plain.extend_from_slice(members.plain());
            if event == Event::End && wide(plain.len()) < len {
                return Err(Error::corrupt(at).because("ends before the next checkpoint"));
            }
        }
        // The last block may go on behind the next checkpoint only if the file is not what was gone through.
        if wide(plain.len()) > len {
            return Err(Error::corrupt(at).because("goes on behind the next checkpoint"));
        }
        Ok(plain)
    }
}

/// What stands next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Body,
    Trailer,
    End,
}

/// What [`Members::next`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Nothing but plain bytes.
    More,
    /// A block of a deflate stream.
    Block,
    /// The end of a member.
    Member,
    /// The end of the last member.
    End,
}

/// The members of a file, one behind the other.
#[derive(Debug)]
struct Members<R> {
    input: R,
    /// Bytes of `input` taken.
    at: u64,
    inflater: Inflater,
    state: State,
    /// Members begun.
    number: u64,
    /// Sum and length of the member so far; `None` when it was entered in its midst.
    sum: Option<Crc>,
    /// The two bytes of the next header's magic were taken already.
    magic_taken: bool,
    /// Something that is no member follows the last one.
    garbage: bool,
    /// For [`Read`]: how many of the plain bytes were handed out.
    given: usize,
}

impl<R: BufRead> Members<R> {
    /// From the first header on. With `blocks` it stops at each block of a stream.
    fn new(input: R, blocks: bool) -> Self {
        let (inflater, state) = (Inflater::new(blocks), State::Header);
        Self {
            input,
            at: 0,
            inflater,
            state,
            number: 0,
            sum: None,
            magic_taken: false,
            garbage: false,
            given: 0,
        }
    }

    /// The plain bytes that the last [`Members::next`] made.
    fn plain(&self) -> &[u8] {
        self.inflater.made()
    }

    /// The bit where the next block begins.
    fn bit(&self) -> u64 {
        let bits = if self.state == State::Body { self.inflater.bits() } else { 0 };
        self.at.saturating_mul(8).saturating_sub(bits.into())
    }

    fn place(&self) -> At {
        At::new("gzip", "member").index(self.number.saturating_sub(1)).byte(self.at)
    }

    fn cut_off(&self) -> Error {
        Error::corrupt(self.place()).because("the file ends within it: it was cut off")
    }

    /// What can be read without waiting; empty at the end.
    fn peek(&mut self) -> Result<&[u8]> {
        self.input.fill_buf().map_err(|error| Error::of_reader("reading the gzip file", error))
    }

    fn skip(&mut self, len: usize) {
        self.input.consume(len);
        self.at = self.at.saturating_add(wide(len));
    }

    /// The next byte, `None` at the end.
    fn byte(&mut self) -> Result<Option<u8>> {
        let byte = self.peek()?.first().copied();
        self.skip(usize::from(byte.is_some()));
        Ok(byte)
    }

    /// Goes on until there is something to say.
    fn next(&mut self) -> Result<Event> {
        self.inflater.forget();
        self.given = 0;
        loop {
            match self.state {
                State::Header => {
                    self.header()?;
                    self.state = State::Body;
                }
                State::Body => {
                    let stop = self.body()?;
                    let plain = self.inflater.made();
                    if let Some(sum) = &mut self.sum {
                        sum.update(plain);
                    }
                    match stop {
                        Stop::Block => return Ok(Event::Block),
                        Stop::End => self.state = State::Trailer,
                        Stop::More => {}
                    }
                    if !self.inflater.made().is_empty() {
                        return Ok(Event::More);
                    }
                }
                State::Trailer => {
                    self.trailer()?;
                    self.state = if self.another()? { State::Header } else { State::End };
                    return Ok(if self.state == State::End { Event::End } else { Event::Member });
                }
                State::End => return Ok(Event::End),
            }
        }
    }

    fn body(&mut self) -> Result<Stop> {
        let place = self.place();
        let input = self.input.fill_buf();
        let input = input.map_err(|error| Error::of_reader("reading the gzip file", error))?;
        let at_end = input.is_empty();
        let (taken, stop) = self.inflater.inflate(input, &place)?;
        self.skip(taken);
        if at_end && stop == Stop::More && self.inflater.made().is_empty() {
            return Err(self.cut_off());
        }
        Ok(stop)
    }

    /// Bytes of a header, noted for its sum.
    fn take<const N: usize>(&mut self, sum: &mut Crc) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        for place in &mut bytes {
            *place = self.byte()?.ok_or_else(|| self.cut_off())?;
        }
        sum.update(&bytes);
        Ok(bytes)
    }

    /// Section 2.3.
    fn header(&mut self) -> Result<()> {
        self.number = self.number.saturating_add(1);
        let place = self.place();
        let mut sum = Crc::new();
        if std::mem::take(&mut self.magic_taken) {
            self.at = self.at.saturating_add(wide(MAGIC.len()));
            sum.update(&MAGIC);
        } else if self.take(&mut sum)? != MAGIC {
            return Err(Error::corrupt(place).because("does not begin with 1f 8b"));
        }
        let [method, flags, _, _, _, _, _, _] = self.take(&mut sum)?;
        if method != DEFLATE || flags & RESERVED != 0 {
            let what = format!("gzip compression method {method} with flags {flags:#04x}");
            return Err(Error::unsupported(what).at(place));
        }
        if flags & FEXTRA != 0 {
            let len = u16::from_le_bytes(self.take(&mut sum)?);
            for _ in 0..len {
                self.take::<1>(&mut sum)?;
            }
        }
        for text in [FNAME, FCOMMENT] {
            if flags & text != 0 {
                let mut len = 0_usize;
                while self.take::<1>(&mut sum)? != [0] {
                    len = len.saturating_add(1);
                    if len > MAX_TEXT {
                        return Err(Error::corrupt(place).because("a name or comment without an end"));
                    }
                }
            }
        }
        if flags & FHCRC != 0 {
            let [low, high, ..] = sum.sum().to_le_bytes();
            if self.take(&mut Crc::new())? != [low, high] {
                return Err(Error::corrupt(place).because("its header's CRC is wrong"));
            }
        }
        self.inflater.restart();
        self.sum = Some(Crc::new());
        Ok(())
    }

    fn trailer(&mut self) -> Result<()> {
        let place = self.place();
        let [a, b, c, d, e, f, g, h] = self.take(&mut Crc::new())?;
        let (stated, len) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let Some(sum) = self.sum.take() else { return Ok(()) };
        if sum.sum() != stated {
            let made = sum.sum();
            return Err(Error::corrupt(place)
                .because(format!("its CRC-32 is {made:#010x}, stated is {stated:#010x}"))
                .help("the file was damaged on its way: compare its checksum with the original's"));
        }
        if sum.amount() != len {
            let made = sum.amount();
            return Err(Error::corrupt(place)
                .because(format!("unpacks to {made} bytes modulo 2^32, stated are {len}")));
        }
        Ok(())
    }

    /// Does another member follow? Zeros pad what came from a tape; anything else is left out as gzip does, but told.
    fn another(&mut self) -> Result<bool> {
        let end = self.at;
        self.garbage = match self.byte()? {
            None => false,
            Some(0) => self.peek()?.iter().any(|byte| *byte != 0),
            Some(first) => {
                self.magic_taken = [Some(first), self.byte()?] == MAGIC.map(Some);
                !self.magic_taken
            }
        };
        // What was taken counts as part of the next member's header.
        self.at = end;
        Ok(self.magic_taken)
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.given >= self.plain().len() {
            if self.next().map_err(Error::into_io)? == Event::End {
                return Ok(0);
            }
        }
        let rest = self.inflater.made().get(self.given..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        self.given = self.given.saturating_add(len);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut stream = GzEncoder::new(Vec::new(), Compression::best());
        stream.write_all(plain).unwrap();
        stream.finish().unwrap()
    }

    fn unpacked(packed: &[u8]) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        let read = Members::new(packed, false).read_to_end(&mut plain);
        read.map(|_| plain).map_err(|error| Error::of_reader("", error))
    }

    #[test]
    fn members_are_one_text() {
        let file = [packed(b"one "), packed(b""), packed(b"two")].concat();
        assert_eq!(unpacked(&file).unwrap(), b"one two");
    }

    #[test]
    fn zeros_behind_the_last_member_are_padding_and_other_bytes_are_told() {
        let garbage = |end: &[u8]| {
            let file = [packed(b"one"), end.to_vec()].concat();
            let mut members = Members::new(file.as_slice(), false);
            while members.next().unwrap() != Event::End {}
            members.garbage
        };
        assert_eq!(
            (garbage(&[]), garbage(&[0; 700]), garbage(b"x"), garbage(&[0x1f]), garbage(&[0, 0, 1])),
            (false, false, true, true, true)
        );
    }

    #[test]
    fn a_wrong_sum_is_corrupt_and_says_which_member() {
        let mut file = [packed(b"one"), packed(b"two")].concat();
        let at = file.len().checked_sub(8).unwrap();
        file[at] ^= 1;
        let error = unpacked(&file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("member 1") && error.to_string().contains("CRC-32"), "{error}");
    }

    #[test]
    fn a_file_cut_off_anywhere_is_corrupt() {
        let file = packed(b"some text, some text, some text");
        for len in 1..file.len() {
            assert_eq!(unpacked(&file[..len]).unwrap_err().kind(), ErrorKind::Corrupt, "{len}");
        }
    }

    #[test]
    fn a_name_without_an_end_is_corrupt() {
        let mut file = vec![0x1f, 0x8b, 8, FNAME, 0, 0, 0, 0, 0, 3];
        file.resize(1 << 20, b'x');
        assert_eq!(unpacked(&file).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
