//! The MFT: one record for each file, in a file of its own that record 0 describes. The first records have a copy, the mirror.
//!
//! Records lie where that file's runs say, and may begin in one run and end in the next.

use super::attribute::{Attribute, Attributes, Body, kind};
use super::boot::Boot;
use super::record::{Record, STRIDE};
use super::runs::{Runs, Stretch};
use crate::block::{Place, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::meta::Meta;
use crate::num::{narrow, wide};

/// The MFT's own record.
pub(super) const MFT: u64 = 0;
/// That of the log.
pub(super) const LOGFILE: u64 = 2;
/// That of the volume: its name, version and state.
pub(super) const VOLUME: u64 = 3;
/// The root directory.
pub(super) const ROOT: u64 = 5;
/// Which clusters are in use.
pub(super) const BITMAP: u64 = 6;
/// Security descriptors.
pub(super) const SECURE: u64 = 9;
/// The table of capitals.
pub(super) const UPCASE: u64 = 10;
/// The directory of further files of the file system's own.
pub(super) const EXTEND: u64 = 11;
/// The first record that is not kept for the file system's own files.
pub(super) const FIRST_USER: u64 = 24;

/// The mirror has four records, or as many as fit in a cluster.
const MIRRORED: u64 = 4;
/// Runs of the MFT that are kept: 24 bytes each. `$MFT` of ten million files, a cluster a run, would have no more.
const MAX_RUNS: usize = 1 << 21;

/// Where the records lie.
#[derive(Debug)]
pub(super) struct Mft {
    /// In the order of clusters, without gaps.
    runs: Vec<Stretch>,
    /// Bytes that were ever written.
    len: u64,
    /// The MFT's own record was damaged; this is as its copy says.
    pub(super) by_mirror: bool,
}

impl Mft {
    /// As the record of the MFT itself says: what of it stands in that record. Further pieces are added by [`Mft::grow`].
    ///
    /// # Errors
    /// `Corrupt` when neither the record nor its copy in the mirror is sound.
    pub(super) fn open(meta: &Meta, boot: &Boot) -> Result<Self> {
        let of = |cluster: u64| -> Result<Self> {
            let record = read_at(meta, boot, MFT, cluster)?;
            let data = Attributes::of(&record).flatten().find(|attribute| attribute.is(kind::DATA, &[]));
            let Some(Attribute { body: Body::NonResident(body), .. }) = data else {
                return Err(Error::corrupt(record.at()).because("the MFT has no data"));
            };
            let mut mft = Self { runs: Vec::new(), len: body.initialized, by_mirror: false };
            mft.grow(Runs::new(body.mapping, body.first, boot.clusters()))?;
            if mft.runs.is_empty() {
                return Err(Error::corrupt(record.at()).because("the MFT has no clusters"));
            }
            Ok(mft)
        };
        match of(boot.mft) {
            Err(error) if is_damage(&error) => {
                of(boot.mirror).map(|mft| Self { by_mirror: true, ..mft }).map_err(|_| error)
            }
            other => other,
        }
    }

    /// Adds the runs of the next piece.
    ///
    /// # Errors
    /// `Corrupt` when it does not go on where the last one ended.
    pub(super) fn grow(&mut self, runs: Runs) -> Result<()> {
        let at = || At::new("ntfs", "MFT record").index(MFT);
        for run in runs {
            let run = run.map_err(|bad| {
                Error::corrupt(at()).because(format!("the mapping of its cluster {} makes no sense", bad.vcn))
            })?;
            if run.vcn != self.end() || run.lcn.is_none() {
                return Err(Error::corrupt(at()).because(format!("has no cluster {}", self.end())));
            }
            if self.runs.len() >= MAX_RUNS {
                return Err(Error::limit(format!("ntfs: an MFT in more than {MAX_RUNS} pieces")));
            }
            self.runs.push(run);
        }
        Ok(())
    }

    /// The first cluster that no run is known for.
    pub(super) fn end(&self) -> u64 {
        self.runs.last().map_or(0, Stretch::end)
    }

    /// The first record whose place is not known, where there is one.
    pub(super) fn lost(&self, boot: &Boot) -> Option<u64> {
        let end = self.end().saturating_mul(boot.cluster());
        (end < self.len).then(|| end.checked_div(boot.record).unwrap_or(0))
    }

    /// Records that there may be.
    pub(super) fn records(&self, boot: &Boot) -> u64 {
        self.len.checked_div(boot.record).unwrap_or(0)
    }

    /// Reads a record; one of the first from the mirror when it is damaged.
    ///
    /// # Errors
    /// `Corrupt` behind the last, and when it is damaged.
    pub(super) fn record(&self, meta: &Meta, boot: &Boot, number: u64) -> Result<Record> {
        match self.first_copy(meta, boot, number) {
            Err(error) if is_damage(&error) && number < mirrored(boot) => {
                read_at(meta, boot, number, boot.mirror).map_err(|_| error)
            }
            other => other,
        }
    }

    fn first_copy(&self, meta: &Meta, boot: &Boot, number: u64) -> Result<Record> {
        let start = number.checked_mul(boot.record);
        let end = start.and_then(|start| start.checked_add(boot.record));
        let (Some(start), Some(_)) = (start, end.filter(|end| *end <= self.len)) else {
            let at = At::new("ntfs", "MFT record").index(number);
            return Err(Error::corrupt(at).because(format!("the table has {} only", self.records(boot))));
        };
        let mut bytes = Vec::with_capacity(narrow(boot.record));
        let mut first = None;
        // A record larger than a cluster may lie in several runs.
        while wide(bytes.len()) < boot.record {
            let at = start.saturating_add(wide(bytes.len()));
            let left = boot.record.saturating_sub(wide(bytes.len()));
            let (byte, len) = self.place(boot, at).ok_or_else(|| {
                Error::corrupt(At::new("ntfs", "MFT record").index(number)).because("lies in no cluster")
            })?;
            first = first.or(Some(byte));
            bytes.extend_from_slice(&meta.near(byte, left.min(len))?);
        }
        Record::parse(number, first.unwrap_or(0), bytes)
    }

    /// Where the byte at `at` of the MFT lies, and how many lie there in a row.
    fn place(&self, boot: &Boot, at: u64) -> Option<(u64, u64)> {
        let vcn = at >> boot.cluster_log;
        let next = self.runs.partition_point(|run| run.vcn <= vcn);
        let run = self.runs.get(next.checked_sub(1)?).filter(|run| vcn < run.end())?;
        let skip = at.checked_sub(run.vcn << boot.cluster_log)?;
        let len = (run.clusters << boot.cluster_log).checked_sub(skip)?;
        Some(((run.lcn? << boot.cluster_log).checked_add(skip)?, len))
    }
}

impl Mft {
    /// Where byte `at` of a record lies, with up to `len` behind it that are stored as they are: the last two bytes of
    /// each sector are not.
    ///
    /// # Errors
    /// `Unsupported` for those two bytes; `Corrupt` when the record lies nowhere.
    pub(super) fn run(&self, boot: &Boot, number: u64, at: u64, len: u64) -> Result<Run> {
        let inside = at & wide(STRIDE).saturating_sub(1);
        let left = wide(STRIDE).saturating_sub(2).checked_sub(inside).filter(|left| *left > 0);
        let left =
            left.ok_or_else(|| Error::unsupported("the place of two bytes that are kept elsewhere"))?;
        let start = number.checked_mul(boot.record).and_then(|start| start.checked_add(at));
        let (offset, there) = start.and_then(|start| self.place(boot, start)).ok_or_else(|| {
            Error::corrupt(At::new("ntfs", "MFT record").index(number)).because("lies in no cluster")
        })?;
        Ok(Run { len: len.min(left).min(there), place: Place::Stored { file: 0, offset } })
    }
}

fn mirrored(boot: &Boot) -> u64 {
    boot.cluster().checked_div(boot.record).unwrap_or(0).max(MIRRORED)
}

/// Reads one of the first records of the MFT or its mirror, which begins at `cluster`.
fn read_at(meta: &Meta, boot: &Boot, number: u64, cluster: u64) -> Result<Record> {
    let start = cluster.checked_shl(boot.cluster_log).filter(|_| cluster < boot.clusters());
    let start = start.and_then(|start| start.checked_add(number.checked_mul(boot.record)?));
    let start = start.ok_or_else(|| {
        Error::corrupt(At::new("ntfs", "boot sector").byte(0))
            .because(format!("the MFT at cluster {cluster} of {}", boot.clusters()))
    })?;
    Record::parse(number, start, meta.near(start, boot.record)?.to_vec())
}

/// Is this damage, so that something else may be sound?
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::OutOfRange)
}
