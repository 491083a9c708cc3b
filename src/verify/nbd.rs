//! The nbd crate's client against our own NBD server: what a stranger reads of the disk through the protocol.

use super::{DISK, DiskReader, Other, PATIENCE, Reader, Reads, Subject, theirs};
use crate::confined::Confined;
use crate::error::{Error, ErrorKind, Result};
use crate::serve::nbd::{Export, Listener, Options, Server, Stop};
use crate::stack::Stack;
use nbd::client::{NbdClient, handshake};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The reader.
pub(super) const READER: Reader =
    Reader { name: "nbd", about: "the disk over our NBD server", reads: Reads::Disk, subjects, open };

/// Bytes asked for at once: a request of the protocol has 32 MiB at most, and we have more clients than this one.
const REQUEST: usize = 1 << 20;

fn subjects(_stack: &Stack) -> Vec<String> {
    vec![DISK.to_owned()]
}

struct Disk {
    client: Confined<NbdClient<UnixStream>>,
    len: u64,
    stop: Stop,
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

fn open(subject: &Subject<'_>) -> Result<Other> {
    let host = |error: std::io::Error| {
        Error::new(ErrorKind::Host, "a socket between us and our server").caused_by(error)
    };
    let (listener, stream) = pair().map_err(host)?;
    let export = Export {
        name: String::new(),
        about: "the whole disk".to_owned(),
        source: Arc::clone(subject.stack.disk()),
    };
    let server = Server::new(vec![export], Options { clients: 1, ..Options::default() })?;
    let stop = Stop::default();
    let until = stop.clone();
    std::thread::Builder::new()
        .name("nbd-server".to_owned())
        .spawn(move || server.run(vec![Listener::Unix(listener)], &until))
        .map_err(host)?;
    let client = Confined::new("nbd", move || {
        let mut stream = stream;
        let export = handshake(&mut stream, b"").map_err(theirs)?;
        Ok(NbdClient::new(stream, &export))
    })?;
    let len = client.run_within(PATIENCE, |client| client.seek(SeekFrom::End(0)).map_err(theirs))?;
    Ok(Other::Disk(Box::new(Disk { client, len, stop })))
}

/// A listener and a stream connected to it. The path between them is ours alone, and gone when this returns.
fn pair() -> std::io::Result<(UnixListener, UnixStream)> {
    struct Place(PathBuf);
    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
    let unique = format!("imgmount-verify-{}", std::process::id());
    let place = Place(std::env::temp_dir().join(unique));
    std::fs::DirBuilder::new().mode(0o700).create(&place.0)?;
    let socket = Path::new(&place.0).join("nbd.sock");
    let listener = UnixListener::bind(&socket)?;
    let stream = UnixStream::connect(&socket)?;
    Ok((listener, stream))
}

impl DiskReader for Disk {
    fn size(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.client.run_within(PATIENCE, move |client| {
            client.seek(SeekFrom::Start(offset)).map_err(theirs)?;
            let mut bytes = vec![0; len];
            for part in bytes.chunks_mut(REQUEST) {
                client.read_exact(part).map_err(theirs)?;
            }
            Ok(bytes)
        })
    }
}
