//! XFS.

use super::*;
use imgmount::checksum::crc32c;

/// A file system made by `mkfs.xfs` with these arguments and filled by `tests/make/tree.py`, then by more.
fn make(mkfs: &str, names: u32) -> Made {
    let made = fill(&format!("mkfs.xfs -q -L 'a label' {mkfs} $DISK"), "400M", "");
    let mounted = Mounted::new(&made.disk, "rw");
    common::sh(&format!(
        "cd {} && python3 - << 'END'\n{}\nEND",
        mounted.at.display(),
        MORE.replace("MANY", &names.to_string())
    ));
    drop(mounted);
    made
}

/// What `tree.py` has not: attributes of every form and namespace, links of every length, shared extents, large
/// directories that were emptied again.
const MORE: &str = r"
import os, struct, subprocess
os.mkdir('xfs')
os.chdir('xfs')
def file(name, data=b'x'):
    with open(name, 'wb') as f:
        f.write(data)
# Values in leaves and in blocks of their own; 64 KiB is the most
file('remote')
for size in (1000, 3000, 4040, 4041, 8000, 65535, 65536):
    try:
        os.setxattr('remote', f'user.v{size}', os.urandom(size))
    except OSError:
        pass
os.setxattr('remote', 'trusted.t', os.urandom(5000))
os.setxattr('remote', 'security.s', os.urandom(70))
# Leaves below nodes
file('many-attributes')
for n in range(1200):
    os.setxattr('many-attributes', f'user.attribute-number-{n}', b'%d' % n * 8)
for n in range(0, 1200, 3):
    os.removexattr('many-attributes', f'user.attribute-number-{n}')
file('few')
for space in ('user', 'trusted', 'security'):
    os.setxattr('few', f'{space}.a', space.encode())
os.setxattr('few', 'user.' + 'n' * 250, b'')
file('acl')
subprocess.check_call(['setfacl', '-m', 'u:1000:rw,g:70000:x,m::r', 'acl'])
os.mkdir('acl-dir')
subprocess.check_call(['setfacl', '-m', 'd:u:5:rwx', 'acl-dir'])
for length in (300, 335, 336, 337, 700, 1000, 1023):
    os.symlink('y' * length, f'link-{length}')
os.symlink('z' * 200, 'link-with-attributes')
for n in range(30):
    os.setxattr('link-with-attributes', f'trusted.a{n}', b'v' * 60, follow_symlinks=False)
file('shared', os.urandom(3_000_000))
if subprocess.call(['cp', '--reflink=always', 'shared', 'sharing'], stderr=subprocess.DEVNULL) == 0:
    with open('sharing', 'r+b') as f:
        for at in range(0, 3_000_000, 100_000):
            f.seek(at)
            f.write(b'changed')
# Many extents: a tree of them
with open('tree', 'wb') as f:
    for n in range(6000):
        f.seek(n * 8192)
        f.write(b'%4d' % n)
for count, keep in ((12, 12), (3000, 0), (3000, 10), (MANY, MANY)):
    os.mkdir(f'names-{count}-{keep}')
    for n in range(count):
        os.mknod(f'names-{count}-{keep}/entry-{n}')
    for n in range(keep, count):
        os.unlink(f'names-{count}-{keep}/entry-{n}')
# Two names of one hash: XFS turns a byte by seven bits, and each counts where it falls
os.mkdir('same-hash')
for n in range(300):
    file(f'same-hash/{chr(97 + n % 8)}{n}')
";

/// Makes one, and compares every path, and what it says of itself with `xfs_db` and `blkid`.
#[track_caller]
fn same_as_kernel(mkfs: &str, names: u32) -> (Made, Fs) {
    let made = make(mkfs, names);
    let fs = open(&file(&made.disk)).unwrap();
    let expected = kernel(&Mounted::new(&made.disk, "ro").at);
    assert!(expected.len() > 6500 + names as usize, "the tree was not made");
    same(&ours(&fs), &expected, mkfs);
    assert_eq!(fs.facts().label.as_utf8().unwrap(), "a label");
    same_facts(&made.disk, &fs);
    assert_eq!((fs.facts().state, fs.facts().warnings.as_slice()), (State::Clean, [].as_slice()));
    (made, fs)
}

/// What `xfs_db` prints for these fields of a superblock.
fn fields(disk: &Path, names: &str) -> BTreeMap<String, String> {
    let command = format!("xfs_db -r -c 'sb 0' -c 'p {names}' {}", disk.display());
    let text = common::sh(&command);
    text.lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn number_of(disk: &Path, field: &str) -> u64 {
    fields(disk, field)[field].parse().unwrap()
}

#[track_caller]
fn same_facts(disk: &Path, fs: &Fs) {
    let facts = fs.facts();
    let says = fields(disk, "blocksize dblocks icount ifree fdblocks uuid");
    let number = |key: &str| says[key].parse::<u64>().unwrap();
    let block = number("blocksize");
    assert_eq!((u64::from(facts.block_size), facts.size), (block, number("dblocks") * block));
    assert_eq!((facts.inodes, facts.free_inodes), (number("icount"), number("ifree")));
    assert_eq!(fs.free().unwrap(), number("fdblocks") * block);
    let version = common::sh(&format!("xfs_db -r -c version {}", disk.display()));
    assert_eq!(facts.features.join(","), version.trim().split_once(" = ").unwrap().1);
    let blkid =
        |tag: &str| common::sh(&format!("blkid -p -o value -s {tag} {}", disk.display())).trim().to_owned();
    assert_eq!((facts.kind, facts.uuid.unwrap()), (blkid("TYPE").as_str(), blkid("UUID")));
}

macro_rules! variants {
    ($($name:ident: $mkfs:expr;)*) => {$(
        #[test]
        fn $name() {
            requires!("root", "loop", "mkfs.xfs", "xfs_db", "python3", "blkid", "setfacl");
            same_as_kernel($mkfs, 500);
        }
    )*};
}

variants! {
    xfs_with_everything_new: "-m bigtime=1,inobtcount=1,reflink=1,rmapbt=1 -i nrext64=1,sparse=1";
    xfs_with_1k_blocks_and_8k_directory_blocks: "-b size=1024 -n size=8192";
    xfs_with_4k_sectors_and_without_much: "-s size=4096 -m bigtime=0,inobtcount=0,reflink=0,finobt=0 -i sparse=0";
    xfs_with_64k_directory_blocks: "-n size=65536";
    xfs_with_2k_inodes: "-i size=2048";
}

#[test]
fn xfs_by_default() {
    requires!("root", "loop", "mkfs.xfs", "xfs_db", "python3", "blkid", "setfacl");
    let (made, fs) = same_as_kernel("", 20_000);
    runs_lead_to_the_bytes(&made, &fs);
    listing_goes_on_from_every_place(&fs);
    places_are_the_kernels(&made, &fs);
}

/// The kernel's `d_off` of every name of a directory, in its order.
fn places_are_the_kernels(made: &Made, fs: &Fs) {
    let mounted = Mounted::new(&made.disk, "ro");
    for dir in ["d3", "d40", "d6000", "deleted"] {
        let handle = std::fs::File::open(mounted.at.join(dir)).unwrap();
        let mut theirs = Vec::new();
        let mut buffer = Vec::with_capacity(1 << 16);
        let mut listing = rustix::fs::RawDir::new(&handle, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                theirs.push((name, entry.ino()));
            }
        }
        let ino = fs.lookup(fs.root(), dir.as_bytes()).unwrap().unwrap();
        let ours: Vec<(Vec<u8>, u64)> =
            entries(fs, ino).unwrap().into_iter().map(|(name, ino, ..)| (name, ino.0)).collect();
        assert!(ours == theirs, "{dir}");
    }
}

/// Changes of every kind by a seed, with a fsync now and then so that the log is written and not only filled.
const WORK: &str = r"
import os, random, sys
seed, rounds = int(sys.argv[1]), int(sys.argv[2])
random.seed(seed)
os.umask(0)
names = []
def new():
    return random.choice(dirs) + '/' + random.choice(['f', 'a-longer-name-', 'n' * 100]) + str(random.randrange(10**6))
dirs = ['.'] + [d for d in ('one', 'two', 'two/three') if os.path.isdir(d)]
for d in ('one', 'two', 'two/three'):
    if d not in dirs:
        os.mkdir(d)
        dirs.append(d)
for top, _, files in os.walk('.'):
    names += [os.path.join(top, f) for f in sorted(files)]
def create():
    name = new()
    with open(name, 'wb') as f:
        f.write(os.urandom(random.choice([0, 10, 5000, 70000])))
        if random.random() < .3:
            f.seek(random.randrange(10**6))
            f.write(b'island')
        if random.random() < .02:
            os.fsync(f.fileno())
    names.append(name)
def delete():
    os.unlink(names.pop(random.randrange(len(names))))
def rename():
    name = new()
    n = random.randrange(len(names))
    os.rename(names[n], name)
    names[n] = name
def truncate():
    os.truncate(random.choice(names), random.choice([0, 3, 4096, 100000, 5000000]))
def append():
    with open(random.choice(names), 'ab') as f:
        f.write(os.urandom(random.choice([1, 3000, 200000])))
def attribute():
    os.setxattr(random.choice(names), random.choice(['user.a', 'trusted.b', 'security.c', 'user.' + 'x' * 90]), os.urandom(random.choice([0, 5, 100, 2000, 20000])))
def no_attribute():
    name = random.choice(names)
    have = os.listxattr(name)
    if have:
        os.removexattr(name, random.choice(have))
def link():
    name = new()
    os.link(random.choice(names), name)
    names.append(name)
def symlink():
    name = new()
    os.symlink('t' * random.choice([5, 200, 400, 1000]), name)
    os.unlink(name) if random.random() < .3 else None
def mkdir():
    name = new()
    os.mkdir(name)
    if random.random() < .5:
        dirs.append(name)
    else:
        os.rmdir(name)
def mode():
    os.chmod(random.choice(names), random.randrange(0o10000))
    os.utime(random.choice(names), ns=(random.randrange(10**18), random.randrange(10**18)))
    os.mknod(new(), 0o60600, os.makedev(random.randrange(300), random.randrange(70000)))
def extents():
    with open(random.choice(names), 'r+b') as f:
        for n in range(random.choice([3, 40, 400])):
            f.seek(n * 12288)
            f.write(b'%d' % n)
        os.posix_fallocate(f.fileno(), 0, random.randrange(1, 2000000))
ops = [create] * 8 + [delete] * 3 + [rename, truncate, append, append, attribute, attribute, attribute, no_attribute, link, symlink, mkdir, mode, extents]
for n in range(rounds):
    try:
        (create if len(names) < 20 else random.choice(ops))()
    except OSError:
        pass
    if n % 200 == 199:
        with open('synced', 'wb') as f:
            os.fsync(f.fileno())
with open('last', 'wb') as f:
    os.fsync(f.fileno())
";

/// A file system that was working when its machine stopped.
fn interrupted(mkfs: &str, seed: u64, rounds: [u32; 2], stop: &str) -> (Made, PathBuf) {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    let (script, image) = (dir.path().join("work.py"), dir.path().join("image"));
    std::fs::write(&script, WORK).unwrap();
    common::sh(&format!("DISK={0}; truncate -s 400M $DISK; mkfs.xfs -q {mkfs} $DISK", disk.display()));
    for (part, rounds) in rounds.iter().enumerate() {
        let mounted = Mounted::new(&disk, "rw");
        let at = mounted.at.display();
        let seed = seed * 2 + part as u64;
        common::sh(&format!("cd {at} && python3 {} {seed} {rounds}", script.display()));
        if part == 1 {
            common::sh(&format!(
                "A={at} DISK={} IMAGE={} WORK={}; {stop}",
                disk.display(),
                image.display(),
                script.display()
            ));
        }
    }
    if !image.exists() {
        std::fs::rename(&disk, &image).unwrap();
    }
    let log = common::sh(&format!("xfs_logprint -t {} 2>&1 | head -20 || true", image.display()));
    assert!(log.contains("<DIRTY>"), "the log is clean: {log}");
    // What the kernel makes of it, in a file that no mount of before may still be writing to.
    let recovered = dir.path().join("recovered");
    common::sh(&format!("cp --sparse=always {} {}", image.display(), recovered.display()));
    drop(Mounted::new(&recovered, "rw"));
    (Made { disk: recovered, _dir: dir }, image)
}

/// The machine stops after what is in memory of the log was written, or without that, or was never stopped: copied.
const FLUSHED: &str = "xfs_io -x -c 'shutdown -f' $A";
const CUT: &str = "xfs_io -x -c shutdown $A";
/// Goes on until the log's tail lies behind its head: new names in bulk, and then a bit of everything.
const WRAPPED: &str = r#"for n in $(seq 60); do
    (cd $A && mkdir -p churn && python3 -c '
import os, sys
for n in range(700):
    os.close(os.open("churn/%s-%d" % (sys.argv[1], n), os.O_CREAT | os.O_WRONLY))
    if n % 3: os.unlink("churn/%s-%d" % (sys.argv[1], n))
    elif n % 2: os.rename("churn/%s-%d" % (sys.argv[1], n), "churn/now-%d" % n)
' $n && python3 $WORK 1$n 20)
    cp --sparse=always $DISK $IMAGE
    LOG=$(xfs_logprint -t $IMAGE 2>/dev/null | grep 'log tail:')
    set -- $LOG; test $5 -lt $3 && exit 0; done; exit 1"#;
const COPIED: &str = "cp --sparse=always $DISK $IMAGE";
/// As a machine does when it starts for the first time: the file system grows, and what is made then is in new groups.
const GROWN: &str = "xfs_growfs $A > /dev/null; mkdir $(seq -f $A/new-%g 60); touch $(seq -f $A/new-%g/file 60); sync -f $A; xfs_io -x -c 'shutdown -f' $A";

#[track_caller]
fn replays_as_the_kernel_does(mkfs: &str, seed: u64, rounds: [u32; 2], stop: &str) {
    let (recovered, image) = interrupted(mkfs, seed, rounds, stop);
    let fs = open(&file(&image)).unwrap();
    let expected = kernel(&Mounted::new(&recovered.disk, "ro").at);
    let facts = fs.facts();
    assert_eq!(facts.state, State::Dirty);
    assert!(facts.warnings[0].contains("played back in memory"), "{:?}", facts.warnings);
    same(&ours(&fs), &expected, &format!("{mkfs}, seed {seed}: {:?}", facts.warnings));
    assert_eq!(facts.size, number_of(&recovered.disk, "dblocks") * number_of(&recovered.disk, "blocksize"));
    // The kernel goes on to free what was open and had no name any more.
    let says = fields(&recovered.disk, "icount ifree fdblocks blocksize");
    let number = |key: &str| says[key].parse::<u64>().unwrap();
    assert!(facts.inodes - facts.free_inodes >= number("icount") - number("ifree"), "{says:?}");
    assert!(fs.free().unwrap() <= number("fdblocks") * number("blocksize"));
}

#[test]
fn a_log_is_played_back_as_the_kernel_does() {
    requires!("root", "loop", "mkfs.xfs", "xfs_db", "xfs_io", "xfs_logprint", "python3");
    replays_as_the_kernel_does("", 1, [100, 700], FLUSHED);
    replays_as_the_kernel_does("-b size=1024 -n size=8192 -m rmapbt=1", 2, [100, 700], CUT);
    replays_as_the_kernel_does("-l su=64k -n size=65536 -i nrext64=1", 3, [100, 700], COPIED);
}

#[test]
fn growing_is_played_back() {
    requires!("root", "loop", "mkfs.xfs", "xfs_db", "xfs_io", "xfs_logprint", "xfs_growfs", "python3");
    replays_as_the_kernel_does("-d size=300m", 4, [50, 100], GROWN);
}

#[test]
fn a_log_that_wraps_is_played_back() {
    requires!("root", "loop", "mkfs.xfs", "xfs_db", "xfs_io", "xfs_logprint", "python3");
    let mkfs = "--unsupported -l size=3m -b size=1024 -m reflink=0,rmapbt=0 -i sparse=0";
    replays_as_the_kernel_does(mkfs, 10, [50, 50], WRAPPED);
}

#[test]
fn a_walk_takes_few_reads() {
    requires!("root", "loop", "mkfs.xfs");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 400M {0}; mkfs.xfs -q {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    common::sh(&format!(
        "cd {}; for d in $(seq 100); do mkdir $d; (cd $d; touch $(seq -f 'a-name-%g' 200)); done; \
         head -c 20M /dev/urandom > file",
        mounted.at.display()
    ));
    drop(mounted);
    let counting = Arc::new(Counting { volume: file(&disk), reads: AtomicU64::new(0) });
    let volume: Arc<dyn BlockSource> = Arc::<Counting>::clone(&counting);
    let fs = open(&volume).unwrap();
    let opening = counting.reads.swap(0, Ordering::Relaxed);
    assert!(opening < 40, "{opening} reads to open a file system whose log is clean");
    let (mut todo, mut seen) = (vec![fs.root()], 0);
    while let Some(ino) = todo.pop() {
        seen += 1;
        if fs.stat(ino).unwrap().kind == FileType::Dir {
            todo.extend(entries(&fs, ino).unwrap().into_iter().map(|(_, ino, ..)| ino));
        }
    }
    let walk = counting.reads.swap(0, Ordering::Relaxed);
    assert!(seen > 20_000 && walk < 1000, "{walk} reads for {seen} files");
    let ino = fs.lookup(fs.root(), b"file").unwrap().unwrap();
    let (mut runs, mut at) = (0, 0);
    while let Ok(run) = fs.run_at(ino, at) {
        runs += 1;
        at += run.len;
    }
    counting.reads.store(0, Ordering::Relaxed);
    fs.read_at(ino, &mut vec![0; at as usize], 0).unwrap();
    let reads = counting.reads.load(Ordering::Relaxed);
    assert!(reads <= runs + 2, "{reads} reads for {runs} runs");
}

/// The kernel may lack version 4: `mkfs.xfs` fills it from a directory, which is compared with.
#[test]
fn version_4_holds_what_mkfs_was_told_to_put_there() {
    requires!("mkfs.xfs", "xfs_db", "blkid");
    for mkfs in [
        "-m crc=0,finobt=0",
        "-m crc=0,finobt=0 -n version=ci,ftype=1",
        "-m crc=0,finobt=0 -b size=1024 -i size=256,attr=1,projid32bit=0 -n ftype=0 -l version=1",
    ] {
        let dir = common::tempdir();
        let (disk, proto) = (dir.path().join("disk"), dir.path().join("proto"));
        let mut text = "/none\n0 0\nd--755 3 4\n".to_owned();
        let mut contents = BTreeMap::new();
        for n in 0..600 {
            let source = dir.path().join(n.to_string());
            let content = vec![(n % 251) as u8; n * n % 40_000];
            std::fs::write(&source, &content).unwrap();
            writeln!(text, "Name-{n} ---644 {n} 70000 {}", source.display()).unwrap();
            contents.insert(format!("Name-{n}"), content);
        }
        writeln!(text, "link l--777 0 0 {}", "t".repeat(90)).unwrap();
        writeln!(text, "long l--777 0 0 {}", "u".repeat(400)).unwrap();
        writeln!(text, "char c--600 0 0 5 70000\nfifo p--600 0 0\nsetuid -u-755 9 9 /dev/null").unwrap();
        writeln!(text, "dir d--750 1 1\ninside ---644 0 0 /dev/null\n$\n$").unwrap();
        std::fs::write(&proto, text).unwrap();
        common::sh(&format!(
            "truncate -s 400M {0}; mkfs.xfs -q {mkfs} -p {1} {0} 2>&1",
            disk.display(),
            proto.display()
        ));
        let fs = open(&file(&disk)).unwrap();
        let root = fs.root();
        let find = |name: &str| fs.lookup(root, name.as_bytes()).unwrap();
        for (name, content) in &contents {
            let ino = find(name).unwrap();
            let mut read = vec![1; content.len() + 5];
            assert_eq!(fs.read_at(ino, &mut read, 0).unwrap(), content.len());
            assert!(read[..content.len()] == content[..], "{mkfs}: {name}");
            assert_eq!(fs.stat(ino).unwrap().gid, 70000);
        }
        assert_eq!(entries(&fs, root).unwrap().len(), contents.len() + 6);
        let stat = |name: &str| fs.stat(find(name).unwrap()).unwrap();
        assert_eq!(fs.readlink(find("link").unwrap()).unwrap(), "t".repeat(90).as_bytes());
        assert_eq!(fs.readlink(find("long").unwrap()).unwrap(), "u".repeat(400).as_bytes());
        assert_eq!((stat("char").rdev, stat("char").kind), ((5, 70000), FileType::Char));
        assert_eq!(
            (stat("dir").mode, stat("setuid").mode, stat("fifo").kind),
            (0o750, 0o4755, FileType::Fifo)
        );
        assert!(fs.lookup(find("dir").unwrap(), b"inside").unwrap().is_some());
        assert!(fs.xattrs(root).unwrap().is_empty());
        let folds = mkfs.contains("ci");
        assert_eq!((find("nAME-77").is_some(), fs.ignores_case()), (folds, folds), "{mkfs}");
        same_facts(&disk, &fs);
    }
}

/// What carries a checksum: where it starts, its length, and where in it the checksum stands.
#[derive(Clone, Copy, Debug)]
struct Sealed {
    start: usize,
    len: usize,
    crc: usize,
}

/// Everything of version 5 with a checksum that reading meets, by its magic numbers: inodes of 512 bytes, blocks of 4096,
/// records of the log.
fn sealed(image: &[u8]) -> Vec<Sealed> {
    let mut all = vec![Sealed { start: 0, len: 512, crc: 224 }];
    for start in (512..image.len() - 4096).step_by(512) {
        let bytes = &image[start..];
        let mut add = |len, crc| all.push(Sealed { start, len, crc });
        match (&bytes[..4], &bytes[8..10]) {
            ([b'I', b'N', mode, ..], _) if *mode != 0 => add(512, 100),
            (b"XDB3" | b"XDD3", _) => add(4096, 4),
            (b"BMA3", _) => add(4096, 64),
            (b"XSLM" | b"XARM", _) => add(4096, 12),
            (_, [0x3d, 0xf1 | 0xff] | [0x3e, 0xbe] | [0x3b, 0xee]) if start % 4096 == 0 => add(4096, 12),
            ([0xfe, 0xed, 0xba, 0xbe], _) => {
                let len = u32::from_be_bytes(bytes[12..16].try_into().unwrap()) as usize;
                if len > 0 && start + 512 + len < image.len() {
                    add(512 + len, 32);
                }
            }
            _ => {}
        }
    }
    all
}

/// The checksum of such a thing, as the specification has it; of a record's header only 328 bytes count.
fn checksum_of(sealed: Sealed, bytes: &[u8]) -> u32 {
    let (head, rest) = bytes.split_at(sealed.crc);
    let rest = &rest[4..];
    if sealed.crc == 32 {
        return crc32c(&[head, &[0; 4], &rest[..328 - 36], &rest[512 - 36..]]);
    }
    crc32c(&[head, &[0; 4], rest])
}

/// Bytes changed in inodes, directories, maps, attributes and the log; most with a checksum that is right again, so that
/// what stands behind it is met.
#[test]
fn damaged_file_systems_end_in_errors_and_soon() {
    requires!("root", "loop", "mkfs.xfs", "python3", "xfs_io");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!(
        "truncate -s 40M {0}; mkfs.xfs --unsupported -q -d agcount=2 -l size=4m -m reflink=0,rmapbt=0 {0} 2>&1",
        disk.display()
    ));
    for changes in [
        DAMAGED,
        "cd $A; mkdir later; for n in $(seq 90); do echo $n > later/$n; done; rm -r many/*7; mv tree big; mkdir z; echo x > z/y; sync -f .; mv a z; ln -s b z/l; xfs_io -x -c 'shutdown -f' .",
    ] {
        let mounted = Mounted::new(&disk, "rw");
        common::sh(&format!("A={}; {changes}", mounted.at.display()));
    }
    let image = std::fs::read(&disk).unwrap();
    let all = sealed(&image);
    for one in &all {
        let bytes = &image[one.start..one.start + one.len];
        let stored = u32::from_le_bytes(bytes[one.crc..one.crc + 4].try_into().unwrap());
        assert!(stored == checksum_of(*one, bytes) || stored == 0 || one.crc == 32, "{one:?}");
    }
    let kinds: std::collections::BTreeSet<usize> = all.iter().map(|one| one.crc).collect();
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    let clean = Arc::new(Memory::new(image.clone(), "disk"));
    let volume: Arc<dyn BlockSource> = Arc::<Memory>::clone(&clean);
    assert!(open(&volume).unwrap().facts().warnings[0].contains("played back"));
    let (_, failed) = exercise(&volume);
    assert_eq!(failed, 0, "on the clean one");
    let mut random = Random(5);
    let (mut done, mut failed) = (0, 0);
    for _ in 0..MUTANTS {
        let mut changes: Vec<(u64, u8)> = Vec::new();
        for _ in 0..=random.below(3) {
            let kind = *kinds.iter().nth(random.below(kinds.len() as u64) as usize).unwrap();
            let alike: Vec<&Sealed> = all.iter().filter(|one| one.crc == kind).collect();
            // Of the log's records, the last are those that are played back.
            let skip = if kind == 32 { alike.len().saturating_sub(4) } else { 0 };
            let one = *alike[skip + random.below((alike.len() - skip) as u64) as usize];
            let mut bytes = image[one.start..one.start + one.len].to_vec();
            for _ in 0..=random.below(4) {
                // Headers count most; a record's data starts behind 512 bytes.
                let reach = [64, 256, one.len as u64][random.below(3) as usize];
                let skip = if kind == 32 && random.below(2) == 0 { 512 } else { 0 };
                let at = (skip + random.below(reach) as usize).min(one.len - 1);
                bytes[at] = [0, 0xff, 0x7f, 0x80, 1, random.below(256) as u8][random.below(6) as usize];
            }
            if random.below(10) > 0 {
                let crc = checksum_of(one, &bytes).to_le_bytes();
                bytes[one.crc..one.crc + 4].copy_from_slice(&crc);
            }
            let old = &image[one.start..];
            let changed = (0..one.len).filter(|n| bytes[*n] != old[*n]);
            changes.extend(changed.map(|n| ((one.start + n) as u64, bytes[n])));
        }
        let mutant: Arc<dyn BlockSource> = Arc::new(Mutant { clean: Arc::clone(&clean), changes });
        let (worked, broke) = exercise(&mutant);
        done += worked;
        failed += broke;
    }
    assert!(
        done > 10 * MUTANTS && failed > MUTANTS / 4,
        "{done} worked, {failed} failed: the damage was not met"
    );
}

const MUTANTS: usize = 300;
/// One of everything, small.
const DAMAGED: &str = r#"cd $A; mkdir -p a/b/c many mid; for n in $(seq 800); do echo $n > many/a-rather-long-name-$n; done; for n in $(seq 70); do echo > mid/$n; done
    ln -s a/b link; ln -s $(printf 'x%.0s' $(seq 900)) long; mknod null c 1 3
    python3 -c '
import os
with open("big", "wb") as f: f.write(os.urandom(300000))
with open("tree", "wb") as f:
    for n in range(600):
        f.seek(n * 8192)
        f.write(b"x")
for n in range(20): os.setxattr("big", "user.a%d" % n, b"v" * (n * 30))
os.setxattr("big", "user.remote", b"r" * 9000)
os.setxattr("a", "user.short", b"s")
with open("node", "wb") as f: f.write(b"n")
for n in range(300): os.setxattr("node", "user.a-long-name-%d" % n, b"v" * 20)
'"#;

#[test]
fn a_copy_stands_in_for_a_lost_superblock() {
    requires!("root", "loop", "mkfs.xfs");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    for mkfs in ["", "-s size=4096", "-b size=1024"] {
        common::sh(&format!("rm -f {0}; truncate -s 400M {0}; mkfs.xfs -q {mkfs} {0}", disk.display()));
        let mounted = Mounted::new(&disk, "rw");
        common::sh(&format!("cd {}; mkdir d; echo text > d/file; ln -s d/file link", mounted.at.display()));
        drop(mounted);
        let expected = kernel(&Mounted::new(&disk, "ro").at);
        common::sh(&format!("dd if=/dev/zero of={} bs=512 count=1 conv=notrunc status=none", disk.display()));
        let fs = open(&file(&disk)).unwrap();
        same(&ours(&fs), &expected, mkfs);
        assert!(fs.facts().warnings[0].contains("a copy of it is used"), "{:?}", fs.facts().warnings);
    }
}

#[test]
fn what_cannot_be_read_right_is_refused_by_name() {
    requires!("mkfs.xfs", "xfs_db");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    let words = ["write features_incompat 0x1b", "write -d features_incompat 0x800b", "write inprogress 1"];
    for (word, why) in words.iter().zip(["NEEDSREPAIR", "0x8000 of sb_features_incompat", "not finished"]) {
        common::sh(&format!("rm -f {0}; truncate -s 400M {0}; mkfs.xfs -q {0}", disk.display()));
        common::sh(&format!("xfs_db -x -c 'sb 0' -c '{word}' {} 2>&1", disk.display()));
        let error = open(&file(&disk)).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_log_may_be_left_alone() {
    requires!("root", "loop", "mkfs.xfs", "xfs_io");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 400M {0}; mkfs.xfs -q {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    common::sh(&format!(
        "cd {}; echo text > file; sync -f .; xfs_io -x -c 'shutdown -f' .",
        mounted.at.display()
    ));
    drop(mounted);
    let kept = detect_all(&[file(&disk)], Journal::Ignore).remove(0).unwrap();
    let Content::Files(kept) = kept else { panic!("{kept:?}") };
    let replayed = open(&file(&disk)).unwrap();
    assert_eq!((kept.facts().state, replayed.facts().state), (State::Dirty, State::Dirty));
    assert!(kept.facts().warnings[0].contains("was not played back"), "{:?}", kept.facts().warnings);
    let there = kernel(&Mounted::new(&disk, "ro,norecovery").at);
    same(&ours(&kept), &there, "without the log");
    let file = replayed.lookup(replayed.root(), b"file").unwrap().unwrap();
    let mut text = [0; 9];
    assert_eq!((replayed.read_at(file, &mut text, 0).unwrap(), &text[..5]), (5, &b"text\n"[..]));
}

/// A file system of version 4, which has no seals, with one file or directory that `xfs_db` was told to change.
fn changed_v4(proto: &str, commands: &[&str]) -> Fs {
    let dir = common::tempdir();
    let (disk, list) = (dir.path().join("disk"), dir.path().join("proto"));
    std::fs::write(&list, format!("/none\n0 0\nd--755 3 4\n{proto}$\n")).unwrap();
    common::sh(&format!(
        "truncate -s 400M {0}; mkfs.xfs -q -m crc=0,finobt=0 -p {1} {0} 2>&1",
        disk.display(),
        list.display()
    ));
    for command in commands {
        // It complains of the damage while that is being done, and writes all the same.
        common::sh(&format!("xfs_db -x {command} {} 2>&1 || true", disk.display()));
    }
    open(&file(&disk)).unwrap()
}

const ATTRIBUTE: &str = "-c 'path /file' -c 'attr_set -u -v 20000 long'";

#[test]
fn a_value_that_was_not_written_is_no_zeros() {
    requires!("mkfs.xfs", "xfs_db");
    let proto = "file ---644 0 0 /dev/null\n";
    let fs = changed_v4(proto, &[ATTRIBUTE]);
    let ino = fs.lookup(fs.root(), b"file").unwrap().unwrap();
    let all = fs.xattrs(ino).unwrap();
    assert_eq!((all[0].name.as_slice(), all[0].value.len()), (&b"user.long"[..], 20_000));
    let cut = "-c 'path /file' -c 'write -d a.bmx[0].blockcount 2'";
    let fs = changed_v4(proto, &[ATTRIBUTE, cut]);
    let error = fs.xattrs(ino).unwrap_err().to_string();
    assert!(error.contains("not all written"), "{error}");
}

#[test]
fn a_block_that_comes_twice_is_damage() {
    requires!("mkfs.xfs", "xfs_db");
    // The second block of the directory is the first.
    let names: String = (0..600).map(|n| format!("Name-{n} ---644 0 0 /dev/null\n")).collect();
    let alias = "-c 'path /' -c 'write -d u.bmx[1].startblock 12' -c 'write -d u.bmx[1].blockcount 1'";
    let fs = changed_v4(&names, &[alias]);
    let error = entries(&fs, fs.root()).unwrap_err().to_string();
    assert!(error.contains("twice"), "{error}");
}
