//! The devices of a file system that are there, and reading what they hold: from one copy, and where that fails or is
//! wrong, from the others, or computed from parity.

use super::chunk::{Chunks, Place, Row, Stripe};
use super::raid56;
use super::superblock::Superblock;
use crate::block::BlockSource;
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
    /// that one checksum covers: what is wrong in one copy is taken from another in such pieces.
    ///
    /// # Errors
    /// `Corrupt` with the address when every copy is wrong; what the devices report; the name of one that is missing.
    pub(super) fn read(
        &self,
        chunks: &Chunks,
        mut at: u64,
        mut buf: &mut [u8],
        step: u32,
        check: &dyn Fn(u64, &[u8]) -> Option<Fault>,
    ) -> Result<()> {
        while !buf.is_empty() {
            let place = chunks.locate(at)?;
            let len = narrow(place.len).min(buf.len());
            let (now, rest) = buf.split_at_mut(len);
            let here = at;
            self.read_place(&place, here, now, step, &|skip, bytes| check(here.saturating_add(skip), bytes))?;
            (buf, at) = (rest, at.saturating_add(wide(len)));
        }
        Ok(())
    }

    fn read_place(
        &self,
        place: &Place,
        at: u64,
        buf: &mut [u8],
        step: u32,
        check: &dyn Fn(u64, &[u8]) -> Option<Fault>,
    ) -> Result<()> {
        let copies = self.sorted(place);
        let mut ways: Vec<Way<'_>> = copies.into_iter().map(Way::Copy).collect();
        if let Some(row) = &place.row {
            ways.extend(raid56::ways(row).map(|lost| Way::Computed(row, lost)));
        }
        let address = || At::new("btrfs", "logical address").byte(at);
        let mut last = None;
        let missing = place.copies.iter().find(|stripe| !self.there.contains_key(&stripe.device));
        for (n, way) in ways.iter().enumerate() {
            if let Err(error) = self.take(way, 0, buf) {
                last.get_or_insert(match error.place() {
                    Some(_) => error,
                    None => error.at(address()),
                });
                continue;
            }
            return self.mend(&ways, n, at, buf, step, check);
        }
        Err(last
            .or_else(|| missing.map(|stripe| self.gone(stripe.device).at(address())))
            .unwrap_or_else(|| Error::corrupt(address()).because("has no place on any device")))
    }

    /// Takes what is wrong in bytes that were read in way `used` from the other ways, piece by piece.
    fn mend(
        &self,
        ways: &[Way<'_>],
        used: usize,
        at: u64,
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
            let mut others = ways.iter().enumerate().filter(|(n, _)| *n != used);
            if !others.any(|(_, way)| self.take(way, skip, piece).is_ok() && check(skip, piece).is_none()) {
                let why = if ways.len() == 1 { why } else { format!("{why}, on every copy") };
                let place = At::new("btrfs", "logical address").byte(at.saturating_add(skip));
                return Err(Error::corrupt(place).because(why));
            }
            from = start.saturating_add(len.max(narrow(step.into())));
        }
        Ok(())
    }

    fn take(&self, way: &Way<'_>, skip: u64, buf: &mut [u8]) -> Result<()> {
        match way {
            Way::Copy(stripe) => self.read_stripe(*stripe, skip, buf),
            Way::Computed(row, lost) => {
                raid56::compute(row, *lost, buf, &|stripe, buf| self.read_stripe(stripe, skip, buf))
            }
        }
    }
}

/// A way to get at the bytes of a place.
enum Way<'a> {
    /// They lie there.
    Copy(Stripe),
    /// They are computed from the row, without this other member.
    Computed(&'a Row, Option<usize>),
}
