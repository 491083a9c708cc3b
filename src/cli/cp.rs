//! `imgmount cp`: files of a guest onto this host.
//!
//! Names come from strangers. Every file is made relative to an open directory, one component at a time, and must not
//! be there before: no name and no symbolic link of the guest can lead a write out of the destination. Links are made
//! as they are stored and never followed here.

use super::content::{Piece, pieces};
use super::out::Tally;
use super::plan::{Images, Target};
use super::{Common, Exit, out, plan};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::{Follow, Node, Tree};
use crate::fs::{FileType, Stat, Time};
use crate::num::wide;
use crate::text::escape;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// IMAGE:PATH… or IMAGE PATH…, then DEST: a directory, or the new name of a single file
    #[arg(required = true, num_args = 2.., value_name = "IMAGE:PATH… DEST")]
    words: Vec<OsString>,
    /// Copy directories with everything in them
    #[arg(short, long, visible_short_alias = 'R')]
    recursive: bool,
    /// Keep mode, times and, where permitted, owner and group
    #[arg(short, long)]
    preserve: bool,
    /// Replace files and links that are in the way
    #[arg(short, long)]
    force: bool,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let Some((dest, words)) = args.words.split_last() else {
        return Err(Error::new(ErrorKind::Usage, "cp wants IMAGE:PATH and DEST"));
    };
    let targets = plan::targets(words);
    let mut images = Images::new(common);
    let mut copier = Copier { args, tally: Tally::default(), umask: umask() };
    for target in &targets {
        match copier.copy(target, &mut images, Path::new(dest), targets.len() > 1) {
            Ok(()) => copier.tally.done(),
            Err(error) => {
                out::report(&error, common);
                copier.tally.failed(&error);
            }
        }
    }
    Ok(copier.tally.exit())
}

/// The process's umask; the only way to read it is to set it, and no other thread runs yet.
fn umask() -> Mode {
    let mask = rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::umask(mask);
    mask
}

struct Copier<'a> {
    args: &'a Args,
    tally: Tally,
    umask: Mode,
}

/// What is left to do. Directories are finished after what is in them, or their times would be wrong.
enum Job {
    Make { node: Node, path: Vec<u8>, name: Vec<u8>, into: Rc<OwnedFd> },
    Finish { dir: Rc<OwnedFd>, stat: Stat, path: Vec<u8> },
}

impl Copier<'_> {
    fn copy(&mut self, target: &Target, images: &mut Images<'_>, dest: &Path, many: bool) -> Result<()> {
        target.need_path("cp")?;
        let (tree, path, node) = images.find(target, Follow::No)?;
        let (into, name) = destination(dest, &path, many)?;
        let stat = tree.stat(node).map_err(|error| error.context(target.shown()))?;
        if stat.kind == FileType::Dir && !self.args.recursive {
            let error = Error::new(ErrorKind::NotFound, "is a directory, not a regular file");
            return Err(error.context(target.shown()).help("to copy directories: imgmount cp -r"));
        }
        // The link that a user names is meant as what it leads to, unless a whole tree is copied; as cp(1) does.
        let node = if stat.kind == FileType::Symlink && !self.args.recursive {
            tree.resolve(&path, Follow::Yes).map_err(|error| error.context(target.shown_image()))?
        } else {
            node
        };
        let mut jobs = vec![Job::Make { node, path, name, into: Rc::new(into) }];
        let mut seen = HashSet::new();
        while let Some(job) = jobs.pop() {
            let first = seen.is_empty();
            match job {
                Job::Make { node, path, name, into } => {
                    let made = self.make(&tree, node, &path, &name, &into, &mut seen, &mut jobs);
                    seen.insert(node);
                    match made {
                        Ok(()) => {}
                        Err(error) if first && jobs.is_empty() => {
                            return Err(error.context(target.shown_image()));
                        }
                        Err(error) => self.complain(&error.context(target.shown_image())),
                    }
                }
                Job::Finish { dir, stat, path } => {
                    if let Err(error) = self.finish(dir.as_fd(), &stat) {
                        self.complain(&error.context(escape(&path)));
                    }
                }
            }
        }
        Ok(())
    }

    fn complain(&mut self, error: &Error) {
        out::complain(error);
        self.tally.partial();
    }

    #[expect(clippy::too_many_arguments, reason = "one job's fields and the two lists it adds to")]
    fn make(
        &mut self,
        tree: &Tree,
        node: Node,
        path: &[u8],
        name: &[u8],
        into: &Rc<OwnedFd>,
        seen: &mut HashSet<Node>,
        jobs: &mut Vec<Job>,
    ) -> Result<()> {
        let said = |error: Error| error.context(escape(path));
        let stat = tree.stat(node).map_err(said)?;
        match stat.kind {
            FileType::Dir => {
                if seen.contains(&node) {
                    return Err(said(Error::new(
                        ErrorKind::Corrupt,
                        "the directory is reached a second time; left out",
                    )));
                }
                let (dir, new) = make_dir(into, name).map_err(said)?;
                let dir = Rc::new(dir);
                if new || self.args.preserve {
                    jobs.push(Job::Finish { dir: Rc::clone(&dir), stat, path: path.to_vec() });
                }
                let listed = tree.readdir(node, 0, &mut |entry| {
                    let mut child = path.to_vec();
                    if !child.ends_with(b"/") {
                        child.push(b'/');
                    }
                    child.extend_from_slice(entry.name);
                    let name = entry.name.to_vec();
                    jobs.push(Job::Make { node: entry.node, path: child, name, into: Rc::clone(&dir) });
                    ControlFlow::Continue(())
                });
                listed.map_err(said)
            }
            FileType::File => {
                let file = self.make_file(into, name, &stat).map_err(said)?;
                let copied = content(tree, node, &stat, &file);
                // What was read stays; half a file is more than none, and the exit code says that it is half.
                let finished = self.finish(file.as_fd(), &stat);
                copied.and(finished).map_err(said)
            }
            FileType::Symlink => {
                let target = tree.readlink(node).map_err(said)?;
                self.make_link(into, name, &target, &stat).map_err(said)
            }
            FileType::Char | FileType::Block | FileType::Fifo | FileType::Socket => {
                let what = stat.kind.name();
                Err(said(Error::new(ErrorKind::Denied, format!("a special file ({what}) is not copied"))))
            }
        }
    }

    fn make_file(&self, into: &OwnedFd, name: &[u8], stat: &Stat) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Nobody but us may open it before it has its own mode.
        let mode =
            if self.args.preserve { Mode::RUSR | Mode::WUSR } else { self.plain_mode(stat) | Mode::WUSR };
        let made = rustix::fs::openat(into, name, flags, mode);
        let made = if matches!(made, Err(Errno::EXIST)) && self.args.force {
            self.remove(into, name)?;
            rustix::fs::openat(into, name, flags, mode)
        } else {
            made
        };
        made.map(File::from).map_err(|errno| in_the_way("making the file", errno))
    }

    fn make_link(&self, into: &OwnedFd, name: &[u8], target: &[u8], stat: &Stat) -> Result<()> {
        let made = rustix::fs::symlinkat(target, into, name);
        let made = if matches!(made, Err(Errno::EXIST)) && self.args.force {
            self.remove(into, name)?;
            rustix::fs::symlinkat(target, into, name)
        } else {
            made
        };
        made.map_err(|errno| in_the_way("making the link", errno))?;
        if self.args.preserve {
            let _ = rustix::fs::chownat(
                into,
                name,
                Some(Uid::from_raw(stat.uid)),
                Some(Gid::from_raw(stat.gid)),
                AtFlags::SYMLINK_NOFOLLOW,
            );
            rustix::fs::utimensat(into, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| host("setting the link's times", errno))?;
        }
        Ok(())
    }

    fn remove(&self, into: &OwnedFd, name: &[u8]) -> Result<()> {
        rustix::fs::unlinkat(into, name, AtFlags::empty())
            .map_err(|errno| host("removing what is in the way", errno))
    }

    fn plain_mode(&self, stat: &Stat) -> Mode {
        Mode::from_raw_mode(u32::from(stat.mode) & 0o777).difference(self.umask)
    }

    /// Mode, owner and times of a finished file or directory.
    fn finish(&self, fd: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
        if !self.args.preserve {
            return rustix::fs::fchmod(fd, self.plain_mode(stat))
                .map_err(|errno| host("setting the mode", errno));
        }
        let owned = rustix::fs::fchown(fd, Some(Uid::from_raw(stat.uid)), Some(Gid::from_raw(stat.gid)));
        // As cp -p: who may not give a file away keeps it, but then not with its set-user-ID bit.
        let mode = if owned.is_ok() { u32::from(stat.mode) & 0o7777 } else { u32::from(stat.mode) & 0o1777 };
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode)).map_err(|errno| host("setting the mode", errno))?;
        rustix::fs::futimens(fd, &times(stat)).map_err(|errno| host("setting the times", errno))
    }
}

/// A directory below `into`, open, and whether it is new. One that is there is merged with, as cp(1) does; a link to
/// one is not.
fn make_dir(into: &OwnedFd, name: &[u8]) -> Result<(OwnedFd, bool)> {
    let new = match rustix::fs::mkdirat(into, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(host("making the directory", errno)),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(into, name, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOTDIR | Errno::LOOP => host("something that is no directory is in the way", errno),
        _ => host("opening the directory", errno),
    })?;
    Ok((dir, new))
}

/// The open directory that the copy is made in, and its name there.
fn destination(dest: &Path, source: &[u8], many: bool) -> Result<(OwnedFd, Vec<u8>)> {
    let shown = escape(dest.as_os_str().as_bytes()).to_string();
    let open = |path: &Path| {
        rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    match open(dest) {
        Ok(dir) => {
            // The root, "." and ".." have no name of their own: what is in them goes into the directory itself.
            let name = source.rsplit(|byte| *byte == b'/').find(|name| !name.is_empty());
            let name = name.filter(|name| !matches!(*name, b"." | b"..")).unwrap_or(b".");
            return Ok((dir, name.to_vec()));
        }
        Err(errno) if many => {
            let error =
                Error::new(ErrorKind::Host, format!("{shown}: not a directory that can be copied into"));
            return Err(error.caused_by(errno).help("several files want an existing directory as DEST"));
        }
        Err(_) => {}
    }
    let name = dest.file_name().map(|name| name.as_bytes().to_vec());
    let parent = dest
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .map_or_else(|| PathBuf::from("."), Path::to_owned);
    let ends_in_slash = dest.as_os_str().as_bytes().ends_with(b"/");
    match (name, open(&parent)) {
        (Some(name), Ok(dir)) if !ends_in_slash => Ok((dir, name)),
        (_, Err(errno)) => {
            Err(Error::new(ErrorKind::Host, format!("{shown}: its directory cannot be opened"))
                .caused_by(errno))
        }
        _ => Err(Error::new(ErrorKind::Host, format!("{shown}: no such directory"))),
    }
}

/// Writes the content. Holes stay holes.
fn content(tree: &Tree, node: Node, stat: &Stat, file: &File) -> Result<()> {
    let failed = |error: std::io::Error| Error::new(ErrorKind::Host, "writing").caused_by(error);
    let mut at = 0_u64;
    pieces(tree, node, &mut |piece| {
        match piece {
            Piece::Data(bytes) => {
                file.write_all_at(bytes, at).map_err(failed)?;
                at = at.saturating_add(wide(bytes.len()));
            }
            Piece::Hole(len) => at = at.saturating_add(len),
        }
        Ok(())
    })?;
    file.set_len(stat.size).map_err(failed)
}

fn times(stat: &Stat) -> Timestamps {
    let spec = |time: Time| Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() };
    Timestamps { last_access: spec(stat.atime), last_modification: spec(stat.mtime) }
}

fn host(doing: &str, errno: Errno) -> Error {
    Error::new(ErrorKind::Host, doing).caused_by(errno)
}

fn in_the_way(doing: &str, errno: Errno) -> Error {
    match errno {
        Errno::EXIST => {
            host(doing, errno).help("nothing is overwritten; to replace files and links: imgmount cp -f")
        }
        _ => host(doing, errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_into_a_directory_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(destination(dir.path(), b"/etc/fstab", false).unwrap().1, b"fstab");
        assert_eq!(destination(dir.path(), b"/etc/..", false).unwrap().1, b".");
        assert_eq!(destination(dir.path(), b"/", false).unwrap().1, b".");
    }

    #[test]
    fn a_copy_to_a_new_name_has_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(destination(&dir.path().join("x"), b"/etc/fstab", false).unwrap().1, b"x");
        assert!(destination(&dir.path().join("x"), b"/etc/fstab", true).is_err());
        assert!(destination(&dir.path().join("x/"), b"/etc/fstab", false).is_err());
        assert!(destination(&dir.path().join("no/x"), b"/etc/fstab", false).is_err());
    }
}
