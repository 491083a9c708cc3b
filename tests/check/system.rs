//! Rules of the group `system`: what the system is.

use super::*;

/// The result of one check on an image, and its message.
fn said(image: &Path, check: &str, params: &str) -> (String, String) {
    let checked = rule(image, check, params, &[]);
    (checked.result(check).to_owned(), checked.message(check).to_owned())
}

/// Packages that `dpkg` itself installs into the base guest: `deb NAME VERSION MAINTAINER` packs the folder of that name.
const DPKG: &str = r#"
deb() {
    mkdir -p pkg-$1/DEBIAN
    printf 'Package: %s\nVersion: %s\nMaintainer: %s\nArchitecture: amd64\nDescription: x\n' $1 $2 "$3" > pkg-$1/DEBIAN/control
    dpkg-deb --root-owner-group -b pkg-$1 $1.deb > /dev/null
}
dpkg_() { dpkg --root=$R --force-all --log=/dev/null "$@" > /dev/null 2>&1; }
mkdir -p pkg-base-files/etc pkg-base-files/DEBIAN pkg-linux-image-6.1.0-9-amd64/boot pkg-open-vm-tools pkg-late
echo 'Debian GNU/Linux 12 \n \l' > pkg-base-files/etc/issue
echo /etc/issue > pkg-base-files/DEBIAN/conffiles
echo kernel > pkg-linux-image-6.1.0-9-amd64/boot/vmlinuz-6.1.0-9
deb base-files 12.4 'Santiago <sanvila@debian.org>'
deb linux-image-6.1.0-9-amd64 6.1.27-1 'Debian Kernel Team <debian-kernel@lists.debian.org>'
mkdir -p $R/var/lib/dpkg/{info,updates}
dpkg_ -i base-files.deb linux-image-6.1.0-9-amd64.deb
"#;

/// Every rule of the group that `dpkg`'s sound guest passes, with limits.
const RULES: &[(&str, &str)] = &[
    ("os-known", ""),
    ("distribution", "params = { ids = [\"ubuntu\", \"debian\"] }"),
    ("architecture", "params = { machines = [\"x86_64\"] }"),
    ("kernel-version", "params = { min = [\"6.1\"] }"),
    ("native-kernel", ""),
    ("package-database", ""),
    ("packages-present", "params = { any_of = [\"acpid\", \"cloud-init\"] }"),
    ("packages-absent", "params = { names = [\"open-vm-tools\"] }"),
    ("online-resize", ""),
    ("rtc-mode", ""),
    ("lib-links", ""),
    ("issue-file", ""),
];

#[test]
fn a_sound_debian_passes_and_a_spoilt_one_fails_each() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "dpkg", "dpkg-deb");
    let sound = guest(&format!(
        "{DPKG}\ntouch $R/usr/bin/growpart $R/usr/sbin/resize2fs; ln -s usr/lib64 $R/lib64
         printf '0.0 0 0.0\\n0\\nUTC\\n' > $R/etc/adjtime"
    ));
    for (check, params) in RULES {
        let (result, message) = said(&sound.path("disk.raw"), check, params);
        assert_eq!(result, "pass", "{check}: {message}");
    }
    assert_eq!(
        said(&sound.path("disk.raw"), "native-kernel", "").1,
        "The kernel /boot/vmlinuz-6.1.0-9 is the distribution's own: package linux-image-6.1.0-9-amd64 6.1.27-1."
    );

    let spoilt = guest(&format!(
        "{DPKG}\ndeb open-vm-tools 1 'x <x@debian.org>'; deb late 1 'x <x@debian.org>'
         dpkg_ -r linux-image-6.1.0-9-amd64; dpkg_ -i open-vm-tools.deb; dpkg_ --unpack late.deb; dpkg_ -P cloud-init
         grep -q 'install ok unpacked' $R/var/lib/dpkg/status; echo kernel > $R/boot/vmlinuz-6.1.0-9
         ln -s /usr/lib64 $R/lib64; echo 'Welcome to Example' > $R/etc/issue; printf '0.0 0 0.0\\n0\\nLOCAL\\n' > $R/etc/adjtime
         rm $R/etc/os-release $R/etc/debian_version; printf '\\xb7' | dd of=$R/usr/bin/sh bs=1 seek=18 conv=notrunc status=none"
    ));
    for (check, params) in RULES {
        let params = params.replace("6.1", "6.2");
        let (result, message) = said(&spoilt.path("disk.raw"), check, &params);
        // Which distribution it is nobody says any more.
        let wanted = if *check == "distribution" { "undecided" } else { "fail" };
        assert_eq!(result, wanted, "{check}: {message}");
    }
    let fix = |check: &str, params: &str| {
        let checked = rule(&spoilt.path("disk.raw"), check, params, &[]);
        checked.finding(check)["fix"].as_str().unwrap().to_owned()
    };
    assert_eq!(fix("packages-absent", RULES[7].1), "apt-get purge open-vm-tools");
    assert_eq!(fix("online-resize", ""), "apt-get install cloud-guest-utils e2fsprogs");
}

/// A CentOS whose packages `rpmbuild` made and `rpm` installed. `$V` is the kernel's vendor.
const CENTOS: &str = r#"
rm -r $R/var/lib/dpkg $R/etc/debian_version
printf 'NAME="CentOS Linux"\nID="centos"\nID_LIKE="rhel fedora"\nVERSION_ID="7"\nPRETTY_NAME="CentOS Linux 7 (Core)"\n' > $R/etc/os-release
echo 'CentOS Linux release 7.9.2009 (Core)' > $R/etc/centos-release
for name in kernel bash centos-release; do
    vendor=CentOS; [ $name = kernel ] && vendor=$V
    printf 'Name: %s\nVersion: 1\nRelease: 1\nSummary: x\nLicense: x\nVendor: %s\n%%description\nx\n%%install\nmkdir -p %%{buildroot}/boot %%{buildroot}/etc\necho kernel > %%{buildroot}/boot/vmlinuz-6.1.0-9\necho "\\S" > %%{buildroot}/etc/issue\n%%files\n' $name "$vendor" > $name.spec
done
echo /boot/vmlinuz-6.1.0-9 >> kernel.spec; echo '%config /etc/issue' >> centos-release.spec
for name in kernel bash centos-release; do
    rpmbuild -bb --quiet --target x86_64 --define "_topdir $PWD/top" --define '_unpackaged_files_terminate_build 0' $name.spec > log 2>&1 || { cat log; exit 1; }
done
mkdir -p $R/var/lib/rpm
rpm -i --justdb --nodeps --ignorearch --dbpath $PWD/$R/var/lib/rpm $(find top/RPMS -name '*.rpm')
echo '\S' > $R/etc/issue
"#;

#[test]
fn a_kernel_of_another_vendor_is_not_the_distributions() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "rpm", "rpmbuild");
    let own = guest(&format!("V=CentOS; {CENTOS}"));
    for check in ["native-kernel", "issue-file", "package-database"] {
        let (result, message) = said(&own.path("disk.raw"), check, "");
        assert_eq!(result, "pass", "{check}: {message}");
    }
    let made = guest(&format!("V='The ELRepo Project'; {CENTOS}\necho changed > $R/etc/issue"));
    let disk = made.path("disk.raw");
    assert_eq!(
        said(&disk, "native-kernel", ""),
        (
            "fail".to_owned(),
            "The kernel /boot/vmlinuz-6.1.0-9 is of package kernel 1-1, made by The ELRepo Project; the base system is \
             made by CentOS."
                .to_owned()
        )
    );
    let issue = rule(&disk, "issue-file", "", &[]);
    assert_eq!(issue.result("issue-file"), "fail");
    assert_eq!(issue.finding("issue-file")["fix"], "rm /etc/issue && yum reinstall centos-release");
    // The minor version is in centos-release alone.
    let versions = |words: &str| {
        said(&disk, "distribution", &format!("params = {{ ids = [\"centos\"], versions = [{words}] }}")).0
    };
    assert_eq!(versions("\"x86_64:centos:6.5-6.10\", \"x86_64:centos:7.0-7.9\""), "pass");
    assert_eq!(versions("\"x86_64:centos:7.0-7.8\""), "fail");
    assert_eq!(versions("\"aarch64:centos:7.6-7.9\""), "fail");
    assert_eq!(versions("\"ubuntu:14.04\""), "pass");
}

/// What each init system before systemd says of the clock: sysconfig(5) of Red Hat and SUSE, rcS(5), OpenRC's conf.d.
#[test]
fn local_time_is_seen_in_every_init_systems_file() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    for (file, local, utc) in [
        ("etc/sysconfig/clock", "UTC=false", "UTC=true"),
        ("etc/sysconfig/clock", "HWCLOCK=\\\"--localtime\\\"", "HWCLOCK=\\\"-u\\\""),
        ("etc/conf.d/hwclock", "clock=\\\"local\\\"", "clock=\\\"UTC\\\""),
    ] {
        let result = |text: &str| {
            let change = format!("mkdir -p $R/etc/sysconfig $R/etc/conf.d; echo {text} > $R/{file}");
            rule_of(&change, "rtc-mode", "").result("rtc-mode").to_owned()
        };
        assert_eq!((result(local), result(utc)), ("fail".to_owned(), "pass".to_owned()), "{file}");
    }
}

#[test]
fn what_a_manager_left_unfinished_is_seen() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    // dpkg writes what it does into numbered files first; pacman stops at the lock of one that was killed.
    let result = |change: &str| rule_of(change, "package-database", "").result("package-database").to_owned();
    assert_eq!(result("mkdir $R/var/lib/dpkg/updates; echo x > $R/var/lib/dpkg/updates/0001"), "fail");
    let pacman = "rm -r $R/var/lib/dpkg; mkdir -p $R/var/lib/pacman/local/a-1-1
        printf '%%NAME%%\\na\\n\\n%%VERSION%%\\n1-1\\n' > $R/var/lib/pacman/local/a-1-1/desc";
    assert_eq!(result(pacman), "pass");
    assert_eq!(result(&format!("{pacman}; touch $R/var/lib/pacman/db.lck")), "fail");
    assert_eq!(result("rm -r $R/var/lib/dpkg"), "not-applicable");
}

#[test]
fn a_version_that_is_not_exact_enough_is_undecided() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let made = guest(
        "printf 'ID=centos\nVERSION_ID=7\nPRETTY_NAME=CentOS\n' > $R/etc/os-release; rm $R/etc/debian_version",
    );
    let disk = made.path("disk.raw");
    let params = "params = { ids = [\"centos\"], versions = [\"centos:7.0-7.9\"] }";
    assert_eq!(said(&disk, "distribution", params).0, "undecided");
    let told = |set: &str| {
        rule(&disk, "distribution", "params = { ids = [\"centos\"] }", &["--set", set])
            .result("distribution")
            .to_owned()
    };
    assert_eq!(told("osVersion=7.4"), "undecided");
    assert_eq!((told("osVersion=7"), told("osVersion=8")), ("pass".to_owned(), "fail".to_owned()));
    assert_eq!((told("osType=linux"), told("osType=Windows")), ("pass".to_owned(), "fail".to_owned()));
    assert_eq!(
        (told("platform=Others Linux"), told("platform=Ubuntu")),
        ("pass".to_owned(), "fail".to_owned())
    );
    let told = |set: &str| {
        rule(&disk, "architecture", "params = { machines = [\"x86_64\"] }", &["--set", set])
            .result("architecture")
            .to_owned()
    };
    assert_eq!(
        (told("architecture=amd64"), told("architecture=arm_64")),
        ("pass".to_owned(), "fail".to_owned())
    );
}

#[test]
fn a_damaged_package_database_fails_its_own_rule_and_leaves_the_others_undecided() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "rpm", "rpmbuild");
    let made = guest(&format!(
        "V=CentOS; {CENTOS}\nrm -f $R/var/lib/rpm/rpmdb.sqlite-*; truncate -s 9000 $R/var/lib/rpm/rpmdb.sqlite"
    ));
    let disk = made.path("disk.raw");
    assert_eq!(said(&disk, "package-database", "").0, "fail");
    assert_eq!(said(&disk, "packages-absent", "params = { names = [\"x\"] }").0, "undecided");
    assert_eq!(said(&disk, "native-kernel", "").0, "undecided");
    assert_eq!(said(&disk, "os-known", "").0, "pass");
}

#[test]
fn real_names_are_read_as_others_read_them() {
    requires!("corpus");
    let corpus = common::corpus().unwrap().join("guest/claircore/osrelease");
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        // `-- os-release --`, the file, `-- Parsed --`, what claircore's own reader makes of it.
        let (file, parsed) = text.split_once("-- Parsed --\n").unwrap();
        let file = file.split_once("-- os-release --\n").unwrap().1.as_bytes().to_vec();
        let parsed: Value = serde_json::from_str(parsed.split("\n-- ").next().unwrap()).unwrap();
        let os = imgmount::guest::os_release::read(&Tree::new("p1", Arc::new(OneFile(file)))).unwrap();
        let field = |name: &str| parsed[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(os.id.to_string(), field("ID"));
        assert_eq!(os.version.to_string(), field("VERSION_ID"));
        assert_eq!(os.pretty.to_string(), field("PRETTY_NAME"));
    }
}
