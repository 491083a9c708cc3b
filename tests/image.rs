//! Every variant of every disk image format we read gives the bytes that qemu-img reads from it; what we do not read is
//! refused by its name; and no damage makes us panic, hang or invent bytes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]

mod common;
#[path = "image/evidence.rs"]
mod evidence;
#[path = "image/luks.rs"]
mod luks;
#[path = "image/ova.rs"]
mod ova;
#[path = "image/qcow.rs"]
mod qcow;
#[path = "image/vmware.rs"]
mod vmware;
#[path = "image/wrap.rs"]
mod wrap;

use imgmount::block::{Below, BlockSource};
use imgmount::budget::Limits;
use imgmount::cache::Cache;
use imgmount::engine::Mapper;
use imgmount::error::{Error, ErrorKind, Result};
use imgmount::image::{OpenCx, Opened};
use imgmount::keys::{Keys, Secret};
use imgmount::locator::{Found, Gate, Locator, Reference};
use imgmount::source::gate::Given;
use imgmount::source::memory::Memory;
use imgmount::stack::{Options, open_image};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A set of images, made once for a version of its script and of qemu: `tests/make/formats/NAME.sh`.
fn set(name: &str) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let scripts = common::root().join("tests/make/formats");
    let script = scripts.join(format!("{name}.sh"));
    let mut sum = Sha256::new();
    for part in [&script, &scripts.join("lib.sh")] {
        sum.update(std::fs::read(part).unwrap());
    }
    sum.update(common::sh("qemu-img --version | head -1"));
    let base = common::root().join("target/tmp");
    std::fs::create_dir_all(&base).unwrap();
    let dir = base.join(format!("formats-{name}-{}", &hex(sum)[..16]));
    if !dir.join("done").exists() {
        common::sh(&format!("rm -rf '{}'/formats-{name}-*", base.display()));
        common::sh(&format!("'{}' '{}' && touch '{1}/done'", script.display(), dir.display()));
    }
    dir
}

/// The set of what qemu-img makes of the most used formats.
fn fixtures() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| set("base"))
}

/// Every set.
fn sets() -> &'static [PathBuf] {
    static MADE: OnceLock<Vec<PathBuf>> = OnceLock::new();
    MADE.get_or_init(|| {
        let scripts = std::fs::read_dir(common::root().join("tests/make/formats")).unwrap();
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = scripts.map(|entry| stem(entry.unwrap().path())).collect();
        names.sort();
        names.iter().filter(|name| *name != "lib" && has_tools(name)).map(|name| set(name)).collect()
    })
}

/// Is everything there that a script names on its line `# needs: program, program`?
fn has_tools(name: &str) -> bool {
    let script = common::root().join(format!("tests/make/formats/{name}.sh"));
    let text = std::fs::read_to_string(script).unwrap();
    let needs = text.lines().find_map(|line| line.strip_prefix("# needs: ")).unwrap_or_default();
    let lacking = needs.split(", ").filter(|tool| !tool.is_empty()).find_map(common::lacks);
    if let Some(why) = &lacking {
        common::skip(&format!("the set {name}: {why}"));
    }
    lacking.is_none()
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows of a table of a set.
fn table(dir: &Path, name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(dir.join(name)).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

struct Case {
    name: String,
    path: PathBuf,
    format: String,
    /// As `qemu-img -f` wants it; `-` where it does not read it.
    qemu: String,
    image: Opened,
    reference: File,
}

/// Every image of every set that must be read, opened without saying its format, with its folder allowed.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dir in sets() {
        for row in table(dir, "cases.tsv") {
            let path = dir.join(&row[0]);
            let layer = Some(row[5].clone()).filter(|layer| !layer.is_empty());
            let image = open_with(&path, dir, &row[4], layer).unwrap_or_else(|e| panic!("{}: {e:?}", row[0]));
            let reference = File::open(dir.join(&row[2])).unwrap();
            let name = row[0].clone() + &row[5];
            let (format, qemu) = (row[1].clone(), row[3].clone());
            cases.push(Case { name, path, format, qemu, image, reference });
        }
    }
    assert!(cases.len() > 45);
    cases
}

/// With its folder allowed and, unless it is empty, a key for whatever is locked; a layer of it, if one is named.
fn open_with(path: &Path, dir: &Path, key: &str, layer: Option<String>) -> Result<Opened> {
    let mut keys = Keys::default();
    if !key.is_empty() {
        keys.add("*", Secret::new(key.as_bytes().to_vec()));
    }
    let given = Given::open(Locator::Path(path.to_owned()), &[dir.to_owned()])?;
    open_image(Arc::new(given), &Options { layer, keys: Arc::new(keys), ..Options::default() })
}

fn open_as(path: &Path, allow: &[&Path], format: Option<&str>) -> Result<Opened> {
    let allow: Vec<PathBuf> = allow.iter().map(|dir| dir.to_path_buf()).collect();
    let given = Given::open(Locator::Path(path.to_owned()), &allow)?;
    open_image(Arc::new(given), &Options { format: format.map(str::to_owned), ..Options::default() })
}

fn open(path: &Path, allow: &[&Path]) -> Result<Opened> {
    open_as(path, allow, None)
}

fn read(disk: &Arc<dyn BlockSource>, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0xee; len];
    disk.read_at(&mut buf, offset).map(|()| buf)
}

fn sha256(disk: &Arc<dyn BlockSource>) -> String {
    let mut hasher = Sha256::new();
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < disk.len() {
        let len = buf.len().min((disk.len() - at) as usize);
        disk.read_at(&mut buf[..len], at).unwrap();
        hasher.update(&buf[..len]);
        at += len as u64;
    }
    hex(hasher)
}

/// Numbers from a seed (xorshift64*), the same every time.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end.max(1)
    }
}

#[test]
fn every_variant_has_the_bytes_that_qemu_img_reads() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    for case in cases() {
        let disk = &case.image.disk;
        assert_eq!(case.image.format, case.format, "{}", case.name);
        assert_eq!(disk.len(), case.reference.metadata().unwrap().len(), "{}: size", case.name);
        let mut expected = vec![0; 1 << 20];
        let mut at = 0;
        while at < disk.len() {
            let len = expected.len().min((disk.len() - at) as usize);
            case.reference.read_exact_at(&mut expected[..len], at).unwrap();
            assert!(read(disk, at, len).unwrap() == expected[..len], "{}: MiB at {at:#x} differs", case.name);
            at += len as u64;
        }
    }
}

#[test]
fn any_piece_of_any_variant_is_that_piece_of_the_disk() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    for case in cases() {
        let mut seeded = Seeded(0x1234_5678);
        let disk = &case.image.disk;
        for _ in 0..300 {
            let offset = seeded.below(disk.len());
            let most = if seeded.below(4) == 0 { 300_000 } else { 9_000 };
            let len = seeded.below(most).min(disk.len() - offset) as usize;
            let mut expected = vec![0; len];
            case.reference.read_exact_at(&mut expected, offset).unwrap();
            assert!(
                read(disk, offset, len).unwrap() == expected,
                "{}: {len} bytes at {offset:#x}",
                case.name
            );
        }
        assert_eq!(read(disk, disk.len(), 1).unwrap_err().kind(), ErrorKind::OutOfRange, "{}", case.name);
    }
}

/// `qemu-img map --output=json`: start, length, and whether it reads as zero.
fn qemu_map(path: &Path, format: &str) -> Vec<(u64, u64, bool)> {
    // qemu takes the name of a data file relative to where it runs.
    let dir = path.parent().unwrap().display();
    let json =
        common::sh(&format!("cd '{dir}'; qemu-img map -f {format} --output=json '{}'", path.display()));
    let entries: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let number = |entry: &serde_json::Value, key: &str| entry[key].as_u64().unwrap();
    entries.iter().map(|e| (number(e, "start"), number(e, "length"), e["zero"].as_bool().unwrap())).collect()
}

#[test]
fn extents_cover_the_disk_and_say_zero_only_where_it_is_zero() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    for case in cases() {
        let disk = &case.image.disk;
        let mut zeros = Vec::new();
        let mut at = 0;
        while at < disk.len() {
            let extent = disk.extent(at).unwrap();
            assert!(extent.len > 0, "{}", case.name);
            if extent.zero {
                zeros.push((at, at + extent.len));
            }
            assert!(extent.zero || !extent.hole, "{}: a hole that is not zero", case.name);
            at += extent.len;
        }
        assert_eq!(at, disk.len(), "{}", case.name);
        for (from, to) in &zeros {
            let mut at = *from;
            while at < *to {
                let mut bytes = vec![1; (to - at).min(1 << 20) as usize];
                case.reference.read_exact_at(&mut bytes, at).unwrap();
                assert!(bytes.iter().all(|byte| *byte == 0), "{}: data in {from:#x}..{to:#x}", case.name);
                at += bytes.len() as u64;
            }
        }
        // What qemu knows to be zero, we know too.
        let known = if case.qemu == "-" { Vec::new() } else { qemu_map(&case.path, &case.qemu) };
        for (start, len, zero) in known {
            let end = (start + len).min(disk.len());
            let mut at = start;
            while zero && at < end {
                let ours = zeros.iter().find(|(from, to)| *from <= at && at < *to);
                at = ours.unwrap_or_else(|| panic!("{}: qemu knows {at:#x} to be zero", case.name)).1;
            }
        }
    }
}

#[test]
fn every_step_down_ends_on_the_same_bytes() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    for case in cases() {
        let mut at = 0;
        while at < case.image.disk.len().min(8 << 20) {
            let step = case.image.disk.step(at).unwrap();
            let len = step.len.min(512) as usize;
            let mut expected = vec![0; len];
            case.reference.read_exact_at(&mut expected, at).unwrap();
            match step.below {
                Below::Zero | Below::Hole | Below::PastParent => {
                    assert!(expected.iter().all(|byte| *byte == 0), "{}", case.name);
                }
                Below::Stored(source, from) | Below::Parent(source, from) => {
                    assert!(read(&source, from, len).unwrap() == expected, "{}: at {at:#x}", case.name);
                }
                Below::Packed(source, from, stored) => {
                    assert!(from + stored <= source.len(), "{}", case.name);
                }
                Below::Encrypted(source, from) => {
                    assert!(read(&source, from, len).unwrap() != expected, "{}: at {at:#x}", case.name);
                }
                Below::Here | Below::Computed => {}
            }
            at += step.len;
        }
    }
}

#[test]
fn what_is_not_read_is_refused_by_its_name() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    for dir in sets() {
        for row in table(dir, "refused.tsv") {
            let error = open(&dir.join(&row[0]), &[dir]).unwrap_err();
            assert!(error.to_string().contains(&row[1]), "{}: {error}", row[0]);
            let kinds = [ErrorKind::Unsupported, ErrorKind::NotAnImage, ErrorKind::Encrypted];
            assert!(kinds.contains(&error.kind()), "{}: {error:?}", row[0]);
        }
    }
}

#[test]
fn encrypted_disks_are_never_handed_out_as_ciphertext() {
    requires!("qemu-img", "qemu-io", "ewfacquire");
    for dir in sets() {
        for row in table(dir, "cases.tsv").iter().filter(|row| !row[4].is_empty()) {
            let error = open(&dir.join(&row[0]), &[dir]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encrypted, "{}: {error:?}", row[0]);
            let wrong = open_with(&dir.join(&row[0]), dir, "not the key", None);
            if row[0].contains("aes") {
                // The old AES of qcow and qcow2 has nothing that could tell a wrong key.
                assert!(wrong.unwrap().warnings.join("").contains("no key is refused"), "{}", row[0]);
                continue;
            }
            let wrong = wrong.unwrap_err();
            assert_eq!(wrong.kind(), ErrorKind::Encrypted, "{}: {wrong:?}", row[0]);
        }
    }
}

#[test]
fn dirty_and_corrupt_marks_are_said() {
    requires!("qemu-img", "qemu-io");
    let warnings = |name: &str| open(&fixtures().join(name), &[]).unwrap().warnings.join("\n");
    assert!(warnings("dirty.qcow2").contains("dirty"));
    assert!(warnings("corrupt.qcow2").contains("corrupt"));
    assert_eq!(warnings("v3.qcow2"), "");
}

#[test]
fn facts_name_what_the_image_is() {
    requires!("qemu-img", "qemu-io");
    let fact = |name: &str, key: &str| -> Option<String> {
        let image = open(&fixtures().join(name), &[fixtures()]).unwrap();
        image.facts.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone())
    };
    assert_eq!(fact("zstd-c4k.qcow2", "cluster size").as_deref(), Some("4096"));
    assert_eq!(fact("zstd-c4k.qcow2", "compression type").as_deref(), Some("zstd"));
    assert_eq!(fact("snapshot.qcow2", "snapshots").as_deref(), Some("2: 1 'one', 2 'two'"));
    assert_eq!(fact("bitmap.qcow2", "bitmaps").as_deref(), Some("1"));
    assert_eq!(fact("over-raw.qcow2", "backing file").as_deref(), Some("s.raw"));
    assert_eq!(fact("zg.vmdk", "create type").as_deref(), Some("monolithicSparse"));
    assert_eq!(fact("zg.vmdk", "adapter type").as_deref(), Some("lsilogic"));
    assert_eq!(fact("dynamic.vhd", "creator").as_deref(), Some("qem2"));
}

#[test]
fn a_chain_lists_its_layers_from_the_top() {
    requires!("qemu-img", "qemu-io");
    let image = open(&fixtures().join("over-larger.qcow2"), &[fixtures()]).unwrap();
    let layers: Vec<(&str, &str, u64)> =
        image.layers.iter().map(|l| (l.name.rsplit('/').next().unwrap(), l.format, l.size)).collect();
    let size = File::open(fixtures().join("s.raw")).unwrap().metadata().unwrap().len();
    let expected =
        [("over-larger.qcow2", "qcow2", 32 << 20), ("over-raw.qcow2", "qcow2", size), ("s.raw", "raw", size)];
    assert_eq!(layers, expected);
}

#[test]
fn a_split_vmdk_counts_all_its_files() {
    requires!("qemu-img", "qemu-io");
    let image = open(&fixtures().join("split.vmdk"), &[]).unwrap();
    let extents: u64 = ["split-s001.vmdk", "split-s002.vmdk"]
        .iter()
        .map(|name| common::sh(&format!("stat -c '%b' '{}'", fixtures().join(name).display())))
        .map(|blocks| blocks.trim().parse::<u64>().unwrap() * 512)
        .sum();
    assert_eq!(image.disk.stored_size(), extents);
}

/// A fixture's copy, changed.
fn changed(name: &str, dir: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = std::fs::read(fixtures().join(name)).unwrap();
    change(&mut bytes);
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_backing_file_outside_is_refused_by_its_name() {
    requires!("qemu-img");
    let dir = common::tempdir();
    let path = dir.path().join("o.qcow2");
    common::sh(&format!("qemu-img create -q -u -f qcow2 -b /etc/shadow -F raw '{}' 1M", path.display()));
    for allow in [&[][..], &[dir.path()][..]] {
        let error = open(&path, allow).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ExternalRef);
        assert!(error.to_string().contains("'/etc/shadow'"), "{error}");
        assert!(error.help_text().unwrap().contains("--allow-parent"));
    }
}

#[test]
fn a_backing_file_of_no_stated_format_is_read_only_if_it_shows_one() {
    requires!("qemu-img");
    let dir = common::tempdir();
    let at = dir.path().display().to_string();
    common::sh(&format!(
        "cd '{at}'; truncate -s 1M b.raw; qemu-img create -q -f qcow2 b.qcow2 1M
         qemu-img create -q -f qcow2 -b b.raw -F raw raw.qcow2
         qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 ok.qcow2"
    ));
    for name in ["raw.qcow2", "ok.qcow2"] {
        // Another type of header extension, which a reader ignores, in place of the backing format's.
        let mut bytes = std::fs::read(dir.path().join(name)).unwrap();
        let at = bytes.windows(4).position(|word| word == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
        bytes[at..at + 4].fill(0x11);
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    assert_eq!(open(&dir.path().join("ok.qcow2"), &[dir.path()]).unwrap().layers.len(), 2);
    let error = open(&dir.path().join("raw.qcow2"), &[dir.path()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(error.help_text().unwrap().contains("-F raw"), "{error:?}");
}

#[test]
fn an_image_that_is_its_own_backing_file_is_refused() {
    requires!("qemu-img");
    let dir = common::tempdir();
    let path = dir.path().join("loop.qcow2");
    common::sh(&format!(
        "cd '{}'; qemu-img create -q -u -f qcow2 -b loop.qcow2 -F qcow2 x 1M; mv x loop.qcow2",
        dir.path().display()
    ));
    assert_eq!(open(&path, &[dir.path()]).unwrap_err().kind(), ErrorKind::ExternalRef);
}

#[test]
fn two_signatures_in_one_file_are_ambiguous() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    let footer = std::fs::read(fixtures().join("fixed.vhd")).unwrap();
    let path = changed("v3.qcow2", dir.path(), |bytes| bytes.extend(&footer[footer.len() - 512..]));
    let error = open(&path, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(error.help_text().unwrap().contains("--format qcow2 or --format vhd"), "{error:?}");
    assert_eq!(open_as(&path, &[], Some("qcow2")).unwrap().format, "qcow2");
    assert_eq!(open_as(&path, &[], Some("raw")).unwrap().format, "raw");
}

#[test]
fn a_fixed_vhd_is_known_by_its_footer_which_is_no_part_of_the_disk() {
    requires!("qemu-img", "qemu-io");
    let path = fixtures().join("fixed.vhd");
    let image = open(&path, &[]).unwrap();
    assert_eq!((image.format, image.subformat.as_deref()), ("vhd", Some("fixed")));
    assert_eq!(image.disk.len() + 512, std::fs::metadata(path).unwrap().len());
}

/// Writes a VHD footer's checksum anew.
fn seal(footer: &mut [u8]) {
    footer[64..68].fill(0);
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
}

#[test]
fn a_vhd_with_two_sizes_takes_qemus_and_says_the_other() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    let path = changed("dynamic.vhd", dir.path(), |bytes| {
        let end = bytes.len() - 512;
        for at in [0, end] {
            bytes[at + 28..at + 32].copy_from_slice(b"vpc ");
            bytes[at + 56..at + 60].copy_from_slice(&[0, 100, 4, 17]);
            seal(&mut bytes[at..at + 512]);
        }
    });
    let qemu = common::sh(&format!("qemu-img info -f vpc --output=json '{}'", path.display()));
    let qemu: serde_json::Value = serde_json::from_str(&qemu).unwrap();
    let image = open(&path, &[]).unwrap();
    assert_eq!(Some(image.disk.len()), qemu["virtual-size"].as_u64());
    let by_footer = std::fs::metadata(fixtures().join("s.raw")).unwrap().len();
    assert_ne!(image.disk.len(), by_footer);
    assert!(image.warnings.join("").contains(&by_footer.to_string()), "{:?}", image.warnings);
}

#[test]
fn a_vhd_whose_footer_is_damaged_is_read_by_its_copy() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    let path = changed("dynamic.vhd", dir.path(), |bytes| {
        let end = bytes.len() - 512;
        bytes[end + 50] ^= 1;
    });
    let image = open(&path, &[]).unwrap();
    assert!(image.warnings[0].contains("checksum"), "{:?}", image.warnings);
    let sound = open(&fixtures().join("dynamic.vhd"), &[]).unwrap();
    assert_eq!(sha256(&image.disk), sha256(&sound.disk));
}

/// The bytes of a cut image that are given are right, and those that are missing are errors, never zeros.
fn cut(name: &str, to: impl FnOnce(usize) -> usize) {
    let dir = common::tempdir();
    let path = changed(name, dir.path(), |bytes| bytes.truncate(to(bytes.len())));
    let Ok(image) = open(&path, &[]) else { return };
    let whole = open(&fixtures().join(name), &[]).unwrap();
    let mut failed = 0;
    for at in (0..image.disk.len() - 511).step_by(512) {
        match read(&image.disk, at, 512) {
            Ok(bytes) => assert!(bytes == read(&whole.disk, at, 512).unwrap(), "{name}: {at:#x}"),
            Err(error) => {
                failed += 1;
                assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::OutOfRange), "{error:?}");
            }
        }
    }
    assert!(failed > 0, "{name}: nothing was missed");
}

#[test]
fn bytes_cut_off_are_errors_and_the_others_are_right() {
    requires!("qemu-img", "qemu-io");
    for name in [
        "v3.qcow2",
        "c512.qcow2",
        "zlib-c64k.qcow2",
        "zstd-c64k.qcow2",
        "monolithicSparse.vmdk",
        "dynamic.vhd",
    ] {
        cut(name, |len| len / 2);
        cut(name, |len| len - 70_000);
    }
}

#[test]
fn a_truncated_stream_optimized_vmdk_says_so() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    // VMware's own have the grain directory at the end; make one of qemu's, which has it at the start, into such.
    let path = changed("streamOptimized.vmdk", dir.path(), |bytes| {
        let header = bytes[..512].to_vec();
        bytes[56..64].fill(0xff);
        let mut marker = vec![0; 512];
        marker[0] = 1;
        marker[12] = 3;
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(marker);
        bytes.extend(header);
        bytes.extend([0; 512]);
    });
    let expected = common::sh(&format!(
        "qemu-img convert -f vmdk -O raw '{0}' '{0}.ref' && sha256sum < '{0}.ref' | cut -c1-64",
        path.display()
    ));
    assert_eq!(sha256(&open(&path, &[]).unwrap().disk), expected.trim());
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 512).unwrap();
    let error = open(&path, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("cut off (truncated upload or download?)"), "{error}");
}

#[test]
fn a_missing_extent_is_named() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    let path = changed("split.vmdk", dir.path(), |_| {});
    let error = open(&path, &[]).unwrap_err();
    assert!(error.to_string().contains("'split-s001.vmdk' is missing"), "{error}");
}

#[test]
fn one_extent_of_a_split_vmdk_is_no_disk() {
    requires!("qemu-img", "qemu-io");
    let error = open(&fixtures().join("split-s001.vmdk"), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnImage);
    assert!(error.help_text().unwrap().contains("'split.vmdk'"), "{error:?}");
}

#[test]
fn a_vmdk_may_not_name_a_file_that_is_not_its_own() {
    let dir = common::tempdir();
    for name in ["/etc/shadow", "../x-flat.vmdk", "other-flat.vmdk"] {
        let text = format!(
            "# Disk DescriptorFile\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 8 FLAT \"{name}\" 0\n"
        );
        std::fs::write(dir.path().join("x.vmdk"), text).unwrap();
        std::fs::write(dir.path().join("other-flat.vmdk"), [0; 4096]).unwrap();
        let error = open(&dir.path().join("x.vmdk"), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ExternalRef, "{name}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn zero_extents_and_flat_offsets_lie_where_the_descriptor_says() {
    let dir = common::tempdir();
    let text = "# Disk DescriptorFile\r\nversion=1\r\nparentCID=ffffffff\r\ncreateType=\"twoGbMaxExtentFlat\"\r\nRW 2 FLAT \"x-f001.vmdk\" 1\r\nRW 3 ZERO\r\nRDONLY 1 FLAT \"x-f002.vmdk\" 0\r\n";
    std::fs::write(dir.path().join("x.vmdk"), text).unwrap();
    std::fs::write(dir.path().join("x-f001.vmdk"), [[1; 512], [2; 512], [3; 512]].concat()).unwrap();
    std::fs::write(dir.path().join("x-f002.vmdk"), [4; 512]).unwrap();
    let image = open(&dir.path().join("x.vmdk"), &[]).unwrap();
    let expected = [[2; 512], [3; 512], [0; 512], [0; 512], [0; 512], [4; 512]].concat();
    assert!(read(&image.disk, 0, 3072).unwrap() == expected);
    assert!(image.disk.extent(1024).unwrap().zero && image.disk.extent(1024).unwrap().len == 1536);
}

#[test]
fn a_raw_disk_keeps_its_odd_length() {
    let dir = common::tempdir();
    let path = dir.path().join("odd.img");
    std::fs::write(&path, [0; 1003]).unwrap();
    let image = open(&path, &[]).unwrap();
    assert_eq!((image.format, image.disk.len()), ("raw", 1003));
    assert!(image.warnings[0].contains("512"));
}

#[test]
fn tiny_and_empty_files_are_refused_by_every_format_but_raw() {
    let dir = common::tempdir();
    for len in [0, 1, 10, 511, 512, 513] {
        let path = dir.path().join(format!("tiny{len}"));
        std::fs::write(&path, vec![0x55; len]).unwrap();
        for format in ["qcow2", "qcow", "qed", "vmdk", "vhd"] {
            assert_eq!(
                open_as(&path, &[], Some(format)).unwrap_err().kind(),
                ErrorKind::NotAnImage,
                "{format}"
            );
        }
        assert_eq!(open_as(&path, &[], Some("raw")).is_ok(), len > 0);
    }
}

/// A row of a corpus's MANIFEST.tsv, by column name.
fn manifest(part: &str) -> (PathBuf, Vec<std::collections::HashMap<String, String>>) {
    let dir = common::corpus().unwrap().join(part);
    let text = std::fs::read_to_string(dir.join("MANIFEST.tsv")).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let rows = lines.map(|row| names.iter().cloned().zip(row).collect()).collect();
    (dir, rows)
}

#[test]
fn samples_of_others_have_the_size_and_sum_that_other_readers_agree_on() {
    requires!("corpus");
    let (dir, rows) = manifest("formats");
    let mut read_rows = 0;
    for row in rows {
        let (path, feature, sum) =
            (dir.join(&row["path"]), &row["feature_and_faults"], &row["sha256_virtual_disk"]);
        let shown = path.display();
        // The manifest tells both versions of EWF apart.
        let format = row["format"].replace("ewf2", "ewf");
        // A locked volume is no raw disk; tests/image/luks.rs opens them.
        let ours = !feature.starts_with("LUKS") && format != "bochs";
        let beside = path.parent().unwrap();
        if !ours || sum.is_empty() {
            // What is incomplete may be opened, and fails where something is missing.
            let read_all =
                |image: Opened| read(&image.disk, 0, image.disk.len().min(64 << 20) as usize).map(|_| ());
            let error = open(&path, &[]).and_then(read_all).err();
            let error = error.unwrap_or_else(|| panic!("{shown} was read: {feature}"));
            let kinds = [
                ErrorKind::Unsupported,
                ErrorKind::NotAnImage,
                ErrorKind::Corrupt,
                ErrorKind::Limit,
                ErrorKind::ExternalRef,
                ErrorKind::Encrypted,
            ];
            assert!(kinds.contains(&error.kind()), "{shown}: {error:?}");
            continue;
        }
        let image = open(&path, &[beside]).unwrap_or_else(|error| panic!("{shown}: {error:?}"));
        assert_eq!(image.format, format, "{shown}");
        assert_eq!(image.disk.len().to_string(), row["virtual_size"], "{shown}");
        if sum == "ALL-ZERO" {
            let mut at = 0;
            while at < image.disk.len() {
                let extent = image.disk.extent(at).unwrap();
                assert!(extent.zero, "{shown}: data at {at:#x}");
                at += extent.len;
            }
        } else {
            assert_eq!(sha256(&image.disk), *sum, "{shown}");
        }
        read_rows += 1;
    }
    assert!(read_rows >= 29, "{read_rows}");
}

/// qemu refuses a VHDX whose log waits to be replayed, unless it may write: so a copy is mended by it, and compared.
#[test]
fn a_vhdx_with_a_waiting_log_is_what_qemu_makes_of_a_copy() {
    requires!("corpus", "qemu-img", "bunzip2");
    let dir = common::tempdir();
    let (ours, mended) = (dir.path().join("ours.vhdx"), dir.path().join("mended.vhdx"));
    let packed = common::corpus().unwrap().join("broken/qemu-iotests/iotest-dirtylog-10G-4M.vhdx.bz2");
    common::sh(&format!("bunzip2 -c '{}' > '{}'", packed.display(), ours.display()));
    common::sh(&format!("cp '{}' '{}' && qemu-img check -q -r all '{1}'", ours.display(), mended.display()));
    let compare = format!("qemu-img compare -f raw -F vhdx \"$uri\" '{}'", mended.display());
    let output = common::imgmount(["serve".as_ref(), ours.as_os_str(), "--run".as_ref(), compare.as_ref()]);
    assert!(output.status.success(), "{}{}", common::stdout(&output), common::stderr(&output));
}

/// The processor time this thread has had: what a busy host does not change.
fn spent() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Uses an opened disk a little, everywhere; errors are fine.
fn use_disk(disk: &Arc<dyn BlockSource>, seeded: &mut Seeded) {
    let mut at = 0;
    for _ in 0..32 {
        let Ok(extent) = disk.extent(at) else { break };
        assert!(extent.len > 0 && extent.len <= disk.len() - at);
        at += extent.len;
        if at >= disk.len() {
            break;
        }
    }
    for _ in 0..12 {
        let offset = seeded.below(disk.len());
        let len = seeded.below(70_000).min(disk.len() - offset) as usize;
        drop(read(disk, offset, len));
        if len > 0 {
            drop(disk.step(offset));
        }
    }
}

#[test]
fn broken_samples_of_others_end_soon_and_without_a_panic() {
    requires!("corpus", "bzip2", "xz", "gzip");
    let (dir, rows) = manifest("broken");
    let mut tried = 0;
    for row in rows {
        let packed = dir.join(&row["path"]);
        let path = common::samples::unpacked_as_far_as_it_goes(&packed);
        for format in [None, Some("qcow2"), Some("qcow"), Some("qed"), Some("vmdk"), Some("vhd")] {
            let start = spent();
            if let Ok(image) = open_as(&path, &[], format) {
                use_disk(&image.disk, &mut Seeded(7));
            }
            assert!(spent() - start < Duration::from_secs(1), "{}: {:?}", packed.display(), spent() - start);
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

/// Gives every file that an image names: a disk of zeros.
#[derive(Debug)]
struct Zeros;

impl Gate for Zeros {
    fn open(&self, from: &Locator, _: &[u8], _: Reference) -> Result<Found> {
        let source = Arc::new(Memory::new(vec![0; 1 << 20], "zeros"));
        Ok(Found { source, locator: from.clone() })
    }
}

/// Opens bytes in memory.
fn open_bytes(bytes: Vec<u8>, format: Option<&str>, mapper: &Mapper) -> Result<Opened> {
    unlock_bytes(bytes, format, mapper, &Keys::default())
}

fn unlock_bytes(bytes: Vec<u8>, format: Option<&str>, mapper: &Mapper, keys: &Keys) -> Result<Opened> {
    let (locator, budget) = (Locator::Path("mutant".into()), imgmount::budget::Budget::new(Limits::OPEN));
    let (gate, member, spool) = (&Zeros, None, None);
    let (locator, budget) = (&locator, &budget);
    let cx = OpenCx { gate, locator, budget, mapper, keys, member, spool, depth: 0, in_archive: false };
    imgmount::image::open(Arc::new(Memory::new(bytes, "mutant")), format, &cx)
}

/// Where the structures of a seed lie: its header and the first tables it names.
fn structures(format: &str, bytes: &[u8]) -> Vec<(u64, u64)> {
    let be64 = |at: u64| u64::from_be_bytes(bytes[at as usize..][..8].try_into().unwrap());
    let le64 = |at: u64| u64::from_le_bytes(bytes[at as usize..][..8].try_into().unwrap());
    let end = bytes.len() as u64;
    match format {
        "qcow2" => {
            let (l1, snapshots) = (be64(40), be64(64));
            let l2 = be64(l1) & 0x00ff_ffff_ffff_fe00;
            let snapshots = if snapshots > 0 { vec![(snapshots, 256)] } else { Vec::new() };
            [vec![(0, 300), (l1, 64), (l2, 1024)], snapshots].concat()
        }
        "qcow" => vec![(0, 64), (be64(40), 32), (be64(be64(40)), 1024)],
        "qed" => vec![(0, 64), (le64(40), 32), (le64(le64(40)), 1024)],
        "vmdk" => {
            let gd = le64(56) * 512;
            vec![(0, 80), (512, 400), (gd, 64), (le32_at(bytes, gd) * 512, 1024)]
        }
        _ => vec![(0, 100), (512, 100), (1536, 32), (end - 512, 100)],
    }
}

#[test]
fn mutants_neither_panic_nor_hang() {
    requires!("qemu-img", "qemu-io");
    let seeds = [
        ("v3.qcow2", "qcow2"),
        ("v2.qcow2", "qcow2"),
        ("c512.qcow2", "qcow2"),
        ("zlib-c4k.qcow2", "qcow2"),
        ("zstd-c64k.qcow2", "qcow2"),
        ("zstd-c2M.qcow2", "qcow2"),
        ("snapshot.qcow2", "qcow2"),
        ("over-raw.qcow2", "qcow2"),
        ("wide.qcow2", "qcow2"),
        ("monolithicSparse.vmdk", "vmdk"),
        ("streamOptimized.vmdk", "vmdk"),
        ("zg.vmdk", "vmdk"),
        ("dynamic.vhd", "vhd"),
        ("chs-dynamic.vhd", "vhd"),
        ("fixed.vhd", "vhd"),
    ];
    mutants(fixtures(), &seeds);
}

/// Opens and uses images of a set in which bytes were changed, most of them in their structures.
fn mutants(dir: &Path, seeds: &[(&str, &str)]) {
    let mapper = Mapper::new(Arc::new(Cache::new(1 << 20)));
    let mut seeded = Seeded(0xfeed);
    for (name, format) in seeds {
        let seed = std::fs::read(dir.join(name)).unwrap();
        let places = structures(format, &seed);
        for round in 0..140 {
            let mut bytes = seed.clone();
            for _ in 0..=seeded.below(16) {
                let (from, len) = places[seeded.below(places.len() as u64) as usize];
                let at = if seeded.below(8) == 0 {
                    seeded.below(seed.len() as u64)
                } else {
                    from + seeded.below(len)
                };
                let value = [0, 1, 0x7f, 0x80, 0xff, seeded.below(256) as u8][seeded.below(6) as usize];
                if let Some(byte) = bytes.get_mut(at as usize) {
                    *byte = value;
                }
            }
            if seeded.below(6) == 0 {
                bytes.truncate(seeded.below(seed.len() as u64) as usize);
            }
            let start = spent();
            let told = format!("{name}, round {round}");
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let explicit = (round % 2 == 0).then_some(*format);
                if let Ok(image) = open_bytes(bytes, explicit, &mapper) {
                    for layer in image.layers.iter().take(4) {
                        use_disk(&layer.disk, &mut Seeded(round + 1));
                    }
                }
            }));
            assert!(done.is_ok(), "{told}: panicked");
            assert!(spent() - start < Duration::from_secs(1), "{told}: {:?}", spent() - start);
        }
    }
}

fn be64_at(bytes: &[u8], at: u64) -> u64 {
    u64::from_be_bytes(bytes[at as usize..][..8].try_into().unwrap())
}

fn le32_at(bytes: &[u8], at: u64) -> u64 {
    u64::from(u32::from_le_bytes(bytes[at as usize..][..4].try_into().unwrap()))
}

/// The error of reading the first MiB of a fixture that was changed.
fn spoilt(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Error {
    let dir = common::tempdir();
    let image = open(&changed(name, dir.path(), change), &[]).unwrap();
    let error = read(&image.disk, 0, 1 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    error
}

#[test]
fn an_l2_table_that_is_not_cluster_aligned_is_corrupt() {
    requires!("qemu-img", "qemu-io");
    let error = spoilt("v3.qcow2", |bytes| {
        let l1 = be64_at(bytes, 40) as usize;
        bytes[l1 + 6] |= 2;
    });
    assert!(error.to_string().contains("L1 table 0 at byte 0x30000"), "{error}");
    assert!(error.to_string().contains("not cluster-aligned"), "{error}");
}

#[test]
fn reserved_bits_of_a_cluster_descriptor_are_corrupt() {
    requires!("qemu-img", "qemu-io");
    let error = spoilt("v3.qcow2", |bytes| {
        let l2 = be64_at(bytes, be64_at(bytes, 40)) & 0x00ff_ffff_ffff_fe00;
        bytes[l2 as usize] |= 1;
    });
    assert!(error.to_string().contains("reserved bits"), "{error}");
}

#[test]
fn a_compressed_cluster_of_garbage_is_corrupt() {
    requires!("qemu-img", "qemu-io");
    for name in ["zlib-c64k.qcow2", "zstd-c64k.qcow2"] {
        let error = spoilt(name, |bytes| {
            let l2 = be64_at(bytes, be64_at(bytes, 40)) & 0x00ff_ffff_ffff_fe00;
            let packed = be64_at(bytes, l2) & ((1 << 54) - 1);
            bytes[packed as usize..][..64].fill(0xff);
        });
        assert!(error.to_string().contains("compressed cluster 0"), "{error}");
    }
}

#[test]
fn a_grain_past_the_end_is_corrupt() {
    requires!("qemu-img", "qemu-io");
    let error = spoilt("monolithicSparse.vmdk", |bytes| {
        let gd = u64::from_le_bytes(bytes[56..64].try_into().unwrap()) * 512;
        let gt = le32_at(bytes, gd) * 512;
        bytes[gt as usize..][..4].copy_from_slice(&0x00ff_ffff_u32.to_le_bytes());
    });
    assert!(error.to_string().contains("grain table 0"), "{error}");
}

#[test]
fn a_grain_directory_entry_past_the_end_is_replaced_by_its_redundant_copy() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    let path = changed("monolithicSparse.vmdk", dir.path(), |bytes| {
        let gd = u64::from_le_bytes(bytes[56..64].try_into().unwrap()) * 512;
        bytes[gd as usize..][..4].copy_from_slice(&0x00ff_ffff_u32.to_le_bytes());
    });
    let sound = open(&fixtures().join("monolithicSparse.vmdk"), &[]).unwrap();
    assert_eq!(sha256(&open(&path, &[]).unwrap().disk), sha256(&sound.disk));
}

#[test]
fn a_grain_whose_marker_names_another_sector_is_corrupt() {
    requires!("qemu-img", "qemu-io");
    let error = spoilt("streamOptimized.vmdk", |bytes| {
        let gd = u64::from_le_bytes(bytes[56..64].try_into().unwrap()) * 512;
        let grain = le32_at(bytes, le32_at(bytes, gd) * 512) * 512;
        bytes[grain as usize] ^= 0x80;
    });
    assert!(error.to_string().contains("is for sector 0x80"), "{error}");
}

#[test]
fn a_vhd_block_past_the_end_is_corrupt() {
    requires!("qemu-img", "qemu-io");
    let error = spoilt("dynamic.vhd", |bytes| bytes[1536..1540].copy_from_slice(&[0, 0xff, 0xff, 0xff]));
    assert!(error.to_string().contains("BAT entry 0 at byte 0x600"), "{error}");
}
