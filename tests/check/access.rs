//! Rules of the group `access`: accounts, sshd, cloud-init, agents. One guest is as every rule wants it, one as none does,
//! and others differ in a point.

use super::*;

/// A guest that everybody gets into: a password of `openssl passwd`, a key of `ssh-keygen`, an SSH server that starts.
const OPEN: &str = r#"
mkdir -p $R/etc/ssh/sshd_config.d $R/root/.ssh $R/lib/systemd/system $R/etc/systemd/system/multi-user.target.wants
chmod 755 $R $R/root; chmod 700 $R/root/.ssh
printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/usr/sbin/nologin\n' > $R/etc/passwd
printf 'root:%s:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n' "$(openssl passwd -6 -salt saltsalt secret)" > $R/etc/shadow
chmod 0 $R/etc/shadow
printf x > $R/usr/sbin/sshd; printf x > $R/usr/bin/passwd; chmod 755 $R/usr/sbin/sshd $R/usr/bin/passwd
echo x > $R/etc/ssh/ssh_host_ed25519_key
echo '[Unit]' > $R/lib/systemd/system/ssh.service
ln -s /lib/systemd/system/ssh.service $R/etc/systemd/system/multi-user.target.wants/ssh.service
printf 'Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\nUseDNS no\nGSSAPIAuthentication no\n' > $R/etc/ssh/sshd_config
echo 'PermitRootLogin yes' > $R/etc/ssh/sshd_config.d/10-root.conf
package() { printf '\nPackage: %s\nStatus: install ok installed\nVersion: %s\n' $1 $2 >> $R/var/lib/dpkg/status; }
package openssh-server 1:9.2p1-2+deb12u3
echo localhost > $R/etc/hostname
"#;

/// Takes cloud-init away, as `apt-get remove` does: its configuration stays.
const NO_CLOUD_INIT: &str = r"
sed -i '/^Package: cloud-init/,$d' $R/var/lib/dpkg/status; rm $R/usr/bin/cloud-init
printf 'Package: cloud-init\nStatus: deinstall ok config-files\n' >> $R/var/lib/dpkg/status
";

const QEMU_GA: &str = r#"
package qemu-guest-agent 1:7.2; mkdir -p $R/lib/udev/rules.d; echo x > $R/usr/sbin/qemu-ga
echo 'ATTR{name}=="org.qemu.guest_agent.0", TAG+="systemd" ENV{SYSTEMD_WANTS}="qemu-guest-agent.service"' > $R/lib/udev/rules.d/60-qemu-guest-agent.rules
"#;

const AGENT: &str = r"
echo '[Unit]' > $R/lib/systemd/system/nimbus.service; mkdir -p $R/opt/nimbus; echo x > $R/opt/nimbus/agent
ln -s /lib/systemd/system/nimbus.service $R/etc/systemd/system/multi-user.target.wants/nimbus.service
";

/// Every rule of the group, with limits.
const RULES: &[(&str, &str)] = &[
    ("login-possible", ""),
    ("root-account", ""),
    ("root-password", ""),
    ("shadow-writable", ""),
    ("passwd-command", ""),
    ("sshd-enabled", ""),
    ("sshd-root-login", ""),
    ("sshd-options", "options = ['UseDNS=no', 'GSSAPIAuthentication=no']"),
    ("cloud-init", ""),
    ("cloud-init-absent", ""),
    ("cloud-init-datasource", "any_of = ['ConfigDrive']"),
    ("cloud-init-stale", ""),
    ("guest-agent", "any_of = ['qemu-ga']"),
    ("guest-agent-absent", ""),
    ("agent", "files = ['/opt/nimbus/agent'], services = ['nimbus']"),
    ("conflicting-tools", ""),
    ("hostname", ""),
];

/// Several rules on one image.
fn rules(image: &Path, rules: &[(&str, &str)]) -> Checked {
    let mut text = "id = \"one\"\ntitle = \"x\"\ntitle_zh = \"x\"\ndocument = \"x\"\nurl = \"x\"\n\
                    document_date = \"x\"\nchecked_on = \"x\"\n"
        .to_owned();
    for (check, params) in rules {
        text += &format!(
            "[[rule]]\ncheck = \"{check}\"\nlevel = \"warning\"\nwhy = \"x\"\nwhy_zh = \"x\"\nfix = \"x\"\n\
             fix_zh = \"x\"\nclause = \"x\"\nparams = {{ {params} }}\n"
        );
    }
    let dir = tempdir();
    let profile = dir.path().join("several.toml");
    std::fs::write(&profile, text).unwrap();
    let output =
        imgmount(["check", image.to_str().unwrap(), "--profile-file", profile.to_str().unwrap(), "--json"]);
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", stdout(&output), stderr(&output)));
    Checked { output, json }
}

/// The results of every rule of the group, one line each.
fn results(checked: &Checked) -> Vec<String> {
    RULES.iter().map(|(id, _)| format!("{id} {}", checked.result(id))).collect()
}

/// Changes a file of the root in the disk of a guest, past its file system driver.
fn debugfs(made: &Made, command: &str) {
    let disk = made.path("disk.raw");
    sh(&format!("debugfs -w -R '{command}' '{}?offset=1048576' 2>/dev/null", disk.display()));
}

#[test]
fn a_guest_that_everybody_gets_into() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "openssl");
    let made = guest(&format!("{OPEN}{NO_CLOUD_INIT}{QEMU_GA}{AGENT}"));
    let checked = rules(&made.path("disk.raw"), RULES);
    let expected = [
        "login-possible pass",
        "root-account pass",
        "root-password pass",
        "shadow-writable pass",
        "passwd-command pass",
        "sshd-enabled pass",
        "sshd-root-login pass",
        "sshd-options pass",
        "cloud-init fail",
        "cloud-init-absent pass",
        "cloud-init-datasource not-applicable",
        "cloud-init-stale not-applicable",
        "guest-agent pass",
        "guest-agent-absent fail",
        "agent pass",
        "conflicting-tools pass",
        "hostname pass",
    ];
    assert_eq!(results(&checked), expected, "{:#}", checked.json);
    assert_eq!(checked.message("root-password"), "root has a password, hashed with SHA-512.");
    assert_eq!(
        checked.finding("sshd-root-login")["evidence"][0]["path"],
        "/etc/ssh/sshd_config.d/10-root.conf"
    );
    assert_eq!(checked.finding("guest-agent-absent")["fix"], "apt-get purge qemu-guest-agent");
    assert!(!checked.json.to_string().contains("saltsalt"));
}

#[test]
fn a_guest_that_nobody_gets_into() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "openssl", "debugfs");
    let made = guest(&format!(
        "{OPEN}
         sed -i 's/^root:/root:!/' $R/etc/shadow; sed -i 's#/bin/sh#/bin/zsh#' $R/etc/passwd
         rm $R/usr/bin/passwd $R/etc/systemd/system/multi-user.target.wants/ssh.service
         echo 'UseDNS yes' > $R/etc/ssh/sshd_config.d/00.conf; echo 'PermitRootLogin no' >> $R/etc/ssh/sshd_config.d/00.conf
         touch $R/etc/cloud/cloud-init.disabled; echo 'datasource_list: [ Ec2 ]' > $R/etc/cloud/cloud.cfg.d/99.cfg
         mkdir -p $R/var/lib/cloud/instances/i-1; ln -s /var/lib/cloud/instances/i-1 $R/var/lib/cloud/instance
         echo '[Unit]' > $R/lib/systemd/system/nimbus.service
         package open-vm-tools 2:12; mkdir -p $R/opt/VBoxGuestAdditions-7.0.4; echo web01 > $R/etc/hostname"
    ));
    // EXT4_EXTENTS_FL and EXT4_IMMUTABLE_FL.
    debugfs(&made, "set_inode_field /etc/shadow flags 0x80010");
    let checked = rules(&made.path("disk.raw"), RULES);
    let expected = [
        "login-possible fail",
        "root-account fail",
        "root-password fail",
        "shadow-writable fail",
        "passwd-command fail",
        "sshd-enabled fail",
        "sshd-root-login fail",
        "sshd-options fail",
        "cloud-init fail",
        "cloud-init-absent fail",
        "cloud-init-datasource fail",
        "cloud-init-stale fail",
        "guest-agent fail",
        "guest-agent-absent pass",
        "agent fail",
        "conflicting-tools fail",
        "hostname fail",
    ];
    assert_eq!(results(&checked), expected, "{:#}", checked.json);
    assert_eq!(checked.message("root-password"), "The password of root is locked.");
    assert_eq!(
        checked.message("conflicting-tools"),
        "VMware Tools, VirtualBox Guest Additions are installed."
    );
    assert_eq!(checked.message("agent"), "The agent nimbus is installed, but nothing starts it at boot.");
    assert_eq!(checked.finding("shadow-writable")["fix"], "chattr -i /etc/shadow");
    assert_eq!(checked.finding("sshd-enabled")["evidence"][0]["path"], "/usr/sbin/sshd");
}

#[test]
fn a_key_lets_in_where_the_server_trusts_its_file() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "openssl", "ssh-keygen", "debugfs", "root");
    let made = guest(&format!(
        "{OPEN}{NO_CLOUD_INIT}
         sed -i 's/^root:[^:]*/root:*/' $R/etc/shadow
         ssh-keygen -q -t ed25519 -N '' -f key; cp key.pub $R/root/.ssh/authorized_keys; chmod 600 $R/root/.ssh/authorized_keys
         sed -i 's/errors=remount-ro/ro/' $R/etc/fstab"
    ));
    let image = made.path("disk.raw");
    let asked = [("login-possible", ""), ("root-password", ""), ("shadow-writable", "")];
    let checked = rules(&image, &asked);
    assert_eq!((checked.result("login-possible"), checked.result("root-password")), ("pass", "fail"));
    assert_eq!(checked.message("login-possible"), "root can log in with a key.");
    assert_eq!(
        checked.message("shadow-writable"),
        "/etc/fstab mounts the root read-only, so no password can be set."
    );
    debugfs(&made, "set_inode_field /root/.ssh/authorized_keys mode 0100666");
    assert_eq!(rules(&image, &asked).result("login-possible"), "fail");
}

#[test]
fn cloud_init_lets_in_who_has_neither_password_nor_key() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "openssl");
    let made = guest(&format!(
        "{OPEN}sed -i 's/^root:[^:]*/root:*/' $R/etc/shadow; echo web01 > $R/etc/hostname
         rm $R/etc/ssh/ssh_host_ed25519_key; rm -r $R/etc/ssh/sshd_config.d"
    ));
    let checked = rules(
        &made.path("disk.raw"),
        &[("login-possible", ""), ("hostname", ""), ("sshd-enabled", ""), ("sshd-root-login", "")],
    );
    assert_eq!((checked.result("login-possible"), checked.result("hostname")), ("pass", "pass"));
    assert_eq!((checked.result("sshd-enabled"), checked.result("sshd-root-login")), ("pass", "fail"));
    assert_eq!(checked.message("sshd-root-login"), "root may not log in by SSH (PermitRootLogin no).");
}

#[test]
fn passwords_end_and_hashes_are_weak() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "openssl");
    let message = |change: &str| {
        let made = guest(&format!("{OPEN}{change}"));
        rules(&made.path("disk.raw"), &[("root-password", "")]).message("root-password").to_owned()
    };
    assert_eq!(
        message(
            "printf 'root:%s:0:0:99999:7:::\n' \"$(openssl passwd -1 -salt abcdefgh x)\" > $R/etc/shadow"
        ),
        "root has a password, hashed with MD5, which is weak. It must be changed at the first login."
    );
    assert_eq!(message("sed -i 's/:7:::/:7::1:/' $R/etc/shadow"), "The account root expired.");
}

#[test]
fn what_is_not_set_is_the_default_of_the_version() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "openssl");
    // The package list cannot be read; the server says its version.
    let made = guest(&format!(
        "{OPEN}rm -r $R/etc/ssh/sshd_config.d; : > $R/etc/ssh/sshd_config
         rm -r $R/var/lib/dpkg; mkdir -p $R/var/lib/rpm; head -c 5000 /dev/zero > $R/var/lib/rpm/Packages
         printf 'x OpenSSH_6.6.1p1 Ubuntu x' > $R/usr/sbin/sshd"
    ));
    let checked = rules(
        &made.path("disk.raw"),
        &[("sshd-root-login", ""), ("sshd-options", "options = ['UseDNS=no']"), ("cloud-init-absent", "")],
    );
    assert_eq!(
        checked.message("sshd-root-login"),
        "root may log in by SSH (PermitRootLogin yes), the default of this version."
    );
    assert_eq!(checked.message("sshd-options"), "Of sshd's options, UseDNS is yes by default.");
    assert_eq!(checked.result("cloud-init-absent"), "undecided", "{:#}", checked.json);
}

#[test]
fn an_agent_of_a_vendor_is_found_without_a_package() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "openssl");
    let made = guest(&format!(
        "{OPEN}mkdir -p $R/etc/rc3.d $R/etc/init.d; echo x > $R/usr/sbin/hhga; echo x > $R/etc/init.d/hhga
         ln -s ../init.d/hhga $R/etc/rc3.d/S20hhga"
    ));
    let image = made.path("disk.raw");
    let asked = |any_of: &str| rules(&image, &[("guest-agent", any_of)]).result("guest-agent").to_owned();
    assert_eq!(asked("any_of = ['qemu-ga', 'hhga']"), "pass");
    assert_eq!(asked("any_of = ['hhgad']"), "fail");
}

/// Expected values: `sshd -T` of OpenSSH 9.2p1 with this file, and the line of the sample's shadow.
#[test]
fn files_of_others_are_understood() {
    requires!("corpus", "mkfs.ext4", "sfdisk", "cpio", "zstd", "openssl");
    let etc = common::corpus().unwrap().join("guest/augeas/root/etc");
    let made = guest(&format!(
        "{OPEN}cd $R/etc; S='{}'; cp $S/passwd $S/shadow .; cp $S/ssh/sshd_config ssh/; cd - > /dev/null; printf x > $R/bin/bash",
        etc.display()
    ));
    let options = "options = ['UsePAM=yes', 'GSSAPIAuthentication=yes', 'PasswordAuthentication=yes', \
                   'ChallengeResponseAuthentication=no', 'X11Forwarding=yes', 'Port=22', 'UseDNS=no', \
                   'PermitRootLogin=without-password']";
    let checked = rules(
        &made.path("disk.raw"),
        &[("sshd-options", options), ("root-account", ""), ("root-password", ""), ("login-possible", "")],
    );
    assert_eq!(checked.message("sshd-options"), "sshd's options are as wanted.");
    assert_eq!(checked.result("root-account"), "pass", "{}", checked.message("root-account"));
    assert_eq!(checked.message("root-password"), "root has a password, hashed with SHA-256.");
    assert_eq!(checked.message("login-possible"), "root can log in with a password.");
}

#[test]
fn the_real_debian_lets_in_by_cloud_init() {
    requires!("guest");
    let disk = common::guest().unwrap().join("disk.raw");
    let checked = rules(&disk, RULES);
    let expected = [
        "login-possible pass",
        "root-account pass",
        "root-password fail",
        "shadow-writable pass",
        "passwd-command pass",
        "sshd-enabled pass",
        "sshd-root-login fail",
        "sshd-options pass",
        "cloud-init pass",
        "cloud-init-absent fail",
        "cloud-init-datasource pass",
        "cloud-init-stale pass",
        "guest-agent fail",
        "guest-agent-absent pass",
        "agent fail",
        "conflicting-tools pass",
        "hostname pass",
    ];
    assert_eq!(results(&checked), expected, "{:#}", checked.json);
}
