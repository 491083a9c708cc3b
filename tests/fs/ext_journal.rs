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

/// Attempts at an image whose journal holds what was done. Whatever makes the whole machine write its file systems back at
/// that moment, or the kernel commit for a reason of its own, leaves something else.
const ATTEMPTS: usize = 20;

/// An image taken while the file system was mounted with `options`, and changed; without its journal it is as before.
fn dirty(dir: &Path, mke2fs: &str, options: &str) -> PathBuf {
    let is_as_before = |taken: &Path| {
        let looked = |file| common::sh(&format!("debugfs -c -R 'stat {file}' {} 2>&1", taken.display()));
        let checked = common::sh(&format!("e2fsck -fn {} 2>&1 || true", taken.display())).to_lowercase();
        looked("/last").contains("File not found")
            && looked("/base/old-0").contains("Inode:")
            && !checked.contains("checksum")
            && !checked.contains("corrupt")
    };
    let mut attempts = std::iter::repeat_with(|| dirty_once(dir, mke2fs, options)).take(ATTEMPTS);
    attempts.find(|taken| is_as_before(taken)).expect("the journal alone holds what was done")
}

fn dirty_once(dir: &Path, mke2fs: &str, options: &str) -> PathBuf {
    let (disk, taken) = (dir.join("disk"), dir.join("taken"));
    common::sh(&format!("truncate -s 64M {0}; mke2fs -q -F {mke2fs} {0}", disk.display()));
    let mounted = Mounted::new(&disk, options);
    python(BASE, &mounted.at);
    drop(mounted);
    let mounted = Mounted::new(&disk, &format!("{options},commit=300"));
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

    if options.contains("data=journal") {
        runs_lead_into_the_journal(&taken, &fs);
    }

    // What lies on the disk is older.
    let fs = opened(&taken, Journal::Ignore);
    assert_eq!(fs.facts().state, State::Dirty);
    assert!(fs.facts().warnings[0].contains("journal was not replayed"), "{:?}", fs.facts().warnings);
    assert!(fs.lookup(fs.root(), b"last").unwrap().is_none());
    let base = fs.lookup(fs.root(), b"base").unwrap().unwrap();
    assert!(fs.lookup(base, b"old-0").unwrap().is_some());
}

/// `run_at` names the bytes that `read_at` gives, though they lie in the journal.
fn runs_lead_into_the_journal(disk: &Path, fs: &Fs) {
    let raw = std::fs::File::open(disk).unwrap();
    let ino = fs.lookup(fs.root(), b"new-199").unwrap().unwrap();
    let size = fs.stat(ino).unwrap().size;
    let (mut at, mut runs) = (0, 0);
    while at < size {
        let run = fs.run_at(ino, at).unwrap();
        let Place::Stored { file: 0, offset } = run.place else { panic!("{:?}", run.place) };
        let (mut there, mut here) = (vec![0; run.len as usize], vec![1; run.len as usize]);
        assert_eq!(fs.read_at(ino, &mut here, at).unwrap() as u64, run.len);
        raw.read_exact_at(&mut there, offset).unwrap();
        assert!(here == there, "at {at}");
        at += run.len;
        runs += 1;
    }
    assert!(runs > 1, "{runs} runs for {size} bytes");
}

/// An image with a journal that waits, and what the kernel shows after mounting it.
fn dirty_and_after(dir: &Path) -> (PathBuf, Listing) {
    let taken = dirty(dir, "-t ext4 -b 4096", "rw");
    let expected = after_mounting(&taken, "rw");
    (taken, expected)
}

/// Where the journal's blocks lie that are asked for, in bytes.
fn journal_block(disk: &Path, number: u64) -> u64 {
    let block = common::sh(&format!("debugfs -R 'bmap <8> {number}' {} 2>/dev/null", disk.display()));
    block.trim().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_journal_whose_inode_is_damaged_is_found_by_its_copy() {
    requires!("root", "loop", "mke2fs", "debugfs", "python3");
    let dir = common::tempdir();
    let (taken, expected) = dirty_and_after(dir.path());
    let imap = common::sh(&format!("debugfs -R 'imap <8>' {} 2>/dev/null", taken.display()));
    // "Inode 8 is part of block group 0\n\tlocated at block 37, offset 0x0700"
    let number = |key: &str, radix| {
        let word = imap.split(key).nth(1).unwrap().split([',', '\n']).next().unwrap();
        u64::from_str_radix(word, radix).unwrap()
    };
    let byte = number("at block ", 10) * 4096 + number("offset 0x", 16);
    std::fs::OpenOptions::new().write(true).open(&taken).unwrap().write_all_at(&[0; 256], byte).unwrap();
    let fs = opened(&taken, Journal::Replay);
    same(&ours(&fs), &expected, "by the copy");
    assert!(fs.facts().warnings[1].contains("the copy of its map"), "{:?}", fs.facts().warnings);
}

#[test]
fn a_journal_that_cannot_be_read_leaves_the_tree_as_it_stands() {
    requires!("root", "loop", "mke2fs", "debugfs", "python3");
    let dir = common::tempdir();
    let (taken, _) = dirty_and_after(dir.path());
    let before = ours(&opened(&taken, Journal::Ignore));
    let first = journal_block(&taken, 0);
    std::fs::OpenOptions::new().write(true).open(&taken).unwrap().write_all_at(&[0; 4], first).unwrap();
    let fs = opened(&taken, Journal::Replay);
    same(&ours(&fs), &before, "as it stands");
    let facts = fs.facts();
    assert_eq!(facts.state, State::Dirty);
    assert!(facts.warnings[0].contains("is damaged and was not replayed"), "{:?}", facts.warnings);
    assert_eq!(facts.warnings.len(), 1, "{:?}", facts.warnings);
}

/// One byte of a copy in the log: its transaction is not played back, nor is any behind it. It is the last one here, so that
/// what is left is what was there before.
#[test]
fn a_damaged_transaction_is_not_played_back() {
    requires!("root", "loop", "mke2fs", "debugfs", "dumpe2fs", "python3");
    let dir = common::tempdir();
    let (taken, expected) = dirty_and_after(dir.path());
    let dump = common::sh(&format!("dumpe2fs -h {} 2>/dev/null", taken.display()));
    let start: u64 =
        dump.lines().find_map(|line| line.strip_prefix("Journal start:")).unwrap().trim().parse().unwrap();
    let copy = journal_block(&taken, start + 1);
    let mut byte = [0];
    std::fs::File::open(&taken).unwrap().read_exact_at(&mut byte, copy + 100).unwrap();
    let disk = std::fs::OpenOptions::new().write(true).open(&taken).unwrap();
    disk.write_all_at(&[byte[0] ^ 1], copy + 100).unwrap();
    let fs = opened(&taken, Journal::Replay);
    let warnings = fs.facts().warnings;
    assert!(warnings.iter().any(|line| line.contains("was replayed up to there")), "{warnings:?}");
    let shown = ours(&fs);
    assert!(shown != expected);
    same(&shown, &ours(&opened(&taken, Journal::Ignore)), "nothing before the first transaction");
}

#[test]
fn a_journal_on_another_device_is_said() {
    requires!("mke2fs", "debugfs");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    let uuid = "11111111-2222-3333-4444-555555555555";
    common::sh(&format!(
        "truncate -s 16M {0}; mke2fs -q -F -t ext4 -O ^has_journal {0}
         printf 'feature has_journal needs_recovery\nssv journal_uuid {uuid}\n' > {0}.do; debugfs -w -f {0}.do {0} >/dev/null 2>&1",
        disk.display()
    ));
    let facts = opened(&disk, Journal::Replay).facts();
    assert_eq!(facts.state, State::Dirty);
    assert!(facts.warnings[0].contains(&format!("another device, with UUID {uuid}")), "{:?}", facts.warnings);
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
    a_journal_with_file_data_of_1k_blocks: "-t ext4 -b 1024 -O ^64bit", "rw,data=journal";
    a_journal_without_checksums: "-t ext4 -b 4096 -O ^metadata_csum", "rw";
    a_journal_of_ext3: "-t ext3 -b 1024", "rw";
    a_journal_with_checksums_of_transactions: "-t ext4 -O ^metadata_csum,^64bit", "rw,journal_checksum";
    a_journal_that_commits_early: "-t ext4 -b 4096 -O ^metadata_csum", "rw,data=writeback,journal_async_commit";
    a_journal_of_everything_new: "-t ext4 -O metadata_csum_seed,orphan_file,inline_data,ea_inode,meta_bg,^resize_inode", "rw,data=writeback,journal_async_commit";
}

/// Rounds of files created, each with an `fsync`, and of the directory before deleted, until the log, of 4 MiB, has gone
/// round: blocks of deleted directories are revoked and used again. When it reaches its beginning once more is the
/// kernel's to say, who moves the log's start when it must. Images are taken after the last two rounds.
fn wrapped(mke2fs: &str) {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 64M {0}; mke2fs -q -F {mke2fs} -J size=4 {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    let script = r#"
import os, re, sys, shutil, subprocess
top, disk = sys.argv[1] + '.mnt', sys.argv[1]
def start():
    told = subprocess.run(['dumpe2fs', '-h', disk], capture_output=True, text=True).stdout
    return int(re.search(r'Journal start: *(\d+)', told)[1])
starts, taken = [], 0
for round in range(100):
    os.mkdir(f'{top}/{round}')
    for n in range(60):
        f = os.open(f'{top}/{round}/file-{n}', os.O_CREAT | os.O_WRONLY)
        os.write(f, b'%d %d ' % (round, n) * 700); os.fsync(f); os.close(f)
        if n % 7 == 6: os.unlink(f'{top}/{round}/file-{n - 3}')
    if round: shutil.rmtree(f'{top}/{round - 1}')
    starts.append(start())
    if any(0 < now < before for before, now in zip(starts, starts[1:])):
        subprocess.check_call(['cp', '--sparse=always', disk, f'{disk}{taken}'])
        taken += 1
        if taken == 2: break
else: sys.exit(f'the log never went round; it began at {starts}')
"#;
    python(script, &disk);
    drop(mounted);
    for n in 0..2 {
        let taken = PathBuf::from(format!("{}{n}", disk.display()));
        let fs = opened(&taken, Journal::Replay);
        same(&ours(&fs), &after_mounting(&taken, "rw"), &format!("{mke2fs}, image {n}"));
    }
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

fn fast_commits_play_back(mke2fs: &str, steps: &[usize]) {
    let mut attempts = std::iter::repeat_with(|| fast_commits_played_back(mke2fs, steps)).take(ATTEMPTS);
    assert!(attempts.any(|counts| counts.iter().filter(|count| **count > 0).count() >= 2));
}

/// How many records of fast commits each image had that was taken.
fn fast_commits_played_back(mke2fs: &str, steps: &[usize]) -> Vec<usize> {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 64M {0}; mke2fs -q -F {mke2fs} {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    python(BASE, &mounted.at);
    drop(mounted);
    let mounted = Mounted::new(&disk, "rw,commit=300");
    python(SMALL_CHANGES, &disk);
    drop(mounted);
    let count = |step: &usize| {
        let taken = PathBuf::from(format!("{}{step}", disk.display()));
        let expected = without_times_of_directories(&after_mounting(&taken, "rw"));
        let fs = opened(&taken, Journal::Replay);
        same(&without_times_of_directories(&ours(&fs)), &expected, &format!("{mke2fs}, step {step}"));
        let warnings = fs.facts().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let records =
            warnings[0].strip_suffix(" fast commit records").and_then(|rest| rest.rsplit(' ').next());
        records.map_or(0, |count| count.parse::<usize>().unwrap())
    };
    steps.iter().map(count).collect()
}

#[test]
fn fast_commits_of_many_kinds() {
    requires!("root", "loop", "mke2fs", "python3");
    fast_commits_play_back(
        "-t ext4 -b 4096 -O fast_commit -J size=8,fast_commit_size=1024",
        &[2, 4, 6, 8, 9],
    );
}

#[test]
fn fast_commits_of_inline_files() {
    requires!("root", "loop", "mke2fs", "python3");
    fast_commits_play_back(
        "-t ext4 -b 1024 -O fast_commit,inline_data -J size=8,fast_commit_size=1024",
        &[1, 7],
    );
}

/// A file system that was made larger, of which nothing is at home yet but the blocks of its new part: the log holds blocks past
/// the size that the superblock has, and the superblock that has the new one.
#[test]
fn a_journal_of_a_file_system_that_was_made_larger() {
    requires!("root", "loop", "mke2fs", "resize2fs", "e2fsck", "python3");
    let dir = common::tempdir();
    let (disk, taken) = (dir.path().join("disk"), dir.path().join("taken"));
    common::sh(&format!("truncate -s 400M {0}; mke2fs -q -F -t ext4 -b 1024 {0} 64M", disk.display()));
    let mut before = [0; 1024];
    std::fs::File::open(&disk).unwrap().read_exact_at(&mut before, 1024).unwrap();
    common::sh(&format!("resize2fs -f {} 2>/dev/null", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    // Directories are spread over all groups.
    let changes = r#"
import os, sys
os.chdir(sys.argv[1])
for d in range(60):
    os.mkdir(f'dir-{d}')
    for n in range(5): open(f'dir-{d}/{n}', 'w').write(f'{d} {n}' * 300)
f = os.open('last', os.O_CREAT | os.O_WRONLY); os.write(f, b'last'); os.fsync(f)
"#;
    python(changes, &mounted.at);
    common::sh(&format!("cp --sparse=always {} {}", disk.display(), taken.display()));
    drop(mounted);
    let expected = after_mounting(&taken, "rw");
    assert!(expected.contains_key(b"/dir-59/4".as_slice()), "the changes were not made");

    // The superblock at home as it was before, but in use.
    let incompat = u32::from_le_bytes(before[0x60..0x64].try_into().unwrap()) | 4;
    before[0x60..0x64].copy_from_slice(&incompat.to_le_bytes());
    let sum = imgmount::checksum::crc32c_on(!0, &before[..0x3fc]);
    before[0x3fc..].copy_from_slice(&sum.to_le_bytes());
    std::fs::OpenOptions::new().write(true).open(&taken).unwrap().write_all_at(&before, 1024).unwrap();
    let fs = opened(&taken, Journal::Replay);
    same(&ours(&fs), &expected, "made larger");
    assert_eq!(fs.facts().size, 400 << 20);
    common::sh(&format!("e2fsck -y -E journal_only {} >/dev/null 2>&1 || [ $? -lt 4 ]", taken.display()));
    same(&kernel(&Mounted::new(&taken, "ro").at), &expected, "e2fsck takes the size from the journal");
}

/// Backups of the superblock are as old as the file system; the journal's copy is as new as can be.
#[test]
fn a_damaged_superblock_is_taken_from_the_journal() {
    requires!("root", "loop", "mke2fs", "python3");
    let dir = common::tempdir();
    let taken = dirty(dir.path(), "-t ext4 -b 1024", "rw");
    let fs = opened(&taken, Journal::Replay);
    let (shown, mounted) = (ours(&fs), fs.facts().last_mounted);
    assert!(!mounted.as_utf8().unwrap().is_empty());
    std::fs::OpenOptions::new().write(true).open(&taken).unwrap().write_all_at(&[0; 1024], 1024).unwrap();
    let fs = opened(&taken, Journal::Replay);
    same(&ours(&fs), &shown, "by the journal's superblock");
    let facts = fs.facts();
    assert_eq!(facts.last_mounted.as_utf8(), mounted.as_utf8(), "{:?}", facts.warnings);
    assert!(facts.warnings[0].contains("its backup in group"), "{:?}", facts.warnings);
}

/// A commit block of which only the first sector was written: nothing counts in it behind its header.
#[test]
fn a_commit_block_needs_its_header_alone() {
    requires!("root", "loop", "mke2fs", "debugfs", "python3");
    let dir = common::tempdir();
    let (taken, expected) = dirty_and_after(dir.path());
    let disk = std::fs::OpenOptions::new().read(true).write(true).open(&taken).unwrap();
    let bytes = std::fs::read(&taken).unwrap();
    let is_commit = |block: &[u8]| block.starts_with(&[0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 2]);
    let blocks = bytes.chunks(4096).zip((0_u64..).step_by(4096));
    let commits: Vec<u64> = blocks.filter(|(block, _)| is_commit(block)).map(|(_, at)| at).collect();
    assert!(!commits.is_empty());
    for at in &commits {
        disk.write_all_at(&[0x55; 3584], at + 512).unwrap();
    }
    let fs = opened(&taken, Journal::Replay);
    same(&ours(&fs), &expected, "torn commit blocks");
    // The time is in the header.
    for at in &commits {
        disk.write_all_at(&[0x55], at + 59).unwrap();
    }
    let warnings = opened(&taken, Journal::Replay).facts().warnings;
    assert!(warnings.iter().any(|line| line.contains("was replayed up to there")), "{warnings:?}");
}

/// Each name is looked for in a directory without an index: what that costs is paid by whoever opens, and no more is done
/// than can be paid.
#[test]
fn fast_commits_that_cost_too_much_are_left_out() {
    requires!("root", "loop", "mke2fs", "python3");
    let dir = common::tempdir();
    let (disk, taken) = (dir.path().join("disk"), dir.path().join("taken"));
    let script = r#"
import os, sys
os.chdir(sys.argv[1])
f = os.open('first', os.O_CREAT | os.O_RDWR); os.write(f, b'x'); os.fsync(f)
for n in range(800, 1000): os.unlink(f'many/{n:060}')
os.write(f, b'y'); os.fsync(f)
"#;
    let take = || {
        common::sh(&format!(
            "truncate -s 64M {0}; mke2fs -q -F -t ext4 -b 1024 -O fast_commit,^dir_index -J size=8,fast_commit_size=1024 {0}",
            disk.display()
        ));
        let mounted = Mounted::new(&disk, "rw");
        python(
            "import os, sys\nos.chdir(sys.argv[1]); os.mkdir('many')\nfor n in range(1000): open(f'many/{n:060}', 'w').close()",
            &mounted.at,
        );
        drop(mounted);
        let mounted = Mounted::new(&disk, "rw,commit=300");
        python(script, &mounted.at);
        common::sh(&format!("cp --sparse=always {} {}", disk.display(), taken.display()));
    };
    let names = |steps| {
        let mapper = Mapper::new(Arc::new(Cache::new(64 << 20)));
        let budget = Budget::new(Limits { steps, ..Limits::OPEN });
        let cx = |_| FsCx {
            budget: &budget,
            mapper: &mapper,
            journal: Journal::Replay,
            is_one_of_copies: false,
            shows_meta: false,
        };
        let Content::Files(fs) = imgmount::fs::detect_all(&[file(&taken)], &cx).remove(0).unwrap() else {
            panic!("not a file system")
        };
        let many = fs.lookup(fs.root(), b"many").unwrap().unwrap();
        (entries(&fs, many).unwrap().len(), fs.facts().warnings)
    };
    let has_fast_commits =
        |_: &()| names(Limits::OPEN.steps).1.iter().any(|line| line.contains("fast commit"));
    std::iter::repeat_with(take)
        .take(ATTEMPTS)
        .find(has_fast_commits)
        .expect("what was done is in fast commits");
    let (all, warnings) = names(Limits::OPEN.steps);
    assert_eq!((all, warnings.len()), (800, 1), "{warnings:?}");
    let (few, warnings) = names(3000);
    assert_eq!(few, 1000, "{warnings:?}");
    assert!(
        warnings.iter().any(|line| line.contains("fast commits") && line.contains("more than 3000 steps")),
        "{warnings:?}"
    );
}

/// Images of 24 MiB with a journal that waits, and where that journal's own blocks lie.
fn dirty_seed(dir: &Path, mke2fs: &str, changes: &str) -> (Arc<Memory>, Vec<u64>) {
    let (disk, taken) = (dir.join("disk"), dir.join("taken"));
    common::sh(&format!("truncate -s 24M {0}; mke2fs -q -F -b 1024 -N 1000 {mke2fs} {0}", disk.display()));
    let mounted = Mounted::new(&disk, "rw");
    python(BASE, &mounted.at);
    drop(mounted);
    let mounted = Mounted::new(&disk, "rw");
    python(changes, &mounted.at);
    common::sh(&format!("cp --sparse=always {} {}", disk.display(), taken.display()));
    drop(mounted);
    let bytes = std::fs::read(&taken).unwrap();
    let is_own = |block: &[u8]| block.starts_with(&[0xc0, 0x3b, 0x39, 0x98]) || block.starts_with(&FAST_HEAD);
    let own =
        bytes.chunks(1024).zip(0..).filter(|(block, _)| is_own(block)).map(|(_, at)| at * 1024).collect();
    (Arc::new(Memory::new(bytes, "disk")), own)
}

/// What a block of fast commits starts with: a head of eight bytes, no features.
const FAST_HEAD: [u8; 8] = [9, 0, 8, 0, 0, 0, 0, 0];

/// What comes of mutants of a journal; each must open and be walked in time.
fn mutate(clean: &Arc<Memory>, own: &[u64], seed: u64, rounds: usize, reach: u64, stamp: bool) -> String {
    let mut random = Random(seed);
    let (mut done, mut failed, mut said) = (0, 0, BTreeMap::new());
    for _ in 0..rounds {
        let mut changes = Vec::new();
        for _ in 0..=random.below(4) {
            let at = own[random.below(own.len() as u64) as usize] + 8 + random.below(reach - 8);
            changes.push((at, [0, 0xff, 0x7f, 1, random.below(256) as u8][random.below(5) as usize]));
        }
        if stamp {
            changes.extend(stamped(clean, own, &changes));
        }
        let mutant: Arc<dyn BlockSource> = Arc::new(Mutant { clean: Arc::clone(clean), changes });
        let (worked, broke) = exercise(&mutant);
        done += worked;
        failed += broke;
        for warning in open(&mutant).map(|fs| fs.facts().warnings).unwrap_or_default() {
            let words: Vec<&str> =
                warning.split(|c: char| c.is_ascii_digit()).next().unwrap().split(' ').take(9).collect();
            *said.entry(words.join(" ")).or_insert(0) += 1;
        }
    }
    assert!(done > rounds * 20);
    format!("{done} operations worked, {failed} failed: {said:?}")
}

/// The changes that make the checksums of these blocks of fast commits right again.
fn stamped(clean: &Arc<Memory>, blocks: &[u64], changes: &[(u64, u8)]) -> Vec<(u64, u8)> {
    let mutant = Mutant { clean: Arc::clone(clean), changes: changes.to_vec() };
    let (mut bytes, mut sum, mut stamps) = (vec![0; 1024], 0, Vec::new());
    for block in blocks {
        mutant.read_at(&mut bytes, *block).unwrap();
        let mut at = 0;
        while at + 4 <= bytes.len() {
            let half = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
            let (tag, end) = (half(at), at + 4 + half(at + 2));
            if end > bytes.len() {
                break;
            }
            if tag == 8 && at + 12 <= bytes.len() {
                let made = imgmount::checksum::crc32c_on(sum, &bytes[at..at + 8]);
                stamps.extend((block + at as u64 + 8..).zip(made.to_le_bytes()));
                sum = 0;
            } else {
                sum = imgmount::checksum::crc32c_on(sum, &bytes[at..end]);
            }
            at = end;
        }
    }
    stamps
}

#[test]
fn damaged_journals_end_in_warnings_and_soon() {
    requires!("root", "loop", "mke2fs", "python3");
    let dir = common::tempdir();
    let (clean, own) = dirty_seed(dir.path(), "-t ext4 -O ^metadata_csum,^64bit -J size=1", CHANGES);
    println!("{}", mutate(&clean, &own, 1, 150, 200, false));
    let (clean, own) = dirty_seed(dir.path(), "-t ext4 -J size=1", CHANGES);
    println!("{}", mutate(&clean, &own, 2, 100, 1024, false));
}

#[test]
fn damaged_fast_commits_end_in_warnings_and_soon() {
    requires!("root", "loop", "mke2fs", "python3");
    let changes = SMALL_CHANGES.replace("os.chdir(disk + '.mnt')", "os.chdir(disk)").replace(
        "subprocess.check_call(['cp', '--sparse=always', disk, f'{disk}{steps}']); steps += 1",
        "pass",
    );
    let changes = changes.split("os.symlink").next().unwrap();
    let dir = common::tempdir();
    let (clean, own) = dirty_seed(
        dir.path(),
        "-t ext4 -O fast_commit,^metadata_csum -J size=4,fast_commit_size=512",
        changes,
    );
    // The area goes on from its head, block after block.
    let is_used = |at: &u64| {
        let mut tag = [0; 2];
        clean.read_at(&mut tag, *at).is_ok() && (1..=9).contains(&u16::from_le_bytes(tag))
    };
    let is_head = |at: &&u64| {
        let mut head = [0; 8];
        clean.read_at(&mut head, **at).is_ok() && head == FAST_HEAD
    };
    let first = *own.iter().find(is_head).unwrap();
    let fast: Vec<u64> = (first..).step_by(1024).take_while(is_used).collect();
    assert!(fast.len() > 20, "{fast:?}");
    println!("{}", mutate(&clean, &fast, 3, 150, 600, true));
}
