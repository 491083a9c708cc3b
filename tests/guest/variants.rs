//! The same system in the layouts that installers make: several file systems, subvolumes and logical volumes, put together
//! by its own `fstab`. Expected is what the kernel shows of those file systems, mounted at the same places.

use super::{Expected, Ours, TURN};
use crate::common::{self, imgmount, root, sh, stderr, stdout};
use crate::requires;
use base64::Engine as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A disk of `tests/make/variants.sh`.
struct Variant {
    disk: PathBuf,
    /// What the kernel mounts where.
    mounts: PathBuf,
}

impl Variant {
    fn make(name: &str) -> Self {
        let out = root().join("target/guest-variants");
        let guest = common::guest().map(|dir| format!("'{}'", dir.join("disk.raw").display()));
        let script = root().join("tests/make/variants.sh");
        sh(&format!("'{}' {name} '{}' {}", script.display(), out.display(), guest.unwrap_or_default()));
        let file = |ending: &str| out.join(format!("{name}.{ending}"));
        Self { disk: file("raw"), mounts: file("mounts") }
    }

    fn path(&self, volume_and_path: &str) -> String {
        format!("{}:{volume_and_path}", self.disk.display())
    }
}

/// The kernel's mounts of a variant, one inside the other; gone when dropped.
struct Kernel {
    top: PathBuf,
    places: Vec<String>,
}

impl Kernel {
    fn mount(variant: &Variant, top: &Path) -> Self {
        fs::create_dir_all(top).unwrap();
        let mut kernel = Self { top: top.to_owned(), places: Vec::new() };
        for line in fs::read_to_string(&variant.mounts).unwrap().lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [first, bytes, kind, options, place] = fields[..] else { panic!("{line}") };
            let (disk, at) = (variant.disk.display(), format!("{}{place}", top.display()));
            sh(&if kind == "bind" {
                format!("mount --bind '{}{first}' '{at}'", top.display())
            } else {
                // Options that say how to write mean nothing here.
                let options = options.replace("compress=zstd,", "");
                let more = if kind == "xfs" { ",norecovery" } else { "" };
                format!(
                    "mount -t {kind} -o ro,loop,offset={first},sizelimit={bytes},{options}{more} '{disk}' '{at}'"
                )
            });
            kernel.places.push(at);
        }
        kernel
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        for place in self.places.iter().rev() {
            sh(&format!("umount '{place}'"));
        }
    }
}

/// What is compared of one path, one line.
type Listing = BTreeMap<Vec<u8>, String>;

/// The sums of all regular files below a directory, by their paths from there.
fn sums(top: &Path, dir: &Path) -> BTreeMap<Vec<u8>, String> {
    let list = dir.join("sums");
    sh(&format!(
        "cd '{}' && find . -type f -print0 | xargs -0 sha256sum --zero > '{}'",
        top.display(),
        list.display()
    ));
    let text = fs::read(list).unwrap();
    let lines = text.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    lines.map(|line| (line[67..].to_vec(), String::from_utf8(line[..64].to_vec()).unwrap())).collect()
}

/// What the kernel says of everything below a directory, in the words of `find --jsonl`.
fn kernel_listing(expected: &Expected, top: &Path, dir: &Path) -> Listing {
    let sums = sums(top, dir);
    let paths = std::iter::once(Path::new("")).chain(expected.files.iter().map(|(path, _)| path.as_path()));
    let line = |path: &Path| {
        let host = top.join(path);
        let stat = fs::symlink_metadata(&host).unwrap();
        let kind = match stat.mode() & 0o170_000 {
            0o040_000 => "dir",
            0o100_000 => "file",
            0o120_000 => "symlink",
            0o020_000 => "char",
            0o060_000 => "block",
            0o010_000 => "fifo",
            _ => "socket",
        };
        let target = match kind {
            "symlink" => rustix::fs::readlink(&host, Vec::new()).unwrap().into_bytes(),
            _ => Vec::new(),
        };
        let name = [b"/", path.as_os_str().as_bytes()].concat();
        let sum = sums.get(&name).cloned().unwrap_or_default();
        let text = format!(
            "{kind} {:04o} {}:{} size {} links {} ino {} m {}.{:09} {} {sum}",
            stat.mode() & 0o7777,
            stat.uid(),
            stat.gid(),
            stat.size(),
            stat.nlink(),
            stat.ino(),
            stat.mtime(),
            stat.mtime_nsec(),
            target.escape_ascii()
        );
        (name, text)
    };
    paths.map(line).collect()
}

/// The bytes of a name that stands there as text and, if it is none, as base64 too.
fn bytes(entry: &Value, name: &str) -> Vec<u8> {
    match entry[format!("{name}_bytes")].as_str() {
        Some(encoded) => base64::engine::general_purpose::STANDARD.decode(encoded).unwrap(),
        None => entry[name].as_str().unwrap_or_default().as_bytes().to_vec(),
    }
}

/// What `find --jsonl --hash` says.
fn our_listing(image: &str) -> Listing {
    let listed = imgmount(["find", image, "--jsonl", "--hash"]);
    assert!(listed.status.success(), "{}", stderr(&listed));
    let line = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        let time: jiff::Timestamp = entry["mtime"].as_str().unwrap().parse().unwrap();
        // Before 1970 both parts count backwards.
        let (secs, nanos) = match (time.as_second(), time.subsec_nanosecond()) {
            (secs, nanos) if nanos < 0 => (secs - 1, nanos + 1_000_000_000),
            both => both,
        };
        let text = format!(
            "{} {} {}:{} size {} links {} ino {} m {secs}.{nanos:09} {} {}",
            entry["type"].as_str().unwrap(),
            entry["mode"].as_str().unwrap(),
            entry["uid"],
            entry["gid"],
            entry["size"],
            entry["nlink"],
            entry["ino"],
            bytes(&entry, "target").escape_ascii(),
            entry["sha256"].as_str().unwrap_or_default()
        );
        (bytes(&entry, "path"), text)
    };
    stdout(&listed).lines().map(line).collect()
}

fn differences(theirs: &Listing, ours: &Listing) -> Vec<String> {
    let all: std::collections::BTreeSet<&Vec<u8>> = theirs.keys().chain(ours.keys()).collect();
    let differ = all.into_iter().filter(|path| theirs.get(*path) != ours.get(*path));
    differ
        .map(|path| {
            format!("{}: expected {:?}, found {:?}", path.escape_ascii(), theirs.get(path), ours.get(path))
        })
        .collect()
}

/// The whole tree of a variant, through the mount and through the verbs, against the kernel's. What lies at or below
/// `apart` is left to the caller.
fn is_the_kernels(variant: &Variant, apart: Option<&str>) {
    let dir = common::tempdir();
    let kernel = Kernel::mount(variant, &dir.path().join("kernel"));
    let mut expected = Expected::of(&kernel.top);
    let is_apart = |path: &Path| apart.is_some_and(|apart| path.starts_with(apart));
    let theirs = kernel_listing(&expected, &kernel.top, dir.path());
    assert!(theirs.len() > 5_000, "only {} files", theirs.len());
    expected.files.retain(|(path, _)| !is_apart(path));
    expected.dirs.retain(|(path, _)| !is_apart(path));
    let compare = || {
        let ours =
            Ours::mount(&variant.disk, &dir.path().join("ours"), &["--symlinks", "raw", "--xattrs", "all"]);
        let differ = expected.compare(&kernel.top, &ours.0);
        assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ[..differ.len().min(10)].join("\n"));
        let errors = fs::read_to_string(ours.0.join(".imgmount/errors")).unwrap();
        assert_eq!(errors, "");
    };
    let list = || {
        let mut listings = [theirs, our_listing(&variant.path("/"))];
        for listing in &mut listings {
            listing.retain(|path, _| !is_apart(Path::new(std::ffi::OsStr::from_bytes(&path[1..]))));
        }
        let differ = differences(&listings[0], &listings[1]);
        assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ[..differ.len().min(10)].join("\n"));
    };
    std::thread::scope(|scope| {
        scope.spawn(compare);
        list();
    });
}

fn info(image: &Path) -> Value {
    let output = imgmount(["info".into(), "--json".into(), OsString::from(image)]);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Where the only guest's volumes are: `/ p1 @`, one line each.
fn mounts(info: &Value) -> String {
    assert_eq!(info["guests"].as_array().unwrap().len(), 1, "{info:#}");
    let part = |mount: &Value| {
        let part = mount["subvol"].as_str().or(mount["bind"].as_str());
        part.map(|part| format!(" {part}")).unwrap_or_default()
    };
    let line = |mount: &Value| {
        format!("{} {}{}", mount["path"].as_str().unwrap(), mount["volume"].as_str().unwrap(), part(mount))
    };
    info["guests"][0]["mounts"].as_array().unwrap().iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn logical_volumes_beside_a_boot_partition() {
    requires!("root", "fuse", "loop", "sgdisk", "mkfs.ext4", "pvcreate");
    let _turn = TURN.lock();
    let variant = Variant::make("lvm");
    let info = info(&variant.disk);
    assert_eq!(mounts(&info), "/ guest-vg/root\n/var guest-vg/var\n/boot p1");
    assert_eq!(info["warnings"], Value::Array(Vec::new()));
    is_the_kernels(&variant, None);
}

#[test]
fn xfs_with_boot_and_an_esp() {
    requires!("root", "fuse", "loop", "sgdisk", "mkfs.ext4", "mkfs.xfs", "mkfs.vfat", "mcopy");
    let _turn = TURN.lock();
    let variant = Variant::make("xfs");
    let info = info(&variant.disk);
    assert_eq!(mounts(&info), "/ p3\n/boot p2\n/boot/efi p1");
    let warnings = "[\"/etc/fstab line 6: /data is UUID=dddddddd-dddd-4ddd-8ddd-dddddddddddd: no such device in this image \
                    (not needed at boot)\"]";
    assert_eq!(info["warnings"].to_string(), warnings);
    is_the_kernels(&variant, Some("boot/efi"));
    // This host's kernel may know no vfat; what was written into it is known.
    let list = "find . -type f -printf '%p ' -exec sh -c 'sha256sum < \"$1\"' - '{}' ';' | sort";
    let written = sh(&format!("cd '{}' && {list}", variant.disk.with_extension("esp").display()));
    let dir = common::tempdir();
    let ours = Ours::mount(&variant.disk, &dir.path().join("ours"), &[]);
    assert_eq!(sh(&format!("cd '{}/boot/efi' && {list}", ours.0.display())), written);
}

#[test]
fn btrfs_with_subvolumes_a_snapshot_and_a_bind_mount() {
    requires!("root", "fuse", "loop", "sgdisk", "mkfs.btrfs");
    let _turn = TURN.lock();
    let variant = Variant::make("btrfs");
    let info = info(&variant.disk);
    assert_eq!(
        mounts(&info),
        "/ p2 @\n/home p2 @home\n/.snapshots p2 @snapshots\n/srv/shared p2 /home/debian/shared"
    );
    assert_eq!(info["guests"][0]["subvol"], "@");
    assert_eq!(info["warnings"], Value::Array(Vec::new()));
    is_the_kernels(&variant, None);
    // All subvolumes are reached from the top of the volume.
    for words in [
        vec!["cat".to_owned(), variant.path("p2:/@home/debian/shared/file")],
        vec![
            "cat".to_owned(),
            "--volume".to_owned(),
            "p2".to_owned(),
            variant.path("/@home/debian/shared/file"),
        ],
        vec!["cat".to_owned(), variant.path("/srv/shared/file")],
    ] {
        assert_eq!(stdout(&imgmount(&words)), "in the home\n", "{words:?}");
    }
    let dir = common::tempdir();
    let ours = Ours::mount(&variant.disk, &dir.path().join("ours"), &[]);
    let top = sh(&format!("ls '{}/.imgmount/filesystems/2-btrfs-root'", ours.0.display()));
    assert_eq!(top, "@\n@home\n@snapshots\n");
}

/// A disk with two systems, each of its own distribution, on one ext4 without checksums of metadata; p1 has a file `/bad`
/// whose map is damaged.
fn two_systems(dir: &Path) -> PathBuf {
    let at = dir.display();
    sh(&format!(
        r#"cd '{at}'
        truncate -s 64M disk; printf 'label: dos\n2048,65536,83\n,,83\n' | sfdisk -q disk
        make() {{
            mkdir -p $1/etc $1/bin; printf 'ID=%s\nPRETTY_NAME="%s Linux"\n' $1 $1 > $1/etc/os-release; echo > $1/bin/sh
            echo $1 > $1/etc/hostname; head -c 9000 /dev/zero > $1/bad; ln -s /etc/hostname $1/absolute
            ln -s ../../../etc/hostname $1/climbing; ln -s loop $1/loop
            mkfs.ext4 -q -O ^metadata_csum -E lazy_itable_init=0 -d $1 $1.img $2
        }}
        make first 28M; make second 24M
        debugfs -w -R 'sif /bad block[0] 0' first.img 2> said
        dd if=first.img of=disk bs=1M seek=1 conv=notrunc,sparse status=none
        dd if=second.img of=disk bs=512 seek=67584 conv=notrunc,sparse status=none"#
    ));
    dir.join("disk")
}

#[test]
fn of_two_systems_one_is_chosen_by_number_volume_or_name() {
    requires!("sfdisk", "mkfs.ext4", "debugfs");
    let dir = common::tempdir();
    let disk = two_systems(dir.path());
    let file = format!("{}:/etc/hostname", disk.display());
    let cat = |os: &str| stdout(&imgmount(["cat", "--os", os, &file]));
    assert_eq!(stdout(&imgmount(["cat", &file])), "first\n");
    assert_eq!((cat("1"), cat("2"), cat("p2")), ("first\n".into(), "second\n".into(), "second\n".into()));
    assert_eq!((cat("second"), cat("Second Linux")), ("second\n".into(), "second\n".into()));
    let wrong = imgmount(["cat", "--os", "third", &file]);
    assert_eq!(wrong.status.code(), Some(1));
    let said = stderr(&wrong);
    assert!(said.contains("no operating system 'third'"), "{said}");
    assert!(said.contains("there are: 1: first Linux on p1; 2: second Linux on p2"), "{said}");
    let none = imgmount(["cat", "--volume", "p3", &file]);
    assert_eq!(none.status.code(), Some(1));
    assert!(stderr(&none).contains("volumes with files: p1, p2"), "{}", stderr(&none));
    assert_eq!(stdout(&imgmount(["cat", "--volume", "p2", &file])), "second\n");
    assert_eq!(info(&disk)["guests"].as_array().unwrap().len(), 2);
}

#[test]
fn a_links_target_is_looked_for_in_the_guest_only() {
    requires!("sfdisk", "mkfs.ext4", "debugfs");
    let dir = common::tempdir();
    let disk = two_systems(dir.path());
    let cat = |path: &str| imgmount(["cat", "--os", "2", &format!("{}:{path}", disk.display())]);
    assert_eq!(stdout(&cat("/absolute")), "second\n");
    assert_eq!(stdout(&cat("/climbing")), "second\n");
    assert_eq!(stdout(&cat("/etc/../../../etc/./hostname")), "second\n");
    let circle = cat("/loop");
    assert_eq!(circle.status.code(), Some(3));
    assert!(stderr(&circle).contains("more than 40 symbolic links"), "{}", stderr(&circle));
    // As path_resolution(7) has it: behind a file there is nothing, not even the way back.
    assert_eq!(cat("/etc/hostname/../hostname").status.code(), Some(1));
    assert_eq!(cat("/etc/hostname/").status.code(), Some(1));
}

#[test]
fn damage_is_told_once_and_costs_what_it_hits() {
    requires!("root", "fuse", "sfdisk", "mkfs.ext4", "debugfs");
    let dir = common::tempdir();
    let disk = two_systems(dir.path());
    let found = imgmount(["find", &format!("{}:/", disk.display()), "--hash"]);
    assert_eq!(found.status.code(), Some(6), "{}", stderr(&found));
    assert!(stdout(&found).contains("/etc/hostname"), "{}", stdout(&found));
    assert_eq!(stderr(&found).matches("/bad").count(), 1, "{}", stderr(&found));
    let ours = Ours::mount(&disk, &dir.path().join("ours"), &[]);
    for _ in 0..3 {
        let error = fs::read(ours.0.join("bad")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    }
    assert_eq!(fs::read_to_string(ours.0.join("etc/hostname")).unwrap(), "first\n");
    let errors = fs::read_to_string(ours.0.join(".imgmount/errors")).unwrap();
    assert!(errors.starts_with("/bad (p1): "), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}
