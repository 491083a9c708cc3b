//! An object of a web server, read by ranges: `http://`, `https://`.
//!
//! ```text
//! open   GET bytes=0-…   → 206: length from Content-Range, validators pinned      (never HEAD: signed URLs refuse it)
//! fetch  GET bytes=a-b   → 206, the same range, length and validators, not encoded, exactly b-a+1 bytes → handed out
//!                          anything that may pass (5xx, 429, time-out, short body, …) → again, until the deadline
//!                          403 after it had worked → a fresh link, if the user has a command for that  ([`renew`])
//!                          another validator or length → Changed, for ever
//! ```
//! A byte is handed out only from an answer that is exactly what was asked for. Redirects are followed here, not by the
//! library: a login goes to the server it was typed for, never from https to http, and nobody out there sends us to
//! an address near us ([`reach`]). With `--spool` there is one request for all of it instead ([`download`]).

use super::gate::Given;
use super::{Scheme, SourceCx};
use crate::block::BlockSource;
use crate::cache::remote::{CONNECTIONS, Fetch, Reading, Remote};
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::locator::Locator;
use client::{Client, Trouble};
use pieces::Pieces;
use pin::Pin;
use signer::Signer;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tries::{Tries, after};

mod answer;
mod client;
mod download;
mod pieces;
mod pin;
mod reach;
mod renew;
pub(super) mod signer;
mod tries;
mod url;

pub use reach::Reaches;

/// Web servers.
pub const SCHEME: Scheme = Scheme { names: &["http", "https"], siblings: true, open };

fn open(given: &Given, cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    open_url(given, &Tuning::default(), cx)
}

/// Opens a URL behind the cache.
///
/// # Errors
/// `Usage` for a malformed URL; `Source` when the server cannot be reached or says no; `NotFound` when there is none; `Unsupported` when it does not
/// serve ranges.
pub fn open_url(given: &Given, tuning: &Tuning, cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    open_signed(given, tuning, cx, None)
}

/// The same with links that `signer` makes.
pub(super) fn open_signed(
    given: &Given,
    tuning: &Tuning,
    cx: &SourceCx,
    signer: Option<Arc<dyn Signer>>,
) -> Result<Arc<dyn BlockSource>> {
    let tuning = Tuning {
        connections: cx.options.connections.max(1),
        url_command: cx.options.url_command.clone(),
        part: given.part,
        reaches: given.reaches.clone(),
        ..tuning.clone()
    };
    if let Some(spool) = given.spool(&cx.options)? {
        return download::open(&given.locator, &tuning, &*spool, signer);
    }
    let (object, head) = Object::open(&given.locator, &tuning, signer)?;
    let shelf = match (cx.disk_cache(given)?, object.pin.identity(&object.client.origin())) {
        (Some(disk), Some(identity)) => Some(disk.shelf(identity)),
        (Some(_), None) => {
            tracing::warn!(
                "{}: is not kept in the cache directory: the server does not say how its versions differ",
                object.client.label
            );
            None
        }
        (None, _) => None,
    };
    let how = Reading { connections: tuning.connections, readahead: cx.options.readahead, shelf };
    Ok(Arc::new(Remote::new(object, Arc::clone(&cx.cache), &head, how)))
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
    /// For one block of a range, all tries together.
    pub deadline: Duration,
    /// For tries to open it: a server that never worked is not waited for as long as one that did.
    pub opening: Duration,
    /// Before the second try; doubles from there.
    pub pause: Duration,
    /// For one run of the command that prints fresh links.
    pub command: Duration,
    /// Between two runs of it.
    pub interval: Duration,
    /// Certificates to trust instead of the built-in ones, as PEM.
    pub roots: Option<PathBuf>,
    /// Connections that are kept; from [`super::Options`].
    pub connections: usize,
    /// Prints a fresh link; from [`super::Options`].
    pub url_command: Option<String>,
    /// It is one of several files of an image, known by its name: a fresh link must have that name; from [`Given`].
    pub part: bool,
    /// How near the servers are; from [`Given`].
    pub reaches: Reaches,
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
            command: Duration::from_secs(20),
            interval: Duration::from_secs(5),
            roots: std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from),
            connections: CONNECTIONS,
            url_command: None,
            part: false,
            reaches: Reaches::default(),
        }
    }
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
    fn open(locator: &Locator, tuning: &Tuning, signer: Option<Arc<dyn Signer>>) -> Result<(Self, Vec<u8>)> {
        let client = Client::new(locator, tuning, signer)?;
        let mut tries = Tries::new(tuning.pause, Instant::now(), tuning.opening);
        loop {
            let mut head = Vec::new();
            let take = &mut |piece: Vec<u8>| {
                head.extend_from_slice(&piece);
                piece
            };
            let mut pieces = Pieces::new(0..tuning.head, take);
            let until = after(Instant::now(), tuning.deadline);
            match client.try_range(None, &mut pieces, until) {
                Ok(pin) => return Ok((Self { client, pin }, head)),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Renewed) => tries.renewed(&client.label)?,
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

    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(Vec<u8>) -> Vec<u8>) -> Result<()> {
        let client = &self.client;
        let tuning = &client.tuning;
        let begin = || {
            let start = Instant::now();
            (after(start, tuning.deadline), Tries::new(tuning.pause, start, tuning.deadline))
        };
        let (mut until, mut tries) = begin();
        let mut pieces = Pieces::new(range, take);
        loop {
            // What a broken answer brought before it broke is as good as what an unbroken one brings: go on from there.
            let (rest, whole) = (pieces.rest(), pieces.handed_on());
            if rest.is_empty() {
                return Ok(());
            }
            let tried = client.try_range(Some(&self.pin), &mut pieces, until);
            if pieces.handed_on() > whole {
                // The patience is for a block, and the next one has begun.
                (until, tries) = begin();
            }
            match tried {
                Ok(_) => {}
                Err(Trouble::Final(error)) => {
                    COUNTERS.errors.add(1);
                    return Err(error);
                }
                Err(Trouble::Renewed) => {
                    tries.renewed(&client.label)?;
                    until = after(Instant::now(), tuning.deadline);
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
