//! Locks BitLocker volumes: the metadata as the specification of libbde ("BitLocker Drive Encryption (BDE) format
//! specification") has them, the sectors as Ferguson's paper and IEEE 1619 have them, the sealed keys as RFC 3610.

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use sha2::{Digest as _, Sha256};

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const SIZE: usize = 1 << 20;
/// Where the copies of the metadata lie, and the volume's front.
pub(crate) const COPIES: [usize; 3] = [256 * KIB, 512 * KIB, 768 * KIB];
pub(crate) const FRONT: usize = 320 * KIB;
pub(crate) const FRONT_LEN: usize = 8 * KIB;
/// Of the volume: 00010203-0405-0607-0809-0a0b0c0d0e0f.
const ID: [u8; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
pub(crate) const GUID: &str = "00010203-0405-0607-0809-0a0b0c0d0e0f";
/// Identifiers of locked volumes: 4967d63b-2e29-4ad8-8399-f6a339e3d001 and 92a84d3b-dd80-4d0e-9e4e-b1e3284eaed8.
pub(crate) const WHOLE: [u8; 16] =
    [0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01];
const ON_WRITE: [u8; 16] =
    [0x3b, 0x4d, 0xa8, 0x92, 0x80, 0xdd, 0x0e, 0x4d, 0x9e, 0x4e, 0xb1, 0xe3, 0x28, 0x4e, 0xae, 0xd8];
pub(crate) const MASTER: [u8; 32] = *b"the volume master key of a test.";
pub(crate) const PASSWORD: &str = "bread and cheese";
/// 8 multiples of 11.
pub(crate) const RECOVERY: &str = "000011-000022-720885-123453-000000-471207-278498-422125";
pub(crate) const STARTUP: [u8; 32] = *b"what a stick for the start holds";

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Maker {
    Vista,
    Seven,
    ToGo,
}

/// What is locked, and how.
#[derive(Clone)]
pub(crate) struct Locked {
    pub(crate) maker: Maker,
    pub(crate) method: u16,
    pub(crate) sector: usize,
    pub(crate) state: [u16; 2],
    /// Bytes from the start that are encrypted.
    pub(crate) encrypted: usize,
    pub(crate) on_write: bool,
    /// Entries of protectors.
    pub(crate) protectors: Vec<Vec<u8>>,
}

impl Locked {
    pub(crate) fn new(maker: Maker, method: u16, sector: usize) -> Self {
        let (state, protectors) = ([4, 4], vec![clear_key()]);
        Self { maker, method, sector, state, encrypted: SIZE, on_write: false, protectors }
    }

    /// The key of the sectors, as it lies in its entry.
    fn key(&self) -> Vec<u8> {
        let len = match self.method {
            0x8000 | 0x8001 | 0x8005 => 64,
            0x8002 => 16,
            _ => 32,
        };
        (1..=len).map(|at: u8| at.wrapping_mul(7)).collect()
    }

    /// A volume in the clear: an NTFS or FAT boot sector, and elsewhere every 8 bytes say where they are.
    pub(crate) fn plain(&self) -> Vec<u8> {
        let mut plain: Vec<u8> = (0..SIZE as u64 / 8).flat_map(|at| (at * 8).to_le_bytes()).collect();
        plain[..512].fill(0);
        if self.maker == Maker::ToGo {
            plain[..11].copy_from_slice(b"\xeb\x58\x90MSDOS5.0");
        } else {
            plain[..11].copy_from_slice(b"\xeb\x52\x90NTFS    ");
        }
        plain[11..13].copy_from_slice(&(self.sector as u16).to_le_bytes());
        plain[13] = (4096 / self.sector) as u8;
        plain[21] = 0xf8;
        plain[40..48].copy_from_slice(&(SIZE as u64 / self.sector as u64 - 1).to_le_bytes());
        plain[48..56].copy_from_slice(&4_u64.to_le_bytes());
        plain[56..64].copy_from_slice(&2_u64.to_le_bytes());
        plain[510..512].copy_from_slice(&[0x55, 0xaa]);
        plain
    }

    /// The same as it is shown when it is opened: zeros over what BitLocker takes.
    pub(crate) fn shown(&self) -> Vec<u8> {
        let mut plain = self.plain();
        let copy = if self.maker == Maker::Vista { 16 * KIB } else { 64 * KIB };
        COPIES.iter().for_each(|at| plain[*at..*at + copy].fill(0));
        if self.maker != Maker::Vista {
            plain[FRONT..FRONT + FRONT_LEN].fill(0);
        }
        plain
    }

    pub(crate) fn lock(&self) -> Vec<u8> {
        let mut volume = self.plain();
        if self.maker != Maker::Vista {
            volume.copy_within(..FRONT_LEN, FRONT);
        }
        let from = if self.maker == Maker::Vista { 16 } else { 0 };
        for (number, sector) in volume[..self.encrypted].chunks_mut(self.sector).enumerate().skip(from) {
            encrypt(self.method, &self.key(), sector, number);
        }
        let boot = self.boot(&volume[..512]);
        volume[..512].copy_from_slice(&boot);
        let metadata = self.metadata();
        COPIES.iter().for_each(|at| volume[*at..*at + metadata.len()].copy_from_slice(&metadata));
        volume
    }

    fn boot(&self, stored: &[u8]) -> Vec<u8> {
        if self.maker == Maker::Vista {
            let mut boot = stored.to_vec();
            boot[3..11].copy_from_slice(b"-FVE-FS-");
            boot[56..64].copy_from_slice(&(COPIES[0] as u64 / 4096).to_le_bytes());
            return boot;
        }
        let mut boot = vec![0; 512];
        let (name, at): (&[u8; 8], usize) =
            if self.maker == Maker::ToGo { (b"MSWIN4.1", 424) } else { (b"-FVE-FS-", 160) };
        boot[..3].copy_from_slice(b"\xeb\x58\x90");
        boot[3..11].copy_from_slice(name);
        boot[11..13].copy_from_slice(&(self.sector as u16).to_le_bytes());
        boot[13] = (4096 / self.sector) as u8;
        boot[21] = 0xf8;
        boot[at..at + 16].copy_from_slice(if self.on_write { &ON_WRITE } else { &WHOLE });
        for (number, copy) in COPIES.iter().enumerate() {
            boot[at + 16 + number * 8..at + 24 + number * 8].copy_from_slice(&(*copy as u64).to_le_bytes());
        }
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        boot
    }

    /// One copy, with its validation.
    pub(crate) fn metadata(&self) -> Vec<u8> {
        let is_vista = self.maker == Maker::Vista;
        let mut list = entry(7, 2, &utf16("HOST C: 1/2/2026\0"));
        list.extend(self.protectors.concat());
        list.extend(seal(3, &MASTER, 3, &key(self.method, &self.key())));
        // Vista has neither this nor the encrypted bytes below; libbde and dislocker of Debian 12 read no volume without.
        let front = if is_vista { 2 } else { FRONT as u64 };
        list.extend(entry(15, 15, &[front.to_le_bytes(), (FRONT_LEN as u64).to_le_bytes()].concat()));
        let inner = 48 + list.len() as u32;
        let size = (64 + inner as usize).next_multiple_of(16);
        let mut block = b"-FVE-FS-".to_vec();
        block.extend(((if is_vista { size } else { size / 16 }) as u16).to_le_bytes());
        block.extend((if is_vista { 1_u16 } else { 2 }).to_le_bytes());
        self.state.iter().for_each(|state| block.extend(state.to_le_bytes()));
        block.extend((self.encrypted as u64).to_le_bytes());
        block.extend(0_u32.to_le_bytes());
        block.extend((if is_vista { 0 } else { FRONT_LEN / self.sector } as u32).to_le_bytes());
        COPIES.iter().for_each(|at| block.extend((*at as u64).to_le_bytes()));
        block.extend((if is_vista { 2 } else { FRONT as u64 }).to_le_bytes());
        [inner, 1, 48, inner].iter().for_each(|word| block.extend(word.to_le_bytes()));
        block.extend(ID);
        [9, u32::from(self.method)].iter().for_each(|word| block.extend(word.to_le_bytes()));
        block.extend(0x01d5_3236_7049_4350_u64.to_le_bytes());
        block.extend(list);
        block.resize(size, 0);
        validated(&block)
    }
}

/// A block with what follows it: its sum, and its hash sealed under the master key.
pub(crate) fn validated(block: &[u8]) -> Vec<u8> {
    let mut hash = 44_u16.to_le_bytes().to_vec();
    hash.extend([0_u16, 1, 1, 0x2005, 0].iter().flat_map(|word| word.to_le_bytes()));
    hash.extend(Sha256::digest(block));
    let sum = imgmount::checksum::crc32(block);
    let sealed = seal(0, &MASTER, 8, &hash);
    [block, &((8 + sealed.len()) as u16).to_le_bytes(), &[2, 0], &sum.to_le_bytes(), &sealed].concat()
}

pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

pub(crate) fn entry(role: u16, kind: u16, data: &[u8]) -> Vec<u8> {
    let header = [8 + data.len() as u16, role, kind, 1];
    header.iter().flat_map(|word| word.to_le_bytes()).chain(data.iter().copied()).collect()
}

/// An entry with a key.
pub(crate) fn key(method: u16, key: &[u8]) -> Vec<u8> {
    entry(0, 1, &[&u32::from(method).to_le_bytes(), key].concat())
}

fn aes(key: &[u8], block: [u8; 16]) -> [u8; 16] {
    let mut block = block.into();
    match key.len() {
        16 => aes::Aes128::new_from_slice(key).unwrap().encrypt_block(&mut block),
        _ => aes::Aes256::new_from_slice(key).unwrap().encrypt_block(&mut block),
    }
    block.into()
}

fn xor(to: &mut [u8], with: &[u8]) {
    to.iter_mut().zip(with).for_each(|(byte, with)| *byte ^= with);
}

/// An entry sealed under `under` (RFC 3610, with a length of 3 bytes and a tag of 16).
pub(crate) fn seal(role: u16, under: &[u8], number: u8, text: &[u8]) -> Vec<u8> {
    let nonce = [7, 7, 7, 7, 7, 7, 7, 1, number, 0, 0, 0];
    let block = |flags: u8, number: u32| {
        let mut block = [0; 16];
        block[0] = flags;
        block[1..13].copy_from_slice(&nonce);
        block[13..].copy_from_slice(&number.to_be_bytes()[1..]);
        block
    };
    let mut tag = aes(under, block(0x3a, text.len() as u32));
    for piece in text.chunks(16) {
        xor(&mut tag, piece);
        tag = aes(under, tag);
    }
    xor(&mut tag, &aes(under, block(2, 0)));
    let mut sealed = text.to_vec();
    for (number, piece) in (1..).zip(sealed.chunks_mut(16)) {
        xor(piece, &aes(under, block(2, number)));
    }
    entry(role, 5, &[&nonce[..], &tag, &sealed].concat())
}

pub(crate) fn protector(id: u8, kind: u16, inner: &[Vec<u8>]) -> Vec<u8> {
    let mut data = vec![id; 16];
    data.extend([0; 10]);
    data.extend(kind.to_le_bytes());
    data.extend(inner.concat());
    entry(2, 8, &data)
}

fn clear_key() -> Vec<u8> {
    let clear = [0x5a; 32];
    protector(1, 0, &[key(0x2000, &clear), seal(0, &clear, 1, &key(0x2003, &MASTER))])
}

/// A protector whose key is made of the hash of a password.
pub(crate) fn stretched(id: u8, kind: u16, hash: &[u8]) -> Vec<u8> {
    let salt = [id; 16];
    let mut last = [0; 32];
    for count in 0..0x10_0000_u64 {
        let hashed = Sha256::new().chain_update(last).chain_update(hash).chain_update(salt);
        last = hashed.chain_update(count.to_le_bytes()).finalize().into();
    }
    let stretch = entry(0, 3, &[&0x1000_u32.to_le_bytes()[..], &salt].concat());
    protector(id, kind, &[stretch, seal(0, &last, id, &key(0x2003, &MASTER))])
}

/// Encrypts the sector of this number.
fn encrypt(method: u16, key: &[u8], sector: &mut [u8], number: usize) {
    let first = (number * sector.len()) as u128;
    if method >= 0x8004 {
        let (data, tweak) = key.split_at(key.len() / 2);
        let mut tweak = u128::from_le_bytes(aes(tweak, (number as u128).to_le_bytes()));
        for block in sector.chunks_mut(16) {
            xor(block, &tweak.to_le_bytes());
            let stored = aes(data, (&*block).try_into().unwrap());
            block.copy_from_slice(&stored);
            xor(block, &tweak.to_le_bytes());
            tweak = (tweak << 1) ^ if tweak >> 127 == 1 { 0x87 } else { 0 };
        }
        return;
    }
    let len = if method & 1 == 0 { 16 } else { 32 };
    if method <= 0x8001 {
        let of = |number: u128| aes(&key[32..32 + len], number.to_le_bytes());
        let sector_key = [of(first), of(first | 1 << 127)].concat();
        sector.chunks_mut(32).for_each(|piece| xor(piece, &sector_key));
        let mut words: Vec<u32> =
            sector.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
        let n = words.len();
        for (cycles, turns, two, five) in [(5, [9, 0, 13, 0], n - 2, n - 5), (3, [0, 10, 0, 25], 2, 5)] {
            for i in (0..cycles).flat_map(|_| (0..n).rev()) {
                let mixed = words[(i + two) % n] ^ words[(i + five) % n].rotate_left(turns[i % 4]);
                words[i] = words[i].wrapping_sub(mixed);
            }
        }
        sector.chunks_mut(4).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
    }
    let mut before = aes(&key[..len], first.to_le_bytes());
    for block in sector.chunks_mut(16) {
        xor(block, &before);
        before = aes(&key[..len], (&*block).try_into().unwrap());
        block.copy_from_slice(&before);
    }
}

/// A key file for the protector 4.
pub(crate) fn key_file() -> Vec<u8> {
    let mut data = vec![4; 16];
    data.extend([0; 8]);
    data.extend(entry(0, 2, &utf16("ExternalKey\0")));
    data.extend(key(0x2002, &STARTUP));
    let outer = entry(6, 9, &data);
    let size = 48 + outer.len() as u32;
    let mut file: Vec<u8> = [size, 1, 48, size].iter().flat_map(|word| word.to_le_bytes()).collect();
    file.extend([4; 16]);
    file.extend([0; 16]);
    file.extend(outer);
    file
}
