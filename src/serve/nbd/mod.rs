//! The NBD server: any source as a network block device, read-only.
//!
//! ```text
//! listeners ─▶ accept ─▶ handshake ──GO──▶ session ─▶ request ─▶ source ─▶ reply
//!              └── one thread, tokio ──┘   └── a blocking thread each, helped by a pool ──┘
//! ```
//! Waiting for strangers (accepting, deadlines, signals) is asynchronous; reading bytes is not: it is a call down
//! the layers, and measured cheaper on a plain thread. The protocol is `doc/proto.md` of the NBD project.
//!
//! What strangers may cost, at most:
//!
//! | | bound |
//! |---|---|
//! | a handshake | [`Options::handshake`], 32 options of 4 KiB |
//! | new connections | 2000 a second for each listener; the others wait in the kernel's queue |
//! | handshakes at a time | 8 for each of [`Options::clients`], or as many as there are descriptors; the oldest makes room for the newest, so silent ones keep nobody out |
//! | clients served at a time | [`Options::clients`] |
//! | a request | 32 MiB |
//! | a block status reply | 4096 extents; questions to the source for 100 ms, or 64 of them |
//! | memory a thread | 272 KiB; replies that may not be split share 32 MiB, then are sent as they are read |
//! | a client that takes no replies | [`Options::stall`], and of the others' threads one, which is replaced |
//!
//! With [`Options::tls`] clients may or must encrypt. Their TLS handshake is a part of the handshake above and within its
//! bounds; an encrypted connection has a buffer of 64 KiB more.

mod context;
mod door;
mod encrypted;
mod export;
mod handshake;
mod pool;
mod reply;
mod request;
mod seat;
mod session;
mod socket;
mod tls;
mod turn;

pub use export::Export;
pub use tls::{Certificates, Tls};

use crate::error::{Error, ErrorKind, Result};
use crate::num::narrow;
use door::Arrival;
use encrypted::Encrypted;
use export::Exports;
use handshake::{Agreed, Outcome};
use pool::Pool;
use seat::Seats;
use session::Session;
use socket::Socket;
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tls::Encryption;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// Memory that replies which may not be split hold over all clients, in bytes: one of the largest requests.
const WHOLE_REPLIES: u64 = 32 << 20;
/// How long clients in the middle of a request are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// Handshakes at a time for each client that may be served. At the pace of the doors a handshake has 0.4 s before those
/// behind it can push it out, which is some round trips across an ocean.
const HANDSHAKES: usize = 8;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Clients served at a time; handshakes are counted apart.
    pub clients: usize,
    /// Time that a client has for its handshake.
    pub handshake: Duration,
    /// Time after which a client that takes none of its replies is dropped.
    pub stall: Duration,
    /// Threads that serve at a time where clients ask for several things at once: the number of cores for local
    /// sources, more for those that are waited for.
    pub threads: usize,
    /// End when everyone who was served has left.
    pub once: bool,
    /// End when nobody has been connected for so long.
    pub idle_exit: Option<Duration>,
    /// End at SIGTERM, SIGINT and SIGHUP.
    pub signals: bool,
    /// Encrypt, for clients that want it or for all.
    pub tls: Option<Tls>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clients: 100,
            handshake: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            threads: std::thread::available_parallelism().map_or(2, usize::from).max(2),
            once: false,
            idle_exit: None,
            signals: false,
            tls: None,
        }
    }
}

/// A bound, listening socket.
#[derive(Debug)]
pub enum Listener {
    /// On a path.
    Unix(UnixListener),
    /// On a port.
    Tcp(TcpListener),
}

/// Ends a [`Server::run`] from another thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Notify>);

impl Stop {
    /// Ends it, now or as soon as it starts.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// What all sessions of a server share.
#[derive(Debug)]
struct Shared {
    pool: Arc<Pool>,
    whole_replies: WholeReplies,
    /// See [`Options::stall`].
    stall: Duration,
}

/// The memory for replies that may not be split.
#[derive(Debug)]
struct WholeReplies {
    left: AtomicU64,
}

/// A part of that memory.
#[derive(Debug)]
struct WholeReply<'a> {
    bytes: Vec<u8>,
    len: u64,
    all: &'a WholeReplies,
}

impl WholeReplies {
    /// Zeroed memory, unless too much is in use.
    fn take(&self, len: u64) -> Option<WholeReply<'_>> {
        let take = |left: u64| left.checked_sub(len);
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        Some(WholeReply { bytes: vec![0; narrow(len)], len, all: self })
    }
}

impl Drop for WholeReply<'_> {
    fn drop(&mut self) {
        self.all.left.fetch_add(self.len, Ordering::AcqRel);
    }
}

/// A server with its exports.
#[derive(Debug)]
pub struct Server {
    exports: Arc<Exports>,
    options: Options,
    seats: Seats,
}

/// A client that has just connected.
enum Client {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
}

impl Client {
    /// Shakes hands. `None`: the client left without having chosen an export.
    async fn negotiate(self, exports: &Exports, seats: &Seats, tls: Option<&Tls>) -> io::Result<Handshake> {
        match self {
            Self::Unix(stream) => {
                negotiate(stream, exports, seats, tls, |stream| Ok(Socket::Unix(stream.into_std()?))).await
            }
            Self::Tcp(stream) => {
                // Answers to options are small and waited for.
                stream.set_nodelay(true)?;
                negotiate(stream, exports, seats, tls, |stream| Ok(Socket::Tcp(stream.into_std()?))).await
            }
        }
    }
}

/// What the handshake of one client came to.
type Handshake = Option<(Socket, Agreed)>;

/// [`Client::negotiate`] for either family.
async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    exports: &Exports,
    seats: &Seats,
    tls: Option<&Tls>,
    into_socket: fn(S) -> io::Result<Socket>,
) -> io::Result<Handshake> {
    let encryption = tls.map_or(Encryption::Unavailable, Tls::encryption);
    let flags = match handshake::negotiate(&mut stream, exports, seats, encryption).await? {
        Outcome::Agreed(agreed) => return Ok(Some((into_socket(stream)?, agreed))),
        Outcome::StartTls(flags) => flags,
        Outcome::Gone => return Ok(None),
    };
    // Options are read byte by byte as far as they go, so what a stranger sent behind STARTTLS in the clear is still in
    // the socket: TLS takes it for a broken record.
    let Some(tls) = tls else { return Ok(None) };
    let mut stream = tls.accept(stream).await?;
    let Outcome::Agreed(agreed) =
        handshake::options(&mut stream, exports, seats, Encryption::On, flags).await?
    else {
        return Ok(None);
    };
    let (stream, connection) = stream.into_inner();
    Ok(Some((Socket::Tls(Box::new(Encrypted::new(into_socket(stream)?, connection))), agreed)))
}

impl Server {
    /// A server of these exports.
    ///
    /// # Errors
    /// `Usage` when two of them have the same name.
    pub fn new(exports: Vec<Export>, options: Options) -> Result<Self> {
        let server = Self::beginning(Vec::new(), options)?;
        server.complete(exports, || Ok(()))?;
        Ok(server)
    }

    /// A server that has these exports from the start: who asks for another, or for the list, waits until
    /// [`Server::complete`] has told of all, and meanwhile the server does not end by itself.
    ///
    /// # Errors
    /// `Usage` when two of them have the same name.
    pub fn beginning(first: Vec<Export>, options: Options) -> Result<Self> {
        let seats = Seats::new(options.clients);
        Ok(Self { exports: Arc::new(Exports::new(first)?), options, seats })
    }

    /// There are these exports and no others, the first ones among them. `tell` is called when that is sure; until it
    /// has returned, the server does not end by itself.
    ///
    /// # Errors
    /// `Usage` when two of them have the same name, `Internal` when this was said before, and those of `tell`.
    pub fn complete(&self, all: Vec<Export>, tell: impl FnOnce() -> Result<()>) -> Result<()> {
        self.exports.complete(all, tell)
    }

    /// The clients that are served now.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.seats.taken()
    }

    /// Serves on these listeners until it is told to end by `stop`, a signal or an option.
    ///
    /// # Errors
    /// `Host` when threads or the listeners cannot be had.
    pub fn run(&self, listeners: Vec<Listener>, stop: &Stop) -> Result<()> {
        self.run_and(listeners, stop, || Ok(()))
    }

    /// As [`Server::run`]. `begun` is called once nothing keeps the server from serving any more.
    ///
    /// # Errors
    /// As for [`Server::run`], and those of `begun`, with which it ends.
    pub fn run_and(
        &self,
        listeners: Vec<Listener>,
        stop: &Stop,
        begun: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(cannot_start)?.block_on(self.serve(listeners, stop, begun))
    }

    async fn serve(
        &self,
        listeners: Vec<Listener>,
        stop: &Stop,
        begun: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let shared = Arc::new(Shared {
            pool: Pool::start(self.options.threads).map_err(cannot_start)?,
            whole_replies: WholeReplies { left: AtomicU64::new(WHOLE_REPLIES) },
            stall: self.options.stall,
        });
        let mut reception = Reception {
            exports: Arc::clone(&self.exports),
            options: self.options.clone(),
            seats: self.seats.clone(),
            handshakes: JoinSet::new(),
            order: VecDeque::new(),
            sessions: Arc::default(),
            shared: Arc::clone(&shared),
        };
        let end = reception.work(listeners, stop, begun).await;
        reception.say_farewell().await;
        shared.pool.close();
        end
    }
}

fn cannot_start(error: io::Error) -> Error {
    Error::new(ErrorKind::Host, "the NBD server cannot start").caused_by(error)
}

/// Where clients arrive: handshakes in progress, and the sessions that came of them.
struct Reception {
    exports: Arc<Exports>,
    options: Options,
    seats: Seats,
    handshakes: JoinSet<Handshake>,
    /// The handshakes in progress, the oldest first.
    order: VecDeque<AbortHandle>,
    sessions: Arc<Mutex<Vec<Weak<Session>>>>,
    shared: Arc<Shared>,
}

impl Reception {
    async fn work(
        &mut self,
        listeners: Vec<Listener>,
        stop: &Stop,
        begun: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let (sender, mut arrivals) = mpsc::channel(16);
        let mut doors = JoinSet::new();
        for listener in listeners {
            door::open(listener, sender.clone(), &mut doors).map_err(cannot_start)?;
        }
        let signals = Signals::new(self.options.signals).map_err(cannot_start)?;
        begun()?;
        tokio::pin! { let ended = signals.wait(); }
        let mut quiet_since = Instant::now();
        loop {
            let is_complete = self.exports.is_complete();
            let quiet = is_complete && self.handshakes.is_empty() && self.seats.taken() == 0;
            if quiet && self.options.once && self.seats.used() {
                return Ok(());
            }
            let patience = self.options.idle_exit.filter(|_| quiet);
            let enough = patience.and_then(|patience| quiet_since.checked_add(patience));
            tokio::select! {
                Some(arrival) = arrivals.recv() => match arrival {
                    Arrival::Client(client) => self.welcome(client),
                    Arrival::Kept => self.push_out(),
                },
                Some(done) = self.handshakes.join_next() => {
                    self.order.retain(|handshake| !handshake.is_finished());
                    if let Ok(Some((socket, agreed))) = done {
                        self.seat(socket, agreed);
                    }
                    quiet_since = Instant::now();
                }
                () = self.seats.someone_left() => quiet_since = Instant::now(),
                () = self.exports.completed(), if !is_complete => quiet_since = Instant::now(),
                () = stop.0.notified() => return Ok(()),
                () = &mut ended => return Ok(()),
                () = sleep_until(enough) => return Ok(()),
            }
        }
    }

    /// Starts the handshake of a client that has just connected.
    fn welcome(&mut self, client: Client) {
        if self.order.len() >= self.options.clients.saturating_mul(HANDSHAKES) {
            self.push_out();
        }
        let (exports, seats) = (Arc::clone(&self.exports), self.seats.clone());
        let (time, tls) = (self.options.handshake, self.options.tls.clone());
        let handshake = async move {
            let too_long = async {
                // A client that waits for us is not slow.
                exports.completed().await;
                tokio::time::sleep(time).await;
            };
            tokio::select! {
                done = client.negotiate(&exports, &seats, tls.as_ref()) => done.unwrap_or_else(|error| {
                    tracing::debug!("nbd: handshake: {error}");
                    None
                }),
                () = too_long => {
                    tracing::debug!("nbd: a client took longer than {time:?} for its handshake");
                    None
                }
            }
        };
        self.order.push_back(self.handshakes.spawn(handshake));
    }

    /// Makes room. An honest handshake takes milliseconds: the oldest one is the likeliest to be none.
    fn push_out(&mut self) {
        if let Some(oldest) = self.order.pop_front() {
            oldest.abort();
        }
    }

    /// Gives a client that has chosen its export a thread of its own.
    fn seat(&self, socket: Socket, agreed: Agreed) {
        if let Err(error) = socket.prepare() {
            return tracing::debug!("nbd: {error}");
        }
        let session = Arc::new(Session::new(socket, agreed, Arc::clone(&self.shared)));
        {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.retain(|session| session.strong_count() > 0);
            sessions.push(Arc::downgrade(&session));
        }
        let thread = std::thread::Builder::new().name("nbd-client".to_owned());
        if let Err(error) = thread.spawn(move || session.run()) {
            tracing::warn!("nbd: no thread for a client: {error}");
        }
    }

    /// Hangs up on everyone, and waits for what is being read for them.
    async fn say_farewell(&mut self) {
        // Those that have just ended well are let go of, too, and with them their seats.
        self.handshakes.shutdown().await;
        for session in self.sessions.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(session) = session.upgrade() {
                session.hang_up();
            }
        }
        let everyone_left = async {
            while self.seats.taken() > 0 {
                self.seats.someone_left().await;
            }
        };
        drop(tokio::time::timeout(FAREWELL, everyone_left).await);
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The signals that end a server.
struct Signals(Option<[tokio::signal::unix::Signal; 3]>);

impl Signals {
    fn new(wanted: bool) -> io::Result<Self> {
        let listen = || -> io::Result<_> {
            Ok([
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            ])
        };
        Ok(Self(if wanted { Some(listen()?) } else { None }))
    }

    async fn wait(self) {
        let Some([mut terminate, mut interrupt, mut hangup]) = self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockSource, check_range};
    use crate::nbd_protocol::{OPTION_MAGIC, option, rep};
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    #[derive(Debug)]
    struct Nothing;

    impl BlockSource for Nothing {
        fn len(&self) -> u64 {
            1 << 20
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            check_range(offset, buf.len(), self.len())?;
            buf.fill(0);
            Ok(())
        }
    }

    fn export(name: &str) -> Export {
        Export { name: name.to_owned(), about: String::new(), source: Arc::new(Nothing) }
    }

    /// A client that has said which protocol it speaks.
    fn client(path: &std::path::Path) -> UnixStream {
        let mut client = UnixStream::connect(path).unwrap();
        client.read_exact(&mut [0; 18]).unwrap();
        client.write_all(&3_u32.to_be_bytes()).unwrap();
        client
    }

    fn ask(client: &mut UnixStream, number: u32, payload: &[u8]) {
        let len = u32::try_from(payload.len()).unwrap();
        let option = [&OPTION_MAGIC[..], &number.to_be_bytes(), &len.to_be_bytes(), payload].concat();
        client.write_all(&option).unwrap();
    }

    /// The payload of INFO and GO, without further wishes.
    fn named(name: &str) -> Vec<u8> {
        [&u32::try_from(name.len()).unwrap().to_be_bytes()[..], name.as_bytes(), &[0, 0]].concat()
    }

    /// The kind of the next answer, and what it carries.
    fn answer(client: &mut UnixStream) -> (u32, Vec<u8>) {
        let mut header = [0; 20];
        client.read_exact(&mut header).unwrap();
        let number = |bytes: std::ops::Range<usize>| u32::from_be_bytes(header[bytes].try_into().unwrap());
        let mut payload = vec![0; usize::try_from(number(16..20)).unwrap()];
        client.read_exact(&mut payload).unwrap();
        (number(12..16), payload)
    }

    #[test]
    fn the_first_exports_are_served_while_the_others_are_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = Listener::Unix(UnixListener::bind(&path).unwrap());
        // Whoever waits for us is not slow: this one's patience ends before the exports are found.
        let options = Options {
            handshake: Duration::from_millis(50),
            idle_exit: Some(Duration::from_millis(50)),
            ..Options::default()
        };
        let server = Arc::new(Server::beginning(vec![export("")], options).unwrap());
        let running = std::thread::spawn({
            let server = Arc::clone(&server);
            move || server.run(vec![listener], &Stop::default())
        });
        let (mut early, mut lister, mut other, mut nobody) =
            (client(&path), client(&path), client(&path), client(&path));
        ask(&mut lister, option::LIST, b"");
        ask(&mut other, option::GO, &named("p1"));
        ask(&mut nobody, option::INFO, &named("p2"));

        ask(&mut early, option::GO, &named(""));
        assert_eq!(answer(&mut early).0, rep::INFO);
        assert_eq!(answer(&mut early).0, rep::ACK);
        drop(early);
        std::thread::sleep(Duration::from_millis(200));
        for waiting in [&lister, &other, &nobody] {
            waiting.set_nonblocking(true).unwrap();
            let nothing_yet = (&*waiting).read(&mut [0]).unwrap_err();
            assert_eq!(nothing_yet.kind(), io::ErrorKind::WouldBlock);
            waiting.set_nonblocking(false).unwrap();
        }
        assert!(!running.is_finished());

        server.complete(vec![export(""), export("p1")], || Ok(())).unwrap();
        assert_eq!(answer(&mut lister), (rep::SERVER, vec![0; 4]));
        assert_eq!(answer(&mut lister), (rep::SERVER, b"\0\0\0\x02p1".to_vec()));
        assert_eq!(answer(&mut lister).0, rep::ACK);
        assert_eq!(answer(&mut other).0, rep::INFO);
        assert_eq!(answer(&mut other).0, rep::ACK);
        assert_eq!(answer(&mut nobody).0, rep::ERR_UNKNOWN);
        assert!(server.complete(Vec::new(), || Ok(())).is_err());
        drop((lister, other, nobody));
        running.join().unwrap().unwrap();
    }

    #[test]
    fn once_does_not_end_before_it_was_told_that_the_exports_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = Listener::Unix(UnixListener::bind(&path).unwrap());
        let options = Options { once: true, ..Options::default() };
        let server = Arc::new(Server::beginning(vec![export("")], options).unwrap());
        let running = std::thread::spawn({
            let server = Arc::clone(&server);
            move || server.run(vec![listener], &Stop::default())
        });
        let mut early = client(&path);
        ask(&mut early, option::GO, &named(""));
        assert_eq!(answer(&mut early).0, rep::INFO);
        drop(early);
        while server.clients() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let told = server.complete(vec![export("")], || {
            // Time enough for it to end.
            std::thread::sleep(Duration::from_millis(200));
            assert!(!running.is_finished());
            Ok(())
        });
        told.unwrap();
        running.join().unwrap().unwrap();
    }
}
