//! Rules of the group `windows`, on a small Windows Server 2016: its hives are made by `tests/make/hive.py` and changed by
//! hivex, its volume by mkfs.vfat and mtools, a real one's by mkntfs. What is expected is what was written there, or
//! what hivexget shows of a real hive.

use super::*;
use common::root;
use std::sync::OnceLock;

/// What making such a disk takes.
macro_rules! requires_hives {
    ($($more:expr),*) => {
        requires!("python3", "sfdisk", "mkfs.vfat", "mcopy", "hivexget" $(, $more)*)
    };
}

/// A sound Windows Server 2016 with virtio drivers as virtio-win installs them, cloudbase-init and the QEMU guest agent.
const SYSTEM: &str = r#"
[Select]
"Current"=dword:00000001
[MountedDevices]
"\\DosDevices\\C:"=hex:78,56,34,12,00,00,10,00,00,00,00,00
[Setup]
"SystemSetupInProgress"=dword:00000000
"OOBEInProgress"=dword:00000000
[ControlSet002\Services\viostor]
"Start"=dword:00000004
[ControlSet001\Services\viostor]
"Start"=dword:00000000
"ImagePath"=expand:"System32\\drivers\\viostor.sys"
[ControlSet001\Services\netkvm]
"Start"=dword:00000003
"ImagePath"=expand:"\\SystemRoot\\System32\\drivers\\netkvm.sys"
[ControlSet001\Services\partmgr]
"Start"=dword:00000000
[ControlSet001\Services\MpsSvc]
"Start"=dword:00000002
[ControlSet001\Services\TermService]
"Start"=dword:00000003
[ControlSet001\Services\QEMU-GA]
"Start"=dword:00000002
"ImagePath"=expand:"\"C:\\Program Files\\qemu-ga\\qemu-ga.exe\" -d --retry-path"
[ControlSet001\Services\cloudbase-init]
"Start"=dword:00000002
"ImagePath"=expand:"\"C:\\Program Files\\Cloudbase Solutions\\Cloudbase-Init\\bin\\OpenStackService.exe\" cloudbase-init \"C:\\x.exe\" --config-file \"C:\\cb\\cloudbase-init.conf\""
[ControlSet001\Services\SharedAccess\Parameters\FirewallPolicy\DomainProfile]
"EnableFirewall"=dword:00000000
[ControlSet001\Services\SharedAccess\Parameters\FirewallPolicy\StandardProfile]
"EnableFirewall"=dword:00000000
[ControlSet001\Services\SharedAccess\Parameters\FirewallPolicy\PublicProfile]
"EnableFirewall"=dword:00000000
[ControlSet001\Services\Tcpip\Parameters\Interfaces\{4f2a0c4e-0001-0000-0000-000000000001}]
"EnableDHCP"=dword:00000001
[ControlSet001\Control\Network\{4D36E972-E325-11CE-BFC1-08002BE10318}\{4F2A0C4E-0001-0000-0000-000000000001}\Connection]
"Name"="\u672c\u5730\u8fde\u63a5"
"PnpInstanceID"="PCI\\VEN_1AF4&DEV_1000&SUBSYS_00011AF4&REV_00\\3&13c0b0c5&0&18"
[ControlSet001\Control\Class\{4d36e967-e325-11ce-bfc1-08002be10318}]
"UpperFilters"=multi:"partmgr"
[ControlSet001\Control\Terminal Server]
"fDenyTSConnections"=dword:00000000
[ControlSet001\Control\Terminal Server\WinStations\RDP-Tcp]
"PortNumber"=dword:00000d3d
[ControlSet001\Control\Session Manager\Power]
"HiberbootEnabled"=dword:00000000
[DriverDatabase\DeviceIds\PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00]
"oem1.inf"=hex:01,ff,00,00
[DriverDatabase\DriverInfFiles\oem1.inf]
"Active"="viostor.inf_amd64_520417bbc533faba"
[DriverDatabase\DriverPackages\viostor.inf_amd64_520417bbc533faba\Configurations\scsi_inst]
"Service"="viostor"
"#;

/// Its SOFTWARE; `LICENSE` stands for the bytes of `DigitalProductId4`.
const SOFTWARE: &str = r#"
[Microsoft\Windows NT\CurrentVersion]
"ProductName"="Windows Server 2016 Standard"
"EditionID"="ServerStandard"
"InstallationType"="Server"
"CurrentVersion"="6.3"
"CurrentMajorVersionNumber"=dword:0000000a
"CurrentMinorVersionNumber"=dword:00000000
"CurrentBuildNumber"="14393"
"SystemRoot"="C:\\Windows"
"DigitalProductId4"=LICENSE
[Microsoft\Windows\CurrentVersion\Setup\State]
"ImageState"="IMAGE_STATE_COMPLETE"
[Microsoft\Windows\CurrentVersion\Uninstall\{1}]
"DisplayName"="QEMU guest agent"
"Publisher"="RedHat"
[Microsoft\Windows\CurrentVersion\Uninstall\{2}]
"DisplayName"="Cloudbase-Init 1.1.4"
[Wow6432Node\Microsoft\Windows\CurrentVersion\Uninstall\{3}]
"DisplayName"="Notepad"
[Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages\Package_for_KB4486129~31bf3856ad364e35~amd64~~10.0.1.1]
"CurrentState"=dword:00000070
"#;

/// Its boot store: one entry, the default one, on the partition at 1 MiB of the disk with signature 12345678.
const BCD: &str = r#"
[Objects\{9dea862c-5cdd-4e70-acc1-f32b344d4795}\Description]
"Type"=dword:10100002
[Objects\{9dea862c-5cdd-4e70-acc1-f32b344d4795}\Elements\23000003]
"Element"="{733b62e5-f608-11eb-825c-c112f60133ab}"
[Objects\{733b62e5-f608-11eb-825c-c112f60133ab}\Description]
"Type"=dword:10200003
[Objects\{733b62e5-f608-11eb-825c-c112f60133ab}\Elements\12000002]
"Element"="\\Windows\\system32\\winload.exe"
[Objects\{733b62e5-f608-11eb-825c-c112f60133ab}\Elements\21000001]
"Element"=hex:00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,06,00,00,00,00,00,00,00,48,00,00,00,00,00,00,00,00,00,10,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,01,00,00,00,78,56,34,12,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00
[Objects\{733b62e5-f608-11eb-825c-c112f60133ab}\Elements\22000002]
"Element"="\\Windows"
"#;

/// Makes the hives in `hives/`, the files in `root/` and the disk of them. `pe FILE MACHINE` makes headers of a program.
const MAKE: &str = r#"
pe() { { printf 'MZ'; head -c 58 /dev/zero; printf '\x80'; head -c 67 /dev/zero; printf "PE\0\0$2"; head -c 500 /dev/zero; } > "$1"; }
mkdir -p hives root/{Boot,Windows/System32/{config,drivers,DriverStore/FileRepository},cb} "root/Program Files/Cloudbase Solutions/Cloudbase-Init/bin"
for name in SYSTEM SOFTWARE SAM SECURITY DEFAULT; do
    [ -e $name.txt ] || echo '[Some]' > $name.txt
    $HIVE $name.txt hives/$name
done
cp hives/* root/Windows/System32/config; $HIVE BCD.txt root/Boot/BCD; echo x > root/bootmgr
for name in ntoskrnl.exe winload.exe drivers/viostor.sys drivers/netkvm.sys drivers/partmgr.sys; do
    pe root/Windows/System32/$name '\x64\x86'
done
pe "root/Program Files/Cloudbase Solutions/Cloudbase-Init/bin/OpenStackService.exe" '\x64\x86'
printf '[DEFAULT]\r\nmetadata_services=cloudbaseinit.metadata.services.configdrive.ConfigDriveService,\r\n' > root/cb/cloudbase-init.conf
truncate -s 23M part; mkfs.vfat -F 16 -s 4 part > /dev/null; mcopy -s -i part root/* ::
truncate -s 24M disk.raw; printf 'label: dos\nlabel-id: 0x12345678\nstart=2048, type=e, bootable\n' | sfdisk -q disk.raw
dd if=part of=disk.raw bs=1M seek=1 conv=notrunc,sparse status=none
"#;

/// `DigitalProductId4` with a channel.
fn license(channel: &str) -> String {
    let mut bytes = vec![0_u8; 0x4f8];
    for (at, byte) in channel.bytes().enumerate() {
        bytes[0x3f8 + 2 * at] = byte;
    }
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hex:{}", digits.join(","))
}

/// The folder with the sound system, made once in each run.
fn sound() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = common::lasting("check-windows");
        let software = SOFTWARE.replace("LICENSE", &license("Volume:GVLK"));
        for (name, text) in [("SYSTEM", SYSTEM), ("SOFTWARE", software.as_str()), ("BCD", BCD)] {
            std::fs::write(dir.join(format!("{name}.txt")), text).unwrap();
        }
        let hive = format!("/usr/bin/python3 {}", root().join("tests/make/hive.py").display());
        sh(&format!("cd '{}'; HIVE='{hive}'\n{MAKE}", dir.display()));
        dir
    })
}

/// The sound system with changes: to its hives as `tests/make/change_hive.py` reads them, to its files by mtools, where `$P`
/// is its volume; `pe`, `change HIVE TEXT` and `$B`, the folder of the sound one, are there too.
fn changed(system: &str, software: &str, files: &str) -> Made {
    let (dir, sound) = (tempdir(), sound().display());
    let mut script = format!(
        "cd '{}'; B='{sound}'; P='disk.raw@@1M'; cp --sparse=always $B/disk.raw .\n",
        dir.path().display()
    );
    script.push_str(MAKE.lines().find(|line| line.starts_with("pe()")).unwrap());
    script.push_str(&format!(
        "\nchange() {{ /usr/bin/python3 {} $1 $2; }}",
        root().join("tests/make/change_hive.py").display()
    ));
    for (name, text) in [("SYSTEM", system), ("SOFTWARE", software)] {
        if !text.is_empty() {
            std::fs::write(dir.path().join(name.to_lowercase()), text).unwrap();
            script.push_str(&format!(
                "\ncp $B/hives/{name} .; change {name} {}; mcopy -o -i $P {name} ::Windows/System32/config/{name}",
                name.to_lowercase()
            ));
        }
    }
    sh(&format!("{script}\n{files}"));
    Made { dir }
}

/// Several checks of one disk: names, each with its limits.
fn rules(image: &Path, checks: &[(&str, &str)]) -> Checked {
    let dir = tempdir();
    let mut text = "id = \"one\"\ntitle = \"x\"\ntitle_zh = \"x\"\ndocument = \"x\"\nurl = \"x\"\ndocument_date = \"x\"\n\
        checked_on = \"x\"\n"
        .to_owned();
    for (check, params) in checks {
        text.push_str(&format!(
            "[[rule]]\ncheck = \"{check}\"\nlevel = \"blocker\"\nwhy = \"x\"\nwhy_zh = \"x\"\nfix = \"x\"\nfix_zh = \"x\"\n\
             clause = \"x\"\n{params}\n"
        ));
    }
    let profile = dir.path().join("one.toml");
    std::fs::write(&profile, text).unwrap();
    let args = ["check", image.to_str().unwrap(), "--profile-file", profile.to_str().unwrap(), "--json"];
    let output = imgmount(args);
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", stdout(&output), stderr(&output)));
    Checked { output, json }
}

/// Every rule of the group, with limits that fit the sound system.
const ALL: &[(&str, &str)] = &[
    ("windows-version", "params = { versions = [\"2012 R2\", \"2016\"] }"),
    ("windows-edition", ""),
    ("windows-boot", ""),
    ("windows-hives", ""),
    ("virtio-windows-disk", DISK),
    ("virtio-windows-network", "params = { services = [\"netkvm\"] }"),
    ("windows-class-filters", ""),
    ("windows-xen-leftovers", ""),
    ("windows-hotfixes-absent", "params = { names = [\"KB5009624\"] }"),
    ("windows-pending-update", ""),
    ("windows-sysprep", ""),
    ("windows-hibernation", ""),
    ("windows-dirty", ""),
    ("windows-dhcp", ""),
    ("windows-connection-name", "params = { names = [\"本地连接\"] }"),
    ("windows-firewall", ""),
    ("windows-rdp", ""),
    ("windows-activation", ""),
    ("windows-oem", ""),
    ("windows-device-install", ""),
    ("cloudbase-init", ""),
    ("cloudbase-init-metadata", "params = { any_of = [\"ConfigDriveService\"] }"),
    ("windows-guest-agent", "params = { any_of = [\"QEMU-GA\"] }"),
    ("windows-agent", "params = { files = [\"cb\"] }"),
    ("windows-conflicting-tools", ""),
];
const DISK: &str = "params = { services = [\"viostor\", \"vioscsi\"] }";
/// Those that want the opposite of others.
const OPPOSITE: &[(&str, &str)] = &[("cloudbase-init-absent", ""), ("windows-guest-agent-absent", "")];

#[test]
fn a_sound_windows_passes_every_rule() {
    requires_hives!();
    let made = changed("", "", "");
    let checked = rules(&made.path("disk.raw"), ALL);
    for (rule, _) in ALL {
        assert_eq!(checked.result(rule), "pass", "{rule}: {:#}", checked.finding(rule));
    }
    assert_eq!(
        checked.message("windows-edition"),
        "It is Windows Server 2016 Standard: build 14393, edition ServerStandard, installation Server, x86_64."
    );
    let evidence = &checked.finding("virtio-windows-disk")["evidence"];
    assert_eq!(evidence[0]["what"], r"HKLM\SYSTEM\ControlSet001\Services\viostor: Start = 0");
    assert_eq!(evidence[0]["path"], "/Windows/System32/config/SYSTEM");
    assert_eq!(evidence[1]["path"], "/Windows/System32/drivers/viostor.sys");
    let checked = rules(&made.path("disk.raw"), OPPOSITE);
    for (rule, _) in OPPOSITE {
        assert_eq!(checked.result(rule), "fail", "{rule}");
    }
    let checked = rules(&made.path("disk.raw"), &[("windows-sha2", "")]);
    assert_eq!(checked.result("windows-sha2"), "not-applicable");
}

#[test]
fn a_windows_in_which_everything_is_wrong_fails_every_rule() {
    requires_hives!();
    let made = changed(
        r#"[-ControlSet001\Services\viostor]
[-ControlSet001\Services\netkvm]
[-ControlSet001\Services\cloudbase-init]
[-ControlSet001\Services\QEMU-GA]
[ControlSet001\Control\Class\{4d36e967-e325-11ce-bfc1-08002be10318}]
"UpperFilters"=multi:"partmgr","gone"
[ControlSet001\Services\XenPCI\Parameters]
"hide_devices"=multi:"IDE"
[ControlSet001\Services\DeviceInstall\Parameters]
"DeviceInstallDisabled"=dword:00000001
[ControlSet001\Services\VMTools]
"Start"=dword:00000002
[ControlSet001\Services\SharedAccess\Parameters\FirewallPolicy\PublicProfile]
"EnableFirewall"=dword:00000001
[ControlSet001\Services\Tcpip\Parameters\Interfaces\{4f2a0c4e-0001-0000-0000-000000000001}]
"EnableDHCP"=dword:00000000
"IPAddress"=multi:"10.0.0.9"
[ControlSet001\Control\Network\{4D36E972-E325-11CE-BFC1-08002BE10318}\{4F2A0C4E-0001-0000-0000-000000000001}\Connection]
"Name"="Ethernet"
[ControlSet001\Control\Terminal Server]
"fDenyTSConnections"=dword:00000001
[ControlSet001\Control\Session Manager\Power]
"HiberbootEnabled"=dword:00000001
"#,
        &format!(
            r#"[Microsoft\Windows NT\CurrentVersion]
"CurrentBuildNumber"="17763"
"DigitalProductId4"={}
[Microsoft\Windows\CurrentVersion\Setup\State]
"ImageState"="IMAGE_STATE_UNDEPLOYABLE"
[-Microsoft\Windows\CurrentVersion\Uninstall\{{1}}]
[-Microsoft\Windows\CurrentVersion\Uninstall\{{2}}]
[Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending]
[Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages\Package_for_KB5009624~31bf3856ad364e35~amd64~~10.0.1.1]
"CurrentState"=dword:00000070
"#,
            license("OEM:DM")
        ),
        "printf 'HIBR0000' > h; mcopy -i $P h ::hiberfil.sys; mdel -i $P ::bootmgr ::Windows/System32/config/SAM; mdeltree -i $P ::cb
         printf '\\xf8\\xff\\xff\\x7f' | dd of=disk.raw bs=1 seek=$((1048576 + 2048)) conv=notrunc status=none",
    );
    let checked = rules(&made.path("disk.raw"), ALL);
    // What is told and never judged, and what does not arise without cloudbase-init.
    let others = ["windows-edition", "windows-activation", "cloudbase-init-metadata"];
    for (rule, _) in ALL.iter().filter(|(rule, _)| !others.contains(rule)) {
        assert_eq!(checked.result(rule), "fail", "{rule}: {:#}", checked.finding(rule));
    }
    for (rule, said) in [
        (
            "windows-version",
            "Windows Server 2016 Standard (build 17763), and only these are offered: 2012 R2, 2016",
        ),
        ("windows-boot", "/bootmgr"),
        ("windows-hives", "SAM is not there"),
        ("virtio-windows-disk", "looked for: viostor, vioscsi"),
        ("windows-class-filters", "gone, that is not installed"),
        ("windows-xen-leftovers", "hides devices (IDE)"),
        ("windows-pending-update", r"Component Based Servicing\RebootPending"),
        ("windows-hibernation", "fast startup"),
        ("windows-dhcp", "'Ethernet' has a fixed address (10.0.0.9)"),
        ("windows-connection-name", "there are: Ethernet"),
        ("windows-firewall", "on for: public"),
        ("windows-rdp", "not allowed"),
        ("windows-oem", "OEM:DM"),
        ("windows-conflicting-tools", "VMware Tools"),
    ] {
        assert!(checked.message(rule).contains(said), "{rule}: {}", checked.message(rule));
    }
    let checked = rules(&made.path("disk.raw"), OPPOSITE);
    for (rule, _) in OPPOSITE {
        assert_eq!(checked.result(rule), "pass", "{rule}: {:#}", checked.finding(rule));
    }
}

/// What a check says of a changed system.
fn said(check: (&str, &str), system: &str, software: &str, files: &str) -> (String, String) {
    let made = changed(system, software, files);
    let checked = rules(&made.path("disk.raw"), &[check]);
    (checked.result(check.0).to_owned(), checked.message(check.0).to_owned())
}

#[test]
fn a_driver_counts_when_it_would_really_be_started() {
    requires_hives!();
    let viostor = r"[ControlSet001\Services\viostor]";
    let unbound = r"[-DriverDatabase\DriverPackages\viostor.inf_amd64_520417bbc533faba\Configurations]";
    let seen = r#"[ControlSet001\Enum\PCI\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01\3&1]
"Service"="viostor""#;
    let legacy = r#"[-DriverDatabase]
[ControlSet001\Control\CriticalDeviceDatabase\pci#ven_1af4&dev_1001&subsys_00021af4]
"Service"="viostor""#;
    let old = legacy.replace("dev_1001", "dev_1002");
    let sys = "::Windows/System32/drivers/viostor.sys";
    for (system, files, result, words) in [
        (
            format!("{viostor}\n\"Start\"=dword:00000003"),
            String::new(),
            "fail",
            "start is 'demand' and must be 'boot'",
        ),
        (format!("{viostor}\n\"Start\"=dword:00000004"), String::new(), "fail", "start is 'disabled'"),
        (
            "[ControlSet001\\Services\\viostor\\StartOverride]\n\"0\"=dword:00000003".to_owned(),
            String::new(),
            "fail",
            "StartOverride",
        ),
        (
            String::new(),
            format!("mdel -i $P {sys}"),
            "fail",
            "/Windows/System32/drivers/viostor.sys is not there",
        ),
        (
            String::new(),
            format!("head -c 900 /dev/zero > z; mcopy -o -i $P z {sys}"),
            "fail",
            "is no program",
        ),
        (String::new(), format!("pe z '\\x4c\\x01'; mcopy -o -i $P z {sys}"), "fail", "is for i386"),
        (unbound.to_owned(), String::new(), "fail", "nothing binds it"),
        (format!("{unbound}\n{seen}"), String::new(), "pass", "bound"),
        (legacy.to_owned(), String::new(), "pass", "bound"),
        (old, String::new(), "fail", "nothing binds it"),
        (
            r"[-ControlSet001\Services\viostor]".to_owned(),
            "mmd -i $P ::Windows/System32/DriverStore/FileRepository/viostor.inf_amd64_1".to_owned(),
            "fail",
            "only lies in the driver store",
        ),
        (r"[-ControlSet001]".to_owned(), String::new(), "undecided", "ControlSet001"),
    ] {
        let (found, message) = said(("virtio-windows-disk", DISK), &system, "", &files);
        assert_eq!(found, result, "{system}{files}: {message}");
        assert!(message.contains(words), "{system}{files}: {message}");
    }
    // A hive of its own for the driver database, as Windows 8 and later may have it.
    let moved = "echo '[-DriverDatabase]' > d; cp $B/hives/SYSTEM s; change s d
        cp $B/hives/SYSTEM DRIVERS; mcopy -o -i $P s ::Windows/System32/config/SYSTEM; mcopy -i $P DRIVERS ::Windows/System32/config/DRIVERS";
    let (found, message) = said(("virtio-windows-disk", DISK), "", "", moved);
    assert_eq!(found, "pass", "{message}");
}

#[test]
fn a_network_driver_may_wait_in_the_driver_store() {
    requires_hives!();
    let check = ("virtio-windows-network", "params = { services = [\"netkvm\"] }");
    let gone = r"[-ControlSet001\Services\netkvm]";
    let staged = "mmd -i $P ::Windows/System32/DriverStore/FileRepository/netkvm.inf_amd64_1";
    assert_eq!(said(check, gone, "", staged).0, "pass");
    let off = "[ControlSet001\\Services\\netkvm]\n\"Start\"=dword:00000004";
    let (found, message) = said(check, off, "", "");
    assert_eq!(
        (found.as_str(), message.as_str()),
        ("fail", "The network driver netkvm is installed, but disabled.")
    );
}

#[test]
fn a_firewall_that_filters_may_let_remote_desktop_in() {
    requires_hives!();
    let policy = r"ControlSet001\Services\SharedAccess\Parameters\FirewallPolicy";
    let on = format!("[{policy}\\PublicProfile]\n\"EnableFirewall\"=dword:00000001\n");
    let rule = |text: &str| {
        format!(
            "{on}[{policy}\\FirewallRules]\n\"RDP\"=\"v2.26|Action=Allow|Active=TRUE|Dir=In|Protocol=6|{text}\""
        )
    };
    let rdp = ("windows-rdp", "");
    for (system, result, words) in [
        (on.clone(), "fail", "profile 'public' has no rule"),
        (rule("LPort=3389|App=x|"), "pass", "reachable"),
        (rule("LPort=3389|Profile=Domain|"), "fail", "profile 'public' has no rule"),
        (rule("LPort=22|"), "fail", "profile 'public' has no rule"),
        (
            "[ControlSet001\\Services\\TermService]\n\"Start\"=dword:00000004".to_owned(),
            "fail",
            "TermService is disabled",
        ),
        (
            "[ControlSet001\\Control\\Terminal Server\\WinStations\\RDP-Tcp]\n\"PortNumber\"=dword:00000d3e"
                .to_owned(),
            "fail",
            "listens on port 3390",
        ),
        (format!("{on}[ControlSet001\\Services\\MpsSvc]\n\"Start\"=dword:00000004"), "pass", "reachable"),
    ] {
        let (found, message) = said(rdp, &system, "", "");
        assert_eq!(found, result, "{system}: {message}");
        assert!(message.contains(words), "{message}");
    }
    // A group policy goes before the machine's own setting.
    let told = "[Policies\\Microsoft\\WindowsFirewall\\PublicProfile]\n\"EnableFirewall\"=dword:00000001";
    assert_eq!(said(("windows-firewall", ""), "", told, "").0, "fail");
}

#[test]
fn the_boot_store_must_lead_to_the_system() {
    requires_hives!();
    let check = ("windows-boot", "");
    let sign = "printf '\\x01' | dd of=disk.raw bs=1 seek=440 conv=notrunc status=none";
    let bcd = |change: &str| {
        format!("mcopy -i $P ::Boot/BCD b; printf '{change}' > c; change b c; mcopy -o -i $P b ::Boot/BCD")
    };
    let entry = r"Objects\\{733b62e5-f608-11eb-825c-c112f60133ab}";
    for (files, result, words) in [
        ("mdel -i $P ::Boot/BCD".to_owned(), "fail", "No boot store is in this image"),
        ("head -c 9000 /dev/zero > z; mcopy -o -i $P z ::Boot/BCD".to_owned(), "fail", "damaged"),
        (sign.to_owned(), "fail", "do not fit together"),
        (bcd(&format!("[-{entry}]\\n")), "fail", "No default entry"),
        (bcd(&format!("[-{entry}\\\\Elements\\\\22000002]\\n")), "fail", "No default entry"),
        ("mdel -i $P ::Windows/System32/winload.exe".to_owned(), "fail", "/Windows/system32/winload.exe"),
    ] {
        let (found, message) = said(check, "", "", &files);
        assert_eq!(found, result, "{files}: {message}");
        assert!(message.contains(words), "{files}: {message}");
    }
}

#[test]
fn a_hive_is_judged_by_its_base_block_and_its_logs() {
    requires_hives!();
    let check = ("windows-hives", "");
    let config = "::Windows/System32/config";
    let hive = format!("/usr/bin/python3 {}", root().join("tests/make/hive.py").display());
    let dirty = format!(
        "cd .; echo '[Some]' > one; echo '[Other]' > two; {hive} --then two --log old one SAM; mcopy -o -i $P SAM {config}/SAM"
    );
    for (files, result, words) in [
        (format!("echo hello > z; mcopy -o -i $P z {config}/SECURITY"), "fail", "SECURITY is damaged"),
        (format!("mdel -i $P {config}/DEFAULT"), "fail", "DEFAULT is not there"),
        (dirty.clone(), "undecided", "it was not written to the end"),
        (format!("{dirty}; mcopy -i $P SAM.LOG1 {config}/SAM.LOG1"), "pass", "SAM was being written"),
    ] {
        let (found, message) = said(check, "", "", &files);
        assert_eq!(found, result, "{files}: {message}");
        assert!(message.contains(words), "{files}: {message}");
    }
}

#[test]
fn sleep_is_told_by_the_first_bytes_of_its_file() {
    requires_hives!();
    for (head, result) in [
        ("hibr", "fail"),
        ("RSTR", "fail"),
        ("wake", "pass"),
        ("\\0\\0\\0\\0", "pass"),
        ("????", "undecided"),
    ] {
        let files = format!("printf '{head}xxxx' > h; mcopy -i $P h ::hiberfil.sys");
        assert_eq!(said(("windows-hibernation", ""), "", "", &files).0, result, "{head}");
    }
}

#[test]
fn a_server_of_2008_needs_an_update_for_sha_2() {
    requires_hives!();
    let build = "[Microsoft\\Windows NT\\CurrentVersion]\n\"CurrentBuildNumber\"=\"7601\"\n";
    let check = ("windows-sha2", "");
    let (found, message) = said(check, "", build, "");
    assert!(found == "fail" && message.contains("KB4474419 / KB3033929"), "{found} {message}");
    let package = |state: &str| {
        format!(
            "{build}[Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\Packages\\\
             Package_2_for_KB3033929~31bf3856ad364e35~amd64~~6.1.1.1]\n\"CurrentState\"=dword:{state}"
        )
    };
    assert_eq!(said(check, "", &package("00000070"), "").0, "pass");
    // Staged is not installed.
    assert_eq!(said(check, "", &package("00000040"), "").0, "fail");
}

#[test]
fn sysprep_and_updates_are_told_from_their_traces() {
    requires_hives!();
    let state = |state: &str| {
        format!("[Microsoft\\Windows\\CurrentVersion\\Setup\\State]\n\"ImageState\"=\"{state}\"")
    };
    let running = "[Setup]\n\"SystemSetupInProgress\"=dword:00000001";
    let sealed = state("IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE");
    for (system, software, result) in
        [("", sealed.as_str(), "pass"), (running, &sealed, "pass"), (running, "", "fail")]
    {
        assert_eq!(said(("windows-sysprep", ""), system, software, "").0, result, "{system}{software}");
    }
    let renames = "[ControlSet001\\Control\\Session Manager]\n\"PendingFileRenameOperations\"=multi:\"a\"";
    let (found, message) = said(("windows-pending-update", ""), renames, "", "");
    assert!(found == "pass" && message.contains("renamed"), "{found} {message}");
    let files = "mmd -i $P ::Windows/WinSxS; echo x > p; mcopy -i $P p ::Windows/WinSxS/pending.xml";
    let (found, message) = said(("windows-pending-update", ""), "", "", files);
    assert!(found == "fail" && message.contains("/Windows/WinSxS/pending.xml"), "{found} {message}");
}

#[test]
fn the_import_is_told_the_truth_about_a_windows() {
    requires_hives!();
    let made = changed("", "", "");
    let version = |told: &str| {
        let options = ["--set", told];
        let params = "params = { versions = [\"2016\"] }";
        rule(&made.path("disk.raw"), "windows-version", params, &options).result("windows-version").to_owned()
    };
    for told in ["platform=Windows Server", "osVersion=2016", "osType=windows", "platform=Other Windows"] {
        assert_eq!(version(told), "pass", "{told}");
    }
    for told in ["platform=CentOS", "osVersion=2012R2", "osType=linux"] {
        assert_eq!(version(told), "fail", "{told}");
    }
}

#[test]
fn windows_on_ntfs_is_judged_whichever_firmware_starts_it() {
    requires_hives!("root", "fuse", "mkntfs", "ntfs-3g");
    let dir = tempdir();
    let at = dir.path().display();
    // The other files of the sound system; its own SYSTEM would name another partition, so windows.py's is filled up.
    sh(&format!(
        "cd {at}; cp -r '{}/root' extra; rm -r extra/Boot extra/bootmgr extra/Windows/System32/config/S{{YSTEM,OFTWARE}}",
        sound().display()
    ));
    for kind in ["mbr", "gpt"] {
        let disk = dir.path().join(format!("{kind}.raw"));
        let script = root().join("tests/make/windows.py");
        sh(&format!("/usr/bin/python3 {} {kind} {} extra={at}/extra", script.display(), disk.display()));
        let checks = [("windows-boot", ""), ("windows-hives", ""), ("windows-dirty", "")];
        let checked = rules(&disk, &checks);
        for (rule, _) in checks {
            assert_eq!(checked.result(rule), "pass", "{kind} {rule}: {:#}", checked.finding(rule));
        }
        if kind == "gpt" {
            continue;
        }
        // The flags of $Volume, attribute 0x70 of MFT record 3: 1 is dirty. The volume lies at 17 MiB.
        sh(&format!(
            "cd {at}; /usr/bin/python3 - <<'END'
import struct
part = 17 << 20
disk = open('{kind}.raw', 'r+b')
disk.seek(part)
boot = disk.read(512)
cluster = struct.unpack_from('<H', boot, 11)[0] * boot[13]
for table in (48, 56):
    at = part + struct.unpack_from('<Q', boot, table)[0] * cluster + 3 * 1024
    disk.seek(at)
    record = disk.read(1024)
    next = struct.unpack_from('<H', record, 20)[0]
    while (kind := struct.unpack_from('<I', record, next)[0]) != 0x70:
        next += struct.unpack_from('<I', record, next + 4)[0]
    value = next + struct.unpack_from('<H', record, next + 20)[0]
    disk.seek(at + value + 10)
    disk.write(b'\\1\\0')
END"
        ));
        let checked = rules(&disk, &checks);
        assert_eq!(checked.result("windows-dirty"), "fail", "{:#}", checked.finding("windows-dirty"));
    }
}

#[test]
fn the_registry_of_a_real_windows_10_is_judged_as_hivex_shows_it() {
    requires_hives!("corpus", "xz", "hivexget");
    let sample = common::corpus().unwrap().join("guest/regipy/SYSTEM_WIN_10_1709.xz");
    let made = changed(
        "",
        "",
        &format!(
            "xz -dc '{}' > SYSTEM; mcopy -o -i $P SYSTEM ::Windows/System32/config/SYSTEM
             for name in stornvme storahci; do pe z '\\x64\\x86'; mcopy -i $P z ::Windows/System32/drivers/$name.sys; done",
            sample.display()
        ),
    );
    let get = |key: &str, value: &str| {
        let hive = made.path("SYSTEM");
        sh(&format!("hivexget {} 'ControlSet001\\{key}' '{value}'", hive.display())).trim().to_owned()
    };
    let disk = made.path("disk.raw");
    let judged = |services: &str, devices: &str| {
        let params = format!("params = {{ services = [\"{services}\"], devices = [\"{devices}\"] }}");
        let checked = rules(&disk, &[("virtio-windows-disk", &params)]);
        (checked.result("virtio-windows-disk").to_owned(), checked.message("virtio-windows-disk").to_owned())
    };
    // Both start at boot; one is held back, as Windows does with controllers that a machine lacks.
    assert_eq!(
        (get("Services\\stornvme", "Start"), get("Services\\storahci", "Start")),
        ("0".to_owned(), "0".to_owned())
    );
    assert_eq!(get("Services\\stornvme\\StartOverride", "0"), "3");
    let (found, message) = judged("stornvme", "CC_010802");
    assert!(found == "fail" && message.contains("StartOverride"), "{message}");
    assert_eq!(judged("storahci", "CC_010601").0, "pass");
    assert_eq!(judged("storahci", "VEN_1AF4&DEV_1001").0, "fail");
    assert_eq!(judged("viostor", "1001").0, "fail");
    let checked = rules(&disk, &[("windows-firewall", ""), ("windows-rdp", ""), ("windows-dhcp", "")]);
    assert_eq!(
        get("Services\\SharedAccess\\Parameters\\FirewallPolicy\\PublicProfile", "EnableFirewall"),
        "1"
    );
    assert_eq!((checked.result("windows-firewall"), checked.result("windows-rdp")), ("fail", "fail"));
    assert_eq!(get("Control\\Terminal Server", "fDenyTSConnections"), "1");
    // Every interface that is a connection asks for its address.
    assert_eq!(checked.result("windows-dhcp"), "pass", "{:#}", checked.finding("windows-dhcp"));
}
