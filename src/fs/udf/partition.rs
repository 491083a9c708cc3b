//! Partitions as files know them: numbers of maps, behind which blocks may lie elsewhere than one after the other.
//!
//! ```text
//! physical    block + start
//! sparable    the same, but for packets that were written elsewhere, being bad
//! virtual     the VAT's entry for the block is the block          (media that can be written once)
//! metadata    block of a file in another partition, or of its mirror
//! ```
//! UDF 2.60, "2.2.8 Virtual Partition Map", "2.2.9 Sparable Partition Map", "2.2.10 Metadata Partition Map".

use super::icb::{Extents, Node};
use super::tag::{self, Address};
use super::{Udf, refused};
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::fs::meta::Meta;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, read_table};
use std::collections::BTreeMap;

/// The most bytes of a sparing table that are read: more than its 65,535 entries take.
const MAX_TABLE: u64 = 8 << 16;
/// Partitions that are files in others: a volume has one map of such a kind, and perhaps one of each.
const MAX_FILES: usize = 2;
/// Entries from here on are free, or mark bad packets.
const NOT_SPARED: u32 = 0xffff_fff0;
/// Where the last block of a disc may be, counted from its end: the kernel's places, and behind the run-out of a CD.
const VAT_PLACES: [u64; 8] = [1, 2, 3, 4, 151, 152, 153, 154];

/// A partition descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Physical {
    pub(super) number: u16,
    pub(super) sequence: u32,
    /// 1 read only, 2 once, 3 rewritable, 4 overwritable.
    pub(super) access: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Physical {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let le32 = |at: usize| get_le32(bytes, at).unwrap_or(0);
        Self {
            sequence: le32(16),
            number: get_le16(bytes, 22).unwrap_or(0),
            access: le32(184),
            start: le32(188),
            len: le32(192),
        }
    }
}

/// What a map leads to.
#[derive(Debug)]
pub(super) enum Partition {
    Physical(Physical),
    Sparable { under: Physical, packet: u32, spared: BTreeMap<u32, u32> },
    Virtual { under: Physical, vat: Box<Vat> },
    Metadata { under: u16, main: Option<Extents>, mirror: Option<Extents> },
}

/// The virtual allocation table: a file of block numbers.
#[derive(Debug)]
pub(super) struct Vat {
    node: Node,
    extents: Extents,
    /// Bytes in front of the first entry.
    head: u64,
    entries: u64,
}

/// Where consecutive blocks lie: the first one's byte, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) byte: u64,
    pub(super) count: u64,
}

/// A map in the logical volume descriptor, and the partitions that there are.
pub(super) struct Maps<'a> {
    table: &'a [u8],
    count: u32,
    physical: &'a [Physical],
}

impl<'a> Maps<'a> {
    pub(super) const fn new(table: &'a [u8], count: u32, physical: &'a [Physical]) -> Self {
        Self { table, count, physical }
    }

    fn under(&self, number: u16) -> Result<Physical> {
        let found = self.physical.iter().find(|partition| partition.number == number);
        found.copied().ok_or_else(|| {
            Error::corrupt(At::new("udf", "partition map"))
                .because(format!("names partition {number}, which is not described"))
        })
    }

    /// Adds each map's partition to `udf`. Later ones may need those before.
    ///
    /// # Errors
    /// `Unsupported` with a map's name; `Corrupt` when it leads nowhere.
    pub(super) fn load(&self, udf: &mut Udf) -> Result<()> {
        let mut rest = self.table;
        // Virtual and metadata partitions are files in others, which may stand behind them.
        let mut later = Vec::new();
        for index in 0..u64::from(self.count.min(64)) {
            let at = At::new("udf", "partition map").index(index);
            let len = rest.get(1).copied().map_or(0, usize::from);
            let Some((map, after)) = rest.split_at_checked(len).filter(|(map, _)| map.len() >= 6) else {
                return Err(Error::corrupt(at).because("ends in the middle"));
            };
            rest = after;
            let name = map.get(5..28).unwrap_or_default();
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let kind = map.first().copied().unwrap_or(0);
            let number = get_le16(map, if kind == 1 { 4 } else { 38 }).unwrap_or(0);
            let under = self.under(number)?;
            let partition = match (kind, name) {
                (1, _) => Partition::Physical(under),
                (2, b"*UDF Sparable Partition") => sparable(&udf.meta, udf.block, under, map)?,
                (2, b"*UDF Virtual Partition" | b"*UDF Metadata Partition") => {
                    later.push((narrow(index), name, number, map));
                    Partition::Physical(under)
                }
                (2, name) => {
                    return Err(refused(format!("partition map {}", crate::text::escape(name))));
                }
                (kind, _) => return Err(refused(format!("partition map of type {kind}"))),
            };
            udf.partitions.push(partition);
        }
        if later.len() > MAX_FILES {
            return Err(Error::corrupt(At::new("udf", "partition map"))
                .because(format!("{} partitions that are files, {MAX_FILES} at the most", later.len())));
        }
        let files: Vec<usize> = later.iter().map(|(index, ..)| *index).collect();
        for (index, name, number, map) in later {
            let under = self.under(number)?;
            let partition = if name == b"*UDF Virtual Partition" {
                Partition::Virtual { under, vat: Box::new(vat(udf, under)?) }
            } else {
                let of = |at: usize| get_le32(map, at).unwrap_or(u32::MAX);
                let below = |partition: &Partition| match partition {
                    Partition::Physical(other) | Partition::Sparable { under: other, .. } => {
                        other.number == number
                    }
                    _ => false,
                };
                let under =
                    udf.partitions.iter().enumerate().position(|(at, p)| !files.contains(&at) && below(p));
                let under = under.and_then(|under| u16::try_from(under).ok()).ok_or_else(|| {
                    Error::corrupt(At::new("udf", "partition map").index(wide(index)))
                        .because("a metadata partition on none")
                })?;
                let load = |block: u32| {
                    let node = udf.node_at(Address { block, partition: under })?;
                    udf.extents(&node)
                };
                let (main, mirror) = (load(of(40)), load(of(44)).ok());
                if let (Err(error), None) = (&main, &mirror) {
                    return Err(error.clone());
                }
                Partition::Metadata { under, main: main.ok(), mirror }
            };
            if let Some(place) = udf.partitions.get_mut(index) {
                *place = partition;
            }
        }
        Ok(())
    }
}

/// A sparable partition, by the first of its tables that is sound.
fn sparable(meta: &Meta, block: u64, under: Physical, map: &[u8]) -> Result<Partition> {
    let at = || At::new("udf", "sparing table");
    let packet: u32 = get_le16(map, 40).unwrap_or(0).into();
    if !packet.is_power_of_two() {
        return Err(Error::corrupt(at()).because(format!("packets of {packet} blocks")));
    }
    let tables = map.get(42).copied().map_or(0, usize::from).min(4);
    let size = get_le32(map, 44).unwrap_or(0);
    let mut last = Error::corrupt(at()).because("there is none");
    let budget = Budget::request();
    for location in map.get(48..).unwrap_or_default().chunks_exact(4).take(tables) {
        let location = get_le32(location, 0).unwrap_or(0);
        let len = u64::from(size).next_multiple_of(block).min(MAX_TABLE);
        let byte = u64::from(location).saturating_mul(block);
        let bytes = read_table(&**meta.volume(), byte, len.max(block), MAX_TABLE, at(), &budget);
        match bytes.and_then(|bytes| tag::check(&bytes, location, &at()).map(|_| bytes)) {
            Ok(bytes) => {
                let count = get_le16(&bytes, 48).unwrap_or(0);
                let entries = bytes.get(56..).unwrap_or_default().chunks_exact(8).take(count.into());
                let pairs = entries.filter_map(|entry| Some((get_le32(entry, 0)?, get_le32(entry, 4)?)));
                let spared = pairs.take_while(|(from, _)| *from < NOT_SPARED).collect();
                return Ok(Partition::Sparable { under, packet, spared });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The virtual allocation table, whose entry is the last block that was written.
fn vat(udf: &mut Udf, under: Physical) -> Result<Vat> {
    let blocks = udf.meta.volume().len().checked_div(udf.block).unwrap_or(0);
    let mut first = None;
    for place in VAT_PLACES {
        let block = blocks.checked_sub(place).and_then(|block| block.checked_sub(under.start.into()));
        let Some(block) = block.and_then(|block| u32::try_from(block).ok()) else { continue };
        let byte = u64::from(under.start).saturating_add(block.into()).saturating_mul(udf.block);
        let node = udf.node_on(byte, Address { block, partition: u16::MAX });
        match node.and_then(|node| as_vat(udf, node, under)) {
            Ok(vat) => return Ok(vat),
            Err(error) => first = first.or(Some(error)),
        }
    }
    let missing = || Error::corrupt(At::new("udf", "virtual allocation table")).because("there is none");
    Err(first
        .unwrap_or_else(missing)
        .help("a disc that is written once ends with this table: the image may be cut off"))
}

fn as_vat(udf: &mut Udf, mut node: Node, under: Physical) -> Result<Vat> {
    let bad = |why: &str| Error::corrupt(At::new("udf", "virtual allocation table")).because(why);
    // Its own blocks are those of the partition below, whatever its descriptors say: a map that no file can name.
    let partition = u16::try_from(udf.partitions.len()).unwrap_or(u16::MAX);
    udf.partitions.push(Partition::Physical(under));
    node.address.partition = partition;
    let extents = udf.extents(&node)?.on(partition);
    let size = node.size;
    let read = |len: usize, at: u64| {
        let mut bytes = vec![0; len];
        udf.read_content(&node, &extents, &mut bytes, at)?;
        Ok::<_, Error>(bytes)
    };
    let (head, end) = match node.file_type {
        // UDF 2.00: a header whose length comes first.
        248 => (get_le16(&read(2, 0)?, 0).unwrap_or(0).into(), size),
        // UDF 1.50: an identifier, and the number of the VAT before, behind the entries.
        0 if size >= 36 => {
            let end = size.saturating_sub(36);
            if !read(24, end)?.get(1..).is_some_and(|name| name.starts_with(b"*UDF Virtual Alloc Tbl")) {
                return Err(bad("its identifier is not there"));
            }
            (0, end)
        }
        _ => return Err(bad("a file of another kind")),
    };
    Ok(Vat { node, extents, head, entries: end.saturating_sub(head) / 4 })
}

impl Udf {
    /// Where a block lies, with those that follow it there.
    ///
    /// # Errors
    /// `Corrupt` when it is not in its partition.
    pub(super) fn blocks(&self, address: Address) -> Result<Blocks> {
        self.blocks_below(address, 2)
    }

    fn blocks_below(&self, address: Address, depth: u32) -> Result<Blocks> {
        let Address { block, partition } = address;
        let at = || At::new("udf", "partition").index(partition.into());
        let bad = |why: String| Error::corrupt(at()).because(why);
        let inside = |physical: &Physical, block: u32| {
            let count = physical
                .len
                .checked_sub(block)
                .filter(|count| *count > 0)
                .ok_or_else(|| bad(format!("block {block} of {}", physical.len)))?;
            let byte = u64::from(physical.start).saturating_add(block.into()).saturating_mul(self.block);
            Ok(Blocks { byte, count: count.into() })
        };
        match self.partitions.get(usize::from(partition)) {
            None => Err(bad("is not described".to_owned())),
            Some(Partition::Physical(physical)) => inside(physical, block),
            Some(Partition::Sparable { under, packet, spared }) => {
                let whole = inside(under, block)?;
                if spared.is_empty() {
                    return Ok(whole);
                }
                let skip = block.checked_rem(*packet).unwrap_or(0);
                let count = u64::from(packet.saturating_sub(skip)).min(whole.count);
                let byte = match spared.get(&block.saturating_sub(skip)) {
                    Some(elsewhere) => {
                        u64::from(*elsewhere).saturating_add(skip.into()).saturating_mul(self.block)
                    }
                    None => whole.byte,
                };
                Ok(Blocks { byte, count })
            }
            Some(Partition::Virtual { under, vat }) => {
                if u64::from(block) >= vat.entries {
                    return Err(bad(format!("virtual block {block} of {}", vat.entries)));
                }
                let mut entry = [0; 4];
                let place = vat.head.saturating_add(u64::from(block).saturating_mul(4));
                self.read_content(&vat.node, &vat.extents, &mut entry, place)?;
                let found = inside(under, u32::from_le_bytes(entry))?;
                Ok(Blocks { count: 1, ..found })
            }
            Some(Partition::Metadata { under, main, mirror }) => {
                let depth = depth.checked_sub(1).ok_or_else(|| bad("metadata in metadata".to_owned()))?;
                let offset = u64::from(block).saturating_mul(self.block);
                let of = |extents: &Option<Extents>| {
                    let extents = extents.as_ref()?;
                    let (address, left) = extents.recorded(offset, self.block)?;
                    let found = self.blocks_below(Address { partition: *under, ..address }, depth).ok()?;
                    Some(Blocks { count: found.count.min(left.div_ceil(self.block)), ..found })
                };
                of(main)
                    .or_else(|| of(mirror))
                    .ok_or_else(|| bad(format!("metadata block {block} is not recorded")))
            }
        }
    }
}
