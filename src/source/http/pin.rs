//! The pin: what must stay the same for the bytes to stay the same. Taken from the first answer, compared with every later
//! one, and what tells the object from its other versions where its blocks are kept between runs.

use super::answer::{date, text};
use super::url::Url;
use sha2::{Digest as _, Sha256};
use std::time::{Duration, SystemTime};
use ureq::http::header::{self, HeaderMap, HeaderName};

/// What must stay the same for the bytes to stay the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) len: u64,
    etag: Option<String>,
    modified: Option<String>,
    /// The date is so old that a later change would have got another one.
    is_dated: bool,
}

/// A date must be older than this when it is seen, or the object may change once more within the same second and keep
/// it; RFC 9110, section 8.8.2.2, and a minute for clocks that differ.
const SETTLED: Duration = Duration::from_secs(60);

/// What a later answer says about the pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pinned {
    Same,
    Changed(&'static str),
    /// It says too little to tell.
    Unclear,
}

impl Pin {
    /// What an answer says of an object of `len` bytes.
    pub(super) fn of(headers: &HeaderMap, len: u64) -> Self {
        let modified = text(headers, header::LAST_MODIFIED);
        let now = text(headers, header::DATE).and_then(|now| date(&now)).unwrap_or_else(SystemTime::now);
        let since = modified.as_deref().and_then(date).and_then(|then| now.duration_since(then).ok());
        let is_dated = since.is_some_and(|since| since >= SETTLED);
        Self { len, etag: text(headers, header::ETAG), modified, is_dated }
    }

    fn is_strong(&self) -> bool {
        self.etag.as_ref().is_some_and(|etag| !etag.starts_with("W/"))
    }

    /// What tells the object at `url` from all others and from all its other versions, between runs as well. `None`
    /// when the server says too little for that.
    pub(super) fn identity(&self, url: &Url) -> Option<[u8; 32]> {
        // A date that is there and not settled says that the object is being written, whatever its tag.
        if !self.is_dated && (!self.is_strong() || self.modified.is_some()) {
            return None;
        }
        let mut hash = Sha256::new();
        let date = if self.is_strong() { None } else { self.modified.as_deref() };
        for part in [url.unsigned().as_str(), self.etag.as_deref().unwrap_or("-"), date.unwrap_or("-")] {
            // The length in front keeps neighbours apart: "ab" + "c" is not "a" + "bc".
            hash.update(crate::num::wide(part.len()).to_le_bytes());
            hash.update(part);
        }
        hash.update(self.len.to_le_bytes());
        Some(hash.finalize().into())
    }

    /// RFC 9110, section 8.8: a strong entity tag decides alone. Without one, everything there is must agree.
    pub(super) fn compare(&self, headers: &HeaderMap) -> Pinned {
        let agree = |name: HeaderName, before: &Option<String>, what: &'static str| match (
            before,
            text(headers, name),
        ) {
            (Some(before), Some(now)) if *before == now => Pinned::Same,
            (Some(_), Some(_)) => Pinned::Changed(what),
            (Some(_), None) => Pinned::Unclear,
            (None, _) => Pinned::Same,
        };
        let etag = agree(header::ETAG, &self.etag, "ETag");
        if self.is_strong() || etag != Pinned::Same {
            return etag;
        }
        agree(header::LAST_MODIFIED, &self.modified, "Last-Modified")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_strong_entity_tag_decides_alone() {
        let pin = Pin { len: 1, etag: Some("\"a\"".into()), modified: Some("x".into()), is_dated: false };
        assert_eq!(
            pin.compare(&headers(&[(header::ETAG, "\"a\""), (header::LAST_MODIFIED, "y")])),
            Pinned::Same
        );
        assert_eq!(
            pin.compare(&headers(&[(header::ETAG, "\"b\""), (header::LAST_MODIFIED, "x")])),
            Pinned::Changed("ETag")
        );
        assert_eq!(pin.compare(&headers(&[])), Pinned::Unclear);
    }

    #[test]
    fn beside_a_weak_entity_tag_the_date_must_agree_too() {
        let pin = Pin { len: 1, etag: Some("W/\"a\"".into()), modified: Some("x".into()), is_dated: false };
        let weak = (header::ETAG, "W/\"a\"");
        assert_eq!(pin.compare(&headers(&[weak.clone(), (header::LAST_MODIFIED, "x")])), Pinned::Same);
        assert_eq!(
            pin.compare(&headers(&[weak, (header::LAST_MODIFIED, "y")])),
            Pinned::Changed("Last-Modified")
        );
    }

    fn identity(url: &str, list: &[(HeaderName, &str)]) -> Option<[u8; 32]> {
        Pin::of(&headers(list), 1000).identity(&Url::parse(url).unwrap().0)
    }

    #[test]
    fn an_object_keeps_its_identity_under_another_signature_only() {
        let tag = [(header::ETAG, "\"a\"")];
        let one = identity("https://h/d.img?X-Amz-Signature=1&X-Amz-Date=2&versionId=7", &tag);
        assert!(one.is_some());
        assert_eq!(one, identity("https://me:pw@h/d.img?versionId=7&X-Amz-Signature=9", &tag));
        for other in
            ["https://h/d.img?versionId=8", "https://h/e.img?versionId=7", "https://i/d.img?versionId=7"]
        {
            assert_ne!(one, identity(other, &tag), "{other}");
        }
        assert_ne!(one, identity("https://h/d.img?versionId=7", &[(header::ETAG, "\"b\"")]));
    }

    #[test]
    fn beside_a_date_that_is_not_settled_a_tag_is_no_identity() {
        let tag = (header::ETAG, "\"a\"");
        let now = (header::DATE, "Mon, 02 Feb 2026 02:02:02 GMT");
        let at = |time| identity("http://h/d", &[tag.clone(), now.clone(), (header::LAST_MODIFIED, time)]);
        assert_eq!(at("Mon, 02 Feb 2026 02:01:50 GMT"), None);
        assert!(at("Mon, 02 Feb 2026 01:02:02 GMT").is_some());
    }

    #[test]
    fn what_says_too_little_has_no_identity() {
        let now = (header::DATE, "Mon, 02 Feb 2026 02:02:02 GMT");
        let fresh = (header::LAST_MODIFIED, "Mon, 02 Feb 2026 02:01:50 GMT");
        let old = (header::LAST_MODIFIED, "Mon, 02 Feb 2026 01:02:02 GMT");
        assert_eq!(identity("http://h/d", &[]), None);
        assert_eq!(identity("http://h/d", &[(header::ETAG, "W/\"a\"")]), None);
        assert_eq!(identity("http://h/d", &[now.clone(), fresh]), None);
        assert!(identity("http://h/d", &[now, old]).is_some());
    }
}
