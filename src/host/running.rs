//! What runs: every mount and every server of imgmount that this user may know of, and what each says of itself.

use super::mounts::{self, Entry};
use super::register;
use crate::error::Result;
use crate::text::escape;
use rustix::io::Errno;
use serde_json::{Map, Value};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

/// How long a mount may take to tell about itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// A mount or a server.
#[derive(Clone, Debug)]
pub struct Running {
    /// Which of the two.
    pub kind: Kind,
    /// Does it live?
    pub state: State,
    /// What is open, as it was given.
    pub images: Vec<String>,
    /// Where to find it: a mount point, URIs.
    pub places: Vec<String>,
    /// The supervisor.
    pub pid: Option<u64>,
    /// The process that parses.
    pub worker: Option<u64>,
    /// Whose it is.
    pub user: Option<u32>,
    /// Since when, RFC 3339.
    pub since: Option<String>,
    /// Clients of a server.
    pub clients: Option<u64>,
    /// What was counted, by name. Those of a mount are only there if they were asked for.
    pub counters: Vec<(String, u64)>,
}

/// The two kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A mount, with its entry in the kernel's list.
    Mount(Entry),
    /// An NBD server.
    Server,
}

/// Does it live?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Running,
    /// A mount that nobody serves any more.
    Dead,
    /// It is there, and does not answer.
    Silent,
}

impl State {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Dead => "dead",
            Self::Silent => "silent",
        }
    }
}

impl Kind {
    /// Its word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Mount(_) => "mount",
            Self::Server => "server",
        }
    }
}

/// All that run: the mounts in the order they were made, then the servers. `counted`: with the counters of mounts.
///
/// # Errors
/// `Host` when `/proc` is not there.
pub fn all(counted: bool) -> Result<Vec<Running>> {
    let ours = mounts::all()?.into_iter().filter(may_know);
    // One that hangs holds up none of the others.
    let asked: Vec<_> = ours.map(|entry| std::thread::spawn(move || mount(entry, counted))).collect();
    let mounts = asked.into_iter().filter_map(|thread| thread.join().ok());
    Ok(mounts.chain(register::look().into_iter().map(server)).collect())
}

/// Is it a mount of imgmount that this user may look into and take away? Of others' the kernel tells no more than that they
/// are there.
#[must_use]
pub fn may_know(entry: &Entry) -> bool {
    let user = rustix::process::geteuid();
    let is_own = || entry.own_number("user_id").is_none_or(|owner| owner == user.as_raw());
    entry.is_ours() && (user.is_root() || is_own())
}

/// The mount at a path, if there is one of ours on top.
///
/// # Errors
/// As [`all`].
pub fn mount_at(point: &Path) -> Result<Option<Running>> {
    Ok(mounts::at(point)?.filter(Entry::is_ours).map(|entry| mount(entry, true)))
}

fn mount(entry: Entry, counted: bool) -> Running {
    let told = mounts::tells(&entry, "status", PATIENCE);
    let is = |error: &std::io::Error, errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    let state = match &told {
        Ok(_) => State::Running,
        Err(error) if is(error, Errno::NOTCONN) => State::Dead,
        // It was asked for its root directory, whose own mode lets this user no further.
        Err(error) if is(error, Errno::ACCESS) => State::Running,
        Err(_) => State::Silent,
    };
    let says = told.ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok()).unwrap_or_default();
    let server = |name| number(&says, name).filter(|pid| mounts::is_served_by(&entry, *pid));
    let counters = if counted && state == State::Running {
        mounts::tells(&entry, "stats", PATIENCE).unwrap_or_default()
    } else {
        Vec::new()
    };
    Running {
        state,
        images: vec![escape(entry.source.as_bytes()).to_string()],
        places: vec![escape(entry.point.as_os_str().as_bytes()).to_string()],
        pid: server("supervisor"),
        worker: server("worker"),
        user: entry.own_number("user_id"),
        since: text(&says, "since"),
        clients: None,
        counters: lines(&counters),
        kind: Kind::Mount(entry),
    }
}

fn server(found: register::Found) -> Running {
    let state = if found.says.is_some() { State::Running } else { State::Silent };
    let says = found.says.unwrap_or_default();
    let counters = says.get("counters").and_then(Value::as_object).into_iter().flat_map(Map::iter);
    Running {
        kind: Kind::Server,
        state,
        images: texts(&says, "images"),
        places: texts(&says, "uris"),
        pid: Some(found.pid.into()),
        worker: number(&says, "worker"),
        user: Some(found.user),
        since: text(&says, "since"),
        clients: number(&says, "clients"),
        counters: counters.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect(),
    }
}

fn number(says: &Value, name: &str) -> Option<u64> {
    says.get(name)?.as_u64()
}

fn text(says: &Value, name: &str) -> Option<String> {
    says.get(name)?.as_str().map(str::to_owned)
}

fn texts(says: &Value, name: &str) -> Vec<String> {
    let all = says.get(name).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Reads lines of a name and a number.
fn lines(text: &[u8]) -> Vec<(String, u64)> {
    let text = String::from_utf8_lossy(text);
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}
