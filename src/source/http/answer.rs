//! What the headers of an answer say, read strictly; and errors of the library in our words.

use crate::text::escape;
use std::time::{Duration, SystemTime};
use ureq::http::header::{self, HeaderMap, HeaderName};

/// An answer whose body has not been read.
pub(super) type Answer = ureq::http::Response<ureq::Body>;

/// Bytes of an answer's header.
pub(super) const MAX_HEADER: usize = 32 << 10;

/// A header's value, if it is there once and in ASCII.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(|value| value.trim().to_owned())
}

/// The coding that keeps the body from being the object's bytes.
pub(super) fn encoded(headers: &HeaderMap) -> Option<String> {
    let other = |name: HeaderName, plain: &str| {
        headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
            .find(|value| !value.eq_ignore_ascii_case(plain) && !value.is_empty())
    };
    other(header::CONTENT_ENCODING, "identity").or_else(|| other(header::TRANSFER_ENCODING, "chunked"))
}

/// `bytes FIRST-LAST/TOTAL`, where TOTAL may be `*`; RFC 9110, section 14.4.
pub(super) fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let total = if total == "*" { None } else { Some(number(total)?) };
    Some((number(first)?, number(last)?, total))
}

/// `Retry-After`: seconds or a date; RFC 9110, section 10.2.3.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, header::RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    date(&value)?.duration_since(SystemTime::now()).ok()
}

/// A date of a header; RFC 9110, section 5.6.7.
pub(super) fn date(value: &str) -> Option<SystemTime> {
    Some(SystemTime::from(jiff::fmt::rfc2822::parse(value).ok()?.timestamp()))
}

/// `HTTP status 403 (Forbidden)`, and who says so if it is not the server itself.
pub(super) fn name_status(response: &Answer) -> String {
    let status = response.status();
    let reason = status.canonical_reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let via = text(response.headers(), header::VIA);
    let via = via.map(|via| format!(", through {}", escape(via.as_bytes()))).unwrap_or_default();
    format!("HTTP status {}{reason}{via}", status.as_u16())
}

/// The library's error in our words, without anything of the URL in it.
pub(super) fn describe(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(ureq::Timeout::Global) => "no answer within the deadline".to_owned(),
        ureq::Error::Timeout(which) => format!("timed out ({which})"),
        ureq::Error::HostNotFound => "no such host".to_owned(),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "the URL cannot be used".to_owned(),
        ureq::Error::LargeResponseHeader(..) => format!("a header of more than {MAX_HEADER} bytes"),
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            format!("TLS: {}", escape(io.to_string().as_bytes()))
        }
        ureq::Error::Io(io) => escape(io.to_string().as_bytes()).to_string(),
        ureq::Error::Rustls(tls) => format!("TLS: {}", escape(tls.to_string().as_bytes())),
        other => escape(other.to_string().as_bytes()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn content_range_is_read_strictly() {
        assert_eq!(parse_content_range("bytes 0-99/1000"), Some((0, 99, Some(1000))));
        assert_eq!(parse_content_range("bytes 5-5/*"), Some((5, 5, None)));
        for nonsense in [
            "",
            "bytes",
            "bytes 0-99",
            "bytes */9",
            "items 0-9/10",
            "bytes -1-9/10",
            "bytes +0-9/10",
            "bytes 0-9/99999999999999999999",
        ] {
            assert_eq!(parse_content_range(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(&headers(&[(header::RETRY_AFTER, "7")])), Some(Duration::from_secs(7)));
        let far = retry_after(&headers(&[(header::RETRY_AFTER, "Fri, 31 Dec 2100 23:59:59 GMT")])).unwrap();
        assert!(far > Duration::from_secs(1 << 30));
        assert_eq!(retry_after(&headers(&[(header::RETRY_AFTER, "Fri, 31 Dec 1999 23:59:59 GMT")])), None);
        assert_eq!(retry_after(&headers(&[(header::RETRY_AFTER, "soon")])), None);
    }

    #[test]
    fn codings_other_than_none_are_seen() {
        assert_eq!(
            encoded(&headers(&[
                (header::CONTENT_ENCODING, "identity"),
                (header::TRANSFER_ENCODING, "chunked")
            ])),
            None
        );
        assert_eq!(encoded(&headers(&[(header::CONTENT_ENCODING, "gzip")])).as_deref(), Some("gzip"));
        assert!(encoded(&headers(&[(header::TRANSFER_ENCODING, "gzip, chunked")])).is_some());
    }
}
