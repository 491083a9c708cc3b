//! What every descriptor has: a tag with a checksum, the place it was written for, and a CRC over what follows. And the
//! three kinds of fields that all of them use: strings, times, addresses.
//!
//! ECMA-167, "3/7.2 Descriptor tag", "1/7.2.12 dstring", "1/7.3 Timestamp", "4/14.14 Allocation descriptors".

use crate::error::{At, Error, Result};
use crate::fs::Time;
use crate::fs::fat::days;
use crate::fs::unicode::units_be;
use crate::ondisk::{get_le16, get_le32};

/// Bytes of a tag.
const TAG: usize = 16;

/// What a descriptor is.
pub(super) mod ident {
    pub(in super::super) const PRIMARY: u16 = 1;
    pub(in super::super) const ANCHOR: u16 = 2;
    pub(in super::super) const POINTER: u16 = 3;
    pub(in super::super) const PARTITION: u16 = 5;
    pub(in super::super) const LOGICAL_VOLUME: u16 = 6;
    pub(in super::super) const TERMINATING: u16 = 8;
    pub(in super::super) const INTEGRITY: u16 = 9;
    pub(in super::super) const FILE_SET: u16 = 256;
    pub(in super::super) const FILE_IDENTIFIER: u16 = 257;
    pub(in super::super) const ALLOCATION_EXTENT: u16 = 258;
    pub(in super::super) const INDIRECT: u16 = 259;
    pub(in super::super) const FILE: u16 = 261;
    pub(in super::super) const EXTENDED_FILE: u16 = 266;
}

const CRC: [u16; 256] = {
    let mut table = [0; 256];
    let mut n = 0_u16;
    while n < 256 {
        let mut crc = n << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit = u32::wrapping_add(bit, 1);
        }
        #[expect(
            clippy::as_conversions,
            clippy::indexing_slicing,
            reason = "while compiling, below 256: the loop's condition"
        )]
        {
            table[n as usize] = crc;
        }
        n = n.wrapping_add(1);
    }
    table
};

/// CRC-16 of ITU-T V.41 from zero, as ECMA-167 has it.
pub(super) fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let [high, _] = crc.to_be_bytes();
        crc << 8 ^ CRC.get(usize::from(high ^ byte)).copied().unwrap_or(0)
    })
}

/// The identifier of a descriptor that lies at block `location`, after its sums have been checked.
///
/// # Errors
/// `Corrupt` when a sum is wrong, or it was written for another place.
pub(super) fn check(bytes: &[u8], location: u32, at: &At) -> Result<u16> {
    let bad = |why: String| Error::corrupt(at.clone()).because(why);
    let Some(tag) = bytes.first_chunk::<TAG>() else { return Err(bad("too short for its tag".to_owned())) };
    let others = tag.iter().enumerate().filter(|(at, _)| *at != 4);
    let sum = others.fold(0_u8, |sum, (_, byte)| sum.wrapping_add(*byte));
    let field = |at: usize| get_le16(tag, at).unwrap_or(0);
    if tag.get(4) != Some(&sum) {
        return Err(bad(format!("tag checksum {sum:#04x}, {:#04x} is expected", tag.get(4).unwrap_or(&0))));
    }
    let written_for = get_le32(tag, 12).unwrap_or(0);
    if written_for != location {
        return Err(bad(format!("says that it lies at block {written_for}, and lies at {location}")));
    }
    let end = TAG.saturating_add(field(10).into());
    let Some(body) = bytes.get(TAG..end) else {
        return Err(bad(format!("a CRC over {} bytes, past its block", field(10))));
    };
    let sum = crc(body);
    if sum != field(8) {
        return Err(bad(format!("CRC {sum:#06x}, {:#06x} is expected", field(8))));
    }
    Ok(field(0))
}

/// Text of "OSTA Compressed Unicode": a byte that says how wide units are, and the units.
pub(super) fn text(bytes: &[u8]) -> String {
    match bytes {
        [8, latin @ ..] => latin.iter().map(|byte| char::from(*byte)).collect(),
        [16, wide @ ..] => char::decode_utf16(units_be(wide)).map(|c| c.unwrap_or('?')).collect(),
        _ => String::new(),
    }
}

/// Text in a field of its own, whose last byte says how many are used.
pub(super) fn dstring(field: &[u8]) -> String {
    let Some((len, field)) = field.split_last() else { return String::new() };
    text(field.get(..usize::from(*len)).unwrap_or(field))
}

/// Twelve bytes of time, with a zone in minutes east of Greenwich.
pub(super) fn time(bytes: &[u8]) -> Time {
    let Some(stamp) = bytes.first_chunk::<12>() else { return Time::default() };
    let &[z0, z1, y0, y1, month, day, hour, minute, second, hundredths, of_those, micros] = stamp;
    let zone = u16::from_le_bytes([z0, z1]);
    // Twelve bits with a sign; a kind of 1 says that they count, -2047 that nobody knows.
    let minutes = i64::from(i16::from_le_bytes((zone << 4).to_le_bytes()) >> 4);
    let minutes = if zone >> 12 == 1 && minutes != -2047 { minutes } else { 0 };
    let year = i64::from(i16::from_le_bytes([y0, y1]));
    let secs = days(year, month.into(), day.into())
        .saturating_mul(24)
        .saturating_add(hour.into())
        .saturating_mul(60)
        .saturating_add(minute.into())
        .saturating_sub(minutes)
        .saturating_mul(60)
        .saturating_add(second.into());
    let part = |count: u8, nanos: u32| u32::from(count).saturating_mul(nanos);
    let nanos = part(hundredths, 10_000_000)
        .saturating_add(part(of_those, 100_000))
        .saturating_add(part(micros, 1000));
    Time { secs, nanos: nanos.min(999_999_999) }
}

/// A block of a partition, by the number of its map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) block: u32,
    pub(super) partition: u16,
}

impl Address {
    /// Six bytes.
    pub(super) fn parse(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self { block: get_le32(bytes, at)?, partition: get_le16(bytes, at.checked_add(4)?)? })
    }
}

/// Length in bytes and what its two upper bits say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    pub(super) bytes: u64,
    pub(super) kind: Allocation,
}

/// Whether there is anything where an allocation descriptor points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allocation {
    Recorded,
    /// Allocated and never written, or not allocated: zeros.
    Zeros {
        allocated: bool,
    },
    /// It leads to more descriptors.
    Continues,
}

impl Length {
    pub(super) const fn new(field: u32) -> Self {
        let kind = match field >> 30 {
            0 => Allocation::Recorded,
            1 => Allocation::Zeros { allocated: true },
            2 => Allocation::Zeros { allocated: false },
            _ => Allocation::Continues,
        };
        #[expect(clippy::as_conversions, reason = "from 32 to 64 bits")]
        let bytes = (field & 0x3fff_ffff) as u64;
        Self { bytes, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_that_of_the_standard() {
        // The check value of CRC-16/XMODEM, which is this one.
        assert_eq!(crc(b"123456789"), 0x31c3);
    }

    #[test]
    fn times_have_zones_and_microseconds() {
        let stamp = |zone: u16| {
            let mut bytes = zone.to_le_bytes().to_vec();
            bytes.extend([0xb2, 0x07, 1, 1, 2, 0, 0, 12, 34, 56]);
            time(&bytes)
        };
        assert_eq!(stamp(0x1000 | 120), Time { secs: 0, nanos: 123_456_000 });
        assert_eq!(stamp(0x1000 | (0xfff & 120_u16.wrapping_neg())).secs, 4 * 3600);
        assert_eq!(stamp(0x1801).secs, 7200);
    }
}
