//! One connection to a server: requests go out as they come, answers come back in any order and find their request by its
//! cookie. A thread listens; a link that breaks fails all that wait for it, and is never used again.
//!
//! ```text
//! reader ─ read(offset, len) ─▶ pending[cookie] ─▶ socket ─▶ server
//!        ◀─ Ticket::wait ◀────── pending[cookie] ◀─ listener ◀─ chunks: data, holes, errors, block status
//! ```
//! `doc/proto.md` of the NBD project, "Transmission phase". An answer counts only when every byte of the request was
//! given exactly once.

use super::handshake::{Agreed, take};
use super::stream::Stream;
use crate::counters::COUNTERS;
use crate::nbd_protocol::{CHUNK_MAGIC, REQUEST_MAGIC, SIMPLE_MAGIC, chunk, request};
use crate::num::{narrow, wide};
use crate::text::escape;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// `ESHUTDOWN`: another connection may be served.
const SHUTDOWN: u32 = 108;

/// The longest error chunk: code, length, a string of full length, an offset.
const MAX_ERROR: u32 = 4096 + 64;
/// Bytes of a server's error text that are shown.
const MAX_WORDS: usize = 300;
/// Extents kept of one answer; what lies behind them is asked for again.
const MAX_EXTENTS: usize = 64 << 10;
/// The longest answer about extents, in bytes: nbdkit's own bound, a million of them.
const MAX_STATUS: u32 = 8 << 20;
/// Taken off the socket at a time.
const PART: usize = 64 << 10;

/// A stretch of the export, as `base:allocation` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) len: u64,
    pub(super) hole: bool,
    pub(super) zero: bool,
}

/// What a request brought.
#[derive(Debug)]
pub(super) enum Gift {
    Bytes(Vec<u8>),
    Stretches(Vec<Stretch>),
}

/// Why a request brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server says so; the link is sound.
    Refused(String),
    /// The link is of no use any more; another one may be.
    Broken(String),
}

/// A request that was sent.
#[derive(Debug)]
struct Asked {
    offset: u64,
    /// What the answer must bring, if it is a read.
    bytes: Vec<u8>,
    /// Where of it something has arrived: from, to.
    covered: BTreeMap<u64, u64>,
    stretches: Vec<Stretch>,
    is_read: bool,
    refused: Option<(u32, String)>,
    tell: Sender<Result<Gift, Fault>>,
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<u64, Asked>,
    broken: Option<String>,
    cookie: u64,
}

#[derive(Debug)]
struct Shared {
    stream: Stream,
    agreed: Agreed,
    state: Mutex<State>,
    /// Bytes that have arrived: progress.
    heard: AtomicU64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Entries are put in and taken out whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the link; only the first reason counts.
    fn break_off(&self, why: &str) {
        self.stream.shut_down();
        let pending = {
            let mut state = self.state();
            state.broken.get_or_insert_with(|| why.to_owned());
            std::mem::take(&mut state.pending)
        };
        for asked in pending.into_values() {
            // Whoever asked may have given up.
            let _ = asked.tell.send(Err(Fault::Broken(why.to_owned())));
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    /// Whose turn it is to write.
    writing: Mutex<()>,
}

/// The right to an answer.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    answer: Receiver<Result<Gift, Fault>>,
}

impl Ticket {
    /// The answer, when it comes: no longer than `deadline`, and no longer than `stall` while the server is silent.
    pub(super) fn wait(self, stall: Duration, deadline: Duration) -> Result<Gift, Fault> {
        let start = Instant::now();
        let mut heard = self.shared.heard.load(Ordering::Relaxed);
        loop {
            let left = deadline.saturating_sub(start.elapsed());
            let why = match self.answer.recv_timeout(stall.min(left)) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => "the listener ended".to_owned(),
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.shared.heard.load(Ordering::Relaxed);
                    if now != heard && start.elapsed() < deadline {
                        heard = now;
                        continue;
                    }
                    format!("no answer within {:?}", start.elapsed().min(deadline))
                }
            };
            self.shared.break_off(&why);
            return Err(Fault::Broken(why));
        }
    }
}

impl Link {
    /// Takes over a stream whose handshake is done.
    pub(super) fn new(stream: Stream, agreed: Agreed, stall: Duration) -> io::Result<Self> {
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(Some(stall))?;
        let ears = stream.try_clone()?;
        let shared = Arc::new(Shared { stream, agreed, state: Mutex::default(), heard: AtomicU64::new(0) });
        let listening = Arc::clone(&shared);
        std::thread::Builder::new().name("nbd".to_owned()).spawn(move || {
            let mut listener = Listener { stream: ears, shared: &listening };
            let why = match listener.listen() {
                Ok(never) => match never {},
                Err(Trouble::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    "the server closed the connection".to_owned()
                }
                Err(Trouble::Io(error)) => error.to_string(),
                Err(Trouble::Nonsense(what)) => format!("the server breaks the NBD protocol: {what}"),
            };
            listening.break_off(&why);
        })?;
        Ok(Self { shared, writing: Mutex::default() })
    }

    pub(super) fn agreed(&self) -> &Agreed {
        &self.shared.agreed
    }

    pub(super) fn is_broken(&self) -> bool {
        self.shared.state().broken.is_some()
    }

    /// Asks for bytes.
    pub(super) fn read(&self, offset: u64, len: u32) -> Result<Ticket, Fault> {
        COUNTERS.source_reads.add(1);
        self.ask(request::READ, offset, len, vec![0; narrow(len.into())])
    }

    /// Asks where there is data.
    pub(super) fn status(&self, offset: u64, len: u32) -> Result<Ticket, Fault> {
        self.ask(request::BLOCK_STATUS, offset, len, Vec::new())
    }

    fn ask(&self, kind: u16, offset: u64, len: u32, bytes: Vec<u8>) -> Result<Ticket, Fault> {
        let (tell, answer) = mpsc::channel();
        let asked = Asked {
            offset,
            bytes,
            covered: BTreeMap::new(),
            stretches: Vec::new(),
            is_read: kind == request::READ,
            refused: None,
            tell,
        };
        let cookie = {
            let mut state = self.shared.state();
            if let Some(why) = &state.broken {
                return Err(Fault::Broken(why.clone()));
            }
            state.cookie = state.cookie.wrapping_add(1);
            let cookie = state.cookie;
            state.pending.insert(cookie, asked);
            cookie
        };
        if let Err(error) = self.write(kind, cookie, offset, len) {
            let why = format!("the connection broke: {error}");
            self.shared.break_off(&why);
            return Err(Fault::Broken(why));
        }
        Ok(Ticket { shared: Arc::clone(&self.shared), answer })
    }

    fn write(&self, kind: u16, cookie: u64, offset: u64, len: u32) -> io::Result<()> {
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend(0_u16.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.shared.stream).write_all(&bytes)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A farewell that does not arrive is none the worse for the server: it sees the end.
        let _ = self.write(request::DISC, 0, 0, 0);
        self.shared.break_off("closed");
    }
}

enum Trouble {
    Io(io::Error),
    Nonsense(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Heard<T> = Result<T, Trouble>;

fn nonsense<T>(what: impl Into<String>) -> Heard<T> {
    Err(Trouble::Nonsense(what.into()))
}

/// Nothing is of this type.
enum Never {}

/// The thread that takes answers off the socket.
struct Listener<'a> {
    stream: Stream,
    shared: &'a Shared,
}

impl Listener<'_> {
    fn listen(&mut self) -> Heard<Never> {
        loop {
            match self.read_u32()? {
                SIMPLE_MAGIC => self.simple()?,
                CHUNK_MAGIC if self.shared.agreed.structured => self.chunk()?,
                magic => return nonsense(format!("an answer with the magic number {magic:#x}")),
            }
        }
    }

    fn fill(&mut self, buf: &mut [u8]) -> io::Result<()> {
        for part in buf.chunks_mut(PART) {
            (&self.stream).read_exact(part)?;
            self.shared.heard.fetch_add(wide(part.len()), Ordering::Relaxed);
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn read_u16(&mut self) -> io::Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn read_u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn read_u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Takes a request out of those that wait. It is put back unless its answer is complete.
    fn asked(&self, cookie: u64) -> Heard<Asked> {
        match self.shared.state().pending.remove(&cookie) {
            Some(asked) => Ok(asked),
            None => nonsense("an answer that nobody asked for"),
        }
    }

    /// "Simple reply message".
    fn simple(&mut self) -> Heard<()> {
        let error = self.read_u32()?;
        let cookie = self.read_u64()?;
        let mut asked = self.asked(cookie)?;
        if error != 0 {
            asked.refused = Some((error, String::new()));
        } else if !asked.is_read || self.shared.agreed.structured {
            return self
                .lost(asked, Trouble::Nonsense("a simple answer where chunks were agreed on".to_owned()));
        } else {
            let mut bytes = std::mem::take(&mut asked.bytes);
            if let Err(error) = self.fill(&mut bytes) {
                return self.lost(asked, error.into());
            }
            COUNTERS.source_bytes.add(wide(bytes.len()));
            asked.covered.insert(0, wide(bytes.len()));
            asked.bytes = bytes;
        }
        finish(asked)
    }

    /// Fails a request that is out of the list when the link breaks.
    fn lost(&self, asked: Asked, trouble: Trouble) -> Heard<()> {
        let mut state = self.shared.state();
        state.cookie = state.cookie.wrapping_add(1);
        let cookie = state.cookie;
        // Back among those that are told when the link ends, which is now.
        state.pending.insert(cookie, asked);
        Err(trouble)
    }

    /// "Structured reply chunk message".
    fn chunk(&mut self) -> Heard<()> {
        let flags = self.read_u16()?;
        let kind = self.read_u16()?;
        let cookie = self.read_u64()?;
        let len = self.read_u32()?;
        let mut asked = self.asked(cookie)?;
        let is_last = flags & chunk::DONE != 0;
        if let Err(trouble) = self.content(&mut asked, kind, len, is_last) {
            return self.lost(asked, trouble);
        }
        if is_last && asked.is_read && asked.refused.is_none() && !asked.is_covered() {
            return self.lost(asked, Trouble::Nonsense("a part of what was asked for".to_owned()));
        }
        if is_last {
            return finish(asked);
        }
        self.shared.state().pending.insert(cookie, asked);
        Ok(())
    }

    fn content(&mut self, asked: &mut Asked, kind: u16, len: u32, is_last: bool) -> Heard<()> {
        match kind {
            chunk::NONE if len == 0 && is_last => Ok(()),
            chunk::OFFSET_DATA if asked.is_read && len > 8 => {
                let offset = self.read_u64()?;
                let range = asked.cover(offset, u64::from(len).saturating_sub(8))?;
                let mut bytes = std::mem::take(&mut asked.bytes);
                let Some(place) = bytes.get_mut(range) else { return nonsense("data outside the request") };
                self.fill(place)?;
                COUNTERS.source_bytes.add(wide(place.len()));
                asked.bytes = bytes;
                Ok(())
            }
            chunk::OFFSET_HOLE if asked.is_read && len == 12 => {
                let offset = self.read_u64()?;
                let len = self.read_u32()?;
                // The bytes are zero from the beginning.
                asked.cover(offset, len.into()).map(drop)
            }
            chunk::BLOCK_STATUS if !asked.is_read => self.stretches(asked, len),
            kind if kind & chunk::IS_ERROR != 0 => self.error(asked, len),
            kind => nonsense(format!("a chunk of kind {kind} and {len} bytes")),
        }
    }

    fn stretches(&mut self, asked: &mut Asked, len: u32) -> Heard<()> {
        let count = len.checked_sub(4).filter(|rest| rest.is_multiple_of(8)).map(|rest| rest / 8);
        let Some(count) = count.filter(|count| *count > 0 && len <= MAX_STATUS) else {
            return nonsense(format!("a block status of {len} bytes"));
        };
        if Some(self.read_u32()?) != self.shared.agreed.allocation || !asked.stretches.is_empty() {
            return nonsense("a block status that was not asked for");
        }
        for _ in 0..count {
            let (len, flags) = (self.read_u32()?, self.read_u32()?);
            if len == 0 {
                return nonsense("an extent of no bytes");
            }
            if asked.stretches.len() < MAX_EXTENTS {
                let (hole, zero) = (flags & 1 != 0, flags & 2 != 0);
                asked.stretches.push(Stretch { len: len.into(), hole, zero });
            }
        }
        Ok(())
    }

    fn error(&mut self, asked: &mut Asked, len: u32) -> Heard<()> {
        if len > MAX_ERROR {
            return nonsense(format!("an error of {len} bytes"));
        }
        let mut payload = vec![0; narrow(len.into())];
        self.fill(&mut payload)?;
        let mut rest = payload.as_slice();
        let code = take(&mut rest).map(u32::from_be_bytes);
        let size = take(&mut rest).map(u16::from_be_bytes);
        let words = size.and_then(|size| rest.get(..usize::from(size)));
        let (Some(code), Some(words)) = (code.filter(|code| *code != 0), words) else {
            return nonsense("a torn error");
        };
        let words = words.get(..MAX_WORDS).unwrap_or(words);
        asked.refused.get_or_insert_with(|| (code, escape(words).to_string()));
        Ok(())
    }
}

impl Asked {
    /// Notes that `len` bytes at `offset` have come, and where in the request they belong.
    fn cover(&mut self, offset: u64, len: u64) -> Heard<std::ops::Range<usize>> {
        let start = offset.checked_sub(self.offset);
        let end = start.and_then(|start| start.checked_add(len));
        let (Some(start), Some(end)) = (start, end.filter(|end| *end <= wide(self.bytes.len()))) else {
            return nonsense("data outside the request");
        };
        let before = self.covered.range(..end).next_back().map(|(from, to)| (*from, *to));
        if len == 0 || before.is_some_and(|(_, to)| to > start) {
            return nonsense("the same bytes twice");
        }
        // Neighbours become one, so that answers in order need one entry.
        match before {
            Some((from, to)) if to == start => self.covered.insert(from, end),
            _ => self.covered.insert(start, end),
        };
        Ok(narrow(start)..narrow(end))
    }

    fn is_covered(&self) -> bool {
        let mut next = 0;
        self.covered.iter().all(|(from, to)| *from == std::mem::replace(&mut next, *to))
            && next == wide(self.bytes.len())
    }
}

/// Tells whoever asked.
fn finish(asked: Asked) -> Heard<()> {
    let told = match (asked.refused, asked.is_read) {
        (Some((SHUTDOWN, _)), _) => Err(Fault::Broken("the server is shutting down".to_owned())),
        (Some((code, words)), _) => Err(Fault::Refused(explain(code, &words))),
        (None, true) => Ok(Gift::Bytes(asked.bytes)),
        (None, false) if asked.stretches.is_empty() => {
            Err(Fault::Refused("the server says nothing of its extents".to_owned()))
        }
        (None, false) => Ok(Gift::Stretches(asked.stretches)),
    };
    let _ = asked.tell.send(told);
    Ok(())
}

/// An error of the protocol ("Error values") in words.
fn explain(code: u32, words: &str) -> String {
    let name = match code {
        1 => "operation not permitted",
        5 => "input/output error",
        12 => "the server is out of memory",
        22 => "invalid request",
        28 => "no space left",
        75 => "value too large",
        95 => "not supported",
        _ => "",
    };
    let name = if name.is_empty() { format!("error {code}") } else { name.to_owned() };
    if words.is_empty() { name } else { format!("{name}: {words}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// For what comes, on the slowest machine.
    const LONG: Duration = Duration::from_secs(20);

    /// A link, and the server's end of it.
    fn link(structured: bool) -> (Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let allocation = structured.then_some(9);
        let agreed = Agreed { size: 1 << 30, structured, allocation, minimum: 1, maximum: 1 << 25 };
        (Link::new(Stream::Unix(ours), agreed, LONG).unwrap(), theirs)
    }

    /// The cookie of the next request.
    fn next(server: &mut UnixStream) -> [u8; 8] {
        let mut request = [0; 28];
        server.read_exact(&mut request).unwrap();
        request[8..16].try_into().unwrap()
    }

    fn chunk(cookie: [u8; 8], last: bool, kind: u16, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let flags = u16::from(last).to_be_bytes();
        [&0x668e_33ef_u32.to_be_bytes()[..], &flags, &kind.to_be_bytes(), &cookie, &len, payload].concat()
    }

    fn data(offset: u64, bytes: &[u8]) -> Vec<u8> {
        [&offset.to_be_bytes()[..], bytes].concat()
    }

    fn hole(offset: u64, len: u32) -> Vec<u8> {
        [&offset.to_be_bytes()[..], &len.to_be_bytes()].concat()
    }

    fn bytes(gift: Result<Gift, Fault>) -> Vec<u8> {
        match gift.unwrap() {
            Gift::Bytes(bytes) => bytes,
            Gift::Stretches(_) => panic!("not bytes"),
        }
    }

    /// What a read of 8 bytes at 100 brings when the server answers with these chunks.
    fn answered(chunks: &[(u16, Vec<u8>)]) -> Result<Gift, Fault> {
        let (link, mut server) = link(true);
        let ticket = link.read(100, 8).unwrap();
        let cookie = next(&mut server);
        for (number, (kind, payload)) in chunks.iter().enumerate() {
            let is_last = chunks.get(number.saturating_add(1)).is_none();
            if server.write_all(&chunk(cookie, is_last, *kind, payload)).is_err() {
                // The client has hung up over a chunk before this one, and says so below.
                break;
            }
        }
        ticket.wait(LONG, LONG)
    }

    #[test]
    fn chunks_in_any_order_become_the_bytes() {
        let got = answered(&[(1, data(106, b"gh")), (2, hole(103, 3)), (1, data(100, b"abc"))]);
        assert_eq!(bytes(got), b"abc\0\0\0gh");
    }

    #[test]
    fn answers_find_their_requests_out_of_order() {
        let (link, mut server) = link(false);
        let (first, second) = (link.read(0, 2).unwrap(), link.read(2, 2).unwrap());
        let cookies = [next(&mut server), next(&mut server)];
        for (cookie, text) in [(cookies[1], b"22"), (cookies[0], b"11")] {
            server.write_all(&[&0x6744_6698_u32.to_be_bytes()[..], &[0; 4], &cookie, text].concat()).unwrap();
        }
        assert_eq!(
            (bytes(first.wait(LONG, LONG)), bytes(second.wait(LONG, LONG))),
            (b"11".to_vec(), b"22".to_vec())
        );
    }

    #[test]
    fn an_answer_that_is_not_exactly_the_request_breaks_the_link() {
        let wrong: [&[(u16, Vec<u8>)]; 9] = [
            &[(1, data(100, b"abc"))],
            &[(1, data(100, b"abcdefg")), (1, data(106, b"gh"))],
            &[(1, data(99, b"abcdefgh"))],
            &[(1, data(101, b"abcdefgh"))],
            &[(2, hole(u64::MAX, 8))],
            &[(2, hole(100, 0)), (1, data(100, b"abcdefgh"))],
            &[(1, data(100, b""))],
            &[(3, Vec::new())],
            &[(5, vec![0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0])],
        ];
        for chunks in wrong {
            let got = answered(chunks);
            assert!(matches!(got, Err(Fault::Broken(_))), "{chunks:?}: {got:?}");
        }
    }

    #[test]
    fn an_error_chunk_is_told_escaped_and_leaves_the_link_sound() {
        let error = [&5_u32.to_be_bytes()[..], &[0, 6], b"a \x1b[0m", &100_u64.to_be_bytes()].concat();
        let got = answered(&[(1, data(100, b"abc")), (1 << 15 | 2, error)]);
        assert_eq!(got.unwrap_err(), Fault::Refused("input/output error: a \\x1b[0m".to_owned()));
        assert_eq!(
            answered(&[(1 << 15 | 1, vec![0, 0, 0, 108, 0, 0])]).unwrap_err(),
            Fault::Broken("the server is shutting down".to_owned())
        );
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_read() {
        let (link, mut server) = link(true);
        let ticket = link.read(0, 1).unwrap();
        let mut head = chunk(next(&mut server), true, 1 << 15 | 1, &[]);
        head.truncate(16);
        head.extend(u32::MAX.to_be_bytes());
        server.write_all(&head).unwrap();
        assert!(matches!(ticket.wait(LONG, LONG), Err(Fault::Broken(why)) if why.contains("4294967295")));
        assert!(matches!(link.read(0, 1), Err(Fault::Broken(_))));
    }

    #[test]
    fn a_silent_server_and_one_that_leaves_break_the_link() {
        let (link, server) = link(true);
        let ticket = link.read(0, 1).unwrap();
        let time = Duration::from_millis(300);
        assert!(matches!(ticket.wait(time, time), Err(Fault::Broken(why)) if why.contains("no answer")));
        assert!(link.is_broken());
        drop(server);
        let (link, server) = self::link(true);
        let ticket = link.read(0, 1).unwrap();
        drop(server);
        assert!(matches!(ticket.wait(LONG, LONG), Err(Fault::Broken(_))));
    }

    #[test]
    fn a_block_status_is_taken_apart() {
        let (link, mut server) = link(true);
        let ticket = link.status(0, 4096).unwrap();
        let payload =
            [9_u32, 1024, 3, 2048, 0, 1024, 2].into_iter().flat_map(u32::to_be_bytes).collect::<Vec<u8>>();
        let cookie = next(&mut server);
        server.write_all(&chunk(cookie, true, 5, &payload)).unwrap();
        let Ok(Gift::Stretches(found)) = ticket.wait(LONG, LONG) else { panic!("no stretches") };
        let flags: Vec<_> = found.iter().map(|s| (s.len, s.hole, s.zero)).collect();
        assert_eq!(flags, [(1024, true, true), (2048, false, false), (1024, false, true)]);
    }
}
