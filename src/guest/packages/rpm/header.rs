//! The header of an installed package: an index of tags and the values they point to (rpm's manual, "RPM Package File
//! Format V4", section "Header", without the magic, as databases keep it). Everything is big-endian.

use super::LAYER;
use super::blob::Blob;
use crate::error::{At, Error, Result};
use crate::ondisk::{be32, get_be16, get_be32};
use crate::text::Text;

/// Bytes before the index: number of entries, bytes of values.
const INTRO: u64 = 8;
/// Bytes of an entry: tag, type, offset of its values, their number.
const ENTRY: u64 = 16;
/// Entries at most, as rpm has it.
const MAX_ENTRIES: u32 = 0xffff;
/// Bytes of all values at most, as rpm has it.
const MAX_DATA: u32 = 256 << 20;
/// The longest single string that is read.
const MAX_STRING: u64 = 64 << 10;
/// The most values of one list that are read: the files of the largest package seen are 90 000.
const MAX_VALUES: u32 = 4_000_000;

/// Tags of "Package Tags" in rpm's manual.
pub(super) mod tag {
    pub(in super::super) const NAME: u32 = 1000;
    pub(in super::super) const VERSION: u32 = 1001;
    pub(in super::super) const RELEASE: u32 = 1002;
    pub(in super::super) const EPOCH: u32 = 1003;
    pub(in super::super) const VENDOR: u32 = 1011;
    pub(in super::super) const ARCH: u32 = 1022;
    /// Whole paths, before there were directories of their own (rpm 3).
    pub(in super::super) const OLD_FILE_NAMES: u32 = 1027;
    pub(in super::super) const FILE_DIGESTS: u32 = 1035;
    pub(in super::super) const DIR_INDEXES: u32 = 1116;
    pub(in super::super) const BASE_NAMES: u32 = 1117;
    pub(in super::super) const DIR_NAMES: u32 = 1118;
}

/// Types of values: "Header Types".
const INT16: u32 = 3;
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRINGS: u32 = 8;
const TRANSLATED: u32 = 9;

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u32,
    kind: u32,
    offset: u32,
    count: u32,
}

/// A header whose index was read; values are fetched when they are asked for.
pub(super) struct Header<'b, 'a> {
    blob: &'b mut Blob<'a>,
    entries: Vec<Entry>,
    /// Where the values start.
    values: u64,
}

fn corrupt(why: impl Into<String>) -> Error {
    Error::corrupt(At::new(LAYER, "header")).because(why)
}

impl<'b, 'a> Header<'b, 'a> {
    /// Reads the index.
    ///
    /// # Errors
    /// `Corrupt` when its numbers do not fit the blob.
    pub(super) fn load(blob: &'b mut Blob<'a>) -> Result<Self> {
        let at = At::new(LAYER, "header");
        let intro = blob.first(INTRO)?;
        let (count, data) = (be32(intro, 0, &at)?, be32(intro, 4, &at)?);
        if count == 0 || count > MAX_ENTRIES || data > MAX_DATA {
            return Err(corrupt(format!("{count} entries with {data} bytes")));
        }
        let values = INTRO.saturating_add(u64::from(count).saturating_mul(ENTRY));
        if values.saturating_add(u64::from(data)) != blob.len() {
            let why = format!("{count} entries and {data} bytes of values in {} bytes", blob.len());
            return Err(corrupt(why));
        }
        let index = blob.first(values)?.get(crate::num::narrow(INTRO)..).unwrap_or_default();
        let entry = |raw: &[u8]| {
            let field = |at| get_be32(raw, at).unwrap_or(0);
            Entry { tag: field(0), kind: field(4), offset: field(8), count: field(12) }
        };
        let entries = index.chunks_exact(16).map(entry).collect();
        Ok(Self { blob, entries, values })
    }

    fn entry(&self, tag: u32) -> Option<Entry> {
        self.entries.iter().copied().find(|entry| entry.tag == tag)
    }

    fn start(&self, entry: Entry) -> u64 {
        self.values.saturating_add(u64::from(entry.offset))
    }

    /// The string of a tag; of a translated one the first. `None` when the header does not have it.
    ///
    /// # Errors
    /// `Corrupt` when it is no string or has no end.
    pub(super) fn string(&mut self, tag: u32) -> Result<Option<Text>> {
        let Some(entry) = self.entry(tag) else { return Ok(None) };
        if !matches!(entry.kind, STRING | STRINGS | TRANSLATED) || entry.count == 0 {
            return Err(corrupt(format!("tag {tag} is no string")));
        }
        let start = self.start(entry);
        // Most values are short: what follows is not fetched for nothing.
        for longest in [256, MAX_STRING] {
            let bytes = self.blob.at_most(start.saturating_add(longest))?;
            let bytes = bytes.get(crate::num::narrow(start)..).unwrap_or_default();
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                return Ok(bytes.get(..end).map(Text::from));
            }
        }
        Err(corrupt(format!("the string of tag {tag} has no end")))
    }

    /// The first number of a tag. `None` when the header does not have it.
    ///
    /// # Errors
    /// `Corrupt` when it is no number.
    pub(super) fn number(&mut self, tag: u32) -> Result<Option<u32>> {
        Ok(self.numbers(tag, Some(1))?.and_then(|numbers| numbers.first().copied()))
    }

    /// The numbers of a tag, at most `limit`. `None` when the header does not have it.
    ///
    /// # Errors
    /// `Corrupt` when they are no numbers; `Limit`.
    pub(super) fn numbers(&mut self, tag: u32, limit: Option<u32>) -> Result<Option<Vec<u32>>> {
        let Some(entry) = self.entry(tag) else { return Ok(None) };
        let width: u8 = match entry.kind {
            INT16 => 2,
            INT32 => 4,
            _ => return Err(corrupt(format!("tag {tag} is no number"))),
        };
        let count = limit.unwrap_or(u32::MAX).min(entry.count);
        if count > MAX_VALUES {
            return Err(Error::limit(format!("tag {tag} has {count} values")));
        }
        let start = self.start(entry);
        let end = start.saturating_add(u64::from(count).saturating_mul(u64::from(width)));
        let bytes = self.blob.first(end)?.get(crate::num::narrow(start)..).unwrap_or_default();
        let number = |raw: &[u8]| match width {
            2 => get_be16(raw, 0).map_or(0, u32::from),
            _ => get_be32(raw, 0).unwrap_or(0),
        };
        Ok(Some(bytes.chunks_exact(usize::from(width)).map(number).collect()))
    }

    /// Every string of a list, in its order. Nothing when the header does not have it.
    ///
    /// # Errors
    /// `Corrupt` when it is no list or ends early; `Limit`.
    pub(super) fn strings(&mut self, tag: u32) -> Result<Vec<&[u8]>> {
        let Some(entry) = self.entry(tag) else { return Ok(Vec::new()) };
        if !matches!(entry.kind, STRING | STRINGS | TRANSLATED) {
            return Err(corrupt(format!("tag {tag} is no list of strings")));
        }
        if entry.count > MAX_VALUES {
            return Err(Error::limit(format!("tag {tag} has {} values", entry.count)));
        }
        let start = self.start(entry);
        // The values of the tag with the next higher offset end these.
        let total = self.blob.len().saturating_sub(self.values);
        let later = self.entries.iter().map(|other| u64::from(other.offset));
        let end = later.filter(|offset| *offset > u64::from(entry.offset)).min().unwrap_or(total);
        let end = self.values.saturating_add(end);
        let bytes = self.blob.at_most(end)?.get(crate::num::narrow(start)..).unwrap_or_default();
        let count = crate::num::narrow(u64::from(entry.count));
        let found: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == 0).take(count).collect();
        if found.len() != count || found.last().is_some_and(|last| !last.ends_with(b"\0")) {
            return Err(corrupt(format!("tag {tag} has {count} strings, {} are there", found.len())));
        }
        Ok(found.into_iter().map(|text| text.strip_suffix(b"\0").unwrap_or(text)).collect())
    }
}
