//! Stripes without redundancy: raid0 with its zones, and device-mapper's `striped`.

use super::check_chunk;
use crate::block::{BlockSource, Layout, Place, Run};
use crate::engine::Mapper;
use crate::error::{At, Error, Result};
use crate::num::wide;
use std::sync::Arc;

/// Legs of all zones together: enough for 250 that are all of different sizes.
const MAX_PLACES: usize = 32 << 10;

/// How chunks are dealt out behind the end of the shortest leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::volume) enum Zones {
    /// By the chunk's number in the array: Linux before 3.14 and since 5.4, `RAID0_ORIG_LAYOUT`.
    Original,
    /// By its number in the zone: Linux 3.14 to 5.3, `RAID0_ALT_MULTIZONE_LAYOUT`.
    Alternate,
    /// Nothing says which.
    Unknown,
}

/// A stretch of the array over the legs that are long enough for it.
#[derive(Debug)]
struct Zone {
    /// First byte in the array, and the first behind it.
    start: u64,
    end: u64,
    /// First byte on each leg.
    leg_start: u64,
    /// Which legs; they fit in 16 bits, as there are at most [`super::MAX_LEGS`].
    legs: Vec<u16>,
}

#[derive(Debug)]
struct Striped {
    legs: Vec<Arc<dyn BlockSource>>,
    zones: Vec<Zone>,
    chunk: u64,
    layout: Zones,
}

/// Legs with stripes over them, each of its own length; what is no whole chunk at a leg's end is left out.
///
/// # Errors
/// `Corrupt` for an impossible chunk; `Unsupported` when legs of unequal length meet an unknown layout.
pub(in crate::volume) fn striped(
    legs: Vec<Arc<dyn BlockSource>>,
    chunk: u64,
    layout: Zones,
    who: &'static str,
    mapper: &Mapper,
) -> Result<Arc<dyn BlockSource>> {
    check_chunk(who, chunk)?;
    let whole =
        |leg: &Arc<dyn BlockSource>| leg.len().saturating_sub(leg.len().checked_rem(chunk).unwrap_or(0));
    let lens: Vec<u64> = legs.iter().map(whole).collect();
    let mut zones: Vec<Zone> = Vec::new();
    let (mut start, mut leg_start, mut places) = (0_u64, 0, 0_usize);
    // Each zone ends where its shortest leg does, so there are no more zones than legs.
    while let Some(leg_end) = lens.iter().copied().filter(|len| *len > leg_start).min() {
        let longer = lens.iter().enumerate().filter(|(_, len)| **len > leg_start);
        let of: Vec<u16> = longer.filter_map(|(at, _)| u16::try_from(at).ok()).collect();
        places = places.saturating_add(of.len());
        if places > MAX_PLACES {
            return Err(Error::limit(format!(
                "a raid0 of {} members of too many different sizes",
                lens.len()
            )));
        }
        let size = leg_end.saturating_sub(leg_start).checked_mul(wide(of.len()));
        let end = size.and_then(|size| start.checked_add(size));
        let end =
            end.ok_or_else(|| Error::corrupt(At::new(who, "array")).because("it is larger than any disk"))?;
        zones.push(Zone { start, end, leg_start, legs: of });
        (start, leg_start) = (end, leg_end);
    }
    if zones.len() > 1 && layout == Zones::Unknown {
        return Err(Error::unsupported(
            "raid0 over members of unequal size without a layout in its superblock",
        )
        .help("Linux refuses it too: which of two layouts it has depends on the kernel that wrote it"));
    }
    Ok(mapper.map(Striped { legs, zones, chunk, layout }))
}

impl Layout for Striped {
    fn size(&self) -> u64 {
        self.zones.last().map_or(0, |zone| zone.end)
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.legs
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let bad = || Error::corrupt(At::new("raid0", "zone").byte(offset)).because("no leg holds it");
        let zone = self.zones.partition_point(|zone| zone.end <= offset);
        let zone = self.zones.get(zone).ok_or_else(bad)?;
        let inside = offset.saturating_sub(zone.start);
        let divide = |a: u64, b: u64| a.checked_div(b).zip(a.checked_rem(b)).ok_or_else(bad);
        let (number, skip) = divide(inside, self.chunk)?;
        let (row, _) = divide(number, wide(zone.legs.len()))?;
        let counted = if self.layout == Zones::Original { divide(offset, self.chunk)?.0 } else { number };
        let (_, column) = divide(counted, wide(zone.legs.len()))?;
        let file = usize::from(*zone.legs.get(crate::num::narrow(column)).ok_or_else(bad)?);
        let at = zone.leg_start.saturating_add(row.saturating_mul(self.chunk)).saturating_add(skip);
        Ok(Run { len: self.chunk.saturating_sub(skip), place: Place::Stored { file, offset: at } })
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(self.chunk).unwrap_or(u32::MAX)
    }
}
