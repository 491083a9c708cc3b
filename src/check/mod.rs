//! Would a cloud's private-image import accept this image? Facts → rules → profile → report.
//!
//! ```text
//! stack, guest   facts, each with its evidence
//!   └─ rules     a Check looks at facts and says pass, fail, not applicable or unknown; it knows no cloud
//!        └─ profile   TOML: which checks a cloud makes, with limits, its own codes, levels and the document's words
//!             └─ report   findings, verdict; text or JSON
//! ```
//! A new rule is one file in `rules/` and one line in [`CHECKS`]; a new cloud one file in `profiles/` and one line in
//! [`profile::PROFILES`]. What could not be read makes a rule unknown; unknown never counts as passed.

use crate::error::{Error, ErrorKind, Result};
use crate::guest::Guest;
use crate::measure::Range;
use crate::stack::Stack;
use crate::text::escape;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;
use survey::Survey;

pub mod profile;
pub mod report;
mod rules;
pub mod survey;

pub use crate::guest::Evidence;
pub use rules::CHECKS;

/// One rule. It looks at facts and limits; it knows no cloud.
pub trait Check: Sync {
    /// Its name in profiles, reports and `--ignore`; its file's name with `-` for `_`.
    fn id(&self) -> &'static str;

    /// What it asks and how it decides, for people.
    fn explain(&self) -> &'static str;

    /// Decides.
    ///
    /// # Errors
    /// What kept it from deciding; the same as [`Outcome::Unknown`].
    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome>;
}

/// What a rule decided.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The image is as wanted.
    Pass(Seen),
    /// It is not.
    Fail(Seen),
    /// It could not be decided, and why.
    Unknown(Error),
    /// The question does not arise, and why.
    NotApplicable(String),
}

/// What a rule saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// One sentence.
    pub message: String,
    /// The places that show it.
    pub evidence: Vec<Evidence>,
    /// The next step in this image, where the rule knows a better one than the profile.
    pub fix: Option<String>,
}

impl Seen {
    /// A sentence.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// Adds a place.
    #[must_use]
    pub fn at(mut self, evidence: Evidence) -> Self {
        self.evidence.push(evidence);
        self
    }

    /// Adds places.
    #[must_use]
    pub fn all(mut self, evidence: impl IntoIterator<Item = Evidence>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    /// Adds the next step.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// As a rule's answer.
    pub fn pass(self) -> Result<Outcome> {
        Ok(Outcome::Pass(self))
    }

    /// As a rule's answer.
    pub fn fail(self) -> Result<Outcome> {
        Ok(Outcome::Fail(self))
    }
}

/// Words for yes and no.
const YES: &[&str] = &["true", "True", "TRUE", "yes", "1"];
const NO: &[&str] = &["false", "False", "FALSE", "no", "0"];

/// What a user told with `--set`: as the cloud's import call would be told.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Names that some rule looks at.
    pub const KNOWN: &[&str] =
        &["diskFormat", "architecture", "platform", "osVersion", "forceImport", "systemDiskSizeGB"];

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

    /// Is it set to something that means yes?
    #[must_use]
    pub fn is_yes(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| YES.contains(&value))
    }
}

/// An image as rules see it, with what several of them need computed once.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The opened tower.
    pub stack: &'a Stack,
    /// What the user told.
    pub settings: &'a Settings,
    full_scan: bool,
    size: OnceLock<Result<Range>>,
    survey: OnceLock<Survey>,
}

impl<'a> Subject<'a> {
    /// An image to check. With `full_scan` a rule may read the whole disk.
    #[must_use]
    pub fn new(stack: &'a Stack, settings: &'a Settings, full_scan: bool) -> Self {
        Self { stack, settings, full_scan, size: OnceLock::new(), survey: OnceLock::new() }
    }

    /// Its size as QCOW2.
    ///
    /// # Errors
    /// When the disk's map, or with a full scan the disk, cannot be read.
    pub fn qcow2_size(&self) -> Result<Range> {
        self.size.get_or_init(|| crate::measure::qcow2_size(&**self.stack.disk(), self.full_scan)).clone()
    }

    /// What each volume is for.
    pub fn survey(&self) -> &Survey {
        self.survey.get_or_init(|| Survey::of(self.stack))
    }

    /// The only Linux system, or the outcome of a rule about something that only a Linux has, such as `fstab`: not
    /// applicable where every system is a Windows.
    ///
    /// # Errors
    /// As [`Subject::linux`].
    pub fn linux_alone(&self) -> std::result::Result<&'a Guest, Outcome> {
        let guests = &self.stack.guests;
        if !guests.is_empty() && guests.iter().all(|guest| guest.windows().is_some()) {
            return Err(Outcome::NotApplicable("the system is a Windows".to_owned()));
        }
        self.linux()
    }

    /// The only Linux system, or the outcome of a rule about something that a Windows has in its own way, such as
    /// drivers: unknown there.
    ///
    /// # Errors
    /// The outcome: not applicable when there is surely none, unknown when one may be hidden, there are several, or it
    /// is a Windows.
    pub fn linux(&self) -> std::result::Result<&'a Guest, Outcome> {
        let unknown = |why: String| Outcome::Unknown(Error::new(ErrorKind::Unsupported, why));
        match self.stack.guests.as_slice() {
            [one] if one.windows().is_some() => Err(unknown(format!(
                "the system on {} is a Windows ({}), for which this rule cannot decide yet",
                one.root,
                one.product()
            ))),
            [one] => Ok(one),
            [] => Err(match self.survey().unread.first() {
                Some(why) => unknown(format!("no operating system was found, but {why}")),
                None => Outcome::NotApplicable("there is no operating system in this image".to_owned()),
            }),
            several => {
                let names: Vec<String> =
                    several.iter().map(|guest| format!("{} ({})", guest.root, guest.product())).collect();
                Err(unknown(format!(
                    "several operating systems: {}; which is meant is not known",
                    names.join(", ")
                )))
            }
        }
    }
}

/// Takes the value of a `Result<_, Outcome>`, or ends the rule with that outcome.
macro_rules! or_outcome {
    ($value:expr) => {
        match $value {
            Ok(value) => value,
            Err(outcome) => return Ok(outcome),
        }
    };
}
pub(crate) use or_outcome;

/// A rule's limits, from the profile.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    table: &'a toml::Table,
}

impl<'a> Args<'a> {
    /// Of a profile's `params`.
    #[must_use]
    pub const fn new(table: &'a toml::Table) -> Self {
        Self { table }
    }

    /// A list of words.
    ///
    /// # Errors
    /// `Internal` when the profile does not have it: profiles are embedded and tested.
    pub fn words(&self, name: &str) -> Result<Vec<&'a str>> {
        let words = self.table.get(name).and_then(toml::Value::as_array);
        let words =
            words.and_then(|words| words.iter().map(toml::Value::as_str).collect::<Option<Vec<&str>>>());
        words.ok_or_else(|| Self::wrong(name, "a list of words"))
    }

    /// A size: `"500 GiB"`.
    ///
    /// # Errors
    /// As [`Args::words`].
    pub fn size(&self, name: &str) -> Result<u64> {
        let text = self.table.get(name).and_then(toml::Value::as_str).unwrap_or_default();
        let units = [("KiB", 1_u64 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
        let size = units.iter().find_map(|(unit, bytes)| {
            text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(*bytes)
        });
        size.ok_or_else(|| Self::wrong(name, "a size such as \"500 GiB\""))
    }

    fn wrong(name: &str, wanted: &str) -> Error {
        Error::new(ErrorKind::Internal, format!("the profile's params.{name} is not {wanted}"))
    }
}

/// A rule by its name.
#[must_use]
pub fn by_id(id: &str) -> Option<&'static dyn Check> {
    CHECKS.iter().copied().find(|check| check.id() == id)
}

impl fmt::Debug for dyn Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Check({})", self.id())
    }
}

/// Bytes as people say them: `3.1 GiB`.
#[must_use]
pub fn human(bytes: u64) -> String {
    let units = ["TiB", "GiB", "MiB", "KiB"];
    let mut shift = 40_u32;
    for unit in units {
        if let Some(whole) = bytes.checked_shr(shift).filter(|whole| *whole > 0) {
            let rest = bytes.checked_shr(shift.saturating_sub(10)).unwrap_or(0) & 1023;
            let tenth = rest.saturating_mul(10) >> 10;
            return if whole < 100 && tenth > 0 {
                format!("{whole}.{tenth} {unit}")
            } else {
                format!("{whole} {unit}")
            };
        }
        shift = shift.saturating_sub(10);
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_powers_of_1024() {
        // numfmt --to=iec-i rounds up; here the size is never overstated.
        assert_eq!(
            (human(500 << 30), human((3 << 30) + (1 << 29)), human(10)),
            ("500 GiB".into(), "3.5 GiB".into(), "10 bytes".into())
        );
    }

    #[test]
    fn a_value_that_a_setting_cannot_have_is_refused() {
        for word in [
            "systemDiskSizeGB=abc",
            "systemDiskSizeGB=-1",
            "diskFormat=foo",
            "forceImport=maybe",
            "platform=",
        ] {
            assert_eq!(Settings::parse(&[word]).unwrap_err().kind(), ErrorKind::Usage, "{word}");
        }
        let told = Settings::parse(&["systemDiskSizeGB=50", "forceImport=True"]).unwrap();
        assert_eq!((told.size("systemDiskSizeGB"), told.is_yes("forceImport")), (Some(50 << 30), true));
    }

    #[test]
    fn a_setting_that_no_rule_looks_at_is_refused() {
        assert!(Settings::parse(&["diskFormat=vhd"]).is_ok());
        assert!(Settings::parse(&["diskformat=vhd"]).is_err() && Settings::parse(&["x"]).is_err());
    }
}
