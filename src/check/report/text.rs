//! For people at a terminal: the verdict in words first, then what keeps the image from being imported, each with what to
//! do, then warnings, what is undecided, and a count of the rest.

use super::columns::{pad, width, wrap};
use super::{Form, Kind, Lang, Report, Style, Write, by_image, labels, matrix, place, sight, source};
use crate::check::profile::{Finding, Verdict};
use crate::text::defuse;

/// For people.
pub const FORM: Form = Form { name: "text", write: Write::Whole(write) };

pub(super) const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
pub(super) const GREEN: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
pub(super) const YELLOW: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();
pub(super) const DIM: anstyle::Style = anstyle::Style::new().dimmed();
const BOLD: anstyle::Style = anstyle::Style::new().bold();

/// Places that are shown of one finding without `--all`.
const PLACES: usize = 4;
/// Columns of a rule's id.
const ID: usize = 22;
/// Columns of a line's label.
const LABEL: usize = 6;

fn write(reports: &[Report], style: &Style) -> String {
    let mut out = String::new();
    for (at, reports) in by_image(reports).enumerate() {
        if at > 0 {
            putln!(out);
        }
        image(&mut out, reports, style);
    }
    out
}

/// One image: what it is, and its reports. Of several profiles first the overview.
fn image(out: &mut String, reports: &[Report], style: &Style) {
    let Some(first) = reports.first() else { return };
    let line = format!("{}  {}", defuse(&first.image), defuse(&first.about_line(style.lang)));
    // Never broken: the verdict is always the second line.
    putln!(out, "{}", line.trim_end());
    if let Err(error) = &first.findings {
        not_opened(out, error, first.diagnosis.as_deref(), style);
        return;
    }
    if reports.len() > 1 {
        matrix::write(out, reports, style);
    }
    for (at, report) in reports.iter().enumerate() {
        let is_silent = reports.len() > 1
            && !style.all
            && report.sorted().iter().all(|(kind, _)| matches!(kind, Kind::Passed | Kind::Idle));
        if is_silent {
            continue;
        }
        if reports.len() > 1 || at > 0 {
            putln!(out);
        }
        one(out, report, style);
    }
}

/// Which image it is, and what.
pub(super) fn image_line(out: &mut String, report: &Report, style: &Style) {
    let line = format!("{}  {}", defuse(&report.image), defuse(&report.about_line(style.lang)));
    let lines = wrap(line.trim_end(), style.width);
    for (at, line) in lines.iter().enumerate() {
        putln!(out, "{}{line}", if at > 0 { "  " } else { "" });
    }
}

pub(super) fn not_opened(
    out: &mut String,
    error: &crate::error::Error,
    diagnosis: Option<&crate::check::Seen>,
    style: &Style,
) {
    let lang = style.lang;
    let word = style.paint(RED, labels::NOT_CHECKED.get(lang));
    putln!(out, "{word}{}{}", labels::colon(lang), labels::NOT_OPENED.get(lang));
    if let Some(seen) = diagnosis {
        for line in wrap(&defuse(seen.message.get(lang)), style.width.saturating_sub(2)) {
            putln!(out, "  {line}");
        }
        for (at, one) in seen.evidence.iter().enumerate() {
            let text = format!("{}  {}", place(one), sight(one));
            labelled(out, if at == 0 { labels::SEEN.get(lang) } else { "" }, text.trim_start(), style);
        }
        if let Some(fix) = &seen.fix {
            labelled(out, labels::FIX.get(lang), fix.get(lang), style);
        }
    }
    for line in wrap(&defuse(&error.chain()), style.width.saturating_sub(2)) {
        putln!(out, "  {line}");
    }
    if let Some(help) = error.help_text() {
        putln!(out, "  {}{}{}", labels::HELP.get(lang), labels::colon(lang), defuse(help));
    }
}

fn one(out: &mut String, report: &Report, style: &Style) {
    putln!(out, "{}  {}", verdict_line(report, style), style.paint(DIM, &profile_line(report, style.lang)));
    let (mut passed, mut idle) = (0_usize, 0_usize);
    for (kind, findings) in report.sorted() {
        match kind {
            Kind::Passed | Kind::Idle if style.all => {
                putln!(out);
                findings.iter().for_each(|finding| brief(out, kind, finding, style));
            }
            Kind::Passed => passed = findings.len(),
            Kind::Idle => idle = findings.len(),
            Kind::Ignored => {
                putln!(out);
                findings.iter().for_each(|finding| brief(out, kind, finding, style));
            }
            _ => findings.iter().for_each(|finding| detail(out, kind, finding, style)),
        }
    }
    if !style.all {
        let rest = match style.lang {
            Lang::En => format!("PASSED {passed}   NOT APPLICABLE {idle}   (--all lists them)"),
            Lang::Zh => format!("通过 {passed}   不适用 {idle}   （--all 列出全部）"),
        };
        putln!(out, "\n{}", style.paint(DIM, &rest));
    }
}

/// The profile and how old it is.
fn profile_line(report: &Report, lang: Lang) -> String {
    let profile = &report.profile;
    let (id, document, compared) = (&profile.id, &profile.document_date, &profile.checked_on);
    defuse(&match lang {
        Lang::En => format!("Profile {id} (document of {document}, compared {compared})"),
        Lang::Zh => format!("{}（{id}，文档 {document}，核对于 {compared}）", profile.title_zh),
    })
}

/// `NOT IMPORTABLE: 1 blocker, 2 warnings`.
pub(super) fn verdict_line(report: &Report, style: &Style) -> String {
    let verdict = report.verdict();
    let words = style.paint(verdict_colour(verdict), labels::verdict(verdict).get(style.lang));
    let counts = counts(report, style.lang);
    if counts.is_empty() { words } else { format!("{words}{}{counts}", labels::colon(style.lang)) }
}

/// `1 blocker, 2 warnings`; empty where nothing is to be said.
pub(super) fn counts(report: &Report, lang: Lang) -> String {
    let kinds = [Kind::Blocker, Kind::Warning, Kind::Undecided];
    let counts = kinds.into_iter().filter_map(|kind| {
        let number = report.count(kind);
        (number > 0).then(|| labels::count(number, kind, lang))
    });
    counts.collect::<Vec<String>>().join(labels::comma(lang))
}

pub(super) const fn verdict_colour(verdict: Verdict) -> anstyle::Style {
    match verdict {
        Verdict::Importable => GREEN,
        Verdict::NotImportable => RED,
        Verdict::Undecided => YELLOW,
    }
}

const fn colour(kind: Kind) -> anstyle::Style {
    match kind {
        Kind::Blocker => RED,
        Kind::Warning | Kind::Undecided => YELLOW,
        Kind::Passed => GREEN,
        Kind::Info | Kind::Ignored | Kind::Idle => DIM,
    }
}

/// `BLOCKER   virtio-initramfs       VirtioNotInstall`.
fn head(kind: Kind, finding: &Finding, style: &Style) -> String {
    let word = pad(labels::kind(kind).get(style.lang), 9);
    // They come out of the profile, which may be somebody's file.
    let code = defuse(finding.rule.code.as_deref().unwrap_or_default());
    let id = pad(&defuse(finding.rule.id()), ID);
    format!("{} {} {code}", style.paint(colour(kind), &word), style.paint(BOLD, &id)).trim_end().to_owned()
}

fn brief(out: &mut String, kind: Kind, finding: &Finding, style: &Style) {
    let word = pad(labels::kind(kind).get(style.lang), 9);
    let indent = 9_usize.saturating_add(ID).saturating_add(2);
    let message = defuse(&finding.message(style.lang));
    let mut lines = wrap(&message, style.width.saturating_sub(indent)).into_iter();
    let first = lines.next().unwrap_or_default();
    putln!(out, "{} {} {first}", style.paint(colour(kind), &word), pad(&defuse(finding.rule.id()), ID));
    for line in lines {
        putln!(out, "{}{line}", " ".repeat(indent));
    }
}

pub(super) fn detail(out: &mut String, kind: Kind, finding: &Finding, style: &Style) {
    let lang = style.lang;
    putln!(out, "\n{}", head(kind, finding, style));
    for line in wrap(&defuse(&finding.message(lang)), style.width.saturating_sub(2)) {
        putln!(out, "  {line}");
    }
    let evidence = finding.seen().map(|seen| seen.evidence.as_slice()).unwrap_or_default();
    let shown = if style.all { evidence.len() } else { PLACES };
    for (at, one) in evidence.iter().take(shown).enumerate() {
        let (place, sight) = (place(one), sight(one));
        let text = if place.is_empty() { sight } else { format!("{place}  {sight}") };
        labelled(out, if at == 0 { labels::SEEN.get(lang) } else { "" }, &text, style);
    }
    let more = evidence.len().saturating_sub(shown);
    if more > 0 {
        let text = match lang {
            Lang::En => format!("and {more} more (--all)"),
            Lang::Zh => format!("另有 {more} 处（--all）"),
        };
        labelled(out, "", &text, style);
    }
    if let Some(fix) = finding.fix(lang) {
        // On one line, however long: a command that is broken over two cannot be copied.
        for (at, line) in fix.lines().enumerate() {
            let label = if at == 0 { pad(labels::FIX.get(lang), LABEL) } else { " ".repeat(LABEL) };
            putln!(out, "  {}{}", style.paint(GREEN, &label), defuse(line));
        }
    }
    let why = match lang {
        Lang::En => &finding.rule.why,
        Lang::Zh => &finding.rule.why_zh,
    };
    labelled(out, labels::WHY.get(lang), &defuse(why), style);
    labelled(out, labels::RULE.get(lang), &source(finding), style);
}

/// A line with a word in front, and what it does not hold below it.
fn labelled(out: &mut String, label: &str, text: &str, style: &Style) {
    let room = style.width.saturating_sub(LABEL).saturating_sub(2).max(20);
    for (at, line) in wrap(text, room).iter().enumerate() {
        let label = pad(if at == 0 { label } else { "" }, LABEL);
        debug_assert!(width(&label) >= LABEL, "labels fit");
        putln!(out, "  {}{line}", style.paint(DIM, &label));
    }
}
