//! Partition tables are read as `sfdisk` and `sgdisk` wrote them and as `sfdisk -J` reads them; hostile ones end.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]

#[path = "volume/bitlocker.rs"]
mod bitlocker;
mod common;
#[path = "volume/identity.rs"]
mod identity;
#[path = "volume/ldm.rs"]
mod ldm;
#[path = "volume/lvm2.rs"]
mod lvm2;
#[path = "volume/md.rs"]
mod md;
#[path = "volume/slices.rs"]
mod slices;
#[path = "volume/towers.rs"]
mod towers;

use imgmount::block::BlockSource;
use imgmount::budget::{Budget, Limits};
use imgmount::engine::Mapper;
use imgmount::keys::Keys;
use imgmount::source::memory::Memory;
use imgmount::volume::{Discovery, TableKind, VolCx, discover};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn look(bytes: Vec<u8>) -> Discovery {
    let disk: Arc<dyn BlockSource> = Arc::new(Memory::new(bytes, "disk"));
    let mapper = Mapper::new(Arc::default());
    let cx = VolCx { budget: &Budget::new(Limits::OPEN), mapper: &mapper, keys: &Keys::default() };
    discover(&disk, &cx)
}

fn look_at(path: &Path) -> Discovery {
    look(std::fs::read(path).unwrap())
}

/// Number, start, size, type, PARTUUID, name, bootable: one line a partition, as `sfdisk -J` says it.
fn sfdisk(json: &str) -> (String, Vec<String>) {
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    let table = &json["partitiontable"];
    let sector = table["sectorsize"].as_u64().unwrap_or(512);
    let label = table["label"].as_str().unwrap();
    let id = table["id"].as_str().unwrap_or("").trim_start_matches("0x").to_lowercase();
    let mut lines = Vec::new();
    for part in table["partitions"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let text = |key: &str| part[key].as_str().unwrap_or("").to_owned();
        let node = text("node");
        let digits = node.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let number: u32 = node[digits..].parse().unwrap();
        let (kind, uuid, bootable) = if label == "gpt" {
            let bootable = text("attrs").contains("LegacyBIOSBootable");
            (text("type").to_lowercase(), text("uuid").to_lowercase(), bootable)
        } else {
            let kind = u8::from_str_radix(&text("type"), 16).unwrap();
            if matches!(kind, 0x05 | 0x0f | 0x85) {
                continue; // a container, which holds no files itself
            }
            (format!("0x{kind:02x}"), format!("{id}-{number:02x}"), part["bootable"].as_bool() == Some(true))
        };
        let (start, size) =
            (part["start"].as_u64().unwrap() * sector, part["size"].as_u64().unwrap() * sector);
        lines.push(format!("{number} {start} {size} {kind} {uuid} {:?} {bootable}", text("name")));
    }
    let kind = if label == "gpt" { "gpt" } else { "mbr" };
    (format!("{kind} {id} {sector}"), lines)
}

fn ours(found: &Discovery) -> (String, Vec<String>) {
    let line = |volume: &imgmount::volume::Volume| {
        let part = volume.partition.as_ref().unwrap();
        assert_eq!(volume.id, format!("p{}", part.number));
        assert_eq!(volume.source.len(), part.size);
        let name = String::from_utf8(part.name.as_bytes().to_vec()).unwrap();
        let uuid = part.uuid.clone().unwrap_or_default();
        format!(
            "{} {} {} {} {uuid} {name:?} {}",
            part.number, part.start, part.size, part.type_code, part.bootable
        )
    };
    let table = &found.table;
    let lines = found.volumes.iter().filter(|volume| volume.id != "disk").map(line).collect();
    (format!("{} {} {}", table.kind.name(), table.id, table.sector_size), lines)
}

/// Makes a disk of 64 MiB with `script` (where `$disk` is its file) and reads it with `sfdisk -J` and with us.
#[track_caller]
fn same_as_sfdisk(script: &str) -> (PathBuf, tempfile::TempDir, Discovery) {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("disk={}; truncate -s 64M $disk; {script}", disk.display()));
    let found = look_at(&disk);
    assert_eq!(found.warnings, Vec::<String>::new());
    assert_eq!(ours(&found), sfdisk(&common::sh(&format!("sfdisk -J {}", disk.display()))));
    (disk, dir, found)
}

#[test]
fn four_primary_partitions() {
    requires!("sfdisk");
    let (_, _dir, found) = same_as_sfdisk(
        "printf 'label: dos\nlabel-id: 0x1234abcd\n,10M,83,*\n,10M,82\n,10M,7\n,,8e\n' | sfdisk -q $disk",
    );
    assert_eq!((found.volumes.len(), found.table.boot_code), (4, "none"));
}

#[test]
fn logical_partitions_count_from_five() {
    requires!("sfdisk");
    let (_, _dir, found) = same_as_sfdisk(
        "printf 'label: dos\n,4M,83,*\n,40M,5\n,4M,c\n,4M,83\n,4M,83\n,4M,82\n,4M,83\n' | sfdisk -q $disk",
    );
    let ids: Vec<&str> = found.volumes.iter().map(|volume| volume.id.as_str()).collect();
    assert_eq!(ids, ["p1", "p3", "p4", "p5", "p6", "p7"]);
}

#[test]
fn twenty_eight_logical_partitions_in_an_lba_container() {
    requires!("sfdisk");
    let many = ",100K,83\\n".repeat(28);
    let (_, _dir, found) = same_as_sfdisk(&format!("printf 'label: dos\\n,,f\\n{many}' | sfdisk -q $disk"));
    assert_eq!(found.volumes.len(), 28);
}

#[test]
fn a_gap_in_the_numbers_is_kept() {
    requires!("sfdisk");
    same_as_sfdisk("printf 'label: dos\n,10M\n,10M\n,10M\n' | sfdisk -q $disk; sfdisk -q --delete $disk 2");
    same_as_sfdisk("printf 'label: gpt\n,10M\n,10M\n,10M\n' | sfdisk -q $disk; sfdisk -q --delete $disk 2");
}

#[test]
fn gpt_with_names_types_and_attributes() {
    requires!("sfdisk", "sgdisk");
    let (_, _dir, found) = same_as_sfdisk(
        "sgdisk -n 1:0:+1M -t 1:ef02 -n 2:0:+8M -t 2:ef00 -c '2:EFI System' -n 128:0:+20M -c '128:wörzel ☃' -A 128:set:2 $disk >/dev/null",
    );
    let names: Vec<&str> =
        found.volumes.iter().map(|volume| volume.partition.as_ref().unwrap().type_name).collect();
    assert_eq!(names, ["BIOS boot", "EFI system", "Linux file system"]);
    assert!(!found.table.hybrid);
}

#[test]
fn gpt_with_a_table_of_two_thousand_entries() {
    requires!("sfdisk", "sgdisk");
    same_as_sfdisk("sgdisk -S 2048 -n 1:0:+8M -n 2000:0:+20M $disk >/dev/null");
}

#[test]
fn a_hybrid_mbr_is_said() {
    requires!("sfdisk", "sgdisk");
    let (_, _dir, found) = same_as_sfdisk("sgdisk -n 1:0:+8M -n 2:0:+8M -h 1 $disk >/dev/null");
    assert!(found.table.hybrid);
}

#[test]
fn gpt_of_a_disk_with_sectors_of_4096_bytes() {
    requires!("root", "loop", "sfdisk");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    let json = common::sh(&format!(
        "truncate -s 64M {0}; loop=$(losetup -b 4096 -f --show {0}); trap 'losetup -d $loop' EXIT
         printf 'label: gpt\n,10M\n,20M,U\n' | sfdisk -q $loop; sfdisk -J $loop",
        disk.display()
    ));
    let found = look_at(&disk);
    assert_eq!(ours(&found), sfdisk(&json));
    assert_eq!(found.table.sector_size, 4096);
}

#[test]
fn a_damaged_first_header_is_replaced_by_the_copy() {
    requires!("sfdisk");
    let (disk, _dir, before) = same_as_sfdisk("printf 'label: gpt\n,10M\n,20M\n' | sfdisk -q $disk");
    let mut bytes = std::fs::read(disk).unwrap();
    bytes[512 + 0x30] ^= 1;
    let found = look(bytes);
    assert_eq!(ours(&found), ours(&before));
    assert!(found.warnings[0].contains("copy at the end of the disk is used"), "{:?}", found.warnings);
}

#[test]
fn damaged_first_entries_are_replaced_by_the_copy() {
    requires!("sfdisk");
    let (disk, _dir, before) = same_as_sfdisk("printf 'label: gpt\n,10M\n,20M\n' | sfdisk -q $disk");
    let mut bytes = std::fs::read(disk).unwrap();
    bytes[1024 + 0x20] ^= 1;
    assert_eq!(ours(&look(bytes)), ours(&before));
}

#[test]
fn a_damaged_copy_is_said() {
    requires!("sfdisk");
    let (disk, _dir, before) = same_as_sfdisk("printf 'label: gpt\n,10M\n,20M\n' | sfdisk -q $disk");
    let mut bytes = std::fs::read(disk).unwrap();
    let last = bytes.len() - 512;
    bytes[last..].fill(0);
    let found = look(bytes);
    assert_eq!(ours(&found), ours(&before));
    assert!(
        found.warnings[0].contains("copy of the GPT at the end of the disk is damaged"),
        "{:?}",
        found.warnings
    );
}

#[test]
fn both_gpts_damaged_is_an_error_and_no_partition() {
    requires!("sfdisk");
    let (disk, _dir, _) = same_as_sfdisk("printf 'label: gpt\n,10M\n,20M\n' | sfdisk -q $disk");
    let mut bytes = std::fs::read(disk).unwrap();
    let last = bytes.len() - 512;
    bytes[512] = 0;
    bytes[last] = 0;
    let found = look(bytes);
    assert_eq!((found.table.kind, found.volumes.len()), (TableKind::None, 1));
    assert!(found.warnings[0].contains("neither the GPT nor its copy"), "{:?}", found.warnings);
}

#[test]
fn a_gpt_behind_a_plain_mbr_is_stale() {
    requires!("sfdisk");
    let (disk, _dir, _) = same_as_sfdisk("printf 'label: gpt\n,10M\n,20M\n' | sfdisk -q $disk");
    let plain = common::tempdir();
    let mbr = plain.path().join("mbr");
    common::sh(&format!("truncate -s 64M {0}; printf 'label: dos\n,30M\n' | sfdisk -q {0}", mbr.display()));
    let mut bytes = std::fs::read(disk).unwrap();
    bytes[..512].copy_from_slice(&std::fs::read(mbr).unwrap()[..512]);
    let found = look(bytes);
    assert_eq!((found.table.kind, found.volumes.len()), (TableKind::Mbr, 1));
    assert!(found.warnings[0].contains("a GPT stands behind this MBR"), "{:?}", found.warnings);
}

#[test]
fn a_truncated_disk_keeps_what_is_left_and_says_so() {
    requires!("sfdisk");
    for label in ["dos", "gpt"] {
        let (disk, _dir, before) =
            same_as_sfdisk(&format!("printf 'label: {label}\n,10M\n,20M\n,20M\n' | sfdisk -q $disk"));
        let mut bytes = std::fs::read(disk).unwrap();
        let cut = 20 << 20;
        bytes.truncate(cut);
        let found = look(bytes);
        let second = before.volumes[1].partition.as_ref().unwrap().start;
        let sizes: Vec<u64> = found.volumes.iter().map(|volume| volume.source.len()).collect();
        assert_eq!(sizes, [before.volumes[0].source.len(), cut as u64 - second]);
        let said = |what: &str| found.warnings.iter().any(|warning| warning.contains(what));
        assert!(said("partition 2") && said("partition 3") && said("left out"), "{:?}", found.warnings);
        assert!(label == "dos" || said("its end is missing"), "{:?}", found.warnings);
    }
}

#[test]
fn a_bare_file_system_is_one_volume() {
    requires!("mkfs.ext4", "mkfs.vfat");
    let dir = common::tempdir();
    for make in ["mkfs.ext4 -q", "mkfs.vfat", "mkfs.vfat -F 32"] {
        let disk = dir.path().join("disk");
        common::sh(&format!("rm -f {0}; truncate -s 64M {0}; {make} {0}", disk.display()));
        let found = look_at(&disk);
        let ids: Vec<&str> = found.volumes.iter().map(|volume| volume.id.as_str()).collect();
        assert_eq!((found.table.kind, ids.as_slice()), (TableKind::None, ["disk"].as_slice()), "{make}");
        assert_eq!(found.warnings, Vec::<String>::new());
    }
}

#[test]
fn a_partition_that_holds_a_table_is_not_opened_as_a_disk() {
    requires!("sfdisk");
    let (disk, _dir, _) = same_as_sfdisk("printf 'label: dos\n,10M\n' | sfdisk -q $disk");
    let mut bytes = std::fs::read(disk).unwrap();
    let inner = bytes[..512].to_vec();
    bytes[1 << 20..(1 << 20) + 512].copy_from_slice(&inner);
    assert_eq!(look(bytes).volumes.len(), 1);
}

fn entry(bytes: &mut [u8], sector: usize, slot: usize, kind: u8, start: u32, sectors: u32) {
    let at = sector * 512 + 446 + slot * 16;
    bytes[at + 4] = kind;
    bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
    bytes[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    bytes[sector * 512 + 510..sector * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
}

#[test]
fn an_extended_partition_that_links_to_itself_ends() {
    let mut disk = vec![0; 1 << 20];
    entry(&mut disk, 0, 0, 5, 100, 1000);
    entry(&mut disk, 100, 0, 0x83, 1, 10);
    entry(&mut disk, 100, 1, 5, 0, 1000);
    let found = look(disk);
    assert_eq!(found.volumes.len(), 1);
    assert!(found.warnings[0].contains("comes back to byte 0xc800"), "{:?}", found.warnings);
}

#[test]
fn an_endless_chain_of_logical_partitions_ends_at_255() {
    let mut disk = vec![0; 1 << 20];
    entry(&mut disk, 0, 0, 5, 1, 2000);
    for sector in 1..1500 {
        entry(&mut disk, sector, 0, 0x83, 1, 1);
        entry(&mut disk, sector, 1, 5, sector as u32, 1);
    }
    let found = look(disk);
    assert_eq!(found.volumes.last().unwrap().id, "p255");
    assert!(found.warnings[0].contains("255"), "{:?}", found.warnings);
}

#[test]
fn a_chain_without_partitions_ends() {
    let mut disk = vec![0; 1 << 20];
    entry(&mut disk, 0, 0, 5, 1, 2000);
    for sector in 1..1500 {
        entry(&mut disk, sector, 1, 5, sector as u32, 1);
    }
    let found = look(disk);
    assert_eq!((found.table.kind, found.volumes.len()), (TableKind::Mbr, 0));
    assert!(found.warnings[0].contains("more than 100"), "{:?}", found.warnings);
}

#[test]
fn a_chain_that_wraps_past_two_to_the_32_sectors_ends() {
    let mut disk = vec![0; 1 << 20];
    entry(&mut disk, 0, 0, 5, 0xffff_fff0, 0xffff_ffff);
    entry(&mut disk, 0, 1, 5, 100, 0xffff_ffff);
    entry(&mut disk, 100, 0, 0x83, 0xffff_ffff, 0xffff_ffff);
    entry(&mut disk, 100, 1, 5, 0xffff_ffff, 0xffff_ffff);
    let found = look(disk);
    assert_eq!((found.table.kind, found.volumes.len()), (TableKind::Mbr, 0));
    assert_eq!(found.warnings.len(), 3, "{:?}", found.warnings);
}

#[test]
fn every_short_disk_is_looked_at_without_harm() {
    requires!("sfdisk");
    let (disk, _dir, _) = same_as_sfdisk("printf 'label: gpt\n,10M\n,20M\n' | sfdisk -q $disk");
    let bytes = std::fs::read(disk).unwrap();
    for len in (0..2048).chain((2048..40_000).step_by(509)) {
        look(bytes[..len].to_vec());
    }
}

#[test]
fn damaged_tables_cause_neither_panic_nor_hang() {
    requires!("sfdisk");
    for label in ["dos", "gpt"] {
        let script = format!(
            "printf 'label: {label}\n,4M\n,40M,{}\n,4M\n,4M\n,4M\n' | sfdisk -q $disk",
            if label == "dos" { "5" } else { "L" }
        );
        let (disk, _dir, _) = same_as_sfdisk(&script);
        let mut clean = std::fs::read(disk).unwrap();
        clean.truncate(8 << 20);
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        for _ in 0..300 {
            let mut bytes = clean[..64 << 10].to_vec();
            for _ in 0..=random(4) {
                let at = if random(2) == 0 { random(1024) } else { random(4096) };
                bytes[at] = random(256) as u8;
            }
            look(bytes);
        }
    }
}

/// Where we say more than `sfdisk -J` did on the bare file, and why that is right.
const BETTER: &[(&str, &str)] = &[
    ("gptman/disk2.img", "4096-byte sectors, which sfdisk takes from the device only"),
    ("gptman/disk4.img", "4096-byte sectors, which sfdisk takes from the device only"),
    ("bootsector/4t-gpt.img", "the GPT of a truncated disk is whole; sfdisk shows its protective MBR"),
    (
        "bootsector/pirroman-short-header.img",
        "the GPT of a truncated disk is whole; sfdisk shows its protective MBR",
    ),
    ("ts_blkid_images-pt_sgi.img.xz", "an SGI label, not read"),
    ("ts_blkid_images-pt_sun.img.xz", "a Sun label, not read"),
    ("pt_dos+bsd.img.xz", "the slices of its BSD label, which sfdisk -J leaves out"),
    ("dfvfs/hfsplus_zlib.dmg", "an Apple disk image: a container format, not a raw disk"),
];

#[test]
fn samples_of_others_are_read_as_sfdisk_does() {
    requires!("corpus", "zstd", "xz", "gzip");
    let corpus = common::corpus().unwrap().join("fs");
    let list = common::sh(&format!("find {} -name '*.parts.json'", corpus.display()));
    let (mut equal, mut better) = (0, 0);
    for json in list.lines() {
        let name = json.strip_suffix(".parts.json").unwrap();
        if !Path::new(name).exists() {
            continue; // an expectation whose sample was too large to keep
        }
        let found = look_at(&common::samples::unpacked(Path::new(name)));
        let theirs = sfdisk(&std::fs::read_to_string(json).unwrap());
        let cut = found.warnings.iter().any(|warning| warning.contains("past the end of the disk"));
        if ours(&found) == theirs {
            equal += 1;
        } else if BETTER.iter().any(|(sample, _)| name.ends_with(sample)) {
            better += 1;
        } else {
            assert!(cut, "{name}: {:?}\n{:?}\n{theirs:?}", found.warnings, ours(&found));
            // The sample holds the start of its disk only: numbers and starts must agree, ends are cut off.
            for (ours, theirs) in ours(&found).1.iter().zip(&theirs.1) {
                let key = |line: &str| line.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>();
                assert_eq!(key(ours), key(theirs), "{name}");
            }
            better += 1;
        }
    }
    println!("{equal} equal, {better} with a reason");
    assert!(equal >= 8, "{equal}");
}
