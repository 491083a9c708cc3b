//! Files of `KEY=value` that a shell reads in: `/etc/sysconfig`, `/etc/default`. Nothing is expanded.

use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};

/// Lines that are used; the longest real file, SuSEfirewall2, has some thousand.
const MAX_LINES: usize = 20_000;

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value without the quotes.
    pub value: String,
    /// Where it stands.
    pub evidence: Evidence,
}

/// The assignments of a file, in order.
#[derive(Clone, Debug, Default)]
pub struct Variables(Vec<Variable>);

impl Variables {
    /// Those of a file of the guest; `None` when it is not there.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn read(tree: &Tree, path: impl AsRef<[u8]>) -> Result<Option<Self>> {
        Ok(file::read(tree, path, MAX_CONFIG)?.map(|file| Self::parse(&file)))
    }

    /// Those of a file's text.
    #[must_use]
    pub fn parse(file: &GuestFile) -> Self {
        let assignment = |(line, text): (u64, &[u8])| {
            let whole = String::from_utf8_lossy(text);
            let text = whole.trim();
            let text = text.strip_prefix("export ").unwrap_or(text).trim_start();
            let (name, value) = text.split_once('=')?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let name = name.trim_end();
            if name.is_empty() || !name.chars().all(is_name) {
                return None;
            }
            let evidence = file.evidence(format!("sets {name}")).line(line, whole.as_bytes());
            Some(Variable { name: name.to_owned(), value: unquote(value.trim_start()), evidence })
        };
        Self(file.lines().take(MAX_LINES).filter_map(assignment).collect())
    }

    /// The one that counts: the last of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Variable> {
        self.0.iter().rev().find(|variable| variable.name == name)
    }

    /// Its value; empty where it is not set.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.get(name).map_or("", |variable| variable.value.as_str())
    }

    /// Every assignment, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter()
    }
}

/// A value as the shell takes it: quotes away, ended by white space or `;` outside of them.
fn unquote(text: &str) -> String {
    let mut value = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c.is_whitespace() || c == ';' => break,
            (Some('"') | None, '\\') => value.extend(chars.next()),
            (_, c) => value.push(c),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: `. FILE; echo "$A"` of dash.
    #[test]
    fn values_are_those_of_the_shell() {
        let text = "# A=0\nA=1\n A=\"dhcp\" # x\nexport B='a b'\nC=x y\nD=\n";
        let file = GuestFile { path: b"/x".to_vec(), volume: String::new(), bytes: text.into() };
        let variables = Variables::parse(&file);
        assert_eq!((variables.value("A"), variables.value("B")), ("dhcp", "a b"));
        assert_eq!((variables.value("C"), variables.value("D")), ("x", ""));
        assert_eq!(variables.get("A").unwrap().evidence.line, Some(3));
    }
}
