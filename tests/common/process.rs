//! Processes: those that a test has started and that end with it, and what is asked of any other by its number.

use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A child that no failing test leaves behind.
#[derive(Debug)]
pub struct Reaped(pub Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Somebody whose working directory this is.
pub fn holder(dir: &Path) -> Reaped {
    Reaped(Command::new("sleep").arg("60").current_dir(dir).spawn().unwrap())
}

/// Is it there, and not just waiting to be reaped?
pub fn runs(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// The children of a process: those of all its threads.
pub fn children(process: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of_one = |thread: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default()
    };
    let all: Vec<String> = threads.map(of_one).collect();
    all.iter().flat_map(|list| list.split_whitespace()).map(|child| child.parse().unwrap()).collect()
}

/// Processor time of this thread.
pub fn cpu() -> Duration {
    Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)).unwrap()
}

/// At once, on the slowest machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Does it come about in this time?
pub fn within(time: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < time {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    done()
}

/// Fails with `what` if it does not come about in the time that the slowest machine may take.
pub fn wait_for(what: &str, ready: impl FnMut() -> bool) {
    assert!(within(Duration::from_secs(60), ready), "{what}");
}
