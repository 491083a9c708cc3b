//! AES-CCM as BitLocker seals keys with it: AES-256, a nonce of 12 bytes, a tag of 16, nothing beside the text.
//!
//! ```text
//! tag  = CBC-MAC(0x7a·0x02 │ nonce │ length, text)  xor  E(02 │ nonce │ 0)
//! text = sealed  xor  E(02 │ nonce │ 1), E(02 │ nonce │ 2), ...
//! ```
//! RFC 3610, sections 2.2 to 2.4, with M = 16 and L = 3.

use crate::crypt::cipher::{Aes, xor};
use crate::num::wide;
use aes::Block;
use zeroize::Zeroizing;

/// Bytes of the length and of the counter, less one.
const L: u8 = 3 - 1;
/// Flags of the first block: (M - 2) / 2 from bit 3 on, and L.
const FLAGS: u8 = ((16 - 2) / 2) << 3 | L;
/// The longest text whose length fits.
const MAX: usize = (1 << 24) - 1;

/// The text that is sealed in `sealed`, if `key` is what it is sealed under. Takes as long for a wrong key as for the right
/// one.
pub(super) fn open(
    key: &[u8],
    nonce: &[u8; 12],
    tag: &[u8; 16],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let aes = Aes::new(key)?;
    if sealed.len() > MAX {
        return None;
    }
    let encrypt = |block: [u8; 16]| {
        let mut blocks = [Block::from(block)];
        aes.encrypt(&mut blocks);
        let [block] = blocks;
        block.0
    };
    let mut text = Zeroizing::new(sealed.to_vec());
    for (number, piece) in (1..).zip(text.chunks_mut(16)) {
        let stream = encrypt(block(L, nonce, number));
        piece.iter_mut().zip(stream).for_each(|(byte, stream)| *byte ^= stream);
    }
    let mut mac = encrypt(block(FLAGS, nonce, wide(text.len())));
    for piece in text.chunks(16) {
        mac.iter_mut().zip(piece).for_each(|(mac, byte)| *mac ^= byte);
        mac = encrypt(mac);
    }
    let differs = xor(xor(mac, encrypt(block(L, nonce, 0))), *tag);
    (u128::from_ne_bytes(differs) == 0).then_some(text)
}

/// Flags, nonce and a number of 24 bits.
fn block(flags: u8, nonce: &[u8; 12], number: u64) -> [u8; 16] {
    let [.., a, b, c] = number.to_be_bytes();
    let mut block = [0; 16];
    let bytes = [flags].into_iter().chain(*nonce).chain([a, b, c]);
    block.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap()).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// Expected: AESCCM(bytes(range(32)), tag_length=16).encrypt(bytes(range(12)), b"attack at dawn, bring all keys", None)
    /// of OpenSSL by Python's cryptography.
    #[test]
    fn a_text_is_had_with_the_right_key_only() {
        let key: Vec<u8> = (0..32).collect();
        let nonce = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let sealed = bytes(
            "eba1cc775d44e9f6d8e9d5427a5e70645f067f1b5e5539d50985e830ec6b56ba3fdaf1bcfc71ddc9141ca4f3f997",
        );
        let (text, tag) = sealed.split_last_chunk::<16>().unwrap();
        assert_eq!(open(&key, &nonce, tag, text).unwrap().as_slice(), b"attack at dawn, bring all keys");
        let wrong: Vec<u8> = (1..33).collect();
        assert!(open(&wrong, &nonce, tag, text).is_none());
        let mut damaged = text.to_vec();
        damaged[3] ^= 1;
        assert!(open(&key, &nonce, tag, &damaged).is_none());
    }
}
