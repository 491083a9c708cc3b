//! Computing a stripe from the others of its row.
//!
//! P is the sum (XOR) of the data; Q the sum of the data, each multiplied by the power of two that its number says, in the
//! field GF(2^8) with the polynomial 0x11d. Either gives one lost stripe back, both give two.
//!
//! "The mathematics of RAID-6", H. Peter Anvin; the order of a row follows the kernel's `fs/btrfs/volumes.c`.

use super::chunk::{Row, Stripe};
use crate::error::Result;

/// Reads a member of a row.
type Read<'a> = &'a dyn Fn(Stripe, &mut [u8]) -> Result<()>;

/// The ways to compute the member that is wanted: which member beside it each does without. With P alone there is one,
/// that needs all others.
pub(super) fn ways(row: &Row) -> impl Iterator<Item = Option<usize>> + '_ {
    let has_q = row.members.len().saturating_sub(row.data) == 2;
    let q = row.data.saturating_add(1);
    let others = (0..=row.data).filter(move |n| *n != row.wanted && has_q);
    // Without Q first: adding is cheaper than dividing.
    std::iter::once(has_q.then_some(q)).chain(others.map(Some))
}

/// Fills `buf` with the bytes of the member that is wanted, computed without the member `lost`.
///
/// # Errors
/// What reading the other members reports.
pub(super) fn compute(row: &Row, lost: Option<usize>, buf: &mut [u8], read: Read<'_>) -> Result<()> {
    let (p_at, q_at) = (row.data, row.data.saturating_add(1));
    let mut member = vec![0; buf.len()];
    let get = |n: usize, member: &mut [u8]| row.members.get(n).map_or(Ok(()), |stripe| read(*stripe, member));
    let uses_p = lost != Some(p_at);
    let uses_q = lost.is_some_and(|lost| lost != q_at);
    // The sums of what is there: what is left of P and Q is the part of what is not.
    let (mut p, mut q) = (vec![0; buf.len()], vec![0; buf.len()]);
    for n in 0..row.data {
        if n == row.wanted || lost == Some(n) {
            continue;
        }
        get(n, &mut member)?;
        let factor = power(n);
        for ((byte, p), q) in member.iter().zip(&mut p).zip(&mut q) {
            *p ^= byte;
            if uses_q {
                *q ^= multiply(*byte, factor);
            }
        }
    }
    if uses_p {
        get(p_at, &mut member)?;
        p.iter_mut().zip(&member).for_each(|(p, byte)| *p ^= byte);
    }
    if uses_q {
        get(q_at, &mut member)?;
        q.iter_mut().zip(&member).for_each(|(q, byte)| *q ^= byte);
    }
    let a = power(row.wanted);
    match lost.filter(|lost| *lost < row.data) {
        // P = A + B and Q = aA + bB, so A = (Q + bP) / (a + b).
        Some(other) => {
            let b = power(other);
            let inverse = invert(a ^ b);
            for ((byte, p), q) in buf.iter_mut().zip(&p).zip(&q) {
                *byte = multiply(q ^ multiply(*p, b), inverse);
            }
        }
        None if uses_p => buf.copy_from_slice(&p),
        None => {
            let inverse = invert(a);
            buf.iter_mut().zip(&q).for_each(|(byte, q)| *byte = multiply(*q, inverse));
        }
    }
    Ok(())
}

/// The product of two elements of the field.
fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1d };
        b >>= 1;
    }
    product
}

/// Two to the power of `n`.
fn power(n: usize) -> u8 {
    (0..n.rem_euclid(255)).fold(1, |product, _| multiply(product, 2))
}

/// The element whose product with `a` is one: the field has 255 others than zero.
fn invert(a: u8) -> u8 {
    (0..254).fold(1, |product, _| multiply(product, a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    #[test]
    fn any_one_stripe_can_be_done_without() {
        let data: Vec<Vec<u8>> = (0..4_u8)
            .map(|n| (0..64_u8).map(|i| i.wrapping_mul(7).wrapping_add(n.wrapping_mul(91))).collect())
            .collect();
        let p: Vec<u8> = (0..64).map(|i| data.iter().fold(0, |sum, d| sum ^ d[i])).collect();
        let q: Vec<u8> =
            (0..64).map(|i| (0..4).fold(0, |sum, n| sum ^ multiply(data[n][i], power(n)))).collect();
        let all: Vec<Vec<u8>> = data.iter().cloned().chain([p, q]).collect();
        let members: Vec<Stripe> = (0..6).map(|device| Stripe { device, at: 0 }).collect();
        for (wanted, expected) in data.iter().enumerate() {
            let row = Row { members: members.clone(), data: 4, wanted };
            let ways: Vec<Option<usize>> = ways(&row).collect();
            assert_eq!(ways.len(), 5);
            for lost in ways {
                let read = |stripe: Stripe, buf: &mut [u8]| {
                    let n = usize::try_from(stripe.device).unwrap();
                    if n == wanted || Some(n) == lost {
                        return Err(Error::new(ErrorKind::Io, "lost"));
                    }
                    buf.copy_from_slice(&all[n]);
                    Ok(())
                };
                let mut got = vec![0; 64];
                compute(&row, lost, &mut got, &read).unwrap();
                assert_eq!(&got, expected, "{wanted} without {lost:?}");
            }
        }
    }

    #[test]
    fn the_field_is_the_one_of_raid_6() {
        assert_eq!((multiply(0x80, 2), power(8), multiply(0x53, invert(0x53))), (0x1d, 0x1d, 1));
    }
}
