//! The qcow family: qcow2 with subclusters, data files and snapshots; qcow; QED. What the set's generic tests do not ask.

use super::*;

/// The set of `tests/make/formats/qcow.sh`.
fn family() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| set("qcow"))
}

fn layer(name: &str, layer: &str) -> Result<Opened> {
    open_with(&family().join(name), family(), "", Some(layer.to_owned()))
}

/// A copy of an image of the set, changed.
fn changed(name: &str, dir: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = std::fs::read(family().join(name)).unwrap();
    change(&mut bytes);
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn put64(bytes: &mut [u8], at: u64, value: u64) {
    bytes[at as usize..][..8].copy_from_slice(&value.to_be_bytes());
}

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Where the first L2 table of a qcow2 lies.
fn first_l2(bytes: &[u8]) -> u64 {
    be64_at(bytes, be64_at(bytes, 40)) & OFFSET
}

#[test]
fn facts_and_warnings_say_what_is_special() {
    requires!("qemu-img", "qemu-io");
    let image = |name: &str| open(&family().join(name), &[family()]).unwrap();
    let fact = |name: &str, key: &str| -> String {
        let facts = image(name).facts;
        facts.into_iter().find(|(known, _)| *known == key).map(|(_, value)| value).unwrap_or_default()
    };
    assert_eq!(fact("xl2-128k.qcow2", "subcluster size"), "4096");
    assert_eq!(fact("lazy.qcow2", "lazy refcounts"), "yes");
    assert_eq!(fact("autoclear.qcow2", "ignored features"), "autoclear bit 63 (without a name)");
    assert_eq!(
        (fact("data-on.qcow2", "data file"), fact("data-on.qcow2", "data file raw")),
        ("data-on.bin".into(), "yes".into())
    );
    assert_eq!(fact("data-off.qcow2", "data file raw"), "no");
    assert_eq!(fact("snap-v2.qcow2", "snapshots"), "3: 1 'one', 2 'two', 3 'three 3'");
    assert_eq!(
        (fact("plain.qcow", "version"), fact("over-raw.qcow", "backing file")),
        ("1".into(), "s.raw".into())
    );
    assert_eq!(
        (fact("wide.qed", "table size"), fact("over-raw.qed", "backing format")),
        ("2".into(), "raw".into())
    );
    assert!(image("need-check.qed").warnings.join("").contains("NEED_CHECK"));
    assert!(image("over-qcow2.qed").warnings.join("").contains("taken for qcow2"));
    assert!(image("over-raw.qcow").warnings.join("").contains("taken for raw"));
    assert_eq!(image("data-on.qcow2").warnings, [""; 0]);
}

#[test]
fn snapshots_are_layers_below_the_chain_with_their_own_sizes() {
    requires!("qemu-img", "qemu-io");
    let layers = |name: &str| -> Vec<(Option<String>, String, u64)> {
        let image = open(&family().join(name), &[family()]).unwrap();
        let name = |name: String| name.rsplit('/').next().unwrap().to_owned();
        image.layers.into_iter().map(|layer| (layer.snapshot, name(layer.name), layer.size)).collect()
    };
    let snapshot = |id: &str, name: &str, size| (Some(id.to_owned()), name.to_owned(), size);
    let disk = std::fs::metadata(family().join("s.raw")).unwrap().len();
    let expected = [
        (None, "snap-sizes.qcow2".to_owned(), 4 << 20),
        snapshot("1", "one", disk),
        snapshot("2", "two", 20 << 20),
        snapshot("3", "three 3", 3 << 20),
    ];
    assert_eq!(layers("snap-sizes.qcow2"), expected);
    assert_eq!(
        layers("snap-over.qcow2")[1..3],
        [(None, "s.raw".to_owned(), disk), snapshot("1", "one", disk)]
    );
    // Those of a backing file are its own.
    assert_eq!(layers("over-qcow2.qed").len(), 2);
}

#[test]
fn an_id_that_is_another_layers_number_is_asked_back() {
    requires!("qemu-img", "qemu-io");
    let error = layer("snap-over.qcow2", "1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.help_text().unwrap().contains("snapshot.id=1"), "{error:?}");
    assert_eq!(layer("snap-over.qcow2", "s.raw").unwrap().format, "raw");
}

#[test]
fn a_damaged_snapshot_spoils_only_itself() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    let expected = |name: &str| sha256(&open(&family().join(name), &[]).unwrap().disk);
    for (what, value) in [("unaligned", 0x1_0008_u64), ("past the end", 1 << 40), ("in the data", 0x5_0000)] {
        let path = changed("snap-zlib.qcow2", dir.path(), |bytes| {
            let table = be64_at(bytes, 64);
            put64(bytes, table, value);
        });
        let image = open(&path, &[]).unwrap();
        assert_eq!(sha256(&image.disk), expected("snap-zlib.qcow2.ref"), "{what}");
        assert_eq!(sha256(&image.layers[2].disk), expected("snap-zlib.qcow2.two.ref"), "{what}");
        let error = read(&image.layers[1].disk, 1 << 20, 512).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
    }
}

#[test]
fn snapshots_that_a_table_does_not_have_are_said() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    let path = changed("snap-zlib.qcow2", dir.path(), |bytes| bytes[60..64].fill(0xff));
    let image = open(&path, &[]).unwrap();
    assert!(image.layers.len() <= 4097);
    assert!(image.warnings.join("").contains("of 4294967295 snapshots"), "{:?}", image.warnings);
}

#[test]
fn subclusters_that_contradict_themselves_spoil_only_their_cluster() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    let whole = open(&family().join("xl2-128k.qcow2"), &[]).unwrap();
    // The third cluster: it is written throughout.
    for bitmap in [u64::MAX, 1 << 32 | 0xffff_ffff] {
        let path = changed("xl2-128k.qcow2", dir.path(), |bytes| {
            let entry = first_l2(bytes) + 2 * 16;
            assert_eq!(be64_at(bytes, entry + 8), 0xffff_ffff);
            put64(bytes, entry + 8, bitmap);
        });
        let image = open(&path, &[]).unwrap();
        let error = read(&image.disk, 256 << 10, 512).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Corrupt && error.to_string().contains("both allocated and zero"),
            "{error:?}"
        );
        for at in [0, 384 << 10] {
            assert!(read(&image.disk, at, 128 << 10).unwrap() == read(&whole.disk, at, 128 << 10).unwrap());
        }
    }
}

/// libqcow takes bit 0 of a compressed cluster's descriptor for the zero flag, and reads zeros.
#[test]
fn a_compressed_cluster_at_an_odd_offset_is_not_zero() {
    requires!("qemu-img", "qemu-io");
    let path = fixtures().join("zlib-c64k.qcow2");
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[7], 3, "version");
    let image = open(&path, &[]).unwrap();
    let disk = std::fs::read(fixtures().join("s.raw")).unwrap();
    let l2 = first_l2(&bytes);
    let odd = |cluster: &u64| be64_at(&bytes, l2 + cluster * 8) & (1 << 62 | 1) == 1 << 62 | 1;
    let odd: Vec<u64> = (0..disk.len() as u64 >> 16).filter(odd).collect();
    assert!(odd.len() > 10, "{odd:?}");
    for cluster in odd {
        let expected = &disk[(cluster << 16) as usize..][..1 << 16];
        assert!(read(&image.disk, cluster << 16, 1 << 16).unwrap() == expected, "{cluster}");
        assert!(!image.disk.extent(cluster << 16).unwrap().zero, "{cluster}");
    }
}

/// libqcow, imago and qcow2-rs hand out the ciphertext.
#[test]
fn a_data_file_is_opened_only_where_it_is_allowed() {
    requires!("qemu-img", "qemu-io");
    let error = open(&family().join("data-on.qcow2"), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ExternalRef);
    assert!(error.to_string().contains("data file 'data-on.bin'"), "{error}");
}

/// An image with a data file, changed, beside its data file, changed.
fn with_data(
    change: impl FnOnce(&mut Vec<u8>),
    data: impl FnOnce(&mut Vec<u8>),
) -> (tempfile::TempDir, Result<Opened>) {
    let dir = common::tempdir();
    drop(changed("data-off.bin", dir.path(), data));
    let path = changed("data-off.qcow2", dir.path(), change);
    let image = open(&path, &[dir.path()]);
    (dir, image)
}

#[test]
fn a_cluster_elsewhere_in_a_data_file_is_corrupt() {
    requires!("qemu-img", "qemu-io");
    let second = |raw: u64| {
        move |bytes: &mut Vec<u8>| {
            let entry = first_l2(bytes) + 8;
            put64(bytes, entry, raw);
        }
    };
    let (_dir, image) = with_data(second(1 << 63 | 0x5_0000), |_| {});
    let error = read(&image.unwrap().disk, 0x1_0000, 512).unwrap_err();
    assert!(error.to_string().contains("not where the external data file has cluster 1"), "{error}");
    let (_dir, image) = with_data(second(1 << 62 | 0x5_0000), |_| {});
    let error = read(&image.unwrap().disk, 0x1_0000, 512).unwrap_err();
    assert!(error.to_string().contains("is compressed"), "{error}");
}

#[test]
fn bytes_that_a_data_file_lacks_are_errors() {
    requires!("qemu-img", "qemu-io");
    let (_dir, image) = with_data(|_| {}, |data| data.truncate(0x1_8000));
    let image = image.unwrap();
    assert!(read(&image.disk, 0x1_0000, 0x8000).is_ok());
    assert_eq!(read(&image.disk, 0x1_0000, 0x8001).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn features_that_exclude_each_other_are_corrupt() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    let kind = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = changed(name, dir.path(), change);
        open(&path, &[dir.path(), family()]).unwrap_err().kind()
    };
    // Raw data file: with a backing file; without a data file. Subclusters in clusters that are too small.
    assert_eq!(kind("data-over.qcow2", &|bytes| bytes[95] |= 2), ErrorKind::Corrupt);
    assert_eq!(kind("lazy.qcow2", &|bytes| bytes[95] |= 2), ErrorKind::Corrupt);
    assert_eq!(kind("snap-sizes.qcow2", &|bytes| bytes[79] |= 0x10), ErrorKind::Corrupt);
}

#[test]
fn a_data_file_without_a_name_is_unsupported() {
    requires!("qemu-img", "qemu-io");
    let unnamed = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(4).position(|word| word == b"DATA").unwrap();
        bytes[at] = 0x11;
    };
    let (_dir, image) = with_data(unnamed, |_| {});
    assert_eq!(image.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn qcow_and_qcow2_are_two_formats() {
    requires!("qemu-img", "qemu-io");
    let (old, new) = (family().join("plain.qcow"), fixtures().join("v3.qcow2"));
    assert_eq!((open(&old, &[]).unwrap().format, open(&new, &[]).unwrap().format), ("qcow", "qcow2"));
    for (path, format, help) in [(&old, "qcow2", "--format qcow"), (&new, "qcow", "--format qcow2")] {
        let error = open_as(path, &[], Some(format)).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Unsupported && error.help_text().unwrap().ends_with(help),
            "{error:?}"
        );
    }
}

#[test]
fn a_backing_file_that_qed_says_is_raw_is_not_probed() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    let at = dir.path().display();
    common::sh(&format!(
        "cd '{at}'; qemu-img create -q -f qcow2 inner 1M; cp inner b.raw
         qemu-img create -q -f qed -b b.raw -F raw o.qed; qemu-img create -q -f qed -b inner -F qcow2 q.qed"
    ));
    let first = |name: &str| read(&open(&dir.path().join(name), &[dir.path()]).unwrap().disk, 0, 4).unwrap();
    assert_eq!((first("o.qed"), first("q.qed")), (b"QFI\xfb".to_vec(), vec![0; 4]));
}

/// qemu opens no QED whose tables have one cluster; the specification allows it. This one is written from it: a header, an
/// L1 table, an L2 table, one cluster, all of 4 KiB; of four clusters of disk the second is stored and the third zero.
#[test]
fn a_qed_with_tables_of_one_cluster_is_read() {
    let le = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut bytes = b"QED\0".to_vec();
    bytes.extend([4096_u32, 1, 1].iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend(le(&[0, 0, 0, 0x1000, 0x4000, 0]));
    bytes.resize(0x1000, 0);
    bytes.extend(le(&[0x2000]));
    bytes.resize(0x2000, 0);
    bytes.extend(le(&[0, 0x3000, 1, 0]));
    bytes.resize(0x3000, 0);
    bytes.extend([7; 0x1000]);
    let image = open_bytes(bytes, None, &Mapper::new(Arc::new(Cache::new(1 << 20)))).unwrap();
    assert!(
        read(&image.disk, 0, 0x4000).unwrap() == [vec![0; 0x1000], vec![7; 0x1000], vec![0; 0x2000]].concat()
    );
    let places: Vec<bool> = (0..4).map(|n| image.disk.extent(n << 12).unwrap().hole).collect();
    assert_eq!(places, [true, false, false, true]);
}

#[test]
fn mutants_of_the_family_neither_panic_nor_hang() {
    requires!("qemu-img", "qemu-io");
    mutants(
        family(),
        &[
            ("xl2-16k.qcow2", "qcow2"),
            ("xl2-packed.qcow2", "qcow2"),
            ("xl2-over.qcow2", "qcow2"),
            ("data-off.qcow2", "qcow2"),
            ("data-xl2.qcow2", "qcow2"),
            ("snap-sizes.qcow2", "qcow2"),
            ("snap-zlib.qcow2", "qcow2"),
            ("plain.qcow", "qcow"),
            ("packed.qcow", "qcow"),
            ("over-raw.qcow", "qcow"),
            ("c4096-t2.qed", "qed"),
            ("over-raw.qed", "qed"),
        ],
    );
}

/// Every verb reads the layer that is asked for: a disk whose file system was replaced after a snapshot was taken.
#[test]
fn layer_is_an_option_of_every_verb() {
    requires!("qemu-img", "mkfs.ext4", "root", "fuse");
    let dir = common::tempdir();
    let at = dir.path().display();
    common::sh(&format!(
        "cd '{at}'; mkdir -p old new mnt; echo before > old/file; echo after > new/file
         for name in old new; do truncate -s 4M $name.raw; mkfs.ext4 -q -d $name $name.raw; done
         qemu-img convert -f raw -O qcow2 old.raw x.qcow2; qemu-img snapshot -c 'the old' x.qcow2
         qemu-img convert -n -f raw -O qcow2 new.raw x.qcow2
         qemu-img create -q -f qcow2 -b old.raw -F raw over.qcow2; qemu-img convert -n -f raw -O qcow2 new.raw over.qcow2"
    ));
    let run = |words: &str| {
        let output = common::sh(&format!("cd '{at}'; '{}' {words}", common::IMGMOUNT));
        output.trim().to_owned()
    };
    let sum =
        |name: &str| common::sh(&format!("cd '{at}'; sha256sum < {name} | cut -c1-64")).trim().to_owned();
    assert_eq!(
        (run("cat x.qcow2:/file"), run("cat --layer 'the old' x.qcow2:/file")),
        ("after".into(), "before".into())
    );
    assert_eq!(run("hash --layer 1 x.qcow2"), format!("{}  x.qcow2", sum("old.raw")));
    assert_eq!(
        run("hash --layer old.raw --allow-parent . over.qcow2"),
        format!("{}  over.qcow2", sum("old.raw"))
    );
    assert_eq!(run("--layer snapshot.id=1 x.qcow2 -- cat file"), "before");
    assert_eq!(run("find --layer 1 --hash --jsonl x.qcow2:/file"), run("find --hash --jsonl old.raw:/file"));
    run("serve --layer 1 x.qcow2 --run 'qemu-img compare -f raw -F raw \"$uri\" old.raw'");
    run(
        "serve x.qcow2 --run 'qemu-img compare -f raw -F raw \"nbd+unix:///layer:the%20old?socket=$unixsocket\" old.raw'",
    );
    let json = |words: &str| -> serde_json::Value { serde_json::from_str(&run(words)).unwrap() };
    let info = json("info --json --layer 1 x.qcow2");
    assert_eq!(
        (&info["layers"][1]["snapshot"], &info["layers"][1]["name"]),
        (&"1".into(), &"the old".into())
    );
    assert_eq!(
        (&info["container"]["layer"], &info["layers"][1]["virtual_size"]),
        (&"1: snapshot.id=1".into(), &(4 << 20).into())
    );
    let base = json("info --json --layer 1 --allow-parent . over.qcow2");
    assert_eq!((&base["format"], &base["subformat"]), (&"raw".into(), &serde_json::Value::Null));
    // The map is that of the snapshot: at the file's first byte stands what was there before.
    let run = &json("map --json --layer 1 x.qcow2:/file")["runs"][0];
    let container = std::fs::read(dir.path().join("x.qcow2")).unwrap();
    assert_eq!(&container[run["container_offset"].as_u64().unwrap() as usize..][..7], b"before\n");
}

#[test]
fn an_unknown_layer_is_a_no_with_the_list() {
    requires!("qemu-img", "qemu-io");
    let image = family().join("snap-over.qcow2");
    let output = common::imgmount([
        "info".as_ref(),
        "--layer".as_ref(),
        "four".as_ref(),
        "--allow-parent".as_ref(),
        family().as_os_str(),
        image.as_os_str(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = common::stderr(&output);
    assert!(
        said.contains("no layer 'four'") && said.contains("2 (snapshot 1, 'one'), 3 (snapshot 2, 'two')"),
        "{said}"
    );
}
