//! The way to a server: requests for ranges, redirects, and what becomes of every answer that is not the bytes.

use super::Tuning;
use super::answer::{
    Answer, MAX_HEADER, describe, encoded, name_status, parse_content_range, retry_after, text,
};
use super::pieces::Pieces;
use super::pin::{Pin, Pinned};
use super::reach::{self, GuardedResolver, Nearness, OutOfReach, Reach};
use super::renew::{Renewal, Run};
use super::signer::{Refusal, Signer, Verdict};
use super::tries::after;
use super::url::Url;
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::locator::Locator;
use crate::num::wide;
use crate::text::escape;
use std::fmt;
use std::io::Read as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::header;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::DefaultConnector;

/// Redirects that lead to one answer.
const MAX_REDIRECTS: usize = 5;
/// Bytes read of what a server says when it refuses.
const MAX_REFUSAL: u64 = 64 << 10;

/// Why one try failed.
pub(super) enum Trouble {
    /// Trying again is of no use.
    Final(Error),
    /// It may pass; the server may have said when.
    Passing(String, Option<Duration>),
    /// The link had expired, and there is a fresh one.
    Renewed,
}

pub(super) type Tried<T> = std::result::Result<T, Trouble>;

/// A URL that somebody typed or the user's command printed, and what hangs on it. Replaced as a whole.
struct Road {
    /// How many there were before.
    number: u64,
    /// Ranges that had been given before there was this one.
    before: u64,
    agent: ureq::Agent,
    origin: Url,
    /// The value of `Authorization`, for `origin` alone.
    login: Option<String>,
    reach: Reach,
    /// Where the redirects ended last time.
    landed: Mutex<Option<Url>>,
    made: Instant,
    /// How long to use it.
    lasts: Duration,
}

impl Road {
    fn new(number: u64, url: &str, tuning: &Tuning) -> std::result::Result<Self, Unusable> {
        let (origin, login) = Url::parse(url).map_err(Unusable::Url)?;
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("imgmount/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(MAX_HEADER)
            .max_idle_connections(tuning.connections)
            .max_idle_connections_per_host(tuning.connections)
            .timeout_resolve(Some(tuning.connect))
            .timeout_connect(Some(tuning.connect))
            .timeout_per_read(Some(tuning.stall))
            .timeout_per_write(Some(tuning.stall));
        match tuning.roots.as_deref().map(read_roots) {
            Some(Ok(roots)) => {
                config = config.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build());
            }
            Some(Err(error)) if origin.is_secure() => return Err(Unusable::Roots(error)),
            _ => {}
        }
        let config = config.build();
        let reach = tuning.reaches.of(origin.host());
        if let (Some(proxy), Ok(uri)) = (config.proxy(), origin.to_string().parse())
            && !proxy.is_no_proxy(&uri)
        {
            // The proxy looks the name up, so the name is all there is to judge by.
            reach.found([reach::nearness_by_name(origin.host()).unwrap_or(Nearness::Far)]);
        }
        let resolver = GuardedResolver { reach: reach.clone(), resolver: DefaultResolver::default() };
        let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), resolver);
        let landed = Mutex::default();
        let (before, made, lasts) = (0, Instant::now(), Duration::MAX);
        Ok(Self { number, before, agent, origin, login, reach, landed, made, lasts })
    }

    fn landed(&self) -> MutexGuard<'_, Option<Url>> {
        // A URL is replaced as a whole: nothing half-done can be seen in it.
        self.landed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a URL leads nowhere.
enum Unusable {
    /// What is wrong with it, in words.
    Url(&'static str),
    Roots(Error),
}

/// The way to an object.
pub(super) struct Client {
    pub(super) label: String,
    pub(super) tuning: Tuning,
    road: Mutex<Arc<Road>>,
    /// `--url-command`.
    renewal: Option<Renewal>,
    /// Makes the links, if they are not the user's.
    signer: Option<Arc<dyn Signer>>,
    /// Whose turn it is to have one made.
    signing: Mutex<()>,
    /// Ranges that were given; a URL that worked once and then no more is of a special kind.
    answered: AtomicU64,
}

/// An answer of status 200, 206 or 416, and where it came from.
pub(super) struct Heard {
    pub(super) answer: Answer,
    road: Arc<Road>,
    url: Url,
}

impl Client {
    pub(super) fn new(locator: &Locator, tuning: &Tuning, signer: Option<Arc<dyn Signer>>) -> Result<Self> {
        let label = locator.to_string();
        let Locator::Url(typed) = locator else {
            return Err(Error::new(ErrorKind::Usage, format!("{label}: is not a URL")));
        };
        let signed = signer.as_ref().map(|signer| signer.link()).transpose()?;
        let (url, lasts) =
            signed.as_ref().map_or((typed, Duration::MAX), |signed| (&signed.url, signed.lasts));
        let mut road = Road::new(0, url, tuning).map_err(|unusable| match unusable {
            Unusable::Url(what) => Error::new(ErrorKind::Usage, format!("{label}: the URL {what}")),
            Unusable::Roots(error) => error,
        })?;
        let renewal = tuning.url_command.clone().map(|command| {
            let object = label.strip_suffix("?...").unwrap_or(&label);
            Renewal::new(command, object.to_owned(), tuning.command, tuning.interval)
        });
        road.lasts = lasts;
        let road = Mutex::new(Arc::new(road));
        let (answered, signing) = (AtomicU64::new(0), Mutex::default());
        Ok(Self { label, tuning: tuning.clone(), road, renewal, signer, signing, answered })
    }

    fn road(&self) -> Arc<Road> {
        Arc::clone(&self.road.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The URL as it was typed, or as it was renewed.
    pub(super) fn origin(&self) -> Url {
        self.road().origin.clone()
    }

    pub(super) fn fatal<T>(&self, kind: ErrorKind, what: impl fmt::Display) -> Tried<T> {
        Err(Trouble::Final(Error::new(kind, format!("{}: {what}", self.label))))
    }

    /// One try at what is still to come of `into`. Before there is a pin, that may be more than the object has.
    pub(super) fn try_range(&self, pin: Option<&Pin>, into: &mut Pieces<'_>, until: Instant) -> Tried<Pin> {
        let range = into.rest();
        let asked = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let heard = self.ask(&asked, pin, Some(until))?;
        let (road, url) = (Arc::clone(&heard.road), heard.url.clone());
        let headers = heard.answer.headers();
        match heard.answer.status().as_u16() {
            206 => {
                let pin = self.take(heard.answer, range, pin, into)?;
                *road.landed() = (url != road.origin).then_some(url);
                self.answered.fetch_add(1, Ordering::Relaxed);
                Ok(pin)
            }
            200 if pin.is_some() => {
                Err(Trouble::Passing("the whole object instead of a range of it".to_owned(), None))
            }
            200 if text(headers, header::CONTENT_LENGTH).as_deref() == Some("0") => Ok(Pin::of(headers, 0)),
            200 => {
                let error = Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "{}: the server does not serve ranges of it (status 200 where 206 was expected)",
                        self.label
                    ),
                );
                Err(Trouble::Final(error.help("fetch it once from start to end: --spool")))
            }
            _ => self.past_the_end(&heard.answer, pin),
        }
    }

    /// Sends a request, goes where redirects lead, and sorts out every answer that has none of the bytes.
    pub(super) fn ask(&self, range: &str, pin: Option<&Pin>, until: Option<Instant>) -> Tried<Heard> {
        let mut road = self.road();
        if road.made.elapsed() >= road.lasts {
            self.sign(&road).map_err(Trouble::Final)?;
            road = self.road();
        }
        let mut url = road.landed().clone().unwrap_or_else(|| road.origin.clone());
        let mut shortcut = url != road.origin;
        let mut hops = 0;
        loop {
            let answer = self.send(&road, &url, range, pin, until)?;
            let status = answer.status().as_u16();
            let headers = answer.headers();
            tracing::debug!("{}: {range}: {status}", self.label);
            if let (Some(pin), 200..=299) = (pin, status) {
                self.check_pin(pin.compare(headers))?;
            }
            match status {
                200 | 206 | 416 => return Ok(Heard { answer, road, url }),
                300..=407 | 409..=424 if self.signer.is_some() => {
                    return Err(self.judge(&road, answer));
                }
                301 | 302 | 303 | 307 | 308 => {
                    hops = usize::saturating_add(hops, 1);
                    if hops > MAX_REDIRECTS {
                        return self.fatal(ErrorKind::Source, format!("more than {MAX_REDIRECTS} redirects"));
                    }
                    url = self.follow(&road, &url, &answer)?;
                }
                // What the redirect led to is no longer there, or no longer signed: ask again where to go.
                400 | 401 | 403 | 404 | 410 if shortcut => {
                    shortcut = false;
                    *road.landed() = None;
                    url = road.origin.clone();
                }
                408 | 425 | 429 | 500..=599 => {
                    return Err(Trouble::Passing(name_status(&answer), retry_after(headers)));
                }
                // S3 says 400 when it is the token that has expired.
                400 | 401 | 403 | 410 if self.renewal.is_some() => return Err(self.renew(&road, &answer)),
                _ => return Err(Trouble::Final(self.refused(&answer))),
            }
        }
    }

    /// Has a link made in place of the one that `worn` had, unless another reader has had it made already.
    fn sign(&self, worn: &Road) -> Result<()> {
        let Some(signer) = &self.signer else { return Ok(()) };
        let turn = self.signing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.road().number == worn.number { self.replace(worn, &**signer, &turn) } else { Ok(()) }
    }

    /// The same by who has the turn.
    fn replace(&self, worn: &Road, signer: &dyn Signer, _turn: &MutexGuard<'_, ()>) -> Result<()> {
        let signed = signer.link()?;
        let number = worn.number.saturating_add(1);
        let mut fresh = Road::new(number, &signed.url, &self.tuning).map_err(|unusable| match unusable {
            Unusable::Url(what) => Error::new(ErrorKind::Source, format!("{}: the URL {what}", self.label)),
            Unusable::Roots(error) => error,
        })?;
        fresh.lasts = signed.lasts;
        fresh.before = self.answered.load(Ordering::Relaxed);
        *self.road.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
    }

    /// Lets the signer say what a refusal means.
    fn judge(&self, road: &Road, answer: Answer) -> Trouble {
        let Some(signer) = &self.signer else { return Trouble::Final(self.refused(&answer)) };
        let name = name_status(&answer);
        let status = answer.status().as_u16();
        let region = answer.headers().get("x-amz-bucket-region");
        let region = region.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        let until = after(Instant::now(), self.tuning.stall);
        let (mut said, mut part) = (answer.into_body().into_reader().take(MAX_REFUSAL), [0; 4096]);
        // Without the body the status still says something; and nobody waits for one that trickles.
        while Instant::now() < until
            && let Ok(got @ 1..) = said.read(&mut part)
        {
            body.extend(part.iter().take(got));
        }
        let worked = self.answered.load(Ordering::Relaxed) > road.before;
        let refusal = Refusal { status, name, region, body, worked, age: road.made.elapsed() };
        // What the signer learns of a refusal is in the next link: until that is there, nobody else asks.
        let turn = self.signing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.road().number != road.number {
            return Trouble::Renewed;
        }
        match signer.refused(&refusal) {
            Verdict::Fresh => {
                self.replace(road, &**signer, &turn).map_or_else(Trouble::Final, |()| Trouble::Renewed)
            }
            Verdict::Final(error) => {
                let was_there = self.answered.load(Ordering::Relaxed) > 0;
                let error = match error.kind() {
                    ErrorKind::NotFound if was_there => {
                        error.with_kind(ErrorKind::Source).help("somebody removed it while it was open")
                    }
                    _ => error,
                };
                Trouble::Final(error.context(&self.label))
            }
        }
    }

    /// Gets a fresh link in place of the one that `worn` had, unless another reader has got one already.
    fn renew(&self, worn: &Road, answer: &Answer) -> Trouble {
        let Some(renewal) = &self.renewal else { return Trouble::Final(self.refused(answer)) };
        let mut last = renewal.turn();
        if self.road().number != worn.number {
            return Trouble::Renewed;
        }
        if let Some(Run { ended, failed }) = &*last {
            let wait = renewal.interval.saturating_sub(ended.elapsed());
            match failed {
                _ if wait.is_zero() => {}
                Some(error) => return Trouble::Final(error.clone()),
                None => {
                    let why = format!("{}, also with the link from --url-command", name_status(answer));
                    return Trouble::Passing(why, Some(wait));
                }
            }
        }
        let fresh = renewal.run().and_then(|url| {
            let number = worn.number.saturating_add(1);
            Road::new(number, &url, &self.tuning).map_err(|unusable| match unusable {
                Unusable::Url(what) => {
                    let what = format!("{}: --url-command printed a URL that {what}", self.label);
                    Error::new(ErrorKind::Source, what)
                }
                Unusable::Roots(error) => error,
            })
        });
        // Each file of a split image has the command run for it, which may know of one only.
        let fresh = fresh.and_then(|road| {
            if self.tuning.part && road.origin.file_name() != worn.origin.file_name() {
                let what = format!("{}: --url-command printed a link to another file", self.label);
                return Err(Error::new(ErrorKind::Source, what)
                    .help("the image has several files: which one is meant stands in $IMGMOUNT_OBJECT"));
            }
            Ok(road)
        });
        let (fresh, failed) = match fresh {
            Ok(road) => (Some(road), None),
            Err(error) => (None, Some(error)),
        };
        *last = Some(Run { ended: Instant::now(), failed: failed.clone() });
        if let Some(road) = fresh {
            *self.road.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(road);
        }
        failed.map_or(Trouble::Renewed, Trouble::Final)
    }

    /// Sends a request for a range; without `until`, its body may take as long as it keeps coming.
    fn send(
        &self,
        road: &Road,
        url: &Url,
        range: &str,
        pin: Option<&Pin>,
        until: Option<Instant>,
    ) -> Tried<Answer> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Trouble::Passing("no answer within the deadline".to_owned(), None));
        }
        let mut request = road
            .agent
            .get(url.to_string())
            .header(header::RANGE, range)
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(login) = road.login.as_ref().filter(|_| url.same_origin(&road.origin)) {
            request = request.header(header::AUTHORIZATION, login);
        }
        COUNTERS.source_reads.add(1);
        let config = request.config().timeout_global(left);
        let config = config.timeout_recv_response(until.is_none().then_some(self.tuning.deadline));
        let response = config.build().call();
        response.map_err(|error| self.failed(&error, pin.is_none()))
    }

    /// Where a redirect may lead.
    fn follow(&self, road: &Road, from: &Url, answer: &Answer) -> Tried<Url> {
        let Some(location) = text(answer.headers(), header::LOCATION) else {
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
        if !road.reach.allows_name(url.host()) {
            return Err(self.out_of_reach(&OutOfReach::Redirect(url.host().to_owned())));
        }
        Ok(url)
    }

    /// What an answer of status 206 says it brings: where it begins, where it ends, how long the object is.
    pub(super) fn check_range(
        &self,
        answer: &Answer,
        range: &Range<u64>,
        pin: Option<&Pin>,
    ) -> Tried<(u64, Pin)> {
        let headers = answer.headers();
        let odd = |what: String| Err(Trouble::Passing(what, None));
        self.check_coding(answer, pin)?;
        let Some(content_range) = text(headers, header::CONTENT_RANGE) else {
            return odd("status 206 without Content-Range".to_owned());
        };
        let Some((first, last, total)) = parse_content_range(&content_range) else {
            return odd(format!("Content-Range '{}' makes no sense", escape(content_range.as_bytes())));
        };
        let Some(total) = total.or(pin.map(|pin| pin.len)) else {
            let error = Error::new(
                ErrorKind::Unsupported,
                format!("{}: the server does not say how long it is", self.label),
            );
            return Err(Trouble::Final(error.help("fetch it once from start to end: --spool")));
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
        Ok((end, Pin::of(headers, total)))
    }

    /// Is what comes the object's own bytes?
    pub(super) fn check_coding(&self, answer: &Answer, pin: Option<&Pin>) -> Tried<()> {
        let Some(coding) = encoded(answer.headers()) else { return Ok(()) };
        let coding = escape(coding.as_bytes()).to_string();
        if pin.is_some() {
            return Err(Trouble::Passing(format!("the answer is encoded ('{coding}')"), None));
        }
        let what = format!("{}: the server sends it encoded ('{coding}') though asked not to", self.label);
        Err(Trouble::Final(
            Error::new(ErrorKind::Unsupported, what).help("download the image, and open the file"),
        ))
    }

    /// Reads an answer of status 206 into `into`, if it is what was asked for.
    fn take(
        &self,
        answer: Answer,
        range: Range<u64>,
        pin: Option<&Pin>,
        into: &mut Pieces<'_>,
    ) -> Tried<Pin> {
        let odd = |what: String| Err(Trouble::Passing(what, None));
        let (end, now) = self.check_range(&answer, &range, pin)?;
        into.end_at(end);
        let (first, want) = (range.start, end.saturating_sub(range.start));
        // An answer that says its length cannot turn out to be too long, which would make us doubt the rest of it.
        let certain = answer.headers().contains_key(header::CONTENT_LENGTH);
        let mut body = answer.into_body().into_reader();
        let ended = loop {
            let room = into.room();
            if room.is_empty() {
                // One byte more than wanted, to see an answer that is too long.
                break body.read(&mut [0]).map(|more| more > 0);
            }
            match body.read(room) {
                Ok(0) => break Ok(false),
                Ok(got) => {
                    into.filled(got);
                    COUNTERS.source_bytes.add(wide(got));
                    if certain {
                        into.hand_on();
                    }
                }
                Err(error) => break Err(error),
            }
        };
        let got = into.rest().start.saturating_sub(first);
        if matches!(ended, Ok(true)) {
            into.back_to(first);
            return odd(format!("more than the {want} bytes that were asked for"));
        }
        into.hand_on();
        match ended {
            // That the connection broke behind the last byte is no harm to the bytes.
            _ if got == want => Ok(now),
            Ok(_) => odd(format!("the answer ended after {got} of {want} bytes")),
            Err(error) => {
                let error = ureq::Error::from(error);
                odd(format!("the answer broke off after {got} of {want} bytes: {}", describe(&error)))
            }
        }
    }

    /// Status 416: the range lies past the end, that is, there is nothing, or less than before.
    pub(super) fn past_the_end(&self, answer: &Answer, pin: Option<&Pin>) -> Tried<Pin> {
        let total = text(answer.headers(), header::CONTENT_RANGE)
            .and_then(|value| value.strip_prefix("bytes */")?.trim().parse::<u64>().ok());
        match (pin, total) {
            (None, Some(0)) => Ok(Pin::of(answer.headers(), 0)),
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

    pub(super) fn changed(&self, how: &str) -> Trouble {
        let error =
            Error::new(ErrorKind::Changed, format!("{}: changed while it was open: {how}", self.label));
        Trouble::Final(error.help("open it again; what was read so far is of the earlier version"))
    }

    fn out_of_reach(&self, refused: &OutOfReach) -> Trouble {
        let error = Error::new(ErrorKind::Source, format!("{}: {refused}", self.label));
        Trouble::Final(error.help("if you trust that address, name it yourself"))
    }

    /// A status that says no.
    pub(super) fn refused(&self, response: &Answer) -> Error {
        let error = |more: &str| {
            Error::new(ErrorKind::Source, format!("{}: {}{more}", self.label, name_status(response)))
        };
        match (response.status().as_u16(), self.answered.load(Ordering::Relaxed)) {
            (401 | 403 | 410, 1) => error(", but not to the first request").help(
                "the signed link has expired, or is good for one request only: --spool reads it with one request",
            ),
            (401 | 403 | 410, 2..) => error(", but not before").help(
                "the signed link has probably expired: make a new one, and open that; or let --url-command make them",
            ),
            (404, 0) => error("").with_kind(ErrorKind::NotFound),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_image_judge_its_server_together() {
        let of_image = Tuning::default();
        let reach = |name: &str, tuning: &Tuning| {
            let locator = Locator::Url(format!("http://h.test/{name}"));
            Client::new(&locator, tuning, None).unwrap().road().reach.clone()
        };
        reach("d.vmdk", &of_image).found([Nearness::Far]);
        let part = reach("d-s001.vmdk", &Tuning { part: true, ..of_image });
        part.found([Nearness::Loopback]);
        assert!(!part.allows(Nearness::Loopback));
        // Another image is judged for itself.
        let other = reach("d-s001.vmdk", &Tuning::default());
        other.found([Nearness::Loopback]);
        assert!(other.allows(Nearness::Loopback));
    }
}
