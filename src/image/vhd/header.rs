//! The dynamic disk header: where the blocks lie and, of a differencing disk, which file is its parent.
//!
//! Specification: Microsoft, "Virtual Hard Disk Image Format Specification", sections "Dynamic Disk Header Format" and
//! "Parent Locator".

use super::super::OpenCx;
use super::footer::{Footer, checksum};
use crate::block::BlockSource;
use crate::error::{At, Error, Result};
use crate::ondisk::{read_struct, read_table, utf16};
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where a name of the parent stands, as one platform writes it.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Locator {
    code: [u8; 4], // 0x00 "W2ru", "W2ku", "MacX", …; 0 = none
    space: U32,    // 0x04 room for it, in sectors or bytes
    length: U32,   // 0x08 bytes
    reserved: U32, // 0x0c
    offset: U64,   // 0x10 byte in the file
}
const _: () = assert!(size_of::<Locator>() == 24);

/// Longest name that is read: Windows has paths of 32767 UTF-16 units.
const MAX_NAME: u64 = 64 << 10;

/// Dynamic disk header. Of a differencing disk the fields of the parent count, too.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
pub(super) struct DynamicHeader {
    cookie: [u8; 8],                // 0x00 "cxsparse"
    data_offset: U64,               // 0x08 all ones
    pub(super) table_offset: U64,   // 0x10 byte of the BAT
    version: U32,                   // 0x18 0x00010000
    pub(super) max_entries: U32,    // 0x1c entries of the BAT
    pub(super) block_size: U32,     // 0x20 bytes of data in a block
    checksum: U32,                  // 0x24 as in the footer
    pub(super) parent_id: [u8; 16], // 0x28
    pub(super) parent_time: U32,    // 0x38 seconds since 2000
    reserved: U32,                  // 0x3c
    parent_name: [u8; 512],         // 0x40 UTF-16, big-endian
    locators: [Locator; 8],         // 0x240
    reserved2: [u8; 256],           // 0x300
}
const _: () = assert!(size_of::<DynamicHeader>() == 1024);

impl DynamicHeader {
    pub(super) fn load(
        source: &dyn BlockSource,
        footer: &Footer,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let start = footer.data_offset.get();
        let header: Self = read_struct(source, start, At::new("vhd", "dynamic disk header"))?;
        if header.cookie != *b"cxsparse" {
            return Err(Error::corrupt(At::new("vhd", "dynamic disk header").byte(start))
                .because("does not begin with 'cxsparse'"));
        }
        if header.version.get() != 0x0001_0000 {
            return Err(Error::unsupported(format!("VHD dynamic header version {:#x}", header.version)));
        }
        // libvhdi and dissect read such a disk, too, and images of other tools exist that never had it right.
        if checksum(header.as_bytes(), header.checksum) != header.checksum.get() {
            warnings.push(
                "the dynamic disk header's checksum is wrong; its fields agree with the file and are used"
                    .to_owned(),
            );
        }
        Ok(header)
    }

    /// Every name of the parent: relative, absolute, that of a Mac, and the one in the header.
    pub(super) fn parent_names(&self, source: &dyn BlockSource, cx: &OpenCx<'_>) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for code in [b"W2ru", b"W2ku", b"MacX"] {
            for locator in self.locators.iter().filter(|locator| locator.code == *code) {
                let at = At::new("vhd", "parent locator");
                let (offset, length) = (locator.offset.get(), locator.length.get().into());
                let name = read_table(source, offset, length, MAX_NAME, at, cx.budget)?;
                names.push(if code == b"MacX" { mac_path(&name) } else { utf16(&name, false).into_bytes() });
            }
        }
        names.push(utf16(&self.parent_name, true).into_bytes());
        names.retain(|name| !name.is_empty());
        Ok(names)
    }
}

/// The path in a URL like `file://localhost/Users/me/My%20disk.vhd`.
fn mac_path(url: &[u8]) -> Vec<u8> {
    let url = url.split(|byte| *byte == 0).next().unwrap_or_default();
    let path = url.strip_prefix(b"file://").map_or(url, |rest| {
        rest.iter().position(|byte| *byte == b'/').and_then(|slash| rest.get(slash..)).unwrap_or_default()
    });
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_mac_is_taken_out_of_its_url() {
        assert_eq!(mac_path(b"file://localhost/Users/me/My%20disk.vhd\0\0"), b"/Users/me/My disk.vhd");
        assert_eq!(mac_path(b"base%.vhd"), b"base%.vhd");
    }
}
