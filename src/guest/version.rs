//! A version as numbers between dots, held against one that a document names: `7.9` there means every 7.9.

use std::cmp::Ordering;

/// How a system's version stands to one that is named, as far as that one is written: 7.9.2009 equals 7.9, and 7.
/// `None` when the system's is written less exactly and so far equal: whether 7 is before 7.4 nobody knows.
#[must_use]
pub fn compare(has: &str, named: &str) -> Option<Ordering> {
    let mut own = has.split('.').map(number);
    for wanted in named.split('.').map(number) {
        match own.next()?.cmp(&wanted) {
            Ordering::Equal => {}
            other => return Some(other),
        }
    }
    Some(Ordering::Equal)
}

/// The digits at the start: of the `0-1160` in a kernel's 3.10.0-1160 the 0.
fn number(part: &str) -> u64 {
    let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
    part.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Does a version lie in a range of two, `7.0-7.9`, or is it the one that is named? `None` when it is written too little
/// exactly to tell.
#[must_use]
pub fn is_in(has: &str, range: &str) -> Option<bool> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let after = compare(has, first).map(|order| order != Ordering::Less);
    let before = compare(has, last).map(|order| order != Ordering::Greater);
    match (after, before) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_every_version_that_begins_as_its_ends_do() {
        assert_eq!(is_in("7.9.2009", "7.0-7.9"), Some(true));
        assert_eq!(is_in("6.10", "6.5-6.9"), Some(false));
        assert_eq!(is_in("8", "7.0-7.9"), Some(false));
        assert_eq!(is_in("7", "7.0-7.9"), None);
        assert_eq!(is_in("14.04", "14.04"), Some(true));
        assert_eq!(is_in("12.14", "12"), Some(true));
    }

    #[test]
    fn a_kernels_release_is_a_version() {
        assert_eq!(compare("3.10.0-1160.el7.x86_64", "3.10"), Some(Ordering::Equal));
        assert_eq!(compare("2.6.32-754.el6", "3"), Some(Ordering::Less));
    }
}
