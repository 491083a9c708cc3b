//! Logical volumes as LVM2's own tools lay them out. No device-mapper is needed: `lvcreate --driverloaded n` writes the
//! metadata alone, and every byte of the physical volumes is known by its place.

use crate::common;
use crate::common::process::cpu;
use crate::md::{lay_out, picture};
use crate::requires;
use imgmount::block::BlockSource;
use imgmount::budget::{Budget, Limits};
use imgmount::engine::Mapper;
use imgmount::keys::Keys;
use imgmount::source::memory::Memory;
use imgmount::volume::{Machine, VolCx, Volume, discover_all};
use std::sync::Arc;

const MIB: u64 = 1 << 20;

/// Physical volumes of `size` MiB, filled so that every 8 bytes say where they are, and the group that `script` makes of
/// them: `$pvs` are their devices, `lvm COMMAND` runs one of its tools on them. What the script prints comes back.
pub(crate) fn group(pvs: usize, size: u64, script: &str) -> (Vec<Vec<u8>>, String) {
    let dir = common::tempdir();
    let at = dir.path().display();
    for number in 0..pvs {
        let path = dir.path().join(format!("pv{number}"));
        std::fs::write(&path, vec![0; (size * MIB) as usize]).unwrap();
    }
    let printed = common::sh(&format!(
        r#"cd {at}; pvs=; filter=
        for file in pv*; do loop=$(losetup -f --show $file); pvs="$pvs $loop"; filter="$filter\"a|^$loop\$|\","; done
        trap 'for loop in $pvs; do losetup -d $loop; done' EXIT
        config="devices{{filter=[$filter\"r|.*|\"] use_devicesfile=0 obtain_device_list_from_udev=0}} activation{{udev_sync=0 udev_rules=0 monitoring=0}} global{{use_lvmpolld=0}} backup{{backup=0 archive=0}}"
        lvm() {{ local tool=$1; shift; command $tool --config "$config" "$@" 2> err || {{ cat err >&2; return 1; }}; }}
        lv() {{ lvm lvcreate -q --driverloaded n -an -Zn -Wn -y "$@" > /dev/null; }}
        {script}"#
    ));
    let disks = (0..pvs).map(|number| std::fs::read(dir.path().join(format!("pv{number}"))).unwrap());
    (disks.collect(), printed)
}

/// Makes every 8 bytes from `from` on say which PV they are on, and where.
pub(crate) fn mark(disks: &mut [Vec<u8>], from: u64) {
    for (pv, disk) in disks.iter_mut().enumerate() {
        for (number, word) in disk.chunks_exact_mut(8).enumerate().skip((from / 8) as usize) {
            word.copy_from_slice(&place(pv, number as u64 * 8));
        }
    }
}

/// What stands there.
pub(crate) fn place(pv: usize, offset: u64) -> [u8; 8] {
    (((pv as u64 + 1) << 56) | offset).to_le_bytes()
}

pub(crate) fn look(disks: &[Vec<u8>]) -> Machine {
    look_with(disks, &Keys::default())
}

pub(crate) fn look_with(disks: &[Vec<u8>], keys: &Keys) -> Machine {
    let disks: Vec<Arc<dyn BlockSource>> = disks
        .iter()
        .map(|bytes| -> Arc<dyn BlockSource> { Arc::new(Memory::new(bytes.clone(), "disk")) })
        .collect();
    let mapper = Mapper::new(Arc::default());
    discover_all(&disks, &VolCx { budget: &Budget::new(Limits::OPEN), mapper: &mapper, keys })
}

pub(crate) fn all(machine: &Machine) -> Vec<&Volume> {
    machine.disks.iter().flat_map(|disk| &disk.volumes).chain(&machine.joined).collect()
}

pub(crate) fn volume<'a>(machine: &'a Machine, id: &str) -> &'a Volume {
    let all = all(machine);
    let ids: Vec<&str> = all.iter().map(|volume| volume.id.as_str()).collect();
    all.iter()
        .find(|volume| volume.id == id)
        .unwrap_or_else(|| panic!("{id}: {ids:?} {:?}", machine.warnings))
}

pub(crate) fn bytes(volume: &Volume) -> Vec<u8> {
    let mut bytes = vec![0; volume.source.len() as usize];
    volume.source.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Compares a volume with what `expected` says stands at each offset, and reads pieces of it across every boundary.
#[track_caller]
pub(crate) fn reads_as(volume: &Volume, len: u64, expected: impl Fn(u64) -> [u8; 8]) {
    assert_eq!(volume.source.len(), len, "{}", volume.id);
    let bytes = bytes(volume);
    for (number, word) in bytes.chunks_exact(8).enumerate() {
        let offset = number as u64 * 8;
        assert_eq!(word, expected(offset), "{} at {offset:#x}", volume.id);
    }
    for (offset, size) in [(0, 1), (4095, 4098), (len / 4 + 1, len as usize / 2), (len - 513, 513)] {
        let mut part = vec![0; size];
        volume.source.read_at(&mut part, offset).unwrap();
        assert_eq!(part, bytes[offset as usize..][..size], "{} at {offset}", volume.id);
    }
}

/// `seg_start`, `seg_size`, `stripe_size`, `seg_pe_ranges` of an LV as lvm2 itself reports them, in bytes.
const SEGMENTS: &str = "echo pvs $pvs; lvm lvs --driverloaded n --noheadings --nosuffix --units b --separator '|' \
     -o lv_name,seg_start,seg_size,stripe_size,seg_pe_ranges,lv_uuid,vg_uuid";

/// Start, size, stripe size, and the physical volume and first extent of each stripe.
type Reported = (u64, u64, u64, Vec<(usize, u64)>);

/// Where the words of an LV come from, by that report.
struct Report {
    segments: Vec<Reported>,
    extent: u64,
    first: u64,
    uuids: String,
}

impl Report {
    fn of(printed: &str, lv: &str, extent: u64, first: u64) -> Self {
        let (mut segments, mut uuids) = (Vec::new(), String::new());
        let devices: Vec<&str> = printed.lines().next().unwrap().split(' ').skip(1).collect();
        for line in printed.lines() {
            let fields: Vec<&str> = line.trim().split('|').collect();
            if fields[0] != lv {
                continue;
            }
            let number = |at: usize| fields[at].parse().unwrap();
            let stripes = fields[4].split(' ').map(|range| {
                let (device, range) = range.split_once(':').unwrap();
                let pv = devices.iter().position(|name| *name == device).unwrap();
                (pv, range.split_once('-').unwrap().0.parse().unwrap())
            });
            segments.push((number(1), number(2), number(3), stripes.collect()));
            uuids = format!("{}{}", fields[6], fields[5]).replace('-', "");
        }
        assert!(!segments.is_empty(), "{printed}");
        Self { segments, extent, first, uuids }
    }

    fn word(&self, offset: u64) -> [u8; 8] {
        let (start, _, chunk, stripes) =
            self.segments.iter().find(|(start, size, ..)| (*start..start + size).contains(&offset)).unwrap();
        let inside = offset - start;
        let count = stripes.len() as u64;
        let (column, at) = if count == 1 {
            (0, inside)
        } else {
            (inside / chunk % count, inside / chunk / count * chunk + inside % chunk)
        };
        let (pv, extent) = stripes[column as usize];
        place(pv, self.first + extent * self.extent + at)
    }
}

#[test]
fn linear_and_striped_volumes_over_two_disks_are_where_lvs_says() {
    requires!("root", "loop", "pvcreate");
    let (mut disks, printed) = group(
        2,
        20,
        &format!(
            "lvm pvcreate -q $pvs > /dev/null; lvm vgcreate -q -s 1M data-1 $pvs > /dev/null
             lv -L 5M -n one data-1; lv -i 2 -I 16k -L 6M -n two data-1; lv -L 9M -n three data-1
             lvm lvextend -q --driverloaded n -L 12M data-1/one > /dev/null; {SEGMENTS} data-1"
        ),
    );
    mark(&mut disks, MIB);
    let machine = look(&disks);
    assert_eq!(machine.warnings, [""; 0]);
    for (lv, size) in [("one", 12), ("two", 6), ("three", 9)] {
        let report = Report::of(&printed, lv, MIB, MIB);
        let volume = volume(&machine, &format!("data-1/{lv}"));
        reads_as(volume, size * MIB, |offset| report.word(offset));
        let by_id = format!("/dev/disk/by-id/dm-uuid-LVM-{}", report.uuids);
        for name in [&by_id, &format!("/dev/data-1/{lv}"), &format!("/dev/mapper/data--1-{lv}")] {
            assert!(volume.names.contains(name), "{name} {:?}", volume.names);
        }
    }
    let two = volume(&machine, "data-1/two");
    assert_eq!(
        (two.disk, two.made_of.as_slice()),
        (None, ["disk".to_owned(), "disk2".to_owned()].as_slice())
    );
    assert!(
        volume(&machine, "disk").claimed_by == Some("lvm2")
            && machine.joined.iter().any(|v| v.id == "data-1/two")
    );
}

/// Bytes in an extent of the groups below.
pub(crate) const EXTENT: u64 = 32 << 10;

/// One logical volume of a metadata text: its segments, each with its length in extents, its type and the rest of it.
pub(crate) fn lv(name: &str, is_visible: bool, segments: &[(u64, &str, String)]) -> String {
    let mut id: String =
        name.chars().filter(char::is_ascii_alphanumeric).chain("Z".repeat(32).chars()).take(32).collect();
    for at in [6, 11, 16, 21, 26, 31] {
        id.insert(at, '-');
    }
    let visible = if is_visible { ", \"VISIBLE\"" } else { "" };
    let mut text = format!(
        "{name} {{\nid = \"{id}\"\nstatus = [\"READ\", \"WRITE\"{visible}]\nflags = []\nsegment_count = {}\n",
        segments.len()
    );
    let mut start = 0;
    for (number, (count, kind, rest)) in (1..).zip(segments) {
        text += &format!(
            "segment{number} {{\nstart_extent = {start}\nextent_count = {count}\ntype = \"{kind}\"\n{rest}\n}}\n"
        );
        start += count;
    }
    text + "}\n"
}

/// A hidden LV of `count` extents of a PV from its extent `first` on.
fn part(name: &str, pv: usize, first: u64, count: u64) -> String {
    lv(name, false, &[(count, "striped", on(pv, first))])
}

/// The stripe of a linear segment.
pub(crate) fn on(pv: usize, first: u64) -> String {
    format!("stripe_count = 1\nstripes = [\"pv{pv}\", {first}]")
}

/// A group `vg` whose logical volumes are those of `text`, put there by `vgcfgrestore`, which checks them; lvm2's own list of
/// them and their types comes back, one a line.
pub(crate) fn restored(pvs: usize, size: u64, text: &str) -> (Vec<Vec<u8>>, Vec<String>) {
    let (mut disks, printed) = group(
        pvs,
        size,
        &format!(
            "lvm pvcreate -q $pvs > /dev/null; lvm vgcreate -q -s 32k vg $pvs > /dev/null
             lvm vgcfgbackup -q -f meta vg > /dev/null; sed -i '$ d' meta
             cat >> meta <<'END'\nlogical_volumes {{\n{text}\n}}\n}}\nEND
             lvm vgcfgrestore -q --force -f meta vg > out || {{ cat out err >&2; exit 1; }}
             lvm lvs --driverloaded n -a --noheadings -o lv_name,segtype vg"
        ),
    );
    mark(&mut disks, MIB);
    (disks, printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

/// Where an extent of a PV begins.
pub(crate) fn at(first: u64) -> usize {
    (MIB + first * EXTENT) as usize
}

fn words(first: (usize, u64)) -> impl Fn(u64) -> [u8; 8] {
    move |offset| place(first.0, at(first.1) as u64 + offset)
}

#[test]
fn segments_of_every_plain_type_and_an_old_mirror() {
    requires!("root", "loop", "pvcreate");
    let text = [
        lv("odd", true, &[(2, "striped", on(0, 9)), (3, "zero", String::new()), (1, "striped", on(1, 2))]),
        lv("lost", true, &[(1, "striped", on(0, 3)), (1, "error", String::new())]),
        lv(
            "m",
            true,
            &[(
                4,
                "mirror",
                "mirror_count = 2\nregion_size = 64\nmirrors = [\"m_mimage_0\", 0, \"m_mimage_1\", 0]".into(),
            )],
        ),
        part("m_mimage_0", 0, 20, 4),
        part("m_mimage_1", 1, 20, 4),
    ]
    .concat();
    let (disks, list) = restored(2, 4, &text);
    assert!(list.contains(&"odd zero".to_owned()) && list.contains(&"m mirror".to_owned()), "{list:?}");
    let machine = look(&disks);
    reads_as(volume(&machine, "vg/odd"), 6 * EXTENT, |offset| match offset / EXTENT {
        0 | 1 => words((0, 9))(offset),
        2..=4 => [0; 8],
        _ => words((1, 2))(offset - 5 * EXTENT),
    });
    reads_as(volume(&machine, "vg/m"), 4 * EXTENT, words((0, 20)));
    let lost = volume(&machine, "vg/lost");
    let mut first = vec![0; EXTENT as usize];
    lost.source.read_at(&mut first, 0).unwrap();
    assert!(lost.source.read_at(&mut [0], EXTENT).unwrap_err().to_string().contains("type error"));
}

/// A raid of images on the physical volumes from 0 on, each with its metadata in extent `first` and 15 extents behind it.
fn raid(name: &str, kind: &str, images: usize, first: u64, extents: u64, fields: &str) -> String {
    let meta = kind != "raid0";
    let listed = (0..images).map(|image| {
        let meta = if meta { format!("\"{name}_rmeta_{image}\", ") } else { String::new() };
        format!("{meta}\"{name}_rimage_{image}\"")
    });
    let list = listed.collect::<Vec<_>>().join(", ");
    let fields = if meta {
        let region = if kind.starts_with("raid0") { "" } else { "region_size = 64\n" };
        format!("device_count = {images}\n{region}{fields}\nraids = [{list}]")
    } else {
        format!("stripe_count = {images}\n{fields}\nraid0_lvs = [{list}]")
    };
    let mut text = lv(name, true, &[(extents, kind, fields)]);
    for image in 0..images {
        if meta {
            text += &part(&format!("{name}_rmeta_{image}"), image, first, 1);
        }
        text += &part(&format!("{name}_rimage_{image}"), image, first + 1, 15);
    }
    text
}

/// dm-raid's superblock of an image (`struct dm_raid_superblock`).
fn raid_superblock(failed: u64, events: u64, recovered: u64) -> [u8; 64] {
    let mut sb = [0; 64];
    sb[..4].copy_from_slice(b"DmRd");
    sb[16..24].copy_from_slice(&events.to_le_bytes());
    sb[24..32].copy_from_slice(&failed.to_le_bytes());
    sb[32..40].copy_from_slice(&recovered.to_le_bytes());
    // The first sync is done.
    sb[40..48].fill(0xff);
    sb
}

#[test]
fn raid_volumes_whole_and_without_a_disk() {
    requires!("root", "loop", "pvcreate");
    let chunk = 4 << 10;
    let text = [
        raid("r1", "raid1", 2, 0, 15, ""),
        raid("r5", "raid5_ls", 4, 16, 45, "stripe_size = 8"),
        raid("r6", "raid6_zr", 5, 32, 45, "stripe_size = 8"),
        raid("r10", "raid10", 4, 48, 30, "stripe_size = 8"),
        raid("r4", "raid4", 3, 64, 30, "stripe_size = 8"),
        raid("r0", "raid0", 3, 80, 45, "stripe_size = 8"),
    ]
    .concat();
    let (mut disks, list) = restored(5, 5, &text);
    for wanted in ["r1 raid1", "r5 raid5_ls", "r6 raid6_zr", "r10 raid10", "r4 raid4", "r0 raid0"] {
        assert!(list.contains(&wanted.to_owned()), "{wanted}: {list:?}");
    }
    // What md's layouts are called in LVM2: lvmraid(7); raid4 has its parity on the first image.
    let drawn = [
        ("r1", 0, false, "0 0"),
        ("r5", 16, false, "0 1 2 P / 4 5 P 3 / 8 P 6 7 / P 9 10 11"),
        ("r6", 32, true, "P Q 0 1 2 / 3 P Q 4 5 / 6 7 P Q 8 / 9 10 11 P Q / Q 12 13 14 P"),
        ("r10", 48, false, "0 0 1 1"),
        ("r4", 64, false, "P 0 1"),
        ("r0", 80, false, "0 1 2"),
    ];
    let mut contents = Vec::new();
    for (name, first, ddf, text) in drawn {
        let (count, cell) = picture(text);
        let (data, content) = lay_out(count, chunk, ddf, cell);
        for (image, data) in data.iter().enumerate() {
            disks[image][at(first + 1)..][..data.len()].copy_from_slice(data);
            if name != "r0" {
                disks[image][at(first)..at(first + 1)].fill(0);
                disks[image][at(first)..][..64].copy_from_slice(&raid_superblock(0, 9, u64::MAX));
            }
        }
        contents.push((format!("vg/{name}"), content));
    }
    let machine = look(&disks);
    assert_eq!(machine.warnings, [""; 0]);
    for (id, content) in &contents {
        assert!(bytes(volume(&machine, id)) == *content, "{id}");
    }
    for gone in 0..5 {
        let left: Vec<Vec<u8>> =
            (0..5).filter(|disk| *disk != gone).map(|disk| disks[disk].clone()).collect();
        let machine = look(&left);
        for (id, content) in &contents {
            let volume = volume(&machine, id);
            if id == "vg/r0" && gone < 3 {
                let error = volume.source.read_at(&mut [0], 0).unwrap_err().chain();
                assert!(error.contains(&format!("physical volume pv{gone} (UUID ")), "{error}");
                assert!(machine.warnings.contains(&error), "{:?}", machine.warnings);
            } else {
                assert!(bytes(volume) == *content, "{id} without pv{gone}: {:?}", machine.warnings);
            }
        }
    }
    // A first sync that was not finished, as dm-raid says it in byte 40 of its superblock, and one that never began: with
    // every image the content is what it is; without one, there may be no parity to work it out from (`raid5_run`).
    for synced in [Some(0), Some(64), None] {
        let mut disks = disks.clone();
        for first in [0, 16, 32, 48, 64] {
            for disk in &mut disks {
                match synced {
                    Some(sectors) => disk[at(first) + 40..][..8].copy_from_slice(&u64::to_le_bytes(sectors)),
                    None => disk[at(first)..][..64].fill(0),
                }
            }
        }
        let machine = look(&disks);
        assert_eq!(machine.warnings, [""; 0]);
        for (id, content) in &contents {
            assert!(bytes(volume(&machine, id)) == *content, "{id}");
        }
        let machine = look(&disks[1..]);
        for id in ["vg/r4", "vg/r5", "vg/r6"] {
            let error = volume(&machine, id).source.read_at(&mut [0], 0).unwrap_err().chain();
            assert!(error.contains("parity was never worked out to its end"), "{id}: {error}");
        }
        for (id, content) in contents.iter().filter(|(id, _)| matches!(id.as_str(), "vg/r1" | "vg/r10")) {
            assert!(bytes(volume(&machine, id)) == *content, "{id}");
            let line = format!("{id}: its images were never made alike to the end");
            assert!(
                machine.warnings.iter().any(|warning| warning.starts_with(&line)),
                "{:?}",
                machine.warnings
            );
        }
    }
    // One image without a superblock where the others have one: the kernel would fill it first.
    let mut fresh = disks.clone();
    fresh[1][at(16)..][..64].fill(0);
    fresh[1][at(17)..at(32)].fill(0xee);
    let machine = look(&fresh);
    assert!(bytes(volume(&machine, "vg/r5")) == contents[1].1);
    assert_eq!(machine.warnings, ["vg/r5: image 1 is left out: it has no superblock, as the others have"]);
    // An image that failed, one that was not rebuilt: what they hold is not read.
    for (image, failed, recovered) in [(1, 0b10, u64::MAX), (0, 0, 64)] {
        let mut disks = disks.clone();
        for first in [0, 16, 32, 48, 64] {
            for (number, disk) in disks.iter_mut().enumerate() {
                let own = if number == image { recovered } else { u64::MAX };
                disk[at(first)..][..64].copy_from_slice(&raid_superblock(failed, 9, own));
            }
            disks[image][at(first + 1)..at(first + 16)].fill(0xee);
        }
        let machine = look(&disks);
        for (id, content) in contents.iter().filter(|(id, _)| id != "vg/r0") {
            assert!(bytes(volume(&machine, id)) == *content, "{id}: {:?}", machine.warnings);
        }
        assert!(
            machine.warnings[0].contains(&format!("image {image} is left out")),
            "{:?}",
            machine.warnings
        );
    }
}

#[test]
fn a_raid0_names_the_image_that_has_failed() {
    requires!("root", "loop", "pvcreate");
    let (mut disks, list) = restored(3, 2, &raid("r", "raid0_meta", 3, 0, 45, "stripe_size = 8"));
    assert!(list.contains(&"r raid0_meta".to_owned()), "{list:?}");
    for (failed, recovered, why) in
        [(0b100, u64::MAX, "it has failed"), (0, 64, "it was not yet rebuilt"), (0, u64::MAX, "")]
    {
        for (image, disk) in disks.iter_mut().enumerate() {
            let own = if image == 2 { recovered } else { u64::MAX };
            disk[at(0)..][..64].copy_from_slice(&raid_superblock(failed, 9, own));
        }
        let machine = look(&disks);
        let read = volume(&machine, "vg/r").source.read_at(&mut [0], 0).map_err(|error| error.chain());
        match (read, why) {
            (read, "") => assert_eq!(read, Ok(())),
            (Err(error), why) => assert!(error.contains("image 2") && error.contains(why), "{error}"),
            (Ok(()), why) => panic!("{why}: it was read"),
        }
    }
}

#[test]
fn ten_thousand_logical_volumes_are_cut_short() {
    requires!("root", "loop", "pvcreate");
    let (mut disks, _) = restored(1, 2, &lv("a", true, &[(1, "striped", on(0, 1))]));
    let pv = String::from_utf8(disks[0][544..576].to_vec()).unwrap();
    let mut text = format!(
        "vg{{id=\"u\"\nseqno=99\nextent_size=8\nphysical_volumes{{pv0{{id=\"{pv}\"}}}}\nlogical_volumes{{"
    );
    for number in 0..15_000 {
        text += &format!("l{number}{{status=\"VISIBLE\"\nsegment1{{start_extent=0\nextent_count=1\n}}}}");
    }
    text += "}}";
    disks[0][4096 + 512..][..text.len()].copy_from_slice(text.as_bytes());
    disks[0][4096 + 40..][..8].copy_from_slice(&512_u64.to_le_bytes());
    disks[0][4096 + 48..][..8].copy_from_slice(&(text.len() as u64).to_le_bytes());
    stamp(&mut disks[0], 512, text.len());
    let machine = look(&disks);
    assert!(all(&machine).len() <= 1025);
    let lines: Vec<_> = machine.warnings.iter().filter(|line| line.contains("more than 1024")).collect();
    assert!(lines[0].starts_with("vg: more than 1024 logical volumes"), "{lines:?}");
}

/// Where the chunks of a thin volume lie, by what was given to `thin_restore`.
fn thin(chunk: u64, map: impl Fn(u64) -> Option<u64>, first: (usize, u64)) -> impl Fn(u64) -> [u8; 8] {
    move |offset| match map(offset / chunk) {
        Some(data) => words(first)(data * chunk + offset % chunk),
        None => [0; 8],
    }
}

#[test]
fn thin_volumes_as_thin_restore_writes_their_pool() {
    requires!("root", "loop", "pvcreate", "thin_restore");
    let pool = "metadata = \"pool_tmeta\"\npool = \"pool_tdata\"\ntransaction_id = 0\nchunk_size = 128\ndiscards = \"passdown\"\nzero_new_blocks = 1";
    let of = |number: u64, more: &str| {
        format!("thin_pool = \"pool\"\ntransaction_id = 0\ndevice_id = {number}\n{more}")
    };
    let text = [
        lv("pool", true, &[(64, "thin-pool", pool.into())]),
        part("pool_tmeta", 0, 0, 64),
        part("pool_tdata", 1, 3, 64),
        lv("t1", true, &[(80, "thin", of(1, ""))]),
        lv("t2", true, &[(80, "thin", of(2, "origin = \"t1\""))]),
        lv("big", true, &[(20_000, "thin", of(3, ""))]),
        lv("over", true, &[(20, "thin", of(4, "external_origin = \"base\""))]),
        lv("base", true, &[(10, "striped", on(0, 70))]),
        lv("gone", true, &[(10, "thin", of(77, ""))]),
    ]
    .concat();
    let (mut disks, list) = restored(2, 5, &text);
    assert!(list.contains(&"t1 thin".to_owned()) && list.contains(&"pool thin-pool".to_owned()), "{list:?}");
    // 10,000 chunks of "big" at every other place: a tree of three levels.
    let big = |chunk: u64| (!chunk.is_multiple_of(3) && chunk < 9_000).then_some(chunk * 7 % 32);
    let mut xml = String::from(
        r#"<superblock uuid="" time="1" transaction="0" flags="0" version="2" data_block_size="128" nr_data_blocks="32">
        <device dev_id="1" mapped_blocks="9" transaction="0" creation_time="0" snap_time="0">
        <range_mapping origin_begin="0" data_begin="10" length="3" time="0"/><single_mapping origin_block="7" data_block="2" time="1"/>
        <range_mapping origin_begin="20" data_begin="24" length="5" time="0"/></device>
        <device dev_id="2" mapped_blocks="1" transaction="0" creation_time="0" snap_time="0">
        <single_mapping origin_block="39" data_block="31" time="0"/></device>
        <device dev_id="3" mapped_blocks="6000" transaction="0" creation_time="0" snap_time="0">"#,
    );
    for chunk in 0..9_000 {
        if let Some(data) = big(chunk) {
            xml += &format!(r#"<single_mapping origin_block="{chunk}" data_block="{data}" time="0"/>"#);
        }
    }
    xml += r#"</device><device dev_id="4" mapped_blocks="1" transaction="0" creation_time="0" snap_time="0">
        <single_mapping origin_block="1" data_block="5" time="0"/></device></superblock>"#;
    let dir = common::tempdir();
    std::fs::write(dir.path().join("xml"), xml).unwrap();
    common::sh(&format!(
        "cd {}; truncate -s 2M meta; thin_restore -i xml -o meta > /dev/null",
        dir.path().display()
    ));
    let meta = std::fs::read(dir.path().join("meta")).unwrap();
    disks[0][at(0)..][..meta.len()].copy_from_slice(&meta);
    let machine = look(&disks);
    let chunk = 64 << 10;
    let one = |chunk: u64| match chunk {
        0..=2 => Some(10 + chunk),
        7 => Some(2),
        20..=24 => Some(4 + chunk),
        _ => None,
    };
    reads_as(volume(&machine, "vg/t1"), 80 * EXTENT, thin(chunk, one, (1, 3)));
    reads_as(
        volume(&machine, "vg/t2"),
        80 * EXTENT,
        thin(chunk, |chunk| (chunk == 39).then_some(31), (1, 3)),
    );
    let over = |offset: u64| match offset / chunk {
        1 => words((1, 3))(5 * chunk + offset % chunk),
        _ if offset < 10 * EXTENT => words((0, 70))(offset),
        _ => [0; 8],
    };
    reads_as(volume(&machine, "vg/over"), 20 * EXTENT, over);
    let big_volume = volume(&machine, "vg/big");
    let expected = thin(chunk, big, (1, 3));
    for number in 0..10_000 {
        let offset = number * chunk + number * 8 % chunk;
        let mut word = [0; 8];
        big_volume.source.read_at(&mut word, offset).unwrap();
        assert_eq!(word, expected(offset), "chunk {number}");
        assert_eq!(big_volume.source.extent(offset).unwrap().hole, big(number).is_none());
    }
    let hole = big_volume.source.extent(9_000 * chunk).unwrap();
    assert_eq!((hole.len, hole.hole), (1_000 * chunk, true));
    let error = volume(&machine, "vg/gone").source.read_at(&mut [0], 0).unwrap_err().chain();
    assert!(error.contains("the pool has no volume 77"), "{error}");
    assert!(all(&machine).iter().all(|volume| volume.id != "vg/pool"));
    // A node whose checksum is wrong costs what lies below it: somewhere an error, elsewhere the same bytes.
    for block in (1..60).step_by(7) {
        let mut disks = disks.clone();
        disks[0][at(0) + 4096 * block + 40] ^= 1;
        let machine = look(&disks);
        for number in (0..9_000).step_by(97) {
            let offset = number * chunk;
            let mut word = [0; 8];
            if volume(&machine, "vg/big").source.read_at(&mut word, offset).is_ok() {
                assert_eq!(word, expected(offset), "chunk {number}, block {block} damaged");
            }
        }
    }
    // Nodes with wrong numbers under a right checksum.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for round in 0..100 {
        let mut disks = disks.clone();
        let (block, salt) = if round % 10 == 0 { (0, 160_774) } else { (1 + random(60), 121_107) };
        let node = &mut disks[0][at(0) + 4096 * block..][..4096];
        for _ in 0..=random(3) {
            let byte = if random(2) == 0 { 4 + random(28) } else { 4 + random(4092) };
            node[byte] = random(256) as u8;
        }
        let sum = node[4..].iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
            })
        });
        node[..4].copy_from_slice(&(sum ^ salt).to_le_bytes());
        let start = cpu();
        let machine = look(&disks);
        for id in ["vg/t1", "vg/t2", "vg/big"] {
            let thin = &volume(&machine, id).source;
            for number in 0..50 {
                let offset = thin.len() / 50 * number;
                drop(thin.read_at(&mut [0; 100], offset));
                drop(thin.extent(offset));
            }
        }
        let took = cpu().saturating_sub(start);
        assert!(took.as_secs() < 5, "round {round}: {took:?}");
    }
}

/// Device-mapper's persistent exception store with chunks of 4 KiB, keeping these old chunks in the order given.
fn store(old: &[u64], keep: impl Fn(u64) -> Vec<u8>) -> Vec<u8> {
    const CHUNK: usize = 4096;
    let mut store = vec![0; CHUNK];
    for (at, field) in [0x7041_6e53_u32, 1, 1, 8].iter().enumerate() {
        store[at * 4..][..4].copy_from_slice(&field.to_le_bytes());
    }
    for area in old.chunks(CHUNK / 16) {
        let table = store.len();
        store.resize(table + CHUNK, 0);
        for (number, old) in area.iter().enumerate() {
            let new = (store.len() / CHUNK) as u64;
            let entry = table + number * 16;
            store[entry..][..8].copy_from_slice(&old.to_le_bytes());
            store[entry + 8..][..8].copy_from_slice(&new.to_le_bytes());
            store.extend(keep(*old));
        }
    }
    store
}

#[test]
fn a_snapshot_is_its_origin_with_what_its_store_keeps() {
    requires!("root", "loop", "pvcreate");
    let of = |field: &str, store: &str| format!("chunk_size = 8\norigin = \"o\"\n{field} = \"{store}\"");
    for (field, shows, plain) in [("cow_store", "vg/snap", Some("vg/o")), ("merging_store", "vg/o", None)] {
        let text = [
            lv("o", true, &[(64, "striped", on(0, 5))]),
            lv("snap", true, &[(40, "striped", on(1, 0))]),
            lv("snapshot0", true, &[(64, "snapshot", of(field, "snap"))]),
        ]
        .concat();
        let (mut disks, _) = restored(2, 4, &text);
        let kept = |chunk: u64| {
            (0..512).flat_map(|word| ((chunk << 32) | word | (0xabc << 48)).to_le_bytes()).collect()
        };
        // 300 of 512 chunks, in no order: more than one table.
        let old: Vec<u64> = (0..300).map(|number| number * 7 % 512).collect();
        let bytes = store(&old, kept);
        disks[1][at(0)..at(40)].fill(0);
        disks[1][at(0)..][..bytes.len()].copy_from_slice(&bytes);
        let machine = look(&disks);
        assert_eq!(machine.warnings, [""; 0]);
        reads_as(volume(&machine, shows), 64 * EXTENT, |offset| {
            let chunk = offset / 4096;
            if old.contains(&chunk) {
                ((chunk << 32) | (offset % 4096 / 8) | (0xabc << 48)).to_le_bytes()
            } else {
                words((0, 5))(offset)
            }
        });
        match plain {
            Some(plain) => reads_as(volume(&machine, plain), 64 * EXTENT, words((0, 5))),
            None => assert!(all(&machine).iter().all(|volume| volume.id != "vg/snap")),
        }
        // One that was full.
        disks[1][at(0) + 4] = 0;
        let machine = look(&disks);
        let error = volume(&machine, shows).source.read_at(&mut [0], 0).unwrap_err().chain();
        assert!(error.contains("marked as invalid"), "{error}");
    }
}

#[test]
fn a_cache_is_its_origin_unless_that_may_be_stale() {
    requires!("root", "loop", "pvcreate");
    for (mode, reads) in [("writethrough", true), ("writeback", false)] {
        let pool = format!(
            "data = \"p_cdata\"\nmetadata = \"p_cmeta\"\nchunk_size = 128\nmetadata_format = 2\ncache_mode = \"{mode}\"\npolicy = \"smq\"\npolicy_settings {{\n}}"
        );
        let text = [
            lv("c", true, &[(10, "cache", "cache_pool = \"p\"\norigin = \"c_corig\"".into())]),
            part("c_corig", 0, 40, 10),
            lv("p", false, &[(8, "cache-pool", pool)]),
            part("p_cdata", 1, 0, 8),
            part("p_cmeta", 1, 8, 8),
        ]
        .concat();
        let (disks, list) = restored(2, 4, &text);
        assert!(list.contains(&"c cache".to_owned()), "{list:?}");
        let machine = look(&disks);
        let cache = volume(&machine, "vg/c");
        if reads {
            reads_as(cache, 10 * EXTENT, words((0, 40)));
        } else {
            let error = cache.source.read_at(&mut [0], 0).unwrap_err().chain();
            assert!(error.contains("cache in mode writeback"), "{error}");
        }
    }
}

#[test]
fn a_missing_disk_is_named_and_spoils_only_what_lies_on_it() {
    requires!("root", "loop", "pvcreate");
    let text = [
        lv("a", true, &[(4, "striped", on(0, 1))]),
        lv("b", true, &[(4, "striped", on(0, 9)), (4, "striped", on(1, 9))]),
    ];
    let (disks, _) = restored(2, 2, &text.concat());
    let machine = look(&disks[..1]);
    reads_as(volume(&machine, "vg/a"), 4 * EXTENT, words((0, 1)));
    let error = volume(&machine, "vg/b").source.read_at(&mut [0], 0).unwrap_err();
    assert!(error.chain().contains("physical volume pv1 (UUID "), "{}", error.chain());
    assert_eq!(volume(&machine, "vg/b").source.len(), 8 * EXTENT);
    assert_eq!((volume(&machine, "vg/a").disk, machine.joined.len()), (Some(0), 0));
}

#[test]
fn a_clone_of_a_group_is_kept_apart() {
    requires!("root", "loop", "pvcreate");
    let (disks, _) = restored(2, 2, &lv("a", true, &[(2, "striped", on(0, 1)), (2, "striped", on(1, 1))]));
    let mut clones = disks.clone();
    clones.iter_mut().for_each(|disk| disk[at(1)..at(4)].fill(0xcc));
    let both = [disks, clones].concat();
    let machine = look(&both);
    let first = words((0, 1));
    reads_as(volume(&machine, "vg/a"), 4 * EXTENT, |offset| {
        if offset < 2 * EXTENT { first(offset) } else { words((1, 1))(offset - 2 * EXTENT) }
    });
    reads_as(volume(&machine, "vg~2/a"), 4 * EXTENT, |_| [0xcc; 8]);
    assert_eq!(volume(&machine, "vg~2/a").made_of, ["disk3", "disk4"]);
    assert!(machine.warnings.iter().any(|line| line.contains("shown as vg~2")), "{:?}", machine.warnings);
    assert!(volume(&machine, "vg~2/a").names.iter().all(|name| !name.contains("vg")));
}

#[test]
fn damaged_metadata_cause_neither_panic_nor_hang() {
    requires!("root", "loop", "pvcreate");
    let text = [
        lv("a", true, &[(4, "striped", on(0, 1))]),
        raid("r5", "raid5_ls", 3, 10, 30, "stripe_size = 8"),
        lv("s", true, &[(40, "striped", on(1, 40))]),
        lv("snapshot0", true, &[(4, "snapshot", "chunk_size = 8\norigin = \"a\"\ncow_store = \"s\"".into())]),
    ];
    let (mut clean, _) = restored(3, 5, &text.concat());
    let bytes = store(&(0..32).collect::<Vec<_>>(), |_| vec![7; 4096]);
    clean[1][at(40)..][..bytes.len()].copy_from_slice(&bytes);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    // The newest text, which is damaged with its checksums made right again: they would hide the parser.
    let head = clean[0][4096..8192].to_vec();
    let field = |at: usize| u64::from_le_bytes(head[at..][..8].try_into().unwrap());
    let (offset, len) = (field(40) as usize, field(48) as usize);
    for round in 0..300 {
        let mut disks = clean.clone();
        for disk in &mut disks {
            for _ in 0..=random(3) {
                let text = 4096 + offset + random(len);
                let other = match random(4) {
                    0 => disk[4096 + offset + random(len)],
                    1 => b'0' + random(10) as u8,
                    2 => b"{}[]=,\"#\n"[random(9)],
                    _ => random(256) as u8,
                };
                disk[text] = other;
            }
            if round % 4 == 0 {
                let at = random(0x200);
                disk[4096 + at] = random(256) as u8;
            }
            if round % 5 == 0 {
                let at = at(40) + random(8192);
                disk[at] = random(256) as u8;
            }
            stamp(disk, offset, len);
        }
        let start = cpu();
        let machine = look(&disks);
        for volume in all(&machine) {
            let mut part = vec![0; 64 << 10];
            let len = volume.source.len();
            for offset in [0, len / 2, len.saturating_sub(part.len() as u64)] {
                let size = (len - offset).min(part.len() as u64) as usize;
                drop(volume.source.read_at(&mut part[..size], offset));
                drop(volume.source.extent(offset.min(len.saturating_sub(1))));
            }
        }
        let took = cpu().saturating_sub(start);
        assert!(took.as_secs() < 5, "round {round}: {took:?}");
    }
}

/// Makes the checksums of a PV's text and of its header right.
fn stamp(disk: &mut [u8], offset: usize, len: usize) {
    let sum = |bytes: &[u8]| {
        bytes.iter().fold(0xf597_a6cf_u32, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
        })
    };
    let text = sum(&disk[4096 + offset..][..len]);
    disk[4096 + 56..][..4].copy_from_slice(&text.to_le_bytes());
    let header = sum(&disk[4100..4608]);
    disk[4096..4100].copy_from_slice(&header.to_le_bytes());
}

#[test]
fn a_label_that_a_partitioned_disk_has_kept_is_not_followed() {
    requires!("root", "loop", "pvcreate");
    let (mut disks, _) = restored(1, 2, &lv("a", true, &[(1, "striped", on(0, 1))]));
    assert_eq!(volume(&look(&disks), "vg/a").made_of, ["disk"]);
    disks[0][446 + 4] = 0x83;
    disks[0][446 + 8..446 + 16].copy_from_slice(&[0, 8, 0, 0, 16, 0, 0, 0]);
    disks[0][510..512].copy_from_slice(&[0x55, 0xaa]);
    let machine = look(&disks);
    let ids: Vec<&str> = all(&machine).iter().map(|volume| volume.id.as_str()).collect();
    assert_eq!(ids, ["p1"]);
}
