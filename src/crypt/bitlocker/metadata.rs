//! The metadata: three copies of who may open the volume, under what it is encrypted, and what of it.
//!
//! ```text
//! 0 -FVE-FS- │ 8 size │ 10 version │ 12 state now, next │ 16 encrypted bytes │ 28 front's sectors │ 32 three copies │ 56 front
//! 64 size of what follows │ 80 identifier │ 100 method │ 104 time │ 112 entries ...
//! size: validation: 0 size │ 4 CRC-32 of all before │ 8 a sealed hash of the same
//! ```
//! "BitLocker Drive Encryption (BDE) format specification" of libbde, "FVE metadata block".

use super::boot::{Boot, Maker, SIGNATURE};
use super::entry::{Sealed, bad, entries, kind, role};
use super::protector::Protector;
use crate::block::BlockSource;
use crate::budget::Budget;
use crate::checksum::crc32;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le64, le16, le32, le64, read_table, utf16};
use crate::text::Text;
use sha2::{Digest as _, Sha256};

/// Bytes that a copy takes on the volume, from Windows 7 on.
const COPY: u64 = 64 << 10;
/// The same of Vista, and then whole clusters.
const VISTA_COPY: u64 = 16 << 10;
/// Bytes in front of the entries.
const HEADER: u64 = 112;
/// Where the part begins whose size stands at its own start.
const INNER: u64 = 64;
/// Bytes of the validation of which we know something: sizes, sum, and a sealed hash of a header and 72 bytes.
const VALIDATION: u64 = 8 + 8 + 72;
/// Method of the hash in the validation: SHA-256.
const SHA_256: u16 = 0x2005;

/// What the metadata say.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// 1 of Vista, 2 of all others.
    pub(super) version: u16,
    /// What is being done with the volume, and what next.
    pub(super) state: (u16, u16),
    /// Bytes from the volume's start that are encrypted; 0 on Vista.
    pub(super) encrypted: u64,
    /// First byte and length of the place where the volume's front lies; empty on Vista.
    pub(super) front: (u64, u64),
    /// Vista: the cluster of the copy of the first MFT records, which the boot sector does not name any more.
    pub(super) mirror: u64,
    /// First bytes of the copies.
    pub(super) copies: [u64; 3],
    /// Bytes that each takes.
    pub(super) copy: u64,
    pub(super) id: [u8; 16],
    pub(super) method: u16,
    pub(super) description: Text,
    pub(super) protectors: Vec<Protector>,
    /// The key of the sectors.
    pub(super) key: Option<Sealed>,
    /// The hash of all this, and the sealed one that must be equal.
    hash: [u8; 32],
    validation: Option<Sealed>,
}

impl Metadata {
    /// The first sound copy; with a line for each that is damaged.
    ///
    /// # Errors
    /// What is wrong with the first, when none is sound.
    pub(super) fn load(
        source: &dyn BlockSource,
        boot: &Boot,
        budget: &Budget,
    ) -> Result<(Self, Vec<String>)> {
        let mut places = boot.copies.clone();
        let mut damaged: Vec<Error> = Vec::new();
        let mut number = 0;
        while let Some(place) = places.get(number).copied() {
            let read = Self::read(source, place, boot, budget);
            let (bytes, size) = match read {
                Ok(read) => read,
                Err(error) => {
                    damaged.push(error);
                    number = number.saturating_add(1);
                    continue;
                }
            };
            let parsed = Self::parse(&bytes, size, boot).and_then(|found| found.at(place));
            match parsed {
                Ok(found) => {
                    let lines = damaged
                        .iter()
                        .map(|error| format!("{}; another copy of the metadata is used", error.chain()));
                    return Ok((found, lines.collect()));
                }
                Err(error) => damaged.push(error.at(place_of(place))),
            }
            // Vista's boot sector names the first copy alone, and that one the others.
            if places.len() == 1 {
                places.extend([40, 48].into_iter().filter_map(|at| get_le64(&bytes, at)));
            }
            number = number.saturating_add(1);
        }
        Err(damaged.into_iter().next().unwrap_or_else(|| bad("no copy of the metadata")))
    }

    /// The bytes of a copy with its validation, and how many are its own.
    fn read(source: &dyn BlockSource, place: u64, boot: &Boot, budget: &Budget) -> Result<(Vec<u8>, u64)> {
        let at = place_of(place);
        let head = read_table(source, place, HEADER, HEADER, at.clone(), budget)?;
        if !head.starts_with(SIGNATURE) {
            return Err(Error::corrupt(at).because("no signature"));
        }
        let (size, version) = (u64::from(le16(&head, 8, &at)?), le16(&head, 10, &at)?);
        let size = match (version, boot.maker) {
            (1, Maker::Vista { .. }) => size,
            (2, Maker::Seven | Maker::ToGo) => size.saturating_mul(16),
            _ => return Err(Error::unsupported(format!("BitLocker metadata of version {version}")).at(at)),
        };
        if size < HEADER || size > COPY.saturating_sub(VALIDATION) {
            return Err(Error::corrupt(at).because(format!("{size} bytes of metadata")));
        }
        // What the validation lacks at a volume's end is not read.
        let there = source.len().saturating_sub(place).min(size.saturating_add(VALIDATION));
        Ok((read_table(source, place, there, COPY, at, budget)?, size))
    }

    /// Reads a copy whose own bytes are the first `size`.
    fn parse(bytes: &[u8], size: u64, boot: &Boot) -> Result<Self> {
        let at = At::new("bitlocker", "metadata");
        let (own, validation) = bytes
            .split_at_checked(narrow(size))
            .ok_or_else(|| bad(format!("{size} bytes, of which {} are there", bytes.len())))?;
        let (sum, expected) = (crc32(own), le32(validation, 4, &at)?);
        if sum != expected {
            return Err(bad(format!("its sum is {sum:#010x}, {expected:#010x} is expected")));
        }
        let inner = u64::from(le32(own, 64, &at)?);
        let list = inner.checked_add(INNER).filter(|end| (HEADER..=size).contains(end));
        let list = list.and_then(|end| own.get(narrow(HEADER)..narrow(end)));
        let list = list.ok_or_else(|| bad(format!("{inner} bytes of entries in {size}")))?;
        let version = le16(own, 10, &at)?;
        let place = le64(own, 56, &at)?;
        let sectors = u64::from(le32(own, 28, &at)?);
        let id = own.get(80..).and_then(|rest| rest.first_chunk().copied()).unwrap_or_default();
        let mut found = Self {
            version,
            state: (le16(own, 12, &at)?, le16(own, 14, &at)?),
            encrypted: if version == 1 { 0 } else { le64(own, 16, &at)? },
            front: if version == 1 { (0, 0) } else { (place, sectors.saturating_mul(boot.sector.into())) },
            mirror: place,
            copies: [le64(own, 32, &at)?, le64(own, 40, &at)?, le64(own, 48, &at)?],
            copy: match boot.maker {
                Maker::Vista { cluster, .. } => VISTA_COPY.checked_next_multiple_of(cluster).unwrap_or(COPY),
                Maker::Seven | Maker::ToGo => COPY,
            },
            id,
            method: le16(own, 100, &at)?,
            description: Text::default(),
            protectors: Vec::new(),
            key: None,
            hash: Sha256::digest(own).into(),
            validation: sealed_hash(validation),
        };
        for entry in entries(list)? {
            match (entry.role, entry.kind) {
                (role::PROTECTOR, kind::PROTECTOR) => found.protectors.push(Protector::parse(entry.data)?),
                (role::VOLUME_KEY, kind::SEALED) if found.key.is_none() => {
                    found.key = Some(Sealed::parse(entry.data)?);
                }
                (role::DESCRIPTION, kind::TEXT) => {
                    found.description = Text::from(utf16(entry.data, false).trim());
                }
                (role::FRONT, kind::PLACE) if version != 1 => {
                    found.front = (le64(entry.data, 0, &at)?, le64(entry.data, 8, &at)?);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Itself, if it is a copy that knows of this place.
    fn at(self, place: u64) -> Result<Self> {
        if self.copies.contains(&place) {
            return Ok(self);
        }
        Err(bad(format!("it belongs at bytes {:?} of a volume", self.copies)))
    }

    /// Is the hash that was sealed with the volume master key that of these metadata? `None` where there is none.
    pub(super) fn is_genuine(&self, master: &[u8]) -> Option<bool> {
        let opened = self.validation.as_ref()?.open(master);
        // An entry's header, the method in 4 bytes, the hash.
        Some(opened.is_some_and(|opened| {
            crate::ondisk::get_le16(&opened, 8) == Some(SHA_256) && opened.get(12..) == Some(&self.hash)
        }))
    }
}

/// The sealed hash in a validation, if it has one.
fn sealed_hash(validation: &[u8]) -> Option<Sealed> {
    let size = wide(validation.len()).min(VALIDATION);
    let list = validation.get(8..narrow(size))?;
    let entry = entries(list).ok()?.into_iter().find(|entry| entry.kind == kind::SEALED)?;
    Sealed::parse(entry.data).ok()
}

fn place_of(place: u64) -> At {
    At::new("bitlocker", "metadata").byte(place)
}
