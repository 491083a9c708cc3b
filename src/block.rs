//! The vocabulary of bytes at offsets: [`BlockSource`], [`Layout`], [`Run`], [`Place`], [`Extent`], [`Probe`].
//!
//! A *source* has bytes at offsets. A *layout* says, for a run of a virtual disk, where its bytes lie; it never
//! reads guest data itself. [`crate::engine`] turns any layout into a source. Nothing here does I/O.

use crate::error::{Error, Result};
use crate::num::wide;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Bytes at offsets. Immutable, positioned, shareable: no seek, no write, no async.
pub trait BlockSource: Send + Sync + fmt::Debug {
    /// The size in bytes. Constant for the life of the source.
    fn len(&self) -> u64;

    /// Fills all of `buf` from `offset`. Never zero for a byte that could not be read, never a part of the buffer.
    ///
    /// # Errors
    /// `OutOfRange` past the end; whatever the layers below report, with the place.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// The extent that starts at `offset` (< `len`): data, or known to read as zero. At least one byte long.
    ///
    /// # Errors
    /// As `read_at`.
    fn extent(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { len: self.len().saturating_sub(offset), zero: false, hole: false })
    }

    /// As [`BlockSource::extent`], by one who has no use for more than `most` bytes of it. The answer may be longer.
    ///
    /// # Errors
    /// As `extent`.
    fn extent_within(&self, offset: u64, _most: u64) -> Result<Extent> {
        self.extent(offset)
    }

    /// These ranges will be read soon. A remote source fetches them in parallel; others ignore it.
    fn advise(&self, _ranges: &[Range<u64>]) {}

    /// Where the bytes at `offset` lie one storey below, for `imgmount map`.
    ///
    /// # Errors
    /// As `read_at`.
    fn step(&self, offset: u64) -> Result<Step> {
        Ok(Step { len: self.len().saturating_sub(offset), below: Below::Here })
    }

    /// What people call it: the file's name, escaped and with secrets redacted. Empty for a source without one.
    fn label(&self) -> String {
        String::new()
    }

    /// The size in bytes in which reads are cheapest: a cluster, a grain, a remote block.
    fn preferred_size(&self) -> u32 {
        4096
    }

    /// Bytes it takes where it lies: allocated blocks of a file, the length of an object.
    fn stored_size(&self) -> u64 {
        self.len()
    }

    /// Is there nothing in it?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Fails with `OutOfRange` unless `len` bytes at `offset` lie inside `size`.
///
/// # Errors
/// `OutOfRange`.
pub fn check_range(offset: u64, len: usize, size: u64) -> Result<()> {
    match offset.checked_add(wide(len)) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Error::out_of_range(offset, wide(len), size)),
    }
}

/// A stretch of a source, as NBD's `base:allocation` and FUSE's `SEEK_HOLE` want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How far it goes, in bytes; at least 1.
    pub len: u64,
    /// It is known to read as zero.
    pub zero: bool,
    /// Nothing is stored for it.
    pub hole: bool,
}

/// What a disk format, a logical volume, a RAID set writes. All it writes.
pub trait Layout: Send + Sync + fmt::Debug {
    /// The size of what it lays out, in bytes.
    fn size(&self) -> u64;

    /// The sources that [`Place::Stored`] and [`Place::Packed`] count by.
    fn files(&self) -> &[Arc<dyn BlockSource>];

    /// The run that starts at `offset` (< `size`). At least one byte long; merges neighbours when that is free.
    ///
    /// # Errors
    /// `Corrupt` when the tables contradict themselves, and what reading them reports.
    fn run_at(&self, offset: u64) -> Result<Run>;

    /// As [`Layout::run_at`], for who wants to know data from zeros and reads nothing: `stored` of a packed unit may be
    /// 0, and neighbouring units may be one run. For formats that keep a unit's length beside its bytes, all over the
    /// file.
    ///
    /// # Errors
    /// As `run_at`.
    fn outline_at(&self, offset: u64) -> Result<Run> {
        self.run_at(offset)
    }

    /// Unpacks unit `unit` from its stored bytes. The result has the unit's full size.
    ///
    /// # Errors
    /// `Corrupt` when the stream is damaged or has another size.
    fn unpack(&self, _stored: &[u8], _unit: u64) -> Result<Vec<u8>> {
        Err(Error::unsupported("compression"))
    }

    /// How long unit `unit` is when it is unpacked, at most, in bytes: asked before it is, to bound what is unpacked at a time.
    fn unpacked_len(&self, _unit: u64) -> u64 {
        self.unit_size().into()
    }

    /// The layer below, that [`Place::Parent`] reads through to at the same offset.
    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        None
    }

    /// Cluster, grain or block size in bytes.
    fn unit_size(&self) -> u32 {
        4096
    }
}

/// Consecutive bytes of a virtual disk with one [`Place`]. Not called extent: VMDK, ext4 and NBD each own that word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many bytes; at least 1.
    pub len: u64,
    /// Where they lie.
    pub place: Place,
}

/// Where a run's bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As they are, in `files()[file]` from byte `offset` on.
    Stored {
        /// Index into [`Layout::files`].
        file: usize,
        /// Byte in that file.
        offset: u64,
    },
    /// Packed, as part of a unit that is unpacked as a whole.
    Packed {
        /// Index into [`Layout::files`].
        file: usize,
        /// Byte in that file where the packed unit starts.
        offset: u64,
        /// Length of the packed unit in bytes.
        stored: u64,
        /// The unit's number, the key under which it is cached.
        unit: u64,
        /// Where in the unpacked unit this run starts.
        skip: u64,
    },
    /// The format says that it reads as zero.
    Zero,
    /// Nothing is stored and there is no layer below: reads as zero.
    Hole,
    /// The layer below has it, at the same offset.
    Parent,
}

/// One storey of the way down from a disk's byte to a file's byte.
#[derive(Clone, Debug)]
pub struct Step {
    /// How many bytes go the same way; at least 1.
    pub len: u64,
    /// Where to.
    pub below: Below,
}

/// The storey below.
#[derive(Clone, Debug)]
pub enum Below {
    /// This source is the ground: a file, an object.
    Here,
    /// Stated to be zero.
    Zero,
    /// Nothing is stored; reads as zero.
    Hole,
    /// Stored as it is.
    Stored(Arc<dyn BlockSource>, u64),
    /// Stored packed, in so many bytes.
    Packed(Arc<dyn BlockSource>, u64, u64),
    /// Stored encrypted, byte for byte as many.
    Encrypted(Arc<dyn BlockSource>, u64),
    /// Stored nowhere: worked out from several places, as what a missing member of an array held.
    Computed,
    /// Behind the end of a layer below that is shorter than the one above it: reads as zero.
    PastParent,
    /// In a layer below: a backing file, a parent.
    Parent(Arc<dyn BlockSource>, u64),
}

/// What a prober sees: the first and last bytes of a source. A probe does no I/O.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// The first bytes, up to [`Probe::HEAD`]; shorter only when the source is.
    pub head: &'a [u8],
    /// The last bytes, up to [`Probe::TAIL`].
    pub tail: &'a [u8],
    /// The whole length in bytes.
    pub len: u64,
    /// The file's name, if it has one. A hint, never proof.
    pub name: &'a str,
}

impl Probe<'_> {
    /// Bytes of the head: reaches past the btrfs superblock at 64 KiB and the ISO 9660 descriptors at 32 KiB.
    pub const HEAD: u64 = 68 << 10;
    /// Bytes of the tail: VHD footers, backup GPT headers.
    pub const TAIL: u64 = 4096;

    /// The bytes at `at` in the head, or `None` if it is shorter.
    #[must_use]
    pub fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.head.get(at..)?.first_chunk::<N>().copied()
    }

    /// Does the head carry `magic` at `at`?
    #[must_use]
    pub fn has(&self, at: usize, magic: &[u8]) -> bool {
        self.head.get(at..).is_some_and(|rest| rest.starts_with(magic))
    }
}

/// A probe's own copy of the bytes it sees.
#[derive(Clone, Debug)]
pub struct ProbeBytes {
    head: Vec<u8>,
    tail: Vec<u8>,
    len: u64,
    name: String,
}

impl ProbeBytes {
    /// Reads head and tail of a source.
    ///
    /// # Errors
    /// What the source reports.
    pub fn read(source: &dyn BlockSource, name: &str) -> Result<Self> {
        let len = source.len();
        let mut head = vec![0; crate::num::narrow(len.min(Probe::HEAD))];
        source.read_at(&mut head, 0)?;
        let mut tail = vec![0; crate::num::narrow(len.min(Probe::TAIL))];
        source.read_at(&mut tail, len.saturating_sub(Probe::TAIL))?;
        Ok(Self { head, tail, len, name: name.to_owned() })
    }

    /// The view that probers take.
    #[must_use]
    pub fn view(&self) -> Probe<'_> {
        Probe { head: &self.head, tail: &self.tail, len: self.len, name: &self.name }
    }
}

/// Zeros that are stored nowhere, for unit tests.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Zeros(pub(crate) u64);

#[cfg(test)]
impl BlockSource for Zeros {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.0)?;
        buf.fill(0);
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { len: self.0.saturating_sub(offset), zero: true, hole: true })
    }
}

/// Bytes in memory, for unit tests of layers that know no sources.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

#[cfg(test)]
impl BlockSource for Bytes {
    fn len(&self) -> u64 {
        wide(self.0.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        buf.copy_from_slice(&self.0[crate::num::narrow(offset)..][..buf.len()]);
        Ok(())
    }
}
