//! Volume descriptors: sectors from 16 on that say where the root directories are, and what the disc is called.
//!
//! ECMA-119, "8 Volume Descriptors"; Microsoft, "Joliet Specification"; "El Torito Bootable CD-ROM Format" 1.0.

use super::SECTOR;
use super::record::Record;
use crate::error::{At, Error, Result};
use crate::fs::meta::Meta;
use crate::fs::unicode::{units_be, utf8};
use crate::num::narrow;
use crate::ondisk::{get_le16, get_le32};

/// The first descriptor's sector.
const FIRST: u64 = 16;
/// Descriptors that the kernel looks at.
const MOST: u64 = 84;
/// What each begins with, behind the byte for its type.
pub(super) const MAGIC: &[u8] = b"CD001";

/// What the descriptors say.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    /// Bytes of a logical block: 512, 1024 or 2048.
    pub(super) block: u64,
    /// Bytes in all.
    pub(super) size: u64,
    pub(super) root: Extent,
    pub(super) joliet: Option<Joliet>,
    /// The label of the primary descriptor.
    label: Vec<u8>,
    pub(super) uuid: Option<String>,
    pub(super) boot: Vec<&'static str>,
}

/// Where a root directory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Block.
    pub(super) start: u64,
}

/// The second tree, with names in UTF-16.
#[derive(Clone, Debug)]
pub(super) struct Joliet {
    pub(super) level: u8,
    pub(super) root: Extent,
    label: Vec<u16>,
}

impl Volume {
    /// Reads the descriptors of the session that begins at the volume's start.
    ///
    /// # Errors
    /// `Corrupt` when there is no primary one, or it makes no sense.
    pub(super) fn load(meta: &Meta) -> Result<Self> {
        let mut primary: Option<Self> = None;
        let (mut joliet, mut boot) = (None, Vec::new());
        for sector in FIRST..FIRST.saturating_add(MOST) {
            let at = sector.saturating_mul(SECTOR);
            if at.saturating_add(SECTOR) > meta.volume().len() {
                break;
            }
            let bytes = meta.near(at, SECTOR)?;
            let &[kind, ref rest @ ..] = &*bytes else { break };
            match kind {
                _ if !rest.starts_with(MAGIC) => {}
                255 => break,
                0 if rest.get(6..).is_some_and(|id| id.starts_with(b"EL TORITO SPECIFICATION")) => {
                    boot = catalog(meta, get_le32(&bytes, 71).unwrap_or(0));
                }
                1 if primary.is_none() => primary = Some(Self::parse(&bytes, at)?),
                2 if joliet.is_none() => joliet = Joliet::parse(&bytes),
                _ => {}
            }
        }
        let missing = || {
            let at = At::new("iso9660", "volume descriptors").byte(FIRST.saturating_mul(SECTOR));
            Error::corrupt(at).because("there is no primary one")
        };
        let mut volume = primary.ok_or_else(missing)?;
        (volume.joliet, volume.boot) = (joliet, boot);
        Ok(volume)
    }

    /// The primary volume descriptor.
    fn parse(bytes: &[u8], at: u64) -> Result<Self> {
        let bad = |why: String| {
            Error::corrupt(At::new("iso9660", "primary volume descriptor").byte(at)).because(why)
        };
        let block = u64::from(get_le16(bytes, 128).unwrap_or(0));
        if ![512, 1024, 2048].contains(&block) {
            return Err(bad(format!("{block} bytes in a logical block")));
        }
        let root =
            Extent::parse(bytes).ok_or_else(|| bad("the root directory's record is damaged".to_owned()))?;
        let text = |from: usize, len: usize| bytes.get(from..from.saturating_add(len)).unwrap_or_default();
        Ok(Self {
            block,
            size: u64::from(get_le32(bytes, 80).unwrap_or(0)).saturating_mul(block),
            root,
            joliet: None,
            label: text(40, 32).to_vec(),
            // When it was last changed, else when it was made.
            uuid: date(text(830, 17)).or_else(|| date(text(813, 17))),
            boot: Vec::new(),
        })
    }

    /// The label as `blkid` has it: the one of the Joliet tree, which is shorter, with the primary one's end if both
    /// begin alike.
    pub(super) fn label(&self) -> Vec<u8> {
        let plain = || trimmed(self.label.iter().map(|byte| u16::from(*byte)).collect::<Vec<u16>>());
        let Some(joliet) = &self.joliet else { return trimmed_bytes(&self.label).to_vec() };
        let alike = joliet.label.iter().zip(&self.label).all(|(unit, byte)| {
            let small = u8::try_from(*unit).map(|c| c.to_ascii_lowercase());
            *byte == b'_' || small == Ok(b'_') || small == Ok(byte.to_ascii_lowercase())
        });
        if alike {
            let end = self.label.iter().skip(joliet.label.len()).map(|byte| u16::from(*byte));
            return trimmed(joliet.label.iter().copied().chain(end).collect());
        }
        let own = trimmed(joliet.label.clone());
        if own.is_empty() { plain() } else { own }
    }
}

fn trimmed(units: Vec<u16>) -> Vec<u8> {
    trimmed_bytes(&utf8(units)).to_vec()
}

fn trimmed_bytes(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii_end()
}

impl Extent {
    /// Of the root's record, at byte 156 of a descriptor.
    fn parse(descriptor: &[u8]) -> Option<Self> {
        let record = Record::parse(descriptor.get(156..190)?).ok()?;
        record.is_dir().then(|| Self { start: record.start() })
    }
}

impl Joliet {
    /// A supplementary volume descriptor, if its escape sequence says UCS-2.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let level = match bytes.get(88..91)? {
            b"%/@" => 1,
            b"%/C" => 2,
            b"%/E" => 3,
            _ => return None,
        };
        let label = units_be(bytes.get(40..72)?).collect();
        Some(Self { level, root: Extent::parse(bytes)?, label })
    }
}

/// A date in digits as `blkid` makes an identifier of it; zeros stand for none.
fn date(bytes: &[u8]) -> Option<String> {
    let (digits, zone) = bytes.split_at_checked(16)?;
    if digits.iter().all(|digit| *digit == b'0') && zone == [0] {
        return None;
    }
    let text = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|c| c.is_ascii_graphic()))?;
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let pairs = [part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14), part(14, 16)];
    Some(pairs.join("-"))
}

/// Which machines the boot catalog in this sector has something for. A catalog that cannot be read has nothing.
fn catalog(meta: &Meta, sector: u32) -> Vec<&'static str> {
    const ENTRY: usize = 32;
    let Ok(bytes) = meta.near(u64::from(sector).saturating_mul(SECTOR), SECTOR) else { return Vec::new() };
    let name = |platform: u8| match platform {
        0 => "El Torito (BIOS)",
        1 => "El Torito (PowerPC)",
        2 => "El Torito (Mac)",
        0xef => "El Torito (UEFI)",
        _ => "El Torito",
    };
    let mut found = Vec::new();
    for (n, entry) in bytes.chunks_exact(ENTRY).enumerate().take(narrow(64)) {
        let &[id, platform, ..] = entry else { break };
        match id {
            1 if n == 0 => found.push(name(platform)),
            0x90 | 0x91 => found.push(name(platform)),
            0 if n > 1 => break,
            _ => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
