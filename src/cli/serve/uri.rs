//! Where clients find a server, as an address that they take ("NBD URI specification", doc/uri.md of the NBD project).
//!
//! ```text
//!   nbds+unix  ://  host  /export  ?  socket=PATH&tls-certificates=DIR
//! ```

use super::tls;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The address of a server, of no export in particular.
#[derive(Clone, Debug)]
pub(super) struct Uri {
    /// Scheme and host: `nbd://127.0.0.1:10809`.
    server: String,
    /// What stands behind the question mark; may be empty.
    query: String,
}

impl Uri {
    /// By TCP; clients of a server with certificates compare them with `host`.
    pub(super) fn tcp(host: &str, tls: Option<&tls::Plan>) -> Self {
        let scheme = if tls.is_some() { "nbds" } else { "nbd" };
        Self { server: format!("{scheme}://{host}"), query: query(None, tls) }
    }

    /// By a unix socket.
    pub(super) fn unix(socket: &Path, tls: Option<&tls::Plan>) -> Self {
        let scheme = if tls.is_some() { "nbds+unix" } else { "nbd+unix" };
        Self { server: format!("{scheme}://"), query: query(Some(socket), tls) }
    }

    /// The address of one of the server's exports. It has no blank in it, so a shell may split a list of them.
    pub(super) fn of(&self, export: &str) -> String {
        let Self { server, query } = self;
        let export = percent_encode(export.as_bytes());
        match (export.is_empty(), query.is_empty()) {
            (true, true) => server.clone(),
            (false, true) => format!("{server}/{export}"),
            (_, false) => format!("{server}/{export}?{query}"),
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.of(""))
    }
}

/// What a client needs beside the host.
fn query(socket: Option<&Path>, tls: Option<&tls::Plan>) -> String {
    let certificates = tls.and_then(tls::Plan::directory);
    let parameters = [("socket", socket), ("tls-certificates", certificates)];
    let parameters = parameters.into_iter().filter_map(|(name, path)| Some(parameter(name, path?)));
    parameters.collect::<Vec<_>>().join("&")
}

fn parameter(name: &str, path: &Path) -> String {
    format!("{name}={}", percent_encode(path.as_os_str().as_bytes()))
}

/// How a unix socket stands in a URI.
pub(in crate::cli) fn socket_parameter(path: &Path) -> String {
    parameter("socket", path)
}

/// Bytes as the path or the query of a URI.
fn percent_encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_stands_between_host_and_query() {
        let (tcp, unix) = (Uri::tcp("127.0.0.1:10809", None), Uri::unix(Path::new("/run/a b"), None));
        assert_eq!(
            [tcp.of(""), tcp.of("disk/p1")],
            ["nbd://127.0.0.1:10809", "nbd://127.0.0.1:10809/disk/p1"]
        );
        assert_eq!(unix.to_string(), "nbd+unix:///?socket=/run/a%20b");
        assert_eq!(unix.of("große:1"), "nbd+unix:///gro%C3%9Fe%3A1?socket=/run/a%20b");
    }
}
