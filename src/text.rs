//! Text from strangers: names, labels and lines out of an image, which may hold anything.
//!
//! [`Text`] owns such bytes and can be shown in one way only: escaped. Printing the raw bytes does not compile;
//! whoever needs them (a FUSE reply, a comparison) asks for [`Text::as_bytes`] by name.

use std::borrow::Cow;
use std::fmt;

/// Bytes that came out of an image or off the network. `Display` and `Debug` escape control characters,
/// bidirectional overrides, backslashes and whatever is not UTF-8, so a terminal shows it and obeys nothing.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Vec<u8>);

impl Text {
    /// Takes the bytes as they are.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The raw bytes, for comparing and for replies that carry bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text if it is UTF-8, for parsing. Not for showing.
    #[must_use]
    pub fn as_utf8(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(&self.0).fmt(f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", escape(&self.0))
    }
}

/// Borrowed bytes that show themselves escaped; made by [`escape`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a [u8]);

/// Shows bytes of a stranger: UTF-8 as it is, everything else as `\xHH`.
#[must_use]
pub fn escape(bytes: &[u8]) -> Escaped<'_> {
    Escaped(bytes)
}

/// Text of our own that may have taken in a stranger's: what a terminal would obey is spelled out, and backslashes
/// stay, so what was escaped before is not escaped twice.
#[must_use]
pub fn defuse(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            let mut utf8 = [0; 4];
            out.push_str(&escape(c.encode_utf8(&mut utf8).as_bytes()).to_string());
        } else {
            out.push(c);
        }
    }
    out
}

/// C0, DEL, C1, and the characters that reorder or hide text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Finished JSON without a character that a terminal would act on: DEL, C1 and those that reorder text become `\u` and
/// four hexadecimal digits, which means the same. Outside its strings JSON has none of them.
#[must_use]
pub fn json_safe(json: &str) -> Cow<'_, str> {
    let acts = |c: char| is_unsafe(c) && c != '\n';
    if !json.contains(acts) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '\\' {
                    f.write_str("\\\\")?;
                } else if is_unsafe(c) {
                    let mut utf8 = [0; 4];
                    for byte in c.encode_utf8(&mut utf8).as_bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                } else {
                    f.write_char(c)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_are_defused() {
        assert_eq!(escape(b"a\x1b[31mb\n").to_string(), "a\\x1b[31mb\\x0a");
    }

    #[test]
    fn json_keeps_its_meaning_and_loses_its_sting() {
        let name = "a\u{9b}31m\u{202e}\u{7f}\u{e0041}\n";
        let json = serde_json::to_string(name).unwrap();
        let safe = json_safe(&json);
        assert!(safe.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), name);
    }

    #[test]
    fn what_was_escaped_is_defused_once() {
        assert_eq!(defuse("a\\x1b\u{9b}m\x1b"), "a\\x1b\\xc2\\x9bm\\x1b");
    }

    #[test]
    fn invalid_utf8_is_spelled_out() {
        assert_eq!(escape(b"caf\xe9").to_string(), "caf\\xe9");
    }

    #[test]
    fn bidirectional_override_is_spelled_out() {
        assert_eq!(escape("a\u{202e}b".as_bytes()).to_string(), "a\\xe2\\x80\\xaeb");
    }

    #[test]
    fn a_backslash_cannot_imitate_an_escape() {
        assert_eq!(escape(b"\\x1b").to_string(), "\\\\x1b");
    }
}
