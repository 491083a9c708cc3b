//! Directory records: what a directory is made of, one for each file, none across the end of a sector.
//!
//! ECMA-119, "9.1 Format of a Directory Record". Numbers stand there twice, in both byte orders; the first, little-endian
//! one counts, as in the kernel.

use super::SECTOR;
use crate::error::{At, Error, Result};
use crate::fs::Time;
use crate::fs::fat::days;
use crate::fs::unicode::{units_be, utf8};
use crate::num::wide;
use crate::ondisk::get_le32;

/// The shortest record: a name of one byte.
const SHORTEST: usize = 34;
/// Where the name starts.
const NAME: usize = 33;

/// A record, or a copy of its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    bytes: &'a [u8],
}

/// Bits of a record's flags.
mod flag {
    pub(super) const DIR: u8 = 2;
    pub(super) const ASSOCIATED: u8 = 4;
    pub(super) const GOES_ON: u8 = 0x80;
}

impl<'a> Record<'a> {
    /// The record at the start of `bytes`, which end with its sector or before.
    ///
    /// # Errors
    /// `Corrupt` when it is longer than what is there, or shorter than its name.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let len = bytes.first().copied().map_or(0, usize::from);
        let name = bytes.get(32).copied().map_or(0, usize::from);
        match bytes.get(..len) {
            Some(bytes) if len >= SHORTEST.max(NAME.saturating_add(name)) && name > 0 => Ok(Self { bytes }),
            _ => Err(Error::corrupt(At::new("iso9660", "directory record")).because(format!(
                "{len} bytes with a name of {name}, {} are left in its sector",
                bytes.len()
            ))),
        }
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// Its length, in bytes.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The block where its content starts, behind an extended attribute record.
    pub(super) fn start(&self) -> u64 {
        let extent = u64::from(get_le32(self.bytes, 2).unwrap_or(0));
        extent.saturating_add(self.byte(1).into())
    }

    /// Bytes of content.
    pub(super) fn size(&self) -> u64 {
        get_le32(self.bytes, 10).unwrap_or(0).into()
    }

    pub(super) fn is_dir(&self) -> bool {
        self.byte(25) & flag::DIR != 0
    }

    /// A part of another file, which the kernel does not show.
    pub(super) fn is_associated(&self) -> bool {
        self.byte(25) & flag::ASSOCIATED != 0
    }

    /// The next record has the file's next part.
    pub(super) fn goes_on(&self) -> bool {
        self.byte(25) & flag::GOES_ON != 0
    }

    /// Its blocks lie between those of others.
    pub(super) fn is_interleaved(&self) -> bool {
        self.byte(27) != 0
    }

    pub(super) fn time(&self) -> Time {
        short_time(self.bytes.get(18..25).unwrap_or_default())
    }

    pub(super) fn raw_name(&self) -> &'a [u8] {
        let end = NAME.saturating_add(self.byte(32).into());
        self.bytes.get(NAME..end).unwrap_or_default()
    }

    /// The directory itself, or the one above it.
    pub(super) fn is_dots(&self) -> bool {
        matches!(self.raw_name(), [0 | 1])
    }

    /// What stands behind the name: entries of other standards.
    pub(super) fn system_use(&self) -> &'a [u8] {
        // The name is padded to an even place.
        let end = NAME.saturating_add(self.byte(32).into());
        self.bytes.get(end.next_multiple_of(2)..).unwrap_or_default()
    }

    /// The name as the kernel shows it without extensions (`map=normal`): in lower case and without a version.
    pub(super) fn plain_name(&self) -> Vec<u8> {
        let name = self.raw_name();
        let name = name.strip_suffix(b".;1").or_else(|| name.strip_suffix(b";1")).unwrap_or(name);
        let shown = |byte: &u8| match byte {
            b';' | b'/' => b'.',
            byte => byte.to_ascii_lowercase(),
        };
        name.iter().map(shown).collect()
    }

    /// The name in a Joliet tree.
    pub(super) fn joliet_name(&self) -> Vec<u8> {
        let mut name = utf8(units_be(self.raw_name()));
        if name.len() > 2 && name.ends_with(b";1") {
            name.truncate(name.len().saturating_sub(2));
        }
        while name.len() >= 2 && name.ends_with(b".") {
            name.pop();
        }
        name
    }
}

/// Seven bytes: years since 1900, month, day, hour, minute, second, and the zone in quarters of an hour east of Greenwich.
pub(super) fn short_time(bytes: &[u8]) -> Time {
    let &[year, month, day, hour, minute, second, zone] = bytes else { return Time::default() };
    let [year, month, day, hour, minute, second] = [year, month, day, hour, minute, second].map(i64::from);
    from_parts(year.saturating_add(1900), month, day, [hour, minute, second], zone)
}

/// Seventeen bytes: the same in digits, and hundredths of seconds.
pub(super) fn long_time(bytes: &[u8]) -> Time {
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to).and_then(|digits| str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse::<i64>().ok()).unwrap_or(0)
    };
    let zone = bytes.get(16).copied().unwrap_or(0);
    let clock = [number(8, 10), number(10, 12), number(12, 14)];
    let mut time = from_parts(number(0, 4), number(4, 6), number(6, 8), clock, zone);
    time.nanos = u32::try_from(number(14, 16)).unwrap_or(0).saturating_mul(10_000_000);
    time
}

fn from_parts(year: i64, month: i64, day: i64, [hour, minute, second]: [i64; 3], zone: u8) -> Time {
    let zone = i64::from(i8::from_ne_bytes([zone]));
    // Thirteen hours either way; more is no zone.
    let zone = if (-52..=52).contains(&zone) { zone } else { 0 };
    let secs = days(year, month, day)
        .saturating_mul(24)
        .saturating_add(hour)
        .saturating_mul(60)
        .saturating_add(minute)
        .saturating_mul(60)
        .saturating_add(second)
        .saturating_sub(zone.saturating_mul(15 * 60));
    Time { secs, nanos: 0 }
}

/// A record found in a sector, where it lies in it, and where the next one starts.
pub(super) struct Found<'a> {
    pub(super) record: Record<'a>,
    pub(super) at: usize,
    pub(super) next: usize,
}

/// The records of a sector from byte `at` on. Damage is the last item.
pub(super) fn records(sector: &[u8], mut at: usize) -> impl Iterator<Item = Result<Found<'_>>> {
    std::iter::from_fn(move || {
        let rest = sector.get(at..)?;
        // What is left of a sector is zeros.
        if rest.first().is_none_or(|len| *len == 0) {
            return None;
        }
        let here = at;
        match Record::parse(rest) {
            Ok(record) => {
                at = at.saturating_add(record.len());
                Some(Ok(Found { record, at: here, next: at }))
            }
            Err(error) => {
                at = usize::MAX;
                Some(Err(error))
            }
        }
    })
}

/// The end of the sector in which byte `at` of a directory lies.
pub(super) fn sector_end(at: u64) -> u64 {
    at.saturating_add(1).next_multiple_of(SECTOR)
}

/// Bytes from `at` to the end of its sector.
pub(super) fn left_in_sector(at: u64) -> u64 {
    sector_end(at).saturating_sub(at).max(wide(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_east_of_greenwich() {
        assert_eq!(short_time(&[70, 1, 1, 2, 0, 0, 8]).secs, 0);
        assert_eq!(short_time(&[70, 1, 1, 0, 0, 0, 0xf8]).secs, 7200);
        assert_eq!(long_time(b"1970010100000150\x00"), Time { secs: 1, nanos: 500_000_000 });
    }
}
