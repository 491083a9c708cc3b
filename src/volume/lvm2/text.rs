//! LVM2's configuration syntax, in which a group's metadata are written: sections in braces, and assignments of numbers,
//! strings and lists of them.
//!
//! ```text
//! vg0 { seqno = 4  status = ["READ", "WRITE"]  logical_volumes { root { … } } }   # a comment
//! ```
//! As `libdm/libdm-config.c` reads it, but bounded: nesting, and the number of values.

use crate::budget::Budget;
use crate::error::{At, Error, Result};
use crate::num::wide;
use std::collections::BTreeMap;

/// Sections inside each other; lvm2 writes four.
const MAX_NESTING: usize = 16;
/// Assignments and list members in the texts of all members together, each different text once: a group of 10,000 logical
/// volumes has half of that.
pub(super) const MAX_VALUES: u32 = 1 << 19;

/// A section: what stands in it, by name.
pub(super) type Section = BTreeMap<String, Value>;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A whole number; what is no number of ours (a fraction, a negative one) is kept as its text.
    Number(u64),
    Text(String),
    List(Vec<Self>),
    Section(Section),
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    values: &'a mut u32,
    budget: &'a Budget,
}

/// Reads a text. `values` counts on from text to text.
///
/// # Errors
/// `Corrupt` with the byte at which it stops making sense; `Limit` for one out of all proportion.
pub(super) fn parse(text: &[u8], values: &mut u32, budget: &Budget) -> Result<Section> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let mut parser = Parser { text: text.get(..end).unwrap_or_default(), at: 0, values, budget };
    parser.section(0)
}

impl Parser<'_> {
    fn bad(&self, why: &str) -> Error {
        Error::corrupt(At::new("lvm2", "metadata text").byte(wide(self.at))).because(why)
    }

    /// The next byte that is neither white space nor in a comment.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at)? {
                b'#' => {
                    let rest = self.text.get(self.at..)?;
                    let line = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                    self.at = self.at.saturating_add(line);
                }
                byte if byte.is_ascii_whitespace() => self.at = self.at.saturating_add(1),
                byte => return Some(*byte),
            }
        }
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at = self.at.saturating_add(usize::from(found));
        found
    }

    fn count(&mut self) -> Result<()> {
        self.budget.step("lvm2 metadata text")?;
        *self.values = self.values.saturating_add(1);
        if *self.values > MAX_VALUES {
            return Err(Error::limit(format!("lvm2: metadata text of more than {MAX_VALUES} values")));
        }
        Ok(())
    }

    /// Letters and digits up to something else: a name, a number.
    fn word(&mut self) -> Result<String> {
        if self.peek() == Some(b'"') {
            return self.string();
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b"#{}[]=,\"".contains(byte);
        let word = rest.get(..rest.iter().position(ends).unwrap_or(rest.len())).unwrap_or_default();
        if word.is_empty() {
            return Err(self.bad("a name or a value is missing"));
        }
        self.at = self.at.saturating_add(word.len());
        Ok(String::from_utf8_lossy(word).into_owned())
    }

    fn string(&mut self) -> Result<String> {
        let rest = self.text.get(self.at.saturating_add(1)..).unwrap_or_default();
        let (mut bytes, mut from) = (Vec::new(), rest.iter().enumerate());
        while let Some((at, byte)) = from.next() {
            match byte {
                b'"' => {
                    self.at = self.at.saturating_add(at).saturating_add(2);
                    return Ok(String::from_utf8_lossy(&bytes).into_owned());
                }
                b'\\' => bytes.extend(from.next().map(|(_, byte)| *byte)),
                byte => bytes.push(*byte),
            }
        }
        Err(self.bad("a string without an end"))
    }

    fn section(&mut self, depth: usize) -> Result<Section> {
        if depth > MAX_NESTING {
            return Err(Error::limit(format!("lvm2: metadata text nested deeper than {MAX_NESTING}")));
        }
        let mut section = Section::new();
        loop {
            match self.peek() {
                None if depth == 0 => return Ok(section),
                None => return Err(self.bad("a section without an end")),
                Some(b'}') if depth > 0 => {
                    self.at = self.at.saturating_add(1);
                    return Ok(section);
                }
                Some(_) => {}
            }
            self.count()?;
            let name = self.word()?;
            let value = if self.take(b'{') {
                Value::Section(self.section(depth.saturating_add(1))?)
            } else if self.take(b'=') {
                self.value()?
            } else {
                return Err(self.bad("neither '=' nor '{' behind a name"));
            };
            section.insert(name, value);
        }
    }

    fn value(&mut self) -> Result<Value> {
        if !self.take(b'[') {
            return self.scalar();
        }
        let mut list = Vec::new();
        while !self.take(b']') {
            self.count()?;
            list.push(self.scalar()?);
            if !self.take(b',') && self.peek() != Some(b']') {
                return Err(self.bad("neither ',' nor ']' behind a member of a list"));
            }
        }
        Ok(Value::List(list))
    }

    fn scalar(&mut self) -> Result<Value> {
        if self.peek() == Some(b'"') {
            return self.string().map(Value::Text);
        }
        let word = self.word()?;
        Ok(word.parse().map_or(Value::Text(word), Value::Number))
    }
}

/// Looking into a section.
pub(super) trait Look {
    fn number(&self, name: &str) -> Option<u64>;
    fn text(&self, name: &str) -> Option<&str>;
    /// The members of a list; of a single value, that one.
    fn list(&self, name: &str) -> &[Value];
    fn section(&self, name: &str) -> Option<&Section>;
    /// Sections in it, by name.
    fn sections(&self) -> impl Iterator<Item = (&String, &Section)>;
    /// Does the list `name` hold this word?
    fn has(&self, name: &str, word: &str) -> bool;
}

impl Look for Section {
    fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn list(&self, name: &str) -> &[Value] {
        match self.get(name) {
            Some(Value::List(list)) => list,
            Some(one) => std::slice::from_ref(one),
            None => &[],
        }
    }

    fn section(&self, name: &str) -> Option<&Section> {
        match self.get(name)? {
            Value::Section(section) => Some(section),
            _ => None,
        }
    }

    fn sections(&self) -> impl Iterator<Item = (&String, &Self)> {
        self.iter().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((name, section)),
            _ => None,
        })
    }

    fn has(&self, name: &str, word: &str) -> bool {
        self.list(name).iter().any(|value| matches!(value, Value::Text(text) if text == word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Section> {
        parse(text.as_bytes(), &mut 0, &Budget::request())
    }

    #[test]
    fn sections_lists_strings_and_comments() {
        let text = "# top\nvg {\n id=\"a\\\"b\"\n n = 7 # seven\n list = [\"x\", 1]\n empty = []\n sub { m = -1 } }\nversion = 1\0junk{";
        let all = read(text).unwrap();
        let vg = all.section("vg").unwrap();
        assert_eq!((vg.text("id"), vg.number("n"), all.number("version")), (Some("a\"b"), Some(7), Some(1)));
        assert_eq!(vg.list("list"), [Value::Text("x".to_owned()), Value::Number(1)]);
        assert!(vg.list("empty").is_empty() && vg.has("list", "x"));
        assert_eq!(vg.section("sub").unwrap().number("m"), None);
    }

    #[test]
    fn what_is_cut_off_or_endless_is_refused() {
        for text in ["a {", "a = \"x", "a = [1", "a", "= 1", "a = [1 2]", "}"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&"a {".repeat(100_000)).is_err());
    }
}
