//! A wrapper: a file that holds one other file, packed: `.gz`, `.xz`, `.zst`, `.bz2`. What is inside is opened as any image is.
//!
//! ```text
//! disk.qcow2.xz ── xz.rs: where its blocks lie ──▶ Units ──▶ the plain bytes, a source ──▶ image::open ──▶ the disk
//! ```
//! A wrapper that is made of parts is read in place: a part (a *unit*) is unpacked when one of its bytes is asked for, and
//! kept in the block cache. One that can only be unpacked from its start is one unit if it is small, else it is poured into
//! a spool if the user gave room for one (`--spool`), else refused with what that would cost. Nothing is ever unpacked
//! further than was asked for, and never more than [`MAX_UNIT`] into memory.

use super::{OpenCx, Opened};
use crate::block::{BlockSource, Layout, Place, Run};
use crate::budget::{Budget, Limits};
use crate::error::{At, Error, ErrorKind, Result};
use crate::locator::Locator;
use crate::num::{narrow, wide};
use crate::text::escape;
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// The largest unit that is unpacked into memory, in plain bytes: what `xz -T0` makes at any level but 8 and 9. A packed
/// unit may be as long as the engine takes.
pub(super) const MAX_UNIT: u64 = 64 << 20;
/// The longest packed unit (the engine's own bound).
pub(super) const MAX_STORED: u64 = 64 << 20;
/// Units of one file: 64 MiB of table.
const MAX_UNITS: usize = 2 << 20;
/// A remote file up to this size is read from start to end without asking: a moment's download.
const SMALL: u64 = 64 << 20;
/// A wrapper counts as so many images that name each other: nobody packs a file more than twice, but a bomb does.
const DEPTH: u8 = 8;
/// Bytes read at a time by who goes through a file from start to end.
const CHUNK: usize = 1 << 20;
/// Packed bytes that must be got through in a second of processor time. Honest files take a tenth of it.
const PACE: u64 = 4 << 20;

/// A wrapper's words.
pub(super) struct Wrapper {
    /// The format's name.
    pub name: &'static str,
    /// What its files' names end with, without the dot.
    pub suffixes: &'static [&'static str],
    /// The command that unpacks it.
    pub with: &'static str,
    /// The plain bytes of a packed stream from start to end, sums checked.
    pub stream: for<'a> fn(Box<dyn Read + Send + 'a>) -> Box<dyn Read + Send + 'a>,
}

impl fmt::Debug for Wrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wrapper({})", self.name)
    }
}

/// The plain bytes of a wrapper, and in words how they are reached.
#[derive(Debug)]
pub(super) struct Plain {
    pub bytes: Arc<dyn BlockSource>,
    pub how: String,
    pub warnings: Vec<String>,
}

/// A file's bytes from its start to its end.
#[derive(Debug)]
pub(super) struct InOrder {
    source: Arc<dyn BlockSource>,
    at: u64,
}

impl InOrder {
    /// From the first byte.
    pub(super) const fn new(source: Arc<dyn BlockSource>) -> Self {
        Self { source, at: 0 }
    }

    /// With a buffer that makes few requests.
    pub(super) fn buffered(source: &Arc<dyn BlockSource>) -> std::io::BufReader<Self> {
        std::io::BufReader::with_capacity(CHUNK, Self::new(Arc::clone(source)))
    }
}

impl Read for InOrder {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = narrow(self.source.len().saturating_sub(self.at)).min(buf.len());
        let Some(part) = buf.get_mut(..len).filter(|part| !part.is_empty()) else { return Ok(0) };
        self.source.read_at(part, self.at).map_err(Error::into_io)?;
        self.at = self.at.saturating_add(wide(len));
        Ok(len)
    }
}

/// What a pass over all of a packed file may cost: time by the bytes that lie at the bottom, so that a bomb in a bomb has
/// no more of it than the file that was given.
pub(super) fn pass_budget(source: &dyn BlockSource) -> Budget {
    let more = Duration::from_millis(source.stored_size().saturating_mul(1000) / PACE);
    Budget::new(Limits { time: Limits::OPEN.time.saturating_add(more), ..Limits::OPEN })
}

/// Fails when a pass over a file of the format `name` has used up its time.
pub(super) fn on_time(budget: &Budget, name: &str) -> Result<()> {
    if !budget.is_late() {
        return Ok(());
    }
    Err(Error::limit(format!("the {name} file unpacks to so much that reading it once takes too long"))
        .help("unpack it first, if that is what you want"))
}

/// What a decoder's error means: one of ours from below, or damage.
pub(super) fn damage(error: std::io::Error, at: &At) -> Error {
    let error = match error.downcast::<Error>() {
        Ok(ours) => return ours,
        Err(error) => error,
    };
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Error::corrupt(at.clone()).because("ends within its stream: it was cut off")
        }
        std::io::ErrorKind::Unsupported => Error::unsupported(error.to_string()).at(at.clone()),
        std::io::ErrorKind::OutOfMemory => Error::limit(error.to_string()).at(at.clone()),
        _ => Error::corrupt(at.clone()).because(format!("damaged stream ({error})")),
    }
}

/// A decoder whose errors are ours.
struct Told<R>(R, At);

impl<R: Read> Read for Told<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf).map_err(|error| damage(error, &self.1).into_io())
    }
}

impl Wrapper {
    /// All plain bytes of a packed file.
    fn unpacked<'a>(&self, packed: Box<dyn Read + Send + 'a>) -> Box<dyn Read + Send + 'a> {
        Box::new(Told((self.stream)(packed), At::new(self.name, "file")))
    }
}

/// May a file be read from start to end to find its way? Of a remote one that is the download of all of it: only if it is
/// small, or if the user asked for just that, by giving room for it.
pub(super) fn may_pass(source: &dyn BlockSource, cx: &OpenCx<'_>) -> bool {
    matches!(cx.locator, Locator::Path(_)) || source.len() <= SMALL || cx.spool.is_some()
}

/// One part that is unpacked as a whole.
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// Byte of the packed file where it starts, and its length there.
    offset: u64,
    stored: u64,
    /// Its first plain byte.
    plain: u64,
    /// It is all zeros, and known to be.
    zero: bool,
}

/// The parts of a wrapper in order.
#[derive(Debug, Default)]
pub(super) struct Units {
    units: Vec<Unit>,
    len: u64,
}

impl Units {
    /// The next part: `stored` bytes at `offset`, which unpack to `plain` bytes.
    ///
    /// # Errors
    /// `Limit` when there are too many.
    pub(super) fn push(&mut self, offset: u64, stored: u64, plain: u64, zero: bool) -> Result<()> {
        if plain == 0 {
            return Ok(());
        }
        if self.units.len() >= MAX_UNITS {
            return Err(Error::limit(format!("a packed file of more than {MAX_UNITS} parts")));
        }
        self.units.push(Unit { offset, stored, plain: self.len, zero });
        self.len = self.len.checked_add(plain).ok_or_else(|| Error::limit("more than 2^64 plain bytes"))?;
        Ok(())
    }

    /// How many.
    pub(super) const fn count(&self) -> usize {
        self.units.len()
    }

    /// The end of a part in plain bytes.
    fn end(&self, number: usize) -> u64 {
        self.units.get(number.saturating_add(1)).map_or(self.len, |next| next.plain)
    }

    /// How many plain bytes a part has.
    fn plain(&self, number: usize) -> u64 {
        let start = self.units.get(number).map_or(0, |unit| unit.plain);
        self.end(number).saturating_sub(start)
    }
}

/// What unpacks one unit.
pub(super) trait Codec: Send + Sync + fmt::Debug {
    /// Unit `number` out of its stored bytes: `len` bytes, checked.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged or has another length.
    fn unpack(&self, stored: &[u8], number: usize, len: u64) -> Result<Vec<u8>>;
}

/// The units of a file, and what unpacks them: the plain bytes.
#[derive(Debug)]
pub(super) struct Parts<C> {
    units: Units,
    codec: C,
    files: [Arc<dyn BlockSource>; 1],
}

impl<C: Codec> Parts<C> {
    /// Of `source`.
    pub(super) const fn new(source: Arc<dyn BlockSource>, units: Units, codec: C) -> Self {
        Self { units, codec, files: [source] }
    }
}

impl<C: Codec> Layout for Parts<C> {
    fn size(&self) -> u64 {
        self.units.len
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let number = self.units.units.partition_point(|unit| unit.plain <= offset).saturating_sub(1);
        let Some(unit) = self.units.units.get(number) else {
            return Err(Error::out_of_range(offset, 1, self.units.len));
        };
        let place = if unit.zero {
            Place::Zero
        } else {
            let skip = offset.saturating_sub(unit.plain);
            Place::Packed { file: 0, offset: unit.offset, stored: unit.stored, unit: wide(number), skip }
        };
        Ok(Run { len: self.units.end(number).saturating_sub(offset), place })
    }

    fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
        self.codec.unpack(stored, narrow(unit), self.units.plain(narrow(unit)))
    }

    fn unpacked_len(&self, unit: u64) -> u64 {
        self.units.plain(narrow(unit))
    }

    fn unit_size(&self) -> u32 {
        1 << 20
    }
}

/// A whole file as one unit.
#[derive(Debug)]
struct Whole(&'static Wrapper);

impl Codec for Whole {
    fn unpack(&self, stored: &[u8], _number: usize, len: u64) -> Result<Vec<u8>> {
        exactly(self.0.unpacked(Box::new(stored)), len, &At::new(self.0.name, "file"))
    }
}

/// A stream that unpacks to exactly `len` bytes, and then ends well.
///
/// # Errors
/// `Corrupt` at `at`; what the stream reports.
pub(super) fn exactly(mut stream: impl Read, len: u64, at: &At) -> Result<Vec<u8>> {
    let mut plain = vec![0; narrow(len)];
    let mut filled = 0_usize;
    while let Some(rest) = plain.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).map_err(|error| damage(error, at))? {
            0 => {
                return Err(Error::corrupt(at.clone())
                    .because(format!("unpacks to {filled} bytes, not to the {len} it announces")));
            }
            got => filled = filled.saturating_add(got),
        }
    }
    match stream.read(&mut [0]).map_err(|error| damage(error, at))? {
        0 => Ok(plain),
        _ => {
            Err(Error::corrupt(at.clone())
                .because(format!("unpacks to more than the {len} bytes it announces")))
        }
    }
}

/// The plain bytes of a file that can only be unpacked from its start, because of `why`. `len` is their number where the
/// file tells it.
///
/// # Errors
/// `Unsupported` with the cost when it is too large to be one unit and there is no spool.
pub(super) fn in_order(
    wrapper: &'static Wrapper,
    source: Arc<dyn BlockSource>,
    len: Option<u64>,
    why: &str,
    cx: &OpenCx<'_>,
) -> Result<Plain> {
    let small = source.len() <= MAX_STORED && may_pass(&*source, cx);
    let len = match len {
        None if small => counted(wrapper, &source)?,
        known => known,
    };
    if let Some(len) = len.filter(|len| small && *len <= MAX_UNIT) {
        let mut units = Units::default();
        units.push(0, source.len(), len, false)?;
        let bytes = cx.mapper.map(Parts::new(source, units, Whole(wrapper)));
        let how = format!("{}, unpacked as a whole ({len} bytes)", wrapper.name);
        return Ok(Plain { bytes, how, warnings: Vec::new() });
    }
    let Some(spool) = cx.spool else {
        return Err(too_dear(wrapper.name, wrapper.with, &*source, len, why, cx));
    };
    let label = cx.locator.to_string();
    let bytes = spool.pour(&label, len, wrapper.unpacked(Box::new(InOrder::buffered(&source))))?;
    let how = format!("{}, unpacked into a spool of {} bytes", wrapper.name, bytes.len());
    Ok(Plain { bytes, how, warnings: Vec::new() })
}

/// The number of plain bytes, if they are few enough to be one unit.
fn counted(wrapper: &Wrapper, source: &Arc<dyn BlockSource>) -> Result<Option<u64>> {
    let mut stream = wrapper.unpacked(Box::new(InOrder::buffered(source)));
    let (mut buf, mut len) = (vec![0; 64 << 10], 0_u64);
    let budget = pass_budget(&**source);
    while len <= MAX_UNIT {
        on_time(&budget, wrapper.name)?;
        match stream.read(&mut buf).map_err(|error| damage(error, &At::new(wrapper.name, "file")))? {
            0 => return Ok(Some(len)),
            got => len = len.saturating_add(wide(got)),
        }
    }
    Ok(None)
}

/// What it would cost to read a file of the format `name`, and the two ways out; `with` is the other one, a command.
pub(super) fn too_dear(
    name: &str,
    with: &str,
    source: &dyn BlockSource,
    len: Option<u64>,
    why: &str,
    cx: &OpenCx<'_>,
) -> Error {
    let packed = source.len();
    let (cost, spool) = if may_pass(source, cx) {
        let room = len.map_or_else(String::new, |len| format!(" of {len} bytes"));
        let spool = format!("unpacks it once into a temporary file{room}, less its zeros");
        (format!("all {packed} bytes of it would have to be unpacked, again and again"), spool)
    } else {
        let spool = "downloads it once into a temporary file".to_owned();
        (format!("all {packed} bytes of it would have to be downloaded"), spool)
    };
    let file = escape(cx.locator.file_name().as_bytes()).to_string();
    Error::new(
        ErrorKind::Unsupported,
        format!("is a {name} file that cannot be read in place: {why}; {cost}"),
    )
    .help(format!("--spool {spool}, and reads it while it arrives; or do it yourself: {with} {file}"))
}

/// Opens what a wrapper holds.
///
/// # Errors
/// As [`super::open`].
pub(super) fn inside(wrapper: &'static Wrapper, plain: Plain, cx: &OpenCx<'_>) -> Result<Opened> {
    let locator = without_suffix(cx.locator, wrapper.suffixes);
    // What was spent on unpacking is not held against the image inside.
    let budget = super::open_budget();
    let depth = cx.depth.saturating_add(DEPTH);
    let cx = OpenCx { locator: &locator, budget: &budget, depth, ..*cx };
    let mut opened = super::open(plain.bytes, None, &cx).map_err(|error| match error.kind() {
        ErrorKind::Source | ErrorKind::Changed | ErrorKind::Io => error,
        _ => error.context(format!("in the {} file", wrapper.name)),
    })?;
    opened.facts.insert(0, ("wrapper", plain.how));
    opened.warnings.splice(0..0, plain.warnings);
    Ok(opened)
}

/// Where the inner file would lie if it were unpacked beside its wrapper: `disk.vmdk` of `disk.vmdk.gz`.
pub(super) fn without_suffix(locator: &Locator, suffixes: &[&str]) -> Locator {
    let cut = |name: &str| {
        let (stem, end) = name.rsplit_once('.')?;
        let known = suffixes.iter().any(|suffix| end.eq_ignore_ascii_case(suffix));
        (known && !stem.is_empty() && !stem.ends_with('/')).then(|| stem.to_owned())
    };
    match locator {
        Locator::Path(path) => {
            let name = path.file_name().and_then(std::ffi::OsStr::to_str).and_then(cut);
            name.map_or_else(|| locator.clone(), |name| Locator::Path(path.with_file_name(name)))
        }
        Locator::Url(url) => {
            let end = url.find(['?', '#']).unwrap_or(url.len());
            let (path, query) = url.split_at_checked(end).unwrap_or((url, ""));
            Locator::Url(cut(path).map_or_else(|| url.clone(), |path| path + query))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(typed: &str) -> Locator {
        without_suffix(&Locator::parse(typed.as_ref()), &["gz"])
    }

    #[test]
    fn the_inner_name_is_the_name_without_the_suffix() {
        assert_eq!(inner("/a/disk.vmdk.gz"), Locator::Path("/a/disk.vmdk".into()));
        assert_eq!(inner("/a/disk.VMDK.GZ"), Locator::Path("/a/disk.VMDK".into()));
        assert_eq!(inner("/a/disk.vmdk"), Locator::Path("/a/disk.vmdk".into()));
        assert_eq!(inner("/a/.gz"), Locator::Path("/a/.gz".into()));
        assert_eq!(inner("https://h/d.img.gz?sig=x.gz"), Locator::Url("https://h/d.img?sig=x.gz".into()));
        assert_eq!(inner("https://h/?d.gz"), Locator::Url("https://h/?d.gz".into()));
    }
}
