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
        common::sh(&format!("for n in $(seq 3000); do {is_mounted} && exit 0; sleep 0.02; done; exit 1"));
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
    let (made, fs) = reads_as_ntfs3g("-c 4096", "200M", "large");

    // A walk takes few reads; a file one for each of its runs.
    let counting = Arc::new(Counting { volume: file(&made.disk), reads: AtomicU64::new(0) });
    let volume: Arc<dyn BlockSource> = Arc::<Counting>::clone(&counting);
    let counted = open(&volume).unwrap();
    let opening = counting.reads.swap(0, Ordering::Relaxed);
    assert!(opening < 40, "{opening} reads to open");
    let (mut todo, mut seen) = (vec![counted.root()], 0);
    while let Some(ino) = todo.pop() {
        seen += 1;
        if counted.stat(ino).unwrap().kind == FileType::Dir {
            todo.extend(entries(&counted, ino).unwrap().into_iter().map(|(_, ino, ..)| ino));
        }
    }
    let walked = counting.reads.swap(0, Ordering::Relaxed);
    // Names are not in the order of records here: some records are read again.
    assert!(seen > 6_000 && walked < 700, "{walked} reads for {seen} files");
    let islands = walk(&counted, "/islands");
    let size = counted.stat(islands).unwrap().size;
    let raw = std::fs::File::open(&made.disk).unwrap();
    let (mut at, mut stored) = (0, 0);
    while at < size {
        let run = counted.run_at(islands, at).unwrap();
        if let Place::Stored { file: 0, offset } = run.place {
            let (mut there, mut read) = (vec![0; run.len as usize], vec![1; run.len as usize]);
            raw.read_exact_at(&mut there, offset).unwrap();
            counted.read_at(islands, &mut read, at).unwrap();
            assert!(there == read, "at {at}");
            stored += 1;
        }
        at += run.len;
    }
    assert!(at == size && stored > 2000, "{stored} runs");
    counting.reads.store(0, Ordering::Relaxed);
    counted.read_at(islands, &mut vec![0; size as usize], 0).unwrap();
    let reads = counting.reads.load(Ordering::Relaxed);
    assert!(reads <= stored + 40, "{reads} reads for {stored} runs");

    // A listing goes on at every entry.
    for dir in ["/d3", "/d300", "/deleted"] {
        let dir = walk(&fs, dir);
        let all = entries(&fs, dir).unwrap();
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
}

#[test]
fn names_are_found_without_case_and_exactly_first() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g");
    let script = "mkdir d; for name in Case case CASE Über straße ΕΛΛΗΝΙΚΆ 'smile 😀'; do echo $name > \"d/$name\"; done";
    let made = made("-c 4096", "16M", "streams_interface=xattr", script);
    let fs = open(&file(&made.disk)).unwrap();
    assert!(fs.ignores_case());
    let read = |path: &str| {
        let mut buf = [0; 64];
        let len = fs.read_at(walk(&fs, path), &mut buf, 0).unwrap();
        String::from_utf8(buf[..len].to_vec()).unwrap().trim().to_owned()
    };
    for name in ["Case", "case", "CASE"] {
        assert_eq!(read(&format!("/D/{name}")), name);
    }
    assert_eq!(read("/d/cAsE").to_lowercase(), "case");
    assert_eq!(read("/d/üBER"), "Über");
    assert_eq!(read("/d/STRAßE"), "straße");
    assert_eq!(read("/d/Ελληνικά"), "ΕΛΛΗΝΙΚΆ");
    let d = walk(&fs, "/d");
    assert_eq!(fs.lookup(d, "STRASSE".as_bytes()).unwrap(), None);
    assert_eq!(fs.lookup(d, b"case\xff").unwrap(), None);
}

#[test]
fn streams_are_found_by_name_and_not_listed() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g");
    let script = "echo content > file; mkdir dir; printf one > file:first; head -c 300000 /dev/zero | tr '\\0' x > file:Second
        printf three > dir:third";
    let made = made("-c 4096", "16M", "streams_interface=windows", script);
    let fs = open(&file(&made.disk)).unwrap();
    let look = |name: &str| fs.lookup(fs.root(), name.as_bytes()).unwrap();
    let read = |name: &str| {
        let ino = look(name).unwrap_or_else(|| panic!("{name}"));
        let mut buf = vec![0; fs.stat(ino).unwrap().size as usize];
        assert_eq!(fs.read_at(ino, &mut buf, 0).unwrap(), buf.len());
        buf
    };
    assert_eq!(read("file"), b"content\n");
    assert_eq!(read("file::$DATA"), b"content\n");
    assert_eq!(read("file:first"), b"one");
    assert_eq!(read("FILE:FIRST:$data"), b"one");
    assert!(read("file:second") == vec![b'x'; 300_000]);
    assert_eq!(read("dir:third"), b"three");
    assert_eq!(fs.lookup(look("dir").unwrap(), b":third").unwrap(), look("dir:third"));
    assert_eq!((look("file:none"), look("none:first")), (None, None));
    let stream = look("file:first").unwrap();
    assert_eq!((stream.0 >> 48, stream.0 & 0xffff_ffff), (1, look("file").unwrap().0));
    assert_eq!(fs.stat(stream).unwrap().kind, FileType::File);
    assert_eq!(fs.stat(look("dir:third").unwrap()).unwrap().kind, FileType::File);
    let names = entries(&fs, fs.root()).unwrap();
    assert!(names.iter().all(|(name, ..)| !name.starts_with(b"file:")));

    // The file system's own files are there for who asks, and listed for who wants it.
    assert!(names.iter().any(|(name, ..)| name == b"$MFT"));
    let mapper = Mapper::new(Arc::new(Cache::new(1 << 20)));
    let budget = Budget::new(Limits::OPEN);
    let cx = FsCx {
        budget: &budget,
        mapper: &mapper,
        journal: Journal::Replay,
        is_one_of_copies: false,
        shows_meta: false,
    };
    let Content::Files(fs) = imgmount::fs::detect(&file(&made.disk), &cx).unwrap() else { panic!() };
    let names: Vec<Vec<u8>> = entries(&fs, fs.root()).unwrap().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, [b"dir".to_vec(), b"file".to_vec()]);
    for (name, number) in [("$MFT", 0), ("$UpCase", 10), ("$extend", 11)] {
        assert_eq!(fs.lookup(fs.root(), name.as_bytes()).unwrap(), Some(Ino(number)));
    }
    assert_eq!(entries(&fs, Ino(11)).unwrap().len(), 0);
}

/// A small volume with directories of one and several blocks, and a file in many pieces.
fn small() -> Vec<u8> {
    let script = "mkdir -p a/b; for n in $(seq 120); do echo $n > \"a/a rather long name $n\"; done
        for n in $(seq 30); do head -c 3000 /dev/urandom >> a/b/one; head -c 3000 /dev/urandom >> a/b/two; sync a/b/one a/b/two; done
        truncate -s 3000000 a/b/sparse; echo end >> a/b/sparse";
    std::fs::read(&made("-c 512", "8M", "streams_interface=xattr", script).disk).unwrap()
}

fn in_memory(image: &[u8]) -> Arc<dyn BlockSource> {
    Arc::new(Memory::new(image.to_vec(), "disk"))
}

/// Where the MFT begins, and its mirror.
fn mft_and_mirror(image: &[u8]) -> (usize, usize) {
    let lcn = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap()) as usize * 512;
    (lcn(0x30), lcn(0x38))
}

#[test]
fn copies_serve_where_the_first_is_damaged_and_damage_costs_its_file_alone() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g");
    let clean = small();
    let (mft, mirror) = mft_and_mirror(&clean);
    assert_eq!(&clean[mft..mft + 4], b"FILE");
    assert_eq!(&clean[mirror..mirror + 4], b"FILE");
    let expected = ours(&open(&in_memory(&clean)).unwrap());

    // The mirror's records are those of the MFT, its mirror, the log and the volume.
    let mut image = clean.clone();
    image[mft..mft + 4096].fill(0);
    let fs = open(&in_memory(&image)).unwrap();
    let of_users = |listing: &Listing| -> Listing {
        listing
            .iter()
            .filter(|(path, _)| !path.starts_with(b"/$"))
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect()
    };
    same(&of_users(&ours(&fs)), &of_users(&expected), "by the mirror");
    assert!(fs.facts().warnings.iter().any(|line| line.contains("mirror")), "{:?}", fs.facts().warnings);

    // The last sector has a copy of the first.
    let mut image = clean.clone();
    image[..512].fill(0);
    let fs = open(&in_memory(&image)).unwrap();
    assert!(fs.facts().warnings.iter().any(|line| line.contains("boot sector")));
    assert_eq!(of_users(&ours(&fs)).len(), of_users(&expected).len());
    let mut image = clean.clone();
    image[0x0d] = 3;
    open(&in_memory(&image)).unwrap();

    // A record whose second half was not written, and one that is marked as such.
    let fs = open(&in_memory(&clean)).unwrap();
    let torn = walk(&fs, "/a/a rather long name 7");
    let marked = walk(&fs, "/a/a rather long name 8");
    let mut image = clean.clone();
    image[mft + torn.0 as usize * 1024 + 1022] ^= 0x55;
    image[mft + marked.0 as usize * 1024..][..4].copy_from_slice(b"BAAD");
    let fs = open(&in_memory(&image)).unwrap();
    for ino in [torn, marked] {
        let error = fs.stat(ino).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("torn"), "{error}");
    }
    let all = entries(&fs, walk(&fs, "/a")).unwrap();
    assert_eq!(all.len(), 121);
    assert_eq!(all.iter().filter(|(_, ino, ..)| fs.stat(*ino).is_err()).count(), 2);

    // A record that was used again: the name leads to an error, not to another file.
    let stale = walk(&fs, "/a/a rather long name 9");
    image[mft + stale.0 as usize * 1024 + 0x10] ^= 1;
    let fs = open(&in_memory(&image)).unwrap();
    let error = fs.lookup(walk(&fs, "/a"), b"a rather long name 9").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");

    // A damaged block of an index: the names in the others are listed, then it is said.
    let at = (0..image.len()).step_by(512).filter(|at| image[*at..].starts_with(b"INDX"));
    let block = at
        .max_by_key(|at| image[*at..*at + 4096].windows(8).filter(|w| *w == b"l\0o\0n\0g\0").count())
        .unwrap();
    image[block + 510] ^= 0x55;
    let fs = open(&in_memory(&image)).unwrap();
    let mut names = 0;
    let error = fs.readdir(Ino(all_parent(&clean)), 0, &mut |_| {
        names += 1;
        ControlFlow::Continue(())
    });
    assert!(error.unwrap_err().to_string().contains("torn"));
    assert!((20..121).contains(&names), "{names}");
}

/// The directory `/a` of [`small`].
fn all_parent(clean: &[u8]) -> u64 {
    walk(&open(&in_memory(clean)).unwrap(), "/a").0
}

#[test]
fn mutants_end_in_errors_and_soon() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g");
    let image = small();
    let (mft, mirror) = mft_and_mirror(&image);
    let mut stretches = vec![(0, 84), (mft as u64, 12 * 1024), (mft as u64 + 64 * 1024, 20 * 1024)];
    stretches.push((mirror as u64, 4096));
    let blocks = (0..image.len()).step_by(512).filter(|at| image[*at..].starts_with(b"INDX"));
    stretches.extend(blocks.map(|at| (at as u64, 600)));
    let (done, failed) = mutate(image, &stretches, mutants(300), 1);
    println!("{done} operations worked, {failed} failed");
    assert!(done > 3000 && failed > 100, "the damage was not met: {done} {failed}");
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

/// Where a record of [`small`] begins, and the attribute of this type in it.
fn attribute(image: &[u8], record: u64, kind: u8) -> usize {
    let record = mft_and_mirror(image).0 + record as usize * 1024;
    let mut at = record + usize::from(image[record + 0x14]);
    while image[at..at + 4] != [kind, 0, 0, 0] {
        assert!(image[at] != 0xff, "record {record:#x} has no attribute {kind:#x}");
        at += u32::from_le_bytes(image[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    at
}

#[test]
fn names_in_blocks_that_the_bitmap_does_not_know_are_missed() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g");
    let clean = small();
    let dir = Ino(all_parent(&clean));
    let bitmap = attribute(&clean, dir.0, 0xb0);
    let bits = bitmap + usize::from(clean[bitmap + 0x14]);
    assert!(clean[bitmap + 8] == 0 && clean[bits].count_ones() > 3, "{:#x}", clean[bits]);
    // One block, then all of them: as when a directory's blocks were written home, and its record was not.
    for left in [clean[bits] & !2, 0] {
        let mut image = clean.clone();
        image[bits] = left;
        let fs = open(&in_memory(&image)).unwrap();
        let mut names = 0;
        let listed = fs.readdir(dir, 0, &mut |_| {
            names += 1;
            ControlFlow::Continue(())
        });
        assert!(names < 121, "{names}");
        let error = listed.unwrap_err();
        assert!(error.to_string().contains("bitmap"), "{error}");
        for n in 1..=120 {
            assert!(fs.lookup(dir, format!("a rather long name {n}").as_bytes()).unwrap().is_some(), "{n}");
        }
    }
}

#[test]
fn an_mft_that_is_damaged_on_its_way_shows_what_can_be_found() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "ntfsinfo", "python3");
    // Places of two clusters each are left for the MFT to grow in.
    let script = "python3 -c '
import os
files = 0
try:
    while True:
        with open(f\"a{files}\", \"wb\") as file:
            file.write(bytes(1000))
        files += 1
except OSError:
    pass
for n in range(0, files, 2):
    os.truncate(f\"a{n}\", 0)
try:
    for n in range(4000):
        with open(f\"b{n}\", \"wb\") as file:
            file.write(b\"resident\")
except OSError:
    pass
'";
    let made = made("-c 512", "8M", "streams_interface=xattr", script);
    let said = common::sh(&format!("ntfsinfo -i 0 {}", made.disk.display()));
    let piece = said.lines().rfind(|line| line.contains("$DATA (0x80)")).unwrap();
    let piece: usize = piece.split("mft record ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(piece != 0, "the MFT is in one piece: {said}");
    let mut image = std::fs::read(&made.disk).unwrap();
    let fs = open(&in_memory(&image)).unwrap();
    let all = entries(&fs, fs.root()).unwrap();
    assert!(all.iter().all(|(_, ino, ..)| fs.stat(*ino).is_ok()) && fs.facts().warnings.is_empty());

    let mft = mft_and_mirror(&image).0;
    image[mft + piece * 1024] = b'X';
    let fs = open(&in_memory(&image)).unwrap();
    let warnings = fs.facts().warnings;
    let from = warnings.iter().find_map(|warning| warning.split("from record ").nth(1)).unwrap();
    let first: u64 = from.split(' ').next().unwrap().parse().unwrap();
    let numbers: BTreeMap<u64, Vec<u8>> = all.into_iter().map(|(name, ino, ..)| (ino.0, name)).collect();
    let lost = numbers.range(first..).count();
    assert!(lost > 0 && numbers.len() - lost > 1000, "{lost} of {} lost", numbers.len());
    for (number, name) in numbers {
        let stat = fs.stat(Ino(number));
        assert!(stat.is_ok() == (number < first), "{}: {stat:?}", name.escape_ascii());
    }
}

#[test]
fn streams_have_names_whether_they_can_be_read_or_not() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g");
    let script = "echo 1 > secret; printf two > secret:two; printf three > secret:three; echo > many
        for n in $(seq 280); do head -c 65536 /dev/zero > many:$n; done";
    let made = made("-c 512", "32M", "streams_interface=windows", script);
    let mut image = std::fs::read(&made.disk).unwrap();
    let fs = open(&in_memory(&image)).unwrap();
    // What was encrypted by EFS: its streams are, too.
    let secret = walk(&fs, "/secret");
    let mut at = attribute(&image, secret.0, 0x80);
    while image[at + 9] == 0 || image[at + usize::from(image[at + 0xa]) + 2] != b'w' {
        at += u32::from_le_bytes(image[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    image[at + 0xd] |= 0x40;
    let fs = open(&in_memory(&image)).unwrap();
    let mut names = fs.xattr_names(secret).unwrap();
    names.sort();
    assert_eq!(names, [b"user.three".to_vec(), b"user.two".to_vec()]);
    assert_eq!(fs.xattr(secret, b"user.three").unwrap(), Some(b"three".to_vec()));
    assert_eq!(fs.xattr(secret, b"user.two").unwrap_err().kind(), ErrorKind::Encrypted);
    assert_eq!(fs.xattrs(secret).unwrap_err().kind(), ErrorKind::Encrypted);

    // Ten thousand of 64 KiB would take half a GiB at once.
    let many = walk(&fs, "/many");
    assert_eq!(fs.xattr_names(many).unwrap().len(), 280);
    assert_eq!(fs.xattr(many, b"user.280").unwrap(), Some(vec![0; 65536]));
    assert_eq!(fs.xattrs(many).unwrap_err().kind(), ErrorKind::Limit);
}
