//! Who keeps a mount busy: processes with something open in it, found in `/proc`.

use crate::text::escape;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// A process that holds a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// What it holds: its working directory, an open file.
    pub path: PathBuf,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.pid, self.command, escape(self.path.as_os_str().as_bytes()))
    }
}

fn link(path: &Path) -> Option<PathBuf> {
    let target = rustix::fs::readlinkat(rustix::fs::CWD, path, Vec::new()).ok()?;
    Some(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// The first thing below `point` that a process has open. Looks at link texts only, so a mount that does not answer
/// cannot stop us.
fn held(process: &Path, point: &Path) -> Option<PathBuf> {
    let below = |path: &PathBuf| path.starts_with(point);
    let own = ["cwd", "root", "exe"].iter().filter_map(|name| link(&process.join(name)));
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let mapped = std::fs::read_dir(process.join("map_files")).into_iter().flatten().flatten();
    own.chain(open.chain(mapped).filter_map(|entry| link(&entry.path()))).find(below)
}

/// Every process that this user may look into and that holds something below `point`.
#[must_use]
pub fn of(point: &Path) -> Vec<Holder> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let holder = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let path = held(&entry.path(), point)?;
        let name = std::fs::read(entry.path().join("comm")).unwrap_or_default();
        Some(Holder { pid, command: escape(name.trim_ascii_end()).to_string(), path })
    };
    let mut holders: Vec<Holder> = processes.filter_map(holder).collect();
    holders.sort_by_key(|holder| holder.pid);
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_names_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let _file = std::fs::File::create(path.join("held")).unwrap();
        let holders = of(&path);
        assert_eq!(holders.len(), 1);
        assert_eq!(
            (holders[0].pid, holders[0].path.as_path()),
            (std::process::id(), path.join("held").as_path())
        );
    }
}
