//! A Windows on a disk as Windows lays one out: which it is, its drives by their letters, its links, what starts it.
//! The disks are made by `tests/make/windows.py`; what is expected is what it wrote down, and what ntfs-3g shows.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::mount::Mount;
use common::{imgmount, lasting, root, sh, stderr, stdout, tempdir};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What making such a disk takes.
macro_rules! requires_windows {
    ($($more:expr),*) => {
        requires!("root", "fuse", "python3", "sfdisk", "mkntfs", "ntfs-3g", "mkfs.vfat", "mcopy" $(, $more)*)
    };
}

/// Makes a disk with the script; the words behind the name are its options.
fn make(dir: &Path, words: &str) -> PathBuf {
    let (kind, more) = words.split_once(' ').unwrap_or((words, ""));
    let disk = dir.join(format!("{kind}.raw"));
    let script = root().join("tests/make/windows.py");
    sh(&format!("/usr/bin/python3 {} {kind} {} {more}", script.display(), disk.display()));
    disk
}

/// A disk that several tests look at, made once in each run.
fn disk(kind: &'static str) -> PathBuf {
    static MBR: OnceLock<PathBuf> = OnceLock::new();
    static GPT: OnceLock<PathBuf> = OnceLock::new();
    let made = if kind == "mbr" { &MBR } else { &GPT };
    made.get_or_init(|| make(&lasting("windows"), kind)).clone()
}

fn info(disk: &Path) -> Value {
    let output = imgmount(["info".as_ref(), "--json".as_ref(), disk.as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn warnings(info: &Value) -> Vec<&str> {
    info["warnings"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect()
}

/// What `cat IMAGE:PATH` prints.
fn cat(disk: &Path, path: &str) -> String {
    let output = imgmount(["cat".to_owned(), format!("{}:{path}", disk.display())]);
    assert_eq!(output.status.code(), Some(0), "{path}: {}", stderr(&output));
    stdout(&output)
}

/// A mount of ours, and how it is looked at.
struct Mounted(Mount);

impl Mounted {
    fn new(disk: &Path, options: &[&str]) -> Self {
        Self(Mount::of(disk, options))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.at(path)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

const LETTER: &str = "Dear reader\r\n";
const BOOK: &str = "Once upon a time\r\n";

#[test]
fn a_windows_is_known_with_product_drives_and_what_starts_it() {
    requires_windows!();
    let info = info(&disk("mbr"));
    let guest = &info["guests"][0];
    assert_eq!(info["guests"].as_array().unwrap().len(), 1);
    assert_eq!((&guest["type"], &guest["distro"]), (&json!("windows"), &json!("windows")));
    // The registry says "Windows 10 Pro" of build 22631, which is a Windows 11.
    assert_eq!(guest["product"], "Windows 11 Pro 23H2");
    assert_eq!(guest["version"], "10.0.22631.2816");
    // The program in SysWOW64 is one of 32 bits.
    assert_eq!(guest["arch"], "x86_64");
    assert_eq!((&guest["root"], &guest["firmware"]), (&json!("p2"), &json!(["bios"])));
    let mounts: Vec<_> =
        guest["mounts"].as_array().unwrap().iter().map(|mount| (&mount["path"], &mount["volume"])).collect();
    assert_eq!(mounts, [(&json!("/"), &json!("p2")), (&json!("/D:"), &json!("p3"))]);
    let windows = &guest["windows"];
    assert_eq!((&windows["build"], &windows["edition"]), (&json!("22631.2816"), &json!("Professional")));
    assert_eq!((&windows["installation_type"], &windows["release"]), (&json!("Client"), &json!("23H2")));
    // date -u -d @$((0x655f2a00))
    assert_eq!(windows["install_date"], "2023-11-23T10:31:28.000000000Z");
    assert_eq!((&windows["computer"], &windows["control_set"]), (&json!("DESKTOP-2KGM189"), &json!(1)));
    assert_eq!(windows["time_zone"], "W. Europe Standard Time");
    assert_eq!(windows["earlier"], "/Windows.old");
    let drives: Vec<_> = windows["drives"]
        .as_array()
        .unwrap()
        .iter()
        .map(|drive| (&drive["letter"], &drive["volume"]))
        .collect();
    assert_eq!(drives, [(&json!("C:"), &json!("p2")), (&json!("D:"), &json!("p3"))]);
    let entry = &windows["boot_entries"][0];
    assert_eq!((&entry["name"], &entry["default"]), (&json!("Windows 11"), &json!(true)));
    assert_eq!((&entry["volume"], &entry["path"]), (&json!("p1"), &json!("/Boot/BCD")));
    // F: was a disk of its own, G: a memory stick, which is nobody's loss.
    let expected =
        "drives on disks that are not in this image: F: (byte 1048576 of the disk with signature 002b1be5)";
    assert_eq!(warnings(&info), [expected]);
}

#[test]
fn a_windows_of_a_gpt_disk_starts_by_uefi() {
    requires_windows!();
    let disk = disk("gpt");
    let info = info(&disk);
    let guest = &info["guests"][0];
    assert_eq!((&guest["product"], &guest["root"]), (&json!("Windows 11 Pro 23H2"), &json!("p3")));
    assert_eq!(guest["firmware"], json!(["uefi"]));
    let entry = &guest["windows"]["boot_entries"][0];
    assert_eq!((&entry["firmware"], &entry["path"]), (&json!("uefi"), &json!("/EFI/Microsoft/Boot/BCD")));
    assert_eq!(cat(&disk, "D:/shelf/book.txt"), BOOK);
}

#[test]
fn paths_begin_with_a_drive_in_any_case_and_either_slash() {
    requires_windows!();
    let disk = disk("mbr");
    for path in [
        "/Users/me/Documents/letter.txt",
        "C:/Users/me/Documents/letter.txt",
        "c:/users/ME/documents/LETTER.TXT",
        "/C:/Users/me/Documents/letter.txt",
        "C:\\Users\\me\\Documents\\letter.txt",
        "p2:/Users/me/Documents/letter.txt",
        // A junction, and symbolic links of both kinds.
        "/Documents and Settings/me/Documents/letter.txt",
        "/Users/me/letter",
        "D:/back.txt",
    ] {
        assert_eq!(cat(&disk, path), LETTER, "{path}");
    }
    for path in [
        "D:/shelf/book.txt",
        "d:\\SHELF\\book.txt",
        "/Users/me/data/shelf/book.txt",
        "/Users/me/shelf/book.txt",
    ] {
        assert_eq!(cat(&disk, path), BOOK, "{path}");
    }
    for path in ["/Users/me/up", "/Users/me/absolute", "D:/../Windows/win.ini"] {
        assert_eq!(cat(&disk, path), "[fonts]\r\n", "{path}");
    }
    let missing = imgmount(["cat".to_owned(), format!("{}:F:/x", disk.display())]);
    assert_eq!(missing.status.code(), Some(1));
    let said = stderr(&missing);
    assert!(said.contains("no drive F:") && said.contains("drives: C: (p2), D: (p3)"), "{said}");
}

#[test]
fn the_mount_shows_the_drives_and_its_links_stay_inside() {
    requires_windows!();
    let mount = Mounted::new(&disk("mbr"), &[]);
    let top = mount.names("");
    for name in ["Users", "Windows", "Documents and Settings"] {
        assert!(top.iter().any(|own| own == name), "{top:?}");
    }
    assert!(!top.iter().any(|name| name.contains(':') || name.starts_with('.')), "{top:?}");
    for path in [
        "C:/Users/me/Documents/letter.txt",
        "Documents and Settings/me/Documents/letter.txt",
        "Users/me/letter",
        "D:/back.txt",
        ".imgmount/drives/C/Users/me/letter",
        ".imgmount/drives/D/back.txt",
    ] {
        assert_eq!(mount.read(path), LETTER, "{path}");
        let real = mount.at(path).canonicalize().unwrap();
        assert!(real.starts_with(mount.0.path()), "{path} is {}", real.display());
    }
    for path in
        ["D:/shelf/book.txt", "d:/shelf/book.txt", "Users/me/data/shelf/book.txt", "Users/me/shelf/book.txt"]
    {
        assert_eq!(mount.read(path), BOOK, "{path}");
    }
    for path in ["Users/me/up", "Users/me/absolute"] {
        assert_eq!(mount.read(path), "[fonts]\r\n", "{path}");
    }
    assert_eq!(mount.names(".imgmount/drives"), ["C", "D"]);
}

#[test]
fn a_link_to_a_server_leads_nowhere() {
    requires_windows!();
    let disk = disk("mbr");
    assert_eq!(cat(&disk, "/server/share/letter.txt"), "not this one\r\n");
    for path in ["/Users/me/server", "p2:/Users/me/server"] {
        let missing = imgmount(["cat".to_owned(), format!("{}:{path}", disk.display())]);
        assert_eq!(missing.status.code(), Some(1), "{path}: {}{}", stdout(&missing), stderr(&missing));
    }
    let mount = Mounted::new(&disk, &[]);
    let target = rustix::fs::readlink(mount.at("Users/me/server"), Vec::new()).unwrap();
    assert_eq!(target.to_bytes(), br"\\server\share\letter.txt");
    assert!(std::fs::metadata(mount.at("Users/me/server")).is_err());
}

#[test]
fn of_two_disks_that_are_alike_each_system_has_its_own_drives() {
    requires_windows!("qemu-img");
    let dir = tempdir();
    let ova = twins(&disk("gpt"), dir.path());
    let info = info(&ova);
    let guests = info["guests"].as_array().unwrap();
    let drives = |guest: &Value| -> Vec<String> {
        let drives = guest["windows"]["drives"].as_array().unwrap();
        drives
            .iter()
            .map(|drive| format!("{} {}", drive["letter"], drive["volume"]).replace('"', ""))
            .collect()
    };
    assert_eq!(drives(&guests[0]), ["C: p3", "D: p4"]);
    assert_eq!(drives(&guests[1]), ["C: disk2/p3", "D: disk2/p4"]);
    for (guest, store) in guests.iter().zip(["p1", "disk2/p1"]) {
        let entries = guest["windows"]["boot_entries"].as_array().unwrap();
        let stores: Vec<&Value> = entries.iter().map(|entry| &entry["volume"]).collect();
        assert_eq!(stores, [&json!(store)]);
    }
}

/// An appliance whose two disks are copies of one.
fn twins(disk: &Path, dir: &Path) -> PathBuf {
    let ovf = r#"<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References><File ovf:id="f1" ovf:href="d1.vmdk"/><File ovf:id="f2" ovf:href="d2.vmdk"/></References>
<DiskSection><Info/>
<Disk ovf:diskId="v1" ovf:fileRef="f1" ovf:capacity="SIZE" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
<Disk ovf:diskId="v2" ovf:fileRef="f2" ovf:capacity="SIZE" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
</DiskSection></Envelope>"#;
    let size = std::fs::metadata(disk).unwrap().len().to_string();
    std::fs::write(dir.join("twins.ovf"), ovf.replace("SIZE", &size)).unwrap();
    let (disk, at) = (disk.display(), dir.display());
    sh(&format!(
        "cd {at}; qemu-img convert -O vmdk -o subformat=streamOptimized {disk} d1.vmdk; cp d1.vmdk d2.vmdk; \
         tar cf twins.ova twins.ovf d1.vmdk d2.vmdk"
    ));
    dir.join("twins.ova")
}

#[test]
fn the_view_of_drives_has_the_letters_at_the_top() {
    requires_windows!();
    let mount = Mounted::new(&disk("gpt"), &["--view", "drives"]);
    assert_eq!(mount.names(""), ["C", "D"]);
    assert_eq!(mount.read("C/Users/me/letter"), LETTER);
    assert_eq!(mount.read("C/Users/me/shelf/book.txt"), BOOK);
    assert_eq!(mount.read("D/back.txt"), LETTER);
    assert!(mount.read(".imgmount/info.json").contains("Windows 11 Pro"));
}

/// Every file of a volume with its sum, but for links; as ntfs-3g shows them too.
const LIST: &str = r#"cd "$1"; find . -type f ! -path './System Volume Information*' -print0 | sort -z | xargs -0 sha256sum"#;

#[test]
fn the_files_are_those_that_ntfs_3g_shows() {
    requires_windows!();
    let dir = tempdir();
    let (part, theirs) = (dir.path().join("p2"), dir.path().join("mnt"));
    let disk = disk("mbr");
    sh(&format!(
        "dd if={} of={} bs=1M skip=17 count=48 status=none; mkdir {}",
        disk.display(),
        part.display(),
        theirs.display()
    ));
    sh(&format!("ntfs-3g -o ro {} {}", part.display(), theirs.display()));
    let list = |top: &Path| sh(&format!("set -- {}; {LIST}", top.display()));
    let expected = list(&theirs);
    sh(&format!("umount {}", theirs.display()));
    let mount = Mounted::new(&disk, &[]);
    assert_eq!(list(mount.0.path()), expected);
    assert!(expected.contains("ntoskrnl.exe"), "{expected}");
}

#[test]
fn of_two_systems_on_a_clone_the_one_that_is_started_comes_first() {
    requires_windows!();
    let dir = tempdir();
    // What is written down knows the disk by the signature that it had before it was cloned.
    let disk = make(dir.path(), "mbr signature=0badcafe second=WINNT");
    let info = info(&disk);
    let guests = info["guests"].as_array().unwrap();
    let directories: Vec<&Value> = guests.iter().map(|guest| &guest["windows"]["directory"]).collect();
    assert_eq!(directories, [&json!("/Windows"), &json!("/WINNT")]);
    let drives = guests[0]["windows"]["drives"].as_array().unwrap();
    let drives: Vec<_> = drives.iter().map(|drive| (&drive["letter"], &drive["volume"])).collect();
    assert_eq!(drives, [(&json!("C:"), &json!("p2")), (&json!("D:"), &json!("p3"))]);
    let all = warnings(&info).join("\n");
    assert!(all.contains("p1:/Boot/BCD: its default entry, 'Windows 11', starts from byte 17825792 of the disk with signature 0badcafe"), "{all}");
    assert!(all.contains("whose signature is another now"), "{all}");
    let second = imgmount(["info".as_ref(), "--os".as_ref(), "2".as_ref(), disk.as_os_str()]);
    assert!(stdout(&second).contains("with /WINNT"), "{}{}", stdout(&second), stderr(&second));
    let named = imgmount([
        "ls".to_owned(),
        "--os".to_owned(),
        "p2/WINNT".to_owned(),
        format!("{}:/", disk.display()),
    ]);
    assert_eq!(named.status.code(), Some(0), "{}", stderr(&named));
}

#[test]
fn a_drive_that_a_key_opens_keeps_its_letter() {
    requires_windows!("cryptsetup", "qemu-img");
    let dir = tempdir();
    let disk = make(dir.path(), "mbr");
    // The volume that the registry knows as D: by its partition, now inside a container there: 20 MiB behind 2 MiB.
    sh(&format!(
        r#"cd {}; printf 'a key' > key; truncate -s 20M plain; mkntfs -F -Q -q plain 2> /dev/null; mkdir mnt
        serve_ntfs plain mnt; mkdir mnt/shelf; echo locked > mnt/shelf/book.txt; end_ntfs mnt
        truncate -s 22M luks; cryptsetup -q luksFormat --type luks1 --offset 4096 --pbkdf-force-iterations 1000 luks key
        qemu-img convert -n --object secret,id=s,file=key --target-image-opts plain driver=luks,key-secret=s,file.filename=luks
        dd if=luks of=mbr.raw bs=1M seek=65 conv=notrunc status=none"#,
        dir.path().display()
    ));
    let locked = info(&disk);
    let all = warnings(&locked).join("\n");
    assert!(all.contains("drive D: is p3, where crypto_LUKS is not read"), "{all}");
    let key = format!("p3:file:{}", dir.path().join("key").display());
    let book = format!("{}:D:/shelf/book.txt", disk.display());
    let output = imgmount(["cat", "--key", &key, &book]);
    assert_eq!(stdout(&output), "locked\n", "{}", stderr(&output));
}

#[test]
fn rules_for_linux_decide_nothing_about_a_windows() {
    requires_windows!();
    let disk = disk("mbr");
    let output =
        imgmount(["check".as_ref(), "-p".as_ref(), "tencent".as_ref(), "--json".as_ref(), disk.as_os_str()]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let result = &report["results"][0];
    let outcome = |rule: &str| {
        let finding = result["findings"].as_array().unwrap().iter().find(|finding| finding["rule"] == rule);
        finding.unwrap_or_else(|| panic!("no finding of {rule}"))["result"].clone()
    };
    let of_linux =
        ["fstab-devices", "root-argument", "device-names", "virtio-initramfs", "cloud-init", "boot-files"];
    for rule in of_linux.into_iter().chain(["distribution"]) {
        assert_eq!(outcome(rule), "not-applicable", "{rule}");
    }
    assert_eq!(outcome("architecture"), "pass");
    assert_ne!(outcome("root-partition"), "fail");
}

#[test]
fn hives_and_a_boot_store_of_real_machines_are_understood() {
    requires_windows!("corpus", "xz", "hivexget");
    let dir = tempdir();
    let at = dir.path().display();
    let samples = common::corpus().unwrap().join("guest/regipy");
    sh(&format!(
        "xz -dc {0}/SYSTEM_WIN_10_1709.xz > {at}/SYSTEM; xz -dc {0}/BCD.xz > {at}/BCD",
        samples.display()
    ));
    // Its C: begins at byte 0x1f500000 of the disk with signature df4546ae.
    let disk = make(dir.path(), &format!("mbr system={at}/SYSTEM bcd={at}/BCD start={}", 0x1f50_0000));
    sh(&format!(
        "printf '\\xae\\x46\\x45\\xdf' | dd of={} bs=1 seek=440 conv=notrunc status=none",
        disk.display()
    ));
    let info = info(&disk);
    let windows = &info["guests"][0]["windows"];
    let key = |key: &str, value: &str| sh(&format!("hivexget {at}/SYSTEM '{key}' {value}")).trim().to_owned();
    assert_eq!(
        windows["computer"],
        key("ControlSet001\\Control\\ComputerName\\ComputerName", "ComputerName")
    );
    assert_eq!(windows["time_zone"], key("ControlSet001\\Control\\TimeZoneInformation", "TimeZoneKeyName"));
    // E: is the partition in front of it, as it is here; F: is another disk, D: a CD drive.
    let drives: Vec<_> = windows["drives"]
        .as_array()
        .unwrap()
        .iter()
        .map(|drive| (&drive["letter"], &drive["volume"]))
        .collect();
    assert_eq!(drives, [(&json!("C:"), &json!("p2")), (&json!("E:"), &json!("p1"))]);
    let all = warnings(&info).join("\n");
    assert!(all.contains("F: (byte 1048576 of the disk with signature 002b1be5)"), "{all}");
    // The store is of a GPT machine, another than the one of the hive.
    let expected = "p1:/Boot/BCD: its default entry, 'Windows 10', starts from the partition 8e0f2c38-e4ea-47ba-b7fc-9d8c74dccf0b";
    assert!(all.contains(expected), "{all}");
}
