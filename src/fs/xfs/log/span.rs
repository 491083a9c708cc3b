//! What must be played back: the records from the tail, in front of which all is written home, to the head.

use super::item::Cancelled;
use super::record::{self, Header, Record};
use super::ring::{IN_FLIGHT, Ring};
use super::transaction::Assembler;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::ondisk::get_be32;

/// An operation that says: unmounted cleanly.
const UNMOUNT: u8 = 0x20;

/// Records from `tail` to before `head`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    tail: u64,
    head: u64,
    /// The most bytes that one of the records has.
    record_size: u64,
}

/// The first record that could not be read, and why.
struct Torn {
    block: u64,
    error: Error,
}

impl Span {
    /// Finds head and tail. `None`: the log is clean, or was never written.
    ///
    /// # Errors
    /// `Corrupt` when no record is found; what the volume reports.
    pub(super) fn find(ring: &Ring<'_>, budget: &Budget) -> Result<Option<Self>> {
        let Some(rough) = ring.rough_head()? else { return Ok(None) };
        // An unmount waits for all writes, so nothing in front of it can be torn: most logs end here, after few reads.
        let reach = ring.record_blocks().saturating_add(16);
        if let Some((at, header)) = ring.back(rough, reach, 1)?
            && header.uuid() == ring.uuid
            && is_unmount(ring, at, &header, rough)?
        {
            return Ok(None);
        }
        let head = ring.head()?;
        let found = ring.back(head, reach.saturating_mul(IN_FLIGHT), 1)?;
        let (at, header) = found.ok_or_else(|| ring.bad(head, "no record in front of the head"))?;
        if is_unmount(ring, at, &header, head)? {
            return Ok(None);
        }
        let span = Self { tail: header.tail(), head, record_size: header.size() };
        if span.tail >= ring.blocks {
            return Err(ring.bad(at, format!("a tail at block {} of {}", span.tail, ring.blocks)));
        }
        let span = span.without_torn_head(ring, budget)?;
        Ok(span.filter(|span| span.tail != span.head))
    }

    /// Checks the records that may have been on their way together; the first that is torn is where the head really is.
    /// (`xlog_verify_head`)
    fn without_torn_head(self, ring: &Ring<'_>, budget: &Budget) -> Result<Option<Self>> {
        // Where tail and head meet, the kernel looks around the whole circle.
        let around = |head: u64| match ring.distance(self.tail, head) {
            0 => ring.blocks,
            distance => distance,
        };
        let Some((first, _)) = ring.back(self.head, around(self.head), IN_FLIGHT)? else {
            return Ok(Some(self));
        };
        let last = Self { tail: first, ..self };
        let Some(torn) = last.walk(ring, budget, &mut |_| Ok(()))? else { return Ok(Some(self)) };
        let Some((at, header)) = ring.back(torn.block, around(torn.block), 1)? else {
            return Err(torn.error);
        };
        if is_unmount(ring, at, &header, torn.block)? {
            return Ok(None);
        }
        let tail = header.tail();
        if tail >= ring.blocks {
            return Err(ring.bad(at, format!("a tail at block {tail} of {}", ring.blocks)));
        }
        Ok(Some(Self { tail, head: torn.block, record_size: header.size() }))
    }

    /// Reads all of it once and learns which buffers were given up. Where the head, before the machine stopped, was
    /// already writing over the tail, the tail is moved to the first record that is whole. (`xlog_verify_tail`)
    ///
    /// # Errors
    /// `Corrupt` where a record is damaged; what the volume reports.
    pub(super) fn verify(mut self, ring: &Ring<'_>, budget: &Budget) -> Result<(Self, Cancelled)> {
        let near = ring.distance(self.tail, self.head);
        self.tail =
            ring.forward(self.tail, near)?.ok_or_else(|| ring.bad(self.tail, "no record behind the tail"))?;
        loop {
            let mut cancelled = Cancelled::default();
            let mut assembler = Assembler::default();
            let torn = self.walk(ring, budget, &mut |record| {
                let mut learn = |transaction| cancelled.learn(&transaction);
                assembler.take(&record.header, &record.data, &mut learn)
            })?;
            let Some(torn) = torn else { return Ok((self, cancelled)) };
            let in_reach = self.record_size.saturating_mul(IN_FLIGHT) / 512;
            let behind_head = ring.distance(self.head, torn.block);
            let next = ring.after(torn.block, 1);
            let left = ring.distance(next, self.head);
            if behind_head > in_reach || left >= ring.distance(self.tail, self.head) {
                return Err(torn.error);
            }
            let Some(tail) = ring.forward(next, left)? else { return Err(torn.error) };
            self.tail = tail;
        }
    }

    /// Hands every record to `sink`. Answers with what is wrong with the first that is damaged.
    ///
    /// # Errors
    /// Of `sink`; what the volume reports.
    pub(super) fn scan(
        self,
        ring: &Ring<'_>,
        budget: &Budget,
        sink: &mut dyn FnMut(&Header, &[u8]) -> Result<()>,
    ) -> Result<Option<Error>> {
        let torn = self.walk(ring, budget, &mut |record| sink(&record.header, &record.data))?;
        Ok(torn.map(|torn| torn.error))
    }

    fn walk(
        self,
        ring: &Ring<'_>,
        budget: &Budget,
        sink: &mut dyn FnMut(&Record) -> Result<()>,
    ) -> Result<Option<Torn>> {
        let mut left = ring.distance(self.tail, self.head);
        let mut block = self.tail;
        while left > 0 {
            budget.step("log")?;
            if budget.is_late() {
                return Err(Error::limit("log: it is too long to be played back in time"));
            }
            match record::read(ring, block, left) {
                Ok(record) => {
                    sink(&record)?;
                    left = left.saturating_sub(record.blocks);
                    block = ring.after(block, record.blocks);
                }
                Err(error) if error.kind() == crate::error::ErrorKind::Corrupt => {
                    return Ok(Some(Torn { block, error }));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// Does the record at `at` say that the file system was unmounted, and end at `head`?
fn is_unmount(ring: &Ring<'_>, at: u64, header: &Header, head: u64) -> Result<bool> {
    let heads = header.blocks(ring.is_v2);
    let end = ring.after(at, heads.saturating_add(header.data_blocks()));
    if end != head || header.operations() != 1 {
        return Ok(false);
    }
    let operation = ring.read(ring.after(at, heads), 1)?;
    // Transaction 4, length 4, client 1, flags 1.
    Ok(get_be32(&operation, 4).is_some() && operation.get(9).is_some_and(|flags| flags & UNMOUNT != 0))
}
