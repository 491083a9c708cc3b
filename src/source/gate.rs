//! The gate: the one module that opens a second file because an image names it.
//!
//! Everything that may be opened is held as an open descriptor before parsing starts ([`Given`]): the image, the
//! directory beside it, and the directories of `--allow-parent`. Names out of an image are then resolved with
//! `openat2(RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS)` below those, and nowhere else.
//!
//! | the image names | without a flag | with `--allow-parent DIR` |
//! |---|---|---|
//! | a VMDK extent `STEM-flat.vmdk`, `STEM-s001.vmdk`, `STEM-f001.vmdk` beside it | opened | opened |
//! | a later segment of a split image: the same name but for the number behind the dot | opened | opened |
//! | an image `*.hds` that a Parallels bundle's `DiskDescriptor.xml` lists, beside it | opened | opened |
//! | a disk that an OVF lists, beside it, called like one and with a disk's first bytes; `STEM.mf` | opened | opened |
//! | the same of an image behind a URL without a query | opened, from the same server and directory | opened |
//! | anything else that lies beneath DIR, relative or absolute | refused | opened |
//! | its parent by a UUID alone (VDI) | refused | looked for in the image's directory, if beneath DIR, and in DIR |
//! | `../x`, a URL, `json:…`, a symbolic link, a FIFO, a device | refused | refused |

use super::SourceCx;
use super::file::{FileSource, open_path};
use super::http::Reaches;
use super::spool::SpoolDir;
use super::turns::{Turned, Turns};
use crate::block::BlockSource;
use crate::error::{Error, ErrorKind, Result};
use crate::locator::{Found, Gate, Locator, Reference, Spooler};
use crate::text::escape;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Files that one image may name altogether; qemu's VMDK limit is lower, real split disks have a few hundred.
const MAX_FILES: usize = 4096;
/// Files looked at for one that is known only by what it holds.
const MAX_SEARCHED: usize = 1024;
/// Files that stay open; any further ones take turns.
const KEPT_OPEN: usize = 64;
/// Layers behind each other.
const MAX_CHAIN: usize = 32;

/// A directory whose files an image may name.
#[derive(Debug)]
pub struct AllowedDir {
    /// As the user gave it, made absolute.
    pub path: PathBuf,
    /// Held open.
    pub dir: OwnedFd,
}

/// Everything that opening one image may touch, opened already.
#[derive(Debug)]
pub struct Given {
    /// What the user named.
    pub locator: Locator,
    /// The open image, if it is a file.
    pub file: Option<File>,
    /// The directory the image lies in, if it is a file: for a VMDK's own extents.
    pub beside: Option<AllowedDir>,
    /// `--allow-parent`.
    pub parents: Vec<AllowedDir>,
    /// The member of an archive that is wanted: `disk2.vmdk` of `x.ova//disk2.vmdk`.
    pub member: Option<String>,
    /// `--cache-dir`, if the image is remote: from [`crate::cache::disk::open_dir`].
    pub cache_dir: Option<Arc<AllowedDir>>,
    /// `--spool`: where what comes only in order is poured.
    pub spool_dir: Option<Arc<AllowedDir>>,
    /// It is a further file of an image, found by its name beside the first one.
    pub part: bool,
    /// How near the web servers are that it comes from, judged for all its files together.
    pub reaches: Reaches,
}

impl AllowedDir {
    /// Opens a directory.
    ///
    /// # Errors
    /// `Source` when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Source, escape(path.as_os_str().as_bytes()).to_string()).caused_by(error)
        };
        let absolute = path.canonicalize().map_err(failed)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir =
            rustix::fs::openat(CWD, &absolute, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        Ok(Self { path: absolute, dir })
    }
}

impl Given {
    /// Opens the image a user named, the directory beside it, and `allow_parent`.
    ///
    /// # Errors
    /// `Source` when one of them cannot be opened.
    pub fn open(locator: Locator, allow_parent: &[PathBuf]) -> Result<Self> {
        let parents = allow_parent.iter().map(|path| AllowedDir::open(path)).collect::<Result<_>>()?;
        let locator = bundle(locator)?;
        let (file, beside) = match locator.as_path() {
            Some(path) => {
                let file = open_path(path, &locator.to_string())?;
                let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
                (Some(file), AllowedDir::open(dir).ok())
            }
            None => (None, None),
        };
        Ok(Self {
            locator,
            file,
            beside,
            parents,
            member: None,
            cache_dir: None,
            spool_dir: None,
            part: false,
            reaches: Reaches::default(),
        })
    }

    /// A further file of the same image, remote as it is.
    fn part(&self, locator: Locator) -> Self {
        Self {
            locator,
            file: None,
            beside: None,
            parents: Vec::new(),
            member: None,
            cache_dir: self.cache_dir.clone(),
            spool_dir: self.spool_dir.clone(),
            part: true,
            reaches: self.reaches.clone(),
        }
    }

    /// Where to pour what comes only in order, if the user gave room for it: what the program that embeds us says, else
    /// the directory of `--spool`.
    ///
    /// # Errors
    /// `Host` when descriptors have run out.
    pub fn spool(&self, options: &super::Options) -> Result<Option<Arc<dyn Spooler>>> {
        if let Some(spool) = &options.spool {
            return Ok(Some(Arc::clone(spool)));
        }
        let Some(dir) = &self.spool_dir else { return Ok(None) };
        let own = dir
            .dir
            .try_clone()
            .map_err(|error| Error::new(ErrorKind::Host, "no descriptor left").caused_by(error))?;
        Ok(Some(Arc::new(SpoolDir::new(own, &dir.path, u64::MAX))))
    }

    /// What was given, for people: escaped and redacted, with the member.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.member {
            Some(member) => self.locator.member(member).to_string(),
            None => self.locator.to_string(),
        }
    }

    /// The directories that names of the image are looked for in.
    fn dirs(&self) -> impl Iterator<Item = &AllowedDir> {
        self.beside.iter().chain(&self.parents)
    }

    /// The open image once more.
    ///
    /// # Errors
    /// `Source` when there is none or descriptors have run out.
    pub fn open_file(&self) -> Result<File> {
        let file = self
            .file
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Source, format!("{}: is not open", self.locator)))?;
        file.try_clone()
            .map_err(|error| Error::new(ErrorKind::Source, self.locator.to_string()).caused_by(error))
    }
}

/// What describes the files of a Parallels bundle, which is a directory.
const BUNDLE: &str = "DiskDescriptor.xml";

/// A directory that is one image to its users is opened by the file in it that describes the others.
fn bundle(locator: Locator) -> Result<Locator> {
    let Some(dir) = locator.as_path().filter(|path| path.is_dir()) else { return Ok(locator) };
    let descriptor = dir.join(BUNDLE);
    if descriptor.is_file() {
        return Ok(Locator::Path(descriptor));
    }
    if dir.join("Info.plist").is_file() && dir.join("bands").is_dir() {
        let error = Error::unsupported("an Apple sparse bundle (.sparsebundle)").context(&locator);
        return Err(
            error.help("'hdiutil convert -format UDZO' on a Mac makes a dmg of it, which can be read")
        );
    }
    Ok(locator)
}

/// The gate of one image.
#[derive(Debug)]
pub struct FileGate {
    given: Arc<Given>,
    /// For files of a remote image.
    cx: SourceCx,
    seen: Mutex<Seen>,
    turns: Arc<Turns>,
}

#[derive(Debug, Default)]
struct Seen {
    files: usize,
    chain: HashSet<(u64, u64)>,
}

/// Is `name` a file of the image at `from` itself, of which it consists?
fn is_part(from: &Locator, name: &Path, why: Reference) -> bool {
    match why {
        Reference::Extent => is_own_extent(from, name),
        Reference::Segment => is_own_segment(from, name),
        Reference::Member => is_own_member(from, name),
        Reference::Backing | Reference::DataFile | Reference::Parent => false,
    }
}

impl FileGate {
    /// For what was given; remote files are opened with `cx`, as the image was.
    #[must_use]
    pub fn new(given: Arc<Given>, cx: SourceCx) -> Self {
        let mut seen = Seen::default();
        if let Some(stat) = given.file.as_ref().and_then(|file| rustix::fs::fstat(file).ok()) {
            seen.chain.insert((stat.st_dev, stat.st_ino));
        }
        Self { given, cx, seen: Mutex::new(seen), turns: Arc::default() }
    }

    /// Opens a file beneath an allowed directory, whatever it is.
    fn beneath(dir: &AllowedDir, path: &Path, extra: OFlags) -> rustix::io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | extra;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(dir.dir.as_fd(), path, flags, Mode::empty(), resolve).map(File::from)
    }

    /// The names in a directory beneath an allowed one that end in `ending`, sorted; one too many when there are too many.
    fn names(dir: &AllowedDir, path: &Path, ending: &str) -> rustix::io::Result<Vec<PathBuf>> {
        let listed = Dir::read_from(Self::beneath(dir, path, OFlags::DIRECTORY)?)?;
        let wanted = |name: &[u8]| {
            let start = name.len().saturating_sub(ending.len());
            name.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(ending.as_bytes()))
        };
        let names = listed.filter_map(|entry| entry.ok().map(|entry| entry.file_name().to_bytes().to_vec()));
        let names = names.filter(|name| wanted(name)).take(MAX_SEARCHED.saturating_add(1));
        let mut names: Vec<PathBuf> = names.map(|name| path.join(OsStr::from_bytes(&name))).collect();
        names.sort();
        Ok(names)
    }

    /// The directory of the image at `from`.
    fn dir_of(from: &Locator) -> Option<PathBuf> {
        let dir = from.as_path()?.parent()?;
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        dir.canonicalize().ok()
    }

    /// The name below each directory it may be looked for in.
    fn candidates<'a>(
        &'a self,
        from: &Locator,
        name: &Path,
        why: Reference,
    ) -> Vec<(&'a AllowedDir, PathBuf)> {
        let mut found = Vec::new();
        // Beside *it*: what a backing file names lies beside the backing file, not beside the image that was given.
        if *from == self.given.locator && is_part(from, name, why) {
            found.extend(self.given.beside.iter().map(|dir| (dir, name.to_owned())));
        }
        let from_dir = Self::dir_of(from);
        for dir in &self.given.parents {
            // An absolute name must lie beneath DIR; a relative one is meant relative to the image that names it.
            let absolute = if name.is_absolute() {
                Some(name.to_owned())
            } else {
                from_dir.as_ref().map(|base| base.join(name))
            };
            let beneath = absolute.as_deref().and_then(|path| path.strip_prefix(&dir.path).ok());
            match beneath {
                Some(beneath) => found.push((dir, beneath.to_owned())),
                None if name.is_relative() => found.push((dir, name.to_owned())),
                None => {}
            }
        }
        found
    }

    /// Opens a part of a remote image: on the same server, in the same directory.
    fn open_remote(&self, name: &str, label: &str, why: Reference) -> Result<Found> {
        let locator = self.given.locator.sibling(name).ok_or_else(|| {
            let what = format!("consists of several files, the {why} '{label}' for one, but the link is good for one only");
            Error::new(ErrorKind::ExternalRef, what)
                .help("a URL with a query is taken for a signed link: download all the files, or serve them without")
        })?;
        self.count()?;
        let given = self.given.part(locator.clone());
        let source = super::open_part(&given, &self.cx).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::new(ErrorKind::NotAnImage, format!("{why} '{label}' is missing ({error})"))
            }
            _ => error.context(format!("{why} '{label}'")),
        })?;
        Ok(Found { source, locator })
    }

    /// One more file; how many were before it.
    fn count(&self) -> Result<usize> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.files = seen.files.saturating_add(1);
        if seen.files > MAX_FILES {
            return Err(Error::limit(format!("the image names more than {MAX_FILES} files")));
        }
        Ok(seen.files.saturating_sub(1))
    }

    /// Lets a file through; how many were before it.
    fn admit(&self, file: &File, label: &str, why: Reference) -> Result<usize> {
        let refuse = |what: &str| Err(Error::new(ErrorKind::ExternalRef, format!("{why} '{label}' {what}")));
        let stat =
            rustix::fs::fstat(file).map_err(|errno| Error::new(ErrorKind::Source, label).caused_by(errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return refuse("is not a regular file");
        }
        let number = self.count()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(why, Reference::Extent | Reference::Segment | Reference::Member) {
            if !seen.chain.insert((stat.st_dev, stat.st_ino)) {
                return refuse("is a layer of the chain already");
            }
            if seen.chain.len() > MAX_CHAIN {
                return Err(Error::limit(format!("more than {MAX_CHAIN} layers lie behind each other")));
            }
        }
        Ok(number)
    }

    /// The open file as a source that holds its descriptor, or one that takes turns with others.
    fn source(&self, file: FileSource, number: usize, dir: &AllowedDir, path: &Path) -> Arc<dyn BlockSource> {
        let place = self.given.dirs().position(|known| std::ptr::eq(known, dir));
        let (Some(place), true) = (place, number >= KEPT_OPEN) else { return Arc::new(file) };
        let (given, path, label) = (Arc::clone(&self.given), path.to_owned(), file.label());
        let reopen = move || {
            let dir = given.dirs().nth(place).expect("the directories of what was given stay as they are");
            let file = Self::beneath(dir, &path, OFlags::empty())
                .map_err(|errno| Error::new(ErrorKind::Source, label.clone()).caused_by(errno))?;
            FileSource::new(file, label.clone())
        };
        Arc::new(Turned::new(&self.turns, number, &file, Box::new(reopen)))
    }
}

impl Gate for FileGate {
    fn open(&self, from: &Locator, named: &[u8], why: Reference) -> Result<Found> {
        let shown = escape(named).to_string();
        let name = Path::new(OsStr::from_bytes(named));
        let refused = |reason: &str| {
            let error = Error::new(ErrorKind::ExternalRef, format!("names the {why} '{shown}', {reason}"));
            error.help("an image may not open other files by itself; to let it: --allow-parent DIR, with the directory that holds them")
        };
        let plain = !named.is_empty()
            && !named.contains(&0)
            && !named.contains(&b':')
            && name
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir | Component::RootDir));
        if !plain {
            return Err(refused("which is never opened (only plain file names are)"));
        }
        let is_remote = self.given.file.is_none() && super::has_siblings(&self.given.locator);
        if is_remote
            && *from == self.given.locator
            && is_part(from, name, why)
            && let Some(name) = name.to_str()
        {
            return self.open_remote(name, &shown, why);
        }
        let candidates = self.candidates(from, name, why);
        if candidates.is_empty() {
            return Err(refused("which it may not open"));
        }
        let mut last = rustix::io::Errno::NOENT;
        for (dir, path) in &candidates {
            match Self::beneath(dir, path, OFlags::empty()) {
                Ok(file) => {
                    let number = self.admit(&file, &shown, why)?;
                    let locator = Locator::Path(dir.path.join(path));
                    let file = FileSource::new(file, locator.to_string())?;
                    return Ok(Found { source: self.source(file, number, dir, path), locator });
                }
                Err(errno) => last = errno,
            }
        }
        let looked: Vec<String> =
            candidates.iter().map(|(dir, _)| escape(dir.path.as_os_str().as_bytes()).to_string()).collect();
        Err(match last {
            rustix::io::Errno::LOOP | rustix::io::Errno::XDEV => {
                refused("which is or leads through a symbolic link or out of its directory")
            }
            rustix::io::Errno::NOENT => Error::new(
                ErrorKind::NotAnImage,
                format!("{why} '{shown}' is missing (looked in {})", looked.join(", ")),
            ),
            errno => {
                Error::new(ErrorKind::Source, format!("{why} '{shown}' cannot be opened")).caused_by(errno)
            }
        })
    }

    fn search(
        &self,
        from: &Locator,
        ending: &str,
        wanted: &str,
        is_it: &dyn Fn(&Arc<dyn BlockSource>) -> bool,
    ) -> Result<Found> {
        if self.given.parents.is_empty() {
            let error = Error::new(
                ErrorKind::ExternalRef,
                format!("needs its {wanted}, which may not be looked for"),
            );
            return Err(error.help(
                "an image may not open other files by itself; to let it be looked for: --allow-parent DIR, with the directory that holds it",
            ));
        }
        let own = Self::dir_of(from);
        let beside = self.given.parents.iter().filter_map(|dir| {
            let beneath = own.as_deref()?.strip_prefix(&dir.path).ok()?;
            Some((dir, Path::new(".").join(beneath)))
        });
        let top = self.given.parents.iter().map(|dir| (dir, PathBuf::from(".")));
        let (mut looked, mut files) = (Vec::new(), 0_usize);
        for (dir, path) in beside.chain(top) {
            let place = dir.path.join(&path);
            if looked.contains(&place) {
                continue;
            }
            let names = Self::names(dir, &path, ending).map_err(|errno| {
                let shown = escape(place.as_os_str().as_bytes()).to_string();
                Error::new(ErrorKind::Source, shown).caused_by(errno)
            })?;
            for name in names {
                files = files.saturating_add(1);
                if files > MAX_SEARCHED {
                    return Err(Error::limit(format!(
                        "looked for its {wanted} in {MAX_SEARCHED} files; a directory with fewer may be allowed instead"
                    )));
                }
                let Ok(file) = Self::beneath(dir, &name, OFlags::empty()) else { continue };
                let is_file = rustix::fs::fstat(&file)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
                if !is_file {
                    continue;
                }
                let locator = Locator::Path(dir.path.join(&name));
                let copy = file.try_clone().map_err(|error| Error::io(locator.to_string(), error))?;
                let source: Arc<dyn BlockSource> = Arc::new(FileSource::new(copy, locator.to_string())?);
                if is_it(&source) {
                    self.admit(&file, &escape(name.as_os_str().as_bytes()).to_string(), Reference::Parent)?;
                    return Ok(Found { source, locator });
                }
            }
            looked.push(place);
        }
        let looked: Vec<String> =
            looked.iter().map(|place| escape(place.as_os_str().as_bytes()).to_string()).collect();
        Err(Error::new(
            ErrorKind::NotAnImage,
            format!(
                "{wanted} is missing: it is none of the {files} files '*{ending}' in {}",
                looked.join(", ")
            ),
        ))
    }
}

/// Is `name` one of the files VMware writes beside the descriptor `STEM.vmdk`? Those carry its stem.
fn is_own_extent(from: &Locator, name: &Path) -> bool {
    let one = name.components().count() == 1 && name.is_relative();
    let stem = from.file_name();
    let stem = stem.strip_suffix(".vmdk").or_else(|| stem.strip_suffix(".VMDK")).unwrap_or(&stem).to_owned();
    let rest = name.to_str().and_then(|name| name.strip_prefix(stem.as_str())).and_then(|rest| {
        let dot = rest.len().checked_sub(".vmdk".len())?;
        rest.get(dot..).filter(|end| end.eq_ignore_ascii_case(".vmdk")).and_then(|_| rest.get(..dot))
    });
    let known = rest.is_some_and(|rest| {
        let numbered = |prefix: &str| {
            rest.strip_prefix(prefix).is_some_and(|n| n.len() >= 3 && n.bytes().all(|b| b.is_ascii_digit()))
        };
        matches!(rest, "-flat" | "-delta" | "-sesparse") || numbered("-s") || numbered("-f")
    });
    one && known && !stem.is_empty()
}

/// Is `name` a segment of the same set as the image: the same name but for what counts behind the last dot (`.001` and
/// `.002`, `.aa` and `.ab`, `.part9` and `.part10`, `.E99` and `.EAA`)?
fn is_own_segment(from: &Locator, name: &Path) -> bool {
    let first = from.file_name();
    let one = name.components().count() == 1 && name.is_relative();
    let ends = name.to_str().and_then(|name| name.rsplit_once('.')).zip(first.rsplit_once('.'));
    let Some(((stem, end), (own_stem, own_end))) = ends else { return false };
    one && !stem.is_empty() && stem == own_stem && counts_like(own_end, end)
}

/// Do two ends of names count the same things? Letters count with letters, digits with digits behind the same word, and
/// EWF's two digits go on with letters (`.E99`, `.EAA`; `.Ex99`, `.ExAA`).
fn counts_like(own: &str, end: &str) -> bool {
    let letters = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic());
    let word = |text: &str| text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let numbered = |text: &str| word(text) < text.len() && text.is_ascii();
    if numbered(own) && numbered(end) {
        return own.get(..word(own)) == end.get(..word(end));
    }
    let ewf = numbered(own)
        && own.len() == word(own).saturating_add(2)
        && letters(own.get(..word(own)).unwrap_or(""));
    letters(end) && (letters(own) || (ewf && own.len() == end.len()))
}

/// Is `name` a file that the description at `from` may have beside it? Of a Parallels bundle, its images; of an OVF, a disk
/// by its name, packed or cut into chunks as OVF allows, or the OVF's own manifest and certificate. Whether a disk is in
/// it, the driver sees by its first bytes.
fn is_own_member(from: &Locator, name: &Path) -> bool {
    const ENDS: &[&str] = &["vmdk", "vhd", "vhdx", "vdi", "qcow2", "qcow", "qed", "img", "raw", "hds"];
    let one = name.components().count() == 1 && name.is_relative();
    let file = from.file_name();
    if file == BUNDLE {
        return one && name.extension().is_some_and(|end| end == "hds");
    }
    let stem = file.rsplit_once('.').filter(|(_, end)| end.eq_ignore_ascii_case("ovf")).map(|(stem, _)| stem);
    let (Some(name), Some(stem)) = (name.to_str(), stem) else { return false };
    let chunk = name.rsplit_once('.').filter(|(_, n)| n.len() == 9 && n.bytes().all(|b| b.is_ascii_digit()));
    let whole = chunk.map_or(name, |(whole, _)| whole).to_ascii_lowercase();
    let plain = whole.strip_suffix(".gz").unwrap_or(&whole);
    let is_disk = plain.rsplit_once('.').is_some_and(|(stem, end)| !stem.is_empty() && ENDS.contains(&end));
    let beside = |end: &str| name.strip_prefix(stem) == Some(end);
    one && (is_disk || beside(".mf") || beside(".cert"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(dir: &Path, image: &str, allow: &[PathBuf]) -> FileGate {
        std::fs::write(dir.join(image), b"image").unwrap();
        let given = Given::open(Locator::Path(dir.join(image)), allow).unwrap();
        FileGate::new(Arc::new(given), SourceCx::default())
    }

    fn open(gate: &FileGate, named: &str, why: Reference) -> Result<Found> {
        gate.open(&gate.given.locator.clone(), named.as_bytes(), why)
    }

    #[test]
    fn a_backing_file_is_refused_by_default_and_named_escaped() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate(dir.path(), "o.qcow2", &[]);
        let error = open(&gate, "/etc/sha\x1bdow", Reference::Backing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ExternalRef);
        assert!(error.to_string().contains("/etc/sha\\x1bdow"), "{error}");
    }

    #[test]
    fn allow_parent_opens_what_lies_beneath_it_by_relative_and_absolute_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("base.raw"), b"base").unwrap();
        let allow = [dir.path().to_owned()];
        assert!(open(&gate(dir.path(), "o.qcow2", &allow), "base.raw", Reference::Backing).is_ok());
        let absolute = dir.path().canonicalize().unwrap().join("base.raw");
        assert!(
            open(&gate(dir.path(), "o.qcow2", &allow), absolute.to_str().unwrap(), Reference::Backing)
                .is_ok()
        );
    }

    #[test]
    fn allow_parent_does_not_open_what_lies_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let allow = [dir.path().to_owned()];
        for named in ["/etc/passwd", "../x", "json:{}", "nbd://h/x", ""] {
            let error = open(&gate(dir.path(), "o.qcow2", &allow), named, Reference::Backing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ExternalRef, "{named}");
        }
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("disk-flat.vmdk")).unwrap();
        let error =
            open(&gate(dir.path(), "disk.vmdk", &[]), "disk-flat.vmdk", Reference::Extent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ExternalRef);
    }

    #[test]
    fn a_vmdk_opens_its_own_extents_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("disk-s001.vmdk"), b"own").unwrap();
        std::fs::write(dir.path().join("other-flat.vmdk"), b"other").unwrap();
        let gate = gate(dir.path(), "disk.vmdk", &[]);
        assert!(open(&gate, "disk-s001.vmdk", Reference::Extent).is_ok());
        assert_eq!(
            open(&gate, "other-flat.vmdk", Reference::Extent).unwrap_err().kind(),
            ErrorKind::ExternalRef
        );
        assert_eq!(
            open(&gate, "disk-s002.vmdk", Reference::Extent).unwrap_err().kind(),
            ErrorKind::NotAnImage
        );
    }

    #[test]
    fn the_extents_of_a_backing_file_are_not_looked_for_beside_its_overlay() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(here.path().join("base-flat.vmdk"), b"somebody else's").unwrap();
        std::fs::write(there.path().join("base-flat.vmdk"), b"its own").unwrap();
        let gate = gate(here.path(), "o.qcow2", &[there.path().to_owned()]);
        let base = Locator::Path(there.path().canonicalize().unwrap().join("base.vmdk"));
        let found = gate.open(&base, b"base-flat.vmdk", Reference::Extent).unwrap();
        assert_eq!(found.source.len(), 7);
    }

    #[test]
    fn an_ovf_opens_disks_and_its_manifest_beside_it_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate(dir.path(), "vm.ovf", &[]);
        for own in
            ["d.vmdk", "d.VMDK", "d.vmdk.gz", "d.vmdk.000000001", "d.qcow2.gz.000000000", "vm.mf", "vm.cert"]
        {
            std::fs::write(dir.path().join(own), b"own").unwrap();
            assert!(open(&gate, own, Reference::Member).is_ok(), "{own}");
        }
        for other in
            ["id_rsa", "backup.sql.gz", "a.txt", "b.mf", ".vmdk", "x.000000000", "./d.vmdk", "d.vmdk.00001"]
        {
            std::fs::write(dir.path().join(other), b"other").unwrap();
            let error = open(&gate, other, Reference::Member).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ExternalRef, "{other}");
        }
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.vmdk")).unwrap();
        assert_eq!(open(&gate, "link.vmdk", Reference::Member).unwrap_err().kind(), ErrorKind::ExternalRef);
    }

    #[test]
    fn an_image_that_names_itself_is_a_cycle() {
        let dir = tempfile::tempdir().unwrap();
        let error =
            open(&gate(dir.path(), "o.qcow2", &[dir.path().to_owned()]), "o.qcow2", Reference::Backing)
                .unwrap_err();
        assert!(error.to_string().contains("already"), "{error}");
    }

    fn search(gate: &FileGate, content: &'static [u8]) -> Result<Found> {
        gate.search(&gate.given.locator.clone(), ".vdi", "parent X", &|source| {
            let mut bytes = vec![0; content.len()];
            source.read_at(&mut bytes, 0).is_ok() && bytes == content
        })
    }

    #[test]
    fn a_file_known_by_its_content_is_looked_for_in_allowed_directories_only() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("Snapshots");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(dir.path().join("base.VDI"), b"base").unwrap();
        std::fs::write(inner.join("mid.vdi"), b"mid").unwrap();
        std::fs::write(dir.path().join("other.txt"), b"text").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.vdi")).unwrap();
        rustix::fs::mknodat(CWD, dir.path().join("a.vdi"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(
            search(&gate(&inner, "top.vdi", &[]), b"base").unwrap_err().kind(),
            ErrorKind::ExternalRef
        );
        let allowed = gate(&inner, "top.vdi", &[dir.path().to_owned()]);
        assert_eq!(search(&allowed, b"base").unwrap().locator.file_name(), "base.VDI");
        assert_eq!(search(&allowed, b"mid").unwrap().locator.file_name(), "mid.vdi");
        assert!(search(&allowed, b"text").unwrap_err().to_string().contains("parent X is missing"));
        assert!(search(&allowed, b"mid").unwrap_err().to_string().contains("already"));
    }

    #[test]
    fn a_fifo_does_not_block_us() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(CWD, dir.path().join("disk-flat.vmdk"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let error =
            open(&gate(dir.path(), "disk.vmdk", &[]), "disk-flat.vmdk", Reference::Extent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ExternalRef);
    }
}
