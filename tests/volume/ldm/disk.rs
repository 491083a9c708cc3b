//! Writes dynamic disks: tables, headers, the database with its records in fragments, and what volumes hold. Layouts as
//! `libldm`, Linux's `block/partitions/ldm.h` and `DiskAccessLibrary` have them; what comes out must please `ldmtool`.

use crate::md::noise;
use imgmount::checksum::crc32;

/// Sectors of a disk, and of its private region.
pub(crate) const DISK: usize = 8192;
const REGION: usize = 2048;
/// Sectors of the part of the private region that holds the database.
const CONFIG: usize = 1481;

#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) disks: Vec<Disk>,
    pub(crate) volumes: Vec<Volume>,
    /// Numbers of the change that is committed and of the one under way, and the status.
    pub(crate) change: u64,
    pub(crate) pending: u64,
    pub(crate) status: u16,
}

#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) name: String,
    pub(crate) guid: String,
    pub(crate) is_gpt: bool,
    /// Is its record of revision 4, with a GUID in binary?
    pub(crate) is_later: bool,
}

#[derive(Clone)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) hint: &'static str,
    pub(crate) components: Vec<Component>,
    /// Of its records: 0 active, 1 about to go, 2 about to come.
    pub(crate) status: u16,
}

#[derive(Clone)]
pub(crate) struct Component {
    /// 1 striped, 2 spanned, 3 RAID-5.
    pub(crate) kind: u8,
    pub(crate) state: &'static str,
    pub(crate) flags: u32,
    /// Sectors.
    pub(crate) chunk: usize,
    pub(crate) columns: Vec<Vec<Piece>>,
}

/// A partition: so many sectors of a disk's public region, from one on.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) disk: usize,
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) flags: u32,
}

pub(crate) fn piece(disk: usize, start: usize, len: usize) -> Piece {
    Piece { disk, start, len, flags: 0 }
}

pub(crate) fn component(kind: u8, chunk: usize, columns: Vec<Vec<Piece>>) -> Component {
    Component { kind, state: "ACTIVE", flags: 0, chunk, columns }
}

pub(crate) fn volume(name: &str, hint: &'static str, components: Vec<Component>) -> Volume {
    Volume { name: name.to_owned(), state: "ACTIVE", hint, components, status: 0 }
}

impl Component {
    /// Sectors that it holds.
    pub(crate) fn len(&self) -> usize {
        let column = |column: &Vec<Piece>| column.iter().map(|piece| piece.len).sum::<usize>();
        let all: usize = self.columns.iter().map(column).sum();
        if self.kind == 3 { all / self.columns.len() * (self.columns.len() - 1) } else { all }
    }
}

impl Volume {
    pub(crate) fn len(&self) -> usize {
        self.components[0].len()
    }
}

/// A number with its length in front.
fn number(value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let skip = bytes.iter().position(|byte| *byte != 0).unwrap_or(7);
    [&[8 - skip as u8], &bytes[skip..]].concat()
}

fn text(value: &str) -> Vec<u8> {
    [&[value.len() as u8], value.as_bytes()].concat()
}

fn binary(guid: &str) -> Vec<u8> {
    let digits: String = guid.chars().filter(|c| *c != '-').collect();
    (0..16).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// The sum of all bytes of a sector, in the four bytes at 8.
pub(crate) fn seal(sector: &mut [u8]) {
    sector[8..12].fill(0);
    let sum: u32 = sector.iter().map(|byte| u32::from(*byte)).sum();
    sector[8..12].copy_from_slice(&sum.to_be_bytes());
}

impl Group {
    /// A group of so many disks, the last of them with a GPT.
    pub(crate) fn new(disks: usize, volumes: Vec<Volume>) -> Self {
        let disk = |number: usize| Disk {
            name: format!("Disk{}", number + 1),
            guid: format!("00000000-1111-4222-8333-44444444440{number}"),
            is_gpt: number + 1 == disks,
            is_later: false,
        };
        let disks = (0..disks).map(disk).collect();
        Self { name: "HOST Dg0", disks, volumes, change: 40, pending: 40, status: 1 }
    }

    pub(crate) fn guid(&self) -> &'static str {
        "99999999-8888-4777-8666-555555555555"
    }

    /// First sector of a disk's public region, its length, and the first one of its private region.
    pub(crate) fn regions(&self, disk: usize) -> (usize, usize, usize) {
        if self.disks[disk].is_gpt {
            (2114, DISK - 33 - 2114, 34)
        } else {
            (63, DISK - REGION - 63, DISK - REGION)
        }
    }

    fn volume_id(at: usize) -> u64 {
        0x400 + at as u64
    }

    pub(crate) fn volume_guid(at: usize) -> String {
        format!("abcdef{at:02}-0123-4567-89ab-cdef01234567")
    }

    /// Status, flags, type and content of every record.
    fn records(&self) -> Vec<(u16, u8, u8, Vec<u8>)> {
        let mut records = Vec::new();
        let group = [number(1), text(self.name), text(self.guid()), vec![0; 12]].concat();
        records.push((0, 0, 0x35, group));
        for (at, disk) in self.disks.iter().enumerate() {
            let head = [number(0x10 + at as u64), text(&disk.name)].concat();
            // Long enough for a second fragment.
            let device = text("SCSI\\DISK&VEN_RED_HAT&PROD_VIRTIO&REV_0001\\4&1618751F&0&000");
            records.push(if disk.is_later {
                (0, 0, 0x44, [head, binary(&disk.guid), binary(&disk.guid), vec![0; 13]].concat())
            } else {
                (0, 0, 0x34, [head, text(&disk.guid), device, vec![0; 12]].concat())
            });
        }
        let mut pieces = vec![0; self.disks.len()];
        for (at, volume) in self.volumes.iter().enumerate() {
            let raid = volume.components[0].kind == 3;
            let mut state = volume.state.as_bytes().to_vec();
            state.resize(14, 0);
            let id = Self::volume_id(at);
            let mut body =
                [number(id), text(&volume.name), text(if raid { "raid5" } else { "gen" }), text("")].concat();
            body.extend(state);
            body.push(if raid { 4 } else { 3 });
            body.extend(number(5 + at as u64));
            body.extend(0x11_u32.to_be_bytes());
            body.extend(number(volume.components.len() as u64));
            body.extend(self.change.to_be_bytes());
            body.extend([0; 8]);
            body.extend(number(volume.len() as u64));
            body.extend([0, 0, 0, 0, 7]);
            body.extend(binary(&Self::volume_guid(at)));
            let flags = if volume.hint.is_empty() { 0 } else { 2 };
            if flags != 0 {
                body.extend(text(volume.hint));
            }
            records.push((volume.status, flags, 0x51, body));
            for (plex, component) in volume.components.iter().enumerate() {
                let plex_id = 0x1000 + 0x10 * id + plex as u64;
                let count: usize = component.columns.iter().map(Vec::len).sum();
                let mut body = [
                    number(plex_id),
                    text(&format!("{}-{:02}", volume.name, plex + 1)),
                    text(component.state),
                    vec![component.kind],
                    component.flags.to_be_bytes().to_vec(),
                    number(count as u64),
                    self.change.to_be_bytes().to_vec(),
                    vec![0; 8],
                    number(id),
                    vec![0],
                ]
                .concat();
                let flags = if component.kind == 2 { 0 } else { 0x10 };
                if flags != 0 {
                    body.extend(number(component.chunk as u64));
                    body.extend(number(component.columns.len() as u64));
                }
                records.push((volume.status, flags, 0x32, body));
                for (index, column) in component.columns.iter().enumerate() {
                    let mut offset = 0;
                    for piece in column {
                        pieces[piece.disk] += 1;
                        let mut body = [
                            number(0x10_0000 + records.len() as u64),
                            text(&format!("{}-{:02}", self.disks[piece.disk].name, pieces[piece.disk])),
                            piece.flags.to_be_bytes().to_vec(),
                            self.change.to_be_bytes().to_vec(),
                            (piece.start as u64).to_be_bytes().to_vec(),
                            (offset as u64).to_be_bytes().to_vec(),
                            number(piece.len as u64),
                            number(plex_id),
                            number(0x10 + piece.disk as u64),
                        ]
                        .concat();
                        offset += piece.len;
                        let flags = if index == 0 { 0 } else { 8 };
                        if flags != 0 {
                            body.extend(number(index as u64));
                        }
                        records.push((volume.status, flags, 0x33, body));
                    }
                }
            }
        }
        records
    }

    /// The database. Volumes that go or come are counted as they are before and after the change.
    pub(crate) fn database(&self) -> Vec<u8> {
        let records = self.records();
        let count = |kind: u8, gone: u16| {
            records.iter().filter(|(status, _, of, _)| *of == kind && *status != gone).count() as u32
        };
        let mut head = vec![0; 512];
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"VMDB");
        put(4, &((CONFIG * 4) as u32).to_be_bytes());
        put(8, &128_u32.to_be_bytes());
        put(12, &512_u32.to_be_bytes());
        put(16, &self.status.to_be_bytes());
        put(18, &[0, 4, 0, 10]);
        put(22, self.name.as_bytes());
        put(0x35, self.guid().as_bytes());
        put(0x75, &self.change.to_be_bytes());
        put(0x7d, &self.pending.to_be_bytes());
        for (at, gone) in [(0x85, 2), (0xa1, 1)] {
            for (step, kind) in [0x51, 0x32, 0x33].into_iter().enumerate() {
                put(at + 4 * step, &count(kind, gone).to_be_bytes());
            }
            put(at + 12, &(self.disks.len() as u32).to_be_bytes());
        }
        let (mut slots, mut later) = (Vec::new(), Vec::new());
        for (group, (status, flags, kind, body)) in (1_u32..).zip(records) {
            let mut record =
                [&status.to_be_bytes()[..], &[flags, kind], &(body.len() as u32).to_be_bytes(), &body]
                    .concat();
            let fragments = record.len().div_ceil(112);
            record.resize(fragments * 112, 0);
            for (fragment, content) in record.chunks(112).enumerate() {
                let counts = [fragment as u16, fragments as u16].map(u16::to_be_bytes).concat();
                let slot = [&group.to_be_bytes()[..], &counts, content].concat();
                // Second fragments lie anywhere.
                if fragment == 0 { slots.push(slot) } else { later.insert(0, slot) }
            }
        }
        slots.append(&mut later);
        assert!(slots.len() <= CONFIG * 4 - 4);
        let mut database = head;
        for sequence in 4..CONFIG * 4 {
            database.extend(b"VBLK");
            match slots.get(sequence - 4) {
                Some(slot) => {
                    database.extend((sequence as u32).to_be_bytes());
                    database.extend(slot);
                }
                None => database.extend([0; 124]),
            }
        }
        database
    }

    fn header(&self, disk: usize) -> Vec<u8> {
        let (public, len, private) = self.regions(disk);
        let mut head = vec![0; 512];
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        let long = |value: usize| (value as u64).to_be_bytes();
        put(0, b"PRIVHEAD");
        put(0x0c, &[0, 2, 0, 12]);
        put(0x18, &long(3));
        put(0x20, &long(2047));
        put(0x28, &long(1856));
        put(0x30, self.disks[disk].guid.as_bytes());
        put(0x70, b"1b77da20-c717-11d0-a5be-00a0c91db73c");
        put(0xb0, self.guid().as_bytes());
        put(0xf0, self.name.as_bytes());
        put(0x10f, &512_u32.to_be_bytes());
        for (at, value) in
            [(0x11b, public), (0x123, len), (0x12b, private), (0x133, REGION), (0x13b, 2), (0x143, 2045)]
        {
            put(at, &long(value));
        }
        seal(&mut head);
        head
    }

    fn contents(start: usize, update: u64) -> Vec<u8> {
        let mut table = vec![0; 512];
        let mut put = |at: usize, bytes: &[u8]| table[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"TOCBLOCK");
        put(0x0c, &update.to_be_bytes());
        for (at, name, start, len) in
            [(0x24, &b"config"[..], start, CONFIG), (0x46, b"log", 17 + CONFIG, 224)]
        {
            put(at, name);
            put(at + 0x0a, &(start as u64).to_be_bytes());
            put(at + 0x12, &(len as u64).to_be_bytes());
            put(at + 0x1a, &[0, 6, 0, 1]);
        }
        seal(&mut table);
        table
    }

    /// A disk of the group, without what the volumes hold.
    pub(crate) fn disk(&self, number: usize) -> Vec<u8> {
        let mut disk = vec![0; DISK * 512];
        let (public, len, private) = self.regions(number);
        let mut put =
            |sector: usize, bytes: &[u8]| disk[sector * 512..][..bytes.len()].copy_from_slice(bytes);
        let mut mbr = vec![0; 512];
        mbr[510..].copy_from_slice(&[0x55, 0xaa]);
        mbr[440..444].copy_from_slice(&[number as u8 + 1; 4]);
        let (kind, first, count) =
            if self.disks[number].is_gpt { (0xee, 1, DISK - 1) } else { (0x42, public, len) };
        mbr[450] = kind;
        mbr[454..458].copy_from_slice(&(first as u32).to_le_bytes());
        mbr[458..462].copy_from_slice(&(count as u32).to_le_bytes());
        put(0, &mbr);
        if self.disks[number].is_gpt {
            let parts = [
                ("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", private, REGION),
                ("e3c9e316-0b5c-4db8-817d-f92df00215ae", 2082, 32),
                ("af9b60a0-1431-4f62-bc68-3311714a69ad", public, len),
            ];
            for (at, table) in [(1, gpt(&parts, 1)), (DISK - 1, gpt(&parts, DISK - 1))] {
                put(at, &table[..512]);
                put(if at == 1 { 2 } else { DISK - 33 }, &table[512..]);
            }
        } else {
            put(6, &self.header(number));
        }
        put(private + 1856, &self.header(number));
        put(private + 2047, &self.header(number));
        // An older one of each, whose database is none.
        for (sector, start, update) in [(1, 900, 2), (2, 17, 3), (2045, 17, 3), (2046, 900, 2)] {
            put(private + sector, &Self::contents(start, update));
        }
        put(private + 17, &self.database());
        disk
    }

    /// The disks, and what each volume holds.
    pub(crate) fn write(&self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        // No two volumes hold the same.
        let content = |(at, volume): (usize, &Volume)| noise((volume.len() + at) * 512)[at * 512..].to_vec();
        let contents: Vec<Vec<u8>> = self.volumes.iter().enumerate().map(content).collect();
        (self.write_with(&contents), contents)
    }

    /// The disks, when that is what the volumes hold.
    pub(crate) fn write_with(&self, contents: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut disks: Vec<Vec<u8>> = (0..self.disks.len()).map(|disk| self.disk(disk)).collect();
        for (volume, content) in self.volumes.iter().zip(contents) {
            for component in &volume.components {
                self.fill(component, content, &mut disks);
            }
        }
        disks
    }

    fn fill(&self, component: &Component, content: &[u8], disks: &mut [Vec<u8>]) {
        let (chunk, count) = (component.chunk, component.columns.len());
        let mut put = |column: usize, mut sector: usize, bytes: &[u8]| {
            let pieces = &component.columns[column];
            let inside = |piece: &&Piece| {
                let is_inside = sector < piece.len;
                if !is_inside {
                    sector -= piece.len;
                }
                is_inside
            };
            let piece = pieces.iter().find(inside).unwrap();
            let at = (self.regions(piece.disk).0 + piece.start + sector) * 512;
            for (to, from) in disks[piece.disk][at..at + 512].iter_mut().zip(bytes) {
                *to ^= from;
            }
        };
        for (sector, bytes) in content.chunks(512).enumerate() {
            match component.kind {
                2 => put(0, sector, bytes),
                1 => put(sector / chunk % count, sector / chunk / count * chunk + sector % chunk, bytes),
                _ => {
                    // 0 1 P │ 3 P 2 │ P 4 5: each row begins behind its parity.
                    let (row, place) = (sector / chunk / (count - 1), sector / chunk % (count - 1));
                    let parity = count - 1 - row % count;
                    let at = row * chunk + sector % chunk;
                    put((parity + 1 + place) % count, at, bytes);
                    put(parity, at, bytes);
                }
            }
        }
    }
}

/// A GPT for sector `own`: header, then entries.
fn gpt(parts: &[(&str, usize, usize)], own: usize) -> Vec<u8> {
    let mixed = |guid: &str| {
        let mut bytes = binary(guid);
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    };
    let mut entries = vec![0; 128 * 128];
    for (at, (kind, first, len)) in parts.iter().enumerate() {
        let entry = &mut entries[at * 128..][..128];
        entry[..16].copy_from_slice(&mixed(kind));
        entry[16..32].fill(at as u8 + 1);
        entry[32..40].copy_from_slice(&(*first as u64).to_le_bytes());
        entry[40..48].copy_from_slice(&((first + len - 1) as u64).to_le_bytes());
    }
    let mut head = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    let last = DISK - 1;
    put(0, b"EFI PART\0\0\x01\0\x5c\0\0\0");
    put(24, &(own as u64).to_le_bytes());
    put(32, &((last + 1 - own) as u64).to_le_bytes());
    put(40, &34_u64.to_le_bytes());
    put(48, &((last - 33) as u64).to_le_bytes());
    put(56, &[9; 16]);
    put(72, &(if own == 1 { 2_u64 } else { (DISK - 33) as u64 }).to_le_bytes());
    put(80, &128_u32.to_le_bytes());
    put(84, &128_u32.to_le_bytes());
    put(88, &crc32(&entries).to_le_bytes());
    let sum = crc32(&head[..92]);
    head[16..20].copy_from_slice(&sum.to_le_bytes());
    [head, entries].concat()
}
