//! Wrappers: what they say of themselves, what does not fit in memory, bombs, damage; and ZVHD, of which the same is asked.

use super::*;
use imgmount::locator::Spooler;
use imgmount::source;
use imgmount::source::spool::SpoolDir;

/// The set of wrapped images.
fn wrapped() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| set("wrap"))
}

fn wrapper_of(name: &str) -> String {
    let image = open(&wrapped().join(name), &[]).unwrap();
    assert_eq!(image.facts[0].0, "wrapper", "{name}");
    image.facts[0].1.clone()
}

/// A temporary folder in which a script has run.
fn made(script: &str) -> tempfile::TempDir {
    let dir = common::tempdir();
    common::sh(&format!("cd '{}'; {script}", dir.path().display()));
    dir
}

/// Opens with a spool in the folder, which takes at most `most` bytes there.
fn open_spooled(path: &Path, most: u64) -> Result<Opened> {
    let spool: Arc<dyn Spooler> = Arc::new(SpoolDir::open(path.parent().unwrap(), most)?);
    let source = Arc::new(source::Options { spool: Some(spool), ..source::Options::default() });
    let given = Given::open(Locator::Path(path.to_owned()), &[])?;
    open_image(Arc::new(given), &Options { source, ..Options::default() })
}

fn sha256_of(path: &Path) -> String {
    common::sh(&format!("sha256sum < '{}' | cut -c1-64", path.display())).trim().to_owned()
}

#[test]
fn a_wrapper_says_what_it_is_and_how_it_is_read() {
    requires!("gzip", "pigz", "bgzip", "xz", "zstd", "pzstd", "bzip2");
    assert_eq!(wrapper_of("s.raw.bgz"), "gzip, read in place (bgzip, 7 parts)");
    assert!(wrapper_of("members.gz").starts_with("gzip (3 members), read in place by an index of"));
    assert_eq!(wrapper_of("s.raw.xz"), "xz, read in place (10 blocks in 1 streams)");
    assert_eq!(wrapper_of("streams.xz"), "xz, read in place (13 blocks in 2 streams)");
    assert_eq!(wrapper_of("seekable.zst"), "zstd, read by its seek table (12 frames)");
    assert_eq!(wrapper_of("frames.zst"), "zstd, read in place (2 frames)");
    assert_eq!(wrapper_of("s.raw.bz2"), "bzip2, unpacked as a whole (6803456 bytes)");
}

#[test]
fn what_follows_a_gzip_file_is_told_unless_it_is_a_tapes_padding() {
    requires!("gzip", "pigz", "bgzip", "xz", "zstd", "pzstd", "bzip2");
    let warnings = |name: &str| open(&wrapped().join(name), &[]).unwrap().warnings.join("\n");
    assert!(warnings("garbage.gz").contains("is not gzip and was left out"));
    assert_eq!(warnings("padded.gz"), "");
}

/// 100 MiB in one part: more than is ever unpacked into memory.
const LARGE: &str = "truncate -s 100M large.raw; head -c 300000 /dev/urandom | \
    dd of=large.raw bs=1 seek=50000000 conv=notrunc status=none iflag=fullblock oflag=seek_bytes bs=64K";

#[test]
fn what_cannot_be_read_in_place_names_its_cost_and_the_two_ways() {
    requires!("xz", "zstd", "bzip2");
    let dir = made(&format!("{LARGE}; xz -0kT1 large.raw; zstd -qk large.raw; bzip2 -1k large.raw"));
    for (name, with) in
        [("large.raw.xz", "xz -dk"), ("large.raw.zst", "zstd -dk"), ("large.raw.bz2", "bzip2 -dk")]
    {
        let path = dir.path().join(name);
        let error = open(&path, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error:?}");
        let size = std::fs::metadata(&path).unwrap().len();
        assert!(
            error.to_string().contains(&format!("all {size} bytes of it would have to be unpacked")),
            "{error}"
        );
        let help = error.help_text().unwrap();
        assert!(help.contains("--spool") && help.contains(&format!("{with} {name}")), "{help}");
    }
}

#[test]
fn a_spool_serves_what_cannot_be_read_in_place_and_keeps_its_holes() {
    requires!("xz", "zstd", "bzip2");
    let dir = made(&format!(
        "{LARGE}; xz -0kT1 large.raw; zstd -qk large.raw; zstd -q < large.raw > pipe.zst; bzip2 -1k large.raw"
    ));
    let expected = sha256_of(&dir.path().join("large.raw"));
    for name in ["large.raw.xz", "large.raw.zst", "pipe.zst", "large.raw.bz2"] {
        let image = open_spooled(&dir.path().join(name), 1 << 20).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(sha256(&image.disk), expected, "{name}");
        assert!(image.disk.stored_size() < 1 << 20, "{name}: {} bytes", image.disk.stored_size());
    }
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 5, "the spool left something behind");
}

#[test]
fn a_spool_that_may_not_take_so_much_says_so() {
    requires!("zstd");
    let dir = made("head -c 70M /dev/urandom | zstd -q > noise.zst");
    let error = open_spooled(&dir.path().join("noise.zst"), 1 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
}

#[test]
fn damage_met_by_a_spool_is_told_at_the_bytes_behind_it() {
    requires!("zstd");
    let dir = made(&format!("{LARGE}; zstd -qk large.raw"));
    let path = dir.path().join("large.raw.zst");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    // The wrong sum stands at the end, where a prober looks as well.
    let error = open_spooled(&path, u64::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
}

/// Ten gigabytes of zeros: what tells its length is opened without unpacking any of it.
#[test]
fn a_bomb_that_tells_its_length_is_not_set_off() {
    requires!("xz", "zstd");
    let dir = made(
        "head -c 16M /dev/zero | xz -0 > one.xz; head -c 16M /dev/zero > z; zstd -qk z -o one.zst\n\
         for n in $(seq 640); do cat one.xz >&3; cat one.zst >&4; done 3> bomb.xz 4> bomb.zst",
    );
    for name in ["bomb.xz", "bomb.zst"] {
        let path = dir.path().join(name);
        assert!(std::fs::metadata(&path).unwrap().len() < 3 << 20);
        let before = spent();
        let image = open_as(&path, &[], None).unwrap();
        assert_eq!(image.disk.len(), 640 * (16 << 20), "{name}");
        assert!(spent() - before < Duration::from_secs(2), "{name}: {:?}", spent() - before);
        assert_eq!(read(&image.disk, 9 << 30, 4096).unwrap(), [0; 4096]);
    }
}

#[test]
fn zeros_in_a_gzip_file_are_known_to_be_zeros() {
    requires!("gzip");
    let dir =
        made("head -c 16M /dev/zero | gzip -9 > one.gz; for n in $(seq 32); do cat one.gz; done > zeros.gz");
    let image = open(&dir.path().join("zeros.gz"), &[]).unwrap();
    assert_eq!(image.disk.len(), 512 << 20);
    let extent = image.disk.extent(0).unwrap();
    assert!(extent.zero && extent.len == 512 << 20, "{extent:?}");
}

/// What a bomb in a bomb may cost goes by the bytes that were given, not by those of the wrapper between.
#[test]
fn a_bomb_in_a_bomb_is_given_up_soon() {
    requires!("gzip");
    let dir = made(
        "head -c 64M /dev/zero | gzip -9 > one.gz; for n in $(seq 640); do cat one.gz; done | gzip -9 > bomb.gz.gz",
    );
    let before = spent();
    let error = open(&dir.path().join("bomb.gz.gz"), &[]).unwrap_err();
    let took = spent() - before;
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn wrappers_lie_in_each_other_four_deep_and_no_deeper() {
    requires!("gzip");
    let dir = made(
        "head -c 4096 /dev/urandom > 0.raw; printf '\\0' | dd of=0.raw conv=notrunc status=none\n\
         for n in 1 2 3 4 5; do gzip -c < $((n - 1)).raw > $n.raw; done",
    );
    assert_eq!(open(&dir.path().join("4.raw"), &[]).unwrap().disk.len(), 4096);
    let error = open(&dir.path().join("5.raw"), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
}

/// Small wrappers of every kind, and what lies in them.
fn small() -> tempfile::TempDir {
    made(
        "seq 60000 > q; head -c 300000 q > p; head -c 20000 /dev/urandom >> p; truncate -s 400384 p\n\
         head -c 150001 p > a; tail -c +150002 p > b\n\
         cat <(gzip -c a) <(gzip -9c b) > m.gz; bgzip -c p > p.bgz\n\
         xz -kc --block-size=65536 p > p.xz; cat <(xz -kc --check=sha256 a) <(xz -kc --check=crc32 b) > m.xz\n\
         zstd -qc p > p.zst; cat <(zstd -qc a) <(zstd -qc b) > m.zst; bzip2 -kc p > p.bz2",
    )
}

#[test]
fn mutants_of_wrappers_neither_panic_nor_hang() {
    requires!("gzip", "bgzip", "xz", "zstd", "bzip2");
    let dir = small();
    let seeds = [
        ("m.gz", "gzip"),
        ("p.bgz", "gzip"),
        ("p.xz", "xz"),
        ("m.xz", "xz"),
        ("p.zst", "zstd"),
        ("m.zst", "zstd"),
        ("p.bz2", "bzip2"),
    ];
    mutants(dir.path(), &seeds);
}

#[test]
fn mutants_of_zvhd_neither_panic_nor_hang() {
    requires!("zstd", "python3");
    mutants(&set("zvhd"), &[("stream.zvhd", "zvhd"), ("zstd.zvhd2", "zvhd"), ("zlib.zvhd2", "zvhd")]);
}

/// No wrapper's signature is longer, xz's has six bytes.
const SIGNATURE: usize = 6;

/// Their sums see to it: what was damaged is an error, or did not matter.
#[test]
fn a_damaged_wrapper_gives_no_wrong_byte() {
    requires!("gzip", "bgzip", "xz", "zstd", "bzip2");
    let dir = small();
    let plain = std::fs::read(dir.path().join("p")).unwrap();
    let mapper = Mapper::new(Arc::new(Cache::new(4 << 20)));
    let mut seeded = Seeded(0xbad);
    for name in ["m.gz", "p.bgz", "p.xz", "m.xz", "p.zst", "m.zst", "p.bz2"] {
        let sound = std::fs::read(dir.path().join(name)).unwrap();
        let mut failed = 0;
        for round in 0..60 {
            let mut bytes = sound.clone();
            // Not of the signature: without it the file is none of these, but a raw disk.
            let at = SIGNATURE + seeded.below((sound.len() - SIGNATURE) as u64) as usize;
            bytes[at] ^= 1 << seeded.below(8);
            let Ok(image) = open_bytes(bytes, None, &mapper) else {
                failed += 1;
                continue;
            };
            let mut wrong = false;
            for at in (0..image.disk.len().min(plain.len() as u64)).step_by(50_000) {
                let len = (plain.len() - at as usize).min((image.disk.len() - at) as usize).min(50_000);
                match read(&image.disk, at, len) {
                    Ok(got) => {
                        assert!(got == plain[at as usize..][..len], "{name}, round {round}: byte {at}");
                    }
                    Err(_) => wrong = true,
                }
            }
            failed += u32::from(wrong);
        }
        assert!(failed > 40, "{name}: only {failed} of 60 were noticed");
    }
}

#[test]
fn a_file_cut_off_is_corrupt() {
    requires!("gzip", "bgzip", "xz", "zstd", "bzip2");
    let dir = small();
    let mapper = Mapper::new(Arc::new(Cache::new(4 << 20)));
    for name in ["m.gz", "p.bgz", "p.xz", "p.zst", "m.zst", "p.bz2"] {
        let sound = std::fs::read(dir.path().join(name)).unwrap();
        for part in [2, 3, 5, 9] {
            let cut = sound[..sound.len() - sound.len() / part].to_vec();
            let error = open_bytes(cut, None, &mapper).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} less 1/{part}: {error:?}");
        }
    }
}

/// Samples of others lie packed in the corpus: in place they are what they are when they are unpacked first.
#[test]
fn packed_samples_of_others_are_read_as_if_unpacked() {
    requires!("corpus", "bzip2", "xz", "gzip", "zstd");
    let (dir, rows) = manifest("broken");
    let unpacked = common::tempdir();
    let (mut same, path) = (0, unpacked.path().join("image"));
    for row in rows {
        let packed = dir.join(&row["path"]);
        let with = match packed.extension().and_then(|ext| ext.to_str()) {
            Some("bz2") => "bzip2",
            Some("xz") => "xz",
            Some("gz") => "gzip",
            Some("zst") => "zstd",
            _ => continue,
        };
        if std::fs::metadata(&packed).unwrap().len() > 40_000 {
            continue;
        }
        let shown = packed.display();
        common::sh(&format!("{with} -dc '{shown}' > '{}'", path.display()));
        if std::fs::metadata(&path).unwrap().len() > 30 << 20 {
            continue;
        }
        match (open(&path, &[]), open(&packed, &[])) {
            (Ok(plain), Ok(packed)) => {
                assert_eq!((plain.format, plain.disk.len()), (packed.format, packed.disk.len()), "{shown}");
                let len = plain.disk.len().min(1 << 20) as usize;
                for at in [0, plain.disk.len() - len as u64] {
                    let [plain, packed] = [&plain, &packed].map(|image| read(&image.disk, at, len).ok());
                    assert!(plain == packed, "{shown}: at {at}");
                }
                same += 1;
            }
            (Err(plain), Err(packed)) => assert_eq!(plain.kind(), packed.kind(), "{shown}: {packed:?}"),
            (plain, packed) => panic!("{shown}: {:?}, packed {:?}", plain.err(), packed.err()),
        }
    }
    assert!(same > 20, "{same}");
}
