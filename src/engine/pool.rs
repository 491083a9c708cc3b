//! The pool: one thread a core that unpacks ahead of whoever reads.
//!
//! A reader hands out the units that it will want next and goes on with its own. Nobody waits for a job that has not
//! begun: the reader loads such a unit itself, and the job then finds it in the cache. So a full or a slow pool costs
//! time, never an answer.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread;

/// Jobs that wait; more are dropped, since their reader does the work itself.
const MAX_WAITING: usize = 256;
/// More threads than this gain nothing: the reader's copying is one thread's work.
const MAX_THREADS: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Pool {
    waiting: Mutex<VecDeque<Job>>,
    bell: Condvar,
}

/// Hands a job to the pool, or drops it when too many wait. Started with the first job.
pub(super) fn hand(job: Job) {
    static POOL: OnceLock<&'static Pool> = OnceLock::new();
    let pool = POOL.get_or_init(start);
    let mut waiting = pool.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    if waiting.len() < MAX_WAITING {
        waiting.push_back(job);
        drop(waiting);
        pool.bell.notify_one();
    }
}

/// Is there more than one core, so that a pool gains anything?
pub(super) fn is_useful() -> bool {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(cores) > 1
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn start() -> &'static Pool {
    let pool: &'static Pool = Box::leak(Box::default());
    for _ in 0..cores().min(MAX_THREADS) {
        // Without a thread jobs are dropped once the queue is full, and readers do all the work.
        drop(thread::Builder::new().name("unpack".to_owned()).spawn(|| pool.work()));
    }
    pool
}

impl Pool {
    fn work(&self) {
        loop {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let job = loop {
                match waiting.pop_front() {
                    Some(job) => break job,
                    None => waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(waiting);
            // A driver that panics spoils its unit, which the reader then hears of; the pool goes on.
            drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)));
        }
    }
}
