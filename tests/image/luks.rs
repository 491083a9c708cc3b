//! LUKS beyond the bytes, which the common tests compare: damaged, hostile and unread headers, and samples of others.

use super::*;

/// The folder of `tests/make/formats/crypt.sh`.
fn locked() -> PathBuf {
    set("crypt")
}

/// As the script has it.
const KEY: &str = "a key";
/// Byte of the sum in a binary header of LUKS2, its length, and the size of header and JSON together.
const SUM: usize = 0x1c0;
const COPY: usize = 16384;

/// Opens a locked image in memory with a key.
fn unlock(bytes: Vec<u8>, key: &str) -> Result<Opened> {
    let mapper = Mapper::new(Arc::new(Cache::new(1 << 20)));
    let mut keys = Keys::default();
    keys.add("disk", Secret::new(key.as_bytes().to_vec()));
    unlock_bytes(bytes, Some("luks"), &mapper, &keys)
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(locked().join(name)).unwrap()
}

/// Writes the checksum of the first copy anew, and spoils the second one.
fn seal(bytes: &mut [u8]) {
    bytes[SUM..SUM + 64].fill(0);
    let sum = Sha256::digest(&bytes[..COPY]);
    bytes[SUM..SUM + 32].copy_from_slice(&sum);
    bytes[COPY] = 0;
}

/// The LUKS2 fixture with `from` in its JSON replaced.
fn with_json(from: &str, to: &str) -> Vec<u8> {
    let mut bytes = bytes_of("v2.luks");
    let area = &bytes[4096..COPY];
    let end = area.iter().position(|byte| *byte == 0).unwrap();
    let json = String::from_utf8(area[..end].to_vec()).unwrap();
    assert!(json.contains(from), "{json}");
    let json = json.replacen(from, to, 1);
    bytes[4096..COPY].fill(0);
    bytes[4096..4096 + json.len()].copy_from_slice(json.as_bytes());
    seal(&mut bytes);
    bytes
}

#[test]
fn what_luks2_has_that_is_not_read_is_refused_by_its_name() {
    requires!("cryptsetup", "qemu-img", "openssl", "/usr/bin/python3");
    let cases = [
        (
            "\"config\":{",
            "\"config\":{\"requirements\":{\"mandatory\":[\"online-reencrypt-v2\"]},",
            "requirement 'online-reencrypt-v2'",
        ),
        ("\"sector_size\":512", "\"sector_size\":512,\"integrity\":{\"type\":\"hmac(sha256)\"}", "integrity"),
        ("\"type\":\"crypt\"", "\"type\":\"hw-opal-crypt\"", "segment type 'hw-opal-crypt'"),
        ("\"type\":\"luks2\"", "\"type\":\"reencrypt\"", "keyslot type 'reencrypt'"),
        ("\"type\":\"luks1\"", "\"type\":\"luks9\"", "af type 'luks9'"),
        (
            "\"segments\":{\"0\"",
            "\"segments\":{\"1\":{\"type\":\"linear\",\"offset\":\"0\",\"size\":\"512\"},\"0\"",
            "2 segments",
        ),
        ("aes-xts-plain64", "camellia-xts-plain64", "camellia"),
    ];
    for (from, to, named) in cases {
        let error = unlock(with_json(from, to), KEY).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{named}: {error:?}");
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
    assert!(unlock(with_json("aes", "aes"), KEY).is_ok());
}

#[test]
fn what_contradicts_the_luks2_specification_is_corrupt() {
    requires!("cryptsetup", "qemu-img", "openssl", "/usr/bin/python3");
    let cases = [
        ("\"sector_size\":512", "\"sector_size\":500"),
        ("\"digests\":{", "\"digests\":["),
        ("\"iv_tweak\":\"0\"", "\"iv_tweak\":\"zero\""),
        ("\"size\":\"dynamic\"", "\"size\":\"99999999999\""),
        ("\"segments\":[\"0\"]", "\"segments\":[\"7\"]"),
    ];
    for (from, to) in cases {
        let error = unlock(with_json(from, to), KEY).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{to}: {error:?}");
    }
    // Without a digest everything would fit.
    let json = with_json("\"digest\":\"", "\"digest\":\"\",\"was\":\"");
    assert_eq!(unlock(json, KEY).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_header_that_asks_for_the_impossible_is_told_what_it_asks_for() {
    requires!("cryptsetup", "qemu-img", "openssl", "/usr/bin/python3");
    let mut bytes = bytes_of("xts128.luks");
    bytes[0xd0 + 4..0xd0 + 8].fill(0xff);
    let start = spent();
    let error = unlock(bytes, KEY).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(
        error.to_string().contains("key slot 0: the header asks for 4294967295 iterations of PBKDF2"),
        "{error}"
    );
    let mut bytes = bytes_of("xts128.luks");
    bytes[0xd0 + 0x2c..0xd0 + 0x30].fill(0xff);
    let error = unlock(bytes, KEY).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("4294967295 stripes"), "{error}");
    assert!(spent() - start < Duration::from_secs(1));
}

#[test]
fn both_copies_of_a_luks2_header_damaged_is_corrupt() {
    requires!("cryptsetup", "qemu-img", "openssl", "/usr/bin/python3");
    let mut bytes = bytes_of("first-damaged.luks");
    bytes[COPY + 5000] ^= 1;
    let error = unlock(bytes, KEY).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("checksum"), "{error}");
    // The magic itself is gone: by its name the format still finds the second copy.
    let mut bytes = bytes_of("v2.luks");
    bytes[..6].fill(0);
    let image = unlock(bytes, KEY).unwrap();
    assert!(image.warnings[0].contains("first copy"), "{:?}", image.warnings);
}

#[test]
fn the_newer_copy_of_a_luks2_header_counts() {
    requires!("cryptsetup", "qemu-img", "openssl", "/usr/bin/python3");
    // The slot was added after the second copy's time: so the first copy, which has it, must count.
    let (old, new) = (bytes_of("v2.luks"), bytes_of("argon2id.luks"));
    let mut mixed = new;
    mixed[COPY..2 * COPY].copy_from_slice(&old[COPY..2 * COPY]);
    assert!(unlock(mixed.clone(), "argon2id").is_ok());
    // And the other way round: an old first copy loses against a newer second one.
    mixed[..COPY].copy_from_slice(&old[..COPY]);
    mixed[COPY..2 * COPY].copy_from_slice(&bytes_of("argon2id.luks")[COPY..2 * COPY]);
    assert!(unlock(mixed, "argon2id").is_ok());
}

#[test]
fn facts_tell_the_encryption() {
    requires!("cryptsetup", "qemu-img", "openssl", "/usr/bin/python3");
    let image = open_with(&locked().join("sectors.luks"), &locked(), KEY, None).unwrap();
    let fact =
        |key: &str| image.facts.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str());
    let uuid = common::sh(&format!("cryptsetup luksUUID '{}'", locked().join("sectors.luks").display()));
    assert_eq!(image.subformat.as_deref(), Some("LUKS2"));
    assert_eq!(fact("encryption"), Some("LUKS2, aes-xts-plain64"));
    assert_eq!((fact("UUID"), fact("label")), (Some(uuid.trim()), Some("a label")));
    assert_eq!((fact("sector size"), fact("payload offset")), (Some("4096"), Some("1048576")));
}

#[test]
fn mutants_of_headers_neither_panic_nor_hang() {
    requires!("cryptsetup", "qemu-img", "openssl", "/usr/bin/python3");
    let mut seeded = Seeded(0x10c5);
    for name in ["xts128.luks", "plain.luks", "v2.luks", "argon2id.luks"] {
        let seed = bytes_of(name);
        let second = seed[7] == 2;
        let key = if name == "argon2id.luks" { "argon2id" } else { KEY };
        let json = 4096 + seed[4096..].iter().position(|byte| *byte == 0).unwrap();
        for round in 0..100 {
            let mut bytes = seed.clone();
            for _ in 0..=seeded.below(6) {
                let at = match second {
                    true if seeded.below(3) > 0 => 4096 + seeded.below((json - 4096) as u64),
                    true => seeded.below(512),
                    false => seeded.below(592),
                } as usize;
                let value = [0, 1, 0x7f, 0xff, b'9', b'}', seeded.below(256) as u8][seeded.below(7) as usize];
                bytes[at] = value;
            }
            if second {
                seal(&mut bytes);
            } else {
                // How slow a header may make us is a test of its own.
                for at in (0xd0..592).step_by(48).map(|slot| slot + 4).chain([0xa4]) {
                    bytes[at..at + 4].copy_from_slice(&1000_u32.to_be_bytes());
                }
            }
            if seeded.below(8) == 0 {
                bytes.truncate(seeded.below(1 << 20) as usize);
            }
            let start = spent();
            let told = format!("{name}, round {round}");
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                if let Ok(image) = unlock(bytes, key) {
                    use_disk(&image.disk, &mut Seeded(round + 1));
                }
            }));
            assert!(done.is_ok(), "{told}: panicked");
            assert!(spent() - start < Duration::from_secs(1), "{told}: {:?}", spent() - start);
        }
    }
}

#[test]
fn a_key_of_the_old_aes_is_not_refused_and_that_is_said() {
    requires!("cryptsetup", "qemu-img", "openssl", "/usr/bin/python3");
    for name in ["aes-1.1.qcow2", "aes.qcow"] {
        let image = open_with(&locked().join(name), &locked(), "wrong", None).unwrap();
        assert!(image.warnings[0].contains("no key is refused"), "{name}: {:?}", image.warnings);
        let error = open(&locked().join(name), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encrypted);
        assert!(error.help_text().unwrap().contains("--key disk:file:FILE"), "{name}: {error:?}");
    }
}

#[test]
fn a_qcow2_with_luks_says_so_without_a_key() {
    requires!("cryptsetup", "qemu-img", "openssl", "/usr/bin/python3");
    let error = open(&locked().join("luks.qcow2"), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encrypted);
    assert!(error.to_string().contains("is locked (LUKS1, aes-xts-plain64, 1 key slot"), "{error}");
    // Its header's place is a number of the image like any other.
    let mut bytes = bytes_of("luks.qcow2");
    let at = bytes.windows(4).position(|word| word == 0x0537_be77_u32.to_be_bytes()).unwrap();
    bytes[at + 8..at + 16].fill(0xff);
    let (mapper, mut keys) = (Mapper::new(Arc::new(Cache::new(1 << 20))), Keys::default());
    keys.add("*", Secret::new(KEY.as_bytes().to_vec()));
    assert_eq!(unlock_bytes(bytes, None, &mapper, &keys).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// dfvfs' own tests open it with this passphrase (`tests/vfs/luksde_file_system.py`); qemu-img reads it, too.
#[test]
fn a_sample_of_others_is_what_qemu_reads_of_it() {
    requires!("corpus", "qemu-img");
    let path = common::corpus().unwrap().join("formats/dfvfs/luks1.raw");
    let dir = common::tempdir();
    let reference = dir.path().join("plain");
    common::sh(&format!(
        "qemu-img convert --object secret,id=s,data=luksde-TEST --image-opts driver=luks,key-secret=s,file.filename='{}' -O raw '{}'",
        path.display(),
        reference.display()
    ));
    let expected = common::sh(&format!("sha256sum < '{}' | cut -c1-64", reference.display()));
    let image = open_with(&path, dir.path(), "luksde-TEST", None).unwrap();
    assert_eq!(image.disk.len(), 8_388_608);
    assert_eq!(sha256(&image.disk), expected.trim());
    // Its payload begins where the file ends.
    let error = open(&common::corpus().unwrap().join("formats/dfvfs/luks2.raw"), &[]).unwrap_err();
    assert!(error.to_string().contains("without its payload"), "{error}");
}
