//! Transactions, put together from the operations of records. One may begin in one record and be committed in another,
//! others in between; a region of bytes that did not fit goes on in the next operation.
//!
//! ```text
//! operation    transaction 4 │ length 4 │ client 1 │ flags 1 │ unused 2 │ bytes
//! transaction  (start) │ header 16 │ item: format, regions … │ item … │ (commit)
//! ```
//! Numbers of operations are big-endian; headers and items are in the order of the machine.

use super::record::Header;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_be32, get_le16, get_le32};
use std::collections::HashMap;

/// Bytes of all transactions under way at once, each operation's share of memory included. The kernel starts to write a
/// transaction out when it has 32 MiB (`XLOG_CIL_SPACE_LIMIT`).
const MAX_BYTES: u64 = 96 << 20;
/// What an operation takes at most besides its bytes: a transaction, or an item with its list and a region.
const OPERATION_COST: u64 = 192;
/// Regions of one item (`XLOG_MAX_REGIONS_IN_ITEM`).
const MAX_REGIONS: usize = 257;
/// Bytes of an operation's header, and of a transaction's.
const OPERATION: usize = 12;
const TRANSACTION: usize = 16;
/// A transaction's first word.
const MAGIC: u32 = 0x5452_414e;
/// Those that write operations: transactions, and the log itself.
const CLIENTS: [u8; 2] = [0x69, 0xaa];

/// Bits of an operation's flags.
mod flag {
    pub(super) const START: u8 = 0x01;
    pub(super) const COMMIT: u8 = 0x02;
    /// Goes on in another operation.
    pub(super) const CONTINUE: u8 = 0x04;
    /// Is what another goes on with.
    pub(super) const CONTINUED: u8 = 0x08;
    pub(super) const END: u8 = 0x10;
    pub(super) const UNMOUNT: u8 = 0x20;
}

/// Something that a transaction changes: a description, and the bytes.
#[derive(Debug, Default)]
pub(super) struct Item {
    /// The first one says what it is and how many there are.
    pub(super) regions: Vec<Vec<u8>>,
    total: usize,
}

impl Item {
    /// What the item is, in its first sixteen bits.
    pub(super) fn kind(&self) -> u16 {
        get_le16(self.region(0), 0).unwrap_or(0)
    }

    /// A region, empty if there is none of that number.
    pub(super) fn region(&self, number: usize) -> &[u8] {
        self.regions.get(number).map_or(&[], Vec::as_slice)
    }
}

/// A transaction, whole when it is handed over.
#[derive(Debug)]
pub(super) struct Transaction {
    /// Where in the log it starts.
    pub(super) lsn: u64,
    pub(super) items: Vec<Item>,
    header: Vec<u8>,
    bytes: u64,
}

impl Transaction {
    const fn new(lsn: u64) -> Self {
        Self { lsn, items: Vec::new(), header: Vec::new(), bytes: OPERATION_COST }
    }

    /// Takes the bytes of an operation. `Err` says what is wrong.
    fn take(&mut self, bytes: &[u8], is_continued: bool) -> Result<(), &'static str> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.header.len() < TRANSACTION {
            self.header.extend_from_slice(bytes);
            let is_header = get_le32(&self.header, 0).is_none_or(|magic| magic == MAGIC);
            let fits = self.header.len() <= TRANSACTION;
            return if is_header && fits { Ok(()) } else { Err("no header of a transaction") };
        }
        if is_continued {
            let last = self.items.last_mut().and_then(|item| item.regions.last_mut());
            last.ok_or("the rest of something without its start")?.extend_from_slice(bytes);
            return Ok(());
        }
        let is_full =
            self.items.last().is_none_or(|item| item.total != 0 && item.total == item.regions.len());
        if is_full {
            self.items.push(Item::default());
        }
        let item = self.items.last_mut().ok_or("no item")?;
        if item.total == 0 {
            item.total = usize::from(get_le16(bytes, 2).unwrap_or(0));
            if item.total == 0 || item.total > MAX_REGIONS {
                return Err("an item of no or too many regions");
            }
        }
        item.regions.push(bytes.to_vec());
        Ok(())
    }
}

/// Puts transactions together.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    open: HashMap<u32, Transaction>,
    bytes: u64,
}

impl Assembler {
    /// Takes the operations of a record, and hands over each transaction that is committed in it.
    ///
    /// # Errors
    /// `Corrupt` for operations that make no sense; `Limit` for too many bytes at once; of `sink`.
    pub(super) fn take(
        &mut self,
        header: &Header,
        data: &[u8],
        sink: &mut dyn FnMut(Transaction) -> Result<()>,
    ) -> Result<()> {
        let at = || At::new("xfs", "log record").index(header.lsn());
        let mut rest = data;
        for number in 0..header.operations() {
            let bad = |why: &str| Err(Error::corrupt(at()).because(format!("operation {number}: {why}")));
            if rest.is_empty() {
                break;
            }
            let Some((operation, behind)) = rest.split_at_checked(OPERATION) else {
                return bad("is cut off");
            };
            let len = narrow(u64::from(get_be32(operation, 4).unwrap_or(0)));
            let Some((bytes, behind)) = behind.split_at_checked(len) else {
                return bad("is longer than its record");
            };
            rest = behind;
            let id = get_be32(operation, 0).unwrap_or(0);
            let &[client, flags] = operation.get(8..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 2]);
            if !CLIENTS.contains(&client) {
                return bad("is of an unknown client");
            }
            let Some(open) = self.open.get_mut(&id) else {
                // What began in front of the tail is written home already.
                if flags & flag::START != 0 {
                    self.bytes = self.bytes.saturating_add(OPERATION_COST);
                    if self.bytes > MAX_BYTES {
                        return Err(too_much().at(at()));
                    }
                    self.open.insert(id, Transaction::new(header.lsn()));
                }
                continue;
            };
            let flags = flags & !flag::END;
            let is_continued = flags & flag::CONTINUED != 0;
            match if is_continued { flags & !flag::CONTINUE } else { flags } {
                0 | flag::CONTINUE | flag::CONTINUED => {
                    if let Err(why) = open.take(bytes, is_continued) {
                        return bad(why);
                    }
                    let cost = wide(len).saturating_add(OPERATION_COST);
                    open.bytes = open.bytes.saturating_add(cost);
                    self.bytes = self.bytes.saturating_add(cost);
                    if self.bytes > MAX_BYTES {
                        return Err(too_much().at(at()));
                    }
                }
                flag::COMMIT => {
                    if let Some(whole) = self.open.remove(&id) {
                        self.bytes = self.bytes.saturating_sub(whole.bytes);
                        sink(whole)?;
                    }
                }
                flag::UNMOUNT => {
                    if let Some(dropped) = self.open.remove(&id) {
                        self.bytes = self.bytes.saturating_sub(dropped.bytes);
                    }
                }
                _ => return bad("has flags that do not go together"),
            }
        }
        Ok(())
    }
}

fn too_much() -> Error {
    Error::limit(format!("transactions under way that take more than {MAX_BYTES} bytes of memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(flags: u8, bytes: &[u8]) -> Vec<u8> {
        let len = u32::try_from(bytes.len()).unwrap();
        [&7_u32.to_be_bytes()[..], &len.to_be_bytes(), &[0x69, flags, 0, 0], bytes].concat()
    }

    fn header(operations: u32) -> Header {
        let mut block = [0; 512];
        block[40..44].copy_from_slice(&operations.to_be_bytes());
        Header::new(&block)
    }

    fn take(all: &[Vec<u8>]) -> Result<Vec<Transaction>> {
        let mut whole = Vec::new();
        let mut assembler = Assembler::default();
        let header = header(u32::try_from(all.len()).unwrap());
        assembler.take(&header, &all.concat(), &mut |transaction| {
            whole.push(transaction);
            Ok(())
        })?;
        Ok(whole)
    }

    #[test]
    fn a_region_in_two_parts_and_a_header_in_two() {
        let whole = take(&[
            operation(flag::START, &[]),
            operation(flag::CONTINUE, b"NART\x28\0\0\0"),
            operation(flag::CONTINUED | flag::END, &[0; 8]),
            operation(0, &[0x3c, 0x12, 2, 0]),
            operation(flag::CONTINUE, b"abc"),
            operation(flag::CONTINUED | flag::END, b"def"),
            operation(0, &[0x3b, 0x12, 1, 0]),
            operation(flag::COMMIT, &[]),
        ])
        .unwrap();
        let items: Vec<(u16, &[u8])> =
            whole[0].items.iter().map(|item| (item.kind(), item.region(1))).collect();
        assert_eq!(items, [(0x123c, &b"abcdef"[..]), (0x123b, &b""[..])]);
    }

    /// A log of 64 MiB that only begins transactions took 881 MB before each was counted.
    #[test]
    fn transactions_that_never_end_are_counted() {
        let mut assembler = Assembler::default();
        let mut taken = 0_u32;
        let error = loop {
            let all: Vec<u8> = (0..10_000_u32)
                .flat_map(|n| [&(taken + n).to_be_bytes()[..], &[0; 4], &[0x69, flag::START, 0, 0]].concat())
                .collect();
            if let Err(error) = assembler.take(&header(10_000), &all, &mut |_| Ok(())) {
                break error;
            }
            taken += 10_000;
            assert!(taken < 1_000_000, "they are not counted");
        };
        assert_eq!(error.kind(), crate::error::ErrorKind::Limit);
        // What ended is given back.
        let whole = [operation(flag::START, &[]), operation(flag::COMMIT, &[])].concat();
        let mut assembler = Assembler::default();
        for _ in 0..1000 {
            assembler.take(&header(2), &whole, &mut |_| Ok(())).unwrap();
        }
        assert_eq!(assembler.bytes, 0);
    }

    #[test]
    fn what_began_before_is_passed_over_and_nonsense_is_corrupt() {
        assert!(take(&[operation(0, b"rest"), operation(flag::COMMIT, &[])]).unwrap().is_empty());
        assert!(take(&[operation(flag::START, &[]), operation(0, b"no header here..")]).is_err());
        let mut long = operation(flag::START, &[]);
        long[7] = 1;
        assert!(take(&[long]).is_err());
    }
}
