//! LZO1X, as squashfs and btrfs pack with it: literals and copies of what was unpacked before, byte by byte.
//!
//! | first byte | what it says |
//! |---|---|
//! | `0000LLLL`, after a copy without literals | L + 3 literals (longer if L is 0) |
//! | `0000DDSS` and a byte H, after 1 to 3 literals | 2 bytes from H:DD + 1 before |
//! | `0000DDSS` and a byte H, after 4 literals or more | 3 bytes from H:DD + 2049 before |
//! | `0001HLLL` and D, S in 16 bits | L + 2 bytes (longer if L is 0) from H:D + 16384 before; 16384 is the end |
//! | `001LLLLL` and D, S in 16 bits | L + 2 bytes (longer if L is 0) from D + 1 before |
//! | `01LDDDSS` and a byte H | L + 3 bytes from H:DDD + 1 before |
//! | `1LLDDDSS` and a byte H | L + 5 bytes from H:DDD + 1 before |
//!
//! S literals follow each copy. Only the very first byte may also be 18 to 255: so many literals and 17.
//!
//! Kernel documentation, `staging/lzo.rst`, bitstream version 0.

use crate::error::{Error, ErrorKind, Result};

/// The end of the stream is a copy from here, which no distance reaches.
const END: usize = 16384;

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("damaged LZO stream ({why})"))
}

/// The packed bytes that are still to be read.
struct Packed<'a>(&'a [u8]);

impl<'a> Packed<'a> {
    fn byte(&mut self) -> Result<usize> {
        let (byte, rest) = self.0.split_first().ok_or_else(|| damaged("it ends in the middle"))?;
        self.0 = rest;
        Ok(usize::from(*byte))
    }

    fn literals(&mut self, len: usize) -> Result<&'a [u8]> {
        let (now, rest) = self.0.split_at_checked(len).ok_or_else(|| damaged("it ends in the middle"))?;
        self.0 = rest;
        Ok(now)
    }

    /// A length of few bits: its own value, or, if that is 0, `most` and 255 for each zero byte and the byte behind them.
    fn length(&mut self, bits: usize, most: usize) -> Result<usize> {
        if bits != 0 {
            return Ok(bits);
        }
        let mut length = most;
        loop {
            match self.byte()? {
                0 => length = length.saturating_add(255),
                last => return Ok(length.saturating_add(last)),
            }
        }
    }

    /// Fourteen bits of distance and two of literals.
    fn distance(&mut self) -> Result<(usize, usize)> {
        let word = self.byte()? | (self.byte()? << 8);
        Ok((word >> 2, word & 3))
    }
}

/// The unpacked bytes so far.
struct Plain {
    bytes: Vec<u8>,
    most: usize,
}

impl Plain {
    fn room(&self, len: usize) -> Result<()> {
        if len > self.most.saturating_sub(self.bytes.len()) {
            return Err(damaged(&format!("it unpacks to more than {} bytes", self.most)));
        }
        Ok(())
    }

    fn literals(&mut self, literals: &[u8]) -> Result<()> {
        self.room(literals.len())?;
        self.bytes.extend_from_slice(literals);
        Ok(())
    }

    /// Copies from `distance` before the end; the copy may run into itself.
    fn copy(&mut self, distance: usize, mut len: usize) -> Result<()> {
        self.room(len)?;
        let from = self.bytes.len().checked_sub(distance);
        let from = from.ok_or_else(|| damaged("a copy from before its start"))?;
        while len > 0 {
            // What was copied may be copied again: each round has twice as much to take from.
            let now = self.bytes.len().saturating_sub(from).min(len);
            self.bytes.extend_from_within(from..from.saturating_add(now));
            len = len.saturating_sub(now);
        }
        Ok(())
    }
}

/// Unpacks one stream to at most `max_output` bytes.
///
/// # Errors
/// `Corrupt` when the stream is damaged, goes on behind its end, or unpacks to more; the caller adds the place.
pub(super) fn decompress(input: &[u8], max_output: usize) -> Result<Vec<u8>> {
    let mut packed = Packed(input);
    let mut plain = Plain { bytes: Vec::with_capacity(max_output), most: max_output };
    // Literals that the last instruction had: 0 to 3, or 4 for any run of them.
    let mut state = 0;
    match input.first() {
        Some(17) if input.len() >= 5 => return Err(damaged("it has the run lengths of bitstream version 1")),
        Some(18..) => {
            let len = packed.byte()?.saturating_sub(17);
            plain.literals(packed.literals(len)?)?;
            state = len.min(4);
        }
        _ => {}
    }
    loop {
        let code = packed.byte()?;
        let (distance, len, literals) = match code {
            0..16 if state == 0 => {
                let len = packed.length(code, 15)?.saturating_add(3);
                plain.literals(packed.literals(len)?)?;
                state = 4;
                continue;
            }
            0..16 => {
                let (nearest, len) = if state == 4 { (2049, 3) } else { (1, 2) };
                (((packed.byte()? << 2) | (code >> 2)).saturating_add(nearest), len, code & 3)
            }
            16..32 => {
                let len = packed.length(code & 7, 7)?.saturating_add(2);
                let (distance, literals) = packed.distance()?;
                let distance = ((code & 8) << 11 | distance).saturating_add(END);
                if distance == END {
                    // The end is written as a copy of three bytes.
                    return match (len, packed.0) {
                        (3, []) => Ok(plain.bytes),
                        (3, _) => Err(damaged("bytes behind its end")),
                        _ => Err(damaged("its end is not written as an end")),
                    };
                }
                (distance, len, literals)
            }
            32..64 => {
                let len = packed.length(code & 31, 31)?.saturating_add(2);
                let (distance, literals) = packed.distance()?;
                (distance.saturating_add(1), len, literals)
            }
            _ => {
                let len = if code < 128 {
                    (code >> 5 & 1).saturating_add(3)
                } else {
                    (code >> 5 & 3).saturating_add(5)
                };
                let distance = ((packed.byte()? << 3) | (code >> 2 & 7)).saturating_add(1);
                (distance, len, code & 3)
            }
        };
        plain.copy(distance, len)?;
        plain.literals(packed.literals(literals)?)?;
        state = literals;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END_MARK: [u8; 3] = [0x11, 0, 0];

    fn unpacked(parts: &[&[u8]], most: usize) -> Result<Vec<u8>> {
        decompress(&[&parts.concat()[..], &END_MARK].concat(), most)
    }

    #[test]
    fn every_instruction_of_the_documentation() {
        // 5 literals; after many literals: 3 bytes from 2049 before is too far here, so a copy of 3 from 5 before.
        assert_eq!(unpacked(&[&[17 + 5], b"abcde", &[0x40 | 4 << 2, 0]], 99).unwrap(), b"abcdeabc");
        // ... of 8 bytes from 2 before, with 1 literal behind it, and then 2 bytes from 3 before.
        let stream: [&[u8]; 4] = [&[17 + 4], b"wxyz", &[0xe0 | 1 << 2 | 1, 0, b'!'], &[2 << 2, 0]];
        assert_eq!(unpacked(&stream, 99).unwrap(), b"wxyzyzyzyzyz!yz");
        // Ten literals in the middle, after a copy without literals.
        let stream: [&[u8]; 4] = [&[17 + 4], b"wxyz", &[0x40 | 3 << 2, 0, 7], b"0123456789"];
        assert_eq!(unpacked(&stream, 99).unwrap(), b"wxyzwxy0123456789");
        // A long run by a copy within 16 KiB: 31 + 255 + 10 + 2 bytes from 1 before.
        assert_eq!(unpacked(&[&[17 + 4], b"aaaa", &[0x20, 0, 10, 0, 0]], 999).unwrap(), [b'a'; 302]);
        // 18 + 255 + 20 literals at the start of a stream.
        let long = [7; 293];
        assert_eq!(unpacked(&[&[0, 0, 20], &long], 999).unwrap(), long);
    }

    #[test]
    fn copies_from_far_away() {
        // 18 + 255 * 78 + 92 = 20,000 literals; 3 bytes from 2049 + 4 before; 9 + 2 from 16384 + 100 (0x190 >> 2) before.
        let literals: Vec<u8> = (0..251).cycle().take(20_000).collect();
        let head = [&[0; 79][..], &[92]].concat();
        let far = [0x10, 2, 0x90, 1];
        let plain = unpacked(&[&head, &literals, &[0, 1], &far], 99_999).unwrap();
        assert_eq!(plain[20_000..20_003], literals[20_000 - 2053..20_000 - 2050]);
        assert_eq!(plain[20_003..], plain[20_003 - 16_484..][..11]);
    }

    #[test]
    fn damage_is_refused() {
        for stream in [
            &b""[..],
            &[17 + 5, 1, 2],
            &[17 + 4, 1, 2, 3, 4, 0x40 | 4 << 2, 0],
            &[17 + 4, 1, 2, 3, 4, 0x20, 0, 0, 0, 0],
            &[17 + 4, 1, 2, 3, 4, 0x12, 0, 0],
            &[17 + 4, 1, 2, 3, 4, 0x11, 0, 0, 0],
        ] {
            assert_eq!(decompress(stream, 99).unwrap_err().kind(), ErrorKind::Corrupt, "{stream:?}");
        }
        assert!(unpacked(&[&[17 + 5], b"abcde"], 4).is_err());
        assert!(unpacked(&[&[17 + 4], b"aaaa", &[0x20, 0, 10, 0, 0]], 301).is_err());
    }
}
