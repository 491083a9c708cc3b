//! The three packers against streams that others made, whole and damaged, and against noise: what comes out is right, or
//! an error, and never more than was asked for.
//!
//! `IMGMOUNT_UNPACKINGS=10000000` sets how many damaged streams there are.

use super::packed::Packer;
use super::{lznt1, lzx, xpress};
use crate::error::{ErrorKind, Result};
use sha2::{Digest, Sha256};

/// Made by `tests/make/wof.py vectors` with wimlib 1.13.6 (XPRESS, LZX) and ntfs-3g 2022.10.3 (LZNT1): number of the
/// packer, 32 bits of plain length, 32 of packed length, SHA-256 of what is in it, the stream.
const VECTORS: &[u8] = include_bytes!("../../../tests/fs/ntfs_packed.bin");

/// Damaged streams in an ordinary run.
const UNPACKINGS: usize = 3000;

struct Vector {
    packer: Packer,
    len: usize,
    sum: Vec<u8>,
    packed: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let mut rest = VECTORS;
    let mut all = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<41>() {
        let number = |at: usize| usize::try_from(crate::ondisk::get_le32(head, at).unwrap()).unwrap();
        let (packed, behind) = after.split_at(number(5));
        all.push(Vector {
            packer: [Packer::Lznt1, Packer::Xpress, Packer::Lzx][usize::from(head[0])],
            len: number(1),
            sum: head[9..].to_vec(),
            packed: packed.to_vec(),
        });
        rest = behind;
    }
    all
}

fn unpack(packer: Packer, packed: &[u8], len: usize) -> Result<Vec<u8>> {
    match packer {
        Packer::Lznt1 => lznt1::unpack(packed, len),
        Packer::Xpress => xpress::unpack(packed, len),
        Packer::Lzx => lzx::unpack(packed, len),
    }
}

/// xorshift64*, Vigna 2014.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap().checked_rem(bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

#[test]
fn streams_of_others_unpack() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 11);
    for (number, Vector { packer, len, sum, packed }) in vectors.iter().enumerate() {
        let plain = unpack(*packer, packed, *len).unwrap();
        assert_eq!(plain.len(), *len, "{number}");
        assert_eq!(Sha256::digest(&plain).as_slice(), sum.as_slice(), "{number}: {packer:?}");
    }
}

#[test]
fn a_stream_that_is_cut_is_damaged() {
    for Vector { packer, len, packed, .. } in vectors() {
        // Units at the end may hold nothing. LZNT1 may end behind any chunk, and what follows is zeros.
        for cut in (6..packed.len().min(200)).filter(|_| packer != Packer::Lznt1) {
            let cut = &packed[..packed.len().strict_sub(cut)];
            let error = unpack(packer, cut, len).expect_err(&format!("{packer:?} {cut:?}"));
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}

#[test]
fn damaged_streams_and_noise_unpack_to_what_was_asked_for_or_not_at_all() {
    let wanted = std::env::var("IMGMOUNT_UNPACKINGS").ok().and_then(|count| count.parse().ok());
    let (vectors, mut random) = (vectors(), Random(0x9e37_79b9_7f4a_7c15));
    let (mut good, mut bad) = (0_usize, 0_usize);
    for _ in 0..wanted.unwrap_or(UNPACKINGS) {
        let vector = &vectors[random.below(vectors.len())];
        let mut packed = vector.packed.clone();
        match random.below(10) {
            0 => packed = (0..random.below(900)).map(|_| random.byte()).collect(),
            1 => packed.truncate(random.below(packed.len())),
            // Behind the head, noise.
            2 => {
                let from = random.below(packed.len());
                packed[from..].fill_with(|| random.byte());
            }
            // Stretches of the same or of another stream.
            3 => {
                let other = &vectors[random.below(vectors.len())].packed;
                let (to, from) = (random.below(packed.len()), random.below(other.len()));
                let len =
                    random.below(300).min(packed.len().strict_sub(to)).min(other.len().strict_sub(from));
                packed[to..][..len].copy_from_slice(&other[from..][..len]);
            }
            _ => {
                for _ in 0..=random.below(4) {
                    let at = random.below(packed.len());
                    packed[at] =
                        if random.below(2) == 0 { packed[at] ^ 1 << random.below(8) } else { random.byte() };
                }
            }
        }
        // Often a little is wanted, so that there are many.
        let len = if random.below(4) == 0 { vector.len } else { random.below(vector.len.min(2000)) };
        let len = if vector.packer == Packer::Lznt1 { len.next_multiple_of(lznt1::CHUNK) } else { len };
        match unpack(vector.packer, &packed, len) {
            Ok(plain) => {
                assert_eq!(plain.len(), len, "{:?} {packed:?}", vector.packer);
                good = good.strict_add(1);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                bad = bad.strict_add(1);
            }
        }
    }
    assert!(good > 100 && bad > 100, "{good} good, {bad} bad");
}

/// [MS-XCA] 3.3.
#[test]
fn example_of_lznt1() {
    let packed = "38b08846232000204720410010a24701a045204400084501507900c04520052413\
                  8805b4024a44ef0358028c091601484500be009e000401189000";
    let packed: Vec<u8> = packed
        .as_bytes()
        .chunks(2)
        .map(|hex| u8::from_str_radix(str::from_utf8(hex).unwrap(), 16).unwrap())
        .collect();
    let plain = "F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E F# G F# D E F# \
                 G F# E D E A F# F# G A A G F# E D D E F# E D D\0";
    let mut expected = plain.as_bytes().to_vec();
    assert_eq!(expected.len(), 142);
    expected.resize(4096, 0);
    assert_eq!(lznt1::unpack(&packed, 4096).unwrap(), expected);
}

/// [MS-PATCH] 2.3.1 and 2.5, written by hand: an uncompressed block of three bytes, and its last distances.
#[test]
fn an_uncompressed_block_of_lzx() {
    // 3 bits 011, one bit 0, 16 bits 3, and 12 that fill the unit.
    let mut packed = vec![0x00, 0x60, 0x00, 0x30];
    packed.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    packed.extend_from_slice(b"abc");
    assert_eq!(lzx::unpack(&packed, 3).unwrap(), b"abc");
    assert!(lzx::unpack(&packed, 2).is_err());
    packed[4] = 0;
    assert!(lzx::unpack(&packed, 3).is_err());
}

/// Chunks of LZNT1: one that is not packed, one that ends early, and zeros behind the end.
#[test]
fn chunks_of_lznt1() {
    let whole: Vec<u8> = (0..4096_u32).map(|n| n.to_le_bytes()[0] | 1).collect();
    let early = [0x02, 0xb0, 0x00, b'x', b'y'];
    let unit = [&[0xff, 0x3f][..], &whole, &early, &early, &[0, 0]].concat();
    let plain = lznt1::unpack(&unit, 65536).unwrap();
    assert_eq!(plain[..4096], whole);
    for at in [4096, 8192] {
        assert_eq!(&plain[at..][..2], b"xy");
        assert!(plain[at.strict_add(2)..at.strict_add(4096)].iter().all(|byte| *byte == 0));
    }
    assert!(plain[12288..].iter().all(|byte| *byte == 0));
    assert_eq!(plain.len(), 65536);
    // One not packed must be whole; a copy from before its chunk, or from none, is damage.
    assert!(lznt1::unpack(&[0x02, 0x30, 1, 2, 3], 4096).is_err());
    assert!(lznt1::unpack(&[&early[..], &[0x02, 0xb0, 0x01, 0, 0]].concat(), 8192).is_err());
    assert!(lznt1::unpack(&[0x03, 0xb0, 0x02, b'a', 0, 0x10], 4096).is_err());
}
