//! The block cache: one byte budget for the process, for what is dear to make: unpacked clusters and remote blocks.
//!
//! Plain local bytes never enter it: the kernel's page cache holds them already, and a second copy was measured slower.
//!
//! Remote blocks have a storey of their own on top, [`remote::Remote`], and may be kept between runs, [`disk`]. What is
//! still being unpacked has a bound of its own, [`room`].
//!
//! ```text
//! get_or_load(key, load) ── shard by hash ── ready  → the bytes (hit)
//!                                          ├─ flying → wait for the one who loads (single flight)
//!                                          └─ absent → load outside the lock, publish ─┬▶ on trial ─▶ name kept ┐
//!                                                                                      └▶ kept  ◀── wanted again┘
//! ```
//! An unpacked unit is *on trial* at first, in a small part of the budget. Only one that is wanted again after it had to
//! go from there is *kept*: who goes through a whole disk once neither fills the memory nor drives out what others use.
//! This is the scheme "2Q" (Johnson and Shasha, 1994).
//!
//! Errors are handed to everyone who waited and then forgotten: the next reader tries again.

use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::num::wide;
use lru::LruCache;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub mod disk;
pub mod remote;
pub mod room;

/// Locks sharded so that 16 readers seldom meet; at 64 KiB a hit the lock is a few per cent of the copy.
const SHARDS: u64 = 16;

/// Bytes for units on trial: what readers unpack ahead of themselves has to last until they arrive.
const TRIAL: u64 = 32 << 20;
/// Names kept of units that did not pass, in each shard: those of 1 GiB in clusters of 64 KiB altogether.
const NAMES: usize = 1024;
/// Bytes that a unit takes beside its own: its places in the tables, its counts, the allocator's.
const BESIDE: u64 = 192;

/// Buffers kept to be filled again: two for each of the usual eight connections.
const MAX_SPARE: usize = 16;

/// The default budget in bytes (`--cache`).
pub const DEFAULT_BYTES: u64 = 256 << 20;

/// The name of a unit: whose it is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// From [`Cache::new_owner`].
    pub owner: u64,
    /// The unit's number.
    pub unit: u64,
}

type Bytes = Arc<Vec<u8>>;

#[derive(Default)]
struct Flight {
    landed: Mutex<Option<Result<Bytes>>>,
    bell: Condvar,
}

struct Shard {
    /// Each unit that is kept, with the tick of its last use.
    kept: LruCache<Key, (Bytes, u64)>,
    /// The same for those on trial.
    trial: LruCache<Key, (Bytes, u64)>,
    /// Names of units that were on trial.
    names: LruCache<Key, ()>,
    flying: HashMap<Key, Arc<Flight>>,
}

/// The cache. Shared by every layer of every image of the process.
pub struct Cache {
    shards: Vec<Mutex<Shard>>,
    capacity: u64,
    /// Bytes held in all shards. One sum, so that a unit may be larger than a shard's share.
    held: AtomicU64,
    /// Those of them on trial.
    on_trial: AtomicU64,
    /// Counts uses.
    ticks: AtomicU64,
    owners: AtomicU64,
    /// Buffers of remote blocks that were dropped, to be filled again: a fresh one costs more than to receive into it.
    spare: Mutex<Vec<Vec<u8>>>,
    /// For what is not in it yet.
    room: room::Room,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({} bytes)", self.capacity)
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(DEFAULT_BYTES)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while a shard is locked; were it to, the state would still be whole between statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    /// A cache that keeps at most `bytes`; 0 keeps nothing but still loads each unit once for all who wait.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let shard = || {
            let (kept, trial, names) = (LruCache::unbounded(), LruCache::unbounded(), LruCache::unbounded());
            Mutex::new(Shard { kept, trial, names, flying: HashMap::new() })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            capacity: bytes,
            held: AtomicU64::new(0),
            on_trial: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            owners: AtomicU64::new(0),
            spare: Mutex::default(),
            room: room::Room::default(),
        }
    }

    /// A number that no other layer's units are filed under. It is higher than those of the layers that were made before:
    /// [`room`] relies on it.
    #[must_use]
    pub fn new_owner(&self) -> u64 {
        self.owners.fetch_add(1, Ordering::Relaxed)
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Room for large units while they are unpacked.
    #[must_use]
    pub const fn room(&self) -> &room::Room {
        &self.room
    }

    /// The budget in bytes.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Would it keep a unit of `len` bytes at all?
    #[must_use]
    pub fn keeps(&self, len: u64) -> bool {
        len <= self.capacity / 2
    }

    /// Bytes that units on trial may take.
    fn trial(&self) -> u64 {
        TRIAL.min(self.capacity / 2).max(self.capacity / 8)
    }

    fn shard(&self, key: Key) -> &Mutex<Shard> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let n = crate::num::narrow(hasher.finish() % SHARDS);
        self.shards.get(n).expect("the remainder is below the number of shards")
    }

    /// The unit, from the cache or from `load`. Of several callers one loads; the others wait for its result.
    ///
    /// # Errors
    /// What `load` reports, to all who waited.
    pub fn get_or_load(&self, key: Key, load: impl FnOnce() -> Result<Vec<u8>>) -> Result<Bytes> {
        match self.claim(key, Use::Again) {
            Claim::Ready(bytes) => Ok(bytes),
            Claim::Flying(flight) => flight.wait(),
            Claim::Mine(landing) => landing.on_trial().land(load()),
        }
    }

    /// Loads the unit for whoever will want it, unless somebody has it or is loading it already.
    pub fn load_ahead(&self, key: Key, load: impl FnOnce() -> Result<Vec<u8>>) {
        if let Some(landing) = self.claim_absent(key) {
            // Who wants it then is told what went wrong by loading it again.
            drop(landing.on_trial().land(load()));
        }
    }

    /// Who has the unit: the cache, another reader who is loading it, or, from now on, the caller.
    ///
    /// Whoever claims several units lands all of its own before it waits for those of others, so nobody waits in a circle.
    fn claim(&self, key: Key, purpose: Use) -> Claim<'_> {
        let mut guard = lock(self.shard(key));
        let found = guard.find(key, purpose, &self.ticks);
        if let Some(bytes) = found {
            COUNTERS.cache_hits.add(1);
            return Claim::Ready(bytes);
        }
        match guard.flying.entry(key) {
            Entry::Occupied(other) => {
                COUNTERS.cache_hits.add(1);
                Claim::Flying(Arc::clone(other.get()))
            }
            Entry::Vacant(place) => {
                place.insert(Arc::default());
                COUNTERS.cache_misses.add(1);
                Claim::Mine(Landing { cache: self, key, trial: false, done: false })
            }
        }
    }

    /// The unit to load, if nobody has it.
    fn claim_absent(&self, key: Key) -> Option<Landing<'_>> {
        let mut guard = lock(self.shard(key));
        if guard.kept.contains(&key) || guard.trial.contains(&key) || guard.flying.contains_key(&key) {
            return None;
        }
        guard.flying.insert(key, Arc::default());
        Some(Landing { cache: self, key, trial: false, done: false })
    }

    /// A buffer to fill, perhaps an empty one.
    fn spare(&self) -> Vec<u8> {
        lock(&self.spare).pop().unwrap_or_default()
    }

    fn publish(&self, key: Key, result: Result<Bytes>, trial: bool) {
        let mut guard = lock(self.shard(key));
        let flight = guard.flying.remove(&key);
        if let Ok(bytes) = &result
            && self.keeps(wide(bytes.len()))
        {
            let entry = (Arc::clone(bytes), self.ticks.fetch_add(1, Ordering::Relaxed));
            self.held.fetch_add(cost(bytes), Ordering::Relaxed);
            // A large unit is dear to unpack, and would leave the others no room.
            let trial = trial && cost(bytes) <= self.trial() / 4 && guard.names.pop(&key).is_none();
            if trial {
                self.on_trial.fetch_add(cost(bytes), Ordering::Relaxed);
                guard.trial.put(key, entry);
            } else {
                guard.kept.put(key, entry);
            }
        }
        drop(guard);
        self.make_room();
        if let Some(flight) = flight {
            *lock(&flight.landed) = Some(result);
            flight.bell.notify_all();
        }
    }

    /// Drops the units that were used longest ago until the budget holds. One lock is held at a time.
    fn make_room(&self) {
        while self.on_trial.load(Ordering::Relaxed) > self.trial() {
            let Some((_, shard)) = self.oldest(Shard::oldest_on_trial) else { break };
            self.drop_from(shard, true);
        }
        while self.held.load(Ordering::Relaxed) > self.capacity {
            let of_trial = self.oldest(Shard::oldest_on_trial).map(|(used, shard)| (used, shard, true));
            let of_kept = self.oldest(Shard::oldest_kept).map(|(used, shard)| (used, shard, false));
            let oldest = of_trial.into_iter().chain(of_kept).min_by_key(|(used, ..)| *used);
            let Some((_, shard, trial)) = oldest else { break };
            self.drop_from(shard, trial);
        }
    }

    /// The shard whose oldest unit is the oldest of all.
    fn oldest(&self, age: impl Fn(&Shard) -> Option<u64>) -> Option<(u64, &Mutex<Shard>)> {
        let ages = self.shards.iter().filter_map(|shard| Some((age(&lock(shard))?, shard)));
        ages.min_by_key(|(used, _)| *used)
    }

    /// Drops the oldest unit of a shard: of those on trial, or of those kept.
    fn drop_from(&self, shard: &Mutex<Shard>, trial: bool) {
        let mut guard = lock(shard);
        let dropped = if trial { guard.trial.pop_lru() } else { guard.kept.pop_lru() };
        let Some((key, (bytes, _))) = dropped else { return };
        if trial {
            self.on_trial.fetch_sub(cost(&bytes), Ordering::Relaxed);
            guard.names.put(key, ());
            if guard.names.len() > NAMES {
                guard.names.pop_lru();
            }
        }
        drop(guard);
        self.held.fetch_sub(cost(&bytes), Ordering::Relaxed);
        self.reuse(bytes);
    }

    /// Keeps the buffer of a remote block that nobody reads any more.
    fn reuse(&self, bytes: Bytes) {
        if wide(bytes.len()) != remote::BLOCK {
            return;
        }
        if let Ok(buffer) = Arc::try_unwrap(bytes) {
            let mut spare = lock(&self.spare);
            if spare.len() < MAX_SPARE {
                spare.push(buffer);
            }
        }
    }
}

impl Shard {
    /// The unit, if it is there.
    fn find(&mut self, key: Key, purpose: Use, ticks: &AtomicU64) -> Option<Bytes> {
        if purpose == Use::Once {
            let found = self.kept.peek(&key).or_else(|| self.trial.peek(&key));
            return found.map(|(bytes, _)| Arc::clone(bytes));
        }
        let found = self.kept.get_mut(&key).or_else(|| self.trial.get_mut(&key));
        found.map(|(bytes, used)| {
            *used = ticks.fetch_add(1, Ordering::Relaxed);
            Arc::clone(bytes)
        })
    }

    fn oldest_kept(&self) -> Option<u64> {
        self.kept.peek_lru().map(|(_, (_, used))| *used)
    }

    fn oldest_on_trial(&self) -> Option<u64> {
        self.trial.peek_lru().map(|(_, (_, used))| *used)
    }
}

/// What a unit takes of the budget.
fn cost(bytes: &Bytes) -> u64 {
    wide(bytes.capacity()).saturating_add(BESIDE)
}

impl Flight {
    fn wait(&self) -> Result<Bytes> {
        let mut landed = lock(&self.landed);
        loop {
            if let Some(result) = landed.as_ref() {
                return result.clone();
            }
            landed = self.bell.wait(landed).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What a unit is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// It may well be wanted again: it becomes the last to go.
    Again,
    /// By one who goes through everything in order: what was just read must not drive out what is read next.
    Once,
}

/// Who has a unit.
enum Claim<'a> {
    Ready(Bytes),
    Flying(Arc<Flight>),
    Mine(Landing<'a>),
}

/// The duty to publish a unit, exactly once; also when the loader panics: then the waiters get an error and nobody hangs.
struct Landing<'a> {
    cache: &'a Cache,
    key: Key,
    /// Is the unit put on trial first?
    trial: bool,
    done: bool,
}

impl Landing<'_> {
    /// For a unit that has to show first that it is wanted again.
    const fn on_trial(mut self) -> Self {
        self.trial = true;
        self
    }

    fn land(mut self, result: Result<Vec<u8>>) -> Result<Bytes> {
        let result = result.map(Arc::new);
        self.done = true;
        self.cache.publish(self.key, result.clone(), self.trial);
        result
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if !self.done {
            let failed = Error::new(ErrorKind::Internal, "the reader that was loading this block failed");
            self.cache.publish(self.key, Err(failed), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    const KEY: Key = Key { owner: 0, unit: 7 };

    #[test]
    fn a_second_reader_waits_instead_of_loading_again() {
        let (cache, loads, start) = (Cache::new(1 << 20), AtomicUsize::new(0), Barrier::new(8));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let load = || {
                        loads.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        Ok(vec![1; 10])
                    };
                    assert_eq!(*cache.get_or_load(KEY, load).unwrap(), vec![1; 10]);
                });
            }
        });
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn errors_are_not_cached() {
        let cache = Cache::new(1 << 20);
        assert!(cache.get_or_load(KEY, || Err(Error::new(ErrorKind::Io, "gone"))).is_err());
        assert_eq!(*cache.get_or_load(KEY, || Ok(vec![2])).unwrap(), vec![2]);
    }

    #[test]
    fn the_byte_budget_holds() {
        let cache = Cache::new(16 << 10);
        for unit in 0..1000 {
            cache.get_or_load(Key { owner: 0, unit }, || Ok(vec![0; 512])).unwrap();
        }
        assert!(cache.held() <= 16 << 10, "{}", cache.held());
        assert!(cache.held() > 0);
    }

    #[test]
    fn the_units_used_longest_ago_are_dropped_whatever_their_size() {
        const KIB: u64 = 1 << 10;
        let capacity = (1000 * KIB).saturating_add(4 * BESIDE);
        let cache = Cache::new(capacity);
        let load = |unit, kib: u64| {
            let bytes = vec![0; crate::num::narrow(kib.saturating_mul(KIB))];
            cache.get_or_load(Key { owner: 0, unit }, || Ok(bytes)).unwrap()
        };
        for unit in 0..4 {
            load(unit, 100);
        }
        load(0, 100);
        // A third of the budget, and more than the share of a shard.
        load(100, 400);
        load(101, 400);
        let kept = |unit| cache.claim_absent(Key { owner: 0, unit }).is_none();
        assert_eq!((kept(0), kept(1), kept(2), kept(3)), (true, false, false, true));
        assert_eq!((kept(100), kept(101), cache.held()), (true, true, capacity));
        load(102, 501);
        assert!(!kept(102));
    }

    /// Reads units of 16 KiB, each once.
    fn scan(cache: &Cache, units: std::ops::Range<u64>) {
        for unit in units {
            cache.get_or_load(Key { owner: 0, unit }, || Ok(vec![0; 16 << 10])).unwrap();
        }
    }

    #[test]
    fn who_reads_everything_once_takes_a_part_of_the_budget() {
        let cache = Cache::new(1 << 20);
        scan(&cache, 0..1000);
        assert!(cache.held() > 400 << 10, "{}", cache.held());
        assert!(cache.held() <= 512 << 10, "{}", cache.held());
    }

    #[test]
    fn who_reads_everything_once_drives_out_nothing_that_was_wanted_twice() {
        let (cache, loads) = (Cache::new(1 << 20), AtomicUsize::new(0));
        let want = || {
            let load = || {
                loads.fetch_add(1, Ordering::SeqCst);
                Ok(vec![0; 16 << 10])
            };
            cache.get_or_load(Key { owner: 1, unit: 0 }, load).unwrap();
        };
        want();
        scan(&cache, 0..100);
        want();
        scan(&cache, 100..5000);
        want();
        assert_eq!(loads.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_large_unit_is_kept_at_once() {
        let cache = Cache::new(1 << 20);
        cache.get_or_load(KEY, || Ok(vec![0; 200 << 10])).unwrap();
        scan(&cache, 100..1000);
        assert!(cache.claim_absent(KEY).is_none());
    }

    #[test]
    fn a_panicking_loader_leaves_no_one_waiting() {
        let cache = Cache::new(1 << 20);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cache.get_or_load(KEY, || panic!("boom"))
        }));
        assert!(caught.is_err());
        assert_eq!(*cache.get_or_load(KEY, || Ok(vec![3])).unwrap(), vec![3]);
    }
}
