//! The programs that Windows lists as installed, of its own width and of 32 bits.

use super::keys::{KeyAt, Keys, plain};
use crate::error::{Error, Result};
use crate::guest::{Evidence, Fact, Guest};

/// Where programs are listed for being removed.
const LISTS: &[&str] = &[
    "Microsoft\\Windows\\CurrentVersion\\Uninstall",
    "Wow6432Node\\Microsoft\\Windows\\CurrentVersion\\Uninstall",
];

/// One program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What the list calls it: `QEMU guest agent`. The key's name where the list says nothing.
    pub name: String,
    /// Who made it.
    pub publisher: String,
    /// Where that is written.
    pub evidence: Evidence,
}

/// Every program that is listed.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// In the order of the lists.
    pub all: Vec<Program>,
    /// Why an entry could not be read.
    unread: Option<Error>,
}

impl Fact for Programs {
    fn read(guest: &Guest) -> Result<Self> {
        let keys = Keys::of(guest)?;
        let mut found = Self::default();
        for list in LISTS {
            let Some(list) = keys.software(list)? else { continue };
            for entry in list.subkeys() {
                match entry.and_then(|entry| Program::read(&entry)) {
                    Ok(program) => found.all.push(program),
                    // One damaged entry costs only itself, unless somebody looks for what it may be.
                    Err(error) => found.unread = found.unread.or(Some(error)),
                }
            }
        }
        Ok(found)
    }
}

impl Program {
    fn read(entry: &KeyAt) -> Result<Self> {
        let (shown, own) = (plain(&entry.text("DisplayName")?), plain(entry.name()));
        let name = if shown.is_empty() { own } else { shown };
        let evidence = entry.says("DisplayName", &name);
        Ok(Self { publisher: plain(&entry.text("Publisher")?), name, evidence })
    }
}

impl Programs {
    /// The first program whose name contains one of these words, in any case.
    ///
    /// # Errors
    /// When none does and an entry could not be read.
    pub fn find(&self, words: &[&str]) -> Result<Option<&Program>> {
        let has = |program: &&Program| words.iter().any(|word| contains(&program.name, word));
        match (self.all.iter().find(has), &self.unread) {
            (None, Some(error)) => Err(error.clone()),
            (found, _) => Ok(found),
        }
    }
}

/// Does a text contain a word, in any case?
#[must_use]
pub fn contains(text: &str, word: &str) -> bool {
    text.to_lowercase().contains(&word.to_lowercase())
}
