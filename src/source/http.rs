//! An object of a web server, read by ranges: `http://`, `https://`.
//!
//! ```text
//! open   GET bytes=0-…   → 206: length from Content-Range, validators pinned      (never HEAD: signed URLs refuse it)
//! fetch  GET bytes=a-b   → 206, the same range, length and validators, not encoded, exactly b-a+1 bytes → handed out
//!                          anything that may pass (5xx, 429, time-out, short body, …) → again, until the deadline
//!                          another validator or length → Changed, for ever
//! ```
//! A byte is handed out only from an answer that is exactly what was asked for. Redirects are followed here, not by the
//! library: a login goes to the server it was typed for, never from https to http, and nobody out there sends us to
//! an address near us ([`reach`]).

use super::gate::Given;
use super::{Scheme, SourceCx};
use crate::block::BlockSource;
use crate::cache::Cache;
use crate::cache::remote::{Fetch, PARALLEL, Remote};
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::locator::Locator;
use crate::num::{narrow, wide};
use crate::text::escape;
use reach::{GuardedResolver, OutOfReach, Reach};
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io::Read as _;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use ureq::http::header::{self, HeaderMap, HeaderName};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::DefaultConnector;
use url::Url;

mod reach;
mod url;

/// Web servers.
pub const SCHEME: Scheme = Scheme { names: &["http", "https"], open };

/// Redirects that lead to one answer.
const MAX_REDIRECTS: usize = 5;
/// Bytes of an answer's header.
const MAX_HEADER: usize = 32 << 10;
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(5);

fn open(given: &Given, cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    open_url(&given.locator, &Tuning::default(), Arc::clone(&cx.cache))
}

/// Opens a URL behind the cache.
///
/// # Errors
/// `Usage` for a malformed URL; `Source` when the server cannot be reached or says no; `Unsupported` when it does not
/// serve ranges.
pub fn open_url(locator: &Locator, tuning: &Tuning, cache: Arc<Cache>) -> Result<Arc<dyn BlockSource>> {
    let (object, head) = Object::open(locator, tuning)?;
    Ok(Arc::new(Remote::new(object, cache, &head)))
}

/// How patient to be.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Bytes that the first request asks for.
    pub head: u64,
    /// For connecting, and for looking the name up.
    pub connect: Duration,
    /// Silence on an open connection.
    pub stall: Duration,
    /// For one range, all tries together.
    pub deadline: Duration,
    /// For tries to open it: a server that never worked is not waited for as long as one that did.
    pub opening: Duration,
    /// Before the second try; doubles from there.
    pub pause: Duration,
    /// Certificates to trust instead of the built-in ones, as PEM.
    pub roots: Option<PathBuf>,
}

impl Default for Tuning {
    /// As users get it; `SSL_CERT_FILE` names the certificates, as for OpenSSL, curl and Go.
    fn default() -> Self {
        Self {
            head: 512 << 10,
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            opening: Duration::from_secs(8),
            pause: Duration::from_millis(200),
            roots: std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from),
        }
    }
}

/// What must stay the same for the bytes to stay the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pin {
    len: u64,
    etag: Option<String>,
    modified: Option<String>,
}

/// What a later answer says about the pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pinned {
    Same,
    Changed(&'static str),
    /// It says too little to tell.
    Unclear,
}

impl Pin {
    /// RFC 9110, section 8.8: a strong entity tag decides alone. Without one, everything there is must agree.
    fn compare(&self, headers: &HeaderMap) -> Pinned {
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
        let strong = self.etag.as_ref().is_some_and(|etag| !etag.starts_with("W/"));
        if strong || etag != Pinned::Same {
            return etag;
        }
        agree(header::LAST_MODIFIED, &self.modified, "Last-Modified")
    }
}

/// Why one try failed.
enum Trouble {
    /// Trying again is of no use.
    Final(Error),
    /// It may pass; the server may have said when.
    Passing(String, Option<Duration>),
}

type Answer = ureq::http::Response<ureq::Body>;

type Tried<T> = std::result::Result<T, Trouble>;

/// The way to a server.
struct Client {
    agent: ureq::Agent,
    label: String,
    origin: Url,
    /// The value of `Authorization`, for `origin` alone.
    login: Option<String>,
    reach: Reach,
    tuning: Tuning,
    /// Where the redirects ended last time.
    landed: Mutex<Option<Url>>,
    /// Ranges that were given; a URL that worked once and then no more is of a special kind.
    answered: AtomicU64,
}

/// An object that answers by ranges.
struct Object {
    client: Client,
    pin: Pin,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Http({})", self.client.label)
    }
}

impl Object {
    /// Asks for the first bytes, and learns everything else from the answer.
    fn open(locator: &Locator, tuning: &Tuning) -> Result<(Self, Vec<u8>)> {
        let client = Client::new(locator, tuning)?;
        let start = Instant::now();
        let mut tries = Tries::new(tuning.pause, start, tuning.opening);
        let mut head = Vec::new();
        loop {
            head.clear();
            let until = after(Instant::now(), tuning.deadline);
            match client.try_range(0..tuning.head, None, &mut head, until) {
                Ok(pin) => return Ok((Self { client, pin }, head)),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(why, wait)) => {
                    if !tries.pause(&client.label, &why, wait) {
                        COUNTERS.errors.add(1);
                        let error = Error::new(
                            ErrorKind::Source,
                            format!("{}: {why}{}", client.label, tries.count()),
                        );
                        return Err(error);
                    }
                }
            }
        }
    }
}

impl Fetch for Object {
    fn len(&self) -> u64 {
        self.pin.len
    }

    fn fetch(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let client = &self.client;
        let start = Instant::now();
        let until = after(start, client.tuning.deadline);
        let mut tries = Tries::new(client.tuning.pause, start, client.tuning.deadline);
        let mut bytes = Vec::with_capacity(narrow(range.end.saturating_sub(range.start)));
        loop {
            // What a broken answer brought before it broke is as good as what an unbroken one brings: go on from there.
            let rest = range.start.saturating_add(wide(bytes.len()))..range.end;
            if rest.is_empty() {
                return Ok(bytes);
            }
            match client.try_range(rest.clone(), Some(&self.pin), &mut bytes, until) {
                Ok(_) => {}
                Err(Trouble::Final(error)) => {
                    COUNTERS.errors.add(1);
                    return Err(error);
                }
                Err(Trouble::Passing(why, wait)) => {
                    if !tries.pause(&client.label, &why, wait) {
                        COUNTERS.errors.add(1);
                        let doing =
                            format!("{}: bytes {}-{}", client.label, rest.start, rest.end.saturating_sub(1));
                        return Err(Error::new(ErrorKind::Io, format!("{doing}: {why}{}", tries.count())));
                    }
                }
            }
        }
    }

    fn label(&self) -> String {
        self.client.label.clone()
    }
}

impl Client {
    fn new(locator: &Locator, tuning: &Tuning) -> Result<Self> {
        let label = locator.to_string();
        let Locator::Url(typed) = locator else {
            return Err(Error::new(ErrorKind::Usage, format!("{label}: is not a URL")));
        };
        let (origin, login) = Url::parse(typed)
            .map_err(|what| Error::new(ErrorKind::Usage, format!("{label}: the URL {what}")))?;
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("imgmount/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(MAX_HEADER)
            .max_idle_connections(PARALLEL)
            .max_idle_connections_per_host(PARALLEL)
            .timeout_resolve(Some(tuning.connect))
            .timeout_connect(Some(tuning.connect))
            .timeout_per_read(Some(tuning.stall))
            .timeout_per_write(Some(tuning.stall));
        match tuning.roots.as_deref().map(read_roots) {
            Some(Ok(roots)) => {
                config = config.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build());
            }
            Some(Err(error)) if origin.is_secure() => return Err(error),
            _ => {}
        }
        let config = config.build();
        let reach = Reach::default();
        if let (Some(proxy), Ok(uri)) = (config.proxy(), origin.to_string().parse())
            && !proxy.is_no_proxy(&uri)
        {
            // The proxy looks the name up, so the name is all there is to judge by.
            reach.allows(reach::nearness_by_name(origin.host()));
        }
        let resolver = GuardedResolver { reach: reach.clone(), resolver: DefaultResolver::default() };
        let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), resolver);
        Ok(Self {
            agent,
            label,
            origin,
            login,
            reach,
            tuning: tuning.clone(),
            landed: Mutex::default(),
            answered: AtomicU64::new(0),
        })
    }

    fn landed(&self) -> MutexGuard<'_, Option<Url>> {
        // A URL is replaced as a whole: nothing half-done can be seen in it.
        self.landed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fatal<T>(&self, kind: ErrorKind, what: impl fmt::Display) -> Tried<T> {
        Err(Trouble::Final(Error::new(kind, format!("{}: {what}", self.label))))
    }

    /// One try at `range`: appends its bytes to `into`. Before there is a pin, the range may be longer than the object.
    fn try_range(
        &self,
        range: Range<u64>,
        pin: Option<&Pin>,
        into: &mut Vec<u8>,
        until: Instant,
    ) -> Tried<Pin> {
        let mut url = self.landed().clone().unwrap_or_else(|| self.origin.clone());
        let mut shortcut = url != self.origin;
        let mut hops = 0;
        loop {
            let response = self.send(&url, &range, pin, until)?;
            let status = response.status().as_u16();
            let headers = response.headers();
            tracing::debug!(
                "{}: bytes {}-{}: {status}",
                self.label,
                range.start,
                range.end.saturating_sub(1)
            );
            if let (Some(pin), 200..=299) = (pin, status) {
                self.check_pin(pin.compare(headers))?;
            }
            match status {
                206 => {
                    let pin = self.take(response, range, pin, into)?;
                    *self.landed() = (url != self.origin).then_some(url);
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    return Ok(pin);
                }
                301 | 302 | 303 | 307 | 308 => {
                    hops = usize::saturating_add(hops, 1);
                    if hops > MAX_REDIRECTS {
                        return self.fatal(ErrorKind::Source, format!("more than {MAX_REDIRECTS} redirects"));
                    }
                    url = self.follow(&url, headers)?;
                }
                // What the redirect led to is no longer there, or no longer signed: ask again where to go.
                401 | 403 | 404 | 410 if shortcut => {
                    shortcut = false;
                    *self.landed() = None;
                    url = self.origin.clone();
                }
                408 | 425 | 429 | 500..=599 => {
                    return Err(Trouble::Passing(name_status(&response), retry_after(headers)));
                }
                200 => return self.whole(headers, pin),
                416 => return self.past_the_end(headers, pin),
                _ => return Err(Trouble::Final(self.refused(&response))),
            }
        }
    }

    /// Sends the request for a range.
    fn send(&self, url: &Url, range: &Range<u64>, pin: Option<&Pin>, until: Instant) -> Tried<Answer> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Trouble::Passing("no answer within the deadline".to_owned(), None));
        }
        let last = range.end.saturating_sub(1);
        let mut request = self
            .agent
            .get(url.to_string())
            .header(header::RANGE, format!("bytes={}-{last}", range.start))
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(login) = self.login.as_ref().filter(|_| url.same_origin(&self.origin)) {
            request = request.header(header::AUTHORIZATION, login);
        }
        COUNTERS.source_reads.add(1);
        let response = request.config().timeout_global(Some(left)).build().call();
        response.map_err(|error| self.failed(&error, pin.is_none()))
    }

    /// Where a redirect may lead.
    fn follow(&self, from: &Url, headers: &HeaderMap) -> Tried<Url> {
        let Some(location) = text(headers, header::LOCATION) else {
            return self.fatal(ErrorKind::Source, "the server redirects without saying where to");
        };
        let url = match from.join(&location) {
            Ok(url) => url,
            Err(what) => {
                return self.fatal(ErrorKind::Source, format!("the server redirects to a URL that {what}"));
            }
        };
        if from.is_secure() && !url.is_secure() {
            return self
                .fatal(ErrorKind::Source, "the server redirects from https to http, which is not followed");
        }
        if !self.reach.allows(reach::nearness_by_name(url.host())) {
            return Err(self.out_of_reach(&OutOfReach(url.host().to_owned())));
        }
        Ok(url)
    }

    /// Reads an answer of status 206 into `into`, if it is what was asked for.
    fn take(&self, response: Answer, range: Range<u64>, pin: Option<&Pin>, into: &mut Vec<u8>) -> Tried<Pin> {
        let headers = response.headers();
        let odd = |what: String| Err(Trouble::Passing(what, None));
        if let Some(coding) = encoded(headers) {
            return match pin {
                Some(_) => odd(format!("the answer is encoded ('{}')", escape(coding.as_bytes()))),
                None => Err(Trouble::Final(self.unsupported(&format!(
                    "the server sends it encoded ('{}') though asked not to",
                    escape(coding.as_bytes())
                )))),
            };
        }
        let Some(content_range) = text(headers, header::CONTENT_RANGE) else {
            return odd("status 206 without Content-Range".to_owned());
        };
        let Some((first, last, total)) = parse_content_range(&content_range) else {
            return odd(format!("Content-Range '{}' makes no sense", escape(content_range.as_bytes())));
        };
        let Some(total) = total.or(pin.map(|pin| pin.len)) else {
            return Err(Trouble::Final(self.unsupported("the server does not say how long it is")));
        };
        if let Some(pin) = pin.filter(|pin| pin.len != total) {
            return Err(self.changed(&format!("it was {} bytes long, and now is {total}", pin.len)));
        }
        let end = range.end.min(total);
        if first != range.start || last.checked_add(1) != Some(end) || first >= end {
            return odd(format!(
                "asked for bytes {}-{}, got {first}-{last}",
                range.start,
                end.saturating_sub(1)
            ));
        }
        let want = end.saturating_sub(first);
        if let Some(length) =
            text(headers, header::CONTENT_LENGTH).filter(|length| *length != want.to_string())
        {
            return odd(format!(
                "Content-Length {} where {want} bytes were asked for",
                escape(length.as_bytes())
            ));
        }
        let now = Pin {
            len: total,
            etag: text(headers, header::ETAG),
            modified: text(headers, header::LAST_MODIFIED),
        };
        let before = into.len();
        // One byte more than wanted, to see an answer that is too long.
        let read = response.into_body().into_reader().take(want.saturating_add(1)).read_to_end(into);
        let got = wide(into.len().saturating_sub(before));
        COUNTERS.source_bytes.add(got);
        if got > want {
            into.truncate(before);
            return odd(format!("more than the {want} bytes that were asked for"));
        }
        match read {
            Ok(_) if got == want => Ok(now),
            Ok(_) => odd(format!("the answer ended after {got} of {want} bytes")),
            Err(error) => {
                let error = ureq::Error::from(error);
                odd(format!("the answer broke off after {got} of {want} bytes: {}", describe(&error)))
            }
        }
    }

    /// Status 200: the whole object instead of a range of it.
    fn whole(&self, headers: &HeaderMap, pin: Option<&Pin>) -> Tried<Pin> {
        if pin.is_some() {
            return Err(Trouble::Passing("the whole object instead of a range of it".to_owned(), None));
        }
        if text(headers, header::CONTENT_LENGTH).as_deref() == Some("0") {
            return Ok(empty(headers));
        }
        let error =
            self.unsupported("the server does not serve ranges of it (status 200 where 206 was expected)");
        Err(Trouble::Final(error))
    }

    /// Status 416: the range lies past the end, that is, there is nothing, or less than before.
    fn past_the_end(&self, headers: &HeaderMap, pin: Option<&Pin>) -> Tried<Pin> {
        let total = text(headers, header::CONTENT_RANGE)
            .and_then(|value| value.strip_prefix("bytes */")?.trim().parse::<u64>().ok());
        match (pin, total) {
            (None, Some(0)) => Ok(empty(headers)),
            (None, _) => self.fatal(ErrorKind::Source, "HTTP status 416 for its first bytes"),
            (Some(pin), Some(total)) if total != pin.len => {
                Err(self.changed(&format!("it was {} bytes long, and now is {total}", pin.len)))
            }
            (Some(_), _) => Err(Trouble::Passing("status 416 for a range inside it".to_owned(), None)),
        }
    }

    fn check_pin(&self, pinned: Pinned) -> Tried<()> {
        match pinned {
            Pinned::Same => Ok(()),
            Pinned::Changed(what) => Err(self.changed(&format!("its {what} is another"))),
            Pinned::Unclear => {
                Err(Trouble::Passing("an answer without the validator that others had".to_owned(), None))
            }
        }
    }

    fn changed(&self, how: &str) -> Trouble {
        let error =
            Error::new(ErrorKind::Changed, format!("{}: changed while it was open: {how}", self.label));
        Trouble::Final(error.help("open it again; what was read so far is of the earlier version"))
    }

    fn unsupported(&self, what: &str) -> Error {
        let error = Error::new(ErrorKind::Unsupported, format!("{}: {what}", self.label));
        error.help("download the image and open the file, or put it on a server that serves byte ranges")
    }

    fn out_of_reach(&self, refused: &OutOfReach) -> Trouble {
        let error = Error::new(ErrorKind::Source, format!("{}: redirected, but {refused}", self.label));
        Trouble::Final(error.help("if you trust that address, name it yourself"))
    }

    /// A status that says no.
    fn refused(&self, response: &Answer) -> Error {
        let error = |more: &str| {
            Error::new(ErrorKind::Source, format!("{}: {}{more}", self.label, name_status(response)))
        };
        match (response.status().as_u16(), self.answered.load(Ordering::Relaxed)) {
            (401 | 403 | 410, 1) => error(", but not to the first request").help(
                "the signed link has expired, or is good for one request only: download the image, and open the file",
            ),
            (401 | 403 | 410, 2..) => error(", but not before")
                .help("the signed link has probably expired: make a new one, and open that"),
            (404, 1..) => error(", but not before").help("somebody removed it while it was open"),
            (401, 0) => error("").help("user and password go into the URL: https://USER:PASSWORD@HOST/..."),
            (403, 0) => error("").help("it may need a signed link, or the link may have expired"),
            _ => error(""),
        }
    }

    /// What the library could not do. At the first contact, what a second try would not mend is final.
    fn failed(&self, error: &ureq::Error, opening: bool) -> Trouble {
        if let ureq::Error::Other(other) = error
            && let Some(refused) = other.downcast_ref::<OutOfReach>()
        {
            return self.out_of_reach(refused);
        }
        let line = describe(error);
        let (lasting, help) = match error {
            ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::ConnectProxyFailed(_) => (true, None),
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => (true, Some(())),
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::TlsRequired => (true, Some(())),
            // Refused, unreachable, a name that does not resolve: everything but a connection that broke.
            ureq::Error::Io(io) => (
                !matches!(
                    io.kind(),
                    std::io::ErrorKind::UnexpectedEof
                        | std::io::ErrorKind::ConnectionReset
                        | std::io::ErrorKind::ConnectionAborted
                        | std::io::ErrorKind::BrokenPipe
                        | std::io::ErrorKind::TimedOut
                        | std::io::ErrorKind::WouldBlock
                ),
                None,
            ),
            ureq::Error::Timeout(_) => (false, None),
            _ => (true, None),
        };
        if !(opening && lasting) {
            return Trouble::Passing(line, None);
        }
        COUNTERS.errors.add(1);
        let error = Error::new(ErrorKind::Source, format!("{}: {line}", self.label));
        Trouble::Final(match help {
            Some(()) if line.contains("ertificate") => error.help(
                "to trust another authority, name its certificates: SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
            ),
            _ => error,
        })
    }
}

/// The certificates of a PEM file.
fn read_roots(path: &std::path::Path) -> Result<ureq::tls::RootCerts> {
    let failed = |why: String| {
        Error::new(
            ErrorKind::Source,
            format!("SSL_CERT_FILE: {}: {why}", escape(path.as_os_str().as_encoded_bytes())),
        )
    };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let certificates: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(ureq::tls::RootCerts::from(certificates))
}

/// An object without bytes.
fn empty(headers: &HeaderMap) -> Pin {
    Pin { len: 0, etag: text(headers, header::ETAG), modified: text(headers, header::LAST_MODIFIED) }
}

/// A header's value, if it is there once and in ASCII.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(|value| value.trim().to_owned())
}

/// The coding that keeps the body from being the object's bytes.
fn encoded(headers: &HeaderMap) -> Option<String> {
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
fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let total = if total == "*" { None } else { Some(number(total)?) };
    Some((number(first)?, number(last)?, total))
}

/// `Retry-After`: seconds or a date; RFC 9110, section 10.2.3.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, header::RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(&value).ok()?.timestamp();
    SystemTime::from(date).duration_since(SystemTime::now()).ok()
}

/// `HTTP status 403 (Forbidden)`, and who says so if it is not the server itself.
fn name_status(response: &Answer) -> String {
    let status = response.status();
    let reason = status.canonical_reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let via = text(response.headers(), header::VIA);
    let via = via.map(|via| format!(", through {}", escape(via.as_bytes()))).unwrap_or_default();
    format!("HTTP status {}{reason}{via}", status.as_u16())
}

/// The library's error in our words, without anything of the URL in it.
fn describe(error: &ureq::Error) -> String {
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

/// `start + time`, also where that is beyond the clock.
fn after(start: Instant, time: Duration) -> Instant {
    start.checked_add(time).unwrap_or(start)
}

/// The tries at one range.
struct Tries {
    pause: Duration,
    until: Instant,
    made: u32,
}

impl Tries {
    fn new(pause: Duration, start: Instant, patience: Duration) -> Self {
        Self { pause, until: after(start, patience), made: 1 }
    }

    /// Waits before the next try; `false` when there is no time left for one.
    fn pause(&mut self, label: &str, why: &str, asked: Option<Duration>) -> bool {
        // Between half and all of the pause, so that many readers do not come back at the same moment.
        let random = std::hash::RandomState::new().build_hasher().finish() % 512;
        let factor = u32::try_from(random).unwrap_or(0).saturating_add(512);
        let jittered = self.pause.saturating_mul(factor).checked_div(1024).unwrap_or_default();
        let wait = asked.map_or(jittered, |asked| asked.max(jittered));
        if self.until.saturating_duration_since(Instant::now()) <= wait {
            return false;
        }
        tracing::debug!("{label}: {why}; again in {wait:?}");
        COUNTERS.retries.add(1);
        std::thread::sleep(wait);
        self.pause = self.pause.saturating_mul(2).min(MAX_PAUSE);
        self.made = self.made.saturating_add(1);
        true
    }

    /// For the end of a message.
    fn count(&self) -> String {
        if self.made > 1 { format!(" (tried {} times)", self.made) } else { String::new() }
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
    fn a_strong_entity_tag_decides_alone() {
        let pin = Pin { len: 1, etag: Some("\"a\"".into()), modified: Some("x".into()) };
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
        let pin = Pin { len: 1, etag: Some("W/\"a\"".into()), modified: Some("x".into()) };
        let weak = (header::ETAG, "W/\"a\"");
        assert_eq!(pin.compare(&headers(&[weak.clone(), (header::LAST_MODIFIED, "x")])), Pinned::Same);
        assert_eq!(
            pin.compare(&headers(&[weak, (header::LAST_MODIFIED, "y")])),
            Pinned::Changed("Last-Modified")
        );
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
