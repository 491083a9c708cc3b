//! How often the kernel must ask while a tree is walked through: what makes a walk quick or slow, on any machine.

use super::*;
use std::ffi::OsStr;
use std::time::Duration;

/// Directories, and files in each.
const DIRS: u64 = 60;
const FILES: u64 = 30;

/// A mounted ext4 of [`DIRS`] directories, with a large one of 1,000 files beside them, and no operating system.
struct Walked {
    dir: tempfile::TempDir,
}

impl Walked {
    fn new() -> Self {
        let walked = Self { dir: tempdir() };
        let at = walked.dir.path().display();
        sh(&format!(
            "cd {at}; mkdir tree mnt tree/large; truncate -s 64M disk.raw
             for d in $(seq {DIRS}); do mkdir tree/$d; (cd tree/$d; for f in $(seq {FILES}); do echo $f > file-$d-$f; done); done
             (cd tree/large; seq -f file-number-%g 1000 | xargs touch); mkfs.ext4 -q -d tree disk.raw"
        ));
        let place = [walked.dir.path().join("disk.raw"), walked.dir.path().join("mnt")];
        let options = ["-q", "--volume", "disk"].map(OsStr::new);
        let output = imgmount(options.into_iter().chain(place.iter().map(|path| path.as_os_str())));
        assert!(output.status.success(), "{}", stderr(&output));
        walked
    }

    /// Runs a command in the mount; what it prints, and how many requests it took.
    fn run(&self, command: &str) -> (String, u64) {
        let asked = || -> u64 {
            // As long as the kernel keeps a text that changes.
            std::thread::sleep(Duration::from_millis(1100));
            let stats = std::fs::read_to_string(self.dir.path().join("mnt/.imgmount/stats")).unwrap();
            let line = stats.lines().find_map(|line| line.strip_prefix("fuse_requests ")).unwrap();
            line.parse().unwrap()
        };
        let before = asked();
        let said = sh(&format!("cd {}/mnt; {command}", self.dir.path().display()));
        (said, asked() - before)
    }

    /// Is all known that a command asks for? Others may look into every mount there is, and the kernel may want its memory.
    fn knows(&self, command: &str) -> bool {
        (0..5).any(|_| self.run(command).1 < 10)
    }
}

impl Drop for Walked {
    fn drop(&mut self) {
        drop(imgmount([OsStr::new("unmount"), OsStr::new("-q"), self.dir.path().join("mnt").as_os_str()]));
    }
}

const NAMES: &str = "find . -name lost+found -prune -o -type f -print | sort";
const SIZES: &str = "find . -name lost+found -prune -o -type f -printf '%p %s\\n' | sort";

#[test]
fn a_walk_for_sizes_after_one_for_names_does_not_ask_file_by_file() {
    requires!("root", "fuse", "mkfs.ext4");
    let walked = Walked::new();
    let all = DIRS * FILES + 1000;
    let (names, asked) = walked.run(NAMES);
    assert_eq!(names.lines().count() as u64, all);
    assert!(asked < DIRS * 5, "{asked} requests for names");

    let (sizes, asked) = walked.run(SIZES);
    assert_eq!(sizes, sh(&format!("cd {}/tree; {SIZES}", walked.dir.path().display())));
    assert!(asked < all / 2, "{asked} requests for the sizes of {all} files");

    assert!(walked.knows(NAMES) && walked.knows(SIZES), "all is known");
}

#[test]
fn one_directory_with_sizes_costs_the_others_nothing() {
    requires!("root", "fuse", "mkfs.ext4");
    let walked = Walked::new();
    walked.run(NAMES);
    let (_, asked) = walked.run("find 1 2 3 -type f -printf '%s\\n'");
    assert!(asked <= 3 * (FILES + 2) + 100, "{asked}");
    assert!(walked.knows(NAMES), "the listings are still there");
}
