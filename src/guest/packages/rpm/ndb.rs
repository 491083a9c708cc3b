//! rpm's own "NDB" format, `Packages.db`: slots of 16 bytes in the first pages, each naming a run of blocks with one
//! header in it. Little-endian throughout. Followed: `lib/backend/ndb/rpmpkg.c` of rpm, and a database of SLES 15.

use super::LAYER;
use super::blob::Blob;
use super::store::Store;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le32, le32};

/// At the file's start.
pub(super) const MAGIC: &[u8] = b"RpmP";
/// Bytes of the file's header, in place of the first two slots.
const HEADER: usize = 32;
const SLOT: usize = 16;
const BLOCK: u64 = 16;
const PAGE: usize = 4096;
/// Before and behind a header.
const HEAD: usize = 16;
const TAIL: u64 = 12;
/// Pages of slots at most: room for 16 million packages.
const MAX_PAGES: u32 = 65_536;
/// What is fetched of a blob at a time.
const PIECE: u64 = 16 << 10;

/// Shows every header.
///
/// # Errors
/// When the database cannot be read or is damaged; what `sink` fails with.
pub(super) fn each(store: &Store<'_>, sink: &mut dyn FnMut(&mut Blob<'_>) -> Result<()>) -> Result<()> {
    let at = At::new(LAYER, "NDB header").byte(0);
    let header = store.read(0, HEADER, "NDB header")?;
    let (version, pages) = (le32(&header, 4, &at)?, le32(&header, 12, &at)?);
    if version != 0 {
        return Err(Error::unsupported(format!("NDB version {version}")).at(at));
    }
    if pages == 0 || pages > MAX_PAGES {
        return Err(Error::corrupt(at).because(format!("{pages} pages of slots")));
    }
    let mut first = HEADER;
    for page in 0..pages {
        let offset = u64::from(page).saturating_mul(wide(PAGE));
        let bytes = store.read(offset, PAGE, "NDB slots")?;
        for (index, slot) in bytes.chunks_exact(SLOT).enumerate().skip(first.div_euclid(SLOT)) {
            let at = At::new(LAYER, "NDB slot").byte(offset.saturating_add(wide(index.saturating_mul(SLOT))));
            if !slot.starts_with(b"Slot") {
                return Err(Error::corrupt(at).because("it does not begin with 'Slot'"));
            }
            let (number, start, count) = (le32(slot, 4, &at)?, le32(slot, 8, &at)?, le32(slot, 12, &at)?);
            if start != 0 {
                one(store, number, u64::from(start), u64::from(count), sink)?;
            }
        }
        first = 0;
    }
    Ok(())
}

/// The header in one run of blocks.
fn one(
    store: &Store<'_>,
    number: u32,
    start: u64,
    count: u64,
    sink: &mut dyn FnMut(&mut Blob<'_>) -> Result<()>,
) -> Result<()> {
    let offset = start.saturating_mul(BLOCK);
    let at = At::new(LAYER, "NDB blob").index(u64::from(number)).byte(offset);
    let head = store.read(offset, HEAD, "NDB blob")?;
    if !head.starts_with(b"BlbS") || get_le32(&head, 4) != Some(number) {
        return Err(Error::corrupt(at).because(format!("it is not the blob of package {number}")));
    }
    let len = u64::from(le32(&head, 12, &at)?);
    if wide(HEAD).saturating_add(len).saturating_add(TAIL) > count.saturating_mul(BLOCK) {
        return Err(Error::corrupt(at).because(format!("{len} bytes in {count} blocks")));
    }
    let mut next = offset.saturating_add(wide(HEAD));
    let end = next.saturating_add(len);
    let more = move || {
        let size = end.saturating_sub(next).min(PIECE);
        let piece = store.read(next, narrow(size), "NDB blob")?;
        next = next.saturating_add(size);
        Ok(Some(piece))
    };
    sink(&mut Blob::new(len, Vec::new(), Box::new(more)))
}
