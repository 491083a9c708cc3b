//! The registry of a Windows guest that is not running: hives, read as Windows would read them after the next start.
//!
//! ```text
//! SYSTEM ── base block        name, version, sequence numbers: was it written to the end?      base
//!        └─ bins ── cells     everything below is a cell, and cells point at cells             bins, cell
//!                   ├─ nk     a key ── its name and when it was written                        key
//!                   │         ├─ li lf lh ri   the list of its subkeys                         list
//!                   │         └─ list of vk    its values ── name, type, data (db: long data)  value
//!                   └─ sk     who may use a key; not read
//! SYSTEM.LOG, .LOG1, .LOG2    what a hive that was not written to the end lacks; laid over it  log
//! ```
//! The format: "Windows registry file format specification" by Maxim Suhanov. A hive may be hundreds of MiB and is never
//! read whole; a bad cell costs what points at it and nothing else. The running system's own keys (`CurrentControlSet`,
//! hives mounted in hives) are in no file: a path starts at the hive's root, as in `ControlSet001\Services`.

mod base;
mod bins;
mod cell;
mod file;
mod hive;
mod key;
mod list;
mod log;
mod name;
mod value;

pub use file::{Bytes, File, load};
pub use hive::{Hive, Logs, Replayed};
pub use key::{Key, Subkeys, Values};
pub use value::{Value, ValueKind};

use crate::error::At;

/// A structure of a hive. Offsets of cells are counted from the first bin; in the file they lie 4 KiB further on.
const fn at(structure: &'static str, offset: u32) -> At {
    At::new("registry", structure).byte(offset_in_file(offset))
}

/// Where in the hive's file a cell lies.
#[expect(clippy::as_conversions, reason = "u32 to u64, where From is not const")]
const fn offset_in_file(offset: u32) -> u64 {
    (offset as u64).saturating_add(base::SIZE)
}
