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

// --- network ---

/// Switches cloud-init's hand off the network, so that the files of the guest alone count.
const NO_CLOUD: &str = "rm -r $R/etc/systemd/system/cloud-init.target.wants\n";

/// A shell command that enables a unit, which is made with it.
fn enable(unit: &str) -> String {
    format!(
        "mkdir -p $R/etc/systemd/system/multi-user.target.wants; echo '[Unit]' > $R/lib/systemd/system/{unit}
         ln -s /lib/systemd/system/{unit} $R/etc/systemd/system/multi-user.target.wants/{unit}\n"
    )
}

const DHCP_OR_STATIC: &str = "mkdir -p $R/etc/network/interfaces.d; printf 'auto lo\\niface lo inet loopback\\nsource /etc/network/interfaces.d/*\\n' > $R/etc/network/interfaces\n";

#[test]
fn cloud_init_sets_the_network_up_unless_it_is_kept_off() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let made = guest(&format!("{DHCP_OR_STATIC}{}", enable("networking.service")));
    let disk = made.path("disk.raw");
    let (result, message) = said(&disk, "dhcp", "");
    assert!(result == "pass" && message.starts_with("cloud-init"), "{message}");
    for check in ["static-ipv6", "ipv6-enabled", "mac-binding", "interface-names", "network-manager-disabled"]
    {
        assert_eq!(said(&disk, check, "").0, "pass", "{check}");
    }
    assert_eq!(said(&disk, "persistent-net-rules", "params = { initramfs = true }").0, "pass");
    let kept_off = "printf 'network:\\n  config: disabled\\n' > $R/etc/cloud/cloud.cfg.d/99-net.cfg\n";
    assert_eq!(
        result_of(&format!("{DHCP_OR_STATIC}{}{kept_off}", enable("networking.service")), "dhcp", ""),
        "fail"
    );
}

#[test]
fn a_static_address_is_named_with_its_line() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let fixed = "printf 'auto ens192\\niface ens192 inet static\\n  address 192.0.2.7/24\\n  hwaddress ether 00:50:56:aa:bb:cc\\niface ens192 inet6 static\\n  address 2001:db8::7/64\\n' > $R/etc/network/interfaces.d/ens192\n";
    let made = guest(&format!("{NO_CLOUD}{DHCP_OR_STATIC}{fixed}{}", enable("networking.service")));
    let disk = made.path("disk.raw");
    let checked = rule(&disk, "dhcp", "", &[]);
    assert_eq!(checked.result("dhcp"), "fail");
    assert!(checked.message("dhcp").contains("ens192 192.0.2.7/24"), "{}", checked.message("dhcp"));
    let evidence = &checked.finding("dhcp")["evidence"][0];
    assert_eq!(
        (&evidence["path"], &evidence["line"]),
        (&"/etc/network/interfaces.d/ens192".into(), &2.into())
    );
    assert_eq!(said(&disk, "static-ipv6", "").0, "fail");
    assert_eq!(said(&disk, "mac-binding", "").0, "fail");
    // Without udev's files nothing names cards by slot: the kernel calls them eth0.
    assert_eq!(said(&disk, "interface-names", "").0, "fail");
    let beside = guest(&format!("{DHCP_OR_STATIC}{fixed}{}", enable("networking.service")));
    let (result, message) = said(&beside.path("disk.raw"), "dhcp", "");
    assert!(result == "fail" && message.contains("cloud-init"), "{message}");
    // The same file, whose service does not start: nothing reads it.
    let unread = guest(&format!("{DHCP_OR_STATIC}{fixed}"));
    assert_eq!(said(&unread.path("disk.raw"), "static-ipv6", "").0, "pass");
}

/// CentOS 6 and 7: the service `network` of System V, `ifcfg` files, a card that is named by the kernel.
#[test]
fn red_hats_files_count_by_their_service() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let system = "mkdir -p $R/etc/sysconfig/network-scripts $R/etc/rc3.d $R/etc/init.d; echo '#!/bin/sh' > $R/etc/init.d/network; chmod +x $R/etc/init.d/network; ln -s ../init.d/network $R/etc/rc3.d/S10network\n";
    let eth0 = |text: &str| {
        format!(
            "{NO_CLOUD}{system}printf 'DEVICE=eth0\\nONBOOT=yes\\n{text}' > $R/etc/sysconfig/network-scripts/ifcfg-eth0\n"
        )
    };
    let dhcp = guest(&eth0("BOOTPROTO=\"dhcp\"\\nHWADDR=52:54:00:12:34:56\\n"));
    let disk = dhcp.path("disk.raw");
    assert_eq!(said(&disk, "dhcp", "").0, "pass");
    assert_eq!(said(&disk, "interface-names", "params = { wanted = [\"eth0\"] }").0, "pass");
    let bound = rule(&disk, "mac-binding", "", &[]);
    assert_eq!(bound.result("mac-binding"), "fail");
    assert_eq!(bound.finding("mac-binding")["evidence"][0]["line"], 4);
    assert_eq!(result_of(&eth0("BOOTPROTO=none\\nIPADDR=10.1.2.3\\n"), "dhcp", ""), "fail");
}

/// NetworkManager takes a keyfile that is root's alone, and ignores one that others may read.
#[test]
fn a_keyfile_that_others_may_read_does_not_count() {
    requires!("root", "mkfs.ext4", "sfdisk", "cpio", "zstd");
    let keyfile = |mode: &str| {
        format!(
            "{NO_CLOUD}mkdir -p $R/etc/NetworkManager/system-connections
             printf '[connection]\\nid=a\\ntype=ethernet\\ninterface-name=ens3\\n[ipv4]\\nmethod=manual\\naddress1=192.0.2.7/24\\n' > $R/etc/NetworkManager/system-connections/a.nmconnection
             chmod {mode} $R/etc/NetworkManager/system-connections/a.nmconnection\n{}",
            enable("NetworkManager.service")
        )
    };
    let counts = guest(&keyfile("600"));
    assert_eq!(said(&counts.path("disk.raw"), "dhcp", "").0, "fail");
    assert_eq!(said(&counts.path("disk.raw"), "network-manager-disabled", "").0, "fail");
    assert_eq!(said(&counts.path("disk.raw"), "interface-names", "").0, "pass");
    assert_eq!(result_of(&keyfile("644"), "dhcp", ""), "pass");
}

#[test]
fn netplan_that_is_not_understood_leaves_the_rule_undecided() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let netplan = |text: &str| {
        format!(
            "{NO_CLOUD}mkdir -p $R/etc/netplan $R/lib/systemd/system-generators; echo x > $R/lib/systemd/system-generators/netplan
             printf '{text}' > $R/etc/netplan/01.yaml\n"
        )
    };
    let name = "network:\\n  version: 2\\n  ethernets:\\n    ens3:\\n      ";
    let slot = "mkdir -p $R/lib/systemd/network; printf '[Match]\\nOriginalName=*\\n[Link]\\nNamePolicy=keep kernel database onboard slot path\\n' > $R/lib/systemd/network/99-default.link\n";
    let dhcp = guest(&format!("{}{slot}", netplan(&format!("{name}dhcp4: true\\n"))));
    let disk = dhcp.path("disk.raw");
    assert_eq!(said(&disk, "dhcp", "").0, "pass");
    // ens3 is where the source machine's card was; where the target's is, nobody knows.
    assert_eq!(said(&disk, "interface-names", "").0, "undecided");
    assert_eq!(said(&disk, "interface-names", "params = { wanted = [\"eth0\"] }").0, "fail");
    assert_eq!(result_of(&netplan(&format!("{name}dhcp4: *x\\n")), "dhcp", ""), "undecided");
}

#[test]
fn a_guest_of_which_nothing_is_known_is_undecided() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    assert_eq!(result_of(NO_CLOUD, "dhcp", ""), "undecided");
}

#[test]
fn rules_for_old_cards_are_found_in_the_initramfs_too() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let rule_line = r#"SUBSYSTEM=="net", ACTION=="add", ATTR{address}=="52:54:00:12:34:56", NAME="eth0""#;
    let own = rule_of(
        &format!(
            "mkdir -p $R/etc/udev/rules.d; printf '# x\\n\\n{rule_line}\\n' > $R/etc/udev/rules.d/70-persistent-net.rules"
        ),
        "persistent-net-rules",
        "",
    );
    assert_eq!(own.result("persistent-net-rules"), "fail");
    let evidence = &own.finding("persistent-net-rules")["evidence"][0];
    assert_eq!(evidence["line"], 3);
    assert!(evidence["excerpt"].as_str().unwrap().contains("52:54:00:12:34:56"));
    let comments = "mkdir -p $R/etc/udev/rules.d; echo '# x' > $R/etc/udev/rules.d/70-persistent-net.rules; : > $R/etc/udev/rules.d/75-persistent-net-generator.rules";
    assert_eq!(result_of(comments, "persistent-net-rules", ""), "pass");
    let packed = guest(&format!(
        "mkdir -p more/etc/udev/rules.d; echo '{rule_line}' > more/etc/udev/rules.d/70-persistent-net.rules
         (cd more && find . | cpio --quiet -o -H newc) >> $R/boot/initrd.img-6.1.0-9"
    ));
    let disk = packed.path("disk.raw");
    assert_eq!(said(&disk, "persistent-net-rules", "").0, "pass");
    let (result, message) = said(&disk, "persistent-net-rules", "params = { initramfs = true }");
    assert!(result == "fail" && message.contains("initrd.img-6.1.0-9"), "{message}");
}

#[test]
fn ipv6_is_switched_off_by_the_kernels_line_or_sysctl() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let checked = rule_of("sed -i 's/ro quiet/ro ipv6.disable=1/' $R/boot/grub/grub.cfg", "ipv6-enabled", "");
    assert_eq!(checked.result("ipv6-enabled"), "fail");
    assert_eq!(checked.finding("ipv6-enabled")["evidence"][0]["path"], "/boot/grub/grub.cfg");
    assert_eq!(
        result_of("echo net.ipv6.conf.all.disable_ipv6=1 > $R/etc/sysctl.conf", "ipv6-enabled", ""),
        "fail"
    );
}

// --- firewall, SELinux, names ---

#[test]
fn a_firewall_counts_by_its_service_and_its_rules() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let rules = |rules: &str| {
        format!(
            "mkdir -p $R/etc/sysconfig; printf '*filter\\n:INPUT ACCEPT [0:0]\\n{rules}COMMIT\\n' > $R/etc/sysconfig/iptables\n{}",
            enable("iptables.service")
        )
    };
    let port = "params = { port = 22 }";
    let blocks = guest(&rules("-A INPUT -i lo -j ACCEPT\\n-A INPUT -j REJECT\\n"));
    let disk = blocks.path("disk.raw");
    assert_eq!(said(&disk, "firewall", "").0, "fail");
    let checked = rule(&disk, "ssh-port-open", port, &[]);
    assert_eq!(checked.result("ssh-port-open"), "fail");
    assert!(checked.message("ssh-port-open").contains("iptables"));
    let lets = guest(&rules("-A INPUT -p tcp --dport 22 -j ACCEPT\\n-A INPUT -j REJECT\\n"));
    assert_eq!(said(&lets.path("disk.raw"), "ssh-port-open", port).0, "pass");
    assert_eq!(said(&lets.path("disk.raw"), "firewall", "").0, "fail");
    let sets =
        rules("-A INPUT -m set --match-set friends src -p tcp --dport 22 -j ACCEPT\\n-A INPUT -j DROP\\n");
    assert_eq!(result_of(&sets, "ssh-port-open", port), "undecided");
    // The rules lie there, but no service loads them.
    let off = guest(
        "mkdir -p $R/etc/sysconfig; printf '*filter\\n:INPUT DROP [0:0]\\nCOMMIT\\n' > $R/etc/sysconfig/iptables",
    );
    assert_eq!(said(&off.path("disk.raw"), "firewall", "").0, "pass");
    assert_eq!(said(&off.path("disk.raw"), "ssh-port-open", port).0, "pass");
}

/// Rules that system-config-firewall of a Red Hat wrote, from augeas.
#[test]
fn the_rules_of_a_real_firewall_let_ssh_in() {
    requires!("corpus", "mkfs.ext4", "sfdisk", "cpio", "zstd");
    let corpus = common::corpus().unwrap().join("guest/augeas/root/etc/sysconfig/iptables");
    let made = guest(&format!(
        "mkdir -p $R/etc/sysconfig; cp '{}' $R/etc/sysconfig/\n{}",
        corpus.display(),
        enable("iptables.service")
    ));
    let disk = made.path("disk.raw");
    assert_eq!(said(&disk, "ssh-port-open", "params = { port = 22 }").0, "pass");
    assert_eq!(said(&disk, "firewall", "").0, "fail");
}

#[test]
fn selinux_needs_labels_where_it_enforces() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "debugfs");
    let all = "params = { allow = [\"enforcing\", \"permissive\", \"disabled\"] }";
    let config = "mkdir -p $R/etc/selinux; printf '# x\\nSELINUX=enforcing\\nSELINUXTYPE=targeted\\n' > $R/etc/selinux/config; echo 'root:*:1::::::' > $R/etc/shadow\n";
    let bare = guest(config);
    let disk = bare.path("disk.raw");
    assert_eq!(said(&disk, "selinux", "").0, "fail");
    let (result, message) = said(&disk, "selinux", all);
    assert!(result == "fail" && message.contains("/etc/shadow has no label"), "{message}");
    // debugfs gives the labels that restorecon would.
    sh(&format!(
        "for path in /etc/shadow /usr/sbin/init /usr/bin/sh; do
             debugfs -w -R \"ea_set $path security.selinux system_u:object_r:shadow_t:s0\" '{}?offset=1048576' 2> /dev/null
         done",
        disk.display()
    ));
    assert_eq!(said(&disk, "selinux", all).0, "pass", "{}", said(&disk, "selinux", all).1);
    let relabels = guest(&format!("{config}touch $R/.autorelabel"));
    assert_eq!(said(&relabels.path("disk.raw"), "selinux", all).0, "pass");
    let line = format!("{config}sed -i 's/ro quiet/ro selinux=0/' $R/boot/grub/grub.cfg");
    assert_eq!(result_of(&line, "selinux", ""), "pass");
    let line = format!(
        "{config}sed -i 's/=enforcing/=permissive/' $R/etc/selinux/config; sed -i 's/ro quiet/ro enforcing=1/' $R/boot/grub/grub.cfg"
    );
    assert_eq!(result_of(&line, "selinux", ""), "fail");
}

#[test]
fn a_resolver_of_the_guest_must_start() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let stub = format!("{NO_CLOUD}echo 'nameserver 127.0.0.53' > $R/etc/resolv.conf\n");
    let checked = rule_of(&stub, "dns", "");
    assert_eq!(checked.result("dns"), "fail");
    assert_eq!(checked.finding("dns")["evidence"][0]["line"], 1);
    assert_eq!(result_of(&format!("{stub}{}", enable("systemd-resolved.service")), "dns", ""), "pass");
    assert_eq!(result_of("echo 'nameserver 192.0.2.53' > $R/etc/resolv.conf", "dns", ""), "pass");
    let link = format!("{NO_CLOUD}ln -s ../run/systemd/resolve/stub-resolv.conf $R/etc/resolv.conf");
    assert_eq!(result_of(&link, "dns", ""), "fail");
}
