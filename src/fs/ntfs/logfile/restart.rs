//! The restart pages: the first two of the log. They say how it is laid out, who has it open, and from where it must be
//! played back.
//!
//! ```text
//! 0x00 RSTR, fix-ups   0x10 sizes of pages   0x18 offset of the area   0x1a version
//! area   0x00 newest LSN known   0x0c client in use   0x0e flags   0x10 bits of a lap's number   0x16 clients   0x18 size
//! client 0x00 oldest LSN wanted  0x08 LSN of its last checkpoint
//! ```
//! Each is written in turn; the one that knows the newer record counts. Facts: linux-ntfs project, "NTFS documentation",
//! "$LogFile"; the checks and the meaning of `CHKD` as in the kernel's ntfs3.

use super::Log;
use crate::error::{At, Error, Result};
use crate::fs::ntfs::record::fix_up;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};

/// Sizes that a page of the log may have.
const PAGES: std::ops::RangeInclusive<u64> = 512..=64 << 10;
/// Nobody, where a client's number stands.
const NOBODY: u16 = 0xffff;
/// Flag of the area: the volume was unmounted.
const IS_CLEAN: u16 = 2;
/// Bytes of a client, and of a record's header.
const CLIENT: usize = 0xa0;
pub(super) const RECORD_HEADER: usize = 0x30;
/// Pages at the start that are for copies of the last pages, by major version.
const TAILS_1: u64 = 2;
const TAILS_2: u64 = 32;

/// What the start of the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing was ever written, or somebody emptied it: all ones.
    Empty,
    /// `chkdsk` was here: what it holds is void.
    Void,
    /// The newer area.
    Area(Area),
}

/// A restart area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Area {
    /// Version of the log's format.
    pub(super) version: (u16, u16),
    /// Bytes in a page.
    pub(super) page: u64,
    /// Bytes of the log that are used, whole pages.
    pub(super) size: u64,
    /// Low bits of an LSN that are a place, in units of 8 bytes; those above count laps.
    place_bits: u32,
    /// Where in a page records begin.
    pub(super) data: u64,
    /// The newest LSN that was known when this was written.
    pub(super) newest: u64,
    /// LSN of the client's last checkpoint, if one has the log open.
    pub(super) checkpoint: Option<u64>,
    /// The volume was unmounted.
    is_clean: bool,
}

fn bad(byte: u64, why: impl Into<String>) -> Error {
    Error::corrupt(At::new("ntfs", "restart page of $LogFile").byte(byte)).because(why)
}

impl Start {
    /// Reads both pages.
    ///
    /// # Errors
    /// `Corrupt` when neither is sound; what the log's file reports.
    pub(super) fn load(log: &Log<'_>) -> Result<Self> {
        let mut first = Err(bad(0, "there is none"));
        let mut step = *PAGES.start();
        // The second page is found by its place where the first is damaged: that is the size of a page.
        for at in std::iter::once(0).chain(std::iter::from_fn(|| {
            let at = step;
            step = at.saturating_mul(2);
            PAGES.contains(&at).then_some(at)
        })) {
            match Self::page(log, at)? {
                Ok(Some(Self::Area(area))) => {
                    if at != 0 {
                        return Ok(Self::Area(area));
                    }
                    return Ok(match Self::page(log, area.page)? {
                        Ok(Some(Self::Area(second))) if second.newest > area.newest => Self::Area(second),
                        Ok(Some(Self::Void)) => Self::Void,
                        _ => Self::Area(area),
                    });
                }
                Ok(Some(other)) => return Ok(other),
                Ok(None) => {}
                Err(error) if at == 0 => first = Err(error),
                Err(_) => {}
            }
        }
        first
    }

    /// The page at `at`; `None` when it is none. The outer error is the log's file's.
    fn page(log: &Log<'_>, at: u64) -> Result<Result<Option<Self>>> {
        let mut head = [0; 512];
        if at.saturating_add(wide(head.len())) > log.len {
            return Ok(Ok(None));
        }
        log.read(&mut head, at)?;
        let magic: [u8; 4] = head.first_chunk().copied().unwrap_or_default();
        if at == 0 && head == [0xff; 512] {
            return Ok(Ok(Some(Self::Empty)));
        }
        if magic == *b"CHKD" {
            return Ok(Ok(Some(Self::Void)));
        }
        if magic != *b"RSTR" {
            return Ok(Ok(None));
        }
        let size = u64::from(get_le32(&head, 0x10).unwrap_or(0));
        if !size.is_power_of_two() || !PAGES.contains(&size) || (at != 0 && at != size) {
            return Ok(Err(bad(at, format!("pages of {size} bytes"))));
        }
        if at.saturating_add(size) > log.len {
            return Ok(Err(bad(at, "ends behind the log")));
        }
        let mut bytes = vec![0; narrow(size)];
        log.read(&mut bytes, at)?;
        Ok(Area::parse(bytes, at, log.len).map(|area| Some(Self::Area(area))))
    }
}

impl Area {
    fn parse(mut bytes: Vec<u8>, at: u64, len: u64) -> Result<Self> {
        fix_up(&mut bytes, b"RSTR", &At::new("ntfs", "restart page of $LogFile").byte(at))?;
        let half = |place: usize| get_le16(&bytes, place).unwrap_or(0);
        let word = |place: usize| get_le64(&bytes, place).unwrap_or(0);
        let page = u64::from(get_le32(&bytes, 0x14).unwrap_or(0));
        let area = usize::from(half(0x18));
        if area.saturating_add(0x30) > bytes.len() {
            return Err(bad(at, format!("its area at {area:#x} ends outside")));
        }
        let of_area = |place: usize| area.saturating_add(place);
        let laps = get_le32(&bytes, of_area(0x10)).unwrap_or(0);
        let place_bits = 64_u32.checked_sub(laps).filter(|bits| (8..=40).contains(bits));
        let size = word(of_area(0x18));
        let data = u64::from(half(of_area(0x26)));
        let in_use = half(of_area(0x0c));
        if page != wide(bytes.len()) {
            return Err(bad(at, format!("pages of {page} bytes, behind restart pages of {}", bytes.len())));
        }
        let Some(place_bits) = place_bits.filter(|bits| size <= 8_u64 << bits && size <= len) else {
            return Err(bad(at, format!("{laps} bits count laps of a log of {size} bytes, in {len}")));
        };
        if !(wide(RECORD_HEADER)..page).contains(&data) || !data.is_multiple_of(8) {
            return Err(bad(at, format!("records from byte {data} of a page")));
        }
        if usize::from(half(of_area(0x24))) != RECORD_HEADER {
            return Err(bad(at, format!("records with headers of {} bytes", half(of_area(0x24)))));
        }
        let checkpoint = if in_use == NOBODY {
            None
        } else {
            let client = usize::from(in_use)
                .saturating_mul(CLIENT)
                .saturating_add(of_area(usize::from(half(of_area(0x16)))));
            if in_use >= half(of_area(0x08)) || client.saturating_add(CLIENT) > bytes.len() {
                return Err(bad(at, format!("client {in_use} of {}", half(of_area(0x08)))));
            }
            Some(word(client.saturating_add(8)))
        };
        Ok(Self {
            version: (half(0x1c), half(0x1a)),
            page,
            size: size.checked_div(page).unwrap_or(0).saturating_mul(page),
            place_bits,
            data,
            newest: word(area),
            checkpoint,
            is_clean: half(of_area(0x0e)) & IS_CLEAN != 0,
        })
    }

    /// The LSN of the checkpoint that a log has which nobody closed.
    pub(super) fn open_at(&self) -> Option<u64> {
        self.checkpoint.filter(|_| !self.is_clean)
    }

    /// The byte of the first page for records that stay where they are; copies of the last pages stand before it.
    pub(super) const fn first(&self) -> u64 {
        let tails = if self.version.0 < 2 { TAILS_1 } else { TAILS_2 };
        self.page.saturating_mul(tails.saturating_add(2))
    }

    /// The byte of the log where a record stands.
    pub(super) fn byte_of(&self, lsn: u64) -> u64 {
        (lsn & (1_u64 << self.place_bits).saturating_sub(1)) << 3
    }

    /// The LSN of a record at this byte, in the lap of another, or in the one after that.
    pub(super) fn lsn_at(&self, byte: u64, other: u64, next_lap: bool) -> u64 {
        let lap = (other >> self.place_bits).wrapping_add(u64::from(next_lap));
        (lap << self.place_bits) | byte >> 3
    }
}
