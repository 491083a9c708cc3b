//! How a mount is asked for, watched and ended: by mount(8) and fstab, by signals, by itself when nobody needs it, and by
//! force. What it shows is `fuse.rs`'s subject.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::mount::{LET_GO, Mount, as_nobody};
use common::process::{Reaped, SOON, holder, runs, signal, within};
use common::{IMGMOUNT, imgmount, sh, stderr, stdout, tempdir};
use rustix::process::Signal;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A disk that is one ext4, made once, without a mount: `etc/hostname` and some files to read for a while.
fn disk() -> &'static Path {
    static DISK: OnceLock<PathBuf> = OnceLock::new();
    DISK.get_or_init(|| {
        let dir = common::lasting("mount");
        sh(&format!(
            "cd {}; mkdir -p tree/etc tree/many; echo guest > tree/etc/hostname
             for n in $(seq 300); do echo $n > tree/many/$n; done; head -c 8M /dev/urandom > tree/large
             truncate -s 32M disk.raw; mkfs.ext4 -q -L root -d tree disk.raw",
            dir.display()
        ));
        dir.join("disk.raw")
    })
}

fn mounted(options: &[&str]) -> Mount {
    Mount::of(disk(), options)
}

// mount(8).

/// Runs a script in a mount name space that holds no other test's mount, where `/usr/sbin` has our helper, and `/usr/local/sbin` the program.
fn with_helper(script: &str) -> Output {
    let sbin = tempdir();
    let prepared = format!(
        "{LET_GO}
         cp -a /usr/sbin/mount.fuse* {sbin}/ 2>/dev/null || true; ln -s {IMGMOUNT} {sbin}/mount.imgmount
         mount --bind {sbin} /usr/sbin; mount -t tmpfs none /usr/local/sbin; ln -s {IMGMOUNT} /usr/local/sbin/imgmount
         {script}",
        sbin = sbin.path().display()
    );
    Command::new("unshare")
        .args(["-m", "bash", "-euo", "pipefail", "-c", &prepared])
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn mount_8_mounts_by_our_helper_and_umount_ends_it() {
    requires!("root", "fuse", "mkfs.ext4", "unshare");
    let point = tempdir();
    let output = with_helper(&format!(
        "mount -t imgmount {disk} {at}; cat {at}/etc/hostname; findmnt -no FSTYPE,SOURCE {at}; umount {at}
         mount -t imgmount -o ro,noexec,nosuid,nodev,view=all,idle-exit=1h,nofail,_netdev,user,x-systemd.automount {disk} {at}
         cat {at}/root/etc/hostname; grep -o idle-exit=3600000ms {at}/status; umount {at}; ls {at}",
        disk = disk().display(),
        at = point.path().display()
    ));
    let expected = format!("guest\nfuse.imgmount {}\nguest\nidle-exit=3600000ms\n", disk().display());
    assert_eq!((stdout(&output), stderr(&output).as_str()), (expected, ""));
}

#[test]
fn mount_8_finds_our_lines_in_fstab_once() {
    requires!("root", "fuse", "mkfs.ext4", "unshare");
    let point = tempdir();
    let output = with_helper(&format!(
        "mkdir {at}/a {at}/b
         printf '%s\n' '{disk} {at}/a imgmount ro,view=all,nofail,x-systemd.automount 0 0' \
             '{disk} {at}/b imgmount defaults,owner=1234:1234 0 0' > {at}/fstab
         mount -a -T {at}/fstab; mount -a -T {at}/fstab; cat {at}/a/root/etc/hostname; stat -c %u {at}/b/etc
         grep -c {at}/ /proc/self/mountinfo; umount {at}/a {at}/b",
        disk = disk().display(),
        at = point.path().display()
    ));
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("guest\n1234\n2\n", ""));
}

#[test]
fn mount_fuse_calls_us_for_its_subtype() {
    requires!("root", "fuse", "mkfs.ext4", "unshare", "mount.fuse3");
    let point = tempdir();
    let output = with_helper(&format!(
        "mount -t fuse.imgmount {disk} {at} 2>/dev/null; cat {at}/etc/hostname; umount {at}
         mount -t fuse.imgmount -o ro,noexec,view=all {disk} {at} 2>/dev/null; cat {at}/root/etc/hostname; umount {at}",
        disk = disk().display(),
        at = point.path().display()
    ));
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("guest\nguest\n", ""));
}

#[test]
fn the_helpers_codes_and_flags_are_those_of_mount_8() {
    requires!("root", "fuse", "mkfs.ext4", "unshare");
    let point = tempdir();
    let output = with_helper(&format!(
        "helper() {{ /usr/sbin/mount.imgmount \"$@\" >/dev/null 2>&1 && echo 0 || echo $?; }}
         helper {disk} {at} -o bogus; helper {disk} {at} -N /proc/1/ns/mnt; helper /nowhere.img {at}; helper {disk} /nowhere
         helper {disk} {at} -f; findmnt {at} || true
         helper {disk} {at} -s -n -o rw,bogus; helper {disk} {at}; umount {at}
         /usr/sbin/mount.imgmount {disk} {at} -v 2>&1 | grep -c '^mounted '; umount {at}",
        disk = disk().display(),
        at = point.path().display()
    ));
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("1\n1\n32\n32\n0\n0\n32\n1\n", ""));
}

// What is said about it.

#[test]
fn status_says_how_it_was_mounted_and_check_json_what_the_check_says() {
    requires!("root", "fuse", "mkfs.ext4");
    let place = mounted(&["--view", "all", "-o", "exec,idle_exit=1h"]);
    let status = place.status();
    assert_eq!(status["image"].as_str(), disk().to_str());
    assert_eq!(status["mountpoint"].as_str(), place.path().to_str());
    let options = status["options"].as_str().unwrap();
    assert_eq!(
        options,
        "ro,nosuid,nodev,owner=guest,symlinks=relative,xattrs=safe,on-error=eio,idle-exit=3600000ms"
    );
    let verdicts = |text: &[u8]| -> Vec<String> {
        let report: serde_json::Value = serde_json::from_slice(text).unwrap();
        assert_eq!(report["schema"].as_str(), Some("imgmount.check/1"));
        let results = report["results"].as_array().unwrap().iter();
        results.map(|one| format!("{} {} {}", one["image"], one["profile"], one["verdict"])).collect()
    };
    let told = imgmount(["check".as_ref(), "--json".as_ref(), disk().as_os_str()]).stdout;
    assert!(!verdicts(&told).is_empty());
    assert_eq!(verdicts(&std::fs::read(place.join("check.json")).unwrap()), verdicts(&told));
}

#[test]
fn every_view_has_disk_and_texts_at_the_hidden_place() {
    requires!("root", "fuse", "mkfs.ext4");
    for view in ["root", "all", "disk"] {
        let place = mounted(&["--view", view]);
        sh(&format!("cmp {} {}", place.join(".imgmount/disk.raw").display(), disk().display()));
        assert!(place.status()["view"] == view);
    }
}

#[test]
fn a_signal_prints_the_counters_in_one_line() {
    requires!("root", "fuse", "mkfs.ext4");
    let dir = tempdir();
    let log = dir.path().join("log");
    let place = mounted(&["--log-file", log.to_str().unwrap()]);
    std::fs::read(place.join("large")).unwrap();
    signal(place.process("supervisor"), Signal::USR1);
    let text = || std::fs::read_to_string(&log).unwrap();
    assert!(within(SOON, || text().ends_with('\n')));
    let served = text().split_once("bytes_served ").unwrap().1.split(',').next().unwrap().parse::<u64>();
    assert!(text().lines().count() == 1 && served.unwrap() >= 8 << 20, "{}", text());
    assert!(place.is_there());
}

#[test]
fn flags_may_stand_in_the_environment() {
    requires!("root", "fuse", "mkfs.ext4");
    let place = Mount::place();
    let point = place.join("made");
    let mount = |quiet: &str| {
        Command::new(IMGMOUNT)
            .arg(disk())
            .arg(&point)
            .envs([("IMGMOUNT_MKDIR", "1"), ("IMGMOUNT_QUIET", quiet)])
            .env("IMGMOUNT_OPTIONS", "exec,nofail,view=all,idle_exit=1h")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let output = mount("yes");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let options = sh(&format!("findmnt -no OPTIONS {0}; umount {0}", point.display()));
    assert!(!options.contains("noexec"), "{options}");
    assert!(stderr(&mount("no")).starts_with("mounted "));
    assert!(
        sh(&format!("cat {0}/status; ls {0}; umount {0}", point.display())).contains("idle-exit=3600000ms")
    );
}

#[test]
fn a_list_in_the_environment_gives_way_to_what_is_typed_and_is_refused_by_its_name() {
    requires!("root", "fuse", "mkfs.ext4");
    let place = Mount::place();
    let mount = |variable: &str, options: &[&str]| {
        place.command(disk(), options).env("IMGMOUNT_OPTIONS", variable).output().unwrap()
    };
    let output = mount("view=all,owner=1:2", &["--view", "disk"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(place.status()["view"].as_str(), Some("disk"));
    assert!(place.status()["options"].as_str().unwrap().contains("owner=1:2"));
    sh(&format!("umount {}", place.path().display()));
    let output = mount("view=all,vieuw=all", &[]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("IMGMOUNT_OPTIONS vieuw=all: unknown") && said.contains(", view, "), "{said}");
    assert_eq!(mount("view=nothing", &[]).status.code(), Some(2));
    assert_eq!(mount("vieuw=all", &["-o", "mkdir"]).status.code(), Some(0), "a list was typed");
    sh(&format!("umount {}", place.path().display()));
}

// What cannot be read.

#[test]
fn zeros_stand_for_what_cannot_be_read_only_where_asked_for() {
    requires!("root", "fuse", "qemu-img");
    let dir = tempdir();
    let at = dir.path().display();
    // Each cluster is packed into a random half of itself; one in the middle is torn.
    sh(&format!(
        "cd {at}; head -c 768K /dev/urandom | base64 -w0 > disk.raw; truncate -s 1M disk.raw
         qemu-img convert -f raw -O qcow2 -c disk.raw disk.qcow2
         dd if=/dev/zero of=disk.qcow2 bs=1 seek=$(( $(stat -c %s disk.qcow2) / 2 )) count=3000 conv=notrunc status=none"
    ));
    let (original, image) =
        (std::fs::read(dir.path().join("disk.raw")).unwrap(), dir.path().join("disk.qcow2"));
    let mount = |place: &Mount, options: &[&str]| {
        let mut command = place.command(&image, options);
        stderr(&command.args(["--view", "disk", "--format", "qcow2"]).output().unwrap())
    };
    let strict = Mount::place();
    mount(&strict, &[]);
    let error = std::fs::read(strict.join("disk.raw")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    let place = Mount::place();
    let said = mount(&place, &["--on-error", "zero"]);
    assert!(said.contains("shown as zeros"), "{said}");
    let shown = std::fs::read(place.join("disk.raw")).unwrap();
    assert_eq!(shown.len(), original.len());
    let pages = shown.chunks(4096).zip(original.chunks(4096)).filter(|(shown, original)| shown != original);
    let torn: Vec<_> = pages.map(|(shown, _)| shown.iter().all(|byte| *byte == 0)).collect();
    assert!(!torn.is_empty() && torn.iter().all(|zeros| *zeros), "{torn:?}");
    let stats = std::fs::read_to_string(place.join(".imgmount/stats")).unwrap();
    assert!(stats.contains(&format!("zeroed_bytes {}\n", torn.len() * 4096)), "{stats}");
    let errors = std::fs::read_to_string(place.join(".imgmount/errors")).unwrap();
    assert!(errors.contains("zeros are shown"), "{errors}");
}

#[test]
fn the_numbers_of_files_are_the_guests_own() {
    requires!("root", "fuse", "mkfs.ext4", "debugfs");
    let place = mounted(&[]);
    let output = sh(&format!("debugfs -R 'stat /etc/hostname' {} 2>/dev/null", disk().display()));
    let number = std::fs::metadata(place.join("etc/hostname")).unwrap().ino();
    assert!(output.starts_with(&format!("Inode: {number} ")), "{number}: {output}");
}

// Ends.

#[test]
fn an_idle_mount_ends_and_one_that_is_held_does_not() {
    requires!("root", "fuse", "mkfs.ext4");
    let place = mounted(&["--idle-exit", "2s"]);
    let held = holder(&place.join("etc"));
    let (worker, supervisor) = (place.process("worker"), place.process("supervisor"));
    std::thread::sleep(Duration::from_millis(4500));
    assert!(place.is_there() && runs(worker));
    drop(held);
    assert!(within(SOON, || !place.is_there() && !runs(worker) && !runs(supervisor)));
}

#[test]
fn an_idle_mount_that_is_seen_elsewhere_serves_on_there() {
    requires!("root", "fuse", "mkfs.ext4");
    let elsewhere = tempdir();
    let place = mounted(&["--idle-exit", "2s"]);
    let held = File::open(place.join("etc")).unwrap();
    let worker = place.process("worker");
    assert_eq!(std::fs::read_to_string(format!("/proc/{worker}/comm")).unwrap(), "imgmount\n");
    let other = elsewhere.path().display();
    sh(&format!("mount --bind {}/etc {other}", place.path().display()));
    drop(held);
    let gone = within(SOON, || !place.is_there());
    std::thread::sleep(Duration::from_millis(4500));
    let text = std::fs::read_to_string(elsewhere.path().join("hostname"));
    sh(&format!("umount {other}"));
    assert!(gone, "nobody needs it in its own place");
    assert_eq!(text.unwrap(), "guest\n");
    assert!(within(SOON, || !runs(worker)));
}

#[test]
fn what_others_mounted_upon_a_mount_or_in_its_place_stays() {
    requires!("root", "fuse", "mkfs.ext4");
    let is_tmpfs = |place: &Mount| {
        let top = sh(&format!("findmnt -n -o FSTYPE {} | tail -1", place.path().display()));
        top.trim() == "tmpfs"
    };
    let upon = mounted(&["--idle-exit", "2s"]);
    let held = File::open(upon.join("etc")).unwrap();
    sh(&format!("mount -t tmpfs upon {}", upon.path().display()));
    drop(held);
    std::thread::sleep(Duration::from_millis(4500));
    let stayed = is_tmpfs(&upon);
    sh(&format!("umount {}", upon.path().display()));
    assert!(stayed && within(SOON, || !upon.is_there()));

    let instead = mounted(&[]);
    let (worker, supervisor) = (instead.process("worker"), instead.process("supervisor"));
    let held = holder(&instead.join("etc"));
    let at = instead.path().display();
    sh(&format!("umount -l {at}; mount -t tmpfs instead {at}"));
    signal(supervisor, Signal::TERM);
    let ended = within(SOON, || !runs(worker) && !runs(supervisor));
    let stayed = is_tmpfs(&instead);
    drop(held);
    sh(&format!("umount {at}"));
    assert!(ended && stayed);
}

/// The kernel gives the numbers of a mount, and of its device, to the next one as soon as it is gone.
#[test]
fn a_mount_that_has_the_numbers_of_one_before_stays() {
    requires!("root", "fuse", "mkfs.ext4");
    let numbers = |place: &Mount| sh(&format!("findmnt -n -o ID,MAJ:MIN {}", place.path().display()));
    let mut has_met = false;
    for _ in 0..200 {
        if has_met {
            break;
        }
        let first = mounted(&[]);
        let (worker, supervisor) = (first.process("worker"), first.process("supervisor"));
        let of_first = numbers(&first);
        signal(supervisor, Signal::STOP);
        sh(&format!("umount {}", first.path().display()));
        assert!(within(SOON, || !runs(worker)));
        let second = mounted(&[]);
        has_met |= numbers(&second) == of_first;
        signal(supervisor, Signal::CONT);
        assert!(within(SOON, || !runs(supervisor)));
        assert!(second.is_there() && runs(second.process("worker")));
    }
    assert!(has_met, "other tests took the numbers every time");
}

#[test]
fn a_mount_that_is_hidden_is_not_said_to_be_unmounted_and_leaves_nothing() {
    requires!("root", "fuse", "mkfs.ext4");
    let above = tempdir();
    let place = above.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let (at, hidden) = (place.display(), above.path().display());
    sh(&format!("{IMGMOUNT} -q {} {at}", disk().display()));
    let status: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.join(".imgmount/status")).unwrap()).unwrap();
    let number = |name: &str| u32::try_from(status[name].as_u64().unwrap()).unwrap();
    let (worker, supervisor) = (number("worker"), number("supervisor"));
    sh(&format!("mount -t tmpfs above {hidden}; mkdir {at}"));
    let output = imgmount(["unmount".as_ref(), place.as_os_str()]);
    let ended = (output.status.code() == Some(0)).then_some("unmounted");
    signal(supervisor, Signal::TERM);
    let gone = within(SOON, || !runs(worker) && !runs(supervisor));
    sh(&format!("umount {hidden}"));
    let left = sh(&format!("grep -c ' {at} ' /proc/self/mountinfo || true"));
    drop(sh(&format!("umount -l {at} 2>/dev/null || true")));
    assert_eq!(ended, None);
    let expected = format!("is hidden by what is mounted on {hidden}\nhelp: first: umount {hidden}\n");
    assert!(stderr(&output).ends_with(&expected), "{}", stderr(&output));
    assert!(gone && left == "0\n", "{left}");
}

#[test]
fn a_connection_that_is_aborted_leaves_no_dead_mount() {
    requires!("root", "fuse", "mkfs.ext4");
    let (place, control) = (mounted(&[]), tempdir());
    let supervisor = place.process("supervisor");
    let (at, control) = (place.path().display(), control.path().display());
    sh(&format!(
        "minor=$(findmnt -n -o MAJ:MIN {at} | cut -d: -f2); mount -t fusectl none {control}
         echo 1 > {control}/$((minor))/abort; umount {control}"
    ));
    assert!(within(SOON, || !place.is_there() && !runs(supervisor)));
}

#[test]
fn a_mount_ends_with_the_process_that_asked_for_it() {
    requires!("root", "fuse", "mkfs.ext4");
    let place = Mount::place();
    let script =
        format!("{IMGMOUNT} --exit-with-parent {} {}; read -r _", disk().display(), place.path().display());
    let mut parent =
        Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().map(Reaped).unwrap();
    assert!(within(SOON, || place.join(".imgmount/status").exists()));
    let (worker, supervisor) = (place.process("worker"), place.process("supervisor"));
    std::thread::sleep(Duration::from_millis(300));
    assert!(place.is_there() && runs(supervisor));
    parent.0.kill().unwrap();
    assert!(within(SOON, || !place.is_there() && !runs(worker) && !runs(supervisor)));
}

#[test]
fn a_busy_mount_ends_by_one_signal_in_its_time_and_by_two_at_once() {
    requires!("root", "fuse", "mkfs.ext4");
    let time = |signals| {
        let place = mounted(&[]);
        let (worker, supervisor) = (place.process("worker"), place.process("supervisor"));
        let _held = holder(&place.join("etc"));
        let start = Instant::now();
        for _ in 0..signals {
            signal(supervisor, Signal::TERM);
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(within(SOON, || !place.is_there() && !runs(worker) && !runs(supervisor)));
        start.elapsed()
    };
    // One signal gives the holder 5 seconds.
    for (signals, most) in [(1, 10), (2, 4)] {
        assert!((0..3).any(|_| time(signals) < Duration::from_secs(most)), "{signals} signals");
    }
}

#[test]
fn a_killed_supervisor_leaves_no_mount_and_no_worker() {
    requires!("root", "fuse", "mkfs.ext4");
    let place = mounted(&[]);
    let (worker, supervisor) = (place.process("worker"), place.process("supervisor"));
    let _held = holder(&place.join("etc"));
    signal(supervisor, Signal::KILL);
    assert!(within(SOON, || !place.is_there() && !runs(worker)));
    assert!(std::fs::read_dir(place.path()).unwrap().next().is_none());
}

#[test]
fn a_users_killed_supervisor_leaves_no_mount_either() {
    requires!("root", "fuse", "mkfs.ext4", "setpriv", "fusermount3");
    // In a place that everybody may reach.
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let script = format!(
        "./imgmount -q disk.raw mnt; set -- $(grep -oE '(supervisor|worker)\": [0-9]*' mnt/.imgmount/status | sort | grep -o '[0-9]*$')
         kill -9 $1; for n in $(seq 100); do grep -q {at}/mnt /proc/self/mountinfo || break; sleep 0.05; done
         grep {at}/mnt /proc/self/mountinfo; ls mnt | wc -l; for n in $(seq 100); do kill -0 $2 2>/dev/null || break; sleep 0.05; done; kill -0 $2 2>/dev/null || echo ended"
    );
    let output = as_nobody(disk(), dir.path(), &script);
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("0\nended\n", ""));
}

/// The state of a small generator of numbers, so that a failure can be had again: Numerical Recipes' LCG.
fn next(state: &mut u32) -> u64 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    u64::from(*state >> 16)
}

#[test]
fn a_worker_killed_under_load_is_exit_70_and_leaves_nothing() {
    requires!("root", "fuse", "mkfs.ext4");
    let mut state = 7;
    for round in 0..10 {
        let (place, dir) = (Mount::place(), tempdir());
        let pid = dir.path().join("pid");
        let mut server =
            place.command(disk(), &["-q", "-f", "--cache", "0", "--pid-file", pid.to_str().unwrap()]);
        let mut server = Reaped(server.stderr(Stdio::null()).spawn().unwrap());
        assert!(within(SOON, || pid.exists()));
        let (worker, at) = (place.process("worker"), place.path().display().to_string());
        let load = format!(
            "(while find {at}/many >/dev/null 2>&1; do :; done) & (while sha256sum {at}/large >/dev/null 2>&1; do :; done) &
             (while dd if={at}/.imgmount/disk.raw of=/dev/null bs=64k iflag=direct 2>/dev/null; do :; done) & wait"
        );
        let mut load =
            Command::new("sh").args(["-c", &load]).stderr(Stdio::null()).spawn().map(Reaped).unwrap();
        std::thread::sleep(Duration::from_millis(next(&mut state) % 150));
        signal(worker, Signal::KILL);
        let mut ended = None;
        assert!(within(SOON, || {
            ended = server.0.try_wait().unwrap();
            ended.is_some()
        }));
        assert_eq!(ended.unwrap().code(), Some(70), "round {round}");
        assert!(!place.is_there() && !Path::new(&format!("/proc/{worker}")).exists(), "round {round}");
        // Nobody waits for an answer any more: the readers have got an error, and ended.
        assert!(within(SOON, || load.0.try_wait().unwrap().is_some()), "round {round}");
    }
}

// unmount.

#[test]
fn what_the_kernel_put_upon_a_mount_is_named_with_the_way_out() {
    requires!("root", "fuse", "mkfs.ext4", "loop");
    let place = mounted(&[]);
    let above = place.join("many");
    sh(&format!("mount -t tmpfs none {}", above.display()));
    let unmount = || place.unmount(&[]);
    let said = stderr(&unmount());
    sh(&format!("umount {}", above.display()));
    let expected = format!("is in use by a mount on {0}\nhelp: first: umount {0}\n", above.display());
    assert!(said.ends_with(&expected), "{said}");
    let raw = place.join(".imgmount/disk.raw");
    let device = sh(&format!("losetup -r -f --show {}", raw.display())).trim_end().to_owned();
    let said = stderr(&unmount());
    sh(&format!("losetup -d {device}"));
    assert!(said.contains(&format!("is in use by {device} ({})", raw.display())), "{said}");
    assert!(within(SOON, || unmount().status.success()));
}

#[test]
fn unmount_works_from_inside_and_kill_ends_the_holders() {
    requires!("root", "fuse", "mkfs.ext4");
    let place = mounted(&[]);
    let output =
        Command::new(IMGMOUNT).args(["unmount", ".."]).current_dir(place.join("etc")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let place = mounted(&[]);
    let mut held = holder(&place.join("etc"));
    let output = place.unmount(&["--kill"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!held.0.wait().unwrap().success());
}
