//! A manifest: the `.mf` beside an envelope, a line for each file with its sum.
//!
//! ```text
//! SHA256(disk1.vmdk)= 2d4f...      also SHA1, SHA512; OpenSSL 3 writes SHA2-256
//! ```
//! Specification: DMTF DSP0243, 2.1.1, "OVF package": the manifest. Its signature, the `.cert` beside it, says who made
//! the manifest; it is not checked.

use crate::num::wide;
use crate::text::escape;

/// Bytes of a manifest: some hundred a file.
pub(super) const MAX_MANIFEST: u64 = 1 << 20;

/// A sum that a manifest states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) file: String,
    pub(super) algorithm: &'static str,
    /// In lower-case digits.
    pub(super) sum: String,
}

/// The lines of a manifest, and what is wrong with the others.
pub(super) fn parse(text: &[u8]) -> (Vec<Line>, Vec<String>) {
    let (mut lines, mut warnings) = (Vec::new(), Vec::new());
    for (number, text) in text.split(|byte| *byte == b'\n').enumerate() {
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let number = wide(number).saturating_add(1);
        if lines.len() >= super::MAX_FILES {
            warnings.push(format!("manifest: more than {} lines; the rest is not read", super::MAX_FILES));
            break;
        }
        match std::str::from_utf8(text).ok().and_then(line) {
            Some(line) => lines.push(line),
            None if warnings.len() < 8 => {
                let start = text.get(..text.len().min(80)).unwrap_or_default();
                warnings.push(format!("manifest line {number} is no sum: '{}'", escape(start)));
            }
            None => {}
        }
    }
    (lines, warnings)
}

/// `ALGORITHM(NAME)= DIGITS`.
fn line(text: &str) -> Option<Line> {
    let (algorithm, rest) = text.split_once('(')?;
    // A name may hold parentheses: the sum is behind the last one.
    let (file, sum) = rest.rsplit_once(')')?;
    let sum = sum.trim_start().strip_prefix('=')?.trim().to_ascii_lowercase();
    let (algorithm, digits) = match algorithm.trim().to_ascii_uppercase().as_str() {
        "SHA1" => ("sha1", 40),
        "SHA256" | "SHA2-256" | "SHA-256" => ("sha256", 64),
        "SHA512" | "SHA2-512" | "SHA-512" => ("sha512", 128),
        _ => return None,
    };
    let fits = sum.len() == digits && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) && !file.is_empty();
    fits.then(|| Line { file: file.to_owned(), algorithm, sum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_writers_are_read() {
        let sha1 = "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709";
        let text =
            format!("SHA1(a b (1).vmdk)= {sha1}\r\n\nSHA1 (c) = {sha1}\nSHA2-256(d)= {}\n", "0".repeat(64));
        let (lines, warnings) = parse(text.as_bytes());
        let read: Vec<(&str, &str)> = lines.iter().map(|line| (line.file.as_str(), line.algorithm)).collect();
        assert_eq!(read, [("a b (1).vmdk", "sha1"), ("c", "sha1"), ("d", "sha256")]);
        assert_eq!(lines[0].sum, sha1.to_ascii_lowercase());
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn what_is_no_sum_is_said() {
        let (lines, warnings) = parse(b"MD5(a)= 00\nSHA1(a)= 12\nSHA1(a) da39\n\xff\x1b\n");
        assert!(lines.is_empty());
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert!(warnings[3].contains("line 4") && warnings[3].contains("\\xff\\x1b"), "{warnings:?}");
    }
}
