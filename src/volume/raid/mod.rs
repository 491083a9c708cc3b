//! Arrays of several *legs* (md's members, the images of an LVM raid): where a byte lies, and what it was when its leg is
//! missing. Shared by [`super::md`] and [`super::lvm2`], which both use the kernel's one implementation.
//!
//! ```text
//! stripe    chunks 0 1 2 │ 3 4 5 │ …              one after the other on each leg
//! parity    0 1 P │ 3 P 2 │ …  (Q)                one or two chunks of a stripe are worked out from the others
//! copies    0 0 1 1 │ 2 2 3 3  or far, or offset  every chunk several times
//! ```
//! Layouts as in Linux 6.18, `drivers/md/raid0.c`, `raid5.c`, `raid10.c` and `lib/raid6`. A *leg* that is missing, stale or
//! not yet rebuilt is `None`; more of them than the array bears is an error that says so.

use crate::block::BlockSource;
use crate::engine::Mapper;
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::wide;
use std::sync::Arc;

mod copies;
mod parity;
mod stripe;

pub(super) use stripe::{Zones, striped};

/// A leg, or `None` where it is missing.
pub(super) type Leg = Option<Arc<dyn BlockSource>>;

/// The most legs of an array: what a 4 KiB superblock of md has room for (`MD_SB_DISKS`, version 1).
pub(super) const MAX_LEGS: u32 = 1920;
/// The most of an array with two parities: powers of the generator repeat after 255. md and dm-raid stop before that.
const MAX_LEGS_DOUBLE: usize = 255;
/// The longest chunk. mdadm and lvcreate stop at 1 GiB.
const MAX_CHUNK: u64 = 1 << 30;

/// How the legs of an array with redundancy are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Every leg holds everything.
    Mirror,
    /// One parity chunk in each stripe; where, is the algorithm's number in `drivers/md/raid5.h`.
    Single(u32),
    /// Two of them.
    Double(u32),
    /// Raid10 with this layout word of md.
    Copies(u32),
}

/// An array to be put together.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) shape: Shape,
    pub(super) legs: Vec<Leg>,
    /// Bytes of each leg that hold data.
    pub(super) leg_len: u64,
    /// Bytes; not used by a mirror.
    pub(super) chunk: u64,
}

impl Array {
    /// The array's content. `who` is what errors call it.
    ///
    /// # Errors
    /// `Unsupported` for a layout without a name; `Corrupt` for sizes that make no sense; `NotFound` when more legs are
    /// missing than can be.
    pub(super) fn open(self, who: &'static str, mapper: &Mapper) -> Result<Arc<dyn BlockSource>> {
        let bad = |why: String| Err(Error::corrupt(At::new(who, "array")).because(why));
        if self.legs.is_empty() || wide(self.legs.len()) > u64::from(MAX_LEGS) {
            return bad(format!("{} members", self.legs.len()));
        }
        if matches!(self.shape, Shape::Double(_)) && self.legs.len() > MAX_LEGS_DOUBLE {
            return bad(format!("a raid6 of {} members", self.legs.len()));
        }
        if self.shape != Shape::Mirror {
            check_chunk(who, self.chunk)?;
        }
        if let Some(short) = self.legs.iter().flatten().find(|leg| leg.len() < self.leg_len) {
            return bad(format!(
                "a member holds {} bytes, {} are needed: it was cut off",
                short.len(),
                self.leg_len
            ));
        }
        match self.shape {
            Shape::Mirror => match self.legs.iter().flatten().next() {
                Some(leg) => super::pieces::slice(leg, 0, self.leg_len),
                None => Err(self.too_few("one")),
            },
            Shape::Single(_) | Shape::Double(_) => parity::open(self, who, mapper),
            Shape::Copies(layout) => copies::open(&self, layout, who, mapper),
        }
    }

    fn missing(&self) -> usize {
        self.legs.iter().filter(|leg| leg.is_none()).count()
    }

    fn too_few(&self, needed: &str) -> Error {
        let (missing, all) = (self.missing(), self.legs.len());
        Error::new(
            ErrorKind::NotFound,
            format!("{missing} of its {all} members are missing or out of date; it needs {needed}"),
        )
        .help("give the images of all its disks together")
    }
}

fn check_chunk(who: &'static str, chunk: u64) -> Result<()> {
    if chunk == 0 || chunk > MAX_CHUNK || !chunk.is_multiple_of(512) {
        return Err(Error::corrupt(At::new(who, "array")).because(format!("chunks of {chunk} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Bytes;

    fn leg(len: usize) -> Arc<dyn BlockSource> {
        Arc::new(Bytes(vec![7; len]))
    }

    fn open(shape: Shape, legs: Vec<Leg>) -> Result<Arc<dyn BlockSource>> {
        Array { shape, legs, leg_len: 4096, chunk: 512 }.open("md", &Mapper::new(Arc::default()))
    }

    #[test]
    fn powers_of_the_generator_bound_a_raid6() {
        let one = leg(4096);
        assert!(open(Shape::Double(2), vec![Some(Arc::clone(&one)); 255]).is_ok());
        assert_eq!(
            open(Shape::Double(2), vec![Some(Arc::clone(&one)); 256]).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        assert!(open(Shape::Single(2), vec![Some(one); 256]).is_ok());
    }

    #[test]
    fn copies_without_end_are_refused() {
        let one = leg(4096);
        assert!(open(Shape::Copies(0x102), vec![Some(Arc::clone(&one)); 1920]).is_ok());
        assert!(open(Shape::Copies(0x7ff), vec![Some(one); 1920]).is_err());
    }

    #[test]
    fn a_raid0_of_too_many_sizes_is_refused() {
        let of = |count: usize| (1..=count).map(|chunks| leg(chunks * 512)).collect();
        let mapper = Mapper::new(Arc::default());
        let open = |count| striped(of(count), 512, Zones::Original, "md", &mapper);
        assert_eq!(open(250).unwrap().len(), 512 * 250 * 251 / 2);
        assert_eq!(open(300).unwrap_err().kind(), ErrorKind::Limit);
    }

    /// Each array lacks a member and has the one below it twice: 2^40 reads, were they made.
    #[test]
    fn lost_members_inside_each_other_come_to_an_end() {
        let mut array = leg(8192);
        for level in 0..40 {
            let below = Some(Arc::clone(&array));
            let mapper = Mapper::new(Arc::default());
            let raid = Array {
                shape: Shape::Single(5),
                legs: vec![None, below.clone(), below],
                leg_len: 4096,
                chunk: 4096,
            };
            array = raid.open("md", &mapper).unwrap();
            let read = array.read_at(&mut [0; 512], 0);
            // Two alike cancel each other out.
            assert!(if level < 8 { read.is_ok() } else { level < 20 || read.is_err() }, "{level}");
        }
        assert_eq!(array.read_at(&mut [0; 512], 0).unwrap_err().kind(), ErrorKind::Limit);
    }
}
