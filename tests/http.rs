//! Images on web servers: every byte handed out is the file's, whatever the server does. The server is a small one of
//! our own, so that it can misbehave on purpose; the bytes it serves are the oracle.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
#[path = "http/cache_dir.rs"]
mod cache_dir;
mod common;
#[path = "http/renew.rs"]
mod renew;
#[path = "http/siblings.rs"]
mod siblings;
#[path = "http/spool.rs"]
mod spool;
#[path = "http/waiting.rs"]
mod waiting;

use common::process::{Reaped, wait_for};
use imgmount::block::BlockSource;
use imgmount::cache::Cache;
use imgmount::error::{Error, ErrorKind};
use imgmount::locator::Locator;
use imgmount::source::gate::Given;
use imgmount::source::http::{Tuning, open_url};
use imgmount::source::{Options, SourceCx};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

// ---- the server ----

/// A request as the server saw it.
#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    /// Its number on this server, from 0.
    number: u64,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// First and last byte asked for.
    fn range(&self) -> (u64, u64) {
        let (first, last) =
            self.header("range").unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        (first.parse().unwrap(), last.parse().unwrap())
    }

    /// Is it one of those that open the object?
    fn opens(&self) -> bool {
        self.range() == (0, HEAD - 1)
    }
}

/// An answer, right or wrong.
#[derive(Clone)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    cut: Option<usize>,
    /// Say nothing for so long first.
    stall: Duration,
    /// Send the body in pieces of so many bytes, with pauses.
    drip: Option<(usize, Duration)>,
    /// Header and body without `Content-Length`, in chunks.
    chunked: bool,
}

impl Reply {
    fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            stall: Duration::ZERO,
            drip: None,
            chunked: false,
        }
    }

    /// What a good server answers: RFC 9110, section 14.
    fn right(file: &[u8], request: &Request) -> Self {
        let (first, last) = request.range();
        let end = (last + 1).min(file.len() as u64);
        if first >= file.len() as u64 {
            return Self::new(416).with("Content-Range", &format!("bytes */{}", file.len()));
        }
        let mut reply = Self::new(206)
            .with("Content-Range", &format!("bytes {first}-{}/{}", end - 1, file.len()))
            .with("ETag", "\"v1\"")
            .with("Last-Modified", "Mon, 02 Feb 2026 02:02:02 GMT");
        reply.body = file[first as usize..end as usize].to_vec();
        reply
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }

    fn body(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(&mut self.body);
        self
    }

    /// Sends it; `false` when the connection is to be closed.
    fn send(&self, stream: &mut impl Write) -> std::io::Result<bool> {
        std::thread::sleep(self.stall);
        let mut head = format!("HTTP/1.1 {} X\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.headers.iter().any(|(name, _)| name == "Content-Length") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        let body = &self.body[..self.cut.unwrap_or(self.body.len()).min(self.body.len())];
        let (size, pause) = self.drip.unwrap_or((1 << 20, Duration::ZERO));
        for piece in body.chunks(size) {
            if self.chunked {
                write!(stream, "{:x}\r\n", piece.len())?;
            }
            stream.write_all(piece)?;
            if self.chunked {
                stream.write_all(b"\r\n")?;
            }
            stream.flush()?;
            std::thread::sleep(pause);
        }
        if self.chunked && self.cut.is_none() {
            stream.write_all(b"0\r\n\r\n")?;
        }
        stream.flush()?;
        Ok(self.cut.is_none())
    }
}

type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// Answers the requests of one connection.
fn converse(input: impl Read, mut output: impl Write, handler: &Handler, seen: &Mutex<Vec<Request>>) {
    let mut input = BufReader::new(input);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match input.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                Ok(_) => lines.push(line.trim().to_owned()),
            }
        }
        let mut words = lines[0].split(' ').map(str::to_owned);
        let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
        let mut request = Request {
            method: words.next().unwrap(),
            path: words.next().unwrap(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            number: 0,
        };
        {
            let mut seen = seen.lock().unwrap();
            request.number = seen.len() as u64;
            seen.push(request.clone());
        }
        if !handler(&request).send(&mut output).unwrap_or(false) {
            return;
        }
    }
}

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    closing: Arc<AtomicBool>,
}

impl Server {
    fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").unwrap(), handler)
    }

    fn start_at(listener: TcpListener, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let server =
            Self { address: listener.local_addr().unwrap(), seen: Arc::default(), closing: Arc::default() };
        let (seen, closing) = (Arc::clone(&server.seen), Arc::clone(&server.closing));
        let handler: Handler = Arc::new(handler);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if closing.load(Ordering::SeqCst) {
                    return;
                }
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    converse(stream.try_clone().unwrap(), stream, &handler, &seen);
                });
            }
        });
        server
    }

    /// Serves `file` as a good server does.
    fn serving(file: &Arc<Vec<u8>>) -> Self {
        let file = Arc::clone(file);
        Self::start(move |request| Reply::right(&file, request))
    }

    /// Serves `file` well, and lets `change` spoil each answer but the one that opens it.
    fn spoiling(
        file: &Arc<Vec<u8>>,
        change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let file = Arc::clone(file);
        Self::start(move |request| {
            let right = Reply::right(&file, request);
            if request.opens() { right } else { change(request, right) }
        })
    }

    fn url(&self) -> String {
        format!("http://{}/disk.img", self.address)
    }

    fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        for request in self.requests() {
            assert_eq!(request.method, "GET", "nothing but GET is ever asked");
        }
    }
}

// ---- the client under test ----

/// Bytes that opening asks for.
const HEAD: u64 = 64 << 10;

/// Would wait for a minute: whatever ends or is asked for again, a slow machine is not why.
fn patient() -> Tuning {
    let minute = Duration::from_secs(60);
    Tuning {
        head: HEAD,
        connect: minute,
        stall: minute,
        deadline: minute,
        opening: minute,
        pause: Duration::from_millis(5),
        roots: None,
        command: minute,
        interval: minute,
        ..Tuning::default()
    }
}

/// Gives up soon: for servers that do not get well. On a slow machine it may do so with one that is well, and ask again.
fn hasty() -> Tuning {
    let (stall, deadline) = (Duration::from_millis(300), Duration::from_millis(1500));
    Tuning { stall, deadline, ..patient() }
}

/// At once, on the slowest machine.
const SOON: Duration = Duration::from_secs(15);

fn open_with(url: &str, tuning: &Tuning, cache: u64) -> Result<Arc<dyn BlockSource>, Error> {
    let given = Given::open(Locator::parse(url.as_ref()), &[]).unwrap();
    let cx = SourceCx { cache: Arc::new(Cache::new(cache)), options: Arc::default() };
    open_url(&given, tuning, &cx)
}

/// With what the user said about sources.
fn open_as(url: &str, options: Options) -> Result<Arc<dyn BlockSource>, Error> {
    open_as_with(url, &patient(), options)
}

fn open_as_with(url: &str, tuning: &Tuning, options: Options) -> Result<Arc<dyn BlockSource>, Error> {
    let given = Given::open(Locator::parse(url.as_ref()), &[]).unwrap();
    let cx = SourceCx { options: Arc::new(options), ..SourceCx::default() };
    open_url(&given, tuning, &cx)
}

fn open(url: &str) -> Result<Arc<dyn BlockSource>, Error> {
    open_with(url, &patient(), 64 << 20)
}

fn read(source: &Arc<dyn BlockSource>, offset: u64, len: u64) -> Result<Vec<u8>, Error> {
    let mut buf = vec![0x5a; len as usize];
    source.read_at(&mut buf, offset).map(|()| buf)
}

/// Bytes without any pattern that a wrong offset could keep.
fn noise(len: usize) -> Arc<Vec<u8>> {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    Arc::new(bytes)
}

/// A generator for the test's own choices; the seed makes a run repeatable.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// The read after the first answer fails, in time, with this kind and this text, and gives no byte.
fn assert_fails(server: &Server, kind: ErrorKind, text: &str) {
    // Only what is of this kind is tried again, until the deadline.
    let tuning = if kind == ErrorKind::Io { hasty() } else { patient() };
    assert_fails_with(server, &tuning, kind, text);
}

/// The same with this patience.
fn assert_fails_with(server: &Server, tuning: &Tuning, kind: ErrorKind, text: &str) {
    let source = open_with(&server.url(), tuning, 64 << 20).unwrap();
    let failure = || {
        let start = Instant::now();
        let error = read(&source, 1 << 20, 5000).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
        assert_eq!(error.kind(), kind, "{error}");
        error.to_string()
    };
    // The deadline may fall into the last try, and then the error tells of that alone: not ten times in a row.
    let cut_off = |said: &String| said.contains("deadline") || said.contains("timed out");
    let mut said = failure();
    for _ in 0..9 {
        if said.contains(text) || !cut_off(&said) {
            break;
        }
        said = failure();
    }
    assert!(said.contains(text), "{said}");
}

const MIB: usize = 1 << 20;

// ---- a good server ----

#[test]
fn every_range_equals_the_file() {
    let file = noise(3 * MIB + 4321);
    let server = Server::serving(&file);
    for cache in [64 << 20, 8 << 20, 0] {
        let source = open_with(&server.url(), &patient(), cache).unwrap();
        assert_eq!(source.len(), file.len() as u64);
        let mut dice = Dice(cache + 1);
        for _ in 0..150 {
            let offset = dice.roll(file.len() as u64);
            let len = (1 + dice.roll(400_000)).min(file.len() as u64 - offset);
            let got = read(&source, offset, len).unwrap();
            assert!(got == file[offset as usize..][..len as usize], "{len} bytes at {offset}, cache {cache}");
        }
        assert_eq!(read(&source, 0, source.len()).unwrap(), *file);
        assert_eq!(read(&source, source.len(), 1).unwrap_err().kind(), ErrorKind::OutOfRange);
    }
}

#[test]
fn chunked_answers_without_a_length_are_read() {
    let file = noise(2 * MIB);
    let server = Server::start({
        let file = Arc::clone(&file);
        move |request| Reply {
            chunked: true,
            drip: Some((10_000, Duration::ZERO)),
            ..Reply::right(&file, request)
        }
    });
    let source = open(&server.url()).unwrap();
    assert_eq!(read(&source, 0, source.len()).unwrap(), *file);
}

#[test]
fn an_empty_object_is_empty_by_416_and_by_200() {
    let by_416 = Server::serving(&noise(0));
    assert_eq!(open(&by_416.url()).unwrap().len(), 0);
    let by_200 = Server::start(|_| Reply::new(200));
    assert_eq!(open(&by_200.url()).unwrap().len(), 0);
}

#[test]
fn an_object_shorter_than_the_first_request_takes_one_request() {
    let file = noise(5000);
    let server = Server::serving(&file);
    let source = open(&server.url()).unwrap();
    assert_eq!(read(&source, 0, 5000).unwrap(), *file);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn nothing_but_the_identity_coding_is_asked_for() {
    let server = Server::serving(&noise(100));
    open(&server.url()).unwrap();
    assert_eq!(server.requests()[0].header("accept-encoding"), Some("identity"));
    assert_eq!(server.requests()[0].header("range"), Some("bytes=0-65535"));
}

/// Reads all of an object, with advice; how many requests there were at a time.
fn at_a_time(options: Options) -> u64 {
    let file = noise(24 * MIB);
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let server = Server::start({
        let (file, now, most) = (Arc::clone(&file), Arc::clone(&now), Arc::clone(&most));
        move |request| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            now.fetch_sub(1, Ordering::SeqCst);
            Reply::right(&file, request)
        }
    });
    let source = open_as(&server.url(), options).unwrap();
    source.advise(&[20 << 20..22 << 20, 22 << 20..24 << 20]);
    assert!(read(&source, 0, source.len()).unwrap() == *file);
    most.load(Ordering::SeqCst)
}

#[test]
fn eight_requests_at_a_time_are_the_most() {
    let most = at_a_time(Options::default());
    assert!((2..=8).contains(&most), "{most} at a time");
}

#[test]
fn no_more_requests_at_a_time_than_the_user_allows() {
    assert!(at_a_time(Options { connections: 2, ..Options::default() }) <= 2);
    assert_eq!(at_a_time(Options { connections: 1, ..Options::default() }), 1);
}

// ---- servers that can not, or will not ----

#[test]
fn a_server_without_ranges_is_unsupported_with_help() {
    let server = Server::start(|_| Reply::new(200).body(|body| body.extend_from_slice(&[7; 100_000])));
    let error = open(&server.url()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.help_text().unwrap().contains("--spool"), "{error}");
}

#[test]
fn an_encoded_answer_is_unsupported() {
    let file = noise(100);
    let server = Server::start(move |request| Reply::right(&file, request).with("Content-Encoding", "gzip"));
    let error = open(&server.url()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("gzip"), "{error}");
}

#[test]
fn an_unknown_length_is_unsupported() {
    let file = noise(100);
    let server =
        Server::start(move |request| Reply::right(&file, request).with("Content-Range", "bytes 0-99/*"));
    assert_eq!(open(&server.url()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_status_that_says_no_is_named() {
    for (status, kind) in [(401, ErrorKind::Source), (403, ErrorKind::Source), (404, ErrorKind::NotFound)] {
        let server = Server::start(move |_| Reply::new(status));
        let error = open(&server.url()).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(server.requests().len(), 1, "and not asked again");
    }
}

#[test]
fn nobody_listening_is_said_at_once() {
    // A port that is taken, so that nobody else gets it, and not listened on.
    let taken = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let taken = taken.unwrap();
    rustix::net::bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::try_from(rustix::net::getsockname(&taken).unwrap()).unwrap();
    let start = Instant::now();
    let error = open_with(&format!("http://{address}/x"), &patient(), 64 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(start.elapsed() < SOON);
}

#[test]
fn a_malformed_url_is_a_usage_error() {
    assert_eq!(open("http://h:port/x").unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn a_link_that_expires_says_so() {
    let file = noise(4 * MIB);
    let server =
        Server::start(
            move |request| {
                if request.number < 2 { Reply::right(&file, request) } else { Reply::new(403) }
            },
        );
    let source = open(&server.url()).unwrap();
    read(&source, 1 << 20, 5000).unwrap();
    let error = read(&source, 2 << 20, 5000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.help_text().unwrap().contains("expired"), "{error}");
}

#[test]
fn a_link_for_one_request_only_says_so() {
    let file = noise(4 * MIB);
    let server = Server::spoiling(&file, |_, _| Reply::new(403));
    let source = open(&server.url()).unwrap();
    let error = read(&source, 2 << 20, 5000).unwrap_err();
    assert!(error.help_text().unwrap().contains("one request only"), "{error}");
}

#[test]
fn secrets_of_the_url_are_in_no_message() {
    let server = Server::start(|_| Reply::new(403));
    let error = open(&format!("http://user:pa55w0rd@{}/disk.img?sig=s3cr3t", server.address)).unwrap_err();
    let all = format!("{} {:?} {:?}", error.chain(), error, error.help_text());
    assert!(!all.contains("pa55w0rd") && !all.contains("s3cr3t"), "{all}");
    let login = server.requests()[0].header("authorization").unwrap().to_owned();
    // printf 'user:pa55w0rd' | base64
    assert_eq!(login, "Basic dXNlcjpwYTU1dzByZA==");
    assert_eq!(server.requests()[0].path, "/disk.img?sig=s3cr3t");
}

// ---- the object changes ----

#[test]
fn another_etag_is_a_change_for_ever() {
    let file = noise(4 * MIB);
    let server = Server::start(move |request| {
        let right = Reply::right(&file, request);
        if request.number == 2 { right.with("ETag", "\"v2\"") } else { right }
    });
    let source = open(&server.url()).unwrap();
    read(&source, 1 << 20, 10).unwrap();
    assert_eq!(read(&source, 2 << 20, 10).unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(
        read(&source, 3 << 20, 10).unwrap_err().kind(),
        ErrorKind::Changed,
        "the server is well again, we are not"
    );
    assert_eq!(read(&source, 1 << 20, 10).unwrap_err().kind(), ErrorKind::Changed, "nor for what is cached");
}

#[test]
fn another_date_is_a_change_where_there_is_no_etag() {
    let file = noise(4 * MIB);
    let server = Server::start(move |request| {
        let right = Reply::right(&file, request).without("ETag");
        if request.number > 0 { right.with("Last-Modified", "Tue, 03 Feb 2026 02:02:02 GMT") } else { right }
    });
    assert_fails(&server, ErrorKind::Changed, "Last-Modified");
}

#[test]
fn another_length_is_a_change() {
    let file = noise(4 * MIB);
    let server = Server::spoiling(&file, |request, right| {
        let (first, last) = request.range();
        right.with("Content-Range", &format!("bytes {first}-{last}/9999999"))
    });
    assert_fails(&server, ErrorKind::Changed, "9999999");
    let shrunk = Server::spoiling(&file, |_, _| Reply::new(416).with("Content-Range", "bytes */100"));
    assert_fails(&shrunk, ErrorKind::Changed, "now is 100");
}

#[test]
fn a_removed_object_says_so() {
    let server = Server::spoiling(&noise(4 * MIB), |_, _| Reply::new(404));
    assert_fails(&server, ErrorKind::Source, "404");
}

// ---- faults that do not pass: an error in time, and never a byte ----

#[test]
fn a_short_body_is_an_error() {
    let server = Server::spoiling(&noise(4 * MIB), |_, right| {
        let announced = right.body.len().to_string();
        Reply { cut: Some(0), ..right.with("Content-Length", &announced) }
    });
    assert_fails(&server, ErrorKind::Io, "broke off");
}

#[test]
fn a_short_body_of_chunks_is_an_error() {
    let server =
        Server::spoiling(&noise(4 * MIB), |_, right| Reply { chunked: true, ..right.body(Vec::clear) });
    assert_fails(&server, ErrorKind::Io, "ended after 0");
}

#[test]
fn a_long_body_is_an_error() {
    let announced = Server::spoiling(&noise(4 * MIB), |_, right| right.body(|body| body.push(1)));
    assert_fails(&announced, ErrorKind::Io, "Content-Length");
    let chunked = Server::spoiling(&noise(4 * MIB), |_, right| Reply {
        chunked: true,
        ..right.body(|body| body.push(1))
    });
    assert_fails(&chunked, ErrorKind::Io, "more than");
}

#[test]
fn another_range_than_asked_for_is_an_error() {
    for wrong in [
        "bytes 0-262143/4194304",
        "bytes 1048577-1310720/4194304",
        "bytes 1048576-1310718/4194304",
        "lines 1-2/3",
    ] {
        let server = Server::spoiling(&noise(4 * MIB), move |_, right| right.with("Content-Range", wrong));
        assert_fails(&server, ErrorKind::Io, "");
    }
    let missing = Server::spoiling(&noise(4 * MIB), |_, right| right.without("Content-Range"));
    assert_fails(&missing, ErrorKind::Io, "without Content-Range");
}

#[test]
fn the_whole_object_later_on_is_an_error() {
    let file = noise(4 * MIB);
    let whole = Arc::clone(&file);
    let server = Server::spoiling(&file, move |_, _| {
        Reply::new(200).with("ETag", "\"v1\"").body(|body| body.extend_from_slice(&whole))
    });
    assert_fails(&server, ErrorKind::Io, "whole object");
}

#[test]
fn a_vanished_validator_is_an_error() {
    let server = Server::spoiling(&noise(4 * MIB), |_, right| right.without("ETag"));
    assert_fails(&server, ErrorKind::Io, "validator");
}

#[test]
fn an_encoded_answer_later_on_is_an_error() {
    let server = Server::spoiling(&noise(4 * MIB), |_, right| right.with("Content-Encoding", "gzip"));
    assert_fails(&server, ErrorKind::Io, "gzip");
}

#[test]
fn a_server_that_is_down_for_good_is_an_error() {
    let server = Server::spoiling(&noise(4 * MIB), |_, _| Reply::new(500));
    // Time for more than four tries, however slow they are.
    assert_fails_with(
        &server,
        &Tuning { deadline: Duration::from_secs(3), ..patient() },
        ErrorKind::Io,
        "500",
    );
    assert!(server.requests().len() > 4, "it was tried again");
}

#[test]
fn a_stall_is_an_error() {
    let server =
        Server::spoiling(&noise(4 * MIB), |_, right| Reply { stall: Duration::from_secs(60), ..right });
    assert_fails(&server, ErrorKind::Io, "");
}

#[test]
fn a_drip_ends_at_the_deadline() {
    let server = Server::spoiling(&noise(4 * MIB), |_, right| Reply {
        drip: Some((1, Duration::from_millis(50))),
        ..right
    });
    let tuning = Tuning { deadline: hasty().deadline, ..patient() };
    assert_fails_with(&server, &tuning, ErrorKind::Io, "deadline");
}

#[test]
fn an_endless_header_is_refused() {
    let file = noise(4 * MIB);
    let long = "x".repeat(100);
    let server = Server::start(move |request| {
        let mut right = Reply::right(&file, request);
        right.headers.extend((0..100_000).map(|n| (format!("X-{n}"), long.clone())));
        right
    });
    let start = Instant::now();
    let error = open_with(&server.url(), &patient(), 64 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(start.elapsed() < SOON);
}

#[test]
fn to_be_told_to_wait_beyond_the_deadline_is_an_error_at_once() {
    let server = Server::spoiling(&noise(4 * MIB), |_, _| Reply::new(429).with("Retry-After", "3600"));
    let source = open_with(&server.url(), &patient(), 64 << 20).unwrap();
    let start = Instant::now();
    let error = read(&source, 1 << 20, 5000).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("429"), "{error}");
    assert!(start.elapsed() < SOON);
}

// ---- faults that pass ----

#[test]
fn to_be_told_to_wait_a_second_is_waited_for() {
    let file = noise(4 * MIB);
    let server = Server::spoiling(&file, |request, right| {
        if request.number == 1 { Reply::new(429).with("Retry-After", "1") } else { right }
    });
    let source = open(&server.url()).unwrap();
    let start = Instant::now();
    assert!(read(&source, 1 << 20, 5000).unwrap() == file[MIB..MIB + 5000]);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_broken_answer_is_taken_up_where_it_broke() {
    let file = noise(4 * MIB);
    let server = Server::spoiling(&file, |_, right| {
        let announced = right.body.len().to_string();
        Reply { cut: Some(60_000), ..right.with("Content-Length", &announced) }
    });
    let source = open(&server.url()).unwrap();
    assert!(read(&source, 1 << 20, 200_000).unwrap() == file[MIB..MIB + 200_000]);
    let firsts: Vec<u64> = server.requests()[1..5].iter().map(|request| request.range().0).collect();
    assert_eq!(firsts, [1_048_576, 1_108_576, 1_168_576, 1_228_576]);
}

/// One spoiled answer of each kind, for `kind` in 0..14.
fn spoil(kind: u64, total: usize, right: Reply) -> Reply {
    let len = right.body.len();
    let announced = len.to_string();
    match kind {
        0 => Reply::new(500),
        1 => Reply::new(503).with("Retry-After", "0"),
        2 => Reply::new(429),
        3 => Reply { cut: Some(len / 3), ..right.with("Content-Length", &announced) },
        4 => Reply { chunked: true, ..right.body(|body| body.truncate(len / 2)) },
        5 => right.body(|body| body.push(9)),
        6 => Reply { chunked: true, ..right.body(|body| body.push(9)) },
        7 => right.with("Content-Range", &format!("bytes 0-9/{total}")).body(|body| body.fill(0xee)),
        8 => right.without("Content-Range").body(|body| body.fill(0xee)),
        9 => right.with("Content-Encoding", "gzip").body(|body| body.fill(0xee)),
        10 => Reply::new(200).with("ETag", "\"v1\"").body(|body| body.resize(1000, 0xee)),
        11 => right.without("ETag").body(|body| body.fill(0xee)),
        12 => Reply { stall: Duration::from_secs(60), ..right },
        _ => Reply { cut: Some(0), chunked: true, ..right },
    }
}

#[test]
fn with_a_tenth_of_the_answers_spoiled_every_byte_is_still_right() {
    let file = noise(10 * MIB);
    let total = file.len();
    // More for a longer run: IMGMOUNT_SEEDS=200.
    let seeds = std::env::var("IMGMOUNT_SEEDS").map_or(6, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let dice = Mutex::new(Dice(seed));
        let spoiled = Arc::new(AtomicU64::new(0));
        let server = Server::start({
            let (file, spoiled) = (Arc::clone(&file), Arc::clone(&spoiled));
            move |request| {
                let right = Reply::right(&file, request);
                let mut dice = dice.lock().unwrap();
                if !request.opens() && dice.roll(10) == 0 {
                    spoiled.fetch_add(1, Ordering::Relaxed);
                    let kind = dice.roll(14);
                    drop(dice);
                    return spoil(kind, total, right);
                }
                right
            }
        });
        // A deadline as long as in earnest, and a cache that forgets most of it, so that there is much to ask for.
        let tuning = Tuning { deadline: Duration::from_secs(30), ..hasty() };
        let source = open_with(&server.url(), &tuning, 4 << 20).unwrap();
        std::thread::scope(|scope| {
            for reader in 0..4 {
                let (source, file) = (&source, &file);
                scope.spawn(move || {
                    let mut dice = Dice(seed * 100 + reader);
                    for _ in 0..60 {
                        let offset = dice.roll(file.len() as u64);
                        let len = (1 + dice.roll(600_000)).min(file.len() as u64 - offset);
                        let got = read(source, offset, len).unwrap();
                        assert!(got == file[offset as usize..][..len as usize], "{len} bytes at {offset}");
                    }
                });
            }
        });
        assert!(spoiled.load(Ordering::Relaxed) > 10, "only {spoiled:?} answers were spoiled");
    }
}

#[test]
fn with_every_answer_spoiled_no_byte_is_wrong() {
    let file = noise(2 * MIB);
    let total = file.len();
    for kind in 0..14 {
        let server = Server::spoiling(&file, move |_, right| spoil(kind, total, right));
        let tuning = Tuning { deadline: Duration::from_millis(700), ..hasty() };
        let source = open_with(&server.url(), &tuning, 64 << 20).unwrap();
        let start = Instant::now();
        // Broken bodies bring a part each time and so get there in the end; nothing else may.
        match read(&source, 1 << 20, 300_000) {
            Ok(got) => assert!(got == file[MIB..MIB + 300_000] && matches!(kind, 3 | 4), "kind {kind}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "kind {kind}: {error}"),
        }
        assert!(start.elapsed() < Duration::from_secs(20), "kind {kind} took {:?}", start.elapsed());
    }
}

// ---- redirects ----

fn redirect(to: &str) -> Reply {
    Reply::new(302).with("Location", to)
}

#[test]
fn five_redirects_are_followed_and_then_remembered() {
    let file = noise(4 * MIB);
    let server = Server::start({
        let file = Arc::clone(&file);
        move |request| match request.path.as_str() {
            "/disk.img" => redirect("/1"),
            "/1" => redirect("2?x=y"),
            "/2?x=y" => redirect("?z"),
            "/2?z" => redirect("//127.0.0.1/../skip").with("Location", "./a/../4"),
            "/4" => redirect("end"),
            "/end" => Reply::right(&file, request),
            other => panic!("{other}"),
        }
    });
    let source = open(&server.url()).unwrap();
    assert!(read(&source, 1 << 20, 100).unwrap() == file[MIB..MIB + 100]);
    let paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/disk.img", "/1", "/2?x=y", "/2?z", "/4", "/end", "/end"]);
}

#[test]
fn a_redirect_loop_ends() {
    let server = Server::start(|_| redirect("/disk.img"));
    let error = open(&server.url()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.to_string().contains("redirects"), "{error}");
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn a_login_is_not_taken_along_to_another_server() {
    let file = noise(1000);
    let other = Server::serving(&file);
    let target = other.url();
    let first = Server::start(move |_| redirect(&target));
    open(&format!("http://user:secret@{}/x", first.address)).unwrap();
    assert!(first.requests()[0].header("authorization").is_some());
    assert_eq!(other.requests()[0].header("authorization"), None);
    // Nor one that the redirect itself brings along.
    let target = format!("http://a:b@{}/disk.img", other.address);
    let first = Server::start(move |_| redirect(&target));
    open(&first.url()).unwrap();
    assert_eq!(other.requests()[1].header("authorization"), None);
}

#[test]
fn a_redirect_to_a_metadata_service_is_refused() {
    for target in [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
        "http://2852039166/",
    ] {
        let server = Server::start(move |_| redirect(target));
        let start = Instant::now();
        let error = open_with(&server.url(), &patient(), 64 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(error.to_string().contains("redirected"), "{target}: {error}");
        assert!(start.elapsed() < SOON);
    }
}

/// An address of this host that is as one elsewhere; where it has none, one for examples (RFC 5737) is added to it.
fn own_address() -> Option<std::net::IpAddr> {
    // Nothing is sent: the kernel only says which address it would send from.
    let sends_from = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("203.0.113.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|own| !own.is_loopback())
    };
    let added = || {
        Command::new("ip").args(["address", "add", "198.51.100.7/32", "dev", "lo"]).output().ok()?;
        "198.51.100.7".parse().ok()
    };
    sends_from().or_else(added)
}

/// The same port of this host's own address, and of 127.0.0.1.
fn far_and_near() -> Option<(TcpListener, TcpListener)> {
    let far = TcpListener::bind((own_address()?, 0)).ok()?;
    let near = TcpListener::bind(("127.0.0.1", far.local_addr().ok()?.port())).ok()?;
    Some((far, near))
}

/// Runs the program where `hosts` stands for `/etc/hosts`.
fn hash_by(hosts: &std::path::Path, url: &str) -> std::process::Output {
    let script = r#"mount --bind "$1" /etc/hosts; unset http_proxy HTTP_PROXY all_proxy ALL_PROXY; exec "$2" hash "$3""#;
    Command::new("unshare")
        .args(["-m", "sh", "-ec", script, "sh"])
        .arg(hosts)
        .args([common::IMGMOUNT, url])
        .output()
        .unwrap()
}

#[test]
fn an_address_of_ours_beside_the_servers_own_lets_no_redirect_through() {
    requires!("root", "unshare");
    let Some((far, near)) = far_and_near() else { return common::skip("this host has no address") };
    let dir = common::tempdir();
    let (hosts, secret) = (dir.path().join("hosts"), noise(100_352));
    let own = far.local_addr().unwrap();
    std::fs::write(&hosts, format!("127.0.0.1 evil.test\n{} evil.test\n", own.ip())).unwrap();
    // Nobody listens at the near one of the addresses.
    drop(near);
    let within = Server::serving(&secret);
    let target = within.url();
    let _evil = Server::start_at(far, move |_| redirect(&target));
    let output = hash_by(&hosts, &format!("http://evil.test:{}/disk.img", own.port()));
    assert!(common::stderr(&output).contains("redirected"), "{output:?}");
    assert!(within.requests().is_empty());
    // Whoever names this host goes there.
    std::fs::write(&hosts, "127.0.0.1 localhost\n::1 localhost\n").unwrap();
    let target = within.url();
    let here = Server::start(move |_| redirect(&target));
    let output = hash_by(&hosts, &format!("http://localhost:{}/disk.img", here.address.port()));
    assert!(common::stdout(&output).starts_with(&sha256(&secret)), "{output:?}");
}

#[test]
fn the_second_file_of_an_image_is_not_taken_from_this_host_when_the_first_was_elsewhere() {
    requires!("root", "unshare");
    let Some((far, near)) = far_and_near() else { return common::skip("this host has no address") };
    let dir = common::tempdir();
    let (hosts, file) = (dir.path().join("hosts"), noise(100_352));
    let own = far.local_addr().unwrap();
    std::fs::write(&hosts, format!("{} evil.test\n", own.ip())).unwrap();
    let (moved, first) = (hosts.clone(), Arc::clone(&file));
    let _evil = Server::start_at(far, move |request| {
        std::fs::write(&moved, "127.0.0.1 evil.test\n").unwrap();
        if request.path == "/x.001" { Reply::right(&first, request) } else { Reply::new(404) }
    });
    let within = Server::start_at(near, move |request| {
        if request.path == "/x.002" { Reply::right(&file, request) } else { Reply::new(404) }
    });
    let output = hash_by(&hosts, &format!("http://evil.test:{}/x.001", own.port()));
    assert!(common::stderr(&output).contains("its server was elsewhere"), "{output:?}");
    assert!(within.requests().is_empty());
}

#[test]
fn a_redirect_out_of_http_is_refused() {
    for target in ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http://"] {
        let server = Server::start(move |_| redirect(target));
        assert_eq!(open(&server.url()).unwrap_err().kind(), ErrorKind::Source, "{target}");
    }
}

#[test]
fn a_redirect_that_goes_void_is_asked_for_again() {
    let file = noise(4 * MIB);
    let signed = AtomicU64::new(0);
    let server = Server::start({
        let file = Arc::clone(&file);
        move |request| {
            if request.path == "/disk.img" {
                return redirect(&format!("/signed?{}", signed.fetch_add(1, Ordering::SeqCst) + 1));
            }
            // Each signature is good for the two requests that follow it.
            let good = format!("/signed?{}", signed.load(Ordering::SeqCst));
            if request.path == good && request.number % 3 != 0 {
                Reply::right(&file, request)
            } else {
                Reply::new(403)
            }
        }
    });
    let source = open(&server.url()).unwrap();
    for at in 1..4 {
        assert!(read(&source, at << 20, 100).unwrap() == file[(at << 20) as usize..][..100]);
    }
}

// ---- https ----

/// A certificate authority, and a certificate of it for 127.0.0.1.
const CERTIFICATES: &str = r#"
cd "$DIR"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj '/CN=test authority' \
    -addext basicConstraints=critical,CA:TRUE 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -out leaf.csr -subj /CN=127.0.0.1 2>/dev/null
printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > ext
openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -days 2 -extfile ext -out leaf.pem 2>/dev/null
"#;

/// `openssl s_server` for TLS, our own server behind its standard input and output. One connection after another.
struct TlsServer {
    _child: Reaped,
    port: u16,
}

impl TlsServer {
    fn start(dir: &std::path::Path, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        common::sh(&format!("DIR='{}'\n{CERTIFICATES}", dir.display()));
        let mut child = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", "127.0.0.1:0", "-cert", "leaf.pem", "-key", "leaf.key"])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        let handler: Handler = Arc::new(handler);
        std::thread::spawn(move || converse(input, output, &handler, &Mutex::default()));
        let mut port = None;
        wait_for("openssl does not listen", || {
            port = listens_on(child.id());
            port.is_some()
        });
        Self { _child: Reaped(child), port: port.unwrap() }
    }
}

/// The port on which a process listens, by the kernel's tables: a connection of our own would take the server's one place.
fn listens_on(process: u32) -> Option<u16> {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten();
    let open: Vec<String> = open
        .filter_map(|entry| rustix::fs::readlink(entry.path(), Vec::new()).ok()?.into_string().ok())
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    // proc(5): local address, state (0A is LISTEN) and inode are the second, fourth and tenth field.
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|line| {
        let is_it = line[3] == "0A" && open.contains(&format!("socket:[{}]", line.get(9)?));
        is_it.then(|| u16::from_str_radix(line[1].split(':').nth(1).unwrap(), 16).unwrap())
    })
}

#[test]
fn https_works_with_the_named_authority_and_is_refused_without() {
    requires!("openssl");
    let dir = common::tempdir();
    let file = noise(2 * MIB);
    let served = Arc::clone(&file);
    let server = TlsServer::start(dir.path(), move |request| Reply::right(&served, request));
    let url = format!("https://127.0.0.1:{}/disk.img", server.port);

    let error = open(&url).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert!(error.help_text().unwrap().contains("SSL_CERT_FILE"));

    let trusting = Tuning { roots: Some(dir.path().join("ca.pem")), ..patient() };
    let source = open_with(&url, &trusting, 64 << 20).unwrap();
    assert!(read(&source, 1 << 20, 5000).unwrap() == file[MIB..MIB + 5000]);
}

#[test]
fn a_redirect_from_https_to_http_is_refused() {
    requires!("openssl");
    let dir = common::tempdir();
    let plain = Server::serving(&noise(1000));
    let target = plain.url();
    let server = TlsServer::start(dir.path(), move |_| redirect(&target));
    let trusting = Tuning { roots: Some(dir.path().join("ca.pem")), ..patient() };
    let error = open_with(&format!("https://127.0.0.1:{}/x", server.port), &trusting, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.to_string().contains("https to http"), "{error}");
    assert!(plain.requests().is_empty());
}

#[test]
fn a_file_without_certificates_is_named() {
    let dir = common::tempdir();
    std::fs::write(dir.path().join("empty.pem"), "").unwrap();
    let tuning = Tuning { roots: Some(dir.path().join("empty.pem")), ..patient() };
    let error = open_with("https://127.0.0.1:1/x", &tuning, 0).unwrap_err();
    assert!(error.to_string().contains("SSL_CERT_FILE"), "{error}");
}

// ---- the program ----

/// The same question to the file and to the web server; both must answer, and the same but for the name.
fn assert_same(words: &[&str], local: &std::path::Path, url: &str) {
    let ask = |image: &str| {
        let output = common::imgmount(words.iter().map(|word| word.replace("IMAGE", image)));
        assert!(output.status.success(), "{words:?} {image}: {}", common::stderr(&output));
        let shown = Locator::parse(image.as_ref()).to_string();
        common::stdout(&output).replace(&shown, "IMAGE")
    };
    // What depends on the holes of a file: a web server does not tell of them.
    let without_stored = |text: String| -> Vec<String> {
        let holes = |line: &&str| !line.starts_with("disk size: ") && !line.starts_with("size as QCOW2: ");
        text.lines().filter(holes).map(str::to_owned).collect()
    };
    assert_eq!(without_stored(ask(url)), without_stored(ask(local.to_str().unwrap())));
}

#[test]
fn the_program_says_the_same_of_a_url_as_of_the_file() {
    requires!("qemu-img", "sfdisk", "mke2fs");
    let dir = common::tempdir();
    common::sh(&format!(
        "cd '{}'; mkdir -p tree/etc; echo '/dev/vda1 / ext4 defaults 0 1' > tree/etc/fstab; head -c 3M /dev/urandom > tree/random\n\
         truncate -s 64M disk.raw; echo 'start=2048, type=83' | sfdisk -q disk.raw\n\
         mke2fs -q -t ext4 -d tree -E offset=1048576 disk.raw 60M\n\
         qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2\n\
         qemu-img convert -f raw -O vmdk -o subformat=streamOptimized disk.raw disk.vmdk\n\
         qemu-img convert -f raw -O vpc disk.raw disk.vhd",
        dir.path().display()
    ));
    for image in ["disk.raw", "disk.qcow2", "disk.vmdk", "disk.vhd"] {
        let local = dir.path().join(image);
        let server = Server::serving(&Arc::new(std::fs::read(&local).unwrap()));
        let url = format!("http://{}/{image}?sig=s3cr3t", server.address);
        assert_same(&["hash", "IMAGE"], &local, &url);
        assert_same(&["info", "IMAGE"], &local, &url);
        assert_same(&["find", "--hash", "IMAGE:/"], &local, &url);
        let before = server.requests().len();
        assert_same(&["cat", "IMAGE:p1:/etc/fstab"], &local, &url);
        let took = server.requests().len() - before;
        assert!(took <= 12, "a small file took {took} requests");
        let output = common::imgmount(["info", "-vv", &url]);
        assert!(!common::stderr(&output).contains("s3cr3t") && !common::stdout(&output).contains("s3cr3t"));
    }
}

#[test]
fn the_disks_of_an_ova_on_a_server_are_read_in_place() {
    requires!("qemu-img", "tar");
    let dir = common::tempdir();
    // Members of 2 MiB stand between the disks: their headers are read, and nothing else of them.
    common::sh(&format!(
        "cd '{}'; for n in 1 2 3 4 5 6; do head -c 2M /dev/urandom > filler$n; done\n\
         truncate -s 8M a.raw b.raw; head -c 1M /dev/urandom | dd of=a.raw bs=1M seek=2 conv=notrunc status=none\n\
         head -c 1M /dev/urandom | dd of=b.raw bs=1M seek=5 conv=notrunc status=none\n\
         qemu-img convert -f raw -O vmdk -o subformat=streamOptimized a.raw a.vmdk\n\
         qemu-img convert -f raw -O qcow2 b.raw b.qcow2\n\
         cat > x.ovf <<T\n\
         <Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1'><References><File id='1' href='a.vmdk'/><File id='2' href='b.qcow2'/>\n\
         </References><DiskSection><Disk diskId='a' fileRef='1'/><Disk diskId='b' fileRef='2'/></DiskSection></Envelope>\nT\n\
         tar --format=ustar -cf x.ova x.ovf filler1 filler2 filler3 a.vmdk filler4 filler5 filler6 b.qcow2",
        dir.path().display()
    ));
    let local = dir.path().join("x.ova");
    let server = Server::serving(&Arc::new(std::fs::read(&local).unwrap()));
    let url = format!("http://{}/x.ova", server.address);
    assert_same(&["hash", "IMAGE"], &local, &url);
    assert_same(&["hash", "IMAGE//b.qcow2"], &local, &url);
    let signed = common::imgmount(["hash", &format!("{url}//b.qcow2?sig=s3cr3t")]);
    let expected = sha256(&std::fs::read(dir.path().join("b.raw")).unwrap());
    assert_eq!(common::stdout(&signed), format!("{expected}  {url}//b.qcow2?...\n"));
    let before = server.requests().len();
    let output = common::imgmount(["map", "--json", &format!("{url}//a.vmdk")]);
    assert!(output.status.success(), "{}", common::stderr(&output));
    let took = &server.requests()[before..];
    // Nine headers, the two ends of the file to know it by, and the disk's tables.
    assert!(
        took.len() <= 9 + 6,
        "{} requests: {:?}",
        took.len(),
        took.iter().map(Request::range).collect::<Vec<_>>()
    );
}

#[test]
fn the_disks_of_an_ovf_on_a_server_are_taken_from_beside_it() {
    requires!("qemu-img");
    let dir = common::tempdir();
    common::sh(&format!(
        "cd '{}'; truncate -s 4M a.raw; head -c 1M /dev/urandom | dd of=a.raw bs=1M seek=2 conv=notrunc status=none\n\
         qemu-img convert -f raw -O vmdk -o subformat=streamOptimized a.raw a.vmdk; head -c 4M /dev/urandom > b.raw",
        dir.path().display()
    ));
    let at = dir.path().to_owned();
    let server = Server::start(move |request| {
        let name = request.path.rsplit('/').next().unwrap();
        let (disk, of) = name.split_once('.').unwrap();
        let ovf = format!(
            "<Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1'><References><File id='f' href='{disk}'/></References>\
             <DiskSection><Disk diskId='d' fileRef='f'/></DiskSection></Envelope>"
        );
        let ovf = ovf
            .replace("'one'", "'a.vmdk'")
            .replace("'two'", "'b.raw'")
            .replace("'three'", "'http://h/a.vmdk'");
        match (of, std::fs::read(at.join(name))) {
            ("ovf", _) => Reply::right(ovf.as_bytes(), request),
            (_, Ok(file)) => Reply::right(&file, request),
            _ => Reply::new(404),
        }
    });
    let url = |name: &str| format!("http://{}/machines/{name}", server.address);
    let output = common::imgmount(["hash", &url("one.ovf")]);
    let expected = sha256(&std::fs::read(dir.path().join("a.raw")).unwrap());
    assert_eq!(
        common::stdout(&output),
        format!("{expected}  {}//a.vmdk\n", url("one.ovf")),
        "{}",
        common::stderr(&output)
    );
    // What has no signature is not taken from a server either, nor anything from another one.
    for name in ["two.ovf", "three.ovf"] {
        let output = common::imgmount(["hash", &url(name)]);
        assert_eq!(output.status.code(), Some(3), "{}", common::stderr(&output));
    }
}

/// Runs the program on a URL with one variable of the environment set, and gives the sum that it prints.
fn hash_with(variable: (&str, &str), url: &str) -> Result<String, String> {
    let mut program = Command::new(common::IMGMOUNT);
    program.args(["hash", url]).env(variable.0, variable.1).stdin(Stdio::null());
    for proxy in ["NO_PROXY", "no_proxy"] {
        program.env_remove(proxy);
    }
    let output = program.output().unwrap();
    let text = common::stdout(&output);
    text.split(' ')
        .next()
        .filter(|_| output.status.success())
        .map(str::to_owned)
        .ok_or(common::stderr(&output))
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_program_takes_authorities_from_the_environment() {
    requires!("openssl");
    let dir = common::tempdir();
    let file = noise(100_352);
    let served = Arc::clone(&file);
    let server = TlsServer::start(dir.path(), move |request| Reply::right(&served, request));
    let url = format!("https://127.0.0.1:{}/disk.img", server.port);
    assert!(hash_with(("UNUSED", ""), &url).unwrap_err().contains("SSL_CERT_FILE"));
    let authority = dir.path().join("ca.pem");
    assert_eq!(hash_with(("SSL_CERT_FILE", authority.to_str().unwrap()), &url), Ok(sha256(&file)));
}

/// A proxy that takes whoever asks for a place there, or all of them to `only`; and the places they asked for.
fn proxy(only: Option<SocketAddr>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for client in proxy.incoming() {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                let mut client = client.unwrap();
                let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
                let first = lines.next().unwrap().unwrap();
                let target = first.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
                while !lines.next().unwrap().unwrap().is_empty() {}
                let server = only.map_or_else(|| TcpStream::connect(&target), TcpStream::connect);
                let mut server = server.unwrap();
                seen.lock().unwrap().push(target);
                client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                drop(std::io::copy(&mut server, &mut client));
            });
        }
    });
    (address, asked)
}

#[test]
fn the_program_takes_the_proxy_from_the_environment() {
    let file = noise(2 * MIB);
    let server = Server::serving(&file);
    let (address, asked) = proxy(None);
    assert_eq!(hash_with(("HTTP_PROXY", &format!("http://{address}")), &server.url()), Ok(sha256(&file)));
    assert!(!asked.lock().unwrap().is_empty());
}

#[test]
fn behind_a_proxy_a_redirect_to_what_is_near_is_refused_however_it_is_written() {
    let file = noise(MIB);
    let served = Arc::clone(&file);
    let targets = [
        "localhost.",
        "127.1",
        "0177.0.0.1",
        "169.254.169.254.",
        "2852039166",
        "0xa9fea9fe",
        "metadata.google.internal",
    ];
    let server = Server::start(move |request| match request.path.strip_prefix("/to/") {
        Some(target) => redirect(&format!("http://{target}/secret")),
        None => Reply::right(&served, request),
    });
    let (address, asked) = proxy(Some(server.address));
    let hash = |url: &str| hash_with(("HTTP_PROXY", &format!("http://{address}")), url);
    for target in targets {
        let error = hash(&format!("http://far.example/to/{target}")).unwrap_err();
        assert!(error.contains("redirected"), "{target}: {error}");
    }
    assert!(asked.lock().unwrap().iter().all(|place| place == "far.example:80"), "{asked:?}");
    // Another server elsewhere is another matter, and so is what the user named, if only in that spelling.
    for url in ["http://far.example/to/other.example.", "http://127.1/to/127.1"] {
        assert_eq!(hash(url), Ok(sha256(&file)), "{url}");
    }
}

#[test]
fn packed_images_on_a_server_are_read_in_place() {
    requires!("qemu-img", "gzip", "xz", "zstd", "pzstd");
    let dir = common::tempdir();
    common::sh(&format!(
        "cd '{}'; truncate -s 24M s.raw; head -c 3M /dev/urandom | dd of=s.raw bs=1M seek=5 conv=notrunc status=none\n\
         seq 400000 | dd of=s.raw bs=1M seek=17 conv=notrunc status=none; qemu-img convert -f raw -O qcow2 s.raw s.qcow2\n\
         qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on s.raw s.vhd\n\
         xz -kc --block-size=1MiB s.vhd > s.vhd.xz; gzip -kc s.qcow2 > s.qcow2.gz; pzstd -qkc -p 2 s.raw > s.raw.zst",
        dir.path().display()
    ));
    let expected = sha256(&std::fs::read(dir.path().join("s.raw")).unwrap());
    for name in ["s.vhd.xz", "s.qcow2.gz", "s.raw.zst"] {
        let server = Server::serving(&Arc::new(std::fs::read(dir.path().join(name)).unwrap()));
        let url = format!("http://{}/{name}?sig=s3cr3t", server.address);
        let output = common::imgmount(["hash", &url]);
        assert_eq!(common::stdout(&output).get(..64), Some(expected.as_str()), "{}", common::stderr(&output));
    }
}
