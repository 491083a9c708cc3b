//! The table of capitals: which names the volume takes for the same. A capital for each of the 65,536 units, in `$UpCase`.

use super::attribute::kind;
use super::mft;
use super::volume::Volume;
use crate::error::Result;
use crate::fs::unicode::units_le;
use std::cmp::Ordering;

/// Bytes of the table.
const SIZE: u64 = 2 << 16;

/// A volume's capitals.
#[derive(Clone, Debug)]
pub(super) struct Upcase {
    table: Vec<u16>,
    /// The volume's own could not be read: these are Unicode's.
    pub(super) is_made_up: bool,
}

impl Upcase {
    /// Reads the volume's table; where that is damaged, Unicode's capitals serve.
    pub(super) fn load(volume: &Volume) -> Self {
        let read = || -> Result<Vec<u8>> {
            let file = volume.file(mft::UPCASE)?;
            volume.read_whole(&file, file.need(kind::DATA, &[], "$DATA")?, SIZE)
        };
        match read() {
            Ok(bytes) => Self { table: units_le(&bytes).collect(), is_made_up: false },
            Err(_) => Self::of_unicode(),
        }
    }

    /// Unicode's simple capitals.
    fn of_unicode() -> Self {
        let capital = |unit: u16| {
            let mut capitals = char::from_u32(unit.into())?.to_uppercase();
            let first = u16::try_from(u32::from(capitals.next()?)).ok()?;
            capitals.next().is_none().then_some(first)
        };
        Self { table: (0..=u16::MAX).map(|unit| capital(unit).unwrap_or(unit)).collect(), is_made_up: true }
    }

    /// The capital of a unit.
    pub(super) fn capital(&self, unit: u16) -> u16 {
        self.table.get(usize::from(unit)).copied().unwrap_or(unit)
    }

    /// The order of two names in a directory, but for case.
    pub(super) fn compare(&self, a: impl Iterator<Item = u16>, b: impl Iterator<Item = u16>) -> Ordering {
        a.map(|unit| self.capital(unit)).cmp(b.map(|unit| self.capital(unit)))
    }
}
