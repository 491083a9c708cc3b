//! The checksums that on-disk structures carry.

/// CRC-32 (IEEE 802.3, reflected polynomial 0xEDB88320): GPT.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    !fold(&IEEE, !0, bytes)
}

/// CRC-32 over the same polynomial from another start value, not inverted at the end: LVM2.
#[must_use]
pub fn crc32_from(start: u32, bytes: &[u8]) -> u32 {
    fold(&IEEE, start, bytes)
}

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), RFC 3720 appendix B.4: VHDX.
#[must_use]
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    !parts.iter().fold(!0, |crc, part| crc32c_on(crc, part))
}

/// Takes a CRC-32C on from `crc` over `bytes`, with no inversion before or after, as Linux keeps it in the metadata of
/// ext4: there a checksum starts from a seed, which is a checksum. With the processor's own instructions, where it has them.
#[must_use]
pub fn crc32c_on(crc: u32, bytes: &[u8]) -> u32 {
    !::crc32c::crc32c_append(!crc, bytes)
}

/// Takes a CRC-32 of the other bit order (polynomial 0x04C11DB7, highest bit first) on from `crc`, with no inversion: the
/// first checksums of the ext4 journal.
#[must_use]
pub fn crc32_msb_on(crc: u32, bytes: &[u8]) -> u32 {
    // Backwards bits are the reflected CRC of backwards bytes.
    let turned = bytes.iter().fold(crc.reverse_bits(), |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        let entry = usize::from(low ^ byte.reverse_bits());
        IEEE.get(entry).copied().unwrap_or(0) ^ (crc >> 8)
    });
    turned.reverse_bits()
}

/// Takes a CRC-16 (reflected polynomial 0xA001) on from `crc`: group descriptors of ext4.
#[must_use]
pub fn crc16_on(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8)
            .fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 })
    })
}

/// CRC-64 (ECMA-182, reflected polynomial 0xC96C5795D7870F42): xz. Eight bytes at a time by as many tables.
#[must_use]
pub fn crc64(bytes: &[u8]) -> u64 {
    let table = |n: usize, byte: u8| ECMA.get(n).and_then(|t| t.get(usize::from(byte))).copied().unwrap_or(0);
    let (eights, rest) = bytes.as_chunks::<8>();
    let crc = eights.iter().fold(!0_u64, |crc, eight| {
        let [a, b, c, d, e, f, g, h] = (crc ^ u64::from_le_bytes(*eight)).to_le_bytes();
        table(7, a)
            ^ table(6, b)
            ^ table(5, c)
            ^ table(4, d)
            ^ table(3, e)
            ^ table(2, f)
            ^ table(1, g)
            ^ table(0, h)
    });
    !rest.iter().fold(crc, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        table(0, low ^ byte) ^ (crc >> 8)
    })
}

/// XXH64 with seed 0 (xxHash specification, 0.1.1, "XXH64 algorithm description"): zstd's seek tables.
#[must_use]
pub fn xxh64(bytes: &[u8]) -> u64 {
    const P1: u64 = 0x9e37_79b1_85eb_ca87;
    const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
    const P3: u64 = 0x1656_67b1_9e37_79f9;
    const P4: u64 = 0x85eb_ca77_c2b2_ae63;
    const P5: u64 = 0x27d4_eb2f_1656_67c5;
    let round =
        |lane: u64, input: u64| lane.wrapping_add(input.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1);
    let (stripes, rest) = bytes.as_chunks::<32>();
    let mut hash = if stripes.is_empty() {
        P5
    } else {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, 0_u64.wrapping_sub(P1)];
        for stripe in stripes {
            for (lane, input) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
                *lane = round(*lane, u64::from_le_bytes(*input));
            }
        }
        let turned = lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
        let sum = turned.fold(0, u64::wrapping_add);
        let merge = |hash: u64, lane: &u64| (hash ^ round(0, *lane)).wrapping_mul(P1).wrapping_add(P4);
        lanes.iter().fold(sum, merge)
    };
    hash = hash.wrapping_add(crate::num::wide(bytes.len()));
    let (eights, rest) = rest.as_chunks::<8>();
    for eight in eights {
        hash ^= round(0, u64::from_le_bytes(*eight));
        hash = hash.rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    let (fours, rest) = rest.as_chunks::<4>();
    for four in fours {
        hash ^= u64::from(u32::from_le_bytes(*four)).wrapping_mul(P1);
        hash = hash.rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
    }
    for byte in rest {
        hash ^= u64::from(*byte).wrapping_mul(P5);
        hash = hash.rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

static ECMA: [[u64; 256]; 8] = ecma();

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "evaluated at compile time, bounded by 8 and 256"
)]
const fn ecma() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xc96c_5795_d787_0f42 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][n] = crc;
        n += 1;
    }
    let mut t = 1;
    while t < 8 {
        let mut n = 0;
        while n < 256 {
            let before = tables[t - 1][n];
            tables[t][n] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            n += 1;
        }
        t += 1;
    }
    tables
}

/// Adler-32 (RFC 1950, section 9): EWF.
#[must_use]
pub fn adler32(bytes: &[u8]) -> u32 {
    /// The longest piece after which neither sum can have overflowed 32 bits.
    const PIECE: usize = 5552;
    let (mut a, mut b) = (1_u32, 0_u32);
    for piece in bytes.chunks(PIECE) {
        for byte in piece {
            a = a.wrapping_add(u32::from(*byte));
            b = b.wrapping_add(a);
        }
        a %= 65521;
        b %= 65521;
    }
    (b << 16) | a
}

const IEEE: [u32; 256] = table(0xedb8_8320);

fn fold(table: &[u32; 256], crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        let entry = usize::from(crc.to_le_bytes().first().copied().unwrap_or(0) ^ byte);
        table.get(entry).copied().unwrap_or(0) ^ (crc >> 8)
    })
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "evaluated at compile time, bounded by 256"
)]
const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that the frames of zstd 1.5.4 end with (`zstd --check`): the low halves.
    #[test]
    fn xxh64_is_what_zstd_ends_its_frames_with() {
        let low = |bytes: &[u8]| xxh64(bytes) & 0xffff_ffff;
        assert_eq!((low(b""), low(b"abc"), low(b"123456789")), (0x51d8_e999, 0xad77_0999, 0x40e6_ae83));
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!((low(&all[..47]), low(&all)), (0x3e7b_fbb8, 0x06cd_904b));
    }

    #[test]
    fn check_values_of_the_catalogue_of_crc_algorithms() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
        // CRC-32C of 32 bytes of zeros and of ones, RFC 3720 appendix B.4.
        assert_eq!((crc32c(&[&[0; 32]]), crc32c(&[&[0xff; 32]])), (0x8a91_36aa, 0x62a8_ab43));
        // CRC-32/MPEG-2 and CRC-16/MODBUS.
        assert_eq!(crc32_msb_on(!0, b"123456789"), 0x0376_e6e7);
        assert_eq!(crc16_on(!0, b"123456789"), 0x4b37);
        assert_eq!(crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(adler32(&[0xff; 100_000]), 0x149a_302c);
    }
}
