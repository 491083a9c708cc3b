//! Every path of a file system reads as the Linux kernel shows it through a loop mount; samples of other projects read as
//! their expectations say; damaged ones end in an error. One file a kind of file system, in `tests/fs/`; what they share
//! is here.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]

#[path = "fs/btrfs.rs"]
mod btrfs;
mod common;
#[path = "fs/erofs.rs"]
mod erofs;
#[path = "fs/exfat.rs"]
mod exfat;
#[path = "fs/ext.rs"]
mod ext;
#[path = "fs/ext_journal.rs"]
mod ext_journal;
#[path = "fs/fat.rs"]
mod fat;
#[path = "fs/hostile.rs"]
mod hostile;
#[path = "fs/iso9660.rs"]
mod iso9660;
#[path = "fs/ntfs.rs"]
mod ntfs;
#[path = "fs/ntfs_hostile.rs"]
mod ntfs_hostile;
#[path = "fs/ntfs_logfile.rs"]
mod ntfs_logfile;
#[path = "fs/ntfs_meta.rs"]
mod ntfs_meta;
#[path = "fs/ntfs_packed.rs"]
mod ntfs_packed;
#[path = "fs/samples.rs"]
mod samples;
#[path = "fs/squashfs.rs"]
mod squashfs;
#[path = "fs/udf.rs"]
mod udf;
#[path = "fs/xfs.rs"]
mod xfs;

use common::process::cpu;
use imgmount::block::{BlockSource, Extent, Place, check_range};
use imgmount::budget::{Budget, Limits};
use imgmount::cache::Cache;
use imgmount::engine::Mapper;
use imgmount::error::{Error, ErrorKind, Result};
use imgmount::fs::{Content, FileSystem, FileType, FsCx, Ino, Journal, Stat, State};
use imgmount::keys::Keys;
use imgmount::source::file::FileSource;
use imgmount::source::memory::Memory;
use imgmount::volume::{VolCx, Volume, discover};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Fs = Arc<dyn FileSystem>;

fn open(volume: &Arc<dyn BlockSource>) -> Result<Fs> {
    match look(volume)? {
        Content::Files(fs) => Ok(fs),
        other => Err(Error::new(ErrorKind::NotAnImage, format!("{other:?}"))),
    }
}

/// What stands on a volume. Each has a cache of its own, as large as the memory that one may take.
fn look(volume: &Arc<dyn BlockSource>) -> Result<Content> {
    detect_all(std::slice::from_ref(volume), Journal::Replay).remove(0)
}

/// As `imgmount::fs::detect_all`, with a new cache.
fn detect_all(volumes: &[Arc<dyn BlockSource>], journal: Journal) -> Vec<Result<Content>> {
    let mapper = Mapper::new(Arc::new(Cache::new(64 << 20)));
    let budget = Budget::new(Limits::OPEN);
    imgmount::fs::detect_all(volumes, &|_| FsCx {
        budget: &budget,
        mapper: &mapper,
        journal,
        is_one_of_copies: false,
        shows_meta: true,
    })
}

/// The partitions and volumes of a disk.
fn volumes(disk: &Arc<dyn BlockSource>) -> Vec<Volume> {
    let mapper = Mapper::new(Arc::new(Cache::new(64 << 20)));
    let cx = VolCx { budget: &Budget::new(Limits::OPEN), mapper: &mapper, keys: &Keys::default() };
    discover(disk, &cx).volumes
}

fn file(path: &Path) -> Arc<dyn BlockSource> {
    Arc::new(FileSource::new(std::fs::File::open(path).unwrap(), "disk".to_owned()).unwrap())
}

/// What is compared of one path, one line.
type Listing = BTreeMap<Vec<u8>, String>;

/// Longer files are compared by their ends and by samples on the way.
const WHOLE: u64 = 64 << 20;

/// The stretches of a file of `size` bytes that are compared.
fn stretches(size: u64) -> Vec<(u64, u64)> {
    if size <= WHOLE {
        return vec![(0, size)];
    }
    let step = size / 64;
    let mut all: Vec<(u64, u64)> = (0..64).map(|n| (n * step, 100_000)).collect();
    all.extend([((2 << 30) - 5000, 100_000), (size - 100_000, 100_000)]);
    all.into_iter().filter(|(at, len)| at + len <= size).collect()
}

fn hash(size: u64, mut read: impl FnMut(&mut [u8], u64)) -> String {
    let mut sha = Sha256::new();
    let mut buf = vec![0; 1 << 20];
    for (start, len) in stretches(size) {
        let mut at = start;
        while at < start + len {
            let part = (start + len - at).min(1 << 20) as usize;
            read(&mut buf[..part], at);
            sha.update(&buf[..part]);
            at += part as u64;
        }
    }
    hex(&sha.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Everything below a directory of this host, as the kernel shows it.
fn kernel(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut todo = vec![(b"/".to_vec(), root.to_path_buf())];
    while let Some((path, host)) = todo.pop() {
        let meta = std::fs::symlink_metadata(&host).unwrap();
        let kind = meta.file_type();
        let mut names: Vec<String> = Vec::new();
        for name in list_xattrs(&host) {
            let mut value = vec![0; 1 << 16];
            let len = rustix::fs::lgetxattr(&host, name.as_slice(), &mut value[..]).unwrap();
            names.push(format!("{}={}", name.escape_ascii(), hex(&Sha256::digest(&value[..len]))));
        }
        names.sort();
        let (letter, content) = if kind.is_dir() {
            for entry in std::fs::read_dir(&host).unwrap() {
                let entry = entry.unwrap();
                todo.push((join(&path, entry.file_name().as_bytes()), entry.path()));
            }
            ('d', String::new())
        } else if kind.is_symlink() {
            let target = rustix::fs::readlink(&host, Vec::new()).unwrap();
            ('l', target.as_bytes().escape_ascii().to_string())
        } else if kind.is_file() {
            let file = std::fs::File::open(&host).unwrap();
            ('-', hash(meta.len(), |buf, at| file.read_exact_at(buf, at).unwrap()))
        } else if kind.is_char_device() {
            ('c', device(meta.rdev()))
        } else if kind.is_block_device() {
            ('b', device(meta.rdev()))
        } else if kind.is_fifo() {
            ('p', String::new())
        } else {
            ('s', String::new())
        };
        let line = format!(
            "{letter} {:o} {}:{} links {} size {} blocks {} m {}.{:09} a {} c {} ino {} {content} {names:?}",
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid(),
            meta.nlink(),
            meta.len(),
            meta.blocks(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.atime(),
            meta.ctime(),
            meta.ino(),
        );
        listing.insert(path, line);
    }
    listing
}

fn list_xattrs(host: &Path) -> Vec<Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let len = rustix::fs::llistxattr(host, &mut names[..]).unwrap();
    names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

fn device(rdev: u64) -> String {
    format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev))
}

/// Name, inode, type, and where to go on.
type Entry = (Vec<u8>, Ino, Option<FileType>, u64);

fn entries(fs: &Fs, dir: Ino) -> Result<Vec<Entry>> {
    let mut names = Vec::new();
    fs.readdir(dir, 0, &mut |entry| {
        names.push((entry.name.to_vec(), entry.ino, entry.kind, entry.next));
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

fn line(fs: &Fs, ino: Ino, stat: &Stat) -> String {
    let content = match stat.kind {
        FileType::Symlink => fs.readlink(ino).unwrap().escape_ascii().to_string(),
        FileType::File => hash(stat.size, |buf, at| {
            let len = buf.len();
            assert_eq!(fs.read_at(ino, buf, at).unwrap(), len);
        }),
        FileType::Char | FileType::Block => format!("{}:{}", stat.rdev.0, stat.rdev.1),
        _ => String::new(),
    };
    let attributes = fs.xattrs(ino).unwrap();
    let mut names: Vec<String> = attributes
        .iter()
        .map(|xattr| format!("{}={}", xattr.name.escape_ascii(), hex(&Sha256::digest(&xattr.value))))
        .collect();
    names.sort();
    format!(
        "{} {:o} {}:{} links {} size {} blocks {} m {}.{:09} a {} c {} ino {} {content} {names:?}",
        stat.kind.letter(),
        stat.mode,
        stat.uid,
        stat.gid,
        stat.nlink,
        stat.size,
        stat.blocks,
        stat.mtime.secs,
        stat.mtime.nanos,
        stat.atime.secs,
        stat.ctime.secs,
        stat.ino,
    )
}

/// Everything in a file system, as we show it. Each name is also looked up.
fn ours(fs: &Fs) -> Listing {
    let mut listing = Listing::new();
    let mut todo = vec![(b"/".to_vec(), fs.root())];
    while let Some((path, ino)) = todo.pop() {
        let stat = fs.stat(ino).unwrap();
        if stat.kind == FileType::Dir {
            for (name, child, kind, _) in entries(fs, ino).unwrap() {
                assert_eq!(fs.lookup(ino, &name).unwrap(), Some(child), "{}", name.escape_ascii());
                if let Some(kind) = kind {
                    assert_eq!(fs.stat(child).unwrap().kind, kind, "{}", name.escape_ascii());
                }
                todo.push((join(&path, &name), child));
            }
            assert_eq!(fs.lookup(ino, b"no such name").unwrap(), None);
        }
        listing.insert(path, line(fs, ino, &stat));
    }
    listing
}

#[track_caller]
fn same(ours: &Listing, kernel: &Listing, what: &str) {
    let mut wrong = Vec::new();
    for path in ours.keys().chain(kernel.keys()) {
        let (a, b) = (ours.get(path), kernel.get(path));
        if a != b && wrong.len() < 10 {
            wrong.push(format!("{}\n  ours   {a:?}\n  kernel {b:?}", path.escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "{what}: {} paths\n{}", kernel.len(), wrong.join("\n"));
}

/// A listing without what FAT and discs do not keep: type, size and content of every path.
fn bare(listing: &Listing) -> Listing {
    fields(listing, &[])
}

/// As [`bare`], with mode, owner and time of change.
fn posix(listing: &Listing) -> Listing {
    fields(listing, &["mode", "owner", "m"])
}

fn fields(listing: &Listing, wanted: &[&str]) -> Listing {
    let line = |line: &String| {
        let words: Vec<&str> = line.split(' ').collect();
        let after = |key: &str| words[words.iter().position(|word| *word == key).unwrap() + 1];
        let mut kept = vec![words[0]];
        kept.extend(if words[0] == "d" { None } else { Some(after("size")) });
        for key in wanted {
            kept.push(match *key {
                "mode" => words[1],
                "owner" => words[2],
                "m" => after("m").split('.').next().unwrap(),
                other => panic!("{other}"),
            });
        }
        kept.push(line.split_once(" ino ").unwrap().1.split_once(' ').unwrap().1);
        kept.join(" ")
    };
    listing.iter().map(|(path, text)| (path.clone(), line(text))).collect()
}

/// What `blkid` says, `KEY=value` on each line: its escapes undone (`\\ `, and `M-` and `^` as in `cat -v`).
fn unescape(value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = value.as_bytes();
    loop {
        let (byte, taken) = match rest {
            [] => return out,
            [b'\\', c, ..] => (*c, 2),
            [b'M', b'-', b'^', c, ..] => ((c ^ 0x40) | 0x80, 4),
            [b'M', b'-', b'\\', c, ..] => (c | 0x80, 4),
            [b'M', b'-', c, ..] => (c | 0x80, 3),
            [b'^', c, ..] => (c ^ 0x40, 2),
            [c, ..] => (*c, 1),
        };
        out.push(byte);
        rest = &rest[taken..];
    }
}

/// The facts are those that `blkid -p -o export` gave.
fn same_as_blkid(fs: &Fs, export: &str, what: &str) {
    let facts = fs.facts();
    let says = |key: &str| {
        let line = export.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(unescape).map(|value| String::from_utf8_lossy(&value).into_owned())
    };
    assert_eq!(Some(facts.kind.to_owned()), says("TYPE"), "{what}");
    assert_eq!(facts.uuid, says("UUID"), "{what}");
    let label = String::from_utf8_lossy(facts.label.as_bytes()).into_owned();
    assert_eq!(Some(label).filter(|label| !label.is_empty()), says("LABEL"), "{what}");
    if let Some(size) = says("BLOCK_SIZE") {
        assert_eq!(facts.block_size.to_string(), size, "{what}");
    }
}

/// Samples of others whose name begins so: each opens, and is what `blkid` said it is.
fn samples_are_what_blkid_said(prefix: &str) -> usize {
    let corpus = common::corpus().unwrap().join("fs");
    let list = common::sh(&format!("ls {}/{prefix}*.blkid", corpus.display()));
    for said in list.lines() {
        let sample = said.strip_suffix(".blkid").unwrap();
        let fs = open(&file(&samples::disk_of(Path::new(sample))))
            .unwrap_or_else(|error| panic!("{sample}: {error:?}"));
        same_as_blkid(&fs, &std::fs::read_to_string(said).unwrap(), sample);
        entries(&fs, fs.root()).unwrap_or_else(|error| panic!("{sample}: {error:?}"));
    }
    list.lines().count()
}

/// So many mutants of a small file system: bytes changed in `stretches` (start and length), each as often as the others.
fn mutate(image: Vec<u8>, stretches: &[(u64, u64)], rounds: usize, seed: u64) -> (usize, usize) {
    let clean = Arc::new(Memory::new(image, "disk"));
    let volume: Arc<dyn BlockSource> = Arc::<Memory>::clone(&clean);
    assert_eq!(exercise(&volume).1, 0, "on the clean one");
    let mut random = Random(seed);
    let (mut done, mut failed) = (0, 0);
    for _ in 0..rounds {
        let changes = (0..=random.below(8))
            .map(|_| {
                let (start, len) = stretches[random.below(stretches.len() as u64) as usize];
                let byte = [0, 0xff, 0x7f, 0x80, 1, random.below(256) as u8][random.below(6) as usize];
                (start + random.below(len), byte)
            })
            .collect();
        let mutant: Arc<dyn BlockSource> = Arc::new(Mutant { clean: Arc::clone(&clean), changes });
        let (worked, broke) = exercise(&mutant);
        done += worked;
        failed += broke;
    }
    (done, failed)
}

/// Rounds of [`mutate`]: so many, or what `MUTANTS` says.
fn mutants(rounds: usize) -> usize {
    std::env::var("MUTANTS").ok().and_then(|text| text.parse().ok()).unwrap_or(rounds)
}

/// A loop mount, undone when dropped. One at a time: loop devices are few.
struct Mounted {
    at: PathBuf,
    /// The disk, if it is written to: others may have it mounted too, if not.
    written: Option<PathBuf>,
    _turn: std::sync::MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Mounted {
    fn new(disk: &Path, options: &str) -> Self {
        Self::on(disk, disk.with_extension("mnt"), options)
    }

    fn on(disk: &Path, at: PathBuf, options: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::fs::create_dir_all(&at).unwrap();
        common::sh(&format!("mount -o loop,{options} {} {}", disk.display(), at.display()));
        let is_read = options.split(',').any(|option| option == "ro");
        Self { at, written: (!is_read).then(|| disk.to_owned()), _turn: turn }
    }
}

/// Shell text: waits until no loop device holds the file `disk`. A mount name space that something else makes meanwhile has
/// a copy of every mount, and a file system that is unmounted here lives on there, with its log unwritten, until that ends.
fn let_go(disk: &Path) -> String {
    let disk = disk.display();
    format!(
        "for n in $(seq 600); do [ -n \"$(losetup -j {disk})\" ] || break; sleep 0.05; done; [ -z \"$(losetup -j {disk})\" ]"
    )
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let (at, gone) = (self.at.display(), self.written.as_deref().map_or("true".to_owned(), let_go));
        common::sh(&format!("for n in 1 2 3 4 5; do umount {at} && break; sleep 0.3; done; {gone}"));
    }
}

/// A file system made by `mke2fs` with these arguments and filled by `tests/make/tree.py`.
/// A file system on a disk of its own.
struct Made {
    disk: PathBuf,
    _dir: tempfile::TempDir,
}

/// A file system made by the shell command `mkfs`, which finds the disk in `$DISK`, and filled by `tests/make/tree.py`.
fn fill(mkfs: &str, size: &str, tree: &str) -> Made {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("DISK={0}; truncate -s {size} $DISK; {mkfs}", disk.display()));
    let script = common::root().join("tests/make/tree.py");
    let mounted = Mounted::new(&disk, "rw");
    let at = mounted.at.display();
    common::sh(&format!("python3 {} {at} $(stat -f -c %s {at}) {tree}", script.display()));
    drop(mounted);
    Made { disk, _dir: dir }
}

/// `run_at` names the bytes that `read_at` gives, for each run of each file.
fn runs_lead_to_the_bytes(made: &Made, fs: &Fs) {
    let raw = std::fs::File::open(&made.disk).unwrap();
    let mut todo = vec![fs.root()];
    let (mut runs, mut holes) = (0, 0);
    while let Some(ino) = todo.pop() {
        let stat = fs.stat(ino).unwrap();
        if stat.kind == FileType::Dir {
            todo.extend(entries(fs, ino).unwrap().into_iter().map(|(_, ino, ..)| ino));
        }
        if stat.kind != FileType::File {
            continue;
        }
        let mut at = 0;
        while at < stat.size {
            let run = fs.run_at(ino, at).unwrap();
            let len = run.len.min(100_000) as usize;
            let (mut there, mut here) = (vec![0; len], vec![1; len]);
            fs.read_at(ino, &mut here, at).unwrap();
            match run.place {
                Place::Stored { file: 0, offset } => raw.read_exact_at(&mut there, offset).unwrap(),
                Place::Zero | Place::Hole => holes += 1,
                other => panic!("{other:?}"),
            }
            assert!(here == there, "inode {ino} at {at}");
            runs += 1;
            at += run.len;
        }
        assert_eq!(fs.run_at(ino, stat.size).unwrap_err().kind(), ErrorKind::OutOfRange);
    }
    assert!(runs > 3000 && holes > 1500, "{runs} runs, {holes} of them holes");
}

fn listing_goes_on_from_every_place(fs: &Fs) {
    for dir in ["d3", "d300", "d6000"] {
        let dir = fs.lookup(fs.root(), dir.as_bytes()).unwrap().unwrap();
        let all = entries(fs, dir).unwrap();
        for (n, (.., next)) in all.iter().enumerate().step_by(all.len() / 50 + 1) {
            let mut rest = Vec::new();
            let mut take = |entry: imgmount::fs::DirEntry<'_>| {
                rest.push(entry.name.to_vec());
                if rest.len() == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            fs.readdir(dir, *next, &mut take).unwrap();
            let expected: Vec<Vec<u8>> =
                all.iter().skip(n + 1).take(10).map(|(name, ..)| name.clone()).collect();
            assert_eq!(rest, expected);
        }
    }
}

fn reads_at_odd_places_agree(made: &Made, fs: &Fs) {
    let mounted = Mounted::new(&made.disk, "ro");
    let mut random = Random(7);
    for name in ["islands", "interleaved-1", "sparse", "preallocated", "over-4-gib"] {
        let theirs = std::fs::File::open(mounted.at.join(name)).unwrap();
        let size = theirs.metadata().unwrap().len();
        let ino = fs.lookup(fs.root(), name.as_bytes()).unwrap().unwrap();
        for _ in 0..300 {
            let at = random.below(size + 10_000);
            let mut expected = vec![0; random.below(100_000) as usize];
            let len = theirs.read_at(&mut expected, at).unwrap();
            let mut got = vec![0xaa; expected.len()];
            let read = fs.read_at(ino, &mut got, at).unwrap();
            let whole = expected.len().min(size.saturating_sub(at) as usize);
            assert_eq!(read, whole, "{name} at {at}");
            assert!(got[..len] == expected[..len], "{name} at {at}");
        }
    }
}

/// Counts what a file system asks of its volume.
#[derive(Debug)]
struct Counting {
    volume: Arc<dyn BlockSource>,
    reads: AtomicU64,
}

impl BlockSource for Counting {
    fn len(&self) -> u64 {
        self.volume.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.volume.read_at(buf, offset)
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}

/// A small image with changes laid over it.
#[derive(Debug)]
struct Mutant {
    clean: Arc<Memory>,
    changes: Vec<(u64, u8)>,
}

impl BlockSource for Mutant {
    fn len(&self) -> u64 {
        self.clean.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        self.clean.read_at(buf, offset)?;
        for (at, byte) in &self.changes {
            if let Some(place) = at.checked_sub(offset).and_then(|at| buf.get_mut(at as usize)) {
                *place = *byte;
            }
        }
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        self.clean.extent(offset)
    }
}

/// Walks everything, with the processor time of every operation bounded.
fn exercise(volume: &Arc<dyn BlockSource>) -> (usize, usize) {
    let (mut done, mut failed) = (0, 0);
    let mut timed = |what: &str, work: &mut dyn FnMut() -> bool| {
        let start = cpu();
        if work() {
            done += 1;
        } else {
            failed += 1;
        }
        let took = cpu().saturating_sub(start);
        assert!(took < Duration::from_secs(1), "{what} took {took:?}");
    };
    let mut opened = None;
    timed("open", &mut || {
        opened = open(volume).ok();
        opened.is_some()
    });
    let Some(fs) = opened else { return (done, failed) };
    let mut seen = std::collections::HashSet::new();
    let mut todo = vec![fs.root()];
    let mut buf = vec![0; 1 << 20];
    while let Some(ino) = todo.pop() {
        if !seen.insert(ino) || seen.len() > 2000 {
            continue;
        }
        let (mut kind, mut size) = (None, 0);
        timed("stat", &mut || {
            let stat = fs.stat(ino).ok();
            (kind, size) = (stat.map(|stat| stat.kind), stat.map_or(0, |stat| stat.size));
            kind.is_some()
        });
        timed("xattrs", &mut || fs.xattrs(ino).is_ok());
        match kind {
            Some(FileType::Dir) => {
                let mut names = Vec::new();
                timed("readdir", &mut || {
                    let mut take = |entry: imgmount::fs::DirEntry<'_>| {
                        names.push((entry.name.to_vec(), entry.ino));
                        ControlFlow::Continue(())
                    };
                    fs.readdir(ino, 0, &mut take).is_ok()
                });
                for (name, child) in names.iter().take(100) {
                    timed("lookup", &mut || fs.lookup(ino, name).is_ok());
                    todo.push(*child);
                }
            }
            Some(FileType::File) => {
                timed("read", &mut || fs.read_at(ino, &mut buf, 0).is_ok());
                timed("read far", &mut || fs.read_at(ino, &mut buf, u64::MAX / 3).is_ok());
                timed("run", &mut || size == 0 || fs.run_at(ino, 0).is_ok());
            }
            Some(FileType::Symlink) => timed("readlink", &mut || fs.readlink(ino).is_ok()),
            _ => {}
        }
    }
    (done, failed)
}
