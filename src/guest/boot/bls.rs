//! Entries of the Boot Loader Specification (uapi-group.org, "Type #1"): one file each in `/boot/loader/entries`.

use super::shell::Environment;
use super::{Entry, without_device};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::evidence::excerpt;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use std::cmp::Ordering;

/// Where GRUB looks for them.
pub(super) const DIR: &str = "/boot/loader/entries";

/// An entry with what menus are sorted by.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) entry: Entry,
    pub(super) sort_key: Vec<u8>,
    pub(super) machine_id: Vec<u8>,
    pub(super) version: Vec<u8>,
}

/// Every entry, the newest first, as GRUB's `blscfg` shows them: by the names of the files, which are those of packages
/// (grub2 of Red Hat, `blscfg.c`). `$kernelopts` and other variables in `options` are the script's.
pub(super) fn of_grub(tree: &Tree, variables: &Environment) -> Result<Vec<Entry>> {
    let mut found = read(tree, DIR, variables)?;
    found.sort_by(|a, b| {
        let (one, other) = (package(&a.entry.id), package(&b.entry.id));
        let mut parts = one.iter().zip(other).map(|(one, other)| compare(other, one));
        parts.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    Ok(found.into_iter().map(|sorted| sorted.entry).collect())
}

/// Name, version and release: `MACHINE`, `5.14.0`, `70.el9.x86_64`.
fn package(id: &[u8]) -> [&[u8]; 3] {
    let mut parts = id.rsplitn(3, |byte| *byte == b'-');
    let release = parts.next().unwrap_or_default();
    let version = parts.next().unwrap_or_default();
    [parts.next().unwrap_or_default(), version, release]
}

/// Every entry, by the names of the files.
pub(super) fn read(tree: &Tree, directory: &str, variables: &Environment) -> Result<Vec<Sorted>> {
    let mut found = Vec::new();
    for name in file::names(tree, directory)? {
        let Some(id) = name.strip_suffix(b".conf") else { continue };
        let Some(file) = file::read(tree, [directory.as_bytes(), b"/", &name].concat(), MAX_CONFIG)? else {
            continue;
        };
        found.push(parse(&file, id, variables));
    }
    Ok(found)
}

fn parse(file: &GuestFile, id: &[u8], variables: &Environment) -> Sorted {
    let entry = Entry { id: id.to_vec(), evidence: file.evidence("boot menu entry"), ..Entry::default() };
    let mut found = Sorted { entry, ..Sorted::default() };
    for (line, text) in file.lines() {
        let text = text.trim_ascii();
        let split = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
        let Some((key, rest)) = text.split_at_checked(split) else { continue };
        let rest = rest.trim_ascii();
        let words = |text: &[u8]| {
            let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            words.map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let entry = &mut found.entry;
        match key {
            b"title" => entry.title = excerpt(rest),
            b"version" => found.version = rest.to_vec(),
            b"sort-key" => found.sort_key = rest.to_vec(),
            b"machine-id" => found.machine_id = rest.to_vec(),
            b"linux" => {
                entry.kernel = without_device(rest);
                entry.evidence = file.evidence("boots this kernel").line(line, text);
            }
            // Red Hat appends $tuned_initrd, which is empty unless tuned made one.
            b"initrd" => {
                let files = words(rest).into_iter().filter(|word| !word.starts_with(b"$"));
                entry.initrds.extend(files.map(|word| without_device(&word)));
            }
            b"options" => {
                for word in words(rest) {
                    match word.strip_prefix(b"$").and_then(|name| variables.get(name)) {
                        Some(known) => entry.args.extend(words(known)),
                        None => entry.args.push(word),
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// Compares versions as package managers and systemd do (uapi-group.org, "Version Format Specification"): `~` is before
/// the end, the end before `-`, `^` and `.`, these before letters, letters before numbers; other bytes only separate.
pub(in crate::guest) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        (a, b) = (meaningful(a), meaningful(b));
        let (first_a, first_b) = (a.first().copied(), b.first().copied());
        if let Some(order) = separator(b'~', first_a, first_b) {
            match order {
                Ordering::Equal => {
                    (a, b) = (a.get(1..).unwrap_or_default(), b.get(1..).unwrap_or_default());
                    continue;
                }
                unequal => return unequal,
            }
        }
        let (Some(_), Some(_)) = (first_a, first_b) else { return a.len().cmp(&b.len()) };
        if let Some(order) = b"-^.".iter().find_map(|mark| separator(*mark, first_a, first_b)) {
            match order {
                Ordering::Equal => {
                    (a, b) = (a.get(1..).unwrap_or_default(), b.get(1..).unwrap_or_default());
                    continue;
                }
                unequal => return unequal,
            }
        }
        let kind: fn(&u8) -> bool = match (first_a, first_b) {
            (Some(one), Some(other)) if one.is_ascii_digit() || other.is_ascii_digit() => u8::is_ascii_digit,
            _ => u8::is_ascii_alphabetic,
        };
        let run = |text: &[u8]| text.iter().take_while(|byte| kind(byte)).count();
        let (Some((one, rest_a)), Some((two, rest_b))) =
            (a.split_at_checked(run(a)), b.split_at_checked(run(b)))
        else {
            return a.cmp(b);
        };
        let is_number = one.iter().chain(two).all(u8::is_ascii_digit);
        let (long, other) = if is_number { (trim_zeros(one), trim_zeros(two)) } else { (one, two) };
        // A number against letters has an empty run on the other side, and is the later one.
        let by_kind = (!one.is_empty()).cmp(&!two.is_empty());
        let by_length = if is_number { long.len().cmp(&other.len()) } else { Ordering::Equal };
        match by_kind.then(by_length).then_with(|| long.cmp(other)) {
            Ordering::Equal => (a, b) = (rest_a, rest_b),
            unequal => return unequal,
        }
    }
}

/// Without bytes that only separate.
fn meaningful(text: &[u8]) -> &[u8] {
    let is_one = |byte: &u8| byte.is_ascii_alphanumeric() || b"~-^.".contains(byte);
    let at = text.iter().position(is_one).unwrap_or(text.len());
    text.get(at..).unwrap_or_default()
}

/// Where one of both starts with this mark: the one that does is the earlier.
fn separator(mark: u8, a: Option<u8>, b: Option<u8>) -> Option<Ordering> {
    let (one, other) = (a == Some(mark), b == Some(mark));
    (one || other).then(|| other.cmp(&one))
}

fn trim_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_rpm_and_systemd_compare_them() {
        let is_sorted = |versions: &[&str]| {
            versions.windows(2).all(|pair| {
                compare(pair[0].as_bytes(), pair[1].as_bytes()) == Ordering::Less
                    && compare(pair[1].as_bytes(), pair[0].as_bytes()) == Ordering::Greater
            })
        };
        assert!(is_sorted(&["4.18.0-80", "4.18.0-240"]));
        // Updates of RHEL: 4.18.0-80.1.2.el8_0 came after 4.18.0-80.el8.
        assert!(is_sorted(&[
            "4.18.0-80.el8.x86_64",
            "4.18.0-80.1.2.el8_0.x86_64",
            "4.18.0-80.11.1.el8_0.x86_64"
        ]));
        // The examples of the specification.
        assert!(is_sorted(&[
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1"
        ]));
        assert!(is_sorted(&["arch-fallback.conf", "arch.conf"]));
        assert_eq!(compare(b"5.14", b"5.14"), Ordering::Equal);
        assert_eq!(compare(b"007", b"7"), Ordering::Equal);
    }
}
