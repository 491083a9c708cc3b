//! The accounts of a Linux: `/etc/passwd`, with what `/etc/shadow` says of their passwords.

use super::file::{self, GuestFile, MAX_CONFIG};
use super::{Evidence, Fact, Guest};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::text::Text;
use std::collections::BTreeMap;

pub mod keys;
pub mod password;

pub use password::{Aging, Hash, Password, Validity};

const PASSWD: &str = "/etc/passwd";
const SHADOW: &str = "/etc/shadow";
/// Accounts that are looked at, in the order of the file.
const MAX_ACCOUNTS: usize = 65_536;
/// Programs that a line of `passwd` names where nobody is to log in, or that do one thing and end.
const NO_SHELLS: &[&str] = &["nologin", "false", "true", "sync", "shutdown", "halt"];

/// The accounts of a guest.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// In the order of `passwd`; of two of one name the first.
    pub list: Vec<Account>,
    /// Is there a `passwd` at all?
    pub has_passwd: bool,
    /// Is there a `shadow`?
    pub has_shadow: bool,
}

/// One account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub name: Text,
    /// Its number; `None` when the field is none.
    pub uid: Option<u32>,
    /// Its home directory.
    pub home: Vec<u8>,
    /// What it runs after login.
    pub shell: Text,
    /// Its password.
    pub password: Password,
    /// Until when that counts.
    pub aging: Aging,
    /// Its line in `passwd`.
    pub evidence: Evidence,
    /// The line that holds the password, without what stands there.
    pub password_evidence: Evidence,
}

impl Account {
    /// Does it run a shell after login? No shell named is `/bin/sh`.
    #[must_use]
    pub fn has_shell(&self) -> bool {
        let name = self.shell.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        !NO_SHELLS.iter().any(|other| other.as_bytes() == name)
    }

    /// Can somebody log in with its password on this day?
    #[must_use]
    pub fn accepts_password(&self, day: u64) -> bool {
        let is_valid = matches!(self.aging.on(day), Validity::Valid | Validity::MustChange);
        self.password.is_usable() && self.has_shell() && is_valid
    }
}

impl Accounts {
    /// An account by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Account> {
        self.list.iter().find(|account| account.name.as_bytes() == name.as_bytes())
    }

    /// The account of the administrator: `root`.
    #[must_use]
    pub fn root(&self) -> Option<&Account> {
        self.get("root")
    }
}

impl Fact for Accounts {
    fn read(guest: &Guest) -> Result<Self> {
        guest.fstab()?;
        read(guest.facts())
    }
}

fn read(tree: &Tree) -> Result<Accounts> {
    let Some(passwd) = file::read(tree, PASSWD, MAX_CONFIG)? else { return Ok(Accounts::default()) };
    let shadow = file::read(tree, SHADOW, MAX_CONFIG)?;
    let shadows = shadow.as_ref().map(shadow_lines).unwrap_or_default();
    let mut list: Vec<Account> = Vec::new();
    let mut seen = BTreeMap::new();
    for (number, line) in passwd.lines().take(MAX_ACCOUNTS) {
        let Some(account) = account(&passwd, number, line, &shadows) else { continue };
        if seen.insert(account.name.clone(), ()).is_none() {
            list.push(account);
        }
    }
    Ok(Accounts { list, has_passwd: true, has_shadow: shadow.is_some() })
}

/// A line of `shadow`.
struct Shadow {
    password: Password,
    aging: Aging,
    evidence: Evidence,
}

/// Lines of `shadow` by name (shadow(5)): name, password, changed, min, max, warn, inactive, expires.
fn shadow_lines(file: &GuestFile) -> BTreeMap<Text, Shadow> {
    let mut found = BTreeMap::new();
    for (number, line) in file.lines().take(MAX_ACCOUNTS) {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let [name, field, rest @ ..] = fields.as_slice() else { continue };
        let day = |at: usize| std::str::from_utf8(rest.get(at)?).ok()?.trim().parse::<u64>().ok();
        let aging = Aging { changed: day(0), max: day(2), inactive: day(4), expires: day(5) };
        let shadow = Shadow { password: Password::of(field), aging, evidence: line_of(file, number) };
        found.entry(Text::from(*name)).or_insert(shadow);
    }
    found
}

/// A line as evidence, without its text.
fn line_of(file: &GuestFile, number: u64) -> Evidence {
    Evidence { line: Some(number), ..file.evidence("password field") }
}

/// A line of `passwd` (passwd(5)): name, password, uid, gid, words, home, shell. Lines of NIS (`+`, `-`) are no accounts.
fn account(file: &GuestFile, number: u64, line: &[u8], shadows: &BTreeMap<Text, Shadow>) -> Option<Account> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let [name, field, uid, _, _, home, shell] = fields.as_slice() else { return None };
    if name.is_empty() || name.starts_with(b"+") || name.starts_with(b"-") || name.starts_with(b"#") {
        return None;
    }
    let name = Text::from(*name);
    let is_elsewhere = *field == b"x";
    let evidence = match is_elsewhere {
        true => file.evidence("account").line(number, line),
        // The line may hold a hash.
        false => Evidence { line: Some(number), ..file.evidence("account") },
    };
    let (password, aging, password_evidence) = match shadows.get(&name).filter(|_| is_elsewhere) {
        Some(shadow) => (shadow.password, shadow.aging, shadow.evidence.clone()),
        None if is_elsewhere => (Password::NoLine, Aging::default(), line_of(file, number)),
        None => (Password::of(field), Aging::default(), line_of(file, number)),
    };
    Some(Account {
        name,
        uid: std::str::from_utf8(uid).ok().and_then(|uid| uid.parse().ok()),
        home: home.to_vec(),
        shell: Text::from(*shell),
        password,
        aging,
        evidence,
        password_evidence,
    })
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;

    fn accounts(passwd: &str, shadow: &str) -> Accounts {
        read(&MemoryFs::tree(&[(PASSWD, passwd), (SHADOW, shadow)])).unwrap()
    }

    #[test]
    fn the_line_of_shadow_counts_where_passwd_says_x() {
        let found = accounts(
            "root:x:0:0:root:/root:/bin/bash\nold:ab1ytXGPQkpsE:7:7::/:\nlost:x:8:8::/:/bin/sh\n",
            "root:$6$saltsalt$abcdef:19000:0:99999:7:::\nold:*:1:::::0:\n",
        );
        let root = found.root().unwrap();
        assert_eq!((root.password, root.uid), (Password::Hashed(Hash::Sha512), Some(0)));
        assert_eq!(
            root.aging,
            Aging { changed: Some(19_000), max: Some(99_999), inactive: None, expires: None }
        );
        assert_eq!(found.get("old").unwrap().password, Password::Hashed(Hash::Des));
        assert_eq!(found.get("lost").unwrap().password, Password::NoLine);
    }

    #[test]
    fn no_hash_is_ever_shown() {
        let found = accounts(
            "root:x:0:0::/root:/bin/sh\nold:ab1ytXGPQkpsE:7:7::/:\n",
            "root:$6$saltsalt$abcdef:1:::::2:\n",
        );
        let shown = format!("{found:?}");
        assert!(!shown.contains("abcdef") && !shown.contains("ytXGPQ"), "{shown}");
        let root = found.root().unwrap();
        assert_eq!((root.password_evidence.line, root.password_evidence.excerpt.clone()), (Some(1), None));
        assert_eq!(root.aging.expires, Some(2));
    }

    #[test]
    fn lines_that_are_no_accounts_are_passed_over() {
        let found =
            accounts("+::::::\n# x:x:0:0::/:/bin/sh\nroot:x:0:0:root:/root\n+nis:x:0:0::/:/bin/sh\n", "");
        assert!(found.list.is_empty() && found.has_shadow);
    }

    #[test]
    fn an_unread_shadow_is_an_error() {
        assert!(read(&MemoryFs::tree(&[(PASSWD, "root:x:0:0::/root:/bin/sh\n"), (SHADOW, "!")])).is_err());
    }

    #[test]
    fn a_service_account_has_no_shell() {
        let found = accounts("a:x:1:1::/:/usr/sbin/nologin\nb:x:2:2::/:/bin/false\nc:x:3:3::/:\n", "");
        assert_eq!(found.list.iter().map(Account::has_shell).collect::<Vec<_>>(), [false, false, true]);
    }
}
