//! `$STANDARD_INFORMATION`: times, attributes, and the number of the security descriptor.
//!
//! ```text
//! 0 created  8 modified  10 record changed  18 read   in 100 ns since 1601
//! 20 attributes  24 versions  28 flags  2c class  30 owner  34 security descriptor  38 quota  40 number in the journal
//! ```

use super::attribute::kind;
use super::file::File;
use crate::error::Result;
use crate::fs::Time;
use crate::ondisk::{get_le32, get_le64};

/// Seconds from 1601, where NTFS begins to count, to 1970.
const EPOCH: i64 = 11_644_473_600;
/// Bit of [`Standard::extra`]: as `dfir_ntfs` found it (`StandardInformation.is_case_sensitive`).
const CASE_SENSITIVE: u32 = 1;
/// Steps in a second.
const STEPS: u64 = 10_000_000;

/// Bits of [`Standard::attributes`].
pub(super) mod attribute {
    pub(in super::super) const HIDDEN: u32 = 0x2;
    pub(in super::super) const SYSTEM: u32 = 0x4;
    /// Of nothing else: `FILE_ATTRIBUTE_DIRECTORY` as programs see it.
    pub(in super::super) const IS_DIR: u32 = 0x10;
    /// That there is no other: `FILE_ATTRIBUTE_NORMAL`.
    pub(in super::super) const NORMAL: u32 = 0x80;
    pub(in super::super) const REPARSE_POINT: u32 = 0x400;
    /// What is read has to be fetched first: OFFLINE, RECALL_ON_OPEN, RECALL_ON_DATA_ACCESS.
    pub(in super::super) const RECALLED: u32 = 0x1000 | 0x4_0000 | 0x40_0000;
    /// In a `$FILE_NAME` only.
    pub(in super::super) const DIRECTORY: u32 = 0x1000_0000;
}

/// What `$STANDARD_INFORMATION` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standard {
    /// Steps of 100 ns since 1601.
    pub(super) created: u64,
    pub(super) modified: u64,
    pub(super) changed: u64,
    pub(super) accessed: u64,
    /// Bits of [`attribute`].
    pub(super) attributes: u32,
    /// The number of the security descriptor in `$Secure`; 0 in old volumes.
    pub(super) security: u32,
    /// Where version numbers were meant to stand; Windows 10 keeps flags there.
    extra: u32,
}

impl Standard {
    /// That of a file.
    ///
    /// # Errors
    /// `Corrupt` when it has none.
    pub(super) fn of(file: &File) -> Result<Self> {
        let bytes = file.need(kind::STANDARD_INFORMATION, &[], "$STANDARD_INFORMATION")?.resident();
        let bytes = bytes.map(|bytes| &**bytes).unwrap_or_default();
        let time = |at| get_le64(bytes, at).unwrap_or(0);
        Ok(Self {
            created: time(0),
            modified: time(8),
            changed: time(0x10),
            accessed: time(0x18),
            attributes: get_le32(bytes, 0x20).unwrap_or(0),
            security: get_le32(bytes, 0x34).unwrap_or(0),
            extra: get_le32(bytes, 0x28).unwrap_or(0),
        })
    }

    /// Created, modified, read, record changed: the order of ntfs-3g.
    pub(super) const fn times(&self) -> [u64; 4] {
        [self.created, self.modified, self.accessed, self.changed]
    }

    /// Are names in this directory the same only when their letters are? Since Windows 10 1803, one directory at a time.
    pub(super) const fn is_case_sensitive(&self) -> bool {
        self.extra & CASE_SENSITIVE != 0
    }
}

/// A time of NTFS.
pub(super) fn time(steps: u64) -> Time {
    let secs = i64::try_from(steps.div_euclid(STEPS)).unwrap_or(i64::MAX).saturating_sub(EPOCH);
    let nanos = u32::try_from(steps.rem_euclid(STEPS).saturating_mul(100)).unwrap_or(0);
    Time { secs, nanos }
}
