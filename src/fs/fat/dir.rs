//! Directories: slots of 32 bytes, of which some hold a piece of a long name and one the file itself.
//!
//! ```text
//! piece 2 "le.txt" │ piece 1 "a longer fi" │ "ALONGE~1TXT" attributes, times, first cluster, size
//! ```
//! "Microsoft FAT32 File System Specification" 1.03, "FAT Directory Structure". A slot that begins with a zero is free, and
//! the kernel looks behind it.

use super::boot::{Root, SLOT};
use super::name::{Long, SHORT, short};
use super::{Fat, Node, ROOT};
use crate::error::{At, Error, Result};
use crate::fs::chain::{Link, Width};
use crate::fs::{FileType, Ino, Time};
use crate::num::wide;
use crate::ondisk::{get_le16, get_le32};
use std::ops::ControlFlow;

/// The most bytes of a directory: 65,536 entries.
const MOST: u64 = 65_536 * SLOT;
/// Bytes of a directory looked at together; a sector has at most as many.
const LOOK: u64 = 4096;
/// Attributes of a slot.
pub(super) mod attribute {
    pub(in super::super) const READ_ONLY: u8 = 1;
    pub(super) const LABEL: u8 = 8;
    pub(super) const DIR: u8 = 16;
    /// All of those that are never set together: a piece of a long name.
    pub(super) const LONG: u8 = 15;
}
const DELETED: u8 = 0xe5;
const DOTS: [&[u8; SHORT]; 2] = [b".          ", b"..         "];

/// A slot that holds a file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    raw: [u8; 32],
}

impl Entry {
    pub(super) const fn new(raw: [u8; 32]) -> Self {
        Self { raw }
    }

    fn short(&self) -> &[u8; SHORT] {
        self.raw.first_chunk().expect("32 bytes have eleven in front")
    }

    const fn attributes(&self) -> u8 {
        let [_, _, _, _, _, _, _, _, _, _, _, attributes, ..] = self.raw;
        attributes
    }

    pub(super) const fn has(&self, attribute: u8) -> bool {
        self.attributes() & attribute != 0
    }

    pub(super) const fn kind(&self) -> FileType {
        if self.has(attribute::DIR) { FileType::Dir } else { FileType::File }
    }

    fn is_free(&self) -> bool {
        matches!(self.raw.first(), Some(0 | &DELETED))
    }

    fn le16(&self, at: usize) -> u16 {
        get_le16(&self.raw, at).unwrap_or(0)
    }

    /// The first cluster; the upper half of its number is FAT32's alone.
    pub(super) fn first(&self, width: Width) -> u32 {
        let high = if width == Width::TwentyEight { u32::from(self.le16(20)) } else { 0 };
        high << 16 | u32::from(self.le16(26))
    }

    pub(super) fn size(&self) -> u64 {
        get_le32(&self.raw, 28).unwrap_or(0).into()
    }

    pub(super) fn modified(&self) -> Time {
        kernel_time(self.le16(24), self.le16(22), 0)
    }

    pub(super) fn accessed(&self) -> Time {
        kernel_time(self.le16(18), 0, 0)
    }

    pub(super) fn created(&self) -> Time {
        kernel_time(self.le16(16), self.le16(14), self.raw.get(13).copied().unwrap_or(0))
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, whose month counts from 1; other months and days count on.
pub(in crate::fs) fn days(year: i64, month: i64, day: i64) -> i64 {
    // A year that begins in March has its leap day at its end. (Howard Hinnant, "chrono-compatible low-level date algorithms")
    let since = month.saturating_sub(3);
    let year = year.saturating_add(since.div_euclid(12));
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = since.rem_euclid(12).saturating_mul(153).saturating_add(2).div_euclid(5);
    let leaps = of_era.div_euclid(4).saturating_sub(of_era.div_euclid(100));
    let of_era = of_era.saturating_mul(365).saturating_add(leaps).saturating_add(of_year);
    era.saturating_mul(146_097).saturating_add(of_era).saturating_add(day).saturating_sub(719_469)
}

/// Date and time of day as the kernel reads them: month 0 is January, and so are those behind December, but that the leap
/// day of their year has passed (`fat_time_fat2unix`).
fn kernel_time(date: u16, of_day: u16, hundredths: u8) -> Time {
    let is_month = date >> 5 & 15 <= 12;
    let january = if is_month { date } else { date & !(15 << 5) | 1 << 5 };
    let mut time = time(january, of_day, hundredths);
    let year = date >> 9;
    // 2100, 120 years behind the first, has no leap day.
    if !is_month && year.is_multiple_of(4) && year != 120 {
        time.secs = time.secs.saturating_add(86_400);
    }
    time
}

/// Date and time of day, two seconds in a unit, and hundredths. FAT keeps local time and not the zone; it is taken for
/// UTC. Months behind December count on, which is what the kernel makes of exFAT's.
pub(in crate::fs) fn time(date: u16, of_day: u16, hundredths: u8) -> Time {
    let [date, of_day, hundredths] = [date, of_day, hundredths.into()].map(i64::from);
    let (year, month, day) = (1980_i64.saturating_add(date >> 9), date >> 5 & 15, date & 31);
    let (hours, minutes, seconds) = (of_day >> 11, of_day >> 5 & 63, (of_day & 31).saturating_mul(2));
    // The kernel takes month 0 and day 0 for 1.
    let secs = days(year, month.max(1), day.max(1))
        .saturating_mul(24)
        .saturating_add(hours)
        .saturating_mul(60)
        .saturating_add(minutes)
        .saturating_mul(60)
        .saturating_add(seconds)
        .saturating_add(hundredths.div_euclid(100));
    let nanos = u32::try_from(hundredths.rem_euclid(100)).unwrap_or(0).saturating_mul(10_000_000);
    Time { secs, nanos }
}

/// A slot: its bytes, where it lies on the volume, and where in the directory the next one starts.
type SlotSink<'a> = dyn FnMut(&[u8; 32], u64, u64) -> ControlFlow<()> + 'a;

/// One file of a directory.
pub(super) struct Named<'a> {
    pub(super) ino: Ino,
    pub(super) entry: &'a Entry,
    /// As it is shown.
    pub(super) name: &'a [u8],
    /// The short name, where that is another.
    pub(super) alias: Option<&'a [u8]>,
    pub(super) next: u64,
}

impl Fat {
    /// The length of a directory, in bytes.
    ///
    /// # Errors
    /// `Corrupt` when its chain is broken.
    pub(super) fn dir_size(&self, dir: &Node) -> Result<u64> {
        match (dir, self.boot.root) {
            (Node::Root, Root::Fixed(_, len)) => Ok(len),
            (Node::Root, Root::Chain(first)) => self.chain_size(first),
            (Node::Entry(entry), _) => match entry.first(self.boot.width) {
                0 => Ok(0),
                first => self.chain_size(first),
            },
        }
    }

    fn chain_size(&self, first: u32) -> Result<u64> {
        let most = MOST.div_ceil(self.boot.cluster);
        Ok(self.table.length(&self.meta, first, most)?.saturating_mul(self.boot.cluster))
    }

    /// Hands over every slot of a directory that starts at byte `from` or later.
    fn slots(&self, dir: &Node, from: u64, sink: &mut SlotSink<'_>) -> Result<()> {
        let first = match (dir, self.boot.root) {
            (Node::Root, Root::Fixed(start, len)) => {
                return self.slots_of(start, 0, len, from, sink).map(|_| ());
            }
            (Node::Root, Root::Chain(first)) => first,
            (Node::Entry(entry), _) => entry.first(self.boot.width),
        };
        if first == 0 {
            return Ok(());
        }
        let mut reader = self.table.reader(&self.meta);
        let (mut cluster, mut base) = (first, 0_u64);
        loop {
            let end = base.saturating_add(self.boot.cluster);
            if end > from {
                let start = self.cluster_at(cluster)?;
                if self.slots_of(start, base, self.boot.cluster, from, sink)?.is_break() {
                    return Ok(());
                }
            }
            let at = At::new("vfat", "FAT entry").index(cluster.into());
            cluster = match reader.link(cluster)? {
                Link::Next(next) => next,
                Link::End => return Ok(()),
                Link::Broken(value) => {
                    return Err(Error::corrupt(at).because(format!("a directory leads to {value:#x}")));
                }
            };
            base = end;
            if base >= MOST.max(self.boot.cluster) {
                return Err(Error::corrupt(at).because(format!("a directory of more than {MOST} bytes")));
            }
        }
    }

    /// The slots of one stretch of the volume, which is the directory's from byte `base` on.
    fn slots_of(
        &self,
        start: u64,
        base: u64,
        len: u64,
        from: u64,
        sink: &mut SlotSink<'_>,
    ) -> Result<ControlFlow<()>> {
        let mut skip = (from.saturating_sub(base) / LOOK).saturating_mul(LOOK);
        while skip < len {
            let byte = start.saturating_add(skip);
            let bytes = self.meta.near(byte, LOOK.min(len.saturating_sub(skip)))?;
            for (n, slot) in bytes.chunks_exact(32).enumerate() {
                let at = wide(n).saturating_mul(SLOT);
                let place = base.saturating_add(skip).saturating_add(at);
                let Some(slot) = slot.first_chunk() else { continue };
                if place >= from && sink(slot, byte.saturating_add(at), place.saturating_add(SLOT)).is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
            skip = skip.saturating_add(LOOK);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Hands over every file of a directory.
    ///
    /// # Errors
    /// `Corrupt` where the directory is damaged; the files before have been handed over.
    pub(super) fn files(
        &self,
        dir: &Node,
        from: u64,
        sink: &mut dyn FnMut(Named<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut long = Long::default();
        self.slots(dir, from, &mut |slot, byte, next| {
            let entry = Entry::new(*slot);
            if entry.attributes() == attribute::LONG && slot.first() != Some(&DELETED) {
                long.piece(slot);
                return ControlFlow::Continue(());
            }
            if entry.is_free() || entry.has(attribute::LABEL) || DOTS.contains(&entry.short()) {
                long.reset();
                return ControlFlow::Continue(());
            }
            let long = long.take(entry.short());
            let Some(short) = short(entry.short(), slot.get(12).copied().unwrap_or(0)) else {
                return ControlFlow::Continue(());
            };
            let (name, alias) = match &long {
                Some(long) => (long.as_slice(), Some(short.as_slice())),
                None => (short.as_slice(), None),
            };
            sink(Named { ino: Ino(byte / SLOT), entry: &entry, name, alias, next })
        })
    }

    /// Directories in a directory, `.` and `..` among them where it has them.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be read to its end.
    pub(super) fn subdirectories(&self, dir: &Node) -> Result<u32> {
        let mut count = 0_u32;
        self.slots(dir, 0, &mut |slot, _, _| {
            let entry = Entry::new(*slot);
            if !entry.is_free() && entry.has(attribute::DIR) && !entry.has(attribute::LABEL) {
                count = count.saturating_add(1);
            }
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// The label in the root directory: the one that tools show and change.
    pub(super) fn label(&self) -> Option<Vec<u8>> {
        let mut label = None;
        let mut look = |slot: &[u8; 32], _, _| {
            let entry = Entry::new(*slot);
            if slot.first() == Some(&0) {
                return ControlFlow::Break(());
            }
            let is_label = entry.attributes() & (attribute::LABEL | attribute::DIR) == attribute::LABEL;
            let is_long = entry.attributes() & 0x3f == attribute::LONG;
            if entry.is_free() || is_long || !is_label || entry.first(Width::TwentyEight) != 0 {
                return ControlFlow::Continue(());
            }
            let mut name = entry.short().to_vec();
            if let Some(first @ 5) = name.first_mut() {
                *first = DELETED;
            }
            label = Some(name.trim_ascii_end().to_vec());
            ControlFlow::Break(())
        };
        // A root that cannot be read has no label; its own error comes when it is listed.
        self.slots(&Node::Root, 0, &mut look).ok()?;
        label
    }

    /// What a number stands for.
    ///
    /// # Errors
    /// `Corrupt` when there is no file in that slot.
    pub(super) fn node(&self, ino: Ino) -> Result<Node> {
        if ino == Ino(ROOT) {
            return Ok(Node::Root);
        }
        let byte = ino.0.saturating_mul(SLOT);
        let at = At::new("vfat", "directory entry").index(ino.0).byte(byte);
        let front = match self.boot.root {
            Root::Fixed(start, _) => start,
            Root::Chain(_) => self.boot.data,
        };
        if byte < front {
            return Err(Error::corrupt(at).because("lies in front of the directories"));
        }
        let bytes = self.meta.near(byte, SLOT).map_err(|error| error.at(at.clone()))?;
        let entry = bytes.first_chunk().copied().map(Entry::new);
        match entry {
            Some(entry) if !entry.is_free() && !entry.has(attribute::LABEL) => Ok(Node::Entry(entry)),
            _ => Err(Error::corrupt(at).because("no file is there")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_1970() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 2, 29), 11_016);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(1601, 1, 1), -134_774);
        // 2107-12-31 23:59:58 and 1.99 s: the last that FAT can say.
        assert_eq!(time(0xff9f, 0xbf7d, 199), Time { secs: 4_354_819_199, nanos: 990_000_000 });
        assert_eq!(time(0, 0, 0).secs, 315_532_800);
    }

    #[test]
    fn months_that_no_year_has_are_those_of_the_kernel() {
        // By its formula: (years * 365 + leap days before and in this year + 0 + day - 1 + 3652) * 86400.
        let date =
            |year: u16, month: u16, day: u16| kernel_time(year << 9 | month << 5 | day, 0, 0).secs / 86_400;
        assert_eq!(date(1, 13, 5), 365 + 1 + 4 + 3652);
        assert_eq!(date(4, 15, 1), 4 * 365 + 1 + 1 + 3652);
        assert_eq!(date(120, 14, 1), 120 * 365 + 30 + 3652);
        assert_eq!(date(4, 12, 31), 4 * 365 + 1 + 1 + 334 + 30 + 3652);
    }
}
