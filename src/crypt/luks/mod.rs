//! LUKS: the header of Linux's disk encryption, versions 1 and 2, and how a key opens it.
//!
//! ```text
//! version 1   header, 8 slots │ key material 0..7 │ payload
//! version 2   binary header, JSON │ the same again │ key slot areas │ payload
//! ```
//! Both say the same in the end: *slots*, each with the volume key under one passphrase; a *digest* that tells whether a
//! volume key is the right one; and the *payload*, which is encrypted under it. That is what [`Luks`] holds.
//! Specifications: "LUKS1 On-Disk Format Specification" 1.2.3, "LUKS2 On-Disk Format Specification" 1.1.4.

use super::cipher::{Cipher, Spec, whole_sectors};
use super::hash::Hash;
use super::kdf::Kdf;
use super::source::{Decrypted, Region};
use super::{apart, locked, misfit};
use crate::block::BlockSource;
use crate::budget::Budget;
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::wide;
use crate::ondisk::{get_be16, read_table};
use crate::text::Text;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

mod v1;
mod v2;

/// What a header begins with, before its version.
pub const MAGIC: &[u8; 6] = b"LUKS\xba\xbe";

/// Stripes of a slot's key material. LUKS always makes 4000 (`LUKS_STRIPES`).
const MAX_STRIPES: u32 = 4000;
/// The longest key of any cipher that we read: two halves of 256 bits.
const MAX_KEY: u32 = 64;
/// Key material is stored in sectors of 512 bytes.
const MAX_MATERIAL: u64 = 64 * 4000 + 512;
/// Time after which no further slot is tried: a header may have 32 slow ones, and several keys may be given.
const MAX_TIME: Duration = Duration::from_secs(60);

/// One way to the volume key.
#[derive(Clone, Debug)]
struct Slot {
    /// Makes the key of the slot's own area.
    kdf: Kdf,
    /// How the area is encrypted, and its key's length in bytes.
    area: Spec,
    area_key: u32,
    /// Where the area begins, from the header on.
    offset: u64,
    /// What merges the stripes, and how many there are.
    hash: Hash,
    stripes: u32,
}

/// Whether a volume key is the right one.
#[derive(Clone, Debug)]
struct Digest {
    kdf: Kdf,
    digest: Vec<u8>,
}

/// Where the payload lies.
#[derive(Clone, Copy, Debug)]
struct Payload {
    /// From the header on; 0 where the header is detached.
    offset: u64,
    /// `None`: to the end of the device.
    len: Option<u64>,
    sector: u32,
    /// Added to the number of each sector.
    tweak: u64,
}

/// A header that was read.
#[derive(Debug)]
pub struct Luks {
    version: u16,
    uuid: Text,
    label: Text,
    /// What the payload is encrypted with, as the header writes it, and if we read it.
    cipher: Text,
    spec: Result<Spec>,
    /// Bytes of the volume key.
    key: u32,
    payload: Payload,
    /// By number. What a slot has that we do not read is told when no other one opens.
    slots: Vec<(u64, Result<Slot>)>,
    digest: Digest,
    warnings: Vec<String>,
}

fn corrupt(what: &'static str, byte: u64, why: impl Into<String>) -> Error {
    Error::corrupt(At::new("luks", what).byte(byte)).because(why)
}

impl Luks {
    /// Reads the header that begins at `start` of a source and of whose bytes `len` may be its own.
    ///
    /// # Errors
    /// `NotAnImage` when there is none; `Unsupported` for another version or a feature that we do not read, by its name;
    /// `Corrupt` when neither of its copies is sound; `Limit` for numbers out of all proportion.
    pub fn load(source: &dyn BlockSource, start: u64, len: u64, budget: &Budget) -> Result<Self> {
        let end = start.checked_add(len).filter(|end| *end <= source.len());
        let end = end.ok_or_else(|| corrupt("header", start, "runs past the file's end"))?;
        let look = wide(v1::SIZE).min(len);
        let head = read_table(source, start, look, wide(v1::SIZE), At::new("luks", "header"), budget)?;
        let version = get_be16(&head, MAGIC.len()).unwrap_or(0);
        match (head.starts_with(MAGIC), version) {
            (true, 1) => v1::parse(&head),
            // The first copy may be damaged from its first byte on.
            (true, 2) | (false, _) => v2::load(source, start, end, budget),
            (true, other) => Err(Error::unsupported(format!("LUKS version {other}"))),
        }
    }

    /// Version 1 or 2.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// Its UUID, as text.
    #[must_use]
    pub const fn uuid(&self) -> &Text {
        &self.uuid
    }

    /// What is odd about it without keeping us from reading it.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// `LUKS2, aes-xts-plain64`: for errors and reports.
    #[must_use]
    pub fn name(&self) -> String {
        format!("LUKS{}, {}", self.version, self.cipher)
    }

    /// The same with what tells it from others.
    fn described(&self) -> String {
        let slots = if self.slots.len() == 1 { "key slot" } else { "key slots" };
        format!("{}, {} {slots}, UUID {}", self.name(), self.slots.len(), self.uuid)
    }

    /// What is known without a key, for `info`.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("encryption", self.name()),
            ("key size", format!("{} bits", u64::from(self.key).saturating_mul(8))),
            ("sector size", self.payload.sector.to_string()),
            ("payload offset", self.payload.offset.to_string()),
            ("UUID", self.uuid.to_string()),
        ];
        if !self.label.is_empty() {
            facts.push(("label", self.label.to_string()));
        }
        for (number, slot) in &self.slots {
            let what = match slot {
                Ok(slot) => slot.kdf.to_string(),
                Err(error) => error.to_string(),
            };
            facts.push(("key slot", format!("{number}: {what}")));
        }
        facts
    }

    /// The payload's place in a source of which this header is the first part.
    ///
    /// # Errors
    /// `Unsupported` when the payload does not lie there: a detached header, or a header's backup; `Corrupt` when its end
    /// was cut off.
    pub fn region(&self, start: u64, size: u64) -> Result<Region> {
        let Payload { offset, len, sector, tweak } = self.payload;
        let detached = |why: String| {
            Error::unsupported(format!("a LUKS header without its payload ({why})"))
                .help("a detached header or a header's backup: put header and payload into one file, the payload where 'cryptsetup luksDump' says")
        };
        if offset == 0 {
            return Err(detached("its payload begins at byte 0 of another file".to_owned()));
        }
        let begin = start.checked_add(offset).filter(|begin| *begin < size);
        let begin = begin.ok_or_else(|| {
            detached(format!("its payload begins at byte {offset}, the file has {size} bytes"))
        })?;
        let there = size.saturating_sub(begin);
        if let Some(len) = len.filter(|len| *len > there) {
            return Err(corrupt(
                "payload",
                begin,
                format!("{len} bytes, of which {there} are in the file: it was cut off"),
            ));
        }
        Ok(Region {
            start: begin,
            len: len.unwrap_or_else(|| whole_sectors(there, sector)),
            sector,
            first: tweak,
        })
    }

    /// The payload's cipher under the volume key that one of `keys` opens, each tried on every slot.
    ///
    /// # Errors
    /// `Encrypted` when no key is given, or none fits; what kept us from trying a slot, if that may be the reason.
    pub fn unlock<'k>(
        &self,
        source: &dyn BlockSource,
        start: u64,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<Cipher> {
        let spec = self.spec.clone()?;
        let keys: Vec<&[u8]> = keys.collect();
        if self.slots.is_empty() {
            return Err(Error::new(
                ErrorKind::Encrypted,
                format!("is locked ({}) and has no key slot in use", self.name()),
            )
            .help("nothing opens it but a backup of its header"));
        }
        if keys.is_empty() {
            return Err(locked(&self.described()));
        }
        let found = apart(|| self.volume_key(source, start, &keys))??;
        spec.with_key(&found)
    }

    /// The payload in the clear.
    ///
    /// # Errors
    /// As [`Luks::region`] and [`Luks::unlock`].
    pub fn open<'k>(
        &self,
        source: Arc<dyn BlockSource>,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<Decrypted> {
        let region = self.region(0, source.len())?;
        let cipher = self.unlock(&*source, 0, keys)?;
        Decrypted::new(source, region, cipher)
    }

    fn volume_key(&self, source: &dyn BlockSource, start: u64, keys: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>> {
        let begun = Instant::now();
        let mut trouble = None;
        for key in keys {
            for (number, slot) in &self.slots {
                if begun.elapsed() > MAX_TIME {
                    return Err(Error::limit(format!(
                        "no key was found to fit in {} s, and not all were tried on all {} key slots",
                        MAX_TIME.as_secs(),
                        self.slots.len()
                    ))
                    .help("give only the key that fits"));
                }
                let opened = slot.clone().and_then(|slot| self.try_slot(source, start, &slot, key));
                match opened {
                    Ok(Some(key)) => return Ok(key),
                    Ok(None) => {}
                    Err(error) => {
                        trouble.get_or_insert_with(|| error.context(format_args!("key slot {number}")));
                    }
                }
            }
        }
        Err(trouble.unwrap_or_else(|| misfit(&self.name())))
    }

    /// The volume key, if `secret` opens this slot.
    fn try_slot(
        &self,
        source: &dyn BlockSource,
        start: u64,
        slot: &Slot,
        secret: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let material = u64::from(self.key).saturating_mul(u64::from(slot.stripes));
        let stored = material.next_multiple_of(super::cipher::SECTOR);
        let at = At::new("luks", "key material");
        let offset = start.saturating_add(slot.offset);
        let mut area =
            Zeroizing::new(read_table(source, offset, stored, MAX_MATERIAL, at, &Budget::request())?);
        let slot_key = slot.kdf.derive(secret, crate::num::narrow(u64::from(slot.area_key)))?;
        // Sectors of a slot's area count from its start.
        slot.area.with_key(&slot_key)?.decrypt(&mut area, crate::num::narrow(super::cipher::SECTOR), 0);
        let stripes = area.get(..crate::num::narrow(material)).unwrap_or_default();
        let key = slot.hash.merge(stripes, crate::num::narrow(u64::from(self.key)));
        let digest = self.digest.kdf.derive(&key, self.digest.digest.len())?;
        Ok((*digest == self.digest.digest).then_some(key))
    }
}

/// Checks what both versions say of a slot.
fn check_slot(key: u32, slot: &Slot) -> Result<()> {
    let limit = |what: &str, asked: u32, most: u32| {
        Err(Error::limit(format!("{asked} {what}, at most {most} are accepted")))
    };
    if key > MAX_KEY || slot.area_key > MAX_KEY {
        return limit("bytes of key", key.max(slot.area_key), MAX_KEY);
    }
    if slot.stripes > MAX_STRIPES {
        return limit("stripes of key material", slot.stripes, MAX_STRIPES);
    }
    if slot.stripes == 0 || key == 0 {
        return Err(Error::new(ErrorKind::Corrupt, "no key material"));
    }
    Ok(())
}
