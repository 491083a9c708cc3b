//! A blob: the header of one package as a database keeps it, fetched piece by piece as far as somebody asks. A name
//! stands in the first kilobyte, the list of files may be megabytes.

use super::LAYER;
use crate::error::{At, Error, Result};
use crate::num::wide;

/// The most bytes of a header that are fetched. rpm itself refuses what is longer than 256 MiB; the header of a kernel
/// has some 4 MiB.
const MAX: u64 = 64 << 20;

/// Gives the next piece, or `None` at the end.
type More<'a> = Box<dyn FnMut() -> Result<Option<Vec<u8>>> + 'a>;

/// One header's bytes.
pub(super) struct Blob<'a> {
    len: u64,
    have: Vec<u8>,
    more: More<'a>,
}

impl<'a> Blob<'a> {
    /// Of `len` bytes, with those that are known already.
    pub(super) fn new(len: u64, have: Vec<u8>, more: More<'a>) -> Self {
        Self { len, have, more }
    }

    /// How many bytes the database says that it has.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Its first `want` bytes.
    ///
    /// # Errors
    /// `Corrupt` when it has fewer, `Limit` when they are too many.
    pub(super) fn first(&mut self, want: u64) -> Result<&[u8]> {
        let at = || At::new(LAYER, "header");
        if want > self.len {
            let why = format!("{want} bytes are needed, it has {}", self.len);
            return Err(Error::corrupt(at()).because(why));
        }
        if want > MAX {
            return Err(Error::limit(format!("a header of {want} bytes; at most {MAX} are read")));
        }
        while wide(self.have.len()) < want {
            let piece = (self.more)()?.filter(|piece| !piece.is_empty());
            let Some(piece) = piece else {
                let why = format!("{} bytes, but its pages end after {}", self.len, self.have.len());
                return Err(Error::corrupt(at()).because(why));
            };
            self.have.extend_from_slice(&piece);
        }
        let want = crate::num::narrow(want);
        Ok(self.have.get(..want).unwrap_or_default())
    }

    /// What has been fetched so far.
    pub(super) fn fetched(&self) -> &[u8] {
        &self.have
    }

    /// As many of the first `want` bytes as it has.
    ///
    /// # Errors
    /// As [`Blob::first`].
    pub(super) fn at_most(&mut self, want: u64) -> Result<&[u8]> {
        self.first(want.min(self.len))
    }
}
