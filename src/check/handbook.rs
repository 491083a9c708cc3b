//! The handbook: what the rules ask and what the clouds' codes mean, in words and without an image. It lists the profiles
//! and their rules, and tells one rule or one code at length.

use super::profile::{Level, Profile, Rule, Undecidable};
use super::report::columns::{pad, width, wrap};
use super::{Check, GROUPS, Lang, Param, ParamKind, Phrase, by_id};
use serde_json::{Value, json};

/// Spaces before what belongs to the line above.
const INDENT: usize = 4;

/// Rules, each with the profile that it stands in.
type Uses<'a> = Vec<(&'a Profile, &'a Rule)>;

/// How the handbook is written.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The language.
    pub lang: Lang,
    /// Columns.
    pub width: usize,
}

impl Page {
    fn say(self, en: &'static str, zh: &'static str) -> &'static str {
        Phrase::new(en, zh).get(self.lang)
    }

    /// One of a text in two languages.
    fn either<'a>(self, en: &'a str, zh: &'a str) -> &'a str {
        match self.lang {
            Lang::En => en,
            Lang::Zh => zh,
        }
    }

    /// A paragraph, each line of it behind `indent` spaces.
    fn paragraph(self, out: &mut String, indent: usize, text: &str) {
        self.item(out, indent, "", text);
    }

    /// A paragraph behind a label: further lines stand under the first one's text.
    fn item(self, out: &mut String, indent: usize, label: &str, text: &str) {
        let label = if label.is_empty() { String::new() } else { format!("{label}  ") };
        let at = indent.saturating_add(width(&label));
        for (line_number, line) in wrap(text, self.width.saturating_sub(at).max(20)).iter().enumerate() {
            let before = if line_number == 0 { label.as_str() } else { "" };
            out.push_str(&format!("{}{}{line}\n", " ".repeat(indent), pad(before, width(&label))));
        }
    }
}

// --- lists ---

/// Every profile in two lines.
#[must_use]
pub fn profiles(profiles: &[Profile], page: Page) -> String {
    let mut out = String::new();
    for profile in profiles {
        let (rules, left) = (profile.rules.len(), profile.undecidable.len());
        let (id, url) = (pad(&profile.id, 12), &profile.url);
        let (date, compared) = (&profile.document_date, &profile.checked_on);
        out.push_str(&format!("{id} {}\n", page.either(&profile.title, &profile.title_zh)));
        let line = match page.lang {
            Lang::En => format!(
                "{rules} rules, {left} requirements not decidable; {url} ({date}), compared {compared}"
            ),
            Lang::Zh => format!("{rules} 条规则，{left} 项要求无法判定；{url}（{date}），核对于 {compared}"),
        };
        page.paragraph(&mut out, 13, &line);
    }
    out
}

/// Every profile, as a document.
#[must_use]
pub fn profiles_json(profiles: &[Profile]) -> Value {
    let list: Vec<Value> = profiles
        .iter()
        .map(|profile| {
            let rules: Vec<Value> = profile.rules.iter().map(|rule| Value::from(rule.id())).collect();
            let known: Vec<Value> =
                profile.undecidable.iter().map(|known| Value::from(known.rows.join(","))).collect();
            profile_json(profile, &rules, &known)
        })
        .collect();
    json!({"schema": "imgmount.profiles/1", "profiles": list})
}

fn profile_json(profile: &Profile, rules: &[Value], undecidable: &[Value]) -> Value {
    json!({
        "id": profile.id, "title": profile.title, "title_zh": profile.title_zh, "document": profile.document,
        "url": profile.url, "document_date": profile.document_date, "checked_on": profile.checked_on,
        "rules": rules, "undecidable": undecidable,
    })
}

/// The rules of every profile, and what it asks that no image can tell.
#[must_use]
pub fn rules(profiles: &[Profile], page: Page) -> String {
    let mut out = String::new();
    for (at, profile) in profiles.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let title = page.either(&profile.title, &profile.title_zh);
        out.push_str(&format!("{}  {title}\n", profile.id));
        let columns = |of: fn(&Rule) -> usize| profile.rules.iter().map(of).max().unwrap_or(0);
        let ids = columns(|rule| width(rule.id()));
        let codes = columns(|rule| width(rule.code.as_deref().unwrap_or("-")));
        for rule in &profile.rules {
            let code = pad(rule.code.as_deref().unwrap_or("-"), codes);
            let rows = pad(&rule.rows.join(","), 10);
            let line =
                format!("  {}  {}  {code}  {rows} {}", pad(rule.id(), ids), level(rule.level), limits(rule));
            out.push_str(line.trim_end());
            out.push('\n');
        }
        if !profile.undecidable.is_empty() {
            out.push_str(&format!("  {}\n", page.say("not decidable from an image", "无法从镜像判定")));
        }
        for known in &profile.undecidable {
            undecidable(&mut out, INDENT, known, page);
        }
    }
    out
}

/// The rules and what they ask, then those of every profile, as a document.
#[must_use]
pub fn rules_json(profiles: &[Profile]) -> Value {
    let checks: Vec<Value> = super::checks().map(check_json).collect();
    let list: Vec<Value> = profiles
        .iter()
        .map(|profile| {
            let rules: Vec<Value> = profile.rules.iter().map(|rule| rule_json(profile, rule)).collect();
            let known: Vec<Value> =
                profile.undecidable.iter().map(|known| undecidable_json(profile, known)).collect();
            profile_json(profile, &rules, &known)
        })
        .collect();
    json!({"schema": "imgmount.rules/1", "rules": checks, "profiles": list})
}

fn level(level: Level) -> String {
    pad(level.name(), 7)
}

/// `max: 500 GiB; kinds: mbr`.
fn limits(rule: &Rule) -> String {
    let words = |value: &toml::Value| match value {
        toml::Value::String(word) => word.clone(),
        toml::Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(toml::Value::as_str).collect();
            words.join(", ")
        }
        other => other.to_string(),
    };
    let limits: Vec<String> =
        rule.params.iter().map(|(name, value)| format!("{name}: {}", words(value))).collect();
    limits.join("; ")
}

fn undecidable(out: &mut String, indent: usize, known: &Undecidable, page: Page) {
    let mut label = known.rows.join(",");
    if let Some(code) = &known.code {
        label = format!("{label}  {code}");
    }
    let what = page.either(&known.what, &known.what_zh);
    let reason = page.either(&known.reason, &known.reason_zh);
    page.item(out, indent, &label, &format!("{what}{}{reason}", page.say(": ", "：")));
}

// --- at length ---

/// A rule at length: what it asks and how it decides, its limits, and who asks it with which limits, level and code.
#[must_use]
pub fn rule(topic: &str, profiles: &[Profile], page: Page) -> Option<String> {
    let (check, uses) = find(topic, profiles)?;
    let mut out = format!("{topic}  ({})\n", place(check, topic));
    page.paragraph(&mut out, INDENT, check.explain().get(page.lang));
    if !check.params().is_empty() {
        out.push_str(&format!("\n  {}\n", page.say("Limits that a profile gives", "由配置给出的限制")));
    }
    for param in check.params() {
        page.item(&mut out, INDENT, param.name, &kind(param, page));
    }
    out.push_str(&format!("\n  {}\n", page.say("Who asks it", "哪些云有此要求")));
    if uses.is_empty() {
        page.paragraph(&mut out, INDENT, page.say("none of these profiles", "这些配置均未使用"));
    }
    for (profile, rule) in &uses {
        let code = rule.code.as_deref().unwrap_or("-");
        let mut line = format!("{}  {}  {code}  {}", pad(&profile.id, 12), level(rule.level), limits(rule));
        if rule.id() != topic {
            line = format!("{}  [{}]", line.trim_end(), rule.id());
        }
        out.push_str(&format!("    {}\n", line.trim_end()));
        source(&mut out, profile, rule, page);
    }
    let both = |of: fn(&Rule) -> (&str, &str)| {
        let mut found: Vec<&str> = Vec::new();
        for (_, rule) in &uses {
            let (en, zh) = of(rule);
            let text = page.either(en, zh);
            if !found.contains(&text) {
                found.push(text);
            }
        }
        found
    };
    for (title, texts) in [
        (page.say("Why", "原因"), both(|rule| (&rule.why, &rule.why_zh))),
        (page.say("Fix", "修复"), both(|rule| (&rule.fix, &rule.fix_zh))),
    ] {
        if !texts.is_empty() {
            out.push_str(&format!("\n  {title}\n"));
        }
        texts.into_iter().for_each(|text| page.paragraph(&mut out, INDENT, text));
    }
    Some(out)
}

/// A code at length: what stands behind it in every profile that knows it.
#[must_use]
pub fn code(code: &str, profiles: &[Profile], page: Page) -> Option<String> {
    let mut out = format!("{code}\n");
    let mut is_known = false;
    for profile in profiles.iter().filter_map(|profile| profile.behind(code)) {
        is_known = true;
        let title = page.either(&profile.title, &profile.title_zh);
        out.push_str(&format!("\n  {}  {title}\n", profile.id));
        for rule in &profile.rules {
            let line = format!("    {}  {}  {}", pad(rule.id(), 22), level(rule.level), rule.rows.join(","));
            out.push_str(&format!("{}\n", line.trim_end()));
            let check = by_id(&rule.check).expect("profiles are judged when they are read");
            page.paragraph(&mut out, 8, check.explain().get(page.lang));
            page.item(&mut out, 8, page.say("why", "原因"), page.either(&rule.why, &rule.why_zh));
            page.item(&mut out, 8, page.say("fix", "修复"), page.either(&rule.fix, &rule.fix_zh));
            source(&mut out, &profile, rule, page);
        }
        for known in &profile.undecidable {
            let what = page.either(&known.what, &known.what_zh);
            let reason = page.either(&known.reason, &known.reason_zh);
            let line = match page.lang {
                Lang::En => format!("not decidable from an image: {what}: {reason}"),
                Lang::Zh => format!("无法从镜像判定：{what}：{reason}"),
            };
            page.item(&mut out, INDENT, &known.rows.join(","), &line);
        }
    }
    is_known.then_some(out)
}

/// The same of a rule or a code, as a document.
#[must_use]
pub fn topic_json(topic: &str, profiles: &[Profile]) -> Option<Value> {
    if let Some((check, uses)) = find(topic, profiles) {
        let uses: Vec<Value> = uses.iter().map(|(profile, rule)| rule_json(profile, rule)).collect();
        return Some(json!({"topic": topic, "rule": check_json(check), "uses": uses, "undecidable": []}));
    }
    let behind: Vec<Profile> = profiles.iter().filter_map(|profile| profile.behind(topic)).collect();
    let uses =
        behind.iter().flat_map(|profile| profile.rules.iter().map(move |rule| rule_json(profile, rule)));
    let known = behind
        .iter()
        .flat_map(|profile| profile.undecidable.iter().map(move |known| undecidable_json(profile, known)));
    let (uses, known): (Vec<Value>, Vec<Value>) = (uses.collect(), known.collect());
    (!behind.is_empty()).then(|| json!({"topic": topic, "rule": null, "uses": uses, "undecidable": known}))
}

/// The check that a topic names, or that a profile asks under that name, and who asks it.
fn find<'a>(topic: &str, profiles: &'a [Profile]) -> Option<(&'static dyn Check, Uses<'a>)> {
    let every = || profiles.iter().flat_map(|profile| profile.rules.iter().map(move |rule| (profile, rule)));
    if let Some(check) = by_id(topic) {
        return Some((check, every().filter(|(_, rule)| rule.check == topic).collect()));
    }
    let uses: Uses<'_> = every().filter(|(_, rule)| rule.id() == topic).collect();
    let check = uses.first().and_then(|(_, rule)| by_id(&rule.check))?;
    Some((check, uses))
}

fn group(check: &dyn Check) -> &'static str {
    let holds = |checks: &[&dyn Check]| checks.iter().any(|one| one.id() == check.id());
    GROUPS.iter().find(|(_, checks)| holds(checks)).map_or("", |(group, _)| group)
}

/// `boot`, and the check's own name where a profile gave it another.
fn place(check: &dyn Check, topic: &str) -> String {
    let group = group(check);
    if check.id() == topic { group.to_owned() } else { format!("{group}: {}", check.id()) }
}

fn kind(param: &Param, page: Page) -> String {
    let kind = match param.kind {
        ParamKind::Words => page.say("a list of words", "词语列表"),
        ParamKind::Size => page.say("a size", "大小"),
        ParamKind::Number => page.say("a whole number", "整数"),
        ParamKind::Flag => page.say("true or false", "true 或 false"),
    };
    let more = if param.required { "" } else { page.say(", may be left out", "，可省略") };
    format!("{kind}{more}")
}

/// The words of the document, and where they stand.
fn source(out: &mut String, profile: &Profile, rule: &Rule, page: Page) {
    let rows = if rule.rows.is_empty() { String::new() } else { format!("{}  ", rule.rows.join(",")) };
    let (document, date, url) = rule.source(profile);
    page.paragraph(out, 8, &format!("{rows}\"{}\"  {document}, {date}, {url}", rule.clause));
}

fn check_json(check: &'static dyn Check) -> Value {
    let params = check.params().iter().map(|param| {
        let kind = match param.kind {
            ParamKind::Words => "words",
            ParamKind::Size => "size",
            ParamKind::Number => "number",
            ParamKind::Flag => "flag",
        };
        json!({"name": param.name, "kind": kind, "required": param.required})
    });
    let explain = check.explain();
    json!({
        "id": check.id(), "group": group(check), "explain": explain.en, "explain_zh": explain.zh,
        "params": params.collect::<Vec<Value>>(),
    })
}

fn rule_json(profile: &Profile, rule: &Rule) -> Value {
    let (document, date, url) = rule.source(profile);
    json!({
        "profile": profile.id, "rule": rule.id(), "check": rule.check, "level": rule.level.name(),
        "lowered_by": rule.lowered_by, "code": rule.code, "rows": rule.rows,
        "params": serde_json::to_value(&rule.params).unwrap_or_default(),
        "why": rule.why, "why_zh": rule.why_zh, "fix": rule.fix, "fix_zh": rule.fix_zh, "clause": rule.clause,
        "document": document, "document_date": date, "url": url,
    })
}

fn undecidable_json(profile: &Profile, known: &Undecidable) -> Value {
    json!({
        "profile": profile.id, "rows": known.rows, "code": known.code, "what": known.what, "what_zh": known.what_zh,
        "reason": known.reason, "reason_zh": known.reason_zh, "clause": known.clause,
    })
}
