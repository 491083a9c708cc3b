//! The plain volume: where each of its bytes comes from.
//!
//! ```text
//! Windows 7 and later      front │ ...... │ metadata │ front's place │ ..... │ not yet encrypted
//!                            │       │         │            │            │            └─ as stored
//!                            │       └ decrypted ── zeros ── zeros ── decrypted
//!                            └─ decrypted from its place
//! Vista                    boot sector, mended │ 15 sectors as stored │ decrypted, but for the metadata: zeros
//! ```
//! So do BitLocker itself, libbde and dislocker show it; Windows keeps files of zeros over what is shown as zeros.

use super::boot::{Boot, Maker, SIGNATURE};
use super::entry::bad;
use super::metadata::Metadata;
use crate::block::{BlockSource, Layout, Place, Run, check_range};
use crate::crypt::cipher::{Cipher, whole_sectors};
use crate::crypt::source::{Decrypted, Region};
use crate::error::Result;
use crate::num::{narrow, wide};
use std::sync::Arc;

/// The sources of a [`Plain`], by their place among its files.
const DECRYPTED: usize = 0;
const STORED: usize = 1;
const FIRST: usize = 2;
const LAST: usize = 3;
/// Sectors at the start of a volume of Vista that stay as they are.
const VISTA_FRONT: u64 = 16;

/// The plain volume.
#[derive(Debug)]
pub struct Plain {
    files: Vec<Arc<dyn BlockSource>>,
    /// First bytes of the pieces, ascending, and where each is.
    pieces: Vec<(u64, Place)>,
    size: u64,
    sector: u32,
}

/// What decides where a byte comes from.
struct Plan<'a> {
    sector: u64,
    size: u64,
    /// Bytes that are encrypted.
    encrypted: u64,
    metadata: &'a Metadata,
    is_vista: bool,
    /// The last sector is, as the first, one of Vista's own making.
    last: Option<u64>,
}

impl Plain {
    /// The volume under its cipher.
    ///
    /// # Errors
    /// `Corrupt` when the metadata describe a volume that cannot be; what reading it reports.
    pub(super) fn new(
        source: &Arc<dyn BlockSource>,
        boot: &Boot,
        metadata: &Metadata,
        cipher: Cipher,
    ) -> Result<Self> {
        let size = whole_sectors(source.len(), boot.sector);
        let sector = u64::from(boot.sector);
        let is_vista = matches!(boot.maker, Maker::Vista { .. });
        let (from, len) = metadata.front;
        let numbers = [metadata.encrypted, from, len].into_iter().chain(metadata.copies);
        if let Some(odd) = numbers.into_iter().find(|number| !number.is_multiple_of(sector)) {
            return Err(bad(format!("{odd} bytes, in sectors of {sector}")));
        }
        if from.checked_add(len).is_none_or(|end| end > size) {
            return Err(bad(format!("the volume's front in bytes {from} to {}", from.saturating_add(len))));
        }
        let mut files: Vec<Arc<dyn BlockSource>> = Vec::new();
        let region = Region { start: 0, len: size, sector: boot.sector, first: 0 };
        files.push(Arc::new(Decrypted::new(Arc::clone(source), region, cipher)?));
        files.push(Arc::clone(source));
        let mut last = None;
        if let Maker::Vista { size: named, .. } = boot.maker {
            files.push(Arc::new(mended(&**source, 0, boot.sector, metadata.mirror)?));
            // The copy of the boot sector behind the file system is of the same making on some volumes.
            if named.checked_add(sector).is_some_and(|end| end <= size) {
                let copy = mended(&**source, named, boot.sector, metadata.mirror)?;
                if copy.was_locked {
                    files.push(Arc::new(copy));
                    last = Some(named);
                }
            }
        }
        let encrypted = if is_vista { size } else { metadata.encrypted.min(size) };
        let plan = Plan { sector, size, encrypted, metadata, is_vista, last };
        Ok(Self { files, pieces: plan.pieces(), size, sector: boot.sector })
    }
}

impl Plan<'_> {
    /// Every piece: its first byte, and where that is.
    fn pieces(&self) -> Vec<(u64, Place)> {
        let (from, len) = self.metadata.front;
        let mut starts = vec![0, self.encrypted, len, from, from.saturating_add(len)];
        // Where the front's place is encrypted in part.
        starts.push(self.encrypted.saturating_sub(from).min(len));
        for copy in self.metadata.copies {
            starts.extend([copy, copy.saturating_add(self.metadata.copy)]);
        }
        if self.is_vista {
            starts.extend([self.sector, self.sector.saturating_mul(VISTA_FRONT)]);
        }
        starts.extend(self.last.into_iter().flat_map(|last| [last, last.saturating_add(self.sector)]));
        starts.retain(|start| *start < self.size);
        starts.sort_unstable();
        starts.dedup();
        starts.into_iter().map(|start| (start, self.place(start))).collect()
    }

    fn place(&self, offset: u64) -> Place {
        let is_in = |(start, len): (u64, u64)| offset.checked_sub(start).is_some_and(|skip| skip < len);
        let (from, len) = self.metadata.front;
        let hidden = self.metadata.copies.map(|copy| (copy, self.metadata.copy));
        if hidden.into_iter().chain([(from, len)]).any(is_in) {
            return Place::Zero;
        }
        let stored = |offset: u64| {
            let file = if offset < self.encrypted { DECRYPTED } else { STORED };
            Place::Stored { file, offset }
        };
        if offset < len {
            return stored(from.saturating_add(offset));
        }
        if self.is_vista && offset < self.sector {
            return Place::Stored { file: FIRST, offset: 0 };
        }
        if self.is_vista && offset < self.sector.saturating_mul(VISTA_FRONT) {
            return Place::Stored { file: STORED, offset };
        }
        if self.last == Some(offset) {
            return Place::Stored { file: LAST, offset: 0 };
        }
        stored(offset)
    }
}

impl Layout for Plain {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let behind = self.pieces.partition_point(|(start, _)| *start <= offset);
        let end = self.pieces.get(behind).map_or(self.size, |(start, _)| *start);
        let piece = behind.checked_sub(1).and_then(|at| self.pieces.get(at)).copied();
        let (start, place) = piece.ok_or_else(|| bad("a volume without pieces"))?;
        let skip = offset.saturating_sub(start);
        let place = match place {
            Place::Stored { file, offset } => Place::Stored { file, offset: offset.saturating_add(skip) },
            other => other,
        };
        Ok(Run { len: end.saturating_sub(offset), place })
    }

    fn unit_size(&self) -> u32 {
        self.sector
    }
}

/// A boot sector that Vista has changed, as it was.
#[derive(Debug)]
struct Mended {
    bytes: Vec<u8>,
    /// There was something to mend.
    was_locked: bool,
}

/// Reads the boot sector at `offset` and takes back what Vista changes in it: its signature, and the cluster of the MFT's
/// copy, in whose place that of the metadata stands.
fn mended(source: &dyn BlockSource, offset: u64, sector: u32, mirror: u64) -> Result<Mended> {
    let mut bytes = vec![0; narrow(sector.into())];
    source.read_at(&mut bytes, offset)?;
    let was_locked = bytes.get(3..).is_some_and(|rest| rest.starts_with(SIGNATURE));
    let mut put = |at: usize, new: &[u8; 8]| {
        bytes.iter_mut().skip(at).zip(new).for_each(|(byte, new)| *byte = *new);
    };
    put(3, b"NTFS    ");
    put(56, &mirror.to_le_bytes());
    Ok(Mended { bytes, was_locked })
}

impl BlockSource for Mended {
    fn len(&self) -> u64 {
        wide(self.bytes.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        buf.iter_mut().zip(self.bytes.iter().skip(narrow(offset))).for_each(|(to, byte)| *to = *byte);
        Ok(())
    }
}
