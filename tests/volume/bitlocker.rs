//! BitLocker volumes. They are locked here as the specification of libbde and Ferguson's paper say, and what we read of them
//! must be what dislocker or libbde's own program reads; cryptsetup's samples, which Windows made, have their sums.

use crate::lvm2::{all, bytes, look, look_with, volume};
use crate::{common, identity, requires};
use imgmount::keys::{Key, Keys, Secret};
use imgmount::volume::Machine;
use sha2::{Digest as _, Sha256};

#[path = "bitlocker/lock.rs"]
mod lock;

use lock::{
    COPIES, GUID, KIB, Locked, MASTER, Maker, PASSWORD, RECOVERY, SIZE, STARTUP, WHOLE, entry, key, key_file,
    protector, seal, stretched, utf16, validated,
};

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
    let misfit = with(b"bread and butter").unwrap_err();
    assert!(misfit[0].contains("no key given fits") && misfit[0].contains("opened by: TPM"), "{misfit:?}");
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
