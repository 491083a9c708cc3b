//! Unpacking: one compressed cluster or grain into exactly the bytes it stands for.
//!
//! The output is sized by the format, never by the stream: a stream that gives less or more is damaged or a bomb, and
//! is refused after at most one unit of memory.

use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use flate2::{Decompress, FlushDecompress, Status};
use std::cell::RefCell;
use std::io::Cursor;
use zstd_safe::DCtx;

/// A deflate stream, with (`zlib`) or without the two bytes of header and the checksum of RFC 1950. The result may
/// be shorter than `most`, never longer; bytes after the stream's end are padding.
///
/// # Errors
/// `Corrupt` at `at`.
pub(super) fn inflate(stored: &[u8], most: u64, zlib: bool, at: &At) -> Result<Vec<u8>> {
    thread_local! {
        /// Made once: its tables and its window are nearly as large as a cluster.
        static STREAM: RefCell<Decompress> = RefCell::new(Decompress::new(false));
    }
    STREAM.with_borrow_mut(|stream| {
        stream.reset(zlib);
        inflate_with(stream, stored, most, at)
    })
}

fn inflate_with(stream: &mut Decompress, stored: &[u8], most: u64, at: &At) -> Result<Vec<u8>> {
    let corrupt = |why: String| Error::corrupt(at.clone()).because(why);
    let damaged = |error| corrupt(format!("damaged deflate stream ({error})"));
    // Not zeroed: only what the stream has written counts as filled.
    let mut out = Vec::with_capacity(narrow(most));
    let mut status = stream.decompress_vec(stored, &mut out, FlushDecompress::Finish).map_err(damaged)?;
    if status != Status::StreamEnd && stream.total_out() == most {
        // The unit is full and the end was not seen yet: offer one byte more, which a sound stream leaves alone.
        let rest = stored.get(narrow(stream.total_in())..).unwrap_or_default();
        status = stream.decompress(rest, &mut [0], FlushDecompress::Finish).map_err(damaged)?;
    }
    if stream.total_out() > most {
        return Err(corrupt(format!("unpacks to more than its {most} bytes")));
    }
    if status != Status::StreamEnd {
        return Err(corrupt(format!("the deflate stream ends after {} of {most} bytes", stream.total_out())));
    }
    Ok(out)
}

/// One or more zstd frames that unpack to exactly `size` bytes; bytes after the last frame are padding.
///
/// # Errors
/// `Corrupt` at `at`, also when a frame's own checksum says so.
pub(super) fn zstd(stored: &[u8], size: u64, at: &At) -> Result<Vec<u8>> {
    thread_local! {
        /// Made once: its tables are larger than most clusters.
        static DECODER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    }
    let corrupt = |why: String| Error::corrupt(at.clone()).because(why);
    let damaged = |code| corrupt(format!("damaged zstd frame ({})", zstd_safe::get_error_name(code)));
    // Of a fixed size: whatever window a frame claims, no other memory is taken. Not zeroed, as it is filled from the start.
    let (mut out, mut source) = (Cursor::new(Vec::with_capacity(narrow(size))), stored);
    while out.position() < size {
        if source.is_empty() {
            let filled = out.position();
            return Err(corrupt(format!("the zstd frame ends after {filled} of {size} bytes")));
        }
        let len = zstd_safe::find_frame_compressed_size(source).map_err(damaged)?;
        let (frame, rest) = source.split_at_checked(len).unwrap_or((source, &[]));
        let done = DECODER.with_borrow_mut(|decoder| decoder.decompress(&mut out, frame)).map_err(damaged)?;
        out.set_position(out.position().saturating_add(wide(done)));
        source = rest;
    }
    if out.position() > size {
        return Err(corrupt(format!("unpacks to more than its {size} bytes")));
    }
    Ok(out.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    const AT: At = At::new("x", "unit");

    fn deflated(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain.len().saturating_add(100));
        Compress::new(Compression::best(), false)
            .compress_vec(plain, &mut out, FlushCompress::Finish)
            .unwrap();
        out
    }

    #[test]
    fn padding_after_the_stream_is_ignored() {
        let mut stored = deflated(&[7; 4096]);
        stored.extend([0xaa; 400]);
        assert_eq!(inflate(&stored, 4096, false, &AT).unwrap(), vec![7; 4096]);
    }

    #[test]
    fn a_deflate_bomb_is_refused_when_its_unit_is_full() {
        assert!(inflate(&deflated(&vec![0; 64 << 20]), 65536, false, &AT).is_err());
    }

    #[test]
    fn a_cut_deflate_stream_is_refused() {
        let noise: Vec<u8> =
            (0..4096_u32).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
        let stored = deflated(&noise);
        assert!(inflate(&stored[..stored.len() / 2], 4096, false, &AT).is_err());
    }

    /// Frame header without size or checksum and a window of 128 KiB, then RLE blocks of 128 KiB (RFC 8878, 3.1.1).
    fn zstd_rle(blocks: u32) -> Vec<u8> {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
        for block in 1..=blocks {
            let header = (131_072 << 3) | (1 << 1) | u32::from(block == blocks);
            frame.extend(&header.to_le_bytes()[..3]);
            frame.push(0x55);
        }
        frame
    }

    #[test]
    fn a_zstd_frame_of_just_its_size_is_unpacked() {
        assert_eq!(zstd(&zstd_rle(2), 262_144, &AT).unwrap(), vec![0x55; 262_144]);
    }

    #[test]
    fn a_zstd_bomb_is_refused_when_its_unit_is_full() {
        assert!(zstd(&zstd_rle(16_000), 65536, &AT).is_err());
    }

    #[test]
    fn a_zstd_frame_that_is_too_short_is_refused() {
        assert!(zstd(&zstd_rle(1), 262_144, &AT).is_err());
    }
}
