//! UUID and label of what we recognise but do not read: enough to know a device that a guest names in its `fstab`.

use crate::block::{Probe, ProbeBytes};
use crate::ondisk::{utf16, uuid};
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
            let mut copies = [0x4000_usize, 0x8000, 0x10000].into_iter();
            let at = copies.find(|at| !probe.has(0, b"LUKS") && probe.has(*at, b"SKUL")).unwrap_or(0);
            let two = probe.head.get(at.saturating_add(7)) == Some(&2);
            let label = if two { text(at.saturating_add(24), 48) } else { Text::default() };
            (Some(text(at.saturating_add(168), 40).to_string()), label)
        }
        // LVM2: lib/format_text/layout.h, struct pv_header, 32 bytes behind the label, which is in one of four sectors.
        "LVM2_member" => {
            let label = (0..2048_usize).step_by(512).find(|at| probe.has(*at, b"LABELONE"));
            (label.map(|at| lvm(&text(at.saturating_add(32), 32).to_string())), Text::default())
        }
        // Linux include/uapi/linux/raid/md_p.h, versions 1.1 and 1.2: set_uuid at 16, set_name at 32.
        "linux_raid_member" => {
            let at: usize = if probe.has(0, RAID) { 0 } else { 4096 };
            (id(at.saturating_add(16)).filter(|_| probe.has(at, RAID)), text(at.saturating_add(32), 32))
        }
        kind => super::signature::identity(kind, &probe),
    };
    let is_blank = kind.is_empty() && probe.head.iter().chain(probe.tail).all(|byte| *byte == 0);
    Identity { uuid: uuid.filter(|uuid| !uuid.is_empty()), label, is_blank }
}

pub(super) fn fat_number(number: u32) -> String {
    let [high @ .., c, d] = number.to_be_bytes();
    format!("{:04X}-{:04X}", u16::from_be_bytes(high), u16::from_be_bytes([c, d]))
}

/// Bytes up to the first NUL, without white space at the end.
pub(super) fn label(probe: &Probe<'_>, at: usize, len: usize) -> Text {
    let bytes = probe.head.get(at..).and_then(|rest| rest.get(..len)).unwrap_or_default();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Text::from(bytes.get(..end).unwrap_or_default().trim_ascii_end())
}

/// Of a superblock of md, version 1, with its version.
const RAID: &[u8] = b"\xfc\x4e\x2b\xa9\x01\0\0\0";

/// LVM2's UUID with the dashes that people see.
fn lvm(uuid: &str) -> String {
    let dashes = [6, 10, 14, 18, 22, 26];
    uuid.chars().enumerate().fold(String::new(), |mut out, (at, c)| {
        if dashes.contains(&at) {
            out.push('-');
        }
        out.push(c);
        out
    })
}
