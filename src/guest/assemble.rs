//! A guest's tree: its root with the other volumes at the places that its `fstab` gives them.

use super::Device;
use super::fstab::{Found, Fstab, Line, resolve};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::Tree;
use crate::fs::{DirEntry, FileSystem, FileType, FsFacts, Ino, Stat, Time};
use crate::text::escape;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A tree for people, the same tree for facts, and what did not work out.
#[derive(Debug)]
pub(super) struct Assembled {
    /// What is mounted and shown: a volume that is missing leaves its mount point as it is.
    pub(super) tree: Tree,
    /// For facts: below the mount point of a missing volume every look-up fails, so that what was not seen is never
    /// taken for absent.
    pub(super) facts: Tree,
    /// One line for each volume that is not where `fstab` wants it.
    pub(super) warnings: Vec<String>,
}

pub(super) fn assemble(
    root: &Device,
    fs: &Arc<dyn FileSystem>,
    devices: &[Device],
    fstab: &Fstab,
) -> Assembled {
    let mut done = Assembled {
        tree: Tree::new(&root.volume, Arc::clone(fs)),
        facts: Tree::new(&root.volume, Arc::clone(fs)),
        warnings: Vec::new(),
    };
    // Outer mount points before those inside them.
    let mut lines: Vec<&Line> = fstab.lines.iter().filter(|line| is_mounted(line)).collect();
    lines.sort_by_key(|line| line.dir.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).count());
    for line in lines {
        let place = format!("/etc/fstab line {}", line.evidence.line.unwrap_or(0));
        let why = match resolve(&line.spec(), devices) {
            Found::Device(device) => match &device.system {
                _ if device.volume == root.volume => continue,
                Some(fs) => {
                    mount(&mut done, line, device, fs, &place);
                    continue;
                }
                None => format!("{} on {} is not read", device.what(), device.volume),
            },
            Found::Absent => "no such device in this image".to_owned(),
            Found::Unsure(why) => why,
        };
        let dir = escape(&line.dir);
        let nofail = if line.is_needed_at_boot() { "" } else { " (not needed at boot)" };
        done.warnings.push(format!("{place}: {dir} is {}: {why}{nofail}", escape(&line.spec)));
        let error =
            Error::new(ErrorKind::Unsupported, format!("{dir} is on another volume: {why} ({place})"));
        // Without the directory there is nothing below it that could be mistaken.
        drop(done.facts.mount(&line.dir, "", Arc::new(Missing(error))));
    }
    done
}

fn is_mounted(line: &Line) -> bool {
    let ours = ["/dev", "/proc", "/sys", "/run", "/media"];
    let inside = |top: &str| {
        line.dir.strip_prefix(top.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    line.is_local()
        && !line.is_swap()
        && line.dir.starts_with(b"/")
        && line.dir != b"/"
        && !ours.iter().any(|top| inside(top))
}

fn mount(done: &mut Assembled, line: &Line, device: &Device, fs: &Arc<dyn FileSystem>, place: &str) {
    if let Err(error) = done.tree.mount(&line.dir, &device.volume, Arc::clone(fs)) {
        done.warnings.push(format!("{place}: {}", error.chain()));
    }
    drop(done.facts.mount(&line.dir, &device.volume, Arc::clone(fs)));
}

/// A file system that is not there: it has a root, and everything else fails with the reason.
#[derive(Debug)]
struct Missing(Error);

impl FileSystem for Missing {
    fn root(&self) -> Ino {
        Ino(0)
    }

    fn lookup(&self, _dir: Ino, _name: &[u8]) -> Result<Option<Ino>> {
        Err(self.0.clone())
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let time = Time::default();
        Ok(Stat {
            ino,
            kind: FileType::Dir,
            size: 0,
            blocks: 0,
            mode: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            rdev: (0, 0),
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
            blksize: 4096,
        })
    }

    fn readdir(
        &self,
        _dir: Ino,
        _from: u64,
        _sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Err(self.0.clone())
    }

    fn read_at(&self, _ino: Ino, _buf: &mut [u8], _offset: u64) -> Result<usize> {
        Err(self.0.clone())
    }

    fn readlink(&self, _ino: Ino) -> Result<Vec<u8>> {
        Err(self.0.clone())
    }

    fn facts(&self) -> FsFacts {
        FsFacts::default()
    }
}
