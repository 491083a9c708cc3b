//! Where a disk ends by its own partition table, and whether a GPT stands behind an MBR that does not know of it.
//!
//! MBR: entries of 16 bytes at 0x1be, start and length in sectors of 512 at 8 and 12 (Linux `block/partitions/msdos.c`).
//! GPT header: UEFI specification 2.10, table 5-5.

use super::{Fact, Subject};
use crate::error::Result;
use crate::ondisk::{get_le32, get_le64};
use crate::volume::TableKind;

/// Bytes that are read: a protective MBR, and a GPT header at the second sector of 512 or of 4096 bytes.
const HEAD: u64 = 4096 + 512;
/// Where the last sector's number stands in a GPT header: that of its copy.
const ALTERNATE_LBA: usize = 0x20;

/// What the table says about the disk.
#[derive(Debug, Default)]
pub(super) struct TableEnd {
    /// The byte behind the last one that the table names; 0 without a table of either kind.
    pub(super) end: u64,
    /// The byte in the table that says so.
    pub(super) at: u64,
    /// A GPT header stands behind an MBR without an entry for it: the byte.
    pub(super) stale_gpt: Option<u64>,
}

impl Fact for TableEnd {
    fn read(subject: &Subject<'_>) -> Result<Self> {
        let disk = subject.system_disk();
        let mut head = vec![0; crate::num::narrow(disk.image.disk.len().min(HEAD))];
        disk.image.disk.read_at(&mut head, 0)?;
        Ok(Self::of(&head, disk.discovery.table.kind, disk.discovery.table.sector_size))
    }
}

impl TableEnd {
    fn of(head: &[u8], kind: TableKind, sector: u32) -> Self {
        let header = |sector: usize| head.get(sector..).is_some_and(|rest| rest.starts_with(b"EFI PART"));
        match kind {
            TableKind::Mbr => {
                let entries = (0x1be..0x1fe).step_by(16).filter_map(|at: usize| {
                    let (start, count) =
                        (get_le32(head, at.checked_add(8)?)?, get_le32(head, at.checked_add(12)?)?);
                    let end = u64::from(start).saturating_add(u64::from(count)).saturating_mul(512);
                    (count > 0).then_some((end, crate::num::wide(at)))
                });
                let (end, at) = entries.max().unwrap_or_default();
                let stale = [512, 4096].into_iter().find(|sector| header(*sector));
                Self { end, at, stale_gpt: stale.map(crate::num::wide) }
            }
            TableKind::Gpt => {
                let start = crate::num::narrow(u64::from(sector));
                let place = start.saturating_add(ALTERNATE_LBA);
                let last = get_le64(head, place).filter(|_| header(start)).unwrap_or(0);
                // 0 where the header is damaged and its copy at the end was read: then the end is there.
                let end =
                    if last == 0 { 0 } else { last.saturating_add(1).saturating_mul(u64::from(sector)) };
                Self { end, at: crate::num::wide(place), stale_gpt: None }
            }
            TableKind::None | TableKind::Sun | TableKind::Bsd => Self::default(),
        }
    }
}
