//! Rules of the group `config`: how a Linux is set up.

use super::*;

/// The result of one check on an image, and its message.
fn said(image: &Path, check: &str, params: &str) -> (String, String) {
    let checked = rule(image, check, params, &[]);
    (checked.result(check).to_owned(), checked.message(check).to_owned())
}

/// The result of one check on the base guest with a change.
fn result_of(change: &str, check: &str, params: &str) -> String {
    rule_of(change, check, params).result(check).to_owned()
}

// --- mounts ---

#[test]
fn the_root_alone_is_mounted() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let made = guest("");
    let disk = made.path("disk.raw");
    for check in
        ["fstab-devices", "fstab-swap", "fstab-data-disks", "fstab-identifiers", "crypttab", "mount-units"]
    {
        assert_eq!(said(&disk, check, "").0, "pass", "{check}");
    }
}

/// Names as fstab(5) and blkid allow them: quotes, upper case, `\040`, the short UUIDs of FAT and NTFS. `mkfs` made the
/// file systems, so they are there.
#[test]
fn devices_are_found_however_their_names_are_spelled() {
    requires!("mkfs.ext4", "mkfs.vfat", "mkntfs", "mkswap", "sfdisk", "cpio", "zstd");
    let made = guest(
        r#"printf '%s\n' "UUID=\"$U\" / ext4 defaults 0 1" 'UUID=ABCD-1234 /boot/efi vfat umask=077 0 1' \
            'LABEL=my\040data /srv/my\040data ext4 defaults 0 2' 'UUID=0011223344556677 /win ntfs defaults 0 0' \
            'UUID=AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE none swap sw 0 0' > $R/etc/fstab
        mkdir -p $R/boot/efi "$R/srv/my data" $R/win"#,
    );
    sh(&format!(
        "cd '{}'; truncate -s 110M disk.raw
         printf 'label: gpt\nstart=2048, size=98304\nsize=20480\nsize=20480\nsize=20480\nsize=8192\n' | sfdisk -q disk.raw
         part() {{ dd if=$1 of=disk.raw bs=512 seek=$2 conv=notrunc,sparse status=none; }}
         truncate -s 10M fat ext ntfs; truncate -s 4M swap
         mkfs.vfat -i abcd1234 fat > /dev/null; mkfs.ext4 -q -L 'my data' ext; mkswap -q -U aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee swap
         mkntfs -q -F -s 512 -p 0 -H 0 -S 0 ntfs; printf '\\x77\\x66\\x55\\x44\\x33\\x22\\x11\\x00' | dd of=ntfs bs=1 seek=72 conv=notrunc status=none
         part fat 100352; part ext 120832; part ntfs 141312; part swap 161792",
        made.dir.path().display()
    ));
    let disk = made.path("disk.raw");
    for check in ["fstab-devices", "fstab-swap", "fstab-data-disks", "fstab-identifiers"] {
        let (result, message) = said(&disk, check, "");
        assert_eq!(result, "pass", "{check}: {message}");
    }
    assert!(said(&disk, "fstab-devices", "").1.ends_with("(4)."), "{}", said(&disk, "fstab-devices", "").1);
}

#[test]
fn another_disk_in_fstab_stops_the_boot_unless_it_may_be_absent() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let line =
        |options: &str| format!("echo '/dev/sdb1 /data ext4 {options} 0 2' >> $R/etc/fstab; mkdir $R/data");
    let absent = guest(&line("defaults"));
    let checked = rule(&absent.path("disk.raw"), "fstab-devices", "", &[]);
    assert_eq!(checked.result("fstab-devices"), "fail");
    assert_eq!(checked.finding("fstab-devices")["evidence"][0]["line"], 2);
    let fix = checked.finding("fstab-devices")["fix"].as_str().unwrap();
    assert!(fix.contains("sed -i '2s/^/#/' /etc/fstab"), "{fix}");
    let nofail = guest(&line("nofail"));
    let disk = nofail.path("disk.raw");
    assert_eq!(said(&disk, "fstab-devices", "").0, "pass");
    assert_eq!(said(&disk, "fstab-data-disks", "").0, "fail");
    assert_eq!(said(&disk, "fstab-identifiers", "").0, "fail");
    assert_eq!(said(&disk, "fstab-identifiers", "params = { prefixes = [\"/dev/sd\"] }").0, "pass");
    assert_eq!(result_of(&line("noauto"), "fstab-data-disks", ""), "pass");
}

#[test]
fn absent_swap_only_delays_the_boot() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let made = guest("echo 'UUID=01234567-89ab-cdef-0123-456789abcdef none swap sw 0 0' >> $R/etc/fstab");
    let disk = made.path("disk.raw");
    assert_eq!(said(&disk, "fstab-devices", "").0, "pass");
    let (result, message) = said(&disk, "fstab-swap", "");
    assert!(result == "fail" && message.contains("90 seconds"), "{message}");
    let file = guest("echo '/swapfile none swap sw 0 0' >> $R/etc/fstab; echo x > $R/swapfile");
    assert_eq!(said(&file.path("disk.raw"), "fstab-swap", "").0, "pass");
    assert_eq!(result_of("echo '/swapfile none swap sw 0 0' >> $R/etc/fstab", "fstab-swap", ""), "fail");
}

#[test]
fn a_kernels_name_of_the_root_is_answered_with_its_uuid() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let checked = rule_of("echo '/dev/sda1 / ext4 defaults 0 1' > $R/etc/fstab", "fstab-identifiers", "");
    let finding = checked.finding("fstab-identifiers");
    assert_eq!(finding["result"], "fail");
    assert!(finding["fix"].as_str().unwrap().contains(&format!("/dev/sda1 -> UUID={ROOT}")), "{finding:#}");
}

#[test]
fn a_mount_unit_counts_as_a_line_of_fstab() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let unit = |what: &str, dir: &str| {
        format!(
            "mkdir -p $R/data $R/etc/systemd/system/{dir}
             printf \"[Mount]\\nWhat={what}\\nWhere=/data\\nType=ext4\\n\" > $R/etc/systemd/system/data.mount
             ln -s ../data.mount $R/etc/systemd/system/{dir}/data.mount"
        )
    };
    let checked = rule_of(&unit("/dev/vdb1", "local-fs.target.requires"), "mount-units", "");
    assert_eq!(checked.result("mount-units"), "fail");
    assert!(checked.message("mount-units").contains("emergency mode"));
    assert_eq!(checked.finding("mount-units")["evidence"][0]["path"], "/etc/systemd/system/data.mount");
    let wanted = rule_of(&unit("/dev/vdb1", "multi-user.target.wants"), "mount-units", "");
    assert!(wanted.message("mount-units").contains("90 seconds"));
    assert_eq!(result_of(&unit("UUID=$U", "multi-user.target.wants"), "mount-units", ""), "pass");
}

#[test]
fn what_crypttab_opens_must_be_there_and_need_nobody() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let line = |line: &str| result_of(&format!("echo '{line}' > $R/etc/crypttab"), "crypttab", "");
    assert_eq!(line("data /dev/vdb1 none luks"), "fail");
    assert_eq!(line("data /dev/vdb1 none luks,nofail"), "pass");
    assert_eq!(line("data /dev/vda1 none luks"), "fail");
    assert_eq!(line("swap /dev/vda1 /dev/urandom swap"), "pass");
    assert_eq!(line("data /dev/vda1 /etc/fstab luks"), "pass");
    assert_eq!(line("data /dev/vda1 - luks,tpm2-device=auto"), "undecided");
}

/// The `fstab` of a Fedora that mounts logical volumes, from augeas: none of them is in a disk of one partition.
#[test]
fn logical_volumes_that_are_not_there_are_named() {
    requires!("corpus", "mkfs.ext4", "sfdisk", "cpio", "zstd");
    let corpus = common::corpus().unwrap().join("guest/augeas/root/etc/fstab");
    let made = guest(&format!("cp '{}' $R/etc/fstab", corpus.display()));
    let (result, message) = said(&made.path("disk.raw"), "fstab-devices", "");
    assert_eq!(result, "fail");
    for name in ["/dev/vg00/lv00", "LABEL=/boot", "/dev/vg00/images"] {
        assert!(message.contains(name), "{message}");
    }
    assert!(!message.contains("swap") && !message.contains("tmpfs"), "{message}");
}
