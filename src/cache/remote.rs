//! A remote source: something that gives any range of itself for the price of a round trip ([`Fetch`]), made into a
//! [`BlockSource`] by [`Remote`], which keeps aligned blocks in the process's cache.
//!
//! ```text
//! read_at ─▶ claim each block ─┬─ ready            → copy
//!                              ├─ somebody's        → wait (after fetching one's own)
//!                              └─ ours, in a row    → one ranged request, several at a time
//!         └▶ reads in a row?   ─▶ the next blocks are fetched in the background; the distance doubles
//! ```
//! A request grows with the measured speed, so that it takes about a second: a slow line is not held up by read-ahead.
//! With a cache too small for one block (`--cache 0`) exactly the bytes asked for are fetched.

use super::{Bytes, Cache, Claim, Key, Landing};
use crate::block::{BlockSource, check_range};
use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// Bytes of a block: at 50 ms a round trip and 40 Mbit/s, waiting and receiving take equally long.
pub const BLOCK: u64 = 256 << 10;
/// The longest request, in blocks.
const MAX_REQUEST: u64 = 16;
/// A request's length in blocks before the speed is known.
const FIRST_REQUEST: u64 = 4;
/// Blocks that one pass of a large read holds at a time; 16 MiB.
const MAX_PASS: u64 = 64;
/// The farthest read-ahead in bytes.
const MAX_AHEAD: u64 = 8 << 20;
/// A reader must have read this much in a row before anything is read ahead of it.
const SEQUENTIAL: u64 = 128 << 10;
/// Readers told apart by the read-ahead.
const STREAMS: usize = 16;
/// Requests that wait for a background thread; more are forgotten.
const MAX_QUEUE: usize = 64;
/// Threads that read ahead, of the [`PARALLEL`] requests there may be: a reader always finds a free one soon.
const MAX_BACKGROUND: usize = 4;
/// Requests to one source at a time.
pub const PARALLEL: usize = 8;

/// Something far away.
pub trait Fetch: Send + Sync + fmt::Debug + 'static {
    /// Its size in bytes. Constant.
    fn len(&self) -> u64;

    /// Is there nothing in it?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Exactly the bytes of `range`, which lies inside; with whatever patience the source deserves.
    ///
    /// # Errors
    /// `Changed` when it is not what it was: this is remembered, and nothing is read any more. Anything else may pass.
    fn fetch(&self, range: Range<u64>) -> Result<Vec<u8>>;

    /// What people call it.
    fn label(&self) -> String;
}

/// A remote source behind the process's cache. See the module's picture.
pub struct Remote<F>(Arc<Shared<F>>);

struct Shared<F> {
    far: F,
    cache: Arc<Cache>,
    owner: u64,
    /// Set once it changed under us; then every read fails, also of what is cached.
    changed: OnceLock<Error>,
    permits: Permits,
    /// Bytes a second of one request, smoothed; 0 before the first.
    speed: AtomicU64,
    streams: Mutex<Streams>,
    queue: Mutex<Queue>,
}

impl<F: Fetch> fmt::Debug for Remote<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({:?})", self.0.far)
    }
}

impl<F: Fetch> Remote<F> {
    /// Puts `far` behind `cache`. `head` are its first bytes, if they came along with opening it.
    #[must_use]
    pub fn new(far: F, cache: Arc<Cache>, head: &[u8]) -> Self {
        let shared = Shared {
            owner: cache.new_owner(),
            far,
            changed: OnceLock::new(),
            permits: Permits::new(PARALLEL),
            speed: AtomicU64::new(0),
            streams: Mutex::default(),
            queue: Mutex::default(),
            cache,
        };
        for (number, bytes) in (0..).zip(head.chunks(narrow(BLOCK))) {
            let block = shared.block_range(number);
            let whole = block.start.saturating_add(wide(bytes.len())) == block.end;
            if let Some(landing) = shared.cache.claim_absent(shared.key(number)).filter(|_| whole) {
                drop(landing.land(Ok(bytes.to_vec())));
            }
        }
        Self(Arc::new(shared))
    }

    /// The remote end.
    #[must_use]
    pub fn far(&self) -> &F {
        &self.0.far
    }
}

impl<F: Fetch> BlockSource for Remote<F> {
    fn len(&self) -> u64 {
        self.0.far.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        self.0.check_unchanged()?;
        if buf.is_empty() {
            return Ok(());
        }
        let read = offset..offset.saturating_add(wide(buf.len()));
        if !self.0.cache.keeps(BLOCK) {
            return self.0.read_uncached(buf, offset);
        }
        self.read_ahead_of(&read);
        let blocks = blocks_of(&read);
        let (mut rest, mut at) = (buf, offset);
        for first in blocks.clone().step_by(narrow(MAX_PASS)) {
            let pass = first..first.saturating_add(MAX_PASS).min(blocks.end);
            for (number, bytes) in pass.clone().zip(self.0.load(pass)?) {
                let skip = at.saturating_sub(number.saturating_mul(BLOCK));
                let part = bytes.get(narrow(skip)..).unwrap_or_default();
                let (now, later) = rest.split_at_mut(part.len().min(rest.len()));
                now.copy_from_slice(part.get(..now.len()).unwrap_or_default());
                at = at.saturating_add(wide(now.len()));
                rest = later;
            }
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Internal, "a remote block is too short"))
        }
    }

    fn advise(&self, ranges: &[Range<u64>]) {
        if self.0.cache.keeps(BLOCK) {
            for range in ranges {
                self.enqueue(range.start..range.end.min(self.len()));
            }
        }
    }

    fn label(&self) -> String {
        self.0.far.label()
    }

    fn preferred_size(&self) -> u32 {
        u32::try_from(BLOCK).unwrap_or(u32::MAX)
    }
}

/// The numbers of the blocks that `range` touches.
fn blocks_of(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() {
        return 0..0;
    }
    (range.start / BLOCK)..range.end.div_ceil(BLOCK)
}

/// Blocks in a row that one request brings.
struct Row<'a> {
    first: u64,
    landings: Vec<Landing<'a>>,
}

impl<F: Fetch> Shared<F> {
    fn key(&self, number: u64) -> Key {
        Key { owner: self.owner, unit: number }
    }

    /// The bytes of a block; the last one may be short.
    fn block_range(&self, number: u64) -> Range<u64> {
        let start = number.saturating_mul(BLOCK);
        start..start.saturating_add(BLOCK).min(self.far.len())
    }

    fn check_unchanged(&self) -> Result<()> {
        self.changed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// How many blocks one request should ask for, when `blocks` are wanted altogether.
    fn request_blocks(&self, blocks: u64) -> u64 {
        let speed = self.speed.load(Ordering::Relaxed);
        let most = if speed == 0 { FIRST_REQUEST } else { (speed / BLOCK).clamp(1, MAX_REQUEST) };
        let share = blocks.div_ceil(wide(PARALLEL));
        share.max(FIRST_REQUEST).min(most)
    }

    /// One request. A range that it does not fill is the fetcher's fault.
    fn fetch(&self, range: Range<u64>) -> Result<Vec<u8>> {
        self.check_unchanged()?;
        let want = range.end.saturating_sub(range.start);
        let permit = self.permits.take();
        let start = Instant::now();
        let result = self.far.fetch(range);
        drop(permit);
        match result {
            Ok(bytes) if wide(bytes.len()) == want => {
                let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
                let now = want.saturating_mul(1_000_000).checked_div(took).unwrap_or(0);
                let before = self.speed.load(Ordering::Relaxed);
                let smooth = if before == 0 { now } else { before.saturating_mul(3).saturating_add(now) / 4 };
                self.speed.store(smooth.max(1), Ordering::Relaxed);
                Ok(bytes)
            }
            Ok(bytes) => Err(Error::new(
                ErrorKind::Internal,
                format!("{} bytes were fetched where {want} were asked for", bytes.len()),
            )),
            Err(error) => {
                if error.kind() == ErrorKind::Changed {
                    drop(self.changed.set(error.clone()));
                }
                Err(error)
            }
        }
    }

    fn read_uncached(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut at = offset;
        for part in buf.chunks_mut(narrow(BLOCK.saturating_mul(FIRST_REQUEST))) {
            let end = at.saturating_add(wide(part.len()));
            part.copy_from_slice(&self.fetch(at..end)?);
            at = end;
        }
        Ok(())
    }

    /// Fetches a row and lands each block of it, or the error on each.
    fn fetch_row(&self, row: Row<'_>) -> Vec<Result<Bytes>> {
        let Some(last) = row.first.checked_add(wide(row.landings.len())).and_then(|end| end.checked_sub(1))
        else {
            return Vec::new();
        };
        let range = self.block_range(row.first).start..self.block_range(last).end;
        match self.fetch(range) {
            Ok(bytes) => {
                let blocks = bytes.chunks(narrow(BLOCK));
                row.landings
                    .into_iter()
                    .zip(blocks)
                    .map(|(landing, block)| landing.land(Ok(block.to_vec())))
                    .collect()
            }
            Err(error) => row.landings.into_iter().map(|landing| landing.land(Err(error.clone()))).collect(),
        }
    }

    /// Cuts claimed blocks into rows: neighbours together, none longer than a request should be.
    fn rows<'a>(&self, claimed: Vec<(u64, Landing<'a>)>) -> Vec<Row<'a>> {
        let longest = self.request_blocks(wide(claimed.len()));
        let mut rows: Vec<Row<'a>> = Vec::new();
        for (number, landing) in claimed {
            match rows.last_mut() {
                Some(row)
                    if row.first.saturating_add(wide(row.landings.len())) == number
                        && wide(row.landings.len()) < longest =>
                {
                    row.landings.push(landing);
                }
                _ => rows.push(Row { first: number, landings: vec![landing] }),
            }
        }
        rows
    }

    /// The blocks, in order: from the cache, from whoever is loading them, or fetched now.
    fn load(&self, numbers: Range<u64>) -> Result<Vec<Bytes>> {
        let mut found: Vec<(u64, Result<Bytes>)> = Vec::new();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for number in numbers {
            match self.cache.claim(self.key(number)) {
                Claim::Ready(bytes) => found.push((number, Ok(bytes))),
                Claim::Flying(flight) => theirs.push((number, flight)),
                Claim::Mine(landing) => ours.push((number, landing)),
            }
        }
        found.extend(self.fetch_rows(self.rows(ours)));
        for (number, flight) in theirs {
            // Their failure is not ours: it may have been read-ahead's, with nobody there to try again.
            let bytes = flight.wait().or_else(|_| {
                self.cache.get_or_load(self.key(number), || self.fetch(self.block_range(number)))
            });
            found.push((number, bytes));
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// Fetches rows side by side; [`Permits`] bounds how many at a time.
    fn fetch_rows(&self, mut rows: Vec<Row<'_>>) -> Vec<(u64, Result<Bytes>)> {
        let numbered = |first: u64, blocks: Vec<Result<Bytes>>| {
            (first..).zip(blocks).collect::<Vec<(u64, Result<Bytes>)>>()
        };
        let Some(last) = rows.pop() else { return Vec::new() };
        std::thread::scope(|scope| {
            let spawned: Vec<_> = rows
                .into_iter()
                .map(|row| scope.spawn(move || numbered(row.first, self.fetch_row(row))))
                .collect();
            let mut found = numbered(last.first, self.fetch_row(last));
            for thread in spawned {
                // A fetcher that panicked has landed an error on its blocks; the panic goes on in the reader.
                found.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            found
        })
    }
}

/// So many requests at a time.
struct Permits {
    free: Mutex<usize>,
    bell: Condvar,
}

struct Permit<'a>(&'a Permits);

impl Permits {
    fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), bell: Condvar::new() }
    }

    fn take(&self) -> Permit<'_> {
        let mut free = super::lock(&self.free);
        while *free == 0 {
            free = self.bell.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free = free.saturating_sub(1);
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut free = super::lock(&self.0.free);
        *free = free.saturating_add(1);
        self.0.bell.notify_one();
    }
}

/// One reader that goes through the source in order.
struct Stream {
    start: u64,
    next: u64,
    /// Up to where was read ahead.
    ahead: u64,
    window: u64,
}

/// The latest readers, the most recent at the end.
#[derive(Default)]
struct Streams(Vec<Stream>);

impl Streams {
    /// Notes a read; the range that should be read ahead because of it, if any.
    fn note(&mut self, read: &Range<u64>, most: u64) -> Option<Range<u64>> {
        // Readers with several threads (FUSE, nbdcopy) arrive a little out of order.
        let follows = |stream: &Stream| {
            read.start <= stream.next.saturating_add(SEQUENTIAL)
                && read.end >= stream.next.saturating_sub(SEQUENTIAL).max(stream.start)
        };
        let Some(at) = self.0.iter().rposition(follows) else {
            if self.0.len() >= STREAMS {
                self.0.remove(0);
            }
            self.0.push(Stream { start: read.start, next: read.end, ahead: read.end, window: BLOCK });
            return None;
        };
        let mut stream = self.0.remove(at);
        stream.next = stream.next.max(read.end);
        stream.ahead = stream.ahead.max(stream.next);
        let far_enough = stream.next.saturating_sub(stream.start) >= SEQUENTIAL;
        // Half of what was read ahead is used up: twice as much again.
        let due = stream.ahead.saturating_sub(stream.next) <= stream.window / 2;
        let wanted = (far_enough && due).then(|| {
            stream.window = stream.window.saturating_mul(2).min(most).max(BLOCK);
            let from = stream.ahead;
            stream.ahead = stream.next.saturating_add(stream.window).max(from);
            from..stream.ahead
        });
        self.0.push(stream);
        wanted.filter(|range| !range.is_empty())
    }
}

/// What the background threads have to do.
#[derive(Default)]
struct Queue {
    rows: VecDeque<Range<u64>>,
    threads: usize,
}

impl<F: Fetch> Remote<F> {
    fn read_ahead_of(&self, read: &Range<u64>) {
        let most = MAX_AHEAD.min(self.0.cache.capacity() / 8);
        let wanted = super::lock(&self.0.streams).note(read, most);
        if let Some(range) = wanted.filter(|range| range.start < self.len()) {
            self.enqueue(range.start..range.end.min(self.len()));
        }
    }

    /// Hands a range to the background, cut into requests. What does not fit is forgotten: it is a hint.
    fn enqueue(&self, range: Range<u64>) {
        let blocks = blocks_of(&range);
        let step = self.0.request_blocks(blocks.end.saturating_sub(blocks.start));
        let mut queue = super::lock(&self.0.queue);
        for first in blocks.clone().step_by(narrow(step.max(1))) {
            if queue.rows.len() >= MAX_QUEUE {
                break;
            }
            let row = first..first.saturating_add(step).min(blocks.end);
            if !queue.rows.contains(&row) {
                queue.rows.push_back(row);
            }
        }
        while queue.threads < MAX_BACKGROUND.min(queue.rows.len()) {
            let shared = Arc::clone(&self.0);
            let thread = std::thread::Builder::new().name("read-ahead".to_owned());
            if thread.spawn(move || shared.work_off_queue()).is_err() {
                break;
            }
            queue.threads = queue.threads.saturating_add(1);
        }
    }
}

/// A background thread's place in the count, given back also when it panics.
struct Worker<'a>(&'a Mutex<Queue>);

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        let mut queue = super::lock(self.0);
        queue.threads = queue.threads.saturating_sub(1);
    }
}

impl<F: Fetch> Shared<F> {
    /// Fetches what is queued and not there yet, then ends. Errors are forgotten: whoever wants the block will see its own.
    fn work_off_queue(&self) {
        let _worker = Worker(&self.queue);
        loop {
            let row = super::lock(&self.queue).rows.pop_front();
            let Some(row) = row else { return };
            let claimed: Vec<_> =
                row.filter_map(|number| Some((number, self.cache.claim_absent(self.key(number))?))).collect();
            for row in self.rows(claimed) {
                drop(self.fetch_row(row));
            }
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    reason = "a test panics where something is wrong"
)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    /// A far end that notes what it is asked for.
    #[derive(Debug)]
    struct Far {
        len: u64,
        asked: Mutex<Vec<Range<u64>>>,
        broken: AtomicBool,
        changed: AtomicBool,
    }

    fn byte(at: u64) -> u8 {
        (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
    }

    fn bytes(range: Range<u64>) -> Vec<u8> {
        range.map(byte).collect()
    }

    impl Fetch for Far {
        fn len(&self) -> u64 {
            self.len
        }
        fn fetch(&self, range: Range<u64>) -> Result<Vec<u8>> {
            self.asked.lock().unwrap().push(range.clone());
            std::thread::sleep(Duration::from_millis(2));
            if self.changed.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Changed, "changed"));
            }
            if self.broken.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Io, "broken"));
            }
            Ok(bytes(range))
        }
        fn label(&self) -> String {
            "far".to_owned()
        }
    }

    fn far(len: u64) -> Far {
        Far { len, asked: Mutex::default(), broken: AtomicBool::new(false), changed: AtomicBool::new(false) }
    }

    fn remote(len: u64, cache: u64) -> Remote<Far> {
        Remote::new(far(len), Arc::new(Cache::new(cache)), &[])
    }

    fn asked(remote: &Remote<Far>) -> Vec<Range<u64>> {
        remote.far().asked.lock().unwrap().clone()
    }

    fn range(start: u64, end: u64) -> Range<u64> {
        start..end
    }

    fn read(remote: &Remote<Far>, range: Range<u64>) -> Result<Vec<u8>> {
        let mut buf = vec![0; (range.end - range.start) as usize];
        remote.read_at(&mut buf, range.start)?;
        Ok(buf)
    }

    #[test]
    fn any_range_equals_the_far_ends() {
        let remote = remote((5 << 20) + 12_345, 64 << 20);
        let mut seed = 1_u64;
        for _ in 0..200 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let start = (seed >> 20) % remote.len();
            let end = (start + 1 + (seed >> 40) % (700 << 10)).min(remote.len());
            assert!(read(&remote, start..end).unwrap() == bytes(start..end), "{start}..{end}");
        }
    }

    #[test]
    fn a_block_is_fetched_once_for_two_small_reads() {
        let remote = remote(10 << 20, 64 << 20);
        read(&remote, 1000..1100).unwrap();
        read(&remote, 90_000..90_001).unwrap();
        assert_eq!(asked(&remote), vec![range(0, BLOCK)]);
    }

    #[test]
    fn a_large_read_asks_for_blocks_in_a_row_together() {
        let remote = remote(64 << 20, 256 << 20);
        assert!(read(&remote, 0..4 << 20).unwrap() == bytes(0..4 << 20));
        let asked = asked(&remote);
        assert!(asked.len() <= 4, "16 blocks took {} requests", asked.len());
    }

    #[test]
    fn the_head_that_came_with_opening_is_not_fetched_again() {
        let head = bytes(0..BLOCK + 100);
        let remote = Remote::new(far(10 << 20), Arc::new(Cache::new(64 << 20)), &head);
        assert!(read(&remote, 0..BLOCK).unwrap() == bytes(0..BLOCK));
        assert!(asked(&remote).is_empty());
        assert!(read(&remote, BLOCK..BLOCK + 200).unwrap() == bytes(BLOCK..BLOCK + 200));
    }

    #[test]
    fn without_a_cache_exactly_the_bytes_asked_for_are_fetched() {
        let remote = remote(10 << 20, 0);
        assert_eq!(read(&remote, 5_000_000..5_000_100).unwrap(), bytes(5_000_000..5_000_100));
        assert_eq!(asked(&remote), vec![range(5_000_000, 5_000_100)]);
    }

    #[test]
    fn reading_in_order_is_read_ahead_of() {
        let remote = remote(64 << 20, 256 << 20);
        let mut at = 0;
        while at < 32 << 20 {
            assert!(read(&remote, at..at + (64 << 10)).unwrap() == bytes(at..at + (64 << 10)), "{at}");
            at += 64 << 10;
        }
        let requests = asked(&remote).len();
        assert!(requests < 60, "32 MiB in order took {requests} requests");
    }

    #[test]
    fn scattered_small_reads_are_not_read_ahead_of() {
        let remote = remote(1 << 30, 256 << 20);
        for n in 0..20 {
            read(&remote, n * (40 << 20)..n * (40 << 20) + 4096).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(asked(&remote).len(), 20);
    }

    #[test]
    fn advised_ranges_are_there_when_they_are_read() {
        let remote = remote(64 << 20, 256 << 20);
        remote.advise(&[0..100, 40 << 20..41 << 20, 1 << 50..1 << 51]);
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(5));
            if remote.0.queue.lock().unwrap().threads == 0 {
                break;
            }
        }
        let before = asked(&remote).len();
        read(&remote, 40 << 20..41 << 20).unwrap();
        assert_eq!(asked(&remote).len(), before);
    }

    #[test]
    fn sixteen_readers_fetch_each_block_once() {
        let remote = remote(8 << 20, 256 << 20);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| assert!(read(&remote, 0..8 << 20).unwrap() == bytes(0..8 << 20)));
            }
        });
        let total: u64 = asked(&remote).iter().map(|range| range.end - range.start).sum();
        assert_eq!(total, 8 << 20);
    }

    #[test]
    fn an_error_is_told_and_then_forgotten() {
        let remote = remote(8 << 20, 256 << 20);
        remote.far().broken.store(true, Ordering::SeqCst);
        assert_eq!(read(&remote, 0..100).unwrap_err().kind(), ErrorKind::Io);
        remote.far().broken.store(false, Ordering::SeqCst);
        assert_eq!(read(&remote, 0..100).unwrap(), bytes(0..100));
    }

    #[test]
    fn a_change_is_for_ever_also_for_what_is_cached() {
        let remote = remote(8 << 20, 256 << 20);
        read(&remote, 0..100).unwrap();
        remote.far().changed.store(true, Ordering::SeqCst);
        assert_eq!(read(&remote, 4 << 20..5 << 20).unwrap_err().kind(), ErrorKind::Changed);
        remote.far().changed.store(false, Ordering::SeqCst);
        assert_eq!(read(&remote, 0..100).unwrap_err().kind(), ErrorKind::Changed);
    }
}
