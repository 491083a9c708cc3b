//! The tables of a dmg: a property list holds one ("mish") for each partition, and a table says for each block of it how
//! and where it is stored.

use super::super::xml::bounded;
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::num::wide;
use crate::ondisk::parse_struct;
use crate::text::escape;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roxmltree::{Document, Node, ParsingOptions};
use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// What sectors count by, whatever the disk's own sectors are.
pub(super) const SECTOR: u64 = 512;
/// Elements and texts of the list; a partition has about thirty.
const MAX_NODES: u32 = 100_000;
/// A packed block unpacks to no more: qemu's bound. `hdiutil` writes 256 KiB to 1 MiB.
const MAX_PACKED: u64 = 64 << 20;

/// How a block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Zero,
    Raw,
    /// Nothing was stored because nothing is in use: reads as zero.
    Ignore,
    Adc,
    Zlib,
    Bzip2,
    Lzfse,
    Lzma,
}

impl Kind {
    /// By its number; `None` for what is no block: a comment, the end of a table.
    fn of(number: u32) -> Result<Option<Self>> {
        Ok(Some(match number {
            0 => Self::Zero,
            1 => Self::Raw,
            2 => Self::Ignore,
            0x8000_0004 => Self::Adc,
            0x8000_0005 => Self::Zlib,
            0x8000_0006 => Self::Bzip2,
            0x8000_0007 => Self::Lzfse,
            0x8000_0008 => Self::Lzma,
            0x7fff_fffe | 0xffff_ffff => return Ok(None),
            other => return Err(Error::unsupported(format!("a UDIF block of type {other:#010x}"))),
        }))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Zero | Self::Ignore => "none",
            Self::Raw => "raw",
            Self::Adc => "ADC",
            Self::Zlib => "zlib",
            Self::Bzip2 => "bzip2",
            Self::Lzfse => "LZFSE",
            Self::Lzma => "LZMA",
        }
    }

    pub(super) const fn is_packed(self) -> bool {
        !matches!(self, Self::Zero | Self::Raw | Self::Ignore)
    }
}

/// A stretch of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Sectors from the disk's start.
    pub(super) start: u64,
    pub(super) sectors: u64,
    /// Bytes from the file's start.
    pub(super) offset: u64,
    pub(super) stored: u64,
    pub(super) kind: Kind,
}

/// The head of a table.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct TableHead {
    signature: [u8; 4],  // 0x00 "mish"
    version: U32,        // 0x04 1
    first: U64,          // 0x08 sector of the disk that the table starts with
    sectors: U64,        // 0x10
    data_offset: U64,    // 0x18 added to the offsets of its blocks
    buffers: U32,        // 0x20
    descriptors: U32,    // 0x24
    reserved: [u8; 24],  // 0x28
    checksum: [u8; 136], // 0x40
    count: U32,          // 0xc8 entries
}
const TABLE_HEAD: usize = 204;
const _: () = assert!(size_of::<TableHead>() == TABLE_HEAD);

/// An entry of a table.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Entry {
    kind: U32,    // 0x00
    comment: U32, // 0x04
    start: U64,   // 0x08 sectors from the table's first
    sectors: U64, // 0x10
    offset: U64,  // 0x18 bytes
    stored: U64,  // 0x20 bytes
}
const ENTRY: usize = 40;
const _: () = assert!(size_of::<Entry>() == ENTRY);

fn corrupt(why: impl Into<String>) -> Error {
    Error::corrupt(At::new("dmg", "property list")).because(why)
}

/// All blocks in the order of the disk, and how many tables there are. `base` is what offsets count from.
pub(super) fn parse(xml: &[u8], base: u64, budget: &Budget) -> Result<(Vec<Block>, usize)> {
    let text = std::str::from_utf8(xml).map_err(|_| corrupt("is not UTF-8"))?;
    let text = text.trim_end_matches('\0');
    bounded(text).map_err(|error| error.at(At::new("dmg", "property list")))?;
    let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(without_doctype(text)?, options)
        .map_err(|error| corrupt(format!("is no sound XML ({})", escape(error.to_string().as_bytes()))))?;
    let list = document.root_element().children().find(|child| child.has_tag_name("dict"));
    let tables = list.and_then(|list| value(list, "resource-fork")).and_then(|fork| value(fork, "blkx"));
    let tables = tables.ok_or_else(|| corrupt("has no 'blkx' in its 'resource-fork'"))?;
    let (mut blocks, mut count) = (Vec::new(), 0_usize);
    for table in tables.children().filter(|child| child.has_tag_name("dict")) {
        let data = value(table, "Data").and_then(|data| data.text()).unwrap_or_default();
        let packed: Vec<u8> = data.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let bytes = STANDARD.decode(packed).map_err(|_| corrupt("a table that is not base64"))?;
        read_table(&bytes, base, count, &mut blocks, budget)?;
        count = count.saturating_add(1);
    }
    blocks.sort_by_key(|block| block.start);
    let mut end = 0;
    for block in &blocks {
        if block.start < end {
            return Err(
                Error::corrupt(At::new("dmg", "sector").index(block.start)).because("is in two blocks")
            );
        }
        end = block.start.saturating_add(block.sectors);
    }
    Ok((blocks, count))
}

/// What follows the document type. Apple's names a file on a server; one that declares something of its own is refused.
fn without_doctype(text: &str) -> Result<&str> {
    let Some(start) = text.find("<!DOCTYPE") else { return Ok(text) };
    let rest = text.get(start..).unwrap_or_default();
    let end = rest.find(['>', '[']).unwrap_or(rest.len());
    match rest.get(end..).and_then(|rest| rest.strip_prefix('>')) {
        Some(after) => Ok(after.trim_start()),
        None => Err(corrupt("declares a document type of its own")),
    }
}

/// The value of a key in a `dict`: the element behind it.
fn value<'a, 'i>(dict: Node<'a, 'i>, key: &str) -> Option<Node<'a, 'i>> {
    let mut elements = dict.children().filter(Node::is_element);
    elements.find(|node| node.has_tag_name("key") && node.text() == Some(key))?;
    elements.next()
}

fn read_table(
    bytes: &[u8],
    base: u64,
    number: usize,
    blocks: &mut Vec<Block>,
    budget: &Budget,
) -> Result<()> {
    let at = At::new("dmg", "block table").index(wide(number));
    let wrong = |why: String| Error::corrupt(at.clone()).because(why);
    let head: TableHead = parse_struct(bytes, at.clone())?;
    if head.signature != *b"mish" {
        return Err(wrong("the signature 'mish' is missing".to_owned()));
    }
    let entries = bytes.get(TABLE_HEAD..).unwrap_or_default().chunks_exact(ENTRY);
    let count = usize::try_from(head.count.get()).unwrap_or(usize::MAX);
    if entries.len() < count {
        return Err(wrong(format!("{count} entries are stated, {} are there", entries.len())));
    }
    for (index, entry) in entries.take(count).enumerate() {
        budget.step("dmg blocks")?;
        let entry: Entry = parse_struct(entry, at.clone())?;
        let Some(kind) = Kind::of(entry.kind.get()).map_err(|error| error.at(at.clone()))? else { continue };
        let sectors = entry.sectors.get();
        if sectors == 0 {
            continue;
        }
        let start = head.first.get().checked_add(entry.start.get());
        let offset =
            base.checked_add(head.data_offset.get()).and_then(|at| at.checked_add(entry.offset.get()));
        let ends = start.and_then(|start| start.checked_add(sectors)).filter(|end| *end <= u64::MAX / SECTOR);
        let (Some(start), Some(offset), Some(_)) = (start, offset, ends) else {
            return Err(wrong(format!("entry {index} lies past 2^64 bytes")));
        };
        if kind.is_packed() && sectors > MAX_PACKED / SECTOR {
            let most = MAX_PACKED / SECTOR;
            return Err(Error::limit(format!(
                "{at}: entry {index}: {sectors} sectors, at most {most} are accepted"
            )));
        }
        blocks.push(Block { start, sectors, offset, stored: entry.stored.get(), kind });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Limits;

    fn table(first: u64, entries: &[[u64; 5]]) -> Vec<u8> {
        let mut bytes = b"mish\0\0\0\x01".to_vec();
        bytes.extend(first.to_be_bytes());
        bytes.resize(200, 0);
        bytes.extend(u32::try_from(entries.len()).unwrap().to_be_bytes());
        for [kind, start, sectors, offset, stored] in entries {
            bytes.extend(u32::try_from(*kind).unwrap().to_be_bytes());
            bytes.extend([0; 4]);
            for number in [start, sectors, offset, stored] {
                bytes.extend(number.to_be_bytes());
            }
        }
        bytes
    }

    fn list(doctype: &str, tables: &[Vec<u8>]) -> Result<Vec<Block>> {
        let tables: String = tables
            .iter()
            .map(|table| {
                format!(
                    "<dict><key>ID</key><string>0</string><key>Data</key><data>\n{}\n</data></dict>",
                    STANDARD.encode(table)
                )
            })
            .collect();
        let xml = format!(
            "<?xml version=\"1.0\"?>\n{doctype}<plist><dict><key>resource-fork</key><dict><key>blkx</key><array>{tables}</array></dict></dict></plist>"
        );
        parse(xml.as_bytes(), 1000, &Budget::new(Limits::OPEN)).map(|(blocks, _)| blocks)
    }

    #[test]
    fn blocks_are_put_in_the_order_of_the_disk() {
        let doctype = "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://x/y.dtd\">\n";
        let one = table(8, &[[0x8000_0005, 0, 4, 100, 50], [0xffff_ffff, 4, 0, 0, 0]]);
        let blocks = list(doctype, &[one, table(0, &[[2, 0, 8, 0, 0]])]).unwrap();
        let packed = Block { start: 8, sectors: 4, offset: 1100, stored: 50, kind: Kind::Zlib };
        assert_eq!(
            blocks,
            [Block { start: 0, sectors: 8, offset: 1000, stored: 0, kind: Kind::Ignore }, packed]
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert!(list("", &[table(0, &[[1, 0, 8, 0, 0], [1, 7, 8, 0, 0]])]).is_err());
        assert!(list("", &[table(u64::MAX, &[[1, 1, 8, 0, 0]])]).is_err());
        assert!(list("", &[table(0, &[[0x8000_0005, 0, 1 << 40, 0, 0]])]).is_err());
        assert!(list("", &[table(0, &[[0x8000_0003, 0, 8, 0, 0]])]).is_err());
        assert!(list("", &[b"mish".to_vec()]).is_err());
        let mut short = table(0, &[[1, 0, 8, 0, 0]]);
        short.pop();
        assert!(list("", &[short]).is_err());
    }

    #[test]
    fn entities_are_not_expanded() {
        assert!(list("<!DOCTYPE plist [<!ENTITY a \"aaaaaaaa\">]>", &[]).is_err());
    }
}
