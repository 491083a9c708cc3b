//! Whatever is in a folder is in that folder's list, under its own name; and no two formats claim the same bytes, the
//! samples' formats being known from the tools that made them (`tests/make/samples.sh`).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use imgmount::block::Probe;
use imgmount::check::{GROUPS, checks, profile};
use imgmount::fs::FILESYSTEMS;
use imgmount::image::{Confidence, FORMATS};
use imgmount::source::SCHEMES;
use imgmount::volume::MANAGERS;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

/// A folder and the list that its files stand in.
struct Registry {
    folder: &'static str,
    /// The file that holds the list.
    file: &'static str,
    /// What the list begins and ends with.
    list: &'static str,
    end: &'static str,
    /// Files that are no members, but serve those that are.
    helpers: &'static [&'static str],
}

const REGISTRIES: &[Registry] = &[
    Registry {
        folder: "src/image",
        file: "src/image/mod.rs",
        list: "pub const FORMATS:",
        end: "\n}",
        helpers: &[
            "backing",
            "checkpoint",
            "ciphered",
            "clusters",
            "foreign",
            "layer",
            "pages",
            "parent",
            "segments",
            "unpack",
            "wrapper",
            "xml",
        ],
    },
    Registry {
        folder: "src/volume",
        file: "src/volume/mod.rs",
        list: "pub const MANAGERS:",
        end: "\n}",
        helpers: &["discover", "pieces", "raid"],
    },
    Registry {
        folder: "src/fs",
        file: "src/fs/mod.rs",
        list: "pub const FILESYSTEMS:",
        end: "\n}",
        helpers: &[
            "chain",
            "codec",
            "identity",
            "lzo",
            "marks",
            "meta",
            "overlay",
            "runs",
            "signature",
            "tree",
            "unicode",
        ],
    },
    Registry {
        folder: "src/source",
        file: "src/source/mod.rs",
        list: "pub const SCHEMES:",
        end: "\n}",
        helpers: &["dial", "gate", "memory", "spool", "turns"],
    },
    Registry {
        folder: "src/check/rules/disk",
        file: "src/check/rules/disk/mod.rs",
        list: "const CHECKS:",
        end: "\n}",
        helpers: &[],
    },
    Registry {
        folder: "src/check/rules/boot",
        file: "src/check/rules/boot/mod.rs",
        list: "const CHECKS:",
        end: "\n}",
        helpers: &["early", "entry"],
    },
    Registry {
        folder: "src/check/rules/system",
        file: "src/check/rules/system/mod.rs",
        list: "const CHECKS:",
        end: "\n}",
        helpers: &[],
    },
    Registry {
        folder: "src/check/rules/config",
        file: "src/check/rules/config/mod.rs",
        list: "const CHECKS:",
        end: "\n}",
        helpers: &["lines"],
    },
    Registry {
        folder: "src/check/rules/access",
        file: "src/check/rules/access/mod.rs",
        list: "const CHECKS:",
        end: "\n}",
        helpers: &[],
    },
    Registry {
        folder: "src/check/rules/windows",
        file: "src/check/rules/windows/mod.rs",
        list: "const CHECKS:",
        end: "\n}",
        helpers: &[],
    },
    Registry {
        folder: "src/check/profiles",
        file: "src/check/profile.rs",
        list: "pub const PROFILES:",
        end: "];",
        helpers: &[],
    },
    Registry {
        folder: "src/verify",
        file: "src/verify/mod.rs",
        list: "pub const READERS:",
        end: "\n}",
        helpers: &["child", "compare"],
    },
    Registry {
        folder: "src/cli",
        file: "src/cli/mod.rs",
        list: "\nverbs!",
        end: "\n}",
        helpers: &["content", "entry", "metrics", "out", "plan", "unlock"],
    },
];

/// The members of a folder: its files and folders without their endings, but for `mod.rs`.
fn members(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let names = entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    names.filter(|name| name != "mod").collect()
}

/// What is wrong with a folder of these members whose list's file reads so.
fn complaints(registry: &Registry, members: &BTreeSet<String>, text: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once(registry.list) else {
        return vec![format!("{}: no list '{}'", registry.file, registry.list)];
    };
    let list = rest.split(registry.end).next().unwrap();
    // A profile's name may have a hyphen in it, a module's never.
    let listed: BTreeSet<&str> = list
        .lines()
        .map(|line| line.split("//").next().unwrap())
        .flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-'))
        .collect();
    let helper = |name: &str| registry.helpers.contains(&name);
    let mut found = Vec::new();
    for name in members {
        match (listed.contains(name.as_str()), helper(name)) {
            (false, false) => {
                found.push(format!("{}/{name} is not in the list of {}", registry.folder, registry.file));
            }
            (true, true) => found.push(format!("{}/{name} is listed and called a helper", registry.folder)),
            _ => {}
        }
    }
    let gone = registry.helpers.iter().filter(|name| !members.contains(**name));
    found.extend(gone.map(|name| format!("{}/{name}, called a helper, is not there", registry.folder)));
    found
}

#[test]
fn every_file_is_in_its_list() {
    let mut found = Vec::new();
    for registry in REGISTRIES {
        let text = fs::read_to_string(common::root().join(registry.file)).unwrap();
        found.extend(complaints(registry, &members(&common::root().join(registry.folder)), &text));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_planted_violation_is_found() {
    let registry =
        Registry { folder: "f", file: "f/mod.rs", list: "pub const LIST:", end: "\n}", helpers: &["help"] };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let text =
        "mod e;\nregistry! {\n    pub const LIST: &[&X];\n    mod a => X;\n    mod b => X; // c\n}\nmod d;\n";
    assert!(complaints(&registry, &set(&["a", "b", "help"]), text).is_empty());
    // In the folder, not in the list; a comment and what stands around the list do not count.
    assert_eq!(complaints(&registry, &set(&["a", "b", "c", "help"]), text).len(), 1);
    assert_eq!(complaints(&registry, &set(&["a", "d", "help"]), text).len(), 1);
    assert_eq!(complaints(&registry, &set(&["a", "e", "help"]), text).len(), 1);
    // A helper that is not there, one that is listed, and no list at all.
    assert_eq!(complaints(&registry, &set(&["a", "b"]), text).len(), 1);
    assert_eq!(complaints(&registry, &set(&["help"]), "pub const LIST: mod help => X;\n}").len(), 1);
    assert_eq!(complaints(&registry, &set(&["a", "help"]), "pub const OTHER: mod a => X;\n}").len(), 1);
}

/// Those that occur more than once.
fn repeated<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.into_iter().filter(|name| !seen.insert(*name)).collect()
}

#[test]
fn no_name_is_used_twice() {
    let formats = FORMATS.iter().flat_map(|format| format.aliases.iter().copied().chain([format.name]));
    assert_eq!(repeated(formats), [""; 0]);
    assert_eq!(repeated(MANAGERS.iter().map(|manager| manager.name)), [""; 0]);
    assert_eq!(repeated(FILESYSTEMS.iter().map(|kind| kind.name)), [""; 0]);
    assert_eq!(repeated(SCHEMES.iter().flat_map(|scheme| scheme.names.iter().copied())), [""; 0]);
    assert_eq!(repeated(checks().map(|check| check.id())), [""; 0]);
    assert_eq!(repeated(["a", "b", "a"]), ["a"]);
}

#[test]
fn a_name_is_that_of_its_file() {
    let folders = [
        ("src/image", FORMATS.iter().map(|format| format.name.to_owned()).collect::<Vec<_>>()),
        ("src/volume", MANAGERS.iter().map(|manager| manager.name.to_owned()).collect()),
        ("src/check/profiles", profile::all().unwrap().into_iter().map(|profile| profile.id).collect()),
    ];
    let rules = GROUPS.iter().map(|(group, checks)| {
        let names = checks.iter().map(|check| check.id().replace('-', "_")).collect();
        (format!("src/check/rules/{group}"), names)
    });
    for (folder, names) in folders.map(|(folder, names)| (folder.to_owned(), names)).into_iter().chain(rules)
    {
        let members = members(&common::root().join(&folder));
        let strangers: Vec<&String> = names.iter().filter(|name| !members.contains(*name)).collect();
        assert!(strangers.is_empty(), "{folder}: no file for {strangers:?}");
    }
}

#[test]
fn raw_stands_last_and_alone_has_no_signature() {
    assert_eq!(FORMATS.last().unwrap().name, "raw");
    let nothing = Probe { head: &[], tail: &[], len: 0, name: "" };
    let fallbacks: Vec<&str> = FORMATS
        .iter()
        .filter(|format| (format.probe)(&nothing) == Some(Confidence::Fallback))
        .map(|format| format.name)
        .collect();
    assert_eq!(fallbacks, ["raw"]);
}

/// The samples and what they are, as the tools were told that made them.
const SAMPLES: &[(&str, &str)] = &[
    ("debian.raw", "raw"),
    ("debian.qcow2", "qcow2"),
    ("debian-zlib.qcow2", "qcow2"),
    ("debian-zstd.qcow2", "qcow2"),
    ("debian.qcow", "qcow"),
    ("debian.qed", "qed"),
    ("debian.vmdk", "vmdk"),
    ("debian-stream.vmdk", "vmdk"),
    ("debian-flat.vmdk", "vmdk"),
    ("debian-flat-flat.vmdk", "raw"),
    ("debian-split.vmdk", "vmdk"),
    ("debian-split-s001.vmdk", "vmdk"),
    ("debian.vhd", "vhd"),
    ("debian-fixed.vhd", "vhd"),
    ("debian.vhdx", "vhdx"),
    ("debian.vdi", "vdi"),
    ("debian.ova", "ova"),
    ("debian.ovf", "ovf"),
    ("debian.tar", "tar"),
    ("locked.luks", "luks"),
    ("broken.qcow2", "qcow2"),
];

/// Formats without a sample: tests/image.rs reads every kind of them, from the sets of `tests/make/formats` or made there.
const IN_SETS: &[&str] =
    &["gzip", "xz", "zstd", "bzip2", "zvhd", "ewf", "dmg", "sparseimage", "parallels", "split"];

fn sample(name: &str) -> Vec<u8> {
    let packed = fs::read(common::root().join(format!("samples/{name}.xz"))).unwrap();
    let mut bytes = Vec::new();
    lzma_rust2::XzReader::new(packed.as_slice(), false).read_to_end(&mut bytes).unwrap();
    bytes
}

/// What a prober sees of an image of these bytes.
fn probe(bytes: &[u8]) -> Probe<'_> {
    let head = &bytes[..bytes.len().min(Probe::HEAD as usize)];
    let tail = &bytes[bytes.len().saturating_sub(Probe::TAIL as usize)..];
    Probe { head, tail, len: bytes.len() as u64, name: "" }
}

/// The formats whose signature stands in the image.
fn claims(probe: &Probe<'_>) -> Vec<&'static str> {
    let signed = FORMATS.iter().filter(|format| (format.probe)(probe) == Some(Confidence::Signature));
    signed.map(|format| format.name).collect()
}

#[test]
fn every_format_has_a_sample_and_every_sample_is_claimed_by_its_format_alone() {
    let sampled: BTreeSet<&str> = SAMPLES.iter().map(|(_, format)| *format).collect();
    let known = |name: &&str| sampled.contains(name) || IN_SETS.contains(name);
    let without: Vec<&str> = FORMATS.iter().map(|format| format.name).filter(|name| !known(name)).collect();
    assert!(without.is_empty(), "no sample of {without:?}: tests/make/samples.sh");
    for (name, format) in SAMPLES {
        let expected: &[&str] = if *format == "raw" { &[] } else { &[format] };
        assert_eq!(claims(&probe(&sample(name))), expected, "{name}");
    }
}

#[test]
fn samples_on_disk_are_those_of_the_table() {
    let folder = common::root().join("samples");
    let there: BTreeSet<String> = members(&folder);
    assert_eq!(there, SAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect());
}

#[test]
fn probes_bear_short_images() {
    for (name, _) in SAMPLES {
        let bytes = sample(name);
        for len in [0, 1, 2, 3, 4, 10, 510, 511, 512, 513, 1023, 1024, 4096, 65536, 68 << 10] {
            let short = &bytes[..len.min(bytes.len())];
            let probe = probe(short);
            assert!(claims(&probe).len() <= 1, "{name} cut to {len}: {:?}", claims(&probe));
            for manager in MANAGERS {
                (manager.claims)(&probe);
            }
            for kind in FILESYSTEMS {
                (kind.claims)(&probe);
            }
        }
    }
}

#[test]
fn nothing_is_claimed_where_nothing_is() {
    for len in [0, 10, 4096, 1 << 20] {
        let zeros = vec![0; len];
        let probe = probe(&zeros);
        assert_eq!(claims(&probe), [""; 0], "{len} zeros");
        assert!(!MANAGERS.iter().any(|manager| (manager.claims)(&probe)), "{len} zeros");
        assert!(!FILESYSTEMS.iter().any(|kind| (kind.claims)(&probe)), "{len} zeros");
    }
}

#[test]
fn a_file_systems_first_bytes_are_no_image_and_no_partition_table() {
    let disk = sample("debian.raw");
    let volume = &disk[1 << 20..];
    let probe = probe(volume);
    assert_eq!(claims(&probe), [""; 0]);
    assert!(!MANAGERS.iter().any(|manager| (manager.claims)(&probe)));
    let kinds: Vec<&str> =
        FILESYSTEMS.iter().filter(|kind| (kind.claims)(&probe)).map(|kind| kind.name).collect();
    assert_eq!(kinds.len(), 1, "{kinds:?}");
}
