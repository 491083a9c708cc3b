//! From the volume to the root directory: anchors, descriptors, the logical volume, the file set.
//!
//! ```text
//! anchor (block 256, ...) ─▶ descriptor sequence, or its reserve ─▶ logical volume ─▶ file set ─▶ root
//!                                                 └ partitions, names └ integrity: free space, open or closed
//! ```
//! ECMA-167, "3/10 Volume descriptors", "4/14.1 File Set Descriptor".

use super::partition::{Maps, Partition, Physical};
use super::tag::{self, Address, ident};
use super::{Udf, refused};
use crate::block::{BlockSource, ProbeBytes};
use crate::error::{At, Error, Result};
use crate::fs::State;
use crate::fs::meta::{Bytes, Meta};
use crate::ondisk::{get_le16, get_le32};
use std::sync::Arc;

/// Blocks of a sequence that are looked at, pointers included.
const MAX_SEQUENCE: u32 = 1024;
/// Integrity descriptors that follow each other.
const MAX_INTEGRITY: u32 = 256;

/// A stretch of blocks: bytes, and the first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    len: u32,
    block: u32,
}

impl Stretch {
    fn parse(bytes: &[u8], at: usize) -> Self {
        let le32 = |at: usize| get_le32(bytes, at).unwrap_or(0);
        Self { len: le32(at), block: le32(at.saturating_add(4)) }
    }
}

/// What the descriptors say of the volume.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) label: String,
    pub(super) uuid: Option<String>,
    /// Major, and minor in binary-coded decimals.
    pub(super) revision: [u8; 2],
    pub(super) free: Option<u64>,
    pub(super) size: u64,
    pub(super) files: u64,
    pub(super) state: State,
}

/// Descriptors of one sequence, the newest of each kind.
#[derive(Default)]
struct Sequence {
    primary: Option<Bytes>,
    logical: Option<Bytes>,
    partitions: Vec<Physical>,
}

fn descriptor(meta: &Meta, block_size: u64, block: u32) -> Result<(u16, Bytes)> {
    let byte = u64::from(block).saturating_mul(block_size);
    let at = At::new("udf", "volume descriptor").index(block.into()).byte(byte);
    let bytes = meta.near(byte, block_size).map_err(|error| error.at(at.clone()))?;
    Ok((tag::check(&bytes, block, &at)?, bytes))
}

/// The anchor, wherever it is, and the size of blocks that it is at its place in.
fn anchor(meta: &Meta, sizes: &[u64]) -> Result<(u64, Bytes)> {
    let places: [fn(u64) -> Option<u64>; 4] =
        [|_| Some(256), |blocks| blocks.checked_sub(1), |blocks| blocks.checked_sub(257), |_| Some(512)];
    let mut first = None;
    for place in places {
        for &size in sizes {
            let blocks = meta.volume().len().checked_div(size).unwrap_or(0);
            let Some(block) = place(blocks).and_then(|block| u32::try_from(block).ok()) else { continue };
            match descriptor(meta, size, block) {
                Ok((ident::ANCHOR, bytes)) => return Ok((size, bytes)),
                Ok(_) => {}
                Err(error) => first = first.or(Some(error)),
            }
        }
    }
    Err(first.unwrap_or_else(|| Error::corrupt(At::new("udf", "anchor")).because("there is none")))
}

fn sequence(meta: &Meta, block_size: u64, mut stretch: Stretch) -> Result<Sequence> {
    let mut found = Sequence::default();
    let mut newest = [0_u32; 2];
    let mut seen = 0_u32;
    let mut skip = 0_u32;
    while u64::from(skip).saturating_mul(block_size) < stretch.len.into() && seen < MAX_SEQUENCE {
        seen = seen.saturating_add(1);
        let (kind, bytes) = match descriptor(meta, block_size, stretch.block.saturating_add(skip)) {
            Ok(found) => found,
            // Behind the last one there may be anything.
            Err(error) if found.logical.is_none() => return Err(error),
            Err(_) => break,
        };
        skip = skip.saturating_add(1);
        let number = get_le32(&bytes, 16).unwrap_or(0);
        let [primary, logical] = &mut newest;
        match kind {
            ident::PRIMARY if found.primary.is_none() || number >= *primary => {
                (found.primary, *primary) = (Some(bytes), number);
            }
            ident::LOGICAL_VOLUME if found.logical.is_none() || number >= *logical => {
                (found.logical, *logical) = (Some(bytes), number);
            }
            ident::PARTITION => {
                let partition = Physical::parse(&bytes);
                let same = found.partitions.iter_mut().find(|other| other.number == partition.number);
                match same {
                    Some(other) if other.sequence <= partition.sequence => *other = partition,
                    Some(_) => {}
                    None => found.partitions.push(partition),
                }
            }
            ident::POINTER => (stretch, skip) = (Stretch::parse(&bytes, 20), 0),
            ident::TERMINATING => break,
            _ => {}
        }
    }
    if found.logical.is_none() {
        let at = At::new("udf", "volume descriptor sequence").index(stretch.block.into());
        return Err(Error::corrupt(at).because("has no logical volume"));
    }
    Ok(found)
}

impl Udf {
    /// Opens the file system on a volume.
    ///
    /// # Errors
    /// `Corrupt` when no anchor or no sound sequence of descriptors is found; `Unsupported` with a partition map's name.
    pub fn open(volume: Arc<dyn BlockSource>) -> Result<Self> {
        let probe = ProbeBytes::read(&*volume, "")?;
        let sizes = super::block_sizes(&probe.view());
        let meta = Meta::new(volume);
        let (block, anchor) = anchor(&meta, sizes)?;
        let found = sequence(&meta, block, Stretch::parse(&anchor, 16));
        let by_reserve = found.is_err();
        let found = match found {
            Ok(found) => found,
            Err(error) => sequence(&meta, block, Stretch::parse(&anchor, 24)).map_err(|_| error)?,
        };
        let logical = found.logical.as_deref().unwrap_or_default();
        let size = get_le32(logical, 212).unwrap_or(0);
        if u64::from(size) != block {
            return Err(refused(format!("logical blocks of {size} bytes on sectors of {block}")));
        }
        let mut udf = Self {
            block,
            partitions: Vec::new(),
            root: Address { block: 0, partition: 0 },
            names: Names::default(),
            by_reserve,
            meta,
            known: super::known(),
        };
        let table_len = usize::try_from(get_le32(logical, 264).unwrap_or(0)).unwrap_or(usize::MAX);
        let table = logical.get(440..).unwrap_or_default();
        let table = table.get(..table_len).unwrap_or(table);
        Maps::new(table, get_le32(logical, 268).unwrap_or(0), &found.partitions).load(&mut udf)?;
        udf.names = udf.read_names(&found, logical);
        udf.root = udf.find_root(Address::parse(logical, 252))?;
        Ok(udf)
    }

    /// The root directory, by the file set that the logical volume names.
    fn find_root(&self, file_set: Option<Address>) -> Result<Address> {
        let at = || At::new("udf", "file set descriptor");
        let missing = || Error::corrupt(at()).because("there is none");
        let address = file_set.ok_or_else(missing)?;
        let byte = self.blocks(address)?.byte;
        let bytes = self.meta.near(byte, self.block).map_err(|error| error.at(at().byte(byte)))?;
        if tag::check(&bytes, address.block, &at().byte(byte))? != ident::FILE_SET {
            return Err(Error::corrupt(at().byte(byte)).because("another descriptor is there"));
        }
        Address::parse(&bytes, 404).ok_or_else(missing)
    }

    fn read_names(&self, found: &Sequence, logical: &[u8]) -> Names {
        let field =
            |bytes: &[u8], at: usize| tag::dstring(bytes.get(at..at.saturating_add(128)).unwrap_or_default());
        let set = found.primary.as_deref().map(|primary| field(primary, 72)).unwrap_or_default();
        let blocks: u64 = found.partitions.iter().map(|partition| u64::from(partition.len)).sum();
        let is_domain = logical.get(217..).is_some_and(|name| name.starts_with(b"*OSTA UDF Compliant"));
        let revision = get_le16(logical, 240).filter(|_| is_domain).unwrap_or(0);
        let mut names = Names {
            label: field(logical, 84).trim_end_matches([' ', '\0']).to_owned(),
            uuid: uuid(&set),
            revision: revision.to_be_bytes(),
            size: blocks.saturating_mul(self.block),
            ..Names::default()
        };
        let Some(integrity) = self.integrity(Stretch::parse(logical, 432)) else { return names };
        let count = get_le32(&integrity, 72).unwrap_or(0).min(64);
        let table = |n: u32| usize::try_from(n).ok()?.checked_mul(4)?.checked_add(80);
        let free =
            (0..count).filter_map(|n| get_le32(&integrity, table(n)?)).filter(|free| *free != u32::MAX);
        names.free = Some(free.map(u64::from).sum::<u64>().saturating_mul(self.block).min(names.size));
        if let Some(own) = table(count.saturating_mul(2)) {
            let number = |skip: usize| get_le32(&integrity, own.saturating_add(skip)).unwrap_or(0);
            names.files = u64::from(number(32)).saturating_add(number(36).into());
            if let Some(least) = get_le16(&integrity, own.saturating_add(40)).filter(|least| *least != 0) {
                names.revision = least.to_be_bytes();
            }
        }
        // What is written once stays open as long as more can be added.
        let rewritten = found.partitions.iter().any(|partition| partition.access >= 3);
        let is_virtual =
            self.partitions.iter().any(|partition| matches!(partition, Partition::Virtual { .. }));
        if get_le32(&integrity, 28) == Some(0) && rewritten && !is_virtual {
            names.state = State::Dirty;
        }
        names
    }

    /// The last of the integrity descriptors, each of which may lead to the next.
    fn integrity(&self, mut stretch: Stretch) -> Option<Bytes> {
        let mut last = None;
        let mut skip = 0_u32;
        for _ in 0..MAX_INTEGRITY {
            if u64::from(skip).saturating_mul(self.block) >= stretch.len.into() {
                break;
            }
            let Ok((ident::INTEGRITY, bytes)) =
                descriptor(&self.meta, self.block, stretch.block.saturating_add(skip))
            else {
                break;
            };
            let next = Stretch::parse(&bytes, 32);
            (stretch, skip) = if next.len == 0 { (stretch, skip.saturating_add(1)) } else { (next, 0) };
            last = Some(bytes);
        }
        last
    }
}

/// Sixteen digits of the volume set's name, as `blkid` takes them: what is no digit stands in hexadecimal.
fn uuid(set: &str) -> Option<String> {
    let bytes: Vec<u8> = set.chars().take(16).flat_map(|c| c.to_string().into_bytes()).take(16).collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let mut padded = bytes.clone();
    padded.resize(16, 0);
    let (first, rest) = padded.split_at_checked(8)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_lowercase();
    (bytes.len() >= 8).then(|| match digits {
        0..8 => hex(first),
        8..16 => format!("{}{}", text(first), hex(rest.get(..4).unwrap_or_default())),
        _ => text(&padded),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_those_of_blkid() {
        // As the samples of util-linux have them.
        assert_eq!(uuid("3B4A858DC4B57A72").as_deref(), Some("3b4a858dc4b57a72"));
        assert_eq!(uuid("103A3B3B UDF Volume Set").as_deref(), Some("103a3b3b20554446"));
        assert_eq!(uuid("20c624ac").as_deref(), Some("20c624ac00000000"));
        assert_eq!(uuid("short").as_deref(), None);
    }
}
