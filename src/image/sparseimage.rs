//! sparseimage: Apple's growing disk image in one file. Bands of the disk in the order they were first written, and in front
//! of every thousand of them a page that says which those are.
//!
//! ```text
//! 0x0000  header: sizes, numbers of the bands that follow │ band │ band │ … (1008 of them)
//!         index:  numbers of the bands that follow        │ band │ …        (1010 of them)
//! ```
//! Number 1 is the disk's first band; 0 is a place without one. Apple has not published the format. Followed: libmodi,
//! "Mac OS sparse image format", and images made by `hdiutil`.

use super::pages::held;
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::wide;
use crate::ondisk::read_struct;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format.
pub const FORMAT: Format = Format {
    name: "sparseimage",
    aliases: &["sprs"],
    about: "Apple's growing disk image in one file (.sparseimage)",
    probe,
    open,
};

const SIGNATURE: &[u8; 4] = b"sprs";
const SECTOR: u64 = 512;
/// Bytes of a header or an index.
const PAGE: u64 = 4096;
/// Bands of one image, in memory: at the usual 1 MiB, 2 TiB that are stored.
const MAX_BANDS: usize = 2 << 20;
/// Bytes that a band takes in the map of them, with what the map keeps free.
const BAND_COST: u64 = 40;

/// The header, up to its list.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Header {
    signature: [u8; 4], // 0x00
    version: U32,       // 0x04 3
    band: U32,          // 0x08 sectors
    flags: U32,         // 0x0c
    low: U32,           // 0x10 the low half of the size
    next: U64,          // 0x14 byte where the next index is; 0 if there is none
    sectors: U64,       // 0x1c size of the disk; 0 in the oldest
    reserved: [u8; 28], // 0x24
}
const HEADER: usize = 0x40;
const _: () = assert!(size_of::<Header>() == HEADER);

/// An index, up to its list.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Index {
    signature: [u8; 4], // 0x00
    number: U32,        // 0x04 from 0
    flags: U32,         // 0x08
    next: U64,          // 0x0c
    reserved: [u8; 36], // 0x14
}
const INDEX: usize = 0x38;
const _: () = assert!(size_of::<Index>() == INDEX);

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    probe.has(0, SIGNATURE).then_some(Confidence::Signature)
}

/// The sizes that a header states, checked: of the disk and of a band, in bytes.
fn sizes(header: &Header, at: &At) -> Result<(u64, NonZeroU64)> {
    let corrupt = |why: String| Error::corrupt(at.clone()).because(why);
    if header.version.get() != 3 {
        return Err(
            Error::unsupported(format!("version {} of a sparse image", header.version)).at(at.clone())
        );
    }
    let band = NonZeroU64::new(u64::from(header.band.get()).saturating_mul(SECTOR));
    let band = band.ok_or_else(|| corrupt("bands of 0 sectors".to_owned()))?;
    let sectors = match header.sectors.get() {
        0 => u64::from(header.low.get()),
        sectors => sectors,
    };
    let size = sectors.checked_mul(SECTOR).filter(|size| *size > 0);
    Ok((size.ok_or_else(|| corrupt(format!("a disk of {sectors} sectors")))?, band))
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let at = At::new("sparseimage", "header").byte(0);
    let header: Header = read_struct(&*source, 0, at.clone())?;
    if header.signature != *SIGNATURE {
        return Err(Error::new(ErrorKind::NotAnImage, "is no sparse image: it does not begin with 'sprs'"));
    }
    let (size, band) = sizes(&header, &at)?;
    let last = size.div_ceil(band.get());
    let mut bands: HashMap<u32, u64> = HashMap::new();
    let (mut page_at, mut list_at, mut next) = (0, HEADER, header.next.get());
    loop {
        let place = At::new("sparseimage", "index").byte(page_at);
        let mut page = [0; 4096];
        if page_at.checked_add(PAGE).is_none_or(|end| end > source.len()) {
            return Err(
                Error::corrupt(place).because(format!("the file ends at {:#x}, before it", source.len()))
            );
        }
        source.read_at(&mut page, page_at)?;
        let list = page.get(list_at..).unwrap_or_default();
        let mut offset = page_at.saturating_add(PAGE);
        let before = bands.len();
        for number in list.as_chunks().0.iter().map(|bytes| u32::from_be_bytes(*bytes)) {
            cx.budget.step("sparseimage bands")?;
            if let Some(index) = number.checked_sub(1) {
                if u64::from(index) >= last {
                    return Err(Error::corrupt(place).because(format!("lists band {number} of {last}")));
                }
                if bands.insert(index, offset).is_some() {
                    return Err(Error::corrupt(place).because(format!("lists band {number} a second time")));
                }
            }
            offset = offset.saturating_add(band.get());
        }
        // Paid for, though they are in memory already.
        let cost = wide(bands.len().saturating_sub(before)).saturating_mul(BAND_COST);
        drop(cx.budget.buffer("sparseimage: bands", cost, PAGE.saturating_mul(BAND_COST))?);
        if bands.len() > MAX_BANDS {
            return Err(Error::limit(format!("sparseimage: more than {MAX_BANDS} stored bands")));
        }
        if next == 0 {
            break;
        }
        if next < page_at.saturating_add(PAGE) {
            return Err(Error::corrupt(place).because(format!("the next one is said to be at {next:#x}")));
        }
        let index: Index = read_struct(&*source, next, At::new("sparseimage", "index").byte(next))?;
        if index.signature != *SIGNATURE {
            return Err(Error::corrupt(At::new("sparseimage", "index").byte(next))
                .because("the signature is missing"));
        }
        (page_at, list_at, next) = (next, INDEX, index.next.get());
    }
    let facts = vec![("band size", band.to_string()), ("stored bands", format!("{} of {last}", bands.len()))];
    let disk = cx.mapper.map(Sparse { size, band, bands, files: [source] });
    Ok(Opened { facts, ..Opened::single(disk, FORMAT.name, cx) })
}

/// The map of an open image.
struct Sparse {
    size: u64,
    band: NonZeroU64,
    /// Where a band lies.
    bands: HashMap<u32, u64>,
    files: [Arc<dyn BlockSource>; 1],
}

impl std::fmt::Debug for Sparse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sparse({} bytes, {} bands)", self.size, self.bands.len())
    }
}

impl Layout for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let (number, inside) = (offset / self.band, offset % self.band);
        let wanted = self.band.get().saturating_sub(inside).min(self.size.saturating_sub(offset));
        let place = u32::try_from(number).ok().and_then(|number| self.bands.get(&number));
        let Some(start) = place else { return Ok(Run { len: wanted, place: Place::Hole }) };
        let host = start.saturating_add(inside);
        let at = At::new("sparseimage", "band").index(number);
        let len = held(wanted, host, self.files[0].len(), &at)?;
        Ok(Run { len, place: Place::Stored { file: 0, offset: host } })
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(self.band.get()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ondisk::parse_struct;

    #[test]
    fn a_header_of_other_sizes_is_refused() {
        let at = At::new("sparseimage", "header");
        let sized = |version: u8, band: u8, sectors: u8| {
            let mut bytes = [0; HEADER];
            (bytes[7], bytes[11], bytes[19]) = (version, band, sectors);
            sizes(&parse_struct(&bytes, at.clone()).unwrap(), &at)
        };
        assert_eq!(sized(3, 2, 5).unwrap(), (2560, NonZeroU64::new(1024).unwrap()));
        assert!(sized(2, 2, 5).is_err() && sized(3, 0, 5).is_err() && sized(3, 2, 0).is_err());
    }
}
