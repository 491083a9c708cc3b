//! A file of an FTP server: `ftp://[user:password@]host[:port]/path`, the path relative to where a login leads, absolute
//! with two slashes. The commands are the `suppaftp` crate's; what of the answers is believed is decided here.
//!
//! ```text
//! open   USER PASS, TYPE I, SIZE, MDTM        → length, validator
//!        REST near the end, RETR              → exactly the rest, then the end: ranges work, and the length is true
//! fetch  SIZE, MDTM, before and after         → another → Changed, for ever
//!        EPSV or PASV, REST a, RETR           → as many bytes as wanted; then the data connection is closed
//!        anything that may pass               → again over a new connection, until the deadline
//! ```
//! Each range costs a data connection, so several logins are kept for readers side by side ([`CONNECTIONS`]). Data
//! connections go to the host of the control connection, whatever address the server names: nobody is sent elsewhere.

use super::dial::{self, Authority, Patience};
use super::gate::Given;
use super::{Scheme, SourceCx};
use crate::block::BlockSource;
use crate::cache::remote::{BLOCK, Fetch, Reading, Remote};
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::locator::{Locator, decode};
use crate::num::{narrow, wide};
use crate::text::escape;
use std::fmt;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use suppaftp::types::FileType;
use suppaftp::{FtpError, FtpResult, FtpStream, Mode, Status, TlsStream, TransferStream};

/// FTP servers. With TLS they are known, so that they can be refused by name.
pub const SCHEME: Scheme = Scheme { names: &["ftp", "ftps"], siblings: true, open };

const PORT: u16 = 21;
/// Logins at a time: servers often allow no more than a few from one address.
const CONNECTIONS: usize = 4;
/// Bytes before the end that are read to see whether ranges work.
const TAIL: u64 = 1024;
/// Bytes of a server's words that are shown.
const MAX_WORDS: usize = 300;
/// Less than this in the time of a deadline is no progress.
const LEAST: u64 = 16 << 10;
/// Taken off a data connection at a time.
const PART: usize = 64 << 10;

fn open(given: &Given, cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    open_url(given, &Patience::default(), cx)
}

/// Opens a file behind the cache.
///
/// # Errors
/// `Usage` for a malformed URL; `Source` when the server cannot be reached or says no; `Unsupported` when it does not
/// serve ranges, or only with TLS.
pub fn open_url(given: &Given, patience: &Patience, cx: &SourceCx) -> Result<Arc<dyn BlockSource>> {
    let server = Server::parse(&given.locator, patience)?;
    if let Some(spool) = given.spool(&cx.options)? {
        let (mut session, pin) = server.first()?;
        let label = server.label.clone();
        let data = session.retrieve(&server, 0).map_err(|trouble| server.source(trouble))?;
        let (len, mark) = (pin.len, (Instant::now(), 0));
        let whole = Whole { data: Some(data), at: 0, mark, server, pin, session };
        return spool.pour(&label, Some(len), Box::new(whole));
    }
    let file = server.open()?;
    let connections = cx.options.connections.clamp(1, CONNECTIONS);
    let how = Reading { connections, readahead: cx.options.readahead, shelf: None };
    Ok(Arc::new(Remote::new(file, Arc::clone(&cx.cache), &[], how)))
}

/// What must stay the same for the bytes to stay the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pin {
    len: u64,
    /// What MDTM says, if the server knows it.
    modified: Option<String>,
}

/// Why a try failed.
enum Trouble {
    /// Trying again is of no use.
    Final(Error),
    /// It may pass.
    Passing(String),
}

impl Trouble {
    /// It may pass: `false`. Otherwise the error.
    fn passes(self) -> Tried<bool> {
        match self {
            Self::Passing(_) => Ok(false),
            lasting @ Self::Final(_) => Err(lasting),
        }
    }
}

type Tried<T> = std::result::Result<T, Trouble>;

/// A server, a login, a file.
struct Server {
    host: String,
    port: u16,
    user: Vec<u8>,
    password: Vec<u8>,
    path: Vec<u8>,
    label: String,
    patience: Patience,
    /// It does not know EPSV.
    plain: AtomicBool,
}

impl fmt::Debug for Server {
    /// Without the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ftp({})", self.label)
    }
}

/// Bytes as they are, one character each: file names on servers have all encodings.
#[derive(Debug)]
struct Bytes;

impl suppaftp::Encoding for Bytes {
    fn decode(&self, bytes: &[u8]) -> String {
        bytes.iter().map(|byte| char::from(*byte)).collect()
    }

    fn encode(&self, text: &str) -> io::Result<Vec<u8>> {
        let byte =
            |c: char| u8::try_from(u32::from(c)).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        text.chars().map(byte).collect()
    }
}

/// As [`Bytes`] wants it.
fn chars(bytes: &[u8]) -> String {
    suppaftp::Encoding::decode(&Bytes, bytes)
}

impl Server {
    fn parse(locator: &Locator, patience: &Patience) -> Result<Self> {
        let label = locator.to_string();
        let wrong = |what: &str| {
            let error = Error::new(ErrorKind::Usage, format!("{label}: the URL {what}"));
            error.help("ftp://[USER:PASSWORD@]HOST[:PORT]/PATH")
        };
        let Locator::Url(url) = locator else { return Err(wrong("is a path")) };
        if locator.scheme() == "ftps" {
            let error = Error::unsupported("FTP over TLS").context(&label);
            return Err(
                error.help("most such servers offer the same files by https:// or sftp; fetch it with curl")
            );
        }
        // RFC 1738, section 3.2: FTP has no queries, a question mark is part of the name.
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = Authority::parse(authority).map_err(wrong)?;
        // ";type=i" says what we do anyway.
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.split_once(";type=").map_or(path, |(path, _)| path);
        let path = decode(path);
        if path.is_empty() || path.ends_with(b"/") {
            return Err(wrong("names no file"));
        }
        let user = authority.user.unwrap_or_else(|| b"anonymous".to_vec());
        // RFC 1635: who one is, for the server's log. Nobody's business here.
        let password = authority.password.unwrap_or_else(|| b"anonymous@".to_vec());
        for text in [&user, &password, &path] {
            if text.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
                return Err(wrong("has a line break in it"));
            }
        }
        let port = authority.port.unwrap_or(PORT);
        let plain = AtomicBool::new(false);
        Ok(Self {
            host: authority.host,
            port,
            user,
            password,
            path,
            label,
            patience: patience.clone(),
            plain,
        })
    }

    /// A failure while opening.
    fn source(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Final(error) => error,
            Trouble::Passing(why) => Error::new(ErrorKind::Source, format!("{}: {why}", self.label)),
        }
    }

    /// The server's words about a failure: escaped, short, without the password should it repeat that.
    fn words(&self, error: &FtpError) -> String {
        match error {
            FtpError::ConnectionError(io) => match io.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
                io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
                _ => escape(io.to_string().as_bytes()).to_string(),
            },
            FtpError::UnexpectedResponse(response) => {
                let body = response.body.get(..MAX_WORDS).unwrap_or(&response.body);
                let said = String::from_utf8_lossy(body.trim_ascii()).into_owned();
                let secret = String::from_utf8_lossy(&self.password).into_owned();
                let said = if secret.is_empty() { said } else { said.replace(&secret, "...") };
                format!("the server says: {}", escape(said.as_bytes()))
            }
            other => escape(other.to_string().as_bytes()).to_string(),
        }
    }

    fn passing(&self, error: &FtpError) -> Trouble {
        Trouble::Passing(self.words(error))
    }

    /// Connects and logs in.
    fn log_in(&self) -> Tried<Session> {
        let patience = &self.patience;
        let failed = |error: io::Error| Trouble::Passing(error.to_string());
        let stream = dial::dial(&self.host, self.port, patience.connect).map_err(failed)?;
        let peer = stream.peer_addr().map_err(failed)?.ip();
        stream.set_read_timeout(Some(patience.stall)).map_err(failed)?;
        stream.set_write_timeout(Some(patience.stall)).map_err(failed)?;
        let wire = stream.try_clone().map_err(failed)?;
        let (connect, stall) = (patience.connect, patience.stall);
        let open_data = move |named: SocketAddr| {
            let data = TcpStream::connect_timeout(&SocketAddr::new(peer, named.port()), connect);
            let data = data.map_err(FtpError::ConnectionError)?;
            data.set_read_timeout(Some(stall)).map_err(FtpError::ConnectionError)?;
            Ok(data)
        };
        let ftp = limited(&wire, patience.deadline, || -> Tried<FtpStream> {
            let mut ftp = FtpStream::connect_with_stream(stream).map_err(|error| self.passing(&error))?;
            ftp = ftp.passive_stream_builder(open_data);
            // The address in PASV's answer is not looked at anyway.
            ftp.set_passive_nat_workaround(true);
            ftp.set_encoding(Bytes);
            ftp.login(chars(&self.user), chars(&self.password)).map_err(|error| match &error {
                FtpError::UnexpectedResponse(response)
                    if matches!(response.status, Status::NotLoggedIn | Status::InvalidCredentials) =>
                {
                    let what = format!("{}: {}", self.label, self.words(&error));
                    let error = Error::new(ErrorKind::Source, what);
                    Trouble::Final(
                        error.help("user and password go into the URL: ftp://USER:PASSWORD@HOST/..."),
                    )
                }
                _ => self.passing(&error),
            })?;
            ftp.transfer_type(FileType::Binary).map_err(|error| self.passing(&error))?;
            Ok(ftp)
        })?;
        Ok(Session { ftp, wire, used: false })
    }

    /// The first login, and what the server says of the file.
    fn first(&self) -> Result<(Session, Pin)> {
        let mut session = self.log_in().map_err(|trouble| self.source(trouble))?;
        let path = chars(&self.path);
        let wire = session.wire()?;
        let pin = limited(&wire, self.patience.deadline, || {
            let len = session.ftp.size(&path).map_err(|error| self.no_size(&error))?;
            let modified = match session.ftp.mdtm(&path) {
                Ok(time) => Some(time.to_string()),
                Err(FtpError::UnexpectedResponse(_) | FtpError::BadResponse) => None,
                Err(error) => return Err(self.source(self.passing(&error))),
            };
            Ok(Pin { len: wide(len), modified })
        })?;
        Ok((session, pin))
    }

    fn no_size(&self, error: &FtpError) -> Error {
        let what = format!("{}: {}", self.label, self.words(error));
        match error {
            FtpError::UnexpectedResponse(response)
                if matches!(
                    response.status,
                    Status::BadCommand | Status::NotImplemented | Status::NotImplementedParameter
                ) =>
            {
                Error::new(ErrorKind::Unsupported, format!("{what}: it does not tell lengths (SIZE)"))
                    .help("download the image, and open the file")
            }
            FtpError::UnexpectedResponse(response) if response.status == Status::FileUnavailable => {
                Error::new(ErrorKind::NotFound, what)
            }
            _ => Error::new(ErrorKind::Source, what),
        }
    }

    /// Learns the length, and sees that ranges work.
    fn open(self) -> Result<File> {
        let (mut session, pin) = self.first()?;
        let wire = session.wire()?;
        // Something in front of the tail, or a server that ignores REST would not be found out.
        let tail = TAIL.min(pin.len / 2);
        let at = pin.len.saturating_sub(tail);
        if pin.len > 0 {
            limited(&wire, self.patience.deadline, || {
                let rest = session.ftp.custom_command(format!("REST {at}"), &[Status::RequestFilePending]);
                match rest {
                    Ok(_) => Ok(()),
                    Err(error @ FtpError::UnexpectedResponse(_)) => Err(self.no_ranges(&self.words(&error))),
                    Err(error) => Err(self.source(self.passing(&error))),
                }
            })?;
            let data = session.retrieve(&self, at).map_err(|trouble| self.source(trouble))?;
            let data = limited(&wire, self.patience.deadline, || self.check_tail(data, tail))?;
            limited(&wire, self.patience.deadline, || data.finish())
                .map_err(|error| self.source(self.passing(&error)))?;
        }
        Ok(File { server: self, pin, idle: Mutex::new(vec![session]) })
    }

    fn no_ranges(&self, why: &str) -> Error {
        let error = Error::new(ErrorKind::Unsupported, format!("{}: no ranges (REST): {why}", self.label));
        error.help("fetch it once from start to end: --spool")
    }

    /// Reads what lies behind the offset of the tail: as much as the length promises.
    fn check_tail(&self, data: Data, tail: u64) -> Result<Data> {
        let mut data = data;
        let until = Instant::now().checked_add(self.patience.deadline).unwrap_or_else(Instant::now);
        let (mut got, mut part) = (0_u64, vec![0; PART]);
        while got <= tail && Instant::now() < until {
            match data.read(&mut part) {
                Ok(0) => break,
                Ok(more) => got = got.saturating_add(wide(more)),
                Err(error) => {
                    return Err(self.source(self.passing(&FtpError::ConnectionError(error))));
                }
            }
        }
        if got > tail {
            return Err(self.no_ranges(&format!("more than the last {tail} bytes came")));
        }
        if got < tail {
            let what = format!("{}: {got} bytes came where the length promises {tail}", self.label);
            return Err(Error::new(ErrorKind::Source, what));
        }
        Ok(data)
    }
}

/// A data connection; the library's type has a parameter that it does not name outside.
trait Transfer: Read + Send {
    /// Closes it, and hears what the server says of it.
    fn finish(self: Box<Self>) -> FtpResult<()>;
}

impl<T: TlsStream + Send> Transfer for TransferStream<T> {
    fn finish(self: Box<Self>) -> FtpResult<()> {
        Self::finish(*self)
    }
}

type Data = Box<dyn Transfer>;

/// Does something on a connection that must be over within `time`; then the connection is cut, and it fails.
fn limited<T>(wire: &TcpStream, time: Duration, work: impl FnOnce() -> T) -> T {
    let (done, wait) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = wire.shutdown(Shutdown::Both);
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// One login.
struct Session {
    ftp: FtpStream,
    /// The control connection once more, to cut it.
    wire: TcpStream,
    /// It has served before, and may have been closed since.
    used: bool,
}

impl Session {
    fn wire(&self) -> Result<TcpStream> {
        self.wire
            .try_clone()
            .map_err(|error| Error::new(ErrorKind::Host, "no descriptor left").caused_by(error))
    }

    /// Is it still the same file?
    fn check(&mut self, server: &Server, pin: &Pin) -> Tried<()> {
        let path = chars(&server.path);
        let ftp = &mut self.ftp;
        let changed = |how: String| {
            let what = format!("{}: changed while it was open: {how}", server.label);
            let error = Error::new(ErrorKind::Changed, what);
            Err(Trouble::Final(error.help("open it again; what was read so far is of the earlier version")))
        };
        limited(&self.wire, server.patience.deadline, || {
            let len = ftp.size(&path).map(wide).map_err(|error| server.passing(&error))?;
            if len != pin.len {
                return changed(format!("it was {} bytes long, and now is {len}", pin.len));
            }
            let Some(before) = &pin.modified else { return Ok(()) };
            match ftp.mdtm(&path) {
                Ok(now) if now.to_string() == *before => Ok(()),
                Ok(_) => changed("its modification time is another".to_owned()),
                Err(error) => Err(server.passing(&error)),
            }
        })
    }

    /// Opens a data connection that brings the file from `offset` on.
    fn retrieve(&mut self, server: &Server, offset: u64) -> Tried<Data> {
        let path = chars(&server.path);
        let ftp = &mut self.ftp;
        COUNTERS.source_reads.add(1);
        limited(&self.wire, server.patience.deadline, || -> Tried<Data> {
            loop {
                let plain = server.plain.load(Ordering::Relaxed);
                ftp.set_mode(if plain { Mode::Passive } else { Mode::ExtendedPassive });
                let _ = ftp.resume_transfer(narrow(offset));
                match ftp.retr_as_stream(&path) {
                    Ok(data) => return Ok(Box::new(data)),
                    // RFC 2428 is of 1998, and not everybody has read it; 5yz says that it is this command.
                    Err(FtpError::UnexpectedResponse(response))
                        if !plain
                            && matches!(
                                response.status,
                                Status::BadCommand
                                    | Status::BadArguments
                                    | Status::NotImplemented
                                    | Status::NotImplementedParameter
                                    | Status::Unknown
                            ) =>
                    {
                        server.plain.store(true, Ordering::Relaxed);
                    }
                    Err(error) => return Err(server.passing(&error)),
                }
            }
        })
    }
}

/// A file that answers by ranges.
#[derive(Debug)]
struct File {
    server: Server,
    pin: Pin,
    /// Logins that nobody uses now.
    idle: Mutex<Vec<Session>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

/// The bytes of a range on their way to whoever wants them, in pieces of a block.
struct Pieces<'a> {
    range: Range<u64>,
    /// Up to where they have come.
    at: u64,
    piece: Vec<u8>,
    /// Whole pieces that came since the file was last seen to be the same.
    held: Vec<Vec<u8>>,
    /// Up to where they were handed on.
    handed_on: u64,
    take: &'a mut dyn FnMut(Vec<u8>) -> Vec<u8>,
}

impl Pieces<'_> {
    /// How many bytes may come next.
    fn room(&self) -> usize {
        let piece = narrow(BLOCK).saturating_sub(self.piece.len());
        piece.min(narrow(self.range.end.saturating_sub(self.at)))
    }

    fn put(&mut self, bytes: &[u8]) {
        self.piece.extend_from_slice(bytes);
        self.at = self.at.saturating_add(wide(bytes.len()));
        if wide(self.piece.len()) == BLOCK || self.at == self.range.end {
            self.held.push(std::mem::take(&mut self.piece));
        }
    }

    /// Hands on what was held: the file is still the same.
    fn hand_on(&mut self) {
        for piece in std::mem::take(&mut self.held) {
            self.handed_on = self.handed_on.saturating_add(wide(piece.len()));
            (self.take)(piece);
        }
    }
}

impl File {
    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One try at what `into` still wants. Says whether it was over a login that had served before.
    fn try_rest(&self, into: &mut Pieces<'_>) -> (bool, Tried<()>) {
        let idle = self.idle().pop();
        let mut session = match idle.map_or_else(|| self.server.log_in(), Ok) {
            Ok(session) => session,
            Err(trouble) => return (false, Err(trouble)),
        };
        let used = session.used;
        let tried = self.receive(&mut session, into);
        if let Ok(true) = tried {
            session.used = true;
            self.idle().push(session);
        }
        (used, tried.map(drop))
    }

    /// Fetches over one login. Says whether that can be used again.
    fn receive(&self, session: &mut Session, into: &mut Pieces<'_>) -> Tried<bool> {
        let (server, patience) = (&self.server, &self.server.patience);
        session.check(server, &self.pin)?;
        into.hand_on();
        if into.at == into.range.end {
            return Ok(true);
        }
        let mut data = session.retrieve(server, into.at)?;
        let mut part = vec![0; PART];
        let deadline = || Instant::now().checked_add(patience.deadline).unwrap_or_else(Instant::now);
        let mut until = deadline();
        let trouble = loop {
            let room = into.room().min(PART);
            let Some(place) = part.get_mut(..room).filter(|place| !place.is_empty()) else { break None };
            match data.read(place) {
                Ok(0) => {
                    let left = into.range.end.saturating_sub(into.at);
                    break Some(format!("the data ended {left} bytes too early"));
                }
                Ok(got) => {
                    COUNTERS.source_bytes.add(wide(got));
                    into.put(place.get(..got).unwrap_or_default());
                    if into.piece.is_empty() {
                        // The patience is for a block, and the next one begins.
                        until = deadline();
                    } else if Instant::now() > until {
                        break Some("no more data within the deadline".to_owned());
                    }
                }
                Err(error) => break Some(server.words(&FtpError::ConnectionError(error))),
            }
        };
        // Most transfers are broken off by us; what the server thinks of that is 226, 426 or 451.
        let finished = limited(&session.wire, patience.deadline, || data.finish());
        if let Some(why) = trouble {
            return Err(Trouble::Passing(why));
        }
        let usable = match &finished {
            Ok(()) => true,
            Err(FtpError::UnexpectedResponse(response)) => {
                matches!(response.status, Status::TransferAborted | Status::ActionAborted)
            }
            Err(_) => false,
        };
        // Written to while it came, it would be neither the old file nor the new one.
        if usable && session.check(server, &self.pin).map_or_else(Trouble::passes, |()| Ok(true))? {
            into.hand_on();
            return Ok(true);
        }
        server.log_in()?.check(server, &self.pin)?;
        into.hand_on();
        Ok(false)
    }
}

impl Fetch for File {
    fn len(&self) -> u64 {
        self.pin.len
    }

    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(Vec<u8>) -> Vec<u8>) -> Result<()> {
        let patience = &self.server.patience;
        let (at, handed_on) = (range.start, range.start);
        let mut into = Pieces { at, range, piece: Vec::new(), held: Vec::new(), handed_on, take };
        let (mut start, mut pause, mut made, mut before) = (Instant::now(), patience.pause, 1_u32, handed_on);
        loop {
            let (used, tried) = self.try_rest(&mut into);
            let why = match tried {
                Ok(()) => return Ok(()),
                Err(Trouble::Final(error)) => {
                    COUNTERS.errors.add(1);
                    return Err(error);
                }
                Err(Trouble::Passing(why)) => why,
            };
            if into.handed_on > before {
                // It went on: patience begins anew.
                (start, pause, made, before) = (Instant::now(), patience.pause, 0, into.handed_on);
            }
            COUNTERS.retries.add(1);
            tracing::debug!("{}: {why}; again", self.server.label);
            if used {
                // The server may have closed a login that was idle; the others, too.
                continue;
            }
            if start.elapsed().saturating_add(pause) >= patience.deadline {
                COUNTERS.errors.add(1);
                let place = format!("bytes {}-{}", into.at, into.range.end.saturating_sub(1));
                let times = if made > 1 { format!(" (tried {made} times)") } else { String::new() };
                let what = format!("{}: {place}: {why}{times}", self.server.label);
                return Err(Error::new(ErrorKind::Io, what));
            }
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2).min(Duration::from_secs(5));
            made = made.saturating_add(1);
        }
    }

    fn label(&self) -> String {
        self.server.label.clone()
    }
}

/// All of a file by one transfer, for the spool.
struct Whole {
    data: Option<Data>,
    at: u64,
    /// When and where the current deadline began.
    mark: (Instant, u64),
    server: Server,
    pin: Pin,
    /// Kept open as long as the transfer.
    session: Session,
}

impl Whole {
    fn failed(&self, why: &str) -> io::Error {
        COUNTERS.errors.add(1);
        io::Error::other(Error::new(ErrorKind::Io, format!("{}: {why}", self.server.label)))
    }

    /// Begins the next deadline when enough has arrived in this one.
    fn progress(&mut self) -> io::Result<()> {
        let (since, from) = self.mark;
        let got = self.at.saturating_sub(from);
        if got >= LEAST {
            self.mark = (Instant::now(), self.at);
        } else if since.elapsed() > self.server.patience.deadline {
            return Err(self.failed(&format!("no more than {got} bytes within the deadline")));
        }
        Ok(())
    }

    /// Hears what the server says of the transfer, and sees that the file is still the same.
    fn end(&mut self, data: Data) -> io::Result<()> {
        let (server, session) = (&self.server, &mut self.session);
        let finished = limited(&session.wire, server.patience.deadline, || data.finish());
        if let Err(error) = finished
            && self.at != self.pin.len
        {
            return Err(self.failed(&self.server.words(&error)));
        }
        // A login that was silent for so long may have been closed.
        let mut checked = session.check(server, &self.pin);
        if matches!(checked, Err(Trouble::Passing(_))) {
            checked = server.log_in().and_then(|mut session| session.check(server, &self.pin));
        }
        checked.map_err(|trouble| match trouble {
            Trouble::Final(error) => io::Error::other(error),
            Trouble::Passing(why) => self.failed(&why),
        })
    }
}

impl Read for Whole {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(data) = &mut self.data else { return Ok(0) };
        let got = data.read(buf)?;
        self.at = self.at.saturating_add(wide(got));
        COUNTERS.source_bytes.add(wide(got));
        match self.data.take_if(|_| got == 0) {
            Some(data) => self.end(data)?,
            None => self.progress()?,
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Server> {
        Server::parse(&Locator::Url(url.to_owned()), &Patience::default())
    }

    #[test]
    fn urls_name_a_login_a_host_and_a_file() {
        let full = parse("ftp://me:s%3Acret@h:2121//var/a%20b;x?y.img;type=i").unwrap();
        assert_eq!((full.host.as_str(), full.port), ("h", 2121));
        assert_eq!((full.user.as_slice(), full.password.as_slice()), (&b"me"[..], &b"s:cret"[..]));
        assert_eq!(full.path, b"/var/a b;x?y.img");
        let bare = parse("ftp://h/d.img").unwrap();
        assert_eq!(
            (bare.port, bare.user.as_slice(), bare.path.as_slice()),
            (21, &b"anonymous"[..], &b"d.img"[..])
        );
        assert!(!format!("{full:?}").contains("cret"));
    }

    #[test]
    fn urls_that_lead_nowhere_are_refused() {
        for url in
            ["ftp://h", "ftp://h/", "ftp://h/a/", "ftp:///x", "ftp://h/a%0d%0aDELE%20b", "ftp://u%0a@h/x"]
        {
            assert_eq!(parse(url).unwrap_err().kind(), ErrorKind::Usage, "{url}");
        }
        assert_eq!(parse("ftps://h/x").unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_password_that_the_server_repeats_is_not_shown() {
        let server = parse("ftp://me:hunter2@h/x").unwrap();
        let reply =
            suppaftp::types::Response::new(Status::NotLoggedIn, b"530 hunter2 is \x1b wrong\r\n".to_vec());
        let words = server.words(&FtpError::UnexpectedResponse(reply));
        assert_eq!(words, "the server says: 530 ... is \\x1b wrong");
    }
}
