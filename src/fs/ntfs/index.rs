//! Indexes: sorted keys in a tree of blocks, its root in the record. Directories are indexes of names; `$Secure`, `$ObjId`,
//! `$Reparse` and `$Quota` have others ("view indexes").
//!
//! ```text
//! $INDEX_ROOT        0 type of the keys  4 collation  8 bytes in a block  | header at 10 | entries
//! $INDEX_ALLOCATION  blocks: `INDX`, fix-up, 10 own VCN | header at 18 | entries
//! $BITMAP            which blocks are in use
//! header             0 first entry at  4 end of entries  8 allocated  c has blocks below?
//! entry              0 file reference, or where data lie and how many  8 length  a key length  c flags  10 key ... VCN below
//! ```
//! Facts: linux-ntfs project, "NTFS documentation", "Index root", "Index record", "Index entry".

use super::attribute::{Attribute, Body, kind};
use super::boot::MAX_INDEX_BLOCK;
use super::file::{File, Mapping};
use super::record::fix_up;
use super::volume::Volume;
use crate::budget::{Budget, Limits};
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::meta::Bytes;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};
use std::cmp::Ordering;
use std::ops::ControlFlow;

/// Where the header of the root's entries, and that of a block's, stands.
const ROOT_HEADER: usize = 0x10;
const BLOCK_HEADER: usize = 0x18;
/// The shortest entry: the one behind the last key.
const SHORTEST: usize = 0x10;
/// Bits of an entry's flags.
const HAS_CHILD: u16 = 1;
const IS_LAST: u16 = 2;
/// Bits of a cookie that say where in a node; a block has at most 2^16 bytes.
const OFFSET_BITS: u32 = 17;
/// Nodes on the way down. Nodes have dozens of entries, so that more would hold more files than there can be.
const MAX_DEPTH: usize = 16;
/// Nodes that one search may look at: those of a path for each of a few keys that differ in case only.
const MAX_NODES: usize = 512;
/// Damaged blocks that one listing passes over: more are not the damage of a directory that somebody had.
const MAX_DAMAGED: usize = 1 << 13;
/// Bytes of the bitmap looked at together, and how often: more than 2^32 names need.
const WINDOW: u64 = 4096;
const MAX_WINDOWS: usize = 1 << 12;

/// An entry of an index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'b> {
    /// All of it.
    pub(super) bytes: &'b [u8],
    /// Its key.
    pub(super) key: &'b [u8],
    /// Where to go on after it.
    pub(super) next: u64,
    /// The block with the keys before this one.
    child: Option<u64>,
    is_last: bool,
}

impl Entry<'_> {
    /// The file reference of a name.
    pub(super) fn reference(&self) -> super::record::Reference {
        super::record::Reference(get_le64(self.bytes, 0).unwrap_or(0))
    }

    /// The data of an entry of a view index.
    pub(super) fn data(&self) -> &[u8] {
        let (at, len) = (get_le16(self.bytes, 0).unwrap_or(0), get_le16(self.bytes, 2).unwrap_or(0));
        self.bytes.get(usize::from(at)..).and_then(|rest| rest.get(..len.into())).unwrap_or_default()
    }
}

/// The root or a block, true words put back.
struct Node {
    bytes: Bytes,
    header: usize,
    /// 0 for the root, else 1 and the block's ordinal.
    number: u64,
    /// Where it is, for errors.
    at: At,
}

impl Node {
    /// Hands over its entries, the last one without a key included.
    fn entries(&self, sink: &mut dyn FnMut(Entry<'_>) -> Result<ControlFlow<()>>) -> Result<()> {
        let bad = |why: &str| Err(Error::corrupt(self.at.clone()).because(why));
        let word = |at: usize| {
            let word = get_le32(&self.bytes, self.header.saturating_add(at));
            word.map_or(usize::MAX, |word| narrow(word.into())).saturating_add(self.header)
        };
        let (mut place, end) = (word(0), word(4));
        if end > self.bytes.len() || place > end {
            return bad("its entries lie outside");
        }
        while place < end {
            let rest = self.bytes.get(place..end).unwrap_or_default();
            let Some((entry, len)) = Self::entry(rest) else { return bad("an entry makes no sense") };
            let is_last = entry.is_last;
            place = place.saturating_add(len);
            let next = self.number << OFFSET_BITS | wide(place);
            if sink(Entry { next, ..entry })?.is_break() || is_last {
                return Ok(());
            }
        }
        bad("its last entry is missing")
    }

    /// The entry at the start of `rest`, and how long it is.
    fn entry(rest: &[u8]) -> Option<(Entry<'_>, usize)> {
        let len = usize::from(get_le16(rest, 8)?);
        let bytes = rest.get(..len).filter(|_| len >= SHORTEST && len % 8 == 0)?;
        let flags = get_le16(bytes, 0xc)?;
        let child_at = len.checked_sub(8).filter(|at| *at >= SHORTEST);
        let child = match flags & HAS_CHILD {
            0 => None,
            _ => Some(get_le64(bytes, child_at?)?),
        };
        let is_last = flags & IS_LAST != 0;
        let key_len = if is_last { 0 } else { usize::from(get_le16(bytes, 0xa)?) };
        let key = bytes.get(SHORTEST..SHORTEST.checked_add(key_len)?)?;
        Some((Entry { bytes, key, next: 0, child, is_last }, len))
    }
}

/// An index of a file.
struct Index<'a> {
    volume: &'a Volume,
    file: &'a File,
    root: &'a Bytes,
    allocation: Option<&'a Attribute>,
    bitmap: Option<&'a Attribute>,
    /// Bytes in a block.
    block: u64,
    /// What blocks are numbered in, as a power of two: clusters, or 512 bytes where a block is smaller than one.
    unit_log: u32,
}

impl<'a> Index<'a> {
    fn of(volume: &'a Volume, file: &'a File, name: &str) -> Result<Self> {
        let units: Vec<u16> = name.encode_utf16().collect();
        let root = file.need(kind::INDEX_ROOT, &units, "$INDEX_ROOT")?.resident();
        let root =
            root.ok_or_else(|| Error::corrupt(file.at()).because("its $INDEX_ROOT is not in the record"))?;
        let block = u64::from(get_le32(root, 8).unwrap_or(0));
        if !block.is_power_of_two() || !(512..=MAX_INDEX_BLOCK).contains(&block) {
            let why = format!("its $INDEX_ROOT has blocks of {block} bytes");
            return Err(Error::corrupt(file.at()).because(why));
        }
        let cluster_log = volume.boot.cluster_log;
        Ok(Self {
            volume,
            file,
            root,
            allocation: file.find(kind::INDEX_ALLOCATION, &units)?,
            bitmap: file.find(kind::BITMAP, &units)?,
            block,
            unit_log: if block.trailing_zeros() >= cluster_log { cluster_log } else { 9 },
        })
    }

    fn root(&self) -> Node {
        let at = At::new("ntfs", "$INDEX_ROOT of MFT record").index(self.file.number);
        Node { bytes: self.root.clone(), header: ROOT_HEADER, number: 0, at }
    }

    /// Reads the block of this ordinal.
    fn block(&self, ordinal: u64, mapping: &mut Mapping<'a>) -> Result<Node> {
        let mut at = At::new("ntfs", "index block").index(ordinal);
        let start = ordinal.checked_mul(self.block);
        let size = self.allocation.map_or(0, Attribute::size);
        let start = start.filter(|start| start.checked_add(self.block).is_some_and(|end| end <= size));
        let start = start.ok_or_else(|| {
            Error::corrupt(self.file.at())
                .because(format!("its index has {size} bytes, block {ordinal} is named"))
        })?;
        let log = self.volume.boot.cluster_log;
        let mut bytes = Vec::with_capacity(narrow(self.block));
        while wide(bytes.len()) < self.block {
            let place = start.saturating_add(wide(bytes.len()));
            let stretch = mapping.at(place >> log)?;
            let Some(lcn) = stretch.lcn else {
                return Err(Error::corrupt(self.file.at()).because("its index has a hole"));
            };
            let skip = place.saturating_sub(stretch.vcn << log);
            let left = self.block.saturating_sub(wide(bytes.len()));
            let len = (stretch.clusters << log).saturating_sub(skip).min(left);
            let byte = (lcn << log).saturating_add(skip);
            if bytes.is_empty() {
                at = at.byte(byte);
            }
            bytes.extend_from_slice(&self.volume.meta.near(byte, len)?);
        }
        fix_up(&mut bytes, b"INDX", &at)?;
        let own = get_le64(&bytes, 0x10).unwrap_or(0);
        if own != start >> self.unit_log {
            let why = format!("says that it is at {own}, stands at {}", start >> self.unit_log);
            return Err(Error::corrupt(at).because(why));
        }
        Ok(Node { bytes: bytes.into(), header: BLOCK_HEADER, number: ordinal.saturating_add(1), at })
    }

    /// The ordinal of the block that an entry names.
    fn ordinal(&self, vcn: u64) -> Result<u64> {
        let start =
            vcn.checked_mul(1_u64 << self.unit_log).filter(|start| start & self.block.saturating_sub(1) == 0);
        start.and_then(|start| start.checked_div(self.block)).ok_or_else(|| {
            Error::corrupt(self.file.at()).because(format!("its index names a block at {vcn}"))
        })
    }

    /// A block that an entry names and that is not there.
    fn lost(&self, block: u64) -> Error {
        Error::corrupt(self.file.at())
            .because(format!("its index names block {block}, which its bitmap says is not in use"))
    }

    /// The blocks in use; `None` where nothing says which.
    fn used<'s>(&'s self, budget: &'s Budget) -> Option<Used<'a, 's>> {
        // What is larger than its volume is damaged; nothing of it is looked for behind that.
        let most = self.volume.boot.size().min(self.volume.meta.volume().len());
        let size = self.allocation.map_or(0, Attribute::size).min(most);
        let end = size.checked_div(self.block).unwrap_or(0);
        Some(Used {
            index: self,
            bitmap: self.bitmap?,
            budget,
            end,
            window: Vec::new(),
            start: 0,
            windows: 0,
        })
    }

    fn mapping(&self) -> Option<Mapping<'a>> {
        let attribute = self.allocation?;
        match &attribute.body {
            Body::NonResident(body) => Some(Mapping::new(self.volume, self.file, attribute, body)),
            Body::Resident(..) => None,
        }
    }

    /// See [`Volume::each`].
    fn each(&self, from: u64, sink: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>) -> Result<()> {
        let (first, offset) = (from >> OFFSET_BITS, from & (1_u64 << OFFSET_BITS).saturating_sub(1));
        let budget = Budget::new(Limits::LISTING);
        let mut is_done = false;
        let mut named = self.used(&budget).filter(|_| self.mapping().is_some());
        let mut lost = None;
        let mut hand_over = |node: &Node| {
            let skip = if node.number == first { offset } else { 0 };
            node.entries(&mut |entry| {
                // Blocks are handed over by the bitmap. What it does not know is not passed over in silence.
                if let (Some(vcn), None) = (entry.child, &lost) {
                    let is_used =
                        |block| Ok((block, named.as_mut().map_or(Ok(false), |used| used.has(block))?));
                    lost = match self.ordinal(vcn).and_then(is_used) {
                        Ok((_, true)) => None,
                        Ok((block, false)) => Some(self.lost(block)),
                        Err(error) => Some(error),
                    };
                }
                // An entry begins where the one before it ended, which is what cookies name.
                let end = entry.next & (1_u64 << OFFSET_BITS).saturating_sub(1);
                if entry.is_last || end <= skip {
                    return Ok(ControlFlow::Continue(()));
                }
                is_done = sink(entry).is_break();
                Ok(if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            Ok(is_done)
        };
        // Damage in one node does not hide the others: it is told when they have been handed over.
        let mut trouble: Option<Error> = None;
        let mut damaged = 0_usize;
        let mut note = |result: Result<bool>| match result {
            Err(error) if error.kind() == ErrorKind::Corrupt && damaged < MAX_DAMAGED => {
                damaged = damaged.saturating_add(1);
                trouble.get_or_insert(error);
                Ok(false)
            }
            other => other,
        };
        if first == 0 && note(hand_over(&self.root()))? {
            return Ok(());
        }
        if let Some(mut mapping) = self.mapping() {
            let mut used = self.used(&budget).ok_or_else(|| {
                Error::corrupt(self.file.at()).because("its index has blocks and no $BITMAP of them")
            })?;
            let mut next = first.saturating_sub(1);
            while let Some(ordinal) = used.from(next)? {
                let node = self.block(ordinal, &mut mapping);
                if note(node.and_then(|node| hand_over(&node)))? {
                    return Ok(());
                }
                next = ordinal.saturating_add(1);
            }
        }
        trouble.or(lost).map_or(Ok(()), Err)
    }

    /// See [`Volume::seek`].
    fn seek(
        &self,
        order: &dyn Fn(&[u8]) -> Ordering,
        sink: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut search = Search { index: self, order, sink, mapping: self.mapping(), nodes: 0 };
        search.node(&self.root(), MAX_DEPTH).map(|_| ())
    }
}

/// One search in an index.
struct Search<'a, 's> {
    index: &'s Index<'a>,
    order: &'s dyn Fn(&[u8]) -> Ordering,
    sink: &'s mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    mapping: Option<Mapping<'a>>,
    nodes: usize,
}

impl Search<'_, '_> {
    fn node(&mut self, node: &Node, depth: usize) -> Result<ControlFlow<()>> {
        self.nodes = self.nodes.saturating_add(1);
        let bad = || Error::corrupt(node.at.clone());
        if self.nodes > MAX_NODES {
            return Err(bad().because(format!("a search led through more than {MAX_NODES} nodes")));
        }
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| bad().because(format!("lies deeper than {MAX_DEPTH} nodes")))?;
        let mut flow = ControlFlow::Continue(());
        node.entries(&mut |entry| {
            let order = if entry.is_last { Ordering::Greater } else { (self.order)(entry.key) };
            if order == Ordering::Less {
                return Ok(ControlFlow::Continue(()));
            }
            if order == Ordering::Equal {
                flow = (self.sink)(entry);
            }
            if let (Some(child), ControlFlow::Continue(())) = (entry.child, flow) {
                flow = self.child(child, depth)?;
            }
            let goes_on = order == Ordering::Equal && flow.is_continue();
            Ok(if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(flow)
    }

    fn child(&mut self, vcn: u64, depth: usize) -> Result<ControlFlow<()>> {
        let ordinal = self.index.ordinal(vcn)?;
        let mapping = self.mapping.as_mut().ok_or_else(|| self.index.lost(ordinal))?;
        let node = self.index.block(ordinal, mapping)?;
        self.node(&node, depth)
    }
}

/// The blocks in use, by the bitmap.
struct Used<'a, 's> {
    index: &'s Index<'a>,
    bitmap: &'a Attribute,
    budget: &'s Budget,
    /// The block behind the last that there can be.
    end: u64,
    /// Bytes of the bitmap, from byte `start` on.
    window: Vec<u8>,
    start: u64,
    /// Windows read so far.
    windows: usize,
}

impl Used<'_, '_> {
    /// A byte of the bitmap; `None` behind its end.
    fn byte(&mut self, at: u64) -> Result<Option<u8>> {
        if at < self.start || at >= self.start.saturating_add(wide(self.window.len())) {
            self.budget.step("ntfs: blocks of an index")?;
            self.windows = self.windows.saturating_add(1);
            let index = self.index;
            self.start = at.saturating_sub(at % WINDOW);
            self.window.resize(narrow(WINDOW), 0);
            let read = index.volume.read_attribute(index.file, self.bitmap, &mut self.window, self.start)?;
            self.window.truncate(read);
        }
        Ok(self.window.get(narrow(at.saturating_sub(self.start))).copied())
    }

    /// Is the block of this ordinal in use? After [`MAX_WINDOWS`] nobody looks any more.
    fn has(&mut self, ordinal: u64) -> Result<bool> {
        if self.windows > MAX_WINDOWS {
            return Ok(true);
        }
        let bits = self.byte(ordinal >> 3)?.unwrap_or(0);
        Ok(ordinal < self.end && bits >> (ordinal & 7) & 1 != 0)
    }

    /// The first block in use that has this ordinal or a greater one.
    fn from(&mut self, first: u64) -> Result<Option<u64>> {
        let mut ordinal = first;
        while ordinal < self.end {
            let Some(bits) = self.byte(ordinal >> 3)? else { return Ok(None) };
            if self.windows > MAX_WINDOWS {
                let max = WINDOW.saturating_mul(wide(MAX_WINDOWS));
                return Err(Error::limit(format!("an index with a $BITMAP of more than {max} bytes"))
                    .at(self.index.file.at()));
            }
            let left = bits >> (ordinal & 7);
            if left != 0 {
                let found = ordinal.saturating_add(left.trailing_zeros().into());
                self.budget.step("ntfs: blocks of an index")?;
                return Ok(Some(found).filter(|found| *found < self.end));
            }
            ordinal = (ordinal >> 3).saturating_add(1) << 3;
        }
        Ok(None)
    }
}

impl Volume {
    /// Hands over every entry of an index from `from` on: 0, or the `next` of one seen before. Not in the order of keys.
    ///
    /// # Errors
    /// When the index is damaged; what is sound has been handed over.
    pub(super) fn each(
        &self,
        file: &File,
        index: &str,
        from: u64,
        sink: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Index::of(self, file, index)?.each(from, sink)
    }

    /// Hands over the entries that are equal to what is looked for; `order` compares a key with it.
    ///
    /// # Errors
    /// When the index is damaged where they stand.
    pub(super) fn seek(
        &self,
        file: &File,
        index: &str,
        order: &dyn Fn(&[u8]) -> Ordering,
        sink: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Index::of(self, file, index)?.seek(order, sink)
    }

    /// The data of the entry of a view index that `order` takes for equal to what is looked for.
    ///
    /// # Errors
    /// As [`Volume::seek`].
    pub(super) fn view(
        &self,
        file: &File,
        index: &str,
        order: &dyn Fn(&[u8]) -> Ordering,
    ) -> Result<Option<Vec<u8>>> {
        let mut found = None;
        self.seek(file, index, order, &mut |entry| {
            found = Some(entry.data().to_vec());
            ControlFlow::Break(())
        })?;
        Ok(found)
    }
}
