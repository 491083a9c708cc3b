//! The client's side of the handshake: options and their answers, until the server has given the export.
//!
//! ```text
//! server  NBDMAGIC IHAVEOPT flags
//! client  flags │ STRUCTURED_REPLY │ SET_META_CONTEXT base:allocation │ GO export, BLOCK_SIZE
//!                   └ or not           └ or not                          └ or EXPORT_NAME, for old servers
//! ```
//! Fixed newstyle only; `doc/proto.md` of the NBD project, "Handshake phase".

use crate::error::{Error, ErrorKind};
use crate::nbd_protocol::{
    ALLOCATION, FIXED_NEWSTYLE, LEGACY_ZEROES, NO_ZEROES, OPTION_MAGIC, REPLY_MAGIC, info, option, rep,
};
use crate::num::wide;
use crate::text::escape;
use std::io::{self, Read, Write};

/// Sent by the server first; then one of the next two.
const GREETING: &[u8; 8] = b"NBDMAGIC";
const NEWSTYLE: &[u8; 8] = OPTION_MAGIC;
const OLDSTYLE: u64 = 0x0000_4202_8186_1253;
/// Longest string in the protocol ("Values", "String").
const MAX_STRING: usize = 4096;
/// Longest answer to an option; a server that announces more is not talked to.
const MAX_REPLY: u32 = 64 << 10;
/// Answers to one option; a list of exports may have many.
const MAX_REPLIES: usize = 4096;
/// Exports named where the one that is wanted does not exist.
const MAX_NAMED: usize = 20;

/// The largest minimum block size that the protocol allows.
const MAX_MINIMUM: u32 = 64 << 10;
/// The largest request where the server says nothing.
const DEFAULT_MAXIMUM: u32 = 32 << 20;

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Of the export, in bytes.
    pub(super) size: u64,
    /// Replies come in chunks.
    pub(super) structured: bool,
    /// The number of `base:allocation`, if block status may be asked for.
    pub(super) allocation: Option<u32>,
    /// Requests begin and end at multiples of this; a power of two.
    pub(super) minimum: u32,
    /// No request may be longer; a multiple of the minimum.
    pub(super) maximum: u32,
}

/// Why there was no agreement.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection broke; another one may not.
    Broken(io::Error),
    /// The server's answer, or what is wrong with it.
    Final(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

type Step<T> = Result<T, Failure>;

fn nonsense<T>(what: &str) -> Step<T> {
    Err(Failure::Final(Error::new(ErrorKind::Source, format!("the server breaks the NBD protocol: {what}"))))
}

/// One answer to an option.
struct Reply {
    kind: u32,
    payload: Vec<u8>,
}

impl Reply {
    /// The server's own words, escaped.
    fn words(&self) -> String {
        let text = self.payload.get(..MAX_STRING).unwrap_or(&self.payload);
        if text.is_empty() { String::new() } else { format!(": {}", escape(text)) }
    }
}

/// Big-endian numbers off the front of a payload.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

fn read_array<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_u16(stream: &mut impl Read) -> io::Result<u16> {
    read_array(stream).map(u16::from_be_bytes)
}

fn read_u32(stream: &mut impl Read) -> io::Result<u32> {
    read_array(stream).map(u32::from_be_bytes)
}

fn read_u64(stream: &mut impl Read) -> io::Result<u64> {
    read_array(stream).map(u64::from_be_bytes)
}

fn length(bytes: usize) -> [u8; 4] {
    // Names are checked to be shorter than 4096 bytes.
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// The conversation, in order.
struct Client<S> {
    stream: S,
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, option: u32, payload: &[u8]) -> io::Result<()> {
        let mut bytes = OPTION_MAGIC.to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend(length(payload.len()));
        bytes.extend(payload);
        self.stream.write_all(&bytes)
    }

    fn receive(&mut self, option: u32) -> Step<Reply> {
        if read_u64(&mut self.stream)? != REPLY_MAGIC {
            return nonsense("an answer without its magic number");
        }
        if read_u32(&mut self.stream)? != option {
            return nonsense("an answer to an option that was not sent");
        }
        let kind = read_u32(&mut self.stream)?;
        let len = read_u32(&mut self.stream)?;
        if len > MAX_REPLY {
            return nonsense(&format!("an answer of {len} bytes"));
        }
        let mut payload = Vec::new();
        Read::by_ref(&mut self.stream).take(len.into()).read_to_end(&mut payload)?;
        if wide(payload.len()) != u64::from(len) {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(Reply { kind, payload })
    }

    /// Sends an option, and gives every answer before the last to `each`; the last one is `ACK` or an error.
    fn ask(&mut self, option: u32, payload: &[u8], mut each: impl FnMut(&Reply) -> Step<()>) -> Step<Reply> {
        self.send(option, payload)?;
        for _ in 0..MAX_REPLIES {
            let reply = self.receive(option)?;
            if reply.kind == rep::ACK || reply.kind & rep::ERROR != 0 {
                return Ok(reply);
            }
            each(&reply)?;
        }
        nonsense("answers without end")
    }

    /// The names of the exports, for people.
    fn list(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        let listed = self.ask(option::LIST, &[], |reply| {
            let mut rest = reply.payload.as_slice();
            if reply.kind == rep::SERVER
                && names.len() < MAX_NAMED
                && let Some(len) = take(&mut rest).map(u32::from_be_bytes)
                && let Some(name) = usize::try_from(len).ok().and_then(|len| rest.get(..len))
            {
                names.push(format!("'{}'", escape(name.get(..MAX_STRING).unwrap_or(name))));
            }
            Ok(())
        });
        // The list is an extra: without it the error is as true.
        if listed.is_ok() { names } else { Vec::new() }
    }
}

/// The smallest maximum that is believed; the protocol asks for 1 MiB, or the size of the export if that is less.
const LEAST_MAXIMUM: u32 = 512;

/// Sizes as the server states them, checked.
fn block_sizes(minimum: u32, maximum: u32) -> Option<(u32, u32)> {
    // Less than a sector at a time would be requests without number.
    let sound = minimum.is_power_of_two() && minimum <= MAX_MINIMUM && maximum >= minimum.max(LEAST_MAXIMUM);
    let rest = maximum.checked_rem(minimum)?;
    sound.then(|| (minimum, maximum.saturating_sub(rest)))
}

/// What people call an export in a sentence.
fn called(export: &[u8]) -> String {
    if export.is_empty() { "the default export".to_owned() } else { format!("export '{}'", escape(export)) }
}

/// Negotiates for `export`.
pub(super) fn negotiate(stream: impl Read + Write, export: &[u8]) -> Step<Agreed> {
    let mut client = Client { stream };
    if read_array(&mut client.stream)? != *GREETING {
        return Err(Failure::Final(Error::new(ErrorKind::Source, "is not an NBD server")));
    }
    let style: [u8; 8] = read_array(&mut client.stream)?;
    if u64::from_be_bytes(style) == OLDSTYLE {
        return Err(Failure::Final(Error::unsupported("the oldstyle handshake of NBD")));
    }
    if style != *NEWSTYLE {
        return nonsense("an unknown greeting");
    }
    let flags = read_u16(&mut client.stream)?;
    if flags & FIXED_NEWSTYLE == 0 {
        return Err(Failure::Final(Error::unsupported("the newstyle handshake of NBD that is not fixed")));
    }
    let zeroes = flags & NO_ZEROES == 0;
    let ours = FIXED_NEWSTYLE | if zeroes { 0 } else { NO_ZEROES };
    client.stream.write_all(&u32::from(ours).to_be_bytes())?;

    let mut agreed =
        Agreed { size: 0, structured: false, allocation: None, minimum: 1, maximum: DEFAULT_MAXIMUM };
    let reply = client.ask(option::STRUCTURED_REPLY, &[], |_| Ok(()))?;
    if reply.kind == rep::ERR_TLS_REQD {
        return Err(Failure::Final(tls_required(&reply)));
    }
    agreed.structured = reply.kind == rep::ACK;
    if agreed.structured {
        let mut payload = length(export.len()).to_vec();
        payload.extend(export);
        payload.extend(1_u32.to_be_bytes());
        payload.extend(length(ALLOCATION.len()));
        payload.extend(ALLOCATION);
        let mut number = None;
        let reply = client.ask(option::SET_META_CONTEXT, &payload, |reply| {
            let mut rest = reply.payload.as_slice();
            if reply.kind == rep::META_CONTEXT
                && let Some(found) = take(&mut rest).map(u32::from_be_bytes)
                && rest == ALLOCATION
            {
                number = Some(found);
            }
            Ok(())
        })?;
        agreed.allocation = number.filter(|_| reply.kind == rep::ACK);
    }
    go(&mut client, export, zeroes, agreed)
}

/// Asks for the export.
fn go<S: Read + Write>(
    client: &mut Client<S>,
    export: &[u8],
    zeroes: bool,
    mut agreed: Agreed,
) -> Step<Agreed> {
    let mut payload = length(export.len()).to_vec();
    payload.extend(export);
    payload.extend(1_u16.to_be_bytes());
    payload.extend(info::BLOCK_SIZE.to_be_bytes());
    let mut size = None;
    let mut sizes = Some((agreed.minimum, agreed.maximum));
    let reply = client.ask(option::GO, &payload, |reply| {
        let mut rest = reply.payload.as_slice();
        let kind = take(&mut rest).map(u16::from_be_bytes).filter(|_| reply.kind == rep::INFO);
        match kind {
            Some(info::EXPORT) => match take(&mut rest).map(u64::from_be_bytes) {
                Some(bytes) if rest.len() == 2 => size = Some(bytes),
                _ => return nonsense("a torn description of the export"),
            },
            Some(info::BLOCK_SIZE) => {
                let minimum = take(&mut rest).map(u32::from_be_bytes);
                let _preferred: Option<[u8; 4]> = take(&mut rest);
                let maximum = take(&mut rest).map(u32::from_be_bytes);
                sizes = minimum.zip(maximum).and_then(|(minimum, maximum)| block_sizes(minimum, maximum));
            }
            _ => {}
        }
        Ok(())
    })?;
    match (reply.kind, size) {
        (rep::ACK, Some(bytes)) => {
            let Some((minimum, maximum)) = sizes else { return nonsense("block sizes that make no sense") };
            Ok(Agreed { size: bytes, minimum, maximum, ..agreed })
        }
        (rep::ACK, None) => nonsense("an export without a size"),
        (rep::ERR_UNSUP, _) => {
            // Servers from before 2016. They close the connection when there is no such export.
            client.send(option::EXPORT_NAME, export)?;
            agreed.size = read_u64(&mut client.stream)?;
            read_u16(&mut client.stream)?;
            if zeroes {
                read_array::<LEGACY_ZEROES>(&mut client.stream)?;
            }
            Ok(agreed)
        }
        (rep::ERR_UNKNOWN, _) => {
            let error =
                Error::new(ErrorKind::NotFound, format!("has no {}{}", called(export), reply.words()));
            let names = client.list();
            let _ = client.send(option::ABORT, &[]);
            let help = format!("its exports: {}", names.join(", "));
            Err(Failure::Final(if names.is_empty() { error } else { error.help(help) }))
        }
        (rep::ERR_TLS_REQD, _) => Err(Failure::Final(tls_required(&reply))),
        (rep::ERR_BLOCK_SIZE_REQD, _) => nonsense("it wants its block sizes honoured, and did not say them"),
        (rep::ERR_POLICY | rep::ERR_SHUTDOWN, _) => {
            let why = if reply.kind == rep::ERR_POLICY { "does not allow it" } else { "is shutting down" };
            let what = format!("{}: the server {why}{}", called(export), reply.words());
            Err(Failure::Final(Error::new(ErrorKind::Source, what)))
        }
        (kind, _) => {
            let number = kind & !rep::ERROR;
            let what = format!("{}: refused with error {number}{}", called(export), reply.words());
            Err(Failure::Final(Error::new(ErrorKind::Source, what)))
        }
    }
}

fn tls_required(reply: &Reply) -> Error {
    Error::unsupported(format!("NBD over TLS, which the server insists on{},", reply.words()))
        .help("let the server listen without TLS behind ssh -L, a VPN or a Unix socket")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that has said everything beforehand.
    struct Said<'a>(&'a [u8], Vec<u8>);

    impl Read for Said<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for Said<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.1.extend(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn greeting(flags: u16) -> Vec<u8> {
        [b"NBDMAGICIHAVEOPT".as_slice(), &flags.to_be_bytes()].concat()
    }

    fn answer(option: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
        let head = [option.to_be_bytes(), kind.to_be_bytes(), length(payload.len())].concat();
        [0x0003_e889_0455_65a9_u64.to_be_bytes().as_slice(), &head, payload].concat()
    }

    fn export(size: u64) -> Vec<u8> {
        [&0_u16.to_be_bytes()[..], &size.to_be_bytes(), &[0, 3]].concat()
    }

    fn sizes(minimum: u32, maximum: u32) -> Vec<u8> {
        [&3_u16.to_be_bytes()[..], &minimum.to_be_bytes(), &[0, 0, 16, 0], &maximum.to_be_bytes()].concat()
    }

    fn ends(said: &[Vec<u8>]) -> Step<Agreed> {
        negotiate(Said(&said.concat(), Vec::new()), b"x")
    }

    fn refused(said: &[Vec<u8>]) -> String {
        match ends(said).unwrap_err() {
            Failure::Final(error) => error.to_string(),
            Failure::Broken(error) => format!("broken: {error}"),
        }
    }

    #[test]
    fn everything_agreed() {
        let context = [7_u32.to_be_bytes().as_slice(), b"base:allocation"].concat();
        let said = [
            greeting(3),
            answer(8, 1, &[]),
            answer(10, 4, &context),
            answer(10, 1, &[]),
            answer(7, 3, &export(1 << 40)),
            answer(7, 3, &sizes(512, 0xffff_ffff)),
            answer(7, 1, &[]),
        ];
        let agreed = ends(&said).unwrap();
        let expected = Agreed {
            size: 1 << 40,
            structured: true,
            allocation: Some(7),
            minimum: 512,
            maximum: 0xffff_fe00,
        };
        assert_eq!(agreed, expected);
    }

    #[test]
    fn an_old_server_is_asked_by_export_name() {
        let unsupported = |option| answer(option, 1 << 31 | 1, b"no");
        let size = [5000_u64.to_be_bytes().as_slice(), &[0, 3], &[0; 124]].concat();
        let agreed = ends(&[greeting(1), unsupported(8), unsupported(7), size]).unwrap();
        assert_eq!((agreed.size, agreed.structured, agreed.minimum), (5000, false, 1));
    }

    #[test]
    fn refusals_are_told_in_words() {
        let no = |option, kind: u32, text: &str| answer(option, 1 << 31 | kind, text.as_bytes());
        let plain = [greeting(3), no(8, 1, "")];
        let with = |last: Vec<u8>| refused(&[&plain[..], &[last]].concat());
        assert!(refused(&[greeting(3), no(8, 5, "use \x1b TLS")]).contains("TLS"));
        assert!(!refused(&[greeting(3), no(8, 5, "use \x1b TLS")]).contains('\x1b'));
        assert!(with(no(7, 2, "not you")).contains("not you"));
        assert!(with(no(7, 9, "")).contains("error 9"));
        assert_eq!(with(no(7, 6, "")), "has no export 'x'");
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let plain = [greeting(3), answer(8, 1 << 31 | 1, &[])];
        let with = |last: &[Vec<u8>]| refused(&[&plain[..], last].concat());
        assert!(refused(&[b"HTTP/1.1 400 Bad Request".to_vec()]).contains("not an NBD server"));
        assert!(refused(&[b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53".to_vec()]).contains("oldstyle"));
        assert!(refused(&[greeting(2)]).contains("not fixed"));
        assert!(with(&[answer(7, 1, &[])]).contains("without a size"));
        for (minimum, maximum) in [(0, 1), (3, 4096), (128 << 10, 1 << 20), (4096, 512)] {
            let said = [answer(7, 3, &export(1)), answer(7, 3, &sizes(minimum, maximum)), answer(7, 1, &[])];
            assert!(with(&said).contains("block sizes"), "{minimum} {maximum}");
        }
        let mut long = answer(7, 3, &[]);
        long.truncate(16);
        long.extend(u32::MAX.to_be_bytes());
        assert!(with(&[long]).contains("4294967295 bytes"));
        let endless = answer(7, 3, &export(1)).repeat(MAX_REPLIES);
        assert!(with(&[endless]).contains("without end"));
    }

    #[test]
    fn a_handshake_cut_anywhere_is_broken() {
        let said = [greeting(3), answer(8, 1 << 31 | 1, b"no"), answer(7, 3, &export(9)), answer(7, 1, &[])];
        let whole = said.concat();
        for len in 0..whole.len() {
            let cut = negotiate(Said(&whole[..len], Vec::new()), b"x");
            assert!(matches!(cut, Err(Failure::Broken(_))), "{len}");
        }
    }
}
