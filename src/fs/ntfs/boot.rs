//! The boot sector: how large sectors, clusters and records are, and where the MFT begins. Its copy lies in the volume's
//! last sector, behind the last that the file system counts.
//!
//! Facts: Microsoft, "NTFS overview" (BPB and extended BPB); for clusters above 64 KiB, what `Format-Volume` of Windows 10
//! 1709 and `mkntfs` write: the power of two as a negative number.

use crate::block::{BlockSource, Probe};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::narrow;
use crate::ondisk::{get_le16, get_le64};

/// The name at byte 3 of the boot sector.
pub(super) const NAME: &[u8] = b"NTFS    ";
/// Bytes of the boot sector that mean anything.
const SIZE: u64 = 512;
/// The largest cluster: 2 MiB.
const MAX_CLUSTER_LOG: u32 = 21;
/// The largest record of the MFT that is accepted; Windows makes 1 KiB and 4 KiB.
const MAX_RECORD: u64 = 4096;
/// The largest block of an index; Windows makes 4 KiB, and one cluster where that is larger, to 64 KiB.
pub(super) const MAX_INDEX_BLOCK: u64 = 64 << 10;

/// What the boot sector says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    /// Bytes in a sector.
    pub(super) sector: u32,
    /// Bytes in a cluster, as a power of two.
    pub(super) cluster_log: u32,
    /// Sectors of the file system.
    sectors: u64,
    /// Bytes in a record of the MFT.
    pub(super) record: u64,
    /// Bytes in an index block of a directory, as a rule; each index says its own.
    pub(super) index_block: u64,
    /// The cluster where the MFT begins.
    pub(super) mft: u64,
    /// The cluster where the copy of its first records begins.
    pub(super) mirror: u64,
    /// The volume's serial number.
    pub(super) serial: u64,
    /// The boot sector was damaged; this is its copy.
    pub(super) by_backup: bool,
}

fn bad(why: impl Into<String>) -> Error {
    Error::corrupt(At::new("ntfs", "boot sector").byte(0)).because(why)
}

/// A size as the boot sector encodes it: a count of clusters, or the power of two as a negative number.
fn size(code: u8, cluster_log: u32) -> Option<u64> {
    let code = code.cast_signed();
    if code < 0 {
        return 1_u64.checked_shl(u32::from(code.unsigned_abs())).filter(|size| *size > 0);
    }
    u64::from(code.unsigned_abs()).checked_mul(1_u64.checked_shl(cluster_log)?)
}

impl Boot {
    /// Reads a boot sector.
    ///
    /// # Errors
    /// `Corrupt` when it has another name or numbers that no volume can have.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        if !bytes.get(3..).is_some_and(|rest| rest.starts_with(NAME)) {
            return Err(bad("has no `NTFS` at byte 3"));
        }
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let word = |at| get_le64(bytes, at).unwrap_or(0);
        let sector = u32::from(get_le16(bytes, 0x0b).unwrap_or(0));
        if !sector.is_power_of_two() || !(256..=4096).contains(&sector) {
            return Err(bad(format!("{sector} bytes in a sector")));
        }
        let per_cluster = byte(0x0d);
        let cluster_log = match per_cluster {
            1..=0x80 if per_cluster.is_power_of_two() => per_cluster.trailing_zeros(),
            0x81.. => u32::from(per_cluster.wrapping_neg()),
            _ => return Err(bad(format!("{per_cluster} sectors in a cluster"))),
        };
        let cluster_log = cluster_log.saturating_add(sector.trailing_zeros());
        if cluster_log > MAX_CLUSTER_LOG {
            return Err(bad(format!("clusters of 2^{cluster_log} bytes, at most 2 MiB are allowed")));
        }
        let record = size(byte(0x40), cluster_log)
            .filter(|size| size.is_power_of_two() && (512..=MAX_RECORD).contains(size));
        let record = record.ok_or_else(|| bad(format!("{:#x} for the size of a record", byte(0x40))))?;
        let index_block = size(byte(0x44), cluster_log).filter(|size| size.is_power_of_two());
        let boot = Self {
            sector,
            cluster_log,
            sectors: word(0x28),
            record,
            index_block: index_block.unwrap_or(4096).min(MAX_INDEX_BLOCK),
            mft: word(0x30),
            mirror: word(0x38),
            serial: word(0x48),
            by_backup: false,
        };
        if boot.sectors == 0 || boot.sectors >> 55 != 0 {
            return Err(bad(format!("{} sectors", boot.sectors)));
        }
        if boot.mft >= boot.clusters() && boot.mirror >= boot.clusters() {
            return Err(bad(format!(
                "the MFT at cluster {}, its mirror at {}, of {}",
                boot.mft,
                boot.mirror,
                boot.clusters()
            )));
        }
        Ok(boot)
    }

    /// Reads the boot sector of a volume, or its copy where that is damaged.
    ///
    /// # Errors
    /// As [`Boot::parse`]; what the volume reports.
    pub(super) fn load(volume: &dyn BlockSource) -> Result<Self> {
        let len = volume.len();
        let read = |at: u64| {
            let mut bytes = vec![0; narrow(SIZE.min(len))];
            volume.read_at(&mut bytes, at)?;
            Self::parse(&bytes)
        };
        let first = match read(0) {
            Ok(boot) => return Ok(boot),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io) => error,
            Err(error) => return Err(error),
        };
        for sector in [512, 4096] {
            let Some(at) = len.checked_sub(sector) else { continue };
            if let Ok(boot) = read(at)
                && boot.is_followed_by_copy(len)
            {
                return Ok(Self { by_backup: true, ..boot });
            }
        }
        Err(first)
    }

    /// Does the copy of this boot sector lie at the end of a volume of `len` bytes?
    fn is_followed_by_copy(&self, len: u64) -> bool {
        self.size().checked_add(u64::from(self.sector)).is_some_and(|end| end == len)
    }

    /// Is the copy of a boot sector at the end of a volume that shows no other?
    pub(super) fn is_at_the_end(probe: &Probe<'_>) -> bool {
        [512_usize, 4096].into_iter().any(|sector| {
            let at = probe.tail.len().checked_sub(sector);
            let copy = at.and_then(|at| probe.tail.get(at..)).map(Self::parse);
            copy.is_some_and(|copy| copy.is_ok_and(|boot| boot.is_followed_by_copy(probe.len)))
        })
    }

    /// Bytes in a cluster.
    pub(super) fn cluster(&self) -> u64 {
        1_u64.checked_shl(self.cluster_log).unwrap_or(1)
    }

    /// Bytes of the file system.
    pub(super) fn size(&self) -> u64 {
        self.sectors.saturating_mul(self.sector.into())
    }

    /// Clusters of the file system.
    pub(super) fn clusters(&self) -> u64 {
        self.size() >> self.cluster_log
    }
}
