//! The numbers of a running process for Prometheus: `--metrics ADDR:PORT`, text over HTTP, on this host only.
//!
//! Whoever connects is answered, whatever the question: one at a time, with little patience.

use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::text::escape;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// Time for one question and its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a question, of which only the end matters.
const MAX_QUESTION: usize = 8 << 10;
/// Pause after an `accept` that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens.
///
/// # Errors
/// `Usage` for what is no address of this host's own; `Host` when it cannot be had.
pub(super) fn listen(address: &str) -> Result<TcpListener> {
    let shown = escape(address.as_bytes());
    let usage = |error| {
        let error = Error::new(ErrorKind::Usage, format!("--metrics {shown}")).caused_by(error);
        error.help("write an address and a port, as in 127.0.0.1:9100")
    };
    let addresses: Vec<_> = address.to_socket_addrs().map_err(usage)?.collect();
    if addresses.iter().any(|address| !address.ip().is_loopback()) {
        let what = format!("--metrics {shown}: others could read them from there");
        return Err(Error::new(ErrorKind::Usage, what).help("use a loopback address: 127.0.0.1 or [::1]"));
    }
    let host = |error| Error::new(ErrorKind::Host, format!("cannot listen on {shown}")).caused_by(error);
    TcpListener::bind(&*addresses).map_err(host)
}

/// Where to ask.
pub(super) fn url(listener: &TcpListener) -> String {
    listener.local_addr().map_or_else(|_| String::new(), |address| format!("http://{address}/metrics"))
}

/// Answers for ever. `gauges` has what goes up and down.
pub(super) fn answer(listener: &TcpListener, gauges: impl Fn() -> Vec<(&'static str, u64)>) {
    loop {
        match listener.accept() {
            // Who is gone before the answer does not want it.
            Ok((stream, _)) => drop(answer_one(stream, &text(&gauges()))),
            Err(error) => {
                tracing::warn!("metrics: {error}");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn answer_one(mut stream: TcpStream, text: &str) -> std::io::Result<()> {
    let start = Instant::now();
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut question = Vec::new();
    let mut part = [0; 1024];
    while !question.windows(4).any(|end| end == b"\r\n\r\n") && question.len() < MAX_QUESTION {
        let left = PATIENCE.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Ok(()),
            read => question.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// The exposition format, https://prometheus.io/docs/instrumenting/exposition_formats/.
fn text(gauges: &[(&'static str, u64)]) -> String {
    let mut text = String::new();
    for (name, value) in COUNTERS.snapshot() {
        let _ = write!(text, "# TYPE imgmount_{name}_total counter\nimgmount_{name}_total {value}\n");
    }
    for (name, value) in gauges {
        let _ = write!(text, "# TYPE imgmount_{name} gauge\nimgmount_{name} {value}\n");
    }
    text
}
