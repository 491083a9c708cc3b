//! ext2, ext3 and ext4.

use super::*;

/// A file system made by `mke2fs` with these arguments and filled by `tests/make/tree.py`.
fn make(mke2fs: &str, size: &str, tree: &str) -> Made {
    fill(&format!("mke2fs -q -F -L 'a label' -E lazy_itable_init=0 {mke2fs} $DISK"), size, tree)
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
    assert_eq!(fs.free().unwrap(), number("Free blocks") * number("Block size"));
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
    ext4_without_checksums_with_tea_hashes: "-t ext4 -b 2048 -O ^metadata_csum,^64bit,uninit_bg -E hash_seed=11111111-2222-3333-4444-555555555555", "";
    ext4_with_128_byte_inodes_without_file_types_and_index: "-t ext4 -I 128 -O ^filetype,^dir_index", "";
    ext4_with_clusters: "-t ext4 -O bigalloc -C 16384", "";
    ext4_with_inline_data_in_512_byte_inodes: "-t ext4 -b 1024 -I 512 -O inline_data,ea_inode,meta_bg,^resize_inode", "ea_inode";
    ext4_with_everything_new: "-t ext4 -O metadata_csum_seed,orphan_file,fast_commit,large_dir,sparse_super2,^resize_inode,mmp", "";
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
    let found = volumes(&source);
    let root = found.iter().find(|volume| volume.id == "p1").unwrap();
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
    for (kind, words) in [("ext4", "journal was replayed in memory"), ("ext2", "was not unmounted")] {
        let (disk, copy) = (dir.path().join("disk"), dir.path().join("copy"));
        common::sh(&format!("rm -f {0}; truncate -s 64M {0}; mke2fs -q -F -t {kind} {0}", disk.display()));
        let mounted = Mounted::new(&disk, "rw");
        common::sh(&format!(
            "echo x > {0}/file; sync {0}/file; cp --sparse=always {1} {2}",
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
fn a_journal_alone_is_named_and_not_opened() {
    requires!("mke2fs", "blkid");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 16M {0}; mke2fs -q -F -O journal_dev {0}", disk.display()));
    let kind = common::sh(&format!("blkid -p -o value -s TYPE {}", disk.display()));
    let Ok(Content::Known(name)) = look(&file(&disk)) else { panic!("was opened") };
    assert_eq!(name, kind.trim());
}

/// 250 mutants of each of four file systems: bytes changed in sectors that a walk reads. Three have no checksums, which would
/// catch nearly all of it.
#[test]
fn damaged_file_systems_end_in_errors_and_soon() {
    requires!("root", "loop", "mke2fs", "debugfs", "python3");
    let block = 1024;
    for (seed, mke2fs) in [
        (1, "-t ext4 -b 1024 -N 256 -O inline_data,ea_inode,^metadata_csum"),
        (4, "-t ext4 -b 1024 -N 256"),
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
        for _ in 0..250 {
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
        assert!(done > 5_000 && failed > 50, "the damage was not met");
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

/// Files over several groups, so that a file system has backups worth the name.
fn spread(dir: &Path, mke2fs: &str) -> PathBuf {
    let disk = dir.join("disk");
    common::sh(&format!("truncate -s 600M {0}; mke2fs -q -F {mke2fs} {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    common::sh(&format!(
        "cd {}; for d in $(seq 12); do mkdir $d; for n in $(seq 20); do echo $d $n > $d/$n; done; done; head -c 3M /dev/urandom > big",
        mounted.at.display()
    ));
    drop(mounted);
    disk
}

fn write_at(disk: &Path, at: u64, bytes: &[u8]) {
    std::fs::OpenOptions::new().write(true).open(disk).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn a_damaged_superblock_is_read_from_its_backup() {
    requires!("root", "loop", "mke2fs");
    for (mke2fs, group) in [
        ("-t ext4 -b 1024", 1),
        ("-t ext4 -b 4096 -O sparse_super2,^resize_inode", 1),
        ("-t ext2 -b 2048 -O ^sparse_super,^resize_inode", 1),
        ("-t ext4 -b 4096 -O ^flex_bg", 1),
    ] {
        let dir = common::tempdir();
        let disk = spread(dir.path(), mke2fs);
        let expected = ours(&open(&file(&disk)).unwrap());
        assert!(expected.len() > 250);
        // What makes no sense, what has a wrong checksum, and what is gone altogether.
        let mut damages =
            vec![(1024 + 0x18, vec![0x77; 4]), (1024 + 0x38, vec![0; 2]), (1024, vec![0; 1024])];
        if mke2fs.contains("ext4") {
            damages.push((1024 + 0x78, b"another".to_vec()));
        }
        for (at, bytes) in damages {
            let mut before = vec![0; bytes.len()];
            std::fs::File::open(&disk).unwrap().read_exact_at(&mut before, at).unwrap();
            write_at(&disk, at, &bytes);
            let fs = open(&file(&disk)).unwrap_or_else(|error| panic!("{mke2fs} {at:#x}: {error}"));
            same(&ours(&fs), &expected, mke2fs);
            let words = format!("its backup in group {group}");
            assert!(fs.facts().warnings[0].contains(&words), "{:?}", fs.facts().warnings);
            write_at(&disk, at, &before);
        }
        assert_eq!(open(&file(&disk)).unwrap().facts().warnings, Vec::<String>::new());
    }
}

#[test]
fn damaged_group_descriptors_are_read_from_their_backups() {
    requires!("root", "loop", "mke2fs");
    for (mke2fs, table) in [
        ("-t ext4 -b 1024", 2048),
        ("-t ext4 -b 4096", 4096),
        ("-t ext4 -b 4096 -O meta_bg,^resize_inode", 4096),
        ("-t ext3 -b 1024", 2048),
    ] {
        let dir = common::tempdir();
        let disk = spread(dir.path(), mke2fs);
        let expected = ours(&open(&file(&disk)).unwrap());
        write_at(&disk, table, &[0xff; 512]);
        let fs = open(&file(&disk)).unwrap();
        same(&ours(&fs), &expected, mke2fs);
        let warnings = fs.facts().warnings;
        assert!(warnings[0].contains("group descriptors are damaged"), "{warnings:?}");
    }
}

#[test]
fn what_only_looks_like_a_damaged_ext_is_not_taken_for_one() {
    requires!("mke2fs", "mkswap");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 300M {0}; mke2fs -q -F -t ext4 -b 4096 {0}", disk.display()));
    write_at(&disk, 1024, &[0; 1024]);
    write_at(&disk, 4096, &[0x55; 4096]);
    assert!(matches!(look(&file(&disk)), Ok(Content::Unknown)));
    // Swap space made over an ext4, of which all but the first page is left.
    common::sh(&format!("mke2fs -q -F -t ext4 -b 4096 {0}; mkswap -q {0} 2>/dev/null", disk.display()));
    assert!(matches!(look(&file(&disk)), Ok(Content::Known("swap"))));
    // Descriptors alone: there is no backup to read.
    common::sh(&format!("rm {0}; truncate -s 300M {0}; mke2fs -q -F -t ext4 -b 4096 {0}", disk.display()));
    write_at(&disk, 1024, &[0; 1024]);
    for group in [1, 3, 5, 7] {
        write_at(&disk, group * (128 << 20), &[0; 1024]);
    }
    common::sh(&format!("truncate -s 120M {}", disk.display()));
    assert_eq!(look(&file(&disk)).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// A wrong checksum of an inode, an extent node, a directory block, an index block or a block of attributes is an error, as
/// it is for the kernel; everything else goes on.
#[test]
fn wrong_checksums_are_refused_where_they_are() {
    requires!("root", "loop", "mke2fs", "debugfs");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 64M {0}; mke2fs -q -F -t ext4 -b 1024 {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    common::sh(&format!(
        "cd {}; mkdir few many; for n in $(seq 300); do echo > many/a-name-of-some-length-$n; done; echo > few/one; echo > sound
         for n in $(seq 0 30); do dd if=/dev/urandom of=holes bs=1K count=1 seek=$((n * 3)) conv=notrunc status=none; done
         echo x > attributes; python3 -c 'import os; os.setxattr(\"attributes\", \"user.x\", bytes(600))'; echo x > inode",
        mounted.at.display()
    ));
    drop(mounted);
    let ask = |command: &str| common::sh(&format!("debugfs -R '{command}' {} 2>/dev/null", disk.display()));
    let number = |text: &str, key: &str| -> u64 {
        let rest = text.split(key).nth(1).unwrap_or_else(|| panic!("{key} in {text}"));
        rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let blocks = |path: &str| -> Vec<u64> {
        ask(&format!("blocks {path}")).split_whitespace().map(|block| block.parse().unwrap()).collect()
    };
    let inode = |path: &str| {
        let at = ask(&format!("imap {path}"));
        let offset = u64::from_str_radix(at.split("offset 0x").nth(1).unwrap().trim(), 16).unwrap();
        number(&at, "located at block ") * 1024 + offset
    };
    let extents = ask("ex holes");
    // " 0/ 1   1/  1     0 -    90  4353     91": the block of the node below the root.
    let node: u64 = extents.lines().nth(1).unwrap().split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    type Fails = fn(&Fs) -> Result<()>;
    fn ino(fs: &Fs, name: &[u8]) -> Ino {
        fs.lookup(fs.root(), name).unwrap().unwrap()
    }
    let cases: [(&str, u64, Fails); 6] = [
        ("inode", inode("/inode") + 0x20 + 1, |fs| fs.stat(ino(fs, b"inode")).map(drop)),
        ("node", node * 1024 + 12 + 4, |fs| fs.read_at(ino(fs, b"holes"), &mut [0; 9000], 0).map(drop)),
        ("leaf", blocks("/few")[0] * 1024 + 900, |fs| entries(fs, ino(fs, b"few")).map(drop)),
        ("leaf of many", blocks("/many")[3] * 1024 + 900, |fs| entries(fs, ino(fs, b"many")).map(drop)),
        ("root of the index", blocks("/many")[0] * 1024 + 50, |fs| entries(fs, ino(fs, b"many")).map(drop)),
        ("attributes", number(&ask("stat /attributes"), "File ACL:") * 1024 + 200, |fs| {
            fs.xattrs(ino(fs, b"attributes")).map(drop)
        }),
    ];
    let clean = open(&file(&disk)).unwrap();
    let all = entries(&clean, ino(&clean, b"many")).unwrap().len();
    for (what, byte, fails) in cases {
        let clean = open(&file(&disk)).unwrap();
        fails(&clean).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut before = [0];
        std::fs::File::open(&disk).unwrap().read_exact_at(&mut before, byte).unwrap();
        write_at(&disk, byte, &[before[0] ^ 0x40]);
        let fs = open(&file(&disk)).unwrap();
        let error = fails(&fs).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        assert!(error.to_string().contains("checksum"), "{what}: {error}");
        assert!(fs.stat(ino(&fs, b"sound")).is_ok());
        // A bad block of a directory hides its own names and no others.
        if what == "leaf of many" {
            let mut names = 0;
            let listed = fs.readdir(ino(&fs, b"many"), 0, &mut |_| {
                names += 1;
                ControlFlow::Continue(())
            });
            assert!(listed.is_err() && names > all / 2 && names < all, "{names} of {all}");
            // Page by page, too, it does not end as if nothing were missing.
            let (mut from, mut paged) = (0, 0);
            let error = loop {
                let mut page = 0;
                let listed = fs.readdir(ino(&fs, b"many"), from, &mut |entry| {
                    (from, page) = (entry.next, page + 1);
                    if page == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                paged += page;
                if page < 20 {
                    break listed.expect_err("the end of a damaged directory");
                }
            };
            assert!(paged == names && error.to_string().contains("checksum"), "{paged} of {names}: {error}");
        }
        write_at(&disk, byte, &before);
    }
}

/// Over HTTP the reads are what a walk costs.
#[test]
fn a_walk_over_twenty_thousand_files_takes_few_reads() {
    requires!("root", "loop", "mke2fs", "python3");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 300M {0}; mke2fs -q -F -t ext4 -b 4096 -N 40000 {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    common::sh(&format!(
        "python3 -c 'import os\nfor d in range(200):\n os.mkdir(f\"{0}/{{d}}\")\n for n in range(100): open(f\"{0}/{{d}}/file-{{n}}\", \"w\").close()'",
        mounted.at.display()
    ));
    drop(mounted);
    let counting = Arc::new(Counting { volume: file(&disk), reads: AtomicU64::new(0) });
    let volume: Arc<dyn BlockSource> = Arc::<Counting>::clone(&counting);
    let fs = open(&volume).unwrap();
    let (mut paths, mut todo) = (0, vec![fs.root()]);
    while let Some(dir) = todo.pop() {
        for (_, ino, kind, _) in entries(&fs, dir).unwrap() {
            paths += 1;
            fs.stat(ino).unwrap();
            if kind == Some(FileType::Dir) {
                todo.push(ino);
            }
        }
    }
    let reads = counting.reads.load(Ordering::Relaxed);
    println!("{paths} paths, {reads} reads");
    assert!(paths > 20_000 && reads < 1000, "{reads} reads for {paths} paths");
}

/// Numbers of blocks past 32 bits of sectors, and a length past 2 TiB, with data here and there.
#[test]
fn a_sparse_file_over_two_terabytes() {
    requires!("root", "loop", "mke2fs", "python3");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 64M {0}; mke2fs -q -F -t ext4 -b 4096 {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    common::sh(&format!(
        "python3 -c 'import os\nsize = 12 << 40\nf = os.open(\"{}/huge\", os.O_CREAT | os.O_WRONLY); os.ftruncate(f, size)\nfor n in range(64): os.pwrite(f, b\"%d\" % n * 900, n * (size // 64) + 50)\nos.pwrite(f, b\"end\" * 20000, size - 60000)'",
        mounted.at.display()
    ));
    drop(mounted);
    let expected = kernel(&Mounted::new(&disk, "ro").at);
    same(&ours(&open(&file(&disk)).unwrap()), &expected, "12 TiB");
}
