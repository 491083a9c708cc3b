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
    /// `VARIANT_ID`: `coreos`.
    pub variant: Text,
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
    if found.id.is_empty()
        && let Some(file) = file::read(tree, "/etc/lsb-release", MAX)?
    {
        found = lsb(&file);
    }
    for older in OLDER {
        let Some(file) = file::read(tree, older.path, MAX)? else { continue };
        let Some((line, text)) = file.lines().find(|(_, text)| !text.trim_ascii().is_empty()) else {
            continue;
        };
        let id = (older.id)(text);
        let version = (older.version)(&file, text);
        if found.id.is_empty() && !id.is_empty() {
            found = OsRelease {
                id: Text::from(id),
                version: version.clone(),
                pretty: super::evidence::excerpt(&(older.pretty)(text)),
                evidence: vec![file.evidence("names the system").line(line, text)],
                ..OsRelease::default()
            };
        }
        // "trixie/sid" is no better version than none.
        let is_version = version.as_bytes().first().is_some_and(u8::is_ascii_digit);
        if id.as_bytes() == found.id.as_bytes() && is_version {
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
    version: fn(&GuestFile, &[u8]) -> Text,
    pretty: fn(&[u8]) -> Vec<u8>,
}

/// In this order: the special before the general (CentOS and Oracle also have `redhat-release`, Ubuntu also has
/// `debian_version`).
const OLDER: &[Older] = &[
    Older { path: "/etc/centos-release", id: |_| "centos", version: after_release, pretty: whole },
    Older { path: "/etc/oracle-release", id: |_| "ol", version: after_release, pretty: whole },
    Older { path: "/etc/redhat-release", id: red_hat, version: after_release, pretty: whole },
    Older { path: "/etc/system-release", id: red_hat, version: after_release, pretty: whole },
    Older { path: "/etc/SuSE-release", id: suse, version: patched, pretty: whole },
    Older {
        path: "/etc/alpine-release",
        id: |_| "alpine",
        version: bare,
        pretty: |line| named(b"Alpine Linux ", line),
    },
    Older { path: "/etc/gentoo-release", id: |_| "gentoo", version: after_release, pretty: whole },
    Older { path: "/etc/slackware-version", id: |_| "slackware", version: first_number, pretty: whole },
    Older {
        path: "/etc/debian_version",
        id: |_| "debian",
        version: bare,
        pretty: |line| named(b"Debian GNU/Linux ", line),
    },
];

/// `/etc/lsb-release`: Ubuntu before 12.04, and what is made of it. Red Hat's has no `DISTRIB_ID`.
fn lsb(file: &GuestFile) -> OsRelease {
    let mut found = OsRelease::default();
    for (number, line) in file.lines() {
        match assignment(line) {
            Some((b"DISTRIB_ID", value)) => found.id = Text::new(value.to_ascii_lowercase()),
            Some((b"DISTRIB_RELEASE", value)) => found.version = Text::new(value),
            Some((b"DISTRIB_DESCRIPTION", value)) => {
                found.pretty = Text::new(value);
                found.evidence.push(file.evidence("names the system").line(number, line));
            }
            _ => {}
        }
    }
    if found.evidence.is_empty() {
        found.evidence.push(file.evidence("names the system"));
    }
    if found.id.is_empty() { OsRelease::default() } else { found }
}

fn whole(line: &[u8]) -> Vec<u8> {
    line.to_vec()
}

fn named(name: &[u8], line: &[u8]) -> Vec<u8> {
    [name, line].concat()
}

fn bare(_file: &GuestFile, line: &[u8]) -> Text {
    Text::from(line.trim_ascii())
}

/// `CentOS release 6.10 (Final)`, `CentOS Linux release 7.9.2009 (Core)`: the word after `release`.
fn after_release(_file: &GuestFile, line: &[u8]) -> Text {
    let mut words = line.split(u8::is_ascii_whitespace).skip_while(|word| *word != b"release");
    Text::from(words.nth(1).unwrap_or_default())
}

fn first_number(_file: &GuestFile, line: &[u8]) -> Text {
    let number =
        line.split(u8::is_ascii_whitespace).find(|word| word.first().is_some_and(u8::is_ascii_digit));
    Text::from(number.unwrap_or_default())
}

/// `SUSE Linux Enterprise Server 11 (x86_64)`, and in a later line `PATCHLEVEL = 4`: 11.4.
fn patched(file: &GuestFile, line: &[u8]) -> Text {
    let version = first_number(file, line);
    let level = file.lines().find_map(|(_, line)| {
        let value = line.strip_prefix(b"PATCHLEVEL")?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
        (!value.is_empty() && value != b"0" && value.iter().all(u8::is_ascii_digit)).then_some(value)
    });
    level.map_or(version.clone(), |level| Text::new([version.as_bytes(), b".", level].concat()))
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
        () if starts("Amazon") => "amzn",
        () if starts("openEuler") => "openEuler",
        () if starts("EulerOS") => "euleros",
        () if starts("Anolis") => "anolis",
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
            b"VARIANT_ID" => found.variant = value,
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
pub(crate) fn assignment(line: &[u8]) -> Option<(&[u8], Vec<u8>)> {
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
    fn every_distribution_has_its_own_file_before_os_release() {
        let of = |files: &[(&str, &str)]| {
            let os = release(files);
            format!("{} {}", os.id, os.full_version)
        };
        let sles = "SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 4\n";
        assert_eq!(of(&[("/etc/SuSE-release", sles)]), "sles 11.4");
        let lsb = "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=10.04\nDISTRIB_DESCRIPTION=\"Ubuntu 10.04.4 LTS\"\n";
        assert_eq!(
            of(&[("/etc/lsb-release", lsb), ("/etc/debian_version", "squeeze/sid\n")]),
            "ubuntu 10.04"
        );
        let red_hat = ("/etc/redhat-release", "Red Hat Enterprise Linux Server release 5.11 (Tikanga)\n");
        assert_eq!(of(&[red_hat, ("/etc/lsb-release", "LSB_VERSION=core-4.0\n")]), "rhel 5.11");
        let oracle = ("/etc/oracle-release", "Oracle Linux Server release 6.10\n");
        assert_eq!(of(&[red_hat, oracle]), "ol 6.10");
        assert_eq!(of(&[("/etc/system-release", "Amazon Linux AMI release 2018.03\n")]), "amzn 2018.03");
    }

    #[test]
    fn the_minor_version_of_centos_is_in_its_own_file() {
        let os = release(&[
            ("/etc/os-release", "ID=\"centos\"\nVERSION_ID=\"7\"\n"),
            ("/etc/centos-release", "CentOS Linux release 7.9.2009 (Core)\n"),
        ]);
        assert_eq!((os.version, os.full_version), (Text::from("7"), Text::from("7.9.2009")));
    }

    #[test]
    fn a_name_of_a_release_to_come_is_no_version() {
        let os = release(&[("/etc/os-release", "ID=debian\n"), ("/etc/debian_version", "trixie/sid\n")]);
        assert!(os.full_version.is_empty());
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
