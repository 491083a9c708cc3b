//! Slices of BSD and Solaris as libblkid's partition prober finds them (`partx --show`), which numbers them as Linux does.

use crate::lvm2::look;
use crate::{common, requires};
use imgmount::volume::TableKind;

/// Number, first sector and sectors of each partition, as `partx` says it of the file.
fn partx(disk: &[u8]) -> Vec<String> {
    let dir = common::tempdir();
    let path = dir.path().join("disk");
    std::fs::write(&path, disk).unwrap();
    let text = common::sh(&format!("partx -g -o NR,START,SECTORS {}", path.display()));
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn ours(disk: &[u8]) -> Vec<String> {
    let machine = look(&[disk.to_vec()]);
    let parts = machine.disks[0].volumes.iter().filter_map(|volume| volume.partition.as_ref());
    parts.map(|part| format!("{} {} {}", part.number, part.start / 512, part.size / 512)).collect()
}

fn sample(name: &str) -> Vec<u8> {
    let path = common::corpus().unwrap().join(format!("fs/util-linux/ts_blkid_images-{name}.img.xz"));
    std::fs::read(&*common::samples::unpacked(&path)).unwrap()
}

#[test]
fn samples_of_others_have_the_slices_that_libblkid_finds() {
    requires!("corpus", "xz", "partx");
    for (name, kind) in
        [("pt_dos+bsd", TableKind::Mbr), ("pt_sun", TableKind::Sun), ("pt_bsd", TableKind::Bsd)]
    {
        let disk = sample(name);
        assert!(!partx(&disk).is_empty());
        // The sample may hold the start of its disk only: what goes past its end is cut off, as the kernel does.
        let sectors = disk.len() as u64 / 512;
        let cut = |line: &String| {
            let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
            let size = numbers[2].min(sectors.saturating_sub(numbers[1]));
            (size > 0).then(|| format!("{} {} {size}", numbers[0], numbers[1]))
        };
        let theirs: Vec<String> = partx(&disk).iter().filter_map(cut).collect();
        // On a whole disk Linux sees no slices of BSD; libblkid counts those in use, we keep their letters.
        let shown = |lines: Vec<String>| -> Vec<String> {
            let skip = if kind == TableKind::Bsd { 1 } else { 0 };
            lines.iter().map(|line| line.split(' ').skip(skip).collect::<Vec<_>>().join(" ")).collect()
        };
        assert_eq!(shown(ours(&disk)), shown(theirs), "{name}");
        assert_eq!(look(&[disk]).disks[0].table.kind, kind, "{name}");
    }
    let machine = look(&[sample("pt_dos+bsd")]);
    let ids: Vec<(&str, Option<&str>)> =
        machine.disks[0].volumes.iter().map(|volume| (volume.id.as_str(), volume.claimed_by)).collect();
    assert_eq!(ids[..3], [("p1", None), ("p2", Some("slices")), ("p5", None)], "{ids:?}");
    for (name, what) in [("pt_sgi", "SGI volume header"), ("pt_dasd-cdl", "DASD volume label")] {
        let machine = look(&[sample(name)]);
        assert!(
            machine.disks[0].warnings.iter().any(|line| line.contains(what)),
            "{name}: {:?}",
            machine.disks[0].warnings
        );
    }
}

/// An MBR with partitions of these types, 100 sectors each from sector 100 on.
fn mbr(kinds: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; 1000 * 512];
    for (number, kind) in kinds.iter().enumerate() {
        let at = 446 + 16 * number;
        disk[at + 4] = *kind;
        disk[at + 8..at + 12].copy_from_slice(&(100 * (number as u32 + 1)).to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&100_u32.to_le_bytes());
    }
    disk[440] = 1;
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

/// A VTOC of Solaris as `struct solaris_x86_vtoc` has it, with slices of tag, first sector and sectors.
fn vtoc(disk: &mut [u8], partition: usize, slices: &[(u16, u32, u32)]) {
    let at = (partition + 1) * 512;
    let vtoc = &mut disk[at..at + 512];
    vtoc[12..16].copy_from_slice(&0x600d_deee_u32.to_le_bytes());
    vtoc[16] = 1;
    vtoc[28..30].copy_from_slice(&512_u16.to_le_bytes());
    vtoc[30..32].copy_from_slice(&16_u16.to_le_bytes());
    for (number, (tag, start, size)) in slices.iter().enumerate() {
        let entry = &mut vtoc[72 + 12 * number..][..12];
        entry[..2].copy_from_slice(&tag.to_le_bytes());
        entry[4..8].copy_from_slice(&start.to_le_bytes());
        entry[8..].copy_from_slice(&size.to_le_bytes());
    }
}

#[test]
fn solaris_slices_take_the_numbers_behind_the_partitions() {
    // As `parse_solaris_x86` in Linux's block/partitions/msdos.c; no tool here reads one in a file.
    for kind in [0x82, 0xbf] {
        let mut disk = mbr(&[0x83, kind, 0x07]);
        vtoc(&mut disk, 200, &[(2, 10, 20), (3, 30, 20), (0, 0, 0), (8, 60, 40)]);
        let slices = ["1 100 100", "2 200 100", "3 300 100", "5 210 20", "6 230 20", "7 260 40"];
        assert_eq!(ours(&disk), slices, "{kind:#x}");
    }
    // A Linux swap area, which has the same type.
    assert_eq!(ours(&mbr(&[0x82])), ["1 100 100"]);
}

#[test]
fn damaged_labels_cause_neither_panic_nor_hang() {
    let mut clean = mbr(&[0x83, 0xbf, 0xa5]);
    vtoc(&mut clean, 200, &[(2, 10, 20), (3, 30, 20)]);
    for at in [301 * 512, 301 * 512 + 132] {
        clean[at..at + 4].copy_from_slice(&0x8256_4557_u32.to_le_bytes());
    }
    clean[301 * 512 + 138] = 16;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for _ in 0..300 {
        let mut disk = clean.clone();
        for _ in 0..8 {
            let at = [201, 301, 0][random(3)] * 512 + random(512);
            disk[at] = random(256) as u8;
        }
        look(&[disk]);
    }
}
