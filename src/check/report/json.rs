//! For programs: one document, `imgmount.check/1`. Sentences are in English, and in Chinese in the field of the same name
//! with `_zh` behind it; ids, codes, paths and excerpts are what they are.

use super::{About, Evidence, Finding, Form, Lang, Report, Style, Write};
use crate::text::{Text, json_safe};
use serde_json::{Value, json};

/// One JSON document.
pub const FORM: Form = Form { name: "json", write: Write::Whole(write) };

/// The name of the document.
pub const SCHEMA: &str = "imgmount.check/1";

fn write(reports: &[Report], _: &Style) -> String {
    json_safe(&format!("{:#}\n", document(reports))).into_owned()
}

/// The document of several reports.
#[must_use]
pub fn document(reports: &[Report]) -> Value {
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "results": reports.iter().map(result).collect::<Vec<Value>>(),
    })
}

/// One element of `results`.
#[must_use]
pub fn result(report: &Report) -> Value {
    let mut value = json!({
        "image": report.image,
        "image_version": report.version,
        "asked": report.asked,
        "profile": report.profile.id,
        "title": report.profile.title,
        "verdict": report.verdict().name(),
        "document": report.profile.document,
        "document_date": report.profile.document_date,
        "checked_on": report.profile.checked_on,
        "about": report.about.as_deref().map(about),
        "findings": report.findings().iter().map(finding).collect::<Vec<Value>>(),
    });
    if let (Err(error), Some(object)) = (&report.findings, value.as_object_mut()) {
        object.insert(
            "error".to_owned(),
            json!({"error": error.chain(), "kind": error.kind().name(), "help": error.help_text()}),
        );
        let diagnosis = report.diagnosis.as_deref().map(|seen| {
            json!({
                "message": seen.message.en,
                "message_zh": seen.message.zh,
                "evidence": seen.evidence.iter().map(place).collect::<Vec<Value>>(),
                "fix": seen.fix.as_ref().map(|fix| &fix.en),
                "fix_zh": seen.fix.as_ref().map(|fix| &fix.zh),
            })
        });
        object.insert("diagnosis".to_owned(), json!(diagnosis));
    }
    value
}

fn about(about: &About) -> Value {
    let systems = about.systems.iter().map(|system| {
        json!({"name": system.name, "arch": system.arch, "root": system.root, "firmware": system.firmware})
    });
    json!({
        "format": about.format,
        "subformat": about.subformat,
        "virtual_size": about.virtual_size,
        "disk_size": about.stored_size,
        "partition_table": about.table,
        "systems": systems.collect::<Vec<Value>>(),
    })
}

/// One element of `findings`.
pub(super) fn finding(finding: &Finding) -> Value {
    let evidence = finding.seen().map(|seen| seen.evidence.as_slice()).unwrap_or_default();
    json!({
        "rule": finding.rule.id(),
        "check": finding.rule.check,
        "result": finding.result(),
        "level": finding.level.name(),
        "code": finding.rule.code,
        "message": finding.message(Lang::En),
        "message_zh": finding.message(Lang::Zh),
        "evidence": evidence.iter().map(place).collect::<Vec<Value>>(),
        "why": finding.rule.why,
        "why_zh": finding.rule.why_zh,
        "fix": finding.fix(Lang::En),
        "fix_zh": finding.fix(Lang::Zh),
        "source": finding.source,
        "rows": finding.rule.rows,
        "ignored": finding.ignored,
    })
}

fn place(evidence: &Evidence) -> Value {
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
