//! The main job on a real guest: every file of a Debian system, in every format it can be stored in, is what the kernel
//! shows through a loop mount of the raw disk; the served disk is the raw disk; and no image is altered by any of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]

mod common;
#[path = "guest/variants.rs"]
mod variants;

use base64::Engine as _;
use common::{imgmount, sh, stderr, stdout};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The disk in the formats of `make guest`.
const IMAGES: &[&str] = &[
    "disk.raw",
    "disk.vmdk",
    "disk-stream.vmdk",
    "disk.qcow2",
    "disk-zlib.qcow2",
    "disk-zstd.qcow2",
    "disk.vhd",
];

/// From here on holes are not read to their end.
const LARGE: u64 = 64 << 20;

/// Mounting and the sums of large files are done by one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// What the kernel mounted; unmounted when dropped.
struct Loop(PathBuf);

impl Loop {
    fn mount(disk: &Path, at: &Path) -> Self {
        // The guest's one partition starts at 1 MiB, as sfdisk says.
        let start =
            sh(&format!("sfdisk -J '{}' | grep -o '\"start\": *[0-9]*' | grep -o '[0-9]*$'", disk.display()));
        let offset = start.trim().parse::<u64>().unwrap() * 512;
        fs::create_dir_all(at).unwrap();
        sh(&format!(
            "mount -t ext4 -o ro,loop,noatime,offset={offset} '{}' '{}'",
            disk.display(),
            at.display()
        ));
        Self(at.to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        sh(&format!("umount '{}'", self.0.display()));
    }
}

/// What we mounted; unmounted when dropped.
struct Ours(PathBuf);

impl Ours {
    fn mount(image: &Path, at: &Path, options: &[&str]) -> Self {
        fs::create_dir_all(at).unwrap();
        let mut args: Vec<OsString> = options.iter().map(OsString::from).collect();
        args.extend([image.into(), at.into()]);
        let output = imgmount(args);
        assert!(output.status.success(), "{}", stderr(&output));
        Self(at.to_owned())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let output = imgmount([OsString::from("unmount"), self.0.clone().into()]);
        assert!(output.status.success() || std::thread::panicking(), "{}", stderr(&output));
    }
}

/// All that `lstat`, `readlink` and `lgetxattr` say of a file.
fn facts(path: &Path) -> BTreeMap<String, String> {
    let stat = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut facts: BTreeMap<String, String> = BTreeMap::new();
    let mut add = |name: &str, value: String| drop(facts.insert(name.to_owned(), value));
    add("mode", format!("{:o}", stat.mode()));
    add("owner", format!("{}:{}", stat.uid(), stat.gid()));
    add("size", stat.size().to_string());
    add("links", stat.nlink().to_string());
    add("device", format!("{:x}", stat.rdev()));
    add("blocks", stat.blocks().to_string());
    add("mtime", format!("{}.{:09}", stat.mtime(), stat.mtime_nsec()));
    add("ctime", format!("{}.{:09}", stat.ctime(), stat.ctime_nsec()));
    add("atime", format!("{}.{:09}", stat.atime(), stat.atime_nsec()));
    if stat.file_type().is_symlink() {
        add("target", format!("{:?}", rustix::fs::readlink(path, Vec::new()).unwrap()));
    }
    let mut names = vec![0_u8; 4096];
    if let Ok(len) = rustix::fs::llistxattr(path, &mut names) {
        for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0_u8; 65536];
            let len = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            add(&format!("xattr {}", String::from_utf8_lossy(name)), format!("{:02x?}", &value[..len]));
        }
    }
    facts
}

/// Are the bytes of `b` those of `a`, which the kernel shows? Of a large hole its first MiB is read.
fn same_content(a: &Path, b: &Path) -> bool {
    let (a, b) = (File::open(a).unwrap(), File::open(b).unwrap());
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    loop {
        let got = a.read_at(&mut left, at).unwrap();
        if got == 0 {
            return b.read_at(&mut right, at).unwrap() == 0;
        }
        if b.read_exact_at(&mut right[..got], at).is_err() || left[..got] != right[..got] {
            return false;
        }
        at += got as u64;
        if got == left.len() && at > LARGE && left.iter().all(|byte| *byte == 0) {
            let data = rustix::fs::seek(&a, rustix::fs::SeekFrom::Data(at));
            at = at.max(data.unwrap_or(a.metadata().unwrap().len()));
        }
    }
}

fn names(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Every path of the kernel's tree with what is known of it, and the names in each directory.
#[derive(Default)]
struct Expected {
    files: Vec<(PathBuf, BTreeMap<String, String>)>,
    dirs: Vec<(PathBuf, Vec<OsString>)>,
}

impl Expected {
    fn of(kernel: &Path) -> Self {
        let mut expected = Self::default();
        let mut todo = vec![PathBuf::new()];
        while let Some(dir) = todo.pop() {
            let names = names(&kernel.join(&dir));
            for name in &names {
                let path = dir.join(name);
                if fs::symlink_metadata(kernel.join(&path)).unwrap().is_dir() {
                    todo.push(path.clone());
                }
                expected.files.push((path.clone(), facts(&kernel.join(&path))));
            }
            expected.dirs.push((dir, names));
        }
        expected
    }

    /// What differs in our tree.
    fn compare(&self, kernel: &Path, ours: &Path) -> Vec<String> {
        let mut differ = Vec::new();
        for (dir, expected) in &self.dirs {
            if names(&ours.join(dir)) != *expected {
                differ.push(format!("{}: other names", dir.display()));
            }
        }
        for (path, expected) in &self.files {
            let found = facts(&ours.join(path));
            if *expected != found {
                differ.push(format!("{}: expected {expected:?}, found {found:?}", path.display()));
            }
            // "100…" is a regular file's mode.
            if expected["mode"].starts_with("100") && !same_content(&kernel.join(path), &ours.join(path)) {
                differ.push(format!("{}: other content", path.display()));
            }
        }
        differ
    }
}

/// What changes with every byte that is written to an image, and cannot be set back: size, blocks, and the times of the last
/// changes of content and inode.
fn states() -> Vec<(&'static str, [i64; 6])> {
    let guest = common::guest().unwrap();
    let state = |name: &&'static str| {
        let stat = fs::metadata(guest.join(name)).unwrap();
        let numbers = [stat.size() as i64, stat.blocks() as i64, stat.mtime(), stat.mtime_nsec()];
        let [size, blocks, mtime, nsec] = numbers;
        (*name, [size, blocks, mtime, nsec, stat.ctime(), stat.ctime_nsec()])
    };
    IMAGES.iter().map(state).collect()
}

#[test]
fn every_file_of_every_format_is_what_the_kernel_shows() {
    requires!("root", "fuse", "loop", "sfdisk", "guest");
    let _turn = TURN.lock();
    let before = states();
    let (guest, dir) = (common::guest().unwrap(), common::tempdir());
    let kernel = Loop::mount(&guest.join("disk.raw"), &dir.path().join("kernel"));
    let expected = Expected::of(&kernel.0);
    assert!(expected.files.len() > 10_000, "only {} files", expected.files.len());
    let check = |name: &str| {
        let options = ["--symlinks", "raw", "--xattrs", "all"];
        let ours = Ours::mount(&guest.join(name), &dir.path().join(name), &options);
        let differ = expected.compare(&kernel.0, &ours.0);
        assert!(
            differ.is_empty(),
            "{name}: {} of {} files differ:\n{}",
            differ.len(),
            expected.files.len(),
            differ[..differ.len().min(10)].join("\n")
        );
    };
    // Two lanes: the time goes into waiting for each other's system calls.
    let next = Mutex::new(IMAGES.iter());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(name) = { next.lock().unwrap().next() } {
                    check(name);
                }
            });
        }
    });
    assert_eq!(states(), before, "an image was altered");
}

#[test]
fn the_served_disk_is_the_raw_disk() {
    requires!("nbdcopy", "nbdinfo", "qemu-img", "guest");
    let _turn = TURN.lock();
    let (guest, dir) = (common::guest().unwrap(), common::tempdir());
    let raw = guest.join("disk.raw");
    let size = fs::metadata(&raw).unwrap().len();
    for name in IMAGES {
        // Compares every byte, but does not read what both sides know to be zero.
        let compare =
            format!("qemu-img compare -q -f raw -F raw '{}' $uri && nbdinfo --size $uri", raw.display());
        let output =
            imgmount([OsString::from("serve"), guest.join(name).into(), "--run".into(), compare.into()]);
        assert_eq!(
            (stdout(&output).trim(), stderr(&output).trim()),
            (size.to_string().as_str(), ""),
            "{name}"
        );
    }
    let copy = dir.path().join("copy.raw");
    let stream = guest.join("disk-stream.vmdk");
    sh(&format!("nbdcopy -- [ '{}' serve '{}' ] '{}'", common::IMGMOUNT, stream.display(), copy.display()));
    sh(&format!("qemu-img compare -q -f raw -F raw '{}' '{}'", raw.display(), copy.display()));
    assert_eq!(fs::metadata(&copy).unwrap().len(), size);
}

#[test]
fn links_lead_nowhere_but_into_the_guest() {
    requires!("root", "fuse", "guest");
    let _turn = TURN.lock();
    let (guest, dir) = (common::guest().unwrap(), common::tempdir());
    let ours = Ours::mount(&guest.join("disk.vmdk"), &dir.path().join("ours"), &[]);
    let absolute = sh(&format!("find '{}' -type l -lname '/*' | head", ours.0.display()));
    assert_eq!(absolute, "");
    // An absolute link of every Debian: it must show the guest's file, not this host's.
    let through = fs::canonicalize(ours.0.join("etc/localtime")).unwrap();
    assert!(through.starts_with(fs::canonicalize(&ours.0).unwrap()), "{}", through.display());
}

#[test]
fn verbs_show_what_the_mount_shows() {
    requires!("root", "loop", "sfdisk", "guest");
    let _turn = TURN.lock();
    let (guest, dir) = (common::guest().unwrap(), common::tempdir());
    let kernel = Loop::mount(&guest.join("disk.raw"), &dir.path().join("kernel"));
    let listed = imgmount([
        OsString::from("find"),
        format!("{}:/", guest.join("disk-stream.vmdk").display()).into(),
        "--jsonl".into(),
        "--hash".into(),
    ]);
    assert!(listed.status.success(), "{}", stderr(&listed));
    let mut ours: Vec<(Vec<u8>, String)> = Vec::new();
    for line in stdout(&listed).lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        if entry["type"] == "file" && entry["size"].as_u64().unwrap() < LARGE {
            // A name that is not UTF-8 stands there twice: readable, and as it is.
            let path = match entry["path_bytes"].as_str() {
                Some(encoded) => base64::engine::general_purpose::STANDARD.decode(encoded).unwrap(),
                None => entry["path"].as_str().unwrap().as_bytes().to_vec(),
            };
            ours.push((path, entry["sha256"].as_str().unwrap().to_owned()));
        }
    }
    ours.sort();
    let sums = dir.path().join("sums");
    sh(&format!(
        "cd '{}' && find . -type f -size -{LARGE}c -print0 | xargs -0 sha256sum --zero > '{}'",
        kernel.0.display(),
        sums.display()
    ));
    let sums = fs::read(sums).unwrap();
    let lines = sums.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    let mut theirs: Vec<(Vec<u8>, String)> =
        lines.map(|line| (line[67..].to_vec(), String::from_utf8(line[..64].to_vec()).unwrap())).collect();
    theirs.sort();
    assert!(theirs.len() > 5_000);
    assert!(ours == theirs, "{:?}", ours.iter().zip(&theirs).find(|(a, b)| a != b));
}
