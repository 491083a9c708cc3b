//! Marvin32, the checksum of log entries: a hash of Microsoft's with a secret, which here is a constant.

/// "The following seed is used", as two words.
const SEED: [u32; 2] = [0x7a4e_55c5, 0x82ef_4d88];

/// The state of a sum over words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marvin([u32; 2]);

impl Marvin {
    pub(super) const fn new() -> Self {
        Self(SEED)
    }

    /// Takes in whole words; entries have no others.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        for word in bytes.chunks_exact(4).filter_map(|word| word.first_chunk().copied()) {
            self.mix(u32::from_le_bytes(word));
        }
    }

    /// The sum.
    pub(super) fn finish(mut self) -> u64 {
        // The end of the bytes is marked by one that is 0x80.
        self.mix(0x80);
        self.mix(0);
        let Self([low, high]) = self;
        u64::from(high) << 32 | u64::from(low)
    }

    fn mix(&mut self, word: u32) {
        let [low, high] = &mut self.0;
        *low = low.wrapping_add(word);
        *high ^= *low;
        *low = low.rotate_left(20).wrapping_add(*high);
        *high = high.rotate_left(9) ^ *low;
        *low = low.rotate_left(27).wrapping_add(*high);
        *high = high.rotate_left(19);
    }
}
