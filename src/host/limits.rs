//! Limits that the host sets this process, where we may move them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Allows this process as many descriptors as its host lets it allow itself. The soft limit is kept low for programs
/// that use `select`; a server of many clients runs into it.
pub fn raise_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // With fewer it works, too, for fewer clients at a time.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
