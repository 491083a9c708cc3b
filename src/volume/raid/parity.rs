//! Stripes with parity: raid4, raid5, raid6. What a missing leg held is worked out from the others as it is read.

use super::{Array, Leg, Shape};
use crate::block::{Below, BlockSource, Layout, Place, Run, Step, check_range};
use crate::engine::Mapper;
use crate::error::{At, Error, Result};
use crate::galois::{add, add_scaled, inverse, power, table};
use crate::num::{narrow, wide};
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

/// Bytes of a missing leg worked out at a time.
const PIECE: usize = 64 << 10;

/// What may be read for each byte that is worked out. A leg that is itself an array without a leg multiplies the work, and
/// so on; with one such array inside another this is far from reached.
const MAX_READ: u64 = 4096;

thread_local! {
    /// Bytes that what is being worked out on this thread may still read, in all layers together.
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The right to read for one piece; whoever is asked on its behalf shares it.
struct Allowance {
    is_outermost: bool,
}

impl Allowance {
    fn take(piece: usize) -> Self {
        let is_outermost = LEFT.get().is_none();
        if is_outermost {
            LEFT.set(Some(wide(piece).max(4096).saturating_mul(MAX_READ)));
        }
        Self { is_outermost }
    }

    fn spend(len: usize) -> bool {
        let left = LEFT.get().and_then(|left| left.checked_sub(wide(len).max(512)));
        left.inspect(|left| LEFT.set(Some(*left))).is_some()
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if self.is_outermost {
            LEFT.set(None);
        }
    }
}

/// Where the chunks of a stripe lie (`raid5_compute_sector` in `raid5.c`).
#[derive(Clone, Copy, Debug)]
struct Geometry {
    shape: Shape,
    legs: u64,
    chunk: u64,
}

/// The legs of a stripe that hold no data, and how the second parity counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Roles {
    p: u64,
    q: Option<u64>,
    /// Q counts the legs from the first one on, parities included as zeros, as the DDF specification does.
    ddf: bool,
}

impl Geometry {
    const fn parities(&self) -> u64 {
        match self.shape {
            Shape::Double(_) => 2,
            _ => 1,
        }
    }

    const fn data(&self) -> u64 {
        self.legs.saturating_sub(self.parities())
    }

    /// Which legs hold the parity of a stripe, and on which leg its data chunk `number` lies. `None` for an algorithm
    /// without a name.
    fn find(&self, stripe: u64, number: u64) -> Option<(Roles, u64)> {
        let (legs, data, last) = (self.legs, self.data(), self.legs.checked_sub(1)?);
        let turn = |by: u64| stripe.checked_rem(by);
        let down = |from: u64, by: u64| from.checked_sub(turn(by)?);
        // Data before the parity stays, data behind it moves on; or it begins behind the parity.
        let around = |at: u64| if number >= at { number.saturating_add(1) } else { number };
        let behind = |at: u64, by: u64| at.checked_add(number)?.checked_rem(by);
        let single = |p: u64, at: u64| Some((Roles { p, q: None, ddf: false }, at));
        let double = |p: u64, q: u64, at: u64, ddf: bool| Some((Roles { p, q: Some(q), ddf }, at));
        // Asymmetric raid6: P, and Q on the next leg; at the last leg Q goes to the first.
        let pair = |p: u64, ddf: bool| {
            if p == last {
                double(p, 0, number.saturating_add(1), ddf)
            } else {
                let at = if number >= p { number.saturating_add(2) } else { number };
                double(p, p.saturating_add(1), at, ddf)
            }
        };
        match self.shape {
            Shape::Single(0) => down(data, legs).and_then(|p| single(p, around(p))),
            Shape::Single(1) => turn(legs).and_then(|p| single(p, around(p))),
            Shape::Single(2) => {
                let p = down(data, legs)?;
                single(p, behind(p.saturating_add(1), legs)?)
            }
            Shape::Single(3) => {
                let p = turn(legs)?;
                single(p, behind(p.saturating_add(1), legs)?)
            }
            Shape::Single(4) => single(0, number.saturating_add(1)),
            Shape::Single(5) => single(data, number),
            Shape::Double(0) => pair(down(last, legs)?, false),
            Shape::Double(1) => pair(turn(legs)?, false),
            Shape::Double(2 | 3) => {
                let p = if self.shape == Shape::Double(2) { down(last, legs)? } else { turn(legs)? };
                let q = p.saturating_add(1).checked_rem(legs)?;
                double(p, q, behind(p.saturating_add(2), legs)?, false)
            }
            Shape::Double(4) => double(0, 1, number.saturating_add(2), false),
            Shape::Double(5) => double(data, data.saturating_add(1), number, false),
            Shape::Double(8) => pair(turn(legs)?, true),
            Shape::Double(9) => pair(last.checked_sub(stripe.saturating_add(1).checked_rem(legs)?)?, true),
            Shape::Double(10) => {
                let p = down(last, legs)?;
                double(p, p.checked_add(last)?.checked_rem(legs)?, behind(p.saturating_add(1), legs)?, true)
            }
            // Raid5 over all legs but the last, which has Q.
            Shape::Double(16) => down(data, last).and_then(|p| double(p, last, around(p), false)),
            Shape::Double(17) => turn(last).and_then(|p| double(p, last, around(p), false)),
            Shape::Double(18 | 19) => {
                let p = if self.shape == Shape::Double(18) { down(data, last)? } else { turn(last)? };
                double(p, last, behind(p.saturating_add(1), last)?, false)
            }
            Shape::Double(20) => double(0, last, number.saturating_add(1), false),
            _ => None,
        }
    }

    /// The data legs of a stripe, each with the power of the generator that Q takes it by (`raid6_idx_to_slot`).
    fn slots(&self, roles: Roles) -> Vec<(u64, u64)> {
        let is_data = |leg: &u64| *leg != roles.p && Some(*leg) != roles.q;
        if roles.ddf {
            return (0..self.legs).filter(is_data).map(|leg| (leg, leg)).collect();
        }
        // Counted from the leg behind Q on.
        let first = roles.q.map_or(0, |q| q.saturating_add(1));
        let turned = (0..self.legs).filter_map(|at| first.checked_add(at)?.checked_rem(self.legs));
        turned.filter(is_data).zip(0..).collect()
    }
}

/// An array with every data leg in its place, those missing worked out.
#[derive(Debug)]
struct Parity {
    geometry: Geometry,
    files: Vec<Arc<dyn BlockSource>>,
    size: u64,
    who: &'static str,
}

/// Puts a raid4, raid5 or raid6 together.
///
/// # Errors
/// `Unsupported` for a layout without a name; `NotFound` when more legs are missing than there are parities.
pub(super) fn open(array: Array, who: &'static str, mapper: &Mapper) -> Result<Arc<dyn BlockSource>> {
    let geometry = Geometry { shape: array.shape, legs: wide(array.legs.len()), chunk: array.chunk };
    if geometry.legs <= geometry.parities() || geometry.find(0, 0).is_none() {
        let (Shape::Single(number) | Shape::Double(number) | Shape::Copies(number)) = array.shape else {
            return Err(array.too_few("more"));
        };
        let level = if geometry.parities() == 2 { "raid6" } else { "raid5" };
        return Err(Error::unsupported(format!("{level} layout {number} over {} members", geometry.legs)));
    }
    if wide(array.missing()) > geometry.parities() {
        return Err(array.too_few(&format!("{} or more", geometry.data())));
    }
    let rows = array.leg_len.checked_div(array.chunk).unwrap_or(0);
    let leg_len = rows.saturating_mul(array.chunk);
    let size = leg_len.checked_mul(geometry.data());
    let size =
        size.ok_or_else(|| Error::corrupt(At::new(who, "array")).because("it is larger than any disk"))?;
    let legs = Arc::new(array.legs);
    let file = |(at, leg): (usize, &Leg)| match leg {
        Some(leg) => Arc::clone(leg),
        None => Arc::new(Lost { geometry, legs: Arc::clone(&legs), number: wide(at), len: leg_len, who }),
    };
    let files = legs.iter().enumerate().map(file).collect();
    Ok(mapper.map(Parity { geometry, files, size, who }))
}

impl Layout for Parity {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let bad = || Error::corrupt(At::new(self.who, "stripe").byte(offset)).because("it has no place");
        let chunk = self.geometry.chunk;
        let (number, skip) = offset.checked_div(chunk).zip(offset.checked_rem(chunk)).ok_or_else(bad)?;
        let data = self.geometry.data();
        let (stripe, column) = number.checked_div(data).zip(number.checked_rem(data)).ok_or_else(bad)?;
        let (_, leg) = self.geometry.find(stripe, column).ok_or_else(bad)?;
        let at = stripe.saturating_mul(chunk).saturating_add(skip);
        Ok(Run { len: chunk.saturating_sub(skip), place: Place::Stored { file: narrow(leg), offset: at } })
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(self.geometry.chunk).unwrap_or(u32::MAX)
    }
}

/// A leg that is missing, as the others remember it.
struct Lost {
    geometry: Geometry,
    legs: Arc<Vec<Leg>>,
    number: u64,
    len: u64,
    who: &'static str,
}

impl fmt::Debug for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lost({} {})", self.who, self.number)
    }
}

impl Lost {
    fn bad(&self, offset: u64, why: &str) -> Error {
        Error::corrupt(At::new(self.who, "missing member").index(self.number).byte(offset)).because(why)
    }

    fn leg(&self, number: u64) -> Option<&Arc<dyn BlockSource>> {
        self.legs.get(narrow(number))?.as_ref()
    }

    /// Adds up what `legs` hold at `offset`, each times its factor.
    fn sum(&self, sum: &mut [u8], offset: u64, legs: impl Iterator<Item = (u64, u8)>) -> Result<()> {
        let mut own = vec![0; sum.len()];
        for (leg, factor) in legs {
            let source = self.leg(leg).ok_or_else(|| self.bad(offset, "another member is missing too"))?;
            if !Allowance::spend(own.len()) {
                return Err(Error::limit(
                    "raid: arrays inside each other that all lack a member multiply the work too much",
                ));
            }
            source.read_at(&mut own, offset)?;
            if factor == 1 { add(sum, &own) } else { add_scaled(sum, &own, &table(factor)) }
        }
        Ok(())
    }

    /// Works out bytes within one stripe.
    fn piece(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        buf.fill(0);
        let geometry = &self.geometry;
        let stripe = offset.checked_div(geometry.chunk).unwrap_or(0);
        let (roles, _) =
            geometry.find(stripe, 0).ok_or_else(|| self.bad(offset, "its stripe has no place"))?;
        let Some(q) = roles.q else {
            let others = (0..geometry.legs).filter(|leg| *leg != self.number);
            return self.sum(buf, offset, others.map(|leg| (leg, 1)));
        };
        let slots = geometry.slots(roles);
        let others = |but: u64| {
            let own = self.number;
            slots.iter().copied().filter(move |(leg, _)| *leg != own && *leg != but)
        };
        let plain = |(leg, _): (u64, u64)| (leg, 1);
        let scaled = |(leg, slot): (u64, u64)| (leg, power(slot));
        let slot_of = |leg: u64| slots.iter().find(|(other, _)| *other == leg).map(|(_, slot)| *slot);
        let lost =
            slots.iter().map(|(leg, _)| *leg).find(|leg| *leg != self.number && self.leg(*leg).is_none());
        let Some(own) = slot_of(self.number) else {
            // A parity, which nobody reads but who looks at the leg as such.
            return if self.number == q {
                self.sum(buf, offset, others(u64::MAX).map(scaled))
            } else {
                self.sum(buf, offset, others(u64::MAX).map(plain))
            };
        };
        match lost.and_then(|leg| Some((leg, slot_of(leg)?))) {
            None if self.leg(roles.p).is_some() => {
                self.sum(buf, offset, others(u64::MAX).map(plain).chain([(roles.p, 1)]))
            }
            None => {
                self.sum(buf, offset, others(u64::MAX).map(scaled).chain([(q, 1)]))?;
                scale(buf, inverse(power(own)));
                Ok(())
            }
            // Two data legs x and y: P gives x + y, Q gives g^x·x + g^y·y.
            Some((leg, other)) => {
                self.sum(buf, offset, others(leg).map(scaled).chain([(q, 1)]))?;
                let mut plain_sum = vec![0; buf.len()];
                self.sum(&mut plain_sum, offset, others(leg).map(plain).chain([(roles.p, 1)]))?;
                add_scaled(buf, &plain_sum, &table(power(other)));
                scale(buf, inverse(power(own) ^ power(other)));
                Ok(())
            }
        }
    }
}

fn scale(buf: &mut [u8], by: u8) {
    let table = table(by);
    for byte in buf {
        *byte = table.get(usize::from(*byte)).copied().unwrap_or(0);
    }
}

impl BlockSource for Lost {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        while !buf.is_empty() {
            let left =
                self.geometry.chunk.saturating_sub(offset.checked_rem(self.geometry.chunk).unwrap_or(0));
            let (now, rest) = buf.split_at_mut(narrow(left).clamp(1, PIECE).min(buf.len()));
            let allowance = Allowance::take(now.len());
            self.piece(now, offset)?;
            drop(allowance);
            offset = offset.saturating_add(wide(now.len()));
            buf = rest;
        }
        Ok(())
    }

    fn step(&self, offset: u64) -> Result<Step> {
        check_range(offset, 1, self.len)?;
        Ok(Step { len: self.len.saturating_sub(offset), below: Below::Computed })
    }
}
