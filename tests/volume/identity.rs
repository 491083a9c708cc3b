//! What stands on a volume is called as `blkid` calls it, with its UUID and label: on every probe sample of util-linux.

use crate::{common, requires};
use imgmount::block::{BlockSource, ProbeBytes, check_range};
use imgmount::budget::{Budget, Limits};
use imgmount::engine::Mapper;
use imgmount::error::{Error, Result};
use imgmount::fs::identity::identity;
use imgmount::fs::{Content, FsCx, Journal, detect};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// Type, UUID and label.
type Told = (String, String, Vec<u8>);

/// Where we say something else than `blkid`, and why.
const OTHER: &[(&str, &str)] = &[
    (
        "fs_udf-multi-0-320-640-mkudffs",
        "several sessions, of which the reader refuses the last: it is said, with the place",
    ),
    (
        "ts_isosize_sample",
        "descriptors with nothing behind them: the head of a medium that was cut off is not taken for one",
    ),
];

/// A value as `blkid -o export` writes it: backslashes before what a shell would take, and `M-^X` for what is not ASCII.
fn plain(value: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    let unslash = |rest: &mut &[u8]| {
        if rest[0] == b'\\' {
            *rest = &rest[1..];
        }
        let byte = rest[0];
        *rest = &rest[1..];
        byte
    };
    while !rest.is_empty() {
        let mut high = 0;
        if rest.starts_with(b"M-") {
            (high, rest) = (0x80, &rest[2..]);
        }
        let byte = unslash(&mut rest);
        let byte = if byte == b'^' && !rest.is_empty() { unslash(&mut rest) ^ 0x40 } else { byte };
        bytes.push(byte | high);
    }
    bytes
}

fn theirs(path: &Path) -> Told {
    let text = std::fs::read_to_string(path).unwrap();
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    (field("TYPE="), String::from_utf8(plain(&field("UUID="))).unwrap_or_default(), plain(&field("LABEL=")))
}

/// A file, which may be larger than what is in it.
#[derive(Debug)]
struct Sparse(std::fs::File, u64);

impl BlockSource for Sparse {
    fn len(&self) -> u64 {
        self.1
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.1)?;
        self.0.read_exact_at(buf, offset).map_err(|error| Error::io("a sample", error))
    }
}

pub(crate) fn ours(path: &Path) -> std::result::Result<Told, String> {
    let file = std::fs::File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let volume: Arc<dyn BlockSource> = Arc::new(Sparse(file, len));
    let mapper = Mapper::new(Arc::default());
    let cx = FsCx {
        budget: &Budget::new(Limits::OPEN),
        mapper: &mapper,
        journal: Journal::Replay,
        is_one_of_copies: false,
        shows_meta: false,
    };
    let told = |kind: &str, uuid: Option<String>, label: &[u8]| {
        Ok((kind.to_owned(), uuid.unwrap_or_default(), label.to_vec()))
    };
    match detect(&volume, &cx).map_err(|error| error.chain())? {
        Content::Files(fs) => {
            let facts = fs.facts();
            told(facts.kind, facts.uuid, facts.label.as_bytes())
        }
        Content::Known(kind) => {
            let known = identity(kind, &ProbeBytes::read(&*volume, "").unwrap());
            told(kind, known.uuid, known.label.as_bytes())
        }
        _ => told("", None, b""),
    }
}

#[test]
fn samples_are_called_what_blkid_calls_them() {
    requires!("corpus", "xz");
    let folder = common::corpus().unwrap().join("fs/util-linux");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|ext| ext == "blkid"));
    names.sort();
    let (mut equal, mut wrong, mut other) = (0, Vec::new(), Vec::new());
    for path in &names {
        let sample = path.with_extension("");
        let theirs = theirs(path);
        if theirs.0.is_empty() || !sample.exists() {
            continue; // a partition table alone, or a sample that was too large to keep
        }
        let ours = ours(&common::samples::unpacked(&sample));
        let name = sample.file_name().unwrap().to_str().unwrap().to_owned();
        let fits = |ours: &Told| {
            ours.0 == theirs.0
                && (ours.1.is_empty() || ours.1.eq_ignore_ascii_case(&theirs.1))
                && (ours.2.is_empty() || ours.2 == theirs.2)
        };
        if ours.as_ref().is_ok_and(fits) {
            equal += 1;
        } else if OTHER.iter().any(|(sample, _)| name.contains(sample)) {
            other.push(name);
        } else {
            wrong.push(format!("{name}: {ours:?}, blkid {theirs:?}"));
        }
    }
    println!("{equal} equal, {} with a reason: {other:?}", other.len());
    assert!(wrong.is_empty(), "{equal} equal, but:\n{}", wrong.join("\n"));
    assert!(equal > 120 && other.len() <= OTHER.len(), "{equal} {other:?}");
}
