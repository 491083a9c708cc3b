//! A session: one client that has chosen its export, until it leaves.
//!
//! ```text
//! socket ─▶ inbox ─ one request ────────▶ served here, at once
//!                 └ several ─▶ queue ─┬─▶ served here, one after the other
//!                                     └─▶ idle helpers of the pool take from it too
//! ```
//! Replies leave in the order in which they are ready. While this thread serves, it reads no further requests: a
//! client that takes no replies, or asks for more than it gets, is held back by its own socket.

use super::Shared;
use super::context::Context;
use super::export::{Export, MAX_REQUEST};
use super::handshake::Agreed;
use super::pool::Busy;
use super::reply::{Buffer, CHUNK, Failure};
use super::request::{Asked, Inbox};
use super::seat::Seat;
use super::socket::Socket;
use super::turn::{Turn, Turns};
use crate::block::check_range;
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind};
use crate::nbd_protocol::replies::Head;
use crate::nbd_protocol::requests::{Request, StatusPayload};
use crate::nbd_protocol::{Errno, Style, command_flag as flag, request as kinds};
use crate::num::{narrow, wide};
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A hole shorter than this is sent as the zeros it is: a chunk of its own would cost more.
const HOLE_WORTH: u64 = 32 << 10;
/// Work for which waking a helper pays, in nanoseconds: some times what the waking costs.
const HELP_WORTH: u64 = 60_000;
/// Bytes that one request to cache has read ahead: what a remote source fetches in some seconds.
const MAX_ADVICE: u64 = 64 << 20;
/// How long zeros are known without asking: a file that is written to while it is served is noticed by asking.
const ZEROS_KEEP: Duration = Duration::from_millis(100);

/// One client in the transmission phase.
#[derive(Debug)]
pub(super) struct Session {
    socket: Socket,
    export: Arc<Export>,
    style: Style,
    contexts: Vec<Context>,
    shared: Arc<Shared>,
    queue: Mutex<VecDeque<Asked>>,
    turns: Turns,
    broken: AtomicBool,
    /// The extent that was last asked for: neighbouring reads lie in it.
    extent: Mutex<Option<Stretch>>,
    /// What a request takes here, in nanoseconds: a running mean.
    pace: AtomicU64,
    /// Given back when the last thread lets go of the session.
    _seat: Seat,
}

/// Bytes of the export that are all zero, or may not be.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: u64,
    end: u64,
    zero: bool,
    /// When the source was asked.
    asked: Instant,
}

impl Stretch {
    /// Does it say anything of the byte there? Of data only that it has to be read, and that never grows old.
    fn covers(&self, offset: u64) -> bool {
        (self.start..self.end).contains(&offset) && (!self.zero || self.asked.elapsed() < ZEROS_KEEP)
    }
}

/// How serving a request can end early.
enum Stop {
    /// With an error that the client is told.
    Failed(Failure),
    /// With the client gone.
    Gone,
    /// With the client taking nothing: a helper has others to serve.
    PutOff,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(super) fn new(socket: Socket, agreed: Agreed, shared: Arc<Shared>) -> Self {
        Self {
            socket,
            export: agreed.export,
            style: agreed.style,
            contexts: agreed.contexts,
            shared,
            queue: Mutex::default(),
            turns: Turns::default(),
            broken: AtomicBool::new(false),
            extent: Mutex::default(),
            pace: AtomicU64::new(0),
            _seat: agreed.seat,
        }
    }

    /// Drops the client; every thread that serves it notices.
    pub(super) fn hang_up(&self) {
        self.broken.store(true, Ordering::Release);
        self.socket.hang_up();
    }

    /// Serves the client until it leaves.
    pub(super) fn run(self: &Arc<Self>) {
        let (mut inbox, mut buffer, mut more) = (Inbox::new(self.style), Buffer::default(), Vec::new());
        // An error of the socket and an orderly end are the same from here on: nobody is left to tell.
        while let Ok(Some(mut first)) = inbox.next(&self.socket) {
            let mut open = true;
            // Payload is waited for, so nothing that others need is held, and nobody is counted as busy yet.
            while open && inbox.has_request() {
                match inbox.next(&self.socket) {
                    Ok(Some(asked)) => more.push(asked),
                    _ => open = false,
                }
            }
            let busy = self.shared.pool.busy();
            if !more.is_empty() {
                let mut queue = lock(&self.queue);
                queue.extend(more.drain(..));
                let waiting = queue.len();
                drop(queue);
                self.shared.pool.offer(self, self.helpers_for(waiting));
            }
            // A session's own thread is never put off.
            self.serve(&mut first, &mut buffer, &busy);
            self.serve_queue(&mut buffer, &busy);
            drop(busy);
            if !open {
                break;
            }
        }
    }

    /// How many helpers are worth waking for so many requests.
    fn helpers_for(&self, waiting: usize) -> usize {
        let work = wide(waiting).saturating_mul(self.pace.load(Ordering::Relaxed));
        waiting.min(narrow(work.checked_div(HELP_WORTH).unwrap_or(0)))
    }

    /// Serves what is queued, together with whoever else does.
    pub(super) fn serve_queue(&self, buffer: &mut Buffer, busy: &Busy<'_>) {
        loop {
            let Some(mut asked) = lock(&self.queue).pop_front() else { return };
            if !self.serve(&mut asked, buffer, busy) {
                lock(&self.queue).push_front(asked);
                // Who has the turn now looks here when it is over; if nobody has it, that may have been before.
                if self.turns.are_taken() {
                    return;
                }
            }
        }
    }

    /// `false`: a helper was put off, and the request is to be queued again.
    fn serve(&self, asked: &mut Asked, buffer: &mut Buffer, busy: &Busy<'_>) -> bool {
        if self.broken.load(Ordering::Acquire) {
            return true;
        }
        let start = Instant::now();
        // A fault of ours in a driver costs this client its connection, and nobody else anything.
        let end = catch_unwind(AssertUnwindSafe(|| self.reply(asked, buffer, busy)));
        buffer.sent();
        match end {
            Ok(Ok(())) => {}
            Ok(Err(Stop::PutOff)) => return false,
            _ => self.hang_up(),
        }
        let took = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let pace = self.pace.load(Ordering::Relaxed);
        self.pace.store(pace.saturating_mul(7).saturating_add(took) / 8, Ordering::Relaxed);
        COUNTERS.requests.add(1);
        true
    }

    /// Answers one request, or tells why not. Failures are told to the client.
    fn reply(&self, asked: &mut Asked, buffer: &mut Buffer, busy: &Busy<'_>) -> Result<(), Stop> {
        let request = asked.request;
        let request = &request;
        let unexpected = self.style == Style::Extended
            && request.flags & flag::PAYLOAD_LEN != 0
            && !matches!(request.kind, kinds::WRITE | kinds::BLOCK_STATUS);
        let done = match request.kind {
            _ if unexpected => Err(Failure::new(Errno::Inval, "this command takes no payload").into()),
            kinds::READ => self.read(asked, buffer, busy),
            kinds::BLOCK_STATUS => self.block_status(asked, buffer).map_err(Stop::from),
            kinds::CACHE => self.advise(request, buffer).map_err(Stop::from),
            kinds::FLUSH if request.flags == 0 => {
                self.head(request).done(buffer.out());
                Ok(())
            }
            kinds::WRITE | kinds::TRIM | kinds::WRITE_ZEROES => {
                Err(Failure::new(Errno::Perm, "the export is read-only").into())
            }
            kinds::FLUSH => Err(Failure::new(Errno::Inval, "a flush takes no flags").into()),
            _ => Err(Failure::new(Errno::Inval, "unknown command").into()),
        };
        match done {
            Ok(()) => {}
            Err(Stop::Failed(failure)) => {
                self.head(request).error(buffer.out(), failure.errno, &failure.message(), failure.offset);
            }
            Err(stop) => return Err(stop),
        }
        self.send_waiting(buffer, busy)
    }

    /// What all headers of the reply to this request repeat.
    const fn head(&self, request: &Request) -> Head {
        Head { style: self.style, cookie: request.cookie, offset: request.offset }
    }

    fn turn(&self, busy: &Busy<'_>) -> Result<Turn<'_>, Stop> {
        self.turns.take(&self.socket, busy).ok_or(Stop::PutOff)
    }

    /// Sends a part of a message within a turn.
    fn send_in(&self, turn: &Turn<'_>, bytes: &[u8], busy: &Busy<'_>) -> io::Result<()> {
        turn.send(bytes, self.shared.stall, busy)
    }

    /// Sends whole messages.
    fn send(&self, bytes: &[u8], busy: &Busy<'_>) -> Result<(), Stop> {
        let turn = self.turn(busy)?;
        self.send_in(&turn, bytes, busy)?;
        turn.end();
        Ok(())
    }

    fn send_waiting(&self, buffer: &mut Buffer, busy: &Busy<'_>) -> Result<(), Stop> {
        if !buffer.waiting().is_empty() {
            self.send(buffer.waiting(), busy)?;
            buffer.sent();
        }
        Ok(())
    }

    /// Flags that are known, a length we answer, a range that exists.
    fn check(&self, request: &Request, known: u16, most: u64) -> Result<(), Failure> {
        if request.flags & !known != 0 {
            return Err(Failure::new(Errno::Inval, "a flag that this command does not take"));
        }
        if request.length > most {
            return Err(Failure::new(Errno::Inval, "more than 32 MiB in one request"));
        }
        check_range(request.offset, narrow(request.length), self.export.source.len())
            .map_err(|error| Failure { errno: Errno::Inval, text: error.chain(), offset: None })
    }

    fn advise(&self, request: &Request, buffer: &mut Buffer) -> Result<(), Failure> {
        self.check(request, 0, u64::MAX)?;
        let end = request.offset.saturating_add(request.length.min(MAX_ADVICE));
        self.export.source.advise(std::slice::from_ref(&(request.offset..end)));
        self.head(request).done(buffer.out());
        Ok(())
    }

    /// What is known about the bytes from `offset` on. A source that cannot tell says so when it is read.
    fn stretch(&self, offset: u64) -> Option<Stretch> {
        let last = *lock(&self.extent);
        if let Some(last) = last.filter(|last| last.covers(offset)) {
            return Some(last);
        }
        let asked = Instant::now();
        let extent = self.export.source.extent(offset).ok()?;
        let end = offset.saturating_add(extent.len.max(1));
        let found = Stretch { start: offset, end, zero: extent.zero, asked };
        *lock(&self.extent) = Some(found);
        Some(found)
    }

    fn read(&self, asked: &mut Asked, buffer: &mut Buffer, busy: &Busy<'_>) -> Result<(), Stop> {
        let request = asked.request;
        let request = &request;
        let chunks = self.style.has_chunks();
        self.check(request, if chunks { flag::DF } else { 0 }, MAX_REQUEST.into())?;
        if request.length == 0 {
            self.head(request).done(buffer.out());
        } else if chunks && request.flags & flag::DF == 0 {
            self.read_in_chunks(request, &mut asked.sent, buffer, busy)?;
        } else {
            self.read_whole(request, buffer, busy)?;
        }
        COUNTERS.bytes_served.add(request.length);
        Ok(())
    }

    /// A structured reply: a chunk for each piece of data, and one without data for each hole. Of its data, `sent` bytes
    /// have left.
    fn read_in_chunks(
        &self,
        request: &Request,
        sent: &mut u64,
        buffer: &mut Buffer,
        busy: &Busy<'_>,
    ) -> Result<(), Stop> {
        let mut at = request.offset.saturating_add(*sent);
        let end = request.offset.saturating_add(request.length);
        while at < end {
            let left = end.saturating_sub(at);
            let stretch = if left >= HOLE_WORTH { self.stretch(at) } else { None };
            let known = stretch.map_or(left, |stretch| stretch.end.saturating_sub(at)).min(left);
            let is_hole = stretch.is_some_and(|stretch| stretch.zero) && known >= HOLE_WORTH;
            if is_hole {
                let last = known == left;
                self.head(request).hole(buffer.out(), last, at, known);
                at = at.saturating_add(known);
                if buffer.is_crowded() {
                    self.send_waiting(buffer, busy)?;
                    *sent = at.saturating_sub(request.offset);
                }
                continue;
            }
            // Past a hole that is too short to tell, the read goes on: it costs less than another chunk.
            let cut = if stretch.is_some_and(|stretch| stretch.zero) { left } else { known };
            let len = cut.min(wide(CHUNK));
            let read = self.export.source.read_at(buffer.data(narrow(len)), at);
            read.map_err(|error| Failure::read(&error, at))?;
            self.head(request).data(buffer.out(), len == left, at, len);
            self.send(buffer.with_data(narrow(len)), busy)?;
            at = at.saturating_add(len);
            *sent = at.saturating_sub(request.offset);
        }
        Ok(())
    }

    /// A reply in one piece: simple, or one chunk that must not be fragmented.
    fn read_whole(&self, request: &Request, buffer: &mut Buffer, busy: &Busy<'_>) -> Result<(), Stop> {
        let (offset, len) = (request.offset, request.length);
        if self.style.has_chunks() && len >= HOLE_WORTH {
            let zero = self.stretch(offset).filter(|stretch| stretch.zero);
            if zero.is_some_and(|stretch| stretch.end.saturating_sub(offset) >= len) {
                self.head(request).hole(buffer.out(), true, offset, len);
                return Ok(());
            }
        }
        let header = |buffer: &mut Buffer| self.head(request).data(buffer.out(), true, offset, len);
        let source = &self.export.source;
        let failed = |error: &Error| Failure::read(error, offset);
        if len <= wide(CHUNK) {
            source.read_at(buffer.data(narrow(len)), offset).map_err(|error| failed(&error))?;
            header(buffer);
            self.send(buffer.with_data(narrow(len)), busy)?;
            return Ok(());
        }
        if let Some(mut whole) = self.shared.whole_replies.take(len) {
            source.read_at(&mut whole.bytes, offset).map_err(|error| failed(&error))?;
            header(buffer);
            let turn = self.turn(busy)?;
            self.send_in(&turn, buffer.waiting(), busy)?;
            buffer.sent();
            self.send_in(&turn, &whole.bytes, busy)?;
            turn.end();
            return Ok(());
        }
        self.stream_whole(request, buffer, busy, header)
    }

    /// As [`Self::read_whole`] where memory is short: sent as it is read. After the header an error can only be told by
    /// hanging up, as the specification demands.
    fn stream_whole(
        &self,
        request: &Request,
        buffer: &mut Buffer,
        busy: &Busy<'_>,
        header: impl Fn(&mut Buffer),
    ) -> Result<(), Stop> {
        let (mut at, mut left) = (request.offset, request.length);
        let mut turn = None;
        while left > 0 {
            let len = left.min(wide(CHUNK));
            match self.export.source.read_at(buffer.data(narrow(len)), at) {
                Ok(()) => {}
                Err(_) if turn.is_some() => return Err(Stop::Gone),
                Err(error) => return Err(Failure::read(&error, at).into()),
            }
            if turn.is_none() {
                header(buffer);
                turn = Some(self.turn(busy)?);
                turn.iter().for_each(Turn::takes_long);
            }
            if let Some(turn) = &turn {
                self.send_in(turn, buffer.with_data(narrow(len)), busy)?;
            }
            at = at.saturating_add(len);
            left = left.saturating_sub(len);
        }
        turn.into_iter().for_each(Turn::end);
        Ok(())
    }

    fn block_status(&self, asked: &Asked, buffer: &mut Buffer) -> Result<(), Failure> {
        let mut request = asked.request;
        let mut contexts = self.contexts.clone();
        let mut known = flag::REQ_ONE;
        if self.style == Style::Extended && request.flags & flag::PAYLOAD_LEN != 0 {
            let chosen = asked.choice.as_ref().and_then(|choice| self.chosen(choice));
            let Some(chosen) = chosen else {
                let why = "the payload is not a length and metadata contexts that were agreed on, each once";
                return Err(Failure::new(Errno::Inval, why));
            };
            (request.length, contexts) = chosen;
            known |= flag::PAYLOAD_LEN;
        }
        if contexts.is_empty() {
            return Err(Failure::new(Errno::Inval, "no metadata context was agreed on"));
        }
        if request.length == 0 {
            return Err(Failure::new(Errno::Inval, "the status of no bytes"));
        }
        self.check(&request, known, u64::MAX)?;
        let range = request.offset..request.offset.saturating_add(request.length);
        let one = request.flags & flag::REQ_ONE != 0;
        let mut answers = Vec::new();
        for context in contexts {
            let statuses = context.statuses(&self.export.source, &range, one).map_err(|(at, error)| {
                let failure = Failure::read(&error, at);
                // A file that has changed is bad all over.
                if error.kind() == ErrorKind::Changed { Failure { offset: None, ..failure } } else { failure }
            })?;
            answers.push((context, statuses));
        }
        let count = answers.len();
        for (number, (context, statuses)) in (1..).zip(answers) {
            self.head(&request).status(buffer.out(), number == count, context.id(), &statuses);
        }
        Ok(())
    }

    /// The range and the contexts that a client chose, unless one was not agreed on or stands there twice.
    fn chosen(&self, choice: &StatusPayload) -> Option<(u64, Vec<Context>)> {
        let mut chosen = Vec::new();
        for id in &choice.contexts {
            let context = Context::of_id(*id).filter(|context| self.contexts.contains(context))?;
            if chosen.contains(&context) {
                return None;
            }
            chosen.push(context);
        }
        Some((choice.length, chosen))
    }
}
