//! The fixed words of reports, in every language.

use super::{Kind, Lang};
use crate::check::Phrase;
use crate::check::profile::Verdict;

/// What a group of findings is called, for one and for several.
pub(super) const fn kind(kind: Kind) -> Phrase {
    match kind {
        Kind::Blocker => Phrase::new("BLOCKER", "阻断项"),
        Kind::Warning => Phrase::new("WARNING", "警告"),
        Kind::Info => Phrase::new("INFO", "提示"),
        Kind::Undecided => Phrase::new("UNDECIDED", "无法判定"),
        Kind::Ignored => Phrase::new("IGNORED", "已忽略"),
        Kind::Passed => Phrase::new("PASSED", "通过"),
        Kind::Idle => Phrase::new("NOT ASKED", "不适用"),
    }
}

/// The heading of such a group.
pub(super) const fn heading(kind: Kind) -> Phrase {
    match kind {
        Kind::Blocker => Phrase::new("Blockers", "阻断项"),
        Kind::Warning => Phrase::new("Warnings", "警告"),
        Kind::Info => Phrase::new("Worth knowing", "提示"),
        Kind::Undecided => Phrase::new("Undecided", "无法判定"),
        Kind::Ignored => Phrase::new("Ignored", "已忽略"),
        Kind::Passed => Phrase::new("Passed", "通过"),
        Kind::Idle => Phrase::new("Not applicable", "不适用"),
    }
}

/// A number of findings: `2 blockers`.
pub(super) fn count(number: usize, of: Kind, lang: Lang) -> String {
    let (one, many, zh) = match of {
        Kind::Blocker => ("blocker", "blockers", "个阻断项"),
        Kind::Warning => ("warning", "warnings", "个警告"),
        Kind::Info => ("note", "notes", "个提示"),
        Kind::Undecided => ("undecided", "undecided", "项无法判定"),
        Kind::Ignored => ("ignored", "ignored", "项已忽略"),
        Kind::Passed => ("passed", "passed", "项通过"),
        Kind::Idle => ("not applicable", "not applicable", "项不适用"),
    };
    match lang {
        Lang::En => format!("{number} {}", if number == 1 { one } else { many }),
        Lang::Zh => format!("{number} {zh}"),
    }
}

/// The verdict in words.
pub(super) const fn verdict(verdict: Verdict) -> Phrase {
    match verdict {
        Verdict::Importable => Phrase::new("IMPORTABLE", "可以导入"),
        Verdict::NotImportable => Phrase::new("NOT IMPORTABLE", "不可导入"),
        Verdict::Undecided => Phrase::new("UNDECIDED", "无法判定"),
    }
}

/// Of an image that could not be opened.
pub(super) const NOT_CHECKED: Phrase = Phrase::new("NOT CHECKED", "未能检测");
/// Why.
pub(super) const NOT_OPENED: Phrase = Phrase::new("the image could not be opened", "镜像无法打开");

/// What stands before the places that show a finding.
pub(super) const SEEN: Phrase = Phrase::new("seen", "证据");
/// Before why it matters.
pub(super) const WHY: Phrase = Phrase::new("why", "原因");
/// Before the next step.
pub(super) const FIX: Phrase = Phrase::new("fix", "修复");
/// Before document and clause.
pub(super) const RULE: Phrase = Phrase::new("rule", "依据");
/// Before the help of an error.
pub(super) const HELP: Phrase = Phrase::new("help", "建议");

/// What joins counts.
pub(super) const fn comma(lang: Lang) -> &'static str {
    match lang {
        Lang::En => ", ",
        Lang::Zh => "，",
    }
}

/// What stands between a word and its explanation.
pub(super) const fn colon(lang: Lang) -> &'static str {
    match lang {
        Lang::En => ": ",
        Lang::Zh => "：",
    }
}
