//! Names: long ones in pieces of thirteen units, short ones of eight and three bytes.
//!
//! The short name's bytes are of code page 437, which is the kernel's default (`CONFIG_FAT_DEFAULT_CODEPAGE`); Windows NT
//! keeps two bits that say which of its parts to show in lower case (`shortname=mixed`).

use crate::fs::unicode::{units_le, utf8};

/// Upper half of code page 437.
const CP437: [char; 128] = [
    'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å', 'É', 'æ', 'Æ', 'ô', 'ö',
    'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ', 'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª', 'º', '¿', '⌐',
    '¬', '½', '¼', '¡', '«', '»', '░', '▒', '▓', '│', '┤', '╡', '╢', '╖', '╕', '╣', '║', '╗', '╝', '╜', '╛',
    '┐', '└', '┴', '┬', '├', '─', '┼', '╞', '╟', '╚', '╔', '╩', '╦', '╠', '═', '╬', '╧', '╨', '╤', '╥', '╙',
    '╘', '╒', '╓', '╫', '╪', '┘', '┌', '█', '▄', '▌', '▐', '▀', 'α', 'ß', 'Γ', 'π', 'Σ', 'σ', 'µ', 'τ', 'Φ',
    'Θ', 'Ω', 'δ', '∞', 'φ', 'ε', '∩', '≡', '±', '≥', '≤', '⌠', '⌡', '÷', '≈', '°', '∙', '·', '√', 'ⁿ', '²',
    '■', '\u{a0}',
];

/// Bytes of a short name: eight and three.
pub(super) const SHORT: usize = 11;
/// Units in one piece of a long name.
const PIECE: usize = 13;
/// The most pieces of one name: 255 units.
const PIECES: u8 = 20;
/// The mark of the piece that comes first on the disk and last in the name.
const LAST: u8 = 0x40;

fn shown(byte: u8, lower: bool) -> char {
    let c = usize::from(byte).checked_sub(128).and_then(|at| CP437.get(at)).copied();
    let c = c.unwrap_or(char::from(byte));
    if !lower {
        return c;
    }
    // Lower case only where the code page has it.
    let mut small = c.to_lowercase();
    match (small.next(), small.next()) {
        (Some(small), None) if small.is_ascii() || CP437.contains(&small) => small,
        _ => c,
    }
}

/// A short name as Linux shows it; `flags` is byte 12 of the entry: bit 3 for a base, bit 4 for an extension in lower
/// case. `None` for a name of blanks.
pub(super) fn short(raw: &[u8; SHORT], flags: u8) -> Option<Vec<u8>> {
    let (base, extension) = raw.split_at(8);
    let mut name = String::new();
    let mut put = |part: &[u8], lower: bool, dot: bool| {
        let part = part.split(|byte| *byte == 0).next().unwrap_or_default();
        let part = without_blanks(part);
        if dot && !part.is_empty() {
            name.push('.');
        }
        for (at, byte) in part.iter().enumerate() {
            // 0xe5 marks what was deleted; a name that begins with it is written with 5.
            let byte = if at == 0 && !dot && *byte == 5 { 0xe5 } else { *byte };
            name.push(shown(byte, lower));
        }
    };
    put(base, flags & 8 != 0, false);
    put(extension, flags & 16 != 0, true);
    (!name.is_empty()).then(|| name.into_bytes())
}

/// Without the blanks that fill a part up.
fn without_blanks(part: &[u8]) -> &[u8] {
    let end = part.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last.saturating_add(1));
    part.get(..end).unwrap_or_default()
}

/// The sum over a short name that each piece of its long name repeats.
fn checksum(raw: &[u8; SHORT]) -> u8 {
    raw.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// A long name, as far as its pieces have been seen. They come in descending order, right in front of the short name.
#[derive(Debug, Default)]
pub(super) struct Long {
    units: Vec<u8>,
    /// Pieces still to come; `None` while no name is being put together.
    left: Option<u8>,
    checksum: u8,
}

impl Long {
    /// Forgets what was collected.
    pub(super) const fn reset(&mut self) {
        self.left = None;
    }

    /// Takes a piece: an entry whose attributes are 0x0f.
    pub(super) fn piece(&mut self, slot: &[u8; 32]) {
        let &[id, ref rest @ ..] = slot;
        let sum = rest.get(12).copied().unwrap_or(0);
        let number = id & !LAST;
        if id & LAST != 0 {
            let fits = (1..=PIECES).contains(&number);
            self.left = fits.then_some(number);
            self.units = vec![0; usize::from(number).saturating_mul(PIECE).saturating_mul(2)];
            self.checksum = sum;
        } else if self.left != Some(number) || number == 0 || self.checksum != sum {
            self.left = None;
        }
        let Some(at) = self.left.and_then(|left| left.checked_sub(1)) else { return };
        self.left = Some(at);
        let start = usize::from(at).saturating_mul(PIECE).saturating_mul(2);
        // Units 0 to 4 at byte 1, 5 to 10 at byte 14, 11 and 12 at byte 28.
        let parts = [slot.get(1..11), slot.get(14..26), slot.get(28..32)];
        let piece = parts.into_iter().flatten().flatten();
        for (place, byte) in self.units.iter_mut().skip(start).zip(piece) {
            *place = *byte;
        }
    }

    /// The name, if it is whole and belongs to this short one.
    pub(super) fn take(&mut self, raw: &[u8; SHORT]) -> Option<Vec<u8>> {
        let whole = self.left.take() == Some(0) && self.checksum == checksum(raw);
        whole.then(|| utf8(units_le(&self.units))).filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_shown_in_lower_case_by_their_bits() {
        let show = |flags| String::from_utf8(short(b"README  TXT", flags).unwrap()).unwrap();
        assert_eq!(
            [show(0), show(8), show(16), show(24)],
            ["README.TXT", "readme.TXT", "README.txt", "readme.txt"]
        );
        assert_eq!(short(b"NODOT      ", 0).unwrap(), b"NODOT");
        assert_eq!(short(b"A B     C  ", 0).unwrap(), b"A B.C");
        assert_eq!(short(b"           ", 0), None);
    }

    #[test]
    fn bytes_over_127_are_of_code_page_437() {
        assert_eq!(short(b"\x80\x81\x9a\xe2    \xe4  ", 24).unwrap(), "çüüΓ.σ".as_bytes());
        assert_eq!(short(b"\x05\x05      \x05  ", 0).unwrap(), "σ\u{5}.\u{5}".as_bytes());
    }
}
