//! An `http` or `https` URL, taken apart: so that a redirect is followed by our rules, and the login in it goes to
//! one host only.

use crate::locator::{Locator, decode};
use base64::Engine as _;
use std::fmt;

/// A URL without fragment and without login; RFC 3986.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    secure: bool,
    /// Lower case; an IPv6 address in its brackets.
    host: String,
    port: Option<u16>,
    /// Path and query, percent-encoded where the user was lax.
    target: String,
}

impl fmt::Display for Url {
    /// With the query, which may be a secret: for the request, not for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.target)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Locator::Url(self.to_string()), f)
    }
}

/// Query parameters that sign a URL and say nothing of the object, in lower case: S3 (version 2 and CloudFront), OSS,
/// OBS, COS, Azure, Google.
const SIGNING: &[&str] = &[
    "accesskeyid",
    "awsaccesskeyid",
    "expires",
    "googleaccessid",
    "key-pair-id",
    "ossaccesskeyid",
    "policy",
    "security-token",
    "se",
    "ses",
    "sig",
    "sign",
    "signature",
    "skoid",
    "sktid",
    "skt",
    "ske",
    "sks",
    "skv",
    "sp",
    "spr",
    "sr",
    "st",
    "sv",
];
/// What the names of such parameters begin with in newer schemes.
const SIGNING_PREFIXES: &[&str] = &["q-", "x-amz-", "x-cos-security-token", "x-goog-", "x-obs-", "x-oss-"];

impl Url {
    /// Reads a URL; beside it the value of `Authorization` that its `USER:PASSWORD@` asks for.
    /// The error is what is wrong with it, in words.
    pub(super) fn parse(text: &str) -> Result<(Self, Option<String>), &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("has no scheme")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("is neither http nor https"),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('\\') {
            // Some programs take it for a slash, others do not: they would not agree on the host.
            return Err("has a backslash in front of its path");
        }
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let port_at =
            place.rfind(':').filter(|colon| place.rfind(']').is_none_or(|bracket| bracket < *colon));
        let (host, port) = place.split_at(port_at.unwrap_or(place.len()));
        let port = match port.trim_start_matches(':') {
            "" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse::<u16>().map_err(|_| "has a port above 65535")?)
            }
            _ => return Err("has a port that is no number"),
        };
        if host.is_empty() {
            return Err("names no host");
        }
        let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let valid = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.bytes().all(name),
        };
        if !valid {
            return Err(
                "has a host name with characters that host names do not have (write it in its xn-- form)",
            );
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        let url = Self {
            secure,
            host: host.to_ascii_lowercase(),
            port,
            target: format!("{slash}{}", encode(target)),
        };
        let login = login.filter(|login| !login.is_empty()).map(|login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let plain = [decode(user).as_slice(), b":", decode(password).as_slice()].concat();
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain))
        });
        Ok((url, login))
    }

    /// Where a `Location` leads from here; RFC 3986, section 5.2. A login in it is not used.
    pub(super) fn join(&self, location: &str) -> Result<Self, &'static str> {
        let location = location.trim();
        let target = if has_scheme(location) {
            return Self::parse(location).map(|(url, _)| url);
        } else if location.starts_with("//") {
            let scheme = if self.secure { "https:" } else { "http:" };
            return Self::parse(&format!("{scheme}{location}")).map(|(url, _)| url);
        } else {
            let location = location.split('#').next().unwrap_or(location);
            let path = self.target.split('?').next().unwrap_or_default();
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            match location.chars().next() {
                None => self.target.clone(),
                Some('/') => location.to_owned(),
                Some('?') => format!("{path}{location}"),
                Some(_) => format!("{folder}/{location}"),
            }
        };
        Ok(Self { target: encode(&without_dots(&target)), ..self.clone() })
    }

    /// The URL without what signs it: what a fresh signature leaves as it is. Parameters that we do not know stay, for
    /// they may say which object is meant.
    pub(super) fn unsigned(&self) -> String {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let signs = |parameter: &&str| {
            let name = parameter.split('=').next().unwrap_or_default().to_ascii_lowercase();
            SIGNING.contains(&name.as_str()) || SIGNING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        };
        let mut kept: Vec<&str> = query.split('&').filter(|part| !part.is_empty() && !signs(part)).collect();
        kept.sort_unstable();
        let bare = Self { target: format!("{path}?{}", kept.join("&")), ..self.clone() };
        bare.to_string()
    }

    /// The last component of its path, decoded.
    pub(super) fn file_name(&self) -> String {
        Locator::Url(self.to_string()).file_name()
    }

    /// Encrypted?
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host, an IPv6 address without its brackets.
    pub(super) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Do both lead to the same server by the same road? RFC 6454, section 4.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        let port = |url: &Self| url.port.unwrap_or(if url.secure { 443 } else { 80 });
        (self.secure, &self.host, port(self)) == (other.secure, &other.host, port(other))
    }
}

/// Does a reference start with `scheme:`?
fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// Percent-encodes what may not stand in a path or query: spaces, quotes, everything that is not ASCII.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Resolves `.` and `..` in the path; RFC 3986, section 5.2.4.
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut parts: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    parts.pop();
                }
                if last {
                    parts.push("");
                }
            }
            _ => parts.push(segment),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap().0
    }

    #[test]
    fn a_login_leaves_the_url_and_becomes_a_header() {
        let (url, login) = Url::parse("https://al%40ice:s%3Acret@H.Example:8443/d.img?x=1#top").unwrap();
        assert_eq!(url.to_string(), "https://h.example:8443/d.img?x=1");
        // printf 'al@ice:s:cret' | base64
        assert_eq!(login.unwrap(), "Basic YWxAaWNlOnM6Y3JldA==");
    }

    #[test]
    fn what_people_type_is_encoded_and_what_is_encoded_stays() {
        assert_eq!(url("http://h/a b/é%20.img").to_string(), "http://h/a%20b/%C3%A9%20.img");
        assert_eq!(url("http://h?sig=a%2Bb").to_string(), "http://h/?sig=a%2Bb");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "ftp://h/x",
            "http://",
            "http:///x",
            "http://h:99999/",
            "http://h:x/",
            "http://a b/",
            "http://é/",
            "http://[::1/",
            "http://h\\@evil/",
            "http://h\n/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_keep_their_brackets_outside_host() {
        let url = url("http://[::1]:8080/x");
        assert_eq!((url.host(), url.to_string().as_str()), ("::1", "http://[::1]:8080/x"));
    }

    /// The examples of RFC 3986, section 5.4, as far as they are http and have no parameters.
    #[test]
    fn references_resolve_as_in_the_rfc() {
        let base = url("http://a/b/c/d?q");
        for (reference, meant) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("g#s", "http://a/b/c/g"),
            ("", "http://a/b/c/d?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("https://h/z", "https://h/z"),
        ] {
            assert_eq!(base.join(reference).unwrap().to_string(), meant, "{reference}");
        }
        assert!(base.join("file:///etc/passwd").is_err() && base.join("data:x").is_err());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(url("http://h/a").same_origin(&url("http://H:80/b")));
        assert!(!url("http://h/a").same_origin(&url("https://h/a")));
        assert!(!url("http://h/a").same_origin(&url("http://h:81/a")));
        assert!(!url("http://h/a").same_origin(&url("http://h.evil/a")));
    }

    #[test]
    fn debug_hides_the_query() {
        assert_eq!(format!("{:?}", url("http://h/x?secret=1")), "http://h/x?...");
    }
}
