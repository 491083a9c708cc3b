//! File entries: what a file is, and where its content lies.
//!
//! ECMA-167, "4/14.6 ICB Tag", "4/14.9 File Entry", "4/14.17 Extended File Entry", "4/12 Allocation descriptors".

use super::tag::{self, Address, Allocation, Length, ident};
use super::{Udf, refused};
use crate::block::{Place, Run};
use crate::error::{At, Error, Result};
use crate::fs::{FileType, Time, runs};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};
use std::sync::Arc;

/// The most extents of one file.
const MAX_EXTENTS: usize = 1 << 18;
/// Descriptors that lead to the next, for one file entry.
const MAX_INDIRECT: u32 = 16;

/// A file entry.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    /// Byte of the volume where it lies.
    byte: u64,
    pub(super) file_type: u8,
    flags: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    permissions: u32,
    pub(super) links: u16,
    /// Bytes of content.
    pub(super) size: u64,
    /// Blocks that are recorded.
    pub(super) recorded: u64,
    pub(super) accessed: Time,
    pub(super) modified: Time,
    pub(super) changed: Time,
    pub(super) created: Option<Time>,
    /// Extended attributes, and what follows them: allocation descriptors, or the content itself.
    attributes: Vec<u8>,
    descriptors: Vec<u8>,
    /// Where the latter start in the entry.
    descriptors_at: u64,
}

impl Node {
    /// Reads an entry whose tag has been checked.
    ///
    /// # Errors
    /// `Corrupt` when its parts do not fit in its block.
    fn parse(bytes: &[u8], is_extended: bool, address: Address, byte: u64) -> Result<Self> {
        let le32 = |at: usize| get_le32(bytes, at).unwrap_or(0);
        let le64 = |at: usize| get_le64(bytes, at).unwrap_or(0);
        let stamp = |at: usize| tag::time(bytes.get(at..).unwrap_or_default());
        // The extended one has the object's size and the time of creation in between.
        let (recorded, times, lengths, end) =
            if is_extended { (72, 80, 208, 216) } else { (64, 72, 168, 176) };
        let (attributes, descriptors) = (le32(lengths), le32(lengths.saturating_add(4)));
        let split = usize::try_from(attributes).ok().and_then(|len| len.checked_add(end));
        let last = split.and_then(|split| split.checked_add(usize::try_from(descriptors).ok()?));
        let parts = split
            .zip(last)
            .and_then(|(split, last)| Some((split, bytes.get(end..split)?, bytes.get(split..last)?)));
        let Some((split, attributes, descriptors)) = parts else {
            return Err(Error::corrupt(at(address, byte)).because(format!(
                "{attributes} bytes of attributes and {descriptors} of descriptors, in a block of {}",
                bytes.len()
            )));
        };
        let after = |n: usize| stamp(usize::saturating_add(times, n.saturating_mul(12)));
        Ok(Self {
            address,
            byte,
            file_type: bytes.get(27).copied().unwrap_or(0),
            flags: get_le16(bytes, 34).unwrap_or(0),
            uid: le32(36),
            gid: le32(40),
            permissions: le32(44),
            links: get_le16(bytes, 48).unwrap_or(0),
            size: le64(56),
            recorded: le64(recorded),
            accessed: after(0),
            modified: after(1),
            changed: after(if is_extended { 3 } else { 2 }),
            created: is_extended.then(|| after(2)),
            attributes: attributes.to_vec(),
            descriptors: descriptors.to_vec(),
            descriptors_at: wide(split),
        })
    }

    pub(super) fn at(&self) -> At {
        at(self.address, self.byte)
    }

    /// What it is; the numbers that UDF uses for its own files are none.
    pub(super) fn kind(&self) -> Result<FileType> {
        Ok(match self.file_type {
            0 | 5 | 248 | 249 => FileType::File,
            4 => FileType::Dir,
            6 => FileType::Block,
            7 => FileType::Char,
            9 => FileType::Fifo,
            10 => FileType::Socket,
            12 => FileType::Symlink,
            other => return Err(Error::corrupt(self.at()).because(format!("a file of type {other}"))),
        })
    }

    /// Permissions stand in groups of five bits; three more are among the flags.
    pub(super) fn mode(&self) -> u16 {
        let of = |shift: u32| u16::try_from(self.permissions >> shift & 7).unwrap_or(0);
        let special = u16::from(self.flags & 0x40 != 0) << 2
            | u16::from(self.flags & 0x80 != 0) << 1
            | u16::from(self.flags & 0x100 != 0);
        special << 9 | of(10) << 6 | of(5) << 3 | of(0)
    }

    /// A device's number, from the attribute of type 12.
    pub(super) fn device(&self) -> Option<(u32, u32)> {
        // Behind a head of 24 bytes.
        let mut rest = self.attributes.get(24..)?;
        loop {
            let (kind, len) = (get_le32(rest, 0)?, get_le32(rest, 8)?);
            if kind == 12 && rest.get(4) == Some(&1) {
                return Some((get_le32(rest, 16)?, get_le32(rest, 20)?));
            }
            rest = rest.get(usize::try_from(len).ok().filter(|len| *len >= 12)?..)?;
        }
    }

    /// The content lies in the entry.
    pub(super) const fn is_embedded(&self) -> bool {
        self.flags & 7 == 3
    }
}

fn at(address: Address, byte: u64) -> At {
    At::new("udf", "file entry").index(address.block.into()).byte(byte)
}

/// Consecutive bytes of a file.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Where they start in the file.
    from: u64,
    len: u64,
    /// Where they are recorded; `Err` of whether blocks are allocated for the zeros that they are.
    place: std::result::Result<Address, bool>,
}

/// A file's extents, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Extents(Arc<Vec<Extent>>);

impl Extents {
    fn find(&self, offset: u64) -> Option<&Extent> {
        let at = self.0.partition_point(|extent| extent.from.saturating_add(extent.len) <= offset);
        self.0.get(at)
    }

    /// The same, in another partition.
    pub(super) fn on(&self, partition: u16) -> Self {
        let moved = |extent: &Extent| Extent {
            place: extent.place.map(|address| Address { partition, ..address }),
            ..*extent
        };
        Self(Arc::new(self.0.iter().map(moved).collect()))
    }

    /// The block of byte `offset`, and how many bytes follow it in its extent.
    pub(super) fn recorded(&self, offset: u64, block: u64) -> Option<(Address, u64)> {
        let extent = self.find(offset)?;
        let skip = offset.checked_sub(extent.from)?;
        let first = extent.place.ok()?;
        let blocks = u32::try_from(skip.checked_div(block)?).ok()?;
        let address = Address { block: first.block.checked_add(blocks)?, ..first };
        Some((address, extent.len.saturating_sub(skip)))
    }
}

impl Udf {
    /// The file entry at a place, or the one it leads to.
    ///
    /// # Errors
    /// `Corrupt` when there is none, or a sum is wrong.
    pub(super) fn node_at(&self, address: Address) -> Result<Node> {
        self.node_on(self.blocks(address)?.byte, address)
    }

    /// As [`Udf::node_at`], by one who knows the byte.
    pub(super) fn node_on(&self, mut byte: u64, mut address: Address) -> Result<Node> {
        for _ in 0..MAX_INDIRECT {
            let at = || at(address, byte);
            let bytes = self.meta.near(byte, self.block).map_err(|error| error.at(at()))?;
            let found = tag::check(&bytes, address.block, &at())?;
            match (found, get_le16(&bytes, 20)) {
                // Strategy 4096 keeps a chain of entries, the last of which counts: the next block leads on.
                (ident::FILE | ident::EXTENDED_FILE, Some(4096)) => {
                    let next = byte.saturating_add(self.block);
                    let led = self.meta.near(next, self.block).ok().and_then(|bytes| {
                        let place = address.block.checked_add(1)?;
                        let found = tag::check(&bytes, place, &at()).ok()?;
                        let leads = found == ident::INDIRECT && get_le32(&bytes, 36)? != 0;
                        leads.then(|| Address::parse(&bytes, 40)).flatten()
                    });
                    let Some(led) = led else {
                        return Node::parse(&bytes, found == ident::EXTENDED_FILE, address, byte);
                    };
                    byte = self.blocks(led)?.byte;
                    address = led;
                }
                (ident::FILE | ident::EXTENDED_FILE, Some(4)) => {
                    return Node::parse(&bytes, found == ident::EXTENDED_FILE, address, byte);
                }
                (ident::FILE | ident::EXTENDED_FILE, strategy) => {
                    return Err(refused(format!("ICB strategy {}", strategy.unwrap_or(0))));
                }
                (other, _) => {
                    return Err(
                        Error::corrupt(at()).because(format!("a descriptor of kind {other} is there"))
                    );
                }
            }
        }
        Err(Error::corrupt(at(address, byte))
            .because(format!("more than {MAX_INDIRECT} entries lead to others")))
    }

    /// A file's extents, from its entry and the blocks that go on from there.
    ///
    /// # Errors
    /// `Corrupt` when a descriptor is cut off or leads nowhere.
    pub(super) fn extents(&self, node: &Node) -> Result<Extents> {
        let bad = |why: String| Error::corrupt(node.at()).because(why);
        // Short ones are of the entry's own partition; extended ones have two lengths more.
        let (size, address_at) = match node.flags & 7 {
            0 => (8, None),
            1 => (16, Some(4)),
            2 => (20, Some(12)),
            3 => return Ok(Extents::default()),
            other => return Err(refused(format!("allocation descriptors of type {other}"))),
        };
        let mut all = Vec::new();
        let mut from = 0_u64;
        let mut descriptors = node.descriptors.clone();
        let mut blocks = 0_u64;
        loop {
            let mut next = None;
            for descriptor in descriptors.chunks_exact(size) {
                let length = Length::new(get_le32(descriptor, 0).unwrap_or(0));
                if length.bytes == 0 {
                    break;
                }
                let address = match address_at {
                    Some(at) => Address::parse(descriptor, at),
                    None => get_le32(descriptor, 4).map(|block| Address { block, ..node.address }),
                };
                let address = address.ok_or_else(|| bad("a descriptor that is cut off".to_owned()))?;
                let place = match length.kind {
                    Allocation::Recorded => Ok(address),
                    Allocation::Zeros { allocated } => Err(allocated),
                    Allocation::Continues => {
                        next = Some(address);
                        break;
                    }
                };
                if all.len() >= MAX_EXTENTS {
                    return Err(Error::limit(format!("a file of more than {MAX_EXTENTS} extents")));
                }
                all.push(Extent { from, len: length.bytes, place });
                from = from.saturating_add(length.bytes);
            }
            let Some(address) = next else { return Ok(Extents(Arc::new(all))) };
            blocks = blocks.saturating_add(1);
            // Each block of descriptors that is not empty counts against the extents; empty ones against this.
            if blocks > wide(MAX_EXTENTS / 16) {
                return Err(bad("its descriptors go on without end".to_owned()));
            }
            let byte = self.blocks(address)?.byte;
            let at = || At::new("udf", "allocation extent").index(address.block.into()).byte(byte);
            let block = self.meta.near(byte, self.block).map_err(|error| error.at(at()))?;
            if tag::check(&block, address.block, &at())? != ident::ALLOCATION_EXTENT {
                return Err(Error::corrupt(at()).because("another descriptor is there"));
            }
            let len = usize::try_from(get_le32(&block, 20).unwrap_or(0)).unwrap_or(usize::MAX);
            let end = len.saturating_add(24).min(block.len());
            descriptors = block.get(24..end).unwrap_or_default().to_vec();
        }
    }

    /// The run at `offset`, which lies in the file.
    pub(super) fn run(&self, node: &Node, extents: &Extents, offset: u64) -> Result<Run> {
        let left = node.size.saturating_sub(offset);
        if node.is_embedded() {
            let len = wide(node.descriptors.len()).saturating_sub(offset).min(left);
            if len == 0 {
                return Err(Error::corrupt(node.at()).because(format!(
                    "{} bytes are in its entry, of {}",
                    node.descriptors.len(),
                    node.size
                )));
            }
            let byte = node.byte.saturating_add(node.descriptors_at).saturating_add(offset);
            return Ok(Run { len, place: Place::Stored { file: 0, offset: byte } });
        }
        let Some(extent) = extents.find(offset) else {
            return Err(Error::corrupt(node.at())
                .because(format!("its extents end before byte {offset}, it has {}", node.size)));
        };
        let len = extent.len.saturating_sub(offset.saturating_sub(extent.from)).min(left);
        let (address, _) = match extent.place {
            Err(true) => return Ok(Run { len, place: Place::Zero }),
            Err(false) => return Ok(Run { len, place: Place::Hole }),
            Ok(_) => extents.recorded(offset, self.block).ok_or_else(|| {
                Error::corrupt(node.at()).because("an extent past the last number of a block")
            })?,
        };
        let found = self.blocks(address)?;
        // An extent starts at a block's first byte.
        let inside = offset.saturating_sub(extent.from).checked_rem(self.block).unwrap_or(0);
        let there = found.count.saturating_mul(self.block).saturating_sub(inside);
        let place = Place::Stored { file: 0, offset: found.byte.saturating_add(inside) };
        Ok(Run { len: len.min(there).max(1), place })
    }

    /// Fills `buf` with content from `offset` on, through the cache of metadata: directories, tables, targets.
    pub(super) fn read_content(
        &self,
        node: &Node,
        extents: &Extents,
        buf: &mut [u8],
        offset: u64,
    ) -> Result<()> {
        if wide(buf.len()) > node.size.saturating_sub(offset) {
            return Err(Error::corrupt(node.at()).because(format!(
                "{} bytes are wanted at {offset}, it has {}",
                buf.len(),
                node.size
            )));
        }
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let run = self.run(node, extents, at)?;
            let (now, after) = rest.split_at_mut(narrow(run.len).min(rest.len()));
            match run.place {
                Place::Stored { offset, .. } => {
                    let bytes = self.meta.near(offset, wide(now.len()))?;
                    now.copy_from_slice(&bytes);
                }
                _ => now.fill(0),
            }
            at = at.saturating_add(wide(now.len()));
            rest = after;
        }
        Ok(())
    }

    /// Fills `buf` with a file's bytes from `offset` on, straight from the volume.
    pub(super) fn read_file(
        &self,
        node: &Node,
        extents: &Extents,
        buf: &mut [u8],
        offset: u64,
    ) -> Result<()> {
        runs::read(&**self.meta.volume(), buf, offset, |offset, _| self.run(node, extents, offset))
    }
}
