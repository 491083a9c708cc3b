//! A guest's tree: its root file system with others mounted into it, and paths resolved inside, never on the host.

mod drives;
mod made;

use self::drives::{Drives, LINKS};
use self::made::{MADE, Made};
use super::{DirEntry, FileSystem, FileType, Ino, Stat, Xattr};
use crate::error::{At, Error, ErrorKind, Result};
use crate::text::escape;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Links followed in one path, as the Linux kernel does (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// Longest path in bytes: `PATH_MAX`.
const MAX_PATH: usize = 4096;
/// Memory for the names of one directory while a walk is in it: 4 million names of usual length.
const MAX_DIR_BYTES: usize = 512 << 20;
/// What an entry takes besides its name.
const ENTRY_BYTES: usize = 64;
/// Longest path a walk goes down; no tool can name a longer one in one piece, but trees can be deeper than `PATH_MAX`.
const MAX_WALK_PATH: usize = 64 << 10;
/// Directories held open by a walk at once.
const MAX_WALK_DEPTH: usize = 4096;

/// A file of a tree: which file system, which inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Index into [`Tree::mounts`]; beyond them all for what is on no file system: a directory that was made for a
    /// mount, a link to a drive.
    pub fs: usize,
    /// The file's number there.
    pub ino: Ino,
}

/// Mounts in one tree at most: each `rbind` may double their number.
const MAX_MOUNTS: usize = 1024;

/// One file system of a tree, or a part of one, at its place.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The volume's id: `p1`.
    pub volume: String,
    /// Where it is mounted, links followed; `/` for the root.
    pub path: Vec<u8>,
    /// The file system.
    pub fs: Arc<dyn FileSystem>,
    /// What of it stands at `path`: its root, or another file of it.
    pub root: Ino,
    /// Which part of the volume this is.
    pub part: Part,
}

/// Which part of a volume is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// What a mount without options shows.
    Whole,
    /// A subvolume, by its path from the top of the file system; empty for the top itself.
    Subvolume(Vec<u8>),
    /// A directory or file that also stands elsewhere, by its path there.
    Bind(Vec<u8>),
}

/// The assembled tree of a guest, or of one bare file system.
pub struct Tree {
    mounts: Vec<Mount>,
    /// A directory that is covered by another file system's root.
    covered: HashMap<Node, usize>,
    /// Mount points that are on no file system.
    made: Made,
    /// Names at the root that no listing shows.
    drives: Drives,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.mounts.iter().map(|mount| (&mount.volume, escape(&mount.path)))).finish()
    }
}

/// What to do with a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Go on to its target (`cat`, `stat -L`).
    Yes,
    /// The link itself is meant (`ls -l`, `readlink`).
    No,
}

/// One name in a directory of a tree.
#[derive(Clone, Copy, Debug)]
pub struct TreeEntry<'a> {
    /// The file; the root of the other file system if the name is a mount point.
    pub node: Node,
    /// Its type, if the directory says so.
    pub kind: Option<FileType>,
    /// Its name.
    pub name: &'a [u8],
    /// Where to go on after it.
    pub next: u64,
}

impl Tree {
    /// A tree of one file system.
    #[must_use]
    pub fn new(volume: impl Into<String>, fs: Arc<dyn FileSystem>) -> Self {
        let root = fs.root();
        Self::of(volume, fs, root, Part::Whole)
    }

    /// A tree of a part of a file system, from `root` down.
    #[must_use]
    pub fn of(volume: impl Into<String>, fs: Arc<dyn FileSystem>, root: Ino, part: Part) -> Self {
        let mount = Mount { volume: volume.into(), path: b"/".to_vec(), fs, root, part };
        Self {
            mounts: vec![mount],
            covered: HashMap::new(),
            made: Made::default(),
            drives: Drives::default(),
        }
    }

    /// Mounts a file system, or a subvolume of one, on a directory of the tree. Where there is none, one is made, with
    /// those above it, as systemd does.
    ///
    /// # Errors
    /// `NotFound` when something else is in the way; `Limit` when the tree is full of mounts.
    pub fn mount(
        &mut self,
        path: &[u8],
        volume: impl Into<String>,
        fs: Arc<dyn FileSystem>,
        part: Part,
    ) -> Result<()> {
        let root = fs.root();
        self.attach(path, Mount { volume: volume.into(), path: Vec::new(), fs, root, part })
    }

    /// Shows what stands at `from` also at `path`, as `mount --bind`; with `deep`, as `mount --rbind`, also what is
    /// mounted below it.
    ///
    /// # Errors
    /// `NotFound` when there is nothing at `from`, or a directory at one of them only; `Limit` when the tree is full of
    /// mounts.
    pub fn bind(&mut self, from: &[u8], path: &[u8], deep: bool) -> Result<()> {
        let steps = self.steps(from, Follow::Yes)?;
        let (place, source) = (joined(&steps), last(&steps, from)?);
        let origin = self.mounts.get(source.fs).cloned().ok_or_else(|| Error::not_found("file system"))?;
        let below: Vec<(Vec<u8>, Mount)> = self
            .mounts
            .iter()
            .filter_map(|mount| Some((below(&mount.path, &place)?.to_vec(), mount.clone())))
            .collect();
        self.attach(path, Mount { root: source.ino, part: Part::Bind(place), ..origin })?;
        for (inside, mount) in below.into_iter().filter(|_| deep) {
            self.attach(&[path, inside.as_slice()].concat(), mount)?;
        }
        Ok(())
    }

    /// Gives a file system a name at the root that no listing shows: `D:`. Its case does not matter.
    ///
    /// # Errors
    /// `Limit` when the tree is full of mounts.
    pub fn add_drive(
        &mut self,
        name: &str,
        volume: impl Into<String>,
        fs: Arc<dyn FileSystem>,
    ) -> Result<()> {
        if self.mounts.len() >= MAX_MOUNTS {
            return Err(Error::limit(format!("more than {MAX_MOUNTS} mounts in one tree")));
        }
        self.drives.add(name.as_bytes(), Some(self.mounts.len()), b"")?;
        let (root, path) = (fs.root(), format!("/{name}").into_bytes());
        self.mounts.push(Mount { volume: volume.into(), path, fs, root, part: Part::Whole });
        Ok(())
    }

    /// Gives a link a name at the root that no listing shows: `C:` that leads to `.`, the root itself.
    ///
    /// # Errors
    /// `Limit` when there are too many.
    pub fn add_drive_link(&mut self, name: &str, target: &str) -> Result<()> {
        self.drives.add(name.as_bytes(), None, target.as_bytes())
    }

    /// Is there a drive of this name, `D:`, in any case?
    #[must_use]
    pub fn has_drive(&self, name: &str) -> bool {
        self.drives.lookup(name.as_bytes()).is_some()
    }

    fn attach(&mut self, path: &[u8], mount: Mount) -> Result<()> {
        if self.mounts.len() >= MAX_MOUNTS {
            return Err(Error::limit(format!("more than {MAX_MOUNTS} mounts in one tree")));
        }
        let (mut steps, missing) = self.way(path, Follow::Yes)?;
        let is_dir = |kind| kind == FileType::Dir;
        let wants_dir = is_dir(mount.fs.stat(mount.root)?.kind);
        let node = last(&steps, path)?;
        // What has to be made is made in a directory, and is one.
        let fits = is_dir(self.stat(node)?.kind) == wants_dir && (missing.is_empty() || wants_dir);
        if !fits || missing.iter().any(|name| !is_a_name(name)) {
            return Err(Error::not_found(format!("mount point {}", escape(path))));
        }
        for name in missing {
            let node = self.made.make(last(&steps, path)?, &name)?;
            steps.push(Step { name, node });
        }
        let node = last(&steps, path)?;
        self.covered.insert(node, self.mounts.len());
        self.mounts.push(Mount { path: joined(&steps), ..mount });
        Ok(())
    }

    /// Every file system of the tree, the root first.
    #[must_use]
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Node {
        Node { fs: 0, ino: self.mounts.first().map_or(Ino(0), |mount| mount.root) }
    }

    /// The file system a node belongs to.
    ///
    /// # Errors
    /// `NotFound` for a node of another tree.
    pub fn fs(&self, node: Node) -> Result<&Arc<dyn FileSystem>> {
        if node.fs == MADE {
            return Ok(self.made.fs());
        }
        if node.fs == LINKS {
            return Ok(self.drives.fs());
        }
        self.mounts.get(node.fs).map(|mount| &mount.fs).ok_or_else(|| Error::not_found("file system"))
    }

    /// The volume a node lies on.
    #[must_use]
    pub fn volume(&self, node: Node) -> &str {
        self.mounts.get(node.fs).map_or("", |mount| &mount.volume)
    }

    /// Crosses into a file system that is mounted here.
    fn cross(&self, mut node: Node) -> Node {
        while let Some((fs, mount)) =
            self.covered.get(&node).and_then(|fs| Some((*fs, self.mounts.get(*fs)?)))
        {
            node = Node { fs, ino: mount.root };
        }
        node
    }

    /// The file called `name` in a directory.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        if !is_a_name(name) {
            return Ok(None);
        }
        // Before the file system is asked: to NTFS, `C:` would be the main stream of a file `C`.
        if !self.drives.is_empty()
            && dir == self.cross(self.root())
            && let Some(drive) = self.drives.lookup(name)
        {
            return Ok(Some(match drive {
                Ok(fs) => Node { fs, ino: self.mounts.get(fs).map_or(Ino(0), |mount| mount.root) },
                Err(link) => link,
            }));
        }
        let found = self.fs(dir)?.lookup(dir.ino, name).map_err(lost)?;
        let found = found.map(|ino| Node { fs: dir.fs, ino });
        Ok(found.or_else(|| self.made.lookup(dir, name)).map(|node| self.cross(node)))
    }

    /// What is known about a file.
    ///
    /// # Errors
    /// When its inode cannot be read.
    pub fn stat(&self, node: Node) -> Result<Stat> {
        self.fs(node)?.stat(node.ino).map_err(lost)
    }

    /// Streams a directory. Names that no path could contain (empty, `.`, `..`, with `/` or NUL) are left out.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn readdir(
        &self,
        dir: Node,
        from: u64,
        sink: &mut dyn FnMut(TreeEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let made = self.made.list(dir, from);
        let mut full = false;
        if made.is_none() || !Made::is_own(from) {
            let listed = self.fs(dir)?.readdir(dir.ino, from, &mut |entry: DirEntry<'_>| {
                if !is_a_name(entry.name) {
                    return ControlFlow::Continue(());
                }
                let node = self.cross(Node { fs: dir.fs, ino: entry.ino });
                let flow = sink(TreeEntry { node, kind: entry.kind, name: entry.name, next: entry.next });
                full = flow.is_break();
                flow
            });
            // What is no directory has no names in it.
            let is_dir = || self.stat(dir).is_ok_and(|stat| stat.kind == FileType::Dir);
            listed.map_err(|error| if is_dir() { lost(error) } else { error })?;
        }
        for (next, name, node) in made.into_iter().flatten() {
            let entry = TreeEntry { node: self.cross(node), kind: Some(FileType::Dir), name, next };
            if full || sink(entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Reads a regular file; see [`FileSystem::read_at`].
    ///
    /// # Errors
    /// When a byte cannot be read.
    pub fn read_at(&self, node: Node, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.fs(node)?.read_at(node.ino, buf, offset).map_err(lost)
    }

    /// The target of a symbolic link, as stored. Never empty, and without a NUL.
    ///
    /// # Errors
    /// When it is no link or cannot be read; `Corrupt` for a target that no path can be.
    pub fn readlink(&self, node: Node) -> Result<Vec<u8>> {
        let fs = self.fs(node)?;
        let target = fs.readlink(node.ino).map_err(lost)?;
        // A kernel reads a path up to its first NUL. Whoever looks at all of `..\0x` takes it for a name, and it leads out
        // of the guest.
        let why = match target.contains(&0) {
            true => "a symbolic link with a NUL in its target",
            false if target.is_empty() => "a symbolic link without a target",
            false => return Ok(target),
        };
        Err(Error::corrupt(At::new(fs.facts().kind, "inode").index(node.ino.0)).because(why))
    }

    /// The target of a symbolic link as a path of this tree: on a drive of Windows, `/x` is on that same drive, and what
    /// lies on a server, `//server/share`, is nowhere in it. That is given as Windows writes it, `\\server\share`: one
    /// name, which no file of Windows can have.
    ///
    /// # Errors
    /// As [`Tree::readlink`].
    pub fn target(&self, link: Node) -> Result<Vec<u8>> {
        let target = self.readlink(link)?;
        if target.starts_with(b"//") && self.fs(link)?.facts().kind == "ntfs" {
            return Ok(target.iter().map(|byte| if *byte == b'/' { b'\\' } else { *byte }).collect());
        }
        let first = components(&target).next().unwrap_or_default();
        let is_rooted = target.starts_with(b"/") && !Drives::is_drive(first);
        let drive = self.mounts.get(link.fs).map_or(&b"/"[..], |mount| &mount.path);
        let name = drive.strip_prefix(b"/").unwrap_or_default();
        if is_rooted && Drives::is_drive(name) {
            return Ok([drive, &target].concat());
        }
        Ok(target)
    }

    /// Every extended attribute.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn xattrs(&self, node: Node) -> Result<Vec<Xattr>> {
        self.fs(node)?.xattrs(node.ino).map_err(lost)
    }

    /// The names of every extended attribute.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn xattr_names(&self, node: Node) -> Result<Vec<Vec<u8>>> {
        self.fs(node)?.xattr_names(node.ino).map_err(lost)
    }

    /// One extended attribute, by its name.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn xattr(&self, node: Node, name: &[u8]) -> Result<Option<Vec<u8>>> {
        self.fs(node)?.xattr(node.ino, name).map_err(lost)
    }

    /// May nobody change it, not even root? `None` where its file system has no such mark.
    ///
    /// # Errors
    /// When the inode cannot be read.
    pub fn is_immutable(&self, node: Node) -> Result<Option<bool>> {
        self.fs(node)?.is_immutable(node.ino).map_err(lost)
    }

    /// A whole file of at most `cap` bytes, for parsing.
    ///
    /// # Errors
    /// `Limit` when it is longer; when it cannot be read.
    pub fn read_all(&self, node: Node, cap: u64) -> Result<Vec<u8>> {
        let size = self.stat(node)?.size;
        if size > cap {
            return Err(Error::limit(format!("{size} bytes, at most {cap} are read")));
        }
        let mut bytes = vec![0; crate::num::narrow(size)];
        let read = self.read_at(node, &mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The file at a path, resolved inside the guest: absolute links start at the tree's root, `..` stops there.
    ///
    /// # Errors
    /// `NotFound`, also for a dangling link; `Limit` for more than 40 links.
    pub fn resolve(&self, path: &[u8], follow: Follow) -> Result<Node> {
        last(&self.steps(path, follow)?, path)
    }

    /// Where a path leads, with its links followed: to a file, or to where one would be made. What stands in it behind
    /// the first name that is not there is kept as it is.
    ///
    /// # Errors
    /// `NotFound` when it leads through something else than a directory; `Limit` for more than 40 links.
    pub fn canonical(&self, path: &[u8]) -> Result<Vec<u8>> {
        let (steps, missing) = self.way(path, Follow::Yes)?;
        let mut place = joined(&steps);
        for name in missing {
            if !place.ends_with(b"/") {
                place.push(b'/');
            }
            place.extend(name);
        }
        Ok(place)
    }

    /// Every step from the tree's root down to the file at a path, links and `..` taken out.
    fn steps(&self, path: &[u8], follow: Follow) -> Result<Vec<Step>> {
        match self.way(path, follow)? {
            (steps, missing) if missing.is_empty() => Ok(steps),
            _ => Err(Error::not_found(escape(path))),
        }
    }

    /// The steps down a path as far as there is something, and the names behind them that lead on.
    fn way(&self, path: &[u8], follow: Follow) -> Result<(Vec<Step>, Vec<Vec<u8>>)> {
        if path.len() > MAX_PATH {
            return Err(Error::limit(format!(
                "a path of {} bytes, at most {MAX_PATH} are accepted",
                path.len()
            )));
        }
        let missing = || Error::not_found(escape(path));
        let mut todo: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let mut done = vec![Step { name: Vec::new(), node: self.cross(self.root()) }];
        // A slash at the end of the path, or of the link at its end, wants a directory (path_resolution(7)).
        let mut wants_dir = path.ends_with(b"/");
        let mut links = 0_u32;
        while let Some(name) = todo.pop() {
            let here = last(&done, path)?;
            if self.stat(here)?.kind != FileType::Dir {
                return Err(missing());
            }
            if name == b"." {
                continue;
            }
            if name == b".." {
                if done.len() > 1 {
                    done.pop();
                }
                continue;
            }
            let Some(node) = self.lookup(here, &name)? else {
                todo.push(name);
                todo.retain(|name| name != b".");
                todo.reverse();
                return Ok((done, todo));
            };
            let must_follow = follow == Follow::Yes || !todo.is_empty() || wants_dir;
            if must_follow && self.stat(node)?.kind == FileType::Symlink {
                links = links.saturating_add(1);
                if links > MAX_LINKS {
                    return Err(Error::limit(format!(
                        "{}: more than {MAX_LINKS} symbolic links",
                        escape(path)
                    )));
                }
                let target = self.target(node)?;
                if target.is_empty() || target.len() > MAX_PATH {
                    return Err(missing());
                }
                if target.starts_with(b"/") {
                    done.truncate(1);
                }
                wants_dir |= todo.is_empty() && target.ends_with(b"/");
                todo.extend(components(&target).rev().map(<[u8]>::to_vec));
                if todo.len() > MAX_PATH {
                    return Err(Error::limit(format!("{}: the links in it grow without end", escape(path))));
                }
                continue;
            }
            done.push(Step { name, node });
        }
        if wants_dir && self.stat(last(&done, path)?)?.kind != FileType::Dir {
            return Err(missing());
        }
        Ok((done, Vec::new()))
    }

    /// The file at a path, or `None` if there is none.
    ///
    /// # Errors
    /// Anything but `NotFound`.
    pub fn find(&self, path: &[u8]) -> Result<Option<Node>> {
        match self.resolve(path, Follow::Yes) {
            Ok(node) => Ok(Some(node)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Walks everything below `top`, parents before children, names in the directory's own order. A directory that is
    /// reached twice is entered once. A directory that cannot be read is reported and left; the walk goes on.
    ///
    /// # Errors
    /// What `visit` returns to end the walk.
    pub fn walk(
        &self,
        path: &[u8],
        top: Node,
        visit: &mut dyn FnMut(Visit<'_>) -> Result<Enter>,
    ) -> Result<()> {
        self.walk_by(path, top, &|node, _| self.stat(node), |stat| stat.kind, visit)
    }

    /// As [`Tree::walk`], where what a file is suffices: directories that tell it spare the look at each inode.
    ///
    /// # Errors
    /// As [`Tree::walk`].
    pub fn walk_kinds(
        &self,
        path: &[u8],
        top: Node,
        visit: &mut dyn FnMut(Visit<'_, FileType>) -> Result<Enter>,
    ) -> Result<()> {
        let look = |node, kind: Option<FileType>| kind.map_or_else(|| Ok(self.stat(node)?.kind), Ok);
        self.walk_by(path, top, &look, |kind| *kind, visit)
    }

    fn walk_by<T>(
        &self,
        path: &[u8],
        top: Node,
        look: &dyn Fn(Node, Option<FileType>) -> Result<T>,
        kind_of: fn(&T) -> FileType,
        visit: &mut dyn FnMut(Visit<'_, T>) -> Result<Enter>,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        let mut stack = vec![(path.to_vec(), top)];
        while let Some((path, dir)) = stack.pop() {
            if !seen.insert(dir) {
                continue;
            }
            let mut entries = Vec::new();
            let (mut held, mut full) = (0_usize, false);
            let mut push = |entry: TreeEntry<'_>| {
                held = held.saturating_add(entry.name.len()).saturating_add(ENTRY_BYTES);
                full = held > MAX_DIR_BYTES || path.len() > MAX_WALK_PATH;
                if full {
                    return ControlFlow::Break(());
                }
                entries.push((entry.name.to_vec(), entry.node, entry.kind));
                ControlFlow::Continue(())
            };
            let listed = self.readdir(dir, 0, &mut push);
            let too_much = || Error::limit("more names, or deeper, than memory should hold");
            let listed = if full { listed.and_then(|()| Err(too_much())) } else { listed };
            if let Err(error) = listed {
                visit(Visit { path: &path, node: dir, found: Err(error), is_dir_error: true })?;
            }
            let mut below = Vec::new();
            let mut waiting = HashSet::new();
            for (name, node, kind) in entries {
                let mut child = path.clone();
                if !child.ends_with(b"/") {
                    child.push(b'/');
                }
                child.extend_from_slice(&name);
                let found = look(node, kind);
                let kind = found.as_ref().map_or(kind, |found| Some(kind_of(found)));
                let (is_dir, readable) = (kind == Some(FileType::Dir), found.is_ok());
                let enter = visit(Visit { path: &child, node, found, is_dir_error: false })?;
                // One directory may stand in another under many names: once is enough.
                if is_dir && readable && enter == Enter::Yes && !seen.contains(&node) && waiting.insert(node)
                {
                    below.push((child, node));
                }
            }
            if stack.len().saturating_add(below.len()) > MAX_WALK_DEPTH.saturating_mul(1024) {
                return Err(Error::limit("more directories wait to be walked than memory should hold"));
            }
            stack.extend(below.into_iter().rev());
        }
        Ok(())
    }
}

/// Go into this directory?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enter {
    /// Yes; of no consequence for other files.
    Yes,
    /// Leave it out.
    No,
}

/// One file seen by [`Tree::walk`], or by [`Tree::walk_kinds`] with nothing but its type.
#[derive(Debug)]
pub struct Visit<'a, T = Stat> {
    /// Its path from the tree's root.
    pub path: &'a [u8],
    /// The file.
    pub node: Node,
    /// What is known about it, or why nothing is.
    pub found: Result<T>,
    /// `found` is an error about listing this directory, which was visited before.
    pub is_dir_error: bool,
}

/// One directory on the way down, or the file at its end.
#[derive(Debug)]
struct Step {
    /// Its name in the one before; of the root, none.
    name: Vec<u8>,
    node: Node,
}

fn last(steps: &[Step], path: &[u8]) -> Result<Node> {
    steps.last().map(|step| step.node).ok_or_else(|| Error::not_found(escape(path)))
}

/// The path that leads these steps down.
fn joined(steps: &[Step]) -> Vec<u8> {
    let names: Vec<&[u8]> = steps.iter().skip(1).map(|step| step.name.as_slice()).collect();
    [b"/", names.join(&b'/').as_slice()].concat()
}

/// What is left of a path inside a directory, from its slash on; `None` if it lies elsewhere.
fn below<'a>(path: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    let dir = dir.strip_suffix(b"/").unwrap_or(dir);
    path.strip_prefix(dir).filter(|rest| rest.starts_with(b"/") && rest.len() > 1)
}

/// Whoever has a node has found the file. That something is not there, says then the volume below, of a part of the disk.
fn lost(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound { error.with_kind(ErrorKind::Source) } else { error }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

fn is_a_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}
