//! Dynamic disks of Windows. No tool on Linux makes them: they are written here (`ldm/disk.rs`), and must be for `ldmtool`
//! what they are for us; what their volumes hold is dealt out as `dm-stripe` and `dm-raid` do it for `ldmtool`.

#[path = "ldm/disk.rs"]
mod disk;

use crate::lvm2::{all, bytes, look, volume as find};
use crate::{common, requires};
use disk::{Group, component, piece, seal, volume};

/// A volume of every kind on three disks.
fn every_kind() -> Group {
    let two = |start: usize, len: usize| vec![vec![piece(0, start, len)], vec![piece(1, start, len)]];
    let three =
        |start: usize, len: usize| (0..3).map(|disk| vec![piece(disk, start, len)]).collect::<Vec<_>>();
    Group::new(
        3,
        vec![
            volume("Volume1", "C:", vec![component(2, 0, vec![vec![piece(0, 5, 300)]])]),
            volume(
                "Volume2",
                "D:",
                vec![component(2, 0, vec![vec![piece(2, 0, 256), piece(0, 400, 100), piece(1, 0, 9)]])],
            ),
            volume("Stripe1", "E:", vec![component(1, 16, two(512, 160))]),
            volume(
                "Volume3",
                "",
                vec![
                    component(2, 0, vec![vec![piece(1, 1024, 200)]]),
                    component(2, 0, vec![vec![piece(2, 512, 200)]]),
                ],
            ),
            volume("Raid1", "F:", vec![component(3, 8, three(2048, 160))]),
        ],
    )
}

/// What each volume is: name, GUID, kind, sectors, hint.
fn ours(machine: &imgmount::volume::Machine) -> Vec<String> {
    let line = |volume: &&imgmount::volume::Volume| {
        let dynamic = volume.dynamic.as_ref()?;
        let name = volume.id.strip_prefix("ldm/").unwrap();
        let (guid, sectors) = (dynamic.guid_text(), volume.source.len() / 512);
        Some(format!("{name} {guid} {} {sectors} {:?}", dynamic.kind, dynamic.hint))
    };
    let mut lines: Vec<String> = all(machine).iter().filter_map(line).collect();
    lines.sort();
    lines
}

/// The same by `ldmtool`, which also has to find every piece on its disk.
fn theirs(group: &Group, disks: &[Vec<u8>]) -> Vec<String> {
    let dir = common::tempdir();
    let mut devices = String::new();
    for (number, disk) in disks.iter().enumerate() {
        let path = dir.path().join(format!("disk{number}"));
        std::fs::write(&path, disk).unwrap();
        devices += &format!(" -d {}", path.display());
    }
    let show = |what: &str, name: &str| -> serde_json::Value {
        let json = common::sh(&format!("ldmtool{devices} show {what} {} {name} 2>/dev/null", group.guid()));
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{what} {name}: {error}: {json}"))
    };
    for (number, disk) in group.disks.iter().enumerate() {
        let found = show("disk", &disk.name);
        let (start, len, _) = group.regions(number);
        assert_eq!(
            (found["guid"].as_str(), found["data-start"].as_u64(), found["data-size"].as_u64()),
            (Some(disk.guid.as_str()), Some(start as u64), Some(len as u64))
        );
    }
    let mut lines = Vec::new();
    for volume in &group.volumes {
        let found = show("volume", &volume.name);
        let mut pieces = Vec::new();
        for name in found["partitions"].as_array().unwrap() {
            let part = show("partition", name.as_str().unwrap());
            let number = |key: &str| part[key].as_u64().unwrap() as usize;
            let disk = group.disks.iter().position(|disk| part["disk"] == disk.name.as_str()).unwrap();
            pieces.push((disk, number("start"), number("size")));
        }
        let all = volume.components.iter().flat_map(|component| component.columns.iter().flatten());
        let expected: Vec<_> = all.map(|piece| (piece.disk, piece.start, piece.len)).collect();
        assert_eq!(pieces, expected, "{}", volume.name);
        assert_eq!(found["chunk-size"], volume.components[0].chunk, "{}", volume.name);
        let text = |key: &str| found[key].as_str().unwrap_or("").to_owned();
        let kind = text("type").to_lowercase();
        lines.push(format!("{} {} {kind} {} {:?}", text("name"), text("guid"), found["size"], text("hint")));
    }
    lines.sort();
    lines
}

#[test]
fn volumes_of_every_kind_are_those_of_ldmtool() {
    requires!("ldmtool");
    let group = every_kind();
    let (disks, contents) = group.write();
    let machine = look(&disks);
    assert_eq!(machine.warnings, Vec::<String>::new());
    assert_eq!(ours(&machine), theirs(&group, &disks));
    for (volume, content) in group.volumes.iter().zip(&contents) {
        assert!(bytes(find(&machine, &format!("ldm/{}", volume.name))) == *content, "{}", volume.name);
    }
}

#[test]
fn partitions_of_the_dynamic_part_are_claimed_and_others_are_not() {
    let (disks, _) = every_kind().write();
    let machine = look(&disks);
    let claimed: Vec<String> = all(&machine)
        .iter()
        .filter(|volume| volume.partition.is_some())
        .map(|volume| format!("{} {}", volume.id, volume.claimed_by.unwrap_or("-")))
        .collect();
    assert_eq!(claimed, ["p1 ldm", "disk2/p1 ldm", "disk3/p1 ldm", "disk3/p2 -", "disk3/p3 ldm"]);
    let made_of = |id: &str| find(&machine, id).made_of.clone();
    assert_eq!(made_of("ldm/Volume1"), ["p1"]);
    assert_eq!(made_of("ldm/Raid1"), ["p1", "disk2/p1", "disk3/p3"]);
}

#[test]
fn names_are_those_that_ldmtool_gives() {
    let (disks, _) = every_kind().write();
    assert_eq!(
        find(&look(&disks), "ldm/Raid1").names,
        [
            "/dev/mapper/ldm_vol_HOST\\x20Dg0_Raid1",
            "/dev/disk/by-id/dm-name-ldm_vol_HOST\\x20Dg0_Raid1",
            "/dev/disk/by-id/dm-uuid-LDM-Raid1-abcdef04-0123-4567-89ab-cdef01234567",
        ]
    );
}

#[test]
fn a_file_system_over_three_disks_is_whole_without_one() {
    requires!("mkfs.ext4");
    let mut group = every_kind();
    let columns = (0..3).map(|disk| vec![piece(disk, 7, 4096)]).collect();
    group.volumes = vec![volume("Volume1", "", vec![component(3, 128, columns)])];
    let dir = common::tempdir();
    let image = dir.path().join("image");
    common::sh(&format!("truncate -s 4M {0}; mkfs.ext4 -q -L seen {0}", image.display()));
    let content = std::fs::read(&image).unwrap();
    let mut disks = group.write_with(std::slice::from_ref(&content));
    disks.remove(1);
    let machine = look(&disks);
    let volume = find(&machine, "ldm/Volume1");
    assert!(bytes(volume) == content);
}

#[test]
fn a_mirror_and_a_raid5_are_read_without_any_one_disk() {
    let group = every_kind();
    let (disks, contents) = group.write();
    for lost in 0..3 {
        let mut left = disks.clone();
        left.remove(lost);
        let machine = look(&left);
        for at in [3, 4] {
            let id = format!("ldm/{}", group.volumes[at].name);
            assert!(bytes(find(&machine, &id)) == contents[at], "{id} without disk {lost}");
        }
        let line = format!("disk Disk{} (GUID {}) is missing", lost + 1, group.disks[lost].guid);
        assert!(machine.warnings.iter().any(|warning| warning.contains(&line)), "{:?}", machine.warnings);
    }
}

#[test]
fn what_lacks_too_much_says_which_disk_it_needs() {
    let group = every_kind();
    let (disks, contents) = group.write();
    let machine = look(&disks[..1]);
    assert!(bytes(find(&machine, "ldm/Volume1")) == contents[0]);
    for (id, needs) in [
        ("ldm/Volume2", "disk Disk3 (GUID 00000000-1111-4222-8333-444444444402)"),
        ("ldm/Stripe1", "disk Disk2 (GUID 00000000-1111-4222-8333-444444444401)"),
        ("ldm/Volume3", "2 of its 2 members are missing"),
        ("ldm/Raid1", "2 of its 3 members are missing"),
    ] {
        let volume = find(&machine, id);
        let expected = group.volumes.iter().find(|known| volume.id.ends_with(&known.name)).unwrap();
        assert_eq!(volume.source.len() as usize, expected.len() * 512);
        let error = volume.source.read_at(&mut [0; 1], 0).unwrap_err().chain();
        assert!(error.contains(needs), "{id}: {error}");
    }
}

#[test]
fn columns_of_several_pieces_are_put_together() {
    // As Windows extends a striped volume; ldmtool refuses it.
    let mut group = every_kind();
    group.volumes = vec![
        volume(
            "Stripe1",
            "",
            vec![component(
                1,
                16,
                vec![vec![piece(0, 0, 64), piece(0, 200, 32)], vec![piece(1, 0, 32), piece(2, 0, 64)]],
            )],
        ),
        // Veritas mirrors what is striped.
        volume(
            "Volume1",
            "",
            vec![
                component(1, 8, vec![vec![piece(0, 500, 64)], vec![piece(1, 500, 64)]]),
                component(2, 0, vec![vec![piece(2, 500, 100), piece(1, 600, 28)]]),
            ],
        ),
    ];
    let (disks, contents) = group.write();
    let machine = look(&disks);
    assert!(bytes(find(&machine, "ldm/Stripe1")) == contents[0]);
    assert!(bytes(find(&machine, "ldm/Volume1")) == contents[1]);
    let machine = look(&disks[1..]);
    assert!(bytes(find(&machine, "ldm/Volume1")) == contents[1]);
}

#[test]
fn a_change_counts_from_its_commit_on() {
    let mut group = every_kind();
    let mut old = group.volumes.remove(0);
    let mut new = old.clone();
    (old.status, new.status) = (1, 2);
    new.name = "Renamed".to_owned();
    group.volumes = vec![old, new];
    group.pending = 44;
    for (status, name, said) in [(2, "ldm/Volume1", "never committed"), (3, "ldm/Renamed", "was committed")] {
        group.status = status;
        let machine = look(&group.write().0);
        let ids: Vec<&str> = all(&machine)
            .iter()
            .filter(|volume| volume.dynamic.is_some())
            .map(|volume| volume.id.as_str())
            .collect();
        assert_eq!(ids, [name]);
        assert!(machine.warnings.iter().any(|warning| warning.contains(said)), "{:?}", machine.warnings);
    }
}

#[test]
fn a_commit_that_reached_one_disk_leaves_none_behind() {
    let mut group = every_kind();
    (group.status, group.pending) = (2, 44);
    let (mut disks, contents) = group.write();
    group.status = 3;
    disks[0] = group.write().0.swap_remove(0);
    let machine = look(&disks);
    for at in [3, 4] {
        assert!(bytes(find(&machine, &format!("ldm/{}", group.volumes[at].name))) == contents[at]);
    }
    assert!(!machine.warnings.iter().any(|warning| warning.contains("left out:")), "{:?}", machine.warnings);
}

#[test]
fn a_disk_that_missed_a_change_is_left_out_of_what_can_do_without() {
    let group = every_kind();
    let (mut disks, contents) = group.write();
    let mut before = group.clone();
    (before.change, before.pending) = (39, 39);
    // The second disk has the old database, and the first copy of the mirror with other bytes.
    let mut old = before.write().0.swap_remove(1);
    let (public, _, _) = group.regions(1);
    old[(public + 1024) * 512..(public + 1224) * 512].fill(0xee);
    old[(public + 2048) * 512..(public + 2208) * 512].fill(0xee);
    disks[1] = old;
    let machine = look(&disks);
    for at in [0, 1, 2, 3, 4] {
        let id = format!("ldm/{}", group.volumes[at].name);
        assert!(bytes(find(&machine, &id)) == contents[at], "{id}");
    }
    let said = |what: &str| machine.warnings.iter().any(|warning| warning.contains(what));
    assert!(said("ldm/Volume3: Volume3-01 is left out: disk Disk2 was not there"), "{:?}", machine.warnings);
    assert!(said("ldm/Stripe1: Disk2-02: disk Disk2 was not there"), "{:?}", machine.warnings);
}

#[test]
fn parts_that_are_marked_as_stale_are_left_out() {
    let mut group = every_kind();
    group.volumes[3].components[0].state = "STALE";
    // Being rebuilt.
    group.volumes[4].components[0].columns[1][0].flags = 8;
    let (mut disks, contents) = group.write();
    let (public, _, _) = group.regions(1);
    disks[1][(public + 1024) * 512..(public + 2208) * 512].fill(0xee);
    let machine = look(&disks);
    assert!(bytes(find(&machine, "ldm/Volume3")) == contents[3]);
    assert!(bytes(find(&machine, "ldm/Raid1")) == contents[4]);
    // Without the good copy there is none.
    let machine = look(&disks[..2]);
    let error = find(&machine, "ldm/Volume3").source.read_at(&mut [0; 1], 0).unwrap_err().chain();
    assert!(error.contains("missing or out of date"), "{error}");
}

#[test]
fn a_degraded_raid5_whose_parity_is_not_done_is_refused() {
    let mut group = every_kind();
    group.volumes[4].state = "SYNC";
    let (disks, contents) = group.write();
    assert!(bytes(find(&look(&disks), "ldm/Raid1")) == contents[4]);
    let machine = look(&disks[1..]);
    let error = find(&machine, "ldm/Raid1").source.read_at(&mut [0; 1], 0).unwrap_err().chain();
    assert!(error.contains("degraded RAID-5 volume in state SYNC"), "{error}");
}

#[test]
fn copies_of_the_disks_are_kept_apart() {
    let group = every_kind();
    let (disks, contents) = group.write();
    let mut both = disks.clone();
    both.extend(disks);
    // The copy has been written to.
    let (public, _, _) = group.regions(0);
    both[3][(public + 5) * 512] ^= 0xff;
    let machine = look(&both);
    assert!(bytes(find(&machine, "ldm/Volume1")) == contents[0]);
    let copy = find(&machine, "ldm~2/Volume1");
    assert_eq!(bytes(copy)[1..], contents[0][1..]);
    assert_ne!(bytes(copy)[0], contents[0][0]);
    assert_eq!((copy.made_of.as_slice(), copy.names.len()), (["disk4/p1".to_owned()].as_slice(), 0));
    assert!(
        machine.warnings.iter().any(|warning| warning.contains("there more than once")),
        "{:?}",
        machine.warnings
    );
}

#[test]
fn any_whole_header_and_table_will_do() {
    let group = every_kind();
    let (disks, contents) = group.write();
    let private = group.regions(0).2;
    // One of the three headers is left, and one of the two tables that count.
    for (header, table) in [(6, 2), (private + 1856, 2045), (private + 2047, 2)] {
        let mut left = disks.clone();
        for sector in [6, private + 1856, private + 2047, private + 2, private + 2045] {
            if sector != header && sector != private + table {
                left[0][sector * 512 + 0x20] ^= 1;
            }
        }
        let machine = look(&left);
        assert!(bytes(find(&machine, "ldm/Volume1")) == contents[0], "{header} {table}");
    }
}

#[test]
fn a_disk_without_a_whole_header_is_claimed_and_not_read() {
    let group = every_kind();
    let (mut disks, _) = group.write();
    let private = group.regions(0).2;
    for sector in [6, private + 1856, private + 2047] {
        disks[0][sector * 512 + 0x20] ^= 1;
    }
    let machine = look(&disks[..1]);
    assert_eq!(find(&machine, "p1").claimed_by, Some("ldm"));
    assert!(machine.warnings[0].contains("checksum does not fit"), "{:?}", machine.warnings);
}

#[test]
fn a_partition_of_type_42_without_a_header_is_any_partition() {
    let group = every_kind();
    let (mut disks, _) = group.write();
    let private = group.regions(0).2;
    for sector in [6, private + 1856, private + 2047] {
        disks[0][sector * 512..(sector + 1) * 512].fill(0);
    }
    let machine = look(&disks[..1]);
    let volume = find(&machine, "p1");
    assert_eq!(
        (volume.claimed_by, volume.partition.as_ref().unwrap().type_name),
        (None, "Windows dynamic disk")
    );
}

#[test]
fn a_lost_slot_costs_its_record_alone() {
    let group = every_kind();
    let (mut disks, contents) = group.write();
    // The first slot with a volume, in all copies: behind the group and three disks.
    for (number, disk) in disks.iter_mut().enumerate() {
        let at = (group.regions(number).2 + 18) * 512 + 4 * 128;
        assert_eq!(disk[at + 19], 0x51);
        disk[at] = 0;
    }
    let machine = look(&disks);
    assert!(bytes(find(&machine, "ldm/Raid1")) == contents[4]);
    assert!(!all(&machine).iter().any(|volume| volume.id == "ldm/Volume1"));
    let said = |what: &str| machine.warnings.iter().any(|warning| warning.contains(what));
    assert!(said("slot 4 has no signature"), "{:?}", machine.warnings);
    assert!(said("4 volumes were found, its header says 5"), "{:?}", machine.warnings);
}

#[test]
fn of_two_databases_the_whole_one_counts() {
    let group = every_kind();
    let (mut disks, contents) = group.write();
    let at = (group.regions(0).2 + 18) * 512;
    disks[0][at..at + 1024].fill(0);
    let machine = look(&disks);
    assert_eq!(machine.warnings, Vec::<String>::new());
    assert!(bytes(find(&machine, "ldm/Volume1")) == contents[0]);
}

#[test]
fn disks_of_the_later_revision_are_found_by_their_binary_guid() {
    let mut group = every_kind();
    group.disks.iter_mut().for_each(|disk| disk.is_later = true);
    let (disks, contents) = group.write();
    let machine = look(&disks);
    assert_eq!(machine.warnings, Vec::<String>::new());
    assert!(bytes(find(&machine, "ldm/Raid1")) == contents[4]);
}

#[test]
fn members_of_a_storage_pool_are_named_and_not_opened() {
    requires!("sgdisk", "mkfs.ext4");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!(
        "truncate -s 16M {0}; mkfs.ext4 -q -E offset=1048576 {0} 8M
         sgdisk -n 1:2048:+8M -t 1:e75caf8f-f680-4cee-afa3-b001e56efc2d {0} >/dev/null",
        disk.display()
    ));
    let machine = look(&[std::fs::read(disk).unwrap()]);
    let volume = find(&machine, "p1");
    let part = volume.partition.as_ref().unwrap();
    assert_eq!((volume.claimed_by, part.type_name), (Some("storage_spaces"), "Windows Storage Spaces"));
    assert!(machine.disks[0].warnings[0].contains("Storage Spaces"), "{:?}", machine.disks[0].warnings);
}

/// Numbers that lead elsewhere, everywhere in what is read: headers, tables, the database.
#[test]
fn damaged_databases_cause_neither_panic_nor_hang() {
    let group = every_kind();
    let (disks, _) = group.write();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let values = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff];
    let mut read = 0;
    for _ in 0..400 {
        let which = random(3);
        let private = group.regions(which).2;
        let mut changed = disks[which].clone();
        for _ in 0..=random(6) {
            let (sector, within) = match random(8) {
                0 => (2047, 512),
                1 => (2, 512),
                2 => (17, 512),
                _ => (18, 40 * 128),
            };
            let at = (private + sector) * 512 + random(within);
            changed[at] = if random(2) == 0 { values[random(values.len())] } else { random(256) as u8 };
        }
        // With sums that fit, or the change would not be looked at.
        for sector in [2047, 2] {
            seal(&mut changed[(private + sector) * 512..][..512]);
        }
        // No other copy steps in.
        for sector in [6, private + 1856, private + 1, private + 2045, private + 2046] {
            changed[sector * 512..(sector + 1) * 512].fill(0);
        }
        let machine = look(&[changed]);
        for volume in all(&machine) {
            let len = volume.source.len();
            for at in [0, len / 2, len.saturating_sub(512)] {
                read += usize::from(volume.source.read_at(&mut [0; 512], at).is_ok());
            }
        }
    }
    assert!(read > 400, "{read}");
}
