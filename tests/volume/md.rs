//! Arrays of md. Their superblocks are written here from the kernel's definition and must please `mdadm --examine`; their
//! layouts are drawn as pictures, one row a stripe, as md(4) and the DDF specification draw them.

use crate::common::process::cpu;
use crate::lvm2::{all, bytes, look, volume};
use crate::{common, requires};
use std::fmt::Write as _;

pub(crate) const KIB: usize = 1 << 10;
/// Bytes of each member that hold data: a whole number of rows of every picture.
pub(crate) const DATA: usize = 480 * KIB;

/// What is written into superblocks.
#[derive(Clone)]
pub(crate) struct Sb {
    pub(crate) version: &'static str,
    pub(crate) level: i32,
    pub(crate) layout: u32,
    pub(crate) chunk: usize,
    pub(crate) disks: usize,
    pub(crate) events: Vec<u64>,
    pub(crate) features: u32,
    pub(crate) name: &'static str,
    pub(crate) clean: bool,
    /// Bytes of each member that are used.
    pub(crate) size: usize,
}

impl Sb {
    pub(crate) fn new(version: &'static str, level: i32, layout: u32, chunk: usize, disks: usize) -> Self {
        let (events, features) = (vec![7; disks], if level == 0 && version != "0.90" { 4096 } else { 0 });
        Self {
            version,
            level,
            layout,
            chunk,
            disks,
            events,
            features,
            name: "host:3",
            clean: true,
            size: DATA,
        }
    }

    /// A member: its data with the superblock in its place.
    pub(crate) fn member(&self, number: usize, data: &[u8]) -> Vec<u8> {
        match self.version {
            "0.90" => {
                let mut member = data.to_vec();
                member.extend(self.zero(number, data.len()));
                member.resize(data.len() + 64 * KIB, 0);
                member
            }
            "1.0" => {
                let mut member = data.to_vec();
                member.extend(self.one(number, 0, data.len(), data.len()));
                member.resize(data.len() + 8 * KIB, 0);
                member
            }
            version => {
                let at = if version == "1.1" { 0 } else { 4 * KIB };
                let mut member = vec![0; at];
                member.extend(self.one(number, 64 * KIB, data.len(), at));
                member.resize(64 * KIB, 0);
                member.extend(data);
                member
            }
        }
    }

    fn one(&self, number: usize, data_offset: usize, data: usize, at: usize) -> Vec<u8> {
        let mut sb = vec![0; 4 * KIB];
        let mut put = |at: usize, bytes: &[u8]| sb[at..at + bytes.len()].copy_from_slice(bytes);
        let sectors = |bytes: usize| (bytes as u64 / 512).to_le_bytes();
        put(0, &0xa92b_4efc_u32.to_le_bytes());
        put(4, &1_u32.to_le_bytes());
        put(8, &self.features.to_le_bytes());
        put(16, b"0123456789abcdef");
        put(32, self.name.as_bytes());
        put(72, &self.level.to_le_bytes());
        put(76, &self.layout.to_le_bytes());
        put(80, &if self.level <= 0 { [0; 8] } else { sectors(data.min(self.size)) });
        put(88, &((self.chunk / 512) as u32).to_le_bytes());
        put(92, &(self.disks as u32).to_le_bytes());
        put(128, &sectors(data_offset));
        put(136, &sectors(data));
        put(144, &sectors(at));
        put(160, &(number as u32).to_le_bytes());
        put(168, &[number as u8 + 1; 16]);
        put(200, &self.events[number].to_le_bytes());
        put(208, &if self.clean { u64::MAX } else { 0 }.to_le_bytes());
        put(220, &128_u32.to_le_bytes());
        for device in 0..128 {
            let role = if device < self.disks { device as u16 } else { 0xffff };
            put(256 + 2 * device, &role.to_le_bytes());
        }
        let sum: u64 =
            sb[..512].chunks(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap()))).sum();
        sb[216..220].copy_from_slice(&((sum as u32).wrapping_add((sum >> 32) as u32)).to_le_bytes());
        sb
    }

    fn zero(&self, number: usize, data: usize) -> Vec<u8> {
        let mut words = vec![0_u32; KIB];
        let size = if self.level <= 0 { 0 } else { data / KIB };
        let first =
            [0xa92b_4efc, 0, 90, 0, 0, 0x3332_3130, 0, self.level as u32, size as u32, self.disks as u32];
        words[..10].copy_from_slice(&first);
        words[10] = self.disks as u32;
        words[11] = 3;
        words[13..16].copy_from_slice(&[0x3736_3534, 0x6261_3938, 0x6665_6463]);
        words[33] = u32::from(self.clean);
        words[34] = self.disks as u32;
        words[35] = self.disks as u32;
        words[39] = self.events[number] as u32;
        words[41] = self.events[number] as u32;
        words[64] = self.layout;
        words[65] = self.chunk as u32;
        for device in 0..self.disks {
            words[128 + 32 * device..][..5].copy_from_slice(&[
                device as u32,
                8,
                device as u32,
                device as u32,
                6,
            ]);
        }
        words[992..997].copy_from_slice(&[number as u32, 8, number as u32, number as u32, 6]);
        let sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
        words[38] = (sum as u32).wrapping_add((sum >> 32) as u32);
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// What stands in a chunk of a member.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Cell {
    Data(usize),
    P,
    Q,
}

/// Numbers that no two places share by chance.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut word = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| word()).collect()
}

fn times_two(a: u8) -> u8 {
    (a << 1) ^ if a & 0x80 != 0 { 0x1d } else { 0 }
}

/// The data of every member and the array's content, when `cell` says what stands in each row of each member.
pub(crate) fn lay_out(
    disks: usize,
    chunk: usize,
    ddf: bool,
    cell: impl Fn(usize, usize) -> Cell,
) -> (Vec<Vec<u8>>, Vec<u8>) {
    let rows = DATA / chunk;
    let last = (0..rows).flat_map(|row| (0..disks).map(move |disk| (row, disk)));
    let count = last.filter_map(|(row, disk)| match cell(row, disk) {
        Cell::Data(number) => Some(number + 1),
        _ => None,
    });
    let content = noise(count.max().unwrap() * chunk);
    let mut members = vec![vec![0; DATA]; disks];
    for row in 0..rows {
        let at = row * chunk..(row + 1) * chunk;
        let cells: Vec<Cell> = (0..disks).map(|disk| cell(row, disk)).collect();
        let (mut p, mut q) = (vec![0; chunk], vec![0; chunk]);
        let first = if ddf { 0 } else { cells.iter().position(|cell| *cell == Cell::Q).map_or(0, |q| q + 1) };
        let mut factor = 1;
        for disk in (0..disks).map(|disk| (first + disk) % disks) {
            if let Cell::Data(number) = cells[disk] {
                let data = &content[number * chunk..(number + 1) * chunk];
                members[disk][at.clone()].copy_from_slice(data);
                for ((p, q), data) in p.iter_mut().zip(&mut q).zip(data) {
                    *p ^= data;
                    // Times the factor, bit by bit.
                    let (mut value, mut product) = (*data, 0);
                    for bit in 0..8 {
                        product ^= if factor >> bit & 1 == 1 { value } else { 0 };
                        value = times_two(value);
                    }
                    *q ^= product;
                }
            }
            // In DDF the parities count too, as zeros.
            if ddf || matches!(cells[disk], Cell::Data(_)) {
                factor = times_two(factor);
            }
        }
        for disk in 0..disks {
            match cells[disk] {
                Cell::P => members[disk][at.clone()].copy_from_slice(&p),
                Cell::Q => members[disk][at.clone()].copy_from_slice(&q),
                Cell::Data(_) => {}
            }
        }
    }
    (members, content)
}

/// Reads a picture: rows between slashes, numbers of chunks, `P` and `Q`; behind its last row it goes on with higher numbers.
pub(crate) fn picture(text: &str) -> (usize, impl Fn(usize, usize) -> Cell) {
    let rows: Vec<Vec<Cell>> = text
        .split('/')
        .map(|row| {
            let cell = |cell: &str| match cell {
                "P" => Cell::P,
                "Q" => Cell::Q,
                number => Cell::Data(number.parse().unwrap()),
            };
            row.split_whitespace().map(cell).collect()
        })
        .collect();
    let numbers =
        rows.iter().flatten().filter_map(|cell| if let Cell::Data(n) = cell { Some(*n + 1) } else { None });
    let (disks, period) = (rows[0].len(), numbers.max().unwrap());
    (disks, move |row, disk| match rows[row % rows.len()][disk] {
        Cell::Data(number) => Cell::Data(row / rows.len() * period + number),
        other => other,
    })
}

/// Every subset of the members with up to `lost` missing gives the same content.
#[track_caller]
fn same_without(members: &[Vec<u8>], id: &str, content: &[u8], lost: usize) {
    let count = members.len();
    for out in 0_u32..1 << count {
        if out.count_ones() as usize > lost {
            continue;
        }
        let left: Vec<Vec<u8>> = (0..count)
            .filter(|member| out >> member & 1 == 0)
            .map(|member| members[member].clone())
            .collect();
        let machine = look(&left);
        let array = volume(&machine, id);
        assert_eq!(array.source.len(), content.len() as u64, "{out:b}: {:?}", machine.warnings);
        let read = bytes(array);
        let differs = read.iter().zip(content).position(|(ours, theirs)| ours != theirs);
        assert_eq!(differs, None, "without {out:b}: {:?}", machine.warnings);
        assert_eq!(machine.warnings.is_empty(), out == 0, "{:?}", machine.warnings);
        let mut part = vec![0; 9001];
        array.source.read_at(&mut part, 4095).unwrap();
        assert_eq!(part, content[4095..][..9001]);
    }
}

/// `mdadm --examine` finds the superblock right and says these things of it.
#[track_caller]
fn examined(member: &[u8], says: &[&str]) {
    if common::lacks("mdadm").is_some() {
        return;
    }
    let dir = common::tempdir();
    let path = dir.path().join("member");
    std::fs::write(&path, member).unwrap();
    let text = common::sh(&format!("mdadm --examine {}", path.display()));
    for line in says {
        assert!(text.contains(line), "{line}: {text}");
    }
}

const RAID5: &[(u32, &str, &str)] = &[
    (0, "left-asymmetric", "0 1 2 P / 3 4 P 5 / 6 P 7 8 / P 9 10 11"),
    (1, "right-asymmetric", "P 0 1 2 / 3 P 4 5 / 6 7 P 8 / 9 10 11 P"),
    (2, "left-symmetric", "0 1 2 P / 4 5 P 3 / 8 P 6 7 / P 9 10 11"),
    (3, "right-symmetric", "P 0 1 2 / 5 P 3 4 / 7 8 P 6 / 9 10 11 P"),
    (4, "parity-first", "P 0 1 2"),
    (5, "parity-last", "0 1 2 P"),
];

#[test]
fn raid5_in_every_layout_whole_and_without_any_one_member() {
    requires!("mdadm");
    for (layout, name, drawn) in RAID5 {
        let (disks, cell) = picture(drawn);
        let (data, content) = lay_out(disks, 4 * KIB, false, cell);
        let sb = Sb::new("1.2", 5, *layout, 4 * KIB, disks);
        let members: Vec<_> = (0..disks).map(|number| sb.member(number, &data[number])).collect();
        examined(
            &members[1],
            &["Raid Level : raid5", &format!("Layout : {name}"), "- correct", "Events : 7"],
        );
        same_without(&members, "md3", &content, 1);
    }
}

#[test]
fn raid4_keeps_its_parity_on_the_last_member() {
    let (disks, cell) = picture("0 1 P");
    let (data, content) = lay_out(disks, 8 * KIB, false, cell);
    let sb = Sb::new("1.1", 4, 0, 8 * KIB, disks);
    let members: Vec<_> = (0..disks).map(|number| sb.member(number, &data[number])).collect();
    examined(&members[0], &["Raid Level : raid4", "- correct"]);
    same_without(&members, "md3", &content, 1);
}

/// Number, mdadm's name, whether Q counts as DDF does, five members.
const RAID6: &[(u32, &str, bool, &str)] = &[
    (0, "left-asymmetric", false, "Q 0 1 2 P / 3 4 5 P Q / 6 7 P Q 8 / 9 P Q 10 11 / P Q 12 13 14"),
    (1, "right-asymmetric", false, "P Q 0 1 2 / 3 P Q 4 5 / 6 7 P Q 8 / 9 10 11 P Q / Q 12 13 14 P"),
    (2, "left-symmetric", false, "Q 0 1 2 P / 3 4 5 P Q / 7 8 P Q 6 / 11 P Q 9 10 / P Q 12 13 14"),
    (3, "right-symmetric", false, "P Q 0 1 2 / 5 P Q 3 4 / 7 8 P Q 6 / 9 10 11 P Q / Q 12 13 14 P"),
    (4, "parity-first", false, "P Q 0 1 2"),
    (5, "parity-last", false, "0 1 2 P Q"),
    (8, "ddf-zero-restart", true, "P Q 0 1 2 / 3 P Q 4 5 / 6 7 P Q 8 / 9 10 11 P Q / Q 12 13 14 P"),
    (9, "ddf-N-restart", true, "0 1 2 P Q / 3 4 P Q 5 / 6 P Q 7 8 / P Q 9 10 11 / Q 12 13 14 P"),
    (10, "ddf-N-continue", true, "0 1 2 Q P / 4 5 Q P 3 / 8 Q P 6 7 / Q P 9 10 11 / P 12 13 14 Q"),
    (16, "left-asymmetric-6", false, "0 1 2 P Q / 3 4 P 5 Q / 6 P 7 8 Q / P 9 10 11 Q"),
    (17, "right-asymmetric-6", false, "P 0 1 2 Q / 3 P 4 5 Q / 6 7 P 8 Q / 9 10 11 P Q"),
    (18, "left-symmetric-6", false, "0 1 2 P Q / 4 5 P 3 Q / 8 P 6 7 Q / P 9 10 11 Q"),
    (19, "right-symmetric-6", false, "P 0 1 2 Q / 5 P 3 4 Q / 7 8 P 6 Q / 9 10 11 P Q"),
    (20, "parity-first-6", false, "P 0 1 2 Q"),
];

#[test]
fn raid6_in_every_layout_whole_and_without_any_two_members() {
    requires!("mdadm");
    for (layout, name, ddf, drawn) in RAID6 {
        let (disks, cell) = picture(drawn);
        let (data, content) = lay_out(disks, 4 * KIB, *ddf, cell);
        let sb = Sb::new("1.2", 6, *layout, 4 * KIB, disks);
        let members: Vec<_> = (0..disks).map(|number| sb.member(number, &data[number])).collect();
        examined(&members[4], &["Raid Level : raid6", &format!("Layout : {name}"), "- correct"]);
        same_without(&members, "md3", &content, 2);
    }
}

#[test]
fn raid10_near_far_and_offset() {
    requires!("mdadm");
    let drawn: &[(u32, &str, usize, &str)] = &[
        (0x102, "near=2", 1, "0 0 1 1"),
        (0x102, "near=2", 1, "0 0 1 / 1 2 2"),
        (0x103, "near=3", 2, "0 0 0 1 / 1 1 2 2 / 2 3 3 3"),
        (0x1_0201, "offset=2", 1, "0 1 2 / 2 0 1"),
        (0x1_0201, "offset=2", 1, "0 1 2 3 / 3 0 1 2"),
        (0x1_0202, "near=2, offset=2", 1, "0 0 1 1 / 1 1 0 0"),
    ];
    for (layout, name, lost, text) in drawn {
        let (disks, cell) = picture(text);
        let (data, content) = lay_out(disks, 4 * KIB, false, cell);
        let sb = Sb::new("1.2", 10, *layout, 4 * KIB, disks);
        let members: Vec<_> = (0..disks).map(|number| sb.member(number, &data[number])).collect();
        examined(&members[0], &["Raid Level : raid10", &format!("Layout : {name}"), "- correct"]);
        same_without(&members, "md3", &content, *lost);
    }
    // Far copies: the second half of each member is the first half of the one before it.
    let half = DATA / 2 / (4 * KIB);
    let cell = |row: usize, disk: usize| Cell::Data(row % half * 3 + (disk + 3 - row / half) % 3);
    let (data, content) = lay_out(3, 4 * KIB, false, cell);
    let sb = Sb::new("1.2", 10, 0x201, 4 * KIB, 3);
    let members: Vec<_> = (0..3).map(|number| sb.member(number, &data[number])).collect();
    examined(&members[0], &["Layout : far=2"]);
    same_without(&members, "md3", &content, 1);
}

#[test]
fn raid1_in_every_version_of_the_superblock() {
    requires!("mdadm");
    for version in ["0.90", "1.0", "1.1", "1.2"] {
        let content = noise(DATA - if version == "0.90" { DATA % (64 * KIB) } else { 0 });
        let sb = Sb::new(version, 1, 0, 0, 2);
        let members: Vec<_> = (0..2).map(|number| sb.member(number, &content)).collect();
        examined(&members[0], &["Raid Level : raid1", "- correct", &format!("Version : {version}")]);
        same_without(&members, "md3", &content, 1);
        let machine = look(&members);
        let dir = common::tempdir();
        let path = dir.path().join("member");
        std::fs::write(&path, &members[0]).unwrap();
        let told =
            common::sh(&format!("mdadm --examine --export {} | sed -n s/^MD_UUID=//p", path.display()));
        let by_id = format!("/dev/disk/by-id/md-uuid-{}", told.trim());
        assert!(volume(&machine, "md3").names.contains(&by_id), "{:?}", volume(&machine, "md3").names);
        assert!(volume(&machine, "md3").names.iter().any(|name| name == "/dev/md3"));
        assert!(
            all(&machine).iter().filter(|volume| volume.is_disk()).all(|disk| disk.claimed_by == Some("md"))
        );
    }
}

#[test]
fn an_array_is_called_by_its_name_without_the_hosts() {
    for (name, id) in
        [("host:home", "md/home"), ("home", "md/home"), ("127", "md127"), ("h:0", "md0"), ("", "md127")]
    {
        let mut sb = Sb::new("1.2", 1, 0, 0, 1);
        sb.name = name;
        let machine = look(&[sb.member(0, &noise(DATA))]);
        assert_eq!(machine.disks[0].volumes.last().unwrap().id, id);
    }
}

/// A raid0 of members of 3, 5 and 4 chunks: behind the third row only two, then only one is left.
#[test]
fn raid0_over_unequal_members_in_both_layouts() {
    requires!("mdadm");
    let chunk = 4 * KIB;
    let lens = [3, 5, 4];
    // Chunks 0 to 8 lie on three members, 9 and 10 on the second and third, 11 on the second. In the original layout the
    // member is the chunk's number modulo two, so that 9 is on the third; in the alternate one 9 is the zone's first.
    for (layout, second) in [(1, [(2, 9), (1, 10)]), (2, [(1, 9), (2, 10)])] {
        let content = noise(12 * chunk);
        let mut data: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; len * chunk]).collect();
        let mut put = |member: usize, row: usize, number: usize| {
            data[member][row * chunk..][..chunk].copy_from_slice(&content[number * chunk..][..chunk]);
        };
        for number in 0..9 {
            put(number % 3, number / 3, number);
        }
        for (member, number) in second {
            put(member, 3, number);
        }
        put(1, 4, 11);
        let sb = Sb::new("1.2", 0, layout, chunk, 3);
        let members: Vec<_> = (0..3).map(|number| sb.member(number, &data[number])).collect();
        examined(
            &members[0],
            &["Raid Level : raid0", "- correct", if layout == 1 { "original" } else { "alternate" }],
        );
        assert_eq!(bytes(volume(&look(&members), "md3")), content);
        // Without a layout nobody knows; with one member less nothing is read.
        let unknown = Sb { features: 0, ..sb };
        let unknown: Vec<_> = (0..3).map(|number| unknown.member(number, &data[number])).collect();
        fails(&unknown, "without a layout in its superblock");
        fails(&members[1..], "needs all of its 3 members, 2 are here");
    }
}

#[test]
fn linear_is_one_member_behind_the_other() {
    let content = noise(3 * DATA);
    let sb = Sb::new("1.2", -1, 0, 64 * KIB, 2);
    let (first, second) = content.split_at(DATA);
    let members = [sb.member(0, first), sb.member(1, second)];
    examined(&members[0], &["Raid Level : linear", "- correct"]);
    let mut expected = first[..DATA / (64 * KIB) * 64 * KIB].to_vec();
    expected.extend(&second[..2 * DATA / (64 * KIB) * 64 * KIB]);
    assert_eq!(bytes(volume(&look(&members), "md3")), expected);
}

/// The array is there, and every read of it fails with these words, which are a warning too.
#[track_caller]
fn fails(members: &[Vec<u8>], why: &str) {
    let machine = look(members);
    let error = volume(&machine, "md3").source.read_at(&mut [0], 0).unwrap_err().chain();
    let mut warnings = String::new();
    machine.warnings.iter().for_each(|line| writeln!(warnings, "{line}").unwrap());
    assert!(error.contains(why) && warnings.contains(why), "{error}\n{warnings}");
}

#[test]
fn what_cannot_be_told_is_refused_by_name() {
    let (disks, cell) = picture("0 1 2 P / 4 5 P 3 / 8 P 6 7 / P 9 10 11");
    let (data, content) = lay_out(disks, 4 * KIB, false, cell);
    let made = |sb: &Sb| (0..disks).map(|number| sb.member(number, &data[number])).collect::<Vec<_>>();
    let sb = Sb::new("1.2", 5, 2, 4 * KIB, disks);
    fails(&made(&sb)[2..], "2 of its 4 members are missing or out of date; it needs 3 or more");
    fails(&made(&Sb { features: 4, ..sb.clone() }), "reshape");
    fails(&made(&Sb { features: 512, ..sb.clone() }), "write journal");
    fails(&made(&Sb { layout: 77, ..sb.clone() }), "raid5 layout 77");
    let dirty = made(&Sb { clean: false, ..sb.clone() });
    fails(&dirty[1..], "not shut down cleanly");
    assert_eq!(bytes(volume(&look(&dirty), "md3")), content);
    // A member that missed more than one event is stale: what it holds is worked out, not read.
    let mut stale = made(&Sb { events: vec![9, 9, 7, 9], ..sb });
    stale[2][64 * KIB..].fill(0xee);
    let machine = look(&stale);
    assert_eq!(bytes(volume(&machine, "md3")), content);
    assert!(
        machine.warnings.iter().any(|line| line.contains("disk3 is left out: it is out of date")),
        "{:?}",
        machine.warnings
    );
}

/// A disk in partitions, the last of which is a member with its superblock at its end, which is the disk's end too.
#[test]
fn a_superblock_at_the_end_of_the_last_partition_is_not_the_disks() {
    requires!("sfdisk");
    let content = noise(DATA - DATA % (64 * KIB));
    for version in ["0.90", "1.0"] {
        let member = Sb::new(version, 1, 0, 0, 1).member(0, &content);
        let dir = common::tempdir();
        let disk = dir.path().join("disk");
        let sectors = member.len() / 512;
        common::sh(&format!(
            "truncate -s {} {1}; printf 'label: dos\n128,{sectors}\n' | sfdisk -q {1}",
            64 * KIB + member.len(),
            disk.display()
        ));
        let mut disk = std::fs::read(disk).unwrap();
        disk[64 * KIB..].copy_from_slice(&member);
        let machine = look(&[disk]);
        let found: Vec<(&str, Option<&str>)> =
            machine.disks[0].volumes.iter().map(|volume| (volume.id.as_str(), volume.claimed_by)).collect();
        assert_eq!(found, [("p1", Some("md")), ("md3", None)], "{version}");
        assert_eq!(bytes(volume(&machine, "md3")), content);
    }
}

/// Superblocks with wrong numbers under a right checksum.
#[test]
fn damaged_superblocks_cause_neither_panic_nor_hang() {
    let (disks, cell) = picture("Q 0 1 2 P / 3 4 5 P Q / 7 8 P Q 6 / 11 P Q 9 10 / P Q 12 13 14");
    let (data, _) = lay_out(disks, 4 * KIB, false, cell);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for round in 0..300 {
        let version = ["0.90", "1.0", "1.2"][round % 3];
        let level = [6, 5, 10, 0, -1, 1, 4][random(7)];
        let layout = [2, 0x102, 0x201, 8, 1][random(5)];
        let sb = Sb::new(version, level, layout, 4 * KIB, disks);
        let mut members: Vec<_> = (0..disks).map(|number| sb.member(number, &data[number])).collect();
        for member in &mut members {
            let at = match version {
                "0.90" | "1.0" => data[0].len(),
                _ => 4 * KIB,
            };
            for _ in 0..=random(3) {
                // The fields of one version, or the words of the other.
                let field = if version == "0.90" { 16 + random(260) } else { 8 + random(240) };
                if !(144..152).contains(&field) {
                    member[at + field] = [0, 0xff, random(256) as u8, 1][random(4)];
                }
            }
            if version == "0.90" {
                member[at + 152..at + 156].fill(0);
                let words = member[at..at + 4 * KIB].chunks(4);
                let sum: u64 =
                    words.map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap()))).sum();
                let sum = (sum as u32).wrapping_add((sum >> 32) as u32);
                member[at + 152..at + 156].copy_from_slice(&sum.to_le_bytes());
            } else {
                member[at + 216..at + 220].fill(0);
                let words = member[at..at + 512].chunks(4);
                let sum: u64 =
                    words.map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap()))).sum();
                let sum = (sum as u32).wrapping_add((sum >> 32) as u32);
                member[at + 216..at + 220].copy_from_slice(&sum.to_le_bytes());
            }
        }
        let keep = 3 + random(3);
        let start = cpu();
        let machine = look(&members[..keep]);
        for volume in all(&machine) {
            let len = volume.source.len();
            for offset in [0, len / 2, len.saturating_sub(9000)] {
                let mut part = vec![0; (len - offset).min(9000) as usize];
                drop(volume.source.read_at(&mut part, offset));
                drop(volume.source.extent(offset.min(len.saturating_sub(1))));
            }
        }
        let took = cpu().saturating_sub(start);
        assert!(took.as_secs() < 5, "round {round}: {took:?}");
    }
}
