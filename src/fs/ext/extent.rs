//! Extent trees: a file's blocks as runs, in the inode's sixty bytes or in a tree of blocks below them.
//!
//! ```text
//! node   header 12 │ entry 12 │ entry 12 │ …       depth 0: extents (file block, length, volume block)
//!                                                  depth n: index entries (file block, block of a node of depth n-1)
//! ```
//! Kernel documentation, `filesystems/ext4/ifork.rst`, "Extent Tree".

use super::Ext;
use super::inode::Inode;
use super::map::{Place, Stretch};
use crate::error::{At, Error, Result};
use crate::num::wide;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: u16 = 0xf30a;
/// The kernel's bound (`EXT4_MAX_EXTENT_DEPTH`): enough for 2^32 blocks at any block size.
const MAX_DEPTH: u16 = 5;
/// A longer length means: this less, and never written.
const MAX_WRITTEN: u16 = 32768;
/// File block numbers have 32 bits; this is one past the last.
const END: u64 = 1 << 32;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Header {
    magic: U16,      // 0x0 0xf30a
    entries: U16,    // 0x2 in use
    max: U16,        // 0x4 room for
    depth: U16,      // 0x6 levels below
    generation: U32, // 0x8
}
const _: () = assert!(size_of::<Header>() == 12);

/// An extent, at depth 0.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Extent {
    block: U32,    // 0x0 file block
    len: U16,      // 0x4 blocks; over 32768: that less, unwritten
    start_hi: U16, // 0x6 volume block
    start_lo: U32, // 0x8
}
const _: () = assert!(size_of::<Extent>() == 12);

/// An index entry, at depths above 0.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Index {
    block: U32,   // 0x0 file block from which on it counts
    leaf_lo: U32, // 0x4 volume block of the node below
    leaf_hi: U16, // 0x8
    unused: U16,  // 0xa
}
const _: () = assert!(size_of::<Index>() == 12);

impl Extent {
    fn start(&self) -> u64 {
        u64::from(self.start_lo.get()) | u64::from(self.start_hi.get()) << 32
    }

    /// Length in blocks, and whether it was ever written.
    fn len(&self) -> (u64, bool) {
        let len = self.len.get();
        match len.checked_sub(MAX_WRITTEN) {
            Some(unwritten @ 1..) => (u64::from(unwritten), false),
            _ => (u64::from(len), true),
        }
    }
}

/// What a node says about one file block.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Found(Stretch),
    /// The node at this block knows; it answers for file blocks from `from` to before `until`.
    Below {
        node: u64,
        from: u64,
        until: u64,
    },
}

/// Looks for file block `logical` in one node, which answers for blocks `from..until` and must have this `depth`.
///
/// # Errors
/// `Corrupt` unless header and order of the entries are right.
fn look(
    bytes: &[u8],
    logical: u64,
    depth: Option<u16>,
    from: u64,
    until: u64,
    at: &At,
) -> Result<(u16, Answer)> {
    let bad = |why: String| Error::corrupt(at.clone()).because(why);
    let Ok((header, rest)) = Header::read_from_prefix(bytes) else {
        return Err(bad("no room for a header".into()));
    };
    let (entries, found) = (header.entries.get(), header.depth.get());
    if header.magic.get() != MAGIC {
        return Err(bad(format!("its magic number is {:#06x}, not 0xf30a", header.magic.get())));
    }
    if depth.is_some_and(|depth| depth != found) || found > MAX_DEPTH {
        return Err(bad(format!("a depth of {found}")));
    }
    let used = usize::from(entries).saturating_mul(12);
    let Some(table) = rest.get(..used).filter(|_| entries <= header.max.get()) else {
        return Err(bad(format!("{entries} entries where {} fit", rest.len() / 12)));
    };
    let answer = if found == 0 {
        leaf(table, logical, from, until, at)
    } else {
        index(table, logical, from, until, at)
    }?;
    Ok((found, answer))
}

fn leaf(table: &[u8], logical: u64, from: u64, until: u64, at: &At) -> Result<Answer> {
    let bad = |why: String| Error::corrupt(at.clone()).because(why);
    let extents = <[Extent]>::ref_from_bytes(table).map_err(|_| bad("a torn table".into()))?;
    let mut end = from;
    let mut next = until;
    for (number, extent) in extents.iter().enumerate() {
        let (start, (len, written)) = (u64::from(extent.block.get()), extent.len());
        let stop = start.saturating_add(len);
        if len == 0 || start < end || stop > END {
            return Err(bad(format!("extent {number} covers blocks {start} to {stop}, after {end}")));
        }
        end = stop;
        if start > logical {
            next = next.min(start);
            break;
        }
        if logical < stop {
            let skip = logical.saturating_sub(start);
            let place =
                if written { Place::At(extent.start().saturating_add(skip)) } else { Place::Unwritten };
            let blocks = stop.min(until).saturating_sub(logical).max(1);
            return Ok(Answer::Found(Stretch { blocks, place }));
        }
    }
    let blocks = next.saturating_sub(logical).max(1);
    Ok(Answer::Found(Stretch { blocks, place: Place::Hole }))
}

fn index(table: &[u8], logical: u64, from: u64, until: u64, at: &At) -> Result<Answer> {
    let bad = |why: String| Error::corrupt(at.clone()).because(why);
    let entries = <[Index]>::ref_from_bytes(table).map_err(|_| bad("a torn table".into()))?;
    let mut chosen: Option<(u64, u64)> = None;
    let mut next = until;
    let mut last: Option<u64> = None;
    for (number, entry) in entries.iter().enumerate() {
        let start = u64::from(entry.block.get());
        if last.is_some_and(|last| start <= last) || start < from {
            return Err(bad(format!("index entry {number} starts at block {start}, out of order")));
        }
        last = Some(start);
        if start > logical {
            next = next.min(start);
            break;
        }
        chosen = Some((u64::from(entry.leaf_lo.get()) | u64::from(entry.leaf_hi.get()) << 32, start));
    }
    Ok(match chosen {
        Some((node, from)) => Answer::Below { node, from, until: next },
        None => Answer::Found(Stretch { blocks: next.saturating_sub(logical).max(1), place: Place::Hole }),
    })
}

/// The stretch of `inode` from file block `logical` on.
///
/// # Errors
/// `Corrupt` when a node on the way is damaged.
pub(super) fn find(ext: &Ext, inode: &Inode, logical: u32) -> Result<Stretch> {
    let logical = u64::from(logical);
    let at = At::new("ext", "extent tree of inode").index(inode.ino).byte(inode.byte);
    let (mut depth, mut answer) = look(inode.block(), logical, None, 0, END, &at)?;
    loop {
        let (node, from, until) = match answer {
            Answer::Found(stretch) => return Ok(stretch),
            Answer::Below { node, from, until } => (node, from, until),
        };
        let byte = ext.sb.block_offset(node, 1);
        let byte = byte.ok_or_else(|| {
            Error::corrupt(at.clone()).because(format!("a node at block {node}, not in the file system"))
        })?;
        // Each level is one less than the one above: a tree that leads back to itself ends here.
        let below =
            depth.checked_sub(1).ok_or_else(|| Error::corrupt(at.clone()).because("goes on below a leaf"))?;
        let at = At::new("ext", "extent tree of inode").index(inode.ino).byte(byte);
        let bytes = ext.meta.block(byte, ext.sb.block_size)?;
        debug_assert!(wide(bytes.len()) == ext.sb.block_size, "a whole block was asked for");
        ext.check_extents(inode, &bytes, &at, byte)?;
        (depth, answer) = look(&bytes, logical, Some(below), from, until, &at)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(depth: u16, entries: &[[u16; 6]]) -> Vec<u8> {
        let count = u16::try_from(entries.len()).unwrap();
        let mut words = vec![MAGIC, count, count, depth, 0, 0];
        words.extend(entries.iter().flatten());
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn at() -> At {
        At::new("ext", "extent tree")
    }

    fn found(bytes: &[u8], logical: u64) -> Stretch {
        match look(bytes, logical, None, 0, END, &at()).unwrap().1 {
            Answer::Found(stretch) => stretch,
            below @ Answer::Below { .. } => panic!("{below:?}"),
        }
    }

    #[test]
    fn extents_holes_and_unwritten_extents() {
        let bytes = node(0, &[[10, 0, 5, 0, 100, 0], [20, 0, 32768 + 7, 0, 200, 0]]);
        assert_eq!(found(&bytes, 0), Stretch { blocks: 10, place: Place::Hole });
        assert_eq!(found(&bytes, 12), Stretch { blocks: 3, place: Place::At(102) });
        assert_eq!(found(&bytes, 15), Stretch { blocks: 5, place: Place::Hole });
        assert_eq!(found(&bytes, 21), Stretch { blocks: 6, place: Place::Unwritten });
        assert_eq!(found(&bytes, 27), Stretch { blocks: END - 27, place: Place::Hole });
    }

    #[test]
    fn an_extent_of_32768_blocks_is_written() {
        let bytes = node(0, &[[0, 0, 32768, 1, 0, 0]]);
        assert_eq!(found(&bytes, 0), Stretch { blocks: 32768, place: Place::At(1 << 32) });
    }

    #[test]
    fn an_index_leads_to_the_node_below() {
        let bytes = node(2, &[[0, 0, 7, 0, 0, 0], [100, 0, 8, 0, 0, 0]]);
        let (depth, answer) = look(&bytes, 99, None, 0, END, &at()).unwrap();
        assert_eq!((depth, answer), (2, Answer::Below { node: 7, from: 0, until: 100 }));
        let (_, answer) = look(&bytes, 100, None, 0, END, &at()).unwrap();
        assert_eq!(answer, Answer::Below { node: 8, from: 100, until: END });
    }

    #[test]
    fn disorder_is_corrupt() {
        let overlap = node(0, &[[10, 0, 5, 0, 100, 0], [12, 0, 5, 0, 200, 0]]);
        let empty = node(0, &[[10, 0, 0, 0, 100, 0]]);
        let past_the_end = node(0, &[[0xffff, 0xffff, 2, 0, 100, 0]]);
        let unsorted = node(1, &[[10, 0, 5, 0, 0, 0], [10, 0, 6, 0, 0, 0]]);
        for bytes in [overlap, empty, past_the_end, unsorted, node(6, &[]), vec![0; 60], Vec::new()] {
            assert!(look(&bytes, 1 << 31, None, 0, END, &at()).is_err());
        }
    }

    #[test]
    fn more_entries_than_fit_are_corrupt() {
        let mut bytes = node(0, &[[0, 0, 1, 0, 9, 0]]);
        bytes[2..6].fill(0xff);
        assert!(look(&bytes, 0, None, 0, END, &at()).is_err());
    }

    #[test]
    fn a_node_of_another_depth_is_corrupt() {
        assert!(look(&node(1, &[[0, 0, 7, 0, 0, 0]]), 0, Some(0), 0, END, &at()).is_err());
    }
}
