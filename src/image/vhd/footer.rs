//! The footer of a VHD: what the disk is, and how large by either of its two sizes.
//!
//! Specification: Microsoft, "Virtual Hard Disk Image Format Specification", section "Hard Disk Footer Format".

use super::SECTOR;
use crate::block::BlockSource;
use crate::error::{Error, ErrorKind, Result};
use crate::num::narrow;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const COOKIE: &[u8; 8] = b"conectix";

pub(super) const FIXED: u32 = 2;
pub(super) const DYNAMIC: u32 = 3;
pub(super) const DIFFERENCING: u32 = 4;

/// The most sectors that cylinders, heads and sectors can name.
const CHS_MAX: u64 = 65535 * 16 * 255;

/// Hard disk footer. All numbers big-endian.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone)]
#[repr(C)]
pub(super) struct Footer {
    cookie: [u8; 8],             // 0x00 "conectix"
    features: U32,               // 0x08
    version: U32,                // 0x0c 0x00010000
    pub(super) data_offset: U64, // 0x10 byte of the dynamic header, all ones for a fixed disk
    pub(super) timestamp: U32,   // 0x18 seconds since 2000
    pub(super) creator: [u8; 4], // 0x1c "vpc ", "win ", "qemu", …
    creator_version: U32,        // 0x20
    creator_host: [u8; 4],       // 0x24
    original_size: U64,          // 0x28 bytes
    current_size: U64,           // 0x30 bytes
    cylinders: U16,              // 0x38
    heads: u8,                   // 0x3a
    sectors: u8,                 // 0x3b per track
    pub(super) kind: U32,        // 0x3c 2 fixed, 3 dynamic, 4 differencing
    checksum: U32,               // 0x40 one's complement of the sum of all other bytes
    pub(super) id: [u8; 16],     // 0x44
    pub(super) saved_state: u8,  // 0x54
    reserved: [u8; 427],         // 0x55
}
const _: () = assert!(size_of::<Footer>() == 512);

/// The one's complement of the sum of all bytes but the checksum's own.
pub(super) fn checksum(bytes: &[u8], own: U32) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).fold(0_u32, u32::wrapping_add);
    !sum(bytes).wrapping_sub(sum(own.as_bytes()))
}

impl Footer {
    /// Has it the fixed fields of a footer? The checksum is another question.
    fn plausible(&self) -> bool {
        self.cookie == *COOKIE
            && self.version.get() == 0x0001_0000
            && matches!(self.kind.get(), FIXED | DYNAMIC | DIFFERENCING)
    }

    pub(super) fn sound(&self) -> bool {
        self.plausible() && checksum(self.as_bytes(), self.checksum) == self.checksum.get()
    }

    /// The size by geometry and by the field, in bytes; and which of them the creator's rule takes.
    pub(super) fn sizes(&self) -> (u64, u64, Rule) {
        let sectors = u64::from(self.cylinders.get())
            .saturating_mul(u64::from(self.heads))
            .saturating_mul(u64::from(self.sectors));
        // Virtual PC (and qemu in its place) goes by the geometry; these go by the size. A geometry at its maximum
        // says nothing. The list is qemu's (block/vpc.c), which watched them.
        let by_size = matches!(&self.creator, b"win " | b"qem2" | b"d2v " | b"CTXS")
            || self.creator.starts_with(b"tap")
            || self.creator.starts_with(b"wa");
        let rule = if by_size || sectors == CHS_MAX { Rule::CurrentSize } else { Rule::Geometry };
        // qemu counts whole sectors.
        let current = self.current_size.get() & !(SECTOR.wrapping_sub(1));
        (sectors.saturating_mul(SECTOR), current, rule)
    }
}

/// Which of the two sizes a footer carries is the disk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Geometry,
    CurrentSize,
}

/// The footer at the end of a file. Before Virtual PC 2004 it had 511 bytes (specification, "Hard Disk Footer Format").
pub(super) fn at_end(tail: &[u8]) -> Option<(Footer, u64)> {
    let whole = tail.len().checked_sub(512).and_then(|at| tail.get(at..));
    let found = whole.and_then(|bytes| Footer::read_from_bytes(bytes).ok()).filter(Footer::plausible);
    found.map(|footer| (footer, 512)).or_else(|| {
        let short = tail.len().checked_sub(511).and_then(|at| tail.get(at..))?;
        let mut bytes = [0; 512];
        bytes.get_mut(..511)?.copy_from_slice(short);
        Footer::read_from_bytes(&bytes).ok().filter(Footer::plausible).map(|footer| (footer, 511))
    })
}

pub(super) fn at_start(head: &[u8]) -> Option<Footer> {
    Footer::read_from_prefix(head).ok().map(|(footer, _)| footer).filter(Footer::plausible)
}

/// The footer to go by, and its length: the one at the end if its sum is right, else the copy at the start, else
/// whichever there is, with a warning.
pub(super) fn find_footer(source: &dyn BlockSource, warnings: &mut Vec<String>) -> Result<(Footer, u64)> {
    let mut tail = vec![0; narrow(source.len().min(512))];
    source.read_at(&mut tail, source.len().saturating_sub(512))?;
    let mut head = vec![0; narrow(source.len().min(512))];
    source.read_at(&mut head, 0)?;
    let start = at_start(&head).filter(|footer| footer.kind.get() != FIXED);
    match (at_end(&tail), start) {
        (Some((end, len)), _) if end.sound() => Ok((end, len)),
        (end, Some(start)) if start.sound() => {
            warnings.push(match end {
                Some(_) => {
                    "the footer's checksum is wrong; its copy at the start of the file is used".to_owned()
                }
                None => "there is no footer at the end (cut off?); its copy at the start of the file is used"
                    .to_owned(),
            });
            Ok((start, 512))
        }
        (Some((end, len)), _) => {
            warnings.push(
                "the footer's checksum is wrong, and no sound copy is there; it is used nevertheless"
                    .to_owned(),
            );
            Ok((end, len))
        }
        (None, Some(start)) => {
            warnings.push("there is no footer at the end (cut off?), and the copy's checksum is wrong; it is used nevertheless".to_owned());
            Ok((start, 512))
        }
        (None, None) => Err(Error::new(ErrorKind::NotAnImage, "is not a VHD: it has no 'conectix' footer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    fn footer(creator: &[u8; 4], chs: (u16, u8, u8), current: u64) -> Footer {
        let mut footer = Footer::new_zeroed();
        footer.cookie = *COOKIE;
        footer.version = U32::new(0x0001_0000);
        footer.kind = U32::new(FIXED);
        footer.creator = *creator;
        (footer.cylinders, footer.heads, footer.sectors) = (U16::new(chs.0), chs.1, chs.2);
        footer.current_size = U64::new(current);
        footer.checksum = U32::new(checksum(footer.as_bytes(), footer.checksum));
        footer
    }

    #[test]
    fn the_creator_decides_which_size_counts() {
        assert_eq!(footer(b"vpc ", (10, 4, 17), 400_000).sizes(), (348_160, 399_872, Rule::Geometry));
        assert_eq!(footer(b"win ", (10, 4, 17), 400_000).sizes().2, Rule::CurrentSize);
        assert_eq!(footer(b"wa\0\0", (10, 4, 17), 400_000).sizes().2, Rule::CurrentSize);
    }

    #[test]
    fn a_geometry_at_its_maximum_says_nothing() {
        assert_eq!(footer(b"vpc ", (65535, 16, 255), 1 << 40).sizes().2, Rule::CurrentSize);
    }

    #[test]
    fn a_changed_byte_breaks_the_checksum() {
        let mut footer = footer(b"win ", (1, 1, 1), 512);
        assert!(footer.sound());
        footer.heads = 2;
        assert!(footer.plausible() && !footer.sound());
    }

    #[test]
    fn a_footer_of_511_bytes_is_found() {
        let footer = footer(b"vpc ", (1, 1, 1), 512);
        let tail = &footer.as_bytes()[..511];
        assert_eq!(at_end(tail).unwrap().1, 511);
    }
}
