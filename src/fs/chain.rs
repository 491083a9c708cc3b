//! A file allocation table: for each cluster the number of the next one of its file. FAT and exFAT have the same, in
//! entries of different width.
//!
//! ```text
//! first cluster 5:   table[5] = 6   table[6] = 7   table[7] = 20   table[20] = end       runs: 5..=7, 20
//! ```
//! A place in a long file would mean a walk from its start. So every [`STRIDE`]th cluster of the files read lately is
//! remembered, and a walk starts at the one before.

use super::meta::{Bytes, Meta};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32};
use lru::LruCache;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Clusters between two that are remembered: a walk of four pages of the table.
const STRIDE: u64 = 4096;
/// Files whose clusters are remembered. 4 GiB in clusters of 512 bytes have 2048 marks, 8 KiB.
const TRAILS: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");
/// Bytes of the table looked at together.
const WINDOW: u64 = 4096;
/// The first cluster's number.
pub(super) const FIRST: u32 = 2;

/// How wide an entry is, and what ends a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// FAT12: two entries in three bytes.
    Twelve,
    /// FAT16.
    Sixteen,
    /// FAT32: the upper four bits are reserved.
    TwentyEight,
    /// exFAT.
    ThirtyTwo,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The file goes on in this cluster.
    Next(u32),
    /// It was the file's last cluster.
    End,
    /// No chain goes through here: the cluster is free, bad, or the entry names no cluster.
    Broken(u32),
}

/// Consecutive clusters of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clusters {
    pub(super) first: u32,
    pub(super) count: u64,
}

/// A file allocation table on a volume.
pub(super) struct Table {
    /// The file system's name, for errors.
    pub(super) layer: &'static str,
    /// Byte of the volume where it starts.
    pub(super) at: u64,
    pub(super) width: Width,
    /// The number behind the last cluster's.
    pub(super) end: u32,
    trails: Mutex<LruCache<u32, Vec<u32>>>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({:?} at {:#x})", self.width, self.at)
    }
}

impl Table {
    pub(super) fn new(layer: &'static str, at: u64, width: Width, end: u32) -> Self {
        Self { layer, at, width, end, trails: Mutex::new(LruCache::new(TRAILS)) }
    }

    fn error(&self, cluster: u32) -> Error {
        Error::corrupt(At::new(self.layer, "FAT entry").index(cluster.into()))
    }

    /// Is it the number of a cluster?
    pub(super) fn holds(&self, cluster: u32) -> bool {
        (FIRST..self.end).contains(&cluster)
    }

    /// How many clusters there are.
    pub(super) fn clusters(&self) -> u64 {
        self.end.saturating_sub(FIRST).into()
    }

    pub(super) fn reader<'a>(&'a self, meta: &'a Meta) -> Reader<'a> {
        Reader { table: self, meta, window: None }
    }

    /// The clusters from number `skip` of the chain that starts at `first` on: those that follow each other on the
    /// volume, at most `want`.
    ///
    /// # Errors
    /// `Corrupt` when the chain ends before, is broken, or runs in a circle; what the volume reports.
    pub(super) fn run(&self, meta: &Meta, first: u32, skip: u64, want: u64) -> Result<Clusters> {
        if !self.holds(first) {
            return Err(self.error(first).because("the first cluster of a chain is no cluster"));
        }
        if skip >= self.clusters() {
            return Err(self.error(first).because(format!(
                "cluster {skip} of its chain is wanted; there are {} in all",
                self.clusters()
            )));
        }
        let mut reader = self.reader(meta);
        let (mut index, mut cluster) = self.mark_before(first, skip);
        let mut found = Vec::new();
        // Brent's method: of a circle one cluster is met again.
        let (mut seen, mut lap, mut length) = (cluster, 0_u64, 1_u64);
        while index < skip {
            cluster = match reader.link(cluster)? {
                Link::Next(next) => next,
                Link::End => {
                    let there = index.saturating_add(1);
                    return Err(self.error(cluster).because(format!(
                        "the chain from cluster {first} ends after {there} clusters; cluster {skip} is wanted"
                    )));
                }
                Link::Broken(value) => {
                    return Err(self
                        .error(cluster)
                        .because(format!("leads to {value:#x}, no cluster in use")));
                }
            };
            if cluster == seen {
                return Err(self.error(cluster).because("the chain runs in a circle"));
            }
            lap = lap.saturating_add(1);
            if lap == length {
                (seen, lap, length) = (cluster, 0, length.saturating_mul(2));
            }
            index = index.saturating_add(1);
            if index.is_multiple_of(STRIDE) {
                found.push((index, cluster));
            }
        }
        self.remember(first, &found);
        let mut count = 1;
        let mut last = cluster;
        while count < want {
            // What lies behind is not this caller's yet: its error comes when it is asked for.
            match reader.link(last) {
                Ok(Link::Next(next)) if Some(next) == last.checked_add(1) => last = next,
                _ => break,
            }
            count = count.saturating_add(1);
        }
        Ok(Clusters { first: cluster, count })
    }

    /// The length of a chain, in clusters.
    ///
    /// # Errors
    /// `Corrupt` when it is broken or has more than `most`.
    pub(super) fn length(&self, meta: &Meta, first: u32, most: u64) -> Result<u64> {
        let mut reader = self.reader(meta);
        let (mut cluster, mut count) = (first, 1_u64);
        while count <= most {
            match reader.link(cluster)? {
                Link::Next(next) => cluster = next,
                Link::End => return Ok(count),
                Link::Broken(value) => {
                    return Err(self
                        .error(cluster)
                        .because(format!("leads to {value:#x}, no cluster in use")));
                }
            }
            count = count.saturating_add(1);
        }
        Err(self.error(first).because(format!("a chain of more than {most} clusters")))
    }

    /// The last cluster remembered up to number `skip` of a chain.
    fn mark_before(&self, first: u32, skip: u64) -> (u64, u32) {
        let mut trails = lock(&self.trails);
        let marks = trails.get(&first).map(Vec::as_slice).unwrap_or_default();
        let known = (skip / STRIDE).min(wide(marks.len()));
        let mark = known.checked_sub(1).and_then(|last| marks.get(narrow(last)));
        mark.map_or((0, first), |cluster| (known.saturating_mul(STRIDE), *cluster))
    }

    fn remember(&self, first: u32, found: &[(u64, u32)]) {
        if found.is_empty() {
            return;
        }
        let mut trails = lock(&self.trails);
        let marks = trails.get_or_insert_mut(first, Vec::new);
        for (index, cluster) in found {
            if *index == wide(marks.len()).saturating_add(1).saturating_mul(STRIDE) {
                marks.push(*cluster);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is locked; were it to, a mark that is missing is all that could be wrong.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads entries near each other without asking for each.
pub(super) struct Reader<'a> {
    table: &'a Table,
    meta: &'a Meta,
    window: Option<(u64, Bytes)>,
}

impl Reader<'_> {
    /// The entry of a cluster.
    ///
    /// # Errors
    /// `Corrupt` when there is no such cluster; what the volume reports.
    pub(super) fn link(&mut self, cluster: u32) -> Result<Link> {
        if !self.table.holds(cluster) {
            return Err(self.table.error(cluster).because(format!("the last cluster is {}", self.table.end)));
        }
        let value = self.value(cluster)?;
        // The kernel takes the mark of a bad cluster for an end in FAT, for damage in exFAT; and so do we.
        let end = match self.table.width {
            Width::Twelve => 0xff7,
            Width::Sixteen => 0xfff7,
            Width::TwentyEight => 0x0fff_fff7,
            Width::ThirtyTwo => 0xffff_fff8,
        };
        Ok(match value {
            value if value >= end => Link::End,
            value if self.table.holds(value) => Link::Next(value),
            value => Link::Broken(value),
        })
    }

    /// An entry as it stands there, those of the first two numbers too.
    ///
    /// # Errors
    /// What the volume reports.
    pub(super) fn value(&mut self, cluster: u32) -> Result<u32> {
        let cluster = u64::from(cluster);
        let at = |skip: u64| self.table.at.saturating_add(skip);
        let value = match self.table.width {
            Width::Twelve => {
                let skip = cluster.saturating_mul(3) / 2;
                let pair = self.meta.near(at(skip), 2)?;
                let pair = u32::from(get_le16(&pair, 0).unwrap_or(0));
                if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }
            }
            Width::Sixteen => {
                let (bytes, skip) = self.window(at(cluster.saturating_mul(2)))?;
                u32::from(get_le16(bytes, skip).unwrap_or(0))
            }
            Width::TwentyEight => {
                let (bytes, skip) = self.window(at(cluster.saturating_mul(4)))?;
                get_le32(bytes, skip).unwrap_or(0) & 0x0fff_ffff
            }
            Width::ThirtyTwo => {
                let (bytes, skip) = self.window(at(cluster.saturating_mul(4)))?;
                get_le32(bytes, skip).unwrap_or(0)
            }
        };
        Ok(value)
    }

    /// The window with byte `at`, and where in it that is. Entries of two and four bytes lie in one.
    fn window(&mut self, at: u64) -> Result<(&[u8], usize)> {
        let skip = at % WINDOW;
        let start = at.saturating_sub(skip);
        if self.window.as_ref().is_none_or(|(window, _)| *window != start) {
            let len = WINDOW.min(self.meta.volume().len().saturating_sub(start)).max(skip.saturating_add(4));
            self.window = Some((start, self.meta.near(start, len)?));
        }
        let bytes: &[u8] = self.window.as_ref().map(|(_, bytes)| &**bytes).unwrap_or_default();
        Ok((bytes, narrow(skip)))
    }
}
