//! Counters of the whole process: what was read, from where, and what failed. Shown by `.imgmount/stats`.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters. One static, [`COUNTERS`], so that no layer must carry them.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter),* }

        /// The process's counters.
        pub static COUNTERS: Counters = Counters { $($name: Counter(AtomicU64::new(0))),* };

        impl Counters {
            /// Every counter by its name, in the order of declaration.
            #[must_use]
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get())),*]
            }
        }
    };
}

counters! {
    /// Bytes handed to clients: FUSE, NBD, verbs.
    bytes_served,
    /// Read requests of clients.
    requests,
    /// Reads of the sources: `pread` calls, range requests.
    source_reads,
    /// Bytes those reads brought.
    source_bytes,
    /// Units (clusters, grains, remote blocks) found in the block cache.
    cache_hits,
    /// Units that had to be unpacked or fetched.
    cache_misses,
    /// Requests of remote sources that were tried again.
    retries,
    /// Reads that ended in an error.
    errors,
    /// Requests in which the program itself failed.
    panics,
}

/// One counter: only ever grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
