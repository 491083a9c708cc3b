//! Split images, evidence files, Apple's images and Parallels bundles: what they say of themselves, segments that are missing
//! or strange, damage, and hostile tables.

use super::*;
use std::fs;

fn evidence() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| set("evidence"))
}

fn disk() -> Vec<u8> {
    fs::read(evidence().join("s.raw")).unwrap()
}

/// Files of the set in a folder of their own.
fn copied(names: &[&str]) -> tempfile::TempDir {
    let dir = common::tempdir();
    for name in names {
        fs::copy(evidence().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn fact(image: &Opened, name: &str) -> Option<String> {
    image.facts.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1, 0);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    b << 16 | a
}

/// Sections of an E01: name, start, next.
fn sections(bytes: &[u8]) -> Vec<(String, usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 13);
    loop {
        let name = String::from_utf8(bytes[at..at + 16].to_vec()).unwrap().trim_end_matches('\0').to_owned();
        let next = u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap()) as usize;
        found.push((name, at, next));
        if next <= at || next + 76 > bytes.len() {
            return found;
        }
        at = next;
    }
}

fn section(bytes: &[u8], name: &str) -> usize {
    sections(bytes).into_iter().find(|(known, ..)| known == name).unwrap().1
}

/// Writes a descriptor's checksum anew.
fn seal_section(bytes: &mut [u8], at: usize) {
    let sum = adler32(&bytes[at..at + 72]);
    bytes[at + 72..at + 76].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn more_segments_than_descriptors_are_read() {
    requires!("bash");
    let dir = common::tempdir();
    let plain: Vec<u8> = (0..700_u32).flat_map(|n| [n.to_le_bytes(); 128].concat()).collect();
    for (number, part) in plain.chunks(512).enumerate() {
        fs::write(dir.path().join(format!("x.{:03}", number + 1)), part).unwrap();
    }
    let first = dir.path().join("x.001");
    let run = |command: &str| common::sh(&format!("ulimit -n 160; {command}"));
    let sum = run(&format!("'{}' hash '{}' | cut -c1-64", common::IMGMOUNT, first.display()));
    let mut expected = Sha256::new();
    expected.update(&plain);
    assert_eq!(sum.trim(), hex(expected));
    // The worker of a server opens them by the directory that it was given.
    if common::lacks("nbdcopy").is_none() {
        let copy = dir.path().join("copy");
        run(&format!(
            "'{}' serve '{}' --run 'nbdcopy \"$uri\" {}'",
            common::IMGMOUNT,
            first.display(),
            copy.display()
        ));
        assert!(fs::read(copy).unwrap() == plain);
    }
}

#[test]
fn a_segment_that_becomes_another_file_is_changed() {
    let dir = common::tempdir();
    for number in 1..=200_u8 {
        fs::write(dir.path().join(format!("x.{number:03}")), [number; 512]).unwrap();
    }
    let image = open(&dir.path().join("x.001"), &[]).unwrap();
    assert_eq!(fact(&image, "segments").as_deref(), Some("200: x.001 to x.200"));
    assert!(read(&image.disk, 0, 200 * 512).unwrap().chunks(512).zip(1..).all(|(part, n)| part == [n; 512]));
    fs::remove_file(dir.path().join("x.100")).unwrap();
    fs::write(dir.path().join("x.100"), [1; 512]).unwrap();
    assert_eq!(read(&image.disk, 99 * 512, 512).unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(read(&image.disk, 98 * 512, 512).unwrap(), [99; 512]);
}

#[test]
fn segments_of_different_sizes_are_said() {
    let dir = common::tempdir();
    for (name, len) in [("x.001", 1024), ("x.002", 512), ("x.003", 1024), ("y.001", 1024), ("y.002", 512)] {
        fs::write(dir.path().join(name), vec![0; len]).unwrap();
    }
    let warnings = |name: &str| open(&dir.path().join(name), &[]).unwrap().warnings.join("");
    assert!(warnings("x.001").contains("differ in size"));
    assert_eq!(warnings("y.001"), "");
    assert_eq!(open_as(&dir.path().join("x.002"), &[], Some("raw")).unwrap().disk.len(), 512);
}

#[test]
fn a_segment_alone_in_another_file_is_opened_alone() {
    requires!("tar", "gzip");
    let dir = common::tempdir();
    common::sh(&format!(
        "cd '{}' && truncate -s 1024 x.001 x.002 && gzip -k x.001 && \
         tar -cf one.tar x.001 && mkdir d && cp x.00? d && tar -cf two.tar d && ln -s x.002 l.002 && cp x.001 l.001",
        dir.path().display()
    ));
    let size = |name: &str| open(&dir.path().join(name), &[]).map(|image| image.disk.len());
    assert_eq!((size("x.001.gz").unwrap(), size("one.tar").unwrap()), (1024, 1024));
    assert_eq!((size("x.001").unwrap(), size("two.tar").unwrap()), (2048, 2048));
    assert_eq!(size("l.001").unwrap_err().kind(), ErrorKind::ExternalRef);
}

#[test]
fn a_split_image_keeps_the_name_of_what_it_is() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    let image = open(&evidence().join("q.qcow2.001"), &[]).unwrap();
    assert_eq!(image.format, "split");
    assert!(image.subformat.as_deref().unwrap().starts_with("qcow2"), "{:?}", image.subformat);
    assert_eq!(fact(&image, "cluster size").as_deref(), Some("65536"));
}

#[test]
fn an_evidence_file_tells_its_case_and_its_sums() {
    requires!("qemu-img", "qemu-io", "ewfacquire", "md5sum", "sha1sum");
    let image = open(&evidence().join("best.E01"), &[]).unwrap();
    for (name, value) in [
        ("case number", "case-7"),
        ("evidence number", "ev-3"),
        ("examiner", "A. Examiner"),
        ("description", "a disk"),
        ("notes", "notes"),
        ("compression", "best"),
        ("chunk size", "32768"),
    ] {
        assert_eq!(fact(&image, name).as_deref(), Some(value), "{name}");
    }
    let sum = |tool: &str| {
        let line = common::sh(&format!("{tool} < '{}'", evidence().join("s.raw").display()));
        line.split(' ').next().unwrap().to_owned()
    };
    let stated: Vec<(&str, &str)> =
        image.sums.iter().map(|sum| (sum.algorithm, sum.stated.as_str())).collect();
    assert_eq!(stated, [("md5", sum("md5sum").as_str()), ("sha1", sum("sha1sum").as_str())]);
    assert!(image.sums.iter().all(|sum| sum.bytes.len() == image.disk.len()));
}

#[test]
fn stored_sums_are_verified() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    let verify = |path: &Path| common::imgmount(["hash".as_ref(), "--verify".as_ref(), path.as_os_str()]);
    let sound = verify(&evidence().join("best.E01"));
    assert!(sound.status.success(), "{}{}", common::stdout(&sound), common::stderr(&sound));
    assert_eq!(common::stdout(&sound).matches("OK").count(), 2, "{}", common::stdout(&sound));
    let dir = copied(&["best.E01"]);
    let path = dir.path().join("best.E01");
    let mut bytes = fs::read(&path).unwrap();
    let at = section(&bytes, "hash") + 76;
    bytes[at] ^= 1;
    let seal = adler32(&bytes[at..at + 32]);
    bytes[at + 32..at + 36].copy_from_slice(&seal.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let wrong = verify(&path);
    assert_eq!(wrong.status.code(), Some(1), "{}{}", common::stdout(&wrong), common::stderr(&wrong));
}

#[test]
fn a_damaged_chunk_is_an_error_and_the_others_are_right() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    for name in ["none.E01", "best.E01", "smart.s01"] {
        let dir = copied(&[name]);
        let path = dir.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        // In the middle of what the chunks take, whichever section that is.
        let at = bytes.len() / 2;
        bytes[at] ^= 0x40;
        fs::write(&path, bytes).unwrap();
        let (image, plain) = (open(&path, &[]).unwrap(), disk());
        let mut damaged = 0;
        for (index, expected) in plain.chunks(32768).enumerate() {
            match read(&image.disk, index as u64 * 32768, expected.len()) {
                Ok(bytes) => assert!(bytes == expected, "{name}: chunk {index}"),
                Err(error) => {
                    damaged += 1;
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                    assert!(error.to_string().contains(&format!("chunk {index}")), "{error}");
                }
            }
        }
        assert_eq!(damaged, 1, "{name}");
    }
}

#[test]
fn readers_at_once_get_their_own_bytes() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    let plain = disk();
    for name in ["parts.E01", "best.E01", "all.dmg"] {
        let image = open(&evidence().join(name), &[]).unwrap();
        std::thread::scope(|scope| {
            for seed in 1..=4 {
                let (disk, plain) = (&image.disk, &plain);
                scope.spawn(move || {
                    let mut seeded = Seeded(seed * 7919);
                    for _ in 0..150 {
                        let at = seeded.below(disk.len());
                        let len = seeded.below(100_000).min(disk.len() - at) as usize;
                        assert!(
                            read(disk, at, len).unwrap() == plain[at as usize..][..len],
                            "{name}: {at:#x}"
                        );
                    }
                });
            }
        });
    }
}

#[test]
fn what_a_missing_segment_holds_is_an_error_that_names_it() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    let dir = copied(&["parts.E01", "parts.E02", "parts.E03"]);
    let image = open(&dir.path().join("parts.E01"), &[]).unwrap();
    assert!(image.warnings.join("").contains("'parts.E04' is missing"), "{:?}", image.warnings);
    assert!(read(&image.disk, 2 << 20, 65536).unwrap() == disk()[2 << 20..][..65536]);
    let error = read(&image.disk, 4 << 20, 512).unwrap_err();
    assert!(error.to_string().contains("'parts.E04'"), "{error}");
    let dir = copied(&["parts.E01", "parts.E02", "parts.E04"]);
    let error = open(&dir.path().join("parts.E01"), &[]).unwrap_err();
    assert!(error.to_string().contains("'parts.E03' is missing, but 'parts.E04' is there"), "{error}");
}

#[test]
fn segments_of_another_number_or_set_are_refused() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    let dir = copied(&["parts.E01"]);
    fs::copy(evidence().join("parts.E03"), dir.path().join("parts.E02")).unwrap();
    let error = open(&dir.path().join("parts.E01"), &[]).unwrap_err();
    assert!(error.to_string().contains("is segment 3, its name is that of segment 2"), "{error}");
    // The set's identifier, that this version of libewf leaves empty, in what the segments say of the volume.
    let dir = copied(&["parts.E01", "parts.E02"]);
    for (name, kind, set) in [("parts.E01", "volume", 1), ("parts.E02", "data", 2)] {
        let path = dir.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let at = section(&bytes, kind) + 76;
        bytes[at + 64..at + 80].fill(set);
        let sum = adler32(&bytes[at..at + 1048]);
        put(&mut bytes, at + 1048, &sum.to_le_bytes());
        fs::write(&path, bytes).unwrap();
    }
    let error = open(&dir.path().join("parts.E01"), &[]).unwrap_err();
    assert!(error.to_string().contains("belongs to another set"), "{error}");
    let error = open(&evidence().join("parts.E02"), &[]).unwrap_err();
    assert!(error.to_string().contains("is segment 2 of an EWF"), "{error}");
}

#[test]
fn an_encrypted_evidence_file_is_refused_when_it_is_opened() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    let dir = copied(&["best.E01"]);
    let path = dir.path().join("best.E01");
    let mut bytes = fs::read(&path).unwrap();
    bytes[13..13 + 16].copy_from_slice(b"x_encryption\0\0\0\0");
    seal_section(&mut bytes, 13);
    fs::write(&path, bytes).unwrap();
    assert_eq!(open(&path, &[]).unwrap_err().kind(), ErrorKind::Encrypted);
    fs::write(&path, [b"ADCRYPT\0".as_slice(), &[0; 8192]].concat()).unwrap();
    assert_eq!(open(&path, &[]).unwrap_err().kind(), ErrorKind::Encrypted);
}

/// A section of sectors that could not be read, put in front of the stored sums; libewf's ewfinfo reads it, too.
#[test]
fn sectors_that_the_acquisition_could_not_read_are_said() {
    requires!("qemu-img", "qemu-io", "ewfacquire", "ewfinfo");
    let dir = copied(&["best.E01"]);
    let path = dir.path().join("best.E01");
    let mut bytes = fs::read(&path).unwrap();
    let at = sections(&bytes).into_iter().find(|(name, ..)| name == "digest" || name == "hash").unwrap().1;
    let mut added = b"error2".to_vec();
    added.resize(76, 0);
    let mut header = vec![2, 0, 0, 0];
    header.resize(516, 0);
    header.extend(adler32(&header).to_le_bytes());
    let entries: Vec<u8> = [100_u32, 8, 5000, 1].iter().flat_map(|number| number.to_le_bytes()).collect();
    header.extend(&entries);
    header.extend(adler32(&entries).to_le_bytes());
    added.extend(header);
    let len = added.len();
    let behind: Vec<usize> = sections(&bytes)
        .into_iter()
        .filter(|(_, start, _)| *start >= at)
        .map(|(_, start, _)| start)
        .collect();
    added[16..24].copy_from_slice(&((at + len) as u64).to_le_bytes());
    added[24..32].copy_from_slice(&(len as u64).to_le_bytes());
    seal_section(&mut added, 0);
    for start in behind {
        let next = u64::from_le_bytes(bytes[start + 16..start + 24].try_into().unwrap()) + len as u64;
        bytes[start + 16..start + 24].copy_from_slice(&next.to_le_bytes());
        seal_section(&mut bytes, start);
    }
    bytes.splice(at..at, added);
    fs::write(&path, bytes).unwrap();
    let theirs = common::sh(&format!("ewfinfo -e '{}'", path.display()));
    assert!(theirs.contains("100 - 107 number: 8"), "{theirs}");
    let image = open(&path, &[]).unwrap();
    let warning = image.warnings.join("");
    assert!(
        warning.contains("9 sectors could not be read") && warning.contains("100 to 107, 5000"),
        "{warning}"
    );
    assert_eq!(image.sums.len(), 2);
}

#[test]
fn a_bundle_may_not_name_a_file_elsewhere() {
    let dir = common::tempdir();
    for name in ["/etc/shadow", "../x.hds", "sub/x.hds", "x.conf"] {
        let image = format!("<Image><GUID>{{a}}</GUID><Type>Plain</Type><File>{name}</File></Image>");
        let text = format!(
            "<Parallels_disk_image><StorageData><Storage><Start>0</Start><End>8</End>{image}</Storage></StorageData></Parallels_disk_image>"
        );
        fs::write(dir.path().join("DiskDescriptor.xml"), text).unwrap();
        let error = open(dir.path(), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ExternalRef, "{name}: {error}");
    }
}

#[test]
fn a_bundles_layers_are_its_images() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    let image = open(&evidence().join("snap.hdd"), &[]).unwrap();
    let names: Vec<&str> = image.layers.iter().map(|layer| layer.name.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["top.hds", "old.hds"]);
    assert!(read(&image.layers[1].disk, 0, disk().len()).unwrap() == disk());
}

#[test]
fn a_parallels_image_in_use_is_said() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    let warnings = |name: &str| open(&evidence().join(name), &[]).unwrap().warnings.join("");
    assert!(warnings("inuse.hds").contains("in use"));
    assert_eq!(warnings("small.hds"), "");
    let part = fs::read_dir(evidence().join("one.hdd")).unwrap().map(|entry| entry.unwrap().path());
    let part = part.into_iter().find(|path| path.extension().is_some_and(|end| end == "hds")).unwrap();
    assert!(open(&part, &[]).unwrap().warnings.join("").contains("one file of a bundle"));
}

#[test]
fn a_damaged_block_of_a_dmg_is_an_error() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    let plain = disk();
    for name in ["zlib.dmg", "bzip2.dmg", "lzma.dmg"] {
        let mut bytes = fs::read(evidence().join(name)).unwrap();
        for byte in &mut bytes[300_000..300_100] {
            *byte ^= 0xff;
        }
        // A cache that holds it all: each of its blocks is unpacked once.
        let image = open_bytes(bytes, None, &Mapper::new(Arc::new(Cache::new(64 << 20)))).unwrap();
        let mut damaged = 0;
        for (index, expected) in plain.chunks(4096).enumerate() {
            match read(&image.disk, index as u64 * 4096, expected.len()) {
                Ok(bytes) => assert!(bytes == expected, "{name}: {index}"),
                Err(error) => {
                    damaged += 1;
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                }
            }
        }
        assert!(damaged > 0, "{name}: nothing was missed");
    }
}

/// Changes numbers in the structures of an image, writes its checksums anew, and uses what comes out.
fn mutants(name: &str, rounds: u64, change: impl Fn(&mut Vec<u8>, &mut Seeded)) {
    let seed = fs::read(evidence().join(name)).unwrap();
    let mapper = Mapper::new(Arc::new(Cache::new(1 << 20)));
    let (mut seeded, mut opened) = (Seeded(0xfeed), 0);
    for round in 0..rounds {
        let mut bytes = seed.clone();
        change(&mut bytes, &mut seeded);
        if seeded.below(8) == 0 {
            bytes.truncate(seeded.below(seed.len() as u64) as usize);
        }
        let start = spent();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let image = open_bytes(bytes, None, &mapper);
            image.is_ok_and(|image| {
                use_disk(&image.disk, &mut Seeded(round + 1));
                true
            })
        }));
        opened += u32::from(done.unwrap_or_else(|_| panic!("{name}, round {round}: panicked")));
        assert!(spent() - start < Duration::from_secs(1), "{name}, round {round}: {:?}", spent() - start);
    }
    assert!(opened > 0, "{name}: none was sound enough to be read");
}

/// A number that is likely to be wrong in an interesting way.
fn strange(seeded: &mut Seeded, len: u64) -> u64 {
    let list = [
        0,
        1,
        2,
        75,
        76,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        u64::MAX,
        u64::MAX / 2,
        len,
        len - 1,
        len / 2,
    ];
    let number = list[seeded.below(list.len() as u64) as usize];
    if seeded.below(3) == 0 { seeded.below(len) } else { number }
}

fn put(bytes: &mut [u8], at: usize, number: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + number.len()) {
        place.copy_from_slice(number);
    }
}

#[test]
fn evidence_files_with_sealed_nonsense_neither_panic_nor_hang() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    for name in ["best.E01", "none.E01", "smart.s01", "encase1.E01", "small.E01"] {
        mutants(name, 150, |bytes, seeded| {
            let all = sections(bytes);
            for _ in 0..=seeded.below(3) {
                let (kind, at, _) = &all[seeded.below(all.len() as u64) as usize];
                let (at, len) = (*at, bytes.len() as u64);
                let number = strange(seeded, len);
                match (kind.as_str(), seeded.below(3)) {
                    ("volume" | "disk" | "data", 0 | 1) => {
                        let field = at + 76 + [4, 8, 12, 16, 20][seeded.below(5) as usize];
                        put(bytes, field, &(number as u32).to_le_bytes());
                        let end =
                            at + 76 + if kind == "volume" && name.starts_with("smart") { 90 } else { 1048 };
                        let sum = adler32(&bytes[at + 76..end]);
                        put(bytes, end, &sum.to_le_bytes());
                    }
                    ("table" | "table2", 0) => {
                        put(
                            bytes,
                            at + 76 + [0, 8, 12][seeded.below(3) as usize],
                            &(number as u32).to_le_bytes(),
                        );
                        let sum = adler32(&bytes[at + 76..at + 96]);
                        put(bytes, at + 96, &sum.to_le_bytes());
                    }
                    ("table" | "table2", 1) => {
                        let entry = at + 100 + 4 * seeded.below(200) as usize;
                        put(bytes, entry, &(number as u32).to_le_bytes());
                    }
                    ("error2" | "hash" | "digest", 0) => put(bytes, at + 76, &(number as u32).to_le_bytes()),
                    _ => {
                        put(bytes, at + [16, 24][seeded.below(2) as usize], &number.to_le_bytes());
                        seal_section(bytes, at);
                    }
                }
            }
        });
    }
}

#[test]
fn second_evidence_files_with_sealed_nonsense_neither_panic_nor_hang() {
    requires!("corpus");
    for name in ["zeros_128s.Ex01", "zeros_128s_compressed.Ex01"] {
        let path = common::corpus().unwrap().join("formats/securityronin-ewf").join(name);
        mutants(path.to_str().unwrap(), 300, |bytes, seeded| {
            let len = bytes.len() as u64;
            // Descriptors, from the last to the first.
            let (mut ends, mut at) = (Vec::new(), bytes.len() - 64);
            while at != 0 {
                ends.push(at);
                at = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap()) as usize;
            }
            let at = ends[seeded.below(ends.len() as u64) as usize];
            let number = strange(seeded, len);
            if seeded.below(2) == 0 {
                let data = at - u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap()) as usize;
                put(bytes, data + 4 * seeded.below(16) as usize, &(number as u32).to_le_bytes());
                let sum = adler32(&bytes[data..data + 16]);
                put(bytes, data + 16, &sum.to_le_bytes());
            } else {
                put(bytes, at + [0, 8, 16][seeded.below(3) as usize], &number.to_le_bytes());
                let sum = adler32(&bytes[at..at + 60]);
                put(bytes, at + 60, &sum.to_le_bytes());
            }
        });
    }
}

#[test]
fn dmgs_parallels_and_sparse_images_with_nonsense_neither_panic_nor_hang() {
    use base64::Engine as _;
    requires!("qemu-img", "qemu-io", "ewfacquire");
    let engine = base64::engine::general_purpose::STANDARD;
    for name in ["all.dmg", "mixed.dmg"] {
        mutants(name, 150, |bytes, seeded| {
            let len = bytes.len() as u64;
            if seeded.below(3) == 0 {
                let field = bytes.len() - 512 + [24, 216, 224, 492][seeded.below(4) as usize];
                put(bytes, field, &strange(seeded, len).to_be_bytes());
                return;
            }
            // A table without its line ends is shorter, so it can be written back in its place.
            let find = |word: &[u8], from: usize| {
                bytes[from..].windows(word.len()).position(|w| w == word).unwrap() + from
            };
            let start = find(b"<data>", 1000) + 6;
            let end = find(b"</data>", start);
            let text: Vec<u8> =
                bytes[start..end].iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
            let mut table = engine.decode(text).unwrap();
            for _ in 0..=seeded.below(3) {
                let entry = 204 + 40 * seeded.below((table.len() as u64 - 204) / 40) as usize;
                let place = [entry, entry + 8, entry + 16, entry + 24, entry + 32, 8, 24, 200]
                    [seeded.below(8) as usize];
                let number = strange(seeded, len);
                if place == 200 || place == entry {
                    put(&mut table, place, &(number as u32).to_be_bytes());
                } else {
                    put(&mut table, place, &number.to_be_bytes());
                }
            }
            let text = engine.encode(table);
            bytes[start..end].fill(b' ');
            put(bytes, start, text.as_bytes());
        });
    }
    for name in ["small.hds", "first.hds", "wide.hds"] {
        mutants(name, 120, |bytes, seeded| {
            let len = bytes.len() as u64;
            for _ in 0..=seeded.below(3) {
                let at = if seeded.below(2) == 0 { 16 } else { 64 } + 4 * seeded.below(12) as usize;
                put(bytes, at, &(strange(seeded, len) as u32).to_le_bytes());
            }
        });
    }
    for name in ["small.sparseimage", "large.sparseimage"] {
        mutants(name, 120, |bytes, seeded| {
            let len = bytes.len() as u64;
            for _ in 0..=seeded.below(3) {
                let at = 4 + 4 * seeded.below(24) as usize;
                put(bytes, at, &(strange(seeded, len) as u32).to_be_bytes());
            }
        });
    }
}
