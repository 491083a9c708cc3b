//! The devices of a file system that are there, and reading what they hold: from one copy, and where that fails or is
//! wrong, from the others, or computed from parity.

use super::chunk::{Chunks, Place, Stripe};
use super::raid56;
use super::superblock::Superblock;
use crate::block::BlockSource;
use crate::budget::Budget;
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::ondisk::uuid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One device.
#[derive(Debug)]
struct Device {
    source: Arc<dyn BlockSource>,
    /// Its place among those given.
    file: usize,
    uuid: [u8; 16],
    /// It missed commits that others have.
    is_stale: bool,
}

/// The devices that are there, and the names of those that are not.
#[derive(Debug, Default)]
pub(super) struct Devices {
    there: BTreeMap<u64, Device>,
    missing: BTreeMap<u64, String>,
}

/// What is wrong with bytes that were read, if something is: the start and length of the wrong part, and why.
pub(super) type Fault = (usize, usize, String);

impl Devices {
    /// Those given, each with its superblock; of the newest of these the file system is opened.
    ///
    /// # Errors
    /// `Ambiguous` when two say to be the same one.
    pub(super) fn new(
        given: Vec<(Arc<dyn BlockSource>, Superblock)>,
    ) -> Result<(Self, Superblock, Vec<String>)> {
        let newest = given.iter().map(|(_, sb)| sb).max_by_key(|sb| sb.generation).cloned();
        let newest =
            newest.ok_or_else(|| Error::new(ErrorKind::Internal, "a file system without a device"))?;
        let (mut devices, mut warnings) = (Self::default(), Vec::new());
        for (file, (source, sb)) in given.into_iter().enumerate() {
            let id = sb.device.id.get();
            let is_stale = sb.generation < newest.generation;
            if is_stale {
                warnings.push(format!(
                    "device {id} ({}) is older than the others (commit {} of {}): it is read where they have nothing",
                    uuid(&sb.device.uuid),
                    sb.generation,
                    newest.generation
                ));
            }
            let device = Device { source, file, uuid: sb.device.uuid, is_stale };
            if let Some(other) = devices.there.insert(id, device) {
                let message = format!(
                    "btrfs {}: two of the volumes say to be its device {id} ({} and {})",
                    newest.uuid(),
                    uuid(&other.uuid),
                    uuid(&sb.device.uuid)
                );
                return Err(Error::new(ErrorKind::Ambiguous, message)
                    .help("give only one of the two: a copy of a device carries the same identity"));
            }
        }
        Ok((devices, newest, warnings))
    }

    /// Learns that the file system has this device.
    pub(super) fn expect(&mut self, id: u64, id_uuid: [u8; 16]) {
        if self.there.get(&id).is_none_or(|device| device.uuid != id_uuid) {
            self.there.remove(&id);
            self.missing.insert(id, uuid(&id_uuid));
        }
    }

    /// One line for each device that is missing.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.missing.iter().map(|(id, uuid)| format!("device {id} ({uuid}) is missing"))
    }

    /// The first copy that can be read: its device's place among those given, and the byte on it.
    pub(super) fn first(&self, place: &Place) -> Option<(usize, u64)> {
        let stripe = self.sorted(place).into_iter().next()?;
        Some((self.there.get(&stripe.device)?.file, stripe.at))
    }

    /// The copies on devices that are there, those on stale ones last.
    fn sorted(&self, place: &Place) -> Vec<Stripe> {
        let there = |stripe: &&Stripe| self.there.contains_key(&stripe.device);
        let mut copies: Vec<Stripe> = place.copies.iter().filter(there).copied().collect();
        copies.sort_by_key(|stripe| self.there.get(&stripe.device).is_some_and(|device| device.is_stale));
        copies
    }

    fn read_stripe(&self, stripe: Stripe, skip: u64, buf: &mut [u8]) -> Result<()> {
        let device = self.there.get(&stripe.device).ok_or_else(|| self.gone(stripe.device))?;
        device.source.read_at(buf, stripe.at.saturating_add(skip))
    }

    fn gone(&self, id: u64) -> Error {
        let name = self.missing.get(&id).map(|uuid| format!(" ({uuid})")).unwrap_or_default();
        Error::new(ErrorKind::NotFound, format!("lies on device {id}{name} only, which is missing"))
            .help("give all devices of the file system")
    }

    /// Fills `buf` from logical byte `at` on, with bytes in which `check` finds no fault. `step` is the number of bytes
    /// that one checksum covers: what is wrong in one copy is taken from another in such pieces. What that costs is taken
    /// from `budget`.
    ///
    /// # Errors
    /// `Corrupt` with the address when every copy is wrong; what the devices report; the name of one that is missing.
    pub(super) fn read(
        &self,
        chunks: &Chunks,
        mut at: u64,
        mut buf: &mut [u8],
        step: u32,
        budget: &Budget,
        check: &dyn Fn(u64, &[u8]) -> Option<Fault>,
    ) -> Result<()> {
        while !buf.is_empty() {
            let place = chunks.locate(at)?;
            let len = narrow(place.len).min(buf.len());
            let (now, rest) = buf.split_at_mut(len);
            let here = at;
            let check = |skip: u64, bytes: &[u8]| check(here.saturating_add(skip), bytes);
            let ways = Ways { devices: self, copies: self.sorted(&place), place: &place, at: here, budget };
            let used = ways.any(now)?;
            ways.mend(used, now, step, &check)?;
            (buf, at) = (rest, at.saturating_add(wide(len)));
        }
        Ok(())
    }
}

/// The ways to get at the bytes of a place: its copies on devices that are there, and then the other members of its row.
struct Ways<'a> {
    devices: &'a Devices,
    copies: Vec<Stripe>,
    place: &'a Place,
    /// The logical byte.
    at: u64,
    budget: &'a Budget,
}

impl Ways<'_> {
    fn address(&self, skip: u64) -> At {
        At::new("btrfs", "logical address").byte(self.at.saturating_add(skip))
    }

    /// Fills `buf` in the first way that can be read, sound or not: which of the copies, if it was one.
    fn any(&self, buf: &mut [u8]) -> Result<Option<usize>> {
        let mut first = None;
        let mut keep = |error: Error| {
            let error = if error.place().is_some() { error } else { error.at(self.address(0)) };
            first.get_or_insert(error);
        };
        for (n, stripe) in self.copies.iter().enumerate() {
            match self.devices.read_stripe(*stripe, 0, buf) {
                Ok(()) => return Ok(Some(n)),
                Err(error) => keep(error),
            }
        }
        match self.compute(0, buf, &|_| true) {
            Ok(true) => return Ok(None),
            Ok(false) => {}
            Err(error) => keep(error),
        }
        let is_gone = |stripe: &&Stripe| !self.devices.there.contains_key(&stripe.device);
        let missing = self.place.copies.iter().find(is_gone);
        Err(first
            .or_else(|| missing.map(|stripe| self.devices.gone(stripe.device).at(self.address(0))))
            .unwrap_or_else(|| Error::corrupt(self.address(0)).because("has no place on any device")))
    }

    /// Takes what is wrong in bytes that came from copy `used` in the other ways, piece by piece.
    fn mend(
        &self,
        used: Option<usize>,
        buf: &mut [u8],
        step: u32,
        check: &dyn Fn(u64, &[u8]) -> Option<Fault>,
    ) -> Result<()> {
        let mut from = 0_usize;
        while let Some((start, len, why)) =
            buf.get(from..).filter(|rest| !rest.is_empty()).and_then(|rest| check(wide(from), rest))
        {
            let start = from.saturating_add(start);
            let piece = buf.get_mut(start..start.saturating_add(len)).unwrap_or_default();
            let skip = wide(start);
            let is_good = |bytes: &[u8]| check(skip, bytes).is_none();
            let mut others = self.copies.iter().enumerate().filter(|(n, _)| Some(*n) != used);
            let is_mended = others
                .any(|(_, stripe)| self.devices.read_stripe(*stripe, skip, piece).is_ok() && is_good(piece));
            let is_mended = is_mended
                || match self.compute(skip, piece, &is_good) {
                    Err(error) if error.kind() == ErrorKind::Limit => {
                        return Err(error.at(self.address(skip)));
                    }
                    result => result.unwrap_or(false),
                };
            if !is_mended {
                let is_only = self.copies.len() == 1 && self.place.row.is_none();
                let why = if is_only { why } else { format!("{why}, on every copy") };
                return Err(Error::corrupt(self.address(skip)).because(why));
            }
            from = start.saturating_add(len.max(narrow(step.into())));
        }
        Ok(())
    }

    /// Fills `buf` with bytes from `skip` on that are computed, and that `is_good` calls so.
    fn compute(&self, skip: u64, buf: &mut [u8], is_good: &dyn Fn(&[u8]) -> bool) -> Result<bool> {
        let Some(row) = &self.place.row else { return Ok(false) };
        let read = |stripe: Stripe, buf: &mut [u8]| {
            self.budget.step("reading what a row of stripes can be computed from")?;
            self.devices.read_stripe(stripe, skip, buf)
        };
        raid56::rebuild(row, buf, &read, is_good)
    }
}
