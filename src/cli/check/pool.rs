//! Work on a list by several threads, whose results are taken in the order of the list.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};

/// How far ahead of the slowest item others are worked on, for each thread: what waits takes memory.
const AHEAD: usize = 8;

/// Works on each item, and gives the results to `take` in order. The first error of `take` ends it.
pub(super) fn ordered<T: Sync, R: Send, E>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().try_for_each(|item| take(work(item)));
    }
    let next = AtomicUsize::new(0);
    let ended = AtomicBool::new(false);
    let (taken, moved) = (Mutex::new(0_usize), Condvar::new());
    let ahead = AHEAD.saturating_mul(threads);
    let lock = || taken.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..threads.min(items.len()) {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { break };
                    let waits = |taken: &mut usize| {
                        at > taken.saturating_add(ahead) && !ended.load(Ordering::Relaxed)
                    };
                    drop(moved.wait_while(lock(), waits));
                    if ended.load(Ordering::Relaxed) || sender.send((at, work(item))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut result = Ok(());
        for (at, one) in receiver {
            waiting.insert(at, one);
            let mut at = *lock();
            while let Some(one) = waiting.remove(&at) {
                at = at.saturating_add(1);
                result = take(one);
                if result.is_err() {
                    break;
                }
            }
            *lock() = at;
            if result.is_err() {
                ended.store(true, Ordering::Relaxed);
            }
            moved.notify_all();
            if result.is_err() {
                break;
            }
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whoever_is_first() {
        let items: Vec<u64> = (0..300).collect();
        for threads in [1, 2, 7] {
            let mut found = Vec::new();
            let work = |item: &u64| {
                // Every third one takes its time.
                if item.is_multiple_of(3) {
                    std::thread::yield_now();
                }
                item * 2
            };
            let end: Result<(), ()> = ordered(&items, threads, work, |one| {
                found.push(one);
                Ok(())
            });
            assert_eq!((end, found), (Ok(()), items.iter().map(|item| item * 2).collect()));
        }
    }

    #[test]
    fn an_error_ends_it() {
        let items: Vec<u64> = (0..1000).collect();
        for threads in [1, 4] {
            let mut count = 0;
            let end = ordered(
                &items,
                threads,
                |item| *item,
                |one| {
                    count += 1;
                    if one == 5 { Err(one) } else { Ok(()) }
                },
            );
            assert_eq!((end, count), (Err(5), 6));
        }
    }
}
