//! Extents: the parts that a disk is put together from, each of its own kind and mostly in a file of its own.

use super::super::OpenCx;
use super::super::pages::held;
use super::descriptor::ExtentLine;
use super::esx::{COWD, Esx, SESPARSE};
use super::sparse::{Markers, SECTOR, Sparse, is_sparse};
use crate::block::{BlockSource, Place, Run};
use crate::error::{At, Error, Result};
use crate::locator::Reference;
use crate::num::{narrow, wide};
use crate::text::escape;
use std::sync::Arc;

/// What to do with a disk that only VMware can read.
pub(super) const CONVERT: &str = "vmkfstools -i OLD NEW on the ESX host makes a disk that can be read";

/// What an extent is made of.
#[derive(Debug)]
pub(super) enum Kind {
    Zero,
    Flat { file: usize, offset: u64 },
    Sparse(Box<Sparse>),
    Esx(Box<Esx>),
}

/// A part of the disk.
#[derive(Debug)]
pub(super) struct Extent {
    /// Where it starts on the disk, in bytes.
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) kind: Kind,
}

/// The extents of a disk with their files, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Extents {
    pub(super) list: Vec<Extent>,
    pub(super) files: Vec<Arc<dyn BlockSource>>,
    /// Bytes of all together.
    pub(super) size: u64,
    /// Bytes of a grain; 0 if there are none.
    pub(super) grain: u64,
    pub(super) warnings: Vec<String>,
}

impl Extent {
    /// The run that starts `inside` bytes after the extent's start, with or without the markers of compressed grains.
    pub(super) fn run_at(
        &self,
        inside: u64,
        markers: Markers,
        files: &[Arc<dyn BlockSource>],
    ) -> Result<Run> {
        let left = self.len.saturating_sub(inside);
        let mut run = match &self.kind {
            Kind::Zero => Run { len: left, place: Place::Zero },
            Kind::Flat { file, offset } => {
                let host = offset.saturating_add(inside);
                let end = files.get(*file).map_or(0, |file| file.len());
                let len = held(left, host, end, &At::new("vmdk", "flat extent").index(wide(*file)))?;
                Run { len, place: Place::Stored { file: *file, offset: host } }
            }
            Kind::Sparse(sparse) => sparse.run_at(inside, self.start, markers)?,
            Kind::Esx(esx) => esx.run_at(inside)?,
        };
        run.len = run.len.min(left);
        Ok(run)
    }
}

impl Extents {
    /// Adds an extent of `len` bytes behind the others.
    pub(super) fn push(&mut self, kind: Kind, len: u64) -> Result<()> {
        let at = At::new("vmdk", "extent").index(wide(self.list.len()).saturating_add(1));
        let start = self.size;
        self.size = start
            .checked_add(len)
            .ok_or_else(|| Error::corrupt(at).because("the extents together exceed 2^64 bytes"))?;
        let (grain, warnings) = match &kind {
            Kind::Sparse(sparse) => (sparse.grain, sparse.warnings.as_slice()),
            Kind::Esx(esx) => (esx.grain.get(), esx.warnings.as_slice()),
            Kind::Zero | Kind::Flat { .. } => (self.grain, [].as_slice()),
        };
        self.grain = grain;
        self.warnings.extend_from_slice(warnings);
        if len > 0 {
            self.list.push(Extent { start, len, kind });
        }
        Ok(())
    }

    /// Adds what line `number` of the extent description names.
    ///
    /// # Errors
    /// As the gate; `Unsupported` for an access or a type that is not read; `Corrupt` when the file is of another size.
    pub(super) fn open(&mut self, line: &ExtentLine, number: u64, cx: &OpenCx<'_>) -> Result<()> {
        let at = At::new("vmdk", "extent").index(number);
        let len = line.sectors.checked_mul(SECTOR).ok_or_else(|| {
            Error::corrupt(at.clone()).because(format!("{} sectors exceed 2^64 bytes", line.sectors))
        })?;
        if !matches!(line.access.as_str(), "RW" | "RDONLY") {
            let access = escape(line.access.as_bytes());
            return Err(Error::unsupported(format!("extent {number} with access {access}")));
        }
        match line.kind.as_str() {
            "ZERO" => return self.push(Kind::Zero, len),
            "FLAT" | "VMFS" | "SPARSE" | "VMFSSPARSE" | "SESPARSE" => {}
            other => {
                let other = escape(other.as_bytes());
                let error = Error::unsupported(format!("the VMDK extent type {other} (extent {number})"));
                return Err(error.help(CONVERT));
            }
        }
        let found = cx.gate.open(cx.locator, &line.name, Reference::Extent)?;
        let file = self.files.len();
        self.files.push(Arc::clone(&found.source));
        let shown = escape(&line.name).to_string();
        if matches!(line.kind.as_str(), "FLAT" | "VMFS") {
            return self.flat(line, len, &*found.source, file, &shown, at);
        }
        let named = |error: Error| error.context(format!("extent '{shown}'"));
        let (kind, size, grain) = match Signature::of(&*found.source)? {
            Some(Signature::Hosted) => {
                let sparse = Sparse::load(found.source, file).map_err(named)?;
                let (size, grain) = (sparse.size, sparse.grain);
                (Kind::Sparse(Box::new(sparse)), size, grain)
            }
            Some(Signature::Cowd | Signature::SeSparse) => {
                let esx = Esx::load(found.source, file).map_err(named)?;
                let (size, grain) = (esx.size, esx.grain.get());
                (Kind::Esx(Box::new(esx)), size, grain)
            }
            None => {
                return Err(Error::corrupt(at).because(format!(
                    "'{shown}' is no sparse extent: it begins neither with 'KDMV' nor with 'COWD' nor with 0xcafebabe"
                )));
            }
        };
        // What follows an extent lies where the descriptor puts it; a header that promises more or less would shift it.
        if size != len && Some(size) != len.checked_next_multiple_of(grain) {
            return Err(Error::corrupt(at).because(format!(
                "'{shown}' holds {} sectors, the descriptor says {}",
                size / SECTOR,
                line.sectors
            )));
        }
        let before = self.warnings.len();
        self.push(kind, len)?;
        for warning in self.warnings.iter_mut().skip(before) {
            *warning = format!("extent '{shown}': {warning}");
        }
        Ok(())
    }

    fn flat(
        &mut self,
        line: &ExtentLine,
        len: u64,
        source: &dyn BlockSource,
        file: usize,
        shown: &str,
        at: At,
    ) -> Result<()> {
        let offset = line.offset.checked_mul(SECTOR).ok_or_else(|| {
            Error::corrupt(at).because(format!("starts at sector {} of its file", line.offset))
        })?;
        let end = offset.saturating_add(len);
        if end > source.len() {
            self.warnings.push(format!(
                "extent '{shown}' is cut off: {end} bytes are described, the file has {}",
                source.len()
            ));
        }
        self.push(Kind::Flat { file, offset }, len)
    }
}

/// The kinds of sparse extent, by their first bytes. The words of the descriptor are not trusted: hosts write `SPARSE`
/// and `VMFSSPARSE` for either of the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    Hosted,
    Cowd,
    SeSparse,
}

impl Signature {
    /// By the beginning of a file.
    pub(super) fn in_head(head: &[u8]) -> Option<Self> {
        match head {
            _ if is_sparse(head) => Some(Self::Hosted),
            _ if head.starts_with(COWD) => Some(Self::Cowd),
            _ if head.starts_with(SESPARSE) => Some(Self::SeSparse),
            _ => None,
        }
    }

    /// By the beginning of a source.
    pub(super) fn of(source: &dyn BlockSource) -> Result<Option<Self>> {
        let mut head = [0; 8];
        let head = head.get_mut(..narrow(source.len().min(8))).unwrap_or_default();
        source.read_at(head, 0)?;
        Ok(Self::in_head(head))
    }

    /// The word of VMware's for it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hosted => "sparse",
            Self::Cowd => "vmfsSparse (COWD)",
            Self::SeSparse => "seSparse",
        }
    }
}
