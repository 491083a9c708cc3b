//! Zeros in place of what cannot be read, for those who asked for them: the rest of a damaged file is worth having, and many
//! programs stop at the first error. Each byte of them is counted, and each place noted as any other failure.

use crate::error::{Error, Result};
use crate::num::wide;
use std::sync::atomic::{AtomicU64, Ordering};

/// The smallest piece that becomes zeros: a page, which is what the kernel keeps.
const PIECE: usize = 4096;

/// Bytes of zeros that stood for what could not be read.
static ZEROED: AtomicU64 = AtomicU64::new(0);

/// How many bytes could not be read and were shown as zeros so far.
#[must_use]
pub fn zeroed() -> u64 {
    ZEROED.load(Ordering::Relaxed)
}

/// Fills `buf` from `offset` on, with zeros where `read` fails or ends too early. `note` hears of the first failure.
pub(super) fn read(
    buf: &mut [u8],
    offset: u64,
    read: &dyn Fn(&mut [u8], u64) -> Result<usize>,
    note: &dyn Fn(&Error),
) {
    let Err(error) = whole(buf, offset, read) else { return };
    note(&error);
    let mut at = offset;
    let mut rest = buf;
    while !rest.is_empty() {
        // Up to the next border between pages, wherever the read began.
        let to_border = PIECE.saturating_sub(crate::num::narrow(at & wide(PIECE.saturating_sub(1))));
        let (piece, tail) = rest.split_at_mut(to_border.min(rest.len()));
        if whole(piece, at, read).is_err() {
            piece.fill(0);
            ZEROED.fetch_add(wide(piece.len()), Ordering::Relaxed);
        }
        at = at.saturating_add(wide(piece.len()));
        rest = tail;
    }
}

fn whole(buf: &mut [u8], offset: u64, read: &dyn Fn(&mut [u8], u64) -> Result<usize>) -> Result<()> {
    let wanted = buf.len();
    match read(buf, offset)? {
        len if len >= wanted => Ok(()),
        len => Err(Error::new(
            crate::error::ErrorKind::Corrupt,
            format!("ends at byte {}, before its size", offset.saturating_add(wide(len))),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn only_what_cannot_be_read_becomes_zeros() {
        let (noted, before) = (Cell::new(0), zeroed());
        // Bytes 8192..8200 are bad.
        let source = |buf: &mut [u8], at: u64| {
            if at < 8200 && at.saturating_add(wide(buf.len())) > 8192 {
                return Err(Error::new(crate::error::ErrorKind::Io, "bad sector"));
            }
            buf.fill(7);
            Ok(buf.len())
        };
        let mut buf = vec![1; 10_000];
        read(&mut buf, 4000, &source, &|_| noted.set(noted.get() + 1));
        let bad = (8192 - 4000)..(8192 + 4096 - 4000);
        for (at, byte) in buf.iter().enumerate() {
            assert_eq!(*byte, if bad.contains(&at) { 0 } else { 7 }, "{at}");
        }
        assert_eq!(noted.get(), 1);
        assert!(zeroed() >= before + 4096);
    }
}
