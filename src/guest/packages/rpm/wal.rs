//! SQLite's write-ahead log: pages that were committed and not yet copied into the database file ("Database File
//! Format", section 4 "The Write-Ahead Log"). Only what a whole transaction ended counts.

use super::store::Store;
use crate::error::Result;
use crate::num::narrow;
use crate::ondisk::{get_be32, get_le32};
use std::collections::HashMap;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Both end in the order of the bytes in which sums are made.
const MAGIC_LITTLE: u32 = 0x377f_0682;
const MAGIC_BIG: u32 = 0x377f_0683;

/// The pages that stand in a log.
#[derive(Debug, Default)]
pub(super) struct Wal {
    /// Page number to the offset of its newest committed copy.
    pages: HashMap<u32, u64>,
    /// Pages of the database after the last transaction, if there was one.
    pub(super) page_count: Option<u32>,
}

/// The running sum of section 4.2, "Checksum Algorithm".
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sum(u32, u32);

impl Sum {
    fn add(mut self, bytes: &[u8], word: fn(&[u8], usize) -> Option<u32>) -> Self {
        for pair in bytes.chunks_exact(8) {
            self.0 = self.0.wrapping_add(word(pair, 0).unwrap_or(0)).wrapping_add(self.1);
            self.1 = self.1.wrapping_add(word(pair, 4).unwrap_or(0)).wrapping_add(self.0);
        }
        self
    }
}

impl Wal {
    /// Reads a log. One that does not begin as a log should is not used, as SQLite does not use it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn load(log: &Store<'_>, page_size: u32) -> Result<Self> {
        let mut found = Self::default();
        if log.size() < crate::num::wide(HEADER) {
            return Ok(found);
        }
        let header = log.read(0, HEADER, "WAL header")?;
        let field = |at| get_be32(&header, at).unwrap_or(0);
        let word = match field(0) {
            MAGIC_LITTLE => get_le32,
            MAGIC_BIG => get_be32,
            _ => return Ok(found),
        };
        let mut sum = Sum(0, 0).add(header.get(..24).unwrap_or_default(), word);
        if sum != Sum(field(24), field(28)) || field(8) != page_size {
            return Ok(found);
        }
        let salts = (field(16), field(20));
        let size = FRAME_HEADER.saturating_add(narrow(page_size.into()));
        let mut at = crate::num::wide(HEADER);
        // Pages since the last commit.
        let mut open = HashMap::new();
        while at.checked_add(crate::num::wide(size)).is_some_and(|end| end <= log.size()) {
            let frame = log.read(at, size, "WAL frame")?;
            let field = |at| get_be32(&frame, at).unwrap_or(0);
            sum = sum.add(frame.get(..8).unwrap_or_default(), word);
            sum = sum.add(frame.get(FRAME_HEADER..).unwrap_or_default(), word);
            // An older frame that the log has not been written over yet, or one that was torn: the end.
            if (field(8), field(12)) != salts || sum != Sum(field(16), field(20)) || field(0) == 0 {
                break;
            }
            open.insert(field(0), at.saturating_add(crate::num::wide(FRAME_HEADER)));
            if field(4) != 0 {
                found.pages.extend(open.drain());
                found.page_count = Some(field(4));
            }
            at = at.saturating_add(crate::num::wide(size));
        }
        Ok(found)
    }

    /// Where the log has a page, if it has it.
    pub(super) fn page(&self, number: u32) -> Option<u64> {
        self.pages.get(&number).copied()
    }
}
