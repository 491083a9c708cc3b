//! What the user typed or an image named: where bytes are to be found. And the gate that guards the second kind.

use crate::block::BlockSource;
use crate::error::{Error, ErrorKind, Result};
use crate::text::escape;
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where an image is.
#[derive(Clone, PartialEq, Eq)]
pub enum Locator {
    /// A file or block device of this host.
    Path(PathBuf),
    /// Anything with a scheme: `https://…`.
    Url(String),
}

impl Locator {
    /// Reads what a user typed. A word with `://` after a scheme is a URL, everything else a path.
    #[must_use]
    pub fn parse(typed: &std::ffi::OsStr) -> Self {
        let url = typed.to_str().filter(|text| {
            text.split_once("://").is_some_and(|(scheme, _)| {
                !scheme.is_empty()
                    && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
            })
        });
        url.map_or_else(|| Self::Path(PathBuf::from(typed)), |url| Self::Url(url.to_owned()))
    }

    /// The scheme in lower case, `file` for a path.
    #[must_use]
    pub fn scheme(&self) -> String {
        match self {
            Self::Path(_) => "file".to_owned(),
            Self::Url(url) => url.split("://").next().unwrap_or_default().to_ascii_lowercase(),
        }
    }

    /// The last component without directories, host, query and percent-encoding: `my disk.vmdk`. A hint for probers.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self {
            Self::Path(path) => {
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
            Self::Url(url) => {
                let path = url.split(['?', '#']).next().unwrap_or_default();
                let name = path.rsplit('/').next().unwrap_or_default();
                String::from_utf8_lossy(&decode(name)).into_owned()
            }
        }
    }

    /// The place of a member of the archive that lies here: `x.ova//disk2.vmdk`, of a URL before its query. For showing,
    /// and as a hint for probers; nothing is ever opened by it.
    #[must_use]
    pub fn member(&self, name: &str) -> Self {
        match self {
            Self::Path(path) => {
                let mut whole = path.clone().into_os_string();
                whole.push("//");
                whole.push(name);
                Self::Path(whole.into())
            }
            Self::Url(url) => {
                let (path, query) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
                Self::Url(format!("{path}//{name}{query}"))
            }
        }
    }

    /// What is called `name` beside what this URL leads to. `None` when the URL has a query, which most often is a
    /// signature and then good for one object only, or no path.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Option<Self> {
        let Self::Url(url) = self else { return None };
        let url = url.split('#').next().unwrap_or_default();
        let (scheme, rest) = url.split_once("://").filter(|(_, rest)| !rest.contains('?'))?;
        let (place, _) = rest.rsplit_once('/')?;
        if self.scheme() == "s3" {
            // Its keys are not encoded; a question mark would only be part of a name.
            return Some(Self::Url(format!("{scheme}://{place}/{name}")));
        }
        let mut encoded = String::new();
        for byte in name.bytes() {
            // RFC 3986, section 2.3: what never needs encoding. Everything else is data here, also a slash.
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        Some(Self::Url(format!("{scheme}://{place}/{encoded}")))
    }

    /// The path, if it is one.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Url(_) => None,
        }
    }
}

/// Undoes percent-encoding; a lone `%` stays.
#[must_use]
pub fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let hex = hex.filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match hex.filter(|_| *byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(value) => {
                out.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

impl fmt::Display for Locator {
    /// Escaped; of a URL without user, password and query, which carry signatures. The query of a Unix socket's URL is
    /// where the socket is. With an `@` behind the first slash, what stands behind a colon before it may be a password that
    /// was not encoded: then only the scheme is shown, but of S3, where there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => escape(path.as_os_str().as_bytes()).fmt(f),
            Self::Url(url) => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let is = |name: &str| scheme.eq_ignore_ascii_case(name);
                let (server, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                let doubtful = server.contains(':') && behind.contains('@');
                if doubtful && !is("s3") && !is("nbd+unix") {
                    return write!(f, "{}://...", escape(scheme.as_bytes()));
                }
                let (rest, query) =
                    rest.split_once(['?', '#']).map_or((rest, ""), |(rest, _)| (rest, "?..."));
                let (host, path) =
                    rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
                let host = host.rsplit('@').next().unwrap_or(host);
                write!(f, "{}://{}", escape(scheme.as_bytes()), escape(host.as_bytes()))?;
                if let Some(path) = path {
                    write!(f, "/{}", escape(path.as_bytes()))?;
                }
                match url.split_once("?").filter(|_| is("nbd+unix")) {
                    Some((_, socket)) => write!(f, "?{}", escape(socket.as_bytes())),
                    None => f.write_str(query),
                }
            }
        }
    }
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locator({self})")
    }
}

/// Why an image names another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A qcow2 backing file.
    Backing,
    /// A qcow2 external data file.
    DataFile,
    /// A VMDK extent.
    Extent,
    /// A parent of a VHD, VHDX, VDI or VMDK.
    Parent,
    /// A later segment of a split image: `.E02`, `.002`.
    Segment,
    /// A file that a bundle's description lists: the disks of an OVF.
    Member,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backing => "backing file",
            Self::DataFile => "data file",
            Self::Extent => "extent",
            Self::Parent => "parent",
            Self::Segment => "segment",
            Self::Member => "member",
        })
    }
}

/// A file that the gate let through.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its bytes.
    pub source: Arc<dyn BlockSource>,
    /// Where it was found; names inside *it* are meant relative to this.
    pub locator: Locator,
}

/// The only way from an image to a second file. Drivers ask; the gate decides and opens.
pub trait Gate: Send + Sync + fmt::Debug {
    /// Opens what the image at `from` names.
    ///
    /// # Errors
    /// `ExternalRef` with the escaped name when it is not allowed; `Source` when it is allowed but missing.
    fn open(&self, from: &Locator, named: &[u8], why: Reference) -> Result<Found>;

    /// Finds the parent of the image at `from` where that knows only what marks it (a VDI remembers a UUID): the file
    /// ending in `ending`, in a place that may be searched, of which `is_it` says yes. `wanted` names it to people.
    ///
    /// # Errors
    /// `ExternalRef` when no place may be searched; `NotAnImage` when it is in none of them.
    fn search(
        &self,
        _from: &Locator,
        _ending: &str,
        wanted: &str,
        _is_it: &dyn Fn(&Arc<dyn BlockSource>) -> bool,
    ) -> Result<Found> {
        Err(Error::new(ErrorKind::ExternalRef, format!("needs its {wanted}, which may not be looked for")))
    }
}

/// Where bytes that come only from their beginning to their end are poured, so that they can be read at any offset. There
/// is one only if the user gave room for it (`--spool`).
pub trait Spooler: Send + Sync + fmt::Debug {
    /// Starts pouring `stream`, called `label`, and returns its bytes, which arrive while they are read. With an unknown
    /// `len` it returns when the stream has ended. An error of the stream that wraps an [`crate::error::Error`] is told as
    /// that one.
    ///
    /// # Errors
    /// `Host` when there is no room; without a `len`, what the stream reports.
    fn pour(
        &self,
        label: &str,
        len: Option<u64>,
        stream: Box<dyn Read + Send>,
    ) -> Result<Arc<dyn BlockSource>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_url_is_shown_without_its_secrets() {
        let locator = Locator::parse("https://user:pw@h.example/b/disk.vmdk?sign=secret".as_ref());
        assert_eq!(locator.to_string(), "https://h.example/b/disk.vmdk?...");
        assert_eq!(locator.file_name(), "disk.vmdk");
        let socket = Locator::parse("nbd+unix:///disk?socket=/run/a".as_ref());
        assert_eq!(socket.to_string(), "nbd+unix:///disk?socket=/run/a");
    }

    #[test]
    fn a_password_that_is_not_encoded_is_not_shown() {
        for url in
            ["ftp://u:s3/cr3t@h/x", "https://u:s3?cr3t@h/x", "https://u:s3#cr3t@h", "https://u:p@s3/cr3t@h/x"]
        {
            let shown = Locator::parse(url.as_ref()).to_string();
            assert!(!shown.contains("s3") && !shown.contains("cr3t"), "{shown}");
        }
        assert_eq!(Locator::parse("https://u:p@w@h/x".as_ref()).to_string(), "https://h/x");
        assert_eq!(Locator::parse("https://h/a@2x.img?x=@".as_ref()).to_string(), "https://h/a@2x.img?...");
        assert_eq!(Locator::parse("s3://b/k@2".as_ref()).to_string(), "s3://b/k@2");
    }

    #[test]
    fn a_member_stands_behind_two_slashes_and_before_a_query() {
        let url = Locator::parse("https://h/x.ova?sign=secret".as_ref()).member("disk 2.vmdk");
        assert_eq!(url.to_string(), "https://h/x.ova//disk 2.vmdk?...");
        assert_eq!(url.file_name(), "disk 2.vmdk");
        let path = Locator::parse("a/x.ova".as_ref()).member("d.vmdk");
        assert_eq!((path.to_string().as_str(), path.file_name().as_str()), ("a/x.ova//d.vmdk", "d.vmdk"));
    }

    #[test]
    fn a_sibling_lies_in_the_same_directory_under_its_own_name() {
        let url = |text: &str| Locator::Url(text.to_owned());
        let disk = url("https://me:pw@h:8443/a%20b/my%20disk.vmdk#x");
        assert_eq!(disk.file_name(), "my disk.vmdk");
        assert_eq!(
            disk.sibling("my disk-s001.vmdk"),
            Some(url("https://me:pw@h:8443/a%20b/my%20disk-s001.vmdk"))
        );
        assert_eq!(disk.sibling("../x?y/é"), Some(url("https://me:pw@h:8443/a%20b/..%2Fx%3Fy%2F%C3%A9")));
        assert_eq!(url("https://h/disk.vmdk?sig=1").sibling("disk-s001.vmdk"), None);
        assert_eq!(url("https://h").sibling("x"), None);
    }

    #[test]
    fn a_path_with_a_colon_is_a_path() {
        assert!(Locator::parse("a:b".as_ref()).as_path().is_some());
    }
}
