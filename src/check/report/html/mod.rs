//! One page that stands alone: no other file, no script, nothing is fetched. It follows the reader's light or dark, and can
//! be printed. First the verdicts, then the picture of the disk, then the findings, each with its fix in a box that a click
//! selects as a whole.

use super::causes::{Causes, images};
use super::{Finding, Form, Kind, Lang, Report, Style, Write, by_image, labels, place, sight, source, text};
use crate::check::profile::Verdict;
use crate::text::defuse;

mod picture;

/// The page.
pub const FORM: Form = Form { name: "html", write: Write::Whole(write) };

const CSS: &str = include_str!("page.css");
/// Places that are shown of one finding.
const PLACES: usize = 40;

fn write(reports: &[Report], style: &Style) -> String {
    let lang = style.lang;
    let all: Vec<&[Report]> = by_image(reports).collect();
    let mut body = String::new();
    if all.len() > 1 {
        index(&mut body, &all, lang);
    }
    for (number, reports) in all.iter().enumerate() {
        image(&mut body, reports, number, lang);
    }
    let title = match all.as_slice() {
        [[first, ..]] => first.image.clone(),
        several => images(several.len(), lang),
    };
    page(&title, &body, lang)
}

/// A whole page.
fn page(title: &str, body: &str, lang: Lang) -> String {
    let (code, what) = match lang {
        Lang::En => ("en", "would a cloud import it?"),
        Lang::Zh => ("zh-CN", "云平台镜像导入检测"),
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"{code}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{} · {what}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n<main>\n{body}\
         <p class=\"foot\">imgmount {}</p>\n</main>\n</body>\n</html>\n",
        escape(title),
        env!("CARGO_PKG_VERSION")
    )
}

/// What images there are, when there are several.
fn index(out: &mut String, all: &[&[Report]], lang: Lang) {
    putln!(out, "<h1>{}</h1>\n<div class=\"sheet scroll\"><table>", images(all.len(), lang));
    for (number, reports) in all.iter().enumerate() {
        let Some(first) = reports.first() else { continue };
        let tags: Vec<String> = reports.iter().map(|report| verdict_tag(report, lang)).collect();
        putln!(
            out,
            "<tr><td class=\"wide mono\"><a href=\"#i{number}\">{}</a></td><td>{}</td></tr>",
            escape(&first.image),
            tags.join(" ")
        );
    }
    putln!(out, "</table></div>");
}

fn verdict_tag(report: &Report, lang: Lang) -> String {
    let class = match (&report.findings, report.verdict()) {
        (Err(_), _) | (_, Verdict::NotImportable) => "blocker",
        (_, Verdict::Undecided) => "undecided",
        (_, Verdict::Importable) => "passed",
    };
    format!(
        "<span class=\"tag {class}\">{} · {}</span>",
        escape(&report.profile.id),
        verdict_words(report, lang)
    )
}

fn verdict_words(report: &Report, lang: Lang) -> &'static str {
    match &report.findings {
        Ok(_) => labels::verdict(report.verdict()).get(lang),
        Err(_) => labels::NOT_CHECKED.get(lang),
    }
}

fn image(out: &mut String, reports: &[Report], number: usize, lang: Lang) {
    let Some(first) = reports.first() else { return };
    putln!(
        out,
        "<section class=\"image\" id=\"i{number}\">\n<h1 class=\"mono\">{}</h1>",
        escape(&first.image)
    );
    putln!(out, "<p class=\"about\">{}</p>", escape(&first.about_line(lang)));
    cards(out, reports, number, lang);
    if let Err(error) = &first.findings {
        putln!(
            out,
            "<div class=\"sheet finding blocker\" style=\"margin-top:14px\"><p class=\"message\">{}</p>",
            escape(&error.chain())
        );
        if let Some(seen) = &first.diagnosis {
            putln!(out, "<p class=\"message\">{}</p>", escape(seen.message.get(lang)));
            if let Some(fix) = &seen.fix {
                putln!(
                    out,
                    "<p class=\"foot\">{}{}{}</p>",
                    labels::FIX.get(lang),
                    labels::colon(lang),
                    escape(fix.get(lang))
                );
            }
        }
        if let Some(help) = error.help_text() {
            putln!(
                out,
                "<p class=\"foot\">{}{}{}</p>",
                labels::HELP.get(lang),
                labels::colon(lang),
                escape(help)
            );
        }
        putln!(out, "</div>\n</section>");
        return;
    }
    if let Some(about) = &first.about {
        let title = match lang {
            Lang::En => "Disk layout",
            Lang::Zh => "磁盘布局",
        };
        putln!(
            out,
            "<h2>{title}</h2>\n<div class=\"sheet\"><div class=\"scroll\">{}</div>",
            picture::all(about, lang)
        );
        if !about.warnings.is_empty() {
            putln!(out, "<ul class=\"notes\">");
            for warning in &about.warnings {
                putln!(out, "<li>{}</li>", escape(warning));
            }
            putln!(out, "</ul>");
        }
        putln!(out, "</div>");
    }
    if reports.len() > 1 {
        matrix(out, reports, lang);
    }
    for (column, report) in reports.iter().enumerate() {
        findings(out, report, &format!("i{number}p{column}"), lang);
    }
    putln!(out, "</section>");
}

/// The verdict of each profile.
fn cards(out: &mut String, reports: &[Report], number: usize, lang: Lang) {
    putln!(out, "<div class=\"cards{}\">", if reports.len() == 1 { " one" } else { "" });
    for (column, report) in reports.iter().enumerate() {
        let class = match (&report.findings, report.verdict()) {
            (Err(_), _) | (_, Verdict::Undecided) => "maybe",
            (_, Verdict::NotImportable) => "no",
            (_, Verdict::Importable) => "yes",
        };
        let counts = text::counts(report, lang);
        putln!(
            out,
            "<a class=\"card {class}\" href=\"#i{number}p{column}\"><small>{}</small><b>{}</b><small>{}</small></a>",
            escape(title(report, lang)),
            verdict_words(report, lang),
            if counts.is_empty() { "&nbsp;".to_owned() } else { escape(&counts) }
        );
    }
    putln!(out, "</div>");
}

fn title(report: &Report, lang: Lang) -> &str {
    match lang {
        Lang::En => &report.profile.title,
        Lang::Zh => &report.profile.title_zh,
    }
}

/// Rules down and profiles across: those that not everybody is content with.
fn matrix(out: &mut String, reports: &[Report], lang: Lang) {
    let rows: Vec<_> = super::matrix::rows(reports)
        .into_iter()
        .filter(|(_, kinds)| kinds.iter().flatten().any(|kind| *kind < Kind::Passed))
        .collect();
    if rows.is_empty() {
        return;
    }
    let heading = match lang {
        Lang::En => "Overview",
        Lang::Zh => "总览",
    };
    putln!(out, "<h2>{heading}</h2>\n<div class=\"sheet scroll\"><table class=\"matrix\"><tr><th></th>");
    for report in reports {
        putln!(out, "<th>{}</th>", escape(&report.profile.id));
    }
    putln!(out, "</tr>");
    for (id, kinds) in rows {
        put!(out, "<tr><td class=\"mono\">{}</td>", escape(id));
        for kind in kinds {
            match kind {
                None | Some(Kind::Idle) => out.push_str("<td class=\"soft\">–</td>"),
                Some(kind) => put!(
                    out,
                    "<td><span class=\"tag {}\">{}</span></td>",
                    class(kind),
                    labels::kind(kind).get(lang)
                ),
            }
        }
        putln!(out, "</tr>");
    }
    putln!(out, "</table></div>");
}

const fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Blocker => "blocker",
        Kind::Warning => "warning",
        Kind::Undecided => "undecided",
        Kind::Info => "info",
        Kind::Passed => "passed",
        Kind::Ignored | Kind::Idle => "idle",
    }
}

fn findings(out: &mut String, report: &Report, anchor: &str, lang: Lang) {
    let profile = &report.profile;
    putln!(out, "<h2 id=\"{anchor}\">{}</h2>", escape(title(report, lang)));
    let (document, date, compared) = (&profile.document, &profile.document_date, &profile.checked_on);
    let line = match lang {
        Lang::En => format!("{document} ({date}), compared {compared}"),
        Lang::Zh => format!("{document}（{date}），核对于 {compared}"),
    };
    putln!(out, "<p class=\"soft\">{}</p>", escape(&line));
    for (kind, findings) in report.sorted() {
        match kind {
            Kind::Passed | Kind::Idle | Kind::Ignored => folded(out, kind, &findings, lang),
            _ => {
                putln!(out, "<h3>{} ({})</h3>", labels::heading(kind).get(lang), findings.len());
                findings.iter().for_each(|finding| detail(out, kind, finding, lang));
            }
        }
    }
}

/// What needs nobody's attention.
fn folded(out: &mut String, kind: Kind, findings: &[&Finding], lang: Lang) {
    let label = labels::heading(kind).get(lang);
    putln!(
        out,
        "<details class=\"sheet\"><summary>{label} ({})</summary><div class=\"scroll\"><table>",
        findings.len()
    );
    for finding in findings {
        putln!(
            out,
            "<tr><td class=\"mono\">{}</td><td class=\"wide\">{}</td></tr>",
            escape(finding.rule.id()),
            escape(&finding.message(lang))
        );
    }
    putln!(out, "</table></div></details>");
}

fn detail(out: &mut String, kind: Kind, finding: &Finding, lang: Lang) {
    let code =
        finding.rule.code.as_deref().map(|code| format!("<code class=\"code\">{}</code>", escape(code)));
    putln!(
        out,
        "<article class=\"sheet finding {}\">\n<div class=\"head\"><span class=\"tag\">{}</span><code>{}</code>{}</div>",
        class(kind),
        labels::kind(kind).get(lang),
        escape(finding.rule.id()),
        code.unwrap_or_default()
    );
    putln!(out, "<p class=\"message\">{}</p>", escape(&finding.message(lang)));
    if let Some(fix) = finding.fix(lang) {
        putln!(
            out,
            "<div class=\"label\">{}</div>\n<pre class=\"fix\">{}</pre>",
            labels::FIX.get(lang),
            lines(fix)
        );
    }
    let evidence = finding.seen().map(|seen| seen.evidence.as_slice()).unwrap_or_default();
    if !evidence.is_empty() {
        putln!(out, "<div class=\"label\">{}</div>\n<ul class=\"places\">", labels::SEEN.get(lang));
        for evidence in evidence.iter().take(PLACES) {
            let place = place(evidence);
            let place = if place.is_empty() {
                String::new()
            } else {
                format!("<code class=\"where\">{}</code>", escape(&place))
            };
            putln!(out, "<li>{place}{}</li>", escape(&sight(evidence)));
        }
        let more = evidence.len().saturating_sub(PLACES);
        if more > 0 {
            putln!(out, "<li>… {more}</li>");
        }
        putln!(out, "</ul>");
    }
    let why = match lang {
        Lang::En => &finding.rule.why,
        Lang::Zh => &finding.rule.why_zh,
    };
    putln!(out, "<p class=\"foot\">{}<br>{}</p>\n</article>", escape(why), escape(&source(finding)));
}

/// What keeps many images out, as a page.
#[must_use]
pub fn causes(causes: &Causes, style: &Style) -> String {
    let lang = style.lang;
    let title = causes.tally().line().get(lang).to_owned();
    let mut body = format!("<h1>{}</h1>\n", escape(&title));
    for cause in causes.sorted() {
        let kind = cause.kind.unwrap_or(Kind::Blocker);
        let (word, _) = cause.word();
        let code = cause.code.as_deref().map(|code| format!("<code class=\"code\">{}</code>", escape(code)));
        let profiles: Vec<&str> = cause.profiles.iter().map(String::as_str).collect();
        putln!(
            body,
            "<article class=\"sheet finding {}\">\n<div class=\"head\"><span class=\"tag\">{}</span><code>{}</code>{}<b>{}</b><span class=\"soft\">{}</span></div>",
            class(kind),
            word.get(lang),
            escape(&cause.rule),
            code.unwrap_or_default(),
            images(cause.images.len(), lang),
            escape(&profiles.join(", "))
        );
        putln!(body, "<p class=\"message\">{}</p>", escape(cause.message.get(lang)));
        if let Some(fix) = &cause.fix {
            let fix = lines(fix.get(lang));
            putln!(
                body,
                "<div class=\"label\">{}</div>\n<pre class=\"fix\">{fix}</pre>",
                labels::FIX.get(lang)
            );
        }
        let open = if cause.images.len() <= 10 { " open" } else { "" };
        let count = images(cause.images.len(), lang);
        putln!(
            body,
            "<details{open} style=\"margin-top:10px\"><summary>{count}</summary><ul class=\"places\">"
        );
        for image in &cause.images {
            putln!(body, "<li class=\"mono\">{}</li>", escape(image));
        }
        putln!(body, "</ul></details>\n</article>");
    }
    page(&title, &body, lang)
}

/// Text as HTML may hold it, in an attribute too.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in defuse(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The same of several lines.
fn lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_becomes_markup() {
        assert_eq!(
            escape("<a href='x' \"\u{1b}&\u{202e}"),
            "&lt;a href=&#39;x&#39; &quot;\\x1b&amp;\\xe2\\x80\\xae"
        );
    }

    #[test]
    fn the_page_stands_alone() {
        assert!(!CSS.contains("url(") && !CSS.contains("@import"));
    }
}
