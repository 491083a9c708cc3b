//! The expanding file: a header, one table of cluster numbers (the BAT), and the clusters in the order they were first
//! written.
//!
//! Specification: qemu, `docs/interop/parallels.txt`, section "Parallels Expandable Image File Format".

use crate::block::{BlockSource, Layout, Place, Run};
use crate::error::{At, Error, Result};
use crate::image::pages::{Pages, entries_le32, held};
use crate::ondisk::{parse_struct, read_struct};
use std::num::NonZeroU64;
use std::sync::Arc;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Version 1: the BAT counts sectors.
const V1: &[u8; 16] = b"WithoutFreeSpace";
/// Version 2: the BAT counts clusters.
const V2: &[u8; 16] = b"WithouFreSpacExt";
const SECTOR: u64 = 512;
/// `inuse` while a writer has it open.
const IN_USE: u32 = 0x746f_6e59;
/// Largest cluster that qemu takes (`INT32_MAX / 513` sectors).
const MAX_TRACKS: u32 = 0x7fff_ffff / 513;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Raw {
    magic: [u8; 16],  // 0x00
    version: U32,     // 0x10 always 2
    heads: U32,       // 0x14
    cylinders: U32,   // 0x18
    tracks: U32,      // 0x1c sectors in a cluster
    bat_entries: U32, // 0x20
    sectors: U64,     // 0x24 size of the disk; version 1 has 32 bits of it
    in_use: U32,      // 0x2c
    data_offset: U32, // 0x30 sectors; for who writes
    flags: U32,       // 0x34
    extension: U64,   // 0x38 sectors; where bitmaps are described, 0 if there are none
}
const _: () = assert!(size_of::<Raw>() == 0x40);

/// Does a file begin as one?
pub(super) fn is_hds(head: &[u8]) -> bool {
    head.starts_with(V1) || head.starts_with(V2)
}

/// A header that was checked.
#[derive(Debug)]
pub(super) struct Header {
    first_version: bool,
    size: u64,
    cluster: NonZeroU64,
    entries: u64,
    in_use: bool,
    extension: bool,
}

impl Header {
    pub(super) fn load(source: &dyn BlockSource) -> Result<Self> {
        let raw: Raw = read_struct(source, 0, At::new("parallels", "header"))?;
        Self::parse(raw.as_bytes())
    }

    /// Checks a header.
    ///
    /// # Errors
    /// `Unsupported` for another version; `Corrupt` for sizes that do not fit.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let at = || At::new("parallels", "header").byte(0);
        let corrupt = |why: String| Error::corrupt(at()).because(why);
        let raw: Raw = parse_struct(bytes, at())?;
        let first_version = raw.magic == *V1;
        if !first_version && raw.magic != *V2 {
            return Err(corrupt("neither 'WithoutFreeSpace' nor 'WithouFreSpacExt'".to_owned()));
        }
        if raw.version.get() != 2 {
            return Err(
                Error::unsupported(format!("version {} of the Parallels header", raw.version)).at(at())
            );
        }
        let tracks = raw.tracks.get();
        let cluster = NonZeroU64::new(u64::from(tracks).saturating_mul(SECTOR));
        let cluster = cluster.filter(|_| tracks <= MAX_TRACKS);
        let cluster = cluster.ok_or_else(|| corrupt(format!("clusters of {tracks} sectors")))?;
        let sectors = if first_version { raw.sectors.get() & 0xffff_ffff } else { raw.sectors.get() };
        let size = sectors.checked_mul(SECTOR).ok_or_else(|| corrupt(format!("{sectors} sectors")))?;
        let (entries, needed) = (u64::from(raw.bat_entries.get()), size.div_ceil(cluster.get()));
        if needed > entries {
            return Err(corrupt(format!("the disk needs {needed} clusters, the table has {entries}")));
        }
        let (in_use, extension) = (raw.in_use.get() == IN_USE, raw.extension.get() != 0);
        Ok(Self { first_version, size, cluster, entries, in_use, extension })
    }

    /// The signature, which is the version.
    pub(super) const fn version(&self) -> &'static str {
        if self.first_version { "WithoutFreeSpace" } else { "WithouFreSpacExt" }
    }

    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts =
            vec![("cluster size", self.cluster.to_string()), ("BAT entries", self.entries.to_string())];
        if self.extension {
            facts.push(("format extension", "yes (bitmaps, not part of the disk)".to_owned()));
        }
        facts
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let said =
            "the image is marked as in use: its writer did not close it; clusters are read as its table says";
        if self.in_use { vec![said.to_owned()] } else { Vec::new() }
    }
}

/// The map of an open file.
#[derive(Debug)]
pub(super) struct Hds {
    size: u64,
    cluster: NonZeroU64,
    /// Bytes that an entry of the BAT counts by.
    unit: u64,
    pages: Pages,
    files: [Arc<dyn BlockSource>; 1],
    parent: Option<Arc<dyn BlockSource>>,
}

impl Hds {
    pub(super) fn new(
        header: &Header,
        source: Arc<dyn BlockSource>,
        parent: Option<Arc<dyn BlockSource>>,
    ) -> Self {
        let unit = if header.first_version { SECTOR } else { header.cluster.get() };
        let pages = Pages::new(Arc::clone(&source));
        Self { size: header.size, cluster: header.cluster, unit, pages, files: [source], parent }
    }
}

impl Layout for Hds {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let (number, inside) = (offset / self.cluster, offset % self.cluster);
        let at = At::new("parallels", "BAT entry").index(number);
        let entry = number.saturating_mul(4).saturating_add(0x40);
        let window = self.pages.window(entry, &at)?;
        let mut entries = entries_le32(&window);
        let first =
            entries.next().ok_or_else(|| Error::corrupt(at.clone()).because("the file ends in it"))?;
        let left = self.cluster.get().saturating_sub(inside);
        if first == 0 {
            // Those behind it that are not stored either, as far as this page of the table tells.
            let more = crate::num::wide(entries.take_while(|entry| *entry == 0).count());
            let len = left.saturating_add(more.saturating_mul(self.cluster.get()));
            let place = if self.parent.is_some() { Place::Parent } else { Place::Hole };
            return Ok(Run { len, place });
        }
        let host = u64::from(first).saturating_mul(self.unit).saturating_add(inside);
        let wanted = left.min(self.size.saturating_sub(offset));
        let len = held(wanted, host, self.files[0].len(), &at)?;
        Ok(Run { len, place: Place::Stored { file: 0, offset: host } })
    }

    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        self.parent.as_ref()
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(self.cluster.get()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    fn header(edit: impl FnOnce(&mut Raw)) -> Result<Header> {
        let mut raw = Raw::new_zeroed();
        raw.magic = *V2;
        raw.version = 2.into();
        raw.tracks = 128.into();
        raw.bat_entries = 2.into();
        raw.sectors = 256.into();
        edit(&mut raw);
        Header::parse(raw.as_bytes())
    }

    #[test]
    fn sizes_that_do_not_fit_are_corrupt() {
        assert!(header(|_| ()).is_ok());
        assert!(header(|raw| raw.tracks = 0.into()).is_err());
        assert!(header(|raw| raw.tracks = u32::MAX.into()).is_err());
        assert!(header(|raw| raw.sectors = 257.into()).is_err());
        assert!(header(|raw| raw.sectors = u64::MAX.into()).is_err());
    }

    #[test]
    fn the_first_version_has_32_bits_of_size() {
        let first = header(|raw| {
            raw.magic = *V1;
            raw.sectors = (7 << 32 | 256).into();
        });
        assert_eq!(first.unwrap().size, 131_072);
    }
}
