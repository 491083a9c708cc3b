//! LZFSE: Apple's packing of literals and copies, whose symbols are coded by finite state machines; and LZVN, which it uses
//! for short pieces.
//!
//! ```text
//! block: "bvx-" raw │ "bvx2" finite states │ "bvxn" LZVN │ "bvx$" end
//! bvx2:  sizes and states │ frequencies of 20 + 20 + 64 + 256 symbols │ literals │ (L, M, D): L literals, M bytes from D before
//! ```
//! Followed: Apple's reference implementation (github.com/lzfse/lzfse). Bits are read from a stream's end towards its start.

use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};

/// Literals of one block at most, and copies.
const MAX_LITERALS: u64 = 40_000;
const MAX_MATCHES: u64 = 10_000;
/// Sizes of the four machines: lengths of literals, lengths of copies, distances, literals.
const STATES: [u16; 4] = [64, 64, 256, 1024];
const SYMBOLS: [usize; 4] = [20, 20, 64, 256];
const L: usize = 0;
const M: usize = 1;
const D: usize = 2;
const LITERAL: usize = 3;

/// At most `size` bytes from `stored`, and one block more than that never.
///
/// # Errors
/// `Corrupt` at `at`.
pub(super) fn lzfse(stored: &[u8], size: u64, at: &At) -> Result<Vec<u8>> {
    let corrupt = || Error::corrupt(at.clone()).because("damaged LZFSE stream");
    let mut plain = Vec::with_capacity(narrow(size));
    let mut rest = stored;
    loop {
        let magic = rest.get(..4).ok_or_else(corrupt)?;
        if magic == b"bvx$" {
            return Ok(plain);
        }
        let raw = get_le32(rest, 4).map(u64::from).ok_or_else(corrupt)?;
        let end = wide(plain.len()).saturating_add(raw);
        if end > size {
            return Err(Error::corrupt(at.clone()).because(format!("unpacks to more than its {size} bytes")));
        }
        let used = match magic {
            b"bvx-" => stored_block(rest, narrow(raw), &mut plain),
            b"bvx2" => packed_block(rest, narrow(end), &mut plain),
            b"bvxn" => {
                let len = get_le32(rest, 8).and_then(|len| usize::try_from(len).ok()).ok_or_else(corrupt)?;
                let payload = rest.get(12..).and_then(|payload| payload.get(..len)).ok_or_else(corrupt)?;
                lzvn(payload, narrow(end), &mut plain).and_then(|()| len.checked_add(12))
            }
            b"bvx1" => {
                return Err(Error::unsupported("an LZFSE block with frequencies as they are ('bvx1')"));
            }
            _ => None,
        };
        rest = used
            .filter(|_| wide(plain.len()) == end)
            .and_then(|used| rest.get(used..))
            .ok_or_else(corrupt)?;
    }
}

/// `None` is damage, here and below.
fn stored_block(block: &[u8], len: usize, plain: &mut Vec<u8>) -> Option<usize> {
    plain.extend_from_slice(block.get(8..)?.get(..len)?);
    len.checked_add(8)
}

/// `len` bytes from `distance` before the end; they may overlap what is being written. Never past `end`.
fn copy(plain: &mut Vec<u8>, distance: usize, len: usize, end: usize) -> Option<()> {
    let from = plain.len().checked_sub(distance).filter(|_| distance > 0)?;
    if plain.len().checked_add(len)? > end {
        return None;
    }
    if distance >= len {
        plain.extend_from_within(from..from.checked_add(len)?);
        return Some(());
    }
    for at in (from..).take(len) {
        let byte = *plain.get(at)?;
        plain.push(byte);
    }
    Some(())
}

/// Bits of a stream, the last first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that are left.
    left: usize,
}

impl<'a> Bits<'a> {
    /// Of the last byte, `spare` bits are not used.
    fn new(bytes: &'a [u8], spare: u64) -> Option<Self> {
        let left = bytes.len().checked_mul(8)?.checked_sub(narrow(spare))?;
        Some(Self { bytes, left })
    }

    fn pull(&mut self, count: u32) -> Option<u32> {
        self.left = self.left.checked_sub(usize::try_from(count).ok()?)?;
        let at = self.left / 8;
        let mut word = [0; 8];
        let here = self.bytes.get(at..)?;
        if let Some(whole) = here.first_chunk::<8>() {
            word = *whole;
        } else {
            word.get_mut(..here.len())?.copy_from_slice(here);
        }
        let shifted = u64::from_le_bytes(word) >> (self.left % 8);
        u32::try_from(shifted & 1_u64.checked_shl(count)?.wrapping_sub(1)).ok()
    }
}

/// One state of a machine.
#[derive(Clone, Copy, Default)]
struct State {
    /// Bits that choose the next state, and bits behind them that belong to the value.
    bits: u8,
    value_bits: u8,
    /// The next state with those bits zero.
    next: u16,
    base: u32,
}

/// The machine of a table of frequencies.
fn machine(which: usize, frequencies: &[u16]) -> Option<Vec<State>> {
    let states = *STATES.get(which)?;
    let mut machine = Vec::with_capacity(usize::from(states));
    let mut base = 0_u32;
    for (symbol, frequency) in frequencies.iter().copied().enumerate() {
        let value_bits = extra(which, symbol);
        if frequency > 0 {
            if frequency > states {
                return None;
            }
            let k = frequency.leading_zeros().checked_sub(states.leading_zeros())?;
            let wide_part = (states.checked_mul(2)? >> k).checked_sub(frequency)?;
            for index in 0..frequency {
                let (bits, next) = if index < wide_part {
                    let next = frequency.checked_add(index)?.checked_shl(k)?.checked_sub(states)?;
                    (k, next)
                } else {
                    let less = k.checked_sub(1)?;
                    (less, index.checked_sub(wide_part)?.checked_shl(less)?)
                };
                machine.push(State { bits: u8::try_from(bits).ok()?, value_bits, next, base });
            }
        }
        base = base.checked_add(1_u32.checked_shl(value_bits.into())?)?;
    }
    // A machine of a block without its symbols has no states.
    (machine.len() <= usize::from(states)).then_some(machine)
}

/// Bits of a value that its symbol leaves open.
fn extra(which: usize, symbol: usize) -> u8 {
    let high = |list: [u8; 4]| symbol.checked_sub(16).and_then(|at| list.get(at).copied()).unwrap_or(0);
    match which {
        L => high([2, 3, 5, 8]),
        M => high([3, 5, 8, 11]),
        D => u8::try_from(symbol / 4).unwrap_or(0),
        _ => 0,
    }
}

/// The value at `state`, which moves on.
fn decode(machine: &[State], state: &mut u16, bits: &mut Bits<'_>) -> Option<u32> {
    let now = machine.get(usize::from(*state))?;
    let word = bits.pull(u32::from(now.bits).checked_add(now.value_bits.into())?)?;
    *state = now.next.checked_add(u16::try_from(word >> now.value_bits).ok()?)?;
    now.base.checked_add(word & 1_u32.checked_shl(now.value_bits.into())?.wrapping_sub(1))
}

/// The 360 frequencies of a block: codes of 2 to 14 bits, the first bit lowest.
fn frequencies(bytes: &[u8]) -> Option<Vec<u16>> {
    const BITS: [u8; 16] = [2, 3, 2, 5, 2, 3, 2, 8, 2, 3, 2, 5, 2, 3, 2, 14];
    const VALUES: [u16; 8] = [0, 2, 1, 4, 0, 3, 1, 0];
    let (mut frequencies, mut at) = (Vec::with_capacity(360), 0_usize);
    while frequencies.len() < 360 {
        let mut word = [0; 4];
        for (to, from) in word.iter_mut().zip(bytes.get(at / 8..)?) {
            *to = *from;
        }
        let word = u32::from_le_bytes(word) >> (at % 8);
        let bits = *BITS.get(usize::try_from(word & 15).ok()?)?;
        let value = match bits {
            14 => u16::try_from((word >> 4) & 0x3ff).ok()?.checked_add(24)?,
            8 => u16::try_from((word >> 4) & 0xf).ok()?.checked_add(8)?,
            // Of five bits, the last two count on from 4.
            5 => u16::try_from((word >> 3) & 3).ok()?.checked_add(4)?,
            _ => *VALUES.get(usize::try_from(word & 7).ok()?)?,
        };
        frequencies.push(value);
        at = at.checked_add(bits.into())?;
    }
    (at <= bytes.len().checked_mul(8)?).then_some(frequencies)
}

fn packed_block(block: &[u8], end: usize, plain: &mut Vec<u8>) -> Option<usize> {
    let fields = [get_le64(block, 8)?, get_le64(block, 16)?, get_le64(block, 24)?];
    let field = |word: usize, at: u32, bits: u32| {
        let value = fields.get(word)?.checked_shr(at)?;
        Some(value & 1_u64.checked_shl(bits)?.wrapping_sub(1))
    };
    let state = |word, at| field(word, at, 10).and_then(|state| u16::try_from(state).ok());
    let (literals, matches) = (field(0, 0, 20)?, field(0, 40, 20)?);
    let (literal_bytes, match_bytes) = (narrow(field(0, 20, 20)?), narrow(field(1, 40, 20)?));
    let head = narrow(field(2, 0, 32)?);
    if literals > MAX_LITERALS || matches > MAX_MATCHES || literals % 4 != 0 || head < 32 {
        return None;
    }
    let table = block.get(32..head)?;
    let all = if table.is_empty() { vec![0; 360] } else { frequencies(table)? };
    let mut machines = Vec::new();
    let mut rest = all.as_slice();
    for (which, symbols) in SYMBOLS.iter().enumerate() {
        let (own, behind) = rest.split_at_checked(*symbols)?;
        machines.push(machine(which, own)?);
        rest = behind;
    }
    let literal_end = head.checked_add(literal_bytes)?;
    let match_end = literal_end.checked_add(match_bytes)?;

    // Four machines take turns.
    let mut bits = Bits::new(block.get(head..literal_end)?, 7_u64.checked_sub(field(0, 60, 3)?)?)?;
    let mut states = [state(1, 0)?, state(1, 10)?, state(1, 20)?, state(1, 30)?];
    let mut buffer = Vec::with_capacity(narrow(literals));
    for _ in 0..literals / 4 {
        for state in &mut states {
            buffer.push(u8::try_from(decode(machines.get(LITERAL)?, state, &mut bits)?).ok()?);
        }
    }
    let mut bits = Bits::new(block.get(literal_end..match_end)?, 7_u64.checked_sub(field(1, 60, 3)?)?)?;
    let (mut l, mut m, mut d) = (state(2, 32)?, state(2, 42)?, state(2, 52)?);
    let (mut distance, mut buffer) = (0, buffer.as_slice());
    for _ in 0..matches {
        let literals = usize::try_from(decode(machines.get(L)?, &mut l, &mut bits)?).ok()?;
        let len = usize::try_from(decode(machines.get(M)?, &mut m, &mut bits)?).ok()?;
        // A distance of 0 is the one before.
        match usize::try_from(decode(machines.get(D)?, &mut d, &mut bits)?).ok()? {
            0 => {}
            new => distance = new,
        }
        let (now, later) = buffer.split_at_checked(literals)?;
        if plain.len().checked_add(literals)? > end {
            return None;
        }
        plain.extend_from_slice(now);
        buffer = later;
        if len > 0 {
            copy(plain, distance, len, end)?;
        }
    }
    Some(match_end)
}

/// A payload of LZVN: each operation is some literals, then a copy.
fn lzvn(payload: &[u8], end: usize, plain: &mut Vec<u8>) -> Option<()> {
    let (mut at, mut distance) = (0_usize, 0_usize);
    loop {
        let op = *payload.get(at)?;
        let wide_op = usize::from(op);
        let byte = || payload.get(at.checked_add(1)?).copied().map(usize::from);
        let word = || get_le16(payload, at.checked_add(1)?).map(usize::from);
        // Length of the operation, literals, bytes to copy, and their distance if it is a new one.
        let (len, literals, copied, new) = match op {
            0x06 => return Some(()),
            0x0e | 0x16 => (1, 0, 0, None),
            0x1e | 0x26 | 0x2e | 0x36 | 0x3e | 0x70..=0x7f | 0xd0..=0xdf => return None,
            0xe0 => (2, byte()?.checked_add(16)?, 0, None),
            0xe1..=0xef => (1, wide_op & 15, 0, None),
            0xf0 => (2, 0, byte()?.checked_add(16)?, None),
            0xf1..=0xff => (1, 0, wide_op & 15, None),
            0xa0..=0xbf => {
                let word = word()?;
                let copied = ((wide_op & 7) << 2 | (word & 3)).checked_add(3)?;
                (3, (wide_op >> 3) & 3, copied, Some(word >> 2))
            }
            _ => {
                let (literals, copied) = (wide_op >> 6, ((wide_op >> 3) & 7).checked_add(3)?);
                match op & 7 {
                    6 => (1, literals, copied, None),
                    7 => (3, literals, copied, Some(word()?)),
                    high => (2, literals, copied, Some(usize::from(high) << 8 | byte()?)),
                }
            }
        };
        at = at.checked_add(len)?;
        if plain.len().checked_add(literals)? > end {
            return None;
        }
        plain.extend_from_slice(payload.get(at..)?.get(..literals)?);
        at = at.checked_add(literals)?;
        distance = new.unwrap_or(distance);
        if copied > 0 {
            copy(plain, distance, copied, end)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const AT: At = At::new("dmg", "block");

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        lzfse_rust::LzfseEncoder::default().encode_bytes(plain, &mut packed).unwrap();
        packed
    }

    fn noise(len: u32) -> Vec<u8> {
        (0..len).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761).rotate_left(9) >> 24).unwrap()).collect()
    }

    fn text(lines: u32) -> Vec<u8> {
        (0..lines)
            .flat_map(|n| format!("line {n} of {}\n", n.wrapping_mul(7919) % 1000).into_bytes())
            .collect()
    }

    #[test]
    fn what_another_implementation_packs_is_unpacked() {
        let cases = [
            (vec![], b"bvx-"),
            (b"short".to_vec(), b"bvx-"),
            (text(40), b"bvxn"),
            (text(60_000), b"bvx2"),
            (vec![7; 1 << 20], b"bvx2"),
            ([text(3000), noise(9000), vec![0; 70_000], text(3000)].concat(), b"bvx2"),
        ];
        for (plain, magic) in cases {
            let packed = packed(&plain);
            assert!(packed.starts_with(magic), "{:?} for {} bytes", packed.get(..4), plain.len());
            assert!(lzfse(&packed, wide(plain.len()), &AT).unwrap() == plain, "{} bytes", plain.len());
        }
    }

    #[test]
    fn more_than_its_size_is_refused() {
        let packed = packed(&vec![7; 1 << 20]);
        assert_eq!(lzfse(&packed, 1000, &AT).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn damage_is_an_error_or_other_bytes_and_never_a_panic() {
        for plain in [text(40), text(3000)] {
            let sound = packed(&plain);
            for at in (0..sound.len().min(1500)).step_by(13) {
                for value in [0, 0xff, sound[at] ^ 0x10] {
                    let mut bytes = sound.clone();
                    bytes[at] = value;
                    drop(lzfse(&bytes, wide(plain.len()), &AT));
                }
                assert!(lzfse(&sound[..at], wide(plain.len()), &AT).is_err());
            }
        }
    }
}
