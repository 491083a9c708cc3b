//! XFS.

use super::*;

/// A file system made by `mkfs.xfs` with these arguments and filled by `tests/make/tree.py`, then by more.
fn make(mkfs: &str, tree: &str) -> Made {
    let made = fill(&format!("mkfs.xfs -q -L 'a label' {mkfs} $DISK"), "400M", tree);
    let mounted = Mounted::new(&made.disk, "rw");
    common::sh(&format!("cd {} && python3 - << 'END'\n{MORE}\nEND", mounted.at.display()));
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
for count, keep in ((12, 12), (3000, 0), (3000, 10), (20000, 20000)):
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
fn same_as_kernel(mkfs: &str) -> (Made, Fs) {
    let made = make(mkfs, "");
    let fs = open(&file(&made.disk)).unwrap();
    let expected = kernel(&Mounted::new(&made.disk, "ro").at);
    assert!(expected.len() > 20_000, "the tree was not made");
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

#[track_caller]
fn same_facts(disk: &Path, fs: &Fs) {
    let facts = fs.facts();
    let says = fields(disk, "blocksize dblocks icount ifree fdblocks uuid");
    let number = |key: &str| says[key].parse::<u64>().unwrap();
    let block = number("blocksize");
    assert_eq!((u64::from(facts.block_size), facts.size), (block, number("dblocks") * block));
    assert_eq!((facts.inodes, facts.free_inodes), (number("icount"), number("ifree")));
    assert_eq!(facts.free, number("fdblocks") * block);
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
            same_as_kernel($mkfs);
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
    let (made, fs) = same_as_kernel("");
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
    // What the kernel makes of it.
    common::sh(&format!("cp --sparse=always {} {}", image.display(), disk.display()));
    drop(Mounted::new(&disk, "rw"));
    (Made { disk, _dir: dir }, image)
}

/// The machine stops after what is in memory of the log was written, or without that, or was never stopped: copied.
const FLUSHED: &str = "xfs_io -x -c 'shutdown -f' $A";
const CUT: &str = "xfs_io -x -c shutdown $A";
const COPIED: &str = "cp --sparse=always $DISK $IMAGE";

#[track_caller]
fn replays_as_the_kernel_does(mkfs: &str, seed: u64, rounds: [u32; 2], stop: &str) {
    let (recovered, image) = interrupted(mkfs, seed, rounds, stop);
    let fs = open(&file(&image)).unwrap();
    let expected = kernel(&Mounted::new(&recovered.disk, "ro").at);
    let facts = fs.facts();
    assert_eq!(facts.state, State::Dirty);
    assert!(facts.warnings[0].contains("played back in memory"), "{:?}", facts.warnings);
    same(&ours(&fs), &expected, &format!("{mkfs}, seed {seed}: {:?}", facts.warnings));
    // The kernel goes on to free what was open and had no name any more.
    let says = fields(&recovered.disk, "icount ifree fdblocks blocksize");
    let number = |key: &str| says[key].parse::<u64>().unwrap();
    assert!(facts.inodes - facts.free_inodes >= number("icount") - number("ifree"), "{says:?}");
    assert!(facts.free <= number("fdblocks") * number("blocksize"));
}

#[test]
fn a_log_is_played_back_as_the_kernel_does() {
    requires!("root", "loop", "mkfs.xfs", "xfs_db", "xfs_io", "xfs_logprint", "python3");
    replays_as_the_kernel_does("", 1, [100, 700], FLUSHED);
    replays_as_the_kernel_does("-b size=1024 -n size=8192 -m rmapbt=1", 2, [100, 700], CUT);
    replays_as_the_kernel_does("-l su=64k -n size=65536 -i nrext64=1", 3, [100, 700], COPIED);
}
