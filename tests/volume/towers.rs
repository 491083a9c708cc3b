//! Managers on top of each other: what is found inside what was found.

use crate::lvm2::{EXTENT, all, at, bytes, group, look, look_with, lv, on, restored, volume};
use crate::md::{DATA, Sb, noise};
use crate::{common, requires};
use imgmount::keys::{Keys, Secret};

/// A LUKS1 volume of `content`, opened by the passphrase "a key": cryptsetup writes the header, qemu-img the payload.
fn locked(content: &[u8]) -> Vec<u8> {
    let dir = common::tempdir();
    std::fs::write(dir.path().join("plain"), content).unwrap();
    common::sh(&format!(
        "cd {}; printf 'a key' > key; truncate -s {} luks
         cryptsetup -q luksFormat --type luks1 --offset 4096 --pbkdf-force-iterations 1000 luks key
         qemu-img convert -n --object secret,id=s,file=key --target-image-opts plain driver=luks,key-secret=s,file.filename=luks",
        dir.path().display(),
        content.len() + (2 << 20)
    ));
    std::fs::read(dir.path().join("luks")).unwrap()
}

fn uuid(luks: &[u8]) -> String {
    String::from_utf8(luks[168..204].to_vec()).unwrap()
}

fn keys(volume: &str, key: &str) -> Keys {
    let mut keys = Keys::default();
    keys.add(volume, Secret::new(key.as_bytes().to_vec()));
    keys
}

/// Disk, partitions, array, encrypted volume, group, logical volume, partition table: each in the one before.
#[test]
fn a_group_in_an_encrypted_array_opens_to_the_last_volume() {
    requires!("root", "loop", "pvcreate", "cryptsetup", "qemu-img");
    let (mut pv, _) = restored(1, 2, &lv("root", true, &[(10, "striped", on(0, 3))]));
    // In the volume a table with one partition.
    let inner = at(3);
    pv[0][inner..at(13)].fill(0);
    pv[0][inner + 446 + 4] = 0x83;
    pv[0][inner + 446 + 8] = 8;
    pv[0][inner + 446 + 12] = 16;
    pv[0][inner + 510..inner + 512].copy_from_slice(&[0x55, 0xaa]);
    pv[0][inner + 8 * 512..inner + 24 * 512].fill(0x5c);
    let luks = locked(&pv[0]);
    let id = format!("luks-{}", uuid(&luks));
    let sb = Sb { size: luks.len(), ..Sb::new("1.2", 1, 0, 0, 2) };
    let disks: Vec<Vec<u8>> = (0..2).map(|number| sb.member(number, &luks)).collect();
    // Without a key it stays what it is; with another one's key too.
    for keys in [Keys::default(), keys("p7", "a key"), keys("md3", "wrong")] {
        let machine = look_with(&disks, &keys);
        let ids: Vec<&str> = all(&machine).iter().map(|volume| volume.id.as_str()).collect();
        assert_eq!(ids, ["disk", "disk2", "md3"]);
        assert_eq!(volume(&machine, "md3").claimed_by, None);
    }
    for meant in ["md3", "*", id.as_str()] {
        let machine = look_with(&disks, &keys(meant, "a key"));
        let ids: Vec<&str> = all(&machine).iter().map(|volume| volume.id.as_str()).collect();
        assert_eq!(ids, ["disk", "disk2", "md3", &id, "vg/root", "vg/root/p1"], "{:?}", machine.warnings);
        let part = volume(&machine, "vg/root/p1");
        assert_eq!(bytes(part), [0x5c; 16 * 512]);
        assert_eq!(part.made_of, ["vg/root"]);
        assert!(part.names.contains(&"/dev/mapper/vg-root1".to_owned()), "{:?}", part.names);
        assert!(volume(&machine, &id).names.contains(&format!("/dev/mapper/{id}")));
    }
    // Twice the same: nothing is kept from the first time.
    assert_eq!(all(&look_with(&disks, &keys("*", "a key"))).len(), 6);
}

/// An encrypted logical volume holds a physical volume of the very group that another disk waits for.
#[test]
fn a_set_waits_for_a_member_that_is_found_later() {
    requires!("root", "loop", "pvcreate", "cryptsetup", "qemu-img");
    let (pvs, _) = restored(2, 2, &lv("both", true, &[(2, "striped", on(0, 1)), (2, "striped", on(1, 1))]));
    let luks = locked(&pvs[1]);
    let extents = luks.len() as u64 / EXTENT + 1;
    let (outer, _) = group(
        1,
        8,
        &format!(
            "lvm pvcreate -q $pvs > /dev/null; lvm vgcreate -q -s 32k outer $pvs > /dev/null; lv -l {extents} -n box outer"
        ),
    );
    let mut outer = outer.into_iter().next().unwrap();
    outer[1 << 20..][..luks.len()].copy_from_slice(&luks);
    let machine = look_with(&[pvs[0].clone(), outer], &keys("outer/box", "a key"));
    assert_eq!(machine.warnings, [""; 0]);
    let both = bytes(volume(&machine, "vg/both"));
    assert_eq!(both[..2 * EXTENT as usize], pvs[0][at(1)..at(3)]);
    assert_eq!(both[2 * EXTENT as usize..], pvs[1][at(1)..at(3)]);
}

#[test]
fn volumes_inside_each_other_without_end_are_not_followed() {
    let mut disk = noise(DATA);
    let sb = Sb::new("1.2", 1, 0, 0, 1);
    for _ in 0..12 {
        let size = disk.len();
        disk = Sb { size, ..sb.clone() }.member(0, &disk);
    }
    let machine = look(&[disk]);
    assert!(
        machine.warnings.iter().any(|line| line.contains("volumes inside each other")),
        "{:?}",
        machine.warnings
    );
    assert!(all(&machine).len() < 12);
}
