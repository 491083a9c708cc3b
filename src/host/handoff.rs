//! The two processes of the long-lived doors, and what passes between them.
//!
//! ```text
//! supervisor                                     worker (the same program, started again)
//!   opens images, binds, mounts, waits,            parses the image, answers FUSE or NBD
//!   unmounts; parses nothing
//!        │ ── Job + descriptors (SCM_RIGHTS) ──▶ │  stdin is the socket
//!        │ ◀── Ready or Failed ───────────────── │
//!        │ ── more descriptors (/dev/fuse) ────▶ │
//!        │ ◀── end of file when it ends ──────── │  end of file here ends it, too
//! ```
//! What a hostile image could take over is the worker, which holds open descriptors and needs to open nothing more.

use crate::error::{Error, ErrorKind, Result};
use crate::keys::{Key, Keys, Secret};
use crate::locator::Locator;
use crate::source::gate::{AllowedDir, Given};
use crate::source::http::Reaches;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ffi::OsString;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::level_filters::LevelFilter;
use zeroize::Zeroizing;

/// Descriptors in one message; the kernel's own bound is 253 (`SCM_MAX_FD`).
const MAX_DESCRIPTORS: usize = 128;
/// Bytes of one message; a job names a few paths.
const MAX_MESSAGE: usize = 1 << 20;
/// Time in which a message that has begun must be there.
const MESSAGE_TIME: Duration = Duration::from_secs(10);
/// How long a wait goes on before somebody looks whether it is still wanted.
const ROUND: Duration = Duration::from_millis(200);

/// What the supervisor tells the worker to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Which door: `mount`, `serve`.
    pub door: String,
    /// The door's own arguments.
    pub args: Value,
    /// Images to open; their descriptors come first, in order.
    images: Vec<WireGiven>,
    /// What opens those that are locked.
    keys: WireKeys,
}

/// [`Keys`] on their way to another process of ours. They go over a socket or a pipe, and nowhere else.
#[derive(Serialize, Deserialize)]
pub struct WireKeys(Vec<WireKey>);

#[derive(Serialize, Deserialize)]
struct WireKey {
    volume: String,
    /// In base64.
    secret: Zeroizing<String>,
    is_file: bool,
}

impl std::fmt::Debug for WireKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WireKeys({})", self.0.len())
    }
}

impl From<&Keys> for WireKeys {
    fn from(keys: &Keys) -> Self {
        let wire = keys.all().iter().map(|key| WireKey {
            volume: key.volume.clone(),
            secret: Zeroizing::new(STANDARD.encode(key.secret.bytes())),
            is_file: key.is_file,
        });
        Self(wire.collect())
    }
}

impl TryFrom<WireKeys> for Keys {
    type Error = Error;

    fn try_from(wire: WireKeys) -> Result<Self> {
        let keys = wire.0.into_iter().map(|key| {
            let secret = STANDARD.decode(key.secret.as_bytes());
            let secret = secret
                .map_err(|_| Error::new(ErrorKind::Internal, "a key from the other process is torn"))?;
            Ok(Key { volume: key.volume, secret: Secret::new(secret), is_file: key.is_file })
        });
        keys.collect()
    }
}

/// A [`Given`] without its descriptors.
#[derive(Debug, Serialize, Deserialize)]
struct WireGiven {
    url: Option<String>,
    path: Option<Vec<u8>>,
    has_file: bool,
    beside: Option<Vec<u8>>,
    parents: Vec<Vec<u8>>,
    member: Option<String>,
    cache_dir: Option<Vec<u8>>,
    spool_dir: Option<Vec<u8>>,
}

/// What the worker says back.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Ready(Value),
    Failed { kind: String, message: String, help: Option<String> },
}

fn broken(doing: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal, format!("{doing} the other process")).caused_by(error)
}

/// One end of the connection between the two processes.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    /// Sends one message with descriptors.
    ///
    /// # Errors
    /// `Internal` when the other process is gone.
    pub fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let body = Zeroizing::new(serde_json::to_vec(message).map_err(|e| broken("writing to", e))?);
        if body.len() > MAX_MESSAGE {
            return Err(Error::limit(format!(
                "{} bytes of names and keys, at most {MAX_MESSAGE} can be handed over",
                body.len()
            )));
        }
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(Error::limit(format!(
                "{} descriptors, at most {MAX_DESCRIPTORS} can be handed over",
                descriptors.len()
            )));
        }
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        // In one piece: threads that share the connection may send at once, and their messages must not mix. Only a
        // signal can cut that short, while a long message, a job, waits for room.
        let slices = [IoSlice::new(&length), IoSlice::new(&body)];
        let sent =
            rustix::io::retry_on_intr(|| sendmsg(&self.0, &slices, &mut ancillary, SendFlags::NOSIGNAL))
                .map_err(|e| broken("writing to", e))?;
        let rest = body.get(sent.saturating_sub(length.len())..).unwrap_or_default();
        (&self.0).write_all(rest).map_err(|e| broken("writing to", e))
    }

    /// Receives one message, or `None` when the other process has ended.
    ///
    /// # Errors
    /// `Internal` when the connection breaks in the middle of a message.
    pub fn receive<T: for<'de> Deserialize<'de>>(&self) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let mut length = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        // A receive with a time-out is not taken up again by the kernel after a signal, the death of a child for one.
        let got = rustix::io::retry_on_intr(|| {
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut length)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })
        .map_err(|e| broken("reading from", e))?;
        if got.bytes == 0 {
            return Ok(None);
        }
        if got.bytes < length.len() || got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Error::new(ErrorKind::Internal, "a torn message from the other process"));
        }
        let descriptors = ancillary.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
            _ => Vec::new(),
        });
        let descriptors: Vec<OwnedFd> = descriptors.collect();
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(Error::new(ErrorKind::Internal, "an oversized message from the other process"));
        }
        let mut body = Zeroizing::new(vec![0; length]);
        (&self.0).read_exact(&mut body).map_err(|e| broken("reading from", e))?;
        let message = serde_json::from_slice(&body).map_err(|e| broken("reading from", e))?;
        Ok(Some((message, descriptors)))
    }

    /// Tells the supervisor that the work has begun.
    ///
    /// # Errors
    /// `Internal` when the supervisor is gone.
    pub fn ready(&self, facts: Value) -> Result<()> {
        self.send(&Answer::Ready(facts), &[])
    }

    /// Tells the supervisor why the work cannot begin.
    ///
    /// # Errors
    /// `Internal` when the supervisor is gone.
    pub fn failed(&self, error: &Error) -> Result<()> {
        let help = error.help_text().map(str::to_owned);
        self.send(&Answer::Failed { kind: error.kind().name().to_owned(), message: error.chain(), help }, &[])
    }

    /// Waits for the other side's `ready` or `failed`.
    ///
    /// # Errors
    /// The other side's own error; `Internal` when it ended without a word.
    pub fn answer(&self) -> Result<Value> {
        loop {
            if let Some(facts) = self.answer_within(ROUND)? {
                return Ok(facts);
            }
        }
    }

    /// The same, for so long at most: `None` when nothing has come, or when a signal has.
    ///
    /// # Errors
    /// As for [`Channel::answer`].
    pub fn answer_within(&self, patience: Duration) -> Result<Option<Value>> {
        let patience = Timespec::try_from(patience).ok();
        // No time-out of the reading itself: it could end in the middle of a message.
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], patience.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(broken("waiting for", errno)),
        }
        self.0.set_read_timeout(Some(MESSAGE_TIME)).map_err(|e| broken("reading from", e))?;
        let answer = self.receive::<Answer>();
        let _ = self.0.set_read_timeout(None);
        match answer? {
            Some((Answer::Ready(facts), _)) => Ok(Some(facts)),
            Some((Answer::Failed { kind, message, help }, _)) => {
                let error = Error::new(ErrorKind::from_name(&kind), message);
                Err(match help {
                    Some(help) => error.help(help),
                    None => error,
                })
            }
            None => {
                Err(Error::new(ErrorKind::Internal, "the process that reads the image ended without a word"))
            }
        }
    }

    /// Blocks until the other process has ended or sent something unasked for.
    pub fn wait_for_end(&self) {
        while let Ok(Some(_)) = self.receive::<Value>() {}
    }

    /// The same connection once more, for another thread.
    ///
    /// # Errors
    /// `Host` when descriptors have run out.
    pub fn try_clone(&self) -> Result<Self> {
        self.0
            .try_clone()
            .map(Self)
            .map_err(|e| Error::new(ErrorKind::Host, "no descriptor left").caused_by(e))
    }

    /// A connected pair: one end to keep, one to become a child's standard input.
    ///
    /// # Errors
    /// `Host` when descriptors have run out.
    pub fn pair() -> Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()
            .map_err(|e| Error::new(ErrorKind::Host, "cannot make a socket pair").caused_by(e))?;
        Ok((Self(ours), theirs.into()))
    }

    /// The connection that this process was started with as its standard input.
    ///
    /// # Errors
    /// `Usage` when standard input is something else: the command is not meant for people.
    pub fn from_stdin() -> Result<Self> {
        let misuse = || Error::new(ErrorKind::Usage, "this command is started by imgmount itself");
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(|_| misuse())?;
        let kind = rustix::net::sockopt::socket_domain(&stdin).map_err(|_| misuse())?;
        if kind == rustix::net::AddressFamily::UNIX {
            Ok(Self(UnixStream::from(stdin)))
        } else {
            Err(misuse())
        }
    }
}

impl AsFd for Channel {
    /// To wait for what comes.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    /// The other end of a [`Channel::pair`].
    fn from(end: OwnedFd) -> Self {
        Self(UnixStream::from(end))
    }
}

/// Starts this program again with `verb`, connected to us over its standard input.
///
/// # Errors
/// `Host` when it cannot be started.
pub fn start_again(verb: &str) -> Result<(Child, Channel)> {
    let failed =
        |e: std::io::Error| Error::new(ErrorKind::Host, "cannot start the second process").caused_by(e);
    let (ours, theirs) = Channel::pair()?;
    // The path of a replaced binary reads "... (deleted)"; the link itself still leads to the program that runs.
    let itself = if Path::new("/proc/self/exe").exists() {
        PathBuf::from("/proc/self/exe")
    } else {
        std::env::current_exe().map_err(failed)?
    };
    let mut command = Command::new(itself);
    // With glibc's arena for each thread, the cache's units take up to twice their size; with one, 2 % more.
    command.arg0("imgmount").arg(verb).env("MALLOC_ARENA_MAX", "1").stdin(Stdio::from(theirs));
    // What -v asked for holds there, too.
    let level = LevelFilter::current();
    if level > LevelFilter::WARN && std::env::var_os("IMGMOUNT_LOG").is_none() {
        command.env("IMGMOUNT_LOG", level.to_string());
    }
    let child = command.spawn().map_err(failed)?;
    Ok((child, ours))
}

/// The worker as the supervisor sees it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    channel: Channel,
}

impl Worker {
    /// Starts a worker and hands it its job: the images and what opens them, then `descriptors`.
    ///
    /// # Errors
    /// `Host` when it cannot be started.
    pub fn start(
        door: &str,
        args: Value,
        images: &[&Given],
        keys: &Keys,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Self> {
        let (child, channel) = start_again("internal-worker")?;
        let worker = Self { child, channel };
        let mut all = Vec::new();
        let images = images.iter().map(|given| pack(given, &mut all)).collect();
        all.extend_from_slice(descriptors);
        worker.channel.send(&Job { door: door.to_owned(), args, images, keys: keys.into() }, &all)?;
        Ok(worker)
    }

    /// The connection to it.
    #[must_use]
    pub const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for it to begin its work: for `patience` at most, and until `give_up` says so, which makes it `None`.
    ///
    /// # Errors
    /// What kept it from beginning; `Host` after `patience`.
    pub fn ready(
        &self,
        patience: Option<Duration>,
        mut give_up: impl FnMut() -> bool,
    ) -> Result<Option<Value>> {
        let start = Instant::now();
        loop {
            let left = patience.map_or(ROUND, |patience| patience.saturating_sub(start.elapsed()).min(ROUND));
            let answer = self.channel.answer_within(left);
            if let Ok(Some(facts)) = answer {
                return Ok(Some(facts));
            }
            // What ends us may have ended the worker as well, whose silence is no fault then.
            if give_up() {
                return Ok(None);
            }
            answer?;
            if let Some(patience) = patience.filter(|patience| start.elapsed() >= *patience) {
                return Err(Error::new(ErrorKind::Host, format!("not ready after {patience:?}"))
                    .help("allow more time with --timeout"));
            }
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal);
    }

    /// Has it ended?
    ///
    /// # Errors
    /// `Internal` when it cannot be asked.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(|e| broken("waiting for", e))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// `Internal` when it cannot be waited for.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().map_err(|e| broken("waiting for", e))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    /// A worker that nobody waits for any more holds the image for nobody.
    fn drop(&mut self) {
        if matches!(self.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// A job as the worker received it.
#[derive(Debug)]
pub struct Task {
    /// Which door.
    pub door: String,
    /// The door's own arguments.
    pub args: Value,
    /// The images, open.
    pub images: Vec<Given>,
    /// What opens those that are locked.
    pub keys: Keys,
    /// The other descriptors, in the order they were sent.
    pub descriptors: Vec<OwnedFd>,
    /// The connection to the supervisor.
    pub channel: Channel,
}

impl Task {
    /// Receives the job that the supervisor sends first.
    ///
    /// # Errors
    /// `Internal` when the supervisor ended or sent something else.
    pub fn receive(channel: Channel) -> Result<Self> {
        let gone = || Error::new(ErrorKind::Internal, "the supervisor ended before it gave a job");
        let (job, descriptors) = channel.receive::<Job>()?.ok_or_else(gone)?;
        let mut descriptors = descriptors.into_iter();
        let images =
            job.images.into_iter().map(|wire| unpack(wire, &mut descriptors)).collect::<Result<_>>()?;
        let keys = job.keys.try_into()?;
        Ok(Self { door: job.door, args: job.args, images, keys, descriptors: descriptors.collect(), channel })
    }
}

fn pack<'a>(given: &'a Given, descriptors: &mut Vec<BorrowedFd<'a>>) -> WireGiven {
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    descriptors.extend(given.file.as_ref().map(|file| file.as_fd()));
    descriptors.extend(given.beside.iter().chain(&given.parents).map(|dir| dir.dir.as_fd()));
    descriptors.extend(given.cache_dir.iter().chain(&given.spool_dir).map(|dir| dir.dir.as_fd()));
    let (url, path) = match &given.locator {
        Locator::Url(url) => (Some(url.clone()), None),
        Locator::Path(path) => (None, Some(bytes(path))),
    };
    let beside = given.beside.as_ref().map(|dir| bytes(&dir.path));
    let parents = given.parents.iter().map(|dir| bytes(&dir.path)).collect();
    let member = given.member.clone();
    let shared = |dir: &Option<Arc<AllowedDir>>| dir.as_ref().map(|dir| bytes(&dir.path));
    let (cache_dir, spool_dir) = (shared(&given.cache_dir), shared(&given.spool_dir));
    WireGiven { url, path, has_file: given.file.is_some(), beside, parents, member, cache_dir, spool_dir }
}

fn unpack(wire: WireGiven, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Result<Given> {
    let mut next = || {
        descriptors
            .next()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the supervisor sent too few descriptors"))
    };
    let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
    let locator = match (wire.url, wire.path) {
        (Some(url), _) => Locator::Url(url),
        (None, bytes) => Locator::Path(path(bytes.unwrap_or_default())),
    };
    let file = if wire.has_file { Some(File::from(next()?)) } else { None };
    let mut dir =
        |bytes: Vec<u8>| -> Result<AllowedDir> { Ok(AllowedDir { path: path(bytes), dir: next()? }) };
    let beside = wire.beside.map(&mut dir).transpose()?;
    let parents = wire.parents.into_iter().map(&mut dir).collect::<Result<_>>()?;
    let cache_dir = wire.cache_dir.map(&mut dir).transpose()?.map(Arc::new);
    let spool_dir = wire.spool_dir.map(dir).transpose()?.map(Arc::new);
    Ok(Given {
        locator,
        file,
        beside,
        parents,
        member: wire.member,
        cache_dir,
        spool_dir,
        part: false,
        reaches: Reaches::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_arrives_with_its_open_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.img"), b"content").unwrap();
        let given = Given::open(Locator::Path(dir.path().join("a.img")), &[dir.path().to_owned()]).unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let mut descriptors = Vec::new();
        let images = vec![pack(&given, &mut descriptors)];
        let extra = File::open("/dev/null").unwrap();
        descriptors.push(extra.as_fd());
        let mut keys = Keys::default();
        keys.add("disk", Secret::new(vec![0, 255]));
        let job = Job { door: "serve".to_owned(), args: Value::Null, images, keys: (&keys).into() };
        assert_eq!(format!("{:?}", job.keys), "WireKeys(1)");
        ours.send(&job, &descriptors).unwrap();

        let task = Task::receive(Channel(UnixStream::from(theirs))).unwrap();

        assert_eq!((task.images.len(), task.descriptors.len()), (1, 1));
        assert_eq!(task.keys.of("disk").collect::<Vec<_>>(), [[0, 255]]);
        let mut content = String::new();
        task.images[0].open_file().unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
        assert_eq!(task.images[0].parents[0].path, dir.path().canonicalize().unwrap());
    }

    #[test]
    fn an_error_crosses_with_its_kind_and_help() {
        let (ours, theirs) = Channel::pair().unwrap();
        Channel(UnixStream::from(theirs))
            .failed(&Error::new(ErrorKind::NotAnImage, "is empty").help("look again"))
            .unwrap();
        let error = ours.answer().unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str(), error.help_text()),
            (ErrorKind::NotAnImage, "is empty", Some("look again"))
        );
    }

    fn silent_worker() -> (Worker, OwnedFd) {
        let (channel, theirs) = Channel::pair().unwrap();
        (Worker { child: Command::new("sleep").arg("60").spawn().unwrap(), channel }, theirs)
    }

    #[test]
    fn a_silent_worker_is_given_up_after_a_while() {
        let (worker, _theirs) = silent_worker();
        let error = worker.ready(Some(Duration::from_millis(20)), || false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Host);
    }

    #[test]
    fn a_silent_worker_is_given_up_when_told_to() {
        let (worker, _theirs) = silent_worker();
        assert!(matches!(worker.ready(None, || true), Ok(None)));
    }

    #[test]
    fn an_answer_after_a_time_out_arrives() {
        let (ours, theirs) = Channel::pair().unwrap();
        assert!(matches!(ours.answer_within(Duration::from_millis(1)), Ok(None)));
        Channel(UnixStream::from(theirs)).ready(Value::from("x")).unwrap();
        assert_eq!(ours.answer().unwrap(), "x");
    }

    #[test]
    fn messages_of_two_threads_do_not_mix() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (one, theirs) = (Channel::from(theirs.try_clone().unwrap()), Channel::from(theirs));
        // Each end is dropped by who has it, so that a failure on one side ends the other.
        std::thread::scope(move |scope| {
            for (channel, length) in [(one, 5), (theirs, 3000)] {
                scope.spawn(move || (0..5000).try_for_each(|_| channel.send(&"x".repeat(length), &[])));
            }
            for _ in 0..10_000 {
                let (text, _) = ours.receive::<String>().unwrap().unwrap();
                assert!(matches!(text.len(), 5 | 3000), "{text}");
            }
        });
    }

    #[test]
    fn a_worker_ends_with_whom_it_works_for() {
        let (worker, _theirs) = silent_worker();
        let process = PathBuf::from(format!("/proc/{}", worker.pid()));
        assert!(process.exists());
        drop(worker);
        assert!(!process.exists());
    }

    #[test]
    fn a_dead_worker_is_noticed() {
        let (ours, theirs) = Channel::pair().unwrap();
        drop(theirs);
        assert_eq!(ours.answer().unwrap_err().kind(), ErrorKind::Internal);
    }
}
