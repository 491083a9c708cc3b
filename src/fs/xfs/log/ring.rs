//! The log as a circle of 512-byte blocks. The first word of each is the number of the turn, or cycle, in which it was
//! written, so the place where writing stopped shows as a step from one number to the one before.
//!
//! ```text
//!   x+1  x+1  x+1 │ x  x  x  x          head: the first block of the older turn
//! ```
//! Writes that were on their way when the machine stopped may be there in part; that is looked for in front of the head.

use super::record::{Header, MAGIC};
use crate::block::{BlockSource, check_range};
use crate::error::{At, Error, Result};
use crate::fs::xfs::superblock::{LogPlace, Superblock};
use crate::num::{narrow, wide};
use crate::ondisk::get_be32;
use std::sync::Arc;

/// Bytes of a block of the log.
pub(super) const BLOCK: usize = 512;
/// Records that may be on their way to the disk together (`XLOG_MAX_ICLOGS`).
pub(super) const IN_FLIGHT: u64 = 8;
/// Blocks read at once while looking backwards for a record.
const PIECE: u64 = 128;

/// The log of a file system.
pub(super) struct Ring<'a> {
    volume: &'a Arc<dyn BlockSource>,
    byte: u64,
    /// Blocks of 512 bytes in it.
    pub(super) blocks: u64,
    pub(super) is_v2: bool,
    /// Records without a right checksum are damage, not merely old.
    pub(super) is_v5: bool,
    pub(super) uuid: [u8; 16],
}

/// The turn in which a block was written; a record's header has its magic number first.
fn cycle(block: &[u8]) -> u32 {
    match get_be32(block, 0) {
        Some(MAGIC) => get_be32(block, 4).unwrap_or(0),
        other => other.unwrap_or(0),
    }
}

impl<'a> Ring<'a> {
    pub(super) fn new(volume: &'a Arc<dyn BlockSource>, place: LogPlace, sb: &Superblock) -> Self {
        Self {
            volume,
            byte: place.byte,
            blocks: place.len / 512,
            is_v2: sb.features.has_log_v2(),
            is_v5: sb.features.is_v5(),
            uuid: *sb.uuid(),
        }
    }

    pub(super) fn at(&self, block: u64) -> At {
        At::new("xfs", "log block")
            .index(block)
            .byte(self.byte.saturating_add(block.saturating_mul(wide(BLOCK))))
    }

    pub(super) fn bad(&self, block: u64, why: impl Into<String>) -> Error {
        Error::corrupt(self.at(block)).because(why)
    }

    /// Block `count` blocks after `block`, around the circle.
    pub(super) fn after(&self, block: u64, count: u64) -> u64 {
        block.saturating_add(count).checked_rem(self.blocks).unwrap_or(0)
    }

    /// Blocks from `from` forward to `to`.
    pub(super) fn distance(&self, from: u64, to: u64) -> u64 {
        to.checked_sub(from).unwrap_or_else(|| self.blocks.saturating_sub(from).saturating_add(to))
    }

    /// The most blocks that the data of one record has.
    pub(super) const fn record_blocks(&self) -> u64 {
        if self.is_v2 { 512 } else { 64 }
    }

    /// `count` blocks from `block` on, around the circle; the caller asks for at most what a record can have.
    ///
    /// # Errors
    /// `OutOfRange` for more than there are; what the volume reports.
    pub(super) fn read(&self, block: u64, count: u64) -> Result<Vec<u8>> {
        check_range(block, 1, self.blocks)?;
        check_range(0, narrow(count), self.blocks.min(IN_FLIGHT.saturating_mul(self.record_blocks())))?;
        let mut bytes = vec![0; narrow(count).saturating_mul(BLOCK)];
        let straight = narrow(self.blocks.saturating_sub(block).min(count)).saturating_mul(BLOCK);
        let (now, wrapped) = bytes.split_at_mut(straight);
        self.volume.read_at(now, self.byte.saturating_add(block.saturating_mul(wide(BLOCK))))?;
        if !wrapped.is_empty() {
            self.volume.read_at(wrapped, self.byte)?;
        }
        Ok(bytes)
    }

    fn cycle_at(&self, block: u64) -> Result<u32> {
        Ok(cycle(&self.read(block, 1)?))
    }

    /// The first of `count` blocks from `start` on, which do not wrap, that was written in turn `wanted`.
    fn first_of_cycle(&self, start: u64, count: u64, wanted: u32) -> Result<Option<u64>> {
        if count == 0 {
            return Ok(None);
        }
        let bytes = self.read(start, count)?;
        let found = bytes.chunks_exact(BLOCK).position(|block| cycle(block) == wanted);
        Ok(found.map(|at| start.saturating_add(wide(at))))
    }

    /// A block of turn `wanted` whose predecessor is of another, by halving between `first` and `last`.
    fn step_to(&self, mut first: u64, mut last: u64, wanted: u32) -> Result<u64> {
        while last.saturating_sub(first) > 1 {
            let middle = first.midpoint(last);
            if self.cycle_at(middle)? == wanted {
                last = middle;
            } else {
                first = middle;
            }
        }
        Ok(last)
    }

    /// Where writing stopped, to a first approximation: what was torn is not looked for. `None`: nothing was ever
    /// written.
    ///
    /// # Errors
    /// What the volume reports.
    pub(super) fn rough_head(&self) -> Result<Option<u64>> {
        let end = self.blocks.saturating_sub(1);
        let (first, last) = (self.cycle_at(0)?, self.cycle_at(end)?);
        if first == 0 {
            return Ok(None);
        }
        if first == last {
            return Ok(Some(0));
        }
        self.step_to(0, end, last).map(Some)
    }

    /// Where writing stopped: behind the last record that is there whole. (`xlog_find_head`)
    ///
    /// # Errors
    /// `Corrupt` when there is no record in front of it; what the volume reports.
    pub(super) fn head(&self) -> Result<u64> {
        let end = self.blocks.saturating_sub(1);
        let (first, last) = (self.cycle_at(0)?, self.cycle_at(end)?);
        let scan = self.record_blocks().saturating_mul(IN_FLIGHT).min(self.blocks);
        // A log in its first turn: zeros behind the head.
        if last == 0 {
            let head = self.step_to(0, end, 0)?;
            let start = head.saturating_sub(scan);
            let head = self.first_of_cycle(start, head.saturating_sub(start), 0)?.unwrap_or(head);
            let start = head.saturating_sub(self.record_blocks());
            return self
                .trim(start, head, 0)?
                .ok_or_else(|| self.bad(head, "no record in front of the head"));
        }
        let (mut head, stop) = if first == last {
            (self.blocks, last.wrapping_sub(1))
        } else {
            (self.step_to(0, end, last)?, last)
        };
        if head >= scan {
            head = self.first_of_cycle(head.saturating_sub(scan), scan, stop)?.unwrap_or(head);
        } else {
            let behind = scan.saturating_sub(head);
            let start = self.blocks.saturating_sub(behind);
            head = match self.first_of_cycle(start, behind, stop.wrapping_sub(1))? {
                Some(hole) => hole,
                None => self.first_of_cycle(0, head, stop)?.unwrap_or(head),
            };
        }
        let reach = self.record_blocks();
        let start = head.saturating_sub(reach);
        let trimmed = match self.trim(start, head, 0)? {
            Some(trimmed) => trimmed,
            // The last record began at the end of the log and goes on at its start.
            None => {
                let start = self.blocks.saturating_sub(reach.saturating_sub(head).min(self.blocks));
                let trimmed = self.trim(start, self.blocks, head)?;
                match trimmed.ok_or_else(|| self.bad(head, "no record in front of the head"))? {
                    whole if whole == self.blocks => head,
                    torn => torn,
                }
            }
        };
        Ok(if trimmed >= self.blocks { 0 } else { trimmed })
    }

    /// `last` if a whole record ends there, `extra` blocks further on included; else the block where the torn one
    /// starts. `None`: the start of the log was reached without a record. (`xlog_find_verify_log_record`)
    fn trim(&self, start: u64, last: u64, extra: u64) -> Result<Option<u64>> {
        if last == start {
            return Ok(None);
        }
        let bytes = self.read(start, last.saturating_sub(start))?;
        let is_header = |block: &[u8]| get_be32(block, 0) == Some(MAGIC);
        let Some(found) = bytes.chunks_exact(BLOCK).rposition(is_header) else {
            return if start == 0 {
                Ok(None)
            } else {
                Err(self.bad(last, "no record for too long in front of it"))
            };
        };
        let at = start.saturating_add(wide(found));
        let block = bytes.chunks_exact(BLOCK).nth(found).unwrap_or_default();
        let header = Header::new(block);
        if header.uuid() != self.uuid && header.uuid() != [0; 16] {
            return Err(self.bad(at, "a record of another file system, by its UUID"));
        }
        let whole = header.blocks(self.is_v2).saturating_add(header.data_blocks());
        let is_whole = last.saturating_sub(at).saturating_add(extra) == whole;
        Ok(Some(if is_whole { last } else { at }))
    }

    /// The record nearest before `head` around the circle, and that many records before it, as far as `limit` blocks
    /// back: the farthest found.
    ///
    /// # Errors
    /// What the volume reports.
    pub(super) fn back(&self, head: u64, limit: u64, count: u64) -> Result<Option<(u64, Header)>> {
        let limit = limit.min(self.blocks);
        let (mut seen, mut found, mut left) = (0_u64, None, count);
        while seen < limit {
            let piece = PIECE.min(limit.saturating_sub(seen));
            let start = self.after(head, self.blocks.saturating_sub(seen).saturating_sub(piece));
            let bytes = self.read(start, piece)?;
            for (nth, block) in bytes.chunks_exact(BLOCK).enumerate().rev() {
                if get_be32(block, 0) == Some(MAGIC) {
                    found = Some((self.after(start, wide(nth)), Header::new(block)));
                    left = left.saturating_sub(1);
                    if left == 0 {
                        return Ok(found);
                    }
                }
            }
            seen = seen.saturating_add(piece);
        }
        Ok(found)
    }

    /// The first block from `start` on with a record's header, within `limit` blocks.
    ///
    /// # Errors
    /// What the volume reports.
    pub(super) fn forward(&self, start: u64, limit: u64) -> Result<Option<u64>> {
        let mut seen = 0;
        while seen < limit {
            let piece = PIECE.min(limit.saturating_sub(seen));
            let from = self.after(start, seen);
            let bytes = self.read(from, piece)?;
            if let Some(nth) = bytes.chunks_exact(BLOCK).position(|block| get_be32(block, 0) == Some(MAGIC)) {
                return Ok(Some(self.after(from, wide(nth))));
            }
            seen = seen.saturating_add(piece);
        }
        Ok(None)
    }
}
