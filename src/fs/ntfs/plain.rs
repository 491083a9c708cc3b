//! Plain: what a packed stream has unpacked to so far. All three packers of NTFS say one of two things: this byte, or so
//! many bytes again from so far back.

use crate::error::{Error, ErrorKind, Result};

/// Bytes copied at a time. So many are kept free behind the end, that a short copy need not ask where it ends.
const STEP: usize = 16;

/// A stream that contradicts its format. The caller adds the place.
pub(super) fn damaged(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("damaged {name} stream ({why})"))
}

/// The unpacked bytes so far, and room for the rest.
pub(super) struct Plain {
    /// What is unpacked, then zeros: `len` and [`STEP`] bytes in all.
    bytes: Vec<u8>,
    at: usize,
    len: usize,
    name: &'static str,
}

impl Plain {
    /// Room for `len` bytes of a stream of the packer `name`. The caller has bounded `len`.
    pub(super) fn new(name: &'static str, len: usize) -> Self {
        Self { bytes: vec![0; len.saturating_add(STEP)], at: 0, len, name }
    }

    /// How many bytes there are.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// How many bytes there may be more.
    pub(super) const fn room(&self) -> usize {
        self.len.saturating_sub(self.at)
    }

    fn full(&self) -> Error {
        damaged(self.name, "it unpacks to more than its place has room for")
    }

    /// One byte.
    ///
    /// # Errors
    /// `Corrupt` when there is no room for it.
    #[inline]
    pub(super) fn literal(&mut self, byte: u8) -> Result<()> {
        if self.at >= self.len {
            return Err(self.full());
        }
        if let Some(next) = self.bytes.get_mut(self.at) {
            *next = byte;
        }
        self.at = self.at.wrapping_add(1);
        Ok(())
    }

    /// Several bytes.
    ///
    /// # Errors
    /// `Corrupt` when there is no room for them.
    pub(super) fn literals(&mut self, literals: &[u8]) -> Result<()> {
        if literals.len() > self.room() {
            return Err(self.full());
        }
        let end = self.at.saturating_add(literals.len());
        if let Some(next) = self.bytes.get_mut(self.at..end) {
            next.copy_from_slice(literals);
        }
        self.at = end;
        Ok(())
    }

    /// `count` zeros.
    ///
    /// # Errors
    /// `Corrupt` when there is no room for them.
    pub(super) fn zeros(&mut self, count: usize) -> Result<()> {
        if count > self.room() {
            return Err(self.full());
        }
        // A short copy may have left bytes behind its end.
        self.bytes.get_mut(self.at..).unwrap_or_default().fill(0);
        self.at = self.at.saturating_add(count);
        Ok(())
    }

    /// `count` bytes again, from `distance` before the end and not from before `start`; the copy may run into itself.
    ///
    /// # Errors
    /// `Corrupt` when there is no room, or when it begins before `start`.
    #[inline]
    pub(super) fn copy(&mut self, distance: usize, count: usize, start: usize) -> Result<()> {
        if count > self.room() {
            return Err(self.full());
        }
        let from = self.at.checked_sub(distance).filter(|from| *from >= start && distance > 0);
        let from = from.ok_or_else(|| damaged(self.name, "a copy from before its start"))?;
        if distance >= STEP {
            self.copy_in_steps(from, count);
        } else {
            self.repeat(from, distance, count);
        }
        self.at = self.at.wrapping_add(count);
        Ok(())
    }

    /// Copies [`STEP`] bytes at a time, the last time perhaps too many: what is behind is written later, or cut off.
    #[inline]
    fn copy_in_steps(&mut self, mut from: usize, count: usize) {
        let end = self.at.wrapping_add(count);
        let mut to = self.at;
        while to < end {
            let some = self.bytes.get(from..).and_then(<[u8]>::first_chunk::<STEP>).copied();
            let place = self.bytes.get_mut(to..).and_then(<[u8]>::first_chunk_mut::<STEP>);
            let (Some(some), Some(place)) = (some, place) else { return };
            *place = some;
            from = from.wrapping_add(STEP);
            to = to.wrapping_add(STEP);
        }
    }

    /// The last `distance` bytes again and again.
    fn repeat(&mut self, from: usize, distance: usize, count: usize) {
        let Some((done, rest)) = self.bytes.split_at_mut_checked(self.at) else { return };
        let pattern = done.get(from..).unwrap_or_default();
        let place = rest.get_mut(..count).unwrap_or_default();
        if let [byte] = pattern {
            place.fill(*byte);
            return;
        }
        for part in place.chunks_mut(distance) {
            for (to, byte) in part.iter_mut().zip(pattern) {
                *to = *byte;
            }
        }
    }

    /// The unpacked bytes, to be changed in place.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.at).unwrap_or_default()
    }

    /// The unpacked bytes.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte, as the formats define a copy.
    fn slowly(mut bytes: Vec<u8>, distance: usize, count: usize) -> Vec<u8> {
        for _ in 0..count {
            bytes.push(bytes[bytes.len().strict_sub(distance)]);
        }
        bytes
    }

    #[test]
    fn a_copy_is_byte_by_byte_however_it_overlaps() {
        let start: Vec<u8> = (1..=40).collect();
        for distance in 1..=40 {
            for count in 0..=70 {
                let mut plain = Plain::new("toy", 40_usize.strict_add(count));
                plain.literals(&start).unwrap();
                plain.copy(distance, count, 0).unwrap();
                assert_eq!(plain.into_bytes(), slowly(start.clone(), distance, count), "{distance} {count}");
            }
        }
    }

    #[test]
    fn there_is_no_room_behind_the_end_and_nothing_before_the_start() {
        let mut plain = Plain::new("toy", 4);
        assert!(plain.copy(1, 1, 0).is_err());
        plain.literals(b"ab").unwrap();
        assert!(plain.copy(0, 1, 0).is_err());
        assert!(plain.copy(3, 1, 0).is_err());
        assert!(plain.copy(2, 1, 1).is_err());
        assert!(plain.copy(2, 3, 0).is_err());
        assert!(plain.zeros(3).is_err());
        assert!(plain.literals(b"xyz").is_err());
        plain.copy(2, 2, 0).unwrap();
        assert!(plain.literal(b'e').is_err());
        assert_eq!(plain.into_bytes(), b"abab");
    }
}
