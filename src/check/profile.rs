//! A profile: what one cloud asks, as data. It picks checks and gives each a level, limits, the cloud's own code and
//! the words of the document it comes from.

use super::{Args, Lang, Outcome, Seen, Subject, by_id};
use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Every profile: its name and its text, embedded, in the order in which they are listed.
pub const PROFILES: &[(&str, &str)] = &[
    ("tencent", include_str!("profiles/tencent.toml")),
    ("jdcloud", include_str!("profiles/jdcloud.toml")),
    ("huawei", include_str!("profiles/huawei.toml")),
    ("huawei-2018", include_str!("profiles/huawei-2018.toml")),
    ("ucloudstack", include_str!("profiles/ucloudstack.toml")),
    ("ucloud", include_str!("profiles/ucloud.toml")),
    ("generic-kvm", include_str!("profiles/generic-kvm.toml")),
    ("alibaba", include_str!("profiles/alibaba.toml")),
    ("baidu", include_str!("profiles/baidu.toml")),
];

/// What one cloud asks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name for `--profile`.
    pub id: String,
    /// The cloud and the way of import.
    pub title: String,
    /// The same in Chinese.
    pub title_zh: String,
    /// The document it was read from.
    pub document: String,
    /// Where that is.
    pub url: String,
    /// When that was written, as far as it says.
    pub document_date: String,
    /// When this file was compared with it.
    pub checked_on: String,
    /// Its rules.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// What the document asks and no image can tell.
    #[serde(default)]
    pub undecidable: Vec<Undecidable>,
}

/// One rule of a cloud.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// [`super::Check::id`].
    pub check: String,
    /// Its name in reports and for `--ignore`, where a profile asks the same check twice; else the check's.
    #[serde(default)]
    id: Option<String>,
    /// The requirements of the document that it stands for, as they are numbered in `docs/requirements.md`: `T9`.
    #[serde(default)]
    pub rows: Vec<String>,
    /// What a failure means.
    pub level: Level,
    /// A name for `--set` that makes a blocker a warning.
    pub lowered_by: Option<String>,
    /// The code that the cloud reports.
    pub code: Option<String>,
    /// Limits for the check.
    #[serde(default)]
    pub params: toml::Table,
    /// Why it matters.
    pub why: String,
    /// The same in Chinese.
    pub why_zh: String,
    /// What to do, where the check knows nothing better for this image.
    pub fix: String,
    /// The same in Chinese.
    pub fix_zh: String,
    /// The document's words.
    pub clause: String,
    /// The document, where it is not the profile's.
    pub document: Option<String>,
    /// Where that is.
    pub url: Option<String>,
    /// When that was written.
    pub document_date: Option<String>,
}

impl Rule {
    /// Its name in reports and for `--ignore`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.check)
    }

    /// The document that it was read from, its date and its address.
    #[must_use]
    pub fn source<'a>(&'a self, profile: &'a Profile) -> (&'a str, &'a str, &'a str) {
        (
            self.document.as_ref().unwrap_or(&profile.document),
            self.document_date.as_ref().unwrap_or(&profile.document_date),
            self.url.as_ref().unwrap_or(&profile.url),
        )
    }
}

/// A requirement that cannot be decided from an image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undecidable {
    /// Its numbers, as in [`Rule::rows`].
    pub rows: Vec<String>,
    /// The code that the cloud reports.
    pub code: Option<String>,
    /// What is asked.
    pub what: String,
    /// The same in Chinese.
    pub what_zh: String,
    /// Why it cannot be decided, and where to look instead.
    pub reason: String,
    /// The same in Chinese.
    pub reason_zh: String,
    /// The document's words.
    pub clause: String,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Info,
    /// It is imported and starts, but something is lost.
    Warning,
    /// It is refused, or does not start.
    Blocker,
}

impl Level {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Blocker => "blocker",
        }
    }

    /// By its word in reports.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Info, Self::Warning, Self::Blocker].into_iter().find(|level| level.name() == name)
    }
}

/// What became of one rule.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Its level in this run.
    pub level: Level,
    /// What its check decided.
    pub outcome: Outcome,
    /// It was left out of the verdict with `--ignore`.
    pub ignored: bool,
    /// Document and clause, for people.
    pub source: String,
}

impl Finding {
    /// `pass`, `fail`, `not-applicable`, `undecided`.
    #[must_use]
    pub const fn result(&self) -> &'static str {
        match self.outcome {
            Outcome::Pass(_) => "pass",
            Outcome::Fail(_) => "fail",
            Outcome::Unknown(_) => "undecided",
            Outcome::NotApplicable(_) => "not-applicable",
        }
    }

    /// Failed, and counted, at this level or above?
    #[must_use]
    pub fn fails_at(&self, level: Level) -> bool {
        !self.ignored && self.level >= level && matches!(self.outcome, Outcome::Fail(_))
    }

    /// Undecided, and counted, at this level or above?
    #[must_use]
    pub fn is_undecided_at(&self, level: Level) -> bool {
        !self.ignored && self.level >= level && matches!(self.outcome, Outcome::Unknown(_))
    }

    /// What was seen, if the rule was decided.
    #[must_use]
    pub const fn seen(&self) -> Option<&Seen> {
        match &self.outcome {
            Outcome::Pass(seen) | Outcome::Fail(seen) => Some(seen),
            Outcome::Unknown(_) | Outcome::NotApplicable(_) => None,
        }
    }

    /// One sentence.
    #[must_use]
    pub fn message(&self, lang: Lang) -> String {
        match &self.outcome {
            Outcome::Pass(seen) | Outcome::Fail(seen) => seen.message.get(lang).to_owned(),
            Outcome::Unknown(error) => error.chain(),
            Outcome::NotApplicable(why) => why.get(lang).to_owned(),
        }
    }

    /// The next step; none is needed for what passed.
    #[must_use]
    pub fn fix(&self, lang: Lang) -> Option<&str> {
        let of_profile = || match lang {
            Lang::En => self.rule.fix.as_str(),
            Lang::Zh => self.rule.fix_zh.as_str(),
        };
        match &self.outcome {
            Outcome::Fail(seen) => Some(seen.fix.as_ref().map_or_else(of_profile, |fix| fix.get(lang))),
            Outcome::Unknown(error) => error.help_text(),
            Outcome::Pass(_) | Outcome::NotApplicable(_) => None,
        }
    }
}

/// What a cloud would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No rule stands against it.
    Importable,
    /// A blocker failed.
    NotImportable,
    /// No blocker failed, but one could not be decided.
    Undecided,
}

impl Verdict {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Importable => "importable",
            Self::NotImportable => "not-importable",
            Self::Undecided => "undecided",
        }
    }

    /// By its word in reports.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Importable, Self::NotImportable, Self::Undecided]
            .into_iter()
            .find(|verdict| verdict.name() == name)
    }

    /// Of findings.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        if findings.iter().any(|finding| finding.fails_at(Level::Blocker)) {
            Self::NotImportable
        } else if findings.iter().any(|finding| finding.is_undecided_at(Level::Blocker)) {
            Self::Undecided
        } else {
            Self::Importable
        }
    }
}

impl Profile {
    /// Reads one.
    ///
    /// # Errors
    /// `Usage` with what is wrong in it.
    pub fn parse(text: &str) -> Result<Self> {
        let profile: Self = toml::from_str(text)
            .map_err(|error| Error::new(ErrorKind::Usage, "not a profile").caused_by(error))?;
        profile
            .judge()
            .map_err(|wrong| Error::new(ErrorKind::Usage, format!("profile {}: {wrong}", profile.id)))?;
        Ok(profile)
    }

    /// Is every rule a check that there is, with the limits that it takes, and no name given twice? What is wrong if not.
    fn judge(&self) -> std::result::Result<(), String> {
        let mut seen = BTreeSet::new();
        for rule in &self.rules {
            let id = rule.id();
            let check =
                by_id(&rule.check).ok_or_else(|| format!("rule {id}: there is no check '{}'", rule.check))?;
            if !seen.insert(id) {
                return Err(format!("rule {id} stands twice; give one an id of its own"));
            }
            for param in check.params() {
                param.judge(&rule.params).map_err(|wrong| format!("rule {id}: {wrong}"))?;
            }
            let unknown =
                rule.params.keys().find(|name| !check.params().iter().any(|param| param.name == *name));
            if let Some(unknown) = unknown {
                return Err(format!("rule {id}: check {} takes no params.{unknown}", rule.check));
            }
        }
        Ok(())
    }

    /// Every code that it knows.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        let rules = self.rules.iter().filter_map(|rule| rule.code.as_deref());
        rules.chain(self.undecidable.iter().filter_map(|known| known.code.as_deref()))
    }

    /// The same profile with nothing but what stands behind a code; none where it does not know it.
    #[must_use]
    pub fn behind(&self, code: &str) -> Option<Self> {
        let is_it = |other: &Option<String>| other.as_deref() == Some(code);
        let rules: Vec<Rule> = self.rules.iter().filter(|rule| is_it(&rule.code)).cloned().collect();
        let undecidable: Vec<Undecidable> =
            self.undecidable.iter().filter(|known| is_it(&known.code)).cloned().collect();
        (!rules.is_empty() || !undecidable.is_empty()).then(|| Self { rules, undecidable, ..self.clone() })
    }

    /// Runs every rule. A rule that fails to decide spoils itself only.
    #[must_use]
    pub fn run(&self, subject: &Subject<'_>, ignored: &[String]) -> Vec<Finding> {
        self.rules
            .iter()
            .map(|rule| {
                let args = Args::new(&rule.params);
                let check = by_id(&rule.check).expect("profiles are judged when they are read");
                let outcome = check.run(subject, &args).unwrap_or_else(Outcome::Unknown);
                let (document, date, url) = rule.source(self);
                let lowered = rule.lowered_by.as_ref().is_some_and(|name| subject.settings.is_yes(name));
                Finding {
                    level: if lowered { rule.level.min(Level::Warning) } else { rule.level },
                    ignored: ignored.iter().any(|id| id == rule.id()),
                    source: format!("{document} ({date}, {url}): {}", rule.clause),
                    rule: rule.clone(),
                    outcome,
                }
            })
            .collect()
    }
}

/// Every profile.
///
/// # Errors
/// As [`Profile::parse`].
pub fn all() -> Result<Vec<Profile>> {
    PROFILES.iter().map(|(_, text)| Profile::parse(text)).collect()
}

/// The profiles a user named; `all` for every one.
///
/// # Errors
/// `Usage` with the names there are.
pub fn by_names(names: &[String]) -> Result<Vec<Profile>> {
    if names.iter().any(|name| name == "all") {
        return all();
    }
    let find = |name: &String| match PROFILES.iter().find(|(id, _)| id == name) {
        Some((_, text)) => Profile::parse(text),
        None => {
            let ids: Vec<&str> = PROFILES.iter().map(|(id, _)| *id).collect();
            let name = crate::text::escape(name.as_bytes());
            Err(Error::new(ErrorKind::Usage, format!("no profile '{name}'"))
                .help(format!("one of: {}, all", ids.join(", "))))
        }
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::super::GROUPS;
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn every_profile_reads_and_names_checks_that_exist() {
        for profile in all().unwrap() {
            for rule in &profile.rules {
                assert!(!rule.clause.is_empty() && !rule.why.is_empty() && !rule.fix.is_empty());
            }
        }
    }

    #[test]
    fn every_check_is_in_some_profile_and_ids_are_file_names() {
        let used: BTreeSet<String> =
            all().unwrap().iter().flat_map(|profile| &profile.rules).map(|rule| rule.check.clone()).collect();
        for (group, checks) in GROUPS {
            for check in *checks {
                assert!(used.contains(check.id()), "{} is in no profile", check.id());
                let file = format!("src/check/rules/{group}/{}.rs", check.id().replace('-', "_"));
                assert!(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&file).exists(), "{file}");
            }
        }
    }

    /// The rows of a section of `docs/requirements.md`, each with its last column.
    fn documented(profile: &str) -> BTreeMap<String, String> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/requirements.md");
        let text = std::fs::read_to_string(path).unwrap();
        let sections = text.split("\n## ").skip(1);
        let section = sections.into_iter().find(|section| section.lines().next() == Some(profile));
        let rows = section.unwrap_or_else(|| panic!("no section {profile}")).lines().filter_map(|line| {
            let columns: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
            let [row, _, decided] = *columns.as_slice() else { panic!("not three columns: {line}") };
            (row != "row").then(|| (row.to_owned(), decided.to_owned()))
        });
        rows.collect()
    }

    #[test]
    fn requirements_and_profiles_agree() {
        let mut seen = BTreeSet::new();
        for profile in all().unwrap() {
            let mut rows: BTreeMap<String, String> = BTreeMap::new();
            for rule in &profile.rules {
                for row in &rule.rows {
                    let cell = rows.entry(row.clone()).or_default();
                    let comma = if cell.is_empty() { "" } else { ", " };
                    *cell += &format!("{comma}`{}` ({})", rule.id(), rule.level.name());
                }
            }
            for known in &profile.undecidable {
                for row in &known.rows {
                    let other = rows.insert(row.clone(), format!("not decidable: {}", known.reason));
                    assert_eq!(other, None, "{row} is decided, too");
                }
            }
            for row in rows.keys() {
                assert!(seen.insert(row.clone()), "{row} stands in two profiles");
            }
            assert_eq!(documented(&profile.id), rows, "{}", profile.id);
        }
    }

    #[test]
    fn profiles_speak_both_languages() {
        let is_chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        for profile in all().unwrap() {
            assert!(is_chinese(&profile.title_zh) && !is_chinese(&profile.title), "{}", profile.id);
            for rule in &profile.rules {
                assert!(!is_chinese(&rule.why) && !is_chinese(&rule.fix), "{} {}", profile.id, rule.id());
                assert!(is_chinese(&rule.why_zh), "{} {}", profile.id, rule.id());
            }
            for known in &profile.undecidable {
                assert!(is_chinese(&known.reason_zh) && !is_chinese(&known.reason), "{}", known.what);
            }
        }
    }

    #[test]
    fn no_cloud_is_named_in_a_rule() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/check/rules");
        let files = GROUPS.iter().flat_map(|(group, _)| std::fs::read_dir(dir.join(group)).unwrap());
        for entry in files {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap().to_lowercase();
            for cloud in ["tencent", "jdcloud", "huawei", "ucloud", "alibaba", "aliyun", "baidu"] {
                assert!(!text.contains(cloud), "{cloud}");
            }
        }
    }
}
