//! NBD clients that mean harm, or behave as if they did, against the real program: what counts is that an honest client
//! is served right beside them, and that the serving process stays small.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::nbd::compact;
use common::process::wait_for;
use common::served::Served;
use common::server::{Server, client};
use imgmount::block::BlockSource;
use imgmount::error::Result;
use imgmount::serve::nbd::{Export, Options};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What hostile clients may add to the memory of the serving process at its highest, in KiB.
const MAY_ADD: u64 = 64 << 10;

/// A server of 48 MiB of which 40 are data.
struct Attacked {
    server: Server,
    dir: tempfile::TempDir,
}

impl std::ops::Deref for Attacked {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Attacked {
    /// Started by `prefix`, which may set limits.
    fn start(prefix: &[&str], args: &[&str]) -> Self {
        let dir = common::tempdir();
        let (image, socket) = (dir.path().join("disk.raw"), dir.path().join("s"));
        common::sh(&format!("head -c 40M /dev/urandom >{0}; truncate -s 48M {0}", image.display()));
        let words = [prefix, &[common::IMGMOUNT, "serve", "--format", "raw"], args].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&image).arg("-k").arg(&socket);
        Self { server: Server::start(&mut command, &socket), dir }
    }

    /// A field of the serving process's status, in KiB or as a count.
    fn of_worker(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.worker())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// An honest client reads the whole disk, and reads it right.
    fn assert_serves(&self) {
        let (dir, uri) = (self.dir.path().display(), self.uri());
        common::sh(&format!("cd {dir}; timeout 60 nbdcopy --no-extents '{uri}' out; cmp disk.raw out"));
    }
}

/// Connected, and nothing heard yet.
fn connect(server: &Attacked) -> UnixStream {
    let stream = UnixStream::connect(&server.socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

const READ: u16 = 0;
const WRITE: u16 = 1;

fn request(kind: u16, offset: u64, len: u32) -> Vec<u8> {
    compact(0, kind, 7, offset, len)
}

/// A reply that brings these 4096 bytes.
fn assert_replied(client: &mut UnixStream, byte: u8) {
    let mut reply = [0; 16 + 4096];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..16], *b"\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\x07");
    assert!(reply[16..].iter().all(|there| *there == byte));
}

#[test]
fn five_thousand_mute_connections_cost_an_honest_client_nothing_but_time() {
    requires!("nbdcopy");
    imgmount::host::limits::raise_descriptors();
    let server = Attacked::start(&["env"], &[]);
    server.assert_serves();
    let before = server.of_worker("VmHWM:");
    let mute: Vec<_> = std::thread::scope(|scope| {
        // In two seconds: all at once overflow the kernel's queue, and nobody gets in at all.
        let arriving = scope.spawn(|| {
            let arrive = |number| {
                if number % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(20));
                }
                connect(&server)
            };
            (0..5000).map(arrive).collect()
        });
        server.assert_serves();
        arriving.join().unwrap()
    });
    server.assert_serves();
    assert!(server.of_worker("VmHWM:") <= before + MAY_ADD);
    drop(mute);
}

#[test]
fn with_64_descriptors_the_newest_client_still_gets_in() {
    requires!("nbdcopy", "prlimit");
    let server = Attacked::start(&["prlimit", "--nofile=64:64"], &[]);
    let mute: Vec<_> = (0..200).map(|_| connect(&server)).collect();
    server.assert_serves();
    drop(mute);
    server.assert_serves();
}

#[test]
fn a_low_soft_limit_on_descriptors_is_raised() {
    requires!("prlimit");
    let server = Attacked::start(&["prlimit", "--nofile=64:512"], &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.worker())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("512"), "{line}");
}

#[test]
fn clients_that_ask_for_everything_and_read_nothing_fill_no_memory() {
    requires!("nbdcopy");
    let server = Attacked::start(&["env"], &[]);
    server.assert_serves();
    let before = server.of_worker("VmHWM:");
    let mut greedy: Vec<_> = (0..90).map(|_| server.client()).collect();
    for client in &mut greedy {
        client.write_all(&request(READ, 0, 32 << 20).repeat(585)).unwrap();
    }
    server.assert_serves();
    let added = server.of_worker("VmHWM:") - before;
    // Of replies in one piece, and at most two threads for each client with their buffers.
    let bound = (32 << 10) + 91 * 2 * 300;
    assert!(added <= bound, "{added} KiB");
}

#[test]
fn a_byte_now_and_then_is_no_handshake() {
    let server = Attacked::start(&["env"], &["--handshake-limit", "600ms"]);
    let mut slow: Vec<_> = (0..100).map(|_| connect(&server)).collect();
    // They choose an export with a name of 4000 bytes, which takes them seven minutes.
    let header = *b"\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\x0f\xa0";
    let deadline = Instant::now() + Duration::from_secs(30);
    for byte in header.into_iter().chain(std::iter::repeat(0)) {
        slow.retain_mut(|client| client.write_all(&[byte]).is_ok());
        if slow.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{} are still there", slow.len());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_thousand_aborts_in_the_middle_of_a_reply_leave_nothing_behind() {
    requires!("nbdcopy");
    let server = Attacked::start(&["env"], &[]);
    // Some may be started by the first read, and stay.
    let few = server.of_worker("Threads:") + 8;
    server.assert_serves();
    let before = server.of_worker("VmHWM:");
    for _ in 0..1000 {
        let mut client = connect(&server);
        // No greeting is waited for: everything is said at once, and half a reply is taken.
        client.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\0").unwrap();
        client.write_all(&request(READ, 0, 4 << 20)).unwrap();
        client.read_exact(&mut [0; 1000]).unwrap_or(());
        // And one comes and goes without a word.
        drop(connect(&server));
    }
    wait_for("threads were left behind", || server.of_worker("Threads:") <= few);
    server.assert_serves();
    assert!(server.of_worker("VmHWM:") <= before + MAY_ADD);
}

/// A disk that takes its time, and where two who read in its last part at once meet.
#[derive(Debug, Default)]
struct Meeting {
    there: Mutex<usize>,
    came: Condvar,
    met: Mutex<bool>,
}

impl Meeting {
    const PLACE: u64 = 32 << 20;
}

impl BlockSource for Meeting {
    fn len(&self) -> u64 {
        40 << 20
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        buf.fill(0x25);
        if offset < Self::PLACE {
            std::thread::sleep(Duration::from_millis(2));
            return Ok(());
        }
        let mut there = self.there.lock().unwrap();
        *there += 1;
        self.came.notify_all();
        let wait = Duration::from_millis(100);
        let (mut there, alone) = self.came.wait_timeout_while(there, wait, |there| *there < 2).unwrap();
        if !alone.timed_out() {
            *self.met.lock().unwrap() = true;
        }
        // Who has come second stays until the first has seen it.
        drop(there);
        std::thread::sleep(Duration::from_millis(2));
        there = self.there.lock().unwrap();
        *there -= 1;
        Ok(())
    }
}

/// Serves a [`Meeting`] with two threads to clients that hold others up, and asks it for two reads at once.
fn assert_helped_beside(hold_up: fn(&mut UnixStream)) {
    let meeting = Arc::new(Meeting::default());
    let source = Arc::<Meeting>::clone(&meeting);
    let export = Export { name: String::new(), about: String::new(), source };
    // Nobody is dropped while the test lasts.
    let options = Options { threads: 2, stall: Duration::from_secs(600), ..Options::default() };
    let server = Served::start(vec![export], options);
    let mut hostile: Vec<_> = (0..6).map(|_| client(&server.socket)).collect();
    for client in &mut hostile {
        // Now the server knows that a request takes long here, so that helpers are worth their while.
        client.write_all(&request(READ, 0, 4096)).unwrap();
        assert_replied(client, 0x25);
        hold_up(client);
    }
    let mut good = client(&server.socket);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !*meeting.met.lock().unwrap() && Instant::now() < deadline {
        good.write_all(&request(READ, 0, 4096)).unwrap();
        assert_replied(&mut good, 0x25);
        good.write_all(&request(READ, Meeting::PLACE, 4096).repeat(2)).unwrap();
        (0..2).for_each(|_| assert_replied(&mut good, 0x25));
    }
    assert!(*meeting.met.lock().unwrap(), "nobody helped");
}

#[test]
fn clients_that_take_no_replies_keep_no_helpers() {
    assert_helped_beside(|client| client.write_all(&request(READ, 0, 256 << 10).repeat(64)).unwrap());
}

#[test]
fn clients_that_announce_data_and_send_none_keep_no_helpers() {
    assert_helped_beside(|client| {
        client.write_all(&[request(READ, 0, 4096).repeat(8), request(WRITE, 0, 1 << 20)].concat()).unwrap();
    });
}
