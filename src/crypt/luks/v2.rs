//! The header of version 2: a binary header with a checksum and a JSON document, both stored twice.
//!
//! ```text
//! 0          4096            hdr_size          hdr_size + 4096   2 × hdr_size
//! │ binary │ JSON, then NULs │ binary (second) │ JSON, then NULs │ key slot areas ...
//! ```
//! Of two sound copies the one with the higher sequence id counts.
//! Specification: "LUKS2 On-Disk Format Specification" 1.1.4, sections 2 and 3.

use super::{Digest, Luks, MAGIC, Payload, Slot, check_slot, corrupt};
use crate::block::BlockSource;
use crate::budget::Budget;
use crate::crypt::cipher::Spec;
use crate::crypt::hash::Hash;
use crate::crypt::kdf::Kdf;
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::narrow;
use crate::ondisk::{parse_struct, read_struct, read_table};
use crate::text::{Text, escape};
use base64::Engine as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The second copy's magic.
const SECOND: &[u8; 6] = b"SKUL\xba\xbe";
/// Sizes of a copy, binary header and JSON area together, and so the places of the second one (table 1).
const SIZES: &[u64] =
    &[0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];
const MAX_SIZE: u64 = 0x40_0000;
/// `LUKS2_KEYSLOTS_MAX`.
const MAX_SLOTS: usize = 32;
/// Salts and digests are at most this long: a digest of SHA-512 in base64, and then some.
const MAX_TEXT: usize = 1024;

/// Figure 2, "LUKS2 binary header on-disk structure".
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Binary {
    magic: [u8; 6],               // 0x000 "LUKS\xba\xbe" or "SKUL\xba\xbe"
    version: U16,                 // 0x006 2
    hdr_size: U64,                // 0x008 bytes, with the JSON area
    seqid: U64,                   // 0x010 raised at every change
    label: [u8; 48],              // 0x018
    checksum_algorithm: [u8; 32], // 0x048 "sha256"
    salt: [u8; 64],               // 0x068
    uuid: [u8; 40],               // 0x0a8 text
    subsystem: [u8; 48],          // 0x0d0
    hdr_offset: U64,              // 0x100 bytes from the start of the device
    padding: [u8; 184],           // 0x108
    checksum: [u8; 64],           // 0x1c0 of the whole copy, with this field zero
}
const _: () = assert!(size_of::<Binary>() == 512);
/// Bytes of the binary header; the rest behind its fields is padding.
const BINARY: u64 = 4096;

/// The JSON document (section 3). Numbers of 64 bits are strings there. Unknown fields are left alone.
#[derive(Debug, Deserialize)]
struct Document {
    keyslots: BTreeMap<String, Keyslot>,
    segments: BTreeMap<String, Segment>,
    digests: BTreeMap<String, RawDigest>,
    config: Config,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    requirements: Option<Requirements>,
}

#[derive(Debug, Deserialize)]
struct Requirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Keyslot {
    #[serde(rename = "type")]
    kind: String,
    key_size: u32,
    area: Option<Area>,
    kdf: Option<RawKdf>,
    af: Option<Af>,
    /// 0 ignore, 1 normal, 2 prefer.
    #[serde(default)]
    priority: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Area {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    #[serde(default)]
    encryption: String,
    #[serde(default)]
    key_size: u32,
}

#[derive(Debug, Deserialize)]
struct RawKdf {
    #[serde(rename = "type")]
    kind: String,
    salt: String,
    hash: Option<String>,
    iterations: Option<u64>,
    time: Option<u64>,
    memory: Option<u64>,
    cpus: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Af {
    #[serde(rename = "type")]
    kind: String,
    stripes: u32,
    hash: String,
}

#[derive(Debug, Deserialize)]
struct Segment {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    /// A number, or "dynamic".
    size: String,
    iv_tweak: Option<String>,
    encryption: Option<String>,
    sector_size: Option<u32>,
    integrity: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct RawDigest {
    #[serde(rename = "type")]
    kind: String,
    keyslots: Vec<String>,
    segments: Vec<String>,
    salt: String,
    digest: String,
    hash: Option<String>,
    iterations: Option<u64>,
}

/// One sound copy.
struct Copy {
    binary: Binary,
    json: Vec<u8>,
}

/// Reads the header whose first copy begins at `start`.
///
/// # Errors
/// As [`Luks::load`].
pub(super) fn load(source: &dyn BlockSource, start: u64, end: u64, budget: &Budget) -> Result<Luks> {
    let first = read_copy(source, start, 0, end, budget);
    // Where the first copy does not say how long it is, the second may lie at any of the sizes.
    let places: Vec<u64> = match &first {
        Ok(copy) => vec![copy.binary.hdr_size.get()],
        Err(_) => SIZES.to_vec(),
    };
    let second = places.into_iter().find_map(|offset| read_copy(source, start, offset, end, budget).ok());
    let mut warnings = Vec::new();
    let copy = match (first, second) {
        (Ok(first), Some(second)) => {
            if first.binary.seqid.get() < second.binary.seqid.get() {
                second
            } else {
                first
            }
        }
        (Ok(first), None) => {
            warnings.push("the second copy of the LUKS header is damaged; the first one is used".to_owned());
            first
        }
        (Err(_), Some(second)) => {
            warnings.push("the first copy of the LUKS header is damaged; the second one is used".to_owned());
            second
        }
        (Err(error), None) => return Err(error),
    };
    let mut luks = parse(&copy.json)?;
    luks.uuid = Text::from(text(&copy.binary.uuid));
    luks.label = Text::from(text(&copy.binary.label));
    luks.warnings = warnings;
    Ok(luks)
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Reads the copy at `offset` from the first one, and checks it.
fn read_copy(source: &dyn BlockSource, start: u64, offset: u64, end: u64, budget: &Budget) -> Result<Copy> {
    let (place, magic) = if offset == 0 { ("header", MAGIC) } else { ("second header", SECOND) };
    let at = start.saturating_add(offset);
    let wrong = |why: String| corrupt(place, at, why);
    let binary: Binary = read_struct(source, at, At::new("luks", place))?;
    if binary.magic != *magic {
        let error = Error::new(
            ErrorKind::NotAnImage,
            "is not a LUKS container: it does not begin with 'LUKS\\xba\\xbe'",
        );
        return Err(error);
    }
    if binary.version.get() != 2 {
        return Err(Error::unsupported(format!("LUKS version {}", binary.version.get())));
    }
    let size = binary.hdr_size.get();
    if !SIZES.contains(&size) || (offset != 0 && size != offset) {
        return Err(wrong(format!("hdr_size is {size}, must be a power of two from 16 KiB to 4 MiB")));
    }
    if binary.hdr_offset.get() != offset {
        return Err(wrong(format!("hdr_offset is {}, but it lies at {offset}", binary.hdr_offset.get())));
    }
    if at.checked_add(size).is_none_or(|reach| reach > end) {
        return Err(wrong(format!("{size} bytes, but the file ends at {end:#x}: it was cut off")));
    }
    let bytes = read_table(source, at, size, MAX_SIZE, At::new("luks", place), budget)?;
    let algorithm = Hash::parse(&String::from_utf8_lossy(text(&binary.checksum_algorithm)))?;
    // The sum is over the whole copy with the field of the sum as zeros.
    let sum_at = std::mem::offset_of!(Binary, checksum);
    let (before, rest) = bytes.split_at_checked(sum_at).unwrap_or_default();
    let behind = rest.get(64..).unwrap_or_default();
    let sum = algorithm.digest(&[before, &[0; 64], behind]);
    if binary.checksum.get(..sum.len()) != Some(&sum[..]) {
        return Err(wrong("its checksum does not fit".to_owned()));
    }
    let json = bytes.get(narrow(BINARY)..).unwrap_or_default();
    let json = json.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    budget.release(bytes.len());
    Ok(Copy { binary: parse_struct(&bytes, At::new("luks", place))?, json })
}

fn odd(why: impl Into<String>) -> Error {
    Error::corrupt(At::new("luks", "JSON area")).because(why)
}

fn shown(text: &str) -> String {
    escape(text.as_bytes()).to_string()
}

fn number(what: &str, text: &str) -> Result<u64> {
    text.parse().map_err(|_| odd(format!("{what} is '{}', not a number", shown(text))))
}

fn bytes(what: &str, text: &str) -> Result<Vec<u8>> {
    let decoded =
        (text.len() <= MAX_TEXT).then(|| base64::engine::general_purpose::STANDARD.decode(text).ok());
    decoded.flatten().ok_or_else(|| odd(format!("{what} is not base64, or too long")))
}

/// Reads the document of a copy whose checksum fits.
///
/// # Errors
/// `Corrupt` when it is not what the specification says; `Unsupported` by the specification's name for what we do not
/// read.
pub(super) fn parse(json: &[u8]) -> Result<Luks> {
    let document: Document = serde_json::from_slice(json).map_err(|error| {
        odd(format!("line {}, column {}: {}", error.line(), error.column(), shown(&error.to_string())))
    })?;
    if let Some(name) = document.config.requirements.iter().flat_map(|all| &all.mandatory).next() {
        return Err(Error::unsupported(format!("the LUKS2 requirement '{}'", shown(name))).help(
            if name.contains("reencrypt") {
                "finish the reencryption first: cryptsetup reencrypt --resume-only"
            } else {
                "unlock it with cryptsetup"
            },
        ));
    }
    if document.keyslots.len() > MAX_SLOTS {
        return Err(Error::limit(format!(
            "{} LUKS2 key slots, at most {MAX_SLOTS} are accepted",
            document.keyslots.len()
        )));
    }
    let (id, segment) = match document.segments.iter().collect::<Vec<_>>().as_slice() {
        [one] => *one,
        [] => {
            return Err(
                Error::unsupported("a LUKS2 header without a segment").help("it holds keys only, no disk")
            );
        }
        several => return Err(Error::unsupported(format!("LUKS2 with {} segments", several.len()))),
    };
    if segment.kind != "crypt" {
        return Err(Error::unsupported(format!("the LUKS2 segment type '{}'", shown(&segment.kind))));
    }
    if segment.integrity.is_some() {
        return Err(Error::unsupported("LUKS2 authenticated encryption (integrity)"));
    }
    let sector = segment.sector_size.unwrap_or(512);
    if !matches!(sector, 512 | 1024 | 2048 | 4096) {
        return Err(odd(format!("sector_size is {sector}, must be 512, 1024, 2048 or 4096")));
    }
    let len = match segment.size.as_str() {
        "dynamic" => None,
        size => Some(number("the segment's size", size)?),
    };
    let tweak = number("iv_tweak", segment.iv_tweak.as_deref().unwrap_or("0"))?;
    let payload = Payload { offset: number("the segment's offset", &segment.offset)?, len, sector, tweak };
    let digest = document.digests.values().find(|digest| digest.segments.contains(id));
    let digest = digest.ok_or_else(|| odd("no digest is for the segment"))?;
    // A slot that the digest does not name holds another key ("unbound").
    let mut slots: Vec<(&String, &Keyslot)> =
        document.keyslots.iter().filter(|(id, _)| digest.keyslots.contains(id)).collect();
    slots.sort_by_key(|(id, slot)| (std::cmp::Reverse(slot.priority.unwrap_or(1)), id.len(), *id));
    let key = slots.first().map_or(0, |(_, slot)| slot.key_size);
    if let Some((other, _)) = slots.iter().find(|(_, slot)| slot.key_size != key) {
        return Err(odd(format!("key slot {} has a key of another length", shown(other))));
    }
    let cipher = segment.encryption.clone().unwrap_or_default();
    Ok(Luks {
        version: 2,
        uuid: Text::default(),
        label: Text::default(),
        spec: Spec::parse(&cipher),
        cipher: Text::from(cipher.as_str()),
        key,
        payload,
        slots: slots
            .into_iter()
            .map(|(id, slot)| Ok((number("a key slot's name", id)?, self::slot(slot))))
            .collect::<Result<_>>()?,
        digest: self::digest(digest)?,
        warnings: Vec::new(),
    })
}

fn slot(raw: &Keyslot) -> Result<Slot> {
    let kind = |what: &str, kind: &str, known: &str| {
        if kind == known {
            Ok(())
        } else {
            Err(Error::unsupported(format!("the LUKS2 {what} type '{}'", shown(kind))))
        }
    };
    kind("keyslot", &raw.kind, "luks2")?;
    let missing = |what: &str| odd(format!("a key slot without '{what}'"));
    let area = raw.area.as_ref().ok_or_else(|| missing("area"))?;
    let af = raw.af.as_ref().ok_or_else(|| missing("af"))?;
    kind("area", &area.kind, "raw")?;
    kind("af", &af.kind, "luks1")?;
    let slot = Slot {
        kdf: kdf(raw.kdf.as_ref().ok_or_else(|| missing("kdf"))?)?,
        area: Spec::parse(&area.encryption)?,
        area_key: area.key_size,
        offset: number("a key slot's offset", &area.offset)?,
        hash: Hash::parse(&af.hash)?,
        stripes: af.stripes,
    };
    check_slot(raw.key_size, &slot)?;
    Ok(slot)
}

fn kdf(raw: &RawKdf) -> Result<Kdf> {
    let salt = bytes("a salt", &raw.salt)?;
    let missing = |what: &str| odd(format!("{} without '{what}'", shown(&raw.kind)));
    Ok(match raw.kind.as_str() {
        "pbkdf2" => Kdf::Pbkdf2 {
            hash: Hash::parse(raw.hash.as_deref().ok_or_else(|| missing("hash"))?)?,
            iterations: raw.iterations.ok_or_else(|| missing("iterations"))?,
            salt,
        },
        kind @ ("argon2i" | "argon2id") => Kdf::Argon2 {
            id: kind == "argon2id",
            time: raw.time.ok_or_else(|| missing("time"))?,
            memory: raw.memory.ok_or_else(|| missing("memory"))?,
            cpus: raw.cpus.ok_or_else(|| missing("cpus"))?,
            salt,
        },
        other => return Err(Error::unsupported(format!("the LUKS2 kdf type '{}'", shown(other)))),
    })
}

/// Bytes of a digest: from one converted from LUKS1 (20) to one of SHA-512.
const DIGEST: RangeInclusive<usize> = 20..=64;

fn digest(raw: &RawDigest) -> Result<Digest> {
    if raw.kind != "pbkdf2" {
        return Err(Error::unsupported(format!("the LUKS2 digest type '{}'", shown(&raw.kind))));
    }
    let missing = |what: &str| odd(format!("a digest without '{what}'"));
    let digest = bytes("a digest", &raw.digest)?;
    if !DIGEST.contains(&digest.len()) {
        // A short one would fit many keys, and a long one cost as many times the work.
        return Err(odd(format!("a digest of {} bytes", digest.len())));
    }
    let kdf = Kdf::Pbkdf2 {
        hash: Hash::parse(raw.hash.as_deref().ok_or_else(|| missing("hash"))?)?,
        iterations: raw.iterations.ok_or_else(|| missing("iterations"))?,
        salt: bytes("a digest's salt", &raw.salt)?,
    };
    Ok(Digest { kdf, digest })
}
