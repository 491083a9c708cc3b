//! Compressed values: `$DATA` of files that are marked so. Every 16 clusters are a compression unit, and how many of them
//! are there says what they hold.
//!
//! ```text
//!   clusters  ┌────────────────┐┌─────···········┐┌················┐
//!             └────────────────┘└─────···········┘└················┘
//!              all: as they are  some, then holes:   none: zeros
//!                                packed by LZNT1
//! ```
//! Facts: linux-ntfs project, "NTFS documentation", "Compression"; ntfs-3g, `libntfs-3g/compress.c`.

use super::attribute::{Attribute, Body, NonResident, flag};
use super::file::{File, Mapping};
use super::packed::{Packer, Piece, Reader, Unit};
use super::volume::Volume;
use crate::block::{Place, Run};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

/// The one method that there is, in the low byte of an attribute's flags.
const LZNT1: u16 = 1;
/// A unit has as many bytes as a chunk, at least.
const MIN_UNIT: u64 = wide(super::lznt1::CHUNK);
/// The largest unit accepted, in bytes: 16 clusters of 64 KiB. Windows packs with clusters up to 4 KiB.
const MAX_UNIT: u64 = 1 << 20;

/// What a unit is called in the cache: where all of it lies and how long it is. Of damaged files one may begin where another
/// does and go on elsewhere.
fn key(stored: &[Range<u64>], len: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (stored, len).hash(&mut hasher);
    hasher.finish()
}

/// What is the same for all units of a value.
struct Units<'a> {
    volume: &'a Volume,
    file: &'a File,
    body: &'a NonResident,
    mapping: Mapping<'a>,
    /// Clusters in a unit, as a power of two.
    log: u32,
}

impl<'a> Units<'a> {
    /// # Errors
    /// `Unsupported` for another method or a unit that is too large.
    fn of(volume: &'a Volume, file: &'a File, attribute: &'a Attribute) -> Result<Self> {
        let Body::NonResident(body) = &attribute.body else {
            return Err(Error::corrupt(file.at()).because("a compressed value that is resident"));
        };
        let method = attribute.flags & flag::COMPRESSED;
        if method != LZNT1 {
            return Err(Error::unsupported(format!("NTFS compression method {method}")).at(file.at()));
        }
        let log = u32::from(body.unit);
        let size = 1_u64.checked_shl(log.saturating_add(volume.boot.cluster_log)).unwrap_or(u64::MAX);
        if !(MIN_UNIT..=MAX_UNIT).contains(&size) {
            return Err(Error::unsupported(format!("an NTFS compression unit of {size} bytes")).at(file.at()));
        }
        Ok(Self { volume, file, body, mapping: Mapping::new(volume, file, attribute, body), log })
    }

    /// Bytes of a unit, as a power of two.
    const fn byte_log(&self) -> u32 {
        self.log.saturating_add(self.volume.boot.cluster_log)
    }

    /// Adds the pieces of unit `number`.
    ///
    /// # Errors
    /// `Corrupt` when a cluster is mapped nowhere, or one follows a hole.
    fn add(&mut self, number: u64, pieces: &mut Vec<Piece>) -> Result<()> {
        let first = number << self.log;
        let end = first.saturating_add(1 << self.log);
        let cluster_log = self.volume.boot.cluster_log;
        let mut stored: Vec<Range<u64>> = Vec::new();
        let mut has_hole = false;
        let mut vcn = first;
        while vcn < end {
            let stretch = self.mapping.at(vcn)?;
            let clusters = stretch.clusters.min(end.saturating_sub(vcn));
            match stretch.lcn {
                Some(_) if has_hole => {
                    return Err(Error::corrupt(self.file.at()).because(format!(
                        "cluster {vcn} is stored behind a hole of the same compression unit"
                    )));
                }
                Some(lcn) => stored.push(lcn << cluster_log..lcn.saturating_add(clusters) << cluster_log),
                None => has_hole = true,
            }
            vcn = vcn.saturating_add(clusters.max(1));
        }
        let size = 1 << self.byte_log();
        if !has_hole {
            for part in stored {
                let piece = Piece::Plain { at: part.start, len: part.end.saturating_sub(part.start) };
                piece.add_to(pieces);
            }
        } else if let Some(start) = stored.first().map(|part| part.start) {
            // Behind the value's end there may be anything.
            let left = self.body.initialized.saturating_sub(number << self.byte_log());
            let len = narrow(left.next_multiple_of(MIN_UNIT).min(size));
            let at = At::new("ntfs", "compression unit").index(number).byte(start);
            let unit = Unit { key: Some(key(&stored, len)), packer: Packer::Lznt1, stored, len, at };
            Piece::Packed(Arc::new(unit)).add_to(pieces);
        } else {
            Piece::Zeros(size).add_to(pieces);
        }
        Ok(())
    }
}

/// Fills `buf`, which ends at the value's end at the latest, from an attribute that is compressed.
///
/// # Errors
/// `Corrupt` when the mapping or a unit is damaged; `Unsupported` as said in [`Units::of`].
pub(super) fn read(
    volume: &Volume,
    file: &File,
    attribute: &Attribute,
    buf: &mut [u8],
    offset: u64,
) -> Result<()> {
    let mut units = Units::of(volume, file, attribute)?;
    let written = narrow(units.body.initialized.saturating_sub(offset)).min(buf.len());
    let (buf, behind) = buf.split_at_mut(written);
    behind.fill(0);
    if buf.is_empty() {
        return Ok(());
    }
    let first = offset >> units.byte_log();
    let last = offset.saturating_add(wide(buf.len())).saturating_sub(1) >> units.byte_log();
    let mut pieces = Vec::new();
    for number in first..=last {
        units.add(number, &mut pieces)?;
    }
    let skip = offset.saturating_sub(first << units.byte_log());
    let read = |buf: &mut [u8], at: u64| volume.meta.volume().read_at(buf, at);
    Reader { units: &volume.packed.compressed, read: &read }.fill(&pieces, buf, skip)
}

/// Where the byte at `offset` of such a value lies, which is before its end.
///
/// # Errors
/// As [`read`].
pub(super) fn run(volume: &Volume, file: &File, attribute: &Attribute, offset: u64) -> Result<Run> {
    let mut units = Units::of(volume, file, attribute)?;
    let Some(written) = units.body.initialized.checked_sub(offset).filter(|written| *written > 0) else {
        return Ok(Run { len: units.body.size.saturating_sub(offset), place: Place::Zero });
    };
    let number = offset >> units.byte_log();
    let mut pieces = Vec::new();
    units.add(number, &mut pieces)?;
    let mut skip = offset.saturating_sub(number << units.byte_log());
    for piece in pieces {
        let (len, place) = match piece {
            Piece::Zeros(len) => (len, Place::Hole),
            Piece::Plain { at, len } => {
                (len, Place::Stored { file: 0, offset: at.saturating_add(skip.min(len)) })
            }
            Piece::Packed(unit) => {
                let start = unit.stored.first().map_or(0, |part| part.start);
                let stored = unit.stored_len();
                (wide(unit.len), Place::Packed { file: 0, offset: start, stored, unit: number, skip })
            }
        };
        if let Some(left) = len.checked_sub(skip).filter(|left| *left > 0) {
            return Ok(Run { len: left.min(written), place });
        }
        skip = skip.saturating_sub(len);
    }
    Err(Error::corrupt(file.at()).because("a compression unit that is too short"))
}
