//! Hives of the Windows registry: each key and value is what hivex reads, a hive whose writing was cut off is completed
//! from its logs, and a damaged one ends in errors. The hives are made by `tests/make/hive.py`; those of real Windows are
//! samples of other projects.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]

mod common;
#[path = "hives/damage.rs"]
mod damage;
#[path = "hives/logs.rs"]
mod logs;
#[path = "hives/samples.rs"]
mod samples;

use common::sh;
use imgmount::error::Result;
use imgmount::guest::registry::{Bytes, Hive, Key, Logs, ValueKind};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One of everything.
const TEXT: &str = r#"
[Select]
"Current"=dword:00000001
[ControlSet001\Services\viostor] class "klasse"
@="default"
"Start"=dword:00000000
"ImagePath"=expand:"System32\\drivers\\viostor.sys"
"Group"=multi:"SCSI miniport","b"
"Five"=hex:01,02,03,04,05
"Three"=hex:01,02,03
"Nothing"=hex:
"Quad"=qword:1122334455667788
"Own"=hex(ffff0012):41,00
"Cell"=fill:16344
"Two parts"=fill:16345
"Three parts"=fill:40000
[Ünïcode\日本語]
"名"="wert\u00e9\nzwei"
[Half &#xd83d;]
"#;

/// A directory with hives; removed at the end.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Makes a hive called `name`.
    fn make(&self, name: &str, options: &str, text: &str) -> PathBuf {
        let text = self.text(&format!("{name}.txt"), text);
        let hive = self.path(name);
        let script = common::root().join("tests/make/hive.py");
        sh(&format!("'{}' {options} '{}' '{}'", script.display(), text.display(), hive.display()));
        hive
    }
}

/// 1200 subkeys, for lists of more than one leaf.
fn many() -> String {
    (0..1200).fold(TEXT.to_owned(), |mut text, n| {
        writeln!(text, "[Many\\key {n:04}]\n\"number\"=dword:{n:x}").unwrap();
        text
    })
}

fn bytes(path: &Path) -> Arc<dyn Bytes> {
    Arc::new(fs::read(path).unwrap())
}

fn open(hive: &Path) -> Result<Hive> {
    Hive::open(bytes(hive), &Logs::default())
}

/// A hive with whatever logs lie beside it.
fn open_with_logs(hive: &Path) -> Hive {
    let log = |ending| {
        let path = PathBuf::from(format!("{}.{ending}", hive.display()));
        path.exists().then(|| bytes(&path))
    };
    Hive::open(bytes(hive), &Logs { log: log("LOG"), log1: log("LOG1"), log2: log("LOG2") }).unwrap()
}

/// Every key and value, as `tests/make/walk_hive.py` lists them, and every error.
fn walk(hive: &Hive) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    match hive.root() {
        Ok(root) => below(&root, "", &mut lines, &mut errors),
        Err(error) => errors.push(error.chain()),
    }
    (lines, errors)
}

fn below(key: &Key, path: &str, lines: &mut Vec<String>, errors: &mut Vec<String>) {
    let name = |name: &imgmount::text::Text| String::from_utf8_lossy(name.as_bytes()).into_owned();
    lines.push(format!("{path}|{}", key.last_written()));
    for value in key.values() {
        match value.and_then(|value| Ok((value.data()?, value))) {
            Ok((data, value)) => {
                let data: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
                lines.push(format!("{path}|{}|{}|{data}", name(value.name()), value.kind().number()));
            }
            Err(error) => errors.push(error.chain()),
        }
    }
    for child in key.subkeys() {
        match child {
            Ok(child) => below(&child, &format!("{path}\\{}", name(child.name())), lines, errors),
            Err(error) => errors.push(error.chain()),
        }
    }
}

/// The same by hivex.
fn hivex(hive: &Path) -> Vec<String> {
    let script = common::root().join("tests/make/walk_hive.py");
    let listing = sh(&format!("'{}' '{}'", script.display(), hive.display()));
    // A name or a text may hold a line's end; no line begins without a path otherwise.
    listing.lines().map(str::to_owned).collect()
}

fn same_as_hivex(hive: &Path) -> usize {
    let (ours, errors) = walk(&open(hive).unwrap());
    assert_eq!(errors, [""; 0], "{}", hive.display());
    let theirs = hivex(hive);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "{}", hive.display());
    }
    assert_eq!(ours.len(), theirs.len(), "{}", hive.display());
    ours.len()
}

#[test]
fn every_version_and_kind_of_list_is_what_hivex_reads() {
    requires!("hivexsh");
    let place = Place::new();
    // hivex gives up on a name that is half a surrogate pair.
    let text = many().replace("[Half &#xd83d;]\n", "");
    for options in [
        "--minor 3 --list li",
        "--minor 3",
        "--minor 4",
        "--minor 5",
        "--minor 6 --list lf",
        "--minor 5 --leaf 100",
        "--minor 4 --list li --leaf 7",
        "--minor 5 --utf16",
    ] {
        let hive = place.make("hive", options, &text);
        assert_eq!(same_as_hivex(&hive), 2422, "{options}");
    }
}

#[test]
fn values_are_taken_apart_by_their_types() {
    requires!("python3");
    let place = Place::new();
    let hive = open(&place.make("SYSTEM", "--name '\\SystemRoot\\System32\\Config\\SYSTEM'", TEXT)).unwrap();
    assert_eq!(hive.name().as_bytes(), b"\\SystemRoot\\System32\\Config\\SYS");
    assert!(!hive.is_dirty() && hive.warnings().is_empty());

    let key = hive.key("controlset001\\SERVICES\\VioStor").unwrap().unwrap();
    let value = |name: &str| key.value(name).unwrap().unwrap();
    assert_eq!(key.class().unwrap().unwrap().as_bytes(), b"klasse");
    assert_eq!(value("").text().unwrap().as_bytes(), b"default");
    assert_eq!(value("start").number().unwrap(), 0);
    assert_eq!(value("imagepath").text().unwrap().as_bytes(), b"System32\\drivers\\viostor.sys");
    assert_eq!(value("imagepath").kind(), ValueKind::ExpandSz);
    let group: Vec<Vec<u8>> =
        value("GROUP").texts().unwrap().iter().map(|text| text.as_bytes().to_vec()).collect();
    assert_eq!(group, [b"SCSI miniport".to_vec(), b"b".to_vec()]);
    assert_eq!(value("Five").data().unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(value("Three").data().unwrap(), [1, 2, 3]);
    assert!(value("Nothing").data().unwrap().is_empty());
    assert_eq!(value("Quad").number().unwrap(), 0x1122_3344_5566_7788);
    assert_eq!(value("Own").kind(), ValueKind::Other(0xffff_0012));
    for (name, len) in [("Cell", 16344), ("Two parts", 16345), ("Three parts", 40000)] {
        let expected: Vec<u8> = (0..len).map(|n: u32| (n % 251) as u8).collect();
        assert_eq!(value(name).data().unwrap(), expected, "{name}");
    }

    assert!(value("Start").text().is_err() && value("").number().is_err());
    assert!(key.value("Stop").unwrap().is_none());
}

#[test]
fn a_key_is_found_in_any_case_and_only_if_it_is_there() {
    requires!("python3");
    let place = Place::new();
    for options in ["--list lh --leaf 100", "--list lf", "--list li", "--utf16"] {
        let hive = open(&place.make("hive", options, &many())).unwrap();
        let found = |path: &str| hive.key(path).unwrap().is_some();
        assert!(found("MANY\\KEY 0000") && found("many\\Key 0777") && found("Many\\key 1199"), "{options}");
        assert!(found("üNÏCODE\\日本語") && found(""), "{options}");
        assert!(!found("Many\\key 1200") && !found("Many\\key 11") && !found("Ünïcode\\日本"), "{options}");
        // It has no name in UTF-8, and is listed.
        let half = hive.root().unwrap().subkeys().filter_map(Result::ok);
        assert_eq!(half.filter(|key| key.name().as_bytes() == b"Half \xed\xa0\xbd").count(), 1, "{options}");
    }
}
