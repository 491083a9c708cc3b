//! NTFS: made by `mkntfs`, filled through ntfs-3g, compared with what ntfs-3g shows of it.

use super::*;
use std::process::{Child, Command, Stdio};

/// A mount by ntfs-3g, undone when dropped. Its process stays a child: when it has ended, everything is on the disk, which
/// an unmount does not wait for.
pub(super) struct ByNtfs3g {
    pub(super) at: PathBuf,
    child: Child,
}

impl ByNtfs3g {
    pub(super) fn new(disk: &Path, options: &str) -> Self {
        let at = disk.with_extension("mnt");
        std::fs::create_dir_all(&at).unwrap();
        let mut command = Command::new("ntfs-3g");
        let options = format!("no_detach,fmask=022,dmask=022,uid=0,gid=0,{options}");
        let child = command.args(["-o", &options]).arg(disk).arg(&at).stderr(Stdio::null()).spawn().unwrap();
        let is_mounted = format!("mountpoint -q {}", at.display());
        common::sh(&format!("for n in $(seq 500); do {is_mounted} && exit 0; sleep 0.02; done; exit 1"));
        Self { at, child }
    }
}

impl Drop for ByNtfs3g {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
        self.child.wait().unwrap();
    }
}

/// An NTFS made with these arguments, filled by a script that runs in it.
fn made(mkfs: &str, size: &str, options: &str, script: &str) -> Made {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s {size} {0}; mkntfs -F -Q -q {mkfs} {0} >/dev/null", disk.display()));
    let mounted = ByNtfs3g::new(&disk, options);
    common::sh(&format!("export LC_ALL=C.UTF-8; cd {}; set -e; {script}", mounted.at.display()));
    drop(mounted);
    Made { disk, _dir: dir }
}

/// The script that fills one with everything.
fn tree(arguments: &str) -> String {
    format!("python3 {}/tests/make/ntfs.py . {arguments}", env!("CARGO_MANIFEST_DIR"))
}

/// What ntfs-3g shows, but for blocks, which it counts in its own way, and attributes.
fn plain(listing: &Listing) -> Listing {
    let line = |line: &String| {
        let (front, rest) = line.split_once(" blocks ").unwrap();
        let (_, rest) = rest.split_once(' ').unwrap();
        let (rest, _) = rest.rsplit_once(" [").unwrap();
        format!("{front} {rest}")
    };
    listing.iter().map(|(path, text)| (path.clone(), line(text))).collect()
}

pub(super) fn walk(fs: &Fs, path: &str) -> Ino {
    path.split('/')
        .filter(|name| !name.is_empty())
        .fold(fs.root(), |dir, name| fs.lookup(dir, name.as_bytes()).unwrap().unwrap())
}

/// Compares a volume with what ntfs-3g shows of it.
fn same_as_ntfs3g(made: &Made, what: &str) -> Fs {
    let mounted = ByNtfs3g::new(&made.disk, "ro,streams_interface=xattr");
    let expected = kernel(&mounted.at);
    drop(mounted);
    let fs = open(&file(&made.disk)).unwrap();
    let mut ours = ours(&fs);
    // The file system's own files: some have no data, and ntfs-3g fails to open those.
    ours.retain(|path, _| !path.starts_with(b"/$"));
    same(&plain(&ours), &plain(&expected), what);
    let facts = fs.facts();
    same_as_blkid(&fs, &common::sh(&format!("blkid -p -o export {}", made.disk.display())), what);
    assert_eq!((facts.state, facts.warnings.len()), (State::Clean, 0), "{:?}", facts.warnings);
    let info = common::sh(&format!("ntfsinfo -m {}", made.disk.display()));
    let says = |key: &str| {
        let line = info.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
        line.trim_start_matches([':', ' ']).split(' ').next().unwrap().to_owned()
    };
    let cluster: u64 = says("Cluster Size").parse().unwrap();
    let free: u64 = says("Free Clusters").parse().unwrap();
    assert_eq!(fs.free(), Some(free * cluster), "{what}");
    assert_eq!(facts.size / cluster, says("Volume Size in Clusters").parse::<u64>().unwrap(), "{what}");
    assert_eq!(facts.features.first(), Some(&says("Volume Version")), "{what}");
    fs
}

fn reads_as_ntfs3g(mkfs: &str, size: &str, arguments: &str) -> (Made, Fs) {
    let made = made(mkfs, size, "streams_interface=xattr", &tree(arguments));
    let fs = same_as_ntfs3g(&made, mkfs);
    (made, fs)
}

#[test]
fn clusters_of_512_bytes() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "blkid", "python3");
    reads_as_ntfs3g("-c 512 -L 'Lábel 日'", "48M", "");
}

#[test]
fn clusters_of_4_kib_many_names_and_many_runs() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "blkid", "python3");
    reads_as_ntfs3g("-c 4096", "200M", "large");
}

#[test]
fn clusters_of_64_kib() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "blkid", "python3");
    reads_as_ntfs3g("-c 65536", "400M", "");
}

#[test]
fn clusters_of_2_mib() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "blkid", "python3");
    reads_as_ntfs3g("-c 2097152", "4G", "");
}

#[test]
fn sectors_of_4_kib() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "blkid", "python3");
    reads_as_ntfs3g("-s 4096", "100M", "");
}
