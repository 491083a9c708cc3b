//! Telling the service manager how it stands, sd_notify(3): a datagram to the socket in `$NOTIFY_SOCKET`.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Does somebody want to be told?
#[must_use]
pub fn is_wanted() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Ready, with a line that stands in `systemctl status`.
pub fn ready(status: &str) {
    // A line's end would begin another field.
    let status: String = status.chars().filter(|c| !c.is_control()).collect();
    send(&format!("READY=1\nMAINPID={}\nSTATUS={status}", std::process::id()));
}

/// On the way to the end.
pub fn stopping() {
    send("STOPPING=1");
}

fn send(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&name),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!("NOTIFY_SOCKET: {error}");
    }
}
