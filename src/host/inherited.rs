//! Descriptors that this process was started with besides the first three: a lock or a pipe of whoever called, say. They
//! are not for us, and whoever waits for their end would wait for ours.

use std::os::fd::RawFd;
use std::path::Path;

/// The numbers of such descriptors.
#[derive(Debug)]
pub struct Inherited(Vec<RawFd>);

impl Inherited {
    /// What is open now. To be asked before this process has opened anything of its own, or has a second thread.
    #[must_use]
    pub fn look() -> Self {
        let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let number =
            |name: std::ffi::OsString| name.to_str()?.parse().ok().filter(|number: &RawFd| *number > 2);
        let mut numbers: Vec<RawFd> = open.filter_map(|entry| number(entry.file_name())).collect();
        // The directory was open itself while it was read. Its number may soon be another file's.
        let is_open =
            |number: &RawFd| Path::new("/proc/self/fd").join(number.to_string()).symlink_metadata().is_ok();
        numbers.retain(is_open);
        Self(numbers)
    }

    /// Closes them.
    pub fn close(self) {
        for number in self.0 {
            // Nobody here has ever held it.
            let _ = nix::unistd::close(number);
        }
    }
}
