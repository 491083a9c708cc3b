//! The verbs, run as users run them; what they print is held against `debugfs`, `qemu-img`, `sha256sum`, `tar` and the kernel.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::{imgmount, sh, stderr, stdout};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Output;

/// A disk with one ext4 partition at 1 MiB, made of a folder with one file of every kind, and its conversions.
struct Fixture {
    dir: tempfile::TempDir,
}

/// Files that are awkward to copy: a sparse one, an empty one, odd names, links of all sorts, special files.
const TREE: &str = r#"
    mkdir -p tree/etc tree/dir/sub tree/bin
    printf 'UUID=x / ext4 defaults 0 1\n' > tree/etc/fstab
    : > tree/empty
    seq 1 200000 > tree/dir/numbers
    truncate -s 9M tree/sparse; printf start | dd of=tree/sparse conv=notrunc status=none
    printf end | dd of=tree/sparse bs=1 seek=6000000 conv=notrunc status=none
    printf x > "$(printf 'tree/dir/esc\033[31m\nname')"
    printf x > "$(printf 'tree/dir/caf\351')"
    printf x > 'tree/dir/spa ce'; printf x > 'tree/dir/-n'
    chmod 4755 tree/dir/numbers; chmod 600 tree/etc/fstab; chmod 1777 tree/dir/sub
    ln -s /etc/fstab tree/absolute; ln -s ../../../../etc/fstab tree/dir/up; ln -s nowhere tree/dangling
    ln -s "$(head -c 100 /dev/zero | tr '\0' l)" tree/long
    ln tree/empty tree/dir/hard
    mkfifo tree/fifo; mknod tree/null c 1 3; mknod tree/loop9 b 7 9
    chown -R 1234:5678 tree/dir/sub tree/etc/fstab; chown -h 7:8 tree/dangling
    touch -h -d '2001-02-03T04:05:06.789012345Z' tree/dir/numbers tree/absolute tree/dir/sub
    touch -d '2040-01-01T00:00:00.5Z' tree/etc/fstab
"#;

impl Fixture {
    fn new() -> Self {
        let dir = common::tempdir();
        sh(&format!(
            r#"cd {0}; {TREE}
            truncate -s 32M disk.raw
            printf 'label: dos\nlabel-id: 0xcafe0123\nstart=2048, size=61440, type=83, bootable\n' | sfdisk -q disk.raw
            mkfs.ext4 -q -F -b 1024 -L rootfs -U 11111111-2222-3333-4444-555555555555 -E offset=1048576 -d tree disk.raw 30M
            dd if=disk.raw of=part.raw bs=1M skip=1 count=30 status=none"#,
            dir.path().display()
        ));
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sh(&self, script: &str) -> String {
        sh(&format!("cd {}; {script}", self.dir.path().display()))
    }

    /// Runs imgmount in the fixture's folder.
    fn run(&self, line: &str) -> Output {
        let script = format!("cd {}; exec {} {line}", self.dir.path().display(), common::IMGMOUNT);
        std::process::Command::new("bash")
            .args(["-c", &script])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    }

    fn json(&self, line: &str) -> Value {
        let output = self.run(line);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{line}: {error}\n{}{}", stdout(&output), stderr(&output)))
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// One line with the cause, one with the next step, and the code.
fn refused(output: &Output, exit: i32, cause: &str) {
    let text = stderr(output);
    assert_eq!(code(output), exit, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("imgmount: ") && lines[0].contains(cause), "{text}");
    assert!(lines.len() == 2 && lines[1].starts_with("help: "), "{text}");
    assert!(output.stdout.is_empty(), "{}", stdout(output));
}

// What is no image.

#[test]
fn an_empty_file_is_refused() {
    let dir = common::tempdir();
    std::fs::write(dir.path().join("e.img"), b"").unwrap();
    refused(&imgmount(["info".as_ref(), dir.path().join("e.img").as_os_str()]), 3, "is empty");
}

#[test]
fn a_directory_is_refused() {
    let dir = common::tempdir();
    refused(&imgmount(["info".as_ref(), dir.path().as_os_str()]), 3, "is a directory");
}

#[test]
fn a_text_file_is_refused() {
    let dir = common::tempdir();
    std::fs::write(dir.path().join("notes"), "a line\nand another, with ümlauts\n").unwrap();
    refused(&imgmount(["info".as_ref(), dir.path().join("notes").as_os_str()]), 3, "is a text file");
}

#[test]
fn a_truncated_vmdk_is_refused_with_the_place() {
    requires!("qemu-img");
    let dir = common::tempdir();
    sh(&format!(
        "cd {}; seq 1 400000 > d; truncate -s 16M d; qemu-img convert -O vmdk -o subformat=streamOptimized d t.vmdk; \
         truncate -s $(( $(stat -c %s t.vmdk) / 2 )) t.vmdk",
        dir.path().display()
    ));
    let output = imgmount(["hash".as_ref(), dir.path().join("t.vmdk").as_os_str()]);
    refused(&output, 3, "vmdk: ");
}

#[test]
fn a_backing_file_that_was_planted_is_not_opened() {
    requires!("qemu-img");
    let dir = common::tempdir();
    sh(&format!("qemu-img create -q -u -f qcow2 -b /etc/shadow -F raw {}/q.qcow2 1M", dir.path().display()));
    let output = imgmount(["cat".as_ref(), dir.path().join("q.qcow2").as_os_str(), "/x".as_ref()]);
    refused(&output, 3, "names the backing file '/etc/shadow', which it may not open");
}

#[test]
fn an_image_that_does_not_exist_is_a_source_error() {
    refused(&imgmount(["info", "/nonexistent/x.vmdk"]), 4, "/nonexistent/x.vmdk: no such file");
}

#[test]
fn a_mistyped_verb_is_named() {
    refused(&imgmount(["chek", "x"]), 2, "no image named 'chek'; did you mean 'imgmount check'?");
    refused(&imgmount(["unmout", "x"]), 2, "did you mean 'imgmount unmount'?");
}

#[test]
fn an_unknown_format_is_a_usage_error() {
    let dir = common::tempdir();
    std::fs::write(dir.path().join("d"), [0; 512]).unwrap();
    let output =
        imgmount(["info".as_ref(), "--format".as_ref(), "qcow9".as_ref(), dir.path().join("d").as_os_str()]);
    refused(&output, 2, "no format 'qcow9'");
}

#[test]
fn an_error_is_an_object_where_json_is_asked_for() {
    let output = imgmount(["cat", "--json", "/nonexistent/x.vmdk:/etc/fstab"]);
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((error["schema"].as_str(), error["exit"].as_u64()), (Some("imgmount.error/1"), Some(4)));
    assert_eq!(error["error"], "/nonexistent/x.vmdk: no such file");
}

// Files.

#[test]
fn cat_gives_what_debugfs_gives() {
    requires!("mkfs.ext4", "sfdisk", "debugfs", "root");
    let fixture = Fixture::new();
    for path in ["/etc/fstab", "/empty", "/dir/numbers", "/sparse"] {
        let theirs =
            fixture.sh(&format!("debugfs -R 'dump {path} out' part.raw 2>/dev/null; sha256sum < out"));
        let ours = sh(&format!(
            "{} cat {}:{path} | sha256sum",
            common::IMGMOUNT,
            fixture.path("disk.raw").display()
        ));
        assert_eq!(ours, theirs, "{path}");
    }
}

#[test]
fn a_link_is_followed_inside_the_guest_and_never_on_the_host() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    for path in ["/absolute", "/dir/up"] {
        assert_eq!(
            stdout(&fixture.run(&format!("cat disk.raw:{path}"))),
            "UUID=x / ext4 defaults 0 1\n",
            "{path}"
        );
    }
}

#[test]
fn image_and_path_may_be_two_words_and_a_volume_may_be_named() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    for line in [
        "disk.raw:/etc/fstab",
        "disk.raw /etc/fstab",
        "disk.raw:p1:/etc/fstab",
        "disk.raw p1:/etc/fstab",
        "part.raw:/etc/fstab",
    ] {
        assert_eq!(stdout(&fixture.run(&format!("cat {line}"))), "UUID=x / ext4 defaults 0 1\n", "{line}");
    }
}

#[test]
fn a_path_that_is_missing_is_a_no() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    let output = fixture.run("cat disk.raw:/etc/none");
    assert_eq!(
        (code(&output), stderr(&output).lines().next()),
        (1, Some("imgmount: disk.raw: /etc/none: no such file, directory or volume"))
    );
    assert_eq!(code(&fixture.run("ls disk.raw:p9:/")), 1);
    assert_eq!(code(&fixture.run("cat disk.raw:/etc")), 1);
    // What is there is given all the same.
    let both = fixture.run("cat disk.raw:/etc/none disk.raw:/etc/fstab");
    assert_eq!((code(&both), stdout(&both).as_str()), (1, "UUID=x / ext4 defaults 0 1\n"));
}

#[test]
fn ls_escapes_what_a_terminal_would_obey() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    let output = fixture.run("ls disk.raw:/dir");
    assert_eq!(stdout(&output), "-n\ncaf\\xe9\nesc\\x1b[31m\\x0aname\nhard\nnumbers\nspa ce\nsub\nup\n");
}

#[test]
fn ls_long_shows_what_the_kernel_shows() {
    requires!("mkfs.ext4", "sfdisk", "root", "loop");
    let fixture = Fixture::new();
    // GNU ls with the same columns; its times in UTC with nanoseconds.
    let theirs = mounted(&fixture, |dir| {
        sh(&format!(
            "cd {dir}; LC_ALL=C TZ=UTC ls -lAn --time-style=+%Y-%m-%dT%H:%M:%S.%NZ | tail -n +2 | tr -s ' ' | LC_ALL=C sort -k7"
        ))
    });
    let ours = fixture.run("ls -la disk.raw:/");
    let mut ours: Vec<String> =
        stdout(&ours).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    ours.sort_by_key(|line| line.split(' ').skip(6).collect::<Vec<_>>().join(" "));
    let mut theirs: Vec<String> = theirs.lines().map(str::to_owned).collect();
    theirs.sort_by_key(|line| line.split(' ').skip(6).collect::<Vec<_>>().join(" "));
    assert_eq!(ours, theirs);
}

/// Runs `look` on the partition as the kernel mounts it.
fn mounted<T>(fixture: &Fixture, look: impl FnOnce(&str) -> T) -> T {
    let dir = fixture.path("mnt");
    std::fs::create_dir_all(&dir).unwrap();
    sh(&format!("mount -o ro,noload,loop {} {}", fixture.path("part.raw").display(), dir.display()));
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(dir.to_str().unwrap())));
    sh(&format!("umount {}", dir.display()));
    seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Every file below a folder as the kernel shows it, in the words of `find --jsonl`.
fn kernel_listing(top: &str) -> BTreeMap<Vec<u8>, String> {
    let script =
        format!(r"cd {top}; TZ=UTC find . -printf '%y %s %04m %U %G %TY-%Tm-%TdT%TH:%TM:%TS %i %n %l\t%P\0'");
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success());
    output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let tab = line.iter().position(|byte| *byte == b'\t').unwrap();
            let facts = String::from_utf8(line[..tab].to_vec()).unwrap();
            // GNU find prints ten digits of the second's fraction.
            let facts: Vec<&str> = facts.split(' ').collect();
            let time = &facts[5][.."2001-02-03T04:05:06.789012345".len()];
            let size = if matches!(facts[0], "f" | "l") { facts[1] } else { "-" };
            let name = [b"/".as_slice(), &line[tab + 1..]].concat();
            (
                name,
                format!(
                    "{} {size} {} {} {} {time}Z {} {} {}",
                    facts[0], facts[2], facts[3], facts[4], facts[6], facts[7], facts[8]
                ),
            )
        })
        .collect()
}

/// The same out of `find --jsonl`.
fn our_listing(output: &Output) -> BTreeMap<Vec<u8>, String> {
    use base64::Engine as _;
    stdout(output)
        .lines()
        .map(|line| {
            let entry: Value = serde_json::from_str(line).unwrap();
            let name = match entry["path_bytes"].as_str() {
                Some(bytes) => base64::engine::general_purpose::STANDARD.decode(bytes).unwrap(),
                None => entry["path"].as_str().unwrap().as_bytes().to_vec(),
            };
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let letter = match text("type").as_str() {
                "file" => "f",
                "dir" => "d",
                "symlink" => "l",
                "char" => "c",
                "block" => "b",
                "fifo" => "p",
                other => panic!("{other}"),
            };
            let size = if matches!(letter, "f" | "l") { entry["size"].to_string() } else { "-".to_owned() };
            let facts = format!(
                "{letter} {size} {} {} {} {} {} {} {}",
                text("mode"),
                entry["uid"],
                entry["gid"],
                text("mtime"),
                entry["ino"],
                entry["nlink"],
                text("target")
            );
            (name, facts)
        })
        .collect()
}

#[test]
fn find_lists_what_the_kernel_lists() {
    requires!("mkfs.ext4", "sfdisk", "root", "loop");
    let fixture = Fixture::new();
    let theirs = mounted(&fixture, kernel_listing);
    let output = fixture.run("find disk.raw:/ --jsonl");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(our_listing(&output), theirs);
}

#[test]
fn find_hash_prints_what_sha256sum_prints() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    let theirs = fixture.sh("cd tree; LC_ALL=C find . -type f -not -path '*esc*' -not -path '*caf*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sed 's,  \\.,  ,' | LC_ALL=C sort -k2");
    let ours = fixture.run("find disk.raw:/ --hash --type f | grep -v 'esc\\|caf' | LC_ALL=C sort -k2");
    assert_eq!(stdout(&ours), theirs);
}

#[test]
fn find_takes_names_and_types() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    assert_eq!(stdout(&fixture.run("find disk.raw:/ --name 'f*' --type file")), "/etc/fstab\n");
    assert_eq!(stdout(&fixture.run("find disk.raw:/etc")), "/etc\n/etc/fstab\n");
    assert_eq!(stdout(&fixture.run("find disk.raw:/absolute")), "/absolute\n");
}

#[test]
fn stat_tells_what_debugfs_tells() {
    requires!("mkfs.ext4", "sfdisk", "root", "debugfs");
    let fixture = Fixture::new();
    let stat = fixture.json("stat disk.raw:/dir/numbers --json");
    let theirs = fixture.sh("debugfs -R 'stat /dir/numbers' part.raw 2>/dev/null");
    assert!(theirs.contains(&format!("Inode: {}", stat["ino"])), "{theirs}");
    assert!(theirs.contains(&format!("Size: {}", stat["size"])), "{theirs}");
    assert!(theirs.contains(&format!("Blockcount: {}", stat["blocks"])), "{theirs}");
    // " mtime: 0x3a7b80d2:00000000 -- ...": seconds, and nanoseconds above two more bits of the seconds.
    let mtime = theirs.lines().find_map(|line| line.trim().strip_prefix("mtime: 0x")).unwrap();
    let (secs, extra) = mtime.split(' ').next().unwrap().split_once(':').unwrap();
    let nanos = u32::from_str_radix(extra, 16).unwrap() >> 2;
    let date = sh(&format!("date -u -d @{} +%FT%T", i64::from_str_radix(secs, 16).unwrap()));
    assert_eq!(
        (stat["mode"].as_str(), stat["mtime"].as_str()),
        (Some("4755"), Some(format!("{}.{nanos:09}Z", date.trim()).as_str()))
    );
    assert_eq!(stat["volume"], "p1");
}

// Copies.

#[test]
fn cp_makes_what_the_kernel_shows() {
    requires!("mkfs.ext4", "sfdisk", "root", "loop");
    let fixture = Fixture::new();
    let output = fixture.run("cp -rp disk.raw:/ out/");
    assert_eq!(code(&output), 5, "the directory does not exist: {}", stderr(&output));
    std::fs::create_dir(fixture.path("out")).unwrap();
    let output = fixture.run("cp -rp disk.raw:/ out");
    // Three special files are left out, and said.
    assert_eq!(code(&output), 6, "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("is not copied").count(), 3);
    let strip = |listing: BTreeMap<Vec<u8>, String>| -> BTreeMap<Vec<u8>, String> {
        let kept = listing.into_iter().filter(|(_, facts)| !matches!(&facts[..1], "c" | "b" | "p"));
        // Inode numbers and links are the copy's own.
        kept.map(|(name, facts)| {
            let facts: Vec<&str> = facts.split(' ').collect();
            (name, [&facts[..6], &facts[8..]].concat().join(" "))
        })
        .collect()
    };
    let theirs = mounted(&fixture, |dir| {
        sh(&format!(
            "cd {}; diff -r --no-dereference -q out {dir} | grep -v '^Only in .*: \\(fifo\\|null\\|loop9\\)$' >&2 || true",
            fixture.dir.path().display()
        ));
        kernel_listing(dir)
    });
    assert_eq!(strip(kernel_listing(fixture.path("out").to_str().unwrap())), strip(theirs));
    assert_eq!(fixture.sh("cmp tree/sparse out/sparse; cmp tree/dir/numbers out/dir/numbers"), "");
}

#[test]
fn cp_keeps_holes() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    assert_eq!(code(&fixture.run("cp disk.raw:/sparse copy")), 0);
    let facts = std::fs::metadata(fixture.path("copy")).unwrap();
    assert_eq!(facts.len(), 9 << 20);
    assert!(facts.blocks() * 512 < 1 << 20, "{} blocks", facts.blocks());
    fixture.sh("cmp copy tree/sparse");
}

#[test]
fn cp_overwrites_nothing_and_writes_through_no_link() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("out")).unwrap();
    std::os::unix::fs::symlink(fixture.path("victim"), fixture.path("out/fstab")).unwrap();
    let output = fixture.run("cp disk.raw:/etc/fstab out");
    refused(&output, 5, "making the file");
    assert!(!fixture.path("victim").exists());
    assert_eq!(code(&fixture.run("cp -f disk.raw:/etc/fstab out")), 0);
    assert!(!fixture.path("victim").exists());
    assert_eq!(std::fs::read(fixture.path("out/fstab")).unwrap(), b"UUID=x / ext4 defaults 0 1\n");
}

#[test]
fn cp_does_not_descend_into_a_link_that_is_in_the_way() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    fixture.sh("mkdir -p out elsewhere; ln -s ../elsewhere out/etc");
    let output = fixture.run("cp -r disk.raw:/etc out");
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(fixture.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn cp_wants_r_for_directories() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    let output = fixture.run("cp disk.raw:/etc copy");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("help: to copy directories: imgmount cp -r"));
}

#[test]
fn cp_without_p_drops_set_user_id() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    assert_eq!(code(&fixture.run("cp disk.raw:/dir/numbers copy")), 0);
    assert_eq!(std::fs::metadata(fixture.path("copy")).unwrap().permissions().mode() & 0o7000, 0);
}

// Sums.

#[test]
fn hash_of_every_format_is_that_of_the_raw_disk() {
    requires!("mkfs.ext4", "sfdisk", "root", "qemu-img");
    let fixture = Fixture::new();
    let sum = fixture.sh("sha256sum < disk.raw").split(' ').next().unwrap().to_owned();
    fixture.sh(
        "qemu-img convert -O qcow2 -c disk.raw z.qcow2; qemu-img convert -O vmdk disk.raw s.vmdk; \
         qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw o.vmdk; qemu-img convert -O vpc -o force_size=on disk.raw d.vhd",
    );
    let output = fixture.run("hash disk.raw z.qcow2 s.vmdk o.vmdk d.vhd");
    let expected: String = ["disk.raw", "z.qcow2", "s.vmdk", "o.vmdk", "d.vhd"]
        .iter()
        .map(|name| format!("{sum}  {name}\n"))
        .collect();
    assert_eq!(stdout(&output), expected);
}

#[test]
fn hash_container_sums_the_files_as_they_lie() {
    requires!("mkfs.ext4", "sfdisk", "root", "qemu-img");
    let fixture = Fixture::new();
    fixture.sh("qemu-img convert -O vmdk -o subformat=monolithicFlat disk.raw f.vmdk");
    let theirs = fixture.sh("sha256sum f.vmdk f-flat.vmdk");
    let ours = fixture.run("hash --container f.vmdk");
    // The second file is shown by the path it was found at.
    assert_eq!(stdout(&ours).replace(&format!("{}/", fixture.dir.path().display()), ""), theirs);
}

#[test]
fn hash_verify_answers_yes_and_no() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    let sum = fixture.sh("sha256sum < tree/dir/numbers").split(' ').next().unwrap().to_owned();
    assert_eq!(code(&fixture.run(&format!("hash --verify {sum} disk.raw:/dir/numbers"))), 0);
    assert_eq!(code(&fixture.run(&format!("hash --verify {} disk.raw:/dir/numbers", "0".repeat(64)))), 1);
    assert_eq!(code(&fixture.run("hash --verify 12 disk.raw")), 2);
}

#[test]
fn a_disk_with_a_byte_that_cannot_be_read_has_no_sum() {
    requires!("qemu-img");
    let dir = common::tempdir();
    let at = dir.path().display();
    sh(&format!(
        "cd {at}; seq 1 400000 > d; truncate -s 16M d; qemu-img convert -O vmdk d cut.vmdk; truncate -s -300K cut.vmdk"
    ));
    let output = imgmount([
        "hash".as_ref(),
        dir.path().join("cut.vmdk").as_os_str(),
        dir.path().join("d").as_os_str(),
        "--format".as_ref(),
        "vmdk".as_ref(),
    ]);
    assert_eq!(stdout(&output), "", "{}", stderr(&output));
    let one = imgmount(["hash".as_ref(), dir.path().join("cut.vmdk").as_os_str()]);
    assert_eq!(code(&one), 3, "{}", stderr(&one));
    // One image that is whole beside it: the rest is usable.
    sh(&format!("cd {at}; qemu-img convert -O vmdk d good.vmdk"));
    let two = imgmount([
        "hash".as_ref(),
        dir.path().join("cut.vmdk").as_os_str(),
        dir.path().join("good.vmdk").as_os_str(),
    ]);
    assert_eq!((code(&two), stdout(&two).lines().count()), (6, 1), "{}", stderr(&two));
}

// Maps.

fn without_names(map: &Value) -> Vec<Value> {
    let mut entries = map.as_array().unwrap().clone();
    for entry in &mut entries {
        entry.as_object_mut().unwrap().remove("filename");
    }
    entries
}

#[test]
fn map_is_that_of_qemu_img() {
    requires!("mkfs.ext4", "sfdisk", "root", "qemu-img");
    let fixture = Fixture::new();
    fixture.sh(
        "qemu-img convert -O qcow2 disk.raw d.qcow2; qemu-img convert -O qcow2 -c disk.raw z.qcow2; qemu-img convert -O vmdk disk.raw d.vmdk; \
         qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw o.vmdk; \
         qemu-img create -q -f qcow2 -b d.qcow2 -F qcow2 over.qcow2; qemu-io -c 'write -P 5 1M 70k' -c 'write -z 4M 1M' over.qcow2 >/dev/null",
    );
    for image in ["disk.raw", "d.qcow2", "z.qcow2", "d.vmdk", "o.vmdk", "over.qcow2"] {
        let theirs: Value =
            serde_json::from_str(&fixture.sh(&format!("qemu-img map --output=json {image}"))).unwrap();
        let ours = fixture.json(&format!("map --json --allow-parent . {image}"));
        assert_eq!(without_names(&ours), without_names(&theirs), "{image}");
    }
    for image in ["disk.raw", "d.qcow2", "d.vmdk"] {
        assert_eq!(
            stdout(&fixture.run(&format!("map {image}"))),
            fixture.sh(&format!("qemu-img map {image}")),
            "{image}"
        );
    }
}

#[test]
fn map_of_a_file_leads_to_its_bytes_in_the_container() {
    requires!("mkfs.ext4", "sfdisk", "root", "qemu-img");
    let fixture = Fixture::new();
    fixture.sh("qemu-img convert -O qcow2 disk.raw d.qcow2");
    let map = fixture.json("map --json d.qcow2:/dir/numbers");
    let (container, disk) =
        (std::fs::read(fixture.path("d.qcow2")).unwrap(), std::fs::read(fixture.path("disk.raw")).unwrap());
    let part = std::fs::read(fixture.path("part.raw")).unwrap();
    let file = std::fs::read(fixture.path("tree/dir/numbers")).unwrap();
    let mut next = 0;
    for run in map["runs"].as_array().unwrap() {
        let at = |key: &str| usize::try_from(run[key].as_u64().unwrap()).unwrap();
        let len = at("length");
        assert_eq!(at("file_offset"), next);
        let wanted = &file[next..next + len];
        assert!(part[at("volume_offset")..][..len] == *wanted && disk[at("disk_offset")..][..len] == *wanted);
        assert!(container[at("container_offset")..][..len] == *wanted && run["container"] == "d.qcow2");
        next += len;
    }
    assert_eq!(next, file.len());
}

// What the image is.

#[test]
fn info_prints_the_lines_that_qemu_img_info_prints() {
    requires!("mkfs.ext4", "sfdisk", "root", "qemu-img");
    let fixture = Fixture::new();
    fixture.sh("qemu-img convert -O qcow2 disk.raw d.qcow2; qemu-img convert -O vmdk disk.raw d.vmdk; qemu-img convert -O vpc disk.raw d.vhd");
    for image in ["disk.raw", "d.qcow2", "d.vmdk", "d.vhd"] {
        let lines = |text: &str| -> Vec<String> {
            let wanted = ["image: ", "file format: ", "virtual size: ", "disk size: "];
            text.lines()
                .filter(|line| wanted.iter().any(|start| line.starts_with(start)))
                .map(str::to_owned)
                .collect()
        };
        let theirs = lines(&fixture.sh(&format!("qemu-img info {image} | sed '/^Child node/,$d'")));
        assert_eq!(lines(&stdout(&fixture.run(&format!("info {image}")))), theirs);
    }
}

#[test]
fn info_json_says_what_sfdisk_and_blkid_and_qemu_img_measure_say() {
    requires!("mkfs.ext4", "sfdisk", "root", "qemu-img", "blkid", "dumpe2fs");
    let fixture = Fixture::new();
    let info = fixture.json("info --json disk.raw");
    assert_eq!(info["schema"], "imgmount.info/1");
    let table: Value = serde_json::from_str(&fixture.sh("sfdisk -J disk.raw")).unwrap();
    let (theirs, ours) = (&table["partitiontable"]["partitions"][0], &info["partitions"][0]);
    assert_eq!(ours["start"].as_u64().unwrap(), theirs["start"].as_u64().unwrap() * 512);
    assert_eq!(ours["size"].as_u64().unwrap(), theirs["size"].as_u64().unwrap() * 512);
    assert_eq!(
        (ours["type"].as_str(), ours["bootable"].as_bool()),
        (Some("0x83"), theirs["bootable"].as_bool())
    );
    assert_eq!((info["partition_table"].as_str(), ours["id"].as_str()), (Some("mbr"), Some("p1")));
    let fs = &info["filesystems"][0];
    let blkid = fixture.sh("blkid -p -o export part.raw");
    for (key, field) in [("TYPE", "type"), ("LABEL", "label"), ("UUID", "uuid")] {
        assert!(blkid.contains(&format!("{key}={}\n", fs[field].as_str().unwrap())), "{blkid}{fs}");
    }
    let free: u64 = fixture
        .sh("dumpe2fs -h part.raw 2>/dev/null | sed -n 's/^Free blocks: *//p'")
        .trim()
        .parse()
        .unwrap();
    assert_eq!(
        (fs["free"].as_u64(), fs["state"].as_str(), fs["volume"].as_str()),
        (Some(free * 1024), Some("clean"), Some("p1"))
    );
    let measure: Value =
        serde_json::from_str(&fixture.sh("qemu-img measure --output=json -O qcow2 disk.raw")).unwrap();
    assert_eq!(info["qcow2_size"]["max"], measure["required"]);
    assert!(info["qcow2_size"]["min"].as_u64() <= info["qcow2_size"]["max"].as_u64());
}

#[test]
fn the_qcow2_size_of_a_full_scan_is_what_convert_makes() {
    requires!("mkfs.ext4", "sfdisk", "root", "qemu-img");
    let fixture = Fixture::new();
    // Every byte stored, zeros too.
    fixture.sh("dd if=disk.raw of=full.raw bs=1M conv=notrunc status=none; qemu-img convert -O qcow2 full.raw c.qcow2");
    let size = &fixture.json("info --json --full-scan full.raw")["qcow2_size"];
    assert_eq!(size["min"], size["max"]);
    let measured: Value =
        serde_json::from_str(&fixture.sh("qemu-img measure --output=json -O qcow2 c.qcow2")).unwrap();
    assert_eq!(size["max"], measured["required"]);
}

#[test]
fn info_says_why_no_system_was_found() {
    let dir = common::tempdir();
    let mut disk = vec![0_u8; 1 << 20];
    disk[..4].copy_from_slice(b"\x01\x02\x03\x04");
    std::fs::write(dir.path().join("odd.raw"), disk).unwrap();
    let output = imgmount(["info".as_ref(), dir.path().join("odd.raw").as_os_str()]);
    let text = stdout(&output);
    for part in [
        "no operating system was found",
        "container: raw",
        "partition table: none",
        "begins with 01 02 03 04 00",
        "next step: ",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(code(&output), 0);
}

// The rest.

#[test]
fn doctor_tells_doors_and_remedies() {
    let output = imgmount(["doctor", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema"], "imgmount.doctor/1");
    for finding in document["findings"].as_array().unwrap() {
        assert_eq!(finding["ok"].as_bool().unwrap(), finding["fix"].is_null(), "{finding}");
    }
    let fuse = document["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["name"] == "/dev/fuse")
        .unwrap();
    let opens = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    assert_eq!(fuse["ok"].as_bool(), Some(opens));
}

#[test]
fn completions_are_accepted_by_their_shell() {
    let script = imgmount(["completions", "bash"]);
    let dir = common::tempdir();
    std::fs::write(dir.path().join("c"), &script.stdout).unwrap();
    assert!(stdout(&script).contains("imgmount"));
    sh(&format!("bash -n {}", dir.path().join("c").display()));
}

#[test]
fn a_reader_that_leaves_ends_the_verb_quietly() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    let output = fixture.run("cat disk.raw:/dir/numbers | head -1");
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("1\n", ""));
}

#[test]
fn a_full_disk_is_said_and_not_taken_for_success() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    let output = fixture.run("cat disk.raw:/dir/numbers > /dev/full");
    assert_eq!(code(&output), 5);
    assert!(stderr(&output).contains("writing to standard output"), "{}", stderr(&output));
}

#[test]
fn the_image_is_the_same_after_every_verb() {
    requires!("mkfs.ext4", "sfdisk", "root");
    let fixture = Fixture::new();
    let before = (
        fixture.sh("sha256sum disk.raw"),
        std::fs::metadata(fixture.path("disk.raw")).unwrap().modified().unwrap(),
    );
    for line in [
        "info disk.raw",
        "find disk.raw:/ --hash",
        "hash disk.raw",
        "map disk.raw",
        "cp -rp disk.raw:/etc out",
        "verify disk.raw",
    ] {
        fixture.run(line);
    }
    assert_eq!(
        (
            fixture.sh("sha256sum disk.raw"),
            std::fs::metadata(fixture.path("disk.raw")).unwrap().modified().unwrap()
        ),
        before
    );
}

#[test]
fn the_real_guest_is_listed_as_the_kernel_lists_it() {
    requires!("guest", "root", "loop");
    let guest = common::guest().unwrap();
    let disk = guest.join("disk.raw");
    let dir = common::tempdir();
    let device =
        sh(&format!("losetup -f --show -r -P -o $((2048*512)) {}", disk.display())).trim().to_owned();
    let mount = sh(&format!(
        "mount -o ro,noload {device} {0} && echo ok || losetup -d {device}",
        dir.path().display()
    ));
    assert_eq!(mount.trim(), "ok");
    let theirs = kernel_listing(dir.path().to_str().unwrap());
    sh(&format!("umount {}; losetup -d {device}", dir.path().display()));
    let output =
        imgmount([std::ffi::OsStr::from_bytes(b"find"), disk.as_os_str(), "/".as_ref(), "--jsonl".as_ref()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let ours = our_listing(&output);
    assert_eq!(ours.len(), theirs.len());
    let different: Vec<_> =
        theirs.iter().filter(|(name, facts)| ours.get(*name) != Some(*facts)).take(5).collect();
    assert!(different.is_empty(), "{different:?}");
}
