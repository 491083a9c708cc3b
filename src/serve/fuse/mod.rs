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
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::tree::{Node, Tree, TreeEntry};
use crate::fs::{FileType, FsFacts, Stat};
use crate::num::{narrow, wide};
use eager::Eager;
use fuser::{Errno, FileAttr, FopenFlags, Generation, INodeNo, InitFlags};
use inodes::{File, Inodes, ROOT};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use view::Own;

mod attr;
mod eager;
mod inodes;
mod links;
#[cfg(test)]
mod toy;
mod trouble;
mod view;
mod zeros;

pub use attr::Owner;
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
/// Requests the kernel has under way at once, read-ahead above all.
const MAX_BACKGROUND: u16 = 64;
/// Longest name that Linux's own file systems have, in bytes; limits.h `NAME_MAX`.
const MAX_NAME: usize = 255;
/// The two entries in front of every listing: `.` and `..`.
const DOTS: u64 = 2;
/// Entries looked at to tell what a directory mostly holds: about as many as fit a page of 32 KiB with attributes.
const LOOKED_AT: usize = 170;
/// Files whose attributes cost as much as a directory's `LOOKUP`, and as one more page of a listing: measured, 9 µs to 25.
const OTHERS_FOR_DIR: usize = 2;
const OTHERS_FOR_PAGE: usize = 3;
/// A directory entry's number where the real one is not known; libfuse's `FUSE_UNKNOWN_INO`.
const UNKNOWN: u64 = 0xffff_ffff;

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
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
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
    let session =
        fuser::Session::from_fd(Door::new(view, options, troubles), device, fuser::SessionACL::All, config)
            .map_err(host("greeting the kernel over /dev/fuse"))?;
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

fn errno(error: &Error) -> Errno {
    if error.kind() == ErrorKind::NotFound { Errno::ENOENT } else { Errno::EIO }
}

fn not_a(what: &'static str) -> Error {
    Error::new(ErrorKind::Internal, format!("asked for something else than a {what}"))
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
        let file = self.inodes.file(number.0).map_err(|error| errno(&error))?;
        let error = match catch_unwind(AssertUnwindSafe(|| work(file))) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            Err(_) => {
                COUNTERS.panics.add(1);
                Error::new(ErrorKind::Internal, "the program failed here; this is a bug")
            }
        };
        if error.kind() != ErrorKind::NotFound {
            self.troubles.note(file, doing, &error);
        }
        Err(errno(&error))
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
            // The kernel cuts a cached link at its size. A link that cannot be read keeps the stored one and fails later.
            let shown = self.tree(at)?.target(node).and_then(|target| match parent {
                Some(parent) if !links::is_plain(&target) => self.shown(parent, at, &target),
                _ => Ok(target),
            });
            if let Ok(shown) = shown {
                attr.size = wide(shown.len());
            }
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
                let is_dir = attr.kind == fuser::FileType::Directory;
                if is_dir { &self.walks } else { &self.eager }.asked();
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
                Some(Own::Text(text)) => {
                    let text = text.current();
                    let rest = text.as_bytes().get(narrow(offset)..).unwrap_or_default();
                    let len = rest.len().min(buf.len());
                    for (to, from) in buf.iter_mut().zip(rest) {
                        *to = *from;
                    }
                    Ok(len)
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

thread_local! {
    /// Each thread's room for one read.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl fuser::Filesystem for Door {
    fn init(&mut self, _: &fuser::Request, config: &mut fuser::KernelConfig) -> std::io::Result<()> {
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_AUTO_INVAL_DATA,
        ];
        // An older kernel does without.
        for flag in wanted {
            let _ = config.add_capabilities(flag);
        }
        // Older than 5.1, it would take "not implemented" for a directory's error.
        self.skips_opendir = config.add_capabilities(InitFlags::FUSE_NO_OPENDIR_SUPPORT).is_ok();
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &fuser::Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEntry) {
        match self.guarded(parent, "looking up a name", |dir| self.look_up(parent.0, dir, name.as_bytes())) {
            Ok(Some((attr, keep))) => reply.entry(&keep, &attr, Generation(0)),
            // Some file systems have longer names; where there is none, it is what ext4 says.
            Ok(None) if name.len() > MAX_NAME => reply.error(Errno::ENAMETOOLONG),
            // Number 0: there is no such name, and there will be none.
            Ok(None) => {
                let attr = attr::own(0, false, 0, 0, self.view.made, self.options.own);
                reply.entry(&FOR_EVER, &attr, Generation(0));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _: &fuser::Request, number: INodeNo, times: u64) {
        self.inodes.forget(number.0, times);
    }

    fn getattr(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        _: Option<fuser::FileHandle>,
        reply: fuser::ReplyAttr,
    ) {
        let attr = self.guarded(number, "reading its inode", |file| match file {
            File::Own(at) => self.own_attr(number.0, at),
            File::Guest(at, node) => {
                let stat = self.tree(at)?.stat(node)?;
                let parent = self.inodes.parent(number.0);
                Ok((self.guest_attr(number.0, parent, (at, node), &stat)?, FOR_EVER))
            }
        });
        match attr {
            Ok((attr, keep)) => reply.attr(&keep, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &fuser::Request, number: INodeNo, reply: fuser::ReplyData) {
        let target = self.guarded(number, "reading its target", |file| {
            let File::Guest(at, node) = file else { return Err(not_a("link")) };
            if self.options.symlinks == Symlinks::Raw {
                return self.tree(at)?.readlink(node);
            }
            let target = self.tree(at)?.target(node)?;
            if links::is_plain(&target) {
                return Ok(target);
            }
            let parent = self.inodes.parent(number.0).ok_or_else(|| not_a("link in its place"))?;
            self.shown(parent, at, &target)
        });
        match target {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &fuser::Request, _: INodeNo, _: fuser::OpenFlags, reply: fuser::ReplyOpen) {
        // Nothing to do, now and for every other file: the kernel does not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &fuser::Request, _: INodeNo, _: fuser::OpenFlags, reply: fuser::ReplyOpen) {
        if self.skips_opendir {
            return reply.error(Errno::ENOSYS);
        }
        let keep = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        reply.opened(fuser::FileHandle(0), keep);
    }

    fn flush(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: fuser::FileHandle,
        _: fuser::LockOwner,
        reply: fuser::ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &fuser::Request, _: INodeNo, _: fuser::AccessFlags, reply: fuser::ReplyEmpty) {
        // Whoever gets into the mount may read everything in it; writing is refused above us.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        _: fuser::FileHandle,
        offset: u64,
        size: u32,
        _: fuser::OpenFlags,
        _: Option<fuser::LockOwner>,
        reply: fuser::ReplyData,
    ) {
        COUNTERS.requests.add(1);
        BUFFER.with_borrow_mut(|buffer| {
            let size = narrow(u64::from(size));
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let room = buffer.get_mut(..size).unwrap_or_default();
            let read = self.guarded(number, "reading", |file| {
                let len = match self.options.zeros {
                    false => self.read_into(file, room, offset)?,
                    true => self.read_with_zeros(file, room, offset)?,
                };
                room.get(..len).ok_or_else(|| {
                    Error::corrupt(At::new("fuse", "read")).because("more bytes than were asked for")
                })
            });
            match read {
                Ok(data) => {
                    COUNTERS.bytes_served.add(wide(data.len()));
                    reply.data(data);
                }
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn readdir(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        _: fuser::FileHandle,
        offset: u64,
        mut reply: fuser::ReplyDirectory,
    ) {
        let mut any = false;
        let listed = self.guarded(number, "listing", |dir| {
            self.list(number.0, dir, offset, Detail::Bare, &mut |line| {
                let full = reply.add(line.attr.ino, line.next, line.attr.kind, OsStr::from_bytes(line.name));
                any |= !full;
                // The kernel holds what readdirplus tells it of, but nothing of what readdir does.
                if !full && line.held {
                    self.inodes.forget(line.attr.ino.0, 1);
                }
                !full
            })
        });
        match listed {
            Err(errno) if !any => reply.error(errno),
            _ => reply.ok(),
        }
    }

    fn readdirplus(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        _: fuser::FileHandle,
        offset: u64,
        mut reply: fuser::ReplyDirectoryPlus,
    ) {
        let (mut any, mut told) = (false, 0_u32);
        let is_eager = self.eager.is_on();
        let listed = self.guarded(number, "listing", |dir| {
            // Behind a first page of nothing but the two dots the kernel goes on without attributes.
            let is_short = offset == 0
                && matches!(dir, File::Guest(..))
                && !is_eager
                && !(self.walks.is_on() && self.is_for_walks(dir).unwrap_or(false));
            self.list(number.0, dir, offset, Detail::Full, &mut |line| {
                let name = OsStr::from_bytes(line.name);
                let full = reply.add(line.attr.ino, line.next, name, &line.keep, &line.attr, Generation(0));
                any |= !full;
                told = told.saturating_add(u32::from(!full && line.held));
                !(full || is_short && line.next == DOTS)
            })
        });
        if is_eager { &self.eager } else { &self.walks }.told(told);
        match listed {
            // What came before the damage is worth showing; the next page starts at it and tells.
            Err(errno) if !any => reply.error(errno),
            _ => reply.ok(),
        }
    }

    fn statfs(&self, _: &fuser::Request, number: INodeNo, reply: fuser::ReplyStatfs) {
        let found = self.uncounted(number, "telling its size", |file| {
            let File::Guest(tree, node) = file else { return Ok(None) };
            let mount = self.tree(tree)?.mounts().get(node.fs);
            let facts = self.facts.get(tree).and_then(|facts| facts.get(node.fs));
            Ok(mount.zip(facts).map(|(mount, facts)| (facts, mount.fs.free())))
        });
        let found = match found {
            Ok(found) => found,
            Err(errno) => return reply.error(errno),
        };
        let unknown = FsFacts::default();
        let (facts, free) = found.unwrap_or((&unknown, None));
        let block = facts.block_size.max(512);
        let blocks = |bytes: u64| bytes.checked_div(u64::from(block)).unwrap_or(0);
        let (size, free) = (blocks(facts.size), blocks(free.unwrap_or(0)));
        reply.statfs(size, free, free, facts.inodes, facts.free_inodes, block, 255, block);
    }

    fn getxattr(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        name: &OsStr,
        size: u32,
        reply: fuser::ReplyXattr,
    ) {
        let found = self.guarded(number, "reading its attributes", |file| {
            if !self.options.xattrs.shows(name.as_bytes()) {
                return Ok(None);
            }
            match file {
                File::Guest(tree, node) => self.tree(tree)?.xattr(node, name.as_bytes()),
                File::Own(_) => Ok(None),
            }
        });
        match found {
            Ok(Some(value)) => Self::reply_sized(reply, &value, size),
            Ok(None) if Xattrs::is_a_name(name.as_bytes()) => reply.error(Errno::NO_XATTR),
            Ok(None) => reply.error(Errno::EOPNOTSUPP),
            Err(errno) => reply.error(errno),
        }
    }

    fn listxattr(&self, _: &fuser::Request, number: INodeNo, size: u32, reply: fuser::ReplyXattr) {
        let names = self.guarded(number, "reading its attributes", |file| {
            let mut names = Vec::new();
            for name in self.xattr_names(file)? {
                if !name.contains(&0) {
                    names.extend_from_slice(&name);
                    names.push(0);
                }
            }
            Ok(names)
        });
        match names {
            Ok(names) => Self::reply_sized(reply, &names, size),
            Err(errno) => reply.error(errno),
        }
    }

    fn lseek(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        _: fuser::FileHandle,
        offset: i64,
        whence: i32,
        reply: fuser::ReplyLseek,
    ) {
        // lseek(2): SEEK_DATA is 3, SEEK_HOLE 4; the kernel answers the others itself.
        let hole = match whence {
            3 => false,
            4 => true,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        match self.guarded(number, "looking for holes", |file| self.seek(file, offset, hole)) {
            Ok(Some(found)) => match i64::try_from(found) {
                Ok(found) => reply.offset(found),
                Err(_) => reply.error(Errno::EOVERFLOW),
            },
            Ok(None) => reply.error(Errno::ENXIO),
            Err(errno) => reply.error(errno),
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
    fn a_panic_is_eio_for_its_request_alone() {
        let door = door(Toy::new().with_bug("/bug").with_file("/good", b"good"));
        let (bug, good) = (find(&door, "/bug").unwrap().ino, find(&door, "/good").unwrap().ino);
        let before = COUNTERS.panics.get();
        let read = |number| door.guarded(number, "reading", |file| door.read_into(file, &mut [0; 16], 0));
        assert_eq!(read(bug), Err(Errno::EIO));
        assert_eq!(read(good), Ok(4));
        assert_eq!(COUNTERS.panics.get() - before, 1);
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
    fn a_hard_linked_symbolic_link_is_shown_right_at_both_places() {
        let door = door(Toy::new().with_link("/a/b/link", "/etc/x").with_hard_link("/link", "/a/b/link"));
        let (deep, top) = (find(&door, "/a/b/link").unwrap(), find(&door, "/link").unwrap());
        assert_ne!(deep.ino, top.ino);
        assert_eq!((deep.size, top.size), (11, 5), "../../etc/x and etc/x");
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
