//! JUnit's XML, as build servers read it: a test suite for each profile and image, a test case for each rule. What was not
//! decided is skipped with the reason; an image that could not be opened is an error.

use super::{Finding, Form, Kind, Lang, Report, Style, Write, place, sight};
use crate::text::defuse;

/// JUnit's XML.
pub const FORM: Form = Form { name: "junit", write: Write::Whole(write) };

/// How a rule stands as a test case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Passed,
    Failed,
    Skipped,
}

fn write(reports: &[Report], style: &Style) -> String {
    let mut suites = String::new();
    let (mut tests, mut failures, mut errors, mut skips) = (0_usize, 0_usize, 0_usize, 0_usize);
    for report in reports {
        let cases: Vec<(Case, &Finding)> =
            report.findings().iter().map(|finding| (case(finding, style), finding)).collect();
        let count = |wanted: Case| cases.iter().filter(|(case, _)| *case == wanted).count();
        let error = report.findings.as_ref().err();
        let (all, failed, skipped) = (
            cases.len().saturating_add(usize::from(error.is_some())),
            count(Case::Failed),
            count(Case::Skipped),
        );
        let broken = usize::from(error.is_some());
        tests = tests.saturating_add(all);
        failures = failures.saturating_add(failed);
        errors = errors.saturating_add(broken);
        skips = skips.saturating_add(skipped);
        let name = xml(&format!("{}: {}", report.profile.id, report.image));
        putln!(
            suites,
            "  <testsuite name=\"{name}\" tests=\"{all}\" failures=\"{failed}\" errors=\"{broken}\" skipped=\"{skipped}\">"
        );
        if let Some(error) = error {
            putln!(suites, "    <testcase classname=\"{}\" name=\"open\">", xml(&report.profile.id));
            putln!(
                suites,
                "      <error type=\"{}\" message=\"{}\"/>",
                error.kind().name(),
                xml(&error.chain())
            );
            putln!(suites, "    </testcase>");
        }
        for (case, finding) in cases {
            one(&mut suites, report, case, finding, style);
        }
        putln!(suites, "  </testsuite>");
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"imgmount check\" tests=\"{tests}\" \
         failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skips}\">\n{suites}</testsuites>\n"
    )
}

fn case(finding: &Finding, style: &Style) -> Case {
    match Kind::of(finding) {
        Kind::Passed => Case::Passed,
        Kind::Undecided | Kind::Idle | Kind::Ignored => Case::Skipped,
        // What does not fail the command does not fail the build.
        Kind::Blocker | Kind::Warning | Kind::Info => {
            if style.fail_on.is_some_and(|level| finding.level >= level) {
                Case::Failed
            } else {
                Case::Passed
            }
        }
    }
}

fn one(out: &mut String, report: &Report, case: Case, finding: &Finding, style: &Style) {
    let kind = Kind::of(finding);
    put!(out, "    <testcase classname=\"{}\" name=\"{}\"", xml(&report.profile.id), xml(finding.rule.id()));
    let message = xml(&finding.message(style.lang));
    match case {
        Case::Passed if kind == Kind::Passed => putln!(out, "/>"),
        Case::Passed => {
            let text = xml(&long(finding, style.lang));
            putln!(
                out,
                ">\n      <system-out>{}: {text}</system-out>\n    </testcase>",
                finding.level.name()
            );
        }
        Case::Skipped => {
            let why = match kind {
                Kind::Idle => "not applicable: ",
                Kind::Ignored => "ignored: ",
                _ => "undecided: ",
            };
            putln!(out, ">\n      <skipped message=\"{why}{message}\"/>\n    </testcase>");
        }
        Case::Failed => {
            let kind = finding.rule.code.as_deref().unwrap_or_else(|| finding.level.name());
            let text = xml(&long(finding, style.lang));
            putln!(
                out,
                ">\n      <failure type=\"{}\" message=\"{message}\">{text}</failure>\n    </testcase>",
                xml(kind)
            );
        }
    }
}

/// All of a finding, line by line.
fn long(finding: &Finding, lang: Lang) -> String {
    let mut text = finding.message(lang);
    for evidence in finding.seen().map(|seen| seen.evidence.as_slice()).unwrap_or_default() {
        put!(text, "\nseen: {} {}", place(evidence), sight(evidence));
    }
    if let Some(fix) = finding.fix(lang) {
        put!(text, "\nfix: {fix}");
    }
    put!(text, "\nrule: {}", finding.source);
    text
}

/// Text as XML 1.0 may hold it, in an attribute too: control characters are spelled out, which no reference could bring in.
fn xml(text: &str) -> String {
    let mut out = String::new();
    for line in text.split('\n') {
        if !out.is_empty() {
            out.push_str("&#10;");
        }
        for c in defuse(line).chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&apos;"),
                '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
                c => out.push(c),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_an_attribute_or_is_no_xml() {
        assert_eq!(
            xml("a\"<b>&'\u{1}\u{ffff}\n\u{1b}]"),
            "a&quot;&lt;b&gt;&amp;&apos;\\x01\u{fffd}&#10;\\x1b]"
        );
    }
}
