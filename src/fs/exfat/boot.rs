//! The boot region: twelve sectors, the last of which repeats the sum over the others; and a copy of it behind.
//!
//! "exFAT file system specification" (Microsoft, 2019), "3 Main and Backup Boot Regions".

use crate::error::{At, Error, Result};
use crate::fs::chain::FIRST;
use crate::fs::meta::Meta;
use crate::num::narrow;
use crate::ondisk::{get_le16, get_le32, get_le64};

/// The file system's name, at byte 3; zeros follow where FAT has its fields.
pub(super) const NAME: &[u8] = b"EXFAT   ";
/// Sectors that the sum is over.
const SUMMED: u64 = 11;
/// Where the copy starts, in sectors.
const BACKUP: u64 = 12;
/// Exponents of sector sizes that there are.
const SECTOR_SHIFTS: std::ops::RangeInclusive<u8> = 9..=12;
/// The largest cluster: 32 MiB.
const MAX_CLUSTER_SHIFT: u8 = 25;

/// What the boot sector says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    /// Bytes.
    pub(super) sector: u64,
    /// Bytes.
    pub(super) cluster: u64,
    /// Bytes of the whole volume.
    pub(super) size: u64,
    /// Byte of the FAT that is in use.
    pub(super) fat: u64,
    /// Byte where cluster 2 starts.
    pub(super) heap: u64,
    /// The number behind the last cluster's.
    pub(super) end: u32,
    /// First cluster of the root directory.
    pub(super) root: u32,
    pub(super) serial: u32,
    /// Major and minor.
    pub(super) revision: [u8; 2],
    pub(super) is_dirty: bool,
    pub(super) has_failed: bool,
    /// Two FATs and two bitmaps, of which the second is in use.
    pub(super) second_fat: bool,
    pub(super) fats: u8,
    /// The first region is damaged, the copy was read.
    pub(super) by_backup: bool,
}

fn bad(byte: u64, why: String) -> Error {
    Error::corrupt(At::new("exfat", "boot region").byte(byte)).because(why)
}

impl Boot {
    /// Reads the boot region, or the copy where the first is damaged.
    ///
    /// # Errors
    /// `Corrupt` when neither is sound, with what is wrong in the first.
    pub(super) fn load(meta: &Meta) -> Result<Self> {
        let main = Self::load_at(meta, 0, None);
        let Err(error) = main else { return main };
        // How large a sector is is not known then.
        for shift in SECTOR_SHIFTS {
            if let Ok(boot) = Self::load_at(meta, BACKUP << shift, Some(shift)) {
                return Ok(Self { by_backup: true, ..boot });
            }
        }
        Err(error)
    }

    fn load_at(meta: &Meta, at: u64, shift: Option<u8>) -> Result<Self> {
        let sector = meta.near(at, 512)?;
        let boot = Self::parse(&sector, at)?;
        if shift.is_some_and(|shift| 1 << shift != boot.sector) {
            return Err(bad(at, format!("sectors of {} bytes, which it does not lie at", boot.sector)));
        }
        let summed = boot.sector.saturating_mul(SUMMED);
        let region = meta.near(at, summed.saturating_add(4))?;
        let expected = get_le32(&region, narrow(summed)).unwrap_or(0);
        let sum = checksum(region.get(..narrow(summed)).unwrap_or_default());
        if sum != expected {
            return Err(bad(at, format!("checksum {sum:#010x}, {expected:#010x} is expected")));
        }
        Ok(boot)
    }

    /// Reads a boot sector.
    ///
    /// # Errors
    /// `Corrupt` when its numbers make no sense.
    pub(super) fn parse(bytes: &[u8], at: u64) -> Result<Self> {
        let bad = |why: String| bad(at, why);
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let le32 = |at: usize| get_le32(bytes, at).unwrap_or(0);
        let zeros = bytes.get(11..64).is_some_and(|gap| gap.iter().all(|byte| *byte == 0));
        if bytes.get(3..11) != Some(NAME) || !zeros || get_le16(bytes, 510) != Some(0xaa55) {
            return Err(bad("its signature is not there".to_owned()));
        }
        let (shift, per_cluster, fats) = (byte(108), byte(109), byte(110));
        let cluster_shift = shift.saturating_add(per_cluster);
        if !SECTOR_SHIFTS.contains(&shift) || cluster_shift > MAX_CLUSTER_SHIFT || !matches!(fats, 1 | 2) {
            return Err(bad(format!(
                "sectors of 2^{shift} bytes, clusters of 2^{per_cluster} sectors, {fats} FATs"
            )));
        }
        let bytes_of = |sectors: u64| sectors.checked_shl(shift.into()).unwrap_or(u64::MAX);
        let (fat_at, fat_len, heap, clusters) = (le32(80), le32(84), le32(88), le32(92));
        let second_fat = fats == 2 && byte(106) & 1 != 0;
        let fat = u64::from(fat_at).saturating_add(if second_fat { fat_len.into() } else { 0 });
        let entries = bytes_of(fat_len.into()) / 4;
        let end = clusters.saturating_add(FIRST);
        if entries < u64::from(end) || clusters == 0 || end > 0xffff_fff7 {
            return Err(bad(format!("{clusters} clusters, and {entries} entries in the FAT")));
        }
        if fat_at < 24 || u64::from(heap) < u64::from(fat_at).saturating_add(fat_len.into()) {
            return Err(bad(format!("FAT at sector {fat_at}, clusters from sector {heap} on")));
        }
        let root = le32(96);
        if !(FIRST..end).contains(&root) {
            return Err(bad(format!("the root directory in cluster {root}, the last is {end}")));
        }
        Ok(Self {
            sector: 1 << shift,
            cluster: 1 << cluster_shift,
            size: get_le64(bytes, 72).unwrap_or(0).saturating_mul(1 << shift),
            fat: bytes_of(fat),
            heap: bytes_of(heap.into()),
            end,
            root,
            serial: le32(100),
            revision: [byte(105), byte(104)],
            is_dirty: byte(106) & 2 != 0,
            has_failed: byte(106) & 4 != 0,
            second_fat,
            fats,
            by_backup: false,
        })
    }

    /// Where a cluster starts on the volume.
    pub(super) fn cluster_at(&self, cluster: u32) -> u64 {
        self.heap.saturating_add(u64::from(cluster.saturating_sub(FIRST)).saturating_mul(self.cluster))
    }

    /// The volume's number as `blkid` spells it.
    pub(super) fn uuid(&self) -> String {
        let [a, b, c, d] = self.serial.to_be_bytes();
        format!("{a:02X}{b:02X}-{c:02X}{d:02X}")
    }
}

/// The sum over the boot region, but for the flags and the percentage in use, which change.
fn checksum(region: &[u8]) -> u32 {
    let counts = |at: usize| !matches!(at, 106 | 107 | 112);
    let bytes = region.iter().enumerate().filter(|(at, _)| counts(*at));
    bytes.fold(0_u32, |sum, (_, byte)| sum.rotate_right(1).wrapping_add((*byte).into()))
}
