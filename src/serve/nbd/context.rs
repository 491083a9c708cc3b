//! A metadata context: what block status can say of bytes beside the bytes themselves. `doc/proto.md` of the NBD project,
//! "Metadata querying"; qemu's `docs/interop/nbd.rst` for its own.

use crate::block::{Below, BlockSource};
use crate::error::{Error, Result};
use crate::nbd_protocol::replies::Status;
use crate::nbd_protocol::{ALLOCATION, ALLOCATION_DEPTH, state};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Extents in one block status reply; the client asks again for the rest.
const MAX_EXTENTS: usize = 4096;
/// Questions to the source for one block status reply: those of 64 bits may be about a whole fragmented disk.
const MAX_QUESTIONS: usize = 1 << 16;
/// Time for one block status reply. A question may have the source look at thousands of runs, or wait for a table from
/// far away: their number alone says little about what they cost.
const MAX_TIME: Duration = Duration::from_millis(100);
/// Questions that are put however long they take: what a slow source says of a short range does not depend on the time.
const ALWAYS: usize = 64;
/// Storeys below an export that are gone through; an honest tower has some ten.
const MAX_STOREYS: u32 = 128;

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// Data, hole or zeros.
    Allocation,
    /// In which layer.
    Depth,
}

impl Context {
    pub(super) const ALL: [Self; 2] = [Self::Allocation, Self::Depth];

    pub(super) const fn name(self) -> &'static [u8] {
        match self {
            Self::Allocation => ALLOCATION,
            Self::Depth => ALLOCATION_DEPTH,
        }
    }

    /// The number that stands for it in the transmission phase.
    pub(super) const fn id(self) -> u32 {
        match self {
            Self::Allocation => 1,
            Self::Depth => 2,
        }
    }

    pub(super) fn of_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|context| context.id() == id)
    }

    /// What it says of the bytes from `offset` on, and how far that goes.
    fn at(self, source: &Arc<dyn BlockSource>, offset: u64, most: u64) -> Result<Status> {
        match self {
            Self::Allocation => {
                let extent = source.extent_within(offset, most)?;
                let zero = if extent.zero { state::ZERO } else { 0 };
                let hole = if extent.hole { state::HOLE } else { 0 };
                Ok(Status { len: extent.len, flags: zero | hole })
            }
            Self::Depth => depth(source, offset, most),
        }
    }

    /// What it says of a range, piece by piece from the front; not always of all of it.
    ///
    /// # Errors
    /// The place and what the source reports of it, if nothing is known before.
    pub(super) fn statuses(
        self,
        source: &Arc<dyn BlockSource>,
        range: &Range<u64>,
        one: bool,
    ) -> Result<Vec<Status>, (u64, Error)> {
        let most = if one { 1 } else { MAX_EXTENTS };
        let mut statuses: Vec<Status> = Vec::new();
        let mut at = range.start;
        let start = Instant::now();
        for question in 0..MAX_QUESTIONS {
            let left = range.end.saturating_sub(at);
            let is_long = question >= ALWAYS && start.elapsed() >= MAX_TIME;
            if left == 0 || is_long {
                break;
            }
            let next = match self.at(source, at, left) {
                Ok(next) => Status { len: next.len.clamp(1, left), ..next },
                // What is known so far is an answer; the client will ask again from here, and then hear of it.
                Err(_) if !statuses.is_empty() => break,
                Err(error) => return Err((at, error)),
            };
            let count = statuses.len();
            match statuses.last_mut() {
                Some(last) if last.flags == next.flags => last.len = last.len.saturating_add(next.len),
                _ if count == most => break,
                _ => statuses.push(next),
            }
            at = at.saturating_add(next.len);
        }
        Ok(statuses)
    }
}

/// How many layers down the bytes at `offset` are: 0 where no layer has them, 1 in the image itself.
fn depth(source: &Arc<dyn BlockSource>, offset: u64, most: u64) -> Result<Status> {
    let (mut here, mut at) = (Arc::clone(source), offset);
    let (mut len, mut depth) = (most, 1_u32);
    for _ in 0..MAX_STOREYS {
        let step = here.step(at)?;
        len = len.min(step.len.max(1));
        match step.below {
            Below::Hole => return Ok(Status { len, flags: 0 }),
            Below::Here | Below::Zero | Below::Computed | Below::Packed(..) => {
                return Ok(Status { len, flags: depth });
            }
            // qemu takes the zeros that it puts there for that layer's own (block/io.c, bdrv_co_common_block_status_above).
            Below::PastParent => return Ok(Status { len, flags: depth.saturating_add(1) }),
            Below::Stored(below, to) | Below::Encrypted(below, to) => (here, at) = (below, to),
            Below::Parent(below, to) => {
                depth = depth.saturating_add(1);
                (here, at) = (below, to);
            }
        }
    }
    Err(Error::limit(format!("more than {MAX_STOREYS} storeys lie below the export")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Extent, Step};

    /// Data of every other byte, each asked about for so long.
    #[derive(Debug)]
    struct Comb(u64, Duration);

    impl BlockSource for Comb {
        fn len(&self) -> u64 {
            self.0
        }

        fn read_at(&self, buf: &mut [u8], _: u64) -> Result<()> {
            buf.fill(0);
            Ok(())
        }

        fn extent(&self, offset: u64) -> Result<Extent> {
            std::thread::sleep(self.1);
            Ok(Extent { len: 1, zero: offset.is_multiple_of(2), hole: false })
        }

        fn step(&self, _: u64) -> Result<Step> {
            std::thread::sleep(self.1);
            Ok(Step { len: 1, below: Below::Here })
        }
    }

    /// How many extents, and how many bytes they are.
    fn answered(context: Context, comb: Comb) -> (usize, u64) {
        let range = 0..comb.len();
        let comb: Arc<dyn BlockSource> = Arc::new(comb);
        let statuses = context.statuses(&comb, &range, false).unwrap();
        (statuses.len(), statuses.iter().map(|status| status.len).sum())
    }

    #[test]
    fn a_comb_of_a_terabyte_is_answered_in_part() {
        // How far it gets in its time depends on the machine.
        let comb = || Comb(1 << 40, Duration::ZERO);
        let (extents, bytes) = answered(Context::Allocation, comb());
        assert!(extents <= MAX_EXTENTS && (64..=4096).contains(&bytes), "{extents} {bytes}");
        let (extents, bytes) = answered(Context::Depth, comb());
        assert!(extents == 1 && (64..=1 << 16).contains(&bytes), "{extents} {bytes}");
    }

    #[test]
    fn questions_that_take_long_are_few() {
        let comb = |len| Comb(len, Duration::from_millis(4));
        assert_eq!(answered(Context::Allocation, comb(4096)), (64, 64));
        assert_eq!(answered(Context::Depth, comb(4096)), (1, 64));
        // A short range is answered in full.
        assert_eq!(answered(Context::Allocation, comb(60)), (60, 60));
    }
}
