//! The plain part of YAML in which netplan and cloud-init are configured: nested mappings and lists, in blocks or in
//! brackets, of plain and quoted words. Anchors, aliases, tags and several documents are refused, not guessed.

use crate::error::{Error, ErrorKind, Result};
use crate::guest::evidence::Evidence;
use crate::guest::file::GuestFile;

/// Nesting that is followed; netplan needs seven.
const MAX_DEPTH: usize = 32;
/// Lines that are used; the longest real file seen has some hundreds.
const MAX_LINES: usize = 20_000;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where.
    pub evidence: Evidence,
    /// What.
    pub value: Value,
}

/// What a YAML file can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing, `~`, `null`.
    Null,
    /// A word: numbers and yes or no are words too.
    Word(String),
    /// `- a`, `[a, b]`.
    List(Vec<Node>),
    /// `key: value`, `{key: value}`, in order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key, if this is a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// The entries, if this is a mapping.
    #[must_use]
    pub fn entries(&self) -> &[(String, Self)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items, if this is a list.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    /// The word, if this is one.
    #[must_use]
    pub fn word(&self) -> Option<&str> {
        if let Value::Word(word) = &self.value { Some(word) } else { None }
    }

    /// Is it a yes, in any spelling of YAML 1.1?
    #[must_use]
    pub fn is_yes(&self) -> bool {
        self.word()
            .is_some_and(|word| ["true", "yes", "on", "y"].iter().any(|yes| word.eq_ignore_ascii_case(yes)))
    }

    /// Lays a later file over this one, as netplan does: mappings are joined, lists put behind each other, words replaced.
    pub fn merge(&mut self, later: Self) {
        match (&mut self.value, later.value) {
            (Value::Map(own), Value::Map(entries)) => {
                for (key, node) in entries {
                    match own.iter_mut().find(|(name, _)| *name == key) {
                        Some((_, known)) => known.merge(node),
                        None => own.push((key, node)),
                    }
                }
            }
            (Value::List(own), Value::List(items)) => own.extend(items),
            (_, Value::Null) => {}
            (own, value) => (*own, self.evidence) = (value, later.evidence),
        }
    }
}

/// Reads a file.
///
/// # Errors
/// When it is no YAML, or uses more of it than is read here.
pub fn parse(file: &GuestFile) -> Result<Node> {
    let mut lines = Vec::new();
    for (number, text) in file.lines() {
        let text = String::from_utf8_lossy(text).into_owned();
        let content = without_comment(&text).trim_end();
        let indent = content.len().saturating_sub(content.trim_start_matches(' ').len());
        let content = content.trim_start_matches(' ').to_owned();
        if content == "..." || (content == "---" && !lines.is_empty()) {
            break;
        }
        if content.is_empty() || content == "---" || content.starts_with('%') {
            continue;
        }
        if lines.len() >= MAX_LINES {
            return Err(Error::limit(format!("a YAML file of more than {MAX_LINES} lines")));
        }
        lines.push(Line { number, indent, content });
    }
    let mut parser = Parser { file, lines, at: 0 };
    let node = match parser.lines.first() {
        Some(first) => {
            let indent = first.indent;
            parser.block(indent, 0)?
        }
        None => Node { evidence: file.evidence("an empty file"), value: Value::Null },
    };
    match parser.lines.get(parser.at) {
        Some(line) => Err(parser.wrong(line.number, "stands where nothing can follow")),
        None => Ok(node),
    }
}

struct Line {
    number: u64,
    indent: usize,
    content: String,
}

struct Parser<'a> {
    file: &'a GuestFile,
    lines: Vec<Line>,
    at: usize,
}

impl Parser<'_> {
    fn wrong(&self, line: u64, why: &str) -> Error {
        let path = crate::text::escape(&self.file.path);
        Error::new(ErrorKind::Unsupported, format!("{path} line {line}: {why}"))
    }

    fn node(&self, line: u64, text: &str, value: Value) -> Node {
        Node { evidence: self.file.evidence("").line(line, text.as_bytes()), value }
    }

    /// A mapping or list whose lines begin at this column.
    fn block(&mut self, indent: usize, depth: usize) -> Result<Node> {
        let Some(first) = self.lines.get(self.at) else {
            return Ok(Node { evidence: self.file.evidence(""), value: Value::Null });
        };
        if depth > MAX_DEPTH {
            return Err(self.wrong(first.number, "is nested too deeply"));
        }
        let (number, text) = (first.number, first.content.clone());
        if is_item(&text) {
            let mut items = Vec::new();
            while let Some(line) =
                self.lines.get(self.at).filter(|line| line.indent == indent && is_item(&line.content))
            {
                items.push(self.item(line.number, line.indent, depth)?);
            }
            return Ok(self.node(number, &text, Value::List(items)));
        }
        if split_key(&text).is_none() {
            self.at = self.at.saturating_add(1);
            return self.scalar(number, &text, indent, depth);
        }
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some(line) = self.lines.get(self.at).filter(|line| line.indent == indent) {
            let (number, text) = (line.number, line.content.clone());
            if is_item(&text) {
                break;
            }
            let Some((key, rest)) = split_key(&text) else {
                return Err(self.wrong(number, "is no 'key: value'"));
            };
            self.at = self.at.saturating_add(1);
            let node = self.value(number, &text, rest, indent, depth)?;
            match entries.iter_mut().find(|(name, _)| *name == key) {
                Some((_, known)) => *known = node,
                None => entries.push((key, node)),
            }
        }
        if let Some(line) = self.lines.get(self.at).filter(|line| line.indent > indent) {
            return Err(self.wrong(line.number, "is indented where nothing can be"));
        }
        Ok(self.node(number, &text, Value::Map(entries)))
    }

    /// `- …`: what follows the dash stands two columns further in.
    fn item(&mut self, number: u64, indent: usize, depth: usize) -> Result<Node> {
        let Some(line) = self.lines.get_mut(self.at) else {
            return Err(self.wrong(number, "is cut off"));
        };
        let rest = line.content.strip_prefix('-').unwrap_or_default();
        let content = rest.trim_start_matches(' ').to_owned();
        if content.is_empty() {
            self.at = self.at.saturating_add(1);
            return self.nested(number, "-", indent, depth);
        }
        let inner = indent.saturating_add(1).saturating_add(rest.len().saturating_sub(content.len()));
        (line.indent, line.content) = (inner, content);
        self.block(inner, depth.saturating_add(1))
    }

    /// What stands behind `key:`, on its line or below.
    fn value(&mut self, number: u64, text: &str, rest: &str, indent: usize, depth: usize) -> Result<Node> {
        if rest.is_empty() {
            // A list may begin at the column of its key.
            let item = |line: &&Line| line.indent == indent && is_item(&line.content);
            if self.lines.get(self.at).as_ref().is_some_and(item) {
                return self.block(indent, depth.saturating_add(1));
            }
            return self.nested(number, text, indent, depth);
        }
        self.scalar(number, rest, indent, depth)
            .map(|node| Node { evidence: self.file.evidence("").line(number, text.as_bytes()), ..node })
    }

    fn nested(&mut self, number: u64, text: &str, indent: usize, depth: usize) -> Result<Node> {
        match self.lines.get(self.at).map(|line| line.indent).filter(|inner| *inner > indent) {
            Some(inner) => self.block(inner, depth.saturating_add(1)),
            None => Ok(self.node(number, text, Value::Null)),
        }
    }

    /// A word, or something in brackets, which may go on over the lines that are further in.
    fn scalar(&mut self, number: u64, text: &str, indent: usize, depth: usize) -> Result<Node> {
        match text.chars().next() {
            Some('&' | '*' | '!' | '@' | '`') => {
                Err(self.wrong(number, "uses an anchor, an alias or a tag of YAML"))
            }
            Some('|' | '>') => {
                // A text of several lines; what it says is of no use here.
                while self.lines.get(self.at).is_some_and(|line| line.indent > indent) {
                    self.at = self.at.saturating_add(1);
                }
                Ok(self.node(number, text, Value::Word(String::new())))
            }
            Some('[' | '{') => {
                let mut whole = text.to_owned();
                while !is_closed(&whole) {
                    let Some(line) = self.lines.get(self.at) else {
                        return Err(self.wrong(number, "opens a bracket that is not closed"));
                    };
                    whole.push(' ');
                    whole.push_str(&line.content);
                    self.at = self.at.saturating_add(1);
                }
                let mut flow = Flow { parser: self, number, rest: &whole };
                let node = flow.node(depth)?;
                let left = flow.rest.trim().is_empty();
                if left { Ok(node) } else { Err(self.wrong(number, "has something behind its bracket")) }
            }
            _ => Ok(self.node(number, text, word(text))),
        }
    }
}

/// What stands in brackets, read from its start.
struct Flow<'a, 'b> {
    parser: &'a Parser<'b>,
    number: u64,
    rest: &'a str,
}

impl Flow<'_, '_> {
    fn node(&mut self, depth: usize) -> Result<Node> {
        if depth > MAX_DEPTH {
            return Err(self.parser.wrong(self.number, "is nested too deeply"));
        }
        self.rest = self.rest.trim_start();
        let (open, close) = match self.rest.chars().next() {
            Some('[') => ('[', ']'),
            Some('{') => ('{', '}'),
            _ => {
                let text = self.take()?;
                return Ok(self.parser.node(self.number, &text, word(&text)));
            }
        };
        self.rest = self.rest.strip_prefix(open).unwrap_or_default().trim_start();
        let (mut items, mut entries) = (Vec::new(), Vec::new());
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(close) {
                self.rest = rest;
                break;
            }
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            if self.rest.is_empty() {
                return Err(self.parser.wrong(self.number, "opens a bracket that is not closed"));
            }
            if open == '[' {
                items.push(self.node(depth.saturating_add(1))?);
                continue;
            }
            let key = self.take()?;
            self.rest = self.rest.trim_start();
            let node = match self.rest.strip_prefix(':') {
                Some(rest) => {
                    self.rest = rest.trim_start();
                    match self.rest.chars().next() {
                        Some(',' | '}') => self.parser.node(self.number, &key, Value::Null),
                        _ => self.node(depth.saturating_add(1))?,
                    }
                }
                None => self.parser.node(self.number, &key, Value::Null),
            };
            entries.push((unquote(&key), node));
        }
        let value = if open == '[' { Value::List(items) } else { Value::Map(entries) };
        Ok(self.parser.node(self.number, self.parser.lines.first().map_or("", |_| ""), value))
    }

    /// One word: to a comma, a bracket, or a colon that a blank follows.
    fn take(&mut self) -> Result<String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let end = match quote {
            Some(quote) => {
                let after = self.rest.get(1..).and_then(|rest| rest.find(quote));
                after.and_then(|at| at.checked_add(2))
            }
            None => {
                let ends = |(at, c): (usize, char)| match c {
                    ',' | ']' | '}' | '[' | '{' => Some(at),
                    ':' => {
                        let next = self.rest.get(at.checked_add(1)?..)?.chars().next();
                        next.is_none_or(|c| c == ' ' || c == '\t').then_some(at)
                    }
                    _ => None,
                };
                Some(self.rest.char_indices().find_map(ends).unwrap_or(self.rest.len()))
            }
        };
        let wrong = || self.parser.wrong(self.number, "is not understood");
        let (text, rest) = end.and_then(|end| self.rest.split_at_checked(end)).ok_or_else(wrong)?;
        if text.is_empty() {
            return Err(wrong());
        }
        self.rest = rest;
        Ok(text.trim().to_owned())
    }
}

fn is_item(content: &str) -> bool {
    content == "-" || content.starts_with("- ")
}

/// Are all brackets closed, those in quotes not counted?
fn is_closed(text: &str) -> bool {
    let (mut open, mut quote) = (0_i64, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => open = open.saturating_add(1),
            (None, ']' | '}') => open = open.saturating_sub(1),
            (None, _) => {}
        }
    }
    open <= 0
}

/// `key: rest`, `"key": rest`; the colon needs a blank or the end of the line behind it.
fn split_key(content: &str) -> Option<(String, &str)> {
    if let Some(quote) = content.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let end = content.get(1..)?.find(quote)?.checked_add(1)?;
        let (key, rest) = (content.get(1..end)?, content.get(end.checked_add(1)?..)?);
        let rest = rest.trim_start().strip_prefix(':')?;
        return (rest.is_empty() || rest.starts_with(' ')).then(|| (key.to_owned(), rest.trim()));
    }
    if content.starts_with(['[', '{']) {
        return None;
    }
    let ends = |(at, _): (usize, &str)| {
        let rest = content.get(at.checked_add(1)?..)?;
        (rest.is_empty() || rest.starts_with([' ', '\t'])).then_some((at, rest))
    };
    let (at, rest) = content.match_indices(':').find_map(ends)?;
    Some((content.get(..at)?.trim().to_owned(), rest.trim()))
}

fn unquote(text: &str) -> String {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text).to_owned()
}

fn word(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        _ => Value::Word(unquote(text)),
    }
}

/// A `#` at the start or after white space begins a comment, outside quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if before.is_whitespace() || "[{,:".contains(before) => quote = Some(c),
            (None, '#') if before.is_whitespace() => return line.get(..at).unwrap_or(line),
            (None, _) => {}
        }
        before = c;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Result<Node> {
        parse(&GuestFile { path: b"/x".to_vec(), volume: String::new(), bytes: text.into() })
    }

    /// The same value as JSON, to compare with what Python's yaml.safe_load makes of the text.
    fn json(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Word(word) => format!("{word:?}"),
            Value::List(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(", ")),
            Value::Map(entries) => {
                let entry = |(key, node): &(String, Node)| format!("{key:?}: {}", json(node));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Expected values: PyYAML 6.0 with BaseLoader, json.dumps.
    #[test]
    fn blocks_and_brackets_say_the_same() {
        let block = "# x\nnetwork:\n  version: 2\n  ethernets:\n    eth0: # y\n      dhcp4: true\n      addresses:\n      - 10.0.0.1/24\n      - \"fe80::1/64\"\n      match: {macaddress: '52:54:00:aa:bb:cc', name: en*}\n";
        let expected = r#"{"network": {"version": "2", "ethernets": {"eth0": {"dhcp4": "true", "addresses": ["10.0.0.1/24", "fe80::1/64"], "match": {"macaddress": "52:54:00:aa:bb:cc", "name": "en*"}}}}}"#;
        assert_eq!(json(&yaml(block).unwrap()), expected);
        let flow = "{network: {version: 2, ethernets: {eth0: {dhcp4: true, addresses: [10.0.0.1/24,\n   'fe80::1/64'], match: {macaddress: \"52:54:00:aa:bb:cc\", name: en*}}}}}\n";
        assert_eq!(json(&yaml(flow).unwrap()), expected);
    }

    #[test]
    fn lists_of_mappings_and_empty_values() {
        let text = "a:\n- to: default\n  via: 10.0.0.1\n- 10.0.0.2/8:\n    label: x\nb: {}\nc:\nd: |\n  text: y\n  more\ne: 1\n";
        let expected = r#"{"a": [{"to": "default", "via": "10.0.0.1"}, {"10.0.0.2/8": {"label": "x"}}], "b": {}, "c": null, "d": "", "e": "1"}"#;
        assert_eq!(json(&yaml(text).unwrap()), expected);
    }

    #[test]
    fn what_is_not_read_is_refused() {
        assert!(yaml("a: &x 1\nb: *x\n").is_err() && yaml("a: !!str 1\n").is_err());
        assert!(yaml("a:\n    b: 1\n  c: 2\n").is_err() && yaml("a: [1, 2\n").is_err());
        let deep = "[".repeat(100_000);
        assert!(yaml(&format!("a: {deep}")).is_err());
        let nested: String = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        assert!(yaml(&nested).is_err());
    }

    #[test]
    fn a_later_file_is_laid_over() {
        let mut first = yaml("a: {b: 1, c: [x], d: 2}\n").unwrap();
        first.merge(yaml("a:\n  b: 3\n  c: [y]\n").unwrap());
        assert_eq!(json(&first), r#"{"a": {"b": "3", "c": ["x", "y"], "d": "2"}}"#);
    }
}
