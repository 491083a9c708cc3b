//! The records of the database: disks, volumes, and what lies between them. A record has the number of its own, by which
//! others refer to it.
//!
//! ```text
//! volume ◀─ component (a plex: one of the copies of a mirror) ◀─ partition (a piece of a disk) ─▶ disk
//! ```
//! A number has a byte in front with its length, as has a text. Layouts as in `libldm` (`src/ldm.c`) and
//! `DiskAccessLibrary` (`DatabaseRecords`), which do not contradict each other.

use super::header::guid_text;
use crate::error::{At, Error, Result};
use crate::ondisk::uuid;
use crate::text::escape;

/// Flags of a component (`DiskAccessLibrary`, `ComponentFlags`): out of date, failed.
const COMPONENT_STALE: u32 = 0x02 | 0x04;
/// Flags of a partition (`ExtentFlags`): being rebuilt, detached.
const PARTITION_STALE: u32 = 0x08 | 0x10;

/// How the partitions of a component are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrangement {
    Striped,
    Spanned,
    Raid5,
}

/// A volume.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) components: u64,
    /// In sectors of 512 bytes, as are all sizes and places of these records.
    pub(super) size: u64,
    pub(super) guid: [u8; 16],
    /// The drive letter it had: `D:`.
    pub(super) hint: String,
}

/// A component.
#[derive(Clone, Debug)]
pub(super) struct Component {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) is_stale: bool,
    pub(super) arrangement: Arrangement,
    pub(super) partitions: u64,
    /// The volume it belongs to.
    pub(super) volume: u64,
    pub(super) chunk: u64,
    pub(super) columns: u64,
}

/// A piece of a disk.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) is_stale: bool,
    /// From the start of the disk's public region.
    pub(super) start: u64,
    /// From the start of its column.
    pub(super) offset: u64,
    pub(super) size: u64,
    /// The component it belongs to.
    pub(super) component: u64,
    pub(super) disk: u64,
    pub(super) column: u64,
}

/// A disk of the group.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) guid: String,
}

/// Any of them.
#[derive(Clone, Debug)]
pub(super) enum Record {
    Volume(Volume),
    Component(Component),
    Partition(Partition),
    Disk(Disk),
    /// The group itself: its name.
    Group(String),
}

/// Is it part of the database?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Active,
    /// Still active; it goes with the change that is under way.
    Leaving,
    /// Not active yet; it comes with that change.
    Coming,
}

/// The fields of a record, one behind the other.
struct Fields<'a> {
    rest: &'a [u8],
    at: At,
}

impl<'a> Fields<'a> {
    fn bad(&self, why: impl Into<String>) -> Error {
        Error::corrupt(self.at.clone()).because(why)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(len).ok_or_else(|| self.bad("it ends before its last field"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.first_chunk().copied().ok_or_else(|| self.bad("it ends before its last field"))
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn word(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn long(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A number with its length in front.
    fn number(&mut self) -> Result<u64> {
        let len = self.byte()?;
        if len > 8 {
            return Err(self.bad(format!("a number of {len} bytes")));
        }
        let bytes = self.take(usize::from(len))?;
        Ok(bytes.iter().fold(0, |number: u64, byte| number.rotate_left(8) | u64::from(*byte)))
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.byte()?;
        self.take(usize::from(len))
    }

    /// A text with its length in front, fit to be shown.
    fn text(&mut self) -> Result<String> {
        self.bytes().map(|text| escape(text).to_string())
    }
}

impl Record {
    /// Reads a record; `None` for an empty one. `bytes` is what its fragments hold, all in a row.
    ///
    /// # Errors
    /// `Corrupt` when it ends early or a field makes no sense; `Unsupported` for a kind or revision without a name.
    pub(super) fn parse(bytes: &[u8], at: At) -> Result<Option<(Status, Self)>> {
        let mut fields = Fields { rest: bytes, at };
        let status = match u16::from_be_bytes(fields.array()?) {
            0 => Status::Active,
            1 => Status::Leaving,
            2 => Status::Coming,
            other => return Err(fields.bad(format!("its status is {other}"))),
        };
        let (flags, kind, len) = (fields.byte()?, fields.byte()?, fields.word()?);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        fields.rest = fields.take(len)?;
        let record = match kind {
            0x51 => Self::Volume(Volume::parse(flags, &mut fields)?),
            0x32 => Self::Component(Component::parse(flags, &mut fields)?),
            0x33 => Self::Partition(Partition::parse(flags, &mut fields)?),
            0x34 | 0x44 => Self::Disk(Disk::parse(kind == 0x44, &mut fields)?),
            0x35 | 0x45 => {
                fields.number()?;
                Self::Group(fields.text()?)
            }
            other if other & 0x0f == 0 => return Ok(None),
            other => {
                let what = format!("LDM record of type {}, revision {}", other & 0x0f, other >> 4);
                return Err(Error::unsupported(what).at(fields.at));
            }
        };
        Ok(Some((status, record)))
    }
}

impl Volume {
    fn parse(flags: u8, fields: &mut Fields<'_>) -> Result<Self> {
        let (id, name) = (fields.number()?, fields.text()?);
        // Its type in a word, `gen` or `raid5`; and whether it is to have no drive letter.
        fields.bytes()?;
        fields.bytes()?;
        let state: [u8; 14] = fields.array()?;
        let state = state.split(|byte| *byte == 0).next().unwrap_or_default();
        // How it is read; the number and the flags that Windows gives it.
        fields.byte()?;
        fields.number()?;
        fields.word()?;
        let components = fields.number()?;
        // Two numbers of changes.
        fields.take(16)?;
        let size = fields.number()?;
        // Zeros, and the type of a partition.
        fields.take(5)?;
        let guid = fields.array()?;
        for flag in [0x08, 0x20, 0x80] {
            if flags & flag != 0 {
                fields.bytes()?;
            }
        }
        let hint = if flags & 0x02 != 0 { fields.text()? } else { String::new() };
        Ok(Self { id, name, state: escape(state).to_string(), components, size, guid, hint })
    }
}

impl Component {
    fn parse(flags: u8, fields: &mut Fields<'_>) -> Result<Self> {
        let (id, name, state) = (fields.number()?, fields.text()?, fields.text()?);
        let arrangement = match fields.byte()? {
            1 => Arrangement::Striped,
            2 => Arrangement::Spanned,
            3 => Arrangement::Raid5,
            other => return Err(Error::unsupported(format!("LDM component of type {other}"))),
        };
        let is_stale = fields.word()? & COMPONENT_STALE != 0;
        let partitions = fields.number()?;
        // The number of a change, and zeros.
        fields.take(16)?;
        let volume = fields.number()?;
        fields.number()?;
        let (chunk, columns) = if flags & 0x10 != 0 { (fields.number()?, fields.number()?) } else { (0, 0) };
        Ok(Self { id, name, state, is_stale, arrangement, partitions, volume, chunk, columns })
    }
}

impl Partition {
    fn parse(flags: u8, fields: &mut Fields<'_>) -> Result<Self> {
        let (id, name) = (fields.number()?, fields.text()?);
        let is_stale = fields.word()? & PARTITION_STALE != 0;
        // The number of a change.
        fields.long()?;
        let (start, offset) = (fields.long()?, fields.long()?);
        let (size, component, disk) = (fields.number()?, fields.number()?, fields.number()?);
        let column = if flags & 0x08 != 0 { fields.number()? } else { 0 };
        Ok(Self { id, name, is_stale, start, offset, size, component, disk, column })
    }
}

impl Disk {
    /// Reads a disk, whose GUID is a text or, later, 16 bytes.
    fn parse(is_later: bool, fields: &mut Fields<'_>) -> Result<Self> {
        let (id, name) = (fields.number()?, fields.text()?);
        let guid = if is_later {
            uuid(&fields.array()?)
        } else {
            let text = fields.bytes()?;
            guid_text(text).ok_or_else(|| fields.bad("the GUID of a disk is none"))?
        };
        Ok(Self { id, name, guid })
    }
}
