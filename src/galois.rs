//! The field of 256 elements in which RAID6 reckons, an element a byte: polynomial 0x11d, generator 2. Arrays below and
//! file systems with devices of their own work out what is missing with it.
//!
//! "The mathematics of RAID-6", H. Peter Anvin.

use crate::num::narrow;

/// The generator to the power of 0, 1, ... 254: every element but 0.
static POWERS: [u8; 255] = TABLES.0;
/// Which of them an element is; 0 is none.
static LOGARITHMS: [u8; 256] = TABLES.1;
const TABLES: ([u8; 255], [u8; 256]) = tables();

#[expect(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "the compiler reckons here, and refuses what overflows or lies outside"
)]
const fn tables() -> ([u8; 255], [u8; 256]) {
    let (mut powers, mut logarithms) = ([0; 255], [0; 256]);
    let (mut value, mut n) = (1_u8, 0_u8);
    while n < 255 {
        powers[n as usize] = value;
        logarithms[value as usize] = n;
        value = (value << 1) ^ if value & 0x80 == 0 { 0 } else { 0x1d };
        n += 1;
    }
    (powers, logarithms)
}

fn logarithm(a: u8) -> u64 {
    LOGARITHMS.get(usize::from(a)).copied().unwrap_or(0).into()
}

/// The product of two elements. Their sum is their exclusive or.
#[must_use]
pub fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 { 0 } else { power(logarithm(a).saturating_add(logarithm(b))) }
}

/// The generator to the power of `n`.
#[must_use]
pub fn power(n: u64) -> u8 {
    POWERS.get(narrow(n.rem_euclid(255))).copied().unwrap_or(0)
}

/// What `a` is to be multiplied with for 1; 0 has none and gives 0.
#[must_use]
pub fn inverse(a: u8) -> u8 {
    if a == 0 { 0 } else { power(255_u64.saturating_sub(logarithm(a))) }
}

/// Every product with `by`, to look up.
#[must_use]
pub fn table(by: u8) -> [u8; 256] {
    let mut table = [0; 256];
    for (value, entry) in (0_u8..=255).zip(&mut table) {
        *entry = multiply(value, by);
    }
    table
}

/// Adds `from`, multiplied by a table's factor, to `to`.
pub fn add_scaled(to: &mut [u8], from: &[u8], table: &[u8; 256]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= table.get(usize::from(*from)).copied().unwrap_or(0);
    }
}

/// Adds `from` to `to`.
pub fn add(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the definition says: shifted and added, bit by bit.
    fn long_product(a: u8, b: u8) -> u8 {
        (0..8).rev().fold(0, |sum: u8, bit| {
            let twice = (sum << 1) ^ if sum & 0x80 == 0 { 0 } else { 0x1d };
            twice ^ if b >> bit & 1 == 0 { 0 } else { a }
        })
    }

    #[test]
    fn products_are_those_of_the_polynomial() {
        assert!((0..=255).all(|a| (0..=255).all(|b| multiply(a, b) == long_product(a, b))));
    }

    #[test]
    fn every_element_times_its_inverse_is_one() {
        assert!((1..=255).all(|a| multiply(a, inverse(a)) == 1));
        assert_eq!((inverse(0), power(0), power(1), power(8), power(255)), (0, 1, 2, 0x1d, 1));
    }
}
