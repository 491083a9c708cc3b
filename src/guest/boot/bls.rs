//! Entries of the Boot Loader Specification (uapi-group.org, "Type #1"): one file each in `/boot/loader/entries`.

use super::grub::Environment;
use super::{Entry, without_device};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::evidence::excerpt;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Where GRUB looks for them.
pub(super) const DIR: &str = "/boot/loader/entries";

/// Every entry, the highest version first, as GRUB's `blscfg` shows them. `$kernelopts` and other variables in
/// `options` come from `grubenv`, then from the script.
pub(super) fn read(
    tree: &Tree,
    directory: &str,
    environment: &Environment,
    variables: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    for name in file::names(tree, directory)? {
        let Some(id) = name.strip_suffix(b".conf") else { continue };
        let Some(file) = file::read(tree, [directory.as_bytes(), b"/", &name].concat(), MAX_CONFIG)? else {
            continue;
        };
        let (version, entry) = parse(&file, id, |name| environment.get(name).or_else(|| variables.get(name)));
        found.push((if version.is_empty() { id.to_vec() } else { version }, entry));
    }
    found.sort_by(|(a, _), (b, _)| compare(b, a));
    Ok(found.into_iter().map(|(_, entry)| entry).collect())
}

fn parse<'v>(file: &GuestFile, id: &[u8], value: impl Fn(&[u8]) -> Option<&'v Vec<u8>>) -> (Vec<u8>, Entry) {
    let mut entry = Entry { id: id.to_vec(), evidence: file.evidence("boot menu entry"), ..Entry::default() };
    let mut version = Vec::new();
    for (line, text) in file.lines() {
        let text = text.trim_ascii();
        let split = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
        let Some((key, rest)) = text.split_at_checked(split) else { continue };
        let rest = rest.trim_ascii();
        let words = || rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        match key {
            b"title" => entry.title = excerpt(rest),
            b"version" => version = rest.to_vec(),
            b"linux" => {
                entry.kernel = without_device(rest);
                entry.evidence = file.evidence("boots this kernel").line(line, text);
            }
            // Red Hat appends $tuned_initrd, which is empty unless tuned made one.
            b"initrd" => {
                entry.initrds.extend(words().filter(|word| !word.starts_with(b"$")).map(without_device));
            }
            b"options" => {
                for word in words() {
                    match word.strip_prefix(b"$").and_then(&value) {
                        Some(known) => {
                            entry.args.extend(known.split(u8::is_ascii_whitespace).map(<[u8]>::to_vec));
                        }
                        None => entry.args.push(word.to_vec()),
                    }
                }
            }
            _ => {}
        }
    }
    (version, entry)
}

/// Compares versions as people do: runs of digits by value, everything else by bytes.
pub(in crate::guest) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (digits_a, digits_b) = (run(a), run(b));
        if digits_a > 0 && digits_b > 0 {
            let (Some((one, rest_a)), Some((two, rest_b))) =
                (a.split_at_checked(digits_a), b.split_at_checked(digits_b))
            else {
                return a.cmp(b);
            };
            let (one, two) = (trim_zeros(one), trim_zeros(two));
            match one.len().cmp(&two.len()).then_with(|| one.cmp(two)) {
                Ordering::Equal => (a, b) = (rest_a, rest_b),
                unequal => return unequal,
            }
            continue;
        }
        match (a.split_first(), b.split_first()) {
            (Some((one, rest_a)), Some((two, rest_b))) if one == two => (a, b) = (rest_a, rest_b),
            _ => return a.cmp(b),
        }
    }
}

fn run(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn trim_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        // sort -V puts 4.18.0-80 before 4.18.0-240
        assert_eq!(compare(b"4.18.0-80", b"4.18.0-240"), Ordering::Less);
        assert_eq!(compare(b"5.14", b"5.14"), Ordering::Equal);
    }
}
