//! Conversions between the machine's word and the format's numbers that cannot go wrong silently.

/// A length in memory as a number of bytes on disk. Lossless wherever Rust runs.
#[must_use]
#[expect(clippy::as_conversions, reason = "usize is at most 64 bits wide on every supported target")]
pub const fn wide(len: usize) -> u64 {
    len as u64
}

/// A number of bytes on disk as a length in memory; saturates on a 32-bit host, where the slice check that follows fails.
#[must_use]
pub fn narrow(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// `a` rounded up to a multiple of `unit`, or `None` on overflow or a zero unit.
#[must_use]
pub const fn round_up(a: u64, unit: u64) -> Option<u64> {
    a.checked_next_multiple_of(unit)
}
