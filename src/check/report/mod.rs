//! Reports of one or several images against one or several profiles, for people and for programs.
//!
//! ```text
//! Report      one image against one profile: findings, or why it could not be opened
//!   ├─ about     what the image is: shared by all reports of one image; `layout` is the picture of its disks
//!   ├─ text      for a terminal; `matrix` when several profiles were asked
//!   ├─ json, jsonl, sarif, junit     for programs
//!   ├─ markdown, html                for tickets and for the desk
//!   └─ record    the little of it that is kept of each of many images; `causes` groups such records
//! ```
//! A new form is one file and one line in [`FORMS`].

use super::profile::{Finding, Level, Profile, Verdict};
use super::{Evidence, Lang, Outcome, Seen, human};
use crate::error::Error;
use crate::text::defuse;
use std::sync::Arc;

/// Adds to a `String`, which cannot fail.
macro_rules! put {
    ($out:expr, $($what:tt)+) => { $out.push_str(&format!($($what)+)) };
}

/// As [`put`], with an end of line.
macro_rules! putln {
    ($out:expr) => { $out.push('\n') };
    ($out:expr, $($what:tt)+) => {{
        put!($out, $($what)+);
        $out.push('\n');
    }};
}

pub mod about;
pub mod causes;
pub mod columns;
mod labels;
pub mod layout;
mod matrix;
pub mod record;
pub mod why;

registry! {
    /// Every form of report.
    pub const FORMS: &[&Form];
    pub mod text => FORM;
    pub mod json => FORM;
    pub mod jsonl => FORM;
    pub mod sarif => FORM;
    pub mod junit => FORM;
    pub mod markdown => FORM;
    pub mod html => FORM;

}

pub use about::About;

/// A form of report.
pub struct Form {
    /// Its name for `--report`.
    pub name: &'static str,
    /// How it is written.
    pub write: Write,
}

/// How a report is written.
#[derive(Clone, Copy, Debug)]
pub enum Write {
    /// When everything is known.
    Whole(fn(&[Report], &Style) -> String),
    /// Image by image, each text behind the one before.
    Each(fn(&[Report], &Style) -> String),
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Form({})", self.name)
    }
}

impl Form {
    /// A form by its name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        FORMS.iter().find(|form| form.name == name).copied()
    }

    /// The report.
    #[must_use]
    pub fn text(&self, reports: &[Report], style: &Style) -> String {
        match self.write {
            Write::Whole(write) | Write::Each(write) => write(reports, style),
        }
    }
}

/// How a report looks.
#[derive(Clone, Debug)]
pub struct Style {
    /// Also list what passed and what does not apply.
    pub all: bool,
    /// Colours.
    pub colour: bool,
    /// Nothing but ASCII where we have the choice.
    pub ascii: bool,
    /// The language of people's reports.
    pub lang: Lang,
    /// Columns of the terminal.
    pub width: usize,
    /// The level from which on a failure is one for a build server.
    pub fail_on: Option<Level>,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            all: false,
            colour: false,
            ascii: false,
            lang: Lang::En,
            width: 100,
            fail_on: Some(Level::Blocker),
        }
    }
}

impl Style {
    fn paint(&self, style: anstyle::Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// One image against one profile.
#[derive(Clone, Debug)]
pub struct Report {
    /// The image, as it was named.
    pub image: String,
    /// What tells this state of the image from others of the same name, where something does.
    pub version: Option<String>,
    /// What was asked besides the profile, as it would be typed.
    pub asked: Option<String>,
    /// What it is; nothing for one that could not be opened.
    pub about: Option<Arc<About>>,
    /// The profile.
    pub profile: Arc<Profile>,
    /// What became of each rule, or why the image could not be opened.
    pub findings: Result<Vec<Finding>, Error>,
    /// Of an image that could not be opened: what the file is instead, where a look at it tells.
    pub diagnosis: Option<Arc<Seen>>,
}

impl Report {
    /// The verdict; undecided for an image that could not be opened.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.findings.as_ref().map_or(Verdict::Undecided, |findings| Verdict::of(findings))
    }

    /// What became of each rule; nothing for an image that could not be opened.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        self.findings.as_deref().unwrap_or_default()
    }

    /// In the order in which people want to read them: each kind that there is, with its findings.
    fn sorted(&self) -> Vec<(Kind, Vec<&Finding>)> {
        let mut found = Vec::new();
        for kind in Kind::ALL {
            let of_kind: Vec<&Finding> =
                self.findings().iter().filter(|finding| Kind::of(finding) == kind).collect();
            if !of_kind.is_empty() {
                found.push((kind, of_kind));
            }
        }
        found
    }

    fn count(&self, kind: Kind) -> usize {
        self.findings().iter().filter(|finding| Kind::of(finding) == kind).count()
    }

    /// What it is, in one line.
    fn about_line(&self, lang: Lang) -> String {
        self.about.as_ref().map(|about| about.line().get(lang).to_owned()).unwrap_or_default()
    }
}

/// What a finding means for the reader, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It keeps the image from being imported or started.
    Blocker,
    /// A blocker, if it turns out so: the first among the undecided.
    Undecided,
    /// Something will be lost.
    Warning,
    /// Worth knowing.
    Info,
    /// Left out of the verdict, and not passed.
    Ignored,
    /// As wanted.
    Passed,
    /// The question does not arise.
    Idle,
}

impl Kind {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 7] =
        [Self::Blocker, Self::Warning, Self::Info, Self::Undecided, Self::Ignored, Self::Passed, Self::Idle];

    /// Of a finding.
    #[must_use]
    pub const fn of(finding: &Finding) -> Self {
        match (&finding.outcome, finding.level) {
            (Outcome::Pass(_), _) => Self::Passed,
            (Outcome::Fail(_) | Outcome::Unknown(_), _) if finding.ignored => Self::Ignored,
            (Outcome::NotApplicable(_), _) => Self::Idle,
            (Outcome::Unknown(_), _) => Self::Undecided,
            (Outcome::Fail(_), Level::Blocker) => Self::Blocker,
            (Outcome::Fail(_), Level::Warning) => Self::Warning,
            (Outcome::Fail(_), Level::Info) => Self::Info,
        }
    }
}

/// Reports of one image, image after image. Those of an image stand side by side.
fn by_image(reports: &[Report]) -> impl Iterator<Item = &[Report]> {
    reports.chunk_by(|one, other| one.image == other.image)
}

/// Where a piece of evidence was seen: `p1:/etc/fstab:3`. Empty where it has no place.
fn place(evidence: &Evidence) -> String {
    let mut at = Vec::new();
    at.extend(evidence.volume.clone());
    at.extend(evidence.path.as_ref().map(ToString::to_string));
    at.extend(evidence.line.map(|line| line.to_string()));
    at.extend(evidence.byte.map(|byte| format!("byte {byte}")));
    defuse(&at.join(":"))
}

/// What was seen there, in words and as it stands.
fn sight(evidence: &Evidence) -> String {
    let mut text = evidence.what.clone();
    if let Some(excerpt) = &evidence.excerpt {
        put!(text, ": {excerpt}");
    }
    defuse(&text)
}

/// Document and clause.
fn source(finding: &Finding) -> String {
    defuse(&finding.source)
}
