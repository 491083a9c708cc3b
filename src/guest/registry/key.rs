//! A key: a name, a list of subkeys and a list of values.

use super::cell::{Cell, NIL};
use super::hive::Hive;
use super::list::Leaves;
use super::value::Value;
use super::{at, name, offset_in_file};
use crate::budget::{Budget, Limits};
use crate::error::{Error, Result};
use crate::text::Text;
use std::collections::HashSet;
use std::fmt;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, KnownLayout, Unaligned};

/// "Key node", without the name behind it.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Node {
    signature: [u8; 2], // 0x00 "nk"
    flags: U16,         // 0x02
    written: U64,       // 0x04 FILETIME
    access: U32,        // 0x0c
    parent: U32,        // 0x10 cell
    subkeys: U32,       // 0x14 how many
    volatile: U32,      // 0x18
    list: U32,          // 0x1c cell of their list
    volatile_list: U32, // 0x20
    values: U32,        // 0x24 how many
    values_list: U32,   // 0x28 cell of their list
    security: U32,      // 0x2c cell
    class: U32,         // 0x30 cell
    largest: [U32; 4],  // 0x34 sizes below it
    work: U32,          // 0x44
    name_len: U16,      // 0x48 bytes
    class_len: U16,     // 0x4a bytes
}
/// Bytes before the name.
const NAME_AT: u64 = 76;
const _: () = assert!(size_of::<Node>() == 76);

/// It leads to another key, which its value `SymbolicLinkValue` names.
const LINK: u16 = 0x10;
/// The name has one byte a character.
const COMPRESSED: u16 = 0x20;
/// Its number of values is a handle: it has none.
const PREDEFINED: u16 = 0x40;

/// The smallest cell that a value fits in: no hive has room for more.
const VALUE_CELL: u64 = 24;
/// Offsets read at once from a list.
const CHUNK: u32 = 512;

/// A key of a hive.
#[derive(Clone)]
pub struct Key {
    hive: Hive,
    offset: u32,
    node: Node,
    name: Text,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} at {:#x})", self.name, self.offset)
    }
}

impl Key {
    /// The key in a cell, if it is a subkey of the key in cell `parent`; the root has none. So no key stands below itself,
    /// nor in two places.
    ///
    /// # Errors
    /// `Corrupt` when there is none.
    pub(super) fn load(hive: &Hive, offset: u32, parent: Option<u32>) -> Result<Self> {
        let bins = hive.bins();
        let cell = Cell::at(bins, offset, "key node")?;
        let bytes: [u8; size_of::<Node>()] = cell.bytes(bins, 0)?;
        let node: Node = zerocopy::transmute!(bytes);
        if &node.signature != b"nk" {
            return Err(cell.corrupt("it does not begin with nk"));
        }
        if let Some(parent) = parent.filter(|parent| *parent != node.parent.get()) {
            let (own, other) = (offset_in_file(parent), offset_in_file(node.parent.get()));
            return Err(
                cell.corrupt(format!("a subkey of the key at byte {own:#x} says it is one of {other:#x}"))
            );
        }
        let bytes = cell.short(bins, NAME_AT, node.name_len.get())?;
        let name = if node.flags.get() & COMPRESSED != 0 {
            name::latin1(&bytes)
        } else {
            name::wtf8(name::units(&bytes))
        };
        Ok(Self { hive: hive.clone(), offset, node, name })
    }

    /// Its name; the root's is not part of any path.
    #[must_use]
    pub const fn name(&self) -> &Text {
        &self.name
    }

    /// When it was written last, in units of 100 ns since 1601.
    #[must_use]
    pub const fn last_written(&self) -> u64 {
        self.node.written.get()
    }

    /// Does it stand for another key, which its value `SymbolicLinkValue` names?
    #[must_use]
    pub const fn is_link(&self) -> bool {
        self.node.flags.get() & LINK != 0
    }

    /// Its class name, which few keys have.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn class(&self) -> Result<Option<Text>> {
        let (offset, len) = (self.node.class.get(), self.node.class_len.get());
        if offset == NIL || len == 0 {
            return Ok(None);
        }
        let bins = self.hive.bins();
        let bytes = Cell::at(bins, offset, "class name")?.short(bins, 0, len)?;
        Ok(Some(name::wtf8(name::units(&bytes))))
    }

    /// Its subkeys, in the hive's order: sorted by their names in upper case. A damaged one is an error in its place.
    #[must_use]
    pub fn subkeys(&self) -> Subkeys {
        Subkeys {
            leaves: self.leaves(),
            seen: HashSet::new(),
            budget: Budget::new(Limits::LISTING),
            key: self.clone(),
        }
    }

    /// The subkey of a name. Upper and lower case are the same.
    ///
    /// # Errors
    /// When none was found and part of the list is damaged, so that it may be there.
    pub fn subkey(&self, name: &str) -> Result<Option<Self>> {
        let budget = Budget::request();
        let mut doubt = None;
        for entry in self.leaves() {
            budget.step("registry subkeys")?;
            let found = match entry {
                Ok(entry) if !entry.may_be(name) => continue,
                Ok(entry) => Self::load(&self.hive, entry.offset, Some(self.offset)),
                Err(error) => Err(error),
            };
            match found {
                Ok(key) if name::is_same(key.name.as_bytes(), name.as_bytes()) => return Ok(Some(key)),
                Ok(_) => {}
                Err(error) => doubt = doubt.or(Some(error)),
            }
        }
        doubt.map_or(Ok(None), Err)
    }

    /// Its values, in the hive's order, which is that of their making. A damaged one is an error in its place.
    #[must_use]
    pub fn values(&self) -> Values {
        Values {
            hive: self.hive.clone(),
            list: self.node.values_list.get(),
            count: self.value_count(),
            next: 0,
            chunk: Vec::new(),
            budget: Budget::new(Limits::LISTING),
        }
    }

    /// The value of a name; the default value has none (`""`). Upper and lower case are the same.
    ///
    /// # Errors
    /// When none was found and one that is damaged may be it.
    pub fn value(&self, name: &str) -> Result<Option<Value>> {
        let mut values = self.values();
        values.budget = Budget::request();
        let mut doubt = None;
        for value in values {
            match value {
                Ok(value) if name::is_same(value.name().as_bytes(), name.as_bytes()) => {
                    return Ok(Some(value));
                }
                Ok(_) => {}
                Err(error) => doubt = doubt.or(Some(error)),
            }
        }
        doubt.map_or(Ok(None), Err)
    }

    fn leaves(&self) -> Leaves {
        Leaves::new(&self.hive, self.node.list.get(), self.node.subkeys.get())
    }

    fn value_count(&self) -> u32 {
        if self.node.flags.get() & PREDEFINED != 0 { 0 } else { self.node.values.get() }
    }
}

/// The subkeys of a key; see [`Key::subkeys`].
#[derive(Debug)]
pub struct Subkeys {
    key: Key,
    leaves: Leaves,
    /// The cells of those that were listed.
    seen: HashSet<u32>,
    budget: Budget,
}

impl Iterator for Subkeys {
    type Item = Result<Key>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.budget.step("registry subkeys") {
            return self.leaves.stop().then_some(Err(error));
        }
        let entry = self.leaves.next()?;
        Some(entry.and_then(|entry| {
            if !self.seen.insert(entry.offset) {
                return Err(Error::corrupt(at("key node", entry.offset)).because("its parent lists it twice"));
            }
            Key::load(&self.key.hive, entry.offset, Some(self.key.offset))
        }))
    }
}

/// The values of a key; see [`Key::values`].
#[derive(Debug)]
pub struct Values {
    hive: Hive,
    list: u32,
    count: u32,
    next: u32,
    /// Offsets that were read from the list, the next one last.
    chunk: Vec<u32>,
    budget: Budget,
}

impl Values {
    /// The offset of the next value.
    fn offset(&mut self) -> Result<u32> {
        self.budget.step("registry values")?;
        if let Some(offset) = self.chunk.pop() {
            return Ok(offset);
        }
        let bins = self.hive.bins();
        let cell = Cell::at(bins, self.list, "list of values")?;
        if u64::from(self.count) > self.hive.room(VALUE_CELL).min(cell.len / 4) {
            return Err(cell.corrupt(format!("{} values in {} bytes", self.count, cell.len)));
        }
        let count = self.count.saturating_sub(self.next).min(CHUNK);
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0).saturating_mul(4)];
        cell.read(bins, &mut bytes, u64::from(self.next).saturating_mul(4))?;
        let offsets = bytes.chunks_exact(4).filter_map(|entry| entry.first_chunk().copied());
        self.chunk = offsets.map(u32::from_le_bytes).rev().collect();
        self.chunk.pop().ok_or_else(|| Error::corrupt(at("list of values", self.list)))
    }
}

impl Iterator for Values {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.count {
            return None;
        }
        let offset = self.offset();
        self.next = self.next.saturating_add(1);
        if offset.is_err() {
            // Without its list there are no more of them.
            self.next = self.count;
        }
        Some(offset.and_then(|offset| Value::load(&self.hive, offset)))
    }
}
