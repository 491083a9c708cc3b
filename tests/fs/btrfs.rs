//! btrfs, on one device and on several.

use super::*;

/// A file system made by `mkfs.btrfs` with these arguments, mounted with these options and filled by
/// `tests/make/tree.py`.
fn make(mkfs: &str, options: &str, size: &str, tree: &str) -> Made {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s {size} {0}; mkfs.btrfs -q -f -L 'a label' {mkfs} {0}", disk.display()));
    let script = common::root().join("tests/make/tree.py");
    let mounted = Mounted::new(&disk, options);
    let at = mounted.at.display();
    common::sh(&format!(
        "python3 {} {at} $(stat -f -c %s {at}) {tree}
         cd {at}; mkdir packed; (yes 'some text that packs well' || true) | head -c 3000001 > packed/text
         head -c 700000 /dev/zero > packed/zeros; cp --reflink=always packed/text packed/again
         dd if=packed/text of=packed/text bs=4096 skip=3 seek=200 count=5 conv=notrunc status=none
         head -c 900 packed/text > packed/small; truncate -s 5000 packed/small
         setfattr -n btrfs.compression -v zstd packed || true",
        script.display()
    ));
    drop(mounted);
    Made { disk, _dir: dir }
}

/// What `dump-super` says under a key.
fn dump_super(disk: &Path) -> impl Fn(&str) -> String + use<> {
    let dump = common::sh(&format!("btrfs inspect-internal dump-super {}", disk.display()));
    move |key: &str| {
        let line = dump.lines().find(|line| line.split_whitespace().next() == Some(key));
        line.unwrap_or_else(|| panic!("{key}\n{dump}")).split_whitespace().nth(1).unwrap().to_owned()
    }
}

/// Makes one, and compares every path, and what it says of itself with `dump-super`.
#[track_caller]
fn same_as_kernel(mkfs: &str, options: &str, size: &str, tree: &str) -> (Made, Fs) {
    let made = make(mkfs, options, size, tree);
    let fs = open(&file(&made.disk)).unwrap();
    let expected = kernel(&Mounted::new(&made.disk, "ro").at);
    assert!(expected.len() > 6500, "the tree was not made");
    same(&ours(&fs), &expected, mkfs);

    let facts = fs.facts();
    let says = dump_super(&made.disk);
    let number = |key: &str| says(key).parse::<u64>().unwrap();
    assert_eq!(facts.uuid.unwrap(), says("fsid"));
    assert_eq!(facts.label.as_utf8().unwrap(), "a label");
    assert_eq!(u64::from(facts.block_size), number("sectorsize"));
    assert_eq!(facts.size, number("total_bytes"));
    assert_eq!(facts.free, number("total_bytes") - number("bytes_used"));
    assert_eq!((facts.state, facts.warnings.as_slice()), (State::Clean, [].as_slice()));
    let dump = common::sh(&format!("btrfs inspect-internal dump-super {}", made.disk.display()));
    let named = |after: &str| {
        let start = dump.find(after).unwrap();
        let names = dump[start..].lines().nth(1).filter(|line| line.contains('(')).unwrap_or_default();
        let mut all = dump[start..].lines().skip(1).take_while(|line| line.starts_with("\t\t\t"));
        let all: String = all.by_ref().collect();
        assert!(all.contains(names.trim()));
        all.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let mut names = named("compat_ro_flags");
    names.extend(named("incompat_flags"));
    assert_eq!(facts.features, names);
    (made, fs)
}

macro_rules! variants {
    ($($name:ident: $mkfs:expr, $options:expr, $size:expr;)*) => {$(
        #[test]
        fn $name() {
            requires!("root", "loop", "mkfs.btrfs", "python3", "setfattr");
            same_as_kernel($mkfs, $options, $size, "");
        }
    )*};
}

variants! {
    with_mixed_block_groups: "-M", "rw", "300M";
    packed_with_zlib: "", "compress-force=zlib", "300M";
    packed_with_lzo: "", "compress-force=lzo", "300M";
    packed_with_zstd: "--csum xxhash", "compress-force=zstd", "300M";
    with_sha256: "--csum sha256 -d DUP", "rw", "500M";
    with_blake2_and_large_nodes: "--csum blake2 -n 65536", "rw", "300M";
    with_holes_that_have_items: "-O ^no-holes -n 4096", "rw", "300M";
}

#[test]
fn by_default() {
    requires!("root", "loop", "mkfs.btrfs", "python3", "setfattr");
    let (made, fs) = same_as_kernel("", "rw", "300M", "large");
    listing_goes_on_from_every_place(&fs);
    reads_at_odd_places_agree(&made, &fs);
}
