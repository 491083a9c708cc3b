//! What a record of the log says was done, and how it is undone.
//!
//! ```text
//! 0x00 redo, undo   0x04 offset and length of what was written; 0x08 of what stood there before
//! 0x0c attribute    0x0e clusters listed   0x10 offset of record, 0x12 in the attribute   0x14 sector in the cluster
//! 0x18 cluster of the attribute   0x20 where these clusters lie
//! ```
//! Facts: linux-ntfs project, "$LogFile"; layouts as in the kernel's ntfs3.

use super::page::Record;
use crate::error::{At, Error, Result};
use crate::ondisk::{get_le16, get_le64};

/// Bytes before the list of clusters.
const HEAD: usize = 0x20;

/// What was done. Names and numbers are those of Windows.
pub(super) mod code {
    pub(in super::super) const NOOP: u16 = 0x00;
    pub(in super::super) const COMPENSATION: u16 = 0x01;
    pub(in super::super) const INITIALIZE_RECORD: u16 = 0x02;
    pub(in super::super) const DEALLOCATE_RECORD: u16 = 0x03;
    pub(in super::super) const WRITE_END_OF_RECORD: u16 = 0x04;
    pub(in super::super) const CREATE_ATTRIBUTE: u16 = 0x05;
    pub(in super::super) const DELETE_ATTRIBUTE: u16 = 0x06;
    pub(in super::super) const UPDATE_RESIDENT: u16 = 0x07;
    pub(in super::super) const UPDATE_NONRESIDENT: u16 = 0x08;
    pub(in super::super) const UPDATE_MAPPING: u16 = 0x09;
    pub(in super::super) const DELETE_DIRTY_CLUSTERS: u16 = 0x0a;
    pub(in super::super) const SET_SIZES: u16 = 0x0b;
    pub(in super::super) const ADD_ENTRY_ROOT: u16 = 0x0c;
    pub(in super::super) const DELETE_ENTRY_ROOT: u16 = 0x0d;
    pub(in super::super) const ADD_ENTRY_BLOCK: u16 = 0x0e;
    pub(in super::super) const DELETE_ENTRY_BLOCK: u16 = 0x0f;
    pub(in super::super) const WRITE_END_OF_BLOCK: u16 = 0x10;
    pub(in super::super) const SET_CHILD_ROOT: u16 = 0x11;
    pub(in super::super) const SET_CHILD_BLOCK: u16 = 0x12;
    pub(in super::super) const UPDATE_NAME_ROOT: u16 = 0x13;
    pub(in super::super) const UPDATE_NAME_BLOCK: u16 = 0x14;
    pub(in super::super) const SET_BITS: u16 = 0x15;
    pub(in super::super) const CLEAR_BITS: u16 = 0x16;
    pub(in super::super) const END_TOP_LEVEL: u16 = 0x18;
    pub(in super::super) const PREPARE: u16 = 0x19;
    pub(in super::super) const COMMIT: u16 = 0x1a;
    pub(in super::super) const FORGET: u16 = 0x1b;
    pub(in super::super) const OPEN_ATTRIBUTE: u16 = 0x1c;
    pub(in super::super) const DUMP_OPEN: u16 = 0x1d;
    pub(in super::super) const DUMP_NAMES: u16 = 0x1e;
    pub(in super::super) const DUMP_DIRTY: u16 = 0x1f;
    pub(in super::super) const DUMP_TRANSACTIONS: u16 = 0x20;
    pub(in super::super) const UPDATE_DATA_ROOT: u16 = 0x21;
    pub(in super::super) const UPDATE_DATA_BLOCK: u16 = 0x22;
    pub(in super::super) const ZERO_END_OF_RECORD: u16 = 0x25;
}

/// Windows's name of an operation.
pub(super) fn name(code: u16) -> &'static str {
    const NAMES: [&str; 38] = [
        "Noop",
        "CompensationLogRecord",
        "InitializeFileRecordSegment",
        "DeallocateFileRecordSegment",
        "WriteEndOfFileRecordSegment",
        "CreateAttribute",
        "DeleteAttribute",
        "UpdateResidentValue",
        "UpdateNonresidentValue",
        "UpdateMappingPairs",
        "DeleteDirtyClusters",
        "SetNewAttributeSizes",
        "AddIndexEntryRoot",
        "DeleteIndexEntryRoot",
        "AddIndexEntryAllocation",
        "DeleteIndexEntryAllocation",
        "WriteEndOfIndexBuffer",
        "SetIndexEntryVcnRoot",
        "SetIndexEntryVcnAllocation",
        "UpdateFileNameRoot",
        "UpdateFileNameAllocation",
        "SetBitsInNonresidentBitMap",
        "ClearBitsInNonresidentBitMap",
        "HotFix",
        "EndTopLevelAction",
        "PrepareTransaction",
        "CommitTransaction",
        "ForgetTransaction",
        "OpenNonresidentAttribute",
        "OpenAttributeTableDump",
        "AttributeNamesDump",
        "DirtyPageTableDump",
        "TransactionTableDump",
        "UpdateRecordDataRoot",
        "UpdateRecordDataAllocation",
        "UpdateRelativeDataInIndex",
        "UpdateRelativeDataInIndex2",
        "ZeroEndOfFileRecord",
    ];
    NAMES.get(usize::from(code)).copied().unwrap_or("an operation without a name")
}

/// What an operation is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Nothing on the volume.
    Nothing,
    /// A record of the MFT.
    Record,
    /// A block of an index.
    Block,
    /// Bytes of a value in clusters: those of a block where the value is an index.
    Bytes,
    /// Bits of a value in clusters.
    Bits,
}

/// What an operation is done to; `None` for one whose effect is not known to us.
pub(super) fn target(operation: u16) -> Option<Target> {
    Some(match operation {
        code::INITIALIZE_RECORD
        | code::DEALLOCATE_RECORD
        | code::WRITE_END_OF_RECORD
        | code::CREATE_ATTRIBUTE
        | code::DELETE_ATTRIBUTE
        | code::UPDATE_RESIDENT
        | code::UPDATE_MAPPING
        | code::SET_SIZES
        | code::ADD_ENTRY_ROOT
        | code::DELETE_ENTRY_ROOT
        | code::SET_CHILD_ROOT
        | code::UPDATE_NAME_ROOT
        | code::UPDATE_DATA_ROOT
        | code::ZERO_END_OF_RECORD => Target::Record,
        code::ADD_ENTRY_BLOCK
        | code::DELETE_ENTRY_BLOCK
        | code::WRITE_END_OF_BLOCK
        | code::SET_CHILD_BLOCK
        | code::UPDATE_NAME_BLOCK
        | code::UPDATE_DATA_BLOCK => Target::Block,
        code::UPDATE_NONRESIDENT => Target::Bytes,
        code::SET_BITS | code::CLEAR_BITS => Target::Bits,
        code::NOOP
        | code::COMPENSATION
        | code::DELETE_DIRTY_CLUSTERS
        | code::END_TOP_LEVEL
        | code::PREPARE
        | code::COMMIT
        | code::FORGET
        | code::OPEN_ATTRIBUTE
        | code::DUMP_OPEN
        | code::DUMP_NAMES
        | code::DUMP_DIRTY
        | code::DUMP_TRANSACTIONS => Target::Nothing,
        _ => return None,
    })
}

/// Bytes that were written, or stood there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Data<'r> {
    /// Those that are in the log.
    pub(super) bytes: &'r [u8],
    /// How many they were; the log leaves out the content of small files, and zeros stand for it.
    pub(super) len: usize,
}

/// A record of the log that a client made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation<'r> {
    record: &'r Record,
}

impl<'r> Operation<'r> {
    /// What a record says.
    ///
    /// # Errors
    /// `Corrupt` when it ends too early.
    pub(super) fn of(record: &'r Record) -> Result<Self> {
        let operation = Self { record };
        if record.body.len() < HEAD.saturating_add(operation.listed().saturating_mul(8)) {
            return Err(operation.bad(format!("ends after {} bytes", record.body.len())));
        }
        Ok(operation)
    }

    /// An error about it.
    pub(super) fn bad(&self, why: impl Into<String>) -> Error {
        Error::corrupt(At::new("ntfs", "record of $LogFile").index(self.record.lsn)).because(why)
    }

    pub(super) const fn lsn(&self) -> u64 {
        self.record.lsn
    }

    fn half(&self, at: usize) -> u16 {
        get_le16(&self.record.body, at).unwrap_or(0)
    }

    pub(super) fn redo(&self) -> u16 {
        self.half(0x00)
    }

    pub(super) fn undo(&self) -> u16 {
        self.half(0x02)
    }

    fn data(&self, at: usize) -> Data<'r> {
        let (start, len) = (usize::from(self.half(at)), usize::from(self.half(at.saturating_add(2))));
        let there = self.record.body.get(start..).unwrap_or_default();
        Data { bytes: there.get(..len).unwrap_or(there), len }
    }

    /// What was written.
    pub(super) fn redone(&self) -> Data<'r> {
        self.data(0x04)
    }

    /// What stood there before.
    pub(super) fn undone(&self) -> Data<'r> {
        self.data(0x08)
    }

    /// Does the operation change how long a value is?
    pub(super) fn resizes(&self) -> bool {
        self.half(0x06) != self.half(0x0a)
    }

    /// The attribute, by its place in the table of open ones.
    pub(super) fn attribute(&self) -> u16 {
        self.half(0x0c)
    }

    /// How many clusters are listed.
    pub(super) fn listed(&self) -> usize {
        usize::from(self.half(0x0e))
    }

    /// Of a record, where its attribute begins; else where in the sector the target begins.
    pub(super) fn offset(&self) -> usize {
        usize::from(self.half(0x10))
    }

    /// Where in the attribute, or the block.
    pub(super) fn inner(&self) -> usize {
        usize::from(self.half(0x12))
    }

    /// The byte in the first cluster where the target begins.
    pub(super) fn in_cluster(&self) -> u64 {
        u64::from(self.half(0x14)).saturating_mul(512)
    }

    /// The first cluster of the attribute that is touched.
    pub(super) fn cluster(&self) -> u64 {
        get_le64(&self.record.body, 0x18).unwrap_or(0)
    }

    /// Where the clusters lie.
    pub(super) fn clusters(&self) -> impl Iterator<Item = u64> + use<'r> {
        let list = self.record.body.get(HEAD..).unwrap_or_default();
        list.chunks_exact(8).take(self.listed()).map(|entry| get_le64(entry, 0).unwrap_or(0))
    }
}
