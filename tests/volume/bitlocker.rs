//! BitLocker volumes. They are locked here as the specification of libbde and Ferguson's paper say, and what we read of them
//! must be what dislocker or libbde's own program reads; cryptsetup's samples, which Windows made, have their sums.

use crate::lvm2::{all, bytes, look, look_with, volume};
use crate::{common, identity, requires};
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use imgmount::keys::{Key, Keys, Secret};
use imgmount::volume::Machine;
use sha2::{Digest as _, Sha256};

const KIB: usize = 1 << 10;
const SIZE: usize = 1 << 20;
/// Where the copies of the metadata lie, and the volume's front.
const COPIES: [usize; 3] = [256 * KIB, 512 * KIB, 768 * KIB];
const FRONT: usize = 320 * KIB;
const FRONT_LEN: usize = 8 * KIB;
/// Of the volume: 00010203-0405-0607-0809-0a0b0c0d0e0f.
const ID: [u8; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
const GUID: &str = "00010203-0405-0607-0809-0a0b0c0d0e0f";
/// Identifiers of locked volumes: 4967d63b-2e29-4ad8-8399-f6a339e3d001 and 92a84d3b-dd80-4d0e-9e4e-b1e3284eaed8.
const WHOLE: [u8; 16] =
    [0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01];
const ON_WRITE: [u8; 16] =
    [0x3b, 0x4d, 0xa8, 0x92, 0x80, 0xdd, 0x0e, 0x4d, 0x9e, 0x4e, 0xb1, 0xe3, 0x28, 0x4e, 0xae, 0xd8];
const MASTER: [u8; 32] = *b"the volume master key of a test.";
const PASSWORD: &str = "bread and cheese";
/// 8 multiples of 11.
const RECOVERY: &str = "000011-000022-720885-123453-000000-471207-278498-422125";
const STARTUP: [u8; 32] = *b"what a stick for the start holds";

#[derive(Clone, Copy, PartialEq)]
enum Maker {
    Vista,
    Seven,
    ToGo,
}

/// What is locked, and how.
#[derive(Clone)]
struct Locked {
    maker: Maker,
    method: u16,
    sector: usize,
    state: [u16; 2],
    /// Bytes from the start that are encrypted.
    encrypted: usize,
    on_write: bool,
    /// Entries of protectors.
    protectors: Vec<Vec<u8>>,
}

impl Locked {
    fn new(maker: Maker, method: u16, sector: usize) -> Self {
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
    fn plain(&self) -> Vec<u8> {
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
    fn shown(&self) -> Vec<u8> {
        let mut plain = self.plain();
        let copy = if self.maker == Maker::Vista { 16 * KIB } else { 64 * KIB };
        COPIES.iter().for_each(|at| plain[*at..*at + copy].fill(0));
        if self.maker != Maker::Vista {
            plain[FRONT..FRONT + FRONT_LEN].fill(0);
        }
        plain
    }

    fn lock(&self) -> Vec<u8> {
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
    fn metadata(&self) -> Vec<u8> {
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
fn validated(block: &[u8]) -> Vec<u8> {
    let mut hash = 44_u16.to_le_bytes().to_vec();
    hash.extend([0_u16, 1, 1, 0x2005, 0].iter().flat_map(|word| word.to_le_bytes()));
    hash.extend(Sha256::digest(block));
    let sum = imgmount::checksum::crc32(block);
    let sealed = seal(0, &MASTER, 8, &hash);
    [block, &((8 + sealed.len()) as u16).to_le_bytes(), &[2, 0], &sum.to_le_bytes(), &sealed].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn entry(role: u16, kind: u16, data: &[u8]) -> Vec<u8> {
    let header = [8 + data.len() as u16, role, kind, 1];
    header.iter().flat_map(|word| word.to_le_bytes()).chain(data.iter().copied()).collect()
}

/// An entry with a key.
fn key(method: u16, key: &[u8]) -> Vec<u8> {
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
fn seal(role: u16, under: &[u8], number: u8, text: &[u8]) -> Vec<u8> {
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

fn protector(id: u8, kind: u16, inner: &[Vec<u8>]) -> Vec<u8> {
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
fn stretched(id: u8, kind: u16, hash: &[u8]) -> Vec<u8> {
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

fn keys(given: &[u8]) -> Keys {
    let key = Key { volume: "disk".to_owned(), secret: Secret::new(given.to_vec()), is_file: true };
    [key].into_iter().collect()
}

/// What is opened, or the lines that say why not.
fn opened(machine: &Machine) -> Result<Vec<u8>, Vec<String>> {
    let id = format!("bitlk-{GUID}");
    let found = all(machine).into_iter().find(|volume| volume.id == id).map(bytes);
    found.ok_or_else(|| machine.disks[0].warnings.clone())
}

/// Opened with a clear key, without a word.
#[track_caller]
fn plain_of(locked: &Locked) -> Vec<u8> {
    let machine = look(&[locked.lock()]);
    assert_eq!(machine.disks[0].warnings, [""; 0]);
    opened(&machine).unwrap()
}

/// What dislocker reads with these words.
fn dislocker(locked: &[u8], how: &str) -> Vec<u8> {
    let dir = common::tempdir();
    std::fs::write(dir.path().join("locked"), locked).unwrap();
    std::fs::write(dir.path().join("stick.BEK"), key_file()).unwrap();
    common::sh(&format!("cd {}; dislocker-file -q -V locked {how} -- plain", dir.path().display()));
    std::fs::read(dir.path().join("plain")).unwrap()
}

/// What libbde reads with a clear key.
fn libbde(locked: &[u8]) -> Vec<u8> {
    let dir = common::tempdir();
    std::fs::write(dir.path().join("locked"), locked).unwrap();
    common::sh(&format!(
        "cd {}; mkdir m; bdemount locked m > said || {{ cat said >&2; exit 1; }}; trap 'umount m' EXIT; cp m/bde1 plain",
        dir.path().display()
    ));
    std::fs::read(dir.path().join("plain")).unwrap()
}

/// A key file for the protector 4.
fn key_file() -> Vec<u8> {
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

#[test]
fn every_method_and_sector_is_read_as_dislocker_does() {
    requires!("dislocker-file");
    for method in 0x8000..=0x8005 {
        for sector in [512, 4096] {
            let locked = Locked::new(Maker::Seven, method, sector);
            let plain = plain_of(&locked);
            assert_eq!(plain.len(), SIZE);
            assert!(plain == dislocker(&locked.lock(), "-c"), "{method:#x}, {sector}: not as dislocker");
            assert!(plain == locked.shown(), "{method:#x}, {sector}: not what was locked");
        }
    }
}

#[test]
fn a_removable_disk_is_read_as_dislocker_does() {
    requires!("dislocker-file");
    let locked = Locked::new(Maker::ToGo, 0x8002, 512);
    assert!(plain_of(&locked) == dislocker(&locked.lock(), "-c"));
    assert!(plain_of(&locked) == locked.shown());
}

#[test]
fn the_fat_that_a_locked_removable_disk_shows_is_not_taken_for_it() {
    requires!("mkfs.vfat");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 40M {0}; mkfs.vfat -F 32 {0}", disk.display()));
    let mut bytes = std::fs::read(&disk).unwrap();
    assert_eq!(identity::ours(&disk).unwrap().0, "vfat");
    bytes[3..11].copy_from_slice(b"MSWIN4.1");
    bytes[424..440].copy_from_slice(&WHOLE);
    std::fs::write(&disk, bytes).unwrap();
    assert_eq!(identity::ours(&disk).unwrap().0, "BitLocker");
}

#[test]
fn vista_s_volume_is_read_as_dislocker_and_libbde_do() {
    requires!("root", "fuse", "bdemount", "dislocker-file");
    let locked = Locked::new(Maker::Vista, 0x8000, 512);
    let (plain, volume) = (plain_of(&locked), locked.lock());
    let (theirs, of_libbde) = (dislocker(&volume, "-c"), libbde(&volume));
    // Dislocker 0.7 leaves the metadata's place in the boot sector where the MFT's copy is named; libbde has it, and leaves
    // out the last sector.
    assert!(plain[512..] == theirs[512..]);
    assert!(plain[..SIZE - 512] == of_libbde);
    assert!(plain == locked.shown());
    // The boot sector's copy at the end is of Vista's making on some volumes: then it is mended, too.
    let mut other = volume;
    other.copy_within(..512, SIZE - 512);
    let shown = [&plain[..SIZE - 512], &plain[..512]].concat();
    assert!(opened(&look(&[other])).unwrap() == shown);
}

/// What Windows has not come to yet is as it is stored.
#[test]
fn an_encryption_that_was_paused_is_read_as_libbde_does() {
    requires!("root", "fuse", "bdemount");
    // In front of the volume's front, and behind it.
    for encrypted in [300 * KIB, 640 * KIB] {
        let locked = Locked { state: [5, 4], encrypted, ..Locked::new(Maker::Seven, 0x8004, 512) };
        let (plain, theirs) = (plain_of(&locked), libbde(&locked.lock()));
        assert!(plain[..theirs.len()] == theirs, "{encrypted}: not as libbde");
        assert!(plain == locked.shown(), "{encrypted}");
    }
}

#[test]
fn a_volume_is_opened_by_each_of_its_keys_and_by_no_other() {
    requires!("dislocker-file");
    let password = Sha256::digest(Sha256::digest(utf16(PASSWORD)));
    let parts: Vec<u8> = RECOVERY
        .split('-')
        .flat_map(|group| ((group.parse::<u32>().unwrap() / 11) as u16).to_le_bytes())
        .collect();
    let startup = protector(4, 0x200, &[seal(0, &STARTUP, 4, &key(0x2003, &MASTER))]);
    let protectors = vec![
        protector(6, 0x100, &[entry(0, 6, &[9; 100])]),
        stretched(2, 0x2000, &password),
        stretched(3, 0x800, &Sha256::digest(&parts)),
        startup,
    ];
    let locked = Locked { protectors, ..Locked::new(Maker::Seven, 0x8004, 512) };
    let (volume, shown) = (locked.lock(), locked.shown());
    let with = |given: &[u8]| opened(&look_with(std::slice::from_ref(&volume), &keys(given)));
    for how in [format!("-u'{PASSWORD}'"), format!("-p{RECOVERY}"), "-f stick.BEK".to_owned()] {
        assert!(dislocker(&volume, &how) == shown, "dislocker {how}");
    }
    for given in [format!("{PASSWORD}\r\n").as_bytes(), &utf16(RECOVERY), &key_file(), &MASTER] {
        assert!(with(given).unwrap() == shown, "{}", String::from_utf8_lossy(given));
    }
    let said = opened(&look(std::slice::from_ref(&volume))).unwrap_err();
    assert!(said[0].contains("'HOST C: 1/2/2026'") && said[0].contains(GUID), "{said:?}");
    assert!(
        said[0].contains("TPM, password, recovery password 03030303-0303-0303-0303-030303030303"),
        "{said:?}"
    );
    assert!(with(b"bread and butter").unwrap_err()[0].contains("no key given fits"));
    let mistyped = with(RECOVERY.replace("720885", "720884").as_bytes()).unwrap_err();
    assert!(mistyped[0].contains("group 3") && !mistyped[0].contains("720884"), "{mistyped:?}");
    // A key that is meant for the volume that is opened.
    let mut keys = Keys::default();
    keys.add(format!("bitlk-{GUID}"), Secret::new(key_file()));
    assert!(opened(&look_with(std::slice::from_ref(&volume), &keys)).unwrap() == shown);
}

#[test]
fn a_damaged_copy_of_the_metadata_is_passed_over() {
    for maker in [Maker::Vista, Maker::Seven] {
        let locked = Locked::new(maker, 0x8002, 512);
        let mut volume = locked.lock();
        for (number, at) in COPIES.into_iter().enumerate() {
            let machine = look(std::slice::from_ref(&volume));
            assert!(opened(&machine).unwrap() == locked.shown());
            let said = &machine.disks[0].warnings;
            assert_eq!(said.len(), number, "{said:?}");
            assert!(said.iter().all(|line| line.contains("another copy")), "{said:?}");
            volume[at + 130] ^= 1;
        }
        assert!(opened(&look(&[volume])).unwrap_err()[0].contains("its sum is"));
    }
}

#[test]
fn metadata_that_something_else_has_changed_are_said() {
    let locked = Locked::new(Maker::Seven, 0x8004, 512);
    let mut volume = locked.lock();
    let before = locked.metadata();
    let size = usize::from(u16::from_le_bytes([before[8], before[9]])) * 16;
    for at in COPIES {
        // A letter of the description, and the sum over it; the sealed hash stays.
        volume[at + 120] ^= 1;
        let sum = imgmount::checksum::crc32(&volume[at..at + size]);
        volume[at + size + 4..at + size + 8].copy_from_slice(&sum.to_le_bytes());
    }
    let machine = look(&[volume]);
    assert!(opened(&machine).unwrap() == locked.shown());
    assert!(machine.disks[0].warnings[0].contains("not those that BitLocker sealed"));
}

#[test]
fn what_cannot_be_read_is_refused_by_its_name() {
    let whole = Locked::new(Maker::Seven, 0x8004, 512);
    let said = |locked: &Locked| opened(&look(&[locked.lock()])).unwrap_err().concat();
    let converting = Locked { state: [2, 1], encrypted: 640 * KIB, ..whole.clone() };
    assert!(said(&converting).contains("in the middle of being decrypted (at byte 655360)"));
    assert!(said(&Locked { on_write: true, ..whole.clone() }).contains("encrypt on write"));
    assert!(said(&Locked { state: [3, 4], ..whole.clone() }).contains("in state 3"));
    assert!(said(&Locked { method: 0x8009, ..whole.clone() }).contains("the encryption method 0x8009"));
    let mut unknown = whole.lock();
    unknown[165] ^= 1;
    assert!(
        opened(&look(&[unknown])).unwrap_err()[0].contains("a BitLocker volume with the identifier 4967d63b")
    );
}

#[test]
fn a_volume_whose_end_was_cut_off_is_read_up_to_there() {
    let locked = Locked::new(Maker::Seven, 0x8004, 512);
    let mut volume = locked.lock();
    volume.truncate(900 * KIB + 100);
    let machine = look(&[volume]);
    assert!(opened(&machine).unwrap() == locked.shown()[..900 * KIB]);
    assert!(machine.disks[0].warnings[0].contains("its end was cut off"), "{:?}", machine.disks[0].warnings);
}

#[test]
fn file_systems_in_the_clear_are_none_of_it() {
    requires!("mkntfs", "mkfs.vfat");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    for make in ["mkntfs -q -F", "mkfs.vfat", "mkfs.vfat -F 32"] {
        common::sh(&format!("rm -f {0}; truncate -s 40M {0}; {make} {0} 2> /dev/null", disk.display()));
        let machine = look(&[std::fs::read(&disk).unwrap()]);
        assert_eq!((all(&machine).len(), machine.disks[0].warnings.len()), (1, 0), "{make}");
        assert_eq!(all(&machine)[0].claimed_by, None);
    }
}

/// Whatever the metadata say, with their sum made right: no panic, and no more work than for sound ones.
#[test]
fn damaged_metadata_cause_neither_panic_nor_hang() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for maker in [Maker::Vista, Maker::Seven, Maker::ToGo] {
        let locked = Locked::new(maker, 0x8004, 512);
        let (volume, metadata) = (locked.lock(), locked.metadata());
        let word = usize::from(u16::from_le_bytes([metadata[8], metadata[9]]));
        let size = if maker == Maker::Vista { word } else { word * 16 };
        let (mut read, mut refused) = (0, 0);
        for _ in 0..150 {
            let mut volume = volume.clone();
            let mut block = metadata[..size].to_vec();
            for _ in 0..=random(3) {
                let at = random(size);
                block[at] = if random(2) == 0 { random(256) as u8 } else { [0, 1, 0x7f, 0xff][random(4)] };
            }
            let block = validated(&block);
            COPIES.iter().for_each(|at| volume[*at..*at + block.len()].copy_from_slice(&block));
            if random(4) == 0 {
                volume[random(512)] = random(256) as u8;
            }
            let machine = look(&[volume]);
            for opened in all(&machine).iter().filter(|volume| volume.id.starts_with("bitlk-")) {
                let mut buf = vec![0; opened.source.len().min(SIZE as u64) as usize];
                opened.source.read_at(&mut buf, 0).unwrap();
                read += 1;
            }
            refused += machine.disks[0].warnings.len();
        }
        assert!(read > 20 && refused > 20, "{read} {refused}");
    }
}

/// Samples that Windows made, with the sums of their contents that cryptsetup's test has.
#[test]
fn samples_of_windows_have_the_sums_that_cryptsetup_expects() {
    requires!("corpus", "xz");
    let dir = common::tempdir();
    let archive = common::corpus().unwrap().join("fs/cryptsetup/bitlk-images.tar.xz");
    // Each has something that no other here has: the rest are like these.
    let samples = [
        ("aes-cbc-256", "RP="),
        ("aes-cbc-elephant-128", "RP="),
        ("aes-xts-128-unicode", "PW="),
        ("aes-xts-128-crc", "RP="),
        ("aes-xts-128-4k", "PW="),
        ("aes-xts-128-startup-key-win11", "SK_VMK_GUID="),
        ("aes-xts-128-clearkey-only", "PW="),
        ("togo-aes-xts-128", "PW="),
    ];
    common::sh(&format!("tar -C {} -xJSf {} --no-same-owner", dir.path().display(), archive.display()));
    let dir = dir.path().join("bitlk-images");
    let list = std::fs::read_to_string(dir.join("images.conf")).unwrap();
    for (name, key) in samples {
        let (_, facts) = list.split_once(&format!("[bitlk-{name}]\n")).unwrap();
        let facts = facts.split("\n\n").next().unwrap();
        let fact = |key: &str| facts.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        let given = match key {
            "SK_VMK_GUID=" => std::fs::read(dir.join(format!("{}.BEK", fact(key).to_uppercase()))).unwrap(),
            key => fact(key).as_bytes().to_vec(),
        };
        let machine =
            look_with(&[std::fs::read(dir.join(format!("bitlk-{name}.img"))).unwrap()], &keys(&given));
        let opened = volume(&machine, &format!("bitlk-{}", fact("GUID=")));
        assert_eq!(hex(&Sha256::digest(bytes(opened))), fact("SHA256SUM="), "{name}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
