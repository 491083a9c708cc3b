//! UUID and label of what we recognise but do not read: enough to know a device that a guest names in its `fstab`.

use crate::block::{Probe, ProbeBytes};
use crate::ondisk::{get_le64, utf16, uuid};
use crate::text::Text;

/// What a superblock says of itself, as `blkid` spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its UUID; an NTFS's serial number.
    pub uuid: Option<String>,
    /// Its label.
    pub label: Text,
    /// Nothing but zeros where any signature would stand.
    pub is_blank: bool,
}

/// Reads the identity of what `kind` names, in `blkid`'s word. Does no I/O.
#[must_use]
pub fn identity(kind: &str, bytes: &ProbeBytes) -> Identity {
    let probe = bytes.view();
    let text = |at: usize, len: usize| label(&probe, at, len);
    let id = |at: usize| probe.bytes::<16>(at).filter(|id| *id != [0; 16]).map(|id| uuid(&id));
    let (uuid, label) = match kind {
        // Linux include/linux/swap.h, union swap_header: uuid at 1036, volume name at 1052.
        "swap" => (id(1036), text(1052, 16)),
        // f2fs_fs.h, struct f2fs_super_block, at 1024: uuid at 108, volume_name at 124, in UTF-16.
        "f2fs" => {
            let name = probe.head.get(1024 + 124..1024 + 124 + 1024).unwrap_or_default();
            (id(1024 + 108), Text::from(utf16(name, false).as_str()))
        }
        // LUKS1 and LUKS2 on-disk formats: uuid as text at 168; LUKS2 has a label at 24.
        "crypto_LUKS" => {
            let two = probe.head.get(7) == Some(&2);
            (Some(text(168, 40).to_string()), if two { text(24, 48) } else { Text::default() })
        }
        // NTFS boot sector: serial number at 72.
        "ntfs" => (get_le64(probe.head, 72).map(|serial| format!("{serial:016X}")), Text::default()),
        _ => (None, Text::default()),
    };
    let is_blank = kind.is_empty() && probe.head.iter().chain(probe.tail).all(|byte| *byte == 0);
    Identity { uuid: uuid.filter(|uuid| !uuid.is_empty()), label, is_blank }
}

/// Bytes up to the first NUL, without white space at the end.
fn label(probe: &Probe<'_>, at: usize, len: usize) -> Text {
    let bytes = probe.head.get(at..).and_then(|rest| rest.get(..len)).unwrap_or_default();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Text::from(bytes.get(..end).unwrap_or_default().trim_ascii_end())
}
