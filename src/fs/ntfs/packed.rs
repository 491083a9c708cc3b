//! Pieces: how a stretch of a file is stored, where some of it is packed. Whoever knows the format lists the pieces that a
//! read touches ([`super::compressed`] LZNT1, [`super::wof`] the rest); here they are read.
//!
//! ```text
//!   pieces  │ zeros │ plain │ packed │ packed │ packed │ plain │
//!                      │        └── their bytes: one read, up to 4 MiB ──┐
//!                      └▶ buf   the first is unpacked here, the others by the pool ─▶ cache ─▶ buf
//! ```
//! Where stored bytes are counted from, the lister decides: LZNT1's from the volume's first byte, WOF's from the first of
//! the stream that has them. One function reads there, so that neighbours make one read.

use super::{lznt1, lzx, xpress};
use crate::engine::{Mapper, Units};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use std::ops::Range;
use std::sync::Arc;

/// Packed bytes read at once.
const MAX_READ: u64 = 4 << 20;
/// Plain bytes of the units that one job of the pool unpacks: less is done sooner than handed over.
const JOB: usize = 32 << 10;

/// How a unit is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packer {
    /// By LZNT1: a compression unit.
    Lznt1,
    /// By XPRESS: a chunk of WOF.
    Xpress,
    /// By LZX: a chunk of WOF.
    Lzx,
}

/// Bytes that are packed together.
#[derive(Debug)]
pub(super) struct Unit {
    /// Its number in the cache, if there is one that is its own.
    pub(super) key: Option<u64>,
    /// How it is packed.
    pub(super) packer: Packer,
    /// Where its bytes lie, one stretch behind the other.
    pub(super) stored: Vec<Range<u64>>,
    /// How many bytes it unpacks to.
    pub(super) len: usize,
    /// What it is, for errors.
    pub(super) at: At,
}

/// How a stretch of a file is stored.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// So many zeros.
    Zeros(u64),
    /// As it is, in the bytes from `at` on.
    Plain {
        /// The first of them.
        at: u64,
        /// How many.
        len: u64,
    },
    /// Packed.
    Packed(Arc<Unit>),
}

impl Piece {
    /// How many bytes of the file it is.
    fn len(&self) -> u64 {
        match self {
            Self::Zeros(len) | Self::Plain { len, .. } => *len,
            Self::Packed(unit) => wide(unit.len),
        }
    }

    /// Adds it to a list, or to the last of the list where it goes on.
    pub(super) fn add_to(self, pieces: &mut Vec<Self>) {
        match (pieces.last_mut(), &self) {
            (Some(Self::Zeros(len)), Self::Zeros(more)) => *len = len.saturating_add(*more),
            (Some(Self::Plain { at, len }), Self::Plain { at: next, len: more })
                if at.saturating_add(*len) == *next =>
            {
                *len = len.saturating_add(*more);
            }
            _ => pieces.push(self),
        }
    }
}

impl Unit {
    /// Bytes that are stored for it.
    pub(super) fn stored_len(&self) -> u64 {
        self.stored.iter().fold(0, |sum, part| sum.saturating_add(part.end.saturating_sub(part.start)))
    }

    /// Unpacks the first `len` bytes.
    fn unpack(&self, packed: &[u8], len: usize) -> Result<Vec<u8>> {
        let plain = match self.packer {
            Packer::Lznt1 => lznt1::unpack(packed, len),
            Packer::Xpress => xpress::unpack(packed, len),
            Packer::Lzx => lzx::unpack(packed, len),
        };
        plain.map_err(|error| error.at(self.at.clone()))
    }
}

/// Packed bytes that were read at once.
#[derive(Default)]
struct Fetched {
    bytes: Arc<Vec<u8>>,
    /// Which piece has which of them, in the order of pieces.
    parts: Vec<(usize, Range<usize>)>,
}

impl Fetched {
    fn of(&self, piece: usize) -> Option<&[u8]> {
        let at = self.parts.binary_search_by_key(&piece, |(piece, _)| *piece).ok()?;
        self.bytes.get(self.parts.get(at)?.1.clone())
    }
}

/// What was unpacked, in the process's cache.
#[derive(Debug)]
pub(super) struct Cached {
    /// Compression units, by where they lie.
    pub(super) compressed: Units,
    /// Chunks of WOF, by file and number.
    pub(super) chunks: Units,
    /// Pieces of WOF's tables, by file and number.
    pub(super) tables: Units,
}

impl Cached {
    /// Nothing yet.
    pub(super) fn new(mapper: &Mapper) -> Self {
        Self { compressed: mapper.units(), chunks: mapper.units(), tables: mapper.units() }
    }
}

/// What pieces are read with.
pub(super) struct Reader<'a> {
    /// Units of this kind in the process's cache.
    pub(super) units: &'a Units,
    /// Fills a buffer from where stored bytes are counted.
    pub(super) read: &'a dyn Fn(&mut [u8], u64) -> Result<()>,
}

impl Reader<'_> {
    /// Fills `buf` with what `pieces` are, from byte `skip` of them all on.
    ///
    /// # Errors
    /// `Corrupt` when a unit is damaged; what `read` reports.
    pub(super) fn fill(&self, pieces: &[Piece], mut buf: &mut [u8], mut skip: u64) -> Result<()> {
        let mut fetched = Fetched::default();
        for (number, piece) in pieces.iter().enumerate() {
            if let Some(behind) = skip.checked_sub(piece.len()) {
                skip = behind;
                continue;
            }
            let len = narrow(piece.len().saturating_sub(skip)).min(buf.len());
            let (now, rest) = buf.split_at_mut(len);
            match piece {
                _ if now.is_empty() => {}
                Piece::Zeros(_) => now.fill(0),
                Piece::Plain { at, .. } => (self.read)(now, at.saturating_add(skip))?,
                Piece::Packed(unit) => {
                    let mut packed = |unit: &Unit, len| {
                        if fetched.of(number).is_none() {
                            fetched = self.fetch(pieces, number)?;
                            self.hand_ahead(pieces, number, &fetched);
                        }
                        unit.unpack(fetched.of(number).unwrap_or_default(), len)
                    };
                    self.fill_from(unit, now, narrow(skip), &mut packed)?;
                }
            }
            buf = rest;
            skip = 0;
        }
        Ok(())
    }

    /// Fills `buf` from byte `skip` of a unit on.
    fn fill_from(
        &self,
        unit: &Unit,
        buf: &mut [u8],
        skip: usize,
        load: &mut dyn FnMut(&Unit, usize) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let end = skip.saturating_add(buf.len());
        let plain = match unit.key {
            Some(key) => self.units.get(key, || load(unit, unit.len)),
            None => load(unit, unit.len).map(Arc::new),
        };
        let plain = match plain {
            // Where clusters belong to two files, the unit of the other may be shorter.
            Ok(plain) if plain.len() < end => Arc::new(load(unit, unit.len)?),
            // Chunks before the damaged one are sound. Those behind it are not looked for: a chunk says where the next is.
            Err(_) if unit.packer == Packer::Lznt1 && end < unit.len => {
                Arc::new(load(unit, end.next_multiple_of(lznt1::CHUNK))?)
            }
            other => other?,
        };
        let part = plain.get(skip..end);
        buf.copy_from_slice(part.ok_or_else(|| Error::corrupt(unit.at.clone()).because("it is too short"))?);
        Ok(())
    }

    /// Reads what is packed of piece `first` and of those behind it.
    fn fetch(&self, pieces: &[Piece], first: usize) -> Result<Fetched> {
        let mut parts = Vec::new();
        let mut reads: Vec<Range<u64>> = Vec::new();
        let mut len = 0_u64;
        for (number, piece) in pieces.iter().enumerate().skip(first) {
            let Piece::Packed(unit) = piece else { continue };
            let end = len.saturating_add(unit.stored_len());
            if end > MAX_READ && number != first {
                break;
            }
            parts.push((number, narrow(len)..narrow(end)));
            len = end;
            for part in &unit.stored {
                match reads.last_mut() {
                    Some(last) if last.end == part.start => last.end = part.end,
                    _ => reads.push(part.clone()),
                }
            }
        }
        // A unit is shorter than what it unpacks to, and that is at most 1 MiB.
        let mut bytes = vec![0; narrow(len)];
        let mut rest = bytes.as_mut_slice();
        for range in reads {
            let (now, after) = rest.split_at_mut(narrow(range.end.saturating_sub(range.start)));
            (self.read)(now, range.start)?;
            rest = after;
        }
        Ok(Fetched { bytes: Arc::new(bytes), parts })
    }

    /// Hands the pool the units behind piece `first` that were read with it.
    fn hand_ahead(&self, pieces: &[Piece], first: usize, fetched: &Fetched) {
        let mut job = Job { bytes: Arc::clone(&fetched.bytes), units: Vec::new() };
        let (mut keys, mut len) = (Vec::new(), 0_usize);
        for (number, part) in fetched.parts.iter().filter(|(number, _)| *number > first) {
            let Some(Piece::Packed(unit)) = pieces.get(*number) else { continue };
            let Some(key) = unit.key else { continue };
            keys.push(key);
            job.units.push((Arc::clone(unit), part.clone()));
            len = len.saturating_add(unit.len);
            if len >= JOB {
                let next = Job { bytes: Arc::clone(&fetched.bytes), units: Vec::new() };
                self.hand(std::mem::take(&mut keys), std::mem::replace(&mut job, next));
                len = 0;
            }
        }
        self.hand(keys, job);
    }

    fn hand(&self, keys: Vec<u64>, job: Job) {
        if !keys.is_empty() {
            self.units.ahead(keys, move |at| job.unpack(at));
        }
    }
}

/// Units that one thread of the pool unpacks.
struct Job {
    bytes: Arc<Vec<u8>>,
    units: Vec<(Arc<Unit>, Range<usize>)>,
}

impl Job {
    fn unpack(&self, at: usize) -> Result<Vec<u8>> {
        let found = self.units.get(at).and_then(|(unit, part)| Some((unit, self.bytes.get(part.clone())?)));
        let (unit, packed) =
            found.ok_or_else(|| Error::corrupt(At::new("ntfs", "packed unit")).because("is not there"))?;
        unit.unpack(packed, unit.len)
    }
}
