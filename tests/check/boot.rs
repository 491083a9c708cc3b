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
