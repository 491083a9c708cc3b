//! Entry sets: a file is a row of slots of 32 bytes in its directory, under one sum.
//!
//! ```text
//! 85 file: attributes, times │ c0 stream: first cluster, lengths │ c1 name, fifteen units │ c1 ...
//! ```
//! "exFAT file system specification", "6 Directory Structure", "7 Directory Entry Definitions".

use crate::fs::fat::time;
use crate::fs::unicode::{units_le, utf8};
use crate::fs::{FileType, Time};
use crate::ondisk::{get_le16, get_le32, get_le64};

/// Bytes of a slot.
pub(super) const SLOT: u64 = 32;
/// The most slots behind a file's first.
pub(super) const MOST_BEHIND: u8 = 18;

/// What a slot's first byte says.
pub(super) mod kind {
    pub(in super::super) const END: u8 = 0;
    pub(in super::super) const BITMAP: u8 = 0x81;
    pub(in super::super) const UPCASE: u8 = 0x82;
    pub(in super::super) const LABEL: u8 = 0x83;
    pub(in super::super) const FILE: u8 = 0x85;
    pub(super) const STREAM: u8 = 0xc0;
    pub(super) const NAME: u8 = 0xc1;
}

/// Does a slot belong to the one before?
pub(super) const fn is_secondary(slot: &[u8; 32]) -> bool {
    let [kind, ..] = *slot;
    kind & 0xc0 == 0xc0
}

/// How many slots follow a file's first.
pub(super) const fn behind(slot: &[u8; 32]) -> u8 {
    let [_, count, ..] = *slot;
    count
}

/// Where content lies: of a file, a directory, and of the file system's own tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) first: u32,
    /// Bytes.
    pub(super) len: u64,
    /// What lies behind was never written, and reads as zeros.
    pub(super) valid: u64,
    /// The clusters follow each other, and the FAT says nothing of them.
    pub(super) in_row: bool,
}

impl Stream {
    /// The fields that a bitmap and an up-case table have too.
    pub(super) fn table(slot: &[u8; 32]) -> Self {
        let len = get_le64(slot, 24).unwrap_or(0);
        Self { first: get_le32(slot, 20).unwrap_or(0), len, valid: len, in_row: false }
    }
}

/// The slots of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    slots: Vec<[u8; 32]>,
}

impl Set {
    pub(super) fn push(&mut self, slot: [u8; 32]) {
        self.slots.push(slot);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Are all of its slots here?
    pub(super) fn is_whole(&self) -> bool {
        self.slots.first().is_some_and(|first| self.slots.len() > usize::from(behind(first)))
    }

    fn first(&self) -> &[u8] {
        self.slots.first().map(<[u8; 32]>::as_slice).unwrap_or_default()
    }

    /// The stream's slot, which comes second.
    fn second(&self) -> Option<&[u8; 32]> {
        self.slots.get(1).filter(|slot| slot.first() == Some(&kind::STREAM))
    }

    /// What is wrong with it, if anything is.
    pub(super) fn damage(&self) -> Option<String> {
        let Some(stream) = self.second() else { return Some("its second slot is no stream".to_owned()) };
        // The sum is over every byte but its own two.
        let bytes = self.slots.iter().flatten().enumerate().filter(|(at, _)| !matches!(at, 2 | 3));
        let sum = bytes.fold(0_u16, |sum, (_, byte)| sum.rotate_right(1).wrapping_add((*byte).into()));
        let expected = get_le16(self.first(), 2).unwrap_or(0);
        if sum != expected {
            return Some(format!("checksum {sum:#06x}, {expected:#06x} is expected"));
        }
        let (len, valid) = (get_le64(stream, 24).unwrap_or(0), get_le64(stream, 8).unwrap_or(0));
        (valid > len).then(|| format!("{valid} bytes were written, of {len}"))
    }

    pub(super) fn stream(&self) -> Option<Stream> {
        let slot = self.second()?;
        let in_row = slot.get(1).is_some_and(|flags| flags & 2 != 0);
        Some(Stream { valid: get_le64(slot, 8)?, in_row, ..Stream::table(slot) })
    }

    /// The name in units of UTF-16.
    pub(super) fn units(&self) -> Vec<u16> {
        let len = self.second().and_then(|stream| stream.get(3)).copied().map_or(0, usize::from);
        let names = self.slots.iter().skip(2).filter(|slot| slot.first() == Some(&kind::NAME));
        names.flat_map(|slot| units_le(slot.get(2..).unwrap_or_default())).take(len).collect()
    }

    pub(super) fn name(&self) -> Vec<u8> {
        utf8(self.units())
    }

    pub(super) fn kind(&self) -> FileType {
        if self.attributes() & 0x10 == 0 { FileType::File } else { FileType::Dir }
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.attributes() & 1 != 0
    }

    fn attributes(&self) -> u16 {
        get_le16(self.first(), 4).unwrap_or(0)
    }

    pub(super) fn created(&self) -> Time {
        self.time(8, Some(20), 22)
    }

    pub(super) fn modified(&self) -> Time {
        self.time(12, Some(21), 23)
    }

    pub(super) fn accessed(&self) -> Time {
        self.time(16, None, 24)
    }

    /// A time, its hundredths and its zone, which stand apart.
    fn time(&self, at: usize, hundredths: Option<usize>, zone: usize) -> Time {
        let byte = |at: usize| self.first().get(at).copied().unwrap_or(0);
        let half = |at: usize| get_le16(self.first(), at).unwrap_or(0);
        let mut time = time(half(at.saturating_add(2)), half(at), hundredths.map_or(0, byte));
        let zone = byte(zone);
        if zone & 0x80 != 0 {
            // Quarters of an hour east of Greenwich, in seven bits.
            let quarters = i64::from(zone & 0x7f);
            let quarters = if quarters < 64 { quarters } else { quarters.saturating_sub(128) };
            time.secs = time.secs.saturating_sub(quarters.saturating_mul(15 * 60));
        }
        time
    }
}
