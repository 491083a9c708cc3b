//! LZX as WIM files have it and WOF packs chunks of 32 KiB with it: each chunk stands for itself, its window is the chunk,
//! and calls in x86 code were made absolute before it was packed, as if the file had 12,000,000 bytes.
//!
//! ```text
//!   block   3 bits kind, then 1 for 32768 bytes or 0 and their number in 16 bits
//!           1 verbatim       lengths of the main code and of the length code, tokens
//!           2 aligned        as verbatim, before them the lengths of the aligned code: the lowest 3 bits of distances
//!           3 uncompressed   from the next unit on the three last distances, then bytes
//!   token   a main symbol below 256 is that byte. Above, less 256, SSSSSLLL is a copy of L + 2 bytes, where L is 7
//!           with a length symbol added; S is one of the three last distances (0 to 2), or the class of a new one
//! ```
//!
//! [MS-PATCH] 2.2 to 2.6 describes LZX with a window that moves. What WIM files do otherwise follows wimlib
//! (`lzx_decompress.c`, `lzx_common.c`).

use super::huffman::{Bits, Code};
use super::plain::{Plain, damaged};
use crate::error::{Error, Result};
use std::ops::ControlFlow;

const NAME: &str = "LZX";
/// The plain size of a chunk, and of a block that does not say its own.
pub(super) const CHUNK: usize = 32 << 10;

const LITERALS: usize = 256;
/// Classes of distances in a window of 32 KiB.
const CLASSES: usize = 30;
const MAIN: usize = LITERALS + 8 * CLASSES;
const LENGTHS: usize = 249;
/// From this class on, the lowest three bits of a distance have a code of their own in aligned blocks.
const ALIGNED_FROM: usize = 8;
/// The most bits of a token: main symbol, length symbol, 13 of a distance, or 10 and an aligned symbol.
const TOKEN: u32 = 49;

/// The size that calls were made absolute for, whatever the file's own is.
const CALLS_SIZE: i32 = 12_000_000;
/// No call is changed that begins in the last ten bytes.
const CALLS_END: usize = 10;

/// For each class the bits of a distance behind it, and the least distance. The first three are not classes.
const DISTANCES: [(u32, u32); CLASSES] = {
    let mut classes = [(0, 0); CLASSES];
    let (mut class, mut least) = (3, 1_u32);
    while class < CLASSES {
        // 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, ...
        let bits = if class < 4 { 0 } else { class / 2 - 1 };
        #[expect(clippy::as_conversions, reason = "at most 13, in a constant")]
        let bits = bits as u32;
        #[expect(clippy::indexing_slicing, reason = "in a constant: checked when it is compiled")]
        {
            classes[class] = (bits, least);
        }
        least += 1 << bits;
        class += 1;
    }
    classes
};
const _: () = assert!(matches!(DISTANCES.last(), Some((13, 24574))));

struct Decoder<'a> {
    bits: Bits<'a>,
    plain: Plain,
    main: Code<2048>,
    length: Code<1024>,
    aligned: Code<128>,
    main_lens: [u8; MAIN],
    length_lens: [u8; LENGTHS],
    /// The three last distances.
    last: [u32; 3],
}

/// Unpacks a chunk of `len` bytes, at most [`CHUNK`].
///
/// # Errors
/// `Corrupt` when the stream is damaged or shorter; the caller adds the place.
pub(super) fn unpack(packed: &[u8], len: usize) -> Result<Vec<u8>> {
    let mut decoder = Decoder {
        bits: Bits::new(NAME, packed),
        plain: Plain::new(NAME, len),
        main: Code::new(),
        length: Code::new(),
        aligned: Code::new(),
        main_lens: [0; MAIN],
        length_lens: [0; LENGTHS],
        last: [1; 3],
    };
    while decoder.plain.room() > 0 {
        decoder.block()?;
    }
    decoder.bits.check()?;
    calls_made_relative(decoder.plain.bytes_mut());
    Ok(decoder.plain.into_bytes())
}

impl Decoder<'_> {
    fn block(&mut self) -> Result<()> {
        let kind = self.bits.read(3);
        let size = if self.bits.read(1) == 1 { CHUNK } else { self.small_number(16) };
        if size == 0 || size > self.plain.room() {
            return Err(damaged(NAME, "a block of no bytes, or of more than there is room for"));
        }
        match kind {
            1 => {
                self.codes()?;
                self.tokens::<false>(size)
            }
            2 => {
                let mut lens = [0; 8];
                for len in &mut lens {
                    *len = self.code_len(3);
                }
                self.aligned.set(NAME, &lens)?;
                self.codes()?;
                self.tokens::<true>(size)
            }
            3 => self.uncompressed(size),
            _ => Err(damaged(NAME, "a block of unknown kind")),
        }
    }

    fn small_number(&mut self, bits: u32) -> usize {
        usize::try_from(self.bits.read(bits)).unwrap_or_default()
    }

    fn code_len(&mut self, bits: u32) -> u8 {
        u8::try_from(self.bits.read(bits)).unwrap_or_default()
    }

    /// The three last distances and bytes.
    fn uncompressed(&mut self, size: usize) -> Result<()> {
        self.bits.align()?;
        for distance in &mut self.last {
            *distance = self.bits.number()?;
        }
        if self.last.contains(&0) {
            return Err(damaged(NAME, "a distance of 0"));
        }
        let bytes = self.bits.aligned_bytes(size)?;
        self.plain.literals(bytes)
    }

    /// Reads the lengths of the main code, in two parts, and of the length code, and takes both on.
    fn codes(&mut self) -> Result<()> {
        let (literals, copies) = self.main_lens.split_at_mut(LITERALS);
        read_lens(&mut self.bits, literals)?;
        read_lens(&mut self.bits, copies)?;
        read_lens(&mut self.bits, &mut self.length_lens)?;
        self.main.set(NAME, &self.main_lens)?;
        self.length.set(NAME, &self.length_lens)
    }

    fn tokens<const IS_ALIGNED: bool>(&mut self, size: usize) -> Result<()> {
        let end = self.plain.at().saturating_add(size);
        while self.plain.at() < end {
            self.bits.need(TOKEN);
            let symbol = self.main.next(&mut self.bits).ok_or_else(no_symbols)?;
            match u8::try_from(symbol) {
                Ok(byte) => self.plain.literal(byte)?,
                Err(_) => self.copy::<IS_ALIGNED>(symbol.wrapping_sub(LITERALS), end)?,
            }
        }
        Ok(())
    }

    #[inline]
    fn copy<const IS_ALIGNED: bool>(&mut self, symbol: usize, end: usize) -> Result<()> {
        let mut count = symbol & 7;
        if count == 7 {
            count = count.wrapping_add(self.length.next(&mut self.bits).ok_or_else(no_symbols)?);
        }
        let count = count.wrapping_add(2);
        let class = symbol >> 3;
        let [first, second, third] = self.last;
        self.last = match class {
            0 => self.last,
            // They change places; it is no list of those used last.
            1 => [second, first, third],
            2 => [third, second, first],
            _ => {
                let (width, least) = DISTANCES.get(class).copied().unwrap_or_default();
                let above = if IS_ALIGNED && class >= ALIGNED_FROM {
                    let high = self.bits.take(width.wrapping_sub(3)) << 3;
                    let low = self.aligned.next(&mut self.bits).ok_or_else(no_symbols)?;
                    high | u32::try_from(low).unwrap_or_default()
                } else {
                    self.bits.take(width)
                };
                [least.wrapping_add(above), first, second]
            }
        };
        if count > end.saturating_sub(self.plain.at()) {
            return Err(damaged(NAME, "a copy goes on behind its block"));
        }
        let [distance, ..] = self.last;
        self.plain.copy(usize::try_from(distance).unwrap_or(usize::MAX), count, 0)
    }
}

fn no_symbols() -> Error {
    damaged(NAME, "its code has no symbols")
}

/// Code lengths, as differences from those of the block before, packed with a code of their own: 0 to 16 is what is to be
/// taken away, modulo 17; 17 and 18 are runs of zeros; 19 is a run of one new length.
fn read_lens(bits: &mut Bits<'_>, lens: &mut [u8]) -> Result<()> {
    let mut own = [0; 20];
    for len in &mut own {
        *len = u8::try_from(bits.read(4)).unwrap_or_default();
    }
    let mut code = Code::<64>::new();
    code.set(NAME, &own)?;
    let symbol = |bits: &mut Bits<'_>| {
        bits.need(32);
        code.next(bits).and_then(|symbol| u8::try_from(symbol).ok()).ok_or_else(no_symbols)
    };
    let less = |old: u8, by: u8| old.checked_sub(by).unwrap_or(old.wrapping_add(17).wrapping_sub(by));
    let mut rest = lens.iter_mut();
    let run = |rest: &mut std::slice::IterMut<'_, u8>, count: u32, len: u8| {
        for _ in 0..count {
            match rest.next() {
                Some(place) => *place = len,
                None => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    };
    while let Some(old) = rest.as_slice().first().copied() {
        let flow = match symbol(bits)? {
            17 => {
                let count = bits.take(4).wrapping_add(4);
                run(&mut rest, count, 0)
            }
            18 => {
                let count = bits.take(5).wrapping_add(20);
                run(&mut rest, count, 0)
            }
            19 => {
                let count = bits.take(1).wrapping_add(4);
                let by = symbol(bits)?;
                if by > 16 {
                    return Err(damaged(NAME, "a run of a run"));
                }
                run(&mut rest, count, less(old, by))
            }
            by => run(&mut rest, 1, less(old, by)),
        };
        if flow.is_break() {
            return Err(damaged(NAME, "more code lengths than symbols"));
        }
    }
    Ok(())
}

/// Takes back what was done to calls before packing: a byte 0xe8, and behind it the place that is called.
fn calls_made_relative(bytes: &mut [u8]) {
    let mut at = 0;
    let last = bytes.len().saturating_sub(CALLS_END);
    while let Some(skip) = bytes.get(at..last).and_then(|rest| rest.iter().position(|byte| *byte == 0xe8)) {
        let call = at.saturating_add(skip);
        let target = bytes.get_mut(call.saturating_add(1)..).and_then(<[u8]>::first_chunk_mut::<4>);
        if let (Some(target), Ok(place)) = (target, i32::try_from(call)) {
            let absolute = i32::from_le_bytes(*target);
            if (0..CALLS_SIZE).contains(&absolute) {
                *target = absolute.wrapping_sub(place).to_le_bytes();
            } else if absolute < 0 && absolute >= place.wrapping_neg() {
                *target = absolute.wrapping_add(CALLS_SIZE).to_le_bytes();
            }
        }
        at = call.saturating_add(5);
    }
}
