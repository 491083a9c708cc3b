//! Chunks: stretches of the file system's own address space, and on which devices their bytes lie.
//!
//! ```text
//! logical byte ─▶ chunk that holds it ─▶ stripe, row ─▶ device, byte: once, or a copy on each of several devices
//! ```
//! Everything in a file system is addressed by logical bytes. The superblock names the chunks that the tree of chunks
//! lies in, that tree names all others.
//!
//! btrfs on-disk format, "CHUNK_ITEM"; how profiles lay stripes out follows the kernel's `fs/btrfs/volumes.c`.

use super::key::{Key, kind};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of an item before its stripes, and of each stripe.
const HEADER: usize = 48;
const STRIPE: usize = 32;
/// Bytes of a stripe before the next device's begins: the only value that has ever been written.
pub(super) const STRIPE_LEN: u64 = 64 << 10;
/// Stripes of data in a row with two parities: the field that Q is reckoned in tells no more of them apart.
const MAX_ROW: u16 = 255;
/// Stripes of all chunks together: a petabyte in chunks of a gibibyte.
const MAX_STRIPES: usize = 1 << 20;

/// How a chunk's bytes lie on its devices: the bits of `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    /// Every stripe is a copy of the whole: single, DUP, RAID1, RAID1C3, RAID1C4.
    Copies,
    /// Stripes one after the other: RAID0; with so many copies of each: RAID10.
    Striped(u64),
    /// Stripes one after the other, and in each row so many with parity: RAID5, RAID6.
    Parity(u64),
}

/// One of a chunk's places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stripe {
    /// Number of the device.
    pub(super) device: u64,
    /// Byte on it.
    pub(super) at: u64,
}

#[derive(Clone, Debug)]
struct Chunk {
    len: u64,
    profile: Profile,
    stripes: Vec<Stripe>,
}

/// All that is known of the address space.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    by_start: BTreeMap<u64, Chunk>,
    stripes: usize,
}

/// Where the bytes from a logical byte on lie.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// So many bytes lie together.
    pub(super) len: u64,
    /// So many bytes of its chunk come before it.
    pub(super) into: u64,
    /// Each holds all of them.
    pub(super) copies: Vec<Stripe>,
    /// What the only copy can be computed from, where there is parity.
    pub(super) row: Option<Row>,
}

/// A row of RAID5 or RAID6: what lies at the same place of the row's stripes.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The stripes of data in their order, then P, then Q with RAID6.
    pub(super) members: Vec<Stripe>,
    /// How many of them are data.
    pub(super) data: usize,
    /// Which of them is asked for.
    pub(super) wanted: usize,
}

impl Chunks {
    /// Learns the chunks of the superblock's array: keys and items, one behind the other.
    ///
    /// # Errors
    /// `Corrupt` when one is torn or makes no sense.
    pub(super) fn add_array(&mut self, array: &[u8], sector: u32) -> Result<()> {
        let bad = |at: usize, why: &str| {
            Error::corrupt(At::new("btrfs", "sys_chunk_array of the superblock"))
                .because(format!("byte {at}: {why}"))
        };
        let mut here = 0_usize;
        while here < array.len() {
            let key = Key::parse(array, here).ok_or_else(|| bad(here, "a torn key"))?;
            if key.kind != kind::CHUNK {
                return Err(bad(here, "a key that is no chunk's"));
            }
            let item = array.get(here.saturating_add(Key::SIZE)..).unwrap_or_default();
            let count = usize::from(get_le16(item, 44).ok_or_else(|| bad(here, "a torn chunk"))?);
            let size = HEADER.saturating_add(count.saturating_mul(STRIPE));
            let item = item.get(..size).ok_or_else(|| bad(here, "a chunk that goes past the end"))?;
            self.add(key.offset, item, sector)?;
            here = here.saturating_add(Key::SIZE).saturating_add(size);
        }
        Ok(())
    }

    /// Learns the chunk that starts at logical byte `start`.
    ///
    /// # Errors
    /// `Corrupt` when it makes no sense or overlaps another; `Limit` for too many.
    pub(super) fn add(&mut self, start: u64, item: &[u8], sector: u32) -> Result<()> {
        let chunk = parse(start, item, sector)?;
        if self.by_start.contains_key(&start) {
            // Those of the superblock stand in the tree of chunks too.
            return Ok(());
        }
        let end = start.saturating_add(chunk.len);
        let before = self.by_start.range(..start).next_back();
        if before.is_some_and(|(at, other)| at.saturating_add(other.len) > start)
            || self.by_start.range(start..end).next().is_some()
        {
            return Err(Error::corrupt(place(start)).because("overlaps another chunk"));
        }
        self.stripes = self.stripes.saturating_add(chunk.stripes.len());
        if self.stripes > MAX_STRIPES {
            return Err(Error::limit(format!("chunks with more than {MAX_STRIPES} stripes together")));
        }
        self.by_start.insert(start, chunk);
        Ok(())
    }

    /// Where the byte at `logical` lies, and how many after it lie there too.
    ///
    /// # Errors
    /// `Corrupt` when no chunk holds it.
    pub(super) fn locate(&self, logical: u64) -> Result<Place> {
        let holds = |(start, chunk): &(&u64, &Chunk)| logical.saturating_sub(**start) < chunk.len;
        let found = self.by_start.range(..=logical).next_back().filter(holds);
        let (start, chunk) = found.ok_or_else(|| {
            Error::corrupt(At::new("btrfs", "logical address").byte(logical)).because("lies in no chunk")
        })?;
        let into = logical.saturating_sub(*start);
        let left = chunk.len.saturating_sub(into);
        let count = wide(chunk.stripes.len());
        // `parse` made sure that no divisor is 0, that every row is whole and that no sum overflows.
        let (nr, skip) = (into.div_euclid(STRIPE_LEN), into.rem_euclid(STRIPE_LEN));
        let in_stripe = left.min(STRIPE_LEN.saturating_sub(skip));
        let nth = |n: u64| chunk.stripes.get(narrow(n)).copied();
        let shifted = |stripe: Stripe, by: u64| Stripe { at: stripe.at.saturating_add(by), ..stripe };
        Ok(match chunk.profile {
            Profile::Copies => {
                let copies = chunk.stripes.iter().map(|stripe| shifted(*stripe, into)).collect();
                Place { len: left, into, copies, row: None }
            }
            Profile::Striped(each) => {
                let groups = count.checked_div(each).unwrap_or(1).max(1);
                let (row, group) = (nr.div_euclid(groups), nr.rem_euclid(groups));
                let by = row.saturating_mul(STRIPE_LEN).saturating_add(skip);
                let first = group.saturating_mul(each);
                let copies = (first..first.saturating_add(each)).filter_map(nth);
                let copies = copies.map(|s| shifted(s, by)).collect();
                Place { len: in_stripe, into, copies, row: None }
            }
            Profile::Parity(parity) => {
                let data = count.saturating_sub(parity).max(1);
                let (row, wanted) = (nr.div_euclid(data), nr.rem_euclid(data));
                let by = row.saturating_mul(STRIPE_LEN).saturating_add(skip);
                // Each row begins one device further than the one before.
                let turned = |n: u64| n.saturating_add(row).checked_rem(count).unwrap_or(0);
                let members: Vec<Stripe> =
                    (0..count).filter_map(|n| nth(turned(n))).map(|s| shifted(s, by)).collect();
                let copies = members.get(narrow(wanted)).copied().into_iter().collect();
                let row = Row { members, data: narrow(data), wanted: narrow(wanted) };
                Place { len: in_stripe, into, copies, row: Some(row) }
            }
        })
    }
}

fn place(start: u64) -> At {
    At::new("btrfs", "chunk").byte(start)
}

/// Decodes an item.
///
/// # Errors
/// `Corrupt` when it makes no sense.
fn parse(start: u64, item: &[u8], sector: u32) -> Result<Chunk> {
    let bad = |why: String| Error::corrupt(place(start)).because(why);
    let torn = || bad(format!("an item of {} bytes", item.len()));
    let len = get_le64(item, 0).ok_or_else(torn)?;
    let stripe_len = get_le64(item, 16).ok_or_else(torn)?;
    let bits = get_le64(item, 24).ok_or_else(torn)?;
    let count = get_le16(item, 44).ok_or_else(torn)?;
    let sub_stripes = get_le16(item, 46).ok_or_else(torn)?;
    get_le32(item, 40).ok_or_else(torn)?;
    if stripe_len != STRIPE_LEN {
        return Err(bad(format!("stripes of {stripe_len} bytes")));
    }
    let sector = u64::from(sector);
    if len == 0 || !len.is_multiple_of(sector) || !start.is_multiple_of(sector) {
        return Err(bad(format!("a length of {len} bytes")));
    }
    if start.checked_add(len).is_none() {
        return Err(bad(format!("a length of {len} bytes, past the end of all addresses")));
    }
    // The profile's bit; how many stripes it has at least, and exactly if it says so.
    let (profile, fits) = match bits >> 3 & 0xff {
        0 => (Profile::Copies, count == 1),
        1 => (Profile::Striped(1), count >= 1),
        2 => (Profile::Copies, count == 2),
        4 => (Profile::Copies, count == 2),
        8 => {
            let each = sub_stripes.max(1);
            (Profile::Striped(each.into()), sub_stripes == 2 && count.is_multiple_of(each) && count > 0)
        }
        16 => (Profile::Parity(1), (2..=MAX_ROW.saturating_add(1)).contains(&count)),
        32 => (Profile::Parity(2), (3..=MAX_ROW.saturating_add(2)).contains(&count)),
        64 => (Profile::Copies, count == 3),
        128 => (Profile::Copies, count == 4),
        _ => return Err(bad(format!("more than one profile (type {bits:#x})"))),
    };
    if !fits {
        return Err(bad(format!("{count} stripes in a chunk of type {bits:#x}")));
    }
    let stripes = item.get(HEADER..).unwrap_or_default().as_chunks::<STRIPE>().0;
    let stripes: Vec<Stripe> = stripes
        .iter()
        .take(usize::from(count))
        .filter_map(|raw| Some(Stripe { device: get_le64(raw, 0)?, at: get_le64(raw, 8)? }))
        .collect();
    if stripes.len() != usize::from(count) {
        return Err(torn());
    }
    if stripes.iter().any(|stripe| stripe.at.checked_add(len).is_none()) {
        return Err(bad("a stripe past the end of all devices".to_owned()));
    }
    let devices: BTreeSet<u64> = stripes.iter().map(|stripe| stripe.device).collect();
    if matches!(profile, Profile::Parity(_)) && devices.len() < stripes.len() {
        return Err(bad("two stripes of a row with parity on one device".to_owned()));
    }
    Ok(Chunk { len, profile, stripes })
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of the test's own")]
mod tests {
    use super::*;

    /// The item of a chunk whose stripe `n` lies at byte n MiB of the device that `device` says.
    fn item(bits: u64, count: u16, sub: u16, len: u64, device: impl Fn(u64) -> u64) -> Vec<u8> {
        let mut item = [len, 2, STRIPE_LEN, bits].map(u64::to_le_bytes).concat();
        item.extend([0; 12]);
        item.extend(count.to_le_bytes());
        item.extend(sub.to_le_bytes());
        for n in 0..u64::from(count) {
            item.extend([device(n), n << 20, 0, 0].map(u64::to_le_bytes).concat());
        }
        item
    }

    /// A chunk at logical byte 1 MiB whose stripe `n` lies at byte n MiB of device n + 1.
    fn chunks(bits: u64, count: u16, sub: u16, len: u64) -> Result<Chunks> {
        let mut chunks = Chunks::default();
        chunks.add(1 << 20, &item(bits, count, sub, len, |n| n + 1), 4096)?;
        Ok(chunks)
    }

    fn places(chunks: &Chunks, into: u64) -> (u64, Vec<(u64, u64)>) {
        let place = chunks.locate((1 << 20) + into).unwrap();
        (place.len, place.copies.iter().map(|s| (s.device, s.at - ((s.device - 1) << 20))).collect())
    }

    #[test]
    fn every_device_of_a_mirror_has_all() {
        let raid1 = chunks(1 | 1 << 4, 2, 1, 8 << 16).unwrap();
        assert_eq!(places(&raid1, 100_000), ((8 << 16) - 100_000, vec![(1, 100_000), (2, 100_000)]));
        assert!(raid1.locate((1 << 20) - 1).is_err() && raid1.locate((1 << 20) + (8 << 16)).is_err());
    }

    #[test]
    fn stripes_go_round_the_devices() {
        let raid0 = chunks(1 | 1 << 3, 3, 1, 9 << 16).unwrap();
        assert_eq!(places(&raid0, 0), (1 << 16, vec![(1, 0)]));
        assert_eq!(places(&raid0, (4 << 16) + 5), ((1 << 16) - 5, vec![(2, (1 << 16) + 5)]));
        let raid10 = chunks(1 | 1 << 6, 4, 2, 8 << 16).unwrap();
        assert_eq!(
            places(&raid10, (3 << 16) + 1),
            ((1 << 16) - 1, vec![(3, (1 << 16) + 1), (4, (1 << 16) + 1)])
        );
    }

    #[test]
    fn parity_moves_one_device_with_each_row() {
        let raid5 = chunks(1 | 1 << 7, 3, 1, 8 << 16).unwrap();
        // Row 1: data on devices 2 and 3, parity on 1.
        assert_eq!(places(&raid5, 2 << 16).1, [(2, 1 << 16)]);
        let row = raid5.locate((1 << 20) + (3 << 16)).unwrap().row.unwrap();
        let devices: Vec<u64> = row.members.iter().map(|s| s.device).collect();
        assert_eq!((devices, row.data, row.wanted), (vec![2, 3, 1], 2, 1));
    }

    #[test]
    fn what_makes_no_sense_is_corrupt() {
        assert!(chunks(1 | 1 << 4, 3, 1, 8 << 16).is_err(), "three stripes of RAID1");
        assert!(chunks(1 | 1 << 4 | 1 << 3, 2, 1, 8 << 16).is_err(), "two profiles");
        assert!(chunks(1, 1, 1, 100).is_err(), "a length that is no multiple of sectors");
        assert!(chunks(1, 0, 1, 8 << 16).is_err(), "no stripe");
        assert!(chunks(1 | 1 << 6, 4, 0, 8 << 16).is_err(), "no copies of RAID10");
        assert!(chunks(1 | 1 << 8, 257, 1, 8 << 16).is_ok(), "the widest row");
        assert!(chunks(1 | 1 << 8, 258, 1, 8 << 16).is_err(), "more stripes of RAID6 than Q tells apart");
        assert!(chunks(1 | 1 << 7, 257, 1, 8 << 16).is_err(), "as many of RAID5");
        let twice = item(1 | 1 << 7, 3, 1, 8 << 16, |n| n % 2);
        assert!(Chunks::default().add(1 << 20, &twice, 4096).is_err(), "two stripes on one device");
    }
}
