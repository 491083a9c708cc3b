//! What a user may give as a key, taken for what it is: a key file, a recovery password, a password, a master key.
//!
//! ```text
//! 9F2C....BEK of a USB stick        the bytes of the file
//! 042647-302313-...                 48 digits, also somewhere in the text that Windows saved, in UTF-8 or UTF-16
//! anaconda                          anything else that is text: the password
//! 32 bytes                          perhaps the volume master key itself
//! ```

use super::KeyBytes;
use super::entry::{entries, kind, role};
use crate::ondisk::{get_le32, utf16};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Digits of a recovery password, and of one of its groups.
const DIGITS: usize = 48;
const GROUP: usize = 6;
/// Each group is a number of 16 bits, times this.
const TIMES: u32 = 11;
/// UTF-16 units of the longest password that Windows takes.
const MAX_PASSWORD: usize = 256;
/// Bytes in front of a key file's entry, and in front of the entries in that.
const FILE_HEADER: usize = 48;
const KEY_HEADER: usize = 24;

/// What a given key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    /// A key file's: the protector that it is for, and the key.
    File([u8; 16], KeyBytes),
    /// The hash of a recovery password.
    Recovery(Zeroizing<[u8; 32]>),
    /// The hash of a password.
    Password(Zeroizing<[u8; 32]>),
    /// The volume master key.
    Master(KeyBytes),
}

/// All that the given bytes may be, what is cheap to try first; and what is wrong with them, if they are nearly something.
pub(super) fn read(given: &[u8]) -> (Vec<Secret>, Option<String>) {
    if let Some((id, key)) = key_file(given) {
        return (vec![Secret::File(id, key)], None);
    }
    let mut found = Vec::new();
    let mut trouble = None;
    if given.len() == 32 {
        found.push(Secret::Master(Zeroizing::new(given.to_vec())));
    }
    let text = text(given);
    match text.as_deref().map(|text| recovery(text)) {
        Some(Ok(Some(key))) => found.push(Secret::Recovery(hash(&key))),
        Some(Err(why)) => trouble = Some(why),
        _ => {}
    }
    if let Some(password) = text.as_deref().and_then(|text| password(text)) {
        found.push(Secret::Password(password));
    }
    (found, trouble)
}

fn hash(bytes: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Sha256::digest(bytes).into())
}

/// The protector and the key of a key file ("BitLocker External Key (BEK) file").
fn key_file(bytes: &[u8]) -> Option<([u8; 16], KeyBytes)> {
    let word = |at: usize| get_le32(bytes, at).map(|word| crate::num::narrow(word.into()));
    if (word(4), word(8)) != (Some(1), Some(FILE_HEADER)) {
        return None;
    }
    let inner = bytes.get(FILE_HEADER..word(0)?)?;
    let outer = entries(inner).ok()?.into_iter().find(|entry| entry.kind == kind::EXTERNAL)?;
    if outer.role != role::STARTUP_KEY {
        return None;
    }
    let id = outer.data.first_chunk().copied()?;
    let key =
        entries(outer.data.get(KEY_HEADER..)?).ok()?.into_iter().find(|entry| entry.kind == kind::KEY)?;
    // Behind the method, 4 bytes.
    Some((id, Zeroizing::new(key.data.get(4..)?.to_vec())))
}

/// The bytes as text, without the end of its line: UTF-16 if it says so or has zeros, otherwise UTF-8.
fn text(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, false),
        [0xfe, 0xff, rest @ ..] => utf16(rest, true),
        [_, 0, ..] => utf16(bytes, false),
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => String::from_utf8(rest.to_vec()).ok()?,
    };
    let text = Zeroizing::new(text);
    Some(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The number of 128 bits in the recovery password that the text is, or has in it as a word of its own.
///
/// # Errors
/// What is wrong with what looks like one. Never with its digits: this is shown.
fn recovery(text: &str) -> Result<Option<KeyBytes>, String> {
    let is_part = |c: char| c.is_ascii_digit() || c == '-';
    let whole = Some(text).filter(|text| text.chars().all(|c| is_part(c) || c == ' '));
    let words = whole.into_iter().chain(text.split(|c| !is_part(c)));
    let digits =
        |word: &str| Zeroizing::new(word.chars().filter_map(|c| c.to_digit(10)).collect::<Vec<u32>>());
    let Some(digits) = words.map(digits).find(|digits| digits.len() == DIGITS) else { return Ok(None) };
    let mut key = Zeroizing::new(Vec::with_capacity(16));
    for (number, group) in (1..).zip(digits.chunks(GROUP)) {
        let value = group.iter().fold(0_u32, |value, digit| value.wrapping_mul(10).wrapping_add(*digit));
        let part = u16::try_from(value.div_euclid(TIMES)).ok().filter(|_| value.is_multiple_of(TIMES));
        let part = part.ok_or_else(|| {
            format!(
                "a recovery password whose group {number} is no number of Windows': a digit of it is wrong"
            )
        })?;
        key.extend(part.to_le_bytes());
    }
    Ok(Some(key))
}

/// The hash of a password: of the hash of its UTF-16.
fn password(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let units: Zeroizing<Vec<u16>> = Zeroizing::new(text.encode_utf16().take(MAX_PASSWORD + 1).collect());
    if units.is_empty() || units.len() > MAX_PASSWORD {
        return None;
    }
    let bytes: KeyBytes = Zeroizing::new(units.iter().flat_map(|unit| unit.to_le_bytes()).collect());
    Some(hash(&*hash(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of cryptsetup's test image bitlk-aes-cbc-128, as its images.conf has it.
    const GOOD: &str = "042647-302313-590458-071500-554323-116567-412181-516978";

    fn recovery_of(given: &[u8]) -> Option<Secret> {
        read(given).0.into_iter().find(|secret| matches!(secret, Secret::Recovery(_)))
    }

    #[test]
    fn a_recovery_password_is_found_however_it_is_written() {
        let expected = recovery_of(GOOD.as_bytes());
        assert!(expected.is_some());
        let saved = format!(
            "\u{feff}BitLocker Drive Encryption recovery key\r\n\r\nIdentifier:\r\n\r\n\t3FD763F9-74C7-4E90-8FA2-1F6A2E2B4E0C\r\n\r\nRecovery Key:\r\n\r\n\t{GOOD}\r\n"
        );
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        for given in [
            GOOD.replace('-', "").into_bytes(),
            GOOD.replace('-', " ").into_bytes(),
            format!("{GOOD}\r\n").into_bytes(),
            saved.clone().into_bytes(),
            wide(&saved),
            wide(GOOD),
        ] {
            assert_eq!(recovery_of(&given), expected, "{}", String::from_utf8_lossy(&given));
        }
    }

    #[test]
    fn a_wrong_digit_is_said_by_its_group_and_never_shown() {
        let (found, trouble) = read(GOOD.replace("071500", "071501").as_bytes());
        assert!(!found.iter().any(|secret| matches!(secret, Secret::Recovery(_))));
        let trouble = trouble.unwrap();
        assert!(trouble.contains("group 4") && !trouble.contains("071501"), "{trouble}");
        // 65536 times 11.
        assert!(read(GOOD.replace("042647", "720896").as_bytes()).1.unwrap().contains("group 1"));
    }

    #[test]
    fn a_password_is_the_same_with_and_without_its_line_end() {
        assert_eq!(read(b"anaconda"), read(b"anaconda\r\n"));
        assert_eq!(read("\u{a3}".as_bytes()), read(&[0xff, 0xfe, 0xa3, 0]));
        assert_eq!(read(b"").0, []);
        assert_eq!(read(&[0xff; 40]).0, []);
    }
}
