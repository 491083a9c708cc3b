//! btrfs, on one device and on several.

use super::*;

/// A file system made by `mkfs.btrfs` with these arguments, mounted with these options and filled by
/// `tests/make/tree.py`.
fn make(mkfs: &str, options: &str, size: &str, tree: &str) -> Made {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s {size} {0}; mkfs.btrfs -q -f -L 'a label' {mkfs} {0}", disk.display()));
    let script = common::root().join("tests/make/tree.py");
    let mounted = Mounted::new(&disk, options);
    let at = mounted.at.display();
    common::sh(&format!(
        "python3 {} {at} $(stat -f -c %s {at}) {tree}
         cd {at}; mkdir packed; (yes 'some text that packs well' || true) | head -c 3000001 > packed/text
         head -c 700000 /dev/zero > packed/zeros; cp --reflink=always packed/text packed/again
         dd if=packed/text of=packed/text bs=4096 skip=3 seek=200 count=5 conv=notrunc status=none
         head -c 900 packed/text > packed/small; truncate -s 5000 packed/small
         setfattr -n btrfs.compression -v zstd packed || true",
        script.display()
    ));
    drop(mounted);
    Made { disk, _dir: dir }
}

/// What `dump-super` says under a key.
fn dump_super(disk: &Path) -> impl Fn(&str) -> String + use<> {
    let dump = common::sh(&format!("btrfs inspect-internal dump-super {}", disk.display()));
    move |key: &str| {
        let line = dump.lines().find(|line| line.split_whitespace().next() == Some(key));
        line.unwrap_or_else(|| panic!("{key}\n{dump}")).split_whitespace().nth(1).unwrap().to_owned()
    }
}

/// Makes one, and compares every path, and what it says of itself with `dump-super`.
#[track_caller]
fn same_as_kernel(mkfs: &str, options: &str, size: &str, tree: &str) -> (Made, Fs) {
    let made = make(mkfs, options, size, tree);
    let fs = open(&file(&made.disk)).unwrap();
    let expected = kernel(&Mounted::new(&made.disk, "ro").at);
    assert!(expected.len() > 6500, "the tree was not made");
    same(&ours(&fs), &expected, mkfs);

    let facts = fs.facts();
    let says = dump_super(&made.disk);
    let number = |key: &str| says(key).parse::<u64>().unwrap();
    assert_eq!(facts.uuid.unwrap(), says("fsid"));
    assert_eq!(facts.label.as_utf8().unwrap(), "a label");
    assert_eq!(u64::from(facts.block_size), number("sectorsize"));
    assert_eq!(facts.size, number("total_bytes"));
    assert_eq!(fs.free().unwrap(), number("total_bytes") - number("bytes_used"));
    assert_eq!((facts.state, facts.warnings.as_slice()), (State::Clean, [].as_slice()));
    let dump = common::sh(&format!("btrfs inspect-internal dump-super {}", made.disk.display()));
    let named = |after: &str| {
        let start = dump.find(after).unwrap();
        let names = dump[start..].lines().nth(1).filter(|line| line.contains('(')).unwrap_or_default();
        let mut all = dump[start..].lines().skip(1).take_while(|line| line.starts_with("\t\t\t"));
        let all: String = all.by_ref().collect();
        assert!(all.contains(names.trim()));
        all.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let mut names = named("compat_ro_flags");
    names.extend(named("incompat_flags"));
    assert_eq!(facts.features, names);
    (made, fs)
}

macro_rules! variants {
    ($($name:ident: $mkfs:expr, $options:expr, $size:expr;)*) => {$(
        #[test]
        fn $name() {
            requires!("root", "loop", "mkfs.btrfs", "python3", "setfattr");
            same_as_kernel($mkfs, $options, $size, "");
        }
    )*};
}

variants! {
    with_mixed_block_groups: "-M", "rw", "300M";
    packed_with_zlib: "", "compress-force=zlib", "300M";
    packed_with_lzo: "", "compress-force=lzo", "300M";
    packed_with_zstd: "--csum xxhash", "compress-force=zstd", "300M";
    with_sha256: "--csum sha256 -d DUP", "rw", "500M";
    with_blake2_and_large_nodes: "--csum blake2 -n 65536", "rw", "300M";
    with_holes_that_have_items: "-O ^no-holes -n 4096", "rw", "300M";
}

#[test]
fn by_default() {
    requires!("root", "loop", "mkfs.btrfs", "python3", "setfattr");
    let (made, fs) = same_as_kernel("", "rw", "300M", "large");
    listing_goes_on_from_every_place(&fs);
    reads_at_odd_places_agree(&made, &fs);
}

/// Runs `base` in a new file system, which is committed; then `work`, which is not; and looks at what is on the disk.
fn interrupted(base: &str, work: &str, mkfs: &str) -> (tempfile::TempDir, PathBuf) {
    // Whatever makes the whole machine write its file systems back at that moment leaves nothing in the log.
    for _ in 0..5 {
        let (dir, disk) = interrupted_once(base, work, mkfs);
        if dump_super(&disk)("log_root") != "0" {
            return (dir, disk);
        }
    }
    panic!("nothing was logged in five attempts");
}

fn interrupted_once(base: &str, work: &str, mkfs: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = common::tempdir();
    let (disk, copy) = (dir.path().join("disk"), dir.path().join("copy"));
    common::sh(&format!("truncate -s 300M {0}; mkfs.btrfs -q -f {mkfs} {0}", disk.display()));
    // Nothing is committed but by `sync`.
    let mounted = Mounted::new(&disk, "rw,commit=300");
    let at = mounted.at.display();
    common::sh(&format!(
        "cd {at}; {base}
         sync -f .; {work}
         cp --sparse=always {} {}",
        disk.display(),
        copy.display()
    ));
    drop(mounted);
    std::fs::remove_file(&disk).unwrap();
    (dir, copy)
}

/// The times that the kernel takes from its clock when it replays an unlink are no one's to know.
fn without_times(listing: &Listing) -> Listing {
    let cut = |line: &String| {
        let (head, rest) = line.split_once(" m ").unwrap();
        let rest = rest.split_once(" ino ").unwrap().1;
        format!("{head} ino {rest}")
    };
    listing.iter().map(|(path, line)| (path.clone(), cut(line))).collect()
}

/// What is read of an image taken while it was written to is what the kernel shows after mounting it.
#[track_caller]
fn replays(base: &str, work: &str, mkfs: &str) {
    let (_dir, disk) = interrupted(base, work, mkfs);
    let says = dump_super(&disk);
    assert_ne!(says("log_root"), "0", "nothing was logged");
    let fs = open(&file(&disk)).unwrap();
    let facts = fs.facts();
    assert_eq!((facts.state, facts.warnings.len()), (State::Dirty, 1), "{:?}", facts.warnings);
    assert!(facts.warnings[0].contains("replayed in memory"), "{:?}", facts.warnings);
    let ours = ours(&fs);
    let committed = detect_all(&[file(&disk)], Journal::Ignore).remove(0).unwrap();
    let Content::Files(committed) = committed else { panic!("{committed:?}") };
    assert!(committed.facts().warnings[0].contains("not replayed"), "{:?}", committed.facts().warnings);
    assert_ne!(without_times(&super::ours(&committed)), without_times(&ours), "nothing was logged");
    drop(Mounted::new(&disk, "rw"));
    let kernel = kernel(&Mounted::new(&disk, "ro").at);
    same(&without_times(&ours), &without_times(&kernel), work);
}

const BASE: &str = "mkdir -p a/b c many; for n in $(seq 300); do echo $n > many/$n; done
     head -c 1M /dev/urandom > big; head -c 100K /dev/urandom > a/data; echo small > a/small; ln a/small a/link
     ln big c/big; for n in $(seq 40); do echo $n > c/$n; done; setfattr -n user.x -v 1 a/small; setfattr -n user.y -v 2 a/small";

macro_rules! logs {
    ($($name:ident: $work:expr, $mkfs:expr;)*) => {$(
        #[test]
        fn $name() {
            requires!("root", "loop", "mkfs.btrfs", "setfattr", "python3");
            replays(&format!("{BASE}; btrfs -q subvolume create sub; echo old > sub/old; echo kept > sub/kept"), $work, $mkfs);
        }
    )*};
}

logs! {
    new_and_changed_files_are_replayed: "echo new > new; sync new; dd if=/dev/urandom of=big bs=5000 seek=7 count=30 conv=notrunc status=none
        sync big; echo more >> a/small; sync a/small; head -c 300K /dev/urandom > a/b/deep; sync a/b/deep
        ln -s target a/b/symlink; mkfifo a/b/fifo; mkdir -p x/y/z; echo z > x/y/z/z; sync x/y/z/z; sync x; chmod 600 a/data; chown 5:6 a/data; sync a/data", "";
    deleted_and_moved_names_are_replayed: "rm many/7 many/8 many/300; mv many/9 many/nine; mv many/10 a/ten; sync many; mv a/data a/b/data; sync a/b/data
        rm a/link; sync a/small; ln a/small a/b/small; sync a/small; rm c/big; sync big; mv c d; sync d; rmdir x 2>/dev/null || true
        echo a > many/7; sync many/7; mv many/11 many/12; sync many/12; rm -r d; sync .", "";
    replaced_files_are_replayed: "for n in 1 2 3 4 5; do echo \"new $n\" > tmp; sync tmp; mv tmp many/$n; sync many; done
        python3 - <<'PY'
import os
fd = os.open('many/20', os.O_RDWR)
os.unlink('many/20')
os.write(fd, b'gone')
os.fsync(fd)
fd = os.open('many/21', os.O_RDWR)
os.rename('many/22', 'many/21')
os.fsync(fd)
os.rename('many/30', 'swap'); os.rename('many/31', 'many/30'); os.rename('swap', 'many/31')
for name in ('many/30', 'many/31'):
    fd = os.open(name, os.O_RDWR); os.fsync(fd)
PY", "";
    attributes_are_replayed: "setfattr -x user.x a/small; setfattr -n user.y -v 22 a/small; setfattr -n user.z -v 3 a/small; sync a/small
        setfattr -n user.dir -v d a; setfattr -n security.s -v s big; sync a; sync big;", "";
    lengths_and_holes_are_replayed: "truncate -s 300001 big; sync big; truncate -s 2M a/data; echo tail >> a/data; sync a/data
        fallocate -p -o 8192 -l 40960 big; sync big; fallocate -l 3M a/b/reserved; dd if=/dev/urandom of=a/b/reserved bs=4K seek=100 count=5 conv=notrunc status=none; sync a/b/reserved
        fallocate -n -l 1M many/1; sync many/1; cp --reflink=always big c/clone; sync c/clone; truncate -s 0 a/small; sync a/small; touch c/c; chattr +C c/c; head -c 64K /dev/urandom > c/c; sync c/c", "";
    holes_with_items_are_replayed: "truncate -s 300001 big; sync big; truncate -s 2M a/data; echo tail >> a/data; sync a/data
        fallocate -p -o 8192 -l 40960 big; sync big; dd if=/dev/zero of=new bs=4K seek=50 count=1 status=none; sync new", "-O ^no-holes --csum sha256";
    many_synced_files_are_replayed: "mkdir new; for n in $(seq 400); do echo $n > new/file-$n; [ $((n % 8)) != 0 ] || sync new/file-$n; done; sync new
        for n in $(seq 1 3 300); do rm many/$n; done; sync many; for n in $(seq 2 3 300); do ln many/$n new/link-$n; done; sync new; sync many", "-n 4096";
    logs_of_several_subvolumes_are_replayed: "echo 1 > one; sync one; echo s > sub/s; sync sub/s; rm sub/old; sync sub", "";
}

/// Blocks here and there in a large file are replaced one by one: replaying each costs as much as in a small file.
#[test]
fn a_log_of_scattered_blocks_takes_steps_for_each_and_not_for_each_pair() {
    requires!("root", "loop", "mkfs.btrfs", "python3");
    let base = "python3 - <<'PY'
import os
fd = os.open('file', os.O_RDWR | os.O_CREAT)
for n in range(3000): os.pwrite(fd, b'%4096d' % n, n * 8192)
PY";
    let work = "python3 - <<'PY'
import os
fd = os.open('file', os.O_RDWR)
for n in range(0, 3000, 10): os.pwrite(fd, b'new %4092d' % n, n * 8192)
os.fsync(fd)
PY";
    let (_dir, disk) = interrupted(base, work, "");
    let mapper = Mapper::new(Arc::new(Cache::new(64 << 20)));
    let budget = Budget::new(Limits { steps: 30_000, ..Limits::OPEN });
    let cx = FsCx {
        budget: &budget,
        mapper: &mapper,
        journal: Journal::Replay,
        is_one_of_copies: false,
        shows_meta: false,
    };
    let found = imgmount::fs::detect(&file(&disk), &cx).unwrap();
    let Content::Files(fs) = found else { panic!("{found:?}") };
    let warnings = fs.facts().warnings;
    assert!(warnings[0].contains("replayed in memory"), "{warnings:?}");
    let ours = ours(&fs);
    drop(Mounted::new(&disk, "rw"));
    same(&ours, &kernel(&Mounted::new(&disk, "ro").at), "scattered blocks");
}

/// A file system on several devices, mounted; undone when dropped.
struct Array {
    at: PathBuf,
    disks: Vec<PathBuf>,
    loops: String,
    _turn: std::sync::MutexGuard<'static, ()>,
}

impl Array {
    fn new(disks: &[PathBuf], options: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = disks[0].with_extension("mnt");
        std::fs::create_dir_all(&at).unwrap();
        let names: Vec<String> = disks.iter().map(|disk| disk.display().to_string()).collect();
        let loops = common::sh(&format!("for disk in {}; do losetup -f --show $disk; done", names.join(" ")));
        let devices: Vec<String> = loops.lines().map(|name| format!("device={name}")).collect();
        let (first, loops) = (loops.lines().next().unwrap().to_owned(), loops.replace('\n', " "));
        let array = Self { at, disks: disks.to_vec(), loops, _turn: turn };
        common::sh(&format!("mount -o {options},{} {first} {}", devices.join(","), array.at.display()));
        array
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        let (at, loops) = (self.at.display(), &self.loops);
        let gone: Vec<String> = self.disks.iter().map(|disk| let_go(disk)).collect();
        common::sh(&format!(
            "for n in 1 2 3 4 5; do mountpoint -q {at} || break; umount {at} || sleep 0.3; done
             for loop in {loops}; do losetup -d $loop; done; {}
             btrfs device scan --forget || true",
            gone.join("; ")
        ));
    }
}

/// A file system on so many devices, with files, and what the kernel shows of it.
fn array(mkfs: &str, count: usize) -> (tempfile::TempDir, Vec<PathBuf>, Listing) {
    let dir = common::tempdir();
    let disks: Vec<PathBuf> = (0..count).map(|n| dir.path().join(format!("disk{n}"))).collect();
    let names: Vec<String> = disks.iter().map(|disk| disk.display().to_string()).collect();
    common::sh(&format!("truncate -s 400M {0}; mkfs.btrfs -q -f {mkfs} {0}", names.join(" ")));
    let mounted = Array::new(&disks, "noatime");
    common::sh(&format!(
        "cd {}; mkdir d; for n in $(seq 60); do echo $n > d/$n; done; head -c 5000001 /dev/urandom > big
         cp --reflink=always big again; dd if=/dev/urandom of=again bs=4K seek=50 count=100 conv=notrunc status=none
         (yes 'some text' || true) | head -c 1M > text; sync -f .",
        mounted.at.display()
    ));
    let listing = kernel(&mounted.at);
    (dir, disks, listing)
}

fn open_all(disks: &[&PathBuf]) -> Fs {
    let sources: Vec<Arc<dyn BlockSource>> = disks.iter().map(|disk| file(disk)).collect();
    let mut found = detect_all(&sources, Journal::Replay);
    assert!(found[1..].iter().all(|other| matches!(other, Ok(Content::Member(0)))), "{found:?}");
    match found.remove(0).unwrap() {
        Content::Files(fs) => fs,
        other => panic!("{other:?}"),
    }
}

/// With all devices, in another order than they were made; then without as many as can be done without.
#[track_caller]
fn same_on_devices(mkfs: &str, count: usize, spare: usize) -> (tempfile::TempDir, Vec<PathBuf>, Listing) {
    let (dir, disks, expected) = array(mkfs, count);
    let all: Vec<&PathBuf> = disks.iter().rev().collect();
    let fs = open_all(&all);
    assert!(fs.facts().warnings.is_empty(), "{:?}", fs.facts().warnings);
    same(&ours(&fs), &expected, mkfs);
    let ino = fs.lookup(fs.root(), b"big").unwrap().unwrap();
    let (mut at, mut used) = (0, std::collections::BTreeSet::new());
    while at < 5_000_001 {
        let run = fs.run_at(ino, at).unwrap();
        let Place::Stored { file, offset } = run.place else { panic!("{run:?}") };
        let (mut there, mut here) = (vec![0; run.len as usize], vec![1; run.len as usize]);
        std::fs::File::open(all[file]).unwrap().read_exact_at(&mut there, offset).unwrap();
        fs.read_at(ino, &mut here, at).unwrap();
        assert!(here == there, "{mkfs}: at {at}");
        used.insert(file);
        at += run.len;
    }
    let is_copied = mkfs.starts_with("-d raid1 ") || mkfs.starts_with("-d raid1c");
    assert_eq!(used.len() > 1, !is_copied, "{mkfs}: {} devices hold the large file", used.len());
    for lost in 1..=spare {
        for first in 0..count {
            let left: Vec<&PathBuf> =
                (0..count).filter(|n| (n + count - first) % count >= lost).map(|n| &disks[n]).collect();
            let fs = open_all(&left);
            let warnings = fs.facts().warnings;
            assert_eq!(
                warnings.iter().filter(|line| line.contains("is missing")).count(),
                lost,
                "{warnings:?}"
            );
            same(&ours(&fs), &expected, &format!("{mkfs} without {lost} devices from {first} on"));
        }
    }
    (dir, disks, expected)
}

macro_rules! arrays {
    ($($name:ident: $mkfs:expr, $count:expr, $spare:expr;)*) => {$(
        #[test]
        fn $name() {
            requires!("root", "loop", "mkfs.btrfs");
            same_on_devices($mkfs, $count, $spare);
        }
    )*};
}

arrays! {
    on_two_copies_striped: "-d raid10 -m raid10", 4, 1;
    on_three_copies: "-d raid1c3 -m raid1c3 --csum xxhash", 3, 2;
    with_one_parity: "-d raid5 -m raid1", 3, 1;
    with_two_parities: "-d raid6 -m raid1c3", 4, 2;
}

#[test]
fn without_a_device_of_a_stripe_the_rest_is_read() {
    requires!("root", "loop", "mkfs.btrfs");
    let (_dir, disks, expected) = same_on_devices("-d raid0 -m raid1", 2, 0);
    let fs = open_all(&[&disks[0]]);
    let missing = dump_super(&disks[1])("dev_item.uuid");
    assert!(fs.facts().warnings[0].contains(&missing), "{:?}", fs.facts().warnings);
    assert_eq!(entries(&fs, fs.root()).unwrap().len(), 4);
    let ino = fs.lookup(fs.root(), b"big").unwrap().unwrap();
    let error = fs.read_at(ino, &mut vec![0; 1 << 20], 0).unwrap_err();
    assert!(error.to_string().contains(&format!("device 2 ({missing})")), "{error}");
    assert!(expected.len() > 60);
}

#[test]
fn a_device_that_missed_commits_is_read_last_and_copies_stand_apart() {
    requires!("root", "loop", "mkfs.btrfs");
    let (dir, disks, expected) = same_on_devices("-d raid1 -m raid1", 2, 1);
    let failing: Arc<dyn BlockSource> = Arc::new(Failing(file(&disks[0])));
    let found = detect_all(&[failing, file(&disks[1])], Journal::Replay).remove(0).unwrap();
    let Content::Files(fs) = found else { panic!("{found:?}") };
    same(&ours(&fs), &expected, "with a device that cannot be read");

    let mounted = Array::new(&disks[1..], "noatime,degraded");
    common::sh(&format!(
        "cd {}; echo new > new; head -c 300K /dev/urandom > big; for n in $(seq 30); do echo changed > d/$n; done; sync -f .",
        mounted.at.display()
    ));
    let expected = kernel(&mounted.at);
    drop(mounted);
    let fs = open_all(&[&disks[0], &disks[1]]);
    assert!(fs.facts().warnings[0].contains("device 1"), "{:?}", fs.facts().warnings);
    same(&ours(&fs), &expected, "with a stale device");

    let copy = dir.path().join("copy");
    common::sh(&format!("cp --sparse=always {} {}", disks[1].display(), copy.display()));
    let found = detect_all(&[file(&disks[0]), file(&disks[1]), file(&copy)], Journal::Replay);
    assert!(matches!(found[1], Ok(Content::Member(0))), "{found:?}");
    for at in [0, 2] {
        let Ok(Content::Files(fs)) = &found[at] else { panic!("{at}: {found:?}") };
        let warnings = fs.facts().warnings;
        assert!(warnings.iter().any(|line| line.contains("exists twice")), "{at}: {warnings:?}");
        same(&ours(fs), &expected, "one of two copies");
    }

    // Two copies of both devices, of which one pair went on, in any order: each device stands with its like.
    common::sh(&format!(
        "mkdir {0}/old; cp --sparse=always {1} {2} {0}/old",
        dir.path().display(),
        disks[0].display(),
        disks[1].display()
    ));
    let old = [dir.path().join("old/disk0"), dir.path().join("old/disk1")];
    let before = ours(&open_all(&[&old[0], &old[1]]));
    let mounted = Array::new(&disks, "noatime");
    common::sh(&format!(
        "cd {}; echo newer > newer; sync -f .; btrfs -q scrub start -B . || true",
        mounted.at.display()
    ));
    let after = kernel(&mounted.at);
    drop(mounted);
    let found =
        detect_all(&[file(&old[1]), file(&disks[0]), file(&disks[1]), file(&old[0])], Journal::Replay);
    assert!(matches!((&found[2], &found[3]), (Ok(Content::Member(1)), Ok(Content::Member(0)))), "{found:?}");
    for (at, expected) in [(0, before), (1, after)] {
        let Ok(Content::Files(fs)) = &found[at] else { panic!("{at}: {found:?}") };
        same(&ours(fs), &expected, "a pair of two");
    }
}

/// A disk that gives its first superblock and nothing behind it.
#[derive(Debug)]
struct Failing(Arc<dyn BlockSource>);

impl BlockSource for Failing {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        if (1 << 20..self.len() - 4096).contains(&offset) {
            return Err(Error::new(ErrorKind::Io, "a bad sector"));
        }
        self.0.read_at(buf, offset)
    }
}

/// Where the directory stands that the kernel makes up, it has the time of now.
fn without_made_up_times(listing: &Listing) -> Listing {
    let cut = |line: &String| {
        if !line.contains(" ino 2 ") {
            return line.clone();
        }
        let (head, rest) = line.split_once(" m ").unwrap();
        format!("{head} a {}", rest.split_once(" a ").unwrap().1.split_once(" c ").unwrap().0)
    };
    listing.iter().map(|(path, line)| (path.clone(), cut(line))).collect()
}

#[test]
fn subvolumes_are_shown_as_mounts_show_them() {
    requires!("root", "loop", "mkfs.btrfs");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 200M {0}; mkfs.btrfs -q -f {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    let at = mounted.at.display();
    common::sh(&format!(
        "cd {at}; btrfs -q subvolume create @; btrfs -q subvolume create @/home; mkdir -p @/var/lib @/.snapshots
         btrfs -q subvolume create @/var/lib/machines; echo top > top; echo root > @/root; echo home > @/home/file
         btrfs -q subvolume create @/home/inner; echo inner > @/home/inner/file; echo data > @/var/lib/machines/data
         btrfs -q subvolume snapshot -r @ @/.snapshots/1; echo later > @/later; btrfs -q subvolume snapshot @/home saved
         btrfs -q subvolume create gone; echo x > gone/x; btrfs -q subvolume delete gone; mv @/home/inner @/moved
         btrfs -q subvolume set-default $(btrfs inspect-internal rootid @) .; sync -f ."
    ));
    let list = common::sh(&format!("btrfs subvolume list -q {at}; btrfs subvolume get-default {at}"));
    let read_only = common::sh(&format!("btrfs subvolume list -r {at}"));
    drop(mounted);

    let fs = open(&file(&disk)).unwrap();
    let mut listed = Vec::new();
    let all = fs.subvolumes().unwrap();
    for one in &all {
        let ours = without_made_up_times(&ours(&fs.subvolume(one.id).unwrap()));
        let theirs = kernel(&Mounted::new(&disk, &format!("ro,subvolid={}", one.id)).at);
        same(&ours, &without_made_up_times(&theirs), &format!("subvolume {}", one.id));
        let path = String::from_utf8(one.path.clone()).unwrap();
        if one.id == 5 {
            assert_eq!(path, "");
        } else {
            listed.push(format!(
                "ID {} parent_uuid {} path {path}",
                one.id,
                one.parent.as_deref().unwrap_or("-")
            ));
        }
        assert_eq!(
            one.is_read_only,
            read_only.lines().any(|line| line.starts_with(&format!("ID {} ", one.id)))
        );
        let default = list.lines().last().unwrap();
        assert_eq!(one.is_default, default.starts_with(&format!("ID {} ", one.id)), "{default}");
    }
    let mut expected: Vec<String> = list
        .lines()
        .filter(|line| line.contains("parent_uuid"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let after = |key: &str| words[words.iter().position(|word| *word == key).unwrap() + 1];
            format!("ID {} parent_uuid {} path {}", after("ID"), after("parent_uuid"), after("path"))
        })
        .collect();
    expected.sort();
    listed.sort();
    assert_eq!(listed, expected);
    assert_eq!(listed.len(), 6, "{listed:?}");
    let theirs = kernel(&Mounted::new(&disk, "ro").at);
    same(&without_made_up_times(&ours(&fs)), &without_made_up_times(&theirs), "the default");
    assert_eq!(fs.subvolume(4711).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Where a file's first bytes lie: the logical byte, and its places on the disk.
fn places(disk: &Path, logical: u64) -> Vec<u64> {
    let map = common::sh(&format!("btrfs-map-logical -l {logical} {}", disk.display()));
    let places =
        map.lines().filter_map(|line| line.split_once("physical ")?.1.split(' ').next()?.parse().ok());
    places.collect()
}

fn damage(disk: &Path, at: u64) {
    let disk = std::fs::OpenOptions::new().read(true).write(true).open(disk).unwrap();
    let mut byte = [0];
    disk.read_exact_at(&mut byte, at).unwrap();
    disk.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
}

#[test]
fn a_damaged_copy_is_made_good_by_the_other_and_a_damaged_block_is_named() {
    requires!("root", "loop", "mkfs.btrfs", "btrfs-map-logical", "filefrag");
    for (mkfs, copies) in [("-d DUP -m DUP", 2), ("-d single -m DUP", 1)] {
        let dir = common::tempdir();
        let disk = dir.path().join("disk");
        common::sh(&format!("truncate -s 400M {0}; mkfs.btrfs -q -f {mkfs} {0}", disk.display()));
        let mounted = Mounted::new(&disk, "rw,noatime");
        let at = mounted.at.display();
        let extents = common::sh(&format!(
            "cd {at}; head -c 3M /dev/urandom > file; for n in $(seq 200); do echo $n > $n; done; sync -f .; filefrag -v -b4096 file"
        ));
        let expected = kernel(&mounted.at);
        drop(mounted);
        let first = extents.lines().find(|line| line.trim_start().starts_with("0:")).unwrap();
        let logical: u64 =
            first.split(':').nth(2).unwrap().split("..").next().unwrap().trim().parse().unwrap();
        let logical = logical * 4096 + 5 * 4096;
        let physical = places(&disk, logical);
        assert_eq!(physical.len(), copies);
        damage(&disk, physical[0] + 100);
        // The root of the tree of trees, and its checksum's own bytes.
        let root: u64 = dump_super(&disk)("root").parse().unwrap();
        damage(&disk, places(&disk, root)[0] + 3);
        let fs = open(&file(&disk)).unwrap();
        if copies == 2 {
            same(&ours(&fs), &expected, mkfs);
            damage(&disk, places(&disk, root)[1] + 200);
            let error = open(&file(&disk)).unwrap_err();
            assert!(error.to_string().contains(&format!("{root:#x}")), "{error}");
            continue;
        }
        let ino = fs.lookup(fs.root(), b"file").unwrap().unwrap();
        let mut buf = vec![0; 3 << 20];
        let error = fs.read_at(ino, &mut buf, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(&format!("{logical:#x}")), "{error}");
        assert_eq!(fs.read_at(ino, &mut buf[..20_000], 0).unwrap(), 20_000);
        assert_eq!(fs.read_at(ino, &mut buf, 6 * 4096).unwrap(), (3 << 20) - 6 * 4096);
        // A damaged superblock is stood in for by its copy.
        damage(&disk, 0x10000 + 0x60);
        let fs = open(&file(&disk)).unwrap();
        assert!(fs.facts().warnings[0].contains("superblock is damaged"), "{:?}", fs.facts().warnings);
        assert_eq!(entries(&fs, fs.root()).unwrap().len(), 201);
    }
}

/// A copy of every node is damaged: a letter of it changed; or left behind by a commit, with a checksum that fits. The
/// nodes of 64 KiB are as long as what is read at once.
#[test]
fn every_node_may_have_a_damaged_or_stale_copy() {
    requires!("mkfs.btrfs");
    for size in [4096, 16_384, 65_536] {
        let dir = common::tempdir();
        let (disk, tree) = (dir.path().join("disk"), dir.path().join("tree"));
        common::sh(&format!(
            "mkdir -p {tree}/d; cd {tree}; for n in $(seq 2000); do echo $n > d/a-name-$n; done; head -c 70000 /dev/urandom > big
             truncate -s 200M {disk}; mkfs.btrfs -q -f -n {size} -m dup --rootdir {tree} {disk}",
            tree = tree.display(),
            disk = disk.display(),
        ));
        let clean = std::fs::read(&disk).unwrap();
        let expected = ours(&open(&file(&disk)).unwrap());
        assert_eq!(expected.len(), 2003);
        let sum = |bytes: &[u8]| imgmount::checksum::crc32c(&[bytes]).to_le_bytes();
        let mut copies: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for at in (0..clean.len() - size).step_by(4096) {
            let node = &clean[at..at + size];
            if node[32..48] == clean[0x10020..0x10030] && node[..4] == sum(&node[32..]) {
                copies.entry(u64::from_le_bytes(node[48..56].try_into().unwrap())).or_default().push(at);
            }
        }
        copies.retain(|_, places| places.len() == 2);
        assert!(copies.len() > 7, "{} nodes", copies.len());
        for copy in [0, 1] {
            for is_stale in [false, true] {
                let mut bytes = clean.clone();
                for places in copies.values() {
                    let node = &mut bytes[places[copy]..places[copy] + size];
                    if is_stale {
                        node[80] -= 1;
                        let stamp = sum(&node[32..]);
                        node[..4].copy_from_slice(&stamp);
                    } else {
                        // In the name of the entry that lies in the middle of what is used at the end.
                        node[size - 300] ^= 1;
                    }
                }
                let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(bytes, "disk"));
                let fs = open(&volume).unwrap();
                // Twice: from the disk, and from what was kept.
                for _ in 0..2 {
                    same(&ours(&fs), &expected, &format!("{size}, copy {copy}, stale: {is_stale}"));
                }
            }
        }
    }
}

#[test]
fn a_walk_takes_few_reads_and_a_file_one_for_each_extent() {
    requires!("root", "loop", "mkfs.btrfs", "python3");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 400M {0}; mkfs.btrfs -q -f {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    common::sh(&format!(
        "cd {}; python3 -c \"
import os
for d in range(100):
    os.mkdir('dir-%d' % d)
    for n in range(200):
        open('dir-%d/some-file-%d' % (d, n), 'w').write('content of %d' % n)
\"; head -c 20M /dev/urandom > big",
        mounted.at.display()
    ));
    drop(mounted);
    let counting = Arc::new(Counting { volume: file(&disk), reads: AtomicU64::new(0) });
    let volume: Arc<dyn BlockSource> = Arc::<Counting>::clone(&counting);
    let fs = open(&volume).unwrap();
    let (mut todo, mut files) = (vec![fs.root()], 0);
    while let Some(dir) = todo.pop() {
        for (_, ino, kind, _) in entries(&fs, dir).unwrap() {
            files += 1;
            fs.stat(ino).unwrap();
            if kind == Some(FileType::Dir) {
                todo.push(ino);
            }
        }
    }
    let reads = counting.reads.load(Ordering::Relaxed);
    println!("{reads} reads for {files} files");
    assert!(files > 20_000 && reads < 1000, "{reads} reads for {files} files");

    let ino = fs.lookup(fs.root(), b"big").unwrap().unwrap();
    let (mut at, mut runs) = (0, 0);
    while let Ok(run) = fs.run_at(ino, at) {
        runs += 1;
        at += run.len;
    }
    let mut buf = vec![0; at as usize];
    fs.read_at(ino, &mut buf, 0).unwrap();
    counting.reads.store(0, Ordering::Relaxed);
    fs.read_at(ino, &mut buf, 0).unwrap();
    let reads = counting.reads.load(Ordering::Relaxed);
    // Checksums are in the cache by now; what is over 16 MiB is read in pieces.
    assert!(reads <= runs + 1, "{reads} reads for {runs} runs");
}

/// Mutants of a small file system: bytes of its nodes and superblock changed, their checksums made to fit.
#[test]
fn damaged_file_systems_end_in_errors_and_soon() {
    requires!("root", "loop", "mkfs.btrfs", "python3");
    let clean = small();
    let volume: Arc<dyn BlockSource> = Arc::<Memory>::clone(&clean);
    let (_, failed) = exercise(&volume);
    assert_eq!(failed, 0, "on the clean one");
    mutate(&clean, 300);
}

/// One of everything on 18 MiB, with a log that waits.
fn small() -> Arc<Memory> {
    let dir = common::tempdir();
    let (disk, copy) = (dir.path().join("disk"), dir.path().join("copy"));
    common::sh(&format!("truncate -s 18M {0}; mkfs.btrfs -q -f -M -m single -d single {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw,commit=300,compress=zlib");
    common::sh(&format!(
        "cd {at}; mkdir -p a/b/c many; for n in $(seq 60); do echo $n > many/a-rather-long-name-$n; done
         head -c 600K /dev/urandom > big; (yes text || true) | head -c 300K > packed; ln -s a/b link; mknod null c 1 3
         for n in $(seq 0 20); do dd if=/dev/urandom of=holes bs=4K count=1 seek=$((n * 3)) conv=notrunc status=none; done
         btrfs -q subvolume create sub; echo x > sub/x; btrfs -q subvolume snapshot sub a/snap; setfattr -n user.x -v value big
         sync -f .; echo new > many/new; sync many/new; rm many/a-rather-long-name-7; sync many; ln big many/link; sync big
         cp --sparse=always {} {}",
        disk.display(),
        copy.display(),
        at = mounted.at.display(),
    ));
    drop(mounted);
    Arc::new(Memory::new(std::fs::read(&copy).unwrap(), "disk"))
}

fn mutate(clean: &Arc<Memory>, count: u64) {
    let mut all = vec![0; clean.len() as usize];
    clean.read_at(&mut all, 0).unwrap();
    let fsid = all[0x10020..0x10030].to_vec();
    // Where nodes lie: what carries the file system's UUID and a checksum that fits.
    let sum = |bytes: &[u8]| imgmount::checksum::crc32c(&[bytes]).to_le_bytes();
    let nodes: Vec<usize> = (0..all.len() / 4096)
        .map(|n| n * 4096)
        .filter(|at| {
            all[at + 32..at + 48] == fsid && all[at + 32 + 16 + 8..at + 4096].iter().any(|b| *b != 0)
        })
        .filter(|at| all[*at..at + 4] == sum(&all[at + 32..at + 4096]))
        .collect();
    assert!(nodes.len() > 15, "{} nodes", nodes.len());
    let mut random = Random(11);
    let (mut done, mut failed) = (0, 0);
    for _ in 0..count {
        let mut changes = Vec::new();
        for _ in 0..=random.below(3) {
            let at = nodes[random.below(nodes.len() as u64) as usize];
            let mut node = all[at..at + 4096].to_vec();
            for _ in 0..=random.below(3) {
                // Headers and items at the front, their data at the end.
                let place = match random.below(4) {
                    0 => 48 + random.below(60),
                    1 => 101 + random.below(300),
                    2 => 4095 - random.below(1000),
                    _ => 48 + random.below(4096 - 48),
                };
                let old = node[place as usize];
                node[place as usize] = [0, 0xff, 0x7f, old.wrapping_add(1), old ^ (1 << random.below(8))]
                    [random.below(5) as usize];
            }
            let stamp = sum(&node[32..]);
            node[..4].copy_from_slice(&stamp);
            let changed = node.iter().enumerate().filter(|(n, byte)| all[at + n] != **byte);
            changes.extend(changed.map(|(n, byte)| ((at + n) as u64, *byte)));
        }
        let mutant: Arc<dyn BlockSource> = Arc::new(Mutant { clean: Arc::clone(clean), changes });
        let (worked, broke) = exercise(&mutant);
        done += worked;
        failed += broke;
    }
    assert!(
        done as u64 > count * 20 && failed as u64 > count / 5,
        "the damage was not met: {done} worked, {failed} failed"
    );
}

/// Damaged samples of btrfs-progs: every one is walked to its end, or refused.
#[test]
fn broken_samples_of_btrfs_progs_end_in_errors_and_soon() {
    requires!("corpus", "xz", "btrfs-image");
    let corpus = common::corpus().unwrap();
    let list = common::sh(&format!(
        "find {0}/broken/btrfs-progs {0}/broken/btrfs-progs-fsck {0}/fs/btrfs-progs -type f ! -name '*.expect' ! -name 'convert-tests*' ! -name '*metadata-uuid*' ! -name '*.tar.xz' | sort",
        corpus.display()
    ));
    let (mut walked, mut refused) = (0, Vec::new());
    // Those with an expectation are walked where they are compared.
    let has_none = |sample: &&str| !Path::new(&format!("{sample}.expect")).exists();
    for sample in list.lines().filter(has_none) {
        let disk = common::samples::made_of(
            Path::new(sample),
            "unpack $SAMPLE | dd of=$OUT bs=64K iflag=fullblock conv=sparse status=none
             if [ \"$(head -c 8 $OUT | od -An -tx1 | tr -d ' ')\" = 8b669572e2255cbd ]; then
                 timeout 60 btrfs-image -r $OUT $OUT.raw >/dev/null 2>&1 && mv $OUT.raw $OUT || true
             fi",
        );
        let volume = file(&disk);
        let start = cpu();
        match look(&volume) {
            Ok(Content::Files(_)) => {
                exercise(&volume);
                walked += 1;
            }
            other => refused.push(format!("{}: {other:?}", sample.rsplit('/').next().unwrap())),
        }
        assert!(cpu().saturating_sub(start) < Duration::from_secs(20), "{sample}");
    }
    println!("{walked} walked; refused:\n{}", refused.join("\n"));
    assert!(walked > 30, "{walked}");
}

/// Two devices each, whose file system was being given another UUID: the kernel refuses those on which that did not come
/// to its end.
#[test]
fn devices_are_paired_by_both_of_their_uuids() {
    requires!("corpus", "xz", "btrfs");
    let samples = common::corpus().unwrap().join("fs/btrfs-progs");
    let sample = |n| samples.join(format!("misc-tests_034-metadata-uuid_disk{n}.raw.xz"));
    let disks: Vec<_> = (1..=6).map(|n| common::samples::unpacked(&sample(n))).collect();
    let sources: Vec<Arc<dyn BlockSource>> = disks.iter().map(|disk| file(disk)).collect();
    let found = detect_all(&sources, Journal::Replay);
    for (n, (found, disk)) in found.iter().zip(&disks).enumerate() {
        let fs = match found.as_ref().unwrap() {
            Content::Files(fs) => fs,
            // Of the same file system as the first: only there neither UUID was changed yet.
            other => {
                assert!(n == 1 && matches!(other, Content::Member(0)), "{n}: {other:?}");
                continue;
            }
        };
        let says = dump_super(disk);
        assert_eq!(fs.facts().uuid.unwrap(), says("fsid"));
        let warnings = fs.facts().warnings.join("\n");
        let dump = common::sh(&format!("btrfs inspect-internal dump-super {}", disk.display()));
        assert_eq!(warnings.contains("change of its UUID"), dump.contains("0x1000000001"), "{n}: {warnings}");
        assert_eq!(warnings.contains("is missing"), n > 1, "{n}: {warnings}");
        entries(fs, fs.root()).unwrap();
    }
}

/// Blocks larger than the pages of this machine, which its kernel does not mount: made with files by `mkfs.btrfs`.
#[test]
fn larger_blocks_hold_the_files_that_were_put_there() {
    requires!("mkfs.btrfs");
    for size in [16_384, 65_536] {
        let dir = common::tempdir();
        let (disk, tree) = (dir.path().join("disk"), dir.path().join("tree"));
        common::sh(&format!(
            "mkdir -p {tree}/d; cd {tree}; for n in $(seq 100); do echo $n > d/$n; done
             head -c 3000001 /dev/urandom > big; head -c 70000 /dev/urandom > middle; ln -s big link; : > empty
             truncate -s 200M {disk}; mkfs.btrfs -q -f -s {size} -n 65536 --rootdir {tree} {disk}",
            tree = tree.display(),
            disk = disk.display(),
        ));
        let fs = open(&file(&disk)).unwrap();
        assert_eq!(fs.facts().block_size, size);
        let content = |listing: &Listing| -> BTreeMap<Vec<u8>, String> {
            // Type, size and content; not what is counted in blocks.
            let cut = |line: &String| {
                let words: Vec<&str> = line.split(' ').collect();
                let size = words.iter().position(|word| *word == "size").unwrap();
                let ino = words.iter().position(|word| *word == "ino").unwrap();
                let len = if words[0] == "d" { "" } else { words[size + 1] };
                format!("{} {} {len} {}", words[0], words[1], words[ino + 2..].join(" "))
            };
            listing.iter().map(|(path, line)| (path.clone(), cut(line))).collect()
        };
        let (ours, theirs) = (content(&ours(&fs)), content(&kernel(&tree)));
        assert_eq!(ours.len(), 106);
        for (path, line) in &theirs {
            assert_eq!(ours.get(path), Some(line), "{}", path.escape_ascii());
        }
    }
}
