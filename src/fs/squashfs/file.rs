//! File data: blocks of one size, each packed for itself and one behind the other, and perhaps a tail in a fragment.
//!
//! ```text
//! inode ─ list: packed length of each block, 0 for a hole     volume: │ block │ block │   │ block │ ... │ fragment │
//! ```
//! The list has no places, so the place of a block is the sum of all lengths before it. That sum is kept for every
//! 2048th block of the files read last.

use super::Squashfs;
use super::inode::{Blocks, Body, Inode, Tail};
use super::metadata::{Cursor, Place as At8k};
use super::superblock::NONE;
use crate::block::{Place, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::Ino;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le32, get_le64};
use std::ops::Range;
use std::sync::Arc;

/// The bit of a block's length that says that it is stored as it is.
const STORED: u32 = 1 << 24;
/// Blocks between two marks: their lengths fill a piece of metadata.
const STRIDE: u64 = 2048;
/// Bytes of neighbouring packed blocks read at once.
const MAX_READ: u64 = 4 << 20;

/// Where the list of a file's blocks goes on, and the blocks on the volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    list: At8k,
    start: u64,
}

/// A block of a file.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The volume's byte of its packed form.
    start: u64,
    /// Its length there, 0 for a hole.
    stored: u64,
    is_packed: bool,
}

impl Block {
    /// From its place and a length as squashfs writes it.
    fn of(start: u64, length: u32, most: u64, at: &At) -> Result<Self> {
        let stored = u64::from(length & (STORED - 1));
        // The upper seven bits mean nothing yet.
        if length >> 25 != 0 || stored > most {
            return Err(Error::corrupt(at.clone()).because(format!("a block of packed length {length:#x}")));
        }
        Ok(Self { start, stored, is_packed: length & STORED == 0 })
    }

    const fn end(&self) -> u64 {
        self.start.saturating_add(self.stored)
    }
}

/// Packed blocks that were read at once, and what of the volume they are.
#[derive(Default)]
struct Fetched {
    range: Range<u64>,
    bytes: Vec<u8>,
}

impl Squashfs {
    fn block_size(&self) -> u64 {
        u64::from(self.sb.block_size)
    }

    /// An inode whose content may be read, with the places of its blocks.
    pub(super) fn file(&self, ino: Ino) -> Result<(Inode, Blocks)> {
        let inode = self.inode(ino)?;
        match inode.body {
            Body::File(blocks) => Ok((inode, blocks)),
            _ => {
                let what = format!("inode {ino} is a {}, not a regular file", inode.kind.name());
                Err(Error::new(ErrorKind::Denied, what))
            }
        }
    }

    /// How many blocks the file's list has, without its tail.
    fn block_count(&self, inode: &Inode, blocks: Blocks) -> u64 {
        let size = self.block_size();
        if blocks.tail.is_some() {
            inode.size.checked_div(size).unwrap_or(0)
        } else {
            inode.size.div_ceil(size)
        }
    }

    /// Bytes that block `number` unpacks to.
    fn plain_len(&self, inode: &Inode, number: u64) -> u64 {
        inode.size.saturating_sub(number.saturating_mul(self.block_size())).min(self.block_size())
    }

    /// Stands in front of the length of block `number`: the list from there, and the block's place.
    fn seek(&self, inode: &Inode, blocks: Blocks, number: u64) -> Result<(Cursor<'_>, u64)> {
        let wanted = number / STRIDE;
        let first = (0, Mark { list: inode.behind, start: blocks.start });
        let (mut at, mark) = self.marks.before(inode.ino, wanted).unwrap_or(first);
        let (mut cursor, mut start) = (self.cursor(mark.list), mark.start);
        let mut lengths = vec![0; narrow(STRIDE.saturating_mul(4))];
        let mut add = |cursor: &mut Cursor<'_>, start: &mut u64, count: u64| {
            let part = lengths.get_mut(..narrow(count.saturating_mul(4))).unwrap_or_default();
            cursor.fill(part)?;
            for length in part.as_chunks::<4>().0 {
                *start = start.saturating_add(u64::from(u32::from_le_bytes(*length) & (STORED - 1)));
            }
            Ok::<(), Error>(())
        };
        while at < wanted {
            add(&mut cursor, &mut start, STRIDE)?;
            at = at.saturating_add(1);
            self.marks.keep(inode.ino, at, Mark { list: cursor.place(), start });
        }
        add(&mut cursor, &mut start, number % STRIDE)?;
        Ok((cursor, start))
    }

    /// The next block of a list.
    fn next_block(&self, inode: &Inode, list: &mut Cursor<'_>, start: u64) -> Result<Block> {
        let length = u32::from_le_bytes(list.take()?);
        Block::of(start, length, self.block_size(), &inode.at())
    }

    /// Fills `buf` with the file's bytes from `offset` on; the caller has compared with the file's size.
    ///
    /// # Errors
    /// `Corrupt` when a block is damaged; what the volume reports.
    pub(super) fn read(
        &self,
        inode: &Inode,
        blocks: Blocks,
        mut buf: &mut [u8],
        mut offset: u64,
    ) -> Result<()> {
        let size = self.block_size();
        let count = self.block_count(inode, blocks);
        let first = offset.checked_div(size).unwrap_or(0);
        let end = offset.saturating_add(wide(buf.len()));
        if first < count && !buf.is_empty() {
            let last = end.div_ceil(size).min(count);
            let (mut list, mut start) = self.seek(inode, blocks, first)?;
            let mut wanted = Vec::new();
            for _ in first..last {
                let block = self.next_block(inode, &mut list, start)?;
                start = block.end();
                wanted.push(block);
            }
            // The end of the stretch of blocks that lie behind each other: all of it, as holes take no place.
            let mut fetched = Fetched::default();
            let mut wanted = wanted.iter().zip(first..).peekable();
            while let Some((block, number)) = wanted.next() {
                let skip = offset.saturating_sub(number.saturating_mul(size));
                let mut len = self.plain_len(inode, number).saturating_sub(skip);
                let whole = |(block, number): &(&Block, u64)| {
                    !block.is_packed && block.stored == self.plain_len(inode, *number)
                };
                if whole(&(block, number)) {
                    // Blocks that are stored as they are, one behind the other, are one read.
                    while let Some((_, next)) = wanted.next_if(whole) {
                        len = len.saturating_add(self.plain_len(inode, next));
                    }
                }
                let (now, rest) = buf.split_at_mut(narrow(len.min(wide(buf.len()))));
                self.read_block(inode, *block, number, start, &mut fetched, now, skip)?;
                buf = rest;
                offset = offset.saturating_add(len);
            }
        }
        match blocks.tail {
            Some(tail) if !buf.is_empty() => {
                let skip = offset.saturating_sub(count.saturating_mul(size));
                self.read_tail(inode, tail, buf, skip)
            }
            _ => Ok(()),
        }
    }

    /// Bytes of block `number` from `skip` on, and of those behind it that are stored as they are. What is packed is read together with its neighbours up to `until`.
    #[expect(clippy::too_many_arguments, reason = "a block, its neighbours, and where its bytes go")]
    fn read_block(
        &self,
        inode: &Inode,
        block: Block,
        number: u64,
        until: u64,
        fetched: &mut Fetched,
        buf: &mut [u8],
        skip: u64,
    ) -> Result<()> {
        let expected = self.plain_len(inode, number);
        let short = |len: u64| {
            Error::corrupt(inode.at()).because(format!("its block {number} has {len} of {expected} bytes"))
        };
        if block.stored == 0 {
            buf.fill(0);
            return Ok(());
        }
        if !block.is_packed {
            if block.stored < expected {
                return Err(short(block.stored));
            }
            return self.meta.volume().read_at(buf, block.start.saturating_add(skip));
        }
        let plain = self.blocks.get(block.start, || {
            let packed = self.fetch(block, until, fetched)?;
            self.sb
                .compression
                .unpack(packed, narrow(self.block_size()))
                .map_err(|error| error.at(At::new("squashfs", "data block").index(number).byte(block.start)))
        })?;
        if wide(plain.len()) < expected {
            return Err(short(wide(plain.len())));
        }
        let part = plain.get(narrow(skip)..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(part.ok_or_else(|| short(wide(plain.len())))?);
        Ok(())
    }

    /// A packed block, from what was read with one before it, or read now together with those behind it.
    fn fetch<'a>(&self, block: Block, until: u64, fetched: &'a mut Fetched) -> Result<&'a [u8]> {
        if block.start < fetched.range.start || block.end() > fetched.range.end {
            let until = until.min(block.start.saturating_add(MAX_READ)).min(self.meta.volume().len());
            let until = until.max(block.end());
            // At most MAX_READ, or one block of 1 MiB.
            let mut bytes = vec![0; narrow(until.saturating_sub(block.start))];
            self.meta.volume().read_at(&mut bytes, block.start)?;
            *fetched = Fetched { range: block.start..until, bytes };
        }
        let skip = narrow(block.start.saturating_sub(fetched.range.start));
        let packed = fetched.bytes.get(skip..).and_then(|rest| rest.get(..narrow(block.stored)));
        Ok(packed.unwrap_or_default())
    }

    /// A fragment as a block.
    fn fragment(&self, tail: Tail) -> Result<Block> {
        let at = At::new("squashfs", "fragment").index(u64::from(tail.fragment));
        if tail.fragment >= self.sb.fragments || self.sb.fragment_table == NONE {
            return Err(Error::corrupt(at).because(format!("there are {}", self.sb.fragments)));
        }
        let entry: [u8; 16] = self.table_entry(self.sb.fragment_table, u64::from(tail.fragment))?;
        let (start, length) = (get_le64(&entry, 0).unwrap_or(NONE), get_le32(&entry, 8).unwrap_or(0));
        Block::of(start, length, self.block_size(), &at)
    }

    /// Bytes of a tail from `skip` on.
    fn read_tail(&self, inode: &Inode, tail: Tail, buf: &mut [u8], skip: u64) -> Result<()> {
        let block = self.fragment(tail)?;
        let skip = skip.saturating_add(u64::from(tail.skip));
        let at = || At::new("squashfs", "fragment").index(u64::from(tail.fragment)).byte(block.start);
        let short = |len: u64| {
            let end = skip.saturating_add(wide(buf.len()));
            Error::corrupt(at()).because(format!("has {len} bytes, {} reads up to {end}", inode.at()))
        };
        if !block.is_packed {
            if skip.saturating_add(wide(buf.len())) > block.stored {
                return Err(short(block.stored));
            }
            return self.meta.volume().read_at(buf, block.start.saturating_add(skip));
        }
        let plain = self.fragment_bytes(block, at())?;
        let part = plain.get(narrow(skip)..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(part.ok_or_else(|| short(wide(plain.len())))?);
        Ok(())
    }

    fn fragment_bytes(&self, block: Block, at: At) -> Result<Arc<Vec<u8>>> {
        self.fragments.get(block.start, || {
            // At most a block of 1 MiB, compared when its length was read.
            let mut packed = vec![0; narrow(block.stored)];
            self.meta.volume().read_at(&mut packed, block.start)?;
            self.sb.compression.unpack(&packed, narrow(self.block_size())).map_err(|error| error.at(at))
        })
    }

    /// Where the byte at `offset` lies; the caller has compared with the file's size.
    ///
    /// # Errors
    /// `Corrupt` when the list of blocks is damaged.
    pub(super) fn run(&self, inode: &Inode, blocks: Blocks, offset: u64) -> Result<Run> {
        let size = self.block_size();
        let count = self.block_count(inode, blocks);
        let number = offset.checked_div(size).unwrap_or(0);
        let (block, mut skip, unit) = match blocks.tail {
            Some(tail) if number >= count => {
                let skip = offset.saturating_sub(count.saturating_mul(size));
                (self.fragment(tail)?, skip.saturating_add(u64::from(tail.skip)), u64::from(tail.fragment))
            }
            _ => {
                let (mut list, start) = self.seek(inode, blocks, number)?;
                let block = self.next_block(inode, &mut list, start)?;
                if block.stored == 0 {
                    return self.hole(inode, &mut list, offset, number, count);
                }
                (block, offset.saturating_sub(number.saturating_mul(size)), number)
            }
        };
        let left = inode.size.saturating_sub(offset);
        let len =
            self.plain_len(inode, number).saturating_sub(offset.saturating_sub(number.saturating_mul(size)));
        let place = if block.is_packed {
            Place::Packed { file: 0, offset: block.start, stored: block.stored, unit, skip }
        } else {
            skip = skip.saturating_add(block.start);
            Place::Stored { file: 0, offset: skip }
        };
        Ok(Run { len: len.min(left).max(1), place })
    }

    /// A hole and the holes behind it, as far as the list's next mark.
    fn hole(
        &self,
        inode: &Inode,
        list: &mut Cursor<'_>,
        offset: u64,
        number: u64,
        count: u64,
    ) -> Result<Run> {
        let size = self.block_size();
        let mut next = number.saturating_add(1);
        while next < count && next < number.saturating_add(STRIDE) {
            // What lies behind is not this caller's yet: its error comes when it is asked for.
            let Ok(block) = self.next_block(inode, list, 0) else { break };
            if block.stored != 0 {
                break;
            }
            next = next.saturating_add(1);
        }
        let end = next.saturating_mul(size).min(inode.size);
        Ok(Run { len: end.saturating_sub(offset).max(1), place: Place::Hole })
    }
}
