//! The FUSE door: answers the kernel's requests over a [`View`].
//!
//! An image does not change, so the kernel may keep every answer for a year: attributes, names (also those that do not
//! exist), directories, links and file content. Opening a file or a directory is nothing to us; the kernel is told so once
//! and asks no more. What is left are `LOOKUP`, `READDIR`, `READDIRPLUS`, `READ`, and now and then `GETATTR` and `GETXATTR`.
//! A request costs some ten microseconds whatever is in it, so what makes a tree fast is to be asked seldom. Whether a
//! listing carries attributes is told in [`eager`].
//!
//! ```text
//!   fuser thread ─▶ inodes: number → file ─▶ view's own node: a disk, a text
//!                                        └─▶ tree → file system → volume → disk → container
//! ```
//! What cannot be read is EIO, never zeros, and noted for `.imgmount/errors`. A panic is EIO for its request alone.
//!
//! Extended attributes are shown as the guest stored them, but for names that speak to *this* kernel: see [`Xattrs`].

use crate::block::Place;
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::{Node, Tree, TreeEntry};
use crate::fs::{FileType, FsFacts, Stat};
use crate::num::{narrow, wide};
use eager::Eager;
use fuser::{Errno, FileAttr, INodeNo};
use inodes::{File, Inodes, ROOT};
use kept::Kept;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use view::Own;

mod attr;
mod eager;
mod inodes;
mod kept;
mod late;
mod links;
mod requests;
#[cfg(test)]
mod toy;
mod trouble;
mod view;
mod zeros;

pub use attr::Owner;
pub use late::Late;
pub use links::Symlinks;
pub use trouble::Troubles;
pub use view::{Target, View};
pub use zeros::zeroed;

/// How long the kernel may keep what it was told.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// The same for the generated files: long enough that one reader sees one text.
const FOR_A_MOMENT: Duration = Duration::from_secs(1);
/// An entry that must be asked for again.
const NOT_AT_ALL: Duration = Duration::ZERO;
/// The two entries in front of every listing: `.` and `..`.
const DOTS: u64 = 2;
/// Entries looked at to tell what a directory mostly holds: about as many as fit a page of 32 KiB with attributes.
const LOOKED_AT: usize = 170;
/// Files whose attributes cost as much as a directory's `LOOKUP`, and as one more page of a listing: measured, 9 µs to 25.
const OTHERS_FOR_DIR: usize = 2;
const OTHERS_FOR_PAGE: usize = 3;
/// A directory entry's number where the real one is not known; libfuse's `FUSE_UNKNOWN_INO`.
const UNKNOWN: u64 = 0xffff_ffff;

/// Longest name in a listing: `FUSE_NAME_MAX` of the kernel's `fs/fuse`, which fails the whole page over a longer one.
const MAX_NAME: usize = 1024;

/// Requests of this process's mount that ask for a file.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// How many requests have asked for a file so far: where this does not grow, nobody uses the mount. `statfs` does not
/// count, by which monitors look at every mount.
#[must_use]
pub fn asked() -> u64 {
    ASKED.load(Ordering::Relaxed)
}

/// Which extended attributes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xattrs {
    /// `user.*`, POSIX ACLs and `security.capability`, which a `nosuid` mount never grants. Not `trusted.*` and the
    /// rest of `security.*`: this host's overlayfs, SELinux, Smack and IMA would take them for their own.
    #[default]
    Safe,
    /// All of them.
    All,
    /// None.
    Off,
}

impl Xattrs {
    /// Is it in one of the name spaces there are? See xattr(7).
    fn is_a_name(name: &[u8]) -> bool {
        [&b"user."[..], b"system.", b"security.", b"trusted."].iter().any(|space| name.starts_with(space))
    }

    fn shows(self, name: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Off => false,
            Self::Safe => {
                name.starts_with(b"user.") || name.starts_with(b"system.") || name == b"security.capability"
            }
        }
    }
}

/// How a view is shown.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whose the guest's files seem to be.
    pub owner: Owner,
    /// Whose the view's own files are: user and group.
    pub own: (u32, u32),
    /// How symbolic links are shown.
    pub symlinks: Symlinks,
    /// Which extended attributes are shown.
    pub xattrs: Xattrs,
    /// Threads that answer.
    pub threads: usize,
    /// Zeros stand for content that cannot be read, instead of an error.
    pub zeros: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            owner: Owner::Guest,
            own: (0, 0),
            symlinks: Symlinks::Relative,
            xattrs: Xattrs::Safe,
            // Two at least: one request that takes its time must not be waited for by all others.
            threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2),
            zeros: false,
        }
    }
}

/// Answers the kernel over an open `/dev/fuse` that is mounted already, until it is unmounted. Calls `begun` when the
/// kernel's greeting has been answered.
///
/// # Errors
/// `Host` when the kernel's protocol cannot be spoken.
pub fn serve(
    view: Arc<View>,
    device: OwnedFd,
    options: Options,
    troubles: Arc<Troubles>,
    begun: impl FnOnce(),
) -> Result<()> {
    let host = |doing: &'static str| {
        move |error: std::io::Error| Error::new(ErrorKind::Host, doing).caused_by(error)
    };
    let threads = options.threads.max(1);
    let mut config = fuser::Config::default();
    config.n_threads = Some(threads);
    // A descriptor for each thread saves them from queueing at one; without the right to open /dev/fuse they share.
    config.clone_fd =
        threads > 1 && std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    // The mount's own options say who may come in, and the kernel sees to it.
    let door = Door::new(view, options, troubles);
    let kept = Arc::clone(&door.kept);
    let session = fuser::Session::from_fd(door, device, fuser::SessionACL::All, config)
        .map_err(host("greeting the kernel over /dev/fuse"))?;
    let _ = kept.kernel.set(session.notifier());
    begun();
    session.run().map_err(host("answering the kernel over /dev/fuse"))
}

/// The answering side of one mount.
#[derive(Debug)]
struct Door {
    view: Arc<View>,
    inodes: Inodes,
    options: Options,
    troubles: Arc<Troubles>,
    /// Facts of every file system of every tree, for `statfs`.
    facts: Vec<Vec<FsFacts>>,
    /// Does somebody ask for the attributes of files?
    eager: Eager,
    /// Does somebody walk from directory to directory?
    walks: Eager,
    /// Listings that the kernel keeps without attributes.
    kept: Arc<Kept>,
    /// The kernel takes it that directories need not be opened.
    skips_opendir: bool,
}

/// What the lines of a listing carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// Number and type, where the directory tells it.
    Bare,
    /// All attributes: the kernel will hold the file.
    Full,
}

/// One line of a directory, ready for the kernel.
struct Line<'a> {
    attr: FileAttr,
    keep: Duration,
    /// The kernel's hold on the file was counted.
    held: bool,
    next: u64,
    name: &'a [u8],
}

/// Takes a line; says whether there is room for it.
type Lines<'a> = dyn FnMut(&Line<'_>) -> bool + 'a;

fn not_a(what: &'static str) -> Error {
    Error::new(ErrorKind::Internal, format!("asked for something else than a {what}"))
}

/// Copies what there is of a text from `offset` on; how much that was.
fn copy(text: &str, offset: u64, buf: &mut [u8]) -> usize {
    let rest = text.as_bytes().get(narrow(offset)..).unwrap_or_default();
    let len = rest.len().min(buf.len());
    for (to, from) in buf.iter_mut().zip(rest) {
        *to = *from;
    }
    len
}

impl Door {
    fn new(view: Arc<View>, options: Options, troubles: Arc<Troubles>) -> Self {
        let facts = |tree: &Arc<Tree>| tree.mounts().iter().map(|mount| mount.fs.facts()).collect();
        let facts = view.trees().iter().map(facts).collect();
        Self {
            inodes: Inodes::new(&view),
            view,
            options,
            troubles,
            facts,
            eager: Eager::default(),
            walks: Eager::doubtful(),
            kept: Arc::default(),
            skips_opendir: false,
        }
    }

    /// Runs the work of a request that asks for a file.
    fn guarded<T>(
        &self,
        number: INodeNo,
        doing: &'static str,
        work: impl FnOnce(File) -> Result<T>,
    ) -> std::result::Result<T, Errno> {
        ASKED.fetch_add(1, Ordering::Relaxed);
        self.uncounted(number, doing, work)
    }

    /// Runs a request's work. Whatever goes wrong in it concerns this request alone.
    fn uncounted<T>(
        &self,
        number: INodeNo,
        doing: &'static str,
        work: impl FnOnce(File) -> Result<T>,
    ) -> std::result::Result<T, Errno> {
        let file = self.inodes.file(number.0).map_err(|_| Errno::ENOENT)?;
        let error = match catch_unwind(AssertUnwindSafe(|| work(file))) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            Err(_) => {
                COUNTERS.panics.add(1);
                Error::new(ErrorKind::Internal, "the program failed here; this is a bug")
            }
        };
        // A name that is not there is an answer. An error says that there is something which cannot be had.
        self.troubles.note(file, doing, &error);
        Err(Errno::EIO)
    }

    fn tree(&self, tree: usize) -> Result<&Arc<Tree>> {
        self.view.trees().get(tree).ok_or_else(|| not_a("tree"))
    }

    /// The link as shown, found in the directory `parent`.
    fn shown(&self, parent: u64, at: usize, target: &[u8]) -> Result<Vec<u8>> {
        let covered = self.view.hidden_name().filter(|_| self.view.root() == Target::Tree(at));
        links::shown(self.tree(at)?, covered, &self.inodes.chain(parent)?, target)
    }

    /// Attributes of a guest's file under a number that it has already.
    fn guest_attr(
        &self,
        number: u64,
        parent: Option<u64>,
        (at, node): (usize, Node),
        stat: &Stat,
    ) -> Result<FileAttr> {
        let mut attr = attr::of(number, stat, self.options.owner);
        if stat.kind == FileType::Symlink && self.options.symlinks == Symlinks::Relative {
            // The kernel cuts a cached link at its size, and `../..a` cut too early leads out of the guest. One that cannot be
            // read now, but may be later, has the size that cuts nothing.
            let shown = self.tree(at)?.target(node).and_then(|target| match parent {
                _ if links::is_plain(&target) => Ok(target),
                Some(parent) => self.shown(parent, at, &target),
                None => Err(not_a("link in its place")),
            });
            attr.size = wide(shown.map_or(links::MAX_TARGET, |shown| shown.len()));
        }
        Ok(attr)
    }

    /// A file of a guest on its way to the kernel, which will hold it: its number and attributes.
    fn hand_out(&self, parent: u64, at: usize, node: Node) -> Result<FileAttr> {
        let stat = self.tree(at)?.stat(node)?;
        let file = File::Guest(at, node);
        let number = match stat.kind {
            FileType::Dir => self.inodes.directory(file, parent)?,
            FileType::Symlink => self.inodes.link(file, parent)?,
            _ => self.inodes.other(file)?,
        };
        self.guest_attr(number, Some(parent), (at, node), &stat)
    }

    /// Attributes of one of the view's own nodes, and how long they hold.
    fn own_attr(&self, number: u64, at: usize) -> Result<(FileAttr, Duration)> {
        let made = self.view.made;
        let whose = self.options.own;
        Ok(match self.view.own(at).ok_or_else(|| not_a("node"))? {
            Own::Dir(_) => (attr::own(number, true, 0, 0, made, whose), FOR_EVER),
            Own::Disk(disk) => {
                (attr::own(number, false, disk.source.len(), disk.blocks(), made, whose), FOR_EVER)
            }
            Own::Text(text) => {
                let size = wide(text.renew().len());
                let now = SystemTime::now();
                (attr::own(number, false, size, size.div_ceil(512), now, whose), FOR_A_MOMENT)
            }
            Own::Late(late) => match late.made() {
                Some(made) => (made.attr(number, whose), FOR_EVER),
                None => (attr::own(number, false, 0, 0, made, whose), NOT_AT_ALL),
            },
        })
    }

    /// What a name of one of the view's own directories leads to.
    fn own_entry(&self, parent: u64, target: Target) -> Result<(FileAttr, Duration)> {
        match self.inodes.target(target) {
            file @ File::Own(at) => self.own_attr(self.inodes.other(file)?, at),
            File::Guest(tree, node) => Ok((self.hand_out(parent, tree, node)?, FOR_EVER)),
        }
    }

    fn look_up(&self, parent: u64, dir: File, name: &[u8]) -> Result<Option<(FileAttr, Duration)>> {
        if parent == ROOT
            && let Some(at) = self.view.hidden(name)
        {
            return self.own_entry(parent, Target::Own(at)).map(Some);
        }
        match dir {
            File::Own(at) => {
                let Some(Own::Dir(entries)) = self.view.own(at) else { return Err(not_a("directory")) };
                let found = entries.iter().find(|(entry, _)| entry == name);
                found.map(|(_, target)| self.own_entry(parent, *target)).transpose()
            }
            File::Guest(tree, dir) => {
                let Some(node) = self.tree(tree)?.lookup(dir, name)? else { return Ok(None) };
                let attr = self.hand_out(parent, tree, node)?;
                if attr.kind == fuser::FileType::Directory {
                    self.walks.asked();
                } else {
                    self.eager.asked();
                    if let Some(dirs) = self.kept.asked(parent) {
                        self.kept.drop_all(dirs);
                    }
                }
                Ok(Some((attr, FOR_EVER)))
            }
        }
    }

    /// Streams a directory from `offset`: 0 is `.`, 1 is `..`, then what is in it.
    fn list(&self, number: u64, dir: File, offset: u64, detail: Detail, room: &mut Lines<'_>) -> Result<()> {
        let dots: [(&[u8], u64); 2] =
            [(b".", number), (b"..", self.inodes.parent(number).unwrap_or(UNKNOWN))];
        for ((name, ino), next) in dots.into_iter().zip(1_u64..).skip(narrow(offset)) {
            let attr = attr::own(ino, true, 0, 0, self.view.made, self.options.own);
            if !room(&Line { attr, keep: NOT_AT_ALL, held: false, next, name }) {
                return Ok(());
            }
        }
        let from = offset.saturating_sub(DOTS);
        match dir {
            File::Own(at) => self.list_own(number, at, from, room),
            File::Guest(tree, dir) => self.list_guest(number, (tree, dir), from, detail, room),
        }
    }

    fn list_own(&self, number: u64, at: usize, from: u64, room: &mut Lines<'_>) -> Result<()> {
        let Some(Own::Dir(entries)) = self.view.own(at) else { return Err(not_a("directory")) };
        for ((name, target), next) in entries.iter().zip(3_u64..).skip(narrow(from)) {
            let (attr, keep) = match *target {
                // Its size is known when it is written, which takes its time; a list of names does not need it.
                Target::Own(own) if matches!(self.view.own(own), Some(Own::Text(_))) => {
                    let number = self.inodes.other(File::Own(own))?;
                    (attr::own(number, false, 0, 0, self.view.made, self.options.own), NOT_AT_ALL)
                }
                target => self.own_entry(number, target)?,
            };
            if !room(&Line { attr, keep, held: true, next, name }) {
                self.inodes.forget(attr.ino.0, 1);
                return Ok(());
            }
        }
        Ok(())
    }

    /// A file of which only number and type are told, where both are known without a look at it.
    fn bare(&self, at: usize, entry: &TreeEntry<'_>) -> Option<FileAttr> {
        let kind = attr::kind(entry.kind?);
        let number = self.inodes.plain(File::Guest(at, entry.node))?;
        Some(FileAttr { kind, ..attr::own(number, false, 0, 0, self.view.made, self.options.own) })
    }

    /// Would a walk through this directory cost more without attributes than with them? It asks for every directory in it
    /// that it was not told of, and for the rest of a listing that told of nothing.
    fn is_for_walks(&self, dir: File) -> Result<bool> {
        let File::Guest(at, dir) = dir else { return Ok(true) };
        let (mut dirs, mut others) = (0_usize, 0_usize);
        self.tree(at)?.readdir(dir, 0, &mut |entry| {
            let count = if entry.kind == Some(FileType::Dir) { &mut dirs } else { &mut others };
            *count = count.saturating_add(1);
            if dirs.saturating_add(others) < LOOKED_AT {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(others <= dirs.saturating_mul(OTHERS_FOR_DIR).saturating_add(OTHERS_FOR_PAGE))
    }

    fn list_guest(
        &self,
        number: u64,
        (at, dir): (usize, Node),
        from: u64,
        detail: Detail,
        room: &mut Lines<'_>,
    ) -> Result<()> {
        let mut failed = None;
        self.tree(at)?.readdir(dir, from, &mut |entry| {
            if number == ROOT && self.view.hidden(entry.name).is_some() {
                return ControlFlow::Continue(());
            }
            if entry.name.len() > MAX_NAME {
                let what = format!("a name of {} bytes, at most {MAX_NAME} can be shown", entry.name.len());
                self.troubles.note(File::Guest(at, dir), "listing", &Error::limit(what));
                return ControlFlow::Continue(());
            }
            // The kernel's offset is signed. A file system whose cookies fill 64 bits cannot be listed any further.
            let Some(next) = entry.next.checked_add(DOTS).filter(|next| i64::try_from(*next).is_ok()) else {
                failed = Some(Error::unsupported("a directory position of more than 63 bits"));
                return ControlFlow::Break(());
            };
            let bare = if detail == Detail::Bare { self.bare(at, &entry) } else { None };
            if let Some(attr) = bare {
                let line = Line { attr, keep: NOT_AT_ALL, held: false, next, name: entry.name };
                return if room(&line) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
            }
            let line = match self.hand_out(number, at, entry.node) {
                Ok(attr) => Line { attr, keep: FOR_EVER, held: true, next, name: entry.name },
                Err(error) => {
                    self.troubles.note(File::Guest(at, entry.node), "reading its inode", &error);
                    match self.broken(number, at, entry.node, entry.kind) {
                        Ok(attr) => Line { attr, keep: NOT_AT_ALL, held: true, next, name: entry.name },
                        Err(error) => {
                            failed = Some(error);
                            return ControlFlow::Break(());
                        }
                    }
                }
            };
            if room(&line) {
                return ControlFlow::Continue(());
            }
            self.inodes.forget(line.attr.ino.0, 1);
            ControlFlow::Break(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Stands in a listing for a file whose inode cannot be read. The kernel keeps it not for a moment, looks it up, and
    /// gets the error.
    fn broken(&self, parent: u64, tree: usize, node: Node, kind: Option<FileType>) -> Result<FileAttr> {
        let number = self.inodes.link(File::Guest(tree, node), parent)?;
        let is_dir = kind == Some(FileType::Dir);
        Ok(FileAttr { perm: 0, ..attr::own(number, is_dir, 0, 0, self.view.made, self.options.own) })
    }

    /// Reads up to `buf`'s length; how much it was. Less only at the end of the file.
    fn read_into(&self, file: File, buf: &mut [u8], offset: u64) -> Result<usize> {
        match file {
            File::Guest(tree, node) => self.tree(tree)?.read_at(node, buf, offset),
            File::Own(at) => match self.view.own(at) {
                Some(Own::Disk(disk)) => {
                    let len = narrow(disk.source.len().saturating_sub(offset)).min(buf.len());
                    if let Some(part) = buf.get_mut(..len).filter(|part| !part.is_empty()) {
                        disk.source.read_at(part, offset)?;
                    }
                    Ok(len)
                }
                Some(Own::Text(text)) => Ok(copy(&text.current(), offset, buf)),
                // The kernel asks for the size first, and waits for that.
                Some(Own::Late(late)) => {
                    let made = late.made().ok_or_else(|| not_a("file that is made"))?;
                    Ok(copy(&made.text, offset, buf))
                }
                _ => Err(not_a("file")),
            },
        }
    }

    /// Reads as [`Door::read_into`], but what cannot be read becomes zeros, as little of it as possible.
    fn read_with_zeros(&self, file: File, buf: &mut [u8], offset: u64) -> Result<usize> {
        let size = match file {
            File::Guest(at, node) => self.tree(at)?.stat(node)?.size,
            File::Own(at) => match self.view.own(at) {
                Some(Own::Disk(disk)) => disk.source.len(),
                _ => return self.read_into(file, buf, offset),
            },
        };
        let len = narrow(size.saturating_sub(offset)).min(buf.len());
        let Some(room) = buf.get_mut(..len) else { return Ok(0) };
        zeros::read(room, offset, &|part, at| self.read_into(file, part, at), &|error| {
            self.troubles.note(file, "reading, zeros are shown", error);
        });
        Ok(len)
    }

    fn seek(&self, file: File, offset: u64, hole: bool) -> Result<Option<u64>> {
        match file {
            File::Guest(tree, node) => {
                let tree = self.tree(tree)?;
                let (size, fs) = (tree.stat(node)?.size, tree.fs(node)?);
                view::seek(offset, size, hole, |at| match fs.run_at(node.ino, at) {
                    Ok(run) => Ok((run.len, matches!(run.place, Place::Hole | Place::Zero))),
                    // A file system that does not tell has data everywhere.
                    Err(error) if error.kind() == ErrorKind::Unsupported => {
                        Ok((size.saturating_sub(at), false))
                    }
                    Err(error) => Err(error),
                })
            }
            File::Own(at) => match self.view.own(at) {
                Some(Own::Disk(disk)) => disk.seek(offset, hole),
                Some(Own::Text(text)) => {
                    let size = wide(text.current().len());
                    view::seek(offset, size, hole, |at| Ok((size.saturating_sub(at), false)))
                }
                Some(Own::Late(late)) => {
                    let size = wide(late.made().map_or(0, |made| made.text.len()));
                    view::seek(offset, size, hole, |at| Ok((size.saturating_sub(at), false)))
                }
                _ => Err(not_a("file")),
            },
        }
    }

    fn xattr_names(&self, file: File) -> Result<Vec<Vec<u8>>> {
        let File::Guest(tree, node) = file else { return Ok(Vec::new()) };
        if self.options.xattrs == Xattrs::Off {
            return Ok(Vec::new());
        }
        let mut all = self.tree(tree)?.xattr_names(node)?;
        all.retain(|name| self.options.xattrs.shows(name));
        Ok(all)
    }

    /// Answers with bytes, their number, or "does not fit", as `getxattr` and `listxattr` want it.
    fn reply_sized(reply: fuser::ReplyXattr, bytes: &[u8], room: u32) {
        match u32::try_from(bytes.len()) {
            Ok(len) if room == 0 => reply.size(len),
            Ok(len) if len <= room => reply.data(bytes),
            _ => reply.error(Errno::ERANGE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::toy::Toy;
    use super::*;

    fn door(toy: Toy) -> Door {
        let mut view = View::new();
        view.add_fixed(view.top(), "info.json", "{}".to_owned());
        view.cover(toy.tree(), ".imgmount");
        Door::new(Arc::new(view), Options::default(), Arc::new(Troubles::default()))
    }

    /// The number and attributes of a path, looked up name by name as the kernel does.
    fn find(door: &Door, path: &str) -> std::result::Result<FileAttr, Errno> {
        let mut attr = door.guarded(INodeNo(ROOT), "", |file| match file {
            File::Guest(at, node) => {
                let stat = door.tree(at)?.stat(node)?;
                door.guest_attr(ROOT, None, (at, node), &stat)
            }
            File::Own(_) => Err(not_a("guest")),
        })?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let dir = attr.ino;
            let found = door.guarded(dir, "", |file| door.look_up(dir.0, file, name.as_bytes()))?;
            attr = found.ok_or(Errno::ENOENT)?.0;
        }
        Ok(attr)
    }

    fn names(door: &Door, dir: u64) -> Vec<String> {
        let mut names = Vec::new();
        let file = door.inodes.file(dir).unwrap();
        door.list(dir, file, 0, Detail::Full, &mut |line| {
            names.push(String::from_utf8_lossy(line.name).into_owned());
            true
        })
        .unwrap();
        names
    }

    #[test]
    fn a_guests_inode_number_is_shown_as_it_is() {
        let door = door(Toy::new().with_file("/a", b"x"));
        assert_eq!(find(&door, "/a").unwrap().ino.0, 3);
    }

    #[test]
    fn the_hidden_folder_is_reachable_and_not_listed() {
        let door = door(Toy::new().with_file("/a", b"x").with_file("/.imgmount", b"the guest's own"));
        assert_eq!(names(&door, ROOT), [".", "..", "a"]);
        assert_eq!(find(&door, "/.imgmount").unwrap().kind, fuser::FileType::Directory);
        assert_eq!(find(&door, "/.imgmount/info.json").unwrap().size, 2);
    }

    #[test]
    fn an_unreadable_file_is_eio_and_noted_with_its_path() {
        let door = door(Toy::new().with_bad_file("/etc/bad").with_file("/good", b"good"));
        let bad = find(&door, "/etc/bad").unwrap().ino;
        let read = door.guarded(bad, "reading", |file| door.read_into(file, &mut [0; 16], 0));
        assert_eq!(read, Err(Errno::EIO));
        let text = door.troubles.text(door.view.trees());
        assert_eq!(text, "/etc/bad (toy): reading: cannot be read, on purpose\n");
    }

    #[test]
    fn content_of_which_a_part_is_missing_is_eio_and_noted() {
        let door = door(Toy::new().with_lost_file("/lost"));
        let lost = find(&door, "/lost").unwrap().ino;
        let read = door.guarded(lost, "reading", |file| door.read_into(file, &mut [0; 16], 0));
        assert_eq!(read, Err(Errno::EIO));
        let text = door.troubles.text(door.view.trees());
        assert!(text.starts_with("/lost (toy): reading: device 2"), "{text}");
    }

    #[test]
    fn content_of_which_a_part_is_missing_is_a_matter_of_the_source() {
        let tree = Toy::new().with_lost_file("/lost").tree();
        let node = tree.find(b"/lost").unwrap().unwrap();
        assert_eq!(tree.read_at(node, &mut [0; 16], 0).unwrap_err().kind(), ErrorKind::Source);
        assert_eq!(tree.find(b"/none").unwrap(), None);
        let listed = tree.readdir(node, 0, &mut |_| ControlFlow::Continue(()));
        assert_eq!(listed.unwrap_err().kind(), ErrorKind::NotFound, "no directory");
    }

    #[test]
    fn a_panic_is_eio_for_its_request_alone() {
        let door = door(Toy::new().with_bug("/bug").with_file("/good", b"good"));
        let (bug, good) = (find(&door, "/bug").unwrap().ino, find(&door, "/good").unwrap().ino);
        let before = COUNTERS.panics.get();
        let read = |number| door.guarded(number, "reading", |file| door.read_into(file, &mut [0; 16], 0));
        assert_eq!(read(bug), Err(Errno::EIO));
        assert_eq!(read(good), Ok(4));
        assert!(COUNTERS.panics.get() > before, "counted, beside those of other tests");
    }

    #[test]
    fn a_directory_in_two_places_is_refused_in_the_second() {
        let door = door(Toy::new().with_dir("/a/b").with_hard_link("/b2", "/a/b"));
        assert!(find(&door, "/a/b").is_ok());
        assert_eq!(find(&door, "/b2").map(|attr| attr.ino), Err(Errno::EIO));
    }

    #[test]
    fn a_directory_in_itself_does_not_go_on_for_ever() {
        let door = door(Toy::new().with_dir("/a").with_hard_link("/a/a", "/a"));
        assert_eq!(find(&door, "/a/a").map(|attr| attr.ino), Err(Errno::EIO));
    }

    #[test]
    fn a_name_without_an_inode_does_not_hide_the_others() {
        let door = door(Toy::new().with_dangling_name("/broken").with_file("/fine", b"x"));
        assert_eq!(names(&door, ROOT), [".", "..", "broken", "fine"]);
        assert_eq!(find(&door, "/broken").map(|attr| attr.ino), Err(Errno::EIO));
    }

    #[test]
    fn a_name_that_the_kernel_does_not_take_does_not_hide_the_others() {
        let long = format!("/{}", "n".repeat(1025));
        let door = door(Toy::new().with_file("/a", b"x").with_file(&long, b"x").with_file("/z", b"x"));
        assert_eq!(names(&door, ROOT), [".", "..", "a", "z"]);
        let text = door.troubles.text(door.view.trees());
        assert_eq!(text, "/ (toy): listing: a name of 1025 bytes, at most 1024 can be shown\n");
    }

    #[test]
    fn a_hard_linked_symbolic_link_is_shown_right_at_both_places() {
        let door = door(Toy::new().with_link("/a/b/link", "/etc/x").with_hard_link("/link", "/a/b/link"));
        let (deep, top) = (find(&door, "/a/b/link").unwrap(), find(&door, "/link").unwrap());
        assert_ne!(deep.ino, top.ino);
        assert_eq!((deep.size, top.size), (11, 5), "../../etc/x and etc/x");
    }

    #[test]
    fn a_link_that_cannot_be_read_has_a_size_that_cuts_none() {
        let door = door(Toy::new().with_bad_link("/a/link"));
        assert_eq!(find(&door, "/a/link").unwrap().size, 4095);
    }

    #[test]
    fn a_link_with_a_nul_or_nothing_in_its_target_is_an_error_of_that_link() {
        let toy = Toy::new().with_link("/nul", "..\0x").with_link("/none", "").with_link("/good", "nul");
        let door = door(toy);
        for (path, why) in [("/nul", "a NUL in its target"), ("/none", "without a target")] {
            let link = find(&door, path).unwrap();
            let target = door.guarded(link.ino, "reading its target", |file| match file {
                File::Guest(at, node) => door.tree(at)?.target(node),
                File::Own(_) => Err(not_a("guest")),
            });
            assert_eq!(target, Err(Errno::EIO), "{path}");
            assert!(door.troubles.text(door.view.trees()).contains(why), "{path}");
        }
        assert_eq!(find(&door, "/good").unwrap().size, 3);
    }

    #[test]
    fn what_the_kernel_forgets_is_forgotten() {
        let door = door(Toy::new().with_link("/a/b/link", "/etc/x").with_hard_link("/link", "/a/b/link"));
        let number = |path| find(&door, path).unwrap().ino.0;
        let told = [number("/a/b/link"), number("/link"), number("/a/b"), number("/a")];
        // The way to a file tells of the directories on it.
        for (number, times) in told.into_iter().zip([1, 1, 2, 3]) {
            assert_ne!(door.inodes.held(), 0);
            door.inodes.forget(number, times);
        }
        assert_eq!(door.inodes.held(), 0);
    }

    #[test]
    fn xattrs_that_speak_to_this_kernel_are_not_shown() {
        let shows = |name: &str| Xattrs::Safe.shows(name.as_bytes());
        assert!(shows("user.x") && shows("security.capability") && shows("system.posix_acl_access"));
        assert!(!shows("security.selinux") && !shows("trusted.overlay.redirect"));
    }
}
