//! The overview of an image against several profiles: the verdict of each, then rules down and profiles across, the worst
//! rule first. Rules that every profile is content with are counted, not listed.

use super::columns::{pad, width};
use super::text::{DIM, GREEN, RED, YELLOW, counts, verdict_colour};
use super::{Kind, Lang, Report, Style, labels};
use crate::text::defuse;
use std::collections::BTreeMap;

/// Fewest columns of a profile.
const CELL: usize = 3;

pub(super) fn write(out: &mut String, reports: &[Report], style: &Style) {
    let id = reports.iter().map(|report| width(&report.profile.id)).max().unwrap_or(0);
    let verdicts = reports.iter().map(|report| labels::verdict(report.verdict()).get(style.lang));
    let word = verdicts.map(width).max().unwrap_or(0);
    for report in reports {
        let verdict = pad(labels::verdict(report.verdict()).get(style.lang), word);
        let verdict = style.paint(verdict_colour(report.verdict()), &verdict);
        let line = format!("  {}  {verdict}  {}", pad(&report.profile.id, id), counts(report, style.lang));
        putln!(out, "{}", line.trim_end());
    }
    grid(out, reports, style);
}

/// A rule's row: what it means to each profile that asks it.
pub(super) type Row<'a> = (&'a str, Vec<Option<Kind>>);

/// Rules by their worst, then as profiles list them.
pub(super) fn rows(reports: &[Report]) -> Vec<Row<'_>> {
    let mut place: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (column, report) in reports.iter().enumerate() {
        for finding in report.findings() {
            let at = *place.entry(finding.rule.id()).or_insert_with(|| {
                rows.push((finding.rule.id(), vec![None; reports.len()]));
                rows.len().saturating_sub(1)
            });
            if let Some(cell) = rows.get_mut(at).and_then(|(_, cells)| cells.get_mut(column)) {
                *cell = Some(Kind::of(finding));
            }
        }
    }
    rows.sort_by_key(|(_, cells)| cells.iter().flatten().min().copied().unwrap_or(Kind::Idle));
    rows
}

fn grid(out: &mut String, reports: &[Report], style: &Style) {
    let rows = rows(reports);
    let is_quiet = |row: &&Row<'_>| row.1.iter().flatten().all(|kind| *kind >= Kind::Passed);
    let quiet = rows.iter().filter(is_quiet).count();
    let shown: Vec<&Row<'_>> = rows.iter().filter(|row| style.all || !is_quiet(row)).collect();
    if !shown.is_empty() {
        let first = shown.iter().map(|(id, _)| width(id)).max().unwrap_or(0).saturating_add(2);
        // Words where there is room for them, else marks below each other.
        let wide: Vec<usize> = reports
            .iter()
            .map(|report| width(&report.profile.id).max(word_width(style)).saturating_add(2))
            .collect();
        let fits = wide.iter().sum::<usize>().saturating_add(first).saturating_add(2) <= style.width;
        putln!(out);
        let cells = if fits { wide } else { vec![CELL; reports.len()] };
        if fits {
            let names: String =
                reports.iter().zip(&cells).map(|(report, cell)| pad(&report.profile.id, *cell)).collect();
            putln!(out, "  {}{}", pad("", first), names.trim_end());
        } else {
            heads(out, reports, first);
        }
        for (id, kinds) in shown {
            let mut line = String::new();
            for (kind, cell) in kinds.iter().zip(&cells) {
                let text = if fits { kind.map_or("-", |kind| word(kind, style)) } else { mark(*kind, style) };
                line.push_str(&paint(*kind, &pad(text, *cell), style));
            }
            putln!(out, "  {}{}", pad(&defuse(id), first), line.trim_end());
        }
        if !fits {
            putln!(out, "  {}", style.paint(DIM, &legend(style)));
        }
    }
    if quiet > 0 && !style.all {
        let line = match style.lang {
            Lang::En => format!("{quiet} more rules: passed or not applicable everywhere (--all lists them)"),
            Lang::Zh => format!("另有 {quiet} 条规则全部通过或不适用（--all 列出）"),
        };
        putln!(out, "  {}", style.paint(DIM, &line));
    }
}

/// The profiles' names above narrow columns, each a line with what leads down to its own.
fn heads(out: &mut String, reports: &[Report], first: usize) {
    for (at, report) in reports.iter().enumerate() {
        let before: String = (0..at).map(|_| pad("|", CELL)).collect();
        putln!(out, "  {}{before}{}", pad("", first), report.profile.id);
    }
}

fn word(kind: Kind, style: &Style) -> &'static str {
    match (style.lang, kind) {
        (Lang::En, Kind::Passed) => "ok",
        (Lang::En, Kind::Idle) => "-",
        (Lang::En, Kind::Blocker) => "BLOCKER",
        (Lang::En, Kind::Warning) => "warning",
        (Lang::En, Kind::Info) => "info",
        (Lang::En, Kind::Undecided) => "undecided",
        (Lang::En, Kind::Ignored) => "ignored",
        (Lang::Zh, Kind::Idle) => "-",
        (Lang::Zh, kind) => labels::kind(kind).zh,
    }
}

fn word_width(style: &Style) -> usize {
    Kind::ALL.iter().map(|kind| width(word(*kind, style))).max().unwrap_or(0)
}

fn mark(kind: Option<Kind>, style: &Style) -> &'static str {
    let (ascii, sign) = match kind {
        None | Some(Kind::Idle) => (".", "·"),
        Some(Kind::Blocker) => ("X", "✗"),
        Some(Kind::Warning) => ("!", "!"),
        Some(Kind::Info) => ("i", "i"),
        Some(Kind::Undecided) => ("?", "?"),
        Some(Kind::Ignored) => ("-", "-"),
        Some(Kind::Passed) => ("+", "✓"),
    };
    if style.ascii { ascii } else { sign }
}

fn legend(style: &Style) -> String {
    let kinds = [Kind::Blocker, Kind::Warning, Kind::Undecided, Kind::Info, Kind::Passed, Kind::Idle];
    let each = kinds.map(|kind| {
        let word = labels::heading(kind).get(style.lang).to_lowercase();
        format!("{} {word}", mark(Some(kind), style))
    });
    each.join("   ")
}

fn paint(kind: Option<Kind>, text: &str, style: &Style) -> String {
    match kind {
        Some(Kind::Blocker) => style.paint(RED, text),
        Some(Kind::Warning | Kind::Undecided) => style.paint(YELLOW, text),
        Some(Kind::Passed) => style.paint(GREEN, text),
        None | Some(Kind::Info | Kind::Ignored | Kind::Idle) => style.paint(DIM, text),
    }
}
