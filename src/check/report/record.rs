//! A record: what is kept of one report when there are many images. It is made of a report, or read from the line of JSON
//! that one was written as.

use super::columns::pad;
use super::text::{DIM, RED, verdict_colour};
use super::{Kind, Lang, Report, Style, labels};
use crate::check::Words;
use crate::check::profile::{Level, Verdict};
use crate::text::defuse;
use serde_json::Value;
use std::collections::BTreeSet;

/// What is kept of a report.
#[derive(Clone, Debug)]
pub struct Record {
    /// The image, as it was named.
    pub image: String,
    /// Its state, as [`Report::version`].
    pub version: Option<String>,
    /// As [`Report::asked`].
    pub asked: Option<String>,
    /// The profile's id.
    pub profile: String,
    /// When the profile was compared with its document.
    pub checked_on: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why the image could not be opened, if so.
    pub error: Option<String>,
    /// What did not pass and is not idle.
    pub findings: Vec<Trouble>,
}

/// A finding that somebody must do something about.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What it means.
    pub kind: Kind,
    /// Its level, which tells apart what is undecided.
    pub level: Level,
    /// The rule's id.
    pub rule: String,
    /// The cloud's code.
    pub code: Option<String>,
    /// One sentence.
    pub message: Words,
    /// The next step.
    pub fix: Option<Words>,
}

impl Record {
    /// Of a report.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let findings = report.findings().iter().filter(|finding| Kind::of(finding) < Kind::Passed);
        Self {
            image: report.image.clone(),
            version: report.version.clone(),
            asked: report.asked.clone(),
            profile: report.profile.id.clone(),
            checked_on: report.profile.checked_on.clone(),
            verdict: report.verdict(),
            error: report.findings.as_ref().err().map(crate::error::Error::chain),
            findings: findings
                .map(|finding| Trouble {
                    kind: Kind::of(finding),
                    level: finding.level,
                    rule: finding.rule.id().to_owned(),
                    code: finding.rule.code.clone(),
                    message: Words { en: finding.message(Lang::En), zh: finding.message(Lang::Zh) },
                    fix: finding.fix(Lang::En).map(|en| Words {
                        en: en.to_owned(),
                        zh: finding.fix(Lang::Zh).unwrap_or(en).to_owned(),
                    }),
                })
                .collect(),
        }
    }

    /// Of a line of JSON.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| format!("no JSON: {error}"))?;
        if value.get("schema").and_then(Value::as_str) != Some(super::json::SCHEMA) {
            return Err(format!("no line of a report: its schema is not {}", super::json::SCHEMA));
        }
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let need = |name: &str| text(name).ok_or_else(|| format!("it has no {name}"));
        let verdict = need("verdict")?;
        let error = value.get("error").and_then(|error| error.get("error")).and_then(Value::as_str);
        let findings = value.get("findings").and_then(Value::as_array);
        let findings = findings.ok_or_else(|| "it has no findings".to_owned())?;
        Ok(Self {
            image: need("image")?,
            version: text("image_version"),
            asked: text("asked"),
            profile: need("profile")?,
            checked_on: text("checked_on").unwrap_or_default(),
            verdict: Verdict::by_name(&verdict).ok_or_else(|| format!("its verdict is '{verdict}'"))?,
            error: error.map(str::to_owned),
            findings: findings
                .iter()
                .map(Trouble::parse)
                .collect::<Result<Vec<_>, String>>()?
                .into_iter()
                .flatten()
                .collect(),
        })
    }

    /// Failed or undecided, and counted, at this level or above?
    #[must_use]
    pub fn has(&self, kind: Kind, level: Level) -> bool {
        self.findings.iter().any(|one| match kind {
            Kind::Undecided => one.kind == kind && one.level >= level,
            _ => matches!(one.kind, Kind::Blocker | Kind::Warning | Kind::Info) && one.level >= level,
        })
    }

    /// The codes of what keeps it out; the rules' ids where the cloud has none.
    fn causes(&self) -> String {
        let worst = self.findings.iter().map(|one| one.kind).min();
        let of_worst =
            self.findings.iter().filter(|one| Some(one.kind) == worst && one.kind <= Kind::Warning);
        let names: BTreeSet<&str> = of_worst.map(|one| one.code.as_deref().unwrap_or(&one.rule)).collect();
        names.into_iter().collect::<Vec<&str>>().join(", ")
    }
}

impl Trouble {
    /// Nothing for what passed.
    fn parse(value: &Value) -> Result<Option<Self>, String> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let need = |name: &str| text(name).ok_or_else(|| format!("a finding has no {name}"));
        let (level, result) = (need("level")?, need("result")?);
        let level = Level::by_name(&level).ok_or_else(|| format!("a level is '{level}'"))?;
        let is_ignored = value.get("ignored").and_then(Value::as_bool).unwrap_or(false);
        let kind = match (result.as_str(), level) {
            ("pass" | "not-applicable", _) => return Ok(None),
            ("fail" | "undecided", _) if is_ignored => Kind::Ignored,
            ("undecided", _) => Kind::Undecided,
            ("fail", Level::Blocker) => Kind::Blocker,
            ("fail", Level::Warning) => Kind::Warning,
            ("fail", Level::Info) => Kind::Info,
            _ => return Err(format!("a result is '{result}'")),
        };
        let words = |name: &str| {
            let en = text(name)?;
            Some(Words { zh: text(&format!("{name}_zh")).unwrap_or_else(|| en.clone()), en })
        };
        let message = words("message").ok_or_else(|| "a finding has no message".to_owned())?;
        Ok(Some(Self { kind, level, rule: need("rule")?, code: text("code"), message, fix: words("fix") }))
    }
}

/// One line of one image, from the records of all profiles.
#[must_use]
pub fn line(records: &[Record], style: &Style) -> String {
    let Some(first) = records.first() else { return String::new() };
    let lang = style.lang;
    let image = defuse(&first.image);
    let widest = [Verdict::Importable, Verdict::NotImportable, Verdict::Undecided]
        .map(|verdict| super::columns::width(labels::verdict(verdict).get(lang)));
    let widest = widest.into_iter().max().unwrap_or(0);
    if let Some(error) = &first.error {
        let word = style.paint(RED, &pad(labels::NOT_CHECKED.get(lang), widest));
        let error = defuse(error);
        // An error begins with the image's name.
        return format!("{word}  {image}  {}", error.strip_prefix(&format!("{image}: ")).unwrap_or(&error));
    }
    if let [record] = records {
        let verdict = record.verdict;
        let word = style.paint(verdict_colour(verdict), &pad(labels::verdict(verdict).get(lang), widest));
        return format!("{word}  {image}  {}", style.paint(DIM, &defuse(&record.causes())))
            .trim_end()
            .to_owned();
    }
    let groups =
        [Verdict::NotImportable, Verdict::Undecided, Verdict::Importable].into_iter().filter_map(|verdict| {
            let names: Vec<String> = records
                .iter()
                .filter(|record| record.verdict == verdict)
                .map(|record| {
                    let causes = if verdict == Verdict::Importable { String::new() } else { record.causes() };
                    if causes.is_empty() {
                        record.profile.clone()
                    } else {
                        format!("{} ({causes})", record.profile)
                    }
                })
                .collect();
            let word = style.paint(verdict_colour(verdict), labels::verdict(verdict).get(lang));
            (!names.is_empty()).then(|| format!("{word}{}{}", labels::colon(lang), defuse(&names.join(", "))))
        });
    let groups: Vec<String> = groups.collect();
    format!("{image}  {}", groups.join("; "))
}
