//! WOF, the Windows overlay filter: files that Windows packed to make itself smaller (CompactOS, `compact /exe`). The
//! unnamed `$DATA` has the size and holes; the content is in the stream `WofCompressedData`, and a reparse point says how.
//!
//! ```text
//!   reparse point      algorithm: 0 XPRESS4K, 1 LZX, 2 XPRESS8K, 3 XPRESS16K; see reparse.rs
//!   WofCompressedData  │ where chunk 1 begins │ chunk 2 │ ... │ chunk 0 │ chunk 1 │ chunk 2 │ ...
//!                        from the table's end; 32 bits each,    as long as the next one's beginning says;
//!                        64 if the file has 4 GiB or more       not packed where as long as what it holds
//! ```
//! Microsoft, `wofapi.h`; the table follows Eric Biggers, ntfs-3g-system-compression, `system_compression.c`.

use super::attribute::{Attribute, kind};
use super::file::File;
use super::packed::{Packer, Piece, Reader, Unit};
use super::volume::Volume;
use crate::block::{Place, Run};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le32, get_le64};
use std::sync::Arc;

/// The stream that has the content.
const STREAM: &str = "WofCompressedData";

/// Bytes of the table kept as one unit of the cache.
const TABLE_PIECE: u64 = 16 << 10;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Method {
    packer: Packer,
    /// Bytes of a chunk, as a power of two.
    log: u32,
}

impl Method {
    /// That of this number.
    ///
    /// # Errors
    /// `Unsupported` for one that is not known.
    fn of(algorithm: u32) -> Result<Self> {
        let (packer, log) = match algorithm {
            0 => (Packer::Xpress, 12),
            1 => (Packer::Lzx, 15),
            2 => (Packer::Xpress, 13),
            3 => (Packer::Xpress, 14),
            other => return Err(Error::unsupported(format!("Windows Overlay Filter algorithm {other}"))),
        };
        Ok(Self { packer, log })
    }
}

/// A file that WOF packed.
struct Wof<'a> {
    volume: &'a Volume,
    file: &'a File,
    stream: &'a Attribute,
    method: Method,
    /// Bytes of the content.
    size: u64,
    /// Chunks that it has.
    chunks: u64,
    /// Bytes of an entry of the table, as a power of two.
    entry_log: u32,
}

impl<'a> Wof<'a> {
    /// A file whose reparse point names this algorithm.
    ///
    /// # Errors
    /// As [`Method::of`]; `Corrupt` when the content is missing.
    fn of(volume: &'a Volume, file: &'a File, algorithm: u32) -> Result<Self> {
        let method = Method::of(algorithm)?;
        let missing = || Error::corrupt(file.at()).because(format!("has no {STREAM}"));
        let stream = stream(file)?.ok_or_else(missing)?;
        let size = file.need(kind::DATA, &[], "$DATA")?.size();
        let chunks = size.div_ceil(1 << method.log);
        let entry_log = if size >> 32 == 0 { 2 } else { 3 };
        Ok(Self { volume, file, stream, method, size, chunks, entry_log })
    }

    fn at(&self, chunk: u64) -> At {
        At::new("ntfs", "WOF chunk").index(chunk).byte(self.file.byte)
    }

    /// Bytes of the table.
    const fn table(&self) -> u64 {
        self.chunks.saturating_sub(1) << self.entry_log
    }

    /// Fills `buf` from the stream.
    fn read_stream(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let len = self.volume.read_attribute(self.file, self.stream, buf, at)?;
        if len == buf.len() {
            return Ok(());
        }
        Err(Error::corrupt(self.file.at())
            .because(format!("{STREAM} has {} bytes, and is read at {at:#x}", self.stream.size())))
    }

    /// A number of this file's own under which a unit of the cache is kept. There are at most 2^32 files on a volume, and
    /// so many chunks in the largest; what says otherwise is damaged, and is not kept.
    fn key(&self, number: u64) -> Option<u64> {
        let is_small = number >> 32 == 0 && self.file.number >> 32 == 0;
        is_small.then_some(self.file.number << 32 | number)
    }

    /// Where in the stream a chunk begins; that behind the last one is where the stream ends.
    fn start(&self, chunk: u64, piece: &mut Option<(u64, Arc<Vec<u8>>)>) -> Result<u64> {
        if chunk >= self.chunks {
            return Ok(self.stream.size());
        }
        let Some(entry) = chunk.checked_sub(1) else { return Ok(self.table()) };
        let at = entry << self.entry_log;
        let number = at / TABLE_PIECE;
        let bytes = match piece {
            Some((known, bytes)) if *known == number => bytes,
            _ => {
                let bytes = self.table_piece(number)?;
                &mut piece.insert((number, bytes)).1
            }
        };
        let at = narrow(at % TABLE_PIECE);
        let start =
            if self.entry_log == 2 { get_le32(bytes, at).map(u64::from) } else { get_le64(bytes, at) };
        let start = start.and_then(|start| start.checked_add(self.table()));
        start.ok_or_else(|| Error::corrupt(self.at(chunk)).because("its place makes no sense"))
    }

    fn table_piece(&self, number: u64) -> Result<Arc<Vec<u8>>> {
        let from = number.saturating_mul(TABLE_PIECE);
        let load = || {
            let mut bytes = vec![0; narrow(self.table().saturating_sub(from).min(TABLE_PIECE))];
            self.read_stream(&mut bytes, from)?;
            Ok(bytes)
        };
        match self.key(number) {
            Some(key) => self.volume.packed.tables.get(key, load),
            None => load().map(Arc::new),
        }
    }

    /// Chunk `chunk`, from its first byte on.
    ///
    /// # Errors
    /// `Corrupt` when the table makes no sense.
    fn piece(&self, chunk: u64, table: &mut Option<(u64, Arc<Vec<u8>>)>) -> Result<Piece> {
        let (start, end) = (self.start(chunk, table)?, self.start(chunk.saturating_add(1), table)?);
        let len = self.size.saturating_sub(chunk << self.method.log).min(1 << self.method.log);
        // One that begins where the one before it does, or sooner, has another's bytes; unless that is nowhere.
        let is_behind = match chunk.checked_sub(1) {
            Some(before) => {
                let before = self.start(before, table)?;
                before < start || before >= self.stream.size()
            }
            None => true,
        };
        let is_sound = is_behind && start >= self.table() && start < end && end <= self.stream.size();
        match end.saturating_sub(start) {
            stored if !is_sound || stored > len => Err(Error::corrupt(self.at(chunk)).because(format!(
                "{len} bytes in {start:#x} to {end:#x} of {:#x} bytes of {STREAM}",
                self.stream.size()
            ))),
            stored if stored == len => Ok(Piece::Plain { at: start, len }),
            _ => Ok(Piece::Packed(Arc::new(Unit {
                key: self.key(chunk),
                packer: self.method.packer,
                stored: std::iter::once(start..end).collect(),
                len: narrow(len),
                at: self.at(chunk),
            }))),
        }
    }
}

/// The stream that has the content of such a file, if it is there.
///
/// # Errors
/// As [`File::find`].
pub(super) fn stream(file: &File) -> Result<Option<&Attribute>> {
    file.find(kind::DATA, &STREAM.encode_utf16().collect::<Vec<u16>>())
}

/// Reads the content of a file whose reparse point names this algorithm: fills `buf` but for the end of the content, and
/// says how many bytes that were.
///
/// # Errors
/// `Unsupported` for what is packed in another way; `Corrupt` when a chunk or the table is damaged.
pub(super) fn read(
    volume: &Volume,
    file: &File,
    algorithm: u32,
    buf: &mut [u8],
    offset: u64,
) -> Result<usize> {
    let wof = Wof::of(volume, file, algorithm)?;
    let len = narrow(wof.size.saturating_sub(offset)).min(buf.len());
    let buf = buf.get_mut(..len).unwrap_or_default();
    if buf.is_empty() {
        return Ok(0);
    }
    let first = offset >> wof.method.log;
    let last = offset.saturating_add(wide(len)).saturating_sub(1) >> wof.method.log;
    let (mut pieces, mut table) = (Vec::new(), None);
    for chunk in first..=last {
        wof.piece(chunk, &mut table)?.add_to(&mut pieces);
    }
    let skip = offset.saturating_sub(first << wof.method.log);
    let read = |buf: &mut [u8], at: u64| wof.read_stream(buf, at);
    Reader { units: &volume.packed.chunks, read: &read }.fill(&pieces, buf, skip)?;
    Ok(len)
}

/// Where the byte at `offset` of such a file lies.
///
/// # Errors
/// `OutOfRange` at or past its end; as [`read`].
pub(super) fn run(volume: &Volume, file: &File, algorithm: u32, offset: u64) -> Result<Run> {
    let wof = Wof::of(volume, file, algorithm)?;
    if offset >= wof.size {
        return Err(Error::out_of_range(offset, 1, wof.size));
    }
    let chunk = offset >> wof.method.log;
    let skip = offset.saturating_sub(chunk << wof.method.log);
    let mut table = None;
    match wof.piece(chunk, &mut table)? {
        Piece::Plain { at, len } => {
            let run = volume.run_of(file, wof.stream, at.saturating_add(skip))?;
            Ok(Run { len: run.len.min(len.saturating_sub(skip)), ..run })
        }
        Piece::Packed(unit) => {
            let start = unit.stored.first().map_or(0, |part| part.start);
            let below = volume.run_of(file, wof.stream, start)?;
            let place = match below.place {
                Place::Stored { file, offset } | Place::Packed { file, offset, .. } => {
                    Place::Packed { file, offset, stored: unit.stored_len(), unit: chunk, skip }
                }
                other => other,
            };
            Ok(Run { len: wide(unit.len).saturating_sub(skip), place })
        }
        Piece::Zeros(len) => Ok(Run { len, place: Place::Zero }),
    }
}
