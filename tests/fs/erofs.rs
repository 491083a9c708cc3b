//! erofs.

use super::squashfs::tree;
use super::*;

/// Packs a folder with these options of a `mkfs.erofs`, that of `$IMGMOUNT_MKFS_EROFS` if it is set.
fn pack(source: &Path, options: &str) -> Made {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    let mkfs = std::env::var("IMGMOUNT_MKFS_EROFS").unwrap_or_else(|_| "mkfs.erofs".to_owned());
    common::sh(&format!("LC_ALL=C {mkfs} {options} {} {} >/dev/null", disk.display(), source.display()));
    Made { disk, _dir: dir }
}

/// The tool of Debian 12 cannot pack names of 255 bytes.
const ALL_BUT_LONGEST: &str = "--exclude-regex='^names/.{255}$'";

/// Packs the tree, and compares every path.
#[track_caller]
fn same_as_kernel(options: &str) -> (Made, Fs) {
    let made = pack(tree().path(), &format!("{ALL_BUT_LONGEST} {options}"));
    let fs = open(&file(&made.disk)).unwrap();
    let expected = kernel(&Mounted::new(&made.disk, "ro").at);
    assert!(expected.len() > 6500, "the tree was not made");
    same(&ours(&fs), &expected, options);
    (made, fs)
}

macro_rules! variants {
    ($($name:ident: $options:expr;)*) => {$(
        #[test]
        fn $name() {
            requires!("root", "loop", "mkfs.erofs", "python3");
            let (made, fs) = same_as_kernel($options);
            reads_in_pieces_agree(&made, &fs);
        }
    )*};
}

variants! {
    short_inodes_with_one_time: "-T1234567890 --all-root -Eforce-inode-compact";
    chunks_of_one_block: "--chunksize=4096";
    chunks_with_indexes: "--chunksize=65536 -Eforce-chunk-indexes";
    lz4_with_the_old_index: "-zlz4 -Elegacy-compress";
    lz4hc_with_the_compact_index: "-zlz4hc,9";
    lz4_in_units_of_1_mib_with_the_old_index: "-zlz4 -C1048576 -Eforce-inode-extended,legacy-compress";
    lz4_in_large_units_with_packed_tails: "-zlz4 -C16384 -Eztailpacking --max-extent-bytes=65536";
}

#[test]
fn plain_by_default() {
    requires!("root", "loop", "mkfs.erofs", "python3", "blkid", "dump.erofs");
    let (made, fs) = same_as_kernel("-U 11111111-2222-3333-4444-555555555555");
    listing_goes_on_from_every_place(&fs);
    runs_lead_to_the_bytes_of_files(&made, &fs);
    reads_are_few(&made, "interleaved-1", 2);

    let facts = fs.facts();
    assert_eq!(facts.uuid.unwrap(), "11111111-2222-3333-4444-555555555555");
    let said = common::sh(&format!("dump.erofs -s {}", made.disk.display()));
    let says = |key: &str| {
        let line = said.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{said}"));
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    assert_eq!(facts.features.join(" "), says("Filesystem features"));
    assert_eq!(facts.inodes.to_string(), says("Filesystem inode count"));
    assert_eq!((facts.size / 4096).to_string(), says("Filesystem blocks"));
    assert_eq!((facts.kind, facts.block_size, facts.warnings.len()), ("erofs", 4096, 0));
}

#[test]
fn packed_units_are_read_together() {
    requires!("mkfs.erofs");
    let dir = common::tempdir();
    let source = dir.path().join("source");
    common::sh(&format!("mkdir {0}; seq 300000 > {0}/text", source.display()));
    for (options, most) in [("-zlz4hc", 12), ("-zlz4 -C65536", 8)] {
        let made = pack(&source, options);
        reads_are_few(&made, "text", most);
        let fs = open(&file(&made.disk)).unwrap();
        let ino = fs.lookup(fs.root(), b"text").unwrap().unwrap();
        let mut text = vec![0; fs.stat(ino).unwrap().size as usize];
        assert_eq!(fs.read_at(ino, &mut text, 0).unwrap(), text.len());
        assert!(text == std::fs::read(source.join("text")).unwrap());
    }
}

/// A whole file of a few MiB is at most `most` backing reads, with those for its index.
fn reads_are_few(made: &Made, name: &str, most: u64) {
    let counting = Arc::new(Counting { volume: file(&made.disk), reads: AtomicU64::new(0) });
    let volume: Arc<dyn BlockSource> = Arc::<Counting>::clone(&counting);
    let fs = open(&volume).unwrap();
    let ino = fs.lookup(fs.root(), name.as_bytes()).unwrap().unwrap();
    let mut buf = vec![0; fs.stat(ino).unwrap().size as usize];
    counting.reads.store(0, Ordering::Relaxed);
    assert_eq!(fs.read_at(ino, &mut buf, 0).unwrap(), buf.len());
    let reads = counting.reads.load(Ordering::Relaxed);
    assert!(reads <= most, "{reads} reads for {name}");
}

/// Reads that begin and end anywhere in a unit.
fn reads_in_pieces_agree(made: &Made, fs: &Fs) {
    let mounted = Mounted::new(&made.disk, "ro");
    let mut random = Random(11);
    for name in ["islands", "interleaved-2", "sparse", "sizes/300000", "sizes/5000000"] {
        let theirs = std::fs::File::open(mounted.at.join(name)).unwrap();
        let size = theirs.metadata().unwrap().len();
        let ino =
            name.split('/').fold(fs.root(), |dir, name| fs.lookup(dir, name.as_bytes()).unwrap().unwrap());
        for _ in 0..60 {
            let at = random.below(size + 10_000);
            let mut expected = vec![0; random.below(70_000) as usize];
            let len = theirs.read_at(&mut expected, at).unwrap();
            let mut got = vec![0xaa; expected.len()];
            let read = fs.read_at(ino, &mut got, at).unwrap();
            assert_eq!(read, expected.len().min(size.saturating_sub(at) as usize), "{name} at {at}");
            assert!(got[..len] == expected[..len], "{name} at {at}");
        }
    }
}

/// Of a volume that is not packed, `run_at` names the bytes that `read_at` gives.
fn runs_lead_to_the_bytes_of_files(made: &Made, fs: &Fs) {
    let raw = std::fs::File::open(&made.disk).unwrap();
    let mut runs = 0;
    for dir in ["sizes", "d300", ""] {
        let dir =
            if dir.is_empty() { fs.root() } else { fs.lookup(fs.root(), dir.as_bytes()).unwrap().unwrap() };
        for (_, ino, kind, _) in entries(fs, dir).unwrap() {
            let size = if kind == Some(FileType::File) { fs.stat(ino).unwrap().size } else { continue };
            let mut at = 0;
            while at < size {
                let run = fs.run_at(ino, at).unwrap();
                let mut here = vec![1; run.len as usize];
                assert_eq!(fs.read_at(ino, &mut here, at).unwrap(), here.len());
                let mut there = vec![0; here.len()];
                match run.place {
                    Place::Stored { file: 0, offset } => raw.read_exact_at(&mut there, offset).unwrap(),
                    Place::Hole => {}
                    other => panic!("{other:?}"),
                }
                assert!(here == there, "inode {ino} at {at}");
                (runs, at) = (runs + 1, at + run.len);
            }
            assert_eq!(fs.run_at(ino, size).unwrap_err().kind(), ErrorKind::OutOfRange);
        }
    }
    assert!(runs > 330, "{runs} runs");
}

#[test]
fn data_on_a_device_that_is_not_there_are_refused_by_its_number() {
    requires!("mkfs.erofs");
    let dir = common::tempdir();
    let source = dir.path().join("source");
    common::sh(&format!("mkdir {0}; seq 30000 > {0}/text; ln -s text {0}/link", source.display()));
    let made = pack(&source, &format!("--chunksize=4096 --blobdev={}/blob", dir.path().display()));
    let fs = open(&file(&made.disk)).unwrap();
    let names: Vec<Vec<u8>> = entries(&fs, fs.root()).unwrap().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, [b"link".to_vec(), b"text".to_vec()]);
    let ino = fs.lookup(fs.root(), b"text").unwrap().unwrap();
    let error = fs.read_at(ino, &mut [0; 100], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("device 1"), "{error}");
    assert_eq!(fs.facts().warnings.len(), 1);
}

#[test]
fn a_superblock_with_a_wrong_sum_is_refused() {
    requires!("mkfs.erofs");
    let dir = common::tempdir();
    let source = dir.path().join("source");
    common::sh(&format!("mkdir {0}; seq 30 > {0}/text", source.display()));
    let mut bytes = std::fs::read(&pack(&source, "").disk).unwrap();
    let volume = |bytes: &[u8]| -> Arc<dyn BlockSource> { Arc::new(Memory::new(bytes, "disk")) };
    assert!(open(&volume(&bytes)).is_ok());
    // A byte of the label.
    bytes[1024 + 64] ^= 1;
    let error = open(&volume(&bytes)).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("checksum"), "{error}");
}

/// Forms that Debian's tool cannot write, as `tests/make/erofs.sh` made them with a later one.
#[test]
fn later_forms_have_the_bytes_that_went_in() {
    requires!("setfattr", "xz", "tar");
    let dir = common::tempdir();
    let (tree, root) = (dir.path().join("tree"), common::root());
    common::sh(&format!(
        "bash {0}/tests/make/erofs.sh tree {1}; tar -C {2} -xJf {0}/tests/fs/erofs-1.9.3.tar.xz",
        root.display(),
        tree.display(),
        dir.path().display()
    ));
    for (name, feature) in [
        ("lzma", "compr_cfgs"),
        ("deflate", "compr_cfgs"),
        ("zstd", "compr_cfgs"),
        ("fragments", "dedupe"),
        ("all-fragments", "xattr_prefixes"),
        ("extents", "48bit"),
    ] {
        let fs = open(&file(&dir.path().join(name).with_extension("img"))).unwrap();
        assert!(fs.facts().features.iter().any(|known| known == feature), "{:?}", fs.facts().features);
        for path in ["numbers", "shifted", "small", "tail", "d/again"] {
            let ino = path
                .split('/')
                .fold(fs.root(), |dir, name| fs.lookup(dir, name.as_bytes()).unwrap().unwrap());
            let expected = std::fs::read(tree.join(path)).unwrap();
            assert_eq!(fs.stat(ino).unwrap().size, expected.len() as u64, "{name} {path}");
            for at in [0, 1, 100, 4095, 13_000, expected.len().saturating_sub(7)] {
                let mut got = vec![0; 20_000];
                let len = fs.read_at(ino, &mut got, at as u64).unwrap();
                assert!(got[..len] == expected[at.min(expected.len())..][..len], "{name} {path} at {at}");
                assert_eq!(len, expected.len().saturating_sub(at).min(20_000), "{name} {path} at {at}");
            }
            let mut names: Vec<_> = fs.xattrs(ino).unwrap().into_iter().map(|xattr| xattr.name).collect();
            names.sort();
            assert_eq!(names, list_xattrs(&tree.join(path)), "{name} {path}");
        }
    }
}
