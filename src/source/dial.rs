//! The way to a server that is not a web server: what stands between `://` and the path of a URL, and a connection to it
//! within a time.

use crate::locator::decode;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How patient to be with such a server.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For connecting, and for what is said before the first byte.
    pub connect: Duration,
    /// Silence while something is waited for.
    pub stall: Duration,
    /// For one block, all tries together, and for what is said around it.
    pub deadline: Duration,
    /// Before the second try; doubles from there.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            pause: Duration::from_millis(200),
        }
    }
}

/// `[user[:password]@]host[:port]` of a URL; RFC 3986, section 3.2.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// Percent-decoded, like the password.
    pub(super) user: Option<Vec<u8>>,
    pub(super) password: Option<Vec<u8>>,
    /// An IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl Authority {
    /// The error is what is wrong with it, in words.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('\\') {
            // Some programs take it for a slash: they would not agree on the host.
            return Err("has a backslash in front of its path");
        }
        let (login, place) = match text.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, text),
        };
        let colon = place.rfind(':').filter(|colon| place.rfind(']').is_none_or(|end| end < *colon));
        let (host, port) = place.split_at(colon.unwrap_or(place.len()));
        let port = match port.trim_start_matches(':') {
            "" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| "has a port above 65535")?)
            }
            _ => return Err("has a port that is no number"),
        };
        if host.is_empty() {
            return Err("names no host");
        }
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let valid = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
        };
        if !valid {
            return Err("has a host name with characters that host names do not have");
        }
        let (user, password) = match login {
            None => (None, None),
            Some(login) => match login.split_once(':') {
                Some((user, password)) => (Some(decode(user)), Some(decode(password))),
                None => (Some(decode(login)), None),
            },
        };
        Ok(Self { user, password, host: address.unwrap_or(host).to_owned(), port })
    }
}

/// A URL behind its `://`: the authority, the path with its slash, and the query without its `?`.
pub(super) fn split(url: &str) -> (&str, &str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or(rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    (authority, path, query)
}

/// Connects to the first address of `host` that answers, all together within `time`.
pub(super) fn dial(host: &str, port: u16, time: Duration) -> io::Result<TcpStream> {
    let start = Instant::now();
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {time:?}"));
    let mut last = late();
    for address in look_up(host, port, time)? {
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(late());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of a name. The system's resolver knows no deadline, so it is asked by a thread that may be left behind.
fn look_up(host: &str, port: u16, time: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (tell, told) = mpsc::channel();
    let name = host.to_owned();
    std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        let _ = tell.send((name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    })?;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("its name was not found within {time:?}"));
    let found = told.recv_timeout(time).map_err(late)?;
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_a_login_a_host_and_a_port() {
        let found = Authority::parse("al%40ice:s%3Acret@[::1]:2121").unwrap();
        assert_eq!(found.user.unwrap(), b"al@ice");
        assert_eq!(found.password.unwrap(), b"s:cret");
        assert_eq!((found.host.as_str(), found.port), ("::1", Some(2121)));
        let bare = Authority::parse("h.example").unwrap();
        assert!(bare.user.is_none() && bare.port.is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "h:x", "h:70000", "a b", "é", "[::1", ":21", "u@", "h\\@e"] {
            assert!(Authority::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_url_is_split_at_its_slash_and_its_question_mark() {
        assert_eq!(split("nbd://h:1//a/b?x=/y#z"), ("h:1", "//a/b", "x=/y"));
        assert_eq!(split("nbd+unix:///?socket=/s"), ("", "/", "socket=/s"));
        assert_eq!(split("nbd://h"), ("h", "", ""));
    }

    #[test]
    fn a_closed_port_is_an_error_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(dial("127.0.0.1", port, Duration::from_secs(5)).is_err());
    }
}
