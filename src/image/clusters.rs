//! Clusters: the two-level map that qcow, qcow2 and QED share. An L1 table names L2 tables, whose entries say where each
//! cluster of the disk lies.
//!
//! ```text
//! disk offset = │ L1 index │ L2 index │ byte in cluster │
//!     L1 table ───▶ L2 table ───▶ entry: none │ zero │ at byte N │ packed      (a format's own: `Entries`)
//! ```
//! Tables are read a page at a time, so a map costs nothing to make, and several L1 tables (the snapshots of a qcow2)
//! can share one.

use super::pages::{Pages, count, held};
use super::unpack;
use crate::block::{BlockSource, Layout, Place, Run};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use std::fmt;
use std::sync::Arc;

/// Clusters that are looked at to lengthen a run of stored bytes. A reader of 4 KiB should not pay for more.
const MERGE: usize = 32;

/// An L1 table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct L1 {
    /// Byte of the file; a multiple of 8.
    pub(super) offset: u64,
    /// Entries of 8 bytes.
    pub(super) entries: u64,
}

impl L1 {
    /// Fails unless the file holds the whole table.
    ///
    /// # Errors
    /// `Corrupt` at `at`.
    pub(super) fn within(self, file_len: u64, at: At) -> Result<Self> {
        let end = self.offset.saturating_add(self.entries.saturating_mul(8));
        if end <= file_len {
            return Ok(self);
        }
        Err(Error::corrupt(at.byte(self.offset))
            .because(format!("ends at {end:#x}, but the file ends at {file_len:#x}: it was cut off")))
    }
}

/// What the entry of a cluster says. A cluster has 32 parts of equal size (subclusters), each stored, zero, or neither:
/// that is, in the layer below. All formats but qcow2 with extended L2 entries treat all 32 alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    /// Not packed. Bit `n` of a mask is part `n`; no bit is set in both.
    Plain {
        /// Byte of the file that holds the data.
        host: u64,
        /// The parts stored there.
        stored: u32,
        /// The parts stated to be zero.
        zero: u32,
    },
    /// Packed as a whole.
    Packed {
        /// Byte of the file.
        offset: u64,
        /// Bytes of the stream, at most.
        most: u64,
    },
}

impl Cluster {
    /// Nowhere in this image.
    pub(super) const NONE: Self = Self::Plain { host: 0, stored: 0, zero: 0 };
    /// Stated to read as zero.
    pub(super) const ZERO: Self = Self::Plain { host: 0, stored: 0, zero: u32::MAX };

    /// Stored at a byte of the file.
    pub(super) const fn at(host: u64) -> Self {
        Self::Plain { host, stored: u32::MAX, zero: 0 }
    }
}

/// What parts of a cluster have in common, so that they can be one run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Zero,
    Stored,
}

impl Kind {
    /// The kind of part `part`.
    const fn of(stored: u32, zero: u32, part: u32) -> Self {
        if (stored >> part) & 1 == 1 {
            Self::Stored
        } else if (zero >> part) & 1 == 1 {
            Self::Zero
        } else {
            Self::None
        }
    }

    /// How many parts from `part` on are of this kind.
    const fn parts(self, stored: u32, zero: u32, part: u32) -> u32 {
        let mask = match self {
            Self::None => !(stored | zero),
            Self::Zero => zero,
            Self::Stored => stored,
        };
        (mask >> part).trailing_ones()
    }
}

/// How a format writes its entries.
pub(super) trait Entries: Send + Sync + fmt::Debug {
    /// The format's name, for errors.
    const FORMAT: &'static str;

    /// A number as the format stores it.
    fn number(bytes: [u8; 8]) -> u64;

    /// The byte of the L2 table that an L1 entry names, if it names one.
    ///
    /// # Errors
    /// What is wrong with it.
    fn l2_table(&self, raw: u64) -> Result<Option<u64>, String>;

    /// What the entry of cluster `number` says. `bitmap` is the second half of an entry of 16 bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    fn cluster(&self, raw: u64, bitmap: u64, number: u64) -> Result<Cluster, String>;

    /// A packed cluster of `size` bytes.
    ///
    /// # Errors
    /// `Corrupt` for a damaged stream; `Unsupported` where the format packs nothing.
    fn unpack(_stored: &[u8], _number: u64, _size: u64) -> Result<Vec<u8>> {
        Err(Error::unsupported("compression"))
    }
}

/// A deflate stream that must be a whole cluster.
///
/// # Errors
/// `Corrupt` at `at` when it is damaged or shorter.
pub(super) fn inflate_cluster(stored: &[u8], size: u64, at: At) -> Result<Vec<u8>> {
    let plain = unpack::inflate(stored, size, false, &at)?;
    if wide(plain.len()) == size {
        return Ok(plain);
    }
    Err(Error::corrupt(at).because(format!("unpacks to {} of {size} bytes", plain.len())))
}

/// The disk of an image that has one L1 table and lies in one file.
#[derive(Debug)]
pub(super) struct Disk<E> {
    /// Bytes.
    pub(super) size: u64,
    /// Its table.
    pub(super) l1: L1,
    /// The map below it.
    pub(super) map: ClusterMap<E>,
    /// The image.
    pub(super) files: [Arc<dyn BlockSource>; 1],
    /// The backing file's disk.
    pub(super) parent: Option<Arc<dyn BlockSource>>,
}

impl<E: Entries> Layout for Disk<E> {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        self.map.run_at(self.l1, offset)
    }

    fn outline_at(&self, offset: u64) -> Result<Run> {
        self.map.outline_at(self.l1, offset)
    }

    fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
        E::unpack(stored, unit, self.map.cluster())
    }

    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        self.parent.as_ref()
    }

    fn unit_size(&self) -> u32 {
        1 << self.map.cluster_bits
    }
}

/// The map of one image.
#[derive(Debug)]
pub(super) struct ClusterMap<E> {
    /// The file with the tables and the packed clusters; the layout's file 0.
    pub(super) pages: Pages,
    /// The file with the stored clusters: which of the layout's, and its length.
    pub(super) data: (usize, u64),
    /// Bits of the byte within a cluster.
    pub(super) cluster_bits: u32,
    /// Bits of the index into an L2 table.
    pub(super) l2_bits: u32,
    /// Bytes of an entry of an L2 table: 8 or 16.
    pub(super) entry_len: usize,
    /// Where clusters lie that are not in this image.
    pub(super) below: Place,
    /// The format's own.
    pub(super) entries: E,
}

impl<E: Entries> ClusterMap<E> {
    /// A map with plain entries of 8 bytes, whose clusters lie in the file of its tables.
    pub(super) fn new(source: Arc<dyn BlockSource>, bits: (u32, u32), has_parent: bool, entries: E) -> Self {
        let data = (0, source.len());
        let below = if has_parent { Place::Parent } else { Place::Hole };
        let (cluster_bits, l2_bits) = bits;
        Self { pages: Pages::new(source), data, cluster_bits, l2_bits, entry_len: 8, below, entries }
    }

    /// Bytes of a cluster.
    pub(super) const fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The run that starts at byte `offset` of the disk that `l1` maps.
    ///
    /// # Errors
    /// `Corrupt` when a table contradicts itself; what reading reports.
    pub(super) fn run_at(&self, l1: L1, offset: u64) -> Result<Run> {
        self.run(l1, offset, MERGE)
    }

    /// As [`ClusterMap::run_at`], as long as one page of a table tells, and with neighbouring packed clusters as one.
    ///
    /// # Errors
    /// As `run_at`.
    pub(super) fn outline_at(&self, l1: L1, offset: u64) -> Result<Run> {
        self.run(l1, offset, usize::MAX)
    }

    fn run(&self, l1: L1, offset: u64, merge: usize) -> Result<Run> {
        let in_cluster = offset & self.cluster().wrapping_sub(1);
        let number = offset >> self.cluster_bits;
        let l1_index = number >> self.l2_bits;
        let l2_index = number & (1_u64 << self.l2_bits).wrapping_sub(1);
        let l2_left = (1_u64 << self.l2_bits).saturating_sub(l2_index);
        let Some(l2_offset) = self.l2_table(l1, l1_index)? else {
            let tables = self.empty_l2_tables(l1, l1_index)?;
            let clusters = tables.saturating_sub(1).checked_shl(self.l2_bits).unwrap_or(u64::MAX);
            let len = self.bytes(clusters.saturating_add(l2_left)).saturating_sub(in_cluster);
            return Ok(Run { len, place: self.below });
        };
        let entry_at = l2_offset.saturating_add(l2_index.saturating_mul(wide(self.entry_len)));
        let at = At::new(E::FORMAT, "L2 table").index(l1_index);
        let window = self.pages.window(entry_at, &at)?;
        let at = at.byte(entry_at);
        let halves = |raw: &[u8]| {
            let half = |from: usize| {
                raw.get(from..).and_then(<[u8]>::first_chunk).map_or(0, |half| E::number(*half))
            };
            (half(0), half(8))
        };
        let entry = |raw: &[u8], number: u64| {
            let (raw, bitmap) = halves(raw);
            self.entries.cluster(raw, bitmap, number)
        };
        let mut ahead = window.chunks_exact(self.entry_len).take(narrow(l2_left));
        let Some(first) = ahead.next() else {
            return Err(Error::corrupt(at).because("the file ends within it"));
        };
        let (host, stored, zero) = match entry(first, number)
            .map_err(|why| Error::corrupt(at.clone()).because(why))?
        {
            Cluster::Plain { host, stored, zero } => (host, stored, zero),
            Cluster::Packed { offset, most } => {
                let stored = held(most, offset, self.pages.file_len(), &at)?;
                let place = Place::Packed { file: 0, offset, stored, unit: number, skip: in_cluster };
                let is_packed = |raw, number| matches!(entry(raw, number), Ok(Cluster::Packed { .. }));
                let more = match merge {
                    MERGE => 0,
                    _ => ahead.zip(number.saturating_add(1)..).take_while(|(e, n)| is_packed(e, *n)).count(),
                };
                let len = self.bytes(count(more).saturating_add(1)).saturating_sub(in_cluster);
                return Ok(Run { len, place });
            }
        };
        let part_bits = self.cluster_bits.saturating_sub(5);
        let part = u32::try_from(in_cluster >> part_bits).unwrap_or(31);
        let kind = Kind::of(stored, zero, part);
        let same = kind.parts(stored, zero, part);
        let mut end = u64::from(part.saturating_add(same)) << part_bits;
        if part.saturating_add(same) == 32 {
            let most = if kind == Kind::Stored { merge } else { usize::MAX };
            let mut next = number;
            // The entry that goes on where a whole cluster ends differs in its offset alone, and clusters that are nowhere
            // have equal entries: to compare numbers costs a tenth of understanding an entry.
            let step = if kind == Kind::Stored { self.cluster() } else { 0 };
            let whole = kind.parts(stored, zero, 0) == 32;
            let (mut expected, bitmap) = halves(first);
            for raw in ahead.take(most) {
                next = next.saturating_add(1);
                expected = expected.wrapping_add(step);
                let same = if whole && halves(raw) == (expected, bitmap) {
                    32
                } else {
                    match entry(raw, next) {
                        Ok(Cluster::Plain { host: there, stored, zero })
                            if kind != Kind::Stored || there == host.saturating_add(end) =>
                        {
                            kind.parts(stored, zero, 0)
                        }
                        // What is damaged further on is told when it is asked for.
                        _ => 0,
                    }
                };
                end = end.saturating_add(u64::from(same) << part_bits);
                if same < 32 {
                    break;
                }
            }
        }
        let len = end.saturating_sub(in_cluster);
        Ok(match kind {
            Kind::None => Run { len, place: self.below },
            Kind::Zero => Run { len, place: Place::Zero },
            Kind::Stored => {
                let (file, file_len) = self.data;
                let offset = host.saturating_add(in_cluster);
                Run { len: held(len, offset, file_len, &at)?, place: Place::Stored { file, offset } }
            }
        })
    }

    fn bytes(&self, clusters: u64) -> u64 {
        clusters.saturating_mul(self.cluster())
    }

    /// The byte of the L2 table that L1 entry `index` names.
    fn l2_table(&self, l1: L1, index: u64) -> Result<Option<u64>> {
        let at = At::new(E::FORMAT, "L1 table").index(index);
        if index >= l1.entries {
            return Err(Error::corrupt(at).because(format!("the table has {} entries", l1.entries)));
        }
        let entry_at = l1.offset.saturating_add(index.saturating_mul(8));
        let raw = E::number(self.pages.get(entry_at, &at)?);
        self.entries.l2_table(raw).map_err(|why| Error::corrupt(at.byte(entry_at)).because(why))
    }

    /// How many L1 entries from `index` on name no L2 table, as far as one page of the table tells.
    fn empty_l2_tables(&self, l1: L1, index: u64) -> Result<u64> {
        let at = l1.offset.saturating_add(index.saturating_mul(8));
        let window = self.pages.window(at, &At::new(E::FORMAT, "L1 table").index(index))?;
        let empty = window.chunks_exact(8).take_while(|raw| *raw == [0; 8]).count();
        Ok(count(empty).min(l1.entries.saturating_sub(index)).max(1))
    }
}
