//! Attributes: all that a file is stands in them. Each has a type, often a name, and a value, in the record itself
//! (resident) or in clusters that its mapping pairs name.
//!
//! ```text
//! 0 type  4 length  8 non-resident?  9 name length  a name at  c flags  e id
//! resident      10 value length  14 value at
//! non-resident  10 first VCN  18 last VCN  20 mapping pairs at  22 log2 of clusters packed together
//!               28 allocated  30 size  38 initialised  40 size of what is stored (where 22 is not 0, or it is sparse)
//! ```
//! Facts: linux-ntfs project, "NTFS documentation", "Attributes: standard attribute header".

use super::record::Record;
use crate::error::{Error, Result};
use crate::fs::meta::Bytes;
use crate::fs::unicode::units_le;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};

/// Types, as `$AttrDef` names them.
pub(super) mod kind {
    pub(in super::super) const STANDARD_INFORMATION: u32 = 0x10;
    pub(in super::super) const ATTRIBUTE_LIST: u32 = 0x20;
    pub(in super::super) const FILE_NAME: u32 = 0x30;
    pub(in super::super) const OBJECT_ID: u32 = 0x40;
    pub(in super::super) const SECURITY_DESCRIPTOR: u32 = 0x50;
    pub(in super::super) const VOLUME_NAME: u32 = 0x60;
    pub(in super::super) const VOLUME_INFORMATION: u32 = 0x70;
    pub(in super::super) const DATA: u32 = 0x80;
    pub(in super::super) const INDEX_ROOT: u32 = 0x90;
    pub(in super::super) const INDEX_ALLOCATION: u32 = 0xa0;
    pub(in super::super) const BITMAP: u32 = 0xb0;
    pub(in super::super) const REPARSE_POINT: u32 = 0xc0;
    pub(in super::super) const EA: u32 = 0xe0;
    pub(in super::super) const LOGGED_UTILITY_STREAM: u32 = 0x100;
    /// Behind the last attribute.
    pub(in super::super) const END: u32 = 0xffff_ffff;
}

/// Bits of [`Attribute::flags`].
pub(super) mod flag {
    /// Packed; the low byte says how, and LZNT1 (1) is all there is.
    pub(in super::super) const COMPRESSED: u16 = 0x00ff;
    pub(in super::super) const ENCRYPTED: u16 = 0x4000;
    pub(in super::super) const SPARSE: u16 = 0x8000;
}

/// Clusters packed together, as a power of two, that are accepted; Windows and `mkntfs` write 4.
const MAX_UNIT: u8 = 8;

/// An attribute of a file: of one in several pieces the first, which has the sizes.
#[derive(Clone, Debug)]
pub(super) struct Attribute {
    /// One of [`kind`].
    pub(super) kind: u32,
    /// Bits of [`flag`].
    pub(super) flags: u16,
    /// Its name, empty for most.
    pub(super) name: Vec<u16>,
    /// The record that it stands in.
    pub(super) record: u64,
    /// Its value.
    pub(super) body: Body,
}

/// Where an attribute's value is.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// In the record: these bytes, which begin at so many of the record.
    Resident(Bytes, usize),
    /// In clusters.
    NonResident(NonResident),
}

/// What is said of a value in clusters.
#[derive(Clone, Debug)]
pub(super) struct NonResident {
    /// The first cluster of the value that `mapping` maps.
    pub(super) first: u64,
    /// The cluster behind the last.
    pub(super) end: u64,
    /// Mapping pairs; see [`super::runs`].
    pub(super) mapping: Bytes,
    /// Clusters that are packed together, as a power of two; 0 where none are.
    pub(super) unit: u8,
    /// Bytes of clusters, holes included.
    pub(super) allocated: u64,
    /// Bytes of the value.
    pub(super) size: u64,
    /// Bytes that were ever written; the rest is zeros.
    pub(super) initialized: u64,
    /// Bytes of clusters that there are, of a sparse or packed value.
    pub(super) stored: Option<u64>,
    /// Where its mapping goes on, in the order of clusters.
    pub(super) rest: Vec<Piece>,
}

/// A further piece of an attribute's mapping: in which record it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// The first cluster that it maps.
    pub(super) first: u64,
    /// The record, with the count of its uses.
    pub(super) reference: super::record::Reference,
    /// The attribute's number there.
    pub(super) id: u16,
}

impl Attribute {
    /// Bytes of the value.
    pub(super) fn size(&self) -> u64 {
        match &self.body {
            Body::Resident(bytes, _) => wide(bytes.len()),
            Body::NonResident(body) => body.size,
        }
    }

    /// Bytes of clusters that it takes.
    pub(super) fn stored(&self) -> u64 {
        match &self.body {
            Body::Resident(..) => 0,
            Body::NonResident(body) => body.stored.unwrap_or(body.allocated),
        }
    }

    /// Is it packed by LZNT1?
    pub(super) const fn is_compressed(&self) -> bool {
        self.flags & flag::COMPRESSED != 0 && matches!(self.body, Body::NonResident(_))
    }

    /// Is it encrypted by EFS?
    pub(super) const fn is_encrypted(&self) -> bool {
        self.flags & flag::ENCRYPTED != 0
    }

    /// Is it of this type and name?
    pub(super) fn is(&self, kind: u32, name: &[u16]) -> bool {
        self.kind == kind && self.name == name
    }

    /// The value, where it stands in the record.
    pub(super) const fn resident(&self) -> Option<&Bytes> {
        match &self.body {
            Body::Resident(bytes, _) => Some(bytes),
            Body::NonResident(_) => None,
        }
    }
}

/// The attributes of a record, each read alone; ends behind the first that makes no sense.
pub(super) struct Attributes<'r> {
    record: &'r Record,
    next: usize,
}

impl<'r> Attributes<'r> {
    /// Those of a record.
    pub(super) const fn of(record: &'r Record) -> Self {
        Self { record, next: record.attributes().0 }
    }

    fn read(&self, at: usize, len: usize) -> Option<Attribute> {
        let all = self.record.bytes();
        let bytes = all.get(at..at.checked_add(len)?)?;
        let byte = |at: usize| bytes.get(at).copied();
        let name = narrow(u64::from(byte(9)?).checked_mul(2)?);
        let name_at = usize::from(get_le16(bytes, 0xa)?);
        let name = bytes.get(name_at..name_at.checked_add(name)?)?;
        let flags = get_le16(bytes, 0xc)?;
        let body = if byte(8)? == 0 {
            let (len, start) =
                (usize::try_from(get_le32(bytes, 0x10)?).ok()?, usize::from(get_le16(bytes, 0x14)?));
            bytes.get(start..start.checked_add(len)?)?;
            let start = at.checked_add(start)?;
            Body::Resident(all.slice(start..start.checked_add(len)?)?, start)
        } else {
            let first = get_le64(bytes, 0x10)?;
            // An empty value has -1 for its last cluster.
            let end = get_le64(bytes, 0x18)?.wrapping_add(1);
            let mapping = usize::from(get_le16(bytes, 0x20)?);
            let unit = byte(0x22)?;
            let sizes = [get_le64(bytes, 0x28)?, get_le64(bytes, 0x30)?, get_le64(bytes, 0x38)?];
            let [allocated, size, initialized] = sizes;
            let has_stored = flags & (flag::SPARSE | flag::COMPRESSED) != 0 && mapping >= 0x48;
            let stored = if has_stored && first == 0 { Some(get_le64(bytes, 0x40)?) } else { None };
            let is_sound = end >= first && unit <= MAX_UNIT && sizes.iter().all(|size| size >> 63 == 0);
            if !is_sound || mapping < 0x40 {
                return None;
            }
            Body::NonResident(NonResident {
                first,
                end,
                mapping: all.slice(at.checked_add(mapping)?..at.checked_add(len)?)?,
                unit,
                allocated,
                size,
                initialized: initialized.min(size),
                stored,
                rest: Vec::new(),
            })
        };
        Some(Attribute {
            kind: get_le32(bytes, 0)?,
            flags,
            name: units_le(name).collect(),
            record: self.record.number,
            body,
        })
    }
}

impl Attributes<'_> {
    /// The first of this type and number. Those before it are not looked into.
    pub(super) fn only(mut self, kind: u32, id: u16) -> Option<Result<Attribute>> {
        loop {
            let (at, len) = match self.place()? {
                Ok(place) => place,
                Err(error) => return Some(Err(error)),
            };
            let bytes = self.record.bytes();
            if get_le32(bytes, at) == Some(kind) && get_le16(bytes, at.saturating_add(0xe)) == Some(id) {
                return Some(self.attribute(at, len));
            }
        }
    }

    /// Where the next one stands, and how long it is.
    fn place(&mut self) -> Option<Result<(usize, usize)>> {
        let (at, (_, used)) = (self.next, self.record.attributes());
        let bytes = self.record.bytes();
        if at >= used || get_le32(bytes, at) == Some(kind::END) {
            return None;
        }
        let len = get_le32(bytes, at.saturating_add(4)).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|len| *len >= 0x18 && len % 8 == 0 && *len <= used.saturating_sub(at));
        self.next = len.map_or(usize::MAX, |len| at.saturating_add(len));
        Some(len.map(|len| (at, len)).ok_or_else(|| self.senseless(at)))
    }

    fn attribute(&mut self, at: usize, len: usize) -> Result<Attribute> {
        self.read(at, len).ok_or_else(|| {
            self.next = usize::MAX;
            self.senseless(at)
        })
    }

    fn senseless(&self, at: usize) -> Error {
        Error::corrupt(self.record.at()).because(format!("the attribute at its byte {at:#x} makes no sense"))
    }
}

impl Iterator for Attributes<'_> {
    type Item = Result<Attribute>;

    fn next(&mut self) -> Option<Result<Attribute>> {
        let place = self.place()?;
        Some(place.and_then(|(at, len)| self.attribute(at, len)))
    }
}
