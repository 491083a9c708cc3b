//! Packed extents: zlib, LZO and zstd. An extent was cut off at the end of its file, so what it unpacks to may lack a part
//! of the last block: that part reads as zeros.

use crate::error::{At, Error, Result};
use crate::fs::lzo;
use crate::num::{narrow, wide};
use crate::ondisk::get_le32;
use flate2::{Decompress, FlushDecompress, Status};
use std::cell::RefCell;
use zstd_safe::DCtx;

/// How an extent is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// RFC 1950.
    Zlib,
    /// Streams of LZO1X, each with its length before it.
    Lzo,
    /// One frame.
    Zstd,
}

impl Packing {
    /// The one that `compression` names, if there is one.
    ///
    /// # Errors
    /// The name of another.
    pub(super) fn of_type(number: u8) -> Result<Option<Self>, String> {
        Ok(match number {
            0 => None,
            1 => Some(Self::Zlib),
            2 => Some(Self::Lzo),
            3 => Some(Self::Zstd),
            other => return Err(format!("compression type {other}")),
        })
    }

    /// Unpacks an extent to its `size` bytes, in a file system with blocks of `sector` bytes.
    ///
    /// # Errors
    /// `Corrupt` when the stream is damaged or has another size.
    pub(super) fn unpack(self, stored: &[u8], size: u64, sector: u32) -> Result<Vec<u8>> {
        let mut bytes = match self {
            Self::Zlib => inflate(stored, size)?,
            Self::Lzo => segments(stored, size, sector)?,
            Self::Zstd => zstd(stored, size)?,
        };
        let missing = size.saturating_sub(wide(bytes.len()));
        if missing >= sector.into() {
            return Err(damaged(format!("it unpacks to {} bytes of {size}", bytes.len())));
        }
        bytes.resize(narrow(size), 0);
        Ok(bytes)
    }
}

fn damaged(why: String) -> Error {
    Error::corrupt(At::new("btrfs", "packed extent")).because(why)
}

/// A zlib stream; bytes behind its end fill the last block.
fn inflate(stored: &[u8], size: u64) -> Result<Vec<u8>> {
    let mut out = vec![0; narrow(size)];
    let mut stream = Decompress::new(true);
    let mut status = stream
        .decompress(stored, &mut out, FlushDecompress::Finish)
        .map_err(|error| damaged(format!("damaged zlib stream ({error})")))?;
    if status != Status::StreamEnd && stream.total_out() == size {
        // All is there and the end was not seen yet: offer one byte more, which a sound stream leaves alone.
        let rest = stored.get(narrow(stream.total_in())..).unwrap_or_default();
        status = stream
            .decompress(rest, &mut [0], FlushDecompress::Finish)
            .map_err(|error| damaged(format!("damaged zlib stream ({error})")))?;
    }
    if status != Status::StreamEnd || stream.total_out() > size {
        return Err(damaged(format!("the zlib stream does not end after {size} bytes")));
    }
    out.truncate(narrow(stream.total_out()));
    Ok(out)
}

fn zstd(stored: &[u8], size: u64) -> Result<Vec<u8>> {
    thread_local! {
        /// Made once: its tables are larger than most extents.
        static DECODER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    }
    let name = |code| damaged(format!("damaged zstd frame ({})", zstd_safe::get_error_name(code)));
    let len = zstd_safe::find_frame_compressed_size(stored).map_err(name)?;
    let frame = stored.get(..len).unwrap_or(stored);
    // Into a buffer of fixed size: whatever window the frame claims, no other memory is taken.
    let mut out = vec![0; narrow(size)];
    let done = DECODER.with_borrow_mut(|decoder| decoder.decompress(out.as_mut_slice(), frame));
    out.truncate(done.map_err(name)?);
    Ok(out)
}

/// The length of all, then segments: each its length and a stream that unpacks to one block. No length straddles the end
/// of a block of the packed bytes.
fn segments(stored: &[u8], size: u64, sector: u32) -> Result<Vec<u8>> {
    let torn = || damaged("the LZO segments end early".to_owned());
    let block = narrow(sector.into());
    let total = narrow(get_le32(stored, 0).ok_or_else(torn)?.into());
    let stored = stored.get(..total).ok_or_else(torn)?;
    let mut out = Vec::with_capacity(narrow(size));
    let mut here = 4_usize;
    while here < total {
        let left = block.saturating_sub(here.checked_rem(block).unwrap_or(0));
        if left < 4 {
            here = here.saturating_add(left);
            continue;
        }
        let len = narrow(get_le32(stored, here).ok_or_else(torn)?.into());
        here = here.saturating_add(4);
        let segment = stored.get(here..).and_then(|rest| rest.get(..len)).ok_or_else(torn)?;
        let room = narrow(size).saturating_sub(out.len()).min(block);
        let bytes = lzo::decompress(segment, room).map_err(|error| damaged(error.to_string()))?;
        if bytes.len() < room && bytes.len() < block && here.saturating_add(len) < total {
            return Err(damaged(format!("an LZO segment unpacks to {} bytes", bytes.len())));
        }
        out.extend(bytes);
        here = here.saturating_add(len);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    #[test]
    fn zlib_may_lack_a_part_of_its_last_block() {
        let mut packed = Vec::with_capacity(100);
        let mut stream = Compress::new(Compression::best(), true);
        stream.compress_vec(&[7; 5000], &mut packed, FlushCompress::Finish).unwrap();
        packed.resize(4096, 0);
        let bytes = Packing::Zlib.unpack(&packed, 8192, 4096).unwrap();
        assert!(bytes[..5000].iter().all(|b| *b == 7) && bytes[5000..].iter().all(|b| *b == 0));
        assert!(Packing::Zlib.unpack(&packed, 16384, 4096).is_err(), "two blocks are missing");
        assert!(Packing::Zlib.unpack(&packed, 4096, 4096).is_err(), "too much");
        assert!(Packing::Zlib.unpack(&packed[..8], 8192, 4096).is_err(), "torn");
    }

    #[test]
    fn lzo_segments_each_hold_a_block() {
        // "abc" as literals, then the end of the stream.
        let stream = [17 + 3, b'a', b'b', b'c', 0x11, 0, 0];
        let mut packed = 15_u32.to_le_bytes().to_vec();
        packed.extend(7_u32.to_le_bytes());
        packed.extend(stream);
        assert_eq!(Packing::Lzo.unpack(&packed, 5, 4096).unwrap(), b"abc\0\0");
        assert!(Packing::Lzo.unpack(&packed[..14], 5, 4096).is_err());
        packed[4] = 200;
        assert!(Packing::Lzo.unpack(&packed, 5, 4096).is_err());
    }

    #[test]
    fn bytes_behind_a_zstd_frame_are_padding() {
        let mut packed = vec![0; 200];
        let len = zstd_safe::compress(packed.as_mut_slice(), b"some text, some text", 3).unwrap();
        assert_eq!(Packing::Zstd.unpack(&packed, 20, 4096).unwrap(), b"some text, some text");
        assert!(Packing::Zstd.unpack(&packed[..len - 3], 20, 4096).is_err());
        assert!(Packing::Zstd.unpack(&packed, 10, 4096).is_err());
    }
}
