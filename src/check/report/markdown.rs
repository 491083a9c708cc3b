//! Markdown for tickets, as GitHub and GitLab show it: the verdict, a section for each finding, the rest folded away.
//! Nothing from an image is taken for markup.

use super::causes::{Causes, images};
use super::{Finding, Form, Kind, Lang, Report, Style, Write, by_image, labels, place, sight, source, text};
use crate::text::defuse;

/// Markdown.
pub const FORM: Form = Form { name: "md", write: Write::Whole(write) };

/// Places that are shown of one finding.
const PLACES: usize = 12;

fn write(reports: &[Report], style: &Style) -> String {
    let mut out = String::new();
    for reports in by_image(reports) {
        let Some(first) = reports.first() else { continue };
        let lang = style.lang;
        putln!(out, "# {}\n", code(&first.image));
        if let Err(error) = &first.findings {
            putln!(
                out,
                "**{}**{}{}\n",
                labels::NOT_CHECKED.get(lang),
                labels::colon(lang),
                plain(&error.chain())
            );
            if let Some(seen) = &first.diagnosis {
                putln!(out, "{}\n", plain(seen.message.get(lang)));
                for evidence in &seen.evidence {
                    putln!(out, "- {}", code(&sight(evidence)));
                }
                if let Some(fix) = &seen.fix {
                    putln!(out, "\n**{}**\n\n{}\n", labels::FIX.get(lang), fenced(fix.get(lang)));
                }
            }
            if let Some(help) = error.help_text() {
                putln!(out, "{}{}{}\n", labels::HELP.get(lang), labels::colon(lang), plain(help));
            }
            continue;
        }
        putln!(out, "{}\n", plain(&first.about_line(lang)));
        if reports.len() > 1 {
            overview(&mut out, reports, lang);
        }
        for report in reports {
            one(&mut out, report, style);
        }
    }
    out
}

fn overview(out: &mut String, reports: &[Report], lang: Lang) {
    putln!(
        out,
        "{}",
        match lang {
            Lang::En => "| profile | verdict | blockers | warnings | undecided |\n|---|---|---:|---:|---:|",
            Lang::Zh => "| 目标云 | 结论 | 阻断项 | 警告 | 无法判定 |\n|---|---|---:|---:|---:|",
        }
    );
    for report in reports {
        putln!(
            out,
            "| {} | **{}** | {} | {} | {} |",
            code(&report.profile.id),
            labels::verdict(report.verdict()).get(lang),
            report.count(Kind::Blocker),
            report.count(Kind::Warning),
            report.count(Kind::Undecided)
        );
    }
    putln!(out);
}

fn one(out: &mut String, report: &Report, style: &Style) {
    let lang = style.lang;
    let profile = &report.profile;
    let title = match lang {
        Lang::En => &profile.title,
        Lang::Zh => &profile.title_zh,
    };
    putln!(
        out,
        "## {}{}{}\n",
        plain(title),
        labels::colon(lang),
        labels::verdict(report.verdict()).get(lang)
    );
    let counts = text::counts(report, lang);
    if !counts.is_empty() {
        putln!(out, "{counts}\n");
    }
    for (kind, findings) in report.sorted() {
        match kind {
            Kind::Passed | Kind::Idle | Kind::Ignored => {
                let label = labels::heading(kind).get(lang);
                putln!(out, "<details><summary>{label} ({})</summary>\n", findings.len());
                for finding in findings {
                    putln!(out, "- {} {}", code(finding.rule.id()), plain(&finding.message(lang)));
                }
                putln!(out, "\n</details>\n");
            }
            _ => findings.iter().for_each(|finding| detail(out, kind, finding, lang)),
        }
    }
}

fn detail(out: &mut String, kind: Kind, finding: &Finding, lang: Lang) {
    let of_cloud = finding.rule.code.as_deref().map(|name| format!(" · {}", code(name))).unwrap_or_default();
    putln!(out, "### {} · {}{of_cloud}\n", labels::kind(kind).get(lang), code(finding.rule.id()));
    putln!(out, "{}\n", plain(&finding.message(lang)));
    let evidence = finding.seen().map(|seen| seen.evidence.as_slice()).unwrap_or_default();
    for evidence in evidence.iter().take(PLACES) {
        let place = place(evidence);
        let place = if place.is_empty() { String::new() } else { format!("{} ", code(&place)) };
        putln!(out, "- {place}{}", code(&sight(evidence)));
    }
    let more = evidence.len().saturating_sub(PLACES);
    if more > 0 {
        putln!(out, "- … {more}");
    }
    if !evidence.is_empty() {
        putln!(out);
    }
    if let Some(fix) = finding.fix(lang) {
        putln!(out, "**{}**\n\n{}\n", labels::FIX.get(lang), fenced(fix));
    }
    let why = match lang {
        Lang::En => &finding.rule.why,
        Lang::Zh => &finding.rule.why_zh,
    };
    putln!(out, "> {}\n>\n> {}\n", plain(why), plain(&source(finding)));
}

/// What keeps many images out.
#[must_use]
pub fn causes(causes: &Causes, style: &Style) -> String {
    let lang = style.lang;
    let mut out = format!("# {}\n\n", plain(causes.tally().line().get(lang)));
    for cause in causes.sorted() {
        let (word, _) = cause.word();
        let of_cloud = cause.code.as_deref().map(|name| format!(" · {}", code(name))).unwrap_or_default();
        let count = images(cause.images.len(), lang);
        putln!(out, "## {} · {}{of_cloud} · {count}\n", word.get(lang), code(&cause.rule));
        putln!(out, "{}\n", plain(cause.message.get(lang)));
        if let Some(fix) = &cause.fix {
            putln!(out, "**{}**\n\n{}\n", labels::FIX.get(lang), fenced(fix.get(lang)));
        }
        let profiles: Vec<String> = cause.profiles.iter().map(|profile| code(profile)).collect();
        putln!(out, "{}\n", profiles.join(" "));
        for image in &cause.images {
            putln!(out, "- {}", code(image));
        }
        putln!(out);
    }
    out
}

/// Prose in which nothing is markup, and nobody is mentioned.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in defuse(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("@<!-- -->"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' | '!' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// The longest row of backticks in a text.
fn ticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// A span of code, fenced by more backticks than are in it. A bar would end the cell of a table; in code it cannot be
/// escaped anywhere else.
fn code(text: &str) -> String {
    let text = defuse(text);
    let fence = "`".repeat(ticks(&text).saturating_add(1));
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// A block of code.
fn fenced(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(defuse).collect();
    let text = lines.join("\n");
    let fence = "`".repeat(ticks(&text).saturating_add(1).max(3));
    format!("{fence}\n{text}\n{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_says_is_no_markup() {
        assert_eq!(plain("<b>*x* @root [a](b)"), "&lt;b&gt;\\*x\\* @<!-- -->root \\[a\\](b)");
        assert_eq!(
            (code("a`b"), code("``"), fenced("a\n```b")),
            ("``a`b``".into(), "``` `` ```".into(), "````\na\n```b\n````".into())
        );
    }
}
