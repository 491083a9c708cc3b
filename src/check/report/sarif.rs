//! SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format"), for code scanning: one run a profile, an image is an
//! artifact, a place in the guest a logical location. A rule that could not be decided is `open` (3.27.9), never a pass.

use super::{Evidence, Form, Kind, Report, Style, Write, place, sight};
use crate::check::profile::{Finding, Level};
use crate::text::{defuse, json_safe};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// SARIF 2.1.0.
pub const FORM: Form = Form { name: "sarif", write: Write::Whole(write) };

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

fn write(reports: &[Report], style: &Style) -> String {
    // By profile, in the order in which they were asked.
    let mut order: Vec<&str> = Vec::new();
    let mut runs: BTreeMap<&str, Vec<&Report>> = BTreeMap::new();
    for report in reports {
        let id = report.profile.id.as_str();
        if !order.contains(&id) {
            order.push(id);
        }
        runs.entry(id).or_default().push(report);
    }
    let runs: Vec<Value> =
        order.iter().filter_map(|id| runs.get(id)).map(|reports| run(reports, style)).collect();
    let document = json!({"$schema": SCHEMA, "version": "2.1.0", "runs": runs});
    json_safe(&format!("{document:#}\n")).into_owned()
}

fn run(reports: &[&Report], style: &Style) -> Value {
    let Some(profile) = reports.first().map(|report| &report.profile) else { return Value::Null };
    let mut rules: Vec<Value> = Vec::new();
    let mut index: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in reports.iter().flat_map(|report| report.findings()) {
        index.entry(finding.rule.id()).or_insert_with(|| {
            rules.push(rule(finding, style));
            rules.len().saturating_sub(1)
        });
    }
    let results: Vec<Value> = reports
        .iter()
        .flat_map(|report| report.findings().iter().map(|finding| result(report, finding, &index, style)))
        .collect();
    let failed: Vec<Value> = reports
        .iter()
        .filter_map(|report| {
            let error = report.findings.as_ref().err()?;
            Some(json!({
                "level": "error",
                "message": {"text": defuse(&error.chain())},
                "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri(&report.image)}}}],
            }))
        })
        .collect();
    let mut artifacts: Vec<&str> = reports.iter().map(|report| report.image.as_str()).collect();
    artifacts.dedup();
    let artifacts: Vec<Value> =
        artifacts.into_iter().map(|image| json!({"location": {"uri": uri(image)}})).collect();
    json!({
        "tool": {"driver": {
            "name": "imgmount",
            "version": env!("CARGO_PKG_VERSION"),
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "rules": rules,
        }},
        "automationDetails": {"id": format!("imgmount/{}", profile.id)},
        "invocations": [{"executionSuccessful": failed.is_empty(), "toolExecutionNotifications": failed}],
        "artifacts": artifacts,
        "results": results,
        "properties": {
            "profile": profile.id,
            "title": profile.title,
            "document": profile.document,
            "documentDate": profile.document_date,
            "checkedOn": profile.checked_on,
        },
    })
}

fn rule(finding: &Finding, style: &Style) -> Value {
    let rule = &finding.rule;
    let zh = style.lang == crate::check::Lang::Zh;
    let (why, fix) = if zh { (&rule.why_zh, &rule.fix_zh) } else { (&rule.why, &rule.fix) };
    let mut object = json!({
        "id": rule.id(),
        "shortDescription": {"text": defuse(why)},
        "fullDescription": {"text": defuse(&finding.source)},
        "help": {"text": defuse(fix)},
        "defaultConfiguration": {"level": level(rule.level)},
        "properties": {"code": rule.code, "rows": rule.rows},
    });
    if let (Some(object), Some(check)) = (object.as_object_mut(), crate::check::by_id(&rule.check)) {
        let explained = check.explain().get(style.lang);
        object.insert(
            "fullDescription".to_owned(),
            json!({"text": defuse(&format!("{explained} {}", finding.source))}),
        );
    }
    object
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::Blocker => "error",
        Level::Warning => "warning",
        Level::Info => "note",
    }
}

fn result(report: &Report, finding: &Finding, index: &BTreeMap<&str, usize>, style: &Style) -> Value {
    let (kind, level) = match finding.result() {
        "fail" => ("fail", level(finding.level)),
        "pass" => ("pass", "none"),
        "undecided" => ("open", "none"),
        _ => ("notApplicable", "none"),
    };
    let mut text = defuse(&finding.message(style.lang));
    if let Some(fix) = finding.fix(style.lang) {
        put!(text, "\n{}", defuse(fix));
    }
    let evidence = finding.seen().map(|seen| seen.evidence.as_slice()).unwrap_or_default();
    let locations: Vec<Value> = if evidence.is_empty() {
        vec![json!({"physicalLocation": {"artifactLocation": {"uri": uri(&report.image)}}})]
    } else {
        evidence.iter().map(|evidence| location(report, evidence)).collect()
    };
    let mut object = json!({
        "ruleId": finding.rule.id(),
        "ruleIndex": index.get(finding.rule.id()),
        "kind": kind,
        "level": level,
        "message": {"text": text},
        "locations": locations,
        "partialFingerprints": {"imgmount/1": format!("{}:{}", finding.rule.id(), report.image)},
        "properties": {"code": finding.rule.code, "importLevel": finding.level.name()},
    });
    if let (true, Some(object)) = (Kind::of(finding) == Kind::Ignored, object.as_object_mut()) {
        object.insert("suppressions".to_owned(), json!([{"kind": "external"}]));
    }
    object
}

fn location(report: &Report, evidence: &Evidence) -> Value {
    let mut physical = Map::new();
    physical.insert("artifactLocation".to_owned(), json!({"uri": uri(&report.image)}));
    let mut region = Map::new();
    if let Some(line) = evidence.line.filter(|line| *line > 0) {
        region.insert("startLine".to_owned(), line.into());
        if let Some(excerpt) = &evidence.excerpt {
            region.insert("snippet".to_owned(), json!({"text": excerpt.to_string()}));
        }
    }
    // An offset on the virtual disk is one in the file only if the file is the disk.
    let is_raw = report.about.as_ref().is_some_and(|about| about.format == "raw");
    if let Some(byte) = evidence.byte.filter(|_| is_raw && evidence.line.is_none()) {
        region.insert("byteOffset".to_owned(), byte.into());
    }
    if !region.is_empty() {
        physical.insert("region".to_owned(), region.into());
    }
    let mut object = json!({"physicalLocation": physical, "message": {"text": sight(evidence)}});
    let name = place(evidence);
    if let (false, Some(object)) = (name.is_empty(), object.as_object_mut()) {
        let short = evidence.path.as_ref().map_or_else(|| name.clone(), ToString::to_string);
        object.insert("logicalLocations".to_owned(), json!([{"name": short, "fullyQualifiedName": name}]));
    }
    object
}

/// An image's name as a URI reference (RFC 3986): a URL as it is, a path with everything unusual encoded.
fn uri(image: &str) -> String {
    let is_url = image.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    let keeps = if is_url { "-._~/:?#[]@!$&'()*+,;=%" } else { "-._~/" };
    let mut out = String::new();
    for byte in image.bytes() {
        if byte.is_ascii_alphanumeric() || keeps.contains(char::from(byte)) {
            out.push(char::from(byte));
        } else {
            put!(out, "%{byte:02X}");
        }
    }
    if image.starts_with('/') { format!("file://{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_uris() {
        // As Python's urllib.parse.quote encodes a path.
        assert_eq!(uri("/a b/中.raw"), "file:///a%20b/%E4%B8%AD.raw");
        assert_eq!(uri("x:y.raw"), "x%3Ay.raw");
        assert_eq!(uri("https://h/d.img?..."), "https://h/d.img?...");
        assert_eq!(uri("s3://b/k\" onload"), "s3://b/k%22%20onload");
    }
}
