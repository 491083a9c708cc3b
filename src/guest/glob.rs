//! Patterns of paths (glob(7)) in a guest: `*`, `?` and `[...]` in any name of the path, as configuration files use them to
//! include others.

use super::file;
use crate::error::{Error, Result};
use crate::fs::tree::Tree;

/// Paths that one pattern may lead to, and directories that are listed for it.
const MAX_PATHS: usize = 1024;
/// Steps that comparing one name with one pattern may take.
const MAX_STEPS: usize = 65_536;

/// The paths that match, sorted.
///
/// # Errors
/// When a directory on the way cannot be read, or there are too many.
pub fn expand(tree: &Tree, pattern: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut found = vec![Vec::new()];
    for part in pattern.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let is_pattern = part.iter().any(|byte| b"*?[".contains(byte));
        let mut next = Vec::new();
        for dir in &found {
            if !is_pattern {
                next.push([dir.as_slice(), b"/", part].concat());
                continue;
            }
            for name in file::names(tree, if dir.is_empty() { b"/" } else { dir.as_slice() })? {
                if matches(part, &name) {
                    next.push([dir.as_slice(), b"/", &name].concat());
                }
                if next.len() > MAX_PATHS {
                    return Err(Error::limit(format!("more than {MAX_PATHS} files match one pattern")));
                }
            }
        }
        found = next;
    }
    found.sort_unstable();
    Ok(found)
}

/// Does a name match a pattern? One that starts with a dot does so only if the pattern starts with it too.
#[must_use]
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    // Where to go on when what follows the last `*` does not match: that `*` takes one more.
    let (mut rest, mut left, mut again) = (pattern, name, None);
    for _ in 0..MAX_STEPS {
        if let Some(after) = rest.strip_prefix(b"*") {
            again = Some((after, left));
            rest = after;
            continue;
        }
        let Some((first, others)) = left.split_first() else { return rest.is_empty() };
        if let Some(after) = one(rest, *first) {
            (rest, left) = (after, others);
            continue;
        }
        let Some((after, taken)) = again else { return false };
        let Some((_, taken)) = taken.split_first() else { return false };
        again = Some((after, taken));
        (rest, left) = (after, taken);
    }
    false
}

/// Takes from a pattern what stands for one byte, if it stands for this one.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (first, rest) = pattern.split_first()?;
    match first {
        b'?' => Some(rest),
        b'[' => {
            let is_not = rest.starts_with(b"!") || rest.starts_with(b"^");
            let set = rest.get(usize::from(is_not)..)?;
            // A `]` that stands first is itself in the set.
            let end = set.iter().skip(1).position(|byte| *byte == b']')?.checked_add(1)?;
            let (set, after) = set.split_at_checked(end)?;
            let is_in = set.contains(&byte)
                || set
                    .windows(3)
                    .any(|range| matches!(range, [from, b'-', to] if (*from..=*to).contains(&byte)));
            (is_in != is_not).then_some(after.get(1..)?)
        }
        b'\\' => rest.split_first().filter(|(escaped, _)| **escaped == byte).map(|(_, rest)| rest),
        _ => (*first == byte).then_some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;

    /// Expected values: fnmatch(3) with `FNM_PERIOD`.
    #[test]
    fn names_match_as_in_a_shell() {
        let all = |pattern: &str, names: &[&str]| {
            names.iter().all(|name| matches(pattern.as_bytes(), name.as_bytes()))
        };
        assert!(all("*.conf", &["a.conf", "50-x.conf"]) && all("a*b*c", &["abc", "aXbYbc"]));
        assert!(all("[0-9]?-[!x]*", &["10-a", "5a-bc"]) && all("[]a]", &["]", "a"]) && all("*", &["", "x"]));
        let none = |pattern: &str, names: &[&str]| {
            !names.iter().any(|name| matches(pattern.as_bytes(), name.as_bytes()))
        };
        assert!(
            none("*.conf", &["a.conf~", ".conf", "conf"])
                && none("a*b", &["ac", "abc"])
                && none("?", &["", "ab"])
        );
    }

    #[test]
    fn a_hostile_pattern_ends() {
        assert!(!matches(&b"*a".repeat(2000), &[b'a'; 4000][..1999]));
    }

    #[test]
    fn every_name_of_a_path_may_be_a_pattern() {
        let tree = MemoryFs::tree(&[
            ("/etc/b.d/2.conf", ""),
            ("/etc/b.d/1.conf", ""),
            ("/etc/a.d/9.conf", ""),
            ("/etc/c", ""),
        ]);
        let found = expand(&tree, b"/etc/*.d/*.conf").unwrap();
        assert_eq!(found, [&b"/etc/a.d/9.conf"[..], b"/etc/b.d/1.conf", b"/etc/b.d/2.conf"]);
        assert!(expand(&tree, b"/none/*.conf").unwrap().is_empty());
    }
}
