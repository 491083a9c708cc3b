//! What a caller has open is the caller's: neither of our processes keeps it.

use super::*;

/// What each of the processes has open, as the kernel names it.
fn open_files(processes: &[u32]) -> Vec<String> {
    let links =
        processes.iter().flat_map(|process| std::fs::read_dir(format!("/proc/{process}/fd")).unwrap());
    let target = |link: PathBuf| rustix::fs::readlink(link, Vec::new()).unwrap().into_string().unwrap();
    links.map(|link| target(link.unwrap().path())).collect()
}

#[test]
fn a_mount_in_the_background_keeps_no_lock_of_its_caller() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3", "flock");
    let (mount, dir) = (Mount::place(), tempdir());
    let (lock, ready) = (dir.path().join("lock"), dir.path().join("ready"));
    // The image is found among the caller's descriptors, too.
    sh(&format!(
        "(flock 9; {IMGMOUNT} -q --ready-fd 8 /dev/fd/7 {}) 7<{} 8>{} 9>{}",
        mount.path().display(),
        disk().display(),
        ready.display(),
        lock.display()
    ));
    assert_eq!(std::fs::read_to_string(&ready).unwrap(), "ready\n");
    assert_eq!(std::fs::read(mount.join("etc/hostname")).unwrap(), b"guest\n");
    sh(&format!("flock -n {} true", lock.display()));
    let open = open_files(&[mount.process("worker"), mount.process("supervisor")]);
    let kept = |path: &Path| open.iter().any(|name| Path::new(name) == path);
    assert!(!kept(&lock) && !kept(&ready), "{open:?}");
    assert_eq!(open.iter().filter(|name| Path::new(name) == disk()).count(), 1, "{open:?}");
}

#[test]
fn the_worker_under_a_command_keeps_nothing_of_the_caller() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3");
    let dir = tempdir();
    let mine = dir.path().join("mine");
    let said = sh(&format!(
        r#"{IMGMOUNT} {} -- sh -c 'echo kept >&9
           ls -l /proc/$(sed "s/.*\"worker\": *\([0-9]*\).*/\1/;t;d" .imgmount/status)/fd' 9>{}"#,
        disk().display(),
        mine.display()
    ));
    assert!(said.contains("-> ") && !said.contains("/mine"), "{said}");
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "kept\n", "the command has it as ever");
}

#[test]
fn a_server_in_the_background_keeps_no_lock_of_its_caller() {
    requires!("root", "loop", "sfdisk", "mkfs.ext4", "python3", "flock");
    let dir = tempdir();
    let (lock, pid) = (dir.path().join("lock"), dir.path().join("pid"));
    sh(&format!(
        "(flock 9; {IMGMOUNT} -q serve --fork --socket {}/socket --pid-file {} {}) 9>{}",
        dir.path().display(),
        pid.display(),
        disk().display(),
        lock.display()
    ));
    let supervisor = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let processes = [vec![supervisor], children(supervisor)].concat();
    let open = open_files(&processes);
    signal(supervisor, Signal::TERM);
    assert!(processes.len() == 2 && !open.iter().any(|name| Path::new(name) == lock), "{open:?}");
}
