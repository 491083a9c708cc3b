//! Huffman codes as XPRESS and LZX have them: canonical, the bits of 16-bit little-endian units from the highest to the
//! lowest, and between the units bytes that belong to no code.
//!
//! ```text
//!   bytes   34 12 78 56  2a  bc 9a          bits   0x1234 0x5678 0x9abc
//!          └unit┘└unit┘ byte └unit┘         byte   where the next unit would begin, once 16 bits or more are waiting
//! ```
//!
//! [MS-XCA] 2.2.4 and [MS-PATCH] 2.2.

use super::plain::damaged;
use crate::error::Result;

/// The longest code, in bits. LZX has codes of 16; XPRESS of 15.
pub(super) const LONGEST: usize = 16;
/// The most symbols of a code: those of XPRESS.
const MOST: usize = 512;

/// Bits of a packed stream. Behind its end are zeros; whether they were needed is asked once at the end.
pub(super) struct Bits<'a> {
    /// Units and bytes that are still to be read.
    input: &'a [u8],
    next: usize,
    /// Bits that were read, the first of them the highest. Behind the first `left` of them may stand what comes next.
    buffer: u64,
    left: u32,
    /// How many of the bits come from behind the end of the input.
    made_up: u32,
    name: &'static str,
}

impl<'a> Bits<'a> {
    /// The bits of a stream of the packer `name`.
    pub(super) const fn new(name: &'static str, input: &'a [u8]) -> Self {
        Self { input, next: 0, buffer: 0, left: 0, made_up: 0, name }
    }

    /// Sees to it that `count` bits, at most 49, are there.
    #[inline]
    pub(super) fn need(&mut self, count: u32) {
        if self.left < count {
            self.refill();
        }
    }

    #[inline]
    fn refill(&mut self) {
        let units = self.input.get(self.next..).and_then(<[u8]>::first_chunk::<8>);
        let Some([a, b, c, d, e, f, g, h]) = units.copied() else { return self.refill_at_the_end() };
        // Bits behind the last whole unit come in, too, and once more when it is its turn: the same bits at the same place.
        self.buffer |= u64::from_be_bytes([b, a, d, c, f, e, h, g]).wrapping_shr(self.left);
        let count = 64_u32.wrapping_sub(self.left) & !15;
        self.left = self.left.wrapping_add(count);
        self.next = self.next.wrapping_add(usize::try_from(count >> 3).unwrap_or_default());
    }

    #[cold]
    fn refill_at_the_end(&mut self) {
        while self.left <= 48 {
            let unit = self.input.get(self.next..).and_then(<[u8]>::first_chunk).copied();
            match unit {
                Some(unit) => {
                    let unit = u64::from(u16::from_le_bytes(unit));
                    self.buffer |= unit << 48_u32.saturating_sub(self.left);
                    self.next = self.next.saturating_add(2);
                }
                None => self.made_up = self.made_up.saturating_add(16),
            }
            self.left = self.left.saturating_add(16);
        }
    }

    /// The next bits, at most 32, that [`Bits::need`] has seen to.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        // In two steps, since a shift by 64 is none.
        let bits = (self.buffer >> 1).wrapping_shr(63_u32.wrapping_sub(count));
        self.skip(count);
        u32::try_from(bits).unwrap_or_default()
    }

    /// The next bits, at most 17.
    pub(super) fn read(&mut self, count: u32) -> u32 {
        self.need(count);
        self.take(count)
    }

    #[inline]
    fn skip(&mut self, count: u32) {
        self.buffer = self.buffer.wrapping_shl(count);
        self.left = self.left.wrapping_sub(count);
    }

    /// Gives back units that were read ahead, as long as `keep` bits or more are left. Then the next byte is that between
    /// the units.
    ///
    /// # Errors
    /// `Corrupt` when the stream has ended before.
    fn give_back(&mut self, keep: u32) -> Result<()> {
        let units = self.left.saturating_sub(keep) >> 4;
        let real = units.checked_sub(self.made_up >> 4).ok_or_else(|| self.cut())?;
        self.made_up = 0;
        self.next = self.next.saturating_sub(usize::try_from(real << 1).unwrap_or_default());
        self.left = self.left.saturating_sub(units << 4);
        self.buffer &= u64::MAX.checked_shl(64_u32.saturating_sub(self.left)).unwrap_or_default();
        Ok(())
    }

    /// `N` bytes between the units, which stand behind the 16 bits that come next ([MS-XCA] 2.2.4).
    ///
    /// # Errors
    /// `Corrupt` when the stream ends before.
    pub(super) fn bytes_between<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.need(16);
        self.give_back(16)?;
        self.bytes()
    }

    /// Goes on behind the unit of the next bit: a whole unit further if that bit is the first of one.
    ///
    /// # Errors
    /// `Corrupt` when the stream has ended before.
    pub(super) fn align(&mut self) -> Result<()> {
        self.need(1);
        self.give_back(1)?;
        (self.buffer, self.left) = (0, 0);
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.input.get(self.next..).and_then(<[u8]>::first_chunk).copied();
        self.next = self.next.saturating_add(N);
        bytes.ok_or_else(|| self.cut())
    }

    /// A number behind [`Bits::align`].
    ///
    /// # Errors
    /// `Corrupt` when the stream ends before.
    pub(super) fn number(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    /// Bytes behind [`Bits::align`], and one that fills the last unit.
    ///
    /// # Errors
    /// `Corrupt` when the stream ends before.
    pub(super) fn aligned_bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let bytes = self.input.get(self.next..).and_then(|rest| rest.get(..count));
        self.next = self.next.saturating_add(count).saturating_add(count & 1);
        bytes.ok_or_else(|| self.cut())
    }

    fn cut(&self) -> crate::error::Error {
        damaged(self.name, "it ends in the middle")
    }

    /// Were all bits that were taken there?
    ///
    /// # Errors
    /// `Corrupt` when the stream ended before.
    pub(super) fn check(&self) -> Result<()> {
        if self.left < self.made_up { Err(self.cut()) } else { Ok(()) }
    }
}

/// A code: which bits stand for which symbol. `ENTRIES`, a power of two, is the size of the table that most codes are
/// looked up in.
pub(super) struct Code<const ENTRIES: usize> {
    /// For what the next bits can be: the symbol, times 16, plus its code's length. 0 where that is more bits than these.
    table: [u16; ENTRIES],
    /// Symbols by the length of their code, then by their number.
    symbols: [u16; MOST],
    /// For each length the first code and that behind the last, both followed by zeros up to 16 bits; and how many symbols
    /// have shorter codes.
    lengths: [(u32, u32, usize); LONGEST + 1],
}

impl<const ENTRIES: usize> Code<ENTRIES> {
    const BITS: u32 = ENTRIES.trailing_zeros();

    /// A code without symbols.
    pub(super) const fn new() -> Self {
        Self { table: [0; ENTRIES], symbols: [0; MOST], lengths: [(0, 0, 0); LONGEST + 1] }
    }

    /// Takes on the code in which each symbol's code is so many bits long, or has none where that is 0.
    ///
    /// # Errors
    /// `Corrupt` unless there are as many codes as there can be with these lengths, or none at all.
    pub(super) fn set(&mut self, name: &str, lens: &[u8]) -> Result<()> {
        let mut counts = [0_u16; LONGEST + 1];
        for len in lens {
            let count = counts.get_mut(usize::from(*len));
            let count = count.ok_or_else(|| damaged(name, "a code of more than 16 bits"))?;
            *count = count.wrapping_add(1);
        }
        let (mut code, mut before) = (0_u32, 0_usize);
        let mut places = [0_usize; LONGEST + 1];
        for (len, ((place, of_len), count)) in
            (0_u32..).zip(places.iter_mut().zip(&mut self.lengths).zip(counts)).skip(1)
        {
            let room = 16_u32.saturating_sub(len);
            let end = code.saturating_add(u32::from(count) << room);
            *of_len = (code, end, before);
            *place = before;
            before = before.saturating_add(usize::from(count));
            code = end;
        }
        match code {
            0 | 0x1_0000 => {}
            0..0x1_0000 => return Err(damaged(name, "its code has gaps")),
            _ => return Err(damaged(name, "its code has more symbols than there is room for")),
        }
        for (symbol, len) in (0_u16..).zip(lens).filter(|(_, len)| **len != 0) {
            if let Some(place) = places.get_mut(usize::from(*len)) {
                if let Some(slot) = self.symbols.get_mut(*place) {
                    *slot = symbol;
                }
                *place = place.wrapping_add(1);
            }
        }
        self.fill(&counts);
        Ok(())
    }

    fn fill(&mut self, counts: &[u16; LONGEST + 1]) {
        let mut next = 0_usize;
        let mut symbols = self.symbols.iter();
        for (len, count) in (0_u16..).zip(counts).skip(1) {
            let Some(room) = Self::BITS.checked_sub(u32::from(len)) else { break };
            for symbol in symbols.by_ref().take(usize::from(*count)) {
                let end = next.saturating_add(1 << room);
                self.table.get_mut(next..end).unwrap_or_default().fill(symbol << 4 | len);
                next = end;
            }
        }
        self.table.get_mut(next..).unwrap_or_default().fill(0);
    }

    /// The next symbol; the caller has seen to [`LONGEST`] bits. `None` when the code has no symbols.
    #[inline]
    pub(super) fn next(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let next = usize::try_from(bits.buffer.wrapping_shr(64_u32.wrapping_sub(Self::BITS)));
        let entry = self.table.get(next.unwrap_or_default()).copied().unwrap_or_default();
        if entry == 0 {
            return self.next_long(bits);
        }
        bits.skip(u32::from(entry & 15));
        Some(usize::from(entry >> 4))
    }

    #[cold]
    fn next_long(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let next = u32::try_from(bits.buffer >> 48).ok()?;
        let of_len = (0_u32..).zip(&self.lengths).skip(1).find(|(_, (_, end, _))| next < *end);
        let (len, (first, _, before)) = of_len?;
        let number = next.checked_sub(*first)? >> 16_u32.checked_sub(len)?;
        bits.skip(len);
        self.symbols
            .get(before.checked_add(usize::try_from(number).ok()?)?)
            .map(|symbol| usize::from(*symbol))
    }
}
