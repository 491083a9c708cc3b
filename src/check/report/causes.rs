//! What keeps many images out, cause by cause: a rule, the code that the cloud reports, and what the message says without
//! the names and numbers that are each image's own. Beside it, which images stand behind each.

use super::columns::wrap;
use super::record::{Record, Trouble};
use super::text::{DIM, GREEN, RED, YELLOW};
use super::{Kind, Lang, Style, labels};
use crate::check::Words;
use crate::check::profile::Verdict;
use crate::check::words::words;
use crate::text::{defuse, json_safe};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Images that are named below a cause without `--all`.
const NAMES: usize = 8;
/// The name of the JSON document.
pub const SCHEMA: &str = "imgmount.causes/1";

/// One cause.
#[derive(Clone, Debug)]
pub struct Cause {
    /// What it means; nothing for images that could not be opened.
    pub kind: Option<Kind>,
    /// The rule's id, or `open`.
    pub rule: String,
    /// The cloud's code.
    pub code: Option<String>,
    /// The first image's message.
    pub message: Words,
    /// The first image's next step.
    pub fix: Option<Words>,
    /// The profiles that it was found for.
    pub profiles: BTreeSet<String>,
    /// The images, in the order in which they came, each once.
    pub images: Vec<String>,
}

/// How many images there are of each verdict, by the worst of their profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub images: usize,
    /// Importable everywhere.
    pub importable: usize,
    /// Not importable somewhere.
    pub not_importable: usize,
    /// Undecided somewhere, and importable elsewhere.
    pub undecided: usize,
    /// Not opened.
    pub not_opened: usize,
}

/// Kind, rule, code and class of the message.
type Key = (Option<Kind>, String, Option<String>, String);

/// Causes, collected record by record.
#[derive(Debug, Default)]
pub struct Causes {
    found: BTreeMap<Key, Cause>,
    /// Of each image the worst so far, a number that grows with it.
    worst: BTreeMap<String, u8>,
}

/// A message without what is an image's own: words with digits in them, and paths.
fn class(message: &str) -> String {
    let own = |word: &str| word.chars().any(|c| c.is_ascii_digit() || c == '/');
    let words = message.split_whitespace().map(|word| if own(word) { "*" } else { word });
    words.collect::<Vec<&str>>().join(" ")
}

impl Causes {
    /// Adds what is known of an image and a profile.
    pub fn add(&mut self, record: &Record) {
        let rank = match (&record.error, record.verdict) {
            (Some(_), _) => 3,
            (None, Verdict::NotImportable) => 2,
            (None, Verdict::Undecided) => 1,
            (None, Verdict::Importable) => 0,
        };
        let worst = self.worst.entry(record.image.clone()).or_default();
        *worst = rank.max(*worst);
        if let Some(error) = &record.error {
            let own = error.replace(&record.image, "IMAGE");
            let message = Words { en: own.clone(), zh: own };
            let trouble = |code| Trouble {
                kind: Kind::Blocker,
                level: crate::check::profile::Level::Blocker,
                rule: "open".to_owned(),
                code,
                message,
                fix: None,
            };
            self.put(None, &trouble(None), record);
        }
        for trouble in &record.findings {
            self.put(Some(trouble.kind), trouble, record);
        }
    }

    fn put(&mut self, kind: Option<Kind>, trouble: &Trouble, record: &Record) {
        let key = (kind, trouble.rule.clone(), trouble.code.clone(), class(&trouble.message.en));
        let cause = self.found.entry(key).or_insert_with(|| Cause {
            kind,
            rule: trouble.rule.clone(),
            code: trouble.code.clone(),
            message: trouble.message.clone(),
            fix: trouble.fix.clone(),
            profiles: BTreeSet::new(),
            images: Vec::new(),
        });
        cause.profiles.insert(record.profile.clone());
        // An image's records come one behind the other.
        if cause.images.last() != Some(&record.image) {
            cause.images.push(record.image.clone());
        }
    }

    /// The causes, the worst kind first and of each kind what most images have.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Cause> {
        let mut all: Vec<&Cause> = self.found.values().collect();
        all.sort_by_key(|cause| (cause.kind, std::cmp::Reverse(cause.images.len())));
        all
    }

    /// How many images there are of each verdict.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally { images: self.worst.len(), ..Tally::default() };
        for rank in self.worst.values() {
            let one = match rank {
                0 => &mut tally.importable,
                1 => &mut tally.undecided,
                2 => &mut tally.not_importable,
                _ => &mut tally.not_opened,
            };
            *one = one.saturating_add(1);
        }
        tally
    }

    /// For people.
    #[must_use]
    pub fn text(&self, style: &Style) -> String {
        let lang = style.lang;
        let mut out = format!("{}\n", self.tally().line().get(lang));
        for cause in self.sorted() {
            let (word, colour) = cause.word();
            let head = format!("{} {}", cause.rule, cause.code.as_deref().unwrap_or_default());
            let count = images(cause.images.len(), lang);
            let profiles = cause.profiles.iter().cloned().collect::<Vec<String>>().join(", ");
            putln!(
                out,
                "\n{} {}  {}  {}",
                style.paint(colour, word.get(lang)),
                defuse(head.trim_end()),
                count,
                style.paint(DIM, &format!("({})", defuse(&profiles)))
            );
            for line in wrap(&defuse(cause.message.get(lang)), style.width.saturating_sub(2)) {
                putln!(out, "  {line}");
            }
            if let Some(fix) = &cause.fix {
                putln!(out, "  {} {}", style.paint(GREEN, labels::FIX.get(lang)), defuse(fix.get(lang)));
            }
            let shown = if style.all { cause.images.len() } else { NAMES };
            for image in cause.images.iter().take(shown) {
                putln!(out, "    {}", defuse(image));
            }
            let more = cause.images.len().saturating_sub(shown);
            if more > 0 {
                putln!(out, "    {}", more_line(more).get(lang));
            }
        }
        out
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> String {
        let tally = self.tally();
        let causes: Vec<Value> = self
            .sorted()
            .into_iter()
            .map(|cause| {
                json!({
                    "kind": cause.name(),
                    "rule": cause.rule,
                    "code": cause.code,
                    "message": cause.message.en,
                    "message_zh": cause.message.zh,
                    "fix": cause.fix.as_ref().map(|fix| &fix.en),
                    "fix_zh": cause.fix.as_ref().map(|fix| &fix.zh),
                    "profiles": cause.profiles,
                    "count": cause.images.len(),
                    "images": cause.images,
                })
            })
            .collect();
        let document = json!({
            "schema": SCHEMA,
            "images": tally.images,
            "importable": tally.importable,
            "not_importable": tally.not_importable,
            "undecided": tally.undecided,
            "not_opened": tally.not_opened,
            "causes": causes,
        });
        json_safe(&format!("{document:#}\n")).into_owned()
    }
}

impl Cause {
    /// What it is called in a report.
    pub(super) fn word(&self) -> (crate::check::Phrase, anstyle::Style) {
        match self.kind {
            None => (labels::NOT_CHECKED, RED),
            Some(Kind::Blocker) => (labels::kind(Kind::Blocker), RED),
            Some(kind @ (Kind::Warning | Kind::Undecided)) => (labels::kind(kind), YELLOW),
            Some(kind) => (labels::kind(kind), DIM),
        }
    }

    /// What it is called in the JSON.
    const fn name(&self) -> &'static str {
        match self.kind {
            None => "not-opened",
            Some(Kind::Blocker) => "blocker",
            Some(Kind::Warning) => "warning",
            Some(Kind::Undecided) => "undecided",
            Some(Kind::Ignored) => "ignored",
            Some(Kind::Info | Kind::Passed | Kind::Idle) => "info",
        }
    }
}

impl Tally {
    /// In words.
    #[must_use]
    pub fn line(&self) -> Words {
        let Self { images: all, importable, not_importable, undecided, not_opened } = self;
        let plural = if *all == 1 { "" } else { "s" };
        words!(
            "{all} image{plural}: {importable} importable, {not_importable} not importable, {undecided} undecided, {not_opened} not checked",
            "{all} 个镜像：{importable} 个可以导入，{not_importable} 个不可导入，{undecided} 个无法判定，{not_opened} 个未能检测"
        )
    }
}

/// `3 images`.
pub(super) fn images(count: usize, lang: Lang) -> String {
    match lang {
        Lang::En if count == 1 => "1 image".to_owned(),
        Lang::En => format!("{count} images"),
        Lang::Zh => format!("{count} 个镜像"),
    }
}

fn more_line(more: usize) -> Words {
    words!("and {more} more (--all)", "另有 {more} 个（--all）")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(image: &str, message: &str) -> Record {
        let line = json!({
            "schema": "imgmount.check/1", "image": image, "profile": "one", "verdict": "not-importable",
            "findings": [
                {"rule": "r", "result": "fail", "level": "blocker", "code": "C", "message": message},
                {"rule": "s", "result": "pass", "level": "blocker", "code": null, "message": "fine"},
            ],
        });
        Record::parse(&line.to_string()).unwrap()
    }

    #[test]
    fn messages_that_differ_in_names_and_numbers_are_one_cause() {
        let mut causes = Causes::default();
        causes.add(&record("a", "Kernel 6.1.0-9 lacks virtio_blk in /boot/initrd.img-6.1.0-9"));
        causes.add(&record("b", "Kernel 5.10 lacks virtio_blk in /boot/initrd.img-5.10"));
        causes.add(&record("c", "There is no kernel"));
        let found: Vec<&[String]> = causes.sorted().iter().map(|cause| cause.images.as_slice()).collect();
        assert_eq!(found, [&["a".to_owned(), "b".to_owned()][..], &["c".to_owned()][..]]);
        assert_eq!(causes.tally(), Tally { images: 3, not_importable: 3, ..Tally::default() });
    }

    #[test]
    fn a_line_that_is_no_report_is_refused_in_words() {
        for (line, what) in [
            ("", "no JSON"),
            ("{}", "schema"),
            (
                r#"{"schema":"imgmount.check/1","verdict":"maybe","image":"x","profile":"y","findings":[]}"#,
                "'maybe'",
            ),
            (r#"{"schema":"imgmount.check/1","verdict":"importable","image":"x","profile":"y"}"#, "findings"),
        ] {
            let error = Record::parse(line).unwrap_err();
            assert!(error.contains(what), "{line}: {error}");
        }
    }
}
