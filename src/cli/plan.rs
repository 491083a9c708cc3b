//! From what was typed to what is meant: sizes, `IMAGE:PATH`, and an opened stack.

use super::Common;
use crate::cache::Cache;
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::locator::Locator;
use crate::source::gate::Given;
use crate::stack::{Options, Stack};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

/// Reads a size: `4096`, `64K`, `256M`, `1G` (powers of 1024).
///
/// # Errors
/// A line for clap to show.
pub fn size(text: &str) -> std::result::Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, unit) = match lower.char_indices().last() {
        Some((at, 'k')) => (lower.get(..at), 1 << 10),
        Some((at, 'm')) => (lower.get(..at), 1 << 20),
        Some((at, 'g')) => (lower.get(..at), 1 << 30),
        Some((at, 't')) => (lower.get(..at), 1_u64 << 40),
        _ => (Some(lower), 1),
    };
    let number: Option<u64> = digits.and_then(|digits| digits.trim().parse().ok());
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("'{text}' is not a size; write 4096, 64K, 256M or 1G"))
}

/// How to open, from the common options.
#[must_use]
pub fn options(common: &Common) -> Options {
    Options { format: common.format.clone(), cache: Arc::new(Cache::new(common.cache)) }
}

/// Opens everything that parsing the image may touch.
///
/// # Errors
/// `Source` when a file or directory cannot be opened.
pub fn given(image: &OsStr, common: &Common) -> Result<Arc<Given>> {
    Given::open(Locator::parse(image), &common.allow_parent).map(Arc::new)
}

/// Opens the whole tower over an image.
///
/// # Errors
/// When the source or the image cannot be opened.
pub fn open(image: &OsStr, common: &Common) -> Result<Stack> {
    crate::stack::open(given(image, common)?, &options(common))
}

/// `IMAGE:PATH`, `IMAGE:VOLUME:PATH`, or `IMAGE` alone, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The image as typed.
    pub image: OsString,
    /// A volume, if one is named.
    pub volume: Option<String>,
    /// The path, if one is named.
    pub path: Option<Vec<u8>>,
}

impl Target {
    /// Takes a typed word apart. The longest existing file wins: `a:b` is a file if there is one of that name.
    #[must_use]
    pub fn parse(typed: &OsStr) -> Self {
        let bytes = typed.as_bytes();
        let whole = Self { image: typed.to_owned(), volume: None, path: None };
        if std::path::Path::new(typed).exists() {
            return whole;
        }
        // The path part starts at ":/"; that of a URL's scheme is "://".
        let mut at = bytes.windows(2).enumerate().filter(|(_, pair)| *pair == b":/").map(|(at, _)| at);
        let split = at.find(|at| bytes.get(at.saturating_add(2)) != Some(&b'/') || !is_scheme(bytes, *at));
        let Some(split) = split else { return whole };
        let (image, path) = bytes.split_at(split);
        let path = path.get(1..).unwrap_or_default().to_vec();
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        // "disk.img:p2:/etc": what stands between the last two colons is a volume.
        if let Some(colon) =
            image.iter().rposition(|byte| *byte == b':').filter(|colon| !is_scheme(image, *colon))
        {
            let (name, volume) = image.split_at(colon);
            let volume = volume
                .get(1..)
                .and_then(|volume| std::str::from_utf8(volume).ok())
                .filter(|volume| !volume.is_empty());
            if let Some(volume) = volume.filter(|_| !std::path::Path::new(&os(image)).exists()) {
                return Self { image: os(name), volume: Some(volume.to_owned()), path: Some(path) };
            }
        }
        Self { image: os(image), volume: None, path: Some(path) }
    }
}

/// Is the colon at `at` the one of `scheme://`?
fn is_scheme(bytes: &[u8], at: usize) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(b"://"))
        && bytes.get(..at).is_some_and(|scheme| {
            !scheme.is_empty() && scheme.iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
        })
}

/// The tree a target's path is meant in: the named volume's, else the first guest's, else that of the only file system.
///
/// # Errors
/// `NotFound` with the list of volumes when it is not clear.
pub fn tree(stack: &Stack, volume: Option<&str>) -> Result<Arc<Tree>> {
    stack.tree(volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(image: &str, volume: Option<&str>, path: Option<&str>) -> Target {
        Target {
            image: image.into(),
            volume: volume.map(str::to_owned),
            path: path.map(|path| path.as_bytes().to_vec()),
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!((size("64K"), size("1g"), size("7")), (Ok(65536), Ok(1 << 30), Ok(7)));
        assert!(size("1X").is_err() && size("").is_err() && size("99999999999T").is_err());
    }

    #[test]
    fn image_and_path_split_at_the_colon_before_the_slash() {
        assert_eq!(Target::parse("d.vmdk:/etc/fstab".as_ref()), target("d.vmdk", None, Some("/etc/fstab")));
    }

    #[test]
    fn a_volume_stands_between_two_colons() {
        assert_eq!(Target::parse("d.vmdk:p2:/etc".as_ref()), target("d.vmdk", Some("p2"), Some("/etc")));
    }

    #[test]
    fn a_url_keeps_its_own_colons() {
        assert_eq!(Target::parse("http://h:8080/d.img".as_ref()), target("http://h:8080/d.img", None, None));
        assert_eq!(
            Target::parse("http://h/d.img:/etc".as_ref()),
            target("http://h/d.img", None, Some("/etc"))
        );
        assert_eq!(
            Target::parse("http://h/d.img:p1:/etc".as_ref()),
            target("http://h/d.img", Some("p1"), Some("/etc"))
        );
    }
}
