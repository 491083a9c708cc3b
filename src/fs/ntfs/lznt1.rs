//! LZNT1, as NTFS packs compression units with it: chunks of 4096 plain bytes, each for itself.
//!
//! ```text
//!   chunk   2 bytes    bit 15: packed; bits 0 to 11: how many bytes follow, less 1. 0 is the end
//!   packed  1 byte     eight flags, the lowest first: a byte (0) or a copy (1) comes next
//!           1 byte     that byte
//!           2 bytes    a copy: D - 1 in the upper bits, count - 3 in the lower. The further the chunk, the more bits D has:
//!                      as many as the bytes unpacked so far, less 1, need; at least 4, at most 12
//! ```
//!
//! A chunk that ends early goes on with zeros, as does a unit: so Windows and ntfs-3g read them. [MS-XCA] 2.5; ntfs-3g,
//! `libntfs-3g/compress.c`.

use super::plain::{Plain, damaged};
use crate::error::Result;

const NAME: &str = "LZNT1";
/// Plain bytes of a chunk.
pub(super) const CHUNK: usize = 4096;
const IS_PACKED: u16 = 0x8000;
const LENGTH: u16 = 0x0fff;

/// Unpacks a unit of `len` bytes, a multiple of [`CHUNK`].
///
/// # Errors
/// `Corrupt` when the stream is damaged; the caller adds the place.
pub(super) fn unpack(packed: &[u8], len: usize) -> Result<Vec<u8>> {
    let mut plain = Plain::new(NAME, len);
    let mut rest = packed;
    while plain.room() > 0 {
        let Some((head, after)) = rest.split_first_chunk() else { break };
        let head = u16::from_le_bytes(*head);
        if head == 0 {
            break;
        }
        let stored = usize::from(head & LENGTH).saturating_add(1);
        let (now, after) = after.split_at_checked(stored).ok_or_else(|| cut("a chunk"))?;
        let start = plain.at();
        if head & IS_PACKED == 0 {
            if stored != CHUNK {
                return Err(damaged(NAME, "a chunk that is not packed, and not whole"));
            }
            plain.literals(now)?;
        } else {
            unpack_chunk(now, &mut plain)?;
        }
        let done = plain.at().saturating_sub(start);
        plain.zeros(CHUNK.saturating_sub(done))?;
        rest = after;
    }
    plain.zeros(plain.room())?;
    Ok(plain.into_bytes())
}

fn cut(what: &str) -> crate::error::Error {
    damaged(NAME, &format!("{what} ends in the middle"))
}

fn unpack_chunk(packed: &[u8], plain: &mut Plain) -> Result<()> {
    let start = plain.at();
    let end = start.saturating_add(CHUNK);
    let mut rest = packed;
    while let Some((flags, after)) = rest.split_first() {
        rest = after;
        if *flags == 0
            && let Some((bytes, after)) = rest.split_first_chunk::<8>()
        {
            if plain.at().saturating_add(8) > end {
                return Err(damaged(NAME, "a chunk of more than 4096 bytes"));
            }
            plain.literals(bytes)?;
            rest = after;
            continue;
        }
        let mut flags = *flags;
        for _ in 0..8 {
            if rest.is_empty() {
                return Ok(());
            }
            let done = plain.at().wrapping_sub(start);
            let room = CHUNK.saturating_sub(done);
            if flags & 1 == 0 {
                let Some((byte, after)) = rest.split_first() else { break };
                if room == 0 {
                    return Err(damaged(NAME, "a chunk of more than 4096 bytes"));
                }
                plain.literal(*byte)?;
                rest = after;
            } else {
                let (copy, after) = rest.split_first_chunk().ok_or_else(|| cut("a copy"))?;
                let copy = u16::from_le_bytes(*copy);
                // The bits of a count: 12 up to 16 bytes, 11 up to 32, and so on.
                let width = done.saturating_sub(1).max(8).leading_zeros().saturating_sub(WIDTH_LESS);
                let count = usize::from(copy & 1_u16.wrapping_shl(width).wrapping_sub(1)).wrapping_add(3);
                if count > room {
                    return Err(damaged(NAME, "a chunk of more than 4096 bytes"));
                }
                let distance = usize::from(copy.wrapping_shr(width)).wrapping_add(1);
                plain.copy(distance, count, start)?;
                rest = after;
            }
            flags >>= 1;
        }
    }
    Ok(())
}

/// Leading zeros of 8 to 15 are those of a count of 12 bits.
const WIDTH_LESS: u32 = usize::BITS - 4 - 12;
