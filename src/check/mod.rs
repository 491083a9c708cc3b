//! Would a cloud's private-image import accept this image? Facts → rules → profile → report.
//!
//! ```text
//! stack, guest   facts, each with its evidence
//!   └─ rules     a Check looks at facts and says pass, fail, not applicable or unknown; it knows no cloud
//!        └─ profile   TOML: which checks a cloud makes, with limits, its own codes, levels and the document's words
//!             └─ report   findings, verdict; text or JSON
//! ```
//! A new rule is one file in `rules/` and one line in its group's list; a new cloud one file in `profiles/` and one line
//! in [`profile::PROFILES`]. What could not be read makes a rule unknown; unknown never counts as passed.

use crate::error::{Error, ErrorKind, Result};
use crate::guest::Guest;
use crate::measure::Range;
use crate::stack::Stack;
use std::fmt;
use std::sync::{Arc, OnceLock};
use survey::Survey;

mod cause;
mod container;
pub mod diagnose;
mod disks;
mod firmware;
pub mod handbook;
pub mod profile;
pub mod report;
mod rules;
pub mod settings;
pub mod survey;
mod table;
pub mod words;

pub use crate::guest::Evidence;
pub use rules::GROUPS;
pub use settings::Settings;
pub(crate) use words::words;
pub use words::{Lang, Phrase, Words};

/// One rule. It looks at facts and limits; it knows no cloud.
pub trait Check: Sync {
    /// Its name in profiles, reports and `--ignore`; its file's name with `-` for `_`.
    fn id(&self) -> &'static str;

    /// What it asks and how it decides, for people.
    fn explain(&self) -> Phrase;

    /// The limits that a profile gives it.
    fn params(&self) -> &'static [Param] {
        &[]
    }

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
    NotApplicable(Words),
}

/// What a rule saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// One sentence.
    pub message: Words,
    /// The places that show it.
    pub evidence: Vec<Evidence>,
    /// The next step in this image, where the rule knows a better one than the profile.
    pub fix: Option<Words>,
}

impl Seen {
    /// A sentence.
    #[must_use]
    pub fn new(message: impl Into<Words>) -> Self {
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
    pub fn fix(mut self, fix: impl Into<Words>) -> Self {
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

/// One word for a shell, quoted where it holds more than a usual name does.
fn in_shell(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:+,=@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
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
    facts: crate::guest::fact::Facts,
}

/// Something about the whole image that several rules look at: `subject.fact::<BootCode>()`. As
/// [`crate::guest::Fact`], which is for what a system says about itself.
pub trait Fact: Send + Sync + 'static {
    /// Reads it.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    fn read(subject: &Subject<'_>) -> Result<Self>
    where
        Self: Sized;
}

impl<'a> Subject<'a> {
    /// The image's name as a word of a shell's command: people copy the commands.
    #[must_use]
    pub fn name_in_shell(&self) -> String {
        in_shell(&self.stack.name)
    }

    /// An image to check. With `full_scan` a rule may read the whole disk.
    #[must_use]
    pub fn new(stack: &'a Stack, settings: &'a Settings, full_scan: bool) -> Self {
        Self {
            stack,
            settings,
            full_scan,
            size: OnceLock::new(),
            survey: OnceLock::new(),
            facts: crate::guest::fact::Facts::default(),
        }
    }

    /// A fact, read when it is first asked for.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn fact<F: Fact>(&self) -> Result<Arc<F>> {
        self.facts.get(|| F::read(self))
    }

    /// May a rule read the whole disk?
    #[must_use]
    pub const fn may_scan(&self) -> bool {
        self.full_scan
    }

    /// Its size as QCOW2.
    ///
    /// # Errors
    /// When the disk's map, or with a full scan the disk, cannot be read.
    pub fn qcow2_size(&self) -> Result<Range> {
        self.size
            .get_or_init(|| crate::measure::qcow2_size(&*self.system_disk().image.disk, self.full_scan))
            .clone()
    }

    /// What each volume is for.
    pub fn survey(&self) -> &Survey {
        self.survey.get_or_init(|| Survey::of(self.stack))
    }

    /// The only system, or the outcome of a rule that needs one.
    ///
    /// # Errors
    /// The outcome: not applicable when there is surely none, unknown when one may be hidden or there are several.
    pub fn guest(&self) -> std::result::Result<&'a Guest, Outcome> {
        let unknown = |why: String| Outcome::Unknown(Error::new(ErrorKind::Unsupported, why));
        match self.stack.guests.as_slice() {
            [one] => Ok(one),
            [] => Err(match self.survey().unread.first() {
                Some(why) => unknown(format!("no operating system was found, but {why}")),
                None => Outcome::NotApplicable(words!(
                    "there is no operating system in this image",
                    "此镜像中没有操作系统"
                )),
            }),
            several => {
                let names: Vec<String> =
                    several.iter().map(|guest| format!("{} ({})", guest.place(), guest.name())).collect();
                let error = Error::new(
                    ErrorKind::Unsupported,
                    format!("several operating systems: {}; which is meant is not known", names.join(", ")),
                );
                Err(Outcome::Unknown(error.help("choose one: --os N")))
            }
        }
    }

    /// The only system if it is a Linux.
    ///
    /// # Errors
    /// As [`Subject::guest`]; not applicable where every system is a Windows.
    pub fn linux(&self) -> std::result::Result<&'a Guest, Outcome> {
        self.of_kind(false, words!("the system is a Windows", "该系统是 Windows"))
    }

    /// The only system if it is a Windows.
    ///
    /// # Errors
    /// As [`Subject::guest`]; not applicable where no system is a Windows.
    pub fn windows(&self) -> std::result::Result<&'a Guest, Outcome> {
        self.of_kind(true, words!("the system is not a Windows", "该系统不是 Windows"))
    }

    fn of_kind(&self, windows: bool, otherwise: Words) -> std::result::Result<&'a Guest, Outcome> {
        let guests = &self.stack.guests;
        if !guests.is_empty() && guests.iter().all(|guest| guest.windows().is_some() != windows) {
            return Err(Outcome::NotApplicable(otherwise));
        }
        self.guest()
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

/// A limit that a rule takes.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name in a profile's `params`.
    pub name: &'static str,
    /// What it is.
    pub kind: ParamKind,
    /// Must a profile give it?
    pub required: bool,
}

/// What a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// A list of words.
    Words,
    /// A size: `"500 GiB"`.
    Size,
    /// A whole number.
    Number,
    /// Yes or no.
    Flag,
}

impl Param {
    /// One that a profile must give.
    #[must_use]
    pub const fn required(name: &'static str, kind: ParamKind) -> Self {
        Self { name, kind, required: true }
    }

    /// One that a profile may give.
    #[must_use]
    pub const fn optional(name: &'static str, kind: ParamKind) -> Self {
        Self { name, kind, required: false }
    }

    /// Does a profile's table give it as it must be? What is wrong if not.
    fn judge(&self, table: &toml::Table) -> std::result::Result<(), String> {
        let Some(value) = table.get(self.name) else {
            return if self.required { Err(format!("params.{} is missing", self.name)) } else { Ok(()) };
        };
        let (is_right, wanted) = match self.kind {
            ParamKind::Words => (words_of(value).is_some(), "a list of words"),
            ParamKind::Size => (size_of(value).is_some(), "a size such as \"500 GiB\""),
            ParamKind::Number => (number_of(value).is_some(), "a whole number"),
            ParamKind::Flag => (value.as_bool().is_some(), "true or false"),
        };
        if is_right { Ok(()) } else { Err(format!("params.{} is not {wanted}", self.name)) }
    }
}

fn words_of(value: &toml::Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(toml::Value::as_str).collect()
}

fn size_of(value: &toml::Value) -> Option<u64> {
    let text = value.as_str()?;
    let units = [("KiB", 1_u64 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    units
        .iter()
        .find_map(|(unit, bytes)| text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(*bytes))
}

fn number_of(value: &toml::Value) -> Option<u64> {
    u64::try_from(value.as_integer()?).ok()
}

/// A rule's limits, from the profile, which was judged by [`Check::params`] when it was read.
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
    /// `Internal` when the profile does not have it.
    pub fn words(&self, name: &str) -> Result<Vec<&'a str>> {
        self.table.get(name).and_then(words_of).ok_or_else(|| Self::wrong(name))
    }

    /// A size.
    ///
    /// # Errors
    /// As [`Args::words`].
    pub fn size(&self, name: &str) -> Result<u64> {
        self.table.get(name).and_then(size_of).ok_or_else(|| Self::wrong(name))
    }

    /// A number.
    ///
    /// # Errors
    /// As [`Args::words`].
    pub fn number(&self, name: &str) -> Result<u64> {
        self.table.get(name).and_then(number_of).ok_or_else(|| Self::wrong(name))
    }

    /// Yes or no; no where the profile says nothing.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.table.get(name).and_then(toml::Value::as_bool).unwrap_or(false)
    }

    /// Did the profile give this one?
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    fn wrong(name: &str) -> Error {
        Error::new(ErrorKind::Internal, format!("the profile's params.{name} is missing or of a wrong kind"))
    }
}

/// Every rule, in the order in which reports list them.
pub fn checks() -> impl Iterator<Item = &'static dyn Check> {
    GROUPS.iter().flat_map(|(_, checks)| checks.iter().copied())
}

/// A rule by its name.
#[must_use]
pub fn by_id(id: &str) -> Option<&'static dyn Check> {
    checks().find(|check| check.id() == id)
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
}
