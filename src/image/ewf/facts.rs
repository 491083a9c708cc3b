//! What the header of an evidence file tells about the case: a line of tags, and a line of values.

use crate::ondisk::utf16;
use crate::text::escape;

/// Longest value that is shown, in characters.
const LONGEST: usize = 200;

/// Tags of the first version.
const FIRST: &[(&str, &str)] = &[
    ("c", "case number"),
    ("n", "evidence number"),
    ("a", "description"),
    ("e", "examiner"),
    ("t", "notes"),
    ("m", "acquired"),
    ("u", "system date"),
    ("av", "acquired by version"),
    ("ov", "acquired on"),
    ("md", "drive model"),
    ("sn", "drive serial number"),
    ("l", "drive label"),
];

/// Tags of the second version.
const SECOND: &[(&str, &str)] = &[
    ("cn", "case number"),
    ("en", "evidence number"),
    ("nm", "description"),
    ("ex", "examiner"),
    ("nt", "notes"),
    ("tt", "acquired"),
    ("at", "system date"),
    ("av", "acquired by version"),
    ("os", "acquired on"),
    ("md", "drive model"),
    ("sn", "drive serial number"),
    ("lb", "drive label"),
];

/// The pairs of tag and value of the object `main`.
pub(super) fn pairs(bytes: &[u8]) -> Vec<(String, String)> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, false),
        [0xfe, 0xff, rest @ ..] => utf16(rest, true),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    let mut lines = text.lines().skip_while(|line| line.trim() != "main").skip(1);
    let (tags, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    tags.split('\t')
        .zip(values.split('\t'))
        .map(|(tag, value)| (tag.trim().to_owned(), value.to_owned()))
        .collect()
}

fn named(bytes: &[u8], names: &[(&'static str, &'static str)]) -> Vec<(&'static str, String)> {
    let pairs = pairs(bytes);
    let value = |tag: &str| pairs.iter().find(|(known, _)| known == tag).map(|(_, value)| value.trim());
    let mut facts = Vec::new();
    for (tag, name) in names {
        if let Some(value) = value(tag).filter(|value| !value.is_empty()) {
            let is_date = matches!(*name, "acquired" | "system date");
            facts.push((*name, if is_date { date(value) } else { shown(value) }));
        }
    }
    facts
}

/// From the text of a "header" or "header2" section.
pub(super) fn from_header(bytes: &[u8]) -> Vec<(&'static str, String)> {
    named(bytes, FIRST)
}

/// From the text of a "case data" or "device information" section.
pub(super) fn from_second(bytes: &[u8]) -> Vec<(&'static str, String)> {
    named(bytes, SECOND)
}

fn shown(value: &str) -> String {
    let cut: String = value.chars().take(LONGEST).collect();
    let dots = if cut.len() < value.len() { "..." } else { "" };
    format!("{}{dots}", escape(cut.as_bytes()))
}

/// Seconds since 1970, or six numbers of a local time; anything else as it is.
fn date(value: &str) -> String {
    if let Some(time) = value.parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()) {
        return time.to_string();
    }
    let numbers: Vec<u16> = value.split(' ').map_while(|number| number.parse().ok()).collect();
    match numbers.as_slice() {
        [y, mo, d, h, mi, s] => format!("{y:04}-{mo:02}-{d:02} {h:02}:{mi:02}:{s:02} (local time)"),
        _ => shown(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_below_their_tags() {
        let text = b"1\r\nmain\r\nc\tn\te\tm\tp\r\n17-4\tdisk \x1b[1m\t\t2002 3 4 10 19 9\t0\r\n\r\n";
        let facts = from_header(text);
        let expected = [
            ("case number", "17-4"),
            ("evidence number", "disk \\x1b[1m"),
            ("acquired", "2002-03-04 10:19:09 (local time)"),
        ];
        assert_eq!(facts.iter().map(|(k, v)| (*k, v.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn utf16_and_seconds_are_read() {
        let text = "3\nmain\na\tm\nGr\u{fc}n\t1142163845\n\n";
        let bytes: Vec<u8> =
            [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let facts = from_header(&bytes);
        assert_eq!(
            facts,
            [("description", "Gr\u{fc}n".to_owned()), ("acquired", "2006-03-12T11:44:05Z".to_owned())]
        );
    }

    #[test]
    fn text_without_an_object_has_no_facts() {
        assert!(
            from_header(b"").is_empty()
                && from_header(b"main\n").is_empty()
                && from_second(&[0xff]).is_empty()
        );
    }
}
