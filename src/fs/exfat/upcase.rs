//! The up-case table: what letters each volume takes for the same.
//!
//! "exFAT file system specification", "7.2 Up-case Table Directory Entry".

use super::Exfat;
use super::entry::Stream;
use crate::error::{At, Error, Result};
use crate::fs::unicode::units_le;
use crate::num::{narrow, wide};
use crate::ondisk::get_le32;

/// One unit for each of all there are.
const MOST: u64 = 2 << 16;
/// What stands in front of a number of letters that are their own capitals.
const ROW: u16 = 0xffff;

/// A volume's capitals.
#[derive(Clone, Debug, Default)]
pub(super) struct Upcase(Vec<u16>);

impl Upcase {
    /// A table as it is stored.
    fn parse(bytes: &[u8]) -> Self {
        let mut table: Vec<u16> = Vec::new();
        let mut units = units_le(bytes);
        while let Some(unit) = units.next() {
            let row = match unit {
                ROW => units.next().unwrap_or(0).into(),
                _ => 1,
            };
            for n in 0..row {
                let Ok(own) = u16::try_from(table.len()) else { return Self(table) };
                table.push(if n == 0 && unit != ROW { unit } else { own });
            }
        }
        Self(table)
    }

    fn capital(&self, unit: u16) -> u16 {
        self.0.get(usize::from(unit)).copied().unwrap_or(unit)
    }

    /// Are the names the same, but for case?
    pub(super) fn same(&self, a: &[u16], b: &[u16]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.capital(*a) == self.capital(*b))
    }
}

impl Exfat {
    /// Loads the table that the slot in the root directory names.
    ///
    /// # Errors
    /// `Corrupt` when its sum is wrong; what the volume reports.
    pub(super) fn load_upcase(&self, slot: &[u8; 32]) -> Result<Upcase> {
        let stream = Stream::table(slot);
        let bad = |why: String| Error::corrupt(At::new("exfat", "up-case table")).because(why);
        if stream.len > MOST {
            return Err(bad(format!("{} bytes, at most {MOST} make sense", stream.len)));
        }
        let mut bytes = vec![0; narrow(stream.len)];
        self.read_stream(&stream, &mut bytes, 0)?;
        let sum = bytes.iter().fold(0_u32, |sum, byte| sum.rotate_right(1).wrapping_add((*byte).into()));
        let expected = get_le32(slot, 4).unwrap_or(0);
        if sum != expected {
            return Err(bad(format!(
                "checksum {sum:#010x} over {} bytes, {expected:#010x} is expected",
                wide(bytes.len())
            )));
        }
        Ok(Upcase::parse(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_for_letters_that_are_their_own_capitals() {
        let units = [ROW, 0x61, 0x41, 0x42, ROW, 2, 0x7a];
        let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let table = Upcase::parse(&bytes);
        let capitals = [0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66].map(|unit| table.capital(unit));
        assert_eq!(capitals, [0x60, 0x41, 0x42, 0x63, 0x64, 0x7a, 0x66]);
        assert!(table.same(&[0x61, 0x62], &[0x41, 0x42]) && !table.same(&[0x63], &[0x43]));
    }
}
