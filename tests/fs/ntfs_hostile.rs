//! The worst that an NTFS can say of itself, written by hand: each volume in a process of its own, where no operation may
//! take a second of processor time, nor memory grow by 256 MiB.
//!
//! Records, attributes and indexes are laid out as in linux-ntfs project, "NTFS documentation".

use super::hostile::{memory, walk};
use super::*;
use std::collections::HashMap;
use std::ops::Range;
use std::process::Command;

/// Growth of memory that a volume may cause.
const MEMORY: u64 = 256 << 20;
/// Bytes of a record of the MFT, and of an index block, but where a case says otherwise.
const RECORD: usize = 4096;
const SECTOR: usize = 512;
/// Where the MFT begins, and the byte from which cases lay out what they need.
const MFT: u64 = 4 << 20;
const FREE: u64 = 1 << 30;
/// The file that a case is about, in the root; and records behind it.
const FILE: u64 = 64;
const MORE: u64 = 128;

const DATA: u32 = 0x80;
const LIST: u32 = 0x20;
const ALLOCATION: u32 = 0xa0;
const BITMAP: u32 = 0xb0;
const REPARSE: u32 = 0xc0;
/// Bits of `$STANDARD_INFORMATION`.
const IS_REPARSED: u32 = 0x400;

/// A volume of mostly zeros.
#[derive(Debug)]
struct Forge {
    sectors: HashMap<u64, Vec<u8>>,
    /// Stretches that hold the same bytes again and again.
    repeated: Vec<(Range<u64>, Vec<u8>)>,
    len: u64,
    cluster: u64,
}

impl BlockSource for Forge {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        buf.fill(0);
        let end = offset + buf.len() as u64;
        for (range, bytes) in &self.repeated {
            let (mut at, end) = (range.start.max(offset), range.end.min(end));
            while at < end {
                let part = &bytes[((at - range.start) % bytes.len() as u64) as usize..];
                let part = &part[..part.len().min((end - at) as usize)];
                buf[(at - offset) as usize..][..part.len()].copy_from_slice(part);
                at += part.len() as u64;
            }
        }
        for number in offset / SECTOR as u64..end.div_ceil(SECTOR as u64) {
            if let Some(sector) = self.sectors.get(&number) {
                let start = number * SECTOR as u64;
                let (from, to) = (start.max(offset), (start + SECTOR as u64).min(end));
                buf[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&sector[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }
}

impl Forge {
    /// A volume whose MFT is one run of `records`, with nothing in it but its own record, and the root with `FILE` in it.
    fn new(cluster: u64, records: u64) -> Self {
        let mut forge = Self { sectors: HashMap::new(), repeated: Vec::new(), len: 1 << 46, cluster };
        let per_cluster = cluster / SECTOR as u64;
        let code =
            if per_cluster > 0x80 { 0_u8.wrapping_sub(per_cluster.ilog2() as u8) } else { per_cluster as u8 };
        let mut boot = vec![0; SECTOR];
        boot[3..11].copy_from_slice(b"NTFS    ");
        boot[0x0b..0x0e].copy_from_slice(&[0, 2, code]);
        boot[0x28..0x30].copy_from_slice(&(forge.len / SECTOR as u64 - 1).to_le_bytes());
        boot[0x30..0x38].copy_from_slice(&(MFT / cluster).to_le_bytes());
        boot[0x38..0x40].copy_from_slice(&(MFT / cluster).to_le_bytes());
        (boot[0x40], boot[0x44]) = (0xf4, 0xf4);
        boot[0x1fe..].copy_from_slice(&[0x55, 0xaa]);
        forge.put(0, &boot);
        let data = forge.stored(DATA, 1, "", MFT, records * RECORD as u64);
        forge.record(0, 1, &[standard(0, 0), data]);
        forge.directory(5, &index(0x30, RECORD, &[entry(FILE, &name(5, "file"), None), last(None)]), &[]);
        forge
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        for (number, sector) in (at / SECTOR as u64..).zip(bytes.chunks(SECTOR)) {
            self.sectors.insert(number, sector.to_vec());
        }
    }

    fn record(&mut self, number: u64, flags: u16, attributes: &[Vec<u8>]) {
        self.put(MFT + number * RECORD as u64, &record(flags, 0, attributes));
    }

    fn directory(&mut self, number: u64, root: &[u8], more: &[Vec<u8>]) {
        let root = resident(0x90, 7, "$I30", root);
        self.record(number, 3, &[&[standard(0, 0), file_name(5), root], more].concat());
    }

    /// An attribute in one run from a byte of the volume on.
    fn stored(&self, kind: u32, id: u16, name: &str, at: u64, len: u64) -> Vec<u8> {
        let clusters = len.div_ceil(self.cluster);
        let run = [&[0x88][..], &clusters.to_le_bytes(), &(at / self.cluster).to_le_bytes(), &[0]].concat();
        nonresident(kind, id, name, 0, clusters, len, &run)
    }

    /// An attribute that is one hole.
    fn hole(&self, kind: u32, id: u16, name: &str, len: u64) -> Vec<u8> {
        let clusters = len.div_ceil(self.cluster);
        let run = [&[0x08][..], &clusters.to_le_bytes(), &[0]].concat();
        nonresident(kind, id, name, 0, clusters, len, &run)
    }

    /// Gives `FILE` an attribute list of the longest kind, of this entry, `{}` its number.
    fn listed(&mut self, more: &[Vec<u8>], entry: impl Fn(u64) -> Vec<u8>) -> Vec<u8> {
        let own = [(0x10, 1), (0x30, 2)].map(|(kind, id)| list_entry(kind, id, "", 0, FILE));
        let mut list = own.concat();
        let mut number = 0;
        while list.len() + entry(number).len() <= 256 << 10 {
            list.extend(entry(number));
            number += 1;
        }
        self.put(FREE, &list);
        let list = self.stored(LIST, 3, "", FREE, list.len() as u64);
        let all = [&[standard(0, 0), file_name(5), list], more].concat();
        self.record(FILE, 1, &all);
        record(1, 0, &all)
    }
}

/// A record's or block's bytes with the words at the ends of its sectors moved to the array at `array`.
fn marked(mut bytes: Vec<u8>, array: usize) -> Vec<u8> {
    let words = bytes.len() / SECTOR + 1;
    bytes[4..8].copy_from_slice(&[array as u8, 0, words as u8, 0]);
    bytes[array..array + 2].copy_from_slice(&[1, 0]);
    for word in 1..words {
        let end = word * SECTOR - 2;
        bytes.copy_within(end..end + 2, array + 2 * word);
        bytes[end..end + 2].copy_from_slice(&[1, 0]);
    }
    bytes
}

fn record(flags: u16, base: u64, attributes: &[Vec<u8>]) -> Vec<u8> {
    let attributes = [attributes.concat(), vec![0xff; 4], vec![0; 4]].concat();
    let mut bytes = vec![0; RECORD];
    bytes[..4].copy_from_slice(b"FILE");
    bytes[0x10] = 1;
    bytes[0x14] = 0x48;
    bytes[0x16..0x18].copy_from_slice(&flags.to_le_bytes());
    bytes[0x18..0x1c].copy_from_slice(&(0x48 + attributes.len() as u32).to_le_bytes());
    bytes[0x20..0x28].copy_from_slice(&base.to_le_bytes());
    bytes[0x48..0x48 + attributes.len()].copy_from_slice(&attributes);
    marked(bytes, 0x30)
}

fn utf16(name: &str) -> Vec<u8> {
    name.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn attribute(kind: u32, id: u16, name: &str, form: u8, head: &[u8], value: &[u8]) -> Vec<u8> {
    let name_at = 0x10 + head.len();
    let value_at = (name_at + 2 * name.len()).next_multiple_of(8);
    let mut bytes = [&[0; 0x10], head, &utf16(name)].concat();
    bytes.resize(value_at, 0);
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    let len = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&len.to_le_bytes());
    (bytes[8], bytes[9], bytes[0xa]) = (form, name.len() as u8, name_at as u8);
    bytes[0xe..0x10].copy_from_slice(&id.to_le_bytes());
    if form == 0 {
        bytes[0x14] = value_at as u8;
    } else {
        bytes[0x20] = value_at as u8;
    }
    bytes
}

fn resident(kind: u32, id: u16, name: &str, value: &[u8]) -> Vec<u8> {
    attribute(kind, id, name, 0, &[&(value.len() as u32).to_le_bytes()[..], &[0; 4]].concat(), value)
}

/// In clusters `first` to `end`, of a value of `size` bytes.
fn nonresident(kind: u32, id: u16, name: &str, first: u64, end: u64, size: u64, mapping: &[u8]) -> Vec<u8> {
    let words = [first, end.wrapping_sub(1), 0, size, size, size];
    attribute(kind, id, name, 1, &words.map(u64::to_le_bytes).concat(), mapping)
}

/// The same, packed in units of so many clusters, as a power of two.
fn compressed(mut attribute: Vec<u8>, unit: u8) -> Vec<u8> {
    (attribute[0xc], attribute[0x22]) = (1, unit);
    attribute
}

fn standard(attributes: u32, security: u32) -> Vec<u8> {
    let mut value = vec![0; 72];
    value[0x20..0x24].copy_from_slice(&attributes.to_le_bytes());
    value[0x34..0x38].copy_from_slice(&security.to_le_bytes());
    resident(0x10, 1, "", &value)
}

/// A `$FILE_NAME`.
fn name(parent: u64, name: &str) -> Vec<u8> {
    let mut value = vec![0; 0x42];
    value[..8].copy_from_slice(&parent.to_le_bytes());
    (value[0x40], value[0x41]) = (name.len() as u8, 1);
    [value, utf16(name)].concat()
}

fn file_name(parent: u64) -> Vec<u8> {
    resident(0x30, 2, "", &name(parent, "file"))
}

fn list_entry(kind: u32, id: u16, name: &str, first: u64, record: u64) -> Vec<u8> {
    let mut bytes = [&[0; 0x1a][..], &utf16(name)].concat();
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    (bytes[4], bytes[6], bytes[7]) = (bytes.len() as u8, name.len() as u8, 0x1a);
    bytes[8..0x10].copy_from_slice(&first.to_le_bytes());
    bytes[0x10..0x18].copy_from_slice(&record.to_le_bytes());
    bytes[0x18..0x1a].copy_from_slice(&id.to_le_bytes());
    bytes
}

/// An index entry: what it refers to, its key, and the block below.
fn entry(reference: u64, key: &[u8], child: Option<u64>) -> Vec<u8> {
    entry_with(reference, key, &[], child, 0)
}

fn last(child: Option<u64>) -> Vec<u8> {
    entry_with(0, &[], &[], child, 2)
}

fn entry_with(reference: u64, key: &[u8], data: &[u8], child: Option<u64>, flags: u16) -> Vec<u8> {
    let mut bytes = [&[0; 0x10][..], key, data].concat();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(child.map(u64::to_le_bytes).into_iter().flatten());
    let len = bytes.len() as u16;
    bytes[..8].copy_from_slice(&reference.to_le_bytes());
    if !data.is_empty() {
        let place = [0x10 + key.len() as u16, data.len() as u16].map(u16::to_le_bytes).concat();
        bytes[..4].copy_from_slice(&place);
    }
    bytes[8..0xa].copy_from_slice(&len.to_le_bytes());
    bytes[0xa..0xc].copy_from_slice(&(key.len() as u16).to_le_bytes());
    bytes[0xc..0xe].copy_from_slice(&(flags | u16::from(child.is_some())).to_le_bytes());
    bytes
}

/// The value of an `$INDEX_ROOT`.
fn index(kind: u32, block: usize, entries: &[Vec<u8>]) -> Vec<u8> {
    let entries = entries.concat();
    let len = entries.len() as u32 + 0x10;
    let head = [kind, 1, block as u32, 1, 0x10, len, len, 1];
    [head.map(u32::to_le_bytes).concat(), entries].concat()
}

/// An index block that stands at unit `vcn`.
fn block(vcn: u64, size: usize, entries: &[Vec<u8>]) -> Vec<u8> {
    let entries = entries.concat();
    let first = (0x28 + 2 * (size / SECTOR + 1)).next_multiple_of(8);
    let mut bytes = vec![0; size];
    bytes[..4].copy_from_slice(b"INDX");
    bytes[0x10..0x18].copy_from_slice(&vcn.to_le_bytes());
    let head = [first - 0x18, first - 0x18 + entries.len(), size - 0x18, 1];
    bytes[0x18..0x28].copy_from_slice(&head.map(|n| (n as u32).to_le_bytes()).concat());
    bytes[first..first + entries.len()].copy_from_slice(&entries);
    marked(bytes, 0x28)
}

/// An MFT in almost as many runs as are kept: a cluster each, to and fro.
fn mft_in_many_runs() -> Forge {
    const RUNS: u64 = 1300;
    let mut forge = Forge::new(512, 4096);
    let own = forge.stored(DATA, 1, "", MFT, 4096 * RECORD as u64);
    let (known, pieces) = (4096 * RECORD as u64 / 512, (1 << 21) / RUNS - 1);
    let mut list = list_entry(0x10, 1, "", 0, 0);
    list.extend(list_entry(DATA, 1, "", 0, 0));
    let run = [0x11, 1, 1, 0x11, 1, 0xff].repeat(RUNS as usize / 2);
    // The first distance leads to where there is something.
    let run = [&[0x41, 1, 0, 0, 0x40, 0], &run[3..], &[0]].concat();
    for piece in 0..pieces {
        let first = known + piece * RUNS;
        list.extend(list_entry(DATA, 1, "", first, MORE + piece));
        let data = nonresident(DATA, 1, "", first, first + RUNS, 0, &run);
        forge.put(MFT + (MORE + piece) * RECORD as u64, &record(1, 1 << 48, &[data]));
    }
    forge.put(FREE, &list);
    let list = forge.stored(LIST, 3, "", FREE, list.len() as u64);
    forge.record(0, 1, &[standard(0, 0), list, own]);
    forge.record(FILE, 1, &[standard(0, 0), file_name(5)]);
    forge
}

/// A list that names the last of many attributes of a record again and again, some 10,000 times.
fn list_of_one_attribute() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    let many: Vec<Vec<u8>> = (0..150).map(|id| resident(DATA, 100 + id, "", &[])).collect();
    forge.put(MFT + MORE * RECORD as u64, &record(1, FILE, &many));
    forge.listed(&[], |_| list_entry(DATA, 249, "", 0, MORE));
    forge
}

/// One that names 10,000 records.
fn list_of_many_records() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    let other = record(1, FILE, &[resident(DATA, 9, "s", &[1; 3500])]);
    let start = MFT + MORE * RECORD as u64;
    forge.repeated.push((start..start + (20_000 * RECORD) as u64, other));
    forge.listed(&[], |number| list_entry(DATA, 9, "s", 0, MORE + number));
    forge
}

/// One that names its own record, and itself.
fn list_of_itself() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    forge.listed(&[], |number| {
        if number % 2 == 0 {
            list_entry(LIST, 3, "", 0, FILE)
        } else {
            list_entry(0x30, 2, "", number % 3, FILE)
        }
    });
    forge
}

/// Streams of 64 KiB by the thousand.
fn streams() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    let stream = forge.stored(DATA, 9, "s", FREE, 64 << 10);
    forge.listed(&[stream], |_| list_entry(DATA, 9, "s", 0, FILE));
    forge
}

/// Links whose directories are each other's, each of 10,000 records.
fn links_in_a_circle() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    let target = utf16("\\x");
    let data = [&[0, 0, target.len() as u8, 0, 0, 0, 0, 0, 1, 0, 0, 0][..], &target].concat();
    let head = [0xa000_000c_u32.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
    let point = resident(REPARSE, 4, "", &[head, data].concat());
    for (number, parent) in [(FILE, FILE + 1), (FILE + 1, FILE)] {
        let own = [(0x10, 1), (0x30, 2), (REPARSE, 4)].map(|(kind, id)| list_entry(kind, id, "", 0, number));
        let mut list = own.concat();
        let start = MORE + (number - FILE) * 20_000;
        for other in 0..(256 << 10) / 0x1a - 4 {
            list.extend(list_entry(DATA, 9, "", 0, start + other));
        }
        let at = FREE + ((number - FILE) << 20);
        forge.put(at, &list);
        let list = forge.stored(LIST, 3, "", at, list.len() as u64);
        forge.record(number, 1, &[standard(IS_REPARSED, 0), file_name(parent), list, point.clone()]);
        let start = MFT + start * RECORD as u64;
        let other = record(1, number, &[resident(DATA, 9, "", &[])]);
        forge.repeated.push((start..start + (20_000 * RECORD) as u64, other));
    }
    forge
}

/// A directory with blocks beyond number, by its bitmap none in use.
fn directory_of_zeros() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    let more = [forge.hole(ALLOCATION, 8, "$I30", 1 << 60), forge.hole(BITMAP, 9, "$I30", 1 << 50)];
    forge.directory(FILE, &index(0x30, 512, &[last(Some(0))]), &more);
    forge
}

/// The same, all in use and none there.
fn directory_of_holes() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    forge.repeated.push((FREE..1 << 45, vec![0xff; 65536]));
    let more = [forge.hole(ALLOCATION, 8, "$I30", 1 << 60), forge.stored(BITMAP, 9, "$I30", FREE, 1 << 44)];
    forge.directory(FILE, &index(0x30, 512, &[last(Some(0))]), &more);
    forge
}

/// The same, in large blocks that hold something else.
fn directory_of_others() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    forge.repeated.push((FREE..1 << 44, block(1 << 40, 65536, &[last(None)])));
    let ones = 1 << 44;
    forge.repeated.push((ones..1 << 45, vec![0xff; 65536]));
    let more =
        [forge.stored(ALLOCATION, 8, "$I30", FREE, 1 << 43), forge.stored(BITMAP, 9, "$I30", ones, 1 << 43)];
    forge.directory(FILE, &index(0x30, 65536, &[last(Some(0))]), &more);
    forge
}

/// Blocks in many runs that lead to each other in ever more ways, as long as possible on each.
fn tree_of_loops() -> Forge {
    const BLOCKS: u64 = 14;
    let mut forge = Forge::new(4096, 1 << 20);
    let same = |child| entry(FILE, &name(FILE, "NO SUCH NAME"), child);
    for number in 0..BLOCKS {
        let child = |next: u64| Some((number + next) * 16).filter(|block| *block < BLOCKS * 16);
        let fill = vec![entry(FILE, &[], None); 3800];
        let entries = [fill, vec![same(child(1)), same(child(1)), same(child(2)), last(None)]].concat();
        forge.put(FREE + (number << 16), &block(number * 16, 65536, &entries));
    }
    // Cluster after cluster.
    let runs = [&[0x41, 1, 0, 0, 4, 0], &[0x11, 1, 1].repeat(BLOCKS as usize * 16 - 1)[..], &[0]].concat();
    let allocation = nonresident(ALLOCATION, 8, "$I30", 0, BLOCKS * 16, BLOCKS << 16, &runs);
    let more = [allocation, resident(BITMAP, 9, "$I30", &[0xff, 0x3f, 0, 0, 0, 0, 0, 0])];
    forge.directory(FILE, &index(0x30, 65536, &[same(Some(0)), last(None)]), &more);
    forge
}

/// A block that leads to itself.
fn tree_of_one_block() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    let same = |child| entry(FILE, &name(FILE, "NO SUCH NAME"), Some(child));
    forge.put(FREE, &block(0, 4096, &[same(0), last(Some(0))]));
    let more = [forge.stored(ALLOCATION, 8, "$I30", FREE, 4096), resident(BITMAP, 9, "$I30", &[1; 8])];
    forge.directory(FILE, &index(0x30, 4096, &[same(0), last(Some(0))]), &more);
    forge
}

/// A file that WOF packed, with tables of GiBs, and one with a stream of nothing.
fn wof_of_holes() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    let point = [0x8000_0017_u32, 16, 1, 2, 1, 0].map(u32::to_le_bytes).concat();
    let more = [
        standard(IS_REPARSED, 0),
        file_name(5),
        forge.hole(DATA, 4, "", 1 << 62),
        forge.hole(DATA, 5, "WofCompressedData", 1 << 61),
        resident(REPARSE, 6, "", &point),
    ];
    forge.record(FILE, 1, &more);
    forge
}

/// Values packed in the largest units, and in larger ones than there are.
fn large_units() -> Forge {
    let mut forge = Forge::new(64 << 10, 1 << 20);
    forge.repeated.push((FREE..2 * FREE, [2, 0xb0, 0, b'x', b'y'].repeat(13107)));
    let runs = [&[0x31, 1, 0, 0x40, 0, 0x01, 15][..], &[0x11, 1, 1, 0x01, 15].repeat(400), &[0]].concat();
    let data = compressed(nonresident(DATA, 4, "", 0, 401 * 16, 401 << 20, &runs), 4);
    let odd = compressed(forge.stored(DATA, 5, "odd", FREE, 1 << 30), 8);
    forge.record(FILE, 1, &[standard(0x800, 0), file_name(5), data, odd]);
    forge
}

fn units_of_2_mib() -> Forge {
    let mut forge = Forge::new(2 << 20, 1 << 20);
    // The MFT must begin where a cluster does.
    let data = compressed(forge.stored(DATA, 4, "", FREE, 1 << 40), 8);
    forge.record(FILE, 1, &[standard(0x800, 0), file_name(5), data]);
    forge
}

/// Security descriptors that an index leads to in circles, or that are too long.
fn descriptors(entries: &[Vec<u8>]) -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    let sds = forge.hole(DATA, 4, "$SDS", 1 << 50);
    let fill = vec![entry_with(0, &0_u32.to_le_bytes(), &[0; 20], None, 0); 1500];
    let all = [fill, entries.to_vec(), vec![last(Some(0))]].concat();
    forge.put(FREE, &block(0, 65536, &all));
    let root = resident(0x90, 5, "$SII", &index(0, 65536, &[last(Some(0))]));
    let allocation = forge.stored(ALLOCATION, 6, "$SII", FREE, 65536);
    let bitmap = resident(BITMAP, 7, "$SII", &[1; 8]);
    forge.record(9, 1, &[standard(0, 0), file_name(5), sds, root, allocation, bitmap]);
    forge.record(FILE, 1, &[standard(0, 300), file_name(5)]);
    forge
}

fn descriptors_in_circles() -> Forge {
    descriptors(&[entry_with(0, &400_u32.to_le_bytes(), &[0; 20], Some(0), 0)])
}

fn descriptor_of_4_gib() -> Forge {
    let place = [7_u32, 300, 0, 0, u32::MAX].map(u32::to_le_bytes).concat();
    descriptors(&[entry_with(0, &300_u32.to_le_bytes(), &place, None, 0)])
}

/// A log of 4 GiB that was not closed: restart pages all over, whose checkpoint stands in one of them, or pages of which
/// each says that the record goes on in the next.
fn log(page: &[u8], lsn: u64) -> Forge {
    const LEN: u64 = 4 << 30;
    let mut forge = Forge::new(4096, 1 << 20);
    let mut restart = ntfs_logfile::restart_page(b"RSTR", LEN, lsn, 0, 0);
    // One client, of whom the checkpoint is here.
    restart[0x30 + 0x0c..][..2].copy_from_slice(&[0, 0]);
    restart[0x70..0x80].copy_from_slice(&[lsn; 2].map(u64::to_le_bytes).concat());
    let pages = if page.is_empty() { restart.clone() } else { page.to_vec() };
    forge.repeated.push((FREE..FREE + LEN, pages));
    forge.put(FREE, &[restart.clone(), restart].concat());
    let data = forge.stored(DATA, 4, "", FREE, LEN);
    forge.record(2, 1, &[standard(0, 0), file_name(5), data]);
    forge.record(FILE, 1, &[standard(0, 0), file_name(5)]);
    forge
}

fn log_of_restart_pages() -> Forge {
    log(&[], (1 << 32) | (0x10_0040 >> 3))
}

fn log_of_one_record() -> Forge {
    let lsn: u64 = (1 << 32) | (0x10_0040 >> 3);
    let mut page = vec![0; RECORD];
    page[..4].copy_from_slice(b"RCRD");
    page[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    page[0x10] = 1;
    page[0x20..0x28].copy_from_slice(&u64::MAX.to_le_bytes());
    // A checkpoint of 8 MiB, which begins with a version and names itself for all of its tables.
    page[0x40..0x48].copy_from_slice(&lsn.to_le_bytes());
    page[0x58..0x5c].copy_from_slice(&(8_u32 << 20).to_le_bytes());
    page[0x60] = 2;
    page[0x70] = 1;
    for at in [0x78, 0x80, 0x90, 0x98] {
        page[at..at + 8].copy_from_slice(&lsn.to_le_bytes());
    }
    page[0xa0..0xb0].fill(0xff);
    log(&marked(page, 0x28), lsn)
}

/// An MFT of a TiB, capitals of as much, clusters in use beyond counting.
fn all_too_large() -> Forge {
    let mut forge = Forge::new(128 << 10, 1 << 28);
    let big = |forge: &Forge, len| [standard(0, 0), file_name(5), forge.hole(DATA, 4, "", len)];
    forge.record(10, 1, &big(&forge, 1 << 40));
    // In clusters of 128 KiB the volume's bitmap is as long as any that is counted.
    forge.record(6, 1, &big(&forge, 64 << 20));
    forge.record(FILE, 1, &big(&forge, 1 << 62));
    forge.record(2, 1, &big(&forge, 1 << 62));
    forge
}

fn capitals_of_another_size() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    forge.record(10, 1, &[standard(0, 0), file_name(5), resident(DATA, 4, "", b"odd")]);
    forge.record(FILE, 1, &[standard(0, 0), file_name(5)]);
    forge
}

/// How many times the reader may be led on by attributes of Linux.
fn attributes_of_linux() -> Forge {
    let mut forge = Forge::new(4096, 1 << 20);
    forge.repeated.push((FREE..2 * FREE, [12, 0, 0, 0, 0, 2, 1, 0, b'a', b'b', 0, 1].to_vec()));
    let list = forge.stored(0xe0, 4, "", FREE, 64 << 10);
    forge.record(FILE, 1, &[standard(4, 0), file_name(5), list]);
    forge
}

type Case = (&'static str, fn() -> Forge);

const CASES: &[Case] = &[
    ("MFT in many runs", mft_in_many_runs),
    ("list of one attribute", list_of_one_attribute),
    ("list of many records", list_of_many_records),
    ("list of itself", list_of_itself),
    ("streams", streams),
    ("links in a circle", links_in_a_circle),
    ("directory of zeros", directory_of_zeros),
    ("directory of holes", directory_of_holes),
    ("directory of others", directory_of_others),
    ("tree of loops", tree_of_loops),
    ("tree of one block", tree_of_one_block),
    ("WOF of holes", wof_of_holes),
    ("large units", large_units),
    ("units of 2 MiB", units_of_2_mib),
    ("descriptors in circles", descriptors_in_circles),
    ("descriptor of 4 GiB", descriptor_of_4_gib),
    ("log of restart pages", log_of_restart_pages),
    ("log of one record", log_of_one_record),
    ("all too large", all_too_large),
    ("capitals of another size", capitals_of_another_size),
    ("attributes of Linux", attributes_of_linux),
];

/// The part that runs in a process of its own.
#[test]
fn worker() {
    let Ok(name) = std::env::var("IMGMOUNT_NTFS_HOSTILE") else { return };
    let (_, forge) = CASES.iter().find(|(case, _)| *case == name).unwrap();
    let volume: Arc<dyn BlockSource> = Arc::new(forge());
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, start) = (memory("VmRSS"), cpu());

    let mut slow = walk(&volume, true);

    let (grown, took) = (memory("VmHWM").saturating_sub(before), cpu().saturating_sub(start));
    if grown > MEMORY {
        slow.push(format!("{} MiB of memory", grown >> 20));
    }
    println!("{name}: {took:?}, {} MiB", grown >> 20);
    // The file is there: what was made is a volume, and what is hostile in it was reached.
    let fs = open(&volume).unwrap();
    assert_eq!(fs.lookup(fs.root(), b"file").unwrap(), Some(Ino(FILE)));
    assert!(slow.is_empty(), "{slow:?}");
}

#[test]
fn the_worst_that_a_volume_can_say_costs_little() {
    requires!("root");
    let only = std::env::var("IMGMOUNT_NTFS_HOSTILE_CASE").ok();
    let mut bad = Vec::new();
    for (name, _) in CASES.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ntfs_hostile::worker", "--nocapture", "--test-threads=1"])
            .env("IMGMOUNT_NTFS_HOSTILE", name)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{}", said.lines().find(|line| line.contains(" MiB")).unwrap_or_default());
        if !output.status.success() {
            bad.push(format!("{name}: {said}{}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
