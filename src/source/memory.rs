//! Bytes in memory, for embedded samples and tests.

use crate::block::{BlockSource, check_range};
use crate::error::Result;
use crate::num::{narrow, wide};
use std::fmt;

/// Bytes in memory.
#[derive(Clone)]
pub struct Memory {
    bytes: Vec<u8>,
    label: String,
}

impl Memory {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>, label: impl Into<String>) -> Self {
        Self { bytes: bytes.into(), label: label.into() }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({}, {} bytes)", self.label, self.bytes.len())
    }
}

impl BlockSource for Memory {
    fn len(&self) -> u64 {
        wide(self.bytes.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        if let Some(from) = self.bytes.get(narrow(offset)..).and_then(|rest| rest.get(..buf.len())) {
            buf.copy_from_slice(from);
        }
        Ok(())
    }

    fn label(&self) -> String {
        self.label.clone()
    }
}
