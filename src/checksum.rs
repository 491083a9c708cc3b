//! The checksums that on-disk structures carry.

/// CRC-32 (IEEE 802.3, reflected polynomial 0xEDB88320): GPT.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    !fold(&IEEE, !0, bytes)
}

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), RFC 3720 appendix B.4: VHDX.
#[must_use]
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    !parts.iter().fold(!0, |crc, part| fold(&CASTAGNOLI, crc, part))
}

const IEEE: [u32; 256] = table(0xedb8_8320);
const CASTAGNOLI: [u32; 256] = table(0x82f6_3b78);

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

    #[test]
    fn check_values_of_the_catalogue_of_crc_algorithms() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
    }
}
