//! `$STANDARD_INFORMATION`: times, attributes, and the number of the security descriptor.
//!
//! ```text
//! 0 created  8 modified  10 record changed  18 read   in 100 ns since 1601
//! 20 attributes  24 versions  2c class  30 owner  34 security descriptor  38 quota  40 number in the journal
//! ```

use super::attribute::kind;
use super::file::File;
use crate::error::Result;
use crate::fs::Time;
use crate::ondisk::{get_le32, get_le64};

/// Seconds from 1601, where NTFS begins to count, to 1970.
const EPOCH: i64 = 11_644_473_600;
/// Steps in a second.
const STEPS: u64 = 10_000_000;

/// Bits of [`Standard::attributes`].
pub(super) mod attribute {
    pub(in super::super) const READ_ONLY: u32 = 0x1;
    pub(in super::super) const SYSTEM: u32 = 0x4;
    pub(in super::super) const SPARSE: u32 = 0x200;
    pub(in super::super) const REPARSE_POINT: u32 = 0x400;
    pub(in super::super) const COMPRESSED: u32 = 0x800;
    pub(in super::super) const ENCRYPTED: u32 = 0x4000;
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
        })
    }
}

/// A time of NTFS.
pub(super) fn time(steps: u64) -> Time {
    let secs = i64::try_from(steps.div_euclid(STEPS)).unwrap_or(i64::MAX).saturating_sub(EPOCH);
    let nanos = u32::try_from(steps.rem_euclid(STEPS).saturating_mul(100)).unwrap_or(0);
    Time { secs, nanos }
}
