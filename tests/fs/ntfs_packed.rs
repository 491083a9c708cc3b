//! What NTFS stores packed: files that ntfs-3g packed by LZNT1, and files packed as Windows' overlay filter does, by
//! wimlib's compressors. Files are named here as ntfs-3g numbers them.

use super::*;
use std::process::{Child, Command, Stdio};

/// A mount by ntfs-3g, undone when dropped: then the disk is written.
struct Served {
    server: Child,
    at: PathBuf,
}

impl Served {
    fn new(disk: &Path, options: &str) -> Self {
        let at = disk.with_extension("served");
        std::fs::create_dir_all(&at).unwrap();
        let device = std::fs::metadata(&at).unwrap().dev();
        let server = Command::new("ntfs-3g")
            .args(["-o", &format!("no_detach,{options}")])
            .args([disk, &at])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut served = Self { server: server.unwrap(), at };
        while std::fs::metadata(&served.at).unwrap().dev() == device {
            assert!(served.server.try_wait().unwrap().is_none(), "ntfs-3g does not mount");
            std::thread::sleep(Duration::from_millis(5));
        }
        served
    }

    /// Has `tests/make/wof.py` make these files, in `dir` of the volume; the number of each one's record.
    fn make(&self, what: &str, dir: &str, plain: &Path) -> BTreeMap<String, Ino> {
        std::fs::create_dir_all(plain).unwrap();
        let script = common::root().join("tests/make/wof.py");
        let at = self.at.join(dir);
        let said =
            common::sh(&format!("python3 {} {what} {} {}", script.display(), at.display(), plain.display()));
        let file = |line: &str| {
            let (name, number) = line.split_once(' ').unwrap();
            (name.to_owned(), Ino(number.parse().unwrap()))
        };
        said.lines().map(file).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.at).status());
        drop(self.server.wait());
    }
}

/// A volume with files that are packed.
struct Packed {
    disk: PathBuf,
    plain: PathBuf,
    files: BTreeMap<String, Ino>,
    _dir: tempfile::TempDir,
}

impl Packed {
    /// Formatted with these arguments, and filled with what `wof.py` makes.
    fn new(mkntfs: &str, size: &str, what: &str) -> Self {
        let dir = common::tempdir();
        let (disk, plain) = (dir.path().join("disk"), dir.path().join("plain"));
        common::sh(&format!("truncate -s {size} {0}; mkntfs -F -Q {mkntfs} {0} >&/dev/null", disk.display()));
        let served = Served::new(&disk, "compression,streams_interface=windows");
        let packed = served.at.join("packed");
        std::fs::create_dir(&packed).unwrap();
        if what == "compressed" {
            // FILE_ATTRIBUTE_COMPRESSED, for files that are made in there.
            let flags = 0x800_u32.to_be_bytes();
            rustix::fs::setxattr(&packed, "system.ntfs_attrib_be", &flags, rustix::fs::XattrFlags::empty())
                .unwrap();
        }
        let files = served.make(what, "packed", &plain);
        drop(served);
        Self { disk, plain, files, _dir: dir }
    }

    fn open(&self) -> Fs {
        open(&file(&self.disk)).unwrap()
    }

    fn plain(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.plain.join(name)).ok()
    }
}

/// All of a file in one read.
fn whole(fs: &Fs, ino: Ino) -> Result<Vec<u8>> {
    let mut bytes = vec![0xaa; fs.stat(ino)?.size as usize];
    let len = fs.read_at(ino, &mut bytes, 0)?;
    assert_eq!(len, bytes.len());
    Ok(bytes)
}

/// Reads at odd places, of odd lengths, also past the end, on a file system that has read nothing yet.
fn reads_agree(packed: &Packed, names: &[&str]) {
    let fs = packed.open();
    let mut random = Random(11);
    for name in names {
        let (plain, ino) = (packed.plain(name).unwrap(), packed.files[*name]);
        for _ in 0..60 {
            let at = random.below(plain.len() as u64 + 5000) as usize;
            let mut got = vec![0xaa; random.below(90_000) as usize];
            let expected = plain.get(at..).unwrap_or_default();
            let expected = &expected[..got.len().min(expected.len())];
            assert_eq!(fs.read_at(ino, &mut got, at as u64).unwrap(), expected.len(), "{name} at {at}");
            assert!(got[..expected.len()] == *expected, "{name} at {at}");
        }
    }
}

/// Follows `run_at` to the end of a file: what is stored as it is, is there. Counts packed, stored and empty runs.
fn runs(packed: &Packed, fs: &Fs, name: &str) -> [usize; 3] {
    let (raw, plain) = (std::fs::File::open(&packed.disk).unwrap(), packed.plain(name).unwrap());
    let mut counts = [0; 3];
    let mut at = 0;
    while at < plain.len() {
        let run = fs.run_at(packed.files[name], at as u64).unwrap();
        let here = &plain[at..][..(run.len as usize).min(plain.len() - at)];
        match run.place {
            Place::Packed { file: 0, stored, skip: 0, .. } => {
                assert!(stored > 0 && stored < run.len.next_multiple_of(4096), "{name} at {at}");
                counts[0] += 1;
            }
            Place::Stored { file: 0, offset } => {
                let mut there = vec![0; here.len()];
                raw.read_exact_at(&mut there, offset).unwrap();
                assert!(there == here, "{name} at {at}");
                counts[1] += 1;
            }
            Place::Hole | Place::Zero => {
                assert!(here.iter().all(|byte| *byte == 0), "{name} at {at}");
                counts[2] += 1;
            }
            other => panic!("{name} at {at}: {other:?}"),
        }
        at += run.len as usize;
    }
    let end = fs.run_at(packed.files[name], plain.len() as u64);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::OutOfRange);
    counts
}

/// Files that `wof.py fill` makes: for each of four methods, and two large ones.
const WOF_FILES: usize = 4 * (8 + 2 + 2 + 2 + 2 + 1) + 2;

/// Every file of a volume that ntfs-3g packed reads as what was written.
fn lznt1(mkntfs: &str, size: &str) -> Packed {
    let packed = Packed::new(mkntfs, size, "compressed");
    let fs = packed.open();
    assert_eq!(packed.files.len(), 5 * 8 + 4);
    for (name, ino) in &packed.files {
        assert!(whole(&fs, *ino).unwrap() == packed.plain(name).unwrap(), "{mkntfs}: {name}");
    }
    reads_agree(
        &packed,
        &["patched", "first", "second", "sparse", "mixed-65537", "text-300000", "code-4097"],
    );
    packed
}

#[test]
fn lznt1_with_clusters_of_512_bytes() {
    requires!("root", "fuse", "ntfs-3g", "mkntfs", "python3");
    lznt1("-c 512", "40M");
}

#[test]
fn lznt1_with_clusters_of_4_kib() {
    requires!("root", "fuse", "ntfs-3g", "mkntfs", "python3");
    let packed = lznt1("-c 4096", "40M");
    let fs = packed.open();
    let [in_units, plain, empty] = runs(&packed, &fs, "patched");
    assert!(in_units > 3 && plain > 2 && empty > 0, "{in_units} {plain} {empty}");
    assert!(runs(&packed, &fs, "sparse")[2] > 2);
    assert_eq!(runs(&packed, &fs, "noise-65536"), [0, 1, 0]);
    reads_of_a_megabyte_are_few(&packed);
    damage_is_an_error_or_what_ntfs_3g_makes_of_it(&packed);
}

fn reads_of_a_megabyte_are_few(packed: &Packed) {
    let counting = Arc::new(Counting { volume: file(&packed.disk), reads: AtomicU64::new(0) });
    let volume: Arc<dyn BlockSource> = Arc::<Counting>::clone(&counting);
    let fs = open(&volume).unwrap();
    let ino = packed.files["text-300000"];
    fs.stat(ino).unwrap();
    counting.reads.store(0, Ordering::Relaxed);
    whole(&fs, ino).unwrap();
    whole(&fs, ino).unwrap();
    let reads = counting.reads.load(Ordering::Relaxed);
    assert!(reads <= 5, "{reads} reads of a file in five units");
}

/// Changes bytes of packed units. ntfs-3g takes the bytes of damaged chunks that it can make something of; where both do,
/// they are the same.
fn damage_is_an_error_or_what_ntfs_3g_makes_of_it(packed: &Packed) {
    let fs = packed.open();
    let raw = std::fs::OpenOptions::new().read(true).write(true).open(&packed.disk).unwrap();
    let mut random = Random(3);
    let mut damaged = Vec::new();
    for (name, ino) in &packed.files {
        let Ok(Place::Packed { offset, stored, .. }) = fs.run_at(*ino, 0).map(|run| run.place) else {
            continue;
        };
        for _ in 0..random.below(3) + 1 {
            let at = offset + random.below(stored);
            let mut byte = [0];
            raw.read_exact_at(&mut byte, at).unwrap();
            raw.write_all_at(&[byte[0] ^ 1 << random.below(8)], at).unwrap();
        }
        damaged.push((name, *ino));
    }
    assert!(damaged.len() > 20);
    let served = Served::new(&packed.disk, "ro");
    let fs = packed.open();
    let (mut same, mut refused) = (0, 0);
    for (name, ino) in damaged {
        let theirs = std::fs::File::open(served.at.join("packed").join(name)).unwrap();
        let size = theirs.metadata().unwrap().len();
        for at in (0..size).step_by(4096) {
            let (mut ours, mut expected) = ([0; 4096], [0; 4096]);
            match (fs.read_at(ino, &mut ours, at), theirs.read_at(&mut expected, at)) {
                (Ok(len), Ok(there)) => {
                    assert_eq!(len, there);
                    assert!(ours[..len] == expected[..len], "{name} at {at}");
                    same += 1;
                }
                (Err(error), _) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} at {at}: {error}");
                    refused += 1;
                }
                (Ok(_), Err(error)) => panic!("{name} at {at} is read, and not by ntfs-3g: {error}"),
            }
        }
    }
    assert!(same > 100 && refused > 10, "{same} the same, {refused} refused");
}

#[test]
fn files_of_the_windows_overlay_filter() {
    requires!("root", "fuse", "ntfs-3g", "mkntfs", "python3", "wimlib-imagex");
    let packed = Packed::new("-c 4096", "120M", "fill");
    let fs = packed.open();
    let mut files = 0;
    for (name, ino) in packed.files.iter().filter(|(name, _)| *name != "huge") {
        let stat = fs.stat(*ino).unwrap();
        assert_eq!(stat.kind, FileType::File);
        // The unnamed stream has holes only; tools such as tar would take a file of 0 blocks for one.
        assert!(stat.size == 0 || (1..=stat.size.div_ceil(4096) * 8 + 8).contains(&stat.blocks), "{name}");
        assert!(whole(&fs, *ino).unwrap() == packed.plain(name).unwrap(), "{name}");
        files += 1;
    }
    assert_eq!(files, WOF_FILES - 1);
    for method in ["xpress4k", "lzx", "xpress8k", "xpress16k"] {
        let name = format!("{method}-by-turns");
        let [in_units, plain, _] = runs(&packed, &fs, &name);
        assert!(in_units == 18 && plain >= 18, "{name}: {in_units} {plain}");
        reads_agree(&packed, &[&name, &format!("{method}-mixed-400000"), &format!("{method}-text-65537")]);
    }
    reads_agree(&packed, &["long-table"]);
    a_table_with_64_bits(&packed, &fs);
    a_long_read_is_one_of_the_volume(&packed);
}

/// The file of more than 4 GiB: zeros, and a few chunks of text.
fn a_table_with_64_bits(packed: &Packed, fs: &Fs) {
    let ino = packed.files["huge"];
    let chunk = 32_768_u64;
    let last = (4 << 30) / chunk + 2;
    assert_eq!(fs.stat(ino).unwrap().size, last * chunk + 1000);
    for number in [0, 1, 2047, 2048, 77_777, last - 2, last - 1, last] {
        let plain = packed.plain(&format!("huge.{number}")).unwrap();
        let mut got = vec![0xaa; plain.len()];
        assert_eq!(fs.read_at(ino, &mut got, number * chunk).unwrap(), got.len());
        assert!(got == plain, "chunk {number}");
    }
    let mut got = vec![0xaa; 200_000];
    fs.read_at(ino, &mut got, 5_000_000).unwrap();
    assert!(got.iter().all(|byte| *byte == 0));
    assert_eq!(fs.read_at(ino, &mut got, last * chunk + 900).unwrap(), 100);
}

fn a_long_read_is_one_of_the_volume(packed: &Packed) {
    let counting = Arc::new(Counting { volume: file(&packed.disk), reads: AtomicU64::new(0) });
    let volume: Arc<dyn BlockSource> = Arc::<Counting>::clone(&counting);
    let fs = open(&volume).unwrap();
    let ino = packed.files["xpress4k-mixed-400000"];
    fs.stat(ino).unwrap();
    counting.reads.store(0, Ordering::Relaxed);
    whole(&fs, ino).unwrap();
    let reads = counting.reads.load(Ordering::Relaxed);
    // The table, and for each stretch of chunks that are packed, or are not, one.
    assert!(reads <= 12, "{reads} reads of a file in 98 chunks");
}

#[test]
fn damaged_chunks_are_an_error_or_what_wimlib_makes_of_them() {
    requires!("root", "fuse", "ntfs-3g", "mkntfs", "python3", "wimlib-imagex");
    let packed = Packed::new("-c 4096", "40M", "mutants");
    let fs = packed.open();
    let (mut same, mut refused) = (0, 0);
    for (name, ino) in packed.files.iter().filter(|(name, _)| !name.starts_with("table")) {
        match (whole(&fs, *ino), packed.plain(name)) {
            (Ok(ours), Some(theirs)) => {
                assert!(ours == theirs, "{name}");
                same += 1;
            }
            (Ok(_), None) => panic!("{name} is read, and not by wimlib"),
            (Err(error), _) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
                refused += 1;
            }
        }
    }
    assert!(same > 20 && refused > 50, "{same} the same, {refused} refused");
    // Chunks 1 and 2 of five have a place that makes no sense; the others are read.
    for name in ["table-back", "table-past"] {
        let plain = packed.plain(name).unwrap();
        let read = |chunk: usize| {
            let mut got = vec![0; 4096];
            fs.read_at(packed.files[name], &mut got, chunk as u64 * 4096).map(|_| got)
        };
        for chunk in [1, 2] {
            let error = read(chunk).err().unwrap_or_else(|| panic!("{name}: chunk {chunk} is read"));
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
        for chunk in [0, 3, 4] {
            assert!(read(chunk).unwrap() == plain[chunk * 4096..][..4096], "{name} {chunk}");
        }
    }
    let missing = fs.read_at(packed.files["table-none"], &mut [0; 10], 0).unwrap_err();
    assert!(missing.to_string().contains("WofCompressedData"), "{missing}");
}
