//! An object in a store that speaks S3: `s3://bucket/key`. It is read through the web source, over links that are signed
//! here and made anew before they expire; credentials never leave this process, but for the access key's id.
//!
//! ```text
//! s3://bucket/key ─ profile ([`profile`]) ─▶ https://bucket.s3.REGION.amazonaws.com/key?X-Amz-Signature=… ([`sign`])
//!                                            https://ENDPOINT/bucket/key?…    an IP address, localhost, no dots, dots in bucket
//!   refused ─┬ another region             → signed for that one
//!            ├ the link or the keys expired → the profile is read again, and the link made anew
//!            └ anything else               → S3's code in words
//! ```
//! The key is taken as it stands, without percent-encoding, as other programs for S3 take it. Without credentials
//! requests are not signed, which is enough for public buckets.

use super::gate::Given;
use super::http::signer::{Refusal, Signed, Signer, Verdict};
use super::http::{self, Tuning};
use super::{Scheme, SourceCx};
use crate::block::BlockSource;
use crate::error::{Error, ErrorKind, Result};
use crate::locator::Locator;
use crate::text::escape;
use profile::{EXPORT, Profile, Style, environment};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

mod profile;
mod sign;

/// Stores that speak S3.
pub const SCHEME: Scheme = Scheme { names: &["s3"], siblings: true, open };

/// How long a link is good, by its signature. Clocks that differ by a quarter of an hour are too far apart anyway.
const EXPIRES: Duration = Duration::from_secs(3600);
/// How long it is used.
const USED: Duration = Duration::from_secs(900);
/// Links to one object in other regions than the last.
const MAX_MOVES: u32 = 3;
/// A link younger than this was not refused for its age.
const YOUNG: Duration = Duration::from_secs(5);
/// Bytes of a store's words that are shown.
const MAX_WORDS: usize = 300;
/// The longest key.
const MAX_KEY: usize = 1024;

fn open(given: &Given, cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    let store = Store::new(&given.locator, Profile::load(environment)?)?;
    http::open_signed(given, &Tuning::default(), cx, Some(Arc::new(store)))
}

/// What was typed, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    bucket: String,
    /// Without the slash behind the bucket; further ones are part of it.
    key: String,
    version: Option<String>,
}

impl Object {
    /// The error is what is wrong, in words.
    fn parse(url: &str) -> std::result::Result<Self, &'static str> {
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if bucket.is_empty() || bucket.len() > 255 || !bucket.bytes().all(named) {
            return Err("names no bucket");
        }
        // A question mark may be part of a key; this one is not.
        let (key, version) = match key.rsplit_once("?versionId=") {
            Some((key, version)) if !version.is_empty() => (key, Some(version.to_owned())),
            _ => (key, None),
        };
        if key.is_empty() || key.ends_with('/') {
            return Err("names no object");
        }
        if key.len() > MAX_KEY {
            return Err("has a key of more than 1024 bytes");
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), version })
    }
}

/// What may change while it is open.
#[derive(Debug)]
struct Now {
    profile: Profile,
    region: String,
    moves: u32,
}

/// An object, and who asks for it.
struct Store {
    object: Object,
    label: String,
    now: Mutex<Now>,
    load: fn() -> Result<Profile>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3({})", self.label)
    }
}

/// A store's place, without a bucket.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    scheme: String,
    /// With the port, if it is not the scheme's own.
    host: String,
    /// What stands in front of every key; mostly empty, else with its first slash.
    base: String,
}

impl Endpoint {
    fn parse(text: &str) -> Option<Self> {
        let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !matches!(scheme.as_str(), "http" | "https") || host.is_empty() || rest.contains(['?', '#', '@']) {
            return None;
        }
        let own = if scheme == "https" { ":443" } else { ":80" };
        let host = host.strip_suffix(own).unwrap_or(host).to_ascii_lowercase();
        Some(Self { scheme, host, base: base.trim_end_matches('/').to_owned() })
    }

    fn of_amazon(region: &str) -> Self {
        let country = if region.starts_with("cn-") { ".cn" } else { "" };
        let host = format!("s3.{region}.amazonaws.com{country}");
        Self { scheme: "https".to_owned(), host, base: String::new() }
    }

    /// Its host without the port.
    fn name(&self) -> &str {
        let colon = self.host.rfind(':').filter(|at| self.host.rfind(']').is_none_or(|end| end < *at));
        self.host.get(..colon.unwrap_or(self.host.len())).unwrap_or_default()
    }

    /// The region, where services have it in their names: `oss-cn-hangzhou.aliyuncs.com`, `cos.ap-beijing.myqcloud.com`.
    fn region(&self) -> Option<String> {
        let name = self.name();
        let between = |start: &str, end: &str| {
            let found = name.strip_prefix(start)?.strip_suffix(end)?;
            Some(found.trim_end_matches("-internal").to_owned()).filter(|found| !found.contains('.'))
        };
        between("oss-", ".aliyuncs.com")
            .or_else(|| between("s3.oss-", ".aliyuncs.com"))
            .or_else(|| between("cos.", ".myqcloud.com"))
            .or_else(|| between("obs.", ".myhuaweicloud.com"))
            .or_else(|| between("s3.", ".amazonaws.com"))
            .or_else(|| between("s3.", ".amazonaws.com.cn"))
            .or_else(|| name.ends_with(".r2.cloudflarestorage.com").then(|| "auto".to_owned()))
    }

    /// Does the bucket stand in the host's name? Not where there would be no such name, or no certificate for it.
    fn takes_bucket(&self, bucket: &str, style: Style) -> bool {
        let name = self.name();
        let is_address = name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
        let is_local = !name.contains('.') || name.ends_with(".localhost");
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match style {
            Style::Path => false,
            Style::Virtual => !is_address,
            Style::Auto => !is_address && !is_local && bucket.bytes().all(lower),
        }
    }
}

impl Store {
    fn new(locator: &Locator, profile: Profile) -> Result<Self> {
        let label = locator.to_string();
        let wrong = |what: &str| {
            Error::new(ErrorKind::Usage, format!("{label}: the URL {what}")).help("s3://BUCKET/KEY")
        };
        let Locator::Url(url) = locator else { return Err(wrong("is a path")) };
        let object = Object::parse(url).map_err(wrong)?;
        let configured = match profile.endpoint.as_deref().map(Endpoint::parse) {
            Some(None) => {
                let error =
                    Error::new(ErrorKind::Usage, format!("{label}: the endpoint is no URL of a server"));
                return Err(error.help("AWS_ENDPOINT_URL_S3=https://HOST[:PORT]"));
            }
            Some(endpoint) => endpoint,
            None => None,
        };
        let guessed = configured.as_ref().and_then(Endpoint::region);
        let region = profile.region.clone().or(guessed).unwrap_or_else(|| "us-east-1".to_owned());
        if !is_region(&region) {
            return Err(Error::new(ErrorKind::Usage, format!("{label}: the region is no name of one")));
        }
        let now = Mutex::new(Now { profile, region, moves: 0 });
        Ok(Self { object, label, now, load: || Profile::load(environment) })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // Each field is replaced as a whole.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link at a time.
    fn link_at(&self, date: &str) -> String {
        let now = self.now();
        let endpoint = now.profile.endpoint.as_deref().and_then(Endpoint::parse);
        let endpoint = endpoint.unwrap_or_else(|| Endpoint::of_amazon(&now.region));
        let Object { bucket, key, version } = &self.object;
        let base = &endpoint.base;
        let (host, path) = if endpoint.takes_bucket(bucket, now.profile.style) {
            (format!("{bucket}.{}", endpoint.host), format!("{base}/{key}"))
        } else {
            (endpoint.host.clone(), format!("{base}/{bucket}/{key}"))
        };
        let path = sign::encode_path(&path);
        let query: Vec<(&str, &str)> =
            version.iter().map(|version| ("versionId", version.as_str())).collect();
        let query = match &now.profile.credentials {
            None => sign::plain_query(&query),
            Some(credentials) => {
                let request = sign::Request {
                    host: &host,
                    path: &path,
                    query: &query,
                    region: &now.region,
                    date,
                    expires: EXPIRES.as_secs(),
                };
                sign::presign(&request, credentials)
            }
        };
        let query = if query.is_empty() { query } else { format!("?{query}") };
        format!("{}://{host}{path}{query}", endpoint.scheme)
    }

    /// Signs for another region from now on, unless that has been tried too often.
    fn moved(&self, region: Option<&str>) -> bool {
        let mut now = self.now();
        let Some(region) = region.filter(|region| is_region(region) && **region != *now.region) else {
            return false;
        };
        now.moves = now.moves.saturating_add(1);
        region.clone_into(&mut now.region);
        now.moves <= MAX_MOVES
    }

    /// Reads the profile again; whether other keys are in it now.
    fn reloaded(&self) -> bool {
        let Ok(profile) = (self.load)() else { return false };
        let mut now = self.now();
        let other = profile.credentials != now.profile.credentials;
        now.profile.credentials = profile.credentials;
        other
    }

    fn is_signed(&self) -> bool {
        self.now().profile.credentials.is_some()
    }
}

/// May it stand in a host's name?
fn is_region(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.len() <= 64 && text.bytes().all(fits)
}

impl Signer for Store {
    fn link(&self) -> Result<Signed> {
        let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        let url = self.link_at(&now.strftime("%Y%m%dT%H%M%SZ").to_string());
        let lasts = if self.is_signed() { USED } else { Duration::MAX };
        Ok(Signed { url, lasts })
    }

    fn refused(&self, refusal: &Refusal) -> Verdict {
        let said = Said::parse(&refusal.body);
        let region = refusal.region.as_deref().or(said.region.as_deref());
        let code = said.code.as_str();
        let is_place = matches!(refusal.status, 301 | 307 | 400)
            || matches!(code, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException");
        if is_place && self.moved(region) {
            return Verdict::Fresh;
        }
        let is_worn =
            matches!(code, "ExpiredToken" | "TokenRefreshRequired" | "InvalidAccessKeyId" | "RequestExpired");
        if (is_worn && self.reloaded()) || (refusal.worked && refusal.status == 403 && refusal.age > YOUNG) {
            return Verdict::Fresh;
        }
        Verdict::Final(self.explain(refusal, &said))
    }
}

impl Store {
    fn explain(&self, refusal: &Refusal, said: &Said) -> Error {
        let bucket = &self.object.bucket;
        let signed = self.is_signed();
        let (kind, what, help) = match said.code.as_str() {
            "NoSuchKey" => (ErrorKind::NotFound, "there is no such object", None),
            "NoSuchVersion" => (ErrorKind::NotFound, "there is no such version of it", None),
            "NoSuchBucket" => (ErrorKind::NotFound, "there is no such bucket", None),
            "AccessDenied" if signed => (
                ErrorKind::Source,
                "access denied",
                Some(
                    "the keys need s3:GetObject for it; s3:ListBucket tells a missing object from a forbidden one",
                ),
            ),
            "AccessDenied" => (ErrorKind::Source, "access denied without credentials", Some(EXPORT)),
            "AllAccessDisabled" | "AccountProblem" => (ErrorKind::Source, "the store has closed it", None),
            "ExpiredToken" | "TokenRefreshRequired" | "RequestExpired" => {
                (ErrorKind::Source, "the credentials have expired", Some(EXPORT))
            }
            "InvalidAccessKeyId" => (ErrorKind::Source, "the store does not know the access key", None),
            "InvalidToken" => (ErrorKind::Source, "the session token is not valid", Some(EXPORT)),
            "SignatureDoesNotMatch" => (
                ErrorKind::Source,
                "the signature does not fit",
                Some("the secret key is another, or a proxy changes host or path"),
            ),
            "RequestTimeTooSkewed" | "RequestNotYetValid" => (
                ErrorKind::Source,
                "the clocks of store and host differ too much",
                Some("set this host's clock"),
            ),
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "AuthorizationQueryParametersError" => (
                ErrorKind::Source,
                "the bucket lies in another region",
                Some("name it: AWS_REGION=..., or the store: AWS_ENDPOINT_URL_S3=https://..."),
            ),
            "InvalidObjectState" => (
                ErrorKind::Source,
                "the object is archived, and cannot be read until it is restored",
                Some(
                    "aws s3api restore-object --bucket BUCKET --key KEY --restore-request Days=1, then wait for it",
                ),
            ),
            "MethodNotAllowed" => (ErrorKind::Source, "this version marks a deletion", None),
            "ServerSideEncryptionConfigurationNotFoundError" | "InvalidRequest" => {
                (ErrorKind::Source, "the store wants something else", None)
            }
            "" if refusal.status == 404 => (ErrorKind::NotFound, "there is no such object", None),
            _ => (ErrorKind::Source, "refused", None),
        };
        let mut text = format!("{what} ({}", refusal.name);
        if !said.code.is_empty() {
            text.push_str(&format!(", {}", escape(said.code.as_bytes())));
        }
        text.push(')');
        let known =
            kind == ErrorKind::NotFound || matches!(said.code.as_str(), "AccessDenied" | "PermanentRedirect");
        if !known && !said.message.is_empty() {
            text.push_str(&format!(": {}", escape(said.message.as_bytes())));
        }
        if said.code == "NoSuchBucket" {
            text.push_str(&format!(": '{}'", escape(bucket.as_bytes())));
        }
        let error = Error::new(kind, text);
        match help {
            Some(help) => error.help(help),
            None => error,
        }
    }
}

/// What an error document says; S3 API reference, "Error responses".
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    code: String,
    message: String,
    region: Option<String>,
}

impl Said {
    /// An answer that is no such document says nothing.
    fn parse(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let Ok(document) = roxmltree::Document::parse(&text) else { return Self::default() };
        let root = document.root_element();
        let value = |name: &str| {
            let found = root.children().find(|node| node.tag_name().name() == name)?;
            let text = found.text()?.trim();
            let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_WORDS).unwrap_or(text.len());
            text.get(..end).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        if root.tag_name().name() != "Error" {
            return Self::default();
        }
        Self {
            code: value("Code").unwrap_or_default(),
            message: value("Message").unwrap_or_default(),
            region: value("Region"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::profile::Credentials;
    use super::*;

    fn profile(endpoint: Option<&str>, keys: bool) -> Profile {
        let credentials = keys.then(|| Credentials { id: "ID".into(), secret: "hush".into(), token: None });
        Profile { credentials, region: None, endpoint: endpoint.map(str::to_owned), style: Style::Auto }
    }

    fn store(url: &str, endpoint: Option<&str>, keys: bool) -> Result<Store> {
        Store::new(&Locator::Url(url.to_owned()), profile(endpoint, keys))
    }

    fn link(url: &str, endpoint: Option<&str>) -> String {
        store(url, endpoint, false).unwrap().link_at("20260101T000000Z")
    }

    #[test]
    fn buckets_stand_in_the_host_where_they_can() {
        for (url, endpoint, meant) in [
            ("s3://b/k", None, "https://b.s3.us-east-1.amazonaws.com/k"),
            ("s3://a.b/k", None, "https://s3.us-east-1.amazonaws.com/a.b/k"),
            ("s3://b/k", Some("oss-cn-hangzhou.aliyuncs.com"), "https://b.oss-cn-hangzhou.aliyuncs.com/k"),
            ("s3://b/k", Some("http://127.0.0.1:9000/"), "http://127.0.0.1:9000/b/k"),
            ("s3://b/k", Some("http://[::1]:9000"), "http://[::1]:9000/b/k"),
            ("s3://b/k", Some("http://localhost:80"), "http://localhost/b/k"),
            ("s3://b/k", Some("http://minio:9000"), "http://minio:9000/b/k"),
            ("s3://b/k", Some("https://h.example/store"), "https://b.h.example/store/k"),
            ("s3://b//k//l m?.img", None, "https://b.s3.us-east-1.amazonaws.com//k//l%20m%3F.img"),
            ("s3://b/k?versionId=a/b", None, "https://b.s3.us-east-1.amazonaws.com/k?versionId=a%2Fb"),
        ] {
            assert_eq!(link(url, endpoint), meant);
        }
    }

    #[test]
    fn what_names_no_object_or_no_server_is_refused() {
        for url in [
            "s3://",
            "s3://b",
            "s3://b/",
            "s3:///k",
            "s3://b/d/",
            "s3://b@evil/k",
            "s3://b:80/k",
            "s3://b#/k",
        ] {
            assert_eq!(store(url, None, false).unwrap_err().kind(), ErrorKind::Usage, "{url}");
        }
        for endpoint in ["ftp://h", "https://", "https://u:p@h", "https://h?x"] {
            assert_eq!(
                store("s3://b/k", Some(endpoint), false).unwrap_err().kind(),
                ErrorKind::Usage,
                "{endpoint}"
            );
        }
    }

    #[test]
    fn services_tell_their_region_by_their_name() {
        for (endpoint, region) in [
            ("https://oss-cn-hangzhou-internal.aliyuncs.com", "cn-hangzhou"),
            ("https://cos.ap-beijing.myqcloud.com", "ap-beijing"),
            ("https://obs.cn-north-4.myhuaweicloud.com", "cn-north-4"),
            ("https://x.r2.cloudflarestorage.com", "auto"),
            ("https://elsewhere.example", "us-east-1"),
        ] {
            assert_eq!(store("s3://b/k", Some(endpoint), true).unwrap().now().region, region);
        }
    }

    fn refusal(status: u16, code: &str, more: &str) -> Refusal {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said \u{7}so</Message>{more}</Error>"
        );
        Refusal {
            status,
            name: format!("HTTP status {status}"),
            region: None,
            body: body.replace('\u{7}', "").into_bytes(),
            worked: false,
            age: Duration::ZERO,
        }
    }

    #[test]
    fn another_region_is_tried_and_not_for_ever() {
        let store = store("s3://b/k", None, true).unwrap();
        let elsewhere =
            Refusal { region: Some("eu-west-1".to_owned()), ..refusal(301, "PermanentRedirect", "") };
        assert!(matches!(store.refused(&elsewhere), Verdict::Fresh));
        assert!(store.link_at("20260101T000000Z").contains("b.s3.eu-west-1.amazonaws.com"));
        assert!(matches!(store.refused(&elsewhere), Verdict::Final(_)));
        let named = refusal(400, "AuthorizationQueryParametersError", "<Region>us-west-2</Region>");
        assert!(matches!(store.refused(&named), Verdict::Fresh));
        let evil = Refusal { region: Some("x.evil/".to_owned()), ..refusal(301, "PermanentRedirect", "") };
        assert!(matches!(store.refused(&evil), Verdict::Final(_)));
    }

    #[test]
    fn refusals_are_told_in_words() {
        let store = store("s3://b/k", None, true).unwrap();
        for (status, code, kind, text, help) in [
            (404, "NoSuchKey", ErrorKind::NotFound, "no such object", ""),
            (404, "NoSuchBucket", ErrorKind::NotFound, "no such bucket", ""),
            (403, "AccessDenied", ErrorKind::Source, "access denied", "s3:GetObject"),
            (403, "InvalidObjectState", ErrorKind::Source, "archived", "restore-object"),
            (403, "SignatureDoesNotMatch", ErrorKind::Source, "signature", "secret key"),
            (403, "RequestTimeTooSkewed", ErrorKind::Source, "clocks", "clock"),
            (301, "PermanentRedirect", ErrorKind::Source, "another region", "AWS_REGION"),
            (400, "Odd", ErrorKind::Source, "said so", ""),
        ] {
            let Verdict::Final(error) = store.refused(&refusal(status, code, "")) else { panic!("{code}") };
            assert_eq!(error.kind(), kind, "{code}");
            assert!(error.to_string().contains(text), "{code}: {error}");
            assert!(error.help_text().unwrap_or_default().contains(help), "{code}");
        }
    }

    #[test]
    fn expired_keys_are_looked_for_once_more() {
        let mut store = store("s3://b/k", None, true).unwrap();
        let expired = refusal(400, "ExpiredToken", "");
        store.load = || Ok(profile(None, true));
        assert!(matches!(store.refused(&expired), Verdict::Final(_)), "the same keys again");
        store.load = || {
            let fresh = Credentials { id: "NEW".into(), secret: "n".into(), token: Some("t".into()) };
            Ok(Profile { credentials: Some(fresh), ..profile(None, false) })
        };
        assert!(matches!(store.refused(&expired), Verdict::Fresh));
        assert!(store.link_at("20260101T000000Z").contains("X-Amz-Credential=NEW%2F"));
    }

    #[test]
    fn bodies_that_are_no_error_documents_say_nothing() {
        for body in [&b""[..], b"<html>", b"\xff\xfe", b"<Other><Code>X</Code></Other>"] {
            assert_eq!(Said::parse(body), Said::default());
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let store = store("s3://b/k", None, true).unwrap();
        let link = store.link_at("20260101T000000Z");
        assert!(link.contains("X-Amz-Signature=") && !link.contains("hush"));
        assert_eq!(format!("{store:?}"), "S3(s3://b/k)");
    }
}
