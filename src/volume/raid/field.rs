//! The field of 256 elements in which raid6 reckons: polynomial 0x11d, generator 2 ("The mathematics of RAID-6",
//! H. Peter Anvin).

/// A byte of the field. Adding is exclusive or.
pub(super) fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a = double(a);
        b >>= 1;
    }
    product
}

const fn double(a: u8) -> u8 {
    (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1d }
}

/// The generator to the power of `n`.
pub(super) fn power(n: u64) -> u8 {
    let order = n.checked_rem(255).unwrap_or(0);
    (0..order).fold(1, |value, _| double(value))
}

/// What `a` is to be multiplied with for 1; 0 has none and gives 0.
pub(super) fn inverse(a: u8) -> u8 {
    // a^254: the product of a^2, a^4, ... a^128.
    let mut square = a;
    (1..8).fold(1, |product, _| {
        square = multiply(square, square);
        multiply(product, square)
    })
}

/// Every product with `by`, to look up.
pub(super) fn table(by: u8) -> [u8; 256] {
    let mut table = [0; 256];
    for (value, entry) in (0_u8..=255).zip(&mut table) {
        *entry = multiply(value, by);
    }
    table
}

/// Adds `from`, multiplied by a table's factor, to `to`.
pub(super) fn add_scaled(to: &mut [u8], from: &[u8], table: &[u8; 256]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= table.get(usize::from(*from)).copied().unwrap_or(0);
    }
}

/// Adds `from` to `to`.
pub(super) fn add(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_times_its_inverse_is_one() {
        assert!((1..=255).all(|a| multiply(a, inverse(a)) == 1));
        assert_eq!((inverse(0), power(0), power(1), power(8), power(255)), (0, 1, 2, 0x1d, 1));
    }
}
