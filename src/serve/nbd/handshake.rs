//! The handshake: greeting, options and their answers, until the client has chosen an export or gone.
//!
//! [`Negotiation`] is the protocol without the network: an option in, bytes out. [`negotiate`] moves the bytes, and
//! reads exactly what belongs to the handshake, so that the first request stays in the socket for the session.
//! Fixed newstyle only; `doc/proto.md` of the NBD project, "Handshake phase".

use super::context::Context;
use super::export::{Export, Exports};
use super::seat::{Seat, Seats};
use super::tls::Encryption;
use crate::nbd_protocol::options::{Go, MetaContext, answer};
use crate::nbd_protocol::{FIXED_NEWSTYLE, LEGACY_ZEROES, NO_ZEROES, OPTION_MAGIC, Style, info, option, rep};
use crate::text::escape;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Sent by the server first.
const GREETING: &[u8; 16] = b"NBDMAGICIHAVEOPT";
/// Longest string in the protocol ("Values", "String").
const MAX_STRING: u32 = 4096;
/// Longest option that is looked at: one string of full length and the numbers around it.
const MAX_PAYLOAD: u32 = MAX_STRING + 64;
/// Longest option that is read over to stay in step; a client that announces more is dropped.
const MAX_SKIP: u32 = 1 << 20;
/// Options a client may send, nbdkit's number; and as many again for each export, of which some clients ask one by one.
const MAX_OPTIONS: usize = 32;

/// What those are told who do not encrypt where they must.
const TLS_FIRST: &str = "this server talks to nobody without TLS: ask for STARTTLS first";

/// What those are told who contradict themselves.
const CONTRADICTION: &str = "the lengths in this option contradict each other";

/// What client and server agreed on.
#[derive(Debug)]
pub(super) struct Agreed {
    pub(super) export: Arc<Export>,
    /// How requests and replies look.
    pub(super) style: Style,
    /// What block status tells, unless the client chooses among them.
    pub(super) contexts: Vec<Context>,
    /// Held as long as the client is served.
    pub(super) seat: Seat,
}

/// How it goes on after an option.
#[derive(Debug)]
enum Next {
    /// With another option.
    Option,
    /// With requests.
    Requests(Agreed),
    /// With a TLS handshake, and then from the beginning.
    Tls,
    /// Not at all.
    Close,
}

/// What became of a client's options.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It has chosen its export.
    Agreed(Agreed),
    /// It waits for the TLS handshake, after which its options begin anew, with the same flags.
    StartTls(ClientFlags),
    /// It left, or asked for what cannot be answered by an error.
    Gone,
}

/// What a client said first.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientFlags(u32);

/// The state of one handshake.
#[derive(Debug)]
struct Negotiation<'a> {
    exports: &'a Exports,
    seats: &'a Seats,
    encryption: Encryption,
    fixed: bool,
    zeroes: bool,
    style: Style,
    /// What `SET_META_CONTEXT` selected, and for which export.
    selected: Option<(Arc<Export>, Vec<Context>)>,
}

fn length(string: &str) -> [u8; 4] {
    u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes()
}

impl<'a> Negotiation<'a> {
    fn new(
        exports: &'a Exports,
        seats: &'a Seats,
        encryption: Encryption,
        ClientFlags(client_flags): ClientFlags,
    ) -> Option<Self> {
        let known = u32::from(FIXED_NEWSTYLE | NO_ZEROES);
        (client_flags & !known == 0).then(|| Self {
            exports,
            seats,
            encryption,
            fixed: client_flags & u32::from(FIXED_NEWSTYLE) != 0,
            zeroes: client_flags & u32::from(NO_ZEROES) == 0,
            style: Style::Simple,
            selected: None,
        })
    }

    /// Does the answer wait until all exports are known? What is said of the first ones is the same before.
    fn waits_for_all(&self, number: u32, payload: &[u8]) -> bool {
        let name = match number {
            option::LIST => return true,
            option::EXPORT_NAME => Some(payload),
            option::INFO | option::GO => Go::parse(payload).map(|go| go.name),
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                MetaContext::parse(payload).map(|asked| asked.name)
            }
            _ => None,
        };
        name.is_some_and(|name| self.exports.find(name).is_none())
    }

    /// Answers one option into `out`.
    fn option(&mut self, number: u32, payload: &[u8], out: &mut Vec<u8>) -> Next {
        // Without fixed newstyle a client understands one option and no error to it.
        if !self.fixed && number != option::EXPORT_NAME {
            return Next::Close;
        }
        let refuse = |out: &mut Vec<u8>, kind: u32, why: &str| {
            answer(out, number, kind, &[why.as_bytes()]);
            Next::Option
        };
        if self.wants_tls_before(number) {
            if number == option::EXPORT_NAME {
                return Next::Close;
            }
            return refuse(out, rep::ERR_TLS_REQD, TLS_FIRST);
        }
        match number {
            option::STARTTLS => {
                return match self.encryption {
                    Encryption::Unavailable => {
                        refuse(out, rep::ERR_POLICY, "this server was started without TLS")
                    }
                    Encryption::On => refuse(out, rep::ERR_INVALID, "the connection is encrypted already"),
                    _ if !payload.is_empty() => refuse(out, rep::ERR_INVALID, "this option carries no data"),
                    Encryption::Offered | Encryption::Required => {
                        answer(out, number, rep::ACK, &[]);
                        Next::Tls
                    }
                };
            }
            option::EXPORT_NAME => return self.export_name(payload, out),
            option::ABORT => {
                answer(out, number, rep::ACK, &[]);
                return Next::Close;
            }
            option::LIST if payload.is_empty() => {
                for export in self.exports.iter() {
                    let name = export.name.as_str();
                    let parts = [&length(name)[..], name.as_bytes(), export.about.as_bytes()];
                    answer(out, number, rep::SERVER, &parts);
                }
                answer(out, number, rep::ACK, &[]);
            }
            option::LIST => return refuse(out, rep::ERR_INVALID, "this option carries no data"),
            option::STRUCTURED_REPLY | option::EXTENDED_HEADERS => self.choose_style(number, payload, out),
            option::INFO | option::GO => {
                let Some(Go { name, wanted }) = Go::parse(payload) else {
                    return refuse(out, rep::ERR_INVALID, CONTRADICTION);
                };
                let Some(export) = self.exports.find(name).map(Arc::clone) else {
                    return refuse(out, rep::ERR_UNKNOWN, &self.no_export(name));
                };
                if number == option::INFO {
                    self.describe(&export, number, &wanted, out);
                    answer(out, number, rep::ACK, &[]);
                    return Next::Option;
                }
                let Some(agreed) = self.agree(&export) else {
                    return refuse(out, rep::ERR_POLICY, "too many clients are connected");
                };
                self.describe(&export, number, &wanted, out);
                answer(out, number, rep::ACK, &[]);
                return Next::Requests(agreed);
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                self.meta_context(number, payload, out);
            }
            _ => return refuse(out, rep::ERR_UNSUP, "this server does not know this option"),
        }
        Next::Option
    }

    /// Is this an option that is not even looked at before the connection is encrypted?
    const fn wants_tls_before(&self, number: u32) -> bool {
        matches!(self.encryption, Encryption::Required) && !matches!(number, option::STARTTLS | option::ABORT)
    }

    /// How requests and replies look from the choice of an export on. Upwards only, and each step once, as qemu has it.
    fn choose_style(&mut self, number: u32, payload: &[u8], out: &mut Vec<u8>) {
        let mut refuse = |kind: u32, why: &str| answer(out, number, kind, &[why.as_bytes()]);
        if !payload.is_empty() {
            return refuse(rep::ERR_INVALID, "this option carries no data");
        }
        self.style = match (number, self.style) {
            (option::STRUCTURED_REPLY, Style::Simple) => Style::Structured,
            (option::STRUCTURED_REPLY, Style::Structured) => {
                return refuse(rep::ERR_INVALID, "structured replies were agreed on before");
            }
            (option::STRUCTURED_REPLY, Style::Extended) => {
                return refuse(rep::ERR_EXT_HEADER_REQD, "extended headers were agreed on before");
            }
            (_, Style::Extended) => {
                return refuse(rep::ERR_INVALID, "extended headers were agreed on before");
            }
            (_, Style::Simple | Style::Structured) => Style::Extended,
        };
        answer(out, number, rep::ACK, &[]);
    }

    /// The oldest way to choose: no errors, no information but size and flags. Who uses extended headers must not use it.
    fn export_name(&self, name: &[u8], out: &mut Vec<u8>) -> Next {
        if self.style == Style::Extended {
            return Next::Close;
        }
        let Some(agreed) = self.exports.find(name).and_then(|export| self.agree(export)) else {
            return Next::Close;
        };
        out.extend(agreed.export.source.len().to_be_bytes());
        let contexts = !agreed.contexts.is_empty();
        out.extend(agreed.export.flags(self.style, contexts, self.seats.all()).to_be_bytes());
        if self.zeroes {
            out.extend([0; LEGACY_ZEROES]);
        }
        Next::Requests(agreed)
    }

    /// `None` when the server is full.
    fn agree(&self, export: &Arc<Export>) -> Option<Agreed> {
        let seat = self.seats.take()?;
        let contexts = self.contexts_of(export).to_vec();
        Some(Agreed { export: Arc::clone(export), style: self.style, contexts, seat })
    }

    /// A context counts for the export that it was selected for, and for no other.
    fn contexts_of(&self, export: &Arc<Export>) -> &[Context] {
        match &self.selected {
            Some((chosen, contexts)) if Arc::ptr_eq(chosen, export) => contexts,
            _ => &[],
        }
    }

    fn describe(&self, export: &Arc<Export>, number: u32, wanted: &[u16], out: &mut Vec<u8>) {
        let mut tell = |kind: u16, parts: &[&[u8]]| {
            let kind = kind.to_be_bytes();
            let parts: Vec<&[u8]> = std::iter::once(&kind[..]).chain(parts.iter().copied()).collect();
            answer(out, number, rep::INFO, &parts);
        };
        // What is only looked at may still have its contexts selected.
        let contexts = number == option::INFO || !self.contexts_of(export).is_empty();
        let flags = export.flags(self.style, contexts, self.seats.all()).to_be_bytes();
        tell(info::EXPORT, &[&export.source.len().to_be_bytes(), &flags]);
        if wanted.contains(&info::NAME) {
            tell(info::NAME, &[export.name.as_bytes()]);
        }
        if wanted.contains(&info::DESCRIPTION) {
            tell(info::DESCRIPTION, &[export.about.as_bytes()]);
        }
        if wanted.contains(&info::BLOCK_SIZE) {
            let [minimum, preferred, maximum] = export.block_sizes().map(u32::to_be_bytes);
            tell(info::BLOCK_SIZE, &[&minimum, &preferred, &maximum]);
        }
    }

    fn meta_context(&mut self, number: u32, payload: &[u8], out: &mut Vec<u8>) {
        let setting = number == option::SET_META_CONTEXT;
        if setting {
            // "A successful or failing request replaces what was selected before."
            self.selected = None;
        }
        let refuse = |out: &mut Vec<u8>, kind: u32, why: &str| answer(out, number, kind, &[why.as_bytes()]);
        if !self.style.has_chunks() {
            let why = "structured replies or extended headers must be agreed on first";
            return refuse(out, rep::ERR_INVALID, why);
        }
        let Some(asked) = MetaContext::parse(payload) else {
            return refuse(out, rep::ERR_INVALID, CONTRADICTION);
        };
        let Some(export) = self.exports.find(asked.name) else {
            return refuse(out, rep::ERR_UNKNOWN, &self.no_export(asked.name));
        };
        let mut contexts = Context::ALL.to_vec();
        contexts.retain(|context| asked.wants(context.name(), !setting));
        for context in &contexts {
            let id = if setting { context.id() } else { 0 };
            answer(out, number, rep::META_CONTEXT, &[&id.to_be_bytes(), context.name()]);
        }
        if setting {
            self.selected = Some((Arc::clone(export), contexts));
        }
        answer(out, number, rep::ACK, &[]);
    }

    fn no_export(&self, name: &[u8]) -> String {
        let shown: String = escape(name).to_string().chars().take(256).collect();
        // With several images there is no default.
        let other = if self.exports.find(b"").is_some() { ", or for the default export ''" } else { "" };
        format!("no export '{shown}' here; ask for the list{other}")
    }
}

/// Shakes hands, from the greeting on.
///
/// # Errors
/// What the socket reports.
pub(super) async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    exports: &Exports,
    seats: &Seats,
    encryption: Encryption,
) -> io::Result<Outcome> {
    let mut greeting = GREETING.to_vec();
    greeting.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    stream.write_all(&greeting).await?;
    let flags = ClientFlags(stream.read_u32().await?);
    options(stream, exports, seats, encryption, flags).await
}

/// Answers options until there is an outcome. Nothing is known of what was said before: after a TLS handshake, that
/// may have been somebody else.
///
/// # Errors
/// What the socket reports.
pub(super) async fn options<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    exports: &Exports,
    seats: &Seats,
    encryption: Encryption,
    flags: ClientFlags,
) -> io::Result<Outcome> {
    let Some(mut state) = Negotiation::new(exports, seats, encryption, flags) else {
        return Ok(Outcome::Gone);
    };
    let (mut out, mut asked) = (Vec::new(), 0_usize);
    while asked < MAX_OPTIONS.saturating_mul(exports.len().saturating_add(1)) {
        asked = asked.saturating_add(1);
        let mut magic = [0; OPTION_MAGIC.len()];
        stream.read_exact(&mut magic).await?;
        if magic != *OPTION_MAGIC {
            return Ok(Outcome::Gone);
        }
        let number = stream.read_u32().await?;
        let len = stream.read_u32().await?;
        out.clear();
        let next = if len <= MAX_PAYLOAD {
            let mut payload = vec![0; usize::try_from(len).unwrap_or(0)];
            stream.read_exact(&mut payload).await?;
            if !exports.is_complete() && state.waits_for_all(number, &payload) {
                exports.completed().await;
            }
            state.option(number, &payload, &mut out)
        } else if len <= MAX_SKIP && state.fixed && number != option::EXPORT_NAME {
            let mut rest = (&mut *stream).take(u64::from(len));
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
            if state.wants_tls_before(number) {
                answer(&mut out, number, rep::ERR_TLS_REQD, &[TLS_FIRST.as_bytes()]);
            } else {
                answer(&mut out, number, rep::ERR_TOO_BIG, &[b"options may have 4096 bytes"]);
            }
            Next::Option
        } else {
            answer(&mut out, number, rep::ERR_TOO_BIG, &[b"options may have 4096 bytes"]);
            Next::Close
        };
        stream.write_all(&out).await?;
        // TLS may hold something back.
        stream.flush().await?;
        match next {
            Next::Option => {}
            Next::Requests(agreed) => return Ok(Outcome::Agreed(agreed)),
            Next::Tls => return Ok(Outcome::StartTls(flags)),
            Next::Close => {
                stream.shutdown().await?;
                return Ok(Outcome::Gone);
            }
        }
    }
    Ok(Outcome::Gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nbd_protocol::options::Fields;

    /// Numbers from a seed (xorshift64*), the same every time.
    struct Seeded(u64);

    impl Seeded {
        fn below(&mut self, end: u32) -> u32 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
            u32::try_from(high).unwrap().checked_rem(end).unwrap()
        }
    }

    #[test]
    fn any_option_is_answered_in_whole_frames() {
        let mut seeded = Seeded(0x1234_5678);
        for _ in 0..2000 {
            let (exports, seats) = (Exports::new(Vec::new()).unwrap(), Seats::new(1));
            let encryption = match seeded.below(4) {
                0 => Encryption::Unavailable,
                1 => Encryption::Offered,
                2 => Encryption::Required,
                _ => Encryption::On,
            };
            let mut state =
                Negotiation::new(&exports, &seats, encryption, ClientFlags(seeded.below(4))).unwrap();
            for _ in 0..seeded.below(8) {
                let number = seeded.below(13);
                let payload: Vec<u8> =
                    (0..seeded.below(40)).map(|_| u8::try_from(seeded.below(4)).unwrap()).collect();
                let mut out = Vec::new();
                let next = state.option(number, &payload, &mut out);
                let (mut fields, mut last) = (Fields(&out), None);
                while !fields.0.is_empty() {
                    assert_eq!((fields.u32(), fields.u32()), (Some(0x0003_e889), Some(0x0455_65a9)));
                    assert_eq!(fields.u32(), Some(number), "{payload:?}");
                    last = fields.u32();
                    assert!(fields.string().is_some(), "{number} {payload:?}");
                }
                if !matches!(next, Next::Option) {
                    break;
                }
                // The last one ends it: an acknowledgement or an error.
                assert!(last.is_some_and(|kind| kind == rep::ACK || kind >> 31 == 1), "{number} {payload:?}");
            }
        }
    }
}
