//! The ways a block of a dmg is packed.

use super::blocks::Kind;
use super::lzfse::lzfse;
use crate::error::{At, Error, ErrorKind, Result};
use crate::image::unpack::inflate;
use crate::num::{narrow, wide};
use std::io::Read;

/// Memory for the dictionary of an LZMA block, in KiB; a larger one than the largest block serves nothing.
const LZMA_KIB: u32 = 96 << 10;

/// A block of `size` bytes from its packed form.
///
/// # Errors
/// `Corrupt` at `at` when the stream is damaged or has another size.
pub(super) fn unpack(kind: Kind, stored: &[u8], size: u64, at: &At) -> Result<Vec<u8>> {
    let plain = match kind {
        Kind::Zlib => inflate(stored, size, true, at)?,
        Kind::Bzip2 => all(bzip2::read::BzDecoder::new(stored), size, "bzip2", at)?,
        Kind::Lzma => all(lzma_rust2::XzReader::new_mem_limit(stored, false, LZMA_KIB), size, "LZMA", at)?,
        Kind::Lzfse => lzfse(stored, size, at)?,
        Kind::Adc => adc(stored, size, at)?,
        Kind::Zero | Kind::Raw | Kind::Ignore => {
            return Err(Error::new(ErrorKind::Internal, "only packed blocks are unpacked"));
        }
    };
    if wide(plain.len()) == size {
        return Ok(plain);
    }
    Err(Error::corrupt(at.clone()).because(format!("unpacks to {} of {size} bytes", plain.len())))
}

/// What a reader gives, but never more than one byte too many.
fn all(reader: impl Read, size: u64, name: &str, at: &At) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    reader
        .take(size.saturating_add(1))
        .read_to_end(&mut plain)
        .map_err(|error| Error::corrupt(at.clone()).because(format!("damaged {name} stream ({error})")))?;
    Ok(plain)
}

/// Apple Data Compression: literals, and copies of what is up to 64 KiB before.
///
/// | first byte | what follows |
/// |---|---|
/// | `1nnnnnnn` | n + 1 bytes as they are |
/// | `01nnnnnn` | two bytes: n + 4 bytes from that distance + 1 before |
/// | `00nnnndd` | one byte: n + 3 bytes from the distance dd:byte + 1 before |
fn adc(stored: &[u8], size: u64, at: &At) -> Result<Vec<u8>> {
    let corrupt = |why: &str| Error::corrupt(at.clone()).because(format!("damaged ADC stream ({why})"));
    let mut plain: Vec<u8> = Vec::with_capacity(narrow(size));
    let mut rest = stored.iter().copied();
    let mut byte = move || rest.next();
    while wide(plain.len()) < size {
        let Some(first) = byte() else { break };
        let mut next = || byte().map(usize::from).ok_or_else(|| corrupt("it ends in the middle"));
        let (len, distance) = if first & 0x80 != 0 {
            for _ in 0..=(first & 0x7f) {
                plain.push(u8::try_from(next()?).unwrap_or_default());
            }
            continue;
        } else if first & 0x40 != 0 {
            (usize::from(first & 0x3f).saturating_add(4), (next()? << 8) | next()?)
        } else {
            (usize::from(first >> 2).saturating_add(3), (usize::from(first & 3) << 8) | next()?)
        };
        let from = plain.len().checked_sub(distance.saturating_add(1));
        let from = from.ok_or_else(|| corrupt("a copy from before its start"))?;
        for at in (from..).take(len) {
            plain.push(plain.get(at).copied().unwrap_or_default());
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: At = At::new("dmg", "block");

    #[test]
    fn adc_has_literals_and_two_kinds_of_copies() {
        // "abc", 3 from 3 before, 5 from 1 before (overlapping), 4 from 11 before
        let stored = [0x82, b'a', b'b', b'c', 0x00, 0x02, 0x08, 0x00, 0x40, 0x00, 0x0a];
        assert_eq!(adc(&stored, 15, &AT).unwrap(), b"abcabccccccabca");
    }

    #[test]
    fn damaged_adc_is_refused() {
        assert!(adc(&[0x00, 0x00], 10, &AT).is_err());
        assert!(adc(&[0x83, 1], 10, &AT).is_err());
        assert!(unpack(Kind::Adc, &[0x80, 1], 10, &AT).is_err());
        assert!(unpack(Kind::Adc, &[0x81, 1, 2], 1, &AT).is_err());
    }

    #[test]
    fn an_lzma_dictionary_that_nothing_needs_is_refused() {
        // An xz stream whose block header states a dictionary of 4 GiB - 1 (property 40).
        let mut stream = b"\xfd7zXZ\0\0\x01".to_vec();
        stream.extend(crate::checksum::crc32(&stream[6..8]).to_le_bytes());
        let mut header = vec![2, 0, 0x21, 1, 40, 0, 0, 0];
        header.extend(crate::checksum::crc32(&header).to_le_bytes());
        stream.extend(header);
        stream.extend([0; 64]);
        assert_eq!(unpack(Kind::Lzma, &stream, 512, &AT).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
