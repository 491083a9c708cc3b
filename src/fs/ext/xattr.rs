//! Extended attributes: in what is left of the inode, in a block of their own, and large values in inodes of their own.
//!
//! ```text
//! entry   name length 1 │ prefix 1 │ value offset 2 │ value inode 4 │ value size 4 │ hash 4 │ name, padded to 4
//! ```
//! Kernel documentation, `filesystems/ext4/attributes.rst`.

use super::Ext;
use super::inode::{Inode, flag};
use crate::error::{At, Error, Result};
use crate::fs::Xattr;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// All values of one file together; the kernel gives a process no more than 64 KiB of one, and lists 64 KiB of names.
const MAX_VALUES: u64 = 8 << 20;
const MAGIC: u32 = 0xea02_0000;
/// Bytes of the header of a block of attributes.
const BLOCK_HEADER: usize = 32;
/// The longest value Linux hands out (`XATTR_SIZE_MAX`).
const MAX_VALUE: u64 = 64 << 10;
/// Prefix 7 is `system.`; its only attribute, `data`, is the rest of a small file.
const SYSTEM: u8 = 7;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Entry {
    name_len: u8,     // 0x0 bytes
    prefix: u8,       // 0x1 see `prefix`
    value_at: U16,    // 0x2 from the first entry (in an inode) or the block's start, in bytes
    value_inode: U32, // 0x4 0: the value is here
    value_size: U32,  // 0x8 bytes
    hash: U32,        // 0xc
}
const _: () = assert!(size_of::<Entry>() == 16);

/// An attribute as it stands in its table.
#[derive(Debug)]
struct Found<'a> {
    entry: Entry,
    name: &'a [u8],
}

/// Where the inline file's second part lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct InlineRest {
    /// From the start of the inode, in bytes.
    pub(super) at: usize,
    pub(super) len: usize,
}

/// The word before the dot. `None`: not for people (encryption contexts, the rest of inline files).
const fn prefix(index: u8) -> Option<&'static [u8]> {
    Some(match index {
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        8 => b"system.richacl",
        _ => return None,
    })
}

/// The entries of a table, which ends in four zero bytes or where its bytes end.
fn entries<'a>(table: &'a [u8], at: &At) -> Result<Vec<Found<'a>>> {
    let mut found = Vec::new();
    let mut here = 0_usize;
    loop {
        let rest = table.get(here..).unwrap_or_default();
        if rest.len() < 4 || rest.starts_with(&[0; 4]) {
            return Ok(found);
        }
        let bad = |why: &str| Error::corrupt(at.clone()).because(format!("entry {}: {why}", found.len()));
        let (entry, rest) = Entry::read_from_prefix(rest).map_err(|_| bad("is torn"))?;
        let len = usize::from(entry.name_len);
        let name = rest.get(..len).ok_or_else(|| bad("its name goes past the end"))?;
        found.push(Found { entry, name });
        here = here.saturating_add(16).saturating_add(len.next_multiple_of(4));
    }
}

impl Ext {
    /// Every attribute that is meant to be seen.
    ///
    /// # Errors
    /// `Corrupt` when a table is damaged; `Limit` for a value over 64 KiB.
    pub(super) fn all_xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let mut all = Vec::new();
        if let Some(table) = Self::inode_table(inode) {
            self.collect(inode, table, table, &inode.at(), &mut all)?;
        }
        if inode.acl_block != 0 {
            let at = At::new("ext", "attribute block of inode").index(inode.ino);
            let byte = self.sb.block_offset(inode.acl_block, 1).ok_or_else(|| {
                Error::corrupt(inode.at())
                    .because(format!("its attributes at block {}, not in the file system", inode.acl_block))
            })?;
            let block = self.meta.block(byte, self.sb.block_size)?;
            let at = at.byte(byte);
            if get_le32(&block, 0) != Some(MAGIC) {
                return Err(Error::corrupt(at).because("its magic number is not 0xea020000"));
            }
            self.check_attributes(inode.acl_block, &block, &at)?;
            self.collect(inode, block.get(BLOCK_HEADER..).unwrap_or_default(), &block, &at, &mut all)?;
        }
        Ok(all)
    }

    /// The table in the inode, if it has one: what stands behind the magic number.
    fn inode_table(inode: &Inode) -> Option<&[u8]> {
        let at = inode.xattrs_at?;
        let area = inode.raw.get(at..)?;
        (get_le32(area, 0)? == MAGIC).then(|| area.get(4..).unwrap_or_default())
    }

    /// Adds the attributes of `table`, whose values lie at offsets into `values`.
    fn collect(
        &self,
        owner: &Inode,
        table: &[u8],
        values: &[u8],
        at: &At,
        all: &mut Vec<Xattr>,
    ) -> Result<()> {
        let mut total = 0_u64;
        for Found { entry, name } in entries(table, at)? {
            let Some(prefix) = prefix(entry.prefix) else { continue };
            // Entries may share their value's bytes: thousands of names for one value.
            total = total.saturating_add(entry.value_size.get().into());
            if total > MAX_VALUES {
                return Err(Error::limit(format!("attributes of more than {MAX_VALUES} bytes together"))
                    .at(at.clone()));
            }
            let value = self.value(owner, &Found { entry, name }, values, at)?;
            let value = if matches!(entry.prefix, 2 | 3) { acl(&value, at)? } else { value };
            all.push(Xattr { name: [prefix, name].concat(), value });
        }
        Ok(())
    }

    fn value(&self, owner: &Inode, found: &Found<'_>, values: &[u8], at: &At) -> Result<Vec<u8>> {
        let entry = &found.entry;
        let size = u64::from(entry.value_size.get());
        if size > MAX_VALUE {
            return Err(Error::limit(format!("an attribute of {size} bytes, at most {MAX_VALUE} are read"))
                .at(at.clone()));
        }
        if entry.value_inode.get() == 0 {
            let from = usize::from(entry.value_at.get());
            let value = values.get(from..).and_then(|rest| rest.get(..narrow(size)));
            let past = || Error::corrupt(at.clone()).because("an attribute's value goes past the end");
            return if size == 0 { Ok(Vec::new()) } else { value.map(<[u8]>::to_vec).ok_or_else(past) };
        }
        let holder = self.inode(u64::from(entry.value_inode.get()))?;
        if !holder.has(flag::EA_INODE) || holder.size != size {
            return Err(
                Error::corrupt(holder.at()).because(format!("is not the {size} bytes of an attribute"))
            );
        }
        // At most MAX_VALUE, compared above.
        let mut value = vec![0; narrow(size)];
        self.read_mapped(&holder, &mut value, 0)?;
        if !self.is_value_of(owner, &holder, found, &value) {
            return Err(Error::corrupt(holder.at()).because("an attribute's value with a wrong hash"));
        }
        Ok(value)
    }

    /// Is this the value that was stored, and is it this attribute's? As `ext4_xattr_inode_verify_hashes`.
    fn is_value_of(&self, owner: &Inode, holder: &Inode, found: &Found<'_>, value: &[u8]) -> bool {
        let field = |inode: &Inode, at| get_le32(&inode.raw, at);
        // Lustre's inodes of values have no hash, but the number (in mtime) and generation of their owner.
        let number = u32::try_from(owner.ino).ok();
        if field(holder, 0x10) == number && field(holder, 0x64) == field(owner, 0x64) {
            return true;
        }
        // The access time of such an inode is the checksum of its value.
        let sum = self.value_sum(value);
        field(holder, 0x08) == Some(sum)
            && [false, true]
                .into_iter()
                .any(|signed| entry_hash(found.name, sum, signed) == found.entry.hash.get())
    }

    /// Where the rest of an inline file stands in its inode, if there is any.
    ///
    /// # Errors
    /// `Corrupt` when the table is damaged.
    pub(super) fn inline_rest(&self, inode: &Inode) -> Result<Option<InlineRest>> {
        let (Some(table), Some(start)) = (Self::inode_table(inode), inode.xattrs_at) else { return Ok(None) };
        let data = entries(table, &inode.at())?;
        let Some(data) = data.iter().find(|found| found.entry.prefix == SYSTEM && found.name == b"data")
        else {
            return Ok(None);
        };
        let (at, len) =
            (usize::from(data.entry.value_at.get()), narrow(u64::from(data.entry.value_size.get())));
        if len == 0 {
            return Ok(None);
        }
        if data.entry.value_inode.get() != 0 || table.get(at..).and_then(|rest| rest.get(..len)).is_none() {
            return Err(Error::corrupt(inode.at()).because("the rest of its inline data goes past its end"));
        }
        Ok(Some(InlineRest { at: start.saturating_add(4).saturating_add(at), len }))
    }
}

/// The hash of an attribute's name and the checksum of its value (`ext4_xattr_hash_entry`). Older kernels took the bytes of
/// the name as signed characters where the compiler did.
fn entry_hash(name: &[u8], sum: u32, signed: bool) -> u32 {
    let character =
        |byte: u8| if signed { i32::from(byte.cast_signed()).cast_unsigned() } else { byte.into() };
    let hash = name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ character(*byte));
    hash.rotate_left(16) ^ sum
}

/// An access control list as the kernel hands it out, made of the shorter form on disk (`fs/ext4/acl.c`): version 2
/// instead of 1, and each entry with an id, all ones where it has none.
fn acl(stored: &[u8], at: &At) -> Result<Vec<u8>> {
    let bad = |why: &str| Error::corrupt(at.clone()).because(format!("an access control list {why}"));
    if stored.is_empty() {
        return Ok(Vec::new());
    }
    if get_le32(stored, 0) != Some(1) {
        return Err(bad("of a version other than 1"));
    }
    let mut made = 2_u32.to_le_bytes().to_vec();
    let mut here = 4_usize;
    while here < stored.len() {
        let entry = stored.get(here..).unwrap_or_default();
        let (Some(tag), Some(permissions)) = (get_le16(entry, 0), get_le16(entry, 2)) else {
            return Err(bad("with a torn entry"));
        };
        // ACL_USER and ACL_GROUP name someone; ACL_USER_OBJ, ACL_GROUP_OBJ, ACL_MASK and ACL_OTHER do not.
        let (id, len) = match tag {
            0x02 | 0x08 => (get_le32(entry, 4).ok_or_else(|| bad("with a torn entry"))?, 8),
            0x01 | 0x04 | 0x10 | 0x20 => (u32::MAX, 4),
            _ => return Err(bad("with an unknown tag")),
        };
        made.extend(tag.to_le_bytes());
        made.extend(permissions.to_le_bytes());
        made.extend(id.to_le_bytes());
        here = here.saturating_add(len);
    }
    debug_assert!(wide(made.len()) <= MAX_VALUE.saturating_mul(2).saturating_add(4), "at most doubled");
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> At {
        At::new("ext", "attributes")
    }

    #[test]
    fn entries_end_at_four_zero_bytes() {
        let mut table = vec![3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        table.extend(b"abc\0");
        table.extend([0; 8]);
        let found = entries(&table, &at()).unwrap();
        assert_eq!((found.len(), found[0].name), (1, b"abc".as_slice()));
    }

    #[test]
    fn a_name_past_the_end_is_corrupt() {
        let table = [200, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'a'];
        assert!(entries(&table, &at()).is_err());
        assert!(entries(&table[..10], &at()).is_err());
    }

    /// `setfacl -m u:1000:rw`, on disk and from `getfattr -n system.posix_acl_access`.
    #[test]
    fn an_acl_is_handed_out_as_the_kernel_does() {
        let stored =
            [1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 6, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 0x10, 0, 6, 0, 0x20, 0, 4, 0];
        let shown = [
            2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255,
            255, 0x10, 0, 6, 0, 255, 255, 255, 255, 0x20, 0, 4, 0, 255, 255, 255, 255,
        ];
        assert_eq!(acl(&stored, &at()).unwrap(), shown);
        assert!(acl(&stored[..10], &at()).is_err());
    }
}
