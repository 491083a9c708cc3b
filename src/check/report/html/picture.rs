//! The picture of a disk: what lies where, drawn to scale, but for what would be too narrow to be seen or named. Below the
//! disk stands what is made of its partitions.

use super::escape;
use crate::check::Lang;
use crate::check::human;
use crate::check::report::About;
use crate::check::report::layout::{Layout, Part};

/// How wide a picture is, in its own units; wider only if there is too much to show.
const WIDTH: u64 = 1000;
/// The narrowest partition, gap and first sector.
const LEAST_PART: u64 = 72;
const LEAST_GAP: u64 = 34;
const BOOT: u64 = 44;
/// How high a box is.
const HEIGHT: u64 = 96;
/// Between two rows.
const SPACE: u64 = 22;
/// Boxes in one row; the table below shows all.
const MOST: usize = 24;
/// A gap smaller than this is alignment.
const ALIGNMENT: u64 = 4 << 20;

/// A stretch of a row.
struct Stretch<'a> {
    size: u64,
    least: u64,
    what: What<'a>,
}

enum What<'a> {
    Boot(&'a str),
    Gap,
    Part(&'a Part),
}

/// Every disk of an image, with a table of all that is in the pictures.
pub(super) fn all(about: &About, lang: Lang) -> String {
    let mut out = String::new();
    for layout in &about.disks {
        if about.disks.len() > 1 {
            let name = layout.name.as_ref().map(|name| format!(" · {}", escape(name))).unwrap_or_default();
            putln!(out, "<h3>{}{name}</h3>", escape(&layout.id));
        }
        out.push_str(&disk(layout, lang));
    }
    if !about.joined.is_empty() {
        let parts: Vec<&Part> = about.joined.iter().collect();
        out.push_str(&drawing(&[row(&parts)], lang));
    }
    out.push_str(&table(about, lang));
    out
}

fn disk(layout: &Layout, lang: Lang) -> String {
    let made: Vec<&Part> = layout.made.iter().collect();
    let mut rows = vec![stretches(layout)];
    if !made.is_empty() {
        rows.push(row(&made));
    }
    drawing(&rows, lang)
}

/// A disk from its first byte to its last.
fn stretches(layout: &Layout) -> Vec<Stretch<'_>> {
    let mut found = Vec::new();
    if layout.table != "none" {
        found.push(Stretch { size: 0, least: BOOT, what: What::Boot(layout.boot_code) });
    }
    let gap = |from: u64, to: u64, found: &mut Vec<Stretch<'_>>| {
        let size = to.saturating_sub(from);
        if size >= ALIGNMENT {
            found.push(Stretch { size, least: LEAST_GAP, what: What::Gap });
        }
    };
    let mut at = 0;
    for part in layout.parts.iter().take(MOST) {
        let start = part.start.unwrap_or(at);
        gap(at, start, &mut found);
        found.push(Stretch { size: part.size, least: LEAST_PART, what: What::Part(part) });
        at = at.max(start.saturating_add(part.size));
    }
    if layout.parts.len() <= MOST {
        gap(at, layout.size, &mut found);
    }
    found
}

/// Volumes side by side.
fn row<'a>(parts: &[&'a Part]) -> Vec<Stretch<'a>> {
    let shown = parts.iter().take(MOST);
    shown.map(|part| Stretch { size: part.size, least: LEAST_PART, what: What::Part(part) }).collect()
}

/// How wide each stretch is drawn: by its size, but never below its least.
fn widths(row: &[Stretch<'_>], width: u64) -> Vec<u64> {
    let mut fixed: Vec<bool> = row.iter().map(|stretch| stretch.size == 0).collect();
    loop {
        let free = |fixed: &[bool]| {
            let taken: u64 =
                row.iter().zip(fixed).filter(|(_, fixed)| **fixed).map(|(one, _)| one.least).sum();
            let bytes: u128 = row
                .iter()
                .zip(fixed)
                .filter(|(_, fixed)| !**fixed)
                .map(|(one, _)| u128::from(one.size))
                .sum();
            (width.saturating_sub(taken), bytes.max(1))
        };
        let (room, bytes) = free(&fixed);
        let share = |stretch: &Stretch<'_>| {
            let share = u128::from(stretch.size).saturating_mul(u128::from(room)).checked_div(bytes);
            u64::try_from(share.unwrap_or(0)).unwrap_or(width)
        };
        // Each round fixes at least one more, so it ends.
        let narrow: Vec<usize> = (0..row.len())
            .filter(|at| fixed.get(*at) == Some(&false))
            .filter(|at| row.get(*at).is_some_and(|stretch| share(stretch) < stretch.least))
            .collect();
        if narrow.is_empty() {
            return row
                .iter()
                .zip(&fixed)
                .map(|(stretch, fixed)| if *fixed { stretch.least } else { share(stretch) })
                .collect();
        }
        for at in narrow {
            if let Some(fixed) = fixed.get_mut(at) {
                *fixed = true;
            }
        }
    }
}

fn drawing(rows: &[Vec<Stretch<'_>>], lang: Lang) -> String {
    let least = |row: &Vec<Stretch<'_>>| row.iter().map(|stretch| stretch.least).sum::<u64>();
    let width = rows.iter().map(least).max().unwrap_or(0).max(WIDTH);
    let step = HEIGHT.saturating_add(SPACE);
    let height = step.saturating_mul(crate::num::wide(rows.len())).saturating_sub(SPACE);
    let mut out = format!("<svg class=\"disk\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n");
    let mut y = 0_u64;
    for row in rows {
        let mut x = 0_u64;
        for (stretch, width) in row.iter().zip(widths(row, width)) {
            one(&mut out, stretch, x, y, width, lang);
            x = x.saturating_add(width);
        }
        y = y.saturating_add(step);
    }
    out.push_str("</svg>\n");
    out
}

/// A box. The inner `svg` cuts off what does not fit.
fn one(out: &mut String, stretch: &Stretch<'_>, x: u64, y: u64, width: u64, lang: Lang) {
    putln!(out, "<svg x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\">");
    let frame =
        |class: &str| format!("<rect class=\"box {class}\" width=\"{width}\" height=\"{HEIGHT}\" rx=\"6\"/>");
    match stretch.what {
        What::Boot(code) => {
            let middle = width.checked_div(2).unwrap_or(0);
            let title = match lang {
                Lang::En => "first sector and partition table",
                Lang::Zh => "首扇区与分区表",
            };
            let code = if code.is_empty() { "?" } else { code };
            putln!(out, "<title>{title}: {}</title>{}", escape(code), frame("boot"));
            putln!(
                out,
                "<text class=\"boot-text\" transform=\"translate({middle} 86) rotate(-90)\" dy=\".35em\">{}</text>",
                escape(code)
            );
        }
        What::Gap => {
            let size = human(stretch.size);
            let word = match lang {
                Lang::En => "free",
                Lang::Zh => "未分配",
            };
            putln!(out, "<title>{word}: {size}</title>{}", frame("gap"));
            putln!(
                out,
                "<text class=\"small\" x=\"8\" y=\"22\">{word}</text><text class=\"small\" x=\"8\" y=\"40\">{size}</text>"
            );
        }
        What::Part(part) => {
            let class = class(part);
            putln!(out, "<title>{}</title>{}", escape(&title(part)), frame(class));
            let start = if part.bootable { "▸ " } else { "" };
            putln!(out, "<text class=\"id\" x=\"10\" y=\"22\">{start}{}</text>", escape(&part.id));
            putln!(out, "<text x=\"10\" y=\"41\">{}</text>", escape(&holds(part, lang)));
            let line = if part.mounts.is_empty() { part.label.clone() } else { part.mounts.join(" ") };
            putln!(out, "<text class=\"small\" x=\"10\" y=\"58\">{}</text>", escape(&line));
            let used = part.used_permille();
            let percent =
                used.map(|used| format!(" · {} %", used.checked_div(10).unwrap_or(0))).unwrap_or_default();
            putln!(out, "<text class=\"small\" x=\"10\" y=\"75\">{}{percent}</text>", human(part.size));
            if let Some(used) = used {
                let full = width.saturating_sub(20);
                let used = full.saturating_mul(used.min(1000)).checked_div(1000).unwrap_or(0);
                putln!(out, "<rect class=\"bar\" x=\"10\" y=\"82\" width=\"{full}\" height=\"6\" rx=\"3\"/>");
                putln!(
                    out,
                    "<rect class=\"{class}-used\" x=\"10\" y=\"82\" width=\"{used}\" height=\"6\" rx=\"3\"/>"
                );
            }
        }
    }
    putln!(out, "</svg>");
}

/// What a part holds, as a colour.
fn class(part: &Part) -> &'static str {
    if part.member_of.is_some_and(is_lock) {
        return "locked";
    }
    if part.member_of.is_some() {
        return "member";
    }
    match part.holds.as_deref() {
        Some("swap") => "swap",
        Some("ntfs" | "vfat" | "exfat" | "fat12" | "fat16" | "fat32") => "windows",
        Some(kind) if is_lock(kind) => "locked",
        Some(_) if part.state.is_some() => "unix",
        _ => "unknown",
    }
}

fn is_lock(kind: &str) -> bool {
    let lower = kind.to_lowercase();
    lower.contains("luks") || lower.contains("bitlocker")
}

/// What a part holds, in a word.
fn holds(part: &Part, lang: Lang) -> String {
    let of =
        if part.made_of.is_empty() { String::new() } else { format!(" ← {}", part.made_of.join(", ")) };
    let what = match (&part.holds, part.member_of) {
        (Some(kind), _) => kind.clone(),
        (None, Some(manager)) => manager.to_owned(),
        (None, None) if part.unread => match lang {
            Lang::En => "unreadable".to_owned(),
            Lang::Zh => "无法读取".to_owned(),
        },
        (None, None) if part.kind.is_empty() => "?".to_owned(),
        (None, None) => part.kind.clone(),
    };
    format!("{what}{of}")
}

fn title(part: &Part) -> String {
    let mut title = format!("{} · {} · {}", part.id, holds(part, Lang::En), human(part.size));
    for more in [&part.label, &part.mounts.join(" ")] {
        if !more.is_empty() {
            put!(title, " · {more}");
        }
    }
    title
}

fn table(about: &About, lang: Lang) -> String {
    let heads = match lang {
        Lang::En => ["", "start", "size", "type", "holds", "label", "free", "state", "mounted"],
        Lang::Zh => ["", "起始", "大小", "类型", "内容", "卷标", "空闲", "状态", "挂载点"],
    };
    let summary = match lang {
        Lang::En => "All volumes",
        Lang::Zh => "全部卷",
    };
    let mut out = format!("<details><summary>{summary}</summary><div class=\"scroll\"><table><tr>");
    for head in heads {
        put!(out, "<th>{head}</th>");
    }
    putln!(out, "</tr>");
    let of_disks = about.disks.iter().flat_map(|layout| layout.parts.iter().chain(&layout.made));
    for part in of_disks.chain(&about.joined) {
        let start = part.start.map(|start| start.to_string()).unwrap_or_default();
        let free = part.free.map(human).unwrap_or_default();
        putln!(
            out,
            "<tr><td class=\"mono\">{}</td><td class=\"number\">{start}</td><td class=\"number\">{}</td><td>{}</td><td>{}</td><td class=\"wide\">{}</td><td class=\"number\">{free}</td><td>{}</td><td class=\"wide mono\">{}</td></tr>",
            escape(&part.id),
            human(part.size),
            escape(&part.kind),
            escape(&holds(part, lang)),
            escape(&part.label),
            part.state.unwrap_or_default(),
            escape(&part.mounts.join(" "))
        );
    }
    out.push_str("</table></div></details>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch<'a>(size: u64, part: &'a Part) -> Stretch<'a> {
        Stretch { size, least: 72, what: What::Part(part) }
    }

    #[test]
    fn widths_are_to_scale_but_never_too_narrow() {
        let part = Part::default();
        let row =
            |sizes: &[u64]| widths(&sizes.iter().map(|size| stretch(*size, &part)).collect::<Vec<_>>(), 1000);
        assert_eq!(row(&[300, 700]), [300, 700]);
        assert_eq!(row(&[1, 1_000_000]), [72, 928]);
        assert_eq!(row(&[u64::MAX, u64::MAX, 0]), [464, 464, 72]);
        assert!(row(&[1; 100]).iter().all(|width| *width == 72));
    }
}
