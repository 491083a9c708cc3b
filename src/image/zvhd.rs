//! ZVHD and ZVHD2: the packed images of Huawei's cloud. Blocks of 2 MiB, each in a record; blocks of zeros are not there.
//!
//! ```text
//! ZVHD   header 4096 │ record, record, ... │ header again        the payloads are one zlib stream, cut by flushes
//! ZVHD2  header 4096 │ record, record, ... │ header again │ index │ bitmap │ footer 4096   each payload by itself
//!
//! record: 48 bytes (length of the payload, number of the block) │ payload │ zeros │ "end\0", 4096 bytes or more of them
//! index:  for the n-th block that is there: byte of its record, number, length          bitmap: which blocks are there
//! ```
//! Of ZVHD nothing tells where a block lies, and each record goes on where the stream of the one before ended: so it is
//! gone through once, and [`super::checkpoint`]s are kept. ZVHD2 is read in place.
//!
//! There is no specification. The layout is that of Huawei's driver for qemu as published in 2018, told in other words;
//! no file of the vendor's own writer has been seen, which every report says. What that layout does not know is refused
//! with its value.

use super::checkpoint::{Checkpoint, Checkpoints, Finder, Inflater, Stop};
use super::pages::Pages;
use super::wrapper::{may_pass, on_time, pass_budget, too_dear};
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{guid, read_struct, read_table};
use crate::text::escape;
use std::sync::Arc;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format.
pub const FORMAT: Format = Format {
    name: "zvhd",
    aliases: &["zvhd2"],
    about: "Huawei's ZVHD and ZVHD2 (not yet validated on the vendor's own writer)",
    probe,
    open,
};

const COOKIE: &[u8; 8] = b"stream\0\0";
const COOKIE2: &[u8; 8] = b"z2strm\0\0";
const RECORD: &[u8; 12] = b"hwstream bg\0";
const RECORD_END: &[u8; 4] = b"end\0";
/// Headers, records and the footer are filled up to a multiple of this, bytes.
const UNIT: u64 = 4096;
const RECORD_HEADER: u64 = 48;
/// Plain bytes of a block. ZVHD2 could state another size, but its driver counts in these.
const BLOCK: u64 = 2 << 20;
/// The longest payload: a block that does not pack, and what packing adds.
const MAX_PAYLOAD: u64 = BLOCK + (64 << 10);
/// The largest disk: what Huawei's import takes at most is 1 TB; 64 times that.
const MAX_SIZE: u64 = 64 << 40;
/// The bitmap of such a disk.
const MAX_BITMAP: u64 = MAX_SIZE / BLOCK / 8;
/// Blocks that a segment of the bitmap stands for.
const SEGMENT_BLOCKS: u64 = SEGMENT * 8;
const SEGMENT: u64 = 4096;
/// An entry of the index, bytes.
const ENTRY: u64 = 16;

/// Header and footer.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Header {
    cookie: [u8; 8],           // 0x00 "stream" or "z2strm"
    features: U32,             // 0x08 2
    version: U32,              // 0x0c 0x00010000
    data_offset: U64,          // 0x10 all ones
    timestamp: U32,            // 0x18 seconds since 2000
    creator: [u8; 4],          // 0x1c "tap"
    creator_version: U32,      // 0x20 0x00010003 or 0x00010004
    creator_os: U32,           // 0x24
    original_size: U64,        // 0x28 bytes
    current_size: U64,         // 0x30 bytes, whole GiB
    geometry: U32,             // 0x38
    kind: U32,                 // 0x3c
    checksum: U32,             // 0x40 one's complement of the sum of all other bytes
    id: [u8; 16],              // 0x44
    saved: u8,                 // 0x54
    hidden: u8,                // 0x55
    align_64: u8,              // 0x56
    zvhd2_version: u8,         // 0x57 1; from here on ZVHD2 alone
    block_size: U32,           // 0x58 bytes
    max_blocks: U32,           // 0x5c
    index_offset: U64,         // 0x60 bytes; this and the next in the footer alone
    bitmap_offset: U64,        // 0x68 bytes
    index_size: U32,           // 0x70 bytes
    bitmap_size: U32,          // 0x74 bytes
    index_segment: U32,        // 0x78 bytes, 512 KiB
    bitmap_segment: U32,       // 0x7c bytes, 4096
    index_segments: U32,       // 0x80
    bitmap_segments: U32,      // 0x84
    present_blocks: U32,       // 0x88
    index_has_zero_blocks: u8, // 0x8c 0: one entry for each block that is there; 1: one for each block
    method: u8,                // 0x8d 0 zlib, 1 zstd
    reserved: [u8; 370],       // 0x8e
}
const _: () = assert!(size_of::<Header>() == 512);

/// What stands before a payload.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct RecordHeader {
    magic: [u8; 12],    // 0x00 "hwstream bg"
    payload: U32,       // 0x0c bytes
    block: U32,         // 0x10
    packed: u8,         // 0x14 ZVHD2: 1 if it is
    unused: [u8; 3],    // 0x15
    plain: U32,         // 0x18 ZVHD2: bytes
    unused2: U16,       // 0x1c
    reserved: [u8; 18], // 0x1e
}
const _: () = assert!(size_of::<RecordHeader>() == 48);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Zvhd,
    Zvhd2,
}

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    let cookie = probe.has(0, COOKIE) || probe.has(0, COOKIE2);
    (cookie && probe.has(8, &[2, 0, 0, 0])).then_some(Confidence::Signature)
}

impl Header {
    /// # Errors
    /// `Corrupt` for a wrong sum or size; `Unsupported` for what the layout does not know, with its value.
    fn parse(self, at: &At) -> Result<(Self, Kind)> {
        let kind = match &self.cookie {
            COOKIE => Kind::Zvhd,
            COOKIE2 => Kind::Zvhd2,
            _ => return Err(Error::corrupt(at.clone()).because("does not begin with 'stream' or 'z2strm'")),
        };
        let unknown = |what: &str, value: u64| {
            Err(Error::unsupported(format!("ZVHD with {what} {value:#x}")).at(at.clone()))
        };
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).fold(0, u32::wrapping_add);
        let expected = !sum(self.as_bytes()).wrapping_sub(sum(self.checksum.as_bytes()));
        if self.checksum.get() != expected {
            let stated = self.checksum.get();
            let why = format!("its checksum is {stated:#010x}, of its bytes {expected:#010x}");
            return Err(Error::corrupt(at.clone()).because(why));
        }
        if self.features.get() != 2 {
            return unknown("features", self.features.get().into());
        }
        if self.version.get() != 0x0001_0000 {
            return unknown("version", self.version.get().into());
        }
        if !matches!(self.creator_version.get(), 0x0001_0003 | 0x0001_0004) {
            return unknown("creator version", self.creator_version.get().into());
        }
        if self.data_offset.get() != u64::MAX {
            return unknown("data offset", self.data_offset.get());
        }
        let size = self.current_size.get();
        if !size.is_multiple_of(BLOCK) || size == 0 {
            return Err(Error::corrupt(at.clone()).because(format!("a size of {size} bytes")));
        }
        if size > MAX_SIZE {
            return Err(Error::limit(format!("a ZVHD of {size} bytes; at most {MAX_SIZE} are read")));
        }
        if kind == Kind::Zvhd2 {
            if self.zvhd2_version != 1 {
                return unknown("zvhd2 version", self.zvhd2_version.into());
            }
            if u64::from(self.block_size.get()) != BLOCK {
                return unknown("block size", self.block_size.get().into());
            }
            if self.index_has_zero_blocks > 1 {
                return unknown("index_contains_zero_blk", self.index_has_zero_blocks.into());
            }
            if self.method > 1 {
                return unknown("compress method", self.method.into());
            }
        }
        Ok((self, kind))
    }

    fn load(source: &dyn BlockSource, offset: u64, name: &'static str) -> Result<(Self, Kind)> {
        let raw: Self = read_struct(source, offset, At::new("zvhd", name))?;
        raw.parse(&At::new("zvhd", name).byte(offset))
    }

    const fn blocks(&self) -> u64 {
        self.current_size.get() / BLOCK
    }
}

/// A record taken apart.
#[derive(Debug)]
struct Record<'a> {
    header: RecordHeader,
    payload: &'a [u8],
    /// All of it, to the next.
    len: u64,
}

/// How long a record with such a payload is.
const fn record_len(payload: u64) -> u64 {
    RECORD_HEADER.saturating_add(payload).saturating_add(wide(RECORD_END.len())).next_multiple_of(UNIT)
}

impl<'a> Record<'a> {
    /// # Errors
    /// `Corrupt` when magic, length or end are not as they must be.
    fn parse(bytes: &'a [u8], at: &At) -> Result<Self> {
        let corrupt = |why: &str| Error::corrupt(at.clone()).because(why);
        let Ok((header, rest)) = RecordHeader::read_from_prefix(bytes) else {
            return Err(corrupt("the file ends within its header"));
        };
        let len = header.check(at)?;
        let end = bytes.get(..narrow(len)).ok_or_else(|| corrupt("goes on behind its end"))?;
        if !end.ends_with(RECORD_END) {
            return Err(corrupt("does not end with 'end'"));
        }
        let payload = rest.get(..narrow(header.payload.get().into())).unwrap_or_default();
        Ok(Self { header, payload, len })
    }
}

impl RecordHeader {
    /// The length of its record.
    fn check(&self, at: &At) -> Result<u64> {
        if self.magic != *RECORD {
            return Err(Error::corrupt(at.clone()).because("does not begin with 'hwstream bg'"));
        }
        let payload = u64::from(self.payload.get());
        if payload == 0 || payload > MAX_PAYLOAD {
            return Err(Error::corrupt(at.clone()).because(format!("a payload of {payload} bytes")));
        }
        Ok(record_len(payload))
    }
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let (header, kind) = Header::load(&*source, 0, "header")?;
    let (disk, present, method) = match kind {
        Kind::Zvhd => {
            if !may_pass(&*source, cx) {
                let why = "where its blocks lie is known only after going through all of it";
                return Err(too_dear("ZVHD", "download", &*source, None, why, cx));
            }
            let layout = Streamed::load(source, &header)?;
            let present = wide(layout.blocks.len());
            (cx.mapper.map(layout), present, "zlib")
        }
        Kind::Zvhd2 => {
            let (layout, method) = Indexed::load(source, cx)?;
            let present = layout.present();
            (cx.mapper.map(layout), present, method)
        }
    };
    let mut opened = Opened::single(disk, FORMAT.name, cx);
    opened.subformat = Some(if kind == Kind::Zvhd { "ZVHD" } else { "ZVHD2" }.to_owned());
    opened.facts = vec![
        ("validation", "not yet validated on the vendor's own writer".to_owned()),
        ("creator", escape(header.creator.split(|byte| *byte == 0).next().unwrap_or_default()).to_string()),
        ("creator version", format!("{:#010x}", header.creator_version)),
        ("original size", header.original_size.to_string()),
        ("compression type", method.to_owned()),
        ("allocated blocks", format!("{present} of {}", header.blocks())),
        ("uuid", guid(&header.id)),
    ];
    Ok(opened)
}

/// A ZVHD: one stream over all records.
#[derive(Debug)]
struct Streamed {
    size: u64,
    /// The numbers of the blocks that are there, in order.
    blocks: Vec<u32>,
    points: Checkpoints,
    files: [Arc<dyn BlockSource>; 1],
}

/// Inflates one payload, which must make one block. Has the stream ended with it?
fn inflate(inflater: &mut Inflater, payload: &[u8], at: &At, mut made: impl FnMut(&[u8])) -> Result<bool> {
    let (mut rest, mut plain) = (payload, 0_u64);
    let ended = loop {
        let (taken, stop) = inflater.inflate(rest, at)?;
        rest = rest.get(taken..).unwrap_or_default();
        made(inflater.made());
        plain = plain.saturating_add(wide(inflater.made().len()));
        let idle = inflater.made().is_empty();
        if plain > BLOCK || stop == Stop::End || (rest.is_empty() && idle) {
            break stop == Stop::End;
        }
        if taken == 0 && idle {
            return Err(Error::corrupt(at.clone()).because("its stream does not go on"));
        }
    };
    if plain == BLOCK {
        return Ok(ended);
    }
    Err(Error::corrupt(at.clone()).because(format!("unpacks to {plain} bytes, not to a block of {BLOCK}")))
}

impl Streamed {
    fn load(source: Arc<dyn BlockSource>, header: &Header) -> Result<Self> {
        let budget = pass_budget(&*source);
        let mut finder = Finder::new(UNIT);
        let mut inflater = Inflater::zlib();
        let mut blocks: Vec<u32> = Vec::new();
        let mut at = UNIT;
        let mut bytes = Vec::new();
        loop {
            on_time(&budget, "ZVHD")?;
            let place = At::new("zvhd", "record").index(wide(blocks.len())).byte(at);
            let mut cookie = [0; 8];
            if at.saturating_add(wide(cookie.len())) > source.len() {
                return Err(
                    Error::corrupt(place).because("the file ends before its closing header: it was cut off")
                );
            }
            source.read_at(&mut cookie, at)?;
            if cookie == *COOKIE {
                break;
            }
            let record: RecordHeader = read_struct(&*source, at, At::new("zvhd", "record"))?;
            let len = record.check(&place)?;
            if at.saturating_add(len) > source.len() {
                return Err(Error::corrupt(place).because("the file ends within it: it was cut off"));
            }
            bytes.resize(narrow(len), 0);
            source.read_at(&mut bytes, at)?;
            let record = Record::parse(&bytes, &place)?;
            let block = record.header.block.get();
            if u64::from(block) >= header.blocks() || blocks.last().is_some_and(|last| *last >= block) {
                return Err(Error::corrupt(place).because(format!("block {block} is out of its order")));
            }
            if !blocks.is_empty() && finder.is_due() {
                finder.cut(at.saturating_mul(8), Some(&inflater.window()))?;
            }
            let ended = inflate(&mut inflater, record.payload, &place, |plain| finder.saw(plain))?;
            // A checkpoint is to begin with the next record, on a byte.
            if !ended && !inflater.is_between_blocks() {
                return Err(Error::corrupt(place).because("its payload does not end with a flush"));
            }
            blocks.push(block);
            at = at.saturating_add(len);
        }
        // No record makes more than a block, so no two checkpoints lie too far apart.
        let points =
            finder.finish(at).ok_or_else(|| Error::new(ErrorKind::Internal, "checkpoints too far apart"))?;
        Ok(Self { size: header.current_size.get(), blocks, points, files: [source] })
    }

    fn records(&self, point: &Checkpoint, mut stored: &[u8]) -> Result<Vec<u8>> {
        let mut inflater = match point.window()? {
            None => Inflater::zlib(),
            Some(window) => Inflater::resume(&window, 0, 0),
        };
        let (mut plain, mut at) = (Vec::new(), point.bit / 8);
        while !stored.is_empty() {
            let place = At::new("zvhd", "record").byte(at);
            let record = Record::parse(stored, &place)?;
            inflate(&mut inflater, record.payload, &place, |made| plain.extend_from_slice(made))?;
            stored = stored.get(narrow(record.len)..).unwrap_or_default();
            at = at.saturating_add(record.len);
        }
        Ok(plain)
    }
}

impl Layout for Streamed {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let (block, inside) = (offset / BLOCK, offset % BLOCK);
        let rank = self.blocks.partition_point(|number| u64::from(*number) < block);
        let next = self.blocks.get(rank).map_or(self.size, |number| u64::from(*number).saturating_mul(BLOCK));
        if next > offset {
            return Ok(Run { len: next.saturating_sub(offset), place: Place::Hole });
        }
        let plain = wide(rank).saturating_mul(BLOCK).saturating_add(inside);
        let number = self.points.points.partition_point(|point| point.plain <= plain).saturating_sub(1);
        let len = BLOCK.saturating_sub(inside);
        let Some(point) = self.points.points.get(number) else {
            return Err(Error::out_of_range(offset, 1, self.size));
        };
        if point.zero {
            return Ok(Run { len, place: Place::Zero });
        }
        let (stored, _) = self.points.span(number);
        let place = Place::Packed {
            file: 0,
            offset: stored.start,
            stored: stored.end.saturating_sub(stored.start),
            unit: wide(number),
            skip: plain.saturating_sub(point.plain),
        };
        Ok(Run { len, place })
    }

    fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
        match self.points.points.get(narrow(unit)) {
            Some(point) => self.records(point, stored),
            None => Err(Error::corrupt(At::new("zvhd", "checkpoint").index(unit))),
        }
    }

    fn unpacked_len(&self, unit: u64) -> u64 {
        self.points.span(narrow(unit)).1
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(BLOCK).unwrap_or(u32::MAX)
    }
}

/// A ZVHD2: an index of records.
#[derive(Debug)]
struct Indexed {
    size: u64,
    bitmap: Vec<u8>,
    /// Blocks that are there before each segment of the bitmap.
    before: Vec<u64>,
    index: u64,
    entries: u64,
    /// The index has an entry for each block, not only for those that are there.
    every_block: bool,
    zstd: bool,
    pages: Pages,
    files: [Arc<dyn BlockSource>; 1],
}

impl Indexed {
    fn load(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<(Self, &'static str)> {
        let footer_at = source.len().saturating_sub(UNIT);
        let (footer, kind) = Header::load(&*source, footer_at, "footer")?;
        let at = At::new("zvhd", "footer").byte(footer_at);
        let corrupt = |why: String| Err(Error::corrupt(at.clone()).because(why));
        if kind != Kind::Zvhd2 || footer_at == 0 {
            return corrupt("is not that of a ZVHD2".to_owned());
        }
        let unknown = |what: &str, value: u32| {
            Err(Error::unsupported(format!("ZVHD2 with {what} of {value} bytes")).at(at.clone()))
        };
        if footer.index_segment.get() != 512 << 10 {
            return unknown("index segments", footer.index_segment.get());
        }
        if u64::from(footer.bitmap_segment.get()) != SEGMENT {
            return unknown("bitmap segments", footer.bitmap_segment.get());
        }
        let (blocks, size) = (footer.blocks(), u64::from(footer.bitmap_size.get()));
        if size.saturating_mul(8) < blocks {
            return corrupt(format!("a bitmap of {size} bytes for {blocks} blocks"));
        }
        let bitmap_at = footer.bitmap_offset.get();
        let place = At::new("zvhd", "bitmap").byte(bitmap_at);
        let needed = blocks.div_ceil(8);
        let mut bitmap = read_table(&*source, bitmap_at, needed, MAX_BITMAP, place, cx.budget)?;
        // Bits behind the last block stand for nothing.
        if let (Some(last), used @ 1..) = (bitmap.last_mut(), blocks % 8) {
            *last &= !(0xff_u8.checked_shl(u32::try_from(used).unwrap_or(0)).unwrap_or(0));
        }
        let ones = |segment: &[u8]| segment.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
        let before: Vec<u64> = bitmap
            .chunks(narrow(SEGMENT))
            .scan(0_u64, |sum, segment| {
                let before = *sum;
                *sum = sum.saturating_add(ones(segment));
                Some(before)
            })
            .collect();
        let present = ones(&bitmap);
        let every_block = footer.index_has_zero_blocks == 1;
        if !every_block && present != u64::from(footer.present_blocks.get()) {
            let stated = footer.present_blocks.get();
            return corrupt(format!("{stated} blocks are stated to be there, the bitmap has {present}"));
        }
        let entries = if every_block { blocks } else { present };
        let (index, index_size) = (footer.index_offset.get(), u64::from(footer.index_size.get()));
        let inside = index.checked_add(index_size).is_some_and(|end| end <= source.len());
        if !inside || index_size < entries.saturating_mul(ENTRY) || !index.is_multiple_of(ENTRY) {
            let why = format!("an index of {index_size} bytes at {index:#x} for {entries} entries");
            return corrupt(why);
        }
        let (zstd, method) = if footer.method == 1 { (true, "zstd") } else { (false, "zlib") };
        let layout = Self {
            size: footer.current_size.get(),
            bitmap,
            before,
            index,
            entries,
            every_block,
            zstd,
            pages: Pages::new(Arc::clone(&source)),
            files: [source],
        };
        Ok((layout, method))
    }

    fn bit(&self, block: u64) -> bool {
        let byte = self.bitmap.get(narrow(block / 8)).copied().unwrap_or(0);
        byte.checked_shr(u32::try_from(block % 8).unwrap_or(0)).unwrap_or(0) & 1 == 1
    }

    /// Blocks that are there.
    fn present(&self) -> u64 {
        self.rank(wide(self.bitmap.len()).saturating_mul(8))
    }

    /// How many blocks are there before this one.
    fn rank(&self, block: u64) -> u64 {
        // The last segment also counts for whoever asks for the end.
        let segment = (block / SEGMENT_BLOCKS).min(wide(self.before.len().saturating_sub(1)));
        let start = segment.saturating_mul(SEGMENT);
        let whole = self.bitmap.get(narrow(start)..narrow(block / 8)).unwrap_or_default();
        let mask = !(0xff_u8.checked_shl(u32::try_from(block % 8).unwrap_or(0)).unwrap_or(0));
        let part = self.bitmap.get(narrow(block / 8)).map_or(0, |byte| (byte & mask).count_ones());
        let ones: u64 = whole.iter().map(|byte| u64::from(byte.count_ones())).sum();
        self.before
            .get(narrow(segment))
            .copied()
            .unwrap_or(0)
            .saturating_add(ones)
            .saturating_add(part.into())
    }
}

impl Layout for Indexed {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let (block, inside) = (offset / BLOCK, offset % BLOCK);
        let mut len = BLOCK.saturating_sub(inside);
        if !self.bit(block) {
            // To the next block that is there, but no further than a segment of the bitmap goes.
            let end = block.saturating_add(SEGMENT_BLOCKS).min(self.size / BLOCK);
            let mut next = block.saturating_add(1);
            while next < end && !self.bit(next) {
                let empty = next.is_multiple_of(8) && self.bitmap.get(narrow(next / 8)) == Some(&0);
                next = next.saturating_add(if empty { 8 } else { 1 });
            }
            len = next.min(end).saturating_mul(BLOCK).saturating_sub(offset);
            return Ok(Run { len, place: Place::Hole });
        }
        let number = if self.every_block { block } else { self.rank(block) };
        let entry_at = self.index.saturating_add(number.saturating_mul(ENTRY));
        let at = At::new("zvhd", "index entry").index(number).byte(entry_at);
        if number >= self.entries {
            return Err(Error::corrupt(at).because("lies behind the index"));
        }
        let [record @ .., n0, n1, n2, n3, l0, l1, l2, l3] = self.pages.get::<16>(entry_at, &at)?;
        let record = u64::from_le_bytes(record);
        let stored = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
        if self.every_block && record == 0 {
            return Ok(Run { len, place: Place::Zero });
        }
        let named = u32::from_le_bytes([n0, n1, n2, n3]);
        if u64::from(named) != block {
            return Err(Error::corrupt(at).because(format!("is of block {named}, not of {block}")));
        }
        let end = self.files[0].len();
        let fits = record.checked_add(stored).is_some_and(|to| to <= end);
        if !fits || !(RECORD_HEADER..=record_len(MAX_PAYLOAD)).contains(&stored) {
            let why = format!("a record of {stored} bytes at {record:#x}; the file ends at {end:#x}");
            return Err(Error::corrupt(at).because(why));
        }
        let place = Place::Packed { file: 0, offset: record, stored, unit: block, skip: inside };
        Ok(Run { len, place })
    }

    fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
        let at = At::new("zvhd", "record of block").index(unit);
        let record = Record::parse(stored, &at)?;
        if u64::from(record.header.block.get()) != unit {
            let other = record.header.block.get();
            return Err(Error::corrupt(at).because(format!("is of block {other}")));
        }
        if u64::from(record.header.plain.get()) != BLOCK {
            let plain = record.header.plain.get();
            return Err(Error::corrupt(at).because(format!("unpacks to {plain} bytes by its header")));
        }
        match (record.header.packed, self.zstd) {
            (0, _) if wide(record.payload.len()) == BLOCK => Ok(record.payload.to_vec()),
            (1, true) => super::unpack::zstd(record.payload, BLOCK, &at),
            (1, false) => {
                // Such a stream need not have an end.
                let mut plain = Vec::with_capacity(narrow(BLOCK));
                inflate(&mut Inflater::zlib(), record.payload, &at, |made| plain.extend_from_slice(made))?;
                Ok(plain)
            }
            (0, _) => Err(Error::corrupt(at).because("is stored plain, but not a block long")),
            (flag, _) => {
                Err(Error::unsupported(format!("a ZVHD2 record with compressed flag {flag}")).at(at))
            }
        }
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(BLOCK).unwrap_or(u32::MAX)
    }
}
