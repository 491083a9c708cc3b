//! One file of a guest as `ls`, `find` and `stat` show it: a record for programs, a line for people.

use crate::error::Error;
use crate::fs::tree::{Node, Tree};
use crate::fs::{FileType, Stat, Time};
use crate::text::escape;
use base64::Engine as _;
use serde::Serialize;
use std::borrow::Cow;

/// What `find --jsonl` says of a file. A name or target that is not UTF-8 also stands there as base64 of its bytes.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    facts: Option<Facts>,
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_bytes: Option<String>,
    /// Of a regular file, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    /// Why something of it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Facts {
    size: u64,
    mode: String,
    uid: u32,
    gid: u32,
    mtime: String,
    ino: u64,
    nlink: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    rdev: Option<[u32; 2]>,
}

impl<'a> Record<'a> {
    /// A file with what its inode says, or why that cannot be said. Reads a symbolic link's target.
    pub(super) fn new(tree: &Tree, node: Node, path: &'a [u8], stat: Result<&Stat, &Error>) -> Self {
        let (text, path_bytes) = lossless(path);
        let mut record = Self {
            path: text,
            path_bytes,
            kind: None,
            facts: None,
            target: None,
            target_bytes: None,
            sha256: None,
            error: None,
        };
        match stat {
            Ok(stat) => {
                record.kind = Some(stat.kind.name());
                record.facts = Some(Facts {
                    size: stat.size,
                    mode: format!("{:04o}", stat.mode),
                    uid: stat.uid,
                    gid: stat.gid,
                    mtime: time(stat.mtime),
                    ino: stat.ino.0,
                    nlink: stat.nlink,
                    rdev: is_device(stat.kind).then_some([stat.rdev.0, stat.rdev.1]),
                });
                if stat.kind == FileType::Symlink {
                    match tree.readlink(node) {
                        Ok(target) => {
                            let (text, bytes) = lossless(&target);
                            (record.target, record.target_bytes) = (Some(text.into_owned()), bytes);
                        }
                        Err(error) => record.error = Some(error.chain()),
                    }
                }
            }
            Err(error) => record.error = Some(error.chain()),
        }
        record
    }
}

pub(super) const fn is_device(kind: FileType) -> bool {
    matches!(kind, FileType::Char | FileType::Block)
}

/// Bytes as text, and in base64 as well where the text is not the whole truth.
pub(super) fn lossless(bytes: &[u8]) -> (Cow<'_, str>, Option<String>) {
    let text = String::from_utf8_lossy(bytes);
    let exact = match text {
        Cow::Borrowed(_) => None,
        Cow::Owned(_) => Some(base64::engine::general_purpose::STANDARD.encode(bytes)),
    };
    (text, exact)
}

/// A time stamp as RFC 3339 with nanoseconds, in UTC; one outside the years -9999 to 9999 as `@SECONDS.NANOS`.
pub(super) fn time(time: Time) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    match jiff::Timestamp::new(time.secs, nanos) {
        Ok(stamp) => stamp.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string(),
        Err(_) => format!("@{}.{:09}", time.secs, time.nanos),
    }
}

/// `-rw-r--r--`, as `ls -l` prints it.
pub(super) fn mode_letters(kind: FileType, mode: u16) -> String {
    let bit = |mask: u16, letter: char| if mode & mask == 0 { '-' } else { letter };
    let special = |execute: u16, special: u16, both: char, only: char| match (mode & execute, mode & special)
    {
        (0, 0) => '-',
        (_, 0) => 'x',
        (0, _) => only,
        (_, _) => both,
    };
    [
        kind.letter(),
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        special(0o100, 0o4000, 's', 'S'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        special(0o010, 0o2000, 's', 'S'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        special(0o001, 0o1000, 't', 'T'),
    ]
    .iter()
    .collect()
}

/// ` -> TARGET` of a symbolic link, escaped; nothing for other files.
pub(super) fn arrow(tree: &Tree, node: Node, kind: FileType) -> String {
    if kind != FileType::Symlink {
        return String::new();
    }
    match tree.readlink(node) {
        Ok(target) => format!(" -> {}", escape(&target)),
        Err(error) => format!(" -> ? ({})", error.chain()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: `date -u -d @N +%FT%T.%NZ` (GNU coreutils).
    #[test]
    fn times_are_rfc_3339_with_nanoseconds() {
        assert_eq!(time(Time { secs: 0, nanos: 1 }), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(time(Time { secs: -1, nanos: 500_000_000 }), "1969-12-31T23:59:59.500000000Z");
        assert_eq!(time(Time { secs: 15_032_385_535, nanos: 0 }), "2446-05-10T22:38:55.000000000Z");
    }

    #[test]
    fn a_time_no_calendar_has_is_still_shown() {
        assert_eq!(time(Time { secs: i64::MAX, nanos: 7 }), "@9223372036854775807.000000007");
    }

    #[test]
    fn modes_are_spelled_as_ls_does() {
        assert_eq!(mode_letters(FileType::File, 0o4755), "-rwsr-xr-x");
        assert_eq!(mode_letters(FileType::Dir, 0o1777), "drwxrwxrwt");
        assert_eq!(mode_letters(FileType::File, 0o2644), "-rw-r-Sr--");
    }

    #[test]
    fn a_name_that_is_not_utf8_keeps_its_bytes() {
        assert_eq!(lossless(b"caf\xe9").1.as_deref(), Some("Y2Fm6Q=="));
        assert_eq!(lossless(b"cafe").1, None);
    }
}
