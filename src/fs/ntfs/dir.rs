//! Directories: indexes of names.

use super::record::Reference;
use super::volume::Volume;
use crate::error::{Error, Result};

impl Volume {
    /// The file called `name` in a directory: by exactly this name if there is one, else by one that differs in case.
    ///
    /// # Errors
    /// When the directory is damaged where the name would stand.
    pub(super) fn child(&self, _dir: u64, _name: &[u16]) -> Result<Option<Reference>> {
        Err(Error::unsupported("an index"))
    }
}
