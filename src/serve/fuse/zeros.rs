//! Zeros in place of what cannot be read, for those who asked for them: the rest of a damaged file is worth having, and many
//! programs stop at the first error. Each byte of them is counted, and each place noted as any other failure.

use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The smallest piece that becomes zeros: a page, which is what the kernel keeps.
const PIECE: usize = 4096;

/// Bytes of zeros that stood for what could not be read.
static ZEROED: AtomicU64 = AtomicU64::new(0);

/// How many bytes could not be read and were shown as zeros so far.
#[must_use]
pub fn zeroed() -> u64 {
    ZEROED.load(Ordering::Relaxed)
}

/// How long the reads of one request may take to fail. A bad place says so at once; who is not there any more is waited
/// for anew by each read, and all the mount waits with it.
const PATIENCE: Duration = Duration::from_secs(1);

type Read<'a> = &'a dyn Fn(&mut [u8], u64) -> Result<usize>;

/// Fills `buf` from `offset` on, with zeros where `read` fails or ends too early: as few as can be told apart in time.
/// `note` hears of the first failure.
pub(super) fn read(buf: &mut [u8], offset: u64, read: Read<'_>, note: &dyn Fn(&Error)) {
    read_within(PATIENCE, buf, offset, read, note);
}

fn read_within(patience: Duration, buf: &mut [u8], offset: u64, read: Read<'_>, note: &dyn Fn(&Error)) {
    let mut reader = Reader { read, left: patience };
    let start = Instant::now();
    let Err(error) = whole(buf, offset, read) else { return };
    note(&error);
    // What is found to be wrong was read first, and that may have taken its time.
    let is_waste = matches!(error.kind(), ErrorKind::Io);
    reader.failed(&error, if is_waste { start.elapsed() } else { Duration::ZERO });
    reader.divide(buf, offset);
}

/// Reads what is around bad places.
struct Reader<'a> {
    read: Read<'a>,
    /// What is left of the time for failures.
    left: Duration,
}

impl Reader<'_> {
    fn failed(&mut self, error: &Error, after: Duration) {
        // Where it is not the place that is bad, other places are no better.
        let is_everywhere = matches!(error.kind(), ErrorKind::Source | ErrorKind::Changed | ErrorKind::Host);
        self.left = if is_everywhere { Duration::ZERO } else { self.left.saturating_sub(after) };
    }

    /// Fills what could not be read as a whole, half by half.
    fn divide(&mut self, buf: &mut [u8], offset: u64) {
        // Pages begin at multiples of their size, wherever the read began.
        let skip = narrow(offset & wide(PIECE.saturating_sub(1)));
        let pages = skip.saturating_add(buf.len()).div_ceil(PIECE);
        if self.left.is_zero() || pages < 2 {
            buf.fill(0);
            ZEROED.fetch_add(wide(buf.len()), Ordering::Relaxed);
            return;
        }
        let half = pages.div_ceil(2).saturating_mul(PIECE).saturating_sub(skip);
        let (first, second) = buf.split_at_mut(half.min(buf.len()));
        let middle = offset.saturating_add(wide(first.len()));
        for (half, at) in [(first, offset), (second, middle)] {
            let start = Instant::now();
            if self.left.is_zero() {
                self.divide(half, at);
            } else if let Err(error) = whole(half, at, self.read) {
                self.failed(&error, start.elapsed());
                self.divide(half, at);
            }
        }
    }
}

fn whole(buf: &mut [u8], offset: u64, read: Read<'_>) -> Result<()> {
    let wanted = buf.len();
    match read(buf, offset)? {
        len if len >= wanted => Ok(()),
        len => Err(Error::new(
            ErrorKind::Corrupt,
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
                return Err(Error::new(ErrorKind::Io, "bad sector"));
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
    /// How many reads a request of 128 KiB takes, with this patience, where every one fails.
    fn reads(kind: ErrorKind, patience: Duration) -> usize {
        let (made, noted) = (Cell::new(0), Cell::new(0));
        let source = |_: &mut [u8], _| {
            made.set(usize::saturating_add(made.get(), 1));
            Err(Error::new(kind, "on purpose"))
        };
        let mut buf = vec![1; 128 << 10];
        read_within(patience, &mut buf, 0, &source, &|_| noted.set(usize::saturating_add(noted.get(), 1)));
        assert!(buf.iter().all(|byte| *byte == 0) && noted.get() == 1, "{kind:?}");
        made.get()
    }

    #[test]
    fn a_source_that_is_gone_is_asked_once() {
        for kind in [ErrorKind::Source, ErrorKind::Changed, ErrorKind::Host] {
            assert_eq!(reads(kind, Duration::MAX), 1, "{kind:?}");
        }
    }

    #[test]
    fn a_source_that_takes_its_time_to_fail_is_asked_no_more() {
        assert_eq!(reads(ErrorKind::Io, Duration::ZERO), 1);
        // Each page, and each whole that is made of such.
        assert_eq!(reads(ErrorKind::Io, Duration::MAX), 2 * 32 - 1);
        assert_eq!(reads(ErrorKind::Corrupt, Duration::MAX), 2 * 32 - 1);
    }

    #[test]
    fn one_bad_page_of_many_takes_few_reads() {
        let made = Cell::new(0);
        let source = |buf: &mut [u8], at: u64| {
            made.set(made.get() + 1);
            let is_bad = at < 20_480 && at.saturating_add(wide(buf.len())) > 16_384;
            buf.fill(7);
            if is_bad { Err(Error::new(ErrorKind::Corrupt, "on purpose")) } else { Ok(buf.len()) }
        };
        let mut buf = vec![1; 128 << 10];
        read_within(Duration::MAX, &mut buf, 0, &source, &|_| {});
        assert_eq!(buf.iter().filter(|byte| **byte == 0).count(), 4096);
        assert!(buf[16_384..20_480].iter().all(|byte| *byte == 0));
        assert_eq!(made.get(), 1 + 2 * 5);
    }
}
