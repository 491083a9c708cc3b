//! Rules of the group `boot`: how a Linux starts.

use super::*;

#[test]
fn the_default_kernel_is_there() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let checked = rule_of("", "boot-files", "");
    assert_eq!(checked.result("boot-files"), "pass", "{:#}", checked.json);
}

// --- the initramfs ---

/// What an archive holds, made by a script that leaves it as `sample`.
fn listed(script: &str) -> imgmount::guest::initramfs::Listing {
    let made = made(&format!("R=root; mkdir $R\n{BASE}\n{script}"));
    walk(std::fs::read(made.path("sample")).unwrap()).unwrap()
}

#[test]
fn rules_of_network_names_are_read_out_of_an_initramfs() {
    requires!("cpio", "zstd", "gzip");
    let listing = listed(
        "mkdir -p t/etc/udev/rules.d; echo 'ATTR{address}==\"52:54:00:00:00:01\", NAME=\"eth0\"' > t/etc/udev/rules.d/70-persistent-net.rules
         echo x > t/etc/udev/rules.d/75-persistent-net.txt; (cd t; find . | cpio --quiet -o -H newc | zstd -q) > b
         initramfs a cat virtio; cat a b > sample",
    );
    let found: Vec<(&[u8], &[u8])> =
        listing.net_rules.iter().map(|rules| (rules.path.as_slice(), rules.bytes.as_slice())).collect();
    assert_eq!(
        found,
        [(
            &b"etc/udev/rules.d/70-persistent-net.rules"[..],
            &b"ATTR{address}==\"52:54:00:00:00:01\", NAME=\"eth0\"\n"[..]
        )]
    );
}

#[test]
fn a_module_that_the_script_of_nash_does_not_load_is_not_loaded() {
    requires!("cpio", "gzip", "zstd");
    let listing = listed(
        "mkdir -p t/lib; for m in virtio virtio_ring virtio_blk; do echo x > t/lib/$m.ko; done
         printf '#!/bin/nash\ninsmod /lib/virtio.ko\ninsmod /lib/virtio_ring.ko\n' > t/init
         (cd t; find lib init | cpio --quiet -o -H newc | gzip -n) > sample",
    );
    assert!(
        listing.loads("virtio") && listing.modules.contains("virtio_blk") && !listing.loads("virtio_blk")
    );
}

// --- the boot mode that the import is told ---

#[test]
fn the_boot_mode_that_is_told_is_compared() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "mkfs.vfat", "mcopy");
    let made = guest("");
    let bios = made.path("disk.raw");
    // The same system behind an EFI system partition, with no boot code in front.
    sh(&format!(
        "cd '{}'; truncate -s 100M uefi.raw
         printf 'label: gpt\nstart=2048, size=65536, type=U\nstart=67584, size=98304, type=L\n' | sfdisk -q uefi.raw
         truncate -s 32M esp.img; mkfs.vfat -F 16 esp.img > /dev/null; printf 'MZ' > loader
         mmd -i esp.img ::EFI ::EFI/BOOT; mcopy -i esp.img loader ::EFI/BOOT/BOOTX64.EFI
         dd if=esp.img of=uefi.raw bs=512 seek=2048 conv=notrunc,sparse status=none
         dd if=part.img of=uefi.raw bs=512 seek=67584 conv=notrunc,sparse status=none",
        bios.parent().unwrap().display()
    ));
    let uefi = made.path("uefi.raw");
    let told = |image: &Path, mode: &str| {
        let checked = rule(image, "declared-boot-mode", "", &["--set", &format!("bootMode={mode}")]);
        checked.result("declared-boot-mode").to_owned()
    };
    for (image, mode, result) in [
        (&bios, "BIOS", "pass"),
        (&bios, "Legacy", "pass"),
        (&bios, "UEFI", "fail"),
        (&bios, "UEFI-Preferred", "fail"),
        (&uefi, "uefi", "pass"),
        (&uefi, "Legacy BIOS", "fail"),
    ] {
        assert_eq!(told(image, mode), result, "{} {mode}", image.display());
    }
    assert_eq!(rule(&bios, "declared-boot-mode", "", &[]).result("declared-boot-mode"), "not-applicable");
}

// --- the boot loader ---

const BIOS: &str = "params = { firmware = [\"bios\"] }";
const UEFI: &str = "params = { firmware = [\"uefi\"] }";
const BOOT_IMG: &str = "/usr/lib/grub/i386-pc/boot.img";
const EFI: &str = "/usr/lib/grub/x86_64-efi";

/// Writes GRUB into `disk.raw` as `grub-bios-setup` does: the first sector's code, and its core image at sector `$1`, with
/// the run of the rest behind it.
const GRUB: &str = r#"
grub() {
    local at=$1
    [ -e core.img ] || grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o core.img biosdisk part_msdos ext2
    dd if=/usr/lib/grub/i386-pc/boot.img of=disk.raw bs=440 count=1 conv=notrunc status=none
    number $at | dd of=disk.raw bs=1 seek=$((0x5c)) conv=notrunc status=none
    number $((at + 1)) | dd of=core.img bs=1 seek=500 conv=notrunc status=none
    dd if=core.img of=disk.raw bs=512 seek=$at conv=notrunc status=none
}
number() { python3 -c "import sys; sys.stdout.buffer.write(($1).to_bytes(8, 'little'))"; }
"#;

/// The base guest, its disk changed by a line of shell.
fn disk(change: &str) -> Made {
    let made = guest("");
    sh(&format!("cd '{}'\n{GRUB}\n{change}", made.dir.path().display()));
    made
}

/// What `boot-loader` says of it.
fn loader(change: &str, params: &str) -> Checked {
    rule(&disk(change).path("disk.raw"), "boot-loader", params, &[])
}

#[test]
fn the_core_image_of_grub_is_followed() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "grub-mkimage", BOOT_IMG, "/usr/bin/python3");
    let made = disk("grub 1");
    let path = made.path("disk.raw");
    let again = |change: &str| {
        sh(&format!("cd '{}'\n{GRUB}\n{change}", made.dir.path().display()));
        let checked = rule(&path, "boot-loader", BIOS, &[]);
        (checked.result("boot-loader").to_owned(), checked.message("boot-loader").to_owned())
    };
    assert_eq!(again(":"), ("pass".to_owned(), "BIOS finds a boot loader: GRUB 2.".to_owned()));
    let (result, message) =
        again("dd if=/dev/zero of=disk.raw bs=512 seek=20 count=1 conv=notrunc status=none");
    assert_eq!((result.as_str(), message.contains("sector 20 is all zero")), ("fail", true), "{message}");
    let (result, message) =
        again("grub 1; dd if=/dev/zero of=disk.raw bs=512 seek=1 count=1 conv=notrunc status=none");
    assert_eq!(
        (result.as_str(), message.contains("from sector 1, which is all zero")),
        ("fail", true),
        "{message}"
    );
    let (result, message) =
        again("grub 1; number 200000 | dd of=disk.raw bs=1 seek=1012 conv=notrunc status=none");
    assert_eq!(
        (result.as_str(), message.contains("continues at sector 200000")),
        ("fail", true),
        "{message}"
    );
    // In a partition, as grub-install --force does it, and behind the end of the disk.
    assert_eq!(again("grub 90000").0, "pass");
    let (result, message) =
        again("grub 90000; number 300000 | dd of=disk.raw bs=1 seek=92 conv=notrunc status=none");
    assert_eq!(
        (result.as_str(), message.contains("loads its core image from sector 300000")),
        ("fail", true)
    );
    let (result, message) =
        again("grub 1; printf '\\x81' | dd of=disk.raw bs=1 seek=100 conv=notrunc status=none");
    assert_eq!((result.as_str(), message.contains("0x81")), ("fail", true), "{message}");
}

#[test]
fn a_disk_converted_to_gpt_has_lost_its_core_image() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "sgdisk", "grub-mkimage", BOOT_IMG, "/usr/bin/python3");
    let convert = "truncate -s +2M disk.raw; sgdisk -g disk.raw > /dev/null";
    let checked = loader(&format!("grub 1; {convert}"), BIOS);
    assert_eq!(checked.result("boot-loader"), "fail", "{:#}", checked.json);
    assert!(checked.message("boot-loader").contains("header of the GPT"));
    assert!(checked.finding("boot-loader")["fix"].as_str().unwrap().contains("ef02"));
    // With a BIOS boot partition behind the root, and the core image in it.
    let checked =
        loader(&format!("{convert}; sgdisk -n 2:0:+1M -t 2:ef02 disk.raw > /dev/null; grub 104448"), BIOS);
    assert_eq!(checked.result("boot-loader"), "pass", "{:#}", checked.json);
}

#[test]
fn code_that_starts_the_active_partition_needs_one_that_starts() {
    requires!(
        "mkfs.ext4",
        "sfdisk",
        "cpio",
        "zstd",
        "mkntfs",
        "root",
        "loop",
        "extlinux",
        "/usr/lib/EXTLINUX/mbr.bin"
    );
    let mbr = "dd if=/usr/lib/EXTLINUX/mbr.bin of=disk.raw bs=440 count=1 conv=notrunc status=none";
    let no_code = loader(mbr, BIOS);
    assert_eq!(no_code.result("boot-loader"), "fail");
    assert!(no_code.message("boot-loader").contains("starts p1, whose first sector holds no boot code"));
    let none_active = loader(&format!("{mbr}; sfdisk -q --activate disk.raw -"), BIOS);
    assert!(none_active.message("boot-loader").contains("none is marked active"), "{:#}", none_active.json);
    let sound = loader(
        &format!(
            "{mbr}; mkdir m; mount -o loop,offset=1048576 disk.raw m; trap 'umount m; released disk.raw' EXIT; mkdir -p m/boot/extlinux
             extlinux --install m/boot/extlinux > /dev/null 2>&1"
        ),
        BIOS,
    );
    assert_eq!(sound.message("boot-loader"), "BIOS finds a boot loader: syslinux.", "{:#}", sound.json);
    // A file system of Windows that was never made bootable.
    let ntfs = loader(
        &format!(
            "{mbr}; truncate -s 80M disk.raw; echo 'start=106496, type=7' | sfdisk -q -a disk.raw
             sfdisk -q --activate disk.raw 2; truncate -s 20M n.img; mkntfs -qFf n.img > /dev/null 2>&1
             dd if=n.img of=disk.raw bs=512 seek=106496 conv=notrunc,sparse status=none"
        ),
        BIOS,
    );
    assert!(ntfs.message("boot-loader").contains("only says that it is not bootable"), "{:#}", ntfs.json);
}

#[test]
fn what_the_code_loads_is_not_guessed() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let strange = "head -c 440 /dev/zero | tr '\\0' '\\220' | dd of=disk.raw conv=notrunc status=none";
    assert_eq!(loader(strange, BIOS).result("boot-loader"), "undecided");
    let none = "dd if=/dev/zero of=disk.raw bs=440 count=1 conv=notrunc status=none";
    assert_eq!(loader(none, BIOS).result("boot-loader"), "fail");
}

/// A GPT with an EFI system partition in front of the root, filled by lines of mtools on `$E`.
fn with_esp(fill: &str) -> Made {
    disk(&format!(
        "rm disk.raw; truncate -s 90M disk.raw
         sgdisk -n 1:2048:+34M -t 1:ef00 -n 2:0:0 -t 2:8300 disk.raw > /dev/null
         truncate -s 34M esp.img; mkfs.vfat -F 32 esp.img > /dev/null; export MTOOLS_SKIP_CHECK=1
         grub-mkimage -O x86_64-efi -p /EFI/debian -o grubx64.efi fat part_gpt
         E='-i esp.img'; mmd $E ::EFI ::EFI/debian; {fill}
         dd if=esp.img of=disk.raw bs=1M seek=1 conv=notrunc,sparse status=none
         dd if=part.img of=disk.raw bs=1M seek=35 conv=notrunc,sparse status=none"
    ))
}

#[test]
fn a_uefi_firmware_needs_a_loader_for_its_machine() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "sgdisk", "mkfs.vfat", "mcopy", "grub-mkimage", EFI);
    let says = |made: &Made, check: &str, params: &str| {
        let checked = rule(&made.path("disk.raw"), check, params, &[]);
        (checked.result(check).to_owned(), checked.message(check).to_owned())
    };
    let named = with_esp("mcopy $E grubx64.efi ::EFI/debian/");
    assert_eq!(says(&named, "boot-loader", UEFI).0, "pass");
    let (result, message) = says(&named, "uefi-fallback-path", "");
    assert_eq!((result.as_str(), message.contains("BOOTX64.EFI")), ("fail", true));
    // The disk boots by UEFI alone.
    assert_eq!(says(&named, "boot-loader", BIOS).0, "fail");
    assert_eq!(says(&named, "boot-partition", BIOS).0, "fail");

    let removable = with_esp("mmd $E ::EFI/BOOT; mcopy $E grubx64.efi ::EFI/BOOT/BOOTX64.EFI");
    assert_eq!(says(&removable, "uefi-fallback-path", "").0, "pass");
    let lost = with_esp(
        "mcopy $E grubx64.efi ::EFI/debian/
         printf 'search.fs_uuid 99999999-2222-3333-4444-555555555555 root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n' > g
         mcopy $E g ::EFI/debian/grub.cfg",
    );
    let (result, message) = says(&lost, "boot-loader", UEFI);
    assert_eq!((result.as_str(), message.contains("99999999-2222")), ("fail", true), "{message}");
    let empty = with_esp(":");
    assert!(says(&empty, "boot-loader", UEFI).1.contains("holds no loader"));
    let other = with_esp(
        "printf '\\x64\\xaa' | dd of=grubx64.efi bs=1 seek=132 conv=notrunc status=none; mcopy $E grubx64.efi ::EFI/debian/",
    );
    let (result, message) = says(&other, "boot-loader", UEFI);
    assert_eq!((result.as_str(), message.contains("is for aarch64")), ("fail", true), "{message}");
    let mbr = disk(":");
    assert_eq!(says(&mbr, "uefi-fallback-path", "").0, "not-applicable");
}

// --- the menu, the kernel and what it is told ---

/// The result and message of one check on the base guest with a change.
fn says(change: &str, check: &str, params: &str) -> (String, String) {
    let checked = rule_of(change, check, params);
    (checked.result(check).to_owned(), checked.message(check).to_owned())
}

/// As [`says`], which must fail with these words.
fn fails(change: &str, check: &str, params: &str, words: &str) {
    let (result, message) = says(change, check, params);
    assert_eq!(
        (result.as_str(), message.contains(words)),
        ("fail", true),
        "{check} after {change}: {message}"
    );
}

#[test]
fn a_menu_has_a_default_entry() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let (result, message) = says("", "boot-menu", "");
    assert_eq!(result, "pass", "{message}");
    assert!(message.contains("boots 'Debian GNU/Linux' by default"), "{message}");
    fails("echo 'set default=0' > $R/boot/grub/grub.cfg", "boot-menu", "", "no entry that starts a kernel");
    fails("rm $R/boot/grub/grub.cfg", "boot-menu", "", "GRUB stops at its prompt");
    let computed = "sed -i 's/default=\"0\"/default=\"$cmdpath\"/' $R/boot/grub/grub.cfg";
    assert_eq!(says(computed, "boot-menu", "").0, "undecided");
}

#[test]
fn every_kind_of_menu_is_read() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let legacy = "rm $R/boot/grub/grub.cfg; printf 'default=0\ntitle Old\n\tkernel /boot/vmlinuz-6.1.0-9 root=UUID=%s\n\tinitrd /boot/initrd.img-6.1.0-9\n' $U > $R/boot/grub/menu.lst";
    let syslinux = "rm $R/boot/grub/grub.cfg; mkdir $R/boot/extlinux; printf 'default linux\nlabel linux\n kernel ../vmlinuz-6.1.0-9\n append initrd=../initrd.img-6.1.0-9 root=UUID=%s\n' $U > $R/boot/extlinux/extlinux.conf";
    let systemd = "rm $R/boot/grub/grub.cfg; mkdir -p $R/boot/loader/entries; echo 'default d*' > $R/boot/loader/loader.conf
        printf 'title Debian\nlinux /vmlinuz-6.1.0-9\ninitrd /initrd.img-6.1.0-9\noptions root=UUID=%s\n' $U > $R/boot/loader/entries/debian.conf";
    for (change, loader) in [(legacy, "GRUB legacy"), (syslinux, "syslinux"), (systemd, "systemd-boot")] {
        let made = guest(change);
        let of = |check: &str| {
            let checked = rule(&made.path("disk.raw"), check, "", &[]);
            (checked.result(check).to_owned(), checked.message(check).to_owned())
        };
        assert!(of("boot-menu").1.starts_with(&format!("The menu of {loader} ")), "{:?}", of("boot-menu"));
        for check in ["boot-files", "root-argument", "initramfs-readable", "kernel-image"] {
            assert_eq!(of(check).0, "pass", "{loader} {check}: {}", of(check).1);
        }
    }
}

#[test]
fn a_unified_kernel_image_holds_kernel_arguments_and_initramfs() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "objcopy", EFI, "grub-mkimage");
    // As ukify does it: sections behind those of a program for UEFI.
    let unify = "mkdir -p $R/boot/EFI/Linux; echo \"root=UUID=$U ro\" > cmdline
        grub-mkimage -O x86_64-efi -p / -o stub.efi fat
        objcopy --add-section .cmdline=cmdline --change-section-vma .cmdline=0x30000000 \
            --add-section .linux=$R/boot/vmlinuz-6.1.0-9 --change-section-vma .linux=0x31000000 \
            --add-section .initrd=$R/boot/initrd.img-6.1.0-9 --change-section-vma .initrd=0x32000000 \
            stub.efi $R/boot/EFI/Linux/debian-6.1.0-9.efi
        rm $R/boot/grub/grub.cfg $R/boot/initrd* $R/boot/vmlinuz*";
    let made = guest(unify);
    for check in ["boot-menu", "boot-files", "root-argument", "initramfs-readable", "kernel-image"] {
        let checked = rule(&made.path("disk.raw"), check, "", &[]);
        assert_eq!(checked.result(check), "pass", "{check}: {}", checked.message(check));
    }
}

#[test]
fn a_kernel_is_whole_and_for_the_machine() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    assert_eq!(says("", "kernel-image", "").0, "pass");
    let kernel = "$R/boot/vmlinuz-6.1.0-9";
    fails(
        &format!("truncate -s 3000 {kernel}"),
        "kernel-image",
        "",
        "its header says 4096 bytes, and it has 3000",
    );
    // Linux 2.6.18 did not fill up the last of the 16 bytes that its header counts in.
    assert_eq!(says(&format!("truncate -s 4088 {kernel}"), "kernel-image", "").0, "pass");
    fails(&format!("echo text > {kernel}"), "kernel-image", "", "is no kernel");
    fails(&format!("put {kernel} 0x236 '\\0'"), "kernel-image", "", "is a kernel for i386");
    assert_eq!(says(&format!("rm {kernel}"), "kernel-image", "").0, "not-applicable");
    fails(
        &format!("rm {kernel}"),
        "boot-files",
        "",
        "/boot/vmlinuz-6.1.0-9, which the boot menu starts, is not there",
    );
}

#[test]
fn an_initramfs_unpacks_to_its_end() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "gzip", "xz");
    assert_eq!(says("", "initramfs-readable", "").0, "pass");
    let image = "$R/boot/initrd.img-6.1.0-9";
    // cpio fills up an archive to whole blocks, and those may be cut off.
    for (packer, cut) in [("zstd -q", 200), ("gzip -n", 200), ("cat", 5000), ("xz --check=crc32", 200)] {
        let cut = format!("initramfs {image} '{packer}' $ALL; truncate -s -{cut} {image}");
        fails(&cut, "initramfs-readable", "", "is damaged, and the kernel could not unpack it");
    }
    fails(&format!(": > {image}"), "initramfs-readable", "", "is empty");
    fails(
        &format!("head -c 5000 /dev/zero | tr '\\0' x > {image}"),
        "initramfs-readable",
        "",
        "neither a newc archive",
    );
    assert_eq!(says(&format!("printf '\\x89LZO' > {image}"), "initramfs-readable", "").0, "undecided");
    // What stands behind a sound archive the kernel only complains of.
    assert_eq!(says(&format!("echo rest >> {image}"), "initramfs-readable", "").0, "undecided");
    assert_eq!(says("sed -i /initrd/d $R/boot/grub/grub.cfg", "initramfs-readable", "").0, "not-applicable");
}

#[test]
fn root_is_found_by_what_the_kernel_is_started_with() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let no_initramfs = "sed -i /initrd/d $R/boot/grub/grub.cfg";
    fails(no_initramfs, "root-argument", "", "needs an initramfs");
    let by_part = format!(
        "{no_initramfs}; sed -i 's|root=UUID=[^ ]*|root=PARTUUID=12345678-01|' $R/boot/grub/grub.cfg"
    );
    assert_eq!(says(&by_part, "root-argument", "").0, "pass");
    let style = "params = { prefixes = [\"UUID=\"] }";
    assert_eq!(says("", "root-argument-style", style).0, "pass");
    let named = "sed -i 's|root=UUID=[^ ]*|root=/dev/sda1|' $R/boot/grub/grub.cfg";
    fails(named, "root-argument-style", style, "root=/dev/sda1 may mean another device");
    let by_id = |id: &str| {
        format!("sed -i 's|root=UUID=[^ ]*|root=/dev/disk/by-id/{id}-part1|' $R/boot/grub/grub.cfg")
    };
    // As the installer of SLES 11 wrote it.
    fails(&by_id("ata-VBOX_HARDDISK_VB1-2"), "root-argument", "", "by its model and serial number");
    assert_eq!(says(&by_id("scsi-0QEMU_QEMU_HARDDISK_drive-scsi0"), "root-argument", "").0, "undecided");
}

/// The fix of one check on the base guest with a change.
fn fix(change: &str, check: &str, params: &str) -> String {
    rule_of(change, check, params).finding(check)["fix"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn modules_in_a_file_system_inside_of_an_initramfs_are_not_missing() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    // As dracut's module squash leaves it.
    let nested = "mkdir squash; echo x > squash/squashfs-root.img; (cd squash; find . | cpio --quiet -o -H newc) > $R/boot/initrd.img-6.1.0-9";
    let virtio =
        "params = { disk = [\"virtio_blk\"], transport = [\"virtio_pci\"], network = [\"virtio_net\"] }";
    let (result, message) = says(nested, "virtio-initramfs", virtio);
    assert_eq!(result, "undecided", "{message}");
    assert_eq!(says(nested, "initramfs-readable", "").0, "pass");
}

#[test]
fn the_fix_is_a_command_that_the_distribution_has() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let bare = "initramfs $R/boot/initrd.img-6.1.0-9 cat ext4";
    let virtio =
        "params = { disk = [\"virtio_blk\"], transport = [\"virtio_pci\"], network = [\"virtio_net\"] }";
    // RHEL 6: its dracut knows no --kver. SLES 11: its mkinitrd is not that of RHEL 5.
    let rhel6 = "; touch $R/usr/sbin/dracut $R/boot/initramfs-6.1.0-9.img";
    let sles11 =
        "; mkdir -p $R/etc/sysconfig; touch $R/usr/sbin/mkinitrd $R/etc/sysconfig/kernel $R/etc/SuSE-release";
    for (change, command) in [
        (rhel6, "dracut -f --add-drivers \"virtio_pci virtio_blk\" /boot/initramfs-6.1.0-9.img 6.1.0-9"),
        (
            sles11,
            "add virtio_pci virtio_blk to INITRD_MODULES in /etc/sysconfig/kernel, then: mkinitrd -k vmlinuz-6.1.0-9 -i initrd-6.1.0-9",
        ),
    ] {
        assert_eq!(fix(&format!("{bare}{change}"), "virtio-initramfs", virtio), command);
    }
    // Entries of the Boot Loader Specification do not follow /etc/default/grub.
    let console = "params = { console = [\"ttyS0\"] }";
    assert_eq!(
        fix("touch $R/usr/sbin/grubby", "serial-console", console),
        "grubby --update-kernel=ALL --args=\"console=tty0 console=ttyS0,115200\""
    );
    assert_eq!(
        fix("", "serial-console", console),
        "add console=tty0 console=ttyS0,115200 to the kernel's line in /boot/grub/grub.cfg"
    );
}

#[test]
fn what_the_kernel_is_told_is_read() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let with = |word: &str| format!("sed -i 's|ro quiet|ro {word}|' $R/boot/grub/grub.cfg");
    let console = "params = { console = [\"ttyS0\"] }";
    assert_eq!(says(&with("console=tty0 console=ttyS0,115200n8"), "serial-console", console).0, "pass");
    fails(&with("console=ttyS01"), "serial-console", console, "without console=ttyS0");
    let forbidden = "params = { forbidden = [\"single\", \"init=\"] }";
    assert_eq!(says(&with("singleton"), "kernel-arguments", forbidden).0, "pass");
    fails(&with("single"), "kernel-arguments", forbidden, "started with single");
    fails(&with("init=/bin/sh"), "kernel-arguments", forbidden, "init=/bin/sh");
    fails(&with("modprobe.blacklist=floppy,virtio-net"), "kernel-arguments", "", "virtio-net");
    assert_eq!(says(&with("modprobe.blacklist=floppy"), "kernel-arguments", "").0, "pass");
}

#[test]
fn named_drivers_are_there_before_the_disk() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let of = |params: &str| says("", "initramfs-drivers", &format!("params = {{ {params} }}")).0;
    assert_eq!(of("all_of = [\"virtio_blk\", \"nvme_core\"]"), "pass");
    assert_eq!(of("any_of = [\"xen_blkfront\", \"virtio_pci\"]"), "pass");
    assert_eq!(
        (of("all_of = [\"virtio_blk\", \"virtio_net\"]"), of("any_of = [\"ata_piix\"]")),
        ("fail".into(), "fail".into())
    );
}

#[test]
fn a_kernel_of_xen_alone_does_not_start() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    assert_eq!(says("", "kernel-virtualization", "").0, "pass");
    let name = "2.6.18-398.el5xen";
    let named = format!(
        "mv $R/boot/vmlinuz-6.1.0-9 $R/boot/vmlinuz-{name}; mv $R/lib/modules/6.1.0-9 $R/lib/modules/{name}
         sed -i s,vmlinuz-6.1.0-9,vmlinuz-{name}, $R/boot/grub/grub.cfg"
    );
    fails(&named, "kernel-virtualization", "", "starts only as a paravirtual guest of Xen");
    let config = "printf 'CONFIG_X86_64_XEN=y\n' > $R/boot/config-6.1.0-9";
    fails(config, "kernel-virtualization", "", "paravirtual guest");
    let hypervisor = "sed -i 's,linux /boot/vm,multiboot /boot/xen.gz dom0_mem=1G\\n module /boot/vm,; s,initrd /boot,module /boot,' $R/boot/grub/grub.cfg";
    fails(hypervisor, "kernel-virtualization", "", "starts the hypervisor /boot/xen.gz");
}

#[test]
fn an_entry_with_more_initramfs_files_than_any_is_undecided() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let many = "sed -i \"s#initrd .*#initrd $(printf '/boot/initrd.img-6.1.0-9 %.0s' $(seq 40))#\" $R/boot/grub/grub.cfg";
    let made = guest(many);
    let checked = rule(&made.path("disk.raw"), "initramfs-readable", "", &[]);
    assert_eq!(checked.result("initramfs-readable"), "undecided");
    assert!(checked.message("initramfs-readable").contains("more than 32 initramfs files"));
}
