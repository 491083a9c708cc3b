//! Extended attributes: in the inode, in a leaf, in leaves below nodes; large values in blocks of their own.
//!
//! ```text
//! in the inode  length of all 2 │ count 1 │ pad 1 │ name length 1 │ value length 1 │ flags 1 │ name │ value │ …
//! leaf          header 32 or 80 │ hash 4, place in the leaf 2, flags 1, pad 1 │ …          │ … names and values
//!   local       value length 2 │ name length 1 │ name │ value
//!   remote      block 4 │ value length 4 │ name length 1 │ name
//! ```
//! "XFS Algorithms & Data Structures", "Extended Attributes".

use super::Xfs;
use super::da::Seen;
use super::inode::{Fork, Format, Inode};
use super::seal::Seal;
use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::fs::Xattr;
use crate::num::{narrow, wide};
use crate::ondisk::{get_be16, get_be32};

/// All values of one file together; the kernel gives a process no more than 64 KiB of one, and lists 64 KiB of names.
const MAX_VALUES: u64 = 8 << 20;
/// What an attribute counts beside its name and value.
const ATTRIBUTE_COST: u64 = 64;
/// The longest value (`XFS_XATTR_SIZE_MAX`).
const MAX_VALUE: u64 = 64 << 10;
/// Magic numbers of leaves, in version 4 and 5.
const LEAVES: [u16; 2] = [0xfbee, 0x3bee];
/// Header of each block of a remote value in version 5, in bytes.
const REMOTE_HEADER: u64 = 56;

/// Bits of an attribute's flags.
mod flag {
    /// The value stands beside the name.
    pub(super) const LOCAL: u8 = 0x01;
    pub(super) const ROOT: u8 = 0x02;
    pub(super) const SECURE: u8 = 0x04;
    /// A name of this file in some directory: not an attribute to anyone.
    pub(super) const PARENT: u8 = 0x08;
    /// Its value is not written yet, or no longer there.
    pub(super) const INCOMPLETE: u8 = 0x80;
}

/// Access lists of POSIX stand under these names, and in the order of bytes of the disk.
const ACLS: [(&[u8], &[u8]); 2] =
    [(b"SGI_ACL_FILE", b"system.posix_acl_access"), (b"SGI_ACL_DEFAULT", b"system.posix_acl_default")];

/// An attribute as it stands in the inode or in a leaf.
#[derive(Debug, PartialEq, Eq)]
struct Found<'a> {
    flags: u8,
    name: &'a [u8],
    value: Value<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum Value<'a> {
    Here(&'a [u8]),
    /// From this block of the attribute fork on, so many bytes.
    Remote(u64, u64),
}

/// The attributes in an inode.
fn shortform<'a>(area: &'a [u8], at: &At) -> Result<Vec<Found<'a>>> {
    let bad =
        |number: u8| Error::corrupt(at.clone()).because(format!("attribute {number} goes past the end"));
    let total = get_be16(area, 0).map_or(0, usize::from);
    let mut rest = area.get(4..total).ok_or_else(|| bad(0))?;
    let mut all = Vec::new();
    for number in 0..area.get(2).copied().unwrap_or(0) {
        let Some((&[name_len, value_len, flags], behind)) = rest.split_first_chunk() else {
            return Err(bad(number));
        };
        let names = behind.split_at_checked(usize::from(name_len));
        let values =
            names.and_then(|(name, behind)| Some((name, behind.split_at_checked(usize::from(value_len))?)));
        let Some((name, (value, behind))) = values else { return Err(bad(number)) };
        all.push(Found { flags, name, value: Value::Here(value) });
        rest = behind;
    }
    Ok(all)
}

/// The attributes in a leaf.
fn leaf<'a>(bytes: &'a [u8], is_v5: bool, at: &At) -> Result<Vec<Found<'a>>> {
    let (count_at, header) = if is_v5 { (56, 80) } else { (12, 32) };
    let count = get_be16(bytes, count_at).map_or(0, usize::from);
    let used = count.saturating_mul(8);
    let entries = bytes.get(header..).and_then(|table| table.get(..used));
    let entries =
        entries.ok_or_else(|| Error::corrupt(at.clone()).because(format!("{count} attributes in a leaf")))?;
    let mut all = Vec::with_capacity(count);
    for (number, entry) in entries.chunks_exact(8).enumerate() {
        let found = one(bytes, entry);
        let bad = || {
            Error::corrupt(at.clone()).because(format!("attribute {number} goes past the end of its leaf"))
        };
        all.push(found.ok_or_else(bad)?);
    }
    Ok(all)
}

/// The hashes of a leaf's first and last attribute, if it has any.
fn hashes(bytes: &[u8], is_v5: bool) -> Option<(u32, u32)> {
    let (count_at, header): (usize, usize) = if is_v5 { (56, 80) } else { (12, 32) };
    let last = usize::from(get_be16(bytes, count_at)?).checked_sub(1)?;
    let last = header.checked_add(last.checked_mul(8)?)?;
    Some((get_be32(bytes, header)?, get_be32(bytes, last)?))
}

/// The attribute that an entry of a leaf leads to.
fn one<'a>(bytes: &'a [u8], entry: &[u8]) -> Option<Found<'a>> {
    let (place, flags) = (usize::from(get_be16(entry, 4)?), *entry.get(6)?);
    let rest = bytes.get(place..)?;
    if flags & flag::LOCAL != 0 {
        let (value_len, name_len) = (usize::from(get_be16(rest, 0)?), usize::from(*rest.get(2)?));
        let (name, behind) = rest.get(3..)?.split_at_checked(name_len)?;
        return Some(Found { flags, name, value: Value::Here(behind.get(..value_len)?) });
    }
    let (block, len, name_len) = (get_be32(rest, 0)?, get_be32(rest, 4)?, usize::from(*rest.get(8)?));
    let name = rest.get(9..)?.get(..name_len)?;
    Some(Found { flags, name, value: Value::Remote(block.into(), len.into()) })
}

/// An access list as Linux hands it out: little-endian, with an identity of -1 where none belongs (`posix_acl_to_xattr`).
/// Stored: count 4, then tag 4, identity 4, permissions 2, pad 2 for each, big-endian.
fn acl(stored: &[u8], at: &At) -> Result<Vec<u8>> {
    let bad = |why: &str| Error::corrupt(at.clone()).because(format!("an access list {why}"));
    let count = get_be32(stored, 0).ok_or_else(|| bad("without a count"))?;
    let used = usize::try_from(count).ok().and_then(|count| count.checked_mul(12));
    let entries = used.and_then(|used| stored.get(4..)?.get(..used)).ok_or_else(|| bad("that is cut off"))?;
    let mut shown = 2_u32.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(12) {
        let (tag, id) = (get_be32(entry, 0).unwrap_or(0), get_be32(entry, 4).unwrap_or(0));
        let permissions = get_be16(entry, 8).unwrap_or(0);
        let id = match tag {
            // A user, a group.
            2 | 8 => id,
            // The owner, the owning group, the mask, all others.
            1 | 4 | 0x10 | 0x20 => u32::MAX,
            _ => return Err(bad("with an entry of an unknown kind")),
        };
        shown.extend_from_slice(&u16::try_from(tag).unwrap_or(0).to_le_bytes());
        shown.extend_from_slice(&permissions.to_le_bytes());
        shown.extend_from_slice(&id.to_le_bytes());
    }
    Ok(shown)
}

/// Attributes gathered so far.
#[derive(Debug, Default)]
struct Gathered {
    all: Vec<Xattr>,
    bytes: u64,
}

impl Xfs {
    /// Every attribute that root sees with `listxattr`.
    ///
    /// # Errors
    /// `Corrupt` when a block is damaged; `Limit` for values of more than 8 MiB together.
    pub(super) fn all_xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let mut gathered = Gathered::default();
        let Some(fork) = &inode.attributes else { return Ok(Vec::new()) };
        match fork.format {
            Format::Local => {
                let found = shortform(inode.area(fork), &inode.at())?;
                self.gather(inode, fork, found, &inode.at(), &mut gathered)?;
            }
            Format::Extents if fork.extents == 0 => {}
            Format::Extents | Format::Btree => self.gather_leaves(inode, fork, &mut gathered)?,
            Format::Device => {
                return Err(Error::corrupt(inode.at()).because("a device number for attributes"));
            }
        }
        Ok(gathered.all)
    }

    fn gather_leaves(&self, inode: &Inode, fork: &Fork, gathered: &mut Gathered) -> Result<()> {
        let (is_v5, size) = (self.sb.features.is_v5(), self.sb.block_size);
        let mut block = self.da_leaf(inode, fork, 0, None, size)?;
        let budget = Budget::request();
        let mut seen = Seen::default();
        let mut last = 0;
        loop {
            budget.step("attributes")?;
            seen.meet(inode, block.byte)?;
            let at = At::new("xfs", "attribute leaf of inode").index(inode.ino).byte(block.byte);
            if !LEAVES.contains(&block.magic()) {
                let why = format!("its magic number is {:#06x}, no leaf's", block.magic());
                return Err(Error::corrupt(at).because(why));
            }
            // A machine that stops at the wrong moment leaves an only leaf empty, but never one of several.
            let hashes = hashes(&block.bytes, is_v5);
            let next = block.next();
            if hashes.map_or(last != 0 || next != 0, |(low, _)| low < last) {
                return Err(Error::corrupt(at).because(format!("hashes {hashes:x?} behind {last:#x}")));
            }
            last = hashes.map_or(0, |(_, high)| high);
            self.gather(inode, fork, leaf(&block.bytes, is_v5, &at)?, &at, gathered)?;
            if next == 0 {
                return Ok(());
            }
            block = self.da_block(inode, fork, next, size)?;
        }
    }

    /// Adds those of a list that are meant to be seen.
    fn gather(
        &self,
        inode: &Inode,
        fork: &Fork,
        list: Vec<Found<'_>>,
        at: &At,
        gathered: &mut Gathered,
    ) -> Result<()> {
        for found in list {
            gathered.bytes = gathered.bytes.saturating_add(ATTRIBUTE_COST);
            if found.flags & (flag::INCOMPLETE | flag::PARENT) != 0 {
                continue;
            }
            let len = match found.value {
                Value::Here(value) => wide(value.len()),
                Value::Remote(_, len) => len,
            };
            gathered.bytes = gathered.bytes.saturating_add(len).saturating_add(wide(found.name.len()));
            if len > MAX_VALUE || gathered.bytes > MAX_VALUES {
                let why = format!("attributes of more than {MAX_VALUES} bytes together, or one of {len}");
                return Err(Error::limit(why).at(at.clone()));
            }
            let value = match found.value {
                Value::Here(value) => value.to_vec(),
                Value::Remote(block, len) => self.remote_value(inode, fork, block, len)?,
            };
            let prefix: &[u8] = match found.flags & (flag::ROOT | flag::SECURE) {
                0 => b"user.",
                flag::ROOT => b"trusted.",
                _ => b"security.",
            };
            if found.flags & flag::ROOT != 0
                && let Some((_, shown)) = ACLS.iter().find(|(stored, _)| *stored == found.name)
            {
                gathered.all.push(Xattr { name: shown.to_vec(), value: acl(&value, at)? });
            }
            gathered.all.push(Xattr { name: [prefix, found.name].concat(), value });
        }
        Ok(())
    }

    /// The value of `len` bytes, at most `MAX_VALUE`, from block `block` of the attribute fork on.
    fn remote_value(&self, inode: &Inode, fork: &Fork, block: u64, len: u64) -> Result<Vec<u8>> {
        let size = self.sb.block_size;
        if !self.sb.features.is_v5() {
            let mut value = vec![0; narrow(len)];
            self.read_written(inode, fork, &mut value, block.saturating_mul(size))?;
            return Ok(value);
        }
        let mut value = Vec::with_capacity(narrow(len));
        let mut logical = block;
        while wide(value.len()) < len {
            let part = self.fork_block(inode, fork, logical, size)?;
            let part = part.ok_or_else(|| {
                Error::corrupt(inode.at())
                    .because(format!("block {logical} of an attribute's value is missing"))
            })?;
            let at = At::new("xfs", "attribute value of inode").index(inode.ino).byte(part.byte);
            let left = len.saturating_sub(wide(value.len())).min(size.saturating_sub(REMOTE_HEADER));
            value.extend_from_slice(self.remote_part(
                *b"XARM",
                inode,
                &part,
                wide(value.len()),
                left,
                &at,
            )?);
            logical = logical.saturating_add(1);
        }
        Ok(value)
    }

    /// The `len` bytes of content in one block of something remote, whose header says which part it is.
    ///
    /// # Errors
    /// `Corrupt` for another magic number, part, length or seal.
    pub(super) fn remote_part<'a>(
        &self,
        magic: [u8; 4],
        inode: &Inode,
        part: &'a super::da::Placed,
        offset: u64,
        len: u64,
        at: &At,
    ) -> Result<&'a [u8]> {
        let bytes: &[u8] = &part.bytes;
        let number = |at: usize| get_be32(bytes, at).map_or(0, u64::from);
        if !bytes.starts_with(&magic) || number(4) != offset || number(8) != len {
            let why = format!("says {} bytes at {}, expected {len} at {offset}", number(8), number(4));
            return Err(Error::corrupt(at.clone()).because(why));
        }
        self.check_seal(Seal::REMOTE, bytes, part.byte, Some(inode.ino), at)?;
        let content = bytes.get(narrow(REMOTE_HEADER)..).and_then(|rest| rest.get(..narrow(len)));
        content.ok_or_else(|| Error::corrupt(at.clone()).because(format!("{len} bytes in one block")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> At {
        At::new("xfs", "attributes")
    }

    /// `setfattr -n user.ab -v xyz`, `setfattr -n trusted.c` as `xfs_db` shows the inode's bytes.
    #[test]
    fn attributes_in_an_inode() {
        let area = *b"\x00\x10\x02\x00\x02\x03\x00abxyz\x01\x00\x02c....";
        let all = shortform(&area, &at()).unwrap();
        assert_eq!((all[0].name, &all[0].value), (&b"ab"[..], &Value::Here(b"xyz")));
        assert_eq!((all[1].name, all[1].flags), (&b"c"[..], flag::ROOT));
        for cut in 0..16 {
            assert!(shortform(&area[..cut], &at()).is_err(), "{cut}");
        }
        let mut long = area;
        long[13] = 9;
        assert!(shortform(&long, &at()).is_err());
    }

    /// `setfacl -m u:1000:rw`: from `xfs_db -c 'inode N' -c 'p a'` and from `getfattr -n system.posix_acl_access`.
    #[test]
    fn an_acl_is_handed_out_as_the_kernel_does() {
        let stored = [
            0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 2, 0, 0, 3, 0xe8, 0, 6, 0, 0, 0, 0, 0,
            4, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0,
            4, 0, 0,
        ];
        let shown = [
            2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255,
            255, 0x10, 0, 6, 0, 255, 255, 255, 255, 0x20, 0, 4, 0, 255, 255, 255, 255,
        ];
        assert_eq!(acl(&stored, &at()).unwrap(), shown);
        assert!(acl(&stored[..60], &at()).is_err() && acl(&[0xff; 64], &at()).is_err());
    }
}
