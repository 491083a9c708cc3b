//! A pid file: tells scripts which process to signal, as long as it runs.

use crate::error::{Error, ErrorKind, Result};
use crate::text::escape;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Removed when dropped.
#[derive(Debug)]
#[must_use]
pub struct PidFile(PathBuf);

impl PidFile {
    fn content() -> String {
        format!("{}\n", std::process::id())
    }

    /// Writes this process's number into a file.
    ///
    /// # Errors
    /// `Host` when that cannot be done.
    pub fn write(path: &Path) -> Result<Self> {
        let shown = escape(path.as_os_str().as_bytes()).to_string();
        let failed = |error| Error::new(ErrorKind::Host, shown.clone()).caused_by(error);
        let path = std::path::absolute(path).map_err(failed)?;
        std::fs::write(&path, Self::content()).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Whoever was started after this one may have been told to write to the same file.
        if std::fs::read(&self.0).is_ok_and(|content| content == Self::content().as_bytes()) {
            drop(std::fs::remove_file(&self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let ours = PidFile::write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), PidFile::content());
        drop(ours);
        assert!(!path.exists());
        let ours = PidFile::write(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(ours);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
    }
}
