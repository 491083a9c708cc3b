//! nftables: a script. It is not run; what refuses nothing lets everything in, and more is not said.

use super::Passage;
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::file::{self, MAX_CONFIG};
use crate::guest::glob;
use std::collections::BTreeSet;

/// Where the service reads from: Debian, Red Hat.
const FILES: &[&str] = &["/etc/nftables.conf", "/etc/sysconfig/nftables.conf"];
/// Files that include each other.
const MAX_FILES: usize = 64;

/// A script with those that it includes.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// The lines that refuse something.
    refusals: Vec<Evidence>,
    /// What is included and not followed.
    unread: bool,
    pub(super) evidence: Vec<Evidence>,
}

/// Reads it; `None` when there is no script.
pub(super) fn read(tree: &Tree) -> Result<Option<Script>> {
    let mut script = Script::default();
    let mut seen = BTreeSet::new();
    let mut paths: Vec<Vec<u8>> = FILES.iter().rev().map(|path| path.as_bytes().to_vec()).collect();
    while let Some(path) = paths.pop() {
        if seen.len() >= MAX_FILES {
            script.unread = true;
            break;
        }
        if !seen.insert(path.clone()) {
            continue;
        }
        let Some(file) = file::read(tree, &path, MAX_CONFIG)? else { continue };
        script.evidence.push(file.evidence("rules of nftables"));
        for (number, line) in file.lines() {
            let text = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            let text = String::from_utf8_lossy(text);
            let mut words = text
                .split(|c: char| c.is_whitespace() || ";{},:".contains(c))
                .filter(|word| !word.is_empty());
            if words.clone().any(|word| word == "drop" || word == "reject") {
                script.refusals.push(file.evidence("refuses something").line(number, line));
            }
            if words.next() == Some("include") {
                let pattern = text.split('"').nth(1).filter(|pattern| pattern.starts_with('/'));
                match pattern {
                    Some(pattern) => paths.extend(glob::expand(tree, pattern.as_bytes())?),
                    None => script.unread = true,
                }
            }
        }
    }
    Ok(if script.evidence.is_empty() { None } else { Some(script) })
}

impl Script {
    pub(super) fn filters(&self) -> bool {
        self.unread || !self.refusals.is_empty()
    }

    pub(super) fn passage(&self) -> Passage {
        match self.refusals.first() {
            None if !self.unread => Passage::Open,
            None => Passage::Unknown("nftables includes files that are not followed".to_owned()),
            Some(line) => {
                let excerpt = line.excerpt.clone().unwrap_or_default();
                Passage::Unknown(format!(
                    "the script of nftables refuses something, and is not run: {excerpt}"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    /// Debian's own file, and one that refuses.
    #[test]
    fn a_script_that_refuses_nothing_filters_nothing() {
        let debian = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter;\n\t}\n}\n";
        let of = |text: &str| read(&MemoryFs::tree(&[("/etc/nftables.conf", text)])).unwrap().unwrap();
        assert!(!of(debian).filters() && of(debian).passage() == Passage::Open);
        let drops = of(
            "table inet f { chain i { type filter hook input priority 0; policy drop; tcp dport 22 accept; } }\n",
        );
        assert!(drops.filters() && matches!(drops.passage(), Passage::Unknown(_)));
        assert!(!of("# policy drop\n").filters());
    }
}
