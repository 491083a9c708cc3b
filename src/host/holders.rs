//! Who keeps a mount busy: processes with something open in it, and what the kernel itself has put upon it: other mounts,
//! loop devices. Found in `/proc` and `/sys`.

use super::mounts::{self, Entry};
use crate::text::escape;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What holds a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process.
    Process {
        /// Its number.
        pid: u32,
        /// Its name.
        command: String,
        /// What it holds: its working directory, an open file.
        path: PathBuf,
    },
    /// Another mount, on a directory in it.
    Mount(PathBuf),
    /// A block device over a file in it.
    Loop {
        /// `/dev/loop0`.
        device: PathBuf,
        /// The file.
        path: PathBuf,
    },
}

impl Holder {
    /// The process's number, if it is one.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        match self {
            Self::Process { pid, .. } => Some(*pid),
            Self::Mount(_) | Self::Loop { .. } => None,
        }
    }
}

fn show(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).to_string()
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command, path } => write!(f, "{pid} {command} ({})", show(path)),
            Self::Mount(point) => write!(f, "a mount on {}", show(point)),
            Self::Loop { device, path } => write!(f, "{} ({})", show(device), show(path)),
        }
    }
}

fn link(path: &Path) -> Option<PathBuf> {
    let target = rustix::fs::readlinkat(rustix::fs::CWD, path, Vec::new()).ok()?;
    Some(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// The files that a process has mapped from the file system of a mount: proc_pid_maps(5),
/// `7f01-7f02 r-xp 00001000 00:2a 131 /usr/lib/libc.so`, with the device in hexadecimal.
fn mapped(process: &Path, of: &Entry) -> Vec<PathBuf> {
    let numbers = of.device.split_once(':').and_then(|(major, minor)| {
        Some(format!("{:02x}:{:02x}", major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let text = std::fs::read(process.join("maps")).unwrap_or_default();
    let line = |line: &[u8]| {
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        fields.nth(3).filter(|device| Some(*device) == numbers.as_deref().map(str::as_bytes))?;
        Some(PathBuf::from(OsString::from_vec(fields.nth(1)?.trim_ascii_start().to_vec())))
    };
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// The first thing in a mount that a process has open. The path alone does not tell: what the mount covers has paths like
/// its own, and so has what a container sees. No server of a file is asked, so one that does not answer cannot stop us.
fn held(process: &Path, of: &Entry) -> Option<PathBuf> {
    let below = |path: &PathBuf| path.starts_with(&of.point);
    let own = ["cwd", "root", "exe"].iter().filter_map(|name| {
        let place = process.join(name);
        link(&place).filter(below).filter(|_| mounts::mount_of(&place) == Ok(Some(of.id)))
    });
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten().filter_map(|entry| {
        let info = process.join("fdinfo").join(entry.file_name());
        link(&entry.path()).filter(below).filter(|_| mounts::mount_in(&info) == Some(of.id))
    });
    own.chain(open).next().or_else(|| mapped(process, of).into_iter().find(below))
}

/// Whatever holds something in a mount, as far as this user may look into it; this process excepted.
#[must_use]
pub fn of(mount: &Entry) -> Vec<Holder> {
    let point = mount.point.as_path();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let holder = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok().filter(|pid| *pid != std::process::id())?;
        let path = held(&entry.path(), mount)?;
        let name = std::fs::read(entry.path().join("comm")).unwrap_or_default();
        Some(Holder::Process { pid, command: escape(name.trim_ascii_end()).to_string(), path })
    };
    let mut holders: Vec<Holder> = processes.filter_map(holder).collect();
    holders.sort_by_key(Holder::pid);
    let above = mounts::all().unwrap_or_default().into_iter().map(|entry| entry.point);
    holders.extend(above.filter(|above| above != point && above.starts_with(point)).map(Holder::Mount));
    holders.extend(loops(point));
    holders
}

/// The loop devices over files below `point`.
fn loops(point: &Path) -> Vec<Holder> {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let holder = |entry: std::fs::DirEntry| {
        let file = std::fs::read(entry.path().join("loop/backing_file")).ok()?;
        let path = PathBuf::from(OsString::from_vec(file.trim_ascii_end().to_vec()));
        let device = Path::new("/dev").join(entry.file_name());
        path.starts_with(point).then_some(Holder::Loop { device, path })
    };
    devices.filter_map(holder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_names_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let file = std::fs::File::create(path.join("held")).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
        let id = mounts::mount_of(&path).unwrap().unwrap();
        let at = |id| Entry { point: path.clone(), id, ..mounts::all().unwrap().remove(0) };
        let holders = of(&at(id));
        let elsewhere = of(&at(u64::MAX));
        child.kill().unwrap();
        child.wait().unwrap();
        let expected =
            Holder::Process { pid: child.id(), command: "sleep".to_owned(), path: path.join("held") };
        assert_eq!(holders, [expected]);
        assert_eq!(elsewhere, [], "a file below another mount of the same place");
    }
}
