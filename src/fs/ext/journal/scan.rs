//! Goes through the log once and gathers the newest copy of every block, up to where the log ends.
//!
//! ```text
//! transaction   descriptor │ copy │ copy │ … │ descriptor │ copy │ … │ revoke │ commit
//! descriptor    header 12 │ tag │ tag │ …       one tag for each copy that follows: the block that it is a copy of
//! revoke        header 12 │ length 4 │ block │ block │ …
//! ```
//! A transaction counts if its commit block is there. A block that is revoked in transaction N is not played back from N
//! or any before. The log ends where a block has no magic number or another sequence number than the one that is due; the
//! checksums decide whether that is an end or damage, as in `do_one_pass` of the kernel's `fs/jbd2/recovery.c`. What was
//! committed before the damage is played back; the kernel would not mount it.

use super::log::Log;
use super::superblock::{MAGIC, Sums, Superblock};
use crate::budget::Budget;
use crate::checksum::{crc32_msb_on, crc32c_on};
use crate::error::{Error, Result};
use crate::fs::overlay::MAX_BLOCKS;
use crate::ondisk::{get_be16, get_be32, get_be64};
use std::collections::{BTreeMap, HashMap};

/// Types of blocks.
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;
/// Magic number, type, sequence number: bytes of a block's header.
const HEADER: usize = 12;
/// `struct commit_header`, and where the checksum is in it, in bytes.
const COMMIT_HEADER: usize = 64;
const COMMIT_SUM: usize = 16;
/// The checksum at the end of descriptors and revoke blocks, in bytes.
const TAIL: usize = 4;
/// Flags of a tag: the copy's first four bytes are the journal's magic number, which was blotted out; no UUID follows;
/// no tag follows.
const ESCAPED: u16 = 1;
const SAME_UUID: u16 = 2;
const LAST: u16 = 8;

/// A copy in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// The log block that it is.
    pub(super) log: u32,
    /// Of its transaction.
    pub(super) sequence: u32,
    /// Its first four bytes are the magic number.
    pub(super) is_escaped: bool,
}

/// What the log holds.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// The newest copy of each block that is not revoked.
    pub(super) copies: BTreeMap<u64, Copy>,
    /// Transactions with a commit block.
    pub(super) transactions: u32,
    /// The sequence number that the next transaction would have.
    pub(super) next: u32,
    /// Why the log ends early, if it does.
    pub(super) damage: Option<String>,
}

/// One tag of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    home: u64,
    flags: u16,
    checksum: u32,
}

/// The tags of a descriptor block.
fn tags(block: &[u8], sb: &Superblock) -> Vec<Tag> {
    let (is_v2, is_v3) = match sb.sums {
        Sums::Blocks { is_v3, .. } => (!is_v3, is_v3),
        _ => (false, false),
    };
    // Number, checksum, flags, high half of the number; v2 has two bytes that nothing uses.
    let size = if is_v3 {
        16
    } else {
        8_usize.saturating_add(if sb.is_wide { 4 } else { 0 }).saturating_add(if is_v2 { 2 } else { 0 })
    };
    let end = block.len().saturating_sub(if is_v2 || is_v3 { TAIL } else { 0 });
    let mut tags = Vec::new();
    let mut at = HEADER;
    while at.saturating_add(size) <= end {
        let number = |field: usize| get_be32(block, at.saturating_add(field)).unwrap_or(0);
        let half = |field: usize| get_be16(block, at.saturating_add(field)).unwrap_or(0);
        let high = if sb.is_wide { u64::from(number(8)) << 32 } else { 0 };
        let checksum = if is_v3 { number(12) } else { u32::from(half(4)) };
        let flags = half(6);
        tags.push(Tag { home: u64::from(number(0)) | high, flags, checksum });
        at = at.saturating_add(size).saturating_add(if flags & SAME_UUID == 0 { 16 } else { 0 });
        if flags & LAST != 0 {
            break;
        }
    }
    tags
}

/// The blocks that a revoke block names.
///
/// # Errors
/// A length of more than the block.
fn revoked(block: &[u8], sb: &Superblock) -> std::result::Result<Vec<u64>, String> {
    let tail = if matches!(sb.sums, Sums::Blocks { .. }) { TAIL } else { 0 };
    let used = get_be32(block, HEADER).map_or(0, |used| crate::num::narrow(used.into()));
    let size = if sb.is_wide { 8 } else { 4 };
    if used > block.len().saturating_sub(tail) {
        return Err(format!("a list of {used} bytes in a block of {}", block.len()));
    }
    let list = block.get(HEADER.saturating_add(4)..used).unwrap_or_default();
    let number = |entry: &[u8]| {
        if sb.is_wide { get_be64(entry, 0) } else { get_be32(entry, 0).map(u64::from) }.unwrap_or(0)
    };
    Ok(list.chunks_exact(size).map(number).collect())
}

/// Is the checksum in the four bytes at `at` right for the block, those four taken as zero?
fn holds(seed: u32, block: &[u8], at: usize) -> bool {
    let (before, behind) = (block.get(..at), block.get(at.saturating_add(4)..));
    let (Some(before), Some(behind)) = (before, behind) else { return false };
    let made = crc32c_on(crc32c_on(crc32c_on(seed, before), &[0; 4]), behind);
    get_be32(block, at) == Some(made)
}

/// Is the checksum of a commit block right? Newer kernels also take one of which the header alone was written
/// (`jbd2_commit_block_csum_verify_partial`): all that counts is in it.
fn commit_holds(seed: u32, block: &[u8]) -> bool {
    let mut torn = block.to_vec();
    if let Some(behind) = torn.get_mut(COMMIT_HEADER..) {
        behind.fill(0);
    }
    holds(seed, block, COMMIT_SUM) || holds(seed, &torn, COMMIT_SUM)
}

/// Is sequence number `a` after `b`? They go round.
const fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// The walk through the log.
struct Walk<'a> {
    log: &'a Log<'a>,
    sb: &'a Superblock,
    /// The next block to read.
    here: u32,
    /// Blocks read and passed over so far.
    passed: u64,
    /// The transaction that is being read: its copies and what it revokes.
    copies: Vec<(u64, Copy)>,
    revokes: Vec<u64>,
    /// A copy of it whose checksum is wrong.
    unsound: Option<u64>,
    /// Its checksum so far.
    sum: u32,
    /// Something in it had a wrong checksum: left over from an earlier round, or damaged. Its commit block tells.
    is_doubtful: bool,
    /// When the last transaction was committed, in seconds.
    committed: u64,
}

/// What a block of the log means for the walk.
enum Next {
    /// It goes on.
    On,
    /// The transaction is complete.
    Commit,
    /// The log ends here.
    End,
    /// The log is damaged here.
    Damage(String),
}

/// Reads the whole log.
///
/// # Errors
/// What the volume reports; `Limit` for more than is kept in memory.
pub(super) fn scan(log: &Log<'_>, sb: &Superblock, budget: &Budget) -> Result<Scanned> {
    let mut walk = Walk {
        log,
        sb,
        here: sb.start,
        passed: 0,
        copies: Vec::new(),
        revokes: Vec::new(),
        unsound: None,
        sum: !0,
        is_doubtful: false,
        committed: 0,
    };
    let mut scanned = Scanned { next: sb.sequence, ..Scanned::default() };
    let mut revokes: HashMap<u64, u32> = HashMap::new();
    loop {
        match walk.block(scanned.next, budget)? {
            Next::On => {}
            Next::Commit => {
                for (home, copy) in walk.copies.drain(..) {
                    scanned.copies.insert(home, copy);
                }
                for home in walk.revokes.drain(..) {
                    revokes.insert(home, scanned.next);
                }
                if scanned.copies.len().max(revokes.len()) > MAX_BLOCKS {
                    return Err(Error::limit(format!("a journal of more than {MAX_BLOCKS} blocks")));
                }
                scanned.transactions = scanned.transactions.saturating_add(1);
                scanned.next = scanned.next.wrapping_add(1);
            }
            Next::End => break,
            Next::Damage(why) => {
                scanned.damage = Some(format!("transaction {}: {why}", scanned.next));
                break;
            }
        }
    }
    // The newest copy alone counts: were an older one not revoked, neither is it.
    scanned.copies.retain(|home, copy| revokes.get(home).is_none_or(|by| is_after(copy.sequence, *by)));
    Ok(scanned)
}

impl Walk<'_> {
    /// Reads one block that should belong to transaction `sequence`.
    fn block(&mut self, sequence: u32, budget: &Budget) -> Result<Next> {
        if self.passed > u64::from(self.sb.end.saturating_sub(self.sb.first)) {
            return Ok(Next::Damage("the log goes round without an end".to_owned()));
        }
        let number = self.here;
        let block = self.read(budget)?;
        let field = |at: usize| get_be32(&block, at);
        if field(0) != Some(MAGIC) || field(8) != Some(sequence) {
            return Ok(Next::End);
        }
        match field(4) {
            Some(DESCRIPTOR) => self.descriptor(&block, sequence, budget),
            Some(COMMIT) => Ok(self.commit(&block, number)),
            Some(REVOKE) => {
                self.doubt(&block);
                match revoked(&block, self.sb) {
                    Ok(list) => self.revokes.extend(list),
                    Err(why) => return Ok(Next::Damage(format!("block {number} of the journal: {why}"))),
                }
                if self.revokes.len() > MAX_BLOCKS {
                    return Err(Error::limit(format!("a journal of more than {MAX_BLOCKS} blocks")));
                }
                Ok(Next::On)
            }
            _ => Ok(Next::End),
        }
    }

    /// The next block of the log, which goes round.
    fn read(&mut self, budget: &Budget) -> Result<crate::fs::meta::Bytes> {
        budget.step("journal")?;
        let block = self.log.block(self.here.into())?;
        self.skip();
        Ok(block)
    }

    fn skip(&mut self) {
        self.passed = self.passed.saturating_add(1);
        self.here = self.here.saturating_add(1);
        if self.here >= self.sb.end {
            self.here = self.sb.first;
        }
    }

    /// Checks the tail of a descriptor or revoke block.
    fn doubt(&mut self, block: &[u8]) {
        if let Sums::Blocks { seed, .. } = self.sb.sums
            && !holds(seed, block, block.len().saturating_sub(TAIL))
        {
            self.is_doubtful = true;
        }
    }

    /// Takes the copies that a descriptor names, and that follow it.
    fn descriptor(&mut self, block: &[u8], sequence: u32, budget: &Budget) -> Result<Next> {
        self.doubt(block);
        if self.sb.sums == Sums::Transaction {
            self.sum = crc32_msb_on(self.sum, block);
        }
        for tag in tags(block, self.sb) {
            let log = self.here;
            let is_sound = match self.sb.sums {
                _ if self.is_doubtful => true,
                Sums::None => true,
                Sums::Transaction => {
                    self.sum = crc32_msb_on(self.sum, &self.peek(budget)?);
                    true
                }
                Sums::Blocks { seed, is_v3 } => {
                    let made = crc32c_on(crc32c_on(seed, &sequence.to_be_bytes()), &self.peek(budget)?);
                    tag.checksum == if is_v3 { made } else { made & 0xffff }
                }
            };
            self.skip();
            if self.passed > u64::from(self.sb.end) {
                return Ok(Next::Damage("the log goes round without an end".to_owned()));
            }
            if !is_sound {
                self.unsound = self.unsound.or(Some(tag.home));
            }
            let is_escaped = tag.flags & ESCAPED != 0;
            self.copies.push((tag.home, Copy { log, sequence, is_escaped }));
            if self.copies.len() > MAX_BLOCKS {
                return Err(Error::limit(format!("a journal of more than {MAX_BLOCKS} blocks")));
            }
        }
        Ok(Next::On)
    }

    fn peek(&self, budget: &Budget) -> Result<crate::fs::meta::Bytes> {
        budget.step("journal")?;
        self.log.block(self.here.into())
    }

    /// Does this commit block close its transaction?
    fn commit(&mut self, block: &[u8], number: u32) -> Next {
        // Header, type and size of the checksum, two bytes; the checksum; since 1970 in seconds.
        let (kind, size) = (block.get(HEADER).copied(), block.get(HEADER.saturating_add(1)).copied());
        let stored = get_be32(block, COMMIT_SUM).unwrap_or(0);
        let time = get_be64(block, 48).unwrap_or(0);
        let is_right = match self.sb.sums {
            Sums::None => true,
            Sums::Transaction => match (kind, size) {
                (Some(1), Some(4)) => stored == self.sum,
                (Some(0), Some(0)) => stored == 0,
                _ => false,
            },
            Sums::Blocks { seed, .. } => commit_holds(seed, block),
        };
        if self.is_doubtful || !is_right {
            // Committed before the last one: it is left over from an earlier round of the log.
            if time < self.committed {
                return Next::End;
            }
            if self.sb.is_async && !self.is_doubtful {
                return Next::Damage(format!(
                    "its commit block, block {number} of the journal, was written before all of it was"
                ));
            }
            return Next::Damage(format!(
                "a wrong checksum, found at its commit block {number} of the journal"
            ));
        }
        if let Some(home) = self.unsound {
            return Next::Damage(format!("the copy of block {home} is damaged"));
        }
        self.committed = time;
        self.sum = !0;
        Next::Commit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(sums: Sums, is_wide: bool) -> Superblock {
        Superblock { first: 1, end: 1024, start: 1, sequence: 7, sums, is_wide, is_async: false, fast: None }
    }

    const V2: Sums = Sums::Blocks { seed: 0, is_v3: false };
    const V3: Sums = Sums::Blocks { seed: 0, is_v3: true };

    /// `journal_tag_bytes` in the kernel's `fs/jbd2/journal.c`.
    #[test]
    fn tags_have_the_size_that_the_features_make() {
        for (sums, is_wide, size) in [
            (Sums::None, false, 8),
            (Sums::None, true, 12),
            (Sums::Transaction, true, 12),
            (V2, false, 10),
            (V2, true, 14),
            (V3, false, 16),
            (V3, true, 16),
        ] {
            let mut block = vec![0; 1024];
            // The first tag has a UUID behind it, the second is the last.
            block[HEADER..HEADER + 4].copy_from_slice(&77_u32.to_be_bytes());
            let second = HEADER + size + 16;
            block[second..second + 4].copy_from_slice(&78_u32.to_be_bytes());
            block[second + 7] = 0x8 | 0x2 | 0x1;
            let tags = tags(&block, &superblock(sums, is_wide));
            let homes: Vec<(u64, u16)> = tags.iter().map(|tag| (tag.home, tag.flags)).collect();
            assert_eq!(homes, [(77, 0), (78, 0xb)], "{sums:?} {is_wide}");
        }
    }

    #[test]
    fn a_descriptor_without_a_last_tag_ends_with_its_block() {
        let block = vec![0; 64];
        assert_eq!(tags(&block, &superblock(Sums::None, false)).len(), 2);
        assert_eq!(tags(&block[..11], &superblock(Sums::None, false)).len(), 0);
    }

    #[test]
    fn a_list_of_revoked_blocks_is_as_long_as_it_says() {
        let mut block = vec![0; 64];
        block[12..16].copy_from_slice(&24_u32.to_be_bytes());
        block[16..20].copy_from_slice(&9_u32.to_be_bytes());
        block[20..24].copy_from_slice(&10_u32.to_be_bytes());
        assert_eq!(revoked(&block, &superblock(Sums::None, false)).unwrap(), [9, 10]);
        assert_eq!(revoked(&block, &superblock(Sums::None, true)).unwrap(), [9 << 32 | 10]);
        block[12..16].copy_from_slice(&65_u32.to_be_bytes());
        assert!(revoked(&block, &superblock(Sums::None, false)).is_err());
    }

    #[test]
    fn sequence_numbers_go_round() {
        assert!(is_after(1, 0) && is_after(0, u32::MAX) && is_after(5, u32::MAX - 5));
        assert!(!is_after(0, 0) && !is_after(u32::MAX, 0));
    }
}
