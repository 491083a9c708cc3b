//! The whole tower over a machine of several disks: what lies on one of them, and what needs them all.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::{imgmount, sh, stderr, stdout};

/// Two disks in an OVA; `vg/data` begins on the first and ends on the second. The file system on it has a fstab's file.
fn two_disks() -> tempfile::TempDir {
    let dir = common::tempdir();
    sh(&format!(
        r#"cd {}; mkdir -p tree/etc; echo hello > tree/etc/greeting; head -c 3000000 /dev/urandom > tree/noise
        truncate -s 8M fs; mkfs.ext4 -q -F -L joined -d tree fs
        for disk in a b; do
            truncate -s 8M $disk.raw; printf 'label: dos\n2048,,8e\n' | sfdisk -q $disk.raw
        done
        a=$(losetup -f --show -o 1M a.raw); b=$(losetup -f --show -o 1M b.raw); trap 'losetup -d $a; losetup -d $b' EXIT
        config="devices{{filter=[\"a|^$a\$|\",\"a|^$b\$|\",\"r|.*|\"] use_devicesfile=0 obtain_device_list_from_udev=0}} activation{{udev_sync=0 udev_rules=0 monitoring=0}} global{{use_lvmpolld=0}} backup{{backup=0 archive=0}}"
        lvm() {{ local tool=$1; shift; command $tool --config "$config" "$@" > out 2>&1 || {{ cat out >&2; return 1; }}; }}
        lvm pvcreate $a $b; lvm vgcreate -s 1M vg $a $b
        lvm lvcreate --driverloaded n -an -Zn -Wn -y -L 5M -n data vg $a
        lvm lvextend --driverloaded n -L 8M vg/data $b
        dd if=fs of=a.raw bs=1M seek=2 count=5 conv=notrunc status=none
        dd if=fs of=b.raw bs=1M seek=2 skip=5 count=3 conv=notrunc status=none
        for disk in a b; do qemu-img convert -O vmdk -o subformat=streamOptimized $disk.raw $disk.vmdk; done
        cat > two.ovf <<'END'
<?xml version="1.0"?><Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References><File ovf:href="a.vmdk" ovf:id="f1"/><File ovf:href="b.vmdk" ovf:id="f2"/></References>
<DiskSection><Info/><Disk ovf:capacity="8388608" ovf:diskId="d1" ovf:fileRef="f1"/><Disk ovf:capacity="8388608" ovf:diskId="d2" ovf:fileRef="f2"/></DiskSection>
</Envelope>
END
        tar cf two.ova two.ovf a.vmdk b.vmdk"#,
        dir.path().display()
    ));
    dir
}

#[test]
fn a_volume_over_two_disks_of_an_appliance() {
    requires!("root", "loop", "pvcreate", "mkfs.ext4", "sfdisk", "qemu-img");
    let dir = two_disks();
    let image = dir.path().join("two.ova");
    let path = |inside: &str| format!("{}:vg/data:{inside}", image.display());
    let cat = imgmount(["cat", &path("/etc/greeting")]);
    assert_eq!(stdout(&cat), "hello\n", "{}", stderr(&cat));
    let noise = imgmount(["cat", &path("/noise")]);
    assert!(noise.stdout == std::fs::read(dir.path().join("tree/noise")).unwrap(), "{}", stderr(&noise));
    let info = imgmount(["info", "--json", image.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&info)).unwrap();
    let json = json.as_array().map_or(&json, |list| &list[0]);
    let volume = json["volumes"].as_array().unwrap().iter().find(|volume| volume["id"] == "vg/data").unwrap();
    assert_eq!(volume["made_of"], serde_json::json!(["p1", "disk2/p1"]));
    let member =
        json["volumes"].as_array().unwrap().iter().find(|volume| volume["id"] == "disk2/p1").unwrap();
    assert_eq!(member["member_of"], "lvm2");
    // One of the two alone says what it lacks.
    let alone = imgmount(["info", dir.path().join("a.vmdk").to_str().unwrap()]);
    let text = stdout(&alone);
    assert!(
        text.contains("vg/data") && text.contains("physical volume pv1 (UUID "),
        "{text}{}",
        stderr(&alone)
    );
}

#[test]
fn a_locked_partition_opens_with_its_key_and_spoils_nothing_without() {
    requires!("mkfs.ext4", "sfdisk", "cryptsetup", "qemu-img");
    let dir = common::tempdir();
    sh(&format!(
        r#"cd {}; mkdir -p one/etc two/etc; echo open > one/etc/state; echo locked > two/etc/state
        truncate -s 4M one.fs two.fs; mkfs.ext4 -q -F -d one one.fs; mkfs.ext4 -q -F -d two two.fs
        printf 'a key' > key; printf wrong > wrong; truncate -s 6M luks
        cryptsetup -q luksFormat --type luks1 --offset 4096 --pbkdf-force-iterations 1000 luks key
        qemu-img convert -n --object secret,id=s,file=key --target-image-opts two.fs driver=luks,key-secret=s,file.filename=luks
        truncate -s 13M disk; printf 'label: dos\n2048,8192\n,12288\n' | sfdisk -q disk
        dd if=one.fs of=disk bs=1M seek=1 conv=notrunc status=none; dd if=luks of=disk bs=1M seek=5 conv=notrunc status=none
        cryptsetup luksUUID luks > uuid"#,
        dir.path().display()
    ));
    let disk = dir.path().join("disk").to_str().unwrap().to_owned();
    let id = format!("luks-{}", std::fs::read_to_string(dir.path().join("uuid")).unwrap().trim());
    let key = |volume: &str, file: &str| format!("--key={volume}:file:{}", dir.path().join(file).display());
    let open = imgmount(["cat", &format!("{disk}:p1:/etc/state")]);
    assert_eq!(stdout(&open), "open\n", "{}", stderr(&open));
    let path = format!("{disk}:{id}:/etc/state");
    for volume in ["p2", "*", &id] {
        let cat = imgmount(["cat", &path, &key(volume, "key")]);
        assert_eq!(stdout(&cat), "locked\n", "{volume}: {}", stderr(&cat));
    }
    for args in [vec![path.clone()], vec![path.clone(), key("p1", "key")], vec![path, key("p2", "wrong")]] {
        let cat = imgmount([vec!["cat".to_owned()], args].concat());
        assert!(!cat.status.success() && cat.stdout.is_empty());
    }
    let info = imgmount(["info", "--json", &disk]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&info)).unwrap();
    let json = json.as_array().map_or(&json, |list| &list[0]);
    let volumes = json["volumes"].as_array().unwrap();
    let locked: Vec<(&str, bool)> =
        volumes.iter().map(|v| (v["id"].as_str().unwrap(), v["locked"].as_bool().unwrap())).collect();
    assert_eq!(locked, [("p1", false), ("p2", true)]);
}
