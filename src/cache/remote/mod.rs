//! A remote source: something that gives any range of itself for the price of a round trip ([`Fetch`]), made into a
//! [`BlockSource`] by [`Remote`], which keeps aligned blocks in the process's cache, and on disk if the user wants that.
//!
//! ```text
//! read_at ─▶ claim each block ─┬─ ready            → copy
//!                              ├─ somebody's        → wait (after fetching one's own)
//!                              ├─ ours, on disk     → read, check, copy                        (`--cache-dir`)
//!                              └─ ours, in a row    → one ranged request, several at a time; each block is there for
//!         │                                           everyone as soon as it has arrived
//!         └▶ reads in a row?   ─▶ the next blocks are fetched in the background; the distance grows
//! ```
//! A scattered read near earlier ones brings its neighbours along: file systems keep inodes and directories together.
//!
//! Requests and read-ahead grow with the measured speed, so that a request takes about a second and a slow line is not
//! held up by what nobody may want. With a cache too small for one block (`--cache 0`) exactly the bytes asked for are
//! fetched.

mod permits;
mod streams;

use super::disk::Shelf;
use super::{Bytes, Cache, Claim, Key, Landing, Use};
use crate::block::{BlockSource, check_range};
use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use permits::Permits;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use streams::Streams;

/// Bytes of a block: at 50 ms a round trip and 40 Mbit/s, waiting and receiving take equally long.
pub const BLOCK: u64 = 256 << 10;
/// The longest request, in blocks: eight of them keep a line of 10 Gbit/s busy for three times the 50 ms that each waits.
const MAX_REQUEST: u64 = 96;
/// A request's length in blocks before the speed is known.
const FIRST_REQUEST: u64 = 4;
/// Blocks that one pass of a large read holds at a time; 16 MiB.
const MAX_PASS: u64 = 64;
/// The farthest read-ahead in bytes, where the user said nothing: eight of the longest requests.
const MAX_AHEAD: u64 = 192 << 20;
/// A scattered read is near another one within so many blocks: 4 MiB, which is where ext4 keeps a few hundred directories.
const NEAR: u64 = 16;
/// Near how many others it brings its neighbours: so many blocks before it and behind it. Of the sizes that were tried on
/// an import check, these cost the fewest requests for one fifth of bytes more.
const CROWD: usize = 2;
const BEFORE: u64 = 3;
const BEHIND: u64 = 1;
/// The slowest line on which it does, in bytes a second of one request: a quarter of a second for the neighbours.
const FAST_ENOUGH: u64 = 4 << 20;
/// The longest request that is made at once on such a line, in blocks: 4 MiB.
const AT_ONCE: u64 = 16;
/// Who refuses within this time is asked once more for what is wanted alone.
const PROMPT: Duration = Duration::from_secs(1);
/// Scattered reads that are remembered.
const REMEMBERED: usize = 256;
/// Requests that wait for a background thread; more are forgotten.
const MAX_QUEUE: usize = 64;
/// Requests to one source at a time, where the user said nothing.
pub const CONNECTIONS: usize = 8;

/// How a remote source is read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Requests at a time, at least 1.
    pub connections: usize,
    /// Bytes read ahead of a reader that goes through it in order: at most so many; `None` for what the line bears.
    pub readahead: Option<u64>,
    /// Where its blocks are kept between runs.
    pub shelf: Option<Shelf>,
}

impl Default for Reading {
    fn default() -> Self {
        Self { connections: CONNECTIONS, readahead: None, shelf: None }
    }
}

/// Something far away.
pub trait Fetch: Send + Sync + fmt::Debug + 'static {
    /// Its size in bytes. Constant.
    fn len(&self) -> u64;

    /// Is there nothing in it?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands over exactly the bytes of `range`, which lies inside, in order and as they arrive: in pieces of [`BLOCK`]
    /// bytes, only the last of which may be shorter. With whatever patience the source deserves. `take` gives a buffer back
    /// to receive the next piece into; what is in it means nothing, and it may be empty.
    ///
    /// # Errors
    /// `Changed` when it is not what it was: this is remembered, and nothing is read any more. Anything else may pass.
    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(Vec<u8>) -> Vec<u8>) -> Result<()>;

    /// What people call it.
    fn label(&self) -> String;
}

/// A remote source behind the process's cache. See the module's picture.
pub struct Remote<F>(Arc<Shared<F>>);

struct Shared<F> {
    far: F,
    cache: Arc<Cache>,
    owner: u64,
    shelf: Option<Shelf>,
    readahead: Option<u64>,
    connections: usize,
    /// Set once it changed under us; then every read fails, also of what is cached.
    changed: OnceLock<Error>,
    permits: Permits,
    /// Bytes a second of one request, smoothed; 0 before the first.
    speed: AtomicU64,
    streams: Mutex<Streams>,
    /// Where scattered reads were, by their blocks, the latest at the end.
    scattered: Mutex<VecDeque<u64>>,
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
    pub fn new(far: F, cache: Arc<Cache>, head: &[u8], how: Reading) -> Self {
        let connections = how.connections.max(1);
        let mut shared = Shared {
            owner: cache.new_owner(),
            far,
            shelf: how.shelf,
            readahead: how.readahead,
            connections,
            changed: OnceLock::new(),
            permits: Permits::new(connections),
            speed: AtomicU64::new(0),
            streams: Mutex::default(),
            scattered: Mutex::default(),
            queue: Mutex::default(),
            cache,
        };
        for (number, bytes) in (0..).zip(head.chunks(narrow(BLOCK))) {
            let block = shared.block_range(number);
            if block.start.saturating_add(wide(bytes.len())) != block.end {
                continue;
            }
            // Bytes just received against bytes kept: where they differ, the validators tell nothing.
            let kept = shared.shelf.as_ref().and_then(|shelf| shelf.get(number, bytes.len()));
            match kept {
                Some(kept) if kept != bytes => {
                    tracing::warn!("{}: is another than the one in the cache directory", shared.far.label());
                    shared.shelf = None;
                }
                Some(_) => {}
                None => shared.keep(number, bytes),
            }
            if let Some(landing) = shared.cache.claim_absent(shared.key(number)) {
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
        let purpose = self.read_ahead_of(&read);
        let blocks = blocks_of(&read);
        let (mut rest, mut at) = (buf, offset);
        for first in blocks.clone().step_by(narrow(MAX_PASS)) {
            let pass = first..first.saturating_add(MAX_PASS).min(blocks.end);
            let start = Instant::now();
            let loaded = match self.0.load(pass.clone(), purpose) {
                Ok(loaded) => loaded,
                // What cannot be read may be a neighbour of what is wanted. Who takes long to refuse is not asked again.
                Err(error) if error.kind() == ErrorKind::Io && start.elapsed() < PROMPT => {
                    let end = pass.end.saturating_mul(BLOCK);
                    let (now, later) = rest.split_at_mut(narrow(end.saturating_sub(at)).min(rest.len()));
                    self.0.read_one_by_one(now, at)?;
                    at = at.saturating_add(wide(now.len()));
                    rest = later;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (number, bytes) in pass.zip(loaded) {
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
                let range = range.start..range.end.min(self.len());
                let blocks = range.end.saturating_sub(range.start).div_ceil(BLOCK);
                self.enqueue(range, self.0.request_blocks(blocks));
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
        let share = blocks.div_ceil(wide(self.connections).max(1));
        // What arrives in a quarter of a second is not worth a request more.
        let quick = (speed / BLOCK / 4).clamp(FIRST_REQUEST, AT_ONCE);
        share.max(quick).min(most)
    }

    /// How far to read ahead at most: what the line brings in a second, and less than the cache can hold.
    fn most_ahead(&self) -> u64 {
        let speed = self.speed.load(Ordering::Relaxed);
        let line = speed.saturating_mul(wide(self.connections)).max(BLOCK.saturating_mul(FIRST_REQUEST));
        let line = if speed == 0 { MAX_AHEAD } else { line.min(MAX_AHEAD) };
        let room = self.cache.capacity();
        self.readahead.unwrap_or(line).min(room.saturating_sub(room / 4))
    }

    /// One request. A range that it does not fill is the fetcher's fault.
    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(Vec<u8>) -> Vec<u8>) -> Result<()> {
        self.check_unchanged()?;
        let want = range.end.saturating_sub(range.start);
        let mut got = 0_u64;
        let permit = self.permits.take();
        let start = Instant::now();
        let result = self.far.fetch(range, &mut |piece| {
            got = got.saturating_add(wide(piece.len()));
            take(piece)
        });
        drop(permit);
        match result {
            Ok(()) if got == want => {
                let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
                let now = want.saturating_mul(1_000_000).checked_div(took).unwrap_or(0);
                let before = self.speed.load(Ordering::Relaxed);
                let smooth = if before == 0 { now } else { before.saturating_mul(3).saturating_add(now) / 4 };
                self.speed.store(smooth.max(1), Ordering::Relaxed);
                Ok(())
            }
            Ok(()) => Err(Error::new(
                ErrorKind::Internal,
                format!("{got} bytes were fetched where {want} were asked for"),
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
            let mut rest = part;
            self.fetch(at..end, &mut |piece| {
                let (now, later) =
                    std::mem::take(&mut rest).split_at_mut_checked(piece.len()).unwrap_or_default();
                now.copy_from_slice(piece.get(..now.len()).unwrap_or_default());
                rest = later;
                piece
            })?;
            at = end;
        }
        Ok(())
    }

    /// Reads block by block, and of a block that cannot be read no more than is wanted.
    fn read_one_by_one(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let (mut rest, mut at) = (buf, offset);
        while !rest.is_empty() {
            let number = at / BLOCK;
            let block = self.block_range(number);
            let skip = narrow(at.saturating_sub(block.start));
            let (now, later) = rest.split_at_mut(narrow(block.end.saturating_sub(at)).min(rest.len()).max(1));
            let is_part = wide(now.len()) < block.end.saturating_sub(block.start);
            match self.load_one(number) {
                Ok(bytes) => {
                    let part = bytes.get(skip..skip.saturating_add(now.len()));
                    let short = || Error::new(ErrorKind::Internal, "a remote block is too short");
                    now.copy_from_slice(part.ok_or_else(short)?);
                }
                Err(error) if is_part && error.kind() == ErrorKind::Io => self.read_uncached(now, at)?,
                Err(error) => return Err(error),
            }
            at = at.saturating_add(wide(now.len()));
            rest = later;
        }
        Ok(())
    }

    /// One block, alone.
    fn load_one(&self, number: u64) -> Result<Bytes> {
        self.cache.get_or_load(self.key(number), || {
            let mut block = Vec::new();
            self.fetch(self.block_range(number), &mut |piece| std::mem::replace(&mut block, piece))?;
            Ok(block)
        })
    }

    /// Keeps a block on disk, if the user wants that.
    fn keep(&self, number: u64, bytes: &[u8]) {
        if let Some(shelf) = &self.shelf {
            shelf.put(number, bytes);
        }
    }

    /// Fetches a row and lands each block of it as it arrives; those that do not, with the error.
    fn fetch_row(&self, row: Row<'_>) -> Vec<Result<Bytes>> {
        let Some(last) = row.first.checked_add(wide(row.landings.len())).and_then(|end| end.checked_sub(1))
        else {
            return Vec::new();
        };
        let range = self.block_range(row.first).start..self.block_range(last).end;
        let mut landings = (row.first..).zip(row.landings);
        let mut landed = Vec::new();
        let done = self.fetch(range, &mut |block| {
            if let Some((number, landing)) = landings.next() {
                // First, because who has got the last block may end the process.
                self.keep(number, &block);
                landed.push(landing.land(Ok(block)));
            }
            self.cache.spare()
        });
        let missing = done.err().unwrap_or_else(|| Error::new(ErrorKind::Internal, "a block did not arrive"));
        landed.extend(landings.map(|(_, landing)| landing.land(Err(missing.clone()))));
        landed
    }

    /// Lands what lies on disk; what is left has to be fetched.
    fn land_kept<'a>(
        &self,
        claimed: Vec<(u64, Landing<'a>)>,
        mut found: impl FnMut(u64, Result<Bytes>),
    ) -> Vec<(u64, Landing<'a>)> {
        let Some(shelf) = &self.shelf else { return claimed };
        let mut absent = Vec::new();
        for (number, landing) in claimed {
            let block = self.block_range(number);
            match shelf.get(number, narrow(block.end.saturating_sub(block.start))) {
                Some(bytes) => found(number, landing.land(Ok(bytes))),
                None => absent.push((number, landing)),
            }
        }
        absent
    }

    /// Cuts claimed blocks into rows: neighbours together, none longer than `longest`.
    fn rows<'a>(claimed: Vec<(u64, Landing<'a>)>, longest: u64) -> Vec<Row<'a>> {
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
    fn load(&self, numbers: Range<u64>, purpose: Use) -> Result<Vec<Bytes>> {
        let mut found: Vec<(u64, Result<Bytes>)> = Vec::new();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for number in numbers.clone() {
            match self.cache.claim(self.key(number), purpose) {
                Claim::Ready(bytes) => found.push((number, Ok(bytes))),
                Claim::Flying(flight) => theirs.push((number, flight)),
                Claim::Mine(landing) => ours.push((number, landing)),
            }
        }
        let mut ours = self.land_kept(ours, |number, bytes| found.push((number, bytes)));
        let wanted = wide(ours.len());
        if let (Use::Again, [(number, _)]) = (purpose, ours.as_slice()) {
            let (near, absent) =
                (self.neighbours(*number), |near| Some((near, self.cache.claim_absent(self.key(near))?)));
            // In a row with it: one request.
            let mut more: Vec<_> = (number.saturating_add(1)..near.end).map_while(absent).collect();
            more.extend((near.start..*number).rev().map_while(absent));
            ours.extend(self.land_kept(more, |_, _| {}));
            ours.sort_unstable_by_key(|(number, _)| *number);
        }
        let longest = self.request_blocks(wanted).max(BEFORE.saturating_add(BEHIND).saturating_add(1));
        let mut found: Vec<(u64, Bytes)> =
            found.into_iter().map(|(number, bytes)| Ok((number, bytes?))).collect::<Result<_>>()?;
        let fetched = self.fetch_rows(Self::rows(ours, longest))?;
        found.extend(fetched.into_iter().filter(|(number, _)| numbers.contains(number)));
        for (number, flight) in theirs {
            // Their failure is not ours: it may have been read-ahead's, with nobody there to try again.
            let bytes = flight.wait().or_else(|_| self.load_one(number));
            found.push((number, bytes?));
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        Ok(found.into_iter().map(|(_, bytes)| bytes).collect())
    }

    /// The blocks to fetch where one is missing: more, the more scattered reads were near it.
    fn neighbours(&self, number: u64) -> Range<u64> {
        let mut scattered = super::lock(&self.scattered);
        let close = scattered.iter().filter(|other| other.abs_diff(number) <= NEAR).count();
        if scattered.len() >= REMEMBERED {
            scattered.pop_front();
        }
        scattered.push_back(number);
        if close < CROWD || self.speed.load(Ordering::Relaxed) < FAST_ENOUGH {
            return number..number.saturating_add(1);
        }
        let end = number.saturating_add(BEHIND).saturating_add(1);
        number.saturating_sub(BEFORE)..end.min(self.far.len().div_ceil(BLOCK))
    }

    /// Fetches rows side by side; no more are begun once one has failed, for the next would most likely fail as slowly.
    fn fetch_rows(&self, rows: Vec<Row<'_>>) -> Result<Vec<(u64, Bytes)>> {
        let helpers = rows.len().min(self.connections).saturating_sub(1);
        let (rows, failed) = (Mutex::new(rows.into_iter()), OnceLock::<Error>::new());
        let work = || {
            let mut found = Vec::new();
            loop {
                let Some(row) = super::lock(&rows).next() else { return found };
                if let Some(error) = failed.get() {
                    row.landings.into_iter().for_each(|landing| drop(landing.land(Err(error.clone()))));
                    continue;
                }
                for (number, block) in (row.first..).zip(self.fetch_row(row)) {
                    match block {
                        Ok(bytes) => found.push((number, bytes)),
                        Err(error) => drop(failed.set(error)),
                    }
                }
            }
        };
        let found = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..helpers {
                // Where there are no more threads, those that there are do the work.
                let Ok(thread) = std::thread::Builder::new().spawn_scoped(scope, work) else { break };
                threads.push(thread);
            }
            let mut found = work();
            for thread in threads {
                // A fetcher that panicked has landed an error on its blocks; the panic goes on in the reader.
                found.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            found
        });
        failed.into_inner().map_or(Ok(found), Err)
    }
}

/// What the background threads have to do.
#[derive(Default)]
struct Queue {
    rows: VecDeque<Range<u64>>,
    threads: usize,
}

impl<F: Fetch> Remote<F> {
    /// Has the background fetch what a reader in order will want next; what the reader wants this for.
    fn read_ahead_of(&self, read: &Range<u64>) -> Use {
        let request = |window: u64| self.0.request_blocks(window.div_ceil(BLOCK)).saturating_mul(BLOCK);
        let (purpose, wanted) = super::lock(&self.0.streams).note(read, self.0.most_ahead(), request);
        if let Some((range, request)) = wanted.filter(|(range, _)| range.start < self.len()) {
            self.enqueue(range.start..range.end.min(self.len()), request / BLOCK);
        }
        purpose
    }

    /// Hands a range to the background, cut into requests of `step` blocks. What does not fit is forgotten: it is a hint.
    fn enqueue(&self, range: Range<u64>, step: u64) {
        let blocks = blocks_of(&range);
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
        // One connection stays free, so that a reader who wants something else gets it soon.
        let most = self.0.connections.saturating_sub(1).max(1);
        while queue.threads < most.min(queue.rows.len()) {
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
struct Worker<'a> {
    queue: &'a Mutex<Queue>,
    has_left: bool,
}

impl Worker<'_> {
    /// What is to be done next. Where there is nothing the place is given back in the same moment: who queues something after
    /// that finds it free.
    fn next(&mut self) -> Option<Range<u64>> {
        let mut queue = super::lock(self.queue);
        let row = queue.rows.pop_front();
        if row.is_none() {
            queue.threads = queue.threads.saturating_sub(1);
            self.has_left = true;
        }
        row
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if !self.has_left {
            let mut queue = super::lock(self.queue);
            queue.threads = queue.threads.saturating_sub(1);
        }
    }
}

impl<F: Fetch> Shared<F> {
    /// Fetches what is queued and not there yet, then ends. Errors are forgotten: whoever wants the block will see its own.
    fn work_off_queue(&self) {
        let mut worker = Worker { queue: &self.queue, has_left: false };
        while let Some(row) = worker.next() {
            let claimed: Vec<_> =
                row.filter_map(|number| Some((number, self.cache.claim_absent(self.key(number))?))).collect();
            for row in Self::rows(self.land_kept(claimed, |_, _| {}), MAX_REQUEST) {
                drop(self.fetch_row(row));
            }
        }
    }
}

impl<F> Drop for Remote<F> {
    /// What nobody will read any more is not fetched.
    fn drop(&mut self) {
        super::lock(&self.0.queue).rows.clear();
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

    /// A far end that notes what it is asked for.
    #[derive(Debug)]
    struct Far {
        len: u64,
        asked: Mutex<Vec<Range<u64>>>,
        broken: AtomicBool,
        changed: AtomicBool,
        /// What it refuses to read.
        damaged: Mutex<Range<u64>>,
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
        fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(Vec<u8>) -> Vec<u8>) -> Result<()> {
            self.asked.lock().unwrap().push(range.clone());
            std::thread::sleep(Duration::from_millis(2));
            if self.changed.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Changed, "changed"));
            }
            if self.broken.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Io, "broken"));
            }
            let damaged = self.damaged.lock().unwrap().clone();
            if range.start < damaged.end && damaged.start < range.end {
                return Err(Error::new(ErrorKind::Io, "damaged"));
            }
            bytes(range).chunks(BLOCK as usize).for_each(|piece| drop(take(piece.to_vec())));
            Ok(())
        }
        fn label(&self) -> String {
            "far".to_owned()
        }
    }

    fn far(len: u64) -> Far {
        Far {
            len,
            asked: Mutex::default(),
            broken: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            damaged: Mutex::new(0..0),
        }
    }

    fn remote(len: u64, cache: u64) -> Remote<Far> {
        Remote::new(far(len), Arc::new(Cache::new(cache)), &[], Reading::default())
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
    fn what_is_near_damage_can_be_read() {
        let damaged = (10 * BLOCK + 4096)..(10 * BLOCK + 8192);
        let good = |read: &Range<u64>| read.end <= damaged.start || damaged.end <= read.start;
        for purpose in ["in order", "scattered"] {
            let remote = remote(32 * BLOCK + 100, 64 << 20);
            *remote.far().damaged.lock().unwrap() = damaged.clone();
            // In order, a read takes several blocks in one request; scattered ones take neighbours along on a quick line.
            let step = if purpose == "in order" { 6 * BLOCK } else { 4096 };
            let starts: Vec<u64> =
                (0..26 * BLOCK).step_by(if purpose == "in order" { narrow(step) } else { 65536 }).collect();
            for n in 0..starts.len() {
                let at = if purpose == "in order" { starts[n] } else { starts[n * 37 % starts.len()] };
                remote.0.speed.store(64 << 20, Ordering::Relaxed);
                let wanted = at..at + step;
                let read = read(&remote, wanted.clone());
                match good(&wanted) {
                    true => assert!(read.unwrap() == bytes(wanted), "{purpose}, at {at:#x}"),
                    false => assert_eq!(read.unwrap_err().kind(), ErrorKind::Io, "{purpose}, at {at:#x}"),
                }
            }
        }
    }

    /// Waits until nothing is fetched in the background.
    fn settle(remote: &Remote<Far>) {
        let start = Instant::now();
        while remote.0.queue.lock().unwrap().threads > 0 {
            assert!(start.elapsed() < Duration::from_secs(60), "the background does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
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
        let remote = Remote::new(far(10 << 20), Arc::new(Cache::new(64 << 20)), &head, Reading::default());
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
            // Of the same line, however busy the machine is: requests are as long as it is fast.
            settle(&remote);
            remote.0.speed.store(64 << 20, Ordering::Relaxed);
            assert!(read(&remote, at..at + (64 << 10)).unwrap() == bytes(at..at + (64 << 10)), "{at}");
            at += 64 << 10;
        }
        let requests = asked(&remote).len();
        assert!(requests < 60, "32 MiB in order took {requests} requests");
    }

    #[test]
    fn what_was_read_in_order_does_not_drive_out_what_is_read_next() {
        let remote = remote(64 << 20, 8 << 20);
        for at in (0..64 << 20).step_by(64 << 10) {
            read(&remote, at..at + (64 << 10)).unwrap();
        }
        let total: u64 = asked(&remote).iter().map(|range| range.end - range.start).sum();
        assert!(total < 72 << 20, "64 MiB in order took {} MiB", total >> 20);
    }

    #[test]
    fn no_more_is_read_ahead_than_the_user_wants() {
        for limit in [0, 1 << 20] {
            let how = Reading { readahead: Some(limit), ..Reading::default() };
            let remote = Remote::new(far(64 << 20), Arc::new(Cache::new(256 << 20)), &[], how);
            for at in (0..8 << 20).step_by(64 << 10) {
                read(&remote, at..at + (64 << 10)).unwrap();
            }
            std::thread::sleep(Duration::from_millis(50));
            let last = asked(&remote).iter().map(|range| range.end).max().unwrap();
            assert!(last <= (8 << 20) + limit + BLOCK, "{limit}: up to {last}");
        }
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
        settle(&remote);
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
    fn after_an_error_no_further_requests_are_made_for_the_same_read() {
        let remote = Remote::new(
            far(16 << 20),
            Arc::new(Cache::new(256 << 20)),
            &[],
            Reading { connections: 1, ..Reading::default() },
        );
        remote.far().broken.store(true, Ordering::SeqCst);
        let mut buf = vec![0; 16 << 20];
        assert_eq!(remote.0.load(0..64, Use::Again).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(asked(&remote).len(), 1);
        remote.far().broken.store(false, Ordering::SeqCst);
        remote.read_at(&mut buf, 0).unwrap();
        assert!(buf == bytes(0..16 << 20));
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
