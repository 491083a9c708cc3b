//! A record: what one write to the log carries.
//!
//! ```text
//! header   magic, turn, version │ length │ place, tail │ checksum │ previous │ operations │ first words │ … │ more headers
//! data     blocks whose first words are the turn; their own first words stand in the headers, 64 in each
//! ```

use super::ring::{BLOCK, Ring};
use crate::checksum::crc32c;
use crate::error::Result;
use crate::num::{narrow, wide};
use crate::ondisk::{get_be32, get_be64, get_le32};

/// A header's first word.
pub(super) const MAGIC: u32 = 0xfeed_babe;
/// Bytes of data for which one block of header has the first words.
const CYCLE_SIZE: u64 = 32 << 10;
/// Places in a header, in bytes.
const CRC: usize = 32;
const CYCLE_DATA: usize = 44;
const FORMAT: usize = 300;
const UUID: usize = 304;
const SIZE: usize = 320;
/// Lengths of the header's part that the checksum covers, as 64-bit and as 32-bit kernels laid it out.
const COVERED: [usize; 2] = [328, 324];
/// The same of each further block of header.
const COVERED_MORE: usize = 260;
/// Where the first words stand in a further block.
const MORE_CYCLE_DATA: usize = 4;
/// Written by a little-endian machine: items are in its order of bytes.
const LITTLE_ENDIAN: u32 = 1;

/// The first block of a record's header.
#[derive(Clone, Debug)]
pub(super) struct Header(Box<[u8]>);

impl Header {
    pub(super) fn new(block: &[u8]) -> Self {
        Self(block.into())
    }

    fn word(&self, at: usize) -> u32 {
        get_be32(&self.0, at).unwrap_or(0)
    }

    /// Turn and block of the record.
    pub(super) fn lsn(&self) -> u64 {
        get_be64(&self.0, 16).unwrap_or(0)
    }

    /// The block where what is not yet written home starts.
    pub(super) fn tail(&self) -> u64 {
        get_be64(&self.0, 24).unwrap_or(0) & 0xffff_ffff
    }

    /// Operations in it.
    pub(super) fn operations(&self) -> u32 {
        self.word(40)
    }

    pub(super) fn uuid(&self) -> [u8; 16] {
        self.0.get(UUID..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
    }

    /// Length of the data in bytes.
    fn len(&self) -> u64 {
        u64::from(self.word(12))
    }

    /// The most that records have which were written with this one, in bytes.
    pub(super) fn size(&self) -> u64 {
        u64::from(self.word(SIZE))
    }

    /// Blocks of data.
    pub(super) fn data_blocks(&self) -> u64 {
        self.len().div_ceil(wide(BLOCK))
    }

    /// Blocks of header.
    pub(super) fn blocks(&self, is_v2: bool) -> u64 {
        let has_more = is_v2 && self.word(8) & 2 != 0 && self.size() > CYCLE_SIZE;
        if has_more { self.size().div_ceil(CYCLE_SIZE) } else { 1 }
    }
}

/// A record that was read.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) header: Header,
    /// Its data, as it was before the turn was written over the first words.
    pub(super) data: Vec<u8>,
    /// Blocks from its start to the next one's.
    pub(super) blocks: u64,
}

/// Reads the record at `block`, of which at most `most` blocks may be taken.
///
/// # Errors
/// `Corrupt` for a header or a checksum that is wrong, or a machine of another kind; what the volume reports.
pub(super) fn read(ring: &Ring<'_>, block: u64, most: u64) -> Result<Record> {
    let bad = |why: String| ring.bad(block, why);
    let header = Header::new(&ring.read(block, 1)?);
    let version = header.word(8);
    if header.word(0) != MAGIC || version == 0 || version & !3 != 0 {
        return Err(bad("no header of a record".to_owned()));
    }
    let (heads, blocks) = (header.blocks(ring.is_v2), header.data_blocks());
    let all = heads.saturating_add(blocks);
    let longest = ring.record_blocks();
    if blocks == 0 || blocks > longest || heads > longest / 64 || all > most {
        return Err(bad(format!("a record of {heads} and {blocks} blocks, {most} are left")));
    }
    let bytes = ring.read(block, all)?;
    let (head, mut data) = bytes.split_at(narrow(heads).saturating_mul(BLOCK));
    let (stored, len) = (get_le32(head, CRC).unwrap_or(0), narrow(header.len()));
    if !is_crc_right(head, data.get(..len).unwrap_or_default(), stored) && (stored != 0 || ring.is_v5) {
        return Err(bad("the checksum of a record is wrong".to_owned()));
    }
    if header.word(FORMAT) != LITTLE_ENDIAN || header.uuid() != ring.uuid {
        return Err(bad("a record of another machine or file system".to_owned()));
    }
    // Put the first words back.
    let mut whole = Vec::with_capacity(data.len());
    for (nth, heads) in head.chunks_exact(BLOCK).enumerate() {
        let words = heads.get(if nth == 0 { CYCLE_DATA } else { MORE_CYCLE_DATA }..).unwrap_or_default();
        let (now, rest) = data.split_at(data.len().min(narrow(CYCLE_SIZE)));
        for (block, word) in now.chunks_exact(BLOCK).zip(words.chunks_exact(4)) {
            whole.extend_from_slice(word);
            whole.extend_from_slice(block.get(4..).unwrap_or_default());
        }
        data = rest;
    }
    if !data.is_empty() {
        return Err(bad("more data than its header has first words for".to_owned()));
    }
    whole.truncate(len);
    Ok(Record { header, data: whole, blocks: all })
}

/// Is the checksum of a record right, in either layout of its header?
fn is_crc_right(head: &[u8], data: &[u8], stored: u32) -> bool {
    COVERED.iter().any(|covered| {
        let Some((first, more)) = head.split_at_checked(BLOCK) else { return false };
        let (before, after) =
            (first.get(..CRC).unwrap_or_default(), first.get(36..*covered).unwrap_or_default());
        let mut parts = vec![before, &[0; 4], after];
        parts.extend(more.chunks_exact(BLOCK).map(|block| block.get(..COVERED_MORE).unwrap_or_default()));
        parts.push(data);
        crc32c(&parts) == stored
    })
}
