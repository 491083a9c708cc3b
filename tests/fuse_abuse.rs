//! What no well-behaved program does to a mount: every call with wrong numbers, many at once, and the odd files that a file
//! system may hold. The kernel's own mount of the same disk says what is right, and the server lives on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::mount::{Kernel, Mount};
use common::process::Reaped;
use common::{sh, stderr, stdout, tempdir};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Names in the directory `many`: a hash tree of several levels' worth of blocks, and hundreds of pages of a listing.
const MANY: usize = 5_000;

/// Fills a mounted ext4.
const FILL: &str = r#"
import os, sys
os.chdir(sys.argv[1])
def put(path, data):
    with open(path, 'wb') as f: f.write(data)
put('file', os.urandom(300_001)); put('empty', b''); os.mkdir('dir'); put('dir/inside', b'x')
put(b'\xff\xfe\x80' * 85, b'255 bytes, none of it UTF-8'); os.symlink('file', 'link'); os.symlink('loop', 'loop')
os.mkfifo('fifo'); os.mknod('block', 0o60600, os.makedev(4095, 1048575)); os.mknod('char', 0o20600, os.makedev(1, 3))
with open('large', 'wb') as f:
    for at in (0, (1 << 32) - 3, 5 << 30): f.seek(at); f.write(os.urandom(4099))
    f.truncate((6 << 30) + 1)
for name, when in (('1901', -2**31 * 10**9 + 1), ('1969', -1), ('2038', 2**31 * 10**9 + 999999999), ('2400', 13569465600 * 10**9 + 123456789)):
    put(name, b''); os.utime(name, ns=(when, when))
os.mkdir('many')
for n in range(int(sys.argv[2])): os.close(os.open('many/%d-%s' % (n, 'n' * (n % 40)), os.O_CREAT, 0o600))
"#;

/// Says what is odd in the tree: one line each.
const ODD: &str = r#"
import hashlib, os, sys
os.chdir(os.fsencode(sys.argv[1]))
f = os.open('large', os.O_RDONLY)
for at in (0, (1 << 32) - 4096, (1 << 32) - 3, 5 << 30, (5 << 30) + 4096, (6 << 30) - 5, 6 << 30, (6 << 30) + 1, 1 << 40):
    data = os.pread(f, 70_000, at); print(at, len(data), hashlib.sha256(data).hexdigest())
print(os.lseek(f, 4096 * 3, os.SEEK_DATA), os.lseek(f, 5 << 30, os.SEEK_HOLE))
for name in sorted(os.listdir(b'.')):
    s = os.lstat(name); print(name, oct(s.st_mode), s.st_size, s.st_ino, s.st_nlink, s.st_mtime_ns, s.st_atime_ns, os.major(s.st_rdev), os.minor(s.st_rdev))
print(open(b'\xff\xfe\x80' * 85, 'rb').read())
"#;

/// Calls with every wrong argument at hand; prints how each one ends.
const ABUSE: &str = r#"
import ctypes, errno, fcntl, mmap, os, socket, sys
os.chdir(sys.argv[1]); libc = ctypes.CDLL(None, use_errno=True)
def say(what, call):
    try: result = call(); result = len(result) if isinstance(result, (bytes, list)) else result
    except OSError as e: result = errno.errorcode.get(e.errno, e.errno)
    except (OverflowError, ValueError) as e: result = type(e).__name__
    print(what, result)
def c(name, *args):
    ctypes.set_errno(0); r = getattr(libc, name)(*args)
    if r < 0: raise OSError(ctypes.get_errno(), name)
    return 'ok'
FLAGS = [f for f in dir(os) if f.startswith('O_') and f not in ('O_NONBLOCK', 'O_NDELAY')]
for name in ('file', 'empty', 'dir', 'link', 'loop', 'block', 'missing', 'n' * 256, 'file/x', ''):
    for flag in FLAGS:
        def attempt():
            f = os.open(name, getattr(os, flag) | os.O_NONBLOCK, 0o600); os.close(f); return 'opened'
        say(('open', name[:9], flag), attempt)
    n = name.encode()
    for call, args in (('unlink', (n,)), ('rmdir', (n,)), ('mkdir', (n, 0o700)), ('mknod', (n, 0o100600, 0)), ('symlink', (b'x', n)), ('link', (n, b'other')),
            ('rename', (n, b'other')), ('rename', (b'other', n)), ('truncate', (n, 5)), ('chmod', (n, 0)), ('chown', (n, 1, 1)), ('utimes', (n, None)),
            ('setxattr', (n, b'user.x', b'v', 1, 0)), ('lsetxattr', (n, b'trusted.x', b'v', 1, 0)), ('removexattr', (n, b'user.x')), ('access', (n, 2)), ('access', (n, 4))):
        say((call, name[:9]), lambda: c(call, *args))
MAX = 2**63 - 1
for name in ('file', 'dir', 'empty'):
    f = os.open(name, os.O_RDONLY)
    for at in (0, 1, 4096, 300_000, 300_001, 300_002, 2**31, 2**32, 2**40, 2**62):
        say(('pread', name, at), lambda: os.pread(f, 4096, at))
    if name != 'dir':
        say(('pread', name, 'max'), lambda: os.pread(f, 4096, MAX))
        for at in (-1, 0, 300_001, 300_002, 2**40, MAX):
            # How far one may go behind the end is each file system's own.
            for where in (*([os.SEEK_SET, os.SEEK_END] if at < MAX else []), os.SEEK_DATA, os.SEEK_HOLE, 5, 99):
                say(('lseek', name, at, where), lambda: os.lseek(f, at, where) >= 0)
    for request in (0x5401, 0x80086601, 0x40086602, 0xc0045877, 0xc0045878, 0x801c581f, 0x5421, 0x541b, 0, 0xffffffff):
        # Made to be survived: the names of a refusal differ, so they are not compared. What is frozen (FIFREEZE) is thawed next:
        # the kernel would keep it and its loop device after the unmount, for ever.
        try: fcntl.ioctl(f, request, bytearray(1000), True)
        except OSError: pass
    say(('write', name), lambda: os.write(f, b'x'))
    say(('ftruncate', name), lambda: os.ftruncate(f, 0))
    say(('fallocate', name), lambda: c('fallocate', f, 0, ctypes.c_long(0), ctypes.c_long(1)))
    say(('fsync', name), lambda: os.fsync(f))
    say(('flock', name), lambda: fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB))
    say(('lockf', name), lambda: fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB))
    say(('fadvise', name), lambda: os.posix_fadvise(f, 0, 1 << 40, os.POSIX_FADV_WILLNEED))
    say(('readahead', name), lambda: os.posix_fadvise(f, MAX - 4096, 4096, os.POSIX_FADV_WILLNEED))
    say(('write map', name), lambda: mmap.mmap(f, 4096, mmap.MAP_SHARED, mmap.PROT_WRITE) and 'ok')
    say(('exec map', name), lambda: mmap.mmap(f, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC) and 'ok')
    os.close(f)
f, to = os.open('file', os.O_RDONLY), os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
say('map', lambda: hash(mmap.mmap(f, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)[:]) != 0)
say('copy out', lambda: os.copy_file_range(f, to, 4096))
say('copy in', lambda: os.copy_file_range(to, f, 4096))
say('sendfile', lambda: os.sendfile(to, f, 1, 400_000))
for name in (b'user.none', b'security.capability', b'system.posix_acl_access', b'user.' + b'x' * 250, b'user.' + b'x' * 251, b'', b'nonsense'):
    say(('getxattr', name[:20]), lambda: os.getxattr('file', name))
for name in ('file', 'dir', '.'): say(('inotify', name), lambda: c('inotify_add_watch', libc.inotify_init1(0), name.encode(), 0xfff) and 'ok')
for name in ('file', 'dir'): say(('statvfs', name), lambda: os.statvfs(name).f_namemax)
"#;

/// Goes to and fro in the listing of `many`, through the calls that programs use for it.
const TO_AND_FRO: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Dirent(ctypes.Structure): _fields_ = [('ino', ctypes.c_uint64), ('off', ctypes.c_int64), ('len', ctypes.c_ushort), ('type', ctypes.c_ubyte), ('name', ctypes.c_char * 256)]
libc.opendir.restype = ctypes.c_void_p; libc.readdir.restype = ctypes.POINTER(Dirent); libc.readdir.argtypes = libc.rewinddir.argtypes = libc.telldir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long; libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
d = libc.opendir(os.fsencode(sys.argv[1])); count = int(sys.argv[2])
def rest():
    names = []
    while entry := libc.readdir(d): names.append((entry[0].name, entry[0].ino))
    return names
def some(n): return [libc.readdir(d)[0].name for _ in range(n)]
some(100); libc.rewinddir(d); first = some(2000); place = libc.telldir(d); behind = rest()
assert len(set(first) | {name for name, _ in behind}) == count + 2 == len(first) + len(behind), (len(first), len(behind))
libc.seekdir(d, place); assert rest() == behind
libc.rewinddir(d); again = rest(); assert [name for name, _ in again] == first + [name for name, _ in behind]
libc.seekdir(d, place); assert rest() == behind
os.chdir(sys.argv[1])
for name, ino in again[2::50]: assert os.lstat(name).st_ino == ino, name
assert len(os.listdir('.')) == count
"#;

fn python(script: &str, args: &[&std::ffi::OsStr]) -> String {
    let output = Command::new("python3").arg("-c").arg(script).args(args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// The disk of all tests, one ext4, made once by the real tools.
fn disk() -> &'static Path {
    static DISK: OnceLock<PathBuf> = OnceLock::new();
    DISK.get_or_init(|| {
        let dir = common::lasting("fuse-abuse");
        std::fs::write(dir.join("fill.py"), FILL).unwrap();
        sh(&format!(
            "cd {}; truncate -s 160M disk.raw; mkfs.ext4 -q -I 256 -N 8192 disk.raw; mnt=$(mktemp -d)
             trap 'umount $mnt 2>/dev/null || true; rmdir $mnt; released disk.raw' EXIT
             mount -o loop disk.raw $mnt; python3 fill.py $mnt {MANY}; umount $mnt",
            dir.display()
        ));
        dir.join("disk.raw")
    })
}

fn ours() -> Mount {
    Mount::of(disk(), &[])
}

fn kernels() -> Kernel {
    Kernel::mount(disk(), "noload,nosuid,nodev,noexec")
}

/// What the mount says of itself in a file.
fn own(mount: &Mount, name: &str) -> String {
    std::fs::read_to_string(mount.join(".imgmount").join(name)).unwrap()
}

/// No panic was met, and nothing is told to be damaged.
fn is_unharmed(mount: &Mount) {
    let stats = own(mount, "stats");
    assert!(stats.lines().any(|line| line == "panics 0"), "{stats}");
    assert_eq!(own(mount, "errors"), "");
}

#[test]
fn odd_files_are_as_the_kernel_shows_them() {
    requires!("root", "fuse", "loop", "mkfs.ext4", "python3");
    let (ours, kernels) = (ours(), kernels());
    let odd = |path: &Path| python(ODD, &[path.as_os_str()]);
    let (ours, kernels) = (odd(ours.path()), odd(kernels.path()));
    assert!(kernels.contains("4095 1048575") && kernels.contains("13569465600123456789"), "{kernels}");
    assert_eq!(ours, kernels);
}

#[test]
fn wrong_calls_end_as_they_do_on_the_kernels_mount_and_harm_nothing() {
    requires!("root", "fuse", "loop", "mkfs.ext4", "python3");
    let (ours, kernels, sink) = (ours(), kernels(), tempdir());
    let abuse = |path: &Path, to: &str| python(ABUSE, &[path.as_os_str(), sink.path().join(to).as_os_str()]);
    let (said, right) = (abuse(ours.path(), "ours"), abuse(kernels.path(), "kernels"));
    let differ: Vec<_> = said.lines().zip(right.lines()).filter(|(ours, theirs)| ours != theirs).collect();
    assert!(right.lines().count() > 300 && said.lines().count() == right.lines().count());
    assert!(differ.is_empty(), "ours, the kernel's: {differ:#?}");
    is_unharmed(&ours);
}

#[test]
fn a_listing_goes_on_right_after_going_back_in_it() {
    requires!("root", "fuse", "loop", "mkfs.ext4", "python3");
    let (mount, count) = (ours(), MANY.to_string());
    let many = mount.path().join("many");
    // Once from us, then out of what the kernel keeps.
    for _ in 0..2 {
        python(TO_AND_FRO, &[many.as_os_str(), count.as_ref()]);
    }
    is_unharmed(&mount);
}

#[test]
fn forty_walks_that_are_killed_leave_nothing_behind() {
    requires!("root", "fuse", "loop", "mkfs.ext4", "python3");
    let mount = ours();
    let worker = mount.process("worker");
    let anonymous = || {
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap().trim().to_owned();
        line.trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let descriptors = || std::fs::read_dir(format!("/proc/{worker}/fd")).unwrap().count();
    let before = (anonymous(), descriptors());
    let walks: Vec<_> = (0..40)
        .map(|walk| {
            let mut command = Command::new(if walk % 2 == 0 { "find" } else { "cat" });
            command.stdout(Stdio::null()).stderr(Stdio::null());
            match walk % 2 {
                0 => command.arg(mount.path()).args(["-printf", "%s"]),
                _ => command.arg(mount.path().join("large")),
            };
            Reaped(command.spawn().unwrap())
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(100));
    drop(walks);
    is_unharmed(&mount);
    assert_eq!(
        sh(&format!("ls -f {} | wc -l", mount.path().join("many").display())).trim(),
        (MANY + 2).to_string()
    );
    let after = (anonymous(), descriptors());
    assert_eq!(after.1, before.1, "descriptors");
    // Each thread's room for one read, and the caches of the inodes: not what grows with the walks.
    assert!(after.0 < before.0 + (24 << 10), "{before:?} {after:?} KiB");
}
