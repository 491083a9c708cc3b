//! Every path of an ext2, ext3 or ext4 file system reads as the Linux kernel shows it through a loop mount; samples of
//! other projects read as their expectations say; damaged ones end in an error.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]

mod common;

use imgmount::block::{BlockSource, Extent, Place, check_range};
use imgmount::budget::{Budget, Limits};
use imgmount::error::{Error, ErrorKind, Result};
use imgmount::fs::{Content, FileSystem, FileType, FsCx, Ino, Stat, State, detect};
use imgmount::source::file::FileSource;
use imgmount::source::memory::Memory;
use imgmount::volume::{VolCx, discover};
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
    match detect(volume, &FsCx { budget: &Budget::new(Limits::OPEN) })? {
        Content::Files(mut trees) => Ok(trees.remove(0)),
        other => Err(Error::new(ErrorKind::NotAnImage, format!("{other:?}"))),
    }
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
        "{} {:o} {}:{} links {} size {} blocks {} m {}.{:09} a {} c {} ino {ino} {content} {names:?}",
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

/// A loop mount, undone when dropped. One at a time: loop devices are few.
struct Mounted {
    at: PathBuf,
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
        Self { at, _turn: turn }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let at = self.at.display();
        common::sh(&format!("for n in 1 2 3 4 5; do umount {at} && exit; sleep 0.3; done; exit 1"));
    }
}

/// A file system made by `mke2fs` with these arguments and filled by `tests/make/tree.py`.
struct Made {
    disk: PathBuf,
    _dir: tempfile::TempDir,
}

fn make(mke2fs: &str, size: &str, tree: &str) -> Made {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!(
        "truncate -s {size} {0}; mke2fs -q -F -L 'a label' -E lazy_itable_init=0 {mke2fs} {0}",
        disk.display()
    ));
    let script = common::root().join("tests/make/tree.py");
    let block =
        common::sh(&format!("dumpe2fs -h {} 2>/dev/null | awk '/^Block size/ {{print $3}}'", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    common::sh(&format!("python3 {} {} {} {tree}", script.display(), mounted.at.display(), block.trim()));
    drop(mounted);
    Made { disk, _dir: dir }
}

/// Makes one, and compares every path, and what it says of itself with `dumpe2fs` and `blkid`.
#[track_caller]
fn same_as_kernel(mke2fs: &str, tree: &str) -> (Made, Fs) {
    let made = make(mke2fs, "400M", tree);
    let fs = open(&file(&made.disk)).unwrap();
    let expected = kernel(&Mounted::new(&made.disk, "ro").at);
    assert!(expected.len() > 6500, "the tree was not made");
    same(&ours(&fs), &expected, mke2fs);

    let facts = fs.facts();
    let dump = common::sh(&format!("dumpe2fs -h {} 2>/dev/null", made.disk.display()));
    let says = |key: &str| {
        let line =
            dump.lines().find(|line| line.starts_with(&format!("{key}:"))).unwrap_or_else(|| panic!("{key}"));
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    let number = |key: &str| says(key).parse::<u64>().unwrap();
    assert_eq!(facts.features.join(" "), says("Filesystem features"));
    assert_eq!(facts.uuid.unwrap(), says("Filesystem UUID"));
    assert_eq!(facts.label.as_utf8().unwrap(), "a label");
    assert_eq!(facts.last_mounted.as_utf8().unwrap(), says("Last mounted on"));
    assert_eq!((facts.inodes, facts.free_inodes), (number("Inode count"), number("Free inodes")));
    assert_eq!(facts.size, number("Block count") * number("Block size"));
    assert_eq!(facts.free, number("Free blocks") * number("Block size"));
    assert_eq!((facts.state, facts.warnings.as_slice()), (State::Clean, [].as_slice()));
    let kind = common::sh(&format!("blkid -p -o value -s TYPE {}", made.disk.display()));
    assert_eq!(facts.kind, kind.trim());
    (made, fs)
}

macro_rules! variants {
    ($($name:ident: $mke2fs:expr, $tree:expr;)*) => {$(
        #[test]
        fn $name() {
            requires!("root", "loop", "mke2fs", "python3", "blkid");
            same_as_kernel($mke2fs, $tree);
        }
    )*};
}

variants! {
    ext2_with_1k_blocks: "-t ext2 -b 1024", "";
    ext3_with_a_file_over_4_gib: "-t ext3 -b 4096", "large";
    ext4_without_checksums: "-t ext4 -O ^metadata_csum,^64bit,uninit_bg", "";
    ext4_with_128_byte_inodes: "-t ext4 -I 128", "";
    ext4_with_1k_blocks_and_meta_bg: "-t ext4 -b 1024 -O meta_bg,^resize_inode", "";
    ext4_with_clusters: "-t ext4 -O bigalloc -C 16384", "";
    ext4_with_inline_data: "-t ext4 -O inline_data", "";
    ext4_with_inline_data_in_512_byte_inodes: "-t ext4 -b 1024 -I 512 -O inline_data,ea_inode,meta_bg,^resize_inode", "ea_inode";
    ext4_with_attributes_in_inodes: "-t ext4 -O ea_inode", "ea_inode";
    ext4_with_everything_new: "-t ext4 -O metadata_csum_seed,orphan_file,fast_commit,large_dir,sparse_super2,^resize_inode,mmp", "";
    ext4_with_2k_blocks_and_tea_hashes: "-t ext4 -b 2048 -E hash_seed=11111111-2222-3333-4444-555555555555", "";
    ext4_without_file_types: "-t ext4 -O ^filetype", "";
    ext4_without_a_directory_index: "-t ext4 -O ^dir_index", "";
}

#[test]
fn ext4_by_default_with_a_file_over_4_gib() {
    requires!("root", "loop", "mke2fs", "python3", "blkid");
    let (made, fs) = same_as_kernel("-t ext4", "large");
    runs_lead_to_the_bytes(&made, &fs);
    listing_goes_on_from_every_place(&fs);
    reads_at_odd_places_agree(&made, &fs);
    an_index_saves_reads(&made);
}

#[test]
fn a_real_guest_reads_as_the_kernel_shows_it() {
    requires!("guest", "root", "loop");
    let disk = common::guest().unwrap().join("disk.raw");
    let source = file(&disk);
    let found = discover(&source, &VolCx { budget: &Budget::new(Limits::OPEN) });
    let root = found.volumes.iter().find(|volume| volume.id == "p1").unwrap();
    let start = root.partition.as_ref().unwrap().start;
    let fs = open(&root.source).unwrap();
    assert_eq!(fs.facts().state, State::Clean);
    let dir = common::tempdir();
    let mounted = Mounted::on(&disk, dir.path().join("mnt"), &format!("ro,noload,offset={start}"));
    let expected = kernel(&mounted.at);
    assert!(expected.len() > 10_000, "{}", expected.len());
    same(&ours(&fs), &expected, "the guest");
    println!("{} paths of the guest are equal", expected.len());
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

fn an_index_saves_reads(made: &Made) {
    let counting = Arc::new(Counting { volume: file(&made.disk), reads: AtomicU64::new(0) });
    let volume: Arc<dyn BlockSource> = Arc::<Counting>::clone(&counting);
    let fs = open(&volume).unwrap();
    let dir = fs.lookup(fs.root(), b"d6000").unwrap().unwrap();
    let name = format!("{}{:06}", "long-name-".repeat(15), 4321);
    counting.reads.store(0, Ordering::Relaxed);
    let found = fs.lookup(dir, name.as_bytes()).unwrap();
    let by_index = counting.reads.load(Ordering::Relaxed);
    assert!(found.is_some() && by_index <= 5, "{by_index} reads to look one name up");
    let all = entries(&open(&volume).unwrap(), dir).unwrap().len();
    let whole = counting.reads.load(Ordering::Relaxed) - by_index;
    assert!(all == 6000 && whole > 15, "{whole} reads to list all");

    let ino = fs.lookup(fs.root(), b"interleaved-1").unwrap().unwrap();
    let mut runs = 0;
    let mut at = 0;
    while let Ok(run) = fs.run_at(ino, at) {
        runs += 1;
        at += run.len;
    }
    counting.reads.store(0, Ordering::Relaxed);
    let mut buf = vec![0; at as usize];
    fs.read_at(ino, &mut buf, 0).unwrap();
    let reads = counting.reads.load(Ordering::Relaxed);
    assert!(reads <= runs + 3, "{reads} reads for {runs} runs");
}

#[test]
fn directories_hashed_the_old_ways_are_looked_up() {
    requires!("root", "loop", "mke2fs", "tune2fs", "python3");
    for hash in ["legacy", "tea"] {
        let dir = common::tempdir();
        let disk = dir.path().join("disk");
        common::sh(&format!(
            "truncate -s 64M {0}; mke2fs -q -F -t ext4 {0}; tune2fs -E hash_alg={hash} {0} >/dev/null",
            disk.display()
        ));
        let mounted = Mounted::new(&disk, "rw");
        common::sh(&format!("cd {}; for n in $(seq 3000); do : > name-é-$n; done", mounted.at.display()));
        drop(mounted);
        let counting = Arc::new(Counting { volume: file(&disk), reads: AtomicU64::new(0) });
        let volume: Arc<dyn BlockSource> = Arc::<Counting>::clone(&counting);
        let fs = open(&volume).unwrap();
        let dump = common::sh(&format!(
            "debugfs -R 'htree /' {} 2>/dev/null | grep -m1 'Hash Version'",
            disk.display()
        ));
        assert!(dump.contains(if hash == "legacy" { "0" } else { "2" }), "{dump}");
        for n in 1..=3000 {
            assert!(fs.lookup(fs.root(), format!("name-é-{n}").as_bytes()).unwrap().is_some(), "{hash} {n}");
        }
    }
}

#[test]
fn a_file_system_in_use_is_said_to_be_dirty() {
    requires!("root", "loop", "mke2fs");
    let dir = common::tempdir();
    for (kind, words) in [("ext4", "journal was not replayed"), ("ext2", "was not unmounted")] {
        let (disk, copy) = (dir.path().join("disk"), dir.path().join("copy"));
        common::sh(&format!("rm -f {0}; truncate -s 64M {0}; mke2fs -q -F -t {kind} {0}", disk.display()));
        let mounted = Mounted::new(&disk, "rw");
        common::sh(&format!(
            "echo x > {}/file; sync; cp --sparse=always {} {}",
            mounted.at.display(),
            disk.display(),
            copy.display()
        ));
        drop(mounted);
        let facts = open(&file(&copy)).unwrap().facts();
        assert_eq!((facts.kind, facts.state), (kind, State::Dirty));
        assert!(facts.warnings[0].contains(words), "{:?}", facts.warnings);
    }
}

#[test]
fn errors_that_the_kernel_recorded_are_said() {
    requires!("mke2fs", "debugfs");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!(
        "truncate -s 16M {0}; mke2fs -q -F -t ext4 {0}; debugfs -w -R 'ssv state 2' {0} 2>/dev/null",
        disk.display()
    ));
    let facts = open(&file(&disk)).unwrap().facts();
    assert_eq!(facts.state, State::Errors);
    assert!(facts.warnings[0].contains("recorded errors"), "{:?}", facts.warnings);
}

#[test]
fn a_truncated_volume_reads_as_far_as_it_goes() {
    requires!("root", "loop", "mke2fs");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 64M {0}; mke2fs -q -F -t ext4 {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    common::sh(&format!("cd {}; echo early > early; head -c 40M /dev/urandom > late", mounted.at.display()));
    drop(mounted);
    common::sh(&format!("truncate -s 30M {}", disk.display()));
    let fs = open(&file(&disk)).unwrap();
    assert!(fs.facts().warnings[0].contains("its end is missing"), "{:?}", fs.facts().warnings);
    let mut buf = vec![0; 64 << 20];
    let early = fs.lookup(fs.root(), b"early").unwrap().unwrap();
    assert_eq!(fs.read_at(early, &mut buf, 0).unwrap(), 6);
    let late = fs.lookup(fs.root(), b"late").unwrap().unwrap();
    assert_eq!(fs.read_at(late, &mut buf, 0).unwrap_err().kind(), ErrorKind::OutOfRange);
}

#[test]
fn what_is_no_regular_file_is_not_read() {
    requires!("mke2fs");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 16M {0}; mke2fs -q -F -t ext4 {0}", disk.display()));
    let fs = open(&file(&disk)).unwrap();
    assert_eq!(fs.read_at(fs.root(), &mut [0], 0).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(fs.readlink(fs.root()).unwrap_err().kind(), ErrorKind::Denied);
    // The journal's inode is 8: the kernel shows it to nobody.
    assert_eq!(fs.stat(Ino(8)).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(fs.stat(Ino(0)).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(fs.stat(Ino(u64::MAX)).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn features_that_are_not_read_are_refused_by_name() {
    requires!("mke2fs", "debugfs");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 16M {0}; mke2fs -q -F -O journal_dev {0}", disk.display()));
    let error = open(&file(&disk)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("journal_dev"), "{error}");
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

/// Walks everything, with every operation timed.
fn exercise(volume: &Arc<dyn BlockSource>) -> (usize, usize) {
    let (mut done, mut failed) = (0, 0);
    let mut timed = |what: &str, work: &mut dyn FnMut() -> bool| {
        let start = Instant::now();
        if work() {
            done += 1;
        } else {
            failed += 1;
        }
        let took = start.elapsed();
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
        let mut kind = None;
        timed("stat", &mut || {
            kind = fs.stat(ino).ok().map(|stat| stat.kind);
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
                timed("run", &mut || fs.run_at(ino, 0).is_ok());
            }
            Some(FileType::Symlink) => timed("readlink", &mut || fs.readlink(ino).is_ok()),
            _ => {}
        }
    }
    (done, failed)
}

/// 700 mutants of each of three file systems: bytes changed in sectors that a walk reads.
#[test]
fn damaged_file_systems_end_in_errors_and_soon() {
    requires!("root", "loop", "mke2fs", "debugfs", "python3");
    let block = 1024;
    for (seed, mke2fs) in [
        (1, "-t ext4 -b 1024 -N 256 -O inline_data,ea_inode"),
        (2, "-t ext2 -b 1024 -N 256"),
        (3, "-t ext4 -b 1024 -N 256 -O ^metadata_csum,^64bit"),
    ] {
        let dir = common::tempdir();
        let disk = dir.path().join("disk");
        common::sh(&format!("truncate -s 4M {0}; mke2fs -q -F {mke2fs} {0}", disk.display()));
        let mounted = Mounted::new(&disk, "rw");
        common::sh(&format!(
            "cd {}; mkdir -p a/b/c many; for n in $(seq 120); do echo $n > many/a-rather-long-name-$n; done
             head -c 600K /dev/urandom > big; for n in $(seq 0 40); do dd if=/dev/urandom of=holes bs=1K count=1 seek=$((n * 3)) conv=notrunc status=none; done
             ln -s a/b link; ln -s $(printf 'x%.0s' $(seq 100)) long; mknod null c 1 3; python3 -c 'import os; os.setxattr(\"big\", \"user.x\", bytes(300))'",
            mounted.at.display()
        ));
        drop(mounted);
        let bytes = metadata_bytes(&disk, block);
        let clean = Arc::new(Memory::new(std::fs::read(&disk).unwrap(), "disk"));
        let volume: Arc<dyn BlockSource> = Arc::<Memory>::clone(&clean);
        let (_, failed) = exercise(&volume);
        assert_eq!(failed, 0, "on the clean one");
        let mut random = Random(seed);
        let (mut done, mut failed) = (0, 0);
        for _ in 0..700 {
            let changes = (0..=random.below(8))
                .map(|_| {
                    let (start, len) = bytes[random.below(bytes.len() as u64) as usize];
                    let byte = [0, 0xff, 0x7f, 0x80, random.below(256) as u8][random.below(5) as usize];
                    (start + random.below(len), byte)
                })
                .collect();
            let mutant: Arc<dyn BlockSource> = Arc::new(Mutant { clean: Arc::clone(&clean), changes });
            let (worked, broke) = exercise(&mutant);
            done += worked;
            failed += broke;
        }
        println!("{mke2fs}: {done} operations worked, {failed} failed");
        assert!(done > 10_000 && failed > 200, "the damage was not met");
    }
}

/// Where the metadata lies that a walk reads: start and length of stretches, each to be hit as often as the others.
fn metadata_bytes(disk: &Path, block: u64) -> Vec<(u64, u64)> {
    let ask = |command: &str| common::sh(&format!("debugfs -R '{command}' {} 2>/dev/null", disk.display()));
    // The fields of the superblock that count, twice, and the first group descriptor.
    let mut all = vec![(1024, 0x108), (1024 + 0x150, 0x30), (2048, 64)];
    for path in [
        "/",
        "/a",
        "/a/b",
        "/many",
        "/big",
        "/holes",
        "/link",
        "/long",
        "/null",
        "/many/a-rather-long-name-7",
    ] {
        let imap = ask(&format!("imap {path}"));
        let place: Vec<u64> = imap
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter_map(|word| {
                word.strip_prefix("0x")
                    .map_or_else(|| word.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
            })
            .collect();
        // "... located at block 9, offset 0x0100"
        let [.., at, offset] = place.as_slice() else { panic!("{imap}") };
        all.extend([(at * block + offset, 160); 3]);
        let kind = ask(&format!("stat {path}"));
        let blocks = ask(&format!("blocks {path}"));
        let is_dir = kind.contains("Type: directory");
        for number in blocks.split_whitespace().filter_map(|number| number.parse::<u64>().ok()).take(12) {
            if is_dir || number > 0 {
                all.push((number * block, if is_dir { 200 } else { 64 }));
            }
        }
    }
    all
}

// ---- Samples of other projects -------------------------------------------------------------------------------------

/// Unwraps a sample into a file.
fn unwrap(sample: &Path, disk: &Path) {
    let name = sample.to_str().unwrap();
    let tool = match name.rsplit('.').next().unwrap() {
        "gz" => "zcat",
        "xz" => "xzcat",
        "zst" => "zstdcat",
        "bz2" => "bzcat",
        _ => "cat",
    };
    common::sh(&format!(
        "{tool} {name} | dd of={} bs=64K conv=sparse status=none; truncate -s %512 {0}",
        disk.display()
    ));
}

/// Opens what an expectation speaks of: the whole, or partition N of `NAME.pN.expect`.
fn open_sample(disk: &Path, part: Option<&str>) -> Result<Fs> {
    let disk = file(disk);
    let found = discover(&disk, &VolCx { budget: &Budget::new(Limits::OPEN) });
    let id = part.unwrap_or("disk");
    let volume = found.volumes.iter().find(|volume| volume.id == id).unwrap_or_else(|| panic!("no {id}"));
    open(&volume.source)
}

/// A name as expectations spell it: printable UTF-8 as it is, every other byte as `\\xHH`.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c.is_control() {
                c.to_string().bytes().for_each(|byte| write!(text, "\\x{byte:02x}").unwrap());
            } else {
                text.push(c);
            }
        }
        chunk.invalid().iter().for_each(|byte| write!(text, "\\x{byte:02x}").unwrap());
    }
    text
}

/// Every path as expectations spell it. What cannot be listed is left out, and so found missing.
fn paths(fs: &Fs) -> BTreeMap<String, Ino> {
    let mut paths = BTreeMap::new();
    let mut todo = vec![("/".to_owned(), fs.root())];
    while let Some((path, ino)) = todo.pop() {
        for (name, child, kind, _) in entries(fs, ino).unwrap_or_default() {
            let path = format!("{}/{}", path.trim_end_matches('/'), escape(&name));
            // Of two records of one name the first is found; in a sound directory there is one.
            assert!(fs.lookup(ino, &name).unwrap().is_some(), "{path}: is listed and not found");
            if kind.is_none_or(|kind| kind == FileType::Dir)
                && fs.stat(child).is_ok_and(|s| s.kind == FileType::Dir)
            {
                todo.push((path.clone(), child));
            }
            paths.insert(path, child);
        }
        paths.insert(path, ino);
    }
    paths
}

/// One line of an expectation against what we read. `Err` says what differs.
fn compare(fs: &Fs, paths: &BTreeMap<String, Ino>, expected: &str) -> std::result::Result<(), String> {
    let mut columns = expected.split('\t');
    let (path, letter, size, content, rest) = (
        columns.next().unwrap(),
        columns.next().unwrap(),
        columns.next().unwrap(),
        columns.next().unwrap(),
        columns.next().unwrap_or(""),
    );
    let say = |error: Error| format!("{path}: {error}");
    let Some(&ino) = paths.get(path) else { return Err(format!("{path}: is missing")) };
    if let Some(errno) = rest.strip_prefix("err=") {
        // What the kernel would not even stat, neither do we.
        return fs.stat(ino).map_or(Ok(()), |_| Err(format!("{path}: readable, expected error {errno}")));
    }
    let stat = fs.stat(ino).map_err(say)?;
    let differs = |what: &str, ours: String| Err(format!("{path}: {what} is {ours}, expected {expected}"));
    let ours = match stat.kind {
        FileType::File => 'f',
        kind => kind.letter(),
    };
    if letter != ours.to_string() {
        return differs("type", ours.to_string());
    }
    if size != "-" && size != stat.size.to_string() {
        return differs("size", stat.size.to_string());
    }
    if stat.kind == FileType::File && !content.starts_with("ERR") && content != "-" {
        let mut sha = Sha256::new();
        let mut buf = vec![0; 1 << 20];
        let ends = content.strip_prefix("HEADTAIL1M:");
        let mut at = 0;
        while at < stat.size {
            let len = fs.read_at(ino, &mut buf, at).map_err(say)?;
            sha.update(&buf[..len]);
            at += len as u64;
            if ends.is_some() && at < stat.size - (1 << 20) {
                at = stat.size - (1 << 20);
            }
        }
        let ours = hex(&sha.finalize());
        if ours != ends.unwrap_or(content) {
            return differs("content", ours);
        }
    }
    for attribute in rest.split(' ') {
        let Some((key, value)) = attribute.split_once('=') else { continue };
        let ours = match key {
            "mode" => format!("{:04o}", stat.mode),
            "uid" => stat.uid.to_string(),
            "gid" => stat.gid.to_string(),
            "mtime" => stat.mtime.secs.to_string(),
            "nlink" => stat.nlink.to_string(),
            "rdev" => format!("{}:{}", stat.rdev.0, stat.rdev.1),
            "target" if !value.is_empty() => escape(&fs.readlink(ino).map_err(say)?),
            "xattr" => {
                let mut all: Vec<String> = fs
                    .xattrs(ino)
                    .map_err(say)?
                    .iter()
                    .map(|x| {
                        format!(
                            "{}:{}:{}",
                            escape(&x.name),
                            x.value.len(),
                            &hex(&Sha256::digest(&x.value))[..16]
                        )
                    })
                    .collect();
                all.sort();
                all.join(",")
            }
            _ => continue,
        };
        let mut wanted: Vec<&str> = value.split(',').collect();
        wanted.sort_unstable();
        if ours != wanted.join(",") {
            return differs(key, ours);
        }
    }
    Ok(())
}

#[test]
fn samples_of_others_are_read_as_the_kernel_reads_them() {
    requires!("corpus", "zstd", "xz", "gzip", "bzip2");
    let corpus = common::corpus().unwrap().join("fs");
    let list = common::sh(&format!("find {} -name '*.expect' | sort", corpus.display()));
    let (mut equal, mut dirty, mut unread, mut wrong) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for expectation in list.lines() {
        let name = expectation.strip_suffix(".expect").unwrap();
        let (sample, part) = match name.rsplit_once(".p") {
            Some((sample, digits)) if digits.len() == 1 => (sample, Some(format!("p{digits}"))),
            _ => (name, None),
        };
        let is_container = [".qcow2", ".vmdk", ".vhd"].iter().any(|ending| name.ends_with(ending));
        if !Path::new(sample).exists() || is_container {
            continue;
        }
        let dir = common::tempdir();
        let disk = dir.path().join("disk");
        if part.is_none() {
            unwrap(Path::new(sample), &disk);
            let kind = common::sh(&format!("blkid -p -o value -s TYPE {} || true", disk.display()));
            if !kind.starts_with("ext") {
                continue;
            }
        } else {
            let kinds = std::fs::read_to_string(format!("{sample}.blkid")).unwrap_or_default();
            if !kinds.contains("PTTYPE")
                || name.contains("ntfs")
                || name.contains("hfs")
                || name.contains("fs.multiple")
            {
                continue;
            }
            unwrap(Path::new(sample), &disk);
        }
        let short = name.strip_prefix(corpus.to_str().unwrap()).unwrap().to_owned();
        let fs = match open_sample(&disk, part.as_deref()) {
            Ok(fs) => fs,
            Err(error) => {
                unread.push(format!("{short}: {error:?}"));
                continue;
            }
        };
        let text = std::fs::read(expectation).unwrap();
        let text = String::from_utf8(text).unwrap();
        let paths = paths(&fs);
        let mut differences: Vec<String> =
            text.lines().filter_map(|line| compare(&fs, &paths, line).err()).collect();
        let listed = text.lines().count();
        if paths.len() > listed {
            differences.push(format!("{} paths, {listed} expected", paths.len()));
        }
        match differences.first() {
            None => equal.push(short),
            Some(_) if fs.facts().state == State::Dirty => dirty.push(short),
            Some(first) => wrong.push(format!("{short}: {} differences, first {first}", differences.len())),
        }
    }
    println!(
        "{} equal; {} whose journal must be replayed: {dirty:?}; refused: {unread:?}",
        equal.len(),
        dirty.len()
    );
    assert!(wrong.is_empty() && unread.is_empty(), "{}\n{}", wrong.join("\n"), unread.join("\n"));
    assert!(equal.len() >= 25, "{equal:?}");
}

/// Damaged samples, e2fsprogs' own among them: every one is walked to its end.
#[test]
fn broken_samples_of_others_end_in_errors_and_soon() {
    requires!("corpus", "zstd", "xz", "gzip", "bzip2");
    let corpus = common::corpus().unwrap();
    let list = common::sh(&format!(
        "find {0}/broken/e2fsprogs {0}/broken/syzkaller {0}/fs/e2fsprogs -type f ! -name '*.blkid' ! -name '*.expect' | sort",
        corpus.display()
    ));
    let (mut opened, mut refused) = (0, 0);
    for sample in list.lines() {
        let dir = common::tempdir();
        let disk = dir.path().join("disk");
        let unwrapped = std::process::Command::new("bash")
            .args(["-c", &format!("case {sample} in *.gz) zcat {sample};; *.bz2) bzcat {sample};; *.xz) xzcat {sample};; *.zst) zstdcat {sample};; *) cat {sample};; esac | dd of={} bs=64K conv=sparse status=none", disk.display())])
            .output()
            .unwrap();
        if !unwrapped.status.success() || !disk.exists() {
            continue;
        }
        let volume = file(&disk);
        let probe = detect(&volume, &FsCx { budget: &Budget::new(Limits::OPEN) });
        if matches!(probe, Ok(Content::Files(_))) {
            exercise(&volume);
            opened += 1;
        } else {
            refused += 1;
        }
    }
    println!("{opened} walked, {refused} refused or without a file system");
    assert!(opened > 60, "{opened}");
}
