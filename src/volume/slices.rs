//! Slices: the tables of BSD and Solaris, on a whole disk or inside a partition of an MBR.
//!
//! | table | where | numbers |
//! |---|---|---|
//! | BSD disklabel | in a partition of type A5, A6 or A9 | those of Linux, `block/partitions/msdos.c`: on from the last logical one |
//! | Solaris VTOC, x86 | in a partition of type 82 or BF | the same |
//! | Solaris VTOC, sparc | the first sector of a disk | those of Linux, `block/partitions/sun.c`: from 1 on |
//! | BSD disklabel | the second sector of a disk | Linux does not look there; called `a`, `b`, ... as BSD does |
//!
//! Tables of other makers are named in a warning: Apple's, SGI's, and that of IBM's DASDs.

use super::{Assembly, Makes, Manager, Partition, Table, TableKind, VolCx, Volume, carve};
use crate::block::Probe;
use crate::error::Result;
use crate::ondisk::{get_be16, get_be32, get_le16, get_le32};
use crate::text::Text;

/// The manager.
pub const MANAGER: Manager =
    Manager { name: "slices", nests: false, claims, seeks: None, makes: Makes::OfOne(assemble) };

const SECTOR: usize = 512;
/// `BSD_DISKMAGIC`, twice in a disklabel.
const BSD: u32 = 0x8256_4557;
/// Entries of a disklabel (`BSD_MAXPARTITIONS`).
const BSD_ENTRIES: usize = 16;
/// `SOLARIS_X86_VTOC_SANE`.
const SANE: u32 = 0x600d_deee;

/// Names of BSD's file system types (`p_fstype`), those found in practice.
const BSD_TYPES: &[(u8, &str)] = &[
    (1, "BSD swap"),
    (6, "Version 7"),
    (7, "BSD 4.2"),
    (8, "MS-DOS"),
    (9, "BSD LFS"),
    (11, "HPFS"),
    (12, "ISO 9660"),
    (13, "BSD boot"),
    (14, "Vinum"),
    (17, "Linux ext2"),
    (18, "NTFS"),
    (27, "ZFS"),
];

/// Names of Solaris's tags.
const SOLARIS_TAGS: &[(u16, &str)] = &[
    (1, "Solaris boot"),
    (2, "Solaris root"),
    (3, "Solaris swap"),
    (4, "Solaris usr"),
    (7, "Solaris var"),
    (8, "Solaris home"),
    (0x82, "Linux swap"),
    (0x83, "Linux file system"),
    (0x8e, "Linux LVM"),
    (0xfd, "Linux RAID"),
];

/// An entry of one of these tables, in sectors of 512 bytes.
struct Slice {
    /// Its place in the table.
    slot: usize,
    start: u64,
    size: u64,
    code: String,
    name: &'static str,
}

impl Slice {
    fn partition(&self, number: u32) -> Partition {
        Partition {
            number,
            start: self.start.saturating_mul(512),
            size: self.size.saturating_mul(512),
            type_code: self.code.clone(),
            type_name: self.name,
            name: Text::default(),
            bootable: false,
            no_auto: false,
            uuid: None,
        }
    }
}

/// The entries of a disklabel, and whether they count from the start of its partition.
fn bsd(label: &[u8]) -> Option<(Vec<Slice>, bool)> {
    if get_le32(label, 0) != Some(BSD) || get_le32(label, 132) != Some(BSD) {
        return None;
    }
    let count = usize::from(get_le16(label, 138)?).min(BSD_ENTRIES);
    let entry =
        |slot: usize| label.get(slot.checked_mul(16)?.checked_add(148)?..).filter(|rest| rest.len() >= 16);
    let slice = |slot: usize| {
        let bytes = entry(slot)?;
        let kind = bytes.get(12).copied().filter(|kind| *kind != 0)?;
        let name = BSD_TYPES.iter().find(|(code, _)| *code == kind).map_or("", |(_, name)| name);
        let (size, start) = (u64::from(get_le32(bytes, 0)?), u64::from(get_le32(bytes, 4)?));
        Some(Slice { slot, start, size, code: format!("bsd:{kind}"), name })
    };
    // Slice c is the whole of it: where that begins at 0, all are relative (FreeBSD).
    let is_relative = entry(2).and_then(|bytes| get_le32(bytes, 4)) == Some(0);
    Some(((0..count).filter_map(slice).collect(), is_relative))
}

/// The entries of a VTOC of the x86, which count from the start of its partition.
fn solaris(vtoc: &[u8]) -> Option<Vec<Slice>> {
    if get_le32(vtoc, 12) != Some(SANE) || get_le32(vtoc, 16) != Some(1) {
        return None;
    }
    let count = if get_le16(vtoc, 30)? > 8 { 16 } else { 8 };
    let slice = |slot: usize| {
        let bytes = vtoc.get(slot.checked_mul(12)?.checked_add(72)?..)?;
        let (start, size) = (u64::from(get_le32(bytes, 4)?), u64::from(get_le32(bytes, 8)?));
        let tag = get_le16(bytes, 0)?;
        (size != 0).then(|| Slice { slot, start, size, code: format!("solaris:{tag}"), name: tag_name(tag) })
    };
    Some((0..count).filter_map(slice).collect())
}

fn tag_name(tag: u16) -> &'static str {
    SOLARIS_TAGS.iter().find(|(code, _)| *code == tag).map_or("", |(_, name)| name)
}

/// Adds the slices inside a partition of an MBR, of that type and place; they take the numbers from `next` on.
pub(super) fn inside(
    disk: &Volume,
    kind: u8,
    start: u64,
    size: u64,
    next: &mut u32,
    made: &mut Assembly,
) -> Result<bool> {
    let table = start.saturating_add(512);
    let mut sector = [0; SECTOR];
    if !matches!(kind, 0xa5 | 0xa6 | 0xa9 | 0x82 | 0xbf) || table.saturating_add(512) > disk.source.len() {
        return Ok(false);
    }
    disk.source.read_at(&mut sector, table)?;
    let (first, len) = (start.div_euclid(512), size.div_euclid(512));
    let slices = match kind {
        0x82 | 0xbf => solaris(&sector).map(|slices| (slices, true, false)),
        // Only FreeBSD's may be relative.
        _ => bsd(&sector).map(|(slices, is_relative)| (slices, is_relative && kind == 0xa5, true)),
    };
    let Some((slices, is_relative, is_bsd)) = slices else { return Ok(false) };
    let before = made.volumes.len();
    for mut slice in slices {
        if is_relative {
            slice.start = slice.start.saturating_add(first);
        }
        let is_whole = slice.start == first && slice.size == len;
        let is_inside =
            slice.start >= first && slice.start.saturating_add(slice.size) <= first.saturating_add(len);
        if is_bsd && (is_whole || !is_inside) {
            continue;
        }
        if *next > super::mbr::MAX_NUMBER {
            break;
        }
        carve(disk, slice.partition(*next), made);
        *next = next.saturating_add(1);
    }
    Ok(made.volumes.len() > before)
}

/// Do the words of a sparc's label add up to nothing?
fn is_sun(head: &[u8]) -> bool {
    let words = head.get(..SECTOR).unwrap_or_default().as_chunks::<2>().0;
    get_be16(head, 508) == Some(0xdabe)
        && words.iter().fold(0, |sum, word| sum ^ u16::from_be_bytes(*word)) == 0
}

/// A table that is known by name alone.
fn foreign(probe: &Probe<'_>) -> Option<&'static str> {
    if probe.has(0, b"ER") && probe.has(512, b"PM\0\0") {
        return Some("an Apple partition map");
    }
    if probe.has(0, b"\x0b\xe5\xa9\x41") {
        return Some("an SGI volume header");
    }
    // "VOL1" in EBCDIC, in the third block of a DASD.
    let dasd =
        [1024, 2048, 4096, 8192].into_iter().any(|at| probe.has(at, b"\xe5\xd6\xd3\xf1\xe5\xd6\xd3\xf1"));
    dasd.then_some("a DASD volume label")
}

fn claims(probe: &Probe<'_>) -> bool {
    is_sun(probe.head)
        || probe.head.get(SECTOR..).is_some_and(|label| bsd(label).is_some())
        || foreign(probe).is_some()
}

fn assemble(disk: &Volume, _cx: &VolCx<'_>) -> Result<Assembly> {
    let bytes = crate::block::ProbeBytes::read(&*disk.source, "")?;
    let head = bytes.view().head;
    let mut made = Assembly::default();
    if is_sun(head) {
        sun(disk, head, &mut made);
    } else if let Some((slices, _)) = head.get(SECTOR..).and_then(bsd) {
        for slice in slices {
            let is_whole = slice.start == 0 && slice.size.saturating_mul(512) >= disk.source.len();
            let letter =
                u8::try_from(slice.slot).ok().and_then(|slot| b'a'.checked_add(slot)).map_or('?', char::from);
            let number = u32::try_from(slice.slot).unwrap_or(0).saturating_add(1);
            let before = made.volumes.len();
            if !is_whole {
                carve(disk, slice.partition(number), &mut made);
            }
            for volume in made.volumes.iter_mut().skip(before) {
                volume.id =
                    if disk.id == "disk" { letter.to_string() } else { format!("{}/{letter}", disk.id) };
                // No Linux would give it a number.
                volume.made_of = vec![disk.id.clone()];
                volume.names.clear();
            }
        }
        made.table = Some(table(TableKind::Bsd));
    } else if let Some(name) = foreign(&bytes.view()) {
        made.warnings.push(format!("{}: {name}, which is not read", disk.id));
    }
    Ok(made)
}

fn table(kind: TableKind) -> Table {
    Table { kind, sector_size: 512, ..Table::default() }
}

/// The sparc's label: cylinders from a geometry, 8 slices.
fn sun(disk: &Volume, label: &[u8], made: &mut Assembly) {
    let half = |at: usize| u64::from(get_be16(label, at).unwrap_or(0));
    let word = |at: usize| u64::from(get_be32(label, at).unwrap_or(0));
    let (version, count, sanity) = (word(128), half(140), word(188));
    let has_vtoc = sanity == u64::from(SANE) && version == 1 && count <= 8;
    let cylinder = half(436).saturating_mul(half(438));
    let entries = if has_vtoc { count } else { 8 };
    for (slot, number) in (0_usize..8).zip(1_u32..).take(crate::num::narrow(entries)) {
        let at = slot.saturating_mul(8).saturating_add(444);
        let (start, size) = (word(at).saturating_mul(cylinder), word(at.saturating_add(4)));
        let tag =
            get_be16(label, slot.saturating_mul(4).saturating_add(142)).filter(|_| has_vtoc).unwrap_or(0);
        // Tag 5 is the whole disk once more.
        if size != 0 && tag != 5 {
            let slice = Slice { slot, start, size, code: format!("sun:{tag}"), name: tag_name(tag) };
            carve(disk, slice.partition(number), made);
        }
    }
    made.table = Some(table(TableKind::Sun));
}
