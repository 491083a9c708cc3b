//! Reads a whole source ahead of the one who uses its bytes: several threads read, one gets them in order.
//!
//! ```text
//! chunk 0 4 8 …  reader 0 ─▶ channel ─┐
//! chunk 1 5 9 …  reader 1 ─▶ channel ─┼▶ sink, in order of offset, on the caller's thread
//! chunk 2 6 …    reader 2 ─▶ channel ─┘      └─ buffers go back to their reader
//! ```
//! So a sum over a compressed disk costs the longer of unpacking (shared by all cores) and summing, not both.

use crate::block::BlockSource;
use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Bytes read at once. A multiple of every format's cluster, so that no unit is unpacked by two readers.
const CHUNK: u64 = 2 << 20;
/// Chunks each reader may be ahead.
const AHEAD: usize = 2;
/// More readers than this gain nothing: the sink is one thread.
const MAX_READERS: usize = 8;

/// A piece of a source.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Bytes that were read.
    Data(&'a [u8]),
    /// So many zeros that needed no reading.
    Zeros(u64),
}

enum Chunk {
    Data(Vec<u8>),
    Zeros(u64),
}

/// What a reader fills, and what it gets back to fill again.
type Lane = (Receiver<Result<Chunk>>, Sender<Vec<u8>>);

/// Hands over every byte of `source` in order, with its offset.
///
/// # Errors
/// The first byte that cannot be read, after everything before its chunk was handed over; what `sink` returns.
pub fn in_order(source: &dyn BlockSource, sink: &mut dyn FnMut(u64, Piece<'_>) -> Result<()>) -> Result<()> {
    let size = source.len();
    let chunks = size.div_ceil(CHUNK);
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let readers = cores.min(MAX_READERS).min(narrow(chunks)).max(1);
    thread::scope(|scope| {
        let mut lanes: Vec<Lane> = Vec::new();
        for reader in 0..readers {
            let (full, chunks_of_reader) = sync_channel(AHEAD);
            let (empty, free) = channel();
            let own = (wide(reader)..chunks).step_by(readers);
            thread::Builder::new()
                .name("read-ahead".to_owned())
                .spawn_scoped(scope, move || read(source, own, &full, &free))
                .map_err(|e| Error::new(ErrorKind::Host, "cannot start a thread").caused_by(e))?;
            lanes.push((chunks_of_reader, empty));
        }
        let mut offset = 0_u64;
        for (full, empty) in lanes.iter().cycle().take(narrow(chunks)) {
            let lost = || Error::new(ErrorKind::Internal, "the thread that reads ahead ended");
            match full.recv().map_err(|_| lost())?? {
                Chunk::Data(bytes) => {
                    sink(offset, Piece::Data(&bytes))?;
                    offset = offset.saturating_add(wide(bytes.len()));
                    // The reader may have read its last chunk already.
                    drop(empty.send(bytes));
                }
                Chunk::Zeros(len) => {
                    sink(offset, Piece::Zeros(len))?;
                    offset = offset.saturating_add(len);
                }
            }
        }
        Ok(())
    })
}

/// One reader: its chunks, one after the other, until they end or nobody wants them.
fn read(
    source: &dyn BlockSource,
    chunks: impl Iterator<Item = u64>,
    full: &SyncSender<Result<Chunk>>,
    free: &Receiver<Vec<u8>>,
) {
    for chunk in chunks {
        let offset = chunk.saturating_mul(CHUNK);
        let len = CHUNK.min(source.len().saturating_sub(offset));
        let zero = source.extent_within(offset, len).is_ok_and(|extent| extent.zero && extent.len >= len);
        let result = if zero {
            Ok(Chunk::Zeros(len))
        } else {
            let mut buf = free.try_recv().unwrap_or_default();
            buf.resize(narrow(len), 0);
            source.read_at(&mut buf, offset).map(|()| Chunk::Data(buf))
        };
        if full.send(result).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Extent, check_range};

    /// Byte `i` is `i / CHUNK + 1`; every third chunk is a hole; a read that touches `bad` fails.
    #[derive(Debug)]
    struct Pattern {
        len: u64,
        bad: u64,
    }

    impl BlockSource for Pattern {
        fn len(&self) -> u64 {
            self.len
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            check_range(offset, buf.len(), self.len)?;
            if (offset..offset.saturating_add(wide(buf.len()))).contains(&self.bad) {
                return Err(Error::new(ErrorKind::Io, "bad sector"));
            }
            buf.fill(u8::try_from(offset.div_euclid(CHUNK)).unwrap().wrapping_add(1));
            Ok(())
        }

        fn extent(&self, offset: u64) -> Result<Extent> {
            let zero = offset.div_euclid(CHUNK).is_multiple_of(3);
            let len = CHUNK.min(self.len.saturating_sub(offset));
            Ok(Extent { len, zero, hole: zero })
        }
    }

    #[test]
    fn every_byte_arrives_once_and_in_order() {
        let source = Pattern { len: CHUNK.saturating_mul(7).saturating_add(5), bad: u64::MAX };
        let mut seen = Vec::new();
        let keep = &mut |offset: u64, piece: Piece<'_>| {
            seen.push(match piece {
                Piece::Data(bytes) => (offset, wide(bytes.len()), bytes[0]),
                Piece::Zeros(len) => (offset, len, 0),
            });
            Ok(())
        };
        in_order(&source, keep).unwrap();
        let expected: Vec<_> = [0_u8, 2, 3, 0, 5, 6, 0, 8]
            .iter()
            .enumerate()
            .map(|(n, byte)| (wide(n).saturating_mul(CHUNK), if n == 7 { 5 } else { CHUNK }, *byte))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_lies_before_a_bad_chunk_arrives_and_then_the_error() {
        let source = Pattern { len: CHUNK.saturating_mul(9), bad: CHUNK.saturating_mul(4) };
        let mut end = 0;
        let keep = &mut |offset: u64, _: Piece<'_>| {
            end = offset;
            Ok(())
        };
        assert_eq!(in_order(&source, keep).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(end, CHUNK.saturating_mul(3));
    }

    #[test]
    fn a_sink_that_stops_ends_the_readers() {
        let source = Pattern { len: CHUNK.saturating_mul(200), bad: u64::MAX };
        let stop = &mut |_: u64, _: Piece<'_>| Err(Error::new(ErrorKind::Usage, "enough"));
        assert_eq!(in_order(&source, stop).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn nothing_is_read_of_an_empty_source() {
        in_order(&Pattern { len: 0, bad: 0 }, &mut |_, _| Err(Error::new(ErrorKind::Usage, "called")))
            .unwrap();
    }
}
