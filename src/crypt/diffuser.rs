//! The Elephant diffuser of BitLocker: what Windows Vista and 7 mix into a sector around AES-CBC, so that one changed bit of
//! it changes all of it.
//!
//! ```text
//! locking:    plain ─ xor sector key ─▶ A ─▶ B ─▶ AES-CBC ─▶ stored       (undone here from the right, behind AES-CBC)
//! ```
//! A and B run over the sector's words of 32 bits, in cycles: A adds to each word two that stand before it, B two that stand
//! behind it, both around the sector's end. Niels Ferguson, "AES-CBC + Elephant diffuser: A Disk Encryption Algorithm for
//! Windows Vista", August 2006, sections 4.2 to 4.5.

use super::cipher::Aes;
use aes::Block;
use std::cell::Cell;

/// Words in the largest sector, 4096 bytes.
const MAX_WORDS: usize = 1024;
/// How far behind a word B looks.
const REACH: usize = 5;
/// Cycles of A, and how far its second word is turned, by the word's number modulo 4.
const A: (usize, [u32; 4]) = (5, [9, 0, 13, 0]);
/// The same of B.
const B: (usize, [u32; 4]) = (3, [0, 10, 0, 25]);

/// The diffuser under the key that makes sector keys.
pub(super) struct Diffuser(Aes);

impl Diffuser {
    pub(super) const fn new(key: Aes) -> Self {
        Self(key)
    }

    /// Undoes a sector that begins at byte `first` of its volume: at most 4096 bytes, a multiple of 32.
    pub(super) fn undo(&self, sector: &mut [u8], first: u64) {
        let mut words = [0; MAX_WORDS + REACH];
        let (stored, _) = sector.as_chunks_mut::<4>();
        words.iter_mut().zip(stored.iter()).for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
        let len = stored.len().min(MAX_WORDS);
        undo_b(words.get_mut(..len.saturating_add(REACH)).unwrap_or_default());
        undo_a(words.get_mut(..len).unwrap_or_default());
        stored.iter_mut().zip(&words).for_each(|(bytes, word)| *bytes = word.to_le_bytes());
        let key = self.sector_key(first);
        for piece in sector.chunks_mut(key.len()) {
            piece.iter_mut().zip(&key).for_each(|(byte, key)| *byte ^= key);
        }
    }

    /// The sector's first byte as a number, encrypted; behind it the same with the highest bit of its last byte set.
    fn sector_key(&self, first: u64) -> [u8; 32] {
        let number = u128::from(first);
        let mut halves = [Block::from(number.to_le_bytes()), Block::from((number | 1 << 127).to_le_bytes())];
        self.0.encrypt(&mut halves);
        let [low, high] = halves;
        let mut key = [0; 32];
        key.iter_mut().zip(low.iter().chain(&high)).for_each(|(byte, half)| *byte = *half);
        key
    }
}

/// Undoes A: to each word is added what stands two and five words before it, around the start.
fn undo_a(words: &mut [u32]) {
    let (cycles, turns) = A;
    for _ in 0..cycles {
        let [.., mut e, mut d, mut c, mut b, mut a] = *words else { return };
        for (word, turn) in words.iter_mut().zip(turns.into_iter().cycle()) {
            *word = word.wrapping_add(b ^ e.rotate_left(turn));
            (e, d, c, b, a) = (d, c, b, a, *word);
        }
    }
}

/// Undoes B: to each word is added what stands two and five words behind it. The last [`REACH`] of `words` are room for the
/// first ones, which stand behind the last.
fn undo_b(words: &mut [u32]) {
    let (cycles, turns) = B;
    let cells = Cell::from_mut(words).as_slice_of_cells();
    let room = cells.get(cells.len().saturating_sub(REACH)..).unwrap_or_default();
    for _ in 0..cycles {
        for (at, (window, turn)) in cells.windows(REACH + 1).zip(turns.into_iter().cycle()).enumerate() {
            // By now the first ones are what the last ones see.
            if at == REACH {
                room.iter().zip(cells).for_each(|(room, first)| room.set(first.get()));
            }
            if let [word, _, two, _, _, five] = window {
                word.set(word.get().wrapping_add(two.get() ^ five.get().rotate_left(turn)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A and B as the paper writes them for locking: from the last word to the first, with indices around both ends.
    fn diffuse(words: &mut [u32], (cycles, turns): (usize, [u32; 4]), two: usize, five: usize) {
        for _ in 0..cycles {
            for i in (0..words.len()).rev() {
                let of = |far: usize| words[i.wrapping_add(far).checked_rem(words.len()).unwrap()];
                words[i] = words[i].wrapping_sub(of(two) ^ of(five).rotate_left(turns[i % 4]));
            }
        }
    }

    #[test]
    fn what_the_paper_diffuses_comes_back() {
        for n in [128_usize, 1024] {
            let plain: Vec<u32> = (0_u32..).map(|at| at.wrapping_mul(0x9e37_79b9)).take(n).collect();
            let mut words = plain.clone();
            diffuse(&mut words, A, n - 2, n - 5);
            let after_a = words.clone();
            diffuse(&mut words, B, 2, 5);
            words.resize(n + REACH, 0);
            undo_b(&mut words);
            assert_eq!(words[..n], after_a, "B of {n}");
            undo_a(&mut words[..n]);
            assert_eq!(words[..n], plain, "A of {n}");
        }
    }
}
