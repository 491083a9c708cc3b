//! Who hears that a mount is ready, besides people: a descriptor.

use super::supervise::host;
use crate::error::Result;
use std::io::Write as _;

/// Tells whoever started us through a descriptor of theirs, by its number.
pub(super) fn say_ready(number: u32) -> Result<()> {
    let path = format!("/proc/self/fd/{number}");
    let written =
        std::fs::File::options().write(true).open(&path).and_then(|mut file| file.write_all(b"ready\n"));
    written.map_err(|error| {
        host(format!("--ready-fd {number}: cannot be written to"))
            .caused_by(error)
            .help(format!("it must be open for writing when imgmount starts, as in: {number}>file"))
    })
}
