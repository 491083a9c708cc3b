//! A mounted image shows what the kernel shows of the same disk over a loop device, and comes and goes cleanly.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
#[path = "fuse/captive.rs"]
mod captive;
mod common;
#[path = "fuse/escapes.rs"]
mod escapes;
#[path = "fuse/inherited.rs"]
mod inherited;
#[path = "fuse/others.rs"]
mod others;
#[path = "fuse/walks.rs"]
mod walks;

use common::mount::{Kernel, LET_GO, Mount, as_nobody};
use common::process::{Reaped, SOON, children, holder, runs, signal, within};
use common::{IMGMOUNT, imgmount, sh, stderr, stdout, tempdir};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

/// Where the file system starts on the disk.
const START: u64 = 1 << 20;

/// Fills a mounted ext4 with one of everything a mount can get wrong.
const FILL: &str = r#"
import os, socket, sys
os.chdir(sys.argv[1])
def put(path, data, mode=0o644, uid=0, gid=0):
    with open(path, 'wb') as f: f.write(data)
    os.chown(path, uid, gid); os.chmod(path, mode)
os.makedirs('etc'); os.makedirs('usr/share/doc'); os.makedirs('home/me'); os.makedirs('many')
put('etc/hostname', b'guest\n')
for size in (0, 1, 59, 60, 4095, 4096, 4097, 1 << 20): put('usr/share/%d' % size, os.urandom(size))
put('home/me/setuid', b'#!/bin/sh\n', 0o4755, 1000, 100)
put(b'home/me/caf\xe9', b'not UTF-8'); put('home/me/new\nline', b'x'); put('home/me/ blank \\ ', b'x')
put('home/me/' + 'n' * 255, b'the longest name')
for n in range(3000): put('many/%04d' % n, b'%d' % n)
with open('sparse', 'wb') as f:
    for at in (0, 1 << 20, (5 << 20) + 4096): f.seek(at); f.write(os.urandom(8192))
    f.truncate(8 << 20)
with open('hole', 'wb') as f: f.truncate(1 << 30)
os.symlink('../usr/share', 'etc/relative'); os.symlink('/etc/hostname', 'usr/share/doc/absolute')
os.symlink('/', 'home/me/root'); os.symlink('../../../../../etc/hostname', 'home/me/climbing')
os.symlink('/nowhere/' + 'x' * 200, 'dangling'); os.symlink('etc', 'to-etc'); os.symlink('to-etc/../../../etc/hostname', 'over')
os.link('etc/hostname', 'usr/share/hard')
os.link('usr/share/doc/absolute', 'hard-absolute', follow_symlinks=False)
os.mkfifo('fifo'); os.mknod('block', 0o60600, os.makedev(259, 65537)); os.mknod('char', 0o20666, os.makedev(1, 3))
s = socket.socket(socket.AF_UNIX); s.bind('socket'); s.close()
os.setxattr('etc/hostname', 'user.note', b'value'); os.setxattr('etc/hostname', 'user.big', b'v' * 900)
os.setxattr('etc/hostname', 'trusted.secret', b't'); os.setxattr('home/me', 'user.on-dir', b'd')
os.setxattr('home/me/setuid', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))
os.setxattr('etc/hostname', 'security.selinux', b'system_u:object_r:etc_t:s0\0')
for number, (path, when) in enumerate([('etc/hostname', 1), ('usr', 123456789012345678), ('sparse', -86400 * 10**9 + 5), ('hole', 4000000000 * 10**9 + 7)]):
    os.utime(path, ns=(when, when + number))
"#;

/// Prints everything below a directory: one line an entry, sorted, in a form to compare.
const DUMP: &str = r#"
import hashlib, os, stat, sys
top, covered = os.fsencode(sys.argv[1]), len(sys.argv) > 2
def content(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        while data := f.read(1 << 20): digest.update(data)
    return digest.hexdigest()
def line(path, name):
    s = os.lstat(path); more = ''
    if stat.S_ISLNK(s.st_mode):
        target = os.readlink(path)
        # What the guest means by "/" lies as many steps up as the link's directory is deep.
        if covered and target.startswith(b'/'):
            target = b'/'.join([b'..'] * name.count(b'/') + [p for p in target.split(b'/') if p]) or b'.'
            s = os.stat_result(s[:6] + (len(target),) + s[7:], {'st_mtime_ns': s.st_mtime_ns, 'st_ctime_ns': s.st_ctime_ns, 'st_rdev': 0, 'st_blocks': s.st_blocks})
        assert s.st_size == len(target), (name, s.st_size, target)
        more = repr(target)
    elif stat.S_ISREG(s.st_mode): more = content(path)
    attributes = [] if stat.S_ISLNK(s.st_mode) else sorted((n, os.getxattr(path, n).hex()) for n in os.listxattr(path))
    size = 0 if stat.S_ISDIR(s.st_mode) else s.st_size
    print(repr(name), oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink, size, s.st_blocks, s.st_mtime_ns, s.st_ctime_ns, s.st_rdev, more, attributes)
def walk(path, name):
    line(path, name)
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for entry in sorted(os.listdir(path)): walk(path + b'/' + entry, (name + b'/' if name else b'') + entry)
walk(top, b'')
"#;

/// Prints where data starts and ends, as lseek(2) finds it.
const HOLES: &str = r#"
import errno, os, sys
f = os.open(sys.argv[1], os.O_RDONLY); size = os.fstat(f).st_size; at = 0
while at < size:
    try: data = os.lseek(f, at, os.SEEK_DATA)
    except OSError as e: assert e.errno == errno.ENXIO, e; break
    at = os.lseek(f, data, os.SEEK_HOLE); print(data, at)
for where in (os.SEEK_DATA, os.SEEK_HOLE):
    try: os.lseek(f, size, where); raise SystemExit('no ENXIO at the end')
    except OSError as e: assert e.errno == errno.ENXIO, e
"#;

fn python(script: &str, args: &[&Path]) -> String {
    let output = Command::new("python3").arg("-c").arg(script).args(args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// The disk of all tests: an MBR with one ext4, made once by the real tools.
fn disk() -> &'static Path {
    static DISK: OnceLock<PathBuf> = OnceLock::new();
    DISK.get_or_init(|| {
        let dir = common::lasting("fuse");
        std::fs::write(dir.join("fill.py"), FILL).unwrap();
        sh(&format!(
            "cd {}; truncate -s 96M disk.raw; printf 'label: dos\\n2048,,83\\n' | sfdisk -q disk.raw
             loop=$(losetup -f --show -o {START} disk.raw); mnt=$(mktemp -d)
             trap 'umount $mnt 2>/dev/null || true; losetup -d $loop; rmdir $mnt; released disk.raw' EXIT
             mkfs.ext4 -q -L root $loop; mount $loop $mnt; python3 fill.py $mnt; umount $mnt",
            dir.display()
        ));
        dir.join("disk.raw")
    })
}

fn mounted(options: &[&str]) -> Mount {
    Mount::of(disk(), options)
}

/// The disk mounted once more where a mount is, or was.
fn again(mount: &Mount, options: &[&str]) -> Output {
    mount.command(disk(), options).output().unwrap()
}

/// The kernel's own mount of the disk's file system.
fn kernels() -> Kernel {
    Kernel::mount(disk(), &format!("noload,offset={START}"))
}

// What is shown.

#[test]
fn every_file_is_as_the_kernel_shows_it() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let (mount, kernel) = (mounted(&["--xattrs", "all"]), kernels());
    let ours = python(DUMP, &[mount.path()]);
    let theirs = python(DUMP, &[kernel.path(), Path::new("covered")]);
    // Where a link climbs out of the guest the kernel shows it as stored; those have a test of their own.
    let plain = |text: &str| -> Vec<String> {
        let climbs = |line: &str| line.starts_with("b'home/me/climbing'") || line.starts_with("b'over'");
        text.lines().filter(|line| !climbs(line)).map(str::to_owned).collect()
    };
    let (ours, theirs) = (plain(&ours), plain(&theirs));
    assert!(theirs.len() > 3000);
    let differ: Vec<_> = ours.iter().zip(&theirs).filter(|(a, b)| a != b).take(5).collect();
    assert!(differ.is_empty(), "{differ:#?}");
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn links_that_climb_out_of_the_guest_stop_at_its_root() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    let link = |path: &str| sh(&format!("readlink {}", mount.join(path).display())).trim_end().to_owned();
    assert_eq!(link("home/me/climbing"), "../../etc/hostname");
    assert_eq!(link("over"), "to-etc/../etc/hostname");
    assert_eq!(
        (link("usr/share/doc/absolute"), link("hard-absolute")),
        ("../../../etc/hostname".into(), "etc/hostname".into())
    );
    for path in
        ["home/me/climbing", "over", "usr/share/doc/absolute", "hard-absolute", "home/me/root/etc/hostname"]
    {
        assert_eq!(std::fs::read(mount.join(path)).unwrap(), b"guest\n", "{path}");
    }
}

#[test]
fn raw_links_are_shown_as_stored() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&["--symlinks", "raw"]);
    let link = sh(&format!("readlink {}", mount.join("usr/share/doc/absolute").display()));
    assert_eq!(link, "/etc/hostname\n");
}

#[test]
fn attributes_that_this_hosts_kernel_would_act_on_are_left_out_by_default() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    let names =
        |path: &str| python("import os, sys; print(sorted(os.listxattr(sys.argv[1])))", &[&mount.join(path)]);
    assert_eq!(names("etc/hostname"), "['user.big', 'user.note']\n");
    assert_eq!(names("home/me/setuid"), "['security.capability']\n");
}

#[test]
fn a_name_too_long_is_refused_as_the_kernel_does() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let (kernel, mount) = (kernels(), mounted(&[]));
    for len in [255, 256, 1000] {
        let error = |top: &Path| std::fs::metadata(top.join("x".repeat(len))).unwrap_err().raw_os_error();
        assert_eq!(error(mount.path()), error(kernel.path()), "{len}");
    }
}

#[test]
fn holes_are_where_the_kernel_says() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let (mount, kernel) = (mounted(&[]), kernels());
    for file in ["sparse", "hole", "usr/share/4097", "usr/share/0"] {
        assert_eq!(
            python(HOLES, &[&mount.join(file)]),
            python(HOLES, &[&kernel.path().join(file)]),
            "{file}"
        );
    }
    python(HOLES, &[&mount.join(".imgmount/disk.raw")]);
}

#[test]
fn the_disk_as_a_file_has_the_images_bytes_and_holes() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    let (raw, copy) = (mount.join(".imgmount/disk.raw"), mount.path().with_extension("copy"));
    sh(&format!("cmp {} {}; cp {0} {}", raw.display(), disk().display(), copy.display()));
    let blocks =
        |path: &Path| -> u64 { sh(&format!("stat -c %b {}", path.display())).trim().parse().unwrap() };
    assert!(blocks(&copy) <= blocks(disk()) + 64, "cp made {} blocks of {}", blocks(&copy), blocks(disk()));
    std::fs::remove_file(copy).unwrap();
    let part = sh(&format!(
        "dd if={} bs=1M skip=1 status=none | cmp - {}",
        disk().display(),
        mount.join(".imgmount/partitions/1.raw").display()
    ));
    assert_eq!(part, "");
}

#[test]
fn the_partition_as_a_file_can_be_mounted_by_the_kernel() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let (mount, dir) = (mounted(&[]), tempdir());
    let part = mount.join(".imgmount/partitions/1.raw");
    let read = sh(&format!(
        "mount -o ro,noload,loop {} {m}; cat {m}/etc/hostname; umount {m}",
        part.display(),
        m = dir.path().display()
    ));
    assert_eq!(read, "guest\n");
}

#[test]
fn the_hidden_folder_is_reachable_and_not_listed() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    assert!(!sh(&format!("ls -a {}", mount.path().display())).contains(".imgmount"));
    let names = sh(&format!("ls {}", mount.join(".imgmount").display()));
    let all = "disk.raw partitions layers filesystems info.json check.json status stats errors".split(' ');
    for name in all {
        assert!(names.lines().any(|line| line == name), "{name} in {names}");
    }
    let alone = mount.join(".imgmount/filesystems/1-ext4-root/etc/hostname");
    assert_eq!(std::fs::read(alone).unwrap(), b"guest\n");
    let info = std::fs::read_to_string(mount.join(".imgmount/info.json")).unwrap();
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!((info["format"].as_str(), info["partition_table"].as_str()), (Some("raw"), Some("mbr")));
    assert_eq!(std::fs::read_to_string(mount.join(".imgmount/errors")).unwrap(), "");
}

#[test]
fn other_views_show_disks_or_everything() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let names = |mount: &Mount| sh(&format!("ls {}", mount.path().display())).replace('\n', " ");
    let all = mounted(&["--view", "all"]);
    assert_eq!(
        names(&all),
        "check.json disk.raw errors filesystems info.json layers partitions root stats status "
    );
    assert_eq!(std::fs::read(all.join("root/usr/share/doc/absolute")).unwrap(), b"guest\n");
    let disks = mounted(&["--view", "disk"]);
    assert_eq!(names(&disks), "disk.raw layers partitions ");
}

/// Names, types and numbers as a listing tells them, and as `lstat` does, over one mount: first nobody asks for attributes,
/// then somebody asks for those of every file, then nobody again; and each listing is gone through twice.
#[test]
fn listings_agree_with_inodes_whether_they_carry_them_or_not() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let script = r#"
import os, stat, sys
TYPES = {stat.S_IFDIR: 'd', stat.S_IFREG: 'f', stat.S_IFLNK: 'l'}
def listed(top):
    found, todo = {}, [top]
    while todo:
        dir = todo.pop()
        for entry in os.scandir(dir):
            kind = 'd' if entry.is_dir(follow_symlinks=False) else 'l' if entry.is_symlink() else 'f' if entry.is_file(follow_symlinks=False) else 'o'
            found[entry.path] = (kind, entry.inode())
            if kind == 'd': todo.append(entry.path)
    return found
top = sys.argv[1].encode()
bare = listed(top)
asked = {path: (TYPES.get(stat.S_IFMT(s.st_mode), 'o'), s.st_ino) for path in bare for s in [os.lstat(path)]}
# A symbolic link with two names is two files here, for it is shown as each place wants it: what is listed is the guest's number.
twice = {path for path in bare if bare[path][0] == 'l' and os.lstat(path).st_nlink > 1}
def once(files): return {path: seen for path, seen in files.items() if path not in twice}
assert set(bare) == set(asked); bare, every = once(bare), bare; asked = once(asked)
assert bare == asked, [(p, bare[p], asked[p]) for p in bare if bare[p] != asked[p]][:5]
full = {}
for dir, dirs, files in os.walk(top):
    for name in dirs + files:
        path = os.path.join(dir, name); s = os.lstat(path)
        full[path] = (TYPES.get(stat.S_IFMT(s.st_mode), 'o'), s.st_ino)
assert set(full) == set(every) and once(full) == bare and once(listed(top)) == bare and once(listed(top)) == bare
for path in every: print(os.path.relpath(path, top), every[path][0])
"#;
    let (mount, kernel) = (mounted(&["--symlinks", "raw"]), kernels());
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let ours = sorted(python(script, &[mount.path()]));
    assert!(ours.len() > 100);
    assert_eq!(ours, sorted(python(script, &[kernel.path()])));
}

#[test]
fn cp_tar_and_find_work() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let (mount, copy) = (mounted(&["--xattrs", "all"]), tempdir());
    let (from, to) = (mount.path().display(), copy.path().display());
    // A copy by the real tool, looked at over the copy's own file system, is the third opinion.
    sh(&format!("cp -a {from}/. {to}/"));
    let no_blocks = |text: String| -> Vec<String> {
        let line = |line: &str| {
            let mut fields: Vec<&str> = line.split(' ').collect();
            // Blocks and the time of the inode's own change are the copy's.
            if fields.len() > 8 && line.starts_with("b'") && !line.contains("me/") {
                fields[6] = "";
                fields[8] = "";
            }
            fields.join(" ")
        };
        text.lines()
            .filter(|text| !text.starts_with("b''"))
            .map(line)
            // Setuid is lost on its way to others; names of one link at two depths are two links here.
            .filter(|line| !line.contains("me/") && !line.contains("absolute"))
            .collect()
    };
    let (ours, theirs) = (no_blocks(python(DUMP, &[mount.path()])), no_blocks(python(DUMP, &[copy.path()])));
    let differ: Vec<_> = ours.iter().zip(&theirs).filter(|(a, b)| a != b).take(3).collect();
    assert!(differ.is_empty() && ours.len() == theirs.len(), "{differ:#?}");
    let listed = sh(&format!(
        "tar -C {from} --sparse -cf - . | tar -tf - | wc -l; find {from} ! -type s -printf . | wc -c"
    ));
    let counts: Vec<&str> = listed.lines().collect();
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn nothing_can_be_written() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    let at = mount.path().display();
    for attempt in [
        format!("touch {at}/new"),
        format!("echo x >> {at}/etc/hostname"),
        format!("rm {at}/etc/hostname"),
        format!("mkdir {at}/new"),
        format!("chmod 777 {at}/etc"),
        format!("mv {at}/etc {at}/etd"),
        format!("ln -s x {at}/new"),
        format!("truncate -s 0 {at}/.imgmount/disk.raw"),
    ] {
        let output = Command::new("sh").env("LC_ALL", "C").args(["-c", &attempt]).output().unwrap();
        assert!(!output.status.success() && stderr(&output).contains("Read-only file system"), "{attempt}");
    }
}

#[test]
fn the_mount_is_ro_nosuid_nodev_noexec_and_names_its_image() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&["-o", "dev,suid,nofail,x-systemd.automount"]);
    let info = sh(&format!("findmnt -n -o FSTYPE,SOURCE,OPTIONS {}", mount.path().display()));
    assert!(
        info.starts_with(&format!("fuse.imgmount {} ro,nosuid,nodev,noexec", disk().display())),
        "{info}"
    );
    let exec = mounted(&["-o", "exec"]);
    let info = sh(&format!("findmnt -n -o OPTIONS {}", exec.path().display()));
    assert!(info.starts_with("ro,nosuid,nodev,relatime"), "{info}");
}

#[test]
fn an_owner_may_be_given_to_everything() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&["--owner", "1234:5678"]);
    let owners = sh(&format!("stat -c %u:%g {0}/etc/hostname {0}/home/me/setuid", mount.path().display()));
    assert_eq!(owners, "1234:5678\n1234:5678\n");
}

// Coming and going.

#[test]
fn the_command_returns_when_the_mount_answers_and_says_so_in_one_line() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = Mount::place();
    let output = again(&mount, &[]);
    let point = mount.path().display();
    let name = disk().file_name().unwrap().to_str().unwrap();
    let expected = format!("mounted {name} (ext4) on {point}; unmount: imgmount unmount {point}\n");
    assert_eq!((stdout(&output).as_str(), stderr(&output)), ("", expected));
    assert!(mount.join("etc/hostname").exists());
}

#[test]
fn unmount_returns_when_the_serving_processes_have_ended() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    let (worker, supervisor) = (mount.process("worker"), mount.process("supervisor"));
    assert!(runs(worker) && runs(supervisor));
    let output = mount.unmount(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!mount.is_there() && !runs(worker) && !runs(supervisor));
}

#[test]
fn plain_umount_ends_everything() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    let (worker, supervisor) = (mount.process("worker"), mount.process("supervisor"));
    sh(&format!("umount {}", mount.path().display()));
    assert!(within(SOON, || !runs(worker) && !runs(supervisor)));
}

#[test]
fn a_busy_mount_names_who_holds_it() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    let holder = holder(&mount.join("etc"));
    let output = mount.unmount(&[]);
    assert_eq!(output.status.code(), Some(5));
    let expected = format!("is in use by {} sleep ({}/etc)", holder.0.id(), mount.path().display());
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    assert!(mount.is_there());
    drop(holder);
    assert_eq!(mount.unmount(&[]).status.code(), Some(0));
}

#[test]
fn a_lazy_unmount_takes_a_busy_mount_out_of_sight() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    let worker = mount.process("worker");
    let holder = holder(&mount.join("etc"));
    let output = mount.unmount(&["--lazy"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!mount.is_there() && runs(worker));
    drop(holder);
    assert!(within(SOON, || !runs(worker)));
}

#[test]
fn a_killed_worker_leaves_no_dead_mount() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    let (worker, supervisor) = (mount.process("worker"), mount.process("supervisor"));
    let _holder = holder(&mount.join("etc"));
    signal(worker, Signal::KILL);
    assert!(within(SOON, || !mount.is_there() && !runs(supervisor)));
}

#[test]
fn a_killed_worker_in_the_foreground_is_exit_70() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = Mount::place();
    let dir = tempdir();
    // Written when it is ready: files are there some moments before.
    let pid = dir.path().join("pid");
    let options = ["-q", "-f", "--pid-file", pid.to_str().unwrap()];
    let mut child = Reaped(mount.command(disk(), &options).spawn().unwrap());
    assert!(within(SOON, || pid.exists()));
    signal(mount.process("worker"), Signal::KILL);
    assert_eq!(child.0.wait().unwrap().code(), Some(70));
    assert!(!mount.is_there());
}

#[test]
fn signals_unmount() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    for kind in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mount = mounted(&[]);
        let (worker, supervisor) = (mount.process("worker"), mount.process("supervisor"));
        signal(supervisor, kind);
        assert!(within(SOON, || !mount.is_there() && !runs(worker) && !runs(supervisor)), "{kind:?}");
    }
}

#[test]
fn our_own_dead_mount_is_detached_by_the_next_one() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    let (worker, supervisor) = (mount.process("worker"), mount.process("supervisor"));
    // Both at once: neither can clean up after the other.
    signal(worker, Signal::STOP);
    signal(supervisor, Signal::KILL);
    signal(worker, Signal::KILL);
    assert!(within(SOON, || !runs(worker)));
    assert!(mount.is_there());
    let is_dead = || rustix::fs::statfs(mount.path()).err() == Some(rustix::io::Errno::NOTCONN);
    assert!(within(SOON, is_dead));
    let output = again(&mount, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("detached a dead mount"), "{}", stderr(&output));
    assert!(mount.join("etc/hostname").exists());
}

#[test]
fn unmount_all_stale_takes_only_the_dead() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3", "unshare");
    // In a mount name space of its own, where no other test's mounts are looked at.
    let (dead, alive) = (tempdir(), tempdir());
    let script = format!(
        "{LET_GO} {IMGMOUNT} -q {disk} {dead}; {IMGMOUNT} -q {disk} {alive}
         both=$(grep -oE '\"(supervisor|worker)\": [0-9]*' {dead}/.imgmount/status | grep -o '[0-9]*$')
         kill -STOP $both; kill -9 $both
         for one in $both; do until [ -z \"$(ls /proc/$one/fd 2>/dev/null)\" ]; do sleep 0.02; done; done
         {IMGMOUNT} unmount --all-stale; findmnt -rn -t fuse.imgmount -o TARGET; {IMGMOUNT} unmount -q --all",
        disk = disk().display(),
        dead = dead.path().display(),
        alive = alive.path().display()
    );
    let left = Command::new("unshare").args(["-m", "bash", "-ec", &script]).output().unwrap();
    assert_eq!(stdout(&left), format!("{}\n", alive.path().display()), "{}", stderr(&left));
}

#[test]
fn a_pid_file_lives_as_long_as_the_mount() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let dir = tempdir();
    let file = dir.path().join("pid");
    let mount = mounted(&["--pid-file", file.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\n", mount.process("supervisor")));
    mount.unmount(&[]);
    assert!(!file.exists());
}

#[test]
fn the_same_image_can_be_mounted_twice() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let (one, two) = (mounted(&[]), mounted(&[]));
    assert_eq!(
        std::fs::read(one.join("etc/hostname")).unwrap(),
        std::fs::read(two.join("etc/hostname")).unwrap()
    );
}

#[test]
fn many_readers_at_once_get_the_same_bytes() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&["--threads", "8"]);
    let expected = std::fs::read(disk()).unwrap();
    let raw = mount.join(".imgmount/disk.raw");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(std::fs::read(&raw).unwrap() == expected));
            scope.spawn(|| sh(&format!("find {} -type f | wc -l", mount.path().display())));
        }
    });
}

// Images that do not answer.

/// A server that takes connections and says nothing, and its image.
fn silent() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/disk.raw", listener.local_addr().unwrap());
    (listener, url)
}

/// The next connection, which comes soon.
fn accept(listener: &std::net::TcpListener) -> std::net::TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut connection = None;
    assert!(within(SOON, || {
        connection = listener.accept().ok();
        connection.is_some()
    }));
    let (connection, _) = connection.unwrap();
    connection.set_nonblocking(false).unwrap();
    connection
}

/// The worker's end closes its connections.
fn is_let_go(mut connection: &std::net::TcpStream) -> bool {
    connection.set_read_timeout(Some(SOON)).unwrap();
    std::io::copy(&mut connection, &mut std::io::sink()).is_ok()
}

#[test]
fn an_image_that_takes_too_long_is_let_go() {
    requires!("root", "fuse");
    let (listener, url) = silent();
    let point = tempdir();
    let output = imgmount(["--timeout", "3s", &url, point.path().to_str().unwrap()]);
    assert!(stderr(&output).contains("--timeout"), "{}", stderr(&output));
    assert!(is_let_go(&accept(&listener)));
}

#[test]
fn a_signal_ends_a_mount_that_is_still_opening() {
    requires!("root", "fuse");
    let (listener, url) = silent();
    let point = tempdir();
    for (args, code) in [(["-f", point.path().to_str().unwrap()], 0), (["--", "true"], 128 + 15)] {
        let mut command = Command::new(IMGMOUNT);
        let child = command.arg(&url).args(args).stderr(Stdio::piped()).spawn().unwrap();
        let connection = accept(&listener);
        let start = Instant::now();
        signal(child.id(), Signal::TERM);
        let output = child.wait_with_output().unwrap();
        assert!(start.elapsed() < SOON);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(code), ""));
        assert!(is_let_go(&connection));
    }
}

#[test]
fn a_command_that_is_interrupted_while_it_waits_leaves_no_mount() {
    requires!("root", "fuse");
    // A server that never answers keeps it waiting for as long as we like.
    let (listener, url) = silent();
    let mount = Mount::place();
    let child = Reaped(mount.command(Path::new(&url), &[]).spawn().unwrap());
    let _connection = accept(&listener);
    let supervisor = children(child.0.id())[0];
    drop(child);
    assert!(within(SOON, || !runs(supervisor)));
    assert!(!mount.is_there());
}

// `-- CMD`.

#[test]
fn a_command_runs_in_the_mount_and_its_status_is_ours() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let run = |command: &[&str]| {
        Command::new(IMGMOUNT).arg(disk()).arg("--").args(command).stdin(Stdio::null()).output().unwrap()
    };
    let output =
        run(&["sh", "-c", "cat etc/hostname; test \"$PWD\" = \"$IMGMOUNT_ROOT\" && echo same; exit 7"]);
    assert_eq!(
        (stdout(&output).as_str(), output.status.code()),
        ("guest\nsame\n", Some(7)),
        "{}",
        stderr(&output)
    );
    assert_eq!(stderr(&output), "");
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    assert_eq!(run(&["/nowhere/at-all"]).status.code(), Some(127));
    assert_eq!(run(&["/etc/passwd"]).status.code(), Some(126));
    let missing = imgmount(["/nowhere.img", "--", "true"]);
    assert_eq!(missing.status.code(), Some(125), "{}", stderr(&missing));
}

#[test]
fn a_commands_mount_point_is_gone_afterwards() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let output =
        Command::new(IMGMOUNT).arg(disk()).args(["--", "pwd"]).stdin(Stdio::null()).output().unwrap();
    let point = PathBuf::from(stdout(&output).trim_end());
    assert!(point.is_absolute() && !point.exists(), "{}", point.display());
}

// What is refused.

#[test]
fn a_second_mount_on_the_same_point_is_refused() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = mounted(&[]);
    let output = again(&mount, &[]);
    assert_eq!(output.status.code(), Some(5));
    assert!(
        stderr(&output).contains("is mounted there already\nhelp: imgmount unmount "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_missing_mount_point_is_refused_and_mkdir_makes_it() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let dir = tempdir();
    let point = dir.path().join("a/b");
    let mount = |options: &[&str]| {
        Command::new(IMGMOUNT).args(options).arg(disk()).arg(&point).stdin(Stdio::null()).output().unwrap()
    };
    let output = mount(&[]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("no such directory") && stderr(&output).contains("--mkdir"));
    assert_eq!(mount(&["--mkdir"]).status.code(), Some(0));
    assert_eq!(imgmount([std::ffi::OsStr::new("unmount"), point.as_os_str()]).status.code(), Some(0));
}

#[test]
fn a_mount_point_with_something_in_it_is_refused_unless_asked_for() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = Mount::place();
    std::fs::write(mount.join("something"), b"").unwrap();
    let output = again(&mount, &[]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("is not empty"));
    assert_eq!(again(&mount, &["-o", "nonempty"]).status.code(), Some(0));
}

#[test]
fn a_file_as_mount_point_is_refused() {
    requires!("root", "fuse");
    let dir = tempdir();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let output = imgmount([file.as_os_str(), file.as_os_str()]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("is not a directory"), "{}", stderr(&output));
}

#[test]
fn a_missing_dev_fuse_is_named_with_the_doors_that_need_none() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3", "unshare");
    let dir = tempdir();
    let script = format!(
        "{LET_GO} mount -t tmpfs none /dev; mknod /dev/null c 1 3; {IMGMOUNT} {} {}",
        disk().display(),
        dir.path().display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("/dev/fuse cannot be opened") && said.contains("imgmount ls"), "{said}");
}

#[test]
fn an_image_that_cannot_be_opened_comes_back_with_its_own_code() {
    requires!("root", "fuse");
    let dir = tempdir();
    let point = dir.path().join("point");
    std::fs::create_dir(&point).unwrap();
    let empty = dir.path().join("empty.img");
    std::fs::write(&empty, b"").unwrap();
    let output = imgmount([empty.as_os_str(), point.as_os_str()]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("is empty"), "{}", stderr(&output));
    let output = imgmount([dir.path().join("missing.img").as_os_str(), point.as_os_str()]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
}

#[test]
fn options_that_ask_for_writing_or_are_unknown_are_usage_errors() {
    let dir = tempdir();
    for (option, said) in [("rw", "imgmount never writes"), ("bogus", "-o bogus: unknown")] {
        let output = imgmount(["-o", option, "x.img", dir.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

#[test]
fn a_mistyped_verb_is_not_taken_for_an_image() {
    let output = imgmount(["chek", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean 'imgmount check'?"));
}

#[test]
fn options_stand_before_or_after_the_image() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let mount = Mount::place();
    let output =
        Command::new(IMGMOUNT).arg(disk()).arg(mount.path()).args(["-q", "--owner", "1:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(sh(&format!("stat -c %u {}", mount.join("etc").display())), "1\n");
    let named = Mount::place();
    let output = Command::new(IMGMOUNT).args(["mount", "-q"]).arg(disk()).arg(named.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn unmounting_what_is_not_ours_is_refused() {
    requires!("root");
    let dir = tempdir();
    let output = imgmount([std::ffi::OsStr::new("unmount"), dir.path().as_os_str()]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("nothing is mounted there"));
    let output = imgmount(["unmount", "/proc"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("not by imgmount (proc)"));
}

// Without root.

#[test]
fn a_user_mounts_through_fusermount3() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3", "setpriv", "fusermount3");
    let dir = tempfile::tempdir().unwrap();
    let script = "./imgmount disk.raw mnt && cat mnt/etc/hostname && grep -o 'ro,nosuid,nodev,noexec.*fuse.imgmount' /proc/self/mountinfo && ./imgmount unmount mnt && ls mnt";
    let output = as_nobody(disk(), dir.path(), script);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("guest\nro,nosuid,nodev,noexec"), "{}", stdout(&output));
}

#[test]
fn root_unmounts_what_a_user_mounted_and_waits_for_it() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3", "setpriv", "fusermount3");
    let dir = tempfile::tempdir().unwrap();
    let output = as_nobody(disk(), dir.path(), "./imgmount -q disk.raw mnt && cat mnt/.imgmount/status");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let output = imgmount([std::ffi::OsStr::new("unmount"), dir.path().join("mnt").as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!runs(status["supervisor"].as_u64().unwrap() as u32));
}

#[test]
fn a_command_runs_without_root_and_without_fusermount3() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3", "setpriv", "unshare");
    let dir = tempfile::tempdir().unwrap();
    let allowed = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Ur", "true"])
        .output();
    if !allowed.unwrap().status.success() {
        return common::skip("this host gives users no name spaces");
    }
    // The helper is hidden behind an empty file that is no program, in a mount name space of the test's own.
    let script = format!(
        "{LET_GO} mount --bind /dev/null {helper}; mount --bind /dev/null {plain} 2>/dev/null || true
         exec setpriv --reuid=65534 --regid=65534 --clear-groups {0}/imgmount {0}/disk.raw -- sh -c 'cat etc/hostname; id -u; exit 3'",
        dir.path().display(),
        helper = "$(readlink -f $(command -v fusermount3 || echo /dev/null))",
        plain = "$(readlink -f $(command -v fusermount || echo /dev/null))",
    );
    as_nobody(disk(), dir.path(), "true");
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .current_dir(dir.path())
        .env("TMPDIR", dir.path())
        .env_remove("XDG_RUNTIME_DIR")
        .output()
        .unwrap();
    assert_eq!(
        (stdout(&output).as_str(), output.status.code()),
        ("guest\n65534\n", Some(3)),
        "{}",
        stderr(&output)
    );
}
