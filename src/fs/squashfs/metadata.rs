//! Metadata: inodes, directories, and the tables of owners, fragments and attributes are streams of bytes, cut into
//! pieces of 8 KiB, each packed for itself.
//!
//! ```text
//! │ u16 │ packed piece │ u16 │ packed piece │ ...        bit 15 of the u16: the piece is stored as it is
//! ```
//! A [`Place`] is a byte of such a stream. Pieces follow each other on the volume, so a [`Cursor`] reads on over their
//! ends, and may step over pieces without unpacking them: all but the last of a stream are 8 KiB.

use super::Squashfs;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le64};
use std::sync::Arc;

/// Bytes of a whole piece, unpacked.
pub(super) const PIECE: u64 = 8192;
/// The bit of a piece's head that says that it is stored as it is; the others are its length.
const STORED: u16 = 0x8000;
/// Bytes of a piece's head.
const HEAD: u64 = 2;
/// Pieces that one request may step over or read: 256 MiB of metadata, the list of blocks of an 8 TiB file.
const MAX_PIECES: u32 = 32768;

/// A byte of a stream of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The volume's byte where its piece starts.
    pub(super) piece: u64,
    /// The byte in what that unpacks to.
    pub(super) skip: u64,
}

impl Place {
    /// The place of a reference: 48 bits of a piece's distance from the start of its table, 16 of the byte in it.
    pub(super) const fn of(table: u64, reference: u64) -> Self {
        Self { piece: table.saturating_add(reference >> 16), skip: reference & 0xffff }
    }

    fn at(self) -> At {
        At::new("squashfs", "metadata block").byte(self.piece)
    }
}

/// A piece's head: where its bytes are, how many, and whether they are packed.
struct Head {
    start: u64,
    stored: u64,
    is_packed: bool,
}

impl Head {
    const fn end(&self) -> u64 {
        self.start.saturating_add(self.stored)
    }
}

impl Squashfs {
    fn head(&self, piece: u64) -> Result<Head> {
        let bytes = self.meta.near(piece, HEAD).map_err(|error| error.at(Place { piece, skip: 0 }.at()))?;
        let word = get_le16(&bytes, 0).unwrap_or(0);
        // A length of 0 is 32 KiB, more than a piece has.
        let stored = u64::from(word & !STORED);
        if stored == 0 || stored > PIECE {
            return Err(
                Error::corrupt(Place { piece, skip: 0 }.at()).because(format!("a length of {stored} bytes"))
            );
        }
        Ok(Head { start: piece.saturating_add(HEAD), stored, is_packed: word & STORED == 0 })
    }

    /// The unpacked piece at a byte of the volume.
    fn piece(&self, piece: u64) -> Result<Arc<Vec<u8>>> {
        self.pieces.get(piece, || {
            let head = self.head(piece)?;
            let stored = self.meta.near(head.start, head.stored)?;
            let plain = if head.is_packed {
                let plain = self.sb.compression.unpack(&stored, narrow(PIECE));
                plain.map_err(|error| error.at(Place { piece, skip: 0 }.at()))?
            } else {
                stored.to_vec()
            };
            Ok(plain)
        })
    }

    pub(super) fn cursor(&self, place: Place) -> Cursor<'_> {
        Cursor { fs: self, place, pieces_left: MAX_PIECES }
    }

    /// Entry `index` of a table of entries of `N` bytes: the table's start is a list of the places of its pieces.
    ///
    /// # Errors
    /// `Corrupt` when it lies outside of the volume.
    pub(super) fn table_entry<const N: usize>(&self, list: u64, index: u64) -> Result<[u8; N]> {
        let byte = index.saturating_mul(wide(N));
        let pointer = self.meta.near(list.saturating_add((byte / PIECE).saturating_mul(8)), 8)?;
        let place = Place { piece: get_le64(&pointer, 0).unwrap_or(u64::MAX), skip: byte % PIECE };
        self.cursor(place).take()
    }
}

/// Reads a stream of metadata in order.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    fs: &'a Squashfs,
    place: Place,
    pieces_left: u32,
}

impl Cursor<'_> {
    /// Where it stands.
    pub(super) const fn place(&self) -> Place {
        self.place
    }

    fn spend(&mut self) -> Result<()> {
        let left = self.pieces_left.checked_sub(1);
        let over =
            || Error::limit(format!("squashfs metadata: more than {MAX_PIECES} blocks for one answer"));
        self.pieces_left = left.ok_or_else(over)?;
        Ok(())
    }

    /// Goes to the piece behind this one.
    fn next_piece(&mut self) -> Result<()> {
        self.spend()?;
        let next = self.fs.head(self.place.piece)?.end();
        self.place = Place { piece: next, skip: self.place.skip.saturating_sub(PIECE) };
        Ok(())
    }

    /// Fills `buf`.
    ///
    /// # Errors
    /// `Corrupt` when the stream is damaged or ends before.
    pub(super) fn fill(&mut self, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            if self.place.skip >= PIECE {
                self.next_piece()?;
                continue;
            }
            let piece = self.fs.piece(self.place.piece)?;
            let rest = piece.get(narrow(self.place.skip)..).unwrap_or_default();
            if rest.is_empty() {
                return Err(Error::corrupt(self.place.at()).because(format!(
                    "unpacks to {} bytes, and {} are wanted",
                    piece.len(),
                    PIECE
                )));
            }
            let len = rest.len().min(buf.len());
            let (now, later) = buf.split_at_mut(len);
            now.copy_from_slice(rest.get(..len).unwrap_or_default());
            buf = later;
            self.place.skip = self.place.skip.saturating_add(wide(len));
        }
        Ok(())
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// As [`Cursor::fill`].
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The next `len` bytes, a number of at most 16 bits or one that was compared with a limit.
    ///
    /// # Errors
    /// As [`Cursor::fill`].
    pub(super) fn bytes(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Goes `len` bytes on, and unpacks nothing on the way.
    ///
    /// # Errors
    /// `Corrupt` when the stream ends before.
    pub(super) fn skip(&mut self, len: u64) -> Result<()> {
        self.place.skip = self.place.skip.saturating_add(len);
        while self.place.skip >= PIECE {
            self.next_piece()?;
        }
        Ok(())
    }
}
