//! The engine: makes a readable source of any [`Layout`]. The one place where guest data is read.
//!
//! ```text
//! read_at(buf, X) ─▶ layout.run_at(X) ─▶ Stored → files[i].read_at   (neighbouring runs joined into one read)
//!                                     ├▶ Packed → cache → unpack     (single flight)
//!                                     ├▶ Zero, Hole → zeros
//!                                     └▶ Parent → the layer below, zeros past its end
//! ```

use crate::block::{Below, BlockSource, Extent, Layout, Place, Run, Step, check_range};
use crate::cache::{Cache, Key};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use std::sync::Arc;

/// A packed unit longer than this is refused: the largest unit of any format (a qcow2 cluster, 2 MiB), doubled and
/// then some for formats whose packed form may exceed the plain one.
const MAX_STORED: u64 = 64 << 20;

/// Runs looked at to answer one [`BlockSource::extent`]; a client asks again for the rest.
const EXTENT_RUNS: u32 = 4096;

/// Turns layouts into sources that share one cache.
#[derive(Clone, Debug)]
pub struct Mapper {
    cache: Arc<Cache>,
}

impl Mapper {
    /// With the process's cache.
    #[must_use]
    pub fn new(cache: Arc<Cache>) -> Self {
        Self { cache }
    }

    /// The layout as a source.
    pub fn map(&self, layout: impl Layout + 'static) -> Arc<dyn BlockSource> {
        Arc::new(Mapped { owner: self.cache.new_owner(), cache: Arc::clone(&self.cache), layout })
    }
}

/// A layout that can be read. See the module's picture.
#[derive(Debug)]
pub struct Mapped<L> {
    layout: L,
    cache: Arc<Cache>,
    owner: u64,
}

impl<L: Layout> Mapped<L> {
    fn file(&self, file: usize) -> Result<&Arc<dyn BlockSource>> {
        self.layout.files().get(file).ok_or_else(|| {
            Error::corrupt(At::new("layout", "file").index(wide(file))).because("no such file")
        })
    }

    /// A run that makes progress, or the driver's fault as an error instead of an endless loop.
    fn run(&self, offset: u64) -> Result<Run> {
        self.advancing(offset, self.layout.run_at(offset)?)
    }

    fn advancing(&self, offset: u64, mut run: Run) -> Result<Run> {
        run.len = run.len.min(self.layout.size().saturating_sub(offset));
        if run.len == 0 {
            return Err(Error::corrupt(At::new("layout", "run").byte(offset)).because("a run of no bytes"));
        }
        Ok(run)
    }

    fn read_packed(&self, buf: &mut [u8], place: Place) -> Result<()> {
        let Place::Packed { file, offset, stored, unit, skip } = place else { return Ok(()) };
        let unpacked = self.cache.get_or_load(Key { owner: self.owner, unit }, || {
            if stored > MAX_STORED {
                return Err(Error::limit(format!(
                    "packed unit {unit}: {stored} bytes, at most {MAX_STORED} are accepted"
                )));
            }
            let mut bytes = vec![0; narrow(stored)];
            self.file(file)?.read_at(&mut bytes, offset)?;
            self.layout.unpack(&bytes, unit)
        })?;
        let part = unpacked.get(narrow(skip)..).and_then(|rest| rest.get(..buf.len()));
        let part = part.ok_or_else(|| {
            Error::corrupt(At::new("layout", "packed unit").index(unit).byte(offset))
                .because("shorter than its place")
        })?;
        buf.copy_from_slice(part);
        Ok(())
    }

    fn read_parent(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let Some(parent) = self.layout.parent() else {
            return Err(Error::corrupt(At::new("layout", "run").byte(offset))
                .because("refers to a parent that the image does not have"));
        };
        // An overlay may be larger than what it overlays: past the parent's end it reads as zero (qcow2 specification, "Backing file").
        let inside = narrow(parent.len().saturating_sub(offset)).min(buf.len());
        let (from_parent, past) = buf.split_at_mut(inside);
        past.fill(0);
        if from_parent.is_empty() { Ok(()) } else { parent.read_at(from_parent, offset) }
    }

    /// Is this run's place known to be zero, and nothing stored?
    fn nature(&self, offset: u64, run: Run) -> Result<Extent> {
        let all = |zero, hole| Extent { len: run.len, zero, hole };
        Ok(match run.place {
            Place::Zero => all(true, false),
            Place::Hole => all(true, true),
            Place::Packed { .. } => all(false, false),
            Place::Stored { file, offset: at } => {
                let below = self.file(file)?.extent_within(at, run.len)?;
                Extent { len: run.len.min(below.len), ..below }
            }
            Place::Parent => match self.layout.parent() {
                Some(parent) if offset < parent.len() => {
                    let below = parent.extent_within(offset, run.len)?;
                    Extent { len: run.len.min(below.len), ..below }
                }
                _ => all(true, true),
            },
        })
    }
}

impl<L: Layout> BlockSource for Mapped<L> {
    fn len(&self) -> u64 {
        self.layout.size()
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        while !buf.is_empty() {
            let want = wide(buf.len());
            let run = self.run(offset)?;
            let mut len = run.len.min(want);
            if let Place::Stored { file, offset: at } = run.place {
                // Join runs that lie one behind the other in the same file: one read instead of many.
                while len < want {
                    let next = self.run(offset.saturating_add(len))?;
                    if next.place != (Place::Stored { file, offset: at.saturating_add(len) }) {
                        break;
                    }
                    len = len.saturating_add(next.len).min(want);
                }
            }
            let (now, rest) = buf.split_at_mut(narrow(len));
            match run.place {
                Place::Stored { file, offset: at } => self.file(file)?.read_at(now, at)?,
                Place::Packed { .. } => self.read_packed(now, run.place)?,
                Place::Zero | Place::Hole => now.fill(0),
                Place::Parent => self.read_parent(now, offset)?,
            }
            buf = rest;
            offset = offset.saturating_add(len);
        }
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        self.extent_within(offset, u64::MAX)
    }

    fn extent_within(&self, offset: u64, most: u64) -> Result<Extent> {
        check_range(offset, 1, self.len())?;
        let outline = |at| self.advancing(at, self.layout.outline_at(at)?);
        let mut whole = self.nature(offset, outline(offset)?)?;
        for _ in 0..EXTENT_RUNS {
            let next = offset.saturating_add(whole.len);
            if next >= self.len() || whole.len >= most {
                break;
            }
            // What is damaged further on is told when it is asked for.
            let Ok(more) = outline(next).and_then(|run| self.nature(next, run)) else { break };
            if (more.zero, more.hole) != (whole.zero, whole.hole) {
                break;
            }
            whole.len = whole.len.saturating_add(more.len);
        }
        Ok(whole)
    }

    fn step(&self, offset: u64) -> Result<Step> {
        check_range(offset, 1, self.len())?;
        let run = self.run(offset)?;
        let below = match run.place {
            Place::Zero => Below::Zero,
            Place::Hole => Below::Hole,
            Place::Stored { file, offset } => Below::Stored(Arc::clone(self.file(file)?), offset),
            Place::Packed { file, offset, stored, .. } => {
                Below::Packed(Arc::clone(self.file(file)?), offset, stored)
            }
            Place::Parent => match self.layout.parent() {
                Some(parent) if offset < parent.len() => {
                    let len = run.len.min(parent.len().saturating_sub(offset));
                    return Ok(Step { len, below: Below::Parent(Arc::clone(parent), offset) });
                }
                _ => Below::Hole,
            },
        };
        Ok(Step { len: run.len, below })
    }

    fn preferred_size(&self) -> u32 {
        self.layout.unit_size()
    }

    fn stored_size(&self) -> u64 {
        self.layout.files().iter().map(|file| file.stored_size()).fold(0, u64::saturating_add)
    }
}

/// A part of a source: a partition, a member of an archive.
#[derive(Debug)]
pub struct Slice {
    source: Arc<dyn BlockSource>,
    start: u64,
    len: u64,
}

impl Slice {
    /// The `len` bytes of `source` from `start` on.
    ///
    /// # Errors
    /// `OutOfRange` when the source ends before the slice does.
    pub fn new(source: Arc<dyn BlockSource>, start: u64, len: u64) -> Result<Self> {
        match start.checked_add(len) {
            Some(end) if end <= source.len() => Ok(Self { source, start, len }),
            _ => Err(Error::out_of_range(start, len, source.len())),
        }
    }
}

impl BlockSource for Slice {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        self.source.read_at(buf, self.start.saturating_add(offset))
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        self.extent_within(offset, u64::MAX)
    }

    fn extent_within(&self, offset: u64, most: u64) -> Result<Extent> {
        check_range(offset, 1, self.len)?;
        let below = self.source.extent_within(self.start.saturating_add(offset), most)?;
        Ok(Extent { len: below.len.min(self.len.saturating_sub(offset)), ..below })
    }

    fn advise(&self, ranges: &[std::ops::Range<u64>]) {
        let moved: Vec<_> = ranges
            .iter()
            .map(|r| self.start.saturating_add(r.start)..self.start.saturating_add(r.end.min(self.len)))
            .collect();
        self.source.advise(&moved);
    }

    fn step(&self, offset: u64) -> Result<Step> {
        check_range(offset, 1, self.len)?;
        let len = self.len.saturating_sub(offset);
        Ok(Step { len, below: Below::Stored(Arc::clone(&self.source), self.start.saturating_add(offset)) })
    }

    fn preferred_size(&self) -> u32 {
        self.source.preferred_size()
    }
}
