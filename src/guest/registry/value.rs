//! A value: a name, a type and data. Four bytes or fewer stand in the value itself, up to 16344 in a cell of their own,
//! more in several ("big data").

use super::cell::Cell;
use super::hive::Hive;
use super::name;
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::ondisk::get_le32;
use crate::text::Text;
use std::fmt;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// "Key value", without the name behind it.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    signature: [u8; 2], // 0x00 "vk"
    name_len: U16,      // 0x02 bytes
    size: U32,          // 0x04 bytes of data; IN_PLACE
    data: [u8; 4],      // 0x08 a cell, or the data
    kind: U32,          // 0x0c
    flags: U16,         // 0x10
    spare: U16,         // 0x12
}
/// Bytes before the name.
const NAME_AT: u64 = 20;
const _: () = assert!(size_of::<Raw>() == 20);

/// In `size`: the data stand in `data`.
const IN_PLACE: u32 = 1 << 31;
/// The name has one byte a character.
const COMPRESSED: u16 = 1;
/// The most data in one cell; a part of big data has as many, but for the last.
const PART: u32 = 16344;
/// From this minor version on longer data are big data.
const BIG_DATA: u32 = 4;
/// The most data that is read. Windows holds back programs that write more than a MiB; the largest values seen have some.
const MAX_DATA: u64 = 32 << 20;

/// The type of a value's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// `REG_NONE`
    None,
    /// `REG_SZ`: text.
    Sz,
    /// `REG_EXPAND_SZ`: text with `%variables%`.
    ExpandSz,
    /// `REG_BINARY`
    Binary,
    /// `REG_DWORD`
    Dword,
    /// `REG_DWORD_BIG_ENDIAN`
    DwordBigEndian,
    /// `REG_LINK`: the path of another key.
    Link,
    /// `REG_MULTI_SZ`: several texts.
    MultiSz,
    /// `REG_RESOURCE_LIST`
    ResourceList,
    /// `REG_FULL_RESOURCE_DESCRIPTOR`
    FullResourceDescriptor,
    /// `REG_RESOURCE_REQUIREMENTS_LIST`
    ResourceRequirementsList,
    /// `REG_QWORD`
    Qword,
    /// Any other, by its number: programs may have their own.
    Other(u32),
}

impl ValueKind {
    const NAMES: &[(Self, &'static str)] = &[
        (Self::None, "REG_NONE"),
        (Self::Sz, "REG_SZ"),
        (Self::ExpandSz, "REG_EXPAND_SZ"),
        (Self::Binary, "REG_BINARY"),
        (Self::Dword, "REG_DWORD"),
        (Self::DwordBigEndian, "REG_DWORD_BIG_ENDIAN"),
        (Self::Link, "REG_LINK"),
        (Self::MultiSz, "REG_MULTI_SZ"),
        (Self::ResourceList, "REG_RESOURCE_LIST"),
        (Self::FullResourceDescriptor, "REG_FULL_RESOURCE_DESCRIPTOR"),
        (Self::ResourceRequirementsList, "REG_RESOURCE_REQUIREMENTS_LIST"),
        (Self::Qword, "REG_QWORD"),
    ];

    fn new(number: u32) -> Self {
        Self::NAMES.get(narrow(number.into())).map_or(Self::Other(number), |(kind, _)| *kind)
    }

    /// Its number on disk.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Other(number) => number,
            kind => {
                (0..).zip(Self::NAMES).find(|(_, (other, _))| *other == kind).map_or(0, |(number, _)| number)
            }
        }
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(kind, _)| kind == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "type {:#x}", self.number()),
        }
    }
}

/// A value of a key.
#[derive(Clone)]
pub struct Value {
    hive: Hive,
    raw: Raw,
    name: Text,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({}, {}, {} bytes)", self.name, self.kind(), self.size())
    }
}

impl Value {
    /// The value in a cell.
    ///
    /// # Errors
    /// `Corrupt` when there is none.
    pub(super) fn load(hive: &Hive, offset: u32) -> Result<Self> {
        let bins = hive.bins();
        let cell = Cell::at(bins, offset, "key value")?;
        let bytes: [u8; size_of::<Raw>()] = cell.bytes(bins, 0)?;
        let raw: Raw = zerocopy::transmute!(bytes);
        if &raw.signature != b"vk" {
            return Err(cell.corrupt("it does not begin with vk"));
        }
        let bytes = cell.short(bins, NAME_AT, raw.name_len.get())?;
        let name = if raw.flags.get() & COMPRESSED != 0 {
            name::latin1(&bytes)
        } else {
            name::wtf8(name::units(&bytes))
        };
        Ok(Self { hive: hive.clone(), raw, name })
    }

    /// Its name; that of the default value is empty.
    #[must_use]
    pub const fn name(&self) -> &Text {
        &self.name
    }

    /// The type of its data.
    #[must_use]
    pub fn kind(&self) -> ValueKind {
        ValueKind::new(self.raw.kind.get())
    }

    /// Bytes of data.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.raw.size.get() & !IN_PLACE
    }

    /// Its data as they are.
    ///
    /// # Errors
    /// When they are damaged; `Limit` when they are longer than 32 MiB.
    pub fn data(&self) -> Result<Vec<u8>> {
        let size = self.size();
        if size == 0 {
            return Ok(Vec::new());
        }
        let cell = u32::from_le_bytes(self.raw.data);
        if self.raw.size.get() & IN_PLACE != 0 {
            let data = self.raw.data.get(..narrow(size.into())).ok_or_else(|| {
                Error::corrupt(crate::error::At::new("registry", "key value"))
                    .because(format!("{size} bytes of data in place, where 4 have room"))
            });
            return data.map(<[u8]>::to_vec);
        }
        let bins = self.hive.bins();
        let mut data = Budget::request().buffer("data of a registry value", size.into(), MAX_DATA)?;
        if size > PART && self.hive.minor_version() >= BIG_DATA {
            self.big_data(cell, &mut data)?;
        } else {
            Cell::at(bins, cell, "value data")?.read(bins, &mut data, 0)?;
        }
        Ok(data)
    }

    /// "Big data": a list of cells with a part each.
    fn big_data(&self, offset: u32, data: &mut [u8]) -> Result<()> {
        let bins = self.hive.bins();
        let cell = Cell::at(bins, offset, "big data")?;
        let head: [u8; 8] = cell.bytes(bins, 0)?;
        let [b'd', b'b', c0, c1, ..] = head else { return Err(cell.corrupt("it does not begin with db")) };
        let count = u16::from_le_bytes([c0, c1]);
        let parts = data.len().div_ceil(narrow(PART.into()));
        if parts > usize::from(count) {
            return Err(cell.corrupt(format!("{count} parts, for {} bytes of data", data.len())));
        }
        let list = Cell::at(bins, get_le32(&head, 4).unwrap_or(super::cell::NIL), "list of data parts")?;
        for (index, part) in (0..).zip(data.chunks_mut(narrow(PART.into()))) {
            let entry = list.bytes(bins, wide(index).saturating_mul(4))?;
            Cell::at(bins, u32::from_le_bytes(entry), "data part")?.read(bins, part, 0)?;
        }
        Ok(())
    }

    /// Its text, of `REG_SZ`, `REG_EXPAND_SZ` and `REG_LINK`, up to the first NUL.
    ///
    /// # Errors
    /// `Unsupported` when it is of another type; as [`Value::data`].
    pub fn text(&self) -> Result<Text> {
        if !matches!(self.kind(), ValueKind::Sz | ValueKind::ExpandSz | ValueKind::Link) {
            return Err(self.is_no("text"));
        }
        let data = self.data()?;
        Ok(name::wtf8(name::units(&data).take_while(|unit| *unit != 0)))
    }

    /// Its texts, of `REG_MULTI_SZ`: an empty one ends them. Of a type with one text, that.
    ///
    /// # Errors
    /// As [`Value::text`].
    pub fn texts(&self) -> Result<Vec<Text>> {
        if self.kind() != ValueKind::MultiSz {
            return self.text().map(|text| vec![text]);
        }
        let units: Vec<u16> = name::units(&self.data()?).collect();
        let texts = units.split(|unit| *unit == 0).take_while(|text| !text.is_empty());
        Ok(texts.map(|text| name::wtf8(text.iter().copied())).collect())
    }

    /// Its number, of `REG_DWORD`, `REG_DWORD_BIG_ENDIAN` and `REG_QWORD`.
    ///
    /// # Errors
    /// `Unsupported` when it is of another type or length; as [`Value::data`].
    pub fn number(&self) -> Result<u64> {
        let (kind, data) = (self.kind(), self.data()?);
        match (kind, data.as_slice()) {
            (ValueKind::Dword, &[a, b, c, d]) => Ok(u32::from_le_bytes([a, b, c, d]).into()),
            (ValueKind::DwordBigEndian, &[a, b, c, d]) => Ok(u32::from_be_bytes([a, b, c, d]).into()),
            (ValueKind::Qword, &[a, b, c, d, e, f, g, h]) => Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            _ => Err(self.is_no("a number")),
        }
    }

    fn is_no(&self, wanted: &str) -> Error {
        let what = format!(
            "value {} is a {} of {} bytes where {wanted} is expected",
            self.name,
            self.kind(),
            self.size()
        );
        Error::new(ErrorKind::Unsupported, what)
    }
}
