//! Interix's special files: files with the system attribute whose size or first bytes say what they are. Windows' own
//! subsystem for Unix wrote them, and ntfs-3g does.
//!
//! ```text
//! IntxLNK\1  target in UTF-16          IntxCHR\0, IntxBLK\0  major 8 │ minor 8
//! no byte, not hidden: a FIFO          one byte, not hidden: a socket
//! ```
//! As `ntfs-3g` decides (`INTX_FILE` of its `layout.h`).

use super::name::encode;
use crate::fs::FileType;
use crate::fs::unicode::units_le;
use crate::ondisk::get_le64;

/// What the content of all begins with.
pub(super) const START: &[u8; 4] = b"Intx";
const MAGIC: u64 = 8;
/// The longest target that Linux follows (`PATH_MAX`).
const MAX_TARGET: u64 = 4096;
/// A device's file.
const DEVICE: u64 = 24;

/// A special file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interix {
    /// FIFO, socket or device.
    Special(FileType, (u32, u32)),
    /// A symbolic link with its target.
    Link(Vec<u8>),
}

/// What the size of a file with the system attribute makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BySize {
    /// It is this.
    Special(FileType),
    /// Its content decides: see [`of_content`].
    AskContent,
    /// It is no special file.
    File,
}

/// What a file with the system attribute may be by its size.
pub(super) const fn of_size(size: u64, is_hidden: bool) -> BySize {
    match size {
        0 if !is_hidden => BySize::Special(FileType::Fifo),
        1 if !is_hidden => BySize::Special(FileType::Socket),
        _ if size > MAGIC && size <= MAGIC.saturating_add(MAX_TARGET.saturating_mul(2)) => BySize::AskContent,
        _ => BySize::File,
    }
}

/// What a file with the system attribute is by its whole content.
pub(super) fn of_content(data: &[u8]) -> Option<Interix> {
    let (magic, rest) = data.split_first_chunk::<8>()?;
    let device = |kind| {
        let number = |at| get_le64(data, at).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let is_device = crate::num::wide(data.len()) == DEVICE;
        number(8).zip(number(16)).filter(|_| is_device).map(|numbers| Interix::Special(kind, numbers))
    };
    match magic {
        b"IntxLNK\x01" => Some(Interix::Link(encode(units_le(rest).take_while(|unit| *unit != 0)))),
        b"IntxCHR\0" => device(FileType::Char),
        b"IntxBLK\0" => device(FileType::Block),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_nothing_and_one_are_special() {
        assert_eq!(of_size(0, false), BySize::Special(FileType::Fifo));
        assert_eq!(of_size(0, true), BySize::File);
        assert_eq!(of_size(1, false), BySize::Special(FileType::Socket));
        assert_eq!(of_size(8, false), BySize::File);
        assert_eq!(of_size(24, true), BySize::AskContent);
        assert_eq!(of_size(8 + 2 * 4096 + 1, false), BySize::File);
    }

    #[test]
    fn content_says_device_or_link() {
        let device = |len: usize| {
            let bytes = [b"IntxBLK\0".as_slice(), &8_u64.to_le_bytes(), &17_u64.to_le_bytes(), &[0]].concat();
            of_content(&bytes[..len])
        };
        assert_eq!(device(24), Some(Interix::Special(FileType::Block, (8, 17))));
        assert_eq!(device(25), None);
        assert_eq!(device(23), None);
        assert_eq!(of_content(b"IntxLNK\x01a\0/\0\x03\xd8"), Some(Interix::Link(b"a/\xed\xa0\x83".to_vec())));
        assert_eq!(of_content(b"IntxLNK\x02a\0"), None);
    }
}
