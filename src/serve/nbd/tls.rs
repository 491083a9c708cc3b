//! TLS: what the server needs to encrypt, the certificate it shows and the clients it lets in.
//!
//! A client asks for it with `NBD_OPT_STARTTLS` in the middle of the handshake. From there on everything is encrypted,
//! and what was said before counts for nothing: somebody else may have said it (CVE-2021-3716). TLS 1.2 and 1.3; no
//! resumption and no early data, so nothing outlives a connection. The protocol's part is `doc/proto.md` of the NBD
//! project, "TLS support".

use crate::error::{Error, ErrorKind, Result};
use crate::keys::Secret;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A directory of certificates, read: the files' names are GnuTLS's and nbdkit's, the content is PEM.
#[derive(Debug)]
pub struct Certificates {
    /// `server-cert.pem`: the server's own, followed by those between it and the authority.
    pub certificate: Vec<u8>,
    /// `server-key.pem`.
    pub key: Secret,
    /// `ca-cert.pem`: who may vouch for clients.
    pub authority: Option<Vec<u8>>,
    /// `ca-crl.pem`: of whose word nothing is left.
    pub revoked: Option<Vec<u8>>,
}

/// How to encrypt.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    required: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("required", &self.required).finish_non_exhaustive()
    }
}

/// Whether a connection is encrypted, or ought to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    /// It cannot be: the specification's NOTLS.
    Unavailable,
    /// It is if the client wants it: SELECTIVETLS.
    Offered,
    /// Nothing else is talked about before it is: FORCEDTLS.
    Required,
    /// It is.
    On,
}

/// All certificates (or lists) of a file that cannot be empty.
fn all<T: PemObject>(file: &str, content: &[u8]) -> Result<Vec<T>> {
    let items = T::pem_slice_iter(content).collect::<Result<Vec<T>, pem::Error>>();
    let items = items.map_err(|error| unusable(file, error))?;
    if items.is_empty() { Err(unusable(file, pem::Error::NoItemsFound)) } else { Ok(items) }
}

fn unusable(file: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let error = Error::new(ErrorKind::Usage, format!("{file} cannot be used")).caused_by(error);
    error.help("see imgmount-nbd(7), TLS, for what must be in it")
}

impl Tls {
    /// From certificates. With `verify_clients`, only those come in that show a certificate of the authority's; with
    /// `required`, only those that encrypt.
    ///
    /// # Errors
    /// `Usage` when a file does not hold what it should, or key and certificate do not belong together.
    pub fn new(from: &Certificates, verify_clients: bool, required: bool) -> Result<Self> {
        let chain = all::<CertificateDer<'static>>("server-cert.pem", &from.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(from.key.bytes());
        let key = key.map_err(|error| match error {
            pem::Error::NoItemsFound => unusable("server-key.pem", error).help(
                "it must hold a private key without a passphrase, in PEM: openssl pkey -in OLD -out NEW",
            ),
            error => unusable("server-key.pem", error),
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients: Arc<dyn ClientCertVerifier> = if verify_clients {
            let none = || {
                let error = Error::new(ErrorKind::Usage, "no ca-cert.pem to verify clients by");
                error.help("put the certificate of the authority that signs your clients' there")
            };
            let mut roots = RootCertStore::empty();
            for root in all("ca-cert.pem", from.authority.as_deref().ok_or_else(none)?)? {
                roots.add(root).map_err(|error| unusable("ca-cert.pem", error))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let verifier = match &from.revoked {
                Some(lists) => verifier
                    .with_crls(all::<CertificateRevocationListDer<'static>>("ca-crl.pem", lists)?)
                    .enforce_revocation_expiration(),
                None => verifier,
            };
            verifier.build().map_err(|error| unusable("ca-cert.pem or ca-crl.pem", error))?
        } else {
            Arc::new(NoClientAuth)
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Internal, "TLS cannot be set up").caused_by(error))?;
        let config = config.with_client_cert_verifier(clients).with_single_cert(chain, key);
        let mut config = config.map_err(|error| unusable("server-cert.pem with server-key.pem", error))?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), required })
    }

    /// How a connection begins.
    pub(super) const fn encryption(&self) -> Encryption {
        if self.required { Encryption::Required } else { Encryption::Offered }
    }

    /// Shakes hands with a client that was told to go ahead.
    ///
    /// # Errors
    /// What the socket reports; `InvalidData` for a client that speaks something else, or that is not let in.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await
    }
}
