//! Rock Ridge: what a record lacks to be a file of POSIX, in entries behind its name and, where there is no room, in
//! continuation areas elsewhere.
//!
//! "System Use Sharing Protocol" 1.12 (IEEE P1281), "Rock Ridge Interchange Protocol" 1.12 (IEEE P1282).

use super::record::{long_time, short_time};
use super::zisofs::Packed;
use super::{Iso, SECTOR};
use crate::error::{At, Error, Result};
use crate::fs::{FileType, Time};
use crate::ondisk::get_le32;

/// Continuation areas followed for one record, as in the kernel (`RR_MAX_CE_ENTRIES`).
const MAX_AREAS: u32 = 32;
/// The longest name and the longest target that the kernel puts together.
const MAX_NAME: usize = 254;
const MAX_TARGET: usize = 4095;

/// Owner and mode, `PX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Posix {
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Posix {
    /// The type that the mode says.
    pub(super) const fn kind(self) -> FileType {
        match self.mode & 0o170_000 {
            0o120_000 => FileType::Symlink,
            0o020_000 => FileType::Char,
            0o060_000 => FileType::Block,
            0o010_000 => FileType::Fifo,
            0o140_000 => FileType::Socket,
            _ => FileType::File,
        }
    }
}

/// What the entries of one record say.
#[derive(Clone, Debug, Default)]
pub(super) struct Rock {
    pub(super) name: Vec<u8>,
    name_is_whole: bool,
    pub(super) posix: Option<Posix>,
    pub(super) device: Option<(u32, u32)>,
    pub(super) target: Vec<u8>,
    /// The next component of the target is joined to the last without a slash.
    joined: bool,
    pub(super) created: Option<Time>,
    pub(super) modified: Option<Time>,
    pub(super) accessed: Option<Time>,
    pub(super) changed: Option<Time>,
    /// The directory that was moved elsewhere, being too deep: its block.
    pub(super) child: Option<u64>,
    /// It was moved here, and is shown where it was.
    pub(super) is_moved: bool,
    pub(super) packed: Option<Packed>,
    /// `SP`: so many bytes in front of the entries are another's.
    pub(super) skip: Option<u8>,
    /// `ER` names the protocol.
    pub(super) is_named: bool,
}

/// Where the entries go on.
struct Area {
    block: u64,
    offset: u64,
    len: u64,
}

impl Iso {
    /// Reads the entries in `system_use` and in the areas they go on in.
    ///
    /// # Errors
    /// What the volume reports for a continuation area; `Corrupt` when there are too many.
    pub(super) fn rock(&self, system_use: &[u8]) -> Result<Rock> {
        let mut rock = Rock { joined: true, ..Rock::default() };
        let mut area = rock.take(system_use);
        let mut seen = 0_u32;
        while let Some(Area { block, offset, len }) = area {
            let byte = block.saturating_mul(self.volume.block).saturating_add(offset);
            let at = || At::new("iso9660", "continuation area").byte(byte);
            seen = seen.saturating_add(1);
            if seen > MAX_AREAS {
                return Err(Error::corrupt(at()).because(format!("more than {MAX_AREAS} for one file")));
            }
            if offset.saturating_add(len) > SECTOR {
                return Err(Error::corrupt(at()).because(format!("{len} bytes, past the end of its sector")));
            }
            let bytes = self.meta.near(byte, len).map_err(|error| error.at(at()))?;
            area = rock.take(&bytes);
        }
        Ok(rock)
    }
}

impl Rock {
    /// Takes the entries of one area; says where they go on.
    fn take(&mut self, mut rest: &[u8]) -> Option<Area> {
        let mut area = None;
        // A byte of padding may be left.
        while let &[a, b, len, _, ..] = rest {
            let entry = rest.get(..usize::from(len)).filter(|_| len > 3);
            let Some(entry) = entry else { break };
            let body = entry.get(4..).unwrap_or_default();
            let number = |at: usize| get_le32(body, at).unwrap_or(0);
            match &[a, b] {
                b"SP" if body.starts_with(b"\xbe\xef") => self.skip = body.get(2).copied(),
                b"CE" => {
                    let [block, offset, len] = [number(0), number(8), number(16)].map(u64::from);
                    area = Some(Area { block, offset, len });
                }
                b"ST" => break,
                b"ER" => self.is_named = true,
                b"NM" => self.name_part(body),
                b"PX" => {
                    self.posix =
                        Some(Posix { mode: number(0), links: number(8), uid: number(16), gid: number(24) });
                }
                b"PN" => self.device = Some(device(number(0), number(8))),
                b"SL" => self.target_part(body),
                b"TF" => self.times(body),
                b"CL" => self.child = Some(number(0).into()),
                b"RE" => self.is_moved = true,
                b"ZF" => self.packed = Some(Packed::parse(body)),
                _ => {}
            }
            rest = rest.get(entry.len()..).unwrap_or_default();
        }
        area
    }

    /// `NM`: flags and a part of the name. Bits 1 and 2 are for `.` and `..`.
    fn name_part(&mut self, body: &[u8]) {
        let Some((flags, part)) = body.split_first() else { return };
        if flags & !1 != 0 || self.name_is_whole {
            return;
        }
        if self.name.len().saturating_add(part.len()) >= MAX_NAME.saturating_add(1) {
            self.name_is_whole = true;
            return;
        }
        self.name.extend_from_slice(part);
    }

    /// `SL`: flags, and components of a target.
    fn target_part(&mut self, body: &[u8]) {
        let mut rest = body.get(1..).unwrap_or_default();
        while let &[flags, len, ..] = rest {
            let end = usize::from(len).saturating_add(2);
            let Some(text) = rest.get(2..end) else { return };
            let (text, is_root): (&[u8], bool) = match flags & !1 {
                0 => (text, false),
                2 => (b".", false),
                4 => (b"..", false),
                8 => (b"/", true),
                _ => (b"", false),
            };
            if self.target.len().saturating_add(text.len()) >= MAX_TARGET {
                return;
            }
            if !self.joined {
                self.target.push(b'/');
            }
            self.target.extend_from_slice(text);
            self.joined = is_root || flags & 1 != 0;
            rest = rest.get(end..).unwrap_or_default();
        }
    }

    /// `TF`: flags, and a time for each that is set.
    fn times(&mut self, body: &[u8]) {
        let Some((flags, mut rest)) = body.split_first() else { return };
        let len = if flags & 0x80 == 0 { 7 } else { 17 };
        let places = [&mut self.created, &mut self.modified, &mut self.accessed, &mut self.changed];
        for (bit, place) in places.into_iter().enumerate() {
            if flags >> bit & 1 == 0 {
                continue;
            }
            let Some((time, after)) = rest.split_at_checked(len) else { return };
            *place = Some(if len == 7 { short_time(time) } else { long_time(time) });
            rest = after;
        }
    }
}

/// `PN`: two halves, or all of it in the second; some writers do the one, some the other. The kernel's numbers have
/// twelve and twenty bits.
const fn device(high: u32, low: u32) -> (u32, u32) {
    if high == 0 && low > 0xff { (low >> 8 & 0xfff, low & 0xff) } else { (high & 0xfff, low & 0xf_ffff) }
}
