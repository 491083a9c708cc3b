//! Computing a stripe from the others of its row.
//!
//! P is the sum (XOR) of the data; Q the sum of the data, each multiplied by the power of two that its number says, in the
//! field of [`crate::galois`]. Either gives one lost stripe back, both give two.
//!
//! "The mathematics of RAID-6", H. Peter Anvin; the order of a row follows the kernel's `fs/btrfs/volumes.c`.

use super::chunk::{Row, Stripe};
use crate::error::{Error, ErrorKind, Result};
use crate::galois::{add, add_scaled, inverse, multiply, power, table};
use crate::num::wide;

/// Reads a member of a row.
type Read<'a> = &'a dyn Fn(Stripe, &mut [u8]) -> Result<()>;

/// Fills `buf` with the bytes of the member that is wanted, computed from the others such that `is_good` says so of them.
/// `false` when it does so of none that can be computed.
///
/// With P all others are needed. With Q one more may be missing, or be wrong without a sign of it: then each of them is
/// taken for the wrong one in turn, as the kernel does.
///
/// # Errors
/// What reading the other members reports, when too few of them can be read.
pub(super) fn rebuild(
    row: &Row,
    buf: &mut [u8],
    read: Read<'_>,
    is_good: &dyn Fn(&[u8]) -> bool,
) -> Result<bool> {
    let has_q = row.members.len().saturating_sub(row.data) == 2;
    match with_p(row, buf, read) {
        Ok(()) if is_good(buf) => Ok(true),
        // What ends the request ends it here.
        Err(error) if !has_q || error.kind() == ErrorKind::Limit => Err(error),
        Ok(()) if !has_q => Ok(false),
        _ => with_q(row, buf, read, is_good),
    }
}

/// The numbers of the data that is not wanted.
fn others(row: &Row) -> impl Iterator<Item = usize> + '_ {
    (0..row.data).filter(|n| *n != row.wanted)
}

fn get(row: &Row, n: usize, buf: &mut [u8], read: Read<'_>) -> Result<()> {
    row.members.get(n).map_or(Ok(()), |stripe| read(*stripe, buf))
}

fn with_p(row: &Row, buf: &mut [u8], read: Read<'_>) -> Result<()> {
    get(row, row.data, buf, read)?;
    let mut member = vec![0; buf.len()];
    for n in others(row) {
        get(row, n, &mut member, read)?;
        add(buf, &member);
    }
    Ok(())
}

fn with_q(row: &Row, buf: &mut [u8], read: Read<'_>, is_good: &dyn Fn(&[u8]) -> bool) -> Result<bool> {
    let factor = |n: usize| power(wide(n));
    // The sums without what is wanted: what is left of P and Q is its part, and that of another that cannot be read.
    let (mut p, mut q, mut member) = (vec![0; buf.len()], vec![0; buf.len()], vec![0; buf.len()]);
    get(row, row.data.saturating_add(1), &mut q, read)?;
    let p_failed = get(row, row.data, &mut p, read).err();
    let mut lost: Option<(usize, Error)> = None;
    for n in others(row) {
        match get(row, n, &mut member, read) {
            Ok(()) => {
                add(&mut p, &member);
                add_scaled(&mut q, &member, &table(factor(n)));
            }
            Err(error) if lost.is_some() || p_failed.is_some() || error.kind() == ErrorKind::Limit => {
                return Err(error);
            }
            Err(error) => lost = Some((n, error)),
        }
    }
    if let Some((other, _)) = lost {
        solve(buf, &p, &q, factor(row.wanted), factor(other));
        return Ok(is_good(buf));
    }
    // P is the one that is wrong.
    buf.fill(0);
    add_scaled(buf, &q, &table(inverse(factor(row.wanted))));
    if is_good(buf) {
        return Ok(true);
    }
    if let Some(error) = p_failed {
        return if error.kind() == ErrorKind::Limit { Err(error) } else { Ok(false) };
    }
    for other in others(row) {
        get(row, other, &mut member, read)?;
        // As if it had not been read: its part goes out of both sums again.
        let scale = table(factor(other));
        add(&mut p, &member);
        add_scaled(&mut q, &member, &scale);
        solve(buf, &p, &q, factor(row.wanted), factor(other));
        if is_good(buf) {
            return Ok(true);
        }
        add(&mut p, &member);
        add_scaled(&mut q, &member, &scale);
    }
    Ok(false)
}

/// Of A, multiplied by `a` in Q, and B, multiplied by `b` there, of which both sums are given, A:
/// P = A + B and Q = aA + bB, so A = (Q + bP) / (a + b).
fn solve(buf: &mut [u8], p: &[u8], q: &[u8], a: u8, b: u8) {
    let inverse = inverse(a ^ b);
    buf.fill(0);
    add_scaled(buf, q, &table(inverse));
    add_scaled(buf, p, &table(multiply(b, inverse)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A row with so many stripes of data, and P and Q.
    fn row(data: u8) -> (Row, Vec<Vec<u8>>) {
        let mut all: Vec<Vec<u8>> = (0..data)
            .map(|n| (0..64_u8).map(|i| i.wrapping_mul(7).wrapping_add(n.wrapping_mul(91))).collect())
            .collect();
        let p = (0..64).map(|i| all.iter().fold(0, |sum, d| sum ^ d[i])).collect();
        let q = (0..64)
            .map(|i| all.iter().zip(0..).fold(0, |sum, (d, n)| sum ^ multiply(d[i], power(n))))
            .collect();
        all.extend([p, q]);
        let members = (0..wide(all.len())).map(|device| Stripe { device, at: 0 }).collect();
        (Row { members, data: data.into(), wanted: 0 }, all)
    }

    #[test]
    fn any_one_stripe_can_be_done_without_or_be_wrong() {
        let (plain, all) = row(4);
        for wanted in 0..4 {
            let row = Row { wanted, ..plain.clone() };
            for other in (0..6).filter(|n| *n != wanted) {
                for is_there in [false, true] {
                    let read = |stripe: Stripe, buf: &mut [u8]| {
                        let n = usize::try_from(stripe.device).unwrap();
                        assert_ne!(n, wanted, "what is wanted is not asked");
                        if n == other && !is_there {
                            return Err(Error::new(ErrorKind::Io, "lost"));
                        }
                        buf.copy_from_slice(&all[n]);
                        if n == other {
                            buf.iter_mut().for_each(|byte| *byte ^= 0x5a);
                        }
                        Ok(())
                    };
                    let mut got = vec![0; 64];
                    assert!(rebuild(&row, &mut got, &read, &|bytes| bytes == all[wanted]).unwrap());
                    assert_eq!(got, all[wanted], "{wanted} without {other}, there: {is_there}");
                }
            }
        }
    }

    #[test]
    fn two_more_that_are_missing_are_too_many() {
        let (row, all) = row(4);
        let read = |stripe: Stripe, buf: &mut [u8]| match stripe.device {
            2 | 4 => Err(Error::new(ErrorKind::Io, "lost")),
            n => {
                buf.copy_from_slice(&all[usize::try_from(n).unwrap()]);
                Ok(())
            }
        };
        assert!(rebuild(&row, &mut [0; 64], &read, &|_| true).is_err());
    }

    #[test]
    fn the_widest_row_is_given_up_after_reading_it_three_times() {
        let (row, all) = row(255);
        let reads = Cell::new(0);
        let read = |stripe: Stripe, buf: &mut [u8]| {
            reads.set(i32::saturating_add(reads.get(), 1));
            buf.copy_from_slice(&all[usize::try_from(stripe.device).unwrap()]);
            Ok(())
        };
        assert!(!rebuild(&row, &mut [0; 64], &read, &|_| false).unwrap());
        assert!(reads.get() <= 3 * 257, "{} reads", reads.get());
    }
}
