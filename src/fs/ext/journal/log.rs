//! The file that the journal lies in, block by block. It is read as it stands on the volume, long before anything that the
//! journal itself may hold is known.

use crate::error::{At, Error, Result};
use crate::fs::FileType;
use crate::fs::ext::Ext;
use crate::fs::ext::inode::{BLOCK_AT, BLOCK_BYTES, Inode, flag};
use crate::fs::ext::map::{Place, Stretch};
use crate::fs::meta::Bytes;
use std::cell::Cell;

/// A journal's blocks.
pub(super) struct Log<'a> {
    ext: &'a Ext,
    inode: Inode,
    /// Blocks of the file.
    pub(super) blocks: u64,
    /// Was the inode damaged, and its copy in the superblock taken?
    pub(super) is_copy: bool,
    /// The stretch that the last block was in, from its first block on.
    last: Cell<(u64, Stretch)>,
}

impl<'a> Log<'a> {
    /// Finds the journal's file.
    ///
    /// # Errors
    /// `Corrupt` when neither its inode nor the copy of it can be used.
    pub(super) fn open(ext: &'a Ext) -> Result<Self> {
        let own = ext.inode(ext.sb.journal_inode()).and_then(|inode| {
            let is_file = inode.kind == FileType::File && !inode.has(flag::ENCRYPT | flag::INLINE_DATA);
            let bad = || Error::corrupt(inode.at()).because("the journal is no file");
            if is_file { Ok(()) } else { Err(bad()) }?;
            // A journal has no holes, from its first block to its last.
            let log = Self::new(ext, inode, false);
            log.place(0)?;
            log.place(log.blocks.saturating_sub(1))?;
            Ok(log)
        });
        match own {
            Ok(log) => Ok(log),
            Err(error) => Self::from_copy(ext).ok_or(error),
        }
    }

    fn new(ext: &'a Ext, inode: Inode, is_copy: bool) -> Self {
        let blocks = inode.size.checked_div(ext.sb.block_size).unwrap_or(0);
        let last = Cell::new((0, Stretch { blocks: 0, place: Place::Hole }));
        Self { ext, inode, blocks, is_copy, last }
    }

    /// The journal by the copy of its map that the superblock has, as `e2fsck` uses it.
    fn from_copy(ext: &'a Ext) -> Option<Self> {
        let (map, size) = ext.sb.journal_copy()?;
        let mut raw = vec![0_u8; crate::num::narrow(ext.sb.inode_size)];
        let mut put = |at: usize, bytes: &[u8]| {
            let end = at.saturating_add(bytes.len());
            if let Some(place) = raw.get_mut(at..end) {
                place.copy_from_slice(bytes);
            }
        };
        let extents = map.starts_with(&[0x0a, 0xf3]);
        put(0x00, &0o100_600_u16.to_le_bytes());
        put(0x04, &size.to_le_bytes().first_chunk::<4>().copied().unwrap_or_default());
        put(0x1a, &1_u16.to_le_bytes());
        put(0x20, &(if extents { flag::EXTENTS } else { 0 }).to_le_bytes());
        put(BLOCK_AT, map.get(..BLOCK_BYTES)?);
        put(0x6c, &u32::try_from(size >> 32).ok()?.to_le_bytes());
        let inode = Inode::parse(ext.sb.journal_inode(), 0, Bytes::from(raw), &ext.sb).ok()?;
        let log = Self::new(ext, inode, true);
        let is_whole = log.place(0).is_ok() && log.place(log.blocks.saturating_sub(1)).is_ok();
        is_whole.then_some(log)
    }

    /// The volume's byte where block `number` lies.
    ///
    /// # Errors
    /// `Corrupt` when it is a hole, or the map is damaged.
    pub(super) fn place(&self, number: u64) -> Result<u64> {
        let (from, stretch) = self.last.get();
        let (skip, stretch) = match number.checked_sub(from) {
            Some(skip) if skip < stretch.blocks => (skip, stretch),
            _ => {
                let stretch = self.ext.map(&self.inode, number, 1)?;
                self.last.set((number, stretch));
                (0, stretch)
            }
        };
        let hole =
            || Error::corrupt(self.inode.at()).because(format!("block {number} of the journal is a hole"));
        let Place::At(start) = stretch.place else { return Err(hole()) };
        start.checked_add(skip).and_then(|block| block.checked_mul(self.block_size())).ok_or_else(hole)
    }

    /// Block `number`.
    ///
    /// # Errors
    /// As [`Log::place`]; what the volume reports.
    pub(super) fn block(&self, number: u64) -> Result<Bytes> {
        self.ext.meta.near(self.place(number)?, self.block_size())
    }

    /// Bytes of a block.
    pub(super) const fn block_size(&self) -> u64 {
        self.ext.sb.block_size
    }

    /// A block of the journal, as errors name it.
    pub(super) fn at(&self, number: u64) -> At {
        let at = At::new("ext", "journal block").index(number);
        self.place(number).map_or(at.clone(), |byte| at.byte(byte))
    }
}
