//! The server's TLS as the command line has it: options, the certificates' directory, and how both reach the worker.
//!
//! The supervisor opens the files and hands their descriptors over, as it does with the sockets; only the worker reads
//! them. So the private key is in one process, and in no message between two.

use crate::error::{Error, ErrorKind, Result};
use crate::keys::Secret;
use crate::serve::nbd::{Certificates, Tls};
use crate::text::escape;
use rustix::fs::{CWD, Mode as FileMode, OFlags, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bytes of one file: a certificate has one or two thousand, a long list of those revoked some hundred thousand.
const MAX_FILE: u64 = 4 << 20;
const CERTIFICATE: &str = "server-cert.pem";
const KEY: &str = "server-key.pem";
const AUTHORITY: &str = "ca-cert.pem";
const REVOKED: &str = "ca-crl.pem";

/// The options, named as nbdkit's.
#[derive(Debug, clap::Args)]
#[group(id = "tls_options")]
#[command(next_help_heading = "TLS")]
pub(super) struct Args {
    /// Encrypt, with server-cert.pem and server-key.pem in this directory; see imgmount-nbd(7)
    #[arg(long, value_name = "DIR")]
    tls_certificates: Option<PathBuf>,
    /// Whether clients may or must encrypt [default: require, if there are certificates]
    #[arg(long, value_enum, value_name = "off|on|require", hide_possible_values = true)]
    tls: Option<Mode>,
    /// Let in only clients with a certificate that ca-cert.pem in that directory vouches for
    #[arg(long)]
    tls_verify_peer: bool,
    /// Not to be had here: certificates are
    #[arg(long, value_name = "FILE")]
    tls_psk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Nobody can encrypt.
    Off,
    /// Those who want to encrypt do.
    On,
    /// Nobody comes in otherwise.
    Require,
}

/// The supervisor's part: what was asked for, with the files open.
#[derive(Debug)]
pub(super) struct Plan {
    order: Order,
    files: Vec<OwnedFd>,
    /// For those who look for the server; with the authority's certificate in it.
    directory: Option<PathBuf>,
}

/// What the worker is told; the files come as its first descriptors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    required: bool,
    verify_peer: bool,
    files: Vec<String>,
}

impl Args {
    /// What to do, with the files open.
    ///
    /// # Errors
    /// `Usage` when options contradict each other or a file is missing, `Host` when one cannot be opened.
    pub(super) fn plan(&self) -> Result<Option<Plan>> {
        let usage = |what: &str| Error::new(ErrorKind::Usage, what);
        if self.tls_psk.is_some() {
            let error = usage("--tls-psk: the TLS library in use (rustls) knows no pre-shared keys");
            return Err(error.help(
                "use --tls-certificates DIR; imgmount-nbd(7) shows how to make certificates of your own",
            ));
        }
        let directory = match (self.tls, &self.tls_certificates) {
            (Some(Mode::Off), _) => return Ok(None),
            (None, None) if !self.tls_verify_peer => return Ok(None),
            (_, Some(directory)) => std::path::absolute(directory).unwrap_or_else(|_| directory.clone()),
            (_, None) => {
                let error = usage("TLS needs a certificate to show");
                return Err(
                    error.help("say where server-cert.pem and server-key.pem are: --tls-certificates DIR")
                );
            }
        };
        let mut files = Vec::new();
        let mut names = Vec::new();
        let wanted = [(CERTIFICATE, true), (KEY, true), (AUTHORITY, true), (REVOKED, false)];
        for (name, needed) in wanted.into_iter().take(if self.tls_verify_peer { 4 } else { 2 }) {
            if let Some(file) = open(&directory.join(name), needed)? {
                files.push(file);
                names.push(name.to_owned());
            }
        }
        let order =
            Order { required: self.tls != Some(Mode::On), verify_peer: self.tls_verify_peer, files: names };
        // Clients' tools look for the authority in the same directory, and fail where it is not.
        let directory = Some(directory).filter(|directory| directory.join(AUTHORITY).exists());
        Ok(Some(Plan { order, files, directory }))
    }
}

/// `None` where a file is missing that need not be there.
fn open(path: &Path, needed: bool) -> Result<Option<OwnedFd>> {
    let shown = || escape(path.as_os_str().as_bytes()).to_string();
    // A pipe in place of a file must not keep us waiting for somebody to write.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match openat(CWD, path, flags, FileMode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT) if !needed => Ok(None),
        Err(Errno::NOENT) => {
            let error = Error::new(ErrorKind::Usage, format!("{}: no such file", shown()));
            Err(error.help("imgmount-nbd(7) shows how to make certificates of your own"))
        }
        Err(errno) => Err(Error::new(ErrorKind::Host, shown()).caused_by(errno)),
    }
}

impl Plan {
    /// Does nobody come in without TLS?
    pub(super) const fn is_required(&self) -> bool {
        self.order.required
    }

    /// For clients: the directory of certificates, if what they need is in it.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// For the worker, which gets [`Self::descriptors`], too.
    pub(super) const fn order(&self) -> &Order {
        &self.order
    }

    /// The open files.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(|file| file.as_fd())
    }
}

impl Order {
    /// The worker's part: reads the files, which it takes off the front of `descriptors`.
    ///
    /// # Errors
    /// `Usage` when they do not hold what they should, `Host` when they cannot be read.
    pub(super) fn carry_out(&self, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Result<Tls> {
        let files: Vec<File> = descriptors.take(self.files.len()).map(File::from).collect();
        let content = |name: &str| {
            let file = self.files.iter().zip(&files).find(|(file, _)| *file == name);
            file.map(|(name, file)| read(name, file)).transpose()
        };
        let missing = || Error::new(ErrorKind::Internal, "a certificate was lost on the way to the worker");
        let certificates = Certificates {
            certificate: content(CERTIFICATE)?.ok_or_else(missing)?.to_vec(),
            key: Secret::new(std::mem::take(&mut *content(KEY)?.ok_or_else(missing)?)),
            authority: content(AUTHORITY)?.map(|content| content.to_vec()),
            revoked: content(REVOKED)?.map(|content| content.to_vec()),
        };
        Tls::new(&certificates, self.verify_peer, self.required)
    }
}

/// Reads a file from its beginning: where a key is asked for again, another worker may have read it before us.
fn read(name: &str, file: &File) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |error| Error::new(ErrorKind::Host, format!("{name} cannot be read")).caused_by(error);
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        let what = format!("{name}: not a file of at most {} MiB", MAX_FILE >> 20);
        return Err(Error::new(ErrorKind::Usage, what));
    }
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(meta.len()).unwrap_or(0)]);
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(bytes)
}
