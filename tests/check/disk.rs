//! Rules of the group `disk`: the disk.

use super::*;

/// Several checks at once, each with its limits.
fn rules(image: &Path, wanted: &[(&str, &str)], options: &[&str]) -> Checked {
    let dir = tempdir();
    let file = dir.path().join("several.toml");
    let mut text = "id = \"one\"\ntitle = \"x\"\ntitle_zh = \"x\"\ndocument = \"x\"\nurl = \"x\"\n\
         document_date = \"x\"\nchecked_on = \"x\"\n"
        .to_owned();
    for (number, (check, params)) in wanted.iter().enumerate() {
        text.push_str(&format!(
            "[[rule]]\ncheck = \"{check}\"\nid = \"{check}.{number}\"\nlevel = \"blocker\"\nwhy = \"x\"\nwhy_zh = \"x\"\n\
             fix = \"x\"\nfix_zh = \"x\"\nclause = \"x\"\nparams = {{ {params} }}\n"
        ));
    }
    std::fs::write(&file, text).unwrap();
    let mut args = vec!["check", image.to_str().unwrap(), "--profile-file", file.to_str().unwrap(), "--json"];
    args.extend(options);
    let output = imgmount(args);
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", stdout(&output), stderr(&output)));
    Checked { output, json }
}

/// The results in their order.
fn results(checked: &Checked) -> Vec<&str> {
    let findings = checked.json["results"][0]["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["result"].as_str().unwrap()).collect()
}

/// Of the finding of that place.
fn said(checked: &Checked, number: usize) -> &str {
    checked.json["results"][0]["findings"][number]["message"].as_str().unwrap()
}

/// One check without limits.
fn verdict(image: &Path, check: &str, options: &[&str]) -> (String, String) {
    let checked = rules(image, &[(check, "")], options);
    (results(&checked)[0].to_owned(), said(&checked, 0).to_owned())
}

/// What the file is said to be, whose image cannot be opened.
fn diagnosed(image: &Path) -> String {
    let checked = rules(image, &[("root-partition", "")], &[]);
    let result = &checked.json["results"][0];
    assert_eq!(result["verdict"], "undecided");
    assert!(result["diagnosis"]["fix"].is_string() && result["diagnosis"]["message_zh"].is_string());
    result["diagnosis"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_small_disk_is_small_enough() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let checked = rule_of("", "virtual-size", "params = { max = \"1 GiB\" }");
    assert_eq!(checked.result("virtual-size"), "pass", "{:#}", checked.json);
}

#[test]
fn a_sound_disk_passes_every_rule_about_the_disk() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "sha256sum");
    let made = guest("");
    let disk = made.path("disk.raw");
    let sum = sh(&format!("sha256sum < '{}'", disk.display()));
    let sum = format!("sha256={}", sum.split_whitespace().next().unwrap());
    let wanted = [
        ("container-format", "formats = [\"raw\"]"),
        ("container-complete", ""),
        ("standalone", ""),
        ("container-encryption", ""),
        ("checksum", ""),
        ("virtual-size-min", "min = \"52 MiB\""),
        ("system-disk-size", "min = \"40 GiB\", max = \"500 GiB\""),
        ("file-size", "max = \"52 MiB\""),
        ("format-by-size", "above = \"52 MiB\", formats = [\"qcow2\"]"),
        ("partition-table", "kinds = [\"mbr\"]"),
        ("partition-layout", "single_root = true"),
        ("root-partition", ""),
        ("system-disk", ""),
        ("volume-encryption", ""),
        ("volumes-complete", ""),
        ("boot-and-root-together", ""),
        ("root-filesystem", "linux = [\"ext3\", \"ext4\"]"),
        ("filesystem-features", "forbidden = [\"ext4:project+quota\", \"xfs:crc\"]"),
        ("root-not-lvm", ""),
        ("disk-usage", "max_percent = 98, min_free = \"1 MiB\""),
        ("inode-usage", "max_percent = 98"),
        ("filesystem-errors", ""),
        ("filesystem-clean", ""),
    ];
    let checked = rules(&disk, &wanted, &["--set", &sum, "--set", "systemDiskSizeGB=40"]);
    assert_eq!(results(&checked), ["pass"; 23], "{:#}", checked.json);
}

#[test]
fn a_disk_outside_the_limits_fails_each_of_them() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let made = guest("");
    let wanted = [
        ("container-format", "formats = [\"qcow2\", \"vhd\"]"),
        ("checksum", ""),
        ("virtual-size-min", "min = \"53 MiB\""),
        ("system-disk-size", "min = \"40 GiB\", max = \"500 GiB\""),
        ("file-size", "max = \"51 MiB\""),
        ("format-by-size", "above = \"51 MiB\", formats = [\"qcow2\"]"),
        ("partition-table", "kinds = [\"gpt\"]"),
        ("root-filesystem", "linux = [\"ext3\", \"xfs\"]"),
        ("filesystem-features", "forbidden = [\"ext4:64bit\", \"ext4:extent+has_journal\"]"),
        ("disk-usage", "max_percent = 0"),
        ("disk-usage", "max_percent = 98, min_free = \"48 MiB\""),
        ("inode-usage", "max_percent = 0"),
    ];
    let sum = format!("sha256={}", "0".repeat(64));
    let checked = rules(&made.path("disk.raw"), &wanted, &["--set", &sum, "--set", "systemDiskSizeGB=39"]);
    assert_eq!(results(&checked), ["fail"; 12], "{:#}", checked.json);
    assert_eq!(said(&checked, 3), "A system disk of 39 GB is not allowed: 40 to 500 GB are.");
    let features = &checked.json["results"][0]["findings"][8]["evidence"];
    assert_eq!(features.as_array().unwrap().len(), 2, "{features}");
}

#[test]
fn the_use_of_a_file_system_is_that_of_df() {
    requires!("root", "loop", "mkfs.ext4", "df");
    let made = made(
        "mkdir m; truncate -s 48M part.img; mkfs.ext4 -q -U $U part.img; mount -o loop part.img m; trap 'umount m; released part.img' EXIT
         mkdir -p m/etc m/bin; echo ID=debian > m/etc/os-release; echo \"UUID=$U / ext4\" > m/etc/fstab
         head -c 21000000 /dev/urandom > m/data; sync -f m
         df --output=pcent m | tail -1 | tr -dc 0-9 > used; df --output=ipcent m | tail -1 | tr -dc 0-9 > inodes",
    );
    let number = |name: &str| std::fs::read_to_string(made.path(name)).unwrap().parse::<u64>().unwrap();
    for (check, df) in [("disk-usage", number("used")), ("inode-usage", number("inodes"))] {
        let at = |max: u64| rules(&made.path("part.img"), &[(check, &format!("max_percent = {max}"))], &[]);
        assert_eq!(results(&at(df)), ["pass"], "{check} {df}");
        assert_eq!(results(&at(df - 1)), ["fail"], "{check} {df}");
    }
}

#[test]
fn an_image_that_was_cut_off_is_not_complete() {
    requires!("sfdisk", "qemu-img");
    let made = made(
        "truncate -s 16M disk.raw; printf 'label: dos\nstart=2048, type=83\n' | sfdisk -q disk.raw
         head -c 8M /dev/urandom | dd of=disk.raw bs=1M seek=4 conv=notrunc status=none
         for f in qcow2 vmdk vhdx vpc vdi; do qemu-img convert -O $f disk.raw whole.$f; done
         qemu-img convert -c -O qcow2 disk.raw whole.packed
         qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw whole.stream
         cp disk.raw whole.raw; cp disk.raw whole.gpt; printf 'label: gpt\n' | sfdisk -q whole.gpt
         for f in whole.*; do head -c -1500000 $f > cut.${f#*.}; done",
    );
    for format in ["raw", "gpt", "qcow2", "packed", "vmdk", "stream", "vhdx", "vpc", "vdi"] {
        let whole = verdict(&made.path(&format!("whole.{format}")), "container-complete", &[]);
        assert_eq!(whole.0, "pass", "{format}: {}", whole.1);
        let cut = verdict(&made.path(&format!("cut.{format}")), "container-complete", &[]);
        assert_eq!(cut.0, "fail", "{format}: {}", cut.1);
    }
    // What lacks is counted.
    let cut = verdict(&made.path("cut.raw"), "container-complete", &[]).1;
    assert!(cut.contains("16777216 bytes, and only 15277216 are there (1500000 lack)"), "{cut}");
}

#[test]
fn an_image_stands_alone_or_names_what_it_stands_on() {
    requires!("qemu-img");
    let made = made(
        "truncate -s 8M base.raw; qemu-img create -q -f qcow2 -b base.raw -F raw over.qcow2
         qemu-img convert -O qcow2 base.raw own.qcow2; qemu-img snapshot -c before own.qcow2
         qemu-img create -q -f vmdk -o subformat=monolithicFlat flat.vmdk 8M",
    );
    let dir = made.dir.path().to_str().unwrap();
    let over = verdict(&made.path("over.qcow2"), "standalone", &["--allow-parent", dir]);
    assert!(over.0 == "fail" && over.1.contains("base.raw"), "{over:?}");
    let own = verdict(&made.path("own.qcow2"), "standalone", &[]);
    assert!(own.0 == "pass" && own.1.contains("before"), "{own:?}");
    let flat = verdict(&made.path("flat.vmdk"), "standalone", &[]);
    assert!(flat.0 == "fail" && flat.1.contains("flat-flat.vmdk"), "{flat:?}");
    // Without leave to open its parent it is no image at all, and the report says why.
    assert!(diagnosed(&made.path("over.qcow2")).contains("needs another file"));
}

#[test]
fn encryption_is_named_where_it_is() {
    requires!("qemu-img", "cryptsetup", "sfdisk");
    let made = made(
        "printf secret > key; qemu-img create -q --object secret,id=k,file=key -f qcow2 \
           -o encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10 locked.qcow2 8M
         truncate -s 20M luks; cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 luks key
         truncate -s 24M disk.raw; printf 'label: dos\nstart=2048, type=83\n' | sfdisk -q disk.raw
         dd if=luks of=disk.raw bs=1M seek=1 conv=notrunc status=none",
    );
    let key = format!("disk:file:{}", made.path("key").display());
    let locked = verdict(&made.path("locked.qcow2"), "container-encryption", &["--key", &key]);
    assert!(locked.0 == "fail" && locked.1.contains("LUKS"), "{locked:?}");
    assert!(diagnosed(&made.path("locked.qcow2")).contains("encrypted"));
    assert!(diagnosed(&made.path("luks")).contains("encrypted"));
    let disk = made.path("disk.raw");
    let wanted = [
        ("container-encryption", ""),
        ("volume-encryption", ""),
        ("root-partition", ""),
        ("system-disk", ""),
        ("volumes-complete", ""),
    ];
    let checked = rules(&disk, &wanted, &[]);
    assert_eq!(
        results(&checked),
        ["pass", "fail", "undecided", "undecided", "undecided"],
        "{:#}",
        checked.json
    );
    assert_eq!(said(&checked, 1), "Encrypted volumes are on the disk: p1 (LUKS).");
}

/// A system on a logical volume, which needs one of two disks; another volume needs both.
const GROUP: &str = r#"
mkdir -p $R/etc $R/bin; echo ID=debian > $R/etc/os-release; echo "/dev/vg/root / ext4" > $R/etc/fstab
truncate -s 40M one two; trap 'losetup -d $one $two' EXIT
one=$(losetup -f --show one); two=$(losetup -f --show two)
# Of other tests' disks, and their groups of the same name, nothing is to be seen.
printf 'devices { use_devicesfile = 0 obtain_device_list_from_udev = 0 filter = [ "a|^%s$|", "a|^%s$|", "r|.*|" ] }
activation { udev_sync = 0 udev_rules = 0 }\n' $one $two > lvm.conf
export LVM_SYSTEM_DIR=$PWD LVM_SUPPRESS_FD_WARNINGS=1
lv() { lvm lvcreate -q --driverloaded n -an -Zn -Wn "$@" > /dev/null 2>&1; }
lvm pvcreate -q $one $two > /dev/null; lvm vgcreate -q -s 1M vg $one $two > /dev/null
lv -L 20M -n root vg $one; lv -L 50M -n both vg
mkfs.ext4 -q -d $R root.img 20M; dd if=root.img of=one bs=1M seek=1 conv=notrunc status=none
"#;

#[test]
fn a_volume_group_without_one_of_its_disks() {
    requires!("root", "loop", "pvcreate", "mkfs.ext4");
    let made = made(&format!("R=root; mkdir $R\n{GROUP}"));
    let wanted = [
        ("volumes-complete", ""),
        ("root-not-lvm", ""),
        ("root-partition", ""),
        ("boot-and-root-together", ""),
    ];
    // The root is whole on the first disk; what needs both is not mounted.
    let one = rules(&made.path("one"), &wanted, &[]);
    assert_eq!(results(&one), ["pass", "fail", "pass", "pass"], "{:#}", one.json);
    assert!(said(&one, 0).contains("vg/both is not whole"), "{}", said(&one, 0));
    let two = rules(&made.path("two"), &wanted, &[]);
    assert_eq!(results(&two)[..3], ["fail", "undecided", "undecided"], "{:#}", two.json);
    assert!(said(&two, 0).contains("vg/root") && said(&two, 0).contains("is not here"), "{}", said(&two, 0));
}

#[test]
fn a_btrfs_without_one_of_its_devices_is_not_mounted() {
    requires!("root", "loop", "mkfs.btrfs");
    let made = made(
        "truncate -s 128M one two; trap 'losetup -d $one $two' EXIT
         one=$(losetup -f --show one); two=$(losetup -f --show two)
         mkfs.btrfs -q -f -m raid1 -d single $one $two > /dev/null; truncate -s 128M alone; mkfs.btrfs -q alone > /dev/null",
    );
    let one = verdict(&made.path("one"), "volumes-complete", &[]);
    assert!(one.0 == "fail" && one.1.contains("device 2"), "{one:?}");
    assert_eq!(verdict(&made.path("alone"), "volumes-complete", &[]).0, "pass");
}

#[test]
fn disks_of_windows_managers_are_known_by_their_partitions() {
    requires!("sfdisk");
    let made = made(
        "truncate -s 24M pool.raw; printf 'label: gpt\nstart=2048, type=E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D\n' | sfdisk -q pool.raw
         truncate -s 24M dynamic.raw; printf 'label: dos\nstart=2048, type=42\n' | sfdisk -q dynamic.raw",
    );
    let wanted = [("volumes-complete", ""), ("root-partition", ""), ("dynamic-disk", "")];
    let pool = rules(&made.path("pool.raw"), &wanted, &[]);
    assert_eq!(results(&pool), ["fail", "undecided", "pass"], "{:#}", pool.json);
    assert!(said(&pool, 1).contains("Storage Spaces"), "{}", said(&pool, 1));
    assert_eq!(verdict(&made.path("dynamic.raw"), "dynamic-disk", &[]).0, "fail");
}

#[test]
fn what_a_file_system_says_of_its_health_is_heard() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "debugfs");
    let made = guest("");
    let wanted = [("filesystem-errors", ""), ("filesystem-clean", ""), ("disk-usage", "max_percent = 98")];
    let state = |bits: u32| {
        let file = format!("state{bits}.img");
        sh(&format!(
            "cd '{}'; cp part.img {file}; debugfs -w -R 'set_super_value state {bits}' {file} 2> /dev/null",
            made.dir.path().display()
        ));
        let checked = rules(&made.path(&file), &wanted, &[]);
        results(&checked).into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    // EXT2_VALID_FS, none, EXT2_ERROR_FS beside it: linux/ext2_fs.h.
    assert_eq!(state(1), ["pass", "pass", "pass"]);
    assert_eq!(state(0), ["pass", "fail", "undecided"]);
    assert_eq!(state(3)[..1], ["fail"]);
}

#[test]
fn parts_of_the_system_elsewhere_are_named() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let made = guest(
        "echo 'UUID=99999999-0000-0000-0000-000000000000 /boot ext4' >> $R/etc/fstab
         echo 'UUID=99999999-0000-0000-0000-000000000001 /usr ext4 nofail' >> $R/etc/fstab",
    );
    let wanted = [
        ("partition-layout", ""),
        ("partition-layout", "single_root = true"),
        ("boot-and-root-together", ""),
    ];
    let checked = rules(&made.path("disk.raw"), &wanted, &[]);
    assert_eq!(results(&checked), ["fail", "fail", "fail"], "{:#}", checked.json);
    assert!(said(&checked, 0).contains("/usr is mounted") && said(&checked, 1).contains("/boot, /usr"));
    assert!(said(&checked, 2).starts_with("/boot "), "{}", said(&checked, 2));
}

#[test]
fn a_gpt_that_was_left_behind_is_no_table() {
    requires!("sfdisk");
    let made = made(
        "truncate -s 24M disk.raw; printf 'label: gpt\nstart=2048\n' | sfdisk -q disk.raw
         truncate -s 24M mbr; printf 'label: dos\nstart=2048, type=83\n' | sfdisk -q mbr
         dd if=mbr of=disk.raw bs=512 count=1 conv=notrunc status=none",
    );
    let checked = rules(&made.path("disk.raw"), &[("partition-table", "kinds = [\"mbr\"]")], &[]);
    assert_eq!(results(&checked), ["pass"]);
    let places: Vec<&Value> = checked.json["results"][0]["findings"][0]["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["byte"])
        .collect();
    assert_eq!(places, [&Value::from(0x1be), &Value::from(512)]);
}

#[test]
fn a_file_that_is_no_disk_is_named() {
    requires!("gzip", "cpio", "genisoimage", "qemu-img", "tar");
    let made = made(
        "printf '<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>' > page.qcow2
         printf '<!DOCTYPE html><html><title>Sign in</title></html>' > page.html; : > empty
         printf '\\xed\\xab\\xee\\xdb\\x03\\0' > x.rpm; head -c 200000 /dev/urandom >> x.rpm
         printf '!<arch>\ndebian-binary   ' > x.deb; head -c 200000 /dev/zero >> x.deb
         mkdir tree; echo x > tree/x; tar -C tree -cf x.tar .; echo hello | gzip > x.gz; (cd tree; ls | cpio -o -H newc --quiet) > x.cpio
         truncate -s 64M disk.raw; qemu-img convert -O qcow2 disk.raw x.qcow2; head -c 100000 x.qcow2 > half.qcow2
         printf 'Salted__' > salted; head -c 200000 /dev/urandom >> salted
         genisoimage -quiet -o x.iso tree 2> /dev/null",
    );
    for (file, named) in [
        ("page.qcow2", "an error message of an object store"),
        ("page.html", "an HTML page"),
        ("empty", "empty"),
        ("x.rpm", "an rpm package"),
        ("x.deb", "a Debian package"),
        ("x.tar", "a tar archive, and no disk in it"),
        ("x.gz", "a gzip file, and no disk in it"),
        ("x.cpio", "a cpio archive (an initramfs?)"),
        ("half.qcow2", "cut off"),
    ] {
        let said = diagnosed(&made.path(file));
        assert!(said.contains(named), "{file}: {said}");
    }
    // These are disks as far as bytes go, and hold no system.
    for (file, looks) in [("salted", "a file encrypted by openssl enc"), ("x.iso", "an installation medium")]
    {
        let (result, said) = verdict(&made.path(file), "root-partition", &[]);
        assert!(result == "fail" && said.contains(looks), "{file}: {said}");
    }
}

#[test]
fn the_chain_that_was_followed_is_shown() {
    requires!("mkfs.ext4", "sfdisk", "mkswap");
    let made = made(
        "truncate -s 24M disk.raw; printf 'label: dos\nstart=2048, size=16384, type=83\nsize=8192, type=82\n' | sfdisk -q disk.raw
         mkdir r; echo x > r/photo.jpg; mkfs.ext4 -q -d r part 8M; dd if=part of=disk.raw bs=1M seek=1 conv=notrunc status=none
         truncate -s 4M swap; mkswap -q swap 2> /dev/null; dd if=swap of=disk.raw bs=512 seek=18432 conv=notrunc status=none",
    );
    let checked = rules(&made.path("disk.raw"), &[("root-partition", "")], &[]);
    assert_eq!(said(&checked, 0), "No root partition was found. This looks like a data disk.");
    let seen: Vec<(&str, &str)> = checked.json["results"][0]["findings"][0]["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["volume"].as_str().unwrap(), one["what"].as_str().unwrap()))
        .collect();
    let [disk, data, swap] = seen.as_slice() else { panic!("{seen:?}") };
    assert!(disk.0 == "disk" && disk.1.contains("mbr partition table, 2 partitions"), "{seen:?}");
    assert!(data.0 == "p1" && data.1.contains("ext4, data") && data.1.contains("photo.jpg"), "{seen:?}");
    assert!(swap.0 == "p2" && swap.1.contains("swap space"), "{seen:?}");
}

#[test]
fn of_several_disks_the_one_with_the_system_is_meant() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "qemu-img", "tar");
    let made = guest("");
    sh(&format!(
        "cd '{}'; truncate -s 3G data.raw; printf 'label: dos\nstart=2048, type=83\n' | sfdisk -q data.raw
         for f in data disk; do qemu-img convert -O vmdk -o subformat=streamOptimized $f.raw $f.vmdk; done
         cat > m.ovf <<'END'\n{OVF}\nEND\ntar cf m.ova m.ovf data.vmdk disk.vmdk",
        made.dir.path().display()
    ));
    let wanted =
        [("root-partition", ""), ("virtual-size", "max = \"1 GiB\""), ("boot-and-root-together", "")];
    let checked = rules(&made.path("m.ova"), &wanted, &[]);
    assert_eq!(results(&checked), ["pass", "pass", "pass"], "{:#}", checked.json);
    assert!(
        said(&checked, 0).contains("of 2 disks, disk 2 (disk.vmdk) is the system disk"),
        "{}",
        said(&checked, 0)
    );
}

/// A machine whose data disk comes first.
const OVF: &str = r#"<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References><File ovf:id="f1" ovf:href="data.vmdk"/><File ovf:id="f2" ovf:href="disk.vmdk"/></References>
<DiskSection><Info>disks</Info>
<Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:capacity="3221225472" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
<Disk ovf:diskId="d2" ovf:fileRef="f2" ovf:capacity="54525952" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
</DiskSection>
<VirtualSystem ovf:id="m"><VirtualHardwareSection>
<Item><rasd:HostResource>ovf:/disk/d1</rasd:HostResource><rasd:InstanceID>1</rasd:InstanceID><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ResourceType>17</rasd:ResourceType></Item>
<Item><rasd:HostResource>ovf:/disk/d2</rasd:HostResource><rasd:InstanceID>2</rasd:InstanceID><rasd:AddressOnParent>1</rasd:AddressOnParent><rasd:ResourceType>17</rasd:ResourceType></Item>
</VirtualHardwareSection></VirtualSystem></Envelope>"#;

#[test]
fn why_tells_which_rules_of_a_code_fired_and_what_was_uploaded_instead() {
    let dir = tempdir();
    let page = dir.path().join("disk.qcow2");
    let words =
        "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    std::fs::write(&page, words).unwrap();
    let output = imgmount([
        "check",
        page.to_str().unwrap(),
        "-p",
        "tencent",
        "--lang",
        "en",
        "--why",
        "RootPartitionNotFound",
    ]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stdout(&output).contains("an error message of an object store"), "{}", stdout(&output));
    let blank = dir.path().join("blank.raw");
    std::fs::File::create(&blank).unwrap().set_len(8 << 20).unwrap();
    let why = |code: &str| {
        imgmount(["check", blank.to_str().unwrap(), "-p", "tencent", "--lang", "en", "--why", code])
    };
    let output = why("RootPartitionNotFound");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stdout(&output).contains("root-partition"), "{}", stdout(&output));
    let output = why("NoSuchCode");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("VirtioNotInstall"), "the codes that there are: {}", stderr(&output));
}
