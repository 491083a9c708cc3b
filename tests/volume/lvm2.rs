//! Logical volumes as LVM2's own tools lay them out. No device-mapper is needed: `lvcreate --driverloaded n` writes the
//! metadata alone, and every byte of the physical volumes is known by its place.

use crate::common;
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
    ((pv as u64 + 1) << 56 | offset).to_le_bytes()
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
    for (offset, size) in [(0, 1), (4095, 4098), (len / 2 - 70_001, 140_003), (len - 513, 513)] {
        let mut part = vec![0; size];
        volume.source.read_at(&mut part, offset).unwrap();
        assert_eq!(part, bytes[offset as usize..][..size], "{} at {offset}", volume.id);
    }
}

/// `seg_start`, `seg_size`, `stripe_size`, `seg_pe_ranges` of an LV as lvm2 itself reports them, in bytes.
const SEGMENTS: &str = "lvm lvs --driverloaded n --noheadings --nosuffix --units b --separator '|' \
     -o lv_name,seg_start,seg_size,stripe_size,seg_pe_ranges,lv_uuid,vg_uuid";

/// Where the words of an LV come from, by that report.
struct Report {
    /// start, size, stripe size, (pv, first extent) of each stripe.
    segments: Vec<(u64, u64, u64, Vec<(usize, u64)>)>,
    extent: u64,
    first: u64,
    uuids: String,
}

impl Report {
    fn of(printed: &str, lv: &str, extent: u64, first: u64) -> Self {
        let (mut segments, mut uuids) = (Vec::new(), String::new());
        // Loop devices get numbers as they are free: which is which, is told by their order.
        let devices: std::collections::BTreeSet<(usize, &str)> = printed
            .split_whitespace()
            .flat_map(|word| word.split('|'))
            .filter_map(|word| word.strip_prefix("/dev/loop"))
            .map(|word| word.split(':').next().unwrap())
            .map(|number| (number.parse().unwrap(), number))
            .collect();
        for line in printed.lines() {
            let fields: Vec<&str> = line.trim().split('|').collect();
            if fields[0] != lv {
                continue;
            }
            let number = |at: usize| fields[at].parse().unwrap();
            let stripes = fields[4].split(' ').map(|range| {
                let (device, range) = range.strip_prefix("/dev/loop").unwrap().split_once(':').unwrap();
                let pv = devices.iter().position(|(_, name)| *name == device).unwrap();
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
