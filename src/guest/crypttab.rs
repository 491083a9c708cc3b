//! `/etc/crypttab`: what a guest opens at boot, line by line (crypttab(5)).

use super::Guest;
use super::evidence::Evidence;
use super::fact::Fact;
use super::file::{self, GuestFile, MAX_CONFIG};
use super::spec::Spec;
use crate::error::Result;
use crate::text::escape;

/// Lines that are used; a machine has a handful.
const MAX_LINES: usize = 1024;

/// The lines of a `crypttab` that mean something.
#[derive(Clone, Debug, Default)]
pub struct Crypttab {
    /// In the order in which they stand.
    pub lines: Vec<Line>,
}

/// One line: two to four fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The name below `/dev/mapper`.
    pub name: Vec<u8>,
    /// What is opened, as written.
    pub spec: Vec<u8>,
    /// The file of the key; `None` where somebody is asked for a passphrase.
    pub key: Option<Vec<u8>>,
    /// The options, one by one.
    pub options: Vec<Vec<u8>>,
    /// Where the line stands. The text of the line is not in it: a key's path is, a key never.
    pub evidence: Evidence,
}

impl Line {
    /// Has it this option, with or without a value?
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        let name = |given: &[u8]| given.split(|byte| *byte == b'=').next() == Some(option.as_bytes());
        self.options.iter().any(|given| name(given))
    }

    /// Does the boot wait for it? Not with `noauto` or `nofail`, nor where the device comes with the network.
    #[must_use]
    pub fn is_needed_at_boot(&self) -> bool {
        !["noauto", "nofail", "_netdev"].iter().any(|option| self.has(option))
    }

    /// Is it made anew at each boot, with a random key: swap, `/tmp`?
    #[must_use]
    pub fn is_made_anew(&self) -> bool {
        self.has("swap")
            || self.has("tmp")
            || self.key.as_deref().is_some_and(|key| key.starts_with(b"/dev/"))
    }

    /// Does something else than a passphrase or a file open it: a TPM, a token, a server?
    #[must_use]
    pub fn is_opened_by_device(&self) -> bool {
        ["tpm2-device", "fido2-device", "pkcs11-uri", "keyscript"].iter().any(|option| self.has(option))
    }

    /// What its second field means.
    #[must_use]
    pub fn spec(&self) -> Spec {
        Spec::parse(&self.spec)
    }
}

impl Fact for Crypttab {
    fn read(guest: &Guest) -> Result<Self> {
        guest.fstab()?;
        let file = file::read(guest.facts(), "/etc/crypttab", MAX_CONFIG)?;
        Ok(Self { lines: file.map(|file| parse(&file)).unwrap_or_default() })
    }
}

/// Every line with a name and a device.
pub(super) fn parse(file: &GuestFile) -> Vec<Line> {
    let line = |(number, text): (u64, &[u8])| {
        let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let name = words.next().filter(|name| !name.starts_with(b"#"))?;
        let spec = words.next()?;
        let key = words.next().filter(|key| !matches!(*key, b"none" | b"-"));
        let options = words.next().unwrap_or_default().split(|byte| *byte == b',');
        let mut evidence = file.evidence(format!("opens {} as {}", escape(spec), escape(name)));
        evidence.line = Some(number);
        Some(Line {
            name: name.to_vec(),
            spec: spec.to_vec(),
            key: key.map(<[u8]>::to_vec),
            options: options.filter(|option| !option.is_empty()).map(<[u8]>::to_vec).collect(),
            evidence,
        })
    };
    file.lines().filter_map(line).take(MAX_LINES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        let path = b"/etc/crypttab".to_vec();
        parse(&GuestFile { path, volume: "p1".to_owned(), bytes: text.into() })
    }

    /// The lines of augeas' `test_crypttab.aug`.
    #[test]
    fn two_to_four_fields_are_a_line() {
        let lines = lines(
            "# x\nsda1_crypt\t /dev/sda1\t    /dev/random \t      swap\t\nsda1_crypt\t /dev/sda1\n\
             sda3_crypt UUID=5b8b6e72-acf9-43bc-bd2d-8dbcaee82f99 none luks,keyscript=/usr/share/x,discard\n",
        );
        assert_eq!(lines.len(), 3);
        assert!(lines[0].is_made_anew() && lines[0].key.as_deref() == Some(b"/dev/random"));
        assert!(lines[1].key.is_none() && lines[1].is_needed_at_boot());
        assert_eq!(lines[2].spec(), Spec::Uuid("5b8b6e72-acf9-43bc-bd2d-8dbcaee82f99".to_owned()));
        assert!(lines[2].is_opened_by_device() && lines[2].evidence.line == Some(4));
    }

    #[test]
    fn nofail_is_not_waited_for() {
        assert!(!lines("a /dev/vdb - luks,nofail\n")[0].is_needed_at_boot());
    }
}
