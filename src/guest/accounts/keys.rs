//! Keys with which somebody can log in to an account: the lines of its `authorized_keys` (sshd(8)) that the server accepts.

use super::super::sshd;
use super::{Account, Accounts};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::file::{self, GuestFile};
use crate::guest::{Evidence, Fact, Guest};
use crate::text::{Text, escape};

/// The longest file of keys that is read.
const MAX_KEYS: u64 = 1 << 20;
/// Accounts whose keys are looked for.
const MAX_PEOPLE: usize = 64;
/// Numbers of accounts of people: 500 in older systems.
const PEOPLE: std::ops::Range<u32> = 500..65_534;
/// Where keys are when the server's configuration does not say it.
const FILES: &[&str] = &[".ssh/authorized_keys", ".ssh/authorized_keys2"];
/// Bits of a mode with which others than the owner may write.
const OTHERS_WRITE: u16 = 0o022;

/// Keys of every account of a person, and of root.
#[derive(Clone, Debug, Default)]
pub struct AuthorizedKeys {
    /// One an account that has any.
    pub list: Vec<Keys>,
}

/// Keys of one account.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The account's name.
    pub account: Text,
    /// The first key.
    pub evidence: Evidence,
    /// How many there are.
    pub count: usize,
    /// Why the server does not take them: somebody else may write the file.
    pub refused: Option<Evidence>,
}

impl Fact for AuthorizedKeys {
    fn read(guest: &Guest) -> Result<Self> {
        let accounts = guest.fact::<Accounts>()?;
        let config = guest.fact::<sshd::Config>()?;
        let patterns = config.first("authorizedkeysfile").map(|setting| setting.values.clone());
        let default = || FILES.iter().map(|path| Text::from(*path)).collect();
        let patterns: Vec<Text> = patterns.unwrap_or_else(default);
        let is_strict = config.first("strictmodes").is_none_or(|setting| setting.value() != "no");
        let is_person = |account: &&Account| {
            account.has_shell() && account.uid.is_some_and(|uid| uid == 0 || PEOPLE.contains(&uid))
        };
        let mut list = Vec::new();
        for account in accounts.list.iter().filter(is_person).take(MAX_PEOPLE) {
            for pattern in &patterns {
                list.extend(keys(guest.facts(), account, pattern.as_bytes(), is_strict)?);
            }
        }
        Ok(Self { list })
    }
}

/// The keys of an account in one of its files.
fn keys(tree: &Tree, account: &Account, pattern: &[u8], is_strict: bool) -> Result<Option<Keys>> {
    if pattern.eq_ignore_ascii_case(b"none") {
        return Ok(None);
    }
    let path = expand(account, pattern);
    let Some(file) = file::read(tree, &path, MAX_KEYS)? else { return Ok(None) };
    let mut found: Option<Keys> = None;
    for (number, line) in file.lines() {
        let Some(kind) = kind(line) else { continue };
        let first = || Keys {
            account: account.name.clone(),
            evidence: Evidence {
                line: Some(number),
                ..file.evidence(format!("{kind} key of {}", account.name))
            },
            count: 0,
            refused: None,
        };
        let keys = found.get_or_insert_with(first);
        keys.count = keys.count.saturating_add(1);
    }
    if let Some(keys) = found.as_mut().filter(|_| is_strict) {
        keys.refused = writable_by_others(tree, account, &file)?;
    }
    Ok(found)
}

/// `%h` is the home, `%u` the name, `%U` the number; a relative path is in the home.
fn expand(account: &Account, pattern: &[u8]) -> Vec<u8> {
    let mut path = Vec::new();
    let mut bytes = pattern.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            path.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(b'h') => path.extend(&account.home),
            Some(b'u') => path.extend(account.name.as_bytes()),
            Some(b'U') => path.extend(account.uid.map(|uid| uid.to_string()).unwrap_or_default().bytes()),
            other => path.extend(other),
        }
    }
    if path.starts_with(b"/") { path } else { [account.home.as_slice(), b"/", &path].concat() }
}

/// What the server refuses with `StrictModes`: a file, or a directory from it up to the home, that others may write or
/// that belongs to neither the account nor root.
fn writable_by_others(tree: &Tree, account: &Account, file: &GuestFile) -> Result<Option<Evidence>> {
    let mut path = file.path.as_slice();
    loop {
        if let Some(node) = tree.find(path)? {
            let stat = tree.stat(node)?;
            let is_foreign = stat.uid != 0 && Some(stat.uid) != account.uid;
            if stat.mode & OTHERS_WRITE != 0 || is_foreign {
                let what = format!(
                    "mode {:04o}, owner {}: the SSH server does not trust it",
                    stat.mode & 0o7777,
                    stat.uid
                );
                return Ok(Some(Evidence::new(what).on(tree.volume(node)).path(path)));
            }
        }
        let parent = path.iter().rposition(|byte| *byte == b'/').and_then(|at| path.get(..at));
        match parent.filter(|parent| path != account.home && !parent.is_empty()) {
            Some(parent) => path = parent,
            None => return Ok(None),
        }
    }
}

/// The type of the key of a line that lets somebody in: `options type key words`. One that only runs a fixed command lets
/// nobody in: images of clouds have such for root, which says who to log in as.
fn kind(line: &[u8]) -> Option<String> {
    let line = line.trim_ascii();
    if line.starts_with(b"#") {
        return None;
    }
    let (mut rest, mut is_option) = (line, false);
    // Options, if any, are the first word; in quotes it may have spaces.
    for _ in 0..2 {
        let end = word_end(rest);
        let (word, after) = rest.split_at_checked(end)?;
        if is_type(word) {
            let has_key = after.trim_ascii_start().starts_with(b"AAAA");
            return has_key.then(|| escape(word).to_string());
        }
        let lower = word.to_ascii_lowercase();
        let forces = lower.starts_with(b"command=") || lower.windows(9).any(|text| text == b",command=");
        if is_option || forces {
            return None;
        }
        (rest, is_option) = (after.trim_ascii_start(), true);
    }
    None
}

fn word_end(text: &[u8]) -> usize {
    let (mut in_quotes, mut is_escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' if !is_escaped => in_quotes = !in_quotes,
            b' ' | b'\t' if !in_quotes => return at,
            _ => {}
        }
        is_escaped = *byte == b'\\';
    }
    text.len()
}

fn is_type(word: &[u8]) -> bool {
    [&b"ssh-"[..], b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-"].iter().any(|start| word.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOq me@here";

    fn account(home: &str, uid: u32) -> Account {
        let tree = MemoryFs::tree(&[("/etc/passwd", &format!("a:x:{uid}:0::{home}:/bin/sh\n"))]);
        super::super::read(&tree).unwrap().list.remove(0)
    }

    #[test]
    fn a_key_is_a_line_with_a_type_and_a_key() {
        assert_eq!(kind(KEY.as_bytes()).unwrap(), "ssh-ed25519");
        let options = format!("no-pty,from=\"10.0.0.0/8, ::1\" {KEY}");
        assert_eq!(kind(options.as_bytes()).unwrap(), "ssh-ed25519");
        assert_eq!(kind(b"ecdsa-sha2-nistp256 AAAAE2 x").unwrap(), "ecdsa-sha2-nistp256");
        assert_eq!(
            [kind(b""), kind(b"# ssh-rsa AAAA"), kind(b"ssh-rsa"), kind(b"hello ssh-rsa")],
            [const { None }; 4]
        );
    }

    #[test]
    fn a_key_that_only_runs_a_command_lets_nobody_in() {
        let line = format!("no-port-forwarding,command=\"echo 'log in as \\\"debian\\\"'\" {KEY}");
        assert_eq!(kind(line.as_bytes()), None);
    }

    #[test]
    fn paths_have_tokens() {
        assert_eq!(expand(&account("/home/a", 1000), b"%h/.k/%u-%%"), b"/home/a/.k/a-%");
        assert_eq!(expand(&account("/home/a", 1000), b".ssh/keys"), b"/home/a/.ssh/keys");
        assert_eq!(expand(&account("/home/a", 1000), b"/etc/keys/%U"), b"/etc/keys/1000");
    }

    #[test]
    fn keys_are_counted_and_never_shown() {
        let text = format!("# mine\n{KEY}\n\n{KEY}\n");
        let tree = MemoryFs::tree(&[("/root/.ssh/authorized_keys", &text)]);
        let found = keys(&tree, &account("/root", 0), b".ssh/authorized_keys", true).unwrap().unwrap();
        assert_eq!((found.count, found.evidence.line, found.evidence.excerpt.clone()), (2, Some(2), None));
        assert!(found.refused.is_none());
    }
}
