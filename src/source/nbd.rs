//! A disk that another program exports by the Network Block Device protocol: `nbd://host[:port]/export` and
//! `nbd+unix:///export?socket=PATH`. Read-only: nothing but reads and questions for extents is ever sent.
//!
//! ```text
//! open    connect ─▶ handshake ─▶ size, block sizes, structured replies, base:allocation   ([`handshake`])
//! fetch   pieces of a block, several in flight over one connection ([`link`])
//!         the connection breaks → a new one; the same size → go on; another → Changed, for ever
//! extent  BLOCK_STATUS, and the answer kept, so that zeros are never fetched by those who ask first
//! ```
//! What the server says is believed as little as a file's bytes: every length is bounded, and waiting has an end.

use super::dial::{self, Authority, Patience};
use super::gate::Given;
use super::{Scheme, SourceCx};
use crate::block::{BlockSource, Extent, check_range};
use crate::cache::remote::{BLOCK, Fetch, Reading, Remote};
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::locator::{Locator, decode};
use crate::num::{narrow, wide};
use crate::text::escape;
use handshake::{Agreed, Failure, negotiate};
use link::{Fault, Gift, Link, Ticket};
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use stream::{Hurried, Stream};

mod handshake;
mod link;
mod stream;

/// NBD servers. With TLS they are known, so that they can be refused by name.
pub const SCHEME: Scheme = Scheme { names: &["nbd", "nbd+unix", "nbds", "nbds+unix"], siblings: false, open };

/// Registered with IANA.
const PORT: u16 = 10809;
/// The longest string of the protocol.
const MAX_NAME: usize = 4096;
/// Requests of one fetch that are on their way at a time.
const WINDOW: usize = 16;
/// How much is asked about at a time when it is about extents.
const STATUS: u64 = 1 << 30;
/// What is taken for data where the server cannot say.
const UNKNOWN: u64 = 64 << 20;
/// Tries at one block.
const TRIES: u32 = 3;

fn open(given: &Given, cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    open_url(&given.locator, &Patience::default(), cx)
}

/// Opens an export behind the cache.
///
/// # Errors
/// `Usage` for a malformed URL; `Source` when the server cannot be reached or says no; `NotFound` when it has no such
/// export; `Unsupported` when it insists on TLS.
pub fn open_url(locator: &Locator, patience: &Patience, cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    let server = Server::parse(locator, patience)?;
    let link = server.connect()?;
    let size = link.agreed().size;
    let export = Export { server, size, link: Mutex::new(Arc::new(link)), changed: OnceLock::new() };
    let how = Reading { connections: cx.options.connections, readahead: cx.options.readahead, shelf: None };
    let remote = Remote::new(export, Arc::clone(&cx.cache), &[], how);
    Ok(Arc::new(Nbd { remote, known: Mutex::default() }))
}

/// Where the server listens.
#[derive(Clone, Debug)]
enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// A server and one of its exports.
#[derive(Debug)]
struct Server {
    place: Place,
    export: Vec<u8>,
    label: String,
    patience: Patience,
}

impl Server {
    /// Reads a URL; `doc/uri.md` of the NBD project.
    fn parse(locator: &Locator, patience: &Patience) -> Result<Self> {
        let label = locator.to_string();
        let wrong = |what: &str| {
            Error::new(ErrorKind::Usage, format!("{label}: the URL {what}"))
                .help("nbd://HOST[:PORT]/EXPORT, or nbd+unix:///EXPORT?socket=PATH")
        };
        let Locator::Url(url) = locator else { return Err(wrong("is a path")) };
        let scheme = locator.scheme();
        if scheme.starts_with("nbds") {
            let error = Error::unsupported("NBD over TLS").context(&label);
            return Err(error.help("let the server listen without TLS behind ssh -L, a VPN or a Unix socket"));
        }
        let (authority, path, query) = dial::split(url);
        // The slash in front is not part of the name; more of them are.
        let export = decode(path.strip_prefix('/').unwrap_or(path));
        if export.len() >= MAX_NAME {
            return Err(wrong("names an export by more than 4095 bytes"));
        }
        let place = if scheme == "nbd" {
            let authority = Authority::parse(authority).map_err(wrong)?;
            Place::Tcp(authority.host, authority.port.unwrap_or(PORT))
        } else {
            let socket = query.split('&').find_map(|part| part.strip_prefix("socket=")).map(decode);
            match socket.filter(|socket| !socket.is_empty() && authority.is_empty()) {
                Some(socket) => Place::Unix(PathBuf::from(std::ffi::OsStr::from_bytes(&socket))),
                None if authority.is_empty() => return Err(wrong("does not say which socket")),
                None => return Err(wrong("has a host, where a socket is meant")),
            }
        };
        // Nothing in it is a secret but a login, which the protocol does not have.
        let label = match &place {
            Place::Tcp(..) => label,
            Place::Unix(socket) => {
                format!("nbd+unix:///{}?socket={}", escape(&export), escape(socket.as_os_str().as_bytes()))
            }
        };
        Ok(Self { place, export, label, patience: patience.clone() })
    }

    fn source(&self, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Source, format!("{}: {what}", self.label))
    }

    /// Connects and negotiates.
    fn connect(&self) -> Result<Link> {
        let patience = &self.patience;
        let until = Instant::now().checked_add(patience.connect).unwrap_or_else(Instant::now);
        let stream = match &self.place {
            Place::Tcp(host, port) => dial::dial(host, *port, patience.connect).map(|stream| {
                // Small requests must not wait for each other; without it they are only slower.
                let _ = stream.set_nodelay(true);
                Stream::Tcp(stream)
            }),
            Place::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
        };
        let stream = stream.map_err(|error| self.source(error))?;
        stream.set_write_timeout(Some(patience.connect)).map_err(|error| self.source(error))?;
        let agreed: Agreed = match negotiate(Hurried { stream: &stream, until }, &self.export) {
            Ok(agreed) => agreed,
            Err(Failure::Final(error)) => return Err(error.context(&self.label)),
            Err(Failure::Broken(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(self.source("the server closed the connection during the handshake"));
            }
            Err(Failure::Broken(error)) => return Err(self.source(error)),
        };
        tracing::debug!("{}: {agreed:?}", self.label);
        Link::new(stream, agreed, patience.stall).map_err(|error| self.source(error))
    }
}

/// An export that answers by ranges.
struct Export {
    server: Server,
    size: u64,
    link: Mutex<Arc<Link>>,
    /// Set once another size was seen; there is no way back from that.
    changed: OnceLock<Error>,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Export({})", self.server.label)
    }
}

/// Why a try brought nothing.
enum Trouble {
    /// Trying again is of no use.
    Final(Error),
    /// Another connection may help.
    Passing(String),
}

impl Export {
    /// The connection, or another one if it is broken. Whoever comes meanwhile waits for that.
    fn link(&self) -> std::result::Result<Arc<Link>, Trouble> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = self.changed.get() {
            return Err(Trouble::Final(error.clone()));
        }
        if link.is_broken() {
            let fresh = self.server.connect().map_err(|error| Trouble::Passing(error.chain()))?;
            let now = fresh.agreed().size;
            if now != self.size {
                let label = &self.server.label;
                let what = format!(
                    "{label}: changed while it was open: it was {} bytes long, and now is {now}",
                    self.size
                );
                let error = Error::new(ErrorKind::Changed, what);
                let error = error.help("open it again; what was read so far is of the earlier version");
                return Err(Trouble::Final(self.changed.get_or_init(|| error).clone()));
            }
            *link = Arc::new(fresh);
        }
        Ok(Arc::clone(&link))
    }

    fn fault(&self, fault: Fault, doing: &Range<u64>) -> Trouble {
        match fault {
            Fault::Broken(why) => Trouble::Passing(why),
            Fault::Refused(why) => {
                let place = format!("bytes {}-{}", doing.start, doing.end.saturating_sub(1));
                let what = format!("{}: {place}: the server says: {why}", self.server.label);
                Trouble::Final(Error::new(ErrorKind::Io, what))
            }
        }
    }

    /// One try at what `into` still wants.
    fn try_rest(&self, into: &mut Pieces<'_>) -> std::result::Result<(), Trouble> {
        let link = self.link()?;
        let agreed = link.agreed();
        let unit = u64::from(agreed.minimum.max(1));
        let longest = BLOCK.min(agreed.maximum.into());
        let longest = longest.saturating_sub(longest.checked_rem(unit).unwrap_or(0)).max(unit);
        let wanted = into.rest();
        let mut next = wanted.start.saturating_sub(wanted.start.checked_rem(unit).unwrap_or(0));
        // The last block of an export may be torn.
        let end = wanted.end.checked_next_multiple_of(unit).unwrap_or(self.size).min(self.size);
        let mut flying: VecDeque<(Range<u64>, Ticket)> = VecDeque::new();
        let patience = &self.server.patience;
        let mut start = Instant::now();
        loop {
            while flying.len() < WINDOW && next < end {
                let range = next..next.saturating_add(longest).min(end);
                let len = u32::try_from(range.end.saturating_sub(range.start)).unwrap_or(u32::MAX);
                let ticket = link.read(range.start, len).map_err(|fault| self.fault(fault, &range))?;
                next = range.end;
                flying.push_back((range, ticket));
            }
            let Some((range, ticket)) = flying.pop_front() else { return Ok(()) };
            let left = patience.deadline.saturating_sub(start.elapsed());
            match ticket.wait(patience.stall, left).map_err(|fault| self.fault(fault, &range))? {
                Gift::Bytes(bytes) => {
                    let before = into.handed_on();
                    into.put(bytes, &range);
                    if into.handed_on() > before {
                        // The deadline is for a block, and the next one begins.
                        start = Instant::now();
                    }
                }
                Gift::Stretches(_) => return Err(Trouble::Passing("extents instead of bytes".to_owned())),
            }
        }
    }

    /// What the server says of the extents from `offset` on.
    fn stretches(&self, offset: u64) -> std::result::Result<Option<Known>, Trouble> {
        let link = self.link()?;
        let agreed = link.agreed();
        if agreed.allocation.is_none() {
            return Ok(None);
        }
        let unit = u64::from(agreed.minimum.max(1));
        let start = offset.saturating_sub(offset.checked_rem(unit).unwrap_or(0));
        let end = start.saturating_add(STATUS).min(self.size);
        let len = u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX);
        let range = start..end;
        let ticket = link.status(start, len).map_err(|fault| self.fault(fault, &range))?;
        let patience = &self.server.patience;
        let gift =
            ticket.wait(patience.stall, patience.deadline).map_err(|fault| self.fault(fault, &range))?;
        let Gift::Stretches(stretches) = gift else { return Ok(None) };
        let mut at = start;
        let ends = stretches.into_iter().map(|stretch| {
            // The last one may go on behind what was asked for.
            at = at.saturating_add(stretch.len).min(self.size);
            (at, stretch.zero, stretch.hole)
        });
        let mut merged: Vec<(u64, bool, bool)> = Vec::new();
        for (end, zero, hole) in ends {
            match merged.last_mut() {
                Some(last) if (last.1, last.2) == (zero, hole) => last.0 = end,
                _ => merged.push((end, zero, hole)),
            }
        }
        Ok(Some(Known { start, ends: merged }))
    }
}

/// The bytes of a range on their way to whoever wants them, in pieces of a block.
struct Pieces<'a> {
    range: Range<u64>,
    /// Up to where they have come.
    at: u64,
    piece: Vec<u8>,
    take: &'a mut dyn FnMut(Vec<u8>) -> Vec<u8>,
}

impl Pieces<'_> {
    fn rest(&self) -> Range<u64> {
        self.at..self.range.end
    }

    /// Up to where they were handed on.
    fn handed_on(&self) -> u64 {
        self.at.saturating_sub(wide(self.piece.len()))
    }

    /// Takes what of `bytes`, which lie at `place`, is wanted next.
    fn put(&mut self, bytes: Vec<u8>, place: &Range<u64>) {
        let skip = narrow(self.at.saturating_sub(place.start));
        let most = narrow(self.range.end.saturating_sub(place.start)).min(bytes.len());
        let whole = skip == 0 && most == bytes.len() && self.piece.is_empty() && wide(most) == BLOCK;
        if whole {
            self.at = self.at.saturating_add(BLOCK);
            drop((self.take)(bytes));
            return;
        }
        let mut rest = bytes.get(skip..most).unwrap_or_default();
        while !rest.is_empty() {
            let room = narrow(BLOCK).saturating_sub(self.piece.len()).min(rest.len());
            let (now, later) = rest.split_at(room);
            self.piece.extend_from_slice(now);
            self.at = self.at.saturating_add(wide(now.len()));
            if wide(self.piece.len()) == BLOCK || self.at == self.range.end {
                self.piece = (self.take)(std::mem::take(&mut self.piece));
                self.piece.clear();
            }
            rest = later;
        }
    }
}

impl Fetch for Export {
    fn len(&self) -> u64 {
        self.size
    }

    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(Vec<u8>) -> Vec<u8>) -> Result<()> {
        let mut into = Pieces { at: range.start, range, piece: Vec::new(), take };
        let (mut made, mut pause, mut before) = (0_u32, self.server.patience.pause, into.handed_on());
        loop {
            let why = match self.try_rest(&mut into) {
                Ok(()) => return Ok(()),
                Err(Trouble::Final(error)) => {
                    COUNTERS.errors.add(1);
                    return Err(error);
                }
                Err(Trouble::Passing(why)) => why,
            };
            if into.handed_on() > before {
                // It went on: patience begins anew.
                (made, pause, before) = (0, self.server.patience.pause, into.handed_on());
            }
            made = made.saturating_add(1);
            if made >= TRIES {
                COUNTERS.errors.add(1);
                let rest = into.rest();
                let place = format!("bytes {}-{}", rest.start, rest.end.saturating_sub(1));
                let what = format!("{}: {place}: {why} (tried {made} times)", self.server.label);
                return Err(Error::new(ErrorKind::Io, what));
            }
            tracing::debug!("{}: {why}; again in {pause:?}", self.server.label);
            COUNTERS.retries.add(1);
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2);
        }
    }

    fn label(&self) -> String {
        self.server.label.clone()
    }
}

/// What one answer said of extents.
#[derive(Debug, Default)]
struct Known {
    start: u64,
    /// Where each ends; whether it reads as zero, whether nothing is stored for it.
    ends: Vec<(u64, bool, bool)>,
}

impl Known {
    fn extent(&self, offset: u64) -> Option<Extent> {
        let at = self.ends.partition_point(|(end, ..)| *end <= offset);
        let (end, zero, hole) = self.ends.get(at).filter(|_| offset >= self.start)?;
        Some(Extent { len: end.saturating_sub(offset), zero: *zero, hole: *hole })
    }
}

/// The export as a source: its bytes through the cache, its extents from the server.
#[derive(Debug)]
struct Nbd {
    remote: Remote<Export>,
    known: Mutex<Known>,
}

impl Nbd {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockSource for Nbd {
    fn len(&self) -> u64 {
        self.remote.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.remote.read_at(buf, offset)
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        check_range(offset, 1, self.len())?;
        if let Some(extent) = self.known().extent(offset) {
            return Ok(extent);
        }
        match self.remote.far().stretches(offset) {
            Ok(Some(known)) => {
                let extent = known.extent(offset);
                *self.known() = known;
                if let Some(extent) = extent {
                    return Ok(extent);
                }
            }
            Ok(None) => return self.remote.extent(offset),
            // Whether it can be read, the reading will tell.
            Err(Trouble::Final(error)) if error.kind() != ErrorKind::Changed => {
                tracing::debug!("{}", error.chain());
            }
            Err(Trouble::Passing(why)) => tracing::debug!("{}: extents: {why}", self.label()),
            Err(Trouble::Final(error)) => return Err(error),
        }
        let len = UNKNOWN.min(self.len().saturating_sub(offset));
        Ok(Extent { len, zero: false, hole: false })
    }

    fn advise(&self, ranges: &[Range<u64>]) {
        self.remote.advise(ranges);
    }

    fn label(&self) -> String {
        self.remote.label()
    }

    fn preferred_size(&self) -> u32 {
        self.remote.preferred_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Server> {
        Server::parse(&Locator::Url(url.to_owned()), &Patience::default())
    }

    #[test]
    fn urls_name_a_place_and_an_export() {
        let tcp = parse("nbd://[::1]:9000//my%20disk").unwrap();
        assert!(matches!(&tcp.place, Place::Tcp(host, 9000) if host == "::1"));
        assert_eq!(tcp.export, b"/my disk");
        let bare = parse("nbd://h").unwrap();
        assert!(matches!(&bare.place, Place::Tcp(_, 10809)) && bare.export.is_empty());
        let unix = parse("nbd+unix:///disk?x=1&socket=/run/a%20b.sock").unwrap();
        assert!(matches!(&unix.place, Place::Unix(path) if path.as_os_str() == "/run/a b.sock"));
        assert_eq!(unix.label, "nbd+unix:///disk?socket=/run/a b.sock");
    }

    #[test]
    fn urls_that_lead_nowhere_are_refused() {
        for url in
            ["nbd:///x", "nbd://h:x/", "nbd+unix:///x", "nbd+unix://h/x?socket=/s", "nbd+unix:///?socket="]
        {
            assert_eq!(parse(url).unwrap_err().kind(), ErrorKind::Usage, "{url}");
        }
        assert_eq!(parse(&format!("nbd://h/{}", "x".repeat(4096))).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(parse("nbds://h/x").unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn pieces_are_blocks_whatever_comes() {
        let (start, end) = (1000, 1000 + 2 * BLOCK + 77);
        let byte = |at: u64| u8::try_from(at % 251).unwrap();
        let mut got: Vec<Vec<u8>> = Vec::new();
        let mut take = |piece| {
            got.push(piece);
            Vec::new()
        };
        let mut into = Pieces { range: start..end, at: start, piece: Vec::new(), take: &mut take };
        // Aligned to 4096, so that it begins before what is wanted and ends behind it.
        for at in (0..).step_by(4096 * 30).take_while(|at| *at < end) {
            into.put((at..at + 4096 * 30).map(byte).collect(), &(at..at + 4096 * 30));
        }
        assert_eq!(got.iter().map(|piece| wide(piece.len())).collect::<Vec<_>>(), [BLOCK, BLOCK, 77]);
        assert_eq!(got.concat(), (start..end).map(byte).collect::<Vec<u8>>());
    }

    #[test]
    fn known_extents_are_found_by_offset() {
        let known = Known { start: 100, ends: vec![(200, true, false), (300, false, false)] };
        let len = |at| known.extent(at).map(|extent| (extent.len, extent.zero));
        assert_eq!(
            (len(99), len(100), len(199), len(200), len(300)),
            (None, Some((100, true)), Some((1, true)), Some((100, false)), None)
        );
    }
}
