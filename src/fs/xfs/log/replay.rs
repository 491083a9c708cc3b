//! Applying the items of transactions to the volume, in memory.
//!
//! In version 5 a block says which change of it was the last to be written home, and older ones are passed over. Blocks
//! of trees that only count what is free, shared or owned are not kept: nothing here reads them. Checksums are not
//! computed anew; whoever reads asks whether the log changed a block.

use super::intent::Intents;
use super::item::{
    BUFFER, Buffer, CHUNK, Cancelled, Chunk, INODE, InodeChange, buffer_flag, check_noted, field,
};
use super::transaction::{Item, Transaction};
use crate::block::BlockSource;
use crate::error::{At, Error, Result};
use crate::fs::overlay::Overlay;
use crate::fs::xfs::inode::{CORE_V2, CORE_V3};
use crate::fs::xfs::seal::Seal;
use crate::fs::xfs::superblock::Superblock;
use crate::num::{narrow, wide};
use crate::ondisk::{get_be16, get_be64, get_le16, get_le32, get_le64};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Unit in which the overlay keeps bytes.
const UNIT: u64 = 512;
/// A place in the log that means: none.
const NO_LSN: u64 = u64::MAX;
/// The largest value of a counter of flushes (`DI_MAX_FLUSH`); the next one is 0.
const MAX_FLUSH: u16 = 0xffff;

/// Magic numbers of blocks with the places of LSN and UUID in them: those whose change must not be older.
const DATED: &[(&[u8; 4], usize, usize)] = &[
    (b"BMA3", Seal::BMAP.lsn, Seal::BMAP.uuid),
    (b"XDB3", Seal::DIR.lsn, Seal::DIR.uuid),
    (b"XDD3", Seal::DIR.lsn, Seal::DIR.uuid),
    (b"XDF3", Seal::DIR.lsn, Seal::DIR.uuid),
    (b"XSLM", Seal::REMOTE.lsn, Seal::REMOTE.uuid),
    (b"XAGF", 208, 64),
    (b"XAGI", 320, 296),
    (b"XAFL", 24, 8),
    (b"XFSB", 240, 32),
];
/// Magic numbers of leaves and nodes of directories and attributes, in version 5.
const DATED_DA: [u16; 4] = [0x3df1, 0x3dff, 0x3ebe, 0x3bee];
/// Magic numbers of blocks that nothing here reads: free space, inodes, reverse mappings, counts of sharing.
const UNREAD: &[&[u8; 4]] =
    &[b"AB3B", b"AB3C", b"IAB3", b"FIB3", b"RMB3", b"R3FC", b"ABTB", b"ABTC", b"IABT", b"FIBT", b"XAFL"];

/// A chunk of inodes that the log makes: where it ends, its place, and the generation of its inodes.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    end: u64,
    group: u64,
    block: u64,
    generation: u32,
}

/// The volume as far as the log has been played back.
pub(super) struct Replay {
    sb: Superblock,
    overlay: Overlay,
    cancelled: Cancelled,
    intents: Intents,
    owners_changed: HashSet<u64>,
    /// Chunks of new inodes, by their first byte. Those that no transaction fills are never written out.
    fresh: BTreeMap<u64, Fresh>,
    /// The place in the log of each buffer's last change, once the kernel would have written it.
    written: HashMap<u64, u64>,
    /// Buffers changed by transactions that start at `batch`: not written until one starts elsewhere.
    pending: HashSet<u64>,
    batch: u64,
}

impl Replay {
    pub(super) fn new(volume: Arc<dyn BlockSource>, sb: Superblock, cancelled: Cancelled) -> Self {
        Self {
            sb,
            overlay: Overlay::new(volume, 512),
            cancelled,
            intents: Intents::default(),
            owners_changed: HashSet::new(),
            fresh: BTreeMap::new(),
            written: HashMap::new(),
            pending: HashSet::new(),
            batch: 0,
        }
    }

    /// The changed volume and its superblock, inodes that got another's tree, and what is to be told.
    pub(super) fn finish(self) -> (Overlay, Superblock, HashSet<u64>, Vec<String>) {
        let warnings = self.intents.warnings();
        (self.overlay, self.sb, self.owners_changed, warnings)
    }

    /// Applies one transaction: buffers and new chunks of inodes first, then inodes, then what is given up.
    ///
    /// # Errors
    /// `Corrupt` for an item that makes no sense; `Limit` when more would be kept than memory should hold.
    pub(super) fn apply(&mut self, transaction: &Transaction) -> Result<()> {
        let lsn = transaction.lsn;
        if lsn != self.batch {
            self.written.extend(self.pending.drain().map(|place| (place, self.batch)));
            self.batch = lsn;
        }
        let mut given_up = Vec::new();
        for item in &transaction.items {
            match item.kind() {
                BUFFER => {
                    let buffer = Buffer::parse(item)?;
                    if buffer.flags & buffer_flag::CANCEL == 0 {
                        self.buffer(&buffer, lsn)?;
                    } else {
                        given_up.push(buffer);
                    }
                }
                CHUNK => self.chunk(&Chunk::parse(item)?)?,
                _ => {}
            }
            self.check_notes()?;
        }
        for item in &transaction.items {
            match item.kind() {
                INODE => self.inode(item, lsn)?,
                BUFFER | CHUNK => {}
                _ => self.intents.take(item),
            }
            self.check_notes()?;
        }
        for buffer in given_up {
            self.cancelled.pass(buffer.place, u32::from(buffer.len));
        }
        Ok(())
    }

    fn check_notes(&self) -> Result<()> {
        let notes = [
            self.cancelled.len(),
            self.intents.len(),
            self.owners_changed.len(),
            self.fresh.len(),
            self.written.len(),
            self.pending.len(),
        ];
        check_noted(notes.iter().sum())
    }

    fn read(&self, byte: u64, len: usize) -> Result<Vec<u8>> {
        // A buffer or an inode: at most 64 KiB.
        let mut bytes = vec![0; len];
        self.overlay.read_at(&mut bytes, byte)?;
        Ok(bytes)
    }

    /// Keeps bytes that start and end at units.
    fn keep(&mut self, byte: u64, bytes: &[u8]) -> Result<()> {
        for (unit, piece) in (byte / UNIT..).zip(bytes.chunks(narrow(UNIT))) {
            self.overlay.keep(unit, piece.to_vec())?;
        }
        Ok(())
    }

    fn buffer(&mut self, buffer: &Buffer<'_>, lsn: u64) -> Result<()> {
        let ignored = buffer_flag::INODES | buffer_flag::QUOTA;
        if buffer.flags & ignored != 0 || self.cancelled.has(buffer.place, u32::from(buffer.len)) {
            return Ok(());
        }
        let byte = buffer.place.saturating_mul(UNIT);
        let mut bytes = self.read(byte, usize::from(buffer.len).saturating_mul(narrow(UNIT)))?;
        if self.sb.features.is_v5() && !self.pending.contains(&buffer.place) {
            let stored =
                self.dated(&bytes).map(|stored| self.written.get(&buffer.place).copied().unwrap_or(stored));
            if stored.is_some_and(|stored| stored != 0 && stored != NO_LSN && stored >= lsn) {
                return Ok(());
            }
        }
        buffer.copy_into(&mut bytes)?;
        if UNREAD.iter().any(|magic| bytes.starts_with(*magic)) {
            return Ok(());
        }
        // What follows in the log may lie in groups that this change added.
        if buffer.place == 0 {
            self.sb = self.sb.changed_by_log(&bytes)?;
        }
        self.pending.insert(buffer.place);
        self.keep(byte, &bytes)
    }

    /// The place in the log of the last change of a block of this file system, if it is of a kind that says so.
    fn dated(&self, bytes: &[u8]) -> Option<u64> {
        let by_magic = DATED.iter().find(|(magic, ..)| bytes.starts_with(*magic));
        let (lsn, uuid) = match by_magic {
            Some((_, lsn, uuid)) => (*lsn, *uuid),
            None if DATED_DA.contains(&get_be16(bytes, 8)?) => (Seal::DA.lsn, Seal::DA.uuid),
            None => return None,
        };
        // The superblock carries the UUID that people see, too; its own field for metadata may be empty.
        let own = if bytes.starts_with(b"XFSB") { self.sb.uuid() } else { &self.sb.meta_uuid };
        let is_own = bytes.get(uuid..).is_some_and(|rest| rest.starts_with(own));
        get_be64(bytes, lsn).filter(|_| is_own)
    }

    fn chunk(&mut self, chunk: &Chunk) -> Result<()> {
        let bad = |why: String| Error::corrupt(At::new("xfs", "log inode create item")).because(why);
        let fits = chunk.block.checked_add(chunk.blocks).is_some_and(|end| end <= self.sb.ag_blocks);
        if chunk.inode_size != self.sb.inode_size
            || !fits
            || chunk.group >= self.sb.ag_count
            || chunk.blocks == 0
        {
            return Err(bad(format!("{} blocks at {} of group {}", chunk.blocks, chunk.block, chunk.group)));
        }
        let linear = chunk.group.saturating_mul(self.sb.ag_blocks).saturating_add(chunk.block);
        let byte = linear.saturating_mul(self.sb.block_size);
        let len = chunk.blocks.saturating_mul(self.sb.block_size);
        // 64 inodes of 2 KiB at most, or one block of them.
        if len > 128 << 10 {
            return Err(bad(format!("{len} bytes of inodes")));
        }
        if self.cancelled.has_any(byte / UNIT, len / UNIT) {
            return Ok(());
        }
        for unit in byte / UNIT..byte.saturating_add(len) / UNIT {
            self.overlay.forget(unit);
        }
        let (group, block, generation) = (chunk.group, chunk.block, chunk.generation);
        self.fresh.insert(byte, Fresh { end: byte.saturating_add(len), group, block, generation });
        Ok(())
    }

    /// The inode at `byte` as it stands now: on the volume, changed, or new.
    fn current(&self, byte: u64) -> Result<Vec<u8>> {
        let size = self.sb.inode_size;
        let stored = || self.read(byte, narrow(size));
        if self.overlay.touches(byte..byte.saturating_add(size)) {
            return stored();
        }
        let Some((start, fresh)) =
            self.fresh.range(..=byte).next_back().filter(|(_, fresh)| byte < fresh.end)
        else {
            return stored();
        };
        let index = byte.saturating_sub(*start).checked_div(size).unwrap_or(0);
        let mut raw = vec![0; narrow(size)];
        put(&mut raw, 0, b"IN")?;
        put(&mut raw, 4, &[3])?;
        put(&mut raw, 92, &fresh.generation.to_be_bytes())?;
        put(&mut raw, 96, &u32::MAX.to_be_bytes())?;
        put(&mut raw, 152, &self.sb.inode_number(fresh.group, fresh.block, index).to_be_bytes())?;
        put(&mut raw, 160, &self.sb.meta_uuid)?;
        Ok(raw)
    }

    fn inode(&mut self, item: &Item, lsn: u64) -> Result<()> {
        let change = InodeChange::parse(item, self.sb.inode_size)?;
        if self.cancelled.has(change.place, change.len) {
            return Ok(());
        }
        let at = At::new("xfs", "log inode item").index(change.ino).byte(change.byte);
        let bad = |why: &str| Error::corrupt(at.clone()).because(why);
        let core = item.region(1);
        let is_v5 = self.sb.features.is_v5();
        let mut raw = self.current(change.byte)?;
        if !raw.starts_with(b"IN") || get_le16(core, 0) != Some(0x494e) {
            return Err(bad("no magic number IN"));
        }
        if change.fields & (field::OWNER | field::ATTRIBUTE_OWNER) != 0 {
            self.owners_changed.insert(change.ino);
        }
        if is_v5 {
            let stored = get_be64(&raw, 112).unwrap_or(0);
            if stored != 0 && stored != NO_LSN && stored > lsn {
                return Ok(());
            }
        } else {
            let (logged, stored) = (get_le16(core, 30).unwrap_or(0), get_be16(&raw, 30).unwrap_or(0));
            let wrapped = stored == MAX_FLUSH && logged < MAX_FLUSH / 2;
            if logged < stored && !wrapped {
                return Ok(());
            }
        }
        write_core(&mut raw, core, lsn, is_v5).map_err(|error| error.at(at.clone()))?;
        let start = if is_v5 { CORE_V3 } else { CORE_V2 };
        let fork = usize::from(raw.get(82).copied().unwrap_or(0)).saturating_mul(8);
        let middle = if fork == 0 { raw.len() } else { start.saturating_add(fork).min(raw.len()) };
        if change.fields & field::DEVICE != 0 {
            put(&mut raw, start, &change.device.to_be_bytes())?;
        }
        let header = if is_v5 { 72 } else { 24 };
        let data = change.fields & (field::DATA | field::EXTENTS | field::ROOT);
        let attributes =
            change.fields & (field::ATTRIBUTE_DATA | field::ATTRIBUTE_EXTENTS | field::ATTRIBUTE_ROOT);
        let mut number = 2;
        let end = raw.len();
        for (fields, root, area) in
            [(data, field::ROOT, start..middle), (attributes, field::ATTRIBUTE_ROOT, middle..end)]
        {
            if fields == 0 {
                continue;
            }
            let (region, area) = (item.region(number), raw.get_mut(area).unwrap_or_default());
            let fits = if fields == root { write_root(area, region, header) } else { write(area, region) };
            fits.ok_or_else(|| bad("a fork does not fit"))?;
            number = number.saturating_add(1);
        }
        self.keep_inode(change.byte, &raw)
    }

    /// Keeps an inode, which may be smaller than a unit.
    fn keep_inode(&mut self, byte: u64, raw: &[u8]) -> Result<()> {
        let skip = narrow(byte % UNIT);
        let start = byte.saturating_sub(wide(skip));
        let len = narrow(wide(skip.saturating_add(raw.len())).next_multiple_of(UNIT));
        let mut bytes = self.read(start, len)?;
        put(&mut bytes, skip, raw)?;
        self.keep(start, &bytes)
    }
}

/// Writes `what` at byte `at`.
fn put(bytes: &mut [u8], at: usize, what: &[u8]) -> Result<()> {
    let place = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..what.len()));
    place
        .ok_or_else(|| Error::corrupt(At::new("xfs", "log item")).because("does not fit"))?
        .copy_from_slice(what);
    Ok(())
}

/// Writes a fork's content or extents.
fn write(area: &mut [u8], region: &[u8]) -> Option<()> {
    area.get_mut(..region.len())?.copy_from_slice(region);
    Some(())
}

/// Writes the root of a tree of extents: in the log it has the header of a node and room for as many children as its
/// length says, in the inode a short header and room for as many as fit. (`xfs_bmbt_to_bmdr`)
fn write_root(area: &mut [u8], region: &[u8], header: usize) -> Option<()> {
    let (level_and_count, count) = (region.get(4..8)?, usize::from(get_be16(region, 6)?));
    let used = count.checked_mul(8)?;
    let room_there = region.len().checked_sub(header)? / 16;
    let room_here = area.len().checked_sub(4)? / 16;
    if count > room_there || count > room_here {
        return None;
    }
    let keys = region.get(header..)?.get(..used)?;
    let children = region.get(header.checked_add(room_there.checked_mul(8)?)?..)?.get(..used)?;
    area.get_mut(..4)?.copy_from_slice(level_and_count);
    area.get_mut(4..)?.get_mut(..used)?.copy_from_slice(keys);
    area.get_mut(4_usize.checked_add(room_here.checked_mul(8)?)?..)?
        .get_mut(..used)?
        .copy_from_slice(children);
    Some(())
}

/// Writes an inode's core, which the log has in the order of the machine. (`xfs_log_dinode_to_disk`)
fn write_core(raw: &mut [u8], core: &[u8], lsn: u64, is_v5: bool) -> Result<()> {
    /// Fields of 16 and 32 bits that have one meaning, by their places in bytes.
    const HALVES: [usize; 4] = [2, 20, 22, 88];
    const WORDS: [usize; 6] = [8, 12, 72, 84, 92, 16];
    let least = if is_v5 { CORE_V3 } else { 96 };
    if core.len() < least || core.len() > CORE_V3 {
        return Err(Error::corrupt(At::new("xfs", "log inode item"))
            .because(format!("a core of {} bytes", core.len())));
    }
    let half = |at| get_le16(core, at).unwrap_or(0).to_be_bytes();
    let word = |at| get_le32(core, at).unwrap_or(0).to_be_bytes();
    let long = |at| get_le64(core, at).unwrap_or(0).to_be_bytes();
    let bytes = |from: usize, to: usize| core.get(from..to).unwrap_or_default();
    let flags2 = if is_v5 { get_le64(core, 120).unwrap_or(0) } else { 0 };
    let is_metadata = flags2 & 0x20 != 0;
    let time = |at: usize| {
        if flags2 & 8 != 0 {
            return long(at);
        }
        let [[a, b, c, d], [e, f, g, h]] = [word(at), word(at.saturating_add(4))];
        [a, b, c, d, e, f, g, h]
    };
    put(raw, 4, bytes(4, 6))?;
    let is_old = core.get(4) == Some(&1);
    put(raw, 6, &if is_old || is_metadata { half(6) } else { [0; 2] })?;
    for at in HALVES {
        put(raw, at, &half(at))?;
    }
    put(raw, 90, &half(90))?;
    for at in WORDS {
        put(raw, at, &word(at))?;
    }
    for at in [32, 40, 48] {
        put(raw, at, &time(at))?;
    }
    for at in [56, 64] {
        put(raw, at, &long(at))?;
    }
    put(raw, 82, bytes(82, 84))?;
    if flags2 & 0x10 != 0 {
        put(raw, 24, &long(24))?;
        put(raw, 76, &word(76))?;
        put(raw, 80, &half(80))?;
    } else {
        put(raw, 24, &[0; 6])?;
        put(raw, 30, &[0; 2])?;
        put(raw, 76, &word(76))?;
        put(raw, 80, &half(80))?;
    }
    if is_v5 {
        for at in [104, 120] {
            put(raw, at, &long(at))?;
        }
        put(raw, 112, &lsn.to_be_bytes())?;
        put(raw, 128, &word(128))?;
        put(raw, 132, &[0; 12])?;
        put(raw, 144, &time(144))?;
        put(raw, 152, &long(152))?;
        put(raw, 160, bytes(160, 176))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_moves_its_children_to_where_the_inode_has_them() {
        let mut region = vec![0; 24];
        region[4..8].copy_from_slice(&[0, 1, 0, 2]);
        // Room for three, two used.
        for word in [10_u64, 20, 0, 71, 72, 0] {
            region.extend_from_slice(&word.to_be_bytes());
        }
        let mut area = vec![0; 4 + 4 * 16 + 5];
        write_root(&mut area, &region, 24).unwrap();
        let expected: Vec<u8> =
            [10_u64, 20, 0, 0, 71, 72, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
        assert_eq!((&area[..4], &area[4..68]), (&[0, 1, 0, 2][..], &expected[..]));
        assert!(write_root(&mut area[..20], &region, 24).is_none());
        assert!(write_root(&mut area, &region[..50], 24).is_none());
    }
}
