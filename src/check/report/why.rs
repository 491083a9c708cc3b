//! Behind a code: every rule that a cloud may mean by it, which of them fired in an image, and on what evidence. The
//! reports are those of profiles that hold nothing else ([`crate::check::profile::Profile::behind`]).

use super::columns::wrap;
use super::text::{detail, image_line, not_opened};
use super::{Lang, Report, Style, by_image};
use crate::check::Outcome;
use crate::check::profile::Finding;
use crate::text::json_safe;
use serde_json::{Value, json};

/// The name of the document.
pub const SCHEMA: &str = "imgmount.why/1";

fn fired(finding: &Finding) -> bool {
    matches!(finding.outcome, Outcome::Fail(_))
}

fn undecided(finding: &Finding) -> bool {
    matches!(finding.outcome, Outcome::Unknown(_))
}

/// For people.
#[must_use]
pub fn text(code: &str, reports: &[Report], style: &Style) -> String {
    let mut out = String::new();
    for (at, reports) in by_image(reports).enumerate() {
        if at > 0 {
            putln!(out);
        }
        let Some(first) = reports.first() else { continue };
        image_line(&mut out, first, style);
        if let Err(error) = &first.findings {
            not_opened(&mut out, error, first.diagnosis.as_deref(), style);
            continue;
        }
        for report in reports {
            one(&mut out, code, report, style);
        }
    }
    out
}

fn one(out: &mut String, code: &str, report: &Report, style: &Style) {
    let findings = report.findings();
    let count = |of: fn(&Finding) -> bool| findings.iter().filter(|finding| of(finding)).count();
    let (rules, fired, undecided) = (findings.len(), count(fired), count(undecided));
    let id = &report.profile.id;
    let line = match style.lang {
        Lang::En => format!("{fired} of the {rules} rules behind it fired, {undecided} undecided"),
        Lang::Zh => format!("对应 {rules} 条规则，命中 {fired} 条，无法判定 {undecided} 条"),
    };
    putln!(out, "\n{code}  {id}  {line}");
    for (kind, findings) in report.sorted() {
        findings.iter().for_each(|finding| detail(out, kind, finding, style));
    }
    for known in &report.profile.undecidable {
        let line = match style.lang {
            Lang::En => format!("not decidable from an image: {}: {}", known.what, known.reason),
            Lang::Zh => format!("无法从镜像判定：{}：{}", known.what_zh, known.reason_zh),
        };
        putln!(out);
        wrap(&line, style.width.saturating_sub(2)).iter().for_each(|line| putln!(out, "  {line}"));
    }
}

/// For programs.
#[must_use]
pub fn document(code: &str, reports: &[Report]) -> String {
    let results: Vec<Value> = reports.iter().map(result).collect();
    let document = json!({"schema": SCHEMA, "code": code, "results": results});
    json_safe(&format!("{document:#}\n")).into_owned()
}

fn result(report: &Report) -> Value {
    let findings = report.findings();
    let ids = |of: fn(&Finding) -> bool| -> Vec<&str> {
        findings.iter().filter(|finding| of(finding)).map(|finding| finding.rule.id()).collect()
    };
    let known = report.profile.undecidable.iter().map(|known| {
        json!({"rows": known.rows, "what": known.what, "what_zh": known.what_zh,
               "reason": known.reason, "reason_zh": known.reason_zh})
    });
    json!({
        "image": report.image,
        "profile": report.profile.id,
        "fired": ids(fired),
        "undecided": ids(undecided),
        "error": report.findings.as_ref().err().map(crate::error::Error::chain),
        "findings": findings.iter().map(super::json::finding).collect::<Vec<Value>>(),
        "undecidable": known.collect::<Vec<Value>>(),
    })
}
