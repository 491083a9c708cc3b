//! What a guest calls itself: `os-release`, or the older files that each distribution had before it.

use super::evidence::Evidence;
use super::file::{self, GuestFile};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::text::Text;

/// The longest identity file that is read.
const MAX: u64 = 64 << 10;

/// A guest's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsRelease {
    /// `ID`: `debian`, `centos`. Empty when nothing says it.
    pub id: Text,
    /// `ID_LIKE`, word by word.
    pub like: Vec<Text>,
    /// `VERSION_ID`: `12`, `7`.
    pub version: Text,
    /// The exact version where another file knows it better: `12.14`, `7.9.2009`.
    pub full_version: Text,
    /// `PRETTY_NAME`, or the one line of an older file.
    pub pretty: Text,
    /// Where it was read.
    pub evidence: Vec<Evidence>,
}

/// Reads a guest's name. A guest without any such file has an empty one.
///
/// # Errors
/// When a file is there but cannot be read.
pub fn read(tree: &Tree) -> Result<OsRelease> {
    let paths = ["/etc/os-release", "/usr/lib/os-release"];
    let mut found = match file::read_first(tree, &paths, MAX)? {
        Some(file) => parse(&file),
        None => OsRelease::default(),
    };
    for older in OLDER {
        let Some(file) = file::read(tree, older.path, MAX)? else { continue };
        let Some((line, text)) = file.lines().find(|(_, text)| !text.trim_ascii().is_empty()) else {
            continue;
        };
        let version = (older.version)(text);
        if found.id.is_empty() {
            found = OsRelease {
                id: Text::from((older.id)(text)),
                version: version.clone(),
                pretty: super::evidence::excerpt(&(older.pretty)(text)),
                evidence: vec![file.evidence("names the system").line(line, text)],
                ..OsRelease::default()
            };
        }
        if (older.id)(text).as_bytes() == found.id.as_bytes() {
            found.full_version = version;
            break;
        }
    }
    if found.full_version.is_empty() {
        found.full_version = found.version.clone();
    }
    Ok(found)
}

/// A file from before `os-release`, or one that knows the version better.
struct Older {
    path: &'static str,
    id: fn(&[u8]) -> &'static str,
    version: fn(&[u8]) -> Text,
    pretty: fn(&[u8]) -> Vec<u8>,
}

/// In this order: the special before the general (CentOS also has `redhat-release`, Ubuntu also has `debian_version`).
const OLDER: &[Older] = &[
    Older { path: "/etc/centos-release", id: |_| "centos", version: after_release, pretty: whole },
    Older { path: "/etc/redhat-release", id: red_hat, version: after_release, pretty: whole },
    Older { path: "/etc/SuSE-release", id: suse, version: first_number, pretty: whole },
    Older {
        path: "/etc/alpine-release",
        id: |_| "alpine",
        version: bare,
        pretty: |line| named(b"Alpine Linux ", line),
    },
    Older {
        path: "/etc/debian_version",
        id: |_| "debian",
        version: bare,
        pretty: |line| named(b"Debian GNU/Linux ", line),
    },
];

fn whole(line: &[u8]) -> Vec<u8> {
    line.to_vec()
}

fn named(name: &[u8], line: &[u8]) -> Vec<u8> {
    [name, line].concat()
}

fn bare(line: &[u8]) -> Text {
    Text::from(line.trim_ascii())
}

/// `CentOS release 6.10 (Final)`, `CentOS Linux release 7.9.2009 (Core)`: the word after `release`.
fn after_release(line: &[u8]) -> Text {
    let mut words = line.split(u8::is_ascii_whitespace).skip_while(|word| *word != b"release");
    Text::from(words.nth(1).unwrap_or_default())
}

fn first_number(line: &[u8]) -> Text {
    let number =
        line.split(u8::is_ascii_whitespace).find(|word| word.first().is_some_and(u8::is_ascii_digit));
    Text::from(number.unwrap_or_default())
}

fn red_hat(line: &[u8]) -> &'static str {
    let starts = |name: &str| line.starts_with(name.as_bytes());
    match () {
        () if starts("CentOS") => "centos",
        () if starts("Red Hat") => "rhel",
        () if starts("Fedora") => "fedora",
        () if starts("Oracle") => "ol",
        () if starts("Rocky") => "rocky",
        () if starts("AlmaLinux") => "almalinux",
        () if starts("Scientific") => "scientific",
        () => "",
    }
}

fn suse(line: &[u8]) -> &'static str {
    if line.starts_with(b"openSUSE") { "opensuse" } else { "sles" }
}

/// Reads the `KEY=value` lines of `os-release` (os-release(5): the shell's quoting, no expansion). A line that is no
/// assignment is skipped, as a shell would fail on it and readers of the file do not.
fn parse(file: &GuestFile) -> OsRelease {
    let mut found = OsRelease::default();
    let (mut name, mut version) = (Text::default(), Text::default());
    for (number, line) in file.lines() {
        let Some((key, value)) = assignment(line) else { continue };
        let value = Text::new(value);
        match key {
            b"ID" => found.id = value,
            b"VERSION_ID" => found.version = value,
            b"NAME" => name = value,
            b"VERSION" => version = value,
            b"PRETTY_NAME" => {
                found.pretty = value;
                found.evidence.push(file.evidence("names the system").line(number, line));
            }
            b"ID_LIKE" => {
                let words = value.as_bytes().split(u8::is_ascii_whitespace);
                found.like = words.filter(|word| !word.is_empty()).map(Text::from).collect();
            }
            _ => {}
        }
    }
    if found.pretty.is_empty() {
        let line = [name.as_bytes(), version.as_bytes()].join(&b" "[..]);
        found.pretty = Text::from(line.trim_ascii());
    }
    if found.evidence.is_empty() {
        found.evidence.push(file.evidence("names the system"));
    }
    found
}

/// `KEY=value`, unquoted as a shell would.
pub(super) fn assignment(line: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let line = line.trim_ascii();
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = line.split_at_checked(equals)?;
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if key.is_empty() || !key.iter().all(named) {
        return None;
    }
    Some((key, unquote(value.get(1..)?)))
}

/// One shell word: `'…'` as it is; `\` before `"`, `\`, `$` and a back-tick inside `"…"`, before anything outside.
pub(super) fn unquote(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.iter().copied().peekable();
    let mut quote = None;
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            (None, b'\\') => out.extend(bytes.next()),
            (Some(b'"'), b'\\') => match bytes.peek() {
                Some(b'"' | b'\\' | b'$' | b'`') => out.extend(bytes.next()),
                _ => out.push(byte),
            },
            (None, _) if byte.is_ascii_whitespace() => break,
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;

    fn release(files: &[(&str, &str)]) -> OsRelease {
        read(&MemoryFs::tree(files)).unwrap()
    }

    #[test]
    fn a_quoted_value_is_unquoted_as_by_a_shell() {
        // bash -c 'printf %s "a \"b\" \$c \d"' prints: a "b" $c \d
        assert_eq!(unquote(br#""a \"b\" \$c \d""#), br#"a "b" $c \d"#);
        assert_eq!(unquote(b"'a\\b'"), b"a\\b");
    }

    #[test]
    fn the_fallback_in_usr_lib_is_used_through_a_link_or_without() {
        let os = release(&[("/usr/lib/os-release", "ID=fedora\nVERSION_ID=30\n")]);
        assert_eq!((os.id, os.version), (Text::from("fedora"), Text::from("30")));
    }

    #[test]
    fn debian_version_knows_the_point_release() {
        let os = release(&[
            ("/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
            ("/etc/debian_version", "12.14\n"),
        ]);
        assert_eq!((os.version, os.full_version), (Text::from("12"), Text::from("12.14")));
    }

    #[test]
    fn ubuntu_is_not_debian_for_having_debian_version() {
        let os = release(&[
            ("/etc/os-release", "ID=ubuntu\nVERSION_ID=\"22.04\"\n"),
            ("/etc/debian_version", "bookworm/sid\n"),
        ]);
        assert_eq!(os.full_version, Text::from("22.04"));
    }

    #[test]
    fn centos_6_has_no_os_release() {
        let os = release(&[("/etc/redhat-release", "CentOS release 6.10 (Final)\n")]);
        assert_eq!((os.id, os.version), (Text::from("centos"), Text::from("6.10")));
        assert_eq!(os.pretty, Text::from("CentOS release 6.10 (Final)"));
    }

    #[test]
    fn a_line_that_is_no_assignment_is_skipped() {
        let os = release(&[("/etc/os-release", "garbage here\n=x\nID=alpine\n")]);
        assert_eq!(os.id, Text::from("alpine"));
    }

    #[test]
    fn no_file_is_an_empty_name_and_no_error() {
        assert_eq!(release(&[("/etc/hosts", "")]).id, Text::default());
    }
}
