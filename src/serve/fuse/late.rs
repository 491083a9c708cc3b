//! A generated file that takes its time: made once, when somebody first looks, in a thread of its own. Whoever asks for it
//! meanwhile is answered from that thread, and keeps none of the [`Door`]'s.
//!
//! ```text
//!   fuser thread ─▶ Late: made ─▶ answer
//!                         being made ─▶ among those who wait ◀─ its own thread, when it is done
//! ```

use super::inodes::File;
use super::trouble::Troubles;
use super::view::{Own, Target};
use super::{ASKED, Door, attr};
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind};
use crate::num::wide;
use fuser::{Errno, FileAttr};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// A generated file that is made when somebody first looks, and never again.
pub struct Late {
    make: Box<dyn Fn() -> String + Send + Sync>,
    state: Mutex<State>,
}

enum State {
    Unmade,
    Making(Vec<Waiter>),
    Made(Made),
}

/// What came of it, and when.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) text: Arc<str>,
    at: SystemTime,
}

/// Who is told, once: `None` where nothing came of it.
type Waiter = Box<dyn FnOnce(Option<Made>) + Send>;

impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Late")
    }
}

impl Made {
    /// Its attributes, under this number.
    pub(super) fn attr(&self, number: u64, whose: (u32, u32)) -> FileAttr {
        let size = wide(self.text.len());
        attr::own(number, false, size, size.div_ceil(512), self.at, whose)
    }
}

impl Late {
    /// A file with what `make` writes.
    pub fn new(make: impl Fn() -> String + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { make: Box::new(make), state: Mutex::new(State::Unmade) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// If it is made already.
    pub(super) fn made(&self) -> Option<Made> {
        match &*self.state() {
            State::Made(made) => Some(made.clone()),
            State::Unmade | State::Making(_) => None,
        }
    }

    /// Tells `waiter` when it is made; at once, if it is, else from the thread that makes it.
    fn when_made(self: &Arc<Self>, waiter: impl FnOnce(Option<Made>) + Send + 'static) {
        let mut state = self.state();
        match &mut *state {
            State::Made(made) => {
                let made = made.clone();
                drop(state);
                waiter(Some(made));
            }
            State::Making(waiters) => waiters.push(Box::new(waiter)),
            State::Unmade => {
                *state = State::Making(vec![Box::new(waiter)]);
                drop(state);
                let this = Arc::clone(self);
                let thread = std::thread::Builder::new().name("text".to_owned());
                if thread.spawn(move || this.settle(this.make().as_ref())).is_err() {
                    self.settle(None);
                }
            }
        }
    }

    fn make(&self) -> Option<Made> {
        let text = catch_unwind(AssertUnwindSafe(|| (self.make)()));
        if text.is_err() {
            COUNTERS.panics.add(1);
        }
        Some(Made { text: text.ok()?.into(), at: SystemTime::now() })
    }

    /// Tells all who wait. Where nothing came of it, the next who looks may try again.
    fn settle(&self, made: Option<&Made>) {
        let next = made.cloned().map_or(State::Unmade, State::Made);
        let State::Making(waiters) = std::mem::replace(&mut *self.state(), next) else { return };
        for waiter in waiters {
            waiter(made.cloned());
        }
    }
}

/// A [`Late`] that is not made, asked for by the kernel.
pub(super) struct Promise {
    late: Arc<Late>,
    file: File,
    number: u64,
    whose: (u32, u32),
    troubles: Arc<Troubles>,
}

impl Promise {
    /// Answers when it is made, and says so if that fails.
    pub(super) fn keep(self, answer: impl FnOnce(Result<FileAttr, Errno>) + Send + 'static) {
        let Self { late, file, number, whose, troubles } = self;
        ASKED.fetch_add(1, Ordering::Relaxed);
        late.when_made(move |made| {
            let Some(made) = made else {
                let error = Error::new(ErrorKind::Internal, "the program failed here; this is a bug");
                troubles.note(file, "making it", &error);
                return answer(Err(Errno::EIO));
            };
            answer(Ok(made.attr(number, whose)));
        });
    }
}

impl Door {
    /// What the kernel asks for by its name, if that is a file to wait for.
    pub(super) fn promised_in(&self, dir: u64, name: &[u8]) -> Option<Promise> {
        let Ok(File::Own(dir)) = self.inodes.file(dir) else { return None };
        let Some(Own::Dir(entries)) = self.view.own(dir) else { return None };
        match entries.iter().find(|(entry, _)| entry == name) {
            Some((_, Target::Own(at))) => self.promise(*at),
            _ => None,
        }
    }

    /// What the kernel asks for by its number, if that is a file to wait for.
    pub(super) fn promised(&self, number: u64) -> Option<Promise> {
        match self.inodes.file(number) {
            Ok(File::Own(at)) => self.promise(at),
            _ => None,
        }
    }

    fn promise(&self, at: usize) -> Option<Promise> {
        let Some(Own::Late(late)) = self.view.own(at) else { return None };
        if late.made().is_some() {
            return None;
        }
        let (late, file, troubles) = (Arc::clone(late), File::Own(at), Arc::clone(&self.troubles));
        Some(Promise { late, file, number: self.inodes.plain(file)?, whose: self.options.own, troubles })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    #[test]
    fn all_who_ask_while_it_is_made_get_the_one_text() {
        let (go, may_go) = mpsc::channel::<()>();
        let (may_go, times) = (Mutex::new(may_go), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&times);
        let late = Late::new(move || {
            may_go.lock().unwrap().recv().unwrap();
            format!("made {}", count.fetch_add(1, Ordering::Relaxed))
        });
        let (tell, told) = mpsc::channel();
        for _ in 0..3 {
            let tell = tell.clone();
            late.when_made(move |made| tell.send(made.unwrap().text.to_string()).unwrap());
        }
        assert!(late.made().is_none() && told.try_recv().is_err(), "nobody was kept, nobody was told");
        go.send(()).unwrap();
        assert_eq!([(); 3].map(|()| told.recv().unwrap()), ["made 0"; 3]);
        late.when_made(move |made| tell.send(made.unwrap().text.to_string()).unwrap());
        assert_eq!((told.try_recv().unwrap().as_str(), times.load(Ordering::Relaxed)), ("made 0", 1));
    }

    #[test]
    fn where_making_it_fails_all_are_told_and_the_next_tries_again() {
        let times = AtomicUsize::new(0);
        let late = Late::new(move || {
            assert_ne!(times.fetch_add(1, Ordering::Relaxed), 0, "fails on purpose");
            "made".to_owned()
        });
        let ask = || {
            let (tell, told) = mpsc::channel();
            late.when_made(move |made| tell.send(made.map(|made| made.text.to_string())).unwrap());
            told.recv().unwrap()
        };
        assert_eq!(ask(), None);
        assert_eq!(ask().as_deref(), Some("made"));
    }
}
