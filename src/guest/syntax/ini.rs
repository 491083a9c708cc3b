//! Files of sections with `key=value`, as systemd and NetworkManager write them.

use crate::guest::evidence::Evidence;
use crate::guest::file::GuestFile;

/// Lines that are used; the longest real file seen has some hundreds.
const MAX_LINES: usize = 20_000;

/// One `key=value`, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The section's name, in lower case.
    pub section: String,
    /// Which section of the file it is, counted from 1: two `[Address]` are two addresses.
    pub number: usize,
    /// The key, in lower case.
    pub key: String,
    /// The value, without white space around.
    pub value: String,
    /// Where it stands.
    pub evidence: Evidence,
}

/// Every assignment of a file. Comments begin with `#` or `;`; a backslash at the end of a line goes on with the next.
#[must_use]
pub fn parse(file: &GuestFile) -> Vec<Entry> {
    let (mut section, mut number, mut found) = (String::new(), 0_usize, Vec::new());
    let mut pending: Option<(u64, String)> = None;
    for (line, text) in file.lines().take(MAX_LINES) {
        let text = String::from_utf8_lossy(text);
        let text = text.trim();
        if text.starts_with('#') || text.starts_with(';') {
            continue;
        }
        let (first, whole) = match pending.take() {
            Some((first, before)) => (first, format!("{before} {text}")),
            None => (line, text.to_owned()),
        };
        if let Some(open) = whole.strip_suffix('\\') {
            pending = Some((first, open.trim_end().to_owned()));
            continue;
        }
        if let Some(name) = whole.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            section = name.trim().to_lowercase();
            number = number.saturating_add(1);
        } else if let Some((key, value)) = whole.split_once('=') {
            found.push(Entry {
                section: section.clone(),
                number,
                key: key.trim().to_lowercase(),
                value: value.trim().to_owned(),
                evidence: file.evidence(format!("[{section}]")).line(first, whole.as_bytes()),
            });
        }
    }
    found
}

/// The last value of a key.
#[must_use]
pub fn last<'a>(entries: &'a [Entry], section: &str, key: &str) -> Option<&'a Entry> {
    entries.iter().rev().find(|entry| entry.section == section && entry.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_counts_and_lines_go_on() {
        let text = "# x\n[Match]\nName=a \\\n  b\n[Network]\nDHCP = no\nDHCP=yes\n";
        let file = GuestFile { path: b"/x".to_vec(), volume: String::new(), bytes: text.into() };
        let entries = parse(&file);
        assert_eq!(last(&entries, "network", "dhcp").unwrap().value, "yes");
        let name = last(&entries, "match", "name").unwrap();
        assert_eq!((name.value.as_str(), name.evidence.line), ("a b", Some(3)));
    }
}
