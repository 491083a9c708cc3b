//! A reader that must not cross threads, and the one thread it lives on.
//!
//! Some libraries hand out types that are neither `Send` nor `Sync`. [`Confined`] builds such a value on a thread of
//! its own and runs closures there; a hop costs tens of microseconds, so callers batch the work.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::thread;
use std::time::Duration;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// A value that lives on its own thread. Dropping it ends the thread.
pub struct Confined<T> {
    jobs: Sender<Job<T>>,
    name: &'static str,
}

impl<T> fmt::Debug for Confined<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Confined({})", self.name)
    }
}

impl<T: 'static> Confined<T> {
    /// Starts the thread `name` and builds the value there.
    ///
    /// # Errors
    /// What `build` reports; `Host` when no thread can be started.
    pub fn new(name: &'static str, build: impl FnOnce() -> Result<T> + Send + 'static) -> Result<Self> {
        let (jobs, inbox) = channel::<Job<T>>();
        let (ready, built) = sync_channel(1);
        let body = move || match build() {
            Ok(mut value) => {
                if ready.send(Ok(())).is_ok() {
                    for job in inbox {
                        job(&mut value);
                    }
                }
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(|e| Error::new(ErrorKind::Host, "cannot start a thread").caused_by(e))?;
        built.recv().unwrap_or_else(|_| Err(Self::died(name)))?;
        Ok(Self { jobs, name })
    }

    /// Runs `work` on the value's thread and waits for its result.
    ///
    /// # Errors
    /// What `work` reports; `Internal` when the library panicked.
    pub fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let (reply, answer) = sync_channel(1);
        let job: Job<T> = Box::new(move |value| drop(reply.send(work(value))));
        self.jobs.send(job).map_err(|_| Self::died(self.name))?;
        answer.recv().unwrap_or_else(|_| Err(Self::died(self.name)))
    }

    /// As [`Confined::run`], but waits only so long. A value that does not return in time is lost with its thread.
    ///
    /// # Errors
    /// What `work` reports; `Internal` when the library panicked or did not return.
    pub fn run_within<R: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce(&mut T) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let (reply, answer) = sync_channel(1);
        let job: Job<T> = Box::new(move |value| drop(reply.send(work(value))));
        self.jobs.send(job).map_err(|_| Self::died(self.name))?;
        match answer.recv_timeout(patience) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(Self::died(self.name)),
            Err(RecvTimeoutError::Timeout) => Err(Error::new(
                ErrorKind::Internal,
                format!("the reader '{}' did not finish within {} s", self.name, patience.as_secs()),
            )),
        }
    }

    fn died(name: &str) -> Error {
        Error::new(ErrorKind::Internal, format!("the reader '{name}' panicked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_value_that_is_not_send_can_be_used_from_any_thread() {
        let confined = Confined::new("rc", || Ok(Rc::new(41))).unwrap();
        assert_eq!(confined.run(|value| Ok(**value + 1)).unwrap(), 42);
    }

    #[test]
    fn a_panic_inside_becomes_an_error() {
        let confined = Confined::new("bad", || Ok(())).unwrap();
        assert_eq!(confined.run::<()>(|_| panic!("boom")).unwrap_err().kind(), ErrorKind::Internal);
    }

    #[test]
    fn who_does_not_return_is_not_waited_for() {
        let confined = Confined::new("slow", || Ok(())).unwrap();
        let slow = confined.run_within::<()>(Duration::from_millis(20), |()| {
            thread::sleep(Duration::from_millis(500));
            Ok(())
        });
        assert_eq!(slow.unwrap_err().to_string(), "the reader 'slow' did not finish within 0 s");
    }
}
