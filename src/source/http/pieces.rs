//! The bytes of a range on their way: received into pieces of one block, and handed on as soon as a piece is whole and
//! nothing about the answer is in doubt.

use crate::cache::remote::BLOCK;
use crate::num::{narrow, wide};
use std::collections::VecDeque;
use std::ops::Range;

/// See the module.
pub(super) struct Pieces<'a> {
    range: Range<u64>,
    /// Where the next byte belongs.
    at: u64,
    /// Where the first piece starts that was not handed on.
    base: u64,
    /// From there on: whole pieces and, at the end, perhaps one that is not.
    held: VecDeque<Vec<u8>>,
    /// To receive the next piece into.
    spare: Vec<u8>,
    take: &'a mut dyn FnMut(Vec<u8>) -> Vec<u8>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(range: Range<u64>, take: &'a mut dyn FnMut(Vec<u8>) -> Vec<u8>) -> Self {
        let (at, base) = (range.start, range.start);
        Self { at, base, range, held: VecDeque::new(), spare: Vec::new(), take }
    }

    /// What is still to come.
    pub(super) fn rest(&self) -> Range<u64> {
        self.at..self.range.end
    }

    /// Where the first byte is that was not handed on.
    pub(super) fn handed_on(&self) -> u64 {
        self.base
    }

    /// The object ends here, before the range that was asked for.
    pub(super) fn end_at(&mut self, end: u64) {
        self.range.end = self.range.end.min(end).max(self.at);
    }

    /// Room for the next bytes; empty when there are no more to come.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let done = self.at.saturating_sub(self.range.start) % BLOCK;
        let left = self.range.end.saturating_sub(self.at);
        if left == 0 {
            return &mut [];
        }
        let number = narrow(self.at.saturating_sub(self.base) / BLOCK);
        if number == self.held.len() {
            let mut piece = std::mem::take(&mut self.spare);
            piece.resize(narrow(left.min(BLOCK)), 0);
            self.held.push_back(piece);
        }
        self.held.get_mut(number).and_then(|piece| piece.get_mut(narrow(done)..)).unwrap_or_default()
    }

    /// So many bytes of the room were filled.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(wide(bytes)).min(self.range.end);
    }

    /// Takes back what came after `at`: it was not what it should be.
    pub(super) fn back_to(&mut self, at: u64) {
        self.at = at.clamp(self.base, self.at);
        self.held.truncate(narrow(self.at.saturating_sub(self.base).div_ceil(BLOCK)));
    }

    /// Hands on every piece that is whole.
    pub(super) fn hand_on(&mut self) {
        while let Some(piece) = self.held.front() {
            let end = self.base.saturating_add(wide(piece.len()));
            if end > self.at {
                break;
            }
            self.base = end;
            if let Some(piece) = self.held.pop_front() {
                self.spare = (self.take)(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(pieces: &mut Pieces<'_>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = pieces.room();
            let now = room.len().min(bytes.len());
            room[..now].copy_from_slice(&bytes[..now]);
            pieces.filled(now);
            bytes = &bytes[now..];
        }
    }

    #[test]
    fn pieces_are_handed_on_when_they_are_whole() {
        let (block, mut got) = (narrow(BLOCK), Vec::new());
        let take = &mut |piece: Vec<u8>| {
            got.push(piece);
            vec![0xee; 100]
        };
        let mut pieces = Pieces::new(1000..1000 + 2 * BLOCK + 5, take);
        fill(&mut pieces, &vec![1; block + 3]);
        pieces.hand_on();
        assert_eq!(pieces.handed_on(), 1000 + BLOCK);
        fill(&mut pieces, &vec![2; block + 2]);
        assert!(pieces.room().is_empty() && pieces.rest().is_empty());
        pieces.hand_on();
        assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [block, block, 5]);
        assert_eq!(got.concat(), [vec![1; block + 3], vec![2; block + 2]].concat());
    }

    #[test]
    fn room_that_was_not_used_is_given_again() {
        let mut got = Vec::new();
        let take = &mut |piece: Vec<u8>| {
            got.push(piece);
            vec![0xee; 100]
        };
        let mut pieces = Pieces::new(0..BLOCK + 1, take);
        assert_eq!((pieces.room().len(), pieces.room().len()), (narrow(BLOCK), narrow(BLOCK)));
        fill(&mut pieces, &vec![1; narrow(BLOCK)]);
        assert_eq!((pieces.room().len(), pieces.room().len()), (1, 1));
        fill(&mut pieces, &[2]);
        pieces.hand_on();
        assert_eq!(got, [vec![1; narrow(BLOCK)], vec![2]]);
    }

    #[test]
    fn what_is_taken_back_comes_again() {
        let (block, mut got) = (narrow(BLOCK), Vec::new());
        let take = &mut |piece: Vec<u8>| {
            got.push(piece);
            vec![0xee; 100]
        };
        let mut pieces = Pieces::new(0..3 * BLOCK, take);
        fill(&mut pieces, &vec![1; block + 7]);
        pieces.hand_on();
        fill(&mut pieces, &vec![9; block]);
        pieces.back_to(BLOCK + 7);
        assert_eq!(pieces.rest(), BLOCK + 7..3 * BLOCK);
        fill(&mut pieces, &vec![2; 2 * block - 7]);
        pieces.hand_on();
        assert_eq!(got.concat(), [vec![1; block + 7], vec![2; 2 * block - 7]].concat());
    }
}
