//! erofs.

use super::squashfs::tree;
use super::*;

/// Packs a folder with these options of a `mkfs.erofs`, that of `$IMGMOUNT_MKFS_EROFS` if it is set. It copies chunks out
/// of a file of its own in `/tmp` by copy_file_range(2), which does not go from one file system to another.
fn pack(source: &Path, options: &str) -> Made {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    let mkfs = std::env::var("IMGMOUNT_MKFS_EROFS").unwrap_or_else(|_| "mkfs.erofs".to_owned());
    common::sh(&format!(
        "made=$(mktemp -p /tmp); LC_ALL=C {mkfs} {options} $made {} >/dev/null; mv $made {}",
        source.display(),
        disk.display()
    ));
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

/// A volume of blocks of 512 bytes with one file, inode 2, as the kernel's `erofs_fs.h` has it: a long inode of the old
/// packed layout, `words` words of attributes behind it, and what `fill` puts where. No tool writes these forms on demand.
fn written_by_hand(size: u64, words: u16, prefixes: u8, len: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut image = vec![0; len];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(1024, b"\xe2\xe1\xf5\xe0");
    put(1024 + 0x08, &0x10_u32.to_le_bytes()); // long prefixes lie on the volume
    put(1024 + 0x0c, &[9]);
    put(1024 + 0x0e, &2_u16.to_le_bytes());
    put(1024 + 0x28, &4_u32.to_le_bytes()); // inodes are counted from byte 2048
    put(1024 + 0x50, &0x81_u32.to_le_bytes()); // padding with zeros, 48 bits
    put(1024 + 0x5b, &[prefixes]);
    put(1024 + 0x5c, &(PREFIXES_AT as u32 / 4).to_le_bytes());
    put(INODE_AT, &[3, 0]);
    put(INODE_AT + 2, &words.to_le_bytes());
    put(INODE_AT + 4, &0o100_644_u16.to_le_bytes());
    put(INODE_AT + 8, &size.to_le_bytes());
    put(INODE_AT + 44, &[1]);
    fill(&mut image);
    image
}

const INODE_AT: usize = 2048 + 2 * 32;
const PREFIXES_AT: usize = 0x3000;

#[test]
fn a_list_of_lengths_is_added_up_once() {
    // More clusters than the longest unit has; their lengths differ, so that each place is a sum of its own.
    const CLUSTERS: usize = 30_000;
    const DATA: usize = 0x20000;
    let mut random = Random(7);
    let content: Vec<u8> = (0..CLUSTERS * 512).map(|_| random.below(256) as u8).collect();
    let image = written_by_hand(content.len() as u64, 0, 0, DATA + CLUSTERS * 515, |image| {
        // Its head: an index that is a list (1) of lengths (0 << 1); clusters are blocks.
        image[INODE_AT + 64 + 4] = 1;
        let list = INODE_AT + 64 + 8;
        image[list..list + 8].copy_from_slice(&(DATA as u64).to_le_bytes());
        let mut place = DATA;
        for (number, bytes) in content.chunks(512).enumerate() {
            let stored = 512 + number % 3;
            image[list + 8 + number * 4..][..4].copy_from_slice(&(stored as u32).to_le_bytes());
            image[place..place + 512].copy_from_slice(bytes);
            place += stored;
        }
    });
    let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));
    // From its end first, where nothing is known yet; then all of it; then from anywhere.
    let fs = open(&volume).unwrap();
    let mut end = [0; 1000];
    let at = content.len() - 1000;
    assert_eq!(fs.read_at(Ino(2), &mut end, at as u64).unwrap(), 1000);
    assert!(end[..] == content[at..]);
    let fs = open(&volume).unwrap();
    for (number, expected) in content.chunks(1 << 20).enumerate() {
        let mut got = vec![0; expected.len()];
        assert_eq!(fs.read_at(Ino(2), &mut got, (number as u64) << 20).unwrap(), got.len());
        assert!(got == expected, "MiB {number}");
    }
    for _ in 0..300 {
        let at = random.below(content.len() as u64 - 3000);
        let mut got = [0; 3000];
        fs.read_at(Ino(2), &mut got, at).unwrap();
        assert!(got[..] == content[at as usize..][..3000], "{at}");
        let run = fs.run_at(Ino(2), at).unwrap();
        let Place::Stored { offset, .. } = run.place else { panic!("{run:?}") };
        let mut there = vec![0; run.len as usize];
        volume.read_at(&mut there, offset).unwrap();
        assert!(there[..] == content[at as usize..][..there.len()], "{at}");
    }
}

#[test]
fn long_prefixes_of_attributes_are_no_longer_than_names() {
    let with = |prefix: &[u8]| {
        let image = written_by_hand(0, 3, 1, 0x4000, |image| {
            // Behind the filter and the count of shared ones: a name of one byte, prefix 0x80, no value.
            image[INODE_AT + 64 + 12..][..5].copy_from_slice(b"\x01\x80\0\0a");
            image[PREFIXES_AT..][..2].copy_from_slice(&(prefix.len() as u16).to_le_bytes());
            image[PREFIXES_AT + 2..][..prefix.len()].copy_from_slice(prefix);
        });
        let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));
        let fs = open(&volume).unwrap();
        fs.xattrs(Ino(2)).map(|xattrs| xattrs.into_iter().map(|xattr| xattr.name).collect::<Vec<_>>())
    };
    assert_eq!(with(b"\x01x.").unwrap(), [b"user.x.a"]);
    assert_eq!(with(&[1; 257]).unwrap_err().kind(), ErrorKind::Corrupt);
}
