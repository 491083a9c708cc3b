//! Reports of one or several images against one or several profiles, for people and for programs.

use super::profile::{Finding, Level, Profile, Verdict};
use super::{Evidence, Lang, Outcome, human};
use crate::error::Error;
use crate::stack::Stack;
use crate::text::{Text, defuse};
use serde_json::{Value, json};

/// Adds to a `String`, which cannot fail.
macro_rules! put {
    ($out:expr, $($what:tt)+) => { $out.push_str(&format!($($what)+)) };
}

/// As [`put`], with an end of line.
macro_rules! putln {
    ($out:expr, $($what:tt)+) => {{
        put!($out, $($what)+);
        $out.push('\n');
    }};
}

/// The name of the JSON document.
pub const SCHEMA: &str = "imgmount.check/1";

/// One image against one profile.
#[derive(Debug)]
pub struct Report {
    /// The image, as it was named.
    pub image: String,
    /// What it is, in one line.
    pub about: String,
    /// The profile.
    pub profile: Profile,
    /// What became of each rule, or why the image could not be opened.
    pub findings: Result<Vec<Finding>, Error>,
}

impl Report {
    /// The verdict; undecided for an image that could not be opened.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.findings.as_ref().map_or(Verdict::Undecided, |findings| Verdict::of(findings))
    }

    fn findings(&self) -> &[Finding] {
        self.findings.as_deref().unwrap_or_default()
    }

    /// As an element of `results` in the JSON document.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut value = json!({
            "image": self.image,
            "profile": self.profile.id,
            "verdict": self.verdict().name(),
            "checked_on": self.profile.checked_on,
            "findings": self.findings().iter().map(finding_json).collect::<Vec<Value>>(),
        });
        if let (Err(error), Some(object)) = (&self.findings, value.as_object_mut()) {
            object.insert(
                "error".to_owned(),
                json!({"error": error.chain(), "kind": error.kind().name(), "help": error.help_text()}),
            );
        }
        value
    }
}

/// The line that says what an image is.
#[must_use]
pub fn about(stack: &Stack) -> String {
    let image = &stack.image;
    let variant = image.subformat.as_ref().map(|variant| format!(" {variant}")).unwrap_or_default();
    let table = stack.discovery.table.kind.name();
    let mut line =
        format!("{}{variant}, {} virtual, partition table {table}", image.format, human(stack.disk().len()));
    if !stack.others.is_empty() {
        let others: Vec<String> = stack
            .others
            .iter()
            .map(|disk| format!("{} ({}, {})", disk.id, disk.image.format, human(disk.image.disk.len())))
            .collect();
        put!(line, "; further disks, which rules about the disk do not look at: {}", others.join(", "));
    }
    for guest in &stack.guests {
        let firmware =
            if guest.firmware.is_empty() { "no boot loader".to_owned() } else { guest.firmware.join("+") };
        put!(line, "; {} {} on {}, {firmware}", guest.product(), guest.arch(), guest.root);
    }
    line
}

/// The JSON document of several reports.
#[must_use]
pub fn json(reports: &[Report]) -> Value {
    json!({"schema": SCHEMA, "results": reports.iter().map(Report::json).collect::<Vec<Value>>()})
}

/// One line of JSON a report.
#[must_use]
pub fn jsonl(reports: &[Report]) -> String {
    let mut out = String::new();
    for report in reports {
        let mut line = json!({"schema": SCHEMA});
        if let (Some(line), Value::Object(report)) = (line.as_object_mut(), report.json()) {
            line.extend(report);
        }
        putln!(out, "{line}");
    }
    out
}

fn finding_json(finding: &Finding) -> Value {
    let evidence = finding.seen().map(|seen| seen.evidence.as_slice()).unwrap_or_default();
    json!({
        "rule": finding.rule.id(),
        "result": finding.result(),
        "level": finding.level.name(),
        "code": finding.rule.code,
        "message": finding.message(Lang::En),
        "evidence": evidence.iter().map(evidence_json).collect::<Vec<Value>>(),
        "why": finding.rule.why,
        "fix": finding.fix(Lang::En),
        "source": finding.source,
        "ignored": finding.ignored,
    })
}

fn evidence_json(evidence: &Evidence) -> Value {
    json!({
        "what": evidence.what,
        "volume": evidence.volume,
        "path": evidence.path.as_ref().map(plain),
        "line": evidence.line,
        "byte": evidence.byte,
        "excerpt": evidence.excerpt.as_ref().map(plain),
    })
}

/// Text of a guest for a JSON string, which has escapes of its own.
fn plain(text: &Text) -> String {
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

/// What the text report shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Also list what passed and what does not apply.
    pub all: bool,
    /// Colours.
    pub colour: bool,
}

impl Style {
    fn paint(self, style: anstyle::Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const GREEN: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
const YELLOW: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();

/// For people: the verdict in words first, then blockers, warnings, what is undecided, and a count of the rest.
#[must_use]
pub fn text(reports: &[Report], style: Style) -> String {
    let mut out = String::new();
    if reports.iter().any(|report| reports.iter().any(|other| other.profile.id != report.profile.id)) {
        matrix(&mut out, reports, style);
    }
    for (at, report) in reports.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        one(&mut out, report, style);
    }
    out
}

fn one(out: &mut String, report: &Report, style: Style) {
    putln!(out, "{}  {}", defuse(&report.image), defuse(&report.about));
    let profile = &report.profile;
    let head = format!(
        "Profile {} (document of {}, compared {})",
        profile.id, profile.document_date, profile.checked_on
    );
    if let Err(error) = &report.findings {
        let verdict = style.paint(RED, "NOT CHECKED");
        putln!(out, "{head}  {verdict}: the image could not be opened\n  {}", defuse(&error.chain()));
        if let Some(help) = error.help_text() {
            putln!(out, "  help: {}", defuse(help));
        }
        return;
    }
    putln!(out, "{head}  {}", verdict_line(report, style));
    let findings = report.findings();
    let fails = |level: Level| {
        findings.iter().filter(move |finding| finding.fails_at(level) && finding.level == level)
    };
    for finding in fails(Level::Blocker).chain(fails(Level::Warning)).chain(fails(Level::Info)) {
        let colour = if finding.level == Level::Blocker { RED } else { YELLOW };
        let word = style.paint(colour, &format!("{:<9}", finding.level.name().to_uppercase()));
        detail(out, &word, finding);
    }
    for finding in findings.iter().filter(|finding| finding.is_undecided_at(Level::Info)) {
        detail(out, &style.paint(YELLOW, "UNDECIDED"), finding);
    }
    for finding in findings.iter().filter(|finding| finding.ignored && finding.result() != "pass") {
        putln!(
            out,
            "\nIGNORED   {}: {} ({})",
            finding.rule.id(),
            defuse(&finding.message(Lang::En)),
            finding.result()
        );
    }
    let passed: Vec<&Finding> =
        findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Pass(_))).collect();
    let idle: Vec<&Finding> = findings
        .iter()
        .filter(|finding| !finding.ignored && matches!(finding.outcome, Outcome::NotApplicable(_)))
        .collect();
    if style.all {
        out.push('\n');
        for finding in &passed {
            putln!(
                out,
                "{}    {:<22} {}",
                style.paint(GREEN, "PASSED"),
                finding.rule.id(),
                defuse(&finding.message(Lang::En))
            );
        }
        for finding in &idle {
            putln!(out, "NOT ASKED {:<22} {}", finding.rule.id(), defuse(&finding.message(Lang::En)));
        }
    } else {
        putln!(out, "\nPASSED {}   NOT APPLICABLE {}   (--all lists them)", passed.len(), idle.len());
    }
}

fn verdict_line(report: &Report, style: Style) -> String {
    let findings = report.findings();
    let count = |matches: &dyn Fn(&&Finding) -> bool, one: &str, many: &str| {
        let number = findings.iter().filter(matches).count();
        (number > 0).then(|| format!("{number} {}", if number == 1 { one } else { many }))
    };
    let exactly = |level: Level| move |finding: &&Finding| finding.fails_at(level) && finding.level == level;
    let counts: Vec<String> = [
        count(&exactly(Level::Blocker), "blocker", "blockers"),
        count(&exactly(Level::Warning), "warning", "warnings"),
        count(&|finding: &&Finding| finding.is_undecided_at(Level::Info), "undecided", "undecided"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let (words, colour) = match report.verdict() {
        Verdict::Importable => ("IMPORTABLE", GREEN),
        Verdict::NotImportable => ("NOT IMPORTABLE", RED),
        Verdict::Undecided => ("UNDECIDED", YELLOW),
    };
    let words = style.paint(colour, words);
    if counts.is_empty() { words } else { format!("{words}: {}", counts.join(", ")) }
}

fn detail(out: &mut String, word: &str, finding: &Finding) {
    let code = finding.rule.code.as_deref().unwrap_or_default();
    let head = format!("{word} {:<22} {code}", finding.rule.id());
    putln!(out, "\n{}\n  {}", head.trim_end(), defuse(&finding.message(Lang::En)));
    let evidence = finding.seen().map(|seen| seen.evidence.as_slice()).unwrap_or_default();
    for (at, evidence) in evidence.iter().enumerate() {
        let label = if at == 0 { "seen" } else { "" };
        putln!(out, "  {label:<5} {}", defuse(&place(evidence)));
    }
    putln!(out, "  {:<5} {}", "why", finding.rule.why);
    if let Some(fix) = finding.fix(Lang::En) {
        putln!(out, "  {:<5} {}", "fix", defuse(fix));
    }
    putln!(out, "  {:<5} {}", "rule", finding.source);
}

/// `p1:/etc/fstab:3: mounts …  (the line)`.
fn place(evidence: &Evidence) -> String {
    let mut at = Vec::new();
    at.extend(evidence.volume.clone());
    at.extend(evidence.path.as_ref().map(ToString::to_string));
    at.extend(evidence.line.map(|line| line.to_string()));
    at.extend(evidence.byte.map(|byte| format!("byte {byte}")));
    let mut line =
        if at.is_empty() { evidence.what.clone() } else { format!("{}  {}", at.join(":"), evidence.what) };
    if let Some(excerpt) = &evidence.excerpt {
        put!(line, ": {excerpt}");
    }
    line
}

/// Rules down, profiles across, when several profiles were asked.
fn matrix(out: &mut String, reports: &[Report], style: Style) {
    let mut images: Vec<&str> = reports.iter().map(|report| report.image.as_str()).collect();
    images.dedup();
    for image in images {
        let columns: Vec<&Report> = reports.iter().filter(|report| report.image == image).collect();
        put!(out, "{}\n{:<24}", defuse(image), "");
        for report in &columns {
            put!(out, "{:<16}", report.profile.id);
        }
        put!(out, "\n{:<24}", "verdict");
        for report in &columns {
            put!(out, "{:<16}", report.verdict().name());
        }
        for check in super::checks() {
            put!(out, "\n{:<24}", check.id());
            for report in &columns {
                let finding = report.findings().iter().find(|finding| finding.rule.id() == check.id());
                let word = finding.map_or("-", |finding| match finding.outcome {
                    Outcome::Fail(_) => finding.level.name(),
                    _ => finding.result(),
                });
                let padded = format!("{word:<16}");
                let is_red = finding.is_some_and(|finding| finding.fails_at(Level::Blocker));
                out.push_str(&if is_red { style.paint(RED, &padded) } else { padded });
            }
        }
        out.push_str("\n\n");
    }
}
