//! Records that are written in several sectors: those of the MFT and the blocks of an index. The last two bytes of each
//! 512 are kept elsewhere (the update sequence array), and a number that changes with every write stands in their place: where the
//! numbers differ, the record was torn.
//!
//! ```text
//! 0  magic   4  array at   6  its length in words   8  sequence number of the log   ...
//! array: number, true words of sector 0, 1, 2 ...
//! ```
//! Facts: linux-ntfs project, "NTFS documentation", "FILE record" and "Fixup".

use crate::error::{At, Error, Result};
use crate::fs::meta::Bytes;
use crate::ondisk::{get_le16, get_le32, get_le64};

/// Bytes between two words that are replaced, whatever the volume's sectors are.
pub(super) const STRIDE: usize = 512;
/// The low 48 bits of a reference: a record's number.
const NUMBER: u64 = (1 << 48) - 1;
/// Bytes of a record's header up to version 3.1; older ones end six bytes before.
const HEADER: usize = 0x2a;

/// The record is in use.
pub(super) const IN_USE: u16 = 1;
/// It is that of a directory.
pub(super) const DIRECTORY: u16 = 2;

/// A record's number together with the count of its uses, as directories and attribute lists name files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference(pub(super) u64);

impl Reference {
    /// The record.
    pub(super) const fn number(self) -> u64 {
        self.0 & NUMBER
    }

    /// How often the record had been used when this was written; 0 where nobody looks.
    pub(super) fn sequence(self) -> u16 {
        u16::try_from(self.0 >> 48).unwrap_or(0)
    }
}

/// Puts the true words back.
///
/// # Errors
/// `Corrupt` when the magic is another, the array lies outside, or a sector was not written with the others.
pub(super) fn fix_up(bytes: &mut [u8], magic: &[u8; 4], at: &At) -> Result<()> {
    let bad = |why: String| Err(Error::corrupt(at.clone()).because(why));
    let found: [u8; 4] = bytes.first_chunk().copied().unwrap_or_default();
    if found != *magic {
        return bad(match &found {
            b"BAAD" => "was marked as torn (`BAAD`) by Windows".to_owned(),
            _ => format!("begins with `{}`, `{}` is expected", found.escape_ascii(), magic.escape_ascii()),
        });
    }
    let array = usize::from(get_le16(bytes, 4).unwrap_or(0));
    let words = usize::from(get_le16(bytes, 6).unwrap_or(0));
    let sectors = bytes.len() / STRIDE;
    let end = words.saturating_mul(2).saturating_add(array);
    if words != sectors.saturating_add(1) || array % 2 != 0 || end > STRIDE.saturating_sub(2) {
        return bad(format!("an update sequence array of {words} words at {array} for {sectors} sectors"));
    }
    let number = get_le16(bytes, array).unwrap_or(0);
    for sector in 0..sectors {
        let kept = array.saturating_add(2).saturating_add(sector.saturating_mul(2));
        let word = get_le16(bytes, kept).unwrap_or(0);
        let place = sector.saturating_mul(STRIDE).saturating_add(STRIDE).saturating_sub(2);
        let stood = get_le16(bytes, place).unwrap_or(0);
        if stood != number {
            return bad(format!(
                "is torn: sector {sector} was written with number {stood:#06x}, the record with {number:#06x}"
            ));
        }
        if let Some(target) = bytes.get_mut(place..).and_then(|rest| rest.first_chunk_mut()) {
            *target = word.to_le_bytes();
        }
    }
    Ok(())
}

/// A record of the MFT, its true words put back.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Its number.
    pub(super) number: u64,
    /// Where on the volume it begins.
    pub(super) byte: u64,
    /// How often it has been used.
    pub(super) sequence: u16,
    /// [`IN_USE`], [`DIRECTORY`].
    pub(super) flags: u16,
    /// The record that this one goes on for; 0 where it stands for itself.
    pub(super) base: Reference,
    /// Where its attributes begin and end.
    first: usize,
    used: usize,
    /// All of it.
    bytes: Bytes,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// As [`fix_up`]; `Corrupt` when its attributes lie outside.
    pub(super) fn parse(number: u64, byte: u64, mut bytes: Vec<u8>) -> Result<Self> {
        let at = At::new("ntfs", "MFT record").index(number).byte(byte);
        fix_up(&mut bytes, b"FILE", &at)?;
        let word = |at| get_le16(&bytes, at).unwrap_or(0);
        let first = usize::from(word(0x14));
        let used = usize::try_from(get_le32(&bytes, 0x18).unwrap_or(0)).unwrap_or(usize::MAX);
        if first < HEADER || first % 8 != 0 || first > used || used > bytes.len() {
            return Err(Error::corrupt(at)
                .because(format!("attributes from {first} to {used} in a record of {} bytes", bytes.len())));
        }
        Ok(Self {
            number,
            byte,
            sequence: word(0x10),
            flags: word(0x16),
            base: Reference(get_le64(&bytes, 0x20).unwrap_or(0)),
            first,
            used,
            bytes: bytes.into(),
        })
    }

    /// Where it is, for errors.
    pub(super) fn at(&self) -> At {
        At::new("ntfs", "MFT record").index(self.number).byte(self.byte)
    }

    /// Is it in use?
    pub(super) const fn is_in_use(&self) -> bool {
        self.flags & IN_USE != 0
    }

    /// Where its attributes begin and end.
    pub(super) const fn attributes(&self) -> (usize, usize) {
        (self.first, self.used)
    }

    /// All of it.
    pub(super) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
