//! squashfs.

use super::*;
use std::sync::Weak;

/// A plain folder filled by `tests/make/tree.py`, to be packed. Made once for all tests that run at a time.
pub(super) fn tree() -> Arc<tempfile::TempDir> {
    static TREE: Mutex<Weak<tempfile::TempDir>> = Mutex::new(Weak::new());
    let mut kept = TREE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(tree) = kept.upgrade() {
        return tree;
    }
    let tree = Arc::new(common::tempdir());
    let script = common::root().join("tests/make/tree.py");
    common::sh(&format!("python3 {} {} 4096", script.display(), tree.path().display()));
    *kept = Arc::downgrade(&tree);
    tree
}

/// Packs a folder with these options.
fn pack(source: &Path, options: &str) -> Made {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!(
        "mksquashfs {} {} -no-progress -quiet -processors 2 {options} 2>&1",
        source.display(),
        disk.display()
    ));
    Made { disk, _dir: dir }
}

/// Packs the tree, and compares every path.
#[track_caller]
fn same_as_kernel(options: &str) -> (Made, Fs) {
    let made = pack(tree().path(), options);
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
            requires!("root", "loop", "mksquashfs", "python3");
            same_as_kernel($options);
        }
    )*};
}

variants! {
    gzip_with_4k_blocks_and_fragments_always: "-comp gzip -b 4K -always-use-fragments";
    // Without the largest files: of random bytes, at which xz works for long only to store them as they are.
    xz_with_a_filter_for_programs_and_a_small_dictionary:
        "-comp xz -b 1M -Xbcj x86,arm -Xdict-size 50% -e sizes/5000000 sizes/4243461";
    lzo_with_512k_blocks: "-comp lzo -b 512K -no-fragments";
    lz4_with_256k_blocks: "-comp lz4 -b 256K";
    nothing_packed: "-noI -noD -noF -noX -noId";
    zstd_with_8k_blocks_and_tables_not_packed: "-noI -noX -noId -comp zstd -b 8K -no-fragments -no-exports -no-sparse";
}

#[test]
fn gzip_by_default() {
    requires!("root", "loop", "mksquashfs", "python3", "unsquashfs");
    let (made, fs) = same_as_kernel("-mkfs-time 1000000000");
    runs_lead_to_the_blocks(&made, &fs);
    listing_goes_on_from_every_place(&fs);
    for name in ["islands", "interleaved-1", "sparse", "preallocated"] {
        assert!(fs.lookup(fs.root(), name.as_bytes()).unwrap().is_some());
    }
    reads_are_few(&made);

    let facts = fs.facts();
    let said = common::sh(&format!("unsquashfs -s {}", made.disk.display()));
    let says = |what: &str| said.lines().any(|line| line == what);
    assert!(says(&format!("Number of inodes {}", facts.inodes)), "{said}");
    assert!(says(&format!("Block size {}", facts.block_size)), "{said}");
    assert!(said.contains(&format!("Filesystem size {} bytes", facts.size)), "{said}");
    assert_eq!(facts.features, ["gzip", "duplicates", "exports"]);
    assert_eq!((facts.kind, facts.state, facts.warnings.len()), ("squashfs", State::Clean, 0));
}

/// A packed block of `map` unpacks (by Python's zlib) to the bytes that `read_at` gives; a stored one is those bytes.
fn runs_lead_to_the_blocks(made: &Made, fs: &Fs) {
    let raw = std::fs::File::open(&made.disk).unwrap();
    let (mut packed, mut plain, mut holes) = (0, 0, 0);
    for name in ["sparse", "islands", "sizes", "d40"] {
        let ino = fs.lookup(fs.root(), name.as_bytes()).unwrap().unwrap();
        let files = if fs.stat(ino).unwrap().kind == FileType::Dir {
            entries(fs, ino).unwrap().into_iter().map(|(_, ino, ..)| ino).collect()
        } else {
            vec![ino]
        };
        for ino in files {
            let size = fs.stat(ino).unwrap().size;
            let mut at = 0;
            while at < size {
                let run = fs.run_at(ino, at).unwrap();
                let mut here = vec![1; run.len as usize];
                assert_eq!(fs.read_at(ino, &mut here, at).unwrap(), here.len());
                let mut there = vec![0; here.len()];
                match run.place {
                    Place::Stored { file: 0, offset } => {
                        raw.read_exact_at(&mut there, offset).unwrap();
                        plain += 1;
                    }
                    Place::Packed { file: 0, offset, stored, skip, .. } => {
                        let mut bytes = vec![0; stored as usize];
                        raw.read_exact_at(&mut bytes, offset).unwrap();
                        let mut all = Vec::new();
                        std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&bytes[..]), &mut all)
                            .unwrap();
                        there.copy_from_slice(&all[skip as usize..][..here.len()]);
                        packed += 1;
                    }
                    Place::Hole => holes += 1,
                    other => panic!("{other:?}"),
                }
                assert!(here == there, "inode {ino} at {at}");
                at += run.len;
            }
            assert_eq!(fs.run_at(ino, size).unwrap_err().kind(), ErrorKind::OutOfRange);
        }
    }
    assert!(packed > 200 && plain > 20 && (2..20).contains(&holes), "{packed} {plain} {holes}");
}

fn reads_are_few(made: &Made) {
    let counting = Arc::new(Counting { volume: file(&made.disk), reads: AtomicU64::new(0) });
    let volume: Arc<dyn BlockSource> = Arc::<Counting>::clone(&counting);
    let fs = open(&volume).unwrap();
    let dir = fs.lookup(fs.root(), b"d6000").unwrap().unwrap();
    let name = format!("{}{:06}", "long-name-".repeat(15), 4321);
    counting.reads.store(0, Ordering::Relaxed);
    assert!(fs.lookup(dir, name.as_bytes()).unwrap().is_some());
    let by_index = counting.reads.load(Ordering::Relaxed);
    assert!(by_index <= 3, "{by_index} reads to look one name up");
    let mut todo = vec![fs.root()];
    while let Some(ino) = todo.pop() {
        if fs.stat(ino).unwrap().kind == FileType::Dir {
            todo.extend(entries(&fs, ino).unwrap().into_iter().map(|(_, ino, ..)| ino));
        }
    }
    let walk = counting.reads.load(Ordering::Relaxed);
    assert!(walk < 60, "{walk} reads for a walk");

    let ino = fs.lookup(fs.root(), b"interleaved-1").unwrap().unwrap();
    let mut buf = vec![0; 1 << 20];
    counting.reads.store(0, Ordering::Relaxed);
    assert_eq!(fs.read_at(ino, &mut buf, 0).unwrap(), buf.len());
    let reads = counting.reads.load(Ordering::Relaxed);
    assert!(reads <= 2, "{reads} reads for eight blocks");
}

#[test]
fn a_file_over_2_gib_and_reads_at_odd_places() {
    requires!("root", "loop", "mksquashfs", "setfattr");
    let dir = common::tempdir();
    let source = dir.path().join("source");
    common::sh(&format!(
        "mkdir {0}; cd {0}; truncate -s 2200M large; for at in 0 2147483000 2200000000; do \
         head -c 300000 /dev/urandom | dd of=large bs=1M oflag=seek_bytes seek=$at conv=notrunc status=none; done; \
         seq 300000 > text; setfattr -n user.a -v b text; head -c 2000000 /dev/urandom > noise; cat text noise text > mixed",
        source.display()
    ));
    let made = pack(&source, "-comp lz4");
    let fs = open(&file(&made.disk)).unwrap();
    let mounted = Mounted::new(&made.disk, "ro");
    same(&ours(&fs), &kernel(&mounted.at), "over 2 GiB");
    let mut random = Random(7);
    for name in ["large", "mixed"] {
        let theirs = std::fs::File::open(mounted.at.join(name)).unwrap();
        let size = theirs.metadata().unwrap().len();
        let ino = fs.lookup(fs.root(), name.as_bytes()).unwrap().unwrap();
        for n in 0..200 {
            let islands = [0, 2_147_483_000, 2_200_000_000];
            let at = if n % 2 == 0 {
                islands[n / 2 % 3] + random.below(400_000)
            } else {
                random.below(size + 9000)
            };
            let mut expected = vec![0; random.below(200_000) as usize];
            let len = theirs.read_at(&mut expected, at).unwrap();
            let mut got = vec![0xaa; expected.len()];
            assert_eq!(
                fs.read_at(ino, &mut got, at).unwrap(),
                len.max(expected.len().min(size.saturating_sub(at) as usize))
            );
            assert!(got[..len] == expected[..len], "{name} at {at}");
        }
    }
}

/// The kernel has no driver for the lzma of before 4.0's xz; `unsquashfs` has one.
#[test]
fn lzma_reads_as_unsquashfs_unpacks_it() {
    requires!("root", "mksquashfs", "unsquashfs", "python3");
    let tree = tree();
    let made = pack(tree.path(), "-comp lzma -b 64K");
    let fs = open(&file(&made.disk)).unwrap();
    let out = made.disk.with_extension("out");
    common::sh(&format!("unsquashfs -q -n -d {} {} sizes d40 islands", out.display(), made.disk.display()));
    for (path, content) in kernel(&out).into_iter().filter(|(_, line)| line.starts_with('-')) {
        let mut ino = fs.root();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            ino = fs.lookup(ino, name).unwrap().unwrap();
        }
        let size = fs.stat(ino).unwrap().size;
        let sum = hash(size, |buf, at| assert_eq!(fs.read_at(ino, buf, at).unwrap(), buf.len()));
        assert!(
            content.contains(&format!(" size {size} ")) && content.contains(&sum),
            "{}",
            path.escape_ascii()
        );
    }
}

/// The superblock of 3.1 in either byte order: only magic and version are looked at. `squashfs3` is blkid's word.
#[test]
fn older_versions_are_named_or_refused_by_name() {
    let image = |magic: &[u8; 4], version: [u8; 4]| -> Arc<dyn BlockSource> {
        let mut bytes = vec![0; 4096];
        bytes[..4].copy_from_slice(magic);
        bytes[28..32].copy_from_slice(&version);
        Arc::new(Memory::new(bytes, "disk"))
    };
    for (magic, version) in [(b"hsqs", [3, 0, 1, 0]), (b"sqsh", [0, 3, 0, 1])] {
        assert!(matches!(look(&image(magic, version)), Ok(Content::Known("squashfs3"))));
    }
    let error = open(&image(b"sqsh", [0, 2, 0, 0])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("big-endian squashfs 2.0"), "{error}");
}
