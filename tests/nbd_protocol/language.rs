//! The words that cases are written in: a client that says what it is told, and fails where the answer is another one.

use crate::common::disk::{SIZE, expected};
pub use crate::common::nbd::{be16, be32, be64, compact, go, meta, option, string};
use crate::common::server::hung_up;
use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    /// The words of the specification that it is about: an option, a command, a section.
    pub section: &'static str,
    pub qemu: Qemu,
    pub script: fn(&mut Client),
}

/// What qemu-nbd 10 makes of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qemu {
    Agrees,
    /// How it does otherwise.
    Differs(&'static str),
}

/// A case in which qemu-nbd does as we do.
pub const fn case(name: &'static str, section: &'static str, script: fn(&mut Client)) -> Case {
    Case { name, section, qemu: Qemu::Agrees, script }
}

/// A case in which qemu-nbd does otherwise.
pub const fn ours(
    name: &'static str,
    section: &'static str,
    why: &'static str,
    script: fn(&mut Client),
) -> Case {
    Case { name, section, qemu: Qemu::Differs(why), script }
}

pub const EXPORT_NAME: u32 = 1;
pub const ABORT: u32 = 2;
pub const LIST: u32 = 3;
pub const STARTTLS: u32 = 5;
pub const INFO: u32 = 6;
pub const GO: u32 = 7;
pub const STRUCTURED: u32 = 8;
pub const LIST_META: u32 = 9;
pub const SET_META: u32 = 10;
pub const EXTENDED: u32 = 11;

pub const ACK: u32 = 1;
pub const REP_SERVER: u32 = 2;
pub const REP_INFO: u32 = 3;
pub const REP_META: u32 = 4;
pub const ERR_UNSUP: u32 = (1 << 31) + 1;
pub const ERR_POLICY: u32 = (1 << 31) + 2;
pub const ERR_INVALID: u32 = (1 << 31) + 3;
pub const ERR_UNKNOWN: u32 = (1 << 31) + 6;
pub const ERR_TOO_BIG: u32 = (1 << 31) + 9;
pub const ERR_EXT_HEADER_REQD: u32 = (1 << 31) + 10;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const CACHE: u16 = 5;
pub const WRITE_ZEROES: u16 = 6;
pub const STATUS: u16 = 7;
pub const RESIZE: u16 = 8;
pub const FUA: u16 = 1;
pub const NO_HOLE: u16 = 2;
pub const DF: u16 = 4;
pub const REQ_ONE: u16 = 8;
pub const FAST_ZERO: u16 = 16;
pub const PAYLOAD: u16 = 32;
pub const EPERM: u32 = 1;
pub const EIO: u32 = 5;
pub const EINVAL: u32 = 22;

pub const NONE: u16 = 0;
pub const OFFSET_DATA: u16 = 1;
pub const OFFSET_HOLE: u16 = 2;
const BLOCK_STATUS: u16 = 5;
const BLOCK_STATUS_EXT: u16 = 6;
pub const ERROR: u16 = 0x8001;
pub const ERROR_OFFSET: u16 = 0x8002;

pub const ALLOCATION: &str = "base:allocation";
pub const DEPTH: &str = "qemu:allocation-depth";

/// How requests and replies look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Simple,
    Structured,
    Extended,
}

/// A chunk of a reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    pub last: bool,
    pub kind: u16,
    pub cookie: u64,
    pub payload: Vec<u8>,
}

/// What a block status request may carry.
pub fn choice(length: u64, contexts: &[u32]) -> Vec<u8> {
    let ids = contexts.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<_>>();
    [&length.to_be_bytes()[..], &ids].concat()
}

/// The client.
pub struct Client {
    stream: UnixStream,
    style: Style,
    /// The numbers of selected contexts.
    contexts: BTreeMap<String, u32>,
    /// The offset of each request that was sent, by cookie.
    asked: HashMap<u64, u64>,
}

// ---- the connection -------------------------------------------------------------------------------------------

impl Client {
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { stream, style: Style::Simple, contexts: BTreeMap::new(), asked: HashMap::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// As [`Client::send`] to a server that may have hung up.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// As [`Client::send`], a byte a time.
    pub fn drip(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.send(&[*byte]));
    }

    /// As [`Client::send`] of what is more than sockets hold, while replies are taken.
    pub fn send_beside(&mut self, bytes: Vec<u8>) -> JoinHandle<()> {
        let mut stream = self.stream.try_clone().unwrap();
        std::thread::spawn(move || stream.write_all(&bytes).unwrap())
    }

    pub fn receive(&mut self, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Waits until the server hangs up, and takes nothing.
    pub fn hung_up(&self) {
        hung_up(&self.stream);
    }

    /// The server hangs up.
    pub fn closed(&mut self) {
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("the connection is open: {other:?}"),
        }
    }

    /// The server hangs up, whatever it says before.
    pub fn closed_in_the_end(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        match self.stream.read_to_end(&mut said) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("it is open: {error}"),
            _ => said,
        }
    }
}

// ---- the handshake --------------------------------------------------------------------------------------------

impl Client {
    /// The server's first words.
    pub fn greeting(&mut self) {
        assert_eq!(self.receive(18), *b"NBDMAGICIHAVEOPT\0\x03");
    }

    /// Greeting and flags.
    pub fn flags(&mut self, flags: u32) {
        self.greeting();
        self.send(&flags.to_be_bytes());
    }

    /// Greeting and flags of a modern client: fixed newstyle, no zeroes.
    pub fn hello(&mut self) {
        self.flags(3);
    }

    pub fn option_header(&mut self, number: u32, len: u32) {
        self.send(&[&b"IHAVEOPT"[..], &number.to_be_bytes(), &len.to_be_bytes()].concat());
    }

    pub fn option(&mut self, number: u32, payload: &[u8]) {
        self.send(&option(number, payload));
    }

    /// One answer: kind and payload.
    pub fn answer(&mut self, number: u32) -> (u32, Vec<u8>) {
        let header = self.receive(20);
        assert_eq!(be64(&header), 0x0003_e889_0455_65a9, "reply magic");
        assert_eq!(be32(&header[8..]), number, "the option that is answered");
        let payload = self.receive(be32(&header[16..]).into());
        (be32(&header[12..]), payload)
    }

    /// Sends an option; the answers before the acknowledgement.
    pub fn ask(&mut self, number: u32, payload: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.option(number, payload);
        let mut all = Vec::new();
        loop {
            match self.answer(number) {
                (ACK, payload) => {
                    assert_eq!(payload, b"", "an acknowledgement has no payload");
                    return all;
                }
                (kind, text) if kind >> 31 == 1 => panic!("{kind:#x}: {}", String::from_utf8_lossy(&text)),
                other => all.push(other),
            }
        }
    }

    /// Sends an option that is refused; the text.
    pub fn refused(&mut self, number: u32, payload: &[u8], why: u32) -> String {
        self.option(number, payload);
        let (kind, text) = self.answer(number);
        let text = String::from_utf8(text).expect("texts are UTF-8");
        assert_eq!(kind, why, "{kind:#x}, not {why:#x}: {text}");
        text
    }

    /// Sends an option that is acknowledged and nothing else.
    pub fn agree(&mut self, number: u32) {
        assert_eq!(self.ask(number, &[]), [], "an acknowledgement only");
        match number {
            STRUCTURED => self.style = Style::Structured,
            EXTENDED => self.style = Style::Extended,
            _ => {}
        }
    }

    /// What INFO or GO tell of one kind.
    pub fn told(&mut self, number: u32, name: &str, wanted: &[u16], kind: u16) -> Vec<u8> {
        let answers = self.ask(number, &go(name, wanted));
        assert!(answers.iter().all(|(rep, _)| *rep == REP_INFO));
        let found: Vec<_> = answers.iter().filter(|(_, payload)| be16(payload) == kind).collect();
        assert_eq!(found.len(), 1, "told once: {answers:?}");
        found[0].1[2..].to_vec()
    }

    /// The transmission flags that INFO or GO tell.
    pub fn transmission_flags(&mut self, number: u32) -> u16 {
        let export = self.told(number, "", &[], 0);
        assert_eq!(be64(&export), SIZE);
        be16(&export[8..])
    }

    /// Chooses the default export.
    pub fn enter(&mut self) {
        self.ask(GO, &go("", &[]));
    }

    /// Chooses that export.
    pub fn enter_export(&mut self, name: &str) {
        self.ask(GO, &go(name, &[]));
    }

    /// The contexts that SET_META_CONTEXT selects; their names in order.
    pub fn select(&mut self, name: &str, queries: &[&str]) -> Vec<String> {
        let answers = self.ask(SET_META, &meta(name, queries));
        self.contexts.clear();
        let named = |(kind, payload): &(u32, Vec<u8>)| {
            assert_eq!(*kind, REP_META);
            (String::from_utf8(payload[4..].to_vec()).unwrap(), be32(payload))
        };
        let selected: Vec<_> = answers.iter().map(named).collect();
        self.contexts.extend(selected.clone());
        selected.into_iter().map(|(name, _)| name).collect()
    }

    /// The contexts that LIST_META_CONTEXT lists, in order.
    pub fn listed(&mut self, queries: &[&str]) -> Vec<String> {
        let answers = self.ask(LIST_META, &meta("", queries));
        assert!(answers.iter().all(|(kind, _)| *kind == REP_META));
        answers.iter().map(|(_, payload)| String::from_utf8(payload[4..].to_vec()).unwrap()).collect()
    }

    /// The number of a selected context.
    pub fn id(&self, context: &str) -> u32 {
        self.contexts[context]
    }

    /// In the transmission phase with replies of that style, and with both contexts if there are chunks.
    pub fn ready(&mut self, style: Style) {
        self.hello();
        match style {
            Style::Simple => return self.enter(),
            Style::Structured => self.agree(STRUCTURED),
            Style::Extended => self.agree(EXTENDED),
        }
        self.select("", &[ALLOCATION, DEPTH]);
        self.enter();
    }

    /// As [`Client::ready`], with the one context.
    pub fn ready_with(&mut self, style: u32, context: &str) {
        self.hello();
        self.agree(style);
        self.select("", &[context]);
        self.enter();
    }
}

// ---- requests and replies -------------------------------------------------------------------------------------

/// A request of 32 bytes.
pub fn extended(flags: u16, kind: u16, cookie: u64, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = 0x21e4_1c71_u32.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    bytes
}

impl Client {
    /// A request as the style has it.
    pub fn encode(&mut self, flags: u16, kind: u16, cookie: u64, offset: u64, len: u64) -> Vec<u8> {
        self.asked.insert(cookie, offset);
        match self.style {
            Style::Extended => extended(flags, kind, cookie, offset, len),
            _ => compact(flags, kind, cookie, offset, len.try_into().unwrap()),
        }
    }

    pub fn request(&mut self, flags: u16, kind: u16, cookie: u64, offset: u64, len: u64) {
        let bytes = self.encode(flags, kind, cookie, offset, len);
        self.send(&bytes);
    }

    /// Error number and cookie of a simple reply; what it carries must be received after it.
    pub fn simple_reply(&mut self) -> (u32, u64) {
        assert_ne!(self.style, Style::Extended, "with extended headers there are no simple replies");
        let header = self.receive(16);
        assert_eq!(be32(&header), 0x6744_6698, "simple reply magic");
        (be32(&header[4..]), be64(&header[8..]))
    }

    pub fn chunk(&mut self) -> Chunk {
        let magic = be32(&self.receive(4));
        self.chunk_behind(magic)
    }

    fn chunk_behind(&mut self, magic: u32) -> Chunk {
        let rest = match self.style {
            Style::Simple => panic!("a chunk without an agreement on chunks"),
            Style::Structured => {
                assert_eq!(magic, 0x668e_33ef, "structured reply magic");
                self.receive(16)
            }
            Style::Extended => {
                assert_eq!(magic, 0x6e8a_278c, "extended reply magic");
                self.receive(28)
            }
        };
        let (flags, cookie) = (be16(&rest), be64(&rest[4..]));
        assert!(flags <= 1, "flags of a chunk: {flags:#x}");
        let len = if self.style == Style::Extended {
            assert_eq!(be64(&rest[12..]), self.asked[&cookie], "the request's offset");
            be64(&rest[20..])
        } else {
            be32(&rest[12..]).into()
        };
        assert!(len <= (32 << 20) + 8, "a chunk of {len} bytes");
        Chunk { last: flags == 1, kind: be16(&rest[2..]), cookie, payload: self.receive(len) }
    }

    /// All chunks of the one reply that is on its way.
    pub fn chunks(&mut self) -> Vec<Chunk> {
        let mut all = vec![self.chunk()];
        while !all.last().unwrap().last {
            all.push(self.chunk());
        }
        all
    }

    /// Reads, and gets what the disk has there.
    pub fn reads(&mut self, flags: u16, offset: u64, len: u64) {
        self.request(flags, READ, 0xfeed, offset, len);
        self.content(0xfeed, offset, len);
    }

    /// The reply to a read, with what the disk has there.
    pub fn content(&mut self, cookie: u64, offset: u64, len: u64) {
        if self.style == Style::Simple {
            assert_eq!(self.simple_reply(), (0, cookie));
            return assert!(self.receive(len) == expected(offset, len), "the data");
        }
        let chunks = self.chunks();
        assert!(chunks.iter().all(|chunk| chunk.cookie == cookie), "the cookie");
        assert!(assemble(&chunks, offset, len) == expected(offset, len), "the data");
    }

    /// The reply is success without data. With structured replies a simple one is allowed, too.
    pub fn done(&mut self, cookie: u64) {
        let magic = be32(&self.receive(4));
        if magic == 0x6744_6698 && self.style != Style::Extended {
            let rest = self.receive(12);
            return assert_eq!((be32(&rest), be64(&rest[4..])), (0, cookie));
        }
        let chunk = self.chunk_behind(magic);
        assert_eq!(chunk, Chunk { last: true, kind: NONE, cookie, payload: vec![] });
    }

    /// The reply is this error; its text.
    pub fn fails(&mut self, cookie: u64, errno: u32) -> String {
        if self.style == Style::Simple {
            assert_eq!(self.simple_reply(), (errno, cookie));
            return String::new();
        }
        let chunk = self.chunk();
        let text = String::from_utf8_lossy(&chunk.payload[6.min(chunk.payload.len())..]).into_owned();
        assert!(chunk.last && chunk.cookie == cookie && chunk.kind & 0x8000 != 0, "no error: {chunk:?}");
        assert_eq!(be32(&chunk.payload), errno, "{text}");
        text
    }

    /// A request without payload that fails with this error.
    pub fn request_fails(&mut self, flags: u16, kind: u16, offset: u64, len: u64, errno: u32) -> String {
        self.request(flags, kind, 0xbad, offset, len);
        self.fails(0xbad, errno)
    }

    /// A request with payload that fails with this error, and the connection stays in step.
    pub fn payload_fails(&mut self, flags: u16, kind: u16, payload: &[u8], errno: u32) {
        self.request(flags, kind, 0xbad, 0, payload.len() as u64);
        self.send(payload);
        self.fails(0xbad, errno);
        self.alive();
    }

    /// Asks for the status in one context; length and flags of each extent.
    pub fn status(&mut self, flags: u16, context: &str, offset: u64, len: u64) -> Vec<(u64, u64)> {
        self.request(flags, STATUS, 0x57, offset, len);
        let mut all = self.statuses();
        assert_eq!(all.len(), 1, "one context");
        all.remove(context).unwrap()
    }

    /// The one reply on its way, with the status of each context; each stands in one chunk.
    pub fn statuses(&mut self) -> BTreeMap<String, Vec<(u64, u64)>> {
        let mut all = BTreeMap::new();
        for chunk in self.chunks() {
            let id = be32(&chunk.payload);
            let name = self.contexts.iter().find(|(_, known)| **known == id).unwrap().0.clone();
            let extents: Vec<_> = if self.style == Style::Extended {
                assert_eq!(chunk.kind, BLOCK_STATUS_EXT);
                let count = be32(&chunk.payload[4..]) as usize;
                assert_eq!(chunk.payload.len(), 8 + 16 * count, "the count of descriptors");
                chunk.payload[8..].chunks(16).map(|e| (be64(e), be64(&e[8..]))).collect()
            } else {
                assert_eq!(chunk.kind, BLOCK_STATUS);
                chunk.payload[4..].chunks(8).map(|e| (be32(e).into(), be32(&e[4..]).into())).collect()
            };
            assert!(all.insert(name, extents).is_none(), "one chunk a context");
        }
        all
    }

    /// The connection works.
    pub fn alive(&mut self) {
        self.request(0, READ, 0xa11fe, 4096, 512);
        self.content(0xa11fe, 4096, 512);
    }
}

/// The data that content chunks carry, put together as a client does; every byte of the range exactly once.
pub fn assemble(chunks: &[Chunk], offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0xee; len as usize];
    let mut covered = 0;
    for chunk in chunks {
        let part = match chunk.kind {
            OFFSET_DATA => chunk.payload[8..].to_vec(),
            OFFSET_HOLE => vec![0; be32(&chunk.payload[8..]) as usize],
            // An end without anything is allowed.
            NONE => continue,
            other => panic!("chunk of kind {other:#x}"),
        };
        let at = (be64(&chunk.payload) - offset) as usize;
        bytes[at..at + part.len()].copy_from_slice(&part);
        covered += part.len();
    }
    assert_eq!(covered as u64, len, "every byte once");
    bytes
}
