//! VMDK, VHD, VHDX and VDI beyond what every image must do: parents that are not the right ones, what is damaged, what
//! peers read wrongly without saying, and mutants of every variant.

use super::*;
use std::collections::BTreeMap;

/// The set of `vmware.sh`.
fn made() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| set("vmware"))
}

fn made_open(name: &str) -> Result<Opened> {
    open(&made().join(name), &[made()])
}

/// Some files of the set in a folder of their own, the first of them changed.
struct Copy {
    dir: tempfile::TempDir,
    first: String,
}

impl Copy {
    fn of(names: &[&str], change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let dir = common::tempdir();
        for name in names {
            std::fs::copy(made().join(name), dir.path().join(name)).unwrap();
        }
        let first = dir.path().join(names[0]);
        let mut bytes = std::fs::read(&first).unwrap();
        change(&mut bytes);
        std::fs::write(first, bytes).unwrap();
        Self { dir, first: names[0].to_owned() }
    }

    fn open(&self) -> Result<Opened> {
        open(&self.dir.path().join(&self.first), &[self.dir.path()])
    }
}

/// Changes text in a descriptor, wherever it lies; the length stays.
fn say(bytes: &mut [u8], old: &str, new: &str) {
    assert_eq!(old.len(), new.len());
    let at = bytes.windows(old.len()).position(|part| part == old.as_bytes()).unwrap();
    bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
}

fn fact(image: &Opened, key: &str) -> String {
    image.facts.iter().find(|(known, _)| *known == key).map_or_else(String::new, |(_, value)| value.clone())
}

fn sum_of(path: &Path) -> String {
    common::sh(&format!("sha256sum < '{}' | cut -c1-64", path.display())).trim().to_owned()
}

// ---- what peers answer wrongly without saying ----

/// qemu-img and dissect read such a disk as if it had no parent.
#[test]
fn a_differencing_vhd_is_never_read_without_its_parent() {
    requires!("qemu-img", "qemu-io");
    let path = made().join("child.vhd");
    let error = open(&path, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ExternalRef);
    assert!(error.to_string().contains("base.vhd"), "{error}");
    assert!(error.help_text().unwrap().contains("--allow-parent"));
    let right = sum_of(&made().join("child.raw"));
    assert_eq!(sha256(&made_open("child.vhd").unwrap().disk), right);
    let dir = common::tempdir();
    let theirs = dir.path().join("theirs.raw");
    common::sh(&format!("qemu-img convert -f vpc -O raw '{}' '{}'", path.display(), theirs.display()));
    assert_ne!(sum_of(&theirs), right, "qemu-img knows parents now: this test can be an oracle");
}

/// libvhdi, dissect and others read the file as if nothing waited in its log.
#[test]
fn a_vhdx_is_never_read_without_the_log_that_waits() {
    requires!("qemu-img", "qemu-io");
    let image = made_open("log-one.vhdx").unwrap();
    assert_eq!(fact(&image, "log"), "1 entries replayed in memory");
    assert!(image.warnings[0].contains("log was replayed"), "{:?}", image.warnings);
    let sum = sha256(&image.disk);
    assert_eq!(sum, sum_of(&made().join("log-one.ref")));
    assert_ne!(sum, sha256(&made_open("parent.vhdx").unwrap().disk));
}

/// qemu-img carries out the last entry of a log around the end of the ring only, and says nothing.
#[test]
fn a_log_around_the_end_of_its_ring_is_carried_out_whole() {
    requires!("qemu-img", "qemu-io");
    let image = made_open("log-wrapped.vhdx").unwrap();
    assert_eq!(fact(&image, "log"), "3 entries replayed in memory");
    assert_eq!(sha256(&image.disk), sum_of(&made().join("log-wrapped.ref")));
}

/// qemu probes it as raw and hands out the footer as a last sector.
#[test]
fn a_fixed_vhd_is_one_whatever_its_disk_begins_with() {
    requires!("qemu-img");
    let dir = common::tempdir();
    let path = dir.path().join("x.vhd");
    common::sh(&format!(
        "qemu-img create -q -f vpc -o subformat=fixed,force_size=on '{}' 1M",
        path.display()
    ));
    let made = std::fs::read(&path).unwrap();
    for head in
        [&b"LUKS\xba\xbe\0\x01"[..], b"\x1f\x8b\x08\0", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"BZh91AY&SY"]
    {
        let mut bytes = made.clone();
        bytes[..head.len()].copy_from_slice(head);
        std::fs::write(&path, &bytes).unwrap();
        let image = open(&path, &[]).unwrap();
        assert_eq!((image.format, image.disk.len()), ("vhd", 1 << 20), "{head:?}");
        assert_eq!(read(&image.disk, 0, head.len()).unwrap(), head);
    }
}

#[test]
fn the_footer_of_a_fixed_vhd_is_no_sector_of_the_disk() {
    requires!("qemu-img", "qemu-io");
    let path = made().join("base.vhd");
    let probed = common::sh(&format!("qemu-img info --output=json '{}'", path.display()));
    let probed: serde_json::Value = serde_json::from_str(&probed).unwrap();
    let disk = std::fs::metadata(made().join("s.raw")).unwrap().len();
    assert_eq!((probed["format"].as_str(), probed["virtual-size"].as_u64()), (Some("raw"), Some(disk + 512)));
    let image = open(&path, &[]).unwrap();
    assert_eq!((image.format, image.disk.len()), ("vhd", disk));
}

/// By Virtual PC's geometry it is 2 MiB shorter than by its footer: qemu takes the one, libvhdi and dissect the other.
#[test]
fn both_sizes_of_a_virtual_pc_disk_are_told() {
    requires!("corpus", "bunzip2");
    let packed = common::corpus().unwrap().join("broken/qemu-iotests/virtualpc-dynamic.vhd.bz2");
    let image = open(&common::samples::unpacked(&packed), &[]).unwrap();
    assert_eq!(image.disk.len(), 136_363_130_880);
    assert_eq!(fact(&image, "size by geometry"), "136363130880");
    assert_eq!(fact(&image, "size by footer"), "136365211648");
    assert!(image.warnings.iter().any(|warning| warning.contains("two sizes")), "{:?}", image.warnings);
}

/// qemu reads the rest of a grain that reaches past its extent in place of the next extent's first bytes.
#[test]
fn a_grain_ends_with_its_extent() {
    requires!("qemu-img", "qemu-io");
    let disk = made_open("cowd3.vmdk").unwrap().disk;
    let expected = std::fs::read(made().join("s.raw")).unwrap();
    assert!(read(&disk, 4990 * 512, 64 * 512).unwrap() == expected[4990 * 512..5054 * 512]);
}

#[test]
fn a_differencing_vhd_is_what_libvhdi_makes_of_it() {
    requires!("qemu-img", "qemu-io", "root", "fuse", "vhdimount");
    let dir = common::tempdir();
    let at = dir.path().display().to_string();
    let theirs = common::sh(&format!(
        "vhdimount '{}' '{at}' > /dev/null; trap \"fusermount3 -u '{at}'\" EXIT; sha256sum < '{at}/vhdi2' | cut -c1-64",
        made().join("even.vhd").display()
    ));
    assert_eq!(sha256(&made_open("even.vhd").unwrap().disk), theirs.trim());
}

// ---- parents ----

const OVER: [&str; 2] = ["over-monolithicSparse.vmdk", "monolithicSparse.vmdk"];

#[test]
fn a_delta_names_its_parent_when_it_may_not_open_it() {
    requires!("qemu-img", "qemu-io");
    let error = open(&made().join(OVER[0]), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ExternalRef);
    assert!(error.to_string().contains("parent 'monolithicSparse.vmdk'"), "{error}");
    let missing = Copy::of(&OVER[..1], |_| {}).open().unwrap_err();
    assert!(missing.to_string().contains("is missing"), "{missing}");
}

#[test]
fn a_parent_that_was_written_to_since_is_corrupt_by_its_cid() {
    requires!("qemu-img", "qemu-io");
    let copy = Copy::of(&[OVER[1], OVER[0]], |_| {});
    let parent = copy.dir.path().join(OVER[1]);
    // A write changes the CID, as VMware has it.
    common::sh(&format!("qemu-io -f vmdk -c 'write -P 1 0 512' '{}'", parent.display()));
    let cid = fact(&open(&parent, &[]).unwrap(), "CID");
    let error = open(&copy.dir.path().join(OVER[0]), &[copy.dir.path()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&format!("whose CID is {cid}")), "{error}");
}

#[test]
fn a_parent_that_has_moved_is_found_by_its_name() {
    requires!("qemu-img", "qemu-io");
    let expected = sha256(&made_open(OVER[0]).unwrap().disk);
    for hint in ["/vmfs/volumes/5f/vm/monolithicSparse.vmdk", "C:\\\\Machines\\vm\\monolithicSparse.vmdk"] {
        let copy = Copy::of(&OVER, |bytes| {
            // The descriptor has 20 sectors of room.
            let old = "parentFileNameHint=\"monolithicSparse.vmdk\"";
            let at = bytes.windows(old.len()).position(|part| part == old.as_bytes()).unwrap();
            let text: Vec<u8> = bytes[at + old.len()..20 * 512].to_vec();
            let new = [format!("parentFileNameHint=\"{hint}\"").as_bytes(), &text].concat();
            bytes[at..20 * 512].copy_from_slice(&new[..20 * 512 - at]);
        });
        let image = copy.open().unwrap();
        assert_eq!(fact(&image, "parent"), hint.replace('\\', "\\\\"));
        assert_eq!(sha256(&image.disk), expected);
    }
}

#[test]
fn a_delta_of_deltas_lists_its_layers_and_a_loop_ends() {
    requires!("qemu-img", "qemu-io");
    let names = |image: &Opened| -> Vec<String> {
        image.layers.iter().map(|layer| layer.name.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(
        names(&made_open("over-se.vmdk").unwrap()),
        ["over-se.vmdk", "snap.vmdk", "over-monolithicFlat.vmdk", "monolithicFlat.vmdk"]
    );
    let looped = Copy::of(&["delta2.vmdk"], |bytes| {
        say(bytes, "over-monolithicFlat.vmdk", "././././././/delta2.vmdk");
    });
    let error = looped.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ExternalRef);
    assert!(error.to_string().contains("already"), "{error}");
}

#[test]
fn a_vhd_with_another_disks_unique_id_is_not_the_parent() {
    requires!("qemu-img", "qemu-io");
    let error = made_open("other-id.vhd").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("58585858-5858-5858-5858-585858585858"), "{error}");
}

#[test]
fn a_vhd_parent_made_after_the_time_that_is_remembered_is_a_warning() {
    requires!("qemu-img", "qemu-io");
    let warnings = made_open("older.vhd").unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("100000000 seconds after")), "{warnings:?}");
    assert_eq!(made_open("child.vhd").unwrap().warnings, Vec::<String>::new());
}

#[test]
fn a_vdi_finds_its_parent_by_uuid_and_only_where_it_may() {
    requires!("qemu-img", "qemu-io");
    let path = made().join("vdi-top.vdi");
    let error = open(&path, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ExternalRef);
    assert!(error.to_string().contains("parent 63636363-6363-6363-6363-636363636363"), "{error}");
    let image = made_open("vdi-top.vdi").unwrap();
    assert_eq!((image.layers.len(), image.subformat.as_deref()), (3, Some("differencing")));
    let stale = made_open("vdi-stale.vdi").unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Corrupt);
    assert!(stale.to_string().contains("written to after"), "{stale}");
    let orphan = made_open("vdi-orphan.vdi").unwrap_err();
    assert_eq!(orphan.kind(), ErrorKind::NotAnImage);
    assert!(orphan.to_string().contains("is missing"), "{orphan}");
}

#[test]
fn a_vhdx_parent_that_was_written_to_since_is_corrupt() {
    requires!("qemu-img", "qemu-io");
    let copy = Copy::of(&["child.vhdx", "parent.vhdx"], |_| {});
    let parent = copy.dir.path().join("parent.vhdx");
    common::sh(&format!("qemu-io -f vhdx -c 'write -P 1 0 512' '{}'", parent.display()));
    let error = copy.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("data write GUID"), "{error}");
}

// ---- VMDK ----

#[test]
fn facts_of_the_descriptor() {
    requires!("qemu-img", "qemu-io");
    let image = made_open("hw.vmdk").unwrap();
    let facts =
        ["hardware version", "tools version", "adapter type", "parent CID"].map(|key| fact(&image, key));
    assert_eq!(facts, ["11", "2147483647", "ide", ""]);
    let delta = made_open(OVER[0]).unwrap();
    let parent = made_open(OVER[1]).unwrap();
    assert_eq!(fact(&delta, "parent CID"), fact(&parent, "CID"));
    assert_eq!(fact(&delta, "parent"), OVER[1]);
    assert_eq!(made_open("se.vmdk").unwrap().subformat.as_deref(), Some("seSparse"));
}

#[test]
fn a_bare_extent_says_which_descriptor_it_belongs_to() {
    requires!("qemu-img", "qemu-io");
    let help = |name: &str| made_open(name).unwrap_err().help_text().unwrap().to_owned();
    assert!(help("cowd-delta.vmdk").contains("'cowd.vmdk'"));
    assert!(help("se-sesparse.vmdk").contains("'se.vmdk'"));
    assert!(help("cowd2-s002.vmdk").contains("'cowd2.vmdk'"));
}

#[test]
fn a_descriptor_over_its_limit_is_refused() {
    let dir = common::tempdir();
    let path = dir.path().join("long.vmdk");
    let line = "RW 8 ZERO\n";
    let head = "# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\ncreateType=\"custom\"\n";
    std::fs::write(&path, format!("{head}{}", line.repeat(4096))).unwrap();
    assert_eq!(open(&path, &[]).unwrap().disk.len(), 4096 * 4096);
    std::fs::write(&path, format!("{head}{}", line.repeat(4097))).unwrap();
    assert_eq!(open(&path, &[]).unwrap_err().kind(), ErrorKind::Limit);
    std::fs::write(&path, format!("{head}{}", "#\n".repeat(1 << 19))).unwrap();
    assert_eq!(open(&path, &[]).unwrap_err().kind(), ErrorKind::Limit);
}

/// The error of opening a copy of the extent's disk with the extent changed, or of reading its first MiB.
fn spoilt_extent(disk: &str, extent: &str, change: impl FnOnce(&mut Vec<u8>)) -> Error {
    let copy = Copy::of(&[extent, disk], change);
    let error = open(&copy.dir.path().join(disk), &[]).and_then(|image| read(&image.disk, 0, 1 << 20));
    error.err().unwrap_or_else(|| panic!("{extent} was read"))
}

#[test]
fn a_cowd_that_contradicts_itself_is_corrupt() {
    requires!("qemu-img", "qemu-io");
    let spoilt = |change: fn(&mut Vec<u8>)| spoilt_extent("cowd.vmdk", "cowd-delta.vmdk", change).to_string();
    assert!(spoilt(|bytes| bytes[0] = 0).contains("is no sparse extent"));
    assert!(spoilt(|bytes| bytes[4] = 2).contains("version 2 of vmfsSparse"));
    assert!(spoilt(|bytes| bytes[12] = 0).contains("the descriptor says"));
    assert!(spoilt(|bytes| bytes[16] = 0).contains("a grain of 0 sectors"));
    assert!(spoilt(|bytes| bytes[24] = 1).contains("has 1 entries"));
    assert!(spoilt(|bytes| bytes[20..24].fill(0xff)).contains("the file ends at"));
    assert!(spoilt(|bytes| bytes[2048..2052].fill(0xff)).contains("past the end of the file"));
    assert!(spoilt(|bytes| bytes.truncate(600 << 10)).contains("cut off"));
}

#[test]
fn a_sesparse_that_nobody_has_described_is_refused() {
    requires!("qemu-img", "qemu-io");
    let spoilt = |change: fn(&mut Vec<u8>)| spoilt_extent("se.vmdk", "se-sesparse.vmdk", change).to_string();
    assert!(spoilt(|bytes| bytes[8] = 2).contains("seSparse with version 0x200000002"));
    assert!(spoilt(|bytes| bytes[24] = 16).contains("a grain of 16"));
    assert!(spoilt(|bytes| bytes[40] = 1).contains("flags 0x1"));
    assert!(spoilt(|bytes| bytes[512] = 0).contains("0xcafecafe"));
    assert!(spoilt(|bytes| bytes[8 * 512 + 7] = 0x20).contains("names no table"));
    assert!(spoilt(|bytes| bytes[64 * 512 + 15] = 0x50).contains("is no entry of seSparse"));
}

#[test]
fn an_unclean_cowd_is_a_warning() {
    requires!("qemu-img", "qemu-io");
    let copy = Copy::of(&["cowd-delta.vmdk", "cowd.vmdk"], |bytes| bytes[1648] = 1);
    let image = open(&copy.dir.path().join("cowd.vmdk"), &[]).unwrap();
    assert_eq!(image.warnings, ["extent 'cowd-delta.vmdk': the extent was not closed cleanly by its writer"]);
}

#[test]
fn a_stream_of_every_version_is_read_and_the_next_is_refused() {
    requires!("qemu-img", "qemu-io");
    assert_eq!(fact(&made_open("stream3.vmdk").unwrap(), "version"), "3");
    let four = Copy::of(&["stream3.vmdk"], |bytes| bytes[4] = 4).open().unwrap_err();
    assert!(four.to_string().contains("version 4"), "{four}");
    let cut = Copy::of(&["stream3.vmdk"], |bytes| bytes.truncate(bytes.len() - 1024)).open().unwrap_err();
    assert!(cut.to_string().contains("cut off (truncated upload or download?)"), "{cut}");
    let endless = Copy::of(&["stream3.vmdk"], |bytes| {
        let footer = bytes.len() - 1024;
        bytes[footer + 56..footer + 64].fill(0xff);
    });
    assert_eq!(endless.open().unwrap_err().kind(), ErrorKind::Corrupt);
}

// ---- VHDX ----

/// CRC-32C bit by bit, RFC 3720.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// Writes the checksum of a structure of a VHDX anew, which stands at its byte 4.
fn reseal(part: &mut [u8]) {
    part[4..8].fill(0);
    let sum = crc32c(part);
    part[4..8].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn headers_and_region_tables_of_a_vhdx_have_spares() {
    requires!("qemu-img", "qemu-io");
    let expected = sum_of(&made().join("s.raw"));
    for damaged in [&[64 << 10][..], &[128 << 10], &[192 << 10], &[256 << 10], &[128 << 10, 192 << 10]] {
        let copy = Copy::of(&["parent.vhdx"], |bytes| damaged.iter().for_each(|at| bytes[at + 20] ^= 1));
        assert_eq!(sha256(&copy.open().unwrap().disk), expected, "{damaged:?}");
    }
    for damaged in [[64 << 10, 128 << 10], [192 << 10, 256 << 10]] {
        let copy = Copy::of(&["parent.vhdx"], |bytes| damaged.iter().for_each(|at| bytes[at + 20] ^= 1));
        assert_eq!(copy.open().unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn what_a_vhdx_requires_and_we_do_not_know_is_named() {
    requires!("qemu-img", "qemu-io");
    let le64 = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let item = Copy::of(&["parent.vhdx"], |bytes| {
        // The region of the metadata is the second of qemu's; its table's entries begin at 32.
        let metadata = le64(bytes, (192 << 10) + 16 + 32 + 16);
        assert_eq!(&bytes[metadata..metadata + 8], b"metadata");
        let count = u16::from_le_bytes(bytes[metadata + 10..metadata + 12].try_into().unwrap());
        bytes[metadata + 10] += 1;
        let entry = metadata + 32 + 32 * usize::from(count);
        bytes[entry..entry + 16].fill(0xab);
        bytes[entry + 24] = 4;
    });
    let error = item.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("metadata item abababab-abab-abab-abab-abababababab"), "{error}");
    let region = Copy::of(&["parent.vhdx"], |bytes| {
        for at in [192 << 10, 256 << 10] {
            bytes[at + 8] = 3;
            bytes[at + 80..at + 96].fill(0xcd);
            bytes[at + 108] = 1;
            reseal(&mut bytes[at..at + (64 << 10)]);
        }
    });
    let error = region.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("region cdcdcdcd-cdcd-cdcd-cdcd-cdcdcdcdcdcd"), "{error}");
}

/// The log of the fixtures lies in the second mebibyte.
const LOG: usize = 1 << 20;

#[test]
fn a_log_that_cannot_be_trusted_is_corrupt() {
    requires!("qemu-img", "qemu-io");
    let spoilt = |change: fn(&mut Vec<u8>)| {
        let error = Copy::of(&["log-one.vhdx"], change).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        error.to_string()
    };
    // Its one entry: a sector of descriptors, and two of data.
    assert!(spoilt(|bytes| bytes[LOG + 9000] ^= 1).contains("no whole sequence"));
    assert!(spoilt(|bytes| bytes[LOG..2 * LOG].fill(0)).contains("no whole sequence"));
    assert!(
        spoilt(|bytes| {
            bytes[LOG + 4096 + 4092] ^= 1;
            reseal(&mut bytes[LOG..LOG + 3 * 4096]);
        })
        .contains("torn data sector")
    );
    assert!(
        spoilt(|bytes| {
            bytes[LOG + 64..LOG + 68].copy_from_slice(b"what");
            reseal(&mut bytes[LOG..LOG + 3 * 4096]);
        })
        .contains("unknown descriptor")
    );
    assert!(
        spoilt(|bytes| {
            bytes[LOG + 48 + 4] = 1;
            reseal(&mut bytes[LOG..LOG + 3 * 4096]);
        })
        .contains("it was cut off")
    );
}

#[test]
fn a_zero_of_the_log_may_be_as_long_as_it_likes() {
    requires!("qemu-img", "qemu-io");
    let copy = Copy::of(&["log-one.vhdx"], |bytes| {
        // The second descriptor is the zeros: 2^62 bytes from where they began.
        assert_eq!(&bytes[LOG + 96..LOG + 100], b"zero");
        bytes[LOG + 104..LOG + 112].copy_from_slice(&(1_u64 << 62).to_le_bytes());
        reseal(&mut bytes[LOG..LOG + 3 * 4096]);
    });
    let start = spent();
    drop(copy.open().and_then(|image| read(&image.disk, 0, 4096)));
    assert!(spent() - start < Duration::from_secs(1));
}

#[test]
fn a_vhdx_block_among_the_headers_is_corrupt() {
    requires!("qemu-img", "qemu-io");
    let copy = Copy::of(&["parent.vhdx"], |bytes| {
        let bat = u64::from_le_bytes(bytes[(192 << 10) + 32..][..8].try_into().unwrap()) as usize;
        bytes[bat..bat + 8].copy_from_slice(&6_u64.to_le_bytes());
    });
    let error = read(&copy.open().unwrap().disk, 0, 512).unwrap_err();
    assert!(error.to_string().contains("among the headers"), "{error}");
}

// ---- mutants ----

/// Files in memory, opened by their names without a question.
#[derive(Debug)]
struct Shelf(BTreeMap<String, Arc<dyn BlockSource>>);

impl Gate for Shelf {
    fn open(&self, _: &Locator, named: &[u8], _: Reference) -> Result<Found> {
        let name = String::from_utf8_lossy(named).trim_start_matches("./").to_owned();
        let source = self.0.get(&name).map(Arc::clone);
        let source = source.ok_or_else(|| Error::new(ErrorKind::NotAnImage, "not on the shelf"))?;
        Ok(Found { source, locator: Locator::Path(name.into()) })
    }

    fn search(
        &self,
        _: &Locator,
        _: &str,
        _: &str,
        is_it: &dyn Fn(&Arc<dyn BlockSource>) -> bool,
    ) -> Result<Found> {
        let found = self.0.iter().find(|(_, source)| is_it(source));
        let (name, source) = found.ok_or_else(|| Error::new(ErrorKind::NotAnImage, "not on the shelf"))?;
        Ok(Found { source: Arc::clone(source), locator: Locator::Path(name.into()) })
    }
}

/// A seed: the files of an image, the first of which is opened; which of them is changed, and where. A stretch whose
/// last member is true is sealed with a checksum again.
struct Seed {
    files: &'static [&'static str],
    changed: usize,
    places: &'static [(usize, usize, bool)],
}

const fn seed(
    files: &'static [&'static str],
    changed: usize,
    places: &'static [(usize, usize, bool)],
) -> Seed {
    Seed { files, changed, places }
}

const SEEDS: &[Seed] = &[
    seed(&["cowd.vmdk", "cowd-delta.vmdk"], 1, &[(0, 32, false), (2048, 16, false), (2560, 16384, false)]),
    seed(&["cowd.vmdk", "cowd-delta.vmdk"], 0, &[(0, 300, false)]),
    seed(
        &["se.vmdk", "se-sesparse.vmdk"],
        1,
        &[(0, 208, false), (512, 32, false), (4096, 64, false), (64 * 512, 16384, false)],
    ),
    seed(&["over-monolithicSparse.vmdk", "monolithicSparse.vmdk"], 0, &[(0, 80, false), (512, 500, false)]),
    seed(&["over-monolithicSparse.vmdk", "monolithicSparse.vmdk"], 1, &[(0, 80, false), (512, 500, false)]),
    seed(&["stream3.vmdk"], 0, &[(0, 80, false), (512, 200, false), (65536, 64, false)]),
    seed(
        &["custom.vmdk", "flat part.vmdk", "cowd2-s002.vmdk", "monolithicSparse.vmdk"],
        0,
        &[(0, 500, false)],
    ),
    seed(&["child.vhd", "base.vhd"], 0, &[(0, 100, false), (512, 900, false), (4096, 1600, false)]),
    seed(&["vdi-child.vdi", "vdi-base.vdi"], 0, &[(64, 400, false), (512, 32, false)]),
    seed(&["child.vhdx", "parent.vhdx"], 0, &[(3 << 20, 300, false), ((3 << 20) + 65536, 200, false)]),
    seed(&["child.vhdx", "parent.vhdx"], 0, &[((3 << 20) + 131_072, 400, false), (2 << 20, 64, false)]),
    seed(&["child.vhdx", "parent.vhdx"], 0, &[(192 << 10, 65536, true), (128 << 10, 4096, true)]),
    seed(&["log-several.vhdx"], 0, &[(LOG + 16384, 12288, true), (LOG + 28672, 8192, true)]),
    seed(&["log-one.vhdx"], 0, &[(LOG, 12288, true)]),
];

#[test]
fn mutants_of_every_variant_neither_panic_nor_hang() {
    requires!("qemu-img", "qemu-io");
    let mapper = Mapper::new(Arc::new(Cache::new(1 << 20)));
    let mut seeded = Seeded(0xbeef);
    let mut opened = 0;
    for seed in SEEDS {
        let sound = std::fs::read(made().join(seed.files[seed.changed])).unwrap();
        let others = seed.files.iter().map(|name| {
            let bytes = std::fs::read(made().join(name)).unwrap();
            let source: Arc<dyn BlockSource> = Arc::new(Memory::new(bytes, *name));
            ((*name).to_owned(), source)
        });
        let others: BTreeMap<String, Arc<dyn BlockSource>> = others.collect();
        for round in 0..40 {
            let mut bytes = sound.clone();
            for _ in 0..=seeded.below(8) {
                let (from, len, sealed) = seed.places[seeded.below(seed.places.len() as u64) as usize];
                // Sealed structures are mostly empty: what counts stands at their beginning.
                let at = from + seeded.below(if sealed { 256 } else { len as u64 }) as usize;
                let value = [0, 1, 0x7f, 0x80, 0xff, seeded.below(256) as u8][seeded.below(6) as usize];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            for (from, len, _) in seed.places.iter().filter(|(_, _, sealed)| *sealed) {
                reseal(&mut bytes[*from..from + len]);
            }
            if seeded.below(8) == 0 {
                bytes.truncate(seeded.below(bytes.len() as u64) as usize);
            }
            let mut shelf = others.clone();
            let name = seed.files[seed.changed];
            shelf.insert(name.to_owned(), Arc::new(Memory::new(bytes, name)));
            let start = spent();
            let told = format!("{}, round {round}", seed.files[seed.changed]);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let gate = Shelf(shelf);
                let first = Arc::clone(&gate.0[seed.files[0]]);
                let locator = Locator::Path(seed.files[0].into());
                let budget = imgmount::budget::Budget::new(Limits::OPEN);
                let keys = Keys::default();
                let cx = OpenCx {
                    gate: &gate,
                    locator: &locator,
                    budget: &budget,
                    mapper: &mapper,
                    keys: &keys,
                    member: None,
                    spool: None,
                    depth: 0,
                    in_archive: false,
                };
                imgmount::image::open(first, None, &cx)
                    .map(|image| use_disk(&image.disk, &mut Seeded(round + 1)))
                    .is_ok()
            }));
            assert!(done.is_ok(), "{told}: panicked");
            opened += usize::from(done.unwrap());
            assert!(spent() - start < Duration::from_secs(1), "{told}: {:?}", spent() - start);
        }
    }
    // Damage that is refused at the door tests nothing behind it.
    assert!(opened > SEEDS.len() * 10, "{opened}");
}
