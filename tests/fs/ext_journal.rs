//! Journals of ext3 and ext4 that wait: what we show of an image taken in use is what the kernel shows after mounting it.

use super::*;

/// Makes changes of every kind in `$1`, and one `fsync` at the end, so that they are in the journal and nowhere else.
const CHANGES: &str = r#"
import os, sys
os.chdir(sys.argv[1])
def put(name, data):
    with open(name, 'wb') as f: f.write(data)
for n in range(200):
    put(f'new-{n}', b'%d' % n * (n * 40 + 1))
    os.setxattr(f'new-{n}', 'user.n', b'%d' % n * 9)
for n in range(0, 300, 3): os.unlink(f'base/old-{n}')
for n in range(1, 300, 6): os.rename(f'base/old-{n}', f'moved-{n}')
for n in range(2, 300, 12): os.link(f'base/old-{n}', f'base/link-{n}')
os.mkdir('dir'); os.makedirs('deep/a/b/c')
for n in range(150): put(f'dir/{"long-name-" * 12}{n}', b'x' * n)
for n in range(20): os.rmdir(f'gone/{n}')
os.rmdir('gone')
os.symlink('short', 'link'); os.symlink('t' * 200, 'longlink')
os.mknod('device', 0o60600, os.makedev(8, 300)); os.mkfifo('fifo')
os.truncate('base/big', 5000); os.truncate('base/sparse', 9 << 20)
with open('base/grows', 'ab') as f: f.write(b'tail' * 3000)
with open('base/over', 'r+b') as f: f.seek(70000); f.write(b'overwritten' * 100); f.flush(); os.fsync(f.fileno())
os.chmod('base/big', 0o4711); os.chown('base/grows', 1000, 1001); os.utime('base/over', ns=(10**18, 10**18 + 7))
os.setxattr('base/grows', 'user.large', b'v' * 700); os.removexattr('base/over', 'user.gone')
# What looks like a block of the journal, and is data.
put('magic', bytes.fromhex('c03b3998') * 4096)
f = os.open('last', os.O_CREAT | os.O_WRONLY); os.write(f, b'last'); os.fsync(f)
"#;

/// What is there before.
const BASE: &str = r#"
import os, sys
os.chdir(sys.argv[1])
os.mkdir('base'); os.mkdir('gone')
for n in range(300): open(f'base/old-{n}', 'wb').write(b'old %d' % n)
for n in range(20): os.mkdir(f'gone/{n}')
open('base/big', 'wb').write(os.urandom(300000)); open('base/grows', 'wb').write(b'g' * 3000)
open('base/over', 'wb').write(b'o' * 200000); open('base/sparse', 'wb').truncate(1 << 20)
os.setxattr('base/over', 'user.gone', b'1')
"#;

fn python(script: &str, argument: &Path) {
    common::sh(&format!("python3 - {} <<'PYTHON'\n{script}\nPYTHON", argument.display()));
}

/// The kernel's view of an image that was taken in use: mounted once to play the journal back, and again to look.
fn after_mounting(disk: &Path, options: &str) -> Listing {
    let copy = disk.with_extension("played");
    common::sh(&format!("cp --sparse=always {} {}", disk.display(), copy.display()));
    drop(Mounted::new(&copy, &format!("rw,{options}")));
    let listing = kernel(&Mounted::new(&copy, "ro").at);
    common::sh(&format!("rm {}", copy.display()));
    listing
}

/// An image taken while the file system was mounted with `options`, and changed.
fn dirty(dir: &Path, mke2fs: &str, options: &str) -> PathBuf {
    let (disk, taken) = (dir.join("disk"), dir.join("taken"));
    common::sh(&format!("truncate -s 64M {0}; mke2fs -q -F {mke2fs} {0}", disk.display()));
    let mounted = Mounted::new(&disk, options);
    python(BASE, &mounted.at);
    drop(mounted);
    let mounted = Mounted::new(&disk, options);
    python(CHANGES, &mounted.at);
    common::sh(&format!("cp --sparse=always {} {}", disk.display(), taken.display()));
    drop(mounted);
    taken
}

fn opened(disk: &Path, journal: Journal) -> Fs {
    match detect_all(&[file(disk)], journal).remove(0).unwrap() {
        Content::Files(fs) => fs,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn plays_back_as_the_kernel(mke2fs: &str, options: &str) {
    let dir = common::tempdir();
    let taken = dirty(dir.path(), mke2fs, options);
    let expected = after_mounting(&taken, options);
    assert!(expected.len() > 500 && expected.contains_key(b"/last".as_slice()), "the changes were not made");

    let fs = opened(&taken, Journal::Replay);
    same(&ours(&fs), &expected, &format!("{mke2fs}, {options}"));
    let facts = fs.facts();
    assert_eq!(facts.state, State::Dirty);
    assert!(facts.warnings[0].contains("journal was replayed in memory"), "{:?}", facts.warnings);
    assert_eq!(facts.warnings.len(), 1, "{:?}", facts.warnings);

    // What lies on the disk is older.
    let fs = opened(&taken, Journal::Ignore);
    assert_eq!(fs.facts().state, State::Dirty);
    assert!(fs.facts().warnings[0].contains("journal was not replayed"), "{:?}", fs.facts().warnings);
    assert!(fs.lookup(fs.root(), b"last").unwrap().is_none());
    let base = fs.lookup(fs.root(), b"base").unwrap().unwrap();
    assert!(fs.lookup(base, b"old-0").unwrap().is_some());
}

macro_rules! dirty_variants {
    ($($name:ident: $mke2fs:expr, $options:expr;)*) => {$(
        #[test]
        fn $name() {
            requires!("root", "loop", "mke2fs", "python3");
            plays_back_as_the_kernel($mke2fs, $options);
        }
    )*};
}

dirty_variants! {
    a_journal_of_ext4_by_default: "-t ext4 -b 4096", "rw";
    a_journal_with_file_data: "-t ext4 -b 4096", "rw,data=journal";
    a_journal_with_file_data_of_1k_blocks: "-t ext4 -b 1024 -O ^64bit", "rw,data=journal";
    a_journal_without_checksums: "-t ext4 -b 4096 -O ^metadata_csum", "rw";
    a_journal_without_checksums_and_64bit: "-t ext4 -b 4096 -O ^metadata_csum,^64bit", "rw";
    a_journal_of_ext3: "-t ext3 -b 1024", "rw";
    a_journal_with_checksums_of_transactions: "-t ext4 -O ^metadata_csum,^64bit", "rw,journal_checksum";
    a_journal_that_commits_early: "-t ext4 -b 4096 -O ^metadata_csum", "rw,data=writeback,journal_async_commit";
    a_journal_that_commits_early_with_checksums: "-t ext4 -b 4096", "rw,data=writeback,journal_async_commit";
    a_journal_of_everything_new: "-t ext4 -O metadata_csum_seed,orphan_file,inline_data,ea_inode,meta_bg,^resize_inode", "rw";
}

/// Twelve rounds of files created, each with an `fsync`, and of the directory before deleted: the log, of 4 MiB, goes round,
/// and blocks of deleted directories are revoked and used again. An image is taken after each round.
fn wrapped(mke2fs: &str) {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 64M {0}; mke2fs -q -F {mke2fs} -J size=4 {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    let script = r#"
import os, sys, shutil, subprocess
top, disk = sys.argv[1] + '.mnt', sys.argv[1]
for round in range(12):
    os.mkdir(f'{top}/{round}')
    for n in range(60):
        f = os.open(f'{top}/{round}/file-{n}', os.O_CREAT | os.O_WRONLY)
        os.write(f, b'%d %d ' % (round, n) * 700); os.fsync(f); os.close(f)
        if n % 7 == 6: os.unlink(f'{top}/{round}/file-{n - 3}')
    if round: shutil.rmtree(f'{top}/{round - 1}')
    if round > 7: subprocess.check_call(['cp', '--sparse=always', disk, f'{disk}{round}'])
"#;
    python(script, &disk);
    drop(mounted);
    let mut rounds = 0;
    for round in 8..12 {
        let taken = PathBuf::from(format!("{}{round}", disk.display()));
        let fs = opened(&taken, Journal::Replay);
        same(&ours(&fs), &after_mounting(&taken, "rw"), &format!("{mke2fs}, round {round}"));
        let dump = common::sh(&format!("dumpe2fs -h {} 2>/dev/null", taken.display()));
        let start = dump.lines().find_map(|line| line.strip_prefix("Journal start:")).unwrap();
        rounds += usize::from(start.trim().parse::<u64>().unwrap() > 1);
    }
    assert!(rounds > 1, "the log never went round");
}

#[test]
fn a_journal_that_goes_round() {
    requires!("root", "loop", "mke2fs", "dumpe2fs", "python3");
    wrapped("-t ext4 -b 4096");
}

#[test]
fn a_journal_of_1k_blocks_that_goes_round() {
    requires!("root", "loop", "mke2fs", "dumpe2fs", "python3");
    wrapped("-t ext4 -b 1024 -O ^metadata_csum,^64bit");
}

/// What a fast commit can say: files created, written, cut, renamed, linked, deleted; directories made and removed. An
/// image is taken after each step.
const SMALL_CHANGES: &str = r#"
import os, sys, subprocess
disk = sys.argv[1]
os.chdir(disk + '.mnt')
steps = 0
def sync(name):
    f = os.open(name, os.O_RDWR); os.fsync(f); os.close(f)
def take():
    global steps
    subprocess.check_call(['cp', '--sparse=always', disk, f'{disk}{steps}']); steps += 1
open('first', 'w').write('x'); sync('first')
for n in range(40):
    with open(f'new-{n}', 'wb') as f: f.write(b'%d ' % n * 2000); f.flush(); os.fsync(f.fileno())
take()
with open('base/over', 'r+b') as f:
    f.seek(70000); f.write(b'overwritten' * 100); f.flush(); os.fsync(f.fileno())
    f.seek(1 << 20); f.write(b'far' * 3000); f.flush(); os.fsync(f.fileno())
with open('base/big', 'r+b') as f:
    f.truncate(5000); os.fsync(f.fileno())
    os.posix_fallocate(f.fileno(), 0, 40000); os.fsync(f.fileno())
take()
with open('base/sparse', 'r+b') as f:
    for n in range(0, 200, 2): f.seek(n * 4096); f.write(b'island')
    f.flush(); os.fsync(f.fileno())
take()
for n in range(0, 30, 3): os.unlink(f'base/old-{n}')
sync('base/over')
for n in range(1, 30, 3): os.rename(f'base/old-{n}', f'moved-{n}')
sync('base/over')
take()
for n in range(2, 30, 3): os.link(f'base/old-{n}', f'link-{n}'); sync(f'link-{n}')
os.link('base/old-40', 'base/twice'); os.unlink('base/old-40'); sync('base/twice')
take()
os.rename('new-1', 'new-2'); sync('new-2')
os.unlink('new-3'); open('new-3', 'w').write('again'); sync('new-3')
take()
os.chmod('base/big', 0o4711); os.chown('base/grows', 1000, 1001); os.utime('base/over', ns=(10**18, 10**18 + 7))
for name in ['base/big', 'base/grows', 'base/over']: sync(name)
take()
os.mkdir('dir'); open('dir/inside', 'w').write('in'); sync('dir/inside'); sync('first')
take()
os.symlink('target', 'link'); os.symlink('t' * 200, 'longlink'); os.mkfifo('fifo'); sync('first')
take()
open('after', 'w').write('after'); sync('after')
os.rmdir('gone/3'); sync('after')
take()
"#;

/// Times of directories, which the kernel sets to when it played back, and their sizes, which it may let grow, are left out.
fn without_times_of_directories(listing: &Listing) -> Listing {
    let mask = |line: &String| {
        if !line.starts_with('d') {
            return line.clone();
        }
        let mut words: Vec<&str> = line.split(' ').collect();
        for key in ["m", "c", "size"] {
            let at = words.iter().position(|word| *word == key).unwrap();
            words[at + 1] = "-";
        }
        words.join(" ")
    };
    listing.iter().map(|(path, line)| (path.clone(), mask(line))).collect()
}

fn fast_commits_play_back(mke2fs: &str) {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 64M {0}; mke2fs -q -F {mke2fs} {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    python(BASE, &mounted.at);
    drop(mounted);
    let mounted = Mounted::new(&disk, "rw");
    python(SMALL_CHANGES, &disk);
    drop(mounted);
    let mut counts = Vec::new();
    for step in 0..10 {
        let taken = PathBuf::from(format!("{}{step}", disk.display()));
        let expected = without_times_of_directories(&after_mounting(&taken, "rw"));
        let fs = opened(&taken, Journal::Replay);
        same(&without_times_of_directories(&ours(&fs)), &expected, &format!("{mke2fs}, step {step}"));
        let warnings = fs.facts().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let records =
            warnings[0].strip_suffix(" fast commit records").and_then(|rest| rest.rsplit(' ').next());
        counts.push(records.map_or(0, |count| count.parse::<usize>().unwrap()));
    }
    println!("{mke2fs}: {counts:?} fast commit records");
    assert!(counts.iter().filter(|count| **count > 0).count() >= 6, "{counts:?}");
}

#[test]
fn fast_commits_of_many_kinds() {
    requires!("root", "loop", "mke2fs", "python3");
    fast_commits_play_back("-t ext4 -b 4096 -O fast_commit -J size=8,fast_commit_size=1024");
}

#[test]
fn fast_commits_of_inline_files() {
    requires!("root", "loop", "mke2fs", "python3");
    fast_commits_play_back("-t ext4 -b 1024 -O fast_commit,inline_data -J size=8,fast_commit_size=1024");
}
