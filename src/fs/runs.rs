//! Reading a file run by run: whoever can say where the bytes at an offset lie can read.

use crate::block::{BlockSource, Place, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};

/// Fills `buf` with a file's bytes from `offset` on, with one read of the volume for each run. `run_at` says where the
/// byte at an offset lies; the second number it is given is how many bytes from there are of use.
///
/// # Errors
/// What `run_at` and the volume report.
pub(super) fn read(
    volume: &dyn BlockSource,
    mut buf: &mut [u8],
    mut offset: u64,
    mut run_at: impl FnMut(u64, u64) -> Result<Run>,
) -> Result<()> {
    while !buf.is_empty() {
        let run = run_at(offset, wide(buf.len()))?;
        let (now, rest) = buf.split_at_mut(narrow(run.len.max(1)).min(buf.len()));
        match run.place {
            Place::Stored { offset, .. } => volume.read_at(now, offset)?,
            Place::Zero | Place::Hole => now.fill(0),
            Place::Packed { .. } | Place::Parent => {
                return Err(Error::new(ErrorKind::Internal, "a run of a file that is not stored as it is"));
            }
        }
        offset = offset.saturating_add(wide(now.len()));
        buf = rest;
    }
    Ok(())
}
