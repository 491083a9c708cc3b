//! The engine: makes a readable source of any [`Layout`]. The one place where guest data is read.
//!
//! ```text
//! read_at(buf, X) ─▶ layout.run_at(X) ─▶ Stored → files[i].read_at   (neighbouring runs joined into one read)
//!                                     ├▶ Packed → cache → unpack     (single flight; the next units by the pool)
//!                                     ├▶ Zero, Hole → zeros
//!                                     └▶ Parent → the layer below, zeros past its end
//! ```

use crate::block::{Below, BlockSource, Extent, Layout, Place, Run, Step, check_range};
use crate::cache::{Cache, Key};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod pool;

/// A packed unit longer than this is refused: the largest unit of any format (a qcow2 cluster, 2 MiB), doubled and
/// then some for formats whose packed form may exceed the plain one.
const MAX_STORED: u64 = 64 << 20;

/// Units handed to the pool at a time, ahead of the one that is being unpacked.
const AHEAD_UNITS: usize = 16;
/// Bytes behind the end of a read that are unpacked ahead when reads follow each other.
const AHEAD_BYTES: u64 = 1 << 20;
/// Runs looked at to find those units, or to pass on what will be read.
const AHEAD_RUNS: usize = 256;
/// A smaller unit is unpacked sooner than handed over, bytes.
const AHEAD_LEAST: u32 = 16 << 10;

/// Runs looked at to answer one [`BlockSource::extent`]; a client asks again for the rest.
const EXTENT_RUNS: u32 = 4096;

/// Turns layouts into sources that share one cache.
#[derive(Clone, Debug)]
pub struct Mapper {
    cache: Arc<Cache>,
}

impl Mapper {
    /// With the process's cache.
    #[must_use]
    pub fn new(cache: Arc<Cache>) -> Self {
        Self { cache }
    }

    /// A place in the cache for units of a reader of its own.
    #[must_use]
    pub fn units(&self) -> Units {
        Units { owner: self.cache.new_owner(), cache: Arc::clone(&self.cache) }
    }

    /// The layout as a source.
    pub fn map(&self, layout: impl Layout + 'static) -> Arc<dyn BlockSource> {
        let (owner, cache) = (self.cache.new_owner(), Arc::clone(&self.cache));
        Arc::new(Mapped(Arc::new(Inner { layout, cache, owner, last_end: AtomicU64::new(u64::MAX) })))
    }
}

/// Units that one reader unpacks by itself, in the process's cache: compressed extents of a file system.
#[derive(Clone, Debug)]
pub struct Units {
    cache: Arc<Cache>,
    owner: u64,
}

impl Units {
    /// The unit, from the cache or from `load`. Of several callers one loads; the others wait for its result.
    ///
    /// # Errors
    /// What `load` reports.
    pub fn get(&self, unit: u64, load: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<Vec<u8>>> {
        self.cache.get_or_load(Key { owner: self.owner, unit }, load)
    }

    /// Has the pool load these units, one after the other, for whoever will want them: `load` is given the place of each
    /// in the list. Nothing is done where that gains nothing.
    pub fn ahead(&self, units: Vec<u64>, load: impl Fn(usize) -> Result<Vec<u8>> + Send + 'static) {
        if self.cache.keeps(AHEAD_BYTES) && pool::is_useful() {
            let (cache, owner) = (Arc::clone(&self.cache), self.owner);
            pool::hand(Box::new(move || {
                for (at, unit) in units.into_iter().enumerate() {
                    cache.load_ahead(Key { owner, unit }, || load(at));
                }
            }));
        }
    }
}

/// A layout that can be read. See the module's picture.
#[derive(Debug)]
pub struct Mapped<L>(Arc<Inner<L>>);

#[derive(Debug)]
struct Inner<L> {
    layout: L,
    cache: Arc<Cache>,
    owner: u64,
    /// Where the last read of packed units ended, to tell reads that follow each other.
    last_end: AtomicU64,
}

/// A packed unit no longer than this is read into a buffer that its thread keeps.
const PACKED_BUFFER: usize = 256 << 10;

thread_local! {
    /// That buffer. Whoever reads takes it, so that a packed image in a packed file finds none and makes its own.
    static PACKED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Runs that the extent being asked for on this thread may still look at, in all layers together.
    static RUNS_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The right to look at [`EXTENT_RUNS`] runs for one answer. Who asks while answering (a layer asks the one below it) shares
/// it: otherwise the work would multiply with every layer.
struct Allowance {
    is_outermost: bool,
}

impl Allowance {
    fn take() -> Self {
        let is_outermost = RUNS_LEFT.get().is_none();
        if is_outermost {
            RUNS_LEFT.set(Some(EXTENT_RUNS));
        }
        Self { is_outermost }
    }

    /// One run more, if there is one left.
    fn spend(&self) -> bool {
        let left = RUNS_LEFT.get().and_then(|left| left.checked_sub(1));
        left.inspect(|left| RUNS_LEFT.set(Some(*left))).is_some()
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if self.is_outermost {
            RUNS_LEFT.set(None);
        }
    }
}

/// What one read has handed to the pool.
struct Ahead {
    /// Units are wanted up to here.
    end: u64,
    /// Looked at up to here.
    seen: u64,
    /// The reader has come so far; a job for what lies before is not needed any more.
    reached: Arc<AtomicU64>,
}

impl<L: Layout> Inner<L> {
    fn file(&self, file: usize) -> Result<&Arc<dyn BlockSource>> {
        self.layout.files().get(file).ok_or_else(|| {
            Error::corrupt(At::new("layout", "file").index(wide(file))).because("no such file")
        })
    }

    /// A run that makes progress, or the driver's fault as an error instead of an endless loop.
    fn run(&self, offset: u64) -> Result<Run> {
        self.advancing(offset, self.layout.run_at(offset)?)
    }

    fn advancing(&self, offset: u64, mut run: Run) -> Result<Run> {
        run.len = run.len.min(self.layout.size().saturating_sub(offset));
        if run.len == 0 {
            return Err(Error::corrupt(At::new("layout", "run").byte(offset)).because("a run of no bytes"));
        }
        Ok(run)
    }

    /// What a unit takes while it is unpacked.
    fn in_flight(&self, stored: u64, unit: u64) -> Result<u64> {
        if stored > MAX_STORED {
            return Err(Error::limit(format!(
                "packed unit {unit}: {stored} bytes, at most {MAX_STORED} are accepted"
            )));
        }
        Ok(stored.saturating_add(self.layout.unpacked_len(unit)))
    }

    /// With room for what [`Inner::in_flight`] says.
    fn unpack(&self, file: usize, offset: u64, stored: u64, unit: u64) -> Result<Vec<u8>> {
        let (mut buffer, len) = (PACKED.take(), narrow(stored));
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let bytes = buffer.get_mut(..len).expect("it was made long enough");
        self.file(file)?.read_at(bytes, offset)?;
        let unpacked = self.layout.unpack(bytes, unit);
        if buffer.len() <= PACKED_BUFFER {
            PACKED.set(buffer);
        }
        unpacked
    }

    fn read_packed(&self, buf: &mut [u8], place: Place) -> Result<()> {
        let Place::Packed { file, offset, stored, unit, skip } = place else { return Ok(()) };
        let key = Key { owner: self.owner, unit };
        // Taken by the one who unpacks, and kept until it has its bytes: the cache may not keep them.
        let mut room = None;
        let unpacked = self.cache.get_or_load(key, || {
            room = Some(self.cache.room().take(self.owner, self.in_flight(stored, unit)?));
            self.unpack(file, offset, stored, unit)
        })?;
        let part = unpacked.get(narrow(skip)..).and_then(|rest| rest.get(..buf.len()));
        let part = part.ok_or_else(|| {
            Error::corrupt(At::new("layout", "packed unit").index(unit).byte(offset))
                .because("shorter than its place")
        })?;
        buf.copy_from_slice(part);
        Ok(())
    }

    fn read_parent(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let Some(parent) = self.layout.parent() else {
            return Err(Error::corrupt(At::new("layout", "run").byte(offset))
                .because("refers to a parent that the image does not have"));
        };
        // An overlay may be larger than what it overlays: past the parent's end it reads as zero (qcow2 specification, "Backing file").
        let inside = narrow(parent.len().saturating_sub(offset)).min(buf.len());
        let (from_parent, past) = buf.split_at_mut(inside);
        past.fill(0);
        if from_parent.is_empty() { Ok(()) } else { parent.read_at(from_parent, offset) }
    }

    /// Is this run's place known to be zero, and nothing stored?
    fn nature(&self, offset: u64, run: Run) -> Result<Extent> {
        let all = |zero, hole| Extent { len: run.len, zero, hole };
        Ok(match run.place {
            Place::Zero => all(true, false),
            Place::Hole => all(true, true),
            Place::Packed { .. } => all(false, false),
            Place::Stored { file, offset: at } => {
                let below = self.file(file)?.extent_within(at, run.len)?;
                Extent { len: run.len.min(below.len), ..below }
            }
            Place::Parent => match self.layout.parent() {
                Some(parent) if offset < parent.len() => {
                    let below = parent.extent_within(offset, run.len)?;
                    Extent { len: run.len.min(below.len), ..below }
                }
                _ => all(true, true),
            },
        })
    }
}

impl<L: Layout + 'static> Inner<L> {
    /// For a read of `range` that has met a packed unit: what to unpack beside it, if that gains anything.
    fn ahead(&self, range: &Range<u64>) -> Option<Ahead> {
        let last_end = self.last_end.swap(range.end, Ordering::Relaxed);
        let unit = self.layout.unit_size();
        if unit < AHEAD_LEAST || !self.cache.keeps(u64::from(unit)) || !pool::is_useful() {
            return None;
        }
        let follows = last_end == range.start;
        let end = range.end.saturating_add(if follows { AHEAD_BYTES } else { 0 }).min(self.layout.size());
        Some(Ahead { end, seen: range.start, reached: Arc::new(AtomicU64::new(range.start)) })
    }

    /// Hands the pool the packed units behind `next`, unless that was done already.
    fn hand_ahead(self: &Arc<Self>, ahead: &mut Ahead, next: u64) {
        ahead.reached.store(next, Ordering::Relaxed);
        if next < ahead.seen {
            return;
        }
        ahead.seen = next;
        let (mut units, mut last) = (0, None);
        for _ in 0..AHEAD_RUNS {
            if ahead.seen >= ahead.end || units >= AHEAD_UNITS {
                break;
            }
            // What is damaged is told when it is read.
            let Ok(run) = self.run(ahead.seen) else { break };
            ahead.seen = ahead.seen.saturating_add(run.len);
            let Place::Packed { file, offset, stored, unit, .. } = run.place else { continue };
            if last.replace(unit) == Some(unit) {
                continue;
            }
            units = units.saturating_add(1);
            let (inner, until, reached) = (Arc::clone(self), ahead.seen, Arc::clone(&ahead.reached));
            pool::hand(Box::new(move || {
                if reached.load(Ordering::Relaxed) < until {
                    // Those who need a unit go before: the pool waits for no room.
                    let bytes = inner.in_flight(stored, unit);
                    let room = bytes.ok().and_then(|bytes| inner.cache.room().try_take(inner.owner, bytes));
                    if room.is_some() {
                        let key = Key { owner: inner.owner, unit };
                        inner.cache.load_ahead(key, || inner.unpack(file, offset, stored, unit));
                    }
                }
            }));
        }
    }
}

impl<L: Layout + 'static> BlockSource for Mapped<L> {
    fn len(&self) -> u64 {
        self.0.layout.size()
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        let whole = offset..offset.saturating_add(wide(buf.len()));
        let mut ahead = None;
        while !buf.is_empty() {
            let want = wide(buf.len());
            let run = self.0.run(offset)?;
            let mut len = run.len.min(want);
            if let Place::Stored { file, offset: at } = run.place {
                // Join runs that lie one behind the other in the same file: one read instead of many.
                while len < want {
                    let next = self.0.run(offset.saturating_add(len))?;
                    if next.place != (Place::Stored { file, offset: at.saturating_add(len) }) {
                        break;
                    }
                    len = len.saturating_add(next.len).min(want);
                }
            }
            let (now, rest) = buf.split_at_mut(narrow(len));
            match run.place {
                Place::Stored { file, offset: at } => self.0.file(file)?.read_at(now, at)?,
                Place::Packed { .. } => {
                    let ahead = ahead.get_or_insert_with(|| self.0.ahead(&whole));
                    if let Some(ahead) = ahead {
                        self.0.hand_ahead(ahead, offset.saturating_add(len));
                    }
                    self.0.read_packed(now, run.place)?;
                }
                Place::Zero | Place::Hole => now.fill(0),
                Place::Parent => self.0.read_parent(now, offset)?,
            }
            buf = rest;
            offset = offset.saturating_add(len);
        }
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        self.extent_within(offset, u64::MAX)
    }

    fn extent_within(&self, offset: u64, most: u64) -> Result<Extent> {
        check_range(offset, 1, self.len())?;
        let allowance = Allowance::take();
        let outline = |at| self.0.advancing(at, self.0.layout.outline_at(at)?);
        let mut whole = self.0.nature(offset, outline(offset)?)?;
        while allowance.spend() {
            let next = offset.saturating_add(whole.len);
            if next >= self.len() || whole.len >= most {
                break;
            }
            // What is damaged further on is told when it is asked for.
            let Ok(more) = outline(next).and_then(|run| self.0.nature(next, run)) else { break };
            if (more.zero, more.hole) != (whole.zero, whole.hole) {
                break;
            }
            whole.len = whole.len.saturating_add(more.len);
        }
        Ok(whole)
    }

    fn advise(&self, ranges: &[Range<u64>]) {
        let mut below: Vec<(&Arc<dyn BlockSource>, Vec<_>)> = Vec::new();
        for range in ranges {
            let (mut at, end) = (range.start, range.end.min(self.len()));
            for _ in 0..AHEAD_RUNS {
                if at >= end {
                    break;
                }
                let Ok(run) = self.0.run(at) else { break };
                let len = run.len.min(end.saturating_sub(at));
                let (file, from, len) = match run.place {
                    Place::Stored { file, offset } => (self.0.layout.files().get(file), offset, len),
                    Place::Packed { file, offset, stored, .. } => {
                        (self.0.layout.files().get(file), offset, stored)
                    }
                    Place::Parent => (self.0.layout.parent(), at, len),
                    Place::Zero | Place::Hole => (None, 0, len),
                };
                if let Some(file) = file {
                    let part = from..from.saturating_add(len);
                    match below.iter_mut().find(|(known, _)| Arc::ptr_eq(known, file)) {
                        Some((_, parts)) => parts.push(part),
                        None => below.push((file, vec![part])),
                    }
                }
                at = at.saturating_add(run.len);
            }
        }
        for (file, parts) in below {
            file.advise(&parts);
        }
    }

    fn step(&self, offset: u64) -> Result<Step> {
        check_range(offset, 1, self.len())?;
        let run = self.0.run(offset)?;
        let below = match run.place {
            Place::Zero => Below::Zero,
            Place::Hole => Below::Hole,
            Place::Stored { file, offset } => Below::Stored(Arc::clone(self.0.file(file)?), offset),
            Place::Packed { file, offset, stored, .. } => {
                Below::Packed(Arc::clone(self.0.file(file)?), offset, stored)
            }
            Place::Parent => match self.0.layout.parent() {
                Some(parent) if offset < parent.len() => {
                    let len = run.len.min(parent.len().saturating_sub(offset));
                    return Ok(Step { len, below: Below::Parent(Arc::clone(parent), offset) });
                }
                Some(_) => Below::PastParent,
                None => Below::Hole,
            },
        };
        Ok(Step { len: run.len, below })
    }

    fn preferred_size(&self) -> u32 {
        self.0.layout.unit_size()
    }

    fn stored_size(&self) -> u64 {
        self.0.layout.files().iter().map(|file| file.stored_size()).fold(0, u64::saturating_add)
    }
}

/// A part of a source: a partition, a member of an archive.
#[derive(Debug)]
pub struct Slice {
    source: Arc<dyn BlockSource>,
    start: u64,
    len: u64,
}

impl Slice {
    /// The `len` bytes of `source` from `start` on.
    ///
    /// # Errors
    /// `OutOfRange` when the source ends before the slice does.
    pub fn new(source: Arc<dyn BlockSource>, start: u64, len: u64) -> Result<Self> {
        match start.checked_add(len) {
            Some(end) if end <= source.len() => Ok(Self { source, start, len }),
            _ => Err(Error::out_of_range(start, len, source.len())),
        }
    }
}

impl BlockSource for Slice {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        self.source.read_at(buf, self.start.saturating_add(offset))
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        self.extent_within(offset, u64::MAX)
    }

    fn extent_within(&self, offset: u64, most: u64) -> Result<Extent> {
        check_range(offset, 1, self.len)?;
        let below = self.source.extent_within(self.start.saturating_add(offset), most)?;
        Ok(Extent { len: below.len.min(self.len.saturating_sub(offset)), ..below })
    }

    fn advise(&self, ranges: &[Range<u64>]) {
        let moved: Vec<_> = ranges
            .iter()
            .map(|r| self.start.saturating_add(r.start)..self.start.saturating_add(r.end.min(self.len)))
            .collect();
        self.source.advise(&moved);
    }

    fn step(&self, offset: u64) -> Result<Step> {
        check_range(offset, 1, self.len)?;
        let len = self.len.saturating_sub(offset);
        Ok(Step { len, below: Below::Stored(Arc::clone(&self.source), self.start.saturating_add(offset)) })
    }

    fn preferred_size(&self) -> u32 {
        self.source.preferred_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::room;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    const UNIT: u64 = 64 << 10;

    /// As many bytes as there are units, each its own number.
    #[derive(Debug)]
    struct Stored {
        units: u8,
        advised: Mutex<Vec<Range<u64>>>,
    }

    impl Stored {
        fn of(units: u8) -> Self {
            Self { units, advised: Mutex::default() }
        }
    }

    impl BlockSource for Stored {
        fn len(&self) -> u64 {
            u64::from(self.units)
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            check_range(offset, buf.len(), self.len())?;
            let first = u8::try_from(offset).unwrap();
            buf.iter_mut().zip(first..).for_each(|(byte, number)| *byte = number);
            Ok(())
        }

        fn advise(&self, ranges: &[Range<u64>]) {
            self.advised.lock().unwrap().extend_from_slice(ranges);
        }
    }

    /// Every unit is packed into the one byte that fills it; unit `bad` cannot be unpacked.
    #[derive(Debug)]
    struct Toy {
        files: [Arc<dyn BlockSource>; 1],
        bad: u64,
        unpacked: Arc<AtomicUsize>,
    }

    impl Layout for Toy {
        fn size(&self) -> u64 {
            self.files[0].len().saturating_mul(UNIT)
        }

        fn files(&self) -> &[Arc<dyn BlockSource>] {
            &self.files
        }

        fn run_at(&self, offset: u64) -> Result<Run> {
            let unit = offset.checked_div(UNIT).unwrap_or_default();
            let skip = offset.saturating_sub(unit.saturating_mul(UNIT));
            let place = Place::Packed { file: 0, offset: unit, stored: 1, unit, skip };
            Ok(Run { len: UNIT.saturating_sub(skip), place })
        }

        fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
            self.unpacked.fetch_add(1, Ordering::SeqCst);
            if unit == self.bad {
                return Err(Error::corrupt(At::new("toy", "unit").index(unit)));
            }
            Ok(vec![stored[0]; narrow(UNIT)])
        }

        fn unit_size(&self) -> u32 {
            u32::try_from(UNIT).unwrap()
        }
    }

    fn toy(units: u8, bad: u64, cache: u64) -> (Arc<dyn BlockSource>, Arc<AtomicUsize>) {
        let unpacked = Arc::new(AtomicUsize::new(0));
        let layout = Toy { files: [Arc::new(Stored::of(units))], bad, unpacked: Arc::clone(&unpacked) };
        (Mapper::new(Arc::new(Cache::new(cache))).map(layout), unpacked)
    }

    #[test]
    fn units_unpacked_beside_each_other_come_in_order_and_each_once() {
        let (disk, unpacked) = toy(100, u64::MAX, 64 << 20);
        let mut buf = vec![0; narrow(UNIT.saturating_mul(5))];
        for read in 0..20_u8 {
            let offset = u64::from(read).saturating_mul(wide(buf.len()));
            disk.read_at(&mut buf, offset).unwrap();
            for (unit, bytes) in (0_u8..).zip(buf.chunks(narrow(UNIT))) {
                let expected = read.saturating_mul(5).saturating_add(unit);
                assert!(bytes.iter().all(|byte| *byte == expected), "unit {expected}");
            }
        }
        assert_eq!(unpacked.load(Ordering::SeqCst), 100);
    }

    #[test]
    fn without_a_cache_the_bytes_are_right_too() {
        let (disk, _) = toy(20, u64::MAX, 0);
        let mut buf = vec![0; narrow(UNIT.saturating_mul(20))];
        disk.read_at(&mut buf, 0).unwrap();
        assert!((0_u8..).zip(buf.chunks(narrow(UNIT))).all(|(unit, bytes)| bytes.iter().all(|b| *b == unit)));
    }

    #[test]
    fn a_damaged_unit_fails_the_reads_that_touch_it_and_no_other() {
        let (disk, _) = toy(20, 7, 64 << 20);
        let mut buf = vec![0; narrow(UNIT)];
        for unit in 0..20_u64 {
            let read = disk.read_at(&mut buf, unit.saturating_mul(UNIT));
            assert_eq!(read.is_err(), unit == 7, "unit {unit}");
        }
        assert!(disk.read_at(&mut vec![0; narrow(UNIT.saturating_mul(20))], 0).is_err());
    }

    /// Bytes that are being unpacked, and the most that ever were.
    #[derive(Debug, Default)]
    struct Flying(AtomicU64, AtomicU64);

    impl Flying {
        fn begin(&self, bytes: u64) -> Lands<'_> {
            let now = self.0.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes);
            self.1.fetch_max(now, Ordering::SeqCst);
            Lands(self, bytes)
        }
    }

    struct Lands<'a>(&'a Flying, u64);

    impl Drop for Lands<'_> {
        fn drop(&mut self) {
            self.0.0.fetch_sub(self.1, Ordering::SeqCst);
        }
    }

    /// Units that say they are `claimed` bytes long, to spare the test the memory. Each is packed into the first byte of
    /// `spread` of its file; [`Large::BAD`] cannot be unpacked, and to try it with [`Large::PANICS`] panics.
    #[derive(Debug)]
    struct Large {
        files: [Arc<dyn BlockSource>; 1],
        spread: u64,
        claimed: u64,
        flying: Arc<Flying>,
    }

    impl Large {
        const UNITS: u64 = 24;
        const BAD: u64 = 7;
        const PANICS: u64 = 11;
    }

    impl Layout for Large {
        fn size(&self) -> u64 {
            Self::UNITS.saturating_mul(UNIT)
        }

        fn files(&self) -> &[Arc<dyn BlockSource>] {
            &self.files
        }

        fn run_at(&self, offset: u64) -> Result<Run> {
            let (unit, skip) = (offset / UNIT, offset % UNIT);
            let offset = unit.saturating_mul(self.spread);
            let place = Place::Packed { file: 0, offset, stored: 1, unit, skip };
            Ok(Run { len: UNIT.saturating_sub(skip), place })
        }

        fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
            let _lands = self.flying.begin(self.claimed);
            std::thread::sleep(std::time::Duration::from_micros(500));
            assert!(unit != Self::PANICS, "a driver's fault");
            if unit == Self::BAD {
                return Err(Error::corrupt(At::new("large", "unit").index(unit)));
            }
            Ok(vec![stored[0]; narrow(UNIT)])
        }

        fn unpacked_len(&self, _: u64) -> u64 {
            self.claimed
        }

        fn unit_size(&self) -> u32 {
            u32::try_from(UNIT).unwrap()
        }
    }

    const LARGE: u64 = 48 << 20;

    /// Layers of [`Large`], each in the one before it, the lowest first; `claimed` for each.
    fn tower(cache: &Arc<Cache>, flying: &Arc<Flying>, claimed: &[u64]) -> Vec<Arc<dyn BlockSource>> {
        let mapper = Mapper::new(Arc::clone(cache));
        let units = u8::try_from(Large::UNITS).unwrap();
        let (mut below, mut spread): (Arc<dyn BlockSource>, _) = (Arc::new(Stored::of(units)), 1);
        let layers = claimed.iter().map(|claimed| {
            let (files, flying) = ([Arc::clone(&below)], Arc::clone(flying));
            below = mapper.map(Large { files, spread, claimed: *claimed, flying });
            spread = UNIT;
            Arc::clone(&below)
        });
        layers.collect()
    }

    /// Has 24 readers read all units, `units` at a time, each from another place on, now of this disk and now of that.
    fn read_at_once(disks: &[Arc<dyn BlockSource>], units: u64) {
        let (done, all_done) = std::sync::mpsc::channel();
        for reader in 0..24_u64 {
            let (disks, done) = (disks.to_vec(), done.clone());
            std::thread::spawn(move || {
                for step in 0..Large::UNITS {
                    let disk = disks.iter().cycle().nth(narrow(reader.saturating_add(step))).unwrap();
                    let unit = reader.saturating_mul(5).saturating_add(step) % Large::UNITS;
                    let (read, offset) = (unit..unit.saturating_add(units), unit.saturating_mul(UNIT));
                    let spoilt = read.contains(&Large::BAD) || read.contains(&Large::PANICS);
                    let len = units.saturating_mul(UNIT);
                    let mut buf = vec![0; narrow(len.min(disk.len().saturating_sub(offset)))];
                    let read = std::panic::AssertUnwindSafe(|| disk.read_at(&mut buf, offset));
                    let is_fine = std::panic::catch_unwind(read).is_ok_and(|read| read.is_ok());
                    assert_eq!(is_fine, !spoilt, "unit {unit}");
                    for (number, bytes) in (unit..).zip(buf.chunks(narrow(UNIT))) {
                        assert!(spoilt || bytes.iter().all(|byte| u64::from(*byte) == number), "{number}");
                    }
                }
                done.send(()).unwrap();
            });
        }
        drop(done);
        for _ in 0..24 {
            all_done.recv_timeout(std::time::Duration::from_secs(120)).expect("a reader that gets on");
        }
    }

    #[test]
    fn many_readers_of_large_units_have_no_more_in_flight_than_there_is_room() {
        for kept in [0, 256 << 10] {
            let (cache, flying) = (Arc::new(Cache::new(kept)), Arc::default());
            read_at_once(&tower(&cache, &flying, &[LARGE]), 1);
            let most = flying.1.load(Ordering::SeqCst);
            assert!((LARGE..=room::MOST).contains(&most), "{most}");
            // With a cache the pool may still be at work.
            assert!(kept > 0 || cache.room().gauge().0 == 0);
        }
    }

    #[test]
    fn readers_of_packed_layers_in_each_other_all_get_on_and_go_over_the_room_by_one_unit_a_layer() {
        // A small unit is not counted, and yet its reader waits for large ones below while others wait for it.
        for claimed in [&[LARGE, LARGE][..], &[LARGE, UNIT, LARGE], &[LARGE, LARGE, LARGE], &[LARGE, UNIT]] {
            for (kept, units) in [(0, 1), (256 << 10, 3)] {
                let (cache, flying) = (Arc::new(Cache::new(kept)), Arc::default());
                read_at_once(&tower(&cache, &flying, claimed), units);
                let over = LARGE.saturating_mul(wide(claimed.len()).saturating_sub(1));
                // What is not counted: a small unit for each reader and each thread of the pool.
                let most = room::MOST.saturating_add(over);
                let small = UNIT.saturating_mul(64);
                let (unpacked, (taken, counted)) = (flying.1.load(Ordering::SeqCst), cache.room().gauge());
                assert!(unpacked <= most.saturating_add(small), "{claimed:?}: {unpacked}");
                assert!(counted <= most, "{claimed:?}: {counted}");
                // The pool may still be at work.
                assert!(kept > 0 || taken == 0, "{claimed:?}: {taken}");
            }
        }
    }

    /// Runs of one byte, all zero or all of a parent of the same size.
    #[derive(Debug)]
    struct Comb {
        parent: Option<Arc<dyn BlockSource>>,
        asked: Arc<AtomicUsize>,
    }

    impl Layout for Comb {
        fn size(&self) -> u64 {
            1 << 30
        }

        fn files(&self) -> &[Arc<dyn BlockSource>] {
            &[]
        }

        fn run_at(&self, _: u64) -> Result<Run> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let place = if self.parent.is_some() { Place::Parent } else { Place::Zero };
            Ok(Run { len: 1, place })
        }

        fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
            self.parent.as_ref()
        }
    }

    #[test]
    fn the_work_for_an_extent_does_not_multiply_with_the_layers() {
        let asked = Arc::new(AtomicUsize::new(0));
        let mapper = Mapper::new(Arc::new(Cache::new(0)));
        let mut disk = mapper.map(Comb { parent: None, asked: Arc::clone(&asked) });
        for _ in 0..5 {
            disk = mapper.map(Comb { parent: Some(disk), asked: Arc::clone(&asked) });
        }
        assert!(disk.extent(0).unwrap().len > 100);
        let once = asked.swap(0, Ordering::SeqCst);
        assert!(once < 40_000, "{once} runs");
        disk.extent(0).unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), once);
    }

    #[test]
    fn advice_reaches_the_file_below() {
        let file = Arc::new(Stored::of(20));
        let layout = Toy { files: [file.clone()], bad: u64::MAX, unpacked: Arc::default() };
        let disk = Mapper::new(Arc::new(Cache::new(0))).map(layout);
        disk.advise(std::slice::from_ref(&(UNIT..UNIT.saturating_mul(3))));
        assert_eq!(*file.advised.lock().unwrap(), [1..2, 2..3]);
    }
}
