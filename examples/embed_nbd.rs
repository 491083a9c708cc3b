//! An NBD server inside a program of one's own: the image's disk on a unix socket, until Ctrl-C.
//!
//! `cargo run --example embed_nbd disk.vmdk /tmp/disk.sock`, then `nbdinfo 'nbd+unix:///?socket=/tmp/disk.sock'`
#![allow(clippy::print_stdout, reason = "an example talks")]

use imgmount::error::{Error, ErrorKind, Result};
use imgmount::locator::Locator;
use imgmount::serve::nbd::{Export, Listener, Options, Server, Stop};
use imgmount::source::gate::Given;
use imgmount::stack;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let (Some(image), Some(path)) = (words.next(), words.next()) else {
        return Err(Error::new(ErrorKind::Usage, "embed_nbd IMAGE SOCKET"));
    };
    let given = Arc::new(Given::open(Locator::parse(&image), &[])?);
    let opened = stack::open_image(given, &stack::Options::default())?;
    let export = Export { name: String::new(), about: opened.format.to_owned(), source: opened.disk };
    let socket = UnixListener::bind(&path).map_err(|error| Error::io("binding the socket", error))?;
    println!("serving on {}", std::path::Path::new(&path).display());
    let options = Options { signals: true, ..Options::default() };
    let ended = Server::new(vec![export], options)?.run(vec![Listener::Unix(socket)], &Stop::default());
    std::fs::remove_file(&path).map_err(|error| Error::io("removing the socket", error))?;
    ended
}
