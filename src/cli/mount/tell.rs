//! Who hears that a mount is ready, besides people: a file with the process id, a descriptor.

use super::supervise::{host, show};
use crate::error::Result;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A file with our process id, for as long as we run.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    pub(super) fn write(path: &Path) -> Result<Self> {
        let failed = |error| host(show(path)).caused_by(error);
        let path = std::path::absolute(path).map_err(failed)?;
        std::fs::write(&path, format!("{}\n", std::process::id())).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

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
