//! What the cloud's import call will be told, so that it can be held against the image: `--set name=value`.

use crate::error::{Error, ErrorKind, Result};
use crate::text::escape;
use std::collections::BTreeMap;

/// Words for yes and no.
const YES: &[&str] = &["true", "True", "TRUE", "yes", "1"];
const NO: &[&str] = &["false", "False", "FALSE", "no", "0"];

/// What a user told with `--set`.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Names that some rule looks at.
    pub const KNOWN: &[&str] = &[
        "diskFormat",
        "architecture",
        "osType",
        "platform",
        "osVersion",
        "bootMode",
        "forceImport",
        "systemDiskSizeGB",
        "sha256",
    ];

    /// Reads `k=v` words.
    ///
    /// # Errors
    /// `Usage` for a word without `=`, a name that no rule looks at, and a value that the name cannot have.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Self> {
        let mut found = BTreeMap::new();
        for word in words {
            let word = word.as_ref();
            let usage = |what: String| {
                Error::new(ErrorKind::Usage, what).help(format!("names: {}", Self::KNOWN.join(", ")))
            };
            let Some((name, value)) = word.split_once('=') else {
                return Err(usage(format!("--set {word}: write name=value")));
            };
            if !Self::KNOWN.contains(&name) {
                return Err(usage(format!("--set {word}: no rule looks at '{name}'")));
            }
            if let Err(wrong) = Self::judge(name, value) {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("--set {}: {wrong}", escape(word.as_bytes())),
                ));
            }
            found.insert(name.to_owned(), value.to_owned());
        }
        Ok(Self(found))
    }

    /// Could the import be told this? What is wrong with it if not.
    fn judge(name: &str, value: &str) -> std::result::Result<(), String> {
        match name {
            "diskFormat" => crate::image::by_name(value).map(|_| ()).map_err(|error| {
                let help = error.help_text().map(|help| format!(" ({help})")).unwrap_or_default();
                format!("{error}{help}")
            }),
            "systemDiskSizeGB" if Self::gigabytes(value).is_none() => {
                Err("write a whole number of GB".to_owned())
            }
            "bootMode" if !super::rules::is_boot_mode(value) => {
                Err("write BIOS, Legacy, UEFI or UEFI-Preferred".to_owned())
            }
            "osType" if !["linux", "windows"].iter().any(|kind| kind.eq_ignore_ascii_case(value)) => {
                Err("write linux or windows".to_owned())
            }
            "sha256" if value.len() != 64 || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Err("write 64 hexadecimal digits".to_owned())
            }
            "forceImport" if !YES.contains(&value) && !NO.contains(&value) => {
                Err("write true or false".to_owned())
            }
            _ if value.is_empty() => Err("the value is empty".to_owned()),
            _ => Ok(()),
        }
    }

    /// Whole GB, in bytes.
    fn gigabytes(text: &str) -> Option<u64> {
        text.parse::<u64>().ok()?.checked_mul(1 << 30)
    }

    /// A size that was given in GB, in bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(Self::gigabytes)
    }

    /// A value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Every name and value.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Is it set to something that means yes?
    #[must_use]
    pub fn is_yes(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| YES.contains(&value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_a_setting_cannot_have_is_refused() {
        for word in [
            "systemDiskSizeGB=abc",
            "systemDiskSizeGB=-1",
            "diskFormat=foo",
            "forceImport=maybe",
            "platform=",
            "bootMode=coreboot",
            "osType=macos",
            "sha256=12",
        ] {
            assert_eq!(Settings::parse(&[word]).unwrap_err().kind(), ErrorKind::Usage, "{word}");
        }
        let told = Settings::parse(&["systemDiskSizeGB=50", "forceImport=True"]).unwrap();
        assert_eq!((told.size("systemDiskSizeGB"), told.is_yes("forceImport")), (Some(50 << 30), true));
    }

    #[test]
    fn a_setting_that_no_rule_looks_at_is_refused() {
        assert!(Settings::parse(&["diskFormat=vhd", "bootMode=uefi-preferred", "osType=Linux"]).is_ok());
        assert!(Settings::parse(&["diskformat=vhd"]).is_err() && Settings::parse(&["x"]).is_err());
    }
}
