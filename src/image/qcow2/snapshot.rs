//! The snapshot table: which other disks the same clusters make, by L1 tables of their own.
//!
//! Specification: qemu, `docs/interop/qcow2.txt`, section "Snapshots".

use super::header::Header;
use crate::block::BlockSource;
use crate::error::Result;
use crate::num::{narrow, round_up, wide};
use crate::ondisk::{get_be16, get_be32, get_be64};

/// Bytes of a table that are read, a piece at a time; qemu's entries take about 70. Real images have a few dozen
/// snapshots, qemu writes at most 65536.
const MAX_TABLE: u64 = 1 << 20;
const PIECE: u64 = 64 << 10;
/// Snapshots that are listed.
pub(super) const MAX_SNAPSHOTS: u32 = 4096;

/// One entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u64,
    pub(super) id: Vec<u8>,
    pub(super) name: Vec<u8>,
    /// Of its disk, in bytes; version 2 does not need to say, and cannot have another than the image.
    pub(super) size: Option<u64>,
}

/// Reads the entry at the start of `bytes`, and how many bytes it takes; `None` when there are too few.
///
/// ```text
/// 0 L1 offset 8 │ 8 L1 entries 4 │ 12 length of id 2 │ 14 length of name 2 │ 16 seconds 4 │ 20 nanoseconds 4 │ 24 clock 8
/// 32 state size 4 │ 36 length of extra 4 │ 40 extra: state size 8, disk size 8, ... │ id │ name │ padding to 8
/// ```
pub(super) fn parse(bytes: &[u8]) -> Option<(u64, Snapshot)> {
    let id_len = usize::from(get_be16(bytes, 12)?);
    let name_len = usize::from(get_be16(bytes, 14)?);
    let extra = narrow(u64::from(get_be32(bytes, 36)?));
    let id_at = 40_usize.checked_add(extra)?;
    let name_at = id_at.checked_add(id_len)?;
    let end = name_at.checked_add(name_len)?;
    let snapshot = Snapshot {
        l1_offset: get_be64(bytes, 0)?,
        l1_entries: u64::from(get_be32(bytes, 8)?),
        id: bytes.get(id_at..name_at)?.to_vec(),
        name: bytes.get(name_at..end)?.to_vec(),
        size: if extra >= 16 { get_be64(bytes, 48) } else { None },
    };
    Some((round_up(wide(end), 8)?, snapshot))
}

/// The snapshots of an image, as many as a bounded look at the table shows.
///
/// # Errors
/// What reading reports.
pub(super) fn load(source: &dyn BlockSource, header: &Header) -> Result<Vec<Snapshot>> {
    let there = source.len().saturating_sub(header.snapshots_offset).min(MAX_TABLE);
    let (mut table, mut at, mut found) = (Vec::new(), 0_u64, Vec::new());
    while found.len() < narrow(header.snapshots.min(MAX_SNAPSHOTS).into()) {
        match parse(table.get(narrow(at)..).unwrap_or_default()) {
            Some((len, snapshot)) => {
                found.push(snapshot);
                at = at.saturating_add(len);
            }
            None if wide(table.len()) < there => {
                let old = table.len();
                table.resize(narrow(wide(old).saturating_add(PIECE).min(there)), 0);
                let from = header.snapshots_offset.saturating_add(wide(old));
                source.read_at(table.get_mut(old..).unwrap_or_default(), from)?;
            }
            None => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry written from the specification: id "1", name "ab", with so many bytes of extra data.
    fn entry(extra: usize) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[0..8].copy_from_slice(&0x5_0000_u64.to_be_bytes());
        bytes[8..12].copy_from_slice(&2_u32.to_be_bytes());
        bytes[12..16].copy_from_slice(&[0, 1, 0, 2]);
        bytes[36..40].copy_from_slice(&u32::try_from(extra).unwrap().to_be_bytes());
        let mut data = vec![0; extra.max(16)];
        data[8..16].copy_from_slice(&(7_u64 << 20).to_be_bytes());
        bytes.extend(&data[..extra]);
        bytes.extend(b"1ab");
        bytes
    }

    #[test]
    fn an_entry_says_its_disks_size_if_its_extra_data_reach_that_far() {
        let (len, snapshot) = parse(&entry(16)).unwrap();
        assert_eq!((len, snapshot.size, snapshot.l1_entries), (64, Some(7 << 20), 2));
        assert_eq!((snapshot.id.as_slice(), snapshot.name.as_slice()), (&b"1"[..], &b"ab"[..]));
        assert_eq!(parse(&entry(24)).unwrap().1.size, Some(7 << 20));
        assert_eq!(parse(&entry(8)).unwrap().1.size, None);
    }

    #[test]
    fn an_entry_that_is_cut_off_is_none() {
        let whole = entry(16);
        assert!((0..whole.len()).all(|len| parse(&whole[..len]).is_none()));
    }

    #[test]
    fn extra_data_of_4_gib_are_none() {
        let mut bytes = entry(16);
        bytes[36..40].fill(0xff);
        assert_eq!(parse(&bytes), None);
    }
}
