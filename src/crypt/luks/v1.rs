//! The header of version 1: 592 bytes, all numbers big-endian, all offsets in sectors of 512 bytes.
//!
//! Specification: "LUKS1 On-Disk Format Specification" 1.2.3, section 2.3.

use super::{Digest, Luks, Payload, Slot, check_slot};
use crate::crypt::cipher::{SECTOR, Spec};
use crate::crypt::hash::Hash;
use crate::crypt::kdf::Kdf;
use crate::error::{At, Error, Result};
use crate::ondisk::parse_struct;
use crate::text::Text;
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of the header.
pub(super) const SIZE: usize = 592;
/// A slot in use, and one that is not.
const ENABLED: u32 = 0x00ac_71f3;
const DISABLED: u32 = 0x0000_dead;

/// Table 1, "PHDR layout".
#[derive(FromBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct Header {
    magic: [u8; 6],        // 0x000 "LUKS\xba\xbe"
    version: U16,          // 0x006 1
    cipher_name: [u8; 32], // 0x008 "aes", padded with NUL
    cipher_mode: [u8; 32], // 0x028 "xts-plain64"
    hash_spec: [u8; 32],   // 0x048 "sha256"
    payload_offset: U32,   // 0x068 sectors, 0 = in another file
    key_bytes: U32,        // 0x06c of the volume key
    digest: [u8; 20],      // 0x070 PBKDF2 of the volume key
    digest_salt: [u8; 32], // 0x084
    digest_iter: U32,      // 0x0a4
    uuid: [u8; 40],        // 0x0a8 text
    slots: [RawSlot; 8],   // 0x0d0
}
const _: () = assert!(size_of::<Header>() == SIZE);

/// Table 3, "key slot layout".
#[derive(FromBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct RawSlot {
    active: U32,              // 0x00 ENABLED or DISABLED
    iterations: U32,          // 0x04
    salt: [u8; 32],           // 0x08
    key_material_offset: U32, // 0x28 sectors
    stripes: U32,             // 0x2c
}
const _: () = assert!(size_of::<RawSlot>() == 48);

/// Text up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Reads a header of which magic and version were seen.
///
/// # Errors
/// `Corrupt` when it is too short; `Unsupported` for a hash that we do not read.
pub(super) fn parse(head: &[u8]) -> Result<Luks> {
    let header: Header = parse_struct(head, At::new("luks", "header"))?;
    let name = [text(&header.cipher_name), text(&header.cipher_mode)].join(&b'-');
    let cipher = Text::new(name);
    let spec = cipher
        .as_utf8()
        .map_or_else(|| Err(Error::unsupported(format!("the cipher '{cipher}'"))), Spec::parse);
    let hash = String::from_utf8_lossy(text(&header.hash_spec)).into_owned();
    let hash = Hash::parse(&hash)?;
    let key = header.key_bytes.get();
    let mut slots = Vec::new();
    for (number, raw) in (0_u64..).zip(&header.slots) {
        match raw.active.get() {
            ENABLED => slots.push((number, slot(raw, &spec, hash, key))),
            DISABLED => {}
            other => {
                let at = At::new("luks", "key slot").index(number);
                let error = Error::corrupt(at).because(format!("its state is {other:#x}"));
                slots.push((number, Err(error)));
            }
        }
    }
    let sectors = |number: U32| u64::from(number.get()).saturating_mul(SECTOR);
    Ok(Luks {
        version: 1,
        uuid: Text::from(text(&header.uuid)),
        label: Text::default(),
        cipher,
        spec,
        key,
        payload: Payload { offset: sectors(header.payload_offset), len: None, sector: 512, tweak: 0 },
        slots,
        digest: Digest {
            kdf: Kdf::Pbkdf2 {
                hash,
                iterations: header.digest_iter.get().into(),
                salt: header.digest_salt.to_vec(),
            },
            digest: header.digest.to_vec(),
        },
        warnings: Vec::new(),
    })
}

fn slot(raw: &RawSlot, spec: &Result<Spec>, hash: Hash, key: u32) -> Result<Slot> {
    let slot = Slot {
        kdf: Kdf::Pbkdf2 { hash, iterations: raw.iterations.get().into(), salt: raw.salt.to_vec() },
        // A slot's area is encrypted as the payload is, under a key of the same length.
        area: spec.clone()?,
        area_key: key,
        offset: u64::from(raw.key_material_offset.get()).saturating_mul(SECTOR),
        hash,
        stripes: raw.stripes.get(),
    };
    check_slot(key, &slot)?;
    Ok(slot)
}
