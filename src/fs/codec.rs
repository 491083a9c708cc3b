//! Packed blocks as squashfs and erofs have them: a few bytes in, one block of known size out.
//!
//! Whoever unpacks says how much may come out, and no more memory than that is taken for it. A function that ends in
//! `_part` gives the first bytes of a stream and does not ask how it goes on: blocks that are shared, or padded.
//! Errors are `Corrupt` and without a place; the caller adds it.

use crate::error::{Error, ErrorKind, Result};
use crate::num::wide;
use flate2::{Decompress, FlushDecompress, Status};
use std::cell::RefCell;
use std::io::Read;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

/// Memory for an LZMA dictionary, in KiB. squashfs's is at most a block of 1 MiB, erofs's 8 MiB.
const LZMA_KIB: u32 = 16 << 10;
/// The largest zstd window taken: 2 to this, 8 MiB. squashfs's and erofs's blocks are at most 1 MiB.
const WINDOW_LOG: u32 = 23;

fn damaged(name: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("damaged {name} stream ({why})"))
}

/// A deflate stream with the head and sum of RFC 1950. It ends within `most` bytes.
///
/// # Errors
/// `Corrupt`.
pub(super) fn zlib(packed: &[u8], most: usize) -> Result<Vec<u8>> {
    inflate(packed, most, true, false)
}

/// The first `len` bytes of a bare deflate stream, or all of a shorter one.
///
/// # Errors
/// `Corrupt`.
pub(super) fn deflate_part(packed: &[u8], len: usize) -> Result<Vec<u8>> {
    inflate(packed, len, false, true)
}

fn inflate(packed: &[u8], most: usize, has_head: bool, part: bool) -> Result<Vec<u8>> {
    let mut plain = vec![0; most];
    let mut stream = Decompress::new(has_head);
    let mut turn = |packed: &[u8], plain: &mut [u8]| {
        stream
            .decompress(packed, plain, FlushDecompress::Finish)
            .map(|status| {
                (status, crate::num::narrow(stream.total_in()), crate::num::narrow(stream.total_out()))
            })
            .map_err(|error| damaged("deflate", error))
    };
    let (mut status, read, mut written) = turn(packed, &mut plain)?;
    if status != Status::StreamEnd && written == most && !part {
        // Full, and the end was not seen yet: one byte more, which a sound stream leaves alone.
        (status, _, written) = turn(packed.get(read..).unwrap_or_default(), &mut [0])?;
        if written > most {
            return Err(damaged("deflate", format_args!("it unpacks to more than {most} bytes")));
        }
    }
    if status != Status::StreamEnd && !(part && written == most) {
        return Err(damaged("deflate", "it ends in the middle"));
    }
    plain.truncate(written);
    Ok(plain)
}

/// What a reader gives: at most `most` bytes, and it must end there unless a part is wanted.
fn all(name: &str, reader: impl Read, most: usize, part: bool) -> Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(most);
    let more = if part { 0 } else { 1 };
    reader
        .take(wide(most).saturating_add(more))
        .read_to_end(&mut plain)
        .map_err(|error| damaged(name, error))?;
    if plain.len() > most {
        return Err(damaged(name, format_args!("it unpacks to more than {most} bytes")));
    }
    Ok(plain)
}

/// An xz file.
///
/// # Errors
/// `Corrupt`.
pub(super) fn xz(packed: &[u8], most: usize) -> Result<Vec<u8>> {
    all("xz", lzma_rust2::XzReader::new_mem_limit(packed, false, LZMA_KIB), most, false)
}

/// An LZMA stream behind the old head of 13 bytes.
///
/// # Errors
/// `Corrupt`.
pub(super) fn lzma(packed: &[u8], most: usize) -> Result<Vec<u8>> {
    let reader = lzma_rust2::LzmaReader::new_mem_limit(packed, LZMA_KIB, None);
    all("LZMA", reader.map_err(|error| damaged("LZMA", error))?, most, false)
}

/// The first `len` bytes of a MicroLZMA stream: no head, and in place of the first byte, which is always 0, the
/// properties with all bits turned over (XZ Utils, `lzma/container.h`, `lzma_microlzma_decoder`).
///
/// # Errors
/// `Corrupt`.
pub(super) fn micro_lzma_part(packed: &[u8], len: usize) -> Result<Vec<u8>> {
    let (properties, rest) = packed.split_first().ok_or_else(|| damaged("MicroLZMA", "it is empty"))?;
    let stream = [0].chain(rest);
    // No copy reaches back further than the beginning, so the dictionary need not be larger than what is wanted.
    let dictionary = u32::try_from(len).unwrap_or(u32::MAX).max(4096);
    let reader = lzma_rust2::LzmaReader::new_with_props(stream, u64::MAX, !*properties, dictionary, None);
    all("MicroLZMA", reader.map_err(|error| damaged("MicroLZMA", error))?, len, true)
}

/// One LZ4 block.
///
/// # Errors
/// `Corrupt`.
pub(super) fn lz4(packed: &[u8], most: usize) -> Result<Vec<u8>> {
    let mut plain = vec![0; most];
    let len = lz4_flex::block::decompress_into(packed, &mut plain).map_err(|error| damaged("LZ4", error))?;
    plain.truncate(len);
    Ok(plain)
}

/// The first `len` bytes of an LZ4 block, by "LZ4 Block Format Description": a byte with two lengths, literals, a
/// distance, and so on.
///
/// # Errors
/// `Corrupt`, also when there are fewer.
pub(super) fn lz4_part(packed: &[u8], len: usize) -> Result<Vec<u8>> {
    let cut = || damaged("LZ4", "it ends in the middle");
    let mut plain: Vec<u8> = Vec::with_capacity(len);
    let mut rest = packed;
    let length = |first: u8, rest: &mut &[u8]| -> Result<usize> {
        let mut length = usize::from(first);
        let mut more = first == 15;
        while more {
            let (byte, after) = rest.split_first().ok_or_else(cut)?;
            length = length.saturating_add(usize::from(*byte));
            more = *byte == 255;
            *rest = after;
        }
        Ok(length)
    };
    while plain.len() < len {
        let (token, after) = rest.split_first().ok_or_else(cut)?;
        rest = after;
        let literals = length(token >> 4, &mut rest)?.min(len.saturating_sub(plain.len()));
        let (now, after) = rest.split_at_checked(literals).ok_or_else(cut)?;
        plain.extend_from_slice(now);
        if plain.len() == len {
            break;
        }
        let (distance, after) = after.split_first_chunk().ok_or_else(cut)?;
        rest = after;
        // At least four bytes are copied.
        let mut copy = length(token & 15, &mut rest)?.saturating_add(4).min(len.saturating_sub(plain.len()));
        let distance = usize::from(u16::from_le_bytes(*distance));
        let from = plain.len().checked_sub(distance).filter(|_| distance > 0);
        let from = from.ok_or_else(|| damaged("LZ4", "a copy from before its start"))?;
        while copy > 0 {
            // What was copied may be copied again: each round has twice as much to take from.
            let now = plain.len().saturating_sub(from).min(copy);
            plain.extend_from_within(from..from.saturating_add(now));
            copy = copy.saturating_sub(now);
        }
    }
    Ok(plain)
}

thread_local! {
    /// Made once: its tables are larger than most blocks.
    static ZSTD: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// One zstd frame.
///
/// # Errors
/// `Corrupt`.
pub(super) fn zstd(packed: &[u8], most: usize) -> Result<Vec<u8>> {
    let mut plain = vec![0; most];
    // Into a buffer of fixed size: whatever window the frame claims, no other memory is taken.
    let len = ZSTD
        .with_borrow_mut(|decoder| decoder.decompress(&mut plain, packed))
        .map_err(|code| damaged("zstd", zstd_safe::get_error_name(code)))?;
    plain.truncate(len);
    Ok(plain)
}

/// The first `len` bytes of a zstd frame, or all of a shorter one.
///
/// # Errors
/// `Corrupt`.
pub(super) fn zstd_part(packed: &[u8], len: usize) -> Result<Vec<u8>> {
    let bad = |code| damaged("zstd", zstd_safe::get_error_name(code));
    let mut plain = vec![0; len];
    let written = ZSTD.with_borrow_mut(|decoder| -> Result<usize> {
        decoder.reset(ResetDirective::SessionAndParameters).map_err(bad)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(bad)?;
        let (mut input, mut output) = (InBuffer::around(packed), OutBuffer::around(&mut plain[..]));
        loop {
            let before = (input.pos(), output.pos());
            let left = decoder.decompress_stream(&mut output, &mut input).map_err(bad)?;
            if left == 0 || output.pos() == len || (input.pos(), output.pos()) == before {
                return Ok(output.pos());
            }
        }
    })?;
    plain.truncate(written);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn text() -> Vec<u8> {
        (0..4000_u32).flat_map(|n| format!("{} ", n.wrapping_mul(n) % 1009).into_bytes()).collect()
    }

    #[test]
    fn a_part_is_the_beginning_of_the_whole() {
        let text = text();
        let lz4 = lz4_flex::block::compress(&text);
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        deflate.write_all(&text).unwrap();
        let deflate = deflate.finish().unwrap();
        for len in [0, 1, 14, 15, 1000, text.len() - 1, text.len()] {
            assert_eq!(lz4_part(&[&lz4[..], &[0; 50]].concat(), len).unwrap(), text[..len], "{len}");
            assert_eq!(deflate_part(&[&deflate[..], &[0; 50]].concat(), len).unwrap(), text[..len], "{len}");
        }
        assert!(lz4_part(&lz4, text.len() + 1).is_err());
        assert_eq!(super::lz4(&lz4, text.len()).unwrap(), text);
        assert!(super::lz4(&lz4, text.len() - 1).is_err());
    }

    #[test]
    fn more_than_was_asked_for_is_refused() {
        let text = text();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        zlib.write_all(&text).unwrap();
        let zlib = zlib.finish().unwrap();
        assert_eq!(super::zlib(&zlib, text.len()).unwrap(), text);
        assert_eq!(super::zlib(&zlib, text.len() + 9).unwrap(), text);
        assert!(super::zlib(&zlib, text.len() - 1).is_err());
        assert!(super::zlib(&zlib[..zlib.len() / 2], text.len()).is_err());
    }

    #[test]
    fn copies_that_run_into_themselves_and_from_nowhere() {
        // "ab", then 4 + 15 + 3 bytes from 2 before; a distance of 3 and of 0 where there are two bytes.
        assert_eq!(lz4_part(&[0x2f, b'a', b'b', 2, 0, 3], 24).unwrap(), b"ab".repeat(12));
        assert!(lz4_part(&[0x20, b'a', b'b', 3, 0], 6).is_err());
        assert!(lz4_part(&[0x20, b'a', b'b', 0, 0], 6).is_err());
    }
}
