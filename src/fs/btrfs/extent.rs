//! File extents: which bytes of a file lie where.
//!
//! ```text
//! (inode EXTENT_DATA offset)   inline: the bytes themselves, or packed
//!                              regular: a part of an extent of the address space, or of what it unpacks to; or a hole
//!                              prealloc: reserved, not yet written: zeros
//! no item                      a hole
//! ```
//! btrfs on-disk format, "EXTENT_DATA".

use super::compress::Packing;
use super::inode::{self, Inode};
use super::key::{Key, kind};
use super::node::{Bytes, Item};
use super::pool::Pool;
use super::tree::Tree;
use crate::budget::{Budget, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le64};

/// Bytes of an item before inline data, and of one without.
pub(super) const INLINE_AT: usize = 21;
pub(super) const REAL: usize = 53;
/// What a packed extent takes, and unpacks to, at most: the kernel's `BTRFS_MAX_COMPRESSED` and `BTRFS_MAX_UNCOMPRESSED`.
const MAX_PACKED: u64 = 128 << 10;
/// What one read may cost: so many extents, and reads of what a row of stripes can be computed from.
const READ: Limits = Limits { steps: 200_000, ..Limits::REQUEST };

/// An item, decoded.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    /// Where in the file it starts.
    pub(super) start: u64,
    /// Bytes it unpacks to, all of it.
    pub(super) unpacked: u64,
    pub(super) packing: Option<Packing>,
    pub(super) body: Body,
}

/// Where its bytes are.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// In the item, from [`INLINE_AT`] on.
    Inline {
        item: Bytes,
        /// The logical byte where the item lies.
        at: Option<u64>,
    },
    /// In the address space.
    Real {
        /// Nothing was written to it yet.
        is_unwritten: bool,
        /// Where the extent lies; 0 for a hole.
        at: u64,
        /// How long it is there.
        stored: u64,
        /// Bytes of it, unpacked, that come before the file's.
        skip: u64,
        /// Bytes of the file.
        len: u64,
    },
}

/// Why an item cannot be taken.
#[derive(Debug)]
pub(super) enum Trouble {
    Damaged(String),
    Unsupported(String),
    Encrypted,
}

impl Extent {
    /// Decodes an item, in a file system with blocks of `sector` bytes.
    ///
    /// # Errors
    /// Why it cannot be taken. What is not made of whole blocks is not: the kernel does not take it either.
    pub(super) fn parse(item: &Item, sector: u32) -> Result<Self, Trouble> {
        let data = &item.data;
        let damaged = |why: &str| Trouble::Damaged(why.to_owned());
        let field = |at| get_le64(data, at).ok_or_else(|| damaged("an extent's item is too short"));
        let unpacked = field(8)?;
        let byte = |at| data.get(at).copied().unwrap_or(0);
        if byte(17) != 0 {
            return Err(Trouble::Encrypted);
        }
        if get_le16(data, 18) != Some(0) {
            return Err(Trouble::Unsupported(format!("other_encoding {}", get_le16(data, 18).unwrap_or(0))));
        }
        let packing = Packing::of_type(byte(16)).map_err(Trouble::Unsupported)?;
        if packing.is_some() && unpacked > MAX_PACKED {
            return Err(Trouble::Damaged(format!("an extent that unpacks to {unpacked} bytes")));
        }
        let kind = data.get(20).copied().ok_or_else(|| damaged("an extent's item is too short"))?;
        let start = item.key.offset;
        let body = match kind {
            0 if start != 0 => return Err(damaged("inline bytes that are not the file's first")),
            0 => {
                let len = wide(data.len().saturating_sub(INLINE_AT));
                if packing.is_none() && len != unpacked {
                    return Err(Trouble::Damaged(format!(
                        "{len} inline bytes where {unpacked} are said to be"
                    )));
                }
                Body::Inline { item: data.clone(), at: item.at }
            }
            1 | 2 => {
                let (at, stored, skip, len) = (field(21)?, field(29)?, field(37)?, field(45)?);
                let fits = |whole: u64| skip.checked_add(len).is_some_and(|end| end <= whole);
                let whole = if packing.is_some() { unpacked } else { stored };
                if len == 0 || start.checked_add(len).is_none() || (at != 0 && !fits(whole)) {
                    return Err(Trouble::Damaged(format!(
                        "{len} bytes from byte {skip} of an extent of {whole}"
                    )));
                }
                if [start, unpacked, at, stored, skip, len].iter().any(|n| !n.is_multiple_of(sector.into())) {
                    return Err(damaged("an extent that is not made of whole blocks"));
                }
                if at.checked_add(stored).is_none() {
                    return Err(damaged("an extent past the end of all addresses"));
                }
                if packing.is_some() && stored > MAX_PACKED {
                    return Err(Trouble::Damaged(format!("{stored} packed bytes")));
                }
                Body::Real { is_unwritten: kind == 2, at, stored, skip, len }
            }
            other => return Err(Trouble::Damaged(format!("an extent of type {other}"))),
        };
        Ok(Self { start, unpacked, packing, body })
    }

    /// Bytes of the file that it holds.
    pub(super) const fn len(&self) -> u64 {
        match self.body {
            Body::Inline { .. } => self.unpacked,
            Body::Real { len, .. } => len,
        }
    }

    pub(super) const fn end(&self) -> u64 {
        self.start.saturating_add(self.len())
    }
}

/// The item of an extent, for `len` bytes of the file that begin `skip` bytes into it.
pub(super) fn part_of(item: &[u8], skip: u64, len: u64) -> Vec<u8> {
    let head = item.get(..37).unwrap_or_default();
    [head, &skip.to_le_bytes(), &len.to_le_bytes()].concat()
}

/// What lies at a byte of a file.
#[derive(Debug)]
pub(super) enum Found {
    /// An extent that holds the byte.
    Extent(Extent),
    /// Nothing, for so many bytes.
    Hole(u64),
}

impl Pool {
    /// What lies at byte `offset` of a file.
    ///
    /// # Errors
    /// `Corrupt` when an extent makes no sense, `Encrypted` or `Unsupported` when it is so; when it cannot be found.
    pub(super) fn extent_at(&self, tree: &Tree, inode: &Inode, offset: u64) -> Result<Found> {
        let number = inode.number;
        let decode = |item: &Item| {
            Extent::parse(item, self.sb.sector).map_err(|trouble| match trouble {
                Trouble::Damaged(why) => {
                    Error::corrupt(inode::at(number)).because(format!("at byte {}: {why}", item.key.offset))
                }
                Trouble::Unsupported(what) => Error::unsupported(what).at(inode::at(number)),
                Trouble::Encrypted => {
                    let what = "encrypted by the file system; the key is not in the image";
                    Error::new(ErrorKind::Encrypted, what).at(inode::at(number))
                }
            })
        };
        let key = Key::new(number, kind::EXTENT_DATA, offset);
        let before = self.floor(tree, key)?.filter(|item| item.key.is(number, kind::EXTENT_DATA));
        if let Some(item) = before {
            let extent = decode(&item)?;
            if extent.end() > offset {
                return Ok(Found::Extent(extent));
            }
        }
        let after = match key.after() {
            Some(key) => self.items(tree, key)?.next_of(number, kind::EXTENT_DATA)?,
            None => None,
        };
        let end = after.map_or(u64::MAX, |item| item.key.offset);
        Ok(Found::Hole(end.saturating_sub(offset)))
    }

    /// Fills `buf` with a file's bytes from `offset` on; the caller has compared with its size.
    ///
    /// # Errors
    /// `Corrupt` when the map or the data is damaged; what the devices report.
    pub(super) fn read_file(
        &self,
        tree: &Tree,
        inode: &Inode,
        mut buf: &mut [u8],
        mut offset: u64,
    ) -> Result<()> {
        let budget = Budget::new(READ);
        while !buf.is_empty() {
            budget.step("extents of a read")?;
            let found = self.extent_at(tree, inode, offset)?;
            let len = match &found {
                Found::Extent(extent) => extent.end().saturating_sub(offset),
                Found::Hole(len) => *len,
            };
            let (now, rest) = buf.split_at_mut(narrow(len).min(buf.len()).max(1));
            match found {
                Found::Hole(_) => now.fill(0),
                Found::Extent(extent) => self.read_extent(inode, &extent, now, offset, &budget)?,
            }
            offset = offset.saturating_add(wide(now.len()));
            buf = rest;
        }
        Ok(())
    }

    fn read_extent(
        &self,
        inode: &Inode,
        extent: &Extent,
        buf: &mut [u8],
        offset: u64,
        budget: &Budget,
    ) -> Result<()> {
        let into = offset.saturating_sub(extent.start);
        let copy = |whole: &[u8], from: u64, buf: &mut [u8]| {
            let part = whole.get(narrow(from)..).and_then(|rest| rest.get(..buf.len()));
            let part = part.ok_or_else(|| {
                Error::corrupt(inode::at(inode.number))
                    .because(format!("at byte {offset}: an extent of {} bytes", whole.len()))
            })?;
            buf.copy_from_slice(part);
            Ok(())
        };
        match (&extent.body, extent.packing) {
            (Body::Inline { item, .. }, packing) => {
                let stored = item.get(INLINE_AT..).unwrap_or_default();
                match packing {
                    None => copy(stored, into, buf),
                    Some(packing) => {
                        let whole = packing
                            .unpack(stored, extent.unpacked, self.sb.sector)
                            .map_err(|error| error.at(inode::at(inode.number)))?;
                        copy(&whole, into, buf)
                    }
                }
            }
            (Body::Real { at: 0, .. } | Body::Real { is_unwritten: true, .. }, _) => {
                buf.fill(0);
                Ok(())
            }
            (Body::Real { at, skip, .. }, None) => self.read_data(
                at.saturating_add(*skip).saturating_add(into),
                buf,
                inode.is_unsummed(),
                budget,
            ),
            (Body::Real { at, stored, skip, .. }, Some(packing)) => {
                let whole = self.units.get(*at, || {
                    // At most MAX_PACKED, compared when it was decoded.
                    let mut bytes = vec![0; narrow(*stored)];
                    self.read_data(*at, &mut bytes, inode.is_unsummed(), budget)?;
                    packing
                        .unpack(&bytes, extent.unpacked, self.sb.sector)
                        .map_err(|error| error.at(inode::at(inode.number)))
                })?;
                copy(&whole, skip.saturating_add(into), buf)
            }
        }
    }
}
