//! The worker of a server: parses the images, and talks to the clients with nothing but what it was handed.

use super::{exports, tls};
use crate::cli::{Common, Exit, metrics, plan};
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::host::handoff::Task;
use crate::host::register;
use crate::num::wide;
use crate::serve::nbd::{Export, Listener, Server, Stop};
use crate::stack::{self, Ground};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Threads that wait for a remote source, of which each read is a round trip.
const REMOTE_THREADS: usize = 32;

/// What the worker is told besides images and sockets.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) common: Common,
    /// How each image's exports are called; one image's have no name in front.
    pub(super) names: Vec<String>,
    pub(super) alias: Option<String>,
    pub(super) once: bool,
    pub(super) idle_exit: Option<Duration>,
    pub(super) handshake: Duration,
    /// Its files are the first descriptors.
    pub(super) tls: Option<tls::Order>,
    pub(super) clients: usize,
    /// The socket for it is the last of the descriptors but that of `about`.
    pub(super) metrics: bool,
    /// What the control socket, the last of the descriptors, tells of this server.
    pub(super) about: Option<Value>,
}

/// The worker's part: parse, then serve on the sockets it was handed.
pub(in crate::cli) fn work(task: Task) -> Result<Exit> {
    // Ctrl-C in the terminal is for the supervisor, which then ends the command first.
    let _ = rustix::process::setpgid(None, None);
    crate::host::limits::raise_descriptors();
    let order: Order = serde_json::from_value(task.args)
        .map_err(|error| Error::new(ErrorKind::Internal, "the job cannot be read").caused_by(error))?;
    let options = stack::Options { keys: Arc::new(task.keys), ..plan::options(&order.common) };
    let mut descriptors = task.descriptors.into_iter();
    let tls = order.tls.map(|tls| tls.carry_out(&mut descriptors)).transpose()?;
    let mut grounds = Vec::new();
    let mut disks = Vec::new();
    let mut remote = false;
    for (given, name) in task.images.into_iter().zip(&order.names) {
        remote |= given.file.is_none();
        let ground = Ground::open(Arc::new(given), &options)?;
        disks.extend(exports::of_disk(&ground.image, name));
        grounds.push(ground);
    }
    // Something on the disk may be called as the user wants the disk to be, and that is refused: who asks for the name waits
    // until it is known, unless it is one that the disk has anyway.
    exports::also(&mut disks.clone(), order.alias.clone())?;
    let mut serving = crate::serve::nbd::Options {
        handshake: order.handshake,
        clients: order.clients,
        once: order.once,
        idle_exit: order.idle_exit,
        signals: true,
        tls,
        ..Default::default()
    };
    if remote {
        serving.threads = REMOTE_THREADS;
    }
    let server = Arc::new(Server::beginning(disks, serving)?);
    if let Some((about, control)) = order.about.and_then(|about| Some((about, descriptors.next_back()?))) {
        let server = Arc::clone(&server);
        std::thread::spawn(move || register::answer(&control.into(), || status(&about, &server)));
    }
    if let Some(listener) = order.metrics.then(|| descriptors.next_back()).flatten() {
        let server = Arc::clone(&server);
        let clients = move || vec![("clients", wide(server.clients()))];
        std::thread::spawn(move || metrics::answer(&listener.into(), clients));
    }
    let listeners = descriptors.map(listener).collect::<Result<_>>()?;
    let stop = Stop::default();
    let (supervisor, its_end) = (task.channel.try_clone()?, stop.clone());
    std::thread::spawn(move || {
        supervisor.wait_for_end();
        its_end.stop();
    });
    // Who asks for a disk does not wait until it is known what is on it.
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let (looked_into, end) = (Arc::clone(&server), stop.clone());
    let look = move || {
        let look = || {
            let exports = find_all(grounds, &order.names, order.alias, &options)?;
            let names = exports.iter().map(|export| export.name.clone());
            let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
            // Said first: where the first client has left by now, the process ends as soon as they are complete.
            looked_into.complete(exports, || task.channel.ready(names.into()))
        };
        let panicked = |_| Err(Error::new(ErrorKind::Internal, "looking into the disks panicked"));
        if let Err(error) = catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(panicked) {
            drop(tell.send(error));
            end.stop();
        }
    };
    // Of what can go wrong the supervisor is told once: nothing of the server can any more when this begins.
    let thread = std::thread::Builder::new();
    let no_thread = |error| Error::new(ErrorKind::Host, "no thread for the disks").caused_by(error);
    server.run_and(listeners, &stop, || thread.spawn(look).map(drop).map_err(no_thread))?;
    told.try_recv().map_or(Ok(Exit::OK), Err)
}

/// The exports of all images.
fn find_all(
    grounds: Vec<Ground>,
    names: &[String],
    alias: Option<String>,
    options: &stack::Options,
) -> Result<Vec<Export>> {
    let mut all = Vec::new();
    for (ground, name) in grounds.into_iter().zip(names) {
        all.extend(exports::of(&ground.build(options)?, name));
    }
    exports::also(&mut all, alias)?;
    Ok(all)
}

/// What the server is, and how it stands now.
fn status(about: &Value, server: &Server) -> Value {
    let counters: serde_json::Map<String, Value> =
        COUNTERS.snapshot().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let mut status = about.clone();
    if let Some(status) = status.as_object_mut() {
        status.insert("worker".to_owned(), std::process::id().into());
        status.insert("clients".to_owned(), server.clients().into());
        status.insert("counters".to_owned(), counters.into());
    }
    status
}

fn listener(descriptor: OwnedFd) -> Result<Listener> {
    let unknown = |error| Error::new(ErrorKind::Internal, "not a socket to listen on").caused_by(error);
    let family = rustix::net::sockopt::socket_domain(&descriptor).map_err(unknown)?;
    Ok(if family == rustix::net::AddressFamily::UNIX {
        Listener::Unix(descriptor.into())
    } else {
        Listener::Tcp(descriptor.into())
    })
}
