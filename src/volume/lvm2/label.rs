//! What stands on a physical volume: its label, and the areas with the metadata of its group.
//!
//! ```text
//! sector 0..3   label: "LABELONE" │ pv_header: UUID, device size, areas of data, areas of metadata
//! each area     mda_header, 512 bytes: where the newest text lies │ texts, one after the other, round and round
//! ```
//! Layout as in LVM2 2.03, `lib/label/label.h`, `lib/format_text/layout.h`. Checksums are CRC-32 with a start value of
//! their own and no inversion.

use crate::block::{BlockSource, Probe};
use crate::budget::Budget;
use crate::checksum::crc32_from;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le32, get_le64, read_table};

/// Sectors in which a label is looked for (`LABEL_SCAN_SECTORS`).
const LABEL_SECTORS: usize = 4;
const SECTOR: usize = 512;
/// What checksums start from (`INITIAL_CRC`).
const CRC: u32 = 0xf597_a6cf;
/// Of an mda_header, behind its checksum (`FMTT_MAGIC`).
const MDA_MAGIC: &[u8; 16] = b" LVM2 x[5A%r0N*>";
/// The longest text that is read. lvm2's areas have 1 MiB by default and rarely more than 16.
const MAX_TEXT: u64 = 16 << 20;
/// Areas of metadata on one PV: pvcreate makes at most two.
const MAX_AREAS: usize = 8;

/// A label and its pv_header.
#[derive(Clone, Debug)]
pub(super) struct Label {
    /// 32 characters, without the dashes that people see.
    pub(super) uuid: String,
    /// Where areas of metadata begin, and how long they are.
    areas: Vec<(u64, u64)>,
}

/// Does one of the first sectors hold a label?
pub(super) fn is_there(probe: &Probe<'_>) -> bool {
    (0..LABEL_SECTORS).any(|sector| find_in(probe.head, sector).is_some())
}

fn find_in(head: &[u8], sector: usize) -> Option<&[u8]> {
    let start = sector.checked_mul(SECTOR)?;
    let label = head.get(start..start.checked_add(SECTOR)?)?;
    let is_ours = label.starts_with(b"LABELONE")
        && label.get(24..32) == Some(b"LVM2 001")
        && get_le64(label, 8) == Some(wide(sector))
        && get_le32(label, 16) == Some(crc32_from(CRC, label.get(20..)?));
    is_ours.then_some(label)
}

impl Label {
    /// Reads the first label that is whole.
    ///
    /// # Errors
    /// `Corrupt` when there is none or its header makes no sense; what the source reports.
    pub(super) fn load(source: &dyn BlockSource) -> Result<Self> {
        let mut head = [0; LABEL_SECTORS * SECTOR];
        source.read_at(&mut head, 0)?;
        let bad = |why: &str| Error::corrupt(At::new("lvm2", "label")).because(why);
        let label = (0..LABEL_SECTORS).find_map(|sector| find_in(&head, sector));
        let label = label.ok_or_else(|| bad("no label in the first four sectors has the right checksum"))?;
        let header = narrow(u64::from(get_le32(label, 20).unwrap_or(0)));
        let header = label.get(header..).filter(|rest| rest.len() >= 40);
        let header = header.ok_or_else(|| bad("its header lies outside of its sector"))?;
        let uuid: String = header.iter().take(32).map(|byte| char::from(*byte)).collect();
        if !uuid.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'#')) {
            return Err(bad("the UUID of the physical volume has other characters than a UUID"));
        }
        // Two lists of (offset, size), each ended by a zero offset: data areas, then metadata areas.
        let mut lists = [Vec::new(), Vec::new()];
        let mut pairs = header.get(40..).unwrap_or_default().chunks_exact(16);
        for list in &mut lists {
            for pair in pairs.by_ref() {
                let (offset, size) = (get_le64(pair, 0).unwrap_or(0), get_le64(pair, 8).unwrap_or(0));
                if offset == 0 {
                    break;
                }
                list.push((offset, size));
            }
        }
        let [_, mut areas] = lists;
        areas.truncate(MAX_AREAS);
        Ok(Self { uuid, areas })
    }

    /// The committed metadata text of each area that has one, and what is wrong with the others.
    pub(super) fn texts(&self, source: &dyn BlockSource, budget: &Budget) -> (Vec<Vec<u8>>, Vec<Error>) {
        let (mut texts, mut errors) = (Vec::new(), Vec::new());
        for (start, size) in &self.areas {
            match text(source, *start, *size, budget) {
                Ok(text) => texts.extend(text),
                Err(error) => errors.push(error),
            }
        }
        (texts, errors)
    }
}

/// The text that an area's header points to; `None` for an area that is not used.
fn text(source: &dyn BlockSource, start: u64, size: u64, budget: &Budget) -> Result<Option<Vec<u8>>> {
    let at = At::new("lvm2", "mda_header").byte(start);
    let bad = |why: String| Error::corrupt(at.clone()).because(why);
    let header = read_table(source, start, wide(SECTOR), wide(SECTOR), at.clone(), budget)?;
    let covered = header.get(4..).unwrap_or_default();
    let (stored, computed) = (get_le32(&header, 0).unwrap_or(0), crc32_from(CRC, covered));
    if stored != computed || !covered.starts_with(MDA_MAGIC) {
        return Err(bad(format!("its checksum is {computed:#010x}, it says {stored:#010x}")));
    }
    if get_le32(&header, 20) != Some(1) || get_le64(&header, 24) != Some(start) {
        return Err(bad("it is of another version, or belongs elsewhere".to_owned()));
    }
    let area = get_le64(&header, 32).unwrap_or(0);
    if area > size && size != 0 {
        return Err(bad(format!("an area of {area} bytes, the pv_header says {size}")));
    }
    // The first raw_locn is the committed text; the second, a text that was prepared and never committed.
    let field = |at: usize| get_le64(&header, at).unwrap_or(0);
    let (offset, len) = (field(40), field(48));
    let (sum, flags) = (get_le32(&header, 56).unwrap_or(0), get_le32(&header, 60).unwrap_or(0));
    if offset == 0 || len == 0 || flags & 1 != 0 {
        return Ok(None);
    }
    let ring = wide(SECTOR);
    if offset < ring || offset >= area || len > area.saturating_sub(ring) {
        return Err(bad(format!(
            "the text's place ({len} bytes at {offset}) is not inside the area of {area}"
        )));
    }
    // Checksums of many long texts take their time too.
    budget.steps("lvm2 metadata text", len.div_euclid(64))?;
    let first = len.min(area.saturating_sub(offset));
    let at = At::new("lvm2", "metadata text").byte(start.saturating_add(offset));
    let mut text = read_table(source, start.saturating_add(offset), first, MAX_TEXT, at.clone(), budget)?;
    if first < len {
        // It goes on at the start of the area, behind the header.
        let rest = len.saturating_sub(first);
        text.extend(read_table(source, start.saturating_add(ring), rest, MAX_TEXT, at.clone(), budget)?);
    }
    let computed = crc32_from(CRC, &text);
    if sum != computed {
        return Err(Error::corrupt(at)
            .because(format!("its checksum is {computed:#010x}, the header says {sum:#010x}")));
    }
    Ok(Some(text))
}
