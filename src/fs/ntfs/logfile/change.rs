//! Doing one operation to a record of the MFT or a block of an index, its true words in place.
//!
//! An operation names places by what stood there when it was first done. Where something else stands, the log and the
//! volume do not belong together, and nothing is done. Facts: names and data of operations as in linux-ntfs project,
//! "$LogFile"; what each does as in the kernel's ntfs3.

use super::operation::{Data, code};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};

/// Fields of a record of the MFT.
mod record {
    pub(super) const SEQUENCE: usize = 0x10;
    pub(super) const LINKS: usize = 0x12;
    pub(super) const FIRST: usize = 0x14;
    pub(super) const FLAGS: usize = 0x16;
    pub(super) const USED: usize = 0x18;
    pub(super) const NEXT_ID: usize = 0x28;
}

/// Fields of an attribute.
mod attribute {
    pub(super) const KIND: usize = 0x00;
    pub(super) const LEN: usize = 0x04;
    pub(super) const FORM: usize = 0x08;
    pub(super) const ID: usize = 0x0e;
    pub(super) const VALUE_LEN: usize = 0x10;
    pub(super) const VALUE: usize = 0x14;
    pub(super) const INDEXED: usize = 0x16;
    pub(super) const FIRST: usize = 0x10;
    pub(super) const LAST: usize = 0x18;
    pub(super) const MAPPING: usize = 0x20;
    pub(super) const ALLOCATED: usize = 0x28;
    pub(super) const SIZE: usize = 0x30;
    pub(super) const INITIALIZED: usize = 0x38;
    pub(super) const STORED: usize = 0x40;
}

/// Fields of the header of a list of index entries: in an index's root 16 bytes behind the value's start, in a block at 24.
mod list {
    pub(super) const IN_ROOT: usize = 0x10;
    pub(super) const IN_BLOCK: usize = 0x18;
    pub(super) const FIRST: usize = 0x00;
    pub(super) const USED: usize = 0x04;
    pub(super) const TOTAL: usize = 0x08;
}

/// Fields of an index entry.
mod entry {
    pub(super) const DATA: usize = 0x00;
    pub(super) const LEN: usize = 0x08;
    pub(super) const FLAGS: usize = 0x0c;
    /// Times, sizes and attributes, behind the parent in a `$FILE_NAME`.
    pub(super) const NAME_INFO: usize = 0x18;
    pub(super) const NAME_INFO_LEN: usize = 0x38;
    pub(super) const HAS_CHILD: u16 = 1;
    pub(super) const LEAST: usize = 0x10;
}

/// What ends the attributes of a record.
const END: u32 = 0xffff_ffff;

/// Why an operation cannot be done: what stands there does not fit.
type Done = Result<(), &'static str>;

fn put(bytes: &mut [u8], at: usize, data: &[u8]) -> Done {
    let place = at.checked_add(data.len()).and_then(|end| bytes.get_mut(at..end));
    place.ok_or("writes behind the end")?.copy_from_slice(data);
    Ok(())
}

fn put16(bytes: &mut [u8], at: usize, value: u16) -> Done {
    put(bytes, at, &value.to_le_bytes())
}

/// Of a number that is below 2^32: a place in a record or block.
fn put32(bytes: &mut [u8], at: usize, value: usize) -> Done {
    let value = u32::try_from(value).map_err(|_| "has a size that no record has")?;
    put(bytes, at, &value.to_le_bytes())
}

fn put64(bytes: &mut [u8], at: usize, value: u64) -> Done {
    put(bytes, at, &value.to_le_bytes())
}

fn half(bytes: &[u8], at: usize) -> Result<usize, &'static str> {
    get_le16(bytes, at).map(usize::from).ok_or("reads behind the end")
}

fn size(bytes: &[u8], at: usize) -> Result<usize, &'static str> {
    get_le32(bytes, at).map(|value| narrow(value.into())).ok_or("reads behind the end")
}

fn write(bytes: &mut [u8], at: usize, data: Data<'_>) -> Done {
    let place = at.checked_add(data.len).and_then(|end| bytes.get_mut(at..end));
    let place = place.ok_or("writes behind the end")?;
    let (there, rest) = place.split_at_mut(data.bytes.len().min(data.len));
    there.copy_from_slice(data.bytes.get(..there.len()).unwrap_or_default());
    rest.fill(0);
    Ok(())
}

/// Data of which every byte must be in the log.
fn whole(data: Data<'_>) -> Result<&[u8], &'static str> {
    if data.bytes.len() == data.len { Ok(data.bytes) } else { Err("has lost its data") }
}

/// Makes what stands at `at` as much longer or shorter as `to` differs from `from`, and moves what stands behind it, up to
/// `used`. Says where that ends now.
fn resize(bytes: &mut [u8], at: usize, from: usize, to: usize, used: usize) -> Result<usize, &'static str> {
    let (old, new) = (at.checked_add(from), at.checked_add(to));
    let (Some(old), Some(new)) = (old.filter(|end| *end <= used), new) else {
        return Err("names a place behind the end");
    };
    let end = new.saturating_add(used.saturating_sub(old));
    if used > bytes.len() || end > bytes.len() {
        return Err("makes it longer than it can be");
    }
    bytes.copy_within(old..used, new);
    if let Some(gap) = bytes.get_mut(old..new) {
        gap.fill(0);
    }
    Ok(end)
}

/// Does an index entry begin at `at`, of a list whose header is at `header`? Then its length.
fn entry_at(bytes: &[u8], header: usize, at: usize) -> Result<usize, &'static str> {
    let end = header.saturating_add(size(bytes, header.saturating_add(list::USED))?);
    let mut place = header.saturating_add(size(bytes, header.saturating_add(list::FIRST))?);
    while place < end && end <= bytes.len() {
        let len = half(bytes, place.saturating_add(entry::LEN))?;
        if len < entry::LEAST || place.saturating_add(len) > end {
            return Err("is about a list of entries that makes no sense");
        }
        if place == at {
            return Ok(len);
        }
        place = place.saturating_add(len);
    }
    Err("names an index entry that is none")
}

/// The length of the index entry in `data`.
fn new_entry(data: &[u8]) -> Result<&[u8], &'static str> {
    let len = half(data, entry::LEN)?;
    data.get(..len)
        .filter(|entry| entry.len() >= entry::LEAST && entry.len().is_multiple_of(8))
        .ok_or("adds an index entry that is none")
}

/// Sets what an entry at `at` of `len` bytes says of its child, name or data.
fn set_in_entry(bytes: &mut [u8], operation: u16, at: usize, len: usize, data: &[u8]) -> Done {
    let inside = |from: usize, count: usize| from.checked_add(count).is_some_and(|end| end <= len);
    match operation {
        code::SET_CHILD_ROOT | code::SET_CHILD_BLOCK => {
            let flags = get_le16(bytes, at.saturating_add(entry::FLAGS)).unwrap_or(0);
            let child = data
                .get(..8)
                .filter(|_| flags & entry::HAS_CHILD != 0 && len >= entry::LEAST.saturating_add(8));
            let place = at.saturating_add(len).saturating_sub(8);
            put(bytes, place, child.ok_or("sets the child of an entry that has none")?)
        }
        code::UPDATE_NAME_ROOT | code::UPDATE_NAME_BLOCK => {
            let info = data.get(..entry::NAME_INFO_LEN);
            let info = info.filter(|info| inside(entry::NAME_INFO, info.len()));
            put(
                bytes,
                at.saturating_add(entry::NAME_INFO),
                info.ok_or("sets the times of an entry without them")?,
            )
        }
        _ => {
            let from = half(bytes, at.saturating_add(entry::DATA))?;
            if !inside(from, data.len()) {
                return Err("sets data that an entry has no place for");
            }
            put(bytes, at.saturating_add(from), data)
        }
    }
}

/// Does an operation to a record of the MFT. `at` is the byte where its attribute begins, `inner` one in that; `resizes`:
/// a value is to end with the data.
pub(super) fn in_record(
    bytes: &mut [u8],
    operation: u16,
    (at, inner): (usize, usize),
    data: Data<'_>,
    resizes: bool,
) -> Done {
    match operation {
        code::INITIALIZE_RECORD => {
            bytes.fill(0);
            return put(bytes, at, whole(data)?);
        }
        code::DEALLOCATE_RECORD => {
            let flags = get_le16(bytes, record::FLAGS).unwrap_or(0);
            put16(bytes, record::FLAGS, flags & !1)?;
            // A use of number 0 means that nobody looks.
            let sequence = get_le16(bytes, record::SEQUENCE).unwrap_or(0).wrapping_add(1).max(1);
            return put16(bytes, record::SEQUENCE, sequence);
        }
        code::ZERO_END_OF_RECORD => return write(bytes, at, data),
        _ => {}
    }
    let used = size(bytes, record::USED)?;
    if used > bytes.len() || !is_attribute(bytes, at, used)? {
        return Err("names an attribute that is none");
    }
    let spot = at.saturating_add(inner);
    match operation {
        code::WRITE_END_OF_RECORD => {
            put(bytes, at, whole(data)?)?;
            let end = at.saturating_add(data.len);
            put32(bytes, record::USED, end.checked_next_multiple_of(8).unwrap_or(end))
        }
        code::CREATE_ATTRIBUTE => create(bytes, at, whole(data)?, used),
        code::DELETE_ATTRIBUTE => {
            let len = attribute_len(bytes, at)?;
            if is_indexed(bytes, at) {
                let links = get_le16(bytes, record::LINKS).unwrap_or(0);
                put16(bytes, record::LINKS, links.saturating_sub(1))?;
            }
            let used = resize(bytes, at, len, 0, used)?;
            put32(bytes, record::USED, used)
        }
        code::UPDATE_RESIDENT => {
            let (len, value) = (attribute_len(bytes, at)?, half(bytes, at.saturating_add(attribute::VALUE))?);
            let end = inner.saturating_add(data.len);
            if is_nonresident(bytes, at) || inner < value.min(len) {
                return Err("changes a value that is not in its attribute");
            }
            if resizes {
                let to = end.checked_next_multiple_of(8).ok_or("is too long")?;
                let used = resize(bytes, at, len, to, used)?;
                put32(bytes, record::USED, used)?;
                put32(bytes, at.saturating_add(attribute::LEN), to)?;
                put32(bytes, at.saturating_add(attribute::VALUE_LEN), end.saturating_sub(value))?;
            } else if end > len {
                return Err("writes behind the end of an attribute");
            }
            write(bytes, spot, data)
        }
        code::UPDATE_MAPPING => {
            let data = whole(data)?;
            let (len, mapping) =
                (attribute_len(bytes, at)?, half(bytes, at.saturating_add(attribute::MAPPING))?);
            if !is_nonresident(bytes, at) || inner < mapping || inner > len {
                return Err("changes the mapping of an attribute that has none there");
            }
            let end = inner.saturating_add(data.len());
            let to = end.checked_next_multiple_of(8).ok_or("is too long")?;
            let used = resize(bytes, at, len, to, used)?;
            put32(bytes, record::USED, used)?;
            put32(bytes, at.saturating_add(attribute::LEN), to)?;
            put(bytes, spot, data)?;
            let first = get_le64(bytes, at.saturating_add(attribute::FIRST)).unwrap_or(0);
            let pairs = bytes.get(at.saturating_add(mapping)..at.saturating_add(to)).unwrap_or_default();
            let last = first.wrapping_add(mapped(pairs)?).wrapping_sub(1);
            put64(bytes, at.saturating_add(attribute::LAST), last)
        }
        code::SET_SIZES => {
            let data = whole(data)?;
            if !is_nonresident(bytes, at) || data.len() < 24 {
                return Err("sets the sizes of a value that is in its attribute");
            }
            let word = |place| get_le64(data, place).unwrap_or(0);
            put64(bytes, at.saturating_add(attribute::ALLOCATED), word(0))?;
            put64(bytes, at.saturating_add(attribute::INITIALIZED), word(8))?;
            put64(bytes, at.saturating_add(attribute::SIZE), word(16))?;
            if data.len() >= 32 && half(bytes, at.saturating_add(attribute::MAPPING))? > attribute::STORED {
                put64(bytes, at.saturating_add(attribute::STORED), word(24))?;
            }
            Ok(())
        }
        _ => in_root(bytes, operation, (at, spot), whole(data)?, used),
    }
}

/// Does an operation to an index's root, in the attribute at `at`, to the entry at `spot`.
fn in_root(bytes: &mut [u8], operation: u16, (at, spot): (usize, usize), data: &[u8], used: usize) -> Done {
    if is_nonresident(bytes, at) {
        return Err("is about the root of an index that has none");
    }
    let header =
        at.saturating_add(half(bytes, at.saturating_add(attribute::VALUE))?).saturating_add(list::IN_ROOT);
    let len = entry_at(bytes, header, spot)?;
    let (from, to) = match operation {
        code::ADD_ENTRY_ROOT => (0, new_entry(data)?.len()),
        code::DELETE_ENTRY_ROOT => (len, 0),
        _ => return set_in_entry(bytes, operation, spot, len, data),
    };
    let used = resize(bytes, spot, from, to, used)?;
    put(bytes, spot, data.get(..to).unwrap_or_default())?;
    let places = [attribute::LEN, attribute::VALUE_LEN].map(|place| at.saturating_add(place));
    let in_list = [list::USED, list::TOTAL].map(|place| header.saturating_add(place));
    for place in places.into_iter().chain(in_list) {
        let new = size(bytes, place)?
            .saturating_add(to)
            .checked_sub(from)
            .ok_or("makes an index less than empty")?;
        put32(bytes, place, new)?;
    }
    put32(bytes, record::USED, used)
}

/// Does an operation to a block of an index, at byte `spot` of it.
pub(super) fn in_block(bytes: &mut [u8], operation: u16, spot: usize, data: Data<'_>) -> Done {
    let data = whole(data)?;
    if operation == code::UPDATE_NONRESIDENT {
        return put(bytes, spot, data);
    }
    let header = list::IN_BLOCK;
    let used_at = header.saturating_add(list::USED);
    let used = header.saturating_add(size(bytes, used_at)?);
    let total = header.saturating_add(size(bytes, header.saturating_add(list::TOTAL))?);
    if total > bytes.len() || used > total {
        return Err("is about a block whose sizes make no sense");
    }
    let len = entry_at(bytes, header, spot)?;
    let used = match operation {
        code::ADD_ENTRY_BLOCK => {
            let entry = new_entry(data)?;
            let used = resize(bytes, spot, 0, entry.len(), used)?;
            put(bytes, spot, entry)?;
            used
        }
        code::DELETE_ENTRY_BLOCK => resize(bytes, spot, len, 0, used)?,
        code::WRITE_END_OF_BLOCK => {
            put(bytes, spot, data)?;
            spot.saturating_add(data.len())
        }
        _ => return set_in_entry(bytes, operation, spot, len, data),
    };
    if used > total {
        return Err("makes a block longer than it can be");
    }
    put32(bytes, used_at, used.saturating_sub(header))
}

/// Puts an attribute in.
fn create(bytes: &mut [u8], at: usize, data: &[u8], used: usize) -> Done {
    let len = size(data, attribute::LEN)?;
    let new = data.get(..len).filter(|new| new.len() >= 0x18 && new.len().is_multiple_of(8));
    let new = new.ok_or("creates an attribute that is none")?;
    let used = resize(bytes, at, 0, len, used)?;
    put(bytes, at, new)?;
    put32(bytes, record::USED, used)?;
    let id = get_le16(new, attribute::ID).unwrap_or(0);
    if get_le16(bytes, record::NEXT_ID).unwrap_or(0) <= id {
        put16(bytes, record::NEXT_ID, id.wrapping_add(1))?;
    }
    if is_indexed(bytes, at) {
        let links = get_le16(bytes, record::LINKS).unwrap_or(0);
        put16(bytes, record::LINKS, links.saturating_add(1))?;
    }
    Ok(())
}

/// Does an attribute of a record begin at `at`, or do its attributes end there?
fn is_attribute(bytes: &[u8], at: usize, used: usize) -> Result<bool, &'static str> {
    let mut place = half(bytes, record::FIRST)?;
    while place < at && place < used {
        if get_le32(bytes, place) == Some(END) {
            return Ok(false);
        }
        place = place.saturating_add(attribute_len(bytes, place)?);
    }
    Ok(place == at && at <= used)
}

fn attribute_len(bytes: &[u8], at: usize) -> Result<usize, &'static str> {
    let len = size(bytes, at.saturating_add(attribute::LEN))?;
    if len < 0x18 || get_le32(bytes, at.saturating_add(attribute::KIND)) == Some(END) {
        return Err("names an attribute that is none");
    }
    Ok(len)
}

fn is_nonresident(bytes: &[u8], at: usize) -> bool {
    bytes.get(at.saturating_add(attribute::FORM)).is_some_and(|form| *form != 0)
}

/// Is the attribute at `at` a name, to which a directory leads?
fn is_indexed(bytes: &[u8], at: usize) -> bool {
    !is_nonresident(bytes, at)
        && bytes.get(at.saturating_add(attribute::INDEXED)).is_some_and(|flags| flags & 1 != 0)
}

/// How many clusters mapping pairs map.
fn mapped(mut pairs: &[u8]) -> Result<u64, &'static str> {
    let mut clusters = 0_u64;
    while let Some((lengths, rest)) = pairs.split_first().filter(|(lengths, _)| **lengths != 0) {
        let (count, distance) = (usize::from(lengths & 15), usize::from(lengths >> 4));
        let number = rest.get(..count).filter(|_| count <= 8).ok_or("has a mapping that makes no sense")?;
        let number = number.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        clusters = clusters.checked_add(number).ok_or("has a mapping that makes no sense")?;
        pairs = rest.get(count.saturating_add(distance)..).unwrap_or_default();
    }
    Ok(clusters)
}

/// Takes the true words of a record or block away again, so that it can be read as one.
pub(super) fn seal(bytes: &mut [u8]) -> Done {
    const STRIDE: usize = 512;
    let (array, words) = (half(bytes, 4)?, half(bytes, 6)?);
    let sectors = bytes.len().checked_div(STRIDE).unwrap_or(0);
    let end = words.saturating_mul(2).saturating_add(array);
    if words != sectors.saturating_add(1) || !array.is_multiple_of(2) || end > STRIDE.saturating_sub(2) {
        return Err("leaves a record without room for its fix-ups");
    }
    let number = get_le16(bytes, array).unwrap_or(0);
    for sector in 0..sectors {
        let kept = array.saturating_add(2).saturating_add(sector.saturating_mul(2));
        let place = sector.saturating_mul(STRIDE).saturating_add(STRIDE).saturating_sub(2);
        let word = get_le16(bytes, place).unwrap_or(0);
        put16(bytes, kept, word)?;
        put16(bytes, place, number)?;
    }
    Ok(())
}

/// The LSN of the last change of a record or block.
pub(super) fn lsn(bytes: &[u8]) -> u64 {
    get_le64(bytes, 8).unwrap_or(0)
}

/// Notes the LSN of the last change.
pub(super) fn set_lsn(bytes: &mut [u8], lsn: u64) -> Done {
    put64(bytes, 8, lsn)
}

/// Bits of a value: the first, and the one behind the last.
pub(super) struct Bits {
    first: u64,
    end: u64,
}

impl Bits {
    /// What an operation names.
    ///
    /// # Errors
    /// Says so when it does not.
    pub(super) fn parse(data: Data<'_>) -> Result<Self, &'static str> {
        let data = whole(data)?;
        let (first, count) = (wide(size(data, 0)?), wide(size(data, 4)?));
        Ok(Self { first, end: first.saturating_add(count) })
    }

    /// The first byte of the value that holds some of them, and how many bytes do.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let first = self.first >> 3;
        (first, self.end.div_ceil(8).saturating_sub(first))
    }

    /// Sets or clears them in these bytes.
    pub(super) fn put(&self, bytes: &mut [u8], is_set: bool) {
        let (skipped, _) = self.bytes();
        for bit in self.first..self.end {
            let index = (bit >> 3).saturating_sub(skipped);
            if let Some(byte) = bytes.get_mut(narrow(index)) {
                let mask = 1_u8 << (bit & 7);
                *byte = if is_set { *byte | mask } else { *byte & !mask };
            }
        }
    }
}

/// Writes bytes as they are.
pub(super) fn raw(bytes: &mut [u8], data: Data<'_>) -> Done {
    put(bytes, 0, whole(data)?)
}

/// Operations that no sample's log holds; the others are tested against what Windows made of them, in `tests/fs`.
#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &[u8]) -> Data<'_> {
        Data { bytes, len: bytes.len() }
    }

    /// An index entry of `len` bytes filled with `fill`, with these flags.
    fn entry(len: u16, flags: u16, fill: u8) -> Vec<u8> {
        let mut bytes = vec![fill; usize::from(len)];
        put16(&mut bytes, entry::LEN, len).unwrap();
        put16(&mut bytes, entry::FLAGS, flags).unwrap();
        bytes
    }

    /// A block of 512 bytes with two entries and the last one, at 0x40, 0x68 and 0x90.
    fn block() -> Vec<u8> {
        let entries = [entry(0x28, 1, 0xaa), entry(0x28, 0, 0xbb), entry(0x10, 2, 0)].concat();
        let mut bytes = vec![0; 512];
        put32(&mut bytes, 0x18, 0x28).unwrap();
        put32(&mut bytes, 0x1c, 0x88).unwrap();
        put32(&mut bytes, 0x20, 0x1e8).unwrap();
        put(&mut bytes, 0x40, &entries).unwrap();
        bytes
    }

    #[test]
    fn a_child_is_the_last_word_of_an_entry_that_has_one() {
        let mut bytes = block();
        in_block(&mut bytes, code::SET_CHILD_BLOCK, 0x40, data(&7_u64.to_le_bytes())).unwrap();
        assert_eq!(get_le64(&bytes, 0x60), Some(7));
        assert_eq!(bytes[0x68..], block()[0x68..]);
        for (at, child) in [(0x68, 8), (0x44, 8), (0x40, 4), (0x98, 8)] {
            assert!(
                in_block(&mut bytes, code::SET_CHILD_BLOCK, at, data(&vec![1; child])).is_err(),
                "{at:#x}"
            );
        }
    }

    #[test]
    fn a_block_is_cut_where_its_new_end_is_written() {
        let (mut bytes, last) = (block(), entry(0x18, 3, 0xcc));
        in_block(&mut bytes, code::WRITE_END_OF_BLOCK, 0x68, data(&last)).unwrap();
        assert_eq!(size(&bytes, 0x1c), Ok(0x68 + 0x18 - 0x18));
        assert_eq!(bytes[0x68..0x80], last);
        assert!(in_block(&mut bytes, code::WRITE_END_OF_BLOCK, 0x40, data(&[1; 0x1d0])).is_err());
    }

    #[test]
    fn the_data_of_an_entry_stands_where_it_says() {
        let mut bytes = block();
        put16(&mut bytes, 0x68, 0x18).unwrap();
        in_block(&mut bytes, code::UPDATE_DATA_BLOCK, 0x68, data(&[1; 0x10])).unwrap();
        assert_eq!(bytes[0x80..0x90], [1; 0x10]);
        assert_eq!(bytes[0x90..], block()[0x90..]);
        assert!(in_block(&mut bytes, code::UPDATE_DATA_BLOCK, 0x68, data(&[1; 0x11])).is_err());
    }

    #[test]
    fn a_record_is_cut_where_its_new_end_is_written() {
        let mut bytes = vec![0; 1024];
        put16(&mut bytes, record::FIRST, 0x38).unwrap();
        put32(&mut bytes, record::USED, 0x58).unwrap();
        for at in [0x38, 0x50] {
            put32(&mut bytes, at, 0x80).unwrap();
            put32(&mut bytes, at + attribute::LEN, 0x18).unwrap();
        }
        let end = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert!(in_record(&mut bytes, code::WRITE_END_OF_RECORD, (0x40, 0), data(&end), false).is_err());
        in_record(&mut bytes, code::WRITE_END_OF_RECORD, (0x50, 0), data(&end), false).unwrap();
        assert_eq!((size(&bytes, record::USED), &bytes[0x50..0x58]), (Ok(0x58), end.as_slice()));
    }

    /// Everything that a stranger may write into a log: nothing panics, and what is refused is refused for a reason.
    #[test]
    fn no_operation_leaves_its_block() {
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33).checked_rem(below).unwrap()
        };
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut bytes = block();
            put16(&mut bytes, record::FIRST, 0x38).unwrap();
            for _ in 0..4 {
                let at = narrow(random(512));
                bytes[at] = u8::try_from(random(256)).unwrap();
            }
            let content = entry(u16::try_from(random(96)).unwrap().max(16), 1, 0x11);
            let len = narrow(random(600));
            let given = Data { bytes: content.get(..len).unwrap_or(&content), len };
            let (operation, at, inner) =
                (u16::try_from(random(0x26)).unwrap(), narrow(random(520)), narrow(random(80)));
            let done = if random(2) == 0 {
                in_record(&mut bytes, operation, (at & !7, inner), given, random(2) == 0)
            } else {
                in_block(&mut bytes, operation, at & !7, given)
            };
            refused += u32::from(done.is_err());
            assert_eq!(bytes.len(), 512);
        }
        assert!(refused > 10_000, "{refused}");
    }
}
