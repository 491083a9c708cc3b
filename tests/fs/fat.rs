//! FAT12, FAT16 and FAT32: written by `mkfs.vfat` and mtools, checked by `fsck.fat`, compared with what was copied in.

use super::*;

/// Names of every kind, a directory of hundreds, a long file in pieces. `$1` is where.
const TREE: &str = r#"
set -e
mkdir -p "$1" && cd "$1"
mkdir -p a/b/c "A Directory With A Long Name" VOID d300
for n in $(seq 300); do echo "$n" > "d300/file number $n.txt"; done
echo upper > README.TXT; echo lower > readme.md; echo mixed > MiXeD.TxT
echo dot > .hidden; echo two > a.b.c; echo plus > 'a+b=c,d;e[f].x'
echo name > 'über größer ÄÖÜ ñandú.txt'; echo greek > 'Ελληνικά'; echo cjk > '日本語の名前.txt'
echo long > "$(printf 'x%.0s' $(seq 255))"; echo thirteen > thirteenchars; echo 26 > abcdefghijklmnopqrstuvwxyz
: > empty; head -c 512 /dev/urandom > sector; head -c 100000 /dev/urandom > a/b/c/big
touch -d '1980-01-01 00:00:00 UTC' a/oldest; touch -d '2097-12-31 23:59:58 UTC' a/newest; touch -d '2024-02-29 12:34:56 UTC' a/leap
"#;

/// A FAT made with these arguments, and the directory that was copied into it.
fn made(mkfs: &str, size: &str) -> (Made, PathBuf) {
    let dir = common::tempdir();
    let (disk, tree) = (dir.path().join("disk"), dir.path().join("tree"));
    // Every other of the small files is deleted, so what comes then lies in pieces; FAT32 must forget its hint for that.
    let script = format!(
        "export TZ=UTC MTOOLS_SKIP_CHECK=1 MTOOLSRC=/dev/null LC_ALL=C.UTF-8
        mkfs.vfat {mkfs} -n 'A LABEL' -i 1234ABCD -C {disk} {size} >/dev/null
        bash -c '{tree_script}' - {tree}
        cd {tree}; mcopy -m -s -i {disk} ./* .hidden ::
        head -c 4096 /dev/zero > {disk}.small
        for n in $(seq 80); do mcopy -i {disk} {disk}.small ::small$n; done
        for n in $(seq 1 2 80); do mdel -i {disk} ::small$n; done
        case '{mkfs}' in '-F 32 -s 1') printf '\\377\\377\\377\\377' | dd of={disk} bs=1 seek=1004 conv=notrunc status=none;; esac
        head -c 300000 /dev/urandom > pieces; touch -d '2024-05-05 05:05:04 UTC' pieces; mcopy -m -i {disk} pieces ::
        for n in $(seq 2 2 80); do mdel -i {disk} ::small$n; done
        mattrib +r -i {disk} ::sector
        fsck.fat -n {disk} >&2",
        disk = disk.display(),
        tree = tree.display(),
        tree_script = TREE.replace('\'', "'\\''"),
    );
    common::sh(&script);
    (Made { disk, _dir: dir }, tree)
}

fn reads_as_written(mkfs: &str, size: &str, version: &str) -> (Made, Fs) {
    let (made, tree) = made(mkfs, size);
    let fs = open(&file(&made.disk)).unwrap();
    let expected = kernel(&tree);
    same(&bare(&ours(&fs)), &bare(&expected), mkfs);
    assert!(expected.len() > 320, "the tree was not made");

    for (path, line) in &expected {
        let ino = find(&fs, path);
        let stat = fs.stat(ino).unwrap();
        let is_root = path == b"/";
        let seconds: i64 = line.split(" m ").nth(1).unwrap().split('.').next().unwrap().parse().unwrap();
        if stat.kind == FileType::File {
            assert!((0..2).contains(&(seconds - stat.mtime.secs)), "{}: {stat:?}", path.escape_ascii());
            let mode = if path == b"/sector" { 0o555 } else { 0o755 };
            assert_eq!((stat.mode, stat.nlink, stat.uid), (mode, 1, 0), "{}", path.escape_ascii());
        } else {
            let links = line.split(" links ").nth(1).unwrap().split(' ').next().unwrap();
            assert_eq!(stat.nlink.to_string(), links, "{}", path.escape_ascii());
            assert!(stat.mode == 0o755 && stat.size > 0 && (is_root || stat.btime.is_some()));
        }
    }

    let facts = fs.facts();
    same_as_blkid(&fs, &common::sh(&format!("blkid -p -o export {}", made.disk.display())), mkfs);
    assert_eq!((facts.features.join(" "), facts.state), (version.to_owned(), State::Clean));
    assert_eq!(facts.warnings, [""; 0]);
    let said = common::sh(&format!("fsck.fat -n -v {}", made.disk.display()));
    // "/disk: 332 files, 415/16343 clusters"
    let counts = said.lines().last().unwrap().rsplit(' ').nth(1).unwrap().split_once('/').unwrap();
    let free = counts.1.parse::<u64>().unwrap() - counts.0.parse::<u64>().unwrap();
    let cluster = u64::from(fs.stat(fs.root()).unwrap().blksize);
    assert_eq!(fs.free().unwrap(), free * cluster, "{said}");
    (made, fs)
}

fn find(fs: &Fs, path: &[u8]) -> Ino {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .fold(fs.root(), |dir, name| fs.lookup(dir, name).unwrap().unwrap())
}

macro_rules! variants {
    ($($name:ident: $mkfs:expr, $size:expr, $version:expr;)*) => {$(
        #[test]
        fn $name() {
            requires!("mkfs.vfat", "mcopy", "fsck.fat", "blkid");
            reads_as_written($mkfs, $size, $version);
        }
    )*};
}

variants! {
    fat12_with_its_root_in_front: "-F 12", "2880", "FAT12";
    fat12_at_its_most_clusters: "-F 12 -s 2 -r 1024", "4096", "FAT12";
    fat16_with_small_clusters: "-F 16 -s 1", "8192", "FAT16";
    fat16_with_one_table: "-F 16 -f 1 -s 4", "20480", "FAT16";
    fat32_with_sectors_of_4k: "-F 32 -S 4096 -s 1", "300000", "FAT32";
    fat32_with_large_clusters: "-F 32 -s 128 -R 64", "5000000", "FAT32";
}

#[test]
fn fat32_in_pieces_is_read_from_any_place() {
    requires!("mkfs.vfat", "mcopy", "fsck.fat", "blkid");
    let (made, fs) = reads_as_written("-F 32 -s 1", "65536", "FAT32");
    let raw = std::fs::File::open(&made.disk).unwrap();
    let ino = find(&fs, b"/pieces");
    let mut whole = vec![0; 300_000];
    assert_eq!(fs.read_at(ino, &mut whole, 0).unwrap(), 300_000);
    let mut at = 0;
    let mut runs = 0;
    while at < 300_000 {
        let run = fs.run_at(ino, at).unwrap();
        let Place::Stored { file: 0, offset } = run.place else { panic!("{run:?}") };
        let mut there = vec![0; run.len as usize];
        raw.read_exact_at(&mut there, offset).unwrap();
        assert!(there == whole[at as usize..(at + run.len) as usize], "at {at}");
        at += run.len;
        runs += 1;
    }
    assert!(at == 300_000 && runs > 30, "{runs} runs");
    assert_eq!(fs.run_at(ino, 300_000).unwrap_err().kind(), ErrorKind::OutOfRange);
    let mut random = Random(3);
    for _ in 0..500 {
        let at = random.below(310_000);
        let mut buf = vec![0xaa; random.below(5000) as usize];
        let len = fs.read_at(ino, &mut buf, at).unwrap();
        let expected = &whole[(at as usize).min(300_000)..(at as usize + buf.len()).min(300_000)];
        assert!(buf[..len] == *expected, "at {at}");
    }
    let d300 = find(&fs, b"/d300");
    let all = entries(&fs, d300).unwrap();
    for (n, (.., next)) in all.iter().enumerate() {
        let mut first = None;
        let mut take = |entry: imgmount::fs::DirEntry<'_>| {
            first = Some(entry.name.to_vec());
            ControlFlow::Break(())
        };
        fs.readdir(d300, *next, &mut take).unwrap();
        assert_eq!(first, all.get(n + 1).map(|(name, ..)| name.clone()));
    }
}

#[test]
fn case_means_nothing_and_short_names_are_found() {
    requires!("mkfs.vfat", "mcopy", "fsck.fat", "blkid");
    let (_made, fs) = reads_as_written("-F 16", "16384", "FAT16");
    assert!(fs.ignores_case());
    let same = |a: &str, b: &str| assert_eq!(find(&fs, a.as_bytes()), find(&fs, b.as_bytes()), "{a} {b}");
    same("/readme.txt", "/README.TXT");
    same("/ReadMe.MD", "/readme.md");
    same("/ÜBER GRÖßER äöü ÑANDÚ.TXT", "/über größer ÄÖÜ ñandú.txt");
    same("/ADIREC~1", "/A Directory With A Long Name");
    same("/README.TXT...", "/README.TXT");
}

#[test]
fn a_far_place_of_a_long_file_takes_few_reads() {
    requires!("mkfs.vfat", "mcopy");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!(
        "mkfs.vfat -F 32 -s 1 -C {0} 120000 >/dev/null; truncate -s 100M {0}.zeros; mcopy -i {0} {0}.zeros ::long",
        disk.display()
    ));
    let counting = Arc::new(Counting { volume: file(&disk), reads: AtomicU64::new(0) });
    let volume: Arc<dyn BlockSource> = Arc::<Counting>::clone(&counting);
    let fs = open(&volume).unwrap();
    let ino = find(&fs, b"/long");
    let mut buf = vec![0xaa; 4096];
    fs.read_at(ino, &mut buf, (100 << 20) - 4096).unwrap();
    // 204,800 clusters of 512 bytes: 800 KiB of table, in pieces of 64 KiB.
    let first = counting.reads.swap(0, Ordering::Relaxed);
    assert!((13..20).contains(&first), "{first}");
    let mut random = Random(1);
    for _ in 0..100 {
        fs.read_at(ino, &mut buf, random.below(100 << 20) / 4096 * 4096).unwrap();
    }
    let rest = counting.reads.load(Ordering::Relaxed);
    assert!(rest <= 102, "{rest} reads for 100 places");
}

#[test]
fn marks_of_use_and_of_errors_are_said() {
    requires!("mkfs.vfat");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("mkfs.vfat -F 32 -C {} 65536 >/dev/null", disk.display()));
    let clean = Arc::new(Memory::new(std::fs::read(&disk).unwrap(), "disk"));
    let with = |changes: Vec<(u64, u8)>| -> Arc<dyn BlockSource> {
        Arc::new(Mutant { clean: Arc::clone(&clean), changes })
    };
    let fat = 32 * 512;
    for (change, state, word) in [
        ((0x41, 1), State::Dirty, "was not unmounted"),
        ((fat + 7, 0x07), State::Dirty, "was not unmounted"),
        ((fat + 7, 0x0b), State::Errors, "read errors"),
    ] {
        let facts = open(&with(vec![change])).unwrap().facts();
        assert_eq!(facts.state, state, "{change:?}");
        assert!(facts.warnings[0].contains(word), "{:?}", facts.warnings);
    }
}

/// Linux `fs/fat` never looks at the flags that name the active FAT.
#[test]
fn the_first_fat_is_read_whatever_the_flags_say() {
    requires!("mkfs.vfat");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("mkfs.vfat -F 32 -C {} 65536 >/dev/null", disk.display()));
    let mut image = std::fs::read(&disk).unwrap();
    image[40] = 0x81;
    // Without the second one the root directory, which is in clusters, would have no end.
    let sectors = u32::from_le_bytes(image[36..40].try_into().unwrap()) as usize;
    image[(32 + sectors) * 512..][..sectors * 512].fill(0);
    let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));
    let fs = open(&volume).unwrap();
    assert_eq!(entries(&fs, fs.root()).unwrap().len(), 0);
    let warnings = fs.facts().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("the first is read"), "{warnings:?}");
}

#[test]
fn free_clusters_are_counted_when_asked_for_and_once() {
    requires!("mkfs.vfat");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("mkfs.vfat -F 32 -s 1 -C {} 65536 >/dev/null", disk.display()));
    let mut image = std::fs::read(&disk).unwrap();
    let noted = u32::from_le_bytes(image[512 + 488..][..4].try_into().unwrap());
    image[512 + 488..][..4].fill(0xff);
    let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));
    let counting = Arc::new(Counting { volume, reads: AtomicU64::new(0) });
    let reads = || counting.reads.load(Ordering::Relaxed);
    let fs = open(&(Arc::<Counting>::clone(&counting) as Arc<dyn BlockSource>)).unwrap();
    assert_eq!(fs.facts().free, None);
    let before = reads();
    // A table of half a MiB is read in pieces of 64 KiB.
    assert!(before < 8, "{before} reads");
    assert_eq!(fs.free().unwrap(), u64::from(noted) * 512);
    let counted = reads();
    assert!(counted >= before + 6, "{counted} reads");
    fs.free().unwrap();
    assert_eq!(reads(), counted);
}

#[test]
fn what_only_looks_like_a_fat_is_none() {
    requires!("mkfs.vfat", "mkfs.exfat");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("mkfs.vfat -F 16 -C {} 16384 >/dev/null", disk.display()));
    let image = std::fs::read(&disk).unwrap();
    let with = |at: usize, bytes: &[u8]| -> Arc<dyn BlockSource> {
        let mut image = image.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        Arc::new(Memory::new(image, "disk"))
    };
    assert_eq!(open(&with(0, &[])).unwrap().facts().kind, "vfat");
    for (at, bytes) in [
        (54, &b"HPFS    "[..]), // OS/2 puts a FAT's fields in front of its own
        (54, b"JFS     "),
        (3, b"NTFS    "),
        (510, b"\0\0"),
        (11, b"\0\0"), // an MBR's code, or zeros, where the fields would be
        (13, b"\x03"),
        (16, b"\0"),
        (21, b"\x10"),
        (0, b"\x33\xc0"), // an MBR of Windows
    ] {
        let seen = look(&with(at, bytes));
        assert!(!matches!(seen, Ok(Content::Files(_))), "{at} {bytes:?}: {seen:?}");
    }
}

#[test]
fn samples_of_others_have_the_label_and_number_that_blkid_gives() {
    requires!("corpus", "xz", "blkid");
    let count = samples_are_what_blkid_said("util-linux/ts_blkid_images-fs_fat")
        + samples_are_what_blkid_said("util-linux/ts_blkid_images-fs_small-fat32")
        + samples_are_what_blkid_said("cryptsetup/img_fs_vfat");
    assert!(count >= 20, "{count}");
}

#[test]
fn damaged_ones_end_in_errors_and_soon() {
    requires!("mkfs.vfat", "mcopy");
    for (seed, mkfs, size, fat, data) in [
        (1, "-F 12 -s 1 -f 1 -r 16", "1024", 512, 512 + 6 * 512),
        (2, "-F 16 -s 1 -f 1 -r 16", "4096", 512 * 4, 512 * 36),
        (3, "-F 32 -s 1 -f 1 -R 2", "40000", 1024, 1024 + 620 * 512),
    ] {
        let dir = common::tempdir();
        let disk = dir.path().join("disk");
        common::sh(&format!(
            "export MTOOLS_SKIP_CHECK=1; mkfs.vfat {mkfs} -C {0} {size} >/dev/null 2>&1; cd $(dirname {0}); mkdir -p t/a/b/c
            for n in $(seq 20); do echo $n > \"t/a/a rather long name $n\"; done; head -c 30000 /dev/urandom > t/a/b/big
            mcopy -s -i {0} t/* ::",
            disk.display()
        ));
        let image = std::fs::read(&disk).unwrap();
        let stretches = [(11, 80), (fat, 300), (data, 512), (data + 512, 2048)];
        let (done, failed) = mutate(image, &stretches, mutants(300), seed);
        assert!(done > 3000 && failed > 100, "the damage was not met: {done} {failed}");
    }
}
