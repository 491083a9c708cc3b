//! exFAT: made by `mkfs.exfat`, filled by exfat-fuse, checked by `fsck.exfat`, compared with what was copied in.

use super::*;

/// Names of every kind; files that were written in turns, so that they lie in pieces; in `$TREE`.
const TREE: &str = r#"
mkdir -p a/b/c "A Directory With A Long Name" VOID d300/sub
for n in $(seq 300); do echo "$n" > "d300/file number $n with a name of more than fifteen letters.txt"; echo $n > a/b/c/$n; done
echo upper > README.TXT; echo mixed > MiXeD.TxT; echo dot > .hidden; echo plus > 'a+b=c,d;e[f].x'
echo name > 'über größer ÄÖÜ ñandú.txt'; echo greek > 'Ελληνικά'; echo cjk > '日本語の名前.txt'; echo smile > 'smile 😀.txt'
echo long > "$(printf 'x%.0s' $(seq 255))"; echo fifteen > fifteen_letters; echo sixteen > sixteen_letters_
: > empty; head -c 512 /dev/urandom > sector; head -c 1000000 /dev/urandom > row
for n in $(seq 60); do head -c 4096 /dev/urandom >> pieces; head -c 5000 /dev/urandom >> others; done
touch -d '1980-01-01 00:00:00 UTC' a/oldest; touch -d '2097-12-31 23:59:58 UTC' a/newest; touch -d '2024-02-29 12:34:56 UTC' a/leap
"#;

/// An exFAT made with these arguments and filled by a script.
fn made(mkfs: &str, size: &str, script: &str) -> (Made, Listing) {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // What exfat-fuse reads of what it wrote is copied out.
    let out = dir.path().join("out");
    common::sh(&format!(
        "export TZ=UTC LC_ALL=C.UTF-8; truncate -s {size} {name}; mkfs.exfat {mkfs} {name} >/dev/null; mkdir {at}
        loop=$(losetup -f --show {name}); trap 'umount {at} 2>/dev/null; losetup -d $loop 2>/dev/null' EXIT
        mount.exfat-fuse -o noatime $loop {at} >/dev/null 2>&1
        (cd {at}; set -e; {script}
        )
        umount {at}; losetup -d $loop; released {name}; loop=$(losetup -f --show {name}); mount.exfat-fuse -o ro $loop {at} >/dev/null 2>&1; cp -a {at} {out}; umount {at}; losetup -d $loop
        trap - EXIT; released {name}; fsck.exfat -n {name} >&2",
        name = disk.display(),
        at = dir.path().join("mnt").display(),
        out = out.display(),
    ));
    drop(turn);
    let listing = kernel(&out);
    (Made { disk, _dir: dir }, listing)
}

fn walk(fs: &Fs, path: &str) -> Ino {
    path.split('/')
        .filter(|name| !name.is_empty())
        .fold(fs.root(), |dir, name| fs.lookup(dir, name.as_bytes()).unwrap().unwrap())
}

fn reads_as_written(mkfs: &str, size: &str) -> (Made, Fs) {
    let (made, expected) = made(mkfs, size, TREE);
    let fs = open(&file(&made.disk)).unwrap();
    same(&bare(&ours(&fs)), &bare(&expected), mkfs);
    assert!(expected.len() > 620, "the tree was not made");
    for (path, line) in &expected {
        let stat = fs.stat(walk(&fs, str::from_utf8(path).unwrap())).unwrap();
        let seconds = line.split(" m ").nth(1).unwrap().split('.').next().unwrap();
        if path != b"/" {
            assert_eq!(stat.mtime.secs.to_string(), seconds, "{}", path.escape_ascii());
            assert!(stat.mode == 0o755 && stat.btime.is_some());
        }
    }
    assert_eq!(fs.stat(walk(&fs, "/a")).unwrap().nlink, 3);

    let facts = fs.facts();
    same_as_blkid(&fs, &common::sh(&format!("blkid -p -o export {}", made.disk.display())), mkfs);
    assert_eq!((facts.state, facts.warnings.len()), (State::Clean, 0), "{:?}", facts.warnings);
    let dump = common::sh(&format!("dump.exfat {}", made.disk.display()));
    let says = |key: &str| {
        let line = dump.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    assert_eq!(fs.free().unwrap(), says("Free Clusters:") * says("Cluster size:"), "{dump}");
    assert_eq!(facts.size, says("Volume Length(sectors):") * 512);
    (made, fs)
}

#[test]
fn small_clusters_are_read_in_pieces_from_any_place() {
    requires!("root", "loop", "fuse", "mkfs.exfat", "mount.exfat-fuse", "fsck.exfat", "blkid");
    let (made, fs) = reads_as_written("-c 512 -L 'Lábel 日'", "24M");
    let raw = std::fs::File::open(&made.disk).unwrap();
    for (name, least) in [("/pieces", 20), ("/row", 1)] {
        let ino = walk(&fs, name);
        let size = fs.stat(ino).unwrap().size;
        let mut whole = vec![0; size as usize];
        assert_eq!(fs.read_at(ino, &mut whole, 0).unwrap(), whole.len());
        let (mut at, mut runs) = (0, 0);
        while at < size {
            let run = fs.run_at(ino, at).unwrap();
            let Place::Stored { file: 0, offset } = run.place else { panic!("{run:?}") };
            let mut there = vec![0; run.len as usize];
            raw.read_exact_at(&mut there, offset).unwrap();
            assert!(there == whole[at as usize..(at + run.len) as usize], "{name} at {at}");
            at += run.len;
            runs += 1;
        }
        assert!(at == size && runs >= least, "{name}: {runs} runs");
        let mut random = Random(3);
        for _ in 0..300 {
            let at = random.below(size + 100);
            let mut buf = vec![0xaa; random.below(9000) as usize];
            let len = fs.read_at(ino, &mut buf, at).unwrap();
            let expected = &whole[(at.min(size)) as usize
                ..(at as usize + buf.len()).min(whole.len()).max(at.min(size) as usize)];
            assert!(buf[..len] == *expected, "{name} at {at}");
        }
    }
    let dir = walk(&fs, "/d300");
    let all = entries(&fs, dir).unwrap();
    assert_eq!(all.len(), 301);
    for (n, (.., next)) in all.iter().enumerate() {
        let mut first = None;
        let mut take = |entry: imgmount::fs::DirEntry<'_>| {
            first = Some(entry.name.to_vec());
            ControlFlow::Break(())
        };
        fs.readdir(dir, *next, &mut take).unwrap();
        assert_eq!(first, all.get(n + 1).map(|(name, ..)| name.clone()));
    }
}

#[test]
fn large_clusters_and_names_without_case() {
    requires!("root", "loop", "fuse", "mkfs.exfat", "mount.exfat-fuse", "fsck.exfat", "blkid");
    let (_made, fs) = reads_as_written("-c 128K", "200M");
    assert!(fs.ignores_case());
    let same = |a: &str, b: &str| assert_eq!(walk(&fs, a), walk(&fs, b), "{a} {b}");
    same("/readme.txt", "/README.TXT");
    same("/ÜBER GRÖßER äöü ÑANDÚ.TXT", "/über größer ÄÖÜ ñandú.txt");
    same("/ΕΛΛΗΝΙΚΆ", "/Ελληνικά");
}

/// The sum of an entry set, and of the boot region: each byte added to what was, turned by one bit.
fn set_sum(set: &[u8]) -> u16 {
    let bytes = set.iter().enumerate().filter(|(at, _)| !matches!(at, 2 | 3));
    bytes.fold(0_u16, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u16::from(*byte)))
}

#[test]
fn what_was_never_written_is_zeros_and_a_wrong_sum_costs_its_file_alone() {
    requires!("root", "loop", "fuse", "mkfs.exfat", "mount.exfat-fuse", "fsck.exfat");
    let (made, _) = made("-c 4K", "16M", "head -c 20000 /dev/urandom > file; echo other > other");
    let mut image = std::fs::read(&made.disk).unwrap();
    let fs = open(&file(&made.disk)).unwrap();
    let at = (walk(&fs, "/file").0 >> 1) as usize * 32;
    let len = 32 * (1 + usize::from(image[at + 1]));
    // The zone of the last change: 5:30 east. Valid length: 10,000.
    image[at + 23] = 0x80 | 22;
    image[at + 32 + 8..at + 32 + 16].copy_from_slice(&10_000_u64.to_le_bytes());
    let unsummed: Arc<dyn BlockSource> = Arc::new(Memory::new(image.clone(), "disk"));
    let sum = set_sum(&image[at..at + len]);
    image[at + 2..at + 4].copy_from_slice(&sum.to_le_bytes());
    let summed: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));

    let (mut before, mut after) = (vec![0; 20_000], vec![1; 20_000]);
    let before_stat = fs.stat(walk(&fs, "/file")).unwrap();
    fs.read_at(walk(&fs, "/file"), &mut before, 0).unwrap();
    let fs = open(&summed).unwrap();
    let ino = walk(&fs, "/file");
    assert_eq!(fs.read_at(ino, &mut after, 0).unwrap(), 20_000);
    assert!(after[..10_000] == before[..10_000] && after[10_000..].iter().all(|byte| *byte == 0));
    assert_eq!(fs.run_at(ino, 12_000).unwrap().place, Place::Zero);
    assert_eq!(fs.stat(ino).unwrap().mtime.secs, before_stat.mtime.secs - 5 * 3600 - 1800);

    let fs = open(&unsummed).unwrap();
    let error = fs.stat(walk(&fs, "/file")).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("checksum"), "{error}");
    assert_eq!(fs.stat(walk(&fs, "/other")).unwrap().size, 6);
}

#[test]
fn a_damaged_boot_region_is_read_from_its_copy() {
    requires!("mkfs.exfat");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 16M {0}; mkfs.exfat -L NAME {0} >/dev/null", disk.display()));
    let clean = Arc::new(Memory::new(std::fs::read(&disk).unwrap(), "disk"));
    let with = |changes: Vec<(u64, u8)>| -> Arc<dyn BlockSource> {
        Arc::new(Mutant { clean: Arc::clone(&clean), changes })
    };
    let facts = |changes| open(&with(changes)).map(|fs| fs.facts());
    let sound = facts(vec![]).unwrap();
    assert_eq!((sound.warnings.len(), sound.label.as_utf8()), (0, Some("NAME")));
    // The serial number counts in the sum; the flags do not.
    let copied = facts(vec![(100, 0x55), (101, 0x55)]).unwrap();
    assert!(copied.uuid == sound.uuid && copied.warnings[0].contains("its copy was read"), "{copied:?}");
    assert_eq!(facts(vec![(106, 2)]).unwrap().state, State::Dirty);
    assert_eq!(facts(vec![(106, 4)]).unwrap().state, State::Errors);
    let error = facts(vec![(100, 0x55), (12 * 512 + 100, 0x55)]).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[test]
fn samples_of_others_have_the_label_and_number_that_blkid_gives() {
    requires!("corpus", "xz");
    assert_eq!(samples_are_what_blkid_said("util-linux/ts_blkid_images-fs_exfat"), 1);
}

/// exfatprogs' own broken images: all but what is broken is read.
#[test]
fn broken_samples_of_others_end_in_errors_and_soon() {
    requires!("corpus", "xz");
    let corpus = common::corpus().unwrap().join("broken/exfatprogs");
    let list = common::sh(&format!("ls {}/*.tar.xz", corpus.display()));
    let mut opened = 0;
    for sample in list.lines() {
        let dir = common::tempdir();
        common::sh(&format!("tar -C {} --sparse -xf {sample}", dir.path().display()));
        let disk = common::sh(&format!("find {} -type f -size +100k | head -1", dir.path().display()));
        let volume = file(Path::new(disk.trim()));
        opened += usize::from(open(&volume).is_ok());
        let (done, failed) = exercise(&volume);
        println!("{sample}: {done} operations worked, {failed} failed");
    }
    assert!(opened >= 7, "{opened}");
}

#[test]
fn damaged_ones_end_in_errors_and_soon() {
    requires!("root", "loop", "fuse", "mkfs.exfat", "mount.exfat-fuse", "fsck.exfat");
    let script = "mkdir -p a/b; for n in $(seq 40); do echo $n > \"a/a rather long name $n\"; done; for n in 1 2 3 4 5 6 7 8; do head -c 3000 /dev/urandom >> a/b/one; head -c 3000 /dev/urandom >> a/b/two; done";
    let (made, _) = made("-c 512", "4M", script);
    let image = std::fs::read(&made.disk).unwrap();
    let fs = open(&file(&made.disk)).unwrap();
    let byte = |path: &str| (walk(&fs, path).0 >> 1) * 32;
    let sector = |at: usize| u64::from(u32::from_le_bytes(image[at..at + 4].try_into().unwrap())) * 512;
    let (fat, heap) = (sector(80), sector(88));
    let stretches = [(64, 64), (fat, 800), (heap, 4000), (byte("/a"), 128), (byte("/a/b"), 2000)];
    let (done, failed) = mutate(image.clone(), &stretches, mutants(300), 1);
    println!("{done} operations worked, {failed} failed");
    assert!(done > 3000 && failed > 100, "the damage was not met: {done} {failed}");

    // Sums that fit again hide nothing from what is behind them.
    let mut random = Random(2);
    for _ in 0..mutants(300) {
        let mut image = image.clone();
        for _ in 0..=random.below(3) {
            let path = ["/a", "/a/b", "/a/b/one", "/a/b/two"][random.below(4) as usize];
            let at = byte(path) as usize;
            let len = 32 * (1 + usize::from(image[at + 1]));
            if len > 32 * 19 {
                continue;
            }
            image[at + random.below(64) as usize] = [0, 0xff, 1, 0x80, 2, 3][random.below(6) as usize];
            let sum = set_sum(&image[at..at + len]);
            image[at + 2..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
        let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));
        exercise(&volume);
    }
}
