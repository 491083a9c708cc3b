//! What a report says, in every language that it can speak. A sentence is written in all of them where it arises, so that
//! none can be forgotten; ids, codes, paths and excerpts are never translated.

use std::fmt;

/// A language of the reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Chinese, in simplified characters.
    Zh,
}

impl Lang {
    /// By the names of a locale: the first that is set decides, as for C programs (POSIX.1-2017, XBD 8.2).
    pub fn of_locale<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        match names.into_iter().find(|name| !name.is_empty()) {
            Some(name) if name.starts_with("zh") => Self::Zh,
            _ => Self::En,
        }
    }
}

/// A sentence in every language.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

impl Words {
    /// In one language.
    #[must_use]
    pub fn get(&self, lang: Lang) -> &str {
        match lang {
            Lang::En => &self.en,
            Lang::Zh => &self.zh,
        }
    }

    /// Adds what goes on behind it.
    pub fn add(&mut self, more: &Self) {
        self.en.push_str(&more.en);
        self.zh.push_str(&more.zh);
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.en)
    }
}

/// A fixed sentence in every language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phrase {
    /// English.
    pub en: &'static str,
    /// Chinese.
    pub zh: &'static str,
}

impl Phrase {
    /// In both languages.
    #[must_use]
    pub const fn new(en: &'static str, zh: &'static str) -> Self {
        Self { en, zh }
    }

    /// In one language.
    #[must_use]
    pub const fn get(self, lang: Lang) -> &'static str {
        match lang {
            Lang::En => self.en,
            Lang::Zh => self.zh,
        }
    }
}

impl From<Phrase> for Words {
    fn from(phrase: Phrase) -> Self {
        Self { en: phrase.en.to_owned(), zh: phrase.zh.to_owned() }
    }
}

/// A sentence in every language, with values formatted into each: `words!("{n} files", "{n} 个文件")`.
macro_rules! words {
    ($en:literal, $zh:literal $(,)?) => {
        $crate::check::words::Words { en: format!($en), zh: format!($zh) }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_locale_decides() {
        assert_eq!(Lang::of_locale(["", "zh_CN.UTF-8"]), Lang::Zh);
        assert_eq!(Lang::of_locale(["C.UTF-8", "zh_CN.UTF-8"]), Lang::En);
        assert_eq!(Lang::of_locale([]), Lang::En);
    }
}
