//! The doors of a server: the sockets it listens on, made here or passed in, and the files that go with them.

use super::uri::Uri;
use super::{Args, exports, tls};
use crate::error::{Error, ErrorKind, Result};
use crate::host::runtime;
use crate::text::escape;
use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where we listen.
#[derive(Debug, Default)]
pub(super) struct Doors {
    pub(super) listeners: Vec<OwnedFd>,
    /// The socket's path, if it is ours to remove.
    pub(super) path: Option<OwnPath>,
    /// A directory made for it, to be removed with it.
    dir: Option<PathBuf>,
    /// The sockets are those of somebody else, who told us to use them.
    pub(super) passed: bool,
    pub(super) uris: Vec<Uri>,
}

/// A file that we made, recognised even if another one has taken its name since.
#[derive(Debug)]
pub(super) struct OwnPath {
    pub(super) path: PathBuf,
    file: Option<Identity>,
}

/// Device, inode, and when it was made, where the file system knows: it may give a new file the number of one that was
/// removed.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(path: &Path) -> Option<Identity> {
    std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino(), meta.created().ok()))
}

impl OwnPath {
    fn new(path: PathBuf) -> Self {
        let file = identity(&path);
        Self { path, file }
    }
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        let now = identity(&self.path);
        if now.is_some() && now == self.file {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.path = None;
        if let Some(dir) = self.dir.take() {
            drop(std::fs::remove_dir(dir));
        }
    }
}

impl Doors {
    pub(super) fn open(args: &Args, names: &[String], tls: Option<&tls::Plan>) -> Result<Self> {
        let mut passed = listenfd::ListenFd::from_env();
        let mut doors = Self::default();
        if passed.len() > 0 {
            if args.socket.is_some() || !args.tcp.is_empty() || args.run.is_some() {
                let what = "sockets were passed in (LISTEN_FDS); --socket, --tcp and --run make others";
                return Err(Error::new(ErrorKind::Usage, what).help("give one or the other"));
            }
            doors.passed = true;
            for index in 0..passed.len() {
                let listener = take_passed(&mut passed, index)?;
                doors.uris.extend(uri_of(&listener, tls));
                doors.listeners.push(listener);
            }
            return Ok(doors);
        }
        for address in &args.tcp {
            doors.open_tcp(address, args.insecure, tls)?;
        }
        if let Some(path) = &args.socket {
            doors.open_unix(path, tls)?;
        } else if args.run.is_some() && args.tcp.is_empty() {
            let dir = private_dir()?;
            doors.dir = Some(dir.clone());
            doors.open_unix(&dir.join("nbd.sock"), tls)?;
        } else if args.tcp.is_empty() {
            let dir = runtime::dir().map_err(|error| error.help("say where: --socket PATH"))?;
            let first = names.iter().find(|name| !name.is_empty()).cloned();
            let name = first.or_else(|| args.images.first().map(exports::word)).unwrap_or_default();
            doors.open_unix(&dir.join(format!("{name}.sock")), tls)?;
        }
        Ok(doors)
    }

    fn open_tcp(&mut self, address: &str, insecure: bool, tls: Option<&tls::Plan>) -> Result<()> {
        let usage = |error| {
            let error = Error::new(ErrorKind::Usage, format!("--tcp {}", escape(address.as_bytes())))
                .caused_by(error);
            error.help("write an address and a port, as in 127.0.0.1:10809")
        };
        let addresses: Vec<_> = address.to_socket_addrs().map_err(usage)?.collect();
        let encrypted = tls.is_some_and(tls::Plan::is_required);
        if !insecure && !encrypted && addresses.iter().any(|address| !address.ip().is_loopback()) {
            let what = format!("--tcp {address}: others could read the image from there");
            let help = "encrypt with --tls-certificates and ask who they are with --tls-verify-peer, use a loopback \
                        address and an SSH tunnel, or accept it with --insecure";
            return Err(Error::new(ErrorKind::Usage, what).help(help));
        }
        let host =
            |error| Error::new(ErrorKind::Host, format!("cannot listen on {address}")).caused_by(error);
        let listener = TcpListener::bind(&*addresses).map_err(host)?;
        let bound = listener.local_addr().map_err(host)?;
        self.uris.push(match (tls, address.rsplit_once(':')) {
            // Certificates are for names more often than for addresses: the host stays as it was written.
            (Some(_), Some((name, _))) => Uri::tcp(&format!("{name}:{}", bound.port()), tls),
            _ => Uri::tcp(&bound.to_string(), tls),
        });
        self.listeners.push(listener.into());
        Ok(())
    }

    fn open_unix(&mut self, path: &Path, tls: Option<&tls::Plan>) -> Result<()> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let host = |error| {
            Error::new(ErrorKind::Host, format!("cannot listen on {}", shown(&path))).caused_by(error)
        };
        let listener = match UnixListener::bind(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                clear_stale(&path)?;
                UnixListener::bind(&path).map_err(host)?
            }
            other => other.map_err(host)?,
        };
        self.uris.push(Uri::unix(&path, tls));
        self.listeners.push(listener.into());
        self.path = Some(OwnPath::new(path));
        Ok(())
    }
}

/// Removes a socket that nobody listens on any more; anything else in its place is left alone.
fn clear_stale(path: &Path) -> Result<()> {
    let taken = |why: &str| Error::new(ErrorKind::Host, format!("{}: {why}", shown(path)));
    let meta =
        std::fs::symlink_metadata(path).map_err(|error| taken("cannot be looked at").caused_by(error))?;
    if !meta.file_type().is_socket() {
        return Err(taken("exists, and is not a socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| taken("cannot be replaced").caused_by(error))
        }
        Err(error) => Err(taken("is in use").caused_by(error)),
        Ok(_) => Err(taken("somebody listens there already").help("choose another path with --socket")),
    }
}

fn take_passed(passed: &mut listenfd::ListenFd, index: usize) -> Result<OwnedFd> {
    if let Ok(Some(listener)) = passed.take_unix_listener(index) {
        return Ok(listener.into());
    }
    match passed.take_tcp_listener(index) {
        Ok(Some(listener)) => Ok(listener.into()),
        Ok(None) => Err(Error::new(ErrorKind::Usage, "LISTEN_FDS promises more sockets than there are")),
        Err(error) => {
            Err(Error::new(ErrorKind::Usage, "a socket passed in (LISTEN_FDS) cannot be used")
                .caused_by(error))
        }
    }
}

/// Where a socket that was passed in listens.
fn uri_of(listener: &OwnedFd, tls: Option<&tls::Plan>) -> Option<Uri> {
    let address = rustix::net::getsockname(listener).ok()?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Some(Uri::tcp(&address.to_string(), tls));
    }
    let address = rustix::net::SocketAddrUnix::try_from(address).ok()?;
    let path = Path::new(OsStr::from_bytes(address.path_bytes()?));
    Some(Uri::unix(path, tls))
}

/// A new directory that nobody else may enter, for a captive server's socket.
fn private_dir() -> Result<PathBuf> {
    let host = |error| Error::new(ErrorKind::Host, "cannot make a directory for the socket").caused_by(error);
    let base = std::env::temp_dir();
    for attempt in 0..100_u32 {
        let dir = base.join(format!("imgmount-{}-{attempt}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(host(error)),
        }
    }
    Err(host(std::io::ErrorKind::AlreadyExists.into()))
}

pub(super) fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_socket_of_another_server_is_left_alone_even_if_it_has_the_number_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let bind = || drop(UnixListener::bind(&path).unwrap());
        bind();
        let (own, (_, inode, _)) = (OwnPath::new(path.clone()), identity(&path).unwrap());
        // Longer than a tick of the clock by which file systems go.
        std::thread::sleep(Duration::from_millis(50));
        // As a rule the first one has the number; a file system that never gives one out again proves nothing.
        for _ in 0..100 {
            std::fs::remove_file(&path).unwrap();
            bind();
            if identity(&path).is_some_and(|(_, other, _)| other == inode) {
                break;
            }
        }
        drop(own);
        assert!(path.exists());
        drop(OwnPath::new(path.clone()));
        assert!(!path.exists());
    }
}
