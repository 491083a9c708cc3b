//! How many requests are made to one source at a time.

use crate::cache::lock;
use std::sync::{Condvar, Mutex, PoisonError};

/// So many requests at a time.
#[derive(Debug)]
pub(super) struct Permits {
    free: Mutex<usize>,
    bell: Condvar,
}

/// One of them, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Permits);

impl Permits {
    pub(super) fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), bell: Condvar::new() }
    }

    pub(super) fn take(&self) -> Permit<'_> {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = self.bell.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free = free.saturating_sub(1);
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut free = lock(&self.0.free);
        *free = free.saturating_add(1);
        self.0.bell.notify_one();
    }
}
