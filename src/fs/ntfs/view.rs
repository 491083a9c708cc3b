//! View indexes: trees like those of directories, of other keys than names, whose entries have data of their own instead of
//! leading to a file. `$Secure`, `$ObjId`, `$Quota` and `$Reparse` have such.
//!
//! ```text
//! entry   0 data at   2 their length   8 length   a key length   c flags   10 key ... data
//! ```

use super::file::File;
use super::volume::Volume;
use crate::error::Result;
use crate::ondisk::get_le16;
use std::cmp::Ordering;
use std::ops::ControlFlow;

impl Volume {
    /// The data of the entry of `index` that `order`, which compares a key with what is looked for, takes for equal.
    ///
    /// # Errors
    /// When the index is damaged where the entry would stand.
    pub(super) fn view(
        &self,
        file: &File,
        index: &str,
        order: &dyn Fn(&[u8]) -> Ordering,
    ) -> Result<Option<Vec<u8>>> {
        let mut found = None;
        self.seek(file, index, order, &mut |entry| {
            found = data(entry.bytes).map(<[u8]>::to_vec);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }
}

/// The data of an entry.
fn data(entry: &[u8]) -> Option<&[u8]> {
    let (at, len) = (get_le16(entry, 0)?, get_le16(entry, 2)?);
    entry.get(usize::from(at)..)?.get(..usize::from(len))
}
