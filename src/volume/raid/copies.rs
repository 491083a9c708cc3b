//! Every chunk several times: raid10 with near, far and offset copies.

use super::{Array, Leg};
use crate::block::{BlockSource, Layout, Place, Run};
use crate::engine::Mapper;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use std::sync::Arc;

/// Copies of a chunk. mdadm takes any number; an array with more than four has not been seen.
const MAX_COPIES: u64 = 64;

/// Where copies lie: md's layout word, taken apart (`setup_geo` in `raid10.c`).
#[derive(Clone, Copy, Debug)]
struct Geometry {
    legs: u64,
    near: u64,
    far: u64,
    /// Far copies lie one chunk behind, not at the other end of the leg.
    offset: bool,
    /// Chunks from one far copy to the next.
    stride: u64,
    /// Far copies stay among so many legs.
    set: u64,
}

impl Geometry {
    fn new(layout: u32, legs: u64, leg_chunks: u64) -> Option<Self> {
        let [near, far, flags, high] = layout.to_le_bytes();
        let (near, far, offset) = (u64::from(near), u64::from(far), flags & 1 != 0);
        let copies = near.checked_mul(far).filter(|copies| (1..=legs.min(MAX_COPIES)).contains(copies))?;
        let set = match (flags >> 1, high) {
            (0, 0) => legs,
            (1, 0) => legs.checked_div(far)?,
            (2, 0) => copies,
            _ => return None,
        };
        let set = Some(set).filter(|set| *set > 0)?;
        let rows = leg_chunks.checked_div(far)?;
        // The stride is rounded up over the legs (`calc_sectors`).
        let used = rows.checked_mul(legs)?.checked_div(near)?.checked_mul(copies)?.div_ceil(legs.max(1));
        let stride = if offset { 1 } else { used.checked_div(far)? };
        Some(Self { legs, near, far, offset, stride, set })
    }

    /// Chunks in the array when each leg has so many.
    fn chunks(&self, leg_chunks: u64) -> Option<u64> {
        leg_chunks.checked_div(self.far)?.checked_mul(self.legs)?.checked_div(self.near)
    }

    /// Leg and chunk on it of every copy of a chunk, the first one first (`__raid10_find_phys`).
    fn find(&self, chunk: u64) -> Option<Vec<(u64, u64)>> {
        let first = chunk.checked_mul(self.near)?;
        let (mut leg, mut row) = (first.checked_rem(self.legs)?, first.checked_div(self.legs)?);
        if self.offset {
            row = row.checked_mul(self.far)?;
        }
        // The last set takes the legs that are left over.
        let last = self.legs.checked_div(self.set)?.checked_sub(1)?.checked_mul(self.set)?;
        let over = self.legs.checked_rem(self.set)?;
        let last_size = self.set.checked_add(over)?;
        let mut found = Vec::new();
        for _ in 0..self.near {
            let (mut at, mut deep) = (leg, row);
            found.push((at, deep));
            for _ in 1..self.far {
                let own = at.checked_div(self.set)?;
                at = at.checked_add(self.near)?;
                if over != 0 && at > last {
                    at = at.checked_sub(last)?.checked_rem(last_size)?.checked_add(last)?;
                } else {
                    at = at.checked_rem(self.set)?.checked_add(self.set.checked_mul(own)?)?;
                }
                deep = deep.checked_add(self.stride)?;
                found.push((at, deep));
            }
            leg = leg.checked_add(1)?;
            if leg >= self.legs {
                (leg, row) = (0, row.checked_add(1)?);
            }
        }
        Some(found)
    }
}

#[derive(Debug)]
struct Copies {
    geometry: Geometry,
    /// Those that are there, and for each leg its place among them.
    files: Vec<Arc<dyn BlockSource>>,
    places: Vec<Option<usize>>,
    chunk: u64,
    size: u64,
    who: &'static str,
}

/// Puts a raid10 together.
///
/// # Errors
/// `Unsupported` for a layout that Linux does not know either; `NotFound` when all copies of some chunk are missing.
pub(super) fn open(
    array: &Array,
    layout: u32,
    who: &'static str,
    mapper: &Mapper,
) -> Result<Arc<dyn BlockSource>> {
    let unknown =
        || Error::unsupported(format!("raid10 layout {layout:#x} over {} members", array.legs.len()));
    let legs = wide(array.legs.len());
    let leg_chunks = array.leg_len.checked_div(array.chunk).unwrap_or(0);
    let geometry = Geometry::new(layout, legs, leg_chunks).ok_or_else(unknown)?;
    let is_there = |(leg, _): &(u64, u64)| array.legs.get(narrow(*leg)).is_some_and(Option::is_some);
    // Which legs hold a chunk repeats after as many chunks as there are legs.
    for chunk in 0..legs {
        let copies = geometry.find(chunk).ok_or_else(unknown)?;
        if !copies.iter().any(is_there) {
            return Err(array.too_few("one copy of each chunk"));
        }
    }
    let size =
        geometry.chunks(leg_chunks).and_then(|chunks| chunks.checked_mul(array.chunk)).ok_or_else(unknown)?;
    let mut files = Vec::new();
    let mut place = |leg: &Leg| {
        leg.as_ref().map(|leg| {
            files.push(Arc::clone(leg));
            files.len().saturating_sub(1)
        })
    };
    let places = array.legs.iter().map(&mut place).collect();
    Ok(mapper.map(Copies { geometry, files, places, chunk: array.chunk, size, who }))
}

impl Layout for Copies {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let bad =
            || Error::corrupt(At::new(self.who, "chunk").byte(offset)).because("no copy of it is there");
        let number = offset.checked_div(self.chunk).ok_or_else(bad)?;
        let skip = offset.checked_rem(self.chunk).ok_or_else(bad)?;
        let copies = self.geometry.find(number).ok_or_else(bad)?;
        let live = |(leg, row): &(u64, u64)| Some((self.places.get(narrow(*leg)).copied()??, *row));
        let (file, row) = copies.iter().find_map(live).ok_or_else(bad)?;
        let at = row.checked_mul(self.chunk).and_then(|at| at.checked_add(skip)).ok_or_else(bad)?;
        Ok(Run { len: self.chunk.saturating_sub(skip), place: Place::Stored { file, offset: at } })
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(self.chunk).unwrap_or(u32::MAX)
    }
}
