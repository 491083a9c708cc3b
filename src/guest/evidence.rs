//! Evidence: the place in an image that a fact was read from, so that a person can go and look.

use crate::text::Text;

/// The most bytes of a file that are shown as an excerpt.
pub const MAX_EXCERPT: usize = 200;

/// One place, and what was seen there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What was seen, in words. Safe to show.
    pub what: String,
    /// The volume's id.
    pub volume: Option<String>,
    /// The path in the guest's tree.
    pub path: Option<Text>,
    /// The line of that file, from 1.
    pub line: Option<u64>,
    /// The byte on the disk, for what stands outside files.
    pub byte: Option<u64>,
    /// The bytes themselves, cut to [`MAX_EXCERPT`].
    pub excerpt: Option<Text>,
}

impl Evidence {
    /// Something seen that has no place of its own.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// Adds the volume.
    #[must_use]
    pub fn on(mut self, volume: impl Into<String>) -> Self {
        self.volume = Some(volume.into());
        self
    }

    /// Adds the path.
    #[must_use]
    pub fn path(mut self, path: &[u8]) -> Self {
        self.path = Some(Text::from(path));
        self
    }

    /// Adds the line with its text.
    #[must_use]
    pub fn line(mut self, line: u64, text: &[u8]) -> Self {
        self.line = Some(line);
        self.excerpt = Some(excerpt(&without_secrets(text)));
        self
    }

    /// Adds the byte on the disk.
    #[must_use]
    pub fn byte(mut self, byte: u64) -> Self {
        self.byte = Some(byte);
        self
    }
}

/// The start of a line without the white space around it, short enough to show.
#[must_use]
pub fn excerpt(text: &[u8]) -> Text {
    let text = text.trim_ascii();
    Text::from(text.get(..MAX_EXCERPT).unwrap_or(text))
}

/// What the names of secrets end with, whoever sets them: `password=`, `wpa-psk`, `inst.rootpw=`.
const SECRETS: [&[u8]; 9] =
    [b"password", b"passwd", b"passphrase", b"pass", b"pwd", b"pw", b"psk", b"secret", b"token"];

/// A line as a report may show it, which people pass on: `***` where a password stands, as `name=value`, as `name value`
/// at its start, or in an address.
fn without_secrets(line: &[u8]) -> Vec<u8> {
    let is_secret = |name: &[u8]| {
        let name = name.to_ascii_lowercase();
        SECRETS.iter().any(|end| name.ends_with(end))
    };
    let (mut out, mut hides, mut is_first) = (Vec::with_capacity(line.len()), false, true);
    for word in line.split_inclusive(|byte| byte.is_ascii_whitespace() || *byte == b',') {
        let end = word.last().filter(|byte| byte.is_ascii_whitespace() || **byte == b',');
        let text = end.map_or(word, |_| word.split_last().map(|(_, text)| text).unwrap_or_default());
        let split =
            text.iter().position(|byte| b"=:".contains(byte)).and_then(|at| text.split_at_checked(at));
        if text.is_empty() {
            out.extend_from_slice(word);
            continue;
        }
        if std::mem::take(&mut hides) {
            out.extend_from_slice(b"***");
        } else if let Some((name, value)) = split.filter(|(name, _)| is_secret(trim_quotes(name))) {
            out.extend_from_slice(name);
            out.extend_from_slice(value.get(..1).unwrap_or_default());
            hides = value.len() == 1 && value == b":";
            if value.len() > 1 {
                out.extend_from_slice(b"***");
            }
        } else {
            out.extend_from_slice(&without_password(text));
            // `wpa-psk VALUE`; `password` alone is also a word of PAM and of GRUB.
            hides = is_first && (text.ends_with(b"-psk") || text.ends_with(b"-passphrase"));
        }
        is_first = false;
        out.extend(end);
    }
    out
}

fn trim_quotes(name: &[u8]) -> &[u8] {
    let name = name.strip_prefix(b"\"").or_else(|| name.strip_prefix(b"'")).unwrap_or(name);
    name.strip_suffix(b"\"").or_else(|| name.strip_suffix(b"'")).unwrap_or(name)
}

/// `ftp://user:***@host/`.
fn without_password(address: &[u8]) -> Vec<u8> {
    let user = address.windows(3).position(|part| part == b"://").map(|at| at.saturating_add(3));
    let hidden = user.and_then(|user| {
        let host = address.get(user..)?.split(|byte| *byte == b'/').next()?;
        let at = host.iter().rposition(|byte| *byte == b'@')?;
        let colon = host.get(..at)?.iter().position(|byte| *byte == b':')?;
        let (before, after) = (user.saturating_add(colon), user.saturating_add(at));
        Some([address.get(..=before)?, b"***", address.get(after..)?].concat())
    });
    hidden.unwrap_or_else(|| address.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_without_the_secrets_in_it() {
        let shown = |line: &str| Evidence::new("x").line(1, line.as_bytes()).excerpt.unwrap().to_string();
        for (line, wanted) in [
            (
                "linux /vmlinuz root=/dev/sda1 inst.rootpw=abc quiet",
                "linux /vmlinuz root=/dev/sda1 inst.rootpw=*** quiet",
            ),
            (
                "//h/s /mnt cifs username=bob,password=abc,uid=1 0 0",
                "//h/s /mnt cifs username=bob,password=***,uid=1 0 0",
            ),
            ("  wpa-psk abc", "wpa-psk ***"),
            ("password: 'abc'", "password: ***"),
            ("ks=ftp://user:abc@host/ks.cfg", "ks=ftp://user:***@host/ks.cfg"),
        ] {
            assert_eq!(shown(line), wanted);
        }
        let plain = [
            "PasswordAuthentication=no",
            "password requisite pam_pwquality.so",
            "root=UUID=1-2 rd.luks.key=/a:b",
            "deb http://h:80/x",
        ];
        for line in plain {
            assert_eq!(shown(line), line);
        }
    }
}
